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

// RemoveAll removes a file, or a directory with all that is in it; one that is not there is none. It follows no link, and does not go
// into what is mounted. Other than by os.RemoveAll the directory may be deeper than a process can have files open, and a
// path be long: containers make such ones. What lies deep is moved up before.
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
}

// remove removes a name of an open directory.
func (r *remover) remove(dir int, name string, depth int) error {
	err := unix.Unlinkat(dir, name, 0)
	switch err {
	case nil, unix.ENOENT:
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
	for {
		moved := r.moved
		if err := r.empty(f, depth); err != nil {
			return err
		}
		err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		if err == unix.ENOENT {
			return nil
		}
		if err != unix.ENOTEMPTY || depth > 0 || r.moved == moved {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil { // what was moved up is left
			return err
		}
	}
}

// empty removes all that is in a directory, and goes on where something cannot be removed. The error is the first.
func (r *remover) empty(f *os.File, depth int) (first error) {
	for {
		names, err := f.Readdirnames(1024)
		for _, name := range names {
			if err := r.remove(int(f.Fd()), name, depth+1); err != nil && first == nil {
				first = err
			}
		}
		if err == io.EOF || errors.Is(err, unix.ENOENT) { // the directory has gone meanwhile
			return first
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
		err := unix.Renameat2(dir, name, r.top, ".deep-"+strconv.Itoa(r.moved), unix.RENAME_NOREPLACE)
		if err == unix.ENOENT {
			return nil
		}
		if err != unix.EEXIST {
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
