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

// A volume that nobody names and nobody can write to is refused, as by Docker.
func TestReadOnlyWithoutName(t *testing.T) {
	for s, want := range map[string]bool{
		"type=volume,dst=/t,readonly": false, "dst=/t,ro": false, "type=volume,dst=/t,readonly=false": true, "type=volume,src=v,dst=/t,readonly": true,
		"type=tmpfs,dst=/t,ro": true, "type=image,src=i,dst=/t,ro": true,
	} {
		if _, err := parseMount(s); (err == nil) != want {
			t.Errorf("--mount %s: %v", s, err)
		}
	}
}
