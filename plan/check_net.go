package plan

import (
	"strings"

	"github.com/kakuri/kakuri/netip"
)

// ForwardingCheck asks that the host passes packets on.
type ForwardingCheck struct{ V4, V6 bool }

// Kind implements [Check].
func (*ForwardingCheck) Kind() string { return "forwarding" }

// Property implements [Check].
func (*ForwardingCheck) Property() string { return "the host forwards" }

// Asked implements [Check].
func (c *ForwardingCheck) Asked() string {
	v4, v6 := "", ""
	if c.V4 {
		v4 = "IPv4"
	}
	if c.V6 {
		v6 = "IPv6"
	}
	return words(v4, v6)
}

// BridgeCheck asks for a bridge of the host, with addresses.
type BridgeCheck struct {
	Device string
	Addrs  []netip.Prefix
}

// Kind implements [Check].
func (*BridgeCheck) Kind() string { return "bridge" }

// Property implements [Check].
func (c *BridgeCheck) Property() string { return "host's bridge " + OneLine(c.Device) }

// Asked implements [Check].
func (c *BridgeCheck) Asked() string { return words("up", prefixes(c.Addrs)) }

// InterfaceCheck asks for a device in the container's network namespace, of the type Driver. Empty fields are not
// asked for.
type InterfaceCheck struct {
	Device             string
	Driver             string // as the kernel calls it: veth, macvlan, ipvlan
	MAC                MAC
	MTU                int
	HostDevice, Bridge string // the veth's other end, and whose port it is
	Isolated           bool
}

// Kind implements [Check].
func (*InterfaceCheck) Kind() string { return "interface" }

// Property implements [Check].
func (c *InterfaceCheck) Property() string { return "network interface " + OneLine(c.Device) }

// Asked implements [Check].
func (c *InterfaceCheck) Asked() string {
	text := c.Driver + macText(c.MAC) + mtuText(c.MTU)
	if c.HostDevice != "" {
		text += ", other end " + OneLine(c.HostDevice)
	}
	if c.Bridge != "" {
		text += ", port of " + OneLine(c.Bridge)
	}
	if c.Isolated {
		text += " isolated"
	}
	return text
}

// AddressCheck asks for an address of a device in the container's network namespace.
type AddressCheck struct {
	Device string
	Addr   netip.Prefix
}

// Kind implements [Check].
func (*AddressCheck) Kind() string { return "address" }

// Property implements [Check].
func (c *AddressCheck) Property() string { return "address of " + OneLine(c.Device) }

// Asked implements [Check].
func (c *AddressCheck) Asked() string { return c.Addr.String() }

// RouteCheck asks for a route in the container's network namespace.
type RouteCheck struct {
	To     netip.Prefix
	Via    netip.Addr
	Device string
}

// Kind implements [Check].
func (*RouteCheck) Kind() string { return "route" }

// Property implements [Check].
func (c *RouteCheck) Property() string { return "route to " + c.To.String() }

// Asked implements [Check].
func (c *RouteCheck) Asked() string {
	_, by, _ := strings.Cut(OneLine(routeText(c.To, c.Via, c.Device)), " ")
	return by
}

// RulesCheck asks for what [MakeRules] puts into the host's nftables(8).
type RulesCheck struct{ Bridges []Bridge }

// Kind implements [Check].
func (*RulesCheck) Kind() string { return "rules" }

// Property implements [Check].
func (*RulesCheck) Property() string { return "host's rules" }

// Asked implements [Check].
func (c *RulesCheck) Asked() string { return (&MakeRules{Bridges: c.Bridges}).String() }

// PublishedCheck asks that ports of the host lead to the container.
type PublishedCheck struct {
	Owner string
	Ports []Publish
}

// Kind implements [Check].
func (*PublishedCheck) Kind() string { return "published ports" }

// Property implements [Check].
func (*PublishedCheck) Property() string { return "published ports" }

// Asked implements [Check].
func (c *PublishedCheck) Asked() string { return (&PublishPorts{Ports: c.Ports}).String() }

// NamesCheck asks for a server at 127.0.0.11 inside that knows a name for each of these addresses of the container.
type NamesCheck struct{ Addrs []netip.Addr }

// Kind implements [Check].
func (*NamesCheck) Kind() string { return "names" }

// Property implements [Check].
func (*NamesCheck) Property() string { return "server for names " + ResolverAddr().String() }

// Asked implements [Check].
func (c *NamesCheck) Asked() string {
	list := make([]string, len(c.Addrs))
	for i, a := range c.Addrs {
		list[i] = a.String()
	}
	if len(list) == 0 {
		return "answers questions"
	}
	return OneLine(words("answers", strings.Join(list, " ")))
}
