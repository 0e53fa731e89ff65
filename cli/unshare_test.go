package cli

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// What a program sees that kakuri unshare starts is what it sees when util-linux's
// unshare does.
func TestUnshareOracle(t *testing.T) {
	dir := place(t)
	for _, c := range []struct {
		options string
		who     string // root, user or both
	}{
		{"", "both"},
		{"-U", "both"},
		{"-Ur", "both"},
		{"-Uc", "both"},
		{"-r", "both"},
		{"--user --map-user=7 --map-group=8", "both"},
		{"--map-user=daemon --map-group=daemon", "both"},
		{"-U --map-users=1410065408,0,100 --map-groups=1410065408,0,100", "user"},
		{"--map-auto", "user"},
		{"--map-root-user --map-auto", "user"},
		{"--map-current-user --map-auto", "user"},
		{"-Ur --keep-caps", "both"},
		{"-Uc --keep-caps", "both"},
		{"-U --setgroups=deny", "both"},
		{"-U --setgroups=allow", "root"},
		{"-f", "both"},
		{"-pf", "root"},
		{"--fork --pid --mount-proc", "root"},
		{"-rpf --mount-proc", "both"},
		{"-m", "root"},
		{"-m --propagation shared", "root"},
		{"-m --propagation slave", "root"},
		{"-m --propagation private", "root"},
		{"-m --propagation unchanged", "root"},
		{"-rm", "both"},
		{"-u", "root"},
		{"-i", "root"},
		{"-n", "root"},
		{"-C", "root"},
		{"-T", "root"},
		{"-T --boottime 360000 --monotonic 36000", "root"},
		{"-T -f --boottime 360000", "root"},
		{"-rT --monotonic 36000", "both"},
		{"-rmuinpCTf", "both"},
		{"--mount --uts --ipc --net --pid --user --cgroup --time --map-root-user --fork", "both"},
		{"-w /usr/lib", "both"},
		{"-r -w /usr/lib", "both"},
		{"-S 5 -G 6", "root"},
		{"--setuid 5", "root"},
		{"--setgid 5", "root"},
		{"-pf --kill-child", "root"},
		{"-rpf --kill-child=TERM", "both"},
	} {
		for _, who := range []string{"root", "user"} {
			if c.who != "both" && c.who != who {
				continue
			}
			t.Run(strings.ReplaceAll(who+" "+c.options, "/", "|"), func(t *testing.T) {
				o := oracle{tool: "unshare", verb: "unshare", user: who == "user", dir: "/"}
				theirs, ours := o.both(t, append(strings.Fields(c.options), filepath.Join(dir, "bin", "probe"), "-x", "a b")...)
				same(t, theirs, ours)
				if theirs.code != 0 || !strings.Contains(theirs.out, "namespace uts") {
					t.Errorf("nothing to compare: code %d\n%s", theirs.code, theirs.errs)
				}
			})
		}
	}
}

// Exit codes are the program's, or say why there is none.
func TestUnshareExit(t *testing.T) {
	place(t)
	root := nstest.RootFS(t)
	for _, line := range []string{
		"true", "false", "-m sh -c 'exit 42'", "-fp sh -c 'exit 42'", "-f sh -c 'kill -HUP $$'", "-f sh -c 'kill -TERM $$'", "sh -c 'kill -9 $$'",
		"no-such-program", "-m /no/such/program", "/etc/passwd", "-f /etc/passwd", "/etc",
		"-R " + root + " ls /", "-R " + root + " -w /bin pwd", "--root=" + root + " --wd=/srv/web pwd", "-R " + root + " -m --mount-proc sh -c 'ls /proc/self/ns'",
		"-r -R " + root + " id", "-R " + root + " -fp --mount-proc ps",
		"-p sh -c 'sh -c \"echo \\$\\$\"'", "-u sh -c 'hostname elsewhere; hostname'", "-rn sh -c 'tail -n +3 /proc/net/dev | cut -d: -f1'",
		"-w /no/such true", "-R /no/such true", "--setgroups=allow -r true", "-r -S 5 true", "--map-user=nobody-there true",
	} {
		t.Run(strings.ReplaceAll(line, "/", "|"), func(t *testing.T) {
			words, err := exec.Command("sh", "-c", "printf '%s\\n' "+line).Output()
			if err != nil {
				t.Fatal(err)
			}
			args := strings.Split(strings.TrimSuffix(string(words), "\n"), "\n")
			theirs, ours := oracle{tool: "unshare", verb: "unshare", dir: "/"}.both(t, args...)
			// A refusal of its own is 1 in util-linux's, 125 in kakuri.
			if theirs.code == 1 && theirs.errs != "" && ours.code == 125 && strings.HasPrefix(ours.errs, "kakuri: ") {
				ours.code = 1
			}
			same(t, theirs, ours)
		})
	}
	if host, err := os.Hostname(); err != nil || host == "elsewhere" {
		t.Errorf("the host's name is %q, %v", host, err)
	}
}

// With =FILE a namespace stays, as a bind mount that nsenter(1) takes, when its last
// process has ended. (Version 2.38 of unshare(1) itself makes some of them by chance only.)
func TestUnsharePersistent(t *testing.T) {
	place(t)
	dir := nstest.Dir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	for _, kind := range []string{"net", "uts", "ipc", "mount", "user", "cgroup", "pid", "time"} {
		t.Run(kind, func(t *testing.T) {
			file, link := filepath.Join(dir, kind), "/proc/self/ns/"+procName(kind)
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			line := []string{"kakuri", "unshare", "--" + kind + "=" + file, "--fork", "readlink", link}
			inside, err := exec.Command(line[0], line[1:]...).CombinedOutput()
			for cpu := 0; err != nil && kind == "mount" && cpu < runtime.NumCPU(); cpu++ {
				// A kernel that numbers namespaces per processor takes those of a lower one for
				// older ones, and refuses them: ELOOP.
				inside, err = exec.Command("taskset", append([]string{"-c", strconv.Itoa(cpu)}, line...)...).CombinedOutput()
			}
			if err != nil {
				t.Fatalf("%v: %s", err, inside)
			}
			if mine, err := os.Readlink(link); err != nil || mine+"\n" == string(inside) {
				t.Errorf("%s is shared: %v", inside, err)
			}
			var st unix.Stat_t
			if err := unix.Stat(file, &st); err != nil || fmt.Sprintf("%s:[%d]\n", procName(kind), st.Ino) != string(inside) {
				t.Errorf("%s is inode %d, %v; the program was in %s", file, st.Ino, err, inside)
			}
			if kind != "pid" { // without its process 1 it takes no other
				entered, err := exec.Command("nsenter", "--preserve-credentials", "--"+kind+"="+file, "readlink", link).CombinedOutput()
				if err != nil || string(entered) != string(inside) {
					t.Errorf("nsenter is in %s, %v; the program was in %s", entered, err, inside)
				}
			}
			if err := unix.Unmount(file, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
}

// procName is a namespace's name in /proc/PID/ns.
func procName(flag string) string {
	if flag == "mount" {
		return "mnt"
	}
	return flag
}

// running starts a command that prints the pid of a program below it, and goes on.
func running(t *testing.T, c *exec.Cmd) (pid int) {
	t.Helper()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
	return pid
}

// ended reports whether a process is gone, or a zombie.
func ended(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(data), ") Z ")
}

const sleeper = "echo $$; exec sleep 1000"

// With --kill-child the program ends when unshare is killed, without it stays.
func TestUnshareKillChild(t *testing.T) {
	place(t)
	for _, tool := range [][]string{{"unshare"}, {"kakuri", "unshare"}} {
		c := exec.Command(tool[0], append(tool[1:], "--fork", "--kill-child", "sh", "-c", sleeper)...)
		pid := running(t, c)
		c.Process.Kill()
		nstest.Until(t, tool[0]+" --kill-child: the program's end", func() bool { return ended(pid) })

		c = exec.Command(tool[0], append(tool[1:], "--fork", "sh", "-c", sleeper)...)
		pid = running(t, c)
		c.Process.Kill()
		c.Wait()
		if ended(pid) {
			t.Errorf("%s: the program ended with it", tool[0])
		}
	}
}

// Between unshare and a forked program, signals stay with the one that gets them.
func TestUnshareSignals(t *testing.T) {
	place(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, tool := range [][]string{{"unshare"}, {"kakuri", "unshare"}} {
			c := exec.Command(tool[0], append(tool[1:], "--fork", "sh", "-c", sleeper)...)
			pid := running(t, c)
			c.Process.Signal(sig)
			syscall.Kill(pid, syscall.SIGUSR1)
			c.Wait()
			if got := shellCode(c.ProcessState); got != 128+int(syscall.SIGUSR1) {
				t.Errorf("%s: %v to it ends it with %d", tool[0], sig, got)
			}
		}
		// kakuri unshare --forward-signals passes them on, once the program runs for a while.
		c := exec.Command("kakuri", "unshare", "--fork", "--forward-signals", "sh", "-c", "trap 'exit 7' "+strconv.Itoa(int(sig))+"; sleep 0.1; echo $$; while :; do sleep 0.01; done")
		running(t, c)
		c.Process.Signal(sig)
		c.Wait()
		if got := shellCode(c.ProcessState); got != 7 {
			t.Errorf("forwarded %v: exit code %d", sig, got)
		}
	}
}
