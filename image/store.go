package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Options say where a store is and how it speaks to registries. The zero value of all but Dir and Layers is
// what a user expects.
type Options struct {
	Dir    string // an OCI image layout; made if missing
	Layers Layers

	// Settings is nil for those of the usual files, see [ReadSettings].
	Settings *Settings
	// DockerConfig is the directory of Docker's config.json; empty is $DOCKER_CONFIG, else ~/.docker.
	DockerConfig string
	// Verify is asked about every image before any of its layers is fetched; nil is everybody's image.
	Verify Verifier
	// InUse lists the diffIDs that containers need, so that a sweep leaves them though no image has them.
	InUse func() ([]digest.Digest, error)
	// Warn, when set, is told in a line which files of settings are there and do not count, once.
	Warn func(text string)
	// UserAgent is told to registries.
	UserAgent string
	// Tell is told what was done to an image, in the words of Docker's events: pull, push, tag, untag, delete, load, save, import. id is the
	// image's, or for pull and push the name that the registry knows, and labels are those of its config, but for delete; nil is nobody.
	Tell func(action, id, name string, labels map[string]string)
}

// A Store is a directory of images. Its methods may be called by many goroutines.
//
// Names are in index.json, which is replaced as a whole under the lock file "lock". Whoever adds blobs holds the
// file "adding" locked (shared) until a name leads to them; a sweep holds it alone.
type Store struct {
	o   Options
	dir string
	net *network
}

// A NotFoundError is a reference that no image of the store has.
type NotFoundError struct{ Ref string }

// Error has the name with the tag that is meant, as Docker has it.
func (e *NotFoundError) Error() string {
	name := e.Ref
	if r, err := ParseReference(name); err == nil {
		name = r.Tagged().Familiar()
	}
	return "No such image: " + name
}

// A DamagedError is a file of the store whose bytes are not those of its digest.
type DamagedError struct {
	What   string // manifest, config, layer
	Digest digest.Digest
	Why    string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s %s is damaged: %s: pull or load the image again", e.What, e.Digest, e.Why)
}

// Open opens a store, and makes it where it is not there.
func Open(o Options) (*Store, error) {
	s := &Store{o: o, dir: o.Dir}
	for _, dir := range []string{"", "blobs", "blobs/sha256", "tmp"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("images: %w", err)
		}
	}
	if _, err := os.Lstat(s.path("oci-layout")); errors.Is(err, fs.ErrNotExist) {
		unlock, err := s.lock(context.Background(), "adding", unix.LOCK_SH) // no sweep takes the file meanwhile
		if err != nil {
			return nil, err
		}
		defer unlock()
		raw, _ := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
		if err := s.replace("oci-layout", raw); err != nil {
			return nil, err
		}
	}
	s.net = &network{o: &s.o}
	return s, nil
}

func (s *Store) tell(action, id, name string, labels map[string]string) {
	if s.o.Tell != nil {
		s.o.Tell(action, id, name, labels)
	}
}

// labels are those that an image gives its containers.
func (i Image) labels() map[string]string { return i.Config.Config.Labels }

// tellOf tells of an image by its name, or by its id where nobody gave it one.
func (s *Store) tellOf(action string, i Image) {
	name := i.ID.String()
	if len(i.Names) > 0 {
		name = i.Names[0].Familiar()
	}
	s.tell(action, i.ID.String(), name, i.labels())
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// lock takes one of the store's lock files, and gives who unlocks it. With unix.LOCK_NB it gives unix.EWOULDBLOCK where
// another has it.
func (s *Store) lock(ctx context.Context, name string, how int) (unlock func(), err error) {
	f, err := s.lockFile(name)
	if err != nil {
		return nil, err
	}
	if err := flock(ctx, f, how); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func (s *Store) lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	return f, nil
}

// flock takes the lock of an open file, or has it in another way.
func flock(ctx context.Context, f *os.File, how int) (err error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if how&unix.LOCK_NB != 0 || err != unix.EWOULDBLOCK && err != unix.EINTR {
			break
		}
		select { // flock has no wait that a context can end
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
	if err != nil {
		return fmt.Errorf("images: lock %s: %w", filepath.Base(f.Name()), err)
	}
	return nil
}

// Hold keeps sweeps away until release is called: whatever the store has, it still has. Who makes a container
// holds from the moment the image is resolved until the container's record is written.
func (s *Store) Hold(ctx context.Context) (release func(), err error) {
	unlock, err := s.lock(ctx, "adding", unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	return func() {
		unlock()
		if s.isDue() {
			_, _ = s.Sweep(context.WithoutCancel(ctx)) // its error is the next sweep's, too
		}
	}, nil
}

// ready has what was just added ready to be run: nobody's first container waits for it. The caller holds the store.
func (s *Store) ready(ctx context.Context, img Image) error {
	if len(img.Chain()) == 0 {
		return nil
	}
	if err := s.o.Layers.Ready(ctx, img.Chain()); err != nil {
		return fmt.Errorf("the image is here, and cannot be run yet: %w", err)
	}
	return nil
}

const (
	// unswept is a file that is there where a sweep is due: somebody has taken names off and comes to it, or found others adding or sweeping. The last of those who add
	// sweeps instead, or the next one.
	unswept = "unswept"
	// sweeping is what a sweep makes of it, until that has come to its end.
	sweeping = unswept + ".now"
)

// replace writes a file whole: nobody ever sees a part of it, after a power cut either.
func (s *Store) replace(name string, raw []byte) error {
	temp, err := s.written(raw, 0)
	if err == nil {
		defer os.Remove(temp)
		err = errors.Join(os.Rename(temp, s.path(name)), files.SyncDir(filepath.Dir(s.path(name))))
	}
	if err != nil {
		return fmt.Errorf("images: %s: %w", name, err)
	}
	return nil
}

// written is the name of a new file with these bytes, which are on the disk, and with room for so many more where the file system can say so.
func (s *Store) written(raw []byte, room int64) (name string, err error) {
	f, err := os.CreateTemp(s.path("tmp"), "new-*")
	if err != nil {
		return "", err
	}
	if room > 0 {
		unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, int64(len(raw))+room)
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
	}
	return f.Name(), err
}

func (s *Store) blobPath(d digest.Digest) string {
	return s.path("blobs/" + d.Algorithm().String() + "/" + d.Encoded())
}

// putBlob keeps an index, a manifest or a config.
func (s *Store) putBlob(raw []byte, d digest.Digest) error {
	if got, err := s.readBlob("blob", d); err == nil && bytes.Equal(got, raw) {
		return nil
	}
	if err := s.blobDir(d); err != nil {
		return err
	}
	return s.dueIf(s.replace("blobs/"+d.Algorithm().String()+"/"+d.Encoded(), raw))
}

// dueIf says that a sweep is due where something could not be added, which may have left what belongs to it.
func (s *Store) dueIf(err error) error {
	if err != nil {
		_ = s.due() // on a full disk a check tells of it
	}
	return err
}

// blobDir makes the directory of a blob, unless it is that of all the others.
func (s *Store) blobDir(d digest.Digest) error {
	if d.Algorithm() == digest.SHA256 {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.blobPath(d)), 0o700); err != nil {
		return fmt.Errorf("images: %w", err)
	}
	return nil
}

// readBlob reads an index, a manifest or a config, and compares it with its digest.
func (s *Store) readBlob(what string, d digest.Digest) ([]byte, error) {
	if err := validDigest(d); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.blobPath(d), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("images: %s %s: %w", what, d, err)
	}
	defer f.Close()
	raw, err := readLimited(f, maxConfig, what)
	if err != nil {
		return nil, &DamagedError{what, d, err.Error()}
	}
	if d.Algorithm().FromBytes(raw) != d {
		return nil, &DamagedError{what, d, "its bytes have another digest"}
	}
	return raw, nil
}

// readDocument reads an index or a manifest of the store.
func (s *Store) readDocument(d v1.Descriptor) (*document, error) {
	raw, err := s.readBlob("manifest", d.Digest)
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(raw, d.MediaType)
	if err != nil {
		return nil, &DamagedError{"manifest", d.Digest, err.Error()}
	}
	doc.desc.Digest = d.Digest // sha512, perhaps
	return doc, nil
}

// Annotations of a root in index.json.
const (
	refName = v1.AnnotationRefName // the whole name: skopeo finds images by it
	tagTime = "org.kakuri.tagged"  // when the name was given to it, RFC 3339
	pushed  = "org.kakuri.pushed"  // repositories that have it, as NAME@DIGEST with a comma between
	origin  = "org.kakuri.origin"  // the repository that it was pulled from: layers can be had there byte for byte
	parent  = "org.kakuri.parent"  // id of the image that it was made on top of here, by commit
	plain   = "org.kakuri.plain"   // of a tag: the repository's name by digest was removed, and does not follow from it
)

// A root is an entry of index.json: what must be kept, and a name for it. An image that lost its name to another is
// a root without one.
type root = v1.Descriptor

func nameOf(r root) string { return r.Annotations[refName] }

// roots reads index.json. That a file is not there is an empty store, but not where the one before it is: of that nobody may conclude that no image is needed.
func (s *Store) roots() ([]root, error) {
	raw, err := files.Read(s.path("index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(s.path(spare)); err == nil {
			return nil, damagedIndex(errors.New("it is gone"))
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	index, err := parseRoots(raw)
	if err != nil {
		return nil, damagedIndex(err)
	}
	return index.Manifests, nil
}

func damagedIndex(why error) error {
	return fmt.Errorf("images: index.json is damaged: %w: `kakuri system check --repair` makes a new one of the manifests that are there", why)
}

// parseRoots wants all that an index has: of "{}" nobody may conclude that no image is needed any more.
func parseRoots(raw []byte) (index v1.Index, err error) {
	if err := unmarshalUpTo(math.MaxInt, raw, &index); err != nil { // our own: it has as many names as there are
		return index, err
	}
	if index.SchemaVersion != 2 || index.Manifests == nil {
		return index, errors.New("it is no index of images")
	}
	for _, r := range index.Manifests {
		if err := checkDescriptor("an image", r); err != nil {
			return index, err
		}
	}
	return index, nil
}

// change replaces index.json by what edit makes of it.
func (s *Store) change(ctx context.Context, edit func([]root) ([]root, error)) error {
	unlock, err := s.lock(ctx, "lock", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := s.roots()
	if err != nil {
		return err
	}
	list, err := edit(slices.Clone(old))
	if err != nil {
		return err
	}
	return s.writeRoots(s.withoutTwins(list))
}

// withoutTwins drops roots without a name whose image another root has by another manifest, as a push that compressed its layers may have written it: nobody could
// tell the two apart. What is noted of the image the other one has from then on.
func (s *Store) withoutTwins(list []root) []root {
	nameless := func(r root) bool { return nameOf(r) == "" }
	if !slices.ContainsFunc(list, nameless) {
		return list
	}
	ids, heirs := make([]digest.Digest, len(list)), map[digest.Digest]int{} // of an image the root that stays
	for i, r := range list {
		ids[i] = s.idOf(r)
		if at, is := heirs[ids[i]]; ids[i] != "" && (!is || nameless(list[at]) && !nameless(r)) {
			heirs[ids[i]] = i
		}
	}
	stays := func(i int) bool { // an index may have what the other one has not
		at, known := heirs[ids[i]]
		return !known || at == i || !nameless(list[i]) || isIndex(list[i].MediaType)
	}
	list = slices.Clone(list)
	for i, r := range list {
		if p := r.Annotations[parent]; p != "" && !stays(i) {
			inherit(&list[heirs[ids[i]]], parent, p)
		}
	}
	var left []root
	for i, r := range list {
		if stays(i) {
			left = append(left, r)
		}
	}
	return left
}

// inherit gives a root a note, unless it has one of that kind.
func inherit(r *root, note, value string) {
	if r.Annotations[note] != "" {
		return
	}
	r.Annotations = maps.Clone(r.Annotations)
	if r.Annotations == nil {
		r.Annotations = map[string]string{}
	}
	r.Annotations[note] = value
}

// idOf is the id of the image that a root leads to: of an index the one that it is listed as. It is empty where that is damaged.
func (s *Store) idOf(r root) digest.Digest {
	doc, err := s.readDocument(v1.Descriptor{MediaType: r.MediaType, Digest: r.Digest, Size: r.Size})
	if err != nil {
		return ""
	}
	if doc.manifest != nil {
		return doc.manifest.Config.Digest
	}
	i, err := s.first(r)
	if err != nil {
		return ""
	}
	return i.ID
}

func (s *Store) writeRoots(list []root) error {
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: list}
	if list == nil {
		index.Manifests = []root{}
	}
	raw, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return s.replaceIndex(raw)
}

// setNames makes names lead to target; without one it is kept all the same. What they led to before stays, without a name, if nothing else leads to it. All at
// once: an archive may have thousands of names.
func setNames(list []root, target v1.Descriptor, now time.Time, names ...string) []root {
	if len(names) == 0 {
		names = []string{""}
	}
	notes := notesOf(list, target)
	notes[tagTime] = now.UTC().Format(time.RFC3339Nano)
	list, wasPushed := leave(list, names, target)
	set := map[string]bool{}
	for _, n := range names {
		if set[n] {
			continue // it is there twice
		}
		set[n] = true
		r := v1.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size, Annotations: maps.Clone(notes)}
		if n != "" {
			r.Annotations[refName] = n
		}
		if p := wasPushed[n]; p != "" {
			r.Annotations[pushed] = p
		}
		list = append(list, r)
	}
	return pruneBereft(list)
}

// notesOf are those of an image, whatever its name.
func notesOf(list []root, target v1.Descriptor) map[string]string {
	notes := map[string]string{}
	for _, r := range append([]root{target}, list...) {
		for _, note := range []string{origin, parent} {
			if value := r.Annotations[note]; r.Digest == target.Digest && value != "" && notes[note] == "" {
				notes[note] = value
			}
		}
	}
	return notes
}

// leave has names lead nowhere, and gives what the roots of those that led to target already have of pushes.
func leave(list []root, names []string, target v1.Descriptor) (left []root, wasPushed map[string]string) {
	leaving := map[string]bool{}
	for _, n := range names {
		leaving[n] = true
	}
	wasPushed = map[string]string{}
	for _, old := range list {
		name := nameOf(old)
		switch {
		case name == "" && old.Digest == target.Digest:
			// it has a name now, or is noted anew
		case name == "" || !leaving[name]:
			left = append(left, old)
		case old.Digest == target.Digest:
			wasPushed[name] = old.Annotations[pushed]
		default: // the digest a reference has is what it leads to: nothing else can take its place
			left = append(left, unnamed(old))
		}
	}
	return left, wasPushed
}

// unnamed is a root that its name has left.
func unnamed(r root) root {
	r.Annotations = maps.Clone(r.Annotations)
	delete(r.Annotations, refName)
	delete(r.Annotations, pushed)
	return r
}

// pruneBereft drops roots without a name whose digest another root has, too.
func pruneBereft(list []root) []root {
	named := map[digest.Digest]bool{}
	for _, r := range list {
		if nameOf(r) != "" {
			named[r.Digest] = true
		}
	}
	return slices.DeleteFunc(list, func(r root) bool {
		if nameOf(r) != "" {
			return false
		}
		seen := named[r.Digest]
		named[r.Digest] = true
		return seen
	})
}

// An Image is one image of a store, for one platform.
type Image struct {
	ID       digest.Digest // of its config
	Target   v1.Descriptor // what its name leads to: an index, or Manifest
	Manifest v1.Descriptor
	Platform Platform
	Config   ConfigFile
	Layers   []v1.Descriptor // as in the manifest; DiffIDs are Config.RootFS.DiffIDs
	Names    []Reference     // all that lead to it, sorted
	Tagged   time.Time       // the last of them
	pushed   []string
	origin   string
	parent   string      // id of the image that it was made on top of; empty if it was not made here
	plain    []Reference // tags that no name by digest follows from
}

// Chain is the layers' diffIDs, the lowest first.
func (i Image) Chain() []digest.Digest { return i.Config.RootFS.DiffIDs }

// sizeOf is what the layers take as tars, in bytes. Layers that are missing count nothing.
func (s *Store) sizeOf(i Image) int64 {
	var n int64
	for _, id := range i.Chain() {
		size, _ := s.o.Layers.Stat(id)
		n += size
	}
	return n
}

// load reads the image for a platform below a root.
func (s *Store) load(target v1.Descriptor, want Platform) (Image, error) {
	d := target
	for depth := 0; ; depth++ {
		doc, err := s.readDocument(d)
		if err != nil {
			return Image{}, err
		}
		if doc.manifest != nil {
			return s.imageOf(target, doc)
		}
		if depth == maxDepth {
			return Image{}, fmt.Errorf("index %s: indexes more than %d deep", target.Digest, maxDepth)
		}
		child := choose(*s.present(doc.index), want)
		if child == nil {
			return Image{}, &PlatformError{Want: want, Have: platforms(*doc.index), Here: platforms(*s.present(doc.index))}
		}
		d = *child
	}
}

// present is an index with those entries only whose blob the store has: a pull for one platform leaves the others out.
func (s *Store) present(index *v1.Index) *v1.Index {
	here := *index
	here.Manifests = slices.DeleteFunc(slices.Clone(index.Manifests), func(d v1.Descriptor) bool {
		_, err := os.Lstat(s.blobPath(d.Digest))
		return err != nil
	})
	return &here
}

func (s *Store) imageOf(target v1.Descriptor, doc *document) (Image, error) {
	m := doc.manifest
	raw, err := s.readBlob("config", m.Config.Digest)
	if err != nil {
		return Image{}, err
	}
	c, err := parseConfig(raw, len(m.Layers))
	if err != nil {
		return Image{}, &DamagedError{"config", m.Config.Digest, err.Error()}
	}
	return Image{
		ID: m.Config.Digest, Target: target, Manifest: doc.desc, Config: *c, Layers: m.Layers,
		Platform: normal(c.Platform),
	}, nil
}

// A PlatformError is an image that is there, but not for the platform that was asked for.
type PlatformError struct {
	Name string // of the image, where it was asked for by one
	Want Platform
	Have string // platforms of the image
	Here string // those that the store has
}

func (e *PlatformError) Error() string {
	s := fmt.Sprintf("no matching manifest for %s: it has %s", formatPlatform(normal(e.Want)), e.Have)
	if e.Here != "" && e.Here != e.Have {
		s += "; here is " + e.Here
	}
	if e.Name != "" {
		s = e.Name + ": " + s
	}
	return s
}

// Get finds an image by a name, an id or its beginning (at least one digit), or NAME@DIGEST, for a platform; the zero one is this
// machine's, or, where the image is for one other platform only, that.
func (s *Store) Get(ref string, want Platform) (Image, error) {
	found, err := s.find(ref)
	if err != nil {
		return Image{}, err
	}
	if want.OS == "" && want.Architecture == "" {
		return found, nil // first chose this machine's, if it is here
	}
	if found.Manifest.Digest == found.Target.Digest {
		if fits(want, found.Platform) == 0 {
			return Image{}, &PlatformError{Name: ref, Want: want, Have: formatPlatform(found.Platform)}
		}
		return found, nil
	}
	img, err := s.load(found.Target, want)
	if missing := (*PlatformError)(nil); errors.As(err, &missing) {
		missing.Name = ref
	}
	img.Names, img.Tagged, img.pushed, img.origin, img.parent, img.plain = found.Names, found.Tagged, found.pushed, found.origin, found.parent, found.plain
	return img, err
}

// find reads no more images than it must: a name leads to one.
func (s *Store) find(ref string) (Image, error) {
	list, err := s.roots()
	if err != nil {
		return Image{}, err
	}
	if r, err := ParseReference(ref); err == nil {
		name := r.Tagged().String()
		if i := slices.IndexFunc(list, func(r root) bool { return nameOf(r) == name }); i >= 0 {
			img, err := s.first(list[i])
			if err != nil {
				return Image{}, fmt.Errorf("image %s: %w", ref, err)
			}
			for _, other := range list {
				if other.Digest == list[i].Digest {
					img.add(other)
				}
			}
			return img, nil
		}
	}
	return find(s.imagesOf(list), ref)
}

// find chooses among images as Docker does: a whole id, a name, the beginning of an id.
func find(images []Image, ref string) (Image, error) {
	hex := strings.TrimPrefix(ref, "sha256:")
	if len(hex) == 64 && isHex(hex) {
		for _, i := range images {
			if i.ID.Encoded() == hex || i.Target.Digest.Encoded() == hex || i.Manifest.Digest.Encoded() == hex {
				return i, nil
			}
		}
		return Image{}, &NotFoundError{ref}
	}
	if r, err := ParseReference(ref); err == nil {
		if i := slices.IndexFunc(images, func(i Image) bool { return i.answers(r.Tagged()) }); i >= 0 {
			return images[i], nil
		}
	}
	if hex != "" && isHex(hex) && len(hex) < 64 {
		var found []Image
		for _, i := range images {
			if strings.HasPrefix(i.ID.Encoded(), hex) && !slices.ContainsFunc(found, func(f Image) bool { return f.ID == i.ID }) {
				found = append(found, i)
			}
		}
		switch len(found) {
		case 1:
			return found[0], nil
		case 0:
		default:
			return Image{}, fmt.Errorf("image id %s is the beginning of %d images' ids: write more of it", ref, len(found))
		}
	}
	return Image{}, &NotFoundError{ref}
}

// answers reports whether a reference names the image.
func (i Image) answers(r Reference) bool {
	for _, n := range i.Names {
		if n.Name() != r.Name() {
			continue
		}
		switch {
		case r.Digest != "":
			if r.Digest == n.Digest || (r.Digest == i.Target.Digest || r.Digest == i.Manifest.Digest) && !slices.Contains(i.plain, n) {
				return true
			}
		case n.Tag == r.Tag:
			return true
		}
	}
	return r.Digest != "" && slices.Contains(i.pushed, r.Name()+"@"+string(r.Digest))
}

// images lists the store.
func (s *Store) images() ([]Image, error) {
	list, err := s.roots()
	return s.imagesOf(list), err
}

// imagesOf gives an image for each target of some roots. A target that is damaged, or for other platforms only, is the first image
// it has; one without any is left out.
func (s *Store) imagesOf(list []root) []Image {
	byTarget := map[digest.Digest]int{}
	var images []Image
	for _, r := range list {
		i, ok := byTarget[r.Digest]
		if !ok {
			img, err := s.first(r)
			if err != nil {
				byTarget[r.Digest] = -1
				continue
			}
			i = len(images)
			images = append(images, img)
			byTarget[r.Digest] = i
		}
		if i < 0 {
			continue
		}
		images[i].add(r)
	}
	return images
}

// add notes what a root that leads to the image says of it.
func (i *Image) add(r root) {
	if n, err := ParseReference(nameOf(r)); err == nil {
		at, _ := slices.BinarySearchFunc(i.Names, n, func(a, b Reference) int { return strings.Compare(a.String(), b.String()) })
		i.Names = slices.Insert(i.Names, at, n)
		if r.Annotations[plain] != "" {
			i.plain = append(i.plain, n)
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, r.Annotations[tagTime]); err == nil && t.After(i.Tagged) {
		i.Tagged = t
	}
	if o := r.Annotations[origin]; o != "" {
		i.origin = o
	}
	if p := r.Annotations[parent]; p != "" {
		i.parent = p
	}
	for p := range strings.SplitSeq(r.Annotations[pushed], ",") {
		if p != "" && !slices.Contains(i.pushed, p) {
			i.pushed = append(i.pushed, p)
		}
	}
}

// first is the image of this machine's platform, or else the first that is there.
func (s *Store) first(target v1.Descriptor) (Image, error) {
	target = v1.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size}
	img, err := s.load(target, Host())
	if err == nil || !isIndex(target.MediaType) {
		return img, err
	}
	all, e := s.every(target)
	if e != nil || len(all) == 0 {
		return img, err
	}
	return all[0], nil
}

// every lists the images below a target that the store has.
func (s *Store) every(target v1.Descriptor) ([]Image, error) {
	var list []Image
	err := s.walk(target, func(doc *document) error {
		if doc.manifest == nil || !isImage(doc.manifest) {
			return nil
		}
		img, err := s.imageOf(target, doc)
		if err == nil {
			list = append(list, img)
		}
		return err
	})
	return list, err
}

// walk visits the documents below a descriptor that the store has.
func (s *Store) walk(target v1.Descriptor, visit func(*document) error) error {
	here := func(index *document) ([]v1.Descriptor, error) { return s.present(index.index).Manifests, nil }
	return walk(target, s.readDocument, here, visit)
}

// openLayer gives a layer of an image as its tar.
func (s *Store) openLayer(id digest.Digest) (io.ReadCloser, error) {
	r, err := s.o.Layers.Open(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &DamagedError{"layer", id, "it is not there"}
	}
	return r, err
}
