package abi

//go:generate go run ./internal/gen -csv syscalls.csv -o syscall_tables.go

// NoSyscall is the index of no name, see [SyscallIndex].
const NoSyscall = -1

// Numbers in the generated tables are 16 bits wide. What does not fit is written
// as an offset: ARM's private calls lie at 0x0f0000 and up.
const (
	absent      = 0xffff
	privateMark = 0xff00
	privateBase = 0x0f0000
)

// A tableID names one generated column of system call numbers. Architectures that
// differ only in the order of bytes share one.
type tableID uint8

// SyscallIndex finds a system call by name and returns its index in the list of
// all names that any architecture has, from 0 to [SyscallCount]-1 in alphabetic
// order, or [NoSyscall]. Who needs one name's number on several architectures
// looks it up once and asks [Arch.SyscallAt].
func SyscallIndex(name string) int {
	slot := hashName(name) % uint32(len(syscallHash))
	for {
		i := syscallHash[slot]
		if i == absent {
			return NoSyscall
		}
		if nameAt(int(i)) == name {
			return int(i)
		}
		slot = (slot + 1) % uint32(len(syscallHash))
	}
}

// nameAt returns name number i, a part of the one string that holds them all.
func nameAt(i int) string { return syscallNames[syscallOffsets[i]:syscallOffsets[i+1]] }

// hashName is 32-bit FNV-1a; the generator places the names with the same function.
func hashName(name string) uint32 {
	h := uint32(2166136261)
	for i := 0; i < len(name); i++ {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return h
}

// SyscallNameAt returns the name with the given index, empty when there is none.
func SyscallNameAt(index int) string {
	if index < 0 || index >= SyscallCount {
		return ""
	}
	return nameAt(index)
}

// SyscallAt returns the number of the call with the given index on a, see
// [SyscallIndex]. The number is the one in seccomp_data.nr, x32's bit included.
func (a Arch) SyscallAt(index int) (nr uint32, ok bool) {
	if index < 0 || index >= SyscallCount || !a.Valid() {
		return 0, false
	}
	row := a.row()
	v := syscallTables[row.table][index]
	switch {
	case v == absent:
		return 0, false
	case v >= privateMark:
		return privateBase + uint32(v-privateMark), true
	}
	return row.base + uint32(v), true
}

// Syscall returns the number of the named call on a. ok is false when a does not
// have it, or when nobody has: [SyscallIndex] tells the two apart.
func (a Arch) Syscall(name string) (nr uint32, ok bool) {
	return a.SyscallAt(SyscallIndex(name))
}

// SyscallName returns the name of a call's number on a. It looks through the whole
// table (about 500 entries), for messages and not for hot paths.
func (a Arch) SyscallName(nr uint32) (name string, ok bool) {
	for i := range SyscallCount {
		if v, ok := a.SyscallAt(i); ok && v == nr {
			return nameAt(i), true
		}
	}
	return "", false
}
