package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink/world"
)

// An offNetwork is a network that a container is not to be on: it is being taken from it, or connected to it, which is not so before all is done.
type offNetwork struct {
	Network            netdb.Network
	Endpoint           plan.Endpoint // without a device: it has none there yet
	Default4, Default6 bool          // its default route leads there, or may
}

// disconnectLive takes a container that runs from a network.
func (e *Engine) disconnectLive(ctx context.Context, c *Container, n *netdb.Network) error {
	has := c.connection(n.ID)
	setup, err := monitor.ReadSetup(c.dir)
	if err != nil {
		return err
	}
	if has == nil || setup.Options.Network == nil {
		return ErrConflict{fmt.Sprintf("container %s is not connected to network %s", c.ID, n.Name)}
	}
	off := &offNetwork{Network: *n}
	for _, x := range setup.Options.Network.Endpoints {
		if x.Device == has.Device {
			off.Endpoint = x
		}
	}
	return e.takeOff(ctx, c, off, false)
}

// takeOff takes a container, whose lock is held, from a network, as far as it is there: again where somebody was killed over it, or could not connect it. Where it
// does not come to its end, the next command goes on.
func (e *Engine) takeOff(ctx context.Context, c *Container, off *offNetwork, again bool) error {
	n := &off.Network
	c.written, _ = leanjson.Marshal(&c.Record)
	if i := e.attachedTo(c, n); i >= 0 {
		c.connectTo(slices.Delete(slices.Clone(c.Config.attachments()), i, i+1))
	}
	c.Connections = slices.DeleteFunc(slices.Clone(c.Connections), func(x Connection) bool { return x.NetworkID == n.ID })
	err := e.cutOff(ctx, c, off, again)
	if err != nil {
		return err
	}
	return e.fulfilled(c.ID)
}

// cutOff has the kernel, and all that is written down, be as a container's record is by now.
func (e *Engine) cutOff(ctx context.Context, c *Container, off *offNetwork, again bool) error {
	n := &off.Network
	if !c.Active() {
		return errors.Join(e.unplug(ctx, c, off.job(nil), again), c.writeRecord(), e.netdb().Leave(n.ID, c.ID))
	}
	setup, err := monitor.ReadSetup(c.dir)
	if err != nil {
		return err
	}
	old := setup.Options.Network
	if old == nil { // it was to get its first one
		old = &plan.Network{}
	}
	off.without(old)
	// Who has the default route now?
	list := c.Config.attachments()
	b := e.wiredBuilder(ctx, c, list)
	b.gateways()
	now := b.opts.Network
	off.Default4, off.Default6 = off.Default4 || now.Gateway4 != old.Gateway4, off.Default6 || now.Gateway6 != old.Gateway6
	old.Gateway4, old.Gateway6 = now.Gateway4, now.Gateway6
	names, err := e.namesNow(ctx, c, list)
	if err != nil {
		return err
	}
	moved, err := e.movePorts(ctx, c, list, old)
	if err != nil {
		return err
	}
	if err := e.intend(c.ID, intent{Off: off}); err != nil {
		return err
	}
	if err := e.unplug(ctx, c, off.job(now), again); err != nil {
		return err
	}
	if err := c.writeRecord(); err != nil {
		return err
	}
	_, none := e.netdb().Member(n.ID, c.ID)
	if err := e.netdb().Leave(n.ID, c.ID); err != nil {
		return err
	}
	if none == nil {
		e.tell("network", "disconnect", n.ID, map[string]string{"container": c.ID, "name": n.Name, "type": n.Driver})
	}
	if err := e.rewriteNetworks(c, &setup, func(m *monitor.Networks) {
		m.Networks = slices.DeleteFunc(m.Networks, func(x monitor.Membership) bool { return x.ID == n.ID })
		if !m.Resolver { // a connect was killed that would have had one
			old.Resolver = nil
		} else if names.resolver || b.isolated() {
			names.resolver = true // who is on no network any more has it in his resolv.conf
			names.tell(m, e.rootless())
		} // else it is on the default network alone, and goes on to ask them
	}, "", off.Endpoint.Addrs); err != nil || !moved && !again {
		return err
	}
	return e.nowConnected(c, naming{}, true)
}

// without takes the network from what a container's next start by its policy has.
func (off *offNetwork) without(old *plan.Network) {
	n := &off.Network
	old.Endpoints = slices.DeleteFunc(old.Endpoints, func(x plan.Endpoint) bool { return x.Device == off.Endpoint.Device })
	if n.Driver == plan.DriverBridge {
		old.Bridges = slices.DeleteFunc(old.Bridges, func(b plan.Bridge) bool { return b.Device == n.Device })
		return
	}
	alias := network.BridgeAlias(n.Name, n.ID)
	old.Parents = slices.DeleteFunc(old.Parents, func(p plan.Parent) bool { return p.Alias == alias })
}

// job takes the device away, and gives a container that runs the gateways that it is to have now.
func (off *offNetwork) job(now *plan.Network) netJob {
	j := netJob{Op: jobUnplug}
	if off.Endpoint.Device != "" {
		j.Network.Endpoints = []plan.Endpoint{off.Endpoint}
	}
	if now == nil {
		return j
	}
	j.Op = jobDisconnect
	if off.Default4 {
		j.Network.Gateway4 = now.Gateway4
	}
	if off.Default6 {
		j.Network.Gateway6 = now.Gateway6
	}
	return j
}

// unplug does such a job. Again it is no error that there is no network world: nothing was made there.
func (e *Engine) unplug(ctx context.Context, c *Container, j netJob, again bool) error {
	if len(j.Network.Endpoints) == 0 {
		return nil
	}
	j.Process = c.Witness()
	ended := func() bool { return j.Op == jobDisconnect && ending(j.Process) }
	var err error
	if !ended() {
		err = e.onNetworks(ctx, j)
	}
	if ended() {
		j.Op = jobUnplug // it waits for its next start by its policy
		err = e.onNetworks(ctx, j)
	}
	if again && errors.Is(err, world.ErrNone) {
		return nil
	}
	return err
}
