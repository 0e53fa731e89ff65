package archive

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// How names are looked up. Links of a tree lead inside its root, for they are resolved as
// though it was chroot's; a name of a directory that is already open is no link.
const (
	inRoot  = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
)

// tries bounds how often a lookup is made again: ".." inside a root fails with EAGAIN
// whenever anything on the machine is renamed or mounted at that moment.
const tries = 1000

// openat2 opens a name below dir.
func openat2(dir int, name string, flags int, mode uint32, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve}
	if flags&(unix.O_CREAT|unix.O_TMPFILE) != 0 {
		how.Mode = uint64(mode)
	}
	var fd int
	var err error
	for range tries {
		fd, err = unix.Openat2(dir, name, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}

// OpenIn opens a path of a tree with the flags of open(2): links, absolute ones too, are
// followed as in a chroot(2) to root, and those of /proc that are no paths are refused.
func OpenIn(root *os.File, path string, flags int) (*os.File, error) {
	fd, err := openat2(int(root.Fd()), path, flags, 0, inRoot)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// reopenFile opens the file of a descriptor anew, such as one of O_PATH for reading: nobody can
// put another file in between.
func reopenFile(f *os.File, flags int) (*os.File, error) {
	fd, err := reopen(int(f.Fd()), flags)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func reopen(fd, flags int) (int, error) {
	return unix.Open(procFD(fd), flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
}

// procFD is a path of the file itself that is open at fd.
func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// lstat reads what a name in an open directory is.
func lstat(dir int, name string) (st unix.Stat_t, err error) {
	err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

func isDir(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// mountedAt reports whether a name in an open directory is a mount point, in whichever mount namespace the directory was opened.
func mountedAt(dir int, name string) (bool, error) {
	var at, in unix.Statx_t
	if err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &at); err != nil {
		return false, err
	}
	err := unix.Statx(dir, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &in)
	return at.Mnt_id != in.Mnt_id, err
}

// unlink removes a file. A mount point is EBUSY, also one of another mount namespace, where unlink(2) would take away what is mounted.
func unlink(dir int, name string) error {
	mounted, err := mountedAt(dir, name)
	if err != nil {
		return err
	}
	if mounted {
		return unix.EBUSY
	}
	return unix.Unlinkat(dir, name, 0)
}

// isWhiteout reports whether a file is overlayfs's mark for a name that is not there.
func isWhiteout(st unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// chmod sets the permissions of a name in an open directory, which is no link.
func chmod(dir int, name string, perm uint32) error {
	err := unix.Fchmodat(dir, name, perm, unix.AT_SYMLINK_NOFOLLOW)
	if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
		return err
	}
	// Linux before 6.6 has no fchmodat2(2).
	fd, err := openat2(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0, beneath)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod(procFD(fd), perm)
}

// tempName is a name that nobody has.
func tempName() string { return ".kakuri-" + rand.Text() }

// removeAll removes a name of an open directory, with all that is below it. It follows
// no link, and leaves what is mounted.
func removeAll(dir int, name string, depth int) error {
	err := unlink(dir, name)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return err
	}
	if depth <= 0 {
		return errors.New("the tree to remove is too deep")
	}
	fd, err := openat2(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, beneath|unix.RESOLVE_NO_XDEV)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := removeAll(fd, n, depth-1); err != nil {
			return err
		}
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}
