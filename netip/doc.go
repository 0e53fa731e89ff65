// Package netip has addresses and prefixes as values: the part of net/netip that networks
// of containers need, with the same names and meanings.
//
// The library's package keeps zones in a table that it makes before main, with a goroutine of its
// own: 0.1 ms of each start of kakuri-runtime, which takes 2.6 in all. Here there are no zones, and
// nothing runs before main. Tests compare both, so that one may stand for the other:
//
//	import "github.com/kakuri/kakuri/netip"
//
//	gateway := netip.MustParsePrefix("172.17.0.1/16")
//	next := gateway.Addr().Next() // 172.17.0.2
//
// What it may not do: know of the kernel, or ask anybody.
package netip
