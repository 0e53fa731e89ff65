package specjson

import (
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func (c *checker) process(p *specs.Process) {
	c.absolute(at("cwd"), p.Cwd)
	if len(p.Args) == 0 {
		c.refuse("args", "a program to run", "none", "name it, with its arguments")
	}
	c.plains(at("args"), p.Args)
	c.env(p.Env)
	c.console(p)
	c.user(&p.User)
	c.capabilities(p.Capabilities)
	c.rlimits(p.Rlimits)
	c.plain(at("apparmorProfile"), p.ApparmorProfile)
	c.plain(at("selinuxLabel"), p.SelinuxLabel)
	if score := p.OOMScoreAdj; score != nil && (*score < -1000 || *score > 1000) {
		c.refuse("oomScoreAdj", "an integer from -1000 to 1000", decimal(*score), "see proc_pid_oom_score_adj(5)")
	}
	if p.Scheduler != nil {
		c.scheduler(p.Scheduler)
	}
	c.ioPriority(p.IOPriority)
	if cpus := p.ExecCPUAffinity; cpus != nil {
		c.numberList(at("execCPUAffinity.initial"), cpus.Initial)
		c.numberList(at("execCPUAffinity.final"), cpus.Final)
	}
}

// env wants what environ(7) has: a name, an equals sign, a value.
func (c *checker) env(env []string) {
	for i, s := range env {
		if strings.IndexByte(s, '=') < 1 {
			c.refuse(place{"env", i, ""}.String(), "NAME=value", quote(s), "add the name or the '='")
		}
		c.plain(place{"env", i, ""}, s)
	}
}

// console checks a size that struct winsize can hold, if there is a terminal: without
// one the size must be ignored.
func (c *checker) console(p *specs.Process) {
	const most = 1<<16 - 1
	if box := p.ConsoleSize; p.Terminal && box != nil && (box.Height > most || box.Width > most) {
		c.refuse("consoleSize", "at most "+strconv.Itoa(most)+" rows and columns",
			natural(box.Height)+" and "+natural(box.Width), "remove it, or set the size of the terminal")
	}
}

// noID is (uid_t)-1, which no process can have: it means "leave it" to setresuid(2).
const noID = 1<<32 - 1

func (c *checker) id(p place, id uint32) {
	if id == noID {
		c.refuse(p.String(), "an id up to 4294967294", natural(id), "this one means no id at all to the kernel")
	}
}

func (c *checker) user(u *specs.User) {
	c.id(at("user.uid"), u.UID)
	c.id(at("user.gid"), u.GID)
	for i, gid := range u.AdditionalGids {
		c.id(place{"user.additionalGids", i, ""}, gid)
	}
	if u.Umask != nil && *u.Umask > 0o777 {
		c.refuse("user.umask", "at most 511, which is 0777", natural(*u.Umask), "the number is decimal: 18 is 0022")
	}
}

// mappedUser wants ids that the new user namespace has; for a joined one only
// the host knows.
func (c *checker) mappedUser(u *specs.User, l *specs.Linux) {
	if c.ns[abi.NSUser] != created {
		return
	}
	c.mapped(at("user.uid"), u.UID, "linux.uidMappings", l.UIDMappings)
	c.mapped(at("user.gid"), u.GID, "linux.gidMappings", l.GIDMappings)
	for i, gid := range u.AdditionalGids {
		c.mapped(place{"user.additionalGids", i, ""}, gid, "linux.gidMappings", l.GIDMappings)
	}
}

func (c *checker) mapped(p place, id uint32, where string, list []specs.LinuxIDMapping) {
	if len(list) == 0 {
		return // said elsewhere
	}
	for i := range list {
		if m := &list[i]; id >= m.ContainerID && id-m.ContainerID < m.Size {
			return
		}
	}
	c.refuse(p.String(), "an id that "+where+" maps", natural(id), "extend the mapping, or use another id")
}

// capabilities warns of what cannot be granted. config.md wants no more: a runtime
// SHOULD NOT fail.
func (c *checker) capabilities(caps *specs.LinuxCapabilities) {
	if caps == nil {
		return
	}
	// A name that the kernel does not know, and what cannot be raised, are warnings of the plan.
	permitted, effective := capabilitySet(caps.Permitted), capabilitySet(caps.Effective)
	if more := effective &^ permitted; more != 0 {
		c.warn("capabilities.effective", "only what is permitted as well", more.String(), "it is not granted")
	}
}

func capabilitySet(names []string) abi.CapSet {
	var set abi.CapSet
	for _, name := range names {
		if number, ok := capability(name); ok {
			set = set.With(number)
		}
	}
	return set
}

// capability finds a capability by exactly its name. Comparing with all is quick:
// most differ in length.
func capability(name string) (abi.Capability, bool) {
	for number := abi.Capability(0); number <= abi.LastCap; number++ {
		if number.String() == name {
			return number, true
		}
	}
	return 0, false
}

func (c *checker) rlimits(limits []specs.POSIXRlimit) {
	var met uint64
	for i := range limits {
		l := &limits[i]
		number, ok := rlimit(l.Type)
		switch {
		case !ok:
			c.refuse(place{"rlimits", i, "type"}.String(), "a resource of getrlimit(2), such as RLIMIT_NOFILE", quote(l.Type), "correct or remove it")
		case met>>number&1 == 1:
			c.refuse(place{"rlimits", i, "type"}.String(), "each resource once", "a second "+l.Type, "remove one of them")
		default:
			met |= 1 << number
		}
		if l.Soft > l.Hard {
			c.refuse(place{"rlimits", i, "soft"}.String(), "at most the hard limit, "+natural(l.Hard), natural(l.Soft), "lower it, or raise hard")
		}
	}
}

// rlimit finds a resource by exactly its name.
func rlimit(name string) (abi.Rlimit, bool) {
	for _, number := range abi.Rlimits() {
		if number.String() == name {
			return number, true
		}
	}
	return 0, false
}

// scheduler wants what sched_setattr(2) takes.
func (c *checker) scheduler(s *specs.Scheduler) {
	switch s.Policy {
	case specs.SchedOther, specs.SchedBatch, specs.SchedIdle:
		c.timeless(s)
		c.noPriority(s)
	case specs.SchedFIFO, specs.SchedRR:
		c.timeless(s)
		// A policy that stays as it was is the caller's, which decides what priority the kernel takes.
		if !slices.Contains(s.Flags, specs.SchedFlagKeepPolicy) && (s.Priority < 1 || s.Priority > 99) {
			c.refuse("scheduler.priority", "an integer from 1 to 99 for "+string(s.Policy), decimal(s.Priority), "see sched(7)")
		}
	case specs.SchedDeadline:
		c.noPriority(s)
		c.deadline(s)
	case specs.SchedISO:
		c.refuse("scheduler.policy", "a policy that Linux has", `"SCHED_ISO"`, "it was never part of Linux: use SCHED_OTHER or SCHED_IDLE")
	default:
		c.refuse("scheduler.policy", "one of SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO, SCHED_RR and SCHED_DEADLINE", quote(string(s.Policy)),
			"correct it, or remove scheduler")
	}
	if s.Nice < -20 || s.Nice > 19 {
		c.refuse("scheduler.nice", "an integer from -20 to 19", decimal(s.Nice), "see sched(7)")
	}
	for i, flag := range s.Flags {
		switch flag {
		case specs.SchedFlagResetOnFork, specs.SchedFlagReclaim, specs.SchedFlagDLOverrun, specs.SchedFlagKeepPolicy,
			specs.SchedFlagKeepParams, specs.SchedFlagUtilClampMin, specs.SchedFlagUtilClampMax:
		default:
			c.refuse(place{"scheduler.flags", i, ""}.String(), "a flag such as SCHED_FLAG_RESET_ON_FORK", quote(string(flag)), "correct or remove it")
		}
	}
}

func (c *checker) noPriority(s *specs.Scheduler) {
	if s.Priority != 0 {
		c.refuse("scheduler.priority", "0 for "+string(s.Policy), decimal(s.Priority), "set nice instead, or use SCHED_FIFO or SCHED_RR")
	}
}

// timeless refuses the three times that belong to SCHED_DEADLINE.
func (c *checker) timeless(s *specs.Scheduler) {
	if s.Runtime != 0 || s.Deadline != 0 || s.Period != 0 {
		c.refuse("scheduler.policy", "SCHED_DEADLINE with runtime, deadline or period", quote(string(s.Policy)), "change the policy, or remove the three")
	}
}

// deadline wants what the kernel's __checkparam_dl does: the runtime at least a unit
// of 1024 ns, nothing with the highest bit, and runtime <= deadline <= period.
func (c *checker) deadline(s *specs.Scheduler) {
	const least, most = 1024, 1<<63 - 1
	period := s.Period
	if period == 0 {
		period = s.Deadline
	}
	of := func(name string, n uint64) string { return name + " (" + natural(n) + ")" }
	between := " must be between " + strconv.Itoa(least) + " and " + strconv.FormatInt(most, 10)
	var wrong string // as crun says it
	switch {
	case s.Runtime == 0:
		wrong = "requires `runtime`"
	case s.Deadline == 0:
		wrong = "requires `deadline`"
	case s.Runtime < least || s.Runtime > most:
		wrong = of("runtime", s.Runtime) + between
	case s.Runtime > s.Deadline:
		wrong = of("runtime", s.Runtime) + " must be <= " + of("deadline", s.Deadline)
	case s.Deadline > period:
		wrong = of("deadline", s.Deadline) + " must be <= " + of("period", period)
	case s.Deadline > most || period > most:
		wrong = of("period", period) + between
	default:
		return
	}
	c.refuse("scheduler", "1024 <= runtime <= deadline <= period",
		"runtime "+natural(s.Runtime)+", deadline "+natural(s.Deadline)+", period "+natural(s.Period),
		"sched_setattr: `SCHED_DEADLINE` "+wrong+"; all are nanoseconds, see sched(7)")
}

func (c *checker) ioPriority(io *specs.LinuxIOPriority) {
	if io == nil {
		return
	}
	known := slices.Contains([]specs.IOPriorityClass{specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE}, io.Class)
	c.word(at("ioPriority.class"), string(io.Class), known, "one of IOPRIO_CLASS_RT, IOPRIO_CLASS_BE and IOPRIO_CLASS_IDLE", "see ioprio_set(2)")
	if io.Priority < 0 || io.Priority > 7 {
		c.refuse("ioPriority.priority", "an integer from 0 to 7", decimal(io.Priority), "0 is the highest")
	}
}

// numberList wants numbers and ranges of them: "0-3,7". It may be empty.
func (c *checker) numberList(p place, s string) {
	if _, ok := abi.ParseList(s); !ok {
		c.refuse(p.String(), listWanted(), quote(s), "correct or remove it")
	}
}

// listWanted says what a list of processors or memory nodes has to be.
func listWanted() string {
	return "numbers and ranges up to " + decimal(abi.MaxListed) + `, such as "0-3,7"`
}

// countListed counts what a list names.
func countListed(s string) (n int) {
	list, _ := abi.ParseList(s)
	for _, r := range list {
		n += int(r.Last-r.First) + 1
	}
	return n
}
