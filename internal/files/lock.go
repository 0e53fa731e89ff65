package files

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Flock is flock(2), which a signal does not break off. Its error names the file.
func Flock(f *os.File, how int) error {
	if err := flock(int(f.Fd()), how); err != nil {
		return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	return nil
}

func flock(fd, how int) error {
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
	if err := flock(fd, how); err != nil {
		unix.Close(fd)
		return -1, &os.PathError{Op: "flock", Path: dir, Err: err}
	}
	return fd, nil
}

// LockHolder is the process that has taken the lock of a directory, by /proc/locks; 0 where that does not say.
func LockHolder(dir string) (pid int) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return 0
	}
	of := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	list, _ := os.ReadFile("/proc/locks")
	for line := range strings.Lines(string(list)) {
		if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" && f[5] == of { // who waits has an arrow before that
			pid, _ = strconv.Atoi(f[4])
		}
	}
	return max(pid, 0)
}

// LockFile makes a file that nobody but the caller may open, and locks it: who may open a file may hold its lock for ever, flock(2). In the place of a name
// that others may open, or that is no regular file of the caller's, it makes another. Closing the file gives the lock back. Who has it may
// take its name away, or rename it: who waits for it then makes another.
func LockFile(name string) (*os.File, error) {
	for {
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && oursAlone(fd):
			if err := flock(fd, unix.LOCK_EX); err != nil {
				unix.Close(fd)
				return nil, &os.PathError{Op: "flock", Path: name, Err: err}
			}
			if Same(fd, name) {
				return os.NewFile(uintptr(fd), name), nil
			}
			unix.Close(fd)
			continue
		case err == nil:
			unix.Close(fd)
		case err != unix.ELOOP && err != unix.ENXIO: // those are a link, and a socket
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		if err := unix.Unlink(name); err != nil && err != unix.ENOENT {
			return nil, &os.PathError{Op: "unlink", Path: name, Err: err}
		}
	}
}

// oursAlone reports whether fd is a regular file that nobody but the caller may open, of no other name.
func oursAlone(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o077 == 0 && st.Nlink <= 1 && int(st.Uid) == unix.Geteuid()
}

// Holder is the process that has a file's or a directory's lock for itself, as /proc/locks tells, which see proc_locks(5): 0 where that tells of none.
func Holder(name string) (pid int) {
	var st unix.Stat_t
	if unix.Stat(name, &st) != nil {
		return 0
	}
	list, err := Read("/proc/locks")
	if err != nil {
		return 0
	}
	of := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(list)) {
		// 1: FLOCK  ADVISORY  WRITE 708 00:2d:1290 0 EOF
		f := strings.Fields(line)
		if len(f) > 5 && f[1] == "FLOCK" && f[3] == "WRITE" && f[5] == of {
			pid, _ = strconv.Atoi(f[4])
			return pid
		}
	}
	return 0
}

// Same reports whether a path still leads to what fd is: another may have been made of that name meanwhile.
func Same(fd int, path string) bool {
	var ours, now unix.Stat_t
	return unix.Fstat(fd, &ours) == nil && unix.Stat(path, &now) == nil && ours.Ino == now.Ino && ours.Dev == now.Dev
}

// SyncFile has what was written to a file, and the name that it has in dir, be on the disk when it returns.
func SyncFile(dir, name string) error {
	fd, err := unix.Open(dir+"/"+name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Fsync(fd)
		unix.Close(fd)
	}
	if err != nil {
		return &os.PathError{Op: "fsync", Path: dir + "/" + name, Err: err}
	}
	return SyncDir(dir)
}

// SyncDir has the names in a directory be on the disk when it returns.
func SyncDir(dir string) error {
	if err := syncDir(unix.AT_FDCWD, dir); err != nil {
		return &os.PathError{Op: "fsync", Path: dir, Err: err}
	}
	return nil
}
