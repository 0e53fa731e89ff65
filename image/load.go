package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// LoadOptions say what of an archive is loaded.
type LoadOptions struct {
	Platforms []Platform // empty is all
	Progress  Progress
}

// A Loaded is an image that a load gave.
type Loaded struct {
	Image Image
	Names []string // that lead to it now, as people type them
}

// Load reads images out of an archive as `docker save`, podman, skopeo and others write it: docker-archive or oci-archive, plain or
// compressed by gzip, zstd, xz or bzip2. On error, images that came whole before it stay.
func (s *Store) Load(ctx context.Context, r io.Reader, o LoadOptions) ([]Loaded, error) {
	rules, err := s.net.rules()
	if err != nil {
		return nil, err
	}
	b, err := s.openBundle(ctx, r, rules)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer b.Close()
	return s.loadBundle(ctx, b, rules, o)
}

// LoadDir reads images out of a directory that is an OCI image layout.
func (s *Store) LoadDir(ctx context.Context, dir *os.File, o LoadOptions) ([]Loaded, error) {
	rules, err := s.net.rules()
	if err != nil {
		return nil, err
	}
	return s.loadBundle(ctx, dirBundle{dir}, rules, o)
}

// A loader is one load under way.
type loader struct {
	s     *Store
	b     bundle
	rules *Settings
	o     LoadOptions
	rep   *reporter
	names map[digest.Digest][]string // by config, of manifest.json
}

func (s *Store) loadBundle(ctx context.Context, b bundle, rules *Settings, o LoadOptions) ([]Loaded, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	l := &loader{s: s, b: b, rules: rules, o: o, rep: &reporter{to: o.Progress}, names: map[digest.Digest][]string{}}
	var list []Loaded
	switch {
	case has(b, "index.json") && has(b, v1.ImageLayoutFile):
		list, err = l.layout(ctx)
	case has(b, "manifest.json"):
		list, err = l.archive(ctx)
	case has(b, "repositories"):
		err = errors.New("it has no manifest.json: it is an archive of Docker before 1.10, which Docker 29 does not load either. One of 1.10 to 28 loads it, and saves it as others read it")
	default:
		err = errors.New("it has neither manifest.json nor index.json and oci-layout: it is no archive of images (`kakuri import` takes a root file system)")
	}
	for _, one := range list {
		s.tellOf("load", one.Image)
	}
	if err != nil {
		return list, fmt.Errorf("load: %w", err)
	}
	return list, nil
}

// An archived is an entry of a docker-archive's manifest.json.
type archived struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// manifestJSON reads it; it may be missing beside an OCI layout.
func (l *loader) manifestJSON() ([]archived, error) {
	raw, err := small(l.b, "manifest.json", maxManifest)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		return nil, errors.New("manifest.json is one image's manifest, as skopeo's dir: has it, and no archive's: `skopeo copy dir:DIR docker-archive:FILE` makes an archive")
	}
	var list []archived
	if err := unmarshal([]byte(`{"list":`+string(raw)+`}`), &struct {
		List *[]archived `json:"list"`
	}{&list}); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	names := 0
	for _, e := range list {
		names += max(len(e.RepoTags), 1)
	}
	if names > maxNames {
		return nil, &tooManyError{"manifest.json"}
	}
	return list, nil
}

// A tooManyError is an archive of more names, or images without one, than anybody has saved.
type tooManyError struct{ file string }

func (e *tooManyError) Error() string {
	return fmt.Sprintf("%s: it has more than %d names, or images without one", e.file, maxNames)
}

// archive loads a docker-archive.
func (l *loader) archive(ctx context.Context) ([]Loaded, error) {
	entries, err := l.manifestJSON()
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, errors.New("manifest.json: it names no image")
	}
	var list []Loaded
	for _, e := range entries {
		names, err := tagsOf(e.RepoTags)
		if err != nil {
			return list, err
		}
		config, err := small(l.b, e.Config, maxConfig)
		if err != nil {
			return list, fmt.Errorf("config: %w", err)
		}
		c, err := parseConfig(config, len(e.Layers))
		if err != nil {
			return list, err
		}
		if !l.wanted(c.Platform) {
			continue
		}
		if err := l.takes(c.Platform); err != nil {
			return list, err
		}
		m := v1.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
			Config: v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
			Layers: make([]v1.Descriptor, len(e.Layers)),
		}
		type job struct{ n int }
		jobs := make([]job, len(e.Layers))
		for i := range jobs {
			jobs[i].n = i
		}
		err = inParallel(ctx, l.rules.downloads(), jobs, func(ctx context.Context, j job) error {
			d, err := l.tarLayer(ctx, e.Layers[j.n], c.RootFS.DiffIDs[j.n])
			m.Layers[j.n] = d
			return err
		})
		if err != nil {
			return list, err
		}
		loaded, err := l.s.keep(ctx, m, config, names, nil)
		if err != nil {
			return list, err
		}
		list = append(list, loaded)
		if err := l.arrived(ctx, loaded); err != nil {
			return list, err
		}
	}
	return list, l.some(list)
}

func (l *loader) some(list []Loaded) error {
	if len(list) == 0 && len(l.o.Platforms) > 0 {
		return fmt.Errorf("the archive has no image for platform %s", formatPlatform(l.o.Platforms[0]))
	}
	return nil
}

// arrived has an image ready to be run, and says so in Docker's words.
func (l *loader) arrived(ctx context.Context, loaded Loaded) error {
	if err := l.s.ready(ctx, loaded.Image); err != nil {
		return err
	}
	for _, n := range loaded.Names {
		l.rep.tell(Event{Status: "Loaded image: " + n})
	}
	if len(loaded.Names) == 0 {
		l.rep.tell(Event{Status: "Loaded image ID: " + loaded.Image.ID.String()})
	}
	return nil
}

func (l *loader) wanted(p Platform) bool {
	return len(l.o.Platforms) == 0 || slices.ContainsFunc(l.o.Platforms, func(w Platform) bool { return fits(w, p) > 0 })
}

// takes refuses an image that nothing of this machine runs, as Docker does, unless it was asked for.
func (l *loader) takes(p Platform) error {
	if _, err := Runs(p); err != nil && len(l.o.Platforms) == 0 {
		return fmt.Errorf("cannot load %s image on %s: --platform %s takes it all the same", p.OS, Host().OS, formatPlatform(normal(p)))
	}
	return nil
}

// tagsOf checks names of an archive.
func tagsOf(tags []string) ([]string, error) {
	var names []string
	for _, t := range tags {
		r, err := ParseReference(t)
		if err != nil {
			return nil, err
		}
		if r.Tag == "" || r.Digest != "" {
			return nil, &ReferenceError{t, "an archive's name has a tag and no digest"}
		}
		names = append(names, r.String())
	}
	return names, nil
}

// tarLayer keeps a layer of a docker-archive, whose form nothing but its first bytes tells. Its manifest is ours, so it
// has the layer without compression.
func (l *loader) tarLayer(ctx context.Context, name string, diffID digest.Digest) (v1.Descriptor, error) {
	d := v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: diffID}
	size, err := l.s.o.Layers.Stat(diffID)
	if err == nil {
		l.rep.tell(Event{ID: shortID(diffID), Status: "Already exists"})
		d.Size = size
		return d, nil
	}
	r, total, err := l.b.open(name)
	if err != nil {
		return d, fmt.Errorf("layer: %w", err)
	}
	defer r.Close()
	in := &meter{r: r, rep: l.rep, e: Event{ID: shortID(diffID), Status: "Loading layer", Total: total}}
	out, err := l.rules.inflate(in)
	if err != nil {
		return d, fmt.Errorf("layer %s: %w", printable(name), err)
	}
	defer out.Close()
	_, d.Size, err = l.s.o.Layers.Put(ctx, out, diffID)
	if err != nil {
		return d, fmt.Errorf("layer %s: %w", printable(name), err)
	}
	l.rep.tell(Event{ID: shortID(diffID), Status: "Loaded"})
	return d, nil
}

// keep writes a manifest that we made, with its config, and has names lead to it. Its layers are there, and made says what its root is noted with.
func (s *Store) keep(ctx context.Context, m v1.Manifest, config []byte, names []string, made map[string]string) (Loaded, error) {
	raw, d, err := manifestBytes(m)
	if err == nil {
		err = s.keepPlain(ctx, m.Layers)
	}
	if err == nil {
		err = s.putBlob(config, m.Config.Digest)
	}
	if err == nil {
		err = s.putBlob(raw, d.Digest)
	}
	if err == nil {
		noted := d
		noted.Annotations = made
		err = s.name(ctx, noted, names...)
	}
	if err != nil {
		return Loaded{}, err
	}
	return s.loaded(d, names)
}

func (s *Store) loaded(target v1.Descriptor, names []string) (Loaded, error) {
	img, err := s.first(target)
	if err != nil {
		return Loaded{}, err
	}
	l := Loaded{Image: img}
	for _, n := range names {
		if r, err := ParseReference(n); err == nil {
			l.Image.Names = append(l.Image.Names, r)
			l.Names = append(l.Names, r.Familiar())
		}
	}
	return l, nil
}

// blobPathIn is where an OCI layout has a blob.
func blobPathIn(d digest.Digest) string {
	return path.Join("blobs", d.Algorithm().String(), d.Encoded())
}

// layout loads an OCI layout: all that its index.json names.
func (l *loader) layout(ctx context.Context) ([]Loaded, error) {
	raw, err := small(l.b, "index.json", maxManifest)
	if err != nil {
		return nil, err
	}
	top, err := parseDocument(raw, v1.MediaTypeImageIndex)
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if err := l.namesBeside(ctx); err != nil {
		return nil, err
	}
	order, byTarget, err := l.targets(top.index)
	if err != nil {
		return nil, err
	}
	var list []Loaded
	for _, d := range order {
		loaded, err := l.target(ctx, d, byTarget[d.Digest])
		if errors.Is(err, errNotWanted) {
			continue
		}
		if err != nil {
			return list, err
		}
		list = append(list, loaded)
		if err := l.arrived(ctx, loaded); err != nil {
			return list, err
		}
	}
	return list, l.some(list)
}

// namesBeside reads the names of a manifest.json: Docker's archives have them there, too.
func (l *loader) namesBeside(ctx context.Context) error {
	entries, err := l.manifestJSON()
	if errors.As(err, new(*tooManyError)) {
		return err
	}
	digests := map[string]digest.Digest{} // by the config's name, which may be there many times
	for _, e := range entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		d, known := digests[e.Config]
		if !known {
			if config, err := small(l.b, e.Config, maxConfig); err == nil {
				d = digest.FromBytes(config)
			}
			digests[e.Config] = d
		}
		if d != "" {
			l.names[d] = append(l.names[d], e.RepoTags...)
		}
	}
	return nil
}

// targets lists what an index.json names, each once with all its names.
func (l *loader) targets(index *v1.Index) (order []v1.Descriptor, names map[digest.Digest][]string, err error) {
	if len(index.Manifests) > maxNames {
		return nil, nil, &tooManyError{"index.json"}
	}
	names = map[digest.Digest][]string{}
	for _, d := range index.Manifests {
		if !isIndex(d.MediaType) && !isManifest(d.MediaType) || attestation(d) {
			continue
		}
		if _, seen := names[d.Digest]; !seen {
			order = append(order, v1.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
			names[d.Digest] = []string{}
		}
		n, err := nameIn(d)
		if err != nil {
			return nil, nil, err
		}
		if n != "" && !slices.Contains(names[d.Digest], n) {
			names[d.Digest] = append(names[d.Digest], n)
		}
	}
	if len(order) == 0 {
		return nil, nil, errors.New("index.json: it names no image")
	}
	return order, names, nil
}

// nameIn is the name of an entry of index.json: containerd's annotation has it whole, image-spec's in a form that is up
// to the writer. A mere tag is no name.
func nameIn(d v1.Descriptor) (string, error) {
	for _, key := range []string{"io.containerd.image.name", v1.AnnotationRefName} {
		n := d.Annotations[key]
		if n == "" || key == v1.AnnotationRefName && !strings.ContainsAny(n, "/:") {
			continue
		}
		r, err := ParseReference(n)
		if err != nil {
			return "", fmt.Errorf("index.json: %w", err)
		}
		return r.Tagged().String(), nil
	}
	return "", nil
}

// errNotWanted is an image for another platform than those that were asked for.
var errNotWanted = errors.New("not wanted")

// target loads an index or a manifest with all that the bundle has of it.
func (l *loader) target(ctx context.Context, d v1.Descriptor, names []string) (Loaded, error) {
	var docs, manifests []*document
	if err := l.walk(d, &docs, &manifests); err != nil {
		return Loaded{}, err
	}
	if len(manifests) == 1 && manifests[0] == docs[0] && !isImage(docs[0].manifest) {
		return Loaded{}, docs[0].runnable()
	}
	kept := 0 // images, not what says something of them
	for _, m := range manifests {
		ok, config, err := l.manifest(ctx, m, m == docs[0])
		if err != nil {
			return Loaded{}, fmt.Errorf("manifest %s: %w", m.desc.Digest, err)
		}
		if !ok {
			docs = slices.DeleteFunc(docs, func(doc *document) bool { return doc == m })
			continue
		}
		if config == nil {
			continue
		}
		kept++
		if len(names) == 0 {
			tags, err := tagsOf(l.names[digest.FromBytes(config)])
			if err != nil {
				return Loaded{}, err
			}
			names = tags
		}
	}
	if kept == 0 {
		if len(l.o.Platforms) > 0 {
			return Loaded{}, errNotWanted
		}
		return Loaded{}, fmt.Errorf("%s: the archive has none of its images", d.Digest)
	}
	for _, doc := range slices.Backward(docs) {
		if err := l.s.putBlob(doc.raw, doc.desc.Digest); err != nil {
			return Loaded{}, err
		}
	}
	if err := l.s.name(ctx, d, names...); err != nil {
		return Loaded{}, err
	}
	return l.s.loaded(d, names)
}

// walk reads the documents below a descriptor that the bundle has. Below an index some may be missing: it was saved for one platform.
func (l *loader) walk(target v1.Descriptor, docs, manifests *[]*document) error {
	read := func(d v1.Descriptor) (*document, error) {
		raw, err := l.verified(d, maxManifest)
		if d.Digest != target.Digest && errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		doc, err := parseDocument(raw, d.MediaType)
		if err == nil {
			doc.desc.Digest = d.Digest
		}
		return doc, err
	}
	room := maxDocs
	all := func(index *document) ([]v1.Descriptor, error) { return index.index.Manifests, nil }
	return walk(target, read, all, func(doc *document) error {
		if room -= len(doc.raw); room < 0 {
			return fmt.Errorf("index %s: its manifests have more than %d bytes", target.Digest, maxDocs)
		}
		*docs = append(*docs, doc)
		if doc.manifest != nil {
			*manifests = append(*manifests, doc)
		}
		return nil
	})
}

// verified reads a blob of the bundle and compares it with its descriptor.
func (l *loader) verified(d v1.Descriptor, max int64) ([]byte, error) {
	raw, err := small(l.b, blobPathIn(d.Digest), max)
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != d.Size {
		return nil, fmt.Errorf("blob %s: %d bytes, and its descriptor says %d", d.Digest, len(raw), d.Size)
	}
	if got := d.Digest.Algorithm().FromBytes(raw); got != d.Digest {
		return nil, fmt.Errorf("blob %s: it has other bytes, of %s", d.Digest, got)
	}
	return raw, nil
}

// manifest keeps a manifest's config and layers. ok is false for one of a platform that is not wanted, and for one below an index
// whose config the bundle lacks. alone is one that is below no index.
func (l *loader) manifest(ctx context.Context, m *document, alone bool) (ok bool, config []byte, err error) {
	image := isImage(m.manifest)
	raw, err := l.verified(m.manifest.Config, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	if !image {
		for _, d := range m.manifest.Layers {
			blob, err := l.verified(d, maxConfig)
			if errors.Is(err, fs.ErrNotExist) {
				return false, nil, nil
			}
			if err == nil {
				err = l.s.putBlob(blob, d.Digest)
			}
			if err != nil {
				return false, nil, err
			}
		}
		return true, nil, l.s.putBlob(raw, m.manifest.Config.Digest)
	}
	if err := m.runnable(); err != nil {
		return false, nil, err
	}
	c, err := parseConfig(raw, len(m.manifest.Layers))
	if err != nil {
		return false, nil, err
	}
	if !l.wanted(c.Platform) {
		return false, nil, nil
	}
	if alone { // of an index others may run
		if err := l.takes(c.Platform); err != nil {
			return false, nil, err
		}
	}
	jobs := make([]*layerJob, 0, len(m.manifest.Layers))
	for i, d := range m.manifest.Layers {
		jobs = append(jobs, &layerJob{desc: d, diffID: c.RootFS.DiffIDs[i]})
	}
	jobs = slices.CompactFunc(jobs, func(a, b *layerJob) bool { return a.desc.Digest == b.desc.Digest && a.diffID == b.diffID })
	if err := inParallel(ctx, l.rules.downloads(), jobs, l.layer); err != nil {
		return false, nil, err
	}
	return true, raw, l.s.putBlob(raw, m.manifest.Config.Digest)
}

// layer keeps a layer of an OCI layout.
func (l *loader) layer(ctx context.Context, j *layerJob) error {
	id := shortID(j.desc.Digest)
	if _, err := l.s.o.Layers.Stat(j.diffID); err == nil && (!l.rules.KeepBlobs || l.s.keeps(j.desc)) {
		l.rep.tell(Event{ID: id, Status: "Already exists"})
		return nil
	}
	r, size, err := l.b.open(blobPathIn(j.desc.Digest))
	if err != nil {
		return fmt.Errorf("layer: %w", err)
	}
	defer r.Close()
	if size != j.desc.Size {
		return fmt.Errorf("layer %s: %d bytes, and its manifest says %d", j.desc.Digest, size, j.desc.Size)
	}
	in := &meter{r: r, rep: l.rep, e: Event{ID: id, Status: "Loading layer", Total: size}}
	if err := l.s.putLayer(ctx, l.rules, newVerified(in, j.desc), j.desc, j.diffID); err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	l.rep.tell(Event{ID: id, Status: "Loaded"})
	return nil
}

// verified compares what is read with a digest, at the end.
type verified struct {
	r    io.Reader
	desc v1.Descriptor
	sum  digest.Digester
}

func newVerified(r io.Reader, d v1.Descriptor) *verified {
	return &verified{r: r, desc: d, sum: d.Digest.Algorithm().Digester()}
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.sum.Hash().Write(p[:n])
	if err == io.EOF {
		if got := v.sum.Digest(); got != v.desc.Digest {
			return n, fmt.Errorf("blob %s: it has other bytes, of %s", v.desc.Digest, got)
		}
	}
	return n, err
}
