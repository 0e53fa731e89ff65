package netlink

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/netip"
)

// A Link is a network device.
type Link struct {
	Index    int32
	Name     string
	Kind     string // bridge, veth, macvlan …; empty for hardware and lo
	Alias    string // text that somebody gave it
	MAC      [6]byte
	MTU      int   // bytes
	Up       bool  // as it was set
	Carrier  bool  // and it could send
	Works    bool  // and does: the kernel has taken note of its carrier
	Master   int32 // the bridge that it is a port of, or 0
	Parent   int32 // the veth's other end, the macvlan's device, or 0
	ParentNS int32 // the namespace of Parent by its number in this one, -1 for this one
	Isolated bool  // from other isolated ports of the bridge
}

// An Addr is an address of a device.
type Addr struct {
	Device    int32
	Prefix    netip.Prefix
	Scope     uint8  // unix.RT_SCOPE_UNIVERSE, …
	Flags     uint32 // unix.IFA_F_PERMANENT, …
	Peer      netip.Addr
	Broadcast netip.Addr
	Metric    uint32
}

// A Route is one of the namespace, of any table. One with several next hops is listed once for each.
type Route struct {
	To     netip.Prefix
	Via    netip.Addr // zero where there is no gateway
	Device int32
	Source netip.Addr
	Table  uint32 // unix.RT_TABLE_MAIN, RT_TABLE_LOCAL, …
	Type   uint8  // unix.RTN_UNICAST, RTN_LOCAL, …
	Scope  uint8
	Metric uint32
	By     uint8 // who made it: unix.RTPROT_KERNEL, RTPROT_BOOT, …
}

// Links lists the devices.
func (s *Socket) Links() (list []Link, err error) {
	bodies, err := s.Dump(NewMessage(unix.RTM_GETLINK, 0, IfInfo(0, 0, 0)))
	for _, b := range bodies {
		if l, ok := parseLink(b); ok {
			list = append(list, l)
		}
	}
	return list, err
}

// Link finds a device by its name: unix.ENODEV where there is none.
func (s *Socket) Link(name string) (l Link, err error) {
	body, err := s.Ask(NewMessage(unix.RTM_GETLINK, 0, IfInfo(0, 0, 0)).AddString(unix.IFLA_IFNAME, name), unix.RTM_NEWLINK)
	if err != nil {
		return l, err
	}
	l, ok := parseLink(body)
	if !ok {
		err = errShort
	}
	return l, err
}

// Device is a device's number, and whether it is up, by netdevice(7): unix.ENODEV where there is none of the name. [Socket.Link] waits for who changes devices,
// in whatever namespace: while one with thousands of them ends that is the kernel, for half a minute. This does not. The socket is one of the calling thread's namespace.
func (s *Socket) Device(name string) (index int32, up bool, err error) {
	if absent(name) {
		return 0, false, unix.ENODEV
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(s.fd, unix.SIOCGIFINDEX, req)
	}
	if err == nil {
		index, err = int32(req.Uint32()), unix.IoctlIfreq(s.fd, unix.SIOCGIFFLAGS, req)
	}
	return index, err == nil && req.Uint16()&unix.IFF_UP != 0, err
}

// settings has a directory for each device of the thread's network namespace that IPv4 may be spoken by, as by each bridge, and two that are no device's.
const settings = "/proc/sys/net/ipv4/conf"

// absent reports whether there surely is no device of a name. An ioctl(2) that names one which is not there has the kernel run modprobe(8) for it, for "netdev-NAME" and,
// where the caller has CAP_SYS_MODULE, for the bare name: dev_load of net/core/dev_ioctl.c. So a bridge that is called like a module would load it, and each command would
// start some processes for each bridge that is gone. To look into /proc does not, and waits for nobody.
func absent(name string) bool {
	switch name {
	case "", ".", "..", "all", "default":
		return true // the kernel makes none of these
	}
	var st unix.Stat_t
	return strings.Contains(name, "/") || unix.Lstat(settings+"/"+name, &st) == unix.ENOENT && unix.Lstat(settings, &st) == nil
}

// operUp is IF_OPER_UP of linux/if.h: RFC 2863.
const operUp = 6

func parseLink(b []byte) (l Link, ok bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return l, false
	}
	flags := ne.Uint32(b[8:])
	l = Link{Index: int32(ne.Uint32(b[4:])), Up: flags&unix.IFF_UP != 0, Carrier: flags&unix.IFF_LOWER_UP != 0, ParentNS: -1}
	Attributes(b[unix.SizeofIfInfomsg:], func(kind uint16, v []byte) {
		switch {
		case kind == unix.IFLA_IFNAME:
			l.Name = unix.ByteSliceToString(v)
		case kind == unix.IFLA_ADDRESS && len(v) == 6:
			l.MAC = [6]byte(v)
		case kind == unix.IFLA_IFALIAS:
			l.Alias = unix.ByteSliceToString(v)
		case kind == unix.IFLA_LINKINFO:
			l.info(v)
		case kind == unix.IFLA_OPERSTATE && len(v) == 1:
			l.Works = v[0] == operUp
		case len(v) != 4:
		case kind == unix.IFLA_MTU:
			l.MTU = int(ne.Uint32(v))
		case kind == unix.IFLA_MASTER:
			l.Master = int32(ne.Uint32(v))
		case kind == unix.IFLA_LINK:
			l.Parent = int32(ne.Uint32(v))
		case kind == unix.IFLA_LINK_NETNSID:
			l.ParentNS = int32(ne.Uint32(v))
		}
	})
	return l, true
}

func (l *Link) info(b []byte) {
	Attributes(b, func(kind uint16, v []byte) {
		switch kind {
		case unix.IFLA_INFO_KIND:
			l.Kind = unix.ByteSliceToString(v)
		case unix.IFLA_INFO_SLAVE_DATA:
			Attributes(v, func(kind uint16, v []byte) {
				if kind == unix.IFLA_BRPORT_ISOLATED && len(v) == 1 {
					l.Isolated = v[0] != 0
				}
			})
		}
	})
}

// Addrs lists addresses: of one device by its index, of all by 0. It asks for each family by itself: that waits for nobody on
// newer kernels (seen with 6.18), while all at once wait as [Socket.Link] does.
func (s *Socket) Addrs(device int32) (list []Addr, err error) {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		head := make([]byte, unix.SizeofIfAddrmsg)
		head[0] = family
		ne.PutUint32(head[4:], uint32(device))
		bodies, err := s.Dump(NewMessage(unix.RTM_GETADDR, 0, head))
		if err != nil {
			return list, err
		}
		for _, b := range bodies {
			// A kernel without IPv6 gives all that it has.
			if a, ok := parseAddr(b); ok && b[0] == family && (device == 0 || a.Device == device) {
				list = append(list, a)
			}
		}
	}
	return list, nil
}

func parseAddr(b []byte) (a Addr, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return a, false
	}
	bits := int(b[1])
	a = Addr{Flags: uint32(b[2]), Scope: b[3], Device: int32(ne.Uint32(b[4:]))}
	var local, address netip.Addr
	Attributes(b[unix.SizeofIfAddrmsg:], func(kind uint16, v []byte) {
		switch kind {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(v)
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(v)
		case unix.IFA_BROADCAST:
			a.Broadcast, _ = netip.AddrFromSlice(v)
		case unix.IFA_FLAGS:
			if len(v) == 4 {
				a.Flags = ne.Uint32(v)
			}
		case unix.IFA_RT_PRIORITY:
			if len(v) == 4 {
				a.Metric = ne.Uint32(v)
			}
		}
	})
	switch {
	case !local.IsValid(): // of IPv6, unless it has a peer
		local = address
	case address != local:
		a.Peer = address
	}
	a.Prefix = netip.PrefixFrom(local, bits)
	return a, a.Prefix.IsValid()
}

// Routes lists the routes of both families, but for those of multicast and broadcast.
func (s *Socket) Routes() (list []Route, err error) {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		head := make([]byte, unix.SizeofRtMsg)
		head[0] = family
		var bodies [][]byte
		bodies, err = s.Dump(NewMessage(unix.RTM_GETROUTE, 0, head))
		for _, b := range bodies {
			list = append(list, parseRoutes(b)...)
		}
		if err != nil {
			break
		}
	}
	return slices.DeleteFunc(list, func(r Route) bool {
		return r.Type == unix.RTN_BROADCAST || r.Type == unix.RTN_MULTICAST || r.Type == unix.RTN_ANYCAST
	}), err
}

// Own reports whether packets to an address come to this network namespace itself: it has the address, or the address is a broadcast.
func (s *Socket) Own(a netip.Addr) (bool, error) {
	r, err := s.way(a)
	switch r.Type {
	case unix.RTN_LOCAL, unix.RTN_BROADCAST, unix.RTN_ANYCAST, unix.RTN_MULTICAST:
		return true, err
	}
	return false, err
}

// Source is the address that this network namespace sends from to another one, zero where it knows no way there.
func (s *Socket) Source(to netip.Addr) (netip.Addr, error) {
	r, err := s.way(to)
	return r.Source, err
}

// way is the route that the kernel takes to an address, zero where there is none, or one that refuses.
func (s *Socket) way(a netip.Addr) (r Route, err error) {
	head := make([]byte, unix.SizeofRtMsg)
	head[0], head[1] = unix.AF_INET6, byte(a.BitLen())
	if a.Is4() {
		head[0] = unix.AF_INET
	}
	body, err := s.Ask(NewMessage(unix.RTM_GETROUTE, 0, head).Add(unix.RTA_DST, a.AsSlice()), unix.RTM_NEWROUTE)
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL) {
		return r, nil
	}
	if list := parseRoutes(body); err == nil && len(list) > 0 {
		r = list[0]
	}
	return r, err
}

func parseRoutes(b []byte) []Route {
	if len(b) < unix.SizeofRtMsg {
		return nil
	}
	bits := int(b[1])
	r := Route{Table: uint32(b[4]), By: b[5], Scope: b[6], Type: b[7]}
	to := netip.IPv4Unspecified()
	if b[0] == unix.AF_INET6 {
		to = netip.IPv6Unspecified()
	} else if b[0] != unix.AF_INET {
		return nil
	}
	var hops []Route
	Attributes(b[unix.SizeofRtMsg:], func(kind uint16, v []byte) {
		switch kind {
		case unix.RTA_DST:
			if a, ok := netip.AddrFromSlice(v); ok {
				to = a
			}
		case unix.RTA_PREFSRC:
			r.Source, _ = netip.AddrFromSlice(v)
		case unix.RTA_MULTIPATH:
			hops = parseHops(v)
		default:
			r.hop(kind, v)
		}
	})
	r.To = netip.PrefixFrom(to, bits)
	if !r.To.IsValid() {
		return nil
	}
	if hops == nil {
		return []Route{r}
	}
	for i := range hops {
		via, device := hops[i].Via, hops[i].Device
		hops[i] = r
		hops[i].Via, hops[i].Device = via, device
	}
	return hops
}

// hop reads what a route or one of its next hops has.
func (r *Route) hop(kind uint16, v []byte) {
	switch kind {
	case unix.RTA_GATEWAY:
		r.Via, _ = netip.AddrFromSlice(v)
	case unix.RTA_VIA: // of another family: struct rtvia
		if len(v) > 2 {
			r.Via, _ = netip.AddrFromSlice(v[2:])
		}
	}
	if len(v) != 4 {
		return
	}
	switch kind {
	case unix.RTA_OIF:
		r.Device = int32(ne.Uint32(v))
	case unix.RTA_TABLE:
		r.Table = ne.Uint32(v)
	case unix.RTA_PRIORITY:
		r.Metric = ne.Uint32(v)
	}
}

// parseHops reads a list of struct rtnexthop.
func parseHops(b []byte) (list []Route) {
	const head = 8
	for len(b) >= head {
		size := int(ne.Uint16(b))
		if size < head || size > len(b) {
			break
		}
		r := Route{Device: int32(ne.Uint32(b[4:]))}
		Attributes(b[head:size], r.hop)
		list = append(list, r)
		b = b[min((size+3)&^3, len(b)):]
	}
	return list
}

// NSID is the number that this network namespace gives another one, of which ns is a descriptor; -1 where it has none for it.
func (s *Socket) NSID(ns int) (id int32, err error) {
	id = -1
	body, err := s.Ask(NewMessage(unix.RTM_GETNSID, 0, make([]byte, 4)).AddUint32(unix.NETNSA_FD, uint32(ns)), unix.RTM_NEWNSID)
	if err == nil && len(body) >= 4 {
		Attributes(body[4:], func(kind uint16, v []byte) {
			if kind == unix.NETNSA_NSID && len(v) == 4 {
				id = int32(ne.Uint32(v))
			}
		})
	}
	return id, err
}
