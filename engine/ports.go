package engine

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// maxPorts is how many ports of the host a container may have: a range of all of them is a mistake more often than meant.
const maxPorts = 65536

// maxExposed is how many ports an image may say it has: all that there are, of tcp, udp and sctp. One could say so of each a million times, in ranges.
const maxExposed = 3 * 65536

// An exposed port is one that a container says it has.
type exposed struct {
	port  uint16
	proto string
}

func (x exposed) String() string { return strconv.Itoa(int(x.port)) + "/" + x.proto }

// in reports whether a -p is about the port, too.
func (x exposed) in(s PortSpec) bool {
	return s.Port <= x.port && x.port <= max(s.Port, s.PortEnd) && cmp.Or(s.Proto, "tcp") == x.proto
}

// parseExposed reads PORT[-PORT][/PROTOCOL].
func parseExposed(text string) (list []exposed, err error) {
	ports, proto, _ := strings.Cut(text, "/")
	proto = strings.ToLower(cmp.Or(proto, "tcp"))
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || from == 0 || to < from || !isProto(proto) {
		return nil, fmt.Errorf("invalid range format for --expose: %s: it is PORT or FIRST-LAST, and after a slash tcp, udp or sctp", text)
	}
	for port := from; port <= to; port++ {
		list = append(list, exposed{uint16(port), proto})
	}
	return list, nil
}

func isProto(s string) bool { return s == "tcp" || s == "udp" || s == "sctp" }

// exposedPorts are all ports that a container says it has: of its image, by --expose and by -p.
func (c *Config) exposedPorts() (list []exposed, err error) {
	has := map[exposed]bool{}
	add := func(x exposed) {
		if !has[x] {
			has[x], list = true, append(list, x)
		}
	}
	for _, text := range c.Expose {
		more, err := parseExposed(text)
		if err != nil {
			return nil, err
		}
		for _, x := range more {
			add(x)
		}
	}
	for _, p := range c.Publish {
		for port := int(p.Port); port <= int(max(p.Port, p.PortEnd)); port++ {
			add(exposed{uint16(port), cmp.Or(p.Proto, "tcp")})
		}
	}
	return list, nil
}

// ownPorts are the exposed ports of a container whose network they are ports of: as with Docker, those of one without a network, or with another's, are not shown.
func (c *Config) ownPorts() []exposed {
	if isNetworkMode(c.networkMode()) {
		return nil
	}
	all, _ := c.exposedPorts() // they were looked at when it was made
	return all
}

// chosenPorts is the configuration with the ports that were a choice as they were chosen; those that were not are a choice still.
func (c Config) chosenPorts(has []plan.Publish) Config {
	choices := newPortChoices(c.Publish, has)
	var specs []PortSpec
	for _, s := range c.Publish {
		if s.fixed() {
			specs = append(specs, s)
			continue
		}
		for port := int(s.Port); port <= int(max(s.Port, s.PortEnd)); port++ {
			one := s
			one.Port, one.PortEnd = uint16(port), 0
			if at := choices.take(s, one.Port); at != 0 {
				one.HostPort, one.HostPortEnd = at, 0
			}
			specs = append(specs, one)
		}
	}
	if all, err := c.exposedPorts(); err == nil && c.PublishAll {
		for _, x := range all {
			if slices.ContainsFunc(specs, x.in) {
				continue
			}
			if at := choices.take(PortSpec{Proto: x.proto}, x.port); at != 0 {
				specs = append(specs, PortSpec{HostPort: at, Port: x.port, Proto: x.proto})
			}
		}
	}
	c.Publish = specs
	return c
}

// fixed reports whether each port of the container has one of the host by its number.
func (s PortSpec) fixed() bool {
	return s.HostPort != 0 && (s.HostPortEnd <= s.HostPort || s.PortEnd > s.Port)
}

// portChoices are the ports of the host that a container was given, and those that are somebody's already: a port of the container may be published several
// times, and each choice takes one that is nobody else's.
type portChoices struct {
	given map[exposed][]plan.Publish
	taken map[hostPort][]string // the addresses at which it is
}

func newPortChoices(asked []PortSpec, has []plan.Publish) portChoices {
	x := portChoices{map[exposed][]plan.Publish{}, map[hostPort][]string{}}
	for _, p := range has {
		x.given[exposed{p.Port, p.Proto}] = append(x.given[exposed{p.Port, p.Proto}], p)
	}
	for _, s := range asked {
		for i := 0; s.fixed() && i < span(s.Port, s.PortEnd); i++ {
			at := hostPort{cmp.Or(s.Proto, "tcp"), s.HostPort + uint16(i)}
			x.taken[at] = append(x.taken[at], s.HostIP)
		}
	}
	return x
}

// take gives the port of the host that was chosen for a port of s, 0 for none.
func (x portChoices) take(s PortSpec, port uint16) uint16 {
	proto := cmp.Or(s.Proto, "tcp")
	for _, p := range x.given[exposed{port, proto}] {
		at := hostPort{proto, p.HostPort}
		others := slices.ContainsFunc(x.taken[at], func(ip string) bool { return ip == s.HostIP || ip == "" || s.HostIP == "" })
		outside := s.HostPort != 0 && (p.HostPort < s.HostPort || p.HostPort > s.HostPortEnd)
		if p.HostPort == 0 || s.HostIP != "" && p.HostAddr.String() != s.HostIP || others || outside {
			continue
		}
		x.taken[at] = append(x.taken[at], s.HostIP)
		return p.HostPort
	}
	return 0
}

// A backend is what ports of the host lead to: a container, by its address of each family, of the network by which answers of that family leave.
type backend struct {
	v4, v6 way
	host6  bool // the machine has IPv6, too
}

// A way is one of a backend's addresses, and the bridge that leads there.
type way struct {
	addr    netip.Addr // zero for none
	network string
	bridge  string
	routed  bool       // it is reached at the address itself, and by no port of the host
	binding netip.Addr // where the network says that ports are published which name no address; zero is everywhere
}

// A publishedAt is an address of the host at which a port is published, and where it leads.
type publishedAt struct {
	host netip.Addr
	way
}

// portSpecs are what -p asks for and, with -P, the exposed ports that it does not name, at any port of the host.
func (c *Config) portSpecs() ([]PortSpec, error) {
	specs := slices.Clone(c.Publish)
	if !c.PublishAll {
		return specs, nil
	}
	all, err := c.exposedPorts()
	for _, x := range all {
		if !slices.ContainsFunc(c.Publish, x.in) {
			specs = append(specs, PortSpec{Port: x.port, Proto: x.proto})
		}
	}
	return specs, err
}

// publish is where the ports of a container are published: a line for each address and port. take takes the host's port at each address, or says why it cannot be
// had; it is asked for ports that are a choice only.
func publish(c *Config, to backend, take func([]plan.Publish) error) ([]plan.Publish, error) {
	specs, err := c.portSpecs()
	if err != nil {
		return nil, err
	}
	p := publishing{used: map[hostPort][]netip.Addr{}, free: chance(), take: take}
	for _, s := range specs {
		s.Proto = cmp.Or(s.Proto, "tcp")
		at, err := to.hostAddrs(s)
		if err != nil {
			return nil, err
		}
		if err := p.add(s, at); err != nil {
			return nil, err
		}
	}
	return p.list, nil
}

// A publishing is a container's list of published ports as it grows.
type publishing struct {
	list []plan.Publish
	used map[hostPort][]netip.Addr // of list: a range may be all ports, and to look through the list for each took minutes
	free *freePort
	take func([]plan.Publish) error
}

type hostPort struct {
	proto string
	port  uint16
}

// add publishes what one -p asks for, at addresses of the host.
func (p *publishing) add(s PortSpec, at []publishedAt) error {
	if s.Strict && slices.ContainsFunc(at, func(a publishedAt) bool { return a.routed }) {
		return fmt.Errorf("invalid publish: mode strict is of a socket of the host, and port %d/%s has none by its network's gateway mode routed", s.Port, s.Proto)
	}
	count, hosts := span(s.Port, s.PortEnd), span(s.HostPort, s.HostPortEnd)
	if s.Port == 0 || !isProto(s.Proto) || count > 1 && hosts != count && s.HostPort != 0 || len(p.list)+count > maxPorts {
		return fmt.Errorf("invalid publish: ports %d to %d of the host for %d to %d/%s of the container", s.HostPort, max(s.HostPort, s.HostPortEnd), s.Port, max(s.Port, s.PortEnd), s.Proto)
	}
	for i := range count {
		lines := make([]plan.Publish, len(at))
		for k, a := range at {
			lines[k] = plan.Publish{Proto: s.Proto, HostAddr: a.host, Addr: a.addr, Port: s.Port + uint16(i), Strict: s.Strict, Routed: a.routed, Bridge: a.bridge}
		}
		port, err := p.hostPort(s, i, lines)
		if err != nil {
			return err
		}
		for _, line := range atPort(lines, port) {
			p.list = append(p.list, line)
			if !line.Routed {
				at := hostPort{line.Proto, line.HostPort}
				p.used[at] = append(p.used[at], line.HostAddr)
			}
		}
	}
	return nil
}

// span is how many ports a range has, whose end is 0 for one.
func span(from, to uint16) int { return 1 + int(max(from, to)) - int(from) }

// hostPort is the port of the host at which the ith port of a -p is published: the one that it names, or one that is chosen and taken; 0 where all lines are routed.
func (p *publishing) hostPort(s PortSpec, i int, lines []plan.Publish) (uint16, error) {
	var held []plan.Publish // those whose port the host has
	for _, line := range lines {
		if !line.Routed {
			held = append(held, line)
		}
	}
	try := func(port uint16) error {
		if err := p.twice(held, port); err != nil {
			return err
		}
		return p.take(atPort(held, port))
	}
	switch {
	case len(held) == 0:
		return 0, nil
	case s.HostPort == 0:
		return p.free.port(try)
	case span(s.Port, s.PortEnd) == 1 && s.HostPortEnd > s.HostPort:
		return firstPort(s.HostPort, s.HostPortEnd, try)
	}
	port := s.HostPort + uint16(i)
	return port, p.twice(held, port)
}

// twice says that the container itself has a port already.
func (p *publishing) twice(lines []plan.Publish, port uint16) error {
	for _, line := range lines {
		a := line.HostAddr
		if slices.ContainsFunc(p.used[hostPort{line.Proto, port}], func(u netip.Addr) bool {
			return u == a || u.Is4() == a.Is4() && (u.IsUnspecified() || a.IsUnspecified())
		}) {
			return &network.TakenError{Port: plan.Publish{Proto: line.Proto, HostAddr: a, HostPort: port}, Who: "this container has it twice"}
		}
	}
	return nil
}

// atPort are lines with the host's port, which a routed one has none of.
func atPort(lines []plan.Publish, port uint16) []plan.Publish {
	lines = slices.Clone(lines)
	for i := range lines {
		if !lines[i].Routed {
			lines[i].HostPort = port
		}
	}
	return lines
}

// hostAddrs are the addresses of the host that a port is published on. One whose family the container has no address of is passed on to the other by a socket, as
// with Docker's proxy: so IPv6 of the host leads to a container that has IPv4 alone. Unasked that is not done the other way round, as with Docker, and not for SCTP.
func (to backend) hostAddrs(s PortSpec) (list []publishedAt, err error) {
	if s.HostIP == "" {
		other := to.v4 // what IPv6 of the host leads to
		if to.v6.addr.IsValid() || to.v4.routed || s.Proto == "sctp" || !to.host6 {
			other = to.v6
		}
		if to.v4.addr.IsValid() && !to.v4.binding.Is6() {
			list = append(list, publishedAt{cmp.Or(to.v4.binding, netip.IPv4Unspecified()), to.v4})
		}
		if bound := other.binding; other.addr.IsValid() && (bound.Is6() || !bound.IsValid() || bound.IsUnspecified()) {
			if !bound.Is6() {
				bound = netip.IPv6Unspecified()
			}
			list = append(list, publishedAt{bound, other})
		}
		if len(list) == 0 {
			return nil, errors.New("a port cannot be published: the container is on no network by which the host reaches it")
		}
		return list, nil
	}
	a, err := netip.ParseAddr(s.HostIP)
	if err != nil {
		return nil, fmt.Errorf("invalid IP address: %s", s.HostIP)
	}
	a = a.Unmap()
	same, other := to.v4, to.v6
	if a.Is6() {
		same, other = to.v6, to.v4
	}
	switch {
	case same.addr.IsValid():
		return []publishedAt{{a, same}}, nil
	case !other.addr.IsValid() || other.routed || s.Proto == "sctp":
		return nil, fmt.Errorf("a port cannot be published on %s: the container has no address of that family by which the host reaches it", a)
	}
	return []publishedAt{{a, other}}, nil
}

// ephemeral is the range of ports that the kernel gives to who names none: ip(7).
func ephemeral() (from, to uint16) {
	data, err := files.Read("/proc/sys/net/ipv4/ip_local_port_range")
	if f := strings.Fields(string(data)); err == nil && len(f) == 2 {
		a, err1 := strconv.ParseUint(f[0], 10, 16)
		b, err2 := strconv.ParseUint(f[1], 10, 16)
		if err1 == nil && err2 == nil && a > 0 && a <= b {
			return uint16(a), uint16(b)
		}
	}
	return 32768, 60999
}

// A freePort looks for ports of the host that can be had, the next where the one before was found: to begin anew for each goes through all that one has already.
type freePort struct {
	from uint16
	size int
	next int // after from
}

// chance begins at a port chosen by chance: two who look at once look at different ones.
func chance() *freePort {
	from, to := ephemeral()
	var b [2]byte
	files.Random(b[:])
	size := int(to) - int(from) + 1
	return &freePort{from, size, (int(b[0]) | int(b[1])<<8) % size}
}

func (f *freePort) port(try func(port uint16) error) (uint16, error) {
	var last error
	for range f.size {
		port := f.from + uint16(f.next)
		f.next = (f.next + 1) % f.size
		if last = try(port); last == nil || !othersHave(last) {
			return port, last
		}
	}
	return 0, fmt.Errorf("all ports from %d to %d are taken: %w", f.from, int(f.from)+f.size-1, last)
}

// othersHave tells an error of one port from one of all ports, as of who may have no more sockets.
func othersHave(err error) bool {
	return errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EACCES)
}

// firstPort is the first port of a range that can be had.
func firstPort(from, to uint16, try func(port uint16) error) (uint16, error) {
	var last error
	for port := int(from); port <= int(to); port++ {
		if last = try(uint16(port)); last == nil || !othersHave(last) {
			return uint16(port), last
		}
	}
	return 0, fmt.Errorf("all ports from %d to %d are taken: %w", from, to, last)
}

// takePorts takes ports of the host, all or none of them; who only looks gives them back at once.
func (b *builder) takePorts(ports []plan.Publish) error {
	var held []takenPort
	for _, p := range ports {
		h, err := network.TryPort(p)
		if errors.Is(err, unix.EADDRINUSE) {
			err = &network.TakenError{Port: p, Who: err.Error()}
		}
		if err != nil {
			return errors.Join(err, closePorts(held))
		}
		held = append(held, takenPort{p, h.FD})
	}
	if b.look || b.engine.rootless() {
		return closePorts(held)
	}
	b.held = append(b.held, held...)
	return nil
}

// A takenPort is a port of the host that this process has until the monitor has it, so that nobody else gets it meanwhile.
type takenPort struct {
	plan.Publish
	fd int // -1: nobody can have it
}

func closePorts(list []takenPort) error {
	var errs []error
	for _, t := range list {
		if t.fd >= 0 {
			errs = append(errs, os.NewSyscallError("close", unix.Close(t.fd)))
		}
	}
	return errors.Join(errs...)
}

// dropPorts closes what the builder holds of ports.
func (b *builder) dropPorts() error {
	list := b.held
	b.held = nil
	return closePorts(list)
}

// heldPorts are the sockets that a monitor gets, by the number of the port in the plan. Those for which there is no room in a message are given up.
func (b *builder) heldPorts() (list []monitor.HeldPort) {
	if len(b.held) > monitor.MaxHeld {
		closePorts(b.held[monitor.MaxHeld:])
		b.held = b.held[:monitor.MaxHeld]
	}
	for _, t := range b.held {
		if i := slices.Index(b.opts.Network.Publish, t.Publish); i >= 0 && t.fd >= 0 {
			list = append(list, monitor.HeldPort{Number: i, FD: t.fd})
		}
	}
	return list
}

// bindings are published ports as inspect has them, in Docker's order.
func bindings(list []plan.Publish) map[string][]PortBinding {
	out := map[string][]PortBinding{}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b plan.Publish) int {
		return cmp.Or(cmp.Compare(a.HostPort, b.HostPort), a.HostAddr.Compare(b.HostAddr))
	})
	for _, p := range list {
		key := exposed{p.Port, p.Proto}.String()
		b := PortBinding{HostIp: p.HostAddr.String()}
		if !p.Routed {
			b.HostPort = strconv.Itoa(int(p.HostPort))
		}
		out[key] = append(out[key], b)
	}
	return out
}

// askedBindings are the ports that -p asked for, as inspect has them.
func (c *Config) askedBindings() map[string][]PortBinding {
	out := map[string][]PortBinding{}
	for _, s := range c.Publish {
		for i := range 1 + int(max(s.Port, s.PortEnd)) - int(s.Port) {
			key := exposed{s.Port + uint16(i), cmp.Or(s.Proto, "tcp")}.String()
			b := PortBinding{HostIp: s.HostIP}
			switch {
			case s.HostPort == 0 && s.AnyPort:
				b.HostPort = "0"
			case s.HostPort == 0:
			case s.HostPortEnd > s.HostPort && s.PortEnd <= s.Port:
				b.HostPort = fmt.Sprintf("%d-%d", s.HostPort, s.HostPortEnd)
			default:
				b.HostPort = strconv.Itoa(int(s.HostPort) + i)
			}
			out[key] = append(out[key], b)
		}
	}
	return out
}

// A Port is a port of a container that the host has, too.
type Port struct {
	Container string // PORT/PROTOCOL
	PortBinding
}

// Port lists the ports of a running container that the host has, too.
func (e *Engine) Port(ref string) ([]Port, error) {
	c, err := e.Find(ref)
	if err != nil || !c.Active() {
		return nil, err
	}
	return publishedPorts(c.Ports), nil
}

// publishedPorts are ports in the order of Docker's command.
func publishedPorts(all []plan.Publish) []Port {
	list := []Port{}
	published := slices.DeleteFunc(slices.Clone(all), func(p plan.Publish) bool { return p.Routed })
	slices.SortStableFunc(published, func(a, b plan.Publish) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto), a.HostAddr.Compare(b.HostAddr), cmp.Compare(a.HostPort, b.HostPort))
	})
	for _, p := range published {
		list = append(list, Port{exposed{p.Port, p.Proto}.String(), PortBinding{p.HostAddr.String(), strconv.Itoa(int(p.HostPort))}})
	}
	return list
}

// A SummaryPort is a port as lists have it, in Docker's shape.
type SummaryPort struct {
	IP          string `json:",omitempty"`
	PrivatePort uint16
	PublicPort  uint16 `json:",omitempty"`
	Type        string
}

// summaryPorts are a running container's ports: those that the host has, too, and those that it only says it has.
func (c *Container) summaryPorts() []SummaryPort {
	list := []SummaryPort{}
	if !c.Active() {
		return list
	}
	shown := map[exposed]bool{}
	for _, p := range c.Ports {
		if p.Routed {
			continue // as Docker: the host has none
		}
		list = append(list, SummaryPort{p.HostAddr.String(), p.Port, p.HostPort, p.Proto})
		shown[exposed{p.Port, p.Proto}] = true
	}
	for _, x := range c.Config.ownPorts() {
		if !shown[x] {
			list = append(list, SummaryPort{PrivatePort: x.port, Type: x.proto})
		}
	}
	return list
}

// portFilter makes a question of PORT[-PORT][/PROTOCOL], which the filters publish and expose have.
func portFilter(key, value string) (func(port uint16, proto string) bool, error) {
	list, err := parseExposed(value)
	if err != nil {
		return nil, fmt.Errorf("invalid filter '%s=%s'", key, value)
	}
	return func(port uint16, proto string) bool { return slices.Contains(list, exposed{port, proto}) }, nil
}
