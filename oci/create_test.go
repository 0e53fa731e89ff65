package oci

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPIDFileOfKilled(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "pid")
	for _, left := range []string{"pid", ".pid"} {
		if err := os.WriteFile(filepath.Join(dir, left), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := writePIDFile(name, 4711); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "4711" {
		t.Errorf("%q, %v", got, err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left: %v", list)
	}
}
