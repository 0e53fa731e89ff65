package reach

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/kakuri/kakuri/network/netlink"
	"golang.org/x/sys/unix"
)

// containerMost is how many bytes are read of each list of a container's network namespace: its root may have CAP_NET_ADMIN there, and make
// so many routes that nobody comes to their end. It is some 20,000 routes or addresses, or 700 devices.
const containerMost = 1 << 20

// by calls do with a socket in the caller's network namespace, that of a process, or its own with 0. Where a list was too long, s says so.
func (s *Side) by(family, pid int, what string, do func(*netlink.Socket) error) error {
	err := onSocket(family, func(by *netlink.Socket) error {
		if pid != 0 {
			by.Bound(containerMost)
		}
		return do(by)
	})
	if errors.Is(err, netlink.ErrMore) {
		s.More, s.MoreListeners = s.More || family == unix.NETLINK_ROUTE, family == unix.NETLINK_SOCK_DIAG
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	return err
}

// readLinks reads the devices with their addresses, as many as can be.
func (s *Side) readLinks(pid int) error {
	var all []netlink.Link
	var addrs []netlink.Addr
	err := s.by(unix.NETLINK_ROUTE, pid, "devices", func(by *netlink.Socket) (err error) { all, err = by.Links(); return err })
	if err == nil || s.More {
		err = errors.Join(err, s.by(unix.NETLINK_ROUTE, pid, "addresses", func(by *netlink.Socket) (err error) { addrs, err = by.Addrs(0); return err }))
	}
	s.Links = withAddrs(all, addrs)
	return err
}

func withAddrs(all []netlink.Link, addrs []netlink.Addr) []Link {
	of := map[int32][]netip.Prefix{}
	for _, a := range addrs {
		of[a.Device] = append(of[a.Device], netip.PrefixFrom(value(a.Prefix.Addr()), a.Prefix.Bits()))
	}
	list := make([]Link, len(all))
	for i, l := range all {
		list[i] = Link{Index: int(l.Index), Name: l.Name, Kind: l.Kind, Up: l.Up, Master: int(l.Master), Peer: int(l.Parent), NSID: int(l.ParentNS), MTU: l.MTU}
		if l.MAC != [6]byte{} {
			list[i].MAC = net.HardwareAddr(l.MAC[:]).String()
		}
		list[i].Addrs = of[l.Index]
	}
	return list
}

// value is an address as this package's users have it.
func value(a interface{ AsSlice() []byte }) netip.Addr {
	v, _ := netip.AddrFromSlice(a.AsSlice())
	return v
}

// routes reads the main table.
func routes(s *netlink.Socket) (list []Route, err error) {
	all, err := s.Routes()
	for _, r := range all {
		if r.Table == unix.RT_TABLE_MAIN {
			unusual := map[byte]string{unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit"}[r.Type]
			list = append(list, Route{To: netip.PrefixFrom(value(r.To.Addr()), r.To.Bits()), Via: value(r.Via), Link: int(r.Device), Unusual: unusual})
		}
	}
	return list, err
}

// way is the route that an address takes, the longest of those that fit.
func way(list []Route, a netip.Addr) (best Route, ok bool) {
	for _, r := range list {
		if r.To.Contains(a) && (!ok || r.To.Bits() > best.To.Bits()) {
			best, ok = r, true
		}
	}
	return best, ok
}

// forwards reads whether the caller's namespace passes packets on. /proc/sys/net shows
// the namespace of the thread that opens it.
func forwards(file string) bool {
	b, _ := os.ReadFile("/proc/sys/net/" + file)
	return strings.TrimSpace(string(b)) != "0" && len(b) > 0
}

// readSide reads the network namespace of a process, 0 for the caller's own: what is
// read of it before an error is there beside that.
func readSide(pid int) (s Side, err error) {
	var inodes []uint32
	err = inNamespace(pid, func() error {
		s.Forward4, s.Forward6 = forwards("ipv4/ip_forward"), forwards("ipv6/conf/all/forwarding")
		return errors.Join(
			s.readLinks(pid),
			s.by(unix.NETLINK_ROUTE, pid, "routes", func(by *netlink.Socket) (err error) { s.Routes, err = routes(by); return err }),
			s.by(unix.NETLINK_SOCK_DIAG, pid, "sockets", func(by *netlink.Socket) (err error) { s.Listeners, inodes, err = listeners(by); return err }),
		)
	})
	nameSockets(s.Listeners, inodes)
	return s, err
}

// ReadLinks reads the devices and addresses alone. Where they are too many, there are some, [Side.More], and no error.
func ReadLinks(pid int) (s Side, err error) {
	err = inNamespace(pid, func() error { return s.readLinks(pid) })
	if errors.Is(err, netlink.ErrMore) {
		err = nil
	}
	return s, err
}
