package files

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMoveNew: a file comes to where nothing is, and to no other place, also where the file system cannot be told so.
func TestMoveNew(t *testing.T) {
	for how, move := range map[string]func(from int, name string, to int, as string) error{"told": MoveNew, "looking": moveLooking} {
		dir := t.TempDir()
		in := func(name string) string { return filepath.Join(dir, name) }
		write := func(name, text string) {
			if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, d := range []string{"new", "empty", "full"} {
			if err := os.Mkdir(in(d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		write("new/in", "new")
		write("full/in", "full")
		write("file", "file")
		write("one", "one")
		if err := os.Symlink("nothing", in("link")); err != nil {
			t.Fatal(err)
		}
		for _, from := range []string{"new", "one"} {
			for _, to := range []string{"empty", "full", "file", "link"} {
				if err := move(unix.AT_FDCWD, in(from), unix.AT_FDCWD, in(to)); err != unix.EEXIST {
					t.Errorf("%s: %s to %s: %v", how, from, to, err)
				}
			}
			if err := move(unix.AT_FDCWD, in(from), unix.AT_FDCWD, in(from+"er")); err != nil {
				t.Errorf("%s: %s: %v", how, from, err)
			}
		}
		for name, want := range map[string]string{"newer/in": "new", "oneer": "one", "full/in": "full", "file": "file"} {
			if data, err := os.ReadFile(in(name)); string(data) != want || err != nil {
				t.Errorf("%s: %s has %q, %v", how, name, data, err)
			}
		}
		if err := move(unix.AT_FDCWD, in("gone"), unix.AT_FDCWD, in("x")); err != unix.ENOENT {
			t.Errorf("%s: of a file that is not there: %v", how, err)
		}
	}
}
