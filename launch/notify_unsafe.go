package launch

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Notification is a system call that a seccomp filter asks its agent about: seccomp_unotify(2).
type Notification struct {
	ID   uint64
	PID  uint32 // the thread that made the call, in this process's pid namespace; 0 where it is not in there
	Arch uint32 // AUDIT_ARCH_*
	NR   uint32
	Args [6]uint64
}

// Notified waits for the next call that the filter behind listener asks about. The error is ENOENT when no process has the
// filter any more, or when the one that asked went away.
func Notified(listener int) (Notification, error) {
	var n struct { // struct seccomp_notif
		id         uint64
		pid, flags uint32
		nr, arch   uint32
		ip         uint64
		args       [6]uint64
	}
	// An ioctl would wait for ever for a filter that nobody has.
	poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(poll, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return Notification{}, err
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return Notification{}, unix.ENOENT
		}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n)))
		switch errno {
		case 0:
			return Notification{ID: n.id, PID: n.pid, Arch: n.arch, NR: n.nr, Args: n.args}, nil
		case unix.EINTR, unix.ENOENT: // who asked has gone: others may ask
			continue
		}
		return Notification{}, errno
	}
}

// AnswerNotification has the call end with an error. It is ENOENT when the process that asked has gone meanwhile.
func AnswerNotification(listener int, id uint64, errno syscall.Errno) error {
	r := struct { // struct seccomp_notif_resp
		id    uint64
		val   int64
		error int32
		flags uint32
	}{id: id, error: -int32(errno)}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r))); e != 0 {
		return e
	}
	return nil
}
