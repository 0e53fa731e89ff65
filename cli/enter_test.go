package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// What a program sees that kakuri enter starts is what it sees when util-linux's nsenter
// does, for targets of several kinds.
func TestEnterOracle(t *testing.T) {
	dir := place(t)
	probe := filepath.Join(dir, "bin", "probe")
	targets := map[string]string{ // by the options that made them
		"plain": "-m -u -i -n -p -C -T -f --mount-proc -w /usr",
		"user":  "-r -m -u -i -n -p -C -T -f --mount-proc -w /usr",
		"ids":   "-U --map-users=1410065408,0,1000 --map-groups=1410065408,0,1000 -m -u -p -f --mount-proc",
	}
	for _, c := range []struct {
		target  string // of targets
		options string // -t PID is put before
		who     string
	}{
		{"plain", "", "root"},
		{"plain", "-a", "root"},
		{"plain", "-m", "root"},
		{"plain", "-u", "root"},
		{"plain", "-u -n", "root"},
		{"plain", "-m -u -n", "root"},
		{"plain", "-p", "root"},
		{"plain", "-m -p", "root"},
		{"plain", "-C", "root"},
		{"plain", "-T", "root"},
		{"plain", "-i", "root"},
		{"plain", "-w", "root"},
		{"plain", "-r -w", "root"},
		{"plain", "-m -w", "root"},
		{"plain", "-m --root=/usr", "root"},
		{"plain", "--wd=/usr/lib", "root"},
		{"plain", "-S 5 -G 6", "root"},
		{"plain", "-u -S5 -G6", "root"},
		{"plain", "-r/ -w/usr -u", "root"},
		{"plain", "-m -w/usr", "root"},
		{"plain", "-m -W/usr", "root"},
		{"plain", "-a -r -w", "root"},
		{"plain", "-u -S 5", "root"},
		{"plain", "-u --preserve-credentials", "root"},
		{"user", "-a", "root"},
		{"user", "-U", "root"},
		{"user", "-U -m", "root"},
		{"user", "-U -m -u -n", "root"},
		{"user", "-U -n", "root"},
		{"user", "-U --preserve-credentials", "both"},
		{"user", "-a --preserve-credentials", "root"},
		{"user", "-U -S 0 -G 0", "root"},
		{"user", "-m", "root"},
		{"ids", "-U -m -u -p", "user"},
		{"ids", "-U -S 5 -G 6", "user"},
		{"ids", "-U", "user"},
	} {
		for _, who := range []string{"root", "user"} {
			if c.who != "both" && c.who != who {
				continue
			}
			t.Run(strings.ReplaceAll(who+" "+c.target+" "+c.options, "/", "|"), func(t *testing.T) {
				o := oracle{tool: "nsenter", verb: "enter", user: who == "user", dir: "/"}
				args := append(strings.Fields(targets[c.target]), "sh", "-c", "echo up; exec sleep 1000")
				pid := o.target(t, args...)
				theirs, ours := o.both(t, append(append([]string{"-t", strconv.Itoa(pid)}, strings.Fields(c.options)...), probe, "-x", "a b")...)
				same(t, theirs, ours)
				if c.options == "-m --root=/usr" && theirs.code == 127 {
					return // the probe is not in there, for either
				}
				if theirs.code != 0 || !strings.Contains(theirs.out, "namespace uts") {
					t.Errorf("nothing to compare: code %d\n%s", theirs.code, theirs.errs)
				}
			})
		}
	}
}

// target starts an unshare(1) for the test's time, whose program says "up", and returns the
// host's pid of that program.
func (o oracle) target(t *testing.T, args ...string) int {
	t.Helper()
	c := o.command(t, append([]string{"unshare"}, args...)...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	t.Cleanup(func() {
		if pid != 0 {
			unix.Kill(pid, unix.SIGKILL)
		}
		c.Process.Kill()
		c.Wait()
	})
	if n, err := out.Read(make([]byte, 3)); err != nil || n != 3 {
		t.Fatalf("unshare %q: %v", args, err)
	}
	pid = firstChild(t, c.Process.Pid)
	return pid
}

// firstChild is the only child of a process.
func firstChild(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(pid) + "/children")
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return child
}

// Exit codes are the program's, or say why there is none.
func TestEnterExit(t *testing.T) {
	place(t)
	o := oracle{tool: "nsenter", verb: "enter", dir: "/"}
	pid := strconv.Itoa(o.target(t, "-m", "-u", "-p", "-f", "--mount-proc", "sh", "-c", "hostname island; echo up; exec sleep 1000"))
	for _, line := range [][]string{
		{"-t", pid, "-a", "true"}, {"-t", pid, "-a", "false"}, {"-t", pid, "-a", "sh", "-c", "exit 42"}, {"-t", pid, "-p", "sh", "-c", "kill -TERM $$"},
		{"-t", pid, "-a", "no-such-program"}, {"-t", pid, "-a", "/etc/passwd"}, {"-t", pid, "-a", "/etc"},
		{"-t", pid, "-u", "hostname"}, {"-t", pid, "-a", "sh", "-c", "ls /proc | grep -c '^1$'"},
		{"--uts=/proc/" + pid + "/ns/uts", "hostname"}, {"--mount=/proc/" + pid + "/ns/mnt", "--pid=/proc/" + pid + "/ns/pid", "ps", "-p", "1", "-o", "args="},
		{"-t", pid, "-p", "-F", "sh", "-c", "readlink /proc/self; sh -c 'test $$ != 1 && echo other'"},
		{"-t", "999999", "-a", "true"}, {"-a", "true"}, {"-u", "true"}, {"--uts=/no/such", "true"}, {"--uts=/etc/passwd", "true"}, {"--uts=/proc/self/ns/net", "true"},
		{"-t", pid, "--root=/no/such", "true"}, {"-t", pid, "--wd=/no/such", "true"}, {"-t", pid, "-S", "many", "true"},
	} {
		t.Run(strings.NewReplacer("/", "|", pid, "PID").Replace(strings.Join(line, " ")), func(t *testing.T) {
			theirs, ours := o.both(t, line...)
			if strings.Contains(strings.Join(line, " "), "readlink /proc/self;") {
				theirs.out, ours.out = strings.TrimLeft(theirs.out, "0123456789"), strings.TrimLeft(ours.out, "0123456789")
			}
			same(t, theirs, ours)
		})
	}
}

// The target of kakuri enter may be a container by its name, as the first argument or
// with -t; then the pid of its first process is the target.
func TestEnterContainer(t *testing.T) {
	place(t)
	root := nstest.RootFS(t)
	run := exec.Command("kakuri", "run", "--rm", "--name", "enter_me", "-h", "island", "-e", "ONLY=inside", "--rootfs", root, "-w", "/srv", "sh", "-c", "echo $$; exec sleep 1000")
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 2)); err != nil || n != 2 {
		t.Fatal(err)
	}
	pid := containerPID(t, "enter_me")
	defer func() {
		exec.Command("kill", "-9", pid).Run()
		run.Wait()
	}()
	if out, err := exec.Command("kakuri", "create", "--name", "enter_ended", "--rootfs", root, "true").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer exec.Command("kakuri", "rm", "enter_ended").Run()
	if out, err := exec.Command("kakuri", "ns", "ps", "enter_ended").CombinedOutput(); err == nil || string(out) != "kakuri: container enter_ended is not running\n" {
		t.Errorf("%v: %s", err, out)
	}
	id, err := exec.Command("kakuri", "ps", "-q").Output()
	if err != nil {
		t.Fatal(err)
	}
	o := oracle{dir: "/"}
	for _, c := range []struct {
		args []string
		want outcome
	}{
		{[]string{"enter_me", "sh", "-c", "hostname; id -u; pwd; readlink /proc/1/exe"}, outcome{"island\n0\n/\n/bin/busybox\n", "", 0}},
		{[]string{strings.TrimSpace(string(id)), "hostname"}, outcome{"island\n", "", 0}},
		{[]string{"-t", "enter_me", "-a", "hostname"}, outcome{"island\n", "", 0}},
		{[]string{"-t", "enter_me", "-u", "hostname"}, outcome{"island\n", "", 0}},
		{[]string{"-u", "enter_me", "hostname"}, outcome{"island\n", "", 0}},
		{[]string{"-t", pid, "-a", "hostname"}, outcome{"island\n", "", 0}},
		{[]string{"-W/etc", "enter_me", "pwd"}, outcome{"/etc\n", "", 0}},
		{[]string{"-a", "-w", "enter_me", "pwd"}, outcome{"/srv\n", "", 0}},
		{[]string{"-e", "enter_me", "sh", "-c", "echo $ONLY"}, outcome{"inside\n", "", 0}},
		{[]string{"enter_me", "sh", "-c", "echo $ONLY"}, outcome{"\n", "", 0}},
		{[]string{"-S", "33", "-G", "34", "enter_me", "sh", "-c", "id -u; id -g"}, outcome{"33\n34\n", "", 0}},
		{[]string{"enter_me", "sh", "-c", "exit 9"}, outcome{"", "", 9}},
		{[]string{"enter_me", "no-such"}, outcome{"", "not found", 127}},
		{[]string{"enter_me", "/etc/passwd"}, outcome{"", "/etc/passwd", 126}},
		{[]string{"enter_other", "true"}, outcome{"", "No such container: enter_other", 1}},
		{[]string{"-t", "enter_other", "-a", "true"}, outcome{"", "No such container: enter_other", 1}},
		{[]string{"-S", "many", "enter_me", "true"}, outcome{"", "--setuid many: want a number", 1}},
		{[]string{"enter_ended", "true"}, outcome{"", "container enter_ended is not running", 1}},
		{[]string{"-t", "enter_ended", "true"}, outcome{"", "container enter_ended is not running", 1}},
	} {
		got := o.run(t, append([]string{"kakuri", "enter"}, c.args...)...)
		if got.out != c.want.out || got.code != c.want.code || !strings.Contains(got.errs, c.want.errs) || (c.want.errs == "") != (got.errs == "") {
			t.Errorf("%q: %+v, want %+v", c.args, got, c.want)
		}
	}
}

// An ordinary user enters a container of their own, whether its groups can be changed or not.
func TestEnterOwn(t *testing.T) {
	place(t)
	o := oracle{tool: "nsenter", verb: "enter", user: true, dir: "/"}
	for name, options := range map[string]string{"one id": "-r -u", "range": "--map-root-user --map-auto -u"} {
		pid := o.target(t, append(strings.Fields(options), "-f", "sh", "-c", "hostname island; echo up; exec sleep 1000")...)
		got := o.run(t, "kakuri", "enter", "-t", strconv.Itoa(pid), "-U", "-u", "sh", "-c", "hostname; id -u; id -g")
		if (got != outcome{"island\n0\n0\n", "", 0}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// containerPID is the host's pid of the first process of a container.
func containerPID(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("kakuri", "ps", "--filter", "name=^"+name+"$", "--format", "{{.PID}}").Output()
	pid := strings.TrimSpace(string(out))
	if err != nil || pid == "" {
		t.Fatalf("kakuri ps has no %s: %q, %v", name, out, err)
	}
	return pid
}

// A container that another program made by kakuri-runtime has a name as well, for who looks or enters.
func TestEnterRuntimeContainer(t *testing.T) {
	place(t)
	dir := t.TempDir()
	if err := os.Symlink(nstest.RootFS(t), filepath.Join(dir, "rootfs")); err != nil {
		t.Fatal(err)
	}
	runtime := func(args ...string) {
		t.Helper()
		c := exec.Command("kakuri-runtime", args...)
		c.Dir = dir // and its streams, which the container keeps, are /dev/null
		if err := c.Run(); err != nil && args[0] != "delete" {
			t.Fatalf("%q: %v", args, err)
		}
	}
	runtime("spec")
	config := filepath.Join(dir, "config.json")
	var spec map[string]any
	data, err := os.ReadFile(config)
	if err == nil {
		err = json.Unmarshal(data, &spec)
	}
	if err != nil {
		t.Fatal(err)
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"], spec["hostname"] = false, []string{"sleep", "1000"}, "bare"
	spec["root"] = map[string]any{"path": "rootfs"}
	if data, err = json.Marshal(spec); err == nil {
		err = os.WriteFile(config, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	runtime("run", "--detach", "bare_one")
	defer runtime("delete", "--force", "bare_one")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"enter", "bare_one", "hostname"}, "bare\n"},
		{[]string{"ns", "ps", "bare_one"}, "sleep 1000"},
		{[]string{"ns", "ls", "-t", "uts"}, "bare_one: sleep 1000"},
		{[]string{"ns", "diff", "bare_one", "bare_one"}, "bare_one"},
	} {
		if out, err := exec.Command("kakuri", c.args...).CombinedOutput(); err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%q: %v: %s", c.args, err, out)
		}
	}
}
