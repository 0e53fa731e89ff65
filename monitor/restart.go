package monitor

import (
	"errors"
	"os"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// The wait before a restart doubles from the first to the last; a container that ran for long enough begins anew.
const (
	firstWait  = 100 * time.Millisecond
	lastWait   = time.Minute
	longEnough = 10 * time.Second
)

// wants reports whether a policy starts a container again, which ended by itself with a code and was started again times often.
func (r Restart) wants(code, times int) bool {
	switch r.Policy {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return code != 0 && (r.Retries == 0 || times < r.Retries)
	}
	return false
}

// heeds reports whether a boot of the machine starts a container by the policy unless somebody has stopped it.
func (r Restart) heeds() bool { return r.Policy == "unless-stopped" || r.Policy == "on-failure" }

// backOff is how long to wait after a run that took so long, when the wait before that one was last.
func backOff(last, ran time.Duration) time.Duration {
	if last == 0 || ran >= longEnough {
		return firstWait
	}
	return min(2*last, lastWait)
}

// markName is the file in a container's directory that a command which is to start the container again has locked.
const markName = "restart"

// MarkRestart has [Marked] true until done, or until this process ends: a command is about to end the container in a directory, and to start it again. Who follows its
// log stays, and with --rm it is not removed. Of two commands the second waits for the first.
func MarkRestart(dir string) (done func(), err error) {
	f, err := files.LockFile(dir + "/" + markName)
	if err != nil {
		return nil, err
	}
	return func() {
		os.Remove(f.Name()) // with the lock: one that comes in between makes another
		f.Close()
	}, nil
}

// Marked reports whether a command is about to start the container in a directory again.
func Marked(dir string) bool {
	f, err := os.OpenFile(dir+"/"+markName, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(files.Flock(f, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}
