package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/monitor/dns"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
)

// A Connection is what a container has on a network since its last start.
type Connection struct {
	Network   string         // name
	NetworkID string         // of the record, which a later network of that name has not
	Endpoint  string         // an id of its own, for inspect
	Device    string         // inside
	MAC       plan.MAC       `json:",omitzero"`
	Addrs     []netip.Prefix // its own, the first of each family
	Gateway4  netip.Addr     `json:",omitzero"` // of the network
	Gateway6  netip.Addr     `json:",omitzero"`
	Internal  bool           `json:",omitempty"` // nothing leads out by the gateways
	Names     []string       // by which others find it there; none on the default network
}

// addr is the address of a family, zero for none.
func (c *Connection) addr(f netip.Family) netip.Prefix {
	for _, p := range c.Addrs {
		if p.Addr().Family() == f {
			return p
		}
	}
	return netip.Prefix{}
}

// networkMode is the mode of the network namespace: none, host, container:NAME, ns:PATH, or a network's name.
func (c *Config) networkMode() string {
	mode := c.Network
	if mode == "" && len(c.Networks) > 0 {
		mode = c.Networks[0].Network
	}
	if mode == "" {
		return "none" // it was not made by an engine, or by one of an older version
	}
	return mode
}

// hostname is the host name of the container with an id: what was asked for, that of the machine whose network it has, or of its id.
func (c *Config) hostname(id string) string {
	if c.Hostname == "" && c.networkMode() == "host" {
		if name, err := os.Hostname(); err == nil {
			return name
		}
	}
	return cmp.Or(c.Hostname, files.ShortID(id))
}

// isNetworkMode reports whether a mode of the network namespace is no network's name.
func isNetworkMode(mode string) bool {
	return mode == "none" || mode == "host" || strings.HasPrefix(mode, "container:") || strings.HasPrefix(mode, "ns:")
}

// ownNetwork reports whether the container has a network namespace of its own.
func (c *Config) ownNetwork() bool {
	mode := c.networkMode()
	return mode == "none" || !isNetworkMode(mode)
}

// attachments are the networks that a container is to be connected to.
func (c *Config) attachments() []Attachment {
	mode := c.networkMode()
	if isNetworkMode(mode) {
		return nil
	}
	list := slices.Clone(c.Networks)
	for i := range list {
		if list[i].Network == "" || list[i].Network == "default" {
			list[i].Network = mode
		}
	}
	if !slices.ContainsFunc(list, func(a Attachment) bool { return a.Network == mode }) {
		list = append([]Attachment{{Network: mode}}, list...)
	}
	if c.MACAddress != "" && list[0].MAC == "" {
		list[0].MAC = c.MACAddress
	}
	list[0].Links = slices.Clone(list[0].Links)
	for _, l := range c.Links {
		if !slices.Contains(list[0].Links, l) { // a command line gives both
			list[0].Links = append(list[0].Links, l)
		}
	}
	return list
}

// A wire is a network that the container is about to be connected to, and how.
type wire struct {
	network netdb.Network
	asked   Attachment
	has     Connection
	links   map[string]string // alias: name
}

// networks decides how the container is connected: its addresses are taken here, unless the plan is only looked at, and given back by who finds that
// it does not start.
func (b *builder) networks() error {
	b.rec.Connections, b.rec.Ports = nil, nil
	if _, err := b.run.exposedPorts(); err != nil {
		return err
	}
	egress, err := b.egress()
	if err != nil {
		return err
	}
	list := b.run.attachments()
	if len(list) == 0 {
		return nil
	}
	b.opts.ID = b.id
	b.opts.Network = &plan.Network{World: b.engine.rootless(), Egress: egress}
	b.because("network.egress", "--egress %s", strings.Join(b.run.Egress, " --egress "))
	if err := b.fitsWorld(); err != nil {
		return err
	}
	for i := range list {
		w, err := b.wire(list[i])
		if err != nil {
			return err
		}
		b.wires = append(b.wires, w)
		if err := b.connect(i, w); err != nil {
			return err
		}
		b.replug(w)
		b.because(fmt.Sprintf("network.endpoints[%d]", i), "--network %s", w.network.Name)
	}
	b.gateways()
	if err := b.publish(); err != nil {
		return err
	}
	b.unpublished()
	for _, w := range b.wires {
		b.rec.Connections = append(b.rec.Connections, w.has)
	}
	b.because("network.publish", "-p")
	return nil
}

// replug has others on a network be at its bridge again, which this container would else have for itself: see [Engine.replug]. It is started also where
// they cannot be.
func (b *builder) replug(w *wire) {
	if b.look {
		return
	}
	d := &network.Doer{Rules: monitor.Rules(b.engine.dir)}
	defer d.Close()
	if err := b.engine.replug(d, &w.network); err != nil && b.engine.warn != nil {
		b.engine.warn(fmt.Sprintf("network %s: not all that are on it may be at its bridge: %v", w.network.Name, err))
	}
}

// wire finds the network of an attachment, and checks what can be asked of it.
func (b *builder) wire(a Attachment) (*wire, error) {
	n, err := b.engine.lookupNetwork(a.Network, b.look)
	if err == nil && n.Name == netdb.DefaultName {
		n, err = b.engine.settle(n, b.look)
	}
	if err != nil {
		return nil, err
	}
	if isNetworkMode(n.Name) {
		return nil, fmt.Errorf("--network %s: it cannot be had beside other networks", n.Name)
	}
	if slices.ContainsFunc(b.wires, func(w *wire) bool { return w.network.ID == n.ID }) {
		return nil, fmt.Errorf("network %q is specified multiple times", n.Name)
	}
	user := n.Name != netdb.DefaultName
	switch {
	case !user && len(a.Aliases) > 0:
		return nil, errors.New("network-scoped aliases are only supported for user-defined networks")
	case !user && a.IPv4+a.IPv6 != "":
		return nil, errors.New("user specified IP address is supported on user defined networks only")
	}
	w := &wire{network: n, asked: a, links: map[string]string{}}
	for _, alias := range a.Aliases {
		if err := oneWord("--network-alias", alias); err != nil {
			return nil, err
		}
	}
	for _, l := range a.Links {
		name, alias := splitLink(l)
		if err := oneWord("--link", alias); err != nil {
			return nil, err
		}
		w.links[alias] = name
	}
	return w, nil
}

// connect decides what the container has on one network, as its ith device.
func (b *builder) connect(i int, w *wire) error {
	n, a := &w.network, &w.asked
	w.has = Connection{Network: n.Name, NetworkID: n.ID, Device: cmp.Or(a.Device, a.Options[optIfname], fmt.Sprintf("%s%d", cmp.Or(n.Options[optPrefix], "eth"), i)), Endpoint: files.NewID(), Internal: n.Internal}
	for _, family := range []struct {
		netip.Family
		has  bool
		want string
	}{{netip.IPv4, n.IPv4, a.IPv4}, {netip.IPv6, n.IPv6, a.IPv6}} {
		var want netip.Addr
		if family.want != "" {
			var err error
			if want, err = netip.ParseAddr(family.want); err != nil || want.Family() != family.Family {
				return fmt.Errorf("invalid IP address %s for network %s", family.want, n.Name)
			}
			if !family.has {
				return fmt.Errorf("IP address %s: network %s has no addresses of that family", want, n.Name)
			}
		}
		if !family.has {
			continue
		}
		addr, err := b.lease(n, want, family.Family)
		if err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
		p, _ := n.Pool(family.Family)
		w.has.Addrs = append(w.has.Addrs, netip.PrefixFrom(addr, p.Subnet.Bits()))
		if family.Family == netip.IPv6 {
			w.has.Gateway6 = p.Gateway
		} else {
			w.has.Gateway4 = p.Gateway
		}
	}
	var err error
	if w.has.MAC, err = macOf(a.MAC, w.has.Addrs); err != nil {
		return err
	}
	if n.Name != netdb.DefaultName {
		w.has.Names = b.run.namesOn(a, b.rec.Name, b.id)
	}
	return b.endpoint(i, w)
}

// lease takes an address, or finds out which one it would be.
func (b *builder) lease(n *netdb.Network, want netip.Addr, f netip.Family) (netip.Addr, error) {
	if b.look {
		a, err := b.engine.netdb().Free(*n, want, f)
		return a, b.engine.nameOwner(err)
	}
	b.leased = true
	a, err := b.engine.netdb().Lease(*n, b.id, want, f)
	return a, b.engine.nameOwner(err)
}

// nameOwner is the error of an address that another container has, with that one's name.
func (e *Engine) nameOwner(err error) error {
	if used := new(netdb.InUseError); errors.As(err, &used) && used.Owner != "" {
		if c, ferr := e.Find(used.Owner); ferr == nil {
			return &netdb.InUseError{Addr: used.Addr, Owner: used.Owner, Name: c.Name}
		}
	}
	return err
}

// namesOn are the names that the container has on a network.
func (c *Config) namesOn(a *Attachment, name, id string) []string {
	var names []string
	for _, name := range append(append([]string{name}, a.Aliases...), files.ShortID(id), c.Hostname) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// macOf is the address that was asked for, else one made of the first IP address: who gets that later has the same one, and neighbours
// need not learn it anew.
func macOf(asked string, addrs []netip.Prefix) (m plan.MAC, err error) {
	if asked != "" {
		return plan.ParseMAC(asked)
	}
	if len(addrs) == 0 {
		return m, nil
	}
	bytes := addrs[0].Addr().AsSlice()
	m[0], m[1] = 2, 0x42
	copy(m[2:], bytes[len(bytes)-4:])
	return m, nil
}

// endpoint puts a connection into the plan.
func (b *builder) endpoint(i int, w *wire) error {
	n, a := &w.network, &w.asked
	mtu, _ := strconv.Atoi(n.Options[optMTU])
	e := plan.Endpoint{
		Network: n.Name, Driver: n.Driver, Device: w.has.Device, MAC: w.has.MAC, Addrs: slices.Clone(w.has.Addrs), MTU: mtu, Mode: driverMode(n),
		Nameless: n.Name == netdb.DefaultName,
	}
	for _, text := range a.LinkLocal {
		l, err := netip.ParseAddr(text)
		if err != nil || !l.IsLinkLocalUnicast() {
			return fmt.Errorf("invalid link local IP address: %s", text)
		}
		e.Addrs = append(e.Addrs, netip.PrefixFrom(l, map[bool]int{false: 16, true: 64}[l.Is6()]))
	}
	var err error
	if e.Sysctls, err = endpointSysctls(a.Options[optSysctls]); err != nil {
		return err
	}
	if n.IPv4 && !b.router() {
		e.Sysctls = forwardingNothing(e.Sysctls)
	}
	if n.Internal && n.IPv6 && n.Driver != plan.DriverBridge { // a bridge's are told of none anyway
		e.Sysctls = heedingNoRouter(e.Sysctls)
	}
	if n.Driver == plan.DriverBridge {
		e.HostDevice = plan.HostDevice(b.id, i)
		b.bridged(&e, n)
	} else {
		e.Parent = n.Device
		if p, ours := parentOf(n); ours {
			b.opts.Network.Parents = append(b.opts.Network.Parents, p)
		}
	}
	if n.Driver == plan.DriverIPvlan {
		e.MAC, w.has.MAC = plan.MAC{}, plan.MAC{} // it has its parent's
	}
	b.opts.Network.Endpoints = append(b.opts.Network.Endpoints, e)
	return nil
}

// bridged puts the bridge of an endpoint into the plan.
func (b *builder) bridged(e *plan.Endpoint, n *netdb.Network) {
	bridge := bridgeOf(n)
	if b.engine.rootless() && e.MTU == 0 {
		// Nothing of it is a wire: what goes out is made into other packets by the uplink, and has up to seven times the speed so.
		e.MTU, bridge.MTU = uplink.MTU, uplink.MTU
	}
	if mode, _ := uplink.Choice(); b.engine.rootless() && mode == uplink.Builtin {
		// It makes packets anew anyway, and has to see whose they are, to give each its share.
		bridge.Masquerade4, bridge.Masquerade6 = false, false
	}
	e.Bridge, e.Isolated = n.Device, !bridge.ICC
	to := b.opts.Network
	to.Bridges = append(to.Bridges, bridge)
	to.Forward4 = to.Forward4 || n.IPv4 && !n.Internal
	to.Forward6 = to.Forward6 || n.IPv6 && !n.Internal
}

// forwardingNothing has a device pass nothing on that is for others, where nobody says something else. A network namespace begins as the machine's first one is, and that forwards for its
// bridges: each container of two networks would be a router between them, one of them internal perhaps, for who has NET_RAW. What forwards heeds redirects only if all devices do, and what does not
// if one of them does: so not from neighbours either (ip-sysctl, accept_redirects).
func forwardingNothing(sysctls map[string]string) map[string]string {
	out := map[string]string{"net.ipv4.conf.IFNAME.forwarding": "0", "net.ipv4.conf.IFNAME.accept_redirects": "0"}
	maps.Copy(out, sysctls)
	return out
}

// heedingNoRouter has a device take no word about routes and addresses, where nobody says something else: by that of a router on the wire, or of a neighbour who poses as one, an internal network would lead out.
func heedingNoRouter(sysctls map[string]string) map[string]string {
	out := map[string]string{"net.ipv6.conf.IFNAME.accept_ra": "0"}
	maps.Copy(out, sysctls)
	return out
}

// router tells a container that may be meant to be one.
func (b *builder) router() bool {
	for key, value := range b.run.Sysctls {
		if value != "0" && (key == "net.ipv4.ip_forward" || strings.HasPrefix(key, "net.ipv4.conf.") && strings.HasSuffix(key, ".forwarding")) {
			return true
		}
	}
	caps, err := changed(0, abi.CapSet(0).With(abi.CapNetAdmin), &b.run)
	return b.run.Privileged || err == nil && caps.Has(abi.CapNetAdmin)
}

// primary is the connection whose network has the default route of a family, nil for none: that of the highest priority, and among those the first.
func (b *builder) primary(fits func(*wire) bool) *wire {
	var best *wire
	for _, w := range b.wires {
		if !w.network.Internal && fits(w) && (best == nil || w.asked.GatewayPriority > best.asked.GatewayPriority) {
			best = w
		}
	}
	return best
}

func (b *builder) gateways() {
	n := b.opts.Network
	if w := b.primary(func(w *wire) bool { return w.has.Gateway4.IsValid() && w.has.addr(netip.IPv4).IsValid() }); w != nil {
		n.Gateway4 = w.has.Gateway4
	}
	if w := b.primary(func(w *wire) bool { return w.has.Gateway6.IsValid() && w.has.addr(netip.IPv6).IsValid() }); w != nil {
		n.Gateway6 = w.has.Gateway6
	}
}

// backend is what ports of the host lead to, false for none: an internal network's container has no ports outside, as with Docker.
func (b *builder) backend() (to backend, ok bool) {
	lead := func(f netip.Family) (out way) {
		w := b.primary(func(w *wire) bool { return w.network.Driver == plan.DriverBridge && w.has.addr(f).IsValid() })
		if w == nil {
			return out
		}
		at := bridgeOf(&w.network)
		out = way{addr: w.has.addr(f).Addr(), network: w.network.Name, bridge: w.network.Device, routed: at.Routed4}
		if f == netip.IPv6 {
			out.routed = at.Routed6
		}
		out.binding, _ = netip.ParseAddr(w.network.Options[optBinding])
		return out
	}
	to = backend{v4: lead(netip.IPv4), v6: lead(netip.IPv6), host6: netdb.HasIPv6()}
	return to, to.v4.addr.IsValid() || to.v6.addr.IsValid()
}

// publish decides which ports of the host lead to the container.
func (b *builder) publish() error {
	to, ok := b.backend()
	if !ok {
		b.opts.Network.Publish, b.rec.Ports = nil, nil
		return nil
	}
	if b.engine.rootless() && (to.v4.routed || to.v6.routed) && (len(b.run.Publish) > 0 || b.run.PublishAll) {
		name := to.v6.network
		if to.v4.routed {
			name = to.v4.network
		}
		return fmt.Errorf("network %s has gateway mode routed, and no other machine knows a way to networks of an ordinary user: leave out -p, or make it with gateway mode nat", name)
	}
	var err error
	b.opts.Network.Publish, err = publish(&b.run, to, b.takePorts)
	b.rec.Ports = b.opts.Network.Publish
	return err
}

// unpublished warns of ports that were asked for in vain: Docker says nothing about that.
func (b *builder) unpublished() {
	if _, ok := b.backend(); ok || len(b.run.Publish) == 0 || b.look || b.engine.warn == nil {
		return
	}
	var names []string
	for _, w := range b.wires {
		names = append(names, w.network.Name)
	}
	what := "is no bridge that ports of the host lead to"
	if slices.ContainsFunc(b.wires, func(w *wire) bool { return w.network.Internal }) {
		what = "is internal"
	}
	b.engine.warn(fmt.Sprintf("-p publishes nothing: network %s %s", strings.Join(names, ", "), what))
}

// join has the container found on its networks, and says so.
func (e *Engine) join(c *Container) error {
	if err := e.beKnown(c); err != nil {
		return err
	}
	for _, has := range c.Connections {
		e.tell("network", "connect", has.NetworkID, map[string]string{"container": c.ID, "name": has.Network, "type": e.driverOf(has.NetworkID)})
	}
	return nil
}

// beKnown has a container be found by its names on its networks.
func (e *Engine) beKnown(c *Container) error {
	for i := range c.Connections {
		has := &c.Connections[i]
		if err := e.netdb().Join(has.NetworkID, c.member(has)); err != nil {
			return fmt.Errorf("network %s: %w", has.Network, err)
		}
	}
	return nil
}

// member is what a container is on a network.
func (c *Container) member(has *Connection) netdb.Member {
	m := netdb.Member{Container: c.ID, Name: c.Name, Endpoint: has.Endpoint}
	if has.MAC != (plan.MAC{}) {
		m.MAC = has.MAC.String()
	}
	for _, p := range has.Addrs {
		m.Addrs = append(m.Addrs, p.Addr())
	}
	for _, name := range has.Names {
		if name != c.Name {
			m.Aliases = append(m.Aliases, name)
		}
	}
	return m
}

// otherwiseKnown reports whether a network that is there has a container not at all, or by other names than it has.
func (e *Engine) otherwiseKnown(c *Container, has *Connection) bool {
	if _, err := e.netdb().Lookup(has.NetworkID); err != nil {
		return false
	}
	is, err := e.netdb().Member(has.NetworkID, c.ID)
	m := c.member(has)
	slices.Sort(is.Aliases)
	slices.Sort(m.Aliases)
	return errors.Is(err, fs.ErrNotExist) || err == nil && (is.Name != m.Name || !slices.Equal(is.Aliases, m.Aliases))
}

func (e *Engine) driverOf(id string) string {
	n, _ := e.netdb().Lookup(id)
	return n.Driver
}

// leaveNetworks takes a container, which does not run, from its networks.
func (e *Engine) leaveNetworks(id string) error {
	left, err := e.netdb().LeaveAll(id)
	for _, n := range left {
		e.tell("network", "disconnect", n.ID, map[string]string{"container": id, "name": n.Name, "type": n.Driver})
	}
	return err
}

// dropCables removes the devices of a container's last run that are still there, since the next run's have the same names: who joined its network namespace may run on
// there, and nobody took them away when its monitor was killed. As with Docker, that one keeps the namespace, without them, until it is started again itself.
func (e *Engine) dropCables(ctx context.Context, c *Container) error {
	if len(c.Connections) == 0 {
		return nil
	}
	setup, err := monitor.ReadSetup(c.dir)
	if err != nil || setup.Options.Network == nil {
		return ignoreMissing(err)
	}
	there := func(x plan.Endpoint) bool {
		_, err := net.InterfaceByName(x.HostDevice)
		return err == nil
	}
	if !e.rootless() && !slices.ContainsFunc(setup.Options.Network.Endpoints, there) { // those of an ordinary user are in the network world
		return nil
	}
	return e.onNetworks(ctx, netJob{Op: jobUnplug, Network: plan.Network{Endpoints: setup.Options.Network.Endpoints}})
}

// giveUpNetworks is leaveNetworks of a container whose start failed, with addresses that it took before it was found anywhere.
func (e *Engine) giveUpNetworks(b *builder) error {
	if !b.leased {
		return nil
	}
	errs := []error{e.leaveNetworks(b.id)}
	for _, w := range b.wires {
		errs = append(errs, e.netdb().Release(w.network.ID, b.id))
	}
	return errors.Join(errs...)
}

// writeNetworks tells the monitor which networks the container is on.
func (b *builder) writeNetworks(dir string) error {
	if len(b.wires) == 0 {
		return ignoreMissing(os.Remove(dir + "/networks.json"))
	}
	n := monitor.Networks{Data: b.engine.data, Egress: b.opts.Network.Egress}
	b.names.tell(&n, b.engine.rootless())
	for _, w := range b.wires {
		if w.network.Name == netdb.DefaultName {
			continue // nobody is known by name there
		}
		n.Networks = append(n.Networks, membership(w))
	}
	return monitor.WriteJSON(dir, "networks.json", &n)
}

func membership(w *wire) monitor.Membership {
	m := monitor.Membership{ID: w.network.ID, Name: w.network.Name, Links: w.links}
	for _, p := range w.network.Pools {
		m.Subnets = append(m.Subnets, p.Subnet)
	}
	return m
}

// A naming is who answers for names inside.
type naming struct {
	resolver bool // kakuri's own
	servers  []dns.Server
	links    bool   // systemd-resolved says which of them is asked for a name
	conf     []byte // resolv.conf
}

// tell has a container's monitor know it, that of an ordinary user's in his network world. Nobody else writes what is here: who may be asked goes as a whole, or somebody
// whom nothing leads out to would still ask by links.
func (n naming) tell(to *monitor.Networks, world bool) {
	to.Resolver, to.Servers, to.Links, to.World = n.resolver, n.servers, n.links, world
}
