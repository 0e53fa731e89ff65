package storage

import (
	"io"
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
				hostile.Holds(t, root, a.Tree)
			})
		})
	}
}
