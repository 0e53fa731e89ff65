package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

// DefaultNetwork is the mode of the network of a container that asks for none: that of the engine's [Options], else the network "bridge". Where
// networks cannot be had it is none, and why says what is missing; else that is nil.
func (e *Engine) DefaultNetwork() (mode string, why error) {
	if e.network != "" {
		return e.network, nil
	}
	if e.rootless() {
		if why := uplink.Possible(); why != nil {
			return "none", why
		}
	} else if !e.host.Caps.Has(abi.CapNetAdmin) {
		return "none", errors.New("bridges take CAP_NET_ADMIN, which root is without here: in a container it is there by --cap-add NET_ADMIN")
	}
	return netdb.DefaultName, nil
}

// chooseNetwork decides about the network of a container that is asked for, and warns of what cannot work there.
func (e *Engine) chooseNetwork(c *Config) error {
	if c.UserNS == "host" && !e.host.Caps.Has(abi.CapSysAdmin) {
		return errors.New("--userns host: an ordinary user's container has a user namespace of its own: leave --userns host away")
	}
	if err := e.orDefault(c); err != nil {
		return err
	}
	e.namesNobody(c)
	e.publishesNothing(c)
	if another, joins := strings.CutPrefix(c.networkMode(), "container:"); e.warn != nil && joins && len(c.DNSSearch)+len(c.DNSOptions) > 0 {
		e.warn("--dns-search and --dns-option have no effect: the container has the resolv.conf of " + another)
	}
	return nil
}

// publishesNothing warns of ports that are asked for without a network, or with the host's, where Docker takes them: of the one without a word.
func (e *Engine) publishesNothing(c *Config) {
	if e.warn == nil || len(c.Publish) == 0 && !c.PublishAll {
		return
	}
	switch c.networkMode() {
	case "host":
		e.warn("Published ports are discarded when using host network mode")
	case "none":
		e.warn("-p publishes nothing: the container has no network")
	}
}

// orDefault gives a container that asks for no network the default one. Where that cannot be had, who asks for nothing that takes one
// has none, and is told.
func (e *Engine) orDefault(c *Config) error {
	mode := c.Network
	if mode == "" && len(c.Networks) > 0 {
		mode = c.Networks[0].Network
	}
	if mode != "" && mode != "default" {
		return nil
	}
	byDefault, why := e.DefaultNetwork()
	if why == nil && byDefault == netdb.DefaultName && e.rootless() {
		var err error
		if why, err = e.apart(c); err != nil {
			return err
		}
		if why != nil {
			byDefault = "none"
		}
	}
	if why != nil {
		if wants := c.wantsNetwork(); wants != "" {
			return fmt.Errorf("%s takes a network, which cannot be had: %w", wants, why)
		}
		if e.warn != nil {
			e.warn(fmt.Sprintf("the container has no network: %v, or say --network none", why))
		}
	}
	if c.Network = byDefault; byDefault == "none" {
		c.Network, c.Networks = "", nil // it can be connected later on
	}
	return nil
}

// apart says why a container of an ordinary user cannot be connected, though others can: its user namespace is none of the network world's.
func (e *Engine) apart(c *Config) (why, err error) {
	for _, n := range []struct{ flag, mode string }{{"--userns", c.UserNS}, {"--pid", c.PID}, {"--ipc", c.IPC}, {"--uts", c.UTS}} {
		ref, joins := strings.CutPrefix(n.mode, "container:")
		switch {
		case joins:
			of, err := e.Find(ref)
			if err == nil && len(of.Connections) == 0 {
				why = fmt.Errorf("%s %s: that one is on no network, and they share a user namespace", n.flag, n.mode)
			}
			return why, err
		case n.flag == "--userns" && n.mode != "":
			if !own(n.mode) {
				why = fmt.Errorf("--userns %s: an ordinary user's container on a network has a user namespace of its own", n.mode)
			}
			return why, nil
		}
	}
	return nil, nil
}

// wantsNetwork is the flag by which a container asks for what only a network gives, if there is one.
func (c *Config) wantsNetwork() string {
	speaks := func(entry string) bool { return entry != "none" }
	// more is the flag by which an attachment has more than a network: those beside --network are of the first one, which nobody need have named.
	more := func(a Attachment) string {
		for _, f := range []struct {
			flag string
			is   bool
		}{
			{"--ip", a.IPv4 != ""}, {"--ip6", a.IPv6 != ""}, {"--mac-address", a.MAC != ""}, {"--network-alias", len(a.Aliases) > 0},
			{"--link", len(a.Links) > 0}, {"--link-local-ip", len(a.LinkLocal) > 0}, {"--network", a.Device != "" || len(a.Options) > 0},
		} {
			switch {
			case f.is && (a.Network == "" || a.Network == "default"):
				return f.flag
			case f.is:
				return "--network"
			}
		}
		return ""
	}
	gateway := slices.IndexFunc(c.ExtraHosts, wantsGateway)
	switch {
	case len(c.Publish) > 0:
		return "-p"
	case c.PublishAll:
		return "-P"
	case slices.ContainsFunc(c.Egress, speaks):
		return "--egress"
	case len(c.Links) > 0:
		return "--link"
	case c.MACAddress != "":
		return "--mac-address"
	case len(c.Networks) > 1:
		return "--network"
	case len(c.Networks) > 0 && more(c.Networks[0]) != "":
		return more(c.Networks[0])
	case gateway >= 0:
		return "--add-host " + c.ExtraHosts[gateway]
	}
	return ""
}

// settle has the network "bridge" be one that can be on this machine: its bridge, and the subnets, may be those of an engine that has its records
// elsewhere, or of whoever came first since the boot. Then it gets others, unless containers have addresses of it. look is for who only wants
// to know. As long as the bridge is there, nothing is to be settled.
func (e *Engine) settle(n netdb.Network, look bool) (netdb.Network, error) {
	if e.rootless() {
		return n, nil // it is alone in its world, which is of its run directory: see dirs.Run
	}
	have, _, err := network.BridgeIsFree(bridgeOf(&n))
	if err != nil || have {
		return n, err
	}
	if look {
		return e.moved(n)
	}
	unlock, err := lockNamespace()
	if err != nil {
		return n, err
	}
	defer unlock()
	if n, err = e.netdb().Lookup(n.ID); err != nil {
		return n, err
	}
	if have, _, err = network.BridgeIsFree(bridgeOf(&n)); err != nil || have {
		return n, err
	}
	to, err := e.moved(n)
	if err != nil {
		return n, err
	}
	if to.Device != n.Device || !slices.EqualFunc(to.Pools, n.Pools, func(a, b netdb.Pool) bool { return a.Subnet == b.Subnet }) {
		if err := e.inUse(n); err != nil {
			return n, fmt.Errorf("network %s: its bridge %s, or its subnet, is another one's by now: %w", n.Name, n.Device, err)
		}
		if err := errors.Join(e.netdb().Move(to), monitor.Rules(e.dir).ForgetBridge(n.Device)); err != nil {
			return n, err
		}
	}
	// It is made before the next one looks.
	d := &network.Doer{}
	defer d.Close()
	_, err = d.Do(context.Background(), &plan.MakeBridge{Bridge: bridgeOf(&to)}, 0)
	return to, err
}

// unmake takes away what the kernel has of the network "bridge" where no running container is on it, and leaves the record. Who starts one meanwhile has either
// an address of it already, or makes the bridge after this.
func (e *Engine) unmake(id string) error {
	if !e.rootless() {
		unlock, err := lockNamespace() // settle makes the bridge before there is an address
		if err != nil {
			return err
		}
		defer unlock()
	}
	return e.netdb().Alone(id, func(n netdb.Network) error {
		if e.inUse(n) != nil {
			return nil
		}
		return e.dropNetwork(&n)
	})
}

// moved is the default network with a device and subnets that are free.
func (e *Engine) moved(n netdb.Network) (netdb.Network, error) {
	for i := 0; ; i++ {
		if _, free, err := network.BridgeIsFree(bridgeOf(&n)); err != nil || free {
			if err != nil {
				return n, err
			}
			break
		}
		n.Device = fmt.Sprintf("kakuri%d", i)
	}
	busy, err := netdb.Busy()
	if err != nil {
		return n, err
	}
	kept := slices.DeleteFunc(slices.Clone(n.Pools), func(p netdb.Pool) bool {
		return slices.ContainsFunc(busy, func(b netip.Prefix) bool { return b.Overlaps(p.Subnet) })
	})
	if len(kept) == len(n.Pools) {
		return n, nil
	}
	n.Pools = kept
	return e.netdb().Filled(n)
}

// namespaceLock is a file that each network namespace has its own of, and that nobody can open but who has CAP_NET_ADMIN over it, or is root there:
// what others may open, as /proc/self/ns/net, they may lock as well.
const namespaceLock = "/proc/sys/net/ipv4/tcp_fastopen_key"

// lockNamespace excludes other engines of this network namespace: flock(2) of a file of it, which they all have, wherever they keep their own. One that
// stands still is not waited for longer than such a moment takes.
func lockNamespace() (unlock func(), err error) {
	fd, err := unix.Open(namespaceLock, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: namespaceLock, Err: err}
	}
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(until) {
			return func() { unix.Close(fd) }, nil
		}
	}
}
