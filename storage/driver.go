package storage

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kakuri/kakuri/storage/erofs"
	"github.com/kakuri/kakuri/storage/tree"
	"golang.org/x/sys/unix"
)

// The drivers.
const (
	driverErofs = "erofs"
	driverDirs  = "dirs"
)

// Driver tells how chains are shown, and why so: "erofs" mounts an index over the layers' tars, "dirs"
// unpacks layers into directories.
func (s *Store) Driver() (name, why string) {
	s.choose.Do(func() { s.driver, s.why = s.chooseDriver() })
	return s.driver, s.why
}

func (s *Store) chooseDriver() (name, why string) {
	switch {
	case s.o.Driver != "":
		return s.o.Driver, "it was asked for"
	case s.o.Rootless:
		return driverDirs, "an ordinary user may not mount EROFS"
	}
	if err := s.tryIndex(); err != nil {
		return driverDirs, fmt.Sprintf("EROFS cannot be mounted from files of %s: %s", s.o.Data, why2(err))
	}
	return driverErofs, "the kernel mounts EROFS from files"
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
