package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// PullOptions say what of an image is fetched.
type PullOptions struct {
	Platform     Platform // zero is this machine's
	AllPlatforms bool     // all that an index has, attestations too
	Credentials  *Credentials
	Progress     Progress
}

// Pull fetches an image, and has its name lead to it. What is here already is not fetched again, layers that came whole before
// a cut or a kill included. On error no name has changed.
func (s *Store) Pull(ctx context.Context, name string, o PullOptions) (Image, error) {
	r, err := ParseReference(name)
	if err != nil {
		return Image{}, err
	}
	r = r.Tagged()
	img, newer, err := s.pull(ctx, r, o)
	if err != nil {
		return Image{}, err
	}
	o.pulled(r.Familiar(), newer)
	return img, nil
}

// PullTags fetches all tags of a repository.
func (s *Store) PullTags(ctx context.Context, name string, o PullOptions) ([]Image, error) {
	r, err := ParseReference(name)
	if err != nil {
		return nil, err
	}
	if r.Tag != "" || r.Digest != "" {
		return nil, fmt.Errorf("pull %s: tag can't be used with --all-tags/-a", name)
	}
	tags, err := s.tags(ctx, name, o.Credentials)
	if err != nil {
		return nil, err
	}
	var list []Image
	var none error
	anyNewer := false
	for _, tag := range tags {
		r.Tag = tag
		img, newer, err := s.pull(ctx, r, o)
		if errors.As(err, new(*ArtifactError)) { // a signature, a list of parts: registries without a place of their own for them have them as tags
			if o.Progress != nil {
				o.Progress(Event{Status: err.Error() + ": left out"})
			}
			none = err
			continue
		}
		if err != nil {
			return list, err
		}
		list, anyNewer = append(list, img), anyNewer || newer
	}
	if len(list) == 0 {
		return nil, none
	}
	o.pulled(r.FamiliarName(), anyNewer)
	return list, nil
}

// pulled is the last that a pull says: of all tags of a repository, once.
func (o PullOptions) pulled(name string, newer bool) {
	status := "Image is up to date"
	if newer {
		status = "Downloaded newer image"
	}
	(&reporter{to: o.Progress}).tell(Event{Status: "Status: " + status + " for " + name})
}

// A puller is one pull under way.
type puller struct {
	s       *Store
	o       PullOptions
	ref     Reference
	sources []*remote
	rep     *reporter
	rules   *Settings
}

// pull fetches one image; newer says that it is another one than was here under the name.
func (s *Store) pull(ctx context.Context, r Reference, o PullOptions) (img Image, newer bool, err error) {
	release, err := s.Hold(ctx) // before anything that a sweep could take for garbage
	if err != nil {
		return Image{}, false, err
	}
	defer release()
	if img, newer, err = s.tryPull(ctx, r, o); err == nil {
		err = s.ready(ctx, img)
	}
	if err != nil {
		return Image{}, false, fmt.Errorf("pull %s: %w", r.Familiar(), friendly(r, err))
	}
	s.tell("pull", r.Familiar(), r.FamiliarName(), img.labels())
	return img, newer, nil
}

// friendly has Docker's words for the two commonest answers, if it is the image itself that was asked for.
func friendly(r Reference, err error) error {
	var answer *RegistryError
	own := err
	if m := (*mirrorsError)(nil); errors.As(err, &m) { // that a mirror lacks it says nothing of the image
		own = m.errs[0]
	}
	if !errors.As(own, &answer) || !strings.HasSuffix(answer.Path, "/manifests/"+r.identifier()) {
		return err
	}
	switch {
	case answer.Status == http.StatusNotFound:
		return fmt.Errorf("manifest for %s not found: manifest unknown: %w", r.Familiar(), err)
	case answer.refused():
		return denied("pull", r, answer, err)
	}
	return err
}

// denied has Docker's words for a registry that refuses an image: it may have none of that name, or want another user.
func denied(what string, r Reference, answer *RegistryError, err error) error {
	return &deniedError{fmt.Sprintf("%s access denied for %s, repository does not exist or may require 'kakuri login %s': %s", what, r.FamiliarName(), answer.Host, answer.bare()), err}
}

// A deniedError has one hint where its cause would have a second.
type deniedError struct {
	text  string
	cause error
}

func (e *deniedError) Error() string { return e.text }
func (e *deniedError) Unwrap() error { return e.cause }

func (s *Store) puller(r Reference, o PullOptions) (*puller, error) {
	rules, err := s.net.rules()
	if err != nil {
		return nil, err
	}
	sources, err := s.sources(r, o.Credentials)
	rep := &reporter{to: o.Progress}
	for _, from := range sources {
		from.tell = rep.tell
	}
	return &puller{s: s, o: o, ref: r, rep: rep, rules: rules, sources: sources}, err
}

func (s *Store) tryPull(ctx context.Context, r Reference, o PullOptions) (img Image, newer bool, err error) {
	p, err := s.puller(r, o)
	if err != nil {
		return Image{}, false, err
	}
	defer s.net.close()
	pulling := func() { p.rep.tell(Event{ID: r.identifier(), Status: "Pulling from " + r.Path}) } // when there is something to pull
	if img, at, ok := p.current(ctx); ok {
		pulling()
		if slices.Contains(img.plain, r.Tagged()) {
			if err := s.name(ctx, img.Target, nameFor(r)); err != nil { // and its name by digest follows from it again
				return Image{}, false, err
			}
			img.plain = nil
		}
		p.rep.tell(Event{Status: "Digest: " + at.String()})
		return img, false, nil
	}
	doc, err := p.document(ctx, r.identifier(), nil)
	if err != nil {
		return Image{}, false, err
	}
	pulling()
	if err := p.verify(ctx, doc); err != nil {
		return Image{}, false, err
	}
	if err := p.fetch(ctx, doc); err != nil {
		return Image{}, false, err
	}
	target := doc.desc
	target.Annotations = map[string]string{origin: r.Name()}
	if err := s.name(ctx, target, nameFor(r)); err != nil {
		return Image{}, false, err
	}
	p.rep.tell(Event{Status: "Digest: " + doc.desc.Digest.String()})
	img, err = s.Get(nameFor(r), o.Platform)
	if errors.As(err, new(*NotFoundError)) { // removed meanwhile; we hold what it is made of
		if o.Platform.OS == "" {
			img, err = s.first(target)
		} else {
			img, err = s.load(target, o.Platform)
		}
	}
	return img, true, err
}

// nameFor is the name under which a reference is kept: with a digest, the tag says nothing any more.
func nameFor(r Reference) string {
	if r.Digest != "" {
		r.Tag = ""
	}
	return r.String()
}

// current says whether what the registry has under the name is here already, whole. It costs a question for a digest, which
// counts for less than a manifest where pulls are counted.
func (p *puller) current(ctx context.Context) (have Image, at digest.Digest, ok bool) {
	have, err := p.s.Get(nameFor(p.ref), p.o.Platform)
	if err != nil || p.o.AllPlatforms || len(p.s.missing(have)) > 0 {
		return Image{}, "", false
	}
	want := p.o.Platform
	if want.OS == "" {
		want = Host()
	}
	if isIndex(have.Target.MediaType) && fits(want, have.Platform) == 0 || p.s.o.Verify != nil {
		return Image{}, "", false
	}
	if p.rules.KeepBlobs && slices.ContainsFunc(have.Layers, func(d v1.Descriptor) bool { return !p.s.keeps(d) }) {
		return Image{}, "", false
	}
	if p.ref.Digest != "" {
		return have, p.ref.Digest, p.ref.Digest == have.Target.Digest
	}
	for _, r := range p.sources {
		if d, err := r.head(ctx, p.ref.identifier()); err == nil {
			return have, d, d == have.Target.Digest || slices.Contains(have.pushed, p.ref.Name()+"@"+string(d)) // as it was pushed there
		}
	}
	return Image{}, "", false
}

// document fetches a document from the first source that has it.
func (p *puller) document(ctx context.Context, id string, want *v1.Descriptor) (*document, error) {
	var errs []error
	for _, r := range p.sources {
		doc, err := r.document(ctx, id, want)
		if err == nil {
			return doc, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	slices.Reverse(errs) // the registry's own word first
	return nil, joined(errs)
}

// joined is one error of several: the first is told, and all can be found.
func joined(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return &mirrorsError{errs}
}

// A mirrorsError has the registry's own word first.
type mirrorsError struct{ errs []error }

func (e *mirrorsError) Error() string {
	return fmt.Sprintf("%v (a mirror says: %v)", e.errs[0], e.errs[1])
}
func (e *mirrorsError) Unwrap() []error { return e.errs }

// small fetches a blob that is held in memory.
func (p *puller) small(ctx context.Context, d v1.Descriptor, max int64) ([]byte, error) {
	if err := checkDescriptor("blob", d); err != nil {
		return nil, err
	}
	if d.Size > max {
		return nil, fmt.Errorf("blob %s: %d bytes, want %d at most", d.Digest, d.Size, max)
	}
	r := newBlobReader(ctx, p.sources, d)
	defer r.Close()
	return io.ReadAll(r)
}

func (p *puller) verify(ctx context.Context, doc *document) error {
	if p.s.o.Verify == nil {
		return nil
	}
	return p.s.o.Verify(ctx, Candidate{
		Reference: p.ref, Target: doc.desc, Raw: doc.raw,
		Fetch: func(ctx context.Context, id string) ([]byte, v1.Descriptor, error) {
			d, err := p.document(ctx, id, nil)
			if err != nil {
				return nil, v1.Descriptor{}, err
			}
			return d.raw, d.desc, nil
		},
		Blob: func(ctx context.Context, d v1.Descriptor) ([]byte, error) { return p.small(ctx, d, maxConfig) },
	})
}

// fetch gets all that is asked for of a document, layers first: a manifest in the store has all below it, as far as it is there
// for. Layers that came whole are of use to the next pull where this one fails. What is small comes into the store after them: it
// would be left over.
func (p *puller) fetch(ctx context.Context, target *document) error {
	docs, manifests, err := p.plan(ctx, target)
	if err != nil {
		return err
	}
	jobs, configs, err := p.contents(ctx, target, manifests)
	if err != nil {
		return err
	}
	if err := p.layers(ctx, jobs); err != nil {
		return err
	}
	for _, m := range manifests {
		if !isImage(m.manifest) {
			if err := p.artifact(ctx, m); err != nil {
				return err
			}
		}
	}
	for d, raw := range configs {
		if err := p.s.putBlob(raw, d); err != nil {
			return err
		}
	}
	for _, d := range slices.Backward(docs) { // what is named before what names it
		if err := p.s.putBlob(d.raw, d.desc.Digest); err != nil {
			return err
		}
	}
	return nil
}

// contents fetches the configs of manifests, and tells which layers they have, each once. Of an index of very many images
// not all configs are held: the others are in the store by then.
func (p *puller) contents(ctx context.Context, target *document, manifests []*document) (layers []*layerJob, configs map[digest.Digest][]byte, err error) {
	jobs := layerJobs{byDigest: map[digest.Digest]*layerJob{}}
	configs = map[digest.Digest][]byte{}
	room := int64(8 * maxConfig)
	for _, m := range manifests {
		raw, err := p.config(ctx, m.manifest.Config)
		if err != nil {
			return nil, nil, err
		}
		if room -= int64(len(raw)); room >= 0 {
			configs[m.manifest.Config.Digest] = raw
		} else if err := p.s.putBlob(raw, m.manifest.Config.Digest); err != nil {
			return nil, nil, err
		}
		if !isImage(m.manifest) {
			continue
		}
		if err := m.runnable(); err != nil {
			return nil, nil, fmt.Errorf("manifest %s: %w", m.desc.Digest, err)
		}
		c, err := parseConfig(raw, len(m.manifest.Layers))
		if err != nil {
			return nil, nil, err
		}
		if m == target && p.o.Platform.OS == "" && !p.o.AllPlatforms { // there is no index to choose from, and nobody said that it is meant
			if _, err := Runs(c.Platform); err != nil {
				return nil, nil, err
			}
		}
		for i, l := range m.manifest.Layers {
			if err := jobs.add(l, c.RootFS.DiffIDs[i]); err != nil {
				return nil, nil, err
			}
		}
	}
	return jobs.list, configs, nil
}

// artifact fetches what an index has beside images: attestations, signatures. They are small, and kept as blobs.
func (p *puller) artifact(ctx context.Context, m *document) error {
	for _, l := range m.manifest.Layers {
		if _, err := p.s.readBlob("blob", l.Digest); err == nil {
			continue
		}
		raw, err := p.small(ctx, l, maxConfig)
		if err == nil {
			err = p.s.putBlob(raw, l.Digest)
		}
		if err != nil {
			return fmt.Errorf("artifact %s: %w", m.desc.Digest, err)
		}
	}
	return nil
}

// plan fetches the documents below a target: all, and those that are manifests. For one platform it is one way down.
func (p *puller) plan(ctx context.Context, target *document) (docs, manifests []*document, err error) {
	read := func(d v1.Descriptor) (*document, error) {
		if d.Digest == target.desc.Digest {
			return target, nil
		}
		return p.document(ctx, string(d.Digest), &d)
	}
	room := maxDocs
	err = walk(target.desc, read, p.children, func(doc *document) error {
		if room -= len(doc.raw); room < 0 {
			return fmt.Errorf("index %s: its manifests have more than %d bytes", target.desc.Digest, maxDocs)
		}
		docs = append(docs, doc)
		switch {
		case doc.manifest == nil:
		case !p.o.AllPlatforms && !isImage(doc.manifest):
			return doc.runnable()
		default:
			manifests = append(manifests, doc)
		}
		return nil
	})
	if err == nil && target.manifest != nil && p.o.Platform.OS != "" {
		err = p.fitting(ctx, target)
	}
	return docs, manifests, err
}

// fitting refuses an image of one platform where another was asked for by name.
func (p *puller) fitting(ctx context.Context, doc *document) error {
	raw, err := p.config(ctx, doc.manifest.Config)
	if err != nil {
		return err
	}
	c, err := parseConfig(raw, len(doc.manifest.Layers))
	if err == nil && fits(p.o.Platform, c.Platform) == 0 {
		err = &PlatformError{Want: p.o.Platform, Have: formatPlatform(normal(c.Platform))}
	}
	return err
}

// config gives a config: of the store, or else of the registry.
func (p *puller) config(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	if raw, err := p.s.readBlob("config", d.Digest); err == nil && int64(len(raw)) == d.Size {
		return raw, nil
	}
	return p.small(ctx, d, maxConfig)
}

// children are the entries of an index that are wanted.
func (p *puller) children(doc *document) ([]v1.Descriptor, error) {
	if !p.o.AllPlatforms {
		want := p.o.Platform
		if want.OS == "" {
			want = Host()
		}
		c := choose(*doc.index, want)
		if c == nil {
			return nil, &PlatformError{Want: want, Have: platforms(*doc.index)}
		}
		return []v1.Descriptor{*c}, nil
	}
	return doc.index.Manifests, nil
}

// A layerJob is a layer to fetch.
type layerJob struct {
	desc   v1.Descriptor
	diffID digest.Digest
}

// layerJobs are layers to fetch, each once.
type layerJobs struct {
	list     []*layerJob
	byDigest map[digest.Digest]*layerJob
}

func (j *layerJobs) add(l v1.Descriptor, diffID digest.Digest) error {
	if other := j.byDigest[l.Digest]; other != nil {
		if other.diffID != diffID {
			return fmt.Errorf("layer %s: configs say that it is %s and %s", l.Digest, other.diffID, diffID)
		}
		return nil
	}
	job := &layerJob{desc: l, diffID: diffID}
	j.byDigest[l.Digest] = job
	j.list = append(j.list, job)
	return nil
}

// layers fetches layers, a few at once. The first error ends all.
func (p *puller) layers(ctx context.Context, jobs []*layerJob) error {
	var todo []*layerJob
	for _, j := range jobs {
		if j.desc.Size > p.rules.maxBlob() { // before all of it came, to a full disk; of one that is here the manifest lies
			return fmt.Errorf("layer %s: it has %d bytes: %w", shortID(j.desc.Digest), j.desc.Size, &TooLargeError{p.rules.maxLayer()})
		}
		if _, err := p.s.o.Layers.Stat(j.diffID); err == nil && (!p.rules.KeepBlobs || p.s.keeps(j.desc)) {
			p.rep.tell(Event{ID: shortID(j.desc.Digest), Status: "Already exists"})
			continue
		}
		p.rep.tell(Event{ID: shortID(j.desc.Digest), Status: "Pulling fs layer"})
		todo = append(todo, j)
	}
	return inParallel(ctx, p.rules.downloads(), todo, p.layer)
}

// inParallel calls do for each of a list, n at a time, and gives the first error.
func inParallel[T any](ctx context.Context, n int, list []T, do func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, n)
	var wg sync.WaitGroup
	for _, x := range list {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := do(ctx, x); err != nil {
				cancel(err) // the first cause stays
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (p *puller) layer(ctx context.Context, j *layerJob) error {
	id := shortID(j.desc.Digest)
	blob := newBlobReader(ctx, p.sources, j.desc)
	defer blob.Close()
	in := &meter{r: blob, rep: p.rep, e: Event{ID: id, Status: "Downloading", Total: j.desc.Size}}
	if err := p.s.putLayer(ctx, p.rules, in, j.desc, j.diffID); err != nil {
		if len(j.desc.URLs) > 0 { // as Docker has it on Linux: whoever serves a manifest would choose whom this machine asks
			return fmt.Errorf("layer %s: %w: the manifest has it at %.200q, which is not asked", id, err, j.desc.URLs[0])
		}
		return fmt.Errorf("layer %s: %w", id, err)
	}
	p.rep.tell(Event{ID: id, Status: "Pull complete"})
	return nil
}

// tags lists the tags of a repository, as the registry gives them.
func (s *Store) tags(ctx context.Context, name string, given *Credentials) ([]string, error) {
	r, err := ParseReference(name)
	if err != nil {
		return nil, err
	}
	rem, err := s.remote(r, given)
	if err != nil {
		return nil, err
	}
	defer s.net.close()
	return rem.tags(ctx)
}

// tags follows the pages of a listing, within the registry itself.
func (r *remote) tags(ctx context.Context) ([]string, error) {
	var list []string
	q := &request{method: http.MethodGet, path: r.repo + "/tags/list", query: "n=1000", scope: "pull", ok: []int{200}}
	for range 1000 {
		resp, err := r.do(ctx, q)
		if err != nil {
			return nil, err
		}
		raw, err := readLimited(resp.Body, maxManifest, "tags of "+r.repo)
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		var page struct{ Tags []string }
		if err := unmarshal(raw, &page); err != nil {
			return nil, fmt.Errorf("tags of %s: %w", r.repo, err)
		}
		for _, tag := range page.Tags {
			if !validTag(tag) {
				return nil, fmt.Errorf("tags of %s: %q is no tag", r.repo, printable(tag))
			}
			list = append(list, tag)
		}
		if len(list) > maxValues { // a page is bounded, and so are pages: a thousand of the largest were 20 GB
			return nil, fmt.Errorf("tags of %s: more than %d", r.repo, maxValues)
		}
		next := nextPage(&r.base, resp.Header.Get("Link"))
		if next == nil || len(page.Tags) == 0 {
			return list, nil
		}
		if !r.owns(next) {
			return nil, fmt.Errorf("tags of %s: the next page is at another host, %s", r.repo, printable(next.Host))
		}
		q = &request{method: http.MethodGet, url: next, scope: "pull", ok: []int{200}}
	}
	return nil, fmt.Errorf("tags of %s: more than 1000 pages", r.repo)
}

// nextPage reads a Link header: <URL>; rel="next".
func nextPage(base *url.URL, link string) *url.URL {
	from, to := -1, -1
	for i, c := range link {
		if c == '<' && from < 0 {
			from = i + 1
		} else if c == '>' && from >= 0 {
			to = i
			break
		}
	}
	if to < 0 {
		return nil
	}
	u, err := base.Parse(link[from:to])
	if err != nil {
		return nil
	}
	return u
}
