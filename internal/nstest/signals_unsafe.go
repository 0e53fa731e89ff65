package nstest

import (
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hearSignals undoes what nohup(1) did to this process: commands under test would
// inherit it, and not hear of a hangup.
func hearSignals() {
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(s) {
			var act [4]uint64 // struct sigaction, all zero: SIG_DFL
			unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
		}
	}
}
