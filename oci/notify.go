package oci

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/wait"
)

// Who starts this program may want to hear when the container's process is ready: NOTIFY_SOCKET of sd_notify(3). The process
// gets a socket of the container's own, at the place that runc has for it; what it says there of being ready is passed on. The
// manager's socket is not shown inside: by it a container could speak for its manager's other units.
const (
	noticeDir  = "notify" // in the state directory, and what is mounted inside
	noticeName = "notify.sock"
	insideDir  = "/run/notify"
)

// withNotices adds to a configuration what the container's process needs to say that it is ready. It is the same where nobody
// wants to hear.
func (c *Container) withNotices(s *specs.Spec) (*specs.Spec, error) {
	if os.Getenv("NOTIFY_SOCKET") == "" || s.Process == nil {
		return s, nil
	}
	if err := unix.Mkdirat(c.fd, noticeDir, 0o755); err != nil {
		return nil, &os.PathError{Op: "mkdir", Path: c.dir + "/" + noticeDir, Err: err}
	}
	with, process := *s, *s.Process
	with.Mounts = append(slices.Clone(s.Mounts), specs.Mount{
		Destination: insideDir, Source: c.dir + "/" + noticeDir, Options: []string{"bind", "nosuid", "noexec", "nodev", "ro"},
	})
	process.Env = append(slices.Clone(process.Env), "NOTIFY_SOCKET="+insideDir+"/"+noticeName)
	with.Process = &process
	return &with, nil
}

// A notices is where a container's process says that it is ready, and to whom that is told.
type notices struct {
	fd   int    // socket of the container
	host string // path of the manager's
}

// notices opens the container's socket. It is nil where nobody wants to hear, and where the container was made without.
func (c *Container) notices() (_ *notices, err error) {
	manager := os.Getenv("NOTIFY_SOCKET")
	if manager == "" {
		return nil, nil
	}
	dir, err := unix.Open(c.dir+"/"+noticeDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: c.dir + "/" + noticeDir, Err: err}
	}
	defer unix.Close(dir)
	n := &notices{host: manager}
	if n.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// A state directory's path may be longer than an address can be.
	name := fmt.Sprintf("/proc/self/fd/%d/%s", dir, noticeName)
	address := &unix.SockaddrUnix{Name: name}
	err = unix.Bind(n.fd, address)
	if err == unix.EADDRINUSE && abandoned(address) {
		unix.Unlink(name)
		err = unix.Bind(n.fd, address)
	}
	if err == nil {
		err = unix.Chmod(name, 0o777) // whoever the process is
	}
	if err != nil {
		n.close()
		return nil, &os.PathError{Op: "bind", Path: c.dir + "/" + noticeDir + "/" + noticeName, Err: err}
	}
	return n, nil
}

// abandoned reports whether nobody has the socket any more: who made it for a start was killed before that.
func abandoned(address *unix.SockaddrUnix) bool {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(s)
	return unix.Connect(s, address) == unix.ECONNREFUSED
}

func (n *notices) close() {
	if n != nil {
		unix.Close(n.fd)
	}
}

// forward waits until the container's process, init, is ready, and tells the manager that, with the pid that it has to watch from
// now on. When the process has ended before, there is nothing to tell.
func (n *notices) forward(init, pid int) error {
	if n == nil {
		return nil
	}
	p := OpenProcess(init)
	if p == nil {
		return nil
	}
	defer p.Close()
	ready, err := n.await(p.FD())
	if err != nil || ready == nil {
		return err
	}
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	if err := unix.Connect(s, &unix.SockaddrUnix{Name: n.host}); err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", &os.PathError{Op: "connect", Path: n.host, Err: err})
	}
	for _, text := range []string{string(ready) + "\n", "MAINPID=" + strconv.Itoa(pid) + "\n"} {
		if _, err := unix.Write(s, []byte(text)); err != nil {
			return fmt.Errorf("NOTIFY_SOCKET: %w", &os.PathError{Op: "write", Path: n.host, Err: err})
		}
	}
	return barrier(s)
}

// await gives the line in which the process says that it is ready; nil when it has ended.
func (n *notices) await(pidfd int) ([]byte, error) {
	buf := make([]byte, 4096)
	for {
		fds := []unix.PollFd{{Fd: int32(n.fd), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
		if _, err := wait.Poll(fds, -1); err != nil {
			return nil, os.NewSyscallError("poll", err)
		}
		if fds[0].Revents == 0 {
			return nil, nil
		}
		size, err := unix.Read(n.fd, buf)
		if err != nil && err != unix.EINTR {
			return nil, os.NewSyscallError("read", err)
		}
		for line := range bytes.SplitSeq(buf[:max(size, 0)], []byte{'\n'}) {
			if bytes.HasPrefix(line, []byte("READY=")) {
				return line, nil
			}
		}
	}
}

// barrierTime is how long the manager has to look at what it was told.
const barrierTime = 30 * time.Second

// barrier waits until the manager has seen all that was sent to it: sd_notify_barrier(3). Afterwards this program may
// end without the manager taking that for the service's end. One that does not know of barriers is not waited for any longer.
func barrier(s int) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(pipe[0])
	err := unix.Sendmsg(s, []byte("BARRIER=1"), unix.UnixRights(pipe[1]), nil, unix.MSG_NOSIGNAL)
	unix.Close(pipe[1])
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", os.NewSyscallError("sendmsg", err))
	}
	fds := []unix.PollFd{{Fd: int32(pipe[0]), Events: unix.POLLIN}}
	if _, err := wait.Poll(fds, barrierTime); err != nil {
		return os.NewSyscallError("poll", err)
	}
	if fds[0].Revents&unix.POLLIN != 0 {
		return errors.New("NOTIFY_SOCKET: the manager wrote to the barrier's pipe, which is to be closed only")
	}
	return nil
}
