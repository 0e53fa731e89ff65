package files

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRoom(t *testing.T) {
	if err := Room(1); err != nil {
		t.Error(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := Room(int(limit.Cur)); err == nil || !strings.Contains(err.Error(), "ulimit -n") {
		t.Errorf("as many as the limit is: %v", err)
	}
}

// Here all are there; engine's TestMissingCalls has it where one is not.
func TestCalls(t *testing.T) {
	if err := Calls(); err != nil {
		t.Error(err)
	}
}
