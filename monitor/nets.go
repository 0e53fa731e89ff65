package monitor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor/dns"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

// A monitor keeps what of its container's networks is a socket, answers for names, and gives everything back in the end.

// nets is what a container has of networks.
type nets struct {
	mu       sync.Mutex
	resolver *dns.Resolver // of the run
	names    *names        // that it answers from
	ports    []heldPort
	passed   []int          // sockets that came with the order, of the ports that it numbers
	relay    *network.Relay // nil until a port needs it
	watch    *network.Watch // for rules that are flushed; nil until the start has settled, and where there are no bridges
}

// A heldPort is a port of the host that is the container's, from its start to its last end.
type heldPort struct {
	plan.Publish
	FD    int  // -1 for none
	Relay bool // what comes to the socket is passed on
}

// mostElse is more descriptors than a monitor has for all but the connections of ports: questions for names on their way, clients, streams, a log.
const mostElse = 512

// Rules are the firewall rules of a machine's networks, with their records below run.
func Rules(run string) *network.Rules { return network.OpenRules(run + "/rules") }

// keep does the steps of a launch that this process answers for: see oci.Launch.
func (m *monitor) keep(op plan.Op, pid int) error {
	rules := Rules(m.order.Run)
	switch op := op.(type) {
	case *plan.MakeRules:
		for _, b := range op.Bridges {
			if err := rules.AddBridge(b); err != nil {
				return err
			}
		}
		return nil
	case *plan.HoldPorts:
		return m.holdPorts(op.Ports)
	case *plan.PublishPorts:
		return rules.Publish(op.Owner, op.Ports)
	case *plan.UplinkPorts:
		return m.uplinkPorts(op.Ports, m.warn)
	case *plan.UnpublishPorts:
		return m.unpublish()
	case *plan.ServeNames:
		return m.serveNames(fmt.Sprintf("/proc/%d/ns/net", pid))
	}
	return fmt.Errorf("%s: this monitor does not know how", op.Name())
}

// holdPorts takes the ports that the container does not have yet: a restart by its policy finds them held.
func (m *monitor) holdPorts(list []plan.Publish) error {
	m.nets.mu.Lock()
	defer m.nets.mu.Unlock()
	passed := m.nets.passed
	m.nets.passed = nil
	for i, p := range list {
		if slices.ContainsFunc(m.nets.ports, func(h heldPort) bool { return h.Publish == p }) {
			continue
		}
		var h network.Held
		var err error
		if at := slices.Index(m.order.Held, i); at >= 0 && at < len(passed) {
			h = network.HeldBy(p, passed[at])
		} else if h, err = Rules(m.order.Run).HoldPort(p); err != nil {
			return err
		}
		if err := m.takePort(heldPort{p, h.FD, h.Relay}); err != nil {
			return err
		}
	}
	return nil
}

// takePort keeps a port that is held. The lock is held, or nobody else is there yet.
func (m *monitor) takePort(h heldPort) (err error) {
	m.nets.ports = append(m.nets.ports, h)
	if !h.Relay {
		return nil
	}
	if m.nets.relay == nil {
		if m.nets.relay, err = network.NewRelay(max(files.Most()-mostElse, files.Most()/2)); err != nil {
			return err
		}
	}
	return m.nets.relay.Serve(h.FD, h.Proto, h.Addr, h.Port)
}

// followPorts has the machine's ports lead to where setup.json says by now, which is another address when the container was connected to a network or taken from
// one. A port that stays is never free in between.
func (m *monitor) followPorts() error {
	how, err := ReadSetup(m.order.Dir)
	if err != nil || how.Options.Network == nil {
		return err
	}
	list := how.Options.Network.Publish
	if how.Options.Network.World {
		now, err := uplink.ReadPorts(uplink.Dir(m.order.Run), m.task.ID)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // it has none
		}
		switch {
		case err != nil || slices.Equal(now, list):
			return err
		case len(list) == 0:
			return uplink.Unpublish(uplink.Dir(m.order.Run), m.task.ID, nil)
		}
		return m.uplinkPorts(list, nil)
	}
	if changed, err := m.leadPorts(list); err != nil || !changed {
		return err
	}
	if err := m.holdPorts(list); err != nil {
		return err
	}
	if len(list) == 0 {
		return Rules(m.order.Run).Unpublish(m.task.ID)
	}
	return Rules(m.order.Run).Publish(m.task.ID, list)
}

// leadPorts has the sockets that are held be those of a list, as far as there are any, and gives up the others. It reports whether that is not what there
// was.
func (m *monitor) leadPorts(list []plan.Publish) (changed bool, err error) {
	m.nets.mu.Lock()
	defer m.nets.mu.Unlock()
	changed = len(list) != len(m.nets.ports)
	var errs []error
	m.nets.ports = slices.DeleteFunc(m.nets.ports, func(h heldPort) bool {
		if slices.Contains(list, h.Publish) {
			return false
		}
		changed = true
		if h.Relay && m.nets.relay != nil {
			m.nets.relay.Stop(h.FD)
		}
		return !slices.ContainsFunc(list, func(p plan.Publish) bool { return h.canBe(p) }) && (h.FD < 0 || unix.Close(h.FD) == nil)
	})
	for i := range m.nets.ports {
		h := &m.nets.ports[i]
		if slices.Contains(list, h.Publish) {
			continue
		}
		h.Publish = list[slices.IndexFunc(list, h.canBe)]
		if h.Relay && m.nets.relay != nil {
			errs = append(errs, network.Readdress(h.FD, h.Publish), m.nets.relay.Serve(h.FD, h.Proto, h.Addr, h.Port))
		}
	}
	return changed, errors.Join(errs...)
}

// canBe reports whether the socket of a port is what another one needs, which leads elsewhere.
func (h heldPort) canBe(p plan.Publish) bool {
	return !h.Routed && !p.Routed && h.Proto == p.Proto && h.HostAddr == p.HostAddr && h.HostPort == p.HostPort && h.Relay == network.HeldBy(p, h.FD).Relay
}

// dropPorts gives the ports back.
func (m *monitor) dropPorts() {
	m.nets.mu.Lock()
	defer m.nets.mu.Unlock()
	if m.nets.relay != nil {
		m.nets.relay.Close()
		m.nets.relay = nil
	}
	for _, h := range m.nets.ports {
		if h.FD >= 0 {
			unix.Close(h.FD)
		}
	}
	m.nets.ports = nil
}

// serveNames answers for names in the network namespace at path; where it does so already, nothing is to do.
func (m *monitor) serveNames(path string) error {
	m.nets.mu.Lock()
	defer m.nets.mu.Unlock()
	if m.nets.resolver != nil {
		return nil
	}
	s, err := dns.Listen(path, 0)
	if err != nil {
		return err
	}
	if err := network.RedirectNames(s.Inner, s.Port, s.Port); err != nil {
		// A kernel without nftables: then port 53 is taken from the container's programs.
		s.Close()
		var direct error
		if s, direct = dns.Listen(path, 53); direct != nil {
			return errors.Join(err, direct)
		}
	}
	return m.answer(s)
}

// answer begins to. The lock is held, or nobody else is there yet.
func (m *monitor) answer(s dns.Sockets) (err error) {
	n := newNames(m.order.Dir, m.order.Run)
	if m.nets.resolver, err = dns.Serve(s, n); err != nil {
		s.Close()
		return err
	}
	m.nets.names = n
	return nil
}

// connected is told when a container that runs was connected to a network whose names are answered, or disconnected.
func (m *monitor) connected() error {
	if err := m.followPorts(); err != nil {
		return err
	}
	n, err := ReadNetworks(m.order.Dir)
	if err != nil || !n.Resolver {
		return err
	}
	m.mu.Lock()
	w, running := m.state.Witness(), m.run != nil && m.run.container != nil
	m.mu.Unlock()
	if !running || !w.Alive() {
		return nil // its next start does that
	}
	return m.serveNames(fmt.Sprintf("/proc/%d/ns/net", w.PID))
}

// resumeNames has names answered again after another monitor was killed: by other sockets, since its own are gone.
func (m *monitor) resumeNames() error {
	n, err := ReadNetworks(m.order.Dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !n.Resolver {
		return nil
	}
	if err != nil {
		return err
	}
	return m.serveNames(fmt.Sprintf("/proc/%d/ns/net", m.state.PID))
}

// resumePorts holds the container's ports again. One that somebody has taken meanwhile is led to the container by the rules all the same.
func (m *monitor) resumePorts() error {
	how, err := ReadSetup(m.order.Dir)
	if err != nil || how.Options.Network == nil {
		return err
	}
	if how.Options.Network.World {
		return nil // the uplink has them
	}
	return m.holdPorts(how.Options.Network.Publish)
}

// silence ends what a run had of sockets in its network namespace, which goes with the last of them.
func (m *monitor) silence() {
	m.nets.mu.Lock()
	defer m.nets.mu.Unlock()
	if m.nets.resolver != nil {
		m.keepRefused()
		m.nets.resolver.Close()
		m.nets.names.close()
		m.nets.resolver, m.nets.names = nil, nil
	}
}

// joinedName is a file in the place of a container whose network namespace another one has joined in this run.
const joinedName = "joined"

// markJoined writes down that the network namespace of a container gets another one's processes, before they are there: who ends it has to know that the namespace
// does not go with it.
func (m *monitor) markJoined(id string) error {
	f, err := os.OpenFile(Place(m.order.Run, id)+"/"+joinedName, os.O_CREATE|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has ended, which who looks for its namespace finds
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// unplug takes away the devices of a run that has ended where its network namespace lives on, as Docker does: its addresses are about to be others', and its
// next run's devices have the same names. Else they go with the namespace, in the background: that takes the kernel tens of milliseconds.
func (m *monitor) unplug() error {
	joined := m.place + "/" + joinedName
	if _, err := os.Lstat(joined); err != nil {
		return nil
	}
	return errors.Join(m.dropDevices(), os.Remove(joined))
}

// watchRules has rules that somebody flushes put back, which else the next command would do. All monitors listen where there are bridges: whichever ends, the others go on.
func (m *monitor) watchRules() {
	n := &m.nets
	n.mu.Lock()
	defer n.mu.Unlock()
	rules := Rules(m.order.Run)
	if n.watch == nil && rules.Any() {
		if w, err := network.OpenWatch(); err == nil {
			m.keepRules(w)
		}
	}
}

// keepRules goes on with a watch. The lock is held, or nobody else is there yet.
func (m *monitor) keepRules(w *network.Watch) {
	m.nets.watch = w
	go w.Keep(Rules(m.order.Run), func() func() {
		over := m.stayAwake()
		return func() {
			over()
			m.settleAgain()
		}
	})
}

// unwatchRules comes before rules are deleted: the kernel has who closes such a socket right after that wait for all processors.
func (m *monitor) unwatchRules() {
	n := &m.nets
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.watch != nil {
		n.watch.Close()
		n.watch = nil
	}
}

// dropDevices takes away what the last run has of devices.
func (m *monitor) dropDevices() error {
	how, err := ReadSetup(m.order.Dir)
	if err != nil || how.Options.Network == nil {
		return err
	}
	m.nets.mu.Lock()
	defer m.nets.mu.Unlock()
	inside := ""
	if m.nets.resolver != nil {
		inside = fmt.Sprintf("/proc/self/fd/%d", m.nets.resolver.Sockets().Inner)
	}
	d := &network.Doer{}
	defer d.Close()
	return d.Unplug(how.Options.Network.Endpoints, inside)
}

// leaveNetworks gives back the container's ports, names and addresses: after its last run, since the next one by its policy has the same.
func (m *monitor) leaveNetworks() error {
	m.unwatchRules()
	m.dropPorts()
	return errors.Join(m.unpublish(), m.leaveNames())
}

// unpublish takes the container's ports out of the rules.
func (m *monitor) unpublish() error {
	how, err := ReadSetup(m.order.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || how.Options.Network == nil || len(how.Options.Network.Publish) == 0 {
		return err
	}
	if how.Options.Network.World {
		return uplink.Unpublish(uplink.Dir(m.order.Run), m.task.ID, nil)
	}
	return Rules(m.order.Run).Unpublish(m.task.ID)
}

// leaveNames gives back names and addresses.
func (m *monitor) leaveNames() error {
	n, err := ReadNetworks(m.order.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err // the next command's sweep finds them
	}
	left, err := netdb.Open(n.Data, m.order.Run).LeaveAll(m.task.ID)
	for _, n := range left {
		Tell(m.task.Events, "network", "disconnect", n.ID, map[string]string{"container": m.task.ID, "name": n.Name, "type": n.Driver})
	}
	return err
}

// restNets does what leaves the sockets to another program, in a moment when nothing would be lost.
func (m *monitor) restNets(leave func()) {
	n := &m.nets
	n.mu.Lock()
	defer n.mu.Unlock()
	quiet := true
	if n.resolver != nil {
		quiet = n.resolver.Pause()
		defer n.resolver.Resume()
	}
	if quiet && n.relay != nil {
		if quiet = n.relay.CloseIdle(); quiet {
			defer m.relayAgain()
		}
	}
	if !quiet {
		time.AfterFunc(time.Second, m.settle)
		return
	}
	leave()
}

// relayAgain goes on after a rest that was none.
func (m *monitor) relayAgain() {
	list := m.nets.ports
	m.nets.relay, m.nets.ports = nil, nil
	for _, h := range list {
		m.takePort(h) // who has no memory for it passes nothing on
	}
}

// names is what a container's resolver answers from: the networks that networks.json says it is in, and no others.
type names struct {
	dir, run string

	mu   sync.Mutex
	seen *files.Seen // networks.json, as it was read last; nil where there was none
	now  Networks
	db   *netdb.DB // asked for names and addresses, which lie below run

	links uplink.ResolvedLinks // where networks.json has them asked
	log   refusals             // of a container with --egress
}

func newNames(dir, run string) *names {
	return &names{dir: dir, run: run, log: refusals{dir: dir}}
}

// close lets go of the files that it holds.
func (n *names) close() {
	n.links.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget()
	if n.db != nil {
		n.db.Forget()
	}
}

func (n *names) forget() {
	if n.seen != nil {
		n.seen.Close()
		n.seen = nil
	}
}

// networks is what the file says. It is read again when it is another one: the engine replaces it as a whole.
func (n *names) networks() (Networks, *netdb.DB) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen != nil && n.seen.Same() {
		return n.now, n.db
	}
	n.forget()
	seen, err := files.See(n.dir + "/networks.json")
	if err == nil {
		var now Networks
		if now, err = ReadNetworks(n.dir); err == nil {
			if now.Data != n.now.Data {
				n.db = nil // which was of none
			}
			n.seen, n.now = seen, now
		} else {
			seen.Close()
		}
	}
	// What cannot be read takes no limit away: what it said last holds. Else a question would pass by its --egress, and find its servers a moment later.
	switch {
	case errors.Is(err, fs.ErrNotExist):
		n.now = Networks{}
	case err != nil && n.db == nil:
		n.now = Networks{Egress: &plan.Egress{}} // it may have said anything
	}
	if n.db == nil {
		n.db = netdb.Open(n.now.Data, n.run)
	}
	return n.now, n.db
}

// forThis is networks as it was for the question that Gate was asked for.
func (n *names) forThis() (Networks, *netdb.DB) {
	n.mu.Lock()
	now, db := n.now, n.db
	n.mu.Unlock()
	if db == nil {
		return n.networks()
	}
	return now, db
}

// Lookup implements [dns.Names]. The first network that knows a name answers for it; then it may be one with a network's name behind it.
func (n *names) Lookup(name string) ([]netip.Addr, bool) {
	now, db := n.forThis()
	for i := range now.Networks {
		if addrs, known := now.Networks[i].lookup(db, name); known {
			return addrs, true
		}
	}
	for i := range now.Networks {
		at := &now.Networks[i]
		size := len(name) - len(at.Name) - 1
		if size <= 0 || name[size] != '.' || !strings.EqualFold(name[size+1:], at.Name) {
			continue
		}
		if addrs, known := at.lookup(db, name[:size]); known {
			return addrs, true
		}
	}
	return nil, false
}

// lookup asks one network, first for what the container alone calls its members.
func (at *Membership) lookup(db *netdb.DB, name string) ([]netip.Addr, bool) {
	for link, to := range at.Links {
		if strings.EqualFold(link, name) {
			return db.Resolve(at.ID, to)
		}
	}
	return db.Resolve(at.ID, name)
}

// Reverse implements [dns.Names].
func (n *names) Reverse(p netip.Prefix) (name string, ours bool) {
	now, db := n.forThis()
	for _, at := range now.Networks {
		for _, subnet := range at.Subnets {
			if p.Bits() < subnet.Bits() || !subnet.Contains(p.Addr()) {
				continue
			}
			ours = true
			if !p.IsSingleIP() {
				continue
			}
			if name, known := db.Reverse(at.ID, p.Addr()); known {
				return name + "." + at.Name, true
			}
		}
	}
	return "", ours
}

// Servers implements [dns.Names].
func (n *names) Servers(name string, address bool) ([]dns.Server, bool) {
	now, _ := n.forThis()
	if now.Links && len(now.Servers) > 0 { // else nobody is to be asked
		if routes, known := n.links.Routes(); known {
			// As systemd-resolved has it: names of one label are for search domains and for neighbours, and are not told to others' servers. One router for all may know them.
			if address && name != "" && !strings.Contains(name, ".") && routes.Several() {
				return nil, false
			}
			return asked(routes.Servers(name), now.World), true
		}
	}
	return append([]dns.Server(nil), now.Servers...), true
}

// asked is how a monitor asks servers of the machine.
func asked(servers []uplink.NameServer, world bool) (list []dns.Server) {
	for _, s := range servers {
		u := dns.Server{Addr: s.Addr, Port: s.Port, Scope: s.Device, Host: true}
		if world {
			u = InWorld(u)
		}
		list = append(list, u)
	}
	return list
}

// InWorld is how an ordinary user's monitor, which is in his network world, asks a server of the machine.
func InWorld(s dns.Server) dns.Server {
	if a, ok := (uplink.NameServer{Addr: s.Addr, Device: s.Scope}).Inside(); ok {
		s.Addr, s.Scope = a, 0
	}
	return s
}
