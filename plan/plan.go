package plan

import "fmt"

// A Side is one of the two sides of a container, as the glossary of
// runtime-spec names them.
type Side uint8

// The sides.
const (
	Runtime   Side = iota // the process that makes the container, on the host
	Container             // the container's first process, before its execve
)

// String returns "runtime" or "container".
func (s Side) String() string {
	if s == Container {
		return "container"
	}
	return "runtime"
}

// A Cause says why a step is in a plan: which field of config.json asked for
// it, and what put that field there, where that is known.
type Cause struct {
	Field  string // a JSON path in config.json, such as "mounts[0]"; may be empty
	Reason string // a flag ("--read-only") or a default ("default: own namespaces"); may be empty
}

// String returns the reason, or where there is none the field: "config.json mounts[0]".
func (c Cause) String() string {
	switch {
	case c.Reason != "":
		return c.Reason
	case c.Field != "":
		return "config.json " + c.Field
	}
	return "default"
}

// A Step is one kernel operation of a plan, and the reason it is there.
type Step struct {
	Op    Op    // what: an operation with its arguments, a value that prints and compares
	Side  Side  // where
	Cause Cause // why
	Check Check // how the kernel shows it afterwards; nil when it leaves nothing to see
	Undo  Op    // how the host gets rid of it; nil when a namespace takes it away
}

// A Plan is a container, or a process in one, as an ordered list of kernel
// operations: from the first change on the host to execve.
//
// Steps of one side run in the list's order. Steps of different sides may run
// at the same time; only a [Sync] orders them.
type Plan struct {
	Steps    []Step
	Warnings []string // what was asked for and is left out on this host, and why
}

// Inverse returns the operations that undo what the first n steps of p left on
// the host, last one first.
func (p Plan) Inverse(n int) []Op {
	var ops []Op
	for i := min(n, len(p.Steps)) - 1; i >= 0; i-- {
		if u := p.Steps[i].Undo; u != nil {
			ops = append(ops, u)
		}
	}
	return ops
}

// Checks returns what the kernel must show once p has run, with the number of
// the step (from 1) that each comes from. Limits of a cgroup are one check each.
func (p Plan) Checks() []NumberedCheck {
	var list []NumberedCheck
	for i, s := range p.Steps {
		if l, ok := s.Check.(*LimitsCheck); ok {
			for _, part := range l.parts() {
				list = append(list, NumberedCheck{N: i + 1, Cause: part.cause(s.Cause), Check: part})
			}
		} else if s.Check != nil {
			list = append(list, NumberedCheck{N: i + 1, Cause: s.Cause, Check: s.Check})
		}
	}
	return list
}

// A NumberedCheck is a check with the step it belongs to.
type NumberedCheck struct {
	N     int
	Cause Cause
	Check Check
}

// A Reg is a numbered register: a file descriptor (or a number) that one step
// makes and a later one uses. 0 is no register.
type Reg uint8

// Registers with a fixed meaning. Those made before the clone are the same on
// both sides; the others belong to the side that makes them.
const (
	RegNone      Reg = iota
	RegSync          // this side's end of the socket between both sides
	RegChildProc     // runtime: /proc/PID of the container's first process
	RegPIDFD         // runtime: its pidfd
	RegSelf          // container: /proc/self as the host's procfs shows it
	RegRoot          // container: the root of the container's file system
	RegDev           // container: its /dev
	RegPts           // container: its /dev/pts
	RegProc          // container: the host's procfs
	RegNull          // container: a null device of its own making
	RegMaster        // both: the terminal's master side
	RegSlave         // container: its slave side
	RegScratch       // container: the tmpfs of writable layers
	RegStub          // both: the program that makes the last execve in this one's place
	RegProcfs        // container: the mount at its /proc, whatever the path leads to by now
	RegSysfs         // container: the mount at its /sys
	RegCgroup        // runtime: the container's cgroup, where the clone is to start in it
	RegStart         // both: where a created container waits for its start
	RegEmpty         // container: what covers masked directories
	RegHost          // both: the host's root, in the container's mount namespace
	RegStarted       // both: where it says that it started, by closing it, or why it could not
	regFree          // the first that Compile gives out
	regTemp      Reg = 224
	// NumRegs is how many registers a side has.
	NumRegs = 240
	// MaxSources is how many mounts of a container with a user namespace can have a source outside of its root; others need registers, too.
	MaxSources = int(regTemp - regFree)
	// OwnSources is how many sources the container's side opens before its root is attached.
	OwnSources = MaxSources - spared
	spared     = 16 // registers for other steps
)

// String returns the register as texts show it: "fd:root", "fd:14".
func (r Reg) String() string {
	names := [...]string{"none", "sync", "childproc", "pidfd", "self", "root", "dev", "pts", "proc", "null", "master", "slave", "scratch", "stub", "procfs", "sysfs", "cgroup", "start", "empty", "host", "started"}
	if int(r) < len(names) {
		return "fd:" + names[r]
	}
	return fmt.Sprintf("fd:%d", uint8(r))
}
