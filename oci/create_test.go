package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestLabelledFIFOs: what a process that waits in a domain of SELinux has open is of the label of its own files, and where SELinux is not enabled, or nothing
// is asked for, of none.
func TestLabelledFIFOs(t *testing.T) {
	nstest.Root(t)
	const label = "system_u:object_r:container_file_t:s0:c1,c2"
	for name, c := range map[string]struct {
		facts          plan.Facts
		process, mount string
		labelled       bool
	}{
		"enabled":  {plan.Facts{SELinux: true}, "system_u:system_r:container_t:s0:c1,c2", label, true},
		"disabled": {plan.Facts{}, "system_u:system_r:container_t:s0:c1,c2", label, false},
		"none":     {plan.Facts{SELinux: true}, "", label, false},
		"no-mount": {plan.Facts{SELinux: true}, "system_u:system_r:container_t:s0:c1,c2", "", false},
	} {
		x, err := (&Runtime{Root: nstest.Dir(t)}).reserve(name)
		if err != nil {
			t.Fatal(err)
		}
		spec := &specs.Spec{Process: &specs.Process{SelinuxLabel: c.process}, Linux: &specs.Linux{MountLabel: c.mount}}
		m := &making{c: x, b: &Bundle{Spec: spec}, how: waiting, facts: c.facts}
		if err := m.prepare(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, fifo := range []string{"start", "started"} {
			got := make([]byte, 100)
			n, err := unix.Lgetxattr(x.dir+"/"+fifo, "security.selinux", got)
			if err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
				t.Fatal(err)
			}
			// With SELinux all files have one, and behind it a NUL.
			if has := strings.TrimRight(string(got[:max(n, 0)]), "\x00"); (has == label) != c.labelled {
				t.Errorf("%s: %s has the label %q", name, fifo, has)
			}
		}
		x.unlock()
	}
}

func TestPIDFileOfKilled(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "pid")
	for _, left := range []string{"pid", ".pid"} {
		if err := os.WriteFile(filepath.Join(dir, left), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := writePIDFile(name, 4711); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "4711" {
		t.Errorf("%q, %v", got, err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left: %v", list)
	}
}
