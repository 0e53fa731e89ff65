package serve

import (
	"os"
	"path/filepath"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// linger is how long an uplink waits for its next user: a start of one takes much longer than that of a container.
const linger = 2 * time.Second

// endUnused ends the uplink when nobody has had a lock of a file for a while: it is of those who need the uplink, and the kernel lets go of it
// however they end. Who begins to need one holds a lock of the file's directory meanwhile, so that none ends under his hands.
func (s *server) endUnused(f *os.File) {
	name := f.Name()
	for {
		// On a thread of its own, for as long as there are users.
		if err := files.Flock(f, unix.LOCK_EX); err != nil {
			s.say("wait for the end of its users: %v", err)
			return
		}
		if !files.Same(int(f.Fd()), name) { // the directory went, with a session: nobody can begin to need this one any more
			s.stop()
			return
		}
		files.Flock(f, unix.LOCK_UN)
		time.Sleep(linger)
		starting, err := os.Open(filepath.Dir(name))
		if err == nil && files.Flock(starting, unix.LOCK_EX|unix.LOCK_NB) == nil && files.Flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
			s.stop()
			return // with the locks, to the end of the process
		}
		starting.Close()
		files.Flock(f, unix.LOCK_UN)
	}
}
