package nstest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TUN has the device for tun(4) have a mode, as 0666, which distributions give it, until end is called, or the test ends.
func TUN(t testing.TB, mode uint32) (end func()) {
	t.Helper()
	const name = "/dev/net/tun"
	if st, err := os.Stat(name); err == nil && st.Mode().Perm() == os.FileMode(mode) {
		return func() {}
	}
	node := filepath.Join(Dir(t), "tun")
	if err := unix.Mknod(node, unix.S_IFCHR|mode, int(unix.Mkdev(10, 200))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(node, os.FileMode(mode)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(node, name, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("%s: %v: modprobe tun makes it", name, err)
	}
	there := true
	end = func() {
		if there {
			unix.Unmount(name, unix.MNT_DETACH)
		}
		there = false
	}
	t.Cleanup(end)
	return end
}

// UplinkEnds waits until kakuri-uplink has ended, which an account's containers on networks had: two seconds after the last one.
func (a *Account) UplinkEnds(t testing.TB) {
	t.Helper()
	Until(t, "the end of kakuri-uplink", func() bool {
		f, err := os.Open(a.RuntimeDir() + "/kakuri/uplink/lock") // it has the lock of that
		if err != nil {
			return errors.Is(err, os.ErrNotExist)
		}
		defer f.Close()
		return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil
	})
}
