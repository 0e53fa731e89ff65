package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// lock is held by who changes the volume as a whole.
func (v Volume) lock() (unlock func(), err error) {
	f, err := os.Open(v.dir)
	if err != nil {
		return nil, err
	}
	if err := files.Flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// open opens the directory of the volume's files.
func (v Volume) open() (*os.File, error) {
	s, err := v.Source()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(s.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", v.Name, &os.PathError{Op: "open", Path: s.Path, Err: err})
	}
	return os.NewFile(uintptr(fd), s.Path), nil
}

// copying marks a first copy that has not come to its end.
func (v Volume) copying() string { return v.dir + "/copying" }

// Content writes what an image has in a directory as a tar whose root is the directory. It is fs.ErrNotExist, with nothing
// written, where the image has no directory there.
type Content func(ctx context.Context, w io.Writer) error

// Dir is the content of a path in a tree of files that nobody changes. Links of it lead where they lead inside.
func Dir(root *os.File, path string) Content {
	return func(ctx context.Context, w io.Writer) error {
		from, err := archive.OpenIn(root, path, unix.O_PATH|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOTDIR) {
			return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		}
		if err != nil {
			return err
		}
		defer from.Close()
		return archive.Write(ctx, w, from, ".", archive.WriteOptions{Rename: ".", OneMount: true})
	}
}

// Populate copies what an image has into a volume that has nothing: contents, and owner, permissions and time of
// the directory itself. A volume that has anything is left as it is, unless that is half of such a copy.
func (v Volume) Populate(ctx context.Context, image Content, o archive.Options) error {
	unlock, err := v.lock()
	if err != nil {
		return err
	}
	defer unlock()
	dir, err := v.open()
	if errors.Is(err, fs.ErrPermission) && !exists(v.copying()) {
		return nil // an ordinary user's, which a container has given to another id: it was used
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if full, err := hasFiles(dir); err != nil || full && !exists(v.copying()) {
		return err
	}
	if err := os.WriteFile(v.copying(), nil, 0o600); err != nil {
		return err
	}
	err = copyTree(ctx, image, dir, o)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("volume %s: what the image has for it: %w", v.Name, err)
	}
	return os.Remove(v.copying())
}

func copyTree(ctx context.Context, from Content, to *os.File, o archive.Options) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(from(ctx, w)) }()
	_, err := archive.Apply(ctx, to, r, o)
	r.CloseWithError(err)
	return err
}

func hasFiles(dir *os.File) (bool, error) {
	f, err := archive.OpenIn(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	if err == io.EOF {
		err = nil
	}
	return len(names) > 0, err
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// Export writes the volume's files as a tar.
func (v Volume) Export(ctx context.Context, w io.Writer) error {
	dir, err := v.open()
	if err != nil {
		return err
	}
	defer dir.Close()
	return archive.Write(ctx, w, dir, ".", archive.WriteOptions{Rename: "."})
}

// Putting an archive's files into a volume is three steps, so that who reads what a stranger has written, which is the second, needs to see nothing
// but an empty directory.

// Stage makes a directory beside the volumes, where a killed process's is swept, in which what comes is unpacked. It is as the volume's own: what an archive
// does not say of its root stays. The caller has the store's lock, see [Store.Lock], and removes it.
func (v Volume) Stage() (dir string, err error) {
	own, err := v.open()
	if err != nil {
		return "", err
	}
	defer own.Close()
	dir = filepath.Join(filepath.Dir(v.dir), ".new-"+files.NewID())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	staged, err := os.Open(dir)
	if err == nil {
		err = archive.Like(own, staged)
		staged.Close()
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(dir))
	}
	return dir, nil
}

// Unpack unpacks a tar, compressed or not, in a directory of [Volume.Stage].
func Unpack(ctx context.Context, dir string, r io.Reader, o archive.Options) (archive.Result, error) {
	staged, err := os.Open(dir)
	if err != nil {
		return archive.Result{}, err
	}
	defer staged.Close()
	in, _, err := archive.Decompress(r, o.Limits)
	if err != nil {
		return archive.Result{}, err
	}
	defer in.Close()
	done, err := archive.Apply(ctx, staged, in, o)
	if err == nil {
		_, err = io.Copy(io.Discard, in) // what is behind the end of the archive has to be well, too
	}
	return done, err
}

// Take moves what is in a directory of [Volume.Stage] into the volume, over what is there.
func (v Volume) Take(ctx context.Context, dir string) error {
	own, err := v.open()
	if err != nil {
		return err
	}
	defer own.Close()
	staged, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer staged.Close()
	return move(ctx, staged, own)
}

// move moves what is in from to another directory, which may be on another file system.
func move(ctx context.Context, from, to *os.File) error {
	var a, b unix.Statx_t
	for f, st := range map[*os.File]*unix.Statx_t{from: &a, to: &b} {
		if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, st); err != nil {
			return err
		}
	}
	if a.Mnt_id != b.Mnt_id {
		return copyTree(ctx, Dir(from, "."), to, archive.Options{})
	}
	return archive.Merge(from, to)
}

// Size is how many bytes the volume's files have, each file once.
func (v Volume) Size(ctx context.Context) (int64, error) {
	dir, err := v.open()
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	return archive.Size(ctx, dir)
}
