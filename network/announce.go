package network

import (
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// linux/if_link.h and linux/ip.h
const (
	inetConf  = 1  // IFLA_INET_CONF
	arpNotify = 22 // IPV4_DEVCONF_ARP_NOTIFY
)

// announce gives a device the MAC that it has, by which the kernel tells all on its link of its addresses, where parameters of the device say so. To send such packets from here would take a
// packet socket, and to close that takes the kernel 8 ms. Where a device of that kind takes no MAC, its addresses have that of a device that the link knows.
func (d *Doer) announce(op *plan.Announce, pid int) error {
	in, err := d.enter(pid)
	if err != nil {
		return err
	}
	if l, err := in.s.Link(op.Device); err == nil { // else what was to be done to it before has said so
		of := func() netlink.Message { return netlink.NewMessage(unix.RTM_NEWLINK, 0, netlink.IfInfo(l.Index, 0, 0)) }
		notify := of().Nest(unix.IFLA_AF_SPEC, func(m netlink.Message) netlink.Message {
			return m.Nest(unix.AF_INET, func(m netlink.Message) netlink.Message {
				return m.Nest(inetConf, func(m netlink.Message) netlink.Message { return m.AddUint32(arpNotify, 1) })
			})
		})
		in.s.Do(notify, of().Add(unix.IFLA_ADDRESS, l.MAC[:]))
	}
	return nil
}
