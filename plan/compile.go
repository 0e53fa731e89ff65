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

// Options are what a plan depends on beside its spec and the host.
type Options struct {
	// Bundle is the absolute path that relative root.path and mount sources are below.
	Bundle string
	// Causes gives reasons for fields of the spec: JSON path to flag or default.
	// A path stands for everything below it too.
	Causes map[string]string
	// Root, when set, takes the place of the spec's root.path.
	Root *Root
	// IDMapRoot id-maps the root file system with the container's user namespace, so
	// that ids on disk are the ids inside; mounts have the option idmap for that. It
	// needs privileges.
	IDMapRoot bool
	// RootNodev makes device nodes of the root file system useless.
	RootNodev bool
	// Init leaves an init as pid 1 that reaps and passes signals on.
	Init bool
	// Boottime and Monotonic override the spec's whole seconds, in nanoseconds,
	// when the spec has a new time namespace.
	Boottime, Monotonic int64
	// Cgroup is the container's cgroup, nil for that of the caller.
	Cgroup *Cgroup
	// KeepFDs is how many descriptors above 2 the container gets.
	KeepFDs uint
	// Streams are those of the standard streams that are to be the process's user's.
	Streams []uint32
	// DefaultLimits are the rlimits nobody asked for by name: where the host
	// forbids raising one, it is lowered with a warning.
	DefaultLimits bool
	// Foreground ends the container when the process that launched it ends, and has
	// it wait before execve until the runtime says start.
	Foreground bool
	// Attended has it wait before its execve until the runtime says start, and live on when
	// that ends: its parent is one that another may take the place of.
	Attended bool
	// Wait, when set, is an absolute directory with two FIFOs: the process waits before
	// its execve until it reads a byte from "start", and keeps "started" open until then. It
	// goes on without the runtime.
	Wait string
	// Joined is a process to be made in a container that exists: it may open a
	// terminal in the container's own /dev/pts.
	Joined bool
	// Chroot is the directory that a joined process gets for its root, of a container that has
	// no mount namespace of its own: /proc/PID/root.
	Chroot string
	// AllCPUs lets the process run on all processors of its control group, whatever the
	// caller is bound to.
	AllCPUs bool
	// ID is the container's, which names what it is given beside its plan.
	ID string
	// File is the program where process.args[0] is another name.
	File string
	// InheritFlags leaves a bind mount the flags of its source that none of its options names.
	// Without it a bind with options has those only, as runc's and that of mount(8) have.
	InheritFlags bool
	// NoNewKeyring leaves the caller's session keyring in place.
	NoNewKeyring bool
	// Borrowed are bind mounts of the spec whose source is another mount namespace's.
	Borrowed []Borrowed
	// Subpaths are bind mounts of the spec that show a part of their source only.
	Subpaths []Subpath
	// Keyring is the name of the new session keyring; empty is "_ses.kakuri".
	Keyring string
	// Network connects the container's new network namespace; nil leaves it alone. Causes may
	// have reasons for "network", "network.endpoints[N]" and "network.publish".
	Network *Network
}

// A Borrowed mount is the spec's bind mount at Dest; its source is a path in the mount
// namespace of the file Namespace.
type Borrowed struct{ Dest, Namespace string }

// A Subpath has the spec's bind mount at Dest show what is at Path in the directory that is its source. No link
// is followed there: other containers may write to that directory.
type Subpath struct{ Dest, Path string }

// A Root is made of copy-on-write views of directories of the host.
type Root struct {
	Size   string       // of the writable layers together
	Views  []RootView   // one at "/" is the root; without it the root is an empty tmpfs
	Public bool         // views show no more than what the host lets everybody read
	Links  []Symlink    // made in an empty root
	Hidden []RootHidden // paths of views that are not shown
	Empty  []RootDir    // directories that are empty and writable
	Above  []RootDir    // what the host's directories above hidden and empty ones look like
	Files  []string     // files of the host, shown read-only at their own places
	Layers *Layers      // of an image, in place of all the others
	Reason string
}

// Layers are the root file system of an image's container: layers that nobody writes to, and
// above them what the container writes.
type Layers struct {
	// Lower is a directory of the host: the layer itself, or where the layers Names lie, the topmost
	// first.
	Lower string
	Names []string
	// Upper is a directory of the host with the directories "upper" and "work". Where it is empty, writes
	// stay in memory and end with the container.
	Upper string
	// Volatile leaves it to the kernel when what is written comes to the disk: it is of no
	// use after a power failure.
	Volatile bool
	// Server, when not nil, is who shows all of that in the kernel's place.
	Server *Server
}

// A RootHidden is a path that views do not show, without links in it.
type RootHidden struct{ Path, Reason string }

// A RootDir is an empty directory in place of what a view shows.
type RootDir struct {
	Path     string
	Mode     uint32
	UID, GID uint32
	Mount    bool // it is writable, and a mount, where the root is read-only, too
	Reason   string
}

// A RootView shows the directory Path at Dest.
type RootView struct{ Path, Dest string }

// A SpecError is a spec that cannot be compiled, by the JSON path of its fault.
type SpecError struct {
	Field  string
	Reason string
}

// Error gives the path first.
func (e *SpecError) Error() string { return "config.json: " + e.Field + ": " + e.Reason }

func specErr(field, format string, args ...any) error {
	return &SpecError{Field: oneLine(field), Reason: oneLine(fmt.Sprintf(format, args...))}
}

// Compile turns an OCI runtime-spec configuration into a plan for a host: no
// system call is made, and the same arguments give an equal plan. The error
// is a [*SpecError], or that of the seccomp room.
func Compile(spec *specs.Spec, host Facts, o Options) (Plan, error) {
	if o.Network != nil && o.Network.World && !host.MapsIDs() {
		host = host.InWorld() // of whoever carries it out
	}
	if g := o.Cgroup; g != nil && g.nowhere() {
		o.Cgroup = nil
	}
	c := &compiler{spec: spec, host: host, o: o, next: regFree, trees: map[int]Reg{}, places: map[int]Reg{}, devAt: -1}
	if spec.Process == nil || len(spec.Process.Args) == 0 {
		return Plan{}, specErr("process.args", "there is no command")
	}
	if spec.Linux == nil {
		c.linux = &specs.Linux{}
	} else {
		c.linux = spec.Linux
	}
	for _, part := range []func() error{
		c.unapplied, c.namespaces, c.ids, c.sources, c.enter, c.root, c.mounts, c.devices, c.terminal, c.paths,
		c.hooks, c.pivot, c.limits, c.credentials,
	} {
		if err := part(); err != nil {
			return Plan{}, err
		}
	}
	if n := len(c.plan.Steps); n > maxSteps {
		return Plan{}, specErr("mounts, hooks", "the plan has %d steps, and %d is the most: there are that many mounts, hooks or other lists", n, maxSteps)
	}
	return c.plan, nil
}

// maxSteps bounds a plan: the container's side names a step in 16 bits.
const maxSteps = 65535

// StartWord is what the last [Sync] before execve says.
const StartWord = "start"

// A compiler builds one plan; each method adds the steps of one part.
type compiler struct {
	spec  *specs.Spec
	linux *specs.Linux
	host  Facts
	o     Options
	plan  Plan
	next  Reg

	fresh  []abi.Namespace // to make in the clone
	joins  []join          // to join, user first, pid last
	tasks  []Reg           // by which the process enters its cgroup
	own    [8]bool         // the container has this namespace for itself
	userNS bool            // a user namespace, new or joined
	late   []abi.Namespace // to make by the process itself: it joins the user namespace that owns them first, or its cgroup
	joined Reg             // the joined user namespace
	uids   []IDMapping
	gids   []IDMapping

	borrowed        []Step      // that fetch mounts from other mount namespaces
	trees           map[int]Reg // mounts[i] whose source is a tree that was opened before
	places          map[int]Reg // mounts[i] whose source the runtime's side has opened
	opens           []Step      // of the runtime's side that open sources of trees
	maps            []mapping   // of those trees
	mapped          []mapped    // user namespaces that were made to map mounts
	views           []Reg       // the same for the root's views
	toSend          []Reg
	dev             Reg // /dev made on the runtime's side, with its nodes
	devAt           int // mounts[devAt] is that /dev, if any
	hasPts          bool
	readonlyDev     Cause // of a /dev that is read-only in the end
	hasProc, hasSys bool  // their mounts are kept in registers
	connecting      bool  // the runtime's side connects the network namespace, and the container's has not waited for it

	mounted map[string]int // destinations of mounts made so far, and the order of the last one at each, from 1
	order   int
}

// A mapping is a tree that the container's side opens and the runtime's side id-maps.
type mapping struct {
	open  OpenTree
	by    IDMapTree
	cause Cause
	ns    func() (Reg, error) // of by, which is made when its turn comes: nil is by's own
}

// mapped is a user namespace that was made for mounts.
type mapped struct {
	uids, gids []IDMapping
	ns         Reg
}

type join struct {
	ns    abi.Namespace
	path  string
	reg   Reg
	cause Cause
}

// cause finds the reason of a field: its own, or that of a path above it.
func (c *compiler) cause(field string) Cause {
	for p := field; p != ""; p = p[:max(strings.LastIndexAny(p, ".["), 0)] {
		if why, ok := c.o.Causes[p]; ok {
			return Cause{Field: field, Reason: why}
		}
	}
	return Cause{Field: field}
}

func because(format string, args ...any) Cause { return Cause{Reason: fmt.Sprintf(format, args...)} }

func (c *compiler) add(side Side, op Op, cause Cause, check Check) {
	c.plan.Steps = append(c.plan.Steps, Step{Op: op, Side: side, Cause: cause, Check: check})
}

func (c *compiler) host1(op Op, cause Cause, check Check) { c.add(Runtime, op, cause, check) }
func (c *compiler) inside(op Op, cause Cause, check Check) {
	c.add(Container, op, cause, check)
}

func (c *compiler) warn(format string, args ...any) {
	c.plan.Warnings = append(c.plan.Warnings, oneLine(fmt.Sprintf(format, args...)))
}

func (c *compiler) reg() (Reg, error) {
	if c.next >= regTemp {
		return 0, specErr("mounts", "more mounts than there are registers to hold them (%d)", regTemp-regFree)
	}
	c.next++
	return c.next - 1, nil
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
		c.host1(&OpenNamespace{NS: ns, Path: n.Path, Out: reg}, j.cause, nil)
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
		c.host1(&OpenNamespace{NS: abi.NSMount, Path: b.Namespace, Out: from}, cause, nil)
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
	var check Check
	if len(c.fresh) > 0 {
		check = &NewNamespacesCheck{New: c.fresh}
	}
	if c.needsStub() {
		why := because("nothing inside may lead to this program's file")
		if c.o.Wait != "" {
			why = because("a created container waits as a program of one page")
		}
		c.host1(&Stub{Label: c.stubLabel()}, why, nil)
	}
	if c.o.Wait != "" {
		why := because("a created container waits for its start")
		c.host1(&OpenFD{Path: c.o.Wait + "/start", Flags: abi.ORdwr, Out: RegStart}, why, nil)
		c.host1(&OpenFD{Path: c.o.Wait + "/started", Flags: abi.ORdwr, Out: RegStarted}, why, nil)
	}
	if a := c.spec.Process.ExecCPUAffinity; a != nil && c.o.Joined {
		// Of the thread that clones: the process is to begin with it, and not in its cgroup, which may allow none of them.
		if err := c.affinity(Runtime, "process.execCPUAffinity.initial", a.Initial); err != nil {
			return err
		}
	}
	c.host1(&Clone{New: c.fresh}, c.namespaceCause(), check)
	c.joinCgroup()
	if err := c.resctrl(); err != nil {
		return err
	}
	if !c.isNew(abi.NSUser) {
		return nil
	}
	c.uids, c.gids = mappings(c.linux.UIDMappings), mappings(c.linux.GIDMappings)
	if len(c.uids) == 0 || len(c.gids) == 0 {
		return specErr("linux.uidMappings", "a new user namespace needs uidMappings and gidMappings")
	}
	direct := c.host.MapsIDs()
	single := len(c.gids) == 1 && c.gids[0].Size == 1
	if !direct && single {
		c.host1(&DenySetgroups{}, because("the kernel's rule for maps written without privileges"), &SetgroupsCheck{})
	}
	if err := c.idMap(false, c.uids, direct || ownID(c.uids, c.host.UID), c.host.NewUIDMap); err != nil {
		return err
	}
	return c.idMap(true, c.gids, direct || ownID(c.gids, c.host.GID), c.host.NewGIDMap)
}

// needsStub reports whether the container's ids could write to this program's
// file: where they are the host's, or those of a caller who may own it. One that waits
// for its start needs it, too: it is small.
func (c *compiler) needsStub() bool { return !c.userNS || !c.host.Privileged() || c.o.Wait != "" }

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
		c.host1(&WriteIDMap{Group: group, Map: m}, c.cause(field), check)
	case helper != "":
		c.host1(&HelperIDMap{Group: group, Program: helper, Map: m}, c.cause(field), check)
	default:
		return specErr(field, "mapping %s needs privileges, or %s (Debian: package uidmap), which is not installed", mapText(m, ", "), program)
	}
	return nil
}

// sources opens what only the runtime's side can open: id-mapped trees.
func (c *compiler) sources() error {
	if err := c.idMappedSources(); err != nil {
		return err
	}
	if err := c.findDev(); err != nil {
		return err
	}
	if slices.Contains(c.fresh, abi.NSUser) {
		if err := c.openSources(true); err != nil {
			return err
		}
	}
	c.host1(&Sync{From: Runtime, What: c.readyWord(), FDs: c.toSend}, because("the container's side waits until then"), nil)
	if slices.Contains(c.fresh, abi.NSUser) {
		return c.mapTrees()
	}
	return nil
}

func (c *compiler) readyWord() string {
	if c.isNew(abi.NSUser) {
		return "id maps written"
	}
	return "host prepared"
}

func (c *compiler) idMappedSources() error {
	tree := func(t OpenTree, cause Cause) (Reg, error) {
		var err error
		if t.Out, err = c.reg(); err != nil {
			return 0, err
		}
		if c.o.Root == nil || len(c.views) == len(c.o.Root.Views) { // else it is an overlay's, and no mount
			// In a user namespace the kernel gives no mount without those below it.
			if c.locks() && t.Recursive && !ofProc(t.Path) {
				return t.Out, c.mapLocked(t, cause)
			}
		}
		t.IDMap = true
		c.host1(&t, cause, nil)
		c.toSend = append(c.toSend, t.Out)
		return t.Out, nil
	}
	if c.o.IDMapRoot && c.userNS {
		type source struct {
			path      string
			recursive bool
			cause     Cause
		}
		var list []source
		if c.o.Root != nil && c.o.Root.Layers != nil && c.o.Root.Layers.Server != nil {
			// A program has the ids inside for those on the disk.
		} else if c.o.Root != nil && c.o.Root.Layers != nil {
			for _, p := range c.o.Root.Layers.paths() {
				list = append(list, source{p, false, because("%s", c.o.Root.Reason)})
			}
		} else if c.o.Root != nil {
			for _, v := range c.o.Root.Views {
				list = append(list, source{v.Path, false, because("%s", c.o.Root.Reason)})
			}
		} else if c.spec.Root != nil {
			list = append(list, source{c.rootPath(), true, c.cause("root.path")})
		}
		for _, s := range list {
			reg, err := tree(OpenTree{Path: s.path, Recursive: s.recursive, NS: c.joined}, s.cause)
			if err != nil {
				return err
			}
			c.views = append(c.views, reg)
		}
	}
	for i, m := range c.spec.Mounts {
		opts, err := c.parseMount(i, m)
		if err != nil {
			return err
		}
		if _, inside := c.insideRoot(m.Source); !opts.idmap || inside {
			continue
		}
		t := OpenTree{Path: c.source(m.Source), Below: c.subpath(m), Recursive: opts.recursive, IDMapTop: opts.recursive && !opts.ridmap}
		if t.NS, err = c.mappedBy(i, m); err != nil {
			return err
		}
		if c.trees[i], err = tree(t, c.cause(fmt.Sprintf("mounts[%d]", i))); err != nil {
			return err
		}
	}
	return nil
}

// locks reports whether the container's user namespace holds flags of the host's mounts locked
// in the container's mount namespace, and keeps places from it that the caller comes to.
func (c *compiler) locks() bool { return c.isNew(abi.NSMount) && c.userNS && c.host.Privileged() }

// ofProc tells paths of /proc, which are left to the container's side: one may be a link to what
// its own process has, which nothing but the kernel can follow.
func ofProc(p string) bool { return p == "/proc" || strings.HasPrefix(p, "/proc/") }

// mapLocked has a tree opened in the container's mount namespace, so that locked flags stay
// locked, and mapped then.
func (c *compiler) mapLocked(t OpenTree, cause Cause) error {
	place, err := c.reg()
	if err != nil {
		return err
	}
	c.opens = append(c.opens, Step{Op: &OpenSource{Path: t.Path, Below: t.Below, Out: place}, Cause: cause})
	c.maps = append(c.maps, mapping{
		open: OpenTree{From: place, Path: t.Path, Below: t.Below, Recursive: t.Recursive, Out: t.Out},
		by:   IDMapTree{Tree: t.Out, NS: t.NS, Recursive: t.Recursive && !t.IDMapTop}, cause: cause,
	})
	return nil
}

// mapTrees has the container's side open trees and the runtime's side map them, which has the
// right to that.
func (c *compiler) mapTrees() error {
	if len(c.maps) == 0 {
		return nil
	}
	why := because("only the caller may id-map")
	var trees []Reg
	for _, m := range c.maps {
		c.inside(&m.open, m.cause, nil)
		trees = append(trees, m.open.Out)
	}
	c.add(Container, &Sync{From: Container, What: "trees opened", FDs: trees}, why, nil)
	for _, m := range c.maps {
		if m.ns != nil {
			var err error
			if m.by.NS, err = m.ns(); err != nil {
				return err
			}
		}
		c.host1(&m.by, m.cause, nil)
	}
	c.host1(&Sync{From: Runtime, What: "id-mapped"}, why, nil)
	c.maps = nil
	return nil
}

// openSources opens the sources of bind mounts that a container with a user namespace has.
func (c *compiler) openSources(child bool) error {
	if !c.locks() {
		return nil
	}
	ops := c.opens
	for i, m := range c.spec.Mounts {
		o, err := c.parseMount(i, m)
		if err != nil {
			return err
		}
		source := c.source(m.Source)
		_, inside := c.insideRoot(m.Source)
		if !o.bind || o.remount || o.idmap || inside || c.trees[i] != RegNone || ofProc(source) {
			continue
		}
		if c.places[i], err = c.reg(); err != nil {
			return err
		}
		ops = append(ops, Step{Op: &OpenSource{Path: source, Below: c.subpath(m), Out: c.places[i]}, Cause: c.cause(fmt.Sprintf("mounts[%d]", i))})
	}
	if len(ops) == 0 {
		return nil
	}
	why := because("root of a user namespace may not come to every source")
	if child {
		c.host1(&OpenHost{Child: true}, why, nil)
	} else {
		c.inside(&OpenHost{}, why, nil)
		c.add(Container, &Sync{From: Container, What: "mount namespace made", FDs: []Reg{RegHost}}, why, nil)
	}
	var places []Reg
	for _, s := range ops {
		c.host1(s.Op, s.Cause, nil)
		places = append(places, s.Op.(*OpenSource).Out)
	}
	if child {
		c.toSend = append(c.toSend, places...)
		return nil
	}
	c.host1(&Sync{From: Runtime, What: "sources opened", FDs: places}, why, nil)
	return c.mapTrees()
}

// insideRoot gives a path of the host as one of the container, where it is below root.path:
// what mounts before have put there is meant, and links lead where they lead inside.
func (c *compiler) insideRoot(p string) (string, bool) {
	// An id-mapped root could not be mapped once more.
	if c.o.Root != nil || c.o.IDMapRoot || c.spec.Root == nil || !c.builds() {
		return "", false
	}
	root := c.rootPath()
	if p = c.source(p); root == "/" || (p != root && !strings.HasPrefix(p, root+"/")) {
		return "", false
	}
	return path.Clean("/" + strings.TrimPrefix(p, root)), true
}

// mappedBy gives the user namespace that has the mappings of a mount; none is the container's new one.
func (c *compiler) mappedBy(i int, m specs.Mount) (Reg, error) {
	if len(m.UIDMappings) == 0 {
		return c.joined, nil
	}
	uids, gids := mappings(m.UIDMappings), mappings(m.GIDMappings)
	for _, have := range c.mapped {
		if slices.Equal(have.uids, uids) && slices.Equal(have.gids, gids) {
			return have.ns, nil
		}
	}
	ns, err := c.reg()
	if err != nil {
		return 0, err
	}
	c.host1(&NewUserNamespace{UIDs: uids, GIDs: gids, Out: ns}, c.cause(fmt.Sprintf("mounts[%d].uidMappings", i)), nil)
	c.mapped = append(c.mapped, mapped{uids, gids, ns})
	return ns, nil
}

func (c *compiler) rootPath() string { return c.source(c.spec.Root.Path) }

// fits refuses a path of the container that no system call would take (PATH_MAX):
// its directories are made one by one.
func fits(field, p string) error {
	if len(p) > 4095 {
		return specErr(field, "a path has at most 4095 bytes, this one has %d", len(p))
	}
	return nil
}

// source makes a path of the host absolute.
func (c *compiler) source(p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join(c.o.Bundle, p)
}

// enter makes the child what it has to be before it can build: in the joined
// namespaces, out of reach, and root of its user namespace.
func (c *compiler) enter() error {
	if slices.Contains(c.fresh, abi.NSNetwork) {
		c.connect()
	}
	c.inside(&OpenSelf{}, because("files of /proc/self that are needed later"), nil)
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
	setns := func(list []join) {
		for _, j := range list {
			c.inside(&Setns{NS: j.ns, FD: j.reg}, j.cause, &NamespaceCheck{NS: j.ns, Path: j.path})
		}
	}
	joins := c.joins
	if c.joined != RegNone {
		if c.host.Caps.Has(abi.CapSysAdmin) && c.host.Caps.Has(abi.CapSysChroot) {
			// Where the caller has the right to all of them, they may belong to another user namespace than the
			// one to be joined, which gives no right to those then.
			setns(joins[1:])
			joins = joins[:1]
		}
		// It is to own the time namespace, too.
		setns(joins[:1])
		joins = joins[1:]
	}
	if err := c.timeNamespace(); err != nil {
		return err
	}
	if !c.openForHooks() {
		c.undumpable()
	}
	setns(joins)
	if len(c.late) > 0 {
		c.inside(&Unshare{New: c.late}, c.namespaceCause(), &NewNamespacesCheck{New: c.late})
	}
	if c.joined != RegNone {
		if err := c.openSources(false); err != nil {
			return err
		}
	}
	// Before a fork, whose /proc/self is another.
	c.plan.Steps = append(c.plan.Steps, c.borrowed...)
	if c.forks() {
		c.inside(&Fork{}, because("a pid namespace holds only processes made after it was entered"), nil)
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
	// The Go runtime leaves these two ignored where it finds them so, and handles the others.
	c.inside(&DefaultSignals{Signals: []abi.Signal{abi.SIGHUP, abi.SIGINT}}, because("default: no signal that the caller ignores is ignored inside"), nil)
	if !c.o.NoNewKeyring {
		ring := c.o.Keyring
		if ring == "" {
			ring = "_ses.kakuri"
		}
		c.inside(&Keyring{Ring: ring}, because("default: no keys of the caller"), nil)
	}
	if err := c.netDevices(); err != nil {
		return err
	}
	c.connected()
	if c.isNew(abi.NSNetwork) {
		c.inside(&LoopbackUp{}, because("a new network namespace starts with loopback down"), &NetDeviceCheck{Name: "lo", Up: true})
	}
	switch {
	case len(c.linux.Sysctl) > 0:
		c.inside(&OpenProc{}, because("kernel parameters are written past the container's own /proc"), nil)
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
	return slices.Contains(c.late, abi.NSPID) || slices.ContainsFunc(c.joins, func(j join) bool { return j.ns == abi.NSPID })
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

// root attaches the root file system over "/" of the container's mount namespace.
func (c *compiler) root() error {
	if c.inPlace() {
		if c.isNew(abi.NSUser) {
			return specErr("root.path", "a root of its own in a new user namespace needs a new mount namespace: nothing can be mounted in another")
		}
		c.inside(&OpenNull{}, because("masks of files need the host's null device"), nil)
		op := &AttachRoot{Path: c.rootPath(), Nodev: c.o.RootNodev, InPlace: true, Private: true}
		if len(c.views) > 0 {
			op.Tree = c.views[0]
		}
		c.inside(op, c.cause("root.path"), nil)
		return nil
	}
	if !c.isNew(abi.NSMount) {
		if c.o.Chroot != "" {
			c.inside(&Chroot{}, because("the container's root is no mount namespace's"), nil)
		}
		return nil
	}
	mode := "slave"
	if p := strings.TrimPrefix(c.linux.RootfsPropagation, "r"); p == "private" || p == "unbindable" {
		mode = "private"
	}
	c.inside(&Propagation{Path: "/", Mode: mode, Recursive: true}, because("no mount made inside reaches the host"), nil)
	c.inside(&OpenNull{}, because("masks of files need the host's null device"), nil)
	if c.o.Root != nil && c.o.Root.Layers != nil {
		return c.imageRoot(c.o.Root)
	}
	if c.o.Root != nil {
		return c.viewRoot(c.o.Root)
	}
	if c.spec.Root == nil || c.spec.Root.Path == "" {
		return specErr("root.path", "a container needs a root file system")
	}
	op := &AttachRoot{Path: c.rootPath()}
	if len(c.views) > 0 {
		op = &AttachRoot{Tree: c.views[0], Path: op.Path}
	}
	// Hooks that enter the mount namespace look for the root where the bundle has it.
	op.Nodev, op.InPlace = c.o.RootNodev, c.hooked()
	c.inside(op, c.cause("root.path"), &RootCheck{})
	return nil
}

// paths are the directories of the host that layers are made of.
func (l *Layers) paths() []string {
	if l.Upper == "" {
		return []string{l.Lower}
	}
	return []string{l.Lower, l.Upper}
}

// imageRoot lays what the container writes over the layers of its image.
func (c *compiler) imageRoot(r *Root) error {
	cause, l := because("%s", r.Reason), r.Layers
	if len(l.Names) > maxLayers {
		return specErr("root", "an image of %d layers: an overlay of directories has at most %d", len(l.Names), maxLayers)
	}
	if l.Server != nil {
		return c.servedRoot(l.Server, cause)
	}
	for i, p := range l.paths() {
		if i < len(c.views) {
			continue // opened, and id-mapped, on the runtime's side
		}
		reg, err := c.reg()
		if err != nil {
			return err
		}
		c.views = append(c.views, reg)
		c.inside(&OpenTree{Path: p, Out: reg}, cause, nil)
	}
	op := &ImageRoot{Lower: c.views[0], LowerPath: l.Lower, Names: l.Names, UpperPath: l.Upper, Volatile: l.Volatile, Nodev: c.o.RootNodev}
	size, why := r.Size, because("where the layers are put together")
	if l.Upper != "" {
		op.Upper, size = c.views[1], "1m"
	} else {
		why = because("writes stay in memory, and end with the container")
	}
	c.inside(&Scratch{Size: size}, why, nil)
	c.inside(op, cause, &RootCheck{})
	return nil
}

// servedRoot has a program show the layers.
func (c *compiler) servedRoot(s *Server, cause Cause) error {
	asks, err := c.reg()
	if err != nil {
		return err
	}
	c.inside(&MountFUSE{Subtype: s.Program[strings.LastIndexByte(s.Program, '/')+1:], Nodev: c.o.RootNodev, Out: asks}, cause, nil)
	c.inside(&Sync{From: Container, What: "root mounted", FDs: []Reg{asks}}, cause, nil)
	c.host1(&ServeRoot{Server: *s, FD: asks}, cause, nil)
	c.inside(&AttachFUSE{FD: asks}, cause, &RootCheck{})
	return nil
}

func (c *compiler) viewRoot(r *Root) error {
	cause := because("%s", r.Reason)
	c.inside(&Scratch{Size: r.Size}, because("writes stay in memory, and end with the container"), nil)
	check := &RootCheck{}
	if len(r.Views) == 0 || r.Views[0].Dest != "/" {
		c.inside(&EmptyRoot{}, cause, check)
	}
	for i, v := range r.Views {
		op := &Overlay{N: i, Path: v.Path, Dest: v.Dest, Nodev: c.o.RootNodev}
		if i < len(c.views) {
			op.Tree = c.views[i]
		}
		op.Hide = c.layers(r, i)
		if r.Public {
			c.inside(&PublicLayer{N: i, Tree: op.Tree, Path: v.Path}, because("%s: what others may not read on the host is not shown", r.Reason), nil)
			op.Tree, op.Public = RegNone, true
		}
		if v.Dest == "/" {
			c.inside(op, cause, check)
		} else {
			c.inside(op, cause, &MountCheck{Dest: v.Dest, Type: "overlay"})
		}
	}
	for _, l := range r.Links {
		c.inside(&l, cause, &LinkCheck{Path: l.Path, Target: l.Target})
	}
	for _, f := range r.Files {
		c.inside(&Bind{Source: f, Dest: f, Attrs: Attrs{Set: abi.MountAttrRdonly}}, cause, &MountCheck{Dest: f, Set: abi.MountAttrRdonly})
	}
	set := uint64(abi.MountAttrNosuid | abi.MountAttrNodev)
	for i, d := range r.Empty {
		if !d.Mount && r.view(d.Path) >= 0 {
			continue // a directory of a layer
		}
		c.inside(&EmptyDir{N: i, Path: d.Path, Mode: d.Mode}, because("%s", d.Reason), &MountCheck{Dest: d.Path, Type: "tmpfs", Set: set})
	}
	return nil
}

// view finds the view that shows p, -1 where none does.
func (r *Root) view(p string) int {
	found := -1
	for i, v := range r.Views {
		if (v.Dest == "/" || strings.HasPrefix(p, v.Dest+"/")) && p != v.Dest && (found < 0 || len(v.Dest) > len(r.Views[found].Dest)) {
			found = i
		}
	}
	return found
}

// layers makes what lies over the lower layer of a view: whiteouts of what is hidden,
// in a layer of its own (so that a directory made inside needs no mark of being new,
// which a tmpfs before Linux 6.6 could not keep), and empty directories in the upper one. It
// tells whether there is a layer of whiteouts.
func (c *compiler) layers(r *Root, n int) (hides bool) {
	hide, upper := fmt.Sprintf("hide%d", n), fmt.Sprintf("upper%d", n)
	made := map[string]bool{}
	dir := func(layer string, d RootDir) {
		if made[layer+d.Path] {
			return
		}
		made[layer+d.Path] = true
		c.inside(&LayerDir{Layer: layer, Path: d.Path, Mode: d.Mode, UID: d.UID, GID: d.GID}, because("%s", d.Reason), nil)
	}
	// above makes the directories from the view's own to that of p, as the host has them.
	above := func(layer, p string) string {
		dir(layer, RootDir{Path: "/", Mode: 0o755, Reason: r.Reason})
		rel := strings.TrimPrefix(p, strings.TrimSuffix(r.Views[n].Dest, "/"))
		for i, ch := range rel {
			if i == 0 || ch != '/' {
				continue
			}
			d := RootDir{Mode: 0o755}
			if k := slices.IndexFunc(r.Above, func(d RootDir) bool { return d.Path == p[:len(p)-len(rel)+i] }); k >= 0 {
				d = r.Above[k]
			}
			d.Path, d.Reason = rel[:i], r.Reason
			if layer == hide && r.Public {
				// overlayfs looks for marks of its own on it, as one of the others. Who may
				// not enter the host's directory still finds nothing in it.
				d.Mode |= 0o005
			}
			dir(layer, d)
		}
		return rel
	}
	for i, h := range r.Hidden {
		within := func(o RootHidden) bool { return strings.HasPrefix(h.Path, o.Path+"/") && r.view(o.Path) == n }
		if r.view(h.Path) != n || slices.ContainsFunc(r.Hidden[:i], func(o RootHidden) bool { return o.Path == h.Path }) || slices.ContainsFunc(r.Hidden, within) {
			continue
		}
		hides = true
		c.inside(&Whiteout{Layer: hide, Path: above(hide, h.Path)}, because("%s", h.Reason), &HiddenCheck{Path: h.Path})
	}
	for _, d := range r.Empty {
		if r.view(d.Path) == n {
			d.Path = above(upper, d.Path)
			dir(upper, d)
		}
	}
	if r.Public && !hides {
		dir(hide, RootDir{Path: "/", Mode: 0o755, Reason: r.Reason})
	}
	return hides
}

// pivot makes the root the root, after all that is built in it.
func (c *compiler) pivot() error {
	if !c.builds() {
		return nil
	}
	if err := fits("process.cwd", c.spec.Process.Cwd); err != nil {
		return err
	}
	if cwd := c.spec.Process.Cwd; cwd != "" && cwd != "/" {
		c.inside(&Workdir{Path: cwd}, c.cause("process.cwd"), nil)
	}
	if c.readonlyDev != (Cause{}) {
		c.inside(&Remount{Dest: "/dev", Attrs: Attrs{Set: abi.MountAttrRdonly}}, c.readonlyDev, &ReadonlyCheck{Path: "/dev"})
	}
	if c.spec.Root != nil && c.spec.Root.Readonly {
		c.inside(&Remount{Dest: "/", Attrs: Attrs{Set: abi.MountAttrRdonly}}, c.cause("root.readonly"), &ReadonlyCheck{Path: "/"})
	}
	if c.inPlace() {
		c.inside(&Chroot{}, because("others are in this mount namespace, and keep their root"), nil)
	} else {
		c.inside(&PivotRoot{Scratch: c.scratch()}, because("the host's files are out of reach from here on"), nil)
	}
	if mode := c.linux.RootfsPropagation; mode == "shared" || mode == "rshared" || mode == "unbindable" || mode == "runbindable" {
		c.inside(&Propagation{Path: "/", Mode: strings.TrimPrefix(mode, "r"), Recursive: mode[0] == 'r'}, c.cause("linux.rootfsPropagation"), &PropagationCheck{Path: "/", Mode: strings.TrimPrefix(mode, "r")})
	}
	return nil
}

// scratch reports whether the root is put together in a file system in memory, which goes away together with the host's.
func (c *compiler) scratch() bool {
	return c.o.Root != nil && (c.o.Root.Layers == nil || c.o.Root.Layers.Server == nil)
}
