package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mostThreads is more than this process has when it is shut.
const mostThreads = 64

// roomForSignals has the kernel queue a signal for each thread, by the limit of the signals that wait, RLIMIT_SIGPENDING: the Go runtime asks its threads so, and
// where one is refused it waits without end.
func roomForSignals() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_SIGPENDING, &limit); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	if limit.Cur >= mostThreads {
		return nil
	}
	limit.Max = max(limit.Max, mostThreads) // which takes CAP_SYS_RESOURCE where it is more
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_SIGPENDING, &limit); err != nil {
		return fmt.Errorf("the limit of signals that wait is too low (RLIMIT_SIGPENDING): %w: have the hard one be higher, as by ulimit -i 1024, or LimitSIGPENDING= of a unit of systemd", err)
	}
	return nil
}
