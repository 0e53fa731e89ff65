package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

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
		if d.Major == 5 && d.Minor == 2 && path.Clean("/"+d.Path) == "/dev/ptmx" && c.linksPtmx() {
			continue // bound from the host it would open the host's terminals
		}
		field := fmt.Sprintf("linux.devices[%d]", i)
		list = append(list, deviceStep{d, field, c.cause(field)})
	}
	return list
}

// findDev finds the mount of /dev that is to be made on the runtime's side: where the
// container has a user namespace of its own and the caller is privileged, nodes that are made inside
// would not work, and bound ones keep the host's owner. Only a tmpfs is made so, and nothing by who lacks CAP_MKNOD, as root of another
// engine's container may: bound nodes do there. Without a user namespace they do not, since root inside could change the host's.
func (c *compiler) findDev() error {
	if !c.isNew(abi.NSUser) || !c.host.Privileged() || !c.host.Caps.Has(abi.CapMknod) || !c.isNew(abi.NSMount) {
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
	c.outside(&Sync{From: Runtime, What: "/dev made", FDs: []Reg{c.dev}}, why, nil)
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
	options = append(options, fmt.Sprintf("uid=%d", hostID(c.uids, 0)), fmt.Sprintf("gid=%d", hostID(c.gids, 0)))
	c.outside(&NewMount{Type: "tmpfs", Source: c.spec.Mounts[c.devAt].Source, Options: options, Attrs: o.attrs, Out: c.dev}, c.cause(fmt.Sprintf("mounts[%d]", c.devAt)), nil)
	for _, d := range c.deviceList() {
		if strings.HasPrefix(path.Clean(d.dev.Path), "/dev/") {
			if err := c.device(d, c.dev); err != nil {
				return err
			}
		}
	}
	return nil
}

// hostID maps an id of the container to the host's; 65534 where it has none.
func hostID(m []IDMapping, id uint32) uint32 {
	for _, r := range m {
		if r.has(id) {
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
	// Also where /dev/pts is a bind mount, or what the container mounts there itself; a mount of the spec in the link's place stays.
	if c.linksPtmx() {
		c.inside(&Symlink{Target: "pts/ptmx", Path: "/dev/ptmx", Have: c.have("/dev/ptmx")}, links, &LinkCheck{Path: "/dev/ptmx", Target: "pts/ptmx"})
	}
	return nil
}

// linksPtmx tells that /dev/ptmx is a link to that of /dev/pts.
func (c *compiler) linksPtmx() bool {
	pts, own := false, false
	for _, m := range c.spec.Mounts {
		switch path.Clean("/" + m.Destination) {
		case "/dev", "/dev/pts":
			pts = true
		case "/dev/ptmx":
			own = true
		}
	}
	return pts && !own
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
	op := &Device{Path: path.Clean("/" + d.Path), Type: d.Type, Major: uint32(d.Major), Minor: uint32(d.Minor), Mode: 0o666, Tree: tree, Replace: s.field == ""}
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
		side, op.UID, op.GID = Runtime, hostID(c.uids, op.UID), hostID(c.gids, op.GID)
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
	op := &Terminal{UID: p.User.UID, Later: c.stubForks}
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
