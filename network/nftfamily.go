package network

import (
	"github.com/kakuri/kakuri/netip"
	"golang.org/x/sys/unix"
)

// An ipFamily is one of the two IPs, by what rules that are alike for both differ in.
type ipFamily struct {
	number       byte   // to netfilter
	digit        string // at the end of the names of sets
	name         string // of its header's fields, in nft's words
	proto        string // of itself
	source, dest uint32 // where its header has the addresses
	addr         datatype
	icmp         byte
	icmpName     string
	echo         byte // the question of ping
	groups       netip.Prefix
	linkAlone    []netip.Prefix // addresses that no router passes on, or not alone
}

func ipv4() ipFamily {
	return ipFamily{
		number: unix.NFPROTO_IPV4, digit: "4", name: "ip", proto: "ipv4", source: 12, dest: 16, addr: nftIPv4,
		icmp: unix.IPPROTO_ICMP, icmpName: "icmp", echo: 8,
		groups:    netip.MustParsePrefix("224.0.0.0/4"),
		linkAlone: []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3")},
	}
}

func ipv6() ipFamily {
	return ipFamily{
		number: unix.NFPROTO_IPV6, digit: "6", name: "ip6", proto: "ipv6", source: 8, dest: 24, addr: nftIPv6,
		icmp: unix.IPPROTO_ICMPV6, icmpName: "icmpv6", echo: 128,
		groups:    netip.MustParsePrefix("ff00::/8"),
		linkAlone: []netip.Prefix{netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8")},
	}
}

func ipFamilies() []ipFamily { return []ipFamily{ipv4(), ipv6()} }

func familyOf(a netip.Addr) ipFamily {
	if a.Is6() {
		return ipv6()
	}
	return ipv4()
}

func (f ipFamily) has(a netip.Addr) bool { return a.BitLen() == 8*f.addr.size }

// registers is how many of them an address takes.
func (f ipFamily) registers() uint32 { return uint32(f.addr.size) / 4 }

// at loads an address, or its beginning, into a register.
func (f ipFamily) at(offset uint32, size int, reg uint32) nftExpr {
	return payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, uint32(size), reg)
}

// packets are all of the family.
func (f ipFamily) packets() nftTerm {
	return nftTerm{"meta nfproto " + f.proto, []nftExpr{meta(unix.NFT_META_NFPROTO, 0), compare(unix.NFT_CMP_EQ, []byte{f.number})}}
}

// that are packets of the family of which more holds; text says of itself which family that is.
func (f ipFamily) that(text string, more ...nftExpr) nftTerm {
	return nftTerm{text, append(f.packets().exprs, more...)}
}

// sender compares the address that sent a packet, as far as start goes.
func (f ipFamily) sender(text string, op uint32, start []byte) nftTerm {
	return f.that(f.name+" saddr "+text, f.at(f.source, len(start), 0), compare(op, start))
}

// group is a packet to one, however far that reaches.
func (f ipFamily) group() nftTerm {
	return f.that(f.name+" daddr "+f.groups.String(), f.at(f.dest, f.addr.size, 0), masked(netmask(f.groups)), compare(unix.NFT_CMP_EQ, f.groups.Addr().AsSlice()))
}

// endsIn is the pair of a packet's addresses, in a set.
func (f ipFamily) endsIn(set string) nftTerm {
	return f.that(f.name+" saddr . "+f.name+" daddr @"+set, f.at(f.source, f.addr.size, 0), f.at(f.dest, f.addr.size, f.registers()), find(set))
}

// port is protocol, address and port that a packet goes to, in register 0 and after.
func (f ipFamily) port() nftTerm {
	return f.that("meta l4proto . "+f.name+" daddr . th dport", meta(unix.NFT_META_L4PROTO, 0), f.at(f.dest, f.addr.size, 1),
		payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 1+f.registers()))
}

func (f ipFamily) portIn(set string) nftTerm {
	t := f.port()
	return nftTerm{t.text + " @" + set, append(t.exprs, find(set))}
}

// anyPortIn is a packet to this machine, at whatever address of the family, and to a port of a set.
func (f ipFamily) anyPortIn(set string) nftTerm {
	all, local, port := f.packets(), toThisMachine(), anyPort()
	return nftTerm{all.text + " " + local.text + " " + port.text + " @" + set, append(append(append(all.exprs, local.exprs...), port.exprs...), find(set))}
}

// anyPort is protocol and port that a packet goes to, in register 0 and after.
func anyPort() nftTerm {
	return nftTerm{"meta l4proto . th dport", []nftExpr{meta(unix.NFT_META_L4PROTO, 0), payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 1)}}
}

// translate leads to the address and port that a map has for a packet's key, its port. The kernel passes over a change of destination for the other family.
func (f ipFamily) translate(key nftTerm, set string) nftTerm {
	return nftTerm{"dnat " + f.name + " to " + key.text + " map @" + set, append(key.exprs, findValue(set), f.destination(f.registers()))}
}

// destination is the change of a packet's destination to the address in register 0, and to a port in another.
func (f ipFamily) destination(port uint32) nftExpr {
	return expr("nat", func(w *wire) {
		w.u32(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
		w.u32(unix.NFTA_NAT_FAMILY, uint32(f.number))
		w.u32(unix.NFTA_NAT_REG_ADDR_MIN, register(0))
		w.u32(unix.NFTA_NAT_REG_ADDR_MAX, register(0))
		w.u32(unix.NFTA_NAT_REG_PROTO_MIN, register(port))
		w.u32(unix.NFTA_NAT_REG_PROTO_MAX, register(port))
		w.u32(unix.NFTA_NAT_FLAGS, nfNatRangeMapIPs|nfNatRangeSpecified)
	})
}

func (f ipFamily) icmpType(number byte, name string) nftTerm {
	return nftTerm{f.icmpName + " type " + name, append(ofProtocol(f.icmp, "").exprs, payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, 0), compare(unix.NFT_CMP_EQ, []byte{number}))}
}
