package namespace

import (
	"cmp"
	"slices"

	"github.com/kakuri/kakuri/abi"
)

// Process returns the process pid; nil when there was none.
func (s *System) Process(pid int) *Process {
	i, ok := slices.BinarySearchFunc(s.Processes, pid, func(p *Process, pid int) int { return p.PID - pid })
	if !ok {
		return nil
	}
	return s.Processes[i]
}

// Namespace returns the namespace of a type by its inode; nil when it was not seen.
func (s *System) Namespace(t abi.Namespace, inode uint64) *Namespace {
	i, ok := slices.BinarySearchFunc(s.Namespaces, inode, func(n *Namespace, inode uint64) int {
		return cmp.Or(cmp.Compare(n.Type, t), cmp.Compare(n.Inode, inode))
	})
	if !ok {
		return nil
	}
	return s.Namespaces[i]
}

// Roots returns the namespaces of a type without a parent in sight: one for pid and user
// on a machine that shows everything, each single one for types that do not nest.
func (s *System) Roots(t abi.Namespace) []*Namespace {
	var roots []*Namespace
	for _, n := range s.Namespaces {
		if n.Type == t && n.Parent == nil {
			roots = append(roots, n)
		}
	}
	return roots
}

// Owned returns the namespaces of other types which the user namespace owns: those in
// which its root has power.
func (s *System) Owned(user *Namespace) []*Namespace {
	var owned []*Namespace
	for _, n := range s.Namespaces {
		if n.Owner == user && n.Type != abi.NSUser {
			owned = append(owned, n)
		}
	}
	return owned
}

// Path returns the ancestors of n and n itself, outermost first.
func (n *Namespace) Path() []*Namespace {
	var path []*Namespace
	for ; n != nil; n = n.Parent {
		path = append(path, n)
	}
	slices.Reverse(path)
	return path
}

// Within tells whether n is outer or below it.
func (n *Namespace) Within(outer *Namespace) bool { return slices.Contains(n.Path(), outer) }

// A PIDAt is the pid that a process has in one pid namespace.
type PIDAt struct {
	Namespace *Namespace // nil when the process's namespaces are unknown
	PID       int
}

// PIDsOf returns the pids of p at every level, from the pid namespace of the /proc to
// p's own. These are all namespaces that see the process.
func (s *System) PIDsOf(p *Process) []PIDAt {
	path := p.spaces[abi.NSPID].Path()
	levels := make([]PIDAt, len(p.PIDs))
	for i, pid := range p.PIDs {
		levels[i].PID = pid
		if at := len(path) - len(p.PIDs) + i; at >= 0 && len(path) > 0 {
			levels[i].Namespace = path[at]
		}
	}
	if len(path) == 0 && len(levels) > 0 {
		levels[0].Namespace = s.PIDRoot
	}
	return levels
}

// PIDIn returns the pid of p in the pid namespace ns; false when ns does not see it.
func (s *System) PIDIn(p *Process, ns *Namespace) (int, bool) {
	for _, at := range s.PIDsOf(p) {
		if at.Namespace == ns && ns != nil {
			return at.PID, true
		}
	}
	return 0, false
}

// Find returns the process that is pid in the pid namespace ns; nil when there is none.
func (s *System) Find(ns *Namespace, pid int) *Process {
	for _, p := range s.Processes {
		if n, ok := s.PIDIn(p, ns); ok && n == pid {
			return p
		}
	}
	return nil
}

// Sees returns the processes that have a pid in the pid namespace ns: its own, and those
// of all namespaces below it. Seeing goes this way only.
func (s *System) Sees(ns *Namespace) []*Process {
	var seen []*Process
	for _, p := range s.Processes {
		if _, ok := s.PIDIn(p, ns); ok || ns != nil && ns == s.PIDRoot {
			seen = append(seen, p)
		}
	}
	return seen
}

// A Verdict is how the namespaces of two processes compare.
type Verdict uint8

// The verdicts.
const (
	Unknown Verdict = iota // one of them cannot be read
	Shared
	Different
)

func (v Verdict) String() string {
	switch v {
	case Shared:
		return "shared"
	case Different:
		return "different"
	}
	return "unknown"
}

// A Difference compares one type of namespace of two processes, by inode.
type Difference struct {
	Type    abi.Namespace
	A, B    uint64 // 0 for one that cannot be read
	Verdict Verdict
}

// Diff compares two processes in all types of namespaces.
func Diff(a, b *Process) [8]Difference {
	var list [8]Difference
	for i, t := range abi.Namespaces() {
		d := Difference{Type: t, A: a.Inodes[t], B: b.Inodes[t], Verdict: Different}
		switch {
		case d.A == 0 || d.B == 0:
			d.Verdict = Unknown
		case d.A == d.B:
			d.Verdict = Shared
		}
		list[i] = d
	}
	return list
}

// MapUID returns what the uid id of the user namespace from is in the namespace to; nil
// stands for the reader's ids. It goes by way of the reader's ids, so it is false also
// where the two share an id that the reader does not have, and where a namespace has no
// members whose map could be read.
func (s *System) MapUID(id uint32, from, to *Namespace) (uint32, bool) {
	return s.mapID(id, from, to, func(n *Namespace) IDMap { return n.UIDs })
}

// MapGID is MapUID for group ids.
func (s *System) MapGID(id uint32, from, to *Namespace) (uint32, bool) {
	return s.mapID(id, from, to, func(n *Namespace) IDMap { return n.GIDs })
}

// mapID leaves the reader's own namespace out: its map leads to its parent.
func (s *System) mapID(id uint32, from, to *Namespace, of func(*Namespace) IDMap) (uint32, bool) {
	ok := id != noID
	if from != nil && from.Inode != s.reader && ok {
		id, ok = of(from).Outside(id)
	}
	if to != nil && to.Inode != s.reader && ok {
		id, ok = of(to).Inside(id)
	}
	if !ok {
		return 0, false
	}
	return id, true
}

// An IDAt is the id that a user or group has in one user namespace.
type IDAt struct {
	Namespace *Namespace
	ID        uint32
	Mapped    bool // false: none, the namespace sees 65534
	Known     bool // false: no member was there whose map could be read
}

// UIDsOf returns the effective uid of p in every user namespace from the outermost one in
// sight to p's own; nil when p's namespaces are unknown.
func (s *System) UIDsOf(p *Process) []IDAt {
	return s.idsOf(p, p.UIDs.Effective, func(n *Namespace) IDMap { return n.UIDs })
}

// GIDsOf is UIDsOf for the effective gid.
func (s *System) GIDsOf(p *Process) []IDAt {
	return s.idsOf(p, p.GIDs.Effective, func(n *Namespace) IDMap { return n.GIDs })
}

func (s *System) idsOf(p *Process, id uint32, of func(*Namespace) IDMap) []IDAt {
	var levels []IDAt
	for _, n := range p.spaces[abi.NSUser].Path() {
		inside, ok := s.mapID(id, nil, n, of)
		levels = append(levels, IDAt{n, inside, ok, n.Inode == s.reader || of(n) != nil})
	}
	return levels
}
