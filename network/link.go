package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
)

// Attributes of messages, that package unix has no names for.
const (
	vethPeer    = 1 // VETH_INFO_PEER
	macvlanMode = 1 // IFLA_MACVLAN_MODE
	ipvlanMode  = 1 // IFLA_IPVLAN_MODE
	ipvlanFlags = 2 // IFLA_IPVLAN_FLAGS
	addrGenMode = 8 // IFLA_INET6_ADDR_GEN_MODE
	noLinkLocal = 1 // IN6_ADDR_GEN_MODE_NONE
	makeNew     = unix.NLM_F_CREATE | unix.NLM_F_EXCL
)

// maxLearned is how many MACs a bridge remembers at once: 16 for each port that it can have. Without an end, as it is before Linux 6.7, which knows no other, a container that may send with any
// has the kernel remember each for five minutes, and that memory is not the container's.
const maxLearned = 1 << 14

func linkMessage(flags uint16, name string) netlink.Message {
	return netlink.NewMessage(unix.RTM_NEWLINK, flags, netlink.IfInfo(0, 0, 0)).AddString(unix.IFLA_IFNAME, name)
}

func upMessage(name string) netlink.Message {
	return netlink.NewMessage(unix.RTM_NEWLINK, 0, netlink.IfInfo(0, unix.IFF_UP, unix.IFF_UP)).AddString(unix.IFLA_IFNAME, name)
}

func addMTU(m netlink.Message, mtu int) netlink.Message {
	if mtu == 0 {
		return m
	}
	return m.AddUint32(unix.IFLA_MTU, uint32(mtu))
}

func addMAC(m netlink.Message, mac plan.MAC) netlink.Message {
	if mac == (plan.MAC{}) {
		return m
	}
	return m.Add(unix.IFLA_ADDRESS, mac[:])
}

// A nameTaken is who has the name of a bridge. It is EEXIST.
type nameTaken string

func (e nameTaken) Error() string { return string(e) + ": give the network's bridge another name" }
func (nameTaken) Unwrap() error   { return unix.EEXIST }

// makeBridge makes it, or what of it is missing. It is up when it has all: one that a killed process left half made
// is not.
func (d *Doer) makeBridge(b plan.Bridge) error {
	s, err := d.hostSocket()
	if err != nil {
		return err
	}
	fail := func(what string, err error) error {
		return fmt.Errorf("bridge %s of network %s: %s%w", b.Device, b.Network, what, hint(err, ""))
	}
	made := false
	l, err := s.Link(b.Device)
	if errors.Is(err, unix.ENODEV) {
		m := addMAC(linkMessage(makeNew, b.Device), bridgeMAC(b)).Nest(unix.IFLA_LINKINFO, func(m netlink.Message) netlink.Message {
			return m.AddString(unix.IFLA_INFO_KIND, "bridge").Nest(unix.IFLA_INFO_DATA, func(m netlink.Message) netlink.Message {
				return m.AddUint32(unix.IFLA_BR_FDB_MAX_LEARNED, maxLearned)
			})
		})
		if err = s.One(m); err != nil && !errors.Is(err, unix.EEXIST) { // another command's
			return fmt.Errorf("bridge %s of network %s: %w", b.Device, b.Network, hint(err, "bridge"))
		}
		made = err == nil
		l, err = s.Link(b.Device)
	}
	if err != nil {
		return fail("", err)
	}
	if l.Kind != "bridge" {
		kind := "it is no bridge"
		if l.Kind != "" {
			kind = "it is a device of the kind " + l.Kind
		}
		return fmt.Errorf("bridge %s of network %s: %w", b.Device, b.Network, nameTaken("the host has a device of that name, and "+kind))
	}
	if otherEngines(l, b.Alias) {
		return fmt.Errorf("bridge %s of network %s: %w", b.Device, b.Network, nameTaken("the host has a bridge of that name, which is "+l.Alias))
	}
	ours := made
	if !made {
		ours, err = halfMade(s, l)
	}
	if err == nil && ours && b.Alias != "" {
		err = s.One(linkMessage(0, b.Device).Add(unix.IFLA_IFALIAS, []byte(b.Alias)))
	}
	if err != nil {
		return fail("alias: ", err)
	}
	if d.bridges == nil {
		d.bridges = map[string]int32{}
	}
	if err := raise(s, b, l, made); err != nil {
		if now, gone := s.Link(b.Device); made && gone == nil && now.Index == l.Index && !now.Up { // up, it is another command's by now
			s.One(netlink.NewMessage(unix.RTM_DELLINK, 0, netlink.IfInfo(l.Index, 0, 0)))
		}
		return err
	}
	d.bridges[b.Device] = l.Index
	return nil
}

// raise has a bridge that is there be up, with its addresses.
func raise(s *netlink.Socket, b plan.Bridge, l netlink.Link, made bool) error {
	fail := func(what string, err error) error {
		return fmt.Errorf("bridge %s of network %s: %s%w", b.Device, b.Network, what, hint(err, ""))
	}
	missing, err := missingAddrs(s, b, l.Index)
	if err != nil {
		return fail("", err)
	}
	if made {
		if err := elsewhere(s, l.Index, missing); err != nil {
			return fail("", err)
		}
	}
	v6 := slices.ContainsFunc(b.Addrs, func(p netip.Prefix) bool { return p.Addr().Is6() })
	if !l.Up {
		if err := quietBridge(b.Device, v6); err != nil {
			return fail("", err)
		}
	} else if v6 && len(missing) > 0 {
		// It may be there from a time when its network had none.
		if err := setSysctl("net/ipv6/conf/"+b.Device+"/disable_ipv6", "0"); err != nil {
			return fail("", err)
		}
	}
	for _, p := range missing {
		if err := s.One(addrMessage(l.Index, p)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fail("address "+p.String()+": ", noIPv6(p, err))
		}
	}
	if !l.Up {
		// An MTU that is set after it was made stays, whatever its ports have.
		if err := s.One(addMTU(upMessage(b.Device), b.MTU)); err != nil {
			return fail("up: ", err)
		}
	}
	return nil
}

// missingAddrs are the addresses of a bridge that it has not.
func missingAddrs(s *netlink.Socket, b plan.Bridge, index int32) ([]netip.Prefix, error) {
	have, err := s.Addrs(index)
	return slices.DeleteFunc(slices.Clone(b.Addrs), func(p netip.Prefix) bool {
		return slices.ContainsFunc(have, func(a netlink.Addr) bool { return a.Prefix == p })
	}), err
}

// BridgeLacks says what a network's bridge has lost, as after somebody had it down: the kernel takes its addresses of IPv6 then, and "up" brings none of
// them back. It is "" when there is nothing, and where there is no bridge of that network: who starts a container makes it.
func (d *Doer) BridgeLacks(b plan.Bridge) (string, error) {
	_, text, err := d.lacking(b)
	if errors.Is(err, errNoDevice) {
		err = nil
	}
	return text, err
}

// HealBridge gives a network's bridge back what [Doer.BridgeLacks] finds, and reports whether there is no device of its name. It makes none, so that one which is just being
// removed stays away.
func (d *Doer) HealBridge(b plan.Bridge) (gone bool, err error) {
	l, text, err := d.lacking(b)
	if err == nil && text != "" {
		if err = raise(d.host, b, l, false); errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) {
			err = errNoDevice // by now
		}
	}
	if errors.Is(err, errNoDevice) {
		return true, nil
	}
	return false, err
}

// BridgeGone reports whether there is no device of the name of a network's bridge, and looks no further.
func (d *Doer) BridgeGone(b plan.Bridge) (bool, error) {
	s, err := d.hostSocket()
	if err != nil {
		return false, err
	}
	if _, _, err = s.Device(b.Device); errors.Is(err, unix.ENODEV) {
		return true, nil
	}
	return false, err
}

// errNoDevice is the error where no device has the name of a network's bridge.
var errNoDevice = errors.New("there is no device of that name")

func (d *Doer) lacking(b plan.Bridge) (l netlink.Link, text string, err error) {
	s, err := d.hostSocket()
	if err != nil {
		return l, "", err
	}
	index, up, err := s.Device(b.Device)
	var missing []netip.Prefix
	if err == nil {
		missing, err = missingAddrs(s, b, index)
	}
	if err == nil && up && len(missing) == 0 {
		return l, "", nil // whosever it is; to ask for that might wait, see [netlink.Socket.Device]
	}
	if err == nil {
		l, err = s.Link(b.Device)
	}
	switch {
	case errors.Is(err, unix.ENODEV):
		return l, "", errNoDevice
	case err == nil && (l.Kind != "bridge" || l.Alias != b.Alias):
		return l, "", nil
	case err != nil:
		return l, "", fmt.Errorf("bridge %s of network %s: %w", b.Device, b.Network, err)
	}
	var words []string
	if !l.Up {
		words = append(words, "is down")
	}
	for _, p := range missing {
		words = append(words, "lacks its address "+p.String())
	}
	if len(words) > 0 {
		text = "its bridge " + b.Device + " " + strings.Join(words, ", and ")
	}
	return l, text, nil
}

// elsewhere refuses addresses that another device has: while a network had no bridge, after a boot perhaps, another engine may have chosen its subnet.
func elsewhere(s *netlink.Socket, bridge int32, addrs []netip.Prefix) error {
	all, err := s.Addrs(0)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Device == bridge || !slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Addr() == a.Prefix.Addr() }) {
			continue
		}
		links, _ := s.Links()
		name := "?"
		if i := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Index == a.Device }); i >= 0 {
			name = links[i].Name
		}
		return fmt.Errorf("device %s of the host has the address %s: %w: the network needs another subnet", name, a.Prefix, unix.EADDRINUSE)
	}
	return nil
}

// aliasOurs begins the alias of every bridge that an engine made.
const aliasOurs = "kakuri: "

// BridgeAlias is the text by which a bridge is known to be a network's.
func BridgeAlias(network, id string) string { return aliasOurs + "network " + network + " " + id }

// MadeFor finds the device of the machine whose alias says that it is a network's, by the network's id. The name is the network's; of a device that there is not
// both are empty.
func (d *Doer) MadeFor(id string) (l netlink.Link, network string, err error) {
	s, err := d.hostSocket()
	if err != nil {
		return l, "", err
	}
	all, err := s.Links()
	for _, l := range all {
		if name, found := strings.CutSuffix(l.Alias, " "+id); found {
			if name, found = strings.CutPrefix(name, aliasOurs+"network "); found {
				return l, name, nil
			}
		}
	}
	return netlink.Link{}, "", err
}

// otherEngines tells a bridge that an engine made, and for another network than that of the alias.
func otherEngines(l netlink.Link, alias string) bool {
	return alias != "" && l.Alias != alias && strings.HasPrefix(l.Alias, aliasOurs)
}

// networkOf is the id of the network whose alias this is, empty for none.
func networkOf(alias string) string { return alias[strings.LastIndexByte(alias, ' ')+1:] }

// isOthers reports whether the machine has a bridge of this name that an engine made for another network than that of the id; without an id that is nobody's to say.
func isOthers(device, id string) (bool, error) {
	if id == "" {
		return false, nil
	}
	s, err := netlink.Open()
	if err != nil {
		return false, err
	}
	defer s.Close()
	l, err := s.Link(device)
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil && strings.HasPrefix(l.Alias, aliasOurs) && networkOf(l.Alias) != id, err
}

// BridgeIsFree reports whether this network namespace has the bridge already, as its alias and addresses say, and where it has not whether
// it could be made: the name is nobody's.
func BridgeIsFree(b plan.Bridge) (have, free bool, err error) {
	s, err := netlink.Open()
	if err != nil {
		return false, false, err
	}
	defer s.Close()
	l, err := s.Link(b.Device)
	switch {
	case errors.Is(err, unix.ENODEV):
		return false, true, nil
	case err != nil || l.Kind != "bridge" || l.Alias != "" && l.Alias != b.Alias:
		return false, false, err
	case l.Alias == b.Alias:
		return true, false, nil
	}
	if half, err := halfMade(s, l); half || err != nil {
		return false, half, err
	}
	addrs, err := s.Addrs(l.Index)
	return slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return slices.Contains(b.Addrs, a.Prefix) }), false, err
}

// halfMade tells a bridge whose maker was killed before it said whose it is: it has nothing yet. One that is down and has ports is an administrator's.
func halfMade(s *netlink.Socket, l netlink.Link) (bool, error) {
	if l.Alias != "" || l.Up {
		return false, nil
	}
	addrs, err := s.Addrs(l.Index)
	if err != nil || len(addrs) > 0 {
		return false, err
	}
	all, err := s.Links()
	return err == nil && !slices.ContainsFunc(all, func(port netlink.Link) bool { return port.Master == l.Index }), err
}

// quietBridge has the host believe nothing that containers say of routes: CVE-2020-13401. Nor does the bridge ask whether somebody else has its link-local address: it
// is of a MAC of ours, and as long as the question waits, for a second or two from the first container on, the host asks for no neighbour on behalf of what it forwards, so that
// the first packets of other machines to published ports were lost.
func quietBridge(device string, v6 bool) error {
	err := setSysctl("net/ipv6/conf/"+device+"/accept_ra", "0")
	if v6 && err == nil {
		err = setSysctl("net/ipv6/conf/"+device+"/accept_dad", "0")
	}
	if !v6 && err == nil {
		err = setSysctl("net/ipv6/conf/"+device+"/disable_ipv6", "1")
	}
	if errors.Is(err, unix.ENOENT) && !v6 {
		return nil // a kernel without IPv6
	}
	if errors.Is(err, unix.ENOENT) && hasNoIPv6() {
		return errNoIPv6
	}
	return err
}

// errNoIPv6 is of what needs IPv6 where hasNoIPv6.
var errNoIPv6 = errors.New("this kernel has no IPv6: give the network no IPv6 addresses")

// hasNoIPv6 is so by ipv6.disable=1 on the kernel's command line, too.
func hasNoIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6/conf")
	return errors.Is(err, os.ErrNotExist)
}

// bridgeMAC is the same whenever the bridge is made again, so that containers go on finding it; and one that is set does
// not change with the bridge's ports.
func bridgeMAC(b plan.Bridge) plan.MAC {
	h := uint64(14695981039346656037) // FNV-1a
	for _, c := range []byte(b.Device) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	for _, a := range b.Addrs {
		for _, c := range a.Addr().AsSlice() {
			h = (h ^ uint64(c)) * 1099511628211
		}
	}
	return plan.MAC{0x02, byte(h >> 32), byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}
}

// removeBridge removes a bridge, and nothing of another kind, nor one that has not the alias that it was made with: those are somebody else's, and stay. It need not be there.
func (d *Doer) removeBridge(device, alias string) error {
	s, err := d.hostSocket()
	if err != nil {
		return err
	}
	l, err := s.Link(device)
	ours := l.Kind == "bridge" && (alias == "" || l.Alias == alias)
	if err == nil && l.Kind == "bridge" && !ours {
		ours, err = halfMade(s, l)
	}
	switch {
	case errors.Is(err, unix.ENODEV), err == nil && !ours:
		return nil
	case err == nil:
		delete(d.bridges, device)
		err = s.One(netlink.NewMessage(unix.RTM_DELLINK, 0, netlink.IfInfo(l.Index, 0, 0)))
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove bridge %s: %w", device, hint(err, ""))
	}
	return nil
}

func (d *Doer) bridge(s *netlink.Socket, name string) (int32, error) {
	if i, ok := d.bridges[name]; ok {
		return i, nil
	}
	l, err := s.Link(name)
	if errors.Is(err, unix.ENODEV) {
		return 0, fmt.Errorf("the host has no bridge %s: %w", name, err)
	}
	if err == nil && l.Kind != "bridge" {
		return 0, fmt.Errorf("the host's device %s is no bridge", name)
	}
	return l.Index, err
}

// leftBehind is how long a device may outlive the namespace that it went to.
const leftBehind = 2 * time.Second

// afterLastRun asks the kernel again while it refuses for the sake of another device, which may be that of the container's last run: it goes with the namespace of that, a moment after its
// processes, and nobody can get at it any more to remove it before.
func afterLastRun(ctx context.Context, refusal unix.Errno, ask func() error) (err error) {
	const longest = 50 * time.Millisecond // each question takes the lock of all devices
	until := time.Now().Add(2 * leftBehind)
	for pause := time.Millisecond; ; pause = min(2*pause, longest) {
		if err = ask(); !errors.Is(err, refusal) || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// makeVeth makes both ends with one message, each in its namespace. Nobody who is killed leaves one.
func (d *Doer) makeVeth(op *plan.MakeVeth, pid int) error {
	fail := func(err error) error {
		return fmt.Errorf("veth %s, port of %s, and %s inside: %w", op.HostDevice, op.Bridge, op.Device, err)
	}
	in, s, err := d.both(pid)
	if err != nil {
		return err
	}
	bridge, err := d.bridge(s, op.Bridge)
	if err != nil {
		return fail(err)
	}
	ends := addMTU(linkMessage(makeNew, op.HostDevice), op.MTU).AddUint32(unix.IFLA_MASTER, uint32(bridge)).Nest(unix.IFLA_LINKINFO, func(m netlink.Message) netlink.Message {
		return m.AddString(unix.IFLA_INFO_KIND, "veth").Nest(unix.IFLA_INFO_DATA, func(m netlink.Message) netlink.Message {
			return m.Nest(vethPeer, func(m netlink.Message) netlink.Message {
				m = append(m, netlink.IfInfo(0, 0, 0)...)
				m = addMAC(addMTU(m, op.MTU), op.MAC).AddString(unix.IFLA_IFNAME, op.Device)
				return m.AddUint32(unix.IFLA_NET_NS_FD, uint32(in.ns))
			})
		})
	})
	// A port has no addresses of its own; a kernel without IPv6 refuses to hear of that.
	quiet := linkMessage(0, op.HostDevice).Nest(unix.IFLA_AF_SPEC, func(m netlink.Message) netlink.Message {
		return m.Nest(unix.AF_INET6, func(m netlink.Message) netlink.Message { return m.Add(addrGenMode, []byte{noLinkLocal}) })
	})
	up := portMessage(op.HostDevice, op.Isolated)
	delete(in.devices, op.Device) // of an earlier one
	in.cables[op.Device] = [2]string{op.HostDevice, op.Bridge}
	// The host's end of the container's last run goes with the namespace of that, a moment after its processes.
	var answers []error
	for until := time.Now().Add(leftBehind); ; time.Sleep(time.Millisecond) {
		if answers, err = s.Do(ends, quiet, up); err != nil {
			return fail(err)
		}
		if !errors.Is(answers[0], unix.EEXIST) || time.Now().After(until) {
			break
		}
		left, err := in.s.Link(op.Device)
		if err != nil {
			continue
		}
		if !leftOver(s, op.HostDevice, left) {
			break
		}
		if err := removeLink(s, op.HostDevice); err != nil {
			return fail(err)
		}
	}
	switch {
	case errors.Is(answers[0], unix.EEXIST):
		return fail(clash(in, op.Device, op.HostDevice, answers[0]))
	case answers[0] != nil:
		return fail(hint(answers[0], "veth"))
	case answers[2] != nil:
		s.One(netlink.NewMessage(unix.RTM_DELLINK, 0, netlink.IfInfo(0, 0, 0)).AddString(unix.IFLA_IFNAME, op.HostDevice))
		return fail(hint(answers[2], ""))
	}
	guardNew(s, op.Bridge, op.HostDevice)
	return nil
}

// leftOver reports whether a device inside is the other end of the host's device, which is only made together with it: by who was killed before it was written
// down that they are there.
func leftOver(s *netlink.Socket, hostDevice string, inside netlink.Link) bool {
	l, err := s.Link(hostDevice)
	return err == nil && l.Kind == "veth" && inside.Kind == "veth" && l.Parent == inside.Index && inside.Parent == l.Index
}

// allGroups are the groups 01:80:c2:00:00:00 to 0f, of which frames do not leave a wire as IEEE 802.1Q has it, but for that of pauses, which the kernel throws away.
const allGroups = 0xffff &^ (1 << 1)

// portMessage sets a bridge's port up. It has the bridge pass on frames to all groups: those that a bridge keeps for itself the kernel hands to the port's own device, as what came in by that and by no bridge, so that
// whoever is behind it would send with any address, past the rules about bridges, and tell the host routes of IPv6.
func portMessage(device string, isolated bool) netlink.Message {
	// With br_netfilter a container's way to a port that it publishes itself leads back by the bridge's port that it came from, which takes
	// a port that may send back.
	hairpin := sysctlIs("net/bridge/bridge-nf-call-iptables", "1") || sysctlIs("net/bridge/bridge-nf-call-ip6tables", "1")
	return upMessage(device).Nest(unix.IFLA_LINKINFO, func(m netlink.Message) netlink.Message {
		return m.AddString(unix.IFLA_INFO_SLAVE_KIND, "bridge").Nest(unix.IFLA_INFO_SLAVE_DATA, func(m netlink.Message) netlink.Message {
			m = m.Add(unix.IFLA_BRPORT_GROUP_FWD_MASK, binary.NativeEndian.AppendUint16(nil, allGroups))
			if hairpin {
				m = m.Add(unix.IFLA_BRPORT_MODE, []byte{1})
			}
			if isolated {
				m = m.Add(unix.IFLA_BRPORT_ISOLATED, []byte{1})
			}
			return m
		})
	})
}

// clash says which of two names is taken.
func clash(in *inside, device, hostDevice string, err error) error {
	if _, e := in.s.Link(device); e == nil {
		return fmt.Errorf("the container has a device %s: %w: give the new one another name", device, err)
	}
	return fmt.Errorf("the host has a device %s: %w: end the container whose it is, or remove it by ip link delete %s", hostDevice, err, hostDevice)
}

// makeMacvlan makes the device in the namespace, on one of the host.
func (d *Doer) makeMacvlan(ctx context.Context, op *plan.MakeMacvlan, pid int) error {
	mode := uint32(1) << max(slices.Index([]string{"private", "vepa", "bridge", "passthru"}, op.Mode), 0)
	x := share{"macvlan", op.Parent, op.Device, op.MTU, op.MAC, func(m netlink.Message) netlink.Message {
		return m.AddUint32(macvlanMode, mode)
	}}
	if op.Mode == "passthru" { // there is one of these at most
		err := afterLastRun(ctx, unix.EINVAL, func() error { return d.makeShare(x, pid) })
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%w: another container may have %s for itself: stop that one, or take a network of mode bridge", err, op.Parent)
		}
		return err
	}
	return d.makeShare(x, pid)
}

// makeIPvlan likewise.
func (d *Doer) makeIPvlan(op *plan.MakeIPvlan, pid int) error {
	mode, flag, _ := strings.Cut(op.Mode, ",")
	number := max(slices.Index([]string{"l2", "l3", "l3s"}, mode), 0)
	return d.makeShare(share{"ipvlan", op.Parent, op.Device, op.MTU, plan.MAC{}, func(m netlink.Message) netlink.Message {
		m = m.Add(ipvlanMode, []byte{byte(number), 0})
		if flag != "" {
			m = m.Add(ipvlanFlags, []byte{byte(1 + slices.Index([]string{"private", "vepa"}, flag)), 0})
		}
		return m
	}}, pid)
}

// A share is a device inside that sends and receives by one of the host.
type share struct {
	kind, parent, device string
	mtu                  int
	mac                  plan.MAC
	data                 func(netlink.Message) netlink.Message // of its kind
}

func (d *Doer) makeShare(x share, pid int) error {
	fail := func(err error) error {
		return fmt.Errorf("%s %s of the host's device %s: %w", x.kind, x.device, x.parent, err)
	}
	in, s, err := d.both(pid)
	if err != nil {
		return err
	}
	on, err := s.Link(x.parent)
	if err != nil {
		if errors.Is(err, unix.ENODEV) {
			way := ""
			if of, id, ok := strings.Cut(x.parent, "."); ok {
				way = fmt.Sprintf(": make it, by ip link add link %s name %s type vlan id %s, and ip link set %[2]s up", of, x.parent, id)
			}
			return fail(fmt.Errorf("the host has no device %s: %w%s", x.parent, err, way))
		}
		return fail(err)
	}
	m := addMAC(addMTU(linkMessage(makeNew, x.device), x.mtu), x.mac).AddUint32(unix.IFLA_LINK, uint32(on.Index)).AddUint32(unix.IFLA_NET_NS_FD, uint32(in.ns))
	m = m.Nest(unix.IFLA_LINKINFO, func(m netlink.Message) netlink.Message {
		return m.AddString(unix.IFLA_INFO_KIND, x.kind).Nest(unix.IFLA_INFO_DATA, x.data)
	})
	delete(in.devices, x.device)
	err = s.One(m)
	switch {
	case errors.Is(err, unix.EEXIST):
		return fail(fmt.Errorf("the container has a device %s: %w: give the new one another name", x.device, err))
	case errors.Is(err, unix.EBUSY):
		return fail(fmt.Errorf("%w: %s is in use in another way: as a bridge's port, or by macvlan and ipvlan at once", err, x.parent))
	case errors.Is(err, unix.EADDRINUSE):
		return fail(fmt.Errorf("%w: another device on %s has the MAC address %v", err, x.parent, x.mac))
	case err != nil:
		return fail(hint(err, x.kind))
	}
	return nil
}

// both gives the container's namespace, and the host's socket.
func (d *Doer) both(pid int) (*inside, *netlink.Socket, error) {
	in, err := d.enter(pid)
	if err != nil {
		return nil, nil, err
	}
	s, err := d.hostSocket()
	return in, s, err
}

func (d *Doer) linkUp(ctx context.Context, op *plan.LinkUp, pid int) error {
	in, err := d.enter(pid)
	if err != nil {
		return err
	}
	// Of two macvlans with the same MAC one can be up.
	if err := afterLastRun(ctx, unix.EADDRINUSE, func() error { return in.s.One(upMessage(op.Device)) }); err != nil {
		return fmt.Errorf("set device %s of the container up: %w", op.Device, hint(err, ""))
	}
	if cable, ok := in.cables[op.Device]; ok {
		s, err := d.hostSocket()
		if err != nil {
			return err
		}
		awaitLinks(in.s, op.Device)
		awaitLinks(s, cable[:]...)
	}
	return nil
}

// linkPatience is how long a cable is waited for that is up, and not known to be so.
const linkPatience = time.Second

// awaitLinks waits until devices that are up send. The kernel takes note of a carrier a moment later, in a worker that waits for others' locks; until then a veth and a bridge drop what they
// are to send, and a port takes nothing: the first packet of a container was lost, in two starts of a hundred, and its repetition takes a second. Since Linux 6.7 the question itself
// has the kernel do that. One that does not come about is no error: the container is connected all the same.
func awaitLinks(s *netlink.Socket, names ...string) {
	until := time.Now().Add(linkPatience)
	for _, name := range names {
		for {
			l, err := s.Link(name)
			if err != nil || l.Works || time.Now().After(until) {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// addrMessage gives an address to a device, in use at once.
func addrMessage(device int32, p netip.Prefix) netlink.Message {
	head := make([]byte, unix.SizeofIfAddrmsg)
	head[0], head[1], head[3] = family(p.Addr()), byte(p.Bits()), unix.RT_SCOPE_UNIVERSE
	if p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
		head[3] = unix.RT_SCOPE_LINK
	}
	binary.NativeEndian.PutUint32(head[4:], uint32(device))
	m := netlink.NewMessage(unix.RTM_NEWADDR, makeNew, head).Add(unix.IFA_LOCAL, p.Addr().AsSlice()).Add(unix.IFA_ADDRESS, p.Addr().AsSlice())
	switch {
	case p.Addr().Is6():
		m = m.AddUint32(unix.IFA_FLAGS, unix.IFA_F_NODAD)
	case p.Bits() < 31:
		m = m.Add(unix.IFA_BROADCAST, p.Last().AsSlice())
	}
	return m
}

func family(a netip.Addr) byte {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func (d *Doer) addAddress(ctx context.Context, op *plan.AddAddress, pid int) error {
	in, err := d.enter(pid)
	if err != nil {
		return err
	}
	i, err := in.index(op.Device)
	if err != nil {
		return err
	}
	// Of two ipvlans one can have an address.
	if err = afterLastRun(ctx, unix.EADDRINUSE, func() error { return in.s.One(addrMessage(i, op.Addr)) }); err == nil {
		return nil
	}
	switch {
	case errors.Is(err, unix.EEXIST):
		err = fmt.Errorf("%w: the device has it already", err)
	default:
		err = hint(noIPv6(op.Addr, err), "")
	}
	return fmt.Errorf("address %v of device %s of the container: %w", op.Addr, op.Device, err)
}

// noIPv6 says of an address of IPv6 that the kernel refuses because that is switched off what the reader can do.
func noIPv6(addr netip.Prefix, err error) error {
	if !addr.Addr().Is6() || !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) {
		return err
	}
	return &hinted{err, "IPv6 is disabled there: see net.ipv6.conf.all.disable_ipv6 and the kernel's ipv6.disable, or give the network no IPv6 addresses"}
}

func (d *Doer) addRoute(op *plan.AddRoute, pid int) error {
	in, err := d.enter(pid)
	if err != nil {
		return err
	}
	device := int32(0)
	if op.Device != "" {
		if device, err = in.index(op.Device); err != nil {
			return err
		}
	}
	flags := uint16(makeNew)
	if op.To.Bits() == 0 {
		flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE // of a container that runs, and gets another way out
	}
	return routeError(op, in.s.One(routeMessage(flags, op, device)))
}

func routeMessage(flags uint16, op *plan.AddRoute, device int32) netlink.Message {
	head := make([]byte, unix.SizeofRtMsg)
	head[0], head[1], head[4], head[5], head[7] = family(op.To.Addr()), byte(op.To.Bits()), unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RTN_UNICAST
	if head[6] = unix.RT_SCOPE_UNIVERSE; !op.Via.IsValid() && op.To.Addr().Is4() {
		head[6] = unix.RT_SCOPE_LINK
	}
	m := netlink.NewMessage(unix.RTM_NEWROUTE, flags, head)
	if op.To.Bits() > 0 {
		m = m.Add(unix.RTA_DST, op.To.Addr().AsSlice())
	}
	if op.Via.IsValid() {
		m = m.Add(unix.RTA_GATEWAY, op.Via.AsSlice())
	}
	if device != 0 {
		m = m.AddUint32(unix.RTA_OIF, uint32(device))
	}
	return m
}

func routeError(op *plan.AddRoute, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST):
		err = fmt.Errorf("%w: the container has a route there already", err)
	case errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH):
		err = fmt.Errorf("%w: the gateway is in none of the container's networks", err)
	default:
		err = hint(err, "")
	}
	return fmt.Errorf("%v: %w", op, err)
}

// moveDevice moves a device of this process's network namespace into that of the container:
// runtime-spec, config-linux.md, "Network Devices".
func (d *Doer) moveDevice(op *plan.MoveNetDevice, pid int) error {
	in, s, err := d.both(pid)
	if err != nil {
		return err
	}
	from, err := s.Link(op.Device)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ERANGE) {
		return fmt.Errorf("network device %s: the host has no device of that name", op.Device)
	}
	if err != nil {
		return fmt.Errorf("network device %s: %w", op.Device, err)
	}
	addresses, err := s.Addrs(from.Index)
	if err != nil {
		return fmt.Errorf("addresses of network device %s: %w", op.Device, err)
	}
	before, err := in.s.Links()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(before, func(l netlink.Link) bool { return l.Name == op.To }) {
		return fmt.Errorf("network device %s: the container's network namespace has a device %s: %w", op.Device, op.To, unix.EEXIST)
	}
	move := netlink.NewMessage(unix.RTM_NEWLINK, 0, netlink.IfInfo(from.Index, 0, 0)).AddUint32(unix.IFLA_NET_NS_FD, uint32(in.ns)).AddString(unix.IFLA_IFNAME, op.To)
	if err := s.One(move); err != nil {
		return fmt.Errorf("move network device %s to the container as %s: %w", op.Device, op.To, err)
	}
	after, err := in.s.Links()
	if err != nil {
		return err
	}
	// The index is the old one, unless another device inside has it.
	i := slices.IndexFunc(after, func(l netlink.Link) bool {
		return l.Name == op.To || strings.Contains(op.To, "%") && !slices.ContainsFunc(before, func(o netlink.Link) bool { return o.Index == l.Index })
	})
	if i < 0 {
		return fmt.Errorf("network device %s is not in the container's network namespace after its move", op.Device)
	}
	for _, a := range addresses {
		if a.Flags&unix.IFA_F_PERMANENT == 0 || a.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		if err := in.s.One(sameAddress(after[i].Index, a)); err != nil {
			return fmt.Errorf("address of network device %s: %w", op.To, err)
		}
	}
	if err := in.s.One(netlink.NewMessage(unix.RTM_NEWLINK, 0, netlink.IfInfo(after[i].Index, unix.IFF_UP, unix.IFF_UP))); err != nil {
		return fmt.Errorf("set network device %s up: %w", op.To, err)
	}
	return nil
}

// sameAddress gives an address of one device to another one.
func sameAddress(device int32, a netlink.Addr) netlink.Message {
	head := make([]byte, unix.SizeofIfAddrmsg)
	head[0], head[1], head[3] = family(a.Prefix.Addr()), byte(a.Prefix.Bits()), a.Scope
	binary.NativeEndian.PutUint32(head[4:], uint32(device))
	peer := a.Prefix.Addr()
	if a.Peer.IsValid() {
		peer = a.Peer
	}
	m := netlink.NewMessage(unix.RTM_NEWADDR, makeNew, head).Add(unix.IFA_LOCAL, a.Prefix.Addr().AsSlice()).Add(unix.IFA_ADDRESS, peer.AsSlice())
	if a.Broadcast.IsValid() {
		m = m.Add(unix.IFA_BROADCAST, a.Broadcast.AsSlice())
	}
	if a.Metric != 0 {
		m = m.AddUint32(unix.IFA_RT_PRIORITY, a.Metric)
	}
	if keep := a.Flags & (unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD); keep != 0 {
		m = m.AddUint32(unix.IFA_FLAGS, keep)
	}
	return m
}
