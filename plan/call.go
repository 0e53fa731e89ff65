package plan

import (
	"encoding/binary"

	"github.com/kakuri/kakuri/abi"
)

// A Row is one entry of the flat table that a side runs down: a raw system
// call with its arguments, and what its result means for the rows after it.
// Rows come from the operations ([Lower]); package launch turns them into memory.
type Row struct {
	Kind RowKind
	Call abi.Call
	Args []Arg
	Out  Reg // register that gets the result

	// Accept lists errors that are no failure. After one of them OnAccept rows are
	// skipped, after a success OnOK.
	Accept   []abi.Errno
	OnAccept int
	OnOK     int

	Mem *Mem // RowStore, RowLoad, RowIf: the memory
	Off int  // where in it
}

// A RowKind tells calls from the few things that are not one.
type RowKind uint8

// The kinds of rows.
const (
	RowCall  RowKind = iota
	RowStore         // write the low 32 bits of register Args[0] at Mem[Off:]
	RowLoad          // read 32 bits at Mem[Off:] into Out
	RowIf            // skip OnOK rows when the 16 bits at Mem[Off:], masked by S_IFMT, are Args[0]
	RowFail          // fail with the error noted by RowNote calls, or else Accept[0]
	RowNote          // a call whose accepted error other than Accept[0] is kept for RowFail
	RowClose         // close(2), after which register Args[0] is empty
	RowFork          // clone(CLONE_PARENT): the copy goes on, this process ends
	RowInit          // fork: the copy goes on, this process stays as init and reaps
)

// An Arg is one argument of a call: a number, a register's value, or an address.
type Arg struct {
	Val uint64
	Reg Reg
	Mem *Mem
}

// A Mem is memory that a call points at. Refs are addresses in it.
type Mem struct {
	Data []byte
	Refs []Ref
}

// A Ref says that Data[Off:Off+8] holds the address of To.
type Ref struct {
	Off int
	To  *Mem
}

// num, reg, mem, str make arguments.
func num(v uint64) Arg  { return Arg{Val: v} }
func fd(r Reg) Arg      { return Arg{Reg: r} }
func mem(b []byte) Arg  { return Arg{Mem: &Mem{Data: b}} }
func size(b []byte) Arg { return num(uint64(len(b))) }

// atFDCWD is AT_FDCWD as a register-wide number.
const atFDCWD = ^uint64(99)

func cwd() Arg { return num(atFDCWD) }

// str is a C string.
func str(s string) Arg {
	b := make([]byte, len(s)+1)
	copy(b, s)
	return mem(b)
}

// vector is an array of C strings, as execve(2) takes it.
func vector(list []string) Arg {
	m := &Mem{Data: make([]byte, 8*(len(list)+1))}
	for i, s := range list {
		m.Refs = append(m.Refs, Ref{Off: 8 * i, To: str(s).Mem})
	}
	return Arg{Mem: m}
}

// An Asm collects the rows of one step.
type Asm struct {
	Rows []Row
	o    abi.OpenFlags // open(2) flags of the architecture
	temp Reg
	open []Reg // temporary registers to close at the end of the step
}

// call adds a row.
func (a *Asm) call(c abi.Call, args ...Arg) *Row {
	a.Rows = append(a.Rows, Row{Call: c, Args: args})
	return &a.Rows[len(a.Rows)-1]
}

// into names the register for the result.
func (r *Row) into(reg Reg) *Row { r.Out = reg; return r }

// accept names errors that are no failure.
func (r *Row) accept(e ...abi.Errno) *Row { r.Accept = e; return r }

// tmp gives a register that is closed when the step ends.
func (a *Asm) tmp() Reg {
	r := regTemp + a.temp
	if r >= NumRegs {
		panic("plan: a step needs more temporary registers than there are")
	}
	a.temp++
	a.open = append(a.open, r)
	return r
}

// finish closes the step's temporary registers. A register that was never
// filled holds -1, which close answers with EBADF.
func (a *Asm) finish() {
	for _, r := range a.open {
		a.Rows = append(a.Rows, Row{Kind: RowClose, Call: abi.CallClose, Args: []Arg{fd(r)}, Accept: []abi.Errno{abi.EBADF}})
	}
}

// here returns the index of the next row; with skipOK and skipAccept it closes
// the jump of an earlier row.
func (a *Asm) here() int { return len(a.Rows) }

func (a *Asm) skipOK(row int)     { a.Rows[row].OnOK = a.here() - row - 1 }
func (a *Asm) skipAccept(row int) { a.Rows[row].OnAccept = a.here() - row - 1 }

// jump adds a row that always goes on at the place closed by skipOK: the
// cheapest call that cannot fail.
func (a *Asm) jump() int {
	a.call(abi.CallGetpid)
	return a.here() - 1
}

// ifDirectory asks for the type of what a register holds; the rows after it, up
// to the skipOK of its result, are for anything but a directory. It needs no
// permission on it.
func (a *Asm) ifDirectory(r Reg) int {
	const statxType, modeOffset = 1, 28 // struct statx
	buf := &Mem{Data: make([]byte, 256)}
	a.call(abi.CallStatx, fd(r), str(""), num(abi.AtEmptyPath), num(statxType), Arg{Mem: buf})
	a.Rows = append(a.Rows, Row{Kind: RowIf, Mem: buf, Off: modeOffset, Args: []Arg{num(abi.SIfdir)}})
	return a.here() - 1
}

// Lower returns the rows of op. An operation that is not made of raw calls
// (it needs the runtime's hands: see package launch) has none.
func Lower(op Op, arch abi.Arch) []Row {
	a := Asm{o: arch.OpenFlags()}
	op.lower(&a)
	a.finish()
	return a.Rows
}

// openHow is struct open_how of openat2(2).
func openHow(flags, mode, resolve uint64) Arg {
	b := make([]byte, 24)
	le := binary.LittleEndian
	le.PutUint64(b, flags)
	le.PutUint64(b[8:], mode)
	le.PutUint64(b[16:], resolve)
	return mem(b)
}

// mountAttr is struct mount_attr of mount_setattr(2).
func mountAttr(set, clr, propagation uint64) *Mem {
	b := make([]byte, 32)
	le := binary.LittleEndian
	le.PutUint64(b, set)
	le.PutUint64(b[8:], clr)
	le.PutUint64(b[16:], propagation)
	return &Mem{Data: b}
}

// CloseTemps closes, in one side's registers, those that hold a step's temporary
// descriptors: what is left of a step that failed in the middle.
func CloseTemps(regs []int64, close func(fd int)) {
	for i := int(regTemp); i < len(regs); i++ {
		if regs[i] >= 0 {
			close(int(regs[i]))
			regs[i] = -1
		}
	}
}
