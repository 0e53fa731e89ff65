package monitor

import (
	"os"
	"strconv"

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
	self := ownWitness()
	if self.PID == 0 {
		return // nobody could tell that it is held
	}
	fd, err := unix.Open("/proc/"+strconv.Itoa(w.PID)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	m.root = fd
	m.mu.Lock()
	m.state.Leaving = self
	m.mu.Unlock()
}

// ownWitness names this process; zero where it cannot be seen.
func ownWitness() (w oci.Witness) {
	if self := oci.OpenProcess(os.Getpid()); self != nil {
		w = self.Witness()
		self.Close()
	}
	return w
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

// RootHolder is the monitor that has a container's root open, which the caller closes; nil where nobody has. Of a container that has ended it is about to
// end itself: what mounts the container's upper directory does so after that.
func (s *State) RootHolder() *oci.Process {
	if s.Boot != bootID() {
		return nil
	}
	return s.Leaving.Open()
}
