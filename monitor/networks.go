package monitor

import (
	"github.com/kakuri/kakuri/monitor/dns"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/network/netip"
)

// Networks is networks.json in the container's directory: the networks that it is in, as its monitor has to know them. The engine writes it by
// [WriteJSON] before each start, and when a running container is connected or disconnected; the resolver sees that it has changed.
type Networks struct {
	Data string // the root that records of networks and their leases are kept in: see netdb.Open
	// Networks are those it is connected to, in the order in which they are asked for a name.
	Networks []Membership
	// Resolver has the names answered at 127.0.0.11 in the container's namespace.
	Resolver bool `json:",omitempty"`
	// Servers are asked for all other names, in this order. With none, as in a container whose networks are all internal, nobody is.
	Servers []dns.Server `json:",omitempty"`
}

// A Membership is one network that a container is in.
type Membership struct {
	ID, Name string
	Subnets  []netip.Prefix
	// Links are what this container alone calls others of the network: a name, and the one that it stands for.
	Links map[string]string `json:",omitempty"`
}

// leaveNetworks takes the container, which has ended, from its networks: its names are not found any more, and its addresses are others' to have.
func (m *monitor) leaveNetworks() {
	n, err := ReadNetworks(m.order.Dir)
	if err != nil {
		return // it is on none; what cannot be read is swept by the next command
	}
	left, _ := netdb.Open(n.Data, m.order.Run).LeaveAll(m.task.ID)
	for _, n := range left {
		Tell(m.task.Events, "network", "disconnect", n.ID, map[string]string{"container": m.task.ID, "name": n.Name, "type": n.Driver})
	}
}

// ReadNetworks reads the networks of the container in a directory; fs.ErrNotExist says that it is in none.
func ReadNetworks(dir string) (Networks, error) {
	var n Networks
	return n, readJSON(dir+"/networks.json", &n)
}
