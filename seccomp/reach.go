package seccomp

import (
	"slices"

	"github.com/kakuri/kakuri/abi"
)

// Reach lists what a filter may answer to the call nr of arch, whatever its arguments: at a test of those, both ways are
// gone. Conditions that exclude each other are not seen to do so, so there may be an answer too many, and none is left out. The list is
// sorted; a program that the kernel would not take gives what is found before its fault.
func Reach(prog []Instruction, arch abi.Arch, nr uint32) []uint32 {
	r := reacher{prog: prog, seen: map[state]bool{}}
	r.walk(state{machine: machine{data: &Data{NR: nr, Arch: arch.AuditArch()}}})
	slices.Sort(r.answers)
	return slices.Compact(r.answers)
}

// A state is where a filter stands. Registers and memory that depend on arguments are unknown, and 0.
type state struct {
	machine
	pc             int
	aKnown, xKnown bool
	known          [memWords]bool
}

type reacher struct {
	prog    []Instruction
	seen    map[state]bool
	answers []uint32
}

func (r *reacher) walk(s state) {
	for s.pc < len(r.prog) && !r.seen[s] {
		r.seen[s] = true
		in := r.prog[s.pc]
		s.pc++
		switch in.Code {
		case opRet:
			r.answers = append(r.answers, in.K)
			return
		case opRetA:
			if s.aKnown {
				r.answers = append(r.answers, s.a)
			}
			return
		case opJump:
			s.pc += int(in.K)
		case opEqual, opGreat, opAtOver, opAnySet, opEqualX, opGreatX, opAtOverX, opAnySetX:
			yes, no := s, s
			yes.pc += int(in.JT)
			no.pc += int(in.JF)
			if !s.aKnown || in.Code&0x08 != 0 && !s.xKnown {
				r.walk(yes)
			} else if s.test(in) {
				no = yes
			}
			s = no
		default:
			if checkInstruction(in, len(r.prog)-s.pc) != nil || !s.follow(in) {
				return
			}
		}
	}
}

// follow carries out an instruction that neither jumps nor returns, and notes what is known. It reports false where the
// kernel would answer 0.
func (s *state) follow(in Instruction) bool {
	if s.do(in) != nil && s.aKnown && s.xKnown {
		return false
	}
	switch in.Code {
	case opLoad:
		s.aKnown = in.K == offNR || in.K == offArch
	case opLoadLen, opLoadImm:
		s.aKnown = true
	case opLoadLenX, opLoadImmX:
		s.xKnown = true
	case opLoadMem:
		s.aKnown = s.known[in.K]
	case opLoadMemX:
		s.xKnown = s.known[in.K]
	case opStore:
		s.known[in.K] = s.aKnown
	case opStoreX:
		s.known[in.K] = s.xKnown
	case opTAX:
		s.xKnown = s.aKnown
	case opTXA:
		s.aKnown = s.xKnown
	case opNeg:
	default:
		s.aKnown = s.aKnown && (in.Code&0x08 == 0 || s.xKnown)
	}
	if !s.aKnown {
		s.a = 0
	}
	if !s.xKnown {
		s.x = 0
	}
	return true
}
