package selinux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// xattr is the extended attribute that a file's label is: xattr(7).
const xattr = "security.selinux"

// Relabel gives a file, or all of a directory, a label. What is below is a container's, which may change it meanwhile: each name is looked up in the open directory that it
// is in, no link is followed, and file systems that are mounted below keep theirs. A directory of the machine's own is refused: without its labels the machine does not boot.
// The error is unix.ENOTSUP for a file system without labels of its own.
func Relabel(path, label string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "relabel", Path: path, Err: err}
	}
	defer unix.Close(fd)
	real, err := os.Readlink(byDescriptor(fd))
	if err != nil {
		return err
	}
	if machine(real) {
		return fmt.Errorf("relabel %s: it is the machine's own: name a directory below it", path)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := below(fd, ".", path, label); err != nil {
			return err
		}
	}
	// Last of all: where the directory has the label all that was in it has.
	if err := set(byDescriptor(fd), label, true); err != nil {
		return &os.PathError{Op: "relabel", Path: path, Err: err}
	}
	return nil
}

// RelabelOnce is [Relabel] of a tree that nobody changes, unless that was done already.
func RelabelOnce(path, label string) error {
	if has(path, label, true) {
		return nil
	}
	return Relabel(path, label)
}

// Label gives a single file, itself if it is a link, a label.
func Label(path, label string) error {
	if err := set(path, label, false); err != nil {
		return &os.PathError{Op: "label " + label, Path: path, Err: err}
	}
	return nil
}

// machine reports whether a directory is one that a system has of itself.
func machine(path string) bool {
	home, _ := os.UserHomeDir()
	own := []string{
		"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib",
		"/usr/lib64", "/usr/local", "/usr/sbin", "/usr/share", "/var", "/var/cache", "/var/lib", "/var/log", "/var/spool", "/var/tmp", filepath.Clean(home),
	}
	for _, below := range []string{"/dev", "/proc", "/sys", "/boot"} {
		if rest, err := filepath.Rel(below, path); err == nil && filepath.IsLocal(rest) {
			return true
		}
	}
	return slices.Contains(own, path)
}

// below labels what is in a directory; path is its name in errors.
func below(parent int, name, path, label string) error {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV}
	fd, err := unix.Openat2(parent, name, &how)
	switch {
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil // a mount, or it is another one by now
	case err != nil:
		return &os.PathError{Op: "relabel", Path: path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := filepath.Join(path, e.Name())
		if mounted(fd, e.Name()) {
			continue
		}
		err := set(byDescriptor(fd)+"/"+e.Name(), label, false)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "relabel", Path: at, Err: err}
		}
		if e.IsDir() {
			if err := below(fd, e.Name(), at, label); err != nil {
				return err
			}
		}
	}
	return nil
}

// mounted reports whether a name in a directory is another file system's, or is not there any more.
func mounted(dir int, name string) bool {
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV})
	if err != nil {
		return true
	}
	unix.Close(fd)
	return false
}

func byDescriptor(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// has reports whether a file has the label, which the kernel may show with a NUL behind it.
func has(path, label string, follow bool) bool {
	get := unix.Lgetxattr
	if follow {
		get = unix.Getxattr
	}
	buf := make([]byte, len(label)+1)
	n, err := get(path, xattr, buf)
	return err == nil && (string(buf[:n]) == label || string(buf[:n]) == label+"\x00")
}

// set labels a file unless it has the label.
func set(path, label string, follow bool) error {
	if has(path, label, follow) {
		return nil
	}
	put := unix.Lsetxattr
	if follow {
		put = unix.Setxattr
	}
	return put(path, xattr, []byte(label), 0)
}
