package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// A Cgroup is a container's control group, as package cgroup has worked it out: cgroups(7).
type Cgroup struct {
	Path    string            // as people look for it: "/sys/fs/cgroup/pids/c1", or a path below each hierarchy
	Paths   map[string]string // its directories by controller, version 2's by the empty name
	Sub     string            // below it, where a process that joins it goes
	Unified bool              // version 2 alone: the process is cloned into it
	Writes  []string          // values for its files, "pids.max 100", in their order
	Devices string            // the policy for device nodes; empty leaves them as they are
	Unit    bool              // systemd makes it, when the process joins
	Owner   *uint32           // the host's uid that may make cgroups below it; nil is nobody new
}

// MakeCgroup makes the container's cgroup in every hierarchy of the host: cgroups(7).
type MakeCgroup struct {
	hands
	Path string
}

// Name implements [Op].
func (*MakeCgroup) Name() string { return "make cgroup" }

// String implements [Op].
func (m *MakeCgroup) String() string { return "mkdir cgroup " + m.Path }

// JoinCgroup moves the container's first process into the cgroup.
type JoinCgroup struct {
	hands
	Path string
	Sub  string // below it
}

// Name implements [Op].
func (*JoinCgroup) Name() string { return "join cgroup" }

// String implements [Op].
func (j *JoinCgroup) String() string { return "write cgroup.procs of " + path.Join(j.Path, j.Sub) }

// LimitCgroup writes values to the files of the cgroup.
type LimitCgroup struct {
	hands
	Writes []string // file and value
}

// Name implements [Op].
func (*LimitCgroup) Name() string { return "limit cgroup" }

// String implements [Op].
func (l *LimitCgroup) String() string { return "write " + strings.Join(l.Writes, ", ") }

// DeviceRules sets which device nodes the processes of the cgroup may use: a list of version
// 1, a BPF program of version 2.
type DeviceRules struct {
	hands
	Policy string
}

// Name implements [Op].
func (*DeviceRules) Name() string { return "device rules" }

// String implements [Op].
func (d *DeviceRules) String() string { return "devices: " + d.Policy }

// DelegateCgroup gives the cgroup to a user, so that root of the container's user namespace can
// make cgroups below it: cgroups(7), "Delegation".
type DelegateCgroup struct {
	hands
	UID uint32 // on the host
}

// Name implements [Op].
func (*DelegateCgroup) Name() string { return "delegate cgroup" }

// String implements [Op].
func (d *DelegateCgroup) String() string { return fmt.Sprintf("chown cgroup %d", d.UID) }

// EnterCgroup moves the process into a control group of version 2, whose cgroup.procs
// is open: cgroups(7).
type EnterCgroup struct{ Procs Reg }

// Name implements [Op].
func (*EnterCgroup) Name() string { return "enter cgroup" }

// String implements [Op].
func (e *EnterCgroup) String() string { return "write 0 to cgroup.procs " + e.Procs.String() }

func (e *EnterCgroup) lower(a *Asm) {
	self := []byte("0")
	a.call(abi.CallWrite, fd(e.Procs), a.mem(self), size(self))
}

// RemoveCgroup removes the cgroup, once nothing is left in it.
type RemoveCgroup struct {
	hands
	Path string
}

// Name implements [Op].
func (*RemoveCgroup) Name() string { return "remove cgroup" }

// String implements [Op].
func (r *RemoveCgroup) String() string { return "rmdir cgroup " + r.Path }

// makeCgroup makes the cgroup, before there is a process.
func (c *compiler) makeCgroup() {
	g := c.o.Cgroup
	if g == nil {
		return
	}
	if !c.o.Joined {
		cause := c.cause("linux.cgroupsPath")
		c.plan.Steps = append(c.plan.Steps, Step{Op: &MakeCgroup{Path: g.Path}, Cause: cause, Undo: &RemoveCgroup{Path: g.Path}})
		if !g.Unit {
			c.limitCgroup() // while it is empty: the process never runs without them, and no value is refused
		}
	}
	if g.Unified {
		c.host1(&OpenFD{Path: path.Join(g.Paths[""], g.Sub), Flags: c.host.Arch.OpenFlags().Directory, Out: RegCgroup}, because("the process begins in its cgroup"), nil)
	}
}

// besides reports whether the process can be moved into its cgroup while it builds: the first move waits for the
// kernel, 0.7 ms at least. Not where its cgroup namespace is to begin there, not where a copy of it goes on, which may be made just
// before, and not without a meeting later.
func (c *compiler) besides() bool {
	g := c.o.Cgroup
	return g != nil && !g.Unified && !g.Unit && !slices.Contains(c.late, abi.NSCgroup) && !c.forks() && (c.o.Foreground || c.o.Wait != "")
}

// joinCgroup has the process in its cgroup, with its limits, before it goes on, or while it builds.
func (c *compiler) joinCgroup(besides bool) {
	g := c.o.Cgroup
	if g == nil || besides != c.besides() {
		return
	}
	if !g.Unified {
		c.host1(&JoinCgroup{Path: g.Path, Sub: g.Sub}, c.cause("linux.cgroupsPath"), nil)
	}
	if g.Owner != nil {
		c.host1(&DelegateCgroup{UID: *g.Owner}, because("root inside may divide its cgroup"), nil)
	}
	if g.Unit && !c.o.Joined {
		c.limitCgroup()
	}
}

// limitCgroup adds limits, and rules for devices: all of them at once as the processes see it, since there are none yet, or
// the first one waits.
func (c *compiler) limitCgroup() {
	g := c.o.Cgroup
	if len(g.Writes) > 0 {
		c.host1(&LimitCgroup{Writes: g.Writes}, c.cause("linux.resources"), nil)
	}
	if g.Devices != "" {
		c.host1(&DeviceRules{Policy: g.Devices}, c.cause("linux.resources.devices"), nil)
	}
}
