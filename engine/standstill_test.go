package engine

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
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
			cfg := sh(root, "trap 'exit 7' TERM; trap 'echo winch' WINCH; while :; do sleep 0.01; done")
			cfg.AutoRemove = false
			c, err := e.Create(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Start(ctx, c.ID, StartOptions{}); err != nil {
				t.Fatal(err)
			}
			c = found(t, e, c.ID)
			pid := monitorOf(t, e, c)
			if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			nstest.Until(t, "that the monitor stands still", func() bool { return standsStill(pid) })
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
