package seqpacket

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendEmpty sends a message of no byte with descriptors, which Go's library gives a byte.
func sendEmpty(fd int, rights []byte) unix.Errno {
	m := unix.Msghdr{Control: &rights[0]}
	m.SetControllen(len(rights))
	_, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), 0)
	return errno
}
