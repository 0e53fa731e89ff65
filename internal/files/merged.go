package files

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Merged reads several pipes, or terminals' master sides, in the order in which something came to them since it was made, and when its deadline has passed
// what is in them then, as [Rest] does. A reader for each would know no order: which one is given a processor first says nothing.
type Merged struct {
	pipes []*os.File
	first *os.File // epoll(7), which shows first who had something first
	open  int      // pipes that have not ended
	late  bool
	left  []int // of each pipe, to be read after the deadline
}

// Merge takes files that do not block, which stay the caller's.
func Merge(pipes ...*os.File) (*Merged, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	for i, p := range pipes {
		err = errors.Join(err, onDescriptor(p, func(pipe int) error {
			return unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, pipe, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)})
		}))
	}
	if err = errors.Join(err, unix.SetNonblock(fd, true)); err != nil { // or it would not be waited for by deadline
		unix.Close(fd)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return &Merged{pipes: pipes, first: os.NewFile(uintptr(fd), "epoll"), open: len(pipes), left: make([]int, len(pipes))}, nil
}

// Read reads from one pipe, and says which. An error is that pipe's end, and the others go on while [Merged.Open] says so; [os.ErrDeadlineExceeded] is the end of all.
func (m *Merged) Read(b []byte) (pipe, n int, err error) {
	for {
		if pipe, err = m.next(); err != nil {
			m.open = 0
			return 0, 0, err
		}
		part := b
		if m.late {
			part = b[:min(len(b), m.left[pipe])]
		}
		if len(part) == 0 {
			m.drop(pipe)
			continue
		}
		err = onDescriptor(m.pipes[pipe], func(fd int) (err error) {
			n, err = unix.Read(fd, part)
			return err
		})
		switch {
		case err == unix.EAGAIN || err == unix.EINTR: // somebody else has read it
			continue
		case n > 0:
			m.left[pipe] -= n
			return pipe, n, nil
		}
		m.drop(pipe)
		if err == nil {
			err = io.EOF
		}
		return pipe, 0, err
	}
}

// next is the pipe that has had something for the longest time.
func (m *Merged) next() (pipe int, err error) {
	if m.open == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	raw, err := m.first.SyscallConn()
	if err != nil {
		return 0, err
	}
	var ready [1]unix.EpollEvent
	look := func(fd uintptr) bool {
		n, _ := unix.EpollWait(int(fd), ready[:], 0)
		return n > 0
	}
	if !m.late {
		if err = raw.Read(look); !errors.Is(err, os.ErrDeadlineExceeded) {
			return int(ready[0].Fd), err
		}
		m.late = true
		for i, p := range m.pipes {
			onDescriptor(p, func(fd int) error { m.left[i] = held(fd); return nil })
		}
	}
	found := false
	if err = raw.Control(func(fd uintptr) { found = look(fd) }); err == nil && !found {
		err = os.ErrDeadlineExceeded
	}
	return int(ready[0].Fd), err
}

// drop looks no more at a pipe.
func (m *Merged) drop(pipe int) {
	m.open--
	onDescriptor(m.first, func(epoll int) error {
		return onDescriptor(m.pipes[pipe], func(fd int) error { return unix.EpollCtl(epoll, unix.EPOLL_CTL_DEL, fd, nil) })
	})
}

// Open reports whether there is something to be read, or to be waited for.
func (m *Merged) Open() bool { return m.open > 0 }

// SetReadDeadline is [os.File.SetReadDeadline] for all pipes together.
func (m *Merged) SetReadDeadline(t time.Time) error { return m.first.SetReadDeadline(t) }

// Close leaves the pipes open.
func (m *Merged) Close() error { return m.first.Close() }

func onDescriptor(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var did error
	if err := raw.Control(func(fd uintptr) { did = do(int(fd)) }); err != nil {
		return err
	}
	return did
}
