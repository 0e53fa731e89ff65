package plan

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/golden"
)

// What holds for every plan, tried on all cases of testdata. checkPlan is used by
// the fuzz test as well.

func TestCompileTwice(t *testing.T) {
	for _, c := range cases(t) {
		if a, b := c.compile(t), c.compile(t); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: compiling twice gives two plans", c.name())
		}
	}
}

// TestCompileLeavesItsArguments: nothing that a plan holds may be written to, since
// a caller may compile one spec for several hosts.
func TestCompileLeavesItsArguments(t *testing.T) {
	for _, c := range cases(t) {
		before, err := json.Marshal(c.options)
		if err != nil {
			t.Fatal(err)
		}
		facts := c.facts
		p := c.compile(t)
		for _, s := range p.Steps {
			Lower(s.Op, c.facts.Arch)
		}
		if after, _ := json.Marshal(c.options); string(after) != string(before) || !reflect.DeepEqual(facts, c.facts) {
			t.Errorf("%s: the options or the facts have changed", c.name())
		}
	}
}

func TestPlanJSON(t *testing.T) {
	eachCase(t, func(t *testing.T, c planCase, p Plan) {
		if back := thereAndBack(t, p); !reflect.DeepEqual(back, p) {
			t.Errorf("not the same after JSON:\n%s", golden.Diff(p.Text(), back.Text()))
		}
	})
}

func thereAndBack(t testing.TB, p Plan) Plan {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Plan
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return back
}

// TestInverse undoes a plan in which every second step leaves something.
func TestInverse(t *testing.T) {
	var p Plan
	for i := range 6 {
		s := Step{Op: &Setsid{}}
		if i%2 == 0 {
			s.Undo = &RemoveCgroup{Path: string(rune('a' + i))}
		}
		p.Steps = append(p.Steps, s)
	}
	paths := func(ops []Op) string {
		var s strings.Builder
		for _, op := range ops {
			s.WriteString(op.(*RemoveCgroup).Path)
		}
		return s.String()
	}
	for n, want := range map[int]string{0: "", 1: "a", 2: "a", 3: "ca", 5: "eca", 6: "eca", 100: "eca", -1: ""} {
		if got := paths(p.Inverse(n)); got != want {
			t.Errorf("the inverse of %d steps is %q, want %q", n, got, want)
		}
	}
}

// TestEveryMarkHasItsUndo: what outlives the container's namespaces is undone.
func TestEveryMarkHasItsUndo(t *testing.T) {
	eachCase(t, func(t *testing.T, c planCase, p Plan) {
		for i, s := range p.Steps {
			if m, ok := s.Op.(*MakeCgroup); ok && !reflect.DeepEqual(s.Undo, &RemoveCgroup{Path: m.Path}) {
				t.Errorf("step %d, %v, is undone by %v", i+1, s.Op, s.Undo)
			}
			if j, ok := s.Op.(*JoinResctrl); ok && j.Monitor != "" && (s.Undo == nil || s.Undo.(*RemoveResctrl).Monitor != j.Monitor) {
				t.Errorf("step %d, %v, is undone by %v", i+1, s.Op, s.Undo)
			}
		}
	})
}

func TestPlans(t *testing.T) {
	eachCase(t, func(t *testing.T, c planCase, p Plan) { checkPlan(t, p, c.facts.Arch) })
}

// checkPlan checks what holds for every plan.
func checkPlan(t testing.TB, p Plan, arch abi.Arch) {
	t.Helper()
	checkOrder(t, p)
	for i, s := range p.Steps {
		if s.Cause == (Cause{}) {
			t.Errorf("step %d, %v, has no cause", i+1, s.Op)
		}
	}
	checkDataFlow(t, p, arch)
	// One Asm for all of a side, as package launch has it.
	a := NewAsm(arch)
	var all []Row
	for _, s := range p.Steps {
		rows := a.Lower(s.Op)
		checkRows(t, s.Op, rows)
		all = append(all, rows...)
	}
	if !slices.ContainsFunc(p.Steps, func(s Step) bool { _, ok := s.Op.(*Seccomp); return ok }) {
		checkMemory(t, &Exec{Args: []string{"all steps"}}, all)
	}
}

// checkOrder wants one clone, the container's side after it, and an execve at the end.
func checkOrder(t testing.TB, p Plan) {
	t.Helper()
	clones, synced, waits := 0, false, false
	for i, s := range p.Steps {
		switch op := s.Op.(type) {
		case *Clone:
			clones++
			if s.Side != Runtime {
				t.Errorf("step %d: the container's side clones", i+1)
			}
		case *Sync:
			synced = synced || op.From == Runtime
			waits = op.From == Container
			if op.From != s.Side {
				t.Errorf("step %d, %v, is of the %v side", i+1, op, s.Side)
			}
			if op.What == StartWord {
				// Nothing after it adds a right: that would undo the request to die with the parent.
				for _, late := range p.Steps[i+1:] {
					switch late.Op.(type) {
					case *Capset, *Ambient, *Seccomp, *Init, *Sigmask, *Exec:
					case *SendListener:
					case *Sync: // which brings what the filter made
						if !slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Op.Name() == "send listener" }) {
							t.Errorf("%v comes after %v", late.Op, op)
						}
					default:
						t.Errorf("step %d, %v, comes after %v", i+1, late.Op, op)
					}
				}
			}
		case *Exec:
			if i != len(p.Steps)-1 || s.Side != Container {
				t.Errorf("step %d of %d, %v, is not the last", i+1, len(p.Steps), op)
			}
		}
		if s.Side == Container && clones == 0 {
			t.Errorf("step %d, %v, is of the container's side, before there is one", i+1, s.Op)
		}
		// Without a meeting the container may be gone, or not yet there, when the
		// runtime does something to it.
		_, ok := s.Op.(*Sync)
		if s.Side == Container && !ok {
			waits = false
		}
		if !ok && !beside(p.Steps[i:]) && s.Side == Runtime && clones == 1 && synced && !(waits && waitsAgain(p.Steps[i:])) {
			t.Errorf("step %d, %v, is done to a container that has gone on", i+1, s.Op)
		}
	}
	if n := len(p.Steps); n == 0 || clones != 1 || reflect.TypeOf(p.Steps[n-1].Op) != reflect.TypeFor[*Exec]() {
		t.Errorf("%d clones in a plan of %d steps, that has to end in execve", clones, n)
	}
}

// beside reports whether a step of the runtime's side may be done while the container's goes on: the agent is told of a filter, and
// a network namespace connected, for which the container's side waits later, and before a fork: it is found by the process that ends with that.
func beside(steps []Step) bool {
	switch steps[0].Op.(type) {
	case *SendListener, *ServeRoot:
		return true
	case *MakeVeth, *MakeMacvlan, *MakeIPvlan, *DeviceSysctl, *LinkUp, *AddAddress, *Announce, *AddRoute, *PublishPorts, *ServeNames, *LimitEgress:
		for _, s := range steps {
			switch op := s.Op.(type) {
			case *Fork:
				return false
			case *Sync:
				if op.From == Runtime && (op.What == StartWord || op.What == connectedWord) {
					return !op.Fork
				}
			}
		}
	}
	return false
}

// waitsAgain reports whether the container's side comes to wait for the runtime's before it
// does anything else.
func waitsAgain(steps []Step) bool {
	for _, s := range steps {
		if op, ok := s.Op.(*Sync); ok {
			return op.From == Runtime
		}
		if s.Side == Container {
			return false
		}
	}
	return false
}

// A regSet holds the registers that are surely filled.
type regSet [NumRegs]bool

// checkDataFlow follows the registers of both sides: whatever row reads one, a row
// of that side has filled it, on every way there, or the other side has sent it.
func checkDataFlow(t testing.TB, p Plan, arch abi.Arch) {
	t.Helper()
	var ours, inside regSet
	for i, s := range p.Steps {
		read := func(side *regSet) {
			after, faults := flow(Lower(s.Op, arch), *side)
			for _, fault := range faults {
				t.Errorf("step %d, %v (%v): %s", i+1, s.Op, s.Side, fault)
			}
			*side = after
		}
		switch op := s.Op.(type) {
		case *Clone:
			inside = ours
			inside[RegSync] = true
			ours[RegChildProc], ours[RegPIDFD] = true, true
		case *Stub:
			ours[RegStub] = true // by hand: see package launch
		case *NewUserNamespace:
			ours[op.Out] = true
		case *Sync:
			from, to := &ours, &inside
			if op.From == Container {
				from, to = to, from
			}
			for _, r := range op.FDs {
				if !from[r] {
					t.Errorf("step %d, %v, sends %v, which nothing has filled", i+1, op, r)
				}
			}
			read(&inside)
			for _, r := range op.FDs {
				if op.From == Runtime && !to[r] {
					t.Errorf("step %d, %v: %v does not arrive", i+1, op, r)
				}
				to[r] = true
			}
		default:
			if s.Side == Container {
				read(&inside)
				break
			}
			read(&ours)
			for _, r := range Filled(op) {
				ours[r] = true
			}
		}
	}
}

// flow returns what is surely filled after rows, and what is wrong on some way
// through them: a register that is read although it may be empty, or a temporary one
// that is filled although it may hold a descriptor, which nothing could close any more.
func flow(rows []Row, before regSet) (after regSet, faults []string) {
	type state struct{ surely, perhaps regSet }
	reached := make([]bool, len(rows)+1)
	states := make([]state, len(rows)+1)
	arrive := func(at int, s state) {
		if reached[at] {
			for r := range s.surely {
				states[at].surely[r] = states[at].surely[r] && s.surely[r]
				states[at].perhaps[r] = states[at].perhaps[r] || s.perhaps[r]
			}
		} else {
			reached[at], states[at] = true, s
		}
	}
	arrive(0, state{before, before})
	for i, r := range rows {
		if !reached[i] {
			continue
		}
		s := states[i]
		for _, a := range r.Args[:r.N] {
			// An empty register may be closed: that is what EBADF is accepted for.
			if a.Reg != RegNone && !s.surely[a.Reg] && r.Kind != RowClose && r.Kind != RowHeld {
				faults = append(faults, fmt.Sprintf("row %d reads %v, which may be empty", i, a.Reg))
			}
		}
		failed := s
		if r.Kind == RowClose {
			at := r.Args[0].Reg
			s.surely[at], failed.surely[at], s.perhaps[at], failed.perhaps[at] = false, false, false, false
		}
		if r.Out != RegNone {
			if r.Out >= regTemp && s.perhaps[r.Out] {
				faults = append(faults, fmt.Sprintf("row %d fills %v, which may hold a descriptor", i, r.Out))
			}
			s.surely[r.Out], s.perhaps[r.Out] = true, true
		}
		switch r.Kind {
		case RowFail:
			continue
		case RowIf:
			arrive(i+1, s)
		case RowHeld:
			without := s
			without.surely[r.Args[0].Reg], without.perhaps[r.Args[0].Reg] = false, false
			arrive(i+1, without)
			s.surely[r.Args[0].Reg] = true
		}
		arrive(i+1+r.OnOK, s)
		if r.Accept[0] != 0 {
			arrive(i+1+r.OnAccept, failed)
		}
	}
	return states[len(rows)].surely, faults
}

// TestFlow: the check above finds what it is for.
func TestFlow(t *testing.T) {
	open := func(r Reg) Row { return Row{Call: abi.CallOpenat, Out: r} }
	use := func(r Reg) Row { return Row{Call: abi.CallFchdir, Args: [6]Arg{fd(r)}, N: 1} }
	maybe := func(r Reg) Row { return Row{Call: abi.CallOpenat, Out: r, Accept: [4]abi.Errno{abi.ENOENT}} }
	skip := maybe(20)
	skip.OnAccept = 1
	closed := Row{Kind: RowClose, Call: abi.CallClose, Args: [6]Arg{fd(20)}, N: 1, Accept: [4]abi.Errno{abi.EBADF}}
	temp, closeTemp, inTurn := open(regTemp), closed, maybe(regTemp)
	closeTemp.Args[0] = fd(regTemp)
	inTurn.OnOK = 1
	for name, test := range map[string]struct {
		rows   []Row
		faults int
	}{
		"filled before":       {[]Row{open(20), use(20)}, 0},
		"never filled":        {[]Row{use(20)}, 1},
		"filled too late":     {[]Row{use(20), open(20)}, 1},
		"perhaps filled":      {[]Row{maybe(20), use(20)}, 1},
		"skipped when empty":  {[]Row{skip, use(20)}, 0},
		"closed, then used":   {[]Row{open(20), closed, use(20)}, 1},
		"closed without need": {[]Row{closed}, 0},
		"filled twice":        {[]Row{temp, temp}, 1},
		"closed in between":   {[]Row{temp, closeTemp, temp}, 0},
		"perhaps twice":       {[]Row{maybe(regTemp), temp}, 1},
		"in turn":             {[]Row{inTurn, temp}, 0},
	} {
		if _, faults := flow(test.rows, regSet{}); len(faults) != test.faults {
			t.Errorf("%s: %v", name, faults)
		}
	}
}

// TestSeccompIsLast: with no_new_privs the container's filter sees no call of ours
// but the signal mask and execve, and with --init the few of init, which it is
// meant to hold as well.
func TestSeccompIsLast(t *testing.T) {
	found := 0
	eachCase(t, func(t *testing.T, c planCase, p Plan) {
		nnp, loaded := false, false
		for i, s := range p.Steps {
			if _, ok := s.Op.(*NoNewPrivs); ok {
				nnp = true
			}
			if _, ok := s.Op.(*Seccomp); ok && nnp {
				loaded = true
				found++
				continue
			}
			if !loaded {
				continue
			}
			switch s.Op.(type) {
			case *Sigmask, *Exec, *Sync, *SendListener:
			case *Init:
				if !c.options.Init {
					t.Errorf("step %d: an init nobody asked for", i+1)
				}
			default:
				t.Errorf("step %d, %v, runs under the container's filter", i+1, s.Op)
			}
		}
	})
	if found == 0 {
		t.Error("no case has no_new_privs and a filter")
	}
}

// TestPathsStayInside: every path inside the container is looked up below its root,
// without magic links, until the root is the root.
func TestPathsStayInside(t *testing.T) {
	eachCase(t, func(t *testing.T, c planCase, p Plan) {
		for i, s := range p.Steps {
			for _, r := range Lower(s.Op, c.facts.Arch) {
				if r.Call != abi.CallOpenat2 {
					continue
				}
				how := r.Args[2].Mem.Data
				resolve := uint64(how[16]) | uint64(how[17])<<8
				want, absolute := uint64(abi.ResolveInRoot|abi.ResolveNoMagiclinks), false
				below := r.Args[0].Reg
				switch op := s.Op.(type) {
				case *Sysctl:
					want = abi.ResolveBeneath | abi.ResolveNoSymlinks | abi.ResolveNoXdev
				case *BorrowMount:
					want = abi.ResolveBeneath | abi.ResolveNoSymlinks | abi.ResolveNoMagiclinks
				case *Mount:
					if op.Strict {
						want |= abi.ResolveNoSymlinks
					}
				case *Bind:
					if op.Strict {
						want |= abi.ResolveNoSymlinks
					}
					if below != RegRoot && op.Below != "" {
						want = abi.ResolveBeneath | abi.ResolveNoSymlinks | abi.ResolveNoMagiclinks
					}
				case *OpenTree:
					if below != RegRoot {
						want = abi.ResolveBeneath | abi.ResolveNoSymlinks | abi.ResolveNoMagiclinks
					}
				case *OpenOwnSource: // of the host's root directory
					if r.Args[0] == cwd() {
						want, absolute = abi.ResolveNoSymlinks, true
					} else {
						want = abi.ResolveBeneath | abi.ResolveNoSymlinks | abi.ResolveNoMagiclinks
					}
				case *OpenSource:
					if below != RegHost {
						want = abi.ResolveBeneath | abi.ResolveNoSymlinks | abi.ResolveNoMagiclinks
					}
				}
				if below == RegProcfs || below == RegSysfs {
					want = abi.ResolveBeneath | abi.ResolveNoSymlinks | abi.ResolveNoMagiclinks
				}
				if name := r.Args[1].Mem.Data; resolve != want || (name[0] == '/') != absolute {
					t.Errorf("step %d, %v: openat2 of %q resolves %s", i+1, s.Op, name, abi.ResolveWords(resolve))
				}
			}
		}
	})
}

// TestModes: whatever is made in the container's root gets the mode it is to have,
// not what the caller's umask leaves of it; and none is changed by name, where a link
// may lie by then.
func TestModes(t *testing.T) {
	eachCase(t, func(t *testing.T, c planCase, p Plan) {
		umask := uint32(0o077) // the caller's
		for i, s := range p.Steps {
			if s.Side == Runtime {
				continue
			}
			if u, ok := s.Op.(*Umask); ok {
				umask = u.Mask
			}
			for _, r := range Lower(s.Op, c.facts.Arch) {
				creates := r.Call == abi.CallMkdirat || r.Call == abi.CallMknodat ||
					r.Call == abi.CallOpenat2 && r.Args[2].Mem.Data[0]&abi.OCreat != 0
				if creates && umask != 0 && !strings.HasPrefix(c.name(), "unshare") {
					t.Errorf("step %d, %v: %s with umask %04o", i+1, s.Op, rowText(r, c.facts.Arch), umask)
				}
				if r.Call == abi.CallFchmodat || r.Call == abi.CallFchmod {
					t.Errorf("step %d, %v: %s", i+1, s.Op, rowText(r, c.facts.Arch))
				}
			}
		}
		if umask == 0 {
			t.Error("the command gets umask 0")
		}
	})
}
