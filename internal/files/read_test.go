package files

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{0, 1, 8191, 8192, 8193, 16384, 100_000} {
		name := filepath.Join(dir, strconv.Itoa(size))
		want := bytes.Repeat([]byte("kakuri!"), size/7+1)[:size]
		if err := os.WriteFile(name, want, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d, %v", size, len(got), err)
		}
	}
	// One of procfs says it has 0 bytes.
	if got, err := Read("/proc/self/status"); err != nil || !bytes.HasPrefix(got, []byte("Name:")) {
		t.Errorf("/proc/self/status: %q, %v", got, err)
	}
	for name, want := range map[string]error{
		filepath.Join(dir, "missing"): fs.ErrNotExist, filepath.Join(dir, "0", "x"): unix.ENOTDIR, dir: unix.EISDIR, "a\x00b": unix.EINVAL,
	} {
		_, err := Read(name)
		var pe *fs.PathError
		if !errors.Is(err, want) || !errors.As(err, &pe) || pe.Path != name {
			t.Errorf("%q: error %v, want %v", name, err, want)
		}
	}
}

func TestHead(t *testing.T) {
	dir := t.TempDir()
	want := bytes.Repeat([]byte("kakuri!"), 3000)
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, most := range []int{0, 1, 511, 512, 513, 20_999, 21_000, 21_001, 1 << 20} {
		if got, err := Head(name, most); err != nil || !bytes.Equal(got, want[:min(most, len(want))]) {
			t.Errorf("%d bytes at most: %d, %v", most, len(got), err)
		}
	}
	if _, err := Head(filepath.Join(dir, "missing"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := Head(dir, 1); !errors.Is(err, unix.EISDIR) {
		t.Errorf("a directory: %v", err)
	}
}
