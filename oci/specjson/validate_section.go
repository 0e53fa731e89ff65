package specjson

import (
	"slices"
	"strings"

	"github.com/kakuri/kakuri/abi"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func (c *checker) linux(l *specs.Linux) {
	c.userMappings(l)
	c.sysctls(l)
	if l.Resources != nil {
		c.prefix = "linux.resources"
		c.resources(l.Resources)
		c.prefix = "linux"
	}
	c.cgroupsPath(l.CgroupsPath)
	c.devices(l.Devices)
	c.netDevices(l.NetDevices)
	if l.Seccomp != nil {
		c.seccomp(l.Seccomp)
	}
	c.views(l)
	c.plain(at("mountLabel"), l.MountLabel)
	if l.IntelRdt != nil {
		c.intelRdt(l.IntelRdt)
	}
	if l.MemoryPolicy != nil {
		c.memoryPolicy(l.MemoryPolicy)
	}
	c.personality(l.Personality)
	c.timeOffsets(l.TimeOffsets)
}

// oneLine refuses a text that would be several lines in the file it is written to.
func (c *checker) oneLine(p place, s string) {
	if strings.ContainsAny(s, "\n\x00") {
		c.refuse(p.String(), "one line", quote(s), "remove the line break or NUL character")
	}
}

// cgroupsPath refuses a way out of the directory that the runtime was given.
func (c *checker) cgroupsPath(path string) {
	c.plain(at("cgroupsPath"), path)
	for part := range strings.SplitSeq(path, "/") {
		if part == ".." {
			c.refuse("cgroupsPath", "a path without ..", quote(path), "name the cgroup from the top")
			return
		}
	}
}

// views checks how the container sees its own files.
func (c *checker) views(l *specs.Linux) {
	if !c.has(abi.NSMount) {
		for _, field := range [3]struct {
			name string
			set  bool
		}{{"maskedPaths", len(l.MaskedPaths) > 0}, {"readonlyPaths", len(l.ReadonlyPaths) > 0}, {"rootfsPropagation", l.RootfsPropagation != ""}} {
			if field.set {
				c.refuse(field.name, "a mount namespace to apply it in", "none", `add {"type": "mount"} to linux.namespaces, or remove it`)
			}
		}
	}
	for i, path := range l.MaskedPaths {
		c.absolute(place{"maskedPaths", i, ""}, path)
	}
	for i, path := range l.ReadonlyPaths {
		c.absolute(place{"readonlyPaths", i, ""}, path)
	}
	switch l.RootfsPropagation {
	case "", "shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable":
	default:
		c.refuse("rootfsPropagation", "one of shared, slave, private and unbindable, or with r before it", quote(l.RootfsPropagation), "see mount_namespaces(7)")
	}
}

// intelRdt refuses what would name another directory of resctrl, or add lines to schemata.
func (c *checker) intelRdt(r *specs.LinuxIntelRdt) {
	if id := r.ClosID; id == "." || id == ".." || id != "/" && strings.Contains(id, "/") || strings.ContainsAny(id, "\n\x00") {
		c.refuse("intelRdt.closID", "one name, or / for the default class", quote(id), "name a directory right below the resctrl file system")
	}
	c.oneLine(at("intelRdt.l3CacheSchema"), r.L3CacheSchema)
	c.oneLine(at("intelRdt.memBwSchema"), r.MemBwSchema)
	for i, line := range r.Schemata {
		c.oneLine(place{"intelRdt.schemata", i, ""}, line)
	}
	if r.MemBwSchema != "" && !strings.HasPrefix(r.MemBwSchema, "MB:") {
		c.refuse("intelRdt.memBwSchema", "MB: at the beginning", quote(r.MemBwSchema), "see config-linux.md, IntelRdt")
	}
}

// memoryPolicy wants what set_mempolicy(2) takes.
func (c *checker) memoryPolicy(m *specs.LinuxMemoryPolicy) {
	if _, ok := abi.ParseList(m.Nodes); !ok {
		c.refuse("memoryPolicy.nodes", listWanted(), quote(m.Nodes), "invalid memory policy nodes: correct or remove them")
	}
	switch m.Mode {
	case specs.MpolDefault, specs.MpolLocal:
		if m.Nodes != "" {
			c.refuse("memoryPolicy.nodes", "no nodes for "+string(m.Mode), quote(m.Nodes), "remove them, or use MPOL_BIND: mode requires 0 nodes but got "+decimal(countListed(m.Nodes)))
		}
	case specs.MpolBind, specs.MpolInterleave, specs.MpolWeightedInterleave, specs.MpolPreferredMany:
		if m.Nodes == "" {
			c.refuse("memoryPolicy.nodes", "nodes for "+string(m.Mode), `""`, `name them, such as "0-1"`)
		}
	case specs.MpolPreferred:
	default:
		c.refuse("memoryPolicy.mode", "a mode such as MPOL_BIND", quote(string(m.Mode)), "invalid memory policy mode: see set_mempolicy(2)")
	}
	for i, flag := range m.Flags {
		switch flag {
		case specs.MpolFNumaBalancing, specs.MpolFRelativeNodes, specs.MpolFStaticNodes:
		default:
			c.refuse(place{"memoryPolicy.flags", i, ""}.String(), "a flag such as MPOL_F_STATIC_NODES", quote(string(flag)), "invalid memory policy flag: see set_mempolicy(2)")
		}
	}
	if slices.Contains(m.Flags, specs.MpolFRelativeNodes) && slices.Contains(m.Flags, specs.MpolFStaticNodes) {
		c.refuse("memoryPolicy.flags", "one of MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES", "both", "remove one of them")
	}
}

func (c *checker) personality(p *specs.LinuxPersonality) {
	if p == nil {
		return
	}
	c.word(at("personality.domain"), string(p.Domain), p.Domain == specs.PerLinux || p.Domain == specs.PerLinux32, "LINUX or LINUX32", "see personality(2)")
	if len(p.Flags) > 0 {
		c.refuse("personality.flags", "none", quote(string(p.Flags[0])), "runtime-spec defines no flags: remove them")
	}
}
