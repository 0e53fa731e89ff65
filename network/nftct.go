package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/kakuri/kakuri/netip"
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
// a port that nobody publishes. All that go to an address are asked for once.
func forgetSenders(s *nfSocket, ports []plan.Publish) error {
	byAddr := map[netip.Addr][]plan.Publish{}
	for _, p := range ports {
		if translatedUDP(p) {
			byAddr[p.Addr] = append(byAddr[p.Addr], p)
		}
	}
	for a, gone := range byAddr {
		f := familyOf(a)
		src, _ := ctAddresses(f)
		from := func(w *wire) {
			w.nest(ctaTupleIP, func() { w.bytes(src, a.AsSlice()) })
			w.nest(ctaTupleProto, func() { w.bytes(ctaProtoNum, []byte{unix.IPPROTO_UDP}) })
		}
		err := forget(s, f, ctaTupleReply, from, ctaFilterSrcIP|ctaFilterProto, func(b []byte) bool {
			return slices.ContainsFunc(gone, func(p plan.Publish) bool {
				answers, port := answerer(b, f)
				return sentTo(b, p) && answers == p.Addr && string(port) == string(nftPort(p.Port))
			})
		})
		if err != nil {
			return fmt.Errorf("connections of UDP to %s: %w", a, err)
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

// sentTo tells a connection that was sent to the port.
func sentTo(b []byte, p plan.Publish) bool {
	_, dst := ctAddresses(familyOf(p.HostAddr))
	orig := attribute(b, ctaTupleOrig)
	to, _ := netip.AddrFromSlice(attribute(orig, ctaTupleIP, dst))
	return string(attribute(orig, ctaTupleProto, ctaProtoNum)) == string([]byte{unix.IPPROTO_UDP}) && string(attribute(orig, ctaTupleProto, ctaProtoDst)) == string(nftPort(p.HostPort)) &&
		(p.HostAddr.IsUnspecified() || to == p.HostAddr)
}

// answerer is who answers on a connection, and by which port.
func answerer(b []byte, f ipFamily) (netip.Addr, []byte) {
	src, _ := ctAddresses(f)
	a, _ := netip.AddrFromSlice(attribute(b, ctaTupleReply, ctaTupleIP, src))
	return a, attribute(b, ctaTupleReply, ctaTupleProto, ctaProtoSrc)
}

// leadsElsewhere tells a connection that was sent to the port and does not lead to the container: either this machine takes it, or a rule
// sent it to somebody else. What only passes through to a port of the same number elsewhere is none, whoever's address it got.
func leadsElsewhere(b []byte, p plan.Publish) bool {
	if !sentTo(b, p) {
		return false
	}
	f := familyOf(p.HostAddr)
	src, dst := ctAddresses(f)
	answers, port := answerer(b, f)
	if string(answers.AsSlice()) == string(attribute(b, ctaTupleOrig, ctaTupleIP, dst)) && string(port) == string(nftPort(p.HostPort)) {
		return string(attribute(b, ctaTupleOrig, ctaTupleIP, src)) == string(attribute(b, ctaTupleReply, ctaTupleIP, dst)) // not masqueraded
	}
	return answers != p.Addr || string(port) != string(nftPort(p.Port))
}
