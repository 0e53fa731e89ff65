package launch_test

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Each call of each operation of the container's side fails once, by a filter that is
// loaded right before its step: the error names the step and the call, and
// nothing is left.
func TestEveryCallFails(t *testing.T) {
	nstest.Root(t)
	for _, c := range opCases() {
		t.Run(c.name, func(t *testing.T) {
			nstest.NoLeaks(t)
			steps := c.steps(t)
			at := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Op.Name() == c.name && s.Side == plan.Container })
			if at < 0 {
				if c.name == "mount index" || c.name == "umount" {
					if _, works := indexed(t); !works {
						return // before Linux 6.12
					}
				}
				if !slices.ContainsFunc(steps, func(s plan.Step) bool { return s.Op.Name() == c.name }) {
					t.Fatalf("the plan of %q does not have it", c.name)
				}
				return // on the runtime's side: see TestRuntimeSideFails
			}
			reached := 0
			for _, call := range distinctCalls(steps[at].Op) {
				broken := slices.Insert(slices.Clone(steps), at, in(&plan.NoNewPrivs{}), in(&plan.Seccomp{Filter: denying(call, "")}))
				if failsAt(t, broken, at+3, call) {
					reached++
				}
			}
			if reached == 0 {
				t.Error("no call of it was reached")
			}
		})
	}
}

// failsAt runs a plan whose step n (from 1) has a call that fails, and reports whether it
// was reached.
func failsAt(t *testing.T, steps []plan.Step, n int, call abi.Call) bool {
	t.Helper()
	// A call of a later step may be the same one, and the plan's own program is of no concern.
	_, err := launchSteps(t, launch.Options{Start: func(int) error { return nil }}, steps[:]...)
	if err == nil {
		return false
	}
	e := step(t, err)
	if e.N > n {
		return false
	}
	if e.N != n || e.Of != len(steps) || e.Step.Op != steps[n-1].Op {
		t.Errorf("%s: step %d of %d, want %d of %d: %v", call, e.N, e.Of, n, len(steps), err)
	}
	if e.Call != call.String() || e.Errno() != syscall.Errno(injected) {
		t.Errorf("%s failed: %q, %v: %v", call, e.Call, e.Err, err)
	}
	return true
}

// distinctCalls lists the calls of an operation, each once.
func distinctCalls(op plan.Op) []abi.Call {
	var list []abi.Call
	for _, r := range plan.Lower(op, abi.Native(runtime.GOARCH)) {
		if r.Call != abi.CallNone && !slices.Contains(list, r.Call) {
			list = append(list, r.Call)
		}
	}
	return list
}

// A fault is a plan that cannot work, for a reason of its own.
type fault struct {
	name  string
	steps []plan.Step
	n     int    // the step that fails, from 1; 0 is the one before the last
	call  string // that fails
	errno syscall.Errno
	is    error  // what errors.Is is to say of it, beside the errno
	hint  string // a part of the hint
}

func (f fault) check(t *testing.T) {
	t.Helper()
	_, err := launchSteps(t, launch.Options{}, f.steps...)
	if err == nil {
		t.Fatal("it worked")
	}
	e := step(t, err)
	n := f.n
	if n == 0 {
		n = len(f.steps) - 1
	}
	if e.N != n || e.Call != f.call || e.Errno() != f.errno {
		t.Errorf("step %d, call %s, %v; want step %d, call %s, %v\n%v", e.N, e.Call, e.Err, n, f.call, f.errno, err)
	}
	if f.is != nil && !errors.Is(err, f.is) {
		t.Errorf("%v is not %v", err, f.is)
	}
	if !strings.Contains(e.Hint, f.hint) || (f.hint == "" && e.Hint != "") {
		t.Errorf("hint %q, want %q", e.Hint, f.hint)
	}
}

func checkFaults(t *testing.T, list []fault) {
	t.Helper()
	for _, f := range list {
		t.Run(f.name, func(t *testing.T) {
			nstest.NoLeaks(t)
			f.check(t)
		})
	}
}

// Faults that users make, one after the other.
func TestFaults(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	user := func(op plan.Op) []plan.Step { return []plan.Step{clone(), in(op), probeHere()} }
	rt1 := func(op plan.Op) []plan.Step { return []plan.Step{rt(op), clone(), probeHere()} }
	dropped := func(op plan.Op) []plan.Step { return []plan.Step{clone(), in(&plan.Capset{}), in(op), probeHere()} }
	long := strings.Repeat("x", 65)
	list := []fault{
		{"namespace file missing", rt1(&plan.OpenNamespace{NS: abi.NSUTS, Path: "/proc/1/ns/none", Out: free}), 1, "openat", syscall.ENOENT, fs.ErrNotExist, ""},
		{"namespace of another kind", []plan.Step{
			rt(&plan.OpenNamespace{NS: abi.NSUTS, Path: "/proc/self/ns/net", Out: free}), clone(), in(&plan.Setns{NS: abi.NSUTS, FD: free}), probeHere(),
		}, 0, "setns", syscall.EINVAL, nil, "the path is no uts namespace"},
		{"namespace of a user namespace without privileges there", []plan.Step{
			rt(&plan.OpenNamespace{NS: abi.NSUTS, Path: "/proc/self/ns/uts", Out: free}), clone(), in(&plan.Capset{}), in(&plan.Setns{NS: abi.NSUTS, FD: free}), probeHere(),
		}, 0, "setns", syscall.EPERM, nil, "that is to be entered, too"},
		{"no namespace at all", []plan.Step{
			rt(&plan.OpenNamespace{NS: abi.NSUTS, Path: "/etc/passwd", Out: free}), clone(), in(&plan.Setns{NS: abi.NSUTS, FD: free}), probeHere(),
		}, 0, "setns", syscall.EINVAL, nil, "the path is no uts namespace"},
		{"open missing", rt1(&plan.OpenFD{Path: "/no/such", Flags: abi.OPath, Out: free}), 1, "openat", syscall.ENOENT, fs.ErrNotExist, ""},
		{"fchdir to a file", []plan.Step{rt(&plan.OpenFD{Path: file, Flags: abi.OPath, Out: free}), clone(), in(&plan.Fchdir{FD: free}), probeHere()}, 0, "fchdir", syscall.ENOTDIR, nil, ""},
		{"chdir missing", user(&plan.PlainChdir{Path: "/no/such"}), 0, "chdir", syscall.ENOENT, fs.ErrNotExist, ""},
		{"open root missing", user(&plan.OpenRoot{Path: "/no/such"}), 0, "openat", syscall.ENOENT, fs.ErrNotExist, ""},
		{"open root is a file", user(&plan.OpenRoot{Path: file}), 0, "openat", syscall.ENOTDIR, nil, ""},
		{"host name too long", []plan.Step{clone(abi.NSUTS), in(&plan.Hostname{Host: long}), probeHere()}, 0, "sethostname", syscall.EINVAL, nil, ""},
		{"domain name too long", []plan.Step{clone(abi.NSUTS), in(&plan.Domainname{Domain: long}), probeHere()}, 0, "setdomainname", syscall.EINVAL, nil, ""},
		{"limit soft above hard", user(&plan.Rlimit{Resource: abi.RlimitNofile, Soft: 10, Hard: 5}), 0, "prlimit64", syscall.EINVAL, nil, ""},
		{"limit above the caller's", dropped(&plan.Rlimit{Resource: abi.RlimitNproc, Soft: 1, Hard: ^uint64(0)}), 0, "prlimit64", syscall.EPERM, fs.ErrPermission, "raising it needs CAP_SYS_RESOURCE"},
		// A file that refuses a 0, as a control group's refuses a caller that it has no real time for.
		{"control group refused", []plan.Step{rt(&plan.OpenFD{Path: "/proc/self/clear_refs", Flags: abi.OWronly, Out: free}), clone(), in(&plan.EnterCgroup{Files: []plan.Reg{free}}), probeHere()}, 0, "write", syscall.EINVAL, nil, "real-time policy"},
		{"too many groups", user(&plan.Setgroups{Groups: make([]uint32, 65537)}), 0, "setgroups", syscall.EINVAL, nil, "the kernel takes 65536 groups, and these are 65537"},
		{"oom score out of range", []plan.Step{clone(), in(&plan.OpenSelf{}), in(&plan.OOMScoreAdj{Value: 5000}), probeHere()}, 0, "write", syscall.EINVAL, nil, ""},
		{"oom score lowered", []plan.Step{
			clone(), in(&plan.OpenSelf{}), in(&plan.OOMScoreAdj{Value: 100}), in(&plan.Capset{}), in(&plan.OOMScoreAdj{Value: -900}), probeHere(),
		}, 0, "write", syscall.EACCES, fs.ErrPermission, "needs CAP_SYS_RESOURCE"},
		{"scheduler unknown", user(&plan.Scheduler{Policy: 99}), 0, "sched_setattr", syscall.EINVAL, nil, ""},
		{"scheduler without the right", dropped(&plan.Scheduler{Policy: abi.SchedFIFO, Priority: 5}), 0, "sched_setattr", syscall.EPERM, fs.ErrPermission, "CAP_SYS_NICE"},
		{"io priority unknown", user(&plan.IOPriority{Class: 7}), 0, "ioprio_set", syscall.EINVAL, nil, ""},
		{"memory of no node", user(&plan.MemoryPolicy{Mode: abi.MpolBind, Nodes: []plan.Range{{First: 900, Last: 900}}}), 0, "set_mempolicy", syscall.EINVAL, nil, "this machine has none of the nodes"},
		{"processors that are not there", user(&plan.Affinity{CPUs: []plan.Range{{First: 8000, Last: 8000}}}), 0, "sched_setaffinity", syscall.EINVAL, nil, "none of these processors"},
		{"label without a module", []plan.Step{clone(), in(&plan.OpenProc{}), in(&plan.SecurityLabel{Path: "attr/none/exec", Text: "exec x"}), probeHere()}, 0, "openat", syscall.ENOENT, fs.ErrNotExist, "is not enabled"},
		{"label of keys without SELinux", []plan.Step{clone(), in(&plan.OpenSelf{}), in(&plan.KeyLabel{Label: "u:r:t:s0"}), probeHere()}, 0, "write", syscall.EINVAL, nil, "no such label"},
		{"clock offset out of range", []plan.Step{clone(), in(&plan.OpenSelf{}), in(&plan.EnterTime{Monotonic: -1 << 62}), probeHere()}, 0, "write", syscall.ERANGE, nil, ""},
		{"sysctl missing", []plan.Step{clone(abi.NSNetwork), in(&plan.OpenProc{}), in(&plan.Sysctl{Key: "net.ipv4.none", Value: "1"}), probeHere()}, 0, "openat2", syscall.ENOENT, fs.ErrNotExist, "has no such parameter"},
		{"sysctl value refused", []plan.Step{clone(abi.NSNetwork), in(&plan.OpenProc{}), in(&plan.Sysctl{Key: "net.ipv4.ip_forward", Value: "many"}), probeHere()}, 0, "write", syscall.EINVAL, nil, ""},
		{"sysctl of no namespace leaves /proc/sys", []plan.Step{clone(abi.NSNetwork), in(&plan.OpenProc{}), in(&plan.Sysctl{Key: "/../../etc/passwd", Value: "1"}), probeHere()}, 0, "openat2", syscall.EXDEV, nil, "over /proc/sys"},
		{"filter invalid", []plan.Step{clone(), in(&plan.NoNewPrivs{}), in(&plan.Seccomp{Filter: []byte{0x06, 0, 9, 9, 0, 0, 0, 0}[:0]}), probeHere()}, 0, "seccomp", syscall.EINVAL, nil, ""},
		{"filter falls off its end", []plan.Step{clone(), in(&plan.NoNewPrivs{}), in(&plan.Seccomp{Filter: denying(abi.CallNone, "getpid")[:40]}), probeHere()}, 0, "seccomp", syscall.EINVAL, nil, ""},
		{"filter without the right", []plan.Step{clone(), in(&plan.Capset{}), in(&plan.Seccomp{Filter: denying(abi.CallNone, "getpid")}), probeHere()}, 0, "seccomp", syscall.EACCES, fs.ErrPermission, "no_new_privs or CAP_SYS_ADMIN"},
		{"setgroups without the right", dropped(&plan.Setgroups{Groups: []uint32{1}}), 0, "setgroups", syscall.EPERM, fs.ErrPermission, ""},
		{"setresgid without the right", dropped(&plan.Setresgid{GID: 5}), 0, "setresgid", syscall.EPERM, fs.ErrPermission, ""},
		{"setresuid without the right", dropped(&plan.Setresuid{UID: 5}), 0, "setresuid", syscall.EPERM, fs.ErrPermission, ""},
		{"bounding set without the right", dropped(&plan.DropBounding{Last: 1}), 0, "prctl", syscall.EPERM, fs.ErrPermission, ""},
		{"capset above what there is", dropped(&plan.Capset{Permitted: 1}), 0, "capset", syscall.EPERM, fs.ErrPermission, ""},
		{"ambient without inheritable", user(&plan.Ambient{Caps: 1}), 0, "prctl", syscall.EPERM, fs.ErrPermission, ""},
		{"setgroups of an unmapped id", inUserNS(in(&plan.Setgroups{Groups: []uint32{5000}}), probeHere()), 0, "setgroups", syscall.EINVAL, nil, "does not have all of these groups"},
		{"setresgid to an unmapped id", inUserNS(in(&plan.Setresgid{GID: 5000}), probeHere()), 0, "setresgid", syscall.EINVAL, nil, "the user namespace has no gid 5000"},
		{"setresuid to an unmapped id", inUserNS(in(&plan.Setresuid{UID: 5000}), probeHere()), 0, "setresuid", syscall.EINVAL, nil, "the user namespace has no uid 5000"},
		{"id maps overlap", []plan.Step{
			clone(abi.NSUser), rt(&plan.WriteIDMap{Map: []plan.IDMapping{{Size: 10}, {Inside: 5, Outside: 50, Size: 10}}}), probeHere(),
		}, 0, "write", syscall.EINVAL, nil, ""},
		{"setgroups denied too late", []plan.Step{
			clone(abi.NSUser), rt(&plan.WriteIDMap{Group: true, Map: []plan.IDMapping{{Size: 1}}}), rt(&plan.DenySetgroups{}), probeHere(),
		}, 0, "write", syscall.EPERM, fs.ErrPermission, ""},
		{"namespace kept on nothing", []plan.Step{clone(abi.NSUTS), rt(&plan.KeepNamespace{NS: abi.NSUTS, Path: "/no/such"}), start(), probeHere()}, 2, "move_mount", syscall.ENOENT, fs.ErrNotExist, ""},
		{"loopback without the right", []plan.Step{clone(abi.NSNetwork), in(&plan.Capset{}), in(&plan.LoopbackUp{}), probeHere()}, 0, "ioctl", syscall.EPERM, fs.ErrPermission, "--network host"},
		{"unshare without the right", dropped(&plan.Unshare{New: []abi.Namespace{abi.NSUTS}}), 0, "unshare", syscall.EPERM, fs.ErrPermission, ""},
		{"chroot without the right", []plan.Step{clone(), in(&plan.OpenRoot{Path: "/"}), in(&plan.Capset{}), in(&plan.Chroot{}), probeHere()}, 0, "chroot", syscall.EPERM, fs.ErrPermission, ""},
		{"propagation of no mount", []plan.Step{clone(abi.NSMount), in(&plan.Propagation{Path: dir, Mode: "private"}), probeHere()}, 0, "mount_setattr", syscall.EINVAL, nil, ""},
		{"root missing", []plan.Step{clone(abi.NSMount), in(&plan.AttachRoot{Path: "/no/such"}), probeHere()}, 0, "open_tree", syscall.ENOENT, fs.ErrNotExist, "there is no /no/such on the host"},
		{"scratch of a bad size", []plan.Step{clone(abi.NSMount), in(&plan.Scratch{Size: "much"}), probeHere()}, 0, "fsconfig", syscall.EINVAL, nil, ""},
		{"layer missing", []plan.Step{clone(abi.NSMount), in(&plan.Scratch{}), in(&plan.Overlay{Path: "/no/such", Dest: "/"}), probeHere()}, 0, "fsconfig", syscall.ENOENT, fs.ErrNotExist, ""},
		{"pivot_root to a directory", []plan.Step{clone(abi.NSMount), in(&plan.OpenRoot{Path: dir}), in(&plan.PivotRoot{}), probeHere()}, 0, "pivot_root", syscall.EINVAL, nil, ""},
		{"new mount of an unknown kind", []plan.Step{clone(abi.NSMount), rt(&plan.NewMount{Type: "nosuchfs", Out: free}), probeHere()}, 0, "fsopen", syscall.ENODEV, nil, "this kernel has no file system nosuchfs"},
		{"new mount with a bad option", []plan.Step{clone(abi.NSMount), rt(&plan.NewMount{Type: "tmpfs", Options: []string{"nonsense"}, Out: free}), probeHere()}, 0, "fsconfig", syscall.EINVAL, nil, "the file system refuses one of its options"},
		{"tree of nothing", []plan.Step{clone(abi.NSMount), rt(&plan.OpenTree{Path: "/no/such", Out: free}), probeHere()}, 0, "open_tree", syscall.ENOENT, fs.ErrNotExist, "there is no /no/such on the host"},
		{"close from beyond the last", user(&plan.CloseFDs{First: 1<<32 - 1}), 3, "", 0, nil, ""},
	}
	list = slices.DeleteFunc(list, func(f fault) bool { return f.call == "" }) // what cannot fail
	checkFaults(t, list)
}

// Faults of mounts, in a root file system.
func TestMountFaults(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	for _, link := range []struct{ to, at string }{{"loop", "loop"}, {"/etc/passwd", "tofile"}} {
		if err := os.Symlink(link.to, filepath.Join(root, link.at)); err != nil {
			t.Fatal(err)
		}
	}
	mounted := func(steps ...plan.Step) []plan.Step {
		return slices.Concat([]plan.Step{
			clone(abi.NSMount), in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}), in(&plan.AttachRoot{Path: root}),
		}, steps, []plan.Step{in(&plan.PivotRoot{}), sh("true")})
	}
	tmpfs := func(dest string) *plan.Mount { return &plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: dest} }
	readonly := in(&plan.Remount{Dest: "/", Attrs: plan.Attrs{Set: abi.MountAttrRdonly}})
	ids := []plan.IDMapping{{Size: 1}}
	list := []fault{
		{"kind", mounted(in(&plan.Mount{Type: "nosuchfs", Dest: "/srv"})), 4, "fsopen", syscall.ENODEV, nil, "this kernel has no file system nosuchfs"},
		{"option", mounted(in(&plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: "/srv", Options: []string{"size=much"}})), 4, "fsconfig", syscall.EINVAL, nil, "refuses one of its options"},
		{"file in the way", mounted(in(tmpfs("/etc/passwd/x"))), 4, "openat2", syscall.ENOTDIR, nil, "is a file in the image"},
		{"file in the place", mounted(in(tmpfs("/etc/passwd"))), 4, "openat2", syscall.ENOTDIR, nil, "is a file in the image"},
		{"link loop", mounted(in(tmpfs("/loop/x"))), 4, "openat2", syscall.ELOOP, nil, ""},
		{"read-only root", mounted(readonly, in(tmpfs("/new"))), 5, "mkdirat", syscall.EROFS, nil, ""},
		{"source missing", mounted(in(&plan.Bind{Source: "/no/such", Dest: "/srv"})), 4, "open_tree", syscall.ENOENT, fs.ErrNotExist, "there is no /no/such on the host"},
		{"directory on a file", mounted(in(&plan.Bind{Source: "/usr", Dest: "/etc/passwd"})), 4, "openat2", syscall.ENOTDIR, nil, "and a directory on a directory"},
		{"file on a directory", mounted(in(&plan.Bind{Source: "/etc/passwd", Dest: "/srv"})), 4, "move_mount", syscall.EINVAL, nil, "a file goes on a file"},
		{"mask in a loop", mounted(in(&plan.OpenNull{}), in(&plan.Mask{Path: "/loop"})), 5, "openat2", syscall.ELOOP, nil, ""},
		{"read-only path in a loop", mounted(in(&plan.ReadonlyPath{Path: "/loop"})), 4, "openat2", syscall.ELOOP, nil, ""},
		{"device the host lacks", mounted(in(&plan.Device{Path: "/dev/x", Type: "c", Bind: "/dev/no-such"})), 4, "open_tree", syscall.ENOENT, fs.ErrNotExist, "the host has no device /dev/no-such"},
		{"device that is a file", mounted(in(&plan.Device{Path: "/dev/x", Type: "c", Bind: "/etc/passwd"})), 4, "open_tree", syscall.ENODEV, nil, "what the host has at /etc/passwd is no such device"},
		{"device of another type", mounted(in(&plan.Device{Path: "/dev/x", Type: "b", Bind: "/dev/null"})), 4, "open_tree", syscall.ENODEV, nil, "what the host has at /dev/null is no such device"},
		{"device over a directory", mounted(in(&plan.Device{Path: "/srv", Type: "c", Major: 1, Minor: 3})), 4, "mknodat", syscall.EEXIST, fs.ErrExist, "something else than this device is there"},
		{"default device over a directory", mounted(in(&plan.Device{Path: "/srv", Type: "c", Major: 1, Minor: 3, Replace: true})), 4, "unlinkat", syscall.EISDIR, nil, ""},
		{"device in a read-only root", mounted(readonly, in(&plan.Device{Path: "/dev/x", Type: "c", Major: 1, Minor: 3})), 5, "mknodat", syscall.EROFS, nil, ""},
		{"link below a file", mounted(in(&plan.Symlink{Target: "x", Path: "/tofile/x"})), 4, "openat2", syscall.ENOTDIR, nil, ""},
		{"working directory below a file", mounted(in(&plan.Workdir{Path: "/etc/passwd/x"})), 4, "openat2", syscall.ENOTDIR, nil, ""},
		{"remount of nothing", mounted(in(&plan.Remount{Dest: "/none", Attrs: plan.Attrs{Set: 1}})), 4, "openat2", syscall.ENOENT, fs.ErrNotExist, ""},
		{"remount of no mount", mounted(in(&plan.Remount{Dest: "/srv", Attrs: plan.Attrs{Set: 1}})), 4, "mount_setattr", syscall.EINVAL, nil, ""},
		{"working directory missing", mounted(in(&plan.Chdir{Path: "/none"})), 4, "openat2", syscall.ENOENT, fs.ErrNotExist, "must be a directory of the container"},
		{"working directory is a file", mounted(in(&plan.Chdir{Path: "/etc/passwd"})), 4, "openat2", syscall.ENOTDIR, nil, "must be a directory of the container"},
		{"working directory in a loop", mounted(in(&plan.Chdir{Path: "/loop"})), 4, "openat2", syscall.ELOOP, nil, "must be a directory of the container"},
		{"terminal without devpts", mounted(in(&plan.Terminal{})), 4, "openat", syscall.EBADF, nil, "needs a devpts mount"},
		{"console without a terminal", mounted(in(&plan.Console{})), 4, "open_tree", syscall.EBADF, nil, "needs a devpts mount"},
		{"idmap of a file system that cannot", []plan.Step{
			clone(abi.NSUser, abi.NSMount), rt(&plan.WriteIDMap{Map: ids}), rt(&plan.WriteIDMap{Group: true, Map: ids}),
			rt(&plan.OpenTree{Path: "/proc", IDMap: true, Out: free}), probeHere(),
		}, 4, "mount_setattr", syscall.EINVAL, nil, "the file system of /proc (or of a mount below it) cannot be id-mapped"},
		{"proc of another user namespace's pids", inUserNS(
			in(&plan.Unshare{New: []abi.Namespace{abi.NSMount}}), in(&plan.OpenRoot{Path: "/"}), in(&plan.Mount{Type: "proc", Source: "proc", Dest: "/proc"}), probeHere(),
		), 0, "fsconfig", syscall.EPERM, fs.ErrPermission, "a pid (for sysfs a network) namespace that belongs to the user namespace"},
		{"device in a user namespace", inUserNS(
			in(&plan.Setresgid{}), in(&plan.Setresuid{}), in(&plan.Unshare{New: []abi.Namespace{abi.NSMount}}), in(&plan.EmptyRoot{}),
			in(&plan.Device{Path: "/dev/x", Type: "c", Major: 1, Minor: 3}), probeHere(),
		), 0, "mknodat", syscall.EPERM, fs.ErrPermission, "CAP_MKNOD"},
	}
	checkFaults(t, list)
}

// What is wrong with the program.
func TestExecFaults(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	write := func(name, text string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	one := func(path string, args ...string) []plan.Step {
		return []plan.Step{clone(), in(&plan.Exec{Args: append([]string{path}, args...)})}
	}
	search := func(name string, dirs ...string) []plan.Step {
		return []plan.Step{clone(), in(&plan.Exec{Args: []string{name}, Path: dirs})}
	}
	list := []fault{
		{"missing", one("/no/such"), 2, "execve", syscall.ENOENT, fs.ErrNotExist, "interpreter"},
		{"empty name", one(""), 2, "execve", syscall.ENOENT, fs.ErrNotExist, "interpreter"},
		{"not executable", one(write("plain", "#!/bin/sh\n", 0o644)), 2, "execve", syscall.EACCES, fs.ErrPermission, "chmod +x"},
		{"directory", one(dir), 2, "execve", syscall.EACCES, fs.ErrPermission, "chmod +x"},
		{"not a program", one(write("text", "hello\n", 0o755)), 2, "execve", syscall.ENOEXEC, nil, "another architecture"},
		{"empty file", one(write("empty", "", 0o755)), 2, "execve", syscall.ENOEXEC, nil, "another architecture"},
		{"another architecture", one(write("foreign", foreign(t), 0o755)), 2, "execve", syscall.ENOEXEC, nil, "another architecture"},
		{"interpreter missing", one(write("script", "#!/no/such\n", 0o755)), 2, "execve", syscall.ENOENT, fs.ErrNotExist, "interpreter"},
		{"below a file", one(filepath.Join(dir, "text/x")), 2, "execve", syscall.ENOTDIR, nil, ""},
		{"link loop", one(filepath.Join(dir, "loop")), 2, "execve", syscall.ELOOP, nil, ""},
		{"argument too long", one("/bin/true", strings.Repeat("x", 200<<10)), 2, "execve", syscall.E2BIG, nil, ""},
		{"in no directory", search("no-such", "/bin", "/usr/bin", dir+"/text", "/nowhere"), 2, "execve", syscall.ENOENT, fs.ErrNotExist, ""},
		// As execvp(3): what was found, and may not be run, is told in the end.
		{"found, not executable", search("plain", dir, "/bin"), 2, "execve", syscall.EACCES, fs.ErrPermission, "chmod +x"},
		{"link loops in PATH", search("loop", dir+"/loop", dir, "/bin"), 2, "execve", syscall.ENOENT, fs.ErrNotExist, ""},
		{"found, no program", search("text", "/bin", dir), 2, "execve", syscall.ENOEXEC, nil, "another architecture"},
	}
	checkFaults(t, list)
	checkFaults(t, []fault{{"looked for along link loops", []plan.Step{clone(), in(&plan.FindProgram{Program: "loop", Path: []string{dir + "/loop", dir}}), probeHere()},
		2, "faccessat2", syscall.ENOENT, fs.ErrNotExist, ""}})
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	// Version 2, with the effective bit: CAP_NET_RAW is permitted, as distributions have ping. The tests' /tmp is nosuid.
	if err := os.Mkdir(dir+"/suid", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir+"/suid", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir+"/suid", 0)
	raw := write("suid/raw", string(program), 0o755)
	if err := unix.Setxattr(raw, "security.capability", []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 19: 0}, 0); err != nil {
		t.Fatal(err)
	}
	checkFaults(t, []fault{{"capability outside the bounding set",
		[]plan.Step{clone(), in(&plan.DropBounding{Last: lastCap()}), in(&plan.Exec{Args: []string{raw}})}, 3, "execve", syscall.EPERM, fs.ErrPermission,
		lacking}})
	// The same by way of the stub, which has no Go to report with.
	for i, f := range list {
		e := *f.steps[1].Op.(*plan.Exec)
		e.Stub = true
		if f.errno == syscall.ENOTDIR || f.errno == syscall.ELOOP {
			list[i].errno, list[i].is, list[i].hint = syscall.ENOENT, fs.ErrNotExist, "interpreter" // it does not tell these apart
		}
		list[i].name, list[i].steps, list[i].n = "stub, "+f.name, []plan.Step{rt(&plan.Stub{}), clone(), in(&e)}, 3
	}
	list = slices.DeleteFunc(list, func(f fault) bool { return f.name == "stub, argument too long" }) // execveat says so already
	checkFaults(t, list)
}

// The program that runs by way of the stub is the one that was asked for, with its
// arguments and environment, and nothing of the stub.
func TestStub(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	stub(t)
}

// TestStubNotInMemory: where the machine lets nothing in memory be executed, the stub is on a file system of its own, and is no less what it is.
func TestStubNotInMemory(t *testing.T) {
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}, func(t *testing.T) {
		nstest.NoLeaks(t)
		const sysctl = "/proc/sys/vm/memfd_noexec" // since Linux 6.3, of this pid namespace
		if err := os.WriteFile(sysctl, []byte("2"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		stub(t)
	})
}

func stub(t *testing.T) {
	t.Helper()
	run := func(e plan.Exec) result {
		e.Stub = true
		return must(t, rt(&plan.Stub{}), clone(), in(&plan.Sigmask{}), in(&e))
	}
	if res := run(plan.Exec{Args: []string{"/bin/sh", "-c", `echo "$0|$1|$#|$A"`, "zero", "a b", ""}, Env: []string{"A=1", ""}}); res.out != "zero|a b|2|1\n" {
		t.Errorf("%q", res.out)
	}
	if res := run(plan.Exec{Args: []string{"true"}, Path: []string{"/none", "", "/bin"}}); res.status != 0 || res.out != "" {
		t.Errorf("%#x %q", int(res.status), res.out)
	}
	v := parseView(t, run(plan.Exec{Args: []string{"probe"}, Path: []string{filepath.Dir(nstest.PartPath("probe"))}}))
	onlyStreams(t, v)
	if len(v.Env) != 0 {
		t.Errorf("environment %q", v.Env)
	}
	// Its file can be written by nobody.
	held(t, func(pid int) {
		found := false
		for _, fd := range list(fmt.Sprintf("/proc/%d/fd", os.Getpid())) {
			path := "/proc/self/fd/" + fd
			if to, _ := os.Readlink(path); !strings.Contains(to, "memfd:kakuri") && !strings.HasPrefix(to, "/#") { // a file without a name
				continue
			}
			found = true
			if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
				if _, err := f.WriteAt([]byte("x"), 0); err == nil {
					t.Error("the stub can be written")
				}
				if err := f.Truncate(0); err == nil {
					t.Error("the stub can be cut")
				}
				f.Close()
			}
		}
		if !found {
			t.Error("there is no stub")
		}
	}, rt(&plan.Stub{}), clone(), start(), in(&plan.Exec{Args: []string{"/bin/true"}, Stub: true}))
}

// lacking is the hint of an execve that is not permitted.
const lacking = "the program's file asks for capabilities that the container is without (getcap shows them): --cap-add allows them, as --cap-add NET_RAW for a ping that has it"

// carrying makes a user, who has the capabilities left for the stub, which leaves those that it is to have ambient.
func carrying(ambient, extra abi.CapSet) []plan.Step {
	both := ambient | extra
	return []plan.Step{
		rt(&plan.Stub{Caps: []plan.Capset{{Effective: both, Permitted: both, Inheritable: ambient}}}), clone(),
		in(&plan.KeepCaps{On: true}), in(&plan.Setresuid{UID: 88}), in(&plan.Capset{Effective: both, Permitted: both, Inheritable: both}), in(&plan.Ambient{Caps: both}),
	}
}

// By what the stub was left, a user executes what is root's alone; the program has nothing of it. A stub that cannot set what it was told
// to, since it has it not, executes nothing.
func TestStubCapabilities(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dac, raw := abi.Caps(abi.CapDACOverride), abi.Caps(abi.CapNetRaw)
	dir := nstest.Dir(t)
	program, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/own", program, 0o700); err != nil {
		t.Fatal(err)
	}
	own := plan.Exec{Args: []string{dir + "/own", "-c", "while read k v; do case $k in Cap[IPEA]*) echo $k $v; esac; done </proc/self/status"}, Stub: true}
	const none = "0000000000000000"
	both := func() []plan.Capset {
		return []plan.Capset{{Effective: dac, Permitted: dac | raw}, {Effective: dac, Permitted: dac | raw, Inheritable: raw}}
	}
	for _, c := range []struct {
		caps []plan.Capset
		want string
	}{
		{[]plan.Capset{{Effective: dac, Permitted: dac | raw}}, "CapInh: " + none + "\nCapPrm: " + none + "\nCapEff: " + none + "\nCapAmb: " + none + "\n"},
		{both(), "CapInh: " + fmt.Sprintf("%016x", uint64(raw)) + "\nCapPrm: " + none + "\nCapEff: " + none + "\nCapAmb: " + none + "\n"},
	} {
		steps := carrying(0, dac|raw)
		steps[0] = rt(&plan.Stub{Caps: c.caps})
		if res := must(t, append(steps, in(&own))...); res.out != c.want {
			t.Errorf("%v: %q", steps[0].Op, res.out)
		}
	}
	more := carrying(0, dac)
	more[0] = rt(&plan.Stub{Caps: []plan.Capset{{Permitted: dac}, {Permitted: dac | raw}}})
	less := carrying(0, raw)
	checkFaults(t, []fault{
		{"the second set is not to be had", append(more, in(&own)), 7, "execve", syscall.EPERM, fs.ErrPermission, lacking},
		{"without the capability", append(less, in(&own)), 7, "execve", syscall.EACCES, fs.ErrPermission, "chmod +x"},
	})
}

// foreign is the head of a program for a machine that this is not.
func foreign(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(nstest.Exe)
	if err != nil {
		t.Fatal(err)
	}
	data = data[:4096]
	binary.LittleEndian.PutUint16(data[18:], uint16(elf.EM_S390))
	return string(data)
}

// What fails for a user without privileges, and what helps.
func TestFaultsOfUsers(t *testing.T) {
	u := nstest.User(t)
	dir := nstest.Dir(t)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	nstest.Inside(t, nstest.Place{User: u}, func(t *testing.T) {
		own := []plan.IDMapping{{Outside: uint32(u.UID), Size: 1}}
		closed := "/root"
		checkFaults(t, []fault{
			{"clone", []plan.Step{clone(abi.NSUTS), probeHere()}, 1, "clone3", syscall.EPERM, fs.ErrPermission, "or a user namespace beside them: --map-root-user"},
			{"range of ids", []plan.Step{
				clone(abi.NSUser), rt(&plan.WriteIDMap{Map: []plan.IDMapping{{Outside: uint32(u.UID), Size: 2}}}), probeHere(),
			}, 2, "write", syscall.EPERM, fs.ErrPermission, "newuidmap"},
			{"group map before setgroups is denied", []plan.Step{
				clone(abi.NSUser), rt(&plan.WriteIDMap{Group: true, Map: []plan.IDMapping{{Outside: uint32(u.GID), Size: 1}}}), probeHere(),
			}, 2, "write", syscall.EPERM, fs.ErrPermission, "newuidmap"},
			{"id-mapped mount", []plan.Step{
				clone(abi.NSUser, abi.NSMount), rt(&plan.WriteIDMap{Map: own}), rt(&plan.OpenTree{Path: "/usr", IDMap: true, Out: free}), probeHere(),
			}, 3, "open_tree", syscall.EPERM, fs.ErrPermission, ""},
			{"source not accessible", []plan.Step{
				clone(abi.NSUser, abi.NSMount), rt(&plan.WriteIDMap{Map: own}), rt(&plan.Sync{What: "go"}),
				in(&plan.OpenRoot{Path: "/"}), in(&plan.Bind{Source: closed + "/x", Dest: "/mnt"}), probeHere(),
			}, 5, "open_tree", syscall.EACCES, fs.ErrPermission, "/root/x is not accessible for the caller"},
			{"join another's", []plan.Step{rt(&plan.OpenNamespace{NS: abi.NSMount, Path: "/proc/1/ns/mnt", Out: free}), clone(), probeHere()}, 1, "openat", syscall.EACCES, fs.ErrPermission, ""},
		})
	})
}

// Limits on namespaces are told apart from missing rights.
func TestNamespaceLimit(t *testing.T) {
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWUSER, MapRoot: true}, func(t *testing.T) {
		// The limits of the new user namespace, and no other's.
		for name, ns := range map[string]abi.Namespace{"uts": abi.NSUTS, "time": abi.NSTime, "user": abi.NSUser} {
			if err := os.WriteFile("/proc/sys/user/max_"+name+"_namespaces", []byte("0"), 0); err != nil {
				t.Fatal(err)
			}
			if ns == abi.NSTime {
				fault{"", []plan.Step{clone(), in(&plan.EnterTime{}), probeHere()}, 2, "unshare", syscall.ENOSPC, nil, "by user.max_time_namespaces = 0"}.check(t)
				continue
			}
			fault{"", []plan.Step{clone(ns), probeHere()}, 1, "clone3", syscall.ENOSPC, nil, "by user.max_" + name + "_namespaces = 0"}.check(t)
		}
		fault{"", []plan.Step{clone(abi.NSUser), probeHere()}, 1, "clone3", syscall.ENOSPC, nil, "--userns host"}.check(t)
	})
}

// A failed step of the runtime's side ends the container's process, and all that
// steps before it took is given back by the hands, last one first.
func TestRuntimeSideFails(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	make1, make2 := &plan.MakeCgroup{Path: "one"}, &plan.MakeCgroup{Path: "two"}
	steps := []plan.Step{
		{Op: make1, Undo: &plan.RemoveCgroup{Path: "one"}}, {Op: make2, Undo: &plan.RemoveCgroup{Path: "two"}},
		clone(), rt(&plan.JoinCgroup{Path: "one"}), start(), probeHere(),
	}
	for failing := range 4 {
		var did []string
		journal := 0
		_, err := launchSteps(t, launch.Options{
			Hands: handsFunc(func(op plan.Op, pid int) error {
				did = append(did, op.Name())
				if _, ok := op.(*plan.JoinCgroup); ok && pid == 0 {
					t.Error("joining without a process")
				}
				if len(did) == failing+1 && !strings.HasPrefix(op.Name(), "remove") {
					return errors.New("hand failed")
				}
				return nil
			}),
			Journal: func(n int) error { journal = n; return nil },
		}, steps...)
		want := map[int][]string{
			0: {"make cgroup", "remove cgroup"},
			1: {"make cgroup", "make cgroup", "remove cgroup", "remove cgroup"},
			2: {"make cgroup", "make cgroup", "join cgroup", "remove cgroup", "remove cgroup"},
		}[failing]
		if failing == 3 {
			want = []string{"make cgroup", "make cgroup", "join cgroup"}
			if err != nil {
				t.Errorf("nothing failed, and yet: %v", err)
			}
		} else {
			e := step(t, err)
			if e.Call != "" || e.Errno() != 0 || e.Err.Error() != "hand failed" || e.N != []int{1, 2, 4}[failing] {
				t.Errorf("%d: %+v", failing, e)
			}
		}
		if !slices.Equal(did, want) {
			t.Errorf("failing %d: did %q, want %q", failing, did, want)
		}
		if journal != min(failing+1, 2) {
			t.Errorf("failing %d: journal at %d", failing, journal)
		}
	}
}

// What undoing says does not hide what failed.
func TestUndoFails(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	_, err := launchSteps(t, launch.Options{Hands: handsFunc(func(op plan.Op, _ int) error {
		if _, ok := op.(*plan.RemoveCgroup); ok {
			return syscall.EBUSY
		}
		return nil
	})},
		plan.Step{Op: &plan.MakeCgroup{Path: "one"}, Undo: &plan.RemoveCgroup{Path: "one"}}, clone(), in(&plan.Exec{Args: []string{"/no/such"}}))
	var e *launch.Error
	if !errors.As(err, &e) || e.Errno() != syscall.ENOENT || !errors.Is(err, syscall.EBUSY) {
		t.Errorf("%v", err)
	}
	if first, _, _ := strings.Cut(err.Error(), "\n"); !strings.Contains(first, "execve /no/such") {
		t.Errorf("the first line is %q", first)
	}
}

// The journal comes before the step, and an error of it ends the run.
func TestJournalFails(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	full := errors.New("disk full")
	did := 0
	_, err := launchSteps(t, launch.Options{
		Hands:   handsFunc(func(op plan.Op, _ int) error { did++; return nil }),
		Journal: func(int) error { return full },
	}, plan.Step{Op: &plan.MakeCgroup{Path: "one"}, Undo: &plan.RemoveCgroup{Path: "one"}}, clone(), probeHere())
	if !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	if did > 1 {
		t.Errorf("%d operations done", did)
	}
}

// Without hands, an operation that needs them is an error, and so are a failing
// start and plans that make no sense.
func TestNothingToWorkWith(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	_, err := launchSteps(t, launch.Options{}, rt(&plan.MakeCgroup{Path: "x"}), clone(), probeHere())
	if e := step(t, err); e.N != 1 || !strings.Contains(e.Error(), "mkdir cgroup x") {
		t.Errorf("%v", err)
	}
	refused := errors.New("refused")
	_, err = launchSteps(t, launch.Options{Start: func(int) error { return refused }}, clone(), start(), probeHere())
	if e := step(t, err); e.N != 2 || !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	if _, err := launchSteps(t, launch.Options{}, in(&plan.Umask{})); err == nil {
		t.Error("a plan without a clone worked")
	}
	if _, err := launchSteps(t, launch.Options{}); err == nil {
		t.Error("an empty plan worked")
	}
	// A plan whose container side ends without an execve.
	if _, err := launchSteps(t, launch.Options{}, clone(), in(&plan.Umask{})); err == nil {
		t.Error("a plan without an execve worked")
	}
}

type handsFunc func(op plan.Op, pid int) error

// An error is one line, whatever the names in it hold.
func TestErrorIsOneLine(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	hostile := "/no\nsuch\x1b[31m\r\u202e\u0085"
	for _, op := range []plan.Op{
		&plan.OpenRoot{Path: hostile}, &plan.PlainChdir{Path: hostile}, &plan.Exec{Args: []string{hostile}},
		&plan.Propagation{Path: hostile, Mode: "private"}, &plan.AttachRoot{Path: hostile},
	} {
		_, err := launchSteps(t, launch.Options{}, clone(abi.NSMount), in(op), probeHere())
		if err == nil {
			t.Fatalf("%T worked", op)
		}
		for _, r := range err.Error() {
			if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == 0x202e {
				t.Errorf("%T: %q has the control character %U", op, err.Error(), r)
				break
			}
		}
	}
}

// The causes of a wrapped error can be asked for.
func TestErrorUnwraps(t *testing.T) {
	for errno, want := range map[syscall.Errno]error{
		syscall.ENOENT: fs.ErrNotExist, syscall.EPERM: fs.ErrPermission, syscall.EACCES: fs.ErrPermission, syscall.EEXIST: fs.ErrExist,
	} {
		err := fmt.Errorf("run: %w", &launch.Error{N: 2, Of: 3, Step: in(&plan.Umask{}), Call: "umask", Err: errno})
		if !errors.Is(err, want) || !errors.Is(err, errno) {
			t.Errorf("%v is not %v", err, want)
		}
	}
	e := &launch.Error{N: 14, Of: 61, Step: plan.Step{Op: &plan.Workdir{Path: "/x"}, Cause: plan.Cause{Field: "process.cwd"}}, Call: "mkdirat", Err: syscall.EROFS, Hint: "what to do"}
	if got, want := e.Error(), "step 14 of 61: mkdir /x (config.json process.cwd): mkdirat: EROFS: "+abi.EROFS.Error()+": what to do"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	other := &launch.Error{N: 1, Of: 1, Step: in(&plan.Umask{}), Err: errors.New("text")}
	if other.Errno() != 0 || !strings.HasSuffix(other.Error(), "(a test): text") {
		t.Errorf("%v %v", other.Errno(), other)
	}
}
