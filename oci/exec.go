package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/oci/specjson"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ExecOptions are those of another process in a container.
type ExecOptions struct {
	ProcessOptions
	own    bool // the process's streams are this one's
	Detach bool
	Cgroup string // below the container's cgroup, in every hierarchy
	// Cgroups are paths below the container's cgroup by controller, where control groups are of version 1, and in the place
	// of Cgroup.
	Cgroups      map[string]string
	IgnorePaused bool // a paused container does not run it before it is resumed
	// Member is a process of the container whose namespaces are joined, 0 for the first: who may not look into an init that has
	// closed itself joins those of another.
	Member int
	// Causes have, by its path in config.json, what put a field of the process there, such as a flag: warnings name that.
	Causes map[string]string
}

// Exec runs another process in a running container. Unless it is detached it waits for its end and returns its exit code.
func (c *Container) Exec(ctx context.Context, process *specs.Process, o ExecOptions) (int, error) {
	if err := checkConsole(process, o.ProcessOptions, o.Detach); err != nil {
		return 0, err
	}
	o.own = true
	proc, err := c.launchExec(ctx, process, o, launch.Options{Terminal: lines(o.ConsoleSocket)})
	if err != nil {
		return 0, execFailed(err)
	}
	if err := connect(proc, o.ProcessOptions); err != nil {
		abort(proc)
		return 0, err
	}
	if o.Detach {
		closeMaster(proc)
		return 0, nil
	}
	return attend(proc)
}

// LaunchExec starts another process in a running container as a child of this process, which it may outlive: with the streams of l, or a terminal that is in the
// Process. Who calls waits for its end. Of l, Plan and Started are of no matter, and of o the options for a caller's descriptors and sockets.
func (c *Container) LaunchExec(ctx context.Context, process *specs.Process, o ExecOptions, l Launch) (*launch.Process, error) {
	o.Keyring = true
	return c.launchExec(ctx, process, o, launch.Options{Stdio: l.Stdio, Timings: l.Timings})
}

func (c *Container) launchExec(ctx context.Context, process *specs.Process, o ExecOptions, l launch.Options) (_ *launch.Process, err error) {
	if _, err := specjson.ValidateProcess(process); err != nil {
		return nil, err
	}
	if err := c.takesExec(o.IgnorePaused); err != nil {
		return nil, err
	}
	first := c.process()
	if first == nil {
		return nil, ErrNotRunning
	}
	defer first.Close()
	defer func() {
		// What then fails is a namespace without a file, or a clone for want of memory.
		if err != nil && first.Ending() {
			err = fmt.Errorf("%w: it ended meanwhile", ErrNotRunning)
		}
	}()
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	if g != nil {
		defer g.Close()
	}
	config, err := c.Spec()
	if err != nil {
		return nil, err
	}
	p, err := c.planExec(config, process, o, g)
	if err != nil {
		return nil, err
	}
	if !process.Terminal {
		null, err := guardNull(config, &l.Stdio)
		if err != nil {
			return nil, err
		}
		defer null.Close() // nil where there is nothing to guard
	}
	runtime.LockOSThread() // which clones, and traces nothing else
	defer runtime.UnlockOSThread()
	if a := process.ExecCPUAffinity; a != nil && a.Initial != "" {
		defer keepAffinity()() // which the plan gives this thread
	}
	for _, w := range p.Warnings {
		c.runtime.warn(w)
	}
	c.runtime.debugPlan(p)
	l.Hands = Hands{c: c, group: g}
	also := l.Start
	l.Start = func(pid int) error {
		// The namespaces were opened by a number: it was the container's if it still is.
		if !first.Alive() {
			return ErrNotRunning
		}
		c.runtime.debug("child process in init() has pid %d", pid)
		c.runtime.debug("setns_init: about to exec")
		if also != nil {
			return also(pid)
		}
		return nil
	}
	if g != nil {
		// Who may freeze the container, or one of its cgroups, may do that while the process is on its way.
		if !o.IgnorePaused {
			l.Stuck = g.stuck
		}
		l.Killed = func(pid int) {
			if err := g.LetGo(pid); err != nil {
				c.runtime.warn(err.Error())
			}
		}
	}
	return launch.Run(ctx, p, l)
}

func (g *group) stuck(pid int) error {
	if g.Holds(pid) {
		return ErrPaused
	}
	return nil
}

// takesExec reports as an error that the container is in a state in which no other process is started.
func (c *Container) takesExec(paused bool) error {
	switch s := c.Status(); {
	case s == specs.StateStopped, s == specs.StateCreating:
		return fmt.Errorf("cannot exec in a %s container", s)
	case s == StatusPaused && !paused:
		return ErrPaused
	}
	return nil
}

// keepAffinity returns what has the calling thread run again where it may now.
func keepAffinity() (restore func()) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return func() {} // more processors than a set has: nothing was there to be restored
	}
	return func() { unix.SchedSetaffinity(0, &set) }
}

// planExec compiles the plan of a process in the namespaces and the cgroup of the container.
func (c *Container) planExec(config *specs.Spec, process *specs.Process, o ExecOptions, g *group) (plan.Plan, error) {
	p := *process
	from, err := inherit(o.KeepFDs)
	if err != nil {
		return plan.Plan{}, err
	}
	p.Env = append(environment(p.Env, c.homeOf(p.User.UID)), from.env...)
	joined, err := c.joinGroup(g, o)
	if err != nil {
		return plan.Plan{}, err
	}
	options := plan.Options{Cgroup: joined, KeepFDs: from.keep, Absent: from.absent, NoNewKeyring: !o.Keyring, Causes: o.Causes}
	if o.own {
		options.Streams = ownStreams(config.Linux, process)
	}
	return c.planJoined(config, &p, o.Member, options)
}

// planJoined compiles the plan of a process that joins the container.
func (c *Container) planJoined(config *specs.Spec, process *specs.Process, member int, o plan.Options) (plan.Plan, error) {
	if member == 0 {
		member = c.state.PID
	}
	proc := "/proc/" + strconv.Itoa(member)
	spec := &specs.Spec{Version: config.Version, Process: process, Linux: &specs.Linux{}, Annotations: config.Annotations}
	if l := config.Linux; l != nil {
		spec.Linux.UIDMappings, spec.Linux.GIDMappings, spec.Linux.Seccomp, spec.Linux.Personality = l.UIDMappings, l.GIDMappings, l.Seccomp, l.Personality
		spec.Linux.MemoryPolicy, spec.Linux.MountLabel, spec.Linux.IntelRdt = l.MemoryPolicy, l.MountLabel, l.IntelRdt
		for _, n := range l.Namespaces {
			kind, ok := abi.ParseNamespace(string(n.Type))
			if !ok {
				return plan.Plan{}, errors.New("linux.namespaces: unknown type " + string(n.Type))
			}
			n.Path = proc + "/ns/" + kind.ProcName()
			spec.Linux.Namespaces = append(spec.Linux.Namespaces, n)
		}
	}
	if c.state.NewTime {
		n := specs.LinuxNamespace{Type: specs.TimeNamespace, Path: proc + "/ns/time"}
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, n)
	}
	facts, err := host.Read(needs(spec))
	if err != nil {
		return plan.Plan{}, err
	}
	if plan.InPlace(config) {
		o.Chroot = proc + "/root"
	}
	if config.Process != nil {
		o.Told = config.Process.Capabilities
	}
	o.Bundle, o.Joined, o.ID, o.AllCPUs = c.state.Bundle, true, c.ID, true
	return plan.Compile(spec, facts, o)
}

// joinGroup says which cgroup another process joins: the container's, or one below it, or on version 2 the one that
// its first process is in by now, where the container's own can take no process or is gone.
func (c *Container) joinGroup(g *group, o ExecOptions) (*plan.Cgroup, error) {
	sub := o.Cgroup
	switch {
	case g == nil && sub == "" && len(o.Cgroups) == 0:
		return nil, nil
	case g == nil:
		return nil, fmt.Errorf("container %s has no cgroup, and none below it", c.ID)
	case slices.Contains(strings.Split(sub, "/"), ".."):
		return nil, fmt.Errorf("bad sub cgroup path: %s: name one below the container's cgroup", sub)
	}
	if err := g.Below(o.Cgroups); err != nil {
		return nil, err
	}
	if sub == "" {
		var err error
		if sub, err = g.Follow(c.state.PID); err != nil {
			return nil, err
		}
	}
	// One that a container has made and frozen itself, and moved its first process into, would have a start wait for as long as it likes.
	if !o.IgnorePaused && g.StandsStill(sub) {
		return nil, ErrPaused
	}
	p := &plan.Cgroup{Path: g.where(), Paths: g.Paths(), Sub: strings.Trim(sub, "/")}
	g.enter(p)
	return p, nil
}

// LoadProcess is [Container.ReadProcess] of a file.
func (c *Container) LoadProcess(file string) (*specs.Process, error) {
	f, err := os.Open(file) // which may be a pipe of the caller's
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return c.ReadProcess(f, file)
}

// ReadProcess reads a process of runtime-spec in JSON from a file of that name. What it leaves out of the fields that confine a
// process it gets from the container's own, as with runc: else a file of args and cwd would give all capabilities.
// noNewPrivileges is the file's alone.
func (c *Container) ReadProcess(f io.Reader, file string) (*specs.Process, error) {
	p, err := readProcess(f, file)
	if err != nil {
		return nil, err
	}
	config, err := c.Spec()
	if err != nil {
		return nil, err
	}
	own := config.Process
	if own == nil {
		return p, nil
	}
	p.Capabilities = cmp.Or(p.Capabilities, own.Capabilities)
	p.ApparmorProfile = cmp.Or(p.ApparmorProfile, own.ApparmorProfile)
	p.SelinuxLabel = cmp.Or(p.SelinuxLabel, own.SelinuxLabel)
	p.OOMScoreAdj = cmp.Or(p.OOMScoreAdj, own.OOMScoreAdj)
	p.Scheduler = cmp.Or(p.Scheduler, own.Scheduler)
	p.IOPriority = cmp.Or(p.IOPriority, own.IOPriority)
	p.ExecCPUAffinity = cmp.Or(p.ExecCPUAffinity, own.ExecCPUAffinity)
	p.User.Umask = cmp.Or(p.User.Umask, own.User.Umask)
	if len(p.Rlimits) == 0 {
		p.Rlimits = own.Rlimits
	}
	return p, nil
}

func readProcess(f io.Reader, file string) (*specs.Process, error) {
	const max = 100 << 20
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if len(data) > max {
		return nil, fmt.Errorf("%s: larger than 100 MB", file)
	}
	p, err := specjson.DecodeProcess(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

// ProcessChanges are what a command line changes in the container's own process, to run another beside it.
type ProcessChanges struct {
	Args         []string
	Env          []string
	Cwd          string
	UID, GID     *uint32 // each by itself: an id that is not given is the container's
	Groups       []uint32
	Caps         []string
	Terminal     bool
	NoNewPrivs   bool
	AppArmor     string
	SELinuxLabel string
}

// Process returns the process of config.json with changes.
func (c *Container) Process(x ProcessChanges) (*specs.Process, error) {
	config, err := c.Spec()
	if err != nil {
		return nil, err
	}
	if config.Process == nil {
		return nil, errors.New("config.json has no process to take the rest from: pass --process")
	}
	p := *config.Process
	p.Args, p.Terminal, p.ConsoleSize = x.Args, x.Terminal, nil
	p.Env = append(slices.Clone(p.Env), x.Env...)
	if x.Cwd != "" {
		p.Cwd = x.Cwd
	}
	if x.AppArmor != "" {
		p.ApparmorProfile = x.AppArmor
	}
	if x.SELinuxLabel != "" {
		p.SelinuxLabel = x.SELinuxLabel
	}
	if x.NoNewPrivs {
		p.NoNewPrivileges = true
	}
	if x.UID != nil {
		p.User.UID = *x.UID
	}
	if x.GID != nil {
		p.User.GID = *x.GID
	}
	p.User.AdditionalGids = append(slices.Clone(p.User.AdditionalGids), x.Groups...)
	if len(x.Caps) > 0 {
		caps := specs.LinuxCapabilities{}
		if p.Capabilities != nil {
			caps = *p.Capabilities
		}
		for _, set := range []*[]string{&caps.Bounding, &caps.Effective, &caps.Permitted} {
			*set = append(slices.Clone(*set), x.Caps...)
		}
		// Ambient ones need inheritable ones, too; a container whose process has none gets none.
		if len(caps.Inheritable) > 0 {
			caps.Inheritable = append(slices.Clone(caps.Inheritable), x.Caps...)
		}
		if len(caps.Ambient) > 0 {
			caps.Ambient = append(slices.Clone(caps.Ambient), x.Caps...)
		}
		p.Capabilities = &caps
	}
	return &p, nil
}
