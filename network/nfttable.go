package network

import (
	"hash/fnv"

	"golang.org/x/sys/unix"
)

// NftTable is the name of the one table that this program makes on the host, of family inet, with the rules for all bridges
// and ports. namesTable is that inside a container, of family ip, with the way to its server for names.
const (
	NftTable   = "kakuri"
	namesTable = "kakuri-names"
)

// nftLayout is the comment of the host's table. Its number goes up whenever the sets or rules become others, so that the table of an
// older version of this program is made anew.
const nftLayout = "kakuri's networks and ports; layout 5"

// nftCounts are how many rules each chain of [nftChains] has, for a look that has to be quick.
var nftCounts = []struct {
	chain string
	rules uint32
}{{"early", 4}, {"senders", 2}, {"prerouting", 8}, {"output", 4}, {"postrouting", 7}, {"forward", 12}}

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
	const v4, v6 = unix.NFPROTO_IPV4, unix.NFPROTO_IPV6
	accept, drop, back := verdict("accept", nfAccept), verdict("drop", nfDrop), verdict("return", unix.NFT_RETURN)
	destinations := func() []nftRule {
		return []nftRule{
			rule("ports of one address", translate(v4, "publish4", true)),
			rule("", translate(v6, "publish6", true)),
			rule("ports of all addresses", toThisMachine(), translate(v4, "any4", false)),
			rule("", toThisMachine(), translate(v6, "any6", false)),
		}
	}
	incoming := append([]nftRule{
		rule("internal networks, to ports that a socket takes", fromDeviceIn("internal"), portIn(v4, "relayed4"), counted(), drop),
		rule("", fromDeviceIn("internal"), portIn(v6, "relayed6"), counted(), drop),
		rule("", fromDeviceIn("internal"), anyPortIn(v4, "relayedany4"), counted(), drop),
		rule("", fromDeviceIn("internal"), anyPortIn(v6, "relayedany6"), counted(), drop),
	}, destinations()...)
	output := destinations()
	// The kernel does not send what comes from ::1 by another device; a socket takes it.
	output[3] = rule("[::1] has a socket", nftTerm{"ip6 daddr != ::1", append(isFamily(v6, "").exprs,
		payload(unix.NFT_PAYLOAD_NETWORK_HEADER, ip6Dest, 16, 0), compare(unix.NFT_CMP_NEQ, append(make([]byte, 15), 1)))}, toThisMachine(), translate(v6, "any6", false))
	return []nftChain{
		{"early", "filter", unix.NF_INET_PRE_ROUTING, "prerouting", priorityRaw, []nftRule{
			rule("nearly all", notLoopback(), accept),
			rule("addresses of this machine alone", loopbackAt(ip4Dest, "ip daddr"), fromDeviceIn("bridges"), counted(), drop),
			rule("", loopbackAt(ip4Source, "ip saddr"), fromDeviceIn("bridges"), counted(), drop),
			rule("ports of 127.0.0.1", notByLoopback(), portIn(v4, "loopback4"), counted(), drop),
		}},
		// Addresses of the link alone are no other network's, and neighbours by a bridge may have what addresses they like, which br_netfilter would show us.
		{"senders", "filter", unix.NF_INET_PRE_ROUTING, "prerouting", priorityMangle, []nftRule{
			rule("addresses of other networks", unanswered(), fromDeviceIn("bridges"), notFromDeviceIn("internal"), senderThat(v4, "!= 169.254.0.0/16", unix.NFT_CMP_NEQ, []byte{169, 254}),
				noWay(unix.NFTA_FIB_F_SADDR, "saddr"), noWay(unix.NFTA_FIB_F_DADDR, "daddr"), counted(), drop),
			rule("", unanswered(), fromDeviceIn("bridges"), notFromDeviceIn("internal"), senderThat(v6, ">= 100::", unix.NFT_CMP_GTE, []byte{1}), senderThat(v6, "< fe00::", unix.NFT_CMP_LT, []byte{0xfe}),
				noWay(unix.NFTA_FIB_F_SADDR, "saddr"), noWay(unix.NFTA_FIB_F_DADDR, "daddr"), counted(), drop),
		}},
		{"prerouting", "nat", unix.NF_INET_PRE_ROUTING, "prerouting", priorityDstnat, incoming},
		{"output", "nat", unix.NF_INET_LOCAL_OUT, "output", priorityDstnat, output},
		{"postrouting", "nat", unix.NF_INET_POST_ROUTING, "postrouting", prioritySrcnat, []nftRule{
			rule("the answer has to come back here", bothDevicesIn("same"), translated(), masquerade()),
			rule("a container's own port, where br_netfilter takes the way short", translated(), endsOf(v4, "hairpin4"), masquerade()),
			rule("", translated(), endsOf(v6, "hairpin6"), masquerade()),
			rule("", bothDevicesIn("same"), back),
			rule("", ofFamily4(), fromDeviceIn("masquerade4"), masquerade()),
			rule("", ofFamily6(), fromDeviceIn("masquerade6"), masquerade()),
			rule("from 127.0.0.1 to a container", toDeviceIn("bridges"), loopbackAt(ip4Source, "ip saddr"), masquerade()),
		}},
		{"forward", "filter", unix.NF_INET_FORWARD, "forward", priorityFilter, []nftRule{
			rule("what began by the rules below", known(), accept),
			rule("within a network", bothDevicesIn("together"), accept),
			rule("internal networks", fromDeviceIn("internal"), counted(), drop),
			rule("", toDeviceIn("internal"), counted(), drop),
			rule("published ports", toDeviceIn("bridges"), translated(), accept),
			rule("gateway mode routed", portIn(v4, "direct4"), accept),
			rule("", portIn(v6, "direct6"), accept),
			rule("", toDeviceIn("routed4"), ofProtocol(unix.IPPROTO_ICMP, "icmp"), accept),
			rule("", toDeviceIn("routed6"), ofProtocol(unix.IPPROTO_ICMPV6, "ipv6-icmp"), accept),
			rule("gateway mode nat-unprotected", ofFamily4(), toDeviceIn("unprotected4"), notFromDeviceIn("bridges"), accept),
			rule("", ofFamily6(), toDeviceIn("unprotected6"), notFromDeviceIn("bridges"), accept),
			rule("ports not published, other networks", toDeviceIn("bridges"), counted(), drop),
		}},
	}
}

// hash tells a rule from one that an administrator, or another version of this program, put in its place.
func (r nftRule) hash(chain string) []byte {
	h := fnv.New32a()
	h.Write([]byte(chain + " " + r.String()))
	return h.Sum(nil)
}
