package files

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// A record that has to be written on a full disk, too, has a spare file beside it: one of blocks that are there, which is overwritten, and exchanged with the record.

// Full reports whether an error says that the disk, or the user's part of it, has no room or no inode for something new.
func Full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// Overwrite has a regular file consist of these bytes, which are on the disk then. Where it has so many, it takes no further room. One with several names is
// refused: it is somebody else's, too.
func Overwrite(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1) {
		err = &os.PathError{Op: "write", Path: name, Err: errors.New("not a regular file of one name")}
	}
	if err == nil {
		_, err = f.WriteAt(data, 0)
	}
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Exchange puts a file in the place of another, and that one in its place: at any moment there is one of them at either. Where there is no other, or the file
// system has no such exchange, the file is gone from its place.
func Exchange(name, with string) error {
	err := unix.Renameat2(unix.AT_FDCWD, name, unix.AT_FDCWD, with, unix.RENAME_EXCHANGE)
	if err == unix.ENOENT || err == unix.EINVAL || err == unix.ENOSYS {
		return os.Rename(name, with)
	}
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: name, New: with, Err: err}
	}
	return nil
}
