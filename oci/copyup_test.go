package oci

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The tmpfs of a tmpcopyup may be in a mount namespace that others are in, and its source in a root that others have, too: what
// they put in the place of a file between two steps gets neither its rights nor, as a link, has what it leads to changed.
func TestCopyUpSwapped(t *testing.T) {
	dir := t.TempDir()
	open := func(name string) int {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	file := func(name string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	from, to := open("from"), open("to")
	file("host", 0o600)
	file("from/su", 0o755|os.ModeSetuid)
	var st unix.Stat_t
	if err := unix.Fstatat(from, "su", &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.Fatal(err)
	}

	if err := os.Symlink(filepath.Join(dir, "host"), filepath.Join(dir, "to/su")); err != nil {
		t.Fatal(err)
	}
	if err := own(to, "su", &st); err == nil {
		t.Error("a link in the place of the copy is no error")
	}
	if got, err := os.Stat(filepath.Join(dir, "host")); err != nil || got.Mode() != 0o600 {
		t.Errorf("what the link leads to has %v %v", got.Mode(), err)
	}

	file("from/evil", 0o644)
	if err := os.Rename(filepath.Join(dir, "from/evil"), filepath.Join(dir, "from/su")); err != nil {
		t.Fatal(err)
	}
	c := copier{links: map[inode]string{}, root: to}
	if err := c.file(from, open("second"), "su", "su", &st); err == nil {
		t.Error("another file in the place of the source is no error")
	}
	if _, err := os.Lstat(filepath.Join(dir, "second/su")); err == nil {
		t.Error("it was copied")
	}
}
