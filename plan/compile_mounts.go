package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func (c *compiler) mounts() error {
	if len(c.spec.Mounts) > 0 && !c.builds() {
		return specErr("mounts", "mounts need a new mount namespace, or a root of their own")
	}
	for i, m := range c.spec.Mounts {
		if err := c.mount(i, m); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) mount(i int, m specs.Mount) error {
	field := fmt.Sprintf("mounts[%d]", i)
	if !path.IsAbs(m.Destination) {
		m.Destination = "/" + m.Destination
	}
	dest, err := c.destination(field, m)
	if err != nil {
		return err
	}
	o, err := c.parseMount(i, m)
	if err != nil {
		return err
	}
	if err := checkProc(field, dest, m.Type, o); err != nil {
		return err
	}
	cause := c.cause(field)
	if dest == "/dev" && m.Type == "tmpfs" && o.attrs.Set&abi.MountAttrRdonly != 0 {
		// Only when all that belongs there is there.
		o.attrs.Set &^= abi.MountAttrRdonly
		c.readonlyDev = cause
	}
	target, isLink := c.link(i, m)
	switch {
	case isLink:
		c.inside(&Symlink{Target: target, Path: dest, Have: c.have(dest), Replace: true}, cause, &LinkCheck{Path: dest, Target: target})
		return nil
	case o.remount:
		c.inside(&Remount{Dest: dest, Attrs: o.attrs, File: true}, cause, c.mountCheck(dest, "", o))
		return nil
	case o.bind:
		return c.bindMount(i, m, dest, o, cause)
	case m.Type == "":
		return specErr(field+".type", "a mount needs a type, or the option bind")
	case m.Type == "cgroup":
		return c.cgroupMount(dest, o, cause)
	}
	return c.newMount(i, m, dest, o, cause)
}

// destination is the place of a mount below the root.
func (c *compiler) destination(field string, m specs.Mount) (string, error) {
	dest := path.Clean(m.Destination)
	if inside, ok := c.insideRoot(dest); ok {
		dest = inside // as runc has it
	}
	if dest == "/" {
		return "", specErr(field+".destination", "%q: the root is root.path, not a mount", m.Destination)
	}
	return dest, fits(field+".destination", dest)
}

// mountCheck is how a mount shows afterwards. Of flags only those are looked for that should be there: the source of a
// bind may have more, which a user namespace keeps.
func (c *compiler) mountCheck(dest, kind string, o mountOptions) *MountCheck {
	check := &MountCheck{Dest: dest, Type: kind, Set: o.attrs.Set&^o.attrs.RecClear | o.attrs.RecSet}
	check.Set &= abi.MountAttrRdonly | abi.MountAttrNosuid | abi.MountAttrNodev | abi.MountAttrNoexec
	if o.idmap {
		check.Set |= abi.MountAttrIdmap
	}
	if all := c.linux.RootfsPropagation; all != "rshared" && all != "runbindable" { // which come last, for all mounts
		check.Propagation = strings.TrimPrefix(o.mode, "r")
	}
	return check
}

// bindMount shows a tree of the host, or of the root, at another place.
func (c *compiler) bindMount(i int, m specs.Mount, dest string, o mountOptions, cause Cause) error {
	op := &Bind{
		Tree: c.trees[i], From: c.places[i], Source: c.source(m.Source), Below: c.subpath(m), Dest: dest, Link: o.ofLink, OnLink: o.onLink,
		Recursive: o.recursive, Attrs: o.attrs, Only: !c.o.InheritFlags && slices.ContainsFunc(m.Options, isAttr), Mode: o.mode,
	}
	op.Out, op.Strict = c.keep(dest)
	op.NotProc, op.OfProc = !op.Strict && c.mayLeadToProc(dest), dest == "/proc"
	c.ownDev, c.ownSys = false, false
	if err := c.fromInside(i, m, o, op); err != nil {
		return err
	}
	late := op.Tree == RegNone && op.From == RegNone && !op.Inside && !c.inPlace()
	if late {
		var err error
		if op.From, err = c.lateSource(m, o, cause); err != nil {
			return err
		}
	}
	c.inside(op, cause, c.mountCheck(dest, "", o))
	if op.Recursive && op.Tree == RegNone && !op.Inside && !op.Link && !late && c.mayShowRoot(op.Source) {
		c.recursive = append(c.recursive, Step{Op: op, Side: Container, Cause: cause})
	}
	c.mountedAt(dest)
	return nil
}

// newMount mounts a file system that the kernel makes.
func (c *compiler) newMount(i int, m specs.Mount, dest string, o mountOptions, cause Cause) error {
	check := c.mountCheck(dest, m.Type, o)
	op := &Mount{Type: m.Type, Source: m.Source, Dest: dest, Options: c.mountLabel(m.Type, o.data), Attrs: o.attrs, Mode: o.mode, FS: c.places[i]}
	if m.Type == "mqueue" && c.host.SELinux {
		op.Label = c.linux.MountLabel // the namespace has had it mounted from its beginning, and of a second mount no option may be another
	}
	if m.Type == "tmpfs" {
		check.Size = tmpfsSize(op.Options)
	}
	op.Out, op.Strict = c.keep(dest)
	if op.NotProc = !op.Strict && c.mayLeadToProc(dest); op.NotProc {
		c.ownDev, c.ownSys = false, false
	}
	switch {
	case dest == "/dev":
		c.ownDev = m.Type == "tmpfs" && !o.copyUp
	case dest == "/sys":
		c.ownSys = m.Type == "sysfs"
	}
	switch {
	case i == c.devAt:
		if err := c.devTree(); err != nil {
			return err
		}
		c.inside(&Bind{Tree: c.dev, Dest: dest, Mode: o.mode, Dir: true, Strict: true}, cause, check)
		c.mountedAt(dest)
		return nil
	case c.trees[i] != RegNone:
		c.inside(&Bind{Tree: c.trees[i], Dest: dest, Out: op.Out, Mode: o.mode, Dir: true, Strict: op.Strict, NotProc: op.NotProc}, cause, check)
		c.mountedAt(dest)
		return nil
	case m.Type == "proc" && c.stubForks:
		op.PIDNS = c.joinOf(abi.NSPID)
	case dest == "/dev/pts" && m.Type == "devpts":
		c.hasPts = true
		op.Out = RegPts
		op.Options = c.dropUnmappedGID(op.Options)
	}
	op.Have = c.have(dest)
	op.Inherit = m.Type == "tmpfs" && !slices.ContainsFunc(op.Options, isMode)
	if o.copyUp {
		return c.copyUp(op, cause, check)
	}
	c.inside(op, cause, check)
	c.mountedAt(dest)
	return nil
}

// showJoined makes the file systems that show a joined namespace to which the container's user namespace gives no right: that has to be before there is that one.
// A procfs is of the namespace of who makes it, but for an option of newer kernels.
func (c *compiler) showJoined() error {
	shows := map[string]abi.Namespace{"sysfs": abi.NSNetwork, "mqueue": abi.NSIPC, "proc": abi.NSPID}
	for i, m := range c.spec.Mounts {
		o, err := c.parseMount(i, m)
		if err != nil {
			return err
		}
		ns, shown := shows[m.Type]
		if !shown || c.joinOf(ns) == RegNone || o.bind || o.remount || ns == abi.NSPID && !c.host.ProcPIDNS {
			continue
		}
		pids := RegNone
		if ns == abi.NSPID {
			pids = c.joinOf(ns)
		}
		if c.trees[i], err = c.reg(); err != nil {
			return err
		}
		c.inside(&NewMount{Type: m.Type, Source: m.Source, Options: o.data, PIDNS: pids, Attrs: o.attrs, Out: c.trees[i]}, c.cause(fmt.Sprintf("mounts[%d]", i)), nil)
	}
	return nil
}

// shownInProc are the files of /proc that a mount may cover, as with runc: lxcfs shows a
// container its own there.
var shownInProc = [...]string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/net/dev", "/proc/slabinfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
	"/proc/sys/crypto/fips_enabled", "/proc/sys/kernel/ns_last_pid",
}

// checkProc refuses what would stand in the place of a procfs, or of a part of it.
func checkProc(field, dest, kind string, o mountOptions) error {
	switch {
	case dest == "/proc" && kind != "proc" && !o.bind && !o.remount:
		return specErr(field+".destination", "%q cannot be mounted because it is not of type proc", dest)
	case strings.HasPrefix(dest, "/proc/") && !o.remount && !slices.Contains(shownInProc[:], dest):
		return specErr(field+".destination", "%q cannot be mounted because it is inside /proc", dest)
	}
	return nil
}

// mayLeadToProc tells the destinations from which a link of an image or of a volume may lead into /proc, or to the root. What
// is mounted on /dev and /sys was made a moment ago, or is the kernel's, as long as no other mount may have been led there.
func (c *compiler) mayLeadToProc(dest string) bool {
	switch {
	case strings.HasPrefix(dest, "/dev/"):
		return !c.ownDev
	case strings.HasPrefix(dest, "/sys/"):
		return !c.ownSys
	}
	return !slices.Contains(shownInProc[:], dest)
}

// link is the text of the symbolic link that mounts[i] copies. A source in the root is looked up inside, as others are.
func (c *compiler) link(i int, m specs.Mount) (string, bool) {
	target, ok := c.o.Links[i]
	if _, inside := c.insideRoot(m.Source); inside {
		return "", false
	}
	return target, ok
}

// subpath is the path in its source that a bind mount is of.
func (c *compiler) subpath(m specs.Mount) string {
	for _, s := range c.o.Subpaths {
		if s.Dest == m.Destination {
			return s.Path
		}
	}
	return ""
}

// fromInside has a bind mount whose source is in the root take it from there. A tree that is to be
// id-mapped goes to the runtime's side for that.
func (c *compiler) fromInside(i int, m specs.Mount, o mountOptions, op *Bind) error {
	p, ok := c.insideRoot(m.Source)
	if !ok {
		return nil
	}
	cause := c.cause(fmt.Sprintf("mounts[%d]", i))
	if !o.idmap {
		op.Source, op.Inside = p, true
		return nil
	}
	if len(m.UIDMappings) == 0 && c.joined == RegNone && c.forks() {
		return specErr(fmt.Sprintf("mounts[%d].options", i), "idmap of a source in the root needs uidMappings where a pid namespace is joined")
	}
	var err error
	if op.Tree, err = c.reg(); err != nil {
		return err
	}
	c.maps = append(c.maps, mapping{
		open:  OpenTree{Path: p, Inside: true, Recursive: o.recursive, Out: op.Tree},
		by:    IDMapTree{Tree: op.Tree, Recursive: o.recursive && o.ridmap},
		cause: cause, ns: func() (Reg, error) { return c.mappedBy(i, m) },
	})
	return c.mapTrees()
}

// copyUp mounts a tmpfs, and has the runtime's side fill it with what it covers.
func (c *compiler) copyUp(op *Mount, cause Cause, check Check) error {
	for _, r := range []*Reg{&op.Covered, &op.Out} {
		if *r != RegNone {
			continue
		}
		var err error
		if *r, err = c.reg(); err != nil {
			return err
		}
	}
	// Attributes of the mount come last: it may be read-only.
	attrs := op.Attrs
	op.Attrs = Attrs{Set: attrs.Set &^ abi.MountAttrRdonly, RecSet: attrs.RecSet &^ abi.MountAttrRdonly, RecClear: attrs.RecClear}
	readonly := (attrs.Set|attrs.RecSet)&abi.MountAttrRdonly != 0
	c.inside(op, cause, check)
	c.inside(&Sync{From: Container, What: "tmpfs mounted", FDs: []Reg{op.Covered, op.Out}}, cause, nil)
	c.outside(&CopyUp{From: op.Covered, To: op.Out, Dest: op.Dest}, cause, nil)
	c.outside(&Sync{From: Runtime, What: "copied"}, cause, nil)
	c.mountedAt(op.Dest)
	if readonly {
		c.inside(&Remount{Dest: op.Dest, Attrs: Attrs{Set: abi.MountAttrRdonly}}, cause, nil)
	}
	return nil
}

// have counts the leading components of p that are known to be there, since
// something is mounted on them.
func (c *compiler) have(p string) int {
	n, last := 0, 0
	for i := range p {
		if order := c.mounted[p[:i]]; p[i] == '/' && order > last {
			n, last = strings.Count(p[:i], "/"), order // a later mount hides what was below it
		}
	}
	return n
}

// mountedAt notes a mount.
func (c *compiler) mountedAt(dest string) {
	if c.mounted == nil {
		c.mounted = map[string]int{}
	}
	c.order++
	c.mounted[dest] = c.order
}

// dropUnmappedGID removes gid=N where the user namespace does not map N: the
// kernel would refuse the mount, and the group tty means nothing there.
func (c *compiler) dropUnmappedGID(options []string) []string {
	if !c.isNew(abi.NSUser) {
		return options
	}
	return slices.DeleteFunc(slices.Clone(options), func(o string) bool {
		var gid uint32
		if n, _ := fmt.Sscanf(o, "gid=%d", &gid); n != 1 {
			return false
		}
		return !slices.ContainsFunc(c.gids, func(m IDMapping) bool { return m.has(gid) })
	})
}

// cgroupMount shows the container's cgroups: the one hierarchy of version 2,
// or a directory of those of version 1.
func (c *compiler) cgroupMount(dest string, o mountOptions, cause Cause) error {
	if c.host.Cgroup.Unified && c.own[abi.NSUser] && !c.own[abi.NSCgroup] {
		// Who owns no cgroup namespace can mount nothing of it.
		c.inside(&Bind{Source: "/sys/fs/cgroup", Dest: dest, Attrs: o.attrs, Mode: o.mode, Dir: true, NotProc: c.mayLeadToProc(dest)}, cause, &MountCheck{Dest: dest, Set: o.attrs.Set})
		return nil
	}
	if c.host.Cgroup.Unified {
		c.inside(&Mount{Type: "cgroup2", Source: "cgroup", Dest: dest, Options: o.data, Attrs: o.attrs, Mode: o.mode, NotProc: c.mayLeadToProc(dest)}, cause,
			&MountCheck{Dest: dest, Type: "cgroup2", Set: o.attrs.Set})
		return nil
	}
	top := Attrs{Set: o.attrs.Set &^ abi.MountAttrRdonly}
	have := strings.Count(dest, "/")
	c.inside(&Mount{Type: "tmpfs", Source: "tmpfs", Dest: dest, Options: []string{"mode=755"}, Attrs: top, Have: c.have(dest), NotProc: c.mayLeadToProc(dest)}, cause, &MountCheck{Dest: dest, Type: "tmpfs"})
	for _, h := range c.host.Cgroup.V1 {
		at := path.Join(dest, h.Dir)
		if c.own[abi.NSCgroup] {
			c.inside(&Mount{Type: h.Type, Source: "cgroup", Dest: at, Options: h.Options, Attrs: o.attrs, Mode: o.mode, Have: have}, cause,
				&MountCheck{Dest: at, Type: h.Type, Set: o.attrs.Set})
			continue
		}
		source := path.Join("/sys/fs/cgroup", h.Dir, h.Path)
		if g := c.o.Cgroup; g != nil {
			controller := "" // of version 2
			if len(h.Options) > 0 {
				controller = h.Options[len(h.Options)-1]
			}
			if own, ok := g.Paths[controller]; ok {
				source = own
			}
		}
		c.inside(&Bind{Source: source, Dest: at, Attrs: o.attrs, Mode: o.mode, Dir: true, Have: have}, cause, &MountCheck{Dest: at, Set: o.attrs.Set})
	}
	for _, h := range c.host.Cgroup.V1 {
		for _, name := range strings.Split(h.Dir, ",") {
			if name != h.Dir {
				c.inside(&Symlink{Target: h.Dir, Path: path.Join(dest, name), Have: have}, cause, &LinkCheck{Path: path.Join(dest, name), Target: h.Dir})
			}
		}
	}
	if o.attrs.Set&abi.MountAttrRdonly != 0 {
		c.inside(&Remount{Dest: dest, Attrs: Attrs{Set: abi.MountAttrRdonly}}, cause, &ReadonlyCheck{Path: dest})
	}
	return nil
}

// below is the mount in which a path of /proc or /sys is looked up.
func (c *compiler) below(p string) Reg {
	switch parts := components(p); {
	case len(parts) > 1 && parts[0] == "proc" && c.hasProc:
		return RegProcfs
	case len(parts) > 1 && parts[0] == "sys" && c.hasSys:
		return RegSysfs
	}
	return RegNone
}

// keep says which register keeps the mount at dest, and whether the way there has
// to be without links: an image's own /proc, /sys and /dev could lead anywhere.
func (c *compiler) keep(dest string) (out Reg, strict bool) {
	switch dest {
	case "/proc":
		c.hasProc = true
		return RegProcfs, true
	case "/sys":
		c.hasSys = true
		return RegSysfs, true
	}
	return RegNone, dest == "/dev"
}

// paths hides and protects what the kernel shows to everyone.
func (c *compiler) paths() error {
	if !c.builds() {
		switch {
		case len(c.linux.MaskedPaths) > 0:
			return specErr("linux.maskedPaths", "masked paths need a new mount namespace")
		case len(c.linux.ReadonlyPaths) > 0:
			return specErr("linux.readonlyPaths", "read-only paths need a new mount namespace")
		}
		return nil
	}
	for i, p := range c.linux.ReadonlyPaths {
		c.inside(&ReadonlyPath{Path: p, Below: c.below(p)}, c.cause(fmt.Sprintf("linux.readonlyPaths[%d]", i)), &ReadonlyCheck{Path: p})
	}
	masked := make(map[string]bool, len(c.linux.MaskedPaths)) // of a hundred thousand, too, each is looked at once
	for i, p := range c.linux.MaskedPaths {
		if masked[p] {
			continue // one cover is enough
		}
		masked[p] = true
		c.inside(&Mask{Path: p, Below: c.below(p)}, c.cause(fmt.Sprintf("linux.maskedPaths[%d]", i)), &MaskCheck{Path: p})
	}
	return nil
}
