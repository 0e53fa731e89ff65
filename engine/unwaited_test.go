package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
	"golang.org/x/sys/unix"
)

// execer is a command that stays with a process in a container: its parent.
func execer(args []string) int {
	e, err := Open(Options{Dir: args[0]})
	if err != nil {
		return complain(err)
	}
	running := Streams{Started: func(Container) { fmt.Println("runs") }}
	if _, err := e.Exec(context.Background(), args[1], ExecConfig{Command: []string{"sleep", "1000"}}, running); err != nil {
		return complain(err)
	}
	return 0
}

// TestParentThatWaitsForNobody: a container ends though a process that was started in it has ended and is not waited for, as that of a command that was stopped
// by ^Z, or an orphan where process 1 is `sleep infinity`. The kernel keeps its first process meanwhile.
func TestParentThatWaitsForNobody(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	ctx := t.Context()
	at := 0
	stop := func(c Container) error { return e.Stop(ctx, c.ID, StopOptions{Timeout: &at}) }
	for _, test := range []struct {
		what, line string
		end        func(c Container) error
		code       int
	}{
		{"stop", "exec sleep 1000", stop, 137},
		{"stop, of one that has closed its output", "exec sleep 1000 >/dev/null 2>&1", stop, 137},
		{"rm -f, of one whose monitor was killed", "exec sleep 1000", func(c Container) error {
			nstest.Kill(t, monitorOf(t, e, c))
			nstest.Until(t, "the monitor's end", func() bool { return !monitor.Attended(e.dir, c.ID) })
			return e.Remove(ctx, c.ID, RemoveOptions{Force: true})
		}, 0},
		{"its own end", "while [ ! -e /tmp/end ]; do sleep 0.01; done; exit 7", func(c Container) error {
			_, _, err := execs(e, c.ID, ExecConfig{Command: []string{"touch", "/tmp/end"}}, "")
			if err == nil {
				_, err = e.Wait(ctx, c.ID, "")
			}
			return err
		}, 7},
	} {
		t.Run(test.what, func(t *testing.T) {
			c := started(t, e, Config{Rootfs: root, Command: []string{"sh", "-c", test.line}})
			command, line, _ := part(t, "execer", e.dir, c.ID)
			if line != "runs" {
				t.Fatal(line)
			}
			t.Cleanup(func() { command.Wait() })
			t.Cleanup(func() { nstest.Kill(t, command.Process.Pid) })
			if err := unix.Kill(command.Process.Pid, unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			done, begin := make(chan error, 1), time.Now()
			go func() { done <- test.end(c) }()
			select {
			case err := <-done:
				if took := time.Since(begin); err != nil || test.code == 137 && took > 1900*time.Millisecond {
					t.Errorf("%v, after %v", err, took) // both waits for the end together were two seconds
				}
			case <-time.After(8 * time.Second):
				nstest.Kill(t, command.Process.Pid)
				t.Fatalf("it waits for ever: %v", <-done)
			}
			now, err := e.Find(c.ID)
			if test.code == 0 { // it is removed
				return
			}
			if err != nil || now.Status != monitor.Exited || now.ExitCode != test.code {
				t.Errorf("%s, code %d, %v; want code %d", now.Status, now.ExitCode, err, test.code)
			}
			if err := e.Start(ctx, c.ID, StartOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// threaded is a process with a thread besides its first one, whose number it tells.
func threaded([]string) int {
	for tell := make(chan int); ; {
		go func() {
			runtime.LockOSThread()
			tell <- unix.Gettid()
			for {
				unix.Pause()
			}
		}()
		if tid := <-tell; tid != os.Getpid() {
			fmt.Println(tid)
			for {
				unix.Pause()
			}
		}
	}
}

// needsFreezer is for what SIGKILL waits for: a frozen process or thread of version 1 of control groups. With version 2 none does.
func needsFreezer(t *testing.T) (dir string) {
	t.Helper()
	dir = "/sys/fs/cgroup/freezer"
	if _, err := os.Stat(dir); err != nil {
		t.Skip("needs the freezer of version 1 of control groups")
	}
	return dir
}

// withChild starts a container of cat(1) with a second process.
func withChild(t *testing.T) (*Engine, Container, *oci.Container) {
	t.Helper()
	e := open(t)
	c := started(t, e, Config{Rootfs: nstest.RootFS(t), Command: []string{"sh", "-c", "sleep 1000 & exec cat"}, Interactive: true})
	x, err := e.runtime().Open(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	return e, c, x
}

// TestLeftByAllProcesses: a container has not ended as long as a process of it has more than its number, though its first one has ended: one waits in the kernel, for a disk
// perhaps, and has mounts and files. Here it is frozen, in a control group below the container's.
func TestLeftByAllProcesses(t *testing.T) {
	nstest.Root(t)
	freezer := needsFreezer(t)
	_, c, x := withChild(t)
	second := ""
	nstest.Until(t, "its second process", func() bool {
		pids, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", c.PID))
		second = strings.TrimSpace(string(pids))
		return err == nil && second != ""
	})
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%s/cgroup", second))
	if err != nil {
		t.Fatal(err)
	}
	_, group, _ := strings.Cut(string(groups), ":freezer:")
	group, _, _ = strings.Cut(group, "\n")
	below := freezer + group + "/below"
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(below+"/"+file, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	write("cgroup.procs", second)
	write("freezer.state", "FROZEN")
	first := process.Open(c.PID)
	defer first.Close()
	if err := first.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "the first process's end, but for its number", first.Left)
	if x.Left(first) {
		t.Error("there is another one")
	}
	write("freezer.state", "THAWED")
	nstest.Until(t, "its end", func() bool { return first.Wait(0) })
}

// TestStopOfHeldUp: of a container whose first process does not end by SIGKILL the others do, when it is stopped. Here the first is frozen, outside the container's control group.
func TestStopOfHeldUp(t *testing.T) {
	nstest.Root(t)
	freezer := needsFreezer(t)
	e, c, x := withChild(t)
	others := func() int {
		pids, err := x.Processes()
		if err != nil {
			t.Fatal(err)
		}
		return len(pids)
	}
	nstest.Until(t, "its second process", func() bool { return others() == 2 })
	dir, err := os.MkdirTemp(freezer, "kakuri-nstest-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { nstest.Until(t, "the removal", func() bool { return os.Remove(dir) == nil }) }()
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(dir+"/"+file, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	write("cgroup.procs", strconv.Itoa(c.PID))
	write("freezer.state", "FROZEN")
	over := make(chan error, 1)
	go func() { over <- e.Stop(context.Background(), c.ID, StopOptions{Timeout: new(int)}) }()
	for end := time.Now().Add(15 * time.Second); others() > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Error("another process goes on")
			break
		}
	}
	write("freezer.state", "THAWED")
	if err := <-over; err != nil {
		t.Log(err) // it may have given up before
	}
}

// TestLeftByAllThreads: a process has nothing left when all of its threads have nothing, be its first one a zombie before: another one waits in the kernel, for a disk perhaps, and has
// the process's memory, files and namespaces. Here it is frozen, for which SIGKILL waits with version 1 of control groups.
func TestLeftByAllThreads(t *testing.T) {
	nstest.Root(t)
	freezer := needsFreezer(t)
	dir, err := os.MkdirTemp(freezer, "kakuri-nstest-")
	if err != nil {
		t.Fatal(err)
	}
	command, tid, _ := part(t, "threaded")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(dir+"/"+file, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	defer os.Remove(dir)
	defer command.Wait()
	defer os.WriteFile(dir+"/freezer.state", []byte("THAWED"), 0)
	defer command.Process.Kill()
	write("tasks", tid)
	write("freezer.state", "FROZEN")
	p := process.Open(command.Process.Pid)
	defer p.Close()
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "the first thread's end", func() bool {
		_, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", command.Process.Pid))
		return errors.Is(err, unix.ENOENT)
	})
	if p.Left() {
		t.Error("it has a thread with all that it had")
	}
	write("freezer.state", "THAWED")
	nstest.Until(t, "its end", func() bool { return p.Wait(0) })
}
