package namespace

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A dir is an open directory below a /proc, as a descriptor.
type dir int

// openDir opens a directory for looking up what is in it. Its errors are bare errnos.
func openDir(at dir, name string) (dir, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(int(at), name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	return dir(fd), err
}

func (d dir) close() { unix.Close(int(d)) }

// openProc returns the directory of proc, or of /proc for nil, and what closes it.
func openProc(proc *os.File) (dir, func(), error) {
	if proc != nil {
		return dir(proc.Fd()), func() {}, nil
	}
	d, err := openDir(unix.AT_FDCWD, "/proc")
	if err != nil {
		return 0, nil, fmt.Errorf("/proc: open: %w", err)
	}
	return d, d.close, nil
}

// read returns the file name in d whole, in buf when it is large enough. Files of /proc
// have no size beforehand.
func (d dir) read(name string, buf []byte) ([]byte, error) {
	fd, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readMost(fd, buf, math.MaxInt)
}

func (d dir) open(name string) (fd int, err error) {
	return retry(func() (int, error) {
		return unix.Openat(int(d), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
}

// readMost reads a file that may have no end, in buf when it is large enough: what is behind so many bytes is left out.
func readMost(fd int, buf []byte, most int) ([]byte, error) {
	buf = buf[:0]
	for {
		if cap(buf)-len(buf) < 512 {
			buf = append(buf, make([]byte, max(4096, cap(buf)))...)[:len(buf)]
		}
		n, err := retry(func() (int, error) { return unix.Read(fd, buf[len(buf):cap(buf)]) })
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return buf, nil
		}
		if buf = buf[:len(buf)+n]; len(buf) >= most {
			return buf[:most], nil
		}
	}
}

// link returns what the symbolic link name in d says.
func (d dir) link(name string) (string, error) {
	var buf [64]byte // "time_for_children:[18446744073709551615]" has 41
	n, err := retry(func() (int, error) { return unix.Readlinkat(int(d), name, buf[:]) })
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// numbers returns the names in the directory name of d that are numbers, ascending.
func (d dir) numbers(name string) ([]int, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(int(d), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	list := make([]int, 0, len(names))
	for _, s := range names {
		if n, err := strconv.Atoi(s); err == nil && n >= 0 {
			list = append(list, n)
		}
	}
	return sorted(list), nil
}

// retry repeats a call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

// gone tells whether err means that the process has ended: its directory is away, or a
// file opened before finds no task any more (ESRCH).
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// A processError is what went wrong with one file of one process.
type processError struct {
	pid  int
	what string
	err  error
}

func (e *processError) Error() string {
	cause := e.err.Error()
	switch {
	case e.err == unix.ESRCH, e.err == unix.ENOENT && e.what == "":
		cause = "no such process"
	case errors.Is(e.err, fs.ErrPermission):
		cause += ": only its user and root may read this"
	}
	if e.what == "" {
		return fmt.Sprintf("process %d: %s", e.pid, cause)
	}
	return fmt.Sprintf("process %d: %s: %s", e.pid, e.what, cause)
}

func (e *processError) Unwrap() error { return e.err }

// Is lets a process that ended while it was read count as one that is not there.
func (e *processError) Is(target error) bool { return target == fs.ErrNotExist && e.err == unix.ESRCH }

// readFile opens the process pid and gives the file name of it to parse.
func readFile[T any](proc *os.File, pid int, name string, parse func([]byte) (T, error)) (T, error) {
	var zero T
	p, done, err := openProcess(proc, pid)
	if err != nil {
		return zero, err
	}
	defer done()
	data, err := p.read(name, nil)
	if err != nil {
		return zero, &processError{pid, name, err}
	}
	v, err := parse(data)
	if err != nil {
		return zero, &processError{pid, name, err}
	}
	return v, nil
}

// openProcess returns the directory of one process.
func openProcess(proc *os.File, pid int) (dir, func(), error) {
	root, done, err := openProc(proc)
	if err != nil {
		return 0, nil, err
	}
	p, err := openDir(root, strconv.Itoa(pid))
	done()
	if err != nil {
		return 0, nil, &processError{pid, "", err}
	}
	return p, p.close, nil
}
