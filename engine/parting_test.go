package engine

import (
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
)

// parting leaves its parent, which is outside of the container, one child more, and ends.
func parting([]string) int {
	pid, _, e := syscall.RawSyscall6(syscall.SYS_CLONE, abi.CloneParent|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if pid == 0 && e == 0 {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return int(e)
}

// TestParting: health checks and what exec -d starts leave children to the container's monitor, which does not know of them. The container ends, as one with any other process that nobody waits for.
func TestParting(t *testing.T) {
	nstest.Root(t)
	e, ctx, now := open(t), t.Context(), 0
	c := idle(nstest.RootFS(t))
	c.Mounts = []Mount{{Type: "bind", Source: nstest.Exe, Dest: "/parting", Options: []string{"rbind"}, Flag: "-v"}}
	c.Health = &Health{Test: []string{"CMD", "/parting"}, Interval: 50 * time.Millisecond}
	made := started(t, e, c)
	nstest.Until(t, "a check that could", func() bool {
		c, err := e.Find(made.ID)
		return err == nil && c.State.Health != nil && c.State.Health.Status == "healthy"
	})
	if _, err := e.Exec(ctx, made.ID, ExecConfig{Command: []string{"/parting"}, Detach: true}, Streams{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- e.Stop(ctx, made.ID, StopOptions{Timeout: &now}) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
}
