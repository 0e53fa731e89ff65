package network

import (
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A nftTerm is part of a rule: nft's words, and the expressions that they stand for.
type nftTerm struct {
	text  string
	exprs []nftExpr
}

type nftExpr struct {
	name string
	data wire
}

// A nftRule is one of a chain.
type nftRule struct {
	terms   []nftTerm
	comment string
}

func (r nftRule) String() string {
	parts := make([]string, 0, len(r.terms)+1)
	for _, t := range r.terms {
		parts = append(parts, t.text)
	}
	if r.comment != "" {
		parts = append(parts, "comment "+strconv.Quote(r.comment))
	}
	return strings.Join(parts, " ")
}

func register(n uint32) uint32 { return unix.NFT_REG32_00 + n }

func expr(name string, body func(w *wire)) nftExpr {
	e := nftExpr{name: name}
	body(&e.data)
	return e
}

func (w *wire) value(kind uint16, b []byte) {
	w.nest(kind, func() { w.bytes(unix.NFTA_DATA_VALUE, b) })
}

func meta(key, to uint32) nftExpr {
	return expr("meta", func(w *wire) { w.u32(unix.NFTA_META_KEY, key); w.u32(unix.NFTA_META_DREG, register(to)) })
}

func payload(base, offset, size, to uint32) nftExpr {
	return expr("payload", func(w *wire) {
		w.u32(unix.NFTA_PAYLOAD_DREG, register(to))
		w.u32(unix.NFTA_PAYLOAD_BASE, base)
		w.u32(unix.NFTA_PAYLOAD_OFFSET, offset)
		w.u32(unix.NFTA_PAYLOAD_LEN, size)
	})
}

// compare is of register 0.
func compare(op uint32, value []byte) nftExpr {
	return expr("cmp", func(w *wire) {
		w.u32(unix.NFTA_CMP_SREG, register(0))
		w.u32(unix.NFTA_CMP_OP, op)
		w.value(unix.NFTA_CMP_DATA, value)
	})
}

// find looks up what the registers from 0 have; of a map the value goes there too.
func find(set string, isMap bool) nftExpr {
	return expr("lookup", func(w *wire) {
		w.str(unix.NFTA_LOOKUP_SET, set)
		w.u32(unix.NFTA_LOOKUP_SREG, register(0))
		if isMap {
			w.u32(unix.NFTA_LOOKUP_DREG, register(0))
		}
	})
}

// conntrack puts what the kernel knows of the connection into register 0.
func conntrack(key uint32) nftExpr {
	return expr("ct", func(w *wire) { w.u32(unix.NFTA_CT_KEY, key); w.u32(unix.NFTA_CT_DREG, register(0)) })
}

// anyBit is of register 0: one of the bits at least is set.
func anyBit(bits uint32) []nftExpr {
	mask, zero := binary.NativeEndian.AppendUint32(nil, bits), make([]byte, 4)
	return []nftExpr{
		expr("bitwise", func(w *wire) {
			w.u32(unix.NFTA_BITWISE_SREG, register(0))
			w.u32(unix.NFTA_BITWISE_DREG, register(0))
			w.u32(unix.NFTA_BITWISE_LEN, 4)
			w.value(unix.NFTA_BITWISE_MASK, mask)
			w.value(unix.NFTA_BITWISE_XOR, zero)
		}),
		compare(unix.NFT_CMP_NEQ, zero),
	}
}

func verdict(text string, code int32) nftTerm {
	return nftTerm{text, []nftExpr{expr("immediate", func(w *wire) {
		w.u32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		w.nest(unix.NFTA_IMMEDIATE_DATA, func() {
			w.nest(unix.NFTA_DATA_VERDICT, func() { w.u32(unix.NFTA_VERDICT_CODE, uint32(code)) })
		})
	})}}
}

// Numbers of linux/netfilter.h and linux/netfilter/nf_tables.h that the unix package has not.
const (
	nfDrop, nfAccept     = 0, 1
	fibResultOIF         = 1
	fibResultAddrtype    = 3
	rtnLocal             = 2
	nfNatRangeMapIPs     = 1
	nfNatRangeSpecified  = 2
	ctStateInvalid       = 1 << 0
	ctStateEstablished   = 1 << 1
	ctStateRelated       = 1 << 2
	ctStateNew           = 1 << 3
	ctStateUntracked     = 1 << 6
	ctStatusDNAT         = 1 << 5
	ip4Source, ip4Dest   = 12, 16
	ip6Source, ip6Dest   = 8, 24
	priorityRaw          = -300
	priorityMangle       = -150
	priorityDstnat       = -100
	priorityFilter       = 0
	prioritySrcnat       = 100
	udataComment, udHash = 0, 0x80 // of rules; nft(8) passes over kinds that it does not know
	udataKeyByteOrder    = 0       // of sets: how nft(8) reads a key that is one value
	byteOrderHost        = 1
	nftaTableUserdata    = 6
)

func bothDevicesIn(set string) nftTerm {
	return nftTerm{"iifname . oifname @" + set, []nftExpr{meta(unix.NFT_META_IIFNAME, 0), meta(unix.NFT_META_OIFNAME, 4), find(set, false)}}
}

func fromDeviceIn(set string) nftTerm {
	return nftTerm{"iifname @" + set, []nftExpr{meta(unix.NFT_META_IIFNAME, 0), find(set, false)}}
}

func notFromDeviceIn(set string) nftTerm {
	return nftTerm{"iifname != @" + set, []nftExpr{meta(unix.NFT_META_IIFNAME, 0), expr("lookup", func(w *wire) {
		w.str(unix.NFTA_LOOKUP_SET, set)
		w.u32(unix.NFTA_LOOKUP_SREG, register(0))
		w.u32(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV)
	})}}
}

func toDeviceIn(set string) nftTerm {
	return nftTerm{"oifname @" + set, []nftExpr{meta(unix.NFT_META_OIFNAME, 0), find(set, false)}}
}

func notByLoopback() nftTerm {
	return nftTerm{`iifname != "lo"`, []nftExpr{meta(unix.NFT_META_IIFNAME, 0), compare(unix.NFT_CMP_NEQ, nftDeviceKey("lo"))}}
}

func isFamily(family byte, text string) nftTerm {
	return nftTerm{text, []nftExpr{meta(unix.NFT_META_NFPROTO, 0), compare(unix.NFT_CMP_EQ, []byte{family})}}
}

func ofFamily4() nftTerm { return isFamily(unix.NFPROTO_IPV4, "meta nfproto ipv4") }
func ofFamily6() nftTerm { return isFamily(unix.NFPROTO_IPV6, "meta nfproto ipv6") }

// loopbackAt is an address of 127.0.0.0/8 at an offset of the IPv4 header.
func loopbackAt(offset uint32, text string) nftTerm {
	return nftTerm{text + " 127.0.0.0/8", append(isFamily(unix.NFPROTO_IPV4, "").exprs,
		payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, 1, 0), compare(unix.NFT_CMP_EQ, []byte{127}))}
}

// notLoopback is a packet of IPv4 with neither address of 127.0.0.0/8.
func notLoopback() nftTerm {
	t := nftTerm{"ip daddr != 127.0.0.0/8 ip saddr != 127.0.0.0/8", isFamily(unix.NFPROTO_IPV4, "").exprs}
	for _, offset := range []uint32{ip4Dest, ip4Source} {
		t.exprs = append(t.exprs, payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, 1, 0), compare(unix.NFT_CMP_NEQ, []byte{127}))
	}
	return t
}

func toThisMachine() nftTerm {
	return nftTerm{"fib daddr type local", []nftExpr{
		expr("fib", func(w *wire) {
			w.u32(unix.NFTA_FIB_DREG, register(0))
			w.u32(unix.NFTA_FIB_RESULT, fibResultAddrtype)
			w.u32(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_DADDR)
		}),
		compare(unix.NFT_CMP_EQ, binary.NativeEndian.AppendUint32(nil, rtnLocal)),
	}}
}

// noWay says that no route leads to the packet's sender, or destination, by the device that it has come in by.
func noWay(flag uint32, what string) nftTerm {
	return nftTerm{"fib " + what + " . iif oif missing", []nftExpr{
		expr("fib", func(w *wire) {
			w.u32(unix.NFTA_FIB_DREG, register(0))
			w.u32(unix.NFTA_FIB_RESULT, fibResultOIF)
			w.u32(unix.NFTA_FIB_FLAGS, flag|unix.NFTA_FIB_F_IIF|unix.NFTA_FIB_F_PRESENT)
		}),
		compare(unix.NFT_CMP_EQ, make([]byte, 4)),
	}}
}

// senderThat compares the address of the family that sent a packet.
func senderThat(family byte, text string, op uint32, start []byte) nftTerm {
	if family == unix.NFPROTO_IPV4 {
		return nftTerm{"ip saddr " + text, append(isFamily(family, "").exprs, payload(unix.NFT_PAYLOAD_NETWORK_HEADER, ip4Source, uint32(len(start)), 0), compare(op, start))}
	}
	return nftTerm{"ip6 saddr " + text, append(isFamily(family, "").exprs, payload(unix.NFT_PAYLOAD_NETWORK_HEADER, ip6Source, 16, 0), compare(op, append(start, make([]byte, 16-len(start))...)))}
}

// unanswered is what belongs to no connection that was answered.
func unanswered() nftTerm {
	return nftTerm{"ct state invalid,new,untracked", append([]nftExpr{conntrack(unix.NFT_CT_STATE)}, anyBit(ctStateInvalid|ctStateNew|ctStateUntracked)...)}
}

// translated is a connection whose destination was changed by a rule, of whoever.
func translated() nftTerm {
	return nftTerm{"ct status dnat", append([]nftExpr{conntrack(unix.NFT_CT_STATUS)}, anyBit(ctStatusDNAT)...)}
}

func known() nftTerm {
	return nftTerm{"ct state established,related", append([]nftExpr{conntrack(unix.NFT_CT_STATE)}, anyBit(ctStateEstablished|ctStateRelated)...)}
}

func counted() nftTerm {
	return nftTerm{"counter", []nftExpr{{name: "counter"}}}
}

func masquerade() nftTerm { return nftTerm{"masquerade", []nftExpr{{name: "masq"}}} }

// endsOf is the pair of a packet's addresses, in a set.
func endsOf(family byte, set string) nftTerm {
	if family == unix.NFPROTO_IPV4 {
		return nftTerm{"ip saddr . ip daddr @" + set, append(isFamily(family, "").exprs,
			payload(unix.NFT_PAYLOAD_NETWORK_HEADER, ip4Source, 4, 0), payload(unix.NFT_PAYLOAD_NETWORK_HEADER, ip4Dest, 4, 1), find(set, false))}
	}
	return nftTerm{"ip6 saddr . ip6 daddr @" + set, append(isFamily(family, "").exprs,
		payload(unix.NFT_PAYLOAD_NETWORK_HEADER, ip6Source, 16, 0), payload(unix.NFT_PAYLOAD_NETWORK_HEADER, ip6Dest, 16, 4), find(set, false))}
}

// portOf is protocol, address and port that a packet goes to, in register 0 and after.
func portOf(family byte) (text string, exprs []nftExpr) {
	exprs = append(isFamily(family, "").exprs, meta(unix.NFT_META_L4PROTO, 0))
	if family == unix.NFPROTO_IPV4 {
		return "meta l4proto . ip daddr . th dport", append(exprs, payload(unix.NFT_PAYLOAD_NETWORK_HEADER, ip4Dest, 4, 1), payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 2))
	}
	return "meta l4proto . ip6 daddr . th dport", append(exprs, payload(unix.NFT_PAYLOAD_NETWORK_HEADER, ip6Dest, 16, 1), payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 5))
}

func portIn(family byte, set string) nftTerm {
	text, exprs := portOf(family)
	return nftTerm{text + " @" + set, append(exprs, find(set, false))}
}

// anyPortIn is a packet to this machine, at whatever address of the family, and to a port of a set.
func anyPortIn(family byte, set string) nftTerm {
	t := ofFamily4()
	if family == unix.NFPROTO_IPV6 {
		t = ofFamily6()
	}
	local := toThisMachine()
	t.text += " " + local.text + " meta l4proto . th dport @" + set
	t.exprs = append(append(t.exprs, local.exprs...), meta(unix.NFT_META_L4PROTO, 0), payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 1), find(set, false))
	return t
}

// translate leads to what the map has for the packet's destination, address and port.
func translate(family byte, set string, byAddress bool) nftTerm {
	// The kernel passes over a change of destination for the other family.
	text, exprs := "meta l4proto . th dport", []nftExpr{meta(unix.NFT_META_L4PROTO, 0), payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 1)}
	if byAddress {
		text, exprs = portOf(family)
	}
	name, port := "ip", uint32(1)
	if family == unix.NFPROTO_IPV6 {
		name, port = "ip6", 4
	}
	return nftTerm{"dnat " + name + " to " + text + " map @" + set, append(exprs, find(set, true), destination(family, 0, port))}
}

// destination is the change of a packet's destination to address and port in registers.
func destination(family byte, address, port uint32) nftExpr {
	return expr("nat", func(w *wire) {
		w.u32(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
		w.u32(unix.NFTA_NAT_FAMILY, uint32(family))
		w.u32(unix.NFTA_NAT_REG_ADDR_MIN, register(address))
		w.u32(unix.NFTA_NAT_REG_ADDR_MAX, register(address))
		w.u32(unix.NFTA_NAT_REG_PROTO_MIN, register(port))
		w.u32(unix.NFTA_NAT_REG_PROTO_MAX, register(port))
		w.u32(unix.NFTA_NAT_FLAGS, nfNatRangeMapIPs|nfNatRangeSpecified)
	})
}

// rule joins terms with a comment.
func rule(comment string, terms ...nftTerm) nftRule { return nftRule{terms, comment} }
