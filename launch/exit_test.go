package launch

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExitOf: who asks how a process ended is told, also who asks at the moment at which somebody else waits for it.
func TestExitOf(t *testing.T) {
	ended := func() (c *exec.Cmd, pidfd int) {
		c = exec.Command("/bin/busybox", "false")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		pidfd, err := unix.PidfdOpen(c.Process.Pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		return c, pidfd
	}
	c, pidfd := ended()
	c.Wait()
	_, err := ExitOf(pidfd)
	unix.Close(pidfd)
	if err != nil {
		return // before Linux 6.15, as the tests of engine know
	}
	for n := range 300 {
		c, pidfd := ended()
		waited := make(chan error)
		go func() { waited <- c.Wait() }()
		status, err := ExitOf(pidfd)
		for err == unix.EAGAIN {
			status, err = ExitOf(pidfd)
		}
		<-waited
		unix.Close(pidfd)
		if err != nil || status.ExitStatus() != 1 {
			t.Fatalf("process %d: %d, %v", n, status.ExitStatus(), err)
		}
	}
}
