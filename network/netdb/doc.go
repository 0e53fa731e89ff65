// Package netdb keeps what networks there are, which addresses of them are taken, and which names their members have. There is no daemon
// and no cache: files are the database, and one system call takes an address or answers for a name.
//
//	db := netdb.Open("/var/lib/kakuri", "/run/kakuri")
//	n, err := db.Create(netdb.Network{Name: "web", Driver: "bridge", IPv4: true}, nil)
//	addr, err := db.Lease(n, container, netip.Addr{}, netip.IPv4)
//	err = db.Join(n.ID, netdb.Member{Container: container, Name: "db", Addrs: []netip.Addr{addr}})
//	addrs, known := db.Resolve(n.ID, "db")
//
// A network is DATA/networks/ID with its record, network.json, and leases/ADDRESS, symbolic links to the container that has the address: made in
// one step that two cannot both do, and whole from the first moment. DATA/networks/names/NAME leads to the id. What does not outlive a boot is
// in RUN/networks/ID: names/NAME/CONTAINER leads to the addresses of that name, addrs/ADDRESS to the name, members/CONTAINER is the Member.
//
// What it may not do: change the network of this machine; know what a container is.
package netdb
