package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/network/reach"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"github.com/kakuri/kakuri/uplink/world"
)

// An ordinary user's containers are connected in the user's network world: see package world. Their monitors run there, so that all that is done to
// networks is done as for root; everything else does not know of it.

// rootless reports whether networks are in a network world.
func (e *Engine) rootless() bool { return !e.host.Privileged() }

// needsWorld reports whether a container's monitor is to be in the network world.
func (e *Engine) needsWorld(c *Config) bool { return e.rootless() && len(c.attachments()) > 0 }

// inWorld reports whether a container that runs was started in the network world, whatever it is connected to by now: its user namespace is that one's child.
func (e *Engine) inWorld(c *Container) bool {
	setup, err := monitor.ReadSetup(c.dir)
	return err == nil && setup.Options.Network != nil && setup.Options.Network.World
}

// takeWorld returns the user's world, made where there is none, with its lock.
func (e *Engine) takeWorld(ctx context.Context, c *Config) (*world.World, error) {
	ids, err := e.storageIDs()
	if err != nil {
		return nil, err
	}
	w, err := world.Take(ctx, e.dir, world.Maker{UIDs: ids.UIDs, GIDs: ids.GIDs, Facts: e.host, Hands: oci.Hands{}, Members: e.worldMembers, Warn: e.warn})
	if err == nil && w.Made() {
		// What there was of rules went with the world that they were in.
		err = os.RemoveAll(e.dir + "/rules")
	}
	if err == nil && e.goesOut(c) {
		var u *uplink.Uplink
		if u, err = w.Uplink(ctx); err == nil {
			u.Close()
		} else {
			err = fmt.Errorf("%w, or run it with --network none", err)
		}
	}
	if err != nil && w != nil {
		w.Close()
	}
	return w, err
}

// worldMembers are the first processes of containers that were started in the world: their user namespaces are its children.
func (e *Engine) worldMembers() (pids []int) {
	list, err := e.listed(ListOptions{All: true}) // a sweep would wait for the world's lock
	if err != nil {
		return nil
	}
	for _, c := range list {
		if c.PID != 0 && e.inWorld(&c) {
			pids = append(pids, c.PID)
		}
	}
	return pids
}

// goesOut reports whether a container is on a network that leads out of the world.
func (e *Engine) goesOut(c *Config) bool {
	return slices.ContainsFunc(c.attachments(), func(a Attachment) bool {
		n, err := e.findNetwork(a.Network)
		return err == nil && !n.Internal
	})
}

// spawnFor starts a monitor for a container that is there.
func (e *Engine) spawnFor(ctx context.Context, ref string) (*monitor.Client, error) {
	var cfg Config
	if e.rootless() {
		c, err := e.Find(ref)
		if err != nil {
			return nil, err
		}
		cfg = c.Config
	}
	return e.spawn(ctx, monitor.Spawn, &cfg)
}

// spawnInWorld starts a monitor in the world. The lock is held until the monitor is there, and keeps it.
func (e *Engine) spawnInWorld(ctx context.Context, how func(program string, env []string, by monitor.Starter) (*monitor.Client, error), program string, env []string, c *Config) (*monitor.Client, error) {
	w, err := e.takeWorld(ctx, c)
	if err != nil {
		return nil, err
	}
	m, err := spawnBy(ctx, w, how, program, env)
	w.Close()
	if err == nil && w.Made() {
		// Containers whose monitors were killed lost their networks with the world before.
		e.complain(e.sweepMonitors())
	}
	return m, err
}

func spawnBy(ctx context.Context, w *world.World, how func(program string, env []string, by monitor.Starter) (*monitor.Client, error), program string, env []string) (*monitor.Client, error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	return how(program, env, func(file string, args, env []string, socket *os.File) (func(), error) {
		p, err := w.Start(context.WithoutCancel(ctx), world.Program{File: file, Args: args, Env: env, Stdio: [3]*os.File{socket, null, null}, Stays: true})
		if err != nil {
			return nil, err
		}
		return func() { p.Wait() }, nil
	})
}

// uplinkFor has the world be connected with the machine's network, where a container that runs there is on a network that leads out.
func (e *Engine) uplinkFor(ctx context.Context, c *Config) error {
	if !e.rootless() || !e.goesOut(c) {
		return nil
	}
	w, err := e.takeWorld(ctx, c)
	if err == nil {
		w.Close()
	}
	return err
}

// unpublish takes a container's ports from the machine.
func (e *Engine) unpublish(id string) error {
	if e.rootless() {
		return uplink.Unpublish(uplink.Dir(e.dir), id, e.warn)
	}
	return monitor.Rules(e.dir).Unpublish(id)
}

// reconnect has a container that was adopted be on its networks again, where the world that they were in has ended: all monitors, and the uplink,
// were killed.
func (e *Engine) reconnect(c *Container) error {
	setup, err := monitor.ReadSetup(c.dir)
	if err != nil || setup.Options.Network == nil || c.PID == 0 {
		return err
	}
	n := *setup.Options.Network
	n.Publish, n.Resolver = nil, nil // the uplink's, and the monitor's
	return e.onNetworks(context.Background(), netJob{Op: jobReconnect, Process: c.Witness(), ID: c.ID, Network: n})
}

// sweepUplink takes ports from the machine whose containers have not begun to run.
func (e *Engine) sweepUplink(begun func(id string) bool) error {
	owners, err := uplink.Owners(uplink.Dir(e.dir))
	errs := []error{err, world.Heal(context.Background(), e.dir, e.warn)}
	for _, id := range owners {
		if !begun(id) {
			errs = append(errs, uplink.Unpublish(uplink.Dir(e.dir), id, e.warn))
		}
	}
	return errors.Join(errs...)
}

// healWorld has containers be at bridges again that somebody removed from the network world. It goes there only where a bridge is not seen from here.
func (e *Engine) healWorld() error {
	have, err := world.Devices(e.dir)
	if err != nil {
		return nil // nobody is there
	}
	all, err := e.netdb().List()
	if err != nil {
		return err
	}
	gone := slices.ContainsFunc(all, func(n netdb.Network) bool {
		if n.Driver != plan.DriverBridge || slices.Contains(have, n.Device) {
			return false
		}
		members, err := e.netdb().Members(n.ID)
		return err == nil && len(members) > 0
	})
	if !gone {
		return nil
	}
	return e.repairWorld()
}

// repairWorld has the network world's rules, bridges and cables be as the records have them.
func (e *Engine) repairWorld() error {
	bridges, err := e.bridges()
	if err != nil {
		return err
	}
	cables, err := e.cables()
	if err != nil {
		return err
	}
	defer e.hold(cables)()
	return e.onNetworks(context.Background(), netJob{Op: jobRepair, Bridges: bridges, Cables: cables})
}

// worldRules is rules for a network world, with its bridges that are down or have lost addresses, and cables that are at no bridge.
func (k *check) worldRules() error {
	bridges, err := k.e.bridges()
	if err != nil {
		return err
	}
	cables, err := k.e.cables()
	if err != nil {
		return err
	}
	// Others may change the rules for long: no container is held for that.
	err = errors.Join(k.e.onNetworks(context.Background(), netJob{Op: jobCheck, Bridges: bridges}), k.e.lookAtCables(cables))
	if err == nil {
		return nil
	}
	for text := range strings.Lines(err.Error()) {
		what, fault, ok := strings.Cut(strings.TrimSpace(text), ": ")
		if !ok {
			what, fault = "rules", what
		}
		k.find(what, fault, k.e.repairWorld)
	}
	return nil
}

// lookAtCables has what is missing of cables in a network world for its error, of containers that nobody connects or takes from a network meanwhile.
func (e *Engine) lookAtCables(cables []cable) error {
	defer e.hold(cables)() // the repair does so itself
	held := slices.DeleteFunc(cables, func(c cable) bool { return !c.Held })
	if len(held) == 0 {
		return nil
	}
	return e.onNetworks(context.Background(), netJob{Op: jobLook, Cables: held})
}

// fitsWorld refuses what cannot be had in a world: a container's user namespace is its own, or that of another one there.
func (b *builder) fitsWorld() error {
	if !b.engine.rootless() {
		return nil
	}
	switch c, joins := b.shared[b.userMode()]; {
	case joins && !b.engine.inWorld(&c):
		return fmt.Errorf("--network %s: it shares the user namespace of container %s, which is on no network: have that one be on a network, too", b.run.networkMode(), c.Name)
	case !joins && !b.hasUserNS():
		return fmt.Errorf("--network %s: an ordinary user's container on a network has a user namespace of its own: leave out --userns %s", b.run.networkMode(), b.userMode())
	}
	return nil
}

// worldEnv has, for a program that is started in a network world in the place of another one, the directories of that one's engine.
const worldEnv = "KAKURI_WORLD"

// InWorld tells whether this process was started by [Engine.AgainInWorld].
func InWorld() bool { return os.Getenv(worldEnv) != "" }

// AgainInWorld runs this program once more, with its arguments and streams, in the network world of an ordinary user: for who reads networks, and may
// enter those namespaces from there only. ref is the container that is asked about, which has to be there itself; empty is the world as a whole. Where
// there is nothing to be read there, or this is that process, done is false.
func (e *Engine) AgainInWorld(ctx context.Context, ref string) (code int, done bool, err error) {
	if !e.rootless() || InWorld() {
		return 0, false, nil
	}
	if ref != "" {
		if c, err := e.Find(ref); err != nil || len(c.Connections) == 0 {
			return 0, false, nil // who asks finds out
		}
	}
	w, err := world.Find(e.dir, e.warn)
	if err != nil {
		if errors.Is(err, world.ErrNone) {
			err = nil
		}
		return 0, false, err
	}
	// It ends with the thread that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := w.Start(ctx, world.Program{File: self, Args: os.Args, Env: append(os.Environ(), worldEnv+"="+e.dir+"\n"+e.data)})
	w.Close()
	if err != nil {
		return 0, false, fmt.Errorf("a process in the network world: %w", err)
	}
	status, err := p.Wait()
	return launch.ExitCode(status), true, err
}

// machineEnv has, beside worldEnv, what the machine's network namespace says of a port.
const machineEnv = "KAKURI_WORLD_MACHINE"

// A machineSide is that of a port which kakuri-uplink listens for.
type machineSide struct {
	Listeners []reach.Listener
	Tests     []reach.Test
}

// PortAgain is [Engine.AgainInWorld] for a command that asks [Engine.PortFacts]: the port of the machine is tried before, from here.
func (e *Engine) PortAgain(ctx context.Context, q reach.Question) (code int, done bool, err error) {
	if !e.rootless() || InWorld() {
		return 0, false, nil
	}
	k, err := e.portCase(q)
	if err != nil || k.about == nil {
		return 0, false, err
	}
	r := k.records
	f := reach.Gather(ctx, reach.Question{Port: q.Port, Proto: q.Proto}, reach.Records{Published: r.Published, Holders: r.Holders})
	var m machineSide
	for _, l := range f.Host.Listeners {
		if slices.ContainsFunc(r.Published, func(p reach.Published) bool { return p.HostPort == l.Port }) {
			m.Listeners = append(m.Listeners, l)
		}
	}
	if len(r.Published) > 0 {
		m.Tests = f.Tests
	}
	text, err := json.Marshal(m)
	if err != nil {
		return 0, false, err
	}
	os.Setenv(machineEnv, string(text))
	return e.AgainInWorld(ctx, k.about.ID)
}

// withMachine puts what the machine's side was found to be in the place of the world's, which no port of the machine is in.
func (e *Engine) withMachine(f reach.Facts) reach.Facts {
	var m machineSide
	if os.Getenv(worldEnv) == "" || json.Unmarshal([]byte(os.Getenv(machineEnv)), &m) != nil {
		return f
	}
	f.Host.Listeners = append(f.Host.Listeners, m.Listeners...)
	ofMachine := func(t reach.Test) bool {
		return t.From == "host" && slices.ContainsFunc(f.Published, func(p reach.Published) bool { return p.HostPort == t.To.Port() }) &&
			!slices.ContainsFunc(f.Published, func(p reach.Published) bool { return p.Addr == t.To.Addr() })
	}
	f.Tests = append(slices.DeleteFunc(f.Tests, ofMachine), m.Tests...)
	return f
}
