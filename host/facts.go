package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/thread"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Needs are facts that cost files to read, and that not every plan uses.
type Needs struct {
	Cgroup    bool     // how control groups are mounted
	Labels    bool     // which security modules that label processes are enabled
	Chroot    bool     // whether the caller is in a chroot
	ProcPIDNS bool     // whether a procfs can be another pid namespace's
	Trees     []string // sources of recursive binds: which lead to the root directory
}

// Read gathers the facts that every plan needs, and those of needs. What only a
// caller without privileges needs (helpers and ranges of ids) is read when it
// has none.
func Read(needs Needs) (plan.Facts, error) {
	f := plan.Facts{
		Arch: abi.Native(runtime.GOARCH), UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()),
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return f, fmt.Errorf("uname: %w", err)
	}
	f.Kernel = unix.ByteSliceToString(uts.Release[:])
	if tooOld(f.Kernel) {
		return f, fmt.Errorf("kakuri needs Linux 5.14 or newer, for mounts by file descriptor and id-mapped mounts; this is Linux %s", f.Kernel)
	}
	var err error
	if f.Caps, err = effectiveCaps(); err != nil {
		return f, fmt.Errorf("capget: %w", err)
	}
	f.LastCap = lastCap()
	idMap, err := files.Read(ownIDs)
	if errors.Is(err, fs.ErrNotExist) {
		return f, fmt.Errorf("%w: no proc file system is mounted: as root, mount -t proc proc /proc", err)
	}
	if err != nil {
		return f, err
	}
	if f.AllIDs = allIDs(string(idMap)); !f.AllIDs {
		groups, err := files.Read("/proc/self/setgroups")
		f.NoSetgroups = err == nil && strings.HasPrefix(string(groups), "deny")
	}
	for res := range f.Rlimits {
		var l unix.Rlimit
		if err := unix.Getrlimit(res, &l); err == nil {
			f.Rlimits[res] = plan.LimitFact{Soft: l.Cur, Hard: l.Max}
		}
	}
	if needs.Cgroup {
		f.Cgroup = cgroups()
	}
	if needs.Labels {
		f.AppArmor, f.SELinux = AppArmor(), SELinux()
	}
	var sys unix.Statx_t
	f.SysCovered = unix.Statx(unix.AT_FDCWD, "/proc/sys", 0, unix.STATX_TYPE, &sys) == nil && sys.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	f.Roots = roots(needs.Trees)
	// Others cannot ask; nor can they make a user namespace in a chroot.
	f.Chroot = needs.Chroot && f.Caps.Has(abi.CapSysAdmin) && f.Caps.Has(abi.CapSysChroot) && inChroot()
	f.ProcPIDNS = needs.ProcPIDNS && procPIDNS()
	if !f.Privileged() {
		f.NewUIDMap, f.NewGIDMap = program("newuidmap"), program("newgidmap")
		f.SubUIDs, f.SubGIDs = subordinate("/etc/subuid"), subordinate("/etc/subgid")
		switch {
		case !f.MapsIDs():
		case !f.AllIDs:
			// Root of a user namespace has nobody else's ids mapped. The files may be those of another one: the machine's, or an image's.
			gidMap, err := files.Read("/proc/self/gid_map")
			if err != nil {
				return f, err
			}
			f.SubUIDs, f.SubGIDs = mapped(f.SubUIDs, string(idMap)), mapped(f.SubGIDs, string(gidMap))
		case len(f.SubUIDs)+len(f.SubGIDs) == 0:
			f.SubUIDs = []plan.IDRange{rootsOthers}
			f.SubGIDs = f.SubUIDs
		}
		f.SubUIDs, f.SubGIDs = others(f.UID, f.SubUIDs), others(f.GID, f.SubGIDs)
	}
	return f, nil
}

// others are the ids of ranges without the caller's own, and each of them once: lines may overlap, and root of a user namespace may have one from 0 on. A map has each id
// at one place, and the caller's has its own.
func others(own uint32, ranges []plan.IDRange) (list []plan.IDRange) {
	for _, r := range ranges {
		parts := cut([]plan.IDRange{r}, plan.IDRange{Start: own, Size: 1})
		for _, had := range list {
			parts = cut(parts, had)
		}
		list = append(list, parts...)
	}
	return list
}

// cut takes the ids of a range out of others.
func cut(from []plan.IDRange, r plan.IDRange) (list []plan.IDRange) {
	for _, f := range from {
		start, end := uint64(f.Start), uint64(f.Start)+uint64(f.Size)
		first, last := uint64(r.Start), uint64(r.Start)+uint64(r.Size)
		for _, part := range [...][2]uint64{{start, min(end, first)}, {max(start, last), end}} {
			if part[0] < part[1] {
				list = append(list, plan.IDRange{Start: uint32(part[0]), Size: uint32(part[1] - part[0])})
			}
		}
	}
	return list
}

// rootsOthers are the ids besides its own of root without CAP_SYS_ADMIN, as in a container of another engine, who has all and may map them: the last ones of those that a
// container of root's gets, far above what user databases hand out.
var rootsOthers = plan.IDRange{Start: 0x7fff0000, Size: 1 << 16}

// AppArmor reports whether the kernel confines by profiles of AppArmor.
func AppArmor() bool {
	enabled, err := files.Read("/sys/module/apparmor/parameters/enabled")
	return err == nil && strings.HasPrefix(string(enabled), "Y")
}

// SELinux reports whether the kernel has a policy of SELinux: its file system is there only then, selinux(8).
func SELinux() bool {
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err == nil
}

// roots are those of some paths that lead to the root directory, by whatever name.
func roots(paths []string) (list []string) {
	var root, is unix.Stat_t
	if len(paths) == 0 || unix.Stat("/", &root) != nil {
		return nil
	}
	for _, p := range paths {
		if unix.Stat(p, &is) == nil && is.Dev == root.Dev && is.Ino == root.Ino {
			list = append(list, p)
		}
	}
	return list
}

// inChroot reports whether the root directory is another one than that of the mount namespace: what setns(2) makes the root
// directory of a thread that joins the namespace it is in. The thread ends with that.
func inChroot() (is bool) {
	<-thread.Aside(func() { is = rootMoves() })
	return is
}

// rootMoves is inChroot for a thread of its own.
func rootMoves() bool {
	const id = unix.STATX_INO | unix.STATX_MNT_ID
	var ours, root unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, "/", 0, id, &ours) != nil || unix.Unshare(unix.CLONE_FS) != nil {
		return false
	}
	ns, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(ns)
	return unix.Setns(ns, unix.CLONE_NEWNS) == nil && unix.Statx(unix.AT_FDCWD, "/", 0, id, &root) == nil &&
		(ours.Mnt_id != root.Mnt_id || ours.Ino != root.Ino)
}

// procPIDNS reports whether procfs has the option pidns=, of Linux 6.17: it is given the caller's own pid namespace. Nothing is mounted.
func procPIDNS() bool {
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fs)
	return unix.FsconfigSetString(fs, "pidns", "/proc/self/ns/pid") == nil
}

// tooOld reports whether a release is older than Linux 5.14. A release that cannot
// be parsed is not.
func tooOld(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major < 5 || (major == 5 && minor < 14)
}

// ownIDs has the map of the caller's user namespace.
const ownIDs = "/proc/self/uid_map"

// InUserNamespace reports whether the caller's user namespace is a container's: not the kernel's first one, and none as wide.
func InUserNamespace() bool {
	idMap, err := files.Read(ownIDs)
	return err == nil && !allIDs(string(idMap))
}

// allIDs reports whether a uid_map is that of the first user namespace, or one as
// wide: user_namespaces(7).
func allIDs(idMap string) bool {
	f := strings.Fields(idMap)
	return len(f) == 3 && f[0] == "0" && f[1] == "0" && f[2] == "4294967295"
}

// mapped are the parts of ranges that a uid_map or gid_map has: user_namespaces(7).
func mapped(ranges []plan.IDRange, idMap string) (list []plan.IDRange) {
	for _, r := range ranges {
		for line := range strings.Lines(idMap) {
			var inside, outside, size uint64
			if n, _ := fmt.Sscan(line, &inside, &outside, &size); n != 3 {
				continue
			}
			start, end := max(uint64(r.Start), inside), min(uint64(r.Start)+uint64(r.Size), inside+size)
			if start < end {
				list = append(list, plan.IDRange{Start: uint32(start), Size: uint32(end - start)})
			}
		}
	}
	return list
}

// program finds a helper where systems install them. PATH is the caller's, and a
// setuid helper of another place is none.
func program(name string) string {
	for _, dir := range [...]string{"/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"} {
		if unix.Access(dir+"/"+name, unix.X_OK) == nil {
			return dir + "/" + name
		}
	}
	return ""
}

func effectiveCaps() (abi.CapSet, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return 0, err
	}
	return abi.CapSet(uint64(data[0].Effective) | uint64(data[1].Effective)<<32), nil
}

// lastCap asks for the highest capability: PR_CAPBSET_READ knows no higher one.
// It begins at the one that was newest when this was written.
func lastCap() abi.Capability {
	known := func(c abi.Capability) bool {
		_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		return err == nil
	}
	c := abi.Capability(abi.LastCap)
	for c > 0 && !known(c) {
		c--
	}
	for c < 63 && known(c+1) {
		c++
	}
	return c
}

// cgroups reads how control groups are mounted below /sys/fs/cgroup.
func cgroups() plan.CgroupFacts {
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return plan.CgroupFacts{Unified: true}
	}
	own, _ := files.Read("/proc/self/cgroup")
	mounts, _ := files.Read("/proc/self/mounts")
	return parseCgroups(string(mounts), string(own))
}

// parseCgroups pairs the cgroup mounts of /proc/self/mounts with the caller's
// places in /proc/self/cgroup.
func parseCgroups(mounts, own string) plan.CgroupFacts {
	var facts plan.CgroupFacts
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 4 || path.Dir(f[1]) != "/sys/fs/cgroup" || (f[2] != "cgroup" && f[2] != "cgroup2") {
			continue
		}
		h := plan.CgroupV1{Dir: path.Base(f[1]), Type: f[2], Path: "/"}
		if h.Type == "cgroup" {
			h.Options = hierarchyOptions(strings.Split(f[3], ","))
		}
		h.Path = ownPath(own, h)
		facts.V1 = append(facts.V1, h)
	}
	return facts
}

// hierarchyOptions keeps what selects a hierarchy of version 1.
func hierarchyOptions(options []string) []string {
	var keep []string
	for _, o := range options {
		switch o {
		case "rw", "ro", "nosuid", "nodev", "noexec", "relatime", "noatime", "nodiratime", "nosymfollow", "seclabel", "xattr", "clone_children":
			continue
		}
		if strings.HasPrefix(o, "name=") {
			keep = append(keep, "none")
		}
		if !strings.HasPrefix(o, "release_agent=") {
			keep = append(keep, o)
		}
	}
	return keep
}

func ownPath(own string, h plan.CgroupV1) string {
	for line := range strings.Lines(own) {
		part := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(part) != 3 {
			continue
		}
		if (h.Type == "cgroup2" && part[0] == "0") || (part[1] != "" && slices.Contains(h.Options, strings.Split(part[1], ",")[0])) {
			if slices.Contains(strings.Split(part[2], "/"), "..") {
				return "/" // outside of the root of the caller's cgroup namespace: nothing it can name
			}
			return part[2]
		}
	}
	return "/"
}

// subordinate reads the caller's ranges of a file of subuid(5), by name or by number.
func subordinate(file string) []plan.IDRange {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return parseSubordinate(string(data), userName(os.Getuid()), strconv.Itoa(os.Getuid()))
}

func parseSubordinate(data, name, uid string) []plan.IDRange {
	var list []plan.IDRange
	for line := range strings.Lines(data) {
		part := strings.Split(strings.TrimSpace(line), ":")
		if len(part) != 3 || (part[0] != name && part[0] != uid) || part[0] == "" {
			continue
		}
		start, err1 := strconv.ParseUint(part[1], 10, 32)
		size, err2 := strconv.ParseUint(part[2], 10, 32)
		if err1 == nil && err2 == nil && size > 0 && start+size <= 1<<32 {
			list = append(list, plan.IDRange{Start: uint32(start), Size: uint32(size)})
		}
	}
	return list
}

// userName finds a name in /etc/passwd, without NSS: nothing of it may be loaded.
func userName(uid int) string {
	data, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		part := strings.Split(line, ":")
		if len(part) >= 4 && part[2] == strconv.Itoa(uid) {
			return part[0]
		}
	}
	return ""
}
