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

// locker is a command that has a container for itself, until its stdin ends.
func locker(args []string) int {
	e, err := Open(Options{Dir: args[0]})
	if err != nil {
		return complain(err)
	}
	if _, _, err := e.lock(args[1]); err != nil {
		return complain(err)
	}
	fmt.Println("locked")
	<-untilEOF()
	return 0
}

// TestStoppedCommand: who waits for a command that has the container for itself is told which that is, and what to do where it was stopped, as a cp by ^Z.
func TestStoppedCommand(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	nstest.NoLeaks(t, e.dir)
	c, err := e.Create(t.Context(), asleep(nstest.RootFS(t)))
	if err != nil {
		t.Fatal(err)
	}
	command, line, stdin := part(t, "locker", e.dir, c.ID)
	if line != "locked" {
		t.Fatal(line)
	}
	pid := command.Process.Pid
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 10)
	e.warn = func(text string) { told <- text }
	removed := make(chan error)
	go func() { removed <- e.Remove(t.Context(), c.ID, RemoveOptions{}) }()
	if text := <-told; !strings.Contains(text, fmt.Sprintf("process %d (", pid)) || !strings.Contains(text, fmt.Sprintf("`kill -CONT %d`", pid)) {
		t.Errorf("told: %s", text)
	}
	stdin.Close()
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Error(err)
	}
	if err := <-removed; err != nil {
		t.Error(err)
	}
	if err := command.Wait(); err != nil || len(told) > 0 {
		t.Errorf("%v, told of %d more", err, len(told))
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
