// Package reach finds out why a port is reachable or is not. Readers gather [Facts] of
// the namespaces on the way: who listens (sock_diag(7)), links, addresses and routes
// (rtnetlink(7)), the rules of all tables of nftables, ours and those of others, and what
// trying to connect from each side gives. A pure [Judge] says what stands in the way, and
// what to do about it.
//
//	f, err := reach.Gather(ctx, reach.Question{Port: 8080, Proto: "tcp"}, records)
//	fmt.Print(reach.Judge(f).Text())
//
// Rules are not guessed at: [Walk] sends an imagined packet through the expressions that
// the kernel has, and says which rule drops it, or which ones may since they ask for what
// is not known beforehand.
//
// What it may not do: change anything, apart from the packets of its tests.
package reach
