//go:build !thin

package engine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kakuri/kakuri/image"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func (e *Engine) pull(ctx context.Context, s *image.Store, name string, o image.PullOptions) (image.Image, error) {
	img, err := s.Pull(ctx, name, o)
	if err != nil {
		return img, err
	}
	layers, err := e.Storage()
	if err == nil && len(img.Chain()) > 0 {
		_, err = layers.View(ctx, img.Chain(), "")
	}
	return img, err
}

func (k keeper) PutBlob(ctx context.Context, blob io.Reader, d v1.Descriptor, inflate func(io.Reader) (io.ReadCloser, error), want digest.Digest) (int64, error) {
	settings, err := image.ReadSettings()
	if err != nil {
		return 0, err
	}
	l, err := k.s.PutBlob(ctx, blob, d.Digest, inflate, want, settings.KeepBlobs)
	if err == nil && settings.KeepBlobs {
		err = k.show(l.DiffID, d.Digest)
	}
	return l.Size, err
}

// show has a blob that is kept be one of the images' layout, too: other programs find it there.
func (k keeper) show(diff, id digest.Digest) error {
	f, err := k.s.Blob(diff, id)
	if err != nil {
		return err
	}
	defer f.Close()
	dir := filepath.Join(k.layout, "blobs", id.Algorithm().String())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Link(f.Name(), filepath.Join(dir, id.Encoded())); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
