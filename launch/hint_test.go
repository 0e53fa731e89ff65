package launch

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
)

// TestCloneHint: the step of the clone makes other calls, too, and the hint is about the one that failed.
func TestCloneHint(t *testing.T) {
	for _, c := range []struct {
		call  string
		errno syscall.Errno
		want  string
	}{
		{"clone3", syscall.ENOSYS, "that lets clone3 through"},
		{"close_range", syscall.ENOSYS, "that lets close_range through"},
		{"prlimit64", syscall.EPERM, "that lets prlimit64 through"},
		{"clone3", syscall.EPERM, "restricts user namespaces"},
		{"prlimit64", syscall.EINVAL, ""},
	} {
		if got := cloneHint([]abi.Namespace{abi.NSUser}, c.call, c.errno, settings(false)); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s, %v: %q, want %q", c.call, c.errno, got, c.want)
		}
	}
}

// settings are of a machine whose parameters are these, as key and value.
func settings(root bool, pairs ...string) machine {
	return machine{root, func(key string) string {
		if i := slices.Index(pairs, key); i >= 0 {
			return pairs[i+1]
		}
		return ""
	}}
}

// TestNamespacesForbidden: what keeps a caller from namespaces is named, with the way out that this caller has.
func TestNamespacesForbidden(t *testing.T) {
	kinds := []abi.Namespace{abi.NSUser, abi.NSMount, abi.NSNetwork, abi.NSPID}
	for _, c := range []struct {
		errno syscall.Errno
		m     machine
		want  []string
		not   string
	}{
		{syscall.ENOSPC, settings(false, "user.max_user_namespaces", "0"), []string{"by user.max_user_namespaces = 0,", "sysctl -w user.max_user_namespaces=N", "an ordinary user's containers always have one"}, "max_mnt"},
		{syscall.ENOSPC, settings(true, "user.max_user_namespaces", "0", "user.max_net_namespaces", "0"), []string{"user.max_user_namespaces = 0 and user.max_net_namespaces = 0", "root's containers do without by --userns host"}, "ordinary"},
		{syscall.ENOSPC, settings(false, "user.max_user_namespaces", "63000", "user.max_net_namespaces", "0"), []string{"by user.max_net_namespaces = 0,", "--network host does without"}, "--pid"},
		{syscall.ENOSPC, settings(false, "user.max_pid_namespaces", "0"), []string{"--pid host does without"}, "--network"},
		{syscall.ENOSPC, settings(false, "user.max_mnt_namespaces", "0"), []string{"by user.max_mnt_namespaces = 0,"}, "does without"},
		{syscall.EUSERS, settings(false, "user.max_user_namespaces", "9"), []string{"as many namespaces as may be: user.max_user_namespaces 9, user.max_mnt_namespaces ?", "outside", "32 levels"}, "="},
		{syscall.EPERM, settings(false, "kernel.unprivileged_userns_clone", "0"), []string{"sysctl kernel.unprivileged_userns_clone is 0", "/etc/sysctl.d"}, "AppArmor"},
		{syscall.EPERM, settings(false, "kernel.unprivileged_userns_clone", "1"), []string{"AppArmor"}, "unprivileged_userns_clone"},
	} {
		got := cloneHint(kinds, "clone3", c.errno, c.m)
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
		if strings.Contains(got, c.not) {
			t.Errorf("%q has %q", got, c.not)
		}
	}
	if got := spaceHint([]abi.Namespace{abi.NSTime}, "openat", syscall.ENOSPC, settings(false)); got != "" {
		t.Errorf("of another call: %q", got)
	}
}

// TestStubHint: who may execute nothing in memory is told by what, and that a directory would do.
func TestStubHint(t *testing.T) {
	got := hint(&Error{Step: plan.Step{Op: &plan.Stub{}}, Call: "memfd_create", Err: syscall.EACCES})
	for _, want := range []string{"vm.memfd_noexec is 2", "$XDG_RUNTIME_DIR", "noexec"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestNoOverlayHint: a kernel without overlay is named, whichever step meets it first.
func TestNoOverlayHint(t *testing.T) {
	for _, op := range []plan.Op{&plan.Overlay{}, &plan.PublicLayer{}} {
		if got := hint(&Error{Step: plan.Step{Op: op}, Call: "fsopen", Err: syscall.ENODEV}); !strings.Contains(got, "modprobe overlay") {
			t.Errorf("%T: %q", op, got)
		}
	}
}

// TestExecHint: of an error that has several causes the hint names them, and a program that was looked for in $PATH is just not there.
func TestExecHint(t *testing.T) {
	for _, c := range []struct {
		path  []string
		errno syscall.Errno
		want  string
	}{
		{nil, syscall.ENOENT, "interpreter"},
		{[]string{"/bin/x"}, syscall.ENOENT, ""},
		{nil, syscall.ENOEXEC, "another architecture"},
		{[]string{"/bin/x"}, syscall.EACCES, "chmod +x"},
		{nil, syscall.EPERM, "--cap-add"},
		{nil, syscall.ENOMEM, ""},
	} {
		e := &Error{Step: plan.Step{Op: &plan.Exec{Args: []string{"/x"}, Path: c.path}}, Call: "execve", Err: c.errno}
		if got := hint(e); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%v, %v: %q, want %q", c.path, c.errno, got, c.want)
		}
	}
}

// TestLesserRootHint: root of a container is told what the container around it has to have, or what does without.
func TestLesserRootHint(t *testing.T) {
	for _, c := range []struct {
		op    plan.Op
		errno syscall.Errno
		want  string
	}{
		{&plan.MakeCgroup{}, syscall.EROFS, "--privileged"},
		{&plan.LoopbackUp{}, syscall.EPERM, "--network host"},
		{&plan.OpenProc{New: true}, syscall.EPERM, "systempaths=unconfined"},
		{&plan.Mount{Type: "sysfs"}, syscall.EPERM, "systempaths=unconfined"},
		{&plan.Device{}, syscall.EPERM, "--cap-add MKNOD"},
		{&plan.MakeCgroup{}, syscall.ENOENT, ""},
	} {
		if got := hint(&Error{Step: plan.Step{Op: c.op}, Call: "mknodat", Err: c.errno}); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s, %v: %q, want %q", c.op.Name(), c.errno, got, c.want)
		}
	}
}

// TestSysctlHint: a parameter that is not there is another matter than one behind a mount.
func TestSysctlHint(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{syscall.ENOENT: "no such parameter", syscall.EXDEV: "ProtectKernelTunables=", syscall.EROFS: "ProtectKernelTunables="} {
		if got := hint(&Error{Step: plan.Step{Op: &plan.Sysctl{Key: "a.b"}}, Call: "openat2", Err: errno}); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", errno, got, want)
		}
	}
}

// TestOverlayHint: what the kernel refuses by one errno has a cause by what was to be laid over each other.
func TestOverlayHint(t *testing.T) {
	for want, op := range map[string]*plan.Overlay{"something is mounted below /": {Path: "/"}, "can ignore case": {Path: "/layer", Tree: plan.RegRoot}} {
		if got := hint(&Error{Step: plan.Step{Op: op}, Call: "fsconfig", Err: syscall.EINVAL}); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", op, got, want)
		}
	}
}

// TestMissingHint: a module that is not loaded, and a limit of the kernel, come with the way out.
func TestMissingHint(t *testing.T) {
	for want, e := range map[string]*Error{
		"modprobe overlay":        {Step: plan.Step{Op: &plan.Overlay{Path: "/layer", Tree: plan.RegRoot}}, Call: "fsopen", Err: syscall.ENODEV},
		"ulimit -u":               {Step: plan.Step{Op: &plan.Clone{}}, Call: "clone3", Err: syscall.EAGAIN},
		"user.max_mnt_namespaces": {Step: plan.Step{Op: &plan.OpenTree{Path: "/layer"}}, Call: "open_tree", Err: syscall.ENOSPC},
	} {
		if got := hint(e); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestLacksProfile(t *testing.T) {
	for _, c := range []struct {
		parameter, label string
		want             bool
	}{{"1\n", "unconfined\n", true}, {"1\n", "kakuri (unconfined)\n", false}, {"0\n", "unconfined\n", false}, {"", "", false}} {
		if got := lacksProfile(c.parameter, c.label); got != c.want {
			t.Errorf("%q of %q: %v", c.parameter, c.label, got)
		}
	}
}

// TestHelperHint: what newuidmap(1) refuses by its file is another matter than what the kernel refuses to it, as in a container without CAP_SYS_ADMIN.
func TestHelperHint(t *testing.T) {
	for said, want := range map[string]string{
		"newuidmap: uid range [0-1) -> [0-1) not allowed":                        "check the caller's lines",
		"newuidmap: write to uid_map failed: Operation not permitted":            "--cap-add SYS_ADMIN",
		"newgidmap: write to gid_map failed: Operation not permitted\n\nUsage: ": "has one id inside",
	} {
		if got := HelperHint(said); !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
}
