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
