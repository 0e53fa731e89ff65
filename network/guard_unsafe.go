package network

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guardName marks the program among those of a device.
const guardName = "kakuri_loopback"

// loadClassifier loads a program of BPF_PROG_TYPE_SCHED_CLS: bpf(2). The descriptor is the caller's to close.
func loadClassifier(code []byte) (int, error) {
	license := []byte("Apache-2.0\x00")
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&code[0])
	pin.Pin(&license[0])
	attr := struct { // the part of union bpf_attr for BPF_PROG_LOAD
		kind, count        uint32
		code, license      uint64
		logLevel, logSize  uint32
		logBuf             uint64
		kernVersion, flags uint32
		name               [unix.BPF_OBJ_NAME_LEN]byte
	}{kind: unix.BPF_PROG_TYPE_SCHED_CLS, count: uint32(len(code) / 8), code: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0])))}
	copy(attr.name[:], guardName)
	for {
		fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EAGAIN, unix.EINTR: // a signal interrupted the verifier
		default:
			return -1, errno
		}
	}
}
