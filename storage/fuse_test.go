package storage

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// TestRootlessServed: where the kernel lays no directories over each other for an ordinary user, fuse-overlayfs does; where that is missing, too, a view
// that is to be a root is refused with what would help.
func TestRootlessServed(t *testing.T) {
	nstest.FUSE(t)
	nstest.Inside(t, nstest.Place{User: nstest.User(t)}, func(t *testing.T) {
		dir := t.TempDir()
		served := func(path string) *Store {
			s, err := Open(Options{Data: dir + "/data", Run: dir + "/run", Rootless: true, IDs: ordinary(t, true)})
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", path)
			s.overlay = func() error { return unix.EPERM }
			return s
		}
		path := os.Getenv("PATH")
		s := served(path)
		if name, why := s.Driver(); name != driverFuse || !strings.Contains(why, "operation not permitted") {
			t.Fatalf("driver %s: %s", name, why)
		}
		rootless(t, s, true)
		s = served("/none")
		chain := put(t, s, tarsOf(t, [][]ent{{"f x x"}}))
		if name, why := s.Driver(); name != driverDirs || !strings.Contains(why, "package fuse-overlayfs") {
			t.Errorf("driver %s: %s", name, why)
		}
		if _, err := s.View(t.Context(), chain, "c"); err == nil || !strings.Contains(err.Error(), "package fuse-overlayfs") {
			t.Errorf("%v", err)
		}
		if _, err := s.View(t.Context(), chain, ""); err != nil {
			t.Errorf("who only reads: %v", err)
		}
	})
}

// TestOverlayTrial: the trial goes well where containers run, and tells why it does not.
func TestOverlayTrial(t *testing.T) {
	nstest.Inside(t, nstest.Place{User: nstest.User(t)}, func(t *testing.T) {
		dir := t.TempDir()
		s, err := Open(Options{Data: dir + "/data", Run: dir + "/run", Rootless: true, IDs: ordinary(t, true)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.tryOverlay(); err != nil {
			t.Error(err)
		}
		if err := os.Mkdir(dir+"/merged", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := tryIn(dir); !errors.Is(err, unix.EPERM) || !strings.HasPrefix(err.Error(), "mount overlay: ") {
			t.Errorf("without rights: %v", err)
		}
		only(t, s.path(dirsDir))
	})
}

// TestUpperKeepsItsDriver: what was written by one is not shown by another, which would not know its marks.
func TestUpperKeepsItsDriver(t *testing.T) {
	nstest.Root(t)
	s := open(t)
	s.choose.Do(func() {})
	s.driver = driverDirs
	chain := put(t, s, tarsOf(t, [][]ent{{"f x x"}}))
	kernels, served := view(t, s, chain, ""), view(t, s, chain, "")
	served.fuse = "/usr/bin/fuse-overlayfs"
	for id, v := range map[string]*View{"kernel": kernels, "served": served} {
		other := served
		if v == served {
			other = kernels
		}
		if _, err := v.NewUpper(Upper{ID: id}); err != nil {
			t.Fatal(err)
		}
		if _, err := v.NewUpper(Upper{ID: id}); err != nil {
			t.Errorf("%s, once more: %v", id, err)
		}
		if _, err := other.NewUpper(Upper{ID: id}); err == nil || !strings.Contains(err.Error(), "fuse-overlayfs") {
			t.Errorf("%s, by the other: %v", id, err)
		}
		if err := s.RemoveUpper(id); err != nil {
			t.Error(err)
		}
		only(t, s.path(containers, id))
	}
}
