package network

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

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
	{"gateless4", []datatype{nftDevice}, nil}, // internal ones where this machine has no address
	{"gateless6", []datatype{nftDevice}, nil},
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
		{"gateless4", gateless(b, ipv4()), nftKey(device)},
		{"gateless6", gateless(b, ipv6()), nftKey(device)},
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

// gateless tells an internal bridge without an address of a family: what its containers send by that is for each other.
func gateless(b plan.Bridge, f ipFamily) bool {
	return b.Internal && !slices.ContainsFunc(b.Addrs, func(p netip.Prefix) bool { return f.has(p.Addr()) })
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
		host, to, family := p.HostAddr.AsSlice(), p.Addr.AsSlice(), familyOf(p.HostAddr).digit
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
			list = append(list, nftElement{set: "direct" + familyOf(p.Addr).digit, key: nftKey([]byte{proto}, to, nftPort(p.Port)), owner: owner})
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
		if !slices.Contains(hairpin, p.Addr) {
			hairpin = append(hairpin, p.Addr)
			list = append(list, nftElement{set: "hairpin" + family, key: nftKey(to, to), owner: owner})
		}
	}
	return list
}
