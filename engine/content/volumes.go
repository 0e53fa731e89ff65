package content

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/internal/sandbox"
	"github.com/kakuri/kakuri/storage"
	"github.com/kakuri/kakuri/volume"
)

// Volumes does what is done to the files of volumes, with the ids that these have.
type Volumes struct {
	Store      string                      // the directory of the volumes
	Privileged bool                        // this process may make and remove files of all ids
	IDs        func() (storage.IDs, error) // else those that the files have
	Alone      bool                        // this program can be started for a job, so a stranger's archive is unpacked by a process that has nothing else
}

// Fill copies what an image has into a volume, where that is new.
func (vs Volumes) Fill(ctx context.Context, v volume.Volume, from volume.Content) error {
	if vs.Privileged {
		return v.Populate(ctx, from, archive.Options{})
	}
	return archive.Pump(func(w io.Writer) error {
		if err := from(ctx, w); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil // an empty stream is no archive, and leaves the volume as it is
	}, func(r io.Reader) error { return vs.do(ctx, job{Op: jobFill, Name: v.Name}, r, nil) })
}

// Import puts the files of a tar, compressed or not, into a volume, over what is there. An archive that is not
// taken changes nothing. It returns what was left out, and why. The caller has the store's lock, see [volume.Store.Lock].
func (vs Volumes) Import(ctx context.Context, name string, r io.Reader) (leftOut []string, err error) {
	var dir string
	if err := answered(&dir, func(out io.Writer) error { return vs.do(ctx, job{Op: jobStage, Name: name}, nil, out) }); err != nil {
		return nil, err
	}
	// The command may be broken off; what it has begun with goes even so.
	defer func() { err = errors.Join(err, vs.RemoveAll(context.WithoutCancel(ctx), dir)) }()
	if err := answered(&leftOut, func(out io.Writer) error { return vs.do(ctx, job{Op: jobUnpack, Name: name, Path: dir}, r, out) }); err != nil {
		return nil, err
	}
	return leftOut, vs.do(ctx, job{Op: jobTake, Name: name, Path: dir}, nil, nil)
}

// Export writes a volume's files as a tar.
func (vs Volumes) Export(ctx context.Context, name string, w io.Writer) error {
	return vs.do(ctx, job{Op: jobDump, Name: name}, nil, w)
}

// Size is how many bytes a volume's files have.
func (vs Volumes) Size(ctx context.Context, name string) (n int64, err error) {
	err = answered(&n, func(out io.Writer) error { return vs.do(ctx, job{Op: jobSize, Name: name}, nil, out) })
	return n, err
}

// RemoveAll removes a directory with all that is in it.
func (vs Volumes) RemoveAll(ctx context.Context, path string) error {
	return vs.do(ctx, job{Op: jobRemove, Path: path}, nil, nil)
}

// answered does a job whose answer is JSON.
func answered(answer any, do func(out io.Writer) error) error {
	var out bytes.Buffer
	if err := do(&out); err != nil {
		return err
	}
	return json.Unmarshal(out.Bytes(), answer)
}

// do has a job be done where it may be done.
func (vs Volumes) do(ctx context.Context, j job, in io.Reader, out io.Writer) error {
	if j.Op != jobRemove {
		j.Store = vs.Store
	}
	j.Shut = j.Op == jobUnpack && vs.Alone
	if vs.Privileged {
		if j.Shut {
			return enter(ctx, storage.IDs{}, j, in, out, nil)
		}
		return j.run(ctx, nil, in, out)
	}
	ids, err := vs.IDs()
	if err != nil {
		return err
	}
	if len(ids.UIDs) == 1 && ids.UIDs[0].Size == 1 {
		j.Shut = false // it needs a process for that, which would be root of a namespace, and this one's ids are no root
		return j.run(ctx, nil, in, out)
	}
	return enter(ctx, ids, j, in, out, nil)
}

// unpack reads what a stranger has written. All that it can get at, should it be misled, is the directory.
func (j *job) unpack(ctx context.Context, in io.Reader, out io.Writer) error {
	if j.Shut {
		if err := sandbox.Shut(j.Path); err != nil {
			return err
		}
	}
	done, err := volume.Unpack(ctx, j.Path, in, j.options())
	if err != nil {
		return fmt.Errorf("volume %s: %w", j.Name, err)
	}
	return json.NewEncoder(out).Encode(done.LeftOut)
}

// options are for archives by what may be made here.
func (j *job) options() (o archive.Options) {
	if j.Child {
		o.Devices = archive.SkipDevices
	} else if os.Geteuid() != 0 {
		o = archive.Options{NoOwner: true, Devices: archive.SkipDevices}
	}
	return o
}

func (j *job) runVolume(ctx context.Context, in io.Reader, out io.Writer) error {
	v, err := volume.Open(j.Store).Get(j.Name)
	if err != nil {
		return err
	}
	switch j.Op {
	case jobFill:
		return v.Populate(ctx, func(_ context.Context, w io.Writer) error { _, err := io.Copy(w, in); return err }, j.options())
	case jobStage:
		dir, err := v.Stage()
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(dir)
	case jobTake:
		if err := v.Take(ctx, j.Path); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
		return nil
	case jobDump:
		return v.Export(ctx, out)
	case jobSize:
		n, err := v.Size(ctx)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(n)
	}
	return fmt.Errorf("no job %q", j.Op)
}
