package systemd

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/internal/dbus"
	"github.com/kakuri/kakuri/internal/nstest"
)

func TestMain(m *testing.M) {
	os.Exit(nstest.Main(m, nstest.Options{Parts: map[string]func([]string) int{"hold": hold, "user": user}}))
}

// hold stays until its standard input ends.
func hold([]string) int {
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// user says why there is no manager for it.
func user([]string) int {
	_, err := User()
	fmt.Println(err)
	return 0
}

// userManager starts a manager of a user for this test, in a cgroup of its own that has all it makes, where User finds it.
func userManager(t *testing.T) {
	t.Helper()
	nstest.Root(t)
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	g, err := host.Group(cgroup.Options{Path: "/kakuri-test-" + rand.Text(), ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Create(limits.Limits{}); err != nil {
		t.Fatal(err)
	}
	// By this, in the tests' own /run, systemd knows a machine that it runs, and runs for users only there.
	if err := os.MkdirAll("/run/systemd/system", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	// Nothing of the machine's own units: one target is enough.
	units := filepath.Join(dir, "systemd/user")
	if err := os.MkdirAll(units, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"kakuri-test.target": "", "kakuri-fails.service": "[Service]\nType=oneshot\nExecStart=/bin/false\n"} {
		if err := os.WriteFile(filepath.Join(units, name), []byte("[Unit]\nDefaultDependencies=no\n"+text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("/bin/sh", "-c", "read line; exec /lib/systemd/systemd --user --unit=kakuri-test.target")
	c.Env = append(os.Environ(), "HOME="+dir, "SYSTEMD_LOG_TARGET=console", "SYSTEMD_LOG_LEVEL=notice")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.Stdout, c.Stderr = log, log
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the manager says:\n%s", text)
		}
		if err := g.Kill(context.Background(), unix.SIGKILL); err != nil {
			t.Error(err)
		}
		<-ended
		if err := g.Remove(context.Background()); err != nil {
			t.Error(err)
		}
		g.Close()
	})
	if err := g.Join(c.Process.Pid, ""); err != nil {
		t.Fatal(err)
	}
	in.Write([]byte("\n"))
	// It may take a while on a busy machine, and end before.
	for deadline := time.Now().Add(time.Minute); ; {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the manager ended: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
		// The socket's name is there before it can be connected to.
		if c, err := net.Dial("unix", filepath.Join(dir, "systemd/private")); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the manager has no socket after a minute")
		}
	}
}

func holder(t *testing.T) *exec.Cmd {
	t.Helper()
	c := nstest.Part("hold")
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return c
}

// show asks systemctl, which is another's program, for properties.
func show(t *testing.T, unit string, names ...string) string {
	t.Helper()
	out, err := exec.Command("systemctl", "--user", "show", unit, "-p", strings.Join(names, ",")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestScope: systemd makes the container's cgroup in its own hierarchy, this program in the others; systemctl sees what
// was asked for, and nothing stays.
func TestScope(t *testing.T) {
	userManager(t)
	bus, err := User()
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	version, err := bus.Version()
	if err != nil || version < 200 {
		t.Fatalf("version %d %v", version, err)
	}
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	r := &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64)}}
	*r.Pids.Limit = 33
	if host.Controllers()["pids"] == limits.Absent {
		r.Pids = nil
	}
	l, err := limits.Compile(r, host.Controllers())
	if err != nil {
		t.Fatal(err)
	}
	props, _, err := limits.Properties(r, host.Controllers(), version)
	if err != nil {
		t.Fatal(err)
	}
	more, err := Annotations(map[string]string{"org.systemd.property.TimeoutStopSec": "7", "org.systemd.property.CollectMode": "'inactive-or-failed'"})
	if err != nil {
		t.Fatal(err)
	}
	id := rand.Text()
	u, err := bus.Unit(Options{Path: "kakuri-test.slice:kakuri:" + id, ID: "x", Properties: append(props, more...), Unified: host.Unified()})
	if err != nil {
		t.Fatal(err)
	}
	g, err := host.Group(cgroup.Options{Unit: u})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Create(l); err != nil {
		t.Fatal(err)
	}
	first := holder(t)
	if err := g.Join(first.Process.Pid, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Apply(l); err != nil {
		t.Error(err)
	}
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", first.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if f[1] != "" && !strings.Contains(f[1], "=") && host.Controllers()[strings.Split(f[1], ",")[0]] == limits.Absent {
			continue // a hierarchy that is mounted nowhere here
		}
		if p := f[2]; p != u.Path() {
			t.Errorf("%s: want %s", line, u.Path())
		}
	}
	want := "Delegate=yes\nDescription=container " + id + "\nSlice=kakuri-test.slice\nTimeoutStopUSec=7s\nCollectMode=inactive-or-failed\nActiveState=active"
	got := show(t, u.Name(), "Description", "Slice", "Delegate", "TimeoutStopUSec", "CollectMode", "ActiveState")
	for line := range strings.SplitSeq(want, "\n") {
		if !strings.Contains("\n"+got+"\n", "\n"+line+"\n") {
			t.Errorf("no %s in\n%s", line, got)
		}
	}
	// A second process, as exec has it, by a group that a record was opened to.
	again, err := host.Open(g.Paths(), cgroup.Options{Unit: u})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	second := holder(t)
	if err := again.Join(second.Process.Pid, ""); err != nil {
		t.Fatal(err)
	}
	if pids, err := again.AllPids(); err != nil || len(pids) != 2 {
		t.Errorf("processes %v %v", pids, err)
	}
	// Another container cannot have the name, nor what is in its unit.
	other, err := host.Group(cgroup.Options{Unit: u})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Create(l); err == nil || !strings.Contains(err.Error(), "container's cgroup is not empty: 2 process(es) found") {
		t.Errorf("made twice: %v", err)
	}
	if err := u.Start(second.Process.Pid); !is(err, "UnitExists") {
		t.Errorf("started twice: %v", err)
	}
	if err := u.Set([]limits.Property{{Name: "TasksMax", Value: uint64(44)}}); err != nil {
		t.Error(err)
	}
	if got := show(t, u.Name(), "TasksMax"); got != "TasksMax=44" {
		t.Error(got)
	}
	if err := u.Set([]limits.Property{{Name: "NoSuchThing", Value: true}}); err == nil || !strings.Contains(err.Error(), "unable to set unit properties") {
		t.Errorf("a property that there is not: %v", err)
	}
	if err := again.Kill(context.Background(), unix.SIGKILL); err != nil {
		t.Error(err)
	}
	first.Wait()
	second.Wait()
	if err := again.Remove(context.Background()); err != nil {
		t.Error(err)
	}
	if again.Exists() {
		t.Error("it is still there")
	}
	if got := show(t, u.Name(), "LoadState"); got != "LoadState=not-found" {
		t.Errorf("systemd remembers: %s", got)
	}
	if err := u.Stop(); err != nil {
		t.Errorf("stopped again: %v", err)
	}
}

// TestFailedUnit: a unit of the same name that failed before is not in the way.
func TestFailedUnit(t *testing.T) {
	userManager(t)
	bus, err := User()
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	id := rand.Text()
	for range 2 {
		u, err := bus.Unit(Options{Path: "kakuri-test.slice:kakuri:" + id})
		if err != nil {
			t.Fatal(err)
		}
		c := holder(t)
		if err := u.Start(c.Process.Pid); err != nil {
			t.Fatal(err)
		}
		if err := u.Stop(); err != nil {
			t.Fatal(err)
		}
		c.Wait()
	}
}

// TestNoSuchProcess: an error is in systemd's words, with the unit.
func TestNoSuchProcess(t *testing.T) {
	userManager(t)
	bus, err := User()
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	u, err := bus.Unit(Options{ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Start(1 << 21); err == nil || !strings.Contains(err.Error(), "unit kakuri-x.scope") {
		t.Error(err)
	}
	// What a unit needs fails: there is none, and its process is where it was.
	needs := []string{"kakuri-fails.service"}
	u, err = bus.Unit(Options{ID: "y", Properties: []limits.Property{{Name: "Requires", Value: needs}, {Name: "After", Value: needs}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Start(holder(t).Process.Pid); err == nil || !strings.Contains(err.Error(), "unit kakuri-y.scope: its job ended as dependency") {
		t.Error(err)
	}
}

// TestOtherPIDs: a manager that a container of another pid namespace comes to would take another process for the container's.
func TestOtherPIDs(t *testing.T) {
	userManager(t)
	c := nstest.Part("user")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "another pid namespace") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestBroker: a bus daemon takes our messages, and knows us by a name.
func TestBroker(t *testing.T) {
	nstest.Root(t)
	dir := t.TempDir()
	c := exec.Command("dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address", "--address=unix:path="+dir+"/bus")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }()
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dbus.DialBus(strings.TrimSpace(address), "/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	bus := &Bus{Conn: conn}
	defer bus.Close()
	const daemon = "org.freedesktop.DBus"
	body, err := bus.Call(&dbus.Message{Destination: daemon, Path: "/org/freedesktop/DBus", Interface: daemon, Member: "ListNames"})
	if err != nil || !strings.Contains(fmt.Sprint(body), daemon) {
		t.Errorf("%v %v", body, err)
	}
	// There is no manager on it.
	if err := bus.subscribe(); err == nil || !strings.Contains(err.Error(), "org.freedesktop.DBus.Error.ServiceUnknown") && !strings.Contains(err.Error(), "org.freedesktop.systemd1") {
		t.Error(err)
	}
	if _, err := dbus.DialBus("unix:path="+dir+"/nobody", dir+"/nobody2"); err == nil {
		t.Error("connected to nobody")
	}
}
