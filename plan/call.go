package plan

import (
	"encoding/binary"

	"github.com/kakuri/kakuri/abi"
)

// A Row is one entry of the flat table that a side runs down: a raw system
// call with its arguments, and what its result means for the rows after it.
// Rows come from the operations ([Asm.Lower]); package launch turns them into memory.
type Row struct {
	Kind RowKind
	Call abi.Call
	Args [6]Arg
	N    uint8 // how many arguments there are
	Out  Reg   // register that gets the result

	// Accept lists errors that are no failure, 0 is none. After one of them
	// OnAccept rows are skipped, after a success OnOK.
	Accept   [4]abi.Errno
	OnAccept int
	OnOK     int

	Mem *Mem // RowStore, RowLoad, RowIf, RowOctal, RowMake: the memory
	Off int  // where in it
}

// A RowKind tells calls from the few things that are not one.
type RowKind uint8

// The kinds of rows.
const (
	RowCall      RowKind = iota
	RowStore             // write the low 32 bits of register Args[0] at Mem[Off:]
	RowLoad              // read 32 bits at Mem[Off:] into Out
	RowIf                // skip OnOK rows when the 32 bits at Mem[Off:], masked by Args[1], are Args[0]
	RowHeld              // skip OnOK rows when register Args[0] is filled
	RowSkip              // skip OnOK rows
	RowOctal             // write the permissions in the 16 bits at Mem[Off:] as four octal digits to Args[0]
	RowMake              // make what is missing of a path: see [Asm.makePath]
	RowFail              // fail with the error noted by RowNote calls, or else Accept[0]
	RowNote              // a call whose accepted error other than Accept[0] is kept for RowFail
	RowClose             // close(2), after which register Args[0] is empty
	RowFork              // clone(CLONE_PARENT): the copy goes on, this process ends
	RowInit              // fork: the copy goes on, this process stays as init and reaps
	RowCloseRest         // close_range(2) from Args[0] to Args[5], but for the registers between them
)

// An Arg is one argument of a call: a number, a register's value, or an address.
type Arg struct {
	Val uint64
	Mem *Mem
	Reg Reg
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

// num, fd, memArg and cwd make arguments.
func num(v uint64) Arg  { return Arg{Val: v} }
func fd(r Reg) Arg      { return Arg{Reg: r} }
func memArg(m *Mem) Arg { return Arg{Mem: m} }
func size(b []byte) Arg { return num(uint64(len(b))) }
func cwd() Arg          { return num(atFDCWD) }

// atFDCWD is AT_FDCWD as a register-wide number.
const atFDCWD = ^uint64(99)

// An Asm lowers operations to rows. Memory comes from a few large pieces, since
// each page that is touched first costs a page fault at the start of every
// container. The zero value is not of use: see [NewAsm].
type Asm struct {
	o    abi.OpenFlags // open(2) flags of the architecture
	Rows []Row         // of the step under way
	temp Reg
	// resolve is how paths of the container are looked up in this step.
	resolve uint64
	data    []byte // what is left of the current piece
	mems    []Mem

	walk *Mem // where paths are put together, one after the other

	// All pieces: rows that were turned into addresses no longer hold them.
	pieces [][]byte
	chunks [][]Mem

	// The last C strings and open_how structures: neighbouring rows share them.
	recent [16]*Mem
	next   uint8
}

// NewAsm returns an Asm for an architecture.
func NewAsm(arch abi.Arch) *Asm { return &Asm{o: arch.OpenFlags(), Rows: make([]Row, 0, 24)} }

// Lower returns the rows of op, valid until the next call; the memory they point
// at is valid as long as the Asm. An operation that is not made of raw calls (it
// needs the runtime's hands: see package launch) has none.
func (a *Asm) Lower(op Op) []Row {
	a.Rows, a.temp, a.resolve = a.Rows[:0], 0, inRoot
	op.lower(a)
	for r := regTemp; r < regTemp+a.temp; r++ {
		a.close(r)
	}
	return a.Rows
}

// close empties a temporary register. One that was never filled holds -1, which
// close(2) answers with EBADF.
func (a *Asm) close(r Reg) {
	a.row(Row{Kind: RowClose, Call: abi.CallClose, Args: [6]Arg{fd(r)}, N: 1, Accept: [4]abi.Errno{abi.EBADF}})
}

// Lower returns the rows of one operation, see [Asm.Lower].
func Lower(op Op, arch abi.Arch) []Row { return NewAsm(arch).Lower(op) }

func (a *Asm) row(r Row) *Row {
	a.Rows = append(a.Rows, r)
	return &a.Rows[len(a.Rows)-1]
}

// call adds a row.
func (a *Asm) call(c abi.Call, args ...Arg) *Row {
	r := a.row(Row{Call: c, N: uint8(len(args))})
	copy(r.Args[:], args)
	return r
}

// into names the register for the result.
func (r *Row) into(reg Reg) *Row { r.Out = reg; return r }

// accept names errors that are no failure.
func (r *Row) accept(e ...abi.Errno) *Row { copy(r.Accept[:], e); return r }

// tmp gives a register that is closed when the step ends.
func (a *Asm) tmp() Reg {
	r := regTemp + a.temp
	if r >= NumRegs {
		panic("plan: a step needs more temporary registers than there are")
	}
	a.temp++
	return r
}

// here returns the index of the next row; with skipOK and skipAccept it closes
// the jump of an earlier row.
func (a *Asm) here() int { return len(a.Rows) }

func (a *Asm) skipOK(row int)     { a.Rows[row].OnOK = a.here() - row - 1 }
func (a *Asm) skipAccept(row int) { a.Rows[row].OnAccept = a.here() - row - 1 }

// jump adds a row that always goes on at the place closed by skipOK.
func (a *Asm) jump() int {
	a.row(Row{Kind: RowSkip})
	return a.here() - 1
}

// ifHeld adds a row that goes on at the place closed by skipOK where a register is filled.
func (a *Asm) ifHeld(r Reg) int {
	a.row(Row{Kind: RowHeld, Args: [6]Arg{fd(r)}, N: 1})
	return a.here() - 1
}

// alloc gives n zeroed bytes, aligned for the kernel's structures.
func (a *Asm) alloc(n int) []byte {
	size := (n + 7) &^ 7
	if size > len(a.data) {
		a.data = make([]byte, max(8<<10, size))
		a.pieces = append(a.pieces, a.data)
	}
	b := a.data[:n:n]
	a.data = a.data[size:]
	return b
}

// newMem wraps memory.
func (a *Asm) newMem(data []byte) *Mem {
	if len(a.mems) == cap(a.mems) {
		a.mems = make([]Mem, 0, 128)
		a.chunks = append(a.chunks, a.mems[:cap(a.mems)])
	}
	a.mems = append(a.mems, Mem{Data: data})
	return &a.mems[len(a.mems)-1]
}

func (a *Asm) mem(b []byte) Arg { return memArg(a.newMem(b)) }

// str is a C string.
func (a *Asm) str(s string) Arg { return memArg(a.cstr(s)) }

func (a *Asm) cstr(s string) *Mem {
	for _, m := range a.recent {
		if m != nil && len(m.Data) == len(s)+1 && string(m.Data[:len(s)]) == s {
			return m
		}
	}
	b := a.alloc(len(s) + 1)
	copy(b, s)
	return a.remember(a.newMem(b))
}

func (a *Asm) remember(m *Mem) *Mem {
	a.recent[a.next%uint8(len(a.recent))] = m
	a.next++
	return m
}

// vector is an array of C strings, as execve(2) takes it.
func (a *Asm) vector(list []string) Arg {
	m := a.newMem(a.alloc(8 * (len(list) + 1)))
	m.Refs = make([]Ref, len(list))
	for i, s := range list {
		m.Refs[i] = Ref{Off: 8 * i, To: a.cstr(s)}
	}
	return memArg(m)
}

// openHow is struct open_how of openat2(2), for a file that is there: its mode is 0.
func (a *Asm) openHow(flags, resolve uint64) Arg {
	var how [24]byte
	le := binary.LittleEndian
	le.PutUint64(how[:], flags)
	le.PutUint64(how[16:], resolve)
	for _, m := range a.recent {
		if m != nil && len(m.Data) == len(how) && string(m.Data) == string(how[:]) {
			return memArg(m)
		}
	}
	b := a.alloc(len(how))
	copy(b, how[:])
	return memArg(a.remember(a.newMem(b)))
}

// mountAttr is struct mount_attr of mount_setattr(2).
func (a *Asm) mountAttr(set, clr, propagation uint64) *Mem {
	b := a.alloc(32)
	le := binary.LittleEndian
	le.PutUint64(b, set)
	le.PutUint64(b[8:], clr)
	le.PutUint64(b[16:], propagation)
	return a.newMem(b)
}

// ifType asks for the type of what a register holds; the rows after it, up
// to the skipOK of its result, are for anything but a file of that type. It needs no
// permission on it.
func (a *Asm) ifType(r Reg, kind uint64) int {
	return a.ifMasked(a.statx(r, statxType), statxMode, kind, abi.SIfmt)
}

// ifMasked is the condition of [RowIf] itself.
func (a *Asm) ifMasked(m *Mem, off int, value, mask uint64) int {
	a.row(Row{Kind: RowIf, Mem: m, Off: off, Args: [6]Arg{num(value), num(mask)}, N: 2})
	return a.here() - 1
}

// fail ends the step with an error, in the name of a call.
func (a *Asm) fail(c abi.Call, e abi.Errno) {
	a.row(Row{Kind: RowFail, Call: c, Accept: [4]abi.Errno{e}})
}

// Parts of struct statx, and where its mode, its inode and a device's numbers are.
const (
	statxType  = 1
	statxPerm  = 2
	statxIno   = 0x100
	statxMode  = 28
	statxInode = 32
	statxMajor = 128
	statxMinor = 132
)

// What statfs(2) says of a procfs, and the inode of its root: the kernel's PROC_ROOT_INO.
const (
	procMagic = 0x9fa0
	procRoot  = 1
)

// What statx(2) has beside the modes: the attributes, and that something is a mount's root.
const (
	statxAttributes = 8
	statxMountRoot  = 0x2000
)

// ifProc asks whether what a register holds is of a procfs; the rows after it, up to the
// skipOK of its result, are for anything else.
func (a *Asm) ifProc(r Reg) int {
	buf := a.newMem(a.alloc(120)) // struct statfs: the type comes first
	a.call(abi.CallFstatfs, fd(r), memArg(buf))
	return a.ifMasked(buf, 0, procMagic, 0xffffffff)
}

// notInProc fails where what a register holds is inside a procfs: what the kernel shows there, to the
// container and to those who enter it, is nothing to be covered. Its root may be.
func (a *Asm) notInProc(r Reg) {
	proc := a.ifProc(r)
	other := a.jump()
	a.skipOK(proc)
	root := a.ifMasked(a.statx(r, statxIno), statxInode, procRoot, 0xffffffff)
	a.fail(abi.CallFstatfs, abi.EPERM)
	a.skipOK(root)
	a.skipOK(other)
}

// notRoot fails where a place, which was found by a path that may have links in it, is the root itself: what is mounted there would be seen by nobody but those
// who enter the mount namespace, and instead of the root. A rename of "." never is done; it says first whether the two directories may
// be searched, as the root may, and whether they are of one mount.
func (a *Asm) notRoot(at Reg) {
	top := a.ifMasked(a.statx(at, statxType), statxAttributes, statxMountRoot, statxMountRoot)
	below := a.jump()
	a.skipOK(top)
	a.call(abi.CallRenameat2, fd(RegRoot), a.str("."), fd(at), a.str("."), num(0)).accept(abi.EXDEV, abi.ENOTDIR, abi.EACCES)
	a.skipOK(below)
}

// statx asks for parts of the status of what a register holds: statx(2).
func (a *Asm) statx(r Reg, mask uint64) *Mem {
	buf := a.newMem(a.alloc(256))
	a.call(abi.CallStatx, fd(r), a.str(""), num(abi.AtEmptyPath), num(mask), memArg(buf))
	return buf
}

// octal writes the permissions of what a register holds to text, in four digits.
func (a *Asm) octal(r Reg, text *Mem) {
	a.row(Row{Kind: RowOctal, Args: [6]Arg{memArg(text)}, N: 1, Mem: a.statx(r, statxPerm), Off: statxMode})
}

// Flags of [RowMake].
const (
	MakeFile   = 1 << iota // the last component is to be an empty file
	MakeStrict             // no symbolic link may be on the way
)

const (
	// WalkSize is how much memory a row of that kind needs: twice PATH_MAX for the path that is left
	// to walk, which a link makes longer, PATH_MAX for the one that was walked and for a link's text, and what
	// keeps the account.
	WalkSize = 4*4096 + 128
)

// makePath makes what is missing of a path below base: directories, and with MakeFile an empty
// file at its end. The first skip bytes of the path are what parent holds. A symbolic link to
// something missing gets its target made; where it leads is worked out here, a component at a
// time, as openat2(2) with RESOLVE_IN_ROOT would find it: the kernel makes nothing behind a
// link but a file, and that in a directory that is there. The result is looked up by the caller:
// nothing that is made here is mounted on before openat2 has found it.
func (a *Asm) makePath(base, parent Reg, p string, skip int, flags uint64) {
	if a.walk == nil {
		a.walk = a.newMem(make([]byte, WalkSize))
	}
	if a.resolve&abi.ResolveNoSymlinks != 0 {
		flags |= MakeStrict
	}
	a.row(Row{
		Kind: RowMake, Call: abi.CallMkdirat, Args: [6]Arg{fd(base), a.str(p), fd(parent), num(uint64(skip)), num(flags)}, N: 5,
		Mem: a.walk,
	})
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
