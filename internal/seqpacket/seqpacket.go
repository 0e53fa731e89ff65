package seqpacket

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/wait"
)

// New makes a file of a socket, which is the file's from then on.
func New(fd int) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), "socket"), nil
}

// Pair makes two that are connected: one for this process, and one to be handed to another, which waits in its calls until that changes it.
func Pair() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if ours, err = New(pair[0]); err != nil {
		unix.Close(pair[1])
		return nil, nil, err
	}
	return ours, os.NewFile(uintptr(pair[1]), "socket"), nil
}

// dialPatience is how long [Dial] waits for a listener that has as many connections waiting as it may have.
const dialPatience = 10 * time.Second

// scarcePause is how long [Accept] waits until it looks once more for what was scarce.
const scarcePause = 50 * time.Millisecond

// ErrNobody says that nobody listens: the socket is not there, or is that of a process which has ended.
var ErrNobody = errors.New("nobody listens")

// Dial connects to the socket of a name in the directory dir. The error is an [ErrNobody] where that is so; EAGAIN says that nobody takes connections.
func Dial(dir int, name string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// Without a limit it would wait for ever where so many wait already that nobody takes them: unix(7).
	to := address(dir, name)
	err = wait.Socket(fd, unix.SO_SNDTIMEO, dialPatience, func() error { return unix.Connect(fd, to) })
	if err != nil {
		unix.Close(fd)
		if err == unix.ENOENT || err == unix.ECONNREFUSED {
			return nil, fmt.Errorf("%w: %w", ErrNobody, err)
		}
		return nil, os.NewSyscallError("connect", err)
	}
	return New(fd)
}

// Listen makes a socket of a name in the directory dir, in the place of one that was there: nobody else may do so at a time. Only its owner may connect.
func Listen(dir int, name string) (*os.File, error) {
	if err := unix.Unlinkat(dir, name, 0); err != nil && err != unix.ENOENT {
		return nil, os.NewSyscallError("unlink", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	a := address(dir, name)
	if err = unix.Bind(fd, a); err == nil {
		if err = unix.Chmod(a.Name, 0o600); err == nil {
			err = unix.Listen(fd, 128)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return New(fd)
}

func address(dir int, name string) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)}
}

// Accept waits for a connection to what [Listen] made, of this process's user or of root. Others are hung up on: the name's directory is closed to
// them, and who was let in by a mistake is not heard. Where there are too few descriptors or too little memory for one more, it waits for those.
func Accept(listener *os.File) (*os.File, error) {
	raw, err := listener.SyscallConn()
	if err != nil {
		return nil, err
	}
	for {
		fd := -1
		waited := raw.Read(func(l uintptr) bool {
			for {
				fd, _, err = unix.Accept4(int(l), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
				if err != unix.EINTR && err != unix.ECONNABORTED {
					return err != unix.EAGAIN
				}
			}
		})
		if waited == nil && (err == unix.EMFILE || err == unix.ENFILE || err == unix.ENOBUFS || err == unix.ENOMEM) {
			time.Sleep(scarcePause) // the kernel tells nobody of the next one that is free
			continue
		}
		if err := errors.Join(waited, os.NewSyscallError("accept", err)); err != nil {
			return nil, err
		}
		peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
			unix.Close(fd)
			continue
		}
		return New(fd)
	}
}

// Peer is who is at the other end of a connection, as the kernel saw it when that was made.
func Peer(conn *os.File) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	closed := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return peer, errors.Join(closed, os.NewSyscallError("getsockopt", err))
}

// Send sends a message with descriptors, which stay the caller's.
func Send(conn *os.File, message []byte, fds ...int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	waited := raw.Write(func(fd uintptr) bool {
		for {
			err = unix.Sendmsg(int(fd), message, oob, nil, unix.MSG_NOSIGNAL)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	return errors.Join(waited, os.NewSyscallError("sendmsg", err))
}

// CloseWrite says that no message comes any more: the other end is told io.EOF behind the last one, and may still send.
func CloseWrite(conn *os.File) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	control := raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) })
	return errors.Join(control, os.NewSyscallError("shutdown", err))
}

// Receive waits for a message. What is longer than buf is cut off, and so are descriptors beyond most. Where the other end is gone the error is io.EOF.
func Receive(conn *os.File, buf []byte, most int) (n int, fds []int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	waited := raw.Read(func(fd uintptr) bool {
		n, fds, err = Recvmsg(int(fd), buf, most)
		return err != unix.EAGAIN
	})
	switch {
	case waited != nil:
		return 0, nil, waited
	case err == nil && n == 0:
		for _, fd := range fds { // of an empty message, which nobody sends
			unix.Close(fd)
		}
		return 0, nil, io.EOF
	}
	return n, fds, err
}

// Recvmsg is [Receive] by recvmsg(2) alone, for a descriptor that no poller knows; it gives 0 bytes where the other end is gone.
func Recvmsg(fd int, buf []byte, most int) (n int, fds []int, err error) {
	oob := make([]byte, unix.CmsgSpace(4*most))
	var oobn int
	for {
		n, oobn, _, _, err = unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		// ECONNRESET comes once, when the other end closed with a message unread. What it sent before is behind that, and the end behind it.
		if err != unix.EINTR && err != unix.ECONNRESET {
			break
		}
	}
	if err != nil || oobn == 0 {
		return max(n, 0), nil, err
	}
	list, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(list) == 0 {
		return n, nil, err
	}
	fds, err = unix.ParseUnixRights(&list[0])
	return n, fds, err
}
