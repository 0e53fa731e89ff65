package launch

import (
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// InheritedSignals returns the signals that are blocked in this thread, and those that this
// process was started with as ignored ones, as bits, signal 1 the lowest: a program that takes
// its place is to find them so. Of the ignored ones the Go runtime leaves SIGHUP and SIGINT, as
// nohup(1) and the shells' "&" have them; the others it handles from the beginning, and
// nothing tells how they were before.
func InheritedSignals() (blocked, ignored uint64) {
	var set unix.Sigset_t
	if unix.PthreadSigmask(unix.SIG_BLOCK, nil, &set) == nil {
		blocked = set.Val[0]
	}
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(sig) {
			ignored |= 1 << (sig - 1)
		}
	}
	return blocked, ignored
}

// sigDfl is the handler that is none: signal(7).
const sigDfl = 0

// sigaction is the kernel's struct of rt_sigaction(2), which on amd64 and arm64 is the same.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

func setAction(sig syscall.Signal, to, old *sigaction) error {
	_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// EndBy ends this process by a signal, as if it had been sent one that it does not handle: for
// who waits for it, that is how a program ended that it stands for. It returns where a signal
// does not end processes.
func EndBy(sig syscall.Signal) {
	// What would be dumped is this program's memory, not that of the one that ended.
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	setAction(sig, &sigaction{handler: sigDfl}, nil)
	var set unix.Sigset_t
	set.Val[0] = 1 << (sig - 1)
	runtime.LockOSThread() // it is this thread that is to take it, now
	defer runtime.UnlockOSThread()
	unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, nil)
	unix.Tgkill(unix.Getpid(), unix.Gettid(), sig)
}
