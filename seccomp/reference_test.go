//go:build linux

package seccomp

import (
	"slices"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kakuri/kakuri/abi"
)

// A reference says what a profile decides about a call, straight from its text: the
// plain reading that the compiled program must agree with. The profile is one that
// Compile accepts. What it found out once it keeps.
type reference struct {
	p      *specs.LinuxSeccomp
	native abi.Arch
	tops   map[abi.Arch][2]int64
	rules  map[string][]referRule
	names  map[Data]string
}

func newReference(p *specs.LinuxSeccomp, native abi.Arch) *reference {
	return &reference{p, native, map[abi.Arch][2]int64{}, map[string][]referRule{}, map[Data]string{}}
}

func (r *reference) decide(d Data) uint32 {
	arch, ok := r.arch(d)
	if !ok {
		return abi.SeccompRetKillThread
	}
	fallback := r.fallback()
	unknown := fallback
	if referRefuses(fallback) {
		unknown = abi.SeccompRetErrno | uint32(r.native.ENOSYS())
	}
	if d.NR == 1<<32-1 && arch == abi.ArchX86_64 {
		return unknown
	}
	top, private := r.largest(arch)
	switch {
	case top >= 0 && (arch == abi.ArchS390 || arch == abi.ArchS390X) && d.NR == 0:
		return unknown
	case d.NR >= 0x0f0000 && arch == abi.ArchARM && private > 0:
		if int64(d.NR) > private {
			return unknown
		}
	case top >= 0 && int64(d.NR) > top:
		return unknown
	}
	if answer, ok := r.byRules(arch, r.name(arch, d.NR), d); ok {
		return answer
	}
	return fallback
}

func (r *reference) fallback() uint32 {
	return referAnswer(r.p.DefaultAction, r.p.DefaultErrnoRet)
}

func (r *reference) name(arch abi.Arch, nr uint32) string {
	key := Data{Arch: uint32(arch), NR: nr}
	name, ok := r.names[key]
	if !ok {
		name, _ = arch.SyscallName(nr)
		r.names[key] = name
	}
	return name
}

func (r *reference) arch(d Data) (abi.Arch, bool) {
	for _, a := range abi.Archs() {
		if a != r.native && !slices.Contains(r.p.Architectures, specs.Arch(a.String())) {
			continue
		}
		if a.AuditArch() != d.Arch {
			continue
		}
		x32 := d.NR >= abi.X32SyscallBit
		switch {
		case a == abi.ArchX32 && !x32:
			continue
		case a == abi.ArchX86_64 && x32 && d.NR != 1<<32-1:
			continue
		case a == abi.ArchX86_64 && x32 && slices.Contains(r.p.Architectures, specs.ArchX32):
			continue
		}
		return a, true
	}
	return 0, false
}

// largest returns the largest numbers that the profile names: in the
// architecture's table, and among ARM's private ones; -1 for none.
func (r *reference) largest(arch abi.Arch) (top, private int64) {
	if found, ok := r.tops[arch]; ok {
		return found[0], found[1]
	}
	top, private = -1, -1
	for _, s := range r.p.Syscalls {
		for _, name := range s.Names {
			nr, ok := arch.Syscall(name)
			if !ok {
				continue
			}
			if arch == abi.ArchARM && nr >= 0x0f0000 {
				private = max(private, int64(nr))
			} else {
				top = max(top, int64(nr))
			}
		}
	}
	// A rule for an inner call is one for the outer call, too.
	for _, outer := range []string{"socketcall", "ipc"} {
		if nr, ok := arch.Syscall(outer); ok && r.multiplexed(outer) {
			top = max(top, int64(nr))
		}
	}
	r.tops[arch] = [2]int64{top, private}
	return top, private
}

// referInner are the calls within socketcall and ipc by their numbers there.
func referInner(outer string) map[uint64]string {
	switch outer {
	case "socketcall":
		return map[uint64]string{1: "socket", 2: "bind", 3: "connect", 4: "listen", 5: "accept", 6: "getsockname",
			7: "getpeername", 8: "socketpair", 9: "send", 10: "recv", 11: "sendto", 12: "recvfrom", 13: "shutdown",
			14: "setsockopt", 15: "getsockopt", 16: "sendmsg", 17: "recvmsg", 18: "accept4", 19: "recvmmsg", 20: "sendmmsg"}
	case "ipc":
		return map[uint64]string{1: "semop", 2: "semget", 3: "semctl", 4: "semtimedop", 11: "msgsnd", 12: "msgrcv",
			13: "msgget", 14: "msgctl", 21: "shmat", 22: "shmdt", 23: "shmget", 24: "shmctl"}
	}
	return nil
}

// multiplexed tells whether a rule for an inner call says something of outer.
func (r *reference) multiplexed(outer string) bool {
	if _, ok := unconditional(r.rulesOf(outer)); ok {
		return false
	}
	for _, inner := range referInner(outer) {
		if _, ok := r.inside(inner); ok {
			return true
		}
	}
	return false
}

func unconditional(rules []referRule) (uint32, bool) {
	for _, rule := range rules {
		if len(rule.args) == 0 {
			return rule.answer, true
		}
	}
	return 0, false
}

func (r *reference) inside(inner string) (uint32, bool) {
	rules := r.rulesOf(inner)
	if answer, ok := unconditional(rules); ok {
		return answer, true
	}
	for _, rule := range rules {
		if referRefuses(rule.answer) {
			return rule.answer, true
		}
	}
	return 0, false
}

type referRule struct {
	answer uint32
	args   []specs.LinuxSeccompArg
}

// rulesOf lists the rules of one name as the package's text words them.
func (r *reference) rulesOf(name string) []referRule {
	if rules, ok := r.rules[name]; ok {
		return rules
	}
	var rules []referRule
	fallback := r.fallback()
	for _, s := range r.p.Syscalls {
		answer := referAnswer(s.Action, s.ErrnoRet)
		if !slices.Contains(s.Names, name) || answer == fallback {
			continue
		}
		count := map[uint]int{}
		twice := false
		for _, a := range s.Args {
			count[a.Index]++
			twice = twice || count[a.Index] > 1
		}
		if twice {
			for _, a := range s.Args {
				rules = append(rules, referRule{answer, real([]specs.LinuxSeccompArg{a})})
			}
		} else {
			rules = append(rules, referRule{answer, real(s.Args)})
		}
	}
	r.rules[name] = rules
	return rules
}

// real leaves out the conditions that compare no bit.
func real(args []specs.LinuxSeccompArg) []specs.LinuxSeccompArg {
	var kept []specs.LinuxSeccompArg
	for _, a := range args {
		if a.Op != specs.OpMaskedEqual || a.Value != 0 {
			kept = append(kept, a)
		}
	}
	return kept
}

func (r *reference) byRules(arch abi.Arch, name string, d Data) (uint32, bool) {
	rules := r.rulesOf(name)
	if answer, ok := unconditional(rules); ok {
		return answer, true
	}
	for _, rule := range rules {
		if !slices.ContainsFunc(rule.args, func(a specs.LinuxSeccompArg) bool { return !referHolds(a, arch, d.Args[a.Index]) }) {
			return rule.answer, true
		}
	}
	call := d.Args[0] & 0xffffffff
	if name == "ipc" {
		call &= 0xffff
	}
	if inner, ok := referInner(name)[call]; ok {
		return r.inside(inner)
	}
	return 0, false
}

func referHolds(a specs.LinuxSeccompArg, arch abi.Arch, arg uint64) bool {
	value := a.Value
	if a.Op == specs.OpMaskedEqual {
		value = a.ValueTwo & a.Value
	}
	if !arch.Is64() {
		arg &= 0xffffffff
		const signs = 0xffffffff80000000
		if a.Op == specs.OpMaskedEqual {
			mask := a.Value
			if value>>32 == mask>>32 && value&0x80000000 != 0 { // a negative number's upper bits
				value, mask = value&0xffffffff, mask&0xffffffff
			}
			return arg&mask == value
		}
		if value&signs == signs {
			value &= 0xffffffff
		}
	}
	switch a.Op {
	case specs.OpNotEqual:
		return arg != value
	case specs.OpLessThan:
		return arg < value
	case specs.OpLessEqual:
		return arg <= value
	case specs.OpEqualTo:
		return arg == value
	case specs.OpGreaterEqual:
		return arg >= value
	case specs.OpGreaterThan:
		return arg > value
	}
	return arg&a.Value == value
}

func referAnswer(act specs.LinuxSeccompAction, errnoRet *uint) uint32 {
	errno := uint32(1)
	if errnoRet != nil {
		errno = uint32(*errnoRet)
	}
	return map[specs.LinuxSeccompAction]uint32{
		specs.ActKill:        0,
		specs.ActKillThread:  0,
		specs.ActKillProcess: 0x80000000,
		specs.ActTrap:        0x00030000,
		specs.ActErrno:       0x00050000 | errno,
		specs.ActTrace:       0x7ff00000 | errno,
		specs.ActLog:         0x7ffc0000,
		specs.ActAllow:       0x7fff0000,
		specs.ActNotify:      0x7fc00000,
	}[act]
}

func referRefuses(answer uint32) bool {
	return answer != 0x7fff0000 && answer != 0x7ffc0000 && answer>>16 != 0x7ff0
}

// mobyProfile is Docker's default profile as its engine would hand it to a runtime
// on an architecture, for a container that has the given capabilities.
func mobyProfile(native abi.Arch, caps ...string) *specs.LinuxSeccomp {
	full := moby.DefaultProfile()
	p := &specs.LinuxSeccomp{
		DefaultAction:   full.DefaultAction,
		DefaultErrnoRet: full.DefaultErrnoRet,
		Flags:           full.Flags,
	}
	for _, a := range full.ArchMap {
		if a.Arch == specs.Arch(native.String()) {
			p.Architectures = append([]specs.Arch{a.Arch}, a.SubArches...)
		}
	}
	for _, s := range full.Syscalls {
		if s.Includes != nil && !mobyApplies(s.Includes, native, caps, true) {
			continue
		}
		if s.Excludes != nil && mobyApplies(s.Excludes, native, caps, false) {
			continue
		}
		p.Syscalls = append(p.Syscalls, s.LinuxSyscall)
	}
	return p
}

// mobyApplies looks at a filter of moby's profile, of which all parts must apply, or any.
func mobyApplies(f *moby.Filter, native abi.Arch, caps []string, all bool) bool {
	name := native.Name()
	switch name {
	case "x86_64":
		name = "amd64"
	case "aarch64":
		name = "arm64"
	}
	arch := slices.Contains(f.Arches, name)
	if all {
		arch = arch || len(f.Arches) == 0
		for _, c := range f.Caps {
			arch = arch && slices.Contains(caps, c)
		}
		return arch
	}
	for _, c := range f.Caps {
		arch = arch || slices.Contains(caps, c)
	}
	return arch
}
