package network

import (
	"fmt"
	"os"
	"strconv"

	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// RedirectNames has what a container sends to 127.0.0.11, port 53, come to other ports of that address: sockets made in its
// network namespace, of which ns is a descriptor. Port 53 itself stays free for a server of the container's own on all
// addresses. It may be called again, with other ports.
func RedirectNames(ns int, udp, tcp uint16) error {
	s, err := openNetfilterIn(ns)
	if err != nil {
		return fmt.Errorf("table inet %s: %w", NamesTable, err)
	}
	defer s.close()
	return s.commit(0, namesMessages(udp, tcp))
}

func namesMessages(udp, tcp uint16) []nftMessage {
	c := nftChain{name: "output", kind: "nat", hook: unix.NF_INET_LOCAL_OUT, hookName: "output", priority: priorityDstnat}
	list := []nftMessage{newTable(NamesTable), deleteTable(NamesTable), newTable(NamesTable), newChain(NamesTable, c, nfAccept)}
	return append(list,
		newRule(unix.NFPROTO_INET, NamesTable, c.name, namesRule("udp", udp)),
		newRule(unix.NFPROTO_INET, NamesTable, c.name, namesRule("tcp", tcp)))
}

func namesRule(proto string, port uint16) nftRule {
	at := plan.ResolverAddr()
	number, _ := protoNumber(proto)
	immediate := func(to uint32, value []byte) nftExpr {
		return expr("immediate", func(w *wire) {
			w.u32(unix.NFTA_IMMEDIATE_DREG, register(to))
			w.value(unix.NFTA_IMMEDIATE_DATA, value)
		})
	}
	return rule("the container's server for names",
		nftTerm{"ip daddr " + at.String(), append(isFamily(unix.NFPROTO_IPV4, "").exprs,
			payload(unix.NFT_PAYLOAD_NETWORK_HEADER, ip4Dest, 4, 0), compare(unix.NFT_CMP_EQ, at.AsSlice()))},
		nftTerm{proto + " dport 53", []nftExpr{
			meta(unix.NFT_META_L4PROTO, 0), compare(unix.NFT_CMP_EQ, []byte{number}),
			payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 0), compare(unix.NFT_CMP_EQ, nftPort(53)),
		}},
		nftTerm{"dnat ip to " + at.String() + ":" + strconv.Itoa(int(port)), []nftExpr{
			immediate(0, at.AsSlice()), immediate(1, nftPort(port)), destination(unix.NFPROTO_IPV4, 0, 1),
		}})
}

// openNetfilterIn opens a socket in another namespace, by a thread that ends there.
func openNetfilterIn(ns int) (s *nfSocket, err error) {
	done := make(chan struct{})
	netlink.Aside(func() {
		defer close(done)
		if err = unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			err = os.NewSyscallError("setns", err)
			return
		}
		s, err = openNetfilter()
	})
	<-done
	return s, err
}
