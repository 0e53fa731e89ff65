package files

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Replace replaces the file name in dir as a whole: a reader finds the old or the new one, and a process that is killed leaves
// one of these, and perhaps a name.new. With sync the new one, and its name, are on the disk when Replace returns. One writer at a time.
func Replace(dir, name string, data []byte, sync bool) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	if err := ReplaceAt(fd, name, data, sync); err != nil {
		return &os.PathError{Op: "write", Path: dir + "/" + name, Err: err}
	}
	return nil
}

// ReplaceAt is [Replace] in the directory that fd is. Its errors are those of the calls.
func ReplaceAt(dir int, name string, data []byte, sync bool) error {
	fd, err := create(dir, name+".new")
	if err != nil {
		return err
	}
	err = fill(fd, data, sync)
	if e := unix.Close(fd); err == nil {
		err = e
	}
	if err == nil {
		err = unix.Renameat(dir, name+".new", dir, name)
	}
	if err != nil {
		unix.Unlinkat(dir, name+".new", 0)
		return err
	}
	if sync {
		return syncDir(dir, ".")
	}
	return nil
}

// ReplaceBy is [Replace], with what is new and its name on the disk, by a file of [LockFile] beside it, which has that name in the end: who waits for the lock then makes another.
func ReplaceBy(lock *os.File, name string, data []byte) error {
	err := lock.Truncate(0)
	if err == nil {
		err = fill(int(lock.Fd()), data, true)
	}
	if err == nil {
		err = os.Rename(lock.Name(), name)
	}
	if err != nil {
		os.Remove(lock.Name())
		return err
	}
	return SyncDir(filepath.Dir(name))
}

// fill writes a file that is empty; with sync it is on the disk when fill returns.
func fill(fd int, data []byte, sync bool) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && err != unix.EINTR {
			return err
		}
		data = data[max(n, 0):]
	}
	if sync {
		return unix.Fsync(fd)
	}
	return nil
}

// create makes a file of the caller's alone. What has its name goes: half a file of one that was killed, and whatever else, since a FIFO would have the caller
// wait for who reads, and a file of another name would be written over.
func create(dir int, name string) (fd int, err error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC
	if fd, err = unix.Openat(dir, name, flags, 0o600); err != unix.EEXIST {
		return fd, err
	}
	if err := unix.Unlinkat(dir, name, 0); err != nil && err != unix.ENOENT {
		return -1, &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return unix.Openat(dir, name, flags, 0o600)
}

// syncDir writes the names of a directory below at down, which need not be open for reading.
func syncDir(at int, name string) error {
	dir, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return unix.Fsync(dir)
}
