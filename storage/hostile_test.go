package storage

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/internal/hostile"
	"github.com/opencontainers/go-digest"
)

// TestHostileLayers: each archive of the corpus is refused before it is in the store, or shown by both drivers as a
// layer has to be, and nothing outside is touched.
func TestHostileLayers(t *testing.T) {
	canary := hostile.NewCanary(t)
	for _, a := range hostile.Archives(canary.Dir) {
		if a.Name == "million_files" { // as many as end in seconds
			a.Open = func() io.Reader { return hostile.Files(5000) }
		}
		t.Run(a.Name, func(t *testing.T) {
			keepers(t, func(t *testing.T, s *Store) {
				defer canary.Check(t)
				var l Layer
				in, _, err := archive.Decompress(a.Open(), archive.Limits{})
				if err == nil {
					l, err = s.Put(t.Context(), in, "")
					in.Close()
				}
				if a.Layer == hostile.Taken && err != nil || a.Layer == hostile.Refused && err == nil {
					t.Fatalf("%s, and has to be %s: %v", a.Why, a.Layer, err)
				}
				if err != nil {
					if strings.ContainsAny(err.Error(), "\n\x1b\x07") {
						t.Errorf("an error with control characters: %q", err)
					}
					only(t, s.path(layersDir))
					return
				}
				root := shownAt(t, view(t, s, []digest.Digest{l.DiffID}, "c"))
				holds(t, root, a.Tree)
			})
		})
	}
}

// holds compares a tree with what the corpus says of it.
func holds(t *testing.T, dir string, tree map[string]string) {
	t.Helper()
	for name, want := range tree {
		p := filepath.Join(dir, name)
		got := ""
		if fi, err := os.Lstat(p); err == nil {
			got = map[os.FileMode]string{0: "-", os.ModeDir: "d", os.ModeSymlink: "l", os.ModeNamedPipe: "p", os.ModeDevice: "b", os.ModeDevice | os.ModeCharDevice: "c"}[fi.Mode().Type()]
		}
		switch got {
		case "-":
			if strings.HasPrefix(want, "-:") {
				b, err := os.ReadFile(p)
				if err != nil {
					t.Error(err)
				}
				got += ":" + string(b)
			}
		case "l":
			if target, err := os.Readlink(p); err == nil && strings.HasPrefix(want, "l> ") {
				got += "> " + target
			}
		}
		if got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}
