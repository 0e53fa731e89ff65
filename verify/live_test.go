package verify_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/verify"
)

// insideEnv holds, in a test that was executed again in a mount namespace of its own, the
// program to run containers with.
const insideEnv = "KAKURI_VERIFY_TEST"

// private executes the test again where none of its mounts reaches the machine and where
// the records of containers are its own, and returns the program there; "" outside, where
// the test is over then.
func private(t *testing.T) string {
	t.Helper()
	if program := os.Getenv(insideEnv); program != "" {
		if err := errors.Join(
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"),
			os.MkdirAll("/var/lib/kakuri", 0o700),
			unix.Mount("tmpfs", "/var/lib/kakuri", "tmpfs", 0, "mode=700"),
		); err != nil {
			t.Fatal(err)
		}
		return program
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: it runs containers and changes them from outside")
	}
	program := filepath.Join(os.Getenv("KAKURI_TEST_BIN"), "kakuri")
	if program == "kakuri" {
		program = filepath.Join(t.TempDir(), "kakuri")
		build := exec.Command("go", "build", "-o", program, "github.com/kakuri/kakuri/cmd/kakuri")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	again := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), insideEnv+"="+program)
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return ""
}

// A container is one that runs.
type container struct {
	plan plan.Plan
	pid  int
	end  func() // ends it, and returns when nothing is left of it
}

// start runs a container until the test's end, and returns once its plan is recorded.
func start(t *testing.T, program string, args ...string) container {
	t.Helper()
	dir := t.TempDir()
	events, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(events)
	if _, err := unix.InotifyAddWatch(events, dir, unix.IN_MODIFY); err != nil {
		t.Fatal(err)
	}
	cid := filepath.Join(dir, "cid")
	var out strings.Builder
	cmd := exec.Command(program, append([]string{"run", "--rm", "--cidfile", cid}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	pid := 0
	end := sync.OnceFunc(func() {
		if pid != 0 {
			unix.Kill(pid, unix.SIGKILL) // kakuri run waits for it, and ends
		} else {
			cmd.Process.Kill()
		}
		<-ended
	})
	t.Cleanup(end)
	// The id is written when all else is.
	poll := []unix.PollFd{{Fd: int32(events), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 20)
		if n > 0 {
			break
		}
		select {
		case <-ended:
			t.Fatalf("kakuri run %q ended:\n%s", args, out.String())
		default:
		}
		if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
	}
	id, err := os.ReadFile(cid)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Open(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rec, p, err := e.Plan(string(id))
	if err != nil {
		t.Fatal(err)
	}
	pid = rec.PID
	return container{p, pid, end}
}

// read verifies c, and returns the properties that are not ok, as "mount /tmp differs:
// missing".
func (c container) read(t *testing.T) []string {
	t.Helper()
	list, err := verify.Container(c.plan, c.pid)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(c.plan.Checks()) {
		t.Fatalf("%d results of %d checks", len(list), len(c.plan.Checks()))
	}
	var faults []string
	for i, r := range list {
		if want := c.plan.Checks()[i]; r.N != want.N || r.Property != want.Check.Property() {
			t.Errorf("result %d is of step %d, want %d", i, r.N, want.N)
		}
		if r.Verdict() != verify.OK {
			faults = append(faults, fmt.Sprintf("%s %s: %s", r.Property, r.Verdict(), r.Measured+r.Unknown))
		}
	}
	return faults
}

// want checks that exactly these properties are not ok.
func (c container) want(t *testing.T, faults ...string) {
	t.Helper()
	if got := c.read(t); !slices.Equal(got, faults) {
		t.Errorf("faults:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(faults, "\n"))
	}
}

// sh runs a shell on the host's side in some namespaces of the container: "-m", "-u", "-n".
func (c container) sh(t *testing.T, namespaces, script string) {
	t.Helper()
	args := append([]string{"-t", fmt.Sprint(c.pid)}, strings.Fields(namespaces)...)
	if out, err := exec.Command("nsenter", append(args, "sh", "-ec", script)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// change puts another check in the place of every one of its kind.
func (c *container) change(t *testing.T, change func(plan.Check) plan.Check) {
	t.Helper()
	changed := false
	c.plan.Steps = slices.Clone(c.plan.Steps)
	for i, s := range c.plan.Steps {
		if s.Check == nil {
			continue
		}
		if other := change(s.Check); other != nil {
			c.plan.Steps[i].Check, changed = other, true
		}
	}
	if !changed {
		t.Fatal("the plan has no such check")
	}
}

// demand adds a check that the plan has not.
func (c *container) demand(check plan.Check) {
	c.plan.Steps = append(slices.Clone(c.plan.Steps), plan.Step{Op: &plan.Sigmask{}, Check: check})
}

func TestContainer(t *testing.T) {
	program := private(t)
	if program == "" {
		return
	}
	t.Run("as asked", func(t *testing.T) { testAsAsked(t, program) })
	t.Run("changed from outside", func(t *testing.T) { testChanged(t, program) })
	t.Run("changed from inside", func(t *testing.T) { testChangedInside(t, program) })
	t.Run("another plan", func(t *testing.T) { testAnotherPlan(t, program) })
	t.Run("shared namespaces", func(t *testing.T) { testShared(t, program) })
	t.Run("ended", func(t *testing.T) { testEnded(t, program) })
	t.Run("reader stays", func(t *testing.T) { testReaderStays(t, program) })
}

// testAsAsked runs containers of every kind: all that their plans ask for must be there.
func testAsAsked(t *testing.T, program string) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"host", "sleep", "1000"},
		{"--read-only", "--init", "host", "sleep", "1000"},
		{"--init", "-u", "33:34", "--group-add", "5", "host", "sleep", "1000"},
		{"--privileged", "host", "sleep", "1000"},
		{"--privileged", "-v", "/dev:/dev", "host", "sleep", "1000"},
		{"--userns", "host", "host", "sleep", "1000"},
		{"--pid", "host", "host", "sleep", "1000"},
		{"--network", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host", "host:all", "sleep", "1000"},
		{"--userns", "host", "--network", "host", "--pid", "host", "host", "sleep", "1000"},
		{"-v", dir + ":/data:ro", "--tmpfs", "/tmp:ro,noexec", "--tmpfs", "/run:size=1m", "--mount", "type=bind,source=" + dir + ",target=/run/x", "host", "sleep", "1000"},
		{"-v", file + ":/etc/shadow", "-v", file + ":/proc/uptime", "-v", dir + ":/sys/firmware", "host", "sleep", "1000"},
		{"--cap-drop", "all", "--cap-add", "net_admin", "--security-opt", "no-new-privileges", "-u", "nobody", "host", "sleep", "1000"},
		{"--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined", "host", "sleep", "1000"},
		{"--time-offset", "boottime=48h", "--time-offset", "monotonic=-1500ms", "host", "sleep", "1000"},
		{"--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=9000", "--sysctl", "fs.mqueue.msg_max=20", "-h", "box", "--domainname", "example", "host", "sleep", "1000"},
		{"--ulimit", "nofile=100:200", "--ulimit", "core=-1", "--device", "/dev/zero:/dev/nothing", "-t", "host", "sleep", "1000"},
	} {
		t.Run(strings.Join(c, " "), func(t *testing.T) { start(t, program, c...).want(t) })
	}
	t.Run("rootfs", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "root")
		if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		busybox, err := exec.LookPath("busybox")
		if err != nil {
			t.Fatalf("a static busybox is needed for a root file system: %v", err)
		}
		data, err := os.ReadFile(busybox)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "bin/sleep"), data, 0o755); err != nil {
			t.Fatal(err)
		}
		start(t, program, "--rootfs", root, "sleep", "1000").want(t)
		start(t, program, "--rootfs", root, "--read-only", "--privileged", "sleep", "1000").want(t)
	})
}

func testChanged(t *testing.T, program string) {
	type change struct {
		name string
		run  []string
		do   func(*testing.T, container)
		want string
	}
	in := func(namespaces, script string) func(*testing.T, container) {
		return func(t *testing.T, c container) { c.sh(t, namespaces, script) }
	}
	for _, c := range []change{
		{"read-only path made writable", nil, in("-m", "mount -o remount,bind,rw /proc/sys"), "/proc/sys differs: a directory on proc, writable"},
		{"read-only path covered", nil, in("-m", "mount -t tmpfs x /proc/fs"), "/proc/fs differs: a directory on tmpfs, writable"},
		{"mask of a file taken away", nil, in("-m -p", "umount /proc/keys"), "/proc/keys differs: a file on proc"},
		{"mask of a directory taken away", nil, in("-m", "umount /sys/firmware"), "/sys/firmware differs: a directory on sysfs, read-only"},
		{"mask covered", nil, in("-m", "mount -t tmpfs x /sys/firmware; mkdir /sys/firmware/x; mount -o remount,ro /sys/firmware"), "/sys/firmware differs: a directory on tmpfs, read-only"},
		{"device covered", nil, in("-m", "mount --bind /dev/zero /dev/null"), "/dev/null differs: c 1:5"},
		{"mount with a flag less", nil, in("-m", "mount -o remount,bind,nosuid,nodev,exec /dev/shm"), "mount /dev/shm differs: tmpfs nosuid,nodev size=65536k"},
		{"size of a tmpfs", []string{"--tmpfs", "/srv:size=1m"}, in("-m", "mount -o remount,size=9m,nosuid,nodev,noexec /srv"), "mount /srv differs: tmpfs nosuid,nodev,noexec size=9216k"},
		{"size of /dev/shm", []string{"--shm-size", "1m"}, in("-m", "mount -o remount,size=9m,nosuid,nodev,noexec /dev/shm"), "mount /dev/shm differs: tmpfs nosuid,nodev,noexec size=9216k"},
		{"lo set down", []string{"--network", "none"}, in("-n", "ip link set lo down"), "network device lo differs: down"},
		{"mount covered by another type", nil, in("-m", "mount -t ramfs -o nosuid,nodev x /tmp"), "mount /tmp differs: ramfs nosuid,nodev"},
		{"mount taken away", nil, in("-m", "umount /dev/mqueue"), "mount /dev/mqueue differs: not a mount"},
		{"root made writable", []string{"--read-only"}, in("-m", "mount -o remount,bind,rw /"), "/ differs: a directory on overlay, writable"},
		{"root covered", nil, in("-m", "mount -t tmpfs x /"), "root file system differs: 2 mounts at /, one over another: overlay tmpfs"},
		{"host name", []string{"-h", "box"}, in("-u", "echo other >/proc/sys/kernel/hostname"), "host name differs: other"},
		{"domain name", []string{"--domainname", "box"}, in("-u", "echo other >/proc/sys/kernel/domainname"), "domain name differs: other"},
		{"parameter of the network", nil, in("-n", "echo 1 >/proc/sys/net/ipv4/ip_unprivileged_port_start"), "net.ipv4.ip_unprivileged_port_start differs: 1"},
		{"parameter of ipc", []string{"--sysctl", "kernel.msgmax=9000"}, in("-U -i", "echo 9001 >/proc/sys/kernel/msgmax"), "kernel.msgmax differs: 9001"},
		{"limit", []string{"--ulimit", "nofile=100"}, func(t *testing.T, c container) {
			if err := unix.Prlimit(c.pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 50, Max: 100}, nil); err != nil {
				t.Fatal(err)
			}
		}, "RLIMIT_NOFILE differs: 50 100"},
	} {
		t.Run(c.name, func(t *testing.T) {
			it := start(t, program, append(c.run, "host", "sleep", "1000")...)
			it.want(t)
			c.do(t, it)
			it.want(t, c.want)
		})
	}
	t.Run("oom_score_adj", func(t *testing.T) {
		it := start(t, program, "host", "sleep", "1000")
		it.demand(&plan.OOMCheck{Value: 77})
		file := fmt.Sprintf("/proc/%d/oom_score_adj", it.pid)
		for value, want := range map[string][]string{"77": nil, "78": {"oom_score_adj differs: 78"}} {
			if err := os.WriteFile(file, []byte(value), 0); err != nil {
				t.Fatal(err)
			}
			it.want(t, want...)
		}
	})
}

// testChangedInside has the first process itself change what only it can.
func testChangedInside(t *testing.T, program string) {
	for _, c := range []struct {
		name, script, want string
		run                []string
	}{
		{"umask", "umask 077; exec sleep 1000", "umask differs: 0077", nil},
		{"ids", "exec setpriv --reuid 33 --regid 34 --groups 35 sleep 1000", "user and groups differs: uid 33 gid 34 groups 35", nil},
		{"fewer capabilities", "exec setpriv --bounding-set -chown sleep 1000", "capabilities differs: bounding lacks chown", nil},
		{"inheritable capabilities", "exec setpriv --inh-caps +chown sleep 1000", "capabilities differs: inheritable has chown too", nil},
		{"root directory", "exec chroot /usr /bin/sleep 1000", "", []string{"-v", "/usr:/usr/usr:ro"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			it := start(t, program, append(c.run, "host", "sh", "-c", c.script)...)
			waitFor(t, it, "sleep")
			got := it.read(t)
			if c.name == "root directory" {
				// What is asked of paths is asked of another root now.
				i := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, "root file system ") })
				if i < 0 || got[i] != "root file system differs: no mount at /: the process has changed its root directory" {
					t.Errorf("faults:\n%s", strings.Join(got, "\n"))
				}
				return
			}
			it.want(t, c.want)
		})
	}
}

// waitFor returns when the container's first process has become the program. Each execve
// shows in its executable's link; there is nothing that could be waited on.
func waitFor(t *testing.T, c container, program string) {
	t.Helper()
	for range 500 {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.pid))
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(exe) == program {
			return
		}
		unix.Poll(nil, 10)
	}
	t.Fatalf("process %d does not become %s", c.pid, program)
}

// testAnotherPlan asks for what the container has not: for properties that nothing can
// change once they are there.
func testAnotherPlan(t *testing.T, program string) {
	run := []string{"--time-offset", "boottime=24h", "-u", "33", "--security-opt", "no-new-privileges", "host", "sleep", "1000"}
	it := start(t, program, run...)
	it.want(t)
	for _, c := range []struct {
		name, want string
		change     func(plan.Check) plan.Check
	}{
		{"uid map", "uid_map differs: ", func(c plan.Check) plan.Check {
			if m, ok := c.(*plan.IDMapCheck); ok && !m.Group {
				return &plan.IDMapCheck{Map: []plan.IDMapping{{Inside: 0, Outside: 0, Size: 65536}}}
			}
			return nil
		}},
		{"gid map", "gid_map differs: ", func(c plan.Check) plan.Check {
			if m, ok := c.(*plan.IDMapCheck); ok && m.Group {
				return &plan.IDMapCheck{Group: true, Map: append(slices.Clone(m.Map), plan.IDMapping{Inside: 70000, Outside: 5, Size: 1})}
			}
			return nil
		}},
		{"bounding set", "capabilities differs: bounding lacks net_raw", func(c plan.Check) plan.Check {
			if m, ok := c.(*plan.CapsCheck); ok {
				return &plan.CapsCheck{Bounding: m.Bounding.With(abi.CapNetRaw), Permitted: m.Permitted, Effective: m.Effective}
			}
			return nil
		}},
		{"ambient set", "capabilities differs: ambient lacks chown", func(c plan.Check) plan.Check {
			if m, ok := c.(*plan.CapsCheck); ok {
				return &plan.CapsCheck{Bounding: m.Bounding, Permitted: m.Permitted, Effective: m.Effective, Ambient: abi.Caps(abi.CapChown)}
			}
			return nil
		}},
		{"clock", "clock offsets differs: boottime +86400s monotonic +0s", func(c plan.Check) plan.Check {
			if _, ok := c.(*plan.TimeCheck); ok {
				return &plan.TimeCheck{Boottime: 86401e9}
			}
			return nil
		}},
		{"user", "user and groups differs: uid 33 gid 33", func(c plan.Check) plan.Check {
			if _, ok := c.(*plan.IDCheck); ok {
				return &plan.IDCheck{UID: 0, GID: 33}
			}
			return nil
		}},
		{"umask", "umask differs: 0022", func(c plan.Check) plan.Check {
			if _, ok := c.(*plan.UmaskCheck); ok {
				return &plan.UmaskCheck{Mask: 0o77}
			}
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			other := it
			other.change(t, c.change)
			if got := other.read(t); len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
				t.Errorf("faults:\n%s\nwant:\n%s", strings.Join(got, "\n"), c.want)
			}
		})
	}
	bare := start(t, program, "--pid", "host", "--ipc", "host", "--security-opt", "seccomp=unconfined", "host", "sleep", "1000")
	for _, c := range []struct {
		check plan.Check
		want  string
	}{
		{&plan.SeccompCheck{}, "seccomp differs: off"},
		{&plan.NoNewPrivsCheck{}, "no_new_privs differs: 0"},
		{&plan.NewNamespacesCheck{New: []abi.Namespace{abi.NSPID, abi.NSMount, abi.NSIPC}}, "namespaces differs: the host's: pid ipc"},
		{&plan.NamespaceCheck{NS: abi.NSPID, Path: "/proc/self/ns/pid"}, ""},
		{&plan.NamespaceCheck{NS: abi.NSUTS, Path: "/proc/self/ns/uts"}, "uts namespace differs: another one, uts:["},
		{&plan.NamespaceCheck{NS: abi.NSUTS, Path: "/nowhere"}, "uts namespace unknown: stat /nowhere: no such file or directory"},
		{&plan.MaskCheck{Path: "/etc/../../../etc/passwd"}, "/etc/../../../etc/passwd differs: a file on overlay"},
		{&plan.MaskCheck{Path: "/proc/self/root/etc"}, "/proc/self/root/etc unknown: /proc/self/root/etc: too many levels of symbolic links"},
		{&plan.HiddenCheck{Path: "/etc/passwd"}, "/etc/passwd differs: shows the host's /etc/passwd"},
		{&plan.HiddenCheck{Path: "/etc"}, "/etc differs: shows the host's /etc/"},
		{&plan.HiddenCheck{Path: "/nowhere"}, ""},
		{&plan.HiddenCheck{Path: "/proc/self/root/etc"}, "/proc/self/root/etc unknown: /proc/self/root/etc: too many levels of symbolic links"},
		{&plan.MountCheck{Dest: "/nowhere", Type: "tmpfs"}, "mount /nowhere differs: missing"},
		{&plan.MountCheck{Dest: "/etc", Type: "tmpfs"}, "mount /etc differs: not a mount"},
		{&plan.DeviceCheck{Path: "/dev/nowhere", Type: "c"}, "/dev/nowhere differs: missing"},
		{&plan.DeviceCheck{Path: "/dev/zero", Type: "c", Major: 1, Minor: 3}, "/dev/zero differs: c 1:5"},
		{&plan.ReadonlyCheck{Path: "/etc"}, "/etc differs: a directory on overlay, writable"},
		{&plan.SysctlCheck{Key: "net.ipv4.nothing", Value: "1"}, "net.ipv4.nothing unknown: open /proc/sys/net/ipv4/nothing: no such file or directory"},
		{&plan.SysctlCheck{Key: "net.ipv4.nothing", Value: "1", Optional: true}, ""},
		{&plan.SysctlCheck{Key: "user.max_net_namespaces", Value: "1"}, "user.max_net_namespaces unknown: it shows only in the user namespace, which a reader cannot join"},
		{&plan.SysctlCheck{Key: "kernel/../../../etc/passwd", Value: "1"}, "kernel/../../../etc/passwd unknown: it is no parameter's name"},
		{&plan.SysctlCheck{Key: "kernel.ostype", Value: "Linux"}, ""},
	} {
		t.Run(c.check.Property()+" "+c.check.Asked(), func(t *testing.T) {
			other := bare
			other.demand(c.check)
			got := other.read(t)
			if c.want == "" {
				if len(got) > 0 {
					t.Errorf("faults: %q", got)
				}
			} else if len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
				t.Errorf("faults: %q, want %q", got, c.want)
			}
		})
	}
}

// testShared has a container in the namespaces of another, which ends.
func testShared(t *testing.T, program string) {
	web := start(t, program, "--name", "web", "--ipc", "shareable", "host", "sleep", "1000")
	it := start(t, program, "--network", "container:web", "--ipc", "container:web", "host", "sleep", "1000")
	it.want(t)
	web.end()
	gone := fmt.Sprintf(" namespace unknown: process %d, whose it was, has ended", web.pid)
	it.want(t, "network"+gone, "ipc"+gone, "user"+gone)

	// Another process with the number of the ended one is not taken for it.
	runtime.LockOSThread() // it ends with the thread that starts it, and threads that were in a namespace are ended
	later := exec.Command("sleep", "1000")
	later.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := later.Start(); err != nil {
		t.Fatal(err)
	}
	defer later.Wait()
	defer later.Process.Kill()
	it.change(t, func(c plan.Check) plan.Check {
		if n, ok := c.(*plan.NamespaceCheck); ok && n.NS == abi.NSNetwork {
			return &plan.NamespaceCheck{NS: n.NS, Path: fmt.Sprintf("/proc/%d/ns/net", later.Process.Pid)}
		}
		return nil
	})
	it.want(t, fmt.Sprintf("network namespace unknown: process %d, whose it was, has ended, and another has its number", later.Process.Pid), "ipc"+gone, "user"+gone)
}

func testEnded(t *testing.T, program string) {
	it := start(t, program, "host", "sleep", "1000")
	it.end()
	if _, err := verify.Container(it.plan, it.pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
	// One that has ended and is not waited for.
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer zombie.Wait()
	if err := unix.Waitid(unix.P_PID, zombie.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := verify.Container(it.plan, zombie.Process.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("zombie: error %v, want fs.ErrNotExist", err)
	}
}

// testReaderStays checks that a reading leaves this process and its threads where they are,
// and its descriptors as they were.
func testReaderStays(t *testing.T, program string) {
	it := start(t, program, "--sysctl", "kernel.msgmax=9000", "--domainname", "x", "host", "sleep", "1000")
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	it.want(t)
	before := count()
	for range 50 {
		it.read(t)
	}
	nstest.Until(t, fmt.Sprintf("no more than %d descriptors", before), func() bool { return count() <= before }) // sockets of nftables are closed later
	away := func() []string {
		var list []string
		tasks, _ := filepath.Glob("/proc/self/task/*/ns/*")
		for _, link := range tasks {
			its, err1 := os.Readlink(link)
			ours, err2 := os.Readlink("/proc/self/ns/" + filepath.Base(link))
			if err1 == nil && err2 == nil && its != ours {
				list = append(list, link+" "+its)
			}
		}
		return list
	}
	for range 500 { // a thread ends a moment after its goroutine
		if len(away()) == 0 {
			break
		}
		unix.Poll(nil, 10)
	}
	if list := away(); len(list) > 0 {
		t.Errorf("threads elsewhere: %q", list)
	}
	if its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", it.pid)); err != nil {
		t.Error(err)
	} else if ours, _ := os.Readlink("/proc/self/ns/net"); its == ours {
		t.Error("the whole process has joined the container's network namespace")
	}
}
