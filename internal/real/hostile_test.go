package real

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/testimage"
)

// magic are labels and annotations by which an image has chosen a logger, a device, a handler, a unit or a privilege under some engine:
// CVE-2026-53488, 2026-50195, 2026-53489, 2024-3154, 2024-8676, 2026-94603, and their kin.
func magic() map[string]string {
	return map[string]string{
		"io.kubernetes.cri-o.userns-mode": "host", "io.kubernetes.cri-o.Devices": "/dev/mem", "io.kubernetes.cri-o.TrustedSandbox": "true", "io.kubernetes.cri-o.seccompNotifierAction": "stop",
		"io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw": "true", "org.systemd.property.ExecStopPost": "'touch /tmp/evil'", "run.oci.handler": "krun", "run.oci.seccomp.receiver": "/run/evil",
		"run.oci.hooks.stdout": "/tmp/evil", "run.oci.mount_context_type": "rootcontext", "run.oci.keep_original_groups": "1", "run.oci.systemd.subgroup": "../..",
		"io.podman.annotations.privileged": "TRUE", "io.podman.annotations.seccomp": "unconfined", "io.podman.annotations.userns": "host", "io.podman.annotations.label": "disable",
		"io.containers.capabilities": "CAP_SYS_ADMIN", "io.containers.type": "host", "RUN": "podman run --privileged IMAGE", "org.opencontainers.checkpoint": "x", "io.kubernetes.cri-o.annotations.checkpoint.name": "x",
		"containerd.io/restart.loguri": "binary:///bin/sh?-c=touch+/tmp/evil", "nerdctl/log-uri": "binary:///bin/sh", "com.docker.security.seccomp": "unconfined", "cdi.k8s.io/x": "vendor.com/device=all",
		"kakuri.privileged": "true", "level": "docker", "seccomp": "unconfined", "security-opt": "seccomp=unconfined", "devices": "/dev/mem", "runtime": "/tmp/evil",
	}
}

// No label or annotation of an image changes what its container may do, or leaves a file on the host.
func TestMagicLabels(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	plain := testimage.Get(t, testimage.Busybox)
	cf, err := plain.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.Config.Labels = magic()
	evil, err := mutate.ConfigFile(plain, cf)
	if err != nil {
		t.Fatal(err)
	}
	evil = mutate.Annotations(evil, magic()).(v1.Image)
	host := testimage.Registry(t, map[string]v1.Image{"plain:1": plain, "evil:1": evil})
	var c caller
	t.Cleanup(func() { c.kakuri("rmi", "-f", host+"/plain:1", host+"/evil:1") })
	look := func(ref string) string {
		c.ok(t, "pull", "-q", ref)
		return c.ok(t, "run", "--rm", "--hostname", "same", ref, "sh", "-c", `grep -E '^(Cap|NoNew|Seccomp|Uid|Gid|Groups)' /proc/self/status; cat /proc/self/uid_map | tr -s ' ' | cut -d ' ' -f 2,4
			cut -d ' ' -f 5- /proc/self/mountinfo | sed 's/[0-9]\{5,\}/N/g; s/[0-9a-f]\{12,\}/H/g; s/lowerdir=[^,]*//'; env | sort; ls /dev; ls /proc/self/fd | wc -l; ulimit -c`)
	}
	a, b := strings.Split(look(host+"/plain:1"), "\n"), strings.Split(look(host+"/evil:1"), "\n")
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			t.Errorf("line %d: with the labels the container has\n%q\nwithout\n%q", i, b[min(i, len(b)):], a[min(i, len(a)):])
			break
		}
	}
	if out, code := c.kakuri("run", "--rm", "-v", "/tmp:/host:ro", host+"/plain:1", "sh", "-c", "ls -d /host/evil*"); code == 0 {
		t.Errorf("on the host is %s", out)
	}
}

// A configuration that names an impossible user or directory is an error that says which, and leaves nothing. An impossible signal, which does not matter before the end, is told of.
func TestHostileConfig(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	plain := testimage.Get(t, testimage.Busybox)
	images, wants := map[string]v1.Image{}, map[string]string{}
	for name, c := range map[string]struct {
		change func(*v1.Config)
		want   string
	}{
		"uid":  {func(c *v1.Config) { c.User = "4294967296" }, "4294967296"},
		"uid2": {func(c *v1.Config) { c.User = "-1" }, "-1"},
		"cwd":  {func(c *v1.Config) { c.WorkingDir = "/proc/self/fd/7" }, "/proc/self/fd/7"},
		"rel":  {func(c *v1.Config) { c.WorkingDir = "../../etc" }, "../../etc"},
	} {
		cf, err := plain.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		cf = cf.DeepCopy()
		c.change(&cf.Config)
		img, err := mutate.ConfigFile(plain, cf)
		if err != nil {
			t.Fatal(err)
		}
		images[name+":1"], wants[name] = img, c.want
	}
	cf, err := plain.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.Config.StopSignal = "SIGNOSUCH"
	if images["stop:1"], err = mutate.ConfigFile(plain, cf); err != nil {
		t.Fatal(err)
	}
	host := testimage.Registry(t, images)
	var c caller
	if out, code := c.kakuri("run", "--rm", host+"/stop:1", "true"); code != 0 || !strings.Contains(out, "SIGNOSUCH is no signal") {
		t.Errorf("stop: code %d: %s", code, out)
	}
	for name, want := range wants {
		ref := host + "/" + name + ":1"
		out, code := c.kakuri("run", "--rm", ref, "true")
		if code < 125 || !strings.Contains(out, want) || strings.Count(strings.TrimSpace(out[strings.LastIndex(out, "kakuri: ")+1:]), "\n") > 0 {
			t.Errorf("%s: code %d: %s", name, code, out)
		}
		if out, _ := c.kakuri("ps", "-aq"); strings.TrimSpace(out) != "" {
			t.Errorf("%s: left is %s", name, out)
		}
		c.kakuri("rmi", "-f", ref)
	}
}
