package plan

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// mountOptions are a mount's options, sorted by what they act on.
type mountOptions struct {
	bind, recursive bool
	attrs           Attrs
	idmap, ridmap   bool     // id-map the source with the container's user namespace
	mode            string   // propagation
	remount         bool     // change what is mounted there
	copyUp          bool     // a new tmpfs begins with what it covers
	ofLink, onLink  bool     // a link that is the source, or the destination, is meant itself: as crun
	copyLink        bool     // a source that is a symbolic link is copied, and not mounted: crun(1)
	data            []string // of the file system
}

// An attrWord is an option that sets or clears an attribute of a mount.
type attrWord struct {
	word       string
	set, clear uint64
}

// attrWords lists the words of mount(8) that are attributes of a mount. With an
// "r" before them they act on all mounts below as well (runtime-spec
// config.md, "Linux mount options").
var attrWords = [...]attrWord{
	{"ro", abi.MountAttrRdonly, 0}, {"rw", 0, abi.MountAttrRdonly},
	{"nosuid", abi.MountAttrNosuid, 0}, {"suid", 0, abi.MountAttrNosuid},
	{"nodev", abi.MountAttrNodev, 0}, {"dev", 0, abi.MountAttrNodev},
	{"noexec", abi.MountAttrNoexec, 0}, {"exec", 0, abi.MountAttrNoexec},
	{"nodiratime", abi.MountAttrNodiratime, 0}, {"diratime", 0, abi.MountAttrNodiratime},
	{"nosymfollow", abi.MountAttrNosymfollow, 0}, {"symfollow", 0, abi.MountAttrNosymfollow},
	{"relatime", abi.MountAttrRelatime, abi.MountAttrAtime}, {"norelatime", 0, 0}, // as with runc and crun: relatime is no bit that could be cleared
	{"noatime", abi.MountAttrNoatime, abi.MountAttrAtime}, {"atime", abi.MountAttrRelatime, abi.MountAttrAtime},
	{"strictatime", abi.MountAttrStrictatime, abi.MountAttrAtime}, {"nostrictatime", abi.MountAttrRelatime, abi.MountAttrAtime},
}

// modes are the words for the propagation of a mount.
var modes = [...]string{"private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable"}

// superWords are the words of mount(8) for flags of a file system, which fsconfig(2) takes for
// a new one. A bind has its file system's.
var superWords = [...]string{"sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand"}

// idleWords are flags of mount(2) that change nothing any more, or only what the kernel logs.
var idleWords = [...]string{"acl", "noacl", "iversion", "noiversion", "silent", "loud", "defaults", ""}

// MountOptions lists the words that mounts[i].options may have for every file system.
func MountOptions() []string {
	list := []string{"bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup", "copy-symlink", "src-nofollow", "dest-nofollow"}
	list = append(append(list, modes[:]...), superWords[:]...)
	for _, w := range idleWords {
		if w != "" {
			list = append(list, w)
		}
	}
	for _, w := range attrWords {
		list = append(list, w.word, "r"+w.word)
	}
	slices.Sort(list)
	return list
}

func findAttr(word string) (attrWord, bool) {
	for _, w := range attrWords {
		if w.word == word {
			return w, true
		}
	}
	return attrWord{}, false
}

// isAttr tells a word for an attribute of the mount itself.
func isAttr(word string) bool {
	_, ok := findAttr(word)
	return ok
}

// apply lets a later word win over an earlier one.
func (w attrWord) apply(set, clear *uint64) {
	*set = *set&^w.clear&^w.set | w.set
	*clear = *clear&^w.set&^w.clear | w.clear
}

// bindAtime is what the words for access times make of a bind. As with mount(2), a word that
// takes another one back says nothing by itself, and without any the source's stay.
func bindAtime(words []string) (set, clear uint64) {
	var noatime, nodiratime, relatime, strictatime bool
	for _, w := range words {
		switch w {
		case "noatime", "atime":
			noatime = w == "noatime"
		case "nodiratime", "diratime":
			nodiratime = w == "nodiratime"
		case "relatime", "norelatime":
			relatime = w == "relatime"
		case "strictatime", "nostrictatime":
			strictatime = w == "strictatime"
		}
	}
	if !noatime && !nodiratime && !relatime && !strictatime {
		return 0, 0
	}
	switch {
	case strictatime:
		set = abi.MountAttrStrictatime
	case noatime:
		set = abi.MountAttrNoatime
	}
	if nodiratime {
		set |= abi.MountAttrNodiratime
	}
	return set, abi.MountAttrAtime | abi.MountAttrNodiratime
}

// parseMount sorts the options of mounts[i].
func (c *compiler) parseMount(i int, m specs.Mount) (mountOptions, error) {
	o := mountOptions{bind: m.Type == "bind"}
	for k, word := range m.Options {
		if err := o.word(word); err != nil {
			return o, specErr(fmt.Sprintf("mounts[%d].options[%d]", i, k), "%v", err)
		}
	}
	if o.bind && !o.remount {
		const all = abi.MountAttrAtime | abi.MountAttrNodiratime
		set, clear := bindAtime(m.Options)
		o.attrs.Set, o.attrs.Clear = o.attrs.Set&^all|set, o.attrs.Clear&^all|clear
	}
	own := len(m.UIDMappings) > 0
	o.idmap = o.idmap || own
	switch {
	case own != (len(m.GIDMappings) > 0):
		return o, specErr(fmt.Sprintf("mounts[%d].uidMappings", i), "uidMappings and gidMappings belong together")
	case o.idmap && !o.bind:
		return o, specErr(fmt.Sprintf("mounts[%d].options", i), "ids are mapped in bind mounts only")
	case o.idmap && !own && !c.userNS:
		return o, specErr(fmt.Sprintf("mounts[%d].options", i), "idmap without uidMappings is for a container with a user namespace")
	case o.copyUp && m.Type != "tmpfs":
		return o, specErr(fmt.Sprintf("mounts[%d].options", i), "tmpcopyup is for mounts of type tmpfs")
	case (o.copyLink || o.ofLink || o.onLink) && (!o.bind || o.remount):
		return o, specErr(fmt.Sprintf("mounts[%d].options", i), "copy-symlink, src-nofollow and dest-nofollow are for bind mounts")
	case o.copyLink && (o.ofLink || o.onLink):
		return o, specErr(fmt.Sprintf("mounts[%d].options", i), "copy-symlink does not go with src-nofollow and dest-nofollow")
	case o.ofLink && o.idmap:
		return o, specErr(fmt.Sprintf("mounts[%d].options", i), "src-nofollow does not go with idmap")
	}
	return o, nil
}

// word takes one option into o.
func (o *mountOptions) word(word string) error {
	switch word {
	case "bind":
		o.bind = true
		return nil
	case "rbind":
		o.bind, o.recursive = true, true
		return nil
	case "remount":
		o.remount = true
		return nil
	case "idmap":
		o.idmap = true
		return nil
	case "ridmap":
		o.idmap, o.ridmap = true, true
		return nil
	case "tmpcopyup":
		o.copyUp = true
		return nil
	case "copy-symlink":
		o.copyLink = true
		return nil
	case "src-nofollow":
		o.ofLink = true
		return nil
	case "dest-nofollow":
		o.onLink = true
		return nil
	}
	if slices.Contains(modes[:], word) {
		o.mode = word
		return nil
	}
	if slices.Contains(idleWords[:], word) {
		return nil
	}
	if w, ok := findAttr(word); ok {
		w.apply(&o.attrs.Set, &o.attrs.Clear)
	} else if w, ok := findAttr(strings.TrimPrefix(word, "r")); ok && word[0] == 'r' {
		w.apply(&o.attrs.RecSet, &o.attrs.RecClear)
	} else if !o.bind && !o.remount {
		o.data = append(o.data, word)
	} else if !slices.Contains(superWords[:], word) {
		return fmt.Errorf("a bind mount has no option %q", word)
	}
	return nil
}

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
	c.inside(op, cause, c.mountCheck(dest, "", o))
	if op.Recursive && op.Tree == RegNone && !op.Inside && !op.Link {
		c.recursive = append(c.recursive, Step{Op: op, Side: Container, Cause: cause})
	}
	c.mountedAt(dest)
	return nil
}

// tmpfsSize is the limit that options of a tmpfs set, in bytes: tmpfs(5). 0 is none, one in hundredths of the memory, or one in blocks.
func tmpfsSize(options []string) (bytes uint64) {
	for _, o := range options {
		value, ok := strings.CutPrefix(o, "size=")
		if !ok {
			continue
		}
		digits := strings.TrimRight(value, "kKmMgG")
		n, err := strconv.ParseUint(digits, 10, 64)
		shift := map[string]int{"": 0, "k": 10, "m": 20, "g": 30}
		by, known := shift[strings.ToLower(value[len(digits):])]
		if bytes = n << by; err != nil || !known || bytes>>by != n {
			bytes = 0
		}
	}
	return bytes
}

// newMount mounts a file system that the kernel makes.
func (c *compiler) newMount(i int, m specs.Mount, dest string, o mountOptions, cause Cause) error {
	check := c.mountCheck(dest, m.Type, o)
	op := &Mount{Type: m.Type, Source: m.Source, Dest: dest, Options: c.mountLabel(m.Type, o.data), Attrs: o.attrs, Mode: o.mode}
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
	c.host1(&CopyUp{From: op.Covered, To: op.Out, Dest: op.Dest}, cause, nil)
	c.host1(&Sync{From: Runtime, What: "copied"}, cause, nil)
	c.mountedAt(op.Dest)
	if readonly {
		c.inside(&Remount{Dest: op.Dest, Attrs: Attrs{Set: abi.MountAttrRdonly}}, cause, nil)
	}
	return nil
}

// isMode tells the option of a tmpfs that gives its mode.
func isMode(option string) bool { return strings.HasPrefix(option, "mode=") }

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
		for _, m := range c.gids {
			if gid >= m.Inside && uint64(gid) < uint64(m.Inside)+uint64(m.Size) {
				return false
			}
		}
		return true
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
		c.inside(&Mount{Type: "cgroup2", Source: "cgroup", Dest: dest, Attrs: o.attrs, Mode: o.mode, NotProc: c.mayLeadToProc(dest)}, cause,
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

// defaultDevices are those that runtime-spec has a runtime supply:
// config-linux.md, "Default devices".
func defaultDevices() []specs.LinuxDevice {
	var list []specs.LinuxDevice
	for _, d := range []struct {
		name         string
		major, minor int64
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}} {
		list = append(list, specs.LinuxDevice{Path: "/dev/" + d.name, Type: "c", Major: d.major, Minor: d.minor})
	}
	return list
}

// A deviceStep is a device to make, with its reason.
type deviceStep struct {
	dev   specs.LinuxDevice
	field string
	cause Cause
}

// deviceList gives the default devices and the spec's, which may replace them.
func (c *compiler) deviceList() []deviceStep {
	var list []deviceStep
	for _, d := range defaultDevices() {
		if !slices.ContainsFunc(c.linux.Devices, func(x specs.LinuxDevice) bool { return path.Clean(x.Path) == d.Path }) {
			list = append(list, deviceStep{d, "", because("default: devices of runtime-spec")})
		}
	}
	for i, d := range c.linux.Devices {
		field := fmt.Sprintf("linux.devices[%d]", i)
		list = append(list, deviceStep{d, field, c.cause(field)})
	}
	return list
}

// findDev finds the mount of /dev that is to be made on the runtime's side: where the
// container has a user namespace of its own and the caller is privileged, nodes that are made inside
// would not work, and bound ones keep the host's owner. Only a tmpfs is made so.
func (c *compiler) findDev() error {
	if !c.isNew(abi.NSUser) || !c.host.Privileged() || !c.isNew(abi.NSMount) {
		return nil
	}
	// Of several mounts there the last one is seen.
	at := -1
	for i, m := range c.spec.Mounts {
		if path.Clean("/"+m.Destination) == "/dev" {
			at = i
		}
	}
	if at < 0 || c.spec.Mounts[at].Type != "tmpfs" {
		return nil
	}
	if c.devAt = at; at > 0 {
		return nil
	}
	// Nothing is to be mounted before it: it comes with what is sent first.
	if err := c.makeDev(); err != nil {
		return err
	}
	c.toSend = append(c.toSend, c.dev)
	return nil
}

// devTree has /dev made at its place in the order of mounts, which mountinfo shows: by when they
// were made, not by when they were attached.
func (c *compiler) devTree() error {
	if c.dev != RegNone {
		return nil
	}
	why := c.cause(fmt.Sprintf("mounts[%d]", c.devAt))
	c.add(Container, &Sync{From: Container, What: "mounts before /dev made"}, why, nil)
	if err := c.makeDev(); err != nil {
		return err
	}
	c.host1(&Sync{From: Runtime, What: "/dev made", FDs: []Reg{c.dev}}, why, nil)
	return nil
}

// makeDev makes /dev with its nodes.
func (c *compiler) makeDev() error {
	o, err := c.parseMount(c.devAt, c.spec.Mounts[c.devAt])
	if err != nil {
		return err
	}
	if c.dev, err = c.reg(); err != nil {
		return err
	}
	o.attrs.Set &^= abi.MountAttrRdonly // which comes last
	options := slices.Clone(c.mountLabel("tmpfs", o.data))
	if !slices.ContainsFunc(options, isMode) {
		options = append(options, "mode=755") // that of the image's is out of sight
	}
	options = append(options, fmt.Sprintf("uid=%d", outside(c.uids, 0)), fmt.Sprintf("gid=%d", outside(c.gids, 0)))
	c.host1(&NewMount{Type: "tmpfs", Source: c.spec.Mounts[c.devAt].Source, Options: options, Attrs: o.attrs, Out: c.dev}, c.cause(fmt.Sprintf("mounts[%d]", c.devAt)), nil)
	for _, d := range c.deviceList() {
		if strings.HasPrefix(path.Clean(d.dev.Path), "/dev/") {
			if err := c.device(d, c.dev); err != nil {
				return err
			}
		}
	}
	return nil
}

// outside maps an id of the container to the host's; 65534 where it has none.
func outside(m []IDMapping, id uint32) uint32 {
	for _, r := range m {
		if id >= r.Inside && id-r.Inside < r.Size {
			return r.Outside + id - r.Inside
		}
	}
	return 65534
}

func (c *compiler) devices() error {
	if !c.builds() {
		return nil
	}
	for i, m := range c.spec.Mounts {
		if o, err := c.parseMount(i, m); err == nil && o.bind && path.Clean("/"+m.Destination) == "/dev" {
			return nil // the host's own /dev, or another's: as it is
		}
	}
	ownNull := false
	for _, d := range c.deviceList() {
		null := path.Clean("/"+d.dev.Path) == "/dev/null" && d.dev.Type == "c" && d.dev.Major == 1 && d.dev.Minor == 3
		if c.dev != RegNone && strings.HasPrefix(path.Clean(d.dev.Path), "/dev/") {
			ownNull = ownNull || null
			continue
		}
		if c.mounted[path.Clean("/"+d.dev.Path)] > 0 {
			continue // a mount of the spec is there, which is not to be taken away
		}
		if err := c.device(d, RegNone); err != nil {
			return err
		}
		ownNull = ownNull || null && !c.bindsDevices()
	}
	if ownNull && len(c.o.Nulls) > 0 && !c.spec.Process.Terminal {
		c.inside(&OwnNull{FDs: c.o.Nulls}, because("default: root inside changes no device of the machine"), nil)
	}
	links := because("default: links of runtime-spec")
	for _, l := range []Symlink{
		{Target: "/proc/self/fd", Path: "/dev/fd"}, {Target: "/proc/self/fd/0", Path: "/dev/stdin"},
		{Target: "/proc/self/fd/1", Path: "/dev/stdout"}, {Target: "/proc/self/fd/2", Path: "/dev/stderr"},
	} {
		l.Have = c.have(l.Path)
		c.inside(&l, links, &LinkCheck{Path: l.Path, Target: l.Target})
	}
	// Also where /dev/pts is a bind mount, or what the container mounts there itself.
	if c.hasPts || c.mounted["/dev"]+c.mounted["/dev/pts"] > 0 && c.mounted["/dev/ptmx"] == 0 {
		c.inside(&Symlink{Target: "pts/ptmx", Path: "/dev/ptmx", Have: c.have("/dev/ptmx")}, links, &LinkCheck{Path: "/dev/ptmx", Target: "pts/ptmx"})
	}
	return nil
}

// bindsDevices tells that nodes in the container's root are the host's, bound.
func (c *compiler) bindsDevices() bool { return c.userNS || !c.host.AllIDs }

// device makes one device: in a detached /dev, or in the container's root.
func (c *compiler) device(s deviceStep, tree Reg) error {
	d := s.dev
	if !slices.Contains([]string{"c", "u", "b", "p"}, d.Type) {
		return specErr(s.field+".type", "unknown device type %q: there are c, u, b and p", d.Type)
	}
	if err := fits(s.field+".path", d.Path); err != nil {
		return err
	}
	op := &Device{Path: path.Clean("/" + d.Path), Type: d.Type, Major: uint32(d.Major), Minor: uint32(d.Minor), Mode: 0o666, Tree: tree}
	if tree == RegNone {
		op.Have = c.have(op.Path)
	}
	if d.FileMode != nil {
		op.Mode = uint32(*d.FileMode) & 0o7777
	}
	if d.UID != nil {
		op.UID = *d.UID
	}
	if d.GID != nil {
		op.GID = *d.GID
	}
	side := Container
	switch {
	case tree != RegNone:
		side, op.UID, op.GID = Runtime, outside(c.uids, op.UID), outside(c.gids, op.GID)
	case c.bindsDevices() && d.Type != "p":
		// mknod is not for user namespaces, the caller's own among them; the host's node of that name is.
		op.Bind = op.Path
	}
	kind := op.Type
	if kind == "u" {
		kind = "c"
	}
	c.add(side, op, s.cause, &DeviceCheck{Path: op.Path, Type: kind, Major: op.Major, Minor: op.Minor})
	return nil
}

// terminal makes the process's terminal, and hands its master side over.
func (c *compiler) terminal() error {
	p := c.spec.Process
	if !p.Terminal {
		return nil
	}
	if c.o.Joined {
		c.inside(&OpenPts{}, c.cause("process.terminal"), nil)
	} else if !c.hasPts {
		return specErr("process.terminal", "a terminal needs a devpts mount at /dev/pts")
	}
	op := &Terminal{UID: p.User.UID}
	if p.ConsoleSize != nil {
		op.Rows, op.Columns = uint16(p.ConsoleSize.Height), uint16(p.ConsoleSize.Width)
	}
	cause := c.cause("process.terminal")
	c.inside(op, cause, &TerminalCheck{})
	if !c.o.Joined {
		c.inside(&Console{}, cause, &MountCheck{Dest: "/dev/console", Type: "devpts"})
	}
	c.add(Container, &Sync{From: Container, What: "terminal made", FDs: []Reg{RegMaster}}, cause, nil)
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
