package oci

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Start has a created container make its execve, and tells when that fails. One whose hook fails is deleted. Where somebody wants to hear that the
// container's process is ready, it waits for that, or for its end: sd_notify(3).
func (c *Container) Start(ctx context.Context) error {
	n, err := c.notices()
	if err != nil {
		return err
	}
	defer n.close()
	if err := c.start(ctx); err != nil {
		var hook *hookError
		if errors.As(err, &hook) {
			err = errors.Join(err, c.deleteEnded(ctx)) // runtime-spec, runtime.md, "Lifecycle": it is destroyed
		}
		return err
	}
	if err := n.forward(c.state.PID, c.state.PID); err != nil {
		c.runtime.warn(err.Error())
	}
	return nil
}

func (c *Container) start(ctx context.Context) error {
	return c.locked(func() error {
		s := c.Status()
		if s == specs.StateRunning && c.diedWaiting() {
			c.waitEnded() // for who deletes it now
			s = specs.StateStopped
		}
		switch s {
		case specs.StateCreated:
		case specs.StateStopped:
			return errors.New("cannot start a container that has stopped")
		case specs.StateRunning:
			return errors.New("cannot start an already running container")
		default:
			return fmt.Errorf("cannot start a container in the %s state", s)
		}
		if err := c.runHooks(ctx, "startContainer"); err != nil {
			return errors.Join(err, c.end())
		}
		started, err := unix.Openat(c.fd, "started", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: c.dir + "/started", Err: err}
		}
		defer unix.Close(started)
		start, err := unix.Openat(c.fd, "start", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: c.dir + "/start", Err: err}
		}
		_, err = unix.Write(start, []byte{0})
		unix.Close(start)
		if err != nil {
			return &os.PathError{Op: "write", Path: c.dir + "/start", Err: err}
		}
		err = c.waitStarted(ctx, started)
		if err != nil {
			c.waitEnded() // for who deletes it now
		}
		unix.Unlinkat(c.fd, "start", 0)
		unix.Unlinkat(c.fd, "started", 0)
		if err != nil {
			spec, e := c.Spec()
			if e != nil {
				return errors.Join(err, e)
			}
			return &ExecError{Program: spec.Process.Args[0], Found: true, Err: err}
		}
		if err := c.runHooks(ctx, "poststart"); err != nil {
			return errors.Join(err, c.end())
		}
		return nil
	})
}

// diedWaiting reports whether the container's process still ends and has never started: its filter or a signal killed it, and its end of the file "start",
// which only a start removes, is closed.
func (c *Container) diedWaiting() bool {
	return unix.Faccessat(c.fd, "start", unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil && c.Ending()
}

// waitEnded gives a process that has said why it could not start the moment until it ends.
func (c *Container) waitEnded() {
	if p := c.process(); p != nil {
		defer p.Close()
		p.Wait(time.Second)
	}
}

// waitStarted waits for the end of what the container keeps open until its execve: it
// closes with that, or brings the error. Who may trace the process can have a copy of it, which closes with nothing: then it counts that the process has none.
func (c *Container) waitStarted(ctx context.Context, fd int) error {
	file, err := process.FileOf(fd)
	if err != nil {
		return err
	}
	for gone := false; ; {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 200); n == 0 || err == unix.EINTR {
			if err := ctx.Err(); err != nil {
				return err
			}
			if gone {
				return nil
			}
			gone = !c.Witness().Alive() || !process.Keeps(c.state.PID, file) // and once more: what it wrote last is there by now
			continue
		} else if err != nil {
			return os.NewSyscallError("poll", err)
		}
		msg := make([]byte, plan.MsgSize)
		n, err := unix.Read(fd, msg)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err != nil:
			return os.NewSyscallError("read", err)
		case n == 0:
			return nil
		case n == plan.MsgSize && binary.LittleEndian.Uint32(msg) == plan.MsgExec:
			return syscall.Errno(binary.LittleEndian.Uint32(msg[8:]))
		}
		return fmt.Errorf("an unexpected message of %d bytes from the container", n)
	}
}

// Kill sends a signal to the container's first process; with all, and always for SIGKILL, to every process of it, where
// its end is not the end of them all anyway. Those may be there still when the first one has ended.
func (c *Container) Kill(ctx context.Context, sig syscall.Signal, all bool) error {
	p := c.process()
	if p != nil {
		defer p.Close()
	}
	if (all || sig == unix.SIGKILL) && !c.state.OwnPIDs {
		if pids, err := c.Processes(); err == nil && len(pids) > 0 {
			return c.killAll(ctx, sig)
		}
	}
	if p == nil {
		return ErrNotRunning
	}
	if err := p.Signal(sig); err == os.ErrProcessDone {
		return ErrNotRunning
	} else if err != nil {
		return fmt.Errorf("signal %v to process %d: %w", sig, c.state.PID, err)
	}
	if sig == unix.SIGKILL {
		_ = c.LetEnd() // the signal is sent; nearly always nothing is frozen
	}
	return nil
}

// LetEnd lets a container end whose first process was sent SIGKILL: on version 1 of control groups the signal waits for the thaw, of groups too that the container
// has made and frozen itself, as an engine in it does. Nothing runs again that has the signal.
func (c *Container) LetEnd() error {
	if !c.state.OwnPIDs {
		return c.ending(func(ctx context.Context, g *group) error { return g.LetEnd(ctx, nil) })
	}
	ns := c.pidNamespace()
	defer ns.Close() // nil, when it has ended
	return c.ending(func(ctx context.Context, g *group) error {
		return g.LetEnd(ctx, func(pid int) bool { return ns != nil && isIn(ns, pid) })
	})
}

// pidNamespace opens that of the container's first process, nil when that has ended.
func (c *Container) pidNamespace() *os.File {
	p := c.process()
	if p == nil {
		return nil
	}
	defer p.Close()
	fd, err := unix.Openat(p.Dir(), "ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "ns/pid")
}

// isIn reports whether a process is in a pid namespace, or in one below.
func isIn(ns *os.File, pid int) bool {
	own, err := namespace.Open(nil, pid, abi.NSPID)
	if err != nil {
		return false
	}
	defer own.Close()
	return namespace.Within(own, ns)
}

// EndAll ends all of a container's processes, of which the first one did not end by SIGKILL within a moment and [Container.LetEnd], and takes away what slows them down. It is for
// who is to have the container gone: containers below its control group go with it.
func (c *Container) EndAll() error {
	return c.ending(func(ctx context.Context, g *group) error { return g.Kill(ctx, unix.SIGKILL) })
}

// ending does to the container's cgroup what helps it to end, for a second at most: some processes can hold that up, and who asks may ask again.
func (c *Container) ending(help func(ctx context.Context, g *group) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := c.withGroup("SIGKILL", func(g *group) error { return help(ctx, g) })
	if errors.As(err, new(*NoCgroupError)) || errors.Is(err, cgroup.ErrNoFreezer) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil // nothing holds it up, or it has ended
	}
	return err
}

// killAll sends a signal to every process of the container's cgroup.
func (c *Container) killAll(ctx context.Context, sig syscall.Signal) error {
	return c.withGroup("a signal to all of its processes", func(g *group) error { return g.Kill(ctx, sig) })
}

// Processes lists the pids of the container's processes, as the caller sees them.
func (c *Container) Processes() (pids []int, err error) {
	err = c.withGroup("a list of its processes", func(g *group) (err error) {
		pids, err = g.AllPids()
		return err
	})
	return pids, err
}

// Pause stops all processes of a container that runs or was created.
func (c *Container) Pause(ctx context.Context) error {
	return c.locked(func() error {
		switch s := c.Status(); s {
		case specs.StateRunning, specs.StateCreated:
		default:
			return fmt.Errorf("%w: it is %s", ErrNotRunning, s)
		}
		return c.withGroup("pause", func(g *group) error { return g.Freeze(ctx) })
	})
}

// Resume lets the processes of a paused container go on.
func (c *Container) Resume() error {
	return c.locked(func() error {
		if c.Status() != StatusPaused {
			return ErrNotPaused
		}
		return c.withGroup("resume", func(g *group) error { return g.Thaw() })
	})
}

// Delete takes away what a container that has ended left, or one that was not started. With force it is ended
// first, whatever it does, and one that does not exist is no error.
func (r *Runtime) Delete(ctx context.Context, id string, force bool) error {
	c, err := r.Open(id)
	switch {
	case err == nil:
		err = c.Delete(ctx, force)
	case force && c != nil && !errors.Is(err, ErrNotExist):
		r.warn(fmt.Sprintf("container %s: %v: what it may have left besides its state is not known", id, err))
		if err = c.lock(); err == nil {
			defer c.unlock()
			err = c.remove()
		}
	}
	if force && errors.Is(err, ErrNotExist) {
		return nil
	}
	return err
}

// Delete takes away what the container left, which has ended, or is ended first: with force always, and without it where nothing of its own has
// run yet: runtime-spec wants an error there; runc and crun delete it, and containerd's shim counts on that. Nor is it needed after a SIGKILL: kill
// returns before the process has ended, and who deletes it next would have to try again until it has.
func (c *Container) Delete(ctx context.Context, force bool) error {
	if force {
		held := &Container{runtime: c.runtime, ID: c.ID, dir: c.dir, fd: -1, state: c.state}
		defer time.AfterFunc(lockedTime, held.kill).Stop()
	}
	var config *specs.Spec
	err := c.locked(func() error {
		switch s := c.Status(); s {
		case specs.StateStopped, specs.StateCreating, specs.StateCreated:
		default:
			if force || c.doomed() {
				break
			}
			return fmt.Errorf("cannot delete container %s that is not stopped: %s", c.ID, s)
		}
		// Whoever made one that is being created held the lock, and is gone; what it was making may be there.
		if err := c.end(); err != nil {
			return err
		}
		// One that was killed while it was made has none.
		config, _ = c.Spec()
		if config != nil {
			if op := plan.RemoveResctrlOf(config, c.ID); op != nil {
				if err := removeResctrl(op); err != nil {
					return err
				}
			}
		}
		if err := errors.Join(c.removeGroup(ctx), endStrays(c.state.Kin)); err != nil {
			return err
		}
		return c.remove()
	})
	if err == nil {
		c.poststop(ctx, config)
	}
	return err
}

// lockedTime is how long who deletes a container by force waits for another command that has it locked: a start does not come to its end whose process another one of the pid
// namespace holds up.
const lockedTime = 5 * time.Second

// kill ends the container's first process, as far as it is known.
func (c *Container) kill() {
	if p := c.process(); p != nil {
		defer p.Close()
		p.Signal(unix.SIGKILL) // one that has ended needs none
		c.LetEnd()
	}
}

// deleteEnded takes away a container that this process waited for, unless another command was first.
func (c *Container) deleteEnded(ctx context.Context) error {
	if err := c.Delete(context.WithoutCancel(ctx), true); !errors.Is(err, ErrNotExist) {
		return err
	}
	return nil
}

// orphanEnd is how long a half-made process has until it has ended for want of its maker: it has not more to do than a step.
const orphanEnd = 5 * time.Second

// removeGroup ends what is left in the container's cgroup, a process that shares the pid namespace of another container for
// one, and removes it.
func (c *Container) removeGroup(ctx context.Context) error {
	g, err := c.readGroup()
	if g == nil || err != nil {
		return err
	}
	defer g.Close()
	if ours, err := c.endGroup(ctx, g); err != nil || !ours {
		return err
	}
	if err := c.openUnit(g); err != nil {
		return err
	}
	if !g.Exists() {
		switch {
		case g.unit == nil:
			return g.RemoveEmpty() // other hierarchies may have it: who made or removed it was killed half way
		case c.state.PID == 0:
			return nil
		}
	}
	return g.Remove(ctx) // also of one that is gone: systemd keeps a unit that failed for people to look at
}

// endGroup ends what is left in the container's cgroup, which was opened without systemd: that may not answer. One that is another container's is not ours.
func (c *Container) endGroup(ctx context.Context, g *group) (ours bool, err error) {
	if !g.Exists() {
		return true, nil
	}
	if c.state.PID == 0 {
		// Whether it was made, or is another container's, is not known: its maker was killed. A process that the maker was about to make a container
		// of ends by itself, when it finds the maker gone.
		for end := time.Now().Add(orphanEnd); ; time.Sleep(time.Millisecond) {
			pids, err := g.AllPids()
			if err != nil || len(pids) > 0 && time.Now().After(end) {
				return false, err
			}
			if len(pids) == 0 {
				break
			}
		}
	}
	return true, g.Kill(ctx, unix.SIGKILL)
}

// OwnPIDs reports whether the container has a pid namespace of its own: the end of its first process is that of all others then.
func (c *Container) OwnPIDs() bool { return c.state.OwnPIDs }

// LastStats reads the counters of the container's cgroup, as long as that is there: after its end, too.
func (c *Container) LastStats() (s cgroup.Stats, err error) {
	err = c.withGroup("statistics", func(g *group) error {
		s, err = g.Stats()
		return err
	})
	return s, err
}

// OOMKills is how many processes of the container the kernel has ended for want of memory; 0 where it has no cgroup.
func (c *Container) OOMKills() (uint64, error) {
	g, err := c.readGroup()
	if g == nil || err != nil {
		return 0, err
	}
	defer g.Close()
	n, err := g.OOMKills()
	if err != nil && c.ooms != nil {
		return c.ooms.count(), nil
	}
	return n, err
}

// RememberOOM has [Container.OOMKills] answer when the cgroup is gone, too: one that systemd made it takes away with the last process, before anybody can look.
// What is remembered is how often that was seen, which may be less than there were. What cannot be watched is not remembered.
func (c *Container) RememberOOM() {
	if c.state.Systemd == nil {
		return
	}
	g, err := c.readGroup()
	if g == nil || err != nil {
		return
	}
	defer g.Close()
	seen, err := g.OOM(context.Background())
	if err != nil {
		return
	}
	c.ooms = &oomKills{over: make(chan struct{})}
	go func() {
		defer close(c.ooms.over)
		for range seen {
			c.ooms.seen.Add(1)
		}
	}()
}

// oomKills are counted until the cgroup has no process any more.
type oomKills struct {
	seen atomic.Uint64
	over chan struct{}
}

// count waits until the last one is counted, of a cgroup that is gone: a second at most.
func (k *oomKills) count() uint64 {
	select {
	case <-k.over:
	case <-time.After(time.Second):
	}
	return k.seen.Load()
}

// end kills the container's first process and waits until it is gone.
func (c *Container) end() error {
	if err := c.endCRIU(); err != nil {
		return err
	}
	p := c.process()
	if p == nil {
		return nil
	}
	defer p.Close()
	if c.over && c.Left(p) {
		return nil
	}
	if err := p.Signal(unix.SIGKILL); err != nil && err != os.ErrProcessDone {
		return fmt.Errorf("signal KILL to process %d: %w", c.state.PID, err)
	}
	return c.gone(p)
}

// Left reports whether a process of the container has nothing left but its number, see [Process.Left], and no other one of its cgroup has more than that: one may wait in
// the kernel, for a disk perhaps, with files and mounts that are in use then.
func (c *Container) Left(p *Process) bool {
	if !p.Left() {
		return false
	}
	pids, err := c.Processes()
	return err != nil || !slices.ContainsFunc(pids, func(pid int) bool { return pid != p.Witness().PID })
}

// Over says that the container's first process is [Container.Left], and has been for as long as somebody was to wait: Delete does not wait for its end once more.
func (c *Container) Over() { c.over = true }

// gone waits until a process of a container that was sent SIGKILL has ended, or is [Container.Left].
func (c *Container) gone(p *Process) error {
	const patience, moment = 10 * time.Second, time.Second
	held := c.LetEnd()
	for begin := time.Now(); !p.Wait(moment); held = c.EndAll() {
		if c.Left(p) {
			return nil // only its number is left, for as long as the parent of another one does not wait for that
		}
		if time.Since(begin) > patience {
			err := fmt.Errorf("process %d of container %s does not end, %s after SIGKILL: it waits in the kernel; see /proc/%[1]d/stack", p.Witness().PID, c.ID, patience)
			return errors.Join(err, held)
		}
	}
	return nil
}

// endCRIU kills a CRIU that a killed command left at work: it traces processes and stops their cgroup, so that none of them would end.
func (c *Container) endCRIU() error {
	if c.state.CRIU == nil {
		return nil
	}
	p := c.state.CRIU.Open()
	if p == nil {
		return nil
	}
	defer p.Close()
	if err := p.Signal(unix.SIGKILL); err != nil && err != os.ErrProcessDone {
		return fmt.Errorf("signal KILL to criu, process %d: %w", c.state.CRIU.PID, err)
	}
	return c.gone(p)
}
