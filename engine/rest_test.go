package engine

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// outputOf is the file by which a process reads a container's output, nil when it has none.
func outputOf(t *testing.T, pid int) *os.File {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		var fd int
		if to, _ := os.Readlink(dir + d.Name()); !strings.HasSuffix(to, "/stdout") {
			continue
		}
		if _, err := fmt.Sscan(d.Name(), &fd); err != nil {
			t.Fatal(err)
		}
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pidfd)
		if fd, err = unix.PidfdGetfd(pidfd, fd, 0); err != nil {
			return nil // it was closed meanwhile
		}
		return os.NewFile(uintptr(fd), "stdout")
	}
	return nil
}

// atRest reports whether a monitor has executed its program once more.
func atRest(pid int) bool {
	return strings.Contains(readFile(fmt.Sprintf("/proc/%d/cmdline", pid)), "monitor-rest")
}

// TestRestKeepsSignals: a monitor that executes its program once more does not forget who sent the last signal, and does so only when no stop is under way, be who asked
// for that gone.
func TestRestKeepsSignals(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	dir := nstest.Dir(t)
	// held starts a container whose monitor has somebody connected, and so does not rest, until that is closed.
	held := func(script string) (c Container, rested func() bool, hold *monitor.Client) {
		cfg := sh(root, script)
		cfg.Mounts, cfg.AutoRemove = []Mount{{Type: "bind", Source: dir, Dest: "/mnt", Options: []string{"ro"}}}, false
		for range 50 {
			c := detached(t, e, cfg)
			hold, err := monitor.Dial(e.dir, c.ID)
			if err != nil {
				t.Fatal(err)
			}
			pid := monitorOf(t, e, c)
			rested := func() bool { return atRest(pid) }
			if rested() {
				hold.Close()
				continue
			}
			nstest.Until(t, "its word", func() bool { return strings.Contains(logOf(t, c), "up") })
			return c, rested, hold
		}
		t.Fatal("the monitor of each container was at rest before somebody was connected")
		return
	}
	c, rested, hold := held("trap 'while [ ! -e /mnt/now ]; do sleep 0.01; done; exit 6' USR1; echo up; while :; do sleep 0.01; done")
	if err := e.Kill(t.Context(), c.ID, "USR1"); err != nil {
		t.Fatal(err)
	}
	hold.Close()
	nstest.Until(t, "the monitor's rest", rested)
	if err := os.WriteFile(dir+"/now", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if now := ended(t, e, c.ID); now.ExitCode != 6 || now.Death == nil || !strings.HasPrefix(now.Death.By, "itself, after SIGUSR1 by process "+itoa(os.Getpid())) {
		t.Errorf("%+v, %+v", now.State, now.Death)
	}

	c, _, hold = held("trap '' TERM; echo up; while :; do sleep 0.01; done")
	stop, err := monitor.Dial(e.dir, c.ID)
	if err == nil {
		err = stop.Stop(0, 2)
	}
	if err != nil {
		t.Fatal(err)
	}
	stop.Close()
	hold.Close()
	nstest.Until(t, "its end by SIGKILL", func() bool { return found(t, e, c.ID).Status == monitor.Exited })
	if now := ended(t, e, c.ID); now.ExitCode != 137 || now.Death == nil || !strings.Contains(now.Death.By, "2 s after SIGTERM") {
		t.Errorf("%+v, %+v", now.State, now.Death)
	}
}

// TestRestKeepsOutput: a monitor that executes its program once more has the container's output open all the while. A container that wrote and ended in between
// would have written for nobody: what is in a FIFO goes with the last who has it open. So the file has to be the one that was open before, which
// a mark on it tells.
func TestRestKeepsOutput(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	const mark = int(unix.SIGWINCH)
	for range 50 {
		c := detached(t, e, sh(root, "while :; do sleep 0.01; done"))
		pid := monitorOf(t, e, c)
		rested := func() bool {
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err != nil {
				t.Fatal(err)
			}
			return bytes.Contains(line, []byte("monitor-rest"))
		}
		f := outputOf(t, pid)
		if f == nil {
			continue
		}
		_, err := unix.FcntlInt(f.Fd(), unix.F_SETSIG, mark)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if rested() {
			continue // it was faster: nobody knows which of both has the mark
		}
		nstest.Until(t, "the monitor's rest", rested)
		nstest.Until(t, "its output", func() bool { f = outputOf(t, pid); return f != nil })
		defer f.Close()
		if sig, err := unix.FcntlInt(f.Fd(), unix.F_GETSIG, 0); err != nil || sig != mark {
			t.Errorf("it reads the output by another file, without the mark: %d, %v", sig, err)
		}
		return
	}
	t.Fatal("the monitor of each container was at rest before it was looked at")
}

// TestRestBetweenChecks: a monitor rests from one check of health to the next, when that is long, and the next program knows what those before it found.
func TestRestBetweenChecks(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	cfg := asleep(root)
	cfg.Health = &Health{Test: []string{"CMD", "false"}, Interval: 4100 * time.Millisecond, Retries: 2}
	c := started(t, e, cfg)
	pid := monitorOf(t, e, c)
	program := func() string { return readFile(fmt.Sprintf("/proc/%d/auxv", pid)) } // each has its own addresses
	nstest.Until(t, "a rest before the first check", func() bool { return atRest(pid) })
	for check, status := range []string{monitor.Starting, monitor.Unhealthy} {
		before := program()
		nstest.Until(t, fmt.Sprintf("check %d", check), func() bool {
			now := found(t, e, c.ID).Health
			return now != nil && len(now.Log) == check+1 && now.Status == status
		})
		nstest.Until(t, fmt.Sprintf("a rest after check %d", check), func() bool { return program() != before })
	}
	if now := found(t, e, c.ID); now.Restarts != 0 || now.Health.Failing != 2 || now.Health.Log[1].Start.Sub(now.Health.Log[0].End) < 4*time.Second {
		t.Errorf("%+v", now.Health)
	}
}
