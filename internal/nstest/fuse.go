package nstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// FUSE has everybody be able to open /dev/fuse in the test's mount namespace, as udev has it, and gives the path of fuse-overlayfs.
func FUSE(t testing.TB) string {
	t.Helper()
	program, err := exec.LookPath("fuse-overlayfs")
	if err != nil {
		t.Skip("needs fuse-overlayfs (Debian: package fuse-overlayfs)")
	}
	var st unix.Stat_t
	if err := unix.Stat("/dev/fuse", &st); err != nil {
		t.Skipf("needs /dev/fuse (modprobe fuse): %v", err)
	}
	if st.Mode&0o6 == 0o6 || os.Getuid() != 0 {
		return program
	}
	node := filepath.Join(Dir(t), "fuse")
	if err := unix.Mknod(node, unix.S_IFCHR|0o666, int(st.Rdev)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(node, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(node, "/dev/fuse", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount("/dev/fuse", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return program
}
