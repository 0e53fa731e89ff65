package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Devices says what [Apply] does with the device nodes of an archive. FIFOs are not meant.
type Devices int

// MakeDevices is for who may, SkipDevices leaves them out and says so in the [Result],
// RefuseDevices ends with an error.
const (
	MakeDevices Devices = iota
	SkipDevices
	RefuseDevices
)

// Options say how an archive becomes files. The zero value unpacks everything as it is.
type Options struct {
	Limits Limits
	// Dir is where the archive's root is to be, below the root directory: an existing
	// directory. Its links, and those that lie in the way of entries, are followed within root.
	Dir string
	// Layer has names as ".wh.x" be the marks of overlayfs for what lower layers have: a character
	// device 0:0 (or, where that may not be made, an empty file with user.overlay.whiteout),
	// and user.overlay.opaque, which an overlay with the option userxattr reads.
	Layer bool
	// UID and GID turn owners of the archive into owners of files; nil keeps them.
	UID, GID func(uint32) (uint32, error)
	// NoOwner leaves all files to the caller, as one without privileges has to, and
	// leaves out file capabilities where they are refused.
	NoOwner bool
	Devices Devices
	// KeepTypes refuses to put a directory in the place of another file, or the reverse.
	// Otherwise later entries replace what is there.
	KeepTypes bool

	noNodes bool // tests: mknod is refused
}

// A Result says what [Apply] did.
type Result struct {
	Entries int64
	Bytes   int64 // of contents, holes included
	// Opaque says that a layer hides the whole of the lower ones. overlayfs has no mark for that on
	// the root of a layer.
	Opaque bool
	// LeftOut names what was not made, and why; it ends after twenty.
	LeftOut []string
}

func (r *Result) leaveOut(format string, args ...any) {
	switch {
	case len(r.LeftOut) < 20:
		r.LeftOut = append(r.LeftOut, fmt.Sprintf(format, args...))
	case len(r.LeftOut) == 20:
		r.LeftOut = append(r.LeftOut, "and more")
	}
}

// Apply unpacks a tar below root. Another process may change the tree meanwhile: files may
// then come to lie at other places, but not outside of root and what is mounted in it.
//
// On an error what was made stays, for the caller to remove, or to show: but no file without all of its content. It is an [*EntryError] where it belongs to an
// entry. r is read up to the end of the archive, not up to its own end.
func Apply(ctx context.Context, root *os.File, r io.Reader, o Options) (Result, error) {
	a := &applier{
		ctx: ctx, o: o, root: int(root.Fd()), in: NewReader(r, ReaderOptions{Limits: o.Limits, Plain: !o.Layer}),
		dirs: map[string]dirMeta{}, parentFD: -1, buf: make([]byte, 128<<10),
	}
	defer a.forget()
	err := a.all()
	if err == nil || !o.Layer { // a layer that fails is removed, which is easier as it is
		if e := a.finishDirs(); err == nil {
			err = e
		}
	}
	return a.done, err
}

type applier struct {
	ctx  context.Context
	o    Options
	root int
	in   *Reader
	done Result
	dirs map[string]dirMeta // what directories get when their contents are there
	kept int                // bytes of their names
	buf  []byte

	// The directory of the last entry stays open: most entries lie beside the one before.
	parent   string
	parentFD int
}

// dirMeta is what is set last: writing into a directory changes its time, and its
// permissions might refuse that.
type dirMeta struct {
	perm         uint32
	atime, mtime time.Time
}

func (a *applier) all() error {
	for {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		e, err := a.in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := a.entry(e); err != nil {
			return &EntryError{e.Header.Name, err}
		}
		a.done.Entries++
		a.done.Bytes += e.Size
	}
}

func (a *applier) entry(e *Entry) error {
	e.Path = join(a.dir(), e.Path)
	if e.Target != "" {
		e.Target = join(a.dir(), e.Target)
	}
	if !a.o.NoOwner {
		if err := a.mapIDs(e); err != nil {
			return err
		}
	}
	switch {
	case e.Kind == Opaque:
		return a.opaque(e.Path)
	case e.Path == a.dir():
		return a.rootDir(e)
	}
	parent, base, err := a.parentOf(e.Path)
	if err != nil {
		return err
	}
	switch {
	case e.Kind == Whiteout:
		return a.whiteout(parent, base)
	case e.Target != "":
		return a.hardLink(e, parent, base)
	}
	return a.file(e, parent, base)
}

func (a *applier) dir() string {
	if d := strings.Trim(a.o.Dir, "/"); d != "" {
		return d
	}
	return "."
}

func (a *applier) mapIDs(e *Entry) (err error) {
	if a.o.UID != nil {
		if e.UID, err = a.o.UID(e.UID); err != nil {
			return fmt.Errorf("owner: %w", err)
		}
	}
	if a.o.GID != nil {
		if e.GID, err = a.o.GID(e.GID); err != nil {
			return fmt.Errorf("group: %w", err)
		}
	}
	return nil
}

func (a *applier) file(e *Entry, parent int, base string) error {
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return a.directory(e, parent, base)
	case unix.S_IFREG:
		return a.create(parent, base, func(name string) error { return a.regular(e, parent, name) })
	case unix.S_IFLNK:
		return a.create(parent, base, func(name string) error { return a.symlink(e, parent, name) })
	case unix.S_IFCHR, unix.S_IFBLK:
		switch a.o.Devices {
		case SkipDevices:
			a.done.leaveOut("%q: a device node, which this user cannot make", e.Header.Name)
			return nil
		case RefuseDevices:
			return errors.New("a device node, which is not taken here: --device gives a container one")
		}
	}
	return a.create(parent, base, func(name string) error { return a.node(e, parent, name) })
}

// parentOf opens the directory that a path lies in, and makes what is missing of it.
func (a *applier) parentOf(p string) (fd int, base string, err error) {
	dir, base := split(p)
	if a.parentFD >= 0 && a.parent == dir {
		return a.parentFD, base, nil
	}
	a.forget()
	if fd, err = a.openDir(dir); err != nil {
		return -1, "", err
	}
	a.parent, a.parentFD = dir, fd
	return fd, base, nil
}

func (a *applier) forget() {
	if a.parentFD >= 0 {
		unix.Close(a.parentFD)
	}
	a.parentFD = -1
}

// create has make make a file that is no directory. A file that is there is replaced when the new one
// is whole. What is a mount point can only be written to: rename(2) refuses one of the caller's own mount namespace, but takes away what is
// mounted there in another, as in a container's.
func (a *applier) create(parent int, base string, make func(name string) error) error {
	err := make(base)
	if err != unix.EEXIST {
		return err
	}
	st, err := lstat(parent, base)
	if err != nil && err != unix.ENOENT {
		return err
	}
	if err == nil && isDir(st) {
		if a.o.KeepTypes {
			return errors.New("there is a directory of this name, which only a directory replaces")
		}
		if err := removeAll(parent, base, a.in.o.Limits.Depth); err != nil {
			return fmt.Errorf("the directory of this name: %w", err)
		}
	}
	temp := tempName()
	if err := make(temp); err != nil {
		unix.Unlinkat(parent, temp, 0)
		return err
	}
	if err = replace(parent, temp, base); err == unix.EBUSY {
		err = writeOver(parent, temp, base)
	}
	if err != nil {
		unix.Unlinkat(parent, temp, 0)
	}
	return err
}

// replace gives a file the name of another one, which goes. A mount point is EBUSY.
func replace(parent int, temp, base string) error {
	if mounted, err := mountedAt(parent, base); err != nil && err != unix.ENOENT {
		return err
	} else if mounted {
		return unix.EBUSY
	}
	return unix.Renameat(parent, temp, parent, base)
}

// writeOver copies a file into another one that is a mount point, and removes it. A container that may mount has put there what it likes: a
// parameter of the kernel is a regular file, too, and may be this process's to write to, not the container's.
func writeOver(parent int, temp, base string) error {
	from, err := openRegular(parent, temp, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openMounted(parent, base)
	if err != nil {
		return fmt.Errorf("a mount point: %w", err)
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return unix.Unlinkat(parent, temp, 0)
}

// openMounted opens a regular file, to be written anew.
func openMounted(dir int, name string) (*os.File, error) {
	f, err := openRegular(dir, name, unix.O_WRONLY)
	if err != nil {
		return nil, err
	}
	if ofKernel(int(f.Fd())) {
		err = errors.New("it shows the state of the kernel, and is not written to")
	} else {
		err = f.Truncate(0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openRegular opens a regular file of an open directory. It is looked at before it is opened: opening
// a FIFO waits, and opening a device may do things.
func openRegular(dir int, name string, flags int) (*os.File, error) {
	path, err := openat2(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0, beneath)
	if err != nil {
		return nil, err
	}
	defer unix.Close(path)
	var st unix.Stat_t
	if err := unix.Fstat(path, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("not a regular file")
	}
	fd, err := reopen(path, flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// regular makes a file, and gives it its content. Owner before permissions: a change
// of the owner takes set-user-ID bits and capabilities away.
func (a *applier) regular(e *Entry, parent int, name string) (err error) {
	fd, err := openat2(parent, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600, beneath)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), path.Base(e.Path)) // and not name, which may be a temporary one
	defer f.Close()
	defer func() {
		if err != nil {
			unix.Unlinkat(parent, name, 0)
		}
	}()
	if err := a.content(f, e.Size); err != nil {
		return err
	}
	if err := a.own(fd, e); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, e.Mode&0o7777); err != nil {
		return err
	}
	if err := a.xattrs(fd, e); err != nil {
		return err
	}
	return unix.UtimesNanoAt(fd, "", times(e), unix.AT_EMPTY_PATH)
}

// holeSize is the piece of a file that is left out when it is all zeros.
const holeSize = 4096

// content writes the content of the current entry; zeros become holes.
func (a *applier) content(f *os.File, size int64) error {
	var at int64
	var hole bool
	for at < size {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(a.in, a.buf[:min(int64(len(a.buf)), size-at)])
		if err != nil {
			return fmt.Errorf("content, at byte %d of %d: %w", at, size, err)
		}
		if hole, err = writeSparse(f, a.buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	if hole {
		return f.Truncate(size)
	}
	return nil
}

// writeSparse tells whether b ends with a hole, which does not make the file longer.
func writeSparse(f *os.File, b []byte, at int64) (hole bool, err error) {
	for n := 0; len(b) > 0; b, at = b[n:], at+int64(n) {
		if hole, n = run(b); hole {
			continue
		}
		if _, err := f.WriteAt(b[:n], at); err != nil {
			return false, err
		}
	}
	return hole, nil
}

// run measures how far b is only zeros, or not, in pieces of a hole's size.
func run(b []byte) (zero bool, n int) {
	for i := 0; i < len(b); i += holeSize {
		z := allZero(b[i:min(i+holeSize, len(b))])
		if i > 0 && z != zero {
			return zero, i
		}
		zero = z
	}
	return zero, len(b)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func (a *applier) symlink(e *Entry, parent int, name string) error {
	if err := unix.Symlinkat(e.Header.Linkname, parent, name); err != nil {
		return err
	}
	if err := a.ownAt(parent, name, e); err != nil {
		return err
	}
	return unix.UtimesNanoAt(parent, name, times(e), unix.AT_SYMLINK_NOFOLLOW)
}

// node makes a device or a FIFO.
func (a *applier) node(e *Entry, parent int, name string) error {
	dev := 0
	if e.Mode&unix.S_IFMT != unix.S_IFIFO {
		dev = int(unix.Mkdev(uint32(e.Header.Devmajor), uint32(e.Header.Devminor)))
	}
	if err := unix.Mknodat(parent, name, e.Mode&unix.S_IFMT|0o600, dev); err != nil {
		return err
	}
	if err := a.ownAt(parent, name, e); err != nil {
		return err
	}
	if err := chmod(parent, name, e.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(parent, name, times(e), unix.AT_SYMLINK_NOFOLLOW)
}

// hardLink gives a file of the tree another name. A link is not followed, and becomes one more
// name of the link itself.
func (a *applier) hardLink(e *Entry, parent int, base string) error {
	if e.Target == e.Path {
		return errors.New("a hard link to itself")
	}
	dir, target := split(e.Target)
	fd, err := openat2(a.root, dir, unix.O_PATH|unix.O_DIRECTORY, 0, inRoot)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", e.Header.Linkname, err)
	}
	defer unix.Close(fd)
	st, err := lstat(fd, target)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", e.Header.Linkname, err)
	}
	if isDir(st) || a.o.Layer && isWhiteout(st) {
		return fmt.Errorf("hard link to %q: that is no file that can have another name", e.Header.Linkname)
	}
	if old, err := lstat(parent, base); err == nil && old.Dev == st.Dev && old.Ino == st.Ino {
		return nil // rename(2) of one name over the other would leave both
	}
	return a.create(parent, base, func(name string) error { return unix.Linkat(fd, target, parent, name, 0) })
}

// own gives an open file its owner.
func (a *applier) own(fd int, e *Entry) error {
	if a.o.NoOwner {
		return nil
	}
	return unix.Fchown(fd, int(e.UID), int(e.GID))
}

func (a *applier) ownAt(parent int, name string, e *Entry) error {
	if a.o.NoOwner {
		return nil
	}
	return unix.Fchownat(parent, name, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW)
}

// xattrs sets the attributes of an open file. Those of users are left out where the file system
// has none.
func (a *applier) xattrs(fd int, e *Entry) error {
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		value := e.Xattrs[name]
		if name == capXattr && a.o.UID != nil {
			root, err := a.o.UID(0)
			if err != nil {
				return err
			}
			value = capabilityFor(value, root)
		}
		if isACL(name) {
			if a.o.NoOwner {
				a.done.leaveOut("%q: the extended attribute %s: its users are not those here", e.Header.Name, name)
				continue
			}
			var err error
			if value, err = mapACL(value, a.o.UID, a.o.GID); err != nil {
				return err
			}
		}
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		if err == unix.EOPNOTSUPP || err == unix.EPERM && a.o.NoOwner && strings.HasPrefix(name, "security.") {
			a.done.leaveOut("%q: the extended attribute %s: %v", e.Header.Name, name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
	}
	return nil
}

func times(e *Entry) []unix.Timespec { return timespecs(e.Header.AccessTime, e.Header.ModTime) }

func timespecs(atime, mtime time.Time) []unix.Timespec {
	if atime.IsZero() {
		atime = mtime
	}
	return []unix.Timespec{unixTime(atime), unixTime(mtime)}
}

func unixTime(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}
