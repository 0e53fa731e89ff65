package plan

import (
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A Borrowed mount is the spec's bind mount at Dest; its source is a path in the mount
// namespace of the file Namespace.
type Borrowed struct{ Dest, Namespace string }

type join struct {
	ns    abi.Namespace
	path  string
	reg   Reg
	cause Cause
}

// namespaces sorts what is to be made from what is to be joined.
func (c *compiler) namespaces() error {
	seen := [8]bool{}
	for i, n := range c.linux.Namespaces {
		field := fmt.Sprintf("linux.namespaces[%d]", i)
		ns, ok := abi.ParseNamespace(string(n.Type))
		if !ok || string(n.Type) != ns.String() {
			return specErr(field+".type", "unknown namespace %q", n.Type)
		}
		if seen[ns] {
			return specErr(field, "a second %s namespace", ns)
		}
		seen[ns] = true
		c.own[ns] = true
		if ns == abi.NSUser {
			c.userNS = true
		}
		if n.Path == "" {
			if ns != abi.NSTime {
				c.fresh = append(c.fresh, ns)
			}
			continue
		}
		reg, err := c.reg()
		if err != nil {
			return err
		}
		j := join{ns: ns, path: n.Path, reg: reg, cause: c.cause(field)}
		c.joins = append(c.joins, j)
		c.outside(&OpenNamespace{NS: ns, Path: n.Path, Out: reg}, j.cause, nil)
	}
	// The user namespace first: to most callers it gives the right to join the others. The pid
	// namespace last: what follows it happens after a fork.
	rank := func(ns abi.Namespace) int {
		switch ns {
		case abi.NSUser:
			return 0
		case abi.NSPID:
			return 9
		}
		return 1
	}
	sort.SliceStable(c.joins, func(i, j int) bool { return rank(c.joins[i].ns) < rank(c.joins[j].ns) })
	sort.Slice(c.fresh, func(i, j int) bool { return c.fresh[i] < c.fresh[j] })
	if len(c.joins) > 0 && c.joins[0].ns == abi.NSUser {
		c.late, c.fresh, c.joined = c.fresh, nil, c.joins[0].reg
	} else if i := slices.Index(c.fresh, abi.NSCgroup); i >= 0 && c.o.Cgroup != nil {
		// Its root is the cgroup of who makes it: the process has to be in its own by then.
		c.fresh, c.late = slices.Delete(c.fresh, i, i+1), []abi.Namespace{abi.NSCgroup}
	}
	c.joinsFirst = len(c.joins) > 0 && slices.Contains(c.fresh, abi.NSUser)
	return c.borrow()
}

// borrow opens the mount namespaces that mounts come from.
func (c *compiler) borrow() error {
	for _, b := range c.o.Borrowed {
		i := slices.IndexFunc(c.spec.Mounts, func(m specs.Mount) bool { return m.Destination == b.Dest })
		if i < 0 {
			continue
		}
		from, err := c.reg()
		if err != nil {
			return err
		}
		if c.trees[i], err = c.reg(); err != nil {
			return err
		}
		cause := c.cause(fmt.Sprintf("mounts[%d]", i))
		c.outside(&OpenNamespace{NS: abi.NSMount, Path: b.Namespace, Out: from}, cause, nil)
		c.borrowed = append(c.borrowed, Step{Op: &BorrowMount{NS: from, Path: c.spec.Mounts[i].Source, Out: c.trees[i]}, Side: Container, Cause: cause})
	}
	return nil
}

func (c *compiler) isNew(ns abi.Namespace) bool {
	return slices.Contains(c.fresh, ns) || slices.Contains(c.late, ns)
}

// inPlace reports whether the root is built where it lies, in a mount namespace that others
// are in: the caller's, or one that is joined.
func (c *compiler) inPlace() bool { return InPlace(c.spec) && !c.o.Joined && c.o.Root == nil }

// InPlace reports whether a container has a root directory of its own but no new mount
// namespace: its root file system is bound to its own place, and is its root by chroot(2).
func InPlace(s *specs.Spec) bool {
	if s.Root == nil || s.Root.Path == "" || path.Clean(s.Root.Path) == "/" {
		return false
	}
	return s.Linux == nil || !slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.MountNamespace && n.Path == ""
	})
}

// builds reports whether the container gets a root file system.
func (c *compiler) builds() bool { return c.isNew(abi.NSMount) || c.inPlace() }

// namespaceCause joins the reasons of all new namespaces.
func (c *compiler) namespaceCause() Cause {
	var reasons []string
	made := false
	for i, n := range c.linux.Namespaces {
		if n.Path != "" || n.Type == specs.TimeNamespace {
			continue // joined, or made by a step of its own
		}
		made = true
		if why := c.cause(fmt.Sprintf("linux.namespaces[%d]", i)).Reason; why != "" && !slices.Contains(reasons, why) {
			reasons = append(reasons, why)
		}
	}
	if !made {
		return because("a process of its own")
	}
	return Cause{Field: "linux.namespaces", Reason: strings.Join(reasons, ", ")}
}

// ids makes the first process and, for a new user namespace, its id maps.
func (c *compiler) ids() error {
	if err := c.makeCgroup(); err != nil {
		return err
	}
	if err := c.prepareNetwork(); err != nil {
		return err
	}
	if c.needsStub() {
		why := because("nothing inside may lead to this program's file")
		if c.o.Wait != "" {
			why = because("a created container waits as a program of one page")
		}
		c.stub = &Stub{Label: c.stubLabel()}
		c.outside(c.stub, why, nil)
	}
	if c.o.Wait != "" {
		why := because("a created container waits for its start")
		c.outside(&OpenFD{Path: c.o.Wait + "/start", Flags: abi.ORdwr, Out: RegStart}, why, nil)
		c.outside(&OpenFD{Path: c.o.Wait + "/started", Flags: abi.ORdwr, Out: RegStarted}, why, nil)
	}
	if a := c.spec.Process.ExecCPUAffinity; a != nil && c.o.Joined {
		// Of the thread that clones: the process is to begin with it, and not in its cgroup, which may allow none of them.
		if err := c.affinity(Runtime, "process.execCPUAffinity.initial", a.Initial); err != nil {
			return err
		}
	}
	if c.joinsFirst {
		c.outside(&Clone{}, because("a process of its own"), nil)
	} else {
		c.outside(&Clone{New: c.fresh}, c.namespaceCause(), newNamespaces(c.fresh))
	}
	c.joinCgroup()
	if err := c.resctrl(); err != nil {
		return err
	}
	if c.joinsFirst {
		// In its own user namespace the process has no right to namespaces that were there before.
		c.openSelf()
		c.setns(c.joins)
		if err := c.showJoined(); err != nil {
			return err
		}
		c.plan.Steps, c.borrowed = append(c.plan.Steps, c.borrowed...), nil
		c.inside(&Unshare{New: c.fresh}, c.namespaceCause(), newNamespaces(c.fresh))
		c.inside(&Sync{From: Container, What: "namespaces made"}, because("its ids are mapped in its user namespace"), nil)
	}
	if !c.isNew(abi.NSUser) {
		return nil
	}
	c.uids, c.gids = mappings(c.linux.UIDMappings), mappings(c.linux.GIDMappings)
	if len(c.uids) == 0 || len(c.gids) == 0 {
		return specErr("linux.uidMappings", "a new user namespace needs uidMappings and gidMappings")
	}
	if c.openForHooks() && (hostID(c.uids, 0) != c.host.UID || hostID(c.gids, 0) != c.host.GID) {
		// ptrace(2), "Ptrace access mode checking": what builds the container has root's ids inside by then, and its memory is of the caller's own user namespace.
		return specErr("hooks.createContainer", "a hook in the container's namespaces can be run by an ordinary user whose own ids are root's inside alone, since the kernel opens them to nobody else: "+
			"leave out what maps others to 0 (linux.uidMappings; --userns keep-id), or do it as root")
	}
	direct := c.host.MapsIDs()
	single := len(c.gids) == 1 && c.gids[0].Size == 1
	if !direct && single {
		c.outside(&DenySetgroups{}, because("the kernel's rule for maps written without privileges"), &SetgroupsCheck{})
	}
	if err := c.idMap(false, c.uids, direct || ownID(c.uids, c.host.UID), c.host.NewUIDMap); err != nil {
		return err
	}
	return c.idMap(true, c.gids, direct || ownID(c.gids, c.host.GID), c.host.NewGIDMap)
}

// newNamespaces checks that a process has namespaces that were made for it, if there are any.
func newNamespaces(list []abi.Namespace) Check {
	if len(list) == 0 {
		return nil
	}
	return &NewNamespacesCheck{New: list}
}

// joinOf is the namespace of a kind that is joined, if there is one.
func (c *compiler) joinOf(ns abi.Namespace) Reg {
	for _, j := range c.joins {
		if j.ns == ns {
			return j.reg
		}
	}
	return RegNone
}

// setns joins namespaces.
func (c *compiler) setns(list []join) {
	for _, j := range list {
		c.inside(&Setns{NS: j.ns, FD: j.reg}, j.cause, &NamespaceCheck{NS: j.ns, Path: j.path})
	}
}

// needsStub reports whether the container's ids, or those of who is in its pid namespace, could write to this program's
// file: where they are the host's, or those of a caller who may own it. One that waits
// for its start needs it, too: it is small.
func (c *compiler) needsStub() bool {
	return !c.userNS || c.amongOthers() || !c.host.Privileged() || c.o.Wait != ""
}

// amongOthers reports whether a container with a user namespace of its own is made in a pid namespace that may be of one above it: who is
// there already may have rights over it.
func (c *compiler) amongOthers() bool {
	return c.joinsFirst && c.joinOf(abi.NSPID) != RegNone
}

// ownID reports whether m maps just the caller's own id, which anyone may.
func ownID(m []IDMapping, id uint32) bool {
	return len(m) == 1 && m[0].Size == 1 && m[0].Outside == id
}

func mappings(list []specs.LinuxIDMapping) []IDMapping {
	out := make([]IDMapping, len(list))
	for i, m := range list {
		out[i] = IDMapping{Inside: m.ContainerID, Outside: m.HostID, Size: m.Size}
	}
	return out
}

func (c *compiler) idMap(group bool, m []IDMapping, direct bool, helper string) error {
	field, check := "linux.uidMappings", &IDMapCheck{Group: group, Map: m}
	program := "newuidmap"
	if group {
		field, program = "linux.gidMappings", "newgidmap"
	}
	switch {
	case direct:
		c.outside(&WriteIDMap{Group: group, Map: m}, c.cause(field), check)
	case helper != "":
		c.outside(&HelperIDMap{Group: group, Program: helper, Map: m}, c.cause(field), check)
	default:
		return specErr(field, "mapping %s needs privileges, or %s (Debian: package uidmap), which is not installed", mapText(m, ", "), program)
	}
	return nil
}

// enter makes the child what it has to be before it can build: in the joined
// namespaces, out of reach, and root of its user namespace.
func (c *compiler) enter() error {
	if slices.Contains(c.fresh, abi.NSNetwork) {
		c.connect()
	}
	c.openFirst()
	if err := c.intoNamespaces(); err != nil {
		return err
	}
	c.apart()
	if err := c.netDevices(); err != nil {
		return err
	}
	c.connected()
	if c.isNew(abi.NSNetwork) {
		c.inside(&LoopbackUp{}, because("a new network namespace starts with loopback down"), &NetDeviceCheck{Name: "lo", Up: true})
	}
	return c.parameters()
}

func (c *compiler) openSelf() {
	c.inside(&OpenSelf{}, because("files of /proc/self that are needed later"), nil)
}

// openFirst does what is not possible any more once a namespace is joined.
func (c *compiler) openFirst() {
	if !c.joinsFirst {
		c.openSelf()
	}
	if c.selinux() && !c.o.NoNewKeyring {
		// The domain that the program is in may not use keys of the runtime's.
		c.inside(&KeyLabel{Label: c.spec.Process.SelinuxLabel}, c.cause("process.selinuxLabel"), nil)
	}
	if c.o.Joined {
		if c.o.Chroot != "" {
			// By the caller's /proc.
			c.inside(&OpenRoot{Path: c.o.Chroot}, because("the container's root is no mount namespace's"), nil)
		}
		if c.labelled() {
			// Before the container's mount namespace is joined.
			c.inside(&OpenProc{}, because("labels are written past the container's own /proc"), nil)
		}
	}
	if p := c.spec.Process.OOMScoreAdj; p != nil {
		c.inside(&OOMScoreAdj{Value: *p}, c.cause("process.oomScoreAdj"), &OOMCheck{Value: *p})
	}
}

// intoNamespaces brings the child into all of its namespaces. The order is the kernel's: who is in the user namespace has rights over those that it
// owns only.
func (c *compiler) intoNamespaces() error {
	joins := c.joins
	if c.joinsFirst {
		joins = nil
	}
	if c.joined != RegNone {
		if c.host.Caps.Has(abi.CapSysAdmin) && c.host.Caps.Has(abi.CapSysChroot) {
			// Where the caller has the right to all of them, they may belong to another user namespace than the
			// one to be joined, which gives no right to those then.
			c.setns(joins[1:])
			joins = joins[:1]
		}
		// It is to own the time namespace, too.
		c.setns(joins[:1])
		joins = joins[1:]
	}
	if err := c.timeNamespace(); err != nil {
		return err
	}
	if !c.openForHooks() {
		c.undumpable()
	}
	c.setns(joins)
	if len(c.late) > 0 {
		c.inside(&Unshare{New: c.late}, c.namespaceCause(), &NewNamespacesCheck{New: c.late})
	}
	if c.joined != RegNone {
		if c.host.Chroot && c.isNew(abi.NSMount) && !c.inPlace() {
			if err := c.leaveChroot(); err != nil {
				return err
			}
		}
		if err := c.openSources(false); err != nil {
			return err
		}
	}
	// Before a fork, whose /proc/self is another.
	c.plan.Steps = append(c.plan.Steps, c.borrowed...)
	if c.forks() && !c.stubForks {
		c.settle()
		c.inside(&Fork{}, because("a pid namespace holds only processes made after it was entered"), nil)
	}
	return nil
}

// settle has the container's side wait before its fork for what the runtime's has begun, such as to connect its network: that finds the process by its number, and the one
// that forks ends.
func (c *compiler) settle() {
	for _, s := range slices.Backward(c.plan.Steps) {
		switch op := s.Op.(type) {
		case *Clone:
			return
		case *Sync:
			if op.From == Runtime {
				return
			}
		}
		if s.Side == Runtime {
			c.outside(&Sync{From: Runtime, What: connectedWord}, because("the process that forks is needed until then"), nil)
			c.connecting = false
			return
		}
	}
}

// apart takes from the child what it has of its caller: ids, file mode mask, session, ignored signals, keys.
func (c *compiler) apart() {
	if !c.o.NoNewKeyring {
		// Of the caller's quota, and before the ids change: who has the container's cannot have used that up.
		c.inside(&Keyring{}, because("default: no keys of the caller"), nil)
	}
	if c.userNS {
		root := because("root of the container's user namespace builds the rest")
		c.inside(&Setresgid{}, root, nil)
		c.inside(&Setresuid{}, root, nil)
	}
	if c.builds() {
		c.inside(&Umask{}, because("what is made in the root has the mode it is to have"), nil)
	}
	c.inside(&Setsid{}, because("default: a session of its own"), &SessionCheck{})
	// The Go runtime leaves these ignored where it finds them so, and handles the others: the first two on purpose, those of a terminal's jobs because it
	// has no use for them, and three that libraries of C have for themselves.
	c.inside(&DefaultSignals{Signals: []abi.Signal{abi.SIGHUP, abi.SIGINT, abi.SIGCONT, abi.SIGTSTP, abi.SIGTTIN, abi.SIGTTOU, abi.SIGRTMIN - 2, abi.SIGRTMIN - 1, abi.SIGRTMIN}}, because("default: no signal that the caller ignores is ignored inside"), nil)
}

// parameters sets the kernel parameters and names of the container's namespaces.
func (c *compiler) parameters() error {
	switch {
	case len(c.linux.Sysctl) > 0:
		c.inside(&OpenProc{New: c.host.SysCovered}, because("kernel parameters are written past the container's own /proc"), nil)
	case c.labelled() && !c.o.Joined:
		c.inside(&OpenProc{}, because("labels are written past the container's own /proc"), nil)
	}
	for _, k := range sortedKeys(c.linux.Sysctl) {
		c.inside(&Sysctl{Key: k, Value: c.linux.Sysctl[k]}, c.cause("linux.sysctl."+k), &SysctlCheck{Key: k, Value: c.linux.Sysctl[k]})
	}
	if h := c.spec.Hostname; h != "" {
		if !c.own[abi.NSUTS] {
			return specErr("hostname", "%q needs a uts namespace", h)
		}
		c.inside(&Hostname{Host: h}, c.cause("hostname"), &HostnameCheck{Value: h})
	}
	if d := c.spec.Domainname; d != "" {
		if !c.own[abi.NSUTS] {
			return specErr("domainname", "%q needs a uts namespace", d)
		}
		c.inside(&Domainname{Domain: d}, c.cause("domainname"), &HostnameCheck{Domain: true, Value: d})
	}
	return nil
}

// forks reports whether a copy of the process goes on in its place.
func (c *compiler) forks() bool {
	unshared := c.late
	if c.joinsFirst {
		unshared = c.fresh
	}
	return slices.Contains(unshared, abi.NSPID) || c.joinOf(abi.NSPID) != RegNone
}

// mayFork finds out whether the stub makes the process that goes on in the pid namespace of a container whose ids are the caller's. There who has CAP_SYS_PTRACE could
// take over a process that has all of the caller's rights still, and open this program by its /proc/PID/exe, to write to it later (CVE-2019-5736). With a
// user namespace that owns the other the kernel lets nobody inside look into this program's memory.
func (c *compiler) mayFork() error {
	if c.userNS && !c.amongOthers() || !c.forks() || !c.o.Joined && !c.buildsOutside() {
		return nil
	}
	if s := c.spec.Process.Scheduler; s != nil && (s.Policy == specs.SchedDeadline || len(s.Flags) > 0) {
		return nil // a copy might not have it: sched(7)
	}
	if c.spec.Process.User.UID != 0 && slices.ContainsFunc(c.spec.Process.Rlimits, func(l specs.POSIXRlimit) bool { return l.Type == "RLIMIT_NPROC" }) {
		return nil // for a moment that user would have one process more than with the other way
	}
	filter, err := c.filter()
	if err != nil {
		return err
	}
	c.stubForks = filter == nil || filter.Notify == RegNone && (c.stubFilters || c.filterTakesFork())
	return nil
}

// filterTakesFork reports whether the filter lets the calls through by which the stub forks. Of the flags of clone profiles want to know.
func (c *compiler) filterTakesFork() bool {
	return c.takesWith("clone", abi.CloneParent|uint64(abi.SIGCHLD)) && c.takes("write") && c.takes("exit_group") && c.takes("read") && c.takes("setsid") &&
		(!c.spec.Process.Terminal || c.takesWith("ioctl", 0, tiocsctty)) &&
		(!c.o.Foreground || c.takesWith("prctl", abi.PRSetPdeathsig, uint64(abi.SIGKILL))) && (c.o.Wait == "" || c.takes("close"))
}

// buildsOutside reports whether the container can be built by a process that is not in its pid namespace: its own procfs is mounted from outside, nothing is looked up by
// the links there that lead to who looks, and nobody is told of a process that ends before the container runs.
func (c *compiler) buildsOutside() bool {
	return !c.hooked() && !(c.o.Init && c.o.Wait != "") && !ofSelf(c.spec.Process.Cwd) && !slices.ContainsFunc(c.spec.Mounts, func(m specs.Mount) bool {
		source, inside := c.insideRoot(m.Source)
		return m.Type == "proc" && !c.host.ProcPIDNS || ofSelf(m.Destination) || inside && ofSelf(source)
	})
}

// ofSelf reports whether a path of the container leads by a link of procfs to the process that looks it up. Those that are masked or read-only may have no link.
func ofSelf(p string) bool {
	parts := components(p)
	return len(parts) > 1 && parts[0] == "proc" && slices.Contains([]string{"self", "thread-self", "net", "mounts"}, parts[1])
}

func (c *compiler) timeNamespace() error {
	for i, n := range c.linux.Namespaces {
		if n.Type != specs.TimeNamespace || n.Path != "" {
			continue
		}
		// An init makes no execve, and has to enter it before.
		e := &EnterTime{OnExec: c.host.TimeOnExec && !c.o.Init}
		for _, clock := range sortedKeys(c.linux.TimeOffsets) {
			off := c.linux.TimeOffsets[clock]
			ns := off.Secs*1e9 + int64(off.Nanosecs)
			if limit := int64(1<<63-1) / 1e9; off.Secs >= limit || off.Secs <= -limit {
				return specErr("linux.timeOffsets."+clock, "%d seconds are more than 292 years", off.Secs)
			}
			switch clock {
			case "boottime":
				e.Boottime = ns
			case "monotonic":
				e.Monotonic = ns
			default:
				return specErr("linux.timeOffsets."+clock, "a time namespace has the clocks monotonic and boottime")
			}
		}
		if c.o.Boottime != 0 {
			e.Boottime = c.o.Boottime
		}
		if c.o.Monotonic != 0 {
			e.Monotonic = c.o.Monotonic
		}
		c.inside(e, c.cause(fmt.Sprintf("linux.namespaces[%d]", i)), &TimeCheck{Boottime: e.Boottime, Monotonic: e.Monotonic})
		return nil
	}
	if len(c.linux.TimeOffsets) > 0 {
		return specErr("linux.timeOffsets", "offsets need a new time namespace")
	}
	return nil
}
