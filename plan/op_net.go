package plan

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/netip"
)

// SetForwarding has the host pass packets on between its devices. What the host itself takes from router
// advertisements it goes on taking: net.ipv6.conf.DEVICE.accept_ra becomes 2 where it is 1.
type SetForwarding struct {
	hands
	V4, V6 bool
}

// Name implements [Op].
func (*SetForwarding) Name() string { return "set forwarding" }

// String implements [Op].
func (s *SetForwarding) String() string {
	var keys []string
	if s.V4 {
		keys = append(keys, "net.ipv4.ip_forward")
	}
	if s.V6 {
		keys = append(keys, "net.ipv6.conf.all.forwarding")
	}
	return "write 1 " + words(keys...)
}

// MakeBridge makes a bridge of the host, or sees that one of that name is what it has to be: up, with its
// addresses. Others use it, so nothing undoes it but [RemoveBridge], with its network.
type MakeBridge struct {
	hands
	Bridge Bridge
}

// Name implements [Op].
func (*MakeBridge) Name() string { return "make bridge" }

// String implements [Op].
func (m *MakeBridge) String() string {
	return words("rtm_newlink", quote(m.Bridge.Device)+",", "bridge"+mtuText(m.Bridge.MTU)+", up", prefixes(m.Bridge.Addrs))
}

// RemoveBridge removes a bridge of the host, if it has the alias that it was made with.
type RemoveBridge struct {
	hands
	Device string
	Alias  string // empty: whatever it has
}

// Name implements [Op].
func (*RemoveBridge) Name() string { return "remove bridge" }

// String implements [Op].
func (r *RemoveBridge) String() string { return "rtm_dellink " + quote(r.Device) }

// MakeParent makes a device of the host that others are made on, or sees that there is one of that name, whoever made it. It goes with its network.
type MakeParent struct {
	hands
	Parent Parent
}

// Name implements [Op].
func (*MakeParent) Name() string { return "make parent" }

// String implements [Op].
func (m *MakeParent) String() string {
	kind := "dummy"
	if m.Parent.Link != "" {
		kind = "vlan " + strconv.Itoa(m.Parent.VLAN) + " of " + quote(m.Parent.Link)
	}
	return "rtm_newlink " + quote(m.Parent.Device) + ", " + kind + ", up"
}

// MakeRules puts what is to be held back, and given another address, between these bridges and the
// world into the host's nftables(8), where it is not there: one table for all containers.
type MakeRules struct {
	hands
	Bridges []Bridge
}

// Name implements [Op].
func (*MakeRules) Name() string { return "make rules" }

// String implements [Op].
func (m *MakeRules) String() string {
	text := "nft table inet kakuri"
	for _, b := range m.Bridges {
		text += ", " + quote(b.Device)
		for _, a := range b.Addrs {
			text += " " + a.Masked().String()
			for _, way := range []struct {
				v4, v6 bool
				word   string
			}{
				{b.Masquerade4, b.Masquerade6, " masquerade"}, {b.Routed4, b.Routed6, " routed"}, {b.Unprotected4, b.Unprotected6, " unprotected"},
			} {
				if way.v4 && a.Addr().Is4() || way.v6 && a.Addr().Is6() {
					text += way.word
				}
			}
		}
		if b.Internal {
			text += " internal"
		}
		if !b.ICC {
			text += " isolated"
		}
	}
	return text
}

// HoldPorts binds the host's ports, of those that are not routed, so that no other program gets them while the container
// has them. Who launches it keeps the sockets.
type HoldPorts struct {
	hands
	Ports []Publish
}

// Name implements [Op].
func (*HoldPorts) Name() string { return "hold ports" }

// String implements [Op].
func (h *HoldPorts) String() string {
	var list []string
	for _, p := range h.Ports {
		if !p.Routed {
			list = append(list, HostPort(p.HostAddr, p.HostPort)+"/"+p.Proto)
		}
	}
	return OneLine(words("bind", strings.Join(list, " ")))
}

// PublishPorts has the host's ports lead to the container.
type PublishPorts struct {
	hands
	Owner string // the container's ID
	Ports []Publish
}

// Name implements [Op].
func (*PublishPorts) Name() string { return "publish ports" }

// String implements [Op].
func (p *PublishPorts) String() string {
	var dnat, accept []string
	for _, port := range p.Ports {
		if port.Routed {
			accept = append(accept, port.String())
			continue
		}
		dnat = append(dnat, HostPort(port.HostAddr, port.HostPort)+"->"+HostPort(port.Addr, port.Port)+"/"+port.Proto)
	}
	text := "nft"
	if len(dnat) > 0 {
		text = words(text, "dnat", strings.Join(dnat, " "))
	}
	if len(accept) > 0 {
		text = words(text, "accept", strings.Join(accept, " "))
	}
	return OneLine(text)
}

// UplinkPorts has kakuri-uplink listen for the host's ports, and pass on what comes to them into the network world: see [World]. A port that
// somebody else has is an error.
type UplinkPorts struct {
	hands
	Owner string // the container's ID
	Ports []Publish
}

// Name implements [Op].
func (*UplinkPorts) Name() string { return "uplink ports" }

// String implements [Op].
func (p *UplinkPorts) String() string {
	return strings.Replace((&PublishPorts{Ports: p.Ports}).String(), "nft dnat", "kakuri-uplink listens", 1)
}

// UnpublishPorts takes back what [PublishPorts] or [UplinkPorts] did for a container.
type UnpublishPorts struct {
	hands
	Owner string
}

// Name implements [Op].
func (*UnpublishPorts) Name() string { return "unpublish ports" }

// String implements [Op].
func (u *UnpublishPorts) String() string { return words("nft delete dnat of", quote(u.Owner)) }

// ServeNames makes sockets for a server of names in the container's network namespace, and has 127.0.0.11:53 there
// lead to them. Who launches it keeps the sockets.
type ServeNames struct{ hands }

// Name implements [Op].
func (*ServeNames) Name() string { return "serve names" }

// String implements [Op].
func (*ServeNames) String() string {
	return "socket, bind 127.0.0.11, nft redirect 127.0.0.11:53 to it, inside"
}

// MakeVeth makes a veth(4) with one end in the container's network namespace and the other one
// a port of a bridge, with one message. The namespace's end takes both along.
type MakeVeth struct {
	hands
	HostDevice, Bridge string
	Isolated           bool   // from other isolated ports of the bridge
	Device             string // inside
	MAC                MAC    // inside; the zero value leaves it to the kernel
	MTU                int    // bytes; 0 is the kernel's
}

// Name implements [Op].
func (*MakeVeth) Name() string { return "make veth" }

// String implements [Op].
func (m *MakeVeth) String() string {
	text := "rtm_newlink " + quote(m.HostDevice) + ", veth" + mtuText(m.MTU) + ", up, port of " + quote(m.Bridge)
	if m.Isolated {
		text += " isolated"
	}
	return text + ", inside " + quote(m.Device) + macText(m.MAC)
}

// MakeMacvlan makes a device with a MAC address of its own on a device of the host, in the container's network
// namespace: ip-link(8), macvlan.
type MakeMacvlan struct {
	hands
	Parent string
	Mode   string // bridge, private, vepa or passthru
	Device string // inside
	MAC    MAC
	MTU    int
}

// Name implements [Op].
func (*MakeMacvlan) Name() string { return "make macvlan" }

// String implements [Op].
func (m *MakeMacvlan) String() string {
	return "rtm_newlink " + quote(m.Device) + ", macvlan " + quote(m.Mode) + " of " + quote(m.Parent) + mtuText(m.MTU) + ", inside" + macText(m.MAC)
}

// MakeIPvlan makes a device with the MAC address of a device of the host, in the container's network
// namespace: ip-link(8), ipvlan.
type MakeIPvlan struct {
	hands
	Parent string
	Mode   string // l2, l3 or l3s, and after a comma private or vepa
	Device string // inside
	MTU    int
}

// Name implements [Op].
func (*MakeIPvlan) Name() string { return "make ipvlan" }

// String implements [Op].
func (m *MakeIPvlan) String() string {
	return "rtm_newlink " + quote(m.Device) + ", ipvlan " + quote(m.Mode) + " of " + quote(m.Parent) + mtuText(m.MTU) + ", inside"
}

// DeviceSysctl writes a kernel parameter of one device in the container's network namespace.
type DeviceSysctl struct {
	hands
	Device   string
	Key      string // "net.ipv4.conf.IFNAME.log_martians": the device's name is in the place of that word
	Value    string
	Optional bool `json:",omitempty"` // a kernel without it, as one without IPv6, does what is asked for
}

// Path is the parameter's file below /proc/sys. A device's name may have dots, and no slash.
func (d *DeviceSysctl) Path() string {
	parts := strings.Split(d.Key, ".")
	for i, p := range parts {
		if p == "IFNAME" {
			parts[i] = d.Device
		}
	}
	return strings.Join(parts, "/")
}

// Name implements [Op].
func (*DeviceSysctl) Name() string { return "device sysctl" }

// String implements [Op].
func (d *DeviceSysctl) String() string {
	return fmt.Sprintf("write /proc/sys/%s %q, inside", OneLine(d.Path()), d.Value)
}

// LinkUp sets a device of the container's network namespace up.
type LinkUp struct {
	hands
	Device string
}

// Name implements [Op].
func (*LinkUp) Name() string { return "link up" }

// String implements [Op].
func (l *LinkUp) String() string { return "rtm_newlink " + quote(l.Device) + " up, inside" }

// AddAddress gives an address to a device of the container's network namespace. It is in use at
// once: nobody is asked whether another one has it (IFA_F_NODAD).
type AddAddress struct {
	hands
	Device string
	Addr   netip.Prefix
}

// Name implements [Op].
func (*AddAddress) Name() string { return "add address" }

// String implements [Op].
func (a *AddAddress) String() string {
	return "rtm_newaddr " + a.Addr.String() + " " + quote(a.Device) + ", inside"
}

// Announce has the kernel tell the neighbours of a device of the container's network namespace which MAC its addresses have, by ARP (RFC 5227, "announcement") and Neighbour Discovery (RFC
// 4861, section 7.2.6, where the device's parameter ndisc_notify says so): they may know another one, of who had the address before, and would send there until they have tried in
// vain for long enough.
type Announce struct {
	hands
	Device string
}

// Name implements [Op].
func (*Announce) Name() string { return "announce" }

// String implements [Op].
func (a *Announce) String() string {
	return "rtm_newlink " + quote(a.Device) + " arp_notify, and with the MAC that it has, of which the kernel tells its neighbours, inside"
}

// AddRoute adds a route to the container's network namespace.
type AddRoute struct {
	hands
	To     netip.Prefix // 0.0.0.0/0 and ::/0 are the default routes
	Via    netip.Addr   // the gateway; the zero value is none
	Device string       // by which it goes; empty where Via tells
}

// Name implements [Op].
func (*AddRoute) Name() string { return "add route" }

// String implements [Op].
func (r *AddRoute) String() string {
	return "rtm_newroute " + routeText(r.To, r.Via, r.Device) + ", inside"
}

// routeText is a route as ip-route(8) has it.
func routeText(to netip.Prefix, via netip.Addr, device string) string {
	text := to.String()
	if to.Bits() == 0 && via.IsValid() {
		text = "default"
	}
	if via.IsValid() {
		text += " via " + via.String()
	}
	if device != "" {
		text += " dev " + quote(device)
	}
	return text
}

func prefixes(list []netip.Prefix) string {
	var texts []string
	for _, p := range list {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, " ")
}

func mtuText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" mtu %d", n)
}

func macText(m MAC) string {
	if m == (MAC{}) {
		return ""
	}
	return " " + m.String()
}
