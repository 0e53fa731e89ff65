package files

import "golang.org/x/sys/unix"

// MoveNew gives the file name of the directory from the name as in the directory to, where nothing may be: EEXIST. File systems of servers, as NFS and sshfs, cannot be told
// to replace nothing: there it is looked for before, and who makes a file of that name meanwhile loses it, as to any other copy, but no directory that something is in.
func MoveNew(from int, name string, to int, as string) error {
	err := unix.Renameat2(from, name, to, as, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL {
		return moveLooking(from, name, to, as)
	}
	return err
}

// moveLooking is [MoveNew] by rename(2) alone.
func moveLooking(from int, name string, to int, as string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(to, as, &st, unix.AT_SYMLINK_NOFOLLOW); err != unix.ENOENT {
		if err == nil {
			err = unix.EEXIST
		}
		return err
	}
	err := unix.Renameat(from, name, to, as)
	if err == unix.ENOTEMPTY {
		return unix.EEXIST
	}
	return err
}
