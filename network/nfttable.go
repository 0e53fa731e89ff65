package network

import (
	"hash/fnv"

	"github.com/kakuri/kakuri/netip"
	"golang.org/x/sys/unix"
)

// NftTable is the name of the one table that this program makes on the host, of family inet, with the rules for all bridges
// and ports. namesTable is that inside a container, of family ip, with the way to its server for names.
const (
	NftTable   = "kakuri"
	namesTable = "kakuri-names"
)

// nftLayout is the comment of the host's table. Its number goes up whenever the sets or rules become others, so that the table of an
// older version of this program is made anew. That of a newer one is left as it is, so it has all sets of older ones, as they were: where it cannot, it gets other words, too.
const (
	nftWords  = "kakuri's networks and ports; layout "
	nftLayout = nftWords + "8"
)

// nftCounts are how many rules each chain of [nftChains] has, for a look that has to be quick.
var nftCounts = []struct {
	chain string
	rules uint32
}{{"early", 5}, {"senders", 13}, {"input", 3}, {"prerouting", 8}, {"output", 4}, {"postrouting", 7}, {"forward", 20}}

// A nftChain is a chain at a hook of the kernel; one without a kind is at none, and others go to it. The policy of the host's is accept, always: it ends the chain, and
// overrules nobody's drop.
type nftChain struct {
	name, kind string
	hook       uint32
	hookName   string
	priority   int32
	rules      []nftRule
}

// nftChains are the table's, with all of their rules. Nothing of a container is in them: those are elements of sets.
// What the chains accept is accepted by them alone, and other tables' chains at the same hook are asked as before. Chains of the kind nat see the first packet of a
// connection; the others see each one, so what comes most is decided by their first rule.
func nftChains() []nftChain {
	four, six := ipv4(), ipv6()
	accept, drop, back := verdict("accept", nfAccept), verdict("drop", nfDrop), verdict("return", unix.NFT_RETURN)
	destinations := func() []nftRule {
		return []nftRule{
			rule("ports of one address", four.translate(four.port(), "publish4")),
			rule("", six.translate(six.port(), "publish6")),
			rule("ports of all addresses", toThisMachine(), four.translate(anyPort(), "any4")),
			rule("", toThisMachine(), six.translate(anyPort(), "any6")),
		}
	}
	incoming := append([]nftRule{
		rule("internal networks, to ports that a socket takes", fromDeviceIn("internal"), four.portIn("relayed4"), counted(), drop),
		rule("", fromDeviceIn("internal"), six.portIn("relayed6"), counted(), drop),
		rule("", fromDeviceIn("internal"), four.anyPortIn("relayedany4"), counted(), drop),
		rule("", fromDeviceIn("internal"), six.anyPortIn("relayedany6"), counted(), drop),
	}, destinations()...)
	output := destinations()
	// The kernel does not send what comes from ::1 by another device; a socket takes it.
	output[3] = rule("[::1] has a socket", six.that("ip6 daddr != ::1", six.at(six.dest, 16, 0), compare(unix.NFT_CMP_NEQ, netip.MustParseAddr("::1").AsSlice())), toThisMachine(), six.translate(anyPort(), "any6"))
	return []nftChain{
		{"early", "filter", unix.NF_INET_PRE_ROUTING, "prerouting", priorityRaw, []nftRule{
			rule("nearly all", notLoopback(), accept),
			rule("addresses of IPv4 in IPv6, as a socket has them", six.sender("::ffff:0.0.0.0/96", unix.NFT_CMP_EQ, netip.MustParseAddr("::ffff:0.0.0.0").AsSlice()[:12]), fromDeviceIn("bridges"), counted(), drop),
			rule("addresses of this machine alone", loopbackAt(four.dest, "ip daddr"), fromDeviceIn("bridges"), counted(), drop),
			rule("", loopbackAt(four.source, "ip saddr"), fromDeviceIn("bridges"), counted(), drop),
			rule("ports of 127.0.0.1", notByLoopback(), four.portIn("loopback4"), counted(), drop),
		}},
		{"senders", "filter", unix.NF_INET_PRE_ROUTING, "prerouting", priorityMangle, senders()},
		{"input", "filter", unix.NF_INET_LOCAL_IN, "input", priorityFilter, []nftRule{
			rule("nearly all", guarded(), accept),
			rule("groups, of a network where this machine has no address", four.packets(), fromDeviceIn("gateless4"), destined("!= local", unix.NFT_CMP_NEQ, rtnLocal), counted(), drop),
			rule("", six.group(), fromDeviceIn("gateless6"), counted(), drop),
		}},
		{"prerouting", "nat", unix.NF_INET_PRE_ROUTING, "prerouting", priorityDstnat, incoming},
		{"output", "nat", unix.NF_INET_LOCAL_OUT, "output", priorityDstnat, output},
		{"postrouting", "nat", unix.NF_INET_POST_ROUTING, "postrouting", prioritySrcnat, []nftRule{
			rule("the answer has to come back here", bothDevicesIn("same"), translated(), masquerade()),
			rule("a container's own port, where br_netfilter takes the way short", translated(), four.endsIn("hairpin4"), masquerade()),
			rule("", translated(), six.endsIn("hairpin6"), masquerade()),
			rule("", bothDevicesIn("same"), back),
			rule("", four.packets(), fromDeviceIn("masquerade4"), masquerade()),
			rule("", six.packets(), fromDeviceIn("masquerade6"), masquerade()),
			rule("from 127.0.0.1 to a container", toDeviceIn("bridges"), loopbackAt(four.source, "ip saddr"), masquerade()),
		}},
		{"forward", "filter", unix.NF_INET_FORWARD, "forward", priorityFilter, []nftRule{
			rule("what began by the rules below, and not as another network's", known(), changed(), notFromDeviceIn("internal"), accept),
			rule("within a network", bothDevicesIn("together"), accept),
			rule("internal networks", fromDeviceIn("internal"), counted(), drop),
			rule("", toDeviceIn("internal"), counted(), drop),
			// The kernel asks chain postrouting once a connection. It may have come to know this one from packets that stayed within the bridge.
			rule("what would leave with its own address", four.packets(), fromDeviceIn("masquerade4"), unchanged(), begun(), toDeviceNotIn("bridges"), notFromDeviceIn("unprotected4"), counted(), drop),
			rule("", six.packets(), fromDeviceIn("masquerade6"), unchanged(), begun(), toDeviceNotIn("bridges"), notFromDeviceIn("unprotected6"), counted(), drop),
			rule("what needs no other address", known(), notStrange(), four.packets(), toDeviceNotIn("masquerade4"), accept),
			rule("", known(), notStrange(), six.packets(), toDeviceNotIn("masquerade6"), accept),
			rule("published ports", toDeviceIn("bridges"), translated(), accept),
			rule("gateway mode routed", four.portIn("direct4"), accept),
			rule("", six.portIn("direct6"), accept),
			rule("", toDeviceIn("routed4"), ofProtocol(unix.IPPROTO_ICMP, "icmp"), accept),
			rule("", toDeviceIn("routed6"), ofProtocol(unix.IPPROTO_ICMPV6, "ipv6-icmp"), accept),
			rule("gateway mode nat-unprotected", four.packets(), toDeviceIn("unprotected4"), notFromDeviceIn("bridges"), accept),
			rule("", six.packets(), toDeviceIn("unprotected6"), notFromDeviceIn("bridges"), accept),
			rule("ports not published, other networks", toDeviceIn("bridges"), counted(), drop),
			// An answer may: that of a container of two networks to who came by the other one, which was accepted above.
			rule("answers that would leave with their own address", four.packets(), fromDeviceIn("masquerade4"), unchanged(), notFromDeviceIn("unprotected4"), counted(), drop),
			rule("", six.packets(), fromDeviceIn("masquerade6"), unchanged(), notFromDeviceIn("unprotected6"), counted(), drop),
			rule("of no connection, so it would leave with its own address", four.packets(), fromDeviceIn("masquerade4"), inState("invalid,untracked", ctStateInvalid|ctStateUntracked), notFromDeviceIn("unprotected4"), counted(), drop),
			rule("", six.packets(), fromDeviceIn("masquerade6"), inState("invalid,untracked", ctStateInvalid|ctStateUntracked), notFromDeviceIn("unprotected6"), counted(), drop),
		}},
	}
}

// senders are the rules about who sends. The kernel is sure of a connection (assured) when both sides have gone on with it. Until then whoever guesses the ports of one of UDP, a question to
// a server for names above all, could be the first to answer it.
//
// Addresses of the link alone are no other network's, and neighbours by a bridge may have what addresses they like, which br_netfilter would show us. This machine may have asked one of
// another link, the cloud's 169.254.169.254, and what sends to it by a bridge is reached by that bridge.
func senders() []nftRule {
	accept, drop := verdict("accept", nfAccept), verdict("drop", nfDrop)
	four, six := ipv4(), ipv6()
	own, address := netip.MustParsePrefix("fe80::/10"), six.at(six.source, six.addr.size, 0)
	ofNetwork := [2]nftTerm{
		four.sender("!= 169.254.0.0/16", unix.NFT_CMP_NEQ, []byte{169, 254}),
		six.that("ip6 saddr != :: ip6 saddr != "+own.String(), address, compare(unix.NFT_CMP_NEQ, make([]byte, six.addr.size)),
			address, masked(netmask(own)), compare(unix.NFT_CMP_NEQ, own.Addr().AsSlice())),
	}
	list := []nftRule{
		rule("what both sides have gone on with", notFromDeviceIn("internal"), assured(), accept),
		rule("", notFromDeviceIn("bridges"), accept),
		rule("errors, of whoever is on the way", notFromDeviceIn("internal"), inState("related", ctStateRelated), accept),
		rule("a container of two networks may answer by the other one", notFromDeviceIn("internal"), answering(), guarded(), accept),
	}
	from, to := noWay(unix.NFTA_FIB_F_SADDR, "saddr"), noWay(unix.NFTA_FIB_F_DADDR, "daddr")
	// What this machine sends to a group comes back to its own sockets from the bridge, in its own name.
	list = append(list, rule("addresses of this machine", fromThisMachine(), from, counted(), drop))
	for i, comment := range []string{"addresses of other networks", ""} {
		list = append(list, rule(comment, notFromDeviceIn("internal"), ofNetwork[i], from, to, counted(), drop))
	}
	// It stays within the bridge, or goes there by this machine. Of the connection that the kernel takes it for, whoever it goes to could send answers into the network of the sender that it has.
	list = append(list, rule("strange senders, of neighbours", inState("new", ctStateNew), from, markStrange()))
	// This machine listens, too. What else than UDP goes to groups is about neighbours, as is all that does where this machine has no address: see chain input.
	udp := ofProtocol(unix.IPPROTO_UDP, "udp")
	list = append(list,
		rule("groups", udp, ofNetwork[0], destined("broadcast", unix.NFT_CMP_EQ, rtnBroadcast), notFromDeviceIn("gateless4"), from, counted(), drop),
		rule("", udp, ofNetwork[0], four.group(), notFromDeviceIn("gateless4"), from, counted(), drop),
		rule("", udp, ofNetwork[1], six.group(), notFromDeviceIn("gateless6"), from, counted(), drop))
	// From internal networks no connection counts, be it this machine's own: none of an internal network is another one's. An answer to an address of the link alone would not arrive.
	return append(list,
		rule("to this machine", four.packets(), toThisMachine(), from, counted(), drop),
		rule("", ofNetwork[1], toThisMachine(), from, counted(), drop))
}

// hash tells a rule from one that an administrator, or another version of this program, put in its place.
func (r nftRule) hash(chain string) []byte {
	h := fnv.New32a()
	h.Write([]byte(chain + " " + r.String()))
	return h.Sum(nil)
}
