package reach

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/ui"
)

// A Reason is the kind of a finding.
type Reason string

// The reasons, about in the order in which they come first.
const (
	Reachable       Reason = "reachable"
	OnlyHere        Reason = "reachable from this machine only"
	NotRunning      Reason = "the container does not run"
	Paused          Reason = "the container is paused"
	NoNetwork       Reason = "no network"
	OthersNetwork   Reason = "another container's network"
	OtherProgram    Reason = "a program of the host has the port"
	OtherContainer  Reason = "another container has the port"
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

	text, way sentence
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

func (j *judge) fault(r Reason, way sentence, t ui.Text, args ...any) { j.found(r, true, way, t, args) }

func (j *judge) say(r Reason, way sentence, t ui.Text, args ...any) { j.found(r, false, way, t, args) }

func (j *judge) found(r Reason, fault bool, way sentence, t ui.Text, args []any) {
	text := sentence{t, args}
	j.list = append(j.list, Finding{Reason: r, Fault: fault, Text: text.in(ui.EN), Way: way.in(ui.EN), text: text, way: way})
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
		j.taken()
		way := "kakuri start " + c.Name
		for i := len(c.Gone) - 1; i >= 0; i-- {
			way = "kakuri network disconnect -f " + c.Gone[i] + " " + c.Name + "; " + way
		}
		j.fault(NotRunning, plain("%s", way), say.Is, c.Name, c.Status)
		return
	}
	if c.Status == "paused" {
		j.fault(Paused, plain("kakuri unpause %s", c.Name), say.IsPaused, c.Name)
	}
	if other, ok := strings.CutPrefix(c.Mode, "container:"); ok {
		j.say(OthersNetwork, none, say.InNamespaceOf, c.Name, other)
	}
	if c.Guest != "" {
		j.say(OthersNetwork, none, say.InNamespaceOf, c.Guest, c.Name)
	}
	if c.Mode == "host" {
		j.listens(&j.Host, said(say.HostNamespace, c.Name))
		if j.fine() {
			j.say(Reachable, none, say.HostsOwn, c.Name)
		}
		return
	}
	if j.Inside == nil {
		j.fault(NotKnown, said(say.AsRoot), say.NoLook, c.Name)
		return
	}
	j.listens(j.Inside, plain("%s", c.Name))
	if len(c.Networks) == 0 {
		if !strings.HasPrefix(c.Mode, "container:") {
			way := said(say.Connect, c.Name)
			switch {
			case c.Private && c.Apart:
				way = said(say.ConnectBoth, c.Name)
			case c.Private:
				way = said(say.ConnectPrivate, c.Name)
			case c.Apart:
				way = said(say.ConnectApart, c.Name)
			}
			j.fault(NoNetwork, way, say.NoNetwork, c.Name)
		}
		return
	}
	for _, n := range c.Networks {
		j.network(n)
	}
	if !slices.ContainsFunc(j.Published, func(p Published) bool { return !p.Asked }) {
		j.unpublished()
		return
	}
	j.conflicts(say.HasPortToo)
	j.ways()
	if j.fine() {
		j.reachable()
	}
}

func (j *judge) fine() bool {
	return !slices.ContainsFunc(j.list, func(f Finding) bool { return f.Fault })
}

// hostAlone is about a port of the host that no container has. Where a program of the host has it, or rules of another program lead it on, that is as good as a container's: it is
// said whose it is.
func (j *judge) hostAlone() {
	list, led := at(j.Host.Listeners, j.Proto, j.Port), j.led()
	tell := j.say
	if len(j.Tests) > 0 && !slices.ContainsFunc(j.Tests, func(t Test) bool { return t.Result.good() || j.Proto == "udp" && t.Result == NoAnswer }) {
		tell = j.fault
	}
	switch {
	case len(list) > 0 && len(led) > 0:
		tell(OtherProgram, said(say.AskEngine), say.HasPortLed, who(list[0]), j.Port, j.Proto, list[0].Addr, j.ledTo(led[0]))
	case len(led) > 0:
		tell(OtherProgram, said(say.AskEngine), say.PortLed, j.Port, j.Proto, j.ledTo(led[0]))
	case len(list) > 0:
		tell(OtherProgram, said(say.ForContainer), say.HasPort, who(list[0]), j.Port, j.Proto, list[0].Addr)
	default:
		j.fault(Nobody, j.withOthers(said(say.RunPublish, j.Port)), say.Nobody, j.Port, j.Proto)
	}
	// Whosever the container is, the way to it is by this machine's rules.
	told := map[string]bool{}
	for _, l := range led {
		j.forwarded(l.Published, told)
		for _, w := range slices.Concat(j.packets(l.Published), j.answers(l.Published)) {
			j.dropped(w, told)
		}
	}
}

// ledTo says where a rule leads a port, and which one it is.
func (j *judge) ledTo(l lead) sentence {
	device := "?"
	if by := j.bridgeOf(l.Addr); by != nil {
		device = by.Name
	}
	return said(say.LedTo, netip.AddrPortFrom(l.Addr, l.Port), device, l.family, l.table, l.chain, l.handle)
}

// who names the process that has a socket.
func who(l Listener) sentence {
	switch {
	case l.Holder != "":
		return said(say.Monitor, l.Holder)
	case l.PID == 0:
		return said(say.Unseen)
	}
	return said(say.Process, l.Program, l.PID)
}

// withOthers adds to a way what is published besides.
func (j *judge) withOthers(way sentence) sentence {
	const most = 5
	var list []string
	everywhere := map[Published]bool{} // by both families it is published once
	for _, p := range j.Others {
		if p.Asked || p.Routed {
			continue
		}
		if p.HostAddr.IsUnspecified() {
			key := Published{Container: p.Container, HostPort: p.HostPort, Port: p.Port, Proto: p.Proto}
			if everywhere[key] {
				continue
			}
			everywhere[key] = true
		}
		list = append(list, fmt.Sprintf("%s → %s %d/%s", netip.AddrPortFrom(p.HostAddr, p.HostPort), p.Container, p.Port, p.Proto))
	}
	switch n := len(list); {
	case n == 0:
		return way
	case n > most:
		return said(say.PublishedMore, way, strings.Join(list[:most], ", "), n-most)
	}
	return said(say.PublishedIs, way, strings.Join(list, ", "))
}

// listens says who takes what comes to the port inside.
func (j *judge) listens(s *Side, where sentence) {
	port := j.inside()
	found := at(s.Listeners, j.Proto, port)
	if len(found) == 0 && s.MoreListeners {
		return
	}
	if len(found) == 0 {
		way := said(say.ListenOn, port)
		const tooMany = 6 // to be told
		has := s.others(tooMany)
		if s == j.Inside && len(has) > 0 && len(has) < tooMany { // in the host's namespace they are not its own, and nothing is published
			way = said(say.PublishOther, way, strings.Join(has, ", "))
		}
		j.fault(NobodyListens, way, say.NobodyListens, port, j.Proto, where)
		return
	}
	loopback := func(l Listener) bool { return l.Addr.Unmap().IsLoopback() }
	if !slices.ContainsFunc(found, func(l Listener) bool { return !loopback(l) }) {
		any := "0.0.0.0"
		if found[0].Addr.Is6() {
			any = "[::]"
		}
		j.fault(LoopbackInside, said(say.ListenAt, any, found[0].Addr), say.Loopback, who(found[0]), found[0].Addr, where)
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
		tell(OtherFamily, said(say.ListenAll), say.OtherFamily, who(found[0]), found[0].Addr, p.Addr)
		return
	}
}

// others are the ports that somebody listens on, up to a number of them.
func (s *Side) others(most int) (list []string) {
	for _, l := range s.Listeners {
		if len(list) == most {
			break
		}
		t := fmt.Sprintf("%d/%s (%s)", l.Port, l.Proto, l.Program)
		if l.Holder == "" && l.Addr != dnsServer && !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	return list
}

var dnsServer = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// network is about what connects the container: its device, the bridge, the routes.
func (j *judge) network(n Network) {
	c := j.Container
	if l := j.Inside.named(n.Device); n.Device != "" {
		switch {
		case l == nil && j.Inside.More:
		case l == nil:
			j.fault(DeviceDown, said(say.Again, n.Name, c.Name), say.NoDevice, c.Name, n.Device, n.Name)
			return
		case !l.Up:
			j.fault(DeviceDown, said(say.UpInside, n.Device), say.DeviceDown, n.Device, c.Name)
		}
		for _, a := range n.Addrs {
			if l != nil && !j.Inside.More && !slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
				j.fault(RouteMissing, said(say.AgainLink), say.NoAddress, n.Device, c.Name, a)
			}
		}
	}
	if n.Bridge != "" {
		j.bridge(n)
	}
	for _, g := range n.Gateways {
		r, ok := way(j.Inside.Routes, elsewhere(g))
		if n.Internal || j.Inside.More || ok && r.Unusual == "" {
			continue
		}
		if len(c.Networks) == 1 {
			j.fault(RouteMissing, plain("kakuri restart %s", c.Name), say.NoDefault, c.Name, familyName(g))
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
	repair := said(say.Repair)
	b := j.Host.named(n.Bridge)
	switch {
	case b == nil:
		j.fault(BridgeMissing, repair, say.NoBridge, n.Bridge, n.Name)
		return
	case !b.Up: // its routes went with that, and its address of IPv6
		j.fault(BridgeMissing, said(say.BridgeUp, n.Bridge), say.BridgeDown, n.Bridge, n.Name)
		return
	}
	for _, a := range n.Addrs {
		if n.isolated(a) {
			continue
		}
		if r, ok := way(j.Host.Routes, a); !ok || r.Unusual != "" {
			j.fault(RouteMissing, repair, say.NoRoute, a, n.Name)
		} else if r.Link != b.Index {
			j.fault(WrongBridge, said(say.OtherSubnet, n.Name), say.OtherRoute, a, j.Host.linkName(r.Link), n.Bridge)
		}
	}
	switch e := j.Host.named(n.HostEnd); {
	case n.HostEnd == "":
	case e == nil:
		j.fault(DeviceDown, repair, say.NoEnd, n.HostEnd)
	case e.Master == 0:
		j.fault(WrongBridge, plain("ip link set %s master %s", n.HostEnd, n.Bridge), say.EndAtNone, n.HostEnd, n.Bridge)
	case e.Master != b.Index:
		j.fault(WrongBridge, plain("ip link set %s master %s", n.HostEnd, n.Bridge), say.EndElsewhere, n.HostEnd, j.Host.linkName(e.Master), n.Bridge)
	case !e.Up:
		j.fault(DeviceDown, plain("ip link set %s up", n.HostEnd), say.EndDown, n.HostEnd)
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
	if !j.fine() {
		return
	}
	if n := c.Networks[0]; n.Internal && len(c.Networks) == 1 {
		why := said(say.Internal, n.Name)
		var apart []string
		for _, a := range n.Addrs {
			if f := familyName(a); n.isolated(a) && !slices.Contains(apart, f) {
				apart = append(apart, f)
			}
		}
		if len(apart) > 0 {
			why = said(say.Isolated, n.Name, strings.Join(apart, ", "))
		}
		if len(j.Published) > 0 {
			p := j.Published[0]
			j.fault(InternalNetwork, said(say.ConnectOpen, c.Name), say.AskedInternal, c.Name, p.HostPort, p.Proto, why)
			return
		}
		j.fault(InternalNetwork, said(say.ConnectOpen, c.Name), why.text, why.args...)
		return
	}
	if len(j.Published) > 0 {
		p := j.Published[0]
		j.fault(NotPublished, said(say.ConnectBridge, c.Name), say.AskedNowhere, c.Name, p.HostPort, p.Proto)
		return
	}
	way := j.withOthers(said(say.OrReach, j.Port, j.Port, c.Name, j.Port))
	j.fault(NotPublished, way, say.NotPublished, j.Port, j.Proto, c.Name)
}

// isolated tells an address at which not even the host reaches the container, as the network's gateway mode has it.
func (n *Network) isolated(a netip.Addr) bool {
	return a.Is4() && n.Isolated4 || a.Is6() && n.Isolated6
}

// taken is about who has the port that a container which does not run asks for.
func (j *judge) taken() {
	overlap := func(a, b netip.Addr) bool {
		return a == b || a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
	}
	for _, p := range j.Published {
		for _, t := range j.Taken {
			if t.Proto == p.Proto && t.HostPort == p.HostPort && overlap(t.HostAddr, p.HostAddr) {
				j.fault(OtherContainer, said(say.StopIt, t.Container), say.ContainerHas, t.Container, p.HostPort, p.Proto, t.HostAddr)
				return
			}
		}
	}
	j.conflicts(say.ProgramHas)
}

// conflicts is about programs of the host on the same port.
func (j *judge) conflicts(text ui.Text) {
	for _, p := range j.Published {
		if p.Routed {
			continue
		}
		for _, l := range at(j.Host.Listeners, p.Proto, p.HostPort) {
			ours := l.Holder != "" || l.PID != 0 && strings.HasPrefix(l.Program, "kakuri")
			if !ours && (l.covers(p.HostAddr) || p.HostAddr.IsUnspecified() && l.Addr.Is4() == p.HostAddr.Is4()) {
				j.fault(OtherProgram, said(say.EndProgram), text, who(l), p.HostPort, p.Proto, l.Addr)
				return
			}
		}
	}
}

// reachable says from where, and trusts the tests more than itself.
func (j *judge) reachable() {
	for _, t := range j.Tests {
		if slices.ContainsFunc(j.missing, func(p Published) bool { return p.Addr.Is4() == t.To.Addr().Is4() }) {
			continue
		}
		if t.From != "host" || t.Result.good() || !slices.ContainsFunc(j.Published, func(p Published) bool {
			return p.HostPort == t.To.Port() && (p.HostAddr == t.To.Addr() || p.HostAddr.IsUnspecified() && p.HostAddr.Is4() == t.To.Addr().Is4())
		}) {
			continue
		}
		way := said(say.Verify, j.Container.Name)
		if j.Container.Apart && t.Result == NoAnswer { // the rules that were read are those of the user's own networks
			way = said(say.AsRootRules, t.To.Port(), j.Proto)
		}
		if j.Proto == "udp" && t.Result == NoAnswer {
			j.say(NotKnown, way, say.NoReply, t.To)
			break
		}
		j.fault(NotKnown, way, say.TestFailed, t.To, t.Result)
		return
	}
	here := !slices.ContainsFunc(j.Published, func(p Published) bool { return !p.HostAddr.IsLoopback() })
	if here {
		j.say(OnlyHere, said(say.PublishAll, j.Published[0].HostPort, j.Published[0].Port), say.LoopbackOnly, j.Published[0].HostAddr)
		return
	}
	if routed := slices.IndexFunc(j.Published, func(p Published) bool { return p.Routed }); routed >= 0 {
		j.say(Reachable, none, say.FineRouted, j.Published[routed].Addr)
		return
	}
	j.say(Reachable, none, say.Fine)
}

// good tells a test that came through.
func (r Result) good() bool { return r == Connected || r == Answered || r == Arrived }

// Text is the verdict for a person.
func (v Verdict) Text(l ui.Lang) string {
	p := page{lang: l}
	p.question(v.Facts)
	switch {
	case !v.OK():
		p.line(say.No)
	case v.Facts.Container == nil:
		p.line(say.YesHosts)
	default:
		p.line(say.Yes)
	}
	for _, d := range v.Findings {
		p.finding(&d)
	}
	p.tests(v.Facts)
	nobody := len(v.Findings) > 0 && v.Findings[0].Reason == Nobody
	for _, u := range v.Facts.Unread {
		if nobody && strings.HasPrefix(u, "rules") {
			continue // which an ordinary user cannot read, and which say nothing of a port that nobody has
		}
		p.line(say.NotRead, u)
	}
	return p.text.String()
}

// A page is a verdict's text while it is written.
type page struct {
	lang ui.Lang
	text strings.Builder
}

func (p *page) line(t ui.Text, args ...any) { p.text.WriteString(said(t, args...).in(p.lang) + "\n") }

// question says which ports the verdict is about.
func (p *page) question(f *Facts) {
	switch {
	case len(f.Published) > 0:
		for _, port := range f.Published {
			if port.Routed {
				p.line(say.Routed, port.Container, hostPort(port.Addr, port.Port), port.Proto)
				continue
			}
			to := strconv.Itoa(int(port.Port)) // of a container that does not run: it has no address
			if port.Addr.IsValid() {
				to = hostPort(port.Addr, port.Port)
			}
			p.line(say.OfHost, hostPort(port.HostAddr, port.HostPort), port.Proto, port.Container, to)
		}
	case f.Name != "":
		p.line(say.OfContainer, f.Port, f.Proto, f.Name)
	default:
		p.line(say.Port, f.Port, f.Proto)
	}
}

// finding tells one, and below it what can be done.
func (p *page) finding(d *Finding) {
	p.text.WriteString("  ")
	if text := d.text.in(p.lang); d.Reason == Reachable { // which the line before has said
		p.text.WriteString(text + "\n")
	} else {
		p.line(say.Finding, d.Reason.in(p.lang), text)
	}
	if d.Way != "" {
		p.text.WriteString("    ")
		p.line(say.Way, d.way)
	}
}

// tests is a table of the connections that were tried.
func (p *page) tests(f *Facts) {
	if len(f.Tests) > 0 {
		p.line(say.Tested)
	}
	first, second := 0, 0 // widths of columns
	for _, t := range f.Tests {
		first, second = max(first, ui.Width(from(p.lang, t.From))), max(second, len(t.To.String()))
	}
	for _, t := range f.Tests {
		fmt.Fprintf(&p.text, "  %s  %-*s  %s", padded(from(p.lang, t.From), first), second, t.To, t.Result.in(p.lang))
		if f.meant(t) {
			p.text.WriteString(p.lang.Say(say.AsMeant))
		}
		p.text.WriteByte('\n')
	}
}

// meant tells a test that did not come through, as networks are meant to be: what is in another one is kept apart, and so is the host
// from one of gateway mode isolated.
func (f *Facts) meant(t Test) bool {
	if f.Container == nil || t.Result != NoAnswer && t.Result != Unreachable && t.Result != NotAllowed {
		return false
	}
	return slices.ContainsFunc(f.Container.Networks, func(n Network) bool {
		return slices.Contains(n.Addrs, t.To.Addr()) && (strings.HasPrefix(t.From, "network ") || t.From == "host" && n.isolated(t.To.Addr()))
	})
}

// padded is a text with blanks behind it, to a width in columns.
func padded(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-ui.Width(s)))
}
