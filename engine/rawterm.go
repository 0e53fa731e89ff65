package engine

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// deadly are the signals that end a command which does not pass them on.
var deadly = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// makeRaw has a terminal give what is typed as it is, until restore. Where fatal is set, signals end this process: its terminal is restored
// before, for the shell that it goes back to would show nothing of what is typed there.
func makeRaw(f *os.File, fatal bool) (restore func()) {
	saved, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return func() {}
	}
	undo := sync.OnceFunc(func() { term.Restore(int(f.Fd()), saved) })
	if !fatal {
		return undo
	}
	caught := make(chan os.Signal, 1)
	for _, sig := range deadly {
		if !signal.Ignored(sig) {
			signal.Notify(caught, sig)
		}
	}
	go func() {
		sig, ok := <-caught
		if !ok {
			return
		}
		undo()
		signal.Reset(sig)
		unix.Kill(os.Getpid(), sig.(syscall.Signal))
	}()
	return func() {
		signal.Stop(caught)
		close(caught)
		undo()
	}
}
