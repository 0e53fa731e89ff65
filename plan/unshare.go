package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// UnshareOptions are those of unshare(1), as values.
type UnshareOptions struct {
	New  []abi.Namespace
	Keep []KeepNamespace // namespaces to keep by a bind mount, among New
	Fork bool            // the command is in the new pid namespace, not only its children

	UIDs, GIDs []IDMapping // of a new user namespace; none leaves it unmapped
	Setgroups  string      // "deny", "allow" or empty
	KeepCaps   bool

	Propagation string // of the new mount namespace: private (when empty), slave, shared, unchanged
	MountProc   string // where to mount a procfs, empty for nowhere
	Root, Wd    string
	SetUID      *uint32
	SetGID      *uint32

	Boottime, Monotonic int64 // nanoseconds, of a new time namespace
	KillChild           bool  // end the command when the caller ends

	Args, Env []string
	Because   func(what string) string // the flag behind a part: "pid", "mount-proc"
}

// CompileUnshare gives the plan of an unshare(1).
func CompileUnshare(o UnshareOptions, host Facts) (Plan, error) {
	u := &unsharer{o: o, host: host}
	if len(o.Args) == 0 {
		return Plan{}, fmt.Errorf("no command")
	}
	u.clone()
	if err := u.maps(); err != nil {
		return Plan{}, err
	}
	for _, k := range o.Keep {
		if k.NS != abi.NSTime {
			u.add(Runtime, &k, k.NS.String(), nil)
		}
	}
	u.add(Runtime, &Sync{From: Runtime, What: "host prepared"}, "", nil)
	u.child()
	return u.plan, nil
}

type unsharer struct {
	o    UnshareOptions
	host Facts
	plan Plan
}

// add adds a step; part names the option behind it, empty is none.
func (u *unsharer) add(side Side, op Op, part string, check Check) {
	cause := because("what unshare does")
	if part != "" && u.o.Because != nil {
		if flag := u.o.Because(part); flag != "" {
			cause = because("%s", flag)
		}
	}
	u.plan.Steps = append(u.plan.Steps, Step{Op: op, Side: side, Cause: cause, Check: check})
}

func (u *unsharer) has(ns abi.Namespace) bool { return slices.Contains(u.o.New, ns) }

// clone makes what can be made in the clone; the rest the child unshares.
func (u *unsharer) clone() {
	var fresh []abi.Namespace
	for _, ns := range u.o.New {
		if ns == abi.NSTime || (ns == abi.NSPID && !u.o.Fork) {
			continue
		}
		fresh = append(fresh, ns)
	}
	slices.Sort(fresh)
	var flags []string
	for _, ns := range fresh {
		if u.o.Because != nil {
			if flag := u.o.Because(ns.String()); flag != "" {
				flags = append(flags, flag)
			}
		}
	}
	var check Check
	if len(fresh) > 0 {
		check = &NewNamespacesCheck{New: fresh}
	}
	u.add(Runtime, &Clone{New: fresh}, "", check)
	if len(flags) > 0 {
		u.plan.Steps[0].Cause = because("%s", strings.Join(flags, " "))
	}
}

func (u *unsharer) maps() error {
	if !u.has(abi.NSUser) {
		return nil
	}
	c := &compiler{host: u.host}
	deny := u.o.Setgroups == "deny" || (u.o.Setgroups == "" && !u.host.Privileged() && ownID(u.o.GIDs, u.host.GID))
	if deny {
		u.add(Runtime, &DenySetgroups{}, "setgroups", nil)
	}
	for _, m := range []struct {
		group  bool
		list   []IDMapping
		own    uint32
		helper string
	}{{false, u.o.UIDs, u.host.UID, u.host.NewUIDMap}, {true, u.o.GIDs, u.host.GID, u.host.NewGIDMap}} {
		if len(m.list) == 0 {
			continue
		}
		if err := c.idMap(m.group, m.list, u.host.Privileged() || ownID(m.list, m.own), m.helper); err != nil {
			return err
		}
		s := c.plan.Steps[len(c.plan.Steps)-1]
		u.add(Runtime, s.Op, "map", s.Check)
	}
	return nil
}

func (u *unsharer) child() {
	o := u.o
	if u.has(abi.NSTime) {
		u.add(Container, &OpenSelf{}, "time", nil)
		u.add(Container, &EnterTime{Boottime: o.Boottime, Monotonic: o.Monotonic, OnExec: u.host.TimeOnExec}, "time", &TimeCheck{Boottime: o.Boottime, Monotonic: o.Monotonic})
		u.keepTime()
	}
	if u.has(abi.NSPID) && !o.Fork {
		u.add(Container, &Unshare{New: []abi.Namespace{abi.NSPID}}, "pid", nil)
	}
	if u.has(abi.NSMount) && o.Propagation != "unchanged" {
		mode := o.Propagation
		if mode == "" {
			mode = "private"
		}
		u.add(Container, &Propagation{Path: "/", Mode: mode, Recursive: true}, "propagation", nil)
	}
	root := "/"
	if o.Root != "" {
		root = o.Root
	}
	if o.Root != "" || o.MountProc != "" {
		u.add(Container, &OpenRoot{Path: root}, "root", nil)
	}
	if o.Root != "" {
		u.add(Container, &Chroot{}, "root", nil)
	}
	if o.MountProc != "" {
		attrs := Attrs{Set: abi.MountAttrNosuid | abi.MountAttrNodev | abi.MountAttrNoexec}
		u.add(Container, &Mount{Type: "proc", Source: "proc", Dest: o.MountProc, Attrs: attrs}, "mount-proc", &MountCheck{Dest: o.MountProc, Type: "proc", Set: attrs.Set})
	}
	if o.Wd != "" {
		u.add(Container, &PlainChdir{Path: o.Wd}, "wd", nil)
	}
	endings(func(op Op, part string) { u.add(Container, op, part, nil) }, o.SetUID, o.SetGID, o.KeepCaps, u.host)
	if o.KillChild {
		u.add(Container, &DieWithParent{}, "kill-child", nil)
	}
	u.add(Container, &Sigmask{}, "", nil)
	u.add(Container, &Exec{Args: o.Args, Env: o.Env, Path: searchEnv(o.Args[0], o.Env)}, "command", nil)
}

// keepTime keeps the time namespace, which the container's side has just made.
func (u *unsharer) keepTime() {
	for _, k := range u.o.Keep {
		if k.NS == abi.NSTime {
			u.add(Container, &Sync{From: Container, What: "time namespace made"}, "time", nil)
			u.add(Runtime, &k, "time", nil)
			u.add(Runtime, &Sync{From: Runtime, What: "time namespace kept"}, "time", nil)
		}
	}
}

// endings change ids and keep capabilities, as unshare(1) and nsenter(1) do.
func endings(add func(Op, string), uid, gid *uint32, keepCaps bool, host Facts) {
	if gid != nil {
		add(&Setgroups{}, "setgid")
		add(&Setresgid{GID: *gid}, "setgid")
	}
	if uid != nil {
		if keepCaps {
			add(&KeepCaps{On: true}, "keep-caps")
		}
		add(&Setresuid{UID: *uid}, "setuid")
	}
	if keepCaps {
		all := abi.CapSet(1)<<(host.LastCap+1) - 1
		add(&Capset{Effective: all, Permitted: all, Inheritable: all}, "keep-caps")
		add(&Ambient{Caps: all}, "keep-caps")
	}
}

// searchEnv gives the directories of PATH in env, for a name without a slash.
func searchEnv(name string, env []string) []string {
	if strings.Contains(name, "/") || name == "" {
		return nil
	}
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			return strings.Split(v, ":")
		}
	}
	return []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
}

// EnterOptions are those of nsenter(1), as values.
type EnterOptions struct {
	Join []JoinNamespace
	Fork bool // after a pid namespace was joined
	// Root and Wd are directories of the host's view, such as /proc/PID/root; empty
	// leaves what joining the mount namespace gives.
	Root, Wd string
	WdInside string // a directory as it is named inside
	SetUID   *uint32
	SetGID   *uint32
	KeepCaps bool

	Args, Env []string
	Because   func(what string) string
}

// A JoinNamespace is a namespace to join, by path.
type JoinNamespace struct {
	NS   abi.Namespace
	Path string
}

// CompileEnter gives the plan of an nsenter(1): a process in namespaces that exist.
func CompileEnter(o EnterOptions, host Facts) (Plan, error) {
	if len(o.Args) == 0 {
		return Plan{}, fmt.Errorf("no command")
	}
	u := &unsharer{o: UnshareOptions{Because: o.Because}, host: host}
	rank := func(j JoinNamespace) int {
		switch j.NS {
		case abi.NSUser:
			return 0
		case abi.NSMount:
			return 8
		case abi.NSPID:
			return 9
		}
		return 1
	}
	joins := slices.Clone(o.Join)
	slices.SortStableFunc(joins, func(a, b JoinNamespace) int { return rank(a) - rank(b) })
	next := regFree
	regs := make([]Reg, len(joins))
	for i, j := range joins {
		regs[i] = next
		u.add(Runtime, &OpenNamespace{NS: j.NS, Path: j.Path, Out: next}, j.NS.String(), nil)
		next++
	}
	wd := next
	if o.Root != "" {
		u.add(Runtime, &OpenFD{Path: o.Root, Flags: abi.OPath, Out: RegRoot}, "root", nil)
	}
	if o.Wd != "" {
		u.add(Runtime, &OpenFD{Path: o.Wd, Flags: abi.OPath, Out: wd}, "wd", nil)
	}
	// A program of the entered container may be anything, this one's name too.
	stub := slices.ContainsFunc(joins, func(j JoinNamespace) bool { return j.NS == abi.NSMount })
	if stub {
		u.add(Runtime, &Stub{}, "", nil)
	}
	u.add(Runtime, &Clone{}, "", nil)
	u.add(Container, &Undumpable{}, "", nil)
	// A user namespace that denies setgroups is joined without the caller's groups; one that
	// the caller may not change groups outside of has root to do it inside.
	user := slices.ContainsFunc(joins, func(j JoinNamespace) bool { return j.NS == abi.NSUser })
	if user && o.SetGID != nil {
		u.add(Container, &Setgroups{Try: true}, "setgid", nil)
	}
	for i, j := range joins {
		u.add(Container, &Setns{NS: j.NS, FD: regs[i]}, j.NS.String(), &NamespaceCheck{NS: j.NS, Path: j.Path})
	}
	if o.Fork && slices.ContainsFunc(joins, func(j JoinNamespace) bool { return j.NS == abi.NSPID }) {
		u.add(Container, &Fork{}, "pid", nil)
	}
	if o.Root != "" {
		u.add(Container, &Chroot{}, "root", nil)
	}
	switch {
	case o.Wd != "":
		u.add(Container, &Fchdir{FD: wd}, "wd", nil)
	case o.WdInside != "":
		u.add(Container, &PlainChdir{Path: o.WdInside}, "wdns", nil)
	}
	endings(func(op Op, part string) {
		if s, ok := op.(*Setgroups); ok {
			s.Try = user
		}
		u.add(Container, op, part, nil)
	}, o.SetUID, o.SetGID, o.KeepCaps, host)
	u.add(Container, &CloseFDs{First: 3}, "", nil)
	u.add(Container, &Sigmask{}, "", nil)
	u.add(Container, &Exec{Args: o.Args, Env: o.Env, Path: searchEnv(o.Args[0], o.Env), Stub: stub}, "command", nil)
	for i := range u.plan.Steps {
		if u.plan.Steps[i].Cause.Reason == "what unshare does" {
			u.plan.Steps[i].Cause.Reason = "what enter does"
		}
	}
	return u.plan, nil
}
