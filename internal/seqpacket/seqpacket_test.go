package seqpacket

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// opened is a directory that is open until the test ends.
func opened(t *testing.T, name string) *os.File {
	t.Helper()
	dir, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

// connected are a socket in a directory, and a connection to it that nobody has accepted yet.
func connected(t *testing.T, dir *os.File) (listener, client *os.File) {
	t.Helper()
	listener, err := Listen(int(dir.Fd()), "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	if client, err = Dial(int(dir.Fd()), "s"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return listener, client
}

// TestNamed: by a path that no address could hold, one message after the other, whole, with what it brings; a listener that was killed is no hindrance.
func TestNamed(t *testing.T) {
	name := filepath.Join(t.TempDir(), strings.Repeat("d", 200))
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := opened(t, name)
	if _, err := Dial(int(dir.Fd()), "s"); !errors.Is(err, ErrNobody) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("with no socket: %v", err)
	}
	killed, err := Listen(int(dir.Fd()), "s")
	if err != nil {
		t.Fatal(err)
	}
	killed.Close()
	if _, err := Dial(int(dir.Fd()), "s"); !errors.Is(err, ErrNobody) || !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("with nobody who listens: %v", err)
	}
	l, client := connected(t, dir)
	server, err := Accept(l)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := errors.Join(Send(client, []byte("one"), int(dir.Fd()), int(l.Fd())), Send(client, []byte("another"))); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	n, fds, err := Receive(server, buf, 2)
	if err != nil || string(buf[:n]) != "one" || len(fds) != 2 {
		t.Fatalf("%q, %d descriptors, %v", buf[:n], len(fds), err)
	}
	var sent, came unix.Stat_t
	if err := errors.Join(unix.Fstat(int(dir.Fd()), &sent), unix.Fstat(fds[0], &came)); err != nil || sent.Ino != came.Ino {
		t.Errorf("inode %d came as %d, %v", sent.Ino, came.Ino, err)
	}
	for _, fd := range fds {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("a descriptor that came is not close-on-exec: %#x, %v", flags, err)
		}
		unix.Close(fd)
	}
	if n, fds, err := Receive(server, buf, 2); err != nil || string(buf[:n]) != "anoth" || len(fds) != 0 {
		t.Errorf("%q, %d descriptors, %v", buf[:n], len(fds), err)
	}
	server.SetReadDeadline(time.Now())
	if _, _, err := Receive(server, buf, 0); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at its deadline: %v", err)
	}
	server.SetReadDeadline(time.Time{})
	client.Close()
	if _, _, err := Receive(server, buf, 0); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if err := Send(server, buf); !errors.Is(err, unix.EPIPE) {
		t.Errorf("to nobody: %v", err)
	}
	l.SetReadDeadline(time.Now())
	if _, err := Accept(l); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nobody connects: %v", err)
	}
}

// TestPair: the other process's end waits in the calls themselves.
func TestPair(t *testing.T) {
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	if flags, err := unix.FcntlInt(theirs.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
	if err := Send(ours, []byte("word")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8)
	if n, fds, err := Recvmsg(int(theirs.Fd()), buf, 1); err != nil || string(buf[:n]) != "word" || len(fds) != 0 {
		t.Errorf("%q, %v, %v", buf[:n], fds, err)
	}
	// Who has no more to say still hears.
	if err := errors.Join(Send(ours, []byte("last")), CloseWrite(ours)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"last", ""} {
		if n, _, err := Recvmsg(int(theirs.Fd()), buf, 1); err != nil || string(buf[:n]) != want {
			t.Errorf("%q, %v, want %q", buf[:n], err, want)
		}
	}
	if err := Send(theirs, []byte("answer")); err != nil {
		t.Error(err)
	}
	if n, _, err := Receive(ours, buf, 1); err != nil || string(buf[:n]) != "answer" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	ours.Close()
	if n, _, err := Recvmsg(int(theirs.Fd()), buf, 1); n != 0 || err != nil {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

// TestUnread: who hangs up without having read all has said what it said.
func TestUnread(t *testing.T) {
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if err := errors.Join(Send(theirs, []byte("one")), Send(theirs, []byte("two")), Send(ours, []byte("unread"))); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	buf := make([]byte, 8)
	for _, want := range []string{"one", "two"} {
		if n, _, err := Receive(ours, buf, 0); err != nil || string(buf[:n]) != want {
			t.Errorf("%q, %v; want %q", buf[:n], err, want)
		}
	}
	if _, _, err := Receive(ours, buf, 0); err != io.EOF {
		t.Errorf("behind the last message: %v", err)
	}
}

// TestScarce: who accepts, and has no descriptor to spare, waits for one.
func TestScarce(t *testing.T) {
	dir := opened(t, t.TempDir())
	l, _ := connected(t, dir)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	l.SetReadDeadline(time.Now().Add(2 * scarcePause)) // it tries before that
	_, err := Accept(l)
	if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); e != nil {
		t.Fatal(e)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("with no descriptor to spare: %v", err)
	}
	l.SetReadDeadline(time.Time{})
	server, err := Accept(l)
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
}

// TestEmptyMessage: a message without a byte is an end, and what comes with it is closed.
func TestEmptyMessage(t *testing.T) {
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	errno := sendEmpty(int(theirs.Fd()), unix.UnixRights(int(write.Fd())))
	write.Close()
	if errno != 0 {
		t.Fatal(errno)
	}
	if n, fds, err := Receive(ours, make([]byte, 8), 1); n != 0 || len(fds) != 0 || err != io.EOF {
		t.Errorf("%d, %v, %v", n, fds, err)
	}
	read.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := read.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the descriptor that came: %v", err)
	}
}
