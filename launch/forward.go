package launch

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// forwardDelay is how long a container runs before signals are passed on to it.
// Each signal that the Go runtime is told to hand out costs it a round of thread
// switches, a millisecond in all that short programs need not pay for. A signal
// that comes earlier does to this process what it does by default, and the
// container ends with it; a program cannot have set a handler by then.
const forwardDelay = 5 * time.Millisecond

// ForwardOptions change what [Forward] does with some signals.
type ForwardOptions struct {
	Resize func() // called in place of passing SIGWINCH on, when not nil
	AtOnce bool   // p goes on without this process, so that no signal may be missed
}

// A Signaler takes signals: a [Process], or who passes them on.
type Signaler interface {
	Signal(sig syscall.Signal) error
}

// Forward passes the signals that this process gets on to p, until stop is called.
func Forward(p Signaler, o ForwardOptions) (stop func()) {
	signals := make(chan os.Signal, 64)
	quit := make(chan struct{})
	delay := forwardDelay
	if o.AtOnce {
		delay = 0
	}
	t := time.AfterFunc(delay, func() {
		signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
			syscall.SIGALRM, syscall.SIGCONT, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGWINCH, syscall.SIGTTOU)
		defer signal.Stop(signals)
		if o.Resize != nil {
			o.Resize() // a change of size may have come before
		}
		for {
			select {
			case <-quit:
				return
			case s := <-signals:
				if s == syscall.SIGWINCH && o.Resize != nil {
					o.Resize()
				} else {
					p.Signal(s.(syscall.Signal))
				}
			}
		}
	})
	return func() {
		t.Stop()
		close(quit)
	}
}
