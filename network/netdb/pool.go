package netdb

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/netip"
	"golang.org/x/sys/unix"
)

// defaultPools are where subnets of IPv4 are taken from for who names none, and how large each is: Docker's.
var defaultPools = [...]struct {
	base string
	bits int
}{
	{"172.17.0.0/16", 16}, {"172.18.0.0/16", 16}, {"172.19.0.0/16", 16}, {"172.20.0.0/14", 16}, {"172.24.0.0/14", 16}, {"172.28.0.0/14", 16}, {"192.168.0.0/16", 20},
}

// fillPools completes the pools of a network that is to be made, so that they overlap with nobody's.
func (db *DB) fillPools(n *Network, others []Network) error {
	taken := subnets(others)
	for i := range n.Pools {
		if err := n.Pools[i].complete(n.gateless(n.Pools[i].Subnet.Addr().Family())); err != nil {
			return err
		}
		if n.Driver == "bridge" { // others share a subnet that is there
			if err := alone(n.Pools[i].Subnet, others); err != nil {
				return err
			}
		}
		taken = append(taken, n.Pools[i].Subnet)
	}
	if err := oneOfEach(n.Pools); err != nil {
		return err
	}
	_, has4 := n.Pool(netip.IPv4)
	_, has6 := n.Pool(netip.IPv6)
	if n.IPv4 && !has4 {
		p, err := db.newPool(netip.IPv4, n, taken)
		if err != nil {
			return err
		}
		n.Pools = append([]Pool{p}, n.Pools...)
	}
	if n.IPv6 && !has6 {
		p, err := db.newPool(netip.IPv6, n, taken)
		if err != nil {
			return err
		}
		n.Pools = append(n.Pools, p)
	}
	return nil
}

// oneOfEach refuses two subnets of a family.
func oneOfEach(pools []Pool) error {
	for i, p := range pools {
		for _, q := range pools[:i] {
			if p.Subnet.Addr().Is6() == q.Subnet.Addr().Is6() {
				return fmt.Errorf("subnet %s: a network has one subnet of each family, and it has %s", p.Subnet, q.Subnet)
			}
		}
	}
	return nil
}

// newPool takes a subnet for a network that names none, where nobody is: taken are other networks', and the machine has its own.
func (db *DB) newPool(f netip.Family, n *Network, taken []netip.Prefix) (p Pool, err error) {
	busy, err := db.busy()
	if err != nil {
		return p, err
	}
	taken = append(taken, busy...)
	if f == netip.IPv6 {
		p = freeULA(taken)
	} else if p, err = freePool(taken); err != nil {
		return p, err
	}
	if n.gateless(f) {
		p.Gateway = netip.Addr{}
	}
	return p, nil
}

// alone refuses a subnet of a bridge that overlaps with another bridge's.
func alone(subnet netip.Prefix, others []Network) error {
	for _, o := range others {
		for _, p := range o.Pools {
			if o.Driver == "bridge" && p.Subnet.Overlaps(subnet) {
				return fmt.Errorf("invalid pool request: Pool overlaps with other one on this address space: %s is of the network %s, which has %s", subnet, o.Name, p.Subnet)
			}
		}
	}
	return nil
}

func (db *DB) busy() ([]netip.Prefix, error) {
	if db.Busy != nil {
		return db.Busy()
	}
	return Busy()
}

func subnets(list []Network) (out []netip.Prefix) {
	for _, n := range list {
		for _, p := range n.Pools {
			out = append(out, p.Subnet)
		}
	}
	return out
}

// freePool is the first of the default pools that overlaps with none of the subnets.
func freePool(taken []netip.Prefix) (Pool, error) {
	for _, d := range defaultPools {
		base := netip.MustParsePrefix(d.base)
		for s := netip.PrefixFrom(base.Addr(), d.bits); base.Contains(s.Addr()); s = nextSubnet(s) {
			if !overlaps(taken, s) {
				return Pool{Subnet: s, Gateway: s.Addr().Next()}, nil
			}
		}
	}
	return Pool{}, ErrNoPool
}

// ErrNoPool says that a network which is to have a subnet of the default pools finds none.
var ErrNoPool = errors.New("could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network: name a subnet by --subnet")

// nextSubnet is the one of IPv4 that follows, of the same size.
func nextSubnet(p netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(p.Last().Next(), p.Bits())
}

// freeULA is a subnet of fd00::/8 chosen by chance, as RFC 4193 asks for.
func freeULA(taken []netip.Prefix) Pool {
	for {
		var b [16]byte
		b[0] = 0xfd
		files.Random(b[1:6])
		s := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		if !overlaps(taken, s) {
			return Pool{Subnet: s, Gateway: s.Addr().Next()}
		}
	}
}

func overlaps(list []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(list, p.Overlaps)
}

// complete checks a pool, and gives it a gateway where it has none, is to have one, and there is room for one.
func (p *Pool) complete(gateless bool) error {
	for _, check := range []func() error{p.checkSubnet, p.checkRange, p.checkGateway, p.checkAux} {
		if err := check(); err != nil {
			return err
		}
	}
	if gateless || p.Gateway.IsValid() || p.Subnet.IsSingleIP() {
		return nil
	}
	return p.chooseGateway()
}

// nobodys are addresses that mean the machine itself, or a group, and of IPv6 those that each device has. 169.254.0.0/16 is not among them: what stands in for a cloud's servers on a developer's
// machine has such a network.
var nobodys = [...]string{"0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "::/127", "fe80::/10", "ff00::/8"}

func (p *Pool) checkSubnet() error {
	s := p.Subnet
	switch {
	case !s.IsValid():
		return errors.New("invalid pool: it has no subnet")
	case s.Addr().Is4In6():
		return fmt.Errorf("invalid subnet %s: it is neither of IPv4 nor of IPv6", s)
	case s != s.Masked():
		return fmt.Errorf("invalid subnet %s: it should be %s", s, s.Masked())
	}
	for _, n := range nobodys {
		if s.Overlaps(netip.MustParsePrefix(n)) {
			return fmt.Errorf("invalid subnet %s: no machine can have such an address, of %s, for itself", s, n)
		}
	}
	return nil
}

func (p *Pool) checkRange() error {
	r := p.Range
	switch {
	case !r.IsValid():
	case r != r.Masked():
		return fmt.Errorf("invalid ip-range %s: it should be %s", r, r.Masked())
	case r.Bits() < p.Subnet.Bits() || !p.Subnet.Contains(r.Addr()):
		return fmt.Errorf("no matching subnet for range %q: it is not in %s", r.String(), p.Subnet)
	}
	return nil
}

func (p *Pool) checkGateway() error {
	g := p.Gateway
	switch low, high := p.bounds(p.Subnet); {
	case !g.IsValid():
	case !p.Subnet.Contains(g):
		return fmt.Errorf("no matching subnet for gateway %q: it is not in %s", g.String(), p.Subnet)
	case g.Less(low) || high.Less(g):
		return fmt.Errorf("gateway %s: Address already in use: it is the first or the last of %s", g, p.Subnet)
	}
	return nil
}

func (p *Pool) checkAux() error {
	for _, a := range p.Aux {
		if !p.Subnet.Contains(a) {
			return fmt.Errorf("no matching subnet for aux-address %q: it is not in %s", a.String(), p.Subnet)
		}
	}
	for name, a := range p.Aux {
		if p.Gateway.IsValid() && a == p.Gateway {
			return fmt.Errorf("auxiliary address %s=%s: Address already in use: it is the gateway's", name, a)
		}
	}
	return nil
}

// chooseGateway takes the first address that a machine can have.
func (p *Pool) chooseGateway() error {
	taken := map[netip.Addr]bool{}
	for _, a := range p.Aux {
		taken[a] = true
	}
	low, high := p.bounds(p.Subnet)
	for a := low; ; a = a.Next() {
		if !taken[a] {
			p.Gateway = a
			return nil
		}
		if a == high {
			return fmt.Errorf("subnet %s: all its addresses are taken by aux-address, and none is left for the gateway", p.Subnet)
		}
	}
}

// bounds are the first and the last address of r that a machine on the subnet can have: not its first one, which is the network itself, or in IPv6 any router
// (RFC 4291, 2.6.1), and not the last one in IPv4, which is all machines. A subnet of two addresses has both for its machines (RFC 3021, RFC 6164).
func (p *Pool) bounds(r netip.Prefix) (low, high netip.Addr) {
	s := p.Subnet
	low, high = r.Addr(), r.Last()
	if s.Addr().BitLen()-s.Bits() < 2 {
		return low, high
	}
	if low == s.Addr() {
		low = low.Next()
	}
	if s.Addr().Is4() && high == s.Last() {
		high = high.Prev()
	}
	return low, high
}

// Busy gives the subnets that this machine has addresses in, or routes to, in all tables: rtnetlink(7). What is not meant as the place of a network is left
// out: the default route, halves of it as VPNs have them, single multicast groups.
func Busy() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, kind := range []int{unix.RTM_GETADDR, unix.RTM_GETROUTE} {
		data, err := syscall.NetlinkRIB(kind, unix.AF_UNSPEC)
		if err != nil {
			return nil, fmt.Errorf("routes of this machine: %w", err)
		}
		list, err := syscall.ParseNetlinkMessage(data)
		if err != nil {
			return nil, fmt.Errorf("routes of this machine: %w", err)
		}
		for i := range list {
			if p := busyPrefix(&list[i]); meant(p) && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

// meant reports whether a prefix is the place of machines.
func meant(p netip.Prefix) bool {
	return p.IsValid() && p.Bits() > 7 && !p.Addr().IsMulticast() && !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsLoopback()
}

// busyPrefix is the subnet of an address or of a route.
func busyPrefix(m *syscall.NetlinkMessage) netip.Prefix {
	var want uint16
	switch m.Header.Type {
	case unix.RTM_NEWADDR:
		want = unix.IFA_ADDRESS
	case unix.RTM_NEWROUTE:
		want = unix.RTA_DST
	default:
		return netip.Prefix{}
	}
	attrs, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil || len(m.Data) < 2 {
		return netip.Prefix{}
	}
	for _, a := range attrs {
		if a.Attr.Type == want {
			if addr, ok := netip.AddrFromSlice(a.Value); ok {
				return netip.PrefixFrom(addr, int(m.Data[1])).Masked() // ifa_prefixlen, rtm_dst_len
			}
		}
	}
	return netip.Prefix{}
}
