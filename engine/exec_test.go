package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
	"golang.org/x/sys/unix"
)

// started starts a container in the background, and removes it with the test.
func started(t testing.TB, e *Engine, cfg Config) Container {
	t.Helper()
	res, err := e.Run(context.Background(), cfg, Streams{}, RunOptions{Detach: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := e.Remove(context.Background(), res.ID, RemoveOptions{Force: true})
		if err != nil && !errors.As(err, new(ErrNoSuchContainer)) {
			t.Error(err)
		}
	})
	c, err := e.Find(res.ID)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// asleep is a container that does nothing.
func asleep(root string) Config {
	return Config{Rootfs: root, Command: []string{"sleep", "1000"}, StopSignal: "KILL"}
}

// execs runs another process in a container, and returns what it wrote.
func execs(e *Engine, ref string, x ExecConfig, stdin string) (out string, code int, err error) {
	var stdout, stderr bytes.Buffer
	s := Streams{Out: &stdout, Err: &stderr}
	if stdin != "" {
		s.In, x.Interactive = strings.NewReader(stdin), true
	}
	res, err := e.Exec(context.Background(), ref, x, s)
	code = res.Code
	var exit *ExitError
	if errors.As(err, &exit) {
		code = exit.Code
	}
	return stdout.String() + stderr.String(), code, err
}

func TestExec(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	cfg := asleep(root)
	cfg.Env, cfg.Workdir, cfg.CapDrop, cfg.GroupAdd = []string{"A=1", "B=2"}, "/tmp", []string{"CHOWN"}, []string{"44"}
	c := started(t, e, cfg)
	line := func(s string) []string { return []string{"sh", "-c", s} }
	for _, test := range []struct {
		name  string
		x     ExecConfig
		stdin string
		out   string
		code  int
	}{
		{"what the container has", ExecConfig{Command: line("echo $A $B $HOME; pwd; id -u; echo $TERM.; exit 3")}, "", "1 2 /root\n/tmp\n0\n.\n", 3},
		{"its own", ExecConfig{Command: line("echo $A $B $C; pwd"), Env: []string{"A=x", "B", "C="}, Workdir: "/etc"}, "", "x\n/etc\n", 0},
		{"a user by name", ExecConfig{Command: line("id -u; id -g; echo $HOME; grep CapEff /proc/self/status"), User: "web"}, "", "33\n33\n/srv/web\nCapEff:\t0000000000000000\n", 0},
		{"a user by number", ExecConfig{Command: line("id -u; id -g; id -G"), User: "5:6"}, "", "5\n6\n6 44\n", 0},
		{"stdin", ExecConfig{Command: []string{"cat"}}, "typed", "typed", 0},
		{"both outputs", ExecConfig{Command: line("echo o; echo e >&2")}, "", "o\ne\n", 0},
		{"a signal", ExecConfig{Command: line("kill -9 $$")}, "", "", 137},
		{"a terminal", ExecConfig{Command: line("test -t 0 && test -t 1 && echo $TERM"), TTY: true}, "", "xterm\r\n", 0},
		{"not there", ExecConfig{Command: []string{"nosuch"}}, "", "", 127},
		{"not executable", ExecConfig{Command: []string{"/etc/passwd"}}, "", "", 126},
		{"a directory", ExecConfig{Command: []string{"/etc"}}, "", "", 126},
		{"no such directory to be in", ExecConfig{Command: []string{"true"}, Workdir: "/nosuch"}, "", "", 127},
		{"no such user", ExecConfig{Command: []string{"true"}, User: "nosuch"}, "", "", 0},
	} {
		out, code, err := execs(e, c.Name, test.x, test.stdin)
		if out != test.out || code != test.code || (err != nil) != (code >= 126 && code < 128 || test.name == "no such user") {
			t.Errorf("%s: %q, code %d, %v; want %q, code %d", test.name, out, code, err, test.out, test.code)
		}
	}
	for user, want := range map[string]string{
		"nosuch":   "unable to find user nosuch: no matching entries in passwd file",
		"5:nosuch": "unable to find group nosuch: no matching entries in group file",
	} {
		if _, _, err := execs(e, c.Name, ExecConfig{Command: []string{"true"}, User: user}, ""); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("-u %s: %v", user, err)
		}
	}
	// The container's own process and another one are confined in the same way.
	status := func(x ExecConfig, pid string) string {
		x.Command = line("grep -E 'CapBnd|CapEff|Seccomp|NoNewPrivs' /proc/" + pid + "/status; for n in cgroup ipc mnt net pid time user uts; do readlink /proc/" + pid + "/ns/$n; done; cat /proc/" + pid + "/cgroup")
		out, _, err := execs(e, c.ID, x, "")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	own, other := status(ExecConfig{}, "1"), status(ExecConfig{}, "self")
	if own != other || !strings.Contains(own, "Seccomp:\t2") {
		t.Errorf("the container's own process:\n%s\nanother one:\n%s", own, other)
	}
	if all := status(ExecConfig{Privileged: true}, "self"); strings.Contains(own, strings.SplitAfter(all, "\n")[0]) {
		t.Errorf("privileged: %s", all)
	}
}

// TestExecRefused: where the container is not such that anything can run.
func TestExecRefused(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	ctx := context.Background()
	if _, _, err := execs(e, "nosuch", ExecConfig{Command: []string{"true"}}, ""); !errors.As(err, new(ErrNoSuchContainer)) {
		t.Errorf("no container: %v", err)
	}
	if _, err := e.Create(ctx, Config{Rootfs: root, Name: strings.Repeat("a", 256), Command: []string{"true"}}); err == nil || !strings.Contains(err.Error(), "a name is two to 255 of") {
		t.Errorf("a long name: %v", err)
	}
	c := started(t, e, asleep(root))
	// A name may be written as a path's end.
	if _, code, err := execs(e, "/"+c.Name+"/", ExecConfig{Command: []string{"true"}, Workdir: "rel"}, ""); code != 128 || !strings.Contains(err.Error(), "must be an absolute path") {
		t.Errorf("-w rel: code %d, %v", code, err)
	}
	if err := e.Pause(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := execs(e, c.ID, ExecConfig{Command: []string{"true"}}, ""); !errors.As(err, new(ErrConflict)) || !strings.Contains(err.Error(), "is paused") {
		t.Errorf("paused: %v", err)
	}
	if err := e.Unpause(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	// At the limit of processes, which what nobody waited for takes up, it is said what counts.
	one := int64(1)
	if _, err := e.Update(ctx, c.ID, UpdateConfig{Resources: Resources{PidsLimit: &one}}); err != nil {
		t.Fatal(err)
	}
	if _, code, err := execs(e, c.ID, ExecConfig{Command: []string{"true"}}, ""); err == nil || !strings.Contains(err.Error(), "limit of processes") || !strings.Contains(err.Error(), "--init") {
		t.Errorf("at the limit of processes: %d, %v", code, err)
	}
	one = -1
	if _, err := e.Update(ctx, c.ID, UpdateConfig{Resources: Resources{PidsLimit: &one}}); err != nil {
		t.Fatal(err)
	}
	// What the container makes of its own files holds up nobody.
	if _, _, err := execs(e, c.ID, ExecConfig{Command: []string{"sh", "-c", "rm /etc/passwd && mkfifo /etc/passwd"}}, ""); err != nil {
		t.Fatal(err)
	}
	if _, code, err := execs(e, c.ID, ExecConfig{Command: []string{"true"}, User: "root"}, ""); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a fifo as passwd: %d, %v", code, err)
	}
	if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := execs(e, c.ID, ExecConfig{Command: []string{"true"}}, ""); !errors.As(err, new(ErrNotRunning)) {
		t.Errorf("stopped: %v", err)
	}
}

// TestExecDetached: it goes on by itself.
func TestExecDetached(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	c := started(t, e, asleep(root))
	res, err := e.Exec(context.Background(), c.ID, ExecConfig{Command: []string{"sh", "-c", "echo x; echo y >&2; touch /tmp/done; sleep 1000"}, Detach: true}, Streams{Out: &bytes.Buffer{}})
	if err != nil || len(res.ID) != 64 {
		t.Fatalf("%v, %q", err, res.ID)
	}
	nstest.Until(t, "the process has written", func() bool {
		_, err := os.Stat(filepath.Join("/proc", itoa(c.PID), "root/tmp/done"))
		return err == nil
	})
}

// execEnds are the exit codes that the events since then tell of what exec started in a container, by its id; one that is told twice stands there twice.
func execEnds(t testing.TB, e *Engine, c Container, since time.Time) map[string]string {
	t.Helper()
	codes := map[string]string{}
	err := e.Events(t.Context(), EventOptions{Since: since, Until: time.Now(), Filters: Filters{"container": {c.ID}, "event": {"exec_die"}}}, func(x Event) error {
		codes[x.Actor.Attributes["execID"]] += x.Actor.Attributes["exitCode"]
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return codes
}

// What a killed monitor had started is told of by its successor, once: with its exit code, which the kernel tells since Linux 6.15 as long as somebody looks, and else 255.
func TestExecDetachedOfAKilledMonitor(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	nstest.NoLeaks(t, e.dir)
	begin := time.Now()
	c := started(t, e, asleep(nstest.RootFS(t)))
	start := func(line string) string {
		t.Helper()
		res, err := e.Exec(ctx, c.ID, ExecConfig{Command: []string{"sh", "-c", line}, Detach: true}, Streams{})
		if err != nil {
			t.Fatal(err)
		}
		return res.ID
	}
	ended := start("exit 3")
	nstest.Until(t, "the end of one whose monitor lives", func() bool { return execEnds(t, e, c, begin)[ended] == "3" })
	between := start("while ! [ -e /tmp/between ]; do sleep 0.01; done; exit 5")
	after := start("while ! [ -e /tmp/after ]; do sleep 0.01; done; exit 7")
	killed := start("exec sleep 1000")
	killMonitor(t, e, c)
	do := func(file string) {
		t.Helper()
		if _, err := e.Exec(ctx, c.ID, ExecConfig{Command: []string{"touch", "/tmp/" + file}}, Streams{}); err != nil {
			t.Fatal(err)
		}
	}
	do("between")
	nstest.Until(t, "the end of one between two monitors", func() bool {
		return !slices.ContainsFunc(monitor.ExecNotes(monitor.Place(e.dir, c.ID)), func(n monitor.ExecNote) bool { return n.ID == between && n.Process.Alive() })
	})
	if err := e.sweep(); err != nil {
		t.Fatal(err)
	}
	do("after")
	code := "7"
	if !tellsExits() {
		code = "255"
	}
	nstest.Until(t, "the ends of both", func() bool {
		codes := execEnds(t, e, c, begin)
		return codes[between] == "255" && codes[after] == code
	})
	if err := e.Stop(ctx, c.ID, StopOptions{Timeout: new(int)}); err != nil {
		t.Fatal(err)
	}
	if codes := execEnds(t, e, c, begin); codes[ended] != "3" || codes[between] != "255" || codes[after] != code || tellsExits() && codes[killed] != "137" || len(codes) != 6 {
		t.Errorf("%v", codes)
	}
}

// TestExecDetachedEnds: the monitor is the parent of what is detached, and tells of its end. A process 1 that waits for
// nobody, as that of a container often is, would leave it a zombie, which keeps its container from ending. When all have ended the monitor rests.
func TestExecDetachedEnds(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	nstest.NoLeaks(t, e.dir)
	begin := time.Now()
	c := started(t, e, asleep(nstest.RootFS(t)))
	keeper := monitorOf(t, e, c)
	parent := func() (list []string) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", keeper))
		if err != nil {
			t.Fatal(err)
		}
		for _, of := range threads {
			for _, f := range strings.Fields(readFile(of)) {
				list = append(list, strings.TrimSpace(readFile("/proc/"+f+"/comm")))
			}
		}
		return list
	}
	detached := func(x ExecConfig) string {
		t.Helper()
		x.Detach = true
		res, err := e.Exec(t.Context(), c.ID, x, Streams{})
		if err != nil {
			t.Fatal(err)
		}
		return res.ID
	}
	ids := []string{
		detached(ExecConfig{Command: []string{"sh", "-c", "while [ ! -e /tmp/end ]; do sleep 0.01; done; exit 7"}}),
		detached(ExecConfig{Command: []string{"sh", "-c", "exit $#", "-", "1", "2"}}),
		detached(ExecConfig{Command: []string{"sh", "-c", "kill -9 $$"}, Env: []string{"LONG=" + strings.Repeat("x", 100<<10)}}),
		detached(ExecConfig{Command: []string{"sh", "-c", "test -t 0 && exit 5"}, TTY: true}),
		detached(ExecConfig{Command: []string{"sh", "-c", "while [ ! -e /tmp/last ]; do sleep 0.01; done; exit 9"}}),
	}
	codes := func() map[string]string { return execEnds(t, e, c, begin) }
	is := func(want ...string) func() bool {
		return func() bool {
			got := codes()
			for i, code := range want {
				if got[ids[i]] != code {
					return false
				}
			}
			return true
		}
	}
	nstest.Until(t, "the ends of the short ones", is("", "2", "137", "5"))
	if list := parent(); len(list) != 3 || !slices.Contains(list, "sh") {
		t.Errorf("the monitor's children: %q", list)
	}
	if _, code, err := execs(e, c.ID, ExecConfig{Command: []string{"touch", "/tmp/end"}}, ""); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	nstest.Until(t, "the end of the long one", is("7", "2", "137", "5"))
	for what, x := range map[string]struct {
		command string
		code    int
	}{"nothing there": {"/no/such", 127}, "a directory": {"/tmp", 126}} {
		_, err := e.Exec(t.Context(), c.ID, ExecConfig{Command: []string{x.command}, Detach: true}, Streams{})
		if exit := (*ExitError)(nil); !errors.As(err, &exit) || exit.Code != x.code || !strings.Contains(err.Error(), "exec: \""+x.command+"\"") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, code, err := execs(e, c.ID, ExecConfig{Command: []string{"touch", "/tmp/last"}}, ""); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	nstest.Until(t, "the monitor's rest", func() bool { return atRest(keeper) })
	ids = append(ids, detached(ExecConfig{Command: []string{"sleep", "1000"}}))
	if err := e.Kill(t.Context(), c.ID, "KILL"); err != nil {
		t.Fatal(err)
	}
	ended(t, e, c.ID)
	if !is("7", "2", "137", "5", "9", "137")() {
		t.Errorf("at the container's end: %v", codes())
	}
}

// TestParentDeathSignal: a program that asks for a signal at its parent's end gets none as long as the container's monitor is there, which executes its program once more while
// it has children: a thread that ends by that is a parent, too.
func TestParentDeathSignal(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	nstest.NoLeaks(t, e.dir)
	begin := time.Now()
	asks := []string{"setpriv", "--pdeathsig", "KILL", "sh", "-c", "trap 'exit 5' TERM; echo >/tmp/ready; while :; do sleep 0.01; done"}
	c := started(t, e, Config{Image: "host", Network: "none", Command: asks, AutoRemove: true})
	keeper := monitorOf(t, e, c)
	nstest.Until(t, "the monitor's rest", func() bool { return atRest(keeper) })
	run := func(x ExecConfig) {
		t.Helper()
		x.Detach = true
		if _, err := e.Exec(t.Context(), c.ID, x, Streams{}); err != nil {
			t.Fatal("the container's own process has had it: ", err)
		}
	}
	died := func(want string) func() bool {
		return func() bool { return slices.Contains(slices.Collect(maps.Values(execEnds(t, e, c, begin))), want) }
	}
	asks[5] = strings.ReplaceAll(asks[5], "ready", "second")
	run(ExecConfig{Command: asks})
	nstest.Until(t, "its trap", func() bool { return exists(fmt.Sprintf("/proc/%d/root/tmp/second", c.PID)) })
	for _, code := range []string{"3", "4"} { // their threads end
		run(ExecConfig{Command: []string{"sh", "-c", "exit " + code}})
		nstest.Until(t, "its end", died(code))
	}
	run(ExecConfig{Command: []string{"pkill", "-TERM", "-f", "/tmp/second"}})
	nstest.Until(t, "its end by the trap", died("5"))
	if died("137")() {
		t.Error("it was killed")
	}
	if err := e.Kill(t.Context(), c.ID, "KILL"); err != nil {
		t.Fatal(err)
	}
}

// TestExecDocument: what a client gives a monitor as a process to start, and is no file in memory, is refused, as is a terminal to keep that is none. None of it holds
// the monitor up, stays open there, or becomes its terminal.
func TestExecDocument(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	c := started(t, e, asleep(root))
	place, err := os.Open(monitor.Place(e.dir, c.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer place.Close()
	dial := func() *os.File {
		t.Helper()
		conn, err := seqpacket.Dial(int(place.Fd()), "socket")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		return conn
	}
	peer, err := seqpacket.Peer(dial())
	if err != nil {
		t.Fatal(err)
	}
	keeps := func(given os.FileInfo) bool {
		list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", peer.Pid))
		return slices.ContainsFunc(list, func(fd string) bool {
			has, err := os.Stat(fd)
			return err == nil && os.SameFile(has, given)
		})
	}
	var given []os.FileInfo
	_, slave := openPTY(t)
	fifo := t.TempDir() + "/fifo"
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string]int{fifo: os.O_RDWR, slave.Name(): os.O_RDWR | unix.O_NOCTTY, "/": os.O_RDONLY, "/dev/zero": os.O_RDONLY, "/proc/self/status": os.O_RDONLY, "/etc/passwd": unix.O_PATH} {
		f, err := os.OpenFile(name, flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		given = append(given, info)
		conn, answer := dial(), make([]byte, 1000)
		if err := errors.Join(seqpacket.Send(conn, []byte("K"), int(f.Fd())), seqpacket.Send(conn, []byte(`P{"ID":"x"}`), int(f.Fd()))); err != nil {
			t.Fatal(err)
		}
		if n, _, err := seqpacket.Receive(conn, answer, 1); err != nil || answer[0] != 'f' || !strings.Contains(string(answer[:n]), "a file in memory") {
			t.Errorf("%s: %q, %v", name, answer[:n], err)
		}
		f.Close()
		conn.Close()
	}
	nstest.Until(t, "the end of what was given", func() bool { return !slices.ContainsFunc(given, keeps) })
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", peer.Pid))
	if f := strings.Fields(string(stat)); err != nil || len(f) < 7 || f[6] != "0" {
		t.Errorf("the monitor's terminal: %q, %v", stat, err)
	}
}

// TestExecTerminalKept: a process whose terminal nobody looks at goes on, however much it writes: a detached one, and one that was left by the keys.
func TestExecTerminalKept(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	c := started(t, e, asleep(root))
	line := func(file string) []string {
		return []string{"sh", "-c", "test -t 1 || exit 1; seq 1 100000; touch " + file + "; sleep 1000"}
	}
	is := func(file string) func() bool {
		return func() bool { return exists(filepath.Join("/proc", itoa(c.PID), "root", file)) }
	}
	if _, err := e.Exec(context.Background(), c.ID, ExecConfig{Command: line("/tmp/a"), Detach: true, TTY: true}, Streams{}); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "the detached one has written", is("/tmp/a"))
	res, err := e.Exec(context.Background(), c.ID, ExecConfig{Command: line("/tmp/b"), TTY: true, Interactive: true, DetachKeys: "x,y"}, Streams{In: strings.NewReader("xy"), Out: &bytes.Buffer{}})
	if err != nil || !res.Detached {
		t.Fatalf("%v, %+v", err, res)
	}
	nstest.Until(t, "the one that was left has written", is("/tmp/b"))
}

func BenchmarkExec(b *testing.B) {
	nstest.Root(b)
	e, root := open(b), nstest.RootFS(b)
	c := started(b, e, asleep(root))
	for b.Loop() {
		if _, _, err := execs(e, c.ID, ExecConfig{Command: []string{"true"}}, ""); err != nil {
			b.Fatal(err)
		}
	}
}

// What exec has started is listed as long as it runs, a detached one too.
func TestExecIDs(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	nstest.NoLeaks(t, e.dir)
	c := started(t, e, asleep(nstest.RootFS(t)))
	ids := func() []string {
		t.Helper()
		i, err := e.Inspect(c.ID)
		if err != nil {
			t.Fatal(err)
		}
		return i.ExecIDs
	}
	if list := ids(); list != nil {
		t.Errorf("%q", list)
	}
	detached := func(line string) string {
		t.Helper()
		res, err := e.Exec(context.Background(), c.ID, ExecConfig{Command: []string{"sh", "-c", line}, Detach: true}, Streams{})
		if err != nil {
			t.Fatal(err)
		}
		return res.ID
	}
	short, long := detached("true"), detached("exec sleep 1000")
	if out, code, err := execs(e, c.ID, ExecConfig{Command: []string{"true"}}, ""); code != 0 || err != nil {
		t.Errorf("%s %d %v", out, code, err)
	}
	nstest.Until(t, "the end of the short one", func() bool { return !slices.Contains(ids(), short) })
	if list := ids(); !slices.Equal(list, []string{long}) {
		t.Errorf("%q, want %s", list, long)
	}
}

// A container whose first process has ended, and is kept by another one, whose parent does not wait for it, is one that does not run:
// whatever the kernel says of it, which takes no more processes into it, and has its files no more.
func TestExecIntoEnding(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	ctx := context.Background()
	c := started(t, e, asleep(nstest.RootFS(t)))
	_, box, err := e.running(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	x := ExecConfig{Command: []string{"sleep", "1000"}}
	process, err := e.execProcess(c, box, x)
	if err != nil {
		t.Fatal(err)
	}
	streams, err := openExec(x, Streams{}, box, process)
	if err != nil {
		t.Fatal(err)
	}
	defer streams.close()
	other, err := box.LaunchExec(ctx, process, oci.ExecOptions{}, oci.Launch{Stdio: streams.child})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(c.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "the end of its first process", func() bool {
		_, err := os.Readlink("/proc/" + strconv.Itoa(c.PID) + "/root")
		return err != nil
	})
	for _, x := range []ExecConfig{{Command: []string{"true"}}, {Command: []string{"true"}, User: "root"}, {Command: []string{"true"}, Detach: true}, {Command: []string{"/no/such"}}} {
		if _, err := e.Exec(ctx, c.ID, x, Streams{}); !errors.As(err, new(ErrNotRunning)) {
			t.Errorf("%+v: %v", x, err)
		}
	}
	if _, err := other.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := e.Wait(ctx, c.ID, NotRunning); err != nil {
		t.Error(err)
	}
}
