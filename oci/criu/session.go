package criu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/wait"
)

// Program is what is looked for in PATH.
const Program = "criu"

// ErrNone is the error of a machine without CRIU.
var ErrNone = errors.New("there is no criu in PATH: install the package criu")

// A Failure is an answer of CRIU's that it could not do what it was asked.
type Failure struct {
	Type    Type // what was asked
	Errno   int
	Message string // of CRIU, may be empty
}

// Error is one line.
func (f *Failure) Error() string {
	s := fmt.Sprintf("criu failed: type %s errno %d", f.Type, f.Errno)
	if f.Errno != 0 {
		s += " (" + syscall.Errno(f.Errno).Error() + ")"
	}
	if f.Message != "" {
		s += ": " + f.Message
	}
	return s
}

// FirstFD is the number that the first of Options.Extra has in CRIU: after its streams and the socket.
const FirstFD = socketFD + 1

const socketFD = 3

// Options are how CRIU is started.
type Options struct {
	Stdio [3]*os.File // nil is /dev/null
	Extra []*os.File  // passed on, from [FirstFD]
}

// A Session is one criu process.
type Session struct {
	fd    int // this end of the socket
	pidfd int
	proc  *os.Process
	ends  sync.Once
	end   *os.ProcessState
}

// Start starts CRIU, from the calling thread and in its mount namespace. The error is [ErrNone] where there is none.
func Start(o Options) (*Session, error) {
	program, err := lookPath(Program)
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "criu")
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	defer null.Close()
	files := make([]*os.File, 0, FirstFD+len(o.Extra))
	for _, f := range o.Stdio {
		if f == nil {
			f = null
		}
		files = append(files, f)
	}
	files = append(append(files, theirs), o.Extra...)
	p, err := os.StartProcess(program, []string{Program, "swrk", fmt.Sprint(socketFD)}, &os.ProcAttr{Env: os.Environ(), Files: files})
	if err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	s := &Session{fd: pair[0], proc: p}
	if s.pidfd, err = unix.PidfdOpen(p.Pid, 0); err != nil {
		s.Kill()
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return s, nil
}

// lookPath finds a program in PATH; a directory that is not absolute is left out.
func lookPath(name string) (string, error) {
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		file := filepath.Join(dir, name)
		if st, err := os.Stat(file); err == nil && filepath.IsAbs(dir) && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", ErrNone
}

// PID is CRIU's.
func (s *Session) PID() int { return s.proc.Pid }

// maxMessage bounds an answer, in bytes.
const maxMessage = 64 << 10

// Do sends a request, has notify see each stage, and returns the answer. An error of notify stops CRIU, and is the error of Do;
// else it is a [Failure], or what became of the process. The end of ctx kills CRIU.
func (s *Session) Do(ctx context.Context, r Request, notify func(Notice) error) (Answer, error) {
	if err := r.Opts.check(); err != nil {
		return Answer{}, err
	}
	defer context.AfterFunc(ctx, func() { s.proc.Kill() })()
	if err := s.send(r.encode()); err != nil {
		return Answer{}, s.lost(ctx, err)
	}
	var refused error
	for {
		a, err := s.receive()
		if err != nil {
			return a, errors.Join(refused, s.lost(ctx, err))
		}
		if a.Type == Notify && a.Success {
			err := s.heed(a.Notice, notify)
			if refused == nil {
				refused = err
			}
			if err := s.send(notified(err == nil)); err != nil {
				return a, errors.Join(refused, s.lost(ctx, err))
			}
			continue
		}
		if refused != nil {
			return a, refused
		}
		if !a.Success {
			return a, &Failure{Type: r.Type, Errno: a.Errno, Message: a.Message}
		}
		if a.Type != r.Type {
			return a, fmt.Errorf("criu: an answer of %s to a request of %s", a.Type, r.Type)
		}
		return a, nil
	}
}

// heed has notify see a stage, and closes the descriptors that came with it.
func (s *Session) heed(n Notice, notify func(Notice) error) error {
	defer closeAll(n.FDs)
	if notify == nil {
		return nil
	}
	return notify(n)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func (s *Session) send(b []byte) error {
	for {
		err := unix.Sendmsg(s.fd, b, nil, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

// receive reads one message, with its descriptors.
func (s *Session) receive() (Answer, error) {
	const most = 8 // descriptors
	b, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*most))
	for {
		if err := s.ready(); err != nil {
			return Answer{}, err
		}
		n, oobn, flags, _, err := unix.Recvmsg(s.fd, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return Answer{}, os.NewSyscallError("recvmsg", err)
		}
		fds := rights(oob[:oobn])
		switch {
		case n == 0:
			err = errEnded
		case flags&unix.MSG_TRUNC != 0:
			err = fmt.Errorf("criu: an answer of more than %d bytes", maxMessage)
		}
		var a Answer
		if err == nil {
			a, err = decode(b[:n])
		}
		if err != nil || a.Type != Notify {
			closeAll(fds)
			return a, err
		}
		a.Notice.FDs = fds
		return a, nil
	}
}

var errEnded = errors.New("it ended without an answer")

// ready waits for a message. The end of the socket would not do: a process that CRIU had begun to restore may have
// its side open, and outlive it.
func (s *Session) ready() error {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}, {Fd: int32(s.pidfd), Events: unix.POLLIN}}
	switch _, err := wait.Poll(fds, -1); {
	case err != nil:
		return os.NewSyscallError("poll", err)
	case fds[0].Revents != 0:
		return nil
	}
	return errEnded
}

// rights are the descriptors of a message.
func rights(oob []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if list, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, list...)
		}
	}
	return fds
}

// lost says what became of a process that does not answer any more.
func (s *Session) lost(ctx context.Context, err error) error {
	if end := ctx.Err(); end != nil {
		err = end
	}
	if st := s.wait(); st != nil && !st.Success() {
		return fmt.Errorf("criu: %w: %s", err, st)
	}
	return fmt.Errorf("criu: %w", err)
}

// wait closes the socket, by which CRIU ends, and waits for that.
func (s *Session) wait() *os.ProcessState {
	s.ends.Do(func() {
		unix.Close(s.fd)
		s.end, _ = s.proc.Wait()
		if s.pidfd > 0 {
			unix.Close(s.pidfd)
		}
	})
	return s.end
}

// Close has CRIU end, by the end of its socket, and tells when it ends with an error.
func (s *Session) Close() error {
	if st := s.wait(); st != nil && !st.Success() {
		return fmt.Errorf("criu: %s", st)
	}
	return nil
}

// Kill ends CRIU at once.
func (s *Session) Kill() {
	s.proc.Kill()
	s.wait()
}
