package reach

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/ui"
)

// ways sends imagined packets from outside and from the host through the host's rules.
func (j *judge) ways() {
	for _, n := range j.Container.Networks {
		if n.Internal && slices.ContainsFunc(j.Published, func(p Published) bool { return slices.Contains(n.Addrs, p.Addr) }) {
			j.fault(InternalNetwork, said(say.ConnectOpen, j.Container.Name), say.InternalPublished, n.Name)
			return
		}
	}
	ours := slices.IndexFunc(j.Host.Tables, func(t Table) bool { return t.Family == "inet" && t.Name == "kakuri" })
	if ours < 0 && j.rulesRead() {
		j.fault(TableMissing, plain("kakuri system check --repair"), say.NoTable)
		return
	}
	told := map[string]bool{}
	for _, p := range j.Published {
		j.forwarded(p, told)
		for _, w := range slices.Concat(j.packets(p), j.answers(p)) {
			j.dropped(w, told)
		}
	}
	for _, p := range j.Published {
		if bridge := j.bridgeOf(p.Addr); len(j.Legacy) > 0 && !p.Relayed && bridge != nil {
			j.say(MayBeDropped, said(say.LegacySave, bridge.Name), say.Legacy, strings.Join(j.Legacy, ", "))
			break
		}
	}
}

// forwarded tells of a port whose packets the host does not pass on, once for all of a family.
func (j *judge) forwarded(p Published, told map[string]bool) {
	name, on := "net.ipv4.ip_forward", j.Host.Forward4
	if p.Addr.Is6() {
		name, on = "net.ipv6.conf.all.forwarding", j.Host.Forward6
	}
	if on || !p.Addr.IsValid() || told[name] || p.Relayed || p.HostAddr.IsLoopback() {
		return
	}
	j.fault(NotForwarded, plain("sysctl -w %s=1", name), say.NotForwarded, familyName(p.Addr), name)
	told[name] = true
}

func (j *judge) rulesRead() bool {
	return !slices.ContainsFunc(j.Unread, func(s string) bool { return strings.HasPrefix(s, "rules") })
}

// packets are what a published port's first packet is at the hooks: from another machine, from this one, and what a monitor that has the port sends on.
func (j *judge) packets(p Published) (list []Packet) {
	bridge := j.bridgeOf(p.Addr)
	at := func(hook string, p Packet, in, out *Link) {
		p.Hook, p.In, p.Out = hook, in, out
		p.NoIn, p.NoOut = hook == "output" || hook == "postrouting" && in == nil, hook == "prerouting" || hook == "input"
		list = append(list, p)
	}
	target := Packet{Dst: p.Addr, Proto: p.Proto, Port: p.Port, DNAT: !p.Routed && !p.Relayed}
	outer := Packet{Dst: p.HostAddr, Proto: p.Proto, Port: p.HostPort, Local: true}
	if p.HostAddr.IsUnspecified() {
		if own, ok := j.Host.own(p.HostAddr.Is4()); ok {
			outer.Dst = own
		}
	}
	if in := j.out(p.HostAddr.Is4()); p.Routed {
		at("prerouting", target, in, nil)
		at("forward", target, in, bridge)
	} else if !p.HostAddr.IsLoopback() {
		at("prerouting", outer, in, nil)
		if p.Relayed {
			at("input", outer, in, nil)
		} else {
			at("forward", target, in, bridge)
			at("postrouting", target, in, bridge)
		}
	}
	switch lo := j.Host.named("lo"); {
	case p.Relayed:
		at("output", outer, nil, lo)
		at("input", outer, lo, nil)
		at("output", target, nil, bridge)
	case p.Routed:
		at("output", target, nil, bridge)
	default:
		at("output", target, nil, lo) // a hook's device stays what it was before the destination was changed
		at("postrouting", target, nil, bridge)
	}
	return list
}

// answers are what comes back of them: to other machines, to this one, and to a monitor that has the port. A hook sees addresses as they are
// there: where the asker was translated, as who asks by the loopback is, an answer goes to the bridge's address first, and to the asker's from
// hook input on; it comes from the container's own until all of it is done.
func (j *judge) answers(p Published) []Packet {
	a := answering{judge: j, port: p, bridge: j.bridgeOf(p.Addr), lo: j.Host.named("lo"), out: j.out(p.HostAddr.Is4())}
	a.away = Packet{Src: p.Addr, From: p.Port, Proto: p.Proto, DNAT: !p.Routed && !p.Relayed}
	a.home = a.away
	a.home.Local = true
	if a.bridge != nil {
		for _, own := range a.bridge.Addrs {
			if own.Addr().Is4() == p.Addr.Is4() && !own.Addr().IsLinkLocalUnicast() {
				a.home.Dst = own.Addr()
			}
		}
	}
	switch {
	case p.Routed:
		a.leave(a.away)
		a.come(a.home, a.home)
	case p.Relayed:
		a.come(a.home, a.home)
		a.relayed()
	default:
		a.translated()
	}
	return a.list
}

// answering is a port's answers as they are found.
type answering struct {
	*judge
	port            Published
	bridge, lo, out *Link
	away, home      Packet // of the container's: to wherever, and to the host's address at the bridge
	list            []Packet
}

func (a *answering) at(hook string, p Packet, in, out *Link) {
	p.Hook, p.In, p.Out, p.Reply = hook, in, out, true
	p.NoIn, p.NoOut = hook == "output", hook == "prerouting" || hook == "input"
	a.list = append(a.list, p)
}

// leave is the way of an answer from the container to other machines.
func (a *answering) leave(p Packet) {
	a.at("prerouting", p, a.bridge, nil)
	a.at("forward", p, a.bridge, a.out)
	a.at("postrouting", p, a.bridge, a.out)
}

// come is the way of one from the container to this machine, by what it is before and after it is translated back.
func (a *answering) come(before, after Packet) {
	a.at("prerouting", before, a.bridge, nil)
	a.at("input", after, a.bridge, nil)
}

// relayed are the answers of a monitor, which has its own from the container.
func (a *answering) relayed() {
	host := a.port.HostAddr
	for i, asked := range a.near(host) {
		p := Packet{Src: asked, From: a.port.HostPort, Proto: a.port.Proto}
		if i == 0 && !host.IsLoopback() {
			elsewhere := p
			if own, ok := a.Host.own(asked.Is4()); ok && asked.IsLoopback() {
				elsewhere.Src = own
			}
			a.at("output", elsewhere, nil, a.out)
			a.at("postrouting", elsewhere, nil, a.out)
		}
		p.Dst, p.Local = asked, true
		a.at("output", p, nil, a.lo)
		a.at("input", p, a.lo, nil)
	}
}

// translated are the answers of a port that rules lead to the container.
func (a *answering) translated() {
	if !a.port.HostAddr.IsLoopback() {
		far := a.away
		far.NotIn = a.bridged(a.out)
		a.leave(far)
	}
	for _, asked := range a.near(a.port.HostAddr) {
		asker := a.home
		asker.Dst = asked
		if asked.IsLoopback() {
			a.come(a.home, asker)
		} else {
			a.come(asker, asker)
		}
	}
}

// bridged are the networks of the host's bridges, of whatever engine, but for that of the way out: no other machine is there.
func (j *judge) bridged(out *Link) (list []netip.Prefix) {
	for i := range j.Host.Links {
		if l := &j.Host.Links[i]; l.Kind == "bridge" && out != nil && l.Index != out.Index {
			for _, a := range l.Addrs {
				list = append(list, a.Masked())
			}
		}
	}
	return list
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

// bridgeOf is the host's device by which a container's address is reached: of one that is not ours, by the route.
func (j *judge) bridgeOf(a netip.Addr) *Link {
	if j.Container == nil {
		r, _ := way(j.Host.Routes, a)
		return j.Host.link(r.Link)
	}
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
		place := said(say.Place, d.Family, d.Table, d.Chain, d.Hook)
		what := said(say.Rule, d.Handle, d.Text)
		if d.Handle == 0 {
			what = said(say.Policy)
		}
		key := place.in(ui.EN) + what.in(ui.EN)
		if told[key] {
			continue
		}
		told[key] = true
		way := j.allow(d, p)
		drops, may, port := say.Drops, say.MayDrop, p.Port
		switch own := p.NoIn || p.In != nil && p.In.Name == "lo"; {
		case p.Reply && p.Local:
			drops, may, port = say.DropsAnswer, say.MayDropAnswer, p.From
		case p.Reply:
			drops, may, port = say.DropsAnswers, say.MayDropAnswers, p.From
		case own:
			drops, may = say.DropsOwn, say.MayDropOwn
		}
		if d.Sure {
			j.fault(Dropped, way, drops, place, port, what)
			continue
		}
		if d.Table == "kakuri" && d.Family == "inet" {
			continue // it asks what only the kernel knows, and was made for this
		}
		if d.Packets > 0 {
			j.fault(Dropped, way, say.HasDropped, place, d.Packets, what)
			continue
		}
		j.say(MayBeDropped, way, may, place, port, what)
	}
}

// allow is how what a rule drops is let pass, by the way that the rule's owner has for it.
func (j *judge) allow(d Drop, p Packet) sentence {
	iptables := (d.Family == "ip" || d.Family == "ip6") && d.Table == "filter"
	has := func(chain string) bool {
		return slices.ContainsFunc(j.Host.Tables, func(t Table) bool {
			return t.Family == d.Family && t.Name == d.Table && slices.ContainsFunc(t.Chains, func(c Chain) bool { return c.Name == chain })
		})
	}
	firewalld := d.Table == "firewalld" || iptables && has("FORWARD_direct")
	switch {
	case p.Reply && iptables && d.Chain == "FORWARD" && j.jumps(d.Family, d.Chain, "DOCKER-USER"):
		return said(say.DockerAnswers)
	case p.Reply:
		return said(say.AllowAnswers, d.Family, d.Table, d.Chain)
	case firewalld && p.Hook == "input":
		return said(say.FirewalldIn, p.Port, p.Proto)
	case iptables && (has("ufw-user-input") || has("ufw6-user-input")) && p.Hook == "input":
		return plain("ufw allow %d/%s", p.Port, p.Proto)
	case firewalld && p.Hook == "output":
		return said(say.FirewalldOut)
	case firewalld && p.Out != nil:
		return said(say.Firewalld, p.Out.Name)
	case iptables && (has("ufw-user-forward") || has("ufw6-user-forward")) && p.Hook == "forward":
		return said(say.UFW, p.Proto, p.Dst, p.Port)
	case iptables && d.Chain == "FORWARD" && has("DOCKER-USER") && !j.jumps(d.Family, d.Chain, "DOCKER-USER"):
		return said(say.DockerGone)
	case iptables && d.Chain == "FORWARD":
		return said(say.DockerUser, p.Dst, p.Proto, p.Port)
	}
	if p.Dst.IsUnspecified() {
		return said(say.ShowsPort, d.Family, d.Table, d.Chain, p.Port, p.Proto)
	}
	return said(say.Shows, d.Family, d.Table, d.Chain, p.Dst, p.Port, p.Proto)
}

// jumps reports whether a rule of a chain of table filter leads to another one.
func (j *judge) jumps(family, from, to string) bool {
	for _, t := range j.Host.Tables {
		if t.Family != family || t.Name != "filter" {
			continue
		}
		for _, c := range t.Chains {
			if c.Name == from && slices.ContainsFunc(c.Rules, func(r Rule) bool {
				return slices.ContainsFunc(r.Exprs, func(e Expr) bool { return e.Chain == to })
			}) {
				return true
			}
		}
	}
	return false
}
