package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Formats of [SaveOptions].
const (
	DockerArchive = "docker-archive" // what every program loads: manifest.json, and an OCI layout of the same blobs
	OCIArchive    = "oci-archive"    // an OCI layout with manifests and layers as they came
)

// SaveOptions say how images are written.
type SaveOptions struct {
	Format    string     // empty is DockerArchive
	Platforms []Platform // empty is this machine's, and all that an index has in an OCIArchive
	Progress  Progress
}

// Save writes images into one tar: those of the names, of the repositories (all their tags) and of the ids given. The same images
// give the same bytes.
//
// A docker-archive has layers without compression, as Docker's classic store writes them: that is what every
// version of every program reads, and the tars are there already. An oci-archive has manifests, and so layers, byte for
// byte as they came, where the layers' keeper can give them.
func (s *Store) Save(ctx context.Context, w io.Writer, refs []string, o SaveOptions) error {
	release, err := s.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	sv := &saver{s: s, ctx: ctx, t: tar.NewWriter(w), rep: &reporter{to: o.Progress}, written: map[string]bool{}}
	list, err := s.wanted(refs)
	if err == nil {
		switch o.Format {
		case "", DockerArchive:
			err = sv.docker(list, o.Platforms)
		case OCIArchive:
			err = sv.oci(list, o.Platforms)
		default:
			err = fmt.Errorf("format %q: want %s or %s", o.Format, DockerArchive, OCIArchive)
		}
	}
	if err == nil {
		err = sv.t.Close()
	}
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	for _, sel := range list {
		s.tellOf("save", sel.Image)
	}
	return nil
}

// A selection is an image to save, and the names that it is saved with.
type selection struct {
	Image
	names []Reference
}

// selections are in the order in which they were asked for, each image once.
type selections []selection

func (list *selections) add(i Image, names ...Reference) {
	at := slices.IndexFunc(*list, func(sel selection) bool { return sel.Target.Digest == i.Target.Digest })
	if at < 0 {
		at = len(*list)
		*list = append(*list, selection{Image: i})
	}
	sel := &(*list)[at]
	for _, n := range names {
		if !slices.Contains(sel.names, n) {
			sel.names = append(sel.names, n)
		}
	}
}

// addTags adds all tags of a repository, and reports whether it has any.
func (list *selections) addTags(images []Image, repository string) (found bool) {
	for _, i := range images {
		for _, n := range i.Names {
			if n.Name() == repository && n.Tag != "" {
				list.add(i, n)
				found = true
			}
		}
	}
	return found
}

// wanted resolves what to save. A repository without a tag is its tag latest for everybody but Docker's save, which takes all.
func (s *Store) wanted(refs []string) (list selections, err error) {
	if len(refs) == 0 {
		return nil, errors.New("no image is named")
	}
	images, err := s.images()
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		r, notRef := ParseReference(ref) // as the beginning of an id is none
		if notRef == nil && r.Tag == "" && r.Digest == "" && list.addTags(images, r.Name()) {
			continue
		}
		i, err := s.find(ref)
		if err != nil {
			return nil, err
		}
		if notRef == nil && r.Tag != "" && slices.Contains(i.Names, r) {
			list.add(i, r)
		} else {
			list.add(i)
		}
	}
	return list, nil
}

// A saver writes one archive.
type saver struct {
	s       *Store
	ctx     context.Context
	t       *tar.Writer
	rep     *reporter
	written map[string]bool
	from    string // the repository that the image was pulled from
}

// file writes an entry once.
func (v *saver) file(name string, size int64, r io.Reader) error {
	if v.written[name] {
		return nil
	}
	v.written[name] = true
	epoch := time.Unix(0, 0) // of all entries: an archive is a function of its images
	for i, c := range name { // directories first, each once
		if dir := name[:i]; c == '/' && !v.written[dir] {
			v.written[dir] = true
			if err := v.t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch}); err != nil {
				return err
			}
		}
	}
	if err := v.t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: epoch}); err != nil {
		return err
	}
	_, err := io.Copy(v.t, &ctxReader{v.ctx, r})
	return err
}

func (v *saver) bytes(name string, raw []byte) error {
	return v.file(name, int64(len(raw)), strings.NewReader(string(raw)))
}

func (v *saver) json(name string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return v.bytes(name, raw)
}

// tar writes a layer as it is kept.
func (v *saver) tar(id digest.Digest) (int64, error) {
	size, err := v.s.o.Layers.Stat(id)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, &DamagedError{"layer", id, "it is not there"}
	}
	if err != nil || v.written[blobPathIn(id)] {
		return size, err
	}
	r, err := v.s.openLayer(id)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	m := &meter{r: r, rep: v.rep, e: Event{ID: shortID(id), Status: "Saving layer", Total: size}}
	return size, v.file(blobPathIn(id), size, m)
}

// docker writes a docker-archive, with the OCI layout that Docker puts beside it since version 25.
// The images of several platforms have an index of their own, and each its entry: the first one is that of the names, which is all that programs
// see who know no index.
func (v *saver) docker(list []selection, want []Platform) error {
	var entries []archived
	repositories := map[string]map[string]string{}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	for _, sel := range list {
		images, err := v.chosen(sel.Image, want)
		if err != nil {
			return err
		}
		img := images[0]
		var own []archived
		var below []v1.Descriptor
		for _, i := range images {
			e, d, err := v.image(i)
			if err != nil {
				return err
			}
			own, below = append(own, e), append(below, d)
		}
		d := below[0]
		if len(below) > 1 {
			if d, err = v.index(below); err != nil {
				return err
			}
		}
		top := strings.TrimPrefix(string(img.ID), "sha256:")
		if n := len(img.Chain()); n > 0 {
			top = img.Chain()[n-1].Encoded()
		}
		if len(sel.names) == 0 {
			index.Manifests = append(index.Manifests, d)
		}
		for _, n := range sel.names {
			own[0].RepoTags = append(own[0].RepoTags, n.Familiar())
			if repositories[n.FamiliarName()] == nil {
				repositories[n.FamiliarName()] = map[string]string{}
			}
			repositories[n.FamiliarName()][n.Tag] = top
			named := d
			named.Annotations = map[string]string{"io.containerd.image.name": n.String(), v1.AnnotationRefName: n.Tag}
			index.Manifests = append(index.Manifests, named)
		}
		entries = append(entries, own...)
	}
	err := v.json("manifest.json", entries)
	if err == nil && len(repositories) > 0 {
		err = v.json("repositories", repositories)
	}
	return errors.Join(err, v.layout(index))
}

// chosen are the images of a selection for the platforms that are wanted; for none it is the image itself.
func (v *saver) chosen(img Image, want []Platform) ([]Image, error) {
	if len(want) == 0 {
		return []Image{img}, nil
	}
	var list []Image
	for _, p := range want {
		i, err := v.s.Get(string(img.Target.Digest), p)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(list, func(o Image) bool { return o.Manifest.Digest == i.Manifest.Digest }) {
			list = append(list, i)
		}
	}
	return list, nil
}

// index writes an index of manifests.
func (v *saver) index(manifests []v1.Descriptor) (v1.Descriptor, error) {
	raw, err := json.Marshal(v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: manifests})
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: v1.MediaTypeImageIndex, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return d, v.bytes(blobPathIn(d.Digest), raw)
}

func (v *saver) layout(index v1.Index) error {
	if err := v.json("index.json", index); err != nil {
		return err
	}
	return v.json(v1.ImageLayoutFile, v1.ImageLayout{Version: v1.ImageLayoutVersion})
}

// image writes layers, config, and a manifest of these layers as they are here: without compression.
func (v *saver) image(img Image) (archived, v1.Descriptor, error) {
	config, err := v.s.readBlob("config", img.ID)
	if err != nil {
		return archived{}, v1.Descriptor{}, err
	}
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: img.ID, Size: int64(len(config))},
		Layers: []v1.Descriptor{},
	}
	e := archived{Config: blobPathIn(img.ID), Layers: []string{}}
	for _, id := range img.Chain() {
		size, err := v.tar(id)
		if err != nil {
			return e, v1.Descriptor{}, err
		}
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: id, Size: size})
		e.Layers = append(e.Layers, blobPathIn(id))
	}
	raw, d, err := manifestBytes(m)
	if err == nil {
		err = v.bytes(blobPathIn(img.ID), config)
	}
	if err == nil {
		err = v.bytes(blobPathIn(d.Digest), raw)
	}
	p := img.Platform
	d.Platform = &p
	return e, d, err
}

// oci writes an OCI layout of what was pulled, as it was. For one platform that is a manifest; for several it is the index, which names all, with
// those manifests below it that are wanted.
func (v *saver) oci(list []selection, want []Platform) error {
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	for _, sel := range list {
		target := v1.Descriptor{MediaType: sel.Target.MediaType, Digest: sel.Target.Digest, Size: sel.Target.Size}
		images, err := v.chosen(sel.Image, want)
		if err != nil {
			return err
		}
		if len(want) > 0 && len(images) == 1 {
			target = images[0].Manifest
			target.Annotations = nil
		}
		wanted := func(d digest.Digest) bool {
			return len(want) == 0 || slices.ContainsFunc(images, func(i Image) bool { return i.Manifest.Digest == d })
		}
		v.from = sel.origin
		if err := v.below(target, wanted); err != nil {
			return err
		}
		if len(sel.names) == 0 {
			index.Manifests = append(index.Manifests, target)
		}
		for _, n := range sel.names {
			named := target
			named.Annotations = map[string]string{"io.containerd.image.name": n.String(), v1.AnnotationRefName: n.Tag}
			index.Manifests = append(index.Manifests, named)
		}
	}
	return v.layout(index)
}

// below writes a target and the manifests below it that are wanted.
func (v *saver) below(target v1.Descriptor, wanted func(digest.Digest) bool) error {
	return v.s.walk(target, func(doc *document) error {
		if doc.manifest != nil && !wanted(doc.desc.Digest) {
			return nil
		}
		if err := v.bytes(blobPathIn(doc.desc.Digest), doc.raw); err != nil || doc.index != nil {
			return err
		}
		m := doc.manifest
		config, err := v.s.readBlob("config", m.Config.Digest)
		if err != nil {
			return err
		}
		if err := v.bytes(blobPathIn(m.Config.Digest), config); err != nil {
			return err
		}
		var ids []digest.Digest
		if isImage(m) {
			c, err := parseConfig(config, len(m.Layers))
			if err != nil {
				return err
			}
			ids = c.RootFS.DiffIDs
		}
		for i, l := range m.Layers {
			if err := v.blob(l, ids, i); err != nil {
				return err
			}
		}
		return nil
	})
}

// blob writes a layer as its manifest has it, or a blob of an artifact.
func (v *saver) blob(d v1.Descriptor, ids []digest.Digest, i int) error {
	if v.written[blobPathIn(d.Digest)] {
		return nil
	}
	if ids == nil {
		raw, err := v.s.readBlob("blob", d.Digest)
		if err != nil {
			return err
		}
		return v.bytes(blobPathIn(d.Digest), raw)
	}
	if d.Digest == ids[i] {
		_, err := v.tar(d.Digest)
		return err
	}
	r, err := v.s.blob(v.ctx, ids[i], d)
	if errors.Is(err, fs.ErrNotExist) {
		r, err = v.again(ids[i], d)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	m := &meter{r: r, rep: v.rep, e: Event{ID: shortID(d.Digest), Status: "Saving layer", Total: d.Size}}
	return v.file(blobPathIn(d.Digest), d.Size, newVerified(m, d))
}

// again makes the compressed form of a layer anew, or fetches it.
func (v *saver) again(id digest.Digest, d v1.Descriptor) (io.ReadCloser, error) {
	if strings.HasSuffix(d.MediaType, "gzip") {
		f, err := v.s.temporary()
		if err != nil {
			return nil, err
		}
		size, got, err := v.s.compressTo(v.ctx, f, id)
		if err == nil && got == d.Digest {
			return struct {
				io.Reader
				io.Closer
			}{io.NewSectionReader(f, 0, size), f}, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	open, err := v.s.elsewhere(v.ctx, v.from, d)
	if err != nil {
		return nil, fmt.Errorf("layer %s: it is not kept in this form, and cannot be fetched or made again byte for byte, which %s is about: save as %s", d.Digest, OCIArchive, DockerArchive)
	}
	return open()
}

// compressTo writes a layer as gzip, as Docker's builders do.
func (s *Store) compressTo(ctx context.Context, w io.Writer, id digest.Digest) (int64, digest.Digest, error) {
	tar, err := s.openLayer(id)
	if err != nil {
		return 0, "", err
	}
	defer tar.Close()
	return compress(ctx, w, tar, true)
}

// SaveDir writes images into a directory as an OCI layout, which must be empty or not there.
func (s *Store) SaveDir(ctx context.Context, dir string, refs []string, o SaveOptions) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("save: %w", err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		return errors.Join(fmt.Errorf("save: %s: the directory is not empty", dir), err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	defer root.Close()
	o.Format = OCIArchive
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(s.Save(ctx, pw, refs, o)) }()
	defer pr.Close()
	for t := tar.NewReader(pr); ; { // our own archive: its names are digests
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			err = root.Mkdir(path.Clean(h.Name), 0o755)
		} else {
			err = copyInto(root, h.Name, t)
		}
		if err != nil {
			return fmt.Errorf("save: %w", err)
		}
	}
}

func copyInto(root *os.Root, name string, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
