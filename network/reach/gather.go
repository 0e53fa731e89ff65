package reach

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/kakuri/kakuri/internal/files"
)

// Records are what the engine knows, for a question.
type Records struct {
	Container *Container
	Published []Published // that the question is about
	Others    []Published
	Taken     []Published // as in [Facts]
	// Elsewhere has a process of a container in another network, by that network's name:
	// what is between networks is tried from there.
	Elsewhere map[string]int
	// Holders are the containers whose monitors have sockets, by the monitors' pids.
	Holders map[int]string
}

// Gather reads what there is on the way to a port, and tries it from each side. What
// cannot be read is in the facts, too.
func Gather(ctx context.Context, q Question, r Records) Facts {
	f := Facts{Question: q, Container: r.Container, Published: r.Published, Others: r.Others, Taken: r.Taken}
	note := func(what string, err error) {
		if err == nil {
			return
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			f.Unread = append(f.Unread, what+": "+line)
		}
	}
	var err error
	f.Host, err = readSide(0)
	note("the host", err)
	for i := range f.Host.Listeners {
		l := &f.Host.Listeners[i]
		l.Holder = r.Holders[l.PID]
	}
	pid := 0
	if c := f.Container; c != nil && c.PID != 0 && c.Mode != "host" {
		s, err := readSide(c.PID)
		note("the container's namespace", err)
		f.Inside, pid = &s, c.PID
	}
	f.Host.Tables, err = tables()
	note("rules", err)
	f.Legacy = legacyTables(files.Read)
	if ctx.Err() == nil {
		f.test(pid, r.Elsewhere)
	}
	if after, err := tables(); err == nil {
		count(f.Host.Tables, after)
	}
	return f
}

// legacyTables are those that the kernel's older iptables has in the caller's network namespace. A kernel without it, and one that does not tell an ordinary user, has none.
func legacyTables(read func(string) ([]byte, error)) (list []string) {
	for _, family := range []string{"ip", "ip6"} {
		names, _ := read("/proc/thread-self/net/" + family + "_tables_names")
		tables := strings.Fields(string(names))
		slices.Sort(tables)
		for _, name := range tables {
			list = append(list, family+" "+name)
		}
	}
	return list
}

// An attempt is a connection that is tried.
type attempt struct {
	pid  int // of the network namespace that it comes from; 0 is the host's
	from string
	to   netip.AddrPort
}

// attempts are all ways to the port: inside, at the container's addresses, and at what it is published on.
func (f *Facts) attempts(pid int, elsewhere map[string]int) (list []attempt) {
	if f.Container != nil && pid != 0 {
		list = f.toContainer(pid, elsewhere)
	}
	for _, p := range f.Published {
		if p.Routed {
			continue
		}
		for _, a := range f.near(p.HostAddr) {
			list = append(list, attempt{0, "host", netip.AddrPortFrom(a, p.HostPort)})
		}
	}
	if len(f.Published) == 0 && f.Name == "" {
		list = append(list, f.toHost()...)
	}
	// Of one way by two names the first name counts.
	tried := map[attempt]bool{}
	once := list[:0]
	for _, a := range list {
		way := a
		way.from = ""
		if !tried[way] {
			tried[way], once = true, append(once, a)
		}
	}
	return once
}

// localhost is where a port is asked for at the loopback device.
var localhost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// toContainer are the ways to the container's own addresses: from itself, from the host, and from namespaces of other networks.
func (f *Facts) toContainer(pid int, elsewhere map[string]int) []attempt {
	port := f.inside()
	list := []attempt{{pid, "inside", netip.AddrPortFrom(localhost, port)}}
	for _, n := range f.Container.Networks {
		for _, a := range n.Addrs {
			to := netip.AddrPortFrom(a, port)
			list = append(list, attempt{pid, "inside", to}, attempt{0, "host", to})
			for _, name := range slices.Sorted(maps.Keys(elsewhere)) {
				list = append(list, attempt{elsewhere[name], "network " + name, to})
			}
		}
	}
	return list
}

// toHost are the ways to a port of the host that is no container's of ours: where somebody listens, and from where rules lead on, else at the loopback device.
func (f *Facts) toHost() (list []attempt) {
	for _, l := range f.led() {
		for _, a := range f.near(l.HostAddr) {
			list = append(list, attempt{0, "host", netip.AddrPortFrom(a, f.Port)})
		}
	}
	for _, l := range at(f.Host.Listeners, f.Proto, f.Port) {
		list = append(list, attempt{0, "host", netip.AddrPortFrom(f.near(l.Addr)[0], f.Port)})
	}
	if len(list) == 0 {
		list = append(list, attempt{0, "host", netip.AddrPortFrom(localhost, f.Port)})
	}
	return list
}

// test tries all ways at the same time, and those of UDP one by one: they are told apart by a counter of the
// container's namespace.
func (f *Facts) test(pid int, elsewhere map[string]int) {
	list := f.attempts(pid, elsewhere)
	f.Tests = make([]Test, len(list))
	var wait sync.WaitGroup
	for i, a := range list {
		one := func() {
			t := Test{From: a.from, To: a.to, Result: Failed}
			inNamespace(a.pid, func() error {
				if f.Proto == "udp" {
					t.Result = tryUDP(a.to, func() uint64 { return datagrams(pid) })
				} else {
					t.Result = try(a.to, int(protocol(f.Proto)))
				}
				return nil
			})
			f.Tests[i] = t
		}
		if wait.Go(one); f.Proto == "udp" {
			wait.Wait()
		}
	}
	wait.Wait()
}

// inside is the port of the container that the question comes to.
func (f *Facts) inside() uint16 {
	if f.Name == "" && len(f.Published) > 0 {
		return f.Published[0].Port
	}
	return f.Port
}

// near are addresses at which the host itself would call one that is published on a: its
// own loopback and, for all addresses, the one of the way out.
func (f *Facts) near(a netip.Addr) []netip.Addr {
	if !a.IsUnspecified() {
		return []netip.Addr{a}
	}
	list := []netip.Addr{localhost}
	if a.Is6() {
		list = []netip.Addr{netip.IPv6Loopback()}
	}
	if own, ok := f.Host.own(a.Is4()); ok {
		list = append(list, own)
	}
	return list
}

// own is an address of the host's device that leads out.
func (s *Side) own(v4 bool) (netip.Addr, bool) {
	for _, r := range s.Routes {
		if r.To.Bits() != 0 || r.To.Addr().Is4() != v4 {
			continue
		}
		if l := s.link(r.Link); l != nil {
			for _, p := range l.Addrs {
				if p.Addr().Is4() == v4 && !p.Addr().IsLinkLocalUnicast() {
					return p.Addr(), true
				}
			}
		}
	}
	return netip.Addr{}, false
}

func (s *Side) link(index int) *Link {
	for i := range s.Links {
		if s.Links[i].Index == index {
			return &s.Links[i]
		}
	}
	return nil
}

func (s *Side) named(name string) *Link {
	for i := range s.Links {
		if s.Links[i].Name == name && name != "" {
			return &s.Links[i]
		}
	}
	return nil
}

// count leaves in the rules what their counters have counted from one reading to the next.
func count(list, after []Table) {
	type key struct {
		family, table string
		handle        uint64
	}
	now := map[key]uint64{}
	for _, t := range after {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				now[key{t.Family, t.Name, r.Handle}] = r.Packets
			}
		}
	}
	for _, t := range list {
		for _, c := range t.Chains {
			for i := range c.Rules {
				r := &c.Rules[i]
				if n := now[key{t.Family, t.Name, r.Handle}]; n >= r.Packets {
					r.Packets = n - r.Packets
				} else {
					r.Packets = 0
				}
			}
		}
	}
}
