package engine

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// TestEngineID: an engine is told from others by its ID, which stays, and which who only looks does not make up.
func TestEngineID(t *testing.T) {
	nstest.Root(t)
	e, other := open(t), open(t)
	id := func(e *Engine) string {
		t.Helper()
		i, err := e.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return i.ID
	}
	e.look = true
	if got := id(e); got != "" {
		t.Errorf("made up by looking: %q", got)
	}
	e.look = false
	first := id(e)
	e.look = true
	if !files.IsID(first) || id(e) != first || id(other) == first {
		t.Errorf("%q, then %q, and of other data %q", first, id(e), id(other))
	}
}

// TestInfoOfKernel: info tells which control groups a machine has, and which modules label its processes.
func TestInfoOfKernel(t *testing.T) {
	nstest.Root(t)
	mount := func(kind, target string) {
		t.Helper()
		if err := unix.Mount(kind, target, kind, 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
	}
	e := open(t)
	for _, c := range []struct{ kind, driver, version string }{{"tmpfs", "none", ""}, {"cgroup2", "cgroupfs", "2"}} {
		mount(c.kind, "/sys/fs/cgroup")
		i, err := e.Info(t.Context())
		if err != nil || i.CgroupVersion != c.version || i.CgroupDriver != c.driver {
			t.Errorf("with %s it is %s, version %s, %v", c.kind, i.CgroupDriver, i.CgroupVersion, err)
		}
		if none := slices.ContainsFunc(i.Warnings, func(w string) bool { return strings.HasPrefix(w, "no control groups are mounted") }); none != (c.version == "") {
			t.Errorf("with %s: %q", c.kind, i.Warnings)
		}
	}
	mount("tmpfs", "/sys/module")
	const parameters = "/sys/module/apparmor/parameters"
	if err := os.MkdirAll(parameters, 0o755); err != nil {
		t.Fatal(err)
	}
	for enabled, want := range map[string]bool{"Y": true, "N": false} {
		if err := os.WriteFile(parameters+"/enabled", []byte(enabled+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if i, err := e.Info(t.Context()); err != nil || slices.Contains(i.SecurityOptions, "name=apparmor") != want {
			t.Errorf("enabled is %s: %v, %v", enabled, i.SecurityOptions, err)
		}
	}
}

// TestInfoOfHardening: what hardening has taken from containers, info does not tell of as there, and warns of.
func TestInfoOfHardening(t *testing.T) {
	for _, c := range []struct {
		rootless bool
		key      string
		value    string
		want     string // begins its warning
	}{
		{false, "user.max_user_namespaces", "0", "containers have no user namespace of their own, so they start with --userns host alone: sysctl user.max_user_namespaces is 0"},
		{true, "user.max_user_namespaces", "0", "no container can be started"},
		{true, "kernel.unprivileged_userns_clone", "0", "no container can be started"},
		{false, "kernel.unprivileged_userns_clone", "0", ""},
		{true, "user.max_user_namespaces", "63000", ""},
	} {
		i := Info{Rootless: c.rootless, SecurityOptions: []string{"name=userns", "name=cgroupns"}}
		i.userNamespaces(func(key string) string {
			if key == c.key {
				return c.value
			}
			return ""
		})
		if c.want == "" && (len(i.Warnings) > 0 || len(i.SecurityOptions) != 2) {
			t.Errorf("%+v: %q, %q", c, i.SecurityOptions, i.Warnings)
		}
		if c.want != "" && (len(i.Warnings) != 1 || !strings.HasPrefix(i.Warnings[0], c.want) || slices.Contains(i.SecurityOptions, "name=userns")) {
			t.Errorf("%+v: %q, %q", c, i.SecurityOptions, i.Warnings)
		}
	}
	all := Info{CgroupVersion: "2", MemoryLimit: true, CPUShares: true, CPUSet: true, PidsLimit: true}
	all.limits()
	if len(all.Warnings) > 0 {
		t.Errorf("of a machine with all: %q", all.Warnings)
	}
	some := Info{CgroupVersion: "2", CPUShares: true, CPUSet: true}
	if some.limits(); len(some.Warnings) != 2 || !strings.Contains(some.Warnings[0], "no controller memory: --memory is refused (cgroup_disable=memory ") || !strings.Contains(some.Warnings[1], "controller pids") {
		t.Errorf("%q", some.Warnings)
	}
}
