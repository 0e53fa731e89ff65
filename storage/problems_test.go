package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// TestProblems: what should not be is found, mended, and then not found any more; what is fine is not named.
func TestProblems(t *testing.T) {
	keepers(t, func(t *testing.T, s *Store) {
		a, b := put(t, s, tarsOf(t, [][]ent{{"f a a"}})), put(t, s, tarsOf(t, [][]ent{{"f b b"}}))
		va, vb := view(t, s, a, "lives"), view(t, s, b, "dead")
		for v, id := range map[*View]string{va: "lives", vb: "dead"} {
			if _, err := v.NewUpper(Upper{ID: id, Ephemeral: true}); err != nil {
				t.Fatal(err)
			}
		}
		if list, err := s.Problems(); err != nil || len(list) > 0 {
			t.Errorf("%v, %v", list, err)
		}
		if err := os.Remove(s.layerPath(b[0])); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.blobPath(b[0], a[0]), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(indexesDir, strings.Repeat("f", 64)), []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, put := range map[string]func(name string) error{
			"e": func(name string) error { return os.MkdirAll(name+"/full", 0o700) },
			"d": func(name string) error { return unix.Mkfifo(name, 0o600) },
			"c": func(name string) error { return os.Symlink(strings.Repeat("c", 64), name) },
		} {
			if err := put(s.path(indexesDir, strings.Repeat(name, 64))); err != nil {
				t.Fatal(err)
			}
		}
		list, err := s.Problems()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range list {
			got = append(got, p.Object+": "+p.Text)
		}
		want := []string{
			"layer " + short(b[0]) + ": something is left of it, and its tar is gone", "index " + short(chainID(b)) + ": a layer of it is gone",
			"index ffffffffffff: it cannot be read", "index eeeeeeeeeeee: it cannot be read", "index dddddddddddd: it cannot be read", "index cccccccccccc: it cannot be read",
		}
		if name, _ := s.Driver(); name != driverErofs {
			want = append(want, "layer "+short(b[0])+": it is unpacked, and its tar is gone")
		}
		same(t, "problems", got, want)
		for _, p := range list {
			if err := p.Mend(); err != nil {
				t.Error(err)
			}
		}
		if list, err := s.Problems(); err != nil || len(list) > 0 {
			t.Errorf("afterwards: %v, %v", list, err)
		}
		alive := func(id string) bool { return id == "lives" }
		if err := errors.Join(s.SweepUppers(alive), s.SweepUsers(alive)); err != nil {
			t.Error(err)
		}
		only(t, s.path(ephemeral), "lives")
		if err := s.RemoveUpper("lives"); err != nil {
			t.Error(err)
		}
	})
}

// TestNoTemp: what has the name of a file that is being written, and is none, holds nobody up.
func TestNoTemp(t *testing.T) {
	s := open(t)
	fifo, link := s.path(layersDir, tempPrefix+"1"), s.path(layersDir, tempPrefix+"2")
	if err := errors.Join(unix.Mkfifo(fifo, 0o600), os.Symlink("/dev/zero", link)); err != nil {
		t.Fatal(err)
	}
	if err := s.sweepTemps(s.path(layersDir)); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(fifo); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// TestNoTar: what is in the place of a layer's tar is named, and nobody waits for who would write to it.
func TestNoTar(t *testing.T) {
	s := open(t)
	a := put(t, s, tarsOf(t, [][]ent{{"f a a"}}))
	name := s.layerPath(a[0])
	for what, put := range map[string]func() error{
		"a FIFO":      func() error { return unix.Mkfifo(name, 0o600) },
		"a directory": func() error { return os.Mkdir(name, 0o700) },
	} {
		if err := errors.Join(os.RemoveAll(name), put()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.tars(a); err == nil || err.Error() != "open "+name+": not a regular file" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestProblemsBesidePut: a layer that is being put, with its blob, is there as a whole or not at all.
func TestProblemsBesidePut(t *testing.T) {
	s := open(t)
	done := allTheTime(func() bool {
		list, err := s.Problems()
		if err != nil || len(list) > 0 {
			t.Errorf("%v: %+v", err, list)
		}
		return err == nil && len(list) == 0
	})
	for i := range 20 {
		tar := layer(t, fmt.Sprint("f x ", i))
		blob := gzipped(t, tar)
		if _, err := s.PutBlob(t.Context(), bytes.NewReader(blob), digest.FromBytes(blob), gunzip, "", true); err != nil {
			t.Error(err)
		}
	}
	done()
}
