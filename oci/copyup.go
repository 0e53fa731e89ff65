package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"time"

	"github.com/kakuri/kakuri/internal/thread"
	"golang.org/x/sys/unix"
)

// copyUp copies what is in the directory from into the directory to, the root of a new tmpfs:
// by descriptors, since it is of an image, and no link of it is followed. The root itself keeps what its mount gave it: the owner by
// uid= and gid=, as podman asks for, and the mode of the directory below.
func copyUp(from, to int) error {
	var err error
	<-thread.Aside(func() { err = copyAsOwner(from, to) })
	return err
}

// copyAsOwner is copyUp by a thread that takes the ids of the tmpfs's owner, and ends with them.
func copyAsOwner(from, to int) error {
	if err := ownFiles(to); err != nil {
		return err
	}
	c := copier{links: map[inode]string{}}
	src, err := unix.Openat(from, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	dst, err := unix.Openat(to, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(src)
		return os.NewSyscallError("openat", err)
	}
	defer unix.Close(dst)
	c.root = dst
	return c.directory(src, dst, "")
}

// ownFiles has this thread make files as the owner of the directory to, who may be root of a
// user namespace: only ids of that can own files there.
func ownFiles(to int) error {
	var st unix.Stat_t
	if err := unix.Fstat(to, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if uid, gid := os.Geteuid(), os.Getegid(); int(st.Uid) == uid && int(st.Gid) == gid {
		return nil
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	unix.Setfsgid(int(st.Gid))
	unix.Setfsuid(int(st.Uid))
	// That has taken the capabilities that concern files away: setfsuid(2).
	if err := unix.Capset(&hdr, &caps[0]); err != nil {
		return os.NewSyscallError("capset", err)
	}
	return nil
}

// inode names a file that has several names.
type inode struct{ dev, ino uint64 }

type copier struct {
	links map[inode]string
	root  int
}

// directory copies what is in src, which it closes, to dst; at is the path of both.
func (c *copier) directory(src, dst int, at string) error {
	dir := os.NewFile(uintptr(src), at)
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			if err := c.entry(src, dst, name, path.Join(at, name)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *copier) entry(src, dst int, name, at string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: at, Err: err}
	}
	key := inode{st.Dev, st.Ino}
	if first, ok := c.links[key]; ok && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return wrap("link", at, unix.Linkat(c.root, first, dst, name, 0))
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = c.subdirectory(src, dst, name, at, &st)
	case unix.S_IFREG:
		err = c.file(src, dst, name, at, &st)
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		var n int
		if n, err = unix.Readlinkat(src, name, target); err == nil {
			err = unix.Symlinkat(string(target[:n]), dst, name)
		}
		err = wrap("symlink", at, err)
	default:
		if err = unix.Mknodat(dst, name, st.Mode, int(st.Rdev)); err == unix.EPERM {
			return nil // a device, in a user namespace: it would be of no use there
		}
		err = wrap("mknod", at, err)
	}
	if err != nil {
		return err
	}
	if st.Nlink > 1 {
		c.links[key] = at
	}
	return own(dst, name, &st)
}

func wrap(op, at string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("tmpcopyup: %w", &os.PathError{Op: op, Path: at, Err: err})
}

// still wants what was opened to be what was looked at: others may have the same files, and what has the rights of one must not
// get the content of another.
func still(fd int, st *unix.Stat_t) error {
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return err
	}
	if now.Dev != st.Dev || now.Ino != st.Ino || now.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT {
		return errors.New("another file took its place meanwhile")
	}
	return nil
}

func (c *copier) subdirectory(src, dst int, name, at string, st *unix.Stat_t) error {
	from, err := unix.Openat(src, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrap("open", at, err)
	}
	if err := still(from, st); err != nil {
		unix.Close(from)
		return wrap("open", at, err)
	}
	if err := unix.Mkdirat(dst, name, 0o700); err != nil {
		unix.Close(from)
		return wrap("mkdir", at, err)
	}
	to, err := unix.Openat(dst, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(from)
		return wrap("open", at, err)
	}
	defer unix.Close(to)
	return c.directory(from, to, at)
}

func (c *copier) file(src, dst int, name, at string, st *unix.Stat_t) error {
	from, err := unix.Openat(src, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrap("open", at, err)
	}
	defer unix.Close(from)
	if err := still(from, st); err != nil {
		return wrap("open", at, err)
	}
	to, err := unix.Openat(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return wrap("open", at, err)
	}
	defer unix.Close(to)
	for {
		switch n, err := unix.CopyFileRange(from, nil, to, nil, 1<<30, 0); {
		case err == unix.EXDEV || err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP:
			return c.bytes(from, to, at)
		case err == unix.EINTR:
		case err != nil:
			return wrap("copy_file_range", at, err)
		case n == 0:
			return c.bytes(from, to, at) // files that have no size have more to read
		}
	}
}

func (c *copier) bytes(from, to int, at string) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(from, buf)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return wrap("read", at, err)
		case n == 0:
			return nil
		}
		if err := writeAll(to, buf[:n]); err != nil {
			return wrap("write", at, err)
		}
	}
}

// writeAll writes all of b.
func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && err != unix.EINTR {
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}

// own gives a file owner, mode and times of another. An owner that the file system cannot name
// stays that of its root directory. In a mount namespace that others are in, they may put a link in the file's place: it is not followed.
func own(dir int, name string, st *unix.Stat_t) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrap("open", name, err)
	}
	defer unix.Close(fd)
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return wrap("stat", name, err)
	}
	if now.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT {
		return wrap("chown", name, errors.New("another file took its place meanwhile"))
	}
	err = unix.Fchownat(fd, "", int(st.Uid), int(st.Gid), unix.AT_EMPTY_PATH)
	if err != nil && err != unix.EINVAL && err != unix.EPERM && err != unix.EOVERFLOW {
		return wrap("chown", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		// What O_PATH has opened is changed by its path alone, before Linux 6.6.
		if err := unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), st.Mode&0o7777); err != nil {
			return wrap("chmod", name, err)
		}
	}
	times := []unix.Timespec{unix.NsecToTimespec(time.Now().UnixNano()), st.Mtim}
	return wrap("utimensat", name, unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH))
}
