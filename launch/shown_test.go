package launch

import (
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestShownToWhoMayNotTrace: /proc shows who may not trace a process that it ended with code 0, whatever it ended by: then it is not known.
func TestShownToWhoMayNotTrace(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for end, want := range map[string]syscall.WaitStatus{"kill -9 $$": 9, "exit 3": 3 << 8, "exit 0": 0} {
		c := exec.Command("/bin/sh", "-c", end)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer c.Wait()
		p := &Process{PID: c.Process.Pid}
		if err := unix.Waitid(unix.P_PID, p.PID, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		if status, err := p.shown(); err != nil || status != want {
			t.Errorf("%s: %#x, %v", end, status, err)
		}
		without(t, unix.CAP_SYS_PTRACE, func() {
			if status, err := p.shown(); err == nil {
				t.Errorf("%s: %#x for who may not trace it", end, status)
			}
		})
	}
}

// without does something on a thread that lacks a capability.
func without(t *testing.T, capability int, do func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&head, &sets[0]); err != nil {
		t.Fatal(err)
	}
	fewer := sets
	fewer[capability/32].Effective &^= 1 << (capability % 32)
	if err := unix.Capset(&head, &fewer[0]); err != nil {
		t.Fatal(err)
	}
	defer unix.Capset(&head, &sets[0])
	do()
}
