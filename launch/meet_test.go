package launch

import (
	"encoding/binary"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// sockets are the runtime's end of what two sides meet by, and the container's.
func sockets(t *testing.T) [2]int {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(pair[0])
		unix.Close(pair[1])
	})
	return pair
}

// stands starts what stands for the container's process, to the end of the test.
func stands(t *testing.T, program ...string) *Process {
	t.Helper()
	c := exec.Command(program[0], program[1:]...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(c.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		unix.Close(pidfd)
	})
	return &Process{PID: c.Process.Pid, pidfd: pidfd}
}

// TestHeldSocket: a process has gone when it has ended, also where another one has a copy of its socket: who may trace it takes one by pidfd_getfd(2). What it wrote is
// read before.
func TestHeldSocket(t *testing.T) {
	pair := sockets(t)
	word := make([]byte, plan.MsgSize)
	word[0] = byte(plan.MsgSync)
	if _, err := unix.Write(pair[1], word); err != nil {
		t.Fatal(err)
	}
	r := &run{sock: pair[0], proc: stands(t, "/bin/true")}
	if kind, _, _, _, err := r.message(); err != nil || kind != plan.MsgSync {
		t.Errorf("message %d, %v", kind, err)
	}
	if kind, _, _, _, err := r.message(); err != io.EOF {
		t.Errorf("message %d, %v", kind, err)
	}
}

// TestHeldSocketOfLiving: so has one that lives and has executed another program, whose socket somebody else has a copy of.
func TestHeldSocketOfLiving(t *testing.T) {
	pair := sockets(t) // its end is the copy
	r := &run{sock: pair[0], proc: stands(t, "/bin/sleep", "60")}
	var err error
	if r.theirs, err = process.FileOf(pair[1]); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, _, _, _, err := r.message()
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != io.EOF {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it is waited for for ever")
	}
}

// TestMessageOfNoSize: what descriptors come with a message that is none do not stay open.
func TestMessageOfNoSize(t *testing.T) {
	pair := sockets(t)
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[1])
	if err := unix.Sendmsg(pair[1], []byte{1}, unix.UnixRights(ends[0], ends[0]), nil, 0); err != nil {
		t.Fatal(err)
	}
	unix.Close(ends[0])
	r := &run{plan: plan.Plan{Steps: []plan.Step{{Op: &plan.Sync{}}}}, sock: pair[0], proc: &Process{PID: 1, pidfd: -1}}
	if fds, err := r.receive(0, plan.MsgSync); err == nil {
		t.Errorf("it is taken for a sync with %d descriptors", len(fds))
	}
	if _, err := unix.Write(ends[1], []byte{1}); err != unix.EPIPE {
		t.Errorf("the pipe is still open: %v", err)
	}
}

// TestForgedFork: that a process forked is told by that one alone. A child of the runtime's whose number somebody else says is another container's first process, or a server of
// its file system, and was killed with the launch.
func TestForgedFork(t *testing.T) {
	pair := sockets(t)
	if err := unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		t.Fatal(err)
	}
	forks, other := stands(t, "/bin/sleep", "60"), stands(t, "/bin/sleep", "60")
	pid := forks.PID
	r := &run{plan: plan.Plan{Steps: []plan.Step{{Op: &plan.Fork{}}}}, sock: pair[0], proc: forks}
	word := make([]byte, plan.MsgSize)
	word[0] = byte(plan.MsgFork)
	binary.LittleEndian.PutUint32(word[4:], uint32(other.PID))
	if _, err := unix.Write(pair[1], word); err != nil {
		t.Fatal(err)
	}
	if _, err := r.receive(0, plan.MsgFork); err == nil || r.proc.PID != pid {
		t.Errorf("process %d is taken for the container's: %v", r.proc.PID, err)
	}
}
