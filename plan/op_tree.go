package plan

import (
	"cmp"
	"fmt"
	"path"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

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
	Slave     bool // mounts of the host come to it, and none of its own go there
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
	if o.Slave {
		s += ", slave"
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
	case o.From != RegNone && o.From == o.Out: // there are not as many registers as a container may have mounts
		place, kept := a.tmp(), a.newMem(a.alloc(4))
		a.row(Row{Kind: RowStore, Args: [6]Arg{fd(o.From)}, N: 1, Mem: kept})
		a.openAt(o.From, o.Recursive, o.Out)
		a.row(Row{Kind: RowLoad, Mem: kept, Out: place})
	case o.From != RegNone:
		a.openAt(o.From, o.Recursive, o.Out)
		a.close(o.From)
	case o.Inside:
		a.openInside(o.Path, o.Recursive, o.Out)
	default:
		a.openTree(o.Path, o.Below, o.Recursive, o.Out)
	}
	switch {
	case o.IDMap && o.Slave && !(o.Recursive && o.IDMapTop): // both by one call
		a.idmap(o.Out, o.NS, o.Recursive, propagationFlag("slave"))
	case o.IDMap:
		a.idmap(o.Out, o.NS, o.Recursive && !o.IDMapTop, 0)
		if o.Slave {
			a.propagate(o.Out, "rslave")
		}
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

// idmap maps the tree by a user namespace, and sets its propagation, unless that is 0.
func (a *Asm) idmap(tree, ns Reg, recursive bool, propagation uint64) {
	if ns == RegNone {
		ns = a.tmp()
		a.call(abi.CallOpenat, fd(RegChildProc), a.str("ns/user"), num(abi.OCloexec), num(0)).into(ns)
	}
	m := a.mountAttr(abi.MountAttrIdmap, 0, propagation)
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

func (t *IDMapTree) lower(a *Asm) { a.idmap(t.Tree, t.NS, t.Recursive, 0) }

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
	Link  bool   // a symbolic link at Path is meant itself
	Out   Reg
}

// Name implements [Op].
func (*OpenSource) Name() string { return "open source" }

// String implements [Op].
func (o *OpenSource) String() string {
	return words("open", linkWords(o.Link), o.Path, belowWords(o.Below), "= "+o.Out.String())
}

func (o *OpenSource) lower(a *Asm) {
	o.open(a, func(flags uint64, out Reg) {
		p := cmp.Or(strings.TrimLeft(o.Path, "/"), ".")
		if o.Below != "" || o.Link {
			a.lookupAsIs(RegHost, p, flags, out)
			return
		}
		// With O_PATH an automount is triggered by who asks for a directory alone.
		a.lookupAsIs(RegHost, p, flags|a.o.Directory, out).accept(abi.ENOTDIR)
		first := a.here() - 1
		a.lookupAsIs(RegHost, p, flags, out)
		a.skipOK(first)
	})
}

// open opens the source by what opens its path.
func (o *OpenSource) open(a *Asm, at func(flags uint64, out Reg)) {
	if o.Below == "" {
		at(a.noFollow(o.Link), o.Out)
		return
	}
	dir := a.tmp()
	at(a.o.Directory, dir)
	a.lookupStrict(dir, o.Below, o.Out)
}

// OpenOwnSource is an [OpenSource] of the container's side, which comes to it itself, before the container's root is attached: over "/", where a ".." of the path, or of
// a link in it, would lead into that.
type OpenOwnSource struct {
	OpenSource
	Late bool // the root is attached: no symbolic link may be on the way
}

// Name implements [Op].
func (*OpenOwnSource) Name() string { return "open own source" }

func (o *OpenOwnSource) lower(a *Asm) {
	o.open(a, func(flags uint64, out Reg) {
		flags |= abi.OPath | abi.OCloexec
		if o.Late {
			a.call(abi.CallOpenat2, cwd(), a.str(path.Clean(o.Path)), a.openHow(flags, abi.ResolveNoSymlinks), num(24)).into(out)
			return
		}
		if o.Below != "" {
			a.call(abi.CallOpenat, cwd(), a.str(o.Path), num(flags), num(0)).into(out)
			return
		}
		// As O_PATH, but for an automount, which this triggers.
		how := uint64(abi.OpenTreeCloexec)
		if o.Link {
			how |= abi.AtSymlinkNofollow
		}
		a.call(abi.CallOpenTree, cwd(), a.str(o.Path), num(how)).into(out)
	})
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
