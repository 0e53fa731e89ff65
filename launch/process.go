package launch

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/internal/wait"
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
// called again, and by several goroutines. An error is that it is not known how it ended.
func (p *Process) Wait() (syscall.WaitStatus, error) {
	p.waiting.Lock()
	defer p.waiting.Unlock()
	if !p.waited {
		// Not under mu: Signal must work meanwhile.
		p.waitEnd(-1)
		p.reap()
	}
	return p.status, p.err
}

// ExitCode is what a process's end is to shells, and to Docker: its own code, or that of the signal.
func ExitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return abi.Signal(status.Signal()).ExitCode()
	}
	return status.ExitStatus()
}

// WaitEnd waits for the end of the process, and leaves its status to [Process.Wait].
func (p *Process) WaitEnd() { p.WaitEndOr(-1) }

// WaitEndOr is [Process.WaitEnd] until the descriptor wake can be read: false is that the process has not ended.
func (p *Process) WaitEndOr(wake int) bool {
	p.waiting.Lock()
	defer p.waiting.Unlock()
	return p.waited || p.waitEnd(wake)
}

// Ended reports whether the process has ended, waited for or not.
func (p *Process) Ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waited {
		return true
	}
	return p.over(0)
}

// over waits a while for the end of the process, and reports whether it has come.
func (p *Process) over(limit time.Duration) bool {
	n, _ := wait.Poll([]unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}, limit)
	return n > 0
}

// waitEnd waits until the process has ended, with all of its threads. One that asked
// to be traced by its parent, PTRACE_TRACEME, has this thread for its tracer, as far
// as it is the one that cloned it: it would stop at its first signal for good, or
// as a thread keep the process from ending. It is let go. Who asks for that does so at
// its start, as a rule, so it is looked for less often the longer a process runs: each look
// wakes a program that has nothing else to do.
func (p *Process) waitEnd(wake int) bool {
	const first, longest = 1000, 32000 // ms
	for pause := first; ; pause = min(2*pause, longest) {
		fds := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, pause); n > 0 || (err != nil && err != unix.EINTR) {
			return err != nil || fds[0].Revents != 0
		}
		p.letGo()
	}
}

// letGo lets go of threads of the process that this one traces without having
// asked for it: those that stopped are detached, those that ended are reaped.
func (p *Process) letGo() {
	f, err := os.Open("/proc/" + strconv.Itoa(p.PID) + "/task")
	if err != nil {
		return
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	for _, name := range names {
		tid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		options := unix.WSTOPPED | unix.WNOHANG | unix.WALL | unix.WNOWAIT
		if tid != p.PID {
			options |= unix.WEXITED
		}
		var info unix.Siginfo
		if unix.Waitid(unix.P_PID, tid, &info, options, nil) != nil || info.Signo == 0 {
			continue
		}
		const cldTrapped, cldStopped = 4, 5 // si_code, see waitid(2)
		switch info.Code {
		case cldStopped:
			continue // of itself: that is news for who stands in for it
		case cldTrapped:
			syscall.PtraceDetach(tid)
		}
		unix.Waitid(unix.P_PID, tid, &info, options&^unix.WNOWAIT, nil)
	}
}

// reap takes the status of the process, which has ended. One that somebody else traces is his to wait for first, and he may never do that: its status is what /proc tells of it
// then, and it is left to be reaped when he lets go of it.
func (p *Process) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.take(unix.WNOHANG) == 0 && p.err == nil {
		if p.over(0) {
			p.status, p.err = p.shown()
			unreaped.add(p.PID)
		} else {
			p.take(0)
		}
	}
	p.waited = true
	p.stop()
	unix.Close(p.pidfd)
}

// take waits for the status of the process, and returns its number, 0 where it is not to be had.
func (p *Process) take(options int) (pid int) {
	for {
		// A tracer is told of stops here, too, asked for or not.
		pid, p.err = syscall.Wait4(p.PID, &p.status, options, nil)
		if p.err != syscall.EINTR && (p.err != nil || pid == 0 || p.status.Exited() || p.status.Signaled()) {
			return pid
		}
	}
}

// errUnseen is why it is not known how a process ended.
var errUnseen = errors.New("how it ended is known to the process alone that traces it")

// shown is how the process, which has ended, did that, as /proc tells those who may trace it. Others it tells 0, or nothing, with hidepid.
func (p *Process) shown() (syscall.WaitStatus, error) {
	status, ok := process.ExitStatus(p.stat())
	if !ok || status == 0 && !p.mayTrace() {
		return 0, errUnseen
	}
	return status, nil
}

// mayTrace asks for what only who may trace a process may read, and what it has until it is waited for.
func (p *Process) mayTrace() bool {
	_, err := os.Readlink("/proc/" + strconv.Itoa(p.PID) + "/ns/pid")
	return err == nil
}

// stat are the [process.Fields] of the process: it is a child, its number is nobody else's.
func (p *Process) stat() [][]byte {
	data, _ := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/stat")
	return process.Fields(data)
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

// Adopt makes a Process of a child of this one that [Run] did not clone: one that another child made in
// its own place, CLONE_PARENT.
func Adopt(pid int) (*Process, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return &Process{PID: pid, pidfd: pidfd, stop: func() bool { return false }}, nil
}
