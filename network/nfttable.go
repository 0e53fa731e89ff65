package network

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/network/netip"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// NftTable is the name of the one table that this program makes on the host, of family inet, with the rules for all bridges
// and ports. namesTable is that inside a container, of family ip, with the way to its server for names.
const (
	NftTable   = "kakuri"
	namesTable = "kakuri-names"
)

// nftLayout is the comment of the host's table. Its number goes up whenever the sets or rules become others, so that the table of an
// older version of this program is made anew.
const nftLayout = "kakuri's networks and ports; layout 5"

// nftCounts are how many rules each chain of [nftChains] has, for a look that has to be quick.
var nftCounts = []struct {
	chain string
	rules uint32
}{{"early", 4}, {"senders", 2}, {"prerouting", 8}, {"output", 4}, {"postrouting", 7}, {"forward", 12}}

// A datatype is how nft(8) shows bytes of a set's keys: its number there, and how many they are.
type datatype struct {
	name string
	id   uint32
	size int
}

var (
	nftIPv4    = datatype{"ipv4_addr", 7, 4}
	nftIPv6    = datatype{"ipv6_addr", 8, 16}
	nftProto   = datatype{"inet_proto", 12, 1}
	nftService = datatype{"inet_service", 13, 2}
	nftDevice  = datatype{"ifname", 41, unix.IFNAMSIZ}
)

// An nftSet is a set, or with data a map.
type nftSet struct {
	name      string
	key, data []datatype
}

// What a port of all addresses leads to is looked up by the port alone, once fib says that the packet is for this machine.
var nftSets = []nftSet{
	{"bridges", []datatype{nftDevice}, nil},
	{"internal", []datatype{nftDevice}, nil},
	{"same", []datatype{nftDevice, nftDevice}, nil},     // each bridge with itself
	{"together", []datatype{nftDevice, nftDevice}, nil}, // so too, where containers may talk
	{"masquerade4", []datatype{nftDevice}, nil},
	{"masquerade6", []datatype{nftDevice}, nil},
	{"routed4", []datatype{nftDevice}, nil},
	{"routed6", []datatype{nftDevice}, nil},
	{"unprotected4", []datatype{nftDevice}, nil},
	{"unprotected6", []datatype{nftDevice}, nil},
	{"direct4", []datatype{nftProto, nftIPv4, nftService}, nil}, // ports that are reached at the container's own address
	{"direct6", []datatype{nftProto, nftIPv6, nftService}, nil},
	{"loopback4", []datatype{nftProto, nftIPv4, nftService}, nil},
	{"relayed4", []datatype{nftProto, nftIPv4, nftService}, nil}, // ports that a socket takes
	{"relayed6", []datatype{nftProto, nftIPv6, nftService}, nil},
	{"relayedany4", []datatype{nftProto, nftService}, nil}, // so too, at all addresses of this machine
	{"relayedany6", []datatype{nftProto, nftService}, nil},
	{"hairpin4", []datatype{nftIPv4, nftIPv4}, nil}, // each container that publishes, with itself
	{"hairpin6", []datatype{nftIPv6, nftIPv6}, nil},
	{"publish4", []datatype{nftProto, nftIPv4, nftService}, []datatype{nftIPv4, nftService}},
	{"publish6", []datatype{nftProto, nftIPv6, nftService}, []datatype{nftIPv6, nftService}},
	{"any4", []datatype{nftProto, nftService}, []datatype{nftIPv4, nftService}},
	{"any6", []datatype{nftProto, nftService}, []datatype{nftIPv6, nftService}},
}

func nftSetNamed(name string) *nftSet {
	for i := range nftSets {
		if nftSets[i].name == name {
			return &nftSets[i]
		}
	}
	return nil
}

// nftSize is what the kernel has for values, in bytes: each begins on four bytes.
func nftSize(types []datatype) (n int) {
	for _, t := range types {
		n += (t.size + 3) &^ 3
	}
	return n
}

// nftTypeID is how nft(8) numbers types that stand side by side: six bits each.
func nftTypeID(types []datatype) (id uint32) {
	for _, t := range types {
		id = id<<6 | t.id
	}
	return id
}

func nftTypeName(types []datatype) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.name
	}
	return strings.Join(names, " . ")
}

// nftValues are bytes of a key or of data, as nft(8) has them: "tcp . 8080".
func nftValues(types []datatype, b []byte) string {
	var parts []string
	for _, t := range types {
		if len(b) < (t.size+3)&^3 {
			return strings.Join(append(parts, "…"), " . ")
		}
		v := b[:t.size]
		b = b[(t.size+3)&^3:]
		var text string
		switch t.name {
		case "ipv4_addr", "ipv6_addr":
			a, _ := netip.AddrFromSlice(v)
			text = a.String()
		case "inet_proto":
			text = protoName(v[0])
		case "inet_service":
			text = strconv.Itoa(int(binary.BigEndian.Uint16(v)))
		case "ifname":
			text = strconv.Quote(unix.ByteSliceToString(v))
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " . ")
}

func protoNumber(name string) (byte, bool) {
	switch name {
	case "tcp":
		return unix.IPPROTO_TCP, true
	case "udp":
		return unix.IPPROTO_UDP, true
	case "sctp":
		return unix.IPPROTO_SCTP, true
	}
	return 0, false
}

func protoName(n byte) string {
	switch n {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		return "icmpv6"
	}
	return strconv.Itoa(int(n))
}

// A nftElement is one of a set of the table.
type nftElement struct {
	set       string
	key, data string // bytes as the kernel has them
	owner     string // as the element's comment
}

// String is as nft(8) takes it: any4 { tcp . 8080 : 172.17.0.2 . 80 }.
func (e nftElement) String() string {
	s := nftSetNamed(e.set)
	if s == nil {
		return e.set
	}
	text := e.set + " { " + nftValues(s.key, []byte(e.key))
	if e.owner != "" {
		text += " comment " + strconv.Quote(e.owner)
	}
	if len(s.data) > 0 {
		text += " : " + nftValues(s.data, []byte(e.data))
	}
	return text + " }"
}

// nftKey joins values, each of four bytes' multiple.
func nftKey(values ...[]byte) string {
	var b []byte
	for _, v := range values {
		b = append(b, v...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return string(b)
}

func nftDeviceKey(device string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b[:unix.IFNAMSIZ-1], device)
	return b
}

func nftPort(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) }

// bridgeElements are those of a bridge, and with false those that the sets may have of it and shall not.
func bridgeElements(b plan.Bridge) (have, not []nftElement) {
	device := nftDeviceKey(b.Device)
	for _, e := range []struct {
		set string
		in  bool
		key string
	}{
		{"bridges", true, nftKey(device)},
		{"same", true, nftKey(device, device)},
		{"internal", b.Internal, nftKey(device)},
		{"together", b.ICC, nftKey(device, device)},
		{"masquerade4", b.Masquerade4, nftKey(device)},
		{"masquerade6", b.Masquerade6, nftKey(device)},
		{"routed4", b.Routed4, nftKey(device)},
		{"routed6", b.Routed6, nftKey(device)},
		{"unprotected4", b.Unprotected4, nftKey(device)},
		{"unprotected6", b.Unprotected6, nftKey(device)},
	} {
		if e.in {
			have = append(have, nftElement{set: e.set, key: e.key})
		} else {
			not = append(not, nftElement{set: e.set, key: e.key})
		}
	}
	return have, not
}

// Relayed tells a port that no rule can lead to the container, since it is strict, is of [::1], or the container has
// no address of the family: [Rules.HoldPort]'s socket takes what comes, and a [Relay] passes it on.
func Relayed(p plan.Publish) bool {
	return !p.Routed && (p.Strict || p.HostAddr.Is6() && p.HostAddr.IsLoopback() || p.HostAddr.Is4() != p.Addr.Is4())
}

// portElements are those of the ports of one owner. Of one port twice there is one.
func portElements(owner string, ports []plan.Publish) []nftElement {
	list := make([]nftElement, 0, len(ports)+2)
	var hairpin []netip.Addr
	for _, p := range ports {
		proto, ok := protoNumber(p.Proto)
		if !ok {
			continue
		}
		host, to, family := p.HostAddr.AsSlice(), p.Addr.AsSlice(), "6"
		if p.HostAddr.Is4() {
			family = "4"
		}
		if Relayed(p) {
			e := nftElement{set: "relayed" + family, key: nftKey([]byte{proto}, host, nftPort(p.HostPort)), owner: owner}
			if p.HostAddr.IsUnspecified() {
				e.set, e.key = "relayedany"+family, nftKey([]byte{proto}, nftPort(p.HostPort))
			}
			if !p.HostAddr.IsLoopback() && !slices.Contains(list, e) { // no bridge leads to loopback
				list = append(list, e)
			}
			continue
		}
		if p.Routed {
			set := "direct6"
			if p.Addr.Is4() {
				set = "direct4"
			}
			list = append(list, nftElement{set: set, key: nftKey([]byte{proto}, to, nftPort(p.Port)), owner: owner})
			continue
		}
		e := nftElement{owner: owner, data: nftKey(to, nftPort(p.Port))}
		if p.HostAddr.IsUnspecified() {
			e.set, e.key = "any"+family, nftKey([]byte{proto}, nftPort(p.HostPort))
		} else {
			e.set, e.key = "publish"+family, nftKey([]byte{proto}, host, nftPort(p.HostPort))
		}
		list = append(list, e)
		if p.HostAddr.Is4() && p.HostAddr.IsLoopback() {
			list = append(list, nftElement{set: "loopback4", key: e.key, owner: owner})
		}
		known := false
		for _, a := range hairpin {
			known = known || a == p.Addr
		}
		if !known {
			hairpin = append(hairpin, p.Addr)
			list = append(list, nftElement{set: "hairpin" + family, key: nftKey(to, to), owner: owner})
		}
	}
	return list
}

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

// A nftChain is a chain at a hook of the kernel; one without a kind is at none, and others go to it. The policy of the host's is accept, always: it ends the chain, and
// overrules nobody's drop.
type nftChain struct {
	name, kind string
	hook       uint32
	hookName   string
	priority   int32
	rules      []nftRule
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

// Terms of rules.

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

// nftChains are the table's, with all of their rules. Nothing of a container is in them: those are elements of sets.
// What the chains accept is accepted by them alone, and other tables' chains at the same hook are asked as before. Chains of the kind nat see the first packet of a
// connection; the others see each one, so what comes most is decided by their first rule.
func nftChains() []nftChain {
	const v4, v6 = unix.NFPROTO_IPV4, unix.NFPROTO_IPV6
	accept, drop, back := verdict("accept", nfAccept), verdict("drop", nfDrop), verdict("return", unix.NFT_RETURN)
	destinations := func() []nftRule {
		return []nftRule{
			rule("ports of one address", translate(v4, "publish4", true)),
			rule("", translate(v6, "publish6", true)),
			rule("ports of all addresses", toThisMachine(), translate(v4, "any4", false)),
			rule("", toThisMachine(), translate(v6, "any6", false)),
		}
	}
	incoming := append([]nftRule{
		rule("internal networks, to ports that a socket takes", fromDeviceIn("internal"), portIn(v4, "relayed4"), counted(), drop),
		rule("", fromDeviceIn("internal"), portIn(v6, "relayed6"), counted(), drop),
		rule("", fromDeviceIn("internal"), anyPortIn(v4, "relayedany4"), counted(), drop),
		rule("", fromDeviceIn("internal"), anyPortIn(v6, "relayedany6"), counted(), drop),
	}, destinations()...)
	output := destinations()
	// The kernel does not send what comes from ::1 by another device; a socket takes it.
	output[3] = rule("[::1] has a socket", nftTerm{"ip6 daddr != ::1", append(isFamily(v6, "").exprs,
		payload(unix.NFT_PAYLOAD_NETWORK_HEADER, ip6Dest, 16, 0), compare(unix.NFT_CMP_NEQ, append(make([]byte, 15), 1)))}, toThisMachine(), translate(v6, "any6", false))
	return []nftChain{
		{"early", "filter", unix.NF_INET_PRE_ROUTING, "prerouting", priorityRaw, []nftRule{
			rule("nearly all", notLoopback(), accept),
			rule("addresses of this machine alone", loopbackAt(ip4Dest, "ip daddr"), fromDeviceIn("bridges"), counted(), drop),
			rule("", loopbackAt(ip4Source, "ip saddr"), fromDeviceIn("bridges"), counted(), drop),
			rule("ports of 127.0.0.1", notByLoopback(), portIn(v4, "loopback4"), counted(), drop),
		}},
		// Addresses of the link alone are no other network's, and neighbours by a bridge may have what addresses they like, which br_netfilter would show us.
		{"senders", "filter", unix.NF_INET_PRE_ROUTING, "prerouting", priorityMangle, []nftRule{
			rule("addresses of other networks", unanswered(), fromDeviceIn("bridges"), notFromDeviceIn("internal"), senderThat(v4, "!= 169.254.0.0/16", unix.NFT_CMP_NEQ, []byte{169, 254}),
				noWay(unix.NFTA_FIB_F_SADDR, "saddr"), noWay(unix.NFTA_FIB_F_DADDR, "daddr"), counted(), drop),
			rule("", unanswered(), fromDeviceIn("bridges"), notFromDeviceIn("internal"), senderThat(v6, ">= 100::", unix.NFT_CMP_GTE, []byte{1}), senderThat(v6, "< fe00::", unix.NFT_CMP_LT, []byte{0xfe}),
				noWay(unix.NFTA_FIB_F_SADDR, "saddr"), noWay(unix.NFTA_FIB_F_DADDR, "daddr"), counted(), drop),
		}},
		{"prerouting", "nat", unix.NF_INET_PRE_ROUTING, "prerouting", priorityDstnat, incoming},
		{"output", "nat", unix.NF_INET_LOCAL_OUT, "output", priorityDstnat, output},
		{"postrouting", "nat", unix.NF_INET_POST_ROUTING, "postrouting", prioritySrcnat, []nftRule{
			rule("the answer has to come back here", bothDevicesIn("same"), translated(), masquerade()),
			rule("a container's own port, where br_netfilter takes the way short", translated(), endsOf(v4, "hairpin4"), masquerade()),
			rule("", translated(), endsOf(v6, "hairpin6"), masquerade()),
			rule("", bothDevicesIn("same"), back),
			rule("", ofFamily4(), fromDeviceIn("masquerade4"), masquerade()),
			rule("", ofFamily6(), fromDeviceIn("masquerade6"), masquerade()),
			rule("from 127.0.0.1 to a container", toDeviceIn("bridges"), loopbackAt(ip4Source, "ip saddr"), masquerade()),
		}},
		{"forward", "filter", unix.NF_INET_FORWARD, "forward", priorityFilter, []nftRule{
			rule("what began by the rules below", known(), accept),
			rule("within a network", bothDevicesIn("together"), accept),
			rule("internal networks", fromDeviceIn("internal"), counted(), drop),
			rule("", toDeviceIn("internal"), counted(), drop),
			rule("published ports", toDeviceIn("bridges"), translated(), accept),
			rule("gateway mode routed", portIn(v4, "direct4"), accept),
			rule("", portIn(v6, "direct6"), accept),
			rule("", toDeviceIn("routed4"), ofProtocol(unix.IPPROTO_ICMP, "icmp"), accept),
			rule("", toDeviceIn("routed6"), ofProtocol(unix.IPPROTO_ICMPV6, "ipv6-icmp"), accept),
			rule("gateway mode nat-unprotected", ofFamily4(), toDeviceIn("unprotected4"), notFromDeviceIn("bridges"), accept),
			rule("", ofFamily6(), toDeviceIn("unprotected6"), notFromDeviceIn("bridges"), accept),
			rule("ports not published, other networks", toDeviceIn("bridges"), counted(), drop),
		}},
	}
}

// hash tells a rule from one that an administrator, or another version of this program, put in its place.
func (r nftRule) hash(chain string) []byte {
	h := fnv.New32a()
	h.Write([]byte(chain + " " + r.String()))
	return h.Sum(nil)
}

// Messages.

func newTable(name string) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_NEWTABLE, flags: unix.NLM_F_CREATE, family: unix.NFPROTO_INET, text: func() string { return "add table inet " + name }}
	m.body.str(unix.NFTA_TABLE_NAME, name)
	return m
}

func deleteTable(name string) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_DELTABLE, family: unix.NFPROTO_INET, text: func() string { return "delete table inet " + name }}
	m.body.str(unix.NFTA_TABLE_NAME, name)
	return m
}

func familyName(family byte) string {
	switch family {
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	}
	return "inet"
}

func newSet(n int, s nftSet) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_NEWSET, flags: unix.NLM_F_CREATE, family: unix.NFPROTO_INET}
	m.text = func() string {
		if len(s.data) > 0 {
			return "add map inet " + NftTable + " " + s.name + " { type " + nftTypeName(s.key) + " : " + nftTypeName(s.data) + "; }"
		}
		return "add set inet " + NftTable + " " + s.name + " { type " + nftTypeName(s.key) + "; }"
	}
	w := &m.body
	w.str(unix.NFTA_SET_TABLE, NftTable)
	w.str(unix.NFTA_SET_NAME, s.name)
	flags := uint32(0)
	if len(s.data) > 0 {
		flags = unix.NFT_SET_MAP
	}
	w.u32(unix.NFTA_SET_FLAGS, flags)
	w.u32(unix.NFTA_SET_KEY_TYPE, nftTypeID(s.key))
	w.u32(unix.NFTA_SET_KEY_LEN, uint32(nftSize(s.key)))
	if len(s.data) > 0 {
		w.u32(unix.NFTA_SET_DATA_TYPE, nftTypeID(s.data))
		w.u32(unix.NFTA_SET_DATA_LEN, uint32(nftSize(s.data)))
	}
	w.u32(unix.NFTA_SET_ID, uint32(n+1))
	if len(s.key) == 1 && s.key[0].name == nftDevice.name {
		w.bytes(unix.NFTA_SET_USERDATA, append([]byte{udataKeyByteOrder, 4}, binary.NativeEndian.AppendUint32(nil, byteOrderHost)...))
	}
	return m
}

func newChain(table string, c nftChain, policy uint32) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_NEWCHAIN, flags: unix.NLM_F_CREATE, family: unix.NFPROTO_INET}
	m.text = func() string {
		return "add chain inet " + table + " " + c.name + " { type " + c.kind + " hook " + c.hookName + " priority " + strconv.Itoa(int(c.priority)) + "; policy " + map[uint32]string{nfDrop: "drop", nfAccept: "accept"}[policy] + "; }"
	}
	w := &m.body
	w.str(unix.NFTA_CHAIN_TABLE, table)
	w.str(unix.NFTA_CHAIN_NAME, c.name)
	w.nest(unix.NFTA_CHAIN_HOOK, func() {
		w.u32(unix.NFTA_HOOK_HOOKNUM, c.hook)
		w.u32(unix.NFTA_HOOK_PRIORITY, uint32(c.priority))
	})
	w.u32(unix.NFTA_CHAIN_POLICY, policy)
	w.str(unix.NFTA_CHAIN_TYPE, c.kind)
	return m
}

func newRule(family byte, table, chain string, r nftRule) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_NEWRULE, flags: unix.NLM_F_CREATE | unix.NLM_F_APPEND, family: family}
	m.text = func() string { return "add rule " + familyName(family) + " " + table + " " + chain + " " + r.String() }
	w := &m.body
	w.str(unix.NFTA_RULE_TABLE, table)
	w.str(unix.NFTA_RULE_CHAIN, chain)
	w.nest(unix.NFTA_RULE_EXPRESSIONS, func() {
		for _, t := range r.terms {
			for _, e := range t.exprs {
				w.nest(unix.NFTA_LIST_ELEM, func() {
					w.str(unix.NFTA_EXPR_NAME, e.name)
					w.nest(unix.NFTA_EXPR_DATA, func() { *w = append(*w, e.data...) })
				})
			}
		}
	})
	var user []byte
	if r.comment != "" {
		user = append(user, udataComment, byte(len(r.comment)+1))
		user = append(append(user, r.comment...), 0)
	}
	w.bytes(unix.NFTA_RULE_USERDATA, append(append(user, udHash, 4), r.hash(chain)...))
	return m
}

// elementMessages adds or deletes elements of the host's table, by as few messages as hold them.
func elementMessages(kind uint16, elements []nftElement) []nftMessage {
	var list []nftMessage
	for len(elements) > 0 {
		n := 0
		m := nftMessage{kind: kind, family: unix.NFPROTO_INET}
		if kind == unix.NFT_MSG_NEWSETELEM {
			m.flags = unix.NLM_F_CREATE
		}
		w := &m.body
		set := elements[0].set
		w.str(unix.NFTA_SET_ELEM_LIST_TABLE, NftTable)
		w.str(unix.NFTA_SET_ELEM_LIST_SET, set)
		w.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
			for ; n < len(elements) && elements[n].set == set && len(*w) < 48<<10; n++ { // an attribute has 64 KiB
				e := &elements[n]
				w.nest(unix.NFTA_LIST_ELEM, func() {
					w.nest(unix.NFTA_SET_ELEM_KEY, func() { w.bytes(unix.NFTA_DATA_VALUE, []byte(e.key)) })
					if kind != unix.NFT_MSG_NEWSETELEM {
						return
					}
					if e.data != "" {
						w.nest(unix.NFTA_SET_ELEM_DATA, func() { w.bytes(unix.NFTA_DATA_VALUE, []byte(e.data)) })
					}
					if e.owner != "" {
						w.bytes(unix.NFTA_SET_ELEM_USERDATA, nftComment(e.owner))
					}
				})
			}
		})
		these := elements[:n]
		m.text = func() string {
			verb := "add element inet "
			if kind == unix.NFT_MSG_DELSETELEM {
				verb = "delete element inet "
			}
			text := verb + NftTable + " " + these[0].String()
			if len(these) > 1 {
				text += " and " + strconv.Itoa(len(these)-1) + " more"
			}
			return text
		}
		list = append(list, m)
		elements = elements[n:]
	}
	return list
}

// nftComment is user data with a comment: a kind, a length, and the text.
func nftComment(text string) []byte {
	text = text[:min(len(text), 250)]
	return append(append([]byte{udataComment, byte(len(text) + 1)}, text...), 0)
}

// readComment finds it.
func readComment(b []byte) (text string, hash []byte) {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		v := b[2 : 2+int(b[1])]
		switch b[0] {
		case udataComment:
			text = unix.ByteSliceToString(v)
		case udHash:
			hash = v
		}
		b = b[2+len(v):]
	}
	return text, hash
}

// tableMessages make the host's whole table, in the place of one that may be there.
func tableMessages(elements []nftElement) []nftMessage {
	list := []nftMessage{newTable(NftTable), deleteTable(NftTable), newTable(NftTable)}
	list[2].body.bytes(nftaTableUserdata, nftComment(nftLayout))
	for i, s := range nftSets {
		list = append(list, newSet(i, s))
	}
	for _, c := range nftChains() {
		list = append(list, newChain(NftTable, c, nfAccept))
		for _, r := range c.rules {
			list = append(list, newRule(unix.NFPROTO_INET, NftTable, c.name, r))
		}
	}
	return append(list, elementMessages(unix.NFT_MSG_NEWSETELEM, sortedBySet(elements))...)
}

// sortedBySet has elements of one set side by side.
func sortedBySet(elements []nftElement) []nftElement {
	sorted := make([]nftElement, 0, len(elements))
	for _, s := range nftSets {
		for _, e := range elements {
			if e.set == s.name {
				sorted = append(sorted, e)
			}
		}
	}
	return sorted
}
