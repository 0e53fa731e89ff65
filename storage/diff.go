package storage

import (
	"archive/tar"
	"bufio"
	"bytes"
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

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/storage/erofs"
	"golang.org/x/sys/unix"
)

// A Change is a path of a container that is not as its image has it.
type Change struct {
	Kind ChangeKind
	Path string // absolute, in the container
}

// A ChangeKind is a letter, as docker diff prints it.
type ChangeKind byte

// The kinds.
const (
	Added   ChangeKind = 'A'
	Changed ChangeKind = 'C'
	Deleted ChangeKind = 'D'
)

// String is the line that docker diff prints.
func (c Change) String() string { return string(c.Kind) + " " + c.Path }

// An upperFile is a file of an upper directory, as a job lists it.
type upperFile struct {
	Path     []byte // without a slash before it; empty is the root
	Mode     uint32
	UID, GID uint32
	Size     int64
	Whiteout bool `json:",omitempty"`
	Opaque   bool `json:",omitempty"`
	Mounts   bool `json:",omitempty"` // the link of [plan.Mtab]
}

// listUpper writes what an upper directory has, each directory before what is in it, names sorted. served is that fuse-overlayfs has written it.
func listUpper(dir *os.File, served bool, out io.Writer) error {
	w := bufio.NewWriter(out)
	if err := listDir(json.NewEncoder(w), int(dir.Fd()), "", served, 0); err != nil {
		return err
	}
	return w.Flush()
}

// maxDepth bounds the directories of an upper directory that are within each other: a container makes them as deep as it likes.
const maxDepth = 4096

func listDir(to *json.Encoder, fd int, p string, byName bool, depth int) error {
	f := upperFile{Path: []byte(p)}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	f.stat(&st)
	served := xattrIs(fd, "user.fuseoverlayfs.opaque", 'y') || xattrIs(fd, "trusted.overlay.opaque", 'y') || byName && archive.HasServedMark(fd)
	f.Opaque = served || xattrIs(fd, "user.overlay.opaque", 'y')
	marks := f.Opaque || xattrIs(fd, "user.overlay.opaque", 'x')
	if err := to.Encode(f); err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("%q: there are more than %d directories within each other", p, maxDepth)
	}
	// The descriptor may be of O_PATH, and reading moves its place.
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(again), p)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if served && archive.IsServedMark(name) {
			continue
		}
		if gone, is := archive.ServedWhiteout(name); byName && is {
			if err := to.Encode(upperFile{Path: []byte(path.Join(p, gone)), Whiteout: true}); err != nil {
				return err
			}
			continue
		}
		if err := listFile(to, fd, name, path.Join(p, name), byName, depth, marks); err != nil {
			return err
		}
	}
	return nil
}

func listFile(to *json.Encoder, dir int, name, p string, byName bool, depth int, marks bool) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return nil // gone meanwhile
	}
	if err != nil {
		return err
	}
	f := upperFile{Path: []byte(p)}
	f.stat(&st)
	f.Mounts = p == mtab && isMtab(dir, name)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
			return nil // another file meanwhile
		}
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return listDir(to, fd, p, byName, depth+1)
	case unix.S_IFCHR:
		f.Whiteout = st.Rdev == 0
	case unix.S_IFREG:
		if marks && st.Size == 0 {
			fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err == nil {
				f.Whiteout = xattrIs(fd, "user.overlay.whiteout", 0)
				unix.Close(fd)
			}
		}
	}
	return to.Encode(f)
}

// mtab is where [plan.Mtab] makes its link.
const mtab = "etc/mtab"

// isMtab reports whether a file is that link.
func isMtab(dir int, name string) bool {
	b := make([]byte, len(plan.MtabTarget)+1)
	n, err := unix.Readlinkat(dir, name, b)
	return err == nil && string(b[:n]) == plan.MtabTarget
}

func (f *upperFile) stat(st *unix.Stat_t) {
	f.Mode, f.UID, f.GID, f.Size = st.Mode, st.Uid, st.Gid, st.Size
}

// xattrIs reports whether a file has an attribute of one byte; 0 is any value.
func xattrIs(fd int, name string, want byte) bool {
	b := make([]byte, 16)
	n, err := unix.Fgetxattr(fd, name, b)
	return err == nil && (want == 0 || n == 1 && b[0] == want)
}

// Diff lists what a container has changed of the view, sorted by path; nothing, where it has no upper directory yet. Of mounts, the places that
// an engine has made for its mounts, what is empty is left out.
func (v *View) Diff(ctx context.Context, id string, mounts []string) ([]Change, error) {
	dir, err := v.s.upperPath(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	img, err := v.Image()
	if err != nil {
		return nil, err
	}
	defer img.Close()
	d := &differ{img: img.Image, skip: map[string]bool{}, most: maxPaths}
	for _, m := range mounts {
		d.skip[strings.Trim(path.Clean("/"+m), "/")] = true
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := v.s.do(ctx, job{Op: jobList, Path: path.Join(dir, "upper"), Served: isServed(dir)}, nil, w)
		w.CloseWithError(err)
		done <- err
	}()
	err = d.read(bufio.NewReader(r))
	r.CloseWithError(err)
	if job := <-done; job != nil && (err == nil || errors.Is(err, job)) {
		err = job
	}
	if err != nil {
		return nil, err
	}
	return d.changes(), nil
}

// A differ compares the files of an upper directory with those of an image.
type differ struct {
	img   *erofs.Image
	skip  map[string]bool
	most  int // bytes of paths that are kept
	files []upperFile
}

// maxPaths bounds the paths of what a container has changed, all together, in bytes: some three million files. They are kept until all are known, and directories
// within each other cost the container a name each, and whoever lists them a whole path.
const maxPaths = 256 << 20

func (d *differ) read(r io.Reader) error {
	paths := 0
	for dec := json.NewDecoder(r); ; {
		var f upperFile
		if err := dec.Decode(&f); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if paths += len(f.Path); paths > d.most {
			return fmt.Errorf("what has changed has more than %d MiB of paths, as for files in %d directories within each other", d.most>>20, bytes.Count(f.Path, []byte("/")))
		}
		d.files = append(d.files, f)
	}
}

func (d *differ) changes() []Change {
	list, _ := d.dir(0, d.lower(""), false, nil)
	slices.SortStableFunc(list, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// lower finds what the image has at a path, without following links; nil where there is nothing.
func (d *differ) lower(p string) *erofs.File {
	f, err := d.img.Root()
	for name := range strings.SplitSeq(p, "/") {
		if name == "" || name == "." {
			continue
		}
		if err != nil {
			return nil
		}
		f, err = f.Child(name)
	}
	if err != nil {
		return nil
	}
	return f
}

// dir compares the directory that is files[i] and what is below it, and tells where the next file is. What was made anew, or lies in what was, hides what the image has there.
// Its times are not looked at: making and removing a file in it changes them.
func (d *differ) dir(i int, low *erofs.File, anew bool, list []Change) ([]Change, int) {
	f := d.files[i]
	p := string(f.Path)
	before := len(list)
	anew = anew || f.Opaque
	seen := map[string]bool{}
	n := i + 1
	for n < len(d.files) && inDir(string(d.files[n].Path), p) {
		c := d.files[n]
		at, name := string(c.Path), path.Base(string(c.Path))
		seen[name] = true
		var below *erofs.File
		if low != nil && low.IsDir() {
			below, _ = low.Child(name)
		}
		if below == nil && d.placeholder(n) {
			n++
			continue
		}
		switch {
		case c.Whiteout:
			if below != nil {
				list = append(list, Change{Deleted, "/" + at})
			}
			n++
		case c.Mode&unix.S_IFMT == unix.S_IFDIR:
			list, n = d.dir(n, below, anew, list)
		default:
			list = append(list, Change{kind(below), "/" + at})
			n++
		}
	}
	if anew && low != nil && low.IsDir() {
		low.Each(func(name string, _ int64) error {
			if !seen[name] {
				list = append(list, Change{Deleted, "/" + path.Join(p, name)})
			}
			return nil
		})
	}
	if p != "" && (len(list) > before || low == nil || differs(f, low)) {
		list = append(list, Change{kind(low), "/" + p})
	}
	return list, n
}

func kind(low *erofs.File) ChangeKind {
	if low == nil {
		return Added
	}
	return Changed
}

func inDir(p, dir string) bool { return dir == "" || strings.HasPrefix(p, dir+"/") }

// differs reports whether a directory is not as the image has it.
func differs(f upperFile, low *erofs.File) bool {
	return f.Mode != low.Mode || f.UID != low.UID || f.GID != low.GID
}

// placeholder reports whether a file was made for a mount, and nothing is in it, or is the link of [plan.Mtab].
func (d *differ) placeholder(n int) bool {
	f := d.files[n]
	if f.Mounts {
		return true
	}
	if !d.skip[string(f.Path)] {
		return false
	}
	if f.Mode&unix.S_IFMT == unix.S_IFDIR {
		return n+1 == len(d.files) || !inDir(string(d.files[n+1].Path), string(f.Path))
	}
	return f.Mode&unix.S_IFMT == unix.S_IFREG && f.Size == 0 && !f.Whiteout
}

// DiffTar writes what a container has changed as a layer: a tar with whiteouts, which is empty where it has no upper directory yet. Of mounts, the places that
// an engine has made for its mounts, what the image does not have is left out, and so are directories that nothing else has changed.
func (v *View) DiffTar(ctx context.Context, id string, mounts []string, w io.Writer) error {
	dir, err := v.s.upperPath(id)
	if errors.Is(err, fs.ErrNotExist) {
		return tar.NewWriter(w).Close()
	}
	if err != nil {
		return err
	}
	img, err := v.Image()
	if err != nil {
		return err
	}
	d := &differ{img: img.Image}
	pack := job{Op: jobPack, Path: path.Join(dir, "upper"), Served: isServed(dir), Mtab: d.lower(mtab) == nil, Around: map[string]owned{}}
	for _, m := range mounts {
		if m = strings.Trim(path.Clean("/"+m), "/"); m != "" && d.lower(m) == nil {
			pack.Skip = append(pack.Skip, m)
			d.around(m, pack.Around)
		}
	}
	if pack.Mtab {
		d.around(mtab, pack.Around)
	}
	img.Close()
	return v.s.do(ctx, pack, nil, w)
}

// around notes the image's directories on the way to a path, those without attributes of their own.
func (d *differ) around(p string, to map[string]owned) {
	for p != "." {
		p = path.Dir(p)
		if low := d.lower(p); low != nil && low.IsDir() && len(low.Xattrs) == 0 {
			to[p+"/"] = owned{int64(low.Mode & 0o7777), int(low.UID), int(low.GID)}
		}
	}
}
