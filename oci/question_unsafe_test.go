package oci

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// question receives what a filter asks about, and gives the number of the call.
func question(t *testing.T, fd int) int {
	t.Helper()
	const receive = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV: seccomp_unotify(2)
	var notif [80]byte         // struct seccomp_notif
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), receive, uintptr(unsafe.Pointer(&notif))); errno != 0 {
		t.Fatal(errno)
	}
	return int(*(*int32)(unsafe.Pointer(&notif[16])))
}
