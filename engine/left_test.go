package engine

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// TestUnremovable: one container of which something cannot be taken away is no reason for commands about others to fail. They tell of it, and when it
// can be, the next one does it.
func TestUnremovable(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	var warned []string
	e.warn = func(s string) { warned = append(warned, s) }
	root := nstest.RootFS(t)
	c := made(t, e, Config{Name: "stuck", Rootfs: root, Command: []string{"true"}})
	other := made(t, e, Config{Name: "other", Rootfs: root, Command: []string{"sleep", "100"}})
	at := c.dir + "/hold"
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(root, at, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	if err := e.Remove(t.Context(), "stuck", RemoveOptions{}); err == nil {
		t.Error("it was removed")
	}
	list, err := e.List(ListOptions{All: true})
	if err != nil || len(list) != 1 || list[0].ID != other.ID {
		t.Errorf("%v: %+v", err, list)
	}
	if text := strings.Join(warned, "\n"); !strings.Contains(text, shortID(c.ID)) {
		t.Errorf("warnings: %q", text)
	}
	if err := e.Remove(t.Context(), "stuck", RemoveOptions{}); err == nil || errors.As(err, new(ErrNoSuchContainer)) || !strings.Contains(err.Error(), shortID(c.ID)) {
		t.Errorf("once more: %v", err)
	}
	if err := e.Start(t.Context(), "other", StartOptions{}); err != nil {
		t.Error(err)
	}
	if err := e.Kill(t.Context(), "other", "KILL"); err != nil {
		t.Error(err)
	}
	if _, err := e.Wait(t.Context(), "other", ""); err != nil {
		t.Error(err)
	}
	if err := unix.Unmount(at, 0); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), "other", RemoveOptions{}); err != nil {
		t.Error(err)
	}
	empty(t, e)
}

// TestUnchangeableFiles: a container that is root of the machine gives its files attributes by which nobody may change or remove them, and is started again
// and removed like any other.
func TestUnchangeableFiles(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	c := made(t, e, Config{Name: "fixed", Rootfs: nstest.RootFS(t), Command: []string{"sleep", "100"}, ExtraHosts: []string{"db:192.0.2.1"}})
	if err := e.Start(t.Context(), "fixed", StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(t.Context(), "fixed", StopOptions{Timeout: new(int)}); err != nil {
		t.Fatal(err)
	}
	// As CAP_LINUX_IMMUTABLE lets root do that has the machine's id.
	f, err := os.Open(c.dir + "/hosts")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, unix.STATX_ATTR_IMMUTABLE); err != nil {
		t.Skipf("no attributes here: %v", err)
	}
	if err := e.Start(t.Context(), "fixed", StartOptions{}); err != nil {
		t.Error(err)
	}
	if f, err = os.Open(c.dir + "/hosts"); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, unix.STATX_ATTR_IMMUTABLE); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), "fixed", RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if exists(monitor.Place(e.dir, c.ID)) {
		t.Error("the monitor's place is left")
	}
	empty(t, e)
}
