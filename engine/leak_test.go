package engine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
)

// A thousand runs of every kind, those that fail among them, leave nothing, and do not make
// the process grow.
func TestThousandRuns(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir, "/tmp", "/run", "/dev/shm")
	ordinary := []string{"true"}
	kinds := []struct {
		run  Config
		code int // of a run that works, or of an error
	}{
		{Config{Image: "host", Command: ordinary}, 0},
		{Config{Rootfs: root, Command: ordinary}, 0},
		{Config{Rootfs: root, Command: ordinary, UserNS: "host"}, 0},
		{Config{Rootfs: root, Command: []string{"sh", "-c", "exit 3"}, Init: true}, 3},
		{Config{Rootfs: root, Command: []string{"tty"}, TTY: true}, 0},
		{Config{Rootfs: root, Command: []string{"cat"}, Interactive: true}, 0},
		{Config{Rootfs: root, Command: []string{"sh", "-c", "sleep 100 & exit 4"}, PID: "host"}, 4},
		{Config{Image: "host", Command: ordinary, ReadOnly: true, User: "1", Hostname: "h", Init: true, TTY: true}, 0},
		{Config{Rootfs: root, Command: ordinary, Mounts: []Mount{{Type: "tmpfs", Dest: "/srv", Flag: "--tmpfs"}, {Type: "bind", Source: root, Dest: "/usr", Options: []string{"rbind", "ro"}, Flag: "-v"}}}, 0},
		{Config{Rootfs: root, Command: []string{"nosuch"}}, 127},
		{Config{Rootfs: root, Command: []string{"/etc"}, TTY: true}, 126},
		{Config{Rootfs: root, Command: ordinary, Workdir: "/etc/passwd"}, 125},
		{Config{Rootfs: root, Command: ordinary, Sysctls: map[string]string{"net.ipv4.ip_default_ttl": "none"}}, 125},
		{Config{Rootfs: root, Command: ordinary, User: "nobody"}, 125},
		{Config{Rootfs: root, Command: ordinary, Mounts: []Mount{{Type: "bind", Source: "/proc/1/none", Dest: "/v", Options: []string{"rbind"}, MustHave: true, Flag: "-v"}}}, 125},
		{Config{Rootfs: root + "/none", Command: ordinary}, 125},
		{Config{Rootfs: root, Command: ordinary, PID: "container:none"}, 125},
		{Config{Rootfs: root, Command: ordinary, Ulimits: []Ulimit{{"nofile", 5, 4}}}, 125},
	}
	runs := 1000
	if testing.Short() {
		runs = 100
	}
	early := 0
	for i := range runs {
		k := kinds[i%len(kinds)]
		out, code, err := inside(t, e, k.run)
		var exit *ExitError
		if errors.As(err, &exit) {
			code = exit.Code
		}
		if code != k.code || (err != nil) != (k.code >= 125) {
			t.Fatalf("run %d, %+v: %v: code %d, want %d: %q", i, k.run, err, code, k.code, out)
		}
		if i == runs/4 {
			early = residentKiB(t)
		}
	}
	if late := residentKiB(t); late > early+16<<10 {
		t.Errorf("%d KiB after %d runs, %d after %d", early, runs/4, late, runs)
	}
}

// residentKiB is this process's resident memory.
func residentKiB(t testing.TB) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// runningFor starts the command with a container that would go on, and says how long
// it takes until that runs.
func runningFor(t testing.TB, args ...string) (c *exec.Cmd, took time.Duration) {
	t.Helper()
	begin := time.Now()
	c = kakuri(t, append(append([]string{"run"}, args...), "sh", "-c", "echo up; sleep 100")...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 3))
	return c, time.Since(begin)
}

// recordsNow is what there is of the command's records, and of all else that can be left. The file of older events counts as there: it comes
// when enough has happened.
func recordsNow(t testing.TB) nstest.State {
	t.Helper()
	f, err := os.OpenFile("/run/kakuri/events.1", os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return nstest.Take("/run/kakuri")
}

// nothingLeft wants that the next command finds containers that are there as a whole, or none, and that nothing is left when they are removed.
func nothingLeft(t testing.TB, before nstest.State, when string) {
	t.Helper()
	nstest.Until(t, "the end of what was under way", func() bool { return removeAll(t, when, kakuri) == 0 && isEmpty("/run/kakuri/creating") })
	nothingSince(t, before, when)
}

// removeAll removes the containers that the command lists, but for the one whose namespaces others join, and returns how many there were.
func removeAll(t testing.TB, when string, kakuri func(t testing.TB, args ...string) *exec.Cmd) (n int) {
	t.Helper()
	out, err := kakuri(t, "ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}}").CombinedOutput()
	if err != nil {
		t.Fatalf("%s: ps: %v: %s", when, err, out)
	}
	for line := range strings.Lines(string(out)) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "base" {
			continue
		}
		n++
		if out, err := kakuri(t, "rm", "-f", id).CombinedOutput(); err != nil && !strings.Contains(string(out), "No such container") {
			t.Errorf("%s: rm: %v: %s", when, err, out)
		}
	}
	return n
}

// nothingSince wants that what was not there before goes away.
func nothingSince(t testing.TB, before nstest.State, when string) {
	t.Helper()
	if left := before.Left(); len(left) > 0 {
		t.Fatalf("%s: left behind: %q", when, left)
	}
}

// The command is killed at any moment between its start and a while after the
// container runs: the next command finds nothing, and takes away what there is.
func TestKilledCommand(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	nstest.NoLeaks(t)
	variants := [][]string{{"host"}, {"--rootfs", root}, {"--userns", "host", "--rootfs", root}, {"--init", "host"}, {"--name", "killed", "--rootfs", root}}
	var longest time.Duration
	for _, v := range variants {
		c, took := runningFor(t, v...)
		c.Process.Kill()
		c.Wait()
		longest = max(longest, took)
	}
	// The steps themselves are those of TestKilledAtEveryStep: on a busy machine, some moments do.
	longest = min(longest, 60*time.Millisecond)
	kakuri(t, "ps").Run()
	before := recordsNow(t)
	kills := 100
	if testing.Short() {
		kills = 40
	}
	step := (longest + longest/3) / time.Duration(kills)
	for i := range kills {
		args := append(append([]string{"run"}, variants[i%len(variants)]...), "sleep", "100")
		c := kakuri(t, args...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * step)
		if err := c.Process.Kill(); err != nil {
			t.Fatalf("%v after %v: ended by itself", args, time.Duration(i)*step)
		}
		c.Wait()
		nothingLeft(t, before, fmt.Sprintf("%v killed after %v", args, time.Duration(i)*step))
		if t.Failed() {
			return
		}
	}
}

// TestKilledExport: a command that reads the files of a container that does not run, and is killed over that, leaves nothing that outlives
// the container.
func TestKilledExport(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	nstest.NoLeaks(t)
	put(t, root+"/big", strings.Repeat("0123456789abcdef", 1<<16))
	output(t, kakuri(t, "run", "--rm", "--rootfs", root, "true")) // the directories of all are there
	before := recordsNow(t)
	output(t, kakuri(t, "create", "--name", "still", "--rootfs", root, "true"))
	c := kakuri(t, "export", "still")
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 1)) // and no more: it waits
	}
	if err != nil {
		t.Fatal(err)
	}
	c.Process.Kill()
	c.Wait()
	nothingLeft(t, before, "after a killed export")
}

// A command that stands still holds nobody up; when it is killed then, or goes on, all is
// as it should be.
func TestFrozenCommand(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	nstest.NoLeaks(t)
	c, took := runningFor(t, "--rootfs", root)
	c.Process.Kill()
	c.Wait()
	kakuri(t, "ps").Run()
	before := recordsNow(t)
	rounds := 24
	if testing.Short() {
		rounds = 6
	}
	for i := range rounds {
		c := kakuri(t, "run", "--name", "frozen", "--rootfs", root, "sh", "-c", "exit 7")
		var said bytes.Buffer
		c.Stderr = &said
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(took * time.Duration(i) / time.Duration(rounds))
		c.Process.Signal(syscall.SIGSTOP)
		// Others list; those that start one may have to wait for it to get its name.
		if out, err := exec.Command("timeout", "20", nstest.Binary(t, "kakuri"), "ps", "-q").CombinedOutput(); err != nil {
			t.Errorf("beside one that stands still: ps: %v: %s", err, out)
		}
		other := kakuri(t, "run", "--rootfs", root, "true")
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			c.Process.Kill()
			c.Wait()
		} else {
			c.Process.Signal(syscall.SIGCONT)
			if c.Wait(); c.ProcessState.ExitCode() != 7 {
				t.Errorf("after it went on: %v: %s", c.ProcessState, said.String())
			}
		}
		if err := other.Wait(); err != nil {
			t.Errorf("beside one that stood still: %v", err)
		}
		nothingLeft(t, before, fmt.Sprintf("round %d", i))
		if t.Failed() {
			return
		}
	}
}

// Commands that start together do not hinder each other, and leave nothing.
func TestManyCommands(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	nstest.NoLeaks(t)
	output(t, kakuri(t, "run", "--rm", "--rootfs", root, "true")) // the directories of all are there
	before := recordsNow(t)
	var list []*exec.Cmd
	for range 20 {
		c := kakuri(t, "run", "--rootfs", root, "sh", "-c", "exit 3")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	for _, c := range list {
		if c.Wait(); c.ProcessState.ExitCode() != 3 {
			t.Errorf("%v", c.ProcessState)
		}
	}
	nothingLeft(t, before, "many")
}
