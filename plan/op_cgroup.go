package plan

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// A Cgroup is a container's control group, as package cgroup has worked it out: cgroups(7).
type Cgroup struct {
	Path    string            // as people look for it: "/sys/fs/cgroup/pids/c1", or a path below each hierarchy
	Sub     string            // below it, where a process that joins it goes
	Paths   map[string]string // its directories by controller, version 2's by the empty name
	V1      int               // how many hierarchies of version 1 it is in
	V2      bool              // and whether it is in that of version 2: the process is cloned into it
	ByHand  bool              // the process is moved into it from outside: by systemd, whose unit it is, or with less than root's rights
	Writes  []CgroupFileCheck // values for its files, in their order
	Devices string            // the policy for device nodes; empty leaves them as they are
	Unit    bool              // systemd makes it, when the process joins
	Owner   *uint32           // the host's uid that may make cgroups below it; nil is nobody new
}

// nowhere tells that the container has a cgroup in no hierarchy, since the caller may make none and nothing asks for one: no step
// would do anything. With a limit there is one, which is to say that it cannot be.
func (g *Cgroup) nowhere() bool {
	return g.Path == "" && g.V1 == 0 && !g.V2 && !g.Unit && len(g.Writes) == 0
}

// member is the check that the process is in g; nil where no place is known.
func (g *Cgroup) member() Check {
	check := &CgroupCheck{Path: path.Join(g.Path, g.Sub)}
	for _, controller := range sortedKeys(g.Paths) {
		dir := g.Paths[controller]
		if !slices.ContainsFunc(check.Dirs, func(d CgroupDir) bool { return d.Dir == dir }) {
			check.Dirs = append(check.Dirs, CgroupDir{Controller: controller, Dir: dir})
		}
	}
	if len(check.Dirs) == 0 {
		return nil
	}
	return check
}

// rules is the check of the device rules, which are version 1's where that has them.
func (g *Cgroup) rules() Check {
	if dir, ok := g.Paths["devices"]; ok {
		return &DeviceRulesCheck{Dir: dir, Policy: g.Devices}
	}
	if dir, ok := g.Paths[""]; ok {
		return &DeviceRulesCheck{Dir: dir, BPF: true, Policy: g.Devices}
	}
	return nil
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

// OpenCgroup opens what a process needs to be in the cgroup, and in every hierarchy of it, without waiting for
// anything: see [EnterCgroup].
type OpenCgroup struct {
	hands
	Path  string
	Sub   string // below it
	Into  Reg    // version 2: its directory, for clone3 with CLONE_INTO_CGROUP; [RegNone] where there is no version 2
	Tasks []Reg  // version 1: the file tasks of each hierarchy
}

// Name implements [Op].
func (*OpenCgroup) Name() string { return "open cgroup" }

// String implements [Op].
func (o *OpenCgroup) String() string {
	s := "open cgroup " + path.Join(o.Path, o.Sub)
	if o.Into != RegNone {
		s += " = " + o.Into.String()
	}
	if len(o.Tasks) > 0 {
		s += ", its tasks = " + regsText(o.Tasks)
	}
	return s
}

// regsText is a list of registers: a run of them by its ends.
func regsText(regs []Reg) string {
	if n := len(regs); n > 2 && int(regs[n-1])-int(regs[0]) == n-1 {
		return fmt.Sprintf("%v-%d", regs[0], regs[n-1])
	}
	var s []string
	for _, r := range regs {
		s = append(s, r.String())
	}
	return strings.Join(s, " ")
}

// JoinCgroup moves the container's first process into the cgroup, from outside.
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

// Memory is how many bytes the limits leave the cgroup's processes, and false where they do not say.
func (l *LimitCgroup) Memory() (bytes uint64, ok bool) {
	for _, w := range l.Writes {
		f := strings.Fields(w)
		if len(f) < 2 || f[0] != "memory.max" && f[0] != "memory.limit_in_bytes" {
			continue
		}
		if n, err := strconv.ParseUint(f[1], 10, 64); err == nil {
			return n, true
		}
	}
	return 0, false
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

// EnterCgroup moves the process into a control group: cgroups(7). Into version 1's it gets by the file tasks, with 0 for
// itself, which moves the thread that writes. A number, or the file cgroup.procs, moves all threads of a process, under a lock
// that keeps every process of the machine from forking and that the kernel takes after a grace period of RCU: milliseconds, where
// this takes some ten microseconds. A process that has just been cloned is one thread.
type EnterCgroup struct {
	Files []Reg // cgroup.procs of version 2, or tasks of version 1, open for writing
}

// Name implements [Op].
func (*EnterCgroup) Name() string { return "enter cgroup" }

// String implements [Op].
func (e *EnterCgroup) String() string { return "write 0 to " + regsText(e.Files) }

func (e *EnterCgroup) lower(a *Asm) {
	self := a.mem([]byte("0"))
	for _, f := range e.Files {
		a.call(abi.CallWrite, fd(f), self, num(1))
		a.close(f) // before anything inside may look at what this process has
	}
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
func (c *compiler) makeCgroup() error {
	g := c.o.Cgroup
	if g == nil {
		return nil
	}
	if !c.o.Joined {
		cause := c.cause("linux.cgroupsPath")
		c.plan.Steps = append(c.plan.Steps, Step{Op: &MakeCgroup{Path: g.Path}, Cause: cause, Undo: &RemoveCgroup{Path: g.Path}})
		if !g.Unit {
			c.limitCgroup() // while it is empty: the process never runs without them, and no value is refused
		}
	}
	if !g.ByHand && (g.V1 > 0 || g.V2) {
		open := &OpenCgroup{Path: g.Path, Sub: g.Sub}
		if g.V2 {
			open.Into = RegCgroup
		}
		for range g.V1 {
			r, err := c.reg()
			if err != nil {
				return err
			}
			open.Tasks = append(open.Tasks, r)
		}
		c.tasks = open.Tasks
		c.outside(open, because("the process begins in its cgroup"), g.member())
	}
	if g.Owner != nil && !g.Unit {
		c.delegate()
	}
	return nil
}

// joinCgroup has the process in its cgroup, with its limits, before it goes on.
func (c *compiler) joinCgroup() {
	g := c.o.Cgroup
	switch {
	case g == nil:
		return
	case g.ByHand:
		c.outside(&JoinCgroup{Path: g.Path, Sub: g.Sub}, c.cause("linux.cgroupsPath"), g.member())
	case len(c.tasks) > 0:
		c.inside(&EnterCgroup{Files: c.tasks}, c.cause("linux.cgroupsPath"), nil)
	}
	if g.Unit && g.Owner != nil {
		c.delegate()
	}
	if g.Unit && !c.o.Joined {
		c.limitCgroup()
	}
}

func (c *compiler) delegate() {
	g := c.o.Cgroup
	c.outside(&DelegateCgroup{UID: *g.Owner}, because("root inside may divide its cgroup"), &CgroupOwnerCheck{Dir: g.Paths[""], UID: *g.Owner})
}

// limitCgroup adds limits, and rules for devices: all of them at once as the processes see it, since there are none yet, or
// the first one waits.
func (c *compiler) limitCgroup() {
	g := c.o.Cgroup
	if len(g.Writes) > 0 {
		check := &LimitsCheck{Files: slices.Clone(g.Writes)}
		for i := range check.Files {
			check.Files[i].Reason = c.cause(check.Files[i].Field).Reason
		}
		c.outside(&LimitCgroup{Writes: check.texts()}, check.why(c.cause("linux.resources")), check)
	}
	if g.Devices != "" {
		c.outside(&DeviceRules{Policy: g.Devices}, c.cause("linux.resources.devices"), g.rules())
	}
}
