package reach

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/golden"
	"github.com/kakuri/kakuri/ui"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// sound are facts in which nothing stands in the way: web has port 80, which is 8080 of
// the host at all addresses.
func sound() Facts {
	return Facts{
		Question: Question{Port: 8080, Proto: "tcp"},
		Container: &Container{ID: "f00", Name: "web", Status: "running", PID: 70, Mode: "front", Networks: []Network{{
			Name: "front", Driver: "bridge", Bridge: "vkbr1", Device: "eth0", HostEnd: "vk1", Addrs: []netip.Addr{addr("172.20.0.2")}, Gateways: []netip.Addr{addr("172.20.0.1")},
		}}},
		Published: []Published{{Container: "web", HostAddr: addr("0.0.0.0"), HostPort: 8080, Addr: addr("172.20.0.2"), Port: 80, Proto: "tcp"}},
		Host: Side{
			Forward4: true, Forward6: true,
			Listeners: []Listener{{Proto: "tcp", Addr: addr("0.0.0.0"), Port: 22, PID: 9, Program: "sshd"}},
			Links: []Link{
				{Index: 1, Name: "lo", Up: true, NSID: -1, Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
				{Index: 2, Name: "eth0", Up: true, NSID: -1, Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/24")}},
				{Index: 3, Name: "vkbr1", Kind: "bridge", Up: true, NSID: -1, Addrs: []netip.Prefix{netip.MustParsePrefix("172.20.0.1/16")}},
				{Index: 5, Name: "vk1", Kind: "veth", Up: true, Master: 3, Peer: 2, NSID: 0},
				{Index: 6, Name: "vkbr2", Kind: "bridge", Up: true, NSID: -1},
			},
			Routes: []Route{
				{To: netip.MustParsePrefix("0.0.0.0/0"), Via: addr("10.1.2.1"), Link: 2}, {To: netip.MustParsePrefix("10.1.2.0/24"), Link: 2}, {To: netip.MustParsePrefix("172.20.0.0/16"), Link: 3},
			},
			Tables: []Table{{Family: "inet", Name: "kakuri", Chains: []Chain{{Name: "forward", Hook: "forward", Type: "filter", Priority: 0}}}},
		},
		Inside: &Side{
			Listeners: []Listener{{Proto: "tcp", Addr: addr("::"), Port: 80, PID: 71, Program: "nginx"}},
			Links: []Link{
				{Index: 1, Name: "lo", Up: true, NSID: -1}, {Index: 2, Name: "eth0", Kind: "veth", Up: true, Peer: 5, NSID: 0, Addrs: []netip.Prefix{netip.MustParsePrefix("172.20.0.2/16")}},
			},
			Routes: []Route{{To: netip.MustParsePrefix("0.0.0.0/0"), Via: addr("172.20.0.1"), Link: 2}, {To: netip.MustParsePrefix("172.20.0.0/16"), Link: 2}},
		},
		Tests: []Test{{"inside", netip.MustParseAddrPort("127.0.0.1:80"), Connected}, {"host", netip.MustParseAddrPort("172.20.0.2:80"), Connected}, {"host", netip.MustParseAddrPort("10.1.2.3:8080"), Connected}},
	}
}

// chain is a table of somebody else with one chain in it.
func chain(f *Facts, c Chain) {
	f.Host.Tables = append(f.Host.Tables, Table{Family: "inet", Name: "filter", Chains: []Chain{c}})
}

// asked is a container that was made, and has not run.
func asked(f *Facts) {
	f.Container.PID, f.Container.Status, f.Container.Networks, f.Inside, f.Tests = 0, "created", nil, nil, nil
	f.Published[0].Asked, f.Published[0].Addr = true, netip.Addr{}
}

// dport matches a port: tcp dport N.
func dport(n uint16) []Expr {
	return []Expr{
		{Name: "meta", Key: metaL4Proto, Dest: 4}, {Name: "cmp", Source: 4, Data: []byte{6}},
		{Name: "payload", Base: baseTransport, Offset: 2, Len: 2, Dest: 4}, {Name: "cmp", Source: 4, Data: []byte{byte(n >> 8), byte(n)}},
	}
}

// established accepts answers: ct state established,related accept.
var established = Rule{Handle: 3, Exprs: []Expr{{Name: "ct", Key: ctState, Dest: 4}, {Name: "bitwise", Source: 4, Dest: 4, Len: 4, Data: []byte{6, 0, 0, 0}, Data2: make([]byte, 4)},
	{Name: "cmp", Op: cmpNeq, Source: 4, Data: make([]byte, 4)}, {Name: "immediate", Verdict: "accept"}}}

var verdictDrop = Expr{Name: "immediate", Verdict: "drop"}

// dockersNAT is a rule of another engine's that leads a port to port 80 of a container, as iptables writes it.
func dockersNAT(port uint16) Table {
	low, high := byte(port), byte(port>>8)
	return Table{Family: "ip", Name: "nat", Chains: []Chain{{Name: "DOCKER", Rules: []Rule{{Handle: 12, Exprs: []Expr{
		{Name: "xt match", Text: "tcp", Data: []byte{0, 0, 0xff, 0xff, low, high, low, high}},
		{Name: "xt target", Text: "DNAT", Data: append([]byte{3, 0, 0, 0, 172, 20, 0, 2}, append(make([]byte, 28), 0, 80, 0, 80)...)},
	}}}}}}
}

func cases() []struct {
	name string
	want Reason // of the first finding
	make func(*Facts)
} {
	return []struct {
		name string
		want Reason
		make func(*Facts)
	}{
		{"all is well", Reachable, func(*Facts) {}},
		{"published on the loopback", OnlyHere, func(f *Facts) { f.Published[0].HostAddr = addr("127.0.0.1") }},
		{"nobody publishes, nobody listens", Nobody, func(f *Facts) {
			f.Others, f.Published, f.Container, f.Inside, f.Tests = f.Published, nil, nil, nil, nil
			f.Port = 8081
		}},
		{"nobody has it, and rules were not read", Nobody, func(f *Facts) {
			f.Others, f.Published, f.Container, f.Inside, f.Tests = f.Published, nil, nil, nil, nil
			f.Port = 8081
			f.Host.Tables, f.Unread = nil, []string{"rules: nf_tables: operation not permitted"}
		}},
		{"a program of the host has it", OtherProgram, func(f *Facts) {
			f.Published, f.Container, f.Inside = nil, nil, nil
			f.Port, f.Tests = 22, []Test{{"host", netip.MustParseAddrPort("127.0.0.1:22"), Connected}}
		}},
		{"a program of the host has it, and cannot be reached", OtherProgram, func(f *Facts) {
			f.Published, f.Container, f.Inside = nil, nil, nil
			f.Port, f.Tests = 22, []Test{{"host", netip.MustParseAddrPort("127.0.0.1:22"), NoAnswer}}
		}},
		{"another engine's container has it", OtherProgram, func(f *Facts) {
			f.Published, f.Container, f.Inside = nil, nil, nil
			f.Port, f.Tests = 22, []Test{{"host", netip.MustParseAddrPort("127.0.0.1:22"), Connected}}
			f.Host.Tables = append(f.Host.Tables, dockersNAT(22))
		}},
		{"another engine's container has it, and no socket", OtherProgram, func(f *Facts) {
			f.Published, f.Container, f.Inside, f.Port = nil, nil, nil, 8090
			f.Host.Tables = append(f.Host.Tables, dockersNAT(8090))
		}},
		{"another engine's container has it, and a firewall drops what goes there", OtherProgram, func(f *Facts) {
			f.Published, f.Container, f.Inside, f.Port = nil, nil, nil, 8090
			f.Host.Tables = append(f.Host.Tables, dockersNAT(8090))
			chain(f, Chain{Name: "forward", Hook: "forward", Type: "filter", Drop: true, Rules: []Rule{established}})
		}},
		{"many are published", Nobody, func(f *Facts) {
			for i := range uint16(7) {
				p := f.Published[0]
				p.HostPort += i
				f.Others = append(f.Others, p)
				p.HostAddr = addr("::")
				f.Others = append(f.Others, p)
			}
			f.Others = append(f.Others, Published{Container: "old", HostAddr: addr("0.0.0.0"), HostPort: 9, Port: 80, Proto: "tcp", Asked: true})
			f.Published, f.Container, f.Inside, f.Tests, f.Port = nil, nil, nil, nil, 7000
		}},
		{"paused", Paused, func(f *Facts) { f.Container.Status = "paused" }},
		{"created", NotRunning, asked},
		{"a program has the port that it asks for", OtherProgram, func(f *Facts) {
			asked(f)
			f.Host.Listeners = append(f.Host.Listeners, Listener{Proto: "tcp", Addr: addr("127.0.0.1"), Port: 8080, PID: 12, Program: "python3"})
		}},
		{"another container has the port that it asks for", OtherContainer, func(f *Facts) {
			asked(f)
			f.Taken = []Published{{Container: "two", HostAddr: addr("127.0.0.1"), HostPort: 8080, Addr: addr("172.20.0.9"), Port: 80, Proto: "tcp"}}
		}},
		{"asked for, and internal", InternalNetwork, func(f *Facts) {
			f.Container.Networks[0].Internal, f.Published[0].Asked, f.Published[0].Addr = true, true, netip.Addr{}
		}},
		{"asked for, and no bridge", NotPublished, func(f *Facts) {
			f.Container.Networks[0].Driver, f.Container.Networks[0].Bridge, f.Published[0].Asked, f.Published[0].Addr = "macvlan", "", true, netip.Addr{}
		}},
		{"isolated by design", InternalNetwork, func(f *Facts) {
			n := &f.Container.Networks[0]
			n.Internal, n.Isolated4, n.Gateways = true, true, nil
			f.Name, f.Port, f.Published, f.Host.Routes, f.Inside.Routes = "web", 80, nil, f.Host.Routes[:2], f.Inside.Routes[1:]
			f.Tests = []Test{{"inside", netip.MustParseAddrPort("172.20.0.2:80"), Connected}, {"host", netip.MustParseAddrPort("172.20.0.2:80"), NoAnswer}}
		}},
		{"isolated by one family, and not reached by the other", RouteMissing, func(f *Facts) {
			n := &f.Container.Networks[0]
			n.Isolated4, n.Addrs = true, append(n.Addrs, addr("fd00::2"))
			f.Inside.Links[1].Addrs = append(f.Inside.Links[1].Addrs, netip.MustParsePrefix("fd00::2/64"))
		}},
		{"isolated by IPv6", Reachable, func(f *Facts) {
			n := &f.Container.Networks[0]
			n.Isolated6, n.Addrs = true, append(n.Addrs, addr("fd00::2"))
			f.Inside.Links[1].Addrs = append(f.Inside.Links[1].Addrs, netip.MustParsePrefix("fd00::2/64"))
		}},
		{"apart from other networks", Reachable, func(f *Facts) {
			f.Tests = append(f.Tests, Test{"network back", netip.MustParseAddrPort("172.20.0.2:80"), NoAnswer}, Test{"network back", netip.MustParseAddrPort("172.20.0.2:80"), Refused},
				Test{"network back", netip.MustParseAddrPort("172.20.0.3:80"), NoAnswer}, Test{"host", netip.MustParseAddrPort("[::1]:8080"), Connected})
		}},
		{"a rule drops what comes to the port of the host", Dropped, func(f *Facts) {
			chain(f, Chain{Name: "pre", Hook: "prerouting", Type: "filter", Priority: -300, Rules: []Rule{{Handle: 5, Exprs: append(dport(8080), Expr{Name: "counter"}, verdictDrop)}}})
			f.Host.Links[1].Addrs = nil
		}},
		{"given up at once", NotKnown, func(f *Facts) { f.Tests[2].Result = Reset }},
		{"a program of the host has it, too", OtherProgram, func(f *Facts) {
			f.Host.Listeners = append(f.Host.Listeners, Listener{Proto: "tcp", Addr: addr("127.0.0.1"), Port: 8080, PID: 12, Program: "java"})
		}},
		{"a program of the host has it at another address", OnlyHere, func(f *Facts) {
			f.Published[0].HostAddr = addr("127.0.0.1")
			f.Host.Listeners = append(f.Host.Listeners, Listener{Proto: "tcp", Addr: addr("10.1.2.3"), Port: 8080, PID: 12, Program: "java"})
		}},
		{"a program of the host has it by the other family", Reachable, func(f *Facts) {
			f.Host.Listeners = append(f.Host.Listeners, Listener{Proto: "tcp", Addr: addr("::1"), Port: 8080, PID: 12, Program: "java"})
		}},
		{"the monitor holds it", Reachable, func(f *Facts) {
			f.Host.Listeners = append(f.Host.Listeners, Listener{Proto: "tcp", Addr: addr("0.0.0.0"), Port: 8080, PID: 12, Program: "kakuri-runtime", Holder: "web"})
		}},
		{"not running", NotRunning, func(f *Facts) { f.Container.PID, f.Container.Status, f.Inside = 0, "exited", nil }},
		{"not running, and on a network that is gone", NotRunning, func(f *Facts) {
			f.Container.PID, f.Container.Status, f.Container.Gone, f.Inside = 0, "exited", []string{"front", "back"}, nil
		}},
		{"nobody listens", NobodyListens, func(f *Facts) { f.Inside.Listeners[0].Port = 3000 }},
		{"loopback", LoopbackInside, func(f *Facts) { f.Inside.Listeners[0].Addr = addr("127.0.0.1") }},
		{"IPv6 only", OtherFamily, func(f *Facts) { f.Inside.Listeners[0].Only6 = true }},
		{"IPv4 only, and both are published", OtherFamily, func(f *Facts) {
			f.Inside.Listeners[0].Addr = addr("0.0.0.0")
			f.Published = append(f.Published, Published{Container: "web", HostAddr: addr("::"), HostPort: 8080, Addr: addr("fd00::2"), Port: 80, Proto: "tcp"})
			f.Tests = append(f.Tests, Test{"host", netip.MustParseAddrPort("[::1]:8080"), Refused})
		}},
		{"IPv4 only, both are published, and a test says no", OtherFamily, func(f *Facts) {
			f.Inside.Listeners[0].Addr = addr("0.0.0.0")
			f.Published = append(f.Published, Published{Container: "web", HostAddr: addr("::"), HostPort: 8080, Addr: addr("fd00::2"), Port: 80, Proto: "tcp"})
			f.Tests[2].Result = NoAnswer
		}},
		{"not published", NotPublished, func(f *Facts) { f.Name, f.Port, f.Published = "web", 80, nil }},
		{"no network", NoNetwork, func(f *Facts) {
			f.Name, f.Port, f.Published, f.Container.Networks, f.Container.Mode = "web", 80, nil, nil, "none"
		}},
		{"none was asked for", NoNetwork, func(f *Facts) {
			f.Name, f.Port, f.Published, f.Container.Networks, f.Container.Mode, f.Container.Private = "web", 80, nil, nil, "none", true
		}},
		{"no network, of an ordinary user", NoNetwork, func(f *Facts) {
			f.Name, f.Port, f.Published, f.Container.Networks, f.Container.Mode, f.Container.Apart = "web", 80, nil, nil, "none", true
		}},
		{"none was asked for, by an ordinary user", NoNetwork, func(f *Facts) {
			f.Name, f.Port, f.Published, f.Container.Networks, f.Container.Mode = "web", 80, nil, nil, "none"
			f.Container.Private, f.Container.Apart = true, true
		}},
		{"by the name of another one in its namespace", OthersNetwork, func(f *Facts) { f.Name, f.Port, f.Container.Guest = "web", 80, "side" }},
		{"tables of iptables-legacy", MayBeDropped, func(f *Facts) { f.Legacy = []string{"ip filter", "ip nat"} }},
		{"docker keeps others from its own container", Reachable, func(f *Facts) {
			f.Host.Links = append(f.Host.Links, Link{Index: 9, Name: "docker0", Kind: "bridge", Up: true, NSID: -1, Addrs: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")}})
			chain(f, Chain{Name: "raw-PREROUTING", Hook: "prerouting", Type: "filter", Priority: -300, Rules: []Rule{{Handle: 2, Exprs: []Expr{
				{Name: "payload", Base: baseNetwork, Offset: 16, Len: 4, Dest: 4}, {Name: "cmp", Source: 4, Data: []byte{172, 17, 0, 2}},
				{Name: "meta", Key: metaIIFName, Dest: 4}, {Name: "cmp", Op: cmpNeq, Source: 4, Data: []byte("docker0\x00\x00\x00\x00\x00\x00\x00\x00\x00")}, {Name: "counter"}, verdictDrop,
			}}}})
		}},
		{"host mode", Reachable, func(f *Facts) {
			f.Name, f.Port, f.Published, f.Container.Networks, f.Container.Mode, f.Inside = "web", 22, nil, nil, "host", nil
		}},
		{"host mode, nobody listens", NobodyListens, func(f *Facts) {
			f.Name, f.Port, f.Published, f.Container.Networks, f.Container.Mode, f.Inside = "web", 23, nil, nil, "host", nil
		}},
		{"internal", InternalNetwork, func(f *Facts) {
			f.Container.Networks[0].Internal, f.Inside.Routes = true, f.Inside.Routes[1:]
		}},
		{"more devices inside than were read", Reachable, func(f *Facts) {
			f.Inside.More, f.Inside.Links, f.Inside.Routes = true, f.Inside.Links[:1], nil
		}},
		{"more addresses inside than were read", Reachable, func(f *Facts) { f.Inside.More, f.Inside.Links[1].Addrs = true, nil }},
		{"more sockets inside than were read", Reachable, func(f *Facts) { f.Inside.MoreListeners, f.Inside.Listeners = true, nil }},
		{"more sockets inside than were read, and one on the loopback", LoopbackInside, func(f *Facts) {
			f.Inside.MoreListeners, f.Inside.Listeners[0].Addr = true, addr("127.0.0.1")
		}},
		{"bridge gone", BridgeMissing, func(f *Facts) { f.Host.Links = append(f.Host.Links[:2:2], f.Host.Links[3:]...) }},
		{"bridge down", BridgeMissing, func(f *Facts) { f.Host.Links[2].Up = false }},
		{"wrong bridge", WrongBridge, func(f *Facts) { f.Host.Links[3].Master = 6 }},
		{"no bridge", WrongBridge, func(f *Facts) { f.Host.Links[3].Master = 0 }},
		{"route to another device", WrongBridge, func(f *Facts) { f.Host.Routes[2].Link = 2 }},
		{"no route on the host", RouteMissing, func(f *Facts) { f.Host.Routes = f.Host.Routes[1:2] }},
		{"no default route inside", RouteMissing, func(f *Facts) { f.Inside.Routes = f.Inside.Routes[1:] }},
		{"device gone", DeviceDown, func(f *Facts) { f.Inside.Links = f.Inside.Links[:1] }},
		{"address gone", RouteMissing, func(f *Facts) { f.Inside.Links[1].Addrs = nil }},
		{"table flushed", TableMissing, func(f *Facts) { f.Host.Tables = nil }},
		{"table gone, others are there", TableMissing, func(f *Facts) {
			f.Host.Tables[0].Family = "ip"
			chain(f, Chain{Name: "forward", Hook: "forward", Type: "filter"})
		}},
		{"rules not read", Reachable, func(f *Facts) { f.Host.Tables, f.Unread = nil, []string{"rules: operation not permitted"} }},
		{"no forwarding", NotForwarded, func(f *Facts) { f.Host.Forward4 = false }},
		{"a policy drops", Dropped, func(f *Facts) { chain(f, Chain{Name: "forward", Hook: "forward", Type: "filter", Drop: true}) }},
		{"a policy drops all but what is accepted", Reachable, func(f *Facts) {
			chain(f, Chain{Name: "forward", Hook: "forward", Type: "filter", Drop: true, Rules: []Rule{established, {Handle: 4, Exprs: append(dport(80), Expr{Name: "immediate", Verdict: "accept"})}}})
		}},
		{"a policy drops all but what is accepted, answers too", Dropped, func(f *Facts) {
			chain(f, Chain{Name: "forward", Hook: "forward", Type: "filter", Drop: true, Rules: []Rule{{Handle: 4, Exprs: append(dport(80), Expr{Name: "immediate", Verdict: "accept"})}}})
		}},
		{"answers to the loopback are dropped", Dropped, func(f *Facts) {
			f.Published[0].HostAddr = addr("127.0.0.1")
			chain(f, Chain{Name: "input", Hook: "input", Type: "filter", Rules: []Rule{{Handle: 7, Exprs: []Expr{
				{Name: "meta", Key: metaIIFName, Dest: 4}, {Name: "cmp", Op: cmpNeq, Source: 4, Data: []byte("lo\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")},
				{Name: "payload", Base: baseNetwork, Offset: 16, Len: 4, Dest: 4}, {Name: "bitwise", Source: 4, Dest: 4, Len: 4, Data: []byte{255, 0, 0, 0}, Data2: make([]byte, 4)},
				{Name: "cmp", Source: 4, Data: []byte{127, 0, 0, 0}}, verdictDrop}}}})
		}},
		{"answers may be dropped", MayBeDropped, func(f *Facts) {
			chain(f, Chain{Name: "forward", Hook: "forward", Type: "filter", Rules: []Rule{{Handle: 7, Exprs: []Expr{
				{Name: "payload", Base: baseNetwork, Offset: 16, Len: 4, Dest: 4}, {Name: "cmp", Source: 4, Data: []byte{10, 9, 9, 9}}, verdictDrop}}}})
		}},
		{"answers in strict mode are dropped", Dropped, func(f *Facts) {
			f.Published[0].Relayed = true
			chain(f, Chain{Name: "input", Hook: "input", Type: "filter", Drop: true, Rules: []Rule{{Handle: 4, Exprs: append(dport(8080), Expr{Name: "immediate", Verdict: "accept"})}}})
		}},
		{"a rule drops", Dropped, func(f *Facts) {
			chain(f, Chain{Name: "forward", Hook: "forward", Type: "filter", Rules: []Rule{{Handle: 4, Exprs: append(dport(81), verdictDrop)}, {Handle: 5, Exprs: append(dport(80), Expr{Name: "counter"}, verdictDrop)}}})
		}},
		{"a rule may drop", MayBeDropped, func(f *Facts) {
			chain(f, Chain{Name: "forward", Hook: "forward", Type: "filter", Rules: []Rule{{Handle: 5, Exprs: []Expr{{Name: "xt match", Text: "recent"}, verdictDrop}}}})
		}},
		{"a rule that may drop has counted", Dropped, func(f *Facts) {
			chain(f, Chain{Name: "forward", Hook: "forward", Type: "filter", Rules: []Rule{{Handle: 5, Packets: 2, Exprs: []Expr{{Name: "xt match", Text: "recent"}, verdictDrop}}}})
		}},
		{"an input rule does not matter", Reachable, func(f *Facts) {
			chain(f, Chain{Name: "input", Hook: "input", Type: "filter", Drop: true, Rules: []Rule{established}})
		}},
		{"an input rule matters in strict mode", Dropped, func(f *Facts) {
			f.Published[0].Relayed = true
			chain(f, Chain{Name: "input", Hook: "input", Type: "filter", Drop: true})
		}},
		{"a test says no", NotKnown, func(f *Facts) { f.Tests[2].Result = NoAnswer }},
		{"a test of an ordinary user says no", NotKnown, func(f *Facts) { f.Tests[2].Result, f.Container.Apart = NoAnswer, true }},
		{"UDP has no answer", NotKnown, func(f *Facts) {
			f.Proto, f.Published[0].Proto, f.Inside.Listeners[0].Proto = "udp", "udp", "udp"
			f.Tests[0].Result, f.Tests[1].Result, f.Tests[2].Result = Answered, Arrived, NoAnswer
		}},
		{"UDP arrives", Reachable, func(f *Facts) {
			f.Proto, f.Published[0].Proto, f.Inside.Listeners[0].Proto = "udp", "udp", "udp"
			f.Tests[2].Result = Arrived
		}},
		{"UDP is refused", NotKnown, func(f *Facts) {
			f.Proto, f.Published[0].Proto, f.Inside.Listeners[0].Proto = "udp", "udp", "udp"
			f.Tests[2].Result = Refused
		}},
		{"routed", Reachable, func(f *Facts) {
			f.Published[0].Routed, f.Published[0].HostPort, f.Name, f.Port = true, 0, "web", 80
			f.Host.Tables[0].Sets = []Set{{Name: "direct4", Elements: []Element{{Key: []byte{6, 0, 0, 0, 172, 20, 0, 2, 0, 80, 0, 0}}}}}
			f.Host.Tables[0].Chains[0].Drop = true
			f.Host.Tables[0].Chains[0].Rules = []Rule{established, {Handle: 3, Exprs: []Expr{
				{Name: "meta", Key: metaL4Proto, Dest: 4}, {Name: "payload", Base: baseNetwork, Offset: 16, Len: 4, Dest: 5}, {Name: "payload", Base: baseTransport, Offset: 2, Len: 2, Dest: 6},
				{Name: "lookup", Set: "direct4", Source: 4}, {Name: "immediate", Verdict: "accept"}}}}
		}},
		{"firewalld drops", Dropped, func(f *Facts) {
			f.Host.Tables = append(f.Host.Tables, Table{Family: "inet", Name: "firewalld", Chains: []Chain{{Name: "filter_FORWARD", Hook: "forward", Type: "filter", Drop: true}}})
		}},
		{"ufw drops", Dropped, func(f *Facts) {
			f.Host.Tables = append(f.Host.Tables, Table{Family: "ip", Name: "filter", Chains: []Chain{{Name: "FORWARD", Hook: "forward", Type: "filter", Drop: true}, {Name: "ufw-user-forward"}}})
		}},
		{"dockerd drops", Dropped, func(f *Facts) {
			leads := []Rule{{Exprs: []Expr{{Name: "immediate", Verdict: "jump", Chain: "DOCKER-USER"}}}}
			f.Host.Tables = append(f.Host.Tables, Table{Family: "ip", Name: "filter", Chains: []Chain{{Name: "FORWARD", Hook: "forward", Type: "filter", Drop: true, Rules: leads}, {Name: "DOCKER-USER"}}})
		}},
		{"dockerd drops, flushed", Dropped, func(f *Facts) {
			f.Host.Tables = append(f.Host.Tables, Table{Family: "ip", Name: "filter", Chains: []Chain{{Name: "FORWARD", Hook: "forward", Type: "filter", Drop: true}, {Name: "DOCKER-USER"}}})
		}},
	}
}

// What the judge says of each case is in testdata/judge.txt.
func TestJudge(t *testing.T) {
	var b bytes.Buffer
	for _, c := range cases() {
		f := sound()
		c.make(&f)
		// Facts are recorded and read again as JSON: nothing is lost.
		data, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		var again Facts
		if err := json.Unmarshal(data, &again); err != nil {
			t.Fatal(err)
		}
		v := Judge(again)
		if w := Judge(f); !reflect.DeepEqual(v.Findings, w.Findings) {
			t.Errorf("%s: as JSON the facts say something else", c.name)
		}
		if len(v.Findings) == 0 || v.Findings[0].Reason != c.want {
			t.Errorf("%s: %+v, want %q first", c.name, v.Findings, c.want)
		}
		fmt.Fprintf(&b, "# %s\n%s\n%s\n", c.name, v.Text(ui.EN), v.Text(ui.JA))
	}
	golden.Check(t, "testdata/judge.txt", b.String())
}

// TestAttempts: a port is tried inside, at the container's addresses from the host and from other networks, and where the host itself would call what is published: at its loopback
// and at its address of the way out, and none twice.
func TestAttempts(t *testing.T) {
	six := func(f *Facts) {
		f.Published[0].HostAddr = addr("::")
		f.Host.Links[1].Addrs = append(f.Host.Links[1].Addrs, netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("2001:db8::2/64"))
		f.Host.Routes = append(f.Host.Routes, Route{To: netip.MustParsePrefix("::/0"), Link: 2})
	}
	alone := func(port uint16, from string) func(*Facts) {
		return func(f *Facts) {
			f.Container, f.Published, f.Port, f.Host.Listeners[0].Addr = nil, nil, port, addr(from)
		}
	}
	const inside = "inside 127.0.0.1:80, inside 172.20.0.2:80, host 172.20.0.2:80, network back 172.20.0.2:80, network front 172.20.0.2:80"
	for _, c := range []struct {
		name, want string
		make       func(*Facts)
	}{
		{"at all addresses", inside + ", host 127.0.0.1:8080, host 10.1.2.3:8080", func(*Facts) {}},
		{"at one", inside + ", host 10.1.2.3:8080", func(f *Facts) { f.Published[0].HostAddr = addr("10.1.2.3") }},
		{"twice at one", inside + ", host 10.1.2.3:8080", func(f *Facts) {
			f.Published[0].HostAddr = addr("10.1.2.3")
			f.Published = append(f.Published, f.Published[0])
		}},
		{"at all of IPv6", inside + ", host [::1]:8080, host [2001:db8::2]:8080", six},
		{"without a way out", inside + ", host 127.0.0.1:8080", func(f *Facts) { f.Host.Routes = f.Host.Routes[1:] }},
		{"routed", inside, func(f *Facts) { f.Published[0].Routed = true }},
		{"not running", "host 127.0.0.1:8080, host 10.1.2.3:8080", func(f *Facts) { f.Container.PID = 0 }},
		{"a port of the host", "host 127.0.0.1:22", alone(22, "0.0.0.0")},
		{"one at an address", "host 10.1.2.3:22", alone(22, "10.1.2.3")},
		{"one of nobody", "host 127.0.0.1:23", alone(23, "0.0.0.0")},
	} {
		f, pid := sound(), 0
		if c.make(&f); f.Container != nil {
			pid = f.Container.PID
		}
		var got []string
		for _, a := range f.attempts(pid, map[string]int{"front": 71, "back": 72}) {
			got = append(got, a.from+" "+a.to.String())
			if want := map[string]int{"host": 0, "inside": 70, "network front": 71, "network back": 72}[a.from]; a.pid != want {
				t.Errorf("%s: %+v", c.name, a)
			}
		}
		if got := strings.Join(got, ", "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestHostileNames: names that others chose, of processes, devices and rules, neither act on a terminal nor make a line of the answer.
func TestHostileNames(t *testing.T) {
	const evil = "\x1b]0;x\x07\nreachable\n\u202e"
	taken := sound()
	taken.Published, taken.Container, taken.Inside = nil, nil, nil
	taken.Host.Listeners = []Listener{{Proto: "tcp", Addr: addr("0.0.0.0"), Port: 8080, PID: 9, Program: evil}}
	device := sound()
	device.Host.Links[3].Master = 6
	device.Host.Links[4].Name = evil
	dropped := sound()
	chain(&dropped, Chain{Name: evil, Hook: "forward", Type: "filter", Drop: true})
	other := sound()
	other.Inside.Listeners[0].Addr, other.Inside.Listeners[0].Program = addr("127.0.0.1"), evil
	other.Unread = []string{evil}
	for name, f := range map[string]Facts{"process": taken, "device": device, "chain": dropped, "inside": other} {
		for _, l := range []ui.Lang{ui.EN, ui.JA} {
			text := Judge(f).Text(l)
			if !strings.Contains(text, `\x1b]0;x`) || strings.Contains(text, "\nreachable\n") {
				t.Errorf("%s: %q", name, text)
			}
			for line := range strings.Lines(text) {
				if line = strings.TrimSuffix(line, "\n"); ui.Escape(line) != line {
					t.Errorf("%s: it acts on a terminal: %q", name, line)
				}
			}
		}
	}
}

// TestWords: every sentence is there in each language, and so are reasons and results.
func TestWords(t *testing.T) {
	for _, fault := range ui.Untranslated(say) {
		t.Error(fault)
	}
	for _, r := range []Reason{Reachable, OnlyHere, NotRunning, Paused, NoNetwork, OthersNetwork, OtherProgram, OtherContainer, Nobody, NotPublished, NobodyListens, LoopbackInside, OtherFamily, InternalNetwork, BridgeMissing,
		WrongBridge, DeviceDown, RouteMissing, TableMissing, NotForwarded, Dropped, MayBeDropped, NotKnown} {
		if r.in(ui.JA) == "" || r.in(ui.EN) != string(r) {
			t.Errorf("%s: %q in Japanese", r, r.in(ui.JA))
		}
	}
	for _, r := range []Result{Connected, Answered, Arrived, Refused, Reset, NoAnswer, Unreachable, NotAllowed, Failed} {
		if r.in(ui.JA) == "" || r.in(ui.EN) != string(r) {
			t.Errorf("%s: %q in Japanese", r, r.in(ui.JA))
		}
	}
}

// TestLegacyTables: they are of each family, and who may not look has none.
func TestLegacyTables(t *testing.T) {
	got := legacyTables(func(name string) ([]byte, error) {
		if name == "/proc/thread-self/net/ip_tables_names" {
			return []byte("nat\nfilter\n"), nil
		}
		return nil, fs.ErrPermission
	})
	if want := []string{"ip filter", "ip nat"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
