package launch

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Hold starts a process that does nothing but keep files open, so that they outlive this one: a
// terminal's master, whose end would be a hang-up for all on the terminal. [Held] takes
// them out of it. It ends when a byte can be read from until, a FIFO or a pipe, or
// nobody has that open for writing, and at SIGTERM and the like. The process is this one's child, in a session of its own, and is the stub
// once more, with nothing to execute after its wait: 12 kB of memory. Like any
// child it also has what of this process's is not close-on-exec.
func Hold(until *os.File, files ...*os.File) (pid int, err error) {
	stub, err := openStub(&plan.Stub{})
	if err != nil {
		return 0, fmt.Errorf("hold: %w", err)
	}
	defer unix.Close(stub)
	closed := ^uintptr(0)
	attr := &syscall.ProcAttr{Files: []uintptr{closed, closed, closed, until.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true}}
	for _, f := range files {
		attr.Files = append(attr.Files, f.Fd())
	}
	// The stub is given along, too: there it is known which number it has, while one of this process's may be taken over by a copy of the others.
	program := len(attr.Files)
	attr.Files = append(attr.Files, uintptr(stub))
	// It waits for descriptor 3, and reports to it: nobody reads that.
	pid, err = syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(program), []string{string([]byte{plan.StubWait, 3, 3}), "", "kakuri: holds files"}, attr)
	if err != nil {
		return 0, fmt.Errorf("hold: %w", err)
	}
	return pid, nil
}

// Held opens the file with the index n that the process of a [Hold] keeps. The caller sees to it that pid still
// is that process. It needs the rights of ptrace(2) over it: pidfd_getfd(2).
func Held(pid, n int) (*os.File, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, 4+n, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_getfd %d of process %d: %w", 4+n, pid, err)
	}
	return os.NewFile(uintptr(fd), "held"), nil
}
