package sandbox

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keepCaps leaves all threads the capabilities of a mask, as far as they have them: capset(2).
func keepCaps(mask uint64) error {
	if err := roomForSignals(); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have, data [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return err
	}
	for i := range data {
		keep := have[i].Permitted & uint32(mask>>(32*i))
		data[i] = unix.CapUserData{Effective: keep, Permitted: keep}
	}
	header = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); e != 0 {
		return capsetError(e)
	}
	return nil
}

// filter loads a program for all threads, which get no_new_privs of this one: seccomp(2).
func filter(program []byte) error {
	p := unix.SockFprog{Len: uint16(len(program) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&program[0]))}
	if _, _, e := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&p))); e != 0 {
		return e
	}
	return nil
}
