package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	os.Exit(Main(m, Options{Parts: map[string]func([]string) int{
		"sleeper": func([]string) int { fmt.Println("up"); os.Stdin.Read(make([]byte, 1)); return 0 },
		"orphan":  orphan,
	}}))
}

// orphan leaves a process of its own behind.
func orphan([]string) int {
	c := Part("sleeper")
	r, w, _ := os.Pipe()
	c.Stdin, c.ExtraFiles = r, []*os.File{w} // so that it never ends by itself
	if err := c.Start(); err != nil {
		return 1
	}
	fmt.Println(c.Process.Pid)
	return 0
}

// What a fault could do to the machine, it cannot do here.
func TestPlaceIsApart(t *testing.T) {
	Root(t)
	for _, p := range []string{"/etc/nstest-canary", "/dev/nstest-canary", "/usr/nstest-canary"} {
		if err := os.WriteFile(p, nil, 0o644); err == nil {
			os.Remove(p)
			t.Errorf("%s can be written", p)
		}
	}
	for _, d := range []string{"/tmp", "/run", "/dev/shm"} {
		var st, above unix.Statx_t
		err1 := unix.Statx(unix.AT_FDCWD, d, 0, unix.STATX_MNT_ID, &st)
		err2 := unix.Statx(unix.AT_FDCWD, filepath.Dir(d), 0, unix.STATX_MNT_ID, &above)
		if err := errors.Join(err1, err2); err != nil || st.Mnt_id == above.Mnt_id {
			t.Errorf("%s: %v: not a mount of its own", d, err)
		}
	}
	if got := links(); !slices.Equal(got, []string{"lo"}) {
		t.Errorf("network links: %v", got)
	}
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(data), " shared:") || strings.Contains(string(data), " master:") {
		t.Errorf("%v: a mount has peers:\n%s", err, data)
	}
	if os.Getpid() > 1000 {
		t.Errorf("pid %d: no pid namespace of its own", os.Getpid())
	}
}

// Each kind of thing that can be left is seen.
func TestLeaksAreSeen(t *testing.T) {
	Root(t)
	dir := Dir(t)
	seen := func(kind string, leak func() (undo func())) {
		t.Helper()
		before := Take(dir)
		if left := before.Since(); len(left) > 0 {
			t.Fatalf("before a leaked %s: %q", kind, left)
		}
		undo := leak()
		left := before.Since()
		if !slices.ContainsFunc(left, func(l string) bool { return strings.HasPrefix(l, kind+" ") }) {
			t.Errorf("a leaked %s gives %q", kind, left)
		}
		undo()
		if left := before.Left(); len(left) > 0 {
			t.Errorf("after a leaked %s was undone: %q", kind, left)
		}
	}
	seen("fd", func() func() {
		f, err := os.Open("/")
		if err != nil {
			t.Fatal(err)
		}
		return func() { f.Close() }
	})
	seen("fd", func() func() {
		fd, err := unix.PidfdOpen(os.Getpid(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return func() { unix.Close(fd) }
	})
	seen("mount", func() func() {
		if err := unix.Mount("x", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		return func() { unix.Unmount(dir, 0) }
	})
	seen("file", func() func() {
		p := filepath.Join(dir, "record")
		os.WriteFile(p, nil, 0o600)
		return func() { os.Remove(p) }
	})
	seen("process", func() func() {
		c := Part("sleeper")
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return func() { in.Close(); c.Wait() }
	})
}

// A zombie counts: it is a child that nobody waited for.
func TestZombieIsSeen(t *testing.T) {
	Root(t)
	c := exec.Command("true")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	Until(t, "a zombie", func() bool {
		return slices.ContainsFunc(processes(), func(p string) bool {
			return strings.HasPrefix(p, fmt.Sprint(c.Process.Pid, " ")) && strings.HasSuffix(p, "zombie")
		})
	})
	c.Wait()
}

// The init ends what is left at the end of the tests, and says so.
func TestInitFindsOrphans(t *testing.T) {
	Root(t)
	c := &exec.Cmd{
		Path: Exe, Args: []string{initName, Exe, "", "orphan"},
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID},
	}
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "left behind") || !strings.Contains(string(out), "process ") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestInside(t *testing.T) {
	Root(t)
	mine, err := os.Readlink("/proc/self/ns/uts")
	if err != nil {
		t.Fatal(err)
	}
	outer := os.Getenv("NSTEST_OUTER")
	if outer == "" {
		t.Setenv("NSTEST_OUTER", mine)
	}
	Inside(t, Place{Flags: unix.CLONE_NEWUTS | unix.CLONE_NEWNS | unix.CLONE_NEWPID}, func(t *testing.T) {
		if mine == outer {
			t.Errorf("in %s, the one outside", mine)
		}
		if os.Getppid() != 1 {
			t.Errorf("parent %d, not the init", os.Getppid())
		}
	})
}

// A test that runs nothing inside, fails or skips there is seen as that outside.
func TestInsideReports(t *testing.T) {
	Root(t)
	reason, ok := skipped("=== RUN   TestX\n    x_test.go:12: needs Linux 99\n--- SKIP: TestX (0.00s)\n")
	if !ok || reason != "needs Linux 99" {
		t.Errorf("%q %v", reason, ok)
	}
	if reason, ok := skipped("=== RUN   TestX\n--- PASS: TestX (0.00s)\n"); ok {
		t.Errorf("a skip where there is none: %q", reason)
	}
	c := again(t, Place{})
	c.Args[1] = "-test.run=^TestNoSuchThing$"
	out, err := c.CombinedOutput()
	if err != nil || strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestInsideAsUser(t *testing.T) {
	u := User(t)
	Inside(t, Place{User: u}, func(t *testing.T) {
		if os.Geteuid() != u.UID || os.Getegid() != u.GID {
			t.Errorf("uid %d gid %d", os.Geteuid(), os.Getegid())
		}
		groups, err := os.Getgroups()
		if err != nil || len(groups) > 1 {
			t.Errorf("groups %v %v", groups, err)
		}
		if err := os.WriteFile(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "x"), nil, 0o600); err != nil {
			t.Error(err)
		}
		os.Remove(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "x"))
	})
}

func TestRootFS(t *testing.T) {
	Root(t)
	root := RootFS(t)
	c := exec.Command("/bin/sh", "-c", "echo alive; id -u")
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	c.Dir = "/"
	out, err := c.CombinedOutput()
	if err != nil || string(out) != "alive\n0\n" {
		t.Errorf("%v: %q", err, out)
	}
}

// Cgroups of killed test runs are taken away, with what is in them; those with processes, those just made and those of others are not.
func TestSweepGroups(t *testing.T) {
	Root(t)
	list, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(list, func(h hierarchy) bool { return h.kind == "cgroup2" }) {
		return // nothing is swept there
	}
	above := func(h hierarchy) string {
		if h.kind == "cgroup2" {
			return h.giving()
		}
		return h.own
	}
	now := bootNanos()
	name := func(made int64) string { return groupName + "1-" + strconv.FormatInt(made, 36) }
	const hour = int64(time.Hour)
	old, alive, young, other := name(now-hour), name(now-2*hour), name(now), groupName+"else"
	c := Part("sleeper")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for _, h := range list {
		for _, n := range []string{old + "/kakuri/x", alive, young, other} {
			if err := os.MkdirAll(filepath.Join(above(h), n), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if h.kind == "cgroup2" {
			if err := os.WriteFile(filepath.Join(above(h), alive, "cgroup.procs"), []byte(strconv.Itoa(c.Process.Pid)), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(want map[string]bool) {
		t.Helper()
		for _, h := range list {
			for n, want := range want {
				if _, err := os.Stat(filepath.Join(above(h), n)); (err == nil) != want {
					t.Errorf("%s in %s: %v", n, above(h), err)
				}
			}
		}
	}
	sweepGroups(list, now)
	check(map[string]bool{old: false, alive: true, young: true, other: true})
	in.Close()
	c.Wait()
	sweepGroups(list, now+hour)
	check(map[string]bool{alive: false, young: false, other: true})
	for _, h := range list {
		if err := unix.Rmdir(filepath.Join(above(h), other)); err != nil {
			t.Error(err)
		}
	}
}
