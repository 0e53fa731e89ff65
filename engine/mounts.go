package engine

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// lacksTTY reports whether the container is in a user namespace that is there already and has no group tty: another container's, whose user has no
// ranges of ids, or with --userns host the caller's own, as unshare -r makes one. The kernel would refuse that group to devpts. Of a namespace that the
// container gets anew, the plan knows the maps.
func (b *builder) lacksTTY() bool {
	c, joins := b.shared[b.userMode()]
	pid := os.Getpid()
	switch {
	case joins && c.UserNS && c.PID != 0:
		pid = c.CommandPID()
	case b.userMode() != "host":
		return false
	}
	_, gids, err := namespace.ReadIDMaps(nil, pid)
	if err != nil {
		return false
	}
	_, mapped := gids.Outside(5)
	return !mapped
}

// maxTerminals is how many pseudoterminals a container may have. All containers of a machine share what kernel.pty.max has above kernel.pty.reserve, 3,072 by default, and
// who takes them all keeps -t from the others.
const maxTerminals = 512

// mounts lists the container's file systems: the kernel's own, then the user's.
func (b *builder) mounts() error {
	shm := b.run.ShmSize
	if shm == 0 {
		shm = 64 << 20
	}
	terminals := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if !b.lacksTTY() {
		terminals = append(terminals, "gid=5")
	}
	if !b.run.Privileged {
		terminals = append(terminals, fmt.Sprintf("max=%d", maxTerminals))
	}
	kernel := []specs.Mount{
		b.proc(),
		{Destination: "/dev", Type: "tmpfs", Source: b.mark(), Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: terminals},
		b.sys(),
	}
	if b.showsCgroups() && !b.replaced("/sys/fs/cgroup") {
		flags := []string{"nosuid", "noexec", "nodev", "relatime"}
		if !b.run.Privileged && !b.security.cgroups {
			flags = append(flags, "ro")
		}
		kernel = append(kernel, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: flags})
	}
	kernel = append(kernel, slices.DeleteFunc(b.ipcMounts(shm), func(m specs.Mount) bool { return m.Type != "bind" && b.replaced(m.Destination) })...)
	// The kernel's file systems come after the image's and before the user's, which
	// may lie on or in them.
	for _, m := range kernel {
		b.mount(m, "default: file systems of the kernel")
	}
	for i, m := range b.spec.Mounts {
		switch field := fmt.Sprintf("mounts[%d]", i); {
		case m.Destination == "/dev/shm" && b.run.ShmSize != 0:
			b.because(field, "--shm-size")
		case (m.Destination == "/dev/shm" || m.Destination == "/dev/mqueue") && b.run.IPC != "":
			b.because(field, "--ipc %s", b.run.IPC)
		}
	}
	// One below another comes after it, as with Docker, whatever the order of the flags is: it would be hidden.
	mounts := slices.Clone(b.run.Mounts)
	depth := func(m Mount) int { return strings.Count(path.Clean(m.Dest), "/") }
	slices.SortStableFunc(mounts, func(x, y Mount) int { return cmp.Compare(depth(x), depth(y)) })
	for _, m := range mounts {
		if err := b.userMount(m); err != nil {
			return err
		}
	}
	return nil
}

// showsCgroups reports whether the container sees its own control groups, by which a runtime of a language finds out how much memory
// and how many processors it has. One without a cgroup or a cgroup namespace of its own would see its caller's, at worst the whole
// host's tree. Version 1 takes a mount for each controller, so who asked for no limits is spared them, unless the host's /sys
// would show the host's. --privileged may see them, and make its own: an engine inside wants to.
func (b *builder) showsCgroups() bool {
	if b.run.Privileged && b.host.Privileged() {
		return true
	}
	own := b.run.CgroupNS == "" || b.run.CgroupNS == "private"
	return own && (b.host.Privileged() && (unifiedMemory() || b.hostSys() || b.security.cgroups) || b.run.Resources.asked())
}

// replaced reports whether the user mounts something of their own at a place.
func (b *builder) replaced(dest string) bool {
	return slices.ContainsFunc(b.run.Mounts, func(m Mount) bool { return path.Clean(m.Dest) == dest })
}

// ipcMounts are the file systems behind POSIX shared memory and message queues.
// They belong together with the ipc namespace: with --ipc host they are the host's, and
// another container's shared memory is the very mount that it has.
func (b *builder) ipcMounts(shm int64) []specs.Mount {
	flags := []string{"nosuid", "nodev", "noexec"}
	bind := func(p string) specs.Mount {
		return specs.Mount{Destination: p, Type: "bind", Source: p, Options: append(slices.Clone(flags), "rbind")}
	}
	queues := specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: flags}
	switch c, joins := b.shared[b.run.IPC]; {
	case joins && c.IPC != "host":
		b.borrow("/dev/shm", c)
		return []specs.Mount{bind("/dev/shm"), queues}
	case joins || b.run.IPC == "host":
		list := []specs.Mount{bind("/dev/shm")}
		if exists("/dev/mqueue") {
			list = append(list, bind("/dev/mqueue"))
		}
		return list
	case b.run.IPC == "none":
		return []specs.Mount{queues}
	}
	return []specs.Mount{
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: append(slices.Clone(flags), "mode=1777", "size="+strconv.FormatInt(shm, 10))},
		queues,
	}
}

// borrow has the bind mount at a place taken from another container.
func (b *builder) borrow(dest string, c Container) {
	b.joins = append(b.joins, monitor.Join{Index: len(b.opts.Borrowed), Borrowed: true, Container: c.ID})
	b.opts.Borrowed = append(b.opts.Borrowed, plan.Borrowed{Dest: dest, Namespace: fmt.Sprintf("/proc/%d/ns/mnt", c.PID)})
}

func (b *builder) mount(m specs.Mount, why string) {
	b.because(fmt.Sprintf("mounts[%d]", len(b.spec.Mounts)), "%s", why)
	b.spec.Mounts = append(b.spec.Mounts, m)
}

// proc is the procfs of the container's pid namespace. One of the host's or of
// another user namespace cannot be mounted anew, and is bound.
//
// Who is neither root nor in root's group sees there processes of their own only. Root inside may look at all of its namespace: without
// the gid it would need CAP_SYS_PTRACE for those of other users.
func (b *builder) proc() specs.Mount {
	flags := []string{"nosuid", "noexec", "nodev"}
	if b.run.PID == "host" && b.hasUserNS() {
		return specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: append(flags, "rbind")}
	}
	if o := b.security; !b.run.Privileged && !o.unmasked && !o.level.seeAll {
		flags = append(flags, "hidepid=invisible", "gid=0")
	}
	return specs.Mount{Destination: "/proc", Type: "proc", Source: "proc", Options: flags}
}

func (b *builder) sys() specs.Mount {
	flags := []string{"nosuid", "noexec", "nodev"}
	if !b.run.Privileged {
		flags = append(flags, "ro")
	}
	bind := specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: append(flags, "rbind", "rro")}
	if c, joins := b.shared[b.run.networkMode()]; joins && !b.hasUserNS() && c.UserNS && strings.HasPrefix(b.engine.ownerNetwork(c), "ns:") {
		// The user namespace that both are in has no right to that network: it is shown by the mount that is there.
		b.borrow("/sys", c)
		return bind
	}
	if b.hostSys() {
		return bind
	}
	return specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: flags}
}

// hostSys reports whether the container has the host's /sys: one of its own takes rights over the network namespace, and that of a network that
// is joined is made before there is a user namespace of the container's own.
func (b *builder) hostSys() bool {
	if b.hasUserNS() {
		return b.run.networkMode() == "host"
	}
	c, joins := b.shared[b.run.networkMode()]
	return joins && c.UserNS && b.engine.ownerNetwork(c) == "host"
}

// userMount adds a -v, --mount or --tmpfs. As with Docker, -v makes a missing
// source directory and --mount refuses it.
func (b *builder) userMount(m Mount) error {
	if err := m.checkPlace(); err != nil {
		return err
	}
	switch m.Type {
	case "tmpfs":
		b.mount(specs.Mount{Destination: m.Dest, Type: "tmpfs", Source: "tmpfs", Options: m.Options}, m.Flag)
		return nil
	case "bind":
	case "volume":
		return b.volumeMount(m)
	case "image":
		return b.imageMount(m)
	default:
		return fmt.Errorf("%s: mounts of type %s are unknown: there are bind, image, tmpfs and volume", m.Flag, m.Type)
	}
	if !path.IsAbs(m.Source) {
		return fmt.Errorf("%s: %q is no absolute path", m.Flag, m.Source)
	}
	m.Source = path.Clean(m.Source) // as Docker, "l/.." is what l is in, wherever it leads
	if !exists(m.Source) {
		if m.MustHave {
			return fmt.Errorf("%s: there is no %s on the host", m.Flag, m.Source)
		}
		b.toMake = append(b.toMake, m)
	}
	if err := b.canPropagate(m); err != nil {
		return err
	}
	if slices.Contains(m.Options, "shared") || slices.Contains(m.Options, "rshared") {
		// What is mounted below it inside is on the host, too, when the root says so as well: as with Docker.
		b.spec.Linux.RootfsPropagation = "shared"
		b.because("linux.rootfsPropagation", "%s", m.Flag)
	}
	return b.bind(specs.Mount{Destination: m.Dest, Type: "bind", Source: m.Source, Options: slices.Clone(m.Options)}, m)
}

// canPropagate refuses a propagation that the kernel would take and that came to nothing: mounts go from the host's mount to the container's and back
// only where the host's is shared, or gets them itself.
func (b *builder) canPropagate(m Mount) error {
	shared := slices.ContainsFunc(m.Options, func(o string) bool { return o == "shared" || o == "rshared" })
	slave := slices.ContainsFunc(m.Options, func(o string) bool { return o == "slave" || o == "rslave" })
	if !shared && !slave || !exists(m.Source) { // it is made at the start
		return nil
	}
	switch at := b.source(m.Source).top; {
	case shared && at.Shared == 0:
		return fmt.Errorf("%s: path %s is mounted on %s but it is not a shared mount: mount --make-shared %s would make it one", m.Flag, m.Source, at.Point, at.Point)
	case at.Shared == 0 && at.Master == 0:
		return fmt.Errorf("%s: path %s is mounted on %s but it is not a shared or slave mount: mount --make-shared %s would make it one", m.Flag, m.Source, at.Point, at.Point)
	}
	return nil
}

// mark says whose processes these are, where their pid namespace does not.
func (b *builder) mark() string {
	if own(b.run.PID) {
		return "tmpfs"
	}
	return oci.Mark(b.id)
}
