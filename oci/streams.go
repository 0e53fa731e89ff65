package oci

import (
	"errors"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ownStreams are the standard streams of this process that the user of a process to be made is to own, as with runc: without that he could
// write to a pipe that he was given, and not open it anew, which is what programs do that log to /dev/stdout. Not those that are
// his already, and not /dev/null, which is everybody's.
func ownStreams(l *specs.Linux, p *specs.Process) (list []uint32) {
	if p == nil || p.Terminal {
		return nil
	}
	uid, known := p.User.UID, true
	if l != nil && len(l.UIDMappings) > 0 {
		uid, known = outside(l.UIDMappings, uid)
	}
	for fd := range uint32(3) {
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) != nil || known && st.Uid == uid {
			continue
		}
		if isNull(&st) {
			continue
		}
		list = append(list, fd)
	}
	return list
}

// nullStreams are the standard streams of this process that are the null device.
func nullStreams() (list []uint32) {
	for fd := range uint32(3) {
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) == nil && isNull(&st) {
			list = append(list, fd)
		}
	}
	return list
}

func isNull(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

// guardNull puts another null device in the place of the machine's among the streams of a process that joins a container: l's, or this
// process's own. It is for containers with an id that is root of the machine, which could change the mode of the machine's for all. The container's own
// is no choice here: what runs inside may have put anything in its place. Who calls closes the file, which is nil where nothing was to be done.
func guardNull(c *specs.Spec, streams *[3]*os.File) (*os.File, error) {
	if l := c.Linux; l != nil && len(l.UIDMappings) > 0 && !slices.ContainsFunc(l.UIDMappings, func(m specs.LinuxIDMapping) bool { return m.HostID == 0 }) {
		return nil, nil
	}
	var null *os.File
	for i, f := range streams {
		fd := i
		if f != nil {
			fd = int(f.Fd())
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || !isNull(&st) {
			continue
		}
		if null == nil {
			var err error
			if null, err = newNull(c.Linux); err != nil {
				return nil, err
			}
			if null == nil {
				return nil, nil
			}
		}
		streams[i] = null
	}
	return null, nil
}

// newNull opens a null device in a file system that has nothing else, and that is mounted nowhere; nil for who may not make one, and so does not own the machine's
// either. Its name in /proc/PID/fd is /dev/null, and where SELinux is enabled, and lets the caller give one, its label that of the container's files.
func newNull(l *specs.Linux) (*os.File, error) {
	label := ""
	if l != nil {
		label = l.MountLabel
	}
	fs, err := newTmpfs(label)
	if label != "" && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)) {
		fs, err = newTmpfs("")
	}
	if err == unix.EPERM {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fs)
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	defer unix.Close(root)
	const name = "dev/null"
	if err := unix.Mkdirat(root, "dev", 0o755); err != nil {
		return nil, os.NewSyscallError("mkdirat", err)
	}
	switch err := unix.Mknodat(root, name, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err {
	case nil:
	case unix.EPERM:
		return nil, nil
	default:
		return nil, os.NewSyscallError("mknodat", err)
	}
	if err := unix.Fchmodat(root, name, 0o666, 0); err != nil { // the caller's umask
		return nil, os.NewSyscallError("fchmodat", err)
	}
	fd, err := unix.Openat(root, name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == unix.EACCES || err == unix.EPERM { // made in a user namespace, which it is of no use in
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("openat", err)
	}
	return os.NewFile(uintptr(fd), "/dev/null"), nil
}

// newTmpfs makes a tmpfs that is to be mounted yet, with a label of SELinux or without. For who may make none the error is EPERM itself.
func newTmpfs(label string) (fs int, err error) {
	if fs, err = unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC); err == unix.EPERM {
		return -1, err
	} else if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	if label != "" {
		// EINVAL: without SELinux there is no such option.
		if err = unix.FsconfigSetString(fs, "context", label); err == unix.EINVAL {
			err = nil
		}
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		unix.Close(fs)
		return -1, os.NewSyscallError("fsconfig", err)
	}
	return fs, nil
}

// ownNull is newNull, or the machine's for who may not make one.
func ownNull(l *specs.Linux) (*os.File, error) {
	null, err := newNull(l)
	if null == nil && err == nil {
		return os.OpenFile(nullDevice, os.O_RDWR, 0)
	}
	return null, err
}

// outside is what an id inside of a user namespace is to its maker.
func outside(maps []specs.LinuxIDMapping, id uint32) (uint32, bool) {
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + id - m.ContainerID, true
		}
	}
	return 0, false
}
