package files

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Scarce reports whether an error says that there are too few files or too little memory at this moment, and so nothing of the file that it is about.
func Scarce(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// Room refuses where this process can open fewer than n files more. Who runs out of them halfway cannot take away what it has made, and takes what
// it cannot look at for what is not there: a container that runs for one that has ended. The Go runtime ends with a trace.
func Room(n int) error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0) // the first that is free
	if err != nil && err != unix.EMFILE {
		return fmt.Errorf("open /: %w", err)
	}
	var limit unix.Rlimit
	if err == nil {
		unix.Close(fd)
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return fmt.Errorf("getrlimit: %w", err)
		}
		if limit.Cur >= uint64(fd+n) {
			return nil
		}
	}
	return fmt.Errorf("%d files more have to be open at once, and the limit of this process is too low (RLIMIT_NOFILE): raise it, by ulimit -n", n)
}

// Most is how many files this process may have open, as far as that is of interest to anybody.
func Most() int {
	const enough = 1 << 20
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur > enough {
		return enough
	}
	return int(limit.Cur)
}

// Calls refuses where one of the system calls is missing without which nothing here can be right: an older kernel, or a filter of an engine that this process is in
// a container of. Who cannot open a pidfd would take a container that runs for one that has ended.
func Calls() error {
	const none = ^uintptr(0) // as an argument that the call refuses, before anything is done
	for _, c := range [...]struct {
		name  string
		nr    uintptr
		first uintptr
	}{
		{"openat2", unix.SYS_OPENAT2, none},
		{"clone3", unix.SYS_CLONE3, 0},
		{"pidfd_open", unix.SYS_PIDFD_OPEN, none},
		{"close_range", unix.SYS_CLOSE_RANGE, none},
		{"statx", unix.SYS_STATX, none},
	} {
		if _, _, err := unix.RawSyscall6(c.nr, c.first, 0, 0, 0, 0, 0); err == unix.ENOSYS || err == unix.EPERM {
			return fmt.Errorf("the system call %s is not there (%v): kakuri needs Linux 5.14 or newer, and %s", c.name, err, LetThrough(c.name))
		}
	}
	return nil
}

// LetThrough is what can be done where a system call is refused.
func LetThrough(call string) string {
	return fmt.Sprintf("a seccomp filter around it, as that of a container that it runs in, has to let %s through: --privileged does, or --security-opt seccomp=unconfined with --security-opt systempaths=unconfined", call)
}
