package sandbox

import (
	"fmt"
	"syscall"
)

// capsetError says of a system call for all threads, which the Go runtime refuses beside a C library's threads, what to do.
func capsetError(e syscall.Errno) error {
	if e == syscall.ENOTSUP {
		return fmt.Errorf("%w: this program was built with cgo, by which it cannot shut in all of its threads: build it with CGO_ENABLED=0, as make does", e)
	}
	return e
}
