package network

import (
	"slices"
	"strings"

	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// A PublishedPort is one that the kernel's table has.
type PublishedPort struct {
	Owner string
	plan.Publish
}

// A TableState is what the kernel has of the table.
type TableState struct {
	Present bool // there is one
	Intact  bool // with the rules that belong there
	Bridges []plan.Bridge
	Ports   []PublishedPort // those that rules lead to, without relayed ones; their Bridge is not known here
}

// ReadTable reads it, from the network namespace that the caller is in.
func ReadTable() (t TableState, err error) {
	s, err := openNetfilter()
	if err != nil {
		return t, err
	}
	defer s.close()
	if t.Present, err = tableIsThere(s); err != nil || !t.Present {
		return t, err
	}
	rules, err := s.dump(unix.NFNL_SUBSYS_NFTABLES, rulesOfTable(unix.NFPROTO_INET, NftTable, ""))
	if err != nil {
		return t, err
	}
	t.Intact = intact(rules)
	list, err := readElements(s)
	if err != nil {
		return t, err
	}
	has := func(set, device string, twice bool) bool {
		key := nftKey(nftDeviceKey(device))
		if twice {
			key += key
		}
		return slices.ContainsFunc(list, func(e nftElement) bool { return e.set == set && e.key == key })
	}
	for _, e := range list {
		switch e.set {
		case "bridges":
			device := unix.ByteSliceToString([]byte(e.key))
			t.Bridges = append(t.Bridges, plan.Bridge{
				Device: device, Internal: has("internal", device, false), ICC: has("together", device, true),
				Masquerade4: has("masquerade4", device, false), Masquerade6: has("masquerade6", device, false),
				Routed4: has("routed4", device, false), Routed6: has("routed6", device, false), Unprotected4: has("unprotected4", device, false), Unprotected6: has("unprotected6", device, false),
			})
		case "publish4", "publish6", "any4", "any6", "direct4", "direct6":
			t.Ports = append(t.Ports, e.published())
		}
	}
	slices.SortFunc(t.Bridges, func(a, b plan.Bridge) int { return strings.Compare(a.Device, b.Device) })
	slices.SortFunc(t.Ports, func(a, b PublishedPort) int { return strings.Compare(a.String(), b.String()) })
	return t, nil
}

func (e nftElement) published() PublishedPort {
	p := PublishedPort{Owner: e.owner}
	key, data := []byte(e.key), []byte(e.data)
	p.Proto = protoName(key[0])
	p.HostAddr = netip.IPv4Unspecified()
	if strings.HasSuffix(e.set, "6") {
		p.HostAddr = netip.IPv6Unspecified()
	}
	key = key[4:]
	if strings.HasPrefix(e.set, "direct") {
		p.Routed = true
		p.Addr, _ = netip.AddrFromSlice(key[:len(key)-4])
		key = key[len(key)-4:]
		p.Port = uint16(key[0])<<8 | uint16(key[1])
		return p
	}
	if strings.HasPrefix(e.set, "publish") {
		p.HostAddr, _ = netip.AddrFromSlice(key[:len(key)-4])
		key = key[len(key)-4:]
	}
	p.HostPort = uint16(key[0])<<8 | uint16(key[1])
	p.Addr, _ = netip.AddrFromSlice(data[:len(data)-4])
	data = data[len(data)-4:]
	p.Port = uint16(data[0])<<8 | uint16(data[1])
	return p
}
