package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/kakuri/kakuri/storage/erofs"
	"github.com/kakuri/kakuri/storage/tree"
	"golang.org/x/sys/unix"
)

// The drivers.
const (
	driverErofs = "erofs"
	driverDirs  = "dirs"
	driverFuse  = "fuse-overlayfs"
)

// Driver tells how chains are shown, and why so: "erofs" mounts an index over the layers' tars, "dirs"
// unpacks layers into directories, and so does "fuse-overlayfs", which lays them over each other without the kernel.
func (s *Store) Driver() (name, why string) {
	s.choose.Do(func() { s.driver, s.why = s.chooseDriver() })
	return s.driver, s.why
}

func (s *Store) chooseDriver() (name, why string) {
	switch {
	case s.o.Driver == driverFuse:
		s.fuse, s.cannot = s.findFuse()
		return driverFuse, "it was asked for"
	case s.o.Driver != "":
		return s.o.Driver, "it was asked for"
	case s.o.Rootless:
		return s.chooseRootless()
	}
	if err := s.remembered(driverErofs, s.tryIndex); err != nil {
		s.cannot = s.onOverlay()
		return driverDirs, fmt.Sprintf("EROFS cannot be mounted from files of %s: %s", s.o.Data, why2(err))
	}
	return driverErofs, "the kernel mounts EROFS from files"
}

// chooseRootless is for an ordinary user, who may not mount EROFS.
func (s *Store) chooseRootless() (name, why string) {
	const may = "an ordinary user may not mount EROFS"
	err := s.remembered("overlay", s.overlay)
	if err == nil {
		return driverDirs, may
	}
	if s.keepsNoAttributes() { // and what the kernel says of that is EIO
		err = errors.New("their file system keeps no extended attributes user.* (tmpfs does since Linux 6.6): have the data on another one, where XDG_DATA_HOME says")
	}
	why = fmt.Sprintf("%s, and the kernel lays no directories of %s over each other for one: %v", may, s.o.Data, err)
	if s.fuse, err = s.findFuse(); err != nil {
		if s.cannot = fmt.Errorf("%s; %w", why, err); s.onOverlay() != nil {
			s.cannot = fmt.Errorf("%w; or %w", s.onOverlay(), err)
		}
		return driverDirs, why + "; " + err.Error()
	}
	return driverFuse, why
}

// keepsNoAttributes reports whether the data's file system has none of the extended attributes user.* (xattr(7)), by which the overlay of an ordinary user marks what was removed: user.overlay.opaque.
func (s *Store) keepsNoAttributes() bool {
	const name = "user.kakuri"
	err := unix.Setxattr(s.path(dirsDir), name, []byte("x"), 0)
	if err == nil {
		unix.Removexattr(s.path(dirsDir), name)
	}
	return err == unix.EOPNOTSUPP
}

// onOverlay says what is to be done where the data is on an overlay; nil is that it is not.
func (s *Store) onOverlay() error {
	var st unix.Statfs_t
	if unix.Statfs(s.o.Data, &st) != nil || st.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return nil
	}
	return fmt.Errorf("%s is on an overlay, as in a container, and the kernel makes none out of its directories: mount another file system there, a volume say", s.o.Data)
}

// findFuse looks for the program of [driverFuse], and for what that needs.
func (s *Store) findFuse() (program string, err error) {
	if program, err = exec.LookPath(driverFuse); err != nil {
		return "", fmt.Errorf("%s does it without the kernel, and is not installed (Debian: package %[1]s)", driverFuse)
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("%s does it without the kernel's overlay, and needs /dev/fuse: %w (modprobe fuse, mode 0666)", driverFuse, err)
	}
	unix.Close(fd)
	if strings.ContainsAny(s.o.Data, ",:\\\"") {
		return "", fmt.Errorf("%s takes no directory with a comma, colon, quote or backslash in its name: %s", driverFuse, s.o.Data)
	}
	return program, nil
}

func why2(err error) string {
	switch {
	case errors.Is(err, unix.ENODEV):
		return "the kernel has no EROFS"
	case errors.Is(err, unix.ENOTBLK):
		return "the kernel (before Linux 6.12) or this file system cannot do that"
	}
	return err.Error()
}

// remembered is a trial that is not made again once it went well with this kernel and the data's kind of file
// system: it costs a mount, and the wait of an unmount, which are a good part of a start.
func (s *Store) remembered(what string, try func() error) error {
	var uts unix.Utsname
	var st unix.Statfs_t
	if unix.Uname(&uts) != nil || unix.Statfs(s.o.Data, &st) != nil {
		return try()
	}
	file := filepath.Join(s.o.Run, fmt.Sprintf("%s-%s-%x", what, filepath.Base(unix.ByteSliceToString(uts.Release[:])), uint32(st.Type)))
	if _, err := os.Lstat(file); err == nil {
		return nil
	}
	err := try()
	if err == nil && os.MkdirAll(s.o.Run, 0o700) == nil {
		os.WriteFile(file, nil, 0o600) // without it the next command tries again
	}
	return err
}

// tryIndex mounts a small index, attached nowhere, and reads a file through it.
func (s *Store) tryIndex() error {
	index, err := newTemp(s.path(indexesDir))
	if err != nil {
		return err
	}
	defer index.discard()
	tar, err := newTemp(s.path(indexesDir))
	if err != nil {
		return err
	}
	defer tar.discard()
	content := make([]byte, 1024)
	copy(content[512:], "content")
	if _, err := tar.Write(content); err != nil {
		return err
	}
	root := tree.NewDir()
	root.Children["file"] = &erofs.Inode{Mode: unix.S_IFREG | 0o600, Size: 7, Device: 1, Offset: 512}
	if err := erofs.NewWriter(index, []erofs.Device{{Size: 1024}}).Finish(root, [16]byte{}); err != nil {
		return err
	}
	m, err := mountIndex(index.File, []*os.File{tar.File})
	if err != nil {
		return err
	}
	defer unix.Close(m)
	fd, err := unix.Openat(m, "file", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	f := os.NewFile(uintptr(fd), "file")
	defer f.Close()
	got, err := io.ReadAll(f)
	if err == nil && string(got) != "content" {
		err = fmt.Errorf("a file of it reads %q", got)
	}
	return err
}
