package monitor

import (
	"errors"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// TestWriteStateScarce: what is scarce when a state is written is waited for: nobody tells again how a container ended. While it runs, nobody who wants its end waits behind that.
func TestWriteStateScarce(t *testing.T) {
	dir := t.TempDir()
	if err := WriteState(dir, State{Status: Running}); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := WriteState(dir, State{Status: Running}); !files.Scarce(err) || time.Since(begun) > scarcity/2 {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
	again := make(chan error)
	time.AfterFunc(100*time.Millisecond, func() { again <- unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) })
	err := errors.Join(WriteState(dir, State{Status: Exited, ExitCode: 3}), <-again)
	if s, err2 := ReadState(dir); err != nil || err2 != nil || s.Status != Exited || s.ExitCode != 3 {
		t.Errorf("%+v: %v", s, errors.Join(err, err2))
	}
}
