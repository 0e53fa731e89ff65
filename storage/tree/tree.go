package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/storage/erofs"
	"golang.org/x/sys/unix"
)

// MaxFiles is how many files a layer has at most, directories that have no entry and names that are hidden included: a name of 2,000
// directories makes as many. MaxText is how many bytes their names, attributes and links' targets have together: a tree is in memory, and
// a compressed layer of 5 MB may have 800 MB of targets.
const (
	MaxFiles = 4 << 20
	MaxText  = 512 << 20
)

// A Weight is what a tree takes of memory.
type Weight struct {
	Files int   // with directories, and what is hidden
	Text  int64 // bytes of names, attributes and links' targets
}

// Add adds another one.
func (w *Weight) Add(o Weight) { w.Files, w.Text = w.Files+o.Files, w.Text+o.Text }

// Check reports what there is too much of, for so many layers together.
func (w Weight) Check(layers int) error {
	if most := MaxFiles * layers; w.Files > most {
		return fmt.Errorf("more than %d files", most)
	}
	if most := int64(MaxText) * int64(layers); w.Text > most {
		return fmt.Errorf("more than %d MiB of names, attributes and targets of links", most>>20)
	}
	return nil
}

// grow adds a file of that name.
func (w *Weight) grow(name string) { w.Add(Weight{1, int64(len(name))}) }

// Limits are how much of a layer is taken. Sparse files count by their whole size, which is read.
func Limits() archive.Limits { return archive.Limits{Bytes: 256 << 30} }

// A Tree is what one layer has, and what it hides of those below it.
type Tree struct {
	Root   *erofs.Inode
	hides  map[*erofs.Inode]map[string]bool // by directory: names that lower layers' files do not have any more
	opaque map[*erofs.Inode]bool            // directories of which lower layers show nothing
	bare   map[*erofs.Inode]bool            // directories without an entry of their own
	Weight Weight
	Sparse bool  // has files whose content the tar does not hold as it is
	size   int64 // of the tar, where it is known: the kernel reads whole blocks

	// The directory of the last entry: most entries lie beside the one before.
	dir string
	at  *erofs.Inode
}

// Contents keeps the content of a sparse file.
type Contents func(r io.Reader, size int64) (*erofs.Chunks, error)

// Scan reads the entries of a layer into a tree. Names are looked up in the tree as unpacking it into an empty directory would, by
// [archive.Apply]: links of the layer are followed, and lead no farther than the root. size is that of the tar, 0 where it is not known. keep may be nil:
// then the tree is of use only where it is not sparse.
func Scan(ctx context.Context, in *archive.Reader, size int64, keep Contents) (*Tree, error) {
	return scan(ctx, in, size, keep, func(w Weight) error { return w.Check(1) })
}

// scan is Scan, with another bound.
func scan(ctx context.Context, in *archive.Reader, size int64, keep Contents, check func(Weight) error) (*Tree, error) {
	t := &Tree{size: size, Root: NewDir(), hides: map[*erofs.Inode]map[string]bool{}, opaque: map[*erofs.Inode]bool{}, bare: map[*erofs.Inode]bool{}}
	t.bare[t.Root] = true
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e, err := in.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		if err := t.add(e, in, keep); err != nil {
			return nil, &archive.EntryError{Name: e.Header.Name, Err: err}
		}
		if err := check(t.Weight); err != nil {
			return nil, fmt.Errorf("the layer has %w", err)
		}
	}
}

// NewDir is an empty directory.
func NewDir() *erofs.Inode {
	return &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Children: map[string]*erofs.Inode{}}
}

func isDir(i *erofs.Inode) bool { return i != nil && i.Mode&unix.S_IFMT == unix.S_IFDIR }

// add adds one entry.
func (t *Tree) add(e *archive.Entry, content io.Reader, keep Contents) error {
	if e.Kind == archive.Opaque {
		dir, err := t.make(e.Path)
		if err == nil {
			t.opaque[dir] = true
		}
		return err
	}
	t.Weight.Text += text(e)
	if e.Path == "." {
		t.describe(t.Root, e)
		return nil
	}
	parent, base, err := t.parent(e.Path)
	if err != nil {
		return err
	}
	old := parent.Children[base]
	switch {
	case e.Kind == archive.Whiteout:
		t.hide(parent, base)
		return nil
	case e.Target != "":
		to, err := t.linked(e)
		if err == nil {
			parent.Children[base] = to
			t.Weight.grow(base)
		}
		return err
	case e.Mode&unix.S_IFMT == unix.S_IFDIR:
		if !isDir(old) {
			old = NewDir()
			parent.Children[base] = old
			t.Weight.grow(base)
		}
		t.describe(old, e)
		return nil
	case e.Mode&unix.S_IFMT == unix.S_IFCHR && e.Header.Devmajor == 0 && e.Header.Devminor == 0:
		// overlayfs's own whiteout.
		delete(parent.Children, base)
		t.hide(parent, base)
		return nil
	}
	i, err := t.file(e, content, keep)
	if err != nil {
		return err
	}
	t.Weight.grow(base)
	parent.Children[base] = i
	return nil
}

func (t *Tree) hide(dir *erofs.Inode, name string) {
	if t.hides[dir] == nil {
		t.hides[dir] = map[string]bool{}
	}
	t.hides[dir][name] = true
	t.Weight.grow(name)
}

// text is how many bytes an entry has but for its name: of attributes, and of what it leads to.
func text(e *archive.Entry) int64 {
	n := len(e.Header.Linkname)
	for name, value := range e.Xattrs {
		n += len(name) + len(value)
	}
	return int64(n)
}

// describe gives a directory what its entry says.
func (t *Tree) describe(dir *erofs.Inode, e *archive.Entry) {
	children := dir.Children
	*dir = *inode(e)
	dir.Children = children
	delete(t.bare, dir)
}

func inode(e *archive.Entry) *erofs.Inode {
	i := &erofs.Inode{
		Mode: e.Mode, UID: e.UID, GID: e.GID,
		Sec: e.Header.ModTime.Unix(), Nsec: uint32(e.Header.ModTime.Nanosecond()),
	}
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		if erofs.KnownXattr(name) {
			i.Xattrs = append(i.Xattrs, erofs.Xattr{Name: name, Value: e.Xattrs[name]})
		}
	}
	return i
}

func (t *Tree) file(e *archive.Entry, content io.Reader, keep Contents) (*erofs.Inode, error) {
	i := inode(e)
	switch i.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		i.Target = e.Header.Linkname
	case unix.S_IFCHR, unix.S_IFBLK:
		i.Rdev = erofs.Rdev(uint32(e.Header.Devmajor), uint32(e.Header.Devminor))
	case unix.S_IFREG:
		i.Size, i.Offset = uint64(e.Size), e.Offset
		short := t.size > 0 && (e.Offset+e.Size+erofs.BlockSize-1)&^(erofs.BlockSize-1) > t.size
		if (e.Sparse || short) && e.Size > 0 {
			t.Sparse = true
			if keep == nil {
				break
			}
			var err error
			if i.Chunks, err = keep(content, e.Size); err != nil {
				return nil, err
			}
		}
		if i.Offset%erofs.BlockSize != 0 {
			return nil, fmt.Errorf("content at byte %d, which is no block of a tar", i.Offset)
		}
	}
	return i, nil
}

// linked finds the file that a hard link leads to: one of this layer, as for every engine that unpacks layers
// one by one.
func (t *Tree) linked(e *archive.Entry) (*erofs.Inode, error) {
	if e.Target == e.Path {
		return nil, errors.New("a hard link to itself")
	}
	dir, base := path.Split(e.Target)
	stack, err := t.walk([]*erofs.Inode{t.Root}, strings.TrimSuffix(dir, "/"), new(int))
	if err != nil {
		return nil, fmt.Errorf("hard link to %q: %w", e.Header.Linkname, err)
	}
	to := stack[len(stack)-1].Children[base]
	switch {
	case to == nil:
		return nil, fmt.Errorf("hard link to %q: %w", e.Header.Linkname, errMissing)
	case isDir(to):
		return nil, fmt.Errorf("hard link to %q: that is a directory", e.Header.Linkname)
	}
	return to, nil
}

var (
	errMissing = errors.New("the layer has no such file")
	errNoDir   = errors.New("there is a file in the way that is no directory")
	errLoop    = errors.New("too many symbolic links in the way")
)

// parent finds the directory that a path lies in, and makes what is missing of it.
func (t *Tree) parent(p string) (*erofs.Inode, string, error) {
	dir, base := path.Split(p)
	dir = strings.TrimSuffix(dir, "/")
	if t.at == nil || t.dir != dir {
		at, err := t.make(dir)
		if err != nil {
			return nil, "", err
		}
		t.dir, t.at = dir, at
	}
	return t.at, base, nil
}

// make finds a directory, and makes what is missing of it. What a link leads to has to be there.
func (t *Tree) make(dir string) (*erofs.Inode, error) {
	stack, links := []*erofs.Inode{t.Root}, 0
	for _, name := range names(dir) {
		at := stack[len(stack)-1]
		next := at.Children[name]
		switch {
		case next == nil:
			next = NewDir()
			at.Children[name] = next
			t.bare[next] = true
			t.Weight.grow(name)
		case !isDir(next):
			var err error
			if stack, err = t.step(stack, name, &links); err != nil {
				return nil, fmt.Errorf("the directory %q: %w", dir, err)
			}
			continue
		}
		stack = append(stack, next)
	}
	return stack[len(stack)-1], nil
}

func names(p string) []string {
	if p == "" || p == "." {
		return nil
	}
	return strings.Split(p, "/")
}

// maxLinks is the kernel's, see path_resolution(7).
const maxLinks = 40

// walk goes along a path, of a link or a clean one, from the directory that is last of the stack; the others are above it.
func (t *Tree) walk(stack []*erofs.Inode, p string, links *int) ([]*erofs.Inode, error) {
	if strings.HasPrefix(p, "/") {
		stack = stack[:1]
	}
	for name := range strings.SplitSeq(p, "/") {
		switch name {
		case "", ".":
		case "..":
			stack = stack[:max(1, len(stack)-1)]
		default:
			var err error
			if stack, err = t.step(stack, name, links); err != nil {
				return nil, err
			}
		}
	}
	return stack, nil
}

// step goes to a directory, or to where a link leads.
func (t *Tree) step(stack []*erofs.Inode, name string, links *int) ([]*erofs.Inode, error) {
	next := stack[len(stack)-1].Children[name]
	switch {
	case next == nil:
		return nil, errMissing
	case isDir(next):
		// The stack below may still be in use.
		return append(slices.Clip(stack), next), nil
	case next.Mode&unix.S_IFMT != unix.S_IFLNK:
		return nil, errNoDir
	}
	if *links++; *links > maxLinks {
		return nil, errLoop
	}
	return t.walk(stack, next.Target, links)
}

// OnDevice says that the contents of all files lie on device n. Of a layer that holds
// them itself nothing changes.
func OnDevice(i *erofs.Inode, n uint16) {
	if i.Chunks == nil {
		i.Device = n
	}
	for _, c := range i.Children {
		OnDevice(c, n)
	}
}

// Over lays the tree over what lower layers have. Both are used up.
func (t *Tree) Over(lower *erofs.Inode) *erofs.Inode {
	if lower == nil {
		return t.Root
	}
	t.merge(lower, t.Root)
	return lower
}

func (t *Tree) merge(lower, upper *erofs.Inode) {
	if t.opaque[upper] {
		clear(lower.Children)
	}
	for name := range t.hides[upper] {
		delete(lower.Children, name)
	}
	if !t.bare[upper] {
		children := lower.Children
		*lower = *upper
		lower.Children = children
	}
	for name, c := range upper.Children {
		if l := lower.Children[name]; isDir(l) && isDir(c) {
			t.merge(l, c)
		} else {
			lower.Children[name] = c
		}
	}
}
