package oci

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// counting is a container that counts in a file of its root, as fast as it is looked at: a restored one goes on from where it was.
func counting() *specs.Spec {
	s := base("i=0; while :; do i=$((i+1)); echo $i >/n.new; mv /n.new /n; sleep 0.02; done")
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"}})
	return s
}

// count reads how far a counting container is, 0 before its first number.
func count(dir string) int {
	data, _ := os.ReadFile(filepath.Join(dir, "rootfs/n"))
	n, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return n
}

// goesOn waits until the container counts on from n at least, and fails when it has begun anew.
func goesOn(t *testing.T, dir string, n int) {
	t.Helper()
	os.Remove(filepath.Join(dir, "rootfs/n"))
	nstest.Until(t, "the container counts", func() bool { return count(dir) > 0 })
	if got := count(dir); got < n {
		t.Fatalf("it counts %d after %d: it has not been restored", got, n)
	}
}

// counted starts a counting container, x, and waits until it is past a number that a new one would not begin with.
func (p place) counted(dir string) int {
	p.t.Helper()
	p.good("run", "-d", "--bundle", dir, "x")
	nstest.Until(p.t, "x counts", func() bool { return count(dir) > 3 })
	return count(dir)
}

// checkpoint makes a checkpoint, where other tests run beside this one: of each hierarchy of version 1 that is not mounted CRIU
// makes a mount for a moment, and the kernel refuses a second one while the first goes away.
func (p place) checkpoint(args ...string) {
	p.t.Helper()
	nstest.Until(p.t, "a checkpoint", func() bool {
		out, code := p.do(append([]string{"checkpoint"}, args...)...)
		if code != 0 && !strings.Contains(out, "Unable to create the cgroup") {
			p.t.Fatalf("checkpoint %v: code %d: %s", args, code, out)
		}
		return code == 0
	})
}

// TestCRIULive checkpoints and restores containers with the criu there is.
func TestCRIULive(t *testing.T) {
	nstest.Root(t)
	// CRIU tries what it needs with a connection to itself.
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("criu", "check").CombinedOutput(); err != nil {
		t.Skipf("needs a criu that works with this kernel (Debian: package criu): criu check: %v: %s", err, bytes.TrimSpace(out))
	}
	for _, test := range []struct {
		name string
		do   func(t *testing.T, p place, image string)
	}{
		{"twice", liveTwice}, {"leave running", liveLeave}, {"pipes", livePipes}, {"log file", liveLogFile}, {"terminal", liveTerminal},
		{"mounts", liveMounts}, {"shared mounts", liveSharedMounts}, {"cgroup files", liveCgroupMount}, {"network by path", liveNetwork}, {"foreground", liveForeground}, {"hooks", liveHooks},
		{"paused", livePaused}, {"rights", liveRights}, {"pre-dump", livePreDump},
		{"killed checkpoint", liveKilledCheckpoint}, {"killed restore", liveKilledRestore},
	} {
		t.Run(test.name, func(t *testing.T) {
			nstest.NoLeaks(t)
			p := newPlace(t)
			defer p.do("delete", "-f", "x")
			test.do(t, p, filepath.Join(nstest.Dir(t), "image"))
		})
	}
}

// The container goes on where it was, in each mode of control groups, and can be restored from its second image, too.
func liveTwice(t *testing.T, p place, image string) {
	s := counting()
	s.Linux.CgroupsPath = "/criu-c"
	dir := bundle(t, s)
	p.counted(dir)
	s.Linux.Sysctl = map[string]string{"net.ipv4.conf.lo.forwarding": "1"}
	write(t, dir, s)
	for i, mode := range []string{"", "soft", "ignore"} {
		at := fmt.Sprint(image, i)
		n := count(dir)
		p.checkpoint("--image-path", at, "--manage-cgroups-mode", mode, "x")
		p.empty()
		if st, err := os.Stat(at); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%v: the image has mode %v", err, st.Mode())
		}
		pidFile := filepath.Join(nstest.Dir(t), "pid")
		p.good("restore", "-d", "--bundle", dir, "--image-path", at, "--manage-cgroups-mode", mode, "--pid-file", pidFile, "x")
		state := p.state("x")
		if data, err := os.ReadFile(pidFile); err != nil || string(data) != strconv.Itoa(state.Pid) || state.Status != specs.StateRunning {
			t.Errorf("%v: pid file %q, %+v", err, data, state)
		}
		goesOn(t, dir, n)
		if out := p.good("exec", "x", "cat", "/proc/1/comm"); out != "sh\n" {
			t.Errorf("a process beside the restored one says %q", out)
		}
		if out := p.good("exec", "x", "sh", "-c", "ifconfig lo; cat /proc/sys/net/ipv4/conf/lo/forwarding"); !strings.Contains(out, "UP LOOPBACK RUNNING") || !strings.HasSuffix(out, "\n1\n") {
			t.Errorf("its network is:\n%s", out)
		}
		groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", state.Pid))
		if err != nil || !bytes.Contains(groups, []byte("/criu-c\n")) {
			t.Errorf("%v: mode %q: it is in %s", err, mode, groups)
		}
	}
	p.good("delete", "-f", "x")
	p.empty()
}

func liveLeave(t *testing.T, p place, image string) {
	dir := bundle(t, counting())
	n := p.counted(dir)
	p.checkpoint("--leave-running", "--image-path", image, "x")
	goesOn(t, dir, n)
	p.bad("container with given ID already exists", "restore", "-d", "--bundle", dir, "--image-path", image, "x")
	p.good("delete", "-f", "x")
	p.good("restore", "-d", "--bundle", dir, "--image-path", image, "y")
	goesOn(t, dir, n)
	p.good("delete", "-f", "y")
}

// The caller's pipes of the restore take the place of those of the creation.
func livePipes(t *testing.T, p place, image string) {
	s := counting()
	s.Process.Args[2] = "while read a; do echo got $a; done; exit 7"
	dir := bundle(t, s)
	start := func(args ...string) (in, out *os.File) {
		t.Helper()
		stdin, in, err1 := os.Pipe()
		out, stdout, err2 := os.Pipe()
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		c := p.command(args...)
		c.Stdin, c.Stdout, c.Stderr = stdin, stdout, stdout
		err := c.Run()
		stdin.Close()
		stdout.Close()
		if err != nil {
			in.Close()
			text := make([]byte, 4096)
			n, _ := out.Read(text)
			t.Fatalf("%v: %v: %s", args, err, text[:n])
		}
		return in, out
	}
	says := func(in, out *os.File, word string) {
		t.Helper()
		fmt.Fprintln(in, word)
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || line != "got "+word+"\n" {
			t.Fatalf("%v: it says %q", err, line)
		}
	}
	in, out := start("run", "-d", "--bundle", dir, "x")
	says(in, out, "one")
	p.checkpoint("--image-path", image, "x")
	in.Close()
	out.Close()
	in, out = start("restore", "-d", "--bundle", dir, "--image-path", image, "x")
	says(in, out, "two")
	in.Close()
	p.untilStopped("x")
	out.Close()
	p.good("delete", "x")
}

// A log that is a file of the host goes on, where the caller of the restore opens it once more.
func liveLogFile(t *testing.T, p place, image string) {
	s := counting()
	s.Process.Args[2] = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"
	dir := bundle(t, s)
	file := filepath.Join(nstest.Dir(t), "log")
	into := func(args ...string) {
		t.Helper()
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		old, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := p.command(args...)
		c.Stdout, c.Stderr = f, f
		if err := c.Run(); err != nil {
			data, _ := os.ReadFile(file)
			t.Fatalf("%v: %s", err, data)
		}
		nstest.Until(t, "lines in the log", func() bool {
			data, _ := os.ReadFile(file)
			return bytes.Count(data[len(old):], []byte("\n")) > 5
		})
	}
	into("run", "-d", "--bundle", dir, "x")
	p.checkpoint("--image-path", image, "x")
	into("restore", "-d", "--bundle", dir, "--image-path", image, "x")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Fields(string(data)) {
		if line != strconv.Itoa(i+1) {
			t.Fatalf("line %d of the log is %s", i+1, line)
		}
	}
	p.good("delete", "-f", "x")
}

// masters listens as a caller that has the terminals of containers.
func masters(t *testing.T) (socket string, next func() *os.File) {
	t.Helper()
	socket = filepath.Join(nstest.Dir(t), "console")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return socket, func() *os.File {
		t.Helper()
		c, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		oob := make([]byte, 64)
		_, n, _, _, err := c.ReadMsgUnix(make([]byte, 4096), oob)
		if err != nil {
			t.Fatal(err)
		}
		m, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(m) != 1 {
			t.Fatalf("%v: %d messages", err, len(m))
		}
		fds, err := unix.ParseUnixRights(&m[0])
		if err != nil || len(fds) != 1 {
			t.Fatalf("%v: descriptors %v", err, fds)
		}
		return os.NewFile(uintptr(fds[0]), "master")
	}
}

func liveTerminal(t *testing.T, p place, image string) {
	s := counting()
	s.Process.Terminal = true
	s.Process.Args[2] = "stty -echo; while read a; do echo got $a; done"
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"}})
	dir := bundle(t, s)
	socket, next := masters(t)
	says := func(master *os.File, word string) {
		t.Helper()
		fmt.Fprintln(master, word)
		for r := bufio.NewReader(master); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("%v after %q", err, line)
			}
			if strings.Contains(line, "got "+word) {
				return
			}
		}
	}
	p.good("run", "-d", "--bundle", dir, "--console-socket", socket, "x")
	master := next()
	says(master, "one")
	p.checkpoint("--image-path", image, "x")
	master.Close()
	p.bad("console socket", "restore", "-d", "--bundle", dir, "--image-path", image, "x")
	p.empty()
	p.good("restore", "-d", "--bundle", dir, "--image-path", image, "--console-socket", socket, "x")
	master = next()
	says(master, "two")
	master.Close()
	p.good("delete", "-f", "x")
}

// Bound mounts come from the bundle of the restore, at places that are links, in other mounts, or not there any more;
// what hides files is there again.
func liveMounts(t *testing.T, p place, image string) {
	s := counting()
	host := nstest.Dir(t)
	for _, d := range []string{"tree/sub", "outer", "inner"} {
		if err := os.MkdirAll(filepath.Join(host, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"file": "a file", "outer/o": "o", "inner/i": "i"} {
		if err := os.WriteFile(filepath.Join(host, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("tmpfs", host+"/tree/sub", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(host+"/tree/sub", unix.MNT_DETACH)
	if err := os.WriteFile(host+"/tree/sub/s", []byte("s"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"ro"}},
		specs.Mount{Destination: "/link", Type: "bind", Source: host + "/file", Options: []string{"bind", "ro"}},
		specs.Mount{Destination: "/again", Type: "bind", Source: host + "/file", Options: []string{"bind", "ro", "nosuid"}},
		specs.Mount{Destination: "/third", Type: "bind", Source: host + "/file", Options: []string{"bind", "ro", "nosuid"}},
		specs.Mount{Destination: "/tree", Type: "bind", Source: host + "/tree", Options: []string{"rbind"}},
		specs.Mount{Destination: "/outer", Type: "bind", Source: host + "/outer", Options: []string{"bind"}},
		specs.Mount{Destination: "/outer/a/inner", Type: "bind", Source: host + "/inner", Options: []string{"bind"}},
		specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/mnt/again", Type: "bind", Source: "rootfs/srv", Options: []string{"bind"}}, // of its own root
	)
	s.Linux.MaskedPaths = []string{"/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/proc/none"}
	s.Linux.ReadonlyPaths = []string{"/proc/sys"}
	s.Process.Args[2] = "echo kept >/tmp/t; " + s.Process.Args[2]
	dir := bundle(t, s)
	if err := os.Symlink("/real/file", filepath.Join(dir, "rootfs/link")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "rootfs/real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rootfs/real/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	look := func() string {
		return p.good("exec", "x", "sh", "-c", `cat /real/file /tree/sub/s /outer/o /outer/a/inner/i /tmp/t; cat /proc/keys; find /sys/firmware; `+
			`echo a >/real/file; echo a >/proc/sys/kernel/hostname; while read a b c d at o rest; do echo $at $o; done </proc/self/mountinfo | sort`)
	}
	n := p.counted(dir)
	before := look()
	if !strings.HasPrefix(before, "a filesoikept\n/sys/firmware\n") || strings.Count(before, "ead-only") != 2 {
		t.Fatal(before)
	}
	p.checkpoint("--image-path", image, "x")
	if err := os.RemoveAll(host + "/outer/a"); err != nil {
		t.Fatal(err)
	}
	p.good("restore", "-d", "--bundle", dir, "--image-path", image, "x")
	goesOn(t, dir, n)
	if after := look(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	p.good("delete", "-f", "x")
}

// Where the host shares its mounts a container's receive from them, before and after.
func liveSharedMounts(t *testing.T, p place, image string) {
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNS}, func(t *testing.T) {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
			t.Fatal(err)
		}
		host := nstest.Dir(t)
		if err := os.MkdirAll(host+"/a/b", 0o755); err != nil {
			t.Fatal(err)
		}
		s := counting()
		for place, source := range map[string]string{"/a": "/a", "/b": "/a/b", "/all": ""} {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: place, Type: "bind", Source: host + source, Options: []string{"rbind", "rslave"}})
		}
		dir := bundle(t, s)
		n := p.counted(dir)
		before := peers(t, fmt.Sprintf("/proc/%d/mountinfo", p.state("x").Pid))
		if before["/b"].Master == 0 {
			t.Fatalf("/b is %+v", before["/b"])
		}
		p.checkpoint("--image-path", image, "x")
		p.good("restore", "-d", "--bundle", dir, "--image-path", image, "x")
		goesOn(t, dir, n)
		after := peers(t, fmt.Sprintf("/proc/%d/mountinfo", p.state("x").Pid))
		for place, m := range before {
			if is := after[place]; is.Root != m.Root || is.Shared != m.Shared || is.Master != m.Master {
				t.Errorf("%s was %+v, and is %+v", place, m, is)
			}
		}
		p.good("delete", "-f", "x")
	})
}

// The files of control groups are those of the restored container.
func liveCgroupMount(t *testing.T, p place, image string) {
	s := counting()
	s.Linux.Namespaces = s.Linux.Namespaces[:5] // no cgroup namespace
	s.Linux.CgroupsPath = "/criu-first"
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs"}, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro"}})
	dir := bundle(t, s)
	n := p.counted(dir)
	p.checkpoint("--image-path", image, "--manage-cgroups-mode", "ignore", "x")
	s.Linux.CgroupsPath = "/criu-second"
	write(t, dir, s)
	p.good("restore", "-d", "--bundle", dir, "--image-path", image, "--manage-cgroups-mode", "ignore", "x")
	goesOn(t, dir, n)
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.state("x").Pid))
	if err != nil || bytes.Contains(groups, []byte("/criu-first")) || !bytes.Contains(groups, []byte("/criu-second\n")) {
		t.Errorf("%v: it is in %s", err, groups)
	}
	if out := p.good("exec", "x", "sh", "-c", "cat /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null; true"); !strings.Contains("\n"+out, "\n1\n") {
		t.Errorf("the container's own files of control groups list %q", out)
	}
	p.good("delete", "-f", "x")
}

// A network namespace that config.json names is joined again.
func liveNetwork(t *testing.T, p place, image string) {
	c := exec.Command("sleep", "infinity")
	c.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }()
	path := fmt.Sprintf("/proc/%d/ns/net", c.Process.Pid)
	s := counting()
	s.Linux.Namespaces[4] = specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: path}
	dir := bundle(t, s)
	n := p.counted(dir)
	p.checkpoint("--image-path", image, "x")
	p.good("restore", "-d", "--bundle", dir, "--image-path", image, "x")
	goesOn(t, dir, n)
	ours, err1 := os.Readlink(path)
	theirs, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.state("x").Pid))
	if err1 != nil || err2 != nil || ours != theirs {
		t.Errorf("%v %v: it is in %s, want %s", err1, err2, theirs, ours)
	}
	p.good("delete", "-f", "x")
}

// One that was run in the foreground is ended by its checkpoint, and does not end with the command that restores it; a
// restore in the foreground has its exit code.
func liveForeground(t *testing.T, p place, image string) {
	s := counting()
	s.Process.Args[2] = "trap 'exit 9' TERM; " + s.Process.Args[2]
	dir := bundle(t, s)
	quiet := func(args ...string) *exec.Cmd {
		c := p.command(args...)
		f, err := os.CreateTemp(nstest.Dir(t), "out") // as the stream of the others: CRIU compares
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		c.Stdout, c.Stderr = f, f
		return c
	}
	front := quiet("run", "--bundle", dir, "x")
	if err := front.Start(); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "x counts", func() bool { return count(dir) > 3 })
	n := count(dir)
	p.checkpoint("--image-path", image, "x")
	if err := front.Wait(); front.ProcessState.ExitCode() != 128+9 {
		t.Errorf("the command in the foreground: %v", err)
	}
	p.empty()
	p.good("restore", "-d", "--bundle", dir, "--image-path", image, "x")
	goesOn(t, dir, n)
	p.good("delete", "-f", "x")
	front = quiet("restore", "--bundle", dir, "--image-path", image, "x")
	if err := front.Start(); err != nil {
		t.Fatal(err)
	}
	goesOn(t, dir, n)
	p.good("kill", "x", "TERM")
	if err := front.Wait(); front.ProcessState.ExitCode() != 9 {
		t.Errorf("restore in the foreground: %v", err)
	}
	p.empty()
}

// Hooks before the start are run at a restore as well, and one that fails ends it.
func liveHooks(t *testing.T, p place, image string) {
	s := counting()
	dir := bundle(t, s)
	n := p.counted(dir)
	p.checkpoint("--image-path", image, "x")
	mark := filepath.Join(nstest.Dir(t), "mark")
	s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >" + mark}}}}
	write(t, dir, s)
	p.good("restore", "-d", "--bundle", dir, "--image-path", image, "x")
	goesOn(t, dir, n)
	if data, err := os.ReadFile(mark); err != nil || !bytes.Contains(data, fmt.Appendf(nil, `"pid":%d`, p.state("x").Pid)) {
		t.Errorf("%v: the hook got %s", err, data)
	}
	p.good("delete", "-f", "x")
	s.Hooks.CreateRuntime[0].Args[2] = "echo no; exit 3"
	write(t, dir, s)
	p.bad("createRuntime hook #0: exit status 3, stdout: no", "restore", "-d", "--bundle", dir, "--image-path", image, "x")
	p.empty()
}

// An image is restored with the rights and the namespaces that it has, which are to be those of config.json.
func liveRights(t *testing.T, p place, image string) {
	s := counting()
	s.Process.NoNewPrivileges = true
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"swapon"}, Action: specs.ActErrno}}}
	dir := bundle(t, s)
	n := p.counted(dir)
	p.checkpoint("--image-path", image, "x")
	p.good("restore", "-d", "--bundle", dir, "--image-path", image, "x")
	goesOn(t, dir, n)
	p.good("delete", "-f", "x")
	refused := func(want string, s *specs.Spec, image string) {
		t.Helper()
		write(t, dir, s)
		p.bad(want, "restore", "-d", "--bundle", dir, "--image-path", image, "x")
		p.empty()
	}
	s.Process.Capabilities.Bounding, s.Process.Capabilities.Effective, s.Process.Capabilities.Permitted = nil, nil, nil
	refused("process 1 has more capabilities: CAP_CHOWN", s, image)
	s = counting()
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"swapoff"}, Action: specs.ActErrno}}}
	write(t, dir, s)
	if said := p.good("restore", "-d", "--bundle", dir, "--image-path", image, "x"); !strings.Contains(said, "the image has another filter") {
		t.Errorf("of another filter it says %q", said)
	}
	p.good("delete", "-f", "x")
	for i, kind := range []specs.LinuxNamespaceType{specs.UTSNamespace, specs.IPCNamespace, specs.NetworkNamespace, specs.CgroupNamespace} {
		with, without := counting(), counting()
		without.Hostname = ""
		without.Linux.Namespaces = slices.DeleteFunc(without.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
		refused(string(kind)+": config.json has none", without, image)
		write(t, dir, without)
		p.counted(dir)
		at := fmt.Sprint(image, i)
		p.checkpoint("--image-path", at, "x")
		refused(string(kind)+": config.json has a new one", with, at)
		joined := fmt.Sprintf("/proc/%d/ns/%s", os.Getpid(), nsName(kind))
		if kind == specs.UTSNamespace || kind == specs.IPCNamespace {
			with.Linux.Namespaces = append(without.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: joined})
			with.Hostname = ""
			write(t, dir, with)
			p.good("restore", "-d", "--bundle", dir, "--image-path", at, "x")
			p.good("delete", "-f", "x")
		}
	}
}

func livePaused(t *testing.T, p place, image string) {
	dir := bundle(t, counting())
	n := p.counted(dir)
	p.good("pause", "x")
	p.checkpoint("--image-path", image, "x")
	p.empty()
	p.good("restore", "-d", "--bundle", dir, "--image-path", image, "x")
	goesOn(t, dir, n)
	p.good("delete", "-f", "x")
}

// A dump after a pre-dump needs a kernel that tells which memory has changed since.
func livePreDump(t *testing.T, p place, image string) {
	dir := bundle(t, counting())
	n := p.counted(dir)
	p.bad("--parent-path must be relative", "checkpoint", "--parent-path", image, "--image-path", image+"2", "x")
	p.bad("invalid --parent-path", "checkpoint", "--parent-path", "../none", "--image-path", image+"2", "x")
	if exec.Command("criu", "check", "--feature", "mem_dirty_track").Run() != nil {
		p.bad("CRIU is missing features: [MemTrack]", "checkpoint", "--pre-dump", "--image-path", image, "x")
	} else {
		p.checkpoint("--pre-dump", "--image-path", image, "x")
		goesOn(t, dir, n)
		p.checkpoint("--parent-path", "../"+filepath.Base(image), "--image-path", image+"2", "x")
		p.good("restore", "-d", "--bundle", dir, "--image-path", image+"2", "x")
	}
	goesOn(t, dir, n)
	p.good("delete", "-f", "x")
}

// killAt runs a command and kills it when CRIU has come to the stage n. It reports whether it was killed.
func (p place) killAt(n int, args ...string) bool {
	p.t.Helper()
	log := filepath.Join(nstest.Dir(p.t), "log")
	if err := unix.Mkfifo(log, 0o600); err != nil {
		p.t.Fatal(err)
	}
	f, err := os.OpenFile(log, os.O_RDWR, 0) // so that neither side waits for the other
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	c := p.command(append([]string{"--debug", "--log", log}, args...)...)
	// The container's stream is a file as it was, an empty one.
	out, err := os.CreateTemp(nstest.Dir(p.t), "out")
	if err != nil {
		p.t.Fatal(err)
	}
	defer out.Close()
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		c.Wait()
		close(ended)
		fmt.Fprintln(f, "ended")
	}()
	seen := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		if s.Text() == "ended" {
			break
		}
		if !strings.Contains(s.Text(), "notify: ") {
			continue
		}
		if seen++; seen > n {
			c.Process.Kill()
			break
		}
	}
	<-ended
	return !c.ProcessState.Exited()
}

// A checkpoint that is killed leaves a container that runs, or has ended, and can be taken away.
func liveKilledCheckpoint(t *testing.T, p place, image string) {
	dir := bundle(t, counting())
	for n := 0; ; n++ {
		p.counted(dir)
		killed := p.killAt(n, "checkpoint", "--image-path", fmt.Sprint(image, n), "x")
		p.good("delete", "-f", "x")
		p.empty()
		os.Remove(filepath.Join(dir, "rootfs/n"))
		if !killed {
			if n < 3 {
				t.Errorf("a checkpoint had %d stages", n)
			}
			return
		}
	}
}

// A restore that is killed leaves what delete takes away, without force as long as nothing runs.
func liveKilledRestore(t *testing.T, p place, image string) {
	dir := bundle(t, counting())
	p.counted(dir)
	p.checkpoint("--image-path", image, "x")
	for n := 0; ; n++ {
		killed := p.killAt(n, "restore", "-d", "--bundle", dir, "--image-path", image, "x")
		args := []string{"delete", "x"}
		if s := p.state("x").Status; s == specs.StateRunning {
			args = []string{"delete", "-f", "x"}
		}
		p.good(args...)
		p.empty()
		if !killed {
			if n < 3 {
				t.Errorf("a restore had %d stages", n)
			}
			return
		}
	}
}
