package seccomp

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kakuri/kakuri/abi"
)

// flagTSYNC is in the specification's list, but not in its Go constants.
const flagTSYNC specs.LinuxSeccompFlag = "SECCOMP_FILTER_FLAG_TSYNC"

// An operator compares an argument with a value.
type operator uint8

const (
	opNE operator = iota
	opLT
	opLE
	opEQ
	opGE
	opGT
	opMasked
)

// A condition compares one argument of a call. Masked compares only the bits of mask.
type condition struct {
	arg   uint8
	op    operator
	value uint64
	mask  uint64
}

// A rule is an action for calls on which all its conditions hold, which are those
// from from to to in book.conds.
type rule struct {
	action   actionID
	from, to uint16
}

// single tells whether the rule has one condition.
func (r rule) single() bool { return r.to-r.from == 1 }

// An actionID is the index of a filter's answer in book.actions.
type actionID uint16

// A book is the profile of all architectures, by system call.
type book struct {
	actions  []uint32
	fallback actionID // the default action
	unknown  actionID // for numbers above the largest one that the profile names
	denied   actionID // for architectures that it does not list

	named [abi.SyscallCount]bool // by any rule
	calls [abi.SyscallCount]entry
	rules []rule
	conds []condition
	nodes []node
	archs []abi.Arch

	flags     uint
	notify    bool
	strangers []string

	// Room for a usual profile.
	actionRoom [12]uint32
	ruleRoom   [64]rule
	condRoom   [48]condition
	nodeRoom   [64]node
	archRoom   [4]abi.Arch
}

// most is how many rules, conditions or uses of rules a profile may have. A program
// holds fewer.
const most = 1<<16 - 256

// An entry is what the profile says of one system call.
type entry struct {
	plain uint16 // rule without conditions, counted from 1; 0 is none
	first uint16 // first and last node of its rules with conditions, counted from 1
	last  uint16
}

// A node is an element of a list of rules.
type node struct {
	rule uint16
	next uint16 // counted from 1
}

// errorAt makes an error that names a field of config.json below linux.seccomp.
func errorAt(path, format string, args ...any) error {
	return fmt.Errorf("linux.seccomp.%s: %s", path, fmt.Sprintf(format, args...))
}

// read takes a profile apart, and refuses what the specification or the kernel does.
func (b *book) read(p *specs.LinuxSeccomp, native abi.Arch) error {
	b.actions, b.rules, b.conds = b.actionRoom[:0], b.ruleRoom[:0], b.condRoom[:0]
	b.nodes, b.archs = b.nodeRoom[:0], b.archRoom[:0]
	word, err := answer(p.DefaultAction, p.DefaultErrnoRet, theProfile)
	if err != nil {
		return err
	}
	if p.DefaultAction == specs.ActNotify {
		return errorAt("defaultAction", "%q would hold up the runtime's own write(2) before anyone can answer", p.DefaultAction)
	}
	b.fallback = b.action(word)
	b.denied = b.action(abi.SeccompRetKillThread) // what libseccomp does
	b.unknown = b.fallback
	if refuses(word) {
		b.unknown = b.action(abi.SeccompRetErrno | uint32(native.ENOSYS()))
	}
	if err := b.readArchs(p.Architectures, native); err != nil {
		return err
	}
	for i := range p.Syscalls {
		if err := b.readSyscall(&p.Syscalls[i], i); err != nil {
			return err
		}
	}
	return b.readFlags(p)
}

// action returns the index of an answer.
func (b *book) action(word uint32) actionID {
	for i, a := range b.actions {
		if a == word {
			return actionID(i)
		}
	}
	b.actions = append(b.actions, word)
	return actionID(len(b.actions) - 1)
}

// A place is an element of syscalls, or the profile itself, where an action stands.
type place int

const theProfile place = -1

func (p place) action() string {
	if p == theProfile {
		return "defaultAction"
	}
	return fmt.Sprintf("syscalls[%d].action", int(p))
}

func (p place) errnoRet() string {
	if p == theProfile {
		return "defaultErrnoRet"
	}
	return fmt.Sprintf("syscalls[%d].errnoRet", int(p))
}

// answer translates an action with its errnoRet to the word that a filter returns.
func answer(act specs.LinuxSeccompAction, errnoRet *uint, at place) (uint32, error) {
	var word uint32
	limit := uint(0) // of the data that goes with the action
	switch act {
	case specs.ActKill, specs.ActKillThread:
		word = abi.SeccompRetKillThread
	case specs.ActKillProcess:
		word = abi.SeccompRetKillProcess
	case specs.ActTrap:
		word = abi.SeccompRetTrap
	case specs.ActErrno:
		word, limit = abi.SeccompRetErrno, uint(abi.MaxErrno)
	case specs.ActTrace:
		word, limit = abi.SeccompRetTrace, abi.SeccompRetData
	case specs.ActAllow:
		word = abi.SeccompRetAllow
	case specs.ActLog:
		word = abi.SeccompRetLog
	case specs.ActNotify:
		word = abi.SeccompRetUserNotif
	default:
		return 0, errorAt(at.action(), "%q is not an action: use one of %s", act, actionNames)
	}
	switch {
	case errnoRet == nil && limit == 0:
		return word, nil
	case errnoRet == nil:
		return word | uint32(abi.EPERM), nil
	case limit == 0:
		return 0, errorAt(at.errnoRet(), "%d: %s takes no errno, only SCMP_ACT_ERRNO and SCMP_ACT_TRACE do", *errnoRet, act)
	case *errnoRet > limit:
		return 0, errorAt(at.errnoRet(), "%d: the largest that %s can give is %d", *errnoRet, act, limit)
	}
	return word | uint32(*errnoRet), nil
}

const (
	actionNames = "SCMP_ACT_KILL, SCMP_ACT_KILL_PROCESS, SCMP_ACT_KILL_THREAD, SCMP_ACT_TRAP, " +
		"SCMP_ACT_ERRNO, SCMP_ACT_TRACE, SCMP_ACT_ALLOW, SCMP_ACT_LOG, SCMP_ACT_NOTIFY"
	operatorNames = "SCMP_CMP_NE, SCMP_CMP_LT, SCMP_CMP_LE, SCMP_CMP_EQ, SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_MASKED_EQ"
	flagNames     = "SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_SPEC_ALLOW, " +
		"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
)

// refuses tells whether an answer keeps the call from being made. A tracer sees the
// call and can answer ENOSYS itself, so that SCMP_ACT_TRACE does not refuse.
func refuses(word uint32) bool {
	switch word & abi.SeccompRetActionFull {
	case abi.SeccompRetAllow, abi.SeccompRetLog, abi.SeccompRetTrace:
		return false
	}
	return true
}

// readArchs lists the architectures, each once, the native one first.
func (b *book) readArchs(names []specs.Arch, native abi.Arch) error {
	b.archs = append(b.archs, native)
next:
	for i, name := range names {
		a, ok := parseArch(name)
		if !ok {
			return errorAt(fmt.Sprintf("architectures[%d]", i), "%q is not an architecture, such as %q", name, native)
		}
		for _, have := range b.archs {
			if have == a {
				continue next
			}
		}
		b.archs = append(b.archs, a)
	}
	return nil
}

// parseArch reads SCMP_ARCH_*; the specification has no other spelling.
func parseArch(name specs.Arch) (abi.Arch, bool) {
	a, ok := abi.ParseArch(string(name))
	return a, ok && len(name) > len("SCMP_ARCH_") && name[:len("SCMP_ARCH_")] == "SCMP_ARCH_"
}

func (b *book) readSyscall(s *specs.LinuxSyscall, i int) error {
	word, err := answer(s.Action, s.ErrnoRet, place(i))
	if err != nil {
		return err
	}
	notify := s.Action == specs.ActNotify
	b.notify = b.notify || notify
	action := b.action(word)
	first, err := b.readArgs(s.Args, i, action)
	if err != nil {
		return err
	}
	rules := b.rules[first:]
	if action == b.fallback {
		rules = nil // says nothing new, but its names are known to the profile
	}
	if max(len(b.rules), len(b.conds), len(b.nodes)+len(rules)*len(s.Names)) > most || len(b.actions) > MaxInstructions {
		return errorAt(fmt.Sprintf("syscalls[%d]", i), "the rules up to here are more than a program has room for")
	}
	for j, name := range s.Names {
		switch {
		case name == "":
			return errorAt(fmt.Sprintf("syscalls[%d].names[%d]", i, j), "a system call needs a name")
		case notify && name == "write":
			return errorAt(fmt.Sprintf("syscalls[%d].names[%d]", i, j), "%q: SCMP_ACT_NOTIFY cannot be used for the write syscall: it would hold up the runtime's own before anyone can answer", name)
		}
		index := abi.SyscallIndex(name)
		if index == abi.NoSyscall {
			b.strangers = append(b.strangers, name)
			continue
		}
		b.note(index, first, rules)
	}
	return nil
}

// note enters rules, which begin at number first of the book, for a system call.
func (b *book) note(index, first int, rules []rule) {
	e := &b.calls[index]
	b.named[index] = true
	for i := range rules {
		number := uint16(first + i)
		if rules[i].from == rules[i].to {
			if e.plain == 0 {
				e.plain = number + 1
			}
			continue
		}
		b.nodes = append(b.nodes, node{rule: number})
		at := uint16(len(b.nodes))
		if e.first == 0 {
			e.first = at
		} else {
			b.nodes[e.last-1].next = at
		}
		e.last = at
	}
}

// readArgs enters the rules of one element of syscalls and returns the number of the
// first: one rule, or one for each condition when two are about the same argument.
func (b *book) readArgs(args []specs.LinuxSeccompArg, i int, action actionID) (int, error) {
	first, begin := len(b.rules), len(b.conds)
	var seen uint8
	twice := false
	for j := range args {
		c, err := readArg(&args[j], i, j)
		if err != nil {
			return 0, err
		}
		twice = twice || seen&(1<<c.arg) != 0
		seen |= 1 << c.arg
		b.conds = append(b.conds, c)
	}
	if !twice {
		b.bind(action, begin, len(b.conds))
		return first, nil
	}
	for j := range args {
		b.bind(action, begin+j, begin+j+1)
	}
	return first, nil
}

// bind enters a rule with the conditions from from to to, without those that look at
// no bit of their argument.
func (b *book) bind(action actionID, from, to int) {
	kept := slices.DeleteFunc(b.conds[from:to:to], func(c condition) bool { return c.op == opMasked && c.mask == 0 })
	b.rules = append(b.rules, rule{action, uint16(from), uint16(from + len(kept))})
}

func readArg(a *specs.LinuxSeccompArg, i, j int) (condition, error) {
	at := func(field string) string { return fmt.Sprintf("syscalls[%d].args[%d].%s", i, j, field) }
	if a.Index > 5 {
		return condition{}, errorAt(at("index"), "%d: a system call has the arguments 0 to 5", a.Index)
	}
	c := condition{arg: uint8(a.Index), value: a.Value}
	switch a.Op {
	case specs.OpNotEqual:
		c.op = opNE
	case specs.OpLessThan:
		c.op = opLT
	case specs.OpLessEqual:
		c.op = opLE
	case specs.OpEqualTo:
		c.op = opEQ
	case specs.OpGreaterEqual:
		c.op = opGE
	case specs.OpGreaterThan:
		c.op = opGT
	case specs.OpMaskedEqual:
		c.op, c.mask, c.value = opMasked, a.Value, a.ValueTwo&a.Value
	default:
		return condition{}, errorAt(at("op"), "%q is not an operator: use one of %s", a.Op, operatorNames)
	}
	return c, nil
}

// readFlags sets the flags for seccomp(2). A profile without the field gets
// SPEC_ALLOW, as runc gives it: the mitigation it turns off costs every program much and
// protects only those that run foreign code in their own process.
func (b *book) readFlags(p *specs.LinuxSeccomp) error {
	if p.Flags == nil {
		b.flags = abi.SeccompFlagSpecAllow
	}
	for i, flag := range p.Flags {
		switch flag {
		case flagTSYNC: // the thread that loads the filter is the only one
		case specs.LinuxSeccompFlagLog:
			b.flags |= abi.SeccompFlagLog
		case specs.LinuxSeccompFlagSpecAllow:
			b.flags |= abi.SeccompFlagSpecAllow
		case specs.LinuxSeccompFlagWaitKillableRecv:
			if !b.notify {
				return errorAt(fmt.Sprintf("flags[%d]", i), "%q without a rule of SCMP_ACT_NOTIFY: the kernel takes it only with a listener", flag)
			}
			b.flags |= abi.SeccompFlagWaitKillableRecv
		default:
			return errorAt(fmt.Sprintf("flags[%d]", i), "%q is not a flag: use one of %s", flag, flagNames)
		}
	}
	if b.notify {
		b.flags |= abi.SeccompFlagNewListener
	}
	return checkListener(p, b.notify)
}

func checkListener(p *specs.LinuxSeccomp, notify bool) error {
	switch {
	case p.ListenerPath != "":
		return nil
	case notify:
		return errorAt("listenerPath", "empty, and a rule has SCMP_ACT_NOTIFY: name the socket of who answers")
	case p.ListenerMetadata != "":
		return errorAt("listenerMetadata", "%q without listenerPath: there is nobody to send it to", p.ListenerMetadata)
	}
	return nil
}
