package launch_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// An opCase is a plan that has one kind of operation in it, and what the kernel
// shows afterwards. The plan is also what fault_test.go breaks.
type opCase struct {
	name  string
	steps func(t testing.TB) []plan.Step
	check func(t *testing.T, steps []plan.Step) // nil when the plan only has to work
}

// viewed makes the check of a case whose plan ends in the probe.
func viewed(check func(t *testing.T, v view)) func(*testing.T, []plan.Step) {
	return func(t *testing.T, steps []plan.Step) { check(t, see(t, steps...)) }
}

// fixed is a plan that depends on nothing.
func fixed(steps ...plan.Step) func(testing.TB) []plan.Step {
	return func(testing.TB) []plan.Step { return steps }
}

// rooted is a plan in a fresh root file system.
func rooted(make func(root string) []plan.Step) func(testing.TB) []plan.Step {
	return func(t testing.TB) []plan.Step { return inRoot(nstest.RootFS(t), make("")...) }
}

// Registers that plans of the compiler give out.
const free, free2 = plan.RegCgroup + 1, plan.RegCgroup + 2

// all are all capabilities that this process has.
func all(t testing.TB) abi.CapSet {
	t.Helper()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
	return abi.CapSet(uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32)
}

// opCases is in the order of plan.Ops.
func opCases() []opCase {
	return slices.Concat(processCases(), idCases(), namespaceCases(), mountCases(), imageCases(), fuseCases())
}

func processCases() []opCase {
	return []opCase{
		{"execve", fixed(clone(), in(&plan.Exec{
			Args: []string{"probe", "argument with blank", ""}, Env: []string{"A=1", "B=", "A=2"}, Path: []string{"/nowhere", "", nstest.PartPath("")},
		})), func(t *testing.T, steps []plan.Step) {
			steps = slices.Clone(steps)
			steps[1] = in(&plan.Exec{Args: []string{"probe"}, Env: []string{"A=1", "B="}, Path: []string{"/nowhere", filepath.Dir(nstest.PartPath("x"))}})
			if v := see(t, steps...); !slices.Equal(v.Env, []string{"A=1", "B="}) {
				t.Errorf("environment %q: the caller's must not be in it", v.Env)
			}
			res := must(t, clone(), in(&plan.Exec{Args: []string{"/bin/sh", "-c", `echo "$0|$1|$#"`, "zero", "a b", ""}}))
			if res.out != "zero|a b|2\n" {
				t.Errorf("arguments: %q", res.out)
			}
		}},
		{"find program", fixed(clone(), in(&plan.FindProgram{Program: "sh", Path: []string{"/nowhere", "/etc/passwd", "/bin"}}), probeHere()), func(t *testing.T, steps []plan.Step) {
			must(t, steps...)
			for name, errno := range map[string]unix.Errno{"none": unix.ENOENT, "passwd": unix.EACCES, "/etc/passwd": unix.EACCES, "/etc/passwd/x": unix.ENOTDIR} {
				f := &plan.FindProgram{Program: name}
				if !strings.Contains(name, "/") {
					f.Path = []string{"/etc", "/nowhere"}
				}
				if _, err := launchSteps(t, launch.Options{}, steps[0], in(f), steps[2]); !errors.Is(err, errno) {
					t.Errorf("%s: %v, want %v", name, err, errno)
				}
			}
		}},
		{"open pts", fixed(clone(), in(&plan.Setsid{}), in(&plan.OpenPts{}), in(&plan.Terminal{}), in(&plan.Sync{From: plan.Container, What: "terminal made", FDs: []plan.Reg{plan.RegMaster}}),
			sh("test -t 0 && test -t 1 && test -t 2")), func(t *testing.T, steps []plan.Step) {
			must(t, steps...)
		}},
		{"default signals", fixed(clone(), in(&plan.DefaultSignals{Signals: []abi.Signal{abi.SIGHUP, abi.SIGINT}}), in(&plan.Exec{Args: []string{"/bin/cat", "/proc/self/status"}})), func(t *testing.T, steps []plan.Step) {
			signal.Ignore(unix.SIGHUP)
			defer signal.Reset(unix.SIGHUP)
			if out := must(t, steps...).out; !strings.Contains(out, "SigIgn:\t0000000000000000") {
				t.Errorf("%s", out)
			}
			if out := must(t, steps[0], steps[2]).out; !strings.Contains(out, "SigIgn:\t0000000000000001") {
				t.Errorf("without the step: %s", out)
			}
		}},
		{"umask", fixed(clone(), in(&plan.Umask{Mask: 0o027}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.Umask != 0o027 {
				t.Errorf("umask %04o", v.Umask)
			}
		})},
		{"setrlimit", fixed(clone(), in(&plan.Rlimit{Resource: abi.RlimitNofile, Soft: 100, Hard: 200}), probeHere()), viewed(func(t *testing.T, v view) {
			// Go raises the soft limit of its own process to the hard one.
			if v.NoFile[1] != 200 {
				t.Errorf("nofile %v", v.NoFile)
			}
		})},
		{"oom_score_adj", fixed(clone(), in(&plan.OpenSelf{}), in(&plan.OOMScoreAdj{Value: 321}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.OOM != "321" {
				t.Errorf("oom_score_adj %s", v.OOM)
			}
		})},
		{"open self", fixed(clone(), in(&plan.OpenSelf{}), in(&plan.OOMScoreAdj{Value: 12}), probeHere()), viewed(func(t *testing.T, v view) {
			// Writing through it reached the container's process, not the caller.
			if v.OOM != "12" || strings.TrimSpace(read("/proc/self/oom_score_adj")) == "12" {
				t.Errorf("inside %s, outside %s", v.OOM, read("/proc/self/oom_score_adj"))
			}
		})},
		{"plain chdir", fixed(clone(), in(&plan.PlainChdir{Path: "/usr/bin"}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.Cwd != "/usr/bin" {
				t.Errorf("in %s", v.Cwd)
			}
		})},
		{"open", fixed(rt(&plan.OpenFD{Path: "/usr/lib", Flags: abi.OPath, Out: free}), clone(), in(&plan.Fchdir{FD: free}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.Cwd != "/usr/lib" {
				t.Errorf("in %s", v.Cwd)
			}
		})},
		{"fchdir", fixed(rt(&plan.OpenFD{Path: "/usr/share", Flags: abi.OPath, Out: free}), clone(), in(&plan.Fchdir{FD: free}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.Cwd != "/usr/share" {
				t.Errorf("in %s", v.Cwd)
			}
		})},
		{"personality", fixed(clone(), in(&plan.Personality{Domain: 8}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.Personality&0xff != 8 {
				t.Errorf("personality %#x", v.Personality)
			}
		})},
		{"scheduler", fixed(clone(), in(&plan.Scheduler{Policy: abi.SchedBatch, Nice: 7, Flags: abi.SchedFlagResetOnFork}), in(&plan.Exec{Args: []string{"/bin/cat", "/proc/self/stat"}})), func(t *testing.T, steps []plan.Step) {
			out := must(t, steps...).out
			f := strings.Fields(out[strings.LastIndexByte(out, ')')+1:])
			if nice, policy := f[16], f[38]; nice != "7" || policy != fmt.Sprint(abi.SchedBatch) {
				t.Errorf("nice %s, policy %s", nice, policy)
			}
		}},
		{"io priority", fixed(clone(), in(&plan.IOPriority{Class: abi.IoprioClassBE, Level: 6}), in(&plan.Exec{Args: []string{"/usr/bin/ionice"}})), func(t *testing.T, steps []plan.Step) {
			if out := must(t, steps...).out; out != "best-effort: prio 6\n" {
				t.Errorf("%q", out)
			}
		}},
		{"memory policy", fixed(clone(), in(&plan.MemoryPolicy{Mode: abi.MpolBind | abi.MpolFlagStaticNodes, Nodes: []plan.Range{{}}}), in(&plan.Exec{Args: []string{"/bin/cat", "/proc/self/numa_maps"}})), func(t *testing.T, steps []plan.Step) {
			if out := must(t, steps...).out; !strings.Contains(out, " bind=static:0 ") {
				t.Errorf("%s", out)
			}
			if out := must(t, steps[0], in(&plan.MemoryPolicy{Mode: abi.MpolLocal}), steps[2]).out; !strings.Contains(out, " local ") {
				t.Errorf("%s", out)
			}
		}},
		{"affinity", func(t testing.TB) []plan.Step {
			cpus := processors(t)
			return []plan.Step{clone(), in(&plan.Affinity{CPUs: []plan.Range{{First: cpus[len(cpus)-1], Last: cpus[len(cpus)-1]}}}), in(&plan.Exec{Args: []string{"/bin/cat", "/proc/self/status"}})}
		}, func(t *testing.T, steps []plan.Step) {
			cpus := processors(t)
			if out := must(t, steps...).out; !strings.Contains(out, fmt.Sprintf("Cpus_allowed_list:\t%d\n", cpus[len(cpus)-1])) {
				t.Errorf("%s", out)
			}
		}},
		// Without a security module any file shows where it writes to.
		{"security label", fixed(clone(abi.NSMount), in(&plan.OpenProc{}), in(&plan.SecurityLabel{Path: "oom_score_adj", Text: "123"}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.OOM != "123" {
				t.Errorf("oom_score_adj %s", v.OOM)
			}
		})},
		{"key label", func(t testing.TB) []plan.Step {
			dir := nstest.Dir(t) // in the place of the process's
			if err := os.Mkdir(filepath.Join(dir, "attr"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "attr/keycreate"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return []plan.Step{rt(&plan.OpenFD{Path: dir, Flags: abi.OPath, Out: plan.RegSelf}), clone(), in(&plan.KeyLabel{Label: "u:r:t:s0"}), probeHere()}
		}, func(t *testing.T, steps []plan.Step) {
			must(t, steps...)
			file := filepath.Join(steps[0].Op.(*plan.OpenFD).Path, "attr/keycreate")
			if data, err := os.ReadFile(file); err != nil || string(data) != "u:r:t:s0" {
				t.Errorf("%v: written was %q", err, data)
			}
		}},
		{"keyring", fixed(clone(), in(&plan.Keyring{}), probeHere()), viewed(func(t *testing.T, v view) {
			if !strings.HasSuffix(v.Keyring, ";_ses") {
				t.Errorf("session keyring %q", v.Keyring)
			}
		})},
		{"setsid", fixed(clone(), in(&plan.Setsid{}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.SID != v.PID || v.PGID != v.PID {
				t.Errorf("pid %d in session %d, group %d", v.PID, v.SID, v.PGID)
			}
		})},
		{"die with parent", fixed(clone(), in(&plan.DieWithParent{}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.DeathSignal != int(unix.SIGKILL) {
				t.Errorf("parent death signal %d", v.DeathSignal)
			}
		})},
		{"sigmask", fixed(clone(), in(&plan.Sigmask{}), in(&plan.Exec{Args: []string{"/bin/cat", "/proc/self/status"}})), func(t *testing.T, steps []plan.Step) {
			const none = "0000000000000000"
			out := must(t, steps...).out
			if !strings.Contains(out, "SigBlk:\t"+none) || !strings.Contains(out, "SigCgt:\t"+none) {
				t.Errorf("%s", out)
			}
			// Without the step they stay blocked: that is what makes the clone safe.
			out = must(t, steps[0], steps[2]).out
			if !strings.Contains(out, "SigBlk:\tffff") && !strings.Contains(out, "SigBlk:\tfffffff") {
				t.Errorf("without the step: %s", out)
			}
		}},
		{"close_range", fixed(rt(&plan.OpenFD{Path: "/", Flags: abi.OPath, Out: free}), clone(), in(&plan.CloseFDs{First: 3}), probeHere()), viewed(func(t *testing.T, v view) {
			onlyStreams(t, v)
		})},
		{"loopback", fixed(clone(abi.NSNetwork), in(&plan.LoopbackUp{}), probeHere()), func(t *testing.T, steps []plan.Step) {
			outside := loopback()
			if v := see(t, steps...); v.Loopback != "up" {
				t.Errorf("lo is %s", v.Loopback)
			}
			if v := see(t, steps[0], steps[2]); v.Loopback != "down" {
				t.Errorf("without the step lo is %s", v.Loopback)
			}
			if got := loopback(); got != outside {
				t.Errorf("the caller's lo was %s, and is %s", outside, got)
			}
		}},
		{"sethostname", fixed(clone(abi.NSUTS), in(&plan.Hostname{Host: "inside"}), probeHere()), viewed(func(t *testing.T, v view) {
			if host, _ := os.Hostname(); v.Host != "inside" || host == "inside" {
				t.Errorf("inside %s, outside %s", v.Host, host)
			}
		})},
		{"setdomainname", fixed(clone(abi.NSUTS), in(&plan.Domainname{Domain: "example"}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.Domain != "example" {
				t.Errorf("domain %s", v.Domain)
			}
		})},
		{"sync", func(t testing.TB) []plan.Step {
			return []plan.Step{
				rt(&plan.OpenFD{Path: "/usr", Flags: abi.OPath, Out: free}), clone(),
				// There and back: the descriptor comes again under another register.
				in(&plan.Sync{From: plan.Container, What: "one", FDs: []plan.Reg{free}}),
				rt(&plan.Sync{From: plan.Runtime, What: "two", FDs: []plan.Reg{free}}),
				in(&plan.Fchdir{FD: free}), probeHere(),
			}
		}, viewed(func(t *testing.T, v view) {
			if v.Cwd != "/usr" {
				t.Errorf("in %s", v.Cwd)
			}
		})},
	}
}

// processors lists those that this process may run on.
func processors(t testing.TB) []uint32 {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	var list []uint32
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			list = append(list, uint32(i))
		}
	}
	return list
}

// onlyStreams wants no descriptor but 0 to 2 and the one that listed them.
func onlyStreams(t *testing.T, v view) {
	t.Helper()
	for n, to := range v.FDs {
		switch {
		case n == "0" || n == "1" || n == "2":
		case to == "" || strings.HasSuffix(to, "/fd"): // of the listing
		case strings.HasPrefix(to, "anon_inode:[event") || strings.HasPrefix(to, "/sys/fs/cgroup/"): // of the Go runtime
		default:
			t.Errorf("descriptor %s is %s", n, to)
		}
	}
}

func idCases() []opCase {
	chown, kill := abi.Caps(abi.CapChown), abi.Caps(abi.CapKill)
	hex := func(s abi.CapSet) string { return fmt.Sprintf("%016x", uint64(s)) }
	return []opCase{
		{"write id map", fixed(inUserNS(in(&plan.Setresgid{}), in(&plan.Setresuid{}), probeHere())...), func(t *testing.T, steps []plan.Step) {
			held(t, func(pid int) {
				for _, f := range []string{"uid_map", "gid_map"} {
					if got := strings.Join(strings.Fields(read(fmt.Sprintf("/proc/%d/%s", pid, f))), " "); got != "0 100000 1000" {
						t.Errorf("%s: %q", f, got)
					}
				}
			}, slices.Insert(slices.Clone(steps), len(steps)-1, start())...)
			if v := see(t, steps...); v.UID != [3]int{} || v.GID != [3]int{} {
				t.Errorf("ids inside %v %v", v.UID, v.GID)
			}
		}},
		{"deny setgroups", fixed(
			clone(abi.NSUser), rt(&plan.DenySetgroups{}), rt(&plan.WriteIDMap{Group: true, Map: []plan.IDMapping{{Size: 1}}}), start(), probeHere(),
		), func(t *testing.T, steps []plan.Step) {
			held(t, func(pid int) {
				if got := read(fmt.Sprintf("/proc/%d/setgroups", pid)); got != "deny\n" {
					t.Errorf("setgroups: %q", got)
				}
			}, steps...)
		}},
		{"setgroups", fixed(clone(), in(&plan.Setgroups{Groups: []uint32{7, 9}}), probeHere()), func(t *testing.T, steps []plan.Step) {
			if v := see(t, steps...); !slices.Equal(v.Groups, []int{7, 9}) {
				t.Errorf("groups %v", v.Groups)
			}
			if v := see(t, clone(), in(&plan.Setgroups{Groups: []uint32{7}}), in(&plan.Setgroups{}), probeHere()); len(v.Groups) != 0 {
				t.Errorf("groups %v", v.Groups)
			}
		}},
		{"setresgid", fixed(clone(), in(&plan.Setresgid{GID: 77}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.GID != [3]int{77, 77, 77} {
				t.Errorf("gid %v", v.GID)
			}
		})},
		{"setresuid", fixed(clone(), in(&plan.Setresuid{UID: 88}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.UID != [3]int{88, 88, 88} || v.Status["CapEff"] != hex(0) {
				t.Errorf("uid %v, capabilities %s", v.UID, v.Status["CapEff"])
			}
		})},
		{"drop bounding", fixed(clone(), in(&plan.DropBounding{Keep: chown | kill, Last: abi.LastCap - 1}), probeHere()), func(t *testing.T, _ []plan.Step) {
			v := see(t, clone(), in(&plan.DropBounding{Keep: chown | kill, Last: lastCap()}), probeHere())
			if v.Status["CapBnd"] != hex(chown|kill) || v.Status["CapPrm"] != hex(chown|kill) {
				t.Errorf("bounding %s, permitted after execve %s", v.Status["CapBnd"], v.Status["CapPrm"])
			}
		}},
		{"capset", fixed(clone(), in(&plan.Capset{Effective: chown, Permitted: chown | kill, Inheritable: kill}), start(), probeHere()), func(t *testing.T, steps []plan.Step) {
			held(t, func(pid int) {
				for key, want := range map[string]abi.CapSet{"CapEff": chown, "CapPrm": chown | kill, "CapInh": kill} {
					if got := statusOf(t, pid, key); got != hex(want) {
						t.Errorf("%s %s, want %s", key, got, hex(want))
					}
				}
			}, steps...)
		}},
		{"ambient", fixed(
			clone(), in(&plan.KeepCaps{On: true}), in(&plan.Setresuid{UID: 88}), in(&plan.Capset{Effective: kill, Permitted: kill, Inheritable: kill}),
			in(&plan.Ambient{Caps: kill}), probeHere(),
		), viewed(func(t *testing.T, v view) {
			if v.Status["CapAmb"] != hex(kill) || v.Status["CapEff"] != hex(kill) {
				t.Errorf("ambient %s, effective after execve %s", v.Status["CapAmb"], v.Status["CapEff"])
			}
		})},
		{"stub", fixed(append(carrying(kill, abi.Caps(abi.CapDACOverride)), in(&plan.Exec{Args: []string{nstest.PartPath("probe")}, Stub: true}))...), viewed(func(t *testing.T, v view) {
			for key, want := range map[string]abi.CapSet{"CapInh": kill, "CapPrm": kill, "CapEff": kill, "CapAmb": kill} {
				if v.Status[key] != hex(want) {
					t.Errorf("%s %s, want %s", key, v.Status[key], hex(want))
				}
			}
		})},
		{"keepcaps", fixed(clone(), in(&plan.KeepCaps{On: true}), in(&plan.Setresuid{UID: 88}), start(), probeHere()), func(t *testing.T, steps []plan.Step) {
			held(t, func(pid int) {
				if got := statusOf(t, pid, "CapPrm"); got != hex(all(t)) {
					t.Errorf("permitted %s, want %s", got, hex(all(t)))
				}
			}, steps...)
			off := slices.Insert(slices.Clone(steps), 2, in(&plan.KeepCaps{}))
			held(t, func(pid int) {
				if got := statusOf(t, pid, "CapPrm"); got != hex(0) {
					t.Errorf("permitted %s after keepcaps off", got)
				}
			}, off...)
		}},
		{"no_new_privs", fixed(clone(), in(&plan.NoNewPrivs{}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.Status["NoNewPrivs"] != "1" {
				t.Errorf("NoNewPrivs %s", v.Status["NoNewPrivs"])
			}
		})},
		{"seccomp", fixed(clone(), in(&plan.NoNewPrivs{}), in(&plan.Seccomp{Filter: denying(abi.CallNone, "getsockopt")}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.Status["Seccomp"] != "2" || v.Deny != unix.Errno(injected).Error() {
				t.Errorf("mode %s, the refused call says %q", v.Status["Seccomp"], v.Deny)
			}
		})},
		{"undumpable", func(t testing.TB) []plan.Step {
			return []plan.Step{clone(), in(&plan.Undumpable{}), start(), probeHere()}
		}, func(t *testing.T, steps []plan.Step) {
			u := nstest.User(t)
			nstest.Inside(t, nstest.Place{User: u}, func(t *testing.T) {
				// The files of such a process are root's, and nobody else may look.
				held(t, func(pid int) {
					var st unix.Stat_t
					if err := unix.Stat(fmt.Sprintf("/proc/%d/fd", pid), &st); err != nil || st.Uid != 0 {
						t.Errorf("%v: owner %d", err, st.Uid)
					}
					if _, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
						t.Error("its own user reads /proc/PID/exe")
					}
				}, steps...)
				if v := see(t, steps...); v.Dumpable != 1 {
					t.Errorf("dumpable %d after execve", v.Dumpable)
				}
			})
		}},
	}
}

// lastCap is the highest capability of this kernel.
func lastCap() abi.Capability {
	var n int
	fmt.Sscan(read("/proc/sys/kernel/cap_last_cap"), &n)
	return abi.Capability(n)
}

func namespaceCases() []opCase {
	return []opCase{
		{"clone", fixed(clone(abi.NSPID, abi.NSMount, abi.NSNetwork, abi.NSUTS, abi.NSIPC, abi.NSCgroup), start(), probeHere()), func(t *testing.T, steps []plan.Step) {
			held(t, func(pid int) {
				for _, ns := range []string{"pid", "mnt", "net", "uts", "ipc", "cgroup"} {
					if nsOf(t, pid, ns) == nsOf(t, os.Getpid(), ns) {
						t.Errorf("shares the %s namespace", ns)
					}
				}
				for _, ns := range []string{"user", "time"} {
					if nsOf(t, pid, ns) != nsOf(t, os.Getpid(), ns) {
						t.Errorf("has a %s namespace of its own", ns)
					}
				}
			}, steps...)
		}},
		{"open namespace", func(t testing.TB) []plan.Step { return joinUTS(t, hold(t, unix.CLONE_NEWUTS)) }, nil},
		{"setns", func(t testing.TB) []plan.Step { return joinUTS(t, hold(t, unix.CLONE_NEWUTS)) }, func(t *testing.T, _ []plan.Step) {
			join := func(pid int, ns abi.Namespace) {
				v := see(t,
					rt(&plan.OpenNamespace{NS: ns, Path: fmt.Sprintf("/proc/%d/ns/%s", pid, ns.ProcName()), Out: free}),
					clone(), in(&plan.Setns{NS: ns, FD: free}), probeHere())
				if v.NS[ns.ProcName()] != nsOf(t, pid, ns.ProcName()) {
					t.Errorf("%s: in %s, not %s", ns, v.NS[ns.ProcName()], nsOf(t, pid, ns.ProcName()))
				}
			}
			pid := hold(t, unix.CLONE_NEWUTS|unix.CLONE_NEWIPC|unix.CLONE_NEWNET|unix.CLONE_NEWNS|unix.CLONE_NEWCGROUP)
			for _, ns := range []abi.Namespace{abi.NSUTS, abi.NSIPC, abi.NSNetwork, abi.NSMount, abi.NSCgroup} {
				join(pid, ns)
			}
			// A Go program that unshared its time namespace gets no thread from Linux 6.1, which lets
			// no execve enter it, so the holder is a plan that enters.
			held(t, func(pid int) { join(pid, abi.NSTime) },
				clone(), in(&plan.OpenSelf{}), in(&plan.EnterTime{Boottime: 5e9}), start(), probeHere())
		}},
		{"unshare", fixed(clone(), in(&plan.Unshare{New: []abi.Namespace{abi.NSUTS, abi.NSIPC}}), probeHere()), viewed(func(t *testing.T, v view) {
			for _, ns := range []string{"uts", "ipc"} {
				if v.NS[ns] == nsOf(t, os.Getpid(), ns) {
					t.Errorf("shares the %s namespace", ns)
				}
			}
			if v.NS["mnt"] != nsOf(t, os.Getpid(), "mnt") {
				t.Error("has a mount namespace of its own")
			}
		})},
		{"enter time", fixed(clone(), in(&plan.OpenSelf{}), in(&plan.EnterTime{Boottime: 86400e9 + 5, Monotonic: -1500e6}), probeHere()), viewed(func(t *testing.T, v view) {
			got := strings.Join(strings.Fields(v.Offsets), " ")
			if got != "monotonic -2 500000000 boottime 86400 5" || v.NS["time"] == nsOf(t, os.Getpid(), "time") {
				t.Errorf("offsets %q in %s", got, v.NS["time"])
			}
		})},
		{"fork", func(t testing.TB) []plan.Step { return joinPID(hold(t, unix.CLONE_NEWPID)) }, viewed(func(t *testing.T, v view) {
			if v.PID == 1 || v.PPID != 0 || v.NS["pid"] == nsOf(t, os.Getpid(), "pid") {
				t.Errorf("pid %d, parent %d, %s", v.PID, v.PPID, v.NS["pid"])
			}
		})},
		{"init", fixed(clone(abi.NSPID), in(&plan.Init{}), probeHere()), viewed(func(t *testing.T, v view) {
			if v.PID != 2 || v.PPID != 1 {
				t.Errorf("pid %d, parent %d", v.PID, v.PPID)
			}
		})},
		{"open socket namespace", func(t testing.TB) []plan.Step {
			s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Close(s) })
			return []plan.Step{
				rt(&plan.OpenSocketNamespace{PID: os.Getpid(), Socket: s, Out: free}),
				clone(abi.NSNetwork), in(&plan.Setns{NS: abi.NSNetwork, FD: free}), probeHere(),
			}
		}, viewed(func(t *testing.T, v view) {
			if ours := nsOf(t, os.Getpid(), "net"); v.NS["net"] != ours {
				t.Errorf("in %s, not in %s, which the socket is of", v.NS["net"], ours)
			}
		})},
		{"enter cgroup", func(t testing.TB) []plan.Step {
			dir := nstest.Dir(t)
			if err := unix.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
				t.Fatal(err)
			}
			group := filepath.Join(dir, fmt.Sprintf("kakuri-enter-%d", time.Now().UnixNano()))
			t.Cleanup(func() {
				if err := os.Remove(group); err != nil {
					t.Error(err)
				}
				unix.Unmount(dir, unix.MNT_DETACH)
			})
			if err := os.Mkdir(group, 0o755); err != nil {
				t.Fatal(err)
			}
			return []plan.Step{
				rt(&plan.OpenFD{Path: group + "/cgroup.procs", Flags: abi.OWronly, Out: free}), clone(), in(&plan.EnterCgroup{Files: []plan.Reg{free}}), sh("cat /proc/self/cgroup"),
			}
		}, func(t *testing.T, steps []plan.Step) {
			group := filepath.Base(filepath.Dir(steps[0].Op.(*plan.OpenFD).Path))
			if out := must(t, steps...).out; !strings.Contains(out, "0::/"+group+"\n") {
				t.Errorf("in %s, not in %s", out, group)
			}
		}},
		{"register binfmt", func(t testing.TB) []plan.Step {
			own := []plan.IDMapping{{Size: 1}}
			begin := []plan.Step{clone(abi.NSUser, abi.NSMount), rt(&plan.WriteIDMap{Map: own}), rt(&plan.WriteIDMap{Group: true, Map: own}), start(), in(&plan.OpenRoot{Path: "/"})}
			register := in(&plan.RegisterBinfmt{Dir: "/mnt", Interp: ":hand:E::hand::/bin/cat:"})
			steps := append(begin[:len(begin):len(begin)], in(&plan.Mount{Type: "binfmt_misc", Source: "binfmt_misc", Dest: "/mnt", There: true}))
			if _, err := launchSteps(t, launch.Options{}, append(steps[:len(steps):len(steps)], sh("true"))...); !errors.Is(err, unix.EPERM) {
				return append(steps, register, sh("cat /mnt/hand"))
			}
			// Before Linux 6.7 there is one list for all of the machine: a file stands in for it, of which sed tells as the kernel does.
			dir := nstest.Dir(t)
			if err := os.WriteFile(dir+"/register", nil, 0o666); err != nil {
				t.Fatal(err)
			}
			return append(begin, in(&plan.Bind{Source: dir, Dest: "/mnt"}), register, sh("sed 's,.*:\\(/.*\\):,interpreter \\1,' /mnt/register"))
		}, func(t *testing.T, steps []plan.Step) {
			if out := must(t, steps...).out; !strings.Contains(out, "interpreter /bin/cat") {
				t.Errorf("%s", out)
			}
		}},
		{"keep namespace", func(t testing.TB) []plan.Step {
			file := filepath.Join(nstest.Dir(t), "uts")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount(file, unix.MNT_DETACH) })
			return []plan.Step{
				clone(abi.NSUTS), rt(&plan.KeepNamespace{NS: abi.NSUTS, Path: file}), start(), in(&plan.Hostname{Host: "kept"}), probeHere(),
			}
		}, func(t *testing.T, steps []plan.Step) {
			see(t, steps...)
			file := steps[1].Op.(*plan.KeepNamespace).Path
			v := see(t, rt(&plan.OpenNamespace{NS: abi.NSUTS, Path: file, Out: free}), clone(), in(&plan.Setns{NS: abi.NSUTS, FD: free}), probeHere())
			if v.Host != "kept" {
				t.Errorf("host name %q in the kept namespace", v.Host)
			}
		}},
	}
}

// joinUTS joins the uts namespace of a process.
func joinUTS(_ testing.TB, pid int) []plan.Step {
	return []plan.Step{
		rt(&plan.OpenNamespace{NS: abi.NSUTS, Path: fmt.Sprintf("/proc/%d/ns/uts", pid), Out: free}),
		clone(), in(&plan.Setns{NS: abi.NSUTS, FD: free}), probeHere(),
	}
}

// joinPID joins the pid namespace of a process.
func joinPID(pid int) []plan.Step {
	return []plan.Step{
		rt(&plan.OpenNamespace{NS: abi.NSPID, Path: fmt.Sprintf("/proc/%d/ns/pid", pid), Out: free}),
		clone(), in(&plan.Setns{NS: abi.NSPID, FD: free}), in(&plan.Fork{}), probeHere(),
	}
}

func mountCases() []opCase {
	return []opCase{
		{"propagation", rooted(func(string) []plan.Step { return nil }), func(t *testing.T, _ []plan.Step) {
			for mode, want := range map[string]string{"private": "", "slave": "master:", "shared": "shared:", "unbindable": "unbindable"} {
				shared := nstest.Dir(t)
				if err := unix.Mount("test", shared, "tmpfs", 0, ""); err != nil {
					t.Fatal(err)
				}
				defer unix.Unmount(shared, unix.MNT_DETACH)
				if err := unix.Mount("", shared, "", unix.MS_SHARED, ""); err != nil {
					t.Fatal(err)
				}
				v := see(t, clone(abi.NSMount), in(&plan.Propagation{Path: shared, Mode: mode}), probeHere())
				if _, peers, _ := mountOf(v.Mounts, shared); !strings.HasPrefix(peers, want) || (want == "" && peers != "") {
					t.Errorf("%s: %q", mode, peers)
				}
			}
		}},
		{"open root", func(t testing.TB) []plan.Step {
			return []plan.Step{clone(), in(&plan.OpenRoot{Path: nstest.RootFS(t)}), in(&plan.Chroot{}), sh("ls -d /srv/web; pwd")}
		}, nil},
		{"chroot", func(t testing.TB) []plan.Step {
			return []plan.Step{clone(), in(&plan.OpenRoot{Path: nstest.RootFS(t)}), in(&plan.Chroot{}), sh("ls -d /srv/web; pwd")}
		}, func(t *testing.T, steps []plan.Step) {
			if res := must(t, steps...); res.out != "/srv/web\n/\n" {
				t.Errorf("%q", res.out)
			}
		}},
		{"leave chroot", func(t testing.TB) []plan.Step {
			root := nstest.RootFS(t)
			proc := filepath.Join(root, "proc")
			if err := unix.Mount("proc", proc, "proc", 0, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount(proc, unix.MNT_DETACH) })
			return []plan.Step{
				clone(abi.NSMount), in(&plan.OpenRoot{Path: root}), in(&plan.Chroot{}), in(&plan.LeaveChroot{}), start(), sh("cut -d' ' -f5 /proc/self/mountinfo; pwd"),
			}
		}, func(t *testing.T, steps []plan.Step) {
			// Who joins a mount namespace gets its root: that of the machine, unless that is gone.
			joined := func(pid int) string {
				out, _ := exec.Command("nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", pid), "ls", "/srv").CombinedOutput()
				return string(out)
			}
			held(t, func(pid int) {
				if got := joined(pid); got != "web\n" {
					t.Errorf("joining finds %q", got)
				}
			}, steps...)
			if res := must(t, steps...); res.out != "/\n/proc\n/\n" {
				t.Errorf("%q", res.out)
			}
			held(t, func(pid int) {
				if got := joined(pid); got == "web\n" {
					t.Error("a chroot alone does the same")
				}
			}, slices.Delete(slices.Clone(steps), 3, 4)...)
			// The caller's root directory may be a mount, and shared.
			root := steps[1].Op.(*plan.OpenRoot).Path
			if err := unix.Mount(root, root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
				t.Fatal(err)
			}
			defer unix.Unmount(root, unix.MNT_DETACH)
			for _, on := range []string{root, "/"} {
				if err := unix.Mount("", on, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
					t.Fatal(err)
				}
			}
			defer unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "")
			before := read("/proc/self/mountinfo")
			if res := must(t, steps...); res.out != "/\n/proc\n/\n" {
				t.Errorf("%q", res.out)
			}
			if after := read("/proc/self/mountinfo"); after != before {
				t.Errorf("the caller's mounts were\n%sand are\n%s", before, after)
			}
		}},
		{"open_tree", func(t testing.TB) []plan.Step {
			src := nstest.Dir(t)
			if err := os.WriteFile(filepath.Join(src, "file"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(filepath.Join(src, "file"), 7, 8); err != nil {
				t.Fatal(err)
			}
			ids := []plan.IDMapping{{Inside: 0, Outside: 100000, Size: 1000}}
			return []plan.Step{
				clone(abi.NSUser, abi.NSMount), rt(&plan.WriteIDMap{Map: ids}), rt(&plan.WriteIDMap{Group: true, Map: ids}),
				rt(&plan.OpenTree{Path: nstest.RootFS(t), IDMap: true, Recursive: true, Out: free}),
				rt(&plan.OpenTree{Path: src, IDMap: true, Attrs: plan.Attrs{Set: abi.MountAttrRdonly}, Out: free2}),
				rt(&plan.Sync{From: plan.Runtime, What: "trees", FDs: []plan.Reg{free, free2}}),
				in(&plan.Setresgid{}), in(&plan.Setresuid{}),
				in(&plan.AttachRoot{Tree: free}), in(&plan.Bind{Tree: free2, Dest: "/data"}), in(&plan.PivotRoot{}),
				sh("stat -c '%u %g' /data/file; touch /data/x 2>/dev/null || echo read-only"),
			}
		}, func(t *testing.T, steps []plan.Step) {
			if res := must(t, steps...); res.out != "7 8\nread-only\n" {
				t.Errorf("%q: ids on disk are not those inside", res.out)
			}
		}},
		{"attach root", rooted(func(string) []plan.Step { return nil }), viewed(func(t *testing.T, v view) {
			if !slices.Contains(v.Dir, "srv") || slices.Contains(v.Dir, "boot") || v.Cwd != "/" {
				t.Errorf("in %s, / has %v", v.Cwd, v.Dir)
			}
			hostGone(t, v)
		})},
		{"scratch", overlayRoot, nil},
		{"overlay", overlayRoot, func(t *testing.T, steps []plan.Step) {
			lower := steps[3].Op.(*plan.Overlay).Path
			steps[len(steps)-1] = sh("echo new >/etc/passwd; rm /etc/group; touch /made; cat /etc/passwd; ls /etc")
			res := must(t, steps...)
			if res.out != "new\npasswd\n" {
				t.Errorf("%q", res.out)
			}
			if read(filepath.Join(lower, "etc/passwd")) != nstest.Passwd || read(filepath.Join(lower, "etc/group")) == "" {
				t.Error("what was written inside reached the lower layer")
			}
			if _, err := os.Lstat(filepath.Join(lower, "made")); err == nil {
				t.Error("what was made inside reached the lower layer")
			}
		}},
		{"empty root", func(t testing.TB) []plan.Step {
			return []plan.Step{
				clone(abi.NSMount), in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}), in(&plan.Scratch{}), in(&plan.EmptyRoot{}),
				in(&plan.Overlay{Path: nstest.RootFS(t), Dest: "/bin2"}), in(&plan.Symlink{Target: "bin2/bin", Path: "/bin"}),
				in(&plan.PivotRoot{Scratch: true}), sh("ls /"),
			}
		}, func(t *testing.T, steps []plan.Step) {
			if res := must(t, steps...); res.out != "bin\nbin2\n" {
				t.Errorf("%q", res.out)
			}
		}},
		{"layer directory", layeredRoot, func(t *testing.T, steps []plan.Step) {
			steps[len(steps)-1] = sh("stat -c '%a %u:%g' /etc /home; ls -A /home")
			if res := must(t, steps...); res.out != "775 3:4\n1777 0:0\n" {
				t.Errorf("%q", res.out)
			}
		}},
		{"whiteout", layeredRoot, func(t *testing.T, steps []plan.Step) {
			steps[len(steps)-1] = sh("ls -A / | grep -E 'home|srv'; ls /etc; cat /etc/passwd 2>/dev/null || echo hidden; echo new >/etc/passwd; cat /etc/passwd")
			if res := must(t, steps...); res.out != "home\nclosed\ngroup\nhidden\nnew\n" {
				t.Errorf("%q", res.out)
			}
		}},
		{"public layer", layeredRoot, func(t *testing.T, steps []plan.Step) {
			// Root with every capability; what it makes itself is its own.
			steps[len(steps)-1] = sh("id -u; cat /etc/group | wc -l; for f in /etc/closed /root/file; do cat $f 2>/dev/null || echo refused; done; ls /root 2>/dev/null; " +
				"rm /etc/closed && umask 077 && echo mine >/etc/closed && cat /etc/closed; rm -r /root/file 2>/dev/null; echo x >>/etc/group && wc -l </etc/group")
			if res := must(t, steps...); res.out != "0\n5\nrefused\nrefused\nmine\n6\n" {
				t.Errorf("%q", res.out)
			}
			// Without an id of its own to look with, there is no such layer.
			ids := []plan.IDMapping{{Inside: 0, Outside: 100000, Size: 1000}}
			steps = slices.Concat([]plan.Step{clone(abi.NSUser, abi.NSMount), rt(&plan.WriteIDMap{Map: ids}), rt(&plan.WriteIDMap{Group: true, Map: ids}), rt(&plan.Sync{What: "go on"}), in(&plan.Setresgid{}), in(&plan.Setresuid{})}, steps[1:])
			_, err := launchSteps(t, launch.Options{}, steps...)
			if err == nil {
				t.Fatal("a layer that shows everything")
			}
			if e := step(t, err); e.Step.Op.Name() != "public layer" || e.Errno() != unix.EPERM {
				t.Error(err)
			}
		}},
		{"open source", func(t testing.TB) []plan.Step { return closedSource(t, false) }, func(t *testing.T, steps []plan.Step) { checkSource(t, steps) }},
		{"open host", func(t testing.TB) []plan.Step { return closedSource(t, true) }, func(t *testing.T, steps []plan.Step) { checkSource(t, steps) }},
		{"idmap", func(t testing.TB) []plan.Step {
			root, src := nstest.RootFS(t), nstest.Dir(t)
			for _, d := range []string{"deep", "inner"} {
				if err := os.Mkdir(filepath.Join(src, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range []string{src, filepath.Join(src, "deep")} {
				if err := os.Chown(p, 7, 8); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(filepath.Join(root, "again"), 0o755); err != nil {
				t.Fatal(err)
			}
			ids := []plan.IDMapping{{Inside: 0, Outside: 100000, Size: 1000}}
			return []plan.Step{
				clone(abi.NSUser, abi.NSMount), rt(&plan.WriteIDMap{Map: ids}), rt(&plan.WriteIDMap{Group: true, Map: ids}),
				rt(&plan.Sync{From: plan.Runtime, What: "id maps written"}), in(&plan.Setresgid{}), in(&plan.Setresuid{}), in(&plan.AttachRoot{Path: root}),
				in(&plan.Bind{Source: src, Dest: "/srv"}), in(&plan.Bind{Source: root, Dest: "/srv/inner"}),
				in(&plan.OpenTree{Path: "/srv", Inside: true, Recursive: true, Out: free}),
				in(&plan.Sync{From: plan.Container, What: "tree opened", FDs: []plan.Reg{free}}),
				rt(&plan.IDMapTree{Tree: free}), rt(&plan.Sync{From: plan.Runtime, What: "id-mapped"}),
				in(&plan.Bind{Tree: free, Dest: "/again"}), in(&plan.PivotRoot{}),
				sh("stat -c %u:%g /srv/deep /again/deep /srv/inner/etc /again/inner/etc"),
			}
		}, func(t *testing.T, steps []plan.Step) {
			// Of the mounts below nothing is mapped, unless that is asked for.
			if res := must(t, steps...); res.out != "65534:65534\n7:8\n65534:65534\n65534:65534\n" {
				t.Errorf("%q", res.out)
			}
			for _, s := range steps {
				if op, ok := s.Op.(*plan.IDMapTree); ok {
					op.Recursive = true
				}
			}
			if res := must(t, steps...); res.out != "65534:65534\n7:8\n65534:65534\n0:0\n" {
				t.Errorf("recursive: %q", res.out)
			}
		}},
		{"borrow mount", func(t testing.TB) []plan.Step {
			c := exec.Command("/bin/sh", "-c", "mount -t tmpfs x /mnt && echo theirs >/mnt/x && echo ready && cat")
			c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
			pid := background(t, c)
			return []plan.Step{
				rt(&plan.OpenNamespace{NS: abi.NSMount, Path: fmt.Sprintf("/proc/%d/ns/mnt", pid), Out: free}), clone(abi.NSMount),
				in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}), in(&plan.OpenSelf{}), in(&plan.BorrowMount{NS: free, Path: "/mnt", Out: free + 1}),
				in(&plan.OpenRoot{Path: "/"}), in(&plan.Bind{Tree: free + 1, Source: "/mnt", Dest: "/mnt"}),
				sh("cat /mnt/x; echo back >/mnt/y; pwd; grep -c ' /mnt ' /proc/self/mountinfo; readlink /proc/self/ns/mnt"),
			}
		}, func(t *testing.T, steps []plan.Step) {
			res := must(t, steps...)
			ns := steps[0].Op.(*plan.OpenNamespace).Path
			theirs, err := os.Readlink(ns)
			if err != nil {
				t.Fatal(err)
			}
			if want := "theirs\n/\n1\nmnt:["; !strings.HasPrefix(res.out, want) || strings.Contains(res.out, theirs) {
				t.Errorf("%q, want %s and another than %s", res.out, want, theirs)
			}
			if got := read(strings.TrimSuffix(ns, "ns/mnt") + "root/mnt/y"); got != "back\n" {
				t.Errorf("the other one sees %q", got)
			}
		}},
		{"empty directory", func(t testing.TB) []plan.Step {
			steps := overlayRoot(t)
			return slices.Insert(steps, 4, in(&plan.EmptyDir{N: 3, Path: "/srv", Mode: 0o711}))
		}, func(t *testing.T, steps []plan.Step) {
			steps[len(steps)-1] = sh("ls -A /srv; stat -c %a /srv; touch /srv/x && ls /srv; grep -c ' /srv .*nosuid,nodev' /proc/self/mountinfo")
			steps = slices.Insert(steps, 5, in(&plan.Mount{Type: "proc", Source: "proc", Dest: "/proc"}))
			if res := must(t, steps...); res.out != "711\nx\n1\n" {
				t.Errorf("%q", res.out)
			}
		}},
		{"mount", rooted(func(string) []plan.Step {
			return []plan.Step{in(&plan.Mount{
				Type: "tmpfs", Source: "name", Dest: "/new/deep", Options: []string{"size=64k", "mode=0711"},
				Attrs: plan.Attrs{Set: abi.MountAttrRdonly | abi.MountAttrNosuid | abi.MountAttrNoexec}, Mode: "shared",
			})}
		}), viewed(func(t *testing.T, v view) {
			options, peers, fs := mountOf(v.Mounts, "/new/deep")
			if options != "ro,nosuid,noexec,relatime" || !strings.HasPrefix(peers, "shared:") || !strings.HasPrefix(fs, "tmpfs name ") ||
				!strings.Contains(fs, "size=64k") || !strings.Contains(fs, "mode=711") {
				t.Errorf("%q %q %q", options, peers, fs)
			}
		})},
		{"bind", func(t testing.TB) []plan.Step {
			src := nstest.Dir(t)
			if err := os.WriteFile(filepath.Join(src, "file"), []byte("content"), 0o644); err != nil {
				t.Fatal(err)
			}
			return inRoot(nstest.RootFS(t),
				in(&plan.Bind{Source: src, Dest: "/data", Attrs: plan.Attrs{Set: abi.MountAttrRdonly | abi.MountAttrNodev}, Mode: "slave"}),
				in(&plan.Bind{Source: filepath.Join(src, "file"), Dest: "/etc/made/file"}))
		}, func(t *testing.T, steps []plan.Step) {
			v := see(t, steps...)
			if options, _, _ := mountOf(v.Mounts, "/data"); !strings.HasPrefix(options, "ro,") || !strings.Contains(options, "nodev") {
				t.Errorf("%q", options)
			}
			steps[len(steps)-1] = sh("cat /data/file /etc/made/file; touch /data/x 2>/dev/null || echo ro; echo changed >/etc/made/file")
			if res := must(t, steps...); res.out != "contentcontentro\n" {
				t.Errorf("%q", res.out)
			}
			if got := read(filepath.Join(steps[5].Op.(*plan.Bind).Source, "file")); got != "changed\n" {
				t.Errorf("a file that was bound to be written has %q", got)
			}
		}},
		{"mask", func(t testing.TB) []plan.Step {
			steps := inRoot(nstest.RootFS(t), in(&plan.Mask{Path: "/etc/passwd"}), in(&plan.Mask{Path: "/srv"}), in(&plan.Mask{Path: "/none/such"}))
			return slices.Insert(steps, 2, in(&plan.OpenNull{}))
		}, func(t *testing.T, steps []plan.Step) {
			steps[len(steps)-1] = sh("cat /etc/passwd; ls -A /srv; test -c /etc/passwd && echo device; touch /srv/x 2>/dev/null || echo ro; ls -d /none 2>/dev/null || echo none")
			if res := must(t, steps...); res.out != "device\nro\nnone\n" {
				t.Errorf("%q", res.out)
			}
		}},
		{"open null", func(t testing.TB) []plan.Step {
			steps := inRoot(nstest.RootFS(t), in(&plan.Mask{Path: "/etc/group"}))
			return slices.Insert(steps, 2, in(&plan.OpenNull{}))
		}, func(t *testing.T, steps []plan.Step) {
			steps[len(steps)-1] = sh("stat -c '%t:%T' /etc/group")
			if res := must(t, steps...); res.out != "1:3\n" {
				t.Errorf("a mask is device %q", res.out)
			}
		}},
		{"read-only path", rooted(func(string) []plan.Step {
			return []plan.Step{in(&plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: "/srv/below", Options: []string{"mode=751"}}), in(&plan.ReadonlyPath{Path: "/srv"}), in(&plan.ReadonlyPath{Path: "/none"})}
		}), func(t *testing.T, steps []plan.Step) {
			steps[len(steps)-1] = sh("for d in /srv /srv/below /etc; do touch $d/x 2>/dev/null && echo $d; done; ls -A /srv; stat -c %a /srv/below")
			if res := must(t, steps...); res.out != "/etc\nbelow\nweb\n751\n" { // what is below is there, and cannot be written either
				t.Errorf("%q", res.out)
			}
		}},
		{"fsmount", func(t testing.TB) []plan.Step {
			return []plan.Step{
				clone(abi.NSMount),
				rt(&plan.NewMount{Type: "tmpfs", Options: []string{"mode=0700"}, Attrs: plan.Attrs{Set: abi.MountAttrNosuid}, Out: free}),
				rt(&plan.Device{Path: "/dev/zeros", Type: "c", Major: 1, Minor: 5, Mode: 0o640, UID: 3, GID: 4, Tree: free}),
				rt(&plan.Sync{From: plan.Runtime, What: "dev", FDs: []plan.Reg{free}}),
				in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}), in(&plan.AttachRoot{Path: nstest.RootFS(t)}),
				in(&plan.Bind{Tree: free, Dest: "/dev"}), in(&plan.PivotRoot{}), sh("stat -c '%a' /dev; stat -c '%F %t:%T %a %u:%g' /dev/zeros"),
			}
		}, func(t *testing.T, steps []plan.Step) {
			if res := must(t, steps...); res.out != "700\ncharacter special file 1:5 640 3:4\n" {
				t.Errorf("%q", res.out)
			}
		}},
		{"fsopen", func(t testing.TB) []plan.Step {
			return []plan.Step{
				clone(abi.NSMount), in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}),
				in(&plan.OpenFS{Type: "tmpfs", Options: []string{"mode=0711"}, Out: free}), in(&plan.AttachRoot{Path: nstest.RootFS(t)}),
				in(&plan.Mount{Type: "tmpfs", Dest: "/data", Attrs: plan.Attrs{Set: abi.MountAttrRdonly}, FS: free}), in(&plan.PivotRoot{}), sh("stat -c %a /data; touch /data/x 2>/dev/null || echo read-only"),
			}
		}, func(t *testing.T, steps []plan.Step) {
			if res := must(t, steps...); res.out != "711\nread-only\n" {
				t.Errorf("%q", res.out)
			}
		}},
		{"open own source", func(t testing.TB) []plan.Step {
			dir := nstest.Dir(t)
			if err := errors.Join(os.WriteFile(dir+"/mark", []byte("of the host\n"), 0o644), os.Symlink(strings.Repeat("../", strings.Count(dir, "/")+1)+dir[1:]+"/mark", dir+"/link")); err != nil {
				t.Fatal(err)
			}
			return []plan.Step{
				clone(abi.NSMount), in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}),
				in(&plan.OpenOwnSource{OpenSource: plan.OpenSource{Path: dir + "/link", Out: free}}), in(&plan.AttachRoot{Path: nstest.RootFS(t)}),
				in(&plan.Bind{From: free, Source: dir + "/link", Dest: "/mark"}), in(&plan.PivotRoot{}), sh("cat /mark"),
			}
		}, func(t *testing.T, steps []plan.Step) {
			if res := must(t, steps...); res.out != "of the host\n" {
				t.Errorf("%q", res.out)
			}
			// With the root attached by then no link is followed.
			source := steps[2].Op.(*plan.OpenOwnSource)
			source.Late = true
			steps[2], steps[3] = steps[3], steps[2]
			if _, err := launchSteps(t, launch.Options{}, steps...); !errors.Is(err, unix.ELOOP) {
				t.Errorf("through a link: %v", err)
			}
		}},
		{"hook bundle", func(t testing.TB) []plan.Step {
			over := nstest.Dir(t)
			return []plan.Step{
				clone(abi.NSMount), in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}),
				in(&plan.OpenOwnSource{OpenSource: plan.OpenSource{Path: over, Out: free2}}), in(&plan.Scratch{}), in(&plan.Overlay{Path: nstest.RootFS(t), Dest: "/"}),
				in(&plan.HookBundle{Over: over, Place: free2, Root: over + "/a/b/rootfs", Scratch: true, Config: free}),
				in(&plan.Bind{Source: over + "/a/b", Dest: "/mnt"}), in(&plan.PivotRoot{}), sh("ls /mnt; test -d /bin"),
			}
		}, func(t *testing.T, steps []plan.Step) {
			if res := must(t, steps...); res.out != "config.json\nrootfs\n" {
				t.Errorf("%q", res.out)
			}
		}},
		{"device", rooted(func(string) []plan.Step {
			return []plan.Step{
				in(&plan.Umask{}),
				in(&plan.Mount{Type: "tmpfs", Source: "dev", Dest: "/dev"}),
				in(&plan.Device{Path: "/dev/a/null", Type: "c", Major: 1, Minor: 3, Mode: 0o666}),
				in(&plan.Device{Path: "/dev/block", Type: "b", Major: 259, Minor: 70000, Mode: 0o600, UID: 1, GID: 2}),
				in(&plan.Device{Path: "/dev/fifo", Type: "p", Mode: 0o622}),
				in(&plan.Device{Path: "/dev/bound", Type: "c", Major: 1, Minor: 5, Bind: "/dev/zero"}),
			}
		}), func(t *testing.T, steps []plan.Step) {
			steps[len(steps)-1] = sh("cd /dev; stat -c '%n %F %t:%T %a %u:%g' a/null block fifo bound")
			want := "a/null character special file 1:3 666 0:0\nblock block special file 103:11170 600 1:2\nfifo fifo 0:0 622 0:0\nbound character special file 1:5 666 0:0\n"
			if res := must(t, steps...); res.out != want {
				t.Errorf("%s", res.out)
			}
		}},
		{"own null", rooted(func(string) []plan.Step {
			return []plan.Step{
				in(&plan.Umask{}), in(&plan.Mount{Type: "tmpfs", Source: "dev", Dest: "/dev"}),
				in(&plan.Device{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, Mode: 0o666}), in(&plan.OwnNull{FDs: []uint32{0}}),
			}
		}), func(t *testing.T, steps []plan.Step) {
			steps[len(steps)-1] = sh("[ /dev/null -ef /proc/$$/fd/0 ] && echo own; [ /dev/null -ef /proc/$$/fd/1 ] || echo other")
			if res := must(t, steps...); res.out != "own\nother\n" {
				t.Errorf("%q", res.out)
			}
		}},
		{"symlink", rooted(func(string) []plan.Step {
			return []plan.Step{in(&plan.Symlink{Target: "/etc/passwd", Path: "/a/b/link"}), in(&plan.Symlink{Target: "other", Path: "/etc/group"})}
		}), func(t *testing.T, steps []plan.Step) {
			steps[len(steps)-1] = sh("readlink /a/b/link; readlink /etc/group || echo stays")
			if res := must(t, steps...); res.out != "/etc/passwd\nstays\n" {
				t.Errorf("%q", res.out)
			}
		}},
		{"mtab", rooted(func(string) []plan.Step { return []plan.Step{in(&plan.Mtab{})} }), func(t *testing.T, steps []plan.Step) {
			steps[len(steps)-1] = sh("readlink /etc/mtab")
			if res := must(t, steps...); res.out != "/proc/mounts\n" {
				t.Errorf("%q", res.out)
			}
			at := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Op.Name() == "mtab" })
			own := slices.Insert(slices.Clone(steps), at, in(&plan.Symlink{Target: "own", Path: "/etc/mtab", Replace: true}))
			if res := must(t, own...); res.out != "own\n" {
				t.Errorf("one that is there: %q", res.out)
			}
			fixed := slices.Insert(slices.Clone(steps), at, in(&plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: "/etc"}), in(&plan.Remount{Dest: "/etc", Attrs: plan.Attrs{Set: abi.MountAttrRdonly}}))
			fixed[len(fixed)-1] = sh("readlink /etc/mtab || echo none")
			if res := must(t, fixed...); res.out != "none\n" {
				t.Errorf("where nothing can be made: %q", res.out)
			}
		}},
		{"dockerenv", rooted(func(string) []plan.Step { return []plan.Step{in(&plan.Dockerenv{}), in(&plan.Dockerenv{})} }), func(t *testing.T, steps []plan.Step) {
			steps[len(steps)-1] = sh("stat -c '%F %a %s %u:%g' /.dockerenv")
			if res := must(t, steps...); res.out != "regular empty file 755 0 0:0\n" {
				t.Errorf("%q", res.out)
			}
		}},
		{"mkdir", rooted(func(string) []plan.Step { return []plan.Step{in(&plan.Workdir{Path: "/srv/x/y/z"})} }), func(t *testing.T, steps []plan.Step) {
			steps[len(steps)-1] = sh("stat -c '%F %a' /srv/x/y/z")
			if res := must(t, steps...); res.out != "directory 755\n" {
				t.Errorf("%q", res.out)
			}
		}},
		{"chdir", func(t testing.TB) []plan.Step {
			steps := inRoot(nstest.RootFS(t))
			return slices.Insert(steps, len(steps)-1, in(&plan.Chdir{Path: "/srv/web/../web/."}))
		}, func(t *testing.T, steps []plan.Step) {
			if v := see(t, steps...); v.Cwd != "/srv/web" {
				t.Errorf("in %s", v.Cwd)
			}
		}},
		{"try chdir", func(t testing.TB) []plan.Step {
			steps := inRoot(nstest.RootFS(t))
			return slices.Insert(steps, len(steps)-1, in(&plan.TryChdir{Path: "/srv/web", Dir: 40}), in(&plan.LateChdir{Path: "/nowhere", Dir: 40}))
		}, func(t *testing.T, steps []plan.Step) {
			if v := see(t, steps...); v.Cwd != "/srv/web" {
				t.Errorf("in %s", v.Cwd)
			}
		}},
		{"late chdir", func(t testing.TB) []plan.Step {
			steps := inRoot(nstest.RootFS(t))
			return slices.Insert(steps, len(steps)-1, in(&plan.LateChdir{Path: "/srv/web", Dir: 40}))
		}, func(t *testing.T, steps []plan.Step) {
			if v := see(t, steps...); v.Cwd != "/srv/web" {
				t.Errorf("in %s", v.Cwd)
			}
		}},
		{"remount", rooted(func(string) []plan.Step {
			return []plan.Step{
				in(&plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: "/srv"}), in(&plan.Remount{Dest: "/srv", Attrs: plan.Attrs{Set: abi.MountAttrNoexec}}),
				in(&plan.Remount{Dest: "/", Attrs: plan.Attrs{Set: abi.MountAttrRdonly}}),
			}
		}), viewed(func(t *testing.T, v view) {
			root, _, _ := mountOf(v.Mounts, "/")
			srv, _, _ := mountOf(v.Mounts, "/srv")
			if !strings.HasPrefix(root, "ro,") || srv != "rw,noexec,relatime" {
				t.Errorf("/ %q, /srv %q", root, srv)
			}
		})},
		{"pivot_root", rooted(func(string) []plan.Step { return nil }), viewed(func(t *testing.T, v view) { hostGone(t, v) })},
		{"open proc", fixed(sysctlSteps()...), nil}, // sysctl writes through it
		{"open proc", func(testing.TB) []plan.Step { // and where the host's is covered, through a new one
			steps := sysctlSteps()
			steps[1] = in(&plan.OpenProc{New: true})
			return steps
		}, func(t *testing.T, steps []plan.Step) {
			for _, step := range []func() error{
				func() error { return unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, "") },
				func() error { return unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "") },
			} {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			defer unix.Unmount("/proc/sys", unix.MNT_DETACH)
			must(t, steps...)
			if _, err := launchSteps(t, launch.Options{}, sysctlSteps()...); !errors.Is(err, unix.EXDEV) {
				t.Errorf("through the host's: %v", err)
			}
		}},
		{"sysctl", fixed(sysctlSteps()...), func(t *testing.T, steps []plan.Step) {
			before := read("/proc/sys/net/ipv4/ip_unprivileged_port_start")
			steps[len(steps)-1] = sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax")
			if res := must(t, steps...); res.out != "99\n8111\n" {
				t.Errorf("%q", res.out)
			}
			if got := read("/proc/sys/net/ipv4/ip_unprivileged_port_start"); got != before {
				t.Errorf("the caller's became %q", got)
			}
		}},
		{"terminal", ttySteps, nil}, // terminal_test.go looks closer
		{"console", ttySteps, nil},
	}
}

// closedSource binds a directory that neither the container's ids nor the host's id 0 without its
// capabilities come to, through an absolute link.
func closedSource(t testing.TB, joined bool) []plan.Step {
	t.Helper()
	src := nstest.Dir(t)
	if err := unix.Mount("test", src, "tmpfs", unix.MS_NOSUID, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(src, unix.MNT_DETACH) })
	closed := filepath.Join(src, "closed")
	if err := os.MkdirAll(filepath.Join(closed, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(closed, "dir/mark"), []byte("within\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(closed, "dir"), filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chown(closed, 7, 8), os.Chmod(closed, 0o700)); err != nil {
		t.Fatal(err)
	}
	source := &plan.OpenSource{Path: filepath.Join(src, "link"), Out: free}
	ids := []plan.IDMapping{{Inside: 0, Outside: 100000, Size: 1000}}
	steps := []plan.Step{
		clone(abi.NSUser, abi.NSMount), rt(&plan.WriteIDMap{Map: ids}), rt(&plan.WriteIDMap{Group: true, Map: ids}),
		rt(&plan.OpenHost{Child: true}), rt(source),
		rt(&plan.Sync{From: plan.Runtime, What: "id maps written", FDs: []plan.Reg{free}}),
	}
	if joined {
		c := nstest.Part("holder")
		outside := []syscall.SysProcIDMap{{HostID: 100000, Size: 1000}}
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: outside, GidMappings: outside}
		owner := background(t, c)
		steps = []plan.Step{
			rt(&plan.OpenNamespace{NS: abi.NSUser, Path: fmt.Sprintf("/proc/%d/ns/user", owner), Out: free2}), clone(),
			in(&plan.Setns{NS: abi.NSUser, FD: free2}), in(&plan.Unshare{New: []abi.Namespace{abi.NSMount}}), in(&plan.OpenHost{}),
			in(&plan.Sync{From: plan.Container, What: "mount namespace made", FDs: []plan.Reg{plan.RegHost}}), rt(source),
			rt(&plan.Sync{From: plan.Runtime, What: "sources opened", FDs: []plan.Reg{free}}),
		}
	}
	return append(steps, in(&plan.Setresgid{}), in(&plan.Setresuid{}), in(&plan.AttachRoot{Path: nstest.RootFS(t)}),
		in(&plan.Bind{From: free, Source: source.Path, Dest: "/srv", Attrs: plan.Attrs{Set: abi.MountAttrRdonly}, Only: true}), in(&plan.PivotRoot{}),
		in(&plan.CloseFDs{First: 3}),
		sh("exec 2>&-; cat /srv/mark; touch /srv/x || echo read-only; mount -o remount,bind,suid /srv || echo locked"))
}

// checkSource wants it bound, with the host's nosuid locked, and out of reach for the container by itself.
func checkSource(t *testing.T, steps []plan.Step) {
	if res := must(t, steps...); res.out != "within\nread-only\nlocked\n" {
		t.Errorf("%q", res.out)
	}
	for _, s := range steps {
		if op, ok := s.Op.(*plan.Bind); ok {
			op.From = plan.RegNone
		}
	}
	if res, err := launchSteps(t, launch.Options{}, steps...); !errors.Is(err, unix.EACCES) || step(t, err).Call != "open_tree" {
		t.Errorf("the container's side comes to the source by itself: %v %q", err, res.out)
	}
}

// hostGone wants exactly one mount at "/", and none outside the container's tree.
func hostGone(t *testing.T, v view) {
	t.Helper()
	roots := 0
	for _, l := range v.Mounts {
		f := strings.Fields(l)
		if f[4] == "/" {
			roots++
		}
		if strings.HasPrefix(f[4], "/sys/fs/cgroup/") || strings.HasPrefix(f[4], nstest.Exe) {
			t.Errorf("a mount of the host: %s", l)
		}
	}
	if roots != 1 {
		t.Errorf("%d mounts at /:\n%s", roots, strings.Join(v.Mounts, "\n"))
	}
}

func overlayRoot(t testing.TB) []plan.Step {
	return []plan.Step{
		clone(abi.NSMount), in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}), in(&plan.Scratch{Size: "1m"}),
		in(&plan.Overlay{Path: nstest.RootFS(t), Dest: "/"}), in(&plan.PivotRoot{Scratch: true}), sh("true"),
	}
}

// layeredRoot is a view with something hidden in it, and something that others may not
// read.
func layeredRoot(t testing.TB) []plan.Step {
	root := nstest.RootFS(t)
	for name, mode := range map[string]os.FileMode{"etc/closed": 0o600, "root/file": 0o644} {
		if err := os.WriteFile(filepath.Join(root, name), []byte("secret\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "root"), 0o700); err != nil {
		t.Fatal(err)
	}
	return []plan.Step{
		clone(abi.NSMount), in(&plan.Umask{}), in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}), in(&plan.Scratch{Size: "1m"}),
		in(&plan.LayerDir{Layer: "hide0", Path: "/", Mode: 0o755}), in(&plan.LayerDir{Layer: "hide0", Path: "/etc", Mode: 0o775, UID: 3, GID: 4}),
		in(&plan.Whiteout{Layer: "hide0", Path: "/etc/passwd"}), in(&plan.Whiteout{Layer: "hide0", Path: "/srv"}), in(&plan.Whiteout{Layer: "hide0", Path: "/home"}),
		in(&plan.LayerDir{Layer: "upper0", Path: "/", Mode: 0o755}), in(&plan.LayerDir{Layer: "upper0", Path: "/home", Mode: 0o1777}),
		in(&plan.PublicLayer{Path: root}), in(&plan.Overlay{Dest: "/", Hide: true, Public: true}), in(&plan.PivotRoot{Scratch: true}), sh("true"),
	}
}

func sysctlSteps() []plan.Step {
	return []plan.Step{
		clone(abi.NSNetwork, abi.NSIPC), in(&plan.OpenProc{}),
		in(&plan.Sysctl{Key: "net.ipv4.ip_unprivileged_port_start", Value: "99"}),
		in(&plan.Sysctl{Key: "kernel/msgmax", Value: "8111"}), probeHere(),
	}
}

// ttySteps make a terminal, and hand its master over.
func ttySteps(t testing.TB) []plan.Step {
	return inRoot(nstest.RootFS(t),
		in(&plan.Setsid{}),
		in(&plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: "/dev", Options: []string{"mode=755"}}),
		in(&plan.Mount{Type: "devpts", Source: "devpts", Dest: "/dev/pts", Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"}, Out: plan.RegPts}),
		in(&plan.Device{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0, Mode: 0o666}),
		in(&plan.Terminal{Rows: 33, Columns: 101, UID: 7}), in(&plan.Console{}),
		in(&plan.Sync{From: plan.Container, What: "terminal made", FDs: []plan.Reg{plan.RegMaster}}),
	)
}

// Every operation that a plan can have is tried, and its effect seen in the kernel.
func TestOperations(t *testing.T) {
	nstest.Root(t)
	cases := opCases()
	for _, op := range plan.Ops() {
		if !rawCalls(op) {
			continue
		}
		i := slices.IndexFunc(cases, func(c opCase) bool { return c.name == op.Name() })
		if i < 0 {
			t.Errorf("operation %q has no test of its effect", op.Name())
			continue
		}
		t.Run(op.Name(), func(t *testing.T) {
			nstest.NoLeaks(t)
			steps := cases[i].steps(t)
			if cases[i].check == nil {
				if _, err := launchSteps(t, launch.Options{}, steps...); err != nil {
					t.Fatal(err)
				}
				return
			}
			cases[i].check(t, steps)
		})
	}
}

// rawCalls reports whether an operation is made of raw calls; others are for hands.
func rawCalls(op plan.Op) bool {
	switch op.(type) {
	case *plan.Clone:
		return true
	case *plan.Exec, *plan.DefaultSignals: // their zero values have nothing to lower
		return true
	}
	return len(plan.Lower(op, abi.Native(runtime.GOARCH))) > 0
}

// injected is the error that a fault test's filter gives: no row accepts it.
const injected = abi.EREMOTEIO

// denying is a filter under which a call gives the injected error, and all others go on.
// A report of the child itself, a write of 12 bytes, goes on as well.
func denying(call abi.Call, name string) []byte {
	nr, ok := abi.Native(runtime.GOARCH).Syscall(name)
	if call != abi.CallNone {
		n, known := call.Number(runtime.GOARCH)
		nr, ok = uint32(n), known
	}
	if !ok {
		panic("no such system call: " + name)
	}
	const load, jeq, ret, allow, fail = 0x20, 0x15, 0x06, 0x7fff0000, 0x00050000
	const thirdArgument = 16 + 2*8
	var b []byte
	for _, f := range []struct {
		code   uint16
		jt, jf uint8
		k      uint32
	}{
		{load, 0, 0, 0},
		{jeq, 0, 3, nr},
		{load, 0, 0, thirdArgument},
		{jeq, uint8(boolInt(call == abi.CallWrite)), 0, plan.MsgSize},
		{ret, 0, 0, fail | uint32(injected)},
		{ret, 0, 0, allow},
	} {
		b = binary.LittleEndian.AppendUint16(b, f.code)
		b = append(b, f.jt, f.jf)
		b = binary.LittleEndian.AppendUint32(b, f.k)
	}
	return b
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Of what the caller asks to pass on and has not, this process may have something, the socket to it included.
func TestAbsentClosed(t *testing.T) {
	nstest.Root(t)
	steps := fixed(rt(&plan.OpenFD{Path: "/", Flags: abi.OPath, Out: free}), clone(), in(&plan.CloseFDs{First: 1024, Absent: []plan.FDs{{First: 3, Last: 4}, {First: 5, Last: 1023}}}), probeHere())(t)
	onlyStreams(t, see(t, steps...))
}
