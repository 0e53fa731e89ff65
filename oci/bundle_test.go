package oci

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	os.Exit(nstest.Main(m, nstest.Options{Build: []string{"./cmd/kakuri-runtime"}, Parts: map[string]func([]string) int{"criu": playCRIU, "headless": headless, "notify": notify}}))
}

// base is a container on rootfs that runs a line of shell.
func base(line string) *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE"}
	return &specs.Spec{
		Version: specs.Version, Hostname: "bundle",
		Root: &specs.Root{Path: "rootfs"},
		Process: &specs.Process{
			Args: []string{"sh", "-c", line}, Env: []string{"PATH=/bin", "A=1"}, Cwd: "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Mounts: []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "nodev", "noexec"}}},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.UTSNamespace}, {Type: specs.IPCNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.CgroupNamespace},
		}},
	}
}

// bundle writes a bundle.
func bundle(t testing.TB, s *specs.Spec) string {
	t.Helper()
	dir := nstest.Dir(t)
	if err := os.Rename(nstest.RootFS(t), filepath.Join(dir, "rootfs")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, s)
	return dir
}

func write(t testing.TB, dir string, s *specs.Spec) {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// run runs a bundle by the command.
func run(t testing.TB, dir string) (out, stderr string, code int) {
	t.Helper()
	c := exec.Command(nstest.Binary(t, "kakuri-runtime"), "--root", nstest.Dir(t), "run", "--bundle", dir, "test")
	var o, e strings.Builder
	c.Stdout, c.Stderr = &o, &e
	timer := time.AfterFunc(2*time.Minute, func() { c.Process.Kill() })
	defer timer.Stop()
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return o.String(), e.String(), c.ProcessState.ExitCode()
}

// want runs a container that has to end well.
func want(t testing.TB, s *specs.Spec, text string) {
	t.Helper()
	out, stderr, code := run(t, bundle(t, s))
	if out != text || code != 0 {
		t.Errorf("%q: code %d: %q, want %q: %s", s.Process.Args, code, out, text, stderr)
	}
}

// refused wants an error in one line that has all the texts.
func refused(t testing.TB, dir string, texts ...string) {
	t.Helper()
	out, stderr, code := run(t, dir)
	if code != 1 || out != "" || strings.Count(stderr, "\n") != 1 {
		t.Errorf("code %d: %q %q", code, out, stderr)
	}
	for _, text := range texts {
		if !strings.Contains(stderr, text) {
			t.Errorf("%q does not have %q", stderr, text)
		}
	}
}

func facts(t testing.TB) plan.Facts {
	t.Helper()
	f, err := host.Read(host.Needs{Cgroup: true})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "there is no config.json") || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
	if _, err := Load(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "there is no config.json") {
		t.Errorf("%v", err)
	}
	for text, want := range map[string]string{
		"":                       "",
		"{":                      "",
		"[]":                     "",
		`{"ociVersion":"1.3.0"}`: "root",
		`{"ociVersion":"1.3.0","process":{"args":["a"],"cwd":"relative"},"root":{"path":"r"}}`:                                         "process.cwd",
		`{"ociVersion":"1.3.0","process":{"args":["a"],"cwd":"/"},"root":{"path":"r"},"linux":{"namespaces":[{"type":"nonsense"}]}}`:   "linux.namespaces[0]",
		`{"ociVersion":"1.3.0","process":{"args":["a"],"cwd":"/","user":{"uid":4294967296}},"root":{"path":"r"},"linux":{}}`:           "process.user.uid",
		`{"ociVersion":"1.3.0","process":{"args":["a"],"cwd":"/","user":{"uid":-1}},"root":{"path":"r"},"linux":{}}`:                   "process.user.uid",
		`{"ociVersion":"1.3.0","process":{"args":["a"],"cwd":"/"},"root":{"path":"r"},"linux":{"sysctl":{"kernel.core_pattern":"x"}}}`: "sysctl",
	} {
		write(text)
		b, err := Load(dir)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v: want %q", text, err, want)
		}
		if err == nil && b != nil {
			t.Errorf("%s: %+v", text, b.Spec)
		}
	}
	// A relative directory becomes an absolute one.
	write(`{"ociVersion":"1.3.0","process":{"args":["a"],"cwd":"/"},"root":{"path":"r"},"linux":{"namespaces":[{"type":"mount"}]}}`)
	t.Chdir(filepath.Dir(dir))
	b, err := Load(filepath.Base(dir))
	if err != nil || b.Dir != dir {
		t.Fatalf("%v %+v", err, b)
	}
	f := plan.Facts{Arch: abi.Native(runtime.GOARCH), Caps: abi.AllCaps, LastCap: abi.LastCap, AllIDs: true}
	p, err := plan.Compile(b.Spec, f, plan.Options{Bundle: b.Dir, Foreground: true})
	if err != nil || !strings.Contains(p.Text(), filepath.Join(dir, "r")) || !strings.Contains(p.Text(), "config.json root.path") {
		t.Errorf("%v\n%s", err, p.Text())
	}
}

// A user namespace without mappings has one id: root inside is the caller. Another process finds it so.
func TestOwnIDs(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("id -u; id -g; tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	dir := bundle(t, s)
	const want = "0\n0\n 0 0 1\n 0 0 1\n"
	out, code := p.do("run", "-b", dir, "c")
	if code != 0 || !strings.HasSuffix(out, want) || !strings.Contains(out, "level=warning") || !strings.Contains(out, "linux.uidMappings") {
		t.Errorf("code %d: %q", code, out)
	}
	args := s.Process.Args
	s.Process.Args = []string{"sleep", "1000"}
	write(t, dir, s)
	p.good("run", "-d", "-b", dir, "c")
	if out := p.good(append([]string{"exec", "c"}, args...)...); !strings.HasSuffix(out, want) {
		t.Errorf("exec: %q", out)
	}
	p.good("delete", "-f", "c")
	s.Process.User.UID = 7
	write(t, dir, s)
	p.bad("process.user.uid", "run", "-b", dir, "c")
	p.empty()
}

func TestRun(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	s := base("echo $A $(hostname) $(id -u) $$; cat /proc/self/oom_score_adj; grep CapEff /proc/self/status; exit 0")
	adj := 77
	s.Process.OOMScoreAdj = &adj
	want(t, s, "1 bundle 0 1\n77\nCapEff:\t00000000000000e3\n")
	for line, code := range map[string]int{"exit 3": 3, "exit 255": 255, "sh -c 'kill -TERM $$'; exit $?": 143} {
		if _, stderr, got := run(t, bundle(t, base(line))); got != code {
			t.Errorf("%s: code %d: %s", line, got, stderr)
		}
	}
	s = base("id -u; id -g; id -G; umask; pwd; ulimit -n; cat /proc/sys/net/ipv4/ip_default_ttl; touch /x 2>/dev/null || echo ro")
	mask := uint32(0o77)
	s.Process.User = specs.User{UID: 33, GID: 44, AdditionalGids: []uint32{55}, Umask: &mask}
	s.Process.Cwd, s.Root.Readonly = "/srv/web", true
	s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 50, Hard: 60}}
	s.Linux.Sysctl = map[string]string{"net.ipv4.ip_default_ttl": "43"}
	want(t, s, "33\n44\n44 55\n0077\n/srv/web\n50\n43\nro\n")
}

func TestRunErrors(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	for name, c := range map[string]struct {
		change func(s *specs.Spec)
		texts  []string
	}{
		"program": {func(s *specs.Spec) { s.Process.Args = []string{"/no/such"} }, []string{"exec /no/such: no such file or directory\n"}},
		"root":    {func(s *specs.Spec) { s.Root.Path = "none" }, []string{"config.json root.path", "ENOENT", "there is no "}},
		"mount":   {func(s *specs.Spec) { s.Mounts[0].Type, s.Mounts[0].Destination = "nosuchfs", "/x" }, []string{"config.json mounts[0]", "this kernel has no file system nosuchfs"}},
		"source": {func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/no/such", Options: []string{"bind"}})
		}, []string{"config.json mounts[1]", "there is no /no/such on the host"}},
		"terminal":  {func(s *specs.Spec) { s.Process.Terminal = true }, []string{"process.terminal"}},
		"namespace": {func(s *specs.Spec) { s.Linux.Namespaces[2].Path = "/proc/self/ns/net" }, []string{"linux.namespaces[2]"}},
		"cwd":       {func(s *specs.Spec) { s.Process.Cwd = "/etc/passwd" }, []string{"config.json process.cwd", "ENOTDIR"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := base("true")
			c.change(s)
			refused(t, bundle(t, s), c.texts...)
		})
	}
	// Namespaces that are the caller's own are not to be changed.
	s := base("true")
	s.Linux.Namespaces[2].Path = "/proc/self/ns/uts"
	refused(t, bundle(t, s), "linux.namespaces[2].path", "the host's own uts namespace", "take out hostname")
	for key, kind := range map[string]string{"kernel.domainname": "uts", "fs.mqueue.msg_max": "ipc", "net.ipv4.ip_default_ttl": "network"} {
		at := joinOwn(s, kind)
		s.Linux.Sysctl = map[string]string{key: "1"}
		refused(t, bundle(t, s), fmt.Sprintf("linux.namespaces[%d].path", at), "the host's own "+kind+" namespace", "take out linux.sysctl."+key)
	}
	// What is set in another namespace does not count.
	joinOwn(s, "ipc")
	s.Linux.Sysctl = map[string]string{"net.ipv4.ip_default_ttl": "43"}
	p := newPlace(t)
	p.good("run", "-b", bundle(t, s), "c")
	p.empty()
}

// joinOwn has one namespace of s, of a type that has to be there, be the caller's own by a path, and returns which.
func joinOwn(s *specs.Spec, kind string) (at int) {
	s.Hostname, s.Domainname = "", ""
	for i := range s.Linux.Namespaces {
		n := &s.Linux.Namespaces[i]
		n.Path = ""
		if string(n.Type) == kind {
			at, n.Path = i, "/proc/self/ns/"+strings.Replace(kind, "network", "net", 1)
		}
	}
	return at
}

// The library's Run gives codes, too; and ends with its context.
func TestRunInProcess(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	none := func(w string) { t.Errorf("warning: %s", w) }
	state := nstest.Dir(t)
	for line, code := range map[string]int{"exit 5": 5, "exit 0": 0} {
		b, err := Load(bundle(t, base(line)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := (&Runtime{Root: state, Warn: none}).Run(context.Background(), "test", b, RunOptions{}); err != nil || got != code {
			t.Errorf("%s: %v: code %d", line, err, got)
		}
	}
	begins := bundle(t, base("echo >/begun; sleep 100"))
	b, err := Load(begins)
	if err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	for try := 1; ; try++ {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(context.Background())
		go func() {
			defer cancel()
			for ctx.Err() == nil {
				if os.Remove(begins+"/rootfs/begun") == nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		code, err := (&Runtime{Root: state, Warn: none}).Run(ctx, "test", b, RunOptions{})
		cancel()
		// It can have begun before who makes it has heard that it is made: that is then ended, and not the wait for it.
		if errors.Is(err, context.Canceled) && try < 100 {
			continue
		}
		if err != nil || code != 137 {
			t.Errorf("%v: code %d", err, code)
		}
		break
	}
	if _, err := (&Runtime{Root: state, Warn: none}).Run(ctx, "test", b, RunOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// What cannot be had is told.
	s := base("true")
	s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_NO_SUCH")
	dir := bundle(t, s)
	b, err = Load(dir)
	if err != nil {
		return // refused by the validator, which is as good
	}
	told := len(b.Warnings)
	if code, err := (&Runtime{Root: state, Warn: func(string) { told++ }}).Run(context.Background(), "test", b, RunOptions{}); err != nil || code != 0 || told == 0 {
		t.Errorf("%v: code %d, %d warnings", err, code, told)
	}
}

// The master of new terminals is named in /dev whoever mounts the terminals there.
func TestTerminalMasters(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dev := specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"}}
	pts := specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666"}}
	bound := specs.Mount{Destination: "/dev/pts", Type: "bind", Source: "/dev/pts", Options: []string{"rbind"}}
	for _, mounts := range [][]specs.Mount{{dev, pts}, {dev, bound}, {dev}, {bound}} {
		s := base("readlink /dev/ptmx")
		s.Mounts = append(s.Mounts, mounts...)
		want(t, s, "pts/ptmx\n")
		// As a device it is the same: the host's, bound where no node can be made, would open the host's terminals.
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/ptmx", Type: "c", Major: 5, Minor: 2}}
		want(t, s, "pts/ptmx\n")
	}
}

// A signal to the command is the container's, but for that of a terminal which got another size and is not the container's.
func TestRunPassesSignals(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := bundle(t, base("trap 'echo got; exit 6' TERM; trap 'echo used' USR1; trap 'echo resized' WINCH; echo ready; while :; do sleep 0.02; done"))
	c := exec.Command(nstest.Binary(t, "kakuri-runtime"), "--root", nstest.Dir(t), "run", "--bundle", dir, "test")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*time.Minute, func() { c.Process.Kill() })
	defer timer.Stop()
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%v %q", err, line)
	}
	nstest.Until(t, "signals are passed on", func() bool { return nstest.Catches(c.Process.Pid, syscall.SIGTTOU) }) // in the first moments one is the command's own
	c.Process.Signal(syscall.SIGWINCH)
	c.Process.Signal(syscall.SIGUSR1)
	if line, err := lines.ReadString('\n'); err != nil || line != "used\n" {
		t.Errorf("%v %q", err, line)
	}
	c.Process.Signal(syscall.SIGTERM)
	line, _ := lines.ReadString('\n')
	if c.Wait(); line != "got\n" || c.ProcessState.ExitCode() != 6 {
		t.Errorf("%q: %v", line, c.ProcessState)
	}
}

// The runtime that is killed takes its container along.
func TestRunIsKilled(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir, state := bundle(t, base("echo ready; sleep 100")), nstest.Dir(t)
	for i := range 20 {
		c := exec.Command(nstest.Binary(t, "kakuri-runtime"), "--root", state, "run", "--bundle", dir, "test")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		c.Process.Kill()
		c.Wait()
		if out, err := exec.Command(nstest.Binary(t, "kakuri-runtime"), "--root", state, "delete", "--force", "test").CombinedOutput(); err != nil {
			t.Fatalf("delete after %d ms: %v: %s", i, err, out)
		}
	}
}

// A /dev that the bundle does not mount is the image's: its devices and its console
// may be links to the host, and are not followed there (CVE-2026-88264, CVE-2026-88265).
func TestCVE_2026_88264_88265(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	secret := nstest.Dir(t)
	if err := os.WriteFile(filepath.Join(secret, "mark"), []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := bundle(t, base("stat -c '%F %t:%T' /dev/null /dev/zero; cat /dev/random/mark /dev/mark 2>/dev/null; readlink /dev/fd"))
	for name, to := range map[string]string{"null": secret + "/mark", "zero": "/etc/passwd", "console": secret + "/mark", "random": secret, "tty": "../../../../../.." + secret + "/new"} {
		if err := os.Symlink(to, filepath.Join(dir, "rootfs/dev", name)); err != nil {
			t.Fatal(err)
		}
	}
	out, stderr, code := run(t, dir)
	if code != 0 || out != "character special file 1:3\ncharacter special file 1:5\n/proc/self/fd\n" {
		t.Errorf("code %d: %q %s", code, out, stderr)
	}
	list, err := os.ReadDir(secret)
	if err != nil || len(list) != 1 {
		t.Errorf("%v: the host's directory has %v", err, list)
	}
	if data, err := os.ReadFile(filepath.Join(secret, "mark")); err != nil || string(data) != "of the host" {
		t.Errorf("%v: %q", err, data)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "rootfs/etc/passwd")); err != nil || string(data) != nstest.Passwd {
		t.Errorf("%v: a file that a device was a link to has %q", err, data)
	}
}

// A filter that lets through what the program needs, and of the runtime only its last
// calls (rt_sigprocmask, execve, and execveat and fcntl of the stub), does not keep a container with no_new_privs from starting.
func TestStrictFilter(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	s := base("")
	s.Process.Args = []string{"/bin/busybox", "echo", "hello"}
	s.Process.NoNewPrivileges = true
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Action: specs.ActAllow, Names: []string{
		"execve", "execveat", "brk", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "readlinkat", "readlink", "getrandom", "mprotect", "uname", "newfstatat", "fstat",
		"write", "writev", "exit_group", "exit", "getuid", "getpid", "mmap", "munmap", "rt_sigaction", "ioctl", "fcntl", "rt_sigprocmask",
	}}}}
	want(t, s, "hello\n")
}

// TestFilterByStub: with no_new_privs a profile need know no call of the runtime's. What is written for other runtimes has execve, and not the execveat that executes the stub,
// which loads the filter then: it is the container's for all that, whoever its user is, in a process beside the first one, too.
func TestFilterByStub(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	names := []string{
		"execve", "brk", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "readlinkat", "readlink", "getrandom", "mprotect", "uname", "newfstatat", "fstat", "open", "openat",
		"write", "writev", "exit_group", "exit", "getuid", "geteuid", "getpid", "getppid", "getgid", "getegid", "mmap", "munmap", "ioctl", "close", "stat", "lstat", "statx", "getcwd", "poll", "ppoll", "read", "lseek",
		"fork", "vfork", "clone", "wait4", "setuid", "setgid", "nanosleep", "clock_nanosleep", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
	}
	line := []string{"/bin/busybox", "sh", "-c", "kill -0 1; exec grep -e CapEff -e Seccomp: /proc/self/status"}
	const want = "sh: can't kill pid 1: Operation not permitted\nCapEff:\t0000000000000020\nSeccomp:\t2\n"
	kill := []string{"CAP_KILL"}
	filtered := func() *specs.Spec {
		s := base("")
		s.Process.Args, s.Process.NoNewPrivileges = line, true
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"})
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: kill, Permitted: kill, Effective: kill, Inheritable: kill, Ambient: kill}
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Action: specs.ActAllow, Names: names}}}
		return s
	}
	for _, c := range []struct {
		uid    uint32
		userNS bool
	}{{0, false}, {0, true}, {500, false}, {500, true}} {
		s := filtered()
		if s.Process.User.UID = c.uid; c.userNS {
			withUserNS(s)
		}
		p := newPlace(t)
		dir := bundle(t, s)
		if out, code := p.do("run", "--bundle", dir, "c"); out != want || code != 0 {
			t.Errorf("%+v: code %d, %q", c, code, out)
		}
		f, err := os.Create(filepath.Join(nstest.Dir(t), "out"))
		if err != nil {
			t.Fatal(err)
		}
		create := p.command("create", "--bundle", dir, "c")
		create.Stdout, create.Stderr = f, f
		if err := create.Run(); err != nil {
			t.Fatal(err)
		}
		p.good("start", "c")
		p.untilStopped("c")
		if out, err := os.ReadFile(f.Name()); err != nil || string(out) != want {
			t.Errorf("%+v, created: %v, %q", c, err, out)
		}
		f.Close()
		p.good("delete", "c")
		s.Process.Args = []string{"sleep", "1000"}
		write(t, dir, s)
		p.good("run", "-d", "--bundle", dir, "c")
		if out, code := p.do(append([]string{"exec", "c"}, line...)...); out != want || code != 0 {
			t.Errorf("%+v, exec: code %d, %q", c, code, out)
		}
		p.good("delete", "-f", "c")
		p.empty()
	}
	// Where the stub cannot load it, what is missing is told.
	s := filtered()
	s.Process.NoNewPrivileges = false
	refused(t, bundle(t, s), "linux.seccomp.syscalls", "has to be allowed: execveat, fcntl", "process.noNewPrivileges")
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"fcntl", "rt_sigprocmask", "read"}, Action: specs.ActErrno}}}
	dir := bundle(t, s)
	refused(t, dir, "linux.seccomp.syscalls", "has to be allowed: fcntl, rt_sigprocmask", "process.noNewPrivileges")
	p := newPlace(t)
	p.bad("has to be allowed: fcntl, read, rt_sigprocmask", "create", "--bundle", dir, "c")
	s.Linux.Seccomp.Syscalls[0].Names = []string{"capset"}
	p.bad("has to allow capset; with process.noNewPrivileges", "create", "--bundle", bundle(t, s), "c")
	p.empty()
}

// What hands do, and what they do not.
func TestHands(t *testing.T) {
	if err := (Hands{}).Do(context.Background(), &plan.MakeCgroup{Path: "x"}, 1); err == nil || !strings.Contains(err.Error(), "make cgroup") {
		t.Errorf("%v", err)
	}
}

// newuidmap and newgidmap give a user's container the user's ranges, and their refusal is
// told with what helps.
func TestHelperIDMap(t *testing.T) {
	u := nstest.User(t)
	for _, f := range []string{"/usr/bin/newuidmap", "/usr/bin/newgidmap"} {
		if _, err := os.Stat(f); err != nil {
			t.Skipf("needs %s (Debian: package uidmap)", f)
		}
	}
	nstest.Inside(t, nstest.Place{User: u}, func(t *testing.T) {
		nstest.NoLeaks(t)
		f := facts(t)
		if len(f.SubUIDs) == 0 || len(f.SubGIDs) == 0 {
			t.Skipf("needs a line for %s in /etc/subuid and /etc/subgid, which test.sh writes", u.Name)
		}
		good := []plan.IDMapping{{Outside: uint32(u.UID), Size: 1}, {Inside: 1, Outside: f.SubUIDs[0].Start, Size: f.SubUIDs[0].Size}}
		goodGroups := []plan.IDMapping{{Outside: uint32(u.GID), Size: 1}, {Inside: 1, Outside: f.SubGIDs[0].Start, Size: f.SubGIDs[0].Size}}
		maps := func(uids, gids []plan.IDMapping) []plan.Step {
			container := func(op plan.Op) plan.Step { return plan.Step{Op: op, Side: plan.Container} }
			return []plan.Step{
				{Op: &plan.Clone{New: []abi.Namespace{abi.NSUser}}},
				{Op: &plan.HelperIDMap{Program: f.NewUIDMap, Map: uids}}, {Op: &plan.HelperIDMap{Group: true, Program: f.NewGIDMap, Map: gids}},
				{Op: &plan.Sync{What: "id maps written"}},
				container(&plan.Setgroups{Groups: []uint32{5}}), container(&plan.Setresgid{GID: 7}), container(&plan.Setresuid{UID: 9}), container(&plan.Sigmask{}),
				container(&plan.Exec{Args: []string{"/bin/sh", "-c", "test $(id -u) = 9 && test $(id -g) = 7 && exit 21"}}),
			}
		}
		p, err := launch.Run(context.Background(), plan.Plan{Steps: maps(good, goodGroups)}, launch.Options{Hands: Hands{}})
		if err != nil {
			t.Fatal(err)
		}
		if st, err := p.Wait(); err != nil || st.ExitStatus() != 21 {
			t.Errorf("%v: code %d", err, st.ExitStatus())
		}
		stolen := []plan.IDMapping{{Outside: 0, Size: 1}}
		_, err = launch.Run(context.Background(), plan.Plan{Steps: maps(stolen, goodGroups)}, launch.Options{Hands: Hands{}})
		var e *launch.Error
		if !errors.As(err, &e) || e.N != 2 || !strings.Contains(err.Error(), "check the caller's lines in /etc/subuid") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
		steps := maps(good, goodGroups)
		steps[1].Op.(*plan.HelperIDMap).Program = "/no/such/newuidmap"
		if _, err = launch.Run(context.Background(), plan.Plan{Steps: steps}, launch.Options{Hands: Hands{}}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v", err)
		}
		// It is root's by its file's mode, and gets nothing of the caller's.
		t.Setenv("OF_THE_CALLER", "1")
		tell := filepath.Join(t.TempDir(), "tell")
		if err := os.WriteFile(tell, []byte("#!/bin/sh\n/usr/bin/env\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		steps[1].Op.(*plan.HelperIDMap).Program = tell
		if _, err = launch.Run(context.Background(), plan.Plan{Steps: steps}, launch.Options{Hands: Hands{}}); err == nil || !strings.Contains(err.Error(), "PWD=") || strings.Contains(err.Error(), "OF_THE_CALLER") {
			t.Errorf("%v", err)
		}
	})
}

// Long paths and names are errors, not faults of memory (CVE-2021-43784).
func TestCVE_2021_43784(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	long := "/" + strings.Repeat("x/", 64<<10)
	for name, change := range map[string]func(s *specs.Spec){
		"namespace":   func(s *specs.Spec) { s.Linux.Namespaces[4].Path = long },
		"root":        func(s *specs.Spec) { s.Root.Path = long },
		"destination": func(s *specs.Spec) { s.Mounts[0].Destination = long },
		"source": func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: long, Options: []string{"bind"}})
		},
		"host name": func(s *specs.Spec) { s.Hostname = long },
		"cwd":       func(s *specs.Spec) { s.Process.Cwd = long },
		"mask":      func(s *specs.Spec) { s.Linux.MaskedPaths = []string{long} },
		"program":   func(s *specs.Spec) { s.Process.Args = []string{long} },
		"many mounts": func(s *specs.Spec) {
			for i := range 3000 {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: fmt.Sprintf("/none%d/%s", i, strings.Repeat("a/", 30)), Type: "tmpfs", Source: "t", Options: []string{"size=much"}})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := base("true")
			change(s)
			out, stderr, code := run(t, bundle(t, s))
			if code != 1 || out != "" || strings.Contains(stderr, "goroutine") || strings.Contains(stderr, "panic") {
				t.Errorf("code %d: %q %.300q", code, out, stderr)
			}
		})
	}
}

// A device's place that is taken is an error, as runtime-spec wants it, and what is there stays; where the very device is already, it is made anew with its mode.
func TestDeviceTaken(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	device := func(kind string, major, minor int64) *specs.Spec {
		s := base(`stat -c "%F %a %t:%T" /data/x`)
		mode := os.FileMode(0o640)
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/data/x", Type: kind, Major: major, Minor: minor, FileMode: &mode}}
		return s
	}
	dir := bundle(t, device("c", 1, 3))
	place := filepath.Join(dir, "rootfs/data/x")
	if err := os.Mkdir(filepath.Dir(place), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		put  func() error
		s    *specs.Spec
		want string // nothing where it is refused
	}{
		"file":        {func() error { return os.WriteFile(place, []byte("x"), 0o600) }, device("c", 1, 3), ""},
		"link":        {func() error { return os.Symlink("/etc/passwd", place) }, device("c", 1, 3), ""},
		"directory":   {func() error { return os.Mkdir(place, 0o700) }, device("p", 0, 0), ""},
		"other major": {func() error { return unix.Mknod(place, unix.S_IFCHR|0o600, int(unix.Mkdev(2, 3))) }, device("c", 1, 3), ""},
		"other minor": {func() error { return unix.Mknod(place, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) }, device("c", 1, 3), ""},
		"other type":  {func() error { return unix.Mknod(place, unix.S_IFBLK|0o600, int(unix.Mkdev(1, 3))) }, device("c", 1, 3), ""},
		"same":        {func() error { return unix.Mknod(place, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) }, device("c", 1, 3), "character special file 640 1:3\n"},
		"same FIFO":   {func() error { return unix.Mkfifo(place, 0o600) }, device("p", 0, 0), "fifo 640 0:0\n"},
		"free":        {func() error { return nil }, device("c", 1, 5), "character special file 640 1:5\n"},
	} {
		if err := c.put(); err != nil {
			t.Fatal(err)
		}
		var before, after unix.Stat_t
		unix.Lstat(place, &before)
		write(t, dir, c.s)
		if out, stderr, code := run(t, dir); c.want != "" && (code != 0 || out != c.want) {
			t.Errorf("%s: code %d, %q, %q, want %q", name, code, out, stderr, c.want)
		} else if c.want == "" && (code != 1 || !strings.Contains(stderr, "linux.devices[0]") || !strings.Contains(stderr, "EEXIST") || !strings.Contains(stderr, "something else than this device is there")) {
			t.Errorf("%s: code %d, %q, %q", name, code, out, stderr)
		}
		if err := unix.Lstat(place, &after); c.want == "" && (err != nil || before.Ino != after.Ino || before.Mode != after.Mode) {
			t.Errorf("%s: %v, what was there is not", name, err)
		}
		if err := os.Remove(place); err != nil {
			t.Fatal(err)
		}
	}
}
