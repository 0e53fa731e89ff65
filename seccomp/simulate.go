package seccomp

import (
	"errors"
	"fmt"

	"github.com/kakuri/kakuri/abi"
)

// The operations that Compile does not use but a filter may have. X is the
// second register; a name that ends in X takes it in place of K.
const (
	opRetA     = 0x16
	opLoadImm  = 0x00
	opLoadImmX = 0x01
	opLoadLen  = 0x80
	opLoadLenX = 0x81
	opLoadMem  = 0x60
	opLoadMemX = 0x61
	opStore    = 0x02
	opStoreX   = 0x03
	opTAX      = 0x07
	opTXA      = 0x87
	opAdd      = 0x04
	opSub      = 0x14
	opMul      = 0x24
	opDiv      = 0x34
	opOr       = 0x44
	opLsh      = 0x64
	opRsh      = 0x74
	opNeg      = 0x84
	opXor      = 0xa4
	opAddX     = 0x0c
	opSubX     = 0x1c
	opMulX     = 0x2c
	opDivX     = 0x3c
	opOrX      = 0x4c
	opAndX     = 0x5c
	opLshX     = 0x6c
	opRshX     = 0x7c
	opXorX     = 0xac
	opEqualX   = 0x1d
	opGreatX   = 0x2d
	opAtOverX  = 0x3d
	opAnySetX  = 0x4d

	memWords = 16
)

// Data is what a filter sees of a system call: struct seccomp_data.
type Data struct {
	NR   uint32 // with x32's bit where it is such a call
	Arch uint32 // AUDIT_ARCH_*, see abi.Arch.AuditArch
	IP   uint64
	Args [6]uint64
}

// word reads the 32 bits at offset, in the byte order of the data's architecture.
func (d *Data) word(offset uint32) uint32 {
	switch {
	case offset == offNR:
		return d.NR
	case offset == offArch:
		return d.Arch
	}
	v := d.IP
	if offset >= offArgs {
		v = d.Args[(offset-offArgs)/8]
	}
	const littleEndian = 0x40000000
	if first := offset%8 == 0; first == (d.Arch&littleEndian != 0) {
		return uint32(v)
	}
	return uint32(v >> 32)
}

// A machine is the state of a running filter.
type machine struct {
	data *Data
	a, x uint32
	mem  [memWords]uint32
}

var errDivision = errors.New("division by zero")

// Simulate runs prog on one system call. It returns the answer, an action with its
// data (abi.SeccompRet*), and how many instructions it took. The error says which
// instruction the kernel would not have taken; prog need not have passed [Validate].
func Simulate(prog []Instruction, d Data) (action uint32, steps int, err error) {
	m := machine{data: &d}
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		steps++
		switch in.Code {
		case opRet:
			return in.K, steps, nil
		case opRetA:
			return m.a, steps, nil
		case opJump:
			pc += int(in.K)
		case opEqual, opGreat, opAtOver, opAnySet, opEqualX, opGreatX, opAtOverX, opAnySetX:
			if m.test(in) {
				pc += int(in.JT)
			} else {
				pc += int(in.JF)
			}
		default:
			if err := checkInstruction(in, len(prog)-pc-1); err != nil {
				return 0, steps, fmt.Errorf("instruction %d: %w", pc, err)
			}
			if err := m.do(in); errors.Is(err, errDivision) {
				return 0, steps, nil // the kernel's interpreter then answers 0
			}
		}
	}
	return 0, steps, fmt.Errorf("ran past the last of %d instructions", len(prog))
}

func (m *machine) test(in Instruction) bool {
	k := in.K
	if in.Code&0x08 != 0 {
		k = m.x
	}
	switch in.Code &^ 0x08 {
	case opEqual:
		return m.a == k
	case opGreat:
		return m.a > k
	case opAtOver:
		return m.a >= k
	}
	return m.a&k != 0
}

// do carries out an instruction that neither jumps nor returns.
func (m *machine) do(in Instruction) error {
	switch in.Code {
	case opLoad:
		m.a = m.data.word(in.K)
	case opLoadLen:
		m.a = dataLen
	case opLoadLenX:
		m.x = dataLen
	case opLoadImm:
		m.a = in.K
	case opLoadImmX:
		m.x = in.K
	case opLoadMem:
		m.a = m.mem[in.K]
	case opLoadMemX:
		m.x = m.mem[in.K]
	case opStore:
		m.mem[in.K] = m.a
	case opStoreX:
		m.mem[in.K] = m.x
	case opTAX:
		m.x = m.a
	case opTXA:
		m.a = m.x
	case opNeg:
		m.a = -m.a
	default:
		return m.calculate(in)
	}
	return nil
}

func (m *machine) calculate(in Instruction) error {
	k := in.K
	if in.Code&0x08 != 0 {
		k = m.x
	}
	switch in.Code &^ 0x08 {
	case opAdd:
		m.a += k
	case opSub:
		m.a -= k
	case opMul:
		m.a *= k
	case opDiv:
		if k == 0 {
			return errDivision
		}
		m.a /= k
	case opAnd:
		m.a &= k
	case opOr:
		m.a |= k
	case opXor:
		m.a ^= k
	case opLsh:
		m.a <<= k & 31
	case opRsh:
		m.a >>= k & 31
	}
	return nil
}

// Decide runs p on the call nr of arch with the given arguments: what happens to
// it. It is 0, kill the thread, if p is not a valid program.
func (p *Program) Decide(arch abi.Arch, nr uint32, args ...uint64) uint32 {
	d := Data{NR: nr, Arch: arch.AuditArch()}
	copy(d.Args[:], args)
	action, _, err := Simulate(p.Instructions, d)
	if err != nil {
		return abi.SeccompRetKillThread
	}
	return action
}
