package reach

import (
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/kakuri/kakuri/network/netlink"
	"golang.org/x/sys/unix"
)

// links reads the devices of the socket's network namespace with their addresses.
func links(s *netlink.Socket) ([]Link, error) {
	all, err := s.Links()
	if err != nil {
		return nil, err
	}
	addrs, err := s.Addrs(0)
	if err != nil {
		return nil, err
	}
	list := make([]Link, len(all))
	for i, l := range all {
		list[i] = Link{Index: int(l.Index), Name: l.Name, Kind: l.Kind, Up: l.Up, Master: int(l.Master), Peer: int(l.Parent), NSID: int(l.ParentNS), MTU: l.MTU}
		if l.MAC != [6]byte{} {
			list[i].MAC = net.HardwareAddr(l.MAC[:]).String()
		}
		for _, a := range addrs {
			if a.Device == l.Index {
				list[i].Addrs = append(list[i].Addrs, netip.PrefixFrom(value(a.Prefix.Addr()), a.Prefix.Bits()))
			}
		}
	}
	return list, nil
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
		if err := onSocket(unix.NETLINK_ROUTE, s.read); err != nil {
			return err
		}
		s.Forward4, s.Forward6 = forwards("ipv4/ip_forward"), forwards("ipv6/conf/all/forwarding")
		return onSocket(unix.NETLINK_SOCK_DIAG, func(d *netlink.Socket) (err error) {
			s.Listeners, inodes, err = listeners(d)
			return err
		})
	})
	nameSockets(s.Listeners, inodes)
	return s, err
}

func (s *Side) read(by *netlink.Socket) (err error) {
	if s.Links, err = links(by); err == nil {
		s.Routes, err = routes(by)
	}
	return err
}

// ReadLinks reads the devices and addresses alone.
func ReadLinks(pid int) (s Side, err error) {
	err = inNamespace(pid, func() error {
		return onSocket(unix.NETLINK_ROUTE, func(by *netlink.Socket) (err error) {
			s.Links, err = links(by)
			return err
		})
	})
	return s, err
}
