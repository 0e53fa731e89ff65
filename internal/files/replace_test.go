package files

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReplaceInItsWay: what lies where the new file is made goes, and nothing is written to it or waited for.
func TestReplaceInItsWay(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("another", []byte("another's"), 0o644); err != nil {
		t.Fatal(err)
	}
	const temp = "record.new"
	for what, put := range map[string]func() error{
		"nothing":        func() error { return nil },
		"half a file":    func() error { return os.WriteFile(temp, []byte("ha"), 0o666) },
		"another's file": func() error { return os.Link("another", temp) },
		"a link":         func() error { return os.Symlink("another", temp) },
		"a link nowhere": func() error { return os.Symlink("none", temp) },
		"a FIFO":         func() error { return unix.Mkfifo(temp, 0o600) },
	} {
		err := put()
		if err == nil {
			err = Replace(".", "record", []byte(what), false)
		}
		got, read := os.ReadFile("record")
		st, lost := os.Lstat("record")
		if err := errors.Join(err, read, lost); err != nil || string(got) != what || st.Mode() != 0o600 {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		if _, err := os.Lstat(temp); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", what, err)
		}
	}
	if got, err := os.ReadFile("another"); err != nil || string(got) != "another's" {
		t.Errorf("what is somebody else's is %q, %v", got, err)
	}
	if _, err := os.Lstat("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link was followed: %v", err)
	}
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(".", "record", nil, false); !errors.Is(err, unix.EISDIR) || !strings.Contains(err.Error(), temp) {
		t.Errorf("a directory: %v", err)
	}
}
