package oci

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Who listens for a terminal, a pidfd or a filter's questions and does not accept, or does not read, keeps nobody waiting for ever: the
// container is locked meanwhile, and could not be removed.
func TestSilentListener(t *testing.T) {
	const limit = 50 * time.Millisecond
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	within := func(what, op string, data []byte) {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- sendFD(path, data, 0, limit) }()
		select {
		case err := <-done:
			var e *os.PathError
			if !errors.As(err, &e) || e.Op != op || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: it waits", what)
		}
	}
	within("one that does not read", "sendmsg", make([]byte, 16<<20))
	// There is room for one that is not accepted.
	c, err := net.Dial("unix", path)
	if err == nil {
		defer c.Close()
	}
	within("one that does not accept", "connect", []byte("x"))
}
