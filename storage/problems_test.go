package storage

import (
	"os"
	"strings"
	"testing"
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
		alive := func(string) bool { return true }
		if list, err := s.Problems(alive); err != nil || len(list) > 0 {
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
		alive = func(id string) bool { return id == "lives" }
		list, err := s.Problems(alive)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range list {
			got = append(got, p.Object+": "+p.Text)
		}
		want := []string{
			"layer " + short(b[0]) + ": something is left of it, and its tar is gone", "index " + short(ChainID(b)) + ": a layer of it is gone",
			"index ffffffffffff: it cannot be read", "container dead: what it wrote is left, and it is no more",
		}
		if name, _ := s.Driver(); name == driverErofs {
			want = append(want, "container dead: the image's mount is kept for it, and it is no more")
		} else {
			want = append(want, "layer "+short(b[0])+": it is unpacked, and its tar is gone")
		}
		same(t, "problems", got, want)
		for _, p := range list {
			if err := p.Mend(); err != nil {
				t.Error(err)
			}
		}
		if list, err := s.Problems(alive); err != nil || len(list) > 0 {
			t.Errorf("afterwards: %v, %v", list, err)
		}
		only(t, s.path(ephemeral), "lives")
		if err := s.RemoveUpper("lives"); err != nil {
			t.Error(err)
		}
	})
}
