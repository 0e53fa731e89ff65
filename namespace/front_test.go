package namespace

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/golden"
	"github.com/kakuri/kakuri/ui"
)

// What follows is how a front turns a reading into what ui renders: no rule of either
// room is in it.

// A front knows what people call namespaces, which this package does not.
type front struct {
	*System
	names map[*Namespace]string
}

func inodeOf(n *Namespace) uint64 {
	if n == nil {
		return 0
	}
	return n.Inode
}

func (f front) list() ui.NSList {
	list := ui.NSList{Unreadable: f.Unreadable}
	for _, n := range f.Namespaces {
		row := ui.NSRow{Inode: n.Inode, Type: n.Type.ProcName(), Processes: len(n.Members), Owner: inodeOf(n.Owner), Parent: inodeOf(n.Parent)}
		if len(n.Members) > 0 {
			row.PID, row.Command = n.Members[0].PID, n.Members[0].Command()
		} else if len(n.Refs) > 0 {
			row.Command = n.Refs[0].String()
		}
		list.Namespaces = append(list.Namespaces, row)
	}
	return list
}

func (f front) name(n *Namespace) ui.NSName {
	return ui.NSName{Inode: n.Inode, Name: f.names[n], Host: n.Initial()}
}

func (f front) process(p *Process) ui.NSProcess {
	out := ui.NSProcess{Command: p.Command(), PIDs: p.PIDs, Parent: p.Parent, Kernel: p.Kernel}
	for _, at := range f.UIDsOf(p) {
		id := int64(at.ID)
		if !at.Known {
			id = ui.NSUnread
		} else if !at.Mapped {
			id = ui.NSUnmapped
		}
		out.UIDs = append(out.UIDs, id)
	}
	return out
}

func (f front) node(n *Namespace) ui.NSNode {
	out := ui.NSNode{NSName: f.name(n), Type: n.Type.ProcName(), Owner: inodeOf(n.Owner), UIDMap: ranges(n.UIDs), GIDMap: ranges(n.GIDs)}
	if n.Creator >= 0 {
		out.Creator = &n.Creator
	}
	if n.Type == abi.NSUser {
		for _, o := range f.Owned(n) {
			out.Owns = append(out.Owns, fmt.Sprintf("%s %d", o.Type.ProcName(), o.Inode))
		}
	}
	for _, p := range n.Members {
		out.Processes = append(out.Processes, f.process(p))
	}
	for _, c := range n.Children {
		out.Children = append(out.Children, f.node(c))
	}
	return out
}

func ranges(m IDMap) []ui.NSRange {
	var out []ui.NSRange
	for _, r := range m {
		outside := int64(ui.NSUnmapped)
		if _, ok := m.Outside(r.Inside); ok {
			outside = int64(r.Outside)
		}
		out = append(out, ui.NSRange{Inside: int64(r.Inside), Outside: outside, Count: int64(r.Count)})
	}
	return out
}

func (f front) forest(t abi.Namespace) ui.NSForest {
	forest := ui.NSForest{Unreadable: f.Unreadable}
	for _, n := range f.Roots(t) {
		forest.Roots = append(forest.Roots, f.node(n))
	}
	return forest
}

// view is what the pid namespace of p sees.
func (f front) view(p *Process) ui.NSView {
	v := ui.NSView{Total: len(f.Processes)}
	for _, at := range f.PIDsOf(p) {
		v.Levels = append(v.Levels, f.name(at.Namespace))
	}
	for _, seen := range f.Sees(p.In(abi.NSPID)) {
		v.Processes = append(v.Processes, f.process(seen))
	}
	return v
}

func (f front) compare(a, b *Process) ui.NSComparison {
	c := ui.NSComparison{A: fmt.Sprintf("%d (%s)", a.PID, a.Comm), B: fmt.Sprintf("%d (%s)", b.PID, b.Comm)}
	for _, d := range Diff(a, b) {
		c.Pairs = append(c.Pairs, ui.NSPair{Type: d.Type.ProcName(), A: d.A, B: d.B, Verdict: ui.NSVerdict(d.Verdict.String())})
	}
	return c
}

func TestFront(t *testing.T) {
	s := load(t, "host").read(t, Options{})
	f := front{s, map[*Namespace]string{
		s.Namespace(abi.NSPID, 4026532501):  "web",
		s.Namespace(abi.NSUser, 4026532499): "web",
	}}
	fold, screen := ui.Fold{}, ui.Screen{}
	var b bytes.Buffer
	b.WriteString("$ kakuri ns ls\n" + f.list().Text(screen))
	b.WriteString("\n$ kakuri ns tree\n" + f.forest(abi.NSPID).Text(fold, screen))
	b.WriteString("\n$ kakuri ns tree --type user\n" + f.forest(abi.NSUser).Text(fold, screen))
	b.WriteString("\n$ kakuri ns ps web\n" + f.view(s.Process(341499)).Text(screen))
	b.WriteString("\n$ kakuri ns diff 1 341499\n" + f.compare(s.Process(1), s.Process(341499)).Text(screen))
	b.WriteString("\n$ kakuri ns ps web --format json\n")
	if err := ui.JSON(&b, f.view(s.Process(341499))); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/front.golden", b.String())
}

// TestFrontLive renders the machine as it is: nothing to compare with, but it must not
// fail on whatever there is.
func TestFrontLive(t *testing.T) {
	f := front{readAll(t, Options{Threads: true}), nil}
	for _, typ := range [...]abi.Namespace{abi.NSPID, abi.NSUser} {
		forest := f.forest(typ)
		if text := forest.Text(ui.Fold{}, ui.Screen{}); !bytes.Contains([]byte(text), []byte(f.Self.Comm)) && f.Self.Args == nil {
			t.Errorf("%v tree without the test:\n%s", typ, text)
		}
		fold := ui.Fold{Processes: 12, Namespaces: 12}
		first := forest.SVG(fold, ui.EN)
		if again := forest.SVG(fold, ui.EN); again != first {
			t.Errorf("%v picture differs from itself", typ)
		}
	}
	if got := len(f.list().Namespaces); got < 8 {
		t.Errorf("%d namespaces", got)
	}
}
