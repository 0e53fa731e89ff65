package sandbox

import (
	"errors"
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
	if limit.Max < mostThreads {
		return errors.New("the limit of signals that wait is too low (RLIMIT_SIGPENDING), and the hard one as well: have it be higher, as by ulimit -i 1024, or LimitSIGPENDING= of a unit of systemd")
	}
	limit.Cur = limit.Max
	return os.NewSyscallError("setrlimit", unix.Setrlimit(unix.RLIMIT_SIGPENDING, &limit))
}
