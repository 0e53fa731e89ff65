package cgroup

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/internal/nstest"
)

// onHosts runs a test on the machine's hierarchies; where it has both versions, also as if
// it had version 2 alone.
func onHosts(t *testing.T, test func(t *testing.T, h *Host)) {
	nstest.Root(t)
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	if h.Unified() {
		t.Run("v2", func(t *testing.T) { test(t, h) })
		return
	}
	t.Run("v1", func(t *testing.T) { test(t, h) })
	if hybrid(h) {
		only := &Host{tree: h.tree}
		for _, hi := range h.Hierarchies {
			if hi.Version == limits.V2 {
				only.Hierarchies = append(only.Hierarchies, hi)
			}
		}
		t.Run("v2", func(t *testing.T) { test(t, only) })
	}
}

// with runs a test where the machine has a controller.
func with(t *testing.T, controller string, test func(t *testing.T, h *Host)) {
	nstest.Root(t)
	found := false
	onHosts(t, func(t *testing.T, h *Host) {
		if h.Controllers()[controller] != limits.Absent {
			found = true
			test(t, h)
		}
	})
	if !found {
		t.Skipf("this machine's cgroups have no controller %s", controller)
	}
}

// group makes a cgroup beside or below the test's own, and removes it at the end of the test.
func group(t *testing.T, h *Host) *Group {
	t.Helper()
	name := "kakuri-test-" + rand.Text()
	if h.Unified() && h.Hierarchies[0].Own != "/" {
		// The test's own cgroup may not be delegated, but its root surely has controllers.
		name = "/" + name
	}
	return groupAt(t, h, Options{Path: name, ID: "test"}, limits.Limits{})
}

func groupAt(t *testing.T, h *Host, o Options, l limits.Limits) *Group {
	t.Helper()
	g, err := h.Group(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Create(l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Kill(context.Background(), unix.SIGKILL); err != nil {
			t.Error(err)
		}
		if err := g.Remove(context.Background()); err != nil {
			t.Error(err)
		}
		if g.Exists() {
			t.Errorf("%q is still there", g.Paths())
		}
		g.Close()
	})
	return g
}

// A member is a process in a cgroup, which waits for leave to go on.
type member struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start starts a part of this binary, moves it into the cgroup, and lets it go on.
func start(t *testing.T, g *Group, part string, args ...string) *member {
	t.Helper()
	m := &member{Cmd: nstest.Part(part, args...)}
	m.run(t)
	if err := g.Join(m.Process.Pid, ""); err != nil {
		m.Process.Kill()
		m.Wait()
		t.Fatal(err)
	}
	if part != "hold" {
		m.in.Write([]byte("\n"))
	}
	return m
}

func (m *member) run(t *testing.T) {
	t.Helper()
	var err error
	if m.in, err = m.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := m.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.out = bufio.NewReader(out)
	if m.Stderr == nil {
		m.Stderr = os.Stderr
	}
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Process.Kill(); m.Wait() })
}

// end waits for the process, and gives the signal that ended it, or 0.
func (m *member) end() syscall.Signal {
	var exit *exec.ExitError
	if errors.As(m.Wait(), &exit) {
		if st := exit.Sys().(syscall.WaitStatus); st.Signaled() {
			return st.Signal()
		}
	}
	return 0
}

func valueOf(t *testing.T, g *Group, controller string) func(name string) string {
	t.Helper()
	n := g.of(controller, limits.V1)
	if n == nil {
		n = g.of(controller, limits.V2)
	}
	return func(name string) string {
		t.Helper()
		dir, err := n.open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := readFile(dir, n.file(name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return strings.TrimSpace(text)
	}
}

func TestLife(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		nstest.NoLeaks(t)
		g := group(t, h)
		if !g.Exists() {
			t.Fatal("it was not made")
		}
		m := start(t, g, "hold")
		pid := m.Process.Pid
		if pids, err := g.list(pidsIn); err != nil || !slices.Equal(pids, []int{pid}) {
			t.Errorf("processes %v %v, want %d", pids, err, pid)
		}
		own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range g.nodes {
			if !strings.Contains(string(own), n.path+"\n") {
				t.Errorf("%s: the process is not in it:\n%s", n, own)
			}
		}
		// A second container does not get the same cgroup.
		again, err := h.Open(g.Paths(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if err := again.Create(limits.Limits{}); err == nil || !strings.Contains(err.Error(), "container's cgroup is not empty") {
			t.Errorf("made twice: %v", err)
		}
		// Nor is it removed while it has a process, and the error says which.
		short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if err := again.Remove(short); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("still in it: %d", pid)) {
			t.Errorf("removed with a process: %v", err)
		}
		if err := again.Kill(context.Background(), unix.SIGKILL); err != nil {
			t.Error(err)
		}
		if sig := m.end(); sig != unix.SIGKILL {
			t.Errorf("ended by %v", sig)
		}
		if err := again.Remove(context.Background()); err != nil {
			t.Error(err)
		}
		if g.Exists() {
			t.Error("it is still there")
		}
		// What is gone can be removed and killed again.
		if err := errors.Join(again.Remove(context.Background()), again.Kill(context.Background(), unix.SIGKILL)); err != nil {
			t.Error(err)
		}
	})
}

// TestRemoveEmpty: what was made or removed in some hierarchies, and not in the one by which processes are listed, goes, and what has a process stays.
func TestRemoveEmpty(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		nstest.NoLeaks(t)
		g := group(t, h)
		m := start(t, g, "hold")
		if err := g.RemoveEmpty(); err != nil || !g.Exists() {
			t.Errorf("it has a process: %v", err)
		}
		if err := g.Kill(t.Context(), unix.SIGKILL); err != nil {
			t.Error(err)
		}
		m.end()
		first, err := g.main()
		if err != nil {
			t.Fatal(err)
		}
		if err := first.remove(t.Context()); err != nil || g.Exists() {
			t.Fatalf("one hierarchy: %v", err)
		}
		if err := g.RemoveEmpty(); err != nil {
			t.Error(err)
		}
		for _, n := range g.nodes {
			n.close()
			if _, err := n.open(); !gone(err) {
				t.Errorf("%s is left: %v", n, err)
			}
		}
	})
}

// TestCovered: what somebody has mounted over a hierarchy, or in it, is no cgroup.
func TestCovered(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		g := group(t, h)
		n, err := g.main()
		if err != nil {
			t.Fatal(err)
		}
		for at, want := range map[string]string{n.h.Mount: "not a cgroup file system", n.String(): unix.EXDEV.Error()} {
			again, err := h.Open(g.Paths(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			if _, err := again.AllPids(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("over %s: %v, want %s", at, err, want)
			}
			again.Close()
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestParentRemoved: somebody removes the cgroup above whenever it is empty, as systemd does with slices, and it is made all the same.
func TestParentRemoved(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		nstest.NoLeaks(t)
		above := group(t, h)
		var tops []int
		for _, n := range above.nodes {
			top, err := n.tree.openMount(n.h)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(top)
			tops = append(tops, top)
		}
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Microsecond):
				}
				for i, n := range above.nodes {
					unix.Unlinkat(tops[i], strings.Trim(n.path, "/"), unix.AT_REMOVEDIR)
				}
			}
		}()
		for range 300 {
			o := above.opts
			o.Path += "/below"
			g, err := h.Group(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := g.Create(limits.Limits{}); err != nil {
				t.Error(err)
			}
			if err := g.Remove(context.Background()); err != nil {
				t.Error(err)
			}
			g.Close()
			if t.Failed() {
				break
			}
		}
		close(stop)
		<-stopped
	})
}

// TestCloneInto: on version 2 a process can begin in the cgroup.
func TestCloneInto(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		if !h.Unified() {
			return
		}
		g := group(t, h)
		fd, err := g.Directory("")
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		m := &member{Cmd: nstest.Part("hold")}
		m.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
		m.run(t)
		if pids, err := g.list(pidsIn); err != nil || !slices.Equal(pids, []int{m.Process.Pid}) {
			t.Errorf("processes %v %v, want %d", pids, err, m.Process.Pid)
		}
	})
}

// TestHybridLeavesControllers: beside version 1, a controller that nobody asked for stays where version 1 can have it.
func TestHybridLeavesControllers(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		if !hybrid(h) {
			return
		}
		var top string
		for _, hi := range h.Hierarchies {
			if hi.Version == limits.V2 {
				top = hi.Mount
			}
		}
		const file = "cgroup.subtree_control"
		before, err := os.ReadFile(filepath.Join(top, file))
		if err != nil {
			t.Fatal(err)
		}
		group(t, h)
		if after, err := os.ReadFile(filepath.Join(top, file)); err != nil || string(after) != string(before) {
			t.Errorf("%s of %s: %q %v, before it was %q", file, top, after, err, before)
		}
	})
}

// TestTasks: a process of one thread gets into every hierarchy of version 1 by itself.
func TestTasks(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		g := group(t, h)
		v1, v2 := g.Versions()
		fds := make([]int, v1)
		if err := g.Tasks("", fds); err != nil {
			t.Fatal(err)
		}
		// A shell has one thread, and prints by itself.
		m := &member{Cmd: exec.Command("sh", "-c", `for f; do printf 0 >/proc/self/fd/$f || exit 1; done; echo in; read end`, "sh")}
		for i, fd := range fds {
			f := os.NewFile(uintptr(fd), "tasks")
			defer f.Close()
			m.ExtraFiles, m.Args = append(m.ExtraFiles, f), append(m.Args, strconv.Itoa(3+i))
		}
		if v2 {
			into, err := g.Directory("")
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(into)
			m.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: into}
		}
		m.run(t)
		if line, err := m.out.ReadString('\n'); err != nil {
			t.Fatal(line, err)
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", m.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for _, n := range g.nodes {
			if strings.Contains(string(text), path.Join(n.h.Root, n.path)+"\n") {
				lines++
			}
		}
		if lines != len(g.nodes) {
			t.Errorf("in %d of %d cgroups:\n%s", lines, len(g.nodes), text)
		}
	})
}

// TestBelow: processes in cgroups below are found, ended, and their cgroups removed, however deep.
func TestBelow(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		g := group(t, h)
		for _, n := range g.nodes {
			at, err := openDir(n.fd, ".")
			if err != nil {
				t.Fatal(err)
			}
			for range 200 {
				if err := unix.Mkdirat(at, "d", 0o755); err != nil {
					t.Fatal(err)
				}
				next, err := openDir(at, "d")
				unix.Close(at)
				if err != nil {
					t.Fatal(err)
				}
				if n.h.Version == limits.V1 && n.h.has("cpuset") {
					if err := n.inherit(n.fd, next); err != nil {
						t.Fatal(err)
					}
				}
				at = next
			}
			unix.Close(at)
		}
		m := &member{Cmd: nstest.Part("hold")}
		m.run(t)
		if err := g.Join(m.Process.Pid, "/d/d"); err != nil {
			t.Fatal(err)
		}
		if pids, err := g.list(pidsIn); err != nil || len(pids) != 0 {
			t.Errorf("in itself %v %v", pids, err)
		}
		few(t, func() {
			if pids, err := g.AllPids(); err != nil || !slices.Equal(pids, []int{m.Process.Pid}) {
				t.Errorf("in all %v %v", pids, err)
			}
		})
		// A process finds no place in a cgroup whose children have controllers; until then it does.
		if sub, err := g.Follow(m.Process.Pid); err != nil || sub != "" {
			t.Errorf("a place is found in %q %v", sub, err)
		}
		n := g.nodes[0]
		given, err := readFile(n.fd, "cgroup.controllers")
		if names := strings.Fields(given); h.Unified() && err == nil && len(names) > 0 {
			if err := writeFile(n.fd, "cgroup.subtree_control", "+"+names[0]); err != nil {
				t.Fatal(err)
			}
			if sub, err := g.Follow(m.Process.Pid); err != nil || sub != "d/d" {
				t.Errorf("a place is found in %q %v", sub, err)
			}
		}
		few(t, func() {
			if err := g.Kill(context.Background(), unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
		})
		if sig := m.end(); sig != unix.SIGTERM {
			t.Errorf("ended by %v", sig)
		}
		few(t, func() {
			if err := g.Remove(t.Context()); err != nil || g.Exists() {
				t.Errorf("removed with few descriptors: %v", err)
			}
		})
	})
}

// few runs f with room for twenty more descriptors.
func few(t *testing.T, f func()) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(len(open) + 20), Max: limit.Max}, nil); err != nil {
		t.Fatal(err)
	}
	defer unix.Prlimit(0, unix.RLIMIT_NOFILE, &limit, nil)
	f()
}

// A container moved its first process out of its cgroup, which is gone then: who comes later goes where that one is.
func TestFollow(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		if !h.Unified() {
			return // a process of version 1 is in many cgroups
		}
		left, other := group(t, h), group(t, h)
		first, later := &member{Cmd: nstest.Part("hold")}, &member{Cmd: nstest.Part("hold")}
		first.run(t)
		later.run(t)
		if err := errors.Join(left.Join(first.Process.Pid, ""), other.Join(first.Process.Pid, ""), left.Remove(context.Background())); err != nil {
			t.Fatal(err)
		}
		g, err := h.Open(left.Paths(), Options{Unit: noUnit{}})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		if sub, err := g.Follow(first.Process.Pid); err != nil || sub != "" {
			t.Fatalf("%q %v", sub, err)
		}
		if err := g.Join(later.Process.Pid, ""); err != nil {
			t.Fatal(err)
		}
		if pids, err := other.AllPids(); err != nil || len(pids) != 2 {
			t.Errorf("%v %v, want both", pids, err)
		}
		if err := other.Kill(context.Background(), unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		first.end()
		later.end()
	})
}

// noUnit is a unit that nothing may be asked of.
type noUnit struct{ Unit }

func TestFreeze(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		g := group(t, h)
		m := start(t, g, "burn")
		// Before, it may not have its handlers: a signal that is deadly at once ends a frozen process, too.
		if line, err := m.out.ReadString('\n'); err != nil || line != "burning\n" {
			t.Fatalf("%q %v", line, err)
		}
		if err := g.Freeze(context.Background()); err != nil {
			t.Fatal(err)
		}
		if frozen, err := g.frozen(); err != nil || !frozen {
			t.Errorf("frozen %t %v", frozen, err)
		}
		// It does not use processor time any more.
		used := func() string {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", m.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			return strings.Fields(string(stat))[0]
		}
		pidfd, err := unix.PidfdOpen(m.Process.Pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pidfd)
		still := func(what string) {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 50)
			for err == unix.EINTR {
				n, err = unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 50)
			}
			if n != 0 || err != nil {
				t.Errorf("%s: ended while frozen: %d %v", what, n, err)
			}
		}
		before := used()
		still("left alone")
		if after := used(); after != before {
			t.Errorf("ran while frozen: %s, then %s", before, after)
		}
		if err := m.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		still("with a signal")
		if err := g.Thaw(); err != nil {
			t.Fatal(err)
		}
		if sig := m.end(); sig != unix.SIGTERM {
			t.Errorf("ended by %v", sig)
		}
		if frozen, err := g.frozen(); err != nil || frozen {
			t.Errorf("frozen %t %v", frozen, err)
		}
	})
}

// TestKillFrozen: a frozen container ends by SIGKILL.
func TestKillFrozen(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		g := group(t, h)
		m := start(t, g, "hold")
		if err := g.Freeze(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := g.Kill(context.Background(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if sig := m.end(); sig != unix.SIGKILL {
			t.Errorf("ended by %v", sig)
		}
	})
}

// TestKillFrozenBelow: what a container has frozen in a cgroup of its own making ends by SIGKILL, too, and the cgroup can be removed.
func TestKillFrozenBelow(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		g := group(t, h)
		below := groupAt(t, h, Options{Path: g.opts.Path + "/below"}, limits.Limits{})
		m := start(t, below, "hold")
		if err := below.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		ended := make(chan unix.Signal, 1)
		go func() { ended <- m.end() }()
		if err := g.Kill(t.Context(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		select {
		case sig := <-ended:
			if sig != unix.SIGKILL {
				t.Errorf("ended by %v", sig)
			}
		case <-time.After(20 * time.Second):
			t.Error("it goes on")
			if err := below.Thaw(); err != nil {
				t.Error(err)
			}
			<-ended
		}
	})
}

// TestLetEnd: a process ends that was sent SIGKILL while others of the container keep the cgroup below in which it is frozen.
func TestLetEnd(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		g := group(t, h)
		frozen := groupAt(t, h, Options{Path: g.opts.Path + "/frozen"}, limits.Limits{})
		others := groupAt(t, h, Options{Path: g.opts.Path + "/others"}, limits.Limits{})
		first := start(t, frozen, "hold")
		if err := frozen.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		n, err := frozen.main()
		if err != nil {
			t.Fatal(err)
		}
		file, value := "freezer.state", "FROZEN"
		if n.h.Version == limits.V2 {
			file, value = "cgroup.freeze", "1"
		}
		for range 8 {
			other := start(t, others, "write", n.String()+"/"+file, value)
			if line, err := other.out.ReadString('\n'); line != "writing\n" {
				t.Fatalf("%q, %v", line, err)
			}
		}
		first.Process.Kill()
		if err := g.LetEnd(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		ended := make(chan unix.Signal, 1)
		go func() { ended <- first.end() }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("it goes on")
			if err := g.Kill(t.Context(), unix.SIGKILL); err != nil {
				t.Error(err)
			}
			<-ended
		}
	})
}

// TestLetEndOfOthers: the end of a container's first process is not that of another container below it, which stands still, nor that of its limits, or the own ones.
func TestLetEndOfOthers(t *testing.T) {
	with(t, "cpu", func(t *testing.T, h *Host) {
		g := group(t, h)
		slow := limits.Limits{Writes: []limits.Write{{Version: limits.V1, Controller: "cpu", File: "cpu.cfs_quota_us", Value: "50000"}}}
		if h.Unified() {
			slow.Writes[0] = limits.Write{Version: limits.V2, Controller: "cpu", File: "cpu.max", Value: "50000 100000"}
		}
		file := slow.Writes[0].File
		below := groupAt(t, h, Options{Path: g.opts.Path + "/below"}, slow)
		for _, x := range []*Group{g, below} {
			if _, err := x.Apply(slow); err != nil {
				t.Fatal(err)
			}
		}
		first := &member{Cmd: nstest.Part("hold")}
		first.run(t)
		defer first.Wait()
		defer first.in.Close()
		if !h.Unified() { // where one that has children with controllers takes no process
			if err := g.Join(first.Process.Pid, ""); err != nil {
				t.Fatal(err)
			}
		}
		other := start(t, below, "hold")
		if err := below.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := g.LetEnd(t.Context(), func(pid int) bool { return pid == first.Process.Pid }); err != nil {
			t.Fatal(err)
		}
		for _, x := range []*Group{g, below} {
			if got := strings.TrimSpace(valueOf(t, x, "cpu")(file)); got != slow.Writes[0].Value {
				t.Errorf("%s is %q", file, got)
			}
		}
		if !below.StandsStill("") {
			t.Error("the other one goes on")
		}
		if err := below.Thaw(); err != nil {
			t.Error(err)
		}
		other.in.Close()
		if sig := other.end(); sig == unix.SIGKILL {
			t.Error("the other one was ended")
		}
	})
}

// TestHurry: what was sent SIGKILL is not slowed down by a limit of processor time, its own or one in a cgroup below, which a container may have made: before Linux 6.18 the
// kernel's own work for a process waits for that, too.
func TestHurry(t *testing.T) {
	with(t, "cpu", func(t *testing.T, h *Host) {
		g := group(t, h)
		slow := limits.Limits{Writes: []limits.Write{{Version: limits.V1, Controller: "cpu", File: "cpu.cfs_quota_us", Value: "5000"}}}
		file, fast := "cpu.cfs_quota_us", "-1\n"
		if h.Unified() {
			slow.Writes[0].Version, slow.Writes[0].File, slow.Writes[0].Value = limits.V2, "cpu.max", "5000 100000"
			file, fast = "cpu.max", "max 100000\n"
		}
		below := groupAt(t, h, Options{Path: g.opts.Path + "/below"}, slow)
		for _, x := range []*Group{g, below} {
			if _, err := x.Apply(slow); err != nil {
				t.Fatal(err)
			}
		}
		slowed := start(t, below, "hold")
		if err := g.Kill(t.Context(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if sig := slowed.end(); sig != unix.SIGKILL {
			t.Errorf("it ended by %v", sig)
		}
		for _, x := range []*Group{g, below} {
			if got := valueOf(t, x, "cpu")(file); got != fast && got+"\n" != fast {
				t.Errorf("%s is %q", file, got)
			}
		}
	})
}

// TestThreaded: the processes of a cgroup in a threaded subtree, which the kernel lists by their threads and ends none of at once, are ended all the same.
func TestThreaded(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		if !h.Unified() {
			return
		}
		above := group(t, h)
		other := groupAt(t, h, Options{Path: above.opts.Path + "/other"}, limits.Limits{})
		// Not while controllers of processes are shared out there.
		given, err := readFile(above.nodes[0].fd, "cgroup.subtree_control")
		for name := range strings.FieldsSeq(given) {
			err = errors.Join(err, writeFile(above.nodes[0].fd, "cgroup.subtree_control", "-"+name))
		}
		if err := errors.Join(err, writeFile(other.nodes[0].fd, "cgroup.type", "threaded")); err != nil {
			t.Fatal(err)
		}
		g := groupAt(t, h, Options{Path: above.opts.Path + "/threaded"}, limits.Limits{})
		for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
			m := start(t, above, "hold")
			if err := g.Join(m.Process.Pid, ""); err != nil {
				t.Fatal(err)
			}
			nstest.Until(t, "several threads", func() bool {
				list, err := g.AllPids()
				return err == nil && len(list) > 1
			})
			if err := g.Kill(t.Context(), sig); err != nil {
				t.Fatal(err)
			}
			if got := m.end(); got != sig {
				t.Errorf("ended by %v, want %v", got, sig)
			}
		}
		if err := g.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestKillMany: processes that start others all the time end, too.
func TestKillMany(t *testing.T) {
	with(t, "pids", func(t *testing.T, h *Host) {
		g := group(t, h)
		if err := apply(t, g, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(200))}}); err != nil {
			t.Fatal(err)
		}
		m := start(t, g, "spawn")
		nstest.Until(t, "many processes", func() bool {
			pids, err := g.AllPids()
			return err == nil && len(pids) > 10
		})
		if err := g.Kill(context.Background(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if sig := m.end(); sig != unix.SIGKILL {
			t.Errorf("ended by %v", sig)
		}
		if err := g.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestMemory: the limit is the kernel's, the process that passes it ends, and all that is told of.
func TestMemory(t *testing.T) {
	with(t, "memory", func(t *testing.T, h *Host) {
		const limit = 48 << 20
		g := group(t, h)
		r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(limit)), Swap: ptr(int64(limit)), Reservation: ptr(int64(limit / 2))}}
		if err := apply(t, g, r); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		oom, err := g.OOM(ctx)
		if err != nil {
			t.Fatal(err)
		}
		m := start(t, g, "eat")
		if _, ok := <-oom; !ok {
			t.Error("no word of it")
		}
		if sig := m.end(); sig != unix.SIGKILL {
			t.Errorf("ended by %v", sig)
		}
		if kills, err := g.OOMKills(); err != nil || kills != 1 {
			t.Errorf("%d ended for want of memory, %v", kills, err)
		}
		s, err := g.Stats()
		if err != nil {
			t.Fatal(err)
		}
		// The peak can be a page above the limit: the kernel counts before it refuses.
		if s.Memory.Usage.Limit != limit || s.Memory.Usage.Max > limit+1<<20 || s.Memory.Raw == nil {
			t.Errorf("%+v", s.Memory)
		}
		if !h.Unified() && s.Memory.Swap.Limit != limit {
			t.Errorf("%+v", s.Memory)
		}
		// The watch ends with the cgroup.
		if err := g.Remove(context.Background()); err != nil {
			t.Fatal(err)
		}
		for range oom {
		}
	})
}

// TestMemoryWatchStops: whoever does not want to hear any more is not held.
func TestMemoryWatchStops(t *testing.T) {
	with(t, "memory", func(t *testing.T, h *Host) {
		nstest.NoLeaks(t)
		g := group(t, h)
		ctx, cancel := context.WithCancel(context.Background())
		oom, err := g.OOM(ctx)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, ok := <-oom; ok {
			t.Error("an event that was none")
		}
		// Nor is it held with an event that nobody takes.
		if err := apply(t, g, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(32 << 20)), Swap: ptr(int64(32 << 20))}}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel = context.WithCancel(context.Background())
		if oom, err = g.OOM(ctx); err != nil {
			t.Fatal(err)
		}
		m := start(t, g, "eat")
		if sig := m.end(); sig != unix.SIGKILL {
			t.Errorf("ended by %v", sig)
		}
		cancel()
		for range oom {
		}
	})
}

// TestMemoryUpdate: limits go up and down, whichever of memory and swap stands in the way.
func TestMemoryUpdate(t *testing.T) {
	with(t, "memory", func(t *testing.T, h *Host) {
		g := group(t, h)
		read := valueOf(t, g, "memory")
		for _, step := range []struct{ limit, swap int64 }{{64, 64}, {128, 160}, {256, 256}, {32, 40}, {32, 32}, {512, 1024}} {
			r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(step.limit << 20), Swap: ptr(step.swap << 20)}}
			if err := apply(t, g, r); err != nil {
				t.Fatalf("%+v: %v", step, err)
			}
			file, swapFile, swap := "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", step.swap
			if h.Unified() {
				file, swapFile, swap = "memory.max", "memory.swap.max", step.swap-step.limit
			}
			if got := read(file); got != strconv.FormatInt(step.limit<<20, 10) {
				t.Errorf("%+v: %s is %s", step, file, got)
			}
			if h.Unified() && !exists(g.nodes[0].fd, swapFile) {
				continue
			}
			if got := read(swapFile); got != strconv.FormatInt(swap<<20, 10) {
				t.Errorf("%+v: %s is %s", step, swapFile, got)
			}
		}
		if err := apply(t, g, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(-1))}}); err != nil {
			t.Error(err)
		}
		if !h.Unified() {
			return
		}
		m := start(t, g, "hold")
		defer m.Process.Kill()
		nstest.Until(t, "memory in use", func() bool { return read("memory.current") != "0" })
		err := apply(t, g, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1)), CheckBeforeUpdate: ptr(true)}})
		if err == nil || !strings.Contains(err.Error(), "rejecting memory limit 1 <= usage") {
			t.Errorf("below what is in use: %v", err)
		}
	})
}

// TestMemoryTooLow: a limit below what processes hold is refused with what they hold; version 2 would end them.
func TestMemoryTooLow(t *testing.T) {
	with(t, "memory", func(t *testing.T, h *Host) {
		if h.Unified() {
			return
		}
		g := group(t, h)
		m := start(t, g, "keep")
		if line, err := m.out.ReadString('\n'); err != nil || line != "kept\n" {
			t.Fatalf("%q %v", line, err)
		}
		err := apply(t, g, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(8 << 20))}})
		if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "unable to set memory limit to 8388608 (current usage: ") {
			t.Error(err)
		}
	})
}

// TestRest: what only reading back can show.
func TestRest(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		g := group(t, h)
		for _, test := range []struct {
			controller string
			r          specs.LinuxResources
			v1, v2     map[string]string // file and text
		}{
			{
				"memory", specs.LinuxResources{Memory: &specs.LinuxMemory{Reservation: ptr(int64(1 << 20)), Swappiness: ptr(uint64(10)), DisableOOMKiller: ptr(true)}},
				map[string]string{"memory.soft_limit_in_bytes": "1048576", "memory.swappiness": "10", "memory.oom_control": "oom_kill_disable 1"},
				map[string]string{"memory.low": "1048576"},
			},
			{
				"cpu", specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(20000)), Burst: ptr(uint64(10000))}},
				map[string]string{"cpu.cfs_quota_us": "20000", "cpu.cfs_burst_us": "10000"},
				map[string]string{"cpu.max": "20000 100000", "cpu.max.burst": "10000"},
			},
			{ // a burst within the new quota, not the old one
				"cpu", specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(50000)), Burst: ptr(uint64(40000))}},
				map[string]string{"cpu.cfs_quota_us": "50000", "cpu.cfs_burst_us": "40000"},
				map[string]string{"cpu.max": "50000 100000", "cpu.max.burst": "40000"},
			},
			{ // and back: the quota is not below the burst at any time
				"cpu", specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(5000)), Burst: ptr(uint64(1000))}},
				map[string]string{"cpu.cfs_quota_us": "5000", "cpu.cfs_burst_us": "1000"},
				map[string]string{"cpu.max": "5000 100000", "cpu.max.burst": "1000"},
			},
			{"cpu", specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: ptr(int64(1))}}, map[string]string{"cpu.idle": "1"}, map[string]string{"cpu.idle": "1"}},
			{"cpu", specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: ptr(int64(0)), Shares: ptr(uint64(2048))}}, map[string]string{"cpu.idle": "0"}, map[string]string{"cpu.idle": "0", "cpu.weight": "174"}},
		} {
			if h.Controllers()[test.controller] == limits.Absent {
				continue
			}
			if err := apply(t, g, &test.r); err != nil {
				t.Error(err)
				continue
			}
			want := test.v1
			if h.Unified() {
				want = test.v2
			}
			for file, text := range want {
				if got := valueOf(t, g, test.controller)(file); !strings.Contains(got, text) {
					t.Errorf("%s is %q, want %q", file, got, text)
				}
			}
		}
		if n := g.of("cpu", limits.V1); n != nil && exists(n.fd, "cpu.rt_runtime_us") {
			// Who has no realtime has none to give. Where the root is the tests' own cgroup, it gets some.
			top, err := n.tree.openMount(n.h)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(top)
			if have, err := readNumber(top, "cpu.rt_runtime_us"); err != nil || have == 0 {
				if err := errors.Join(err, writeFile(top, "cpu.rt_runtime_us", "50000")); err != nil {
					t.Fatal(err)
				}
			}
			g := groupAt(t, h, Options{Path: "/kakuri-test-" + rand.Text()}, limits.Limits{})
			if err := apply(t, g, &specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimePeriod: ptr(uint64(500000)), RealtimeRuntime: ptr(int64(1000))}}); err != nil {
				t.Error(err)
			}
			if got := valueOf(t, g, "cpu")("cpu.rt_runtime_us"); got != "1000" {
				t.Errorf("cpu.rt_runtime_us is %s", got)
			}
		}
	})
}

// TestPids: no more tasks than allowed.
func TestPids(t *testing.T) {
	with(t, "pids", func(t *testing.T, h *Host) {
		g := group(t, h)
		if err := apply(t, g, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(4))}}); err != nil {
			t.Fatal(err)
		}
		// The shell, three that sleep, and one too many.
		m := &member{Cmd: exec.Command("/bin/sh", "-c", "read line; sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & wait")}
		// A file, since the ones that sleep would hold a pipe.
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		m.Stderr = null
		m.run(t)
		if err := g.Join(m.Process.Pid, ""); err != nil {
			t.Fatal(err)
		}
		m.in.Write([]byte("\n"))
		nstest.Until(t, "four tasks", func() bool {
			s, err := g.Stats()
			return err == nil && s.Pids.Current >= 3 && s.Pids.Limit == 4
		})
		events := valueOf(t, g, "pids")
		nstest.Until(t, "a refusal", func() bool {
			n, err := keyed(events("pids.events"), "max")
			return err == nil && n > 0
		})
		if pids, err := g.AllPids(); err != nil || len(pids) > 4 {
			t.Errorf("%v %v", pids, err)
		}
	})
}

// TestCPU: a quota throttles, and shares, periods and bursts are taken.
func TestCPU(t *testing.T) {
	with(t, "cpu", func(t *testing.T, h *Host) {
		g := group(t, h)
		if err := apply(t, g, &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(5000)), Period: ptr(uint64(50000))}}); err != nil {
			t.Fatal(err)
		}
		read := valueOf(t, g, "cpu")
		file, want := "cpu.shares", "512"
		if h.Unified() {
			file, want = "cpu.weight", "59"
		}
		if got := read(file); got != want {
			t.Errorf("%s is %s, want %s", file, got, want)
		}
		start(t, g, "burn")
		nstest.Until(t, "being throttled", func() bool {
			s, err := g.Stats()
			return err == nil && s.CPU.Throttling.ThrottledPeriods > 2 && s.CPU.Throttling.ThrottledTime > 0 && s.CPU.Usage.Total > 0
		})
	})
}

// TestCPUUpdate: within a parent's quota, neither period nor quota can always be first.
func TestCPUUpdate(t *testing.T) {
	with(t, "cpu", func(t *testing.T, h *Host) {
		parent := group(t, h)
		if err := apply(t, parent, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(50000)), Period: ptr(uint64(100000))}}); err != nil {
			t.Fatal(err)
		}
		g := groupAt(t, h, Options{Path: parent.opts.Path + "/kakuri-test-child", ID: "test"}, limits.Limits{})
		read := valueOf(t, g, "cpu")
		for _, step := range []struct {
			quota  int64
			period uint64
		}{{40000, 100000}, {4000, 10000}, {200000, 500000}, {1000, 5000}} {
			if err := apply(t, g, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &step.quota, Period: &step.period}}); err != nil {
				t.Fatalf("%+v: %v", step, err)
			}
			got := ""
			if h.Unified() {
				got = read("cpu.max")
			} else {
				got = read("cpu.cfs_quota_us") + " " + read("cpu.cfs_period_us")
			}
			if want := fmt.Sprintf("%d %d", step.quota, step.period); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		if h.Unified() {
			return // there a quota above the parent's is taken, and does not count
		}
		err := apply(t, g, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(90000)), Period: ptr(uint64(100000))}})
		if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "linux.resources.cpu") {
			t.Errorf("more than the parent has: %v", err)
		}
	})
}

func TestCPUSet(t *testing.T) {
	with(t, "cpuset", func(t *testing.T, h *Host) {
		g := group(t, h)
		if err := apply(t, g, &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0", Mems: "0"}}); err != nil {
			t.Fatal(err)
		}
		m := start(t, g, "hold")
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.Process.Pid))
		if err != nil || !strings.Contains(string(status), "\nCpus_allowed_list:\t0\n") {
			t.Errorf("%v\n%s", err, status)
		}
		if s, err := g.Stats(); err != nil || !h.Unified() && !slices.Equal(s.CPUSet.CPUs, []uint16{0}) {
			t.Errorf("%+v %v", s.CPUSet, err)
		}
	})
}

// TestDevices: what is not allowed cannot be opened; an update is seen by a process that runs.
func TestDevices(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		g := group(t, h)
		null := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(3)), Access: "rwm"}
		zero := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(5)), Access: "rwm"}
		tell := func(devices ...specs.LinuxDeviceCgroup) string {
			t.Helper()
			if err := apply(t, g, &specs.LinuxResources{Devices: devices}); err != nil {
				t.Fatal(err)
			}
			m := start(t, g, "open", "/dev/null", "/dev/zero", "/dev/full")
			out, err := io.ReadAll(m.out)
			if err != nil {
				t.Fatal(err)
			}
			m.Wait()
			return strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", ", "), "/dev/", "")
		}
		all := specs.LinuxDeviceCgroup{Access: "rwm"}
		every := specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"}
		const no = " operation not permitted"
		for _, test := range []struct {
			devices []specs.LinuxDeviceCgroup
			want    string
		}{
			{[]specs.LinuxDeviceCgroup{all, null}, "null ok, zero" + no + ", full" + no},
			{[]specs.LinuxDeviceCgroup{all, null, zero}, "null ok, zero ok, full" + no},
			{[]specs.LinuxDeviceCgroup{all, zero}, "null" + no + ", zero ok, full" + no},
			{[]specs.LinuxDeviceCgroup{every}, "null ok, zero ok, full ok"},
			{[]specs.LinuxDeviceCgroup{every, {Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(7)), Access: "r"}}, "null ok, zero ok, full" + no},
			{[]specs.LinuxDeviceCgroup{}, "null" + no + ", zero" + no + ", full" + no},
		} {
			if got := tell(test.devices...); got != test.want {
				t.Errorf("%+v: %s, want %s", test.devices, got, test.want)
			}
		}
		if n := g.of("", limits.V2); h.Unified() {
			// Of two that are ours, as two updates at once leave them, one stays.
			another, err := loadFilter(limits.Devices{}.Program())
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(another)
			if err := attachFilter(n.fd, another, -1); err != nil {
				t.Fatal(err)
			}
			if got := tell(every); got != "null ok, zero ok, full ok" {
				t.Errorf("with another program: %s", got)
			}
			if ids, err := filters(n.fd); err != nil || len(ids) != 1 {
				t.Errorf("programs %v %v, want one", ids, err)
			}
		}
	})
}

// TestDevicesAboveOthers: version 1's policy of a cgroup that has others below it is changed by single devices, and the error says why not as a whole.
func TestDevicesAboveOthers(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		g := group(t, h)
		n := g.of("devices", limits.V1)
		if n == nil {
			return // version 2's devices are a program, which asks nobody below
		}
		null := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(3)), Access: "rwm"}
		set := func(d ...specs.LinuxDeviceCgroup) error { return apply(t, g, &specs.LinuxResources{Devices: d}) }
		if err := set(null); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkdirat(n.fd, "below", 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unlinkat(n.fd, "below", unix.AT_REMOVEDIR) })
		if err := set(specs.LinuxDeviceCgroup{Access: "rwm"}); err != nil {
			t.Error(err)
		}
		if err := set(specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"}); err == nil || !strings.Contains(err.Error(), "there are cgroups below it") || !errors.Is(err, unix.EINVAL) {
			t.Error(err)
		}
	})
}

// TestVerifier: the kernel takes programs of every shape.
func TestVerifier(t *testing.T) {
	nstest.Root(t)
	many := []limits.Rule{{Type: 'a', Major: limits.Any, Minor: limits.Any}}
	for i := range int64(400) {
		many = append(many, limits.Rule{Allow: true, Type: "bc"[i%2], Major: i % 40, Minor: i - 1, Access: limits.Access(1 + i%7)})
	}
	deny := []limits.Rule{{Allow: true, Type: 'a', Major: limits.Any, Minor: limits.Any}}
	for _, r := range many[1:] {
		r.Allow = false
		deny = append(deny, r)
	}
	for _, rules := range [][]limits.Rule{nil, many, deny, {{Allow: true, Type: 'c', Major: 1<<32 - 1, Minor: 1<<32 - 1, Access: limits.ReadAccess}}} {
		d, err := limits.NewDevices(rules)
		if err != nil {
			continue // a hole: some of many meet
		}
		fd, err := loadFilter(d.Program())
		if err != nil {
			t.Errorf("%s: %v", d, err)
			continue
		}
		unix.Close(fd)
	}
	if _, err := loadFilter(limits.Program{{Op: 0x95}}); err == nil || !strings.Contains(err.Error(), "R0") {
		t.Errorf("a program without a result: %v", err)
	}
}

func TestBlockIO(t *testing.T) {
	with(t, "blkio", func(t *testing.T, h *Host) {
		g := group(t, h)
		disks, err := filepath.Glob("/sys/block/*/dev")
		if err != nil {
			t.Fatal(err)
		}
		if len(disks) == 0 {
			t.Skip("this machine has no disk")
		}
		var major, minor int64
		for _, d := range disks {
			dev, err := os.ReadFile(d)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sscanf(string(dev), "%d:%d", &major, &minor); !strings.Contains(d, "/loop") && !strings.Contains(d, "/ram") {
				break
			}
		}
		rate := []specs.LinuxThrottleDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: major, Minor: minor}, Rate: 1 << 20}}
		if err := apply(t, g, &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: rate}}); err != nil {
			t.Fatal(err)
		}
		file, want := "blkio.throttle.read_bps_device", fmt.Sprintf("%d:%d 1048576", major, minor)
		if h.Unified() {
			file, want = "io.max", fmt.Sprintf("%d:%d rbps=1048576", major, minor)
		}
		if got := valueOf(t, g, "blkio")(file); !strings.Contains(got, want) {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
		if _, err := g.Stats(); err != nil {
			t.Error(err)
		}
	})
}

func TestHugepages(t *testing.T) {
	with(t, "hugetlb", func(t *testing.T, h *Host) {
		g := group(t, h)
		if err := apply(t, g, &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}}); err != nil {
			t.Fatal(err)
		}
		file := "hugetlb.2MB.max"
		if h.Controllers()["hugetlb"] == limits.V1 {
			file = "hugetlb.2MB.limit_in_bytes"
		}
		if got := valueOf(t, g, "hugetlb")(file); got != "4194304" {
			t.Errorf("%s is %s", file, got)
		}
		if s, err := g.Stats(); err != nil || len(s.Hugetlb) == 0 {
			t.Errorf("%+v %v", s.Hugetlb, err)
		}
		err := apply(t, g, &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "3MB", Limit: 1}}})
		if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "no pages of that size") {
			t.Errorf("pages that there are not: %v", err)
		}
	})
}

// TestStatsJSON: what callers read by name is there.
func TestStatsJSON(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		g := group(t, h)
		start(t, g, "hold")
		s, err := g.Stats()
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"} {
			if _, ok := m[key]; !ok {
				t.Errorf("no %s in %s", key, text)
			}
		}
		if s.Pids.Current == 0 {
			t.Errorf("no task: %s", text)
		}
	})
}

// TestDelegate: the files that the kernel names are the user's, the limits stay root's.
func TestDelegate(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		if !h.Unified() {
			return
		}
		g := group(t, h)
		const uid = 12345
		if err := g.Delegate(uid); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]uint32{".": uid, "cgroup.procs": uid, "cgroup.subtree_control": uid, "cgroup.threads": uid, "cgroup.freeze": 0, "cgroup.max.depth": 0} {
			var st unix.Stat_t
			if err := unix.Fstatat(g.nodes[0].fd, name, &st, 0); err != nil || st.Uid != want {
				t.Errorf("%s belongs to %d %v, want %d", name, st.Uid, err, want)
			}
		}
	})
}

// TestRootless: an ordinary user gets along without cgroups, unless one is asked for.
func TestRootless(t *testing.T) {
	user := nstest.User(t)
	nstest.Inside(t, nstest.Place{User: user}, func(t *testing.T) {
		h, err := Detect()
		if err != nil {
			t.Fatal(err)
		}
		g, err := h.Group(Options{ID: "kakuri-test-" + rand.Text(), Rootless: true})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		if !h.Unified() && len(g.Paths()) > 0 {
			t.Errorf("named, and not to be made: %v", g.Paths()) // a plan would bind them
		}
		if err := g.Create(limits.Limits{}); err != nil {
			t.Errorf("without limits: %v", err)
		}
		if n := g.Notices(); len(n) != 1 || !strings.Contains(n[0], "permission denied") {
			t.Errorf("not said once: %q", n)
		}
		if err := errors.Join(g.Join(os.Getpid(), ""), g.Kill(context.Background(), 0), g.Remove(context.Background())); err != nil && len(g.nodes) > 0 {
			t.Error(err)
		}
		limit := &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(5))}}
		l, err := limits.Compile(limit, h.Controllers())
		if err != nil {
			t.Fatal(err)
		}
		g2, err := h.Group(Options{ID: "kakuri-test-" + rand.Text(), Rootless: true})
		if err != nil {
			t.Fatal(err)
		}
		defer g2.Close()
		err = g2.Create(l)
		if err == nil {
			_, err = g2.Apply(l)
		}
		if err == nil || !strings.Contains(err.Error(), "cannot set pids limit: container could not join or create cgroup: those of version 1 are root's alone") &&
			!strings.Contains(err.Error(), "rootless needs no limits + no cgrouppath when no permission is granted for cgroups") {
			t.Errorf("with a limit: %v", err)
		}
		g3, err := h.Group(Options{Path: "/kakuri-test-" + rand.Text(), ID: "x", Rootless: true})
		if err != nil {
			t.Fatal(err)
		}
		defer g3.Close()
		if err := g3.Create(limits.Limits{}); err == nil || !strings.Contains(err.Error(), "unable to apply cgroup configuration") || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("with a path: %v", err)
		}
	})
}

// BenchmarkLife makes a cgroup, moves a process into it, and removes it.
func BenchmarkLife(b *testing.B) {
	nstest.Root(b)
	h, err := Detect()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		c := nstest.Part("hold")
		in, err := c.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		g, err := h.Group(Options{Path: "kakuri-test-" + rand.Text()})
		if err == nil {
			err = errors.Join(g.Create(limits.Limits{}), g.Join(c.Process.Pid, ""))
		}
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		in.Close()
		c.Wait()
		b.StartTimer()
		if err := g.Remove(context.Background()); err != nil {
			b.Fatal(err)
		}
		g.Close()
	}
}

// BenchmarkDetect reads what is mounted.
func BenchmarkDetect(b *testing.B) {
	for b.Loop() {
		if _, err := Detect(); err != nil {
			b.Fatal(err)
		}
	}
}

func exists(dir int, name string) bool {
	return unix.Faccessat(dir, name, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// TestFilters: of a version 2 cgroup's device programs the kernel tells ids, names and tags, and the tag is that of the
// policy in force.
func TestFilters(t *testing.T) {
	onHosts(t, func(t *testing.T, h *Host) {
		if !h.Unified() {
			return
		}
		g := group(t, h)
		dir := g.Paths()[""]
		if list, err := Filters(dir); err != nil || len(list) != 0 {
			t.Fatalf("%v %v before there is one", list, err)
		}
		tagged := func(d limits.Devices, tag [8]byte) bool {
			older, newer := sha1.Sum(d.Program().Bytes()), sha256.Sum256(d.Program().Bytes())
			return tag == [8]byte(older[:8]) || tag == [8]byte(newer[:8])
		}
		var last limits.Devices
		for _, policy := range []string{"deny all", "deny all but c 1:3 rwm, b 8:* r", "allow all but c 1:5 w"} {
			d, err := limits.ParseDevices(policy)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := g.Apply(limits.Limits{Devices: &d}); err != nil {
				t.Fatal(err)
			}
			list, err := Filters(dir)
			if err != nil || len(list) != 1 || list[0].ID == 0 || !list[0].Ours() || list[0].Unread != nil || !tagged(d, list[0].Tag) || tagged(last, list[0].Tag) && policy != "deny all" {
				t.Errorf("%s: %+v %v", policy, list, err)
			}
			last = d
		}
		if _, err := Filters(dir + "/none"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("of no cgroup: %v", err)
		}
	})
}
