package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// ImportOptions say what an imported image is.
type ImportOptions struct {
	Platform Platform // zero is this machine's
	Changes  []string // lines of a Dockerfile, see [Change]
	Message  string
	Progress Progress
}

// Import makes an image of one layer: a tar of a root file system, plain or compressed. Without a name it has its id only.
func (s *Store) Import(ctx context.Context, r io.Reader, name string, o ImportOptions) (Image, error) {
	names, err := newName(name)
	if err != nil {
		return Image{}, err
	}
	c := ConfigFile{}
	if err := Change(&c.Config, o.Changes); err != nil {
		return Image{}, err
	}
	rules, err := s.net.rules()
	if err != nil {
		return Image{}, err
	}
	if os := o.Platform.OS; os != "" && os != Host().OS {
		return Image{}, fmt.Errorf("import: --platform %s: operating system is not supported: a container has this machine's, %s", os, Host().OS)
	}
	release, err := s.Hold(ctx)
	if err != nil {
		return Image{}, err
	}
	defer release()
	tar, err := rules.inflate(&meter{r: r, rep: &reporter{to: o.Progress}, e: Event{Status: "Importing"}})
	if err != nil {
		return Image{}, fmt.Errorf("import: %w", err)
	}
	defer tar.Close()
	id, size, err := s.o.Layers.Put(ctx, tar, "")
	if err != nil {
		return Image{}, fmt.Errorf("import: %w", err)
	}
	c.Platform = o.Platform
	if c.OS == "" {
		c.Platform = Host()
	}
	comment := o.Message
	if comment == "" {
		comment = "Imported from -"
	}
	img, err := s.compose(ctx, c, NewLayer{DiffID: id, Size: size, Comment: comment}, nil, names, nil)
	if err == nil {
		err = s.ready(ctx, img)
	}
	if err == nil {
		s.tell("import", img.ID.String(), img.ID.String(), img.labels())
		s.tellTags(img, names)
	}
	return img, err
}

// newName reads the name of a new image: none, or one without a digest.
func newName(name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	r, err := ParseReference(name)
	if err != nil {
		return nil, err
	}
	if r.Digest != "" {
		return nil, &ReferenceError{name, "a new image's name has no digest"}
	}
	return []string{r.Tagged().String()}, nil
}

// A NewLayer is the layer that makes a new image, with its line of history.
type NewLayer struct {
	DiffID    digest.Digest // the keeper of layers has it; empty adds history alone
	Size      int64         // of its tar, in bytes
	CreatedBy string
	Author    string
	Comment   string
}

// Compose makes an image of another one and a layer, as a commit does: c is the new config, of which history, layers
// and time are set here. From is the image below; nil is none. The caller holds the store since it put the layer.
func (s *Store) Compose(ctx context.Context, from *Image, c ConfigFile, l NewLayer, name string) (Image, error) {
	names, err := newName(name)
	if err != nil {
		return Image{}, err
	}
	var below []v1.Descriptor
	var made map[string]string
	c.RootFS, c.History = v1.RootFS{}, nil
	if from != nil {
		below, made = from.Layers, map[string]string{parent: from.ID.String()}
		c.RootFS.DiffIDs = slices.Clone(from.Chain())
		c.History = slices.Clone(from.Config.History)
		if c.OS == "" {
			c.Platform = from.Platform
		}
	}
	img, err := s.compose(ctx, c, l, below, names, made)
	if err == nil {
		s.tell("create", img.ID.String(), img.ID.String(), img.labels())
		s.tellTags(img, names)
	}
	return img, err
}

// tellTags tells of the names that an image got with its making.
func (s *Store) tellTags(i Image, names []string) {
	for _, name := range names {
		if r, err := ParseReference(name); err == nil {
			s.tell("tag", i.ID.String(), r.Familiar(), i.labels())
		}
	}
}

func (s *Store) compose(ctx context.Context, c ConfigFile, l NewLayer, below []v1.Descriptor, names []string, made map[string]string) (Image, error) {
	now := time.Now().UTC()
	c.Created = &now
	if l.Author != "" {
		c.Author = l.Author
	}
	c.RootFS.Type = "layers"
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Layers: []v1.Descriptor{}}
	for _, d := range below {
		m.Layers = append(m.Layers, ociLayer(d))
	}
	if l.DiffID != "" {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.DiffID)
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: l.DiffID, Size: l.Size})
	}
	if c.RootFS.DiffIDs == nil {
		c.RootFS.DiffIDs = []digest.Digest{}
	}
	c.History = append(c.History, v1.History{Created: &now, CreatedBy: l.CreatedBy, Author: l.Author, Comment: l.Comment, EmptyLayer: l.DiffID == ""})
	raw, err := json.Marshal(c)
	if err != nil {
		return Image{}, err
	}
	m.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	loaded, err := s.keep(ctx, m, raw, names, made)
	return loaded.Image, err
}

// ociLayer is the same layer in an OCI manifest: Docker's media types may not be in one.
func ociLayer(d v1.Descriptor) v1.Descriptor {
	kind, _ := compression(d.MediaType)
	d.MediaType = v1.MediaTypeImageLayer
	if kind != "" {
		d.MediaType += "+" + kind
	}
	return d
}
