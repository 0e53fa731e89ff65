package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// A ManifestEntry is a manifest of a registry, as a [ManifestList] has it.
type ManifestEntry struct {
	Ref        Reference
	Descriptor v1.Descriptor // with the platform that it is for
	Raw        []byte
}

// ManifestOptions say how manifests are read and sent.
type ManifestOptions struct {
	Insecure    bool // TLS is not verified, and plain HTTP will do
	Credentials *Credentials
}

// A NoManifestError is a name that leads to no manifest.
type NoManifestError struct {
	Name  string
	Cause error // of the registry; nil for a list that is none here
}

func (e *NoManifestError) Error() string {
	if e.Cause == nil {
		return "No such manifest: " + e.Name
	}
	return fmt.Sprintf("no such manifest: %s: %v", e.Name, e.Cause)
}

func (e *NoManifestError) Unwrap() error { return e.Cause }

// A RemoteManifest is what a registry has under a name.
type RemoteManifest struct {
	Raw     []byte
	Index   bool            // Raw is one
	Entries []ManifestEntry // the manifest that Raw is, or those that the index names
}

// Manifest reads what a registry has under a name, and keeps nothing. Of an index it reads each manifest only with deep.
func (s *Store) Manifest(ctx context.Context, name string, deep bool, o ManifestOptions) (m RemoteManifest, err error) {
	r, err := ParseReference(name)
	if err != nil {
		return m, err
	}
	r = r.Tagged()
	p, err := s.manifests(r, o)
	if err != nil {
		return m, err
	}
	defer s.net.close()
	doc, err := p.document(ctx, r.identifier(), nil)
	var answer *RegistryError
	if errors.As(err, &answer) && answer.Status == 404 {
		err = &NoManifestError{r.Familiar(), err}
	}
	if err != nil {
		return m, err
	}
	m.Raw, m.Index = doc.raw, doc.manifest == nil
	if !m.Index {
		e, err := p.entry(ctx, r, doc)
		m.Entries = []ManifestEntry{e}
		return m, err
	}
	for _, d := range doc.index.Manifests {
		if !deep || !isManifest(d.MediaType) {
			continue
		}
		child, err := p.document(ctx, string(d.Digest), &d)
		if err != nil {
			return m, err
		}
		at := r
		at.Digest = d.Digest
		m.Entries = append(m.Entries, ManifestEntry{at, d, child.raw})
	}
	return m, nil
}

func (s *Store) manifests(r Reference, o ManifestOptions) (*puller, error) {
	p, err := s.puller(r, PullOptions{Credentials: o.Credentials})
	if err == nil && o.Insecure {
		p.sources[len(p.sources)-1].tls = false
	}
	return p, err
}

// entry completes a manifest by the platform that its config has; an artifact has none.
func (p *puller) entry(ctx context.Context, r Reference, doc *document) (ManifestEntry, error) {
	e := ManifestEntry{Ref: r, Descriptor: doc.desc, Raw: doc.raw}
	e.Descriptor.Platform = &Platform{}
	if !isImage(doc.manifest) {
		return e, nil
	}
	raw, err := p.config(ctx, doc.manifest.Config)
	if err != nil {
		return e, err
	}
	c, err := parseConfig(raw, len(doc.manifest.Layers))
	if err == nil {
		*e.Descriptor.Platform = Platform{Architecture: c.Architecture, OS: c.OS, OSVersion: c.OSVersion, OSFeatures: c.OSFeatures, Variant: c.Variant}
	}
	return e, err
}

// A ManifestList is an index in the making, of manifests that registries have: what `docker manifest create` makes. It is kept beside the images,
// and is no image.
type ManifestList struct {
	Name    Reference
	Entries []ManifestEntry
}

// Index is the index as it will be pushed. The bytes are those that Docker makes.
func (l ManifestList) Index() ([]byte, v1.Descriptor, error) {
	type descriptor struct {
		MediaType string        `json:"mediaType"`
		Size      int64         `json:"size"`
		Digest    digest.Digest `json:"digest"`
		Platform  *Platform     `json:"platform"`
	}
	index := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, dockerIndex, []descriptor{}}
	for _, e := range l.Entries {
		index.Manifests = append(index.Manifests, descriptor{e.Descriptor.MediaType, e.Descriptor.Size, e.Descriptor.Digest, e.Descriptor.Platform})
	}
	if len(l.Entries) > 0 && l.Entries[0].Descriptor.MediaType == v1.MediaTypeImageManifest {
		index.MediaType = v1.MediaTypeImageIndex
	}
	raw, err := json.MarshalIndent(index, "", "   ")
	return raw, v1.Descriptor{MediaType: index.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, err
}

// listFile is where a list is kept: under a digest, as a name may be longer than a file's.
func (s *Store) listFile(r Reference) string {
	return "lists/" + digest.FromString(r.String()).Encoded() + ".json"
}

// ManifestList gives a list that was made here.
func (s *Store) ManifestList(name string) (ManifestList, error) {
	r, err := ParseReference(name)
	if err != nil {
		return ManifestList{}, err
	}
	return s.manifestList(r.Tagged())
}

func (s *Store) manifestList(r Reference) (ManifestList, error) {
	var l ManifestList
	f, err := os.OpenFile(s.path(s.listFile(r)), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return l, &NoManifestError{Name: r.Familiar()}
	}
	if err != nil {
		return l, fmt.Errorf("manifest list %s: %w", r.Familiar(), err)
	}
	defer f.Close()
	if err := json.NewDecoder(f).Decode(&l); err != nil {
		return l, fmt.Errorf("manifest list %s: %w", r.Familiar(), err)
	}
	return l, nil
}

// changeList replaces a list by what edit makes of it; found tells whether there was one.
func (s *Store) changeList(ctx context.Context, r Reference, edit func(l *ManifestList, found bool) error) error {
	unlock, err := s.lock(ctx, "lock", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	l, err := s.manifestList(r)
	var none *NoManifestError
	if err != nil && !errors.As(err, &none) {
		return err
	}
	found := err == nil
	l.Name = r
	if err := edit(&l, found); err != nil {
		return err
	}
	order := strings.NewReplacer(":", "-", "/", "_") // Docker's names of files, by which it sorts
	slices.SortFunc(l.Entries, func(a, b ManifestEntry) int {
		return strings.Compare(order.Replace(a.Ref.String()), order.Replace(b.Ref.String()))
	})
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.path("lists"), 0o700); err != nil {
		return fmt.Errorf("images: %w", err)
	}
	return s.replace(s.listFile(r), raw)
}

// CreateList makes a list of manifests that registries have, or with amend adds them to one that is there. All are read first: on error the list
// is as it was. It gives the name, whole.
func (s *Store) CreateList(ctx context.Context, name string, refs []string, amend bool, o ManifestOptions) (string, error) {
	r, err := ParseReference(name)
	if err != nil {
		return "", err
	}
	if r.Digest != "" {
		return "", &ReferenceError{name, "a list's name has no digest"}
	}
	r = r.Tagged()
	known := func(_ *ManifestList, found bool) error {
		if found && !amend {
			return errors.New("refusing to amend an existing manifest list with no --amend flag")
		}
		return nil
	}
	if l, err := s.manifestList(r); err == nil {
		if err := known(&l, true); err != nil { // before anybody is asked
			return "", err
		}
	}
	var added []ManifestEntry
	for _, ref := range refs {
		m, err := s.Manifest(ctx, ref, false, o)
		if err == nil && m.Index {
			err = fmt.Errorf("%s is a manifest list", ref)
		}
		if err != nil {
			return "", err
		}
		added = append(added, m.Entries[0])
	}
	return r.String(), s.changeList(ctx, r, func(l *ManifestList, found bool) error {
		if err := known(l, found); err != nil {
			return err
		}
		for _, e := range added {
			l.Entries = append(slices.DeleteFunc(l.Entries, func(old ManifestEntry) bool { return old.Ref == e.Ref }), e)
		}
		return nil
	})
}

// Entry finds a manifest of the list by the name that it was added with.
func (l ManifestList) Entry(ref string) (int, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(l.Entries, func(e ManifestEntry) bool { return e.Ref == r.Tagged() })
	if i < 0 {
		return 0, fmt.Errorf("manifest for image %s does not exist in %s", ref, l.Name.Familiar())
	}
	return i, nil
}

// AnnotateList changes the platform that a list has for a manifest: fields that are empty stay.
func (s *Store) AnnotateList(ctx context.Context, name, ref string, p Platform) error {
	r, err := ParseReference(name)
	if err != nil {
		return err
	}
	return s.changeList(ctx, r.Tagged(), func(l *ManifestList, _ bool) error {
		i, err := l.Entry(ref)
		if err != nil {
			return err
		}
		to := l.Entries[i].Descriptor.Platform
		for _, f := range []struct {
			to   *string
			from string
		}{{&to.OS, p.OS}, {&to.Architecture, p.Architecture}, {&to.Variant, p.Variant}, {&to.OSVersion, p.OSVersion}} {
			if f.from != "" {
				*f.to = f.from
			}
		}
		for _, f := range p.OSFeatures {
			if !slices.Contains(to.OSFeatures, f) {
				to.OSFeatures = append(to.OSFeatures, f)
			}
		}
		if !knownPlatform(*to) {
			return fmt.Errorf("manifest entry for image has unsupported os/arch combination: %s/%s", to.OS, to.Architecture)
		}
		return nil
	})
}

// knownPlatform reports whether anybody has programs for an operating system and an architecture: a name that is mistyped would be pulled by nobody.
func knownPlatform(p Platform) bool {
	systems := "aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris wasip1 windows"
	architectures := "386 amd64 arm arm64 loong64 mips mipsle mips64 mips64le ppc64 ppc64le riscv64 s390x wasm"
	return slices.Contains(strings.Fields(systems), p.OS) && slices.Contains(strings.Fields(architectures), p.Architecture)
}

// RemoveList forgets a list.
func (s *Store) RemoveList(ctx context.Context, name string) error {
	r, err := ParseReference(name)
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx, "lock", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	err = os.Remove(s.path(s.listFile(r.Tagged())))
	if errors.Is(err, fs.ErrNotExist) {
		return &NoManifestError{Name: r.Tagged().Familiar()}
	}
	return err
}

// PushList sends a list to the registry of its name, and before it the manifests that it has from other repositories there, with all below them.
// pushed is told of each of those.
func (s *Store) PushList(ctx context.Context, name string, o ManifestOptions, pushed func(Reference, digest.Digest)) (digest.Digest, error) {
	l, err := s.ManifestList(name)
	if err != nil {
		return "", err
	}
	raw, d, err := l.Index()
	if err != nil {
		return "", err
	}
	for _, e := range l.Entries {
		if e.Ref.Domain != l.Name.Domain {
			return "", fmt.Errorf("cannot use source images from a different registry than the target image: %s != %s", e.Ref.Domain, l.Name.Domain)
		}
		if p := e.Descriptor.Platform; !knownPlatform(*p) {
			return "", fmt.Errorf("manifest %s must have an OS and Architecture to be pushed to a registry: `kakuri manifest annotate` gives it some", e.Ref.Familiar())
		}
	}
	to, err := s.remote(l.Name, o.Credentials)
	if err != nil {
		return "", err
	}
	defer s.net.close()
	to.tls = to.tls && !o.Insecure
	for _, e := range l.Entries {
		if e.Ref.Path == l.Name.Path {
			continue
		}
		if err := s.copyManifest(ctx, to, e, o); err != nil {
			return "", fmt.Errorf("push %s: %s: %w", l.Name.Familiar(), e.Ref.Familiar(), err)
		}
		pushed(Reference{Domain: l.Name.Domain, Path: l.Name.Path, Digest: e.Descriptor.Digest}, e.Descriptor.Digest)
	}
	if err := to.putDocument(ctx, raw, d, l.Name.Tag); err != nil {
		return "", fmt.Errorf("push %s: %w", l.Name.Familiar(), err)
	}
	return d.Digest, nil
}

// copyManifest brings a manifest from one repository of a registry to another: blobs by name where the registry does that, else by way of us.
func (s *Store) copyManifest(ctx context.Context, to *remote, e ManifestEntry, o ManifestOptions) error {
	doc, err := parseDocument(e.Raw, e.Descriptor.MediaType)
	if err != nil {
		return err
	}
	from, err := s.manifests(e.Ref, o)
	if err != nil {
		return err
	}
	for _, d := range append([]v1.Descriptor{doc.manifest.Config}, doc.manifest.Layers...) {
		if len(d.URLs) > 0 { // it is somewhere else, and stays there
			continue
		}
		there, err := to.hasBlob(ctx, d)
		if err == nil && !there {
			there, err = to.mount(ctx, d, e.Ref.Path)
		}
		if err == nil && !there {
			err = s.copyBlob(ctx, to, from.sources, d)
		}
		if err != nil {
			return err
		}
	}
	return to.putDocument(ctx, e.Raw, doc.desc, string(e.Descriptor.Digest))
}

// copyBlob fetches a blob whole and then sends it: there are registries that give none while they take one.
func (s *Store) copyBlob(ctx context.Context, to *remote, from []*remote, d v1.Descriptor) error {
	f, err := s.temporary()
	if err != nil {
		return err
	}
	defer f.Close()
	r := newBlobReader(ctx, from, d)
	defer r.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	return to.upload(ctx, d, func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(f, 0, d.Size)), nil })
}
