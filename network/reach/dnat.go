package reach

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Rules reads the rules of all tables of the caller's network namespace.
func Rules() ([]Table, error) { return tables() }

// Forwarded are the ports that rules of whatever owner lead to addresses, as far as they
// are written the usual ways: dnat of nftables, and DNAT of iptables-nft, behind a match
// of the port that a packet goes to. Ports that a map leads on are not among them.
func Forwarded(list []Table) (out []Published) {
	for _, l := range leads(list) {
		out = append(out, l.Published)
	}
	return out
}

// A lead is a port that a rule leads on, and where that rule is.
type lead struct {
	Published
	family, table, chain string
	handle               uint64
}

// leads are all of them.
func leads(list []Table) (out []lead) {
	for _, t := range list {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				if p, ok := r.forwards(t.Family); ok {
					out = append(out, lead{p, t.Family, t.Name, c.Name, r.Handle})
				}
			}
		}
	}
	return out
}

// led are those of the port that is asked about. Other engines hold their containers' ports with a socket, if at all, which nothing of what comes from elsewhere reaches.
func (f *Facts) led() []lead {
	return slices.DeleteFunc(leads(f.Host.Tables), func(l lead) bool { return l.HostPort != f.Port || l.Proto != f.Proto })
}

// forwards reads where a rule leads what goes to a port, if it is one that does so.
func (r *Rule) forwards(family string) (p Published, ok bool) {
	p.HostAddr = netip.IPv4Unspecified()
	if family == "ip6" {
		p.HostAddr = netip.IPv6Unspecified()
	}
	p.Proto = "tcp"
	held := map[int]*Expr{} // what a register has
	for i := range r.Exprs {
		e := &r.Exprs[i]
		switch e.Name {
		case "payload", "meta", "immediate", "bitwise": // of the last nothing is compared: it is more than one port or address
			held[e.Dest] = e
		case "cmp":
			if l := held[e.Source]; l != nil && e.Op == cmpEq {
				p.compared(l, e.Data)
			}
		case "xt match":
			if (e.Text == "tcp" || e.Text == "udp") && len(e.Data) >= 8 && half(e.Data, 4) == half(e.Data, 6) {
				p.Proto, p.HostPort = e.Text, half(e.Data, 4)
			}
		case "xt target":
			p.ledByXT(e, family)
		case "nat":
			p.led(e, held[e.Source], held[e.Dest])
		}
	}
	if p.Port == 0 {
		p.Port = p.HostPort
	}
	return p, p.HostPort != 0 && p.Addr.IsValid()
}

// ledByXT takes where iptables' DNAT leads: struct nf_nat_range2 of nf_nat.h.
func (p *Published) ledByXT(e *Expr, family string) {
	if e.Text != "DNAT" || len(e.Data) < 38 {
		return
	}
	p.Port = binary.BigEndian.Uint16(e.Data[36:])
	if family == "ip6" {
		p.Addr = netip.AddrFrom16([16]byte(e.Data[4:20]))
	} else {
		p.Addr = netip.AddrFrom4([4]byte(e.Data[4:8]))
	}
}

// led takes where nftables' dnat leads, by what its registers have. One whose port is not set leads to the address alone.
func (p *Published) led(e, addr, port *Expr) {
	if e.Key != natDNAT || addr == nil || addr.Name != "immediate" {
		return
	}
	p.Addr, _ = netip.AddrFromSlice(addr.Data)
	if port != nil && port != addr && port.Name == "immediate" && len(port.Data) >= 2 {
		p.Port = binary.BigEndian.Uint16(port.Data)
	}
}

// compared takes what a rule wants of a packet: that the field which l loads is data.
func (p *Published) compared(l *Expr, data []byte) {
	field := func(base, offset uint32, size int) bool {
		return l.Name == "payload" && l.Base == base && l.Offset == offset && len(data) == size
	}
	switch {
	case field(baseTransport, 2, 2): // the port that it goes to, of TCP, UDP and SCTP
		p.HostPort = binary.BigEndian.Uint16(data)
	case field(baseNetwork, 16, 4), field(baseNetwork, 24, 16): // the address that it goes to, of IPv4 and of IPv6
		p.HostAddr, _ = netip.AddrFromSlice(data)
	case field(baseNetwork, 9, 1), l.Name == "meta" && l.Key == metaL4Proto && len(data) == 1: // the protocol, as IPv4 has it
		p.Proto = protocolName(data[0])
	}
}

func protocolName(n byte) string {
	switch n {
	case 6:
		return "tcp"
	case 17:
		return "udp"
	}
	return "sctp"
}
