package engine

import (
	"archive/tar"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

// TestImportIsShut: who unpacks an archive for a volume has an empty directory, and no volume: neither another one's files, nor any record, by which it
// could have a directory of the host be a volume.
func TestImportIsShut(t *testing.T) {
	nstest.Root(t)
	defer func(was bool) { childIsCalled = was }(childIsCalled)
	childIsCalled = true
	e, ctx := open(t), context.Background()
	for _, name := range []string{"mine", "other"} {
		if _, err := e.VolumeCreate(ctx, VolumeConfig{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	store := e.data + "/volumes"
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { _, err := e.VolumeImport(ctx, "mine", r); done <- err }()
	// It waits for the archive, so it can be looked at.
	var places []string
	nstest.Until(t, "a process that unpacks, shut in", func() bool {
		list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range list {
			dir := filepath.Dir(name)
			line, _ := os.ReadFile(name)
			status, _ := os.ReadFile(dir + "/status")
			if !strings.HasPrefix(string(line), "kakuri-files\x00") || !strings.Contains(string(line), store) || !strings.Contains(string(status), "Seccomp:\t2") {
				continue
			}
			mounts, err := os.ReadFile(dir + "/mountinfo")
			if err != nil {
				return false
			}
			places = nil
			for line := range strings.Lines(string(mounts)) {
				places = append(places, strings.Fields(line)[4])
			}
			return true
		}
		return false
	})
	slices.Sort(places)
	if len(places) != 3 || places[0] != "/" || places[2] != "/proc/self/fd" && places[1] != "/proc/self/fd" ||
		!slices.ContainsFunc(places, func(p string) bool { return strings.HasPrefix(p, store+"/.new-") }) {
		t.Errorf("it has mounts at %q", places)
	}
	a := tar.NewWriter(w)
	a.WriteHeader(&tar.Header{Name: "f", Size: 4, Mode: 0o644})
	a.Write([]byte("text"))
	a.Close()
	w.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	has(t, store+"/mine/_data/f", "text")
	if list, err := os.ReadDir(store); len(list) != 3 || err != nil { // two and the lock
		t.Errorf("left is %v, %v", list, err)
	}
}
