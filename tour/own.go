package tour

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/ui"
)

// E8 is the user of a container's process on both sides.
type E8 struct {
	Host struct {
		Caller uint32    `json:"uidOfThisCommand"`
		PID    int       `json:"pid"`
		UID    uint32    `json:"uid"`
		UIDMap []IDRange `json:"uidMap"`
	}
	Inside struct {
		UID int `json:"uid"`
	}
}

// An IDRange is one line of an id map.
type IDRange struct {
	Inside  uint32 `json:"inside"`
	Outside uint32 `json:"outside"`
	Count   uint32 `json:"count"`
}

var e8 = struct{ Title, ShowsRoot, ShowsUser, Root, NotRoot, Mapped ui.Text }{
	Title: ui.Text{
		EN: "Root inside is not root outside",
		JA: "内側の root は、外側では root ではない",
	},
	ShowsRoot: ui.Text{
		EN: "ids inside are a range of ids on the host that belong to nobody. A process that broke out would own no file there and have no power.",
		JA: "内側の ID は、ホストでは誰のものでもない ID の範囲に対応します。仮に外へ抜け出しても、自分のファイルも権限も何もありません。",
	},
	ShowsUser: ui.Text{
		EN: "root inside is you outside: it may do to the host what you may, and no more. (Run by root, a container gets ids that belong to nobody.)",
		JA: "内側の root は、外側ではあなた自身です。ホストに対しては、あなたにできることしかできません。(root が起動したコンテナには、誰のものでもない ID が割り当てられます。)",
	},
	Root:    ui.Text{EN: "inside it is root, uid 0", JA: "内側では root (uid 0)"},
	NotRoot: ui.Text{EN: "for the host it is uid %d, not root", JA: "ホストから見ると uid %d で、root ではない"},
	Mapped:  ui.Text{EN: "the map says the same: 0 inside is %d outside", JA: "対応表も同じ: 内側の 0 は外側の %d"},
}

// Sides implements [Reading].
func (r *E8) Sides() (host, inside any) { return r.Host, r.Inside }

func (r *E8) claims() []claim {
	return []claim{
		must(r.Inside.UID == 0, r.Inside.UID, e8.Root),
		must(r.Host.UID != 0, r.Host.UID, e8.NotRoot, r.Host.UID),
		must(slices.ContainsFunc(r.Host.UIDMap, func(m IDRange) bool { return m.Inside == 0 && m.Outside == r.Host.UID }),
			r.Host.UIDMap, e8.Mapped, r.Host.UID),
	}
}

func (r *E8) shows() ui.Text {
	if r.Host.UID == r.Host.Caller {
		return e8.ShowsUser
	}
	return e8.ShowsRoot
}

func (r *E8) panes(l ui.Lang) (ui.Pane, ui.Pane) {
	host := &view{l: l}
	host.ran(fmt.Sprintf("grep Uid /proc/%d/status", r.Host.PID), fmt.Sprintf("Uid: %d", r.Host.UID))
	host.ran(fmt.Sprintf("cat /proc/%d/uid_map", r.Host.PID))
	for _, m := range r.Host.UIDMap {
		host.value(fmt.Sprintf("%d %d %d", m.Inside, m.Outside, m.Count))
	}
	return two(l, host, (&view{l: l}).ran("id -u", fmt.Sprint(r.Inside.UID)))
}

// E9 is a mount and a file that were made inside.
type E9 struct {
	File string `json:"-"` // where the file was written
	Host struct {
		Mounts []string `json:"mounts"` // at the mount's place, by type
		File   bool     `json:"file"`   // whether it is there
	}
	Inside struct {
		Mounts []string `json:"mounts"`
		File   string   `json:"file"` // its content
	}
}

var e9 = struct{ Title, Shows, NoFile, MountInside, NoMount, FileInside, FileAbsent ui.Text }{
	Title: ui.Text{
		EN: "Mounts and files made inside stay inside",
		JA: "内側で作ったマウントとファイルは、内側にとどまる",
	},
	Shows: ui.Text{
		EN: "what a container changes in its file system is its own and vanishes with it. The files of the host, though seen inside, stay as they are.",
		JA: "コンテナが加えた変更はコンテナだけのもので、コンテナと一緒に消えます。内側から見えていても、ホストのファイルは元のままです。",
	},
	NoFile:      ui.Text{EN: "(no such file)", JA: "(ファイルなし)"},
	MountInside: ui.Text{EN: "inside, there is a mount on %s", JA: "内側では %s にマウントがある"},
	NoMount:     ui.Text{EN: "among the host's mounts there is none", JA: "ホストのマウント一覧にはない"},
	FileInside:  ui.Text{EN: "inside, %s has been written", JA: "内側では %s を書けた"},
	FileAbsent:  ui.Text{EN: "on the host there is no such file", JA: "ホストにそのファイルはない"},
}

// Sides implements [Reading].
func (r *E9) Sides() (host, inside any) { return r.Host, r.Inside }

func (r *E9) claims() []claim {
	return []claim{
		must(slices.Contains(r.Inside.Mounts, "tmpfs"), r.Inside.Mounts, e9.MountInside, TourDir),
		must(len(r.Host.Mounts) == 0, r.Host.Mounts, e9.NoMount),
		must(r.Inside.File == "hello", r.Inside.File, e9.FileInside, r.File),
		must(!r.Host.File, r.Host.File, e9.FileAbsent),
	}
}

func (r *E9) panes(l ui.Lang) (ui.Pane, ui.Pane) {
	find, cat := "grep "+TourDir+" /proc/self/mountinfo", "cat "+r.File
	mounts := func(types []string) []string {
		var out []string
		for _, t := range types {
			out = append(out, TourDir+" - "+t)
		}
		return some(l, out)
	}
	host := (&view{l: l}).ran(find, mounts(r.Host.Mounts)...).ran(cat)
	if r.Host.File {
		host.value(r.File)
	} else {
		host.say(e9.NoFile)
	}
	return two(l, host, (&view{l: l}).ran(find, mounts(r.Inside.Mounts)...).ran(cat, r.Inside.File))
}

// E10 is two containers that listen on one port.
type E10 struct {
	Host struct {
		Port    int    `json:"port"`
		Free    bool   `json:"free"` // whether the host could listen on it as well
		Network string `json:"networkNamespace"`
	}
	Inside struct {
		Servers []Server `json:"servers"`
	}
}

// A Server listens on E10's port in a container.
type Server struct {
	Name    string `json:"hostname"`
	Answer  string `json:"answer"` // of that port, asked in the same container
	Network string `json:"networkNamespace"`
}

var e10 = struct{ Title, Shows, Asked, Listen, FreeHere, Taken, Own, Three, Free ui.Text }{
	Title: ui.Text{
		EN: "Two containers listen on the same port at the same time",
		JA: "二つのコンテナが、同じポートで同時に待ち受ける",
	},
	Shows: ui.Text{
		EN: "a network namespace has interfaces, addresses, routes and ports of its own. Two programs that want the same port no longer fight over it.",
		JA: "ネットワーク名前空間は、インターフェース、アドレス、経路、ポートを独自に持ちます。同じポートを使うプログラム同士も、もうぶつかりません。",
	},
	Asked:    ui.Text{EN: "in %s, 127.0.0.1:%d answers:", JA: "%s の 127.0.0.1:%d の返事:"},
	Listen:   ui.Text{EN: "meanwhile, listen on 127.0.0.1:%d:", JA: "ここでも 127.0.0.1:%d を開くと:"},
	FreeHere: ui.Text{EN: "works: the port is free here", JA: "成功 (ここでは空いている)"},
	Taken:    ui.Text{EN: "refused: the port is taken", JA: "失敗 (使用中)"},
	Own:      ui.Text{EN: "in %[1]s, port %[2]d is that of %[1]s", JA: "%[1]s の中では、ポート %[2]d は %[1]s のもの"},
	Three:    ui.Text{EN: "three network namespaces: the host's and two others", JA: "ネットワーク名前空間は三つ: ホストと、別の二つ"},
	Free:     ui.Text{EN: "on the host, the port is still free", JA: "ホストでは、そのポートは空いたまま"},
}

// Sides implements [Reading].
func (r *E10) Sides() (host, inside any) { return r.Host, r.Inside }

func (r *E10) claims() []claim {
	var list []claim
	networks := []string{r.Host.Network}
	for _, s := range r.Inside.Servers {
		list = append(list, must(s.Name != "" && s.Answer == s.Name, fmt.Sprintf("%q", s.Answer), e10.Own, s.Name, r.Host.Port))
		networks = append(networks, s.Network)
	}
	distinct := slices.Compact(slices.Sorted(slices.Values(networks)))
	return append(list,
		must(len(distinct) == 3 && len(networks) == 3 && distinct[0] != "", strings.Join(networks, ", "), e10.Three),
		must(r.Host.Free, r.Host.Free, e10.Free))
}

func (r *E10) panes(l ui.Lang) (ui.Pane, ui.Pane) {
	free := e10.Taken
	if r.Host.Free {
		free = e10.FreeHere
	}
	host := (&view{l: l}).say(e10.Listen, r.Host.Port).value(l.Say(free)).ran("readlink /proc/self/ns/net", r.Host.Network)
	inside := &view{l: l}
	for _, s := range r.Inside.Servers {
		inside.say(e10.Asked, s.Name, r.Host.Port).value(s.Answer + ", " + s.Network)
	}
	return two(l, host, inside)
}

// E11 is what four further kinds of namespace separate. Namespaces are in the kernel's
// notation: "uts:[4026532499]".
type E11 struct {
	Host, Inside E11Side
}

// An E11Side is one side of E11.
type E11Side struct {
	Hostname string   `json:"hostname"`
	Segment  bool     `json:"sharedMemory"` // whether it sees a segment that was made on the host
	Queue    *bool    `json:"messageQueue"` // whether it sees a queue that was made inside; nil: not mounted here
	Cgroup   string   `json:"cgroup"`       // the container's, as this side names it
	Uptime   float64  `json:"uptimeSeconds"`
	Spaces   []string `json:"namespaces"` // uts, ipc, cgroup, time
}

var e11 = struct {
	Title, Shows, Seen, Unseen, NotMounted, Up             ui.Text
	RowHostname, RowSegment, RowQueue, RowCgroup, RowUp    ui.Text
	Hostname, Segment, Queue, Mqueue, Cgroup, Clock, Apart ui.Text
}{
	Title: ui.Text{
		EN: "Host name, shared memory, cgroups and boot clock are separate, too",
		JA: "ホスト名、共有メモリー、cgroup、起動からの時間も別々",
	},
	Shows: ui.Text{
		EN: "these are four more kinds of namespace: uts, ipc, cgroup and time. A container has all eight kinds, but each can be had alone as well.",
		JA: "これらも名前空間の一種で、順に uts、ipc、cgroup、time といいます。コンテナは 8 種類すべてを持ちますが、一つだけ分けることもできます。",
	},
	Seen:        ui.Text{EN: "seen", JA: "見える"},
	Unseen:      ui.Text{EN: "not seen", JA: "見えない"},
	NotMounted:  ui.Text{EN: "not mounted", JA: "マウントなし"},
	Up:          ui.Text{EN: "%d h %02d min", JA: "%d 時間 %02d 分"},
	RowHostname: ui.Text{EN: "host name", JA: "ホスト名"},
	RowSegment:  ui.Text{EN: "shared memory of the host", JA: "ホストの共有メモリー"},
	RowQueue:    ui.Text{EN: "message queue made inside", JA: "内側で作ったキュー"},
	RowCgroup:   ui.Text{EN: "the container's cgroup", JA: "コンテナの cgroup"},
	RowUp:       ui.Text{EN: "time since boot", JA: "起動からの時間"},
	Hostname:    ui.Text{EN: "uts: the host name inside is another one", JA: "uts: 内側のホスト名は別のもの"},
	Segment:     ui.Text{EN: "ipc: shared memory of the host is not seen inside", JA: "ipc: ホストの共有メモリーは内側から見えない"},
	Queue:       ui.Text{EN: "ipc: a message queue made inside is not seen on the host", JA: "ipc: 内側で作ったメッセージキューはホストから見えない"},
	Mqueue:      ui.Text{EN: "ipc: a message queue made inside is seen there", JA: "ipc: 内側で作ったメッセージキューは内側で見える"},
	Cgroup:      ui.Text{EN: "cgroup: inside, its own cgroup is the root, /", JA: "cgroup: 内側では自分の cgroup が最上位 (/) に見える"},
	Clock:       ui.Text{EN: "time: the boot clock inside is a day ahead", JA: "time: 起動からの時間は、内側では 1 日進んでいる"},
	Apart:       ui.Text{EN: "all four namespaces are other ones than the host's", JA: "四つの名前空間はどれもホストのものとは別"},
}

// Sides implements [Reading].
func (r *E11) Sides() (host, inside any) { return r.Host, r.Inside }

func (r *E11) claims() []claim {
	h, in := r.Host, r.Inside
	list := []claim{
		must(in.Hostname == IslandName && h.Hostname != in.Hostname, h.Hostname+", "+in.Hostname, e11.Hostname),
		must(h.Segment && !in.Segment, fmt.Sprint(h.Segment, ", ", in.Segment), e11.Segment),
	}
	switch {
	case h.Queue != nil:
		list = append(list, must(!*h.Queue && in.Queue != nil && *in.Queue, fmt.Sprint(*h.Queue, ", ", text(in.Queue)), e11.Queue))
	default:
		list = append(list, must(in.Queue != nil && *in.Queue, text(in.Queue), e11.Mqueue))
	}
	ahead := in.Uptime - h.Uptime - ClockOffset.Seconds()
	apart := len(h.Spaces) == 4 && len(in.Spaces) == 4
	for i := range min(len(h.Spaces), len(in.Spaces)) {
		apart = apart && h.Spaces[i] != in.Spaces[i]
	}
	return append(list,
		must(in.Cgroup == "/", in.Cgroup, e11.Cgroup),
		// Between the two readings at most a minute goes by, on the slowest machine.
		must(ahead > -1 && ahead < 60, fmt.Sprintf("%.0f s, %.0f s", h.Uptime, in.Uptime), e11.Clock),
		must(apart, fmt.Sprint(h.Spaces, " ", in.Spaces), e11.Apart))
}

func text(b *bool) string {
	if b == nil {
		return "none"
	}
	return fmt.Sprint(*b)
}

// panes has none: both sides are columns of the block's table.
func (r *E11) panes(ui.Lang) (host, inside ui.Pane) { return ui.Pane{}, ui.Pane{} }

func (r *E11) block(s ui.Screen) string {
	l := s.Lang
	seen := func(b *bool) string {
		switch {
		case b == nil:
			return l.Say(e11.NotMounted)
		case *b:
			return l.Say(e11.Seen)
		}
		return l.Say(e11.Unseen)
	}
	up := func(seconds float64) string {
		minutes := int(seconds) / 60
		return l.Say(e11.Up, minutes/60, minutes%60)
	}
	h, in := r.Host, r.Inside
	return ui.Table{
		Columns: []ui.Column{{}, {Least: 16}, {Title: l.Say(common.HostSide), Least: 10}, {Title: l.Say(common.Inside), Least: 10}},
		Rows: [][]string{
			{"uts", l.Say(e11.RowHostname), h.Hostname, in.Hostname},
			{"ipc", l.Say(e11.RowSegment), seen(&h.Segment), seen(&in.Segment)},
			{"ipc", l.Say(e11.RowQueue), seen(h.Queue), seen(in.Queue)},
			{"cgroup", l.Say(e11.RowCgroup), h.Cgroup, in.Cgroup},
			{"time", l.Say(e11.RowUp), up(h.Uptime), up(in.Uptime)},
		},
		Paint: func(_, column int) ui.Role {
			if column < 2 {
				return ui.Plain
			}
			return ui.Accent
		},
	}.Text(s)
}

// E12 is the kernel, read on both sides, and what a start takes.
type E12 struct {
	Host struct {
		Kernel string  `json:"kernel"`
		BootID string  `json:"bootID"`
		Start  float64 `json:"startMilliseconds"` // from the call until the command ran
	}
	Inside struct {
		Kernel string `json:"kernel"`
		BootID string `json:"bootID"`
	}
}

var e12 = struct{ Title, Shows, Boot, Took, SameKernel, SameBoot ui.Text }{
	Title: ui.Text{
		EN: "One kernel runs all of it: a container is no virtual machine",
		JA: "カーネルは一つだけ。コンテナは仮想マシンではない",
	},
	Shows: ui.Text{
		EN: "nothing boots. A container is an ordinary process of this kernel that has other namespaces, so it starts in milliseconds.",
		JA: "新しく起動した OS はありません。コンテナは、名前空間が違うだけの、このカーネルの普通のプロセスです。だからミリ秒で始まります。",
	},
	Boot:       ui.Text{EN: "the kernel's id of this boot:", JA: "カーネルが持つ今回の起動の ID:"},
	Took:       ui.Text{EN: "the container's start took %.1f ms", JA: "コンテナの起動: %.1f ms"},
	SameKernel: ui.Text{EN: "the same kernel on both sides", JA: "両側とも同じカーネル"},
	SameBoot:   ui.Text{EN: "even the same boot of it", JA: "起動の ID も同じ"},
}

// Sides implements [Reading].
func (r *E12) Sides() (host, inside any) { return r.Host, r.Inside }

func (r *E12) claims() []claim {
	return []claim{
		must(r.Host.Kernel != "" && r.Host.Kernel == r.Inside.Kernel, unequal(r.Host.Kernel, r.Inside.Kernel), e12.SameKernel),
		must(r.Host.BootID != "" && r.Host.BootID == r.Inside.BootID, unequal(r.Host.BootID, r.Inside.BootID), e12.SameBoot),
	}
}

func (r *E12) panes(l ui.Lang) (ui.Pane, ui.Pane) {
	host := (&view{l: l}).ran("uname -r", r.Host.Kernel).say(e12.Boot).value(r.Host.BootID)
	inside := (&view{l: l}).ran("uname -r", r.Inside.Kernel).say(e12.Boot).value(r.Inside.BootID)
	return two(l, host.say(e12.Took, r.Host.Start), inside)
}
