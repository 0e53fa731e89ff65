package network

import (
	"encoding/binary"

	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// announce sends one packet for each address, which a bridge loses none of. Where the caller may not, or the device has no neighbours, nothing is sent: neighbours that remember another
// MAC find out when that has not answered for a while.
func (d *Doer) announce(op *plan.Announce, pid int) error {
	in, err := d.enter(pid)
	if err != nil {
		return err
	}
	l, err := in.s.Link(op.Device)
	if err != nil {
		return nil // what was to be done to it has said so
	}
	fd := -1
	if err := in.do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0) // which receives nothing
		return err
	}); err != nil {
		return nil
	}
	defer unix.Close(fd)
	for _, p := range op.Addrs {
		unix.Sendto(fd, announcement(l, p.Addr()), 0, &unix.SockaddrLinklayer{Ifindex: int(l.Index)})
	}
	return nil
}

const (
	lengthMAC    = 6
	icmpv6       = 58
	neighbour    = 136        // advertisement
	overrides    = 0x20000000 // what is known by now
	optionTarget = 2          // that has the target's MAC
)

// announcement is the frame that tells all on a link which MAC an address has.
func announcement(l netlink.Link, a netip.Addr) []byte {
	if a.Is4() {
		f := etherHead([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, l.MAC, unix.ETH_P_ARP)
		f = append(f, 0, 1, 8, 0, lengthMAC, 4, 0, 1) // Ethernet, IPv4; a request
		f = append(append(f, l.MAC[:]...), a.AsSlice()...)
		return append(append(f, make([]byte, lengthMAC)...), a.AsSlice()...)
	}
	all := netip.AddrFrom16([16]byte{0xff, 2, 15: 1})
	body := []byte{neighbour, 0, 0, 0}
	body = binary.BigEndian.AppendUint32(body, overrides)
	body = append(append(body, a.AsSlice()...), optionTarget, 1)
	body = append(body, l.MAC[:]...)
	pseudo := append(append(a.AsSlice(), all.AsSlice()...), 0, 0, 0, byte(len(body)), 0, 0, 0, icmpv6)
	binary.BigEndian.PutUint16(body[2:], internetSum(append(pseudo, body...)))
	f := etherHead([6]byte{0x33, 0x33, 5: 1}, l.MAC, unix.ETH_P_IPV6)
	f = append(f, 0x60, 0, 0, 0, 0, byte(len(body)), icmpv6, 255)
	return append(append(append(f, a.AsSlice()...), all.AsSlice()...), body...)
}

// etherHead is the beginning of a frame.
func etherHead(to, from [6]byte, kind uint16) []byte {
	return binary.BigEndian.AppendUint16(append(append([]byte(nil), to[:]...), from[:]...), kind)
}

// internetSum is that of RFC 1071, of an even number of bytes.
func internetSum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
