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
	Here      bool            `json:"here,omitempty"`  // where the reader stands
	World     bool            `json:"world,omitempty"` // an ordinary user's networks, which stand for the machine's
	PID       int             `json:"pid"`             // of its first process
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
		return Escape(n.Name)
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
		parts = append(parts, pad(d.Kind, kinds, false))
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
		for _, p := range n.Published {
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
	p.text(b.x+boxPad, b.y+28, 17, t.strong, `font-weight="650"`, fit(heading, b.w-2*boxPad, 17))
	for _, d := range n.Devices {
		p.device(m, b, t, d, i)
	}
	at := b.y + netHead + 20
	for _, s := range n.Published {
		p.text(b.x+boxPad, at, 13, ink, "", fit(p.lang.Say(words.PublishedAt, Escape(s)), b.w-2*boxPad, 13))
		at += netLine
	}
}

// cables draws them below the devices, so that none is struck through.
func (m *NetMap) cables(p *picture, boxes []netBox) {
	below := map[int]int{} // rows of boxes above those at a height
	for i, b := range boxes {
		if _, known := below[b.y]; !known && !m.Spaces[i].Here {
			below[b.y] = len(below)
		}
	}
	for i, n := range m.Spaces {
		for _, d := range n.Devices {
			if d.Kind != "veth" || d.In < 0 || d.In <= i {
				continue
			}
			// At the right ends, clear of names.
			from, ok1 := boxes[i].anchors[d.Name]
			to, ok2 := boxes[d.In].anchors[d.Peer]
			if ok1 && ok2 {
				// Those of further rows are further left, so that none covers another.
				from[0] += boxes[i].chip(m.Spaces[i].Here)/2 - boxPad - boxes[i].row(from)*netStep
				to[0] += boxes[d.In].chip(m.Spaces[d.In].Here)/2 - boxPad - (boxes[d.In].row(to)+below[boxes[d.In].y])*netStep
				y1, y2 := from[1]+boxes[i].chipHeight, to[1]
				p.add(`<path d="M%d %d C%d %d %d %d %d %d" fill="none" stroke="%s" stroke-width="2"/>`, from[0], y1, from[0], y1+40, to[0], y2-40, to[0], y2, tintOf(1+d.In%4).strong)
			}
		}
	}
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
	return len(n.Published)*netLine + netGap
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
func besideName(name string) int { return 20 + textWidth(name, 13)*9/8 } // it is bold

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
