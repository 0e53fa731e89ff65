package files

import (
	"os"
	"testing"
	"time"
)

func TestSeen(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(dir string) error
	}{
		{"written", func(d string) error { return os.WriteFile(d+"/f", []byte("other"), 0o600) }},
		{"replaced", func(d string) error {
			if err := os.WriteFile(d+"/g", []byte("text"), 0o600); err != nil {
				return err
			}
			return os.Rename(d+"/g", d+"/f")
		}},
		{"removed", func(d string) error { return os.Remove(d + "/f") }},
		{"moved away", func(d string) error { return os.Rename(d+"/f", d+"/g") }},
		{"mode", func(d string) error { return os.Chmod(d+"/f", 0o640) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(dir+"/f", []byte("text"), 0o600); err != nil {
				t.Fatal(err)
			}
			s := settled(t, dir+"/f")
			if _, err := os.ReadFile(dir + "/f"); err != nil || !s.Same() {
				t.Fatalf("%v: a file that was only read is another one", err)
			}
			if err := c.change(dir); err != nil {
				t.Fatal(err)
			}
			if s.Same() {
				t.Error("it is the same still")
			}
		})
	}
}

func TestSeenDirectory(t *testing.T) {
	dir := t.TempDir() + "/d"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := settled(t, dir)
	if err := os.Symlink("x", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if s.Same() {
		t.Error("a directory with one name more is the same")
	}
	if s = settled(t, dir); os.RemoveAll(dir) != nil || s.Same() {
		t.Error("a directory that was removed is the same")
	}
	if _, err := See(dir); !os.IsNotExist(err) {
		t.Errorf("what is not there: %v", err)
	}
}

// settled sees a file, once its last change is long enough ago.
func settled(t *testing.T, path string) *Seen {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); {
		s, err := See(path)
		if err != nil {
			t.Fatal(err)
		}
		if s.Settled() {
			t.Cleanup(s.Close)
			return s
		}
		s.Close()
	}
	t.Fatal("it never settled")
	return nil
}
