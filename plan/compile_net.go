package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/netip"
)

// connectedWord is what the runtime's side says when the network namespace is connected.
const connectedWord = "network connected"

// ConnectSteps are what connects a network namespace that is there: of a container that runs, by
// its ID. They are the same as in a plan of [Compile].
func ConnectSteps(n Network, id string) ([]Step, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	w := &wiring{n: &n, id: id, cause: func(_, otherwise string) Cause { return because("%s", otherwise) }}
	w.host()
	w.inside()
	return w.steps, nil
}

// prepareNetwork has done what the host needs before there is a container.
func (c *compiler) prepareNetwork() error {
	n := c.o.Network
	if n == nil {
		return nil
	}
	if !c.isNew(abi.NSNetwork) {
		return specErr("linux.namespaces", "a container is connected to networks in a network namespace of its own, and this one has none")
	}
	if c.o.ID == "" {
		return netErr("network", "a container without an ID is connected to no network: its rules are known by that")
	}
	if err := n.Check(); err != nil {
		return err
	}
	w := c.wiring()
	w.host()
	c.plan.Steps = append(c.plan.Steps, w.steps...)
	return nil
}

// connect has the namespace connected, by the runtime's side alone: the container's goes on meanwhile, and
// waits before its end.
func (c *compiler) connect() {
	if c.o.Network == nil {
		return
	}
	w := c.wiring()
	w.inside()
	c.plan.Steps = append(c.plan.Steps, w.steps...)
	c.connecting = len(w.steps) > 0
}

// connected has the container's side wait for its network at once where it has to.
func (c *compiler) connected() {
	if slices.Contains(c.late, abi.NSNetwork) && c.o.Network != nil {
		c.inside(&Sync{From: Container, What: "in the network namespace"}, because("it is connected there"), nil)
		c.connect()
	} else if !c.connecting || !slices.ContainsFunc(sortedKeys(c.linux.Sysctl), ofDevices) {
		return
	}
	c.outside(&Sync{From: Runtime, What: connectedWord}, because("the container's side waits until then"), nil)
	c.connecting = false
}

// ofDevices tells kernel parameters that a device is made with, or that are a device's.
func ofDevices(key string) bool {
	p := strings.Split(sysctlPath(key), "/")
	return len(p) > 2 && p[0] == "net" && (p[2] == "conf" || p[2] == "neigh")
}

func (c *compiler) wiring() *wiring {
	return &wiring{n: c.o.Network, id: c.o.ID, cause: func(field, otherwise string) Cause {
		if why := c.cause(field).Reason; why != "" {
			otherwise = why
		}
		return because("%s", otherwise)
	}}
}

// A wiring makes the steps that connect one network namespace.
type wiring struct {
	n     *Network
	id    string
	cause func(field, otherwise string) Cause
	steps []Step
}

func (w *wiring) add(op Op, cause Cause, check Check, undo Op) {
	w.steps = append(w.steps, Step{Op: op, Cause: cause, Check: check, Undo: undo})
}

// host is what comes before there is a namespace.
func (w *wiring) host() {
	n := w.n
	if n.World {
		w.add(&World{}, w.cause("network", "an ordinary user's containers are connected to networks of the user's own"), nil, nil)
	}
	if n.Forward4 || n.Forward6 {
		w.add(&SetForwarding{V4: n.Forward4, V6: n.Forward6}, w.cause("network", "containers reach others by the host"), &ForwardingCheck{V4: n.Forward4, V6: n.Forward6}, nil)
	}
	for _, b := range n.Bridges {
		w.add(&MakeBridge{Bridge: b}, w.cause("network", "network "+quote(b.Network)), &BridgeCheck{Device: b.Device, Addrs: b.Addrs}, nil)
	}
	for _, p := range n.Parents {
		w.add(&MakeParent{Parent: p}, w.cause("network", "network "+quote(p.Network)), nil, nil)
	}
	if len(n.Bridges) > 0 {
		w.add(&MakeRules{Bridges: n.Bridges}, w.cause("network", "networks are apart, and reached by published ports only"), &RulesCheck{Bridges: n.Bridges}, nil)
	}
	if len(n.Publish) > 0 && n.World {
		w.add(&UplinkPorts{Owner: w.id, Ports: n.Publish}, w.cause("network.publish", "published ports"), nil, &UnpublishPorts{Owner: w.id})
	} else if slices.ContainsFunc(n.Publish, func(p Publish) bool { return !p.Routed }) {
		w.add(&HoldPorts{Ports: n.Publish}, w.cause("network.publish", "published ports"), nil, nil)
	}
}

// inside is what is done to the namespace, and to the host for it.
func (w *wiring) inside() {
	n := w.n
	if n.Egress != nil { // before there is a device to speak by
		w.add(&LimitEgress{Egress: *n.Egress}, w.cause("network.egress", "what may be reached"), &EgressCheck{Egress: *n.Egress}, nil)
	}
	for i := range n.Endpoints {
		w.endpoint(fmt.Sprintf("network.endpoints[%d]", i), &n.Endpoints[i])
	}
	for _, gateway := range []netip.Addr{n.Gateway4, n.Gateway6} {
		if !gateway.IsValid() {
			continue
		}
		to := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if gateway.Is6() {
			to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		w.add(&AddRoute{To: to, Via: gateway}, w.cause("network", "the way to all others"), &RouteCheck{To: to, Via: gateway}, nil)
	}
	if len(n.Publish) > 0 && !n.World {
		w.add(&PublishPorts{Owner: w.id, Ports: n.Publish}, w.cause("network.publish", "published ports"), &PublishedCheck{Owner: w.id, Ports: n.Publish}, &UnpublishPorts{Owner: w.id})
	}
	if n.Resolver != nil {
		w.add(&LinkUp{Device: "lo"}, because("the server for names has an address of lo"), &NetDeviceCheck{Name: "lo", Up: true}, nil)
		w.add(&ServeNames{}, w.cause("network", "containers of a network know each other's names"), n.named(), nil)
	}
}

// named asks for the names of the container's own addresses, which its networks have: all but the nameless ones, and not of addresses that mean
// something on their link only. One that may not reach everything need not be told its own.
func (n *Network) named() *NamesCheck {
	c := &NamesCheck{}
	if n.Egress != nil {
		return c
	}
	for _, e := range n.Endpoints {
		for _, a := range e.Addrs {
			if !e.Nameless && !a.Addr().IsLinkLocalUnicast() {
				c.Addrs = append(c.Addrs, a.Addr())
			}
		}
	}
	return c
}

func (w *wiring) endpoint(field string, e *Endpoint) {
	cause := w.cause(field, "network "+quote(e.Network))
	check := &InterfaceCheck{Device: e.Device, Driver: e.Driver, MAC: e.MAC, MTU: e.MTU}
	switch e.Driver {
	case DriverBridge:
		check.Driver, check.HostDevice, check.Bridge, check.Isolated = "veth", e.HostDevice, e.Bridge, e.Isolated
		w.add(&MakeVeth{HostDevice: e.HostDevice, Bridge: e.Bridge, Isolated: e.Isolated, Device: e.Device, MAC: e.MAC, MTU: e.MTU}, cause, check, nil)
	case DriverMacvlan:
		w.add(&MakeMacvlan{Parent: e.Parent, Mode: e.mode(), Device: e.Device, MAC: e.MAC, MTU: e.MTU}, cause, check, nil)
	case DriverIPvlan:
		w.add(&MakeIPvlan{Parent: e.Parent, Mode: e.mode(), Device: e.Device, MTU: e.MTU}, cause, check, nil)
	}
	v6 := slices.ContainsFunc(e.Addrs, func(p netip.Prefix) bool { return p.Addr().Is6() })
	sysctl := func(key, value string, why Cause, optional bool) {
		s := &DeviceSysctl{Device: e.Device, Key: key, Value: value, Optional: optional}
		w.add(s, why, &SysctlCheck{Key: s.Path(), Value: value, Optional: optional}, nil)
	}
	switch {
	case !v6:
		sysctl("net.ipv6.conf.IFNAME.disable_ipv6", "1", because("default: a network without IPv6 brings no addresses of its neighbours' making"), true)
	case e.Driver == DriverBridge:
		sysctl("net.ipv6.conf.IFNAME.accept_ra", "0", because("default: a neighbour is no router"), true)
		// For a second or two after its start nothing could be bound to the link-local address, and servers that listen at each address leave it out, or end.
		if e.Sysctls["net.ipv6.conf.IFNAME.accept_dad"] == "" {
			sysctl("net.ipv6.conf.IFNAME.accept_dad", "0", because("default: a MAC is one container's, so no address waits for an answer"), true)
		}
	}
	// One of ipvlan has its parent's MAC, which the link knows.
	announced := len(e.Addrs) > 0 && e.Driver != DriverIPvlan && e.Sysctls["net.ipv4.conf.IFNAME.arp_notify"] == ""
	if announced && v6 && e.Sysctls["net.ipv6.conf.IFNAME.ndisc_notify"] == "" {
		sysctl("net.ipv6.conf.IFNAME.ndisc_notify", "1", cause, true)
	}
	for _, key := range sortedKeys(e.Sysctls) {
		sysctl(key, e.Sysctls[key], cause, false)
	}
	w.add(&LinkUp{Device: e.Device}, cause, &NetDeviceCheck{Name: e.Device, Up: true}, nil)
	for _, a := range e.Addrs {
		w.add(&AddAddress{Device: e.Device, Addr: a}, cause, &AddressCheck{Device: e.Device, Addr: a}, nil)
	}
	if announced {
		w.add(&Announce{Device: e.Device}, cause, nil, nil)
	}
	for _, r := range e.Routes {
		w.add(&AddRoute{To: r.To, Via: r.Via, Device: e.Device}, cause, &RouteCheck{To: r.To, Via: r.Via, Device: e.Device}, nil)
	}
}

// mode is the endpoint's, by its name.
func (e *Endpoint) mode() string {
	switch {
	case e.Mode != "":
		return e.Mode
	case e.Driver == DriverIPvlan:
		return "l2"
	}
	return "bridge"
}

// Modes lists the words that [Endpoint.Mode] may be for a driver.
func Modes(driver string) []string {
	switch driver {
	case DriverMacvlan:
		return []string{"bridge", "private", "vepa", "passthru"}
	case DriverIPvlan:
		return []string{"l2", "l3", "l3s", "l2,private", "l2,vepa", "l3,private", "l3,vepa", "l3s,private", "l3s,vepa"}
	}
	return []string{""}
}

// Check refuses what the kernel would, or would take for something else, before anything is
// made. The error begins with the path of its fault: "network.endpoints[0].device".
func (n *Network) Check() error {
	for i, b := range n.Bridges {
		if err := b.check(fmt.Sprintf("network.bridges[%d]", i)); err != nil {
			return err
		}
	}
	seen := map[string]bool{"lo": true}
	for i := range n.Endpoints {
		e, field := &n.Endpoints[i], fmt.Sprintf("network.endpoints[%d]", i)
		if err := e.check(field); err != nil {
			return err
		}
		if seen[e.Device] {
			return netErr(field+".device", "a second device of the name %s", e.Device)
		}
		seen[e.Device] = true
	}
	if n.Gateway4.IsValid() && !n.Gateway4.Is4() || n.Gateway6.IsValid() && !n.Gateway6.Is6() {
		return netErr("network.gateway", "%v is to be IPv4, %v IPv6", n.Gateway4, n.Gateway6)
	}
	if n.Egress != nil {
		if err := n.Egress.Check(); err != nil {
			return err
		}
	}
	for i, p := range n.Publish {
		if err := p.check(fmt.Sprintf("network.publish[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

// netErr is of a value that no config.json has.
func netErr(field, format string, args ...any) error {
	return errors.New(OneLine(field + ": " + fmt.Sprintf(format, args...)))
}

func (b *Bridge) check(field string) error {
	if err := CheckDeviceName(field+".device", b.Device); err != nil {
		return err
	}
	for _, a := range b.Addrs {
		if err := deviceAddr(field+".addrs", a); err != nil {
			return err
		}
	}
	return checkMTU(field, b.MTU, b.Addrs)
}

func (e *Endpoint) check(field string) error {
	names := []struct{ field, name string }{{".device", e.Device}}
	switch e.Driver {
	case DriverBridge:
		names = append(names, struct{ field, name string }{".bridge", e.Bridge}, struct{ field, name string }{".hostDevice", e.HostDevice})
	case DriverMacvlan, DriverIPvlan:
		names = append(names, struct{ field, name string }{".parent", e.Parent})
		if modes := Modes(e.Driver); !slices.Contains(modes, e.mode()) {
			return netErr(field+".mode", "%s has no mode %q: it has %s", e.Driver, e.Mode, strings.Join(modes, " "))
		}
	default:
		return netErr(field+".driver", "there is no driver %q: there are %s, %s and %s", e.Driver, DriverBridge, DriverMacvlan, DriverIPvlan)
	}
	for _, n := range names {
		if err := CheckDeviceName(field+n.field, n.name); err != nil {
			return err
		}
	}
	if e.MAC[0]&1 != 0 {
		return netErr(field+".mac", "%v is the address of a group: the first byte of a device's is even", e.MAC)
	}
	for _, a := range e.Addrs {
		if err := deviceAddr(field+".addrs", a); err != nil {
			return err
		}
	}
	for _, r := range e.Routes {
		if !r.To.IsValid() || r.To != r.To.Masked() || r.Via.IsValid() && r.Via.Is4() != r.To.Addr().Is4() {
			return netErr(field+".routes", "%v by %v is no route: a network without bits of a host, and a gateway of its family", r.To, r.Via)
		}
	}
	for _, key := range sortedKeys(e.Sysctls) {
		if err := deviceSysctl(field+".sysctls", key); err != nil {
			return err
		}
	}
	return checkMTU(field, e.MTU, e.Addrs)
}

func (p *Publish) check(field string) error {
	switch {
	case !slices.Contains([]string{"tcp", "udp", "sctp"}, p.Proto):
		return netErr(field+".proto", "%q is none of tcp, udp and sctp", p.Proto)
	case (p.HostPort == 0) != p.Routed || p.Port == 0:
		return netErr(field+".port", "port 0 is none, and a port that is routed has none of the host")
	case p.Routed && (p.Strict || p.HostAddr.Is4() != p.Addr.Is4()):
		return netErr(field+".routed", "it leads by no socket, and to no other family")
	case !p.HostAddr.IsValid() || !p.Addr.IsValid() || p.HostAddr.IsMulticast() || p.Addr.IsMulticast() || p.Addr.IsUnspecified():
		return netErr(field+".addr", "%v to %v: both are to be addresses of one", p.HostAddr, p.Addr)
	}
	return CheckDeviceName(field+".bridge", p.Bridge)
}

// CheckDeviceName refuses what no device of Linux can be called (dev_valid_name of its net/core/dev.c), and the
// pattern that the kernel would complete to a name.
func CheckDeviceName(field, name string) error {
	switch {
	case name == "":
		return netErr(field, "a device needs a name")
	case len(name) > 15:
		return netErr(field, "%q: a device's name has at most 15 bytes, this one has %d", name, len(name))
	case name == "." || name == ".." || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/:%\"", r) }):
		return netErr(field, "%q: a device's name has no slash, colon, percent sign, quote, blank or control character", name)
	case name == "all" || name == "default":
		return netErr(field, "%q stands for all devices in names of kernel parameters: a device cannot be called so", name)
	}
	return nil
}

func deviceAddr(field string, a netip.Prefix) error {
	switch {
	case !a.IsValid() || a.Bits() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() || a.Addr().IsLoopback() || a.Addr().Is4In6():
		return netErr(field, "%v is no address of a device with the length of its network", a)
	case a.Addr().Is4() && a.Bits() < 31 && (a.Addr() == a.Last() || a == a.Masked()):
		return netErr(field, "%v is the network's own address: take one between", a)
	}
	return nil
}

func deviceSysctl(field, key string) error {
	parts := strings.Split(key, ".")
	i := slices.Index(parts, "IFNAME")
	if parts[0] != "net" || i < 2 || i == len(parts)-1 || slices.Index(parts[i+1:], "IFNAME") >= 0 ||
		slices.ContainsFunc(parts, func(p string) bool { return p == "" || strings.ContainsAny(p, "/\x00") }) {
		return netErr(field, "%q is none of a device: they are net.FAMILY.conf.IFNAME.NAME and the like, with the word IFNAME in the device's place", key)
	}
	return nil
}

func checkMTU(field string, mtu int, addrs []netip.Prefix) error {
	least := 68
	if slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		least = 1280
	}
	if mtu != 0 && (mtu < least || mtu > 65535) {
		return netErr(field+".mtu", "%d bytes: the kernel takes %d to 65535", mtu, least)
	}
	return nil
}
