package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// A Finding is something that should not be, which a killed process, a full disk or a power failure left.
type Finding struct {
	Object string // what it is about, as in "container 3f9c2a112233"
	Text   string // what is wrong with it
	Mended bool
	Error  string `json:",omitempty"` // why it could not be mended
}

// Check looks for what should not be among containers, and with repair mends it. What other commands are working on is left alone.
func (e *Engine) Check(ctx context.Context, repair bool) ([]Finding, error) {
	k := &check{e: e, repair: repair}
	for _, part := range k.parts() {
		if err := ctx.Err(); err != nil {
			return k.found, err
		}
		if err := part.look(); err != nil {
			// What is wrong with one kind is no reason not to look at the others, and hides nothing that was mended.
			k.found = append(k.found, Finding{Object: part.what, Text: fmt.Sprintf("not all of them can be looked at: %v", err)})
		}
	}
	return k.found, ctx.Err()
}

// Audited is what [Engine.Check] looks at, in its order.
func (e *Engine) Audited() []string {
	var list []string
	for _, part := range (&check{e: e}).parts() {
		list = append(list, part.what)
	}
	return list
}

// A checkPart looks at one kind of thing.
type checkPart struct {
	what string
	look func() error
}

func (k *check) parts() []checkPart {
	parts := []checkPart{
		{"containers half made or half removed", k.creating},
		{"monitors", k.monitors},
		{"paused containers", k.paused},
		{"containers half changed", k.intents},
		{"containers that go when they end", k.removed},
		{"records", k.containers},
		{"names and ranges of ids", k.reservations},
		{"processes", k.states},
		{"control groups", k.cgroups},
		{"layers and what containers wrote", k.layers},
		{"volumes", k.volumes},
		{"networks and their addresses", k.networks},
	}
	if k.e.host.Privileged() {
		parts = append(parts, checkPart{"bridges and cables", k.cables})
	}
	return append(parts, checkPart{"rules of the packet filter", k.rules})
}

// A check is under way.
type check struct {
	e      *Engine
	repair bool
	found  []Finding
}

// find notes something, and mends it where that was asked for.
func (k *check) find(object, text string, mend func() error) {
	f := Finding{Object: object, Text: text}
	if k.repair {
		if err := mend(); err != nil {
			f.Error = err.Error()
		} else {
			f.Mended = true
		}
	}
	k.found = append(k.found, f)
}

// volumes finds what is left of volumes, and those that cannot be read.
func (k *check) volumes() error {
	left, err := k.e.volumes().Left()
	if err != nil {
		return err
	}
	for _, name := range left {
		k.find("volumes/"+name, "a volume that a killed command was making or removing", k.e.sweepVolumes)
	}
	_, damaged, err := k.e.volumes().List()
	for _, d := range damaged {
		k.find("volume "+d.Name, fmt.Sprintf("its record cannot be read: %v", d.Err), func() error {
			return fmt.Errorf("its files are in %s: copy them away, and kakuri volume rm -f %s removes it", d.Dir, d.Name)
		})
	}
	return err
}

// rules finds what the machine's table of rules has not, though containers that run need it: as after a firewall that was loaded anew.
func (k *check) rules() error {
	if k.e.rootless() {
		return k.worldRules()
	}
	r := monitor.Rules(k.e.dir)
	faults, err := r.Check()
	for _, text := range faults {
		k.find("rules", text, func() error {
			_, err := r.Repair()
			return err
		})
	}
	return err
}

// networks finds addresses and names of containers that do not run, and halves of networks.
func (k *check) networks() error {
	left, err := k.e.netdb().Left(k.e.begunOrLocked)
	for _, l := range left {
		k.find("network "+files.ShortID(l.Network), l.Text, k.e.sweepNetworks)
	}
	err = errors.Join(err, k.named())
	damaged, err2 := k.e.netdb().Damaged()
	for _, d := range damaged {
		k.find("network "+files.ShortID(d.ID), fmt.Sprintf("its record cannot be read: %v", d.Err), func() error {
			return fmt.Errorf("kakuri network rm -f %s removes it", cmp.Or(d.Name, files.ShortID(d.ID)))
		})
	}
	return errors.Join(err, err2)
}

// named finds containers that run, and that a network has by other names than their own: what a killed rename or connect did not come to.
func (k *check) named() error {
	list, err := k.e.placed()
	for _, id := range list {
		k.namedOne(id)
	}
	return err
}

func (k *check) namedOne(id string) {
	dir := k.e.find(id)
	if dir == "" {
		return
	}
	lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return // somebody is at it
	}
	defer lock.Close()
	c, err := k.e.read(dir)
	if err != nil || !c.Active() {
		return
	}
	for i := range c.Connections {
		if has := &c.Connections[i]; k.e.otherwiseKnown(&c, has) && c.meanwhile() == nil { // else its monitor has taken it off, as it has ended
			k.find(container(id), "network "+has.Network+" has it by other names than its own", func() error { return k.e.beKnown(&c) })
		}
	}
}

// cables finds bridges of root's networks that are down or have lost addresses, and containers that run and are at their bridges no more.
func (k *check) cables() error {
	d := &network.Doer{Rules: monitor.Rules(k.e.dir)}
	defer d.Close()
	bridges, err := k.e.bridges()
	if err != nil {
		return err
	}
	lame, err := lackStill(d, bridges)
	for _, b := range lame {
		k.find("network "+b.Network, b.lacks, func() error {
			_, err := d.HealBridge(b.Bridge)
			return err
		})
	}
	if err != nil {
		return err
	}
	cables, err := k.e.cables()
	var forward plan.SetForwarding
	for _, c := range cables {
		forward.V4, forward.V6 = forward.V4 || c.Network.Forward4, forward.V6 || c.Network.Forward6
	}
	if text := network.NotForwarding(&forward); text != "" {
		k.find("machine", text, func() error {
			_, err := d.Do(context.Background(), &forward, 0)
			return err
		})
	}
	for _, c := range cables {
		if err := k.cable(d, c); err != nil {
			return err
		}
	}
	return err
}

// A lameBridge lacks something: see [network.Doer.BridgeLacks].
type lameBridge struct {
	plan.Bridge
	lacks string
}

// lackStill lists those bridges that lack something, but none that somebody is just making: that is waited for once, and not for each.
func lackStill(d *network.Doer, bridges []plan.Bridge) (list []lameBridge, err error) {
	var errs []error
	soon(func() bool {
		asked := bridges
		bridges, list = nil, nil
		for _, b := range asked {
			text, err := d.BridgeLacks(b)
			if errs = append(errs, err); text != "" {
				bridges, list = append(bridges, b), append(list, lameBridge{b, text})
			}
		}
		return len(list) == 0
	})
	return list, errors.Join(errs...)
}

// soon waits until something is so, no longer than who is just at it takes for that, and reports whether it is.
func soon(is func() bool) bool {
	for until := time.Now().Add(2 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			return false
		}
	}
	return true
}

// cable finds one that is not at its bridge, of a container that nobody connects or takes from a network meanwhile.
func (k *check) cable(d *network.Doer, c cable) error {
	one := []cable{c}
	defer k.e.hold(one)()
	if !one[0].Held {
		return nil
	}
	text, err := d.Unplugged(c.Endpoint)
	if err == nil && text != "" && k.e.stillAt(c) {
		k.find(container(c.ID), "on network "+c.Endpoint.Network+": "+text, func() error { return one[0].plug(context.Background(), d) })
	}
	return err
}

// A cable is what connects a container that runs with a bridge.
type cable struct {
	ID       string // the container's
	Process  oci.Witness
	Network  plan.Network
	Endpoint plan.Endpoint
	// Held is that no other command connects the container or takes it from a network until this is done.
	Held bool
}

// cables are those of all containers that run.
func (e *Engine) cables() (cables []cable, err error) {
	list, err := e.placed()
	for _, id := range list {
		cables = append(cables, e.cablesOf(id)...)
	}
	return cables, err
}

// cablesOf are those of one container; it has none while it does not run.
func (e *Engine) cablesOf(id string) (cables []cable) {
	dir := e.find(id)
	if dir == "" {
		return nil
	}
	c, err := e.read(dir)
	if err != nil || !c.Active() || len(c.Connections) == 0 {
		return nil
	}
	setup, err := monitor.ReadSetup(dir)
	if err != nil || setup.Options.Network == nil {
		return nil // it is being made, or removed
	}
	for _, x := range setup.Options.Network.Endpoints {
		if x.Bridge != "" {
			cables = append(cables, cable{ID: id, Process: c.Witness(), Network: *setup.Options.Network, Endpoint: x})
		}
	}
	return cables
}

// stillAt reports whether a cable's container has not begun to end meanwhile.
func (e *Engine) stillAt(c cable) bool {
	now, err := e.read(e.find(c.ID))
	return err == nil && now.Active() && now.Witness() == c.Process && !ending(c.Process)
}

// hold keeps other commands from connecting the containers of cables, and from taking them from networks, as far as none is at it, until it is let go. A
// cable that its container has no more is not held either.
func (e *Engine) hold(cables []cable) (release func()) {
	locks := map[string]*os.File{} // nil where another command has it
	var now []cable
	for _, c := range cables {
		if _, asked := locks[c.ID]; asked {
			continue
		}
		dir := e.find(c.ID)
		lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
		if dir == "" || err != nil {
			lock = nil
		}
		if locks[c.ID] = lock; lock != nil {
			now = append(now, e.cablesOf(c.ID)...)
		}
	}
	for i := range cables {
		c := &cables[i]
		c.Held = slices.ContainsFunc(now, func(o cable) bool {
			return o.ID == c.ID && o.Process == c.Process && o.Endpoint.Network == c.Endpoint.Network && o.Endpoint.HostDevice == c.Endpoint.HostDevice
		})
	}
	return func() {
		for _, f := range locks {
			if f != nil {
				f.Close()
			}
		}
	}
}

// plug has the cable be at its bridge, which is made where it is gone, and a new one in the place of a cable that is gone itself.
func (c cable) plug(ctx context.Context, d *network.Doer) error {
	err := d.Plug(c.Network, c.Endpoint)
	if !errors.Is(err, unix.ENODEV) {
		return err
	}
	if !c.Held {
		return fmt.Errorf("%w, and another command is at the container", err)
	}
	if err := enterOf(d, c.Process); err != nil {
		return err
	}
	n := c.Network
	n.Publish, n.Resolver = nil, nil // both are there
	n.Endpoints = []plan.Endpoint{c.Endpoint}
	return d.Reconnect(ctx, c.Process.PID, c.ID, n)
}

// layers finds what is left of layers in the storage room. What containers have written that went with --rm the next command takes away, and so does the repair, which alone finds
// where that cannot be done: a look does not try.
func (k *check) layers() error {
	if !exists(k.e.data + "/layers") {
		return nil
	}
	s, err := k.e.Storage()
	if err != nil {
		return err
	}
	if k.repair {
		if err := k.e.sweepStorage(); err != nil {
			k.find("containers", "what they wrote, or the mount of their image, is left of some that are no more", func() error { return err })
		}
	}
	list, err := s.Problems()
	for _, p := range list {
		k.find(p.Object, p.Text, p.Mend)
	}
	return err
}

func container(id string) string { return "container " + files.ShortID(id) }

// free reports whether nobody holds the lock of a directory.
func free(dir string) bool {
	f, err := lockDir(dir, unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		f.Close()
	}
	return !errors.Is(err, unix.EWOULDBLOCK)
}

// creating finds containers that nobody makes, or removes, any more.
func (k *check) creating() error {
	return k.e.eachHalf(func(id string, mend func() error) {
		k.find(container(id), "it is half made, or half removed, and nobody is at it any more", mend)
	})
}

// monitors finds containers that have lost their monitor.
func (k *check) monitors() error {
	placed, err := k.e.placed()
	if err != nil {
		return err
	}
	lost, err := k.e.displaced(placed)
	for _, id := range lost {
		if k.e.isDisplaced(id) {
			k.find(container(id), "it runs, and its monitor's directory is gone", func() error { return k.e.adopt(id) })
		}
	}
	if err != nil {
		return err
	}
	list, err := files.ListOwn(k.e.dir + "/monitor")
	for _, id := range list {
		id, half := strings.CutPrefix(id, ".")
		switch {
		case !files.IsID(id) || half && exists(k.e.creating()+"/"+id):
		case half:
			k.firstStep(id)
		case k.e.isOrphan(id):
			k.find(container(id), "its monitor was killed", func() error { return k.e.adopt(id) })
		case k.e.dirOf(id) == "" && !exists(k.e.creating()+"/"+id) && monitor.Attended(k.e.dir, id):
			k.homeless(id)
		}
	}
	return ignoreMissing(err)
}

// homeless finds a container whose directory is gone, and not by its monitor: that takes the state away before, and ends.
func (k *check) homeless(id string) {
	if exists(k.e.dir + "/runtime/" + id) {
		k.find(container(id), "it runs, and its directory is gone", func() error { return k.e.removeDamaged(context.Background(), id) })
		return
	}
	if soon(func() bool { return !monitor.Attended(k.e.dir, id) }) {
		return
	}
	k.find(container(id), "it is gone, and its monitor does not end", func() error {
		return fmt.Errorf("process %d: end it by kill -9", files.LockHolder(monitor.Place(k.e.dir, id)))
	})
}

// firstStep finds the place of a monitor that has not come to have it.
func (k *check) firstStep(id string) {
	if dir := k.e.find(id); dir != "" {
		lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			return // somebody starts it
		}
		defer lock.Close()
	}
	if place := monitor.Place(k.e.dir, "."+id); free(place) && exists(place) {
		k.find(container(id), "a monitor was killed at its first step", func() error { return os.RemoveAll(place) })
	}
}

// paused finds containers that stand still for a command that was killed.
func (k *check) paused() error {
	return k.e.eachPaused(func(id string, mend func() error) { k.find(container(id), "a killed command has paused it", mend) })
}

// intents finds containers that a killed command was changing.
func (k *check) intents() error {
	return k.e.eachIntent(func(id string, mend func() error) {
		note := k.e.intents() + "/" + id
		if k.e.find(id) == "" && soon(func() bool { return !exists(note) && !exists(note+".new") }) {
			return // it ended with --rm while a command was at it, which has come to its own end by now
		}
		k.find(container(id), "a killed command has changed it by half", mend)
	})
}

// removed finds containers that were to be removed at their end.
func (k *check) removed() error {
	return k.e.eachRemoved(func(id string, mend func() error) { k.find(container(id), "it was to be removed when it ended", mend) })
}

// containers finds directories whose record cannot be read or has no name, and files that were being written.
func (k *check) containers() error {
	for _, home := range k.e.homes() {
		list, err := files.List(home)
		if err := ignoreMissing(err); err != nil {
			return err
		}
		for _, id := range list {
			if files.IsID(id) && !exists(k.e.creating()+"/"+id) {
				k.directory(home+"/"+id, id)
			}
		}
	}
	return nil
}

// cause is why a record cannot be read, without what can be done.
func cause(err error) error {
	var damaged ErrDamaged
	if errors.As(err, &damaged) {
		return damaged.Err
	}
	return err
}

func (k *check) directory(dir, id string) {
	lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, os.ErrNotExist) {
		return // somebody is at it, or it is gone
	}
	if err == nil {
		defer lock.Close()
	}
	c, err := k.e.read(dir)
	var reserved reservation
	if err == nil {
		reserved = k.e.reservation(&c)
	}
	if k.e.leaving(dir) { // after what is found missing
		return
	}
	if err != nil {
		k.unreadable(lock, id, err)
		return
	}
	k.reserved(&c, reserved)
	left, _ := filepath.Glob(dir + "/*.new")
	for _, name := range left {
		if !monitor.Attended(k.e.dir, id) && exists(name) {
			k.find(container(id), "half of a file is left: "+filepath.Base(name), func() error { return removeIfThere(name) })
		}
	}
}

// unreadable finds a container whose record cannot be read, and whose lock this is. It is taken away as what a power failure has left, which is before anything was
// written in it: its record is on the disk by then. Else a disk or a person did that, or a later version wrote it, and what is in the container may be worth something.
func (k *check) unreadable(lock *os.File, id string, err error) {
	text := fmt.Sprintf("its record cannot be read: %v", cause(err))
	torn := errors.Is(err, os.ErrNotExist) || errors.As(err, new(*json.SyntaxError))
	switch dir := k.e.dirOf(id); {
	case torn && monitor.Attended(k.e.dir, id):
		k.find(container(id), text, func() error {
			return fmt.Errorf("it runs: kakuri rm -f %s ends and removes it, with what it has written", files.ShortID(id))
		})
	case torn && !exists(dir+"/upper"):
		k.find(container(id), text, func() error {
			lock.Close()
			return k.e.removeDamaged(context.Background(), id)
		})
	case torn || errors.As(err, new(ErrDamaged)):
		k.find(container(id), text, func() error {
			return fmt.Errorf("what it has written is in %s/upper: copy it away, and kakuri rm -f %s removes it", dir, files.ShortID(id))
		})
	}
}

// A reservation is what a container has reserved, as a look finds it.
type reservation struct {
	holder string // the id of the container that has its name
	name   error  // why there is none
	noIDs  bool   // its range of ids is nobody's
}

func (e *Engine) reservation(c *Container) (r reservation) {
	r.holder, r.name = files.ReservedFor(e.names() + "/" + c.Name)
	r.noIDs = c.Slot >= 0 && !exists(e.ids()+"/"+strconv.Itoa(c.Slot))
	return r
}

// reserved finds what a container should have reserved, and has not.
func (k *check) reserved(c *Container, r reservation) {
	place := k.e.names() + "/" + c.Name
	switch {
	case errors.Is(r.name, os.ErrNotExist):
		k.find(container(c.ID), "its name "+c.Name+" is not reserved", func() error { return files.Reserve(c.ID, place) })
	case r.name == nil && r.holder != c.ID:
		k.find(container(c.ID), fmt.Sprintf("its name %s is that of container %s", c.Name, files.ShortID(r.holder)), func() error {
			return errors.New("rename one of them")
		})
	case r.name != nil && !files.Scarce(r.name): // it is no link: nobody's, and in the way
		k.find(container(c.ID), "its name "+c.Name+" is not reserved: something else is in the place", func() error {
			return errors.Join(files.RemoveAll(place), files.Reserve(c.ID, place))
		})
	}
	if r.noIDs {
		k.find(container(c.ID), "its range of ids is not reserved", func() error { return files.Reserve(c.ID, k.e.ids()+"/"+strconv.Itoa(c.Slot)) })
	}
}

// reservations finds names and ranges of ids of containers that there are not.
func (k *check) reservations() error { return k.e.stale(k.find) }

// stale calls found for each name and range of ids that is reserved for a container that there is not, and has it given back by mend.
func (e *Engine) stale(found func(object, text string, mend func() error)) error {
	making, err := e.lockMaking(unix.LOCK_EX | unix.LOCK_NB)
	if err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil // somebody makes a container
		}
		return ignoreMissing(err)
	}
	defer making.Close()
	for what, dir := range map[string]string{"name ": e.names(), "range of ids ": e.ids()} {
		list, err := files.ListOwn(dir)
		if err := ignoreMissing(err); err != nil {
			return err
		}
		for _, name := range list {
			id, err := files.ReservedFor(dir + "/" + name)
			if err != nil {
				continue
			}
			if !exists(e.homes()[0]+"/"+id) && !exists(e.homes()[1]+"/"+id) && !exists(e.creating()+"/"+id) {
				if isReserved(dir+"/"+name, id) { // a monitor that removes its container gives back first
					found(what+name, "it is reserved for a container that there is not", func() error { return e.giveBack(dir, name, id) })
				}
			} else if dir == e.names() {
				e.staleName(name, id, found)
			}
		}
	}
	return nil
}

// sweepNames gives back names and ranges of ids that are nobody's.
func (e *Engine) sweepNames() error {
	var errs []error
	err := e.stale(func(object, _ string, mend func() error) {
		if err := mend(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", object, err))
		}
	})
	return errors.Join(append(errs, err)...)
}

// staleName calls found for a name that a container has reserved and not got, unless somebody is changing it.
func (e *Engine) staleName(name, id string, found func(object, text string, mend func() error)) {
	dir := e.find(id)
	if dir == "" {
		return
	}
	lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return
	}
	defer lock.Close()
	if c, err := e.read(dir); err == nil && c.Name != name && isReserved(e.names()+"/"+name, id) {
		found("name "+name, "a rename that did not come to its end reserved it for container "+c.Name, func() error { return e.giveBack(e.names(), name, id) })
	}
}

// isReserved reports whether a link is one by which an id has reserved something.
func isReserved(link, id string) bool {
	to, err := files.ReservedFor(link)
	return err == nil && to == id
}

// states finds what the room below keeps of containers that there are not.
func (k *check) states() error {
	list, err := files.ListOwn(k.e.dir + "/runtime")
	for _, id := range list {
		if files.IsID(id) {
			k.state(id)
		}
		if id, is := strings.CutSuffix(id, monitor.StandIn("")); is && files.IsID(id) {
			k.standIn(id)
		}
	}
	return ignoreMissing(err)
}

// state finds what is left of one that nobody makes or attends to, and whose container there is not. In this order: a monitor takes the state away before it lets go.
func (k *check) state(id string) {
	state := k.e.dir + "/runtime/" + id
	if k.e.find(id) == "" && !exists(k.e.creating()+"/"+id) && free(state) && !monitor.Attended(k.e.dir, id) && exists(state) { // else it has gone meanwhile
		k.find(container(id), "its processes and its control group are left of it", func() error { return k.e.forget(id) })
	}
}

// standIn finds what a killed cp, or the like, has left of the process that it had for a container that did not run.
func (k *check) standIn(id string) {
	dir := k.e.find(id)
	if dir == "" {
		return // it goes with what is left of the container
	}
	lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return // somebody is at it
	}
	defer lock.Close()
	if c, err := k.e.read(dir); err == nil && !c.Active() && exists(k.e.dir+"/runtime/"+monitor.StandIn(id)) {
		k.find(container(id), "a process that a killed command had for its files is left", func() error { return k.e.deleteState(context.Background(), monitor.StandIn(id)) })
	}
}

// cgroups finds control groups of containers that there are not.
func (k *check) cgroups() error {
	for _, pattern := range []string{"/sys/fs/cgroup/kakuri/*", "/sys/fs/cgroup/*/kakuri/*"} {
		list, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, dir := range list {
			if id := filepath.Base(dir); files.IsID(id) && k.e.owns(id) {
				k.cgroup(dir, id)
			}
		}
	}
	return nil
}

// cgroup finds a control group that no process of its container needs. Between two runs a monitor takes it away and makes it again at any moment.
func (k *check) cgroup(dir, id string) {
	lock, err := lockDir(k.e.find(id), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return // somebody is at it
	}
	defer lock.Close()
	if monitor.Attended(k.e.dir, id) || exists(k.e.dir+"/runtime/"+id) || exists(k.e.dir+"/runtime/"+monitor.StandIn(id)) || !exists(dir) {
		return
	}
	k.find("control group "+dir, "it is left of a container", func() error { return os.Remove(dir) })
}

// owns reports whether a control group can be said to be of this engine: its container is known here. Other engines' are below the same one.
func (e *Engine) owns(id string) bool { return e.find(id) != "" }

// Boot starts the containers that ran when the machine went down and whose policy says so, and those with always in any case. It is for the service manager,
// once a boot; the containers' names are returned. What is left of others is taken away: those with --rm went with the boot, but for the names and ranges of ids
// that are reserved for them.
func (e *Engine) Boot(ctx context.Context) (started []string, err error) {
	left := []error{e.sweep()}
	err = e.stale(func(_, _ string, mend func() error) { left = append(left, mend()) })
	e.complain(errors.Join(append(left, err)...))
	list, err := e.listed(ListOptions{All: true})
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, c := range list {
		if c.Active() || !bootStarts(c) {
			continue
		}
		if err := e.Start(ctx, c.ID, StartOptions{}); err != nil && !errors.Is(err, errActive) {
			errs = append(errs, fmt.Errorf("container %s: %w", c.Name, err))
			continue
		}
		started = append(started, c.Name)
	}
	return started, errors.Join(errs...)
}

// bootStarts reports whether a container comes back with the machine.
func bootStarts(c Container) bool {
	switch c.Config.Restart.Policy {
	case "always":
		return c.Status != monitor.Created
	case "unless-stopped":
		return c.Status != monitor.Created && !c.Stopped
	case "on-failure":
		return c.Error == wentDown && !c.Stopped
	}
	return false
}
