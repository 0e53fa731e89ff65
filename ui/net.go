package ui

import (
	"fmt"
	"slices"
	"strings"
)

// A NetMap is network namespaces, and what connects them.
type NetMap struct {
	Spaces     List[NetSpace] `json:"namespaces"`
	Unreadable int            `json:"unreadable"`
}

// A NetSpace is one network namespace.
type NetSpace struct {
	NSName
	Joined    []string        `json:"joined,omitempty"` // further containers, by --network container:NAME
	Here      bool            `json:"here,omitempty"`   // where the reader stands
	World     bool            `json:"world,omitempty"`  // an ordinary user's networks, which stand for the machine's
	PID       int             `json:"pid"`              // of its first process
	Command   string          `json:"command"`
	Devices   List[NetDevice] `json:"devices"`
	Published []string        `json:"published,omitempty"` // "0.0.0.0:8080 → 172.17.0.2:80/tcp"
	More      bool            `json:"more,omitempty"`      // devices or addresses than these, which were not read
}

// A NetDevice is a network device.
type NetDevice struct {
	Name   string   `json:"name"`
	Kind   string   `json:"kind,omitempty"`
	Up     bool     `json:"up"`
	Addrs  []string `json:"addresses,omitempty"`
	Master string   `json:"bridge,omitempty"` // the bridge that it is a port of
	Peer   string   `json:"peer,omitempty"`   // the other end of a veth, or what it stands on
	In     int      `json:"-"`                // place of the peer's namespace in the map; -1 for none that is known
}

// called is what stands behind the namespace's number; empty for one that has no name.
func (n NetSpace) called(l Lang) string {
	switch {
	case n.World:
		return l.Say(words.WorldName)
	case n.Host:
		return l.Say(words.HostName)
	case n.Name != "":
		const most = 8
		names := append([]string{n.Name}, n.Joined[:min(most, len(n.Joined))]...)
		if more := len(n.Joined) - most; more > 0 {
			names = append(names, l.Count(words.MoreLines, more))
		}
		return Escape(strings.Join(names, ", "))
	case n.Here:
		return l.Say(words.HereName)
	}
	return ""
}

// title is the full name of n: "net namespace 4026532501 (web)".
func (n NetSpace) title(l Lang) string {
	if name := n.called(l); name != "" {
		return l.Say(words.KindNamed, "net", n.Inode, name)
	}
	return l.Say(words.Kind, "net", n.Inode)
}

// end names the other end of a device.
func (m *NetMap) end(d NetDevice, from int, l Lang) string {
	switch {
	case d.Peer == "" && d.Kind == "veth":
		return l.Say(words.EndUnseen)
	case d.Peer == "":
		return ""
	case d.In < 0 || d.In == from:
		return d.Peer
	}
	switch n := m.Spaces[d.In]; {
	case n.World:
		return l.Say(words.EndIn, d.Peer, n.called(l))
	case n.Host:
		return l.Say(words.EndOnHost, d.Peer)
	case n.Here && !n.Host && n.Name == "":
		return l.Say(words.EndHere, d.Peer)
	default:
		return l.Say(words.EndIn, d.Peer, n.label(l))
	}
}

// kinds is how wide the kinds of devices are, of those at a bridge or, with none, of those at no one's.
func (n NetSpace) kinds(bridge string) (width int) {
	for _, d := range n.Devices {
		if d.Master == bridge {
			width = max(width, Width(d.Kind))
		}
	}
	return width
}

// line is what a device is: its kind, in so many columns, its state, addresses and other end.
func (m *NetMap) line(d NetDevice, from, kinds int, l Lang) string {
	var parts []string
	if kinds > 0 || d.Kind != "" {
		parts = append(parts, pad(d.Kind, kinds))
	}
	if !d.Up {
		parts = append(parts, l.Say(words.Down))
	}
	const most = 8 // whoever may give addresses gives a device as many as they like
	parts = append(parts, d.Addrs[:min(most, len(d.Addrs))]...)
	if n := len(d.Addrs); n > most {
		parts = append(parts, l.Count(words.MoreLines, n-most))
	}
	if e := m.end(d, from, l); e != "" {
		parts = append(parts, "⇄ "+e)
	}
	return strings.TrimRight(strings.Join(parts, "  "), " ")
}

// Text renders the map: each namespace, its devices, those of a bridge below it.
func (m NetMap) Text(s Screen) string {
	var b strings.Builder
	l := s.Lang
	for i, n := range m.Spaces {
		t := Tree{Text: n.title(l), Role: Heading}
		if n.called(l) == "" {
			t.Note = shortened(n.Command, 80)
		}
		for _, d := range n.Devices {
			if d.Master != "" {
				continue
			}
			branch := Tree{Text: d.Name, Note: m.line(d, i, n.kinds(""), l), Aligned: true}
			for _, p := range n.Devices {
				if p.Master == d.Name {
					branch.Children = append(branch.Children, Tree{Text: p.Name, Note: m.line(p, i, n.kinds(d.Name), l)})
				}
			}
			t.Children = append(t.Children, branch)
		}
		if n.More {
			t.Children = append(t.Children, Tree{Text: l.Say(words.MoreDevices)})
		}
		for _, p := range n.publishedTogether() {
			t.Children = append(t.Children, Tree{Text: l.Say(words.PublishedAt, p)})
		}
		b.WriteString(t.Draw(s))
	}
	return b.String() + unreadable(m.Unreadable, s)
}

// Measures of the picture of networks.
const (
	netChip = 30 // height of a device
	netMore = 16 // of a second line with what does not fit the first
	netGap  = 10
	netHead = 44 // above the devices of a namespace
	netLine = 22 // of a published port
	netStep = 9  // between cables that would lie on each other
	netTurn = 6  // radius of a cable's bend
)

// A netBox is a namespace, laid out, with the middle of each device's edge.
type netBox struct {
	x, y, w, h int
	chipHeight int
	anchors    map[string][2]int // top of a device for the cables
}

// SVG draws the map: where the reader stands above with its bridges, the others below, a line for each
// cable between them.
func (m NetMap) SVG(l Lang) string {
	m = m.cablesTogether()
	boxes, high := m.layout(l)
	p := picture{lang: l}
	h := max(high, 60)
	p.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="-1 -1 %d %d" role="img" aria-labelledby="net-title" font-family="%s">`, pictureWidth+2, h+2, pictureWidth+2, h+2, sans)
	p.add(`<title id="net-title">%s</title>`, xmlText(l.Say(words.NetPicture)))
	for i, n := range m.Spaces {
		b, t := boxes[i], n.tint(i)
		p.add(`<rect x="%d" y="%d" width="%d" height="%d" rx="14" fill="%s" stroke="%s" stroke-width="1.5"/>`, b.x, b.y, b.w, b.h, t.fill, t.edge)
	}
	m.cables(&p, boxes)
	for i := range m.Spaces {
		p.space(m, boxes[i], i)
	}
	p.add(`</svg>`)
	return p.String()
}

// cablesTogether is the map with the ends of cables side by side: last in this machine's own namespace, which is above
// the others, and first in those.
func (m NetMap) cablesTogether() NetMap {
	m.Spaces = slices.Clone(m.Spaces)
	for i, n := range m.Spaces {
		below := n.Here
		n.Devices = slices.Clone(n.Devices)
		slices.SortStableFunc(n.Devices, func(a, z NetDevice) int {
			return b2i(a.Kind == "veth" == below) - b2i(z.Kind == "veth" == below)
		})
		m.Spaces[i] = n
	}
	return m
}

// layout gives each namespace its box, in rows of the same height, and tells the height of all.
func (m *NetMap) layout(l Lang) (boxes []netBox, y int) {
	width, column := pictureWidth, 332
	columns := max(1, (width+boxGap)/(column+boxGap))
	boxes = make([]netBox, len(m.Spaces))
	high := m.chipHeight(l, width, column)
	var row []int
	flush := func() {
		h := 0
		for _, i := range row {
			h = max(h, boxes[i].h)
		}
		for _, i := range row {
			boxes[i].h = h
		}
		if len(row) > 0 {
			y += h + 3*boxGap
		}
		row = row[:0]
	}
	for i, n := range m.Spaces {
		b := &boxes[i]
		b.chipHeight = high
		rows := len(n.Devices)
		if n.Here {
			b.w, b.y = width, y
			rows = (len(n.Devices) + 2) / 3
		} else {
			b.w, b.x, b.y = column, len(row)*(column+boxGap), y
			row = append(row, i)
		}
		b.h = netHead + n.published() + rows*(high+netGap) + boxPad/2
		if n.Here {
			y += b.h + 5*boxGap
		} else if len(row) == columns {
			flush()
		}
	}
	flush()
	for i := range boxes {
		m.place(&boxes[i], i)
	}
	return boxes, y
}

// tint is the colour of the box of the i-th namespace.
func (n *NetSpace) tint(i int) tint {
	if n.Here {
		return tintOf(0)
	}
	return tintOf(1 + i%4)
}

// space writes into the box of the i-th namespace: its name, devices and published ports.
func (p *picture) space(m NetMap, b netBox, i int) {
	n, t := m.Spaces[i], m.Spaces[i].tint(i)
	heading := NSNode{NSName: n.NSName, Type: "net"}.heading(p.lang)
	if name := n.called(p.lang); name != "" {
		heading = name
	}
	p.text(b.x+boxPad, b.y+28, 17, t.strong, `font-weight="650"`, fitBold(heading, b.w-2*boxPad, 17))
	for _, d := range n.Devices {
		p.device(m, b, t, d, i)
	}
	at := b.y + netHead + 20
	for _, s := range n.publishedTogether() {
		p.text(b.x+boxPad, at, 13, ink, "", fit(p.lang.Say(words.PublishedAt, Escape(s)), b.w-2*boxPad, 13))
		at += netLine
	}
}

// A cable is a line between two devices of the picture.
type cable struct {
	from, to       int // boxes
	x1, y1, x2, y2 int
	out            int // where it goes down beside the devices below its own, 0 when there are none
	lane           int // where it comes down beside its box, 0 when it comes from above
}

// path is the cable, which crosses the space between height bottom, of the box that it comes from, and height top, of the first row of the others.
func (c cable) path(bottom, top int) string {
	way := fmt.Sprintf("M%d %d", c.x1, c.y1)
	x, y := c.x1, c.y1
	if c.out != 0 {
		x, y = c.out, bottom
		way += fmt.Sprintf(" H%d Q%d %d %d %d V%d", x-netTurn/2, x, c.y1, x, c.y1+netTurn/2, y)
	}
	switch {
	case c.lane == 0 && y < top:
		return way + fmt.Sprintf(" C%d %d %d %d %d %d V%d", x, y+40, c.x2, top-40, c.x2, top, c.y2)
	case c.lane == 0:
		return way + fmt.Sprintf(" C%d %d %d %d %d %d", x, y+40, c.x2, c.y2-40, c.x2, c.y2)
	}
	return way + fmt.Sprintf(" C%d %d %d %d %d %d V%d Q%d %d %d %d H%d", x, y+40, c.lane, top-40, c.lane, top, c.y2-netTurn, c.lane, c.y2, c.lane-netTurn, c.y2, c.x2)
}

// cables draws them below the devices, so that none is struck through, and where there is nothing else: down the gap beside the devices that stand
// below, and beside the box of the other end, but from above to what is first in the first row of boxes.
func (m *NetMap) cables(p *picture, boxes []netBox) {
	for _, c := range m.laid(boxes) {
		from := boxes[c.from]
		p.add(`<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`, c.path(from.y+from.h, m.top(boxes)), tintOf(1+c.to%4).strong)
	}
}

// top is where the first row of boxes begins that the reader does not stand in.
func (m *NetMap) top(boxes []netBox) (top int) {
	for i, n := range m.Spaces {
		if !n.Here && (top == 0 || boxes[i].y < top) {
			top = boxes[i].y
		}
	}
	return top
}

// laid finds the ways of all cables.
func (m *NetMap) laid(boxes []netBox) (list []cable) {
	for i, n := range m.Spaces {
		for _, d := range n.Devices {
			if c, ok := m.cable(boxes, i, d); ok {
				list = append(list, c)
			}
		}
	}
	outs, lanes := map[int][]*cable{}, map[int][]*cable{} // by the edge that they go down beside
	for i := range list {
		c := &list[i]
		if c.out != 0 {
			outs[c.out] = append(outs[c.out], c)
		}
		if c.lane != 0 {
			lanes[c.lane] = append(lanes[c.lane], c)
		}
	}
	// What comes from further up goes down further right, and so does what ends further down: no bend crosses another.
	for edge, cables := range outs {
		slices.SortStableFunc(cables, func(a, b *cable) int { return b.y1 - a.y1 })
		for k, c := range cables {
			c.out = beside(edge, netGap, k, len(cables))
		}
	}
	for edge, cables := range lanes {
		slices.SortStableFunc(cables, func(a, b *cable) int { return a.y2 - b.y2 })
		for k, c := range cables {
			c.lane = beside(edge, boxGap, k, len(cables))
		}
	}
	return list
}

// beside is the place of the kth of n cables that share a gap beside an edge.
func beside(edge, gap, k, n int) int { return edge + 1 + (k+1)*(gap-1)/(n+1) }

// cable is the one that a device of a space is an end of, where that end is to draw it. Its out and lane are edges yet.
func (m *NetMap) cable(boxes []netBox, space int, d NetDevice) (c cable, ok bool) {
	if d.Kind != "veth" || d.In < 0 || d.In <= space {
		return c, false
	}
	from, ok1 := boxes[space].anchors[d.Name]
	to, ok2 := boxes[d.In].anchors[d.Peer]
	if !ok1 || !ok2 {
		return c, false
	}
	b, o, here := boxes[space], boxes[d.In], m.Spaces[space].Here
	// At the right ends, clear of names. Those of further rows are further left, so that none covers another.
	c = cable{from: space, to: d.In, x1: from[0] + b.chip(here)/2, y1: from[1], x2: to[0] + o.chip(false)/2, y2: to[1]}
	if here && b.row(from) < b.lastRow(from) {
		c.out, c.y1 = c.x1, c.y1+b.chipHeight/2
	} else {
		c.x1, c.y1 = c.x1-boxPad-b.row(from)*netStep, c.y1+b.chipHeight
	}
	if here && (o.y != m.top(boxes) || o.row(to) > 0) {
		c.lane, c.y2 = o.x+o.w, c.y2+o.chipHeight/2
	} else {
		c.x2 -= boxPad + o.row(to)*netStep
	}
	return c, true
}

// shortened is a text of at most n runes.
func shortened(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// published is the height of what is said of ports.
func (n *NetSpace) published() int {
	if len(n.Published) == 0 {
		return 0
	}
	return len(n.publishedTogether())*netLine + netGap
}

// publishedTogether has a line for each port of a container, with all addresses at which it is published: those of both families, mostly.
func (n *NetSpace) publishedTogether() (lines []string) {
	const leads = " → "
	at := map[string]int{} // by what they lead to
	for _, p := range n.Published {
		from, to, _ := strings.Cut(p, leads)
		if i, ok := at[to]; ok {
			before, _, _ := strings.Cut(lines[i], leads)
			lines[i] = before + ", " + from + leads + to
			continue
		}
		at[to] = len(lines)
		lines = append(lines, p)
	}
	return lines
}

// chip is the width of a device.
func (b *netBox) chip(here bool) int {
	if here {
		return (b.w - 2*boxPad - 2*netGap) / 3
	}
	return b.w - 2*boxPad
}

// row is in which of the box's rows the device with this anchor is.
func (b *netBox) row(anchor [2]int) int {
	first := anchor[1]
	for _, a := range b.anchors {
		first = min(first, a[1])
	}
	return (anchor[1] - first) / (b.chipHeight + netGap)
}

// lastRow is the last row in which a device stands in the column of this anchor.
func (b *netBox) lastRow(anchor [2]int) (row int) {
	for _, a := range b.anchors {
		if a[0] == anchor[0] {
			row = max(row, b.row(a))
		}
	}
	return row
}

// chipHeight is the height of devices: with a second line where one of them needs it.
func (m *NetMap) chipHeight(l Lang, width, column int) int {
	for _, n := range m.Spaces {
		b := netBox{w: column}
		if n.Here {
			b.w = width
		}
		for _, d := range n.Devices {
			if _, more := d.said(l, b.chip(n.Here)); more != "" {
				return netChip + netMore
			}
		}
	}
	return netChip
}

const chipEnd = 8 // free at a device's right end

// besideName is where the text behind a device's name begins.
func besideName(name string) int { return 20 + textWidth(name, 13)*bold/8 }

// said is what stands behind a device's name in the picture, and below it.
func (d NetDevice) said(l Lang, width int) (behind, below string) {
	parts := slices.Clone(d.Addrs)
	if d.Master != "" {
		parts = append(parts, l.Say(words.PortOf, d.Master))
	} else if d.Kind != "" {
		parts = append([]string{d.Kind}, parts...)
	}
	line := func(parts []string) string { return Escape(strings.Join(parts, " · ")) }
	room, n := max(0, width-besideName(d.Name)-chipEnd), len(parts)
	for n > 1 && textWidth(line(parts[:n]), 11) > room {
		n--
	}
	return fit(line(parts[:n]), room, 11), fit(line(parts[n:]), width-10-chipEnd, 11)
}

// place finds where the devices of a box are: of where the reader stands three in a row.
func (m *NetMap) place(b *netBox, i int) {
	b.anchors = map[string][2]int{}
	n := m.Spaces[i]
	per, w := 1, b.chip(n.Here)
	if n.Here {
		per = 3
	}
	for k, d := range n.Devices {
		x, y := b.x+boxPad+k%per*(w+netGap), b.y+netHead+n.published()+k/per*(b.chipHeight+netGap)
		b.anchors[d.Name] = [2]int{x + w/2, y}
	}
}

func (p *picture) device(m NetMap, b netBox, t tint, d NetDevice, i int) {
	at := b.anchors[d.Name]
	w := b.chip(m.Spaces[i].Here)
	dash := ""
	if !d.Up {
		dash = ` stroke-dasharray="4 4"`
	}
	p.add(`<rect x="%d" y="%d" width="%d" height="%d" rx="8" fill="#ffffff" stroke="%s"%s/>`, at[0]-w/2, at[1], w, b.chipHeight, t.edge, dash)
	p.text(at[0]-w/2+10, at[1]+20, 13, t.strong, `font-weight="650"`, Escape(d.Name))
	behind, below := d.said(p.lang, w)
	p.text(at[0]-w/2+besideName(d.Name), at[1]+20, 11, soft, "", behind)
	if below != "" {
		p.text(at[0]-w/2+10, at[1]+20+netMore, 11, soft, "", below)
	}
	p.add(`<desc>%s</desc>`, xmlText(fmt.Sprint(Escape(d.Name), " ", Escape(m.line(d, i, 0, p.lang)))))
}
