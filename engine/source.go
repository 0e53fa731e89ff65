package engine

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// kernelTypes are file systems that show the kernel's own state. They cannot be id-mapped, and need not be: the container sees their
// files as somebody else's, which they are.
var kernelTypes = []string{
	"autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl", "mqueue",
	"nsfs", "proc", "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs",
}

// The kernel can id-map the file systems of disks, and some others.
var (
	diskTypes   = []string{"btrfs", "ext2", "ext3", "ext4", "f2fs", "vfat", "xfs"}
	mappedTypes = append([]string{"erofs", "squashfs", "tmpfs"}, diskTypes...)
)

// A bindSource is what the host has at the source of a bind mount.
type bindSource struct {
	top     namespace.Mount // that the path is on; zero is none
	kernel  bool            // the kernel's own: see kernelTypes
	devices bool            // the host's device nodes or terminals
	mixed   bool            // among the mounts below are some that perhaps cannot be mapped, for which the kernel refuses to map the tree
	disks   []string        // paths in it of mounts of disks, those above first
}

// sourceAt looks at the mounts at and below a path. What the path leads to may be another by the time it is opened: a mount
// that cannot be mapped is an error then.
func sourceAt(mounts []namespace.Mount, p string) bindSource {
	p = cmp.Or(files.RealPath(p), p)
	s := bindSource{top: mountOf(mounts, p)}
	top, parent := s.top, namespace.Mount{}
	if top.Point != "/" {
		parent = mountOf(mounts, path.Dir(top.Point))
	}
	s.devices = top.Type == "devtmpfs" || top.Type == "devpts"
	// Version 1 of cgroups has its hierarchies in a tmpfs in /sys.
	s.kernel = slices.Contains(kernelTypes, top.Type) || top.Type == "tmpfs" && parent.Type == "sysfs"
	for _, m := range mounts {
		rel, ok := strings.CutPrefix(m.Point, strings.TrimSuffix(p, "/")+"/")
		if !ok || rel == "" {
			continue
		}
		s.mixed = s.mixed || !slices.Contains(mappedTypes, m.Type)
		if slices.Contains(diskTypes, m.Type) && mountOf(mounts, m.Point).ID == m.ID { // no other is on it
			s.disks = append(s.disks, rel)
		}
	}
	slices.Sort(s.disks)
	return s
}

// mountOf is the mount that a path leads to: the last of those on it or on the nearest directory above.
func mountOf(mounts []namespace.Mount, p string) namespace.Mount {
	var best namespace.Mount
	for _, m := range mounts {
		if (m.Point == "/" || m.Point == p || strings.HasPrefix(p, m.Point+"/")) && len(m.Point) >= len(best.Point) {
			best = m
		}
	}
	return best
}

// source looks at the source of a bind mount.
func (b *builder) source(p string) bindSource {
	if b.ownMounts == nil {
		b.ownMounts, _ = ownMounts()
	}
	return sourceAt(b.ownMounts, p)
}

// bind adds a bind mount of what the host has at s.Source, or at a path below that, with what the container's posture adds to its options.
func (b *builder) bind(s specs.Mount, m Mount) error {
	if path.IsAbs(m.Subpath) || !isBelow(m.Subpath) {
		return fmt.Errorf("%s: subpath %q: a subpath must be a relative path within the volume or image, and no .. in it", m.Flag, m.Subpath)
	}
	if m.Subpath != "" {
		b.opts.Subpaths = append(b.opts.Subpaths, plan.Subpath{Dest: m.Dest, Path: path.Clean(m.Subpath)})
	}
	if b.run.Privileged && !b.opts.IDMapRoot {
		b.mount(s, m.Flag)
		return nil
	}
	from := b.source(path.Join(s.Source, m.Subpath))
	if !b.run.Privileged && !from.devices {
		// Devices are given by --device alone: the ids of a node on an id-mapped mount are
		// those inside. The host's own nodes are the host's inside too, and who may use which their
		// modes say, and the rules for devices.
		s.Options = append(s.Options, "rnodev")
	}
	var disks []string
	switch {
	case !b.opts.IDMapRoot || from.kernel:
	case from.top.Type == overlayType:
		b.unmapped(m)
		if slices.Contains(s.Options, "rbind") {
			disks = from.disks
		}
	case !from.mixed || !slices.Contains(s.Options, "rbind"):
		s.Options = append(s.Options, "ridmap")
	default:
		// The mounts of disks come once more, each mapped for itself, and with what is on it, which may hide something. The others are
		// left as they are: their files are somebody else's.
		s.Options = append(s.Options, "idmap")
		disks = from.disks
	}
	b.mount(s, m.Flag)
	if len(disks) > 0 && !slices.Contains(s.Options, "idmap") {
		s.Options = append(slices.Clone(s.Options), "idmap")
	}
	for _, rel := range disks {
		b.mount(specs.Mount{Destination: path.Join(m.Dest, rel), Type: "bind", Source: path.Join(s.Source, m.Subpath, rel), Options: s.Options}, m.Flag)
	}
	return nil
}

// overlayType is a file system of containers and live systems that no kernel id-maps. Its files are nobody's inside, which is safe: the container has
// the rights of others.
const overlayType = "overlay"

// unmapped notes a source whose files are nobody's inside.
func (b *builder) unmapped(m Mount) {
	b.notes = append(b.notes, fmt.Sprintf("%s: the source is on an overlay, which the kernel does not id-map: its files are nobody's inside, and the container may do with them what others may; --userns=host shows them as they are", m.Flag))
}

// tell warns of what was noted.
func (b *builder) tell() {
	for _, n := range b.notes {
		if b.engine.warn != nil {
			b.engine.warn(n)
		}
	}
}

// isBelow reports whether a relative path has no "..": what it has of links is looked at when it is mounted.
func isBelow(p string) bool { return !slices.Contains(strings.Split(p, "/"), "..") }
