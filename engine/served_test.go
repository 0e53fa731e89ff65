package engine

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/verify"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// emptied has all layers removed at the end of a test: their files are of other ids.
func emptied(t *testing.T, e *Engine) {
	t.Helper()
	t.Cleanup(func() {
		s, err := e.Storage()
		if err == nil {
			_, _, err = s.GC(func(digest.Digest) bool { return false })
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// TestServedRoot: a container whose root fuse-overlayfs shows is stopped, copied from, taken over and started again as any other, what it wrote is
// there, and the end of the program is the end of the container, which says so.
func TestServedRoot(t *testing.T) {
	nstest.FUSE(t)
	u, root := nstest.User(t), nstest.RootFS(t)
	nstest.Inside(t, nstest.Place{User: u}, func(t *testing.T) {
		t.Setenv("KAKURI_STORAGE_DRIVER", "fuse-overlayfs")
		e, ctx := open(t), t.Context()
		nstest.NoLeaks(t)
		emptied(t, e)
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
		// Who is not in its user namespace cannot look below such a root, and is told why.
		now, p, err := e.Plan(c.ID)
		if err != nil {
			t.Fatal(err)
		}
		checked, err := verify.Container(p, now.PID)
		if why := func(r verify.Result) bool { return r.Property == "mount /proc" && strings.Contains(r.Unknown, "FUSE") }; err != nil || !slices.ContainsFunc(checked, why) {
			t.Errorf("%v: %+v", err, checked)
		}
		killMonitor(t, e, c)
		if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if c = found(t, e, c.ID); c.Status != monitor.Exited || c.Server.PID != 0 || c.Death.Cause == "root" {
			t.Errorf("stopped: %+v, %+v", c.State, c.Death)
		}
		nstest.Until(t, "the end of what served it, for which somebody else waits", func() bool { return unix.Kill(first, 0) == unix.ESRCH })
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

// TestServedUnwaited: a container whose monitor was killed, and whose new parent has not waited for it yet, did not lose its root: the server ended as it should, for
// the container had.
func TestServedUnwaited(t *testing.T) {
	nstest.FUSE(t)
	u, root := nstest.User(t), nstest.RootFS(t)
	nstest.Inside(t, nstest.Place{User: u}, func(t *testing.T) {
		t.Setenv("KAKURI_STORAGE_DRIVER", "fuse-overlayfs")
		e := open(t)
		emptied(t, e)
		imported(t, e, root, "base:1")
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil { // the parent of orphans is this process
			t.Fatal(err)
		}
		c := detached(t, e, Config{Image: "base:1", Name: "unwaited", Command: []string{"sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done"}})
		nstest.Until(t, "its word", func() bool { return strings.Contains(logOf(t, c), "up") })
		killMonitor(t, e, c)
		if err := e.Stop(t.Context(), c.ID, StopOptions{}); err != nil {
			t.Fatal(err)
		}
		c = found(t, e, c.ID)
		if c.Status != monitor.Exited || c.ExitCode != 255 || c.Death == nil || c.Death.Cause != "unknown" {
			t.Errorf("%+v, %+v", c.State, c.Death)
		}
	})
}

// TestKeepIDOwners: with the user's own id inside, files of the image have the image's owners, and what the user shares is the user's on both sides, after another
// start, too, and for a container that joins. What was begun by the kernel's overlay goes on there, and so does what was asked for.
func TestKeepIDOwners(t *testing.T) {
	nstest.FUSE(t)
	u, root := nstest.User(t), nstest.RootFS(t)
	nstest.Inside(t, nstest.Place{User: u}, func(t *testing.T) {
		e, ctx := open(t), t.Context()
		nstest.NoLeaks(t)
		emptied(t, e)
		imported(t, e, root, "mine:1")
		owned := func(e *Engine, c Config) {
			t.Helper()
			if _, err := e.Run(ctx, c, Streams{}, RunOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		owned(e, Config{Image: "mine:1", Name: "owned", Command: []string{"chown", "0:0", "/bin/busybox"}})
		if _, err := e.Commit(ctx, "owned", CommitOptions{Name: "base:1"}); err != nil {
			t.Fatal(err)
		}
		if s, err := e.Storage(); err != nil {
			t.Fatal(err)
		} else if name, why := s.Driver(); name != "dirs" {
			t.Fatalf("driver %s: %s", name, why)
		}
		shared := t.TempDir()
		keep := Config{Image: "base:1", UserNS: "keep-id", Mounts: []Mount{{Type: "bind", Source: shared, Dest: "/shared", Flag: "-v"}}}
		one := keep
		one.Name, one.Command = "one", []string{"sh", "-c", "id -u; stat -c %u:%g /bin/busybox /shared; touch /shared/made; echo >>/tmp/kept; wc -l </tmp/kept"}
		mine := fmt.Sprintf("%d:%d", u.UID, u.GID)
		owned(e, one)
		again := func(e *Engine, name string) string {
			t.Helper()
			if err := e.Start(ctx, name, StartOptions{}); err != nil {
				t.Fatal(err)
			}
			nstest.Until(t, "its end", func() bool { return found(t, e, name).Status == monitor.Exited })
			var lines []string
			for record := range strings.Lines(logOf(t, found(t, e, name))) {
				line, _, _ := strings.Cut(strings.TrimPrefix(record, `{"log":"`), `\n`)
				lines = append(lines, line)
			}
			return strings.Join(lines, " ")
		}
		if out, line := again(e, "one"), fmt.Sprintf("%d 0:0 %s", u.UID, mine); out != line+" 1 "+line+" 2" {
			t.Errorf("%q", out)
		}
		var st unix.Stat_t
		if err := unix.Stat(shared+"/made", &st); err != nil || st.Uid != uint32(u.UID) {
			t.Errorf("%v: %+v", err, st)
		}
		held := keep
		held.Name, held.Command = "held", []string{"sh", "-c", "echo up; while :; do sleep 0.01; done"}
		h := detached(t, e, held)
		nstest.Until(t, "its word", func() bool { return strings.Contains(logOf(t, h), "up") })
		want(t, e, Config{Image: "base:1", PID: "container:held", Command: []string{"stat", "-c", "%u:%g", "/bin/busybox"}}, "0:0\n")
		t.Setenv("KAKURI_STORAGE_DRIVER", "dirs")
		asked := openAt(t, e.dir)
		two := keep
		two.Name, two.Command = "two", []string{"stat", "-c", "%u:%g", "/bin/busybox"}
		owned(asked, two)
		t.Setenv("KAKURI_STORAGE_DRIVER", "")
		if out := again(e, "two"); out != mine+" "+mine {
			t.Errorf("what was begun by the kernel: %q", out)
		}
		for _, name := range []string{"held", "owned", "one", "two"} {
			if err := e.Remove(ctx, name, RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		}
	})
}
