package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/cgroup/systemd"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A group is the cgroup that a bundle's container is to have, and its limits.
type group struct {
	*cgroup.Group
	limits  limits.Limits
	bus     *systemd.Bus // of the manager who makes it; nil where this program does
	unit    *systemd.Unit
	path    *string // linux.cgroupsPath, where systemd makes it
	made    bool    // by this process
	starved uint64  // processes that the kernel ended for want of memory, by the time it was removed
	spare   bool    // where the caller may not make it, the container does without
}

// newGroup works out a container's cgroup, and makes none. It is nil where the caller wants none,
// and on a host that has no cgroups at all, where nobody asked for one.
func (r *Runtime) newGroup(id string, spec *specs.Spec, facts plan.Facts) (*group, error) {
	if r.NoCgroup {
		return nil, nil
	}
	h, err := r.cgroups()
	var path string
	var resources *specs.LinuxResources
	if spec.Linux != nil {
		path, resources = spec.Linux.CgroupsPath, spec.Linux.Resources
	}
	if errors.Is(err, cgroup.ErrNone) && path == "" && resources == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	o := cgroup.Options{Path: path, ID: id, Rootless: !facts.Privileged()}
	if !o.Rootless && path == "" && resources == nil && !r.Systemd {
		// In a container root may find them read-only. What nobody asked for is no fault of his, either.
		if o.Rootless, err = h.Refuses(o); err != nil {
			return nil, err
		}
	}
	x := &group{spare: o.Rootless && path == ""}
	resources = withDefaultDevices(resources)
	if x.limits, err = limits.Compile(resources, h.Controllers()); err != nil {
		return nil, err
	}
	if x.bus, err = r.manager(h, o, len(x.limits.Controllers()) > 0); err != nil {
		return nil, err
	}
	if x.bus != nil {
		x.path = &path
		if o.Unit, err = x.newUnit(h, o, resources, spec.Annotations); err != nil {
			x.Close()
			return nil, err
		}
	}
	if x.Group, err = h.Group(o); err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

// manager connects to the systemd that is to make a container's cgroup; nil where this program makes it.
func (r *Runtime) manager(h *cgroup.Host, o cgroup.Options, limited bool) (*systemd.Bus, error) {
	if r.Systemd {
		bus, err := dial(o.Rootless)
		if err != nil {
			return nil, fmt.Errorf("--systemd-cgroup: %w: leave the flag out where systemd does not run", err)
		}
		return bus, nil
	}
	if !r.UserSystemd || !o.Rootless || o.Path != "" || !limited || !h.Unified() {
		return nil, nil
	}
	bus, err := systemd.User()
	if err == nil {
		return bus, nil
	}
	refused, err2 := h.Refuses(o)
	if refused {
		return nil, fmt.Errorf("limits need a cgroup that this user may divide: this command's is not, and no systemd of the user answers: %w", err)
	}
	return nil, err2
}

// dial connects to the manager that makes the caller's units.
func dial(rootless bool) (*systemd.Bus, error) {
	if rootless {
		return systemd.User()
	}
	return systemd.System()
}

// newUnit names the unit that systemd is to make for a container, and has the limits as systemd keeps them.
func (g *group) newUnit(h *cgroup.Host, o cgroup.Options, r *specs.LinuxResources, annotations map[string]string) (*systemd.Unit, error) {
	version, err := g.bus.Version()
	if err != nil {
		return nil, err
	}
	r = limits.Percents(r)
	if g.limits, err = limits.Compile(r, h.Controllers()); err != nil {
		return nil, err
	}
	properties, warnings, err := limits.Properties(r, h.Controllers(), version)
	if err != nil {
		return nil, err
	}
	g.limits.Warnings = append(g.limits.Warnings, warnings...)
	given, err := systemd.Annotations(annotations)
	if err != nil {
		return nil, err
	}
	properties = slices.Concat(properties, limits.StartProperties(r, version), given)
	return g.bus.Unit(systemd.Options{Path: o.Path, ID: o.ID, Properties: properties, Unified: h.Unified()})
}

// Close closes descriptors and the connection to systemd. The cgroup stays.
func (g *group) Close() {
	if g.Group != nil {
		g.Group.Close()
	}
	if g.bus != nil {
		g.bus.Close()
	}
}

// withDefaultDevices adds, after the rules of config.json, those for the devices that every container has: config-linux.md,
// "Default devices", and for tunnels, as with runc and crun: programs of VPNs make /dev/net/tun themselves, and runc had to take it back
// when it had left that out. Making a node is always allowed; what it is good for is another question.
func withDefaultDevices(r *specs.LinuxResources) *specs.LinuxResources {
	if r == nil {
		r = &specs.LinuxResources{}
	}
	with := *r
	with.Devices = slices.Clone(r.Devices)
	const any = -1
	for _, d := range []struct {
		kind         string
		major, minor int64
		access       string
	}{
		{"c", any, any, "m"}, {"b", any, any, "m"},
		{"c", 1, 3, "rwm"}, {"c", 1, 5, "rwm"}, {"c", 1, 7, "rwm"}, {"c", 1, 8, "rwm"}, {"c", 1, 9, "rwm"}, // null, zero, full, random, urandom
		{"c", 5, 0, "rwm"}, {"c", 5, 1, "rwm"}, {"c", 5, 2, "rwm"}, {"c", 136, any, "rwm"}, // tty, console, ptmx, pts
		{"c", 10, 200, "rwm"}, // tun
	} {
		with.Devices = append(with.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: d.kind, Major: &d.major, Minor: &d.minor, Access: d.access})
	}
	return &with
}

// plan is the cgroup as a plan shows it.
func (g *group) plan(spec *specs.Spec) *plan.Cgroup {
	if g == nil {
		return nil
	}
	paths := g.Paths()
	p := &plan.Cgroup{Path: g.where(), Paths: paths, Unit: g.bus != nil}
	g.enter(p)
	if p.V2 && p.V1 == 0 { // a cgroup of version 1 is nobody's to divide
		p.Owner = owner(spec)
	}
	for _, w := range g.limits.Writes {
		f := plan.CgroupFileCheck{Path: fileOf(paths, w), Value: w.Value, Optional: w.Optional, Field: w.Field, Why: w.Why}
		if w.Else != nil {
			f.ElsePath, f.ElseValue = fileOf(paths, *w.Else), w.Else.Value
			f.Optional = f.Optional || w.Else.Optional
		}
		p.Writes = append(p.Writes, f)
	}
	if d := g.limits.Devices; d != nil {
		p.Devices = d.String()
	}
	return p
}

// fileOf is the file that a write goes to.
func fileOf(paths map[string]string, w limits.Write) string {
	if w.Version == limits.V2 {
		return paths[""] + "/" + w.File
	}
	return paths[w.Controller] + "/" + w.File
}

// recorded is the container's cgroup as its plan has it, from where the record says that it is.
func (c *Container) recorded(spec *specs.Spec) (*plan.Cgroup, error) {
	if len(c.state.Cgroups) == 0 {
		return nil, nil
	}
	h, err := c.runtime.cgroups()
	if err != nil {
		return nil, err
	}
	var resources *specs.LinuxResources
	if spec.Linux != nil {
		resources = spec.Linux.Resources
	}
	if c.state.Systemd != nil {
		resources = limits.Percents(resources)
	}
	l, err := limits.Compile(withDefaultDevices(resources), h.Controllers())
	if err != nil {
		return nil, err
	}
	g := &group{limits: l}
	if g.Group, err = h.Open(c.state.Cgroups, cgroup.Options{ID: c.ID}); err != nil {
		return nil, err
	}
	defer g.Close()
	p := g.plan(spec)
	if c.state.Systemd != nil {
		p.Unit, p.ByHand = true, true
	}
	return p, nil
}

// enter says how a process gets into the cgroup: by itself, where nothing keeps it from that.
func (g *group) enter(p *plan.Cgroup) {
	p.V1, p.V2 = g.Versions()
	p.ByHand = g.bus != nil || g.spare || p.V1 > 0 && os.Geteuid() != 0
}

// where is one directory of the cgroup, for people.
func (g *group) where() string {
	paths := g.Paths()
	for _, c := range []string{"pids", "memory", "name=systemd", ""} {
		if p, ok := paths[c]; ok {
			return p
		}
	}
	for _, p := range paths {
		return p
	}
	return ""
}

// owner is the uid that may divide the cgroup: root of a new user namespace, when its cgroup
// namespace is its own and the files are there to write to.
func owner(spec *specs.Spec) *uint32 {
	l := spec.Linux
	if l == nil {
		return nil
	}
	writable := slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool {
		return m.Type == "cgroup" && !slices.Contains(m.Options, "ro")
	})
	if !makesOwn(spec, specs.UserNamespace) || !makesOwn(spec, specs.CgroupNamespace) || !writable {
		return nil
	}
	for _, m := range l.UIDMappings {
		if m.ContainerID == 0 && m.Size > 0 {
			return &m.HostID
		}
	}
	return nil
}

// entrances opens what op has a process enter the cgroup by.
func (g *group) entrances(op *plan.OpenCgroup, fds []int) error {
	if g == nil {
		return fmt.Errorf("%s: nothing here can do that", op.Name())
	}
	tasks := fds
	if op.Into != plan.RegNone {
		into, err := g.Directory(op.Sub)
		if err != nil {
			return err
		}
		fds[0], tasks = into, fds[1:]
	}
	return g.Tasks(op.Sub, tasks)
}

// do does the cgroup's operations of a plan.
func (g *group) do(ctx context.Context, op plan.Op, pid int) error {
	if g == nil {
		return fmt.Errorf("%s: nothing here can do that", op.Name())
	}
	switch op := op.(type) {
	case *plan.MakeCgroup:
		err := g.Create(g.limits)
		g.made = err == nil && g.bus == nil
		return err
	case *plan.JoinCgroup:
		err := g.Join(pid, op.Sub)
		g.made = g.made || err == nil // systemd made it now; a unit that it refused is another container's
		return err
	case *plan.DelegateCgroup:
		return g.Delegate(int(op.UID))
	case *plan.LimitCgroup:
		_, err := g.Apply(limits.Limits{Guards: g.limits.Guards, Writes: g.limits.Writes})
		return err
	case *plan.DeviceRules:
		_, err := g.Apply(limits.Limits{Devices: g.limits.Devices})
		return err
	case *plan.RemoveCgroup:
		if !g.made {
			return nil // it is another container's
		}
		g.starved, _ = g.OOMKills() // what is not known is told as what it led to
		return g.Remove(ctx)
	}
	return fmt.Errorf("%s: nothing here can do that", op.Name())
}

// readGroup opens the container's cgroup for all but to put a process into it, to limit it, and to remove it: for these [Container.group] has systemd, which may not answer.
// It is nil when the container has none.
func (c *Container) readGroup() (*group, error) {
	if len(c.state.Cgroups) == 0 {
		return nil, nil
	}
	h, err := c.runtime.cgroups()
	if err != nil {
		return nil, err
	}
	g := &group{}
	if g.Group, err = h.Open(c.state.Cgroups, cgroup.Options{ID: c.ID}); err != nil {
		return nil, err
	}
	return g, nil
}

// group opens the container's cgroup together with the unit that systemd made of it; nil when it has none.
func (c *Container) group() (*group, error) {
	g, err := c.readGroup()
	if g == nil || err != nil {
		return g, err
	}
	if err := c.openUnit(g); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// openUnit finds the unit that systemd made of the container's cgroup, if it did, which was opened without it: where it is gone nobody need be asked.
func (c *Container) openUnit(g *group) error {
	if c.state.Systemd == nil {
		return nil
	}
	h, err := c.runtime.cgroups()
	if err != nil {
		return err
	}
	if err := g.openUnit(c, h); err != nil && g.Exists() {
		return err
	}
	return nil // a user's last log-out ends systemd, and all that it has made
}

func (g *group) openUnit(c *Container, h *cgroup.Host) (err error) {
	if g.bus, err = dial(c.state.UserSystemd); err != nil {
		return err
	}
	if g.unit, err = g.bus.Unit(systemd.Options{Path: *c.state.Systemd, ID: c.ID, Unified: h.Unified()}); err != nil {
		return err
	}
	by, err := h.Open(c.state.Cgroups, cgroup.Options{ID: c.ID, Unit: g.unit})
	if err != nil {
		return err
	}
	g.Group.Close()
	g.Group = by
	return nil
}

// A NoCgroupError is what a container without a cgroup cannot do, as an ordinary user's that was started without limits may have none.
type NoCgroupError struct{ ID, What string }

func (e *NoCgroupError) Error() string {
	return fmt.Sprintf("container %s has no cgroup: %s needs one", e.ID, e.What)
}

// withGroup runs f with the container's cgroup, without systemd.
func (c *Container) withGroup(what string, f func(g *group) error) error {
	return c.withOpened(c.readGroup, what, f)
}

func (c *Container) withOpened(open func() (*group, error), what string, f func(g *group) error) error {
	g, err := open()
	if err != nil {
		return err
	}
	if g == nil {
		return &NoCgroupError{c.ID, what}
	}
	defer g.Close()
	return f(g)
}
