package engine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
)

// TestSweepsFollowNoLinks: a link in the place of a directory that is swept leads to files of others: none of them goes with a sweep or a check, and what has a name that kakuri
// gives nothing stays in the directory itself, too.
func TestSweepsFollowNoLinks(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	n, err := e.NetworkCreate(t.Context(), NetworkConfig{Name: "swept"})
	if err != nil {
		t.Fatal(err)
	}
	hex := strings.Repeat("e", 64)
	foreign := func(dir string) error {
		return errors.Join(os.MkdirAll(dir+"/sub/inner", 0o700), os.Mkdir(dir+"/empty", 0o700), os.WriteFile(dir+"/file", nil, 0o600),
			os.WriteFile(dir+"/file.new", nil, 0o600), os.WriteFile(dir+"/.hidden", nil, 0o600))
	}
	all := func(dir string) error {
		id := files.NewID()
		return errors.Join(foreign(dir), os.WriteFile(dir+"/"+id, nil, 0o600), os.WriteFile(dir+"/v."+id, nil, 0o600), os.WriteFile(dir+"/"+id+".new", nil, 0o600),
			os.Symlink(id, dir+"/name"), os.Symlink("nowhere", dir+"/alink"))
	}
	byID := []string{
		e.creating(), e.pausing(), e.intents(), e.attached(), e.dir + "/networks/" + n.ID + "/members", e.dir + "/users/" + hex, e.data + "/ephemeral",
	}
	for _, dir := range append([]string{
		e.owned(), e.ids(), e.names(), e.data + "/networks/" + n.ID + "/leases", e.data + "/networks/names", e.dir + "/rules/ports", e.dir + "/users",
	}, byID...) {
		for _, link := range []bool{true, false} {
			if !link && !slices.Contains(byID, dir) {
				continue
			}
			at := nstest.Dir(t) + "/there"
			fill := all
			away := dir + ".away"
			if err := os.Rename(dir, away); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
				t.Fatal(err)
			}
			if link {
				err = os.Symlink(at, dir)
			} else {
				at, fill = dir, foreign
			}
			if err := errors.Join(err, fill(at)); err != nil {
				t.Fatal(err)
			}
			before := allBelow(t, at)
			e.sweep() // whose error is about the link
			e.Check(t.Context(), true)
			if now := allBelow(t, at); !slices.Equal(now, before) {
				t.Errorf("%s, a link %v: of %q there is %q", dir, link, before, now)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(away, dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	if err := e.NetworkRemove(t.Context(), n.ID, false); err != nil {
		t.Error(err)
	}
}

// allBelow is each path below a directory.
func allBelow(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		list = append(list, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
