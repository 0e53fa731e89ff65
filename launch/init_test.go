package launch_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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

// withInit is a plan whose pid 1 is the init, with a program below it.
func withInit(args ...string) []plan.Step {
	return []plan.Step{
		clone(abi.NSPID, abi.NSMount), in(&plan.Undumpable{}), in(&plan.OpenRoot{Path: "/"}), in(&plan.Mount{Type: "proc", Source: "proc", Dest: "/proc"}),
		in(&plan.Init{}), in(&plan.Sigmask{}), in(&plan.Exec{Args: args, Env: []string{"PATH=/bin"}}),
	}
}

// withStubInit is the same with the stub for an init. It has as many steps.
func withStubInit(args ...string) []plan.Step {
	return []plan.Step{
		rt(&plan.Stub{}), clone(abi.NSPID, abi.NSMount), in(&plan.Undumpable{}), in(&plan.OpenRoot{Path: "/"}), in(&plan.Mount{Type: "proc", Source: "proc", Dest: "/proc"}),
		in(&plan.Init{Stub: true}), in(&plan.Exec{Args: args, Env: []string{"PATH=/bin"}, Stub: true, Init: true}),
	}
}

// withBothInits runs a test of each.
func withBothInits(t *testing.T, test func(t *testing.T, withInit func(args ...string) []plan.Step)) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	t.Run("copy", func(t *testing.T) { test(t, withInit) })
	t.Run("stub", func(t *testing.T) { test(t, withStubInit) })
}

// The init reaps what is left to it, and ends as the command does.
func TestInitReaps(t *testing.T) { withBothInits(t, testInitReaps) }

func testInitReaps(t *testing.T, withInit func(args ...string) []plan.Step) {
	res := must(t, withInit(nstest.PartPath("family"), "50")...)
	if res.out != "left: \n" || res.status.ExitStatus() != 7 {
		t.Errorf("%d: %s", res.status.ExitStatus(), res.out)
	}
}

func TestInitExitCode(t *testing.T) { withBothInits(t, testInitExitCode) }

func testInitExitCode(t *testing.T, withInit func(args ...string) []plan.Step) {
	for line, want := range map[string]int{
		"exit 0": 0, "exit 1": 1, "exit 255": 255, "kill -TERM $$": 128 + 15, "kill -KILL $$": 128 + 9, "kill -SEGV $$": 128 + 11, "kill -34 $$": 128 + 34,
		"sleep 0.01 & exit 3": 3,
	} {
		res := must(t, withInit("/bin/sh", "-c", line)...)
		if !res.status.Exited() || res.status.ExitStatus() != want {
			t.Errorf("%s: %#x, want code %d", line, int(res.status), want)
		}
	}
	// A command that cannot be started is told as without an init.
	_, err := launchSteps(t, launch.Options{}, withInit("/no/such")...)
	if err == nil {
		t.Fatal("a missing program worked")
	}
	if e := step(t, err); e.Errno() != syscall.ENOENT || e.N != 7 {
		t.Error(err)
	}
}

// A command whose execve takes a while before it fails is told as without an init, which has closed its own end of the socket long before.
func TestInitLateFailure(t *testing.T) { withBothInits(t, testInitLateFailure) }

func testInitLateFailure(t *testing.T, withInit func(args ...string) []plan.Step) {
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "late"), os.O_CREATE|os.O_RDWR, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("needs a file system with leases: %v", err)
	}
	// The execve waits for the lease, and then finds the file open for writing.
	give := time.AfterFunc(1500*time.Millisecond, func() { unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK) })
	defer give.Stop()
	_, err = launchSteps(t, launch.Options{}, withInit(f.Name())...)
	if err == nil {
		t.Fatal("it is told as started")
	}
	if e := step(t, err); e.Errno() != syscall.ETXTBSY || e.Call != "execve" {
		t.Error(err)
	}
}

// Signals to the init are the command's, from inside as from outside; those that
// stop or end the init itself excepted.
func TestInitPassesSignals(t *testing.T) { withBothInits(t, testInitPassesSignals) }

func testInitPassesSignals(t *testing.T, withInit func(args ...string) []plan.Step) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := launch.Run(context.Background(), plan.Plan{Steps: withInit(nstest.PartPath("counter"))}, launch.Options{Stdio: [3]*os.File{nil, w, nil}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(r)
	next := func() string { lines.Scan(); return lines.Text() }
	if got := next(); got != "ready" {
		t.Fatalf("%q", got)
	}
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT, 40, syscall.SIGTERM} {
		if err := p.Signal(s); err != nil {
			t.Fatal(err)
		}
		if got := next(); got != fmt.Sprint(int(s)) {
			t.Errorf("signal %d arrives as %q", s, got)
		}
	}
	if st, err := p.Wait(); err != nil || st.ExitStatus() != 5 {
		t.Errorf("%v: code %d", err, st.ExitStatus())
	}
	res := must(t, withInit("/bin/sh", "-c", "trap 'echo got; exit 6' USR1; kill -KILL 1; kill -STOP 1; kill -USR1 1; while :; do sleep 0.01; done")...)
	if res.out != "got\n" || res.status.ExitStatus() != 6 {
		t.Errorf("%d: %q", res.status.ExitStatus(), res.out)
	}
}

// The container reads nothing of the caller off its pid 1: it is a copy of the
// caller's process.
func TestInitShowsNothing(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	t.Setenv("KAKURI_SECRET", "of the caller")
	look := "cat /proc/1/cmdline | tr '\\0' '|'; echo; cat /proc/1/comm; for f in environ maps mem auxv exe cwd root fd/0 stack; do " +
		"case $f in exe|cwd|root|fd/0) readlink /proc/1/$f 2>/dev/null;; *) cat /proc/1/$f 2>/dev/null | head -c 99 | tr '\\0' '|';; esac; done"
	caps := in(&plan.Capset{Effective: defaultCaps, Permitted: defaultCaps})
	ids := []plan.IDMapping{{Inside: 0, Outside: 100000, Size: 1000}}
	// A command line can only be overwritten where the kernel put it.
	for name, steps := range map[string][]plan.Step{
		"root with the default capabilities": slices.Insert(withInit("/bin/sh", "-c", look), 4, in(&plan.DropBounding{Keep: defaultCaps, Last: lastCap()}), caps),
		"root of a user namespace": {
			clone(abi.NSUser, abi.NSPID, abi.NSMount), rt(&plan.WriteIDMap{Map: ids}), rt(&plan.WriteIDMap{Group: true, Map: ids}), rt(&plan.Sync{What: "go on"}),
			in(&plan.Undumpable{}), in(&plan.Setresgid{}), in(&plan.Setresuid{}), in(&plan.OpenRoot{Path: "/"}),
			in(&plan.Mount{Type: "proc", Source: "proc", Dest: "/proc"}), in(&plan.Init{}), in(&plan.Sigmask{}), in(&plan.Exec{Args: []string{"/bin/sh", "-c", look}}),
		},
	} {
		res := must(t, steps...)
		cmdline, rest, _ := strings.Cut(res.out, "\n")
		if strings.Trim(cmdline, "|") != "init" {
			t.Errorf("%s: command line %q", name, cmdline)
		}
		if rest != "init\n" {
			t.Errorf("%s: beside the name there is to be seen: %q", name, rest)
		}
	}
}

// TestStubInit: where root inside may look into pid 1, what is to be found there is the stub, and not this program, whose file could be changed by it (CVE-2019-5736).
func TestStubInit(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	look := "readlink /proc/1/exe; cat /proc/1/comm; tr -d '\\0' </proc/1/cmdline; ls /proc/1/fd | tr '\\n' ' '; grep VmRSS /proc/1/status | grep -q ' [0-9][0-9]\\? kB' && echo small"
	if res := must(t, withStubInit("/bin/sh", "-c", look)...); res.out != "/memfd:kakuri-exec (deleted)\ninit\ninit0 1 2 small\n" {
		t.Errorf("%q", res.out)
	}
}

// Who may trace it, in the host's user namespace and with the capability for that, finds
// neither the environment nor the command line of the caller.
func TestInitForgets(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	look := "wc -c </proc/1/environ; tr -d '\\0' </proc/1/environ | wc -c; tr '\\0' '|' </proc/1/cmdline"
	res := must(t, withInit("/bin/sh", "-c", look)...)
	var size, left int
	var line string
	if n, err := fmt.Sscanf(res.out, "%d\n%d\n%s", &size, &left, &line); n != 3 || size == 0 || left != 0 || strings.Trim(line, "|") != "init" {
		t.Errorf("%v: %q", err, res.out)
	}
}

// defaultCaps is what containers get: no CAP_SYS_PTRACE, no CAP_SYS_ADMIN.
const defaultCaps abi.CapSet = 0x800405fb

// The streams of the container end with the command, and not with what it left behind.
func TestInitEndsAll(t *testing.T) { withBothInits(t, testInitEndsAll) }

func testInitEndsAll(t *testing.T, withInit func(args ...string) []plan.Step) {
	res := must(t, withInit("/bin/sh", "-c", "sleep 60 & sleep 60 & echo done")...)
	if res.out != "done\n" || res.status != 0 {
		t.Errorf("%#x: %q", int(res.status), res.out)
	}
}

// Three levels of namespaces within each other, each made by the one before.
func TestNested(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	stdin, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := launch.Run(context.Background(), plan.Plan{Steps: []plan.Step{clone(), in(&plan.Sigmask{}), in(&plan.Exec{Args: []string{nstest.PartPath("nest"), "3"}})}},
		launch.Options{Stdio: [3]*os.File{stdin, w, w}})
	stdin.Close()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(r)
	for _, want := range []string{"level 3", "level 2 pid 1 uid 0", "level 1 pid 1 uid 0", "level 0 pid 1 uid 0"} {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
			t.Fatalf("%q, want %q", lines.Text(), want)
		}
	}
	// From here the innermost has a number on each level.
	deepest := 0
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		for line := range strings.Lines(read(d + "/status")) {
			if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
				deepest = max(deepest, len(strings.Fields(rest)))
			}
		}
	}
	if deepest != 4 {
		t.Errorf("%d levels of pids are to be seen, want 4", deepest)
	}
	feed.Close()
	io.Copy(io.Discard, r)
	if st, err := p.Wait(); err != nil || st.ExitStatus() != 42 {
		t.Errorf("%v: code %d comes through", err, st.ExitStatus())
	}
}

// A process joins user, pid and mount namespaces that others made, in the order in which
// that is possible, and is root there.
func TestJoinUserNamespace(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	pid := hold(t, syscall.CLONE_NEWUSER|syscall.CLONE_NEWPID|syscall.CLONE_NEWNS|syscall.CLONE_NEWUTS|syscall.CLONE_NEWNET)
	var steps, joins []plan.Step
	for i, ns := range []abi.Namespace{abi.NSUser, abi.NSUTS, abi.NSNetwork, abi.NSMount, abi.NSPID} {
		reg := free + plan.Reg(i)
		steps = append(steps, rt(&plan.OpenNamespace{NS: ns, Path: fmt.Sprintf("/proc/%d/ns/%s", pid, ns.ProcName()), Out: reg}))
		joins = append(joins, in(&plan.Setns{NS: ns, FD: reg}))
	}
	steps = slices.Concat(steps, []plan.Step{clone(), in(&plan.Undumpable{})}, joins, []plan.Step{
		in(&plan.Fork{}), in(&plan.Setresgid{}), in(&plan.Setresuid{}), in(&plan.OpenRoot{Path: "/"}),
		in(&plan.Mount{Type: "proc", Source: "proc", Dest: "/proc"}), in(&plan.CloseFDs{First: 3}), in(&plan.Sigmask{}), probeHere(),
	})
	v := see(t, steps...)
	for _, ns := range []string{"user", "uts", "net", "mnt", "pid"} {
		if v.NS[ns] != nsOf(t, pid, ns) {
			t.Errorf("%s: in %s, not %s", ns, v.NS[ns], nsOf(t, pid, ns))
		}
	}
	if v.UID != [3]int{} || v.PID == 1 || v.PPID != 0 {
		t.Errorf("uid %v, pid %d, parent %d", v.UID, v.PID, v.PPID)
	}
	onlyStreams(t, v)
}

// A pid namespace whose pid 1 is gone takes no process any more; that is told.
func TestJoinDeadPIDNamespace(t *testing.T) {
	nstest.Root(t)
	dead := filepath.Join(nstest.Dir(t), "pid")
	if err := os.WriteFile(dead, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, clone(abi.NSPID), rt(&plan.KeepNamespace{NS: abi.NSPID, Path: dead}), rt(&plan.Sync{What: "kept"}), in(&plan.Sigmask{}), in(&plan.Exec{Args: []string{"/bin/true"}}))
	defer syscall.Unmount(dead, syscall.MNT_DETACH)
	for _, op := range []plan.Op{&plan.Fork{}, &plan.Init{}} {
		_, err := launchSteps(t, launch.Options{}, rt(&plan.OpenNamespace{NS: abi.NSPID, Path: dead, Out: free}), clone(), in(&plan.Setns{NS: abi.NSPID, FD: free}), in(op), probeHere())
		if err == nil {
			t.Errorf("%s works", op.Name())
			continue
		}
		if e := step(t, err); e.N != 4 || e.Call != "clone" || e.Errno() != syscall.ENOMEM {
			t.Error(err)
		}
	}
}

// TestForkCancelled: the copy that goes on in a joined pid namespace is ended and reaped, too, when its launch is given up before anybody knows of it. That pid namespace
// does not end before.
func TestForkCancelled(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	pid := hold(t, syscall.CLONE_NEWPID)
	steps := append(joinPID(pid)[:4], in(&plan.Sigmask{}), in(&plan.Exec{Args: []string{"/bin/true"}}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	child := 0
	before := func(i int) {
		if _, ok := steps[i].Op.(*plan.Setns); ok {
			nstest.Until(t, "it has made the copy", func() bool {
				data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
				return err == nil && strings.Contains(string(data), ") Z ")
			})
			cancel()
		}
	}
	if _, err := launch.Run(ctx, plan.Plan{Steps: steps}, launch.Options{Before: before, Cloned: func(pid int) { child = pid }}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	time.Sleep(50 * time.Millisecond) // for one that ends by itself when it finds nobody there
	noneLeft(t)
}

// TestStoppedInside: who is in the pid namespace that is joined stops the process that comes there. It is had go on: nothing else would, and nobody else could have the container.
func TestStoppedInside(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	pid := hold(t, syscall.CLONE_NEWPID)
	steps := append(joinPID(pid)[:4], start(), in(&plan.Sigmask{}), in(&plan.Exec{Args: []string{"/bin/true"}}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := launch.Run(ctx, plan.Plan{Steps: steps}, launch.Options{Start: func(pid int) error { return unix.Kill(pid, unix.SIGSTOP) }})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := p.Wait(); err != nil || status != 0 {
		t.Errorf("%v %v", status, err)
	}
}

// TestStubForks: the process that the stub makes in a joined pid namespace is the caller's child, in a session of its own, and where it cannot be executed it is
// reaped, whether its word or that of the fork comes first.
func TestStubForks(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	pid := hold(t, syscall.CLONE_NEWPID)
	joined := joinPID(pid)[:3]
	steps := func(args ...string) []plan.Step {
		return append(append([]plan.Step{rt(&plan.Stub{})}, joined...), in(&plan.Setsid{}), in(&plan.Sigmask{}), forked(), in(&plan.Exec{Args: args, Stub: true, Fork: true}))
	}
	res := must(t, steps("/bin/sh", "-c", "read self name state parent group session rest </proc/self/stat; test $self = $session && readlink /proc/self/ns/pid")...)
	if want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err != nil || res.out != want+"\n" {
		t.Errorf("it is in %q, want %s, %v", res.out, want, err)
	}
	for range 50 {
		if _, err := launch.Run(t.Context(), plan.Plan{Steps: steps("/none")}, launch.Options{}); !errors.Is(err, unix.ENOENT) {
			t.Fatalf("%v", err)
		}
	}
	noneLeft(t)
}

// forked is the start of what the stub has made.
func forked() plan.Step { return rt(&plan.Sync{From: plan.Runtime, What: plan.StartWord, Fork: true}) }

// noneLeft finds children of this process that nobody has waited for.
func noneLeft(t *testing.T) {
	t.Helper()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG, nil); err == nil && info.Signo != 0 {
		t.Error("a process that has ended is left")
	}
}

// TestStubForkGivenUp: the process that the stub has made does not go on before the runtime knows it, and has said so. It is ended and reaped when that gives up, or when the stub
// is killed over its fork, before its word or after it: whatever the moment, no process is left that nobody knows of, and the pid namespace could not end.
func TestStubForkGivenUp(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	pid := hold(t, syscall.CLONE_NEWPID)
	ran := filepath.Join(nstest.Dir(t), "ran")
	steps := append(append([]plan.Step{rt(&plan.Stub{})}, joinPID(pid)[:3]...), in(&plan.Setsid{}), in(&plan.Sigmask{}), forked(),
		in(&plan.Exec{Args: []string{"/bin/touch", ran}, Stub: true, Fork: true}))
	none := errors.New("given up")
	if _, err := launch.Run(t.Context(), plan.Plan{Steps: steps}, launch.Options{Start: func(int) error { return none }}); !errors.Is(err, none) {
		t.Errorf("%v", err)
	}
	killed, late := 0, 0
	for i := range 400 {
		var child, wait = 0, time.Duration(i) * 2 * time.Microsecond
		o := launch.Options{Cloned: func(pid int) { child = pid }, Start: func(int) error { return none }}
		o.Before = func(i int) {
			if _, ok := steps[i].Op.(*plan.Sync); ok {
				for begin := time.Now(); time.Since(begin) < wait; {
				}
				unix.Kill(child, unix.SIGKILL) // it is not waited for before the runtime has come to that
			}
		}
		switch _, err := launch.Run(t.Context(), plan.Plan{Steps: steps}, o); {
		case errors.Is(err, none):
			late++
		case err == nil:
			t.Fatal("it went on")
		default:
			killed++
		}
	}
	t.Logf("killed before its word %d times, after it %d times", killed, late)
	noneLeft(t)
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program was executed that nobody had go on")
	}
}

// TestLongPath: a program is found in whichever of many directories it is.
func TestLongPath(t *testing.T) {
	nstest.Root(t)
	const many = 700
	for _, at := range []int{0, 1, 198, 199, 200, 201, 400, 401, 602, many - 1} {
		dirs := slices.Repeat([]string{"/none"}, many)
		dirs[at] = "/bin"
		for _, op := range []plan.Op{&plan.FindProgram{Program: "true", Path: dirs}, &plan.Exec{Args: []string{"true"}, Path: dirs}} {
			if _, err := launchSteps(t, launch.Options{}, clone(), in(&plan.Sigmask{}), in(op), in(&plan.Exec{Args: []string{"/bin/true"}})); err != nil {
				t.Errorf("%s, directory %d: %v", op.Name(), at, err)
			}
		}
	}
	if _, err := launchSteps(t, launch.Options{}, clone(), in(&plan.FindProgram{Program: "true", Path: slices.Repeat([]string{"/none"}, many)}), probeHere()); !errors.Is(err, unix.ENOENT) {
		t.Errorf("nowhere: %v", err)
	}
}
