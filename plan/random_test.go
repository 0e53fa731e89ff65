package plan

import (
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"

	"github.com/kakuri/kakuri/internal/golden"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestRandomSpecs compiles specs thrown together from words that mean something, odd
// ones among them: what byte-wise fuzzing of JSON hardly gets to. The seed is the
// number of the spec, so that one that fails can be had again.
func TestRandomSpecs(t *testing.T) {
	count := 800
	if testing.Short() {
		count = 200
	}
	hosts := fuzzHosts()
	plans, errs := 0, map[string]bool{}
	for seed := range uint64(count) {
		spec := randomSpec(rand.New(rand.NewPCG(seed, 7)))
		h := hosts[seed%uint64(len(hosts))]
		p, err := Compile(spec, h.facts, h.options)
		if err != nil {
			checkError(t, err)
			errs[err.Error()] = true
			continue
		}
		plans++
		if back := thereAndBack(t, p); !reflect.DeepEqual(back, p) {
			t.Errorf("seed %d: not the same after JSON:\n%s", seed, golden.Diff(p.Text(), back.Text()))
		}
		checkPlan(t, p, h.facts.Arch)
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, p.Text())
		}
	}
	// Else the words need care: nearly all specs are refused, or none is.
	if plans < count/5 || len(errs) < 15 {
		t.Errorf("%d specs gave %d plans and %d kinds of error", count, plans, len(errs))
	}
}

// A dice makes parts of specs.
type dice struct{ *rand.Rand }

func (d dice) maybe(percent int) bool { return d.IntN(100) < percent }

func pick[T any](d dice, list ...T) T { return list[d.IntN(len(list))] }

func some[T any](d dice, most int, one func() T) []T {
	var list []T
	for range d.IntN(most + 1) {
		list = append(list, one())
	}
	return list
}

func (d dice) path() string {
	return pick(d, "/", "/a", "/a/b", "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t", "/dev", "/dev/pts", "/dev/shm/x", "/proc", "/sys/fs/cgroup", "rel", "../up", "/a/../b",
		"", "//", "/a b\n  1  runtime", "/é\u202e", "/dev/null", "/dev/", "dev")
}

func (d dice) number() uint32 {
	return pick[uint32](d, 0, 1, 5, 999, 1000, 65534, 65536, 1<<31, 1<<32-1)
}

func (d dice) names() []string {
	return some(d, 3, func() string {
		return pick(d, "CAP_KILL", "CAP_SYS_ADMIN", "CAP_NET_RAW", "CAP_SETUID", "CAP_NONE\n", "kill", "")
	})
}

func randomSpec(r *rand.Rand) *specs.Spec {
	d := dice{r}
	s := &specs.Spec{Process: d.process(), Linux: d.linux(), Mounts: some(d, 5, d.mount)}
	if d.maybe(95) {
		s.Root = &specs.Root{Path: pick(d, "rootfs", "/srv/root", "/"), Readonly: d.maybe(30)}
	}
	if d.maybe(20) {
		s.Hostname, s.Domainname = pick(d, "box", "", "b\no"), pick(d, "", "example")
	}
	if d.maybe(30) {
		s.Hooks = d.hooks()
	}
	if d.maybe(5) {
		s.Process = nil
	}
	if d.maybe(5) {
		s.Linux = nil
	}
	return s
}

func (d dice) hooks() *specs.Hooks {
	hook := func() specs.Hook {
		h := specs.Hook{Path: pick(d, "/bin/a", "/x\n  9  container", "/bin/b", "/bin/c", d.path()), Args: pick(d, nil, []string{"a", "b c\n"}), Env: pick(d, nil, []string{"", "A=b"})}
		if d.maybe(30) {
			timeout := pick(d, 1, 1<<31, 5)
			h.Timeout = &timeout
		}
		return h
	}
	//lint:ignore SA1019 deprecated, and still what dockerd writes
	return &specs.Hooks{Prestart: some(d, 1, hook), CreateRuntime: some(d, 2, hook), CreateContainer: some(d, 2, hook), StartContainer: some(d, 1, hook), Poststop: some(d, 1, hook)}
}

func (d dice) process() *specs.Process {
	p := &specs.Process{Args: pick(d, []string{"sh"}, []string{"/bin/sh", "-c", "a\nb"}, []string{""}), Cwd: d.path(), NoNewPrivileges: d.maybe(50)}
	if d.maybe(3) {
		p.Args = nil
	}
	p.Env = some(d, 2, func() string { return pick(d, "A=b", "PATH=/a:/b", "PATH=", "") })
	p.User = specs.User{UID: d.number(), GID: d.number(), AdditionalGids: some(d, 3, d.number)}
	if d.maybe(20) {
		mask := d.number()
		p.User.Umask = &mask
	}
	if d.maybe(60) {
		p.Capabilities = &specs.LinuxCapabilities{Bounding: d.names(), Permitted: d.names(), Effective: d.names(), Inheritable: d.names(), Ambient: d.names()}
	}
	if d.maybe(15) {
		p.Terminal, p.ConsoleSize = true, &specs.Box{Height: uint(d.number()), Width: uint(d.number())}
	}
	if d.maybe(10) {
		p.Scheduler = &specs.Scheduler{Policy: pick[specs.LinuxSchedulerPolicy](d, "SCHED_RR", "SCHED_OTHER", "SCHED_ODD"), Nice: int32(d.number()), Runtime: uint64(d.number())}
	}
	if d.maybe(10) {
		p.IOPriority = &specs.LinuxIOPriority{Class: "IOPRIO_CLASS_BE", Priority: pick(d, 0, 7, 7, -1, 8)}
	}
	if d.maybe(10) {
		p.ExecCPUAffinity = &specs.CPUAffinity{Initial: pick(d, "", "0", "0-3,9", "9-0", "a"), Final: pick(d, "", "65535", "65536")}
	}
	if d.maybe(10) {
		p.ApparmorProfile, p.SelinuxLabel = pick(d, "", "a\nb"), pick(d, "", "l")
	}
	if d.maybe(20) {
		score := int(int32(d.number()))
		p.OOMScoreAdj = &score
	}
	if d.maybe(30) {
		p.Rlimits = some(d, 2, func() specs.POSIXRlimit {
			l := specs.POSIXRlimit{Type: pick(d, "RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_NPROC"), Hard: uint64(d.number())}
			if l.Soft = l.Hard; d.maybe(10) {
				l.Type, l.Soft = pick(d, "RLIMIT_LUCK", l.Type), l.Soft+1
			}
			return l
		})
	}
	return p
}

func (d dice) linux() *specs.Linux {
	l := &specs.Linux{MaskedPaths: some(d, 3, d.path), ReadonlyPaths: some(d, 3, d.path)}
	for _, kind := range []specs.LinuxNamespaceType{"pid", "user", "network", "uts", "ipc", "cgroup", "time"} {
		if d.maybe(40) {
			l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: kind, Path: pick(d, "", "", "", "/run/ns")})
		}
	}
	if d.maybe(92) {
		l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: "mount"})
	}
	if d.maybe(3) {
		l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: pick[specs.LinuxNamespaceType](d, "pid", "uts", "dream")})
	}
	d.Shuffle(len(l.Namespaces), func(i, j int) { l.Namespaces[i], l.Namespaces[j] = l.Namespaces[j], l.Namespaces[i] })
	mapping := func() specs.LinuxIDMapping {
		return specs.LinuxIDMapping{ContainerID: d.number(), HostID: d.number(), Size: d.number()}
	}
	l.UIDMappings, l.GIDMappings = append(some(d, 2, mapping), mapping()), append(some(d, 2, mapping), mapping())
	if d.maybe(10) {
		l.GIDMappings = nil
	}
	if d.maybe(20) {
		l.Sysctl = map[string]string{pick(d, "net.ipv4.ip_forward", "kernel.sem", "a/../b", "x\ny", ""): pick(d, "1", "a\nb", "")}
	}
	if d.maybe(10) {
		l.TimeOffsets = map[string]specs.LinuxTimeOffset{pick(d, "boottime", "monotonic", "realtime\n"): {Secs: pick[int64](d, 0, -1, 86400, 1<<62), Nanosecs: d.number()}}
	}
	if d.maybe(40) {
		l.Devices = some(d, 3, d.device)
	}
	if d.maybe(10) {
		l.NetDevices = map[string]specs.LinuxNetDevice{pick(d, "eth0", "", "a\nb"): {Name: pick(d, "", "x%d", "%s")}}
	}
	if d.maybe(10) {
		l.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: pick[specs.MemoryPolicyModeType](d, "MPOL_BIND", "MPOL_LOCAL", "MPOL_ODD"), Nodes: pick(d, "", "0", "1-5,7", "x", "0-99999")}
	}
	if d.maybe(10) {
		l.IntelRdt = &specs.LinuxIntelRdt{ClosID: pick(d, "", "gold", "/"), Schemata: pick(d, nil, []string{"L3:0=f\n"}), EnableMonitoring: d.maybe(50)}
	}
	if d.maybe(10) {
		l.MountLabel = pick(d, "l", "a,b=c")
	}
	if d.maybe(20) {
		l.Personality = &specs.LinuxPersonality{Domain: pick[specs.LinuxPersonalityDomain](d, "LINUX", "LINUX32", "OTHER")}
	}
	if d.maybe(30) {
		l.RootfsPropagation = pick(d, "private", "rshared", "slave", "unbindable", "odd")
	}
	if d.maybe(40) {
		l.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: pick[specs.LinuxSeccompAction](d, "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_ERRNO", "SCMP_ACT_ERRNO"),
			Architectures: []specs.Arch{"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"},
			Syscalls: some(d, 2, func() specs.LinuxSyscall {
				return specs.LinuxSyscall{Names: []string{"read", "write", "rt_sigprocmask"}, Action: "SCMP_ACT_ALLOW"}
			}),
		}
	}
	return l
}

func (d dice) device() specs.LinuxDevice {
	dev := specs.LinuxDevice{Path: d.path(), Type: pick(d, "c", "b", "u", "p"), Major: int64(d.number()) - 5, Minor: int64(d.number())}
	if d.maybe(30) {
		mode, uid, gid := os.FileMode(d.number()), d.number(), d.number()
		dev.FileMode, dev.UID, dev.GID = &mode, &uid, &gid
	}
	if d.maybe(3) {
		dev.Type = "x"
	}
	return dev
}

func (d dice) mount() specs.Mount {
	m := specs.Mount{Destination: d.path(), Source: d.path(), Type: pick(d, "tmpfs", "proc", "bind", "bind", "devpts", "cgroup", "mqueue")}
	if m.Destination == "/" || m.Destination == "" || m.Destination == "//" {
		m.Destination = pick(d, "/x", "/x", "/x", m.Destination)
	}
	words := []string{"ro", "rw", "nosuid", "rnodev", "noatime", "rrelatime", "strictatime", "rprivate", "shared", "defaults", "rbind"}
	m.Options = some(d, 4, func() string { return pick(d, words...) })
	if m.Type != "bind" {
		m.Options = append(m.Options, fmt.Sprintf("size=%d", d.number()), pick(d, "gid=5", "mode=755", "flag", ""))
	}
	if d.maybe(3) {
		m.Options = append(m.Options, pick(d, "idmap", "tmpcopyup", "copy-symlink", "src-nofollow", "dest-nofollow", "odd\n"))
	}
	return m
}
