package plan

import (
	"fmt"
	"path"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Hooks lists the hooks of a spec that are due at a point of the container's life, in their
// order: "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop".
func Hooks(spec *specs.Spec, point string) []*RunHook {
	if spec.Hooks == nil {
		return nil
	}
	list := make([]*RunHook, 0, 4)
	for i, h := range hookList(spec.Hooks, point) {
		op := &RunHook{Point: point, N: i, Path: h.Path, Args: h.Args, Env: h.Env, Inside: point == "createContainer" || point == "startContainer"}
		if len(op.Args) == 0 {
			op.Args = []string{h.Path}
		}
		if h.Timeout != nil {
			op.Timeout = *h.Timeout
		}
		// runtime-spec says nothing of this; runc has always done it, and hooks rely on it.
		if point == "startContainer" && len(op.Env) == 0 && spec.Process != nil {
			op.Env = spec.Process.Env
		}
		list = append(list, op)
	}
	return list
}

// HookPoints are the points of a container's life at which hooks run, in their order.
func HookPoints() []string {
	return []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
}

func hookList(h *specs.Hooks, point string) []specs.Hook {
	switch point {
	case "prestart":
		//lint:ignore SA1019 deprecated, and still what dockerd writes
		return h.Prestart
	case "createRuntime":
		return h.CreateRuntime
	case "createContainer":
		return h.CreateContainer
	case "startContainer":
		return h.StartContainer
	case "poststart":
		return h.Poststart
	case "poststop":
		return h.Poststop
	}
	return nil
}

// hooks has the container's side wait, when all is mounted and before its root is the root, for
// the hooks that belong there.
func (c *compiler) hooks() error {
	if c.o.Joined {
		return nil
	}
	began := false
	for _, point := range HookPoints() {
		for _, h := range Hooks(c.spec, point) {
			field := fmt.Sprintf("hooks.%s[%d]", point, h.N)
			if err := checkHook(h, field); err != nil {
				return err
			}
			if point == "startContainer" || point == "poststart" || point == "poststop" {
				continue // of the start, and the end
			}
			if !began {
				if err := c.beforeHooks(); err != nil {
					return err
				}
				began = true
			}
			c.outside(h, c.cause(field), nil)
		}
	}
	if began {
		c.outside(&Sync{From: Runtime, What: "hooks done"}, because("the container's side waits until then"), nil)
	}
	if c.openForHooks() {
		c.undumpable()
	}
	return nil
}

// overBundle is the directory in which the caller has its containers.
func (c *compiler) overBundle() string { return path.Dir(path.Dir(c.o.Bundle)) }

// beforeHooks has the runtime's side wait until all is mounted. Where the root is no directory of the host, hooks inside find it, and a config.json, in a bundle that is
// made for them: in the directory that the caller has its containers in, of which they have no other use.
func (c *compiler) beforeHooks() error {
	why := because("hooks come before the root is the root")
	sync := &Sync{From: Container, What: "mounts made"}
	if c.o.Root == nil {
		c.inside(sync, why, nil)
		return nil
	}
	config, err := c.reg()
	if err != nil {
		return err
	}
	why = because("hooks look for the container's files in its bundle")
	c.inside(&HookBundle{Over: c.overBundle(), Place: c.hookPlace, Root: c.rootPath(), Scratch: c.scratch(), Config: config}, why, nil)
	sync.FDs = []Reg{config}
	c.inside(sync, why, nil)
	c.outside(&WriteConfig{FD: config}, why, nil)
	return nil
}

// checkHook refuses what config.md, "POSIX-platform Hooks", does not allow.
func checkHook(h *RunHook, field string) error {
	if !path.IsAbs(h.Path) {
		return specErr(field+".path", "%q is not absolute", h.Path)
	}
	if err := fits(field+".path", h.Path); err != nil {
		return err
	}
	if h.Timeout < 0 {
		return specErr(field+".timeout", "%d seconds are less than none", h.Timeout)
	}
	return nil
}

// hooked reports whether hooks run before the root is the root.
func (c *compiler) hooked() bool {
	return len(Hooks(c.spec, "prestart"))+len(Hooks(c.spec, "createRuntime"))+len(Hooks(c.spec, "createContainer")) > 0
}

func (c *compiler) undumpable() {
	c.inside(&Undumpable{}, because("default: nothing inside may look at or into this process"), nil)
}

// openForHooks reports whether this process has to be open to its user until hooks have joined
// its namespaces: the kernel asks others than root for that. Nothing of the container
// runs until then, unless it joins processes that are there.
func (c *compiler) openForHooks() bool {
	joined := c.joinOf(abi.NSPID) != RegNone
	return len(Hooks(c.spec, "createContainer")) > 0 && !c.o.Joined && !joined && !c.host.Caps.Has(abi.CapSysPtrace)
}

// netDevices has the host's devices moved into the container's network namespace, which it
// is in by now.
func (c *compiler) netDevices() error {
	if len(c.linux.NetDevices) == 0 {
		return nil
	}
	if !c.own[abi.NSNetwork] {
		return specErr("linux.netDevices", "devices are moved to a network namespace, and the container has none of its own")
	}
	c.inside(&Sync{From: Container, What: "in the network namespace"}, because("network devices are moved there"), nil)
	for _, name := range sortedKeys(c.linux.NetDevices) {
		to := c.linux.NetDevices[name].Name
		if to == "" {
			to = name
		}
		c.outside(&MoveNetDevice{Device: name, To: to}, c.cause("linux.netDevices."+name), &NetDeviceCheck{Name: to, Up: true})
	}
	c.outside(&Sync{From: Runtime, What: "network devices moved"}, because("the container's side waits until then"), nil)
	return nil
}

// resctrl puts the process into its group of the resctrl file system.
func (c *compiler) resctrl() error {
	r := c.linux.IntelRdt
	if r == nil {
		return nil
	}
	op := &JoinResctrl{Group: r.ClosID, Schemata: schemata(r)}
	var undo Op
	if r.ClosID == "" {
		if c.o.ID == "" {
			return specErr("linux.intelRdt.closID", "a container without an ID has to name its class")
		}
		op.Group = c.o.ID
	}
	if r.EnableMonitoring {
		op.Monitor = c.o.ID
	}
	if c.o.Joined { // where the first process is
		op.Schemata = nil
		c.outside(op, c.cause("linux.intelRdt"), &ResctrlCheck{Group: op.Group, Monitor: op.Monitor})
		return nil
	}
	op.Make = r.ClosID == "" || len(op.Schemata) > 0 && r.ClosID != "/"
	if u := RemoveResctrlOf(c.spec, c.o.ID); u != nil {
		undo = u
	}
	c.plan.Steps = append(c.plan.Steps, Step{Op: op, Cause: c.cause("linux.intelRdt"), Undo: undo, Check: &ResctrlCheck{Group: op.Group, Monitor: op.Monitor}})
	return nil
}

// RemoveResctrlOf is what removes the groups that a container was given in the resctrl file
// system, nil when it was given none of its own: a class that has a name stays.
func RemoveResctrlOf(spec *specs.Spec, id string) *RemoveResctrl {
	if spec.Linux == nil || spec.Linux.IntelRdt == nil {
		return nil
	}
	r := spec.Linux.IntelRdt
	op := &RemoveResctrl{Of: r.ClosID}
	if r.ClosID == "" {
		op.Group, op.Of = id, id
	}
	if r.EnableMonitoring {
		op.Monitor = id
	}
	if op.Group == "" && op.Monitor == "" {
		return nil
	}
	return op
}

// schemata are the lines in the order that runtime-spec wants.
func schemata(r *specs.LinuxIntelRdt) []string {
	var lines []string
	for _, line := range append([]string{r.L3CacheSchema, r.MemBwSchema}, r.Schemata...) {
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// A wordValue is a word of config.json, and its number for the kernel.
type wordValue struct {
	word  string
	value uint64
}

var (
	schedPolicies = [...]wordValue{
		{"SCHED_OTHER", abi.SchedOther}, {"SCHED_FIFO", abi.SchedFIFO}, {"SCHED_RR", abi.SchedRR}, {"SCHED_BATCH", abi.SchedBatch},
		{"SCHED_ISO", abi.SchedISO}, {"SCHED_IDLE", abi.SchedIdle}, {"SCHED_DEADLINE", abi.SchedDeadline},
	}
	schedFlags = [...]wordValue{
		{"SCHED_FLAG_RESET_ON_FORK", abi.SchedFlagResetOnFork}, {"SCHED_FLAG_RECLAIM", abi.SchedFlagReclaim}, {"SCHED_FLAG_DL_OVERRUN", abi.SchedFlagDLOverrun},
		{"SCHED_FLAG_KEEP_POLICY", abi.SchedFlagKeepPolicy}, {"SCHED_FLAG_KEEP_PARAMS", abi.SchedFlagKeepParams},
		{"SCHED_FLAG_UTIL_CLAMP_MIN", abi.SchedFlagUtilClampMin}, {"SCHED_FLAG_UTIL_CLAMP_MAX", abi.SchedFlagUtilClampMax},
	}
	ioClasses = [...]wordValue{{"IOPRIO_CLASS_RT", abi.IoprioClassRT}, {"IOPRIO_CLASS_BE", abi.IoprioClassBE}, {"IOPRIO_CLASS_IDLE", abi.IoprioClassIdle}}
	mpolModes = [...]wordValue{
		{"MPOL_DEFAULT", abi.MpolDefault}, {"MPOL_PREFERRED", abi.MpolPreferred}, {"MPOL_BIND", abi.MpolBind}, {"MPOL_INTERLEAVE", abi.MpolInterleave},
		{"MPOL_LOCAL", abi.MpolLocal}, {"MPOL_PREFERRED_MANY", abi.MpolPreferredMany}, {"MPOL_WEIGHTED_INTERLEAVE", abi.MpolWeightedInterleave},
	}
	mpolFlags = [...]wordValue{
		{"MPOL_F_NUMA_BALANCING", abi.MpolFlagNumaBalancing}, {"MPOL_F_RELATIVE_NODES", abi.MpolFlagRelativeNodes}, {"MPOL_F_STATIC_NODES", abi.MpolFlagStaticNodes},
	}
)

func findWord(list []wordValue, field, word string) (uint64, error) {
	for _, w := range list {
		if w.word == word {
			return w.value, nil
		}
	}
	return 0, specErr(field, "%q is none of %s", word, strings.Join(wordsOf(list), ", "))
}

func wordsOf(list []wordValue) []string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = w.word
	}
	return out
}

// scheduling sets processor time, input and output, and where memory comes from.
func (c *compiler) scheduling() error {
	p := c.spec.Process
	// Before the scheduler: SCHED_DEADLINE is bound to all processors.
	if a := p.ExecCPUAffinity; a != nil && c.o.Joined && a.Initial+a.Final != "" {
		if err := c.affinity(Container, "process.execCPUAffinity.final", a.Final); err != nil {
			return err
		}
	} else if c.o.AllCPUs {
		// The kernel takes those of the control group, and keeps the others in mind.
		c.inside(&Affinity{CPUs: []Range{{First: 0, Last: maxCPU}}, Try: true}, because("default: not bound to the caller's processors"), &AffinityCheck{})
	}
	if s := p.Scheduler; s != nil {
		if err := c.scheduler(s); err != nil {
			return err
		}
	}
	if io := p.IOPriority; io != nil {
		class, err := findWord(ioClasses[:], "process.ioPriority.class", string(io.Class))
		if err != nil {
			return err
		}
		if io.Priority < 0 || io.Priority > 7 {
			return specErr("process.ioPriority.priority", "%d is not from 0 to 7", io.Priority)
		}
		c.inside(&IOPriority{Class: uint8(class), Level: uint8(io.Priority)}, c.cause("process.ioPriority"), &IOPriorityCheck{Class: uint8(class), Level: uint8(io.Priority)})
	}
	if m := c.linux.MemoryPolicy; m != nil {
		if err := c.memoryPolicy(m); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) scheduler(s *specs.Scheduler) error {
	policy, err := findWord(schedPolicies[:], "process.scheduler.policy", string(s.Policy))
	if err != nil {
		return err
	}
	op := &Scheduler{Policy: uint32(policy), Nice: int(s.Nice), Priority: uint32(s.Priority), Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period}
	for i, f := range s.Flags {
		flag, err := findWord(schedFlags[:], fmt.Sprintf("process.scheduler.flags[%d]", i), string(f))
		if err != nil {
			return err
		}
		op.Flags |= flag
	}
	check := SchedulerCheck(*op)
	c.inside(op, c.cause("process.scheduler"), &check)
	return nil
}

// maxCPU is the highest processor that Linux is built for.
const maxCPU = 8191

func (c *compiler) memoryPolicy(m *specs.LinuxMemoryPolicy) error {
	mode, err := findWord(mpolModes[:], "linux.memoryPolicy.mode", string(m.Mode))
	if err != nil {
		return err
	}
	for i, f := range m.Flags {
		flag, err := findWord(mpolFlags[:], fmt.Sprintf("linux.memoryPolicy.flags[%d]", i), string(f))
		if err != nil {
			return err
		}
		mode |= flag
	}
	nodes, err := numbers("linux.memoryPolicy.nodes", m.Nodes)
	if err != nil {
		return err
	}
	c.inside(&MemoryPolicy{Mode: uint32(mode), Nodes: nodes}, c.cause("linux.memoryPolicy"), &MemoryPolicyCheck{Mode: uint32(mode), Nodes: nodes})
	return nil
}

// affinity bounds a process that joins a container to processors; an empty list leaves it.
func (c *compiler) affinity(side Side, field, list string) error {
	cpus, err := numbers(field, list)
	if err != nil || len(cpus) == 0 {
		return err
	}
	var check Check
	if side == Container {
		check = &AffinityCheck{CPUs: cpus}
	}
	c.add(side, &Affinity{CPUs: cpus}, c.cause(field), check)
	return nil
}

// numbers reads "0-3,7".
func numbers(field, s string) ([]Range, error) {
	list, ok := abi.ParseList(s)
	if !ok {
		return nil, specErr(field, "%.100q is no list of numbers up to %d and ranges of them, such as 0-3,7", s, abi.MaxListed)
	}
	return list, nil
}

// labels has the next execve enter the domains that security modules are asked for.
func (c *compiler) labels() error {
	p := c.spec.Process
	if p.ApparmorProfile != "" {
		if !c.host.AppArmor {
			return specErr("process.apparmorProfile", "apparmor: config provided but apparmor not supported: it is not enabled in this kernel; take the profile out")
		}
		c.inside(&SecurityLabel{Path: "attr/apparmor/exec", Text: "exec " + p.ApparmorProfile}, c.cause("process.apparmorProfile"), &LabelCheck{Path: "attr/apparmor/current", Label: p.ApparmorProfile})
	}
	if c.selinux() {
		c.inside(&SecurityLabel{Path: "attr/exec", Text: p.SelinuxLabel}, c.cause("process.selinuxLabel"), &LabelCheck{Path: "attr/current", Label: p.SelinuxLabel})
	}
	return nil
}

// labelled reports whether a step of labels is to come, which needs the host's procfs.
func (c *compiler) labelled() bool {
	p := c.spec.Process
	return p.ApparmorProfile != "" && c.host.AppArmor || c.selinux()
}

// selinux reports whether the program is to be in a domain of SELinux.
func (c *compiler) selinux() bool { return c.spec.Process.SelinuxLabel != "" && c.host.SELinux }

// stubLabel is the label of the program that makes the last execve: a domain is entered by
// files of the container only.
func (c *compiler) stubLabel() string {
	if !c.selinux() {
		return ""
	}
	return c.linux.MountLabel
}

// annotationContext is crun's, as [annotationKeepGroups]. Podman sets it for --security-opt label=nested.
const annotationContext = "run.oci.mount_context_type"

// mountLabel adds SELinux's label to the options of a new file system.
func (c *compiler) mountLabel(kind string, options []string) []string {
	if c.linux.MountLabel == "" || !c.host.SELinux {
		return options
	}
	switch kind {
	case "tmpfs", "devpts", "ramfs", "overlay":
		return append(options[:len(options):len(options)], c.context()+"="+c.linux.MountLabel)
	}
	return options // the others have labels of their own
}

// context is the option by which a mount has its label: see mount(8), "-o".
func (c *compiler) context() string {
	switch v := c.spec.Annotations[annotationContext]; v {
	case "fscontext", "defcontext", "rootcontext":
		return v
	}
	return "context" // oci/specjson refuses what is none of them
}

// listener passes on what a filter asks on, where it asks.
func (c *compiler) listener(s *Seccomp) {
	c.inside(s, c.cause("linux.seccomp"), &SeccompCheck{})
	if s.Notify == RegNone {
		return
	}
	why := c.cause("linux.seccomp.listenerPath")
	c.inside(&Sync{From: Container, What: "filter loaded", FDs: []Reg{s.Notify}}, why, nil)
	c.outside(&SendListener{Path: c.linux.Seccomp.ListenerPath, Metadata: c.linux.Seccomp.ListenerMetadata, FD: s.Notify}, why, nil)
}

// canSend wants a filter with a listener to let the process pass that on: it is there only
// when the filter is loaded, and it would be asked about the very call that brings it.
func (c *compiler) canSend(prog *seccomp.Program) error {
	nr, ok := c.host.Arch.Syscall("sendmsg")
	if !ok {
		return specErr("linux.seccomp", "this architecture has no sendmsg")
	}
	switch prog.Decide(c.host.Arch, nr) & abi.SeccompRetActionFull {
	case abi.SeccompRetAllow, abi.SeccompRetLog:
		return nil
	}
	return specErr("linux.seccomp.syscalls", "with SCMP_ACT_NOTIFY the call sendmsg has to be allowed: the filter's listener is sent by it")
}
