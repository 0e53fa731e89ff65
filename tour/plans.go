package tour

import (
	"fmt"
	"strconv"

	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/ui"
)

// E14 is the plan of a container that was run, and that of the line by hand.
type E14 struct {
	HandLine, RunLine string
	Hand, Run         plan.Plan
	Code              int  // how the container ended
	User              bool // whether an ordinary user runs them
}

// A Count is how many steps of a plan are for what.
type Count struct {
	Steps       int `json:"steps"`
	FileSystems int `json:"fileSystems"`
	Rights      int `json:"idsAndRights"`
}

var e14 = struct {
	Title, Shows, ByHand, Engine, Steps, FileSystems, Rights, Rest, NeedsUser, Side, Operation, Because, Left, Ended, More, Caused ui.Text
}{
	Title: ui.Text{
		EN: "An engine does the tedious part",
		JA: "面倒な部分はエンジンが引き受ける",
	},
	Shows: ui.Text{
		EN: "namespaces alone are one call. The rest of the list makes them a place to live in, and a safe one; kakuri prints it before running it.",
		JA: "名前空間を作るだけなら呼び出し一つで済みます。残りの手順が、そこを使える場所、しかも安全な場所にします。kakuri はその計画を実行前に見せます。",
	},
	ByHand:      ui.Text{EN: "by hand", JA: "手作業"},
	Engine:      ui.Text{EN: "with an engine", JA: "エンジン"},
	Steps:       ui.Text{EN: "%d steps:", JA: "%d 手順:"},
	FileSystems: ui.Text{EN: "%d for file systems", JA: "ファイルシステム %d"},
	Rights:      ui.Text{EN: "%d for ids and rights", JA: "ID と権限 %d"},
	Rest:        ui.Text{EN: "%d for namespaces and the rest", JA: "名前空間、その他 %d"},
	NeedsUser:   ui.Text{EN: "(only root could do without the user namespace of --map-root-user)", JA: "(root 以外は --map-root-user の user 名前空間も必要)"},
	Side:        ui.Text{EN: "side", JA: "側"},
	Operation:   ui.Text{EN: "operation", JA: "操作"},
	Because:     ui.Text{EN: "because", JA: "理由"},
	Left:        ui.Text{EN: "%d more", JA: "他 %d"},
	Ended:       ui.Text{EN: "the container ran by this plan, and ended with code 0", JA: "コンテナはこの計画どおりに動き、終了コード 0 で終わった"},
	More:        ui.Text{EN: "the engine's plan is longer: %d steps against %d", JA: "エンジンの計画のほうが長い: %d 手順 対 %d 手順"},
	Caused:      ui.Text{EN: "each of its steps says why it is there", JA: "どの手順にも、そこにある理由が書いてある"},
}

// count counts the steps of one side, or of all.
func count(p plan.Plan, on func(plan.Side) bool) Count {
	var c Count
	for _, s := range p.Steps {
		if !on(s.Side) {
			continue
		}
		c.Steps++
		switch subject(s.Op) {
		case fileSystems:
			c.FileSystems++
		case rights:
			c.Rights++
		}
	}
	return c
}

// What steps are for.
const (
	unknown = iota
	fileSystems
	rights
	others
)

// subject is what an operation is for.
func subject(op plan.Op) int {
	switch op.(type) {
	case *plan.Propagation, *plan.OpenTree, *plan.IDMapTree, *plan.OpenHost, *plan.OpenSource, *plan.OpenOwnSource, *plan.BorrowMount, *plan.AttachRoot, *plan.Scratch, *plan.Overlay, *plan.ImageRoot, *plan.MountFUSE, *plan.AttachFUSE, *plan.ServeRoot, *plan.MountIndex, *plan.Unmount, *plan.LayerDir, *plan.Whiteout, *plan.PublicLayer, *plan.EmptyRoot, *plan.EmptyDir,
		*plan.Mount, *plan.NewMount, *plan.OpenFS, *plan.Bind, *plan.Mask, *plan.ReadonlyPath, *plan.Device, *plan.Symlink, *plan.Mtab, *plan.Dockerenv, *plan.Workdir,
		*plan.CopyUp, *plan.HookBundle, *plan.WriteConfig, *plan.NewUserNamespace, *plan.Remount, *plan.OpenRoot, *plan.Chroot, *plan.LeaveChroot, *plan.PivotRoot:
		return fileSystems
	case *plan.WriteIDMap, *plan.HelperIDMap, *plan.DenySetgroups, *plan.Setgroups, *plan.Setresgid, *plan.Setresuid, *plan.OwnStreams, *plan.OwnNull,
		*plan.DropBounding, *plan.Capset, *plan.Ambient, *plan.KeepCaps, *plan.NoNewPrivs, *plan.Seccomp, *plan.SendListener, *plan.KeyLabel, *plan.SecurityLabel, *plan.Undumpable:
		return rights
	case *plan.Clone, *plan.OpenNamespace, *plan.OpenSocketNamespace, *plan.OpenFD, *plan.Setns, *plan.Unshare, *plan.EnterTime, *plan.Fork, *plan.Init,
		*plan.KeepNamespace, *plan.Fchdir, *plan.PlainChdir, *plan.Chdir, *plan.TryChdir, *plan.LateChdir, *plan.OpenProc, *plan.OpenSelf, *plan.OpenNull,
		*plan.Terminal, *plan.Console, *plan.LoopbackUp, *plan.Keyring, *plan.Hostname, *plan.Domainname, *plan.Sysctl,
		*plan.Rlimit, *plan.Umask, *plan.OOMScoreAdj, *plan.Personality, *plan.Setsid, *plan.DieWithParent, *plan.DefaultSignals, *plan.Sigmask,
		*plan.CloseFDs, *plan.Stub, *plan.FindProgram, *plan.OpenPts, *plan.Exec, *plan.Sync, *plan.MakeCgroup, *plan.OpenCgroup, *plan.JoinCgroup, *plan.LimitCgroup, *plan.DeviceRules, *plan.DelegateCgroup, *plan.RemoveCgroup, *plan.EnterCgroup, *plan.RegisterBinfmt, *plan.Scheduler, *plan.IOPriority,
		*plan.MemoryPolicy, *plan.Affinity, *plan.RunHook, *plan.MoveNetDevice, *plan.JoinResctrl, *plan.RemoveResctrl,
		*plan.SetForwarding, *plan.MakeBridge, *plan.RemoveBridge, *plan.MakeParent, *plan.MakeRules, *plan.HoldPorts, *plan.PublishPorts, *plan.UnpublishPorts, *plan.ServeNames, *plan.LimitEgress, *plan.UplinkPorts, *plan.World,
		*plan.MakeVeth, *plan.MakeMacvlan, *plan.MakeIPvlan, *plan.DeviceSysctl, *plan.LinkUp, *plan.AddAddress, *plan.Announce, *plan.AddRoute:
		return others
	}
	return unknown
}

func all(plan.Side) bool { return true }

// Sides implements [Reading]: the steps of both plans that each side does.
func (r *E14) Sides() (host, inside any) {
	type both struct {
		Hand Count `json:"byHand"`
		Run  Count `json:"engine"`
	}
	on := func(side plan.Side) both {
		of := func(s plan.Side) bool { return s == side }
		return both{count(r.Hand, of), count(r.Run, of)}
	}
	return on(plan.Runtime), on(plan.Container)
}

func (r *E14) claims() []claim {
	without := 0
	for _, s := range r.Run.Steps {
		if s.Cause == (plan.Cause{}) {
			without++
		}
	}
	run, hand := len(r.Run.Steps), len(r.Hand.Steps)
	return []claim{
		must(r.Code == 0 && run > 0, r.Code, e14.Ended),
		must(hand > 0 && run > hand, fmt.Sprintf("%d <= %d", run, hand), e14.More, run, hand),
		must(without == 0, fmt.Sprint(without, " without"), e14.Caused),
	}
}

func (r *E14) panes(l ui.Lang) (ui.Pane, ui.Pane) {
	side := func(title ui.Text, line string, p plan.Plan) ui.Pane {
		c, v := count(p, all), &view{l: l}
		v.ran(line).say(e14.Steps, c.Steps).say(e14.FileSystems, c.FileSystems).say(e14.Rights, c.Rights)
		v.say(e14.Rest, c.Steps-c.FileSystems-c.Rights)
		return ui.Pane{Title: l.Say(title), Lines: v.lines}
	}
	hand := side(e14.ByHand, r.HandLine, r.Hand)
	if r.User {
		hand.Lines = append(hand.Lines, ui.Line{Text: l.Say(e14.NeedsUser), Role: ui.Dim})
	}
	return hand, side(e14.Engine, r.RunLine, r.Run)
}

// How many steps of the plan's head and tail are shown.
const (
	planHead = 6
	planTail = 5
)

// block is the head and the tail of the engine's plan.
func (r *E14) block(s ui.Screen) string {
	l, steps := s.Lang, r.Run.Steps
	t := ui.Table{Columns: []ui.Column{
		{Title: "#", Right: true}, {Title: l.Say(e14.Side)}, {Title: l.Say(e14.Operation), Least: 12}, {Title: l.Say(e14.Because), Least: 12},
	}}
	left := len(steps) - planHead - planTail
	for i, step := range steps {
		switch {
		case left > 0 && i == planHead:
			t.Rows = append(t.Rows, []string{"", "", "... " + l.Say(e14.Left, left)})
		case left > 0 && i > planHead && i < len(steps)-planTail:
		default:
			t.Rows = append(t.Rows, []string{strconv.Itoa(i + 1), step.Side.String(), step.Op.String(), step.Cause.String()})
		}
	}
	return t.Text(s)
}
