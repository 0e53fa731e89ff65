package plan

import (
	"fmt"
	"strconv"

	"github.com/kakuri/kakuri/abi"
)

// A Check is a property of a running container that the kernel can be asked
// for, as data: package verify reads it back. The set is closed.
type Check interface {
	// Kind is the check's tag in JSON.
	Kind() string
	// Property names what is looked at: "pid namespace", "mount /proc".
	Property() string
	// Asked says what must be seen: "new", "0 100000 65536".
	Asked() string
}

// Checks lists a zero value of every check there is.
func checkValues() []Check {
	return []Check{
		&NewNamespacesCheck{}, &NamespaceCheck{}, &IDMapCheck{}, &TimeCheck{}, &MountCheck{}, &MaskCheck{}, &HiddenCheck{}, &ReadonlyCheck{}, &DeviceCheck{},
		&HostnameCheck{}, &SysctlCheck{}, &IDCheck{}, &CapsCheck{}, &NoNewPrivsCheck{}, &SeccompCheck{},
		&RlimitCheck{}, &UmaskCheck{}, &OOMCheck{}, &RootCheck{}, &CgroupCheck{}, &LimitsCheck{}, &CgroupFileCheck{}, &DeviceRulesCheck{},
		&CgroupOwnerCheck{}, &ResctrlCheck{}, &SchedulerCheck{}, &IOPriorityCheck{}, &MemoryPolicyCheck{}, &AffinityCheck{}, &PersonalityCheck{},
		&SessionCheck{}, &TerminalCheck{}, &SetgroupsCheck{}, &LabelCheck{}, &LinkCheck{}, &PropagationCheck{}, &NetDeviceCheck{},
		&ForwardingCheck{}, &BridgeCheck{}, &InterfaceCheck{}, &AddressCheck{}, &RouteCheck{}, &RulesCheck{}, &PublishedCheck{}, &NamesCheck{}, &EgressCheck{},
	}
}

// NewNamespacesCheck asks that the container has namespaces of its own.
type NewNamespacesCheck struct{ New []abi.Namespace }

// Kind implements [Check].
func (*NewNamespacesCheck) Kind() string { return "new namespaces" }

// Property implements [Check].
func (*NewNamespacesCheck) Property() string { return "namespaces" }

// Asked implements [Check].
func (c *NewNamespacesCheck) Asked() string { return "its own: " + names(c.New) }

// NamespaceCheck asks that the container is in the namespace of Path.
type NamespaceCheck struct {
	NS   abi.Namespace
	Path string
}

// Kind implements [Check].
func (*NamespaceCheck) Kind() string { return "namespace" }

// Property implements [Check].
func (c *NamespaceCheck) Property() string { return c.NS.String() + " namespace" }

// Asked implements [Check].
func (c *NamespaceCheck) Asked() string { return "same as " + c.Path }

// IDMapCheck asks for the container's uid_map or gid_map.
type IDMapCheck struct {
	Group bool
	Map   []IDMapping
}

// Kind implements [Check].
func (*IDMapCheck) Kind() string { return "id map" }

// Property implements [Check].
func (c *IDMapCheck) Property() string { return (&WriteIDMap{Group: c.Group}).file() }

// Asked implements [Check].
func (c *IDMapCheck) Asked() string { return mapText(c.Map, ", ") }

// TimeCheck asks for the offsets of the time namespace, in nanoseconds.
type TimeCheck struct{ Boottime, Monotonic int64 }

// Kind implements [Check].
func (*TimeCheck) Kind() string { return "time" }

// Property implements [Check].
func (*TimeCheck) Property() string { return "clock offsets" }

// Asked implements [Check].
func (c *TimeCheck) Asked() string {
	return fmt.Sprintf("boottime %s monotonic %s", offset(c.Boottime), offset(c.Monotonic))
}

// MountCheck asks for a mount inside: its file system and its flags.
type MountCheck struct {
	Dest  string
	Type  string // file system; empty for a bind, which has its source's
	Set   uint64 // MOUNT_ATTR_* that must be there
	Clear uint64 // and those that must not
	Size  uint64 // of a tmpfs, in bytes, as asked: the kernel has whole pages; 0 is no matter
	// Propagation is how it passes mounts on, "shared" for one: mount_namespaces(7). Empty is no matter.
	Propagation string
}

// Kind implements [Check].
func (*MountCheck) Kind() string { return "mount" }

// Property implements [Check].
func (c *MountCheck) Property() string { return "mount " + c.Dest }

// Asked implements [Check].
func (c *MountCheck) Asked() string {
	kind := c.Type
	if kind == "" {
		kind = "bind"
	}
	size := ""
	if c.Size != 0 {
		size = "size=" + strconv.FormatUint((c.Size+1023)/1024, 10) + "k" // as the kernel shows it
	}
	return words(kind, Attrs{Set: c.Set, Clear: c.Clear}.String(), size, c.Propagation)
}

// RootCheck asks that the root is a mount of the container's own, and the only one
// there: the host's tree is gone from below it.
type RootCheck struct{}

// Kind implements [Check].
func (*RootCheck) Kind() string { return "root" }

// Property implements [Check].
func (*RootCheck) Property() string { return "root file system" }

// Asked implements [Check].
func (*RootCheck) Asked() string { return "its own" }

// MaskCheck asks that a path shows nothing: it is missing, empty, or the null device.
type MaskCheck struct{ Path string }

// Kind implements [Check].
func (*MaskCheck) Kind() string { return "mask" }

// Property implements [Check].
func (c *MaskCheck) Property() string { return c.Path }

// Asked implements [Check].
func (*MaskCheck) Asked() string { return "masked" }

// HiddenCheck asks that a path does not show what the host has there: it is missing,
// or was made inside.
type HiddenCheck struct{ Path string }

// Kind implements [Check].
func (*HiddenCheck) Kind() string { return "hidden" }

// Property implements [Check].
func (c *HiddenCheck) Property() string { return c.Path }

// Asked implements [Check].
func (*HiddenCheck) Asked() string { return "not the host's" }

// ReadonlyCheck asks that a path is on a read-only mount, or missing.
type ReadonlyCheck struct{ Path string }

// Kind implements [Check].
func (*ReadonlyCheck) Kind() string { return "read-only" }

// Property implements [Check].
func (c *ReadonlyCheck) Property() string { return c.Path }

// Asked implements [Check].
func (*ReadonlyCheck) Asked() string { return "read-only" }

// DeviceCheck asks for a device node.
type DeviceCheck struct {
	Path, Type   string
	Major, Minor uint32
}

// Kind implements [Check].
func (*DeviceCheck) Kind() string { return "device" }

// Property implements [Check].
func (c *DeviceCheck) Property() string { return c.Path }

// Asked implements [Check].
func (c *DeviceCheck) Asked() string { return fmt.Sprintf("%s %d:%d", c.Type, c.Major, c.Minor) }

// HostnameCheck asks for the host name, or with Domain set for the NIS domain name.
type HostnameCheck struct {
	Domain bool
	Value  string
}

// Kind implements [Check].
func (*HostnameCheck) Kind() string { return "hostname" }

// Property implements [Check].
func (c *HostnameCheck) Property() string {
	if c.Domain {
		return "domain name"
	}
	return "host name"
}

// Asked implements [Check].
func (c *HostnameCheck) Asked() string { return c.Value }

// SysctlCheck asks for a kernel parameter.
type SysctlCheck struct {
	Key, Value string
	Optional   bool `json:",omitempty"` // a kernel without it does what is asked for
}

// Kind implements [Check].
func (*SysctlCheck) Kind() string { return "sysctl" }

// Property implements [Check].
func (c *SysctlCheck) Property() string { return c.Key }

// Asked implements [Check].
func (c *SysctlCheck) Asked() string { return c.Value }

// Path returns the parameter's file below /proc.
func (c *SysctlCheck) Path() string { return "sys/" + sysctlPath(c.Key) }

// IDCheck asks for the ids of the process, as they are inside.
type IDCheck struct {
	UID, GID uint32
	Groups   []uint32
	Callers  bool `json:",omitempty"` // the groups are those of who made the process, whichever they are
}

// Kind implements [Check].
func (*IDCheck) Kind() string { return "ids" }

// Property implements [Check].
func (*IDCheck) Property() string { return "user and groups" }

// Asked implements [Check].
func (c *IDCheck) Asked() string {
	s := fmt.Sprintf("uid %d gid %d", c.UID, c.GID)
	if len(c.Groups) > 0 {
		s += " groups " + groupsText(c.Groups)
	}
	if c.Callers {
		s += " groups of the caller"
	}
	return s
}

// CapsCheck asks for the bounding, inheritable and ambient sets; the effective
// and permitted ones of the process may be smaller, never larger, than Permitted.
type CapsCheck struct {
	Bounding, Permitted, Effective, Inheritable, Ambient abi.CapSet
}

// Kind implements [Check].
func (*CapsCheck) Kind() string { return "capabilities" }

// Property implements [Check].
func (*CapsCheck) Property() string { return "capabilities" }

// Asked implements [Check].
func (c *CapsCheck) Asked() string { return "at most " + capText(c.Bounding) }

// NoNewPrivsCheck asks for no_new_privs.
type NoNewPrivsCheck struct{}

// Kind implements [Check].
func (*NoNewPrivsCheck) Kind() string { return "no_new_privs" }

// Property implements [Check].
func (*NoNewPrivsCheck) Property() string { return "no_new_privs" }

// Asked implements [Check].
func (*NoNewPrivsCheck) Asked() string { return "1" }

// SeccompCheck asks for a filter.
type SeccompCheck struct{}

// Kind implements [Check].
func (*SeccompCheck) Kind() string { return "seccomp" }

// Property implements [Check].
func (*SeccompCheck) Property() string { return "seccomp" }

// Asked implements [Check].
func (*SeccompCheck) Asked() string { return "filter" }

// RlimitCheck asks for a resource limit.
type RlimitCheck struct {
	Resource   abi.Rlimit
	Soft, Hard uint64
}

// Kind implements [Check].
func (*RlimitCheck) Kind() string { return "rlimit" }

// Property implements [Check].
func (c *RlimitCheck) Property() string { return c.Resource.String() }

// Asked implements [Check].
func (c *RlimitCheck) Asked() string { return limitText(c.Soft) + " " + limitText(c.Hard) }

// UmaskCheck asks for the file mode creation mask.
type UmaskCheck struct{ Mask uint32 }

// Kind implements [Check].
func (*UmaskCheck) Kind() string { return "umask" }

// Property implements [Check].
func (*UmaskCheck) Property() string { return "umask" }

// Asked implements [Check].
func (c *UmaskCheck) Asked() string { return fmt.Sprintf("%04o", c.Mask) }

// OOMCheck asks for oom_score_adj.
type OOMCheck struct{ Value int }

// Kind implements [Check].
func (*OOMCheck) Kind() string { return "oom" }

// Property implements [Check].
func (*OOMCheck) Property() string { return "oom_score_adj" }

// Asked implements [Check].
func (c *OOMCheck) Asked() string { return fmt.Sprint(c.Value) }
