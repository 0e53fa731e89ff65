package files

import (
	"os"

	"golang.org/x/sys/unix"
)

// Flock is flock(2), which a signal does not break off.
func Flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); err != unix.EINTR {
			return err
		}
	}
}

// LockDir opens a directory and locks it: flock(2). Closing the descriptor gives the lock back.
func LockDir(dir string, how int) (fd int, err error) {
	fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	if err := Flock(fd, how); err != nil {
		unix.Close(fd)
		return -1, &os.PathError{Op: "flock", Path: dir, Err: err}
	}
	return fd, nil
}

// Same reports whether a path still leads to what fd is: another may have been made of that name meanwhile.
func Same(fd int, path string) bool {
	var ours, now unix.Stat_t
	return unix.Fstat(fd, &ours) == nil && unix.Stat(path, &now) == nil && ours.Ino == now.Ino && ours.Dev == now.Dev
}

// SyncDir has the names in a directory be on the disk when it returns.
func SyncDir(dir string) error {
	if err := syncDir(unix.AT_FDCWD, dir); err != nil {
		return &os.PathError{Op: "fsync", Path: dir, Err: err}
	}
	return nil
}
