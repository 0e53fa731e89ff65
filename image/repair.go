//go:build !thin

package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Repair fetches again what [Store.CheckImage] finds damaged of an image, from the registries of its names: by digest, so that it is the
// same image afterwards, whatever its tag leads to there. One that was made here comes from where it was pushed to, which may know it by another
// manifest of the same config.
func (s *Store) Repair(ctx context.Context, ref string, o PullOptions) ([]Finding, error) {
	i, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	found := s.checkRoot(ctx, ref, i.Target, true, map[digest.Digest]error{})
	if len(found) == 0 || ctx.Err() != nil {
		return nil, ctx.Err()
	}
	release, err := s.Hold(ctx)
	if err != nil {
		return found, err
	}
	defer release()
	for _, f := range found {
		var err error
		switch f.What {
		case "layer":
			err = s.o.Layers.Discard(ctx, f.Item)
		case "blob":
			err = os.Remove(s.blobPath(f.Item))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return found, err
		}
	}
	var places []Reference
	for _, at := range i.pushed {
		if r, err := ParseReference(at); err == nil {
			places = append(places, r)
		}
	}
	for _, n := range i.Names {
		n.Tag, n.Digest = "", i.Target.Digest
		if !slices.Contains(places, n) {
			places = append(places, n)
		}
	}
	if len(places) == 0 {
		return found, fmt.Errorf("image %s has no name, and so no registry to fetch it from", ref)
	}
	var errs []error
	for _, from := range places {
		err := s.refetch(ctx, from, i, o)
		if err == nil {
			return found, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", from.Familiar(), err))
	}
	return found, errors.Join(errs...)
}

func (s *Store) refetch(ctx context.Context, from Reference, i Image, o PullOptions) error {
	p, err := s.puller(from, o)
	if err != nil {
		return err
	}
	defer s.net.close()
	doc, err := p.document(ctx, from.identifier(), nil)
	if err != nil {
		return err
	}
	if doc.manifest != nil && doc.manifest.Config.Digest != i.ID {
		return fmt.Errorf("its config is %s, not %s", doc.manifest.Config.Digest, i.ID)
	}
	return p.fetch(ctx, doc)
}
