package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// RemoveOptions say how an image is removed.
type RemoveOptions struct {
	Force bool // several repositories, and what Blocked says, are no obstacle
	// Platforms are those whose images are taken out of an index, which keeps its names; empty removes names.
	Platforms []Platform
	// Blocked is asked before an image itself goes, not a mere name of it: its error says which container needs
	// the image. force tells whether the user insists. To who does, a name given is taken from the image all the same.
	Blocked func(i Image, force bool) error
}

// A Removed is a line of what a removal did: one of the two is set.
type Removed struct {
	Untagged string `json:",omitempty"`
	Deleted  string `json:",omitempty"`
}

// Remove takes a name from an image, and the image itself with its last name, or with an id. Blobs and layers that
// nobody needs any more go with it.
func (s *Store) Remove(ctx context.Context, ref string, o RemoveOptions) ([]Removed, error) {
	if len(o.Platforms) > 0 {
		if whole, err := s.onlyOne(ref, o.Platforms); err != nil {
			return nil, err
		} else if !whole {
			return s.removePlatforms(ctx, ref, o)
		}
	}
	var gone removal
	sweep, err := s.takeOff(ctx, func(list []root) (left []root, err error) {
		i, err := s.find(ref)
		if err != nil {
			return nil, err
		}
		if r, ok := i.byDigestBesideTags(ref); ok {
			gone = removal{of: i, told: []Removed{{Untagged: r.Familiar()}}}
			return withoutDigest(list, i, r), nil
		}
		left, gone, err = s.remove(list, i, ref, o)
		return left, err
	})
	if err != nil {
		return nil, err
	}
	s.tellRemoved(gone.of, gone.told)
	swept, err := sweep()
	if !gone.last {
		return gone.told, err // what went was another's
	}
	return withSwept(gone.told, swept), err
}

// A removal is what came of one.
type removal struct {
	of   Image
	told []Removed
	last bool // no name is left, and the image goes
}

// remove takes the names that ref means from an image, and says what is left of all.
func (s *Store) remove(list []root, i Image, ref string, o RemoveOptions) (left []root, gone removal, err error) {
	drop, err := leaving(i, ref, o.Force)
	if err != nil {
		return nil, gone, err
	}
	mine := func(r root) bool { return r.Digest == i.Target.Digest }
	left = slices.DeleteFunc(slices.Clone(list), func(r root) bool {
		return mine(r) && (nameOf(r) == "" || slices.Contains(drop, nameOf(r)))
	})
	last := !slices.ContainsFunc(left, func(r root) bool { return mine(r) || s.leadsTo(r, i.ID) })
	if last && o.Blocked != nil {
		if err := o.Blocked(i, o.Force); err != nil {
			if _, ok := namedBy(i, ref); !ok || !o.Force {
				return nil, gone, err
			}
			// As with Docker, who insists gets rid of the name, and the image stays without one.
			left = append(left, unnamed(list[slices.IndexFunc(list, mine)]))
			last = false
		}
	}
	var names []Reference
	for _, name := range drop {
		if r, err := ParseReference(name); err == nil {
			names = append(names, r)
		}
	}
	gone = removal{of: i, told: untagged(i, names), last: last}
	if last {
		gone.told = append(gone.told, Removed{Deleted: i.ID.String()})
	}
	return left, gone, nil
}

// leadsTo reports whether an image is the one of a root, or one of the platforms of its index.
func (s *Store) leadsTo(r root, id digest.Digest) bool {
	if s.idOf(r) == id {
		return true
	}
	if !isIndex(r.MediaType) {
		return false
	}
	all, err := s.every(r)
	return err == nil && slices.ContainsFunc(all, func(i Image) bool { return i.ID == id })
}

// byDigestBesideTags reads ref as NAME@DIGEST of a repository in which the image has tags. These stay when that goes.
func (i Image) byDigestBesideTags(ref string) (Reference, bool) {
	r, err := ParseReference(ref)
	return r, err == nil && r.Digest != "" && slices.ContainsFunc(i.Names, func(n Reference) bool { return n.Name() == r.Name() && n.Tag != "" })
}

// withoutDigest takes an image's name by digest in the repository of r away, which follows from each of its tags there, too, until
// the tag is given anew, by a pull say.
func withoutDigest(list []root, i Image, r Reference) []root {
	var left []root
	for _, old := range list {
		n, err := ParseReference(nameOf(old))
		if old.Digest == i.Target.Digest && err == nil && n.Name() == r.Name() {
			if n.Digest != "" {
				continue
			}
			old.Annotations = maps.Clone(old.Annotations)
			old.Annotations[plain] = "true"
		}
		if at := old.Annotations[pushed]; at != "" && old.Digest == i.Target.Digest {
			kept := slices.DeleteFunc(strings.Split(at, ","), func(p string) bool { return strings.HasPrefix(p, r.Name()+"@") })
			old.Annotations = maps.Clone(old.Annotations)
			old.Annotations[pushed] = strings.Join(kept, ",")
		}
		left = append(left, old)
	}
	return left
}

// untagged tells of the names that an image loses, and behind the last one of the repository that it came from, of its name by digest there.
func untagged(i Image, gone []Reference) []Removed {
	var out []Removed
	came := func(n Reference) bool { return n.Name() == i.origin && n.Digest == "" && !slices.Contains(i.plain, n) }
	stays := slices.ContainsFunc(i.Names, func(n Reference) bool { return came(n) && !slices.Contains(gone, n) })
	for k, n := range gone {
		out = append(out, Removed{Untagged: n.Familiar()})
		follows := Reference{Domain: n.Domain, Path: n.Path, Digest: i.Target.Digest}
		if came(n) && !stays && !slices.ContainsFunc(gone[k+1:], came) && !slices.Contains(gone, follows) {
			out = append(out, Removed{Untagged: follows.Familiar()})
		}
	}
	return out
}

// withSwept adds what a sweep took to what a removal did.
func withSwept(out []Removed, swept Swept) []Removed {
	for _, d := range swept.Blobs {
		if !slices.ContainsFunc(out, func(r Removed) bool { return r.Deleted == d.String() }) {
			out = append(out, Removed{Deleted: d.String()})
		}
	}
	return out
}

// tellRemoved tells of the names that an image lost, and of the image where it went itself.
func (s *Store) tellRemoved(i Image, list []Removed) {
	for _, r := range list {
		if r.Deleted != "" {
			s.tell("delete", r.Deleted, r.Deleted, nil)
		} else {
			s.tell("untag", i.ID.String(), r.Untagged, i.labels())
		}
	}
}

// removePlatforms takes the images of some platforms out of an index: a manifest that is not there is one that was not pulled.
func (s *Store) removePlatforms(ctx context.Context, ref string, o RemoveOptions) ([]Removed, error) {
	var out []Removed
	sweep, err := s.takeOff(ctx, func(list []root) ([]root, error) {
		i, err := s.find(ref)
		if err != nil {
			return nil, err
		}
		drop, err := s.leavingPlatforms(i, o)
		if err != nil {
			return nil, err
		}
		if err := s.onlyIn(i, list, drop); err != nil {
			return nil, err
		}
		for _, d := range drop {
			if err := os.Remove(s.blobPath(d)); err != nil {
				return nil, fmt.Errorf("images: %w", err)
			}
			out = append(out, Removed{Deleted: d.String()})
		}
		return list, nil
	})
	s.tellRemoved(Image{}, out)
	if err != nil {
		return out, err
	}
	swept, err := sweep()
	return withSwept(out, swept), err
}

// onlyOne reports whether a name leads to an image for one platform, which is then the one that is to go: with it goes the name.
func (s *Store) onlyOne(ref string, wanted []Platform) (bool, error) {
	i, err := s.Get(ref, Platform{})
	if err != nil || isIndex(i.Target.MediaType) {
		return false, err
	}
	for _, want := range wanted {
		if formatPlatform(normal(want)) != formatPlatform(i.Platform) {
			return false, fmt.Errorf("image with reference %s was found but its platform (%s) does not match the specified platform (%s)", ref, formatPlatform(i.Platform), formatPlatform(normal(want)))
		}
	}
	return true, nil
}

// onlyIn refuses manifests of an image that others have, too.
func (s *Store) onlyIn(i Image, list []root, manifests []digest.Digest) error {
	for _, r := range list {
		if r.Digest == i.Target.Digest {
			continue
		}
		err := s.walk(r, func(doc *document) error {
			if slices.Contains(manifests, doc.desc.Digest) {
				return fmt.Errorf("conflict: manifest %s is one of image %s, too", doc.desc.Digest, cmp.Or(nameOf(r), r.Digest.String()))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// leavingPlatforms lists the manifests that a removal of platforms takes, with what attests them.
func (s *Store) leavingPlatforms(i Image, o RemoveOptions) ([]digest.Digest, error) {
	doc, err := s.readDocument(i.Target)
	if err != nil {
		return nil, err
	}
	if doc.index == nil {
		return nil, fmt.Errorf("image %s is for %s alone: remove it without a platform", shortID(i.ID), formatPlatform(i.Platform))
	}
	here, err := s.every(i.Target)
	if err != nil {
		return nil, err
	}
	var drop []digest.Digest
	for _, want := range o.Platforms {
		those := slices.DeleteFunc(slices.Clone(here), func(img Image) bool { return formatPlatform(normal(want)) != formatPlatform(img.Platform) })
		for _, img := range those {
			if o.Blocked != nil {
				if err := o.Blocked(img, o.Force); err != nil {
					return nil, err
				}
			}
			if !slices.Contains(drop, img.Manifest.Digest) {
				drop = append(drop, img.Manifest.Digest)
			}
		}
		if len(those) == 0 {
			return nil, &PlatformError{Want: want, Have: platforms(*doc.index), Here: platforms(*s.present(doc.index))}
		}
	}
	if len(drop) == len(here) {
		return nil, fmt.Errorf("image %s has nothing but %s here: remove it without a platform", shortID(i.ID), platforms(*s.present(doc.index)))
	}
	for _, d := range s.present(doc.index).Manifests {
		if attestation(d) && slices.Contains(drop, digest.Digest(d.Annotations[attests])) {
			drop = append(drop, d.Digest)
		}
	}
	return drop, nil
}

// namedBy reads ref as a name, and reports whether it is of a repository in which the image has one.
func namedBy(i Image, ref string) (Reference, bool) {
	r, err := ParseReference(ref)
	return r, err == nil && slices.ContainsFunc(i.Names, func(n Reference) bool { return n.Name() == r.Name() })
}

// NamedBy reports whether ref is one of the image's names, and not an id.
func (i Image) NamedBy(ref string) bool {
	_, ok := namedBy(i, ref)
	return ok
}

// leaving lists the names that a removal by ref takes.
func leaving(i Image, ref string, force bool) ([]string, error) {
	r, byName := namedBy(i, ref)
	if n := r.Tagged(); byName && r.Digest == "" && slices.Contains(i.Names, n) {
		drop := []string{n.String()}
		others := slices.DeleteFunc(slices.Clone(i.Names), func(other Reference) bool { return other == n || other.Name() != n.Name() })
		if slices.ContainsFunc(others, func(other Reference) bool { return other.Tag != "" }) {
			return drop, nil
		}
		for _, other := range others { // names by digest go with the last tag
			drop = append(drop, other.String())
		}
		return drop, nil
	}
	var names, repos []string
	for _, n := range i.Names {
		if byName && n.Name() != r.Name() {
			continue
		}
		names = append(names, n.String())
		if !slices.Contains(repos, n.Name()) {
			repos = append(repos, n.Name())
		}
	}
	if len(repos) > 1 && !force {
		return nil, fmt.Errorf("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", i.ID.Encoded()[:12])
	}
	return names, nil
}

// PruneOptions say which images Prune takes.
type PruneOptions struct {
	All     bool // those with a name, too
	Filters Filters
	InUse   func(Image) bool // a container needs it
}

// A Pruned is what a prune did.
type Pruned struct {
	Removed        []Removed
	SpaceReclaimed int64 // bytes
}

// Prune removes the images that no container needs: those without a name, or all. Filters are until, label and label!.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (Pruned, error) {
	var out Pruned
	if err := o.Filters.Check("dangling", "label", "label!", "until"); err != nil {
		return out, err
	}
	dangling, err := o.Filters.Truth("dangling")
	if err != nil {
		return out, err
	}
	o.All = o.All || dangling != nil && !*dangling
	filters := maps.Clone(o.Filters)
	delete(filters, "dangling")
	var lost []func()
	sweep, err := s.takeOff(ctx, func(list []root) ([]root, error) {
		images := s.imagesOf(list)
		keep, err := filters.compile(images)
		if err != nil {
			return nil, err
		}
		gone := map[digest.Digest]bool{}
		for _, i := range images {
			if _, ok := keep(i); !ok || len(i.Names) > 0 && !o.All || o.InUse != nil && o.InUse(i) {
				continue
			}
			gone[i.Target.Digest] = true
			own := untagged(i, i.Names)
			if one := (Removed{Deleted: i.ID.String()}); !slices.Contains(out.Removed, one) {
				own = append(own, one)
			}
			lost = append(lost, func() { s.tellRemoved(i, own) })
			out.Removed = append(out.Removed, own...)
		}
		return slices.DeleteFunc(list, func(r root) bool { return gone[r.Digest] }), nil
	})
	if err != nil {
		return Pruned{}, err
	}
	for _, tell := range lost {
		tell()
	}
	swept, err := sweep()
	out.Removed, out.SpaceReclaimed = withSwept(out.Removed, swept), swept.Bytes
	return out, err
}

// takeOff is change that takes away names, by who calls sweep after it. A sweep is due from before the change on, unless there is none, and nobody else's comes between: who looks
// meanwhile for what is left finds that, and what goes is told by who has it go.
func (s *Store) takeOff(ctx context.Context, edit func([]root) ([]root, error)) (sweep func() (Swept, error), err error) {
	f, err := s.lockFile("adding")
	if err != nil {
		return nil, err
	}
	if err = flock(ctx, f, unix.LOCK_SH); err == nil {
		err = s.change(ctx, func(list []root) ([]root, error) {
			list, err := edit(list)
			if err == nil {
				_ = s.due() // on a full disk who looks tells of what goes
			}
			return list, err
		})
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() (Swept, error) { return s.sweep(ctx, f) }, nil
}

// due says that a sweep is to come.
func (s *Store) due() error {
	f, err := os.OpenFile(s.path(unswept), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	return f.Close()
}

// isDue reports whether a sweep is to come, or has not come to its end.
func (s *Store) isDue() bool {
	return slices.ContainsFunc([]string{unswept, sweeping}, func(name string) bool { _, err := os.Lstat(s.path(name)); return err == nil })
}

// Sweep removes what nothing leads to from the names of index.json: blobs, layers, what killed processes left. While somebody adds
// to the store it does nothing, and who adds does it at the end: no blob is lost that is used, none is kept for good
// that nobody uses. Where a manifest or config is damaged it does nothing, too, since nobody knows what it needs.
func (s *Store) Sweep(ctx context.Context) (Swept, error) {
	f, err := s.lockFile("adding")
	if err != nil {
		return Swept{}, err
	}
	return s.sweep(ctx, f)
}

// sweep is Sweep by the file of the lock, which it closes: the caller may have a share in that.
func (s *Store) sweep(ctx context.Context, f *os.File) (Swept, error) {
	defer f.Close()
	err := flock(ctx, f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return Swept{}, s.due()
	}
	if err != nil {
		return Swept{}, err
	}
	// What is said from here on, by another sweep that finds this one, may be of what used has seen in use: it stays. Where this fails that sweeps once more than it would need to.
	begun := os.Rename(s.path(unswept), s.path(sweeping))
	blobs, layers, err := s.used()
	if err != nil {
		return Swept{}, fmt.Errorf("nothing that is unused was removed: %w", err)
	}
	var out Swept
	err = s.eachBlob(func(d digest.Digest, path string, size int64) error {
		if blobs[d] {
			return nil
		}
		out.Blobs = append(out.Blobs, d)
		out.Bytes += size
		return os.Remove(path)
	})
	if err != nil {
		return out, fmt.Errorf("images: %w", err)
	}
	if err := s.eachTemporary(os.Remove); err != nil {
		return out, err
	}
	swept, err := s.o.Layers.Sweep(ctx, func(id digest.Digest) bool { return layers[id] })
	out.Blobs = append(out.Blobs, swept.Blobs...)
	out.Bytes += swept.Bytes
	if err != nil {
		return out, err
	}
	// Last, so that who is killed before leaves it to the next one.
	for _, err := range []error{begun, os.Remove(s.path(sweeping))} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return out, fmt.Errorf("images: %w", err)
		}
	}
	return out, nil
}

// used marks what the names lead to, and what containers need.
func (s *Store) used() (blobs, layers map[digest.Digest]bool, err error) {
	blobs, layers = map[digest.Digest]bool{}, map[digest.Digest]bool{}
	list, err := s.roots()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range list {
		if err := s.walk(r, func(doc *document) error { return s.mark(doc, blobs, layers) }); err != nil {
			return nil, nil, err
		}
	}
	if s.o.InUse != nil {
		ids, err := s.o.InUse()
		if err != nil {
			return nil, nil, err
		}
		for _, id := range ids {
			layers[id] = true
		}
	}
	return blobs, layers, nil
}

// mark marks a document, and what its manifest names.
func (s *Store) mark(doc *document, blobs, layers map[digest.Digest]bool) error {
	blobs[doc.desc.Digest] = true
	m := doc.manifest
	if m == nil {
		return nil
	}
	blobs[m.Config.Digest] = true
	for _, l := range m.Layers {
		blobs[l.Digest] = true
	}
	if !isImage(m) {
		return nil
	}
	raw, err := s.readBlob("config", m.Config.Digest)
	if err != nil {
		return err
	}
	c, err := parseConfig(raw, len(m.Layers))
	if err != nil {
		return &DamagedError{"config", m.Config.Digest, err.Error()}
	}
	for _, id := range c.RootFS.DiffIDs {
		layers[id] = true
	}
	return nil
}

// eachBlob visits the files of blobs. What has no digest for a name is not ours, and left alone.
func (s *Store) eachBlob(visit func(d digest.Digest, path string, size int64) error) error {
	algorithms, err := os.ReadDir(s.path("blobs"))
	if err != nil {
		return err
	}
	for _, a := range algorithms {
		files, err := os.ReadDir(s.path("blobs/" + a.Name()))
		if err != nil {
			return err
		}
		for _, f := range files {
			d := digest.Digest(a.Name() + ":" + f.Name())
			st, err := f.Info()
			if validDigest(d) != nil || errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = visit(d, s.blobPath(d), st.Size())
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// eachTemporary visits the files that killed processes were writing. Nobody adds now; where somebody replaces index.json, whose file is among them, none is visited.
func (s *Store) eachTemporary(visit func(path string) error) error {
	unlock, err := s.lock(context.Background(), "lock", unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	list, err := os.ReadDir(s.path("tmp"))
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	for _, f := range list {
		if !strings.HasPrefix(f.Name(), "new-") {
			continue
		}
		if err := visit(s.path("tmp/" + f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("images: %w", err)
		}
	}
	return nil
}
