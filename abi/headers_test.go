package abi

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// xsys returns the directory of golang.org/x/sys/unix, whose constants are made from
// the kernel's headers: the second source that the tables are compared with.
func xsys(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		t.Skip("golang.org/x/sys is not in the module cache")
	}
	return filepath.Join(dir, "unix")
}

var constantLine = regexp.MustCompile(`(?m)^\s+([A-Z][A-Z0-9_]*)\s+= (?:syscall\.Errno\()?(-?(?:0x[0-9a-f]+|[0-9]+))\)?$`)

// constants reads the Go constants with a plain number out of the named files.
func constants(t *testing.T, dir string, names ...string) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	for _, name := range names {
		src, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range constantLine.FindAllStringSubmatch(string(src), -1) {
			n, err := strconv.ParseInt(m[2], 0, 64)
			if err != nil {
				continue // the few beyond 63 bits
			}
			all[m[1]] = n
		}
	}
	if len(all) < 100 {
		t.Fatalf("%v: only %d constants read", names, len(all))
	}
	return all
}

// notCalls are names in the headers which stand for a range or a hole.
func notCalls(name string) bool {
	return name == "arch_specific_syscall" || name == "syscall_mask" ||
		strings.HasPrefix(name, "reserved") || strings.HasPrefix(name, "unused")
}

func TestSyscallNumbersAgainstHeaders(t *testing.T) {
	dir := xsys(t)
	for _, a := range Archs() {
		goarch := a.GOARCH()
		file := "zsysnum_linux_" + goarch + ".go"
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil || goarch == "" {
			continue // not an architecture of Go
		}
		headers := constants(t, dir, file)
		for key, nr := range headers {
			name := strings.ToLower(strings.TrimPrefix(key, "SYS_"))
			if notCalls(name) {
				continue
			}
			if got, ok := a.Syscall(name); !ok || int64(got) != nr {
				t.Errorf("%v %s: table has %d, %v, headers %d", a, name, got, ok, nr)
			}
		}
		for i := range SyscallCount {
			nr, ok := a.SyscallAt(i)
			key := "SYS_" + strings.ToUpper(SyscallNameAt(i))
			if _, known := headers[key]; ok && !known && nr < privateBase {
				t.Errorf("%v: table has %s = %d, which the headers do not know", a, SyscallNameAt(i), nr)
			}
		}
	}
}

func TestFlagsAgainstHeaders(t *testing.T) {
	dir := xsys(t)
	h := constants(t, dir, "zerrors_linux.go", "ztypes_linux.go", "zerrors_linux_amd64.go")
	for name, got := range map[string]int64{
		"CLONE_NEWTIME": CloneNewTime, "CLONE_VM": CloneVM, "CLONE_FS": CloneFS, "CLONE_FILES": CloneFiles,
		"CLONE_SIGHAND": CloneSighand, "CLONE_PIDFD": ClonePIDFD, "CLONE_PTRACE": ClonePtrace,
		"CLONE_VFORK": CloneVfork, "CLONE_PARENT": CloneParent, "CLONE_THREAD": CloneThread,
		"CLONE_NEWNS": CloneNewNS, "CLONE_SYSVSEM": CloneSysvsem, "CLONE_SETTLS": CloneSetTLS,
		"CLONE_PARENT_SETTID": CloneParentSettid, "CLONE_CHILD_CLEARTID": CloneChildCleartid,
		"CLONE_DETACHED": CloneDetached, "CLONE_UNTRACED": CloneUntraced, "CLONE_CHILD_SETTID": CloneChildSettid,
		"CLONE_NEWCGROUP": CloneNewCgroup, "CLONE_NEWUTS": CloneNewUTS, "CLONE_NEWIPC": CloneNewIPC,
		"CLONE_NEWUSER": CloneNewUser, "CLONE_NEWPID": CloneNewPID, "CLONE_NEWNET": CloneNewNet,
		"CLONE_IO": CloneIO, "CLONE_CLEAR_SIGHAND": CloneClearSighand, "CLONE_INTO_CGROUP": CloneIntoCgroup,
		"AT_FDCWD": AtFDCWD, "AT_SYMLINK_NOFOLLOW": AtSymlinkNofollow, "AT_EACCESS": AtEaccess,
		"AT_REMOVEDIR": AtRemovedir, "AT_SYMLINK_FOLLOW": AtSymlinkFollow, "AT_NO_AUTOMOUNT": AtNoAutomount,
		"AT_EMPTY_PATH": AtEmptyPath, "AT_STATX_FORCE_SYNC": AtStatxForceSync, "AT_STATX_DONT_SYNC": AtStatxDontSync,
		"AT_RECURSIVE": AtRecursive, "RESOLVE_NO_XDEV": ResolveNoXdev, "RESOLVE_NO_MAGICLINKS": ResolveNoMagiclinks,
		"RESOLVE_NO_SYMLINKS": ResolveNoSymlinks, "RESOLVE_BENEATH": ResolveBeneath, "RESOLVE_IN_ROOT": ResolveInRoot,
		"CLOSE_RANGE_UNSHARE": CloseRangeUnshare, "CLOSE_RANGE_CLOEXEC": CloseRangeCloexec,
		"S_IFMT": SIfmt, "S_IFSOCK": SIfsock, "S_IFLNK": SIflnk, "S_IFREG": SIfreg, "S_IFBLK": SIfblk,
		"S_IFDIR": SIfdir, "S_IFCHR": SIfchr, "S_IFIFO": SIfifo, "S_ISUID": SIsuid, "S_ISGID": SIsgid, "S_ISVTX": SIsvtx,
		"MFD_CLOEXEC": MFDCloexec, "MFD_ALLOW_SEALING": MFDAllowSealing, "MFD_NOEXEC_SEAL": MFDNoexecSeal, "MFD_EXEC": MFDExec,
		"WNOHANG": WNohang, "WSTOPPED": WStopped, "WEXITED": WExited, "WCONTINUED": WContinued, "WNOWAIT": WNowait,
		"P_ALL": PAll, "P_PID": PPID, "P_PGID": PPGID, "P_PIDFD": PPIDFD,
		"OPEN_TREE_CLONE": OpenTreeClone, "MOVE_MOUNT_F_SYMLINKS": MoveMountFSymlinks,
		"MOVE_MOUNT_F_AUTOMOUNTS": MoveMountFAutomounts, "MOVE_MOUNT_F_EMPTY_PATH": MoveMountFEmptyPath,
		"MOVE_MOUNT_T_SYMLINKS": MoveMountTSymlinks, "MOVE_MOUNT_T_AUTOMOUNTS": MoveMountTAutomounts,
		"MOVE_MOUNT_T_EMPTY_PATH": MoveMountTEmptyPath, "MOVE_MOUNT_SET_GROUP": MoveMountSetGroup,
		"MOUNT_ATTR_RDONLY": MountAttrRdonly, "MOUNT_ATTR_NOSUID": MountAttrNosuid, "MOUNT_ATTR_NODEV": MountAttrNodev,
		"MOUNT_ATTR_NOEXEC": MountAttrNoexec, "MOUNT_ATTR__ATIME": MountAttrAtime, "MOUNT_ATTR_RELATIME": MountAttrRelatime,
		"MOUNT_ATTR_NOATIME": MountAttrNoatime, "MOUNT_ATTR_STRICTATIME": MountAttrStrictatime,
		"MOUNT_ATTR_NODIRATIME": MountAttrNodiratime, "MOUNT_ATTR_IDMAP": MountAttrIdmap,
		"MOUNT_ATTR_NOSYMFOLLOW": MountAttrNosymfollow, "FSCONFIG_SET_FLAG": FsconfigSetFlag,
		"FSCONFIG_SET_STRING": FsconfigSetString, "FSCONFIG_SET_BINARY": FsconfigSetBinary,
		"FSCONFIG_SET_PATH": FsconfigSetPath, "FSCONFIG_SET_PATH_EMPTY": FsconfigSetPathEmpty,
		"FSCONFIG_SET_FD": FsconfigSetFD, "FSCONFIG_CMD_CREATE": FsconfigCmdCreate,
		"FSCONFIG_CMD_RECONFIGURE": FsconfigCmdReconfigure, "FSOPEN_CLOEXEC": FsopenCloexec,
		"FSMOUNT_CLOEXEC": FsmountCloexec, "FSPICK_CLOEXEC": FspickCloexec, "FSPICK_EMPTY_PATH": FspickEmptyPath,
		"FSPICK_SYMLINK_NOFOLLOW": FspickSymlinkNofollow, "FSPICK_NO_AUTOMOUNT": FspickNoAutomount,
		"MS_RDONLY": MSRdonly, "MS_NOSUID": MSNosuid, "MS_NODEV": MSNodev, "MS_NOEXEC": MSNoexec,
		"MS_SYNCHRONOUS": MSSynchronous, "MS_REMOUNT": MSRemount, "MS_MANDLOCK": MSMandlock, "MS_DIRSYNC": MSDirsync,
		"MS_NOSYMFOLLOW": MSNosymfollow, "MS_NOATIME": MSNoatime, "MS_NODIRATIME": MSNodiratime, "MS_BIND": MSBind,
		"MS_MOVE": MSMove, "MS_REC": MSRec, "MS_SILENT": MSSilent, "MS_POSIXACL": MSPosixacl,
		"MS_UNBINDABLE": MSUnbindable, "MS_PRIVATE": MSPrivate, "MS_SLAVE": MSSlave, "MS_SHARED": MSShared,
		"MS_RELATIME": MSRelatime, "MS_I_VERSION": MSIVersion, "MS_STRICTATIME": MSStrictatime, "MS_LAZYTIME": MSLazytime,
		"MNT_FORCE": MNTForce, "MNT_DETACH": MNTDetach, "MNT_EXPIRE": MNTExpire, "UMOUNT_NOFOLLOW": UmountNofollow,
		"PR_SET_PDEATHSIG": PRSetPdeathsig, "PR_GET_PDEATHSIG": PRGetPdeathsig, "PR_GET_DUMPABLE": PRGetDumpable,
		"PR_SET_DUMPABLE": PRSetDumpable, "PR_GET_KEEPCAPS": PRGetKeepcaps, "PR_SET_KEEPCAPS": PRSetKeepcaps,
		"PR_SET_NAME": PRSetName, "PR_GET_NAME": PRGetName, "PR_GET_SECCOMP": PRGetSeccomp, "PR_SET_SECCOMP": PRSetSeccomp,
		"PR_CAPBSET_READ": PRCapbsetRead, "PR_CAPBSET_DROP": PRCapbsetDrop, "PR_GET_SECUREBITS": PRGetSecurebits,
		"PR_SET_SECUREBITS": PRSetSecurebits, "PR_SET_TIMERSLACK": PRSetTimerslack, "PR_GET_TIMERSLACK": PRGetTimerslack,
		"PR_SET_MM": PRSetMM, "PR_SET_CHILD_SUBREAPER": PRSetChildSubreaper, "PR_GET_CHILD_SUBREAPER": PRGetChildSubreaper,
		"PR_SET_NO_NEW_PRIVS": PRSetNoNewPrivs, "PR_GET_NO_NEW_PRIVS": PRGetNoNewPrivs, "PR_GET_TID_ADDRESS": PRGetTIDAddress,
		"PR_SET_THP_DISABLE": PRSetTHPDisable, "PR_GET_THP_DISABLE": PRGetTHPDisable, "PR_CAP_AMBIENT": PRCapAmbient,
		"PR_CAP_AMBIENT_IS_SET": PRCapAmbientIsSet, "PR_CAP_AMBIENT_RAISE": PRCapAmbientRaise,
		"PR_CAP_AMBIENT_LOWER": PRCapAmbientLower, "PR_CAP_AMBIENT_CLEAR_ALL": PRCapAmbientClearAll,
		"PR_GET_SPECULATION_CTRL": PRGetSpeculationCtrl, "PR_SET_SPECULATION_CTRL": PRSetSpeculationCtrl,
		"PR_SET_IO_FLUSHER": PRSetIOFlusher, "PR_GET_IO_FLUSHER": PRGetIOFlusher, "PR_SCHED_CORE": PRSchedCore,
		"SECCOMP_SET_MODE_STRICT": SeccompSetModeStrict, "SECCOMP_SET_MODE_FILTER": SeccompSetModeFilter,
		"SECCOMP_GET_ACTION_AVAIL": SeccompGetActionAvail, "SECCOMP_GET_NOTIF_SIZES": SeccompGetNotifSizes,
		"SECCOMP_MODE_DISABLED": SeccompModeDisabled, "SECCOMP_MODE_STRICT": SeccompModeStrict, "SECCOMP_MODE_FILTER": SeccompModeFilter,
		"SECCOMP_FILTER_FLAG_TSYNC": SeccompFlagTsync, "SECCOMP_FILTER_FLAG_LOG": SeccompFlagLog,
		"SECCOMP_FILTER_FLAG_SPEC_ALLOW": SeccompFlagSpecAllow, "SECCOMP_FILTER_FLAG_NEW_LISTENER": SeccompFlagNewListener,
		"SECCOMP_FILTER_FLAG_TSYNC_ESRCH": SeccompFlagTsyncESRCH, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": SeccompFlagWaitKillableRecv,
		"SECCOMP_RET_KILL_PROCESS": SeccompRetKillProcess, "SECCOMP_RET_KILL_THREAD": SeccompRetKillThread,
		"SECCOMP_RET_TRAP": SeccompRetTrap, "SECCOMP_RET_ERRNO": SeccompRetErrno, "SECCOMP_RET_USER_NOTIF": SeccompRetUserNotif,
		"SECCOMP_RET_TRACE": SeccompRetTrace, "SECCOMP_RET_LOG": SeccompRetLog, "SECCOMP_RET_ALLOW": SeccompRetAllow,
		"SECCOMP_RET_ACTION_FULL": SeccompRetActionFull, "SECCOMP_RET_DATA": SeccompRetData,
		"SCHED_FIFO": SchedFIFO, "SCHED_RR": SchedRR, "SCHED_BATCH": SchedBatch, "SCHED_IDLE": SchedIdle,
		"SCHED_DEADLINE": SchedDeadline, "SCHED_EXT": SchedExt, "SCHED_FLAG_RESET_ON_FORK": SchedFlagResetOnFork,
		"SCHED_FLAG_RECLAIM": SchedFlagReclaim, "SCHED_FLAG_DL_OVERRUN": SchedFlagDLOverrun,
		"SCHED_FLAG_KEEP_POLICY": SchedFlagKeepPolicy, "SCHED_FLAG_KEEP_PARAMS": SchedFlagKeepParams,
		"SCHED_FLAG_UTIL_CLAMP_MIN": SchedFlagUtilClampMin, "SCHED_FLAG_UTIL_CLAMP_MAX": SchedFlagUtilClampMax,
	} {
		if want, ok := h[name]; !ok || want != got {
			t.Errorf("%s: here %#x, headers %#x, %v", name, got, want, ok)
		}
	}
	for _, r := range Rlimits() {
		if r == RlimitRttime {
			continue // not in golang.org/x/sys
		}
		if want, ok := h[r.String()]; !ok || want != int64(r) {
			t.Errorf("%v: here %d, headers %d, %v", r, r, want, ok)
		}
	}
}

func TestNumberedNamesAgainstHeaders(t *testing.T) {
	dir := xsys(t)
	h := constants(t, dir, "zerrors_linux.go", "zerrors_linux_amd64.go", "ztypes_linux.go")
	for c := CapChown; c <= LastCap; c++ {
		if want, ok := h[c.String()]; !ok || want != int64(c) {
			t.Errorf("%v: here %d, headers %d, %v", c, c, want, ok)
		}
	}
	if want := h["CAP_LAST_CAP"]; want != int64(LastCap) {
		t.Errorf("LastCap is %d, headers %d", LastCap, want)
	}
	errnos := 0
	for name, nr := range h {
		if e, ok := ParseErrno(name); ok {
			errnos++
			if int64(e) != nr {
				t.Errorf("%s: here %d, headers %d", name, e, nr)
			}
		}
	}
	if errnos < 130 {
		t.Errorf("only %d errnos compared", errnos)
	}
}

func TestOpenFlagsAgainstHeaders(t *testing.T) {
	dir := xsys(t)
	for _, a := range Archs() {
		file := "zerrors_linux_" + a.GOARCH() + ".go"
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil || a.GOARCH() == "" {
			continue
		}
		h := constants(t, dir, "zerrors_linux.go", file)
		f := a.OpenFlags()
		for name, got := range map[string]uint64{
			"O_CREAT": f.Creat, "O_EXCL": f.Excl, "O_NOCTTY": f.Noctty, "O_TRUNC": f.Trunc, "O_APPEND": f.Append,
			"O_NONBLOCK": f.Nonblock, "O_DSYNC": f.Dsync, "O_ASYNC": f.Async, "O_SYNC": f.Sync, "O_NOATIME": f.Noatime,
			"O_CLOEXEC": f.Cloexec, "O_PATH": f.Path, "O_DIRECT": f.Direct, "O_DIRECTORY": f.Directory,
			"O_NOFOLLOW": f.Nofollow, "O_TMPFILE": f.Tmpfile, "O_LARGEFILE": f.Largefile,
		} {
			want, ok := h[name]
			if name == "O_LARGEFILE" && want == 0 {
				continue // what C libraries of 64-bit systems say
			}
			if !ok || uint64(want) != got {
				t.Errorf("%v %s: here %#o, headers %#o, %v", a, name, got, want, ok)
			}
		}
	}
}
