package ui

import (
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/golden"
)

func netMap() NetMap {
	many := slices.Repeat([]string{"127.0.0.9/8"}, 10)
	return NetMap{Spaces: List[NetSpace]{
		{NSName: NSName{Inode: 1, Host: true}, Here: true, Devices: List[NetDevice]{
			{Name: "lo", Up: true, Addrs: []string{"127.0.0.1/8"}, In: -1}, {Name: "kakuri0", Kind: "bridge", Up: true, Addrs: []string{"172.20.0.1/16"}, In: -1},
			{Name: "vk1", Kind: "veth", Up: true, Master: "kakuri0", Peer: "eth0", In: 1}, {Name: "x<0>", Kind: "dummy", In: -1},
		}, Published: []string{"0.0.0.0:8080 → web 80/tcp", "[::]:8080 → web 80/tcp", "0.0.0.0:53 → 172.20.0.2:53/udp"}},
		{NSName: NSName{Inode: 2, Name: "web"}, PID: 7, Command: "nginx", Devices: List[NetDevice]{{Name: "eth0", Kind: "veth", Up: true, Addrs: []string{"172.20.0.2/16"}, Peer: "vk1", In: 0}}},
		{NSName: NSName{Inode: 3}, PID: 8, Command: "sleep 9", Devices: List[NetDevice]{{Name: "lo", In: -1, Addrs: many}}, More: true},
	}}
}

func TestNetMap(t *testing.T) {
	golden.Check(t, "testdata/ns_net.txt", netMap().Text(Screen{}))
	for lang, name := range map[Lang]string{EN: "ns_net.svg", JA: "ns_net_ja.svg"} {
		svg := netMap().SVG(lang)
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		golden.Check(t, "testdata/"+name, svg)
	}
	if svg := (NetMap{}).SVG(EN); !strings.HasSuffix(svg, "</svg>\n") {
		t.Errorf("of nothing: %q", svg)
	}
}

// Addresses of both families are in the picture whole, of a bridge and of a container, and no cable lies on another.
func TestNetPictureWhole(t *testing.T) {
	const v4, v6 = "172.17.0.113/16", "fd24:20ee:26fd:1234::d/64"
	m := NetMap{Spaces: List[NetSpace]{{NSName: NSName{Inode: 1, Host: true}, Here: true, Devices: List[NetDevice]{
		{Name: "kakuri0", Kind: "bridge", Up: true, Addrs: []string{v4, v6}, In: -1}, {Name: "lo", Up: true, Addrs: []string{v4}, In: -1}}}}}
	for i := 1; i <= 9; i++ {
		host, name := fmt.Sprintf("vk%d", i), fmt.Sprintf("box%d", i)
		m.Spaces[0].Devices = append(m.Spaces[0].Devices, NetDevice{Name: host, Kind: "veth", Up: true, Master: "kakuri0", Peer: "eth0", In: i})
		m.Spaces = append(m.Spaces, NetSpace{NSName: NSName{Inode: uint64(1 + i), Name: name}, Devices: List[NetDevice]{
			{Name: "eth0", Kind: "veth", Up: true, Addrs: []string{v4, v6}, Peer: host}}})
	}
	svg := m.SVG(EN)
	if strings.Count(svg, ">"+v6+"</text>") != 10 || strings.Contains(svg, "…") {
		t.Errorf("something is cut:\n%s", svg)
	}
	ends := map[string]bool{}
	boxes, _ := m.layout(EN)
	for _, c := range m.laid(boxes) {
		for _, end := range []string{fmt.Sprint("from ", max(c.x1, c.out)), fmt.Sprint("down at ", max(c.x2, c.lane))} {
			if ends[end] {
				t.Errorf("two cables %s", end)
			}
			ends[end] = true
		}
	}
	if len(ends) != 18 {
		t.Errorf("%d ends of 9 cables", len(ends))
	}
}

// A name that is too long for its box ends inside it, bold as it is.
func TestNetPictureLongName(t *testing.T) {
	m := NetMap{Spaces: List[NetSpace]{{NSName: NSName{Inode: 2, Name: strings.Repeat("abcde-", 20)}}}}
	boxes, _ := m.layout(EN)
	name := regexp.MustCompile(`>([^<>]*…)</text>`).FindStringSubmatch(m.SVG(EN))
	if name == nil {
		t.Fatal("the name is not cut")
	}
	if w := textWidth(name[1], 17) * 9 / 8; w > boxes[0].w-2*boxPad {
		t.Errorf("%q: %d wide in a box of %d", name[1], w, boxes[0].w)
	}
}

// A cable goes down in gaps: drawn over another box, or another device, it would seem to end there.
func TestNetCablesPassNoBox(t *testing.T) {
	m := NetMap{Spaces: List[NetSpace]{{NSName: NSName{Inode: 1, Host: true}, Here: true}}}
	for i := 1; i <= 7; i++ {
		n := NetSpace{NSName: NSName{Inode: uint64(1 + i)}}
		for k := range 2 {
			host, name := fmt.Sprintf("vk%d%d", i, k), fmt.Sprintf("eth%d", k)
			m.Spaces[0].Devices = append(m.Spaces[0].Devices, NetDevice{Name: host, Kind: "veth", Peer: name, In: i})
			n.Devices = append(n.Devices, NetDevice{Name: name, Kind: "veth", Peer: host})
		}
		m.Spaces = append(m.Spaces, n)
	}
	boxes, _ := m.layout(EN)
	direct, below := 0, 0
	for _, c := range m.laid(boxes) {
		if c.out == 0 {
			below++
		}
		for _, a := range boxes[0].anchors {
			if half := boxes[0].chip(true) / 2; c.out >= a[0]-half && c.out <= a[0]+half {
				t.Errorf("%+v goes down over the device at %v", c, a)
			}
		}
		to := boxes[c.to]
		if c.lane == 0 {
			direct++
			continue
		}
		if c.x2 != to.x+to.w-boxPad || c.lane <= to.x+to.w || c.lane > to.x+to.w+boxGap {
			t.Errorf("%+v does not end at the right edge of a device in %+v", c, to)
		}
		for _, b := range boxes[1:] {
			if c.lane >= b.x && c.lane <= b.x+b.w {
				t.Errorf("%+v passes %+v", c, b)
			}
		}
	}
	if below != 3 {
		t.Errorf("%d cables begin below their devices, want those that have none below them", below)
	}
	if direct != 3 {
		t.Errorf("%d cables come from above, want those to the first devices of three boxes", direct)
	}
}

// What the reader's own namespace is called, and the ends of cables there; the machine's is the host once.
func TestNetMapWhere(t *testing.T) {
	dev := func(d NetDevice) List[NetDevice] { d.Kind, d.Up = "veth", true; return List[NetDevice]{d} }
	where := func(own NetSpace) string {
		own.Devices = dev(NetDevice{Name: "vk1", Peer: "eth0", In: 1})
		return NetMap{Spaces: List[NetSpace]{own, {NSName: NSName{Inode: 2, Name: "web"}, Devices: dev(NetDevice{Name: "eth0", Peer: "vk1"})},
			{NSName: NSName{Inode: 3}, Command: "init", Devices: dev(NetDevice{Name: "x", In: -1})}}}.Text(Screen{})
	}
	const rest = "└─ vk1  veth  ⇄ eth0 in web\nnet namespace 2 (web)\n└─ eth0  veth  ⇄ vk1 %s\nnet namespace 3  init\n└─ x  veth  ⇄ in a namespace that is not shown\n"
	for _, test := range []struct {
		own         NetSpace
		called, end string
	}{
		{NetSpace{NSName: NSName{Inode: 1, Host: true}, Here: true}, "host", "on the host"},
		{NetSpace{NSName: NSName{Inode: 1}, Here: true, Command: "sh"}, "here", "here"},
		{NetSpace{NSName: NSName{Inode: 1}, Here: true, World: true}, "your networks", "in your networks"},
		{NetSpace{NSName: NSName{Inode: 1, Name: "box"}, Here: true}, "box", "in box"},
		{NetSpace{NSName: NSName{Inode: 1, Name: "box"}, Joined: []string{"a", "b\x1b"}}, `box, a, b\x1b`, "in box"},
		{NetSpace{NSName: NSName{Inode: 1, Name: "box"}, Joined: strings.Fields("a b c d e f g h i j")}, "box, a, b, c, d, e, f, g, h, + 2 more", "in box"},
	} {
		if got, want := where(test.own), "net namespace 1 ("+test.called+")\n"+fmt.Sprintf(rest, test.end); got != want {
			t.Errorf("%s:\n%swant\n%s", test.called, got, want)
		}
	}
}
