package engine

import (
	"errors"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/network/reach"
	"github.com/kakuri/kakuri/ui"
)

// Why a port is not reachable, of containers that are paused, only made, kept from the port by others, or on a network that publishes none.
func TestPortWhy(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := bridged(t)
	ctx := t.Context()
	loopback(t)
	var warned []string
	e.warn = func(text string) { warned = append(warned, text) }
	for name, options := range map[string]map[string]string{"inner": nil, "alone": {optMode4: modeIsolated, optMode6: modeIsolated}} {
		networks(t, e, NetworkConfig{Name: name, Internal: true, Options: options})
	}
	at := func(port uint16) []PortSpec { return []PortSpec{{HostIP: "127.0.0.1", HostPort: port, Port: 80}} }
	serve := []string{"/greeter", ":80"}
	up := func(name, network string, publish []PortSpec) {
		t.Helper()
		c := detached(t, e, on(network, Config{Name: name, Publish: publish, Command: serve}))
		ready(t, c)
	}
	down := func(name string) {
		t.Helper()
		if err := e.Remove(ctx, name, RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	why := func(name string, port uint16, want reach.Reason, says string) {
		t.Helper()
		f, err := e.PortFacts(ctx, reach.Question{Name: name, Port: port, Proto: "tcp"})
		if err != nil {
			t.Fatal(err)
		}
		v := reach.Judge(f)
		if len(v.Findings) == 0 || v.Findings[0].Reason != want || v.OK() != (want == reach.OnlyHere) || !strings.Contains(v.Findings[0].Text+": "+v.Findings[0].Way, says) {
			t.Errorf("%s:%d, want %q, %q: %s", name, port, want, says, v.Text(ui.EN))
		}
	}
	// One after the other: what is tried between networks takes its time.
	up("inside", "inner", at(9201))
	if len(warned) != 1 || warned[0] != "-p publishes nothing: network inner is internal" {
		t.Errorf("warned: %q", warned)
	}
	why("", 9201, reach.InternalNetwork, "inside asked for port 9201/tcp of the host, and nothing is published there: network inner is internal")
	down("inside")
	up("apart", "alone", nil)
	why("apart", 80, reach.InternalNetwork, "by design")
	down("apart")

	up("up", "", at(9200))
	l, err := net.Listen("tcp4", "127.0.0.1:9202")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, port := range map[string]uint16{"late": 9200, "kept": 9202, "made": 9203} {
		if _, err := e.Create(ctx, on("", Config{Name: name, Publish: at(port), Command: serve})); err != nil {
			t.Fatal(err)
		}
		defer down(name)
	}
	why("", 9200, reach.OnlyHere, "127.0.0.1")
	why("late", 80, reach.OtherContainer, "container up has port 9200/tcp")
	why("", 9202, reach.OtherProgram, "has port 9202/tcp of the host, at 127.0.0.1")
	why("", 9203, reach.NotRunning, "kakuri start made")
	// As many harden a machine: what comes to the loopback's addresses by another device. Answers are, before their addresses are all turned back.
	if out, err := exec.Command("nft", "add table inet hard; add chain inet hard in { type filter hook input priority 0; }; add rule inet hard in iifname != lo ip daddr 127.0.0.0/8 drop").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	why("", 9200, reach.Dropped, `table inet hard, chain in (input) drops what port 80 answers this machine: the rule of handle 2: iifname != "lo"`)
	output(t, exec.Command("nft", "delete table inet hard"))
	if err := e.Pause(ctx, "up"); err != nil {
		t.Fatal(err)
	}
	why("", 9200, reach.Paused, "kakuri unpause up")
	if err := e.Unpause(ctx, "up"); err != nil {
		t.Fatal(err)
	}
	// Once it does not run, nobody has the port any more, and who asked is told of.
	down("up")
	why("", 9200, reach.NotRunning, "kakuri start late")
}

// TestPortWhyShared: a container in another one's network namespace has that one's ports, and what is between networks is tried from a container that is in none of the
// asked one's.
func TestPortWhyShared(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	loopback(t)
	networks(t, e, NetworkConfig{Name: "front"}, NetworkConfig{Name: "back"})
	server := detached(t, e, on("front", Config{Name: "server", Publish: []PortSpec{{HostIP: "127.0.0.1", HostPort: 9210, Port: 80}}, Command: []string{"/greeter", ":80"}}))
	ready(t, server)
	detached(t, e, on("container:server", Config{Name: "guest", Command: []string{"/greeter", ":81"}}))
	detached(t, e, on("front", Config{Name: "both", Command: []string{"/greeter", ":82"}}))
	if err := e.NetworkConnect(t.Context(), "back", "both", Attachment{}); err != nil {
		t.Fatal(err)
	}
	ask := func(name string) (reach.Facts, bool) {
		f, err := e.PortFacts(t.Context(), reach.Question{Name: name, Port: 80, Proto: "tcp"})
		if err != nil {
			t.Fatal(err)
		}
		return f, slices.ContainsFunc(f.Tests, func(t reach.Test) bool { return t.From == "network back" })
	}
	if f, back := ask("server"); back {
		t.Errorf("what is on the same network as well stands for another one: %+v", f.Tests)
	}
	detached(t, e, on("back", Config{Name: "far", Command: []string{"/greeter", ":83"}}))
	if f, back := ask("server"); !back {
		t.Errorf("nothing was tried from network back: %+v", f.Tests)
	}
	// What is left of two connections keeps its cable.
	if err := errors.Join(e.NetworkConnect(t.Context(), "back", "server", Attachment{}), e.NetworkDisconnect(t.Context(), "front", "server", false)); err != nil {
		t.Fatal(err)
	}
	if f, _ := ask("server"); !reach.Judge(f).OK() {
		t.Errorf("with the second of two networks: %s", reach.Judge(f).Text(ui.EN))
	}
	f, _ := ask("guest")
	if v := reach.Judge(f); len(f.Published) != 1 || len(v.Findings) == 0 || v.Findings[0].Reason != reach.OthersNetwork ||
		v.Findings[0].Text != "guest is in the network namespace of server: what is published is server's" || !v.OK() {
		t.Errorf("of the guest: %s", v.Text(ui.EN))
	}
}
