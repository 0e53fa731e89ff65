package monitor

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/kakuri/kakuri/monitor/dns"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/network/netip"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// A monitor keeps what of its container's networks is a socket, answers for names, and gives everything back in the end.

// nets is what a run has of networks.
type nets struct {
	mu       sync.Mutex
	resolver *dns.Resolver
}

// keep does the steps of a launch whose sockets are this process's: see oci.Launch.
func (m *monitor) keep(op plan.Op, pid int) error {
	switch op.(type) {
	case *plan.ServeNames:
		return m.serveNames(fmt.Sprintf("/proc/%d/ns/net", pid))
	}
	return fmt.Errorf("%s: this monitor does not know how", op.Name())
}

// serveNames answers for names in the network namespace at path; where it does so already, nothing is to do.
func (m *monitor) serveNames(path string) error {
	m.nets.mu.Lock()
	defer m.nets.mu.Unlock()
	if m.nets.resolver != nil {
		return nil
	}
	s, err := dns.Listen(path, 53)
	if err != nil {
		return err
	}
	return m.answer(s)
}

// answer begins to. The lock is held, or nobody else is there yet.
func (m *monitor) answer(s dns.Sockets) (err error) {
	if m.nets.resolver, err = dns.Serve(s, newNames(m.order.Dir, m.order.Run)); err != nil {
		s.Close()
	}
	return err
}

// connected is told when a container that runs was connected to a network whose names are answered, or disconnected.
func (m *monitor) connected() error {
	n, err := ReadNetworks(m.order.Dir)
	if err != nil || !n.Resolver {
		return err
	}
	m.mu.Lock()
	w, running := m.state.Witness(), m.run != nil && m.run.container != nil
	m.mu.Unlock()
	if !running || !w.Alive() {
		return errNotNow
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

// silence ends what a run had of sockets in its network namespace, which goes with the last of them.
func (m *monitor) silence() {
	m.nets.mu.Lock()
	defer m.nets.mu.Unlock()
	if m.nets.resolver != nil {
		m.nets.resolver.Close()
		m.nets.resolver = nil
	}
}

// leaveNetworks gives back the container's names and addresses: after its last run, since the next one by its policy has the same.
func (m *monitor) leaveNetworks() error {
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
	if n.resolver == nil {
		leave()
		return
	}
	if n.resolver.Pause() {
		leave()
	} else {
		time.AfterFunc(time.Second, m.settle)
	}
	n.resolver.Resume()
}

// names is what a container's resolver answers from: the networks that networks.json says it is in, and no others.
type names struct {
	dir, run string

	mu   sync.Mutex
	read unix.Stat_t // of the file that was read last
	now  Networks
	db   *netdb.DB
}

func newNames(dir, run string) *names { return &names{dir: dir, run: run} }

// networks is what the file says. It is read again when it is another one: the engine replaces it as a whole.
func (n *names) networks() (Networks, *netdb.DB) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var st unix.Stat_t
	if err := unix.Stat(n.dir+"/networks.json", &st); err != nil {
		return Networks{}, netdb.Open("", n.run)
	}
	if n.db == nil || st.Ino != n.read.Ino || st.Mtim != n.read.Mtim || st.Size != n.read.Size {
		now, err := ReadNetworks(n.dir)
		if err != nil {
			return Networks{}, netdb.Open("", n.run)
		}
		n.read, n.now, n.db = st, now, netdb.Open(now.Data, n.run)
	}
	return n.now, n.db
}

// Lookup implements [dns.Names]. The first network that knows a name answers for it; then it may be one with a network's name behind it.
func (n *names) Lookup(name string) ([]netip.Addr, bool) {
	now, db := n.networks()
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
	now, db := n.networks()
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
func (n *names) Servers() []dns.Server {
	now, _ := n.networks()
	return append([]dns.Server(nil), now.Servers...)
}
