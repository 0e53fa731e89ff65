package files

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Rest reads a pipe or a terminal's master side, and when its deadline has passed what is in it then. What a process wrote is there when the process has
// ended, however late its reader is given a processor; to read to the end would be to wait for all whom the process left behind.
func Rest(pipe *os.File) io.Reader { return &rest{pipe: pipe} }

type rest struct {
	pipe *os.File
	late bool
	left int // to be read after the deadline
}

func (r *rest) Read(b []byte) (n int, err error) {
	if !r.late {
		if n, err = r.pipe.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
	raw, err := r.pipe.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = raw.Control(func(fd uintptr) {
		if !r.late {
			r.late = true
			r.left = held(int(fd))
		}
		if b = b[:min(len(b), r.left)]; len(b) > 0 {
			n, _ = unix.Read(int(fd), b)
		}
	})
	if err == nil && n <= 0 {
		err = os.ErrDeadlineExceeded
	}
	n = max(n, 0)
	r.left -= n
	return n, err
}

// held is how many bytes are in a pipe or a terminal.
func held(fd int) int {
	n, _ := unix.IoctlGetInt(fd, unix.TIOCINQ)
	return n
}
