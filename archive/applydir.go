package archive

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// overlayfs's marks, as an overlay with the option userxattr reads them: overlayfs.rst of
// the kernel, "whiteouts and opaque directories".
const (
	opaqueXattr   = "user.overlay.opaque"
	whiteoutXattr = "user.overlay.whiteout"

	// The marks of fuse-overlayfs, by an ordinary user and by root. Beside them are files in the directory.
	servedXattr     = "user.fuseoverlayfs.opaque"
	servedRootXattr = "trusted.overlay.opaque"
)

// directory makes a directory, or takes the one that is there.
func (a *applier) directory(e *Entry, parent int, base string) error {
	if err := a.mkdir(parent, base); err != nil {
		return err
	}
	fd, err := openat2(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, beneath)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return a.dirMeta(fd, e)
}

// rootDir gives the directory that the archive is unpacked in what the archive says of its root.
func (a *applier) rootDir(e *Entry) error {
	if e.Target != "" || e.Mode&unix.S_IFMT != unix.S_IFDIR {
		return errors.New("the root of the archive is not a directory")
	}
	fd, err := openat2(a.root, e.Path, unix.O_RDONLY|unix.O_DIRECTORY, 0, inRoot)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return a.dirMeta(fd, e)
}

func (a *applier) dirMeta(fd int, e *Entry) error {
	if ofKernel(fd) {
		return nil // a tree that has /proc is copied to one where that is mounted: whom it belongs to there is the kernel's
	}
	if err := a.own(fd, e); err != nil {
		return err
	}
	if err := a.xattrs(fd, e); err != nil {
		return err
	}
	if _, again := a.dirs[e.Path]; !again {
		if a.kept += len(e.Path); a.kept > maxKeptNames {
			return &LimitError{"bytes of names of directories", maxKeptNames}
		}
	}
	a.dirs[e.Path] = dirMeta{e.Mode & 0o7777, e.Header.AccessTime, e.Header.ModTime}
	return nil
}

// mkdir makes a directory that its owner may fill, in the place of what is no directory.
func (a *applier) mkdir(parent int, base string) error {
	err := unix.Mkdirat(parent, base, 0o700)
	if err != unix.EEXIST {
		return err
	}
	st, err := lstat(parent, base)
	if err != nil {
		return err
	}
	switch {
	case isDir(st):
		return nil
	case a.o.KeepTypes:
		return errors.New("there is a file of this name that is no directory")
	}
	hidden := a.o.Layer && hides(parent, base, st)
	if err := unlink(parent, base); err != nil {
		return err
	}
	if err := unix.Mkdirat(parent, base, 0o700); err != nil {
		return err
	}
	if hidden {
		// Of the directory that the whiteout was for nothing is to be seen.
		return a.mark(parent, base, opaqueXattr, "y")
	}
	return nil
}

// hides reports whether a file that is there is a whiteout, in either form.
func hides(parent int, base string, st unix.Stat_t) bool {
	if isWhiteout(st) {
		return true
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != 0 {
		return false
	}
	f, err := openRegular(parent, base, unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	n, err := unix.Fgetxattr(int(f.Fd()), whiteoutXattr, nil)
	return err == nil && n > 0
}

// openDir opens a directory of the tree, and makes what is missing of it: archives need not have an
// entry for each directory.
func (a *applier) openDir(p string) (int, error) {
	flags := unix.O_PATH | unix.O_DIRECTORY
	fd, err := openat2(a.root, p, flags, 0, inRoot)
	if err == nil || p == a.dir() || p == "." {
		return fd, err
	}
	if err != unix.ENOENT && err != unix.ENOTDIR {
		return -1, fmt.Errorf("the directory %q: %w", p, err)
	}
	dir, base := split(p)
	parent, err := a.openDir(dir)
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	if err := a.makeMissing(parent, base); err != nil {
		return -1, fmt.Errorf("the directory %q: %w", p, err)
	}
	if fd, err = openat2(a.root, p, flags, 0, inRoot); err != nil {
		return -1, fmt.Errorf("the directory %q: %w", p, err)
	}
	return fd, nil
}

// makeMissing makes a directory that has no entry: it belongs to root.
func (a *applier) makeMissing(parent int, base string) error {
	st, err := lstat(parent, base)
	switch {
	case err == nil && isDir(st):
		return nil
	case err == nil && !(a.o.Layer && hides(parent, base, st)):
		// A link that leads nowhere, or another file.
		return unix.ENOTDIR
	case err != nil && err != unix.ENOENT:
		return err
	}
	if err := a.mkdir(parent, base); err != nil {
		return err
	}
	e := &Entry{}
	if !a.o.NoOwner {
		if err := a.mapIDs(e); err != nil {
			return err
		}
	}
	if err := a.ownAt(parent, base, e); err != nil {
		return err
	}
	return chmod(parent, base, 0o755)
}

// whiteout hides base of lower layers. What this layer has itself stays: a whiteout
// is for lower layers only, wherever it stands in the archive (image-spec, layer.md).
func (a *applier) whiteout(parent int, base string) error {
	if a.o.noNodes {
		return a.whiteoutFile(parent, base)
	}
	err := unix.Mknodat(parent, base, unix.S_IFCHR, 0)
	switch err {
	case unix.EEXIST:
		st, err := lstat(parent, base)
		if err != nil || !isDir(st) {
			return err
		}
		return a.mark(parent, base, opaqueXattr, "y")
	case unix.EPERM, unix.EOPNOTSUPP:
		return a.whiteoutFile(parent, base)
	}
	return err
}

// whiteoutFile is the mark that needs no device, since Linux 6.7. The directory has to say that there are
// such files in it.
func (a *applier) whiteoutFile(parent int, base string) error {
	fd, err := openat2(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600, beneath)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fsetxattr(fd, whiteoutXattr, []byte("y"), 0); err != nil {
		return fmt.Errorf("whiteout: %w", err)
	}
	dir, err := openat2(parent, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0, beneath)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	err = unix.Fsetxattr(dir, opaqueXattr, []byte("x"), unix.XATTR_CREATE)
	if err == unix.EEXIST {
		return nil
	}
	return err
}

// opaque hides all that lower layers have in a directory.
func (a *applier) opaque(p string) error {
	if p == a.dir() {
		a.done.Opaque = true
		return nil
	}
	fd, err := a.openDir(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return a.mark(fd, ".", opaqueXattr, "y")
}

// mark sets an attribute of a directory.
func (a *applier) mark(parent int, base, name, value string) error {
	fd, err := openat2(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, beneath)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
		return fmt.Errorf("the mark %s: %w", name, err)
	}
	return nil
}

// finishDirs sets permissions and times of directories, those below others first. One that
// another entry replaced is none any more.
func (a *applier) finishDirs() error {
	paths := slices.Sorted(maps.Keys(a.dirs))
	slices.Reverse(paths)
	for _, p := range paths {
		fd, err := openat2(a.root, p, unix.O_RDONLY|unix.O_DIRECTORY|a.noFollow(p), 0, inRoot)
		if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
			continue
		}
		if err != nil {
			return &EntryError{p, err}
		}
		err = a.finishDir(fd, a.dirs[p])
		unix.Close(fd)
		if err != nil {
			return &EntryError{p, err}
		}
	}
	return nil
}

// noFollow is for all but the directory that was asked for: a link that came to a
// directory's place later is not it.
func (a *applier) noFollow(p string) int {
	if p == a.dir() {
		return 0
	}
	return unix.O_NOFOLLOW
}

func (a *applier) finishDir(fd int, m dirMeta) error {
	if err := unix.Fchmod(fd, m.perm); err != nil {
		return err
	}
	return unix.UtimesNanoAt(fd, "", timespecs(m.atime, m.mtime), unix.AT_EMPTY_PATH)
}
