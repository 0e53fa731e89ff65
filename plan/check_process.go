package plan

import (
	"fmt"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// SchedulerCheck asks how the process is scheduled, as [Scheduler] has it.
type SchedulerCheck struct {
	Policy                    uint32
	Flags                     uint64
	Nice                      int
	Priority                  uint32
	Runtime, Deadline, Period uint64 // nanoseconds
}

// Kind implements [Check].
func (*SchedulerCheck) Kind() string { return "scheduler" }

// Property implements [Check].
func (*SchedulerCheck) Property() string { return "scheduler" }

// Asked implements [Check].
func (c *SchedulerCheck) Asked() string {
	op := Scheduler(*c)
	return strings.TrimPrefix(op.String(), "sched_setattr ")
}

// IOPriorityCheck asks for the class and level of input and output.
type IOPriorityCheck struct{ Class, Level uint8 }

// Kind implements [Check].
func (*IOPriorityCheck) Kind() string { return "io priority" }

// Property implements [Check].
func (*IOPriorityCheck) Property() string { return "io priority" }

// Asked implements [Check].
func (c *IOPriorityCheck) Asked() string { return fmt.Sprintf("class %d level %d", c.Class, c.Level) }

// MemoryPolicyCheck asks from which nodes the process's memory comes, as [MemoryPolicy] has it.
type MemoryPolicyCheck struct {
	Mode  uint32
	Nodes []Range
}

// Kind implements [Check].
func (*MemoryPolicyCheck) Kind() string { return "memory policy" }

// Property implements [Check].
func (*MemoryPolicyCheck) Property() string { return "memory policy" }

// Asked implements [Check].
func (c *MemoryPolicyCheck) Asked() string { return words(c.Word(), rangesText("nodes", c.Nodes)) }

// Word is the mode as numa_maps(5) has it: "bind=static". It is empty for a mode that this
// program does not know.
func (c *MemoryPolicyCheck) Word() string {
	var name string
	const flags = abi.MpolFlagStaticNodes | abi.MpolFlagRelativeNodes | abi.MpolFlagNumaBalancing
	switch c.Mode &^ uint32(flags) {
	case abi.MpolDefault:
		return "default"
	case abi.MpolPreferred:
		name = "prefer"
	case abi.MpolBind:
		name = "bind"
	case abi.MpolInterleave:
		name = "interleave"
	case abi.MpolLocal:
		return "local"
	case abi.MpolPreferredMany:
		name = "prefer (many)"
	case abi.MpolWeightedInterleave:
		name = "weighted interleave"
	}
	switch {
	case c.Mode&uint32(abi.MpolFlagStaticNodes) != 0:
		name += "=static"
	case c.Mode&uint32(abi.MpolFlagRelativeNodes) != 0:
		name += "=relative"
	}
	return name
}

// AffinityCheck asks on which processors the process may run; none is all that its control
// group lets it have.
type AffinityCheck struct{ CPUs []Range }

// Kind implements [Check].
func (*AffinityCheck) Kind() string { return "affinity" }

// Property implements [Check].
func (*AffinityCheck) Property() string { return "processors" }

// Asked implements [Check].
func (c *AffinityCheck) Asked() string {
	if len(c.CPUs) == 0 {
		return "all of its control group"
	}
	return strings.TrimPrefix(rangesText("", c.CPUs), " ")
}

// PersonalityCheck asks for the execution domain.
type PersonalityCheck struct{ Domain uint64 }

// Kind implements [Check].
func (*PersonalityCheck) Kind() string { return "personality" }

// Property implements [Check].
func (*PersonalityCheck) Property() string { return "personality" }

// Asked implements [Check].
func (c *PersonalityCheck) Asked() string { return fmt.Sprintf("%#x", c.Domain) }

// SessionCheck asks that the container's first process leads a session of its own.
type SessionCheck struct{}

// Kind implements [Check].
func (*SessionCheck) Kind() string { return "session" }

// Property implements [Check].
func (*SessionCheck) Property() string { return "session" }

// Asked implements [Check].
func (*SessionCheck) Asked() string { return "its own" }

// TerminalCheck asks that the process's controlling terminal is a pseudoterminal.
type TerminalCheck struct{}

// Kind implements [Check].
func (*TerminalCheck) Kind() string { return "terminal" }

// Property implements [Check].
func (*TerminalCheck) Property() string { return "controlling terminal" }

// Asked implements [Check].
func (*TerminalCheck) Asked() string { return "a pseudoterminal" }

// SetgroupsCheck asks that setgroups(2) is denied in the user namespace.
type SetgroupsCheck struct{}

// Kind implements [Check].
func (*SetgroupsCheck) Kind() string { return "setgroups" }

// Property implements [Check].
func (*SetgroupsCheck) Property() string { return "setgroups" }

// Asked implements [Check].
func (*SetgroupsCheck) Asked() string { return "deny" }

// LabelCheck asks for the domain of a security module, in a file below the process's
// directory in /proc.
type LabelCheck struct{ Path, Label string }

// Kind implements [Check].
func (*LabelCheck) Kind() string { return "security label" }

// Property implements [Check].
func (*LabelCheck) Property() string { return "security label" }

// Asked implements [Check].
func (c *LabelCheck) Asked() string { return OneLine(c.Label) }

// LinkCheck asks for a symbolic link.
type LinkCheck struct{ Path, Target string }

// Kind implements [Check].
func (*LinkCheck) Kind() string { return "link" }

// Property implements [Check].
func (c *LinkCheck) Property() string { return c.Path }

// Asked implements [Check].
func (c *LinkCheck) Asked() string { return "link to " + c.Target }

// PropagationCheck asks how the mount at Path passes mounts on: mount_namespaces(7).
type PropagationCheck struct{ Path, Mode string }

// Kind implements [Check].
func (*PropagationCheck) Kind() string { return "propagation" }

// Property implements [Check].
func (c *PropagationCheck) Property() string { return "propagation of " + c.Path }

// Asked implements [Check].
func (c *PropagationCheck) Asked() string { return c.Mode }

// NetDeviceCheck asks for a network device in the container's network namespace. Name may
// have %d for any number. With Up it has to be up.
type NetDeviceCheck struct {
	Name string
	Up   bool
}

// Kind implements [Check].
func (*NetDeviceCheck) Kind() string { return "network device" }

// Property implements [Check].
func (c *NetDeviceCheck) Property() string { return "network device " + OneLine(c.Name) }

// Asked implements [Check].
func (c *NetDeviceCheck) Asked() string {
	if c.Up {
		return "up"
	}
	return "there"
}
