package files

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// deepest is how many directories within each other are open at a time.
const deepest = 100

// idlePasses is how often a directory is looked through in vain that is not empty: somebody else who removes it, too, may have moved something up to it meanwhile.
const idlePasses = 100

// RemoveAll removes a file, or a directory with all that is in it; one that is not there is none. It follows no link, and does not go
// into what is mounted. Other than by os.RemoveAll the directory may be deeper than a process can have files open, and a
// path be long: containers make such ones. What lies deep is moved up before. What a container has made unchangeable is made changeable again.
func RemoveAll(path string) error {
	dir, name := filepath.Split(strings.TrimRight(path, "/"))
	if dir == "" {
		dir = "."
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err == nil {
		defer unix.Close(fd)
		err = (&remover{}).remove(fd, name, 0)
	}
	if err != nil {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// A remover takes one directory away.
type remover struct {
	top   int // that directory
	moved int // how many directories were moved up there
	gone  int // how many names were taken away
}

// remove removes a name of an open directory.
func (r *remover) remove(dir int, name string, depth int) error {
	err := unlink(dir, name, 0, depth)
	switch err {
	case nil, unix.ENOENT:
		r.gone++
		return nil
	case unix.EISDIR:
	default:
		return err
	}
	if depth == deepest {
		return r.moveUp(dir, name)
	}
	fd, err := openBelow(dir, name)
	if err == unix.ENOENT {
		return nil // somebody else removes it, too
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if depth == 0 {
		r.top = fd
	}
	if os.Geteuid() != 0 {
		unix.Fchmod(fd, 0o700) // its owner may have closed it to itself
	}
	for idle := 0; ; {
		before := r.gone + r.moved
		if err := r.empty(f, depth); err != nil {
			return err
		}
		err := unlink(dir, name, unix.AT_REMOVEDIR, depth)
		if err == nil || err == unix.ENOENT {
			r.gone++
			return nil
		}
		if err != unix.ENOTEMPTY {
			return err
		}
		if depth > 0 {
			return nil // what was moved up has this name by now: the top one is not empty then
		}
		if idle++; r.gone+r.moved != before {
			idle = 0
		}
		if idle == idlePasses {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

// unlink is unlinkat(2) of a name, and again where attributes forbid it, of the file or of the directory that it is in, if that is to be removed, too.
func unlink(dir int, name string, flags, depth int) error {
	err := unix.Unlinkat(dir, name, flags)
	if err != unix.EPERM {
		return err
	}
	loose := loosen(dir, name)
	if depth > 0 {
		loose = loosen(dir, ".") || loose
	}
	if loose {
		err = unix.Unlinkat(dir, name, flags)
	}
	return err
}

// unchangeable are the attributes by which not even root may remove a file, or what is in a directory: chattr(1).
const unchangeable = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND // as FS_IOC_SETFLAGS has them, too

// loosen takes these attributes from a file of an open directory, and reports whether it had any. Only files and directories have them.
func loosen(dir int, name string) bool {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV}
	at, err := unix.Openat2(dir, name, &how)
	if err != nil {
		return false
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(at), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	has, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	return err == nil && has&unchangeable != 0 && unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(has&^unchangeable)) == nil
}

// A directory is one that is open, and can be opened to its owner.
type directory interface {
	Fd() uintptr
	Readdirnames(n int) ([]string, error)
	Chmod(mode os.FileMode) error
}

// empty removes all that is in a directory, and goes on where something cannot be removed. The error is the first.
func (r *remover) empty(f directory, depth int) (first error) {
	for opened := false; ; {
		names, err := f.Readdirnames(1024)
		for _, name := range names {
			if err := r.remove(int(f.Fd()), name, depth+1); err != nil && first == nil {
				first = err
			}
		}
		if err == io.EOF || errors.Is(err, unix.ENOENT) { // the directory has gone meanwhile
			return first
		}
		if errors.Is(err, unix.EACCES) && !opened {
			// A server of files, as that of sshfs, knows of no capabilities of a user namespace, and says so only here.
			opened, err = true, f.Chmod(0o700)
		}
		if err != nil {
			return err
		}
	}
}

// moveUp gives a directory a name in the top one.
func (r *remover) moveUp(dir int, name string) error {
	for {
		r.moved++
		to := ".deep-" + strconv.Itoa(r.moved)
		err := MoveNew(dir, name, r.top, to)
		if err == unix.EPERM {
			loose := loosen(dir, name)
			loose = loosen(dir, ".") || loose
			if loosen(r.top, ".") || loose {
				err = MoveNew(dir, name, r.top, to)
			}
		}
		switch err {
		case unix.EEXIST:
		case unix.ENOENT:
			return nil
		default:
			return err
		}
	}
}

// openBelow opens a directory in another one, which its owner may have closed.
func openBelow(dir int, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err := unix.Openat2(dir, name, &how)
	if err != unix.EACCES {
		return fd, err
	}
	path := how
	path.Flags |= unix.O_PATH
	path.Flags &^= unix.O_RDONLY
	at, err := unix.Openat2(dir, name, &path)
	if err != nil {
		return -1, err
	}
	defer unix.Close(at)
	if err := unix.Chmod("/proc/self/fd/"+strconv.Itoa(at), 0o700); err != nil {
		return -1, err
	}
	return unix.Openat2(dir, name, &how)
}
