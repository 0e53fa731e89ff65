package engine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/verify"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// asAsked wants a container to be what its records say.
func asAsked(t *testing.T, e *Engine, ref, when string) Container {
	t.Helper()
	c, p, err := e.Plan(ref)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	list, err := verify.Container(p, c.PID)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	for _, r := range list {
		if r.Verdict() == verify.Differs {
			t.Errorf("%s: it differs: %+v", when, r)
		}
	}
	return c
}

// halfway are the files that a change of a container's networks writes, in their order.
var halfway = []string{"container.json", "setup.json", "networks.json", "hosts"}

// contentsOf are those of a container.
func contentsOf(t *testing.T, c Container) map[string]string {
	t.Helper()
	has, err := c.contents(halfway...)
	if err != nil {
		t.Fatal(err)
	}
	return has
}

// rewind has the files from the ith on be as they were: what a command has not come to that was killed.
func rewind(t *testing.T, c Container, was map[string]string, i int) {
	t.Helper()
	for _, name := range halfway[i:] {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(was[name]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A container whose connect or disconnect was killed halfway is off that network with the next command, and verify finds nothing; it can be connected again.
func TestNetworkChangeKilledHalfway(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	loopback(t)
	networks(t, e, NetworkConfig{Name: "first"}, NetworkConfig{Name: "other", Internal: true})
	c := detached(t, e, on("first", Config{Name: "one", Command: []string{"/greeter", ":80"}, Publish: []PortSpec{{Port: 80}}}))
	ready(t, c)
	n, err := e.findNetwork("other")
	if err != nil {
		t.Fatal(err)
	}
	off := func() offNetwork {
		t.Helper()
		setup, err := monitor.ReadSetup(c.dir)
		if err != nil {
			t.Fatal(err)
		}
		all := setup.Options.Network.Endpoints
		return offNetwork{Network: n, Endpoint: all[len(all)-1]}
	}
	ways := map[string]func() error{
		"next":       e.sweep,
		"check":      func() error { _, err := e.Check(ctx, true); return err },
		"disconnect": func() error { _, lock, err := e.lock("one"); return errors.Join(err, lock.Close()) },
	}
	for i := 0; i <= len(halfway); i++ {
		for _, killed := range []string{"connect", "disconnect"} {
			for way, next := range ways {
				if i%len(ways) != map[string]int{"next": 0, "check": 1, "disconnect": 2}[way] {
					continue
				}
				when := fmt.Sprintf("%s killed after %d files, %s", killed, i, way)
				before := contentsOf(t, c)
				if err := e.NetworkConnect(ctx, "other", "one", Attachment{Aliases: []string{"alias"}}); err != nil {
					t.Fatal(when, err)
				}
				intended := off()
				if killed == "disconnect" {
					before = contentsOf(t, c)
					if err := e.NetworkDisconnect(ctx, "other", "one", false); err != nil {
						t.Fatal(when, err)
					}
				}
				rewind(t, c, before, i)
				if err := e.intend(c.ID, intent{Off: &intended}); err != nil {
					t.Fatal(err)
				}
				list, err := e.Check(ctx, false)
				if want := (Finding{Object: container(c.ID), Text: "a killed command has changed it by half"}); err != nil || !slices.Contains(list, want) {
					t.Errorf("%s: check finds %+v, %v", when, list, err)
				}
				if err := next(); err != nil {
					t.Errorf("%s: %v", when, err)
				}
				now := asAsked(t, e, "one", when)
				if len(now.Connections) != 1 || len(now.Config.attachments()) != 1 || len(now.Ports) == 0 || exists(e.intents()+"/"+c.ID) {
					t.Errorf("%s: it has %+v, %+v, %+v", when, now.Connections, now.Config.attachments(), now.Ports)
				}
				if devices := output(t, exec.Command("nsenter", "-n", "-t", strconv.Itoa(c.PID), "ip", "-br", "link")); strings.Contains(devices, "eth1") {
					t.Errorf("%s: it has devices\n%s", when, devices)
				}
				if _, err := e.netdb().Member(n.ID, c.ID); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s: it is a member: %v", when, err)
				}
				if leases, err := e.netdb().Leases(n.ID); err != nil || len(leases) > 0 {
					t.Errorf("%s: addresses are taken: %v, %v", when, leases, err)
				}
				if text := readFile(c.dir + "/hosts"); strings.Contains(text, intended.Endpoint.Addrs[0].Addr().String()) {
					t.Errorf("%s: it has in /etc/hosts\n%s", when, text)
				}
				if list, err := e.Check(ctx, false); err != nil || len(list) > 0 {
					t.Errorf("%s: check finds %+v, %v", when, list, err)
				}
				if t.Failed() {
					return
				}
			}
		}
	}
}

// A connect that fails at its last files leaves the container off the network, as it was, and works once what was in the way is gone.
func TestConnectThatFailsIsTakenBack(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	loopback(t)
	networks(t, e, NetworkConfig{Name: "first", Internal: true}, NetworkConfig{Name: "other"})
	c := detached(t, e, on("first", Config{Name: "one", Command: []string{"sleep", "1000"}}))
	// What a connect and a disconnect leave it.
	if err := errors.Join(e.NetworkConnect(ctx, "other", "one", Attachment{}), e.NetworkDisconnect(ctx, "other", "one", false)); err != nil {
		t.Fatal(err)
	}
	before := contentsOf(t, c)
	if strings.Contains(before["networks.json"], "Servers") {
		t.Errorf("nothing leads out, and it may ask outside: %s", before["networks.json"])
	}
	for _, name := range halfway[:3] {
		if err := os.Mkdir(c.dir+"/"+name+".new", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := e.NetworkConnect(ctx, "other", "one", Attachment{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s cannot be written: %v", name, err)
		}
		if err := os.Remove(c.dir + "/" + name + ".new"); err != nil {
			t.Fatal(err)
		}
		if err := e.sweep(); err != nil { // of what could not be written back at once
			t.Error(err)
		}
		asAsked(t, e, "one", name)
		for file, text := range contentsOf(t, c) {
			if text != before[file] {
				t.Errorf("%s could not be written, and %s is\n%s\nwas\n%s", name, file, text, before[file])
			}
		}
		if list, err := e.Check(ctx, false); err != nil || len(list) > 0 {
			t.Errorf("%s: check finds %+v, %v", name, list, err)
		}
	}
	if err := e.NetworkConnect(ctx, "other", "one", Attachment{}); err != nil {
		t.Error(err)
	}
	asAsked(t, e, "one", "at last")
}

// An update that was killed comes to its end with the next command, and one that the kernel refuses leaves all as it was.
func TestUpdateKilledOrRefused(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	cfg, none := asleep(nstest.RootFS(t)), int64(-1)
	cfg.Resources.Memory, cfg.Resources.PidsLimit = 64<<20, &none
	c := started(t, e, cfg)
	names := []string{"config.json", "task.json", "container.json"}
	was, err := c.contents(names...)
	if err != nil {
		t.Fatal(err)
	}
	limit := func(want int64, when string) {
		t.Helper()
		now := asAsked(t, e, c.ID, when)
		s, err := e.Stats(ctx, c.ID)
		if err != nil || int64(s.MemoryLimit) != want || now.Config.Resources.Memory != want {
			t.Errorf("%s: %v: memory %d, by its record %d, want %d", when, err, s.MemoryLimit, now.Config.Resources.Memory, want)
		}
		if exists(e.intents() + "/" + c.ID) {
			t.Errorf("%s: it is not at its end", when)
		}
	}
	inForce := func() string {
		t.Helper()
		var all strings.Builder
		for _, name := range []string{"cpu.cfs_quota_us", "cpu.max", "pids.max", "memory.limit_in_bytes", "memory.max"} {
			list, err := filepath.Glob("/sys/fs/cgroup/*/kakuri/" + c.ID + "/" + name)
			more, err2 := filepath.Glob("/sys/fs/cgroup/kakuri/" + c.ID + "/" + name)
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			for _, file := range append(list, more...) {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintln(&all, file, string(data))
			}
		}
		return all.String()
	}
	// The processors come after the memory, or before it.
	if _, err := e.Update(ctx, c.ID, UpdateConfig{Resources: Resources{Memory: 32 << 20, CpusetCpus: "4000"}}); err == nil {
		t.Error("it has processor 4000")
	}
	limit(64<<20, "refused")
	// The kernel has taken all but the last of these.
	given, few, half := inForce(), int64(50), int64(50000)
	tried := &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &few}, CPU: &specs.LinuxCPU{Quota: &half}}
	if _, err := e.updateGroup(&c, tried, nil); err != nil || inForce() == given {
		t.Fatalf("%v: in force are %s", err, given)
	}
	if err := e.updateBack(&c, &updating{Was: was}, tried); err != nil {
		t.Error(err)
	}
	if now := inForce(); now != given {
		t.Errorf("after what was refused there are in force\n%s, were\n%s", now, given)
	}
	if now, err := c.contents(names...); err != nil || fmt.Sprint(now) != fmt.Sprint(was) {
		t.Errorf("after what was refused its files are %v, %v, were %v", now, err, was)
	}
	before, both := int64(64<<20), int64(128<<20)
	u := UpdateConfig{Resources: Resources{Memory: 32 << 20}, Restart: &Restart{Policy: "always"}}
	for i := range len(names) + 1 {
		if _, err := e.Update(ctx, c.ID, u); err != nil {
			t.Fatal(err)
		}
		limit(32<<20, "updated")
		for _, name := range names[i:] {
			if err := os.WriteFile(c.dir+"/"+name, []byte(was[name]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if i < len(names) { // the kernel is the last
			if _, err := e.updateGroup(&c, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &before, Swap: &both}}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(e.intend(c.ID, intent{Update: &updating{Config: u, Was: was}}), e.sweep()); err != nil {
			t.Fatal(err)
		}
		limit(32<<20, fmt.Sprintf("killed after %d files", i))
		if now := found(t, e, c.ID); now.Config.Restart.Policy != "always" {
			t.Errorf("killed after %d files: its policy is %+v", i, now.Config.Restart)
		}
		if _, err := e.Update(ctx, c.ID, UpdateConfig{Resources: Resources{Memory: 64 << 20}, Restart: &Restart{Policy: "no"}}); err != nil {
			t.Fatal(err)
		}
	}
}

// What a killed cp has left of the process that it had for a container's files goes with system check --repair, and with the next start.
func TestStandInLeftIsTakenAway(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	c := started(t, e, asleep(nstest.RootFS(t)))
	now := 0
	if err := e.Stop(ctx, c.ID, StopOptions{Timeout: &now}); err != nil {
		t.Fatal(err)
	}
	place := e.dir + "/runtime/" + monitor.StandIn(c.ID)
	for what, next := range map[string]func() error{
		"check": func() error {
			list, err := e.Check(ctx, true)
			if want := (Finding{Object: container(c.ID), Text: "a process that a killed command had for its files is left", Mended: true}); len(list) != 1 || list[0] != want {
				t.Errorf("%+v", list)
			}
			return err
		},
		"start": func() error {
			return errors.Join(e.Start(ctx, c.ID, StartOptions{}), e.Stop(ctx, c.ID, StopOptions{Timeout: &now}))
		},
	} {
		if err := os.Mkdir(place, 0o711); err != nil {
			t.Fatal(err)
		}
		if err := next(); err != nil || exists(place) {
			t.Errorf("%s: left %t, %v", what, exists(place), err)
		}
	}
}

// A rename that fails leaves the container its name, and gives the other one back.
func TestRenameThatFailsIsTakenBack(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	c := started(t, e, asleep(nstest.RootFS(t)))
	inWay := c.dir + "/container.json.new"
	if err := os.Mkdir(inWay, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := e.Rename(ctx, c.ID, "another"); err == nil || !strings.Contains(err.Error(), "container.json") {
		t.Errorf("%v", err)
	}
	if err := os.Remove(inWay); err != nil {
		t.Fatal(err)
	}
	task, err := c.task()
	if now := found(t, e, c.ID); err != nil || now.Name != c.Name || task.Name != c.Name {
		t.Errorf("its name is %s, for its monitor %s, was %s, %v", now.Name, task.Name, c.Name, err)
	}
	if list, err := e.Check(ctx, false); err != nil || len(list) > 0 {
		t.Errorf("check finds %+v, %v", list, err)
	}
	if err := e.Rename(ctx, c.ID, "another"); err != nil {
		t.Error(err)
	}
}

// A monitor that is there and cannot be asked, as where no socket can be had, is an error: what it would have been asked for is not waited for.
func TestMonitorThatCannotBeAsked(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	c := started(t, e, asleep(nstest.RootFS(t)))
	socket := monitor.Place(e.dir, c.ID) + "/socket"
	if err := os.Rename(socket, socket+".aside"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Rename(socket+".aside", socket) })
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) // of another kind
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	dir, err := os.Open(filepath.Dir(socket))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/socket", dir.Fd())}), unix.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	if err := e.Kill(ctx, c.ID, ""); err == nil || !strings.Contains(err.Error(), "cannot be asked") {
		t.Errorf("kill: %v", err)
	}
	done := make(chan error, 2)
	now := 0
	go func() { done <- e.Stop(ctx, c.ID, StopOptions{Timeout: &now}) }()
	go func() { _, err := e.Wait(ctx, c.ID, NextExit); done <- err }()
	for range cap(done) {
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "cannot be asked") {
				t.Errorf("%v", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("it is waited for")
		}
	}
	var said []string
	e.warn = func(text string) { said = append(said, text) }
	if err := e.Kill(ctx, c.ID, "WINCH"); err != nil || !strings.Contains(strings.Join(said, "; "), "cannot be asked") {
		t.Errorf("a signal that needs no monitor: %v, and is told %q", err, said)
	}
	if err := e.nowConnected(&c, naming{}, true); err == nil || !strings.Contains(err.Error(), "cannot be asked") {
		t.Errorf("ports that it holds are led elsewhere without it: %v", err)
	}
}
