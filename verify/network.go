package verify

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
)

// network is measure for how a network namespace is connected. The host is the network namespace of the reader.
func (r *reader) network(check plan.Check) (answer, bool) {
	switch c := check.(type) {
	case *plan.ForwardingCheck:
		return forwards(c), true
	case *plan.BridgeCheck:
		return onSocket(netlink.Open, func(s *netlink.Socket) (answer, error) { return bridge(s, c) }), true
	case *plan.InterfaceCheck:
		return onSocket(r.netSocket, func(s *netlink.Socket) (answer, error) { return iface(s, c) }), true
	case *plan.AddressCheck:
		return onSocket(r.netSocket, func(s *netlink.Socket) (answer, error) { return address(s, c) }), true
	case *plan.RouteCheck:
		return onSocket(r.netSocket, func(s *netlink.Socket) (answer, error) { return route(s, c) }), true
	case *plan.RulesCheck:
		return rules(c.Asked(), c.Bridges, "", nil), true
	case *plan.PublishedCheck:
		return rules(c.Asked(), nil, c.Owner, c.Ports), true
	case *plan.NamesCheck:
		return r.names(c), true
	case *plan.EgressCheck:
		return r.egress(c), true
	}
	return answer{}, false
}

// egress compares the rules of the process's network namespace with those that were asked for.
func (r *reader) egress(c *plan.EgressCheck) answer {
	var fault string
	_, err := r.inside(abi.NSNetwork, func() (string, error) {
		ns, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return "", err
		}
		defer ns.Close()
		table, err := network.OpenEgress(int(ns.Fd()))
		if err != nil {
			return "", err
		}
		defer table.Close()
		fault, err = table.Check(c.Egress)
		return "", err
	})
	switch {
	case err != nil:
		return cannot(err)
	case fault != "":
		return no(fault)
	}
	return yes(c.Asked())
}

// netSocket is a socket of the process's network namespace.
func (r *reader) netSocket() (s *netlink.Socket, err error) {
	_, err = r.inside(abi.NSNetwork, func() (_ string, err error) {
		if s, err = netlink.Open(); err == nil {
			s.Bound(listMost)
		}
		return "", err
	})
	return s, err
}

// listMost is how many bytes are read of a list of a container's network namespace, some 20,000 routes: its root may be able to make as many as it likes.
const listMost = 1 << 20

func onSocket(open func() (*netlink.Socket, error), read func(s *netlink.Socket) (answer, error)) answer {
	s, err := open()
	if err != nil {
		return cannot(err)
	}
	defer s.Close()
	a, err := read(s)
	if errors.Is(err, unix.ENODEV) {
		return no("missing")
	}
	if err != nil {
		return cannot(err)
	}
	return a
}

// rules compares the host's table with what a plan put there: what it shows is what is wrong, if anything.
func rules(asked string, bridges []plan.Bridge, owner string, ports []plan.Publish) answer {
	faults, err := network.CheckTable(bridges, owner, ports)
	switch {
	case err != nil:
		return cannot(err)
	case len(faults) > 0:
		return no(strings.Join(faults, ", "))
	}
	return yes(asked)
}

func forwards(c *plan.ForwardingCheck) answer {
	on := func(path string) bool {
		data, _ := os.ReadFile("/proc/sys/net/" + path)
		return strings.TrimSpace(string(data)) == "1"
	}
	got := plan.ForwardingCheck{V4: on("ipv4/ip_forward"), V6: on("ipv6/conf/all/forwarding")}
	measured := got.Asked()
	if measured == "" {
		measured = "nothing"
	}
	return answer{measured: measured, ok: (got.V4 || !c.V4) && (got.V6 || !c.V6)}
}

func bridge(s *netlink.Socket, c *plan.BridgeCheck) (answer, error) {
	l, err := s.Link(c.Device)
	if err != nil {
		return answer{}, err
	}
	if l.Kind != "bridge" {
		return no("no bridge, but " + kindOf(l)), nil
	}
	have, err := s.Addrs(l.Index)
	if err != nil {
		return answer{}, err
	}
	got := plan.BridgeCheck{Device: c.Device}
	for _, a := range have {
		if a.Scope == unix.RT_SCOPE_UNIVERSE {
			got.Addrs = append(got.Addrs, a.Prefix)
		}
	}
	missing := slices.ContainsFunc(c.Addrs, func(p netip.Prefix) bool { return !slices.Contains(got.Addrs, p) })
	measured := got.Asked()
	if !l.Up {
		measured = strings.Replace(measured, "up", "down", 1)
	}
	return answer{measured: measured, ok: l.Up && !missing}, nil
}

func kindOf(l netlink.Link) string {
	if l.Kind == "" {
		return "hardware"
	}
	return l.Kind
}

// iface compares a device with what was asked for, of which empty fields are not.
func iface(s *netlink.Socket, c *plan.InterfaceCheck) (answer, error) {
	l, err := s.Link(c.Device)
	if err != nil {
		return answer{}, err
	}
	got := plan.InterfaceCheck{Device: c.Device, Driver: kindOf(l)}
	if c.MAC != (plan.MAC{}) {
		got.MAC = l.MAC
	}
	if c.MTU != 0 {
		got.MTU = l.MTU
	}
	if c.HostDevice != "" {
		host, err := netlink.Open()
		if err != nil {
			return answer{}, err
		}
		defer host.Close()
		if err := otherEnd(host, l, c, &got); err != nil {
			return answer{}, err
		}
	}
	return answer{measured: got.Asked(), ok: got == *c}, nil
}

// otherEnd fills in the end of a veth on the host.
func otherEnd(host *netlink.Socket, l netlink.Link, c, got *plan.InterfaceCheck) error {
	end, err := host.Link(c.HostDevice)
	if errors.Is(err, unix.ENODEV) || err == nil && end.Index != l.Parent {
		got.HostDevice = "#" + strconv.Itoa(int(l.Parent))
		return nil
	}
	if err != nil {
		return err
	}
	got.HostDevice, got.Isolated = c.HostDevice, end.Isolated
	links, err := host.Links()
	for _, o := range links {
		if end.Master != 0 && o.Index == end.Master {
			got.Bridge = o.Name
		}
	}
	return err
}

func address(s *netlink.Socket, c *plan.AddressCheck) (answer, error) {
	l, err := s.Link(c.Device)
	if err != nil {
		return answer{}, err
	}
	have, err := s.Addrs(l.Index)
	var others []string
	for _, a := range have {
		if a.Prefix == c.Addr {
			return yes(c.Asked()), nil
		}
		if a.Scope == unix.RT_SCOPE_UNIVERSE {
			others = append(others, a.Prefix.String())
		}
	}
	if err != nil {
		return answer{}, err
	}
	return no(some(others, " ")), nil
}

func route(s *netlink.Socket, c *plan.RouteCheck) (answer, error) {
	links, err := s.Links()
	if err != nil {
		return answer{}, err
	}
	routes, err := s.Routes()
	var others []string
	for _, r := range routes {
		if r.Table != unix.RT_TABLE_MAIN || r.To != c.To {
			continue
		}
		got := plan.RouteCheck{To: r.To, Via: r.Via}
		for _, l := range links {
			if c.Device != "" && l.Index == r.Device {
				got.Device = l.Name
			}
		}
		if got == *c {
			return yes(c.Asked()), nil
		}
		others = append(others, got.Asked())
	}
	if err != nil {
		return answer{}, err
	}
	return no(some(others, ", ")), nil
}

// some are the first of those that there are in the place of one, none or a hundred.
func some(list []string, between string) string {
	const most = 8
	switch n := len(list); {
	case n == 0:
		return "none"
	case n > most:
		return strings.Join(list[:most], between) + fmt.Sprintf(" and %d more", n-most)
	}
	return strings.Join(list, between)
}
