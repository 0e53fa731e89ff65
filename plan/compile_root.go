package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

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
	// Usual has made what the layers need not have, and programs look for: /etc/mtab, a link to /proc/mounts, and /.dockerenv.
	Usual bool
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

func (c *compiler) rootPath() string { return path.Clean(c.source(c.spec.Root.Path)) }

// leaveChroot leaves the chroot that the caller is in, of a new mount namespace. What is shared with the machine has to be opened before, what else is opened after it.
func (c *compiler) leaveChroot() error {
	if err := c.sharedTrees(); err != nil || !c.host.Chroot || c.left {
		return err
	}
	c.left = true
	c.inside(&LeaveChroot{}, because("the caller is in a chroot, above which the machine's root is"), nil)
	return nil
}

// root attaches the root file system over "/" of the container's mount namespace.
func (c *compiler) root() error {
	if c.inPlace() {
		if c.isNew(abi.NSUser) {
			return specErr("root.path", "a root of its own in a new user namespace needs a new mount namespace: nothing can be mounted in another")
		}
		c.treesAt = len(c.plan.Steps)
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
	if err := c.leaveChroot(); err != nil {
		return err
	}
	c.inside(&Propagation{Path: "/", Mode: mode, Recursive: true}, because("no mount made inside reaches the host"), nil)
	if err := c.ownSources(); err != nil {
		return err
	}
	if c.o.Root != nil && c.hooked() {
		var err error
		if c.hookPlace, err = c.reg(); err != nil {
			return err
		}
		c.inside(&OpenOwnSource{OpenSource: OpenSource{Path: c.overBundle(), Out: c.hookPlace}}, because("hooks look for the container's files in its bundle"), nil)
	}
	c.treesAt = len(c.plan.Steps)
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
		return c.servedRoot(l, cause)
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
	op := &ImageRoot{Lower: c.views[0], LowerPath: l.Lower, Names: l.Names, UpperPath: l.Upper, Volatile: l.Volatile, Nodev: c.o.RootNodev, Options: c.mountLabel("overlay", nil)}
	size, why := r.Size, because("where the layers are put together")
	if l.Upper != "" {
		op.Upper, size = c.views[1], "1m"
	} else {
		why = because("writes stay in memory, and end with the container")
	}
	c.inside(&Scratch{Size: size}, why, nil)
	c.inside(op, cause, &RootCheck{})
	c.usual(l)
	return nil
}

func (c *compiler) usual(l *Layers) {
	if l.Usual {
		c.inside(&Mtab{Have: c.have("/etc/mtab")}, because("default: the mounts are at /etc/mtab, too"), nil)
		c.inside(&Dockerenv{}, because("default: programs tell by it that this is a container"), nil)
	}
}

// servedRoot has a program show the layers.
func (c *compiler) servedRoot(l *Layers, cause Cause) error {
	s := l.Server
	if c.mountLabel("overlay", nil) != nil {
		return specErr("linux.mountLabel", "%s shows the root file system, whose files cannot be labelled: without a label, or where the kernel's overlayfs does, as for root", path.Base(s.Program))
	}
	asks, err := c.reg()
	if err != nil {
		return err
	}
	c.inside(&MountFUSE{Subtype: s.Program[strings.LastIndexByte(s.Program, '/')+1:], Nodev: c.o.RootNodev, Out: asks}, cause, nil)
	c.inside(&Sync{From: Container, What: "root mounted", FDs: []Reg{asks}}, cause, nil)
	c.outside(&ServeRoot{Server: *s, FD: asks}, cause, nil)
	c.inside(&AttachFUSE{FD: asks}, cause, &RootCheck{})
	c.usual(l)
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
	v := viewLayers{c: c, r: r, n: n, hide: fmt.Sprintf("hide%d", n), upper: fmt.Sprintf("upper%d", n), made: map[string]bool{}}
	for i, h := range r.Hidden {
		if v.hidden(i) {
			hides = true
			c.inside(&Whiteout{Layer: v.hide, Path: v.above(v.hide, h.Path)}, because("%s", h.Reason), &HiddenCheck{Path: h.Path})
		}
	}
	for _, d := range r.Empty {
		if r.view(d.Path) == n {
			d.Path = v.above(v.upper, d.Path)
			v.dir(v.upper, d)
		}
	}
	if r.Public && !hides {
		v.dir(v.hide, RootDir{Path: "/", Mode: 0o755, Reason: r.Reason})
	}
	return hides
}

// viewLayers are the layers of one view as they are made.
type viewLayers struct {
	c           *compiler
	r           *Root
	n           int // which view
	hide, upper string
	made        map[string]bool
}

// hidden reports whether the whiteout of what is hidden as the ith is of this view: it comes once, and not where a directory above it is hidden.
func (v *viewLayers) hidden(i int) bool {
	h, all := v.r.Hidden[i], v.r.Hidden
	same := func(o RootHidden) bool { return o.Path == h.Path }
	within := func(o RootHidden) bool { return strings.HasPrefix(h.Path, o.Path+"/") && v.r.view(o.Path) == v.n }
	return v.r.view(h.Path) == v.n && !slices.ContainsFunc(all[:i], same) && !slices.ContainsFunc(all, within)
}

// dir makes a directory in a layer, once.
func (v *viewLayers) dir(layer string, d RootDir) {
	if v.made[layer+d.Path] {
		return
	}
	v.made[layer+d.Path] = true
	v.c.inside(&LayerDir{Layer: layer, Path: d.Path, Mode: d.Mode, UID: d.UID, GID: d.GID}, because("%s", d.Reason), nil)
}

// above makes the directories from the view's own to that of p, as the host has them, and returns p's name in the layer.
func (v *viewLayers) above(layer, p string) string {
	v.dir(layer, RootDir{Path: "/", Mode: 0o755, Reason: v.r.Reason})
	rel := strings.TrimPrefix(p, strings.TrimSuffix(v.r.Views[v.n].Dest, "/"))
	for i, ch := range rel {
		if i == 0 || ch != '/' {
			continue
		}
		d := RootDir{Mode: 0o755}
		if k := slices.IndexFunc(v.r.Above, func(d RootDir) bool { return d.Path == p[:len(p)-len(rel)+i] }); k >= 0 {
			d = v.r.Above[k]
		}
		d.Path, d.Reason = rel[:i], v.r.Reason
		if layer == v.hide && v.r.Public {
			// overlayfs looks for marks of its own on it, as one of the others. Who may
			// not enter the host's directory still finds nothing in it.
			d.Mode |= 0o005
		}
		v.dir(layer, d)
	}
	return rel
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
		c.inside(&PivotRoot{Scratch: c.scratch() && !c.hooked()}, because("the host's files are out of reach from here on"), nil)
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
