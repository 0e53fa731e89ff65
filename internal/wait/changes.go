package wait

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Changes can be read when something has changed in what add has the descriptor of inotify(7) watch. Where the user has all that he may have of those, it can be read several
// times a second, changed or not: what a container has of them counts as of whoever made its user namespace, and takes no capability.
func Changes(add func(inotify int) error) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		err = os.NewSyscallError("inotify_init", err)
	} else if err = add(fd); err != nil {
		unix.Close(fd)
	}
	switch {
	case err == nil:
		return os.NewFile(uintptr(fd), "inotify"), nil
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENOSPC): // of instances, of watches
		return ticks()
	}
	return nil, err
}

// ticks can be read five times a second.
func ticks() (*os.File, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	often := unix.NsecToTimespec(200e6)
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: often, Value: often}, nil); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("timerfd_settime", err)
	}
	return os.NewFile(uintptr(fd), "timerfd"), nil
}
