package ui

import (
	"fmt"
	"slices"
	"strings"
)

// Measures of the picture, in its user units (pixels at 100 %). Text is measured by
// estimate, since nothing here has fonts: the widest of the usual ones per size.
const (
	pictureWidth = 1040
	boxPad       = 20 // inside a box, at its sides and bottom
	boxGap       = 14 // between boxes, and between a header and what follows
	boxLeast     = 300
	nameHeight   = 26  // the first line of a header
	factHeight   = 17  // each further one
	chipLeast    = 212 // narrowest chip: columns are as many as fit
	chipGap      = 8
	chipHeight   = 46 // with the line about outer levels
	chipLow      = 32 // without it
	chipText     = 24 // what a chip needs beside its pill and its text
	keyHeight    = 46 // the two lines that explain the picture
)

const (
	sans = `system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', 'Noto Sans CJK JP', sans-serif`
	mono = `ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', 'Noto Sans Mono CJK JP', monospace`
)

// A tint is the colours of one level. Every box is opaque and brings its own ground, so
// that the picture reads the same on a light page and on a dark slide.
type tint struct{ fill, edge, strong, pill string }

var tints = [...]tint{
	{"#f5f6f8", "#c5cbd5", "#475467", "#e7eaef"},
	{"#e4edfd", "#9fbdf0", "#1b4fa6", "#d3e2fb"},
	{"#e0f4ea", "#8fd0ae", "#0e6443", "#c8ebd9"},
	{"#fdf2dc", "#e6c683", "#865506", "#f9e5ba"},
	{"#f6e8fa", "#d2abdd", "#752789", "#ecd3f3"},
}

// tintOf repeats the colours below the outermost level.
func tintOf(depth int) tint {
	if depth == 0 {
		return tints[0]
	}
	return tints[1+(depth-1)%(len(tints)-1)]
}

const (
	ink  = "#1d2433" // names
	soft = "#5b6474" // what explains them
)

// A box is one namespace, laid out; a shape without processes is a note on folded ones.
type box struct {
	node      NSNode
	path      []NSName
	depth     int
	startedBy string
	note      string // instead of all else: "+ 3 more namespaces"
	facts     []string
	shown     []NSProcess
	more      int
	children  []*box

	x, y, w, h   int
	lines        []string // facts, as they fit into the width
	chipsAt      int      // y of the first chip, from the top of the box
	pill         int      // width of the number's ground
	columns      int
	chipW, chipH int
}

// SVG draws the trees as one picture: a box for each namespace, nested as they are, and
// in it each process with its number there and further out. The text is SVG 1.1 without
// fonts, scripts or style sheets of its own, equal for equal input.
func (f NSForest) SVG(fold Fold, l Lang) string {
	width := pictureWidth
	for _, root := range f.Roots {
		width = max(width, boxLeast+2*boxPad*(depth(root)-1))
	}
	p := picture{lang: l}
	y := 0
	for i, root := range f.Roots {
		if i > 0 {
			y += boxGap
		}
		b := newBox(root, fold, l, nil, "")
		b.place(0, y, width, l)
		y += b.h
		p.boxes = append(p.boxes, b)
	}
	if len(p.boxes) > 0 {
		p.boxes[len(p.boxes)-1].h += keyHeight
		y += keyHeight
	}
	return p.render(f, width, y)
}

// depth counts the levels of n, itself one.
func depth(n NSNode) int {
	d := 0
	for _, c := range n.Children {
		d = max(d, depth(c))
	}
	return d + 1
}

func newBox(n NSNode, fold Fold, l Lang, path []NSName, startedBy string) *box {
	b := &box{node: n, depth: len(path), path: append(slices.Clip(path), n.NSName), startedBy: startedBy}
	b.shown, b.more = n.folded(fold)
	b.facts = b.said(l)
	nodes, more := n.foldedChildren(fold)
	for _, c := range nodes {
		b.children = append(b.children, newBox(c, fold, l, b.path, n.startedBy(l, c, noteColumn, "…")))
	}
	// Boxes that need the whole width first, then those that stand side by side.
	slices.SortStableFunc(b.children, func(a, z *box) int { return b2i(a.small()) - b2i(z.small()) })
	if more > 0 {
		b.children = append(b.children, &box{depth: b.depth + 1, note: l.Count(words.MoreSpaces, more)})
	}
	return b
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// small tells whether b may stand beside a neighbour.
func (b *box) small() bool { return len(b.children) == 0 && b.chips() <= 4 }

// chips counts what stands in the grid, the note about folded ones too.
func (b *box) chips() int { return len(b.shown) + b2i(b.more > 0) }

// said are the facts below b's name, in the order of their weight.
func (b *box) said(l Lang) []string {
	var facts []string
	n := b.node
	if b.startedBy != "" {
		facts = append(facts, b.startedBy)
	}
	if n.Host || n.Name != "" {
		facts = append(facts, l.Say(words.Kind, n.Type, n.Inode))
	}
	facts = append(facts, n.ownership(l)...)
	if n.Type == "user" && !n.Host {
		facts = append(facts, n.mapped(l, 3)...)
	}
	return facts
}

// place lays b out at x, y with the width w, and finds its height.
func (b *box) place(x, y, w int, l Lang) {
	b.x, b.y, b.w = x, y, w
	if b.note != "" {
		b.h = chipLow + boxGap
		return
	}
	inner := w - 2*boxPad
	b.lines = flow(b.facts, inner, 12)
	b.chipsAt = boxPad + nameHeight + len(b.lines)*factHeight
	b.grid(inner, l)
	bottom := y + b.chipsAt
	if rows := (b.chips() + b.columns - 1) / b.columns; rows > 0 {
		bottom += rows*(b.chipH+chipGap) - chipGap + boxGap
	}
	bottom = b.placeChildren(bottom, inner, l)
	b.h = bottom - boxGap + boxPad - y
}

// grid finds the size of b's chips: as narrow as the numbers allow, which are never cut
// while a single column can hold them.
func (b *box) grid(inner int, l Lang) {
	b.pill, b.chipH = 36, chipLow
	outerWidth := 0
	for _, p := range b.shown {
		own, outer := b.numbers(p, l)
		b.pill = max(b.pill, monoWidth(own, 15)+14)
		if outer != "" {
			b.chipH = chipHeight
			outerWidth = max(outerWidth, textWidth(outer, 11))
		}
	}
	least := max(chipLeast, b.pill+outerWidth+chipText)
	b.columns = max(1, (inner+chipGap)/(least+chipGap))
	b.chipW = (inner - (b.columns-1)*chipGap) / b.columns
}

// numbers returns what a chip says of p besides its command.
func (b *box) numbers(p NSProcess, l Lang) (own, outer string) {
	own, levels := p.numbers(l, b.node.Type, b.path)
	if b.node.Type == "user" && len(p.PIDs) > 0 {
		levels = append(levels, l.Say(words.OfPID, p.PIDs[0]))
	}
	if strings.Trim(own, "0123456789") != "" || own == "" {
		own = "–" // the words for it are in the chip's title
	}
	return own, strings.Join(levels, " · ")
}

// short is outer, with what lies between the nearest and the outermost level left out
// when it is too wide.
func short(outer string, width, size int) string {
	levels := strings.Split(outer, " · ")
	if textWidth(outer, size) > width && len(levels) > 2 {
		outer = levels[0] + " · … · " + levels[len(levels)-1]
	}
	return fit(outer, width, size)
}

// flow joins facts into lines that fit into width. What is wider itself goes on in a second line, from a space on.
func flow(facts []string, width, size int) []string {
	var lines []string
	for _, f := range facts {
		if last := len(lines) - 1; last >= 0 && textWidth(lines[last]+" · "+f, size) <= width {
			lines[last] += " · " + f
			continue
		}
		if textWidth(f, size) > width {
			first, rest := f, ""
			for i := strings.LastIndexByte(first, ' '); i > 0 && textWidth(first, size) > width; i = strings.LastIndexByte(first, ' ') {
				first, rest = f[:i], f[i+1:]
			}
			if i := strings.LastIndex(first, " ("); i > 0 && !strings.Contains(first[i:], ")") {
				first, rest = f[:i], f[i+1:] // what is in brackets stays together
			}
			if rest != "" && textWidth(first, size) <= width {
				lines, f = append(lines, first), rest
			}
		}
		lines = append(lines, fit(f, width, size))
	}
	return lines
}

// placeChildren puts large boxes below each other and small ones into rows of equal
// height, from y on, and returns where the next thing would go.
func (b *box) placeChildren(y, inner int, l Lang) int {
	i := 0
	for ; i < len(b.children) && !b.children[i].small(); i++ {
		b.children[i].place(b.x+boxPad, y, inner, l)
		y += b.children[i].h + boxGap
	}
	small := b.children[i:]
	if len(small) == 0 {
		return y
	}
	columns := min(len(small), max(1, (inner+boxGap)/(boxLeast+boxGap)))
	w := (inner - (columns-1)*boxGap) / columns
	for row := range slices.Chunk(small, columns) {
		h := 0
		for c, child := range row {
			child.place(b.x+boxPad+c*(w+boxGap), y, w, l)
			h = max(h, child.h)
		}
		for _, child := range row {
			child.h = h
		}
		y += h + boxGap
	}
	return y
}

// A picture writes boxes as SVG.
type picture struct {
	strings.Builder
	lang  Lang
	boxes []*box
}

func (p *picture) add(format string, args ...any) { fmt.Fprintf(&p.Builder, format+"\n", args...) }

func (p *picture) render(f NSForest, w, h int) string {
	title := p.lang.Say(words.PIDPicture)
	processes, namespaces := 0, 0
	for _, root := range f.Roots {
		n, s := root.total()
		processes, namespaces = processes+n, namespaces+s
		if root.Type == "user" {
			title = p.lang.Say(words.UserPicture)
		}
	}
	p.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="-1 -1 %d %d" role="img" aria-labelledby="ns-title ns-desc" font-family="%s">`, w+2, h+2, w+2, h+2, sans)
	p.add(`<title id="ns-title">%s</title>`, title)
	p.add(`<desc id="ns-desc">%s</desc>`, xmlText(p.lang.Say(words.Described, title,
		p.lang.Count(words.Namespaces, namespaces), p.lang.Count(words.Processes, processes))))
	for _, b := range p.boxes {
		p.box(b)
	}
	if len(p.boxes) > 0 {
		p.key(p.boxes[len(p.boxes)-1])
	}
	p.add(`</svg>`)
	return p.String()
}

// key writes the two sentences at the foot of the last box.
func (p *picture) key(b *box) {
	numbers, meaning := words.KeyPID, words.KeySight
	if b.node.Type == "user" {
		numbers, meaning = words.KeyUID, words.KeyRights
	}
	x, y := b.x+boxPad, b.y+b.h-boxPad
	p.add(`<path d="M%d %dH%d" stroke="%s"/>`, x, y-34, b.x+b.w-boxPad, tintOf(b.depth).edge)
	p.text(x, y-14, 12, soft, "", p.lang.Say(numbers))
	p.text(x, y+3, 12, soft, "", p.lang.Say(meaning))
}

func (p *picture) box(b *box) {
	t := tintOf(b.depth)
	if b.note != "" {
		p.add(`<rect x="%d" y="%d" width="%d" height="%d" rx="14" fill="none" stroke="%s" stroke-dasharray="4 4"/>`, b.x, b.y, b.w, b.h, t.edge)
		p.text(b.x+boxPad, b.y+b.h/2+5, 13, soft, "", b.note)
		return
	}
	p.add(`<g>`)
	p.add(`<rect x="%d" y="%d" width="%d" height="%d" rx="14" fill="%s" stroke="%s" stroke-width="1.5"/>`, b.x, b.y, b.w, b.h, t.fill, t.edge)
	p.header(b, t)
	for i, c := range b.shown {
		p.chip(b, t, i, c)
	}
	if b.more > 0 {
		x, y := b.chipAt(len(b.shown))
		p.add(`<rect x="%d" y="%d" width="%d" height="%d" rx="8" fill="none" stroke="%s" stroke-dasharray="4 4"/>`, x, y, b.chipW, b.chipH, t.edge)
		p.text(x+14, y+b.chipH/2+5, 13, soft, "", fit(p.lang.Count(words.MoreProcesses, b.more), b.chipW-28, 13))
	}
	for _, c := range b.children {
		p.box(c)
	}
	p.add(`</g>`)
}

// header writes who b is and how many it has, and below it the facts.
func (p *picture) header(b *box, t tint) {
	name, size := b.node.heading(p.lang), 17
	if b.depth == 0 {
		size = 20
	}
	count := p.lang.Count(words.Processes, len(b.node.Processes))
	x, y, inner := b.x+boxPad, b.y+boxPad+14, b.w-2*boxPad
	p.text(x, y, size, t.strong, `font-weight="650"`, fitBold(name, inner-textWidth(count, 13)-boxGap, size))
	p.text(x+inner, y, 13, soft, `text-anchor="end"`, count)
	for i, line := range b.lines {
		p.text(x, y+nameHeight-10+i*factHeight, 12, soft, "", line)
	}
}

// heading is n's name above its box; without one it is the kernel's, as readlink(1) on
// /proc/PID/ns/pid prints it.
func (n NSNode) heading(l Lang) string {
	switch {
	case n.Host:
		return l.Say(words.HostName)
	case n.Name != "":
		return Escape(n.Name)
	}
	return fmt.Sprintf("%s:[%d]", n.Type, n.Inode)
}

// chipAt is the upper left corner of place i in b's grid.
func (b *box) chipAt(i int) (x, y int) {
	return b.x + boxPad + i%b.columns*(b.chipW+chipGap), b.y + b.chipsAt + i/b.columns*(b.chipH+chipGap)
}

// chip writes one process: its number on a pill, its command, its outer numbers below.
// One that started a namespace has that level's colour around it.
func (p *picture) chip(b *box, t tint, i int, proc NSProcess) {
	x, y := b.chipAt(i)
	own, outer := b.numbers(proc, p.lang)
	command, edge := Escape(proc.Command), t.edge
	if b.node.Type != "user" && b.node.started(proc) {
		edge = tintOf(b.depth + 1).edge
	}
	p.add(`<g><title>%s</title>`, xmlText(command+": "+Escape(proc.sentence(p.lang, b.node.Type, b.path))))
	p.add(`<rect x="%d" y="%d" width="%d" height="%d" rx="8" fill="#ffffff" stroke="%s"/>`, x, y, b.chipW, b.chipH, edge)
	p.add(`<rect x="%d" y="%d" width="%d" height="%d" rx="5" fill="%s"/>`, x+4, y+4, b.pill, b.chipH-8, t.pill)
	p.text(x+4+b.pill/2, y+b.chipH/2+5, 15, t.strong, `font-family="`+mono+`" font-weight="700" text-anchor="middle"`, own)
	tx, room := x+b.pill+14, b.chipW-b.pill-chipText
	if outer == "" {
		p.text(tx, y+b.chipH/2+5, 13, ink, "", fit(Escape(proc.program()), room, 13))
	} else {
		p.text(tx, y+19, 13, ink, "", fit(Escape(proc.program()), room, 13))
		p.text(tx, y+36, 11, soft, "", short(outer, room, 11))
	}
	p.add(`</g>`)
}

// text writes one line of text with its baseline at y; attributes are ready-made.
func (p *picture) text(x, y, size int, colour, attributes, s string) {
	if attributes != "" {
		attributes = " " + attributes
	}
	p.add(`<text x="%d" y="%d" font-size="%d" fill="%s"%s>%s</text>`, x, y, size, colour, attributes, xmlText(s))
}

// textWidth estimates how wide s is at a font size, with the advances of a wide face
// (DejaVu Sans), so that it fits in the usual ones too.
func textWidth(s string, size int) int {
	mils := 0
	for _, r := range s {
		mils += advance(r)
	}
	return (mils*size + 999) / 1000
}

// advance is the width of r in thousandths of an em.
func advance(r rune) int {
	switch w := runeWidth(r); {
	case w == 0:
		return 0
	case w == 2:
		return 1000
	case strings.ContainsRune("ijlI'|.,:;!()[] /\\·-", r):
		return 360
	case strings.ContainsRune("ftrs", r):
		return 470
	case strings.ContainsRune("mwMW@%", r):
		return 950
	case r >= 'A' && r <= 'Z' || strings.ContainsRune("+=<>~#&…", r) || r >= 0x80:
		return 790
	}
	return 640
}

// monoWidth is textWidth for digits in a face of fixed width.
func monoWidth(s string, size int) int { return (Width(s)*610*size + 999) / 1000 }

// fit cuts s to a width in user units.
func fit(s string, width, size int) string {
	if textWidth(s, size) <= width {
		return s
	}
	runes := []rune(s)
	for len(runes) > 0 && textWidth(string(runes)+"…", size) > width {
		runes = runes[:len(runes)-1]
	}
	return strings.TrimRight(string(runes), " ·") + "…"
}

// bold is how wide bold text is, in eighths of the same text as textWidth has it.
const bold = 9

// fitBold is fit for bold text.
func fitBold(s string, width, size int) string { return fit(s, width*8/bold, size) }

// xmlText escapes text for an element or an attribute.
func xmlText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;").Replace(s)
}
