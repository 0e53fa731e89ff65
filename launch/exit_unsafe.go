package launch

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ExitOf tells how the process of a pidfd ended that somebody else has waited for: PIDFD_GET_INFO with PIDFD_INFO_EXIT, since Linux
// 6.15. The error is EAGAIN as long as nobody has waited for it, and another one where the kernel will not tell.
func ExitOf(pidfd int) (syscall.WaitStatus, error) {
	const (
		getInfo  = 0xC040FF0B // _IOWR(0xFF, 11, 64 bytes)
		infoExit = 1 << 3
	)
	var info [64]byte // struct pidfd_info: the mask first, the status last
	ask := func() syscall.Errno {
		binary.NativeEndian.PutUint64(info[:], infoExit)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), getInfo, uintptr(unsafe.Pointer(&info)))
		return errno
	}
	errno := ask()
	if errno == unix.ESRCH {
		errno = ask() // the kernel looks for the status first, and for the process then: that has gone in between
	}
	if errno != 0 {
		return 0, errno
	}
	if binary.NativeEndian.Uint64(info[:])&infoExit == 0 {
		return 0, unix.EAGAIN
	}
	return syscall.WaitStatus(binary.NativeEndian.Uint32(info[60:])), nil
}
