package launch

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
)

// A row is a plan.Row with addresses in place of memory, as the loop needs it. It
// is kept small: each page of rows is a page fault, twice, before the execve.
type row struct {
	args     [6]uintptr
	step     uint16
	index    uint16 // of the row within its step
	nr       uint16
	onOK     uint8
	onAccept uint8
	accept   [3]uint8
	regs     [6]uint8
	out      uint8
	kind     uint8
	message  bool // recvmsg: the only good result is a whole message
}

// A table is one side's rows and registers.
type table struct {
	rows []row
	regs [plan.NumRegs]int64
	asm  *plan.Asm  // holds the memory that rows point to
	msg  [3]uint32  // where the child writes its report
	pid1 [16]uint64 // memory for the init loop
	name [16]byte   // what the init calls itself

	stack []byte // the child's, when it shares this process's memory
	pidfd int32  // where clone3 writes the child's

	// This program's command line, as the kernel shows it in /proc.
	argv    unsafe.Pointer
	argvLen uintptr
}

// memArg is the argument that holds the address of a store, load or if.
const memArg = 5

func newTable() *table {
	t := &table{asm: plan.NewAsm(arch())}
	copy(t.name[:], "init")
	t.argv, t.argvLen = commandLine()
	for i := range t.regs {
		t.regs[i] = -1
	}
	return t
}

// commandLine finds this program's arguments where the kernel put them: one
// after the other, to which the strings of os.Args point. When something has
// replaced os.Args it finds nothing.
func commandLine() (unsafe.Pointer, uintptr) {
	if len(os.Args) == 0 {
		return nil, 0
	}
	start := unsafe.Pointer(unsafe.StringData(os.Args[0]))
	end := uintptr(start)
	for _, s := range os.Args {
		if uintptr(unsafe.Pointer(unsafe.StringData(s))) != end {
			return nil, 0
		}
		end += uintptr(len(s)) + 1
	}
	return start, end - uintptr(start) - 1
}

// add appends the rows of step (counted from 0).
func (t *table) add(step int, rows []plan.Row) error {
	for i, r := range rows {
		out := row{
			kind: uint8(r.Kind), out: uint8(r.Out), step: uint16(step), index: uint16(i),
			onOK: uint8(r.OnOK), onAccept: uint8(r.OnAccept), message: r.Call == abi.CallRecvmsg,
		}
		if r.OnOK > 255 || r.OnAccept > 255 || i > 65535 || step > 65535 {
			return fmt.Errorf("row %d: a jump too far", i)
		}
		if r.Call != abi.CallNone {
			nr, ok := r.Call.Number(runtime.GOARCH)
			if !ok {
				return fmt.Errorf("no system call %s on %s", r.Call, runtime.GOARCH)
			}
			out.nr = uint16(nr)
		}
		for k, a := range r.Args[:r.N] {
			switch {
			case a.Mem != nil:
				out.args[k] = address(a.Mem)
			case a.Reg != plan.RegNone:
				out.regs[k] = uint8(a.Reg)
			default:
				out.args[k] = uintptr(a.Val)
			}
		}
		for k, e := range r.Accept {
			out.accept[k] = uint8(e)
		}
		if r.Mem != nil {
			out.args[memArg] = address(r.Mem) + uintptr(r.Off)
		}
		t.rows = append(t.rows, out)
	}
	return nil
}

// address places m: its own slice is the memory, since Go's heap does not move.
// The table keeps it alive.
func address(m *plan.Mem) uintptr {
	for _, ref := range m.Refs {
		at := (*uintptr)(unsafe.Pointer(&m.Data[ref.Off]))
		*at = address(ref.To)
	}
	if len(m.Data) == 0 {
		return uintptr(unsafe.Pointer(&zero))
	}
	return uintptr(unsafe.Pointer(unsafe.SliceData(m.Data)))
}

// zero is what an empty memory points at.
var zero [8]byte
