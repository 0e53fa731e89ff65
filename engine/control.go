package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/wait"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
	"golang.org/x/sys/unix"
)

// defaultStop is how many seconds a container has to end.
const defaultStop = 10

// StopOptions are those of [Engine.Stop] and [Engine.Restart].
type StopOptions struct {
	Signal  string // empty is the container's own
	Timeout *int   // seconds until SIGKILL; nil is the container's own, negative waits for ever
}

// Stop ends a running container, by its signal and after a while by SIGKILL, and returns when it has ended. One that does not run is
// left as it is.
func (e *Engine) Stop(ctx context.Context, ref string, o StopOptions) error {
	c, err := e.stop(ctx, ref, o)
	if err != nil || !c.Active() {
		return err
	}
	if c.Config.AutoRemove {
		e.sweepRemains()
	}
	return e.sweepAttached()
}

// stop is Stop without what may go with the container. It gives the container as it was before.
func (e *Engine) stop(ctx context.Context, ref string, o StopOptions) (c Container, err error) {
	sig, err := parseSignal(o.Signal)
	if err != nil {
		return c, err
	}
	e.tidy()
	if c, err = e.Find(ref); err != nil {
		return c, err
	}
	seconds := defaultStop
	if t := c.Config.StopTimeout; t != nil {
		seconds = *t
	}
	if o.Timeout != nil {
		seconds = *o.Timeout
	}
	if !c.Active() {
		return c, nil
	}
	if err := e.withMonitor(ctx, c, func(m *monitor.Client) error { return m.Stop(sig, seconds) }); err != nil {
		return c, err
	}
	e.event(&c, "stop", nil)
	return c, nil
}

// withMonitor asks a container's monitor for something that ends the container, and waits for that: until the monitor is gone. A
// container without a monitor has ended already.
func (e *Engine) withMonitor(ctx context.Context, c Container, ask func(*monitor.Client) error) error {
	err := e.pastKills(c, func(c Container) error { return e.askMonitor(ctx, c, ask) })
	if errors.As(err, new(ErrNoSuchContainer)) {
		return nil // it was to be removed at its end
	}
	return err
}

// pastKills does what takes a monitor. One that is killed meanwhile has a successor, which takes part in its place.
func (e *Engine) pastKills(c Container, do func(Container) error) error {
	const tries, pause = 500, 10 * time.Millisecond // ten seconds, with those of untilGone, until who else looks for a successor has found it
	for try := 1; ; try++ {
		err := do(c)
		if !errors.As(err, new(killedMonitorError)) || try == tries {
			return err
		}
		if err := e.adopt(c.ID); err != nil {
			return err
		}
		if c, err = e.Find(c.ID); err != nil {
			return err
		}
		time.Sleep(pause)
	}
}

// A killedMonitorError names a container that goes on without its monitor.
type killedMonitorError struct{ name string }

// Error implements error.
func (e killedMonitorError) Error() string {
	return "container " + e.name + ": its monitor was killed: try again"
}

// lostMonitor is the error for a container whose monitor has gone, or its place, and that goes on; nil where it has ended.
func (e *Engine) lostMonitor(c *Container) error {
	if now, err := e.Find(c.ID); err == nil && now.Active() {
		return killedMonitorError{c.Name}
	}
	return nil
}

func (e *Engine) askMonitor(ctx context.Context, c Container, ask func(*monitor.Client) error) error {
	if !c.Active() {
		return nil
	}
	m, err := e.dial(c)
	if errors.As(err, new(ErrNotRunning)) {
		return e.untilGone(c)
	}
	if err != nil {
		return err // its end would be waited for in vain
	}
	defer m.Close()
	defer e.mind(c, m)()
	defer context.AfterFunc(ctx, func() { m.Close() })()
	if err := ask(m); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	for {
		if _, err := m.Next(); err != nil {
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.untilGone(c)
}

// dial connects to a container's monitor. The error is an [ErrNotRunning] where there is none, and another one where it cannot be asked, which no caller
// takes for the end of a container.
func (e *Engine) dial(c Container) (*monitor.Client, error) {
	m, err := monitor.Dial(e.dir, c.ID)
	if errors.Is(err, monitor.ErrGone) {
		return nil, ErrNotRunning{ID: c.ID}
	}
	if err != nil {
		return nil, fmt.Errorf("container %s: its monitor cannot be asked: %w", c.Name, err)
	}
	return m, nil
}

// untilGone waits until a container has no monitor any more, which is about to end, and then lets go of the lock at once. Who has it for longer may be another
// command's new monitor, which has it for as long as the container lives: [Engine.pastKills] looks again.
func (e *Engine) untilGone(c Container) error {
	const patience = 10 * time.Millisecond
	for begin, pause := time.Now(), 50*time.Microsecond; ; pause *= 2 {
		f, err := lockDir(monitor.Place(e.dir, c.ID), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return e.lostMonitor(&c)
		case errors.Is(err, unix.EWOULDBLOCK) && time.Since(begin) < patience:
			time.Sleep(pause)
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return killedMonitorError{c.Name}
		case err != nil:
			return err
		}
		defer f.Close()
		if now, err := e.Find(c.ID); err == nil && now.Active() {
			return killedMonitorError{c.Name}
		}
		return nil
	}
}

func parseSignal(s string) (syscall.Signal, error) {
	if s == "" {
		return 0, nil
	}
	sig, ok := abi.ParseSignal(s)
	if !ok {
		return 0, fmt.Errorf("invalid signal: %s", s)
	}
	return syscall.Signal(sig), nil
}

// Restart stops a container, where it runs, and starts it. One with --rm is kept in between, and goes where it cannot be started.
func (e *Engine) Restart(ctx context.Context, ref string, o StopOptions) error {
	c, err := e.Find(ref)
	if err != nil {
		return err
	}
	done, err := monitor.MarkRestart(c.dir)
	if errors.Is(err, os.ErrNotExist) {
		return ErrNoSuchContainer{ref} // it went just now
	}
	if err != nil {
		return err
	}
	if _, err = e.stop(ctx, ref, o); err == nil {
		err = e.Start(ctx, ref, StartOptions{})
	}
	done()
	if err != nil {
		e.notRestarted(&c)
		return err
	}
	e.event(&c, "restart", nil)
	return nil
}

// notRestarted takes a container with --rm away that was kept for a restart which came to nothing. Whoever is just looking at it, as a sweep does, is waited for.
// All others stay, as they ended.
func (e *Engine) notRestarted(c *Container) {
	if !c.Config.AutoRemove {
		return
	}
	lock, err := lockSoon(func() (*os.File, error) { return lockDir(c.dir, unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil {
		return // it is gone, or the next command takes it
	}
	defer lock.Close()
	e.removedAlone(c.dir, c.ID, func(_ string, mend func() error) { e.complain(mend()) })
}

// killPatience is how long a process has to end by the monitor's SIGKILL.
const killPatience = 500 * time.Millisecond

// Kill sends a signal to a running container's first process; empty is SIGKILL. By SIGKILL, or the signal that stops it, it is not
// started again by its policy.
func (e *Engine) Kill(ctx context.Context, ref, signal string) error {
	sig, err := parseSignal(signal)
	if err != nil {
		return err
	}
	if sig == 0 {
		sig = unix.SIGKILL
	}
	e.tidy()
	c, err := e.Find(ref)
	if err != nil {
		return err
	}
	if !c.Active() {
		return ErrConflict{fmt.Sprintf("cannot kill container: %s: container %s is not running", ref, c.ID)}
	}
	own, _ := parseSignal(c.Config.StopSignal)
	if own == 0 {
		own = unix.SIGTERM
	}
	switch sig {
	case unix.SIGKILL:
		if err := e.endBy(&c, sig); err != nil {
			return err
		}
		// It is the monitor's signal, so that the monitor knows who sent it. One that stands still needs more than a signal.
		p := c.Witness().Open()
		if p == nil {
			return nil
		}
		ended := p.Wait(killPatience)
		if p.Close(); ended {
			return nil
		}
		err := e.signalPast(ctx, &c, sig)
		if hasEnded(err) {
			return nil
		}
		return err
	case own:
		return e.endBy(&c, sig)
	}
	m, err := e.dial(c)
	switch {
	case err == nil:
		e.wake(c, m)
		m.Note(sig) // for the certificate
		m.Close()
	case !errors.As(err, new(ErrNotRunning)):
		e.caution(err) // the signal is sent without
	}
	err = e.signalPast(ctx, &c, sig)
	if hasEnded(err) {
		return ErrConflict{fmt.Sprintf("cannot kill container: %s: container %s is not running", ref, c.ID)}
	}
	if err == nil {
		e.event(&c, "kill", map[string]string{"signal": strconv.Itoa(int(sig))})
	}
	return err
}

// endBy has the monitor send a signal that is to end the container for good, whatever its restart policy.
func (e *Engine) endBy(c *Container, sig syscall.Signal) error {
	m, err := e.dial(*c)
	if err != nil {
		return err
	}
	defer m.Close()
	e.wake(*c, m)
	if err = m.Stay(); errors.Is(err, syscall.EPIPE) {
		return ErrNotRunning{ID: c.ID} // it ends just now
	}
	if err == nil {
		err = m.Signal(sig)
	}
	if !errors.Is(err, syscall.EPIPE) {
		return err
	}
	return e.lostMonitor(c) // else it was between two runs, and there is no other one
}

// signalPast sends a signal to the container without its monitor.
func (e *Engine) signalPast(ctx context.Context, c *Container, sig syscall.Signal) error {
	x, err := e.runtime().Open(c.ID)
	if err != nil {
		return err
	}
	return x.Kill(ctx, sig, false)
}

// paused reports whether a running container stands still.
func (e *Engine) paused(id string) bool { return isPaused(e.runtime(), id) }

// isPaused is for many containers: a Runtime looks once where this machine has its control groups, which takes longer the more mounts there are.
func isPaused(r *oci.Runtime, id string) bool {
	x, err := r.Open(id)
	return err == nil && x.Paused()
}

// Pause stops all processes of a running container.
func (e *Engine) Pause(ctx context.Context, ref string) error {
	e.complain(e.sweepPaused()) // or the next sweep would have it go on
	c, x, err := e.running(ref)
	if err != nil {
		return err
	}
	if x.Status() == oci.StatusPaused {
		return ErrConflict{fmt.Sprintf("Container %s is already paused", c.ID)}
	}
	if err := x.Pause(ctx); err != nil {
		if hasEnded(err) {
			return ErrNotRunning{ID: c.ID} // it ends just now
		}
		return e.withoutCgroup(&c, err)
	}
	e.event(&c, "pause", nil)
	return nil
}

// withoutCgroup tells of what a container without a control group cannot do by the name that the caller knows, and how it comes to one.
func (e *Engine) withoutCgroup(c *Container, err error) error {
	without := new(oci.NoCgroupError)
	if !errors.As(err, &without) {
		return err
	}
	err = &oci.NoCgroupError{ID: c.Name, What: without.What}
	if e.host.Privileged() {
		return err
	}
	return fmt.Errorf("%w: an ordinary user's has one when it was started with a limit, such as --pids-limit, with version 2 of cgroups", err)
}

// Unpause lets the processes of a paused container go on.
func (e *Engine) Unpause(ctx context.Context, ref string) error {
	c, x, err := e.running(ref)
	if errors.As(err, new(ErrNotRunning)) {
		return notPaused(c)
	}
	if err != nil {
		return err
	}
	return e.unpause(c, x)
}

// unpause lets the processes of a container go on that ran a moment ago.
func (e *Engine) unpause(c Container, x *oci.Container) error {
	err := x.Resume()
	if errors.Is(err, oci.ErrNotPaused) || hasEnded(err) {
		return notPaused(c)
	}
	if err == nil {
		e.event(&c, "unpause", nil)
	}
	return err
}

func notPaused(c Container) error {
	return ErrConflict{fmt.Sprintf("Container %s is not paused", c.ID)}
}

// running finds a container that runs, for the room below.
func (e *Engine) running(ref string) (Container, *oci.Container, error) {
	c, err := e.Find(ref)
	if err != nil {
		return c, nil, err
	}
	if c.Status != monitor.Running {
		return c, nil, ErrNotRunning{ID: c.ID, Restarting: c.Status == monitor.Restarting}
	}
	x, err := e.runtime().Open(c.ID)
	if errors.Is(err, oci.ErrNotExist) {
		return c, nil, ErrNotRunning{ID: c.ID}
	}
	return c, x, err
}

// The conditions of [Engine.Wait].
const (
	NotRunning = "not-running" // the default
	NextExit   = "next-exit"
	Removed    = "removed"
)

// Wait waits until a container does not run, has ended once more, or is removed, and returns its last exit.
func (e *Engine) Wait(ctx context.Context, ref, condition string) (Exit, error) {
	switch condition {
	case "", NotRunning, NextExit, Removed:
	default:
		return Exit{}, fmt.Errorf("invalid condition: %q: it is %s, %s or %s", condition, NotRunning, NextExit, Removed)
	}
	e.tidy()
	c, err := e.Find(ref)
	if err != nil {
		return Exit{}, err
	}
	for {
		x := c.exit()
		if !c.Active() && condition != Removed && condition != NextExit {
			return x, nil
		}
		if c.Active() {
			err := e.pastKills(c, func(c Container) (err error) {
				x, err = e.nextExit(ctx, c)
				return err
			})
			if err != nil {
				return x, err
			}
			if condition != Removed {
				return x, nil
			}
		}
		if err := untilChange(ctx, filepath.Dir(c.dir), c.dir, condition == NextExit); err != nil {
			return x, err
		}
		now, err := e.Find(c.ID)
		if err != nil {
			if condition == Removed && errors.As(err, new(ErrNoSuchContainer)) {
				return x, nil
			}
			return x, err
		}
		c = now
	}
}

// nextExit waits for the end of a container that runs.
func (e *Engine) nextExit(ctx context.Context, c Container) (Exit, error) {
	m, err := e.dial(c)
	if err != nil && !errors.As(err, new(ErrNotRunning)) {
		return Exit{}, err
	}
	if err == nil {
		defer m.Close()
		defer e.mind(c, m)()
		defer context.AfterFunc(ctx, func() { m.Close() })()
		if err = m.Attach(0); err == nil {
			for {
				msg, err := m.Next()
				if msg.Exit != nil {
					return *msg.Exit, nil
				}
				if err != nil {
					break
				}
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return Exit{}, err
	}
	if err := e.untilGone(c); err != nil {
		return Exit{}, err
	}
	now, err := e.Find(c.ID)
	if err != nil {
		return Exit{}, err
	}
	return now.exit(), nil
}

// untilChange waits until a container's directory goes from its home, or with its state, until something in it is replaced, and perhaps less long.
func untilChange(ctx context.Context, home, dir string, state bool) error {
	f, err := wait.Changes(func(inotify int) error {
		_, err := unix.InotifyAddWatch(inotify, home, unix.IN_DELETE|unix.IN_MOVED_FROM)
		if err == nil && state {
			if _, err = unix.InotifyAddWatch(inotify, dir, unix.IN_MOVED_TO); err == unix.ENOENT {
				err = nil
			}
		}
		return os.NewSyscallError("inotify_add_watch", err)
	})
	if err != nil {
		return err
	}
	defer f.Close()
	if !exists(dir) {
		return nil
	}
	defer context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Now()) })()
	if _, err = f.Read(make([]byte, 4<<10)); err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) {
		err = ctx.Err()
	}
	return err
}

// Rename gives a container another name.
func (e *Engine) Rename(ctx context.Context, ref, name string) error {
	name = strings.TrimPrefix(name, "/")
	if !ValidName(name) {
		return ErrConflict{fmt.Sprintf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)}
	}
	c, lock, err := e.lock(ref)
	if err != nil {
		return err
	}
	defer lock.Close()
	if c.Name == name {
		return ErrConflict{"Renaming a container with the same name as its current name"}
	}
	if exists(e.intents() + "/" + c.ID) {
		return errUnsettled{c.Name}
	}
	r := &renaming{c.Name, name}
	if err := e.intend(c.ID, intent{Rename: r}); err != nil {
		return err
	}
	if err := e.reserveName(c.ID, name); err != nil {
		return errors.Join(err, e.giveUpRename(c.ID, c.Name, r))
	}
	was := c.Record
	c.Name, c.Connections = name, slices.Clone(c.Connections)
	for i := range c.Connections {
		if x := &c.Connections[i]; len(x.Names) > 0 {
			x.Names = append([]string{name}, slices.DeleteFunc(slices.Clone(x.Names), func(n string) bool { return n == was.Name || n == name })...)
		}
	}
	if err := e.renamed(&c); err != nil {
		c.Record = was
		if data, err := files.Read(c.dir + "/container.json"); err == nil {
			c.written = bytes.TrimSuffix(data, []byte("\n")) // where that is so already, no room is needed on the disk
		}
		if back := e.renamed(&c); back != nil {
			return errors.Join(err, back) // which name it has the next command finds out
		}
		return errors.Join(err, e.giveUpRename(c.ID, c.Name, r))
	}
	e.event(&c, "rename", map[string]string{"oldName": "/" + was.Name})
	return e.giveUpRename(c.ID, c.Name, r)
}

// reserveName reserves a name for a container that has one already.
func (e *Engine) reserveName(id, name string) error {
	err := files.Reserve(id, e.names()+"/"+name)
	if errors.Is(err, os.ErrExist) && e.unused(name) {
		err = files.Reserve(id, e.names()+"/"+name)
	}
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	if to, _ := files.ReservedFor(e.names() + "/" + name); to != id { // else a power failure came between
		return e.nameTaken(name)
	}
	return nil
}

// renamed writes a container's new name down, for its monitor, too, and has it be found by that.
func (e *Engine) renamed(c *Container) error {
	if t, err := c.task(); err == nil {
		t.Name = c.Name
		if t.Event != nil {
			t.Event["name"] = c.Name
		}
		for i, p := range t.Remove {
			if filepath.Dir(p) == e.names() {
				t.Remove[i] = e.names() + "/" + c.Name
			}
		}
		if err := rewrite(c.dir, "task.json", &t); err != nil {
			return err
		}
	}
	if err := c.writeRecord(); err != nil || !c.Active() {
		return err
	}
	return e.beKnown(c)
}
