package monitor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTell: events of many at once are each a whole line, none is lost while the file is changed for a new one, and the files are bounded.
func TestTell(t *testing.T) {
	file := filepath.Join(t.TempDir(), "events")
	filler := bytes.Repeat([]byte("x"), maxEvents-2000)
	if err := os.WriteFile(file, append(filler, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := Tell(file, "container", "start", fmt.Sprintf("%d-%d", w, i), map[string]string{"name": "a\nb", "image": "busybox"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	old, _ := os.ReadFile(file + ".1")
	now, _ := os.ReadFile(file)
	if len(old) < maxEvents || len(old) > maxEvents+1000 {
		t.Errorf("the older file has %d bytes", len(old))
	}
	seen := map[string]bool{}
	for line := range bytes.Lines(append(old, now...)) {
		var e Event
		if line[0] == 'x' {
			continue
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Type != "container" || e.From != "busybox" || e.Status != "start" || e.TimeNano/1e9 != e.Time || e.Actor.Attributes["name"] != "a\nb" {
			t.Errorf("%+v", e)
		}
		seen[e.ID] = true
	}
	if len(seen) != 400 {
		t.Errorf("%d events of 400", len(seen))
	}
}

// TestTellNowhere: what is in the place of the list of events costs the event, and nobody waits for who would read it.
func TestTellNowhere(t *testing.T) {
	for what, put := range map[string]func(file string) error{
		"a FIFO":      func(file string) error { return unix.Mkfifo(file, 0o600) },
		"a directory": func(file string) error { return os.Mkdir(file, 0o700) },
		"a link":      func(file string) error { return os.Symlink("elsewhere", file) },
	} {
		file := filepath.Join(t.TempDir(), "events")
		if err := put(file); err != nil {
			t.Fatal(err)
		}
		if err := Tell(file, "container", "start", "id", nil); err == nil {
			t.Errorf("%s has the event", what)
		}
	}
}
