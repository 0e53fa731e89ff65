package process

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m, nstest.Options{})) }

// pair is a socket and a FIFO, which a process has open.
func pair(t *testing.T) (socket, fifo *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fds[1])
	socket = os.NewFile(uintptr(fds[0]), "socket")
	name := t.TempDir() + "/fifo"
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if fifo, err = os.OpenFile(name, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close(); fifo.Close() })
	return socket, fifo
}

func TestKeeps(t *testing.T) {
	socket, fifo := pair(t)
	for _, f := range []*os.File{socket, fifo} {
		file, err := FileOf(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		if !Keeps(os.Getpid(), file) {
			t.Errorf("it does not keep its %s", f.Name())
		}
		f.Close()
		if Keeps(os.Getpid(), file) {
			t.Errorf("it keeps its %s, which is closed", f.Name())
		}
	}
	if !Keeps(1<<30, File{}) {
		t.Error("who cannot be looked at keeps nothing")
	}
}

// TestKeepsOfNoAnswer: no file system is asked: a process may have a file open of one that answers nothing.
func TestKeepsOfNoAnswer(t *testing.T) {
	nstest.FUSE(t)
	nstest.Root(t)
	server, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close() // has whoever waits go on
	dir := t.TempDir()
	if err := unix.Mount("silent", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", server.Fd())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	socket, _ := pair(t)
	file, err := FileOf(int(socket.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	socket.Close()
	kept := make(chan bool)
	go func() { kept <- Keeps(os.Getpid(), file) }()
	select {
	case k := <-kept:
		if k {
			t.Error("it keeps its socket, which is closed")
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits for the file system")
		server.Close()
		<-kept
	}
}
