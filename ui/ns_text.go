package ui

import (
	"slices"
	"strconv"
	"strings"
)

// Text renders the list as the table of `ns ls`, a note about what could not be read
// below it.
func (n NSList) Text(s Screen) string {
	t := Table{Columns: []Column{
		{Title: "NS", Right: true}, {Title: "TYPE"}, {Title: "NPROCS", Right: true}, {Title: "PID", Right: true},
		{Title: "OWNER", Right: true}, {Title: "PARENT", Right: true}, {Title: "COMMAND", Least: 8},
	}}
	for _, r := range n.Namespaces {
		t.Rows = append(t.Rows, []string{
			inode(r.Inode), r.Type, strconv.Itoa(r.Processes), inode(uint64(r.PID)), inode(r.Owner), inode(r.Parent), r.named(),
		})
	}
	return t.Text(s) + unreadable(n.Unreadable, s)
}

// named is the command, its container's name before it.
func (r NSRow) named() string {
	if r.Name == "" {
		return r.Command
	}
	return r.Name + ": " + r.Command
}

// inode prints a number of which 0 means none.
func inode(n uint64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(n, 10)
}

// unreadable is the note about processes of others, empty when there are none.
func unreadable(n int, s Screen) string {
	if n == 0 {
		return ""
	}
	return s.Paint(Notice, s.Lang.Count(words.Unreadable, n)) + "\n"
}

// Text renders the trees of `ns tree`: each namespace, its processes with their number
// at every level, and the namespaces below.
func (f NSForest) Text(fold Fold, s Screen) string {
	var b strings.Builder
	for _, root := range f.Roots {
		b.WriteString(root.tree(fold, s, nil, "").Draw(s))
	}
	return b.String() + unreadable(f.Unreadable, s)
}

// tree turns n into lines. path is the namespaces above n, starter says who made it.
func (n NSNode) tree(fold Fold, s Screen, path []NSName, starter string) Tree {
	l := s.Lang
	path = append(slices.Clip(path), n.NSName)
	t := Tree{Text: n.title(l), Note: strings.Join(n.facts(l, starter), l.comma()), Role: Heading}
	if n.Type == "user" && !n.Host {
		for _, line := range n.mapped(l, 4) {
			t.Children = append(t.Children, Tree{Text: line})
		}
	}
	if n.Type == "user" && len(n.Owns) > 0 {
		t.Children = append(t.Children, Tree{Text: l.Say(words.Owns, some(n.Owns, 8, l)), Role: Dim})
	}
	shown, more := n.folded(fold)
	for _, p := range shown {
		t.Children = append(t.Children, Tree{Text: p.Command, Note: p.sentence(l, n.Type, path)})
	}
	if more > 0 {
		t.Children = append(t.Children, Tree{Text: l.Count(words.MoreProcesses, more), Role: Dim})
	}
	nodes, more := n.foldedChildren(fold)
	for _, c := range nodes {
		t.Children = append(t.Children, c.tree(fold, s, path, n.startedBy(l, c, n.starterColumns(s, c, len(path)), s.ellipsis())))
	}
	if more > 0 {
		t.Children = append(t.Children, Tree{Text: l.Count(words.MoreSpaces, more), Role: Dim})
	}
	return t
}

// facts are what is said of a namespace behind its name.
func (n NSNode) facts(l Lang, starter string) []string {
	facts := []string{l.Count(words.Processes, len(n.Processes))}
	if starter != "" {
		facts = append(facts, starter)
	}
	return append(facts, n.ownership(l)...)
}

// ownership says whose n is; nothing of the host's own.
func (n NSNode) ownership(l Lang) []string {
	switch {
	case n.Host:
	case n.Type == "user" && n.Creator != nil:
		return []string{l.Say(words.CreatedBy, *n.Creator)}
	case n.Type != "user" && n.Owner != 0:
		return []string{l.Say(words.OwnedBy, n.Owner)}
	}
	return nil
}

// startedBy names the process of n that started the pid namespace c, by so much of its
// command as tells it from others.
func (n NSNode) startedBy(l Lang, c NSNode, columns int, ellipsis string) string {
	if p, ok := n.starter(c); ok && n.Type != "user" {
		return l.Say(words.StartedBy, Cut(Escape(p.program()), columns, ellipsis), p.own())
	}
	return ""
}

// starterColumns is how wide the command of who started c may be in a tree, so many levels down: the pid behind it says more.
func (n NSNode) starterColumns(s Screen, c NSNode, level int) int {
	p, ok := n.starter(c)
	if !ok || s.Columns == 0 {
		return noteColumn
	}
	facts := []string{s.Lang.Count(words.Processes, len(c.Processes)), s.Lang.Say(words.StartedBy, "", p.own())}
	if len(c.ownership(s.Lang)) > 0 {
		facts = append(facts, s.ellipsis())
	}
	rest := Width(strings.Repeat("└─ ", level)) + Width(c.title(s.Lang)+gap+strings.Join(facts, s.Lang.comma()))
	return min(noteColumn, max(leastText/2, s.Columns-rest))
}

// sentence is the process's numbers in words: "pid 7 here, 341502 on the host".
func (p NSProcess) sentence(l Lang, kind string, path []NSName) string {
	own, outer := p.numbers(l, kind, path)
	var parts []string
	switch {
	case kind == "user" && own == "":
		// Ids that cannot be mapped for want of a readable member.
	case kind == "user" && len(outer) == 0:
		parts = append(parts, l.Say(words.UIDOnly, own))
	case kind == "user":
		parts = append(parts, l.Say(words.UIDHere, own))
	case len(outer) == 0:
		parts = append(parts, l.Say(words.PIDOnly, p.own()))
	default:
		parts = append(parts, l.Say(words.PIDHere, p.own()))
	}
	parts = append(parts, outer...)
	if kind == "user" && len(p.PIDs) > 0 {
		parts = slices.Insert(parts, 0, l.Say(words.OfPID, p.PIDs[0]))
	}
	return strings.Join(parts, l.comma())
}

func (l Lang) comma() string {
	if l == JA {
		return "、"
	}
	return ", "
}

// some joins the first most of items, and counts the rest.
func some(items []string, most int, l Lang) string {
	if len(items) > most {
		items = append(slices.Clone(items[:most]), l.Count(words.MoreLines, len(items)-most))
	}
	return strings.Join(items, l.comma())
}

// Text renders `ns ps`: each process with its number at every level, and a sentence on
// who sees whom.
func (v NSView) Text(s Screen) string {
	t := Table{Columns: []Column{{Title: s.Lang.Say(words.Process), Least: 12}}}
	for i, level := range v.Levels {
		t.Columns = append(t.Columns, Column{Title: v.heading(i, level, s.Lang)})
	}
	t.Paint = func(_, column int) Role {
		if column == len(v.Levels) && column > 1 {
			return Accent
		}
		return Plain
	}
	for _, p := range v.Processes {
		row := []string{p.Command}
		for i := range v.Levels {
			if i < len(p.PIDs) {
				row = append(row, strconv.Itoa(p.PIDs[i]))
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return t.Text(s) + v.closing(s.Lang) + "\n" + unreadable(v.Unreadable, s)
}

func (v NSView) heading(i int, level NSName, l Lang) string {
	switch {
	case i == 0 && level.Host:
		return l.Say(words.HereHost)
	case i == 0:
		return l.Say(words.Here)
	case i == len(v.Levels)-1:
		return l.Say(words.InsideOf, level.label(l))
	}
	return l.Say(words.In, level.label(l))
}

// closing is the sentence below the table.
func (v NSView) closing(l Lang) string {
	if len(v.Levels) < 2 {
		deeper := 0
		for _, p := range v.Processes {
			if len(p.PIDs) > 1 {
				deeper++
			}
		}
		if deeper == 0 {
			return l.Say(words.NoDeeper)
		}
		return l.Count(words.Deeper, deeper)
	}
	host, inside := v.Levels[0].sentence(l), v.Levels[len(v.Levels)-1].sentence(l)
	if l == JA && !v.Levels[0].Host {
		host += " " // names and numbers stand apart from Japanese, of which "the host" is a word
	}
	switch n := len(v.Processes); n {
	case 0:
		return l.Say(words.SeesNone, inside)
	case 1:
		return l.Say(words.SeesOne, host, inside, v.Total)
	case 2:
		return l.Say(words.SeesBoth, host, inside, v.Total)
	default:
		return l.Say(words.SeesAll, host, inside, v.Total, n)
	}
}

// sentence is n's name where a number alone would not be understood.
func (n NSName) sentence(l Lang) string {
	if !n.Host && n.Name == "" {
		return l.Say(words.Namespace, n.Inode)
	}
	return n.label(l)
}

// Text renders `ns diff`: each type of namespace of both processes, a verdict, and what
// they share in one sentence.
func (c NSComparison) Text(s Screen) string {
	l := s.Lang
	t := Table{Columns: []Column{{Title: l.Say(words.Type)}, {Title: Escape(c.A), Least: 10}, {Title: Escape(c.B), Least: 10}, {Title: ""}}}
	t.Paint = func(row, column int) Role {
		if column < 3 {
			return Plain
		}
		switch c.Pairs[row].Verdict {
		case NSShared:
			return Good
		case NSDifferent:
			return Notice
		}
		return Dim
	}
	var shared []string
	for _, p := range c.Pairs {
		verdict := l.Say(words.Unknown)
		switch p.Verdict {
		case NSShared:
			verdict = l.Say(words.Shared)
			shared = append(shared, p.Type)
		case NSDifferent:
			verdict = l.Say(words.Different)
		}
		t.Rows = append(t.Rows, []string{p.Type, inode(p.A), inode(p.B), verdict})
	}
	return t.Text(s) + c.closing(l, shared) + "\n"
}

// closing says which types are shared, of those that could be compared.
func (c NSComparison) closing(l Lang, shared []string) string {
	unknown := 0
	for _, p := range c.Pairs {
		if p.Verdict != NSShared && p.Verdict != NSDifferent {
			unknown++
		}
	}
	a, b, compared := Escape(c.A), Escape(c.B), len(c.Pairs)-unknown
	if compared == 0 {
		return l.Say(words.NothingIn, a, b)
	}
	said := l.Say(words.ShareNone, a, b, compared)
	if len(shared) > 0 {
		said = l.Say(words.Share, a, b, len(shared), compared, strings.Join(shared, l.comma()))
	}
	if unknown > 0 {
		said += "; " + l.Count(words.Compared, unknown)
	}
	return said
}
