package engine

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/namespace"
	"golang.org/x/sys/unix"
)

// TestSourceAt: what the mounts of a host say of the source of a bind mount.
func TestSourceAt(t *testing.T) {
	mounts, err := namespace.ParseMounts([]byte(`27 1 254:0 / / rw - ext4 /dev/vda rw
21 27 0:21 / /proc rw - proc proc rw
22 27 0:22 / /sys rw - sysfs sysfs rw
31 22 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
24 27 0:6 / /dev rw - devtmpfs devtmpfs rw
25 24 0:23 / /dev/shm rw - tmpfs tmpfs rw
26 24 0:24 / /dev/pts rw - devpts devpts rw
40 27 8:1 / /nowhere/srv rw - xfs /dev/sda1 rw
41 40 8:2 / /nowhere/srv/a rw - ext4 /dev/sda2 rw
42 40 0:50 / /nowhere/srv/net rw - nfs4 host:/x rw
43 41 0:51 / /nowhere/srv/a rw - tmpfs t rw
44 27 8:3 / /nowhere/home rw - ext4 /dev/sda3 rw
45 44 8:4 / /nowhere/home/u rw - ext4 /dev/sda4 rw
46 44 0:52 / /nowhere/home/v rw - fuse.sshfs u@h: rw
47 27 0:53 / /somewhere rw - overlay overlay rw
48 47 8:5 / /somewhere/disk rw - ext4 /dev/sda5 rw
`))
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]bindSource{
		"/nowhere/file":   {},
		"/nowhere/home/u": {},
		"/nowhere/homely": {},
		"/nowhere/home":   {mixed: true, disks: []string{"u"}},
		"/nowhere":        {mixed: true, disks: []string{"home", "home/u", "srv"}},
		"/nowhere/srv":    {mixed: true},
		"/nowhere/srv/a":  {},
		"/dev/null":       {kernel: true, devices: true},
		"/dev":            {kernel: true, devices: true, mixed: true},
		"/dev/shm":        {},
		"/sys/fs/cgroup":  {kernel: true, mixed: true},
		"/sys/kernel":     {kernel: true},
		"/":               {mixed: true, disks: []string{"nowhere/home", "nowhere/home/u", "nowhere/srv", "somewhere/disk"}},
		"/somewhere":      {disks: []string{"disk"}},
	} {
		got := sourceAt(mounts, p)
		if got.kernel != want.kernel || got.devices != want.devices || got.mixed != want.mixed || !slices.Equal(got.disks, want.disks) {
			t.Errorf("%s: %+v, not %+v", p, got, want)
		}
	}
}

// TestBindOfDevices: /dev/null hides a file, as people have it do, and what cannot be id-mapped does not keep a tree from a container: its
// disks are mapped, the kernel's own file systems are as they are.
func TestBindOfDevices(t *testing.T) {
	nstest.Root(t)
	e, root, host := open(t), nstest.RootFS(t), nstest.Dir(t)
	bind := func(source, dest string) Mount {
		return Mount{Type: "bind", Source: source, Dest: dest, Options: []string{"rbind"}, Flag: "-v"}
	}
	c := sh(root, "cat /etc/conf; echo hidden; echo x > /etc/conf && cat /etc/conf; chmod 600 /etc/conf 2>/dev/null || echo not mine")
	c.Mounts = []Mount{bind("/dev/null", "/etc/conf")}
	want(t, e, c, "hidden\nnot mine\n")
	c = sh(root, "echo x > /dev/null && echo written; head -c 1 /dev/zero | wc -c")
	c.Mounts = []Mount{bind("/dev", "/dev")}
	want(t, e, c, "written\n1\n")

	put(t, host+"/f", "on the disk")
	for _, dir := range []string{"/proc", "/deep"} {
		if err := os.Mkdir(host+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("proc", host+"/proc", "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(host+"/proc", unix.MNT_DETACH) })
	put(t, host+"/deep/f", "covered")
	other := nstest.Dir(t)
	put(t, other+"/f", "on another")
	if err := unix.Mount(other, host+"/deep", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(host+"/deep", unix.MNT_DETACH) })
	c = sh(root, "cat /host/f; echo; cat /host/deep/f; echo; stat -c %u /host/f /host/deep/f; touch /host/deep/new 2>&1; ls -d /host/proc/self")
	c.Mounts = []Mount{bind(host, "/host")}
	out, code, err := inside(t, e, c)
	var st unix.Statfs_t
	if err := unix.Statfs(other, &st); err != nil {
		t.Fatal(err)
	}
	mapped := st.Type != unix.TMPFS_MAGIC // which older kernels cannot map
	below := map[bool]string{true: "0", false: "65534"}[mapped]
	if err != nil || code != 0 || !strings.HasPrefix(out, "on the disk\non another\n0\n"+below+"\n") || !strings.Contains(out, "/host/proc/self") {
		t.Errorf("%q, code %d, %v", out, code, err)
	}
	if exists(other+"/new") != mapped {
		t.Error("what was written below: ", !mapped)
	}
	c.Mounts[0].Options = append(c.Mounts[0].Options, "rro")
	if out, _, err = inside(t, e, c); err != nil || !strings.Contains(out, "Read-only") {
		t.Errorf("read-only: %q, %v", out, err)
	}
}

// TestBindOfOverlay: what is on an overlay is nobody's inside, and who asks for it is told; a disk below is mapped.
func TestBindOfOverlay(t *testing.T) {
	nstest.Root(t)
	e, root, host := open(t), nstest.RootFS(t), nstest.Dir(t)
	var told []string
	e.warn = func(text string) { told = append(told, text) }
	for _, dir := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(host+"/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, host+"/lower/f", "on an overlay")
	put(t, host+"/lower/disk/covered", "")
	put(t, host+"/disk/f", "on a disk")
	merged := host + "/merged"
	if err := unix.Mount("overlay", merged, "overlay", 0, "lowerdir="+host+"/lower,upperdir="+host+"/upper,workdir="+host+"/work"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(merged, unix.MNT_DETACH) })
	c := sh(root, "cat /host/f; echo; stat -c %u /host/f; touch /host/new 2>/dev/null || echo refused; [ ! -e /host/disk/f ] || stat -c %u /host/disk/f")
	c.Mounts = []Mount{{Type: "bind", Source: merged, Dest: "/host", Options: []string{"rbind"}, Flag: "-v x"}}
	want(t, e, c, "on an overlay\n65534\nrefused\n")
	if len(told) != 1 || !strings.HasPrefix(told[0], "-v x: the source is on an overlay") {
		t.Errorf("told %q", told)
	}
	made, err := e.Create(t.Context(), c)
	if err != nil || len(told) != 2 {
		t.Errorf("create: told %q, %v", told, err)
	}
	if err := e.Remove(t.Context(), made.ID, RemoveOptions{}); err != nil {
		t.Error(err)
	}
	c.UserNS = "host"
	if out, _, err := inside(t, e, c); err != nil || !strings.HasPrefix(out, "on an overlay\n0\n") || len(told) != 2 {
		t.Errorf("--userns host: %q, %v, told %q", out, err, told)
	}

	if err := unix.Mount(host+"/disk", merged+"/disk", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(merged+"/disk", unix.MNT_DETACH) })
	below := "65534\n"
	mounts, err := ownMounts()
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(diskTypes, mountOf(mounts, merged+"/disk").Type) {
		below = "0\n"
	}
	c.UserNS = ""
	want(t, e, c, "on an overlay\n65534\nrefused\n"+below)
}

// TestHostOfOverlay: where / is an overlay, the image host is refused with a reason.
func TestHostOfOverlay(t *testing.T) {
	nstest.Root(t)
	mounts, err := namespace.ParseMounts([]byte("27 1 0:53 / / rw - overlay overlay rw\n"))
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{engine: open(t), ownMounts: mounts, run: Config{Image: "host"}}
	b.host = b.engine.host
	if err := b.hostImage(); err == nil || !strings.Contains(err.Error(), "/, which is an overlay here") {
		t.Errorf("image host: %v", err)
	}
}
