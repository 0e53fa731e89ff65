package reach

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Reason is the kind of a finding.
type Reason string

// The reasons, about in the order in which they come first.
const (
	Reachable       Reason = "reachable"
	OnlyHere        Reason = "reachable from this machine only"
	NotRunning      Reason = "the container does not run"
	NoNetwork       Reason = "no network"
	OtherProgram    Reason = "a program of the host has the port"
	Nobody          Reason = "nobody has the port"
	NotPublished    Reason = "not published"
	NobodyListens   Reason = "nobody listens"
	LoopbackInside  Reason = "listens on loopback inside only"
	OtherFamily     Reason = "listens at other addresses"
	InternalNetwork Reason = "internal network"
	BridgeMissing   Reason = "the bridge is missing or down"
	WrongBridge     Reason = "at a wrong bridge"
	DeviceDown      Reason = "the container's device is missing or down"
	RouteMissing    Reason = "a route is missing"
	TableMissing    Reason = "the table of kakuri is missing"
	NotForwarded    Reason = "the host does not forward"
	Dropped         Reason = "a firewall's rule drops it"
	MayBeDropped    Reason = "a firewall's rule may drop it"
	NotKnown        Reason = "not known"
)

// A Finding is one thing that is so, and what to do about it.
type Finding struct {
	Reason Reason
	Fault  bool   // it stands in the way
	Text   string // a sentence
	Way    string `json:",omitempty"` // what to do about it
}

// A Verdict is what [Judge] says: first what stands in the way.
type Verdict struct {
	Facts    *Facts `json:"-"`
	Findings []Finding
}

// OK reports whether nothing stands in the way.
func (v Verdict) OK() bool {
	return !slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Fault })
}

type judge struct {
	*Facts
	list    []Finding
	missing []Published // that nobody takes, beside others that somebody does
}

func (j *judge) fault(r Reason, way, format string, args ...any) {
	j.list = append(j.list, Finding{r, true, fmt.Sprintf(format, args...), way})
}

func (j *judge) say(r Reason, way, format string, args ...any) {
	j.list = append(j.list, Finding{r, false, fmt.Sprintf(format, args...), way})
}

// Judge says whether a port is reachable, and what stands in the way if it is not. It is
// pure: equal facts, equal words.
func Judge(f Facts) Verdict {
	j := &judge{Facts: &f}
	j.whole()
	return Verdict{&f, j.list}
}

// whole goes the way of a packet from its end: who would take it, then what is on the way
// there. Where nobody takes it, nothing else matters.
func (j *judge) whole() {
	if j.Container == nil {
		j.hostAlone()
		return
	}
	c := j.Container
	if c.PID == 0 {
		j.fault(NotRunning, "kakuri start "+c.Name, "%s is %s", c.Name, c.Status)
		return
	}
	if other, ok := strings.CutPrefix(c.Mode, "container:"); ok {
		j.say(NoNetwork, "", "%s is in the network namespace of %s: what is published is %s's", c.Name, other, other)
	}
	if c.Mode == "host" {
		j.listens(&j.Host, "the host's namespace, which "+c.Name+" shares")
		if j.fine() {
			j.say(Reachable, "", "%s is in the host's namespace: the port is the host's own, and the host's firewall decides", c.Name)
		}
		return
	}
	if j.Inside == nil {
		j.fault(NotKnown, "run it as root", "the network namespace of %s cannot be looked into", c.Name)
		return
	}
	j.listens(j.Inside, c.Name)
	if len(c.Networks) == 0 {
		if !strings.HasPrefix(c.Mode, "container:") {
			j.fault(NoNetwork, "kakuri network connect NETWORK "+c.Name, "%s is in no network: only what is inside reaches it", c.Name)
		}
		return
	}
	for _, n := range c.Networks {
		j.network(n)
	}
	if len(j.Published) == 0 {
		j.unpublished()
		return
	}
	j.conflicts()
	j.ways()
	if j.fine() {
		j.reachable()
	}
}

func (j *judge) fine() bool {
	return !slices.ContainsFunc(j.list, func(f Finding) bool { return f.Fault })
}

// hostAlone is about a port of the host that no container has.
func (j *judge) hostAlone() {
	for _, l := range at(j.Host.Listeners, j.Proto, j.Port) {
		j.fault(OtherProgram, "publish another port of the host, or end that program", "%s has port %d/%s of the host, at %s, and no container publishes it", who(l), j.Port, j.Proto, l.Addr)
		return
	}
	way := fmt.Sprintf("kakuri run -p %d:PORT …", j.Port)
	if others := j.others(); others != "" {
		way += "; what is published is " + others
	}
	j.fault(Nobody, way, "no container publishes port %d/%s of the host, and no program listens on it", j.Port, j.Proto)
}

// who names the process that has a socket.
func who(l Listener) string {
	switch {
	case l.Holder != "":
		return "the monitor of container " + l.Holder
	case l.PID == 0:
		return "a process that cannot be seen"
	}
	return fmt.Sprintf("%s (pid %d)", l.Program, l.PID)
}

func (j *judge) others() string {
	var list []string
	for _, p := range j.Others {
		list = append(list, fmt.Sprintf("%s → %s %d/%s", netip.AddrPortFrom(p.HostAddr, p.HostPort), p.Container, p.Port, p.Proto))
		if len(list) == 5 {
			break
		}
	}
	return strings.Join(list, ", ")
}

// listens says who takes what comes to the port inside.
func (j *judge) listens(s *Side, where string) {
	port := j.inside()
	found := at(s.Listeners, j.Proto, port)
	if len(found) == 0 {
		way := fmt.Sprintf("have its program listen on port %d", port)
		var has []string
		for _, l := range s.Listeners {
			t := fmt.Sprintf("%d/%s (%s)", l.Port, l.Proto, l.Program)
			if l.Holder == "" && l.Addr != dnsServer && !slices.Contains(has, t) {
				has = append(has, t)
			}
		}
		if len(has) > 0 && len(has) < 6 {
			way += ", or publish what it listens on: " + strings.Join(has, ", ")
		}
		j.fault(NobodyListens, way, "nobody listens on port %d/%s in %s", port, j.Proto, where)
		return
	}
	loopback := func(l Listener) bool { return l.Addr.Unmap().IsLoopback() }
	if !slices.ContainsFunc(found, func(l Listener) bool { return !loopback(l) }) {
		any := "0.0.0.0"
		if found[0].Addr.Is6() {
			any = "[::]"
		}
		j.fault(LoopbackInside, "have it listen at "+any+" in place of "+found[0].Addr.String(), "%s listens at %s only, the loopback of %s, which nobody else reaches", who(found[0]), found[0].Addr, where)
		return
	}
	missing := func(p Published) bool {
		return p.Addr.IsValid() && !slices.ContainsFunc(found, func(l Listener) bool { return l.covers(p.Addr) })
	}
	for _, p := range j.Published {
		if !missing(p) {
			continue
		}
		tell := j.fault
		if slices.ContainsFunc(j.Published, func(p Published) bool { return !missing(p) }) {
			tell, j.missing = j.say, append(j.missing, p) // it is reached by the other family
		}
		tell(OtherFamily, "have it listen at all addresses, of IPv4 and IPv6", "%s listens at %s, and what is published leads to %s, too", who(found[0]), found[0].Addr, p.Addr)
		return
	}
}

var dnsServer = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// network is about what connects the container: its device, the bridge, the routes.
func (j *judge) network(n Network) {
	c := j.Container
	if l := j.Inside.named(n.Device); n.Device != "" {
		switch {
		case l == nil:
			j.fault(DeviceDown, "kakuri network disconnect "+n.Name+" "+c.Name+", and connect it again", "%s has no device %s, which network %s had made", c.Name, n.Device, n.Name)
			return
		case !l.Up:
			j.fault(DeviceDown, "ip link set "+n.Device+" up, in the container's namespace, or connect it again", "device %s of %s is down", n.Device, c.Name)
		}
		for _, a := range n.Addrs {
			if l != nil && !slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
				j.fault(RouteMissing, "connect it again: kakuri network disconnect, then connect", "device %s of %s has not the address %s any more", n.Device, c.Name, a)
			}
		}
	}
	if n.Bridge != "" {
		j.bridge(n)
	}
	for _, g := range n.Gateways {
		r, ok := way(j.Inside.Routes, elsewhere(g))
		if n.Internal || ok && r.Unusual == "" {
			continue
		}
		if len(c.Networks) == 1 {
			j.fault(RouteMissing, "kakuri restart "+c.Name, "%s has no default route for %s: answers to other machines do not leave it", c.Name, familyName(g))
		}
	}
}

func familyName(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// elsewhere is an address that is surely in no network of a container: one for documents.
func elsewhere(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.AddrFrom4([4]byte{192, 0, 2, 1})
	}
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1})
}

func (j *judge) bridge(n Network) {
	repair := "kakuri system check --repair, or restart its containers"
	b := j.Host.named(n.Bridge)
	switch {
	case b == nil:
		j.fault(BridgeMissing, repair, "bridge %s of network %s is not there any more", n.Bridge, n.Name)
		return
	case !b.Up:
		j.fault(BridgeMissing, "ip link set "+n.Bridge+" up", "bridge %s of network %s is down", n.Bridge, n.Name)
	}
	for _, a := range n.Addrs {
		if r, ok := way(j.Host.Routes, a); !ok || r.Unusual != "" {
			j.fault(RouteMissing, repair, "the host has no route to %s, which network %s should have made", a, n.Name)
		} else if r.Link != b.Index {
			j.fault(WrongBridge, "give network "+n.Name+" another subnet, or take the other route away", "the host's route to %s leads to %s, and not to bridge %s", a, j.Host.linkName(r.Link), n.Bridge)
		}
	}
	switch e := j.Host.named(n.HostEnd); {
	case n.HostEnd == "":
	case e == nil:
		j.fault(DeviceDown, "connect it again: kakuri network disconnect, then connect", "%s, the host's end of the container's cable, is not there any more", n.HostEnd)
	case e.Master == 0:
		j.fault(WrongBridge, "ip link set "+n.HostEnd+" master "+n.Bridge, "%s, the host's end of the container's cable, is at no bridge; it belongs at %s", n.HostEnd, n.Bridge)
	case e.Master != b.Index:
		j.fault(WrongBridge, "ip link set "+n.HostEnd+" master "+n.Bridge, "%s, the host's end of the container's cable, is at bridge %s; it belongs at %s", n.HostEnd, j.Host.linkName(e.Master), n.Bridge)
	case !e.Up:
		j.fault(DeviceDown, "ip link set "+n.HostEnd+" up", "%s, the host's end of the container's cable, is down", n.HostEnd)
	}
}

func (s *Side) linkName(index int) string {
	if l := s.link(index); l != nil {
		return l.Name
	}
	return fmt.Sprintf("device %d", index)
}

// unpublished is about a port that the container has, and the host has not.
func (j *judge) unpublished() {
	c := j.Container
	if len(j.list) > 0 && !j.fine() {
		return
	}
	if slices.ContainsFunc(c.Networks, func(n Network) bool { return n.Internal }) && len(c.Networks) == 1 {
		j.fault(InternalNetwork, "kakuri network connect NETWORK "+c.Name+", one that is not internal", "network %s is internal: its containers reach each other, and nobody else reaches them", c.Networks[0].Name)
		return
	}
	way := fmt.Sprintf("run it with -p %d:%d, or reach it from a container of its network as %s:%d", j.Port, j.Port, c.Name, j.Port)
	if others := j.others(); others != "" {
		way += "; published is " + others
	}
	j.fault(NotPublished, way, "port %d/%s of %s is not published: this machine and its networks reach it, other machines do not", j.Port, j.Proto, c.Name)
}

// conflicts is about programs of the host on the same port.
func (j *judge) conflicts() {
	for _, p := range j.Published {
		for _, l := range at(j.Host.Listeners, p.Proto, p.HostPort) {
			if l.Holder == "" && l.covers(p.HostAddr) || l.Holder == "" && p.HostAddr.IsUnspecified() && l.Addr.Is4() == p.HostAddr.Is4() {
				if l.PID != 0 && strings.HasPrefix(l.Program, "kakuri") {
					continue
				}
				j.fault(OtherProgram, "publish another port of the host, or end that program", "%s has port %d/%s of the host at %s, too", who(l), p.HostPort, p.Proto, l.Addr)
				return
			}
		}
	}
}

// ways sends imagined packets from outside and from the host through the host's rules.
func (j *judge) ways() {
	for _, n := range j.Container.Networks {
		if n.Internal && slices.ContainsFunc(j.Published, func(p Published) bool { return slices.Contains(n.Addrs, p.Addr) }) {
			j.fault(InternalNetwork, "kakuri network connect NETWORK "+j.Container.Name+", one that is not internal", "network %s is internal, so what is published there is cut off", n.Name)
			return
		}
	}
	ours := slices.IndexFunc(j.Host.Tables, func(t Table) bool { return t.Family == "inet" && t.Name == "kakuri" })
	if ours < 0 && j.rulesRead() {
		j.fault(TableMissing, "kakuri system check --repair", "the table \"inet kakuri\" of nftables is not there: another program has flushed the rules")
		return
	}
	told := map[string]bool{}
	for _, p := range j.Published {
		if p.Addr.Is4() && !j.Host.Forward4 || p.Addr.Is6() && !j.Host.Forward6 {
			name := "net.ipv4.ip_forward"
			if p.Addr.Is6() {
				name = "net.ipv6.conf.all.forwarding"
			}
			if !told[name] && !p.Strict && !p.HostAddr.IsLoopback() {
				j.fault(NotForwarded, "sysctl -w "+name+"=1", "the host does not forward %s (%s is 0): what other machines send goes no further", familyName(p.Addr), name)
				told[name] = true
			}
		}
		for _, w := range j.packets(p) {
			j.dropped(w, told)
		}
	}
}

func (j *judge) rulesRead() bool {
	return !slices.ContainsFunc(j.Unread, func(s string) bool { return strings.HasPrefix(s, "rules") })
}

// packets are what a published port's first packet is at the hooks, from another machine.
func (j *judge) packets(p Published) []Packet {
	in := j.out(p.Addr.Is4())
	target := Packet{Dst: p.Addr, Proto: p.Proto, Port: p.Port, DNAT: true}
	outer := Packet{Dst: p.HostAddr, Proto: p.Proto, Port: p.HostPort, Local: true}
	if p.HostAddr.IsUnspecified() {
		if own, ok := j.Host.own(p.Addr.Is4()); ok {
			outer.Dst = own
		}
	}
	bridge := j.bridgeOf(p.Addr)
	if p.HostAddr.IsLoopback() {
		out := target
		out.Hook, out.NoIn, out.Out = "output", true, bridge
		return []Packet{out}
	}
	var list []Packet
	pre := outer
	pre.Hook, pre.In, pre.NoOut = "prerouting", in, true
	list = append(list, pre)
	if p.Strict {
		input := outer
		input.Hook, input.In, input.NoOut = "input", in, true
		return append(list, input)
	}
	forward := target
	forward.Hook, forward.In, forward.Out = "forward", in, bridge
	post := forward
	post.Hook = "postrouting"
	return append(list, forward, post)
}

// out is the host's device that leads to other machines, nil where none is known.
func (j *judge) out(v4 bool) *Link {
	for _, r := range j.Host.Routes {
		if r.To.Bits() == 0 && r.To.Addr().Is4() == v4 {
			return j.Host.link(r.Link)
		}
	}
	return nil
}

func (j *judge) bridgeOf(a netip.Addr) *Link {
	for _, n := range j.Container.Networks {
		if slices.Contains(n.Addrs, a) {
			return j.Host.named(n.Bridge)
		}
	}
	return nil
}

// dropped tells of the rules that stop a packet: all that may where none does surely. One
// that has counted a packet while tests were made is the likeliest.
func (j *judge) dropped(p Packet, told map[string]bool) {
	for _, d := range Walk(j.Host.Tables, p) {
		place := fmt.Sprintf("table %s %s, chain %s", d.Family, d.Table, d.Chain)
		what := fmt.Sprintf("rule %d: %s", d.Handle, d.Text)
		way := fmt.Sprintf("nft -a list chain %s %s %s shows it; allow what goes to %s port %d/%s before it", d.Family, d.Table, d.Chain, p.Dst, p.Port, p.Proto)
		if d.Handle == 0 {
			what = "its policy is drop, and no rule before accepts"
		}
		if (d.Table == "filter" && d.Chain == "FORWARD") && d.Family != "inet" {
			way = fmt.Sprintf("allow it in DOCKER-USER, where there is Docker: iptables -I DOCKER-USER -d %s -p %s --dport %d -j ACCEPT", p.Dst, p.Proto, p.Port)
		}
		if told[place+what] {
			continue
		}
		told[place+what] = true
		if d.Sure {
			j.fault(Dropped, way, "%s (%s) drops what other machines send to port %d: %s", place, d.Hook, p.Port, what)
			continue
		}
		if d.Table == "kakuri" && d.Family == "inet" {
			continue // it asks what only the kernel knows, and was made for this
		}
		if d.Packets > 0 {
			j.fault(Dropped, way, "%s (%s) has dropped %d packets while this was tested: %s", place, d.Hook, d.Packets, what)
			continue
		}
		j.say(MayBeDropped, way, "%s (%s) may drop what other machines send to port %d: %s", place, d.Hook, p.Port, what)
	}
}

// reachable says from where, and trusts the tests more than itself.
func (j *judge) reachable() {
	for _, t := range j.Tests {
		if slices.ContainsFunc(j.missing, func(p Published) bool { return p.Addr.Is4() == t.To.Addr().Is4() }) {
			continue
		}
		if t.From == "host" && t.Result != Connected && slices.ContainsFunc(j.Published, func(p Published) bool {
			return p.HostPort == t.To.Port() && (p.HostAddr == t.To.Addr() || p.HostAddr.IsUnspecified() && p.HostAddr.Is4() == t.To.Addr().Is4())
		}) {
			j.fault(NotKnown, "kakuri verify "+j.Container.Name+" compares what was asked for with what is", "connecting from the host to %s gave: %s; of what is known here nothing stands in the way", t.To, t.Result)
			return
		}
	}
	here := !slices.ContainsFunc(j.Published, func(p Published) bool { return !p.HostAddr.IsLoopback() })
	if here {
		j.say(OnlyHere, fmt.Sprintf("publish it at all addresses for other machines: -p %d:%d", j.Published[0].HostPort, j.Published[0].Port), "it is published on %s: this machine reaches it, no other does", j.Published[0].HostAddr)
		return
	}
	j.say(Reachable, "", "nothing stands in the way on this machine")
}

// Text is the verdict for a person.
func (v Verdict) Text() string {
	var b strings.Builder
	f := v.Facts
	switch {
	case len(f.Published) > 0:
		for _, p := range f.Published {
			fmt.Fprintf(&b, "%s/%s of the host  →  %s %s\n", netip.AddrPortFrom(p.HostAddr, p.HostPort), p.Proto, p.Container, netip.AddrPortFrom(p.Addr, p.Port))
		}
	case f.Name != "":
		fmt.Fprintf(&b, "port %d/%s of %s\n", f.Port, f.Proto, f.Name)
	default:
		fmt.Fprintf(&b, "port %d/%s of the host\n", f.Port, f.Proto)
	}
	word := "reachable"
	if !v.OK() {
		word = "not reachable"
	}
	fmt.Fprintf(&b, "%s\n", word)
	for _, d := range v.Findings {
		fmt.Fprintf(&b, "  %s: %s\n", d.Reason, d.Text)
		if d.Way != "" {
			fmt.Fprintf(&b, "    way out: %s\n", d.Way)
		}
	}
	if len(f.Tests) > 0 {
		b.WriteString("tested\n")
	}
	for _, t := range f.Tests {
		fmt.Fprintf(&b, "  from %-12s %-28s %s\n", t.From, t.To, t.Result)
	}
	for _, u := range f.Unread {
		fmt.Fprintf(&b, "not read: %s\n", u)
	}
	return b.String()
}
