package engine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestGPUNames(t *testing.T) {
	nvidia, amd := []string{"nvidia.com/gpu=0", "nvidia.com/gpu=all"}, []string{"other.org/net=a", "amd.com/gpu=all"}
	for _, c := range []struct {
		arg   string
		known []string
		want  []string
	}{
		{"all", nvidia, []string{"nvidia.com/gpu=all"}},
		{"all", amd, []string{"amd.com/gpu=all"}},
		{"-1", nvidia, []string{"nvidia.com/gpu=all"}},
		{"2", nvidia, []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1"}},
		{"driver=intel,count=1", nil, []string{"intel.com/gpu=0"}},
		{"driver=nvidia,capabilities=gpu", nil, []string{"nvidia.com/gpu=all"}},
		{`"device=0,GPU-3a23c669"`, nvidia, []string{"nvidia.com/gpu=0", "nvidia.com/gpu=GPU-3a23c669"}},
		{`driver=amd,"device=1"`, nvidia, []string{"amd.com/gpu=1"}},
	} {
		if got, err := gpuNames(c.arg, c.known); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("--gpus %s: %q, %v, want %q", c.arg, got, err, c.want)
		}
	}
	for arg, text := range map[string]string{
		"all": "nvidia-ctk", "driver=x": "no driver", "driver=nvidia,count=x": "want a number", "driver=nvidia,count=1,device=0": "take one", "speed=1": "none of",
		"driver=nvidia,device=../x": "has a name", "driver=nvidia,count=9999999": "want a number", "driver=nvidia,device=": "has a name",
	} {
		if got, err := gpuNames(arg, nil); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("--gpus %s: %q, %v, want %q", arg, got, err, text)
		}
	}
}

func TestCDI(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("vendor.yaml", `
cdiVersion: "0.6.0"
kind: vendor.com/card
devices:
- name: one
  containerEdits:
    env: [CARD=one]
    deviceNodes:
    - path: /dev/card
      hostPath: /dev/null
    mounts:
    - hostPath: /usr
      containerPath: /opt/card
      options: [ro, bind]
    hooks:
    - hookName: createContainer
      path: /usr/bin/true
`)
	build := func(c Config) (*builder, error) {
		c.Rootfs, c.Command = t.TempDir(), []string{"true"}
		b := &builder{run: c, host: rootFacts(), id: files.NewID(), shared: map[string]Container{}, cdiDirs: []string{dir}}
		return b, b.build()
	}
	card := Device{Host: "vendor.com/card=one", Flag: "vendor.com/card=one"}
	b, err := build(Config{Devices: []Device{card}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(b.spec.Process.Env, "CARD=one") {
		t.Errorf("variables: %q", b.spec.Process.Env)
	}
	if n := len(b.spec.Linux.Devices); n != 1 || b.spec.Linux.Devices[0].Path != "/dev/card" || b.spec.Linux.Devices[0].Minor != 3 {
		t.Errorf("devices: %+v", b.spec.Linux.Devices)
	}
	if !slices.ContainsFunc(b.spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/opt/card" && m.Source == "/usr" }) {
		t.Errorf("mounts: %+v", b.spec.Mounts)
	}
	if b.spec.Hooks == nil || len(b.spec.Hooks.CreateContainer) != 1 {
		t.Errorf("hooks: %+v", b.spec.Hooks)
	}
	for _, field := range []string{"linux.devices[0]", "hooks"} {
		if got := b.opts.Causes[field]; got != "--device vendor.com/card=one" {
			t.Errorf("the cause of %s: %q", field, got)
		}
	}

	// An ordinary user's container has the host's node.
	b = &builder{run: Config{Rootfs: t.TempDir(), Command: []string{"true"}, Devices: []Device{card}}, host: rootFacts(), id: files.NewID(), shared: map[string]Container{}, cdiDirs: []string{dir}}
	b.host.UID, b.host.Caps = 1000, 0
	if err := b.build(); err != nil {
		t.Fatal(err)
	}
	if len(b.spec.Linux.Devices) != 0 || !slices.ContainsFunc(b.spec.Mounts, func(m specs.Mount) bool {
		return m.Destination == "/dev/card" && m.Source == "/dev/null" && m.Type == "bind"
	}) {
		t.Errorf("an ordinary user's: %+v, %+v", b.spec.Linux.Devices, b.spec.Mounts)
	}

	write("broken.json", `{"cdiVersion": "0.6.0", "kind": "no kind"}`)
	for _, name := range []string{"vendor.com/card=two", "vendor.com/other=one"} {
		if _, err := build(Config{Devices: []Device{{Host: name, Flag: name}}}); err == nil || !strings.HasPrefix(err.Error(), "--device "+name+": there is no device") || !strings.Contains(err.Error(), "broken.json") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := build(Config{GPUs: []string{"all"}}); err == nil || !strings.Contains(err.Error(), "--gpus all: no file in /etc/cdi or /var/run/cdi describes a GPU") {
		t.Errorf("a machine without GPUs: %v", err)
	}
	write("gpu.json", `{"cdiVersion": "0.6.0", "kind": "amd.com/gpu", "devices": [{"name": "all", "containerEdits": {"env": ["GPU=all"]}}]}`)
	if b, err := build(Config{GPUs: []string{"all"}}); err != nil || !slices.Contains(b.spec.Process.Env, "GPU=all") {
		t.Errorf("--gpus all: %v", err)
	}
}

// TestCDIHooks: a hook in the container's namespaces, such as the driver of a GPU has, finds the container's root and its config.json where its state says, changes files there, and
// is itself found by a link of the host's that goes up to the root directory. Others than the hook see nothing of that place.
func TestCDIHooks(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	dir := nstest.Dir(t)
	e.cdiDirs = []string{dir}
	hook, up := dir+"/hook", strings.Repeat("../", strings.Count(dir, "/")+1)
	script := `#!/bin/sh
read state
bundle=${state#*\"bundle\":\"}
bundle=${bundle%%\"*}
grep -q '"path":"rootfs"' $bundle/config.json && echo "$(id -u) $(pwd -P)" >$bundle/rootfs/from-hook && ls $bundle/rootfs/proc/self/ >/dev/null`
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.WriteFile(hook, []byte(script), 0o755), os.Symlink(up+hook[1:], dir+"/link"),
		os.WriteFile(dir+"/card.yaml", []byte(`
cdiVersion: "0.6.0"
kind: vendor.com/card
devices:
- name: one
  containerEdits:
    hooks:
    - hookName: createContainer
      path: `+dir+"/link\n"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	imported(t, e, nstest.RootFS(t), "base:1")
	for _, c := range []Config{{}, {UserNS: "host"}, {ReadOnly: true}, {AutoRemove: true}} {
		c.Image, c.Network, c.Devices = "base:1", "none", []Device{{Host: "vendor.com/card=one", Flag: "vendor.com/card=one"}}
		c.Command = []string{"sh", "-c", "cat /from-hook; grep -c rootfs /proc/self/mountinfo"}
		text, code, err := inside(t, e, c)
		if lines := strings.Split(text, "\n"); err != nil || len(lines) < 2 || !strings.HasPrefix(lines[0], "0 /") || !strings.HasSuffix(lines[0], "/rootfs") || lines[1] != "0" {
			t.Errorf("--userns %q, --read-only %v: %v, code %d: %s", c.UserNS, c.ReadOnly, err, code, text)
		}
	}
}
