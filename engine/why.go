package engine

import (
	"cmp"
	"context"
	"errors"
	stdip "net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/network/reach"
	"github.com/kakuri/kakuri/plan"
)

// IsNoNetwork reports whether an error is that a network is not there.
func IsNoNetwork(err error) bool { return errors.As(err, new(*netdb.NoNetworkError)) }

// PortFacts gathers what [reach.Judge] needs to say why a port of the host, or one of a
// container, is reachable or is not. It changes nothing; what it cannot read is in the
// facts.
func (e *Engine) PortFacts(ctx context.Context, q reach.Question) (reach.Facts, error) {
	k, err := e.portCase(q)
	if err != nil {
		return reach.Facts{}, err
	}
	return e.withMachine(reach.Gather(ctx, k.asked, k.records)), nil
}

// A portCase is what the records say of a port.
type portCase struct {
	asked   reach.Question // by the name of the container that the network namespace is of
	records reach.Records
	about   *Container // the one that the port is of, or leads to; nil for none
}

func (e *Engine) portCase(q reach.Question) (portCase, error) {
	k := portCase{asked: q}
	list, err := e.List(ListOptions{All: true})
	if err != nil {
		return k, err
	}
	if q.Name != "" {
		c, err := e.Find(q.Name)
		if err != nil {
			return k, err
		}
		k.about, k.asked.Name = &c, c.Name
	}
	guest := ""
	if owner := e.netOwner(k.about); owner != nil {
		guest, k.about, k.asked.Name = k.about.Name, owner, owner.Name
	}
	// What is published comes before what was asked for: two containers may ask for one port, and one of them has it.
	rank := func(c *Container) int {
		if c.Active() && len(c.Ports) > 0 {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b Container) int { return rank(&a) - rank(&b) })
	for i := range list {
		for _, p := range list[i].published() {
			p.Relayed = p.Relayed || e.rootless() && !p.Routed // by a socket of kakuri-uplink
			k.sort(&list[i], p)
		}
	}
	if k.about != nil {
		k.records.Container = e.asked(k.about)
		k.records.Container.Guest = guest
		around(&k.records, k.about, list)
	}
	return k, nil
}

// sort puts a container's port where it belongs. The first that is the one asked for says whom the case is about.
func (k *portCase) sort(c *Container, p reach.Published) {
	q := k.asked
	same := p.Proto == q.Proto && (q.Name == "" && p.HostPort == q.Port || q.Name == c.Name && p.Port == q.Port)
	if same && k.about == nil {
		k.about = c
	}
	switch {
	case same && k.about.ID == c.ID:
		k.records.Published = append(k.records.Published, p)
	case q.Name == "" || q.Name == c.Name:
		k.records.Others = append(k.records.Others, p)
	}
}

// netOwner is the container in whose network namespace one is by --network container:NAME, as long as both run there: what listens and what is published
// are of that one. nil is none.
func (e *Engine) netOwner(c *Container) (owner *Container) {
	place := func(c *Container) string {
		name, _ := os.Readlink("/proc/" + strconv.Itoa(c.PID) + "/ns/net")
		return name
	}
	for range 8 { // who is in a namespace by another one, which is there by a third
		if c == nil || c.PID == 0 {
			break
		}
		ref, ok := strings.CutPrefix(c.Config.networkMode(), "container:")
		if !ok {
			break
		}
		next, err := e.Find(ref)
		if here := place(c); err != nil || next.PID == 0 || here == "" || place(&next) != here {
			break
		}
		c, owner = &next, &next
	}
	return owner
}

// around adds to the records what of other containers is in the way of one, or can be asked about it.
func around(r *reach.Records, about *Container, list []Container) {
	r.Elsewhere, r.Holders = map[string]int{}, map[int]string{}
	wanted := func(p reach.Published) bool {
		return !p.Asked && !p.Routed && slices.ContainsFunc(r.Published, func(o reach.Published) bool { return o.Proto == p.Proto && o.HostPort == p.HostPort })
	}
	for i := range list {
		c := &list[i]
		if pid := parent(c.PID); pid != 0 {
			r.Holders[pid] = c.Name
		}
		if c.ID == about.ID {
			continue
		}
		for _, p := range c.published() {
			if wanted(p) {
				r.Taken = append(r.Taken, p)
			}
		}
		if slices.ContainsFunc(c.Connections, func(n Connection) bool { return about.connected(n.Network) }) {
			continue // it comes by the network that both are in, wherever else it is
		}
		for _, n := range c.Connections {
			if _, in := r.Elsewhere[n.Network]; c.PID != 0 && !in {
				r.Elsewhere[n.Network] = c.PID
			}
		}
	}
}

// parent is that of a process: a container's first one has its monitor. 0 is not known.
func parent(pid int) int {
	data, err := files.Read("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	_, fields, err := namespace.ParseStat(data)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(fields[4-3])
	return n
}

// std is an address as the library has it.
func std(a netip.Addr) stdip.Addr {
	if !a.IsValid() {
		return stdip.Addr{}
	}
	out, _ := stdip.ParseAddr(a.String())
	return out
}

// published are a container's ports of the host. Where it does not run, or none is published, they are those that it asks for.
func (c *Container) published() (list []reach.Published) {
	runs := c.Active()
	for _, p := range c.Ports {
		one := reach.Published{Container: c.Name, HostAddr: std(p.HostAddr), HostPort: p.HostPort, Addr: std(p.Addr), Port: p.Port, Proto: p.Proto, Relayed: network.Relayed(p), Routed: p.Routed}
		if !runs {
			one.Asked, one.Addr = true, stdip.Addr{} // others may have its address by now
		}
		list = append(list, one)
	}
	if runs && len(list) > 0 || c.Config.networkMode() == "host" {
		return list
	}
	for _, p := range c.wished() {
		had := func(o reach.Published) bool {
			return o.HostPort == p.HostPort && o.Port == p.Port && o.Proto == p.Proto
		}
		if !slices.ContainsFunc(list, had) {
			list = append(list, p)
		}
	}
	return list
}

// wished are the ports of the host that -p names.
func (c *Container) wished() (list []reach.Published) {
	for _, s := range c.Config.Publish {
		if s.HostPort == 0 || s.HostPortEnd > s.HostPort && s.PortEnd <= s.Port {
			continue // any that is free
		}
		at := stdip.IPv4Unspecified()
		if s.HostIP != "" {
			at, _ = stdip.ParseAddr(s.HostIP)
		}
		for i := range 1 + max(s.Port, s.PortEnd) - s.Port {
			list = append(list, reach.Published{Container: c.Name, HostAddr: at, HostPort: s.HostPort + i, Port: s.Port + i, Proto: cmp.Or(s.Proto, "tcp"), Asked: true})
		}
	}
	return list
}

// asked is what the records say of a container whose port is asked about.
func (e *Engine) asked(c *Container) *reach.Container {
	out := &reach.Container{ID: c.ID, Name: c.Name, Status: statusOf(e.runtime(), c), PID: c.PID, Mode: c.Config.networkMode()}
	if ref, ok := strings.CutPrefix(out.Mode, "container:"); ok {
		if owner, err := e.Find(ref); err == nil {
			out.Mode = "container:" + owner.Name
		}
	}
	out.Private, out.Apart = c.Config.Network == "none", e.rootless()
	for _, a := range c.Config.attachments() {
		if _, err := e.lookupNetwork(a.Network, true); IsNoNetwork(err) {
			out.Gone = append(out.Gone, a.Network)
		}
	}
	hostEnds := map[string]string{} // by the device inside: one that was connected later, or is left of several, has not the name of its place
	if setup, err := monitor.ReadSetup(c.dir); err == nil && setup.Options.Network != nil {
		for _, x := range setup.Options.Network.Endpoints {
			hostEnds[x.Device] = x.HostDevice
		}
	}
	for i := range c.Connections {
		x := &c.Connections[i]
		out.Networks = append(out.Networks, e.askedNetwork(x, cmp.Or(hostEnds[x.Device], plan.HostDevice(c.ID, i))))
	}
	return out
}

// askedNetwork is what the records say of a container on a network; hostEnd is the other end of its device, where that is a bridge.
func (e *Engine) askedNetwork(x *Connection, hostEnd string) reach.Network {
	n := reach.Network{Name: x.Network, Driver: plan.DriverBridge, Device: x.Device}
	if rec, err := e.netdb().Lookup(x.NetworkID); err == nil {
		n.Driver, n.Internal = rec.Driver, rec.Internal
		if rec.Driver == plan.DriverBridge {
			n.Bridge, n.HostEnd = rec.Device, hostEnd
			n.Isolated4, n.Isolated6 = gatewayMode(&rec, netip.IPv4) == modeIsolated, gatewayMode(&rec, netip.IPv6) == modeIsolated
		}
	}
	for _, a := range x.Addrs {
		n.Addrs = append(n.Addrs, std(a.Addr()))
	}
	for _, g := range []netip.Addr{x.Gateway4, x.Gateway6} {
		if g.IsValid() {
			n.Gateways = append(n.Gateways, std(g))
		}
	}
	return n
}
