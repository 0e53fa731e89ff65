package plan

import "github.com/kakuri/kakuri/abi"

// Facts are what [Compile] needs to know of the host and of the caller. They are
// a value, so that one machine can print the plan of another; package host
// fills them from the kernel.
type Facts struct {
	Arch    abi.Arch
	Kernel  string         // release, as uname -r
	UID     uint32         // effective ids of the caller, in its user namespace
	GID     uint32         //
	Caps    abi.CapSet     // effective capabilities of the caller
	AllIDs  bool           // all ids of the machine are mapped: the caller's user namespace is no container's
	LastCap abi.Capability // the highest that the kernel knows

	// NoSetgroups: the caller's user namespace denies setgroups(2) for good, as that of a user with a single mapped
	// id does, and so do those made in it: user_namespaces(7).
	NoSetgroups bool

	// Rlimits holds the caller's limits, by resource.
	Rlimits [16]LimitFact

	// Helpers for id maps, empty where not installed, and the caller's ranges
	// in /etc/subuid and /etc/subgid.
	NewUIDMap, NewGIDMap string
	SubUIDs, SubGIDs     []IDRange

	Cgroup CgroupFacts

	// AppArmor and SELinux tell which of these security modules is enabled.
	AppArmor, SELinux bool

	// Roots are the sources of recursive binds that lead to the caller's root directory.
	Roots []string

	// Chroot: the caller's root directory is not that of its mount namespace.
	Chroot bool

	// ProcPIDNS: a procfs of another pid namespace than the caller's can be mounted, by pidns=.
	ProcPIDNS bool

	// SysCovered: something is mounted over /proc/sys, as in a container, where it is read-only.
	SysCovered bool

	// NoTimeNS: the kernel makes no time namespace.
	NoTimeNS bool

	// TimeOnExec: execve enters the time namespace made for children.
	TimeOnExec bool
}

// A LimitFact is a resource limit of the caller.
type LimitFact struct{ Soft, Hard uint64 }

// An IDRange is a range of ids of the host.
type IDRange struct{ Start, Size uint32 }

// CgroupFacts say how control groups are mounted: cgroups(7).
type CgroupFacts struct {
	Unified bool       // /sys/fs/cgroup is a cgroup2 file system
	V1      []CgroupV1 // otherwise, what is mounted below it
}

// A CgroupV1 is a hierarchy of cgroup version 1, or with Type "cgroup2" the
// version 2 hierarchy of a hybrid host.
type CgroupV1 struct {
	Dir     string   // name below /sys/fs/cgroup: "cpu,cpuacct"
	Type    string   // cgroup or cgroup2
	Options []string // that select the hierarchy: "cpu", "cpuacct"; "none", "name=systemd"
	Path    string   // the caller's cgroup in it
}

// Privileged reports whether the caller may make mounts and write any id map
// without a user namespace. Root of a user namespace is not.
func (f Facts) Privileged() bool {
	return f.AllIDs && f.Caps.Has(abi.CapSysAdmin) && f.Caps.Has(abi.CapSetuid) && f.Caps.Has(abi.CapSetgid)
}

// MapsIDs reports whether the caller may write any id map of ids that its own user namespace has: user_namespaces(7).
// Root of a user namespace may.
func (f Facts) MapsIDs() bool { return f.Caps.Has(abi.CapSetuid) && f.Caps.Has(abi.CapSetgid) }

// MapsOthers reports whether somebody maps the ranges of SubUIDs and SubGIDs for the caller: a helper, or the caller, as root of a container may.
func (f Facts) MapsOthers() bool { return f.MapsIDs() || f.NewUIDMap != "" && f.NewGIDMap != "" }
