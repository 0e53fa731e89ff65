package engine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// shares are flags of containers that have no pid namespace for themselves.
var shares = [][]string{
	{"--pid", "host"}, {"--pid", "host", "--userns", "host"}, {"--pid", "host", "--init"}, {"--pid", "host", "--cap-add", "sys_admin"},
	{"--pid", "container:base"}, {"--pid", "container:base", "--init"},
}

// daemons leaves processes in the background that hold its streams: some in sessions of
// their own, some that have ended, some that start others, one as fast as it can.
const daemons = `sleep 1000 & setsid sleep 1000 & (setsid sh -c "sleep 1000 & sleep 1000 & wait" &)
	(setsid true &); (sleep 0.01 &); (setsid sh -c "while :; do sleep 1000 & sleep 0.01; done" &)`

// base starts a container whose namespaces others join.
func base(t testing.TB, root string) {
	t.Helper()
	stop, c := running(t, openAt(t, "/run/kakuri"), Config{Name: "base", Rootfs: root, Init: true, Command: []string{"sleep", "1000"}})
	t.Cleanup(stop)
	nstest.Until(t, "its command", func() bool {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.CommandPID()))
		return string(comm) == "sleep\n"
	})
}

// A container that shares a pid namespace leaves nobody in it, and its streams do not wait for
// such a one.
func TestHostPIDLeavesNothing(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	base(t, root)
	before := recordsNow(t)
	for _, flags := range shares {
		// Ended at once, before anybody looks; and after a while.
		for _, end := range []string{"exit 3", "sleep 0.05; exit 3", "sleep 0.05; kill -9 $$"} {
			begin := time.Now()
			c := exec.Command("timeout", append(append([]string{"-k", "1", "100", nstest.Binary(t, "kakuri"), "run", "--rm", "--rootfs", root}, flags...), "sh", "-c", daemons+"; echo out; "+end)...)
			out, err := c.Output()
			code := 3
			if strings.Contains(end, "kill") {
				code = 137
			}
			if c.ProcessState.ExitCode() != code || string(out) != "out\n" {
				t.Errorf("%v: %s: %v: %q after %v", flags, end, err, out, time.Since(begin))
			}
			nothingLeft(t, before, fmt.Sprint(flags, end))
		}
	}
}

// An ordinary user's, likewise.
func TestHostPIDLeavesNothingOfAUser(t *testing.T) {
	u := nstest.User(t)
	records := filepath.Join(u.RuntimeDir(), "kakuri")
	if out, code := asUser(t, u, "run", "host", "true"); code != 0 {
		t.Fatal(out)
	}
	program := nstest.Binary(t, "kakuri")
	base := u.Command(program, "run", "--rm", "--name", "base", "--init", "-i", "host", "sh", "-c", "echo up; read end")
	if _, err := base.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	up, err := base.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := base.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { asUser(t, u, "rm", "-f", "base"); base.Wait() }()
	up.Read(make([]byte, 3))
	nstest.Until(t, "the process that keeps its stdin open", func() bool {
		states, _ := filepath.Glob(records + "/containers/*/state.json")
		return len(states) == 1 && strings.Contains(readFile(states[0]), `"Holder":`)
	})
	before := nstest.Take(records)
	check := func(when string) {
		t.Helper()
		theirs := func(t testing.TB, args ...string) *exec.Cmd { return u.Command(program, args...) }
		nstest.Until(t, "the end of what was under way", func() bool { return removeAll(t, when, theirs) == 0 && isEmpty(records+"/creating") })
		nothingSince(t, before, when)
	}
	for _, flags := range []string{"--pid host", "--pid host --init", "--pid container:base"} {
		args := append(append([]string{"run", "--rm"}, strings.Fields(flags)...), "host", "sh", "-c")
		for _, end := range []string{"exit 3", "sleep 0.05; exit 3"} {
			if end == "exit 3" && strings.Contains(flags, "base") {
				continue // of a process that has ended, nobody but root can read the namespace
			}
			out, code := asUser(t, u, append(args, daemons+"; echo out; "+end)...)
			if code != 3 || out != "out\n" {
				t.Errorf("%s, %s: code %d: %q", flags, end, code, out)
			}
			check(flags + ", " + end)
		}
		c := u.Command(program, append(args, daemons+"; echo up; sleep 1000")...)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		out.Read(make([]byte, 3))
		c.Process.Kill()
		c.Wait()
		check(flags + ", killed")
	}
}

// The command is killed: the next one finds its container's processes, wherever they are.
func TestKilledBesideStrays(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	base(t, root)
	before := recordsNow(t)
	for _, flags := range shares {
		c := kakuri(t, append(append([]string{"run", "--rootfs", root}, flags...), "sh", "-c", daemons+"; echo up; sleep 1000")...)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		out.Read(make([]byte, 3))
		c.Process.Kill()
		c.Wait()
		nothingLeft(t, before, fmt.Sprint(flags))
	}
}

// A process that left the container's namespaces, as with all rights on the host it can, is not
// waited for: what it writes until the end is there.
func TestStrayOutside(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	dir := nstest.Dir(t)
	c := kakuri(t, "run", "--rootfs", root, "--privileged", "--pid", "host", "-v", dir+":/data", "sh", "-c",
		`busybox unshare -m sh -c 'echo one; echo $$ >/data/pid; exec sleep 1000' & while ! test -s /data/pid; do sleep 0.01; done; echo two; exit 3`)
	done := make(chan string, 1)
	go func() {
		out, _ := c.Output()
		done <- string(out)
	}()
	select {
	case out := <-done:
		if out != "one\ntwo\n" || c.ProcessState.ExitCode() != 3 {
			t.Errorf("%q: %v", out, c.ProcessState)
		}
	case <-time.After(2 * time.Minute):
		t.Error("it is waited for")
	}
	data, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	unix.Kill(pid, unix.SIGKILL)
}

func readFile(name string) string {
	data, _ := os.ReadFile(name)
	return string(data)
}
