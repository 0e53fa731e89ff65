package abi

// Flags of open_tree(2). It takes [AtEmptyPath], [AtNoAutomount], [AtRecursive] and
// [AtSymlinkNofollow] as well. OpenTreeCloexec is O_CLOEXEC, which is the same on
// every architecture kakuri runs on.
const (
	OpenTreeClone   = 0x1
	OpenTreeCloexec = 0o2000000
)

var openTreeWords = [...]flagWord{
	{OpenTreeClone, "clone"}, {OpenTreeCloexec, "cloexec"}, {AtRecursive, "recursive"},
	{AtEmptyPath, "empty_path"}, {AtNoAutomount, "no_automount"},
	{AtSymlinkNofollow, "symlink_nofollow"},
}

// OpenTreeWords writes open_tree(2)'s flags as words: "clone,cloexec,recursive".
func OpenTreeWords(flags uint64) string { return words(flags, openTreeWords[:]) }

// Flags of move_mount(2): F about where from, T about where to.
const (
	MoveMountFSymlinks   = 0x1
	MoveMountFAutomounts = 0x2
	MoveMountFEmptyPath  = 0x4
	MoveMountTSymlinks   = 0x10
	MoveMountTAutomounts = 0x20
	MoveMountTEmptyPath  = 0x40
	MoveMountSetGroup    = 0x100
	MoveMountBeneath     = 0x200 // since Linux 6.5
)

var moveMountWords = [...]flagWord{
	{MoveMountFSymlinks, "f_symlinks"}, {MoveMountFAutomounts, "f_automounts"},
	{MoveMountFEmptyPath, "f_empty_path"}, {MoveMountTSymlinks, "t_symlinks"},
	{MoveMountTAutomounts, "t_automounts"}, {MoveMountTEmptyPath, "t_empty_path"},
	{MoveMountSetGroup, "set_group"}, {MoveMountBeneath, "beneath"},
}

// MoveMountWords writes move_mount(2)'s flags as words: "f_empty_path,t_empty_path".
func MoveMountWords(flags uint64) string { return words(flags, moveMountWords[:]) }

// Attributes of a mount, for fsmount(2) and mount_setattr(2). The three ways to keep
// access times share the field MountAttrAtime: it must be cleared to set one of them.
const (
	MountAttrRdonly      = 0x1
	MountAttrNosuid      = 0x2
	MountAttrNodev       = 0x4
	MountAttrNoexec      = 0x8
	MountAttrAtime       = 0x70
	MountAttrRelatime    = 0x0
	MountAttrNoatime     = 0x10
	MountAttrStrictatime = 0x20
	MountAttrNodiratime  = 0x80
	MountAttrIdmap       = 0x100000
	MountAttrNosymfollow = 0x200000
)

var mountAttrWords = [...]flagWord{
	{MountAttrRdonly, "rdonly"}, {MountAttrNosuid, "nosuid"}, {MountAttrNodev, "nodev"},
	{MountAttrNoexec, "noexec"}, {MountAttrAtime, "atime"}, {MountAttrNoatime, "noatime"},
	{MountAttrStrictatime, "strictatime"}, {MountAttrNodiratime, "nodiratime"},
	{MountAttrIdmap, "idmap"}, {MountAttrNosymfollow, "nosymfollow"},
}

// MountAttrWords writes mount attributes as words: "rdonly,nosuid,nodev,noexec". The
// whole field of access times, as it stands in attr_clr, is "atime"; relatime has no bit.
func MountAttrWords(attrs uint64) string { return words(attrs, mountAttrWords[:]) }

// Commands of fsconfig(2).
const (
	FsconfigSetFlag        = 0
	FsconfigSetString      = 1
	FsconfigSetBinary      = 2
	FsconfigSetPath        = 3
	FsconfigSetPathEmpty   = 4
	FsconfigSetFD          = 5
	FsconfigCmdCreate      = 6
	FsconfigCmdReconfigure = 7
	FsconfigCmdCreateExcl  = 8 // since Linux 6.6
)

// FsconfigWord returns the word for a command of fsconfig(2): "set_string".
func FsconfigWord(cmd int) string {
	switch cmd {
	case FsconfigSetFlag:
		return "set_flag"
	case FsconfigSetString:
		return "set_string"
	case FsconfigSetBinary:
		return "set_binary"
	case FsconfigSetPath:
		return "set_path"
	case FsconfigSetPathEmpty:
		return "set_path_empty"
	case FsconfigSetFD:
		return "set_fd"
	case FsconfigCmdCreate:
		return "create"
	case FsconfigCmdReconfigure:
		return "reconfigure"
	case FsconfigCmdCreateExcl:
		return "create_excl"
	}
	return decimal(cmd)
}

// Flags of fsopen(2), fsmount(2) and fspick(2).
const (
	FsopenCloexec         = 0x1
	FsmountCloexec        = 0x1
	FspickCloexec         = 0x1
	FspickSymlinkNofollow = 0x2
	FspickNoAutomount     = 0x4
	FspickEmptyPath       = 0x8
)

// Flags of mount(2). Those from MSUnbindable to MSShared change propagation.
const (
	MSRdonly      = 0x1
	MSNosuid      = 0x2
	MSNodev       = 0x4
	MSNoexec      = 0x8
	MSSynchronous = 0x10
	MSRemount     = 0x20
	MSMandlock    = 0x40
	MSDirsync     = 0x80
	MSNosymfollow = 0x100
	MSNoatime     = 0x400
	MSNodiratime  = 0x800
	MSBind        = 0x1000
	MSMove        = 0x2000
	MSRec         = 0x4000
	MSSilent      = 0x8000
	MSPosixacl    = 0x10000
	MSUnbindable  = 0x20000
	MSPrivate     = 0x40000
	MSSlave       = 0x80000
	MSShared      = 0x100000
	MSRelatime    = 0x200000
	MSIVersion    = 0x800000
	MSStrictatime = 0x1000000
	MSLazytime    = 0x2000000
)

var msWords = [...]flagWord{
	{MSRdonly, "rdonly"}, {MSNosuid, "nosuid"}, {MSNodev, "nodev"}, {MSNoexec, "noexec"},
	{MSSynchronous, "sync"}, {MSRemount, "remount"}, {MSMandlock, "mand"},
	{MSDirsync, "dirsync"}, {MSNosymfollow, "nosymfollow"}, {MSNoatime, "noatime"},
	{MSNodiratime, "nodiratime"}, {MSBind, "bind"}, {MSMove, "move"}, {MSRec, "rec"},
	{MSSilent, "silent"}, {MSPosixacl, "posixacl"}, {MSUnbindable, "unbindable"},
	{MSPrivate, "private"}, {MSSlave, "slave"}, {MSShared, "shared"},
	{MSRelatime, "relatime"}, {MSIVersion, "iversion"}, {MSStrictatime, "strictatime"},
	{MSLazytime, "lazytime"},
}

// MountWords writes mount(2)'s flags as words: "bind,rec", "private".
func MountWords(flags uint64) string { return words(flags, msWords[:]) }

// Flags of umount2(2).
const (
	MNTForce       = 0x1
	MNTDetach      = 0x2
	MNTExpire      = 0x4
	UmountNofollow = 0x8
)

var umountWords = [...]flagWord{
	{MNTForce, "force"}, {MNTDetach, "detach"}, {MNTExpire, "expire"},
	{UmountNofollow, "nofollow"},
}

// UmountWords writes umount2(2)'s flags as words: "detach,nofollow".
func UmountWords(flags uint64) string { return words(flags, umountWords[:]) }
