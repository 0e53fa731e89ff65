package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// How a container is made.
type manner uint8

const (
	waiting    manner = 1 << iota // its process waits for the start
	foreground                    // it ends with the calling thread, and its terminal is this process's
)

// A making is a container on its way out of a bundle.
type making struct {
	c      *Container
	b      *Bundle
	o      ProcessOptions
	how    manner
	launch *Launch // what an engine adds; nil for who comes by runc's command line
	from   inherited
	facts  plan.Facts
	spec   *specs.Spec // the bundle's, with what the container's process is to find
	plan   plan.Plan
	group  *group
	net    network.Doer
	first  *Process // the container's, as it was cloned
}

// make creates a container. What it has begun it takes back on an error, the last first.
func (r *Runtime) make(ctx context.Context, id string, b *Bundle, o ProcessOptions, how manner, l *Launch) (_ *Container, proc *launch.Process, err error) {
	m := &making{b: b, o: o, how: how, launch: l}
	if err := m.look(); err != nil {
		return nil, nil, err
	}
	if m.c, err = r.reserve(id); err != nil {
		return nil, nil, err
	}
	defer m.c.unlock()
	defer func() {
		if err != nil {
			err = errors.Join(err, m.undo(ctx))
		}
	}()
	defer m.close()
	if err := m.prepare(); err != nil {
		return nil, nil, err
	}
	if m.plan, m.group, err = r.compile(id, m.spec, m.facts, m.options()); err != nil {
		return nil, nil, err
	}
	for _, w := range m.plan.Warnings {
		r.warn(w)
	}
	if err := m.c.note(b, m.group, m.how); err != nil {
		return nil, nil, err
	}
	m.c.config = m.spec
	r.debugPlan(m.plan)
	if proc, err = launch.Run(ctx, m.plan, m.run()); err != nil {
		return nil, nil, m.failed(err)
	}
	if err := m.begun(ctx, proc); err != nil {
		return nil, nil, err
	}
	return m.c, proc, nil
}

// look finds out what there is, of the caller and of the host, before anything is made.
func (m *making) look() (err error) {
	l := m.launch
	if l != nil && l.Hold {
		m.how |= waiting
	}
	if l == nil {
		if err := checkConsole(m.b.Spec.Process, m.o, m.how&foreground == 0); err != nil {
			return err
		}
	}
	if m.from, err = inherit(m.o.KeepFDs); err != nil {
		return err
	}
	if m.facts, err = host.Read(m.b.Needs()); err != nil {
		return err
	}
	if l != nil {
		m.facts.TimeOnExec = l.TimeOnExec
	}
	return nil
}

// prepare makes in the container's directory what its process is to find there, and the configuration that it is made by.
func (m *making) prepare() (err error) {
	if m.how&waiting != 0 {
		if err := m.c.makeFIFOs(m.fifoLabel()); err != nil {
			return err
		}
	}
	m.spec = m.b.withHome()
	if m.spec.Process != nil {
		m.spec.Process.Env = append(m.spec.Process.Env, m.from.env...)
	}
	if m.spec, err = m.c.withNotices(m.spec); err != nil {
		return err
	}
	if m.how&foreground != 0 {
		m.c.heard, err = m.c.notices()
	}
	return err
}

// options are those of the plan.
func (m *making) options() plan.Options {
	o := plan.Options{Foreground: m.how&foreground != 0, NoNewKeyring: !m.o.Keyring}
	if l := m.launch; l != nil {
		o = l.Plan
		o.Attended = m.how&waiting == 0
	} else {
		o.Streams, o.Nulls = ownStreams(m.b.Spec.Linux, m.b.Spec.Process), nullStreams()
		o.KeepFDs, o.Absent = m.from.keep, m.from.absent
	}
	if m.how&waiting != 0 {
		o.Wait = m.c.dir
	}
	o.Bundle = m.b.Dir
	return o
}

// run is how the plan is executed. Where the container's processes would be found by nothing else, it has them noted by their kin.
func (m *making) run() launch.Options {
	hands := Hands{c: m.c, group: m.group, net: &m.net}
	o := launch.Options{Terminal: lines(m.o.ConsoleSocket)}
	if l := m.launch; l != nil {
		hands.keep, hands.serve, hands.facts = l.Keep, l.Serve, &m.facts
		hands.here = l.Plan.Network != nil && l.Plan.Network.World
		o = launch.Options{Stdio: l.Stdio, Timings: l.Timings, Before: l.Before}
		if !m.c.state.OwnPIDs {
			m.c.state.Kin = &kin{UserNS: makesOwn(m.b.Spec, specs.UserNamespace), Mark: Mark(m.c.ID)}
		}
	}
	o.Hands, o.Cloned, o.Start = hands, m.cloned, m.start
	return o
}

// cloned opens the first process while it can be looked at: from when it is not dumpable until its execve, a procfs with hidepid= shows it to an ordinary user no more.
func (m *making) cloned(pid int) {
	m.forget()
	m.first = OpenProcess(pid)
	m.c.state.Kin.note(pid)
}

func (m *making) forget() {
	if m.first != nil {
		m.first.Close()
	}
}

// start writes down the first process, before it goes on to its execve: from here on another command can end it.
func (m *making) start(pid int) error {
	c := m.c
	if m.first == nil || m.first.Witness().PID != pid { // it went on as another one
		m.cloned(pid)
	}
	if m.first == nil {
		return errors.New("the process went away")
	}
	c.state.PID, c.state.Begun = pid, m.first.Witness().Begun
	if err := c.state.Covers.made(pid); err != nil {
		return err
	}
	if m.group != nil {
		c.state.Cgroups = m.group.Paths() // without those that could not be made
		c.runtime.notice(m.group)
		m.warnOfStrays()
	}
	c.runtime.debug("child process in init() has pid %d", pid)
	c.state.Kin.note(pid)
	if err := c.save(); err != nil || m.launch == nil {
		return err
	}
	c.RememberOOM() // before its execve: memory may be short at once
	if m.launch.Started == nil {
		return nil
	}
	return m.launch.Started(m.first.Witness())
}

// warnOfStrays tells who has runc's command line, in runc's words, of a container whose processes nothing holds together.
func (m *making) warnOfStrays() {
	if m.launch == nil && m.group.spare && len(m.c.state.Cgroups) == 0 && !makesOwn(m.spec, specs.PIDNamespace) && !joins(m.spec, specs.PIDNamespace) {
		m.c.runtime.warn("a container with neither a control group nor a pid namespace of its own: kill and delete end its first process alone, and not what that has started. " +
			"Such configuration is strongly discouraged")
	}
}

// failed says why a container could not be made: a launcher wants the step, who has runc's command line its words.
func (m *making) failed(err error) error {
	switch {
	case m.group != nil && m.group.starved > 0:
		return fmt.Errorf("container init was OOM-killed (memory limit too low?): %w", err)
	case m.launch != nil:
		return err
	}
	return execFailed(err)
}

// begun notes what only a process that there is shows, and gives its terminal to who asked for it. One that this fails for is ended.
func (m *making) begun(ctx context.Context, proc *launch.Process) error {
	c := m.c
	if proc.PID != c.state.PID {
		// It went on in a pid namespace that was joined, as another process.
		if err := c.follow(proc.PID); err != nil {
			abort(proc)
			return errors.Join(err, c.removeGroup(context.WithoutCancel(ctx)))
		}
	}
	if c.state.Kin != nil {
		c.state.Kin.note(proc.PID) // what could not be read before
		if err := c.save(); err != nil {
			abort(proc)
			return errors.Join(err, endStrays(c.state.Kin))
		}
	}
	c.runtime.debug("init: closing the pipe to signal completion")
	if err := connect(proc, m.o); err != nil {
		abort(proc)
		// What it has started by now as well.
		return errors.Join(err, c.removeGroup(context.WithoutCancel(ctx)))
	}
	return nil
}

// undo takes away what was made beside the process and its cgroup.
func (m *making) undo(ctx context.Context) error {
	m.c.heard.close()
	err := m.c.remove()
	m.c.poststop(ctx, m.c.config) // by now a hook that asks for the container has an answer
	return err
}

// close closes what is of use until the process runs.
func (m *making) close() {
	m.forget()
	m.net.Close()
	if m.group != nil {
		m.group.Close()
	}
}

// fifoLabel is SELinux's label of what a waiting process has open: it is in its domain by then, where policies allow it no files of the runtime's, and the
// kernel puts its null device in their place (SELinux does that at the execve that enters a domain).
func (m *making) fifoLabel() string {
	s := m.b.Spec
	if !m.facts.SELinux || s.Process == nil || s.Process.SelinuxLabel == "" || s.Linux == nil {
		return ""
	}
	return s.Linux.MountLabel
}

// makeFIFOs makes those by which a waiting process is started, of an SELinux label where one is given.
func (c *Container) makeFIFOs(label string) error {
	for _, name := range []string{"start", "started"} {
		if err := unix.Mkfifoat(c.fd, name, 0o600); err != nil {
			return &os.PathError{Op: "mkfifo", Path: c.dir + "/" + name, Err: err}
		}
		if label == "" {
			continue
		}
		if err := files.Label(fmt.Sprintf("/proc/self/fd/%d/%s", c.fd, name), label); err != nil {
			return fmt.Errorf("linux.mountLabel: %s/%s: %w", c.dir, name, err)
		}
	}
	return nil
}

// note writes what is known of a container before it is made. Its cgroup, and the mount that its root is to cover, are named
// before they are made: whoever finds this state knows what to look for.
func (c *Container) note(b *Bundle, g *group, how manner) error {
	c.state = record{
		Version: b.Spec.Version, Bundle: b.Dir, Rootfs: rootfs(b), Created: time.Now().UTC(), Owner: uint32(os.Geteuid()), Annotated: b.Spec.Annotations,
		Foreground: how&foreground != 0,
		OwnPIDs:    makesOwn(b.Spec, specs.PIDNamespace),
	}
	if p := b.Spec.Process; p == nil || !p.Terminal {
		c.state.Stdio = streamPipes()
	}
	if err := c.write("config.json", b.JSON); err != nil {
		return err
	}
	if plan.InPlace(b.Spec) {
		var err error
		if c.state.Covers, err = cover(namespaces(b.Spec), c.state.Rootfs); err != nil {
			return err
		}
	}
	if g == nil && c.state.Covers == nil {
		return nil
	}
	if g != nil {
		c.state.Cgroups, c.state.Systemd, c.state.UserSystemd = g.Paths(), g.path, g.bus != nil && g.bus.User
	}
	if err := c.save(); err != nil {
		return err
	}
	return c.coversAlone() // of two at once each sees the other by now
}
