package uplink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// TestSilent: an uplink that does not answer, though it was not stopped, is waited for no longer than its bound. The error names the process and the way out, and no record of ports is left that
// it would take up later.
func TestSilent(t *testing.T) {
	lookAgain, patience = time.Millisecond, 20*time.Millisecond
	defer func() { lookAgain, patience = 2*time.Second, 30*time.Second }()
	run := filepath.Join(t.TempDir(), "uplink")
	if err := MakeDir(run); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(run)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	lock, err := os.Create(filepath.Join(run, LockName))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	own := process.Open(os.Getpid())
	defer own.Close()
	if err := WriteProcesses(lock, map[string]process.Witness{"pasta": {PID: 1, Begun: 1}, Program: own.Witness()}); err != nil {
		t.Fatal(err)
	}
	listener, err := seqpacket.Listen(int(dir.Fd()), ControlName)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	silent := func(what string, err error) {
		t.Helper()
		if pid := os.Getpid(); !errors.Is(err, ErrSilent) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", pid)) || !strings.Contains(err.Error(), fmt.Sprintf("`kill -KILL %d`", pid)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	u, err := Open(run, func(text string) { t.Error(text) })
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_, err = u.Status()
	silent("status", err)
	// What comes late is no answer to another question.
	server, err := seqpacket.Accept(listener)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := seqpacket.Send(server, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	_, err = u.Own(netip.MustParseAddr("192.0.2.1"))
	silent("another question", err)

	u, err = Open(run, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	any4 := netip.MustParseAddr("0.0.0.0")
	_, err = u.Publish("c1", []plan.Publish{{Proto: "tcp", HostAddr: any4, HostPort: 80, Addr: any4, Port: 80}})
	silent("publish", err)
	if list, err := Owners(run); err != nil || len(list) > 0 {
		t.Errorf("records of %v are left, %v", list, err)
	}
	if err := Unpublish(run, "c1", nil); err != nil {
		t.Errorf("unpublish of what has no record: %v", err)
	}
	if err := WritePorts(run, "c2", []plan.Publish{{Proto: "tcp", HostAddr: any4, HostPort: 80, Addr: any4, Port: 80}}); err != nil {
		t.Fatal(err)
	}
	silent("unpublish", Unpublish(run, "c2", nil))
	if list, err := Owners(run); err != nil || len(list) > 0 {
		t.Errorf("records of %v are left, %v", list, err)
	}
	// Where so many wait that nobody else can.
	var waiting []int
	defer func() {
		for _, fd := range waiting {
			unix.Close(fd)
		}
	}()
	name := &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), ControlName)}
	for {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, fd)
		if err = unix.Connect(fd, name); err == unix.EAGAIN {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	_, err = Open(run, nil)
	silent("one connection too many", err)
}

// An uplink whose directory cannot be looked into is no end of it: only where there is none may another one be started, and ports be forgotten.
func TestDirectoryThatCannotBeOpened(t *testing.T) {
	run := filepath.Join(t.TempDir(), "uplink")
	if _, err := Open(run, nil); !errors.Is(err, ErrGone) {
		t.Errorf("none is there: %v", err)
	}
	if err := os.Symlink("uplink", run); err != nil { // to itself
		t.Fatal(err)
	}
	if _, err := Open(run, nil); err == nil || errors.Is(err, ErrGone) || !strings.Contains(err.Error(), run) {
		t.Errorf("%v", err)
	}
	if err := Unpublish(run, "owner", nil); err == nil || !strings.Contains(err.Error(), run) {
		t.Errorf("ports are given back: %v", err)
	}
}
