package namespace

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestEndlessCommandLine: a process, which may be a container's, has no say in how much memory it takes to look at it.
func TestEndlessCommandLine(t *testing.T) {
	_, said := start(t, "long", &syscall.SysProcAttr{}, 1)
	p, err := ReadProcess(nil, said[0].PID)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Args) != 1 || len(p.Args[0]) != mostArgs {
		t.Errorf("%d arguments, the first one of %d bytes; want one, cut at %d", len(p.Args), len(p.Args[0]), mostArgs)
	}
}

// TestLateCommandLine: processes that have who reads their command lines wait hold up nobody for long, and are there without them.
func TestLateCommandLine(t *testing.T) {
	f := load(t, "host")
	var pids []int
	before, fds := f.read(t, Options{}), openFDs()
	t.Cleanup(func() { // of those that waited, when nobody can write any more
		for range 1000 {
			if openFDs() <= fds {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%d descriptors are open, %d were before", openFDs(), fds)
	})
	for _, p := range before.Processes { // a FIFO that somebody could write to, and does not, for memory that is out of reach
		if p.Kernel {
			continue
		}
		pids = append(pids, p.PID)
		name := filepath.Join(f.proc.Name(), strconv.Itoa(p.PID), "cmdline")
		if err := errors.Join(os.Remove(name), unix.Mkfifo(name, 0o600)); err != nil {
			t.Fatal(err)
		}
		silent, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { silent.Close() })
	}
	s := f.read(t, Options{})
	if len(s.Processes) != len(before.Processes) || len(pids) < 3 {
		t.Errorf("%d processes of %d, %d of which wait", len(s.Processes), len(before.Processes), len(pids))
	}
	for _, p := range s.Processes {
		if p.Comm == "" || p.Args != nil {
			t.Errorf("%v has the arguments %q", p, p.Args)
		}
	}
	var many ArgsReader
	for range mostLate + 10 {
		if _, err := many.Read(f.proc, pids[0]); !errors.Is(err, ErrLate) {
			t.Fatal(err)
		}
	}
	if many.late != mostLate {
		t.Errorf("%d readings wait", many.late)
	}
}
