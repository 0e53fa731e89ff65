package oci

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestExecIntoFrozen: no process is started where it would stand still, in a control group below that somebody has frozen: on version 2 a container has its own do so, into
// which its first process went.
func TestExecIntoFrozen(t *testing.T) {
	nstest.Root(t)
	p := newPlace(t)
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	line, argv := "touch /ready; sleep 1000", []string{"exec", "--cgroup", "freezer:/below", "x", "true"}
	if h.Unified() {
		line = "cd /sys/fs/cgroup; mkdir below; echo $$ >below/cgroup.procs; echo +pids >cgroup.subtree_control; touch /ready; echo 1 >below/cgroup.freeze; sleep 1000"
		argv = []string{"exec", "x", "true"}
	}
	spec := base(line)
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"rw"}})
	dir := bundle(t, spec)
	p.good("run", "-d", "--bundle", dir, "x")
	nstest.Until(t, "it is ready", func() bool { _, err := os.Stat(filepath.Join(dir, "rootfs/ready")); return err == nil })
	c, err := (&Runtime{Root: p.dir}).Open("x")
	if err != nil {
		t.Fatal(err)
	}
	if !h.Unified() {
		below := filepath.Join(c.state.Cgroups["freezer"], "below")
		if err := os.Mkdir(below, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(below, "freezer.state"), []byte("FROZEN"), 0); err != nil {
			t.Fatal(err)
		}
	} else {
		nstest.Until(t, "it stands still", func() bool {
			events, _ := os.ReadFile(filepath.Join(c.state.Cgroups[""], "below/cgroup.events"))
			return strings.Contains(string(events), "frozen 1")
		})
	}
	started := p.command(argv...)
	out := &bytes.Buffer{}
	started.Stderr = out
	started.WaitDelay = time.Second // a child that stands still keeps the pipe
	late := time.AfterFunc(20*time.Second, func() { started.Process.Kill() })
	if err := started.Run(); !late.Stop() || err == nil || !strings.Contains(out.String(), "paused") {
		t.Errorf("%v: %s", err, out)
	}
	p.good("delete", "--force", "x")
	p.empty()
}

// TestExecFrozenOnTheWay: a container, or who may freeze it, that does so when another process is on its way into it, or has that one moved to a control group that stands
// still, does not have its caller wait: the start ends, as it does in a paused container, and so does the process.
func TestExecFrozenOnTheWay(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	set := func(dir string, frozen bool) {
		file, words := "cgroup.freeze", map[bool]string{true: "1", false: "0"}
		if !h.Unified() {
			file, words = "freezer.state", map[bool]string{true: "FROZEN", false: "THAWED"}
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(words[frozen]), 0); err != nil {
			t.Error(err)
		}
	}
	for _, user := range []bool{false, true} {
		p := newPlace(t)
		spec := base("sleep 1000")
		if user {
			withUserNS(spec)
			spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"})
		}
		dir := bundle(t, spec)
		p.good("run", "-d", "--bundle", dir, "x")
		c, err := (&Runtime{Root: p.dir}).Open("x")
		if err != nil {
			t.Fatal(err)
		}
		own := c.state.Cgroups["freezer"]
		if h.Unified() {
			own = c.state.Cgroups[""]
		}
		below := filepath.Join(own, "below")
		if err := os.Mkdir(below, 0o755); err != nil {
			t.Fatal(err)
		}
		set(below, true)
		for what, o := range map[string]launch.Options{
			"frozen": {Before: func(n int) {
				if n == 0 {
					set(own, true)
				}
			}},
			"moved": {Start: func(pid int) error {
				return os.WriteFile(filepath.Join(below, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
			}},
		} {
			ended := make(chan error, 1)
			go func() {
				proc, err := c.launchExec(context.Background(), &specs.Process{Args: []string{"true"}, Cwd: "/"}, ExecOptions{}, o)
				if proc != nil {
					proc.Wait()
				}
				ended <- err
			}()
			late := time.AfterFunc(time.Minute, func() {
				t.Errorf("user namespace %v, %s: it waits", user, what)
				set(own, false)
				set(below, false)
			})
			if err := <-ended; late.Stop() && !errors.Is(err, ErrPaused) {
				t.Errorf("user namespace %v, %s: %v", user, what, err)
			}
			set(own, false)
			set(below, true)
		}
		p.good("delete", "--force", "x")
		p.empty()
	}
}

// TestSilentSystemd: what needs no systemd is done to a container whose cgroup that made, also when it does not answer. A removal tells of it, and ends all processes first.
func TestSilentSystemd(t *testing.T) {
	nstest.Root(t)
	p := newPlace(t)
	spec := limited("sleep 1000 & echo 1 >/ready; sleep 1000", 100)
	spec.Linux.CgroupsPath = "" // its own name
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	dir := bundle(t, spec)
	p.good("run", "-d", "--bundle", dir, "x")
	nstest.Until(t, "it has two processes", func() bool { _, err := os.Stat(filepath.Join(dir, "rootfs/ready")); return err == nil })
	record := filepath.Join(p.dir, "x/state.json")
	made, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	state := map[string]any{}
	if err := json.Unmarshal(made, &state); err != nil {
		t.Fatal(err)
	}
	state["systemd"] = "system.slice:kakuri:x"
	bySystemd, err := json.Marshal(state)
	if err == nil {
		err = os.WriteFile(record, bySystemd, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/none")
	processes := func() (pids []int) {
		if err := json.Unmarshal([]byte(p.good("ps", "--format", "json", "x")), &pids); err != nil {
			t.Fatal(err)
		}
		return pids
	}
	if n := len(processes()); n < 2 {
		t.Errorf("%d processes", n)
	}
	p.good("events", "--stats", "x")
	p.good("pause", "x")
	p.good("resume", "x")
	if _, err := os.Stat("/run/systemd/private"); err != nil {
		p.bad("systemd", "update", "--pids-limit", "50", "x")
		p.bad("systemd", "delete", "--force", "x")
		nstest.Until(t, "all of its processes have ended", func() bool { return len(processes()) == 0 })
	}
	if err := os.WriteFile(record, made, 0o600); err != nil {
		t.Fatal(err)
	}
	p.good("delete", "--force", "x")
	p.empty()
}

// TestForeignGroup: a container that was killed before it was refused another one's cgroup is taken away, and that one's stays as it is, with systemd as well.
func TestForeignGroup(t *testing.T) {
	nstest.Root(t)
	p := newPlace(t)
	spec := limited("sleep 1000", 100)
	spec.Linux.CgroupsPath = "" // its own name
	p.good("run", "-d", "--bundle", bundle(t, spec), "x")
	made, err := os.ReadFile(filepath.Join(p.dir, "x/state.json"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/none")
	for id, unit := range map[string]any{"half": nil, "unit": "system.slice:kakuri:x"} {
		state := map[string]any{}
		if err := json.Unmarshal(made, &state); err != nil {
			t.Fatal(err)
		}
		delete(state, "pid")
		delete(state, "begun")
		if unit != nil {
			state["systemd"] = unit
		}
		half, err := json.Marshal(state)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(p.dir, id), 0o711); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(p.dir, id, "state.json"), half, 0o600); err != nil {
			t.Fatal(err)
		}
		p.good("delete", "--force", id)
	}
	if got := p.good("state", "x"); !strings.Contains(got, `"running"`) {
		t.Error(got)
	}
	p.good("delete", "--force", "x")
	p.empty()
}

// TestDeleteOfHeldUp: of a container whose first process does not end, the others do when it is deleted by force: they do not go on, let alone without limits.
func TestDeleteOfHeldUp(t *testing.T) {
	nstest.Root(t)
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	if h.Unified() {
		t.Skip("needs version 1 of the freezer, which SIGKILL waits for")
	}
	p := newPlace(t)
	spec := limited("sleep 1000 & echo 1 >/ready; wait", 100)
	spec.Linux.CgroupsPath = "" // its own name
	dir := bundle(t, spec)
	p.good("run", "-d", "--bundle", dir, "x")
	nstest.Until(t, "it has two processes", func() bool { _, err := os.Stat(filepath.Join(dir, "rootfs/ready")); return err == nil })
	c, err := (&Runtime{Root: p.dir}).Open("x")
	if err != nil {
		t.Fatal(err)
	}
	other, err := h.Group(cgroup.Options{Path: "/kakuri-test-" + rand.Text(), ID: "other"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, err := range []error{other.Create(limits.Limits{}), other.Join(c.state.PID, ""), other.Freeze(t.Context())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.bad("does not end", "delete", "--force", "x")
	if pids, err := c.Processes(); err != nil || len(pids) > 0 {
		t.Errorf("%v go on: %v", pids, err)
	}
	if err := other.Thaw(); err != nil {
		t.Error(err)
	}
	p.good("delete", "--force", "x")
	if err := other.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	p.empty()
}

// limited is a container with a cgroup of its own in which few processes may be.
func limited(line string, pids int64) *specs.Spec {
	s := base(line)
	s.Linux.CgroupsPath = "/group/c"
	s.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &pids}, Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"})
	return s
}

// pidsDir is where the container's process counts.
func pidsDir(t testing.TB) string {
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range h.Hierarchies {
		if slices.Contains(x.Controllers, "pids") {
			return filepath.Join(x.Mount, "group/c")
		}
	}
	t.Fatal("no hierarchy has the controller pids")
	return ""
}

// A container is in its cgroup with its limits, they change, and the cgroup goes with it.
func TestCgroup(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, limited("cat /proc/self/cgroup >/groups; (for i in 1 2 3 4 5 6; do sleep 100 & done) 2>/error; exec sleep 100", 5))
	group := pidsDir(t)
	p.good("create", "--bundle", dir, "x")
	if data, err := os.ReadFile(group + "/pids.max"); err != nil || string(data) != "5\n" {
		t.Errorf("%v: %q", err, data)
	}
	// Another's is left alone, down to an empty one below it.
	child := group + "/child"
	if err := os.Mkdir(child, 0o755); err != nil {
		t.Fatal(err)
	}
	p.bad("container's cgroup is not empty", "create", "--bundle", dir, "y")
	if err := os.Remove(child); err != nil {
		t.Errorf("a refused create reaches into another container's cgroup: %v", err)
	}
	p.good("start", "x")
	inside := filepath.Join(dir, "rootfs")
	nstest.Until(t, "the limit bites", func() bool {
		data, _ := os.ReadFile(inside + "/error")
		return strings.Contains(string(data), "fork")
	})
	// The cgroup namespace begins at the container's own cgroup.
	if data, err := os.ReadFile(inside + "/groups"); err != nil || strings.Contains(string(data), "group") || !strings.Contains(string(data), ":/\n") {
		t.Errorf("%v: %q", err, data)
	}
	p.good("update", "--pids-limit", "9", "x")
	if data, err := os.ReadFile(group + "/pids.max"); err != nil || string(data) != "9\n" {
		t.Errorf("%v: %q", err, data)
	}
	// Another process joins it, and is in the namespace.
	if out := p.good("exec", "x", "cat", "/proc/self/cgroup"); !strings.Contains(out, ":/\n") || strings.Contains(out, "group") {
		t.Errorf("%q", out)
	}
	var event struct {
		Type, ID string
		Data     struct {
			Pids struct{ Current, Limit uint64 }
		}
	}
	if err := json.Unmarshal([]byte(p.good("events", "--stats", "x")), &event); err != nil || event.Type != "stats" || event.ID != "x" || event.Data.Pids.Limit != 9 || event.Data.Pids.Current == 0 {
		t.Errorf("%v: %+v", err, event)
	}
	p.good("delete", "--force", "x")
	if _, err := os.Stat(group); !os.IsNotExist(err) {
		t.Errorf("the cgroup stays: %v", err)
	}
	os.Remove(filepath.Dir(group))
	removeParents(t)
}

// removeParents removes the directory above the container's cgroup, in every hierarchy: it may be another one's.
func removeParents(t testing.TB) {
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range h.Hierarchies {
		if err := os.Remove(filepath.Join(x.Mount, "group")); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
}

func TestPause(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("n=0; while :; do n=$((n+1)); echo $n >/count; sleep 0.01; done"))
	p.good("run", "-d", "--bundle", dir, "x")
	count := func() string {
		data, _ := os.ReadFile(filepath.Join(dir, "rootfs/count"))
		return string(data)
	}
	p.bad("container not paused", "resume", "x")
	nstest.Until(t, "it counts", func() bool { return count() != "" })
	p.good("pause", "x")
	if s := p.state("x"); s.Status != StatusPaused || s.Pid == 0 {
		t.Errorf("%+v", s)
	}
	before := count()
	time.Sleep(100 * time.Millisecond)
	if now := count(); now != before {
		t.Errorf("a paused container counts from %q to %q", before, now)
	}
	p.bad("container not running", "pause", "x")
	if out, code := p.do("exec", "x", "true"); code != 255 || !strings.Contains(out, "cannot exec in a paused container") {
		t.Errorf("code %d: %s", code, out)
	}
	p.good("resume", "x")
	nstest.Until(t, "it counts on", func() bool { return count() != before })
	p.good("pause", "x")
	p.good("delete", "--force", "x")
	// A signal waits, but for SIGKILL, which ends it at once.
	p.good("run", "-d", "--bundle", dir, "x")
	p.good("pause", "x")
	p.good("kill", "x", "TERM")
	if s := p.state("x"); s.Status != StatusPaused {
		t.Errorf("%+v", s)
	}
	p.good("kill", "x", "KILL")
	nstest.Until(t, "the paused container has ended", func() bool { return p.state("x").Status == specs.StateStopped })
	p.good("delete", "x")
	p.empty()
}

// TestKillBesideBelow: SIGKILL of a paused container ends it, and no other one whose control group is below its own. That goes on where it stood still by the pause
// of the one above it, and stays as it is where it is paused itself.
func TestKillBesideBelow(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	for _, paused := range []bool{false, true} {
		p := newPlace(t)
		a, b := base("sleep 1000 & sleep 1000"), base("sleep 1000")
		a.Linux.CgroupsPath = "/kakuri-above-" + rand.Text()
		b.Linux.CgroupsPath = a.Linux.CgroupsPath + "/below"
		p.good("run", "-d", "--bundle", bundle(t, a), "a")
		p.good("run", "-d", "--bundle", bundle(t, b), "b")
		if paused {
			p.good("pause", "b")
		}
		p.good("pause", "a")
		p.good("kill", "a", "KILL")
		nstest.Until(t, "the paused container has ended", func() bool { return p.state("a").Status == specs.StateStopped })
		want := specs.StateRunning
		if paused {
			want = StatusPaused
		}
		if s := p.state("b").Status; s != want {
			t.Errorf("the one below is %s", s)
		}
		if paused {
			p.good("resume", "b")
		}
		p.good("exec", "b", "true")
		p.good("delete", "--force", "b")
		p.good("delete", "a")
		p.empty()
	}
}

// TestExecMeetsEnd: a container that ends while another process is on its way into it does not run, whatever is in that one's way at that moment.
func TestExecMeetsEnd(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	for try := 0; ; try++ {
		p.good("run", "-d", "--bundle", bundle(t, base("sleep 100")), "x")
		p.good("pause", "x")
		c := p.command("exec", "--ignore-paused", "x", "true")
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(2*time.Minute, func() { c.Process.Kill() })
		nstest.Until(t, "it stands still inside", func() bool { return strings.Contains(p.good("ps", "-f", "json", "x"), ",") })
		p.good("kill", "x", "KILL")
		err := c.Wait()
		timer.Stop()
		nstest.Until(t, "the container has ended", func() bool { return p.state("x").Status == specs.StateStopped })
		p.good("delete", "x")
		code := c.ProcessState.ExitCode()
		if (code == 137 || code == 0) && try < 100 {
			continue // it went on faster than the container ended
		}
		if code != 255 || !strings.Contains(out.String(), "exec failed: container not running: it ended meanwhile") {
			t.Errorf("%v: %s", err, &out)
		}
		break
	}
	p.empty()
}

// Events come at their interval, and end with the container.
func TestEvents(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	p.good("run", "-d", "--bundle", bundle(t, base("sleep 100")), "x")
	c := p.command("events", "--interval", "10ms", "x")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*time.Minute, func() { c.Process.Kill() })
	defer timer.Stop()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for range 3 {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), `{"type":"stats","id":"x","data":{"cpu":`) {
			t.Fatalf("%q", lines.Text())
		}
	}
	p.good("kill", "x", "KILL")
	for lines.Scan() {
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	p.good("delete", "x")
	for _, bad := range [][]string{{"--interval", "0s"}, {"--interval", "x"}} {
		if out, code := p.do(append([]string{"events"}, append(bad, "x")...)...); code != 1 {
			t.Errorf("%v: code %d: %s", bad, code, out)
		}
	}
}

// A container without a pid namespace of its own is ended as a whole.
func TestSharedPIDNamespace(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("sleep 100 & sleep 100 & echo $! >/last; sleep 100")
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	for _, kill := range []bool{false, true} {
		dir := bundle(t, s)
		p.good("run", "-d", "--bundle", dir, "x")
		last := 0
		nstest.Until(t, "all are started", func() bool {
			data, _ := os.ReadFile(filepath.Join(dir, "rootfs/last"))
			last, _ = strconv.Atoi(strings.TrimSpace(string(data)))
			return last > 0
		})
		var pids []int
		if err := json.Unmarshal([]byte(p.good("ps", "--format", "json", "x")), &pids); err != nil || len(pids) < 3 {
			t.Errorf("%v: %v", err, pids)
		}
		if kill {
			p.good("kill", "--all", "x", "KILL")
			p.untilStopped("x")
			p.good("delete", "x")
		} else {
			p.good("delete", "--force", "x")
		}
		for _, pid := range pids {
			nstest.Until(t, "process "+strconv.Itoa(pid)+" is gone", func() bool {
				_, err := os.Stat("/proc/" + strconv.Itoa(pid))
				return err != nil
			})
		}
	}
	p.empty()
}

// A user namespace that is joined gives no right to another's namespaces, which are joined before; so does a process beside
// the first one.
func TestForeignNamespaces(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("sleep 100")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 0, Size: 1000}}
	s.Linux.GIDMappings = s.Linux.UIDMappings
	p.good("run", "-d", "-b", bundle(t, s), "x")
	defer p.good("delete", "-f", "x")
	s = base("sleep 100")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: fmt.Sprintf("/proc/%d/ns/user", p.state("x").Pid)})
	for i, n := range s.Linux.Namespaces {
		if n.Type == specs.NetworkNamespace {
			s.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/net", os.Getpid())
		}
	}
	p.good("run", "-d", "-b", bundle(t, s), "y")
	defer p.good("delete", "-f", "y")
	for ns, want := range map[string]string{"net": "/proc/self/ns/net", "user": fmt.Sprintf("/proc/%d/ns/user", p.state("x").Pid)} {
		if want, err := os.Readlink(want); err != nil || p.good("exec", "y", "readlink", "/proc/self/ns/"+ns) != want+"\n" {
			t.Errorf("%v: its %s namespace is not %s", err, ns, want)
		}
	}
}

// TestJoinedWithNewUserNamespace: a container with a new user namespace joins namespaces that belong to another one, to which that gives it no right. What shows them
// is made all the same: a sysfs with the network's devices, a procfs.
func TestJoinedWithNewUserNamespace(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	facts, err := host.Read(host.Needs{ProcPIDNS: true})
	if err != nil {
		t.Fatal(err)
	}
	other := base("ip link add other type bridge; sleep 100")
	caps := other.Process.Capabilities
	for _, set := range []*[]string{&caps.Bounding, &caps.Effective, &caps.Permitted} {
		*set = append(slices.Clone(*set), "CAP_NET_ADMIN")
	}
	p.good("run", "-d", "-b", bundle(t, other), "owner")
	defer p.good("delete", "-f", "owner")
	pid := p.state("owner").Pid
	nstest.Until(t, "the network's device", func() bool {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
		return err == nil && strings.Contains(string(data), "other:")
	})
	for name, joins := range map[string][]specs.LinuxNamespaceType{
		"network":       {specs.NetworkNamespace},
		"ipc":           {specs.IPCNamespace},
		"pid":           {specs.PIDNamespace},
		"control group": {specs.CgroupNamespace},
		"time":          {specs.TimeNamespace},
		"several":       {specs.NetworkNamespace, specs.IPCNamespace, specs.PIDNamespace, specs.UTSNamespace, specs.CgroupNamespace},
	} {
		if slices.Contains(joins, specs.PIDNamespace) && !facts.ProcPIDNS {
			continue // its procfs is mounted by who has a right to it there
		}
		t.Run(name, func(t *testing.T) {
			s := withDev(base("sleep 100"))
			s.Hostname = "" // of a joined uts namespace it could not be set
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"ro"}}, specs.Mount{Destination: "/mqueue", Type: "mqueue", Source: "mqueue"})
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			withUserNS(s)
			want := map[string]string{}
			for i := range s.Linux.Namespaces {
				n := &s.Linux.Namespaces[i]
				kind, _ := abi.ParseNamespace(string(n.Type))
				if own := kind.ProcName(); slices.Contains(joins, n.Type) {
					n.Path = fmt.Sprintf("/proc/%d/ns/%s", pid, own)
					if want[own], err = os.Readlink(n.Path); err != nil {
						t.Fatal(err)
					}
				}
			}
			id := strings.ReplaceAll(name, " ", "-")
			dir := bundle(t, s)
			if err := os.MkdirAll(filepath.Join(dir, "rootfs/mqueue"), 0o755); err != nil {
				t.Fatal(err)
			}
			p.good("create", "-b", dir, id)
			defer p.good("delete", "-f", id)
			p.good("start", id)
			for ns, text := range want {
				if got := p.good("exec", id, "readlink", "/proc/self/ns/"+ns); got != text+"\n" {
					t.Errorf("%s: it is in %s, want %s", ns, got, text)
				}
			}
			if got := p.good("exec", id, "cat", "/proc/self/uid_map"); !slices.Equal(strings.Fields(got), []string{"0", "100000", "1000"}) {
				t.Errorf("its user namespace maps %s", got)
			}
			if devices := strings.Fields(p.good("exec", id, "ls", "/sys/class/net")); slices.Contains(devices, "other") != slices.Contains(joins, specs.NetworkNamespace) {
				t.Errorf("its sysfs shows %q", devices)
			}
		})
	}
}

// A state that cannot be read hides no other container, and is taken away by force.
func TestBrokenState(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	for _, id := range []string{"a", "b", "c"} {
		p.good("run", "-d", "--bundle", bundle(t, base("sleep 100")), id)
	}
	p.good("delete", "--force", "b")
	if err := os.Mkdir(filepath.Join(p.dir, "b"), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "b/state.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := p.good("list", "-q"); !strings.Contains(out, "a\n") || !strings.Contains(out, "c\n") || !strings.Contains(out, "container b") {
		t.Errorf("%q", out)
	}
	p.bad("state.json", "delete", "b")
	for _, id := range []string{"a", "b", "c"} {
		p.good("delete", "--force", id)
	}
	p.empty()
}

// What an update is given wrong changes nothing.
func TestUpdateErrors(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	p.good("run", "-d", "--bundle", bundle(t, base("sleep 100")), "x")
	for _, c := range [][]string{
		{"--memory", "x"}, {"--memory", "9999999999g"}, {"--cpu-share", "-1"}, {"--blkio-weight", "70000"}, {"--cpuset-cpus", "none"}, {"--l3-cache-schema", "x"}, {"--resources", "/none"},
	} {
		p.bad("", append(append([]string{"update"}, c...), "x")...)
	}
	c := p.command("update", "--resources", "-", "x")
	c.Stdin = strings.NewReader(`{"pids":{"limit":"many"}}`)
	if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "pids.limit") {
		t.Errorf("%v: %s", err, out)
	}
	p.good("delete", "-f", "x")
}

// TestUpdateWithoutCgroup: as rootless podman asks for, whatever it is that it changes of a container.
func TestUpdateWithoutCgroup(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	p.good("--cgroup-manager=disabled", "run", "-d", "--bundle", bundle(t, base("sleep 100")), "x")
	for text, ok := range map[string]bool{`{}`: true, `{"cpu":{},"devices":[{"allow":false,"access":"rwm"}]}`: true, `{"pids":{"limit":9}}`: false, `{"memory":{"limit":99999999}}`: false} {
		c := p.command("update", "--resources", "-", "x")
		c.Stdin = strings.NewReader(text)
		if out, err := c.CombinedOutput(); (err == nil) != ok || !ok && !strings.Contains(string(out), "x has no cgroup: update needs one") {
			t.Errorf("%s: %v: %s", text, err, out)
		}
	}
	p.good("delete", "-f", "x")
}

// A process beside the first one begins on processors that the container's cgroup may not even allow, and ends on one
// of its own.
func TestExecAffinity(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	defer removeParents(t)
	p := newPlace(t)
	s := limited("sleep 100", 9)
	s.Linux.Resources.CPU = &specs.LinuxCPU{Cpus: lastCPU(t)}
	s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: lastCPU(t)}
	p.good("run", "-d", "-b", bundle(t, s), "x")
	defer p.good("delete", "-f", "x")
	out := p.good("--debug", "exec", "x", "grep", "Cpus_allowed_list", "/proc/self/status")
	if !strings.Contains(out, ": affinity: 0x1\"\n") || !strings.HasSuffix(out, "\nCpus_allowed_list:\t"+lastCPU(t)+"\n") {
		t.Errorf("%s", out)
	}
}

// The kernel keeps deadlines only of a process that may run on all processors, and looks before it is moved to a cgroup
// that has fewer, if it is moved too late.
func TestDeadline(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	defer removeParents(t)
	if runtime.NumCPU() == 1 {
		return // a cgroup cannot have fewer
	}
	p := newPlace(t)
	s := limited("sleep 100", 9)
	s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 42000, Deadline: 1000000, Period: 1000000}
	s.Linux.Resources.CPU = &specs.LinuxCPU{Cpus: lastCPU(t)}
	p.bad("process scheduler can't be used together with AllowedCPUs", "run", "-d", "-b", bundle(t, s), "x")
}

// Another process goes below the container's cgroup, in all hierarchies or in those of the controllers that are named.
func TestExecCgroup(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	defer removeParents(t)
	p := newPlace(t)
	p.good("run", "-d", "-b", bundle(t, limited("sleep 100", 9)), "x")
	defer p.good("delete", "-f", "x")
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	// On version 2 the container's own cgroup keeps its process: the controllers are not given on.
	sub := pidsDir(t) + "/sub"
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	arg := "pids:sub"
	if h.Unified() {
		arg = "sub"
		if out, code := p.do("exec", "--cgroup", "pids:sub", "x", "true"); code != 255 || !strings.Contains(out, "unknown controller pids") {
			t.Errorf("code %d: %s", code, out)
		}
	}
	file := filepath.Join(nstest.Dir(t), "pid")
	p.good("exec", "-d", "--pid-file", file, "--cgroup", arg, "x", "sleep", "99")
	pid, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if procs, err := os.ReadFile(sub + "/cgroup.procs"); err != nil || string(procs) != string(pid)+"\n" {
		t.Errorf("%v: %q, want %s", err, procs, pid)
	}
	for want, args := range map[string][]string{
		"bad sub cgroup path":                      {"--cgroup", ".."},
		"no such file or directory":                {"--cgroup", "none"},
		"unknown controller what":                  {"--cgroup", "what:/"},
		"each needs its controllers":               {"--cgroup", "sub", "--cgroup", "cpu:sub"},
		"each controller has a name":               {"--cgroup", "cpu,:sub"},
		"each controller has a name, and one path": {"--cgroup", "pids:sub", "--cgroup", "pids:/"},
	} {
		if out, code := p.do(append(append([]string{"exec"}, args...), "x", "true")...); code != 255 || !strings.Contains(out, want) {
			t.Errorf("%v: code %d: %s, want %q", args, code, out, want)
		}
	}
}

// TestLimitsBySystemd: a user's systemd is asked for limits that take controllers, and for nothing else, such as rules of devices, which a container does without.
func TestLimitsBySystemd(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	h := &cgroup.Host{Hierarchies: []cgroup.Hierarchy{{Version: limits.V2, Mount: "/sys/fs/cgroup"}}}
	r := &Runtime{UserSystemd: true}
	o := cgroup.Options{ID: "x", Rootless: true}
	if bus, err := r.manager(h, o, false); bus != nil || err != nil {
		t.Errorf("without limits: %v %v", bus, err)
	}
	if _, err := (&Runtime{Systemd: true}).manager(h, o, false); err == nil || !strings.HasPrefix(err.Error(), "--systemd-cgroup: ") {
		t.Errorf("by its flag: %v", err)
	}
}

// TestUnitGone: a user's last log-out ends systemd and the cgroups that it made. Who is there without it can remove the container still, and one whose cgroup is there needs it.
func TestUnitGone(t *testing.T) {
	nstest.Root(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
	r := &Runtime{}
	h, err := r.cgroups()
	if err != nil {
		t.Fatal(err)
	}
	g, err := h.Group(cgroup.Options{Path: "/kakuri-test-" + rand.Text(), ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	unit := "user.slice:kakuri:gone"
	c := &Container{ID: "gone", runtime: r, state: record{Cgroups: g.Paths(), Systemd: &unit, UserSystemd: true}}
	if err := c.removeGroup(t.Context()); err != nil {
		t.Errorf("it is gone: %v", err)
	}
	if err := g.Create(limits.Limits{}); err != nil {
		t.Fatal(err)
	}
	defer g.Remove(t.Context())
	if err := c.removeGroup(t.Context()); err == nil || !strings.Contains(err.Error(), "systemd of the user") {
		t.Errorf("it is there: %v", err)
	}
}

// TestOOMBeforeTheStart: what the kernel ends for want of memory is counted from before the execve on. A cgroup of systemd's may be gone right after that.
func TestOOMBeforeTheStart(t *testing.T) {
	nstest.Root(t)
	r := &Runtime{}
	h, err := r.cgroups()
	if err != nil {
		t.Fatal(err)
	}
	g, err := h.Group(cgroup.Options{Path: "/kakuri-test-" + rand.Text(), ID: "oom"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Create(limits.Limits{}); err != nil {
		t.Fatal(err)
	}
	defer g.Remove(t.Context())
	if _, err := g.OOMKills(); err != nil {
		t.Skipf("needs the controller memory: %v", err)
	}
	child := exec.Command("sleep", "100")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	if err := g.Join(child.Process.Pid, ""); err != nil { // its end is that of the counting
		t.Fatal(err)
	}
	fd, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	unit := "user.slice:kakuri:oom"
	c := &Container{ID: "oom", fd: fd, runtime: r, state: record{Cgroups: g.Paths(), Systemd: &unit}}
	watched := false
	m := &making{c: c, launch: &Launch{Started: func(Witness) error { watched = c.ooms != nil; return nil }}}
	defer m.forget()
	if err := m.start(child.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if !watched {
		t.Fatal("nobody counts")
	}
	child.Process.Kill()
	child.Wait()
	select { // what tells of the end of the last process is lost where the cgroup is removed right after it
	case <-c.ooms.over:
	case <-time.After(2 * time.Second): // with version 1 it is over with the cgroup
	}
}

// With systemd the quota is in whole percents, and that is what verify has to ask for as well.
func TestRecordedQuota(t *testing.T) {
	nstest.Root(t)
	r := &Runtime{}
	h, err := r.cgroups()
	if err != nil {
		t.Fatal(err)
	}
	g, err := h.Group(cgroup.Options{ID: "quota"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	quota, period, unit := int64(12345), uint64(100000), "user.slice:kakuri:quota"
	spec := &specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}}}}
	for _, test := range []struct {
		systemd *string
		want    string
	}{{nil, "12345"}, {&unit, "13000"}} {
		c := &Container{ID: "quota", runtime: r, state: record{Cgroups: g.Paths(), Systemd: test.systemd}}
		p, err := c.recorded(spec)
		if err != nil {
			t.Fatal(err)
		}
		found := slices.ContainsFunc(p.Writes, func(w plan.CgroupFileCheck) bool {
			quota, _, _ := strings.Cut(w.Value, " ")
			return quota == test.want && (strings.HasSuffix(w.Path, "/cpu.cfs_quota_us") || strings.HasSuffix(w.Path, "/cpu.max"))
		})
		if !found || p.Unit != (test.systemd != nil) {
			t.Errorf("systemd %v: want a quota of %s in %+v", test.systemd != nil, test.want, p.Writes)
		}
	}
}
