package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Lines that a program on a terminal writes reach the caller as they were: its own terminal, when there is one, turns LF into CR LF.
func TestTerminalLines(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("echo one; echo two")
	s.Process.Terminal = true
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666"}})
	dir := bundle(t, s)
	p.bad("process.terminal needs a terminal", "run", "--bundle", dir, "x")
	p.stdin = pty(t)
	if out := p.good("run", "--bundle", dir, "x"); out != "one\ntwo\n" {
		t.Errorf("%q", out)
	}
}

// pty is a terminal that is nobody's: its slave side.
func pty(t testing.TB) *os.File {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.IoctlRetInt(int(master.Fd()), unix.TIOCGPTPEER)
	if err != nil {
		t.Fatal(err)
	}
	slave := os.NewFile(uintptr(fd), "pty")
	t.Cleanup(func() { slave.Close() })
	return slave
}

// Without a pid namespace of its own the end of a container's first process is not that of the others: KILL is for all of them, also when it
// is gone. A signal 0 asks, and --all makes it no error that nobody is there.
func TestKillWithoutPIDNamespace(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := limited("sleep 100 & exec sleep 100", 10)
	s.Linux.Namespaces = s.Linux.Namespaces[1:]
	p.good("run", "-d", "--bundle", bundle(t, s), "x")
	group := pidsDir(t)
	processes := func() string {
		data, err := os.ReadFile(group + "/cgroup.procs")
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	nstest.Until(t, "there are two processes", func() bool { return strings.Count(processes(), "\n") == 2 })
	p.good("kill", "x", "0")
	if err := unix.Kill(p.state("x").Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.untilStopped("x")
	if strings.Count(processes(), "\n") != 1 {
		t.Errorf("processes: %q", processes())
	}
	p.bad("container not running", "kill", "x", "0")
	p.good("kill", "x", "KILL")
	nstest.Until(t, "no process is left", func() bool { return processes() == "" })
	p.bad("container not running", "kill", "x", "KILL")
	p.good("kill", "--all", "x", "KILL")
	p.good("delete", "x")
	p.empty()
	removeParents(t)
}

// A program that is not there is told in the words by which engines choose the exit code 127.
func TestNoProgram(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("")
	const hint = ", or it is there, and the interpreter that it names is not" // which create finds out
	for program, want := range map[string][2]string{"/no/such": {"exec /no/such: no such file or directory"}, "nosuch": {`unable to start container process: exec: "nosuch": executable file not found in $PATH`, hint}} {
		s.Process.Args = []string{program}
		dir := bundle(t, s)
		for verb, want := range map[string]string{"run": want[0] + want[1] + "\n", "create": want[0] + "\n"} {
			if out, code := p.do(verb, "--bundle", dir, "x"); code != 1 || out != want {
				t.Errorf("%s %s: code %d: %q", verb, program, code, out)
			}
		}
		write(t, dir, base("exec sleep 100"))
		p.good("run", "-d", "--bundle", dir, "x")
		if out, code := p.do("exec", "x", program); code != 255 || out != "exec failed: "+want[0]+want[1]+"\n" {
			t.Errorf("exec %s: code %d: %q", program, code, out)
		}
		p.good("delete", "-f", "x")
	}
	p.empty()
}

// A program in a format that the kernel does not know has runc's words, and the exit code of its first process.
func TestNotExecutable(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("exec sleep 100")
	dir := bundle(t, s)
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte("no program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	bind := specs.Mount{Destination: "/text", Type: "bind", Source: filepath.Join(dir, "text"), Options: []string{"bind"}}
	s.Mounts = append(s.Mounts, bind)
	write(t, dir, s)
	p.good("run", "-d", "--bundle", dir, "x")
	if out, code := p.do("exec", "x", "/text"); code != 255 || out != "exec failed: exec /text: exec format error\n" {
		t.Errorf("exec: code %d: %q", code, out)
	}
	p.good("delete", "-f", "x")
	s.Process.Args = []string{"/text"}
	write(t, dir, s)
	if out, code := p.do("run", "--bundle", dir, "x"); code != 255 || out != "exec /text: exec format error\n" {
		t.Errorf("run: code %d: %q", code, out)
	}
	p.empty()
}

// Words that other programs look for in the output.
func TestCallersWords(t *testing.T) {
	nstest.Root(t)
	p := newPlace(t)
	for want, args := range map[string][]string{
		"runc version 1.": {"--version"},
		"NAME:\n   kakuri-runtime in the place of runc - Open Container Initiative runtime\n": {"--help"},
		"NAME:\n   kakuri-runtime create - ":                                                  {"create", "--help"},
		"NAME:\n   kakuri-runtime kill - ":                                                    {"help", "kill"},
	} {
		if out := p.good(args...); !strings.Contains(out, want) {
			t.Errorf("%v: %q, want %q", args, out, want)
		}
	}
	p.bad("no such file or directory", "list")
	dir := bundle(t, base("exec sleep 100"))
	p.good("run", "x", "-d", "--bundle", dir)
	if out := p.good("exec", "x", "sh", "-c", "echo $0 $1", "-d", "--bundle"); out != "-d --bundle\n" {
		t.Errorf("%q", out)
	}
	p.good("delete", "x", "--force")
	s := base("true")
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}, Syscalls: []specs.LinuxSyscall{{Names: []string{"mount"}, Action: specs.ActErrno}}}
	dir = bundle(t, s)
	for _, args := range [][]string{{"--debug"}, {"--debug", "--log", filepath.Join(dir, "log")}} {
		out := p.good(append(args, "run", "--bundle", dir, "x")...)
		if len(args) > 1 {
			if out != "" {
				t.Errorf("%q", out)
			}
			data, err := os.ReadFile(args[2])
			if err != nil {
				t.Fatal(err)
			}
			out = string(data)
		}
		for _, want := range []string{"level=debug", "nsexec container setup", "child process in init()", "init: closing the pipe to signal completion", "\"seccomp filter flags: 2\""} {
			if !strings.Contains(out, want) {
				t.Errorf("%v: %q has no %q", args, out, want)
			}
		}
	}
}
