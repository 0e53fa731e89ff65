package tour

import (
	"errors"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/ui"
)

// The readings of a machine that does everything right, as root. Each call makes new ones.
func fixtures() map[string]Reading {
	yes, no := true, false
	a := &E1{}
	a.Host.Init, a.Host.Self = "pid:[4026531836]", "pid:[4026531836]"
	a.Inside.PID, a.Inside.PIDNamespace, a.Inside.PIDs = 341495, "pid:[4026531836]", []int{341495}
	b := &E2{}
	b.Host.PID, b.Inside.PID = 341499, 1
	c := &E3{}
	c.Host.PIDNamespace, c.Inside.PIDNamespace = "pid:[4026531836]", "pid:[4026532501]"
	d := &E4{}
	d.Host.Processes, d.Host.Members = 214, []int{1, 2}
	d.Inside.Processes = []Proc{{1, "sh"}, {2, "sleep"}}
	e := &E5{}
	e.Host.Monitor, e.Host.Parent = monitorName, 341490
	e.Host.Processes = []Leveled{{[]int{341499, 1}, "sh"}, {[]int{341500, 2}, "sleep"}}
	e.Inside.Processes = []Proc{{1, "sh"}, {2, "sleep"}}
	f := &E6{}
	f.Host.PID, f.Host.PIDNamespace, f.Inside.PIDNamespace = 341499, "pid:[4026532501]", "pid:[4026532501]"
	g := &E7{}
	g.Host.Processes, g.Host.Self = 217, 341490
	g.Host.Nested = []Leveled{{[]int{341510, 1}, "sh"}, {[]int{341514, 3}, "kakuri"}, {[]int{341520, 9, 1}, "sh"}}
	g.Inside.Container, g.Inside.Innermost = []int{1, 3, 9}, []int{1}
	h := &E8{}
	h.Host.PID, h.Host.UID, h.Host.UIDMap = 341499, 1879048192, []IDRange{{0, 1879048192, 65536}}
	i := &E9{File: "/hello.txt"}
	i.Inside.Mounts, i.Inside.File = []string{"tmpfs"}, "hello"
	j := &E10{}
	j.Host.Port, j.Host.Free, j.Host.Network = 8080, true, "net:[4026531833]"
	j.Inside.Servers = []Server{{"web-a", "web-a", "net:[4026532497]"}, {"web-b", "web-b", "net:[4026532573]"}}
	k := &E11{}
	k.Host = E11Side{"mountain", true, &no, "/user.slice/user-1000.slice/session-3.scope", 4107.4, []string{"uts:[1]", "ipc:[2]", "cgroup:[3]", "time:[4]"}}
	k.Inside = E11Side{IslandName, false, &yes, "/", 90507.9, []string{"uts:[5]", "ipc:[6]", "cgroup:[7]", "time:[8]"}}
	l := &E12{}
	l.Host.Kernel, l.Host.BootID, l.Host.Start = "6.12.9", "55022ea1-e59a-4441-8416-bb56a7a7cbab", 8.25
	l.Inside.Kernel, l.Inside.BootID = l.Host.Kernel, l.Host.BootID
	n := &E14{HandLine: HandLine(Place{Privileged: true}), RunLine: "kakuri run host true", Hand: handPlan(), Run: runPlan()}
	o := &E15{}
	o.Host.Tree.Roots = ui.List[ui.NSNode]{tree()}
	o.Inside.Processes = []int{1}
	return map[string]Reading{
		"E1": a, "E2": b, "E3": c, "E4": d, "E5": e, "E6": f, "E7": g, "E8": h, "E9": i, "E10": j, "E11": k, "E12": l, "E14": n, "E15": o,
	}
}

// userFixtures are those that differ for an ordinary user.
func userFixtures() map[string]Reading {
	all := fixtures()
	a := all["E1"].(*E1)
	a.Host.Init = ""
	h := all["E8"].(*E8)
	h.Host.Caller, h.Host.UID, h.Host.UIDMap = 1000, 1000, []IDRange{{0, 1000, 1}, {1, 100000, 65536}}
	n := all["E14"].(*E14)
	n.HandLine, n.User = HandLine(Place{UID: 1000}), true
	k := all["E11"].(*E11)
	k.Host.Queue = nil
	return map[string]Reading{"E1": a, "E8": h, "E11": k, "E14": n}
}

func handPlan() plan.Plan {
	because := func(s string) plan.Cause { return plan.Cause{Reason: s} }
	return plan.Plan{Steps: []plan.Step{
		{Op: &plan.Clone{New: []abi.Namespace{abi.NSPID, abi.NSMount}}, Cause: because("--pid --mount-proc")},
		{Op: &plan.Mount{Type: "proc", Source: "proc", Dest: "/proc"}, Side: plan.Container, Cause: because("--mount-proc")},
		{Op: &plan.Exec{Args: []string{"bash"}}, Side: plan.Container, Cause: because("command")},
	}}
}

func runPlan() plan.Plan {
	p := plan.Plan{Warnings: []string{"a limit was left out"}}
	add := func(side plan.Side, why string, op plan.Op) {
		p.Steps = append(p.Steps, plan.Step{Op: op, Side: side, Cause: plan.Cause{Reason: why}})
	}
	kinds := abi.Namespaces()
	add(plan.Runtime, "default: own namespaces", &plan.Clone{New: kinds[:]})
	add(plan.Runtime, "default: ids of its own", &plan.WriteIDMap{Map: []plan.IDMapping{{Outside: 1879048192, Size: 65536}}})
	add(plan.Runtime, "image host", &plan.OpenTree{Path: "/", IDMap: true})
	add(plan.Container, "default: the container's id", &plan.Hostname{Host: "3f9c2a17b6d0"})
	for range 12 {
		add(plan.Container, "default: file systems of the kernel", &plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: "/dev/shm"})
	}
	add(plan.Container, "image host: secrets and others' data are not shown", &plan.Mask{Path: "/etc/shadow\x1b[2J"})
	add(plan.Container, "the host's files are out of reach from here on", &plan.PivotRoot{})
	add(plan.Container, "default: 11 capabilities", &plan.Capset{})
	add(plan.Container, "signals were blocked over the clone", &plan.Sigmask{})
	add(plan.Container, "command", &plan.Exec{Args: []string{"true"}})
	return p
}

func tree() ui.NSNode {
	process := func(command string, parent int, pids ...int) ui.NSProcess {
		return ui.NSProcess{Command: command, Parent: parent, PIDs: pids}
	}
	return ui.NSNode{
		NSName: ui.NSName{Inode: 4026531836, Host: true}, Type: "pid",
		Processes: ui.List[ui.NSProcess]{process("init", 0, 1), process("sshd", 1, 803), process("bash", 803, 341201), process("kakuri", 341201, 341490)},
		Children: []ui.NSNode{{
			NSName: ui.NSName{Inode: 4026532341}, Type: "pid",
			Processes: ui.List[ui.NSProcess]{process("sh", 341490, 341510, 1), process("kakuri", 341510, 341514, 3)},
			Children: []ui.NSNode{{
				NSName: ui.NSName{Inode: 4026532414}, Type: "pid",
				Processes: ui.List[ui.NSProcess]{process("sh", 341514, 341520, 9, 1)},
			}},
		}},
	}
}

// results pairs experiments with readings, in order.
func results(readings map[string]Reading) []Result {
	var list []Result
	for _, e := range Experiments() {
		if r, ok := readings[e.ID]; ok {
			list = append(list, Result{Experiment: e, Reading: r})
		}
	}
	return list
}

var errRefused = errors.New("step 1 of 110: clone user pid mount network uts ipc cgroup (config.json linux.namespaces): clone3: EPERM: operation not permitted\x1b[2J")
