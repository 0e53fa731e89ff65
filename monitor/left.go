package monitor

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A container's first process does not end before all others of its pid namespace are waited for, each by its own parent. That of an exec is the command, and when that was killed
// process 1 of the machine, which may wait for nobody: kakuri is in a container then whose command is `sleep infinity`. Or the command was stopped by ^Z. So a first process that
// has nothing left but its number is one that has ended.

// left is what is known of a first process that is there still and has nothing left.
type left struct {
	once   sync.Once
	known  chan struct{} // closed when it is so
	status syscall.WaitStatus
	looked atomic.Bool // somebody looks
}

// is reports whether it is known to be so.
func (l *left) is() bool {
	select {
	case <-l.known:
		return true
	default:
		return false
	}
}

// watchLeft begins to look whether a first process has nothing left, once its output has ended. One that has closed that itself may run on.
func (m *monitor) watchLeft(r *run) {
	if r.container == nil || r.left.looked.Swap(true) {
		return
	}
	go func() {
		const first, longest = 100 * time.Millisecond, 32 * time.Second // most have ended by then, and nothing is looked at
		for pause := first; ; pause = min(2*pause, longest) {
			select {
			case <-r.ended:
				return
			case <-time.After(pause):
			}
			if m.lookLeft(r, time.Second) {
				return
			}
		}
	}()
}

// lookLeft has the wait for the end be over where the first process has nothing left, and is so for a moment, longer than an end takes. It reports whether there is nothing more to
// look for.
func (m *monitor) lookLeft(r *run, moment time.Duration) bool {
	p := r.container.Witness().Open()
	if p == nil {
		return true
	}
	defer p.Close()
	if !r.container.Left(p) || p.Wait(moment) || !r.container.Left(p) {
		return p.Wait(0)
	}
	r.left.once.Do(func() {
		r.left.status = p.Status()
		close(r.left.known)
	})
	unix.Write(m.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // see settle
	return true
}
