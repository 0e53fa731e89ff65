package abi

// Flags of open(2) that mean the same on all architectures but MIPS, PA-RISC,
// Alpha and SPARC. The four that also differ on ARM and PowerPC are in [OpenFlags],
// which knows every architecture: a plan that is read elsewhere than it runs asks it.
const (
	ORdonly   = 0
	OWronly   = 0o1
	ORdwr     = 0o2
	OAccmode  = 0o3
	OCreat    = 0o100
	OExcl     = 0o200
	ONoctty   = 0o400
	OTrunc    = 0o1000
	OAppend   = 0o2000
	ONonblock = 0o4000
	ODsync    = 0o10000
	OAsync    = 0o20000
	ONoatime  = 0o1000000
	OCloexec  = 0o2000000
	OSync     = 0o4010000
	OPath     = 0o10000000
)

// OpenFlags are the flags of open(2) on one architecture. Tmpfile includes the bit
// of Directory, so that kernels before 3.11 refuse it.
type OpenFlags struct {
	Creat, Excl, Noctty, Trunc, Append, Nonblock uint64
	Dsync, Async, Sync, Noatime, Cloexec, Path   uint64
	Direct, Largefile, Directory, Nofollow       uint64
	Tmpfile                                      uint64
}

// OpenFlags returns the flags of open(2) on a; those of asm-generic when a is none.
// Largefile is the kernel's bit: C libraries of 64-bit systems define it as 0.
func (a Arch) OpenFlags() OpenFlags {
	f := OpenFlags{
		Creat: OCreat, Excl: OExcl, Noctty: ONoctty, Trunc: OTrunc, Append: OAppend,
		Nonblock: ONonblock, Dsync: ODsync, Async: OAsync, Sync: OSync,
		Noatime: ONoatime, Cloexec: OCloexec, Path: OPath,
		Direct: 0o40000, Largefile: 0o100000, Directory: 0o200000, Nofollow: 0o400000,
		Tmpfile: 0o20000000,
	}
	switch a {
	case ArchARM, ArchAARCH64, ArchM68K:
		f.Directory, f.Nofollow, f.Direct, f.Largefile = 0o40000, 0o100000, 0o200000, 0o400000
	case ArchPPC, ArchPPC64, ArchPPC64LE:
		f.Directory, f.Nofollow, f.Largefile, f.Direct = 0o40000, 0o100000, 0o200000, 0o400000
	case ArchMIPS, ArchMIPS64, ArchMIPS64N32, ArchMIPSEL, ArchMIPSEL64, ArchMIPSEL64N32:
		f.Append, f.Dsync, f.Nonblock, f.Creat = 0x8, 0x10, 0x80, 0x100
		f.Excl, f.Noctty, f.Async = 0x400, 0x800, 0x1000
		f.Largefile, f.Sync, f.Direct = 0x2000, 0x4010, 0x8000
	case ArchPARISC, ArchPARISC64:
		f.Append, f.Creat, f.Excl, f.Largefile = 0o10, 0o400, 0o2000, 0o4000
		f.Sync, f.Nonblock, f.Noctty, f.Dsync = 0o1100000, 0o200000, 0o400000, 0o1000000
		f.Noatime, f.Cloexec, f.Directory, f.Nofollow = 0o4000000, 0o10000000, 0o10000, 0o200
		f.Path, f.Tmpfile = 0o20000000, 0o40000000
	}
	f.Tmpfile |= f.Directory
	return f
}

// words pairs the flags with their words, those that contain another one first.
func (f OpenFlags) words() [17]flagWord {
	return [...]flagWord{
		{f.Creat, "creat"}, {f.Excl, "excl"}, {f.Noctty, "noctty"}, {f.Trunc, "trunc"},
		{f.Append, "append"}, {f.Nonblock, "nonblock"}, {f.Sync, "sync"}, {f.Dsync, "dsync"},
		{f.Async, "async"}, {f.Direct, "direct"}, {f.Largefile, "largefile"},
		{f.Tmpfile, "tmpfile"}, {f.Directory, "directory"}, {f.Nofollow, "nofollow"},
		{f.Noatime, "noatime"}, {f.Cloexec, "cloexec"}, {f.Path, "path"},
	}
}

// OpenWords writes open(2)'s flags on a as words, the access mode first unless the
// descriptor is O_PATH, which has none: "rdonly,directory,cloexec", "path,cloexec".
func (a Arch) OpenWords(flags uint64) string {
	f := a.OpenFlags()
	table := f.words()
	rest := words(flags&^OAccmode, table[:])
	mode := [...]string{"rdonly", "wronly", "rdwr", "accmode"}[flags&OAccmode]
	switch {
	case flags&f.Path != 0 && flags&OAccmode == ORdonly:
		return rest
	case rest == "":
		return mode
	}
	return mode + "," + rest
}
