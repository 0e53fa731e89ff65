package ui

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/golden"
)

// aHost is a machine with three containers, one of them with a namespace within.
func aHost() NSForest {
	host := NSNode{NSName: NSName{Inode: 4026531836, Host: true}, Type: "pid"}
	host.Processes = append(host.Processes, NSProcess{Command: "systemd", PIDs: []int{1}})
	for pid := 2; pid < 90; pid++ {
		host.Processes = append(host.Processes, NSProcess{Command: fmt.Sprintf("[kworker/%d:0]", pid), PIDs: []int{pid}, Parent: 2, Kernel: true})
	}
	for i, c := range []string{"systemd-journald", "dbus-daemon", "sshd", "kakuri-runtime monitor web", "kakuri-runtime monitor db", "unshare --fork --pid bash", "cron", "agetty", "chronyd", "vim", "bash"} {
		host.Processes = append(host.Processes, NSProcess{Command: c, PIDs: []int{800 + 37*i}, Parent: 1})
	}
	host.Children = []NSNode{
		{
			NSName: NSName{Inode: 4026532501, Name: "web"}, Type: "pid", Owner: 4026532499,
			Processes: []NSProcess{
				{Command: "nginx: master process", PIDs: []int{341499, 1}, Parent: 911},
				{Command: "nginx: worker process", PIDs: []int{341502, 7}, Parent: 341499},
				{Command: "nginx: worker process", PIDs: []int{341503, 8}, Parent: 341499},
			},
			Children: []NSNode{{
				NSName: NSName{Inode: 4026532777}, Type: "pid", Owner: 4026532499,
				Processes: []NSProcess{
					{Command: "sh", PIDs: []int{341600, 21, 1}, Parent: 341499},
					{Command: "sleep 9 & <b>\"\x1b[31m", PIDs: []int{341601, 22, 2}, Parent: 341600},
				},
			}},
		},
		{
			NSName: NSName{Inode: 4026532611, Name: "db"}, Type: "pid", Owner: 4026532609,
			Processes: []NSProcess{{Command: "mariadbd --datadir=/var/lib/mysql --user=mysql", PIDs: []int{342011, 1}, Parent: 948}},
		},
		{
			NSName: NSName{Inode: 4026532700}, Type: "pid", Owner: 4026531837,
			Processes: []NSProcess{{Command: "bash", PIDs: []int{343000, 1}, Parent: 985}, {Command: "ps ax", PIDs: []int{343017, 12}, Parent: 343000}},
		},
		{NSName: NSName{Inode: 4026532701, Name: "箱"}, Type: "pid", Owner: 4026531837},
	}
	return NSForest{Roots: []NSNode{host}, Unreadable: 3}
}

// users is the same idea in user namespaces, with a map of every kind.
func users() NSForest {
	root, one := int64(0), int64(1000)
	return NSForest{Roots: []NSNode{{
		NSName: NSName{Inode: 4026531837, Host: true}, Type: "user", Creator: &root,
		UIDMap: []NSRange{{0, 0, 4294967295}}, Owns: strings.Fields("pid:1 mnt:2 net:3 uts:4 ipc:5 cgroup:6 time:7 mnt:8 net:9 net:10"),
		Processes: []NSProcess{{Command: "systemd", PIDs: []int{1}, UIDs: []int64{0}}, {Command: "bash", PIDs: []int{40}, UIDs: []int64{1000}}},
		Children: []NSNode{
			{
				NSName: NSName{Inode: 4026532499, Name: "web"}, Type: "user", Creator: &one,
				UIDMap:    []NSRange{{0, 1879048192, 65536}, {65536, 1000, 1}, {65537, NSUnmapped, 10}, {70000, 5, 1}},
				Owns:      []string{"pid:11"},
				Processes: []NSProcess{{Command: "nginx", PIDs: []int{341499, 1}, UIDs: []int64{1879048192, 0}}},
				Children: []NSNode{{
					NSName: NSName{Inode: 4026532555}, Type: "user", Creator: &one,
					Children: []NSNode{{
						NSName: NSName{Inode: 4026532600}, Type: "user", UIDMap: []NSRange{{0, 1879048197, 1}},
						Processes: []NSProcess{{Command: "sh", PIDs: []int{341600, 21}, UIDs: []int64{1879048197, 5, NSUnread, 0}}},
					}},
				}},
			},
			{
				NSName: NSName{Inode: 4026532620}, Type: "user", UIDMap: []NSRange{},
				Processes: []NSProcess{{Command: "no ids yet", PIDs: []int{50}, UIDs: []int64{1000, NSUnmapped}}, {Command: "none known", PIDs: []int{51}}},
			},
		},
	}}}
}

func TestNSTree(t *testing.T) {
	var b strings.Builder
	for _, s := range []Screen{{}, {Lang: JA}, {Columns: 80}, {Columns: 72, ASCII: true}} {
		b.WriteString(aHost().Text(Fold{Processes: 8}, s) + "\n" + users().Text(Fold{}, s) + "--\n")
	}
	b.WriteString(aHost().Text(Fold{Processes: 2, Namespaces: 2}, Screen{}))
	golden.Check(t, "testdata/ns_tree.txt", b.String())
}

func TestFoldKeeps(t *testing.T) {
	host := aHost().Roots[0]
	for _, c := range []struct {
		most int
		want string
		more int
	}{
		{0, "", 0}, {1000, "", 0}, {100, "", 0}, {99, "", 2}, {1, " ", 100}, {2, "1", 99}, {5, "1 911 948 985", 96}, {6, "1 800 911 948 985", 95},
	} {
		shown, more := host.folded(Fold{Processes: c.most})
		if more != c.more || len(shown)+more != len(host.Processes) {
			t.Errorf("fold %d: %d shown, %d more", c.most, len(shown), more)
		}
		got := ""
		for _, p := range shown {
			got += fmt.Sprintf(" %d", p.own())
		}
		if c.want != "" && strings.TrimSpace(got) != strings.TrimSpace(c.want) {
			t.Errorf("fold %d keeps%s, want %s", c.most, got, c.want)
		}
	}
	user := NSNode{Type: "user", Processes: []NSProcess{{PIDs: []int{900, 1}}, {PIDs: []int{70, 8}}}}
	if shown, _ := user.folded(Fold{}); shown[0].PIDs[0] != 70 {
		t.Errorf("in a user namespace %v comes first", shown[0].PIDs)
	}
	if host.Processes[0].Command != "systemd" || host.Processes[1].own() != 2 {
		t.Error("folding changed its input")
	}
}

func TestNSList(t *testing.T) {
	list := NSList{Unreadable: 1, Namespaces: []NSRow{
		{Inode: 4026531836, Type: "pid", Processes: 214, PID: 1, Owner: 4026531837, Command: "/sbin/init"},
		{Inode: 4026532501, Type: "pid", Processes: 2, PID: 341499, Owner: 4026532499, Parent: 4026531836, Command: "nginx: master process /usr/sbin/nginx -g daemon off;"},
		{Inode: 4026532008, Type: "net", Command: "mounted on /run/netns/x\ny"},
	}}
	var b strings.Builder
	for _, s := range []Screen{{}, {Columns: 80}, {Lang: JA}} {
		b.WriteString(list.Text(s) + "--\n")
	}
	b.WriteString(asJSON(t, list))
	golden.Check(t, "testdata/ns_ls.txt", b.String())
}

// TestJSONEmpty holds that a list without items is one, not null.
func TestJSONEmpty(t *testing.T) {
	for _, v := range []any{NSList{}, NSForest{}, NSForest{Roots: []NSNode{{}}}, NSView{Processes: []NSProcess{{}}}, NSComparison{}} {
		if got := asJSON(t, v); strings.Contains(got, "null") || !strings.Contains(got, "[]") {
			t.Errorf("%T: %s", v, got)
		}
	}
	if got := asJSON(t, NSView{Processes: []NSProcess{{Command: "a<b>\x1b"}}}); !strings.Contains(got, `"a<b>\u001b"`) {
		t.Errorf("names: %s", got)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	var b strings.Builder
	if err := JSON(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestNSView(t *testing.T) {
	host, web := NSName{Inode: 4026531836, Host: true}, NSName{Inode: 4026532501, Name: "web"}
	two := []NSProcess{{Command: "nginx: master", PIDs: []int{341499, 1}}, {Command: "nginx: worker", PIDs: []int{341502, 7}}}
	three := append(two[:2:2], NSProcess{Command: "sh", PIDs: []int{341600, 21, 1}})
	var b strings.Builder
	for _, v := range []NSView{
		{Levels: []NSName{host, web}, Processes: two, Total: 214},
		{Levels: []NSName{host, web}, Processes: three, Total: 214},
		{Levels: []NSName{host, web, {Inode: 4026532601}}, Processes: three[2:], Total: 214},
		{Levels: []NSName{host, web}, Total: 214},
		{Levels: []NSName{host}, Processes: three, Total: 3},
		{Levels: []NSName{host}, Processes: []NSProcess{{Command: "init", PIDs: []int{1}}}, Total: 1},
		{Levels: []NSName{{Inode: 5}, {Inode: 6}}, Processes: two, Total: 9},
	} {
		b.WriteString(v.Text(Screen{}) + "--\n" + v.Text(Screen{Lang: JA}) + "--\n")
	}
	b.WriteString(asJSON(t, NSView{Levels: []NSName{host, web}, Processes: two, Total: 214}))
	golden.Check(t, "testdata/ns_ps.txt", b.String())

	// The design's own sketch, word for word.
	text := NSView{Levels: []NSName{host, web}, Processes: two, Total: 214}.Text(Screen{})
	for _, want := range []string{"here (host)   inside web", "the host sees both; web sees 2 of the host's 214 processes"} {
		if !strings.Contains(strings.ReplaceAll(text, "  ", " "), strings.ReplaceAll(want, "   ", " ")) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestNSComparison(t *testing.T) {
	c := NSComparison{A: "1 (systemd)", B: "341499 (ngi\x1bnx)", Pairs: []NSPair{
		{"pid", 4026531836, 4026532501, NSDifferent}, {"uts", 4026531838, 4026531838, NSShared}, {"net", 4026531840, 0, NSUnknown},
	}}
	none := NSComparison{A: "a", B: "b", Pairs: c.Pairs[:1]}
	for _, closing := range []struct {
		pairs []NSPair
		want  string
	}{
		{c.Pairs, "a and b share 1 of 2 namespaces: uts; 1 more cannot be compared"},
		{c.Pairs[2:], "no namespace of a and b can be compared"},
		{[]NSPair{c.Pairs[0], c.Pairs[2]}, "a and b share none of 1 namespaces; 1 more cannot be compared"},
	} {
		text := NSComparison{A: "a", B: "b", Pairs: closing.pairs}.Text(Screen{})
		if !strings.HasSuffix(text, "\n"+closing.want+"\n") {
			t.Errorf("want %q at the end of\n%s", closing.want, text)
		}
	}
	var b strings.Builder
	for _, s := range []Screen{{}, {Lang: JA}, {Color: true}} {
		b.WriteString(strings.ReplaceAll(c.Text(s)+"--\n"+none.Text(s), "\x1b", "ESC") + "--\n")
	}
	b.WriteString(asJSON(t, c))
	golden.Check(t, "testdata/ns_diff.txt", b.String())
}

func TestSVG(t *testing.T) {
	for _, c := range []struct {
		name string
		f    NSForest
		fold Fold
		l    Lang
	}{
		{"pid", aHost(), Fold{12, 12}, EN},
		{"pid_ja", aHost(), Fold{6, 3}, JA},
		{"user", users(), Fold{12, 12}, EN},
		{"one", NSForest{Roots: []NSNode{{NSName: NSName{Inode: 7, Host: true}, Type: "pid", Processes: []NSProcess{{Command: "init", PIDs: []int{1}}}}}}, Fold{}, EN},
		{"none", NSForest{}, Fold{}, EN},
	} {
		svg := c.f.SVG(c.fold, c.l)
		golden.Check(t, "testdata/ns_"+c.name+".svg", svg)
		if err := wellFormed(svg); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if again := c.f.SVG(c.fold, c.l); again != svg {
			t.Errorf("%s: differs from itself", c.name)
		}
		if strings.ContainsAny(svg, "\x1b\x00") {
			t.Errorf("%s has control characters", c.name)
		}
	}
}

func wellFormed(s string) error {
	d := xml.NewDecoder(strings.NewReader(s))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// TestSVGLayout draws forests at random and checks that boxes are where they belong:
// inside the one around them, none over another, and no number cut where a column is free.
func TestSVGLayout(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		left := 1 + r.IntN(200)
		root := randomNode(r, 0, &left, nil)
		fold := Fold{Processes: r.IntN(20), Namespaces: r.IntN(8)}
		l := Lang(r.IntN(2))
		b := newBox(root, fold, l, nil, "")
		b.place(0, 0, max(pictureWidth, boxLeast+2*boxPad*(depth(root)-1)), l)
		checkBox(t, seed, b)
		forest := NSForest{Roots: []NSNode{root}}
		if err := wellFormed(forest.SVG(fold, EN)); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func randomNode(r *rand.Rand, level int, left *int, pids []int) NSNode {
	n := NSNode{NSName: NSName{Inode: uint64(4026531836 + r.IntN(1000)), Host: level == 0}, Type: "pid", Owner: uint64(r.IntN(2))}
	if r.IntN(2) == 0 {
		n.Name = strings.Repeat("名x", r.IntN(30))
	}
	for range min(*left, r.IntN(40)) {
		*left--
		n.Processes = append(n.Processes, NSProcess{Command: strings.Repeat("w", r.IntN(60)), PIDs: append(pids[:len(pids):len(pids)], 1+r.IntN(4194304)), Kernel: r.IntN(3) == 0})
	}
	for range r.IntN(5) {
		if level < 12 && *left > 0 {
			n.Children = append(n.Children, randomNode(r, level+1, left, append(pids[:len(pids):len(pids)], 1+r.IntN(99999))))
		}
	}
	return n
}

func checkBox(t *testing.T, seed uint64, b *box) {
	t.Helper()
	if b.note != "" {
		return
	}
	bottom := b.y + boxPad
	for i := range b.chips() {
		x, y := b.chipAt(i)
		if x < b.x+boxPad || x+b.chipW > b.x+b.w-boxPad || y < b.y+boxPad+nameHeight || y+b.chipH > b.y+b.h-boxPad {
			t.Errorf("seed %d: chip %d at %d,%d, %d wide, leaves its box %+v", seed, i, x, y, b.chipW, [4]int{b.x, b.y, b.w, b.h})
		}
		bottom = max(bottom, y+b.chipH)
	}
	if b.chipW < b.pill+chipText {
		t.Errorf("seed %d: a chip of %d has no room beside its number of %d", seed, b.chipW, b.pill)
	}
	for i, c := range b.children {
		if c.x < b.x+boxPad || c.x+c.w > b.x+b.w-boxPad || c.y < bottom || c.y+c.h > b.y+b.h-boxPad {
			t.Errorf("seed %d: a box leaves the one around it", seed)
		}
		if c.w < boxLeast-2*boxPad {
			t.Errorf("seed %d: a box is %d wide", seed, c.w)
		}
		for _, o := range b.children[:i] {
			if c.x < o.x+o.w && o.x < c.x+c.w && c.y < o.y+o.h && o.y < c.y+c.h {
				t.Errorf("seed %d: one box over another", seed)
			}
		}
		checkBox(t, seed, c)
	}
}

func FuzzNSText(f *testing.F) {
	f.Add("nginx", "web", 7)
	f.Add("\x1b[2J\n<svg>&\"", "\u202e]]>", 0)
	f.Fuzz(func(t *testing.T, command, name string, pid int) {
		forest := NSForest{Roots: []NSNode{{
			NSName: NSName{Inode: 1, Name: name}, Type: "pid", Processes: []NSProcess{{Command: command, PIDs: []int{pid}}},
			Children: []NSNode{{NSName: NSName{Name: name}, Type: "pid", Processes: []NSProcess{{Command: command, PIDs: []int{1, 2}, Parent: pid}}}},
		}}}
		if text := forest.Text(Fold{}, Screen{}); strings.Count(text, "\n") != 4 || strings.Contains(text, "\x1b") {
			t.Errorf("%q", text)
		}
		if err := wellFormed(forest.SVG(Fold{}, EN)); err != nil {
			t.Error(err)
		}
	})
}

// Where there is little room, a command is told by the name of its program, not by the directory that this is in.
func TestProgram(t *testing.T) {
	for command, want := range map[string]string{
		"/opt/kakuri/bin/kakuri-runtime monitor-rest": "kakuri-runtime monitor-rest", "/bin/sh": "sh", "sh -c /bin/true": "sh -c /bin/true", "[kworker/0:1]": "[kworker/0:1]", "": "",
	} {
		if got := (NSProcess{Command: command}).program(); got != want {
			t.Errorf("%q: got %q, want %q", command, got, want)
		}
	}
}
