package image

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layers keeps layers as uncompressed tars by their diffID. All of it may be called by many goroutines and
// processes at once. What Put and PutBlob were given is there whole or not at all.
type Layers interface {
	// Stat gives the size of a tar in bytes; fs.ErrNotExist when it is not there.
	Stat(diffID digest.Digest) (int64, error)

	// Open gives the tar, byte for byte; fs.ErrNotExist when it is not there.
	Open(diffID digest.Digest) (io.ReadCloser, error)

	// Put keeps an uncompressed tar, and gives its diffID and size. A diffID other than want is an error, unless want is empty.
	Put(ctx context.Context, tar io.Reader, want digest.Digest) (digest.Digest, int64, error)

	// PutBlob keeps a layer that comes as a compressed blob, in a way that Blob can give the same bytes again, if
	// the store is made so. It reads blob to its end, and inflates what it reads. Errors of both readers come through: blob's
	// last read fails when the bytes are not those of desc's digest.
	PutBlob(ctx context.Context, blob io.Reader, desc v1.Descriptor, inflate func(io.Reader) (io.ReadCloser, error), want digest.Digest) (int64, error)

	// Blob gives the compressed form of a layer that desc's digest names, byte for byte; fs.ErrNotExist when it cannot be made.
	Blob(ctx context.Context, diffID digest.Digest, desc v1.Descriptor) (io.ReadCloser, error)

	// Ready does what can be done ahead for an image's first container: chain has its layers, the lowest first.
	Ready(ctx context.Context, chain []digest.Digest) error

	// Sweep removes the layers that used denies. No Put is under way: the image store holds its lock.
	Sweep(ctx context.Context, used func(diffID digest.Digest) bool) (Swept, error)

	// Discard removes a layer that is damaged, so that a pull brings it anew.
	Discard(ctx context.Context, diffID digest.Digest) error

	// Check reads a tar whole and compares it with its diffID.
	Check(ctx context.Context, diffID digest.Digest) error
}

// Swept is what a sweep took away.
type Swept struct {
	Blobs []digest.Digest
	Bytes int64
}
