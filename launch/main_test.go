package launch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	os.Exit(nstest.Main(m, nstest.Options{
		Build: []string{"./cmd/kakuri", "cmd/objdump"},
		Parts: map[string]func([]string) int{"probe": probe, "holder": holder, "spy": spy, "family": family, "counter": counter, "nest": nest, "swapper": swapper, "orphaner": orphaner, "patient": patient},
	}))
}

// What the main thread alone has is read before there are others: package
// variables are set on it.
var deathSignal = func() int {
	if filepath.Base(os.Args[0]) != "probe" {
		return 0
	}
	unix.Prctl(unix.PR_GET_PDEATHSIG, ptr(&prctlAnswer), 0, 0, 0)
	return int(prctlAnswer)
}()

var prctlAnswer int32

// A view is what a program sees of itself.
type view struct {
	PID, PPID, SID, PGID int
	UID, GID             [3]int
	Groups               []int
	Status               map[string]string // lines of /proc/self/status
	Cwd                  string
	Dir                  []string // of "/"
	Mounts               []string // mountinfo lines
	NS                   map[string]string
	FDs                  map[string]string
	Env                  []string
	Host, Domain         string
	Umask                int
	DeathSignal          int
	Dumpable             int
	Personality          int
	OOM                  string
	Keyring              string // description of the session keyring
	TTY                  string // of /dev/tty: an error, or "rows columns"
	Offsets              string // timens_offsets
	Loopback             string // flags of lo
	NProc, NoFile        [2]uint64
	Deny                 string // answer to a call that a test's filter refuses
}

// probe prints a view, or does what its first argument says.
func probe(args []string) int {
	if len(args) > 0 {
		return probeWord(args[0])
	}
	data, err := json.Marshal(look())
	if err != nil {
		fmt.Println(err)
		return 1
	}
	os.Stdout.Write(data)
	return 0
}

func look() view {
	v := view{
		PID: os.Getpid(), PPID: os.Getppid(), PGID: syscall.Getpgrp(), Env: os.Environ(), DeathSignal: deathSignal,
		Status: map[string]string{}, NS: map[string]string{}, FDs: map[string]string{},
	}
	v.SID, _ = unix.Getsid(0)
	v.UID[0], v.UID[1], v.UID[2] = unix.Getresuid()
	v.GID[0], v.GID[1], v.GID[2] = unix.Getresgid()
	v.Groups, _ = os.Getgroups()
	for line := range strings.Lines(read("/proc/self/status")) {
		key, value, _ := strings.Cut(line, ":")
		v.Status[key] = strings.TrimSpace(value)
	}
	v.Cwd, _ = os.Getwd()
	v.Dir = list("/")
	v.Mounts = strings.Split(strings.TrimSpace(read("/proc/self/mountinfo")), "\n")
	for _, n := range list("/proc/self/ns") {
		v.NS[n], _ = os.Readlink("/proc/self/ns/" + n)
	}
	for _, n := range list("/proc/self/fd") {
		v.FDs[n], _ = os.Readlink("/proc/self/fd/" + n)
	}
	var uts unix.Utsname
	unix.Uname(&uts)
	v.Host, v.Domain = unix.ByteSliceToString(uts.Nodename[:]), unix.ByteSliceToString(uts.Domainname[:])
	v.Umask = unix.Umask(0)
	v.Dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	p, _, _ := syscall.Syscall(syscall.SYS_PERSONALITY, 0xffffffff, 0, 0)
	v.Personality = int(p)
	v.OOM = strings.TrimSpace(read("/proc/self/oom_score_adj"))
	if ring, err := unix.KeyctlInt(unix.KEYCTL_GET_KEYRING_ID, unix.KEY_SPEC_SESSION_KEYRING, 0, 0, 0); err == nil {
		v.Keyring, _ = unix.KeyctlString(unix.KEYCTL_DESCRIBE, ring)
	} else {
		v.Keyring = err.Error()
	}
	v.TTY = terminal()
	v.Offsets = read("/proc/self/timens_offsets")
	v.Loopback = loopback()
	for res, to := range map[int]*[2]uint64{unix.RLIMIT_NPROC: &v.NProc, unix.RLIMIT_NOFILE: &v.NoFile} {
		var l unix.Rlimit
		unix.Prlimit(os.Getpid(), res, nil, &l)
		to[0], to[1] = l.Cur, l.Max
	}
	if _, err := unix.GetsockoptInt(-1, 0, 0); err != nil {
		v.Deny = err.Error()
	}
	return v
}

func read(p string) string {
	data, err := os.ReadFile(p)
	if err != nil {
		return ""
	}
	return string(data)
}

func list(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return names
}

func terminal() string {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %d", size.Row, size.Col)
}

// loopback asks for the state of lo, whatever /sys shows.
func loopback() string {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err.Error()
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, ifr); err != nil {
		return err.Error()
	}
	if ifr.Uint16()&unix.IFF_UP != 0 {
		return "up"
	}
	return "down"
}

// in and rt make steps of the two sides.
func in(op plan.Op) plan.Step {
	return plan.Step{Op: op, Side: plan.Container, Cause: plan.Cause{Reason: "a test"}}
}
func rt(op plan.Op) plan.Step { return plan.Step{Op: op, Cause: plan.Cause{Reason: "a test"}} }

// clone makes the first process in new namespaces.
func clone(ns ...abi.Namespace) plan.Step { return rt(&plan.Clone{New: ns}) }

// sh runs a line of shell.
func sh(line string) plan.Step { return in(&plan.Exec{Args: []string{"/bin/sh", "-c", line}}) }

// probeHere runs the probe outside of any root of its own.
func probeHere() plan.Step { return in(&plan.Exec{Args: []string{nstest.PartPath("probe")}}) }

// start is the sync at which Options.Start is called.
func start() plan.Step { return rt(&plan.Sync{From: plan.Runtime, What: plan.StartWord}) }

// inRoot builds a container on a root file system, with the probe and a /proc,
// around the steps that a test is about, and ends in the probe.
func inRoot(root string, steps ...plan.Step) []plan.Step {
	all := []plan.Step{
		clone(abi.NSMount),
		in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}),
		in(&plan.AttachRoot{Path: root}),
		in(&plan.Bind{Source: nstest.Exe, Dest: "/probe"}),
		in(&plan.Mount{Type: "proc", Source: "proc", Dest: "/proc"}),
	}
	all = append(all, steps...)
	return append(all, in(&plan.PivotRoot{}), in(&plan.Exec{Args: []string{"/probe"}}))
}

// inUserNS builds a process in a new user namespace that maps root, and one more id.
func inUserNS(steps ...plan.Step) []plan.Step {
	ids := []plan.IDMapping{{Inside: 0, Outside: 100000, Size: 1000}}
	all := []plan.Step{
		clone(abi.NSUser), rt(&plan.WriteIDMap{Map: ids}), rt(&plan.WriteIDMap{Group: true, Map: ids}),
		rt(&plan.Sync{From: plan.Runtime, What: "id maps written"}),
	}
	return append(all, steps...)
}

// A result is how a launched program ended.
type result struct {
	out    string
	status syscall.WaitStatus
}

// launchSteps runs a plan to the end of its program, and collects what it printed.
func launchSteps(t testing.TB, o launch.Options, steps ...plan.Step) (result, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if o.Stdio == [3]*os.File{} {
		o.Stdio = [3]*os.File{null, w, w}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := launch.Run(context.Background(), plan.Plan{Steps: steps}, o)
	w.Close()
	if err != nil {
		return result{}, err
	}
	if p.Master != nil {
		defer p.Master.Close()
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	status, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return result{string(out), status}, nil
}

// must is launchSteps for plans that have to work.
func must(t testing.TB, steps ...plan.Step) result {
	t.Helper()
	res, err := launchSteps(t, launch.Options{}, steps...)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// see runs a plan that ends in the probe, and returns what that saw.
func see(t testing.TB, steps ...plan.Step) view {
	t.Helper()
	return parseView(t, must(t, steps...))
}

func parseView(t testing.TB, res result) view {
	t.Helper()
	var v view
	if err := json.Unmarshal([]byte(res.out), &v); err != nil || res.status != 0 {
		t.Fatalf("the probe ended with %#x: %v: %s", int(res.status), err, res.out)
	}
	return v
}

// held runs a plan up to its start sync, calls look with the process waiting
// there, and lets it end.
func held(t testing.TB, look func(pid int), steps ...plan.Step) {
	t.Helper()
	called := false
	_, err := launchSteps(t, launch.Options{Start: func(pid int) error { called = true; look(pid); return nil }}, steps...)
	if err != nil {
		t.Fatal(err)
	}
	if !called {
		t.Fatal("Start was not called")
	}
}

// step returns the *launch.Error in err, which must be one line and name the step.
func step(t testing.TB, err error) *launch.Error {
	t.Helper()
	var e *launch.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v (%T) is no *launch.Error", err, err)
	}
	text := err.Error()
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		t.Errorf("not one plain line: %q", text)
	}
	for _, part := range []string{fmt.Sprintf("step %d of %d: ", e.N, e.Of), e.Step.Cause.String(), e.Call, e.Hint} {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not have %q", text, part)
		}
	}
	if n := e.Errno(); n != 0 && (!strings.Contains(text, abi.Errno(n).Name()) || !errors.Is(err, n)) {
		t.Errorf("%q does not name, or is not, %v", text, n)
	}
	return e
}

// mountOf finds the topmost mount at a point in mountinfo lines: its options, and
// "type options-of-the-file-system" after the dash.
func mountOf(lines []string, point string) (options, peers, fs string) {
	for _, l := range lines {
		head, tail, _ := strings.Cut(l, " - ")
		if f := strings.Fields(head); len(f) >= 6 && f[4] == point {
			options, peers, fs = f[5], strings.Join(f[6:], " "), tail
		}
	}
	return options, peers, fs
}

// hold runs a process that lives until the test ends, in new namespaces, and
// returns its pid.
func hold(t testing.TB, flags uintptr) int {
	t.Helper()
	c := nstest.Part("holder")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if flags&unix.CLONE_NEWUSER != 0 {
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{Size: 2000}}
		c.SysProcAttr.GidMappings = c.SysProcAttr.UidMappings
		c.SysProcAttr.GidMappingsEnableSetgroups = true
	}
	return background(t, c)
}

// background starts a command that says "ready", and ends it with the test.
func background(t testing.TB, c *exec.Cmd) int {
	t.Helper()
	line, stdin := nstest.Background(t, c)
	t.Cleanup(func() { stdin.Close(); c.Wait() })
	if line != "ready" {
		t.Fatalf("%s did not start: %s", c.Args[0], line)
	}
	return c.Process.Pid
}

// nsOf gives the link text of a namespace of a process.
func nsOf(t testing.TB, pid int, name string) string {
	t.Helper()
	to, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func statusOf(t testing.TB, pid int, key string) string {
	t.Helper()
	for line := range bytes.Lines([]byte(read("/proc/" + strconv.Itoa(pid) + "/status"))) {
		if k, value, _ := bytes.Cut(line, []byte(":")); string(k) == key {
			return string(bytes.TrimSpace(value))
		}
	}
	t.Fatalf("/proc/%d/status has no %s", pid, key)
	return ""
}

// Do implements launch.Hands.
func (f handsFunc) Do(_ context.Context, op plan.Op, pid int) error { return f(op, pid) }
