package seccomp

import (
	"encoding/binary"
	"fmt"

	"github.com/kakuri/kakuri/abi"
)

// MaxInstructions is how long a program may be: BPF_MAXINSNS.
const MaxInstructions = 4096

// An Instruction is one instruction of classic BPF, struct sock_filter.
type Instruction struct {
	Code   uint16
	JT, JF uint8 // instructions to skip when a test holds, when it does not
	K      uint32
}

// The instructions that Compile writes: see the kernel's filter.rst. The simulator
// knows the rest of what seccomp(2) accepts.
const (
	opLoad   = 0x20 // A = 32 bits of the call's data at K
	opRet    = 0x06 // answer K
	opJump   = 0x05 // skip K instructions
	opEqual  = 0x15 // A == K
	opGreat  = 0x25 // A > K
	opAtOver = 0x35 // A >= K
	opAnySet = 0x45 // A & K != 0
	opAnd    = 0x54 // A &= K
)

// Where struct seccomp_data has its fields, in bytes.
const (
	offNR   = 0
	offArch = 4
	offIP   = 8
	offArgs = 16
	dataLen = 64
)

// A Program is a filter ready for seccomp(2).
type Program struct {
	Instructions []Instruction

	// Flags for SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_*. With NEW_LISTENER
	// the call returns a descriptor, which has to reach the profile's listenerPath.
	Flags uint

	// Notify tells that some call is answered by that listener.
	Notify bool

	// Arch is the architecture that the program is for; it gives the order of Bytes.
	Arch abi.Arch

	// Unknown are the names in the profile that no architecture has, in its order:
	// calls newer than abi.SyscallsAsOf, or slips of the pen.
	Unknown []string
}

// Bytes returns the program as the array of struct sock_filter that sock_fprog points
// to, eight bytes an instruction, in the byte order of p.Arch.
func (p *Program) Bytes() []byte {
	var order binary.AppendByteOrder = binary.BigEndian
	if p.Arch.LittleEndian() {
		order = binary.LittleEndian
	}
	b := make([]byte, 0, 8*len(p.Instructions))
	for _, in := range p.Instructions {
		b = order.AppendUint16(b, in.Code)
		b = append(b, in.JT, in.JF)
		b = order.AppendUint32(b, in.K)
	}
	return b
}

// Validate checks prog as the kernel does before it takes a filter
// (bpf_check_classic and seccomp_check_filter): the length, each operation, each jump's
// target, no division by nothing, no memory word that is read unwritten, and a return at the end.
func Validate(prog []Instruction) error {
	if len(prog) == 0 || len(prog) > MaxInstructions {
		return fmt.Errorf("program of %d instructions: the kernel takes 1 to %d", len(prog), MaxInstructions)
	}
	for i, in := range prog {
		if err := checkInstruction(in, len(prog)-i-1); err != nil {
			return fmt.Errorf("instruction %d: %w", i, err)
		}
	}
	if last := prog[len(prog)-1].Code; last != opRet && last != opRetA {
		return fmt.Errorf("instruction %d: the last one does not return", len(prog)-1)
	}
	return checkMemory(prog)
}

// checkInstruction checks one instruction with after more behind it.
func checkInstruction(in Instruction, after int) error {
	switch in.Code {
	case opLoad:
		if in.K%4 != 0 || in.K >= dataLen {
			return fmt.Errorf("load from offset %d of the call's data", in.K)
		}
	case opJump:
		if uint64(in.K) >= uint64(after) {
			return fmt.Errorf("jump over %d of %d instructions", in.K, after)
		}
	case opEqual, opGreat, opAtOver, opAnySet, opEqualX, opGreatX, opAtOverX, opAnySetX:
		if int(in.JT) >= after || int(in.JF) >= after {
			return fmt.Errorf("jump over %d or %d of %d instructions", in.JT, in.JF, after)
		}
	case opDiv:
		if in.K == 0 {
			return fmt.Errorf("division by zero")
		}
	case opLsh, opRsh:
		if in.K >= 32 {
			return fmt.Errorf("shift by %d bits", in.K)
		}
	case opLoadMem, opLoadMemX, opStore, opStoreX:
		if in.K >= memWords {
			return fmt.Errorf("memory word %d of %d", in.K, memWords)
		}
	case opRet, opRetA, opLoadLen, opLoadLenX, opLoadImm, opLoadImmX, opTAX, opTXA,
		opAdd, opSub, opMul, opAnd, opOr, opXor, opNeg,
		opAddX, opSubX, opMulX, opDivX, opAndX, opOrX, opXorX, opLshX, opRshX:
	default:
		return fmt.Errorf("operation %#x is not one of a seccomp filter", in.Code)
	}
	return nil
}

// checkMemory follows all ways through prog and refuses one on which a memory word is
// read before it was written. Jumps only go forward, so one pass meets every
// instruction after all that lead to it.
func checkMemory(prog []Instruction) error {
	written := make([]uint16, len(prog)+1) // on every way to an instruction
	for i := range written {
		written[i] = 0xffff
	}
	written[0] = 0
	for i, in := range prog {
		w := written[i]
		switch in.Code {
		case opStore, opStoreX:
			w |= 1 << in.K
		case opLoadMem, opLoadMemX:
			if w&(1<<in.K) == 0 {
				return fmt.Errorf("instruction %d: memory word %d was not written", i, in.K)
			}
		case opJump:
			written[i+1+int(in.K)] &= w
			continue
		case opEqual, opGreat, opAtOver, opAnySet, opEqualX, opGreatX, opAtOverX, opAnySetX:
			written[i+1+int(in.JT)] &= w
			written[i+1+int(in.JF)] &= w
			continue
		case opRet, opRetA:
			continue
		}
		written[i+1] &= w
	}
	return nil
}
