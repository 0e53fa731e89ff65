package cli

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/network/reach"
	"github.com/kakuri/kakuri/ui"
)

// nets reads the network namespaces of the machine, the reader's own first, and finds where
// the ends of their cables are: of whatever engine's containers.
func (r *nsReading) nets() ui.NetMap {
	n := netReading{nsReading: r, NetMap: ui.NetMap{Unreadable: r.Unreadable}}
	if r.Self != nil {
		n.own = r.Self.In(abi.NSNetwork)
	}
	if n.own != nil {
		n.add(n.own)
	}
	for _, other := range byAge(r.Namespaces) {
		if other.Type == abi.NSNetwork && other != n.own {
			n.add(other)
		}
	}
	if len(n.Spaces) == 0 {
		return n.NetMap
	}
	if n.own != nil {
		n.here()
	}
	for i := range n.sides {
		for _, l := range n.sides[i].Links {
			n.Spaces[i].Devices = append(n.Spaces[i].Devices, n.device(i, l))
		}
	}
	n.Spaces[0].Published = n.published()
	return n.NetMap
}

// A netReading is the map as it grows, and what was read for each of its namespaces.
type netReading struct {
	*nsReading
	ui.NetMap
	own   *namespace.Namespace
	pids  []int // of a process in it, 0 for the reader's own
	sides []reach.Side
}

// add reads a namespace, where somebody is in it.
func (r *netReading) add(n *namespace.Namespace) {
	if len(n.Members) == 0 {
		return
	}
	first := n.Members[0]
	pid := first.PID
	if n == r.own {
		pid = 0
	}
	s, err := reach.ReadLinks(pid)
	if err != nil {
		r.NetMap.Unreadable++
		return
	}
	r.Spaces = append(r.Spaces, ui.NetSpace{NSName: r.name(n), Joined: r.more[n], PID: first.PID, Command: first.Command(), More: s.More})
	r.pids, r.sides = append(r.pids, pid), append(r.sides, s)
}

// here marks the first namespace as the reader's, which is the machine's where nothing says that another one is.
func (r *netReading) here() {
	first := &r.Spaces[0]
	first.Here, first.World = true, engine.InWorld()
	if !first.World && !slices.ContainsFunc(r.Spaces, func(n ui.NetSpace) bool { return n.Host }) {
		first.Host = true
	}
}

// published are the ports that lead to containers: of kakuri's, and of all that the rules tell.
func (r *netReading) published() []string {
	list := slices.Clone(r.ports)
	tables, err := reach.Rules()
	if err != nil {
		return list
	}
	for _, p := range reach.Forwarded(tables) {
		list = append(list, fmt.Sprintf("%s → %s/%s", netip.AddrPortFrom(p.HostAddr, p.HostPort), netip.AddrPortFrom(p.Addr, p.Port), p.Proto))
	}
	return list
}

// device is a link of a namespace, with where its other end is.
func (r *netReading) device(at int, l reach.Link) ui.NetDevice {
	d := ui.NetDevice{Name: l.Name, Kind: l.Kind, Up: l.Up, In: -1}
	for _, a := range l.Addrs {
		if !a.Addr().IsLinkLocalUnicast() { // which each device has
			d.Addrs = append(d.Addrs, a.String())
		}
	}
	for _, o := range r.sides[at].Links {
		if l.Master == o.Index && l.Master != 0 {
			d.Master = o.Name
		}
		if l.NSID < 0 && l.Peer == o.Index && l.Peer != l.Index {
			d.Peer, d.In = o.Name, at
		}
	}
	if l.NSID < 0 || l.Peer == 0 {
		return d
	}
	for i, s := range r.sides {
		for _, o := range s.Links {
			if i == at || o.Index != l.Peer || l.Kind == "veth" && o.Peer != l.Index || reach.NSID(r.pids[at], r.pids[i]) != l.NSID {
				continue
			}
			d.Peer, d.In = o.Name, i
			return d
		}
	}
	return d
}

// netMap prints the networks, or writes them to a file.
func (o *nsOutput) netMap(m ui.NetMap, file string) error {
	if file != "" {
		var out bytes.Buffer
		to := *o
		to.io.Out = &out
		if err := to.netMap(m, ""); err != nil {
			return err
		}
		return os.WriteFile(file, out.Bytes(), 0o644)
	}
	if o.format == "svg" {
		l, err := ui.LangOf("", os.Getenv)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(o.io.Out, m.SVG(l))
		return err
	}
	if o.format != "text" && o.format != "json" {
		return usageError{fmt.Errorf("--format %s: there are text, json and svg", o.format)}
	}
	return o.print(m, m.Text)
}
