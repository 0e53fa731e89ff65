package engine

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/thread"
	"golang.org/x/sys/unix"
)

// bridged is an engine whose containers are on the network bridge, which is gone with the test.
func bridged(t *testing.T) *Engine {
	t.Helper()
	e := open(t)
	e.network = ""
	t.Cleanup(func() {
		n, err := e.netdb().Lookup("bridge")
		if err != nil {
			t.Error(err)
		}
		if err := e.dropNetwork(&n); err != nil {
			t.Error(err)
		}
	})
	return e
}

// bridgeOn is the device and the gateway of IPv4 of an engine's default network, by the records.
func bridgeOn(t *testing.T, e *Engine) (device, gateway string) {
	t.Helper()
	n, err := e.netdb().Lookup("bridge")
	if err != nil {
		t.Fatal(err)
	}
	p, _ := n.Pool(false)
	return n.Device, p.Gateway.String()
}

// A container that asks for no network is on bridge, with the host's servers for names, and its ports are published. Two engines that know nothing of
// each other have a bridge and a subnet each, and what one of them removes, sweeps or repairs is its own.
func TestDefaultNetwork(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	loopback(t)
	ctx := t.Context()
	first, second := bridged(t), bridged(t)
	serve := Config{Name: "server", Hostname: "first", Command: []string{"/greeter", ":80"}, Publish: []PortSpec{{Port: 80}}}
	server := detached(t, first, on("", serve))
	serve.Hostname = "second"
	other := detached(t, second, on("", serve))
	for _, c := range []Container{server, other} {
		ready(t, c)
	}
	device, gateway := bridgeOn(t, first)
	device2, gateway2 := bridgeOn(t, second)
	if device == device2 || gateway == gateway2 {
		t.Errorf("both engines have the bridge %s at %s, and %s at %s", device, gateway, device2, gateway2)
	}
	address := func(e *Engine) string {
		i, err := e.Inspect("server")
		if err != nil {
			t.Fatal(err)
		}
		if i.HostConfig.NetworkMode != "bridge" || i.NetworkSettings.Networks["bridge"] == nil {
			t.Fatalf("mode %s, networks %v", i.HostConfig.NetworkMode, i.NetworkSettings.Networks)
		}
		return i.NetworkSettings.Networks["bridge"].IPAddress
	}
	port := func(e *Engine) string {
		ports, err := e.Port("server")
		if err != nil || len(ports) == 0 {
			t.Fatal(ports, err)
		}
		return ports[0].HostPort
	}
	reached := func(e *Engine, name, when string) {
		t.Helper()
		for _, to := range []string{address(e) + ":80", "127.0.0.1:" + port(e)} {
			if text := ask(to, patient); !strings.HasPrefix(text, name+" to ") {
				t.Errorf("%s the container of the %s engine at %s says %q", when, name, to, text)
			}
		}
		if text := says(t, e, "", patient, address(e)+":80")[0]; !strings.HasPrefix(text, name+" to ") {
			t.Errorf("%s a neighbour of the %s engine is told %q", when, name, text)
		}
	}
	reached(first, "first", "at first")
	reached(second, "second", "at first")
	if text := says(t, second, "", impatient, address(first)+":80")[0]; !strings.HasPrefix(text, "error: ") {
		t.Errorf("from the other engine's network: %q", text)
	}
	// Neither takes the other's for left over, nor forgets it when all is made anew.
	for _, e := range []*Engine{first, second} {
		if err := e.sweep(); err != nil {
			t.Error(err)
		}
		if f, err := e.Check(ctx, true); err != nil || len(f) != 0 {
			t.Errorf("Check finds %+v, %v", f, err)
		}
	}
	reached(first, "first", "after a sweep")
	reached(second, "second", "after a sweep")
	// One engine ends, with its network.
	if err := first.Remove(ctx, "server", RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	n, err := first.netdb().Lookup("bridge")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.dropNetwork(&n); err != nil {
		t.Error(err)
	}
	reached(second, "second", "without the other engine")
	// It comes again when its bridge is the other one's: as after a boot, where that was first.
	n2, err := second.netdb().Lookup("bridge")
	if err != nil {
		t.Fatal(err)
	}
	n.Device, n.Pools = n2.Device, n2.Pools
	if err := first.netdb().Move(n); err != nil {
		t.Fatal(err)
	}
	serve.Hostname = "first"
	server = detached(t, first, on("", serve))
	ready(t, server)
	if again, at := bridgeOn(t, first); again == device2 || at == gateway2 {
		t.Errorf("it took the other engine's bridge %s at %s", again, at)
	}
	reached(first, "first", "again")
	reached(second, "second", "again")
	for _, e := range []*Engine{first, second} {
		if err := e.Remove(ctx, "server", RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
}

// The default network asks the host's servers for names, and has a way out: its gateway.
func TestDefaultNetworkInside(t *testing.T) {
	nstest.Root(t)
	e := bridged(t)
	out, code, err := inside(t, e, Config{Image: "host", Command: []string{"sh", "-c", "ip -4 route show default; cat /etc/resolv.conf"}})
	if err != nil || code != 0 || !strings.HasPrefix(out, "default via ") || strings.Contains(out, "127.0.0.11") {
		t.Errorf("%d, %v: %s", code, err, out)
	}
	if via, err := netip.ParseAddr(strings.Fields(out)[2]); err != nil || !via.IsPrivate() {
		t.Errorf("by %v, %v", via, err)
	}
}

// Where no bridge can be made, a container has none unless it asks for one, and either is told how to do without.
func TestDefaultNetworkRefused(t *testing.T) {
	nstest.Root(t)
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		out, err := exec.Command("setpriv", append([]string{"--bounding-set=-net_admin", "--inh-caps=-net_admin", nstest.Binary(t, "kakuri"), "run", "--rm"}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := run("host", "true"); err != nil || !strings.Contains(out, "warning: the container has no network: ") {
		t.Errorf("%v: %s", err, out)
	}
	for _, flag := range []string{"-p=80", "--network=bridge"} {
		if out, err := run(flag, "host", "true"); err == nil || !strings.Contains(out, "CAP_NET_ADMIN") || !strings.Contains(out, "--cap-add NET_ADMIN") {
			t.Errorf("%s: %v: %s", flag, err, out)
		}
	}
	if out, err := run("--network", "none", "host", "true"); err != nil {
		t.Errorf("without a network: %v: %s", err, out)
	}
}

// TestNamespaceLock: nobody without rights over the network namespace can hold up those who settle it, and each namespace has its own lock.
func TestNamespaceLock(t *testing.T) {
	nstest.Root(t)
	u := nstest.User(t)
	unlock, err := lockNamespace()
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	name := ""
	for _, e := range list {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); to == namespaceLock {
			name = "/proc/self/fd/" + e.Name()
		}
	}
	excluded := func() bool {
		f, err := os.Open(namespaceLock)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK
	}
	if name == "" || !excluded() {
		t.Errorf("what is locked is %q, and others are excluded: %v", name, excluded())
	}
	// To read it is enough to lock it.
	if out, err := u.Command("sh", "-c", "exec 3<"+namespaceLock).CombinedOutput(); err == nil || !strings.Contains(string(out), "ermission denied") {
		t.Errorf("an ordinary user opens %s: %v %s", namespaceLock, err, out)
	}
	<-thread.Aside(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		other, err := unix.Open(namespaceLock, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Flock(other, unix.LOCK_EX|unix.LOCK_NB)
			unix.Close(other)
		}
		if err != nil {
			t.Errorf("in another network namespace: %v", err)
		}
	})
	if unlock(); excluded() {
		t.Error("after the unlock others are excluded")
	}
}
