package world

import (
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/kakuri/kakuri/internal/process"
	"golang.org/x/sys/unix"
)

// TestStranger: namespaces are a user's world by a process that was started in them, and by nothing else. Their numbers go to others once they are gone:
// whoever has them then, a sandbox of the same user for one, is not taken for the world.
func TestStranger(t *testing.T) {
	number := func(kind string) uint64 {
		var st unix.Stat_t
		if err := unix.Stat("/proc/self/ns/"+kind, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	own := process.Open(os.Getpid())
	if own == nil {
		t.Fatal("this process cannot be read")
	}
	defer own.Close()
	self := own.Witness()
	for name, c := range map[string]struct {
		in []process.Witness
		ok bool
	}{
		"who was started in it":          {[]process.Witness{self}, true},
		"an earlier process of that pid": {[]process.Witness{{PID: self.PID, Begun: self.Begun - 1}}, false},
		"nobody":                         {nil, false},
		"one that could not be read":     {[]process.Witness{{}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			run := t.TempDir()
			if err := os.Mkdir(run+"/world", 0o700); err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(record{Boot: bootID(), User: number("user"), Net: number("net"), In: c.in})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(run+"/world/world.json", data, 0o600); err != nil {
				t.Fatal(err)
			}
			w, err := Find(run, nil)
			if c.ok != (err == nil) || !c.ok && !errors.Is(err, ErrNone) {
				t.Fatalf("found: %v", err)
			}
			if err == nil {
				w.Close()
			}
		})
	}
}
