package launch

import (
	"syscall"
	"unsafe"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Guard starts a process that ends p with SIGKILL when this process ends, however
// that may be. The kernel does so by itself for a child that asked for it
// (PR_SET_PDEATHSIG), until the child changes its user, runs a program that does, or
// takes the wish back. The guard waits at a pipe which this process alone holds the other end of. It
// is no copy: where that can be it runs in this process's memory, and costs the
// kernel's structures only. release ends it, and may be called once, after p's end.
func (p *Process) Guard() (release func(), err error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	defer unix.Close(pipe[0])
	p.mu.Lock()
	pidfd, waited := p.pidfd, p.waited
	t := newTable()
	var errno syscall.Errno
	pid := 0
	if !waited {
		if err = t.add(0, guardRows(t, pipe[0], pidfd)); err == nil {
			var fd int
			if pid, fd, errno = cloneChild(t, 0, -1, canShare); errno == 0 {
				unix.Close(fd)
			}
		}
	}
	p.mu.Unlock()
	if err == nil && errno != 0 {
		err = errno
	}
	if err != nil || waited {
		unix.Close(pipe[1])
		return func() {}, err
	}
	return func() {
		unix.Close(pipe[1])
		for {
			if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
				break
			}
		}
		t.rows = nil // the guard ran in the table until now
	}, nil
}

// guardRows are the guard's calls: out of reach of signals to this process's group,
// without its other descriptors, it waits for the end of the pipe.
func guardRows(t *table, pipe, pidfd int) []plan.Row {
	r := run{child: t}
	rows := r.closeOthers([3]int{pipe, pidfd, -1})
	call := func(c abi.Call, accept abi.Errno, args ...plan.Arg) {
		row := plan.Row{Call: c, N: uint8(len(args)), Accept: [3]abi.Errno{accept}}
		copy(row.Args[:], args)
		rows = append(rows, row)
	}
	num := func(v int) plan.Arg { return plan.Arg{Val: uint64(v)} }
	for fd := range 3 {
		if fd != pipe && fd != pidfd {
			call(abi.CallClose, abi.EBADF, num(fd))
		}
	}
	call(abi.CallSetsid, 0)
	call(abi.CallRead, 0, num(pipe), plan.Arg{Mem: &plan.Mem{Data: (*[8]byte)(unsafe.Pointer(&t.pid1))[:]}}, num(1))
	call(abi.CallPidfdSendSignal, abi.ESRCH, num(pidfd), num(int(unix.SIGKILL)), num(0), num(0))
	call(abi.CallExitGroup, 0, num(0))
	return rows
}
