package seccomp

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kakuri/kakuri/abi"
)

// Compile makes the program for a profile on a machine whose own architecture is
// native: see the package's text for what it decides. A profile that is nil, or has
// neither a default action nor rules, turns seccomp off and gives no program and no error.
//
// An error names the field of config.json ("linux.seccomp.syscalls[3].args[0].op") and
// its value. Two calls with equal profiles give equal programs.
func Compile(profile *specs.LinuxSeccomp, native abi.Arch) (*Program, error) {
	if profile == nil || profile.DefaultAction == "" && len(profile.Syscalls) == 0 {
		return nil, nil
	}
	if !native.Valid() {
		return nil, errors.New("seccomp: no native architecture: this machine's system calls have no table")
	}
	c := new(compiler)
	if err := c.book.read(profile, native); err != nil {
		return nil, err
	}
	prog := c.assemble()
	if len(prog) > MaxInstructions {
		return nil, fmt.Errorf("linux.seccomp: the profile needs a program of more than %d instructions, which is the most that the kernel takes: "+
			"name fewer architectures or use fewer conditions on arguments", MaxInstructions)
	}
	return &Program{
		Instructions: prog,
		Flags:        c.book.flags,
		Notify:       c.book.notify,
		Arch:         native,
		Unknown:      c.book.strangers,
	}, nil
}

// A compiler is the memory of one compilation, in one piece.
type compiler struct {
	book   book
	asm    assembler
	mapper mapper
}

// assemble writes the whole program, from its end to its beginning: first the
// architectures, of which the native one lies foremost, then what tells them apart.
func (c *compiler) assemble() []Instruction {
	a, b, m := &c.asm, &c.book, &c.mapper
	a.init()
	a.actions, a.conds = b.actions, b.conds
	m.book, m.asm, m.spans = b, a, m.spanRoom[:0]
	groups := groupByAudit(b.archs)
	entries := make([]label, len(groups))
	for i, g := range slices.Backward(groups) {
		entries[i] = a.load(offNR, a.tree(m.ranges(g)))
	}
	next := a.ret(b.denied)
	for i, g := range slices.Backward(groups) {
		next = a.branch(opEqual, g.audit, entries[i], next)
	}
	a.front(a.load(offArch, next))
	slices.Reverse(a.code)
	return a.code
}

// A group is the interfaces that share an AUDIT_ARCH_* value: one, or x86_64 and x32.
type group struct {
	audit    uint32
	arch     abi.Arch // ArchNone when only x32 is asked for
	x32      bool
	overlaps bool // the value is x86_64's, and numbers from 1<<30 on are x32's
}

func groupByAudit(archs []abi.Arch) []group {
	groups := make([]group, 0, len(archs))
	for _, arch := range archs {
		audit := arch.AuditArch()
		i := slices.IndexFunc(groups, func(g group) bool { return g.audit == audit })
		if i < 0 {
			i = len(groups)
			groups = append(groups, group{audit: audit, overlaps: arch == abi.ArchX86_64 || arch == abi.ArchX32})
		}
		if arch == abi.ArchX32 {
			groups[i].x32 = true
		} else {
			groups[i].arch = arch
		}
	}
	return groups
}

// slotCount is how far the numbers of an architecture's table reach, counted from
// its base; ARM's private ones lie apart. The largest now is 547.
const slotCount = 640

// armPrivate is where ARM's own calls begin.
const armPrivate = 0x0f0000

// A mapper lays out the verdicts of one architecture after the other over the
// numbers of system calls. Its buffers serve all of them.
type mapper struct {
	*book
	asm    *assembler
	spans  []span
	apart  []span // private numbers
	chains []chain
	list   []rule

	slots    [slotCount]label
	spanRoom [200]span
}

// A chain is the code for an entry's list of rules, kept for the next with an equal one.
type chain struct {
	first uint16
	at    label
}

// ranges returns the verdicts of a group over all 32-bit numbers.
func (m *mapper) ranges(g group) []span {
	m.spans = m.spans[:0]
	denied := m.asm.ret(m.denied)
	switch {
	case !g.overlaps:
		m.table(g.arch)
		return m.spans
	case g.arch == abi.ArchNone:
		m.push(0, denied, 1)
	default:
		m.table(abi.ArchX86_64)
	}
	if g.x32 {
		m.table(abi.ArchX32)
		return m.spans
	}
	m.push(abi.X32SyscallBit, denied, 1)
	// A tracer's -1 means that the call is to be skipped, and not an x32 call.
	m.push(1<<32-1, m.asm.ret(m.unknown), 1)
	return m.spans
}

// push adds a range from first on, or lengthens the last one.
func (m *mapper) push(first uint32, to label, weight int32) {
	if n := len(m.spans); n > 0 && m.spans[n-1].to == to {
		m.spans[n-1].weight += weight
		return
	}
	m.spans = append(m.spans, span{first, weight, to})
}

// table adds the ranges of one architecture's numbers.
func (m *mapper) table(arch abi.Arch) {
	fallback := m.asm.ret(m.fallback)
	for i := range m.slots {
		m.slots[i] = fallback
	}
	last, lastApart := m.fill(arch)
	base := arch.SyscallBase()
	unknown := m.asm.ret(m.unknown)
	if arch == abi.ArchS390 || arch == abi.ArchS390X {
		// A number above 255 passes through 0 when the kernel does not know it.
		m.slots[0] = unknown
	}
	weight := int32(16)
	if arch == abi.ArchX32 {
		weight = 1 // hardly anybody's: x86_64's calls shall not pay for it
	} else if base != 0 {
		m.push(0, fallback, 1)
	}
	for i := range last + 1 {
		m.push(base+uint32(i), m.slots[i], weight)
	}
	if last < 0 {
		m.push(base, fallback, 1) // the profile names nothing here: nothing is newer
	} else {
		m.push(base+uint32(last+1), unknown, 1)
	}
	if lastApart == 0 {
		return
	}
	m.push(armPrivate, fallback, 1)
	for _, s := range m.apart {
		m.push(s.first, s.to, 1)
		m.push(s.first+1, fallback, 1)
	}
	m.push(lastApart+1, unknown, 1)
}

// fill enters the verdicts of arch into m.slots, and those of private numbers into
// m.apart in their order. It returns the largest numbers that the profile names: last
// is counted from the architecture's base and -1 for none, lastApart is 0 for none.
func (m *mapper) fill(arch abi.Arch) (last int, lastApart uint32) {
	m.apart, m.chains = m.apart[:0], m.chains[:0]
	w := wiring{little: arch.LittleEndian(), wide: arch.Is64()}
	base := arch.SyscallBase()
	socketcall, last := m.multiplex(arch, w, "socketcall", socketCalls[:], 0xffffffff)
	ipc, lastIPC := m.multiplex(arch, w, "ipc", ipcCalls[:], 0xffff)
	last = max(last, lastIPC)
	for i := range m.calls {
		e := &m.calls[i]
		nr, ok := arch.SyscallAt(i)
		if !m.named[i] || !ok || i == socketcall || i == ipc {
			continue
		}
		if nr -= base; nr >= slotCount {
			lastApart = max(lastApart, nr)
			m.apart = append(m.apart, span{first: nr, to: m.verdict(e, w)})
			continue
		}
		last = max(last, int(nr))
		m.slots[nr] = m.verdict(e, w)
	}
	slices.SortFunc(m.apart, func(x, y span) int { return cmp.Compare(x.first, y.first) })
	return last, lastApart
}

// verdict returns where the program goes on for a call with the given entry.
func (m *mapper) verdict(e *entry, w wiring) label {
	switch {
	case e.plain != 0:
		return m.asm.ret(m.rules[e.plain-1].action)
	case e.first == 0:
		return m.asm.ret(m.fallback)
	}
	for _, c := range m.chains {
		if m.equal(c.first, e.first) {
			return c.at
		}
	}
	m.list = m.appendRules(m.list[:0], e)
	at := m.asm.rules(m.list, w, m.asm.ret(m.fallback))
	m.chains = append(m.chains, chain{e.first, at})
	return at
}

// appendRules appends an entry's rules with conditions to list.
func (m *mapper) appendRules(list []rule, e *entry) []rule {
	for at := e.first; at != 0; at = m.nodes[at-1].next {
		list = append(list, m.rules[m.nodes[at-1].rule])
	}
	return list
}

// equal tells whether the lists that begin at two nodes have the same rules.
func (m *mapper) equal(x, y uint16) bool {
	for ; x != 0 && y != 0; x, y = m.nodes[x-1].next, m.nodes[y-1].next {
		if m.nodes[x-1].rule != m.nodes[y-1].rule {
			return false
		}
	}
	return x == y
}

// An innerCall is a system call that can also be made through another one, which
// takes its number as first argument: see socketcall(2) and ipc(2).
type innerCall struct {
	name   string
	number uint64
}

var socketCalls = [...]innerCall{
	{"socket", 1}, {"bind", 2}, {"connect", 3}, {"listen", 4}, {"accept", 5},
	{"getsockname", 6}, {"getpeername", 7}, {"socketpair", 8}, {"send", 9}, {"recv", 10},
	{"sendto", 11}, {"recvfrom", 12}, {"shutdown", 13}, {"setsockopt", 14},
	{"getsockopt", 15}, {"sendmsg", 16}, {"recvmsg", 17}, {"accept4", 18},
	{"recvmmsg", 19}, {"sendmmsg", 20},
}

var ipcCalls = [...]innerCall{
	{"semop", 1}, {"semget", 2}, {"semctl", 3}, {"semtimedop", 4},
	{"msgsnd", 11}, {"msgrcv", 12}, {"msgget", 13}, {"msgctl", 14},
	{"shmat", 21}, {"shmdt", 22}, {"shmget", 23}, {"shmctl", 24},
}

// multiplex lets the rules of the inner calls hold for the outer one too, where arch has
// it and no rule decides it outright. It returns the outer call's index and number
// (counted from the architecture's base), or -1 twice when there was nothing to do.
//
// The kernel looks only at the bits of mask of the outer call's first argument.
func (m *mapper) multiplex(arch abi.Arch, w wiring, outer string, inner []innerCall, mask uint64) (index, nr int) {
	index = abi.SyscallIndex(outer)
	own := &m.calls[index]
	number, ok := arch.SyscallAt(index)
	if !ok || own.plain != 0 {
		return -1, -1
	}
	before := len(m.asm.conds)
	m.list = m.appendRules(m.list[:0], own)
	for _, in := range inner {
		if action, ok := m.inside(abi.SyscallIndex(in.name)); ok {
			n := uint16(len(m.asm.conds))
			m.asm.conds = append(m.asm.conds, condition{op: opMasked, value: in.number, mask: mask})
			m.list = append(m.list, rule{action, n, n + 1})
		}
	}
	if len(m.asm.conds) == before {
		return -1, -1
	}
	nr = int(number - arch.SyscallBase())
	m.slots[nr] = m.asm.rules(m.list, w, m.asm.ret(m.fallback))
	m.asm.conds = m.asm.conds[:before]
	return index, nr
}

// inside returns the action for a call that is made through another one, which
// hides its arguments: a rule's conditions then count as met when it refuses.
func (m *mapper) inside(index int) (actionID, bool) {
	e := &m.calls[index]
	if e.plain != 0 {
		return m.rules[e.plain-1].action, true
	}
	for at := e.first; at != 0; at = m.nodes[at-1].next {
		if action := m.rules[m.nodes[at-1].rule].action; refuses(m.actions[action]) {
			return action, true
		}
	}
	return 0, false
}
