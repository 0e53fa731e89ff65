package experiments

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// A lab is one kind of container, run by one user.
type lab struct {
	kind string          // host, rootfs or bundle
	user *nstest.Account // nil is root
	root string          // the root file system of the kinds that need one

	plain, nested *box // shared by experiments that only look
}

// asked is what an experiment wants of its container beyond the default.
type asked struct {
	hostname  string
	day       bool // the boot clock a day ahead
	admin     bool // CAP_SYS_ADMIN inside, and nothing masked
	sharedPID bool
	kakuri    bool   // the program kakuri at /kakuri
	cgroup    string // the runner is in this directory of a cgroup file system
}

func newLab(t *testing.T, kind string, user *nstest.Account) *lab {
	l := &lab{kind: kind, user: user}
	if kind == "host" {
		return l
	}
	l.root = nstest.RootFS(t)
	// Where kakuri is bound: the user cannot make it in a root that is not theirs.
	if err := os.WriteFile(filepath.Join(l.root, "kakuri"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	first := 0
	switch {
	case user != nil:
		first = user.UID
	case kind == "bundle":
		first = mapped // what a bundle's root belongs to is its maker's business
	}
	if out, err := exec.Command("chown", "-R", "-h", fmt.Sprint(first, ":", first), l.root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return l
}

// command is a command by the lab's user.
func (l *lab) command(name string, args ...string) *exec.Cmd {
	if l.user != nil {
		return l.user.Command(name, args...)
	}
	c := exec.Command(name, args...)
	c.Dir = "/"
	return c
}

// host is what a script prints on the host side.
func (l *lab) host(t *testing.T, format string, args ...any) string {
	t.Helper()
	c := l.command("sh", "-c", fmt.Sprintf(format, args...))
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Errorf("on the host, %s: %v: %s", c.Args[2], err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// line is the command line of a container with a shell in it, and of the plan of it.
func (l *lab) line(t *testing.T, a asked) (run, explain []string) {
	t.Helper()
	if l.kind == "bundle" {
		dir := nstest.Dir(t)
		l.writeConfig(t, dir, a)
		runtime := nstest.Binary(t, "kakuri-runtime")
		return []string{runtime, "run", "--bundle", dir, filepath.Base(dir)}, []string{runtime, "explain", dir}
	}
	kakuri := nstest.Binary(t, "kakuri")
	options := []string{"run", "-i"}
	add := func(on bool, o ...string) {
		if on {
			options = append(options, o...)
		}
	}
	add(a.hostname != "", "--hostname", a.hostname)
	add(a.day, "--time-offset", "boottime=24h")
	add(a.admin, "--cap-add", "SYS_ADMIN", "--security-opt", "systempaths=unconfined")
	add(a.sharedPID, "--pid", "host")
	add(a.kakuri, "-v", kakuri+":/kakuri:ro")
	if l.kind == "rootfs" {
		options = append(options, "--rootfs", l.root)
	} else {
		options = append(options, "host")
	}
	options = append(options, "sh")
	return append([]string{kakuri}, options...), append([]string{kakuri, "explain"}, options...)
}

// A box is a running container with a shell that does what it is sent.
type box struct {
	runner, pid int // the command that runs it, and the shell, as the host counts
	took        time.Duration
	in          io.WriteCloser
	out         *bufio.Reader
	errs        bytes.Buffer
	asked       int
}

// patience is how long a container may take: a fault is to end the test, not to hang it.
const patience = 3 * time.Minute

func (l *lab) start(t *testing.T, a asked) *box {
	t.Helper()
	line, _ := l.line(t, a)
	c := l.command(line[0], line[1:]...)
	if a.cgroup != "" {
		// Only root may move it there; then it becomes the lab's user.
		wrap := []string{"-c", `echo $$ > "$0"/cgroup.procs && exec "$@"`, a.cgroup}
		if l.user != nil {
			wrap = append(wrap, "setpriv", "--reuid", fmt.Sprint(l.user.UID), "--regid", fmt.Sprint(l.user.GID), "--clear-groups")
		}
		env := c.Env
		c = exec.Command("sh", append(wrap, line...)...)
		c.Dir, c.Env = "/", env
	}
	b := &box{}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	b.in, b.out, c.Stderr = in, bufio.NewReader(out), &b.errs
	began := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	b.runner = c.Process.Pid
	limit := time.AfterFunc(patience, func() { c.Process.Kill() })
	t.Cleanup(func() {
		in.Close()
		c.Wait()
		limit.Stop()
	})
	b.ask(t, "true")
	b.took = time.Since(began)
	b.pid = l.child(t, b.runner)
	return b
}

// child is the first process of the container that a command has started: of those below it the first in a mount namespace of its
// own. Between the two is the container's monitor.
func (l *lab) child(t *testing.T, pid int) int {
	t.Helper()
	mounts := func(pid int) string { return l.host(t, "readlink /proc/%d/ns/mnt", pid) }
	ours := mounts(pid)
	for _, p := range descendants(t, pid)[1:] {
		if mounts(p) != ours {
			return p
		}
	}
	t.Fatalf("process %d has started no container", pid)
	return 0
}

// ask has the shell inside do a script, and returns what it printed.
func (b *box) ask(t *testing.T, format string, args ...any) string {
	t.Helper()
	b.asked++
	script, mark := format, fmt.Sprintf("--%p-%d--", b, b.asked)
	if len(args) > 0 {
		script = fmt.Sprintf(format, args...)
	}
	fmt.Fprintf(b.in, "%s\necho %s $?\n", script, mark)
	var lines []string
	for {
		line, err := b.out.ReadString('\n')
		if err != nil {
			t.Fatalf("inside, %s: %v: %s", script, err, b.errs.String())
		}
		line = strings.TrimSuffix(line, "\n")
		if code, ok := strings.CutPrefix(line, mark+" "); ok {
			if code != "0" {
				t.Errorf("inside, %s: exit code %s", script, code)
			}
			return strings.Join(lines, "\n")
		}
		lines = append(lines, line)
	}
}

// shell is the container that experiments look at which change nothing.
func (l *lab) shell(t *testing.T) *box {
	t.Helper()
	if l.plain == nil {
		t.Fatal("the container did not start")
	}
	return l.plain
}

// deep is a container with a pid namespace in it, and one in that; each level's shell
// waits, and the lists of what each sees are in /tmp/two and /tmp/three.
func (l *lab) deep(t *testing.T) *box {
	t.Helper()
	if l.nested == nil {
		t.Fatal("the container did not start")
	}
	return l.nested
}

const listing = `for p in /proc/[0-9]*; do echo "${p#/proc/}"; done`

// nest starts the inner levels.
const nest = `mkfifo /tmp/up /tmp/two-up /tmp/hold
cat > /tmp/three.sh << 'END'
` + listing + ` > /tmp/three
echo > /tmp/two-up
read x < /tmp/hold
END
cat > /tmp/two.sh << 'END'
/kakuri unshare --fork --pid --mount-proc sh /tmp/three.sh < /dev/null &
read x < /tmp/two-up
` + listing + ` > /tmp/two
echo > /tmp/up
read x < /tmp/hold
END
/kakuri unshare --fork --pid --mount-proc sh /tmp/two.sh < /dev/null &
read x < /tmp/up`

// makeCgroup makes a cgroup for the runner of a container, where the machine lets root do that;
// the end of the path is the same in all of /proc/PID/cgroup's.
func makeCgroup(t *testing.T) string {
	t.Helper()
	for _, top := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(top, "cgroup.procs")); err != nil {
			continue
		}
		dir := filepath.Join(top, "kakuri-experiment")
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() {
			nstest.Until(t, "an empty cgroup", func() bool { return unix.Rmdir(dir) == nil })
		})
		return dir
	}
	t.Log("no cgroup can be made here: the host side of the cgroup namespace is not looked at")
	return ""
}
