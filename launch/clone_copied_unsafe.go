//go:build !amd64

package launch

import (
	"syscall"
	"unsafe"
)

// canShare says that cloneShared exists for this architecture. Where it could not
// be tried, the child is a copy.
const canShare = false

func cloneShared(*cloneArgs, uintptr, *table, unsafe.Pointer, int) (uintptr, syscall.Errno) {
	return 0, syscall.ENOSYS
}
