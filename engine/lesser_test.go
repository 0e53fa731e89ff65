package engine

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// readOnly has a path be read-only in a mount namespace of the test's own.
func readOnly(t *testing.T, path string) {
	t.Helper()
	if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	all := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_RECURSIVE, all); err != nil {
		t.Fatal(err)
	}
}

// TestWithoutCgroups: where root can make no control groups, as in a container, his containers do without, and say so; but not those that have limits, or that only the
// rules of one keep from devices.
func TestWithoutCgroups(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	for what, take := range map[string]func(t *testing.T){
		"read-only": func(t *testing.T) { readOnly(t, "/sys/fs/cgroup") },
		"not mounted": func(t *testing.T) {
			if err := unix.Mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH) })
		},
	} {
		t.Run(what, func(t *testing.T) {
			nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}, func(t *testing.T) {
				e := open(t)
				take(t)
				var told []string
				e.warn = func(text string) { told = append(told, text) }
				want(t, e, sh(root, "echo runs"), "runs\n")
				if len(told) != 1 || !strings.Contains(told[0], "no control group") {
					t.Errorf("warnings: %q", told)
				}
				few, need := int64(5), "cgroup"
				refused(t, e, Config{Rootfs: root, Command: []string{"true"}, Resources: Resources{PidsLimit: &few}}, 125, need)
				refused(t, e, Config{Rootfs: root, Command: []string{"true"}, UserNS: "host", CapDrop: []string{"MKNOD"}}, 125, need)
				refused(t, e, Config{Rootfs: root, Command: []string{"true"}, Devices: []Device{{Host: "/dev/zero", Inside: "/dev/z", Access: "r", Flag: "/dev/zero:/dev/z:r"}}}, 125, need)
			})
		})
	}
}

// TestSysIsCovered: where /proc/sys is read-only, as in a container, parameters of a container's own namespaces are set all the same.
func TestSysIsCovered(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}, func(t *testing.T) {
		e := open(t)
		readOnly(t, "/proc/sys")
		e, err := Open(Options{Dir: e.dir, Network: "none", Runtime: nstest.Binary(t, "kakuri-runtime")})
		if err != nil {
			t.Fatal(err)
		}
		want(t, e, Config{Rootfs: root, UserNS: "host", Command: []string{"cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"}}, "0\n")
	})
}

// TestHostOfFileMounts: the image host is shown where a single file is mounted on one, as a resolv.conf is, or a machine-id.
func TestHostOfFileMounts(t *testing.T) {
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}, func(t *testing.T) {
		const at = "/etc/hostname"
		if err := unix.Mount("/etc/passwd", at, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("needs a file %s: %v", at, err)
		}
		t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
		want(t, open(t), Config{Image: "host", Command: []string{"echo", "runs"}}, "runs\n")
	})
}

// TestNoNetAdmin: root without CAP_NET_ADMIN has no network by default, and is told what is missing.
func TestNoNetAdmin(t *testing.T) {
	e := &Engine{host: rootFacts()}
	e.host.Caps = e.host.Caps.Without(abi.CapNetAdmin)
	if mode, why := e.DefaultNetwork(); mode != "none" || why == nil || !strings.Contains(why.Error(), "--cap-add NET_ADMIN") {
		t.Errorf("%s: %v", mode, why)
	}
	if err := e.orDefault(&Config{Publish: []PortSpec{{Port: 80}}}); err == nil || !strings.Contains(err.Error(), "-p takes a network") || errors.Is(err, os.ErrPermission) {
		t.Error(err)
	}
}

// TestNoHome: whose home is not there is told what to set, by whatever is made first.
func TestNoHome(t *testing.T) {
	nstest.Inside(t, nstest.Place{User: nstest.User(t)}, func(t *testing.T) {
		run := t.TempDir()
		if err := os.Chmod(run, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("HOME", "/nonexistent")
		t.Setenv("XDG_DATA_HOME", "")
		t.Setenv("XDG_RUNTIME_DIR", run)
		e, err := Open(Options{Network: "none", Runtime: nstest.Binary(t, "kakuri-runtime")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Storage()
		for what, err := range map[string]error{"storage": err, "containers": e.mkdirs()} {
			if err == nil || !strings.Contains(err.Error(), "cannot be made in /: permission denied: set HOME") {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}
