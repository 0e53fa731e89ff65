package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/cgroup/limits"
)

// inside is how names are looked up below a mount point: nothing leads out of it.
const inside = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// read reads a file of the tree by its absolute path.
func (t tree) read(name string) (string, error) {
	fd, err := t.open(name, unix.O_RDONLY)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	s, err := readAll(fd)
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return s, nil
}

func (t tree) open(name string, flags int) (int, error) {
	if t.root == unix.AT_FDCWD {
		return retryFD(func() (int, error) { return unix.Open(name, flags|unix.O_CLOEXEC, 0) })
	}
	return retryFD(func() (int, error) {
		return unix.Openat2(t.root, name, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT})
	})
}

// openMount opens the mount point of h, and sees to it that the file system there is the one
// that mountinfo told of, not one that covers it.
func (t tree) openMount(h *Hierarchy) (int, error) {
	fd, err := t.open(h.Mount, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: h.Mount, Err: err}
	}
	if t.root != unix.AT_FDCWD {
		return fd, nil // a test's tree is on any file system
	}
	magic := int64(unix.CGROUP_SUPER_MAGIC)
	if h.Version == limits.V2 {
		magic = unix.CGROUP2_SUPER_MAGIC
	}
	var st unix.Statfs_t
	err = unix.Fstatfs(fd, &st)
	if err == nil && int64(st.Type) != magic {
		err = errors.New("not a cgroup file system")
	}
	if err != nil {
		unix.Close(fd)
		return -1, &fs.PathError{Op: "statfs", Path: h.Mount, Err: err}
	}
	return fd, nil
}

// openDir opens a directory below dir; name may have several components.
func openDir(dir int, name string) (int, error) {
	return openInside(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
}

// openFile opens a file in dir. A name with a slash is refused, whatever it leads to.
func openFile(dir int, name string, flags int) (int, error) {
	if name == "" || strings.Contains(name, "/") {
		return -1, unix.EINVAL
	}
	return openInside(dir, name, flags)
}

func openInside(dir int, name string, flags int) (int, error) {
	return retryFD(func() (int, error) {
		return unix.Openat2(dir, name, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: inside})
	})
}

func readFile(dir int, name string) (string, error) {
	fd, err := openFile(dir, name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return readAll(fd)
}

func readAll(fd int) (string, error) {
	buf := make([]byte, 0, 4096)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", err
		case n == 0:
			return string(buf), nil
		default:
			buf = buf[:len(buf)+n]
		}
	}
}

// writeFile writes value to a file.
func writeFile(dir int, name, value string) error {
	fd, err := openFile(dir, name, unix.O_WRONLY|unix.O_TRUNC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return writeValue(fd, value)
}

// writeValue writes value by one call: these files take each write for itself.
func writeValue(fd int, value string) error {
	for {
		_, err := unix.Write(fd, []byte(value))
		if err != unix.EINTR {
			return err
		}
	}
}

// subdirs lists the directories in dir.
func subdirs(dir int) ([]string, error) { return list(dir, true) }

// files lists what is no directory.
func files(dir int) ([]string, error) { return list(dir, false) }

func list(dir int, dirs bool) ([]string, error) {
	fd, err := retryFD(func() (int, error) { return unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() == dirs {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func retryFD(open func() (int, error)) (int, error) {
	for {
		// EAGAIN is openat2's answer to a rename elsewhere while it looked for "..".
		fd, err := open()
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// readNumber reads a file with one number; "max" is the largest one.
func readNumber(dir int, name string) (uint64, error) {
	s, err := readFile(dir, name)
	if err != nil {
		return 0, err
	}
	n, err := number(strings.TrimSpace(s))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return n, nil
}

// number reads a number of the kernel's. A negative one is 0: some counters of memory
// pass below it for a while.
func number(s string) (uint64, error) {
	if s == "max" {
		return 1<<64 - 1, nil
	}
	if len(s) > 1 && s[0] == '-' && strings.Trim(s[1:], "0123456789") == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no number", s)
	}
	return n, nil
}

// keyed finds the value of a key in a file of lines "KEY NUMBER"; 0 where there is none.
func keyed(text, key string) (uint64, error) {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok && k == key {
			return number(v)
		}
	}
	return 0, nil
}
