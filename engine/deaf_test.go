package engine

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// TestDeafMonitor: something else is in the place of the socket of a monitor that lives: whoever stops, removes or waits for the container is told so, and what
// to do. Each of them waited for as long as the container ran.
func TestDeafMonitor(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	nstest.NoLeaks(t, e.dir)
	c := detached(t, e, Config{Rootfs: nstest.RootFS(t), Command: []string{"sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.01; done"}})
	pid, socket := monitorOf(t, e, c), monitor.Place(e.dir, c.ID)+"/socket"
	if err := errors.Join(os.Remove(socket), unix.Mkfifo(socket, 0o600)); err != nil {
		t.Fatal(err)
	}
	answers := make(chan error)
	verbs := []func() error{
		func() error { return e.Stop(t.Context(), c.ID, StopOptions{}) },
		func() error { return e.Remove(t.Context(), c.ID, RemoveOptions{Force: true}) },
		func() error { _, err := e.Wait(t.Context(), c.ID, ""); return err },
		func() error { return e.Kill(t.Context(), c.ID, "") },
	}
	for _, verb := range verbs {
		go func() { answers <- verb() }()
	}
	for range verbs {
		if err := <-answers; err == nil || errors.As(err, new(ErrNotRunning)) || !strings.Contains(err.Error(), "nobody listens at "+socket) || !strings.Contains(err.Error(), "process "+itoa(pid)+" lives") {
			t.Errorf("%v", err)
		}
	}
	if now := found(t, e, c.ID); now.Status != monitor.Running {
		t.Errorf("it is %s", now.Status)
	}
	nstest.Kill(t, pid)
	nstest.Until(t, "the monitor's end", func() bool { return !monitor.Attended(e.dir, c.ID) })
	if err := e.Stop(t.Context(), c.ID, StopOptions{}); err != nil {
		t.Error(err)
	}
	if now := found(t, e, c.ID); now.Status != monitor.Exited {
		t.Errorf("after the stop it is %s", now.Status)
	}
}
