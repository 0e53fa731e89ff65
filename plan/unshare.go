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

	Boottime, Monotonic int64      // nanoseconds, of a new time namespace
	KillChild           abi.Signal // sent to the command when the caller ends; 0 is none

	// Owner is who makes the user namespace, and so owns it; nil is the caller.
	Owner *Owner
	// Binfmt is where to mount a binfmt_misc, empty for nowhere; Interp is what to register
	// there: "binfmt_misc" in the kernel's admin guide.
	Binfmt, Interp string

	File      string // the program, where Args[0] is another name
	Args, Env []string
	Signals   Sigmask                  // as the caller has them
	Because   func(what string) string // the flag behind a part: "pid", "mount-proc"
}

// An Owner owns a user namespace: the effective ids of the process that makes it.
type Owner struct{ UID, GID uint32 }

// CompileUnshare gives the plan of an unshare(1).
func CompileUnshare(o UnshareOptions, host Facts) (Plan, error) {
	u := &unsharer{tool: tool{verb: "unshare", because: o.Because, host: host}, o: o}
	if len(o.Args) == 0 {
		return Plan{}, errNoCommand
	}
	u.clone()
	if err := u.maps(); err != nil {
		return Plan{}, err
	}
	if err := u.keep(); err != nil {
		return Plan{}, err
	}
	u.add(Runtime, &Sync{From: Runtime, What: "host prepared"}, "", nil)
	if o.Owner != nil && o.Fork && u.has(abi.NSPID) {
		u.add(Container, &Fork{}, "pid", nil)
	}
	u.child()
	return u.plan, nil
}

// keep binds the namespaces that are to stay, the mount namespace first: the kernel may
// refuse that one, and nothing is to be left then.
func (u *unsharer) keep() error {
	list := slices.Clone(u.o.Keep)
	slices.SortStableFunc(list, func(a, b KeepNamespace) int {
		rank := func(k KeepNamespace) int {
			if k.NS == abi.NSMount {
				return 0
			}
			return 1
		}
		return rank(a) - rank(b)
	})
	for _, k := range list {
		if k.NS == abi.NSPID && !u.o.Fork {
			return fmt.Errorf("a pid namespace without a process cannot be kept at %s: --fork gives it one", k.Path)
		}
		if k.NS != abi.NSTime {
			u.add(Runtime, &k, k.NS.String(), nil)
		}
	}
	return nil
}

type unsharer struct {
	tool
	o UnshareOptions
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
		if flag := u.flag(ns.String()); flag != "" {
			flags = append(flags, flag)
		}
	}
	var check Check
	if len(fresh) > 0 {
		check = &NewNamespacesCheck{New: fresh}
	}
	if u.o.Owner == nil {
		u.add(Runtime, &Clone{New: fresh}, "", check)
	} else {
		u.add(Runtime, &Clone{}, "", nil)
		u.owner(fresh, check)
	}
	if len(flags) > 0 {
		u.plan.Steps[len(u.plan.Steps)-1].Cause = because("%s", strings.Join(flags, " "))
	}
	if u.o.Owner != nil {
		u.add(Container, &Sync{From: Container, What: "namespaces made"}, "owner", nil)
	}
}

// owner has the child become the owner, and make the namespaces itself.
func (u *unsharer) owner(fresh []abi.Namespace, check Check) {
	u.add(Container, &Setgroups{}, "owner", nil)
	u.add(Container, &Setresgid{GID: u.o.Owner.GID}, "owner", nil)
	u.add(Container, &Setresuid{UID: u.o.Owner.UID}, "owner", nil)
	u.add(Container, &Unshare{New: fresh}, "", check)
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
		if err := c.idMap(m.group, m.list, u.host.MapsIDs() || ownID(m.list, m.own), m.helper); err != nil {
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
	u.mounts()
	if o.Wd != "" {
		u.add(Container, &PlainChdir{Path: o.Wd}, "wd", nil)
	}
	u.become(user{uid: o.SetUID, gid: o.SetGID, keepCaps: u.keepCaps()})
	switch {
	case o.KillChild != 0:
		u.dieWithParent(o.KillChild, "kill-child")
	case !o.Fork:
		u.dieWithParent(abi.SIGKILL, "no fork")
	case slices.ContainsFunc(o.Keep, func(k KeepNamespace) bool { return k.NS == abi.NSMount }):
		u.add(Runtime, &Sync{From: Runtime, What: StartWord}, "mount", nil)
	}
	u.exec(o.File, o.Args, o.Env, o.Signals, false)
}

// keepCaps reports whether there are capabilities to keep: those of a new user
// namespace, unless the root in it becomes another user.
func (u *unsharer) keepCaps() bool {
	if !u.o.KeepCaps || !u.has(abi.NSUser) {
		return false
	}
	caller := u.host.UID
	if u.o.Owner != nil {
		caller = u.o.Owner.UID
	}
	for _, m := range u.o.UIDs {
		if m.Inside == 0 && m.Outside == caller {
			return u.o.SetUID == nil || *u.o.SetUID == 0
		}
	}
	return true
}

// binfmtMisc is where binfmt_misc belongs.
const binfmtMisc = "/proc/sys/fs/binfmt_misc"

// mounts changes the root, and mounts what is asked for.
func (u *unsharer) mounts() {
	o := u.o
	// With F the kernel opens the interpreter when it is registered: so outside the new root.
	early := o.Interp != "" && o.Root != "" && strings.Contains(o.Interp[strings.LastIndexByte(o.Interp, ':')+1:], "F")
	if early {
		u.add(Container, &OpenRoot{Path: "/"}, "load-interp", nil)
		u.mount("binfmt_misc", binfmtMisc, "load-interp")
		u.add(Container, &RegisterBinfmt{Dir: binfmtMisc, Interp: o.Interp}, "load-interp", nil)
	}
	root := "/"
	if o.Root != "" {
		root = o.Root
	}
	if o.Root != "" || o.MountProc != "" || o.Binfmt != "" {
		u.add(Container, &OpenRoot{Path: root}, "root", nil)
	}
	if o.Root != "" {
		u.add(Container, &Chroot{}, "root", nil)
	}
	if o.MountProc != "" {
		u.mount("proc", o.MountProc, "mount-proc")
	}
	if o.Binfmt != "" {
		u.mount("binfmt_misc", o.Binfmt, "mount-binfmt")
	}
	if o.Interp != "" && !early {
		u.add(Container, &RegisterBinfmt{Dir: o.Binfmt, Interp: o.Interp}, "load-interp", nil)
	}
}

// mount mounts a file system of the kernel's at a directory that is there; where mounts
// are shared, it is not to show outside.
func (u *unsharer) mount(fstype, dest, part string) {
	if fstype == "proc" && u.o.Root == "" && u.o.Propagation != "" && u.o.Propagation != "private" {
		u.add(Container, &Propagation{Path: dest, Mode: "private", Recursive: true, Try: true}, part, nil)
	}
	attrs := Attrs{Set: abi.MountAttrNosuid | abi.MountAttrNodev | abi.MountAttrNoexec}
	u.add(Container, &Mount{Type: fstype, Source: fstype, Dest: dest, Attrs: attrs, There: true}, part, &MountCheck{Dest: dest, Type: fstype, Set: attrs.Set})
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
