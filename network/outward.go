package network

import (
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network/netlink"
	"golang.org/x/sys/unix"
)

// Outward is the address of a family that this network namespace sends from to what it knows no nearer way to, which is where others find it. Without a
// default route it is the first one of all the world that a device has, which is up; zero where there is none.
func Outward(f netip.Family) (a netip.Addr, err error) {
	s, err := netlink.Open()
	if err != nil {
		return a, err
	}
	defer s.Close()
	anywhere := netip.AddrFrom4([4]byte{192, 0, 2, 1}) // RFC 5737: nothing is sent
	if f == netip.IPv6 {
		anywhere = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}) // RFC 3849
	}
	a, err = s.Source(anywhere)
	if a.IsValid() && !a.IsLoopback() && !a.IsLinkLocalUnicast() || err != nil {
		return a, err
	}
	links, err := s.Links()
	if err != nil {
		return a, err
	}
	addrs, err := s.Addrs(0)
	for _, l := range links {
		for _, x := range addrs {
			own := x.Prefix.Addr()
			if x.Device == l.Index && l.Up && own.Family() == f && x.Scope == unix.RT_SCOPE_UNIVERSE && x.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DEPRECATED) == 0 && !own.IsLoopback() {
				return own, err
			}
		}
	}
	return netip.Addr{}, err
}
