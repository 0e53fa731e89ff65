package engine

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
)

// pauser pauses a container of the engine of a directory, says so, and waits to be killed.
func pauser(args []string) int {
	e, err := Open(Options{Dir: args[0]})
	if err != nil {
		return complain(err)
	}
	if _, err := e.pauseFor(context.Background(), args[1]); err != nil {
		return complain(err)
	}
	fmt.Println("paused")
	time.Sleep(time.Hour) // where nothing can wake a program of Go, it ends by itself
	return 1
}

// TestCommitKilledWhilePaused: a container that a killed commit has paused goes on with the next command, system check lists it, and a pause of the user's stays.
func TestCommitKilledWhilePaused(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	imported(t, e, nstest.RootFS(t), "base:1")
	c := started(t, e, Config{Image: "base:1", Command: []string{"sleep", "1000"}})
	// killed leaves the container as a commit does that is killed.
	killed := func() {
		t.Helper()
		p := nstest.Part("pauser", e.dir, c.ID)
		p.Stderr = os.Stderr
		out, err := p.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		line, _ := bufio.NewReader(out).ReadString('\n')
		if err := e.sweep(); err != nil || !e.paused(c.ID) || line != "paused\n" {
			t.Errorf("while it is there: %q, paused %t, %v", line, e.paused(c.ID), err)
		}
		p.Process.Kill()
		p.Wait()
	}
	for what, next := range map[string]func() error{
		"the next command": e.sweep,
		"a commit":         func() error { _, err := e.Commit(ctx, c.ID, CommitOptions{}); return err },
		"check": func() error {
			list, err := e.Check(ctx, true)
			if want := (Finding{Object: container(c.ID), Text: "a killed command has paused it", Mended: true}); len(list) != 1 || list[0] != want {
				t.Errorf("%+v", list)
			}
			return err
		},
	} {
		if killed(); next() != nil || e.paused(c.ID) {
			t.Errorf("%s: paused %t, %v", what, e.paused(c.ID), next())
		}
		if list, err := e.Check(ctx, false); err != nil || len(list) > 0 {
			t.Errorf("%s: %+v, %v", what, list, err)
		}
	}
	killed()
	if err := e.Pause(ctx, c.ID); err != nil {
		t.Error(err)
	}
	if err := e.sweep(); err != nil || !e.paused(c.ID) {
		t.Errorf("a pause of the user's: paused %t, %v", e.paused(c.ID), err)
	}
	if _, err := e.Commit(ctx, c.ID, CommitOptions{}); err != nil || !e.paused(c.ID) {
		t.Errorf("a commit of a paused one: paused %t, %v", e.paused(c.ID), err)
	}
}
