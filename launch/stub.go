package launch

import (
	"os"
	"strconv"
	"syscall"

	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// openStub makes the stub's file: executable, and in memory, sealed against any change. Where sysctl vm.memfd_noexec is 2, nothing in memory may be
// executed, and it is a file without a name.
func openStub(s *plan.Stub) (int, error) {
	image := stubImage(s)
	fd, err := stubInMemory(s.Label, image)
	if err == unix.EACCES {
		if file, ok := stubInFile(s.Label, image); ok {
			return file, nil
		}
	}
	return fd, err
}

func stubInMemory(label string, image []byte) (int, error) {
	const mfdExec = 0x10 // since Linux 6.3
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("kakuri-exec", flags|mfdExec)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("kakuri-exec", flags)
	}
	if err != nil {
		return -1, err
	}
	if err = fillStub(fd, label, image); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func fillStub(fd int, label string, image []byte) error {
	_, err := unix.Write(fd, image)
	if err == nil && label != "" {
		err = unix.Fsetxattr(fd, "security.selinux", []byte(label), 0)
	}
	return err
}

// stubInFile makes the stub's file on a file system: root's on one of its own, which nobody can write to then, an ordinary user's where he may make files that are executed. Of that one, a
// container's processes that are the user may write to what nobody executes any more.
func stubInFile(label string, image []byte) (int, bool) {
	if fd, err := stubOnOwn(label, image); err == nil {
		return fd, true
	}
	for _, path := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/run", "/dev/shm", os.TempDir(), "/var/tmp", os.Getenv("HOME")} {
		dir, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		fd, err := stubBelow(dir, label, image)
		unix.Close(dir)
		if err == nil {
			return fd, true
		}
	}
	return -1, false
}

func stubOnOwn(label string, image []byte) (_ int, err error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, o := range [][2]string{{"mode", "0700"}, {"size", "64k"}} {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	fd, err := stubBelow(root, label, image)
	if err != nil {
		return -1, err
	}
	if err := unix.MountSetattr(root, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// stubBelow makes a file without a name in a directory, and opens it for reading alone: what is open for writing is not executed. A process that another goroutine
// makes meanwhile would hold it open so.
func stubBelow(dir int, label string, image []byte) (int, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(dir, &st); err != nil {
		return -1, err
	}
	if st.Flags&unix.ST_NOEXEC != 0 {
		return -1, unix.EACCES
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	w, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o700)
	if err != nil {
		return -1, err
	}
	defer unix.Close(w)
	if err := fillStub(w, label, image); err != nil {
		return -1, err
	}
	if err := unix.Fchmod(w, 0o555); err != nil {
		return -1, err
	}
	return unix.Open("/proc/self/fd/"+strconv.Itoa(w), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}
