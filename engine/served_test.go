package engine

import (
	"bytes"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// TestServedRoot: a container whose root fuse-overlayfs shows is stopped, copied from, taken over and started again as any other, what it wrote is
// there, and the end of the program is the end of the container, which says so.
func TestServedRoot(t *testing.T) {
	nstest.FUSE(t)
	u, root := nstest.User(t), nstest.RootFS(t)
	nstest.Inside(t, nstest.Place{User: u}, func(t *testing.T) {
		t.Setenv("KAKURI_STORAGE_DRIVER", "fuse-overlayfs")
		e, ctx := open(t), t.Context()
		nstest.NoLeaks(t)
		t.Cleanup(func() { // of other ids
			s, err := e.Storage()
			if err == nil {
				_, _, err = s.GC(func(digest.Digest) bool { return false })
			}
			if err != nil {
				t.Error(err)
			}
		})
		imported(t, e, root, "base:1")
		served := func(c Container) int {
			t.Helper()
			if c = found(t, e, c.ID); c.Server.PID == 0 || !c.Server.Alive() {
				t.Fatalf("its root is served by %+v", c.Server)
			}
			return c.Server.PID
		}
		up := func(c Container, n int) {
			nstest.Until(t, "its word", func() bool { return strings.Count(logOf(t, c), "up") == n })
		}
		line := "trap 'exit 7' TERM; echo more >>/f; rm -rf /tmp; mkdir -p /tmp/x; chown 5:6 /f; grep -c fuse-overlayfs /proc/self/mountinfo; echo up; while :; do sleep 0.01; done"
		c := detached(t, e, Config{Image: "base:1", Name: "served", Command: []string{"sh", "-c", line}})
		up(c, 1)
		first := served(c)
		var tar bytes.Buffer
		if err := e.CopyFrom(ctx, c.ID, "/f", &tar, false); err != nil || !bytes.Contains(tar.Bytes(), []byte("more\n")) {
			t.Errorf("from one that runs: %v", err)
		}
		killMonitor(t, e, c)
		if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if c = found(t, e, c.ID); c.Status != monitor.Exited || c.Server.PID != 0 || c.Death.Cause == "root" {
			t.Errorf("stopped: %+v, %+v", c.State, c.Death)
		}
		if err := unix.Kill(first, 0); err != unix.ESRCH {
			t.Errorf("what served it is still there: %v", err)
		}
		tar.Reset()
		if err := e.CopyFrom(ctx, c.ID, "/f", &tar, false); err != nil || !bytes.Contains(tar.Bytes(), []byte("more\n")) {
			t.Errorf("from one that is stopped: %v", err)
		}
		list, err := e.Diff(ctx, c.ID)
		text := ""
		for _, d := range list {
			text += d.String() + "\n"
		}
		if err != nil || text != "A /f\nC /tmp\nA /tmp/x\n" {
			t.Errorf("diff: %q, %v", text, err)
		}
		if _, err := e.Commit(ctx, c.ID, CommitOptions{Name: "same:1"}); err != nil {
			t.Errorf("commit: %v", err)
		}
		if err := e.Start(ctx, c.ID, StartOptions{}); err != nil {
			t.Fatal(err)
		}
		up(c, 2)
		if err := unix.Kill(served(c), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		nstest.Until(t, "its end", func() bool { return found(t, e, c.ID).Status == monitor.Exited })
		if c = found(t, e, c.ID); c.Death == nil || c.Death.Cause != "root" || !strings.HasPrefix(c.Death.By, "fuse-overlayfs, which showed its root file system, was ended by SIGKILL") {
			t.Errorf("%+v", c.Death)
		}
		want(t, e, Config{Image: "same:1", Command: []string{"sh", "-c", "cat /f; stat -c %u:%g /f; ls /tmp"}}, "more\n5:6\nx\n")
		want(t, e, Config{Image: "same:1", ReadOnly: true, Command: []string{"sh", "-c", "touch /g 2>/dev/null || cat /f"}}, "more\n")
	})
}
