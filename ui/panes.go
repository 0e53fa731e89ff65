package ui

import "strings"

// A Pane is one half of a screen: a title and lines below it, of untrusted text (see
// [Escape]).
type Pane struct {
	Title string
	Lines []Line
}

// A Line is one line of a [Pane]; a long one is wrapped.
type Line struct {
	Text string
	Role Role
}

// Where panes meet, how wide they are where the screen sets no width, and below which
// width they stand one above the other.
const (
	defaultColumns = 80
	stackBelow     = 48
)

// Panes renders two panes side by side, the host's view and the view from inside: a rule
// below each title, a line between them. On a narrow screen right comes below left.
func Panes(left, right Pane, s Screen) string {
	columns := s.Columns
	if columns == 0 {
		columns = defaultColumns
	}
	var b strings.Builder
	if columns < stackBelow {
		for i, p := range [...]Pane{left, right} {
			if i > 0 {
				b.WriteByte('\n')
			}
			for _, l := range p.layout(columns, s) {
				b.WriteString(s.Paint(l.Role, l.Text) + "\n")
			}
		}
		return b.String()
	}
	half := (columns - 3) / 2
	l, r := left.layout(half, s), right.layout(columns-3-half, s)
	for i := range max(len(l), len(r)) {
		a, z := lineAt(l, i), lineAt(r, i)
		b.WriteString(s.Paint(a.Role, a.Text))
		b.WriteString(strings.Repeat(" ", half-Width(a.Text)+1))
		b.WriteString(s.pick("│", "|"))
		if z.Text != "" {
			b.WriteString(" " + s.Paint(z.Role, z.Text))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// layout returns the pane's lines, none wider than columns.
func (p Pane) layout(columns int, s Screen) []Line {
	title := Cut(Escape(p.Title), columns, s.ellipsis())
	lines := []Line{{title, Heading}, {strings.Repeat(s.pick("─", "-"), columns), Dim}}
	for _, l := range p.Lines {
		for _, part := range Wrap(Escape(l.Text), columns) {
			lines = append(lines, Line{part, l.Role})
		}
	}
	return lines
}

func lineAt(lines []Line, i int) Line {
	if i < len(lines) {
		return lines[i]
	}
	return Line{}
}
