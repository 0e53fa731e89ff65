package plan

import (
	"fmt"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

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

// LeaveChroot makes the caller's root directory, which chroot(2) gave it, the root of the new mount namespace, and lets go of what is
// above it. pivot_root(2) puts the container's root in the place of the caller's root directory: in a chroot that leaves the machine's root
// above, where setns(2) takes whoever enters the namespace.
type LeaveChroot struct{}

// Name implements [Op].
func (*LeaveChroot) Name() string { return "leave chroot" }

// String implements [Op].
func (*LeaveChroot) String() string {
	return "setns, pivot_root to the caller's root directory, umount what is above it"
}

func (*LeaveChroot) lower(a *Asm) {
	ns, at, tree := a.tmp(), a.tmp(), a.tmp()
	a.call(abi.CallOpenat, cwd(), a.str("/proc/self/ns/mnt"), num(abi.OCloexec), num(0)).into(ns)
	a.call(abi.CallOpenat, cwd(), a.str("/"), num(abi.OPath|abi.OCloexec), num(0)).into(at)
	a.call(abi.CallSetns, fd(ns), num(abi.NSMount.CloneFlag())) // whose root is the root directory then
	// Before anything is unmounted, or that would reach the machine.
	a.call(abi.CallMountSetattr, cwd(), a.str("/"), num(abi.AtRecursive), memArg(a.mountAttr(0, 0, abi.MSSlave)), num(32))
	// The caller's root directory need not be a mount.
	a.call(abi.CallOpenTree, fd(at), a.str(""), num(treeFlags(true)|abi.AtEmptyPath)).into(tree)
	a.call(abi.CallMoveMount, fd(tree), a.str(""), fd(at), a.str(""), num(abi.MoveMountFEmptyPath|abi.MoveMountTEmptyPath))
	a.call(abi.CallFchdir, fd(tree))
	a.call(abi.CallPivotRoot, a.str("."), a.str("."))
	a.call(abi.CallUmount2, a.str("."), num(abi.MNTDetach))
	a.call(abi.CallChdir, a.str("/"))
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
