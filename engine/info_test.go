package engine

import (
	"os"
	"slices"
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
	for _, c := range []struct{ kind, version string }{{"tmpfs", "1"}, {"cgroup2", "2"}} {
		mount(c.kind, "/sys/fs/cgroup")
		if i, err := e.Info(t.Context()); err != nil || i.CgroupVersion != c.version {
			t.Errorf("with %s it is version %s, %v", c.kind, i.CgroupVersion, err)
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
