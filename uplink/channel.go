package uplink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A channel is a socket of SOCK_SEQPACKET whose reader waits without a thread.
type channel struct {
	file *os.File
	raw  syscall.RawConn
}

// newChannel takes the descriptor over.
func newChannel(fd int) (*channel, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	file := os.NewFile(uintptr(fd), "socket")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &channel{file, raw}, nil
}

func (c *channel) close() { c.file.Close() }

// receive waits for a message. At the end it is io.EOF.
func (c *channel) receive() (text []byte, fds []int, err error) {
	if e := c.raw.Read(func(fd uintptr) bool {
		text, fds, err = receive(int(fd))
		return err != unix.EAGAIN
	}); e != nil {
		return nil, nil, e
	}
	if err == nil && len(text) == 0 {
		err = io.EOF
	}
	return text, fds, err
}

// send sends a message with descriptors, which stay the caller's.
func (c *channel) send(text []byte, fds ...int) (err error) {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if e := c.raw.Write(func(fd uintptr) bool {
		err = unix.Sendmsg(int(fd), text, oob, nil, unix.MSG_NOSIGNAL)
		return err != unix.EAGAIN
	}); e != nil {
		return e
	}
	return os.NewSyscallError("sendmsg", err)
}

// accept waits for a connection, of the same user or of root alone.
func (c *channel) accept() (*channel, error) {
	for {
		var fd int
		var err error
		if e := c.raw.Read(func(l uintptr) bool {
			fd, _, err = unix.Accept4(int(l), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return err != unix.EAGAIN
		}); e != nil {
			return nil, e
		}
		switch err {
		case nil:
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			return nil, os.NewSyscallError("accept", err)
		}
		peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
			unix.Close(fd)
			continue
		}
		return newChannel(fd)
	}
}

// A side is the process in the namespaces, as the other one sees it. Its words are those of [inside].
type side struct {
	mu   sync.Mutex
	c    *channel
	wait func()
	pid  int
}

// ask sends words, and gives the words of the answer with its descriptor, -1 if it has none.
func (s *side) ask(fd int, words ...any) (answer []string, got int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var fds []int
	if fd >= 0 {
		fds = []int{fd}
	}
	if err := s.c.send([]byte(strings.TrimSuffix(fmt.Sprintln(words...), "\n")), fds...); err != nil {
		return nil, -1, err
	}
	return s.hear()
}

func (s *side) hear() (answer []string, got int, err error) {
	text, list, err := s.c.receive()
	if err != nil {
		return nil, -1, fmt.Errorf("the process in the namespaces: %w", err)
	}
	got = -1
	if len(list) > 0 {
		got = list[0]
	}
	if text, ok := strings.CutPrefix(string(text), wordError+" "); ok {
		return nil, got, errors.New(text)
	}
	return strings.Fields(string(text)), got, nil
}
