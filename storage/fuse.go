package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Where the kernel lays no directories over each other for an ordinary user, the program fuse-overlayfs(1) does, in a process beside each
// container. Layers and writes lie on the disk as with the driver of directories, but for the marks of directories that hide lower ones: an upper
// directory that was written by one of both is not shown by the other.

// servedMark is beside an upper directory that fuse-overlayfs has written to.
const servedMark = "fuse-overlayfs"

func isServed(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, servedMark))
	return err == nil
}

// server is the program that shows the view below what a container writes.
func (v *View) server(upper string, volatile bool) *plan.Server {
	dirs := make([]string, len(v.names))
	for i, name := range v.names {
		dirs[i] = filepath.Join(v.lower, name)
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%[2]s/work", strings.Join(dirs, ":"), upper)
	if volatile {
		options += ",volatile"
	}
	// The kernel's descriptor is its standard input: fuse_session_mount(3).
	return &plan.Server{Program: v.fuse, Args: []string{"-f", "-o", options, "/dev/fd/0"}, UIDs: v.s.o.IDs.UIDs, GIDs: v.s.o.IDs.GIDs}
}

// KeepOwners has the files of the image look as the image has them to container id, whose root is another id than that of Options.IDs. The kernel
// maps no ids of an ordinary user's mounts, but fuse-overlayfs shows files by the map that they lie on the disk with; the error is why it cannot.
// What the container has already written through the kernel's overlay is shown by that, and so is what a driver that was asked for keeps.
func (v *View) KeepOwners(id string) error {
	if name, _ := v.s.Driver(); name != driverDirs || v.s.o.Driver != "" {
		return nil
	}
	if dir, err := v.s.upperPath(id); err == nil {
		if _, err := os.Lstat(filepath.Join(dir, servedMark)); err != nil {
			return nil
		}
	}
	program, err := v.s.findFuse()
	v.fuse = program
	return err
}

// checkServed has an upper directory be written to by what wrote to it before, or marks a new one.
func (v *View) checkServed(dir string, fresh bool) error {
	mark := filepath.Join(dir, servedMark)
	_, err := os.Lstat(mark)
	switch served := err == nil; {
	case served == (v.fuse != ""):
		return nil
	case served && fresh: // of a start that was killed
		return os.Remove(mark)
	case served:
		return fmt.Errorf("what the container wrote was kept by %s, and is shown by it alone: set KAKURI_STORAGE_DRIVER=%[1]s", driverFuse)
	case fresh:
		return os.WriteFile(mark, nil, 0o600)
	}
	return fmt.Errorf("what the container wrote was kept by the kernel's overlay, and is not shown by %s", driverFuse)
}

// tryOverlay has the kernel lay directories over each other as a container of this user would, and do what it needs marks for.
func (s *Store) tryOverlay() error {
	dir, err := s.trialDir()
	if err != nil {
		return err
	}
	defer s.discardDir(dir)
	return s.start(context.Background(), job{Op: jobTry, Path: dir.name}, []abi.Namespace{abi.NSMount}, nil, nil)
}

// trialDir has what is laid over each other to see whether that goes.
func (s *Store) trialDir() (*tempDir, error) {
	dir, err := newTempDir(s.path(dirsDir))
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"lower/dir", "upper", "work", "merged"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir.name, d), 0o755))
	}
	for _, f := range []string{"kept", "gone", "dir/in"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir.name, "lower", f), []byte("lower"), 0o644))
	}
	if err != nil {
		return nil, errors.Join(err, s.discardDir(dir))
	}
	return dir, nil
}

// tryUpper is the same for root, by a mount that is attached nowhere: of the file systems that an overlay takes its upper directory on, not all do what it asks of them then, as NFS and 9p.
// That a directory is made anew is not asked for: where the file system has no user attributes, as tmpfs before Linux 6.6, a container does without that, since root has no other driver.
func (s *Store) tryUpper() error {
	dir, err := s.trialDir()
	if err != nil {
		return err
	}
	defer s.discardDir(dir)
	m, err := layOver(dir.name)
	if err != nil {
		return err
	}
	defer unix.Close(m)
	return unkept(writeOver(fmt.Sprintf("/proc/self/fd/%d", m)))
}

// layOver mounts the overlay of a [Store.trialDir] as the plan mounts a container's.
func layOver(dir string) (mount int, err error) {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err == unix.ENODEV {
		return -1, fmt.Errorf("fsopen overlay: %w: %s", err, launch.NoOverlay)
	}
	if err != nil {
		return -1, os.NewSyscallError("fsopen overlay", err)
	}
	defer unix.Close(fd)
	for _, d := range []string{"lower", "upper", "work"} {
		f, err := os.Open(filepath.Join(dir, d))
		if err != nil {
			return -1, err
		}
		defer f.Close()
		if err := unix.FsconfigSetString(fd, d+"dir", fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err != nil {
			return -1, unkept(os.NewSyscallError("fsconfig overlay "+d+"dir", err)) // since Linux 6.5 it is looked at here
		}
	}
	if err := unix.FsconfigSetFlag(fd, "userxattr"); err != nil {
		return -1, os.NewSyscallError("fsconfig overlay userxattr", err)
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return -1, unkept(os.NewSyscallError("mount overlay", err))
	}
	mount, err = unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	return mount, os.NewSyscallError("fsmount overlay", err)
}

// An unkeptError is why a file system keeps nothing that a container writes.
type unkeptError struct{ error }

func (e unkeptError) Unwrap() error { return e.error }

// unkept tells that of an error of the overlay's, if it is one of what the file system cannot do, and not of what there is too little of just then.
func unkept(err error) error {
	var errno unix.Errno
	if err == nil || errors.As(err, &errno) && !slices.Contains([]unix.Errno{unix.EINVAL, unix.EIO, unix.EOPNOTSUPP, unix.EPERM, unix.ENODATA}, errno) {
		return err
	}
	return unkeptError{err}
}

// tryIn is the part of [Store.tryOverlay] in namespaces of its own.
func tryIn(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := unix.Mount("overlay", "merged", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=work,userxattr"); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	if err := writeOver("merged"); err != nil {
		return err
	}
	return remakeOver("merged")
}

// writeOver changes files of a view of [Store.trialDir] in all the ways that need a mark, and looks at what there is then.
func writeOver(merged string) error {
	// One is copied up, one is hidden, and a link is made.
	if err := os.WriteFile(merged+"/kept", []byte("upper"), 0); err != nil {
		return err
	}
	if err := os.Remove(merged + "/gone"); err != nil {
		return err
	}
	if err := os.Symlink("kept", merged+"/link"); err != nil {
		return err
	}
	if err := holds(merged, 3); err != nil {
		return err
	}
	data, err := os.ReadFile(merged + "/kept")
	if err == nil && string(data) != "upper" {
		err = fmt.Errorf("a file that was written reads %q", data)
	}
	return err
}

// remakeOver has a directory take the place of another, which is marked by an attribute.
func remakeOver(merged string) error {
	if err := os.RemoveAll(merged + "/dir"); err != nil {
		return err
	}
	if err := os.Mkdir(merged+"/dir", 0o755); err != nil {
		return err
	}
	return holds(merged+"/dir", 0)
}

func holds(dir string, want int) error {
	list, err := os.ReadDir(dir)
	if err == nil && len(list) != want {
		err = fmt.Errorf("%s has %d files instead of %d", dir, len(list), want)
	}
	return err
}

// originXattr has fuse-overlayfs remember which file of the layers one was copied up from, to go on with its inode number. Of a file with several
// names in the layers, which all have that number, it would show the old content by all of them after another mount, so that is forgotten before one. (What
// was written by one of the names is at another then: that is how fuse-overlayfs 1.10 copies up, and is in docs/flags.md.)
const originXattr = "user.fuseoverlayfs.origin"

// forgetOrigins takes these attributes from the files of a directory.
func forgetOrigins(fd, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("there are more than %d directories within each other", maxDepth)
	}
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(again), ".")
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(again, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "stat", Path: name, Err: err}
		}
		kind := st.Mode & unix.S_IFMT
		if kind != unix.S_IFDIR && kind != unix.S_IFREG {
			continue
		}
		fd, err := unix.Openat(again, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: name, Err: err}
		}
		if kind == unix.S_IFDIR {
			err = forgetOrigins(fd, depth+1)
		} else if err = unix.Fremovexattr(fd, originXattr); err == unix.ENODATA || err == unix.EOPNOTSUPP {
			err = nil
		}
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}
