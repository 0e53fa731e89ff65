package engine

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/oci"
	"golang.org/x/sys/unix"
)

// TestStoppedMonitor: a monitor that was stopped by a signal holds up nobody who asks it for something: it goes on, and its number is told.
func TestStoppedMonitor(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	ctx := t.Context()
	var mu sync.Mutex
	var told []string
	e.warn = func(text string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, text)
	}
	for _, test := range []struct {
		what string
		do   func(c Container) error
	}{
		{"stop", func(c Container) error { return e.Stop(ctx, c.ID, StopOptions{}) }},
		{"rm -f", func(c Container) error { return e.Remove(ctx, c.ID, RemoveOptions{Force: true}) }},
		{"kill, by its own signal", func(c Container) error {
			if err := e.Kill(ctx, c.ID, "TERM"); err != nil {
				return err
			}
			_, err := e.Wait(ctx, c.ID, "")
			return err
		}},
		{"wait", func(c Container) error {
			p := c.Witness().Open()
			defer p.Close()
			if err := p.Signal(unix.SIGKILL); err != nil {
				return err
			}
			_, err := e.Wait(ctx, c.ID, "")
			return err
		}},
		{"attach", func(c Container) error {
			p := c.Witness().Open()
			defer p.Close()
			if err := p.Signal(unix.SIGTERM); err != nil {
				return err
			}
			res, err := e.Attach(ctx, c.ID, AttachOptions{NoStdin: true}, Streams{})
			if err == nil && res.Code != 7 {
				err = fmt.Errorf("code %d", res.Code)
			}
			return err
		}},
		{"stop, of one that is stopped while it is waited for", func(c Container) error {
			pid := monitorOf(t, e, c)
			if err := unix.Kill(pid, unix.SIGCONT); err != nil {
				return err
			}
			seconds := 600
			ended := make(chan error, 1)
			go func() { ended <- e.Stop(ctx, c.ID, StopOptions{Signal: "WINCH", Timeout: &seconds}) }()
			nstest.Until(t, "the signal", func() bool { return strings.Contains(logOf(t, c), "winch") })
			if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
				return err
			}
			p := c.Witness().Open()
			defer p.Close()
			if err := p.Signal(unix.SIGKILL); err != nil {
				return err
			}
			return <-ended
		}},
	} {
		t.Run(test.what, func(t *testing.T) {
			told = nil
			cfg := sh(root, "trap 'exit 7' TERM; trap 'echo winch' WINCH; echo ready; while :; do sleep 0.01; done")
			cfg.AutoRemove = false
			c, err := e.Create(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Start(ctx, c.ID, StartOptions{}); err != nil {
				t.Fatal(err)
			}
			c = found(t, e, c.ID)
			// Before it has its traps, the first process of a pid namespace is sent TERM in vain.
			nstest.Until(t, "the traps", func() bool { return strings.Contains(logOf(t, c), "ready") })
			pid := monitorOf(t, e, c)
			if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			nstest.Until(t, "that the monitor stands still", func() bool {
				p := oci.OpenProcess(pid)
				defer p.Close()
				return p.Stopped()
			})
			if err := test.do(c); err != nil {
				t.Error(err)
			}
			mu.Lock()
			if len(told) != 1 || !strings.Contains(told[0], fmt.Sprintf("its monitor, process %d, was stopped by a signal: it goes on now", pid)) {
				t.Errorf("told: %q", told)
			}
			mu.Unlock()
			if err := e.Remove(ctx, c.ID, RemoveOptions{Force: true}); err != nil && test.what != "rm -f" {
				t.Error(err)
			}
		})
	}
}

// TestStoppedMonitorOfRun: who stays with a container from its start is no worse off.
func TestStoppedMonitorOfRun(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	told := make(chan string, 10)
	e.warn = func(text string) { told <- text }
	cfg := sh(root, "exec sleep 1000")
	cfg.AutoRemove = false
	stopped := 0
	stop := func(c Container) {
		c = found(t, e, c.ID)
		stopped = monitorOf(t, e, c)
		if err := unix.Kill(stopped, unix.SIGSTOP); err != nil {
			t.Error(err)
		}
		p := c.Witness().Open()
		defer p.Close()
		if err := p.Signal(unix.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	check := func(what string, res Result, err error) {
		t.Helper()
		if err != nil || res.Code != 137 {
			t.Errorf("%s: %+v, %v", what, res, err)
		}
		if want := fmt.Sprintf("its monitor, process %d, was stopped by a signal: it goes on now", stopped); len(told) != 1 || !strings.Contains(<-told, want) {
			t.Errorf("%s: told of %d, want %q", what, len(told), want)
		}
	}
	res, err := e.Run(t.Context(), cfg, Streams{Started: stop}, RunOptions{})
	check("run", res, err)
	id := res.ID
	res, err = e.Attach(t.Context(), id, AttachOptions{Start: true, NoStdin: true}, Streams{Started: func(Container) { stop(Container{Record: Record{ID: id}}) }})
	check("start -a", res, err)
	if err := e.Remove(t.Context(), id, RemoveOptions{}); err != nil {
		t.Error(err)
	}
}
