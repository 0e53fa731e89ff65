package network

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/kakuri/kakuri/network/netip"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Numbers of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctGet, ctDelete          = 1, 2
	ctaTupleOrig             = 1
	ctaTupleReply            = 2
	ctaID                    = 12
	ctaZone                  = 18
	ctaTupleIP               = 1
	ctaTupleProto            = 2
	ctaIPv4Src, ctaIPv4Dst   = 1, 2
	ctaIPv6Src, ctaIPv6Dst   = 3, 4
	ctaProtoNum              = 1
	ctaProtoSrc, ctaProtoDst = 2, 3
	ctaFilter                = 25
	ctaFilterOrig            = 1
	ctaFilterReply           = 2
	ctaFilterProto           = 1 << 3
	ctaFilterDst             = 1 << 5
)

// forgetUDP has the kernel forget connections of UDP to published ports that lead elsewhere than to the container: a sender who
// began before the port was published, or while another container had it, is held to that way as long as he sends.
// Of TCP each connection begins with a packet of its own.
func forgetUDP(s *nfSocket, ports []plan.Publish) error {
	for _, p := range ports {
		if p.Proto != "udp" || p.Routed || Relayed(p) {
			continue
		}
		family := familyOf(p.HostAddr).number
		list := nftMessage{kind: ctGet, family: family}
		// The kernel sends those of the port alone since Linux 5.8; before, all.
		list.body.nest(ctaTupleOrig, func() {
			list.body.nest(ctaTupleProto, func() {
				list.body.bytes(ctaProtoNum, []byte{unix.IPPROTO_UDP})
				list.body.bytes(ctaProtoDst, nftPort(p.HostPort))
			})
		})
		list.body.nest(ctaFilter, func() {
			// These two are in the byte order of the machine.
			list.body.bytes(ctaFilterOrig, binary.NativeEndian.AppendUint32(nil, ctaFilterProto|ctaFilterDst))
			list.body.bytes(ctaFilterReply, binary.NativeEndian.AppendUint32(nil, 0))
		})
		bodies, err := s.dump(unix.NFNL_SUBSYS_CTNETLINK, list)
		if errors.Is(err, unix.EINVAL) {
			return nil // a kernel that has not nf_conntrack_netlink: they are forgotten when their time is over
		}
		if err != nil {
			return fmt.Errorf("connections of UDP port %d: %w", p.HostPort, err)
		}
		for _, b := range bodies {
			if !leadsElsewhere(b, p) {
				continue
			}
			gone := nftMessage{kind: ctDelete, family: family}
			gone.body.bytes(ctaTupleOrig|unix.NLA_F_NESTED, attribute(b, ctaTupleOrig))
			for _, kind := range []uint16{ctaID, ctaZone} {
				if v := attribute(b, kind); v != nil {
					gone.body.bytes(kind, v)
				}
			}
			answers, err := s.ask(unix.NFNL_SUBSYS_CTNETLINK, gone)
			if err != nil {
				return err
			}
			if err := answers[0].err; err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("forget a connection of UDP port %d: %w", p.HostPort, err)
			}
		}
	}
	return nil
}

// leadsElsewhere tells a connection that was sent to the port and does not lead to the container: either this machine takes it, or a rule
// sent it to somebody else. What only passes through to a port of the same number elsewhere is none, whoever's address it got.
func leadsElsewhere(b []byte, p plan.Publish) bool {
	src, dst := uint16(ctaIPv4Src), uint16(ctaIPv4Dst)
	if p.HostAddr.Is6() {
		src, dst = ctaIPv6Src, ctaIPv6Dst
	}
	orig, reply := attribute(b, ctaTupleOrig), attribute(b, ctaTupleReply)
	number, port := attribute(orig, ctaTupleProto, ctaProtoNum), attribute(orig, ctaTupleProto, ctaProtoDst)
	to, _ := netip.AddrFromSlice(attribute(orig, ctaTupleIP, dst))
	answers, _ := netip.AddrFromSlice(attribute(reply, ctaTupleIP, src))
	answersPort := attribute(reply, ctaTupleProto, ctaProtoSrc)
	if string(number) != string([]byte{unix.IPPROTO_UDP}) || string(port) != string(nftPort(p.HostPort)) || !p.HostAddr.IsUnspecified() && to != p.HostAddr {
		return false
	}
	if answers == to && string(answersPort) == string(port) {
		return string(attribute(orig, ctaTupleIP, src)) == string(attribute(reply, ctaTupleIP, dst)) // not masqueraded
	}
	return answers != p.Addr || string(answersPort) != string(nftPort(p.Port))
}
