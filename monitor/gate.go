package monitor

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/kakuri/kakuri/monitor/dns"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
)

// A gate has a container's resolver answer for the names of its --egress only, and its rules let through what they lead to.
type gate struct {
	egress  plan.Egress
	subnets []netip.Prefix // of the container's networks
	run     string         // the engine's
	log     *refusals
}

// Gate implements [dns.Names].
func (n *names) Gate() dns.Gate {
	now, _ := n.networks()
	if now.Egress == nil {
		return nil
	}
	g := &gate{egress: *now.Egress, log: &n.log, run: n.run}
	for _, at := range now.Networks {
		g.subnets = append(g.subnets, at.Subnets...)
	}
	return g
}

// Allows implements [dns.Gate]. A name without a dot is one of the container's networks, or nobody's: what the machine's servers may make of it was not
// asked for.
func (g *gate) Allows(name string) (ask, far bool) {
	for i := range g.egress.Allow {
		if g.egress.Allow[i].Matches(name) {
			return true, strings.Contains(name, ".")
		}
	}
	return false, false
}

// Open implements [dns.Gate].
func (g *gate) Open(ns int, name string, addrs []netip.Addr, ours bool, least time.Duration) ([]netip.Addr, error) {
	var table *network.Egress
	told := make([]bool, len(addrs))
	m := &machine{run: g.run}
	defer m.close()
	for i := range g.egress.Allow {
		r := &g.egress.Allow[i]
		if !r.Matches(name) {
			continue
		}
		var list []netip.Addr
		for j, a := range addrs {
			if g.mayLead(r, a, ours, m) {
				list, told[j] = append(list, a), true
			}
		}
		if r.Any() || len(list) == 0 {
			continue
		}
		if table == nil {
			var err error
			if table, err = network.OpenEgress(ns); err != nil {
				return nil, err
			}
			defer table.Close()
		}
		if err := table.Open(i, name, list, least); err != nil {
			return nil, err
		}
	}
	var out []netip.Addr
	for j, a := range addrs {
		if told[j] {
			out = append(out, a)
			continue
		}
		now := time.Now()
		g.log.add(Refusal{Kind: RefusedAnswer, Name: name, Addr: a, Count: 1, First: now, Last: now})
	}
	return out, nil
}

// mayLead reports whether a name that an entry is for may lead to an address. What others' servers say leads to nobody who is reached from here only, unless the entry
// says so: else who has the name could have the container's programs speak to the machine, its neighbours, and the cloud's own servers.
func (g *gate) mayLead(r *plan.Reach, a netip.Addr, ours bool, m *machine) bool {
	switch {
	case r.To.IsValid() && !r.To.Contains(a):
		return false
	case ours:
		return true
	case a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6():
		return false
	case r.To.IsValid():
		return true
	case r.Any():
		return !a.IsLinkLocalUnicast() // the rules are for all others
	}
	return g.outside(a, m) && g.outside(meant(a), m)
}

// outside reports whether an address is one out in the world: neither this machine's nor of the container's networks.
func (g *gate) outside(a netip.Addr, m *machine) bool {
	return public(a) && !slices.ContainsFunc(g.subnets, func(p netip.Prefix) bool { return p.Contains(a) }) && !m.has(a)
}

// A machine is asked for its addresses, over one answer: by a socket, and of an ordinary user's container by a connection with the uplink, which
// are there from the first question on. What it said of an address holds for that answer.
type machine struct {
	run    string // of the uplink
	socket *netlink.Socket
	uplink *uplink.Uplink
	gone   bool // no uplink
	said   map[netip.Addr]bool
}

func (m *machine) close() {
	if m.socket != nil {
		m.socket.Close()
	}
	if m.uplink != nil {
		m.uplink.Close()
	}
}

// has reports whether the machine has an address, be it one of all the world: what listens there is not behind its firewall from here, which is what keeps
// others away. Of an ordinary user's container, whose networks are in a namespace of their own, the uplink knows.
func (m *machine) has(a netip.Addr) bool {
	own, known := m.said[a]
	if !known {
		if m.said == nil {
			m.said = map[netip.Addr]bool{}
		}
		own = m.ask(a)
		m.said[a] = own
	}
	return own
}

func (m *machine) ask(a netip.Addr) bool {
	var err error
	if m.socket == nil {
		if m.socket, err = netlink.Open(); err != nil {
			return true
		}
	}
	if own, err := m.socket.Own(a); own || err != nil {
		return true
	}
	if m.uplink == nil && !m.gone {
		m.uplink, err = uplink.Open(uplink.Dir(m.run), nil)
		m.gone = errors.Is(err, uplink.ErrGone)
	}
	if m.uplink == nil {
		return !m.gone
	}
	own, err := m.uplink.Own(a)
	var old *uplink.Error // one that was started before it could be asked
	return own || err != nil && !errors.As(err, &old)
}

// special are networks of IPv4 that are not of all the world: RFC 6890. Those for examples lead nowhere, and are not here.
func special() []netip.Prefix {
	p := func(a, b byte, bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{a, b}), bits)
	}
	return []netip.Prefix{
		p(0, 0, 8), p(10, 0, 8), p(100, 64, 10), p(127, 0, 8), p(169, 254, 16), p(172, 16, 12), p(192, 0, 24), p(192, 168, 16), p(198, 18, 15), p(224, 0, 3),
	}
}

// public reports whether an address is of all the world. One of IPv6 that stands for one of IPv4 is what that is.
func public(a netip.Addr) bool {
	if a = meant(a); a.Is4() {
		return !slices.ContainsFunc(special(), func(p netip.Prefix) bool { return p.Contains(a) })
	}
	b := a.As16()
	teredo := b[0] == 0x20 && b[1] == 1 && b[2] == 0 && b[3] == 0
	return b[0]&0xe0 == 0x20 && !teredo // 2000::/3 is all that was given out
}

// meant is the address of IPv4 that one of IPv6 stands for, by NAT64 (RFC 6052) or 6to4 (RFC 3056); others as they are.
func meant(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	b := a.As16()
	switch {
	case [12]byte(b[:12]) == [12]byte{0, 0x64, 0xff, 0x9b}:
		return netip.AddrFrom4([4]byte(b[12:]))
	case b[0] == 0x20 && b[1] == 2:
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

// Refuse implements [dns.Gate].
func (g *gate) Refuse(name string) {
	now := time.Now()
	g.log.add(Refusal{Kind: RefusedName, Name: name, Count: 1, First: now, Last: now})
}

// Mark implements [dns.Gate].
func (*gate) Mark() uint32 { return network.EgressMark }

// Refused reads what a container's rules have refused since they were made, by a descriptor of its network namespace; what has no place of its own is in others.
func Refused(ns int, e plan.Egress) (list []Refusal, others uint64, err error) {
	table, err := network.OpenEgress(ns)
	if err != nil {
		return nil, 0, err
	}
	defer table.Close()
	packets, all, err := table.Refused()
	if err != nil {
		return nil, 0, err
	}
	opened, err := table.Opened(e)
	if err != nil {
		return nil, 0, err
	}
	now := time.Now()
	for _, p := range packets {
		x := Refusal{Kind: RefusedPacket, Addr: p.Addr, Proto: p.Proto, Port: p.Port, Count: p.Count, Last: now.Add(-p.Age)}
		for _, o := range opened {
			if o.Addr == p.Addr {
				x.Name = o.Name
			}
		}
		list, all = append(list, x), all-min(all, p.Count)
	}
	return list, all, nil
}

// keepRefused writes down what the rules of a run have refused, since they go with its network namespace.
func (m *monitor) keepRefused() {
	n, err := ReadNetworks(m.order.Dir)
	if err != nil || n.Egress == nil || m.task.AutoRemove {
		return
	}
	list, others, err := Refused(m.nets.resolver.Sockets().Inner, *n.Egress)
	if err != nil {
		return
	}
	log := refusals{dir: m.order.Dir}
	for _, x := range list {
		x.First = x.Last
		log.add(x)
	}
	if others > 0 {
		log.addOthers(others)
	}
}
