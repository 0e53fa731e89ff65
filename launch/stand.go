package launch

import (
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Stand is how this process takes signals while a program runs that it started in the place of
// unshare(1) or nsenter(1).
type Stand uint8

const (
	// Apart, as unshare(1) with --fork: SIGINT and SIGTERM have no effect, and the others do to
	// this process what they do by default.
	Apart Stand = iota
	// Passing, as unshare(1) with --forward-signals: SIGINT and SIGTERM are passed on.
	Passing
	// InPlace stands in for the program: who sends a signal to this process, and who waits for
	// it, means the program. All signals are passed on, but for those of the terminal, which
	// the program got from there; and this process stops when the program does.
	InPlace
)

// defaults are the signals that do nothing to a Go program, or make it print its stacks, and that
// end others.
var defaults = [...]syscall.Signal{syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGVTALRM, syscall.SIGPROF,
	syscall.SIGIO, syscall.SIGPWR, syscall.SIGSTKFLT, syscall.SIGXCPU, syscall.SIGXFSZ, syscall.SIGABRT, syscall.SIGTRAP, syscall.SIGSYS}

// A Standing is a [Stand] that was taken.
type Standing struct {
	stand   Stand
	signals chan os.Signal
	quit    chan struct{}
	changed map[syscall.Signal]sigaction
}

// Take prepares for signals, before the program is started; p comes with [Standing.For]. Until
// then signals wait, where they are passed on at all.
func (s Stand) Take() *Standing {
	st := &Standing{stand: s, signals: make(chan os.Signal, 64), quit: make(chan struct{}), changed: map[syscall.Signal]sigaction{}}
	// Where it stands in for the program, a signal at this time ends this process, and so the
	// program: to ask for all of them would cost each start a millisecond.
	if s != InPlace {
		signal.Notify(st.signals, syscall.SIGINT, syscall.SIGTERM)
	}
	st.setDefaults()
	return st
}

// setDefaults takes the Go runtime's handlers back where they change what a signal does.
func (st *Standing) setDefaults() {
	for _, sig := range defaults {
		var old sigaction
		if setAction(sig, &sigaction{handler: sigDfl}, &old) != nil {
			continue
		}
		st.changed[sig] = old
	}
}

// For attends p until [Standing.Release].
func (st *Standing) For(p *Process) {
	go func() {
		if st.stand == InPlace {
			signal.Notify(st.signals, syscall.SIGCHLD, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
				syscall.SIGALRM, syscall.SIGABRT, syscall.SIGCONT, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
			st.restore() // the handlers by which they come
			p.stopWith() // it may have stopped before
		}
		for {
			select {
			case <-st.quit:
				return
			case s := <-st.signals:
				st.take(p, s.(syscall.Signal))
			}
		}
	}()
}

func (st *Standing) take(p *Process, sig syscall.Signal) {
	switch {
	case st.stand == Apart:
	case sig == syscall.SIGCHLD:
		p.stopWith()
	case st.stand == InPlace && (sig == syscall.SIGTTIN || sig == syscall.SIGTTOU) && p.sharesGroup():
	case st.stand == InPlace && fromTerminal(sig) && p.sharesForeground():
	default:
		p.Signal(sig)
	}
}

// Release gives the signals back.
func (st *Standing) Release() {
	close(st.quit)
	signal.Stop(st.signals)
	if st.stand != InPlace {
		st.restore()
	}
}

func (st *Standing) restore() {
	for sig, old := range st.changed {
		setAction(sig, &old, nil)
	}
}

// fromTerminal reports whether a terminal sends sig to its foreground process group: termios(3).
func fromTerminal(sig syscall.Signal) bool {
	return slices.Contains([]syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGWINCH}, sig)
}

// sharesForeground reports whether this process and p are both in the foreground process group
// of the terminal, and so get the same signals from it. Who sent a signal Go does not tell.
func (p *Process) sharesForeground() bool {
	tty, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(tty)
	group, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	if err != nil || group != unix.Getpgrp() {
		return false
	}
	return p.sharesGroup()
}

// sharesGroup reports whether p is in this process's process group, which the terminal sends
// SIGTTIN and SIGTTOU to as a whole.
func (p *Process) sharesGroup() bool {
	group, err := unix.Getpgid(p.PID)
	return err == nil && group == unix.Getpgrp()
}

// stopWith stops this process when p has stopped, as a shell that waits for it has to see; when
// it goes on, p does.
func (p *Process) stopWith() {
	const cldStopped = 5 // si_code, see waitid(2)
	var info unix.Siginfo
	p.mu.Lock()
	pid, gone := p.PID, p.waited
	p.mu.Unlock()
	if gone || unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT, nil) != nil || info.Signo == 0 || info.Code != cldStopped {
		return
	}
	if unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG, nil) != nil {
		return
	}
	// To this thread: another one would take it only later, and the next line would be too early.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Tgkill(unix.Getpid(), unix.Gettid(), syscall.SIGSTOP)
	p.Signal(syscall.SIGCONT)
}
