package cli

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// A chroot, in which the kernel makes no user namespace, is named where one was asked for.
func TestUnshareInChroot(t *testing.T) {
	place(t)
	root := t.TempDir()
	if err := unix.Mount("/", root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(root, unix.MNT_DETACH)
	cmd := exec.Command("kakuri", "unshare", "-r", "true")
	cmd.SysProcAttr, cmd.Dir = &syscall.SysProcAttr{Chroot: root}, "/"
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "EPERM") || !strings.Contains(string(out), "this process is in a chroot") {
		t.Errorf("%v: %s", err, out)
	}
}

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
		{"-r --map-user=5 --map-group=7", "both"},
		{"--map-user=5 -r", "both"},
		{"-c -r", "both"},
		{"-r -c", "both"},
		{"--map-root", "both"},
		{"--setgr deny -U", "both"},
		{"-rS0", "both"},
		{"-rw/usr", "both"},
		{"-r -S 0", "both"},
		{"--keep-caps", "both"},
		{"-m --prop=unchanged --mount-proc", "root"},
		{"-pf --prop shared --mount-proc", "root"},
	} {
		for _, who := range []string{"root", "user"} {
			if c.who != "both" && c.who != who {
				continue
			}
			t.Run(strings.ReplaceAll(who+" "+c.options, "/", "|"), func(t *testing.T) {
				o := oracle{tool: "unshare", verb: "unshare", user: who == "user", dir: "/"}
				theirs, ours := o.both(t, append(strings.Fields(c.options), filepath.Join(dir, "bin", "probe"), "-x", "a b")...)
				if strings.Contains(theirs.errs, "failed to create new OS thread") {
					// Older kernels let no process have a thread whose children go to another time namespace. Theirs is one; ours is in it.
					if ours.code != 0 || !strings.Contains(ours.out, "namespace time") {
						t.Errorf("code %d: %s%s", ours.code, ours.out, ours.errs)
					}
					return
				}
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
		"--bad", "--fork=x true", "-w", "--propagation=bad -m true", "--mount-proc=/no/such true", "--kill-child=NOSUCH true", "--boottime 5 true", "-T --boottime x true",
		"-- true", "-f -- sh -c 'exit 3'", "-fm -- false", "--map-users=0:1 true", "-S x true", "-r -G 0 true", "--mount-proc= true", "''", "sh -c 'kill -SEGV $$'", "sh -c 'kill -USR1 $$'",
		"-f sh -c 'kill -ABRT $$'", "-f sh -c 'kill -34 $$'", "sh -c 'kill -TRAP $$'", "sh -c 'exit 300'", "--pid=/etc/passwd true", "-p true",
	} {
		t.Run(strings.ReplaceAll(line, "/", "|"), func(t *testing.T) {
			words, err := exec.Command("sh", "-c", "printf '%s\\n' "+line).Output()
			if err != nil {
				t.Fatal(err)
			}
			args := strings.Split(strings.TrimSuffix(string(words), "\n"), "\n")
			theirs, ours := oracle{tool: "unshare", verb: "unshare", dir: "/"}.both(t, args...)
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

// caught is a program that says its pid once it has traps for signals, and whose exit code tells
// which of them it got.
const caught = `for s in 1 2 3 10 12 14 15; do trap "exit $s" $s; done; echo $$; while :; do sleep 0.01; done`

// Without --fork, and in enter, who signals kakuri means the program: it gets what it handles, and
// dies of what it does not, as if it were the process that was started.
func TestInPlaceSignals(t *testing.T) {
	place(t)
	target := strconv.Itoa(oracle{dir: "/"}.target(t, "-u", "-f", "sh", "-c", "echo up; exec sleep 1000"))
	for _, tool := range [][]string{{"unshare", "-u"}, {"kakuri", "unshare", "-u"}, {"kakuri", "enter", "-t", target, "-u"}, {"kakuri", "enter", "-t", target, "-p", "-u"}} {
		name := strings.Join(tool[:2], " ")
		for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGTERM} {
			c := exec.Command(tool[0], append(tool[1:], "sh", "-c", caught)...)
			running(t, c)
			// Until the program runs for a moment, kakuri itself is ended by what it was not yet
			// told to pass on; the program goes with it.
			nstest.Until(t, "signals are passed on", func() bool { return tool[0] != "kakuri" || attends(c.Process.Pid) })
			c.Process.Signal(sig)
			c.Wait()
			if got := c.ProcessState.ExitCode(); got != int(sig) {
				t.Errorf("%s: the program that catches %v ends with %v", name, sig, c.ProcessState)
			}
			c = exec.Command(tool[0], append(tool[1:], "sh", "-c", sleeper)...)
			pid := running(t, c)
			nstest.Until(t, "signals are passed on", func() bool { return tool[0] != "kakuri" || attends(c.Process.Pid) })
			c.Process.Signal(sig)
			c.Wait()
			if st := c.ProcessState.Sys().(syscall.WaitStatus); !st.Signaled() || st.Signal() != sig {
				t.Errorf("%s: %v ends it with %v", name, sig, c.ProcessState)
			}
			if !ended(pid) {
				t.Errorf("%s: after %v, the program goes on", name, sig)
			}
		}
		c := exec.Command(tool[0], append(tool[1:], "sh", "-c", sleeper)...)
		pid := running(t, c)
		c.Process.Kill()
		c.Wait()
		nstest.Until(t, name+": the end of the program of a killed one", func() bool { return ended(pid) })
	}
}

// attends reports whether kakuri has asked for the signals that it passes on: SIGTTOU, which the Go
// runtime does not handle of itself, is the last of them.
func attends(pid int) bool { return nstest.Catches(pid, syscall.SIGTTOU) }

// When the program stops, so does kakuri in its place, and both go on together.
func TestInPlaceStop(t *testing.T) {
	place(t)
	for _, tool := range [][]string{{"unshare", "-u"}, {"kakuri", "unshare", "-u"}} {
		c := exec.Command(tool[0], append(tool[1:], "sh", "-c", "echo $$; kill -STOP $$; exit 6")...)
		pid := running(t, c)
		nstest.Until(t, tool[0]+": both stop", func() bool { return stopped(c.Process.Pid) && stopped(pid) })
		c.Process.Signal(syscall.SIGCONT)
		c.Wait()
		if got := c.ProcessState.ExitCode(); got != 6 {
			t.Errorf("%s: %v", tool[0], c.ProcessState)
		}
	}
}

func stopped(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(data), ") T ")
}

// What the caller ignores, as nohup(1) has it, and blocks, the program ignores and blocks.
func TestInheritedSignals(t *testing.T) {
	place(t)
	for _, line := range []string{"trap '' HUP INT; exec %s grep SigIgn /proc/self/status", "exec %s grep SigBlk /proc/self/status", "trap '' HUP; exec %s -f grep SigIgn /proc/self/status"} {
		var got [2]string
		for i, tool := range []string{"unshare -u", "kakuri unshare -u"} {
			out, err := exec.Command("sh", "-c", fmt.Sprintf(line, tool)).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			got[i] = string(out)
		}
		if got[0] != got[1] {
			t.Errorf("%s: %s, want %s", line, got[1], got[0])
		}
	}
}

// A shell that nobody named is a login shell, by its name.
func TestLoginShell(t *testing.T) {
	place(t)
	for _, tool := range []string{"unshare", "kakuri unshare"} {
		c := exec.Command("sh", "-c", "echo 'cat /proc/$$/cmdline' | "+tool+" -u")
		c.Env = append(os.Environ(), "SHELL=/bin/sh", "HOME=/nowhere")
		out, err := c.Output()
		if string(out) != "-sh\x00" || err != nil {
			t.Errorf("%s: %q, %v", tool, out, err)
		}
	}
}

// What version 2.38 of unshare(1) lacks.
func TestUnshareNewer(t *testing.T) {
	place(t)
	show := []string{"sh", "-c", "tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map; cat /proc/self/setgroups; id -u; id -g"}
	for _, c := range []struct{ options, who, want string }{
		{"--owner=5:6 --map-users=0:0:1000 --map-groups=0:0:1000", "root", " 0 0 1000\n 0 0 1000\nallow\n5\n6\n"},
		{"--owner=5:6 -r", "root", " 0 0 1\n 0 0 1\nallow\n65534\n65534\n"},
		{"--owner=5:6 -pf --mount-proc", "root", "allow\n65534\n65534\n"},
		{"--map-users=all --map-groups=all", "root", " 0 0 4294967295\n 0 0 4294967295\nallow\n0\n0\n"},
		{"-r --map-users=0:100:10 --map-users=20:200:10 --map-groups=0:100:10", "root", " 0 0 1\n 1 100 9\n 20 200 10\n 0 0 1\n 1 100 9\nallow\n0\n0\n"},
	} {
		got := oracle{dir: "/", user: c.who == "user"}.run(t, append(append([]string{"kakuri", "unshare"}, strings.Fields(c.options)...), show...)...)
		if (got != outcome{c.want, "", 0}) {
			t.Errorf("%s: %+v", c.options, got)
		}
	}
	o := oracle{dir: "/"}
	if data, err := os.ReadFile("/proc/filesystems"); err != nil || !strings.Contains(string(data), "binfmt_misc") {
		return // the rest is about that
	}
	got := o.run(t, "kakuri", "unshare", "-rpf", "--load-interp=:hand:E::hand::/bin/cat:", "cat", "/proc/sys/fs/binfmt_misc/hand")
	if got.code != 0 || !strings.Contains(got.out, "interpreter /bin/cat\n") {
		t.Errorf("%+v", got)
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
		// kakuri unshare --forward-signals passes them on.
		c := exec.Command("kakuri", "unshare", "--forward-signals", "sh", "-c", "trap 'exit 7' "+strconv.Itoa(int(sig))+"; echo $$; while :; do sleep 0.01; done")
		running(t, c)
		c.Process.Signal(sig)
		c.Wait()
		if got := shellCode(c.ProcessState); got != 7 {
			t.Errorf("forwarded %v: exit code %d", sig, got)
		}
	}
}
