package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// dropNetwork takes a network's bridge and its rules from the machine, or the device that it had its macvlans on.
func (e *Engine) dropNetwork(n *netdb.Network) error {
	if n.Driver != plan.DriverBridge {
		return e.dropParent(n)
	}
	return e.onNetworks(context.Background(), netJob{Op: jobDrop, Device: n.Device, Alias: network.BridgeAlias(n.Name, n.ID)})
}

func (e *Engine) dropParent(n *netdb.Network) error {
	p, ours := parentOf(n)
	if !ours {
		return nil
	}
	all, err := e.netdb().List()
	if err != nil {
		return err
	}
	heir := ""
	for _, o := range all {
		if o.ID != n.ID && o.Driver != plan.DriverBridge && o.Device == n.Device {
			heir = network.BridgeAlias(o.Name, o.ID)
		}
	}
	d := &network.Doer{}
	defer d.Close()
	return d.RemoveParent(p, heir)
}

// private is Docker's word for who connects a container that is to have no network.
const private = "container cannot be connected to multiple networks with one of the networks in private (none) mode"

// NetworkConnect connects a container to a network: at once where it runs, else from its next start on.
func (e *Engine) NetworkConnect(ctx context.Context, ref, container string, a Attachment) error {
	n, err := e.findNetwork(ref)
	if err != nil {
		return e.swapped(err, ref, "connect")
	}
	return e.changing(ctx, container, func(c *Container) error { return e.connectHeld(ctx, c, n, a) })
}

// connectHeld connects a container that is held: see [Engine.changing].
func (e *Engine) connectHeld(ctx context.Context, c *Container, n netdb.Network, a Attachment) error {
	mode := c.Config.networkMode()
	switch {
	case n.Name == "host":
		return ErrConflict{"cannot connect container to host network - container must be created in host network mode"}
	case mode == "host" || strings.HasPrefix(mode, "container:") || strings.HasPrefix(mode, "ns:"):
		return ErrConflict{"container sharing network namespace with another container or host cannot be connected to any other network"}
	case mode == "none" && c.Config.Network == "none" && n.Name != "none":
		return ErrConflict{fmt.Sprintf("%s: take it out of that first: kakuri network disconnect none %s", private, c.Name)}
	case n.Name == "none":
		return ErrConflict{private}
	case e.rootless() && c.Active() && !e.inWorld(c):
		return ErrConflict{fmt.Sprintf("container %s runs without a network, and one of an ordinary user is then connected while it does not run: kakuri stop %[1]s; kakuri network connect %s %[1]s; kakuri start %[1]s", c.Name, n.Name)}
	}
	a.Network = n.Name
	list := slices.Clone(c.Config.attachments())
	switch i := e.attachedTo(c, &n); {
	case i < 0:
		list = append(list, a)
	case c.Active():
		return ErrConflict{fmt.Sprintf("endpoint with name %s already exists in network %s", c.Name, n.Name)}
	default: // as with Docker: it will be as was asked last
		list[i] = a
	}
	if !c.Active() {
		// Whether it can be had is found out now, beside those that are there: of the others its start tells.
		c.connectTo(slices.DeleteFunc(slices.Clone(list), func(a Attachment) bool {
			_, err := e.findNetwork(a.Network)
			return IsNoNetwork(err)
		}))
		if _, err := e.build(ctx, c.Record, true); err != nil {
			return err
		}
		c.connectTo(list)
		return c.writeRecord()
	}
	return e.connectLive(ctx, c, list)
}

// connectTo has the container be on these networks, the first of which is its network mode. Without any it has none, until it is connected to one.
func (c *Container) connectTo(list []Attachment) {
	c.NetworkAsked = c.networkAsked()
	c.Config.Networks, c.Config.Network = list, ""
	if len(list) > 0 {
		c.Config.Network = list[0].Network
	}
}

// networkAsked is the network mode that the container was made with, whatever it was connected to since.
func (c *Container) networkAsked() string { return cmp.Or(c.NetworkAsked, c.Config.networkMode()) }

// listed is which of a container's attachments has a network by this word, -1 for none.
func (c *Container) listed(ref string) int {
	return slices.IndexFunc(c.Config.attachments(), func(a Attachment) bool { return a.Network == ref })
}

// attachedTo is which of a container's attachments is of a network, -1 for none.
func (e *Engine) attachedTo(c *Container, n *netdb.Network) int {
	return slices.IndexFunc(c.Config.attachments(), func(a Attachment) bool {
		if a.Network == n.Name {
			return true
		}
		o, err := e.findNetwork(a.Network) // by its id
		return err == nil && o.ID == n.ID
	})
}

// liveBuilder is a builder for one more network of a container that runs.
func (e *Engine) liveBuilder(ctx context.Context, c *Container) *builder {
	b := &builder{ctx: ctx, engine: e, run: c.Config, rec: c.Record, host: e.host, id: c.ID, slot: c.Slot, shared: map[string]Container{}}
	b.opts.Causes, b.opts.Network, b.opts.ID = map[string]string{}, &plan.Network{}, c.ID
	return b
}

// wiredBuilder is a builder for what a container that runs is connected to, by its attachments.
func (e *Engine) wiredBuilder(ctx context.Context, c *Container, list []Attachment) *builder {
	b := e.liveBuilder(ctx, c)
	for i, x := range c.Connections {
		if n, err := e.netdb().Lookup(x.NetworkID); err == nil && i < len(list) {
			b.wires = append(b.wires, &wire{network: n, asked: list[i], has: x})
		}
	}
	return b
}

// connectLive connects a container that runs to the last network of a list. Where it comes to no end, the container is off that network.
func (e *Engine) connectLive(ctx context.Context, c *Container, list []Attachment) error {
	setup, err := monitor.ReadSetup(c.dir)
	if err != nil {
		return err
	}
	if setup.Options.Network == nil {
		if len(c.Config.Egress) > 0 {
			return ErrConflict{fmt.Sprintf("container %s has --egress, whose rules are made before there is a network: kakuri stop %[1]s, connect it, and start it", c.Name)}
		}
		setup.Options.Network, setup.Options.ID = &plan.Network{}, c.ID
	}
	b := e.liveBuilder(ctx, c)
	w, err := b.wire(list[len(list)-1])
	if err != nil {
		return err
	}
	b.wires = []*wire{w}
	off := &offNetwork{Network: w.network}
	if err := e.intend(c.ID, intent{Off: off}); err != nil {
		return err
	}
	err = e.putOn(ctx, c, &setup, list, b, off)
	ended := c.meanwhile()
	if err == nil && ended == nil {
		return e.fulfilled(c.ID)
	}
	now, back := e.read(c.dir)
	if back == nil {
		back = e.takeOff(context.WithoutCancel(ctx), &now, off, true)
	}
	if ended != nil {
		return errors.Join(ended, ignoreMissing(back)) // which may be why it failed
	}
	return errors.Join(err, back)
}

// putOn does all that connects a container with the network of b, and notes in off first what would have to be taken away again.
func (e *Engine) putOn(ctx context.Context, c *Container, setup *monitor.Setup, list []Attachment, b *builder, off *offNetwork) error {
	w := b.wires[0]
	if err := b.connect(freeDevice(c.Connections), w); err != nil {
		return err
	}
	b.replug(w)
	made, old := *b.opts.Network, setup.Options.Network
	c.connectTo(list)
	c.Connections = append(c.Connections, w.has)
	made.Gateway4, made.Gateway6 = e.gatewaysBy(ctx, c, list, w)
	off.Endpoint, off.Default4, off.Default6 = made.Endpoints[0], made.Gateway4.IsValid(), made.Gateway6.IsValid()
	if err := e.intend(c.ID, intent{Off: off}); err != nil {
		return err
	}
	moved, err := e.movePorts(ctx, c, list, old)
	if err == nil {
		err = e.uplinkFor(ctx, &c.Config)
	}
	if err == nil && c.PID != 0 { // else its next start makes it
		err = e.onNetworks(ctx, netJob{Op: jobConnect, Process: c.Witness(), ID: c.ID, Network: made})
	}
	if err != nil {
		return fmt.Errorf("network %s: %w", w.network.Name, err)
	}
	one := *c
	one.Connections = []Connection{w.has}
	if err := errors.Join(c.writeRecord(), e.join(&one)); err != nil {
		return err
	}
	addTo(old, made)
	names, err := e.namesNow(ctx, c, list)
	if err != nil {
		return err
	}
	if names.resolver {
		old.Resolver = &plan.Resolver{}
	}
	if err := e.rewriteNetworks(c, setup, func(n *monitor.Networks) {
		names.tell(n, e.rootless())
		if w.network.Name != netdb.DefaultName {
			n.Networks = append(n.Networks, membership(w))
		}
	}, ownNames(&w.has, c.Config.hostname(c.ID), c.Config.Domainname), nil); err != nil || !names.resolver && !moved {
		return err
	}
	return e.nowConnected(c, names, moved)
}

// gatewaysBy are the gateways, as at a start, of a container on all networks of a list that are of the network of w; where another
// one has the default route, it stays, and there is none.
func (e *Engine) gatewaysBy(ctx context.Context, c *Container, list []Attachment, w *wire) (v4, v6 netip.Addr) {
	all := e.wiredBuilder(ctx, c, list)
	all.gateways()
	if now := all.opts.Network.Gateway4; now == w.has.Gateway4 {
		v4 = now
	}
	if now := all.opts.Network.Gateway6; now == w.has.Gateway6 {
		v6 = now
	}
	return v4, v6
}

// addTo has a container's next start by its policy be with what was made for one that runs, too.
func addTo(n *plan.Network, made plan.Network) {
	n.Bridges, n.Endpoints = append(n.Bridges, made.Bridges...), append(n.Endpoints, made.Endpoints...)
	n.Parents = append(n.Parents, made.Parents...)
	n.Forward4, n.Forward6 = n.Forward4 || made.Forward4, n.Forward6 || made.Forward6
	if made.Gateway4.IsValid() {
		n.Gateway4 = made.Gateway4
	}
	if made.Gateway6.IsValid() {
		n.Gateway6 = made.Gateway6
	}
}

// movePorts decides where the machine's ports of a container lead that runs, after it was connected to a network or taken from one: as at its start, but
// that those which were chosen stay. It reports whether that is not what there was.
func (e *Engine) movePorts(ctx context.Context, c *Container, list []Attachment, old *plan.Network) (moved bool, err error) {
	b := e.wiredBuilder(ctx, c, list)
	b.run = c.Config.chosenPorts(c.Ports)
	if to, ok := b.backend(); ok {
		// One of an address family that it has no more leads nowhere.
		b.run.Publish = slices.DeleteFunc(b.run.Publish, func(s PortSpec) bool {
			_, err := to.hostAddrs(s)
			return err != nil
		})
	}
	defer b.dropPorts() // the monitor takes them
	if err := b.publish(); err != nil {
		return false, err
	}
	moved = !slices.Equal(c.Ports, b.rec.Ports)
	c.Ports, old.Publish = b.rec.Ports, b.rec.Ports
	return moved, nil
}

// namesNow is who answers for names in a container that is on all networks of a list.
func (e *Engine) namesNow(ctx context.Context, c *Container, list []Attachment) (naming, error) {
	b := e.wiredBuilder(ctx, c, list)
	err := b.resolveNames()
	return b.names, err
}

// nowConnected has the monitor have ports lead to the container's networks, and answer for names where it did not before, as for a container that was on the
// default network only, and says so in the container's resolv.conf: the same file, since it is mounted there.
func (e *Engine) nowConnected(c *Container, names naming, moved bool) error {
	m, err := e.dial(*c)
	switch none := errors.As(err, new(ErrNotRunning)); {
	case err == nil:
	case !none:
		return fmt.Errorf("names and ports of networks: %w", err)
	case moved && len(c.Ports) > 0 && !e.rootless():
		return monitor.Rules(e.dir).Publish(c.ID, c.Ports) // it was killed: the next one holds them
	case moved:
		return e.unpublish(c.ID)
	default:
		return nil // it ends
	}
	defer m.Close()
	defer e.mind(*c, m)()
	if err := m.Connected(); err != nil {
		return fmt.Errorf("names and ports of networks: %w", err)
	}
	if !names.resolver {
		return nil
	}
	if !exists(c.dir + "/resolv.conf") {
		return nil // it has its own
	}
	return ignoreClosed(writeEtc(c.dir+"/resolv.conf", names.conf))
}

// writeEtc writes a file that is in a container's /etc: the same one, since it is mounted there. Where the disk is full it stays as it was. It waits for nobody
// inside who has a lease on it, by F_SETLEASE of fcntl(2): that is the error EWOULDBLOCK.
func writeEtc(name string, data []byte) error {
	old, unread := files.Head(name, mostHosts)
	f, err := os.OpenFile(name, os.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		if f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err == nil {
			err = f.Chmod(0o644) // whatever the caller's umask is: users inside who are not root read it
		}
	}
	if err != nil {
		f.Close() // nil, or of what was made
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		return errors.Join(fmt.Errorf("%s: %w", name, errNotOurs), f.Close())
	}
	put := func(data []byte) error {
		_, err := f.WriteAt(data, 0)
		if err == nil {
			err = f.Truncate(int64(len(data)))
		}
		return err
	}
	if err = put(data); err != nil && unread == nil {
		put(old) // into the room that it has
	}
	return errors.Join(err, f.Close())
}

// errNotOurs is of a file that has another name as well, and of what is no file.
var errNotOurs = errors.New("it is not a regular file of one name")

// notOurs reports whether an error of [writeEtc] says that something else is in the place of the file, as in a data directory that was brought from elsewhere.
func notOurs(err error) bool {
	return errors.Is(err, errNotOurs) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EISDIR)
}

// ignoreClosed passes over a file in /etc that a container keeps to itself: by closing it or giving it to another of its ids, of an ordinary user's container, by a
// lease, or by running it as a program. It stays as it is until the next start.
func ignoreClosed(err error) error {
	if keptToItself(err) {
		return nil
	}
	return err
}

func keptToItself(err error) bool {
	return errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.ETXTBSY)
}

// freeDevice is the number of the first device that a container has not.
func freeDevice(list []Connection) int {
	for i := 0; ; i++ {
		if !slices.ContainsFunc(list, func(c Connection) bool {
			return strings.TrimLeft(c.Device, "abcdefghijklmnopqrstuvwxyz") == fmt.Sprint(i)
		}) {
			return i
		}
	}
}

// swapped adds to the error of a network that there is not what whoever named a container in its place is to write.
func (e *Engine) swapped(err error, ref, verb string) error {
	if !errors.As(err, new(*netdb.NoNetworkError)) {
		return err
	}
	if _, ferr := e.Find(ref); ferr != nil {
		return err
	}
	return fmt.Errorf("%w (%s is a container: network %s NETWORK CONTAINER)", err, ref, verb)
}

// NetworkDisconnect takes a container from a network: at once where it runs, and with force also where the container is not there any more.
func (e *Engine) NetworkDisconnect(ctx context.Context, ref, container string, force bool) error {
	n, gone := e.findNetwork(ref)
	if gone != nil && !IsNoNetwork(gone) {
		return gone
	}
	err := e.changing(ctx, container, func(c *Container) error {
		if gone != nil {
			return e.forgetNetwork(c, ref, force, gone)
		}
		return e.disconnectHeld(ctx, c, &n)
	})
	switch missing := errors.As(err, new(ErrNoSuchContainer)); {
	case missing && gone != nil:
		return e.swapped(gone, ref, "disconnect")
	case missing && force:
		return e.takeGone(n.ID, container, err)
	}
	return err
}

// disconnectHeld takes a container that is held from a network.
func (e *Engine) disconnectHeld(ctx context.Context, c *Container, n *netdb.Network) error {
	i := e.attachedTo(c, n)
	if n.Name == "none" && c.Config.Network == "none" {
		c.connectTo(nil)
		return c.writeRecord()
	}
	if c.Config.networkMode() == "host" {
		return ErrConflict{"cannot disconnect container from host network - container was created in host network mode"}
	}
	if i < 0 {
		return ErrConflict{fmt.Sprintf("container %s is not connected to network %s", c.ID, n.Name)}
	}
	if c.Active() {
		return e.disconnectLive(ctx, c, n)
	}
	c.connectTo(slices.Delete(slices.Clone(c.Config.attachments()), i, i+1))
	return c.writeRecord()
}

// takeGone takes from a network what a container that is not there any more has left on it, by its id or name. The error is missing where it has nothing.
func (e *Engine) takeGone(network, container string, missing error) error {
	list, err := e.netdb().Members(network)
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.Container == container || m.Name == container {
			return e.netdb().Leave(network, m.Container)
		}
	}
	return missing
}

// forgetNetwork takes a network that is not there any more from what a container is connected to at its next start, by the word that it was asked for: as
// Docker, where the container does not run, or with force. gone is that the network is not there.
func (e *Engine) forgetNetwork(c *Container, ref string, force bool, gone error) error {
	i := c.listed(ref)
	if i < 0 || c.Active() && !force {
		return gone
	}
	if i < len(c.Connections) {
		c.Connections = slices.Delete(slices.Clone(c.Connections), i, i+1)
	}
	c.connectTo(slices.Delete(c.Config.attachments(), i, i+1))
	return c.writeRecord()
}

// mostHosts is how large an /etc/hosts may be, in bytes, to be kept right while a container runs.
const mostHosts = 1 << 20

// rewriteNetworks writes down what has changed for a container that runs: for its next start, for its resolver, and in /etc/hosts. What is so already takes no room on
// the disk.
func (e *Engine) rewriteNetworks(c *Container, setup *monitor.Setup, change func(*monitor.Networks), more string, gone []netip.Prefix) error {
	n, err := monitor.ReadNetworks(c.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	n.Data = e.data
	change(&n)
	if err := errors.Join(rewrite(c.dir, "setup.json", setup), rewrite(c.dir, "networks.json", &n)); err != nil {
		return err
	}
	return c.rewriteHosts(func(text string) string {
		kept := ""
		for line := range strings.Lines(text) {
			at, _, _ := strings.Cut(line, "\t")
			if !slices.ContainsFunc(gone, func(p netip.Prefix) bool { return p.Addr().String() == at }) {
				kept += line
			}
		}
		return kept + more
	})
}

// rewrite replaces a file unless it is so already.
func rewrite(dir, name string, v any) error {
	data, err := leanjson.Marshal(v)
	if err != nil {
		return err
	}
	return replaceOther(dir, name, append(data, '\n'), false)
}

// replaceOther is [files.Replace] of a file that has other content: what is so already takes no room on a full disk.
func replaceOther(dir, name string, data []byte, sync bool) error {
	if now, err := files.Read(dir + "/" + name); err == nil && bytes.Equal(now, data) {
		return nil
	}
	return files.Replace(dir, name, data, sync)
}

// rewriteHosts changes /etc/hosts of a container that runs. It stays the same file, since it is mounted there.
func (c *Container) rewriteHosts(change func(text string) string) error {
	file := c.dir + "/hosts"
	// Root inside writes it too: one that is made this large stays as it is.
	data, err := files.Head(file, mostHosts+1)
	if err != nil || len(data) > mostHosts {
		return ignoreMissing(ignoreClosed(err))
	}
	text := change(string(data))
	if text == string(data) {
		return nil
	}
	return ignoreClosed(writeEtc(file, []byte(text)))
}
