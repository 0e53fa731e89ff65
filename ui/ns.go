package ui

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"
)

// The values below are what the ns verbs show, as text, as a picture and, under the field
// names of their tags, as JSON. They say nothing of where they were read.

// A NSName tells one namespace from the others.
type NSName struct {
	Inode uint64 `json:"inode"`
	Name  string `json:"name,omitempty"` // what people call it: its container's name
	Host  bool   `json:"host,omitempty"` // the machine's first namespace of its type
}

// A NSRow is one namespace in a list.
type NSRow struct {
	Inode     uint64 `json:"inode"`
	Type      string `json:"type"`            // as /proc/PID/ns names it: "pid", "mnt"
	Processes int    `json:"processes"`       // that are members
	PID       int    `json:"pid,omitempty"`   // the lowest of them; 0 when there is none
	Owner     uint64 `json:"owner,omitempty"` // the owning user namespace; 0 when out of sight
	Parent    uint64 `json:"parent,omitempty"`
	Name      string `json:"name,omitempty"` // what people call it: its container's name
	Command   string `json:"command"`        // of PID, or what else keeps the namespace
}

// A NSList is the namespaces of the machine, or a choice of them.
type NSList struct {
	Namespaces List[NSRow] `json:"namespaces"`
	Unreadable int         `json:"unreadable"` // processes whose namespaces could not be read
}

// A NSProcess is one process with its number at every level.
type NSProcess struct {
	Command string    `json:"command"`
	PIDs    List[int] `json:"pids"`             // outermost namespace first, its own last
	UIDs    []int64   `json:"uids,omitempty"`   // likewise in user namespaces, or NSUnmapped, NSUnread
	Parent  int       `json:"parent,omitempty"` // outermost pid of its parent
	Kernel  bool      `json:"kernel,omitempty"` // a thread of the kernel: the last that is shown
}

// What stands for an id where there is none.
const (
	NSUnmapped = -1 // the namespace has no id for the user
	NSUnread   = -2 // the namespace's map could not be read
)

// A NSRange is one line of an id map: Count ids from Inside on are Outside and following
// where the reader stands. Outside is NSUnmapped where the reader has no ids for them.
type NSRange struct {
	Inside  int64 `json:"inside"`
	Outside int64 `json:"outside"`
	Count   int64 `json:"count"`
}

// A NSNode is a pid or user namespace with its own processes and those below it.
type NSNode struct {
	NSName
	Type      string          `json:"type"`
	Owner     uint64          `json:"owner,omitempty"`      // the owning user namespace of a pid namespace
	Creator   *int64          `json:"creatorUid,omitempty"` // who made a user namespace
	UIDMap    []NSRange       `json:"uidMap,omitempty"`
	GIDMap    []NSRange       `json:"gidMap,omitempty"`
	Owns      []string        `json:"owns,omitempty"` // what a user namespace owns: "net 4026532008"
	Processes List[NSProcess] `json:"processes"`
	Children  []NSNode        `json:"children,omitempty"`
}

// A NSForest is all trees of one type.
type NSForest struct {
	Roots      List[NSNode] `json:"roots"`
	Unreadable int          `json:"unreadable"`
}

// A NSView is what one pid namespace sees, seen from all levels down to it.
type NSView struct {
	Levels    List[NSName]    `json:"levels"` // outermost first, the viewing one last
	Processes List[NSProcess] `json:"processes"`
	Total     int             `json:"total"` // processes that the outermost level sees
	// Unreadable are processes whose namespaces could not be read: more may be in the view.
	Unreadable int `json:"unreadable"`
}

// A NSVerdict is how one namespace of two processes compares.
type NSVerdict string

// The verdicts. A namespace that cannot be read leaves it open.
const (
	NSShared    NSVerdict = "shared"
	NSDifferent NSVerdict = "different"
	NSUnknown   NSVerdict = "unknown"
)

// A NSPair is one type of namespace of two processes; 0 for one that cannot be read.
type NSPair struct {
	Type    string    `json:"type"`
	A       uint64    `json:"a"`
	B       uint64    `json:"b"`
	Verdict NSVerdict `json:"verdict"`
}

// A NSComparison is two processes, by the names that their reader knows, side by side.
type NSComparison struct {
	A     string       `json:"a"`
	B     string       `json:"b"`
	Pairs List[NSPair] `json:"pairs"`
}

// A Fold limits how many entries a tree or a picture has for one namespace; 0 means all.
// Where it cuts, the last entry counts the rest: "+ 93 more processes".
type Fold struct {
	Processes  int
	Namespaces int // directly below one
}

// A List is a slice whose JSON is [] when it is empty, never null, so that readers of the
// output may always walk over it.
type List[T any] []T

// MarshalJSON implements json.Marshaler.
func (l List[T]) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b) // as JSON has it: "<" stays "<"
	e.SetEscapeHTML(false)
	err := e.Encode([]T(l))
	return b.Bytes(), err
}

// JSON writes v indented, as every --format json does.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// label is the shortest name of n in a sentence.
func (n NSName) label(l Lang) string {
	switch {
	case n.Host:
		return l.Say(words.Host)
	case n.Name != "":
		return Escape(n.Name)
	}
	return strconv.FormatUint(n.Inode, 10)
}

// title is the full name of n: "pid namespace 4026532501 (web)".
func (n NSNode) title(l Lang) string {
	switch {
	case n.Host:
		return l.Say(words.KindNamed, n.Type, n.Inode, l.Say(words.HostName))
	case n.Name != "":
		return l.Say(words.KindNamed, n.Type, n.Inode, Escape(n.Name))
	}
	return l.Say(words.Kind, n.Type, n.Inode)
}

// folded returns the processes of n that f lets through, and how many it leaves out.
// The first ones of a namespace and those that started a nested one explain the most,
// the kernel's threads the least.
func (n NSNode) folded(f Fold) (shown []NSProcess, more int) {
	all := slices.Clone(n.Processes)
	// Members of a user namespace may have the same pid in different pid namespaces.
	number := NSProcess.own
	if n.Type == "user" {
		number = NSProcess.outermost
	}
	byNumber := func(a, b NSProcess) int { return number(a) - number(b) }
	slices.SortStableFunc(all, byNumber)
	if f.Processes <= 0 || len(all) <= f.Processes {
		return all, 0
	}
	most := f.Processes - 1 // the note takes a place
	rank := func(p NSProcess) int {
		switch {
		case number(p) == 1:
			return 0
		case n.started(p):
			return 1
		case !p.Kernel:
			return 2
		}
		return 3
	}
	slices.SortStableFunc(all, func(a, b NSProcess) int { return rank(a) - rank(b) })
	shown = all[:most]
	slices.SortStableFunc(shown, byNumber)
	return shown, len(all) - len(shown)
}

// outermost is the pid in the outermost namespace.
func (p NSProcess) outermost() int {
	if len(p.PIDs) == 0 {
		return 0
	}
	return p.PIDs[0]
}

// own is the pid in the process's own namespace.
func (p NSProcess) own() int {
	if len(p.PIDs) == 0 {
		return 0
	}
	return p.PIDs[len(p.PIDs)-1]
}

// program is the command without the directory of its program, for where there is little room.
func (p NSProcess) program() string {
	if !strings.HasPrefix(p.Command, "/") {
		return p.Command
	}
	path, arguments, _ := strings.Cut(p.Command, " ")
	return strings.TrimSpace(path[strings.LastIndexByte(path, '/')+1:] + " " + arguments)
}

// started tells whether p is the parent of the first process of a namespace below n.
func (n NSNode) started(p NSProcess) bool {
	return len(p.PIDs) > 0 && slices.ContainsFunc(n.Children, func(c NSNode) bool {
		first, ok := c.first()
		return ok && first.Parent == p.PIDs[0]
	})
}

// first returns the process with the lowest pid.
func (n NSNode) first() (NSProcess, bool) {
	if len(n.Processes) == 0 {
		return NSProcess{}, false
	}
	return slices.MinFunc(n.Processes, func(a, b NSProcess) int { return a.own() - b.own() }), true
}

// starter returns the process of n that started the namespace c below it.
func (n NSNode) starter(c NSNode) (NSProcess, bool) {
	first, ok := c.first()
	if !ok {
		return NSProcess{}, false
	}
	i := slices.IndexFunc(n.Processes, func(p NSProcess) bool { return len(p.PIDs) > 0 && p.PIDs[0] == first.Parent })
	if i < 0 {
		return NSProcess{}, false
	}
	return n.Processes[i], true
}

// total counts the processes and the namespaces of n and below.
func (n NSNode) total() (processes, namespaces int) {
	processes, namespaces = len(n.Processes), 1
	for _, c := range n.Children {
		p, s := c.total()
		processes, namespaces = processes+p, namespaces+s
	}
	return processes, namespaces
}

// foldedChildren returns the namespaces below n that f lets through.
func (n NSNode) foldedChildren(f Fold) (shown []NSNode, more int) {
	if f.Namespaces <= 0 || len(n.Children) <= f.Namespaces {
		return n.Children, 0
	}
	most := f.Namespaces - 1
	return n.Children[:most], len(n.Children) - most
}

// numbers returns the process's number in its own namespace, and one phrase for each
// level further out, nearest first: 7 and ["8 in web", "341502 on the host"]. path is the
// namespaces from the outermost to its own. In user namespaces the numbers are uids.
func (p NSProcess) numbers(l Lang, kind string, path []NSName) (own string, outer []string) {
	ids := make([]string, 0, len(path))
	if kind == "user" {
		for _, id := range p.UIDs {
			ids = append(ids, l.id(id))
		}
	} else {
		for _, pid := range p.PIDs {
			ids = append(ids, strconv.Itoa(pid))
		}
	}
	if len(ids) == 0 {
		return "", nil
	}
	for i := len(ids) - 2; i >= 0; i-- {
		level := len(path) - len(ids) + i
		switch {
		case level < 0:
			outer = append(outer, l.Say(words.Outside, ids[i]))
		case path[level].Host:
			outer = append(outer, l.Say(words.OnHost, ids[i]))
		default:
			outer = append(outer, l.Say(words.InLevel, ids[i], path[level].label(l)))
		}
	}
	return ids[len(ids)-1], outer
}

// id prints one id of a user namespace.
func (l Lang) id(id int64) string {
	switch {
	case id == NSUnread:
		return l.Say(words.Unknown)
	case id < 0:
		return l.Say(words.Unmapped)
	}
	return strconv.FormatInt(id, 10)
}

// mapped says in words what n's uid map does, at most lines of it.
func (n NSNode) mapped(l Lang, lines int) []string {
	var said []string
	for i, r := range n.UIDMap {
		if i == lines {
			return append(said, l.Count(words.MoreLines, len(n.UIDMap)-i))
		}
		last := r.Inside + r.Count - 1
		switch {
		case r.Outside < 0:
			said = append(said, l.Say(words.IDNone, r.Inside, last))
		case r.Count == 1:
			said = append(said, l.Say(words.IDOne, r.Inside, r.Outside))
		default:
			said = append(said, l.Say(words.IDRange, r.Inside, last, r.Outside, r.Outside+r.Count-1))
		}
	}
	return said
}
