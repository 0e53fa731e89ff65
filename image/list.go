package image

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Filters are Docker's: each key with the values that were given for it.
type Filters map[string][]string

// ListOptions say which images List gives.
type ListOptions struct {
	All     bool // of Docker's flag: there are no intermediate images here, so it changes nothing
	Filters Filters
	Shared  bool // work out SharedSize
}

// A Summary is a line of a list. Sizes are in bytes.
type Summary struct {
	Image
	Size       int64
	SharedSize int64 // of layers that other images have, too; -1 unless asked for
	Variants   []Variant
}

// A Variant is what an index has for one platform.
type Variant struct {
	Descriptor v1.Descriptor
	Platform   Platform
	Available  bool // its layers are here
	Size       int64
}

// RepoTags are the names with a tag, as people type them.
func (i Image) RepoTags() []string {
	list := []string{}
	for _, n := range i.Names {
		if n.Tag != "" {
			list = append(list, Reference{Domain: n.Domain, Path: n.Path, Tag: n.Tag}.Familiar())
		}
	}
	return list
}

// RepoDigests are the names by digest: by what each of them leads to, and where an image went out with another manifest, by that alone, unless
// it came from there: nobody would find it by the digest that it has here.
func (i Image) RepoDigests() []string {
	list := []string{}
	add := func(r Reference) {
		if s := r.Familiar(); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	for _, n := range i.Names {
		other := slices.ContainsFunc(i.pushed, func(p string) bool { return strings.HasPrefix(p, n.Name()+"@") })
		if (!other || n.Name() == i.origin) && !slices.Contains(i.plain, n) {
			add(Reference{Domain: n.Domain, Path: n.Path, Digest: i.Target.Digest})
		}
	}
	for _, p := range i.pushed {
		if r, err := ParseReference(p); err == nil {
			add(r)
		}
	}
	slices.Sort(list)
	return list
}

// List gives the images of the store, the newest first. Filters are Docker's: dangling, label, before, since, until, reference.
func (s *Store) List(ctx context.Context, o ListOptions) ([]Summary, error) {
	images, err := s.images()
	if err != nil {
		return nil, err
	}
	keep, err := o.Filters.compile(images)
	if err != nil {
		return nil, err
	}
	var users map[digest.Digest]int
	if o.Shared {
		users = layerUsers(images)
	}
	list := []Summary{}
	for _, i := range images {
		i, ok := keep(i)
		if !ok {
			continue
		}
		sum := Summary{Image: i, Size: s.sizeOf(i), SharedSize: -1}
		if o.Shared {
			sum.SharedSize = s.sharedSize(i, users)
		}
		if sum.Variants, err = s.variants(i.Target); err != nil {
			return nil, err
		}
		list = append(list, sum)
	}
	slices.SortStableFunc(list, func(a, b Summary) int { return created(b.Image).Compare(created(a.Image)) })
	return list, ctx.Err()
}

// layerUsers counts of each layer the images that have it; one that is there by two manifests is one.
func layerUsers(images []Image) map[digest.Digest]int {
	users, known := map[digest.Digest]int{}, map[digest.Digest]bool{}
	for _, i := range images {
		if known[i.ID] {
			continue
		}
		known[i.ID] = true
		for _, id := range slices.Compact(slices.Sorted(slices.Values(i.Chain()))) {
			users[id]++
		}
	}
	return users
}

// sharedSize is how many bytes an image has of layers that others have, too.
func (s *Store) sharedSize(i Image, users map[digest.Digest]int) (bytes int64) {
	for _, id := range i.Chain() {
		if size, err := s.o.Layers.Stat(id); err == nil && users[id] > 1 {
			bytes += size
		}
	}
	return bytes
}

// Count is how many images there are. One that went out with another manifest, and came back beside itself, is one.
func (s *Store) Count() (int, error) {
	images, err := s.images()
	ids := map[digest.Digest]bool{}
	for _, i := range images {
		ids[i.ID] = true
	}
	return len(ids), err
}

func created(i Image) time.Time {
	if i.Config.Created == nil {
		return time.Time{}
	}
	return *i.Config.Created
}

// variants lists what a target has for each platform, and whether it is here.
func (s *Store) variants(target v1.Descriptor) ([]Variant, error) {
	doc, err := s.readDocument(target)
	if err != nil || doc.index == nil {
		return nil, err
	}
	var list []Variant
	for _, d := range doc.index.Manifests {
		if attestation(d) || !isManifest(d.MediaType) {
			continue
		}
		v := Variant{Descriptor: d}
		if d.Platform != nil {
			v.Platform = normal(*d.Platform)
		}
		if child, err := s.readDocument(d); err == nil {
			if img, err := s.imageOf(target, child); err == nil {
				v.Available, v.Size, v.Platform = len(s.missing(img)) == 0, s.sizeOf(img), img.Platform
			}
		}
		list = append(list, v)
	}
	return list, nil
}

// missing lists the layers of an image that are not here.
func (s *Store) missing(i Image) []digest.Digest {
	var list []digest.Digest
	for _, id := range i.Chain() {
		if _, err := s.o.Layers.Stat(id); err != nil {
			list = append(list, id)
		}
	}
	return list
}

// Check refuses keys that are not in the list, and says what is.
func (f Filters) Check(keys ...string) error {
	for _, key := range slices.Sorted(maps.Keys(f)) {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("invalid filter '%s': there are %s", key, strings.Join(keys, ", "))
		}
	}
	return nil
}

// compile checks filters, and gives a function that says whether an image passes. It may take names from an image: those
// that a reference filter does not match.
func (f Filters) compile(images []Image) (func(Image) (Image, bool), error) {
	if err := f.Check("before", "dangling", "label", "label!", "reference", "since", "until"); err != nil {
		return nil, err
	}
	var tests []func(Image) bool
	for key, values := range f {
		for _, value := range values {
			if key == "reference" {
				if _, err := path.Match(value, ""); err != nil {
					return nil, fmt.Errorf("invalid filter 'reference=%s': %w", value, err)
				}
				continue
			}
			test, err := filter(images, key, value)
			if err != nil {
				return nil, err
			}
			tests = append(tests, test)
		}
	}
	patterns := f["reference"]
	return func(i Image) (Image, bool) {
		for _, test := range tests {
			if !test(i) {
				return i, false
			}
		}
		if patterns != nil {
			i.Names = slices.DeleteFunc(slices.Clone(i.Names), func(r Reference) bool { return !matches(patterns, r) })
			return i, len(i.Names) > 0
		}
		return i, true
	}, nil
}

// filter is the test of one filter, which takes nothing from an image.
func filter(images []Image, key, value string) (func(Image) bool, error) {
	switch key {
	case "dangling":
		want, err := truth(key, value)
		if err != nil {
			return nil, err
		}
		return func(i Image) bool { return (len(i.Names) == 0) == want }, nil
	case "label":
		return func(i Image) bool { return hasLabel(i.Config.Config.Labels, value) }, nil
	case "label!":
		return func(i Image) bool { return !hasLabel(i.Config.Config.Labels, value) }, nil
	case "until":
		limit, err := parseTime(value, time.Now())
		if err != nil {
			return nil, fmt.Errorf("invalid filter 'until=%s': want a time or a duration", value)
		}
		return func(i Image) bool { return created(i).Before(limit) }, nil
	}
	other, err := find(images, value) // of before and since
	if err != nil {
		return nil, err
	}
	if key == "before" {
		return func(i Image) bool { return created(i).Before(created(other)) }, nil
	}
	return func(i Image) bool { return created(i).After(created(other)) }, nil
}

// matches as Docker does: the pattern is for the familiar name, with or without its tag. One that spells out its first part may also be for the
// whole name: docker.io/library/* is, and */*/* is for those that are written with two slashes.
func matches(patterns []string, r Reference) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		names := []string{r.Familiar(), r.FamiliarName()}
		if first, _, _ := strings.Cut(p, "/"); !strings.ContainsAny(first, `*?[\\`) {
			names = append(names, r.String(), r.Name())
		}
		return slices.ContainsFunc(names, func(s string) bool {
			ok, _ := path.Match(p, s)
			return ok
		})
	})
}

func hasLabel(labels map[string]string, want string) bool {
	key, value, both := strings.Cut(want, "=")
	got, ok := labels[key]
	return ok && (!both || got == value)
}

// Truth is the value of a key that is true or false, the last one if there are several, nil without one.
func (f Filters) Truth(key string) (*bool, error) {
	var last *bool
	for _, value := range f[key] {
		b, err := truth(key, value)
		if err != nil {
			return nil, err
		}
		last = &b
	}
	return last, nil
}

// truth reads a value in Docker's words for it, and no others: what "False" takes away here is not to be what Docker would have kept.
func truth(key, value string) (bool, error) {
	switch value {
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, fmt.Errorf("invalid filter '%s=%s': it is true or false", key, value)
}

// parseTime reads a time as Docker's filters have it: RFC 3339 or a part of it, Unix seconds, or how long ago.
func parseTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && s != "0" { // which are seconds
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	var sec int64
	if n, err := fmt.Sscanf(s, "%d", &sec); n == 1 && err == nil {
		return time.Unix(sec, 0), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time", s)
}

// An Inspection is what Docker's image inspect prints. The fields have the names that Docker's type has in Go, which templates are written with; those without a
// value that nobody has set for years are there for templates alone.
type Inspection struct {
	ID              string        `json:"Id"`
	RepoTags        []string      `json:"RepoTags"`
	RepoDigests     []string      `json:"RepoDigests"`
	Parent          string        `json:"Parent"`
	Comment         string        `json:"Comment"`
	Created         string        `json:"Created"`
	Container       string        `json:"Container,omitempty"`
	ContainerConfig *struct{}     `json:"ContainerConfig,omitempty"`
	DockerVersion   string        `json:"DockerVersion"`
	Author          string        `json:"Author"`
	Architecture    string        `json:"Architecture"`
	Variant         string        `json:"Variant,omitempty"`
	Os              string        `json:"Os"`
	OsVersion       string        `json:"OsVersion,omitempty"`
	Size            int64         `json:"Size"`
	VirtualSize     int64         `json:"VirtualSize,omitempty"`
	GraphDriver     GraphDriver   `json:"GraphDriver"`
	RootFS          RootFS        `json:"RootFS"`
	Metadata        Metadata      `json:"Metadata"`
	Descriptor      v1.Descriptor `json:"Descriptor"`
	Config          any           `json:"Config"`
}

// GraphDriver is a part of an [Inspection]: how a container's root file system is made of the image. There are no paths in it, as with containers.
type GraphDriver struct {
	Data map[string]string
	Name string
}

// RootFS is a part of an [Inspection].
type RootFS struct {
	Type   string
	Layers []digest.Digest `json:",omitempty"`
}

// Metadata is a part of an [Inspection].
type Metadata struct{ LastTagTime time.Time }

// Inspect tells all of an image.
func (s *Store) Inspect(ref string, p Platform) (Inspection, error) {
	i, err := s.Get(ref, p)
	if err != nil {
		return Inspection{}, err
	}
	c := i.Config
	out := Inspection{
		ID: i.ID.String(), Parent: i.parent, RepoTags: i.RepoTags(), RepoDigests: i.RepoDigests(), Author: c.Author,
		Architecture: c.Architecture, Variant: c.Variant, Os: c.OS, OsVersion: c.OSVersion, Size: s.sizeOf(i), GraphDriver: GraphDriver{Name: "overlay"},
		RootFS: RootFS{Type: "layers", Layers: i.Chain()}, Metadata: Metadata{i.Tagged}, Descriptor: i.Target, Config: c.Config,
	}
	if c.Created != nil {
		out.Created = c.Created.Format(time.RFC3339Nano)
	}
	if n := len(c.History); n > 0 {
		out.Comment = c.History[n-1].Comment
	}
	return out, nil
}

// A HistoryLine is one line of an image's history: the newest first.
type HistoryLine struct {
	ID        string `json:"Id"`
	Created   int64  // Unix seconds
	CreatedBy string
	Tags      []string
	Size      int64 // of its layer's tar, in bytes
	Comment   string
}

// History tells how an image came about, as far as its config says so.
func (s *Store) History(ref string, p Platform) ([]HistoryLine, error) {
	i, err := s.Get(ref, p)
	if err != nil {
		return nil, err
	}
	history := i.Config.History
	if len(history) == 0 { // layers that nobody described are still there
		history = make([]v1.History, len(i.Chain()))
	}
	var list []HistoryLine
	next := 0
	for _, h := range history {
		line := HistoryLine{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			line.Created = h.Created.Unix()
		}
		if !h.EmptyLayer && next < len(i.Chain()) {
			line.Size, _ = s.o.Layers.Stat(i.Chain()[next])
			next++
		}
		list = append(list, line)
	}
	s.nameLines(list, i)
	slices.Reverse(list)
	return list, nil
}

// nameLines gives the last line the image's id, and others those of the images that it was made on top of here, as far as they are here still.
func (s *Store) nameLines(list []HistoryLine, i Image) {
	for n := len(list); n > 0; {
		list[n-1].ID, list[n-1].Tags = i.ID.String(), i.RepoTags()
		below, err := s.find(i.parent)
		if i.parent == "" || err != nil || max(1, len(below.Config.History)) >= n {
			return
		}
		i, n = below, len(below.Config.History)
	}
}

// Tag gives an image one more name. The name may not have a digest: that cannot be chosen.
func (s *Store) Tag(ctx context.Context, ref, name string) error {
	r, err := ParseReference(name)
	if err != nil {
		return err
	}
	if r.Digest != "" {
		return fmt.Errorf("tag %s: refusing to create a tag with a digest reference", name)
	}
	if r.FamiliarName() == string(digest.SHA256) { // sha256:abc is an id, wherever images are named
		return fmt.Errorf("tag %s: refusing to create an ambiguous tag using digest algorithm as name", name)
	}
	release, err := s.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	i, err := s.Get(ref, Platform{})
	if err != nil {
		return err
	}
	if err := s.name(ctx, i.Target, r.Tagged().String()); err != nil {
		return err
	}
	s.tell("tag", i.ID.String(), r.Tagged().Familiar(), i.labels())
	return nil
}

// name makes names lead to a target; without a name it is kept all the same.
func (s *Store) name(ctx context.Context, target v1.Descriptor, names ...string) error {
	return s.dueIf(s.change(ctx, func(list []root) ([]root, error) {
		return setNames(list, target, time.Now(), names...), nil
	}))
}
