package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// greeter answers each connection to a port by who it is of and who it is, until its standard input ends.
func greeter(args []string) int {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	name, _ := os.Hostname()
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		fmt.Fprintf(c, "%s to %s", name, c.RemoteAddr())
		c.Close()
	}
}

// greeted connects to addresses, one after the other, and prints what it is told, which it waits for as long as its first argument says.
func greeted(args []string) int {
	patience, err := time.ParseDuration(args[0])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, a := range args[1:] {
		fmt.Println(ask(a, patience))
	}
	return 0
}

// How long an answer is waited for, and one that is not to come.
const (
	patient   = 10 * time.Second
	impatient = time.Second
)

// ask connects to an address and returns what it is told.
func ask(address string, patience time.Duration) string {
	d := net.Dialer{Timeout: patience}
	c, err := d.Dial("tcp", address)
	if err != nil {
		return "error: " + err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	data, err := io.ReadAll(c)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(data)
}

func on(network string, c Config) Config {
	c.Image, c.Network = "host", network
	c.Mounts = append(c.Mounts, Mount{Type: "bind", Source: nstest.PartPath("greeter"), Dest: "/greeter", Options: []string{"ro"}}, Mount{Type: "bind", Source: nstest.PartPath("greeted"), Dest: "/greeted", Options: []string{"ro"}})
	return c
}

// loopback sets lo of the tests' network namespace up.
func loopback(t *testing.T) {
	t.Helper()
	d := &network.Doer{}
	defer d.Close()
	if _, err := d.Do(context.Background(), &plan.LinkUp{Device: "lo"}, os.Getpid()); err != nil {
		t.Fatal(err)
	}
}

// networks makes networks, which go after the test's containers.
func networks(t *testing.T, e *Engine, list ...NetworkConfig) {
	t.Helper()
	for _, c := range list {
		if _, err := e.NetworkCreate(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.NetworkRemove(context.Background(), c.Name, false); err != nil {
				t.Error(err)
			}
		})
	}
}

// ready waits until a container that is a greeter listens.
func ready(t *testing.T, c Container) {
	t.Helper()
	nstest.Until(t, c.Name+" is ready", func() bool { return strings.Contains(logOf(t, c), "ready") })
}

// says runs a container that asks addresses, and returns its lines.
func says(t *testing.T, e *Engine, network string, patience time.Duration, addresses ...string) []string {
	t.Helper()
	out, code, err := inside(t, e, on(network, Config{AutoRemove: true, Command: append([]string{"/greeted", patience.String()}, addresses...)}))
	if err != nil || code != 0 {
		t.Fatalf("%s, exit code %d, %v", out, code, err)
	}
	return strings.Split(strings.TrimSpace(out), "\n")
}

func TestNetworkLive(t *testing.T) {
	e := open(t)
	ctx := context.Background()
	loopback(t)
	networks(t, e, NetworkConfig{Name: "web"}, NetworkConfig{Name: "other"})
	server := detached(t, e, on("web", Config{Name: "server", Hostname: "first", Command: []string{"/greeter", ":80"}, Publish: []PortSpec{{Port: 80}}}))
	defer e.Remove(ctx, server.ID, RemoveOptions{Force: true})
	ready(t, server)
	i, err := e.Inspect("server")
	if err != nil {
		t.Fatal(err)
	}
	has := i.NetworkSettings.Networks["web"]
	for _, line := range says(t, e, "web", patient, has.IPAddress+":80", "["+has.GlobalIPv6Address+"]:80", "server:80", "SERVER.:80", server.ID[:12]+":80") {
		if !strings.HasPrefix(line, "first to ") {
			t.Errorf("another container of the network is told %q", line)
		}
	}
	for _, line := range says(t, e, "other", impatient, has.IPAddress+":80", "server:80") {
		if !strings.HasPrefix(line, "error: ") {
			t.Errorf("a container of another network is told %q", line)
		}
	}
	if text := ask(has.IPAddress+":80", patient); !strings.HasPrefix(text, "first to ") {
		t.Errorf("the host is told %q", text)
	}
	ports, err := e.Port("server")
	if err != nil || len(ports) != 2 {
		t.Fatalf("ports are %v, %v", ports, err)
	}
	if text := ask("127.0.0.1:"+ports[0].HostPort, patient); !strings.HasPrefix(text, "first to ") {
		t.Errorf("by the published port the host is told %q", text)
	}
	if _, err := e.NetworkInspect("web"); err != nil {
		t.Error(err)
	}
	if err := e.NetworkRemove(ctx, "web", false); err == nil || !strings.Contains(err.Error(), "has active endpoints") {
		t.Errorf("removal of a network in use: %v", err)
	}

	// On the default network nobody is known by name; what asks for it by its mode alone is on it.
	def, err := e.findNetwork("bridge")
	if err != nil {
		t.Fatal(err)
	}
	defer e.dropNetwork(&def)
	lines := append(says(t, e, "bridge", patient, net.JoinHostPort("127.0.0.1", "9")), says(t, e, "bridge", impatient, "server:80")...)
	if !strings.Contains(lines[0], "refused") || !strings.HasPrefix(lines[1], "error: ") {
		t.Errorf("on the default network: %q", lines)
	}

	// It is connected to the other one, too, and taken from the first.
	if err := e.NetworkConnect(ctx, "other", "server", Attachment{Aliases: []string{"alias"}}); err != nil {
		t.Fatal(err)
	}
	for _, line := range says(t, e, "other", patient, "server:80", "alias:80") {
		if !strings.HasPrefix(line, "first to ") {
			t.Errorf("after the connection a container of the other network is told %q", line)
		}
	}
	if err := e.NetworkConnect(ctx, "other", "server", Attachment{}); err == nil || !strings.Contains(err.Error(), "already exists in network") {
		t.Errorf("a second time: %v", err)
	}
	if err := e.NetworkDisconnect(ctx, "web", "server", false); err != nil {
		t.Fatal(err)
	}
	if line := says(t, e, "web", impatient, has.IPAddress+":80")[0]; !strings.HasPrefix(line, "error: ") {
		t.Errorf("after it was taken from the network a container there is told %q", line)
	}
	if i, err = e.Inspect("server"); err != nil || len(i.NetworkSettings.Networks) != 1 || i.NetworkSettings.Networks["other"].IPAddress == "" || len(i.NetworkSettings.Networks["other"].Aliases) != 1 {
		t.Errorf("networks are %+v, %v", i.NetworkSettings.Networks, err)
	}
	if err := e.Restart(ctx, "server", StopOptions{}); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "the server is ready again", func() bool { return strings.Count(logOf(t, found(t, e, "server")), "ready") == 2 })
	if line := says(t, e, "other", patient, "alias:80")[0]; !strings.HasPrefix(line, "first to ") {
		t.Errorf("after a restart a container of the other network is told %q", line)
	}

	// Nothing is left of it, also not of one that was killed with its monitor.
	killMonitor(t, e, found(t, e, "server"))
	if err := e.Remove(ctx, "server", RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if found, err := e.Check(ctx, false); err != nil || len(found) != 0 {
		t.Errorf("Check finds %+v, %v", found, err)
	}
}

// A container whose network namespace another one has joined starts again, with devices of its own; what joined keeps the old namespace, and the same
// container by whatever name.
func TestRestartOfJoined(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	ctx := t.Context()
	loopback(t)
	if _, err := e.NetworkCreate(ctx, NetworkConfig{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	server := detached(t, e, on("web", Config{Name: "server", Hostname: "first", Command: []string{"/greeter", ":80"}}))
	beside := detached(t, e, on("container:server", Config{Name: "beside", Command: []string{"/greeter", ":81"}}))
	if i, err := e.Inspect("beside"); err != nil || i.HostConfig.NetworkMode != "container:"+server.ID {
		t.Errorf("it joined %s, %v", i.HostConfig.NetworkMode, err)
	}
	if err := e.Rename(ctx, "server", "renamed"); err != nil {
		t.Fatal(err)
	}
	restarted := func(c *Container, times int) {
		t.Helper()
		if err := e.Restart(ctx, c.ID, StopOptions{}); err != nil {
			t.Fatal(err)
		}
		nstest.Until(t, c.Name+" is ready again", func() bool { return strings.Count(logOf(t, found(t, e, c.ID)), "ready") == times })
	}
	for _, c := range []*Container{&server, &beside} {
		ready(t, *c)
	}
	for i := range 2 {
		restarted(&server, 2+i)
	}
	if line := says(t, e, "web", patient, "renamed:80")[0]; !strings.HasPrefix(line, "first to ") {
		t.Errorf("after a restart a container of the network is told %q", line)
	}
	restarted(&beside, 2)
	if line := says(t, e, "web", patient, "renamed:81")[0]; !strings.HasPrefix(line, "first to ") { // by the host name of the one that it joined
		t.Errorf("what joined it, and was started again, tells %q", line)
	}
	for _, id := range []string{beside.ID, server.ID} {
		if err := e.Remove(ctx, id, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}

	// By its policy, and then for good: its address is another's from then on, and who joined it has no device of that network left.
	cfg := on("web", Config{Name: "third", Hostname: "third", Restart: Restart{Policy: "always"}, Command: []string{"/greeter", ":80"}})
	third := detached(t, e, cfg)
	ready(t, third)
	beside = detached(t, e, on("container:third", Config{Name: "beside", Command: []string{"/greeter", ":81"}}))
	if err := unix.Kill(third.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "it is started again", func() bool {
		third = found(t, e, "third")
		return third.Status == monitor.Running && third.Restarts > 0 && strings.Count(logOf(t, third), "ready") > 1
	})
	if third.Restarts != 1 || third.Error != "" {
		t.Errorf("it was started again %d times: %s", third.Restarts, third.Error)
	}
	if line := says(t, e, "web", patient, "third:80")[0]; !strings.HasPrefix(line, "third to ") {
		t.Errorf("after a restart by its policy a container of the network is told %q", line)
	}
	now := 0
	if err := errors.Join(e.Remove(ctx, beside.ID, RemoveOptions{Force: true}), e.Stop(ctx, third.ID, StopOptions{Timeout: &now}), e.Start(ctx, third.ID, StartOptions{})); err != nil {
		t.Fatal(err)
	}
	beside = detached(t, e, on("container:third", Config{Name: "beside", Command: []string{"/greeter", ":81"}}))
	up, err := e.Inspect(third.ID)
	if err := errors.Join(err, e.Stop(ctx, third.ID, StopOptions{Timeout: &now})); err != nil {
		t.Fatal(err)
	}
	down, err := e.Inspect(third.ID)
	if err != nil {
		t.Fatal(err)
	}
	if was, is := up.NetworkSettings.Networks["web"], down.NetworkSettings.Networks["web"]; was.NetworkID == "" || is.NetworkID != was.NetworkID || is.EndpointID+is.IPAddress != "" || !slices.Equal(is.DNSNames, was.DNSNames) || len(was.DNSNames) == 0 {
		t.Errorf("of %+v there is left %+v", was, is)
	}
	if devices := output(t, exec.Command("nsenter", "-n", "-t", strconv.Itoa(beside.PID), "ip", "-br", "link")); strings.Contains(devices, "eth0") {
		t.Errorf("who joined it has still its devices:\n%s", devices)
	}
	for _, id := range []string{beside.ID, third.ID} {
		if err := e.Remove(ctx, id, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	if err := e.NetworkRemove(ctx, "web", false); err != nil {
		t.Error(err)
	}
	if found, err := e.Check(ctx, false); err != nil || len(found) != 0 {
		t.Errorf("Check finds %+v, %v", found, err)
	}
}

// A container of the default network gets names when it is connected to another one, follows a neighbour that is renamed, and starts again; rules that were
// flushed are found and put back. No port is published, so that there is nothing but bridges.
func TestNetworkWithoutPorts(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	ctx := t.Context()
	nstest.ResolvConf(t, "nameserver 192.0.2.53\n") // a machine without one has the resolver asked everywhere
	loopback(t)
	if _, err := e.NetworkCreate(ctx, NetworkConfig{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	detached(t, e, on("web", Config{Name: "first", Hostname: "greets", Command: []string{"/greeter", ":80"}}))
	detached(t, e, on("bridge", Config{Name: "plain", Command: []string{"/greeter", ":80"}}))
	told := func(address string, patience time.Duration) string {
		var out bytes.Buffer
		if _, err := e.Exec(ctx, "plain", ExecConfig{Command: []string{"/greeted", patience.String(), address}}, Streams{Out: &out}); err != nil {
			t.Error(err)
		}
		return out.String()
	}
	conf := func() string {
		data, err := os.ReadFile(found(t, e, "plain").dir + "/resolv.conf")
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	ready(t, found(t, e, "first"))
	if before := conf(); strings.Contains(before, "127.0.0.11") {
		t.Errorf("on the default network: %s", before)
	}
	if err := e.NetworkConnect(ctx, "web", "plain", Attachment{}); err != nil {
		t.Fatal(err)
	}
	if text := told("first:80", patient); !strings.HasPrefix(text, "greets to ") || !strings.Contains(conf(), "nameserver 127.0.0.11\n") {
		t.Errorf("after it was connected it is told %q, with %s", text, conf())
	}
	if has := found(t, e, "plain").Connections; len(has) != 2 || !slices.Equal(namesAsked(t, e, "plain"), addrsOf(has[1])) {
		t.Errorf("verify asks for the names of %v, of %+v", namesAsked(t, e, "plain"), has)
	}
	if err := e.Rename(ctx, "first", "second"); err != nil {
		t.Fatal(err)
	}
	if text := told("second:80", patient); !strings.HasPrefix(text, "greets to ") {
		t.Errorf("after the rename: %q", text)
	}
	if text := told("first:80", impatient); !strings.HasPrefix(text, "error: ") {
		t.Errorf("by the old name: %q", text)
	}
	zero := 0
	if err := e.Restart(ctx, "plain", StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	if text := told("second:80", patient); !strings.HasPrefix(text, "greets to ") {
		t.Errorf("after a restart: %q", text)
	}
	unwatched(t, e)
	if out, err := exec.Command("nft", "delete", "table", "inet", network.NftTable).CombinedOutput(); err != nil { // as a firewall does that is loaded anew
		t.Fatalf("%v: %s", err, out)
	}
	for _, repair := range []bool{false, true} {
		f, err := e.Check(ctx, repair)
		if err != nil || len(f) != 1 || f[0].Object != "rules" || f[0].Mended != repair || f[0].Error != "" {
			t.Errorf("after a flush: %+v, %v", f, err)
		}
	}
	if f, err := e.Check(ctx, false); err != nil || len(f) != 0 {
		t.Errorf("after the repair: %+v, %v", f, err)
	}
	for _, name := range []string{"second", "plain"} {
		if err := e.Remove(ctx, name, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	if err := e.NetworkRemove(ctx, "web", false); err != nil {
		t.Error(err)
	}
	if def, err := e.findNetwork("bridge"); err != nil || e.dropNetwork(&def) != nil {
		t.Error(err)
	}
}

// Of a choice of ports that has one for each container, containers that start at the same time get one each: what the engine chose is
// held until the monitor has it.
func TestPortsOfChoice(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := bridged(t)
	loopback(t)
	const count = 6
	choice := []PortSpec{{HostIP: "127.0.0.1", HostPort: 9100, HostPortEnd: 9100 + count - 1, Port: 80}}
	containers, errs := make([]Container, count), make([]error, count)
	var all sync.WaitGroup
	for i := range count {
		all.Go(func() {
			name := fmt.Sprintf("c%d", i)
			_, errs[i] = e.Run(t.Context(), on("", Config{Name: name, Hostname: name, Command: []string{"/greeter", ":80"}, Publish: choice}), Streams{}, RunOptions{Detach: true})
		})
	}
	all.Wait()
	seen := map[string]bool{}
	var ports []Port // of the last one
	for i := range count {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		name := fmt.Sprintf("c%d", i)
		containers[i] = found(t, e, name)
		ready(t, containers[i])
		var err error
		if ports, err = e.Port(name); err != nil || len(ports) != 1 || seen[ports[0].HostPort] {
			t.Fatalf("ports %v, %v", ports, err)
		}
		seen[ports[0].HostPort] = true
		if text := ask("127.0.0.1:"+ports[0].HostPort, patient); !strings.HasPrefix(text, name+" to ") {
			t.Errorf("port %s: %q", ports[0].HostPort, text)
		}
	}
	if _, err := e.Run(t.Context(), on("", Config{Name: "late", Command: []string{"/greeter", ":80"}, Publish: choice, AutoRemove: true}), Streams{}, RunOptions{Detach: true}); err == nil || !strings.Contains(err.Error(), "all ports from 9100 to 9105 are taken") {
		t.Errorf("one more: %v", err)
	}
	taken, _ := strconv.ParseUint(ports[0].HostPort, 10, 16)
	for want, p := range map[string]PortSpec{
		fmt.Sprintf("driver failed programming external connectivity: Bind for 127.0.0.1:%d failed: port is already allocated: container c5 publishes it: kakuri stop c5, or publish another port (step ", taken): {HostIP: "127.0.0.1", HostPort: uint16(taken), Port: 80},
		"port 9191/tcp of 203.0.113.5: bind: cannot assign requested address: no device of this machine has that address (step ":                                                                                  {HostIP: "203.0.113.5", HostPort: 9191, Port: 80},
		"bind: cannot assign requested address: no device of this machine has that address":                                                                                                                       {HostIP: "203.0.113.5", Port: 80},
	} {
		if _, err := e.Run(t.Context(), on("", Config{Name: "late", Command: []string{"/greeter", ":80"}, Publish: []PortSpec{p}, AutoRemove: true}), Streams{}, RunOptions{Detach: true}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	kept, err := e.Run(t.Context(), on("", Config{Name: "kept", Command: []string{"/greeter", ":80"}, Publish: []PortSpec{{HostIP: "127.0.0.1", HostPort: uint16(taken), Port: 80}}}), Streams{}, RunOptions{Detach: true})
	if err == nil || found(t, e, kept.ID).Error != err.Error() || !strings.Contains(err.Error(), "container c5 publishes it") {
		t.Errorf("the record has %q of %v", found(t, e, kept.ID).Error, err)
	}
	containers = append(containers, found(t, e, kept.ID))
	for _, c := range containers {
		if err := e.Remove(t.Context(), c.ID, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
}

// namesAsked are the addresses of a container that the container's server for names is asked about, when it is verified.
func namesAsked(t *testing.T, e *Engine, name string) (list []netip.Addr) {
	t.Helper()
	c := found(t, e, name)
	setup, err := monitor.ReadSetup(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := plan.ConnectSteps(*setup.Options.Network, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if check, ok := s.Check.(*plan.NamesCheck); ok {
			list = append(list, check.Addrs...)
		}
	}
	return list
}

func addrsOf(c Connection) (list []netip.Addr) {
	for _, p := range c.Addrs {
		list = append(list, p.Addr())
	}
	return list
}

// Published ports stay what they are when a container that runs is connected to another network and taken from the one that they led by: those that
// a rule leads, and those that a socket serves. Without a network there are none, and with the next one there are again.
func TestPortsFollow(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	ctx := t.Context()
	loopback(t)
	networks(t, e, NetworkConfig{Name: "one"}, NetworkConfig{Name: "two"})
	c := detached(t, e, on("one", Config{Name: "server", Hostname: "box", Command: []string{"/greeter", ":80"}, Publish: []PortSpec{
		{HostIP: "127.0.0.1", Port: 80}, {HostIP: "::1", HostPort: 9200, Port: 80}, {HostIP: "127.0.0.1", HostPort: 9201, Port: 80, Strict: true},
	}}))
	defer e.Remove(ctx, c.ID, RemoveOptions{Force: true})
	ready(t, c)
	ports, err := e.Port("server")
	if err != nil || len(ports) != 3 {
		t.Fatal(ports, err)
	}
	all := []string{"127.0.0.1:" + ports[0].HostPort, "[::1]:9200", "127.0.0.1:9201"}
	reached := func(when string) {
		t.Helper()
		for _, to := range all {
			if text := ask(to, patient); !strings.HasPrefix(text, "box to ") {
				t.Errorf("%s %s says %q", when, to, text)
			}
		}
		if f, err := e.Check(ctx, false); err != nil || len(f) != 0 {
			t.Errorf("%s: Check finds %+v, %v", when, f, err)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	reached("at first")
	do(e.NetworkConnect(ctx, "two", "server", Attachment{}))
	reached("on both")
	do(e.NetworkDisconnect(ctx, "one", "server", false))
	reached("on the other one")
	i, err := e.Inspect("server")
	do(err)
	for _, p := range found(t, e, "server").Ports {
		if a := p.Addr.String(); a != i.NetworkSettings.Networks["two"].IPAddress && a != i.NetworkSettings.Networks["two"].GlobalIPv6Address {
			t.Errorf("the record has %v to %s", p, a)
		}
	}
	zero := 0
	do(e.Restart(ctx, "server", StopOptions{Timeout: &zero}))
	nstest.Until(t, "the server is ready again", func() bool { return strings.Count(logOf(t, found(t, e, "server")), "ready") == 2 })
	ports, err = e.Port("server")
	do(err)
	all[0] = "127.0.0.1:" + ports[0].HostPort // chosen anew by a start
	reached("after a restart")
	do(e.NetworkDisconnect(ctx, "two", "server", false))
	for _, to := range all {
		if text := ask(to, impatient); !strings.HasPrefix(text, "error: ") {
			t.Errorf("without a network %s says %q", to, text)
		}
	}
	if ports, err := e.Port("server"); err != nil || len(ports) != 0 {
		t.Errorf("without a network there are the ports %v, %v", ports, err)
	}
	do(e.NetworkConnect(ctx, "one", "server", Attachment{}))
	ports, err = e.Port("server")
	do(err)
	all[0] = "127.0.0.1:" + ports[0].HostPort
	reached("connected again")
}

// TestPortsOfTheOtherFamily: a container that has IPv4 alone is reached by IPv6 of the machine, from loopback and from elsewhere, by a socket; by the rules while it has IPv6, too; and by
// the socket again. One that has IPv6 alone is reached by an IPv4 address where that was asked for.
func TestPortsOfTheOtherFamily(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	ctx := t.Context()
	loopback(t)
	if !netdb.HasIPv6() {
		t.Skip("this network namespace is without IPv6")
	}
	no := false
	networks(t, e, NetworkConfig{Name: "four", EnableIPv6: &no}, NetworkConfig{Name: "six", EnableIPv4: &no})
	six, err := e.NetworkInspect("six")
	if err != nil {
		t.Fatal(err)
	}
	gateway := six.IPAM.Config[0].Gateway
	for _, c := range []Config{
		on("four", Config{Name: "server4", Hostname: "four", Command: []string{"/greeter", ":80"}, Publish: []PortSpec{{HostPort: 9210, Port: 80}, {HostIP: "::1", HostPort: 9211, Port: 80}}}),
		on("six", Config{Name: "server6", Hostname: "six", Command: []string{"/greeter", ":80"}, Publish: []PortSpec{{HostIP: "127.0.0.1", HostPort: 9212, Port: 80}}}),
	} {
		c := detached(t, e, c)
		defer e.Remove(ctx, c.ID, RemoveOptions{Force: true})
		ready(t, c)
	}
	reached := func(when string) {
		t.Helper()
		for _, to := range []string{"127.0.0.1:9210", "[::1]:9210", "[::1]:9211", "[" + gateway + "]:9210"} {
			if text := ask(to, patient); !strings.HasPrefix(text, "four to ") {
				t.Errorf("%s %s says %q", when, to, text)
			}
		}
		if text := says(t, e, "six", patient, "["+gateway+"]:9210"); len(text) != 1 || !strings.HasPrefix(text[0], "four to ") {
			t.Errorf("%s a container of another network hears %q", when, text)
		}
		if f, err := e.Check(ctx, false); err != nil || len(f) != 0 {
			t.Errorf("%s: Check finds %+v, %v", when, f, err)
		}
	}
	reached("with IPv4 alone")
	if text := ask("127.0.0.1:9212", patient); !strings.HasPrefix(text, "six to ") {
		t.Errorf("with IPv6 alone 127.0.0.1 says %q", text)
	}
	leads := func() (list []string) {
		for _, p := range found(t, e, "server4").Ports {
			list = append(list, fmt.Sprint(p.HostAddr, " ", p.Addr.Is4()))
		}
		return list
	}
	if got, want := leads(), []string{"0.0.0.0 true", ":: true", "::1 true"}; !slices.Equal(got, want) {
		t.Errorf("ports are %q, want %q", got, want)
	}
	if err := e.NetworkConnect(ctx, "six", "server4", Attachment{}); err != nil {
		t.Fatal(err)
	}
	if got, want := leads(), []string{"0.0.0.0 true", ":: false", "::1 false"}; !slices.Equal(got, want) {
		t.Errorf("with IPv6, too, ports are %q, want %q", got, want)
	}
	reached("with IPv6, too")
	if err := e.NetworkDisconnect(ctx, "six", "server4", false); err != nil {
		t.Fatal(err)
	}
	reached("with IPv4 alone again")
}

// TestConnectWithPriority: connected while it runs, a container has the default route that it would have from its start.
func TestConnectWithPriority(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	ctx := t.Context()
	subnets := map[string]string{"low": "10.91.0.0/24", "same": "10.92.0.0/24", "high": "10.93.0.0/24", "inner": "10.94.0.0/24"}
	for name, subnet := range subnets {
		networks(t, e, NetworkConfig{Name: name, Internal: name == "inner", IPAM: IPAM{Config: []IPAMPool{{Subnet: subnet}}}})
	}
	c := detached(t, e, on("", Config{Name: "box", Command: []string{"sleep", "infinity"}, Networks: []Attachment{{Network: "low", GatewayPriority: -5}}}))
	defer e.Remove(ctx, c.ID, RemoveOptions{Force: true})
	leads := func() string {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/route", found(t, e, "box").PID))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); f[1] == "00000000" {
				return f[0]
			}
		}
		return "nowhere"
	}
	for _, step := range []struct {
		network  string
		priority int
		off      bool
		want     string
	}{
		{"inner", 9, false, "eth0"}, // leads nowhere
		{"same", -5, false, "eth0"}, // the first one's
		{"high", -1, false, "eth3"}, // the highest, be it below that of who asked for nothing
		{"high", 0, true, "eth0"},
		{"low", 0, true, "eth2"},
		{"same", 0, true, "nowhere"},
		{"low", -7, false, "eth0"},
	} {
		var err error
		if step.off {
			err = e.NetworkDisconnect(ctx, step.network, "box", false)
		} else {
			err = e.NetworkConnect(ctx, step.network, "box", Attachment{GatewayPriority: step.priority})
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := leads(); got != step.want {
			t.Errorf("%+v: the default route is by %s", step, got)
		}
	}
}

// TestNamesOfAKilledRename: a network that has a container by other names than its own, or not at all, as a killed rename or connect leaves it, is found and mended.
func TestNamesOfAKilledRename(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	ctx := t.Context()
	loopback(t)
	networks(t, e, NetworkConfig{Name: "back"})
	c := detached(t, e, on("back", Config{Name: "web", Command: []string{"/greeter", ":80"}}))
	db := e.netdb()
	t.Cleanup(db.Forget)
	n, err := db.Lookup("back")
	if err != nil {
		t.Fatal(err)
	}
	has := func(name string) bool {
		addrs, known := db.Resolve(n.ID, name)
		return known && len(addrs) > 0
	}
	for what, undo := range map[string]func() error{
		"left":    func() error { return db.Leave(n.ID, c.ID) },
		"renamed": func() error { return db.Join(n.ID, netdb.Member{Container: c.ID, Name: "old"}) },
	} {
		if f, err := e.Check(ctx, false); err != nil || len(f) != 0 || !has("web") {
			t.Fatalf("%s: %v: %+v", what, err, f)
		}
		if err := undo(); err != nil || has("web") {
			t.Fatalf("%s: %v", what, err)
		}
		if f, err := e.Check(ctx, true); err != nil || len(f) != 1 || f[0].Object != container(c.ID) || !strings.Contains(f[0].Text, "by other names") || !f[0].Mended {
			t.Errorf("%s: %v: %+v", what, err, f)
		}
	}
	if !has("web") || has("old") {
		t.Error("its names are not its own")
	}
}

// TestNetworkChangeBehindResolved: behind the stub of systemd-resolved a container that runs is told of whom it may ask as one that is started is: who was left nothing that leads out
// does not go on to ask the machine's servers by its links, and who was given something does not ask one link's servers for another link's names.
func TestNetworkChangeBehindResolved(t *testing.T) {
	nstest.Root(t)
	nstest.ResolvConf(t, "nameserver 127.0.0.53\n")
	const resolved = "/run/systemd/resolve"
	t.Cleanup(func() { os.RemoveAll("/run/systemd") })
	if err := errors.Join(os.MkdirAll(resolved, 0o755), os.WriteFile(resolved+"/resolv.conf", []byte("nameserver 192.0.2.1\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	e, ctx := open(t), t.Context()
	loopback(t)
	networks(t, e, NetworkConfig{Name: "inner", Internal: true}, NetworkConfig{Name: "outside"})
	t.Cleanup(func() { // the default one stays, and would be another test's to sweep
		if def, err := e.findNetwork(netdb.DefaultName); err != nil || e.dropNetwork(&def) != nil {
			t.Error(err, "the default network's bridge stays")
		}
	})
	for first, changes := range map[string][]struct {
		change   string
		resolver bool // of ours
		asks     bool
	}{
		"outside":         {{"", true, true}, {"+inner", true, true}, {"-outside", true, false}, {"-inner", true, false}, {"+outside", true, true}},
		"inner":           {{"", true, false}, {"+outside", true, true}, {"-inner", true, true}, {"-outside", true, false}},
		netdb.DefaultName: {{"", false, false}, {"+outside", true, true}, {"-outside", true, true}, {"+inner", true, true}, {"-" + netdb.DefaultName, true, false}},
	} {
		c := detached(t, e, on(first, Config{Name: "one", Command: []string{"sleep", "1000"}}))
		when := "on " + first
		for _, step := range changes {
			when += " " + step.change
			var err error
			if name, ok := strings.CutPrefix(step.change, "+"); ok {
				err = e.NetworkConnect(ctx, name, "one", Attachment{})
			} else if name, ok := strings.CutPrefix(step.change, "-"); ok {
				err = e.NetworkDisconnect(ctx, name, "one", false)
			}
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			n, err := monitor.ReadNetworks(c.dir)
			if err != nil || n.Resolver != step.resolver || n.Links != step.asks || (len(n.Servers) > 0) != step.asks || n.World {
				t.Errorf("%s: %v, it has %+v; want a resolver %v that asks %v", when, err, n, step.resolver, step.asks)
			}
		}
		if err := e.Remove(ctx, "one", RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
}
