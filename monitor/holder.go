package monitor

import (
	"os"
	"syscall"

	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/oci"
	"golang.org/x/sys/unix"
)

// startHolder starts a process that keeps a file open: a terminal's master side is gone with its last descriptor.
func startHolder(keep *os.File) (oci.Witness, error) {
	var pipe [2]int // which the holder has both ends of: it waits for good
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return oci.Witness{}, os.NewSyscallError("pipe", err)
	}
	until, other := os.NewFile(uintptr(pipe[0]), "pipe"), os.NewFile(uintptr(pipe[1]), "pipe")
	defer until.Close()
	defer other.Close()
	pid, err := launch.Hold(until, keep, other)
	if err != nil {
		return oci.Witness{}, err
	}
	p := oci.OpenProcess(pid)
	if p == nil {
		return oci.Witness{}, os.ErrProcessDone
	}
	defer p.Close()
	return p.Witness(), nil
}

// endHolder ends a holder, this process's child or not.
func endHolder(w oci.Witness) {
	if p := w.Open(); p != nil {
		p.Signal(unix.SIGKILL)
		p.Close()
	}
	for {
		// It is not this process's when it has been taken over.
		if _, err := syscall.Wait4(w.PID, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// held gets the file that a holder keeps.
func held(w oci.Witness) (*os.File, error) {
	if !w.Alive() {
		return nil, os.ErrProcessDone
	}
	return launch.Held(w.PID, 0)
}
