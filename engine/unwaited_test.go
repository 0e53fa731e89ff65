package engine

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// execer is a command that stays with a process in a container: its parent.
func execer(args []string) int {
	e, err := Open(Options{Dir: args[0]})
	if err != nil {
		return complain(err)
	}
	running := Streams{Started: func(Container) { fmt.Println("runs") }}
	if _, err := e.Exec(context.Background(), args[1], ExecConfig{Command: []string{"sleep", "1000"}}, running); err != nil {
		return complain(err)
	}
	return 0
}

// TestParentThatWaitsForNobody: a container ends though a process that was started in it has ended and is not waited for, as that of a command that was stopped
// by ^Z, or an orphan where process 1 is `sleep infinity`. The kernel keeps its first process meanwhile.
func TestParentThatWaitsForNobody(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	ctx := t.Context()
	at := 0
	stop := func(c Container) error { return e.Stop(ctx, c.ID, StopOptions{Timeout: &at}) }
	for _, test := range []struct {
		what, line string
		end        func(c Container) error
		code       int
	}{
		{"stop", "exec sleep 1000", stop, 137},
		{"stop, of one that has closed its output", "exec sleep 1000 >/dev/null 2>&1", stop, 137},
		{"rm -f, of one whose monitor was killed", "exec sleep 1000", func(c Container) error {
			nstest.Kill(t, monitorOf(t, e, c))
			nstest.Until(t, "the monitor's end", func() bool { return !monitor.Attended(e.dir, c.ID) })
			return e.Remove(ctx, c.ID, RemoveOptions{Force: true})
		}, 0},
		{"its own end", "while [ ! -e /tmp/end ]; do sleep 0.01; done; exit 7", func(c Container) error {
			_, _, err := execs(e, c.ID, ExecConfig{Command: []string{"touch", "/tmp/end"}}, "")
			if err == nil {
				_, err = e.Wait(ctx, c.ID, "")
			}
			return err
		}, 7},
	} {
		t.Run(test.what, func(t *testing.T) {
			c := started(t, e, Config{Rootfs: root, Command: []string{"sh", "-c", test.line}})
			command, line, _ := part(t, "execer", e.dir, c.ID)
			if line != "runs" {
				t.Fatal(line)
			}
			t.Cleanup(func() { command.Wait() })
			t.Cleanup(func() { nstest.Kill(t, command.Process.Pid) })
			if err := unix.Kill(command.Process.Pid, unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- test.end(c) }()
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(8 * time.Second):
				nstest.Kill(t, command.Process.Pid)
				t.Fatalf("it waits for ever: %v", <-done)
			}
			now, err := e.Find(c.ID)
			if test.code == 0 { // it is removed
				return
			}
			if err != nil || now.Status != monitor.Exited || now.ExitCode != test.code {
				t.Errorf("%s, code %d, %v; want code %d", now.Status, now.ExitCode, err, test.code)
			}
			if err := e.Start(ctx, c.ID, StartOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}
