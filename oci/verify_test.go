package oci

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/verify"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// measured runs a bundle, and reads back all that its plan asks for: the results by their property.
type measured struct {
	t    *testing.T
	p    place
	pid  int
	list map[string]verify.Result
}

// measure reads the container v.
func measure(t *testing.T, p place) *measured {
	t.Helper()
	m := &measured{t: t, p: p}
	x, err := (&Runtime{Root: p.dir}).Open("v")
	if err != nil {
		t.Fatal(err)
	}
	m.pid = x.State().Pid
	m.read(x)
	return m
}

func (m *measured) read(x *Container) {
	m.t.Helper()
	x.config = nil
	plan, err := x.Plan()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, u := range plan.Unchecked() {
		if u.Reason == "" {
			m.t.Errorf("step %d %s: neither a check nor a reason", u.N, u.Op)
		}
	}
	list, err := verify.Container(plan, m.pid)
	if err != nil {
		m.t.Fatal(err)
	}
	m.list = map[string]verify.Result{}
	for _, r := range list {
		m.list[r.Property] = r
	}
}

// allOK wants no property to differ, and none to be unreadable.
func (m *measured) allOK() {
	m.t.Helper()
	for _, r := range m.list {
		if r.Verdict() != verify.OK {
			m.t.Errorf("%s %s: asked %q, measured %q %s", r.Property, r.Verdict(), r.Asked, r.Measured, r.Unknown)
		}
	}
}

// want compares what was measured of a property.
func (m *measured) want(property, verdict, text string) {
	m.t.Helper()
	r, ok := m.list[property]
	if got := r.Measured + r.Unknown; !ok || r.Verdict() != verdict || !strings.Contains(got, text) {
		m.t.Errorf("%s: %v %s %q, want %s %q", property, ok, r.Verdict(), got, verdict, text)
	}
}

// everything is a container that asks for all that a process can be given.
func everything(line string) *specs.Spec {
	s := base(line)
	s.Linux.CgroupsPath = "/verified"
	limit, pids, shares, quota, period := int64(100_000_001), int64(50), uint64(512), int64(50_000), uint64(100_000)
	null, char := int64(1), int64(11)
	s.Linux.Resources = &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &pids},
		CPU:     &specs.LinuxCPU{Shares: &shares, Quota: &quota, Period: &period, Cpus: "0", Mems: "0"},
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "c", Major: &null, Minor: &char, Access: "r"}},
	}
	s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}
	s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	s.Process.OOMScoreAdj = new(int)
	*s.Process.OOMScoreAdj = 77
	s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}}
	s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0"}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000}, "monotonic": {Secs: -2, Nanosecs: 500_000_000}}
	s.Linux.Sysctl = map[string]string{"kernel.msgmax": "9000"}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"}, specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts"})
	return s
}

// What a container of the runtime was given is read back from the kernel, as created and as started, and after an update.
func TestVerifyRuntime(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, everything("exec sleep 1000"))
	p.good("create", "--bundle", dir, "v")
	defer p.do("delete", "--force", "v")
	measure(t, p).allOK() // as long as it waits for its start
	p.good("start", "v")
	x, err := (&Runtime{Root: p.dir}).Open("v")
	if err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "sleep", func() bool {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", x.State().Pid))
		return string(name) == "sleep\n"
	})
	m := measure(t, p)
	m.allOK()
	m.want("scheduler", verify.OK, "policy 3 nice 5 flags 0x1")
	m.want("io priority", verify.OK, "class 2 level 6")
	m.want("memory policy", verify.OK, "bind:0")
	m.want("personality", verify.OK, "0x8")
	m.want("oom_score_adj", verify.OK, "77")
	m.want("clock offsets", verify.OK, "boottime +1000s")
	m.want("processors", verify.OK, "0")
	m.want("pids.max", verify.OK, "50")
	m.want("control group", verify.OK, "there, in ")
	m.want("session", verify.OK, "its own")
	m.want("network device lo", verify.OK, "up")
	m.want("/dev/stdin", verify.OK, "link to /proc/self/fd/0")
	if r := m.list["memory.limit_in_bytes"]; r.Property != "" {
		m.want("memory.limit_in_bytes", verify.OK, "99999744, whole pages of 4096")
		if r.Cause.Field != "linux.resources.memory.limit" {
			t.Errorf("field %q", r.Cause.Field)
		}
	} else {
		m.want("memory.max", verify.OK, "99999744, whole pages of 4096")
	}
	m.want("device rules", verify.OK, "")

	p.good("update", "--pids-limit", "60", "v")
	m = measure(t, p)
	m.allOK()
	m.want("pids.max", verify.OK, "60")
}

// A filter that the stub loads comes with the start: before it there is none, which is no fault.
func TestVerifyFilterOfStub(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("exec sleep 1000")
	s.Process.NoNewPrivileges = true
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"execveat"}, Action: specs.ActErrno}}}
	p.good("create", "--bundle", bundle(t, s), "v")
	defer p.do("delete", "--force", "v")
	m := measure(t, p)
	m.want("seccomp", verify.Unknown, "waits for its start")
	p.good("start", "v")
	x, err := (&Runtime{Root: p.dir}).Open("v")
	if err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "sleep", func() bool {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", x.State().Pid))
		return string(name) == "sleep\n"
	})
	measure(t, p).want("seccomp", verify.OK, "filter")
}

// What somebody changed behind the runtime's back differs, and nothing else does.
func TestVerifyRuntimeChanged(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	p.good("run", "--detach", "--bundle", bundle(t, everything("exec sleep 1000")), "v")
	defer p.do("delete", "--force", "v")
	x, err := (&Runtime{Root: p.dir}).Open("v")
	if err != nil {
		t.Fatal(err)
	}
	pid := x.State().Pid
	group := func(controller string) string {
		if dir, ok := x.state.Cgroups[controller]; ok {
			return dir
		}
		return x.state.Cgroups[""]
	}
	write := func(file, value string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	var differ []string
	expect := func(property, text string) {
		t.Helper()
		differ = append(differ, property)
		m := measure(t, p)
		m.want(property, verify.Differs, text)
		for _, r := range m.list {
			known := false
			for _, d := range differ {
				known = known || d == r.Property
			}
			if r.Verdict() != verify.OK && !known {
				t.Errorf("%s %s too: %s %s", r.Property, r.Verdict(), r.Measured, r.Unknown)
			}
		}
	}
	write(filepath.Join(group("pids"), "pids.max"), "51")
	expect("pids.max", "51")
	a, err := unix.SchedGetAttr(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	a.Nice = 7
	if err := unix.SchedSetAttr(pid, a, 0); err != nil {
		t.Fatal(err)
	}
	expect("scheduler", "nice 7")
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, abi.IoprioWhoProcess, uintptr(pid), abi.IoprioClassIdle<<abi.IoprioClassShift); errno != 0 {
		t.Fatal(errno)
	}
	expect("io priority", "class 3")
	write(fmt.Sprintf("/proc/%d/oom_score_adj", pid), "78")
	expect("oom_score_adj", "78")
	if _, v1 := x.state.Cgroups["devices"]; v1 {
		write(filepath.Join(group("devices"), "devices.allow"), "c 1:4 r")
		expect("device rules", "c 1:4 r")
	}
	// Out of its cgroup, in the one hierarchy.
	elsewhere := filepath.Join(filepath.Dir(group("pids")), "elsewhere")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(elsewhere)
	write(filepath.Join(elsewhere, "cgroup.procs"), fmt.Sprint(pid))
	expect("control group", elsewhere)
	write(filepath.Join(group("pids"), "cgroup.procs"), fmt.Sprint(pid)) // for its end
}

// A terminal, a root that passes mounts on, and an image's own files in the place of links.
func TestVerifyRuntimeTerminal(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("exec sleep 1000")
	s.Process.Terminal = true
	s.Linux.RootfsPropagation = "shared"
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"}, specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts"})
	console := listen(t)
	p.good("run", "--detach", "--console-socket", console.path, "--bundle", bundle(t, s), "v")
	defer p.do("delete", "--force", "v")
	master := console.receive(t)
	defer unix.Close(master)
	m := measure(t, p)
	m.allOK()
	m.want("controlling terminal", verify.OK, "c 136:")
	m.want("mount /dev/console", verify.OK, "devpts")
	m.want("propagation of /", verify.OK, "shared")
}

// Mounts that are id-mapped, pass mounts on or do not, and show a file.
func TestVerifyRuntimeMounts(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("exec sleep 1000")
	source := nstest.Dir(t)
	bind := func(dest string, options ...string) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: dest, Type: "bind", Source: source, Options: append(options, "rbind")})
	}
	bind("/shared", "rshared", "ro")
	bind("/private", "rprivate", "nosuid")
	bind("/slave", "rslave")
	bind("/mapped", "idmap")
	mapped := &s.Mounts[len(s.Mounts)-1]
	mapped.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}}
	mapped.GIDMappings = mapped.UIDMappings
	p.good("run", "--detach", "--bundle", bundle(t, s), "v")
	defer p.do("delete", "--force", "v")
	m := measure(t, p)
	m.allOK()
	m.want("mount /shared", verify.OK, "rdonly")
	m.want("mount /shared", verify.OK, "shared")
	m.want("mount /private", verify.OK, "private")
	m.want("mount /mapped", verify.OK, "idmap")
	// Another one that looks the same, but for its mapping and its propagation.
	if out, err := exec.Command("nsenter", "-m", "-t", fmt.Sprint(m.pid), "/bin/busybox", "sh", "-c", "mount --bind /private /mapped && mount --make-private /shared").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	m = measure(t, p)
	m.want("mount /mapped", verify.Differs, "")
	m.want("mount /shared", verify.Differs, "private")
}
