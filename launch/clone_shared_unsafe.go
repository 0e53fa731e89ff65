//go:build amd64

package launch

import (
	"syscall"
	"unsafe"
)

// canShare says that cloneShared exists for this architecture.
const canShare = true

//go:noescape
func cloneShared(args *cloneArgs, size uintptr, t *table, rows unsafe.Pointer, n int) (r uintptr, e syscall.Errno)
