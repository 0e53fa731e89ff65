package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// A Finding is something wrong with a store.
type Finding struct {
	Image string // a name or a digest; empty where none has it
	What  string // manifest, config, layer, blob, index.json, temporary file
	Item  digest.Digest
	File  string // of a temporary file
	Err   error  // nil for what is only left over
}

// String says it in a line.
func (f Finding) String() string {
	if f.Err == nil {
		return fmt.Sprintf("%s %s: nobody needs it: what a killed command left", f.What, cmp.Or(f.File, f.Item.String()))
	}
	if f.Image == "" {
		return f.Err.Error()
	}
	return fmt.Sprintf("image %s: %v", f.Image, f.Err)
}

// Check compares all that names lead to with its digest, layers included if deep, and lists what is left over, unless somebody adds to the store. It
// changes nothing.
func (s *Store) Check(ctx context.Context, deep bool) ([]Finding, error) {
	found, err := s.damaged(ctx, deep)
	if err != nil || len(found) > 0 {
		return found, err
	}
	return s.leftOver(ctx)
}

// leftOver lists what nobody needs. What somebody is adding, nobody needs yet; and where a sweep is due, somebody comes to it.
func (s *Store) leftOver(ctx context.Context) (found []Finding, err error) {
	unlock, err := s.lock(ctx, "adding", unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	if s.isDue() {
		return nil, nil
	}
	blobs, _, err := s.used()
	if err != nil {
		return nil, err
	}
	err = s.eachBlob(func(d digest.Digest, _ string, _ int64) error {
		if !blobs[d] {
			found = append(found, Finding{What: "blob", Item: d})
		}
		return nil
	})
	return found, errors.Join(err, s.eachTemporary(func(path string) error {
		found = append(found, Finding{What: "temporary file", File: path})
		return nil
	}))
}

// damaged compares all that names lead to with its digest.
func (s *Store) damaged(ctx context.Context, deep bool) ([]Finding, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	list, err := s.roots()
	if err != nil {
		return []Finding{{What: "index.json", Err: err}}, nil
	}
	var found []Finding
	checked := map[digest.Digest]error{}
	for _, r := range list {
		name := nameOf(r)
		if name == "" {
			name = r.Digest.String()
		}
		found = append(found, s.checkRoot(ctx, name, r, deep, checked)...)
		if ctx.Err() != nil {
			return found, context.Cause(ctx)
		}
	}
	return found, nil
}

// CheckImage proves one image: its manifest, config and every layer against their digests.
func (s *Store) CheckImage(ctx context.Context, ref string) ([]Finding, error) {
	i, err := s.Get(ref, Platform{})
	if err != nil {
		return nil, err
	}
	return s.checkRoot(ctx, ref, i.Target, true, map[digest.Digest]error{}), ctx.Err()
}

func (s *Store) checkRoot(ctx context.Context, name string, r root, deep bool, checked map[digest.Digest]error) []Finding {
	var found []Finding
	add := func(what string, d digest.Digest, err error) {
		if err != nil {
			found = append(found, Finding{Image: name, What: what, Item: d, Err: err})
		}
	}
	err := s.walk(r, func(doc *document) error {
		if doc.manifest == nil {
			return nil
		}
		m := doc.manifest
		raw, err := s.readBlob("config", m.Config.Digest)
		if err != nil {
			add("config", m.Config.Digest, err)
			return nil
		}
		if !isImage(m) {
			for _, l := range m.Layers {
				_, err := s.readBlob("blob", l.Digest)
				add("blob", l.Digest, err)
			}
			return nil
		}
		c, err := parseConfig(raw, len(m.Layers))
		if err != nil {
			add("config", m.Config.Digest, &DamagedError{"config", m.Config.Digest, err.Error()})
			return nil
		}
		for _, l := range m.Layers {
			if deep {
				add("blob", l.Digest, s.checkKept(ctx, l))
			}
		}
		for _, id := range c.RootFS.DiffIDs {
			err, done := checked[id]
			if !done {
				err = s.checkLayer(ctx, id, deep)
				checked[id] = err
			}
			add("layer", id, err)
		}
		return nil
	})
	add("manifest", r.Digest, err)
	return found
}

func (s *Store) checkLayer(ctx context.Context, id digest.Digest, deep bool) error {
	_, err := s.o.Layers.Stat(id)
	if errors.Is(err, fs.ErrNotExist) {
		return &DamagedError{"layer", id, "it is not there"}
	}
	if err == nil && deep {
		err = s.o.Layers.Check(ctx, id)
	}
	return err
}

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
	places, err := i.places(ref)
	if err != nil {
		return found, err
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

// places are where an image may be fetched from again. One that was imported, loaded as plain layers or committed, and never pushed, is nowhere: a registry that had it would
// know it by another manifest, which a push notes.
func (i Image) places(ref string) (list []Reference, err error) {
	compressed := func(l v1.Descriptor) bool {
		return !slices.Contains([]string{v1.MediaTypeImageLayer, dockerLayer}, l.MediaType)
	}
	if i.origin == "" && len(i.pushed) == 0 && !slices.ContainsFunc(i.Layers, compressed) {
		return nil, fmt.Errorf("image %s came from no registry, and was pushed to none: remove it, and what else has that layer, and load or import it once more", ref)
	}
	for _, at := range i.pushed {
		if r, err := ParseReference(at); err == nil {
			list = append(list, r)
		}
	}
	for _, n := range i.Names {
		n.Tag, n.Digest = "", i.Target.Digest
		if !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("image %s has no name, and so no registry to fetch it from", ref)
	}
	return list, nil
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

// Rebuild makes index.json anew where it is damaged, or gone: every manifest and index of the store that nothing else leads to is a root without a
// name. What is lost are the names.
func (s *Store) Rebuild(ctx context.Context) error {
	if _, err := s.roots(); err == nil {
		return nil
	}
	found := map[digest.Digest]v1.Descriptor{}
	var below []digest.Digest
	err := s.eachBlob(func(d digest.Digest, _ string, _ int64) error {
		raw, err := s.readBlob("blob", d)
		if err != nil {
			return nil
		}
		doc, err := parseDocument(raw, "")
		if err != nil {
			return nil
		}
		doc.desc.Digest = d
		found[d] = doc.desc
		if doc.index != nil {
			for _, c := range doc.index.Manifests {
				below = append(below, c.Digest)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	var list []root
	for d, desc := range found {
		if !slices.Contains(below, d) {
			list = append(list, desc)
		}
	}
	return s.writeRoots(list)
}
