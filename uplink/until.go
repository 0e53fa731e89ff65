package uplink

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// linger is how long an uplink waits for its next user: a start of one takes much longer than that of a container.
const linger = 2 * time.Second

// endUnused ends the uplink when nobody has had a lock of a file for a while: it is of those who need the uplink, and the kernel lets go of it
// however they end. Who begins to need one holds a lock of the file's directory meanwhile, so that none ends under his hands.
func (s *server) endUnused(name string) {
	f, err := os.Open(name)
	if err != nil {
		s.say("%v", err)
		return
	}
	for {
		// On a thread of its own, for as long as there are users.
		if err := flock(f, unix.LOCK_EX); err != nil {
			s.say("wait for the end of its users: %v", err)
			return
		}
		flock(f, unix.LOCK_UN)
		time.Sleep(linger)
		starting, err := os.Open(filepath.Dir(name))
		if err == nil && flock(starting, unix.LOCK_EX|unix.LOCK_NB) == nil && flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
			s.stop()
			return // with the locks, to the end of the process
		}
		starting.Close()
		flock(f, unix.LOCK_UN)
	}
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
