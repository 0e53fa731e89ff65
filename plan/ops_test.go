package plan

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/golden"
	"github.com/kakuri/kakuri/netip"
)

// TestOps walks the set of operations. Each is tried with all fields filled, with
// each field empty, and with each field alone.
func TestOps(t *testing.T) {
	seen := map[string]bool{}
	for _, op := range Ops() {
		t.Run(op.Name(), func(t *testing.T) {
			if op.Name() == "" || seen[op.Name()] {
				t.Errorf("name %q of %T is empty, or another's", op.Name(), op)
			}
			seen[op.Name()] = true
			all := variants(op)
			if s := all[0].(Op).String(); s != strings.TrimSpace(s) {
				t.Errorf("text %q", s)
			}
			for _, v := range all {
				checkOp(t, v.(Op))
			}
		})
	}
}

func checkOp(t *testing.T, op Op) {
	t.Helper()
	if s := op.String(); s == "" || strings.Contains(s, "\n") {
		t.Errorf("%#v: text %q", op, s)
	}
	data, err := MarshalOp(op)
	if err != nil {
		t.Fatal(err)
	}
	back, err := UnmarshalOp(data)
	if err != nil || !reflect.DeepEqual(back, op) {
		t.Errorf("%s\nreads as %#v, %v\nwas      %#v", data, back, err, op)
	}
	for _, arch := range []abi.Arch{abi.ArchX86_64, abi.ArchAARCH64} {
		// The memory of one Asm is handed out in pieces: the second lowering must
		// not change what the first one left.
		a := NewAsm(arch)
		rows := slices.Clone(a.Lower(op))
		text := rowsText(rows, arch)
		checkRows(t, op, rows)
		second := a.Lower(op)
		if again := rowsText(rows, arch); again != text {
			t.Errorf("%v: lowering it again changed its memory:\n%s", op, golden.Diff(text, again))
		}
		if _, ok := op.(*Seccomp); !ok { // its filter is the operation's own, and the same both times
			rows = append(rows, second...)
		}
		checkMemory(t, op, rows)
	}
}

func rowsText(rows []Row, arch abi.Arch) string {
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(rowText(r, arch) + "\n")
	}
	return b.String()
}

// variants returns copies of *v with its fields filled in different ways.
func variants(v any) []any {
	typ := reflect.TypeOf(v).Elem()
	var list []any
	add := func(filled func(i int) bool) {
		p := reflect.New(typ)
		for i := range typ.NumField() {
			if filled(i) && p.Elem().Field(i).CanSet() {
				fill(p.Elem().Field(i), typ.Field(i).Name)
			}
		}
		if e, ok := p.Interface().(*Exec); ok && len(e.Args) == 0 {
			return // Precondition of Exec: there is a command
		}
		list = append(list, p.Interface())
	}
	add(func(int) bool { return true })
	for k := range typ.NumField() {
		add(func(i int) bool { return i != k })
		add(func(i int) bool { return i == k })
	}
	return list
}

// fill puts something that is not zero into f, and that a field of that name may hold.
func fill(f reflect.Value, name string) {
	if f.Type() == reflect.TypeFor[Reg]() {
		f.SetUint(uint64(regFree) + uint64(len(name)))
		return
	}
	switch f.Addr().Interface().(type) {
	case *MAC:
		f.Set(reflect.ValueOf(MAC{2, 66, 172, 17, 0, 2}))
		return
	case *netip.Addr:
		f.Set(reflect.ValueOf(netip.MustParseAddr("fd00::2")))
		return
	case *netip.Prefix:
		f.Set(reflect.ValueOf(netip.MustParsePrefix("172.17.0.2/16")))
		return
	}
	switch f.Kind() {
	case reflect.String:
		switch name {
		case "Type":
			f.SetString("b")
		case "Mode":
			f.SetString("rslave")
		default:
			f.SetString("/" + strings.ToLower(name) + "/of it/here")
		}
	case reflect.Bool:
		f.SetBool(true)
	case reflect.Int, reflect.Int64:
		f.SetInt(-7_500_000_001)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		f.SetUint(5)
	case reflect.Uint64:
		f.SetUint(1<<40 | 0x21)
	case reflect.Slice:
		f.Set(reflect.MakeSlice(f.Type(), 2, 2))
		for i := range 2 {
			fill(f.Index(i), name)
		}
	case reflect.Struct:
		for i := range f.NumField() {
			if f.Field(i).CanSet() {
				fill(f.Field(i), f.Type().Field(i).Name)
			}
		}
	default:
		panic("a field of a kind that JSON of plans does not know: " + name + " " + f.Type().String())
	}
}

// TestChecks walks the set of checks in the same way.
func TestChecks(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range checkValues() {
		if c.Kind() == "" || seen[c.Kind()] {
			t.Errorf("kind %q of %T is empty, or another's", c.Kind(), c)
		}
		seen[c.Kind()] = true
		for _, v := range variants(c) {
			c := v.(Check)
			for _, text := range []string{c.Property(), c.Asked()} {
				if strings.Contains(text, "\n") {
					t.Errorf("%#v: text %q", c, text)
				}
			}
			p := Plan{Steps: []Step{{Op: &Setsid{}, Check: c}}}
			if back := thereAndBack(t, p); !reflect.DeepEqual(back, p) {
				t.Errorf("%#v reads as %#v", c, back.Steps[0].Check)
			}
		}
		if full := variants(c)[0].(Check); full.Property() == "" || full.Asked() == "" {
			t.Errorf("%#v: %q is asked of %q", full, full.Asked(), full.Property())
		}
	}
}

// TestSetsAreComplete looks for the types of operations and checks in the source: one
// that [Ops] or checkValues lacks can be written as JSON, but not read.
func TestSetsAreComplete(t *testing.T) {
	for _, set := range []struct {
		method string
		have   []any
	}{{"Name", anys(Ops())}, {"Kind", anys(checkValues())}} {
		var have []string
		for _, v := range set.have {
			have = append(have, reflect.TypeOf(v).Elem().Name())
		}
		slices.Sort(have)
		if want := typesWith(t, set.method); !slices.Equal(have, want) {
			t.Errorf("types with a method %s:\n%s", set.method, golden.Diff(strings.Join(want, "\n"), strings.Join(have, "\n")))
		}
	}
}

func anys[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

// typesWith lists this package's types with a method on their pointer.
func typesWith(t *testing.T, method string) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Name.Name != method || fn.Recv == nil {
				continue
			}
			if star, ok := fn.Recv.List[0].Type.(*ast.StarExpr); ok {
				list = append(list, star.X.(*ast.Ident).Name)
			}
		}
	}
	slices.Sort(list)
	return list
}

func TestUnknownJSON(t *testing.T) {
	for _, test := range []struct{ json, want string }{
		{`{"steps":[{"n":3,"operation":"levitate","args":{}}]}`, `step 3: unknown operation "levitate"`},
		{`{"steps":[{"n":1,"operation":"setsid","args":{},"check":{"kind":"mood","args":{}}}]}`, `step 1: unknown check "mood"`},
		{`{"steps":[{"n":1,"operation":"setsid","args":{},"undo":{"kind":"levitate","args":{}}}]}`, `step 1: undo: unknown operation "levitate"`},
	} {
		var p Plan
		if err := json.Unmarshal([]byte(test.json), &p); err == nil || err.Error() != test.want {
			t.Errorf("%s: error %v, want %s", test.json, err, test.want)
		}
	}
	if _, err := UnmarshalOp([]byte(`{"kind":"","args":{}}`)); err == nil {
		t.Error("an operation without a name is read")
	}
}

// TestRegistersHaveNames: a register with a fixed meaning shows it.
func TestRegistersHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for r := RegNone; r < NumRegs; r++ {
		s := r.String()
		if seen[s] || (r < regFree) == (s == fmt.Sprintf("fd:%d", r)) {
			t.Errorf("register %d is %q", r, s)
		}
		seen[s] = true
	}
}
