package network

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

const vlanID = 1 // IFLA_VLAN_ID

// makeParent makes a device that macvlans and ipvlans are made on. One that is there stays as it is, but for one of ours, which is set up: a process that was killed left it down.
func (d *Doer) makeParent(p plan.Parent) error {
	s, err := d.hostSocket()
	if err != nil {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("device %s of network %s: %w", p.Device, p.Network, err) }
	made := false
	l, err := s.Link(p.Device)
	if errors.Is(err, unix.ENODEV) {
		if err = s.One(parentMessage(s, p)); err != nil && !errors.Is(err, unix.EEXIST) { // another command's
			return fail(parentHint(p, err))
		}
		made = err == nil
		l, err = s.Link(p.Device)
	}
	if err != nil {
		return fail(hint(err, ""))
	}
	// The kernel takes no alias with a new device. One that was left without is down, and of that name nobody else's.
	if made || p.Link == "" && l.Alias == "" && !l.Up {
		if err := s.One(linkMessage(0, p.Device).Add(unix.IFLA_IFALIAS, []byte(p.Alias))); err != nil {
			return fail(hint(err, ""))
		}
		l.Alias = p.Alias
	}
	if l.Alias != p.Alias || l.Up {
		return nil
	}
	return hint(s.One(upMessage(p.Device)), "")
}

// parentMessage makes the device.
func parentMessage(s *netlink.Socket, p plan.Parent) netlink.Message {
	m := linkMessage(makeNew, p.Device)
	if p.Link == "" {
		return m.Nest(unix.IFLA_LINKINFO, func(m netlink.Message) netlink.Message { return m.AddString(unix.IFLA_INFO_KIND, "dummy") })
	}
	on, _ := s.Link(p.Link) // without one the kernel says what is missing
	return m.AddUint32(unix.IFLA_LINK, uint32(on.Index)).Nest(unix.IFLA_LINKINFO, func(m netlink.Message) netlink.Message {
		return m.AddString(unix.IFLA_INFO_KIND, "vlan").Nest(unix.IFLA_INFO_DATA, func(m netlink.Message) netlink.Message {
			return m.Add(vlanID, binary.NativeEndian.AppendUint16(nil, uint16(p.VLAN)))
		})
	})
}

// parentHint adds what the reader can do about a device that could not be made.
func parentHint(p plan.Parent, err error) error {
	unknown := errors.Is(err, unix.EOPNOTSUPP)
	switch {
	case unknown && p.Link == "":
		return fmt.Errorf("%w: the kernel knows no dummy: load it by modprobe dummy, or name a device of the machine by -o parent=DEVICE", err)
	case unknown:
		return fmt.Errorf("%w: the kernel knows no vlan: load it by modprobe 8021q", err)
	case p.Link != "" && (errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)):
		return fmt.Errorf("%w: it is VLAN %d of %s, and the host has no such device", err, p.VLAN, p.Link)
	case errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: %s has a device for VLAN %d: name that one", err, p.Link, p.VLAN)
	}
	return hint(err, "")
}

// RemoveParent removes a device that [plan.MakeParent] made for a network, as its alias tells. Where another network's are on it, it is that one's from then on: heir is
// its alias, "" without one.
func (d *Doer) RemoveParent(p plan.Parent, heir string) error {
	s, err := d.hostSocket()
	if err != nil {
		return err
	}
	l, err := s.Link(p.Device)
	switch {
	case errors.Is(err, unix.ENODEV) || err == nil && l.Alias != p.Alias:
		return nil
	case err != nil:
	case heir != "":
		err = s.One(linkMessage(0, p.Device).Add(unix.IFLA_IFALIAS, []byte(heir)))
	default:
		err = s.One(netlink.NewMessage(unix.RTM_DELLINK, 0, netlink.IfInfo(l.Index, 0, 0)))
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove device %s of network %s: %w", p.Device, p.Network, hint(err, ""))
	}
	return nil
}
