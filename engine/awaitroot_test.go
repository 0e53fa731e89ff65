package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
	"golang.org/x/sys/unix"
)

// TestRootIsHeld: the end of a container's first process is not the end of its overlay, which would wait for the disk: its monitor has the root, also when it has made
// itself small, and between two runs it has none, so that whoever mounts the same upper directory is alone with it.
func TestRootIsHeld(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	imported(t, e, nstest.RootFS(t), "base:1")
	roots := func(pid int) (n int) {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return 0
		}
		for _, fd := range list {
			var st unix.Statfs_t
			if unix.Statfs(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()), &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC {
				n++
			}
		}
		return n
	}

	c := started(t, e, Config{Image: "base:1", Command: []string{"sleep", "1000"}})
	pid := monitorOf(t, e, c)
	if n := roots(pid); n != 1 {
		t.Errorf("after the start the monitor has %d roots", n)
	}
	nstest.Until(t, "a monitor at rest", func() bool { return atRest(pid) })
	if n := roots(pid); n != 1 {
		t.Errorf("at rest the monitor has %d roots", n)
	}
	zero := 0
	if err := e.Stop(t.Context(), c.ID, StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	if now := found(t, e, c.ID); now.Leaving.PID != pid {
		t.Errorf("the record says that process %d has the root, and not %d", now.Leaving.PID, pid)
	}

	for name, cfg := range map[string]Config{
		"again and again": {Image: "base:1", Command: []string{"sh", "-c", "exit 3"}, Restart: Restart{Policy: "always"}},
		"with --rm":       {Image: "base:1", Command: []string{"sleep", "1000"}, AutoRemove: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := started(t, e, cfg)
			pid := monitorOf(t, e, c)
			if cfg.AutoRemove {
				if n := roots(pid); n != 0 {
					t.Errorf("the monitor has %d roots", n)
				}
				return
			}
			nstest.Until(t, "five restarts", func() bool { return found(t, e, c.ID).Restarts >= 5 })
			if n := roots(pid); n > 1 {
				t.Errorf("the monitor has %d roots", n)
			}
			nstest.Until(t, "a pause without a root", func() bool { return found(t, e, c.ID).Status == monitor.Restarting && roots(pid) == 0 })
		})
	}
}

// TestAwaitRoot: what mounts a container's upper directory once more waits until the monitor of its last run is gone, which has the root until then.
func TestAwaitRoot(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	imported(t, e, nstest.RootFS(t), "base:1")
	c := found(t, e, stopped(t, e, Config{Image: "base:1", Command: []string{"true"}}))
	p := lasting(t)
	s, err := monitor.ReadState(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	s.Boot, s.Leaving = bootOf(), p.Witness()
	if err := monitor.WriteState(c.dir, s); err != nil {
		t.Fatal(err)
	}
	verbs := map[string]func(context.Context) error{
		"start": func(ctx context.Context) error { return e.Start(ctx, c.ID, StartOptions{}) },
		"stat":  func(ctx context.Context) error { _, err := e.StatPath(ctx, c.ID, "/bin"); return err },
	}
	for name, verb := range verbs {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if err := verb(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s of a container whose root is held: %v", name, err)
		}
		cancel()
	}
	p.Signal(unix.SIGKILL)
	for name, verb := range verbs {
		if err := verb(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Another boot's process is nobody's.
	own := oci.OpenProcess(os.Getpid())
	defer own.Close()
	s.Leaving, s.Boot = own.Witness(), "another"
	if p := s.RootHolder(); p != nil {
		t.Errorf("process %d is another boot's", p.Witness().PID)
		p.Close()
	}
}

// TestAwaitRootTells: who waits for a slow disk is told so, and a monitor that was stopped by a signal goes on.
func TestAwaitRootTells(t *testing.T) {
	nstest.Root(t)
	p := lasting(t)
	if err := p.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "a process that stands still", p.Stopped)
	var said []string
	e := open(t)
	e.warn = func(text string) {
		if said = append(said, text); strings.Contains(text, "the disk has not taken yet") {
			p.Signal(unix.SIGKILL)
		}
	}
	c := Container{dir: nstest.Dir(t)}
	if err := monitor.WriteState(c.dir, monitor.State{Status: monitor.Exited, Boot: bootOf(), Leaving: p.Witness()}); err != nil {
		t.Fatal(err)
	}
	if err := e.awaitRoot(t.Context(), &c); err != nil {
		t.Error(err)
	}
	if len(said) != 2 || !strings.Contains(said[0], "it goes on now") {
		t.Errorf("it said %q", said)
	}
}

func bootOf() string { return strings.TrimSpace(readFile("/proc/sys/kernel/random/boot_id")) }

// lasting is a process that takes long to end.
func lasting(t *testing.T) *oci.Process {
	t.Helper()
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := oci.OpenProcess(c.Process.Pid)
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		p.Close()
	})
	return p
}
