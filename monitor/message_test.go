package monitor

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"golang.org/x/sys/unix"
)

// TestDialDeaf: whether a container has a monitor is said by the lock of its place, not by its socket: one that lives and does not listen is waited for, and then is an
// error that says so, but not "no monitor", which would be taken for the container's end.
func TestDialDeaf(t *testing.T) {
	run, id := nstest.Dir(t), files.NewID()
	if err := os.MkdirAll(Place(run, id), 0o700); err != nil {
		t.Fatal(err)
	}
	socket := Place(run, id) + "/" + socketName
	for name, make := range map[string]func() error{
		"none":   func() error { return nil },
		"a file": func() error { return os.WriteFile(socket, nil, 0o600) },
		"a FIFO": func() error { return unix.Mkfifo(socket, 0o600) },
		"dead": func() error {
			l, err := seqpacket.Listen(lockOf(t, Place(run, id)), socketName)
			return errors.Join(err, l.Close())
		},
	} {
		if err := errors.Join(os.RemoveAll(socket), make()); err != nil {
			t.Fatal(name, err)
		}
		if _, err := dial(run, id, time.Millisecond); !errors.Is(err, ErrGone) {
			t.Errorf("%s, without a monitor: %v", name, err)
		}
		lock, err := files.LockDir(Place(run, id), unix.LOCK_EX)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dial(run, id, time.Millisecond); err == nil || errors.Is(err, ErrGone) || !strings.Contains(err.Error(), socket) ||
			!strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())+" lives") {
			t.Errorf("%s: %v", name, err)
		}
		unix.Close(lock)
	}
}

// TestDialEarly: a monitor that takes over has the lock, and listens a moment later.
func TestDialEarly(t *testing.T) {
	run, id := nstest.Dir(t), files.NewID()
	if err := os.MkdirAll(Place(run, id), 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := files.LockDir(Place(run, id), unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(lock)
	opens, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(opens)
	if _, err := unix.InotifyAddWatch(opens, Place(run, id), unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		c, err := Dial(run, id)
		if err == nil {
			c.Close()
		}
		done <- err
	}()
	nstest.Until(t, "somebody who has found no socket, and asks for the lock", func() bool {
		n, _ := unix.Read(opens, make([]byte, 4096))
		return n > 0 || len(done) > 0
	})
	l, err := seqpacket.Listen(lock, socketName)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// lockOf opens a directory until the end of the test.
func lockOf(t *testing.T, dir string) int {
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

// TestTellStarted: who cannot be told that its container runs does not wait for that.
func TestTellStarted(t *testing.T) {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	fd := int(theirs.Fd())
	if err := errors.Join(unix.SetNonblock(fd, true), ours.SetWriteDeadline(time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	tellStarted(ours, Started{PID: 1})
	if n, err := unix.Read(fd, make([]byte, 16)); n != 0 || err != nil {
		t.Fatalf("it waits: %d, %v", n, err)
	}
}
