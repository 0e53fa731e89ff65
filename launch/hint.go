package launch

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
)

const maxGroups = 65536 // NGROUPS_MAX, see setgroups(2)

const labelless = "the policy of SELinux that is loaded has no such label, USER:ROLE:TYPE:LEVEL"

// NoMoreMounts is the hint for an open_tree(2) that gives ENOSPC.
const NoMoreMounts = "a limit is reached: of mounts (sysctl fs.mount-max), or of mount namespaces, of which each copy of a mount counts as one (user.max_mnt_namespaces)"

// NoOverlay is the hint for a kernel that gives ENODEV for an overlay.
const NoOverlay = "this kernel has no overlay, which images and the host's root are laid over each other by: modprobe overlay loads it, its option is CONFIG_OVERLAY_FS; --rootfs DIR does without"

// hint says what the reader can do about a failed step, where that is known.
func hint(e *Error) string {
	errno := e.Errno()
	switch op := e.Step.Op.(type) {
	case *plan.Clone:
		return cloneHint(op.New, e.Call, errno, here())
	case *plan.Unshare:
		return spaceHint(op.New, e.Call, errno, here())
	case *plan.EnterTime:
		return spaceHint([]abi.Namespace{abi.NSTime}, e.Call, errno, here())
	case *plan.WriteIDMap:
		return on(errno, "only one id, the caller's own, may be mapped without privileges; newuidmap and newgidmap (package uidmap) map the ranges of /etc/subuid", syscall.EPERM)
	case *plan.Setns:
		if errno == syscall.EPERM && op.NS != abi.NSUser {
			return "who enters it needs CAP_SYS_ADMIN in the user namespace that owns it: that is to be entered, too (enter --user, or --all)"
		}
		return on(errno, "the path is no "+op.NS.String()+" namespace, or the process is already in that user namespace", syscall.EINVAL)
	case *plan.Sysctl:
		return cmp.Or(on(errno, "this kernel, or this kind of namespace, has no such parameter", syscall.ENOENT),
			on(errno, "something is mounted over /proc/sys, as in a container, or a unit of systemd with ProtectKernelTunables=", syscall.EXDEV, syscall.EROFS))
	case *plan.MakeCgroup:
		return on(errno, "in a container control groups are read-only, unless it has --privileged; kakuri run needs none if neither limits (-m, --cpus, --pids-limit) nor --userns host are asked for", syscall.EROFS)
	case *plan.LoopbackUp:
		return on(errno, "a network namespace without a user namespace takes CAP_NET_ADMIN: --network host makes none", syscall.EPERM)
	case *plan.OpenProc:
		return on(errno, coveredHint("proc"), syscall.EPERM)
	case *plan.Mount:
		return mountHint(op, e.Call, errno)
	case *plan.OpenFS:
		return mountHint(&plan.Mount{Type: op.Type, Options: op.Options}, e.Call, errno)
	case *plan.NewMount:
		return mountHint(&plan.Mount{Type: op.Type, Options: op.Options}, e.Call, errno)
	case *plan.Bind:
		return bindHint(op, e.Call, errno)
	case *plan.OpenTree:
		switch {
		case e.Call == "open_tree" && errno == syscall.EINVAL:
			return cloneTreeHint(op.Path, op.Recursive)
		case e.Call == "open_tree" && errno == syscall.ENOSPC:
			return NoMoreMounts
		case op.IDMap && cannotIDMap(e.Call, errno):
			return idMapHint(op.Path)
		}
		return sourceHint(op.Path, op.Below, e.Call, errno)
	case *plan.OpenSource:
		return sourceHint(op.Path, op.Below, e.Call, errno)
	case *plan.OpenOwnSource:
		if op.Late && errno == syscall.ELOOP {
			return fmt.Sprintf("of more than %d mounts from the host the last ones may not be by a symbolic link: name what it leads to, or have the mount earlier", plan.OwnSources)
		}
		return sourceHint(op.Path, op.Below, e.Call, errno)
	case *plan.IDMapTree:
		if cannotIDMap(e.Call, errno) {
			return idMapHint("the source")
		}
		return on(errno, "the source, or a mount below it, is id-mapped already", syscall.EPERM)
	case *plan.AttachRoot:
		if errno == syscall.EINVAL && e.Call == "move_mount" {
			return op.Path + " is no directory"
		}
		return sourceHint(op.Path, "", e.Call, errno)
	case *plan.Overlay:
		if errno == syscall.EINVAL && op.Tree == plan.RegNone {
			return "something is mounted below " + op.Path + ", and in a user namespace the kernel lets nobody look past such a mount; --rootfs DIR needs no view of the host"
		}
		if errno == syscall.ENODEV {
			return NoOverlay
		}
		if errno == syscall.EINVAL {
			return "the kernel's overlay takes no directories of such a file system (one that can ignore case, another overlay, FUSE): have them on another one"
		}
		return on(errno, "overlayfs in a user namespace needs Linux 5.11 or newer", syscall.EPERM, syscall.EACCES)
	case *plan.PublicLayer:
		return on(errno, NoOverlay, syscall.ENODEV)
	case *plan.Symlink:
		return on(errno, "something else than a symbolic link is there", syscall.EEXIST)
	case *plan.Device:
		switch {
		case errno == syscall.ENOENT && op.Bind != "":
			return "the host has no device " + op.Bind
		case errno == syscall.ENODEV && op.Bind != "":
			return "what the host has at " + op.Bind + " is no such device"
		case errno == syscall.EEXIST:
			return "something else than this device is there: name another place, or take it away"
		case errno == syscall.EPERM && e.Call == "mknodat":
			return "that takes CAP_MKNOD, which root of a container may lack: --cap-add MKNOD; with a user namespace the host's nodes are bound"
		}
		return ""
	}
	return processHint(e.Step.Op, e.Call, errno)
}

// profileHint is of any step in a user namespace that AppArmor has taken the rights from.
const profileHint = "this machine lets programs do nothing in user namespaces unless a profile of AppArmor says so (kernel.apparmor_restrict_unprivileged_userns): apparmor/kakuri, " +
	"which comes with kakuri in share/kakuri, is one: README.md, \"What it needs\", says how root loads it"

// lacksProfile reports whether the kernel wants a profile for user namespaces, by its parameter, and the process has none, by its label.
func lacksProfile(parameter, label string) bool {
	return parameter == "1\n" && strings.TrimRight(label, "\n\x00") == "unconfined"
}

// processHint is of steps that are about the process itself.
func processHint(op plan.Op, call string, errno syscall.Errno) string {
	switch op := op.(type) {
	case *plan.Fork, *plan.Sync: // of the stub's fork, where a sync fails by a call
		return on(errno, "the container's limit of processes, or its user's, is reached: this takes two; those count that have ended and that nobody waited for, which a first process that --init brings does", syscall.EAGAIN)
	case *plan.Stub:
		return on(errno, "where sysctl vm.memfd_noexec is 2, as hardening has it, nothing in memory may be executed, and of the places for a file that may ($XDG_RUNTIME_DIR, /run, /dev/shm, /tmp, /var/tmp, $HOME) "+
			"one has to be mounted without noexec", syscall.EACCES)
	case *plan.Setresuid:
		return on(errno, fmt.Sprintf("the user namespace has no uid %d: uid_map in /proc/self shows inside which it has", op.UID), syscall.EINVAL)
	case *plan.Setresgid:
		return on(errno, fmt.Sprintf("the user namespace has no gid %d: gid_map in /proc/self shows inside which it has", op.GID), syscall.EINVAL)
	case *plan.Setgroups:
		if len(op.Groups) > maxGroups {
			return on(errno, fmt.Sprintf("the kernel takes %d groups, and these are %d", maxGroups, len(op.Groups)), syscall.EINVAL)
		}
		return on(errno, "the user namespace does not have all of these groups: gid_map in /proc/self shows inside which it has", syscall.EINVAL)
	case *plan.Rlimit:
		return on(errno, "the hard limit of the caller is lower, and raising it needs CAP_SYS_RESOURCE", syscall.EPERM)
	case *plan.EnterCgroup, *plan.JoinCgroup:
		return on(errno, "a caller with a real-time policy (chrt -p shows it) gets into no control group that has no real time of the processors: cpu.rt_runtime_us, --cpu-rt-runtime", syscall.EINVAL)
	case *plan.Keyring:
		return on(errno, "the caller has as many keys as he may (/proc/key-users shows it), and each process that is started has a session keyring: sysctl kernel.keys.maxkeys and kernel.keys.maxbytes allow more, root_maxkeys and root_maxbytes to root; "+
			"kakuri-runtime's --no-new-keyring makes none", syscall.EDQUOT)
	case *plan.OOMScoreAdj:
		return on(errno, "lowering oom_score_adj needs CAP_SYS_RESOURCE", syscall.EACCES, syscall.EPERM)
	case *plan.Scheduler:
		if errno == syscall.EPERM && op.Policy == abi.SchedDeadline {
			return "process scheduler can't be used together with AllowedCPUs: SCHED_DEADLINE needs all processors, and CAP_SYS_NICE"
		}
		return on(errno, "a higher priority needs CAP_SYS_NICE on the host; for some RLIMIT_NICE or RLIMIT_RTPRIO is enough", syscall.EPERM)
	case *plan.IOPriority:
		return on(errno, "the class IOPRIO_CLASS_RT needs CAP_SYS_NICE or CAP_SYS_ADMIN on the host", syscall.EPERM)
	case *plan.MemoryPolicy:
		if len(op.Nodes) > 0 {
			return on(errno, "this machine has none of the nodes, or the control group allows none of them", syscall.EINVAL)
		}
	case *plan.Affinity:
		return on(errno, "the control group allows none of these processors, or the machine does not have them", syscall.EINVAL)
	case *plan.SecurityLabel, *plan.KeyLabel:
		if call == "openat" {
			return on(errno, "the security module is not enabled in this kernel", syscall.ENOENT)
		}
		return cmp.Or(on(errno, "no profile of that name is loaded", syscall.ENOENT), on(errno, labelless, syscall.EINVAL))
	case *plan.Seccomp:
		return on(errno, "loading a filter needs no_new_privs or CAP_SYS_ADMIN in the container's user namespace", syscall.EACCES)
	case *plan.Chdir, *plan.TryChdir, *plan.LateChdir:
		return on(errno, "the working directory must be a directory of the container", syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP, syscall.EXDEV)
	case *plan.Console, *plan.Terminal:
		return cmp.Or(on(errno, "a terminal needs a devpts mount at /dev/pts", syscall.EBADF),
			on(errno, "no pseudoterminal is left: of those that the machine has for containers (sysctl kernel.pty.max), or of this one's own (max of its devpts)", syscall.ENOSPC))
	case *plan.Exec:
		return execHint(op, errno)
	}
	return ""
}

// execHint tells of what the kernel's error does not: which of its causes to look for.
func execHint(op *plan.Exec, errno syscall.Errno) string {
	switch errno {
	case syscall.ENOENT:
		if len(op.Path) == 0 { // named by a path, the file itself may well be there
			return "there is no such file in the container, or not the interpreter that it asks for, by its first line or its ELF header"
		}
	case syscall.ENOEXEC:
		return "it is a program for another architecture, or a script whose first line names no interpreter, as #!/bin/sh does"
	case syscall.EACCES:
		return "it is a directory, or a file without the right to be executed (chmod +x), or lies on a mount with noexec"
	case syscall.EPERM:
		return "the program's file asks for capabilities that the container is without (getcap shows them): --cap-add allows them, as --cap-add NET_RAW for a ping that has it"
	}
	return ""
}

// on is a hint that is right for some errors.
func on(errno syscall.Errno, text string, right ...syscall.Errno) string {
	if slices.Contains(right, errno) {
		return text
	}
	return ""
}

// cannotIDMap reports whether a call says that a file system has no id-mapped mounts.
func cannotIDMap(call string, errno syscall.Errno) bool {
	return call == "mount_setattr" && (errno == syscall.EINVAL || errno == syscall.EOPNOTSUPP)
}

func idMapHint(path string) string {
	return "the file system of " + path + " (or of a mount below it) cannot be id-mapped; --userns=host needs no id-mapped mounts"
}

// cloneHint is about the calls of the clone: the new process first has its descriptors closed, and is limited, by others.
func cloneHint(kinds []abi.Namespace, call string, errno syscall.Errno, m machine) string {
	switch {
	case errno == syscall.ENOSYS, errno == syscall.EPERM && call != "clone3":
		return call + " is not there: kakuri needs Linux 5.14 or newer, and a seccomp filter around it that lets " + call + " through"
	case call != "clone3":
		return ""
	}
	switch errno {
	case syscall.EAGAIN:
		return "the caller has as many processes as he may (ulimit -u), his control group has (TasksMax= of systemd), or the machine (sysctl kernel.pid_max)"
	case syscall.EPERM:
		if !slices.Contains(kinds, abi.NSUser) {
			return "these namespaces need root, or a user namespace beside them: --map-root-user asks for one, and the config.json of kakuri-runtime spec --rootless does"
		}
		if m.value("kernel.unprivileged_userns_clone") == "0" {
			return "on this machine user namespaces are root's alone: sysctl kernel.unprivileged_userns_clone is 0. Root allows them to all users by 1, in a file of /etc/sysctl.d for good"
		}
		return "this host restricts user namespaces (check the host's AppArmor rules: kernel.apparmor_restrict_unprivileged_userns), or this process is in a chroot, where there are none: pivot_root(2) changes the root without that"
	case syscall.EINVAL:
		return "this kernel lacks one of the namespaces"
	}
	return spaceHint(kinds, call, errno, m)
}

// A machine is what hints ask of it, when something has failed.
type machine struct {
	root  bool                    // the caller is
	value func(key string) string // that of a parameter of the kernel, empty where it is not there
}

func here() machine {
	return machine{os.Geteuid() == 0, func(key string) string {
		data, _ := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
		return strings.TrimSpace(string(data))
	}}
}

// hostFlags are those of kakuri run by which a container has no namespace of a kind.
var hostFlags = [...]struct {
	kind abi.Namespace
	flag string
}{{abi.NSNetwork, "--network host"}, {abi.NSPID, "--pid host"}, {abi.NSIPC, "--ipc host"}, {abi.NSUTS, "--uts host"}, {abi.NSCgroup, "--cgroupns host"}}

// spaceHint is of namespaces of which there are as many as may be: user_namespaces(7), namespaces(7). Hardening sets such a limit to 0, and that can be told: how many there are, and the limits
// of the user namespaces above, nobody can see.
func spaceHint(kinds []abi.Namespace, call string, errno syscall.Errno, m machine) string {
	if call != "clone3" && call != "unshare" || errno != syscall.ENOSPC && errno != syscall.EUSERS {
		return ""
	}
	var limits, none []string
	for _, kind := range kinds {
		key := "user.max_" + kind.ProcName() + "_namespaces"
		value := m.value(key)
		limits = append(limits, key+" "+cmp.Or(value, "?"))
		if value == "0" {
			none = append(none, key)
		}
	}
	if len(none) == 0 {
		return "there are as many namespaces as may be: " + strings.Join(limits, ", ") + ", or by a limit of a user namespace around this one (a container's, or for an ordinary user's networks the machine's: sysctl user shows it outside), or 32 levels of nesting. Root raises them by sysctl"
	}
	s := "by " + strings.Join(none, " = 0 and ") + " = 0, as hardening has it, there are none: root allows them by sysctl -w " + none[0] + "=N, and by a file of /etc/sysctl.d for good"
	if slices.Contains(none, "user.max_user_namespaces") {
		if m.root {
			return s + "; root's containers do without by --userns host"
		}
		return s + "; an ordinary user's containers always have one, root's do without by --userns host"
	}
	for _, w := range hostFlags {
		if slices.Contains(none, "user.max_"+w.kind.ProcName()+"_namespaces") {
			s += "; " + w.flag + " does without"
		}
	}
	return s
}

func bindHint(op *plan.Bind, call string, errno syscall.Errno) string {
	switch {
	case call == "fstatfs" && op.OfProc:
		return fmt.Sprintf("%q cannot be mounted because it is not of type proc", op.Dest)
	case call == "fstatfs":
		return inProcHint(op.Dest)
	case errno == syscall.EBUSY && call == "renameat2":
		return rootHint(op.Dest)
	case errno == syscall.ELOOP && op.Strict && max(op.Tree, op.From) != plan.RegNone:
		return strictHint
	case errno == syscall.ENOTDIR && call == "openat2" || errno == syscall.EINVAL && call == "move_mount":
		return "a file goes on a file, and a directory on a directory"
	case call == "open_tree" && errno == syscall.EINVAL:
		return cloneTreeHint(op.Source, op.Recursive)
	case call == "open_tree":
		return sourceHint(op.Source, "", call, errno)
	}
	return ""
}

const strictHint = "it must be mounted on ordinary directory: the image has a symbolic link there, which could lead the mount elsewhere"

func mountHint(op *plan.Mount, call string, errno syscall.Errno) string {
	switch {
	case call == "fstatfs":
		return inProcHint(op.Dest)
	case errno == syscall.EBUSY && call == "renameat2":
		return rootHint(op.Dest)
	case errno == syscall.EPERM && (op.Type == "proc" || op.Type == "sysfs"):
		return coveredHint(op.Type)
	case errno == syscall.ENODEV:
		return "this kernel has no file system " + op.Type
	case errno == syscall.EINVAL && len(op.Options) > 0:
		return "the file system refuses one of its options"
	case errno == syscall.ELOOP && op.Strict:
		return strictHint
	case errno == syscall.ENOTDIR:
		return "a part of the destination is a file in the image"
	}
	return ""
}

// coveredHint is about a proc or sysfs that the kernel does not give to a user namespace. In a container either's own is covered, and read-only.
func coveredHint(kind string) string {
	place := map[string]string{"proc": "/proc", "sysfs": "/sys"}[kind]
	return fmt.Sprintf("in a user namespace the kernel wants the host's own %[1]s visible without masks, and a pid (for sysfs a network) namespace that belongs to the user namespace: "+
		"as root, mount -t %[1]s %[1]s %[2]s, where none is mounted; in a container --privileged, or --security-opt systempaths=unconfined (Podman: unmask=ALL), leaves it without masks; where a container's pid namespace is joined, that one's user namespace has to be, too (--userns container:NAME), before Linux 6.17", kind, place)
}

func rootHint(dest string) string {
	return fmt.Sprintf("%q leads to the root by a link of the root's, and that is root.path, not a mount", dest)
}

func inProcHint(dest string) string {
	return fmt.Sprintf("%q cannot be mounted because it is inside /proc, where a link of the root leads", dest)
}

// cloneTreeHint is about a mount that may not be cloned.
func cloneTreeHint(path string, recursive bool) string {
	s := path + " is on a mount that is unbindable, or of another mount namespace"
	if !recursive {
		s += "; or something is mounted below it, and in a user namespace the kernel lets nobody look past such a mount: bind it with what is below it (rbind)"
	}
	return s
}

// sourceHint is about the source of a mount: path, or what is below it.
func sourceHint(path, below, call string, errno syscall.Errno) string {
	if below != "" && call == "openat2" {
		switch errno {
		case syscall.ENOENT:
			return fmt.Sprintf("there is no %q in %s", below, path)
		case syscall.ELOOP:
			return fmt.Sprintf("%q is by a symbolic link in %s, which could lead elsewhere: name the directory itself", below, path)
		}
	}
	switch errno {
	case syscall.ENOENT:
		return "there is no " + path + " on the host"
	case syscall.EACCES:
		return path + " is not accessible for the caller"
	}
	return ""
}

// HelperHint says what the caller can do where newuidmap(1) or newgidmap(1) failed, by what it said: it looks at the caller's lines first, and only then asks the kernel,
// which lets it where it has rights over the caller's user namespace: user_namespaces(7).
func HelperHint(said string) string {
	if strings.Contains(said, "write to ") {
		return "newuidmap and newgidmap have to be setuid root, on a mount without nosuid, and in a container that has CAP_SYS_ADMIN (--cap-add SYS_ADMIN): " +
			"who has no lines in /etc/subuid and /etc/subgid does without them, and has one id inside"
	}
	return "check the caller's lines in /etc/subuid and /etc/subgid"
}
