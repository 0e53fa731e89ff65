package plan

import (
	"cmp"
	"fmt"
	"path"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// Paths of a container are looked up below the fd of its root and never leave
// it: no symbolic link of an image leads outside, and no magic link is followed.
const inRoot = abi.ResolveInRoot | abi.ResolveNoMagiclinks

// Propagation changes the propagation of the mounts at and below Path in the
// container's mount namespace: mount_namespaces(7).
type Propagation struct {
	Path      string
	Mode      string // private, slave, shared, unbindable
	Recursive bool
	Try       bool // where nothing is mounted there, nothing is changed
}

// Name implements [Op].
func (*Propagation) Name() string { return "propagation" }

// String implements [Op].
func (p *Propagation) String() string {
	r := ""
	if p.Recursive {
		r = " recursive"
	}
	return fmt.Sprintf("mount_setattr %s %s%s", p.Path, strings.ToUpper(p.Mode), r)
}

func propagationFlag(mode string) uint64 {
	switch mode {
	case "shared":
		return abi.MSShared
	case "slave":
		return abi.MSSlave
	case "unbindable":
		return abi.MSUnbindable
	}
	return abi.MSPrivate
}

func (p *Propagation) lower(a *Asm) {
	flags := uint64(0)
	if p.Recursive {
		flags = abi.AtRecursive
	}
	m := a.mountAttr(0, 0, propagationFlag(p.Mode))
	row := a.call(abi.CallMountSetattr, cwd(), a.str(p.Path), num(flags), memArg(m), num(32))
	if p.Try {
		row.accept(abi.EINVAL)
	}
}

// Attrs are attributes of a mount: mount_setattr(2).
type Attrs struct {
	Set, Clear uint64 // MOUNT_ATTR_*
	RecSet     uint64 // the same for all mounts below as well
	RecClear   uint64
}

func (t Attrs) empty() bool { return t == Attrs{} }

// String lists the words of mount(8): "ro,nosuid".
func (t Attrs) String() string {
	var list []string
	add := func(prefix string, bits uint64) {
		if bits != 0 {
			list = append(list, prefix+strings.ReplaceAll(abi.MountAttrWords(bits), ",", ","+prefix))
		}
	}
	add("", t.Set)
	add("not-", t.Clear)
	add("r:", t.RecSet)
	add("r:not-", t.RecClear)
	return strings.Join(list, ",")
}

// setOnly gives a mount that is no longer its source the attributes of a bind that names some: the
// others are off, and so are those of access times where one of them is named. What a
// user namespace may not take from a mount stays, but for what was to be taken by name. So
// do mount(8) and runc.
func (a *Asm) setOnly(tree Reg, t Attrs) {
	const locked = abi.MountAttrRdonly | abi.MountAttrNosuid | abi.MountAttrNodev | abi.MountAttrNoexec
	set := func(clear uint64) *Row {
		return a.call(abi.CallMountSetattr, fd(tree), a.str(""), num(abi.AtEmptyPath), memArg(a.mountAttr(t.Set, clear, 0)), num(32))
	}
	others := t.Clear | abi.MountAttrNosymfollow
	set(others | locked).accept(abi.EPERM)
	all := a.here() - 1
	set(others)
	a.skipOK(all)
}

// setattr applies attributes to the mount that a register holds.
func (a *Asm) setattr(tree Reg, t Attrs) {
	if t.Set != 0 || t.Clear != 0 {
		a.call(abi.CallMountSetattr, fd(tree), a.str(""), num(abi.AtEmptyPath), memArg(a.mountAttr(t.Set, t.Clear, 0)), num(32))
	}
	if t.RecSet != 0 || t.RecClear != 0 {
		a.call(abi.CallMountSetattr, fd(tree), a.str(""), num(abi.AtEmptyPath|abi.AtRecursive), memArg(a.mountAttr(t.RecSet, t.RecClear, 0)), num(32))
	}
}

// attach moves a detached tree onto what to holds.
func (a *Asm) attach(tree, to Reg) {
	a.call(abi.CallMoveMount, fd(tree), a.str(""), fd(to), a.str(""), num(abi.MoveMountFEmptyPath|abi.MoveMountTEmptyPath))
}

// OpenTree clones the mount at a path of the host into a detached one:
// open_tree(2). On the runtime's side it may be id-mapped with the container's
// user namespace, so that ids on disk are the ids inside.
type OpenTree struct {
	From      Reg // what an [OpenSource] has opened, in place of
	Path      string
	Below     string // a path in the directory Path, on which there may be no link; empty is that itself
	Inside    bool   // Path is one of the container, as it is by then
	Recursive bool
	IDMap     bool
	IDMapTop  bool // map the mount at Path, and none below it
	NS        Reg  // user namespace to map with; none is that of the container's first process
	Attrs     Attrs
	Out       Reg
}

// Name implements [Op].
func (*OpenTree) Name() string { return "open_tree" }

// String implements [Op].
func (o *OpenTree) String() string {
	from := ""
	if o.From != RegNone {
		from = o.From.String()
	}
	s := words("open_tree clone", from, inside(o.Inside), o.Path, belowWords(o.Below))
	if o.Recursive {
		s += " recursive"
	}
	if o.IDMap {
		s += ", mount_setattr idmap"
		if o.IDMapTop {
			s += " of the topmost"
		}
		if o.NS != RegNone {
			s += " by " + o.NS.String()
		}
	}
	if !o.Attrs.empty() {
		s += " " + o.Attrs.String()
	}
	return s + " = " + o.Out.String()
}

func treeFlags(recursive bool) uint64 {
	if recursive {
		return abi.OpenTreeClone | abi.OpenTreeCloexec | abi.AtRecursive
	}
	return abi.OpenTreeClone | abi.OpenTreeCloexec
}

func (o *OpenTree) lower(a *Asm) {
	switch {
	case o.From != RegNone:
		a.openAt(o.From, o.Recursive, o.Out)
		a.close(o.From)
	case o.Inside:
		a.openInside(o.Path, o.Recursive, o.Out)
	default:
		a.openTree(o.Path, o.Below, o.Recursive, o.Out)
	}
	if o.IDMap {
		a.idmap(o.Out, o.NS, o.Recursive && !o.IDMapTop)
	}
	a.setattr(o.Out, o.Attrs)
}

func inside(on bool) string {
	if on {
		return "the container's"
	}
	return ""
}

func belowWords(below string) string {
	if below == "" {
		return ""
	}
	return "below it " + below
}

// openTree clones what the caller has at a path, or below that.
func (a *Asm) openTree(p, below string, recursive bool, out Reg) {
	if below == "" {
		a.call(abi.CallOpenTree, cwd(), a.str(p), num(treeFlags(recursive))).into(out)
		return
	}
	dir, at := a.tmp(), a.tmp()
	a.call(abi.CallOpenat, cwd(), a.str(p), num(abi.OPath|abi.OCloexec|a.o.Directory), num(0)).into(dir)
	a.lookupStrict(dir, below, at)
	a.openAt(at, recursive, out)
	a.close(at)
}

// lookupStrict opens a path below what dir holds, which it closes. Others may change that directory meanwhile:
// no link is followed.
func (a *Asm) lookupStrict(dir Reg, p string, out Reg) {
	before := a.resolve
	a.resolve = abi.ResolveBeneath | abi.ResolveNoSymlinks | abi.ResolveNoMagiclinks
	a.lookupBelow(dir, p, 0, out)
	a.resolve = before
	a.close(dir)
}

// openInside clones what the container has at a path, with the mounts that are there by now.
func (a *Asm) openInside(p string, recursive bool, out Reg) {
	at := a.tmp()
	a.lookup(p, 0, at)
	a.openAt(at, recursive, out)
}

// openAt clones the mount and the place in it that a register holds.
func (a *Asm) openAt(at Reg, recursive bool, out Reg) {
	a.call(abi.CallOpenTree, fd(at), a.str(""), num(treeFlags(recursive)|abi.AtEmptyPath)).into(out)
}

// idmap maps the tree by a user namespace.
func (a *Asm) idmap(tree, ns Reg, recursive bool) {
	if ns == RegNone {
		ns = a.tmp()
		a.call(abi.CallOpenat, fd(RegChildProc), a.str("ns/user"), num(abi.OCloexec), num(0)).into(ns)
	}
	m := a.mountAttr(abi.MountAttrIdmap, 0, 0)
	a.row(Row{Kind: RowStore, Args: [6]Arg{fd(ns)}, N: 1, Mem: m, Off: 24})
	flags := uint64(abi.AtEmptyPath)
	if recursive {
		flags |= abi.AtRecursive
	}
	a.call(abi.CallMountSetattr, fd(tree), a.str(""), num(flags), memArg(m), num(32))
}

// IDMapTree id-maps a detached tree that the container's side has opened, which has not
// the right to do that.
type IDMapTree struct {
	Tree      Reg
	NS        Reg  // as in [OpenTree]
	Recursive bool // the mounts below as well
}

// Name implements [Op].
func (*IDMapTree) Name() string { return "idmap" }

// String implements [Op].
func (t *IDMapTree) String() string {
	s := "mount_setattr idmap " + t.Tree.String()
	if t.Recursive {
		s += " recursive"
	}
	if t.NS != RegNone {
		s += " by " + t.NS.String()
	}
	return s
}

func (t *IDMapTree) lower(a *Asm) { a.idmap(t.Tree, t.NS, t.Recursive) }

// OpenHost keeps the host's root directory as the container's mount namespace has it. Sources
// of bind mounts are looked up below it: a mount of another namespace can not be cloned, and
// of their own the container keeps the flags that its user namespace may not change.
type OpenHost struct {
	Child bool // on the runtime's side, for the container's first process
}

// Name implements [Op].
func (*OpenHost) Name() string { return "open host" }

// String implements [Op].
func (o *OpenHost) String() string {
	if o.Child {
		return "open the container's / = " + RegHost.String()
	}
	return "open / = " + RegHost.String()
}

func (o *OpenHost) lower(a *Asm) {
	dir, name := cwd(), "/"
	if o.Child {
		dir, name = fd(RegChildProc), "root"
	}
	a.call(abi.CallOpenat, dir, a.str(name), num(abi.OPath|abi.OCloexec|a.o.Directory), num(0)).into(RegHost)
}

// OpenSource opens the source of a bind mount on the runtime's side: root of a user namespace
// may not come to all that the caller may.
type OpenSource struct {
	Path  string
	Below string // as in [OpenTree]
	Out   Reg
}

// Name implements [Op].
func (*OpenSource) Name() string { return "open source" }

// String implements [Op].
func (o *OpenSource) String() string {
	return words("open", o.Path, belowWords(o.Below), "= "+o.Out.String())
}

func (o *OpenSource) lower(a *Asm) {
	if o.Below == "" {
		a.lookupBelow(RegHost, o.Path, 0, o.Out)
		return
	}
	dir := a.tmp()
	a.lookupBelow(RegHost, o.Path, a.o.Directory, dir)
	a.lookupStrict(dir, o.Below, o.Out)
}

// BorrowMount clones a mount of another mount namespace into a detached one: setns(2),
// open_tree(2), and setns back. The kernel clones only what is mounted where the caller
// is. It leaves the other namespace's root and working directory behind as well.
type BorrowMount struct {
	NS   Reg // the other mount namespace
	Path string
	Out  Reg
}

// Name implements [Op].
func (*BorrowMount) Name() string { return "borrow mount" }

// String implements [Op].
func (b *BorrowMount) String() string {
	return fmt.Sprintf("setns mount %s, open_tree clone %s, setns back = %s", b.NS, b.Path, b.Out)
}

func (b *BorrowMount) lower(a *Asm) {
	root, own, other, there := a.tmp(), a.tmp(), a.tmp(), a.tmp()
	a.call(abi.CallOpenat, cwd(), a.str("/"), num(abi.OPath|abi.OCloexec|a.o.Directory), num(0)).into(root)
	a.call(abi.CallOpenat, fd(RegSelf), a.str("ns/mnt"), num(abi.OCloexec), num(0)).into(own)
	a.call(abi.CallSetns, fd(b.NS), num(abi.CloneNewNS))
	// The other container may have put anything there; no link leads out of its tree, as
	// one of /proc would.
	a.call(abi.CallOpenat, cwd(), a.str("/"), num(abi.OPath|abi.OCloexec|a.o.Directory), num(0)).into(other)
	a.resolve = abi.ResolveBeneath | abi.ResolveNoSymlinks | abi.ResolveNoMagiclinks
	a.lookupBelow(other, strings.Join(components(b.Path), "/"), a.o.Directory, there)
	a.call(abi.CallOpenTree, fd(there), a.str(""), num(treeFlags(false)|abi.AtEmptyPath)).into(b.Out)
	a.call(abi.CallSetns, fd(own), num(abi.CloneNewNS))
	a.call(abi.CallFchdir, fd(root))
	a.call(abi.CallChroot, a.str("."))
}

// AttachRoot puts the container's root file system over "/" of the new mount
// namespace, or over itself: in a namespace that others are in, or for hooks. The tree is a register, or a
// path to clone.
type AttachRoot struct {
	Path    string
	Tree    Reg
	Nodev   bool // device nodes of it are of no use
	InPlace bool // over its own directory, Path, and not over "/"
	Private bool // in place, and what is mounted in it reaches no other namespace
}

// Name implements [Op].
func (*AttachRoot) Name() string { return "attach root" }

// String implements [Op].
func (r *AttachRoot) String() string {
	from := r.Path
	if from == "" {
		from = r.Tree.String()
	}
	over := "/"
	if r.InPlace {
		over = r.Path
	}
	if r.Private {
		over += ", private"
	}
	return words("open_tree, move_mount", from, "over", over, "=", RegRoot.String(), nodev(r.Nodev))
}

func nodev(on bool) string {
	if on {
		return "nodev"
	}
	return ""
}

func (r *AttachRoot) lower(a *Asm) {
	tree, place := r.Tree, RegNone
	if r.InPlace {
		place = a.tmp()
		a.call(abi.CallOpenat, cwd(), a.str(r.Path), num(abi.OPath|abi.OCloexec|a.o.Directory), num(0)).into(place)
	}
	switch {
	case tree != RegNone:
		a.call(abi.CallFcntl, fd(tree), num(1030), num(3)).into(RegRoot) // F_DUPFD_CLOEXEC
	case r.InPlace:
		tree = RegRoot
		a.call(abi.CallOpenTree, fd(place), a.str(""), num(treeFlags(true)|abi.AtEmptyPath)).into(RegRoot)
	default:
		tree = RegRoot
		a.call(abi.CallOpenTree, cwd(), a.str(r.Path), num(treeFlags(true))).into(RegRoot)
	}
	if r.Nodev {
		a.setattr(tree, Attrs{RecSet: abi.MountAttrNodev})
	}
	if r.InPlace {
		a.attach(tree, place)
		if r.Private {
			// What is attached to a shared mount is shared from then on.
			a.propagate(tree, "rprivate")
		}
		return
	}
	a.call(abi.CallMoveMount, fd(tree), a.str(""), cwd(), a.str("/"), num(abi.MoveMountFEmptyPath))
}

// Scratch makes a tmpfs over "/" of the new mount namespace, for what lives and
// dies with it: the upper directories of overlays. Nothing of it is on the host.
type Scratch struct {
	Size string // as tmpfs(5) takes it; empty is half of the memory
}

// Name implements [Op].
func (*Scratch) Name() string { return "scratch" }

// String implements [Op].
func (s *Scratch) String() string {
	return words("mount tmpfs for writable layers", s.Size) + " = " + RegScratch.String()
}

func (s *Scratch) lower(a *Asm) {
	options := []string{"mode=0755"}
	if s.Size != "" {
		options = append(options, "size="+s.Size)
	}
	a.newFS("tmpfs", "tmpfs", options, 0, RegScratch)
	a.call(abi.CallMoveMount, fd(RegScratch), a.str(""), cwd(), a.str("/"), num(abi.MoveMountFEmptyPath))
}

// Overlay puts a copy-on-write view of a lower layer at Dest, its upper layer in
// the scratch: overlayfs. At "/" it is the container's root.
type Overlay struct {
	N    int    // distinguishes the overlays of a plan
	Tree Reg    // the lower layer: a detached tree,
	Path string // or a directory of the host
	Dest string

	Hide   bool // the layer hideN lies over the lower one
	Public bool // the lower layer is the one that a [PublicLayer] made
	Nodev  bool // device nodes in it are of no use
}

// Name implements [Op].
func (*Overlay) Name() string { return "overlay" }

// String implements [Op].
func (o *Overlay) String() string {
	from := o.Path
	switch {
	case o.Public:
		from = fmt.Sprintf("public%d", o.N)
	case o.Tree != RegNone:
		from = words(o.Tree.String(), o.Path)
	}
	if o.Hide && !o.Public {
		from = fmt.Sprintf("hide%d and %s", o.N, from)
	}
	s := words(fmt.Sprintf("mount overlay of %s on %s", from, o.Dest), nodev(o.Nodev))
	if o.Dest == "/" {
		s += " = " + RegRoot.String()
	}
	return s
}

func (o *Overlay) lower(a *Asm) {
	name := func(s string) string { return fmt.Sprintf("%s%d", s, o.N) }
	lower := name("public")
	if !o.Public {
		lower = a.lowerLayer(o.N, o.Tree, o.Path)
		if o.Hide {
			lower = name("hide") + ":" + lower
		}
	}
	a.call(abi.CallMkdirat, fd(RegScratch), a.str(name("upper")), num(0o755)).accept(abi.EEXIST)
	a.call(abi.CallMkdirat, fd(RegScratch), a.str(name("work")), num(0o755))
	a.call(abi.CallFchdir, fd(RegScratch))
	mount, attrs := RegRoot, uint64(0)
	if o.Dest != "/" {
		mount = a.tmp()
	}
	if o.Nodev {
		attrs = abi.MountAttrNodev
	}
	a.newFS("overlay", "overlay", []string{
		"lowerdir=" + lower, "upperdir=" + name("upper"), "workdir=" + name("work"), "userxattr",
	}, attrs, mount)
	if o.Dest == "/" {
		a.call(abi.CallMoveMount, fd(mount), a.str(""), cwd(), a.str("/"), num(abi.MoveMountFEmptyPath))
		return
	}
	to := a.tmp()
	a.directory(o.Dest, 0, to)
	a.attach(mount, to)
}

// EmptyRoot makes the container's root an empty tmpfs, for mounts to fill.
type EmptyRoot struct{}

// Name implements [Op].
func (*EmptyRoot) Name() string { return "empty root" }

// String implements [Op].
func (*EmptyRoot) String() string { return "mount tmpfs over / = " + RegRoot.String() }

func (*EmptyRoot) lower(a *Asm) {
	a.newFS("tmpfs", "tmpfs", []string{"mode=0755"}, 0, RegRoot)
	a.call(abi.CallMoveMount, fd(RegRoot), a.str(""), cwd(), a.str("/"), num(abi.MoveMountFEmptyPath))
}

// EmptyDir puts an empty writable directory at Path: one of the scratch, which
// costs far less than a file system of its own.
type EmptyDir struct {
	N    int // distinguishes the directories of a plan
	Path string
	Mode uint32
}

// Name implements [Op].
func (*EmptyDir) Name() string { return "empty directory" }

// String implements [Op].
func (e *EmptyDir) String() string {
	return fmt.Sprintf("bind an empty directory on %s mode=%04o,nosuid,nodev", e.Path, e.Mode)
}

func (e *EmptyDir) lower(a *Asm) {
	name := fmt.Sprintf("empty%d", e.N)
	a.call(abi.CallMkdirat, fd(RegScratch), a.str(name), num(uint64(e.Mode)))
	tree, to := a.tmp(), a.tmp()
	a.call(abi.CallOpenTree, fd(RegScratch), a.str(name), num(treeFlags(false))).into(tree)
	a.setattr(tree, Attrs{Set: abi.MountAttrNosuid | abi.MountAttrNodev})
	a.directory(e.Path, 0, to)
	a.attach(tree, to)
}

// escapeOverlay quotes what overlayfs splits at.
func escapeOverlay(p string) string {
	return strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace(p)
}

// newFS makes a detached mount of a new file system: fsopen(2), fsconfig(2), fsmount(2).
func (a *Asm) newFS(kind, source string, options []string, attrs uint64, out Reg) {
	a.newFSMode(kind, source, options, nil, attrs, out)
}

// newFSMode is newFS with an option mode that a row before wrote.
func (a *Asm) newFSMode(kind, source string, options []string, mode *Mem, attrs uint64, out Reg) {
	fs := a.tmp()
	a.call(abi.CallFsopen, a.str(kind), num(abi.FsopenCloexec)).into(fs)
	if source != "" {
		a.call(abi.CallFsconfig, fd(fs), num(abi.FsconfigSetString), a.str("source"), a.str(source), num(0))
	}
	for _, o := range options {
		key, value, has := strings.Cut(o, "=")
		if has {
			a.call(abi.CallFsconfig, fd(fs), num(abi.FsconfigSetString), a.str(key), a.str(value), num(0))
		} else {
			a.call(abi.CallFsconfig, fd(fs), num(abi.FsconfigSetFlag), a.str(key), num(0), num(0))
		}
	}
	if mode != nil {
		a.call(abi.CallFsconfig, fd(fs), num(abi.FsconfigSetString), a.str("mode"), memArg(mode), num(0))
	}
	a.call(abi.CallFsconfig, fd(fs), num(abi.FsconfigCmdCreate), num(0), num(0), num(0))
	a.call(abi.CallFsmount, fd(fs), num(abi.FsmountCloexec), num(attrs)).into(out)
}

// Mount puts a new file system into the container: fsopen(2) to move_mount(2).
type Mount struct {
	Type    string
	Source  string
	Dest    string
	Options []string // of the file system: "size=64m"
	Attrs   Attrs
	Mode    string // propagation, may be empty
	Out     Reg    // a register that keeps the mount, for later steps
	Covered Reg    // one that keeps the directory below it
	Have    int    // leading components of Dest that are known to be there
	Strict  bool   // no symbolic link may be on the way to Dest
	There   bool   // Dest is a directory that is there, and is not made
	Inherit bool   // a tmpfs that has the mode of the directory that it covers, where one is there
}

// Name implements [Op].
func (*Mount) Name() string { return "mount" }

// String implements [Op].
func (m *Mount) String() string {
	s := fmt.Sprintf("mount %s on %s", m.Type, m.Dest)
	opts := append([]string(nil), m.Options...)
	if m.Inherit {
		opts = append(opts, "mode as below")
	}
	if !m.Attrs.empty() {
		opts = append(opts, m.Attrs.String())
	}
	return words(s, strings.Join(opts, ","), m.Mode)
}

func (m *Mount) lower(a *Asm) {
	if m.Strict {
		a.resolve |= abi.ResolveNoSymlinks
	}
	to := m.Covered
	if to == RegNone {
		to = a.tmp()
	}
	var mode *Mem
	if m.Inherit {
		// Of a directory that is made here it is not taken: the default of tmpfs.
		mode = a.newMem(append(a.alloc(5)[:0], "1777\x00"...))
	}
	if m.There {
		a.lookup(m.Dest, a.o.Directory, to)
	} else {
		a.directoryMode(RegRoot, m.Dest, m.Have, to, mode)
	}
	out := m.Out
	if out == RegNone {
		out = a.tmp()
	}
	a.newFSMode(m.Type, m.Source, m.Options, mode, m.Attrs.Set, out)
	// fsmount sets exactly m.Attrs.Set: nothing is left to clear, and clearing the
	// field of access times alone would undo noatime and strictatime.
	a.setattr(out, Attrs{RecSet: m.Attrs.RecSet, RecClear: m.Attrs.RecClear})
	a.attach(out, to)
	a.propagate(out, m.Mode)
}

// propagate sets the propagation of an attached mount.
func (a *Asm) propagate(tree Reg, mode string) {
	if mode == "" {
		return
	}
	flags := uint64(abi.AtEmptyPath)
	if strings.HasPrefix(mode, "r") {
		flags, mode = flags|abi.AtRecursive, mode[1:]
	}
	m := a.mountAttr(0, 0, propagationFlag(mode))
	a.call(abi.CallMountSetattr, fd(tree), a.str(""), num(flags), memArg(m), num(32))
}

// Bind puts a file or directory of the host into the container. The tree was
// opened by an [OpenTree] before, or is cloned here: from what an [OpenSource] has opened, or from Source.
type Bind struct {
	Tree      Reg
	From      Reg
	Source    string
	Below     string // as in [OpenTree]
	Inside    bool   // Source is a path of the container, as it is by then
	Dest      string
	Recursive bool
	Attrs     Attrs
	Mode      string
	Dir       bool // the source is known to be a directory
	Have      int  // leading components of Dest that are known to be there
	Strict    bool // no symbolic link may be on the way to Dest
	Only      bool // what Attrs does not name is off, where that may be
	Out       Reg  // a register that keeps the mount, for later steps
}

// Name implements [Op].
func (*Bind) Name() string { return "bind" }

// String implements [Op].
func (b *Bind) String() string {
	from := words(inside(b.Inside), b.Source, belowWords(b.Below))
	if held := max(b.Tree, b.From); held != RegNone {
		from = words(held.String(), from)
	}
	s := fmt.Sprintf("bind %s on %s", from, b.Dest)
	if b.Recursive {
		s += " recursive"
	}
	only := ""
	if b.Only {
		only = "only"
	}
	return words(s, b.Attrs.String(), only, b.Mode)
}

func (b *Bind) lower(a *Asm) {
	tree := b.Tree
	if tree == RegNone {
		if tree = b.Out; tree == RegNone {
			tree = a.tmp()
		}
		switch {
		case b.From != RegNone:
			a.openAt(b.From, b.Recursive, tree)
			a.close(b.From) // a limit of open files may come before the end
		case b.Inside:
			a.openInside(b.Source, b.Recursive, tree)
		default:
			a.openTree(b.Source, b.Below, b.Recursive, tree)
		}
	}
	if b.Strict {
		a.resolve |= abi.ResolveNoSymlinks
	}
	if b.Tree != RegNone && b.Out != RegNone {
		a.call(abi.CallFcntl, fd(tree), num(1030), num(3)).into(b.Out) // F_DUPFD_CLOEXEC
	}
	attrs := b.Attrs
	if b.Only {
		a.setOnly(tree, attrs)
		attrs.Set, attrs.Clear = 0, 0
	}
	a.setattr(tree, attrs)
	to := a.tmp()
	if b.Dir {
		a.directory(b.Dest, b.Have, to)
	} else {
		a.likeTree(tree, b.Dest, to)
	}
	a.attach(tree, to)
	a.propagate(tree, b.Mode)
	if b.Tree != RegNone && !b.Dir { // a /dev that was made may be asked for twice
		a.close(b.Tree) // as above
	}
}

// components gives the parts of an absolute container path.
func components(p string) []string {
	p = strings.Trim(path.Clean("/"+p), "/")
	if p == "" {
		return nil
	}
	return strings.Split(p, "/")
}

// below is the path as openat2 takes it below the root's fd; "." is the root.
func below(p string) string {
	return path.Join(append([]string{"."}, components(p)...)...)
}

// lookup opens a path of the container without creating it.
func (a *Asm) lookup(p string, flags uint64, out Reg) *Row {
	return a.lookupBelow(RegRoot, p, flags, out)
}

func (a *Asm) lookupBelow(base Reg, p string, flags uint64, out Reg) *Row {
	how := a.openHow(abi.OPath|abi.OCloexec|flags, 0, a.resolve)
	return a.call(abi.CallOpenat2, fd(base), a.str(below(p)), how, num(24)).into(out)
}

// directory opens a directory of the container into out, and makes it where it is
// missing. The first have components are known to be there.
func (a *Asm) directory(p string, have int, out Reg) { a.directoryBelow(RegRoot, p, have, out) }

func (a *Asm) directoryBelow(base Reg, p string, have int, out Reg) {
	a.directoryMode(base, p, have, out, nil)
}

// directoryMode is directoryBelow, and writes the mode of a directory that was there to mode, as octal digits.
func (a *Asm) directoryMode(base Reg, p string, have int, out Reg, mode *Mem) {
	look := a.lookupBelow(base, p, a.o.Directory, out)
	if len(components(p)) == 0 {
		return // the base itself, which nothing here could make
	}
	look.accept(abi.ENOENT)
	done := a.here() - 1
	if mode != nil {
		missing := done
		a.octal(out, mode)
		done = a.jump()
		a.skipAccept(missing)
	}
	a.missing(base, p, have, 0)
	a.lookupBelow(base, p, a.o.Directory, out)
	a.skipOK(done)
}

// missing makes a path that was not found.
func (a *Asm) missing(base Reg, p string, have int, flags uint64) {
	parts := components(p)
	parent, skip := base, 0
	if have = min(have, len(parts)-1); have > 0 {
		known := strings.Join(parts[:have], "/")
		parent, skip = a.tmp(), len(known)
		a.lookupBelow(base, known, a.o.Directory, parent)
	}
	a.makePath(base, parent, strings.Join(parts, "/"), skip, flags)
}

// file opens a file of the container into out, and makes an empty one where it
// is missing. A dangling link gets its target made, inside the root.
func (a *Asm) file(p string, out Reg) {
	a.lookup(p, 0, out).accept(abi.ENOENT)
	first := a.here() - 1
	a.missing(RegRoot, p, 0, MakeFile)
	a.lookup(p, 0, out)
	a.skipOK(first)
}

// likeTree opens the place for a tree: a directory for a directory, else a file.
func (a *Asm) likeTree(tree Reg, p string, out Reg) {
	dir := a.ifDirectory(tree)
	a.file(p, out)
	done := a.jump()
	a.skipOK(dir)
	a.directory(p, 0, out)
	a.skipOK(done)
}

// lookupIn opens a path in the mount that below holds, at the first component of
// the path: another container that shares the root file system may move that
// component away meanwhile, and a path from the root would find nothing to hide.
func (a *Asm) lookupIn(below Reg, p string, out Reg) *Row {
	parts := components(p)
	if below == RegNone || len(parts) < 2 {
		return a.lookup(p, 0, out)
	}
	a.resolve = abi.ResolveBeneath | abi.ResolveNoSymlinks | abi.ResolveNoMagiclinks
	return a.lookupBelow(below, strings.Join(parts[1:], "/"), 0, out)
}

// Mask hides a path of the container: an empty read-only directory over a
// directory, the host's null device over anything else. A path that is not
// there needs no mask.
type Mask struct {
	Path  string
	Below Reg // the mount that Path is looked up in, without any link; none is the container's root
}

// Name implements [Op].
func (*Mask) Name() string { return "mask" }

// String implements [Op].
func (m *Mask) String() string { return "move_mount an empty " + m.Path }

func (m *Mask) lower(a *Asm) {
	to := a.tmp()
	// EACCES: a directory above it is closed to the container as well.
	a.lookupIn(m.Below, m.Path, to).accept(abi.ENOENT, abi.ENOTDIR, abi.EACCES)
	missing := a.here() - 1
	dir := a.ifDirectory(to)
	cover := a.tmp()
	a.call(abi.CallOpenTree, fd(RegNull), a.str(""), num(treeFlags(false)|abi.AtEmptyPath)).into(cover)
	// It is the host's own node: nothing inside may touch its times and mode.
	a.setattr(cover, Attrs{Set: abi.MountAttrRdonly | abi.MountAttrNosuid | abi.MountAttrNoexec})
	a.attach(cover, to)
	done := a.jump()
	a.skipOK(dir)
	// One file system covers all: what lies over the first directory is cloned for the others.
	another := a.ifHeld(RegEmpty)
	a.newFS("tmpfs", "tmpfs", []string{"nr_inodes=1", "mode=0555"}, abi.MountAttrRdonly|abi.MountAttrNosuid|abi.MountAttrNodev|abi.MountAttrNoexec, RegEmpty)
	a.attach(RegEmpty, to)
	made := a.jump()
	a.skipOK(another)
	clone := a.tmp()
	a.call(abi.CallOpenTree, fd(RegEmpty), a.str(""), num(treeFlags(false)|abi.AtEmptyPath)).into(clone)
	a.attach(clone, to)
	a.skipOK(made)
	a.skipOK(done)
	a.skipAccept(missing)
}

// ReadonlyPath makes a path of the container read-only, with all below it.
type ReadonlyPath struct {
	Path  string
	Below Reg // as in [Mask]
}

// Name implements [Op].
func (*ReadonlyPath) Name() string { return "read-only path" }

// String implements [Op].
func (r *ReadonlyPath) String() string { return "mount_setattr RDONLY " + r.Path }

func (r *ReadonlyPath) lower(a *Asm) {
	to := a.tmp()
	a.lookupIn(r.Below, r.Path, to).accept(abi.ENOENT, abi.ENOTDIR, abi.EACCES)
	missing := a.here() - 1
	cover := a.tmp()
	a.call(abi.CallOpenTree, fd(to), a.str(""), num(treeFlags(true)|abi.AtEmptyPath)).into(cover)
	a.setattr(cover, Attrs{RecSet: abi.MountAttrRdonly})
	a.attach(cover, to)
	a.skipAccept(missing)
}

// NewMount makes a detached mount of a new file system, for a later step to
// attach: fsopen(2), fsmount(2). On the runtime's side it belongs to the host's
// user namespace, so that device nodes in it work.
type NewMount struct {
	Type    string
	Source  string // as mountinfo shows it; empty is Type
	Options []string
	Attrs   Attrs
	Out     Reg
}

// Name implements [Op].
func (*NewMount) Name() string { return "fsmount" }

// String implements [Op].
func (m *NewMount) String() string {
	opts := append([]string(nil), m.Options...)
	if !m.Attrs.empty() {
		opts = append(opts, m.Attrs.String())
	}
	return words("fsmount", m.Type, strings.Join(opts, ","), "=", m.Out.String())
}

func (m *NewMount) lower(a *Asm) {
	a.newFS(m.Type, cmp.Or(m.Source, m.Type), m.Options, m.Attrs.Set, m.Out)
	a.setattr(m.Out, Attrs{RecSet: m.Attrs.RecSet, RecClear: m.Attrs.RecClear})
}

// Device puts a device node into the container: made with mknod(2), or where a
// user namespace forbids that, the host's own node bound.
type Device struct {
	Path         string
	Type         string // c, b, p
	Major, Minor uint32
	Mode         uint32
	UID, GID     uint32
	Bind         string // the host's node, when it is to be bound
	Tree         Reg    // the detached /dev that it is made in; none is the container's root
	Have         int    // leading components of Path that are known to be there
}

// Name implements [Op].
func (*Device) Name() string { return "device" }

// String implements [Op].
func (d *Device) String() string {
	if d.Bind != "" {
		return fmt.Sprintf("bind device %s on %s", d.Bind, d.Path)
	}
	return fmt.Sprintf("mknod %s %s %d:%d mode %04o", d.Path, d.Type, d.Major, d.Minor, d.Mode)
}

// number is the dev_t of makedev(3) in the kernel's encoding.
func (d *Device) number() uint64 {
	return uint64(d.Minor&0xff) | uint64(d.Major&0xfff)<<8 | uint64(d.Minor&^0xff)<<12
}

func (d *Device) lower(a *Asm) {
	dir, name := path.Split(path.Clean("/" + d.Path))
	if d.Bind != "" {
		tree, to := a.tmp(), a.tmp()
		a.call(abi.CallOpenTree, cwd(), a.str(d.Bind), num(treeFlags(false))).into(tree)
		a.file(d.Path, to)
		a.attach(tree, to)
		return
	}
	base := RegRoot
	if d.Tree != RegNone {
		base, dir = d.Tree, strings.TrimPrefix(dir, "/dev")
	}
	parent := a.tmp()
	a.directoryBelow(base, dir, d.Have, parent)
	kind := map[string]uint64{"c": abi.SIfchr, "u": abi.SIfchr, "b": abi.SIfblk, "p": abi.SIfifo}[d.Type]
	// A node that is there already is taken away first: it is the image's, and
	// may be anything.
	a.call(abi.CallUnlinkat, fd(parent), a.str(name), num(0)).accept(abi.ENOENT)
	a.call(abi.CallMknodat, fd(parent), a.str(name), num(kind|uint64(d.Mode)), num(d.number()))
	if d.Tree != RegNone {
		// The runtime has a umask. In the root another container could put a link here
		// meanwhile, which fchmodat would follow; but there it is 0.
		a.call(abi.CallFchmodat, fd(parent), a.str(name), num(uint64(d.Mode)))
	}
	if d.UID != 0 || d.GID != 0 {
		a.call(abi.CallFchownat, fd(parent), a.str(name), num(uint64(d.UID)), num(uint64(d.GID)), num(abi.AtSymlinkNofollow))
	}
}

// Symlink makes a symbolic link in the container; one that is there stays.
type Symlink struct {
	Target, Path string
	Have         int // leading components of Path that are known to be there
}

// Name implements [Op].
func (*Symlink) Name() string { return "symlink" }

// String implements [Op].
func (s *Symlink) String() string { return fmt.Sprintf("symlink %s to %s", s.Path, s.Target) }

func (s *Symlink) lower(a *Asm) {
	dir, name := path.Split(path.Clean("/" + s.Path))
	parent := a.tmp()
	a.directory(dir, s.Have, parent)
	a.call(abi.CallSymlinkat, a.str(s.Target), fd(parent), a.str(name)).accept(abi.EEXIST)
}

// Workdir makes the process's working directory where the image lacks it.
type Workdir struct{ Path string }

// Name implements [Op].
func (*Workdir) Name() string { return "mkdir" }

// String implements [Op].
func (w *Workdir) String() string { return "mkdir " + w.Path }

func (w *Workdir) lower(a *Asm) { a.directory(w.Path, 0, a.tmp()) }

// Remount changes attributes of the mount at Dest: mount_setattr(2).
type Remount struct {
	Dest  string
	Attrs Attrs
	File  bool // Dest may be no directory
}

// Name implements [Op].
func (*Remount) Name() string { return "remount" }

// String implements [Op].
func (r *Remount) String() string {
	return words("mount_setattr", r.Dest, strings.ToUpper(r.Attrs.String()))
}

func (r *Remount) lower(a *Asm) {
	at := RegRoot
	if r.Dest != "/" {
		at = a.tmp()
		kind := uint64(a.o.Directory)
		if r.File {
			kind = 0
		}
		a.lookup(r.Dest, kind, at)
	}
	a.setattr(at, r.Attrs)
}

// PivotRoot makes the container's root the root of its mount namespace and lets
// go of everything else: pivot_root(2), "pivot_root(".", ".")". Afterwards the
// host's tree lies over the new root, and "." leads to what lies topmost.
type PivotRoot struct {
	Scratch bool // a scratch lies over the host's root, and has to go first
}

// Name implements [Op].
func (*PivotRoot) Name() string { return "pivot_root" }

// String implements [Op].
func (*PivotRoot) String() string { return "pivot_root, umount the host's tree" }

func (p *PivotRoot) lower(a *Asm) {
	a.call(abi.CallFchdir, fd(RegRoot))
	a.call(abi.CallPivotRoot, a.str("."), a.str("."))
	if p.Scratch {
		a.call(abi.CallUmount2, a.str("."), num(abi.MNTDetach))
	}
	a.call(abi.CallUmount2, a.str("."), num(abi.MNTDetach))
	a.call(abi.CallChdir, a.str("/"))
}

// OpenProc keeps the host's procfs, for writing sysctls before anything of the
// container is there: its own /proc could be anything (CVE-2025-52881). Which
// namespace a parameter belongs to depends on the writer, not on the mount.
type OpenProc struct{}

// Name implements [Op].
func (*OpenProc) Name() string { return "open proc" }

// String implements [Op].
func (*OpenProc) String() string { return "open /proc = " + RegProc.String() }

func (*OpenProc) lower(a *Asm) {
	a.call(abi.CallOpenat, cwd(), a.str("/proc"), num(abi.OPath|abi.OCloexec|a.o.Directory), num(0)).into(RegProc)
}

// Sysctl writes a kernel parameter of the container's namespaces: proc(5).
type Sysctl struct{ Key, Value string }

// Name implements [Op].
func (*Sysctl) Name() string { return "sysctl" }

// String implements [Op].
func (s *Sysctl) String() string {
	return fmt.Sprintf("write /proc/sys/%s %q", sysctlPath(s.Key), s.Value)
}

// sysctlPath turns "net.ipv4.ip_forward" into "net/ipv4/ip_forward". As
// sysctl(8), a key whose first separator is a slash is a path already, and dots in it stay.
func sysctlPath(key string) string {
	dot, slash := strings.IndexByte(key, '.'), strings.IndexByte(key, '/')
	if slash >= 0 && (dot < 0 || slash < dot) {
		return key
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
}

func (s *Sysctl) lower(a *Asm) {
	f := a.tmp()
	how := a.openHow(abi.OWronly|abi.OCloexec, 0, abi.ResolveBeneath|abi.ResolveNoSymlinks|abi.ResolveNoXdev)
	a.call(abi.CallOpenat2, fd(RegProc), a.str("sys/"+sysctlPath(s.Key)), how, num(24)).into(f)
	a.call(abi.CallWrite, fd(f), a.mem([]byte(s.Value)), num(uint64(len(s.Value))))
}
