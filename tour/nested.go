package tour

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/kakuri/kakuri/ui"
)

// E7 is a container with a pid namespace inside it, seen from all three levels.
type E7 struct {
	Host struct {
		Processes int       `json:"processes"`
		Self      int       `json:"pidOfThisCommand"`
		Nested    []Leveled `json:"nested"` // those with a number below the host's
	}
	Inside struct {
		Container []int `json:"pidsInContainer"` // what its /proc lists
		Innermost []int `json:"pidsInnermost"`
	}
}

var e7 = struct {
	Title, Shows, Sees, SeesAllThree, InContainer, InInnermost ui.Text
	Process, Host, Container, Innermost, This, Unseen          ui.Text
	Three, OwnAndBelow, OwnOnly                                ui.Text
}{
	Title: ui.Text{
		EN: "Seeing goes one way only: from outside in",
		JA: "見えるのは一方向だけ。外から内は見えるが、内から外は見えない",
	},
	Shows: ui.Text{
		EN: "a namespace sees its own processes and those of all namespaces below it, and nothing above. Containers nest: the kernel allows 32 levels.",
		JA: "名前空間から見えるのは、自分のプロセスと、それより内側の名前空間のプロセスだけです。外側は見えません。コンテナは入れ子にでき、カーネルは 32 段まで許します。",
	},
	Sees:         ui.Text{EN: "the host sees all %d processes,", JA: "ホストには全 %d プロセスが見える。"},
	SeesAllThree: ui.Text{EN: "those in the table among them", JA: "下の表のプロセスもその一部"},
	InContainer:  ui.Text{EN: "pids that the container sees:", JA: "コンテナから見えるプロセスID:"},
	InInnermost:  ui.Text{EN: "pids seen in the one inside it:", JA: "その中のコンテナから見えるもの:"},
	Process:      ui.Text{EN: "process", JA: "プロセス"},
	Host:         ui.Text{EN: "host", JA: "ホスト"},
	Container:    ui.Text{EN: "container", JA: "コンテナ"},
	Innermost:    ui.Text{EN: "one inside it", JA: "その中のコンテナ"},
	This:         ui.Text{EN: "kakuri tour (this command)", JA: "kakuri tour (このコマンド)"},
	Unseen:       ui.Text{EN: "unseen", JA: "見えない"},
	Three:        ui.Text{EN: "the host has a number for the processes of every level", JA: "ホストには、どの段のプロセスにも番号がある"},
	OwnAndBelow:  ui.Text{EN: "the container sees its own processes and the one below, no other", JA: "コンテナから見えるのは、自分とその内側のプロセスだけ"},
	OwnOnly:      ui.Text{EN: "the one inside it sees its own process alone", JA: "その中のコンテナから見えるのは、自分のプロセスだけ"},
}

// Sides implements [Reading].
func (r *E7) Sides() (host, inside any) { return r.Host, r.Inside }

func (r *E7) claims() []claim {
	container, innermost := level(r.Host.Nested, 1), level(r.Host.Nested, 2)
	return []claim{
		must(len(container) > len(innermost) && len(innermost) > 0 && !slices.Contains(level(r.Host.Nested, 0), r.Host.Self),
			fmt.Sprint(r.Host.Nested), e7.Three),
		must(sameSet(r.Inside.Container, container), unequal(r.Inside.Container, container), e7.OwnAndBelow),
		must(sameSet(r.Inside.Innermost, innermost), unequal(r.Inside.Innermost, innermost), e7.OwnOnly),
	}
}

func sameSet(a, b []int) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return len(a) > 0 && slices.Equal(a, b)
}

func (r *E7) panes(l ui.Lang) (ui.Pane, ui.Pane) {
	host := (&view{l: l}).say(e7.Sees, r.Host.Processes).say(e7.SeesAllThree)
	inside := (&view{l: l}).say(e7.InContainer).value(numbers(r.Inside.Container))
	return two(l, host, inside.say(e7.InInnermost).value(numbers(r.Inside.Innermost)))
}

// block is a table of the same processes at all levels.
func (r *E7) block(s ui.Screen) string {
	l := s.Lang
	t := ui.Table{Columns: []ui.Column{
		{Title: l.Say(e7.Process), Least: 12}, {Title: l.Say(e7.Host), Right: true},
		{Title: l.Say(e7.Container), Right: true}, {Title: l.Say(e7.Innermost), Right: true},
	}}
	t.Paint = func(row, column int) ui.Role {
		switch {
		case column == 0:
			return ui.Plain
		case t.Rows[row][column] == l.Say(e7.Unseen):
			return ui.Dim
		}
		return ui.Accent
	}
	for _, p := range append([]Leveled{{[]int{r.Host.Self}, l.Say(e7.This)}}, r.Host.Nested...) {
		row := []string{p.Command}
		for i := range 3 {
			cell := l.Say(e7.Unseen)
			if i < len(p.PIDs) {
				cell = strconv.Itoa(p.PIDs[i])
			}
			row = append(row, cell)
		}
		t.Rows = append(t.Rows, row)
	}
	return t.Text(s)
}

// E15 is the same three levels as a tree.
type E15 struct {
	Host struct {
		Tree ui.NSForest `json:"tree"`
	}
	Inside struct {
		Processes []int `json:"pidsInnermost"`
	}
}

var e15 = struct{ Title, Shows, Levels, EachLevel, Agrees ui.Text }{
	Title: ui.Text{
		EN: "The picture: nested namespaces, and each process's number in each",
		JA: "全体像: 入れ子の名前空間と、それぞれでのプロセスの番号",
	},
	Shows: ui.Text{
		EN: "each line is one process with all of its numbers. The command above writes the same as a picture, for a browser.",
		JA: "一行が一つのプロセスで、各段での番号がすべて並んでいます。上のコマンドを使うと、同じものを図 (SVG) にしてブラウザーで見られます。",
	},
	Levels:    ui.Text{EN: "three pid namespaces, one in the other", JA: "三つの pid 名前空間が入れ子になっている"},
	EachLevel: ui.Text{EN: "each process has as many numbers as there are levels above it", JA: "どのプロセスも、その深さと同じ数だけ番号を持つ"},
	Agrees:    ui.Text{EN: "the innermost level sees just what the tree has there", JA: "いちばん内側から見えるものは、ツリーのその段と一致する"},
}

// Sides implements [Reading].
func (r *E15) Sides() (host, inside any) { return r.Host, r.Inside }

// chain follows the first namespace of each level.
func (r *E15) chain() []ui.NSNode {
	var list []ui.NSNode
	for nodes := []ui.NSNode(r.Host.Tree.Roots); len(nodes) > 0; nodes = nodes[0].Children {
		list = append(list, nodes[0])
	}
	return list
}

func (r *E15) claims() []claim {
	chain := r.chain()
	even, last := len(chain) > 0, []int(nil)
	for depth, n := range chain {
		for _, p := range n.Processes {
			even = even && len(p.PIDs) == depth+1
		}
		if depth == len(chain)-1 {
			for _, p := range n.Processes {
				last = append(last, p.PIDs[len(p.PIDs)-1])
			}
		}
	}
	return []claim{
		must(len(chain) == 3, len(chain), e15.Levels),
		must(even, even, e15.EachLevel),
		must(sameSet(last, r.Inside.Processes), unequal(r.Inside.Processes, last), e15.Agrees),
	}
}

func (r *E15) panes(ui.Lang) (host, inside ui.Pane) { return ui.Pane{}, ui.Pane{} }

// treeFold is how many of the host's processes the tree of E15 shows.
func treeFold() ui.Fold { return ui.Fold{Processes: 3, Namespaces: 3} }

// The text is without names for the namespaces: their numbers are what E3 was about.
func (r *E15) block(s ui.Screen) string { return r.Host.Tree.Text(treeFold(), s) }

// Picture is the tree as SVG.
func (r *E15) Picture(l ui.Lang) string { return r.named(l).SVG(treeFold(), l) }

// named gives the namespaces below the host's the names that people have for them.
func (r *E15) named(l ui.Lang) ui.NSForest {
	var name func(list []ui.NSNode, texts ...ui.Text) []ui.NSNode
	name = func(list []ui.NSNode, texts ...ui.Text) []ui.NSNode {
		list = slices.Clone(list)
		for i := range list {
			if len(texts) > 0 {
				list[i].Name = l.Say(texts[0])
				list[i].Children = name(list[i].Children, texts[1:]...)
			}
		}
		return list
	}
	return ui.NSForest{Roots: name(r.Host.Tree.Roots, e7.Host, e7.Container, e7.Innermost)}
}
