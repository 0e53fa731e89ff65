package archive

import (
	"bytes"
	"errors"
	"os"
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLeased: a file on which a process has a lease is packed when that gives it up, as servers of files do, and is an error that says so when it does not.
func TestLeased(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/f", []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir+"/f", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lease := func(kind int) {
		t.Helper()
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, kind); err != nil {
			t.Fatal(err)
		}
	}
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, unix.SIGIO)
	defer signal.Stop(broken)
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	lease(unix.F_WRLCK)
	var out bytes.Buffer
	if err := Write(t.Context(), &out, root, "f", WriteOptions{}); !errors.Is(err, unix.EWOULDBLOCK) || !bytes.Contains([]byte(err.Error()), []byte("lease")) {
		t.Errorf("held: %v", err)
	}
	<-broken
	lease(unix.F_UNLCK)
	lease(unix.F_WRLCK)
	done := make(chan error, 1)
	out.Reset()
	go func() { done <- Write(t.Context(), &out, root, "f", WriteOptions{}) }()
	<-broken
	lease(unix.F_UNLCK)
	if err := <-done; err != nil || !bytes.Contains(out.Bytes(), []byte("content")) {
		t.Errorf("given up: %v", err)
	}
}
