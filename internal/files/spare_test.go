package files

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSpare: what has one name and is a file is overwritten, whole, and takes the place of the record, which takes its.
func TestSpare(t *testing.T) {
	t.Chdir(t.TempDir())
	is := func(name, want string) {
		t.Helper()
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v, want %q", name, got, err, want)
		}
	}
	if err := errors.Join(os.WriteFile("record", []byte("new"), 0o600), os.WriteFile("spare", []byte("the one before"), 0o600), os.Link("record", "again"),
		unix.Mkfifo("fifo", 0o600), os.Symlink("spare", "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"again", "fifo", "link", "none"} {
		if Overwrite(name, []byte("evil")) == nil {
			t.Errorf("%s was overwritten", name)
		}
	}
	is("record", "new")
	is("spare", "the one before")
	if err := Overwrite("spare", []byte("newest")); err != nil {
		t.Error(err)
	}
	if err := Exchange("spare", "record"); err != nil {
		t.Error(err)
	}
	is("record", "newest")
	is("spare", "new")
	if err := Exchange("spare", "first"); err != nil {
		t.Error(err)
	}
	is("first", "new")
	if _, err := os.Lstat("spare"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is at both places: %v", err)
	}
	if Exchange("none", "first") == nil {
		t.Error("nothing took the place of a file")
	}
	is("first", "new")
}
