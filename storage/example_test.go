package storage_test

import (
	"context"
	"io"

	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/storage"
	"github.com/opencontainers/go-digest"
)

// A layer comes in, and a container's root is made of it. It is not run here: mounting takes rights.
func Example() {
	root := func(ctx context.Context, tar io.Reader, diffID digest.Digest, container string) (*plan.Root, error) {
		s, err := storage.Open(storage.Options{Data: "/var/lib/example", Run: "/run/example"})
		if err != nil {
			return nil, err
		}
		layer, err := s.Put(ctx, tar, diffID) // verified, whole or not there
		if err != nil {
			return nil, err
		}
		view, err := s.View(ctx, []digest.Digest{layer.DiffID}, container)
		if err != nil {
			return nil, err
		}
		upper, err := view.NewUpper(storage.Upper{ID: container})
		return &plan.Root{Layers: view.Layers(upper, false), Reason: "image debian:12"}, err
	}
	_ = root
}
