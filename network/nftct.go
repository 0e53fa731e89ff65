package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

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
	ctaFilterSrcIP           = 1 << 0
	ctaFilterProto           = 1 << 3
	ctaFilterDst             = 1 << 5
)

// forgetUDP has the kernel forget connections of UDP to published ports that lead elsewhere than to the container: a sender who
// began before the port was published, or while another container had it, is held to that way as long as he sends.
// Of TCP each connection begins with a packet of its own.
func forgetUDP(s *nfSocket, ports []plan.Publish) error {
	for _, p := range ports {
		if !translatedUDP(p) {
			continue
		}
		to := func(w *wire) {
			w.nest(ctaTupleProto, func() {
				w.bytes(ctaProtoNum, []byte{unix.IPPROTO_UDP})
				w.bytes(ctaProtoDst, nftPort(p.HostPort))
			})
		}
		err := forget(s, familyOf(p.HostAddr), ctaTupleOrig, to, ctaFilterProto|ctaFilterDst, func(b []byte) bool { return leadsElsewhere(b, p) })
		if err != nil {
			return fmt.Errorf("connections of UDP port %d: %w", p.HostPort, err)
		}
	}
	return nil
}

// forgetSenders has it forget those that led to a container by ports which it has published no more. Who goes on sending would be led on to whoever gets its address, be that on
// a port that nobody publishes.
func forgetSenders(s *nfSocket, ports []plan.Publish) error {
	var done []netip.Addr
	for _, p := range ports {
		if !translatedUDP(p) || slices.Contains(done, p.Addr) {
			continue
		}
		done = append(done, p.Addr)
		f := familyOf(p.Addr)
		src, dst := ctAddresses(f)
		from := func(w *wire) {
			w.nest(ctaTupleIP, func() { w.bytes(src, p.Addr.AsSlice()) })
			w.nest(ctaTupleProto, func() { w.bytes(ctaProtoNum, []byte{unix.IPPROTO_UDP}) })
		}
		err := forget(s, f, ctaTupleReply, from, ctaFilterSrcIP|ctaFilterProto, func(b []byte) bool {
			answers := string(attribute(b, ctaTupleReply, ctaTupleIP, src))
			udp := string(attribute(b, ctaTupleReply, ctaTupleProto, ctaProtoNum)) == string([]byte{unix.IPPROTO_UDP})
			return udp && answers == string(p.Addr.AsSlice()) && answers != string(attribute(b, ctaTupleOrig, ctaTupleIP, dst))
		})
		if err != nil {
			return fmt.Errorf("connections of UDP to %s: %w", p.Addr, err)
		}
	}
	return nil
}

// translatedUDP is a port of UDP that a rule leads to a container.
func translatedUDP(p plan.Publish) bool { return p.Proto == "udp" && !p.Routed && !Relayed(p) }

func ctAddresses(f ipFamily) (src, dst uint16) {
	if f.number == unix.NFPROTO_IPV6 {
		return ctaIPv6Src, ctaIPv6Dst
	}
	return ctaIPv4Src, ctaIPv4Dst
}

// forget has the kernel forget those of its connections that have some values in the tuple of a direction, and that a look takes for meant.
func forget(s *nfSocket, f ipFamily, direction uint16, values func(w *wire), filter uint32, meant func(b []byte) bool) error {
	list := nftMessage{kind: ctGet, family: f.number}
	// The kernel sends those with these values alone since Linux 5.8; before, all.
	list.body.nest(direction, func() { values(&list.body) })
	list.body.nest(ctaFilter, func() {
		for _, d := range [][2]uint16{{ctaTupleOrig, ctaFilterOrig}, {ctaTupleReply, ctaFilterReply}} {
			flags := uint32(0)
			if d[0] == direction {
				flags = filter
			}
			list.body.bytes(d[1], binary.NativeEndian.AppendUint32(nil, flags)) // in the byte order of the machine
		}
	})
	bodies, err := s.dump(unix.NFNL_SUBSYS_CTNETLINK, list)
	if errors.Is(err, unix.EINVAL) {
		return nil // a kernel that has not nf_conntrack_netlink: they are forgotten when their time is over
	}
	if err != nil {
		return err
	}
	for _, b := range bodies {
		if !meant(b) {
			continue
		}
		gone := nftMessage{kind: ctDelete, family: f.number}
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
			return err
		}
	}
	return nil
}

// leadsElsewhere tells a connection that was sent to the port and does not lead to the container: either this machine takes it, or a rule
// sent it to somebody else. What only passes through to a port of the same number elsewhere is none, whoever's address it got.
func leadsElsewhere(b []byte, p plan.Publish) bool {
	src, dst := ctAddresses(familyOf(p.HostAddr))
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
