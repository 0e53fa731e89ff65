package cli

import "testing"

// A place alone is a volume that nobody names, below the root as with Docker; with a source it has to be absolute.
func TestPlaceAlone(t *testing.T) {
	for s, want := range map[string]string{"/data": "/data", "data": "/data", "./data": "/data", "../data": "/data"} {
		if m, err := parseVolume(s); err != nil || m.Type != "volume" || m.Source != "" || m.Dest != want {
			t.Errorf("-v %s: %+v, %v", s, m, err)
		}
	}
}
