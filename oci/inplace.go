package oci

import (
	"fmt"
	"os"
	"strconv"

	"github.com/kakuri/kakuri/internal/thread"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// covered is what the root of a container is mounted over that is built in place: in a mount
// namespace that others are in, where its mounts do not end with its processes.
type covered struct {
	File      string `json:"file"`      // of the mount namespace
	Namespace uint64 `json:"namespace"` // its inode
	Root      string `json:"root"`      // the root directory there, whatever links root.path has
	Mount     uint64 `json:"mount"`     // the id of the mount that the root directory is on
	Made      uint64 `json:"made"`      // that of the one over it; 0 as long as it is not known
}

// cover notes what is at a root directory before a container is built there.
func cover(list []specs.LinuxNamespace, rootfs string) (*covered, error) {
	c := &covered{File: "/proc/thread-self/ns/mnt"}
	for _, n := range list {
		if n.Type == specs.MountNamespace && n.Path != "" {
			c.File = n.Path
		}
	}
	err := inMountNamespace(c.File, func(ns uint64) (err error) {
		c.Namespace = ns
		if err := unix.Chdir(rootfs); err != nil {
			return &os.PathError{Op: "chdir", Path: rootfs, Err: err}
		}
		if c.Root, err = unix.Getwd(); err != nil {
			return &os.PathError{Op: "getcwd", Path: rootfs, Err: err}
		}
		c.Mount, err = mountID(".")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("root.path: %w", err)
	}
	return c, nil
}

// coversAlone refuses a root that another container is built over: of two, one above the other, the end of the first would take the
// mounts of the second away, and leave its own.
func (c *Container) coversAlone() error {
	if c.state.Covers == nil {
		return nil
	}
	list, err := c.runtime.List()
	if err != nil {
		return err
	}
	for _, o := range list {
		if o.ID == c.ID || o.state.Covers == nil || o.state.Covers.Namespace != c.state.Covers.Namespace || o.state.Covers.Root != c.state.Covers.Root {
			continue
		}
		root := c.state.Covers.Root
		c.state.Covers = nil // what is mounted there is the other's
		return fmt.Errorf("root.path: container %s is built over %s in the same mount namespace: delete it first, or give one of them a mount namespace of its own", o.ID, root)
	}
	return nil
}

// made notes the mount that the container's root is, of its first process while that is not the container's yet.
func (c *covered) made(pid int) (err error) {
	if c == nil {
		return nil
	}
	c.Made, err = mountID("/proc/" + strconv.Itoa(pid) + "/root")
	return err
}

// uncover unmounts the root, with all that is mounted in it, where it is still there. Where it was is a path that others in that
// namespace may have led elsewhere since, to what hides something from them: nothing else is unmounted.
func (c *Container) uncover() error {
	cover := c.state.Covers
	if cover == nil {
		return nil
	}
	err := inMountNamespace(cover.File, func(ns uint64) error {
		if ns != cover.Namespace {
			return nil
		}
		if err := unix.Chdir(cover.Root); err != nil {
			return nil // it was not made, or somebody has unmounted it
		}
		id, err := mountID(".")
		if err != nil || id == cover.Mount || cover.Made != 0 && id != cover.Made {
			return nil
		}
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return &os.PathError{Op: "umount", Path: cover.Root, Err: err}
		}
		return nil
	})
	if os.IsNotExist(err) {
		return nil // the namespace ended, and its mounts with it
	}
	return err
}

// mountID is the id of the mount at a path; a later mount never has it again where the kernel can tell (Linux 6.8).
func mountID(path string) (uint64, error) {
	const mountIDUnique = 0x4000 // STATX_MNT_ID_UNIQUE
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID|mountIDUnique, &st); err != nil {
		return 0, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return st.Mnt_id, nil
}

// inMountNamespace runs f in the mount namespace of a file, and tells it the inode of that. The working directory is f's own.
func inMountNamespace(file string, f func(ns uint64) error) error {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) // a FIFO is no namespace, and nobody writes to it
	if err != nil {
		return &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	var there, here unix.Stat_t
	if err := unix.Fstat(fd, &there); err != nil {
		return &os.PathError{Op: "fstat", Path: file, Err: err}
	}
	if err := unix.Stat("/proc/thread-self/ns/mnt", &here); err != nil {
		return &os.PathError{Op: "stat", Path: "/proc/thread-self/ns/mnt", Err: err}
	}
	<-thread.Aside(func() {
		err = unix.Unshare(unix.CLONE_FS)
		if err == nil && (there.Ino != here.Ino || there.Dev != here.Dev) {
			err = unix.Setns(fd, unix.CLONE_NEWNS)
		}
		if err != nil {
			err = &os.PathError{Op: "setns", Path: file, Err: err}
			return
		}
		err = f(there.Ino)
	})
	return err
}
