package plan

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// Scheduler sets how the process is scheduled: sched_setattr(2), sched(7). Times are in
// nanoseconds.
type Scheduler struct {
	Policy                    uint32 // SCHED_*
	Flags                     uint64 // SCHED_FLAG_*
	Nice                      int
	Priority                  uint32
	Runtime, Deadline, Period uint64
}

// Name implements [Op].
func (*Scheduler) Name() string { return "scheduler" }

// String implements [Op].
func (s *Scheduler) String() string {
	text := fmt.Sprintf("sched_setattr policy %d nice %d", s.Policy, s.Nice)
	if s.Priority != 0 {
		text += fmt.Sprintf(" priority %d", s.Priority)
	}
	if s.Runtime != 0 || s.Deadline != 0 || s.Period != 0 {
		text += fmt.Sprintf(" runtime %d deadline %d period %d", s.Runtime, s.Deadline, s.Period)
	}
	if s.Flags != 0 {
		text += fmt.Sprintf(" flags %#x", s.Flags)
	}
	return text
}

func (s *Scheduler) lower(a *Asm) {
	const size = 48 // SCHED_ATTR_SIZE_VER0 of struct sched_attr
	b := a.alloc(size)
	le := binary.LittleEndian
	le.PutUint32(b, size)
	le.PutUint32(b[4:], s.Policy)
	le.PutUint64(b[8:], s.Flags)
	le.PutUint32(b[16:], uint32(int32(s.Nice)))
	le.PutUint32(b[20:], s.Priority)
	le.PutUint64(b[24:], s.Runtime)
	le.PutUint64(b[32:], s.Deadline)
	le.PutUint64(b[40:], s.Period)
	a.call(abi.CallSchedSetattr, num(0), a.mem(b), num(0))
}

// IOPriority sets the class and level of the process's input and output: ioprio_set(2).
type IOPriority struct {
	Class uint8 // IOPRIO_CLASS_*
	Level uint8 // 0 is the highest, 7 the lowest
}

// Name implements [Op].
func (*IOPriority) Name() string { return "io priority" }

// String implements [Op].
func (p *IOPriority) String() string {
	return fmt.Sprintf("ioprio_set class %d level %d", p.Class, p.Level)
}

func (p *IOPriority) lower(a *Asm) {
	a.call(abi.CallIoprioSet, num(abi.IoprioWhoProcess), num(0), num(uint64(p.Class)<<abi.IoprioClassShift|uint64(p.Level)))
}

// MemoryPolicy says from which nodes the process's memory comes: set_mempolicy(2).
type MemoryPolicy struct {
	Mode  uint32  // MPOL_*, with MPOL_F_*
	Nodes []Range // in ascending order
}

// Name implements [Op].
func (*MemoryPolicy) Name() string { return "memory policy" }

// String implements [Op].
func (m *MemoryPolicy) String() string {
	return words(fmt.Sprintf("set_mempolicy mode %#x", m.Mode), rangesText("nodes", m.Nodes))
}

// A Range is numbers of processors or memory nodes, from First to Last.
type Range = abi.Range

func rangesText(what string, list []Range) string {
	if len(list) == 0 {
		return ""
	}
	parts := make([]string, len(list))
	for i, r := range list {
		parts[i] = r.String()
	}
	return what + " " + strings.Join(parts, ",")
}

func (m *MemoryPolicy) lower(a *Asm) {
	if len(m.Nodes) == 0 {
		a.call(abi.CallSetMempolicy, num(uint64(m.Mode)), num(0), num(0))
		return
	}
	mask := a.mask(m.Nodes)
	// The kernel reads one bit less than it is told.
	a.call(abi.CallSetMempolicy, num(uint64(m.Mode)), memArg(mask), num(uint64(8*len(mask.Data)+1)))
}

// mask is a bit for each number, in words of 64 bits.
func (a *Asm) mask(list []Range) *Mem {
	most := uint32(0)
	for _, r := range list {
		most = max(most, min(r.Last, abi.MaxListed))
	}
	b := a.alloc(int(most/64+1) * 8)
	for _, r := range list {
		for n := r.First; n <= min(r.Last, abi.MaxListed); n++ {
			b[n/8] |= 1 << (n % 8)
		}
	}
	return a.newMem(b)
}

// Affinity says on which processors the process may run: sched_setaffinity(2).
type Affinity struct {
	CPUs []Range
	Try  bool // a kernel or control group that allows none of them leaves it as it is
}

// Name implements [Op].
func (*Affinity) Name() string { return "affinity" }

// String implements [Op].
func (f *Affinity) String() string {
	return words("sched_setaffinity", rangesText("processors", f.CPUs))
}

func (f *Affinity) lower(a *Asm) {
	mask := a.mask(f.CPUs)
	row := a.call(abi.CallSchedSetaffinity, num(0), num(uint64(len(mask.Data))), memArg(mask))
	if f.Try {
		row.accept(abi.EINVAL, abi.EPERM)
	}
}

// KeyLabel asks SELinux for the label of keys that are made from now on: setkeycreatecon(3). The execve ends it, so that keys which the program
// makes have what the policy has for them. It is before a fork, whose /proc/self is another than the one that [OpenSelf] has kept.
type KeyLabel struct{ Label string }

// Name implements [Op].
func (*KeyLabel) Name() string { return "key label" }

// String implements [Op].
func (k *KeyLabel) String() string { return fmt.Sprintf("write %s %q", keyCreate, k.Label) }

const keyCreate = "attr/keycreate"

func (k *KeyLabel) lower(a *Asm) { a.writeProc(keyCreate, []byte(k.Label)) }

// SecurityLabel asks a security module for the domain that the next execve is to enter:
// AppArmor's aa_change_onexec(3), SELinux's setexeccon(3). It is written to the host's
// procfs, whose Path below the process's directory is given.
type SecurityLabel struct {
	Path string // "attr/apparmor/exec"
	Text string
}

// Name implements [Op].
func (*SecurityLabel) Name() string { return "security label" }

// String implements [Op].
func (l *SecurityLabel) String() string { return fmt.Sprintf("write %s %q", l.Path, l.Text) }

func (l *SecurityLabel) lower(a *Asm) {
	f := a.tmp()
	// "self" anew: after a fork the process is not the one that began.
	a.call(abi.CallOpenat, fd(RegProc), a.str("self/"+l.Path), num(abi.OWronly|abi.OCloexec), num(0)).into(f)
	a.call(abi.CallWrite, fd(f), a.mem([]byte(l.Text)), num(uint64(len(l.Text))))
}
