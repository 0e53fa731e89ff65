package ui

import "strings"

// A Tree is a line of text with branches below it. Both strings are untrusted text, see
// [Escape].
type Tree struct {
	Text     string
	Note     string // stands behind the text; notes of neighbours without branches are aligned
	Role     Role   // of the text; the note is plain
	Aligned  bool   // its note is aligned with its neighbours', also when it has branches
	Children []Tree
}

// aligned tells whether t's note is in one column with its neighbours'.
func (t Tree) aligned() bool { return t.Aligned || t.leaf() }

// leaf tells whether t is one of many like it; a title without branches is none.
func (t Tree) leaf() bool { return len(t.Children) == 0 && t.Role != Heading }

// mostText is how long a text may be for its neighbours' notes to stand behind it, in one column: a longer one
// pushes its own note alone. leastText is what a note leaves of its text on a narrow screen, noteColumn how much of one a note shows.
const (
	mostText   = 60
	leastText  = 12
	noteColumn = 32
)

// Draw renders the tree, one line a node, each cut at the width of the screen.
func (t Tree) Draw(s Screen) string {
	var b strings.Builder
	t.write(&b, s, "", "", 0)
	return b.String()
}

// write renders t: first stands before its own line, rest before those of its branches,
// and its text is padded to align when a note follows.
func (t Tree) write(b *strings.Builder, s Screen, first, rest string, align int) {
	text, note := Escape(t.Text), Escape(t.Note)
	if note != "" {
		note = gap + note
	}
	if room := s.Columns - Width(first); s.Columns > 0 {
		most := room
		if t.leaf() { // whose note says more than its text
			most = min(room, max(room-Width(note), leastText))
			if note != "" && align > 0 && Width(text) <= mostText {
				most = min(most, align) // as its neighbours
			}
		}
		text, align = Cut(text, most, s.ellipsis()), min(align, most)
		note = Cut(note, room-max(Width(text), align), s.ellipsis())
	}
	if note != "" {
		text = pad(text, align)
	}
	b.WriteString(first)
	b.WriteString(s.Paint(t.Role, text))
	b.WriteString(note)
	b.WriteByte('\n')

	align = t.column(s, Width(rest+s.pick("├─ ", "|- ")))
	for i, c := range t.Children {
		branch, stem := s.pick("├─ ", "|- "), s.pick("│  ", "|  ")
		if i == len(t.Children)-1 {
			branch, stem = s.pick("└─ ", "`- "), "   "
		}
		own := 0
		if c.aligned() {
			own = align
		}
		c.write(b, s, rest+branch, rest+stem, own)
	}
}

// column is how wide the texts of t's branches are whose notes are in one column. On a screen it is where the longest of these has room, behind the branches.
func (t Tree) column(s Screen, branches int) (wide int) {
	notes := 0
	for _, c := range t.Children {
		if !c.aligned() || c.Note == "" {
			continue
		}
		notes = max(notes, Width(gap+Escape(c.Note)))
		if w := Width(Escape(c.Text)); w <= mostText {
			wide = max(wide, w)
		}
	}
	if s.Columns > 0 {
		wide = min(wide, max(s.Columns-branches-notes, leastText))
	}
	return wide
}
