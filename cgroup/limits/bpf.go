package limits

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// An Instruction is one of extended BPF: bpf(2), and the kernel's
// Documentation/bpf/standardization/instruction-set.rst.
type Instruction struct {
	Op       byte
	Dst, Src byte // registers 0 to 10
	Off      int16
	Imm      int32
}

// The codes that device programs are made of: class, operation and source in one.
const (
	opLoad   = 0x61 // dst = *(u32 *)(src + off)
	opMovImm = 0xb4 // 32 bits
	opMovReg = 0xbc
	opAndImm = 0x54
	opShrImm = 0x74
	opJneImm = 0x56 // if (u32)dst != imm goto +off
	opJset   = 0x46 // if (u32)dst & imm goto +off
	opJump   = 0x05 // goto +off
	opExit   = 0x95
)

// A Program is a BPF_PROG_TYPE_CGROUP_DEVICE program.
type Program []Instruction

// Bytes is the program as the kernel of a little-endian machine loads it.
func (p Program) Bytes() []byte {
	b := make([]byte, 0, 8*len(p))
	for _, i := range p {
		b = append(b, i.Op, i.Src<<4|i.Dst)
		b = binary.LittleEndian.AppendUint16(b, uint16(i.Off))
		b = binary.LittleEndian.AppendUint32(b, uint32(i.Imm))
	}
	return b
}

// Program is the policy as a program. It gets struct bpf_cgroup_dev_ctx (access and
// type in one word, major, minor) and returns 1 to allow, 0 to refuse with EPERM.
//
// Each exception is a block that ends with the other answer, or jumps to the next one.
func (d Devices) Program() Program {
	const ctx, typ, access, major, minor = 1, 2, 3, 4, 5 // registers
	p := Program{
		{Op: opLoad, Dst: typ, Src: ctx},
		{Op: opMovReg, Dst: access, Src: typ},
		{Op: opAndImm, Dst: typ, Imm: 0xffff},
		{Op: opShrImm, Dst: access, Imm: 16},
		{Op: opLoad, Dst: major, Src: ctx, Off: 4},
		{Op: opLoad, Dst: minor, Src: ctx, Off: 8},
	}
	for _, e := range d.exceptions {
		block := Program{{Op: opJneImm, Dst: typ, Imm: deviceType(e.Type)}}
		if e.Major != Any {
			block = append(block, Instruction{Op: opJneImm, Dst: major, Imm: int32(uint32(e.Major))})
		}
		if e.Minor != Any {
			block = append(block, Instruction{Op: opJneImm, Dst: minor, Imm: int32(uint32(e.Minor))})
		}
		switch {
		case e.Access == allAccess:
		case d.allowAll: // one denied bit denies the access
			block = append(block, Instruction{Op: opJset, Dst: access, Off: 1, Imm: int32(e.Access)}, Instruction{Op: opJump})
		default: // one bit that is not allowed leaves it to the others
			block = append(block, Instruction{Op: opJset, Dst: access, Imm: ^int32(e.Access)})
		}
		block = append(block, Instruction{Op: opMovImm, Imm: boolImm(!d.allowAll)}, Instruction{Op: opExit})
		for i := range block {
			if op := block[i].Op; (op == opJneImm || op == opJset || op == opJump) && block[i].Off == 0 {
				block[i].Off = int16(len(block) - i - 1)
			}
		}
		p = append(p, block...)
	}
	return append(p, Instruction{Op: opMovImm, Imm: boolImm(d.allowAll)}, Instruction{Op: opExit})
}

// deviceType is BPF_DEVCG_DEV_BLOCK or BPF_DEVCG_DEV_CHAR.
func deviceType(t byte) int32 {
	if t == 'b' {
		return 1
	}
	return 2
}

func boolImm(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// Simulate runs a program on one access to a device as the kernel would. An error is
// what the kernel's verifier would not have let in.
func (p Program) Simulate(typ byte, major, minor uint32, a Access) (bool, error) {
	var r [11]uint32
	ctx := [3]uint32{uint32(a)<<16 | uint32(deviceType(typ)), major, minor}
	for pc := 0; pc < len(p); pc++ { // jumps go forward only: it ends
		i := p[pc]
		if i.Dst > 10 || i.Src > 10 || i.Off < 0 {
			return false, fmt.Errorf("instruction %d: register or offset out of range", pc)
		}
		jump := false
		switch i.Op {
		case opLoad:
			if i.Src != 1 || i.Off%4 != 0 || int(i.Off/4) >= len(ctx) {
				return false, fmt.Errorf("instruction %d: reads outside of the context", pc)
			}
			r[i.Dst] = ctx[i.Off/4]
		case opMovImm:
			r[i.Dst] = uint32(i.Imm)
		case opMovReg:
			r[i.Dst] = r[i.Src]
		case opAndImm:
			r[i.Dst] &= uint32(i.Imm)
		case opShrImm:
			r[i.Dst] >>= uint32(i.Imm)
		case opJneImm:
			jump = r[i.Dst] != uint32(i.Imm)
		case opJset:
			jump = r[i.Dst]&uint32(i.Imm) != 0
		case opJump:
			jump = true
		case opExit:
			return r[0] == 1, nil
		default:
			return false, fmt.Errorf("instruction %d: code %#x", pc, i.Op)
		}
		if jump {
			pc += int(i.Off)
		}
	}
	return false, errors.New("the program has no end")
}
