package launch

import (
	"io"
	"os/exec"
	"testing"

	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// TestHeldSocket: a process has gone when it has ended, also where another one has a copy of its socket: who may trace it takes one by pidfd_getfd(2). What it wrote is
// read before.
func TestHeldSocket(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	c := exec.Command("/bin/true")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	pidfd, err := unix.PidfdOpen(c.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	word := make([]byte, plan.MsgSize)
	word[0] = byte(plan.MsgSync)
	if _, err := unix.Write(pair[1], word); err != nil {
		t.Fatal(err)
	}
	r := &run{sock: pair[0], proc: &Process{PID: c.Process.Pid, pidfd: pidfd}}
	if kind, _, _, _, err := r.message(); err != nil || kind != plan.MsgSync {
		t.Errorf("message %d, %v", kind, err)
	}
	if kind, _, _, _, err := r.message(); err != io.EOF {
		t.Errorf("message %d, %v", kind, err)
	}
}
