package launch

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/process"
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
	accept   [4]uint8
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
	copy  *word  // where the kernel writes the pid of a fork's copy, nil where there is no fork

	// This program's command line and environment, as the kernel shows them in /proc.
	args, env area
}

// memArg is the argument that holds the address of a store, load or if.
const memArg = 5

func newTable() *table {
	t := &table{asm: plan.NewAsm(arch())}
	copy(t.name[:], "init")
	for i := range t.regs {
		t.regs[i] = -1
	}
	return t
}

// An area is a piece of this process's memory that is not Go's.
type area struct {
	at   unsafe.Pointer
	size uintptr
}

// ownWords finds this program's arguments and environment where the kernel put them: the
// fields arg_start to env_end of proc_pid_stat(5). The strings of os.Args and os.Environ
// are there, too.
func ownWords() (args, env area, err error) {
	data, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return args, env, err
	}
	fields := process.Fields(data)
	const argStart = 48 - 3 // the name and the pid before it are gone
	var at [4]uintptr
	for i := range at {
		if len(fields) < argStart+len(at) {
			return args, env, fmt.Errorf("/proc/self/stat has %d fields", len(fields)+2)
		}
		n, err := strconv.ParseUint(string(fields[argStart+i]), 10, 64)
		if err != nil {
			return args, env, err
		}
		at[i] = uintptr(n)
	}
	return area{unsafe.Add(nil, at[0]), at[1] - at[0]}, area{unsafe.Add(nil, at[2]), at[3] - at[2]}, nil
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
