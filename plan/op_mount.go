package plan

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

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

// Others are what a bind that names some attributes takes from a mount that is no longer its source: all others are off, and so are those
// of access times where one of them is named. What a user namespace may not take from a mount stays, but for what was to be taken by name:
// free is for a second try, where all is refused. So do mount(8) and runc.
func (t Attrs) Others() (all, free uint64) {
	const locked = abi.MountAttrRdonly | abi.MountAttrNosuid | abi.MountAttrNodev | abi.MountAttrNoexec
	free = t.Clear | abi.MountAttrNosymfollow
	return free | locked, free
}

// setOnly gives a tree the attributes of a bind that names some.
func (a *Asm) setOnly(tree Reg, t Attrs) {
	set := func(clear uint64) *Row {
		return a.call(abi.CallMountSetattr, fd(tree), a.str(""), num(abi.AtEmptyPath), memArg(a.mountAttr(t.Set, clear, 0)), num(32))
	}
	all, free := t.Others()
	set(all).accept(abi.EPERM)
	first := a.here() - 1
	set(free)
	a.skipOK(first)
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

// newFS makes a detached mount of a new file system: fsopen(2), fsconfig(2), fsmount(2).
func (a *Asm) newFS(kind, source string, options []string, attrs uint64, out Reg) {
	a.newFSMode(kind, source, options, nil, RegNone, attrs, out)
}

// newFSMode is newFS with an option mode that a row before wrote, and an option pidns.
func (a *Asm) newFSMode(kind, source string, options []string, mode *Mem, pids Reg, attrs uint64, out Reg) {
	fs := a.tmp()
	a.openFS(kind, source, options, mode, pids, fs)
	a.call(abi.CallFsmount, fd(fs), num(abi.FsmountCloexec), num(attrs)).into(out)
}

// openFS makes a new file system that is no mount yet.
func (a *Asm) openFS(kind, source string, options []string, mode *Mem, pids, fs Reg) {
	a.call(abi.CallFsopen, a.str(kind), num(abi.FsopenCloexec)).into(fs)
	if source != "" {
		a.call(abi.CallFsconfig, fd(fs), num(abi.FsconfigSetString), a.str("source"), a.str(source), num(0))
	}
	if kind == "overlay" {
		options = shortLowers(options)
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
	if pids != RegNone {
		a.call(abi.CallFsconfig, fd(fs), num(abi.FsconfigSetFD), a.str("pidns"), num(0), fd(pids))
	}
	a.call(abi.CallFsconfig, fd(fs), num(abi.FsconfigCmdCreate), num(0), num(0), num(0))
}

// longestOption is what fsconfig(2) takes of a string, which mount(2) had a page for.
const longestOption = 255

// shortLowers has the layers of an overlay one by one where lowerdir= is longer than fsconfig(2) takes: that is possible since Linux 6.5. Podman has
// such a list where a part of an image is mounted.
func shortLowers(options []string) []string {
	at := slices.IndexFunc(options, func(o string) bool {
		value, ok := strings.CutPrefix(o, "lowerdir=")
		return ok && len(value) > longestOption
	})
	if at < 0 {
		return options
	}
	var layers []string
	key, layer := "lowerdir+=", ""
	value := options[at][len("lowerdir="):] + ":"
	for i := 0; i < len(value); i++ {
		switch {
		case value[i] == '\\' && i+2 < len(value):
			i++
			layer += value[i : i+1]
		case value[i] != ':':
			layer += value[i : i+1]
		case layer == "": // after two colons come layers of data alone
			key = "datadir+="
		default:
			layers, layer = append(layers, key+layer), ""
		}
	}
	return slices.Concat(options[:at], layers, options[at+1:])
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
	NotProc bool   // Dest may not be inside a procfs, nor the root, wherever links of the image lead
	Inherit bool   // a tmpfs that has the mode of the directory that it covers, where one is there
	Label   string // of SELinux, that its root has, where the file system takes no option for that
	PIDNS   Reg    // a procfs is of this pid namespace, and not of the one that this process is in
	FS      Reg    // the file system, where an [OpenFS] has made it
}

// Name implements [Op].
func (*Mount) Name() string { return "mount" }

// String implements [Op].
func (m *Mount) String() string {
	s, opts := fmt.Sprintf("mount %s on %s", m.Type, m.Dest), append([]string(nil), m.Options...)
	if m.FS != RegNone {
		s, opts = fmt.Sprintf("mount %s %s on %s", m.FS, m.Type, m.Dest), nil
	}
	if m.Inherit {
		opts = append(opts, "mode as below")
	}
	if m.PIDNS != RegNone {
		opts = append(opts, "pidns="+m.PIDNS.String())
	}
	if !m.Attrs.empty() {
		opts = append(opts, m.Attrs.String())
	}
	if m.Label != "" {
		opts = append(opts, "label "+m.Label)
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
	if m.NotProc {
		a.notInProc(to)
		a.notRoot(to)
	}
	out := m.Out
	if out == RegNone {
		out = a.tmp()
	}
	if m.FS != RegNone {
		a.call(abi.CallFsmount, fd(m.FS), num(abi.FsmountCloexec), num(m.Attrs.Set)).into(out)
		a.close(m.FS) // a limit of open files may come before the end
	} else {
		a.newFSMode(m.Type, m.Source, m.Options, mode, m.PIDNS, m.Attrs.Set, out)
	}
	// fsmount sets exactly m.Attrs.Set: nothing is left to clear, and clearing the
	// field of access times alone would undo noatime and strictatime.
	a.setattr(out, Attrs{RecSet: m.Attrs.RecSet, RecClear: m.Attrs.RecClear})
	a.attach(out, to)
	a.propagate(out, m.Mode)
	if m.Label != "" {
		a.label(out, m.Label)
	}
}

// label gives the root of a mount an SELinux label, where it can have one.
func (a *Asm) label(mount Reg, label string) {
	root := a.tmp()
	a.call(abi.CallOpenat, fd(mount), a.str("."), num(abi.ORdonly|a.o.Directory|abi.OCloexec), num(0)).into(root)
	a.call(abi.CallFsetxattr, fd(root), a.str("security.selinux"), a.mem([]byte(label)), num(uint64(len(label))), num(0)).accept(abi.EOPNOTSUPP, abi.EROFS)
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
// opened by an [OpenTree] before, or is cloned here: from what an [OpenSource] or [OpenOwnSource] has opened, or from Source.
type Bind struct {
	Tree      Reg
	From      Reg
	Source    string
	Below     string // as in [OpenTree]
	Inside    bool   // Source is a path of the container, as it is by then
	Link      bool   // a symbolic link at Source is meant itself
	Dest      string
	OnLink    bool // a symbolic link at Dest is covered, and not what it leads to
	Recursive bool
	Attrs     Attrs
	Mode      string
	Dir       bool // the source is known to be a directory
	Have      int  // leading components of Dest that are known to be there
	Strict    bool // no symbolic link may be on the way to Dest
	NotProc   bool // Dest may not be inside a procfs, nor the root, wherever links of the image lead
	OfProc    bool // the source must be of a procfs
	Only      bool // what Attrs does not name is off, where that may be
	Out       Reg  // a register that keeps the mount, for later steps
}

// Name implements [Op].
func (*Bind) Name() string { return "bind" }

// String implements [Op].
func (b *Bind) String() string {
	from := words(inside(b.Inside), linkWords(b.Link), b.Source, belowWords(b.Below))
	if held := max(b.Tree, b.From); held != RegNone {
		from = words(held.String(), from)
	}
	s := fmt.Sprintf("bind %s on %s", from, words(linkWords(b.OnLink), b.Dest))
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
		case b.Link:
			a.call(abi.CallOpenTree, cwd(), a.str(b.Source), num(treeFlags(b.Recursive)|abi.AtSymlinkNofollow)).into(tree)
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
	if b.OfProc {
		proc := a.ifProc(tree)
		a.fail(abi.CallFstatfs, abi.EPERM)
		a.skipOK(proc)
	}
	attrs := b.Attrs
	if b.Only {
		a.setOnly(tree, attrs)
		attrs.Set, attrs.Clear = 0, 0
	}
	a.setattr(tree, attrs)
	to := a.tmp()
	switch {
	case b.OnLink:
		a.lookup(b.Dest, a.o.Nofollow, to).accept(abi.ENOENT)
		there := a.here() - 1
		a.likeTree(tree, b.Dest, to)
		a.skipOK(there)
	case b.Dir:
		a.directory(b.Dest, b.Have, to)
	default:
		a.likeTree(tree, b.Dest, to)
	}
	if b.NotProc {
		a.notInProc(to)
		a.notRoot(to)
	}
	a.attach(tree, to)
	a.propagate(tree, b.Mode)
	if b.Tree != RegNone && !b.Dir { // a /dev that was made may be asked for twice
		a.close(b.Tree) // as above
	}
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

// Attrs are those of the null device over what is no directory: it is the host's own node, and nothing inside may touch its times and mode.
func (*Mask) Attrs() Attrs {
	return Attrs{Set: abi.MountAttrRdonly | abi.MountAttrNosuid | abi.MountAttrNoexec}
}

func (m *Mask) lower(a *Asm) {
	to := a.tmp()
	// EACCES: a directory above it is closed to the container as well.
	a.lookupIn(m.Below, m.Path, to).accept(abi.ENOENT, abi.ENOTDIR, abi.EACCES)
	missing := a.here() - 1
	dir := a.ifType(to, abi.SIfdir)
	cover := a.tmp()
	a.call(abi.CallOpenTree, fd(RegNull), a.str(""), num(treeFlags(false)|abi.AtEmptyPath)).into(cover)
	a.setattr(cover, m.Attrs())
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

// OpenFS makes a new file system, for a [Mount] later: fsopen(2). What it is made of on the host is looked up now.
type OpenFS struct {
	Type    string
	Source  string
	Options []string
	Out     Reg
}

// Name implements [Op].
func (*OpenFS) Name() string { return "fsopen" }

// String implements [Op].
func (o *OpenFS) String() string {
	return words("fsopen", o.Type, strings.Join(o.Options, ","), "=", o.Out.String())
}

func (o *OpenFS) lower(a *Asm) { a.openFS(o.Type, o.Source, o.Options, nil, RegNone, o.Out) }

// NewMount makes a detached mount of a new file system, for a later step to
// attach: fsopen(2), fsmount(2). On the runtime's side it belongs to the host's
// user namespace, so that device nodes in it work.
type NewMount struct {
	Type    string
	Source  string // as mountinfo shows it; empty is Type
	Options []string
	PIDNS   Reg // as in [Mount]
	Attrs   Attrs
	Out     Reg
}

// Name implements [Op].
func (*NewMount) Name() string { return "fsmount" }

// String implements [Op].
func (m *NewMount) String() string {
	opts := append([]string(nil), m.Options...)
	if m.PIDNS != RegNone {
		opts = append(opts, "pidns="+m.PIDNS.String())
	}
	if !m.Attrs.empty() {
		opts = append(opts, m.Attrs.String())
	}
	return words("fsmount", m.Type, strings.Join(opts, ","), "=", m.Out.String())
}

func (m *NewMount) lower(a *Asm) {
	a.newFSMode(m.Type, cmp.Or(m.Source, m.Type), m.Options, nil, m.PIDNS, m.Attrs.Set, m.Out)
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
	Replace      bool   // whatever is there is taken away first; otherwise anything but this very device is an error
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
	kind := map[string]uint64{"c": abi.SIfchr, "u": abi.SIfchr, "b": abi.SIfblk, "p": abi.SIfifo}[d.Type]
	if d.Bind != "" {
		tree, to := a.tmp(), a.tmp()
		a.call(abi.CallOpenTree, cwd(), a.str(d.Bind), num(treeFlags(false))).into(tree)
		// Who may choose a device chooses no other file of the host, or directory, or socket.
		node := a.ifType(tree, kind)
		a.fail(abi.CallOpenTree, abi.ENODEV)
		a.skipOK(node)
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
	unlink := []Arg{fd(parent), a.str(name), num(0)}
	mknod := []Arg{fd(parent), a.str(name), num(kind | uint64(d.Mode)), num(d.number())}
	if d.Replace {
		a.call(abi.CallUnlinkat, unlink...).accept(abi.ENOENT)
		a.call(abi.CallMknodat, mknod...)
	} else {
		a.call(abi.CallMknodat, mknod...).accept(abi.EEXIST)
		made := a.here() - 1
		d.same(a, parent, name, kind)
		// Made anew, it has the mode that is asked for, and no other names.
		a.call(abi.CallUnlinkat, unlink...)
		a.call(abi.CallMknodat, mknod...)
		a.skipOK(made)
	}
	if d.Tree != RegNone {
		// The runtime has a umask. In the root another container could put a link here
		// meanwhile, which fchmodat would follow; but there it is 0.
		a.call(abi.CallFchmodat, fd(parent), a.str(name), num(uint64(d.Mode)))
	}
	if d.UID != 0 || d.GID != 0 {
		a.call(abi.CallFchownat, fd(parent), a.str(name), num(uint64(d.UID)), num(uint64(d.GID)), num(abi.AtSymlinkNofollow))
	}
}

// same fails where what is there is not this device. runtime-spec wants that to be an error: it is the image's, or on a volume somebody's.
func (d *Device) same(a *Asm, parent Reg, name string, kind uint64) {
	there := a.tmp()
	a.lookupAsIs(parent, name, a.o.Nofollow, there)
	status := a.statx(there, statxType)
	only := func(row int) {
		a.fail(abi.CallMknodat, abi.EEXIST)
		a.skipOK(row)
	}
	only(a.ifMasked(status, statxMode, kind, abi.SIfmt))
	if kind != abi.SIfifo {
		only(a.ifMasked(status, statxMajor, uint64(d.Major), 0xffffffff))
		only(a.ifMasked(status, statxMinor, uint64(d.Minor), 0xffffffff))
	}
}

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
