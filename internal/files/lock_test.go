package files

import (
	"os"
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
