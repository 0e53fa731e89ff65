package plan

import (
	"fmt"
	"slices"
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
	a.fail(abi.CallSetfsuid, abi.EPERM)
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

// ImageRoot makes the root of an image's container: an overlay of the image's layers and of a directory for
// what the container writes. All of it is attached in the scratch first, for overlayfs takes
// its layers by name, and those of the host are nothing that the container is to see.
type ImageRoot struct {
	Lower     Reg    // a detached tree: the one layer, or the directory of several
	LowerPath string // where it was on the host
	Names     []string
	Upper     Reg    // a detached tree with "upper" and "work"; none keeps writes in the scratch
	UpperPath string // where it was on the host
	Volatile  bool
	Nodev     bool     // device nodes in it are of no use
	Options   []string // of the overlay, beside those
}

// Name implements [Op].
func (*ImageRoot) Name() string { return "image root" }

// String implements [Op].
func (o *ImageRoot) String() string {
	s := "mount overlay of " + words(o.Lower.String(), o.LowerPath)
	if n := len(o.Names); n > 0 {
		s = fmt.Sprintf("mount overlay of %d layers of %s", n, words(o.Lower.String(), o.LowerPath))
	}
	if o.Upper != RegNone {
		s += " below " + words(o.Upper.String(), o.UpperPath)
	}
	if o.Volatile {
		s += " volatile"
	}
	s = words(append([]string{s}, o.Options...)...)
	return words(s, "on / =", RegRoot.String(), nodev(o.Nodev))
}

// layerNames are names of one byte for the layers of an overlay. fsconfig(2) takes 255 bytes for all of
// them and what is between them; only Linux 6.5 takes them one by one.
const layerNames = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!%&()*+-;<=>?@[]^_{|}~" +
	"\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab"

// maxLayers is how many directories an overlay is made of: Docker's limit, too.
const maxLayers = 127

func (o *ImageRoot) lower(a *Asm) {
	lower, upper := a.inScratch(o.Lower, "lower"), ""
	if n := min(len(o.Names), maxLayers); n > 0 {
		list := make([]string, n)
		for i, name := range o.Names[:n] {
			list[i] = layerNames[i : i+1]
			a.call(abi.CallSymlinkat, a.str("lower/"+name), fd(RegScratch), a.str(list[i]))
		}
		lower = strings.Join(list, ":")
	}
	if o.Upper != RegNone {
		upper = a.inScratch(o.Upper, "disk") + "/"
	} else {
		a.call(abi.CallMkdirat, fd(RegScratch), a.str("upper"), num(0o755))
		a.call(abi.CallMkdirat, fd(RegScratch), a.str("work"), num(0o755))
	}
	a.call(abi.CallFchdir, fd(RegScratch))
	options := []string{"lowerdir=" + lower, "upperdir=" + upper + "upper", "workdir=" + upper + "work", "userxattr"}
	if o.Volatile {
		options = append(options, "volatile")
	}
	options = append(options, o.Options...)
	attrs := uint64(0)
	if o.Nodev {
		attrs = abi.MountAttrNodev
	}
	a.newFS("overlay", "overlay", options, attrs, RegRoot)
	a.call(abi.CallMoveMount, fd(RegRoot), a.str(""), cwd(), a.str("/"), num(abi.MoveMountFEmptyPath))
}

// inScratch attaches a tree in the scratch.
func (a *Asm) inScratch(tree Reg, name string) string {
	a.call(abi.CallMkdirat, fd(RegScratch), a.str(name), num(0o755))
	a.call(abi.CallMoveMount, fd(tree), a.str(""), fd(RegScratch), a.str(name), num(abi.MoveMountFEmptyPath))
	return name
}

// MountIndex mounts the EROFS index of an image's layers, whose tars are the devices that its files lie on, for
// all containers of the image: erofs(5), "device=". Linux 6.12 mounts it without block devices.
type MountIndex struct {
	Index string
	Tars  []string // in the order of the index
	At    string
	// Options are of the file system, beside those.
	Options []string
}

// Name implements [Op].
func (*MountIndex) Name() string { return "mount index" }

// String implements [Op].
func (m *MountIndex) String() string {
	return words(fmt.Sprintf("mount erofs %s with %d tars on %s ro,nosuid,nodev", m.Index, len(m.Tars), m.At), strings.Join(m.Options, " "))
}

func (m *MountIndex) lower(a *Asm) {
	options := slices.Clone(m.Options)
	for _, t := range m.Tars {
		options = append(options, "device="+t)
	}
	mount := a.tmp()
	a.newFS("erofs", m.Index, options, abi.MountAttrRdonly|abi.MountAttrNosuid|abi.MountAttrNodev, mount)
	a.call(abi.CallMoveMount, fd(mount), a.str(""), cwd(), a.str(m.At), num(abi.MoveMountFEmptyPath))
}

// Unmount takes a mount of the host away. Whoever has opened or copied it keeps it, so it need not be free. One that is
// not there is none.
type Unmount struct{ At string }

// Name implements [Op].
func (*Unmount) Name() string { return "umount" }

// String implements [Op].
func (u *Unmount) String() string { return "umount " + u.At + " detached" }

func (u *Unmount) lower(a *Asm) {
	a.call(abi.CallUmount2, a.str(u.At), num(abi.MNTDetach|abi.UmountNofollow)).accept(abi.EINVAL, abi.ENOENT)
}
