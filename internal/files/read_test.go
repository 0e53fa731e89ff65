package files

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

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

// TestReadStatFails: what the kernel says is told, where it does not say what kind of file it is: no other reason, by which the file is taken for a wrong one.
func TestReadStatFails(t *testing.T) {
	_, err := readOpen(-1, "record")
	if want := (&fs.PathError{Op: "read", Path: "record", Err: unix.EBADF}).Error(); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
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

// TestReadBelow: a file of somebody else's tree holds nobody up, is none of the host's, and is no longer than is asked for.
func TestReadBelow(t *testing.T) {
	dir := t.TempDir()
	for name, err := range map[string]error{
		"file": os.WriteFile(filepath.Join(dir, "file"), []byte("1234"), 0o600), "fifo": unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600),
		"out": os.Symlink("/etc/hostname", filepath.Join(dir, "out")), "in": os.Symlink("/../file", filepath.Join(dir, "in")),
	} {
		if err != nil {
			t.Fatal(name, err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"file", "in"} {
		if got, err := ReadBelow(int(root.Fd()), name, 4); err != nil || string(got) != "1234" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := ReadBelow(int(root.Fd()), "file", 3); err == nil {
		t.Errorf("more than was asked for: %q", got)
	}
	for _, name := range []string{"fifo", "out", ".", "missing"} {
		if got, err := ReadBelow(int(root.Fd()), name, 4); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	const nothing = 240<<8 | 255 // a device for local use, that no driver has: it says so to who opens it
	if err := unix.Mknod(filepath.Join(dir, "device"), unix.S_IFCHR|0o600, nothing); err == nil {
		if _, err := ReadBelow(int(root.Fd()), "device", 4); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("a device was opened: %v", err)
		}
	}
	proc, err := os.Open("/proc")
	if err != nil {
		t.Skip(err)
	}
	defer proc.Close()
	done := make(chan error, 1)
	go func() {
		_, err := ReadBelow(int(proc.Fd()), "kmsg", 1<<24) // a regular file, by its mode, that waits for the kernel's next word
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("/proc/kmsg ends")
		}
	case <-time.After(2 * time.Minute):
		t.Error("/proc/kmsg held it up")
	}
}

// TestOpen: what is no file is not waited for.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600), unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if f, err := Open(filepath.Join(dir, "file")); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
	for _, name := range []string{"fifo", "missing", ""} {
		if f, err := Open(filepath.Join(dir, name)); err == nil {
			f.Close()
			t.Errorf("%q: opened", name)
		}
	}
}
