package launch

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Process is a container's first process, after its execve.
type Process struct {
	PID     int       // on the side of the caller
	Master  *os.File  // the terminal's master side, when the plan made one; the caller closes it
	Timings []float64 // microseconds a step, negative where it was not measured; nil when not asked for

	stop    func() bool
	waiting sync.Mutex // held by who waits; taken before mu
	mu      sync.Mutex
	pidfd   int
	waited  bool
	status  syscall.WaitStatus
	err     error
}

// Wait waits for the end of the process and returns its status: wait4(2). It may be
// called again, and by several goroutines.
func (p *Process) Wait() (syscall.WaitStatus, error) {
	p.waiting.Lock()
	defer p.waiting.Unlock()
	if !p.waited {
		// Not under mu: Signal must work meanwhile.
		p.waitEnd()
		p.reap()
	}
	return p.status, p.err
}

// waitEnd waits until the process has ended. One that asked to be traced by its
// parent, PTRACE_TRACEME, has this thread for its tracer, as far as it is the one
// that cloned it, and would stop at its first signal for good: it is let go.
func (p *Process) waitEnd() {
	const cldTrapped = 4 // siginfo's si_code, see waitid(2)
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PIDFD, p.pidfd, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || (info.Code != cldTrapped && info.Code != cldTrapped+1) {
			return
		}
		if info.Code == cldTrapped {
			syscall.PtraceDetach(p.PID)
		}
		// The stop is taken, or the next call would find it again.
		unix.Waitid(unix.P_PIDFD, p.pidfd, &info, unix.WSTOPPED|unix.WNOHANG, nil)
	}
}

func (p *Process) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		_, p.err = syscall.Wait4(p.PID, &p.status, 0, nil)
		if p.err != syscall.EINTR {
			break
		}
	}
	p.waited = true
	p.stop()
	unix.Close(p.pidfd)
}

// Signal sends sig to the process by its pidfd, so never to another one that got
// its number. It returns os.ErrProcessDone when the process was waited for.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waited {
		return os.ErrProcessDone
	}
	err := unix.PidfdSendSignal(p.pidfd, sig, nil, 0)
	if err == unix.ESRCH {
		return os.ErrProcessDone
	}
	return err
}
