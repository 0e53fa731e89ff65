package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// RemoveOptions are those of [Engine.Remove].
type RemoveOptions struct {
	Force   bool // end it first, where it runs
	Volumes bool // with the volumes that nobody gave a name
	Link    bool // the link that is named OTHER/ALIAS, and no container
}

// Remove removes a container that does not run.
func (e *Engine) Remove(ctx context.Context, ref string, o RemoveOptions) error {
	if o.Link {
		return e.RemoveLink(ref)
	}
	left := e.sweep()
	c, err := e.Find(ref)
	var damaged ErrDamaged
	if o.Force && errors.As(err, &damaged) {
		e.complain(left)
		return e.removeDamaged(ctx, damaged.ID)
	}
	if err != nil && left != nil {
		return fmt.Errorf("%v: %w", err, left) // which may be of this one
	}
	if err != nil {
		return err
	}
	e.complain(left)
	if c.Active() && !o.Force {
		return ErrConflict{fmt.Sprintf("cannot remove container %q: container is %s", c.Name, e.whyKept(&c))}
	}
	c, lock, err := e.ended(ctx, c, o.Force)
	if errors.As(err, new(ErrNoSuchContainer)) {
		e.sweepRemains()
		return nil // it was to be removed at its end
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := e.remove(&c); err != nil || !o.Volumes {
		return err
	}
	return e.removeAnonymous(c.Record, true)
}

// ended locks a container that does not run. With force it is ended before, and once more where somebody else started it until the lock was ours.
func (e *Engine) ended(ctx context.Context, c Container, force bool) (_ Container, lock *os.File, err error) {
	for range 100 {
		if c.Active() {
			if err := e.withMonitor(ctx, c, func(m *monitor.Client) error { return m.Stop(unix.SIGKILL, 0) }); err != nil {
				return c, nil, err
			}
		}
		if c, lock, err = e.lock(c.ID); err != nil || !c.Active() {
			return c, lock, err
		}
		lock.Close()
		if !force {
			break
		}
	}
	return c, nil, ErrConflict{fmt.Sprintf("cannot remove container %q: it was started again meanwhile", c.Name)}
}

// whyKept says of an active container what it is, and what has to be done before it can be removed.
func (e *Engine) whyKept(c *Container) string {
	switch {
	case c.Status == monitor.Restarting:
		return "restarting: stop the container before removing or force remove"
	case e.paused(c.ID):
		return "paused and must be unpaused first"
	}
	return "running: stop the container before removing or force remove"
}

// remove takes a container away whose lock is held, and that does not run.
func (e *Engine) remove(c *Container) error {
	if err := os.MkdirAll(e.creating(), 0o700); err != nil {
		return err
	}
	// From here on who finds it half there goes on.
	if err := os.Symlink(c.dir, e.creating()+"/"+c.ID); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := errors.Join(e.deleteState(context.Background(), c.ID), e.deleteState(context.Background(), monitor.StandIn(c.ID))); err != nil {
		return err
	}
	if err := e.discard(c); err != nil {
		return err
	}
	e.event(c, "destroy", nil)
	return e.sweepAttached()
}

// removeDamaged ends and removes a container of which nobody can say more than its id.
func (e *Engine) removeDamaged(ctx context.Context, id string) error {
	c := Container{dir: e.dirOf(id)}
	c.ID, c.Slot, c.Status = id, -1, monitor.Running
	if err := e.askMonitor(ctx, c, func(m *monitor.Client) error { return m.Stop(unix.SIGKILL, 0) }); err != nil {
		return err
	}
	if c.dir = e.dirOf(id); c.dir != "" {
		lock, err := lockDir(c.dir, unix.LOCK_EX)
		if err != nil {
			return ignoreMissing(err) // it was to be removed at its end
		}
		defer lock.Close()
	}
	c.Status = ""
	if err := errors.Join(e.forget(id), e.reservations(&c)); err != nil {
		return err
	}
	if c.dir == "" {
		return e.leaveNetworks(id)
	}
	return e.discard(&c)
}

// PruneContainers removes the containers that do not run, but for those that are being restarted or that keep says yes to, and returns their ids. A nil keep keeps none.
func (e *Engine) PruneContainers(ctx context.Context, keep func(Container) bool) (removed []string, bytes int64, err error) {
	list, err := e.List(ListOptions{All: true})
	if err != nil {
		return nil, 0, err
	}
	var errs []error
	for i := range list {
		c := &list[i]
		if c.Active() || monitor.Marked(c.dir) || keep != nil && keep(*c) {
			continue
		}
		written, _, err := e.size(c)
		if err != nil {
			written = 0 // it is removed all the same
		}
		err = e.Remove(ctx, c.ID, RemoveOptions{})
		if err == nil {
			removed = append(removed, c.ID)
			bytes += written
		} else if !errors.As(err, new(ErrNoSuchContainer)) && !errors.As(err, new(ErrConflict)) {
			errs = append(errs, err)
		}
	}
	return removed, bytes, e.pruned("container", bytes, errors.Join(errs...))
}

// pruned tells of a prune that came to its end, whether there was something to remove or not.
func (e *Engine) pruned(kind string, bytes int64, err error) error {
	if err == nil {
		e.tell(kind, "prune", "", map[string]string{"reclaimed": strconv.FormatInt(bytes, 10)})
	}
	return err
}

// sweep takes away what processes that were killed left, and has containers taken over that have lost their monitors.
func (e *Engine) sweep() error {
	if e.host.Privileged() && exists(e.dir+"/rules") {
		// What cannot be mended "system check" tells.
		monitor.Rules(e.dir).Heal()
		e.healBridges()
	}
	return errors.Join(e.sweepBeforeStart(), e.sweepStorage())
}

// sweepRemains takes away what a monitor leaves that has removed its container: what that has written, and its volumes without a name. Where a command has waited for
// that end, it sees that they go; else the next one does.
func (e *Engine) sweepRemains() { e.complain(errors.Join(e.sweepStorage(), e.sweepVolumes())) }

// tidy sweeps for a command that is about something else, which does not fail for what cannot be taken away.
func (e *Engine) tidy() { e.complain(e.sweep()) }

// complain warns of what was left and cannot be taken away.
func (e *Engine) complain(left error) {
	if left != nil && e.warn != nil {
		e.warn(fmt.Sprintf("what is left of others cannot be taken away, kakuri system check --repair tells more: %v", left))
	}
}

// caution tells of something that goes on all the same, as a list that leaves something out.
func (e *Engine) caution(err error) {
	if e.warn != nil {
		e.warn(err.Error())
	}
}

// sweepBeforeStart is sweep but for what a container that is about to start takes again, such as its image's mount.
func (e *Engine) sweepBeforeStart() error {
	return errors.Join(e.sweepCreating(), e.sweepMonitors(), e.sweepPaused(), e.sweepIntents(), e.sweepRemoved(), e.sweepVolumes(), e.sweepAttached(), e.sweepNetworks())
}

// sweepCreating takes away containers that nobody makes, or removes, any more.
func (e *Engine) sweepCreating() error { return mendEach(e.eachHalf, "half made") }

// eachHalf calls found for each container that nobody makes, or removes, any more, and has it taken away, or be there as a whole, by mend.
func (e *Engine) eachHalf(found func(id string, mend func() error)) error {
	list, err := files.ListOwn(e.creating())
	if err != nil || len(list) == 0 {
		return ignoreMissing(err)
	}
	var errs []error
	for _, id := range list {
		if files.IsID(id) {
			errs = append(errs, e.oneHalf(id, found))
		}
	}
	return errors.Join(errs...)
}

func (e *Engine) oneHalf(id string, found func(id string, mend func() error)) error {
	// Who is just beginning has not locked its directory yet, and who discards has none any more.
	making, err := e.lockMaking(unix.LOCK_EX | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil // the next command looks again
	}
	if err != nil {
		return ignoreMissing(err)
	}
	defer making.Close()
	dir, err := os.Readlink(e.creating() + "/" + id)
	if err != nil {
		return ignoreMissing(err)
	}
	lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil // it is being made
	case err == nil:
		defer lock.Close()
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if !exists(e.creating() + "/" + id) {
		return nil // until the lock was ours its maker came to the end: it is there as a whole
	}
	c := Container{dir: dir}
	c.ID, c.Slot = id, -1
	if now, err := e.read(dir); err == nil {
		if now.Status != monitor.Creating && now.Status != monitor.Removing && exists(monitor.Place(e.dir, id)) {
			found(id, func() error { return e.finished(&now) }) // its maker was killed when all was done
			return nil
		}
		c = now
	}
	if !monitor.Attended(e.dir, id) { // else that takes it away itself
		found(id, func() error { return e.drop(&c) })
	}
	return nil
}

// drop takes away a container with all that is known of it. The caller has its lock, and keeps away who looks for what is left.
func (e *Engine) drop(c *Container) error {
	if err := e.forget(c.ID); err != nil {
		return err
	}
	if err := e.reservations(c); err != nil {
		return err
	}
	return e.discardAlone(c)
}

// forget takes away what the rooms below keep of a container.
func (e *Engine) forget(id string) error {
	if err := errors.Join(e.deleteState(context.Background(), id), e.deleteState(context.Background(), monitor.StandIn(id))); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(monitor.Place(e.dir, id)), os.RemoveAll(monitor.Place(e.dir, "."+id)))
}

// reservations gives back what a container has reserved whose record is not there to tell.
func (e *Engine) reservations(c *Container) error {
	if c.Name != "" {
		return nil
	}
	for _, dir := range []string{e.names(), e.ids()} {
		list, err := files.ListOwn(dir)
		if err != nil {
			return ignoreMissing(err)
		}
		for _, name := range list {
			if err := e.giveBack(dir, name, c.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepMonitors has new monitors take over from those that were killed.
func (e *Engine) sweepMonitors() error {
	list, err := e.placed()
	lost, err2 := e.displaced(list)
	errs := []error{err, err2}
	for _, id := range append(list, lost...) {
		if monitor.Attended(e.dir, id) {
			continue
		}
		if err := e.adopt(id); err != nil {
			errs = append(errs, fmt.Errorf("container %s, whose monitor was killed: %w", files.ShortID(id), err))
		}
	}
	return errors.Join(errs...)
}

// isOrphan reports whether a container whose monitor has a place has lost that monitor, and nobody is at it.
func (e *Engine) isOrphan(id string) bool {
	if dir := e.find(id); dir != "" {
		lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			return false
		}
		defer lock.Close()
	}
	return !monitor.Attended(e.dir, id) && exists(monitor.Place(e.dir, id)) // in this order: a monitor that ends takes its place away before it lets go
}

// isDisplaced reports whether a container runs whose monitor's place somebody has removed, and nobody is at it.
func (e *Engine) isDisplaced(id string) bool {
	dir := e.find(id)
	lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return false
	}
	defer lock.Close()
	if exists(monitor.Place(e.dir, id)) {
		return false
	}
	c, err := e.read(dir) // a monitor that ends writes that down before its place goes
	return err == nil && c.Active()
}

// adopt starts a new monitor for a container that has lost its own.
func (e *Engine) adopt(id string) error {
	dir := e.find(id)
	if dir == "" {
		return e.forget(id)
	}
	lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, os.ErrNotExist) {
		return nil // somebody works on it
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if monitor.Attended(e.dir, id) {
		return nil
	}
	c, err := e.read(dir)
	if err != nil {
		return err
	}
	if !exists(monitor.Place(e.dir, id)) {
		if !c.Active() {
			return nil
		}
		if ended, err := e.newPlace(&c); ended || err != nil {
			return err
		}
	}
	if !c.Active() {
		// It was killed at the last moment, or at the first.
		if err := e.forget(id); err != nil {
			return err
		}
		if c.Config.AutoRemove && !c.between() {
			return e.discard(&c)
		}
		return nil
	}
	world := e.rootless() && e.inWorld(&c)
	m, err := e.spawnIn(context.Background(), world, monitor.SpawnSuccessor, &c.Config)
	if err != nil {
		return err
	}
	defer m.Close()
	if _, err = m.Launch(monitor.Order{Dir: dir, Run: e.dir, Adopt: true}, lock); err != nil || !world {
		return err
	}
	return e.reconnect(&c)
}

// displaced are the containers that run, and whose monitor's place somebody has removed, of those that are not in a list of places.
func (e *Engine) displaced(placed containerIDs) (list []string, err error) {
	all, err := files.ListOwn(e.dir + "/runtime")
	for _, id := range all {
		if !files.IsID(id) || placed.has(id) || exists(monitor.Place(e.dir, id)) {
			continue
		}
		// Where an older version has not said which process the monitor is, there might be two.
		if s, err := monitor.ReadState(e.find(id)); err == nil && s.Monitor.PID != 0 {
			list = append(list, id)
		}
	}
	return list, ignoreMissing(err)
}

// newPlace makes a place for the successor of a monitor whose own place was removed: nobody can speak to that any more, so it is ended, unless its container has, of which it is
// about to tell.
func (e *Engine) newPlace(c *Container) (ended bool, err error) {
	if !exists(e.dir + "/runtime/" + c.ID) {
		return false, fmt.Errorf("container %s runs, process %d, and of that nothing is in %s any more, unless it was started with another XDG_RUNTIME_DIR: end it by kill -9", c.Name, c.PID, e.dir)
	}
	if p := c.Monitor.Open(); p != nil {
		defer p.Close()
		if ending(c.Witness()) && p.Wait(4*killPatience) {
			return true, nil
		}
		if err := p.Signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return false, err
		}
		if !p.Wait(killPatience) {
			return false, fmt.Errorf("process %d, which is its monitor, does not end", c.Monitor.PID)
		}
	}
	return false, os.MkdirAll(monitor.Place(e.dir, c.ID), 0o700)
}

// between reports whether a container with --rm is there still since a command is about to start it again.
func (c *Container) between() bool { return c.Status == monitor.Exited && monitor.Marked(c.dir) }

// stays reports whether a container with --rm is to be there though it does not run.
func (c *Container) stays() bool { return c.Status == monitor.Created || c.between() }

// sweepRemoved takes away containers that were to be removed at their end, and whose monitor, or the command that was to restart them, was killed over that.
func (e *Engine) sweepRemoved() error {
	return mendEach(e.eachRemoved, "which was to be removed when it ended")
}

// eachRemoved calls found for each of these, and has it taken away by mend.
func (e *Engine) eachRemoved(found func(id string, mend func() error)) error {
	home := e.homes()[0]
	list, err := files.List(home)
	for _, id := range list {
		if files.IsID(id) && !exists(monitor.Place(e.dir, id)) && !exists(e.creating()+"/"+id) {
			e.oneRemoved(home+"/"+id, id, found)
		}
	}
	return ignoreMissing(err)
}

func (e *Engine) oneRemoved(dir, id string, found func(id string, mend func() error)) {
	lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return // it is gone, or somebody works on it
	}
	defer lock.Close()
	e.removedAlone(dir, id, found)
}

// removedAlone is oneRemoved by who has the container locked.
func (e *Engine) removedAlone(dir, id string, found func(id string, mend func() error)) {
	c, err := e.read(dir)
	if err == nil && (c.stays() || c.Active()) || exists(monitor.Place(e.dir, id)) || !exists(dir) { // a monitor's place goes after all else
		return
	}
	c.dir = dir
	if c.ID == "" {
		c.ID, c.Slot = id, -1
	}
	found(id, func() error {
		defer e.amongMakers()()
		return e.drop(&c)
	})
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
