package reach

import "net/netip"

// Facts are what was found, and all that [Judge] goes by. They are recorded as JSON.
type Facts struct {
	Question
	Container *Container `json:",omitempty"` // that the question names, or that has the port
	Published []Published
	Others    []Published `json:",omitempty"` // of Container, or of all where there is none, on other ports
	Taken     []Published `json:",omitempty"` // of other containers, on the ports of the host that Container is to have
	Host      Side
	Inside    *Side `json:",omitempty"` // nil where there is no namespace to look into
	Tests     []Test
	Unread    []string `json:",omitempty"` // what could not be read, and why
	Legacy    []string `json:",omitempty"` // tables of the kernel's iptables from before nftables, whose rules only its own program reads: "ip filter"
}

// A Question is about a port of the host, or of a container where Name is not empty.
type Question struct {
	Name  string `json:",omitempty"`
	Port  uint16
	Proto string // tcp, udp, sctp
}

// A Container is what its records say.
type Container struct {
	ID, Name string
	Status   string // created, running, paused, exited, …
	PID      int
	Mode     string // none, host, container:NAME, or a network's name
	Networks []Network
	Private  bool     `json:",omitempty"` // "none" was asked for, and is to be taken back before it can be connected
	Apart    bool     `json:",omitempty"` // it can be connected while it does not run: an ordinary user's, outside of the network world
	Guest    string   `json:",omitempty"` // the container that was asked about, where it is in the network namespace of this one
	Gone     []string `json:",omitempty"` // networks of its next start that are not there any more
}

// A Network is one that a container is in.
type Network struct {
	Name     string
	Driver   string
	Bridge   string `json:",omitempty"` // device of the host
	Device   string `json:",omitempty"` // of the container
	HostEnd  string `json:",omitempty"` // of the veth, on the host
	Internal bool   `json:",omitempty"`
	// Its bridge has no address of that family, by gateway mode isolated: the host is kept apart, too.
	Isolated4 bool `json:",omitempty"`
	Isolated6 bool `json:",omitempty"`
	Addrs     []netip.Addr
	Gateways  []netip.Addr `json:",omitempty"`
}

// Published is a port of the host that leads to one of a container.
type Published struct {
	Container string // its name
	HostAddr  netip.Addr
	HostPort  uint16
	Addr      netip.Addr
	Port      uint16
	Proto     string
	Relayed   bool `json:",omitempty"` // a socket takes what comes, and passes it on: no rule leads to the container
	Routed    bool `json:",omitempty"` // by no port of the host: at the container's own address
	Asked     bool `json:",omitempty"` // for no more than that: it is not published now, and Addr is not known
}

// A Side is one network namespace.
type Side struct {
	Listeners []Listener
	Links     []Link
	Routes    []Route
	Tables    []Table `json:",omitempty"`
	Forward4  bool
	Forward6  bool
	// There are more than these, and what is not here may be there: devices, addresses or routes, and listeners.
	More          bool `json:",omitempty"`
	MoreListeners bool `json:",omitempty"`
}

// A Listener is a socket that waits for what comes.
type Listener struct {
	Proto   string
	Addr    netip.Addr
	Only6   bool `json:",omitempty"` // at [::], and not for IPv4
	Port    uint16
	PID     int    `json:",omitempty"` // 0 where it is nobody's that can be seen
	Program string `json:",omitempty"`
	// Holder is the container whose monitor has the socket, which keeps the port from
	// others.
	Holder string `json:",omitempty"`
}

// A Link is a network device.
type Link struct {
	Index  int
	Name   string
	Kind   string `json:",omitempty"` // bridge, veth, …
	Up     bool
	Master int    `json:",omitempty"` // index of the bridge that it is a port of
	Peer   int    `json:",omitempty"` // index of the other end, or of the parent
	NSID   int    // of the namespace that the peer is in, as this one counts; -1 is this one
	MAC    string `json:",omitempty"`
	MTU    int    `json:",omitempty"`
	Addrs  []netip.Prefix
}

// A Route is one of the main table.
type Route struct {
	To      netip.Prefix
	Via     netip.Addr
	Link    int    // index
	Unusual string `json:",omitempty"` // blackhole, unreachable, prohibit
}

// A Test is what trying to connect gave.
type Test struct {
	From   string // host, container, network NAME
	To     netip.AddrPort
	Result Result
}

// A Result is how a test ended.
type Result string

// The results. Refused says that packets come and go, and nobody listens; Reset, that somebody took the connection and gave it up at once, as
// who passes it on and finds nobody. Of UDP, Answered is that something came back, and
// Arrived that a program in the container's namespace read what was sent, and said nothing.
const (
	Connected   Result = "connected"
	Answered    Result = "answered"
	Arrived     Result = "arrived"
	Refused     Result = "refused"
	Reset       Result = "reset at once"
	NoAnswer    Result = "no answer"
	Unreachable Result = "unreachable"
	NotAllowed  Result = "not allowed"
	Failed      Result = "failed"
)

// A Table is one of nftables; iptables-nft's are among them.
type Table struct {
	Family string // inet, ip, ip6, bridge, arp, netdev
	Name   string
	Chains []Chain
	Sets   []Set `json:",omitempty"`
}

// A Chain is rules in a row. A base chain has a hook.
type Chain struct {
	Name     string
	Hook     string `json:",omitempty"` // prerouting, input, forward, output, postrouting
	Type     string `json:",omitempty"` // filter, nat, route
	Priority int    `json:",omitempty"`
	Drop     bool   `json:",omitempty"` // what becomes of what no rule decides
	Rules    []Rule
}

// A Rule is expressions in a row: each sets a register, or asks.
type Rule struct {
	Handle  uint64
	Exprs   []Expr
	Packets uint64 `json:",omitempty"` // that its counter counted during the tests
}

// An Expr is one expression of nftables' machine, as much of it as a walk needs. Numbers
// of registers are in units of four bytes.
type Expr struct {
	Name   string // meta, payload, cmp, bitwise, immediate, lookup, ct, counter, xt match, …
	Key    uint32 `json:",omitempty"` // of meta and ct; what fib is asked for; which way nat goes; the revision of an xt match
	Base   uint32 `json:",omitempty"` // of payload: link, network, transport
	Offset uint32 `json:",omitempty"`
	Len    uint32 `json:",omitempty"`
	Source int    `json:",omitempty"` // register
	Dest   int    `json:",omitempty"`
	Op     uint32 `json:",omitempty"` // of cmp and range; what fib is asked with
	Data   []byte `json:",omitempty"` // of cmp, immediate; the mask of bitwise; from of range
	Data2  []byte `json:",omitempty"` // xor of bitwise; to of range
	Set    string `json:",omitempty"` // of lookup
	Invert bool   `json:",omitempty"`
	Map    bool   `json:",omitempty"` // a lookup that gives something
	Text   string `json:",omitempty"` // name of an xt match or target; a comment

	Verdict string `json:",omitempty"` // accept, drop, jump, goto, return, queue
	Chain   string `json:",omitempty"`
}

// A Set is one that a lookup asks.
type Set struct {
	Name     string
	Interval bool `json:",omitempty"`
	Elements []Element
}

// An Element is a key, and in a verdict map what it leads to.
type Element struct {
	Key     []byte
	KeyEnd  []byte `json:",omitempty"`
	End     bool   `json:",omitempty"` // the first key after an interval
	All     bool   `json:",omitempty"` // the catch-all
	Verdict string `json:",omitempty"`
	Chain   string `json:",omitempty"`
}
