package plan

import (
	"slices"

	"github.com/kakuri/kakuri/abi"
)

// EnterOptions are those of nsenter(1), as values.
type EnterOptions struct {
	Join []JoinNamespace
	Fork bool // after a pid namespace was joined
	// Root and Wd are directories of the host's view, such as /proc/PID/root; empty
	// leaves what joining the mount namespace gives.
	Root, Wd string
	WdInside string // a directory as it is named inside
	Cgroup   string // the directory of a control group to join, version 2
	SetUID   *uint32
	SetGID   *uint32
	KeepCaps bool
	Session  bool // a new one: who is in the caller's group of processes can signal them all, from any pid namespace

	File      string // the program, where Args[0] is another name
	Args, Env []string
	Signals   Sigmask // as the caller has them
	Because   func(what string) string
}

// A JoinNamespace is a namespace to join, by path, or by a socket of a process that is in it.
type JoinNamespace struct {
	NS     abi.Namespace
	Path   string
	Parent bool // the user namespace that owns the one at Path

	PID, Socket int // the process, and the number of its descriptor; without Path
}

func (j JoinNamespace) open(out Reg) Op {
	if j.Path == "" {
		return &OpenSocketNamespace{PID: j.PID, Socket: j.Socket, Out: out}
	}
	return &OpenNamespace{NS: j.NS, Path: j.Path, Parent: j.Parent, Out: out}
}

func (j JoinNamespace) check() Check {
	if j.Path == "" || j.Parent {
		return nil
	}
	return &NamespaceCheck{NS: j.NS, Path: j.Path}
}

// joinRank orders joins. The user namespace is joined last by who is privileged outside, as
// some of the others may belong to an outer one; first by who gets the privileges there.
func joinRank(j JoinNamespace, privileged bool) int {
	switch {
	case j.NS == abi.NSUser && privileged:
		return 10
	case j.NS == abi.NSUser:
		return 0
	case j.NS == abi.NSMount:
		return 8
	case j.NS == abi.NSPID:
		return 9
	}
	return 1
}

// CompileEnter gives the plan of an nsenter(1): a process in namespaces that exist.
func CompileEnter(o EnterOptions, host Facts) (Plan, error) {
	if len(o.Args) == 0 {
		return Plan{}, errNoCommand
	}
	e := &enterer{tool: tool{verb: "enter", because: o.Because, host: host}, o: o, joins: slices.Clone(o.Join)}
	slices.SortStableFunc(e.joins, func(a, b JoinNamespace) int {
		return joinRank(a, host.Privileged()) - joinRank(b, host.Privileged())
	})
	e.open()
	// A program of the entered container may be anything, this one's name too.
	stub := e.has(abi.NSMount)
	if stub {
		e.add(Runtime, &Stub{}, "", nil)
	}
	e.add(Runtime, &Clone{}, "", nil)
	e.add(Container, &Undumpable{}, "", nil)
	e.join()
	e.become(user{uid: o.SetUID, gid: o.SetGID, keepCaps: o.KeepCaps && e.has(abi.NSUser), tryGroups: e.has(abi.NSUser)})
	e.dieWithParent(abi.SIGKILL, "no fork")
	e.exec(o.File, o.Args, o.Env, o.Signals, stub)
	return e.plan, nil
}

type enterer struct {
	tool
	o     EnterOptions
	joins []JoinNamespace // in order
}

func (e *enterer) has(ns abi.Namespace) bool {
	return slices.ContainsFunc(e.joins, func(j JoinNamespace) bool { return j.NS == ns })
}

// Registers of what the runtime's side opens, by the number of the join.
func (e *enterer) namespace(i int) Reg { return regFree + Reg(i) }
func (e *enterer) wd() Reg             { return e.namespace(len(e.joins)) }
func (e *enterer) cgroup() Reg         { return e.wd() + 1 }

// open takes all that is named by the caller's view, which the child leaves.
func (e *enterer) open() {
	for i, j := range e.joins {
		e.add(Runtime, j.open(e.namespace(i)), j.NS.String(), nil)
	}
	if e.o.Root != "" {
		e.add(Runtime, &OpenFD{Path: e.o.Root, Flags: abi.OPath, Out: RegRoot}, "root", nil)
	}
	if e.o.Wd != "" {
		e.add(Runtime, &OpenFD{Path: e.o.Wd, Flags: abi.OPath, Out: e.wd()}, "wd", nil)
	}
	if e.o.Cgroup != "" {
		e.add(Runtime, &OpenFD{Path: e.o.Cgroup + "/cgroup.procs", Flags: abi.OWronly, Out: e.cgroup()}, "join-cgroup", nil)
	}
}

func (e *enterer) join() {
	if e.o.Session {
		e.add(Container, &Setsid{}, "", nil)
	}
	if e.o.Cgroup != "" {
		e.add(Container, &EnterCgroup{Files: []Reg{e.cgroup()}}, "join-cgroup", nil)
	}
	// A user namespace that denies setgroups is joined without the caller's groups; one that
	// the caller may not change groups outside of has root to do it inside.
	if e.has(abi.NSUser) && e.o.SetGID != nil {
		e.add(Container, &Setgroups{Try: true}, "setgid", nil)
	}
	for i, j := range e.joins {
		e.add(Container, &Setns{NS: j.NS, FD: e.namespace(i)}, j.NS.String(), j.check())
	}
	if e.o.Fork && e.has(abi.NSPID) {
		e.add(Container, &Fork{}, "pid", nil)
	}
	if e.o.Root != "" {
		e.add(Container, &Chroot{}, "root", nil)
	}
	switch {
	case e.o.Wd != "":
		e.add(Container, &Fchdir{FD: e.wd()}, "wd", nil)
	case e.o.WdInside != "":
		e.add(Container, &PlainChdir{Path: e.o.WdInside}, "wdns", nil)
	}
}
