package monitor

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// The end of an overlay takes as long as the disk does: whoever lets go of one last waits until all is written that is dirty on the file system of its
// upper directory, other containers' files too (ovl_sync_fs in the kernel). So that this is not the container's first process, whose end everybody waits for,
// the monitor has the root directory open from before the container's execve. It goes with the monitor, when all are told; who mounts the same upper
// directory once more has to wait for that.

// holdRoot takes hold of the root of a container whose first process is w, which has not executed anything yet, and has the state say so. Where that cannot be looked
// into, as by an ordinary user without a network, and for who has adopted a container, the end waits for the disk.
func (m *monitor) holdRoot(r *run, root *plan.Root, w oci.Witness) {
	m.dropRoot()
	// A server ends with the last who has its files, and what --rm takes away is not written down.
	if r.server != nil || root == nil || root.Layers == nil || root.Layers.Upper == "" || root.Layers.Volatile {
		return
	}
	self := oci.OpenProcess(os.Getpid())
	if self == nil {
		return // nobody could tell that it is held
	}
	defer self.Close()
	fd, err := unix.Open("/proc/"+strconv.Itoa(w.PID)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	m.root = fd
	m.mu.Lock()
	m.state.Leaving = self.Witness()
	m.mu.Unlock()
}

// dropRoot lets go of the root, and returns when the disk has what was written there.
func (m *monitor) dropRoot() {
	if m.root >= 0 {
		unix.Close(m.root)
		m.root = -1
	}
	m.mu.Lock()
	m.state.Leaving = oci.Witness{}
	m.mu.Unlock()
}

// AwaitRoot waits until the monitor of a container that has ended has let go of its root: what mounts its upper directory does so before. While it is not,
// look is called every now and then with the monitor's process.
func (s *State) AwaitRoot(ctx context.Context, every time.Duration, look func(*oci.Process)) error {
	if s.Boot != bootID() {
		return nil
	}
	p := s.Leaving.Open()
	if p == nil {
		return nil
	}
	defer p.Close()
	const step = 50 * time.Millisecond // in which who waits may be told to stop
	for next := time.Now().Add(every); !p.Wait(step); {
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(next) {
			look(p)
			next = next.Add(every)
		}
	}
	return nil
}
