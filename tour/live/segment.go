package live

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// newSegment makes a System V shared memory segment on the host, which goes away with
// drop, and with this process in any case: it is marked for removal as long as it is used.
func newSegment() (id int, drop func(), err error) {
	id, err = unix.SysvShmGet(unix.IPC_PRIVATE, 4096, unix.IPC_CREAT|0o600)
	if err != nil {
		return 0, nil, fmt.Errorf("make a shared memory segment: %w", err)
	}
	mem, err := unix.SysvShmAttach(id, 0, 0)
	_, rmErr := unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	if err == nil && rmErr != nil {
		unix.SysvShmDetach(mem)
		err = rmErr
	}
	if err != nil {
		return 0, nil, fmt.Errorf("attach a shared memory segment: %w", err)
	}
	return id, func() { unix.SysvShmDetach(mem) }, nil
}

func closeFD(fd int) { unix.Close(fd) }
