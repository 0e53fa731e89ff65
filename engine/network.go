package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/fvbommel/sortorder"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// A NetworkConfig asks for a network, in the form of Docker's API.
type NetworkConfig struct {
	Name       string
	Driver     string // bridge (default), macvlan, ipvlan
	Internal   bool
	Attachable bool
	EnableIPv4 *bool // nil is true
	EnableIPv6 *bool // nil is whether the kernel has IPv6, for a bridge
	IPAM       IPAM
	Options    map[string]string // of the driver
	Labels     map[string]string
}

// IPAM is who gives addresses of a network, and from where.
type IPAM struct {
	Driver  string // default
	Options map[string]string
	Config  []IPAMPool
}

// An IPAMPool is a subnet, in the form of Docker's API.
type IPAMPool struct {
	Subnet     string
	IPRange    string            `json:",omitempty"`
	Gateway    string            `json:",omitempty"`
	AuxAddress map[string]string `json:"AuxiliaryAddresses,omitempty"`
}

// A Network is what inspect tells of one, in the form of Docker's API.
type Network struct {
	Name       string
	ID         string `json:"Id"`
	Created    time.Time
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       IPAM
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom struct{ Network string }
	ConfigOnly bool
	Containers map[string]NetworkContainer
	Options    map[string]string
	Labels     map[string]string

	// Of swarms: templates find the names, as with Docker.
	Peers    []struct{}          `json:",omitempty"`
	Services map[string]struct{} `json:",omitempty"`
}

// A NetworkContainer is a running container on a network.
type NetworkContainer struct {
	Name        string
	EndpointID  string
	MacAddress  string
	IPv4Address string
	IPv6Address string
}

func (e *Engine) netdb() *netdb.DB { return netdb.Open(e.data, e.dir) }

// NetworkCreate makes a network. Its device is made with the first container that it has.
func (e *Engine) NetworkCreate(ctx context.Context, c NetworkConfig) (Network, error) {
	n, err := networkOf(c)
	if err == nil && e.rootless() && n.Driver != plan.DriverBridge {
		err = fmt.Errorf("--driver %s: its containers are on a device of the machine, which takes root: an ordinary user's networks are bridges", n.Driver)
	}
	if err != nil {
		return Network{}, err
	}
	n, err = e.netdb().Create(n, clashes)
	if err != nil {
		if errors.As(err, new(*netdb.NameError)) {
			err = ErrConflict{err.Error()}
		}
		return Network{}, err
	}
	// Alone: who removes it meanwhile has removed the bridge, and would leave this one, which were nobody's.
	err = e.netdb().Alone(n.ID, func(n netdb.Network) error { return e.occupy(ctx, &n) })
	if err != nil && !errors.As(err, new(*netdb.NoNetworkError)) {
		// It stays where a container has joined it meanwhile: its start says why that cannot be, and network rm takes the network then.
		return Network{}, errors.Join(err, e.netdb().Remove(n.ID, false, e.inUse))
	}
	e.tell("network", "create", n.ID, map[string]string{"name": n.Name, "type": n.Driver})
	return e.shownNetwork(&n), nil
}

// occupy makes the bridge of a new network, by which other engines on the machine see that its subnet is taken. Where another device has its name or its
// address, the network cannot be. One that cannot be made now for another reason is made by the first container, or that tells why not. An ordinary user is alone in a world, which may not be there yet. The device that macvlans are on is made now or never.
func (e *Engine) occupy(ctx context.Context, n *netdb.Network) error {
	if e.rootless() {
		return nil
	}
	d := &network.Doer{}
	defer d.Close()
	if n.Driver == plan.DriverBridge {
		_, err := d.Do(ctx, &plan.MakeBridge{Bridge: bridgeOf(n)}, 0)
		if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EADDRINUSE) {
			return err
		}
		return nil
	}
	p, ours := parentOf(n)
	if !ours {
		return nil
	}
	_, err := d.Do(ctx, &plan.MakeParent{Parent: p}, 0)
	return err
}

// bridges are those of all networks that have one, on this machine or not yet.
func (e *Engine) bridges() (list []plan.Bridge, err error) {
	all, err := e.netdb().List()
	for i := range all {
		if all[i].Driver == plan.DriverBridge {
			list = append(list, bridgeOf(&all[i]))
		}
	}
	return list, err
}

// healBridges has bridges that somebody had down, or removed while containers were at them, be as they were.
func (e *Engine) healBridges() error {
	all, err := e.netdb().List()
	errs := []error{err}
	d := &network.Doer{Rules: monitor.Rules(e.dir)}
	defer d.Close()
	for i := range all {
		n := &all[i]
		if n.Driver != plan.DriverBridge {
			continue
		}
		gone, err := d.HealBridge(bridgeOf(n))
		if err == nil && gone {
			err = e.plugAll(d, n)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// replug has the containers that run on a network be at its bridge again, where somebody removed that. In a network world it is all of them: see [Engine.healWorld].
func (e *Engine) replug(d *network.Doer, n *netdb.Network) error {
	if n.Driver != plan.DriverBridge {
		return nil
	}
	if e.rootless() {
		return e.healWorld()
	}
	if gone, err := d.BridgeGone(bridgeOf(n)); err != nil || !gone {
		return err
	}
	return e.plugAll(d, n)
}

// plugAll has the containers that run on a network be at its bridge, which is gone. In this order: who removes a network has found it without members, and removes its bridge
// then.
func (e *Engine) plugAll(d *network.Doer, n *netdb.Network) error {
	if members, err := e.netdb().Members(n.ID); err != nil || len(members) == 0 {
		return err
	}
	cables, err := e.cables()
	errs := []error{err}
	defer e.hold(cables)()
	for _, c := range cables {
		if c.Endpoint.Bridge == n.Device && e.stillAt(c) {
			errs = append(errs, c.plug(context.Background(), d))
		}
	}
	return errors.Join(errs...)
}

// predefined reports whether a network's name is one that Docker has from the start.
func predefined(name string) bool {
	return name == "none" || name == "host" || name == "default" || name == netdb.DefaultName
}

// networkOf is the record that a network gets, its pools perhaps to be chosen.
func networkOf(c NetworkConfig) (netdb.Network, error) {
	n := netdb.Network{
		Name: c.Name, Driver: cmp.Or(c.Driver, plan.DriverBridge), Internal: c.Internal, Attachable: c.Attachable, Options: c.Options, Labels: c.Labels, IPAM: c.IPAM.Options,
		IPv4: c.EnableIPv4 == nil || *c.EnableIPv4,
	}
	if err := checkKind(n.Name, n.Driver); err != nil {
		return n, err
	}
	if c.IPAM.Driver != "" && c.IPAM.Driver != "default" {
		return n, fmt.Errorf("invalid ipam driver %q: default is the only one", c.IPAM.Driver)
	}
	for _, p := range c.IPAM.Config {
		pool, err := poolOf(p)
		if err != nil {
			return n, err
		}
		n.Pools = append(n.Pools, pool)
	}
	// As Docker has them, in whatever order they were given: templates ask for the first one's gateway.
	slices.SortStableFunc(n.Pools, func(a, b netdb.Pool) int { return a.Subnet.Addr().BitLen() - b.Subnet.Addr().BitLen() })
	_, has6 := n.Pool(netip.IPv6)
	switch {
	case c.EnableIPv6 != nil:
		n.IPv6 = *c.EnableIPv6
	case n.Driver == plan.DriverBridge && len(n.Pools) == 0:
		n.IPv6 = netdb.HasIPv6()
	default:
		n.IPv6 = has6
	}
	n.Pools = slices.DeleteFunc(n.Pools, func(p netdb.Pool) bool { return p.Subnet.Addr().Is6() && !n.IPv6 })
	if _, has4 := n.Pool(netip.IPv4); has4 && !n.IPv4 {
		return n, errors.New("an IPv4 subnet was given, and IPv4 is disabled")
	}
	if !n.IPv4 && !n.IPv6 {
		return n, errors.New("IPv4 or IPv6 must be enabled")
	}
	return n, driverOptions(&n)
}

// checkKind refuses names and drivers that no network can get, in Docker's words.
func checkKind(name, driver string) error {
	switch {
	case predefined(name):
		return ErrConflict{fmt.Sprintf("operation is not permitted on predefined %s network", name)}
	case !netdb.ValidName(name) || strings.HasPrefix(name, "container:"):
		return fmt.Errorf("invalid network name: %q: it is of a-z, A-Z, 0-9, and after the first _ . -", name)
	}
	switch driver {
	case plan.DriverBridge, plan.DriverMacvlan, plan.DriverIPvlan:
		return nil
	case "host", "null", "none":
		return ErrConflict{fmt.Sprintf("only one instance of %q network is allowed", strings.Replace(driver, "none", "null", 1))}
	}
	return fmt.Errorf("could not find plugin %s in v1 plugin registry: plugin not found: the drivers are bridge, macvlan and ipvlan", driver)
}

func poolOf(c IPAMPool) (p netdb.Pool, err error) {
	if c.Subnet == "" {
		return p, errors.New("no subnet: --ip-range, --gateway and --aux-address are of a --subnet")
	}
	if p.Subnet, err = netip.ParsePrefix(c.Subnet); err != nil {
		return p, fmt.Errorf("invalid subnet %s: invalid CIDR block notation", c.Subnet)
	}
	if right := p.Subnet.Masked(); right != p.Subnet {
		return p, fmt.Errorf("invalid subnet %s: it should be %s", c.Subnet, right)
	}
	if c.IPRange != "" {
		if p.Range, err = netip.ParsePrefix(c.IPRange); err != nil {
			return p, fmt.Errorf("invalid ip-range %s: invalid CIDR block notation", c.IPRange)
		}
		if right := p.Range.Masked(); right != p.Range {
			return p, fmt.Errorf("invalid ip-range %s: it should be %s", c.IPRange, right)
		}
	}
	if c.Gateway != "" {
		if p.Gateway, err = netip.ParseAddr(c.Gateway); err != nil {
			return p, fmt.Errorf("invalid gateway %s: invalid address", c.Gateway)
		}
	}
	for name, text := range c.AuxAddress {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return p, fmt.Errorf("invalid auxiliary address %s=%s: invalid address", name, text)
		}
		if p.Aux == nil {
			p.Aux = map[string]netip.Addr{}
		}
		p.Aux[name] = a
	}
	return p, nil
}

// clashes refuses a network whose device is another one's.
func clashes(n *netdb.Network, others []netdb.Network) error {
	exclusive := func(n *netdb.Network) bool { return driverMode(n) == "passthru" }
	for _, o := range others {
		if n.Driver == plan.DriverMacvlan && o.Driver == plan.DriverMacvlan && o.Device == n.Device && (exclusive(n) || exclusive(&o)) {
			return ErrConflict{fmt.Sprintf("cannot use mode passthru, macvlan network %s is already using parent interface %s", o.Name, o.Device)}
		}
		if n.Driver == plan.DriverBridge && o.Driver == plan.DriverBridge && o.Device == n.Device {
			return ErrConflict{fmt.Sprintf("cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge name", n.ID, n.Device, o.ID, o.Device)}
		}
	}
	return nil
}

func (e *Engine) shownNetwork(n *netdb.Network) Network {
	s := Network{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: n.IPv4, EnableIPv6: n.IPv6, Internal: n.Internal, Attachable: n.Attachable,
		IPAM: IPAM{Driver: "default", Options: n.IPAM, Config: []IPAMPool{}}, Containers: map[string]NetworkContainer{}, Options: notNil(n.Options), Labels: notNil(n.Labels),
	}
	switch {
	case n.Driver == "host" || n.Driver == "null":
		s.IPAM.Config = nil // they have no addresses
	case n.Name == netdb.DefaultName:
		s.Options = bridgeOptions(n, e.rootless())
	case len(n.Pools) > 0: // it was made by a command
		s.IPAM.Options = notNil(n.IPAM)
	}
	for _, p := range n.Pools {
		pool := IPAMPool{Subnet: p.Subnet.String()}
		if p.Range.IsValid() {
			pool.IPRange = p.Range.String()
		}
		if p.Gateway.IsValid() {
			pool.Gateway = p.Gateway.String()
		}
		for name, a := range p.Aux {
			if pool.AuxAddress == nil {
				pool.AuxAddress = map[string]string{}
			}
			pool.AuxAddress[name] = a.String()
		}
		s.IPAM.Config = append(s.IPAM.Config, pool)
	}
	return s
}

// notNil is a map that JSON has as {} when it is empty.
func notNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// modeNetworks are the networks that are only modes of a namespace. Their ids are their names, eight times.
func modeNetworks() []netdb.Network {
	return []netdb.Network{
		{ID: strings.Repeat("686f7374", 8), Name: "host", Driver: "host", IPv4: true},
		{ID: strings.Repeat("6e6f6e65", 8), Name: "none", Driver: "null", IPv4: true},
	}
}

// findNetwork finds a network; the default one is made where it is not there.
func (e *Engine) findNetwork(ref string) (netdb.Network, error) { return e.lookupNetwork(ref, e.look) }

// lookupNetwork is findNetwork, for who only looks without making one.
func (e *Engine) lookupNetwork(ref string, look bool) (netdb.Network, error) {
	for _, n := range modeNetworks() {
		if ref == n.Name || ref == n.ID {
			return e.aged(n), nil
		}
	}
	if ref == netdb.DefaultName || ref == "default" {
		if !look {
			return e.netdb().Default()
		}
		n, err := e.netdb().Lookup(netdb.DefaultName)
		if errors.As(err, new(*netdb.NoNetworkError)) {
			return e.netdb().Would(netdb.DefaultConfig())
		}
		return n, err
	}
	n, err := e.netdb().Lookup(ref)
	if none := errors.As(err, new(*netdb.NoNetworkError)); ref == "" || !none && (err != nil || n.Name == ref || n.ID == ref) {
		return n, err
	}
	modes := slices.DeleteFunc(modeNetworks(), func(n netdb.Network) bool { return !strings.HasPrefix(n.ID, ref) })
	switch {
	case len(modes) == 0:
		return n, err
	case len(modes) == 1 && err != nil:
		return e.aged(modes[0]), nil
	}
	return netdb.Network{}, &netdb.AmbiguousError{Ref: ref}
}

// aged is a network that is a mode. Nobody made it: it is as old as the default one; without that, of no age.
func (e *Engine) aged(n netdb.Network) netdb.Network {
	first, _ := e.netdb().Lookup(netdb.DefaultName)
	n.Created = first.Created
	return n
}

// allNetworks are those there are, the default one and those that are modes included.
func (e *Engine) allNetworks() ([]netdb.Network, error) {
	first, noDefault := e.findNetwork(netdb.DefaultName)
	if noDefault != nil && !errors.Is(noDefault, netdb.ErrNoPool) && !errors.As(noDefault, new(*netdb.DamagedError)) {
		return nil, noDefault
	}
	list, err := e.netdb().List()
	if err != nil {
		return nil, err
	}
	if noDefault == nil && !slices.ContainsFunc(list, func(n netdb.Network) bool { return n.Name == first.Name }) {
		list = append(list, first)
	}
	for _, n := range modeNetworks() {
		n.Created = first.Created
		list = append(list, n)
	}
	return list, nil
}

// NetworkInspect returns a network by its name, its id, or the beginning of that.
func (e *Engine) NetworkInspect(ref string) (Network, error) {
	n, err := e.findNetwork(ref)
	if err != nil {
		return Network{}, err
	}
	s, err := e.withContainers(&n)
	if n.Driver != "host" && n.Driver != "null" || err != nil {
		return s, err
	}
	// Nobody is a member of these: they are only modes.
	list, err := e.listed(ListOptions{})
	for _, c := range list {
		if c.Config.networkMode() == n.Name {
			s.Containers[c.ID] = NetworkContainer{Name: c.Name}
		}
	}
	return s, err
}

func (e *Engine) withContainers(n *netdb.Network) (Network, error) {
	s := e.shownNetwork(n)
	members, err := e.netdb().Members(n.ID)
	for _, m := range members {
		c := NetworkContainer{Name: m.Name, EndpointID: m.Endpoint, MacAddress: m.MAC}
		for _, a := range m.Addrs {
			p, _ := n.Pool(a.Family())
			if text := netip.PrefixFrom(a, max(p.Subnet.Bits(), 0)).String(); a.Is6() {
				c.IPv6Address = text
			} else {
				c.IPv4Address = text
			}
		}
		s.Containers[m.Container] = c
	}
	return s, err
}

// NetworkList returns the networks that all filters let pass: dangling, driver, id, label, name, scope, type.
func (e *Engine) NetworkList(ctx context.Context, f Filters) ([]Network, error) {
	keep, err := e.networkFilter(f, "dangling", "driver", "id", "label", "label!", "name", "scope", "type")
	if err != nil {
		return nil, err
	}
	list, err := e.allNetworks()
	if err != nil {
		return nil, err
	}
	damaged, err := e.netdb().Damaged()
	if err != nil {
		return nil, err
	}
	for _, d := range damaged {
		e.caution(d)
	}
	out := []Network{}
	for i := range list {
		if !keep(&list[i]) {
			continue
		}
		n, err := e.withContainers(&list[i])
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	sort.SliceStable(out, func(i, j int) bool { return sortorder.NaturalLess(out[i].Name, out[j].Name) }) // net2 before net10, as Docker's client
	return out, ctx.Err()
}

// networkFilter makes one question of filters. Of several values of a key one has to fit, of labels all.
func (e *Engine) networkFilter(f Filters, keys ...string) (func(*netdb.Network) bool, error) {
	if err := f.Check(keys...); err != nil {
		return nil, err
	}
	hasID, err := f.patterns("id")
	if err != nil {
		return nil, err
	}
	hasName, err := f.patterns("name")
	if err != nil {
		return nil, err
	}
	for _, value := range f["type"] {
		if value != "builtin" && value != "custom" {
			return nil, fmt.Errorf("invalid filter: 'type'='%s'", value)
		}
	}
	dangling, err := f.truth("dangling")
	if err != nil {
		return nil, err
	}
	var used map[string]bool
	if dangling != nil {
		if used, err = e.usedNetworks(); err != nil {
			return nil, err
		}
	}
	until, err := f.Until()
	if err != nil {
		return nil, err
	}
	return func(n *netdb.Network) bool {
		return hasID(n.ID) && hasName(n.Name) && f.Labels(n.Labels) &&
			(dangling == nil || !predefined(n.Name) && *dangling == !used[n.ID]) && (until.IsZero() || n.Created.Before(until)) &&
			f.fit(map[string]func(string) bool{
				"driver": func(s string) bool { return s == n.Driver },
				"scope":  func(s string) bool { return s == "local" },
				"type":   func(s string) bool { return (s == "builtin") == predefined(n.Name) },
			})
	}, nil
}

// usedNetworks are the ids of networks that a container is on at this moment.
func (e *Engine) usedNetworks() (map[string]bool, error) {
	list, err := e.netdb().List()
	used := map[string]bool{}
	for i := range list {
		if err := e.inUse(list[i]); err != nil {
			used[list[i].ID] = true
		}
	}
	return used, err
}

// inUse is the error of a network that a container is on.
func (e *Engine) inUse(n netdb.Network) error {
	members, err := e.netdb().Members(n.ID)
	if err != nil {
		return err
	}
	var texts []string
	for _, m := range members {
		texts = append(texts, fmt.Sprintf("name:%q id:%q", m.Name, files.ShortID(m.Endpoint)))
	}
	leases, err := e.netdb().Leases(n.ID)
	if err == nil && len(texts) == 0 {
		for a, owner := range leases {
			texts = append(texts, fmt.Sprintf("address:%q container:%q", a, files.ShortID(owner)))
		}
	}
	if len(texts) > 0 {
		return ErrConflict{fmt.Sprintf("error while removing network: network %s has active endpoints (%s)", n.Name, strings.Join(texts, ", "))}
	}
	return err
}

// NetworkRemove removes a network that no running container is on; with force also one whose record cannot be read.
func (e *Engine) NetworkRemove(ctx context.Context, ref string, force bool) error {
	n, err := e.lookupNetwork(ref, true)
	var damaged *netdb.DamagedError
	hurt := errors.As(err, &damaged)
	if hurt && force {
		n, err = netdb.Network{ID: damaged.ID, Name: damaged.Name}, nil // also the default one: the next command that needs it makes it anew
	}
	if err != nil && (hurt || !predefined(ref)) {
		return err
	}
	if name := cmp.Or(n.Name, ref); predefined(name) && !hurt {
		return ErrConflict{fmt.Sprintf("error while removing network: %s is a pre-defined network and cannot be removed", name)}
	}
	if err := errors.Join(e.sweepIntents(), e.sweepNetworks()); err != nil {
		return err
	}
	// The record goes last: of a command that is killed between, a network without a bridge is left, which the next one removes or has a bridge made
	// for. A bridge without a record would be nobody's, with an address that the next network gets.
	err = e.netdb().Remove(n.ID, force, func(n netdb.Network) error {
		if err := e.inUse(n); err != nil {
			return err
		}
		if n.Driver == "" {
			if err := e.deviceOfDamaged(&n); err != nil {
				return err
			}
		}
		if err := e.dropNetwork(&n); err != nil {
			return fmt.Errorf("network %s: its bridge is not removed: %w", n.Name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.tell("network", "destroy", n.ID, map[string]string{"name": n.Name, "type": n.Driver})
	return nil
}

// deviceOfDamaged fills in what dropNetwork needs of a network whose record cannot be read: the device that says it is the network's, and where none does the
// bridge that it has by itself.
func (e *Engine) deviceOfDamaged(n *netdb.Network) error {
	n.Driver, n.Device = plan.DriverBridge, netdb.DeviceOf(n)
	if e.rootless() {
		return nil // its devices are in the world, and only those
	}
	d := &network.Doer{}
	defer d.Close()
	l, name, err := d.MadeFor(n.ID)
	if err != nil || l.Name == "" {
		return err
	}
	if n.Name, n.Device = name, l.Name; l.Kind != "bridge" {
		n.Driver = plan.DriverMacvlan // or ipvlan, whose devices are alike
	}
	return nil
}

// NetworkPrune removes the networks that no running container is on, and that all filters let pass: until, label. It returns their names. Without a filter the
// predefined network "bridge" gives back its device and rules, too, which the next container that is on it makes anew.
func (e *Engine) NetworkPrune(ctx context.Context, f Filters) (removed []string, err error) {
	keep, err := e.networkFilter(f, "label", "label!", "until")
	if err != nil {
		return nil, err
	}
	list, err := e.netdb().List()
	errs := []error{err}
	for i := range list {
		n := &list[i]
		if !keep(n) || e.inUse(*n) != nil {
			continue
		}
		if predefined(n.Name) {
			if len(f) == 0 {
				errs = append(errs, e.unmake(n.ID))
			}
			continue
		}
		err := e.NetworkRemove(ctx, n.ID, false)
		switch {
		case err == nil:
			removed = append(removed, n.Name)
		case errors.As(err, new(ErrConflict)), errors.As(err, new(*netdb.NoNetworkError)):
		default:
			errs = append(errs, err)
		}
	}
	return removed, e.pruned("network", 0, errors.Join(errs...))
}

// begunOrLocked reports whether a container may have addresses, and the mount of its image: it runs, or somebody is about to start it.
func (e *Engine) begunOrLocked(id string) bool {
	// In this order: who starts one has its lock until its monitor has a place.
	dir := e.find(id)
	return dir != "" && !free(dir) || exists(monitor.Place(e.dir, id))
}

// begun is begunOrLocked, and keeps those for whom it says no from being started until done: what they left is taken away meanwhile.
func (e *Engine) begun() (is func(id string) bool, done func()) {
	locks := map[string]*os.File{} // nil of one that is no more
	is = func(id string) bool {
		if _, asked := locks[id]; asked {
			return false
		}
		var lock *os.File
		if dir := e.find(id); dir != "" {
			var err error
			if lock, err = lockDir(dir, unix.LOCK_EX|unix.LOCK_NB); ignoreMissing(err) != nil {
				return true // somebody is at it, or nobody knows
			}
		}
		if exists(monitor.Place(e.dir, id)) {
			lock.Close()
			return true
		}
		locks[id] = lock
		return false
	}
	return is, func() {
		for _, lock := range locks {
			lock.Close()
		}
	}
}

// placed are the containers that have a place for their monitor, in order: those that run, or are being started.
func (e *Engine) placed() (containerIDs, error) {
	list, err := files.ListOwn(e.dir + "/monitor")
	list = slices.DeleteFunc(list, func(name string) bool { return !files.IsID(name) })
	slices.Sort(list)
	return list, ignoreMissing(err)
}

// containerIDs are in order.
type containerIDs []string

func (list containerIDs) has(id string) bool {
	_, has := slices.BinarySearch(list, id)
	return has
}

// sweepNetworks takes away what containers left on networks whose commands or monitors were killed.
func (e *Engine) sweepNetworks() error {
	placed, err := e.placed() // in the place of a question for each of them
	if err != nil {
		return err
	}
	begun, done := e.begun()
	defer done()
	alive := func(id string) bool { return placed.has(id) || begun(id) }
	if e.rootless() {
		return errors.Join(e.netdb().Sweep(alive), e.sweepUplink(begun), e.healWorld())
	}
	if err := e.netdb().Sweep(alive); err != nil || !exists(e.dir+"/rules") {
		return err
	}
	_, err = monitor.Rules(e.dir).Sweep(alive)
	return err
}
