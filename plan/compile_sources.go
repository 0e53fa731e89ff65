package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

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
	c.outside(&Sync{From: Runtime, What: c.readyWord(), FDs: c.toSend}, because("the container's side waits until then"), nil)
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

// idMappedSources opens the trees of which the files' ids are the container's: those of its root, and mounts with the option idmap.
func (c *compiler) idMappedSources() error {
	for _, s := range c.rootSources() {
		reg, err := c.mapTree(OpenTree{Path: s.path, Recursive: s.recursive, NS: c.joined}, !s.recursive, false, s.cause)
		if err != nil {
			return err
		}
		c.views = append(c.views, reg)
	}
	for i, m := range c.spec.Mounts {
		opts, err := c.parseMount(i, m)
		if err != nil {
			return err
		}
		_, link := c.link(i, m)
		if _, inside := c.insideRoot(m.Source); !opts.idmap || inside || link {
			continue
		}
		t := OpenTree{Path: c.source(m.Source), Below: c.subpath(m), Recursive: opts.recursive, IDMapTop: opts.recursive && !opts.ridmap}
		if t.NS, err = c.mappedBy(i, m); err != nil {
			return err
		}
		if c.trees[i], err = c.mapTree(t, false, c.shares(opts), c.cause(fmt.Sprintf("mounts[%d]", i))); err != nil {
			return err
		}
	}
	return nil
}

// A rootSource is a tree that the root is made of.
type rootSource struct {
	path      string
	recursive bool
	cause     Cause
}

// rootSources are those whose ids are to be mapped.
func (c *compiler) rootSources() (list []rootSource) {
	if !c.o.IDMapRoot || !c.userNS {
		return nil
	}
	root := c.o.Root
	switch {
	case root == nil && c.spec.Root != nil:
		list = append(list, rootSource{c.rootPath(), true, c.cause("root.path")})
	case root == nil:
	case root.Layers == nil:
		for _, v := range root.Views {
			list = append(list, rootSource{v.Path, false, because("%s", root.Reason)})
		}
	case root.Layers.Server == nil: // else a program has the ids inside for those on the disk
		for _, p := range root.Layers.paths() {
			list = append(list, rootSource{p, false, because("%s", root.Reason)})
		}
	}
	return list
}

// mapTree opens a tree with its ids mapped, by the side that can. A layer is one of an overlay's, and shared one that is to be of its mount's group.
func (c *compiler) mapTree(t OpenTree, layer, shared bool, cause Cause) (_ Reg, err error) {
	if t.Out, err = c.reg(); err != nil {
		return 0, err
	}
	// In a user namespace the kernel gives no mount without those below it. A layer is part of an overlay only, which shows none of them, and
	// flags are locked for those that could change them.
	if c.locks() && (t.Recursive || !layer && c.mayRemount()) && !ofProc(t.Path) {
		c.mapLocked(t, cause)
		return t.Out, nil
	}
	// A clone of a mount is of its group, whoever's namespace it comes to: see [compiler.sharedTrees].
	t.IDMap, t.Slave = true, !shared
	c.outside(&t, cause, nil)
	c.toSend = append(c.toSend, t.Out)
	return t.Out, nil
}

// locks reports whether the container's user namespace holds flags of the host's mounts locked
// in the container's mount namespace, and keeps places from it that the caller comes to.
func (c *compiler) locks() bool { return c.isNew(abi.NSMount) && c.userNS && c.host.Privileged() }

// mayRemount reports whether programs of the container may have what changes a mount's flags takes.
func (c *compiler) mayRemount() bool {
	p := c.spec.Process
	return p == nil || p.Capabilities == nil || mayHave(p.Capabilities).Has(abi.CapSysAdmin)
}

// comesFurther reports whether the caller comes to places that the container's side may not: it is root of the machine, or of a user
// namespace of which the container's own root is another user, as rootless podman is with --userns auto. Whose root a joined one has is not known.
func (c *compiler) comesFurther() bool {
	if !c.isNew(abi.NSMount) || !c.userNS {
		return false
	}
	other := !slices.Contains(c.fresh, abi.NSUser) || hostID(c.uids, 0) != c.host.UID
	return c.host.Privileged() || other && c.host.MapsIDs() && c.host.Caps.Has(abi.CapSysAdmin)
}

// ofProc tells paths of /proc, which are left to the container's side: one may be a link to what
// its own process has, which nothing but the kernel can follow.
func ofProc(p string) bool {
	for name := range strings.SplitSeq(p, "/") {
		if name != "" && name != "." && name != ".." {
			return name == "proc"
		}
	}
	return false
}

// mapLocked has a tree opened in the container's mount namespace, so that locked flags stay
// locked, and mapped then.
func (c *compiler) mapLocked(t OpenTree, cause Cause) {
	place := t.Out // of the one in the other's place
	c.opens = append(c.opens, Step{Op: &OpenSource{Path: t.Path, Below: t.Below, Out: place}, Cause: cause})
	c.maps = append(c.maps, mapping{
		open: OpenTree{From: place, Path: t.Path, Below: t.Below, Recursive: t.Recursive, Out: t.Out},
		by:   IDMapTree{Tree: t.Out, NS: t.NS, Recursive: t.Recursive && !t.IDMapTop}, cause: cause,
	})
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
		c.outside(&m.by, m.cause, nil)
	}
	c.outside(&Sync{From: Runtime, What: "id-mapped"}, why, nil)
	c.maps = nil
	return nil
}

// openSources opens the sources of bind mounts that a container with a user namespace has.
func (c *compiler) openSources(child bool) error {
	if !c.comesFurther() {
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
		if _, link := c.link(i, m); !o.bind || o.remount || inside || link || c.trees[i] != RegNone || ofProc(source) {
			continue
		}
		if c.places[i], err = c.reg(); err != nil {
			return err
		}
		op := c.openSource(m, o, c.places[i])
		ops = append(ops, Step{Op: &op, Cause: c.cause(fmt.Sprintf("mounts[%d]", i))})
	}
	if len(ops) == 0 {
		return nil
	}
	why := because("root of a user namespace may not come to every source")
	if child {
		c.outside(&OpenHost{Child: true}, why, nil)
	} else {
		c.inside(&OpenHost{}, why, nil)
		c.add(Container, &Sync{From: Container, What: "mount namespace made", FDs: []Reg{RegHost}}, why, nil)
	}
	var places []Reg
	for _, s := range ops {
		c.outside(s.Op, s.Cause, nil)
		places = append(places, s.Op.(*OpenSource).Out)
	}
	if child {
		c.toSend = append(c.toSend, places...)
		return nil
	}
	c.outside(&Sync{From: Runtime, What: "sources opened", FDs: places}, why, nil)
	return c.mapTrees()
}

// ownSources has the container's side open what it comes to itself of the host, before the root is attached: the sources of bind mounts, and file systems that are
// made of what is there, such as overlays. Where there are too few registers the last ones are opened in their turn; of sources no link may be on the way then.
func (c *compiler) ownSources() error {
	for i, m := range c.spec.Mounts {
		o, err := c.parseMount(i, m)
		if err != nil {
			return err
		}
		_, inside := c.insideRoot(m.Source)
		_, link := c.link(i, m)
		switch {
		case o.remount || inside || link || c.trees[i] != RegNone || c.places[i] != RegNone:
		case o.bind && c.next < regTemp-spared:
			c.places[i], c.next = c.next, c.next+1
			c.inside(&OpenOwnSource{OpenSource: c.openSource(m, o, c.places[i])}, c.cause(fmt.Sprintf("mounts[%d]", i)), nil)
		case !o.bind && ofHost(m) && c.next < regTemp-spared:
			c.places[i], c.next = c.next, c.next+1
			c.inside(&OpenFS{Type: m.Type, Source: m.Source, Options: c.mountLabel(m.Type, o.data), Out: c.places[i]}, c.cause(fmt.Sprintf("mounts[%d]", i)), nil)
		}
	}
	return nil
}

func (c *compiler) openSource(m specs.Mount, o mountOptions, out Reg) OpenSource {
	return OpenSource{Path: c.source(m.Source), Below: c.subpath(m), Link: o.ofLink, Out: out}
}

// lateSource opens the source of a mount in its turn.
func (c *compiler) lateSource(m specs.Mount, o mountOptions, cause Cause) (_ Reg, err error) {
	if c.turn == RegNone {
		if c.turn, err = c.reg(); err != nil {
			return 0, err
		}
	}
	c.inside(&OpenOwnSource{OpenSource: c.openSource(m, o, c.turn), Late: true}, cause, nil)
	return c.turn, nil
}

// ofHost reports whether a file system is made of what the host has at a path: the source of others is a name alone.
func ofHost(m specs.Mount) bool {
	switch m.Type {
	case "", "tmpfs", "ramfs", "proc", "sysfs", "mqueue", "devpts", "cgroup", "cgroup2", "bpf", "debugfs", "tracefs", "securityfs", "configfs", "hugetlbfs", "binfmt_misc", "fusectl", "pstore", "efivarfs":
		return false
	}
	return m.Type == "overlay" || path.IsAbs(m.Source)
}

// insideRoot gives a path of the host as one of the container, where it is below root.path:
// what mounts before have put there is meant, and links lead where they lead inside.
func (c *compiler) insideRoot(p string) (string, bool) {
	// An id-mapped root could not be mapped once more.
	if c.o.Root != nil || c.o.IDMapRoot || c.spec.Root == nil || !c.builds() {
		return "", false
	}
	root := c.rootPath()
	if p = path.Clean(c.source(p)); root == "/" || (p != root && !strings.HasPrefix(p, root+"/")) {
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
	c.outside(&NewUserNamespace{UIDs: uids, GIDs: gids, Out: ns}, c.cause(fmt.Sprintf("mounts[%d].uidMappings", i)), nil)
	c.mapped = append(c.mapped, mapped{uids, gids, ns})
	return ns, nil
}

// sharedTrees opens what is shared with the host before the container's copies of its mounts are slaves of them: a mount
// made inside below such a bind mount reaches the host, as that asks for in the mount and for the root. In a user namespace of
// its own the kernel has made them slaves before (mount_namespaces(7)), and this process those that it opens itself to id-map them: its root may mount and
// unmount in it, and not what the host has.
func (c *compiler) sharedTrees() error {
	for i, m := range c.spec.Mounts {
		o, err := c.parseMount(i, m)
		if err != nil {
			return err
		}
		_, inside := c.insideRoot(m.Source)
		if !o.bind || o.remount || inside || !c.shares(o) || c.trees[i] != RegNone {
			continue
		}
		if c.trees[i], err = c.reg(); err != nil {
			return err
		}
		c.inside(&OpenTree{Path: c.source(m.Source), Below: c.subpath(m), Recursive: o.recursive, Out: c.trees[i]}, c.cause(fmt.Sprintf("mounts[%d]", i)), nil)
	}
	return nil
}

// mayShowRoot reports whether a source's tree has the place that the container's root is attached to: the host's root directory, by whatever name, which of a path of /proc
// is known to nobody but the one who opens it, or with a root in its own place any directory around that.
func (c *compiler) mayShowRoot(source string) bool {
	return c.inPlace() || c.hooked() || ofProc(source) || slices.Contains(c.host.Roots, source)
}

// treesFirst has trees of recursive binds that may show the container's root opened before it is attached. The others are opened in their turn: since Linux 6.8
// mountinfo lists mounts in the order in which they came to be, which is to be that of config.json (but for what shows a namespace that is joined first). What mounts before have put into the root is looked up there, in its turn. A tree
// takes the register that its source was opened to; of those that take one of their own, where the root is built in its own place, the last are opened in their turn where there are too few.
func (c *compiler) treesFirst() error {
	var steps []Step
	for _, s := range c.recursive {
		op := s.Op.(*Bind)
		tree := op.From
		if tree == RegNone {
			if c.next == regTemp {
				continue
			}
			tree, c.next = c.next, c.next+1
		}
		s.Op = &OpenTree{From: op.From, Path: op.Source, Below: op.Below, Recursive: true, Out: tree}
		steps = append(steps, s)
		op.Tree, op.From = tree, RegNone
	}
	c.plan.Steps = slices.Insert(c.plan.Steps, c.treesAt, steps...)
	return nil
}

// Trees are the sources of recursive binds, of which [Facts] has those that lead to the root directory.
func Trees(spec *specs.Spec, bundle string) (list []string) {
	c := compiler{o: Options{Bundle: bundle}}
	for _, m := range spec.Mounts {
		if slices.Contains(m.Options, "rbind") {
			list = append(list, c.source(m.Source))
		}
	}
	return list
}

// shares reports whether a mount is to be shared with the host.
func (c *compiler) shares(o mountOptions) bool {
	all := c.linux.RootfsPropagation
	return !c.userNS && (all == "shared" || all == "rshared") && (o.mode == "shared" || o.mode == "rshared")
}
