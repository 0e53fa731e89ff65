package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
)

// Enter opens the network namespace of a process: what is done for that pid afterwards is done there, also where the pid is another process's by then. Who
// finds after it that the process still runs has that one's.
func (d *Doer) Enter(pid int) error {
	_, err := d.enter(pid)
	return err
}

// Connect connects a container that runs, by the pid of its first process and its ID, by the same steps as at its start.
// A gateway takes the place of the one there is. Ports to be held and names to be answered are its monitor's, and n is without
// them. On an error what it made is gone again.
func (d *Doer) Connect(ctx context.Context, pid int, id string, n plan.Network) error {
	steps, err := plan.ConnectSteps(n, id)
	if err != nil {
		return err
	}
	for i, s := range steps {
		err := ctx.Err()
		if err == nil {
			var handled bool
			if handled, err = d.Do(ctx, s.Op, pid); err == nil && !handled {
				err = fmt.Errorf("%s: nothing here can do that", s.Op.Name())
			}
		}
		if err != nil {
			return errors.Join(err, d.takeBack(plan.Plan{Steps: steps}, i, pid))
		}
	}
	return nil
}

// takeBack undoes the first steps of a connection.
func (d *Doer) takeBack(p plan.Plan, done, pid int) error {
	var errs []error
	for _, op := range p.Inverse(done) {
		_, err := d.Do(context.Background(), op, pid)
		errs = append(errs, err)
	}
	for _, s := range p.Steps[:done] {
		switch op := s.Op.(type) {
		case *plan.MakeVeth:
			errs = append(errs, d.removeDevice(pid, op.HostDevice, op.Device))
		case *plan.MakeMacvlan:
			errs = append(errs, d.removeDevice(pid, "", op.Device))
		case *plan.MakeIPvlan:
			errs = append(errs, d.removeDevice(pid, "", op.Device))
		}
	}
	return errors.Join(errs...)
}

// Disconnect takes the endpoints of n from a container that runs, and gives it the gateways of n for those that went
// along. What is gone already is no error.
func (d *Doer) Disconnect(_ context.Context, pid int, n plan.Network) error {
	if err := n.Check(); err != nil {
		return err
	}
	for _, e := range n.Endpoints {
		if err := d.removeDevice(pid, e.HostDevice, e.Device); err != nil {
			return fmt.Errorf("disconnect from network %s: %w", e.Network, err)
		}
	}
	for _, gateway := range []netip.Addr{n.Gateway4, n.Gateway6} {
		if !gateway.IsValid() {
			continue
		}
		if err := d.addRoute(&plan.AddRoute{To: anywhere(gateway), Via: gateway}, pid); err != nil {
			return err
		}
	}
	return nil
}

// Reconnect is [Doer.Connect] for those endpoints of a container whose ends outside are gone: by whoever removed one, or all with the network namespace that
// they were in. Where all are there it does nothing.
func (d *Doer) Reconnect(ctx context.Context, pid int, id string, n plan.Network) error {
	in, s, err := d.both(pid)
	if err != nil {
		return err
	}
	// By the ends outside: those inside go a while after the other namespace.
	var lost []plan.Endpoint
	for _, e := range n.Endpoints {
		if e.HostDevice == "" {
			continue
		}
		switch _, err := s.Link(e.HostDevice); {
		case errors.Is(err, unix.ENODEV):
			lost = append(lost, e)
		case err != nil:
			return fmt.Errorf("device %s: %w", e.HostDevice, err)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	// Its namespace is the same one: rules of what it may reach are there, with what they have counted.
	n.Endpoints, n.Egress = lost, nil
	for _, e := range n.Endpoints {
		delete(in.devices, e.Device)
		err := in.s.One(netlink.NewMessage(unix.RTM_DELLINK, 0, netlink.IfInfo(0, 0, 0)).AddString(unix.IFLA_IFNAME, e.Device))
		if err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove device %s of the container: %w", e.Device, hint(err, ""))
		}
	}
	return d.Connect(ctx, pid, id, n)
}

func anywhere(like netip.Addr) netip.Prefix {
	if like.Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// Unplugged says what is between a container that runs and its bridge, as after a bridge that somebody removed; "" when nothing is.
func (d *Doer) Unplugged(e plan.Endpoint) (string, error) {
	s, err := d.hostSocket()
	if err != nil {
		return "", err
	}
	port, err := s.Link(e.HostDevice)
	if errors.Is(err, unix.ENODEV) {
		return "the host's end of its cable, " + e.HostDevice + ", is gone", nil
	}
	if err != nil {
		return "", fmt.Errorf("device %s: %w", e.HostDevice, err)
	}
	bridge, err := s.Link(e.Bridge)
	switch {
	case errors.Is(err, unix.ENODEV):
		return "its bridge " + e.Bridge + " is gone", nil
	case err != nil:
		return "", fmt.Errorf("device %s: %w", e.Bridge, err)
	case port.Master != bridge.Index:
		return "its cable " + e.HostDevice + " is not at bridge " + e.Bridge, nil
	}
	return "", nil
}

// Plug makes the host's end of the cable of one of n's endpoints a port of its bridge, which is made where it is gone.
func (d *Doer) Plug(n plan.Network, e plan.Endpoint) error {
	i := slices.IndexFunc(n.Bridges, func(b plan.Bridge) bool { return b.Device == e.Bridge })
	if i < 0 {
		return fmt.Errorf("device %s: its network %s has no bridge of this machine", e.HostDevice, e.Network)
	}
	b := n.Bridges[i]
	if err := d.makeBridge(b); err != nil {
		return err
	}
	if err := routeLoopback(n.Publish); err != nil {
		return err
	}
	s, err := d.hostSocket()
	if err != nil {
		return err
	}
	answers, err := s.Do(linkMessage(0, e.HostDevice).AddUint32(unix.IFLA_MASTER, uint32(d.bridges[b.Device])), portMessage(e.HostDevice, e.Isolated))
	if err = errors.Join(append(answers, err)...); err != nil {
		return fmt.Errorf("device %s, to be a port of bridge %s: %w", e.HostDevice, b.Device, hint(err, ""))
	}
	guardNew(s, b.Device, e.HostDevice)
	return nil
}

// Unplug takes away the devices of a container that has ended, where its network namespace lives on: one that joined it has that. inside is a file of the
// namespace, "" where none is at hand: of devices that have no end on the host nothing can be found then. What is gone already is no error.
func (d *Doer) Unplug(list []plan.Endpoint, inside string) error {
	host, err := d.hostSocket()
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range list {
		s, name := host, e.HostDevice
		if name == "" {
			if inside == "" {
				continue
			}
			in, err := netlink.OpenIn(inside)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			defer in.Close()
			s, name = in, e.Device
		}
		errs = append(errs, removeLink(s, name))
	}
	return errors.Join(errs...)
}

// removeDevice removes a veth by its end on the host, whose name nobody inside can have changed, and
// other devices by their name inside.
func (d *Doer) removeDevice(pid int, hostDevice, device string) error {
	in, s, err := d.both(pid)
	if err != nil {
		return err
	}
	name := hostDevice
	if name == "" {
		s, name = in.s, device
	}
	delete(in.devices, device)
	return removeLink(s, name)
}

func removeLink(s *netlink.Socket, name string) error {
	err := s.One(netlink.NewMessage(unix.RTM_DELLINK, 0, netlink.IfInfo(0, 0, 0)).AddString(unix.IFLA_IFNAME, name))
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove device %s: %w", name, hint(err, ""))
	}
	return nil
}
