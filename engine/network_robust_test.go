package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
)

// isNetworkStep reports whether a step connects a container, and not something else of it.
func isNetworkStep(op plan.Op) bool {
	switch op.(type) {
	case *plan.SetForwarding, *plan.MakeBridge, *plan.MakeRules, *plan.HoldPorts, *plan.MakeVeth, *plan.AddAddress, *plan.AddRoute, *plan.DeviceSysctl, *plan.PublishPorts, *plan.ServeNames:
		return true
	}
	return false
}

// TestKilledAtEveryStepOfANetwork: the monitor of a container with a network, addresses, names and ports is killed before each step that has to do with them, and
// before the one behind it, in turns alone and with its command. The next command leaves no device, address, name, rule or held port.
func TestKilledAtEveryStepOfANetwork(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	loopback(t)
	const flags = "--network web -p 127.0.0.1:18080:80 -p 18081:81/udp"
	output(t, kakuri(t, "network", "create", "web"))
	defer func() { output(t, kakuri(t, "network", "rm", "web")) }()
	args := append(append([]string{"run"}, strings.Fields(flags)...), "--rootfs", root)
	output(t, kakuri(t, append(args, "true")...)) // what stays is made now
	output(t, kakuri(t, "ps"))                    // and so are directories of networks that other tests left, by a sweep
	output(t, kakuri(t, "ps"))                    // by who sweeps, too
	rules := func() string { return output(t, exec.Command("nft", "list", "ruleset")) }
	before, quiet := nstest.Take("/run/kakuri", "/var/lib/kakuri/networks"), rules()

	e := openAt(t, "/run/kakuri")
	runs := exec.Command(nstest.Binary(t, "kakuri"), append(append([]string{"run", "-d", "--name", "model"}, args[1:]...), "sleep", "1000")...)
	output(t, runs)
	_, p, err := e.Plan("model")
	output(t, kakuri(t, "rm", "-f", "model"))
	if err != nil {
		t.Fatal(err)
	}
	nothingSince(t, before, "after the model")
	var at []int
	for i := range p.Steps {
		if isNetworkStep(p.Steps[i].Op) || i > 0 && isNetworkStep(p.Steps[i-1].Op) {
			at = append(at, i)
		}
	}
	if len(at) < 10 {
		t.Fatalf("%d steps of the plan have to do with networks", len(at))
	}
	home := nstest.Dir(t)
	for k, n := range at {
		how := []string{"", ",both"}[k%2]
		when := fmt.Sprintf("killed before step %d%s", n+1, how)
		c := kakuri(t, append(args, "sh", "-c", "exit 7")...)
		c.Env = append(os.Environ(), "HOME="+home+","+strconv.Itoa(n)+how, "KAKURI_RUNTIME="+nstest.PartPath("victim"))
		if said, _ := c.CombinedOutput(); how == "" && (c.ProcessState.ExitCode() != 125 || len(said) == 0) || how != "" && c.ProcessState.ExitCode() != -1 {
			t.Errorf("%s: %v: %s", when, c.ProcessState, said)
		}
		nothingLeft(t, before, when)
		if now := rules(); now != quiet {
			t.Errorf("%s: rules are\n%s\nand were\n%s", when, now, quiet)
		}
		if l, err := net.Listen("tcp", "127.0.0.1:18080"); err != nil {
			t.Errorf("%s: the port is held: %v", when, err)
		} else {
			l.Close()
		}
		if found, err := e.Check(t.Context(), false); err != nil || len(found) > 0 {
			t.Errorf("%s: Check finds %+v, %v", when, found, err)
		}
		if t.Failed() {
			return
		}
	}
}

// TestNetworkHurt: a bridge is removed, or had down, while containers are at it, and the rules are flushed. Check finds it; with repair, names and published ports work again.
func TestNetworkHurt(t *testing.T) {
	e := open(t)
	ctx := t.Context()
	loopback(t)
	n, err := e.NetworkCreate(ctx, NetworkConfig{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.NetworkRemove(ctx, "web", false); err != nil {
			t.Error(err)
		}
	}()
	rec, err := e.findNetwork(n.ID)
	if err != nil {
		t.Fatal(err)
	}
	server := detached(t, e, on("web", Config{Name: "server", Hostname: "first", Command: []string{"/greeter", ":80"}, Publish: []PortSpec{{Port: 80}}}))
	defer e.Remove(ctx, server.ID, RemoveOptions{Force: true})
	ready(t, server)
	ports, err := e.Port("server")
	if err != nil || len(ports) == 0 {
		t.Fatalf("ports are %v, %v", ports, err)
	}
	works := func(when string) {
		t.Helper()
		// The kernel forgets masqueraded connections of a device that went down in a moment of its own, so one that was made meanwhile goes along.
		text := ""
		for range 3 {
			if text = ask("127.0.0.1:"+ports[0].HostPort, patient); !strings.HasSuffix(text, "timeout") {
				break
			}
		}
		if !strings.HasPrefix(text, "first to ") {
			t.Errorf("%s: by the published port the host is told %q", when, text)
		}
		if line := says(t, e, "web", patient, "server:80")[0]; !strings.HasPrefix(line, "first to ") {
			t.Errorf("%s: another container is told %q", when, line)
		}
	}
	works("at first")
	unwatched(t, e)
	for _, hurt := range []string{"ip link delete " + rec.Device, "ip addr flush dev " + rec.Device, "ip link set " + rec.Device + " down", "ip link set " + plan.HostDevice(server.ID, 0) + " nomaster", "ip link delete " + plan.HostDevice(server.ID, 0), "nft delete table inet " + network.NftTable,
		"sysctl -qw net.ipv4.ip_forward=0", "sysctl -qw net.ipv6.conf.all.forwarding=0"} {
		words := strings.Fields(hurt)
		output(t, exec.Command(words[0], words[1:]...))
		for _, repair := range []bool{false, true} {
			if found, err := e.Check(ctx, repair); err != nil || len(found) != 1 || found[0].Mended != repair || found[0].Error != "" {
				t.Errorf("after %s: Check finds %+v, %v", hurt, found, err)
			}
		}
		works("after " + hurt + " and the repair")
	}
	// Of two cables the one that is gone is made anew, and routes stay where they were.
	networks(t, e, NetworkConfig{Name: "zoo"})
	if err := e.NetworkConnect(ctx, "zoo", server.ID, Attachment{}); err != nil {
		t.Fatal(err)
	}
	inside := func() string {
		c := []string{"-t", strconv.Itoa(found(t, e, server.ID).PID), "-n", "sh", "-c", "ip -4 route; ip -6 route show default; ip -br addr show dev eth0; ip -br addr show dev eth1"}
		text := output(t, exec.Command("nsenter", c...))
		return regexp.MustCompile(`@if\d+|fe80\S+| +`).ReplaceAllString(text, " ") // the other end is another device, which chose an address itself
	}
	for i := range 2 {
		before := inside()
		output(t, exec.Command("ip", "link", "delete", plan.HostDevice(server.ID, i)))
		for _, repair := range []bool{false, true} {
			if found, err := e.Check(ctx, repair); err != nil || len(found) != 1 || found[0].Mended != repair || found[0].Error != "" {
				t.Errorf("of cable %d that is gone Check finds %+v, %v", i, found, err)
			}
		}
		if after := inside(); after != before {
			t.Errorf("inside there was\n%s\nand is\n%s", before, after)
		}
		works("after a cable was gone")
	}
	// Where another command is at the container, it is left alone; so is one whose pid is another process's by now.
	output(t, exec.Command("ip", "link", "delete", plan.HostDevice(server.ID, 1)))
	_, lock, err := e.lock(server.ID)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := e.Check(ctx, true); err != nil || len(found) != 0 {
		t.Errorf("beside another command Check finds %+v, %v", found, err)
	}
	lock.Close()
	d := &network.Doer{Rules: monitor.Rules(e.dir)}
	defer d.Close()
	cables := e.cablesOf(server.ID)
	release := e.hold(cables)
	cables[1].Process.Begun--
	if err := cables[1].plug(ctx, d); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("of an earlier process of that pid: %v", err)
	}
	e.hold(cables)()
	cables[1].Process.Begun++
	if cables[0].Held || cables[1].Held {
		t.Error("cables are held twice")
	}
	cables[1].Held = true
	if err := cables[1].plug(ctx, d); err != nil {
		t.Error(err)
	}
	release()
	if err := e.NetworkDisconnect(ctx, "zoo", server.ID, false); err != nil {
		t.Error(err)
	}
	// Any command that sweeps gives a bridge back what it lost.
	output(t, exec.Command("ip", "link", "set", rec.Device, "down"))
	output(t, exec.Command("ip", "link", "set", rec.Device, "up"))
	if err := e.sweep(); err != nil {
		t.Error(err)
	}
	if found, err := e.Check(ctx, false); err != nil || len(found) != 0 {
		t.Errorf("of a bridge that was down Check finds %+v, %v after a sweep", found, err)
	}
	// So does it, and each start and connect, with a bridge that is gone and those who are at it.
	output(t, exec.Command("ip", "link", "delete", rec.Device))
	if err := e.sweep(); err != nil {
		t.Error(err)
	}
	works("after a bridge was removed, and a sweep")
	output(t, exec.Command("ip", "link", "delete", rec.Device))
	says(t, e, "web", patient, "server:80")
	works("after a bridge was removed, and a start")
	late := detached(t, e, Config{Name: "late", Image: "host", Network: "none", Command: []string{"sleep", "1000"}})
	output(t, exec.Command("ip", "link", "delete", rec.Device))
	if err := errors.Join(e.NetworkDisconnect(ctx, "none", late.ID, false), e.NetworkConnect(ctx, "web", late.ID, Attachment{})); err != nil {
		t.Error(err)
	}
	if found, err := e.Check(ctx, false); err != nil || len(found) != 0 {
		t.Errorf("of a bridge that was removed Check finds %+v, %v after a connect", found, err)
	}
	works("after a bridge was removed, and a connect")
	if err := e.Remove(ctx, late.ID, RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
}

// TestPoolExhausted: the network's last address is taken, which the next container is told, and nothing is left of it.
func TestPoolExhausted(t *testing.T) {
	e := open(t)
	ctx := t.Context()
	loopback(t)
	if _, err := e.NetworkCreate(ctx, NetworkConfig{Name: "small", IPAM: IPAM{Config: []IPAMPool{{Subnet: "10.9.0.0/30"}}}}); err != nil {
		t.Fatal(err)
	}
	n, err := e.findNetwork("small")
	if err != nil {
		t.Fatal(err)
	}
	one := detached(t, e, on("small", Config{Command: []string{"/greeter", ":80"}}))
	leases, err := e.netdb().Leases(n.ID)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, _, err := inside(t, e, on("small", Config{Command: []string{"/greeter", ":80"}, Publish: []PortSpec{{Port: 80, HostPort: 18080, HostPortEnd: 18080}}}))
		if !errors.As(err, new(*netdb.ExhaustedError)) {
			t.Error(err)
		}
	}
	if now, err := e.netdb().Leases(n.ID); err != nil || len(now) != len(leases) {
		t.Errorf("%v are taken, and %v were before: %v", now, leases, err)
	}
	if found, err := e.Check(ctx, false); err != nil || len(found) != 0 {
		t.Errorf("Check finds %+v, %v", found, err)
	}
	if err := errors.Join(e.Remove(ctx, one.ID, RemoveOptions{Force: true}), e.NetworkRemove(ctx, "small", false)); err != nil {
		t.Error(err)
	}
}

// flooder asks for names without end, and waits for no answer.
func flooder([]string) int {
	c, err := net.Dial("udp", "127.0.0.11:53")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	ours := []byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07flooder\x00\x00\x01\x00\x01")
	others := []byte("\x00\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01")
	for {
		c.Write(ours)
		c.Write(others)
	}
}

// TestNetworkCrowd: commands start containers on a network that has no bridge yet, at once, while one of them floods its resolver with questions. All are known by name,
// addresses are given once, the flood's monitor stays small, and the network of all goes away as a whole.
func TestNetworkCrowd(t *testing.T) {
	nstest.Root(t)
	loopback(t)
	const crowd = 10
	for _, name := range []string{"web", "other"} {
		output(t, kakuri(t, "network", "create", name))
	}
	e := openAt(t, "/run/kakuri")
	command := func(args ...string) *exec.Cmd {
		return exec.Command(nstest.Binary(t, "kakuri"), args...)
	}
	atOnce := func(list []*exec.Cmd) {
		t.Helper()
		outs := make([]strings.Builder, len(list))
		for i, c := range list {
			c.Stdout, c.Stderr = &outs[i], &outs[i]
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
		}
		for i, c := range list {
			if err := c.Wait(); err != nil {
				t.Errorf("%v: %v: %s", c.Args[1:], err, outs[i].String())
			}
		}
	}
	var starts, joins, ends []*exec.Cmd
	for i := range crowd {
		name := fmt.Sprintf("crowd%d", i)
		program, args := "greeter", []string{"host", "/greeter", ":80"}
		if i == 0 {
			program, args = "flooder", []string{"host", "/flooder"}
		}
		starts = append(starts, command(append([]string{"run", "-d", "--name", name, "--hostname", name, "--network", "web", "-v", nstest.PartPath(program) + ":/" + program + ":ro"}, args...)...))
		joins, ends = append(joins, command("network", "connect", "other", name)), append(ends, command("rm", "-f", name))
	}
	atOnce(starts)
	atOnce(joins)
	if t.Failed() {
		return
	}
	seen := map[string]string{}
	for i := range crowd {
		name := fmt.Sprintf("crowd%d", i)
		c, err := e.Inspect(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{"web", "other"} {
			has := c.NetworkSettings.Networks[n]
			for _, a := range []string{has.IPAddress, has.GlobalIPv6Address} {
				if a == "" || seen[a] != "" {
					t.Errorf("%s has address %q on %s, which %s has", name, a, n, seen[a])
				}
				seen[a] = name
			}
		}
		ready(t, found(t, e, name))
	}
	for _, n := range []string{"web", "other"} {
		var addresses []string
		for i := 1; i < crowd; i++ {
			addresses = append(addresses, fmt.Sprintf("crowd%d:80", i))
		}
		for i, line := range says(t, e, n, patient, addresses...) {
			if !strings.HasPrefix(line, fmt.Sprintf("crowd%d to ", i+1)) {
				t.Errorf("on %s, of %s: %q", n, addresses[i], line)
			}
		}
	}
	status := readFile(filepath.Join("/proc", strconv.Itoa(monitorOf(t, e, found(t, e, "crowd0"))), "status"))
	_, peak, _ := strings.Cut(status, "VmHWM:")
	if kB, err := strconv.Atoi(strings.Fields(peak + " none")[0]); err != nil || kB > 40<<10 {
		t.Errorf("the monitor of the flood had %d kB, %v", kB, err)
	}
	atOnce(ends)
	for _, name := range []string{"web", "other"} {
		output(t, kakuri(t, "network", "rm", name))
	}
	if found, err := e.Check(context.Background(), false); err != nil || len(found) != 0 {
		t.Errorf("Check finds %+v, %v", found, err)
	}
}
