package launch

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

func isStart(op plan.Op) bool {
	s, ok := op.(*plan.Sync)
	return ok && s.From == plan.Runtime && s.What == plan.StartWord
}

// start waits until the container's side is at the start, too, or, where the stub forks, has said which process goes on. A word that
// was sent ahead would let a container go on whose runtime has died meanwhile,
// before it asked to be told of that.
func (r *run) start(i int, s *plan.Sync) error {
	word := uint32(plan.MsgSync)
	if s.Fork {
		word = plan.MsgFork
	}
	if _, err := r.receive(i, word); err != nil {
		return err
	}
	if fd := int(r.ours.regs[plan.RegMaster]); fd >= 0 && r.opts.Terminal != nil {
		if err := r.opts.Terminal(fd); err != nil {
			return r.fail(i, "", err)
		}
	}
	if r.opts.Start == nil {
		return nil
	}
	if err := r.opts.Start(r.proc.PID); err != nil {
		return r.fail(i, "", err)
	}
	return nil
}

// sync does the runtime's half of a meeting.
func (r *run) sync(i int, s *plan.Sync) error {
	if s.From == plan.Runtime {
		return r.tell(i, s)
	}
	fds, err := r.receive(i, plan.MsgSync)
	if err != nil {
		return err
	}
	if len(fds) != len(s.FDs) {
		closeAll(fds)
		return r.fail(i, "recvmsg", fmt.Errorf("%d descriptors came, %d were due", len(fds), len(s.FDs)))
	}
	for k, reg := range s.FDs {
		if old := r.ours.regs[reg]; old >= 0 {
			unix.Close(int(old))
		}
		r.ours.regs[reg] = int64(fds[k])
	}
	return nil
}

// tell has the container's side go on, with descriptors of the runtime's.
func (r *run) tell(i int, s *plan.Sync) error {
	if isStart(s) {
		if err := r.start(i, s); err != nil {
			return err
		}
	}
	msg := make([]byte, plan.MsgSize)
	msg[0] = plan.MsgSync
	var rights []byte
	if len(s.FDs) > 0 {
		fds := make([]int, len(s.FDs))
		for k, reg := range s.FDs {
			fds[k] = int(r.ours.regs[reg])
		}
		rights = unix.UnixRights(fds...)
	}
	err := unix.Sendmsg(r.sock, msg, rights, nil, unix.MSG_NOSIGNAL)
	if err == unix.EPIPE || err == unix.ECONNRESET {
		return r.childGone(i)
	}
	if err != nil {
		return r.fail(i, "sendmsg", err)
	}
	return nil
}

// childGone reads why the child went away.
func (r *run) childGone(i int) error {
	if _, err := r.receive(i, plan.MsgSync); err != nil {
		return err
	}
	return r.fail(i, "", errors.New("the container's process went away"))
}

// receive reads messages until one of the wanted kind, a sync or a fork, and
// follows a fork on the way.
func (r *run) receive(i int, want uint32) ([]int, error) {
	if want == plan.MsgSync && len(r.early) > 0 {
		fds := r.early[0]
		r.early = r.early[1:]
		return fds, nil
	}
	var early error // of the copy that a fork made: it may be faster than the word of the fork
	for {
		if want == plan.MsgFork {
			lost, err := r.forkLost()
			if err != nil {
				return nil, err
			}
			if lost {
				return nil, cmp.Or(early, r.fail(i, "", r.deathReason()))
			}
		}
		kind, a, b, fds, err := r.message()
		switch {
		case err == io.EOF && early != nil:
			return nil, early
		case err == io.EOF:
			return nil, r.fail(i, "", r.deathReason())
		case err != nil:
			closeAll(fds)
			return nil, r.unheard(i, err)
		case kind == plan.MsgSync && want == plan.MsgFork && len(r.early) == len(r.plan.Steps):
			closeAll(fds)
			return nil, r.fail(i, "", errors.New("more messages from the container's side than there are steps"))
		case kind == plan.MsgSync && want == plan.MsgFork:
			r.early = append(r.early, fds)
		case kind == plan.MsgSync:
			return fds, nil
		case kind == plan.MsgFork:
			closeAll(fds)
			if r.sender != r.proc.PID {
				return nil, r.fail(i, "", fmt.Errorf("process %d says that another one forked: it has a copy of that one's socket", r.sender))
			}
			if err := r.follow(int(a)); err != nil {
				return nil, r.fail(i, "pidfd_open", err)
			}
			if want == plan.MsgFork {
				return nil, early
			}
		default:
			closeAll(fds)
			e := r.reported(i, want, kind, a, b)
			if want != plan.MsgFork {
				return nil, e
			}
			early = e
		}
	}
}

// reported is the error that a message tells of.
func (r *run) reported(i int, want, kind, a, b uint32) error {
	switch {
	case kind == plan.MsgExec && want == plan.MsgFork && r.stubForks():
		return r.fail(i, "clone", syscall.Errno(b)) // which is not the program's fault
	case kind == plan.MsgExec:
		return r.fail(len(r.plan.Steps)-1, "execve", syscall.Errno(b))
	}
	return r.childError(a, b)
}

// forkLost waits for the next message, and reports whether there will be none of a fork: the process was killed over it, and its copy, if there is one, waits for this side.
func (r *run) forkLost() (bool, error) {
	fds := []unix.PollFd{{Fd: int32(r.sock), Events: unix.POLLIN}, {Fd: int32(r.proc.pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, stopTime)
		switch {
		case err == unix.EINTR:
		case err != nil || fds[0].Revents != 0:
			return false, nil // reading it says what it is
		case n == 0:
			if err := r.stuck(); err != nil {
				return false, err
			}
		default:
			n, err := unix.Poll(fds[:1], 0) // it may have spoken right before its end
			return err == nil && n == 0, nil
		}
	}
}

// waitExec waits for the child's end of the socket to close at execve.
func (r *run) waitExec() error {
	last := len(r.plan.Steps) - 1
	kind, a, b, fds, err := r.message()
	closeAll(fds)
	switch {
	case err == io.EOF:
		return nil
	case err != nil:
		return r.unheard(last, err)
	case kind == plan.MsgError:
		return r.childError(a, b)
	case kind == plan.MsgExec:
		return r.fail(last, "execve", syscall.Errno(b))
	}
	return r.fail(last, "", fmt.Errorf("unexpected message %d from the container's side", kind))
}

// Who is in the pid namespace that the container's process joins may stop it by a signal. It is had go on, a few times: this side would wait for ever, and with it
// whoever wants the container.
const (
	stopTime  = 500 // ms without a message
	mostStops = 3
)

// await waits until there is a message, or the end, which is io.EOF where the process has gone, or has executed another program, and the socket is not closed: who may
// trace it can have a copy of that, by pidfd_getfd(2).
func (r *run) await() error {
	for stops := 0; ; {
		fds := []unix.PollFd{{Fd: int32(r.sock), Events: unix.POLLIN}, {Fd: int32(r.proc.pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, stopTime)
		switch {
		case err == unix.EINTR:
		case err != nil || n != 0 && fds[0].Revents != 0:
			return nil // reading it says what it is
		case n != 0 || r.letGo(): // what it wrote last is there by now
			if n, err := unix.Poll(fds[:1], 0); n == 0 && err == nil {
				return io.EOF
			}
		case !r.stopped():
			if err := r.stuck(); err != nil {
				return err
			}
		case stops == mostStops:
			return fmt.Errorf("process %d is stopped by a signal again and again, by another one of its pid namespace", r.proc.PID)
		default:
			stops++
			r.proc.Signal(unix.SIGCONT) // one that has ended needs none
		}
	}
}

// stuck asks the caller why nothing comes.
func (r *run) stuck() error {
	if r.opts.Stuck == nil {
		return nil
	}
	if err := r.opts.Stuck(r.proc.PID); err != nil {
		return stuckError{err}
	}
	return nil
}

// A stuckError is that of [Options.Stuck]: no step is its cause.
type stuckError struct{ error }

func (e stuckError) Unwrap() error { return e.error }

// letGo reports whether the container's process has closed its end of the socket. An init does that at once, and the process that it has made goes on with it: only the
// end of the socket tells of that one.
func (r *run) letGo() bool { return !r.hasInit && !process.Keeps(r.proc.PID, r.theirs) }

// unheard is the error of a step for which no message came: by recvmsg(2), or because the other side stands still.
func (r *run) unheard(i int, err error) error {
	if stuck, ok := err.(stuckError); ok {
		return stuck.error
	}
	if errors.As(err, new(syscall.Errno)) {
		return r.fail(i, "recvmsg", err)
	}
	return r.fail(i, "", err)
}

// stopped reports whether the container's process stands still by SIGSTOP or the like, or for who traces it.
func (r *run) stopped() bool {
	f := r.proc.stat()
	return f != nil && (f[0][0] == 'T' || f[0][0] == 't')
}

// message reads one message: io.EOF when the other end is closed.
func (r *run) message() (kind, a, b uint32, fds []int, err error) {
	if err := r.await(); err != nil {
		return 0, 0, 0, nil, err
	}
	buf := make([]byte, plan.MsgSize)
	oob := make([]byte, unix.CmsgSpace(4*plan.NumRegs)+unix.CmsgSpace(unix.SizeofUcred))
	for {
		n, oobn, _, _, err := unix.Recvmsg(r.sock, buf, oob, unix.MSG_CMSG_CLOEXEC)
		// ECONNRESET comes once, when the other end closed with a sync unread; what it
		// wrote before is still there, and then the end.
		if err == unix.EINTR || err == unix.ECONNRESET {
			continue
		}
		if err == nil && n == 0 {
			return 0, 0, 0, nil, io.EOF
		}
		if err != nil {
			return 0, 0, 0, nil, err
		}
		var fds []int
		fds, r.sender, err = ancillary(oob[:oobn])
		if err == nil && n != plan.MsgSize {
			err = fmt.Errorf("message of %d bytes", n)
		}
		le := binary.LittleEndian
		return le.Uint32(buf), le.Uint32(buf[4:]), le.Uint32(buf[8:]), fds, err
	}
}

// ancillary are the descriptors that came with a message, and who sent it.
func ancillary(oob []byte) (fds []int, sender int, err error) {
	if len(oob) == 0 {
		return nil, 0, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, 0, err
	}
	for _, m := range msgs {
		if got, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
		if who, err := unix.ParseUnixCredentials(&m); err == nil {
			sender = int(who.Pid)
		}
	}
	return fds, sender, nil
}

// follow takes pid, a child of this process too, for the container's process. Only who forks is believed: another process of the pid namespace that got hold of the
// socket would name one that is no part of this launch, and would have it killed with that.
func (r *run) follow(pid int) error {
	if err := isChild(pid); err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	p := r.proc
	p.mu.Lock()
	forked, forkedFD := p.PID, p.pidfd
	p.PID, p.pidfd = pid, pidfd
	p.mu.Unlock()
	// It has ended, or has nothing else to do.
	unix.PidfdSendSignal(forkedFD, unix.SIGKILL, nil, 0)
	reap(forked)
	return unix.Close(forkedFD)
}

// isChild is an error for a number that is no child's of this process. One that comes from the other side may be anybody's.
func isChild(pid int) error {
	var info unix.Siginfo
	return unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
}

// reap waits for the end of a child that is nobody's [Process].
func reap(pid int) {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// childError turns the child's report into an *Error. The numbers come from
// the other side of a socket and are not trusted.
func (r *run) childError(where, errno uint32) error {
	step, index := int(where>>16), int(where&0xffff)
	if step >= len(r.plan.Steps) {
		return fmt.Errorf("the container's side reports step %d of %d", step+1, len(r.plan.Steps))
	}
	call := ""
	for _, row := range r.child.rows {
		if int(row.step) == step && int(row.index) == index {
			call = callName(uintptr(row.nr))
		}
	}
	return r.fail(step, call, syscall.Errno(errno))
}

// deathReason says how a child ended that reported nothing.
func (r *run) deathReason() error {
	if !r.proc.over(time.Second) {
		return errors.New("the container's process goes on without its socket, which another one of its pid namespace may have taken from it")
	}
	st, err := r.proc.Wait()
	switch {
	case err != nil:
		return err
	case st.Signaled():
		return fmt.Errorf("the container's process was ended by signal %s", abi.Signal(st.Signal()))
	}
	return fmt.Errorf("the container's process ended with code %d", st.ExitStatus())
}
