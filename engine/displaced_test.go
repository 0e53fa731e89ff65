package engine

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
)

// A container runs, whatever somebody has removed of its monitor's place: the next command brings a new monitor. It was taken for one that the machine's end had ended, and could be
// started a second time; one with --rm was removed.
func TestPlaceRemoved(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	nstest.NoLeaks(t, e.dir)
	root := nstest.RootFS(t)
	next := map[string]func(c Container) error{
		"sweep":  func(Container) error { return e.sweep() },
		"repair": func(Container) error { _, err := e.Check(ctx, true); return err },
		"stop":   func(c Container) error { return e.Stop(ctx, c.ID, StopOptions{}) },
		"wait": func(c Container) error {
			_, _, err := execs(e, c.ID, ExecConfig{Command: []string{"kill", "1"}}, "")
			return err
		},
	}
	for what, do := range next {
		for _, remove := range []bool{false, true} {
			c := detached(t, e, Config{Rootfs: root, AutoRemove: remove, Command: []string{"sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"}})
			ready(t, c)
			old := monitorOf(t, e, c)
			if err := os.RemoveAll(monitor.Place(e.dir, c.ID)); err != nil {
				t.Fatal(err)
			}
			if now := found(t, e, c.ID); now.Status != monitor.Running || now.PID != c.PID {
				t.Fatalf("%s: it is %+v", what, now.State)
			}
			if err := do(c); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if what == "sweep" || what == "repair" {
				if now := found(t, e, c.ID); now.Status != monitor.Running || now.PID != c.PID || monitorOf(t, e, c) == old {
					t.Errorf("%s: it is %+v", what, now.State)
				}
				if list, err := e.Check(ctx, false); err != nil || len(list) > 0 {
					t.Errorf("check finds %+v, %v", list, err)
				}
				if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			} else if x, err := e.Wait(ctx, c.ID, ""); err != nil && !errors.As(err, new(ErrNoSuchContainer)) {
				t.Errorf("%s: %+v, %v", what, x, err)
			}
			nstest.Until(t, what+": the end", func() bool {
				now, err := e.Find(c.ID)
				if remove {
					return errors.As(err, new(ErrNoSuchContainer))
				}
				return err == nil && now.Status == monitor.Exited && (now.ExitCode == 7 || !tellsExits() || what == "wait") // it may end between two monitors
			})
			if c.Witness().Alive() {
				t.Errorf("%s: its process runs", what)
			}
		}
	}
}

// Where nothing is left in the run directory of a container that runs, who would start or remove it is told so.
func TestRunDirectoryRemoved(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	c := detached(t, e, Config{Rootfs: nstest.RootFS(t), Command: []string{"sleep", "1000"}})
	runtime := e.dir + "/runtime/" + c.ID
	if err := errors.Join(os.Rename(runtime, runtime+"-kept"), os.RemoveAll(monitor.Place(e.dir, c.ID))); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{e.Stop(ctx, c.ID, StopOptions{}), e.Remove(ctx, c.ID, RemoveOptions{Force: true})} {
		if err == nil || !strings.Contains(err.Error(), "runs, process "+itoa(c.PID)) {
			t.Errorf("%v", err)
		}
	}
	if !c.Witness().Alive() {
		t.Error("it has ended")
	}
	if err := os.Rename(runtime+"-kept", runtime); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(ctx, c.ID, RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
}

// What is in the place of a monitor's socket keeps nobody from taking over.
func TestSocketIsADirectory(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	nstest.NoLeaks(t, e.dir)
	c := detached(t, e, Config{Rootfs: nstest.RootFS(t), Command: []string{"sleep", "1000"}})
	killMonitor(t, e, c)
	socket := monitor.Place(e.dir, c.ID) + "/socket"
	if err := errors.Join(os.Remove(socket), os.MkdirAll(socket+"/below", 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := e.sweep(); err != nil {
		t.Error(err)
	}
	if err := e.Stop(ctx, c.ID, StopOptions{Timeout: new(int)}); err != nil {
		t.Error(err)
	}
	if now := found(t, e, c.ID); now.Status != monitor.Exited || tellsExits() && now.ExitCode != 137 {
		t.Errorf("%+v", now.State)
	}
}
