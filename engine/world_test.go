package engine

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// well runs the command as the ordinary user to a good end, and returns what it wrote.
func well(t testing.TB, u *nstest.Account, args ...string) string {
	t.Helper()
	out, code := asUser(t, u, args...)
	if code != 0 {
		t.Fatalf("kakuri %s: code %d: %s", strings.Join(args, " "), code, out)
	}
	return out
}

// greeterOf makes a container of the ordinary user that answers at port 80.
func greeterOf(network, name string) []string {
	return []string{"create", "--name", name, "--hostname", name, "--network", network, "-v", nstest.PartPath("greeter") + ":/greeter:ro", "host", "/greeter", ":80"}
}

// asks runs a container of the ordinary user on a network, which asks addresses, and returns what it is told.
func asks(t testing.TB, u *nstest.Account, network, patience string, addresses ...string) string {
	t.Helper()
	return well(t, u, append([]string{"run", "--network", network, "-v", nstest.PartPath("greeted") + ":/greeted:ro", "host", "/greeted", patience}, addresses...)...)
}

// monitorsOf are the monitors that run as an account.
func monitorsOf(t testing.TB, u *nstest.Account) (pids []int) {
	return processesOf(t, u, "\x00monitor")
}

// processesOf are the processes of an account that have words in their command line.
func processesOf(t testing.TB, u *nstest.Account, words string) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		line, err := os.ReadFile(dir + "/cmdline")
		var st unix.Stat_t
		if err == nil && strings.Contains(string(line), words) && unix.Stat(dir, &st) == nil && int(st.Uid) == u.UID {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

// An ordinary user's containers on networks reach each other, and none of another network; what is killed is healed.
func TestRootlessNetworks(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	for _, name := range []string{"inner", "other"} {
		well(t, u, "network", "create", "--internal", name)
	}
	names := []string{"one", "two", "three"}
	defer func() {
		asUser(t, u, append([]string{"rm", "-f"}, names...)...)
		for _, name := range []string{"inner", "other"} {
			if out, code := asUser(t, u, "network", "rm", name); code != 0 {
				t.Errorf("network rm %s: %s", name, out)
			}
		}
		nstest.Until(t, "the end of all monitors", func() bool { return len(monitorsOf(t, u)) == 0 })
	}()
	// All at once, and there is no world yet: there may be but one.
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() {
			for _, args := range [][]string{greeterOf("inner", name), {"start", name}} {
				if out, code := asUser(t, u, args...); code != 0 {
					t.Errorf("%s: code %d: %s", name, code, out)
				}
			}
		})
	}
	all.Wait()
	reached := func(when string) {
		t.Helper()
		out := asks(t, u, "inner", "10s", "one:80", "two:80", "three:80")
		for _, name := range names {
			if !strings.Contains(out, name+" to ") {
				t.Errorf("%s: %s is not reached: %s", when, name, out)
			}
		}
	}
	for _, name := range names {
		nstest.Until(t, name+" is ready", func() bool { out, _ := asUser(t, u, "logs", name); return strings.Contains(out, "ready") })
	}
	reached("at first")
	if out := asks(t, u, "other", "1s", "one:80"); !strings.HasPrefix(out, "error: ") {
		t.Errorf("a container of another network is told %q", out)
	}
	well(t, u, "network", "connect", "other", "one")
	if out := asks(t, u, "other", "10s", "one:80"); !strings.HasPrefix(out, "one to ") {
		t.Errorf("after connect: %q", out)
	}
	well(t, u, "network", "disconnect", "other", "one")
	if out := asks(t, u, "other", "1s", "one:80"); !strings.HasPrefix(out, "error: ") {
		t.Errorf("after disconnect: %q", out)
	}
	if out := well(t, u, "exec", "two", "cat", "/etc/resolv.conf"); !strings.Contains(out, "127.0.0.11") {
		t.Errorf("resolv.conf: %s", out)
	}
	if out := well(t, u, "explain", "run", "--network", "inner", "host", "true"); !strings.Contains(out, "network world") {
		t.Errorf("explain says nothing of the world: %s", out)
	}
	well(t, u, "restart", "-t", "0", "two")
	nstest.Until(t, "two is ready again", func() bool { out, _ := asUser(t, u, "logs", "two"); return strings.Count(out, "ready") == 2 })
	reached("after a restart")

	// attending is the monitors of the three, once that of who asked has ended with its container.
	attending := func() (pids []int) {
		t.Helper()
		nstest.Until(t, "no monitors but of those that run", func() bool { pids = monitorsOf(t, u); return len(pids) == len(names) })
		return pids
	}
	// Somebody has the world's bridges down.
	down := u.Command("nsenter", "-t", strconv.Itoa(attending()[0]), "-U", "--preserve-credentials", "-n", "sh", "-ec", "for b in $(ip -o link show type bridge | cut -d: -f2); do ip link set $b down; done")
	if out, err := down.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, code := asUser(t, u, "system", "check"); code == 0 || !strings.Contains(out, "network inner") || !strings.Contains(out, "is down") {
		t.Errorf("bridges that are down: code %d: %s", code, out)
	}
	well(t, u, "system", "check", "--repair")
	reached("after bridges were down")
	// And takes them away.
	gone := func() {
		t.Helper()
		c := u.Command("nsenter", "-t", strconv.Itoa(attending()[0]), "-U", "--preserve-credentials", "-n", "sh", "-ec", "for b in $(ip -o link show type bridge | cut -d: -f2); do ip link delete $b; done")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	gone()
	if out, code := asUser(t, u, "system", "check"); code == 0 || strings.Count(out, " is gone") != 3 {
		t.Errorf("bridges that are gone: code %d: %s", code, out)
	}
	well(t, u, "system", "check", "--repair")
	reached("after bridges were gone")
	gone()
	well(t, u, "ps")
	if out, code := asUser(t, u, "system", "check"); code != 0 {
		t.Errorf("after bridges were gone, and a command: code %d: %s", code, out)
	}
	gone()
	reached("at a start beside those whose bridge is gone")

	cut := u.Command("nsenter", "-t", strconv.Itoa(attending()[0]), "-U", "--preserve-credentials", "-n", "sh", "-ec", "for c in $(ip -o link show type veth | sed 's/^[0-9]*: //; s/@.*//'); do ip link delete $c || :; done") // one of a container that has ended may go by itself
	if out, err := cut.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, code := asUser(t, u, "system", "check"); code == 0 || strings.Count(out, " is gone") != 3 {
		t.Errorf("cables that are gone: code %d: %s", code, out)
	}
	well(t, u, "system", "check", "--repair")
	reached("after cables were gone")

	nstest.Kill(t, attending()[0])
	well(t, u, "system", "check", "--repair")
	reached("after a monitor was killed")
	// With all of them the network namespace is gone.
	nstest.Kill(t, attending()...)
	well(t, u, "system", "check", "--repair")
	reached("after all monitors were killed")
	if out, code := asUser(t, u, "system", "check"); code != 0 {
		t.Errorf("code %d: %s", code, out)
	}
}

// uplinksOf are the processes of uplinks that run as an account.
func uplinksOf(t testing.TB, u *nstest.Account) (pids []int) {
	return processesOf(t, u, "kakuri-uplink\x00serve")
}

// What an ordinary user's container was refused is told while it runs, out of rules that are in the user's network world, and afterwards.
func TestRootlessNetworkLog(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	nstest.TUN(t, 0o666)
	well(t, u, "network", "create", "app")
	well(t, u, "run", "-d", "--name", "box", "--network", "app", "--egress", "none", "-v", nstest.PartPath("greeted")+":/greeted:ro", "host", "sh", "-c",
		"/greeted 1s 192.0.2.7:99; touch /tmp/asked; exec sleep 100")
	nstest.Until(t, "the question", func() bool { _, code := asUser(t, u, "exec", "box", "test", "-e", "/tmp/asked"); return code == 0 })
	for _, when := range []string{"while it runs", "behind its end"} {
		if out := well(t, u, "network", "log", "--format", "{{.Refused}} {{.Why}}", "box"); out != "tcp 192.0.2.7:99 not allowed\n" {
			t.Errorf("%s: %q", when, out)
		}
		well(t, u, "stop", "-t", "0", "box")
	}
	well(t, u, "rm", "box")
	well(t, u, "network", "rm", "app")
}

// Ports of an ordinary user's containers are reached, and containers reach the machine's addresses; the uplink ends after the last one.
func TestRootlessPorts(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	nstest.TUN(t, 0o666)
	loopback(t)
	const own = "192.0.2.99"
	d := &network.Doer{}
	defer d.Close()
	if _, err := d.Do(context.Background(), &plan.AddAddress{Device: "lo", Addr: netip.MustParsePrefix(own + "/32")}, os.Getpid()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", own+":9000")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "the machine")
			c.Close()
		}
	}()
	well(t, u, "network", "create", "app")
	well(t, u, append([]string{"create", "-p", "8080:80"}, greeterOf("app", "server")[1:]...)...)
	well(t, u, "start", "server")
	answers := func(when string) {
		t.Helper()
		nstest.Until(t, "an answer "+when, func() bool { return strings.HasPrefix(ask("127.0.0.1:8080", impatient), "server to ") })
	}
	answers("at first")
	if text := ask(own+":8080", patient); !strings.HasPrefix(text, "server to ") {
		t.Errorf("by another address: %q", text)
	}
	if out := asks(t, u, "app", "10s", own+":9000", "server:80"); !strings.HasPrefix(out, "the machine\nserver to ") {
		t.Errorf("from inside: %q", out)
	}
	// The gateway of its own network is not the machine.
	if out := well(t, u, "run", "--network", "app", "--add-host", "machine:host-gateway", "-v", nstest.PartPath("greeted")+":/greeted:ro", "host", "/greeted", "10s", "machine:9000"); out != "the machine\n" {
		t.Errorf("by host-gateway: %q", out)
	}
	// Read in the world, with the machine's side of it.
	if out := well(t, u, "verify", "server"); strings.Contains(out, "DIFFERS") || strings.Contains(out, "could not be read: ") {
		t.Errorf("verify: %s", out)
	}
	for _, of := range []string{"8080", "server:80"} {
		if out, code := asUser(t, u, "port", "why", of); code != 0 || !strings.Contains(strings.Join(strings.Fields(out), " "), "127.0.0.1:8080 connected") {
			t.Errorf("port why %s: code %d: %s", of, code, out)
		}
	}
	// The uplink has to see whose packets they are.
	if out := well(t, u, "explain", "run", "--network", "app", "host", "true"); strings.Contains(out, "masquerade") {
		t.Errorf("all containers have one address: %s", out)
	}
	if out := well(t, u, "ns", "tree", "--net"); !strings.Contains(out, "eth0 in server") {
		t.Errorf("ns tree --net: %s", out)
	}
	if out, code := asUser(t, u, "run", "--network", "app", "-p", "8080:80", "host", "true"); code != 125 || !strings.Contains(out, "8080") {
		t.Errorf("a port that another container has: code %d: %s", code, out)
	}
	answers("after another one was refused")
	nstest.Kill(t, uplinksOf(t, u)...)
	if out := asks(t, u, "app", "10s", own+":9000"); out != "the machine\n" {
		t.Errorf("after the uplink was killed: %q", out)
	}
	answers("after the uplink was killed")
	// And everything: the network namespace ends with them. The next command may be one that only looks, or one that makes the next namespace for
	// a container of its own.
	for _, look := range []bool{true, false} {
		nstest.Kill(t, append(uplinksOf(t, u), monitorsOf(t, u)...)...)
		if look {
			well(t, u, "ps")
			answers("after all was killed")
		}
		if out := asks(t, u, "app", "10s", own+":9000", "server:80"); !strings.HasPrefix(out, "the machine\nserver to ") {
			t.Errorf("from inside after all was killed: %q", out)
		}
		answers("after all was killed, and a run")
	}
	well(t, u, "stop", "-t", "0", "server")
	if text := ask("127.0.0.1:8080", patient); !strings.Contains(text, "refused") {
		t.Errorf("after the stop: %q", text)
	}
	well(t, u, "start", "server")
	answers("after the next start")
	well(t, u, "rm", "-f", "server")
	well(t, u, "network", "rm", "app")
	nstest.Until(t, "the end of the uplink", func() bool { return len(uplinksOf(t, u)) == 0 })
}

// TestRootlessStoppedUplink: an uplink that was stopped by a signal holds up no command of its user. It goes on, and its number is told.
func TestRootlessStoppedUplink(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	nstest.TUN(t, 0o666)
	loopback(t)
	well(t, u, "network", "create", "app")
	well(t, u, "network", "create", "second")
	well(t, u, "run", "-d", "--name", "first", "--network", "app", "-p", "8080:80", "host", "sleep", "1000")
	defer func() {
		asUser(t, u, "rm", "-f", "first", "server")
		asUser(t, u, "network", "rm", "app", "second")
		u.UplinkEnds(t)
	}()
	processes := func() (pids []int) { return processesOf(t, u, "kakuri-uplink\x00") }
	for _, args := range [][]string{
		{"run", "-d", "--name", "server", "--network", "app", "-p", "8081:80", "host", "sleep", "1000"},
		{"network", "connect", "second", "server"},
		{"network", "disconnect", "app", "server"},
		{"info"},
		{"stop", "-t", "0", "server"},
		{"start", "server"},
		{"restart", "-t", "0", "server"},
		{"rm", "-f", "server"},
	} {
		pids := processes()
		if len(pids) != 2 {
			t.Fatalf("the uplink is %v", pids)
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			nstest.Until(t, "that it stands still", func() bool {
				p := oci.OpenProcess(pid)
				defer p.Close()
				return p.Stopped()
			})
		}
		out := well(t, u, args...)
		for _, pid := range pids {
			if !strings.Contains(out, fmt.Sprintf("process %d (kakuri-uplink", pid)) || !strings.Contains(out, "it goes on now") {
				t.Errorf("%v: of process %d it tells %q", args, pid, out)
			}
		}
		if now := processes(); !slices.Equal(now, pids) {
			t.Errorf("%v: the uplink is %v, and was %v", args, now, pids)
		}
	}
}

// What cannot be had in a world is refused, and a launch that needs none makes none.
func TestRootlessNetworksRefused(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	world := fmt.Sprintf("%s/kakuri/world", u.RuntimeDir())
	os.RemoveAll(world)
	well(t, u, "run", "host", "true")
	well(t, u, "run", "--network", "host", "host", "true")
	if exists(world) {
		t.Errorf("%s was made by containers without networks", world)
	}
	well(t, u, "network", "create", "--internal", "inner")
	defer well(t, u, "network", "rm", "inner")
	for args, want := range map[string]string{
		"run --network inner --userns host host true":             "leave --userns host away",
		"run --network nosuch host true":                          "not found",
		"run --network ns:/proc/self/ns/net host true":            "--network container:NAME, or run it as root",
		"network create --driver macvlan -o parent=d0 m":          "root",
		"run --network inner --ip 1.2.3.4 host true":              "1.2.3.4",
		"run --network inner --add-host x:host-gateway host true": "internal networks alone",
	} {
		if out, code := asUser(t, u, strings.Fields(args)...); code == 0 || !strings.Contains(out, want) {
			t.Errorf("%s: code %d: %s", args, code, out)
		}
	}
}

// A container of an ordinary user that asks for nothing is on the network bridge, and reached by its ports.
func TestRootlessDefault(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	nstest.TUN(t, 0o666)
	loopback(t)
	greeter, greeted := nstest.PartPath("greeter")+":/greeter:ro", nstest.PartPath("greeted")+":/greeted:ro"
	if out, code := byUser(t, u, "run", "-d", "--name", "server", "--hostname", "server", "-p", "8080:80", "-v", greeter, "host", "/greeter", ":80"); code != 0 || strings.Contains(out, "warning") {
		t.Fatalf("code %d: %s", code, out)
	}
	nstest.Until(t, "an answer", func() bool { return strings.HasPrefix(ask("127.0.0.1:8080", impatient), "server to ") })
	f := strings.Fields(well(t, u, "inspect", "-f", "{{.HostConfig.NetworkMode}} {{.NetworkSettings.Networks.bridge.IPAddress}}", "server"))
	if len(f) != 2 || f[0] != "bridge" {
		t.Fatalf("it is on %q", f)
	}
	if out, code := byUser(t, u, "run", "-v", greeted, "host", "/greeted", "10s", f[1]+":80"); code != 0 || !strings.HasPrefix(out, "server to ") {
		t.Errorf("from a neighbour: code %d: %q", code, out)
	}
	if out := well(t, u, "info"); !strings.Contains(out, "\nDefault Network: bridge\n") {
		t.Errorf("info: %s", out)
	}
	// Taken from all networks it is connected again while it runs, also when another monitor came meanwhile.
	for _, killed := range []bool{false, true} {
		well(t, u, "network", "disconnect", "bridge", "server")
		if killed {
			nstest.Kill(t, monitorsOf(t, u)...)
			well(t, u, "ps")
		}
		if got := ask("127.0.0.1:8080", impatient); !strings.HasPrefix(got, "error: ") {
			t.Errorf("without a network it says %q", got)
		}
		well(t, u, "network", "connect", "bridge", "server")
		if got := ask("127.0.0.1:8080", patient); !strings.HasPrefix(got, "server to ") {
			t.Errorf("connected again, killed %v, it says %q", killed, got)
		}
	}
	f[1] = strings.TrimSpace(well(t, u, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "server"))
	// Who shares the namespaces of others can be connected where they are.
	if out, code := byUser(t, u, "run", "--pid", "container:server", "-v", greeted, "host", "/greeted", "10s", f[1]+":80"); code != 0 || !strings.HasPrefix(out, "server to ") || strings.Contains(out, "warning") {
		t.Errorf("from beside it: code %d: %q", code, out)
	}
	well(t, u, append([]string{"run", "-d", "--name", "alone"}, "host", "sleep", "1000")...)
	if out, code := byUser(t, u, "run", "--pid", "container:alone", "host", "true"); code != 0 || strings.Count(out, "\n") != 1 || !strings.Contains(out, "warning: the container has no network: --pid container:alone: ") {
		t.Errorf("code %d: %q", code, out)
	}
	if out, code := byUser(t, u, "run", "--pid", "container:alone", "--network", "bridge", "host", "true"); code != 125 || !strings.Contains(out, "container alone, which is on no network") {
		t.Errorf("code %d: %q", code, out)
	}
	if out, code := byUser(t, u, "run", "--pid", "container:nosuch", "host", "true"); code != 125 || !strings.HasPrefix(out, "kakuri: No such container: nosuch") {
		t.Errorf("code %d: %q", code, out)
	}
	well(t, u, "rm", "-f", "server", "alone")
	nstest.Until(t, "the end of all monitors", func() bool { return len(monitorsOf(t, u)) == 0 })
	nstest.Until(t, "the end of the uplink", func() bool { return len(uplinksOf(t, u)) == 0 })
	// The first network that leads out may come while a container runs.
	well(t, u, "network", "create", "--internal", "inner")
	well(t, u, "run", "-d", "--name", "server", "--hostname", "server", "--network", "inner", "-p", "8080:80", "-v", greeter, "host", "/greeter", ":80")
	nstest.Until(t, "the server is ready", func() bool { return strings.Contains(well(t, u, "logs", "server"), "ready") })
	if n := len(uplinksOf(t, u)); n != 0 {
		t.Errorf("an internal network has %d uplinks", n)
	}
	well(t, u, "network", "connect", "bridge", "server")
	if n := len(uplinksOf(t, u)); n != 1 {
		t.Errorf("a network that leads out has %d uplinks", n)
	}
	if got := ask("127.0.0.1:8080", patient); !strings.HasPrefix(got, "server to ") {
		t.Errorf("on a network that leads out it says %q", got)
	}
	well(t, u, "rm", "-f", "server")
	well(t, u, "network", "rm", "inner")
	nstest.Until(t, "the end of the uplink", func() bool { return len(uplinksOf(t, u)) == 0 })
}

// Where there can be no networks, a container that asks for nothing has none, and its user is told what is missing; one that asks is refused.
func TestRootlessDefaultMissing(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	device, program := "/dev/net/tun: permission denied", "kakuri-uplink is neither"
	alone := filepath.Join(nstest.Dir(t), "kakuri") // without what is beside it
	data, err := os.ReadFile(nstest.Binary(t, "kakuri"))
	if err == nil {
		err = os.WriteFile(alone, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line, text string // "" is silence
		code       int
	}{
		{"run --rm host true", "warning: the container has no network: %s", 0},
		{"run --rm --network none host true", "", 0},
		{"run --rm --network host host true", "", 0},
		{"run --rm --egress none --network default host true", "warning: the container has no network: %s", 0},
		{"explain run host true", "warning: the container has no network: %s", 0},
		{"run --rm -p 8080:80 host true", "kakuri: -p takes a network, which cannot be had: %s", 125},
		{"create -P host true", "kakuri: -P takes a network, which cannot be had: %s", 1},
		{"run --rm --egress example.org host true", "kakuri: --egress takes a network, which cannot be had: %s", 125},
		{"run --rm --ip 1.2.3.4 host true", "kakuri: --ip takes a network, which cannot be had: %s", 125},
		{"run --rm --add-host x:host-gateway host true", "kakuri: --add-host x:host-gateway takes a network, which cannot be had: %s", 125},
		{"run --rm --network bridge host true", "kakuri: networks of an ordinary user: %s", 125},
		{"info", "WARNING: containers have no network: %s", 0},
	} {
		for missing, kakuri := range map[string]string{device: nstest.Binary(t, "kakuri"), program: alone} {
			mode := uint32(0o600)
			if missing == program {
				mode = 0o666
			}
			func() {
				defer nstest.TUN(t, mode)()
				cmd := u.Command(kakuri, strings.Fields(c.line)...)
				cmd.Env = append(cmd.Env, "KAKURI_RUNTIME="+nstest.Binary(t, "kakuri-runtime"))
				if missing == program {
					cmd.Env = append(cmd.Env, "PATH=/nowhere") // or there may be one that is installed
				}
				var out, errs strings.Builder
				cmd.Stdout, cmd.Stderr = &out, &errs
				cmd.Run()
				told, _, _ := strings.Cut(errs.String(), "\n")
				want := c.text
				if want != "" {
					want = fmt.Sprintf(want, missing)
				}
				if cmd.ProcessState.ExitCode() != c.code || !strings.HasPrefix(told, want) || want == "" && told != "" || c.line != "info" && strings.Count(errs.String(), "\n") > 1 {
					t.Errorf("%s: code %d: %s", c.line, cmd.ProcessState.ExitCode(), errs.String())
				}
				if c.line == "info" && !strings.Contains(out.String(), "\nDefault Network: none ("+missing) {
					t.Errorf("info: %s", out.String())
				}
			}()
		}
	}
	if out := well(t, u, "ps", "-aq"); out != "" {
		t.Errorf("left: %s", out)
	}
	// What was made without can be connected when networks can be had.
	hidden := nstest.TUN(t, 0o600)
	if out, code := byUser(t, u, "create", "--name", "late", "host", "sh", "-c", "grep -c eth0 /proc/net/dev"); code != 0 {
		t.Fatal(out)
	}
	hidden()
	nstest.TUN(t, 0o666)
	well(t, u, "network", "connect", "bridge", "late")
	if out := well(t, u, "start", "-a", "late"); out != "1\n" {
		t.Errorf("%q devices", out)
	}
	well(t, u, "rm", "late")
	// One that runs has to stop for it; one that was to have none is taken out of that first.
	for name, how := range map[string]string{"missing": "default", "asked": "none"} {
		hidden := nstest.TUN(t, 0o600)
		out, code := byUser(t, u, "run", "-d", "--name", name, "--network", how, "host", "sleep", "1000")
		hidden()
		if code != 0 {
			t.Fatal(out)
		}
	}
	refused := func(text string, args ...string) {
		if out, code := byUser(t, u, args...); code != 1 || !strings.Contains(out, text) {
			t.Errorf("%q: code %d: %s", args, code, out)
		}
	}
	refused("kakuri network disconnect none asked", "network", "connect", "bridge", "asked")
	well(t, u, "network", "disconnect", "none", "asked")
	for _, name := range []string{"missing", "asked"} {
		refused(fmt.Sprintf("kakuri stop %s; kakuri network connect bridge %[1]s; kakuri start %[1]s", name), "network", "connect", "bridge", name)
		well(t, u, "stop", "-t", "0", name)
		well(t, u, "network", "connect", "bridge", name)
		well(t, u, "start", name)
		if out := well(t, u, "exec", name, "grep", "-c", "eth0", "/proc/net/dev"); out != "1\n" {
			t.Errorf("%s has %q devices", name, out)
		}
	}
	well(t, u, "rm", "-f", "missing", "asked")
	nstest.Until(t, "the end of the uplink", func() bool { return len(uplinksOf(t, u)) == 0 })
}

// A user without ranges of ids has networks with one id.
func TestRootlessOneID(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	nstest.TUN(t, 0o666)
	loopback(t)
	none := filepath.Join(nstest.Dir(t), "none")
	if err := os.WriteFile(none, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"/etc/subuid", "/etc/subgid"} {
		if err := unix.Mount(none, f, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(f, unix.MNT_DETACH)
	}
	if out, code := byUser(t, u, "run", "-d", "--name", "server", "--hostname", "server", "-p", "8080:80", "-v", nstest.PartPath("greeter")+":/greeter:ro", "host", "/greeter", ":80"); code != 0 {
		t.Fatalf("code %d: %s", code, out)
	}
	nstest.Until(t, "an answer", func() bool { return strings.HasPrefix(ask("127.0.0.1:8080", impatient), "server to ") })
	if out, code := byUser(t, u, "run", "--pid", "container:server", "host", "sh", "-c", "wc -l </proc/self/uid_map; grep -c eth0 /proc/net/dev; cat /proc/1/comm"); code != 0 || out != "1\n1\ngreeter\n" {
		t.Errorf("beside it: code %d: %q", code, out)
	}
	well(t, u, "rm", "-f", "server")
	nstest.Until(t, "the end of the uplink", func() bool { return len(uplinksOf(t, u)) == 0 })
}

// TestRootlessClosedEtc: a container that closes its own files in /etc, or gives them to another of its ids, is connected, disconnected and started as before.
func TestRootlessClosedEtc(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	for _, name := range []string{"shutnet", "othernet"} {
		well(t, u, "network", "create", "--internal", name)
	}
	defer func() {
		asUser(t, u, "rm", "-f", "closer")
		for _, name := range []string{"shutnet", "othernet"} {
			well(t, u, "network", "rm", name)
		}
		nstest.Until(t, "the end of all monitors", func() bool { return len(monitorsOf(t, u)) == 0 })
	}()
	well(t, u, greeterOf("shutnet", "closer")...)
	well(t, u, "start", "closer")
	well(t, u, "exec", "closer", "sh", "-c", "cd /etc; chown 1:1 hosts resolv.conf; chmod 0 hosts resolv.conf hostname")
	well(t, u, "network", "connect", "othernet", "closer")
	well(t, u, "network", "disconnect", "shutnet", "closer")
	well(t, u, "restart", "-t", "0", "closer")
	if out := well(t, u, "exec", "closer", "sh", "-c", "cat /etc/hostname; grep -c nameserver /etc/resolv.conf; grep -c closer /etc/hosts"); !strings.HasPrefix(out, "closer\n1\n") {
		t.Errorf("its files have %q", out)
	}
}

// Two data directories of an ordinary user know nothing of each other: both have their network bridge, and what one sweeps or repairs is its own.
func TestRootlessTwoDataDirectories(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	nstest.TUN(t, 0o666)
	loopback(t)
	in := func(data string, args ...string) string {
		t.Helper()
		c := u.Command(nstest.Binary(t, "kakuri"), args...)
		c.Env = append(c.Env, "XDG_DATA_HOME="+u.RuntimeDir()+"/"+data)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("%s: kakuri %s: %v: %s", data, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	datas := []string{"data", "data2"}
	defer func() {
		for _, data := range datas {
			in(data, "rm", "-f", "server")
		}
		nstest.Until(t, "the end of all monitors", func() bool { return len(monitorsOf(t, u)) == 0 })
	}()
	for i, data := range datas {
		port := fmt.Sprint(8080 + i)
		in(data, "run", "-d", "--name", "server", "--hostname", data, "-p", port+":80", "-v", nstest.PartPath("greeter")+":/greeter:ro", "host", "/greeter", ":80")
		nstest.Until(t, "an answer of "+data, func() bool { return strings.HasPrefix(ask("127.0.0.1:"+port, impatient), data+" to ") })
	}
	for _, data := range datas {
		in(data, "system", "check", "--repair")
		if out := in(data, "system", "check"); strings.Contains(out, "server") {
			t.Errorf("%s: %s", data, out)
		}
	}
	for i, data := range datas {
		if got := ask(fmt.Sprint("127.0.0.1:", 8080+i), patient); !strings.HasPrefix(got, data+" to ") {
			t.Errorf("after a repair of both, %s says %q", data, got)
		}
	}
	in(datas[0], "rm", "-f", "server")
	if got := ask("127.0.0.1:8081", patient); !strings.HasPrefix(got, datas[1]+" to ") {
		t.Errorf("without the other one it says %q", got)
	}
}

// A command of an ordinary user without the session's XDG_RUNTIME_DIR, as by su or cron, has the containers of the session.
func TestRootlessOutOfSession(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	elsewhere := nstest.Dir(t)
	if err := os.Chown(elsewhere, int(u.UID), int(u.GID)); err != nil {
		t.Fatal(err)
	}
	do := func(run string, args ...string) string {
		t.Helper()
		c := u.Command(nstest.Binary(t, "kakuri"), args...)
		if run != "" {
			c.Env = append(c.Env, "XDG_RUNTIME_DIR="+run)
		}
		out, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("kakuri %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	do("", "run", "-d", "--network", "none", "--name", "server", "host", "sleep", "100")
	pid := do("", "inspect", "-f", "{{.State.Pid}}", "server")
	if out := do(elsewhere, "ps", "--format", "{{.Names}} {{.State}}"); out != "server running" {
		t.Errorf("elsewhere ps says %q", out)
	}
	do(elsewhere, "start", "server") // which runs already
	if now := do("", "inspect", "-f", "{{.State.Pid}}", "server"); now != pid {
		t.Errorf("process %s after %s: it was started once more", now, pid)
	}
	do(elsewhere, "rm", "-f", "server")
	if out := do("", "ps", "-aq"); out != "" {
		t.Errorf("in the session there is still %q", out)
	}
	if list, err := os.ReadDir(elsewhere); err != nil || len(list) != 0 {
		t.Errorf("%v: elsewhere has %v", err, list)
	}
}
