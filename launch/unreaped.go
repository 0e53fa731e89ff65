package launch

import (
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// zombies are children of this process that were told of as ended, and that it could not take away: somebody else traces them, who is to wait for them first and may never do that.
// However many there are, one goroutine sees to them.
type zombies struct {
	sync.Mutex
	pids []int
}

var unreaped zombies

// Unreaped reports whether there are children that have ended and are still to be taken away, when those let go of them who trace them. Only this program knows of them: one that
// takes its place by execve(2) would leave them for as long as it lives.
func Unreaped() bool {
	unreaped.Lock()
	defer unreaped.Unlock()
	return len(unreaped.pids) > 0
}

// add has a child, or with a negative number those of a process group, taken away as soon as that can be done.
func (z *zombies) add(pid int) {
	z.Lock()
	defer z.Unlock()
	z.pids = append(z.pids, pid)
	if len(z.pids) == 1 {
		go z.attend()
	}
}

func (z *zombies) attend() {
	for z.look() {
		time.Sleep(time.Second)
	}
}

// look takes away those that it can, and reports whether there are others.
func (z *zombies) look() bool {
	z.Lock()
	defer z.Unlock()
	z.pids = slices.DeleteFunc(z.pids, reaped)
	return len(z.pids) > 0
}

// reaped takes away a child that is nobody's [Process], or those of a group, and reports whether there is none to be waited for any more.
func reaped(pid int) bool {
	for {
		n, err := syscall.Wait4(pid, nil, unix.WNOHANG, nil)
		if err == syscall.EINTR || pid < 0 && n > 0 {
			continue
		}
		return n != 0
	}
}

// reapKilled waits for children that were sent SIGKILL, which end soon. One that somebody else traces is left to be reaped when he lets go of it.
func reapKilled(pid int) {
	for end := time.Now().Add(time.Second); !reaped(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			unreaped.add(pid)
			return
		}
	}
}
