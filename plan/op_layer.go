package plan

import (
	"fmt"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// The layers of a view are directories in the scratch. Nothing but the plan writes
// there, so their names are plain paths below it. What a layer hides is no mount:
// no right inside takes it away.

// LayerDir makes a directory in a layer of a view, before the view is mounted. One
// that is there stays.
type LayerDir struct {
	Layer    string // "hide0", "upper0"
	Path     string // in the view
	Mode     uint32
	UID, GID uint32
}

// Name implements [Op].
func (*LayerDir) Name() string { return "layer directory" }

// String implements [Op].
func (d *LayerDir) String() string {
	s := fmt.Sprintf("mkdir %s mode=%04o in layer %s", d.Path, d.Mode, d.Layer)
	if d.UID != 0 || d.GID != 0 {
		s += fmt.Sprintf(" owner %d:%d", d.UID, d.GID)
	}
	return s
}

// inLayer is a path of a layer as it is below the scratch.
func inLayer(layer, p string) string {
	return strings.Join(append(components(layer), components(p)...), "/")
}

func (d *LayerDir) lower(a *Asm) {
	at := a.str(inLayer(d.Layer, d.Path))
	a.call(abi.CallMkdirat, fd(RegScratch), at, num(uint64(d.Mode))).accept(abi.EEXIST)
	if d.UID != 0 || d.GID != 0 {
		a.call(abi.CallFchownat, fd(RegScratch), at, num(uint64(d.UID)), num(uint64(d.GID)), num(abi.AtSymlinkNofollow))
	}
}

// Whiteout hides a path of the layers below: the character device 0:0, which
// overlayfs takes for "not there", and anybody may make (Linux 5.8).
type Whiteout struct{ Layer, Path string }

// Name implements [Op].
func (*Whiteout) Name() string { return "whiteout" }

// String implements [Op].
func (w *Whiteout) String() string {
	return fmt.Sprintf("mknod whiteout %s in layer %s", w.Path, w.Layer)
}

func (w *Whiteout) lower(a *Asm) {
	a.call(abi.CallMknodat, fd(RegScratch), a.str(inLayer(w.Layer, w.Path)), num(abi.SIfchr), num(0))
}

// Nobody is an id that owns nothing, as which what everybody may read of the host is
// shown. Distributions give 65533 and 65534 away.
const Nobody = 65532

// PublicLayer makes a read-only layer of what everybody may read of the lower one.
// overlayfs looks at its layers with the rights of who mounted it: here those of
// an id that owns nothing, without the capabilities that pass over permissions. So
// root inside, whose own files the host's root's are, reads those of mode 0600 no more
// than others do, and no right inside changes that.
type PublicLayer struct {
	N    int    // distinguishes the views of a plan
	Tree Reg    // the lower layer: a detached tree,
	Path string // or a directory of the host
}

// Name implements [Op].
func (*PublicLayer) Name() string { return "public layer" }

// String implements [Op].
func (p *PublicLayer) String() string {
	from := p.Path
	if p.Tree != RegNone {
		from = words(p.Tree.String(), p.Path)
	}
	return fmt.Sprintf("mount overlay of hide%d and %s as uid %d in layer public%d", p.N, from, Nobody, p.N)
}

func (p *PublicLayer) lower(a *Asm) {
	name := func(s string) string { return fmt.Sprintf("%s%d", s, p.N) }
	lower := a.lowerLayer(p.N, p.Tree, p.Path)
	a.call(abi.CallMkdirat, fd(RegScratch), a.str(name("public")), num(0o755))
	a.call(abi.CallMkdirat, fd(RegScratch), a.str(name("closed")), num(0))
	a.call(abi.CallFchdir, fd(RegScratch))
	// setfsuid(2) takes the capabilities over files out of the effective set, and
	// gives them back. It tells no error, as when the id is not mapped: so try.
	a.call(abi.CallSetfsgid, num(Nobody))
	a.call(abi.CallSetfsuid, num(Nobody))
	a.call(abi.CallOpenat, fd(RegScratch), a.str(name("closed")), num(abi.OCloexec|a.o.Directory), num(0)).accept(abi.EACCES)
	refused := a.here() - 1
	a.row(Row{Kind: RowFail, Call: abi.CallSetfsuid, Accept: [3]abi.Errno{abi.EPERM}})
	a.skipAccept(refused)
	layer := a.tmp()
	a.newFS("overlay", "overlay", []string{"lowerdir=" + name("hide") + ":" + lower, "userxattr"}, abi.MountAttrRdonly, layer)
	a.call(abi.CallSetfsuid, num(0))
	a.call(abi.CallSetfsgid, num(0))
	a.call(abi.CallMoveMount, fd(layer), a.str(""), fd(RegScratch), a.str(name("public")), num(abi.MoveMountFEmptyPath))
}

// lowerLayer names the lower layer of a view as overlayfs takes it. A tree is
// attached in the scratch, since only newer kernels take a detached mount; by a
// relative name, since the scratch has no path.
func (a *Asm) lowerLayer(n int, tree Reg, p string) string {
	if tree == RegNone {
		return escapeOverlay(p)
	}
	name := fmt.Sprintf("lower%d", n)
	a.call(abi.CallMkdirat, fd(RegScratch), a.str(name), num(0o755))
	a.call(abi.CallMoveMount, fd(tree), a.str(""), fd(RegScratch), a.str(name), num(abi.MoveMountFEmptyPath))
	return name
}
