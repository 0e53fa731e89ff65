package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

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

// A ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
