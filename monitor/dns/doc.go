// Package dns answers the names of a container's networks at 127.0.0.11 in its network namespace, and passes all other questions on.
//
// A [Resolver] keeps nothing: each answer is looked up by its [Names] when it is asked for, so none can be stale, and nothing that an upstream server says
// is told to anybody but the one who asked. What it does at once is bounded, whatever the container and the servers send: so many questions on their
// way, so many connections, so many bytes each.
//
// It is linked into every container's monitor, so it stands on system calls: no package net, nothing done at start.
package dns

import "github.com/kakuri/kakuri/netip"

// Address is where the resolver is, in each container's namespace, on port 53 as programs see it.
func Address() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// Names is what a server answers from. Its methods are called by several goroutines at once.
type Names interface {
	// Lookup returns the addresses of a name, which is in lower case and has no dot at its end. It is not known where it is nobody's in
	// the container's networks.
	Lookup(name string) (addrs []netip.Addr, known bool)
	// Reverse returns the name of an address. It is ours where it is of a subnet of the container's networks: nobody else is asked for it.
	// A prefix shorter than an address is that of a zone of them.
	Reverse(p netip.Prefix) (name string, ours bool)
	// Servers are who is asked for a name that is not known, the first one first; address says that the question is for its addresses. It is not to be asked for
	// where there is no such name whoever may say what.
	Servers(name string, address bool) (list []Server, ask bool)
	// Gate is who says what may be asked and reached, nil where that is everything. It is asked first for each question, so what the rest is answered from need be
	// looked after then only.
	Gate() Gate
}
