package main

import (
	"runtime"
	"strings"
)

// allowed are the system calls that the bench's seccomp profile lets through: those of
// Linux 6.1 on amd64 without what needs a privilege, makes namespaces or mounts. Its length is
// that of the profiles in daily use, which is what costs; it is no advice.
const allowed = `
	accept accept4 access alarm arch_prctl bind brk capget capset chdir chmod chown clock_getres clock_gettime
	clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
	epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat
	faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat fchown fchownat fcntl fdatasync
	fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_waitv
	futimesat get_robust_list getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer
	getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage
	getsid getsockname getsockopt gettid gettimeofday getuid getxattr inotify_add_watch inotify_init
	inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit ioctl
	ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown
	lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat madvise membarrier
	memfd_create mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr
	mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock
	munlockall munmap nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2
	pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 pselect6 pwrite64
	pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages
	removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
	rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max
	sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
	sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
	seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto set_robust_list
	set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid
	setresuid setreuid setrlimit setsid setsockopt setuid setxattr shmat shmctl shmdt shmget shutdown
	sigaltstack signalfd signalfd4 socket socketpair splice stat statfs statx symlink symlinkat sync
	sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
	timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlink
	unlinkat utime utimensat utimes vfork vmsplice wait4 waitid write writev
`

// profile is the seccomp part of config.json: the allowed calls, clone without the
// flags that make namespaces, and the three personalities of an ordinary program.
// Anything else gets EPERM, and clone3 ENOSYS, so that C libraries fall back to clone.
func profile() map[string]any {
	const newNamespaces = 0x7e020000 // CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
	architectures := []string{"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"}
	if runtime.GOARCH == "arm64" {
		architectures = []string{"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"}
	}
	calls := []any{
		map[string]any{"names": strings.Fields(allowed), "action": "SCMP_ACT_ALLOW"},
		map[string]any{"names": []string{"clone3"}, "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
		map[string]any{"names": []string{"clone"}, "action": "SCMP_ACT_ALLOW", "args": []any{
			map[string]any{"index": 0, "value": newNamespaces, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"},
		}},
	}
	for _, persona := range []uint64{0, 8, 0xffffffff} { // PER_LINUX, PER_LINUX32, ask
		calls = append(calls, map[string]any{"names": []string{"personality"}, "action": "SCMP_ACT_ALLOW", "args": []any{
			map[string]any{"index": 0, "value": persona, "op": "SCMP_CMP_EQ"},
		}})
	}
	return map[string]any{
		"defaultAction":   "SCMP_ACT_ERRNO",
		"defaultErrnoRet": 1,
		"architectures":   architectures,
		"syscalls":        calls,
	}
}
