package sandbox

import (
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"
	"syscall"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Namespaces are the ones that the process has to have of its own, besides a user namespace where it needs one: without network, without
// the host's System V objects, with mounts that nobody else sees, and without a number for any other process, which could be sent signals or have
// its limits changed.
func Namespaces() []abi.Namespace {
	return []abi.Namespace{abi.NSMount, abi.NSNetwork, abi.NSIPC, abi.NSUTS, abi.NSPID}
}

// mostData bounds the memory of the process, in bytes: the decoders' windows, and much more.
const mostData = 1 << 30

// Shut takes from the process, all of its threads included, what unpacking does not need. Of the file system are left: the directories given, at
// their places, and /proc/self/fd, for the paths of open files. Capabilities: those over files. System calls: those of the Go runtime and those
// that handle files, see calls; no program can be executed, no process made, no socket. Memory: 1 GiB. It needs CAP_SYS_ADMIN in the user
// namespace of its mount namespace, which must be the process's own.
func Shut(dirs ...string) error {
	if err := stay(dirs); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	for what, limit := range map[int]uint64{unix.RLIMIT_DATA: mostData, unix.RLIMIT_CORE: 0} {
		var was unix.Rlimit
		if err := unix.Getrlimit(what, &was); err != nil {
			return fmt.Errorf("sandbox: limits: %w", err)
		}
		limit = min(limit, was.Max)
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return fmt.Errorf("sandbox: limits: %w", err)
		}
	}
	if err := keepCaps(capMask()); err != nil {
		return fmt.Errorf("sandbox: capabilities: %w", err)
	}
	p, err := seccomp.Compile(profile(), abi.Native(runtime.GOARCH))
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("sandbox: no new privileges: %w", err)
	}
	if err := filter(p.Bytes()); err != nil {
		return fmt.Errorf("sandbox: system calls: %w", err)
	}
	return nil
}

const fds = "/proc/self/fd"

// stay makes the directories the only ones that there are.
func stay(dirs []string) error {
	trees, err := detached(append([]string{fds}, dirs...))
	defer func() {
		for _, fd := range trees {
			unix.Close(fd)
		}
	}()
	if err != nil {
		return err
	}
	root, err := newRoot()
	if err != nil {
		return err
	}
	defer unix.Close(root)
	// The mount has to be somewhere: /proc is on every machine.
	if err := unix.MoveMount(root, "", unix.AT_FDCWD, "/proc", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return os.NewSyscallError("move_mount", err)
	}
	for dir, fd := range trees {
		if err := attach(root, dir, fd); err != nil {
			return err
		}
	}
	return enter(root)
}

// detached clones the trees of mounts at directories, which then have no set-user-ID programs and no devices.
func detached(dirs []string) (trees map[string]int, err error) {
	const clone = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE
	trees = map[string]int{}
	for _, dir := range dirs {
		if !path.IsAbs(dir) || path.Clean(dir) == "/" {
			return trees, fmt.Errorf("%s: not the path of a directory in the root", dir)
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, dir, clone)
		if err != nil {
			return trees, &os.PathError{Op: "open_tree", Path: dir, Err: err}
		}
		trees[path.Clean(dir)] = fd
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
		if dir == fds {
			attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
		}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
			return trees, &os.PathError{Op: "mount_setattr", Path: dir, Err: err}
		}
	}
	return trees, nil
}

// attach mounts a tree at its old path below root.
func attach(root int, dir string, tree int) error {
	rel := strings.TrimPrefix(dir, "/")
	for i, c := range rel + "/" {
		if c != '/' {
			continue
		}
		if err := unix.Mkdirat(root, rel[:i], 0o755); err != nil && err != unix.EEXIST {
			return &os.PathError{Op: "mkdir", Path: dir, Err: err}
		}
	}
	if err := unix.MoveMount(tree, "", root, rel, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: dir, Err: err}
	}
	return nil
}

// enter makes root the root of this process, read-only, and lets go of the old one.
func enter(root int) error {
	if err := unix.Fchdir(root); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	if err := unix.PivotRoot(".", "."); err == unix.EPERM { // the new root is a mount of this process's own: nobody else says so
		return fmt.Errorf("pivot_root: %w: %s", err, files.LetThrough("pivot_root"))
	} else if err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount2", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return os.NewSyscallError("chdir", err)
	}
	return os.NewSyscallError("mount_setattr", unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}))
}

// newRoot is an empty tmpfs.
func newRoot() (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, os.NewSyscallError("fsconfig", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	return fd, os.NewSyscallError("fsmount", err)
}

// capMask are the capabilities that stay: owners, modes, devices and file capabilities are set as the archive has them.
func capMask() uint64 {
	var mask uint64
	for _, c := range []int{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_MKNOD, unix.CAP_SETFCAP} {
		mask |= 1 << c
	}
	return mask
}

// calls are the system calls that are left, by name, on every architecture; clone is left for threads.
func calls() []string {
	return strings.Fields(`
		brk clock_getres clock_gettime clock_nanosleep epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd2 exit exit_group futex
		getpid getrandom getrlimit gettid gettimeofday madvise membarrier mincore mmap mprotect mremap munmap nanosleep pipe2 ppoll prlimit64 restart_syscall rseq
		rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait sched_getaffinity sched_yield set_robust_list setitimer sigaltstack tgkill time timer_create timer_delete timer_settime uname

		chdir chmod close close_range copy_file_range dup dup2 dup3 faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr
		flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate getcwd getdents64 getegid geteuid getgid getuid getxattr lgetxattr linkat listxattr llistxattr lremovexattr
		lseek lsetxattr lstat mkdir mkdirat mknodat newfstatat open openat openat2 pread64 preadv pwrite64 pwritev read readlink readlinkat readv removexattr rename renameat renameat2 rmdir
		sendfile setxattr splice stat statfs statx symlinkat sync_file_range syncfs tee umask unlink unlinkat utimensat write writev`)
}

func profile() *specs.LinuxSeccomp {
	refused := uint(syscall.EPERM)
	missing := uint(syscall.ENOSYS)
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, DefaultErrnoRet: &refused,
		Syscalls: []specs.LinuxSyscall{
			{Names: calls(), Action: specs.ActAllow},
			{Names: []string{"clone"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: unix.CLONE_THREAD, ValueTwo: unix.CLONE_THREAD, Op: specs.OpMaskedEqual}}},
			{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &missing},
		},
	}
}
