package ui

import "strings"

// A Column is one column of a [Table].
type Column struct {
	Title string
	Right bool // align right: counts, sizes
	Least int  // columns that stay when the table is too wide; 0: never cut
}

// A Table is rows of cells under titles, as docker prints them: two spaces between
// columns, no lines. Cells are untrusted text, see [Escape].
type Table struct {
	Columns []Column
	Rows    [][]string // a short row is filled with empty cells

	// Paint gives the role of a cell; nil means plain ones.
	Paint func(row, column int) Role
}

// gap stands between two columns.
const gap = "  "

// Text renders the table, one line a row and one for the titles. Where the screen has a
// width, columns with a Least are cut until the lines fit, the widest first.
func (t Table) Text(s Screen) string {
	cells := make([][]string, len(t.Rows))
	for r, row := range t.Rows {
		cells[r] = make([]string, len(t.Columns))
		for c := range min(len(row), len(t.Columns)) {
			cells[r][c] = Escape(row[c])
		}
	}
	widths := t.widths(cells, s.Columns)
	var b strings.Builder
	titles := make([]string, len(t.Columns))
	for c, col := range t.Columns {
		titles[c] = col.Title
	}
	t.line(&b, s, titles, widths, func(int) Role { return Heading })
	for r, row := range cells {
		t.line(&b, s, row, widths, func(c int) Role {
			if t.Paint == nil {
				return Plain
			}
			return t.Paint(r, c)
		})
	}
	return b.String()
}

// line writes one line without spaces at its end.
func (t Table) line(b *strings.Builder, s Screen, cells []string, widths []int, role func(column int) Role) {
	blank := 0 // spaces owed, written only when something follows
	for c, cell := range cells {
		text := Cut(cell, widths[c], s.ellipsis())
		fill := widths[c] - Width(text)
		if t.Columns[c].Right {
			blank, fill = blank+fill, 0
		}
		if text != "" {
			b.WriteString(strings.Repeat(" ", blank))
			b.WriteString(s.Paint(role(c), text))
			blank = 0
		}
		blank += fill + len(gap)
	}
	b.WriteByte('\n')
}

// widths returns the width of each column, together within limit as far as Least allows.
func (t Table) widths(cells [][]string, limit int) []int {
	widths := make([]int, len(t.Columns))
	total := len(gap) * (len(widths) - 1)
	for c, col := range t.Columns {
		widths[c] = Width(col.Title)
		for _, row := range cells {
			widths[c] = max(widths[c], Width(row[c]))
		}
		total += widths[c]
	}
	for limit > 0 && total > limit {
		widest := -1
		for c, col := range t.Columns {
			if col.Least > 0 && widths[c] > max(col.Least, Width(col.Title)) && (widest < 0 || widths[c] > widths[widest]) {
				widest = c
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
		total--
	}
	return widths
}
