package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A place is a state directory, and the command on it.
type place struct {
	t      testing.TB
	dir    string
	stdin  *os.File
	chroot string // in which the command runs
}

func newPlace(t testing.TB) place { return place{t: t, dir: filepath.Join(nstest.Dir(t), "state")} }

func (p place) command(args ...string) *exec.Cmd {
	c := exec.Command(nstest.Binary(p.t, "kakuri-runtime"), append([]string{"--root", p.dir}, args...)...)
	if p.chroot != "" {
		c.Dir, c.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: p.chroot}
	}
	return c
}

// do runs a command, whose container's streams are files: a pipe would be held open.
func (p place) do(args ...string) (out string, code int) {
	p.t.Helper()
	f, err := os.CreateTemp(nstest.Dir(p.t), "out")
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	c := p.command(args...)
	c.Stdout, c.Stderr = f, f
	if p.stdin != nil {
		c.Stdin = p.stdin
	}
	if err := c.Run(); c.ProcessState == nil {
		p.t.Fatal(err)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		p.t.Fatal(err)
	}
	return string(data), c.ProcessState.ExitCode()
}

func (p place) good(args ...string) string {
	p.t.Helper()
	out, code := p.do(args...)
	if code != 0 {
		p.t.Fatalf("%v: code %d: %s", args, code, out)
	}
	return out
}

func (p place) bad(want string, args ...string) {
	p.t.Helper()
	if out, code := p.do(args...); code != 1 || !strings.Contains(out, want) {
		p.t.Errorf("%v: code %d: %q, want %q", args, code, out, want)
	}
}

func (p place) state(id string) specs.State {
	p.t.Helper()
	var s specs.State
	if err := json.Unmarshal([]byte(p.good("state", id)), &s); err != nil {
		p.t.Fatal(err)
	}
	return s
}

// empty fails when the state directory holds anything.
func (p place) empty() {
	p.t.Helper()
	if list, err := os.ReadDir(p.dir); err != nil || len(list) > 0 {
		p.t.Errorf("%v: the state directory has %v", err, list)
	}
}

// untilStopped waits for a container's end.
func (p place) untilStopped(id string) {
	p.t.Helper()
	nstest.Until(p.t, id+" is stopped", func() bool { return p.state(id).Status == specs.StateStopped })
}

// A container's life, and what each verb says at the wrong moment.
func TestLife(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("echo up >/mark; while ! test -e /go; do sleep 0.02; done; exit 3"))
	mark := filepath.Join(dir, "rootfs/mark")
	pidFile := filepath.Join(nstest.Dir(t), "pid")
	p.good("create", "--bundle", dir, "--pid-file", pidFile, "a.b-c_d+1")
	id := "a.b-c_d+1"
	s := p.state(id)
	if pid, err := os.ReadFile(pidFile); err != nil || string(pid) != strconv.Itoa(s.Pid) || s.Status != "created" || s.ID != id || s.Bundle != dir || s.Version != specs.Version {
		t.Errorf("%v: pid file %q, state %+v", err, pid, s)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a container runs before its start")
	}
	p.bad("container with given ID already exists", "create", "--bundle", dir, id)
	if out := p.good("exec", id, "sh", "-c", "echo $$ $A"); out == "" || !strings.HasSuffix(out, " 1\n") {
		t.Errorf("a process beside one that waits says %q", out)
	}
	p.good("start", id)
	if s := p.state(id); s.Status != "running" {
		t.Errorf("%+v", s)
	}
	p.bad("cannot start an already running container", "start", id)
	nstest.Until(t, "the container runs", func() bool { _, err := os.Stat(mark); return err == nil })
	if out, code := p.do("exec", id, "sh", "-c", "exit 9"); code != 9 {
		t.Errorf("code %d: %s", code, out)
	}
	if out, code := p.do("exec", id, "/none"); code != 255 || !strings.Contains(out, "/none") {
		t.Errorf("code %d: %s", code, out)
	}
	if out := p.good("list", "-q"); out != id+"\n" {
		t.Errorf("list: %q", out)
	}
	if out := p.good("list"); !strings.Contains(out, "ID          PID         STATUS") || !strings.Contains(out, "running") {
		t.Errorf("list: %q", out)
	}
	p.good("exec", id, "touch", "/beside")
	// From outside: the end of the container is the end of whoever would do it inside.
	if err := os.Rename(filepath.Join(dir, "rootfs/beside"), filepath.Join(dir, "rootfs/go")); err != nil {
		t.Error(err)
	}
	p.untilStopped(id)
	if s := p.state(id); s.Pid != 0 {
		t.Errorf("%+v", s)
	}
	p.bad("cannot start a container that has stopped", "start", id)
	p.bad("container not running", "kill", id)
	if out, code := p.do("exec", id, "true"); code != 255 || !strings.Contains(out, "cannot exec in a stopped container") {
		t.Errorf("code %d: %s", code, out)
	}
	p.good("delete", id)
	p.bad("container does not exist", "delete", id)
	p.bad("container does not exist", "state", id)
	p.good("delete", "--force", id)
	p.empty()
}

// Another file may take the place of the bundle's config.json, by crun's flag.
func TestConfigElsewhere(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("echo of the bundle"))
	other := nstest.Dir(t)
	write(t, other, base("echo of another"))
	if err := os.Rename(filepath.Join(other, "config.json"), filepath.Join(other, "mine.json")); err != nil {
		t.Fatal(err)
	}
	for _, line := range [][]string{
		{"run", "--config", filepath.Join(other, "mine.json"), "-b", dir, "c"},
		{"run", "-f", "mine.json", "-b", dir, "c"}, // below the working directory
	} {
		c := p.command(line...)
		c.Dir = other
		if out, err := c.CombinedOutput(); err != nil || string(out) != "of another\n" {
			t.Errorf("%v: %v: %q", line, err, out)
		}
	}
	if out := p.good("run", "--config", "config.json", "-b", dir, "c"); out != "of the bundle\n" {
		t.Errorf("%q", out)
	}
	p.bad("no/such.json", "create", "--config", "no/such.json", "-b", dir, "c")
	p.empty()
}

// TestStartWithoutInterpreter: a program that is there, and cannot be executed for want of its interpreter, is not said to be nowhere in PATH.
func TestStartWithoutInterpreter(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	for _, program := range []string{"script", "/bin/script"} {
		s := base("")
		s.Process.Args = []string{program}
		dir := bundle(t, s)
		if err := os.WriteFile(filepath.Join(dir, "rootfs/bin/script"), []byte("#!/no/such\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		p.good("create", "-b", dir, "c")
		p.bad("exec "+program+": no such file or directory: it was there when the container was created", "start", "c")
		p.good("delete", "-f", "c")
	}
	p.empty()
}

func TestKillAndDelete(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("trap 'exit 5' TERM; while :; do sleep 0.02; done"))
	for i, sig := range []string{"TERM", "SIGKILL", "9", "kill", ""} {
		id := "k" + strconv.Itoa(i)
		p.good("run", "--detach", "--bundle", dir, id)
		nstest.Until(t, "the signal ends "+id, func() bool {
			p.do("kill", id, sig)
			return p.state(id).Status == specs.StateStopped
		})
		p.good("delete", id)
	}
	p.good("run", "-d", "-b", dir, "r")
	p.bad("unknown signal", "kill", "r", "NONE")
	p.bad("for flag -root: it is a directory", "--root", "", "kill", "r")
	p.bad("cannot delete container r that is not stopped: running", "delete", "r")
	p.good("pause", "r")
	p.bad("cannot delete container r that is not stopped: paused", "delete", "r")
	p.good("delete", "-f", "r")
	p.good("create", "-b", dir, "c")
	p.good("delete", "-f", "c")
	p.empty()
}

// Who asks for the state of a container that is being created hears of it when it has been; a hook of the creation, which would wait for itself, at once.
func TestStateWhileCreated(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	config := base("exit")
	dir := bundle(t, config)
	p.good("create", "--bundle", dir, "x")
	// As it was a moment ago: locked by who creates it, and without a process.
	own := filepath.Join(p.dir, "x")
	fd, err := files.LockDir(own, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	aside := filepath.Join(nstest.Dir(t), "aside")
	if err := os.Rename(filepath.Join(own, "state.json"), aside); err != nil {
		t.Fatal(err)
	}
	cmd := p.command("state", "x")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	nstest.Until(t, "state waits for who creates it", func() bool {
		calls, _ := filepath.Glob("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/task/*/syscall")
		for _, name := range calls {
			if call, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(call), strconv.Itoa(unix.SYS_FLOCK)+" ") {
				return true
			}
		}
		return len(ended) > 0
	})
	if err := os.Rename(aside, filepath.Join(own, "state.json")); err != nil {
		t.Fatal(err)
	}
	unix.Flock(fd, unix.LOCK_UN)
	if err := <-ended; err != nil || !strings.Contains(out.String(), `"status": "created"`) {
		t.Errorf("%v: %s", err, &out)
	}
	p.good("delete", "x")

	heard := filepath.Join(nstest.Dir(t), "heard")
	config.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", strings.Join(p.command("state", "x").Args, " ") + " >" + heard}}}}
	write(t, dir, config)
	p.good("create", "--bundle", dir, "x")
	if out, err := os.ReadFile(heard); err != nil || !strings.Contains(string(out), `"status": "creating"`) {
		t.Errorf("%v: a hook hears %s", err, out)
	}
	p.good("delete", "x")

	// A name alone, where who made it was killed: there is nothing to tell of, but it can be taken away.
	if err := os.Mkdir(own, 0o711); err != nil {
		t.Fatal(err)
	}
	p.bad("container does not exist", "state", "x")
	p.good("delete", "x")
	p.empty()
}

// One that was not started goes without force, as with runc and crun: its process ends, nothing of its own has run, and its hooks hear of the end.
// One that is paused before its start stays, for whoever paused it.
func TestDeleteCreated(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	heard := filepath.Join(nstest.Dir(t), "heard")
	config := base("echo ran >/mark")
	config.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >" + heard}}}}
	dir := bundle(t, config)
	p.good("create", "--bundle", dir, "x")
	pid := p.state("x").Pid
	p.good("pause", "x")
	p.bad("cannot delete container x that is not stopped: paused", "delete", "x")
	p.good("resume", "x")
	p.good("delete", "x")
	nstest.Until(t, "the end of its process, for which somebody else waits", func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
	if _, err := os.Stat(filepath.Join(dir, "rootfs/mark")); err == nil {
		t.Error("its program has run")
	}
	if out, err := os.ReadFile(heard); err != nil || !strings.Contains(string(out), `"status":"stopped"`) {
		t.Errorf("%v: its hook hears %q", err, out)
	}
	p.bad("container does not exist", "start", "x")
	p.empty()
}

// A created container is ended by the signals that end a program, though it is the first process of its pid namespace; its
// own program finds nothing of that.
func TestKillCreated(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("exec grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status"))
	for _, sig := range []string{"TERM", "INT", "HUP", "QUIT"} {
		p.good("create", "--bundle", dir, "x")
		p.good("kill", "x", sig)
		p.untilStopped("x")
		p.bad("cannot start a container that has stopped", "start", "x")
		p.good("delete", "x")
	}
	cmd := p.command("create", "--bundle", dir, "x")
	var out bytes.Buffer
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	// What the caller ignores is not ignored inside, as those signals that the Go runtime leaves as it finds them.
	ignored := []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT, unix.SIGUSR1}
	signal.Ignore(ignored...)
	err = cmd.Run()
	signal.Reset(ignored...)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	p.good("start", "x")
	if _, err := out.ReadFrom(r); err != nil || out.String() != "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n" {
		t.Errorf("%v: %s", err, out.String())
	}
	p.untilStopped("x")
	p.good("delete", "x")
	p.empty()
}

// What is wrong is told by create, where it can be known then, and nothing is left.
func TestCreateErrors(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	for name, change := range map[string]func(*specs.Spec){
		"exec /plain: permission denied": func(s *specs.Spec) { s.Process.Args = []string{"/plain"} },
		"console socket":                 func(s *specs.Spec) { s.Process.Terminal = true },
		"config.json root.path":          func(s *specs.Spec) { s.Root.Path = "none" },
		"config.json mounts[0]":          func(s *specs.Spec) { s.Mounts[0].Type, s.Mounts[0].Destination = "nosuchfs", "/x" },
		"config.json: process.cwd":       func(s *specs.Spec) { s.Process.Cwd = "x" },
	} {
		s := base("true")
		change(s)
		dir := bundle(t, s)
		if err := os.WriteFile(filepath.Join(dir, "rootfs/plain"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		p.bad(name, "create", "--bundle", dir, "x")
	}
	for id, why := range map[string]string{
		"..": `invalid container ID format: \"..\" is none`, ".": `\".\" is none`, "a/b": `invalid container ID format: \"a/b\": invalid character \"/\"`,
		"a b": `invalid character \" \"`, "": "container id cannot be empty", "bär": `invalid character \"ä\"`, strings.Repeat("x", 1025): "longer than 1024 bytes",
	} {
		p.bad(why, "create", "--bundle", bundle(t, base("true")), id)
	}
	if list, err := os.ReadDir(p.dir); err == nil && len(list) > 0 {
		t.Errorf("left behind: %v", list)
	}
	if out, code := p.do("create", "--bundle", bundle(t, base("true")), "--console-socket", "/x", "x"); code != 1 || !strings.Contains(out, "cannot use console socket") {
		t.Errorf("code %d: %s", code, out)
	}
}

// A program that goes away between create and start is missed by start.
func TestStartError(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("")
	s.Process.Args = []string{"/gone"}
	dir := bundle(t, s)
	gone := filepath.Join(dir, "rootfs/gone")
	if err := os.WriteFile(gone, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.good("create", "--bundle", dir, "x")
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	p.bad("exec /gone: no such file or directory: it was there when the container was created", "start", "x")
	p.untilStopped("x")
	p.good("delete", "x")
	p.empty()
}

// Of several starts at the same time one works.
func TestStartOnce(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("echo up >>/mark; sleep 100"))
	p.good("create", "--bundle", dir, "x")
	var all sync.WaitGroup
	codes := make([]int, 6)
	for i := range codes {
		all.Go(func() { _, codes[i] = p.do("start", "x") })
	}
	all.Wait()
	worked := 0
	for _, c := range codes {
		if c == 0 {
			worked++
		}
	}
	if worked != 1 {
		t.Errorf("%d starts worked: %v", worked, codes)
	}
	p.good("delete", "--force", "x")
}

// What a killed runtime leaves is no container, or one that delete takes away.
func TestKilledCreate(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("sleep 100"))
	begin := time.Now()
	p.good("create", "--bundle", dir, "x")
	took := time.Since(begin)
	p.good("delete", "--force", "x")
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	for i := range rounds {
		c := p.command("create", "--bundle", dir, "x")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(took * time.Duration(i) / time.Duration(rounds) * 5 / 4)
		c.Process.Kill()
		c.Wait()
		p.good("delete", "--force", "x")
		if t.Failed() {
			return
		}
	}
	p.empty()
}

// A container whose removal was killed half way has its cgroup in some hierarchies of version 1 only: the next one takes those away, too.
func TestKilledDelete(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	dir := bundle(t, limited("exit 0", 5))
	for _, half := range []int{1, len(h.Hierarchies) / 2} {
		p.good("run", "--keep", "--bundle", dir, "x")
		for i, x := range h.Hierarchies {
			// The one by which processes are listed is among these.
			if i < half || slices.Contains(x.Controllers, "freezer") {
				if err := os.Remove(filepath.Join(x.Mount, "group/c")); err != nil {
					t.Fatal(err)
				}
			}
		}
		p.good("delete", "x")
		for _, x := range h.Hierarchies {
			if _, err := os.Stat(filepath.Join(x.Mount, "group/c")); !os.IsNotExist(err) {
				t.Errorf("it stays in %s: %v", x.Mount, err)
			}
		}
	}
	p.empty()
	removeParents(t)
}

// The master side of a terminal goes to the console socket, and a pidfd to its own: of a container that is made in another's pid namespace, too.
func TestSockets(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	t.Run("its own pid namespace", func(t *testing.T) { testSockets(t, p, specs.LinuxNamespace{Type: specs.PIDNamespace}) })
	t.Run("another's", func(t *testing.T) { testSockets(t, p, inPod(t, p)) })
}

func testSockets(t *testing.T, p place, pids specs.LinuxNamespace) {
	s := base("tty; stty size; read x </dev/tty; echo got $x")
	s.Linux.Namespaces[0] = pids
	s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Height: 33, Width: 77}
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666"}})
	console, pidfd := listen(t), listen(t)
	p.good("create", "--bundle", bundle(t, s), "--console-socket", console.path, "--pidfd-socket", pidfd.path, "x")
	master := os.NewFile(uintptr(console.receive(t)), "master")
	defer master.Close()
	fd := pidfd.receive(t)
	defer unix.Close(fd)
	p.good("start", "x")
	var out bytes.Buffer
	for !strings.Contains(out.String(), "33 77\r\n") { // the whole line: what is typed before its end stands in it
		buf := make([]byte, 100)
		n, err := master.Read(buf)
		if err != nil {
			t.Fatal(err, out.String())
		}
		out.Write(buf[:n])
	}
	if _, err := master.WriteString("word\n"); err != nil {
		t.Fatal(err)
	}
	out.ReadFrom(master) // ends with EIO
	if text := strings.ReplaceAll(out.String(), "\r", ""); !strings.Contains(text, "/dev/pts/0\n33 77\n") || !strings.HasSuffix(text, "got word\n") {
		t.Errorf("%q", text)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20000); n != 1 {
		t.Errorf("%v: the pidfd is of another process", err)
	}
	p.untilStopped("x")
	p.good("delete", "x")
}

type socket struct {
	path string
	l    *net.UnixListener
}

func listen(t testing.TB) socket {
	path := filepath.Join(nstest.Dir(t), "sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return socket{path, l}
}

func (s socket) receive(t testing.TB) int {
	t.Helper()
	s.l.SetDeadline(time.Now().Add(2 * time.Minute))
	c, err := s.l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	name, oob := make([]byte, 100), make([]byte, 100)
	n, oobn, _, _, err := c.ReadMsgUnix(name, oob)
	if err != nil || n == 0 {
		t.Fatal(err, n)
	}
	list, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(list) != 1 {
		t.Fatal(err, len(list))
	}
	fds, err := unix.ParseUnixRights(&list[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(err, fds)
	}
	return fds[0]
}

// TestProcessFile: what a file of exec leaves out of the fields that confine a process comes from the container's own
// process, and what it has is the file's.
func TestProcessFile(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("sleep 100")
	umask, score := uint32(0o27), 400
	s.Process.User.Umask, s.Process.OOMScoreAdj = &umask, &score
	s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 5120, Hard: 10240}}
	s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 7}
	s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	p.good("run", "-d", "--bundle", bundle(t, s), "x")
	defer p.good("delete", "-f", "x")
	const ask = `"sh","-c","grep CapBnd /proc/self/status; umask; cat /proc/self/oom_score_adj; ulimit -c; cut -d' ' -f19 /proc/self/stat; ionice -p $$"`
	for more, want := range map[string]string{
		``: "CapBnd:\t00000000000000e3\n0027\n400\n10\n7\nbest-effort: prio 6\n",
		`,"capabilities":{"bounding":["CAP_KILL"]},"user":{"umask":63},"oomScoreAdj":500,"rlimits":[{"type":"RLIMIT_CORE","soft":1024,"hard":1024}],
			"scheduler":{"policy":"SCHED_OTHER","nice":3},"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":2}`: "CapBnd:\t0000000000000020\n0077\n500\n2\n3\nbest-effort: prio 2\n",
	} {
		file := filepath.Join(nstest.Dir(t), "process.json")
		if err := os.WriteFile(file, []byte(`{"args":[`+ask+`],"env":["PATH=/bin"],"cwd":"/"`+more+`}`), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := p.good("exec", "-p", file, "x"); out != want {
			t.Errorf("%s: %q, want %q", more, out, want)
		}
	}
	if out, code := p.do("exec"); code != 1 {
		t.Errorf("exec of nothing: code %d: %s", code, out)
	}
}

// TestProcessOfContainer: what a file or a command line leaves out is the container's, labels among it; what is added to that changes nothing of the container.
func TestProcessOfContainer(t *testing.T) {
	own := func() *specs.Process {
		caps := append(make([]string, 0, 8), "CAP_KILL") // with room for what is added
		return &specs.Process{
			Args: []string{"own"}, Env: append(make([]string, 0, 8), "A=1"), Cwd: "/own", ApparmorProfile: "profile", SelinuxLabel: "label",
			User:         specs.User{UID: 1, GID: 2, AdditionalGids: append(make([]uint32, 0, 8), 3), Umask: at(uint32(0o27))},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Hard: 1}}, OOMScoreAdj: at(7), Scheduler: &specs.Scheduler{Policy: specs.SchedBatch},
			IOPriority: &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE}, ExecCPUAffinity: &specs.CPUAffinity{Final: "0"},
		}
	}
	c := &Container{config: &specs.Spec{Process: own()}}
	file := filepath.Join(t.TempDir(), "process.json")
	alone := own()
	alone.Args, alone.Env, alone.Cwd, alone.User.UID, alone.User.GID, alone.User.AdditionalGids = []string{"x"}, nil, "/", 0, 0, nil
	others := &specs.Process{
		Args: []string{"x"}, Cwd: "/", ApparmorProfile: "other", SelinuxLabel: "another", User: specs.User{Umask: at(uint32(0))}, Capabilities: &specs.LinuxCapabilities{},
		Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CPU", Hard: 2}}, OOMScoreAdj: at(0), Scheduler: &specs.Scheduler{Policy: specs.SchedOther},
		IOPriority: &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE}, ExecCPUAffinity: &specs.CPUAffinity{Final: "1"},
	}
	for _, in := range []*specs.Process{{Args: []string{"x"}, Cwd: "/"}, others} {
		want := others
		if in != others {
			want = alone
		}
		text, err := json.Marshal(in)
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if p, err := c.LoadProcess(file); err != nil || !reflect.DeepEqual(p, want) {
			t.Errorf("%s: %+v, %v, want %+v", text, p, err, want)
		}
	}
	both := []string{"CAP_KILL", "CAP_CHOWN"}
	all := ProcessChanges{
		Args: []string{"x"}, Env: []string{"B=2"}, Cwd: "/", UID: at(uint32(5)), GID: at(uint32(6)), Groups: []uint32{7}, Caps: []string{"CAP_CHOWN"},
		Terminal: true, NoNewPrivs: true, AppArmor: "other", SELinuxLabel: "another",
	}
	want := &specs.Process{
		Args: []string{"x"}, Env: []string{"A=1", "B=2"}, Cwd: "/", Terminal: true, NoNewPrivileges: true, ApparmorProfile: "other", SelinuxLabel: "another",
		User: specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{3, 7}, Umask: own().User.Umask}, Capabilities: &specs.LinuxCapabilities{Bounding: both, Effective: both, Permitted: both},
		Rlimits: own().Rlimits, OOMScoreAdj: own().OOMScoreAdj, Scheduler: own().Scheduler, IOPriority: own().IOPriority, ExecCPUAffinity: own().ExecCPUAffinity,
	}
	first, err1 := c.Process(all)
	second, err2 := c.Process(ProcessChanges{Args: []string{"y"}, Env: []string{"C=3"}, Groups: []uint32{8}, Caps: []string{"CAP_FOWNER"}})
	if err1 != nil || err2 != nil || !reflect.DeepEqual(first, want) || second.ApparmorProfile != "profile" || second.SelinuxLabel != "label" || second.NoNewPrivileges || second.User.UID != 1 || second.Cwd != "/own" {
		t.Errorf("%+v, %v, want %+v; and %+v, %v", first, err1, want, second, err2)
	}
	// A user without a group stays in the container's, in place of root's.
	if p, err := c.Process(ProcessChanges{UID: at(uint32(5))}); err != nil || p.User.UID != 5 || p.User.GID != own().User.GID || p.User.GID == 0 {
		t.Errorf("%+v, %v, want the group %d", p.User, err, own().User.GID)
	}
	// Ambient ones are added where the container's process has some.
	c.config.Process.Capabilities.Inheritable, c.config.Process.Capabilities.Ambient = []string{"CAP_KILL"}, []string{"CAP_KILL"}
	if p, err := c.Process(all); err != nil || !slices.Equal(p.Capabilities.Inheritable, both) || !slices.Equal(p.Capabilities.Ambient, both) {
		t.Errorf("%+v, %v", p.Capabilities, err)
	}
}

// TestDeleteOfTheKilled: who sent SIGKILL need not wait for the end before it deletes the container. With any other signal it runs.
func TestDeleteOfTheKilled(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("trap : TERM; for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; echo >/ready; while :; do sleep 100; done"))
	ready := filepath.Join(dir, "rootfs/ready")
	for range 15 {
		os.Remove(ready)
		p.good("run", "-d", "--bundle", dir, "x")
		nstest.Until(t, "its processes are there", func() bool { _, err := os.Stat(ready); return err == nil })
		p.good("kill", "x", "TERM")
		p.bad("cannot delete container x that is not stopped: running", "delete", "x")
		p.good("kill", "x", "KILL")
		p.good("delete", "x")
		p.empty()
	}
}

// A process beside the first one is what its options make it.
func TestExecOptions(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	spec := base("sleep 100")
	spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"sethostname"}, Action: specs.ActErrno}}}
	p.good("run", "-d", "--bundle", bundle(t, spec), "x")
	defer p.good("delete", "-f", "x")
	for _, c := range []struct {
		options []string
		line    string
		want    string
	}{
		{nil, "echo $A$B; pwd; id -u; grep -e NoNewPrivs -e Seccomp: /proc/self/status", "1\n/\n0\nNoNewPrivs:\t0\nSeccomp:\t2\n"},
		{[]string{"--env", "B=2", "-e", "A=0"}, "echo $A$B", "02\n"},
		{[]string{"--cwd", "/etc"}, "pwd", "/etc\n"},
		{[]string{"--user", "7:8", "-g", "9"}, "id -u; id -g; id -G; grep CapEff /proc/self/status", "7\n8\n8 9\nCapEff:\t0000000000000000\n"},
		{[]string{"--no-new-privs"}, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"},
		{[]string{"--cap", "CAP_NET_RAW"}, "grep -e CapInh -e CapEff -e CapAmb /proc/self/status", "CapInh:\t0000000000000000\nCapEff:\t00000000000020e3\nCapAmb:\t0000000000000000\n"},
	} {
		args := append(append([]string{"exec"}, c.options...), "x", "sh", "-c", c.line)
		if out := p.good(args...); out != c.want {
			t.Errorf("%v: %q, want %q", args, out, c.want)
		}
	}
	if out := p.good("exec", "--cap", "CAP_OF_NONE", "x", "echo", "ran"); !strings.Contains(out, "capability CAP_OF_NONE is left out: this kernel does not know it (--cap)") || !strings.HasSuffix(out, "ran\n") {
		t.Errorf("an unknown capability: %q", out)
	}
	file := filepath.Join(nstest.Dir(t), "process.json")
	if err := os.WriteFile(file, []byte(`{"args":["sh","-c","echo $X; pwd"],"env":["PATH=/bin","X=y"],"cwd":"/bin"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := p.good("exec", "--process", file, "x"); out != "y\n/bin\n" {
		t.Errorf("%q", out)
	}
	pidFile := filepath.Join(nstest.Dir(t), "pid")
	p.good("exec", "-d", "--pid-file", pidFile, "x", "sleep", "99")
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	// That it is executed is known a moment before its command line is there.
	nstest.Until(t, "its command line", func() bool {
		line, err := os.ReadFile("/proc/" + string(pid) + "/cmdline")
		return err != nil || len(line) > 0
	})
	if line, err := os.ReadFile("/proc/" + string(pid) + "/cmdline"); err != nil || string(line) != "sleep\x0099\x00" {
		t.Errorf("%v: %q", err, line)
	}
	if out := p.good("ps", "-f", "json", "x"); !strings.Contains(out, string(pid)) || strings.Count(out, ",") != 1 {
		t.Errorf("ps: %s", out)
	}
	if out := p.good("ps", "x", "-ef"); strings.Count(out, "\n") != 3 {
		t.Errorf("ps: %s", out)
	}
	if out, code := p.do("ps", "x", "--none"); code != 1 || !strings.Contains(out, "ps: exit status 1") {
		t.Errorf("ps: code %d: %s", code, out)
	}
	// As runc has it: the command is all that follows the ID, and flags end before that.
	if out := p.good("exec", "--", "x", "echo", "--", "hi"); out != "-- hi\n" {
		t.Errorf("exec: %q", out)
	}
	if out, code := p.do("exec", "x", "--", "echo", "hi"); code != 255 || !strings.Contains(out, "exec failed: ") || !strings.Contains(out, "--") {
		t.Errorf("exec --: code %d: %s", code, out)
	}
	for _, gid := range []string{"wheel", "1:2", "-1"} {
		if out, code := p.do("exec", "-g", gid, "x", "true"); code != 1 || !strings.Contains(out, "for flag -g: it is a GID, in digits") {
			t.Errorf("exec -g %s: code %d: %s", gid, code, out)
		}
	}
}

// A container that was killed before its start has stopped, also while its process still ends: the first one of a pid namespace stays until the others
// there are waited for.
func TestKilledBeforeStart(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	p.good("create", "--bundle", bundle(t, base("true")), "x")
	c := p.command("exec", "x", "sleep", "100")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "another process runs inside", func() bool { return strings.Contains(p.good("ps", "x"), "sleep 100") })
	if err := c.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	first := p.state("x").Pid
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "its files are closed", func() bool {
		_, err := os.Readlink("/proc/" + strconv.Itoa(first) + "/fd/0")
		return err != nil
	})
	p.bad("cannot start a container that has stopped", "start", "x")
	if err := c.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	p.untilStopped("x")
	p.good("delete", "x")
	p.empty()
}

// Errors go where callers look for them.
func TestLog(t *testing.T) {
	nstest.Root(t)
	p := newPlace(t)
	file := filepath.Join(nstest.Dir(t), "log")
	out, code := p.do("--log", file, "--log-format=json", "start", "none")
	if code != 1 || out != "container does not exist\n" {
		t.Errorf("code %d: %q", code, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var line struct{ Level, Msg, Time string }
	if err := json.Unmarshal(data, &line); err != nil || line.Level != "error" || line.Msg != "container does not exist" {
		t.Errorf("%v: %s", err, data)
	}
	if _, err := time.Parse(time.RFC3339, line.Time); err != nil {
		t.Error(err)
	}
	if out, code := p.do("--log-format", "xml", "list"); code != 1 || !strings.Contains(out, "invalid log-format: xml") {
		t.Errorf("code %d: %q", code, out)
	}
	if out, code := p.do("none"); code != 3 || !strings.Contains(out, "No help topic for 'none'") {
		t.Errorf("code %d: %q", code, out)
	}
	if out, code := p.do("--root", nstest.Dir(t), "list", "none"); code != 1 || !strings.Contains(out, "list: it takes no arguments") {
		t.Errorf("code %d: %q", code, out)
	}
	if out, code := p.do("kill", "--none", "x"); code != 1 || !strings.Contains(out, "flag provided but not defined: -none") {
		t.Errorf("code %d: %q", code, out)
	}
}

// TestDefaultRoot: root of a user namespace has no right to /run, and has the user's directory, unless it is a container's root by name.
func TestDefaultRoot(t *testing.T) {
	nstest.Root(t)
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	t.Setenv("USER", "someone")
	if got := DefaultRoot(); got != "/run/kakuri-runtime" && !host.InUserNamespace() {
		t.Errorf("root of the machine: %s", got)
	}
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWUSER, MapRoot: true}, func(t *testing.T) {
		for _, c := range []struct{ dir, user, want string }{
			{"/run/user/7", "someone", "/run/user/7/kakuri-runtime"}, {"/run/user/7", "", "/run/user/7/kakuri-runtime"},
			{"/run/user/7", "root", "/run/kakuri-runtime"}, {"", "someone", "/run/kakuri-runtime"},
		} {
			t.Setenv("XDG_RUNTIME_DIR", c.dir)
			t.Setenv("USER", c.user)
			if got := DefaultRoot(); got != c.want {
				t.Errorf("XDG_RUNTIME_DIR=%q USER=%q: %s, want %s", c.dir, c.user, got, c.want)
			}
		}
	})
}

// TestDefaultRootOfOthers: in a runtime directory where somebody else was first, or may write, there is no state to be had.
func TestDefaultRootOfOthers(t *testing.T) {
	user := nstest.User(t)
	top := filepath.Join(os.TempDir(), "kakuri-test-roots")
	kinds := []string{"none", "own", "closed", "open", "link", "file", "root"}
	if os.Geteuid() == 0 {
		for _, kind := range kinds {
			if err := errors.Join(os.MkdirAll(filepath.Join(top, kind), 0o755), os.Chmod(filepath.Join(top, kind), 0o777)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(top, "root/kakuri-runtime"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(top) })
	}
	nstest.Inside(t, nstest.Place{User: user}, func(t *testing.T) {
		for _, kind := range kinds {
			dir := filepath.Join(top, kind, "kakuri-runtime")
			err := error(nil)
			switch kind {
			case "own", "open", "closed":
				err = errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, map[string]os.FileMode{"own": 0o755, "open": 0o775, "closed": 0o700}[kind]))
			case "link":
				err = os.Symlink(filepath.Join(top, "own/kakuri-runtime"), dir)
			case "file":
				err = os.WriteFile(dir, nil, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("XDG_RUNTIME_DIR", filepath.Join(top, kind))
			_, err = (&Runtime{Root: DefaultRoot()}).Open("x")
			want := kind == "none" || kind == "own" || kind == "closed"
			if errors.Is(err, ErrNotExist) != want || !want && !strings.Contains(err.Error(), "is not a directory of this user alone") {
				t.Errorf("%s: %v", kind, err)
			}
			if _, err := (&Runtime{Root: dir + "/named"}).Open("x"); !errors.Is(err, ErrNotExist) && kind != "file" {
				t.Errorf("%s, named: %v", kind, err)
			}
		}
	})
}
