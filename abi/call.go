package abi

// A Call names one system call that a plan can make. Its number depends on
// the machine's architecture; see [Call.Number]. The set is the calls kakuri
// itself makes, not every call of Linux: for those see [Syscall].
type Call uint8

// The calls of plans, in the spelling of section 2 of the manual.
const (
	CallNone Call = iota
	CallRead
	CallWrite
	CallClose
	CallOpenat
	CallOpenat2
	CallMkdirat
	CallMknodat
	CallSymlinkat
	CallUnlinkat
	CallFchmod
	CallFchmodat
	CallFchownat
	CallFsetxattr
	CallFchdir
	CallChdir
	CallChroot
	CallMount
	CallUmount2
	CallPivotRoot
	CallOpenTree
	CallMoveMount
	CallFsopen
	CallFsconfig
	CallFsmount
	CallMountSetattr
	CallSetns
	CallUnshare
	CallClone
	CallClone3
	CallSethostname
	CallSetdomainname
	CallPrctl
	CallCapset
	CallSetgroups
	CallSetresuid
	CallSetresgid
	CallSetfsuid
	CallSetfsgid
	CallUmask
	CallPrlimit
	CallExecve
	CallExecveat
	CallExitGroup
	CallDup3
	CallFcntl
	CallCloseRange
	CallIoctl
	CallSetsid
	CallSendmsg
	CallRecvmsg
	CallSeccomp
	CallRtSigaction
	CallRtSigprocmask
	CallRtSigtimedwait
	CallWait4
	CallKill
	CallPersonality
	CallKeyctl
	CallFaccessat2
	CallFstatfs
	CallMemfdCreate
	CallClockGettime
	CallStatx
	CallGettid
	CallGetpid
	CallRenameat2
	CallSocket
	CallPidfdOpen
	CallPidfdGetfd
	CallPidfdSendSignal
	CallSchedSetattr
	CallSchedSetaffinity
	CallIoprioSet
	CallSetMempolicy

	callEnd
)

// callTable holds name, number on amd64 and on arm64, in the order of the
// constants.
var callTable = [callEnd]struct {
	name         string
	amd64, arm64 uint16
}{
	CallRead:             {"read", 0, 63},
	CallWrite:            {"write", 1, 64},
	CallClose:            {"close", 3, 57},
	CallOpenat:           {"openat", 257, 56},
	CallOpenat2:          {"openat2", 437, 437},
	CallMkdirat:          {"mkdirat", 258, 34},
	CallMknodat:          {"mknodat", 259, 33},
	CallSymlinkat:        {"symlinkat", 266, 36},
	CallUnlinkat:         {"unlinkat", 263, 35},
	CallFchmod:           {"fchmod", 91, 52},
	CallFchmodat:         {"fchmodat", 268, 53},
	CallFchownat:         {"fchownat", 260, 54},
	CallFsetxattr:        {"fsetxattr", 190, 7},
	CallFchdir:           {"fchdir", 81, 50},
	CallChdir:            {"chdir", 80, 49},
	CallChroot:           {"chroot", 161, 51},
	CallMount:            {"mount", 165, 40},
	CallUmount2:          {"umount2", 166, 39},
	CallPivotRoot:        {"pivot_root", 155, 41},
	CallOpenTree:         {"open_tree", 428, 428},
	CallMoveMount:        {"move_mount", 429, 429},
	CallFsopen:           {"fsopen", 430, 430},
	CallFsconfig:         {"fsconfig", 431, 431},
	CallFsmount:          {"fsmount", 432, 432},
	CallMountSetattr:     {"mount_setattr", 442, 442},
	CallSetns:            {"setns", 308, 268},
	CallUnshare:          {"unshare", 272, 97},
	CallClone:            {"clone", 56, 220},
	CallClone3:           {"clone3", 435, 435},
	CallSethostname:      {"sethostname", 170, 161},
	CallSetdomainname:    {"setdomainname", 171, 162},
	CallPrctl:            {"prctl", 157, 167},
	CallCapset:           {"capset", 126, 91},
	CallSetgroups:        {"setgroups", 116, 159},
	CallSetresuid:        {"setresuid", 117, 147},
	CallSetresgid:        {"setresgid", 119, 149},
	CallSetfsuid:         {"setfsuid", 122, 151},
	CallSetfsgid:         {"setfsgid", 123, 152},
	CallUmask:            {"umask", 95, 166},
	CallPrlimit:          {"prlimit64", 302, 261},
	CallExecve:           {"execve", 59, 221},
	CallExecveat:         {"execveat", 322, 281},
	CallExitGroup:        {"exit_group", 231, 94},
	CallDup3:             {"dup3", 292, 24},
	CallFcntl:            {"fcntl", 72, 25},
	CallCloseRange:       {"close_range", 436, 436},
	CallIoctl:            {"ioctl", 16, 29},
	CallSetsid:           {"setsid", 112, 157},
	CallSendmsg:          {"sendmsg", 46, 211},
	CallRecvmsg:          {"recvmsg", 47, 212},
	CallSeccomp:          {"seccomp", 317, 277},
	CallRtSigaction:      {"rt_sigaction", 13, 134},
	CallRtSigprocmask:    {"rt_sigprocmask", 14, 135},
	CallRtSigtimedwait:   {"rt_sigtimedwait", 128, 137},
	CallWait4:            {"wait4", 61, 260},
	CallKill:             {"kill", 62, 129},
	CallPersonality:      {"personality", 135, 92},
	CallKeyctl:           {"keyctl", 250, 219},
	CallFaccessat2:       {"faccessat2", 439, 439},
	CallFstatfs:          {"fstatfs", 138, 44},
	CallMemfdCreate:      {"memfd_create", 319, 279},
	CallClockGettime:     {"clock_gettime", 228, 113},
	CallStatx:            {"statx", 332, 291},
	CallGettid:           {"gettid", 186, 178},
	CallGetpid:           {"getpid", 39, 172},
	CallRenameat2:        {"renameat2", 316, 276},
	CallSocket:           {"socket", 41, 198},
	CallPidfdOpen:        {"pidfd_open", 434, 434},
	CallPidfdGetfd:       {"pidfd_getfd", 438, 438},
	CallPidfdSendSignal:  {"pidfd_send_signal", 424, 424},
	CallSchedSetattr:     {"sched_setattr", 314, 274},
	CallSchedSetaffinity: {"sched_setaffinity", 203, 122},
	CallIoprioSet:        {"ioprio_set", 251, 30},
	CallSetMempolicy:     {"set_mempolicy", 238, 237},
}

// String returns the call's name in the manual, such as "openat2".
func (c Call) String() string {
	if c == CallNone || c >= callEnd {
		return "none"
	}
	return callTable[c].name
}

// Number returns the call's number for a GOARCH, "amd64" or "arm64"; ok is
// false for any other.
func (c Call) Number(goarch string) (nr uintptr, ok bool) {
	if c == CallNone || c >= callEnd {
		return 0, false
	}
	switch goarch {
	case "amd64":
		return uintptr(callTable[c].amd64), true
	case "arm64":
		return uintptr(callTable[c].arm64), true
	}
	return 0, false
}
