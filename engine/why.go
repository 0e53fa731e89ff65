package engine

import (
	"context"
	"errors"
	stdip "net/netip"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/network/netip"
	ways "github.com/kakuri/kakuri/network/reach"
	"github.com/kakuri/kakuri/plan"
)

// IsNoNetwork reports whether an error is that a network is not there.
func IsNoNetwork(err error) bool { return errors.As(err, new(*netdb.NoNetworkError)) }

// PortFacts gathers what [ways.Judge] needs to say why a port of the host, or one of a
// container, is reachable or is not. It changes nothing; what it cannot read is in the
// facts.
func (e *Engine) PortFacts(ctx context.Context, q ways.Question) (ways.Facts, error) {
	q, r, _, err := e.portRecords(q)
	if err != nil {
		return ways.Facts{}, err
	}
	return e.withMachine(ways.Gather(ctx, q, r)), nil
}

// portRecords is what the records say of a port: about is the container that it is of, or leads to, nil for none.
func (e *Engine) portRecords(q ways.Question) (ways.Question, ways.Records, *Container, error) {
	list, err := e.List(ListOptions{All: true})
	if err != nil {
		return q, ways.Records{}, nil, err
	}
	r := ways.Records{Elsewhere: map[string]int{}, Holders: map[int]string{}}
	var about *Container
	if q.Name != "" {
		c, err := e.Find(q.Name)
		if err != nil {
			return q, r, nil, err
		}
		about, q.Name = &c, c.Name
	}
	for i := range list {
		c := &list[i]
		for _, p := range c.published() {
			p.Strict = p.Strict || e.rootless() // by a socket of kakuri-uplink
			same := p.Proto == q.Proto && (q.Name == "" && p.HostPort == q.Port || q.Name == c.Name && p.Port == q.Port)
			switch {
			case same && about == nil:
				about = c
				r.Published = append(r.Published, p)
			case same && about.ID == c.ID:
				r.Published = append(r.Published, p)
			case q.Name == "" || q.Name == c.Name:
				r.Others = append(r.Others, p)
			}
		}
	}
	if about == nil {
		return q, r, nil, nil
	}
	r.Container = e.reachable(about)
	for i := range list {
		c := &list[i]
		if pid := parent(c.PID); pid != 0 {
			r.Holders[pid] = c.Name
		}
		if c.PID == 0 || c.ID == about.ID {
			continue
		}
		for _, n := range c.Connections {
			if _, in := r.Elsewhere[n.Network]; !in && !about.connected(n.Network) {
				r.Elsewhere[n.Network] = c.PID
			}
		}
	}
	return q, r, about, nil
}

// parent is that of a process: a container's first one has its monitor. 0 is not known.
func parent(pid int) int {
	data, err := files.Read("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1])
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

// published are a container's ports of the host since its last start.
func (c *Container) published() (list []ways.Published) {
	for _, p := range c.Ports {
		list = append(list, ways.Published{Container: c.Name, HostAddr: std(p.HostAddr), HostPort: p.HostPort, Addr: std(p.Addr), Port: p.Port, Proto: p.Proto, Strict: p.Strict, Routed: p.Routed})
	}
	return list
}

// reachable is what the records say of a container.
func (e *Engine) reachable(c *Container) *ways.Container {
	out := &ways.Container{ID: c.ID, Name: c.Name, Status: c.Status, PID: c.PID, Mode: c.Config.networkMode()}
	out.Private, out.Apart = c.Config.Network == "none", e.rootless()
	for _, a := range c.Config.attachments() {
		if _, err := e.lookupNetwork(a.Network, true); IsNoNetwork(err) {
			out.Gone = append(out.Gone, a.Network)
		}
	}
	for i, x := range c.Connections {
		n := ways.Network{Name: x.Network, Driver: "bridge", Device: x.Device}
		if rec, err := e.netdb().Lookup(x.NetworkID); err == nil {
			n.Driver, n.Internal = rec.Driver, rec.Internal
			if rec.Driver == "bridge" {
				n.Bridge, n.HostEnd = rec.Device, plan.HostDevice(c.ID, i)
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
		out.Networks = append(out.Networks, n)
	}
	return out
}
