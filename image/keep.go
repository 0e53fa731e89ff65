package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// kept opens a layer's blob in the store itself, where [Settings].KeepBlobs has put it; fs.ErrNotExist elsewhere.
func (s *Store) kept(d v1.Descriptor) (*os.File, error) {
	if err := validDigest(d.Digest); err != nil {
		return nil, err
	}
	return os.OpenFile(s.blobPath(d.Digest), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

func (s *Store) keeps(d v1.Descriptor) bool {
	st, err := os.Lstat(s.blobPath(d.Digest))
	return err == nil && st.Size() == d.Size
}

// putLayer gives a layer's blob to the keeper of layers, and has it be in the store as well where settings say so.
func (s *Store) putLayer(ctx context.Context, rules *Settings, blob io.Reader, d v1.Descriptor, diffID digest.Digest) error {
	if _, err := s.o.Layers.PutBlob(ctx, blob, d, rules.inflate, diffID); err != nil || !rules.KeepBlobs {
		return err
	}
	return s.show(ctx, d, func() (io.ReadCloser, error) { return s.o.Layers.Blob(ctx, diffID, d) })
}

// keepPlain does so for layers whose blob is their tar: those of an import, a commit, a docker-archive.
func (s *Store) keepPlain(ctx context.Context, layers []v1.Descriptor) error {
	rules, err := s.net.rules()
	if err != nil || !rules.KeepBlobs {
		return err
	}
	for _, d := range layers {
		if kind, _ := compression(d.MediaType); kind != "" {
			continue
		}
		if err := s.show(ctx, d, func() (io.ReadCloser, error) { return s.openLayer(d.Digest) }); err != nil {
			return err
		}
	}
	return nil
}

// show has what the keeper of layers has be a blob of the store, too: by a second name for its file, or a copy.
func (s *Store) show(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	if s.keeps(d) {
		return nil
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := s.blobDir(d.Digest); err != nil {
		return err
	}
	if s.link(d, r) == nil {
		return nil
	}
	f, err := os.CreateTemp(s.path("tmp"), "new-*")
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, &ctxReader{ctx, r})
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), s.blobPath(d.Digest))
	}
	if err == nil {
		err = files.SyncDir(s.path("blobs/" + d.Digest.Algorithm().String()))
	}
	if err != nil {
		return fmt.Errorf("images: blob %s: %w", d.Digest, err)
	}
	return nil
}

// link gives the very file a second name, as a blob; on another file system that cannot be.
func (s *Store) link(d v1.Descriptor, r io.Reader) error {
	f, ok := r.(*os.File)
	if !ok {
		return errors.New("no file")
	}
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, s.blobPath(d.Digest), unix.AT_SYMLINK_FOLLOW)
}

// checkKept compares a blob that is kept with its digest. That it is not kept is no fault.
func (s *Store) checkKept(ctx context.Context, d v1.Descriptor) error {
	f, err := s.kept(d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &DamagedError{"blob", d.Digest, err.Error()}
	}
	defer f.Close()
	sum := d.Digest.Algorithm().Digester()
	if _, err := io.Copy(sum.Hash(), &ctxReader{ctx, f}); err != nil {
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if sum.Digest() != d.Digest {
		return &DamagedError{"blob", d.Digest, "its bytes have another digest"}
	}
	return nil
}

// blob opens a layer as its manifest has it: of the store, or of the keeper of layers; fs.ErrNotExist where neither has it.
func (s *Store) blob(ctx context.Context, diffID digest.Digest, d v1.Descriptor) (io.ReadCloser, error) {
	if f, err := s.kept(d); err == nil {
		return f, nil
	}
	return s.o.Layers.Blob(ctx, diffID, d)
}
