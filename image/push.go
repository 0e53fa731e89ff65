package image

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	fast "github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// PushOptions say what of an image is sent.
type PushOptions struct {
	Platform    Platform // one of an index; zero is the index, as far as it is here
	Credentials *Credentials
	Progress    Progress
}

// Push sends an image to the registry of its name. Layers that came from a registry go out as the same bytes: those that the layers'
// keeper has, or else the registry of origin. Others are compressed here, with gzip as Docker does it for those that were gzip, so
// that they may be the same all the same; if they are not, the manifest is another one. It gives the digest that the registry knows the image by.
func (s *Store) Push(ctx context.Context, name string, o PushOptions) (digest.Digest, error) {
	r, err := ParseReference(name)
	if err != nil {
		return "", err
	}
	r = r.Tagged()
	if r.Digest != "" {
		return "", fmt.Errorf("push %s: cannot push a digest reference: give it a tag", name)
	}
	o.refersTo(r)
	d, err := s.push(ctx, r, o)
	if err != nil {
		return "", fmt.Errorf("push %s: %w", r.Familiar(), unwelcome(r, err))
	}
	return d, nil
}

// unwelcome has Docker's words for a push that the registry refuses: not for another one that a layer was to come from.
func unwelcome(r Reference, err error) error {
	var answer *RegistryError
	if errors.As(err, &answer) && answer.refused() && answer.Host == r.Domain && strings.HasPrefix(answer.Path, "/v2/"+r.Path+"/") {
		return denied("push", r, answer, err)
	}
	return err
}

// PushTags sends all tags that the store has of a repository.
func (s *Store) PushTags(ctx context.Context, name string, o PushOptions) error {
	r, err := ParseReference(name)
	if err != nil {
		return err
	}
	if r.Tag != "" || r.Digest != "" {
		return fmt.Errorf("push %s: tag can't be used with --all-tags/-a", name)
	}
	o.refersTo(r)
	list, err := s.roots()
	if err != nil {
		return err
	}
	found := false
	for _, root := range list {
		if n, err := ParseReference(nameOf(root)); err == nil && n.Name() == r.Name() && n.Digest == "" {
			found = true
			if _, err := s.push(ctx, n, o); err != nil {
				return fmt.Errorf("push %s: %w", n.Familiar(), unwelcome(n, err))
			}
		}
	}
	if !found {
		return s.absent(r)
	}
	return nil
}

// refersTo says first of all, and once, where a push goes to.
func (o PushOptions) refersTo(r Reference) {
	(&reporter{to: o.Progress}).tell(Event{Status: "The push refers to repository [" + r.Name() + "]"})
}

// An AbsentError is a name that is to be pushed, and that no image here has. The words are Docker's.
type AbsentError struct {
	Ref       Reference
	Elsewhere bool // the repository has other tags
}

func (e *AbsentError) Error() string {
	if e.Elsewhere {
		return "tag does not exist: " + e.Ref.Familiar()
	}
	return "An image does not exist locally with the tag: " + e.Ref.FamiliarName()
}

// absent says of a name that it is none here, and whether its repository has others.
func (s *Store) absent(r Reference) error {
	list, err := s.roots()
	if err != nil {
		return err
	}
	return &AbsentError{r, slices.ContainsFunc(list, func(o root) bool {
		n, err := ParseReference(nameOf(o))
		return err == nil && n.Name() == r.Name()
	})}
}

// A pusher is one push under way.
type pusher struct {
	s     *Store
	o     PushOptions
	ref   Reference
	from  string // the repository that the image was pulled from
	to    *remote
	rep   *reporter
	rules *Settings
	near  map[digest.Digest][]string // other repositories of the registry that may have a layer
}

func (s *Store) push(ctx context.Context, r Reference, o PushOptions) (digest.Digest, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	img, err := s.Get(r.String(), o.Platform)
	if errors.As(err, new(*NotFoundError)) {
		err = s.absent(r)
	}
	if err != nil {
		return "", err
	}
	p := &pusher{s: s, o: o, ref: r, from: img.origin, rep: &reporter{to: o.Progress}}
	if p.rules, err = s.net.rules(); err != nil {
		return "", err
	}
	if p.to, err = s.remote(r, o.Credentials); err != nil {
		return "", err
	}
	p.to.tell = p.rep.tell
	defer s.net.close()
	if p.near, err = s.neighbours(r); err != nil {
		return "", err
	}
	sent, err := p.target(ctx, img)
	if err != nil {
		return "", err
	}
	p.rep.tell(Event{
		Status: fmt.Sprintf("%s: digest: %s size: %d", r.Tag, sent.Digest, sent.Size),
		Aux:    &Aux{Tag: r.Tag, Digest: sent.Digest, Size: sent.Size},
	})
	if err := s.notePushed(ctx, r, sent.Digest); err != nil {
		return "", err
	}
	s.tell("push", r.Familiar(), r.FamiliarName(), img.labels())
	return sent.Digest, nil
}

// neighbours lists, for each layer of the store, the other repositories of a name's registry that an image with it is named after.
func (s *Store) neighbours(r Reference) (map[digest.Digest][]string, error) {
	images, err := s.images()
	near := map[digest.Digest][]string{}
	for _, i := range images {
		for _, n := range i.Names {
			for _, l := range i.Layers {
				if n.Domain == r.Domain && n.Path != r.Path && !slices.Contains(near[l.Digest], n.Path) && len(near[l.Digest]) < 3 {
					near[l.Digest] = append(near[l.Digest], n.Path)
				}
			}
		}
	}
	return near, err
}

// notePushed keeps under which digest the registry has a name.
func (s *Store) notePushed(ctx context.Context, r Reference, d digest.Digest) error {
	note := r.Name() + "@" + string(d)
	return s.change(ctx, func(list []root) ([]root, error) {
		for i, old := range list {
			if nameOf(old) != r.String() || old.Digest == d {
				continue
			}
			notes := strings.FieldsFunc(old.Annotations[pushed], func(c rune) bool { return c == ',' })
			notes = slices.DeleteFunc(notes, func(n string) bool { return strings.HasPrefix(n, r.Name()+"@") })
			list[i].Annotations[pushed] = strings.Join(append(notes, note), ",")
		}
		return list, nil
	})
}

// target sends an index with all below it, or one image.
func (p *pusher) target(ctx context.Context, img Image) (v1.Descriptor, error) {
	root, err := p.s.readDocument(img.Target)
	if err != nil {
		return v1.Descriptor{}, err
	}
	if root.index == nil || p.o.Platform.OS != "" {
		return p.one(ctx, img.Manifest, p.ref.Tag)
	}
	var docs []*document
	whole := true
	err = p.s.walk(img.Target, func(d *document) error {
		docs = append(docs, d)
		if d.index != nil && len(p.s.present(d.index).Manifests) < len(d.index.Manifests) {
			whole = false
		}
		return nil
	})
	if err != nil {
		return v1.Descriptor{}, err
	}
	if !whole {
		p.rep.tell(Event{Status: "Info: not all platforms of the index are here: only " + formatPlatform(img.Platform) + " is pushed"})
		return p.one(ctx, img.Manifest, p.ref.Tag)
	}
	others := map[digest.Digest]v1.Descriptor{}
	for _, d := range slices.Backward(docs[1:]) {
		var sent v1.Descriptor
		if d.index != nil {
			sent, err = p.index(ctx, d, others, "")
		} else {
			sent, err = p.one(ctx, d.desc, "")
		}
		if err != nil {
			return v1.Descriptor{}, err
		}
		if sent.Digest != d.desc.Digest {
			others[d.desc.Digest] = sent
		}
	}
	if len(others) > 0 {
		p.rep.tell(Event{Status: "Info: layers cannot be made again byte for byte, so another index is pushed, of the same images"})
	}
	return p.index(ctx, root, others, p.ref.Tag)
}

// index sends an index whose manifests are there; of those that were sent as others, it names these. Without a tag it is known by its digest.
func (p *pusher) index(ctx context.Context, d *document, others map[digest.Digest]v1.Descriptor, tag string) (v1.Descriptor, error) {
	raw, desc := d.raw, d.desc
	index := *d.index
	index.Manifests = slices.Clone(index.Manifests)
	changed := false
	for i := range index.Manifests {
		m := &index.Manifests[i]
		if o, ok := others[m.Digest]; ok {
			m.Digest, m.Size, changed = o.Digest, o.Size, true
		}
		if o, ok := others[digest.Digest(m.Annotations[attests])]; ok {
			m.Annotations = maps.Clone(m.Annotations)
			m.Annotations[attests], changed = o.Digest.String(), true
		}
	}
	if changed {
		var err error
		if raw, err = json.Marshal(index); err != nil {
			return desc, err
		}
		desc.Digest, desc.Size = digest.FromBytes(raw), int64(len(raw))
	}
	if tag == "" {
		tag = string(desc.Digest)
	}
	return desc, p.put(ctx, raw, desc, tag)
}

// one sends a manifest with all below it; without a tag it is known by its digest.
func (p *pusher) one(ctx context.Context, d v1.Descriptor, tag string) (v1.Descriptor, error) {
	doc, err := p.s.readDocument(d)
	if err != nil {
		return d, err
	}
	m := *doc.manifest
	config, err := p.s.readBlob("config", m.Config.Digest)
	if err != nil {
		return d, err
	}
	jobs := make([]*pushJob, len(m.Layers))
	for i, l := range m.Layers {
		jobs[i] = &pushJob{desc: l}
	}
	if isImage(&m) {
		c, err := parseConfig(config, len(m.Layers))
		if err != nil {
			return d, err
		}
		for i := range jobs {
			jobs[i].diffID = c.RootFS.DiffIDs[i]
		}
	}
	// The config first: who is not there, or takes nothing, says so before a layer is compressed for it.
	if err := p.bytes(ctx, m.Config, config); err != nil {
		return d, err
	}
	if err := inParallel(ctx, p.rules.uploads(), distinct(jobs), p.layer); err != nil {
		return d, err
	}
	changed := false
	m.Layers = slices.Clone(m.Layers)
	for i, j := range jobs {
		if j.first != nil {
			j.sent = j.first.sent
		}
		if j.sent.Digest != m.Layers[i].Digest {
			changed = true
			j.sent.Annotations = m.Layers[i].Annotations
			m.Layers[i] = j.sent
		}
	}
	raw := doc.raw
	if changed {
		if raw, d, err = manifestBytes(m); err != nil {
			return d, err
		}
	} else {
		d = doc.desc
	}
	if tag == "" {
		tag = string(d.Digest)
	}
	return d, p.put(ctx, raw, d, tag)
}

// A pushJob is a layer to send, and what it was sent as.
type pushJob struct {
	desc   v1.Descriptor
	diffID digest.Digest // empty for a blob of an artifact
	sent   v1.Descriptor
	first  *pushJob // that has the same layer
}

// distinct leaves each layer once.
func distinct(jobs []*pushJob) []*pushJob {
	by := map[digest.Digest]*pushJob{}
	var list []*pushJob
	for _, j := range jobs {
		if j.first = by[j.desc.Digest]; j.first == nil {
			by[j.desc.Digest] = j
			list = append(list, j)
		}
	}
	return list
}

// layer sends one layer: not at all where the registry has it, by name where another repository there has it, as the bytes
// that its manifest names where they can be had, and else compressed by us.
func (p *pusher) layer(ctx context.Context, j *pushJob) error {
	id := shortID(j.desc.Digest)
	p.rep.tell(Event{ID: id, Status: "Preparing"})
	kind, _ := compression(j.desc.MediaType)
	if j.diffID != "" && kind == "" && p.from == "" { // kept by load, import and commit without compression, which nobody wants to pull
		return p.compressed(ctx, j, id)
	}
	if has, err := p.has(ctx, j.desc, id); err != nil || has {
		j.sent = j.desc
		return err
	}
	open := func() (io.ReadCloser, error) { return p.s.blob(ctx, j.diffID, j.desc) }
	if j.diffID == "" {
		open = func() (io.ReadCloser, error) { return files.Open(p.s.blobPath(j.desc.Digest)) }
	}
	probe, err := open()
	if errors.Is(err, fs.ErrNotExist) && j.diffID != "" {
		if open, err = p.s.elsewhere(ctx, p.from, j.desc); err != nil {
			return p.compressed(ctx, j, id)
		}
	} else if err != nil {
		return err
	} else {
		probe.Close()
	}
	j.sent = j.desc
	return p.upload(ctx, j.desc, id, open)
}

// elsewhere opens a layer at the repository that its image was pulled from: nobody else is sure to have the same bytes, once
// they are not kept. The first byte has come when it returns.
func (s *Store) elsewhere(ctx context.Context, from string, d v1.Descriptor) (open func() (io.ReadCloser, error), err error) {
	r, err := ParseReference(from)
	if err != nil {
		return nil, err
	}
	sources, err := s.sources(r, nil)
	if err != nil {
		return nil, err
	}
	for i, rem := range sources {
		body, err := rem.openBlob(ctx, d, 0)
		if err == nil {
			body.Close()
			return func() (io.ReadCloser, error) { return newBlobReader(ctx, sources[i:], d), nil }, nil
		}
	}
	return nil, fmt.Errorf("layer %s: %w", d.Digest, fs.ErrNotExist)
}

// compressed sends a layer as gzip that we make: into a file first, since a registry wants to know the digest, and a broken
// transfer has to begin anew.
func (p *pusher) compressed(ctx context.Context, j *pushJob, id string) error {
	p.rep.tell(Event{ID: id, Status: "Compressing"})
	f, err := p.s.temporary()
	if err != nil {
		return err
	}
	defer f.Close()
	tar, err := p.s.openLayer(j.diffID)
	if err != nil {
		return err
	}
	defer tar.Close()
	size, d, err := compress(ctx, f, tar, strings.HasSuffix(j.desc.MediaType, "gzip"))
	if err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	if d == j.desc.Digest {
		j.sent = j.desc
	} else {
		j.sent = v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: d, Size: size}
	}
	if d != j.desc.Digest && strings.HasPrefix(j.desc.MediaType, "application/vnd.docker.") { // a foreign one, too
		j.sent.MediaType = dockerLayer + ".gzip"
	}
	if has, err := p.has(ctx, j.sent, id); err != nil || has {
		return err
	}
	return p.upload(ctx, j.sent, id, func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, 0, size)), nil
	})
}

// compress writes gzip whose bytes depend on nothing but what it reads. As Docker's builders do it, it may be the very layer that
// was pulled, and takes two or three times as long.
func compress(ctx context.Context, w io.Writer, r io.Reader, asDocker bool) (int64, digest.Digest, error) {
	sum := digest.SHA256.Digester()
	out := &tally{w: io.MultiWriter(w, sum.Hash())}
	var z io.WriteCloser = fast.NewWriter(out)
	if asDocker {
		z = gzip.NewWriter(out)
	}
	if _, err := io.Copy(z, &ctxReader{ctx, r}); err != nil {
		return 0, "", err
	}
	if err := z.Close(); err != nil {
		return 0, "", err
	}
	return out.n, sum.Digest(), nil
}

// A tally counts what is written.
type tally struct {
	w io.Writer
	n int64
}

func (t *tally) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	t.n += int64(n)
	return n, err
}

// A ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// temporary is a file without a name, which ends with its descriptor.
func (s *Store) temporary() (*os.File, error) {
	f, err := os.CreateTemp(s.path("tmp"), "new-*")
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) { // a sweep may have been faster
		f.Close()
		return nil, fmt.Errorf("images: %w", err)
	}
	return f, nil
}

// has asks whether the repository has a blob, and tries to get it from another of the same registry.
func (p *pusher) has(ctx context.Context, d v1.Descriptor, id string) (bool, error) {
	there, err := p.to.hasBlob(ctx, d)
	if err != nil {
		return false, err
	}
	if there {
		p.rep.tell(Event{ID: id, Status: "Layer already exists"})
		return true, nil
	}
	for _, from := range p.near[d.Digest] {
		if ok, err := p.to.mount(ctx, d, from); err != nil {
			return false, err
		} else if ok {
			p.rep.tell(Event{ID: id, Status: "Mounted from " + from})
			return true, nil
		}
	}
	return false, nil
}

func (p *pusher) upload(ctx context.Context, d v1.Descriptor, id string, open func() (io.ReadCloser, error)) error {
	err := p.to.upload(ctx, d, func() (io.ReadCloser, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		m := &meter{r: r, rep: p.rep, e: Event{ID: id, Status: "Pushing", Total: d.Size}}
		return struct {
			io.Reader
			io.Closer
		}{m, r}, nil
	})
	if err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	p.rep.tell(Event{ID: id, Status: "Pushed"})
	return nil
}

// bytes sends a blob that is in memory.
func (p *pusher) bytes(ctx context.Context, d v1.Descriptor, raw []byte) error {
	if there, err := p.to.hasBlob(ctx, d); err != nil || there {
		return err
	}
	return p.to.upload(ctx, d, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(raw))), nil })
}

// put sends a manifest or an index.
func (p *pusher) put(ctx context.Context, raw []byte, d v1.Descriptor, id string) error {
	return p.to.putDocument(ctx, raw, d, id)
}

func (r *remote) hasBlob(ctx context.Context, d v1.Descriptor) (bool, error) {
	resp, err := r.do(ctx, &request{method: http.MethodHead, path: r.repo + "/blobs/" + string(d.Digest), scope: "pull,push", ok: []int{200, 404}})
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK, nil
}

// mount asks the registry to take a blob from another of its repositories. That it does not is no error.
func (r *remote) mount(ctx context.Context, d v1.Descriptor, from string) (bool, error) {
	query := url.Values{"mount": {string(d.Digest)}, "from": {from}}
	resp, err := r.do(ctx, &request{
		method: http.MethodPost, path: r.repo + "/blobs/uploads/", query: query.Encode(), scope: "pull,push",
		also: "repository:" + from + ":pull", ok: []int{201, 202, 401, 403, 404}, once: true,
	})
	var answer *RegistryError
	if errors.As(err, &answer) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusAccepted { // it began an upload instead: that is not to be left lying, unless somebody else were told to remove something
		if u, err := r.location(resp); err == nil && r.owns(u) {
			if resp, err := r.do(ctx, &request{method: http.MethodDelete, url: u, scope: "pull,push", ok: []int{204, 200, 202}, once: true}); err == nil {
				resp.Body.Close()
			}
		}
	}
	return resp.StatusCode == http.StatusCreated, nil
}

// location reads where an upload goes on. The registry itself may be named with a scheme that a proxy hides: the one
// that we used is right then. Elsewhere nothing that is for the registry is sent, by [remote.ask].
func (r *remote) location(resp *http.Response) (*url.URL, error) {
	u, err := r.base.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" || u.Host == "" {
		return nil, final("registry %s: an upload to nowhere: %q", r.host, printable(resp.Header.Get("Location")))
	}
	if strings.EqualFold(u.Host, r.base.Host) {
		u.Scheme = r.base.Scheme
	}
	return u, r.allowed(u)
}

// upload sends a blob in one piece. A broken transfer begins anew: few registries can go on in the middle.
func (r *remote) upload(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	p := r.net.patience()
	for try := 1; ; try++ {
		err := r.uploadOnce(ctx, d, open)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var local *fs.PathError
		if try >= p.tries || !retryable(err) || r.hopeless(try, err) || errors.As(err, &local) {
			return err
		}
		if err := r.pause(ctx, try, err); err != nil {
			return err
		}
	}
}

func (r *remote) uploadOnce(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	resp, err := r.do(ctx, &request{method: http.MethodPost, path: r.repo + "/blobs/uploads/", scope: "pull,push", ok: []int{202}})
	if err != nil {
		return err
	}
	resp.Body.Close()
	u, err := r.location(resp)
	if err != nil {
		return err
	}
	query := u.Query()
	query.Set("digest", string(d.Digest))
	u.RawQuery = query.Encode()
	resp, err = r.do(ctx, &request{
		method: http.MethodPut, url: u, scope: "pull,push", ok: []int{201}, once: true, size: d.Size, body: open,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
	})
	if err != nil {
		return err
	}
	resp.Body.Close()
	return nil
}

func (r *remote) putDocument(ctx context.Context, raw []byte, d v1.Descriptor, id string) error {
	resp, err := r.do(ctx, &request{
		method: http.MethodPut, path: r.repo + "/manifests/" + id, scope: "pull,push", ok: []int{200, 201, 202}, size: int64(len(raw)),
		body:   func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(raw))), nil },
		header: http.Header{"Content-Type": {d.MediaType}},
	})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if got := digest.Digest(resp.Header.Get("Docker-Content-Digest")); validDigest(got) == nil && got.Algorithm() == d.Digest.Algorithm() && got != d.Digest {
		return fmt.Errorf("registry %s: manifest %s: it says that it has %s", r.host, d.Digest, got)
	}
	return nil
}
