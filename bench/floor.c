//go:build ignore

/*
 * floor is the least that a container can cost: the kernel's work for the
 * config.json that "runc spec" prints, asked for in a straight line, with
 * nothing parsed, nothing remembered and nothing checked but errors.
 *
 *	gcc -O2 -static -o floor floor.c
 *	floor ROOTFS [HIERARCHY...]
 *
 * ROOTFS holds bin/true and empty directories proc, dev and sys. HIERARCHY is
 * the name of a cgroup v1 mount below /sys/fs/cgroup, "cpu" for example; all of
 * them together make the container's view of cgroups. With none the view is
 * one cgroup2 mount and the container has a cgroup namespace, as runc spec says
 * it on a cgroup v2 host.
 *
 * It makes the mounts by file descriptor, as kakuri does: open_tree(2),
 * fsopen(2), fsconfig(2), fsmount(2), move_mount(2), mount_setattr(2),
 * openat2(2). What it leaves out is what a runtime adds of its own accord or
 * by other settings: joining a cgroup, seccomp, a session keyring, hooks, a state
 * file, a terminal.
 *
 * Exit status: the container's; 125 when a step failed, which is named on stderr.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROPAGATION_SLAVE (1 << 19) /* MS_SLAVE; sys/mount.h clashes with linux/mount.h */
#define DETACH 2		    /* MNT_DETACH */

#define HARDENED (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
#define BY_FD (MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)

static char **args;	/* of main */
static int root = -1;	/* the container's root, a detached mount until it is attached */

static void die(const char *step)
{
	dprintf(2, "floor: %s: %s\n", step, strerror(errno));
	_exit(125);
}

static int must(long r, const char *step)
{
	if (r < 0)
		die(step);
	return (int)r;
}

/* at opens path inside the root; -1 and ENOENT where this kernel has no such path. */
static int at(const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);

	if (fd < 0 && errno != ENOENT)
		die(path);
	return fd;
}

/* fs makes a detached file system; options are pairs that end with NULL, a flag has the value "". */
static int fs(const char *type, const char *source, unsigned int attrs, const char *const *options)
{
	int ctx = must(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC), type), fd;

	must(syscall(SYS_fsconfig, ctx, FSCONFIG_SET_STRING, "source", source, 0), type);
	for (; options && options[0]; options += 2) {
		if (options[1][0])
			must(syscall(SYS_fsconfig, ctx, FSCONFIG_SET_STRING, options[0], options[1], 0), options[0]);
		else
			must(syscall(SYS_fsconfig, ctx, FSCONFIG_SET_FLAG, options[0], NULL, 0), options[0]);
	}
	must(syscall(SYS_fsconfig, ctx, FSCONFIG_CMD_CREATE, NULL, NULL, 0), type);
	fd = must(syscall(SYS_fsmount, ctx, FSMOUNT_CLOEXEC, attrs), type);
	close(ctx);
	return fd;
}

static int copy(int dir, const char *path, unsigned int flags)
{
	return must(syscall(SYS_open_tree, dir, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags), path);
}

static void set(int fd, const char *path, unsigned int flags, struct mount_attr attr, const char *step)
{
	must(syscall(SYS_mount_setattr, fd, path, flags, &attr, sizeof attr), step);
}

/* attach puts the detached mount fd on the open file on, and closes both. */
static void attach(int fd, int on, const char *step)
{
	must(on, step);
	must(syscall(SYS_move_mount, fd, "", on, "", BY_FD), step);
	close(fd);
	close(on);
}

static void loopback(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");

	must(ioctl(fd, SIOCSIFFLAGS, &lo), "loopback up");
	close(fd);
}

static void node(int dev, const char *name, unsigned int major, unsigned int minor)
{
	must(mknodat(dev, name, S_IFCHR | 0666, makedev(major, minor)), name);
}

static void devices(int dev)
{
	umask(0);
	node(dev, "null", 1, 3);
	node(dev, "zero", 1, 5);
	node(dev, "full", 1, 7);
	node(dev, "random", 1, 8);
	node(dev, "urandom", 1, 9);
	node(dev, "tty", 5, 0);
	must(symlinkat("/proc/self/fd", dev, "fd"), "fd");
	must(symlinkat("/proc/self/fd/0", dev, "stdin"), "stdin");
	must(symlinkat("/proc/self/fd/1", dev, "stdout"), "stdout");
	must(symlinkat("/proc/self/fd/2", dev, "stderr"), "stderr");
	must(symlinkat("pts/ptmx", dev, "ptmx"), "ptmx");
	must(mkdirat(dev, "pts", 0755), "pts");
	must(mkdirat(dev, "shm", 0755), "shm");
	must(mkdirat(dev, "mqueue", 0755), "mqueue");
	umask(022);
}

static void cgroups(void)
{
	static const char *const view[] = { "mode", "755", NULL };
	int dir, i;

	if (!args[2]) {
		attach(fs("cgroup2", "cgroup", HARDENED | MOUNT_ATTR_RDONLY, NULL), at("sys/fs/cgroup"), "cgroup2");
		return;
	}
	dir = fs("tmpfs", "tmpfs", HARDENED, view);
	must(syscall(SYS_move_mount, dir, "", at("sys/fs/cgroup"), "", BY_FD), "cgroup");
	for (i = 2; args[i]; i++) {
		char host[256], inside[256];
		int fd;

		snprintf(host, sizeof host, "/sys/fs/cgroup/%s", args[i]);
		snprintf(inside, sizeof inside, "sys/fs/cgroup/%s", args[i]);
		must(mkdirat(dir, args[i], 0755), args[i]);
		fd = copy(AT_FDCWD, host, 0);
		set(fd, "", AT_EMPTY_PATH, (struct mount_attr){ .attr_set = HARDENED | MOUNT_ATTR_RDONLY }, host);
		attach(fd, at(inside), inside);
	}
	set(dir, "", AT_EMPTY_PATH, (struct mount_attr){ .attr_set = MOUNT_ATTR_RDONLY }, "cgroup read-only");
	close(dir);
}

static void mounts(void)
{
	static const char *const dev[] = { "mode", "755", "size", "65536k", NULL };
	static const char *const pts[] = { "newinstance", "", "ptmxmode", "0666", "mode", "0620", "gid", "5", NULL };
	static const char *const shm[] = { "mode", "1777", "size", "65536k", NULL };
	int fd = fs("tmpfs", "tmpfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME, dev);

	attach(fs("proc", "proc", 0, NULL), at("proc"), "proc");
	/* Filled while it is detached: no path of it has to be looked up. */
	devices(fd);
	attach(fd, at("dev"), "dev");
	attach(fs("devpts", "devpts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, pts), at("dev/pts"), "dev/pts");
	attach(fs("tmpfs", "shm", HARDENED, shm), at("dev/shm"), "dev/shm");
	attach(fs("mqueue", "mqueue", HARDENED, NULL), at("dev/mqueue"), "dev/mqueue");
	attach(fs("sysfs", "sysfs", HARDENED | MOUNT_ATTR_RDONLY, NULL), at("sys"), "sys");
	cgroups();
}

static void readonly(const char *path)
{
	int on = at(path), fd;

	if (on < 0)
		return;
	fd = copy(on, "", AT_EMPTY_PATH | AT_RECURSIVE);
	set(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, (struct mount_attr){ .attr_set = MOUNT_ATTR_RDONLY }, path);
	attach(fd, on, path);
}

/* mask hides path behind a copy of the mount with, which may be one file or one directory. */
static void mask(const char *path, int with)
{
	int on = at(path);

	if (on >= 0)
		attach(copy(with, "", AT_EMPTY_PATH), on, path);
}

static void paths(void)
{
	static const char *const empty[] = { "nr_inodes", "1", "mode", "555", NULL };
	int file = must(at("dev/null"), "dev/null");
	int dir = fs("tmpfs", "tmpfs", HARDENED | MOUNT_ATTR_RDONLY, empty);

	readonly("proc/bus");
	readonly("proc/fs");
	readonly("proc/irq");
	readonly("proc/sys");
	readonly("proc/sysrq-trigger");
	mask("proc/acpi", dir);
	mask("proc/asound", dir);
	mask("proc/kcore", file);
	mask("proc/keys", file);
	mask("proc/latency_stats", file);
	mask("proc/timer_list", file);
	mask("proc/timer_stats", file);
	mask("proc/sched_debug", file);
	mask("sys/firmware", dir);
	mask("proc/scsi", dir);
	close(file);
	close(dir);
}

static void enter(void)
{
	must(fchdir(root), "fchdir");
	must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	must(syscall(SYS_umount2, ".", DETACH), "umount the old root");
	must(chdir("/"), "chdir");
}

static void privileges(void)
{
	static const struct rlimit nofile = { 1024, 1024 };
	const uint64_t keep = 1ull << CAP_AUDIT_WRITE | 1ull << CAP_KILL | 1ull << CAP_NET_BIND_SERVICE;
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = { { .effective = (uint32_t)keep, .permitted = (uint32_t)keep } };
	int c;

	must(setrlimit(RLIMIT_NOFILE, &nofile), "setrlimit");
	for (c = 0; c <= CAP_LAST_CAP; c++)
		if (!(keep >> c & 1) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0 && errno != EINVAL)
			die("drop a bounding capability"); /* EINVAL: newer than this kernel */
	must(syscall(SYS_setgroups, 0, NULL), "setgroups");
	must(syscall(SYS_setresgid, 0, 0, 0), "setresgid");
	must(syscall(SYS_setresuid, 0, 0, 0), "setresuid");
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	must(syscall(SYS_capset, &head, caps), "capset");
	must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "ambient");
}

static int container(void *unused)
{
	char *const argv[] = { "/bin/true", NULL };
	char *const envp[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL };

	(void)unused;
	loopback();
	must(sethostname("runc", 4), "sethostname");
	set(AT_FDCWD, "/", AT_RECURSIVE, (struct mount_attr){ .propagation = PROPAGATION_SLAVE }, "propagation");
	root = copy(AT_FDCWD, args[1], AT_RECURSIVE);
	must(syscall(SYS_move_mount, root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), "attach the root");
	mounts();
	paths();
	set(root, "", AT_EMPTY_PATH, (struct mount_attr){ .attr_set = MOUNT_ATTR_RDONLY }, "read-only root");
	enter();
	privileges();
	must(syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC), "close_range");
	execve(argv[0], argv, envp);
	die(argv[0]);
	return 125;
}

int main(int argc, char **argv)
{
	/* The child runs on a stack of its own and the parent sleeps until it has called execve: no page is copied. */
	static char stack[64 << 10] __attribute__((aligned(16)));
	int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC, status;
	pid_t pid;

	if (argc < 2) {
		dprintf(2, "usage: floor ROOTFS [HIERARCHY...]\n");
		return 125;
	}
	args = argv;
	if (argc == 2)
		flags |= CLONE_NEWCGROUP;
	pid = must(clone(container, stack + sizeof stack, CLONE_VM | CLONE_VFORK | flags | SIGCHLD, NULL), "clone");
	must(waitpid(pid, &status, 0), "wait");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
