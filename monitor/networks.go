package monitor

import (
	"github.com/kakuri/kakuri/monitor/dns"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
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
	// Links has systemd-resolved say which servers are asked for which names, where it answers and there are Servers: its links have domains. World is of an ordinary user, who is in a network
	// world and asks some of them at other addresses.
	Links, World bool `json:",omitempty"`
	// Egress, when set, is what the container may begin to speak to: no other names are answered.
	Egress *plan.Egress `json:",omitempty"`
}

// A Membership is one network that a container is in.
type Membership struct {
	ID, Name string
	Subnets  []netip.Prefix
	// Links are what this container alone calls others of the network: a name, and the one that it stands for.
	Links map[string]string `json:",omitempty"`
}

// ReadNetworks reads the networks of the container in a directory; fs.ErrNotExist says that it is in none.
func ReadNetworks(dir string) (Networks, error) {
	var n Networks
	return n, ReadJSON(dir+"/networks.json", &n)
}
