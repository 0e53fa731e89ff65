package plan

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/kakuri/kakuri/abi"
)

// What package launch relies on in the rows of one step; see launch/table_unsafe.go
// and childRows there.
const (
	maxRows    = 1 << 16 // an index and a jump have 16 bits
	maxRegArgs = 5       // how many arguments may be registers: the first ones
)

// checkRows checks the rows of one step.
func checkRows(t testing.TB, op Op, rows []Row) {
	t.Helper()
	if len(rows) > maxRows {
		t.Errorf("%v: %d rows", op, len(rows))
	}
	for i, r := range rows {
		bad := func(what string) {
			t.Helper()
			t.Errorf("%v: row %d of %d: %s: %+v", op, i, len(rows), what, r)
		}
		if end := i + 1 + max(r.OnOK, r.OnAccept); r.OnOK < 0 || r.OnAccept < 0 || end > len(rows) {
			bad("jumps out of the step")
		}
		if r.OnAccept > 0 && r.Accept[0] == 0 {
			bad("jumps after an error that it does not accept")
		}
		if r.Accept[0] == 0 && (r.Accept[1] != 0 || r.Accept[2] != 0) {
			bad("a gap in the accepted errors")
		}
		if int(r.N) > len(r.Args) || r.Out >= NumRegs {
			bad("too many arguments, or no such register")
		}
		for k, a := range r.Args {
			switch {
			case k >= int(r.N) && a != Arg{}:
				bad("an argument after the last")
			case a.Reg >= NumRegs || (a.Reg != RegNone && k >= maxRegArgs):
				bad("a register that is not looked up")
			case (a.Reg != RegNone && (a.Mem != nil || a.Val != 0)) || (a.Mem != nil && a.Val != 0):
				bad("an argument that is two things")
			}
		}
		checkKind(r, bad)
		checkStructs(r, bad)
	}
	checkTemps(t, op, rows)
}

// checkKind wants what the kind of a row needs.
func checkKind(r Row, bad func(string)) {
	inMem := func(n int) bool { return r.Mem != nil && r.Off >= 0 && r.Off+n <= len(r.Mem.Data) }
	wantsCall := true
	switch r.Kind {
	case RowStore:
		if wantsCall = false; !inMem(4) || r.N != 1 || r.Args[0].Reg == RegNone {
			bad("a store needs a register, and memory for it")
		}
	case RowLoad:
		if wantsCall = false; !inMem(4) || r.Out == RegNone {
			bad("a load needs memory, and a register for it")
		}
	case RowIf:
		if wantsCall = false; !inMem(4) || r.N != 2 || r.Args[0].Val&^r.Args[1].Val != 0 || r.Args[1].Val>>32 != 0 || r.OnOK == 0 {
			bad("a condition needs memory, what its mask may find there, and somewhere to go")
		}
	case RowHeld:
		if wantsCall = false; r.N != 1 || r.Args[0].Reg == RegNone || r.OnOK == 0 {
			bad("a condition needs a register, and somewhere to go")
		}
	case RowSkip:
		if wantsCall = false; r.N != 0 || r.OnOK == 0 {
			bad("a jump needs somewhere to go, and nothing else")
		}
	case RowOctal:
		if wantsCall = false; !inMem(2) || r.N != 1 || r.Args[0].Mem == nil || len(r.Args[0].Mem.Data) != 5 {
			bad("a mode needs memory, and room for four digits and a zero")
		}
	case RowMake:
		if r.N != 5 || !inMem(WalkSize) || r.Args[0].Reg == RegNone || r.Args[2].Reg == RegNone || int(r.Args[3].Val) >= len(r.Args[1].Mem.Data) || r.Args[4].Val&^(MakeFile|MakeStrict) != 0 {
			bad("a path needs two directories, a place to begin, known flags, and memory")
		}
	case RowFail:
		if r.Accept[0] == 0 {
			bad("a failure needs an error")
		}
	case RowNote:
		if r.Accept[0] == 0 {
			bad("a row that notes errors accepts none")
		}
	case RowClose:
		if r.Call != abi.CallClose || r.N != 1 || r.Args[0].Reg == RegNone {
			bad("a close needs a register")
		}
	case RowCloseRest:
		if r.Call != abi.CallCloseRange || r.N != 6 || r.Args[0].Reg != RegNone || r.Args[1].Reg != RegSync || r.Args[5].Reg != RegNone {
			bad("what stays is registers, the socket among them")
		}
	case RowCall, RowFork, RowInit:
	default:
		bad("unknown kind")
	}
	if !wantsCall {
		if r.Call != abi.CallNone {
			bad("no call is made here")
		}
		return
	}
	for _, goarch := range []string{"amd64", "arm64"} {
		if _, ok := r.Call.Number(goarch); !ok {
			bad("no number on " + goarch)
		}
	}
}

// stringArgs says which arguments of a call are C strings.
func stringArgs(c abi.Call) []int {
	switch c {
	case abi.CallChdir, abi.CallChroot, abi.CallExecve, abi.CallUmount2, abi.CallFsopen:
		return []int{0}
	case abi.CallPivotRoot:
		return []int{0, 1}
	case abi.CallOpenat, abi.CallOpenat2, abi.CallMkdirat, abi.CallMknodat, abi.CallUnlinkat, abi.CallFchmodat, abi.CallFchownat, abi.CallOpenTree,
		abi.CallMountSetattr, abi.CallStatx, abi.CallExecveat, abi.CallFsetxattr:
		return []int{1}
	case abi.CallSymlinkat:
		return []int{0, 2}
	case abi.CallMoveMount:
		return []int{1, 3}
	}
	return nil
}

// checkStructs looks at the memory that calls point to.
func checkStructs(r Row, bad func(string)) {
	for _, i := range stringArgs(r.Call) {
		if m := r.Args[i].Mem; r.Kind != RowFail && (m == nil || bytes.IndexByte(m.Data, 0) != len(m.Data)-1) {
			bad("a string that does not end, or ends early")
		}
	}
	sized := func(at, size int) {
		if m := r.Args[at].Mem; m == nil || len(m.Data) != size || r.Args[at+1].Val != uint64(size) {
			bad("a structure of another size than the call is told")
		}
	}
	switch r.Call {
	case abi.CallOpenat2:
		sized(2, 24)
	case abi.CallMountSetattr:
		sized(3, 32)
	}
	for _, a := range r.Args {
		if a.Mem == nil {
			continue
		}
		for _, ref := range a.Mem.Refs {
			if ref.To == nil || ref.Off%8 != 0 || ref.Off < 0 || ref.Off+8 > len(a.Mem.Data) {
				bad("an address outside its memory")
			}
		}
	}
}

// checkTemps wants every temporary register of the step closed at its end.
func checkTemps(t testing.TB, op Op, rows []Row) {
	t.Helper()
	open := map[Reg]bool{}
	for _, r := range rows {
		if r.Kind == RowClose {
			delete(open, r.Args[0].Reg)
		}
		if r.Out >= regTemp {
			open[r.Out] = true
		}
	}
	if len(open) > 0 {
		t.Errorf("%v: registers left open: %v", op, slices.Sorted(maps.Keys(open)))
	}
}

// checkMemory wants pieces of memory that do not overlap. It fills them.
func checkMemory(t testing.TB, op Op, rows []Row) {
	t.Helper()
	var pieces []*Mem
	seen := map[*Mem]bool{}
	var add func(m *Mem)
	add = func(m *Mem) {
		if m == nil || seen[m] {
			return
		}
		seen[m] = true
		pieces = append(pieces, m)
		for _, ref := range m.Refs {
			add(ref.To)
		}
	}
	for _, r := range rows {
		add(r.Mem)
		for _, a := range r.Args {
			add(a.Mem)
		}
	}
	for _, shift := range []int{0, 8} {
		for i, m := range pieces {
			for k := range m.Data {
				m.Data[k] = byte(i >> shift)
			}
		}
		for i, m := range pieces {
			if bytes.Count(m.Data, []byte{byte(i >> shift)}) != len(m.Data) {
				t.Errorf("%v: memory of two arguments overlaps", op)
				return
			}
		}
	}
}
