package monitor

import (
	"errors"
	"fmt"
	"os"

	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// openPlace makes the monitor's directory, and locks it; one that is there is that of a monitor which is about to end, or was killed. It gets its
// name when it is locked: an unlocked one has lost its monitor.
func (m *monitor) openPlace() error {
	m.place = Place(m.order.Run, m.task.ID)
	if m.order.Adopt {
		return m.takePlace()
	}
	for range 100 {
		fresh := m.order.Run + "/monitor/." + m.task.ID
		if err := os.RemoveAll(fresh); err != nil {
			return err
		}
		if err := os.MkdirAll(fresh, 0o700); err != nil {
			return err
		}
		fd, err := files.LockDir(fresh, unix.LOCK_EX)
		if err != nil {
			return err
		}
		err = os.Rename(fresh, m.place)
		if err == nil {
			m.lock = fd
			return nil
		}
		unix.Close(fd)
		if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			return err
		}
		// Its monitor ends: the state says that there is nothing to do for it any more.
		old, err := files.LockDir(m.place, unix.LOCK_EX)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = os.RemoveAll(m.place)
		unix.Close(old)
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: others make and remove it all the time", m.place)
}

// takePlace takes over the place of a monitor that was killed.
func (m *monitor) takePlace() (err error) {
	m.lock, err = files.LockDir(m.place, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errAttended
	}
	return err
}

// errAttended is a container that has a monitor, which is not to be taken over.
var errAttended = errors.New("it has a monitor")

// leave removes the monitor's directory, and hangs up as the last thing that anybody may wait for: nothing that is open is in the way of an unmount of the engine's
// file systems then, though the process takes a moment to go, and the disk below a container's root is in use for as long as that: see holdRoot.
func (m *monitor) leave() {
	if m.task.Denials != nil {
		os.Remove(DenialSocket(m.order.Run, m.task.ID))
	}
	os.RemoveAll(m.place)
	unix.Close(m.lock)
	m.accept.Close()
	<-m.accepting
	m.hangUp()
}

// Attended reports whether a container has a monitor at this moment.
func Attended(run, id string) bool {
	fd, err := files.LockDir(Place(run, id), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		unix.Close(fd)
		return false
	}
	return errors.Is(err, unix.EWOULDBLOCK)
}
