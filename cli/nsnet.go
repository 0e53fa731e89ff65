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
	m := ui.NetMap{Unreadable: r.Unreadable}
	var pids []int
	var sides []reach.Side
	add := func(n *namespace.Namespace) {
		if len(n.Members) == 0 {
			return
		}
		first := n.Members[0]
		pid := first.PID
		if r.Self != nil && n == r.Self.In(abi.NSNetwork) {
			pid = 0
		}
		s, err := reach.ReadLinks(pid)
		if err != nil {
			m.Unreadable++
			return
		}
		m.Spaces = append(m.Spaces, ui.NetSpace{NSName: r.name(n), Joined: r.more[n], PID: first.PID, Command: first.Command(), More: s.More})
		pids, sides = append(pids, pid), append(sides, s)
	}
	var own *namespace.Namespace
	if r.Self != nil {
		own = r.Self.In(abi.NSNetwork)
	}
	if own != nil {
		add(own)
	}
	for _, n := range byAge(r.Namespaces) {
		if n.Type == abi.NSNetwork && n != own {
			add(n)
		}
	}
	if own != nil && len(m.Spaces) > 0 {
		first := &m.Spaces[0]
		first.Here, first.World = true, engine.InWorld()
		if !first.World && !slices.ContainsFunc(m.Spaces, func(n ui.NetSpace) bool { return n.Host }) {
			first.Host = true // of none other is it known
		}
	}
	for i := range sides {
		for _, l := range sides[i].Links {
			m.Spaces[i].Devices = append(m.Spaces[i].Devices, netDevice(sides, pids, i, l))
		}
	}
	if len(m.Spaces) > 0 {
		m.Spaces[0].Published = append(m.Spaces[0].Published, r.ports...)
	}
	if tables, err := reach.Rules(); err == nil && len(m.Spaces) > 0 {
		for _, p := range reach.Forwarded(tables) {
			m.Spaces[0].Published = append(m.Spaces[0].Published, fmt.Sprintf("%s → %s/%s", netip.AddrPortFrom(p.HostAddr, p.HostPort), netip.AddrPortFrom(p.Addr, p.Port), p.Proto))
		}
	}
	return m
}

func netDevice(sides []reach.Side, pids []int, at int, l reach.Link) ui.NetDevice {
	d := ui.NetDevice{Name: l.Name, Kind: l.Kind, Up: l.Up, In: -1}
	for _, a := range l.Addrs {
		if !a.Addr().IsLinkLocalUnicast() { // which each device has
			d.Addrs = append(d.Addrs, a.String())
		}
	}
	for _, o := range sides[at].Links {
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
	for i, s := range sides {
		for _, o := range s.Links {
			if i == at || o.Index != l.Peer || l.Kind == "veth" && o.Peer != l.Index || reach.NSID(pids[at], pids[i]) != l.NSID {
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
