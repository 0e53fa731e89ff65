package files

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHolder(t *testing.T) {
	dir := t.TempDir()
	if pid := Holder(dir); pid != 0 {
		t.Errorf("nobody has it: %d", pid)
	}
	fd, err := LockDir(dir, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	if pid := Holder(dir); pid != os.Getpid() {
		t.Errorf("process %d, want %d", pid, os.Getpid())
	}
	unix.Close(fd)
	if pid := Holder(dir); pid != 0 {
		t.Errorf("nobody has it any more: %d", pid)
	}
	if pid := Holder(dir + "/none"); pid != 0 {
		t.Errorf("it is not there: %d", pid)
	}
}

// A lock that cannot be had is one of a file, and the error names it.
func TestFlockNames(t *testing.T) {
	name := t.TempDir() + "/lock"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Flock(f, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	path, err := os.OpenFile(name, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer path.Close()
	if err := Flock(path, unix.LOCK_EX); !errors.Is(err, unix.EBADF) || !strings.Contains(err.Error(), name) {
		t.Errorf("%v, want %v with %s", err, unix.EBADF, name)
	}
	other, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := Flock(other, unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("%v, want %v", err, unix.EWOULDBLOCK)
	}
}
