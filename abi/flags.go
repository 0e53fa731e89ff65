package abi

import (
	"strconv"
	"strings"
)

// A flagWord is the word for one bit of a flag set.
type flagWord struct {
	bit  uint64
	word string
}

// words writes the set bits of v as their words in the order of table, separated by
// commas. What no row explains follows as one hexadecimal number, so that nothing is lost.
func words(v uint64, table []flagWord) string {
	var list []string
	for _, row := range table {
		if v&row.bit == row.bit {
			list = append(list, row.word)
			v &^= row.bit
		}
	}
	if v != 0 {
		list = append(list, hexadecimal(v))
	}
	return strings.Join(list, ",")
}

func decimal(n int) string { return strconv.Itoa(n) }

func hexadecimal(v uint64) string { return "0x" + strconv.FormatUint(v, 16) }

// Flags of clone(2), clone3(2) and unshare(2). CloneNewTime is a flag of clone3
// and unshare alone: in clone's own argument its bit belongs to the exit signal.
const (
	CloneNewTime       = 0x80
	CloneVM            = 0x100
	CloneFS            = 0x200
	CloneFiles         = 0x400
	CloneSighand       = 0x800
	ClonePIDFD         = 0x1000
	ClonePtrace        = 0x2000
	CloneVfork         = 0x4000
	CloneParent        = 0x8000
	CloneThread        = 0x10000
	CloneNewNS         = 0x20000
	CloneSysvsem       = 0x40000
	CloneSetTLS        = 0x80000
	CloneParentSettid  = 0x100000
	CloneChildCleartid = 0x200000
	CloneDetached      = 0x400000
	CloneUntraced      = 0x800000
	CloneChildSettid   = 0x1000000
	CloneNewCgroup     = 0x2000000
	CloneNewUTS        = 0x4000000
	CloneNewIPC        = 0x8000000
	CloneNewUser       = 0x10000000
	CloneNewPID        = 0x20000000
	CloneNewNet        = 0x40000000
	CloneIO            = 0x80000000
	CloneClearSighand  = 0x100000000
	CloneIntoCgroup    = 0x200000000

	// CloneNamespaces is the bits of all eight kinds.
	CloneNamespaces = CloneNewTime | CloneNewNS | CloneNewCgroup | CloneNewUTS |
		CloneNewIPC | CloneNewUser | CloneNewPID | CloneNewNet
)

var cloneWords = [...]flagWord{
	{CloneNewPID, "pid"}, {CloneNewUser, "user"}, {CloneNewNS, "mount"},
	{CloneNewNet, "network"}, {CloneNewUTS, "uts"}, {CloneNewIPC, "ipc"},
	{CloneNewCgroup, "cgroup"}, {CloneNewTime, "time"},
	{CloneVM, "vm"}, {CloneFS, "fs"}, {CloneFiles, "files"}, {CloneSighand, "sighand"},
	{ClonePIDFD, "pidfd"}, {ClonePtrace, "ptrace"}, {CloneVfork, "vfork"},
	{CloneParent, "parent"}, {CloneThread, "thread"}, {CloneSysvsem, "sysvsem"},
	{CloneSetTLS, "settls"}, {CloneParentSettid, "parent_settid"},
	{CloneChildCleartid, "child_cleartid"}, {CloneDetached, "detached"},
	{CloneUntraced, "untraced"}, {CloneChildSettid, "child_settid"}, {CloneIO, "io"},
	{CloneClearSighand, "clear_sighand"}, {CloneIntoCgroup, "into_cgroup"},
}

// CloneWords writes clone flags as words: the namespaces first, by their names in
// config.json and in the order of [Namespaces], then the rest: "pid,mount,vfork".
func CloneWords(flags uint64) string { return words(flags, cloneWords[:]) }

// Flags and special descriptors of the *at(2) family.
const (
	AtFDCWD           = -100
	AtSymlinkNofollow = 0x100
	AtEaccess         = 0x200
	AtRemovedir       = 0x200
	AtSymlinkFollow   = 0x400
	AtNoAutomount     = 0x800
	AtEmptyPath       = 0x1000
	AtStatxForceSync  = 0x2000
	AtStatxDontSync   = 0x4000
	AtRecursive       = 0x8000
	AtExecveCheck     = 0x10000
)

// Flags of openat2(2)'s resolve field.
const (
	ResolveNoXdev       = 0x01
	ResolveNoMagiclinks = 0x02
	ResolveNoSymlinks   = 0x04
	ResolveBeneath      = 0x08
	ResolveInRoot       = 0x10
	ResolveCached       = 0x20
)

var resolveWords = [...]flagWord{
	{ResolveNoXdev, "no_xdev"}, {ResolveNoMagiclinks, "no_magiclinks"},
	{ResolveNoSymlinks, "no_symlinks"}, {ResolveBeneath, "beneath"},
	{ResolveInRoot, "in_root"}, {ResolveCached, "cached"},
}

// ResolveWords writes openat2(2)'s resolve flags as words: "no_magiclinks,in_root".
func ResolveWords(flags uint64) string { return words(flags, resolveWords[:]) }

// Flags of close_range(2).
const (
	CloseRangeUnshare = 0x2
	CloseRangeCloexec = 0x4
)

// File types and mode bits of st_mode, see inode(7).
const (
	SIfmt   = 0o170000
	SIfsock = 0o140000
	SIflnk  = 0o120000
	SIfreg  = 0o100000
	SIfblk  = 0o060000
	SIfdir  = 0o040000
	SIfchr  = 0o020000
	SIfifo  = 0o010000
	SIsuid  = 0o4000
	SIsgid  = 0o2000
	SIsvtx  = 0o1000
)

// Flags of memfd_create(2).
const (
	MFDCloexec      = 0x1
	MFDAllowSealing = 0x2
	MFDNoexecSeal   = 0x8
	MFDExec         = 0x10
)

// Arguments of waitid(2).
const (
	WNohang    = 0x1
	WStopped   = 0x2
	WExited    = 0x4
	WContinued = 0x8
	WNowait    = 0x1000000

	PAll   = 0
	PPID   = 1
	PPGID  = 2
	PPIDFD = 3
)
