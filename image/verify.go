package image

import (
	"context"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Verifier is asked, before any layer of an image is fetched and before any name leads to it, whether
// the image may be here: by a signature, say. Its error ends the pull, and the store is as it was.
type Verifier func(ctx context.Context, c Candidate) error

// A Candidate is an image that is about to be pulled.
type Candidate struct {
	Reference Reference
	Target    v1.Descriptor // what the reference leads to; its bytes are Raw, and were compared with its digest
	Raw       []byte
	// Fetch reads another manifest of the same repository, by tag or digest: where signatures are.
	Fetch func(ctx context.Context, id string) ([]byte, v1.Descriptor, error)
	// Blob reads a blob of the same repository, of 8 MiB at most.
	Blob func(ctx context.Context, d v1.Descriptor) ([]byte, error)
}
