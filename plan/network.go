package plan

import (
	"fmt"
	"strconv"

	"github.com/kakuri/kakuri/netip"
)

// A Network is how a container's own network namespace is connected: to which networks of the host,
// with which addresses, and which of its ports the host passes on. It has what the kernel
// needs, decided by the caller: no name is looked up and no address chosen while it is carried out.
type Network struct {
	// World has the host be the user's network world, for a caller without privileges: see [World].
	World bool `json:",omitempty"`
	// Forward4 and Forward6 have the host pass packets on between its devices: net.ipv4.ip_forward,
	// net.ipv6.conf.all.forwarding.
	Forward4, Forward6 bool
	// Bridges are devices of the host, made where they are not there.
	Bridges []Bridge
	// Parents are devices of the host that macvlans and ipvlans are made on, made where they are not there. One that is the host's own is not among them.
	Parents []Parent `json:",omitempty"`
	// Endpoints are the container's own devices.
	Endpoints []Endpoint
	// Gateway4 and Gateway6 are those of the default routes; the zero value is no such route.
	Gateway4, Gateway6 netip.Addr
	// Publish are ports of the host that lead to the container.
	Publish []Publish
	// Resolver, when set, has 127.0.0.11 inside answered by who made the container.
	Resolver *Resolver
	// Egress, when set, is what the container may begin to speak to.
	Egress *Egress `json:",omitempty"`
}

// A Bridge is a bridge(8) of the host that a network's containers are ports of.
type Bridge struct {
	Device  string // "kakuri0", of at most 15 bytes
	Network string // the network's name, for texts
	// Alias is the text by which the one that makes the bridge has it known as its own: ip-link(8). One that is there with another
	// engine's is refused. Empty is none.
	Alias string
	Addrs []netip.Prefix // of the bridge itself, which are the containers' gateways: 172.17.0.1/16
	MTU   int            // bytes; 0 is the kernel's, 1500
	// Internal has nothing pass between the network and other devices of the host.
	Internal bool
	// ICC lets its containers reach each other.
	ICC bool
	// Masquerade4 and Masquerade6 give what leaves the network by another device that device's address.
	Masquerade4, Masquerade6 bool
	// Routed4 and Routed6 have others reach its containers at their own addresses: see [Publish.Routed].
	Routed4, Routed6 bool
	// Unprotected4 and Unprotected6 have other machines that know a way there reach all ports of its containers.
	Unprotected4, Unprotected6 bool
}

// A Parent is a device of the host that is there for a network's macvlans or ipvlans alone: a VLAN of another device, or one of the type dummy, which leads nowhere: ip-link(8).
type Parent struct {
	Device  string // "eth0.50", of at most 15 bytes
	Network string // the network's name, for texts
	Alias   string // by which it is known whose it is, as a bridge's
	Link    string // the device that it is a VLAN of; empty has it be a dummy
	VLAN    int    // its number, 1 to 4094
}

// Drivers of an [Endpoint].
const (
	DriverBridge  = "bridge"  // one end of a veth(4), whose other one is a port of a bridge
	DriverMacvlan = "macvlan" // a device of the host with one more MAC address
	DriverIPvlan  = "ipvlan"  // a device of the host with one more IP address
)

// An Endpoint is one device of the container.
type Endpoint struct {
	Network string // the network's name, for texts
	Driver  string // [DriverBridge] and its like
	Bridge  string // the host's bridge, of DriverBridge
	Parent  string // the host's device, of the others
	// Mode is bridge (the default), private, vepa or passthru of macvlan, l2 (the default), l3 or l3s of
	// ipvlan; a flag may follow ipvlan's: "l2,private".
	Mode string
	// HostDevice is the name of the veth's end on the host, of at most 15 bytes. [HostDevice] makes one.
	HostDevice string
	Device     string // inside: "eth0"
	MAC        MAC    // the zero value leaves it to the kernel
	Addrs      []netip.Prefix
	Routes     []Route // besides those that the addresses bring
	MTU        int     // bytes; 0 is the kernel's
	// Isolated cuts it off from other isolated endpoints of the bridge, whose containers are not to talk.
	Isolated bool
	// Nameless is on a network where nobody is known by name.
	Nameless bool `json:",omitempty"`
	// Sysctls of the device, by names without it: "net.ipv4.conf.IFNAME.log_martians" has Docker's word in the
	// device's place.
	Sysctls map[string]string
}

// A Route leads to a network by a gateway, or without one by the device itself.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// A MAC is an Ethernet address. The zero value is none.
type MAC [6]byte

// String is six pairs of digits: "02:42:ac:11:00:02".
func (m MAC) String() string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 17)
	for i, v := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, digits[v>>4], digits[v&15])
	}
	return string(b)
}

// ParseMAC reads what String writes, or with dashes. It refuses addresses of groups, which no
// device may have.
func ParseMAC(s string) (m MAC, err error) {
	refuse := func(why string) (MAC, error) {
		return MAC{}, fmt.Errorf("%q is no MAC address: %s", s, why)
	}
	if len(s) != 17 {
		return refuse("one has six pairs of digits, as 02:42:ac:11:00:02")
	}
	for i := range m {
		v, err := strconv.ParseUint(s[3*i:3*i+2], 16, 8)
		if err != nil || i > 0 && s[3*i-1] != ':' && s[3*i-1] != '-' {
			return refuse("one has six pairs of digits, as 02:42:ac:11:00:02")
		}
		m[i] = byte(v)
	}
	if m[0]&1 != 0 || m == (MAC{}) {
		return refuse("a device's first byte is even, and one of them is not 0")
	}
	return m, nil
}

// MarshalText is String; the zero value is empty.
func (m MAC) MarshalText() ([]byte, error) {
	if m == (MAC{}) {
		return []byte{}, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (m *MAC) UnmarshalText(text []byte) (err error) {
	*m = MAC{}
	if len(text) > 0 {
		*m, err = ParseMAC(string(text))
	}
	return err
}

// A Publish is a port of the host that leads to one of the container's.
type Publish struct {
	Proto string // tcp, udp or sctp
	// HostAddr is where the host listens: one of its addresses, or 0.0.0.0 or :: for all of that family.
	HostAddr netip.Addr
	HostPort uint16
	Addr     netip.Addr // of the container
	Port     uint16
	// Strict delivers by a socket of the host, so that the host's rules for what comes in apply to the port as well. The container sees the
	// host's address as the sender's.
	Strict bool
	// Routed has no port of the host lead there: it opens the container's port to others who know a way to its address. HostAddr is of
	// its family, and HostPort 0.
	Routed bool   `json:",omitempty"`
	Bridge string // the device by which the container is reached
}

// String is as docker ps has it: "0.0.0.0:8080->80/tcp". A port that is routed has the container's address: "172.17.0.2:80/tcp".
func (p Publish) String() string {
	if p.Routed {
		return HostPort(p.Addr, p.Port) + "/" + p.Proto
	}
	return HostPort(p.HostAddr, p.HostPort) + "->" + strconv.Itoa(int(p.Port)) + "/" + p.Proto
}

// HostPort joins an address and a port: "[::1]:80".
func HostPort(a netip.Addr, port uint16) string {
	s := a.String()
	if a.Is6() {
		s = "[" + s + "]"
	}
	return s + ":" + strconv.Itoa(int(port))
}

// A Resolver is a server for names inside. Nothing is asked of the namespace but that 127.0.0.11:53 leads to sockets
// that are made in it; who answers on them is not the plan's.
type Resolver struct{}

// ResolverAddr is where the container finds it.
func ResolverAddr() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// HostDevice is the name of the veth's end on the host for endpoint n of a container, from 0: "vk", eight digits of its ID, and
// a letter for n.
func HostDevice(id string, n int) string {
	return "vk" + id[:min(8, len(id))] + string(rune('a'+n%26)) + numbered(n/26)
}

func numbered(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
