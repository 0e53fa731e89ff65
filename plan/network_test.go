package plan

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/golden"
	"github.com/kakuri/kakuri/netip"
)

func TestMAC(t *testing.T) {
	for text, want := range map[string]string{
		"02:42:ac:11:00:02": "02:42:ac:11:00:02", "02-42-AC-11-00-fe": "02:42:ac:11:00:fe",
		"01:00:5e:00:00:01": "", "ff:ff:ff:ff:ff:ff": "", "00:00:00:00:00:00": "", "02:42:ac:11:00": "", "02:42:ac:11:00:0g": "", "02:42:ac:11:00:022": "",
		"02:42:ac:11:00+02": "", "": "", "+2:42:ac:11:00:02": "",
	} {
		m, err := ParseMAC(text)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is taken for %v", text, m)
		case want == "" && !strings.Contains(err.Error(), "is no MAC address"):
			t.Errorf("%q: %v", text, err)
		case want != "" && (err != nil || m.String() != want):
			t.Errorf("%q: %v, %v", text, m, err)
		}
	}
}

func TestHostDevice(t *testing.T) {
	seen := map[string]bool{}
	for n := range 2000 {
		name := HostDevice("0123456789abcdef0123456789abcdef", n)
		if seen[name] || len(name) > 15 || !strings.HasPrefix(name, "vk01234567") {
			t.Fatalf("device %d is %q", n, name)
		}
		seen[name] = true
	}
	if got := HostDevice("ab", 0); got != "vkaba" {
		t.Errorf("of a short ID: %q", got)
	}
}

// TestNetworkJSON: the engine keeps the value in a file.
func TestNetworkJSON(t *testing.T) {
	n := Network{
		Forward4: true, Gateway4: netip.MustParseAddr("172.17.0.1"),
		Bridges:   []Bridge{{Device: "kakuri0", Network: "bridge", Addrs: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")}, ICC: true, Masquerade4: true}},
		Endpoints: []Endpoint{{Driver: DriverBridge, MAC: MAC{2, 66, 172, 17, 0, 2}, Addrs: []netip.Prefix{netip.MustParsePrefix("fd00::2/64")}, Routes: []Route{{To: netip.MustParsePrefix("10.0.0.0/8")}}}},
		Publish:   []Publish{{Proto: "tcp", HostAddr: netip.IPv6Unspecified(), HostPort: 8080, Addr: netip.MustParseAddr("fd00::2"), Port: 80}},
		Resolver:  &Resolver{},
	}
	data, err := json.Marshal(n)
	var back Network
	if err != nil || json.Unmarshal(data, &back) != nil || !reflect.DeepEqual(back, n) {
		t.Errorf("%s, %v: back %+v", data, err, back)
	}
	if got := n.Publish[0].String(); got != "[::]:8080->80/tcp" {
		t.Errorf("published: %s", got)
	}
}

// TestNetworkNamed: only addresses that have a name are asked for one.
func TestNetworkNamed(t *testing.T) {
	prefix := netip.MustParsePrefix
	n := &Network{Endpoints: []Endpoint{
		{Addrs: []netip.Prefix{prefix("172.17.0.2/16"), prefix("fd00:17::2/64")}, Nameless: true},
		{Addrs: []netip.Prefix{prefix("172.18.0.2/16"), prefix("fd00:18::2/64"), prefix("169.254.7.7/16"), prefix("fe80::7/64")}},
	}}
	if got := n.named().Asked(); got != "answers 172.18.0.2 fd00:18::2" {
		t.Errorf("asked: %s", got)
	}
	n.Endpoints = n.Endpoints[:1]
	if got := n.named().Asked(); got != "answers questions" {
		t.Errorf("asked, of nameless ones: %s", got)
	}
}

// TestNetworkRefuses what the kernel would, or would take for another thing, before anything is made.
func TestNetworkRefuses(t *testing.T) {
	good := func() *Network {
		return &Network{
			Bridges:   []Bridge{{Device: "kakuri0", Addrs: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")}}},
			Endpoints: []Endpoint{{Driver: DriverBridge, Bridge: "kakuri0", HostDevice: "vk0", Device: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("172.17.0.2/16")}}},
			Gateway4:  netip.MustParseAddr("172.17.0.1"),
			Publish:   []Publish{{Proto: "tcp", HostAddr: netip.IPv4Unspecified(), HostPort: 1, Addr: netip.MustParseAddr("172.17.0.2"), Port: 1, Bridge: "kakuri0"}},
		}
	}
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	routed := good()
	routed.Publish[0].HostPort, routed.Publish[0].Routed = 0, true
	if err := routed.Check(); err != nil {
		t.Errorf("a port that is routed: %v", err)
	}
	prefix := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	for want, change := range map[string]func(n *Network, e *Endpoint, p *Publish){
		`endpoints[0].device: "a/b"`:             func(_ *Network, e *Endpoint, _ *Publish) { e.Device = "a/b" },
		`endpoints[0].device: "eth%d"`:           func(_ *Network, e *Endpoint, _ *Publish) { e.Device = "eth%d" },
		`endpoints[0].device: "a\nb"`:            func(_ *Network, e *Endpoint, _ *Publish) { e.Device = "a\nb" },
		`endpoints[0].device: ".."`:              func(_ *Network, e *Endpoint, _ *Publish) { e.Device = ".." },
		`endpoints[0].device: "all" stands for`:  func(_ *Network, e *Endpoint, _ *Publish) { e.Device = "all" },
		`endpoints[0].device: a device needs`:    func(_ *Network, e *Endpoint, _ *Publish) { e.Device = "" },
		`endpoints[0].device: a second device`:   func(_ *Network, e *Endpoint, _ *Publish) { e.Device = "lo" },
		`hostDevice: "0123456789abcdef"`:         func(_ *Network, e *Endpoint, _ *Publish) { e.HostDevice = "0123456789abcdef" },
		`endpoints[0].bridge: "x:y"`:             func(_ *Network, e *Endpoint, _ *Publish) { e.Bridge = "x:y" },
		`endpoints[0].parent: a device needs`:    func(_ *Network, e *Endpoint, _ *Publish) { e.Driver = DriverMacvlan },
		`endpoints[0].mode: macvlan has no`:      func(_ *Network, e *Endpoint, _ *Publish) { e.Driver, e.Mode = DriverMacvlan, "l3" },
		`endpoints[0].driver: there is no`:       func(_ *Network, e *Endpoint, _ *Publish) { e.Driver = "overlay" },
		`endpoints[0].mac: 03:`:                  func(_ *Network, e *Endpoint, _ *Publish) { e.MAC = MAC{3} },
		`172.17.0.0/16 is the network's own`:     func(_ *Network, e *Endpoint, _ *Publish) { e.Addrs = prefix("172.17.0.0/16") },
		`172.17.255.255/16 is the network's own`: func(_ *Network, e *Endpoint, _ *Publish) { e.Addrs = prefix("172.17.255.255/16") },
		`127.0.0.1/8 is no address`:              func(_ *Network, e *Endpoint, _ *Publish) { e.Addrs = prefix("127.0.0.1/8") },
		`224.0.0.1/24 is no address`:             func(_ *Network, e *Endpoint, _ *Publish) { e.Addrs = prefix("224.0.0.1/24") },
		`invalid Prefix is no address`:           func(_ *Network, e *Endpoint, _ *Publish) { e.Addrs = make([]netip.Prefix, 1) },
		`10.0.0.1/8 by invalid IP is no route`: func(_ *Network, e *Endpoint, _ *Publish) {
			e.Routes = []Route{{To: netip.MustParsePrefix("10.0.0.1/8")}}
		},
		`10.0.0.0/8 by fd00::1 is no route`: func(_ *Network, e *Endpoint, _ *Publish) {
			e.Routes = []Route{{To: netip.MustParsePrefix("10.0.0.0/8"), Via: netip.MustParseAddr("fd00::1")}}
		},
		`fd00::/8 by 10.0.0.1 is no route`: func(_ *Network, e *Endpoint, _ *Publish) {
			e.Routes = []Route{{To: netip.MustParsePrefix("fd00::/8"), Via: netip.MustParseAddr("10.0.0.1")}}
		},
		`sysctls: "net.ipv4.ip_forward" is none of`: func(_ *Network, e *Endpoint, _ *Publish) { e.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"} },
		`"net.IFNAME.x" is none of`:                 func(_ *Network, e *Endpoint, _ *Publish) { e.Sysctls = map[string]string{"net.IFNAME.x": "1"} },
		`"net...IFNAME.x" is none of`:               func(_ *Network, e *Endpoint, _ *Publish) { e.Sysctls = map[string]string{"net...IFNAME.x": "1"} },
		`"net.a/../b.IFNAME.x" is none of`:          func(_ *Network, e *Endpoint, _ *Publish) { e.Sysctls = map[string]string{"net.a/../b.IFNAME.x": "1"} },
		`"ipv4.conf.IFNAME.x" is none of`:           func(_ *Network, e *Endpoint, _ *Publish) { e.Sysctls = map[string]string{"ipv4.conf.IFNAME.x": "1"} },
		`"net.ipv4.conf.IFNAME" is none of`:         func(_ *Network, e *Endpoint, _ *Publish) { e.Sysctls = map[string]string{"net.ipv4.conf.IFNAME": "1"} },
		`"net.ipv4.IFNAME.IFNAME.x" is none of`: func(_ *Network, e *Endpoint, _ *Publish) {
			e.Sysctls = map[string]string{"net.ipv4.IFNAME.IFNAME.x": "1"}
		},
		`endpoints[0].mtu: 65536 bytes`:            func(_ *Network, e *Endpoint, _ *Publish) { e.MTU = 65536 },
		`publish[0].routed: it leads by no socket`: func(_ *Network, _ *Endpoint, p *Publish) { p.HostPort, p.Routed, p.Strict = 0, true, true },
		`routed: it leads by no socket, and to no`: func(_ *Network, _ *Endpoint, p *Publish) {
			p.HostPort, p.Routed, p.HostAddr = 0, true, netip.IPv6Unspecified()
		},
		`endpoints[0].mtu: 67 bytes`:        func(_ *Network, e *Endpoint, _ *Publish) { e.MTU = 67 },
		`1000 bytes: the kernel takes 1280`: func(_ *Network, e *Endpoint, _ *Publish) { e.MTU, e.Addrs = 1000, prefix("fd00::2/64") },
		`bridges[0].device: "k k"`:          func(n *Network, _ *Endpoint, _ *Publish) { n.Bridges[0].Device = "k k" },
		`network.gateway`:                   func(n *Network, _ *Endpoint, _ *Publish) { n.Gateway6 = n.Gateway4 },
		`publish[0].proto: "icmp"`:          func(_ *Network, _ *Endpoint, p *Publish) { p.Proto = "icmp" },
		`publish[0].port: port 0`:           func(_ *Network, _ *Endpoint, p *Publish) { p.Port = 0 },
		`publish[0].addr: `:                 func(_ *Network, _ *Endpoint, p *Publish) { p.Addr = netip.Addr{} },
		`publish[0].bridge: "a b"`:          func(_ *Network, _ *Endpoint, p *Publish) { p.Bridge = "a b" },
	} {
		n := good()
		change(n, &n.Endpoints[0], &n.Publish[0])
		err := n.Check()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %s", err, want)
		}
		if _, connect := ConnectSteps(*n, "id"); connect == nil || err != nil && connect.Error() != err.Error() {
			t.Errorf("a running container: %v, want %v", connect, err)
		}
	}
	if _, err := Compile(decode(t, config(`"linux":{"namespaces":[{"type":"mount"}]}`)), rootFacts(), Options{ID: "c", Network: good()}); err == nil || !strings.Contains(err.Error(), "network namespace of its own") {
		t.Errorf("without a network namespace: %v", err)
	}
	if _, err := Compile(decode(t, config(`"linux":{"namespaces":[{"type":"mount"},{"type":"network"}]}`)), rootFacts(), Options{Network: good()}); err == nil || !strings.Contains(err.Error(), "without an ID") {
		t.Errorf("without an ID: %v", err)
	}
}

// TestConnectStepsAreThoseOfCompile: what a running container is given is what it would have been started with.
func TestConnectStepsAreThoseOfCompile(t *testing.T) {
	for _, c := range cases(t) {
		if c.options.Network == nil {
			continue
		}
		var want []Step
		for _, s := range c.compile(t).Steps {
			if slices.ContainsFunc([]string{"bridge", "rules", "ports", "serve names", "veth", "vlan", "device sysctl", "link up", "address", "announce", "route", "forwarding", "egress"}, func(w string) bool { return strings.Contains(s.Op.Name(), w) }) && s.Side == Runtime {
				s.Cause = Cause{}
				want = append(want, s)
			}
		}
		got, err := ConnectSteps(*c.options.Network, c.options.ID)
		for i := range got {
			got[i].Cause = Cause{}
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n%s", c.name(), err, golden.Diff(Plan{Steps: want}.Text(), Plan{Steps: got}.Text()))
		}
	}
}
