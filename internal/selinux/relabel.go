package selinux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// Relabel gives a file, or all of a directory, a label. What is below is a container's, which may change it meanwhile: each name is looked up in the open directory that it
// is in, no link is followed, and file systems that are mounted below keep theirs. What is the machine's own is refused: without its labels the machine does not boot.
// A file system that was mounted with a label has none of files, and keeps it: that is no error.
func Relabel(path, label string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "relabel", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if own, err := machines(fd, &st); err != nil {
		return err
	} else if own {
		return fmt.Errorf("relabel %s: it is the machine's own, which does not work with a label of containers: mount it without z and Z, or name a directory below it", path)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := below(fd, ".", path, label); err != nil {
			return err
		}
	}
	// Last of all: where the directory has the label all that was in it has.
	if err := unix.Setxattr(byDescriptor(fd), files.LabelXattr, []byte(label), 0); err != nil && err != unix.ENOTSUP {
		return &os.PathError{Op: "relabel", Path: path, Err: err}
	}
	return nil
}

// RelabelOnce is [Relabel] of a tree that nobody changes, unless that was done already.
func RelabelOnce(path, label string) error {
	if has(path, label) {
		return nil
	}
	return Relabel(path, label)
}

// machines reports whether a file is one that a system has of itself, or somebody's home, by whatever name it was opened.
func machines(fd int, st *unix.Stat_t) (bool, error) {
	own := []string{
		"/", "/bin", "/etc", "/etc/group", "/etc/gshadow", "/etc/passwd", "/etc/shadow", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/opt", "/root", "/run", "/sbin", "/srv", "/tmp", "/usr/local",
		"/var", "/var/cache", "/var/home", "/var/lib", "/var/log", "/var/spool", "/var/tmp", os.Getenv("HOME"), os.Getenv("SUDO_HOME"),
	}
	for _, name := range own {
		var o unix.Stat_t
		if name != "" && unix.Stat(name, &o) == nil && o.Dev == st.Dev && o.Ino == st.Ino {
			return true, nil
		}
	}
	real, err := os.Readlink(byDescriptor(fd))
	if err != nil {
		return false, err
	}
	if home := filepath.Dir(real); home == "/home" || home == "/var/home" {
		return true, nil
	}
	for _, whole := range []string{"/boot", "/dev", "/etc/pki", "/etc/ssh", "/proc", "/sys", "/usr"} {
		if rest, err := filepath.Rel(whole, real); err == nil && filepath.IsLocal(rest) {
			return !strings.HasPrefix(rest, "local/"), nil // /usr/local is the administrator's
		}
	}
	return false, nil
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
		err := files.Label(byDescriptor(fd)+"/"+e.Name(), label)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%s: %w", at, errors.Unwrap(err))
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
func has(path, label string) bool {
	buf := make([]byte, len(label)+1)
	n, err := unix.Getxattr(path, files.LabelXattr, buf)
	return err == nil && (string(buf[:n]) == label || string(buf[:n]) == label+"\x00")
}
