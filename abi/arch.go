package abi

import "strings"

// An Arch is one system call interface as the audit subsystem and seccomp(2)
// tell them apart. One kernel may answer several: x86_64 also x86 and x32.
// The zero value is no architecture.
type Arch uint8

// The architectures that config.json can name (runtime-spec, config-linux.md,
// "Seccomp") and those libseccomp knows besides.
const (
	ArchNone Arch = iota
	ArchX86
	ArchX86_64
	ArchX32
	ArchARM
	ArchAARCH64
	ArchMIPS
	ArchMIPS64
	ArchMIPS64N32
	ArchMIPSEL
	ArchMIPSEL64
	ArchMIPSEL64N32
	ArchPPC
	ArchPPC64
	ArchPPC64LE
	ArchS390
	ArchS390X
	ArchPARISC
	ArchPARISC64
	ArchRISCV64
	ArchLOONGARCH64
	ArchM68K
	ArchSH
	ArchSHEB

	archEnd
)

// Bits of an AUDIT_ARCH_* value besides the ELF machine number.
const (
	auditLE  = 0x40000000
	audit64  = 0x80000000
	auditN32 = 0x20000000
)

// X32SyscallBit is set in the number of a system call made through the x32
// interface. Such calls carry the audit value of x86_64: the bit is all that
// tells them apart.
const X32SyscallBit = 0x40000000

// An archRow says what an architecture is. The numbers in its table are counted
// from base: MIPS gives each of its interfaces a range of its own.
type archRow struct {
	name   string // as in SCMP_ARCH_name, lower case
	goarch string
	audit  uint32
	base   uint32
	table  tableID
}

var archRows = [archEnd]archRow{
	ArchX86:         {"x86", "386", 3 | auditLE, 0, tableX86},
	ArchX86_64:      {"x86_64", "amd64", 62 | audit64 | auditLE, 0, tableX86_64},
	ArchX32:         {"x32", "amd64p32", 62 | audit64 | auditLE, X32SyscallBit, tableX32},
	ArchARM:         {"arm", "arm", 40 | auditLE, 0, tableARM},
	ArchAARCH64:     {"aarch64", "arm64", 183 | audit64 | auditLE, 0, tableAARCH64},
	ArchMIPS:        {"mips", "mips", 8, 4000, tableMIPS},
	ArchMIPS64:      {"mips64", "mips64", 8 | audit64, 5000, tableMIPS64},
	ArchMIPS64N32:   {"mips64n32", "mips64p32", 8 | audit64 | auditN32, 6000, tableMIPS64N32},
	ArchMIPSEL:      {"mipsel", "mipsle", 8 | auditLE, 4000, tableMIPS},
	ArchMIPSEL64:    {"mipsel64", "mips64le", 8 | audit64 | auditLE, 5000, tableMIPS64},
	ArchMIPSEL64N32: {"mipsel64n32", "mips64p32le", 8 | audit64 | auditLE | auditN32, 6000, tableMIPS64N32},
	ArchPPC:         {"ppc", "ppc", 20, 0, tablePPC},
	ArchPPC64:       {"ppc64", "ppc64", 21 | audit64, 0, tablePPC64},
	ArchPPC64LE:     {"ppc64le", "ppc64le", 21 | audit64 | auditLE, 0, tablePPC64},
	ArchS390:        {"s390", "s390", 22, 0, tableS390},
	ArchS390X:       {"s390x", "s390x", 22 | audit64, 0, tableS390X},
	ArchPARISC:      {"parisc", "", 15, 0, tablePARISC},
	ArchPARISC64:    {"parisc64", "", 15 | audit64, 0, tablePARISC64},
	ArchRISCV64:     {"riscv64", "riscv64", 243 | audit64 | auditLE, 0, tableRISCV64},
	ArchLOONGARCH64: {"loongarch64", "loong64", 258 | audit64 | auditLE, 0, tableLOONGARCH64},
	ArchM68K:        {"m68k", "", 4, 0, tableM68K},
	ArchSH:          {"sh", "", 42 | auditLE, 0, tableSH},
	ArchSHEB:        {"sheb", "", 42, 0, tableSH},
}

// row gives the facts of a; those of no architecture when a is none.
func (a Arch) row() *archRow {
	if a >= archEnd {
		a = ArchNone
	}
	return &archRows[a]
}

// Archs returns all architectures in numeric order.
func Archs() []Arch {
	list := make([]Arch, 0, archEnd-1)
	for a := ArchX86; a < archEnd; a++ {
		list = append(list, a)
	}
	return list
}

// Valid tells whether a is one of the constants above, [ArchNone] excepted.
func (a Arch) Valid() bool { return a > ArchNone && a < archEnd }

// String returns the name in config.json: "SCMP_ARCH_X86_64".
func (a Arch) String() string {
	if !a.Valid() {
		return "arch " + decimal(int(a))
	}
	return "SCMP_ARCH_" + strings.ToUpper(archRows[a].name)
}

// Name returns the short name, as uname -m and libseccomp spell it: "x86_64".
func (a Arch) Name() string {
	if !a.Valid() {
		return "arch " + decimal(int(a))
	}
	return archRows[a].name
}

// ParseArch finds an architecture by the name in config.json or the short one, in
// any case: "SCMP_ARCH_AARCH64", "aarch64".
func ParseArch(name string) (Arch, bool) {
	const prefix = "SCMP_ARCH_"
	if len(name) > len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
		name = name[len(prefix):]
	}
	for a := ArchX86; a < archEnd; a++ {
		if strings.EqualFold(name, archRows[a].name) {
			return a, true
		}
	}
	return ArchNone, false
}

// Native returns the architecture that a program built for goarch (the value of
// runtime.GOARCH) makes its calls through; [ArchNone] when Linux has no such.
func Native(goarch string) Arch {
	if goarch == "" {
		return ArchNone
	}
	for a := ArchX86; a < archEnd; a++ {
		if archRows[a].goarch == goarch {
			return a
		}
	}
	return ArchNone
}

// GOARCH is the inverse of [Native]; empty where Go has no name.
func (a Arch) GOARCH() string { return a.row().goarch }

// AuditArch returns the AUDIT_ARCH_* value which seccomp_data.arch holds, see
// seccomp(2). x32 has that of x86_64, see [X32SyscallBit].
func (a Arch) AuditArch() uint32 { return a.row().audit }

// LittleEndian tells in which order the two halves of an argument lie in
// seccomp_data.
func (a Arch) LittleEndian() bool { return a.row().audit&auditLE != 0 }

// Is64 tells whether the interface passes 64-bit arguments. x32 and MIPS n32 do
// not, although their registers are wide.
func (a Arch) Is64() bool {
	return a.row().audit&(audit64|auditN32) == audit64 && a != ArchX32
}

// SyscallBase returns the number that the interface's table begins at: 4000 and
// so on for MIPS, [X32SyscallBit] for x32, else 0.
func (a Arch) SyscallBase() uint32 { return a.row().base }

// ENOSYS returns what this architecture calls ENOSYS, the answer to an unknown call.
func (a Arch) ENOSYS() Errno {
	switch a {
	case ArchMIPS, ArchMIPS64, ArchMIPS64N32, ArchMIPSEL, ArchMIPSEL64, ArchMIPSEL64N32:
		return 89
	case ArchPARISC, ArchPARISC64:
		return 251
	}
	return ENOSYS
}

// UserHZ is how many ticks a second has in /proc and in files of cgroups of version 1: time(7), USER_HZ. It is the
// same on every architecture that kakuri runs on.
const UserHZ = 100
