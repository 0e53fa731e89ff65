package seccomp

import (
	"fmt"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// String returns the program's text, see [Disassemble], under a line with its size
// and flags.
func (p *Program) String() string {
	flags := abi.SeccompFlagWords(uint64(p.Flags))
	if flags == "" {
		flags = "none"
	}
	return fmt.Sprintf("%d instructions, flags %s\n%s", len(p.Instructions), flags, Disassemble(p.Instructions))
}

// Disassemble writes a program for people, a line an instruction: its number, what it
// does, and behind a semicolon what the number in it stands for. Jumps name their targets:
//
//	0  load [4]                            ; architecture
//	1  if A == 0xc000003e then 2 else 130  ; x86_64
//	2  load [0]                            ; system call
//	3  if A >= 335 then 5 else 4           ; uretprobe
//
// An unknown operation shows its code.
func Disassemble(prog []Instruction) string {
	var b strings.Builder
	r := reader{prog: prog, at: make([]view, len(prog))}
	for i := range prog {
		text, note := r.line(i)
		if note != "" {
			fmt.Fprintf(&b, "%4d  %-34s ; %s\n", i, text, note)
		} else {
			fmt.Fprintf(&b, "%4d  %s\n", i, text)
		}
	}
	return b.String()
}

// A view is what is known when an instruction is reached: the architecture, once it was
// asked for, and the field of the call's data that A holds.
type view struct {
	arch   abi.Arch
	loaded bool
	offset uint32
}

// A reader goes through a program once. Jumps only go forward, so that each
// instruction's view is known, from any of those that lead there, when it is met.
type reader struct {
	prog []Instruction
	at   []view
}

// pass tells the instruction skip ahead of i that it may be reached with v.
func (r *reader) pass(i int, skip uint32, v view) {
	if to := uint64(i) + 1 + uint64(skip); to < uint64(len(r.at)) {
		r.at[to] = v
	}
}

func (r *reader) line(i int) (text, note string) {
	in, v := r.prog[i], r.at[i]
	switch in.Code {
	case opLoad:
		v.loaded, v.offset = true, in.K
		r.pass(i, 0, v)
		return fmt.Sprintf("load [%d]", in.K), fieldName(in.K, v.arch)
	case opAnd:
		r.pass(i, 0, v)
		return fmt.Sprintf("A &= %#x", in.K), ""
	case opRet:
		return "return " + fmt.Sprintf("%#x", in.K), AnswerWords(in.K)
	case opJump:
		r.pass(i, in.K, v)
		return fmt.Sprintf("go to %d", uint64(i)+1+uint64(in.K)), ""
	case opEqual, opGreat, opAtOver, opAnySet:
		return r.test(i, in, v)
	}
	r.pass(i, 0, v)
	return fmt.Sprintf("operation %#02x, %d, %d, %#x", in.Code, in.JT, in.JF, in.K), ""
}

func (r *reader) test(i int, in Instruction, v view) (text, note string) {
	signs := map[uint16]string{opEqual: "==", opGreat: ">", opAtOver: ">=", opAnySet: "&"}
	yes, value := v, fmt.Sprintf("%#x", in.K)
	if v.loaded && v.offset == offArch && in.Code == opEqual {
		yes.arch = archOf(in.K)
		note = yes.arch.Name()
	}
	if v.loaded && v.offset == offNR {
		value = fmt.Sprint(in.K)
		note = callName(v.arch, in.K)
	}
	r.pass(i, uint32(in.JF), v)
	r.pass(i, uint32(in.JT), yes)
	return fmt.Sprintf("if A %s %s then %d else %d", signs[in.Code], value, i+1+int(in.JT), i+1+int(in.JF)), note
}

// archOf finds an architecture by its audit value; x32's is x86_64's.
func archOf(audit uint32) abi.Arch {
	for _, a := range abi.Archs() {
		if a.AuditArch() == audit {
			return a
		}
	}
	return abi.ArchNone
}

// callName names a number on arch; empty where there is none.
func callName(arch abi.Arch, nr uint32) string {
	name, ok := arch.SyscallName(nr)
	if !ok && arch == abi.ArchX86_64 {
		if name, ok = abi.ArchX32.SyscallName(nr); ok {
			name += " of x32"
		}
	}
	return name
}

func fieldName(offset uint32, arch abi.Arch) string {
	switch {
	case offset == offNR:
		return "system call"
	case offset == offArch:
		return "architecture"
	case offset < offArgs:
		return "instruction pointer"
	}
	half := "lower half"
	if first := offset%8 == 0; first != arch.LittleEndian() {
		half = "upper half"
	}
	return fmt.Sprintf("argument %d, %s", (offset-offArgs)/8, half)
}

// AnswerWords writes what a filter returns as words: "allow", "errno EPERM",
// "kill process", "trace 1".
func AnswerWords(answer uint32) string {
	data := answer & abi.SeccompRetData
	switch answer & abi.SeccompRetActionFull {
	case abi.SeccompRetAllow:
		return "allow"
	case abi.SeccompRetErrno:
		return "errno " + strings.TrimPrefix(abi.Errno(data).Name(), "errno ")
	case abi.SeccompRetKillProcess:
		return "kill process"
	case abi.SeccompRetKillThread:
		return "kill thread"
	case abi.SeccompRetTrap:
		return "trap"
	case abi.SeccompRetLog:
		return "log and allow"
	case abi.SeccompRetUserNotif:
		return "notify"
	case abi.SeccompRetTrace:
		return fmt.Sprintf("trace %d", data)
	}
	return fmt.Sprintf("%#x", answer)
}
