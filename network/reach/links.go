package reach

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/kakuri/kakuri/network/rtnetlink"
	"golang.org/x/sys/unix"
)

// links reads the devices of the caller's network namespace with their addresses.
func links() ([]Link, error) {
	rib, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	messages, err := syscall.ParseNetlinkMessage(rib)
	if err != nil {
		return nil, err
	}
	var list []Link
	at := map[int]int{}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		l := Link{Index: int(binary.NativeEndian.Uint32(m.Data[4:])), Up: binary.NativeEndian.Uint32(m.Data[8:])&unix.IFF_UP != 0, NSID: -1}
		rtnetlink.Attributes(m.Data[unix.SizeofIfInfomsg:], l.attribute)
		at[l.Index] = len(list)
		list = append(list, l)
	}
	rib, err = syscall.NetlinkRIB(unix.RTM_GETADDR, unix.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	if messages, err = syscall.ParseNetlinkMessage(rib); err != nil {
		return nil, err
	}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
			continue
		}
		if i, ok := at[int(binary.NativeEndian.Uint32(m.Data[4:]))]; ok {
			if p := prefix(m.Data); p.IsValid() {
				list[i].Addrs = append(list[i].Addrs, p)
			}
		}
	}
	return list, nil
}

func (l *Link) attribute(kind uint16, v []byte) {
	number := func() int {
		if len(v) < 4 {
			return 0
		}
		return int(int32(binary.NativeEndian.Uint32(v)))
	}
	switch kind {
	case unix.IFLA_IFNAME:
		l.Name = strings.TrimRight(string(v), "\x00")
	case unix.IFLA_MTU:
		l.MTU = number()
	case unix.IFLA_MASTER:
		l.Master = number()
	case unix.IFLA_LINK:
		l.Peer = number()
	case unix.IFLA_LINK_NETNSID:
		l.NSID = number()
	case unix.IFLA_ADDRESS:
		if len(v) == 6 {
			l.MAC = net.HardwareAddr(v).String()
		}
	case unix.IFLA_LINKINFO:
		rtnetlink.Attributes(v, func(kind uint16, v []byte) {
			if kind == unix.IFLA_INFO_KIND {
				l.Kind = strings.TrimRight(string(v), "\x00")
			}
		})
	}
}

// prefix is the address of an RTM_NEWADDR message.
func prefix(m []byte) (p netip.Prefix) {
	rtnetlink.Attributes(m[unix.SizeofIfAddrmsg:], func(kind uint16, v []byte) {
		if kind != unix.IFA_LOCAL && (kind != unix.IFA_ADDRESS || p.IsValid()) {
			return
		}
		if a, ok := netip.AddrFromSlice(v); ok {
			p = netip.PrefixFrom(a, int(m[1]))
		}
	})
	return p
}

// routes reads the main table.
func routes() ([]Route, error) {
	rib, err := syscall.NetlinkRIB(unix.RTM_GETROUTE, unix.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	messages, err := syscall.ParseNetlinkMessage(rib)
	if err != nil {
		return nil, err
	}
	var list []Route
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg {
			continue
		}
		fam, bits, table, kind := m.Data[0], int(m.Data[1]), m.Data[4], m.Data[7]
		if table != unix.RT_TABLE_MAIN || fam != unix.AF_INET && fam != unix.AF_INET6 {
			continue
		}
		to := netip.IPv4Unspecified()
		if fam == unix.AF_INET6 {
			to = netip.IPv6Unspecified()
		}
		r := Route{Unusual: map[byte]string{unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit"}[kind]}
		rtnetlink.Attributes(m.Data[unix.SizeofRtMsg:], func(kind uint16, v []byte) {
			switch kind {
			case unix.RTA_DST:
				to, _ = netip.AddrFromSlice(v)
			case unix.RTA_GATEWAY:
				r.Via, _ = netip.AddrFromSlice(v)
			case unix.RTA_OIF:
				if len(v) >= 4 {
					r.Link = int(binary.NativeEndian.Uint32(v))
				}
			}
		})
		r.To = netip.PrefixFrom(to, bits)
		list = append(list, r)
	}
	return list, nil
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

// ReadSide reads the network namespace of a process, 0 for the caller's own: what is
// read of it before an error is there beside that.
func ReadSide(pid int) (s Side, err error) {
	var inodes []uint32
	err = inNamespace(pid, func() (err error) {
		if s.Links, err = links(); err != nil {
			return err
		}
		if s.Routes, err = routes(); err != nil {
			return err
		}
		s.Forward4, s.Forward6 = forwards("ipv4/ip_forward"), forwards("ipv6/conf/all/forwarding")
		s.Listeners, inodes, err = listeners()
		return err
	})
	nameSockets(s.Listeners, inodes)
	return s, err
}

// ReadLinks reads the devices and addresses alone.
func ReadLinks(pid int) (s Side, err error) {
	err = inNamespace(pid, func() (err error) {
		s.Links, err = links()
		return err
	})
	return s, err
}
