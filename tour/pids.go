package tour

import (
	"fmt"
	"slices"

	"github.com/kakuri/kakuri/ui"
)

// E1 is a shell that asked for no isolation. Its inside is that of the shell.
type E1 struct {
	Host struct {
		Init string `json:"pidNamespaceOfPID1,omitempty"` // empty: the caller may not read it
		Self string `json:"pidNamespaceOfThisCommand"`
	}
	Inside struct {
		PID          int    `json:"pid"`
		PIDNamespace string `json:"pidNamespace"`
		PIDs         []int  `json:"pids"` // NSpid of its status
	}
}

var e1 = struct{ Title, Shows, Shell, Refused, OneNumber, Same, Inherits, NoneBetween ui.Text }{
	Title: ui.Text{
		EN: "Every process is in a pid namespace: ordinarily, in the host's",
		JA: "どのプロセスも pid 名前空間に属する。普通はホストの名前空間に",
	},
	Shows: ui.Text{
		EN: "a namespace decides what a process sees of one kind of thing, here of processes. A process that asks for nothing gets its parent's.",
		JA: "名前空間は、ある種類のもの (ここではプロセス) がどう見えるかを決めます。何も指定しなければ、子は親と同じ名前空間に入ります。",
	},
	Shell:       ui.Text{EN: "an ordinary shell", JA: "普通のシェル"},
	Refused:     ui.Text{EN: "(this user may not read it)", JA: "(このユーザーには読めない)"},
	OneNumber:   ui.Text{EN: "one number: no namespace in between", JA: "番号は一つ。入れ子にはなっていない"},
	Same:        ui.Text{EN: "the shell and pid 1 are in the same namespace", JA: "シェルと pid 1 は同じ名前空間にいる"},
	Inherits:    ui.Text{EN: "the shell is in the namespace of its parent, this command", JA: "シェルは、親であるこのコマンドと同じ名前空間にいる"},
	NoneBetween: ui.Text{EN: "the shell has a single number, so it is in the host's namespace", JA: "シェルの番号は一つだけ。つまりホストの名前空間にいる"},
}

// Sides implements [Reading].
func (r *E1) Sides() (host, inside any) { return r.Host, r.Inside }

func (r *E1) claims() []claim {
	shell := r.Inside.PIDNamespace
	inherits := must(shell != "" && shell == r.Host.Self, unequal(shell, r.Host.Self), e1.Inherits)
	if r.Host.Init == "" {
		return []claim{must(len(r.Inside.PIDs) == 1, r.Inside.PIDs, e1.NoneBetween), inherits}
	}
	return []claim{must(shell == r.Host.Init, unequal(shell, r.Host.Init), e1.Same), inherits}
}

func (r *E1) panes(l ui.Lang) (ui.Pane, ui.Pane) {
	host, shell := &view{l: l}, &view{l: l}
	if r.Host.Init != "" {
		host.ran("readlink /proc/1/ns/pid", r.Host.Init)
	} else {
		host.ran("readlink /proc/1/ns/pid").say(e1.Refused)
		host.ran(fmt.Sprintf("grep NSpid /proc/%d/status", r.Inside.PID), "NSpid: "+numbers(r.Inside.PIDs)).say(e1.OneNumber)
	}
	shell.ran("readlink /proc/self/ns/pid", r.Inside.PIDNamespace)
	a, b := two(l, host, shell)
	b.Title = l.Say(e1.Shell)
	return a, b
}

// E2 is the first process of a new pid namespace.
type E2 struct {
	Host struct {
		PID int `json:"pid"`
	}
	Inside struct {
		PID int `json:"pid"`
	}
}

var e2 = struct{ Title, Shows, First ui.Text }{
	Title: ui.Text{
		EN: "In a new pid namespace, the first process is number 1",
		JA: "新しい pid 名前空間では、最初のプロセスが 1 番になる",
	},
	Shows: ui.Text{
		EN: "a new namespace counts its processes from 1 on, like a machine that has just started. (In the command, host is an image, a view of this machine's own system, and --rm removes the container at its end.)",
		JA: "新しい名前空間は、起動したばかりのマシンのように 1 から番号を振ります。(コマンドの host はイメージの名前で、このマシン自身のシステムを映したもの、--rm は終わったコンテナを消す指定です。)",
	},
	First: ui.Text{EN: "the shell is process 1 inside", JA: "内側では、シェルのプロセスID は 1"},
}

// Sides implements [Reading].
func (r *E2) Sides() (host, inside any) { return r.Host, r.Inside }

func (r *E2) claims() []claim {
	return []claim{must(r.Inside.PID == 1, r.Inside.PID, e2.First)}
}

func (r *E2) panes(l ui.Lang) (ui.Pane, ui.Pane) {
	host := (&view{l: l}).say(common.SeenFromHere).value(fmt.Sprintf("pid %d", r.Host.PID))
	return two(l, host, (&view{l: l}).ran("echo $$", fmt.Sprint(r.Inside.PID)))
}

// E3 is the pid namespace of this command and that of a container.
type E3 struct {
	Host, Inside struct {
		PIDNamespace string `json:"pidNamespace"`
	}
}

var e3 = struct{ Title, Shows, Another ui.Text }{
	Title: ui.Text{
		EN: "Its namespace is not that of the host",
		JA: "その名前空間は、ホストのものとは別物",
	},
	Shows: ui.Text{
		EN: "the number in brackets is the kernel's name for a namespace: the same number means the same namespace, another one means isolation.",
		JA: "角括弧の中は、カーネルが名前空間につけた番号です。番号が同じなら同じ名前空間、違えば隔離された別の名前空間です。",
	},
	Another: ui.Text{EN: "two namespaces, not one", JA: "名前空間は一つではなく、二つある"},
}

// Sides implements [Reading].
func (r *E3) Sides() (host, inside any) { return r.Host, r.Inside }

func (r *E3) claims() []claim {
	a, b := r.Host.PIDNamespace, r.Inside.PIDNamespace
	return []claim{must(a != "" && b != "" && a != b, fmt.Sprintf("%s = %s", a, b), e3.Another)}
}

func (r *E3) panes(l ui.Lang) (ui.Pane, ui.Pane) {
	const command = "readlink /proc/self/ns/pid"
	return two(l, (&view{l: l}).ran(command, r.Host.PIDNamespace), (&view{l: l}).ran(command, r.Inside.PIDNamespace))
}

// E4 is what /proc lists on both sides.
type E4 struct {
	Host struct {
		Processes int   `json:"processes"`
		Members   []int `json:"pidsOfTheContainer"` // their numbers inside, as the host reads them
	}
	Inside struct {
		Processes []Proc `json:"processes"`
	}
}

var e4 = struct{ Title, Shows, All, Listed, OwnOnly, Fewer ui.Text }{
	Title: ui.Text{
		EN: "With its own /proc, a container sees only its own processes",
		JA: "専用の /proc があれば、見えるのは自分のプロセスだけ",
	},
	Shows: ui.Text{
		EN: "ps and top read /proc. What is not there can be neither listed nor named, and so not signalled either.",
		JA: "ps や top は /proc を読みます。そこにないプロセスは、一覧に出ないだけでなく、番号で指すことも、シグナルを送ることもできません。",
	},
	All:     ui.Text{EN: "processes in /proc:", JA: "/proc にあるプロセスの数:"},
	Listed:  ui.Text{EN: "processes in /proc, all of them:", JA: "/proc にあるプロセス (これで全部):"},
	OwnOnly: ui.Text{EN: "inside, /proc lists the container's own processes and no other", JA: "内側の /proc に並ぶのは、コンテナ自身のプロセスだけ"},
	Fewer:   ui.Text{EN: "the host has more of them: %d against %d", JA: "ホストのプロセスのほうが多い: %d 対 %d"},
}

// Sides implements [Reading].
func (r *E4) Sides() (host, inside any) { return r.Host, r.Inside }

func (r *E4) claims() []claim {
	inside := pids(r.Inside.Processes)
	return []claim{
		must(len(inside) > 0 && slices.Equal(inside, r.Host.Members), unequal(inside, r.Host.Members), e4.OwnOnly),
		must(r.Host.Processes > len(inside), fmt.Sprintf("%d <= %d", r.Host.Processes, len(inside)), e4.Fewer, r.Host.Processes, len(inside)),
	}
}

func (r *E4) panes(l ui.Lang) (ui.Pane, ui.Pane) {
	host := (&view{l: l}).say(e4.All).value(fmt.Sprint(r.Host.Processes))
	return two(l, host, (&view{l: l}).say(e4.Listed).value(processes(r.Inside.Processes)...))
}

// E5 is the processes of a container with both of their numbers.
type E5 struct {
	Host struct {
		Monitor   string    `json:"nameOfTheParent"`
		Parent    int       `json:"parentOfTheFirst"`
		Processes []Leveled `json:"processes"` // NSpid of their status
	}
	Inside struct {
		Processes []Proc `json:"processes"`
	}
}

var e5 = struct{ Title, Shows, Parent, NotFirst, SameOnes, Child ui.Text }{
	Title: ui.Text{
		EN: "The host sees the same processes, under other numbers",
		JA: "ホストからも同じプロセスが見える。ただし番号は違う",
	},
	Shows: ui.Text{
		EN: "it is one process, not two: it has a number in each namespace that sees it. NSpid lists these numbers, from the outside in.",
		JA: "プロセスが二つあるのではありません。一つのプロセスが、それが見える名前空間ごとに別の番号を持つのです。NSpid には外側から順に並びます。",
	},
	Parent:   ui.Text{EN: "child of %d, its monitor", JA: "親は %d (モニター)"},
	NotFirst: ui.Text{EN: "on the host, the shell is not process 1", JA: "ホストでは、シェルのプロセスID は 1 ではない"},
	SameOnes: ui.Text{EN: "the host knows the numbers inside, too", JA: "ホストは内側での番号も知っている"},
	Child:    ui.Text{EN: "for the host, the shell is a child of the container's monitor", JA: "ホストから見ると、シェルはコンテナのモニターの子"},
}

// monitorName is the program that is the parent of a container's first process.
const monitorName = "kakuri-runtime"

// Sides implements [Reading].
func (r *E5) Sides() (host, inside any) { return r.Host, r.Inside }

func (r *E5) claims() []claim {
	outer, inner, inside := level(r.Host.Processes, 0), level(r.Host.Processes, 1), pids(r.Inside.Processes)
	return []claim{
		must(len(outer) > 0 && outer[0] > 1, outer, e5.NotFirst),
		must(r.Host.Monitor == monitorName, unequal(r.Host.Monitor, monitorName), e5.Child),
		must(len(inside) > 0 && slices.Equal(inner, inside), unequal(inner, inside), e5.SameOnes),
	}
}

func (r *E5) panes(l ui.Lang) (ui.Pane, ui.Pane) {
	host, inside := &view{l: l}, &view{l: l}
	for _, p := range r.Host.Processes {
		host.ran(fmt.Sprintf("grep NSpid /proc/%d/status", first(p.PIDs)), "NSpid: "+numbers(p.PIDs))
	}
	host.say(e5.Parent, r.Host.Parent)
	inside.say(e4.Listed).value(processes(r.Inside.Processes)...)
	return two(l, host, inside)
}

func first(list []int) int {
	if len(list) == 0 {
		return 0
	}
	return list[0]
}

// E6 is one namespace, read on both sides.
type E6 struct {
	Host struct {
		PID          int    `json:"pid"`
		PIDNamespace string `json:"pidNamespace"`
	}
	Inside struct {
		PIDNamespace string `json:"pidNamespace"`
	}
}

var e6 = struct{ Title, Shows, One ui.Text }{
	Title: ui.Text{
		EN: "Both sides mean one and the same namespace",
		JA: "どちら側から見ても、同じ一つの名前空間",
	},
	Shows: ui.Text{
		EN: "isolation hides the host from the container, not the container from the host: any tool of the host can look in by way of /proc/PID.",
		JA: "隔離は、コンテナからホストを隠すもので、ホストからコンテナを隠すものではありません。ホストのツールは /proc/PID を通して中を覗けます。",
	},
	One: ui.Text{EN: "both read the same number", JA: "読める番号はどちらも同じ"},
}

// Sides implements [Reading].
func (r *E6) Sides() (host, inside any) { return r.Host, r.Inside }

func (r *E6) claims() []claim {
	a, b := r.Host.PIDNamespace, r.Inside.PIDNamespace
	return []claim{must(a != "" && a == b, unequal(a, b), e6.One)}
}

func (r *E6) panes(l ui.Lang) (ui.Pane, ui.Pane) {
	host := (&view{l: l}).ran(fmt.Sprintf("readlink /proc/%d/ns/pid", r.Host.PID), r.Host.PIDNamespace)
	return two(l, host, (&view{l: l}).ran("readlink /proc/self/ns/pid", r.Inside.PIDNamespace))
}
