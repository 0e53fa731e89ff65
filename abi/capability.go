package abi

import (
	"math/bits"
	"strings"
)

// A Capability is the number of one capability, see capabilities(7).
type Capability uint8

// The capabilities as of Linux 6.18; the newest is CAP_CHECKPOINT_RESTORE of 5.9.
const (
	CapChown Capability = iota
	CapDACOverride
	CapDACReadSearch
	CapFowner
	CapFsetid
	CapKill
	CapSetgid
	CapSetuid
	CapSetpcap
	CapLinuxImmutable
	CapNetBindService
	CapNetBroadcast
	CapNetAdmin
	CapNetRaw
	CapIPCLock
	CapIPCOwner
	CapSysModule
	CapSysRawio
	CapSysChroot
	CapSysPtrace
	CapSysPacct
	CapSysAdmin
	CapSysBoot
	CapSysNice
	CapSysResource
	CapSysTime
	CapSysTTYConfig
	CapMknod
	CapLease
	CapAuditWrite
	CapAuditControl
	CapSetfcap
	CapMACOverride
	CapMACAdmin
	CapSyslog
	CapWakeAlarm
	CapBlockSuspend
	CapAuditRead
	CapPerfmon
	CapBPF
	CapCheckpointRestore

	LastCap = CapCheckpointRestore
)

var capabilityNames = [LastCap + 1]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER",
	"CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
	"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
	"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
	"CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
	"CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
	"CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
}

// String returns the name as config.json and the manual write it: "CAP_NET_ADMIN".
// A number above [LastCap] gives "CAP_41", as capsh(1) would number it.
func (c Capability) String() string {
	if c > LastCap {
		return "CAP_" + decimal(int(c))
	}
	return capabilityNames[c]
}

// ParseCapability finds a capability by name, with or without "CAP_" and in any
// case: "CAP_NET_ADMIN", "net_admin". "ALL" is not a capability: see [AllCaps].
func ParseCapability(name string) (Capability, bool) {
	if len(name) > 4 && strings.EqualFold(name[:4], "CAP_") {
		name = name[4:]
	}
	for c, full := range capabilityNames {
		if strings.EqualFold(name, full[4:]) {
			return Capability(c), true
		}
	}
	return 0, false
}

// A CapSet is a set of capabilities: bit n stands for capability n, as in
// the lines CapInh to CapAmb of /proc/PID/status. The zero value is empty.
type CapSet uint64

// AllCaps holds every capability up to [LastCap].
const AllCaps = CapSet(1)<<(LastCap+1) - 1

// Caps returns the set of the given capabilities.
func Caps(caps ...Capability) CapSet {
	var s CapSet
	for _, c := range caps {
		s = s.With(c)
	}
	return s
}

// Has tells whether c is in s.
func (s CapSet) Has(c Capability) bool { return c < 64 && s>>c&1 == 1 }

// With returns s and c.
func (s CapSet) With(c Capability) CapSet { return s | 1<<c }

// Without returns s less c.
func (s CapSet) Without(c Capability) CapSet { return s &^ (1 << c) }

// Len returns how many capabilities are in s, unknown ones included.
func (s CapSet) Len() int { return bits.OnesCount64(uint64(s)) }

// List returns the members in ascending order, unknown ones included.
func (s CapSet) List() []Capability {
	list := make([]Capability, 0, s.Len())
	for rest := uint64(s); rest != 0; rest &= rest - 1 {
		list = append(list, Capability(bits.TrailingZeros64(rest)))
	}
	return list
}

// String returns the names in ascending order, separated by commas; "none" for
// the empty set and "all" for [AllCaps].
func (s CapSet) String() string {
	switch s {
	case 0:
		return "none"
	case AllCaps:
		return "all"
	}
	names := make([]string, 0, s.Len())
	for _, c := range s.List() {
		names = append(names, c.String())
	}
	return strings.Join(names, ",")
}
