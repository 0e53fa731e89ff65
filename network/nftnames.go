package network

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/kakuri/kakuri/internal/thread"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// RedirectNames has what a container sends to 127.0.0.11, port 53, come to other ports of that address: sockets made in its
// network namespace, of which ns is a descriptor. Port 53 itself stays free for a server of the container's own on all
// addresses. It may be called again, with other ports.
//
// Ports are rewritten packet by packet, and not by a translation of connections: that would have the kernel track each connection of the container,
// which costs a seventh of a round trip's time between two containers. Since Linux 7.2 rules may not write into packets in a network namespace
// that a user namespace owns: there connections are translated.
func RedirectNames(ns int, udp, tcp uint16) error {
	err := redirectNames(ns, namesChains(udp, tcp))
	if errors.Is(err, unix.EPERM) {
		err = redirectNames(ns, translatedNames(udp, tcp))
	}
	return err
}

func redirectNames(ns int, chains []nftChain) error {
	s, err := openNetfilterIn(ns)
	if err != nil {
		return fmt.Errorf("table ip %s: %w", namesTable, err)
	}
	defer s.close()
	return s.commit(0, namesMessages(chains))
}

func namesMessages(chains []nftChain) []nftMessage {
	table := func(m nftMessage, verb string) nftMessage {
		m.family, m.text = unix.NFPROTO_IPV4, func() string { return verb + " table ip " + namesTable }
		return m
	}
	add, remove := table(newTable(namesTable), "add"), table(deleteTable(namesTable), "delete")
	list := []nftMessage{add, remove, add}
	for _, c := range chains {
		m := newChain(namesTable, c, nfAccept)
		m.family = unix.NFPROTO_IPV4
		list = append(list, m)
		for _, r := range c.rules {
			list = append(list, newRule(unix.NFPROTO_IPV4, namesTable, c.name, r))
		}
	}
	return list
}

// namesChains rewrite questions after connections are tracked, and answers before that: where rules of the container's own, or those of --egress, have them
// tracked, both belong to one connection with port 53.
func namesChains(udp, tcp uint16) []nftChain {
	return []nftChain{
		{"questions", "filter", unix.NF_INET_LOCAL_OUT, "output", priorityDstnat, []nftRule{
			rule("the container's server for names", atResolver(ipv4().dest, "daddr"), changePort("udp", 2, 53, udp)),
			rule("", atResolver(ipv4().dest, "daddr"), changePort("tcp", 2, 53, tcp)),
		}},
		{"answers", "filter", unix.NF_INET_LOCAL_OUT, "output", priorityRaw, []nftRule{
			rule("of the container's server for names", atResolver(ipv4().source, "saddr"), changePort("udp", 0, udp, 53)),
			rule("", atResolver(ipv4().source, "saddr"), changePort("tcp", 0, tcp, 53)),
			rule("that there is none", atResolver(ipv4().source, "saddr"), unreachable(udp)),
		}},
	}
}

// translatedNames have the kernel do the same to each connection, which it tracks then.
func translatedNames(udp, tcp uint16) []nftChain {
	at := plan.ResolverAddr()
	to := func(proto string, port uint16) nftTerm {
		return nftTerm{fmt.Sprintf("%s dport 53 dnat to %v:%d", proto, at, port), append(fromPort(proto, 2, 53),
			immediate(0, at.AsSlice()), immediate(1, nftPort(port)), ipv4().destination(1))}
	}
	return []nftChain{{"questions", "nat", unix.NF_INET_LOCAL_OUT, "output", priorityDstnat, []nftRule{
		rule("the container's server for names", atResolver(ipv4().dest, "daddr"), to("udp", udp)),
		rule("", atResolver(ipv4().dest, "daddr"), to("tcp", tcp)),
	}}}
}

// atResolver is the server's address at an offset of the header, in a table of family ip.
func atResolver(offset uint32, name string) nftTerm {
	at := plan.ResolverAddr()
	return nftTerm{"ip " + name + " " + at.String(), []nftExpr{
		payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, 4, 0), compare(unix.NFT_CMP_EQ, at.AsSlice())}}
}

// changePort changes a port at an offset of the transport header to another one.
func changePort(proto string, offset uint32, from, to uint16) nftTerm {
	checksum, name := uint32(6), " dport "
	if proto == "tcp" {
		checksum = 16
	}
	if offset == 0 {
		name = " sport "
	}
	return nftTerm{proto + name + strconv.Itoa(int(from)) + " " + proto + name + "set " + strconv.Itoa(int(to)), append(fromPort(proto, offset, from), writePort(offset, checksum, to)...)}
}

// fromPort has packets of a protocol go on that have a port at an offset of the transport header.
func fromPort(proto string, offset uint32, port uint16) []nftExpr {
	number, _ := protoNumber(proto)
	return []nftExpr{
		meta(unix.NFT_META_L4PROTO, 0), compare(unix.NFT_CMP_EQ, []byte{number}),
		payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2, 0), compare(unix.NFT_CMP_EQ, nftPort(port)),
	}
}

// unreachable has the kernel's message that nobody is at the port of UDP say so of port 53, so that who asked knows at once. The packet that it answers
// stands after the message's own eight bytes.
func unreachable(port uint16) nftTerm {
	const header = 8
	text := fmt.Sprintf("icmp type destination-unreachable @th,136,8 %#x @th,240,16 %#x @th,240,16 set %#x", unix.IPPROTO_UDP, port, 53)
	exprs := ipv4().icmpType(3, "").exprs
	for _, part := range []struct {
		offset uint32
		value  []byte
	}{{header + 9, []byte{unix.IPPROTO_UDP}}, {header + 20 + 2, nftPort(port)}} {
		exprs = append(exprs, payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, part.offset, uint32(len(part.value)), 0), compare(unix.NFT_CMP_EQ, part.value))
	}
	return nftTerm{text, append(exprs, writePort(header+20+2, 2, 53)...)}
}

// writePort writes a port into the packet, and mends the checksum at an offset of the same header.
func writePort(offset, checksum uint32, port uint16) []nftExpr {
	return []nftExpr{
		immediate(0, nftPort(port)),
		expr("payload", func(w *wire) {
			w.u32(unix.NFTA_PAYLOAD_SREG, register(0))
			w.u32(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_TRANSPORT_HEADER)
			w.u32(unix.NFTA_PAYLOAD_OFFSET, offset)
			w.u32(unix.NFTA_PAYLOAD_LEN, 2)
			w.u32(unix.NFTA_PAYLOAD_CSUM_TYPE, unix.NFT_PAYLOAD_CSUM_INET)
			w.u32(unix.NFTA_PAYLOAD_CSUM_OFFSET, checksum)
		}),
	}
}

// immediate puts a value into a register.
func immediate(to uint32, value []byte) nftExpr {
	return expr("immediate", func(w *wire) {
		w.u32(unix.NFTA_IMMEDIATE_DREG, register(to))
		w.value(unix.NFTA_IMMEDIATE_DATA, value)
	})
}

// openNetfilterIn opens a socket in another namespace, by a thread that ends there.
func openNetfilterIn(ns int) (s *nfSocket, err error) {
	<-thread.Aside(func() {
		if err = unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			err = os.NewSyscallError("setns", err)
			return
		}
		s, err = openNetfilter()
	})
	return s, err
}
