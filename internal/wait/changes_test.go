package wait

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestChanges: a change is told of, and where containers have all instances of inotify that the user may have, who reads is waked all the same.
func TestChanges(t *testing.T) {
	if os.Getenv("WAIT_TEST_NONE") != "" { // in a user namespace of its own
		if err := os.WriteFile("/proc/sys/user/max_inotify_instances", []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	} else if os.Geteuid() == 0 {
		c := exec.Command("/proc/self/exe", "-test.run=^TestChanges$")
		c.Env = append(os.Environ(), "WAIT_TEST_NONE=1")
		ids := []syscall.SysProcIDMap{{Size: 1}}
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("without inotify: %v: %s", err, out)
		}
	}
	dir := t.TempDir()
	f, err := Changes(func(inotify int) error {
		_, err := unix.InotifyAddWatch(inotify, dir, unix.IN_CREATE)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	os.Mkdir(dir+"/x", 0o755)
	for range 2 {
		f.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := f.Read(make([]byte, 4096)); err != nil {
			t.Error(err)
		}
		os.Mkdir(dir+"/y", 0o755)
	}
	if os.Getenv("WAIT_TEST_NONE") != "" {
		return
	}
	if _, err := Changes(func(int) error { return unix.ENOENT }); err != unix.ENOENT {
		t.Error(err)
	}
}
