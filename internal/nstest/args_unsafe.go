package nstest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// StretchArguments has this process's command line, as /proc shows it, be as many bytes as it likes, which needs no right: PR_SET_MM_MAP of prctl(2).
func StretchArguments(size int) error {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	for i := range b[:size-1] { // the last one is the end
		b[i] = 'x'
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	field := func(n int) uint64 { // as proc(5) numbers them
		v, _ := strconv.ParseUint(fields[n-3], 10, 64)
		return v
	}
	at := uint64(uintptr(unsafe.Pointer(&b[0])))
	m := struct {
		startCode, endCode, startData, endData, startBrk, brk, startStack, argStart, argEnd, envStart, envEnd, auxv uint64
		auxvSize, exe                                                                                               uint32
	}{
		field(26), field(27), field(45), field(46), field(47), field(47), field(28), at, at + uint64(size), field(50), field(51), 0, 0, ^uint32(0),
	}
	if _, _, e := unix.Syscall6(unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_MAP, uintptr(unsafe.Pointer(&m)), unsafe.Sizeof(m), 0, 0); e != 0 {
		return fmt.Errorf("prctl: %w", e)
	}
	return nil
}
