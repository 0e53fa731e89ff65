package files

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Open opens a regular file to be read. What is something else by mistake, as a FIFO, would hold up who opens it.
func Open(name string) (*os.File, error) {
	// os.Open would try by five calls more whether it is one to wait for, and os.NewFile by one or more, of what does not block.
	fd, err := open(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("not a regular file")
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0)
	}
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// open is open(2), for a descriptor that an execve closes; a server of files may interrupt it.
func open(name string, flags int) (fd int, err error) {
	for {
		fd, err = unix.Open(name, flags|unix.O_CLOEXEC, 0)
		if err == nil {
			return fd, nil
		}
		if err != unix.EINTR {
			return -1, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

// RealPath is where a path leads, without links; empty where it leads to
// nothing that the caller can reach.
func RealPath(p string) string {
	fd, err := unix.Open(p, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	real, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return ""
	}
	return real
}
