package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// detached starts a container that stays when it ends, and is removed with the test.
func detached(t testing.TB, e *Engine, cfg Config) Container {
	t.Helper()
	res, err := e.Run(t.Context(), cfg, Streams{}, RunOptions{Detach: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := e.Remove(context.Background(), res.ID, RemoveOptions{Force: true})
		if err != nil && !errors.As(err, new(ErrNoSuchContainer)) {
			t.Errorf("%s: %v", cfg.Name, err)
		}
	})
	return found(t, e, res.ID)
}

func found(t testing.TB, e *Engine, ref string) Container {
	t.Helper()
	c, err := e.Find(ref)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// monitorOf is the process that attends a container: the one behind its socket.
func monitorOf(t testing.TB, e *Engine, c Container) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	dir, err := os.Open(monitor.Place(e.dir, c.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/socket", dir.Fd())}); err != nil {
		t.Fatal(err)
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		t.Fatal(err)
	}
	return int(peer.Pid)
}

// killMonitor kills a container's monitor by SIGKILL, and waits until it is gone.
func killMonitor(t testing.TB, e *Engine, c Container) {
	t.Helper()
	nstest.Kill(t, monitorOf(t, e, c))
	nstest.Until(t, "the monitor's end", func() bool { return !monitor.Attended(e.dir, c.ID) })
}

// logOf is what a container has written, as its log file has it.
func logOf(t testing.TB, c Container) string {
	t.Helper()
	data, err := os.ReadFile(c.dir + "/container.log")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A container is created, started, stopped, started again, killed and removed, and tells at each point how it is.
func TestLife(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	ctx := t.Context()
	c, err := e.Create(ctx, sh(root, "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done"))
	if err != nil {
		t.Fatal(err)
	}
	state := func(status string, code int) Container {
		t.Helper()
		c := found(t, e, c.ID)
		if c.Status != status || c.ExitCode != code || (c.PID != 0) != (status == monitor.Running) {
			t.Errorf("it is %s, code %d, process %d, want %s, code %d", c.Status, c.ExitCode, c.PID, status, code)
		}
		return c
	}
	if err := e.Remove(ctx, c.ID, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	cfg := sh(root, "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done")
	cfg.Name, cfg.AutoRemove = "life", false
	if c, err = e.Create(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	state(monitor.Created, 0)
	for _, f := range []struct {
		verb string
		err  error
		want string
	}{{"pause", e.Pause(ctx, "life"), "not running"}, {"kill", e.Kill(ctx, "life", ""), "not running"}, {"unpause", e.Unpause(ctx, "life"), "not paused"}} {
		if f.err == nil || !strings.Contains(f.err.Error(), f.want) {
			t.Errorf("%s of a container that does not run: %v", f.verb, f.err)
		}
	}
	if _, err := e.Attach(ctx, "life", AttachOptions{}, Streams{}); err == nil || !strings.Contains(err.Error(), "stopped container") {
		t.Errorf("%v", err)
	}
	for i := range 2 {
		if err := e.Start(ctx, "life", StartOptions{}); err != nil {
			t.Fatal(err)
		}
		running := state(monitor.Running, 0)
		if err := e.Start(ctx, "life", StartOptions{}); err != nil {
			t.Errorf("a second start: %v", err)
		}
		state(monitor.Running, 0)
		if err := e.Remove(ctx, "life", RemoveOptions{}); err == nil || !strings.Contains(err.Error(), "stop the container before removing") {
			t.Errorf("%v", err)
		}
		nstest.Until(t, "its output", func() bool { return strings.Count(logOf(t, running), "up") > i })
		if err := e.Stop(ctx, "life", StopOptions{}); err != nil {
			t.Fatal(err)
		}
		state(monitor.Exited, 7)
		if running.Witness().Alive() {
			t.Error("its process is alive")
		}
		if err := e.Stop(ctx, "life", StopOptions{}); err != nil {
			t.Errorf("a second stop: %v", err)
		}
	}
	if err := e.Restart(ctx, "life", StopOptions{}); err != nil {
		t.Fatal(err)
	}
	state(monitor.Running, 0)
	if c := found(t, e, "life"); c.Finished.IsZero() || c.Finished.After(c.Started) {
		t.Errorf("it runs since %v, and the run before ended at %v", c.Started, c.Finished)
	}
	if err := e.Pause(ctx, "life"); err != nil {
		t.Fatal(err)
	}
	if err := e.Pause(ctx, "life"); err == nil || !strings.Contains(err.Error(), "already paused") {
		t.Errorf("%v", err)
	}
	if err := e.Unpause(ctx, "life"); err != nil {
		t.Fatal(err)
	}
	if err := e.Unpause(ctx, "life"); err == nil || !strings.Contains(err.Error(), "not paused") {
		t.Errorf("%v", err)
	}
	// One that stands still can be ended all the same.
	if err := e.Pause(ctx, "life"); err != nil {
		t.Fatal(err)
	}
	seconds := 0
	if err := e.Stop(ctx, "life", StopOptions{Timeout: &seconds}); err != nil {
		t.Fatal(err)
	}
	if c := found(t, e, "life"); c.Status != monitor.Exited || c.ExitCode != 137 && c.ExitCode != 7 { // SIGKILL may find that it has heard the other signal
		t.Errorf("after a stop without a wait it is %s, code %d", c.Status, c.ExitCode)
	}
	if err := e.Rename(ctx, "life", "death"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Find("life"); !errors.As(err, new(ErrNoSuchContainer)) {
		t.Errorf("by its old name: %v", err)
	}
	if err := e.Remove(ctx, "death", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	empty(t, e)
}

// Who waits is told: of an end, of one to come, of the removal.
func TestWait(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	ctx := t.Context()
	cfg := sh(root, "read line; exit $line")
	cfg.Name, cfg.AutoRemove, cfg.Interactive = "wait", false, true
	detached(t, e, cfg)
	type answer struct {
		x   Exit
		err error
	}
	wait := func(condition string) chan answer {
		ch := make(chan answer, 1)
		go func() {
			x, err := e.Wait(ctx, "wait", condition)
			ch <- answer{x, err}
		}()
		return ch
	}
	first, second := wait(NotRunning), wait(NextExit)
	write := func() {
		if _, err := e.Attach(ctx, "wait", AttachOptions{}, Streams{In: strings.NewReader("5\n")}); err != nil {
			t.Error(err)
		}
	}
	write()
	if a := <-first; a.err != nil || a.x.Code != 5 {
		t.Errorf("%v: %+v", a.err, a.x)
	}
	select {
	case a := <-second:
		if a.err != nil || a.x.Code != 5 {
			t.Errorf("%v: %+v", a.err, a.x)
		}
	case <-time.After(20 * time.Millisecond):
		// It asked when all was over: the next one it is.
		if err := e.Start(ctx, "wait", StartOptions{}); err != nil {
			t.Fatal(err)
		}
		write()
		if a := <-second; a.err != nil || a.x.Code != 5 {
			t.Errorf("%v: %+v", a.err, a.x)
		}
	}
	if x, err := e.Wait(ctx, "wait", ""); err != nil || x.Code != 5 {
		t.Errorf("of one that has ended: %v: %+v", err, x)
	}
	removed := wait(Removed)
	if err := e.Remove(ctx, "wait", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if a := <-removed; a.err != nil && !errors.As(a.err, new(ErrNoSuchContainer)) {
		t.Errorf("%v: %+v", a.err, a.x)
	}
}

// The policy starts a container again, until it has had enough, or until a person stops it.
func TestRestartPolicy(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	ctx := t.Context()
	for _, p := range []struct {
		policy Restart
		code   int
		runs   int // 0 is without end
	}{
		{Restart{}, 3, 1}, {Restart{Policy: "no"}, 3, 1}, {Restart{Policy: "on-failure", Retries: 2}, 3, 3}, {Restart{Policy: "on-failure"}, 0, 1},
		{Restart{Policy: "always"}, 0, 0}, {Restart{Policy: "unless-stopped"}, 1, 0},
	} {
		cfg := sh(root, fmt.Sprintf("echo run; exit %d", p.code))
		cfg.AutoRemove, cfg.Restart = false, p.policy
		c := detached(t, e, cfg)
		runs := func() int { return strings.Count(logOf(t, c), "run") }
		if p.runs == 0 {
			nstest.Until(t, "the third run", func() bool { return runs() >= 3 })
			if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
				t.Fatal(err)
			}
			c = found(t, e, c.ID)
			if !c.Stopped || c.Restarts < 2 {
				t.Errorf("%+v: %+v", p.policy, c.State)
			}
		} else {
			nstest.Until(t, "its end", func() bool { return !exists(monitor.Place(e.dir, c.ID)) })
			c = found(t, e, c.ID)
			if c.Restarts != p.runs-1 {
				t.Errorf("%+v: %d restarts, want %d", p.policy, c.Restarts, p.runs-1)
			}
		}
		if c.Status != monitor.Exited || p.runs != 0 && runs() != p.runs || c.ExitCode != p.code {
			t.Errorf("%+v: %s, code %d after %d runs", p.policy, c.Status, c.ExitCode, runs())
		}
	}
}

// TestRestartingWords: a container between two runs is told of as one that is restarting, and one that is paused as that.
func TestRestartingWords(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), t.Context()
	nstest.NoLeaks(t, e.dir)
	cfg := sh(root, "exit 1")
	cfg.Name, cfg.AutoRemove, cfg.Restart = "loop", false, Restart{Policy: "always"}
	loop := detached(t, e, cfg)
	waits := "Container " + loop.ID + " is restarting, wait until the container is running"
	for _, test := range []struct {
		what, want string
		ask        func() error
	}{
		{"pause", waits, func() error {
			err := e.Pause(ctx, loop.ID)
			if err == nil { // it ran just then
				e.Unpause(ctx, loop.ID)
			}
			return err
		}},
		{"top", waits, func() error { _, err := e.Top(ctx, loop.ID, nil); return err }},
		{"exec", waits, func() error {
			_, err := e.Exec(ctx, loop.ID, ExecConfig{Command: []string{"true"}}, Streams{})
			return err
		}},
		{"rm", `cannot remove container "loop": container is restarting: stop the container before removing or force remove`, func() error { return e.Remove(ctx, loop.ID, RemoveOptions{}) }},
	} {
		nstest.Until(t, test.what+" to say "+test.want, func() bool { err := test.ask(); return err != nil && err.Error() == test.want })
	}
	cfg = sh(root, "exec sleep 100")
	cfg.Name, cfg.AutoRemove = "still", false
	still := detached(t, e, cfg)
	if err := e.Pause(ctx, still.ID); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(ctx, still.ID, RemoveOptions{}); err == nil || err.Error() != `cannot remove container "still": container is paused and must be unpaused first` {
		t.Errorf("rm of a paused one: %v", err)
	}
}

// TestKillAndRestart: who is killed by a person, or gets the signal that stops it, is not started again by its policy; by another signal it is.
func TestKillAndRestart(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	for _, test := range []struct {
		signal string
		again  bool
		code   int
	}{{"", false, 137}, {"USR2", false, 4}, {"USR1", true, 137}} {
		cfg := sh(root, "trap 'exit 3' USR1; trap 'exit 4' USR2; echo run; while :; do sleep 0.01; done")
		cfg.AutoRemove, cfg.Restart, cfg.StopSignal = false, Restart{Policy: "always"}, "USR2"
		c := detached(t, e, cfg)
		runs := func(n int) func() bool { return func() bool { return strings.Count(logOf(t, c), "run") == n } }
		nstest.Until(t, "its run", runs(1))
		if err := e.Kill(t.Context(), c.ID, test.signal); err != nil {
			t.Fatal(err)
		}
		restarts := 0
		if test.again {
			restarts = 1
			nstest.Until(t, "its second run", runs(2))
			if err := e.Kill(t.Context(), c.ID, "KILL"); err != nil {
				t.Fatal(err)
			}
		}
		nstest.Until(t, "its end", func() bool { return !exists(monitor.Place(e.dir, c.ID)) })
		if c = found(t, e, c.ID); c.Status != monitor.Exited || c.ExitCode != test.code || c.Restarts != restarts {
			t.Errorf("signal %q: %s, code %d after %d restarts", test.signal, c.Status, c.ExitCode, c.Restarts)
		}
	}
}

// One that is killed after a command has looked for such, and before it asks or while it does, has a successor that is asked.
func TestMonitorKilledMeanwhile(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	cfg := sh(root, "exec sleep 100")
	cfg.Name, cfg.AutoRemove = "orphan", false
	c := detached(t, e, cfg)
	killMonitor(t, e, c)
	asked := 0
	if err := e.withMonitor(t.Context(), c, func(m *monitor.Client) error {
		if asked++; asked == 1 {
			killMonitor(t, e, c)
		}
		return m.Stop(0, 0)
	}); err != nil {
		t.Fatal(err)
	}
	if c := found(t, e, "orphan"); c.Status != monitor.Exited || asked != 2 {
		t.Errorf("asked %d times: %+v", asked, c.State)
	}
}

// A monitor that is killed takes nothing with it: the container goes on, the next command brings a new monitor, no line that is written after that is lost, and how
// the container ended is learnt.
func TestKilledMonitor(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	ctx := t.Context()
	cfg := sh(root, "trap 'exit 7' TERM; i=0; while :; do echo line $i.; i=$((i+1)); sleep 0.005; done")
	cfg.Name, cfg.AutoRemove = "orphan", false
	c := detached(t, e, cfg)
	for round := range 3 {
		lines := func() int { return strings.Count(logOf(t, c), `"log"`) }
		nstest.Until(t, "some lines", func() bool { return lines() > 20*round+5 })
		killMonitor(t, e, c)
		if !c.Witness().Alive() {
			t.Fatal("its process has ended with its monitor")
		}
		had := lines()
		list, err := e.List(ListOptions{})
		if err != nil || len(list) != 1 || list[0].PID != c.PID || list[0].Status != monitor.Running {
			t.Fatalf("%v: %+v", err, list)
		}
		nstest.Until(t, "the lines after that", func() bool { return lines() > had+5 })
	}
	if err := e.Stop(ctx, "orphan", StopOptions{}); err != nil {
		t.Fatal(err)
	}
	c = found(t, e, "orphan")
	if c.Status != monitor.Exited || c.ExitCode != 7 && c.Error != "its monitor was killed, and nobody saw how it ended" {
		t.Errorf("%+v", c.State)
	}
	if c.ExitCode != 7 && tellsExits() {
		t.Errorf("this kernel tells how it ended, and the record does not: %+v", c.State)
	}
	// What a monitor has taken and not yet written when it is killed is lost: here a line each time, if any.
	log, lost := logOf(t, c), 0
	for i := range strings.Count(log, `"log"`) {
		if !strings.Contains(log, fmt.Sprintf(`"line %d.`, i)) {
			lost++
		}
	}
	if lost > 3 {
		t.Errorf("%d lines are lost over three kills", lost)
	}
}

// tellsExits reports whether the kernel tells who holds a pidfd how its process ended: since Linux 6.15.
func tellsExits() bool {
	var u unix.Utsname
	var major, minor int
	unix.Uname(&u)
	n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return n == 2 && (major > 6 || major == 6 && minor >= 15)
}

// With its terminal, too: what was typed and written before and after is there.
func TestKilledMonitorOfATerminal(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	cfg := Config{Name: "tty", Rootfs: root, TTY: true, Interactive: true, Command: []string{"sh", "-c", "while read x; do echo got $x; done; exit 3"}}
	c := detached(t, e, cfg)
	nstest.Until(t, "the process that keeps the terminal", func() bool { return found(t, e, "tty").Holder.PID != 0 })
	for _, word := range []string{"one", "two"} {
		killMonitor(t, e, c)
		if err := e.sweep(); err != nil {
			t.Fatal(err)
		}
		talk(t, e, "tty", word)
	}
	in, out := io.Pipe()
	go out.Write([]byte{4}) // ctrl-d
	res, err := e.Attach(t.Context(), "tty", AttachOptions{}, Streams{In: in, Out: io.Discard})
	if err != nil || res.Code != 3 && tellsExits() {
		t.Errorf("%v: code %d", err, res.Code)
	}
}

// talk attaches to a container's terminal, has a word answered, and goes by the keys for that.
func talk(t testing.TB, e *Engine, ref, word string) {
	t.Helper()
	in, typed := io.Pipe()
	outR, outW := io.Pipe()
	done := make(chan error, 1)
	go func() {
		res, err := e.Attach(context.Background(), ref, AttachOptions{}, Streams{In: in, Out: outW})
		if err == nil && !res.Detached {
			err = fmt.Errorf("it ended with code %d", res.Code)
		}
		outW.CloseWithError(io.EOF)
		done <- err
	}()
	fmt.Fprintf(typed, "%s\r", word)
	var seen bytes.Buffer
	buf := make([]byte, 100)
	for !strings.Contains(seen.String(), "got "+word) {
		n, err := outR.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v: %q", <-done, seen.String())
		}
	}
	go io.Copy(io.Discard, outR)
	typed.Write([]byte{16, 17})
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The monitor and the container are killed together: the record says that nobody saw how it ended, what goes with it is removed, and the
// policy starts it again.
func TestKilledWithTheMonitor(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	both := func(c Container) {
		t.Helper()
		p := c.Witness().Open()
		defer p.Close()
		killMonitor(t, e, c)
		p.Signal(unix.SIGKILL)
		if !p.Wait(time.Minute) {
			t.Fatal("it does not end")
		}
	}
	for _, remove := range []bool{false, true} {
		cfg := Config{Rootfs: root, AutoRemove: remove, Command: []string{"sleep", "1000"}}
		c := detached(t, e, cfg)
		both(c)
		if list, err := e.List(ListOptions{}); err != nil {
			t.Errorf("%v: %+v", err, list)
		}
		if remove {
			nstest.Until(t, "its removal", func() bool { return !exists(c.dir) })
			continue
		}
		nstest.Until(t, "the record of its end", func() bool { return found(t, e, c.ID).Status == monitor.Exited })
		if c = found(t, e, c.ID); c.ExitCode != 137 && (c.ExitCode != 255 || c.Error == "") {
			t.Errorf("%+v", c.State)
		}
	}
	c := detached(t, e, Config{Rootfs: root, Restart: Restart{Policy: "always"}, Command: []string{"sleep", "1000"}})
	both(c)
	if err := e.sweep(); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "its next run", func() bool {
		now := found(t, e, c.ID)
		return now.Status == monitor.Running && now.PID != c.PID && now.Witness().Alive()
	})
}

// After a boot nothing of what ran is there; the containers whose policy says so come back.
func TestBoot(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	want := []string{}
	var ran []Container
	for policy, stop := range map[string]bool{"": false, "always": false, "unless-stopped": false, "on-failure": false} {
		cfg := Config{Name: "boot-" + policy, Rootfs: root, Restart: Restart{Policy: policy}, Command: []string{"sleep", "1000"}}
		if policy == "" {
			cfg.Name = "boot-no"
		}
		ran = append(ran, detached(t, e, cfg))
		if policy != "" && !stop {
			want = append(want, cfg.Name)
		}
	}
	stopped := detached(t, e, Config{Name: "boot-stopped", Rootfs: root, Restart: Restart{Policy: "unless-stopped"}, Command: []string{"sleep", "1000"}})
	if err := e.Stop(t.Context(), stopped.ID, StopOptions{Timeout: new(int)}); err != nil {
		t.Fatal(err)
	}
	// The stop of one is under way when the machine goes down.
	asked := detached(t, e, Config{Name: "boot-asked", Rootfs: root, Restart: Restart{Policy: "on-failure"}, Command: []string{"sleep", "1000"}})
	state := asked.State
	state.Stopped = true
	if err := monitor.WriteState(asked.dir, state); err != nil {
		t.Fatal(err)
	}
	ran = append(ran, asked)
	// As if the machine had gone down.
	for _, c := range ran {
		p := c.Witness().Open()
		killMonitor(t, e, c)
		p.Signal(unix.SIGKILL)
		p.Wait(time.Minute)
		p.Close()
		x, err := e.runtime().Open(c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Delete(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(monitor.Place(e.dir, c.ID)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range ran {
		if now := found(t, e, c.ID); now.Status != monitor.Exited || now.ExitCode != 255 || now.Error != wentDown {
			t.Errorf("%s: %+v", c.Name, now.State)
		}
	}
	// One with --rm went with /run, but for what is reserved for it.
	went := strings.Repeat("2", 64)
	if err := files.Reserve(went, e.names()+"/boot-rm"); err != nil {
		t.Fatal(err)
	}
	if err := files.Reserve(went, e.ids()+"/7"); err != nil {
		t.Fatal(err)
	}
	if f, err := e.Check(t.Context(), false); err != nil || len(f) != 2 {
		t.Errorf("Check finds %+v, %v before", f, err)
	}
	started, err := e.Boot(t.Context())
	if f, err := e.Check(t.Context(), false); err != nil || len(f) != 0 {
		t.Errorf("Check finds %+v, %v after it", f, err)
	}
	slices.Sort(started)
	slices.Sort(want)
	if err != nil || !slices.Equal(started, want) {
		t.Errorf("%v: %q came back, want %q", err, started, want)
	}
}

// Check finds what killed processes leave, and mends it where it is asked to.
func TestCheck(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	ctx := t.Context()
	clean := func(when string) {
		t.Helper()
		if f, err := e.Check(ctx, false); err != nil || len(f) != 0 {
			t.Errorf("%s: %v: %+v", when, err, f)
		}
	}
	clean("at first")
	c := detached(t, e, Config{Name: "checked", Rootfs: root, Command: []string{"sleep", "1000"}})
	clean("beside a container")
	killMonitor(t, e, c)
	half, lock, err := e.create(ctx, Config{Rootfs: root})
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	gone := strings.Repeat("1", 64)
	torn := made(t, e, Config{Name: "torn", Rootfs: root})
	nameless := made(t, e, Config{Name: "nameless", Rootfs: root})
	for _, err := range []error{
		files.Reserve(gone, e.names()+"/stale"), files.Reserve(gone, e.ids()+"/4000"), os.Mkdir(e.dir+"/runtime/"+gone, 0o700),
		os.Truncate(torn.dir+"/container.json", 10), os.Remove(e.names() + "/nameless"), os.WriteFile(nameless.dir+"/state.json.new", nil, 0o600),
		files.Reserve(c.ID, e.names()+"/renamed"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, repair := range []bool{false, true} {
		f, err := e.Check(ctx, repair)
		if err != nil || len(f) < 9 {
			t.Errorf("%v: %d findings: %+v", err, len(f), f)
		}
		if !slices.ContainsFunc(f, func(f Finding) bool { return f.Object == "name renamed" }) {
			t.Errorf("nothing of a rename that did not end among %+v", f)
		}
		for _, f := range f {
			if f.Mended != repair || f.Error != "" {
				t.Errorf("%+v", f)
			}
		}
		for _, id := range []string{c.ID, half.ID, torn.ID, nameless.ID} {
			if !slices.ContainsFunc(f, func(f Finding) bool { return f.Object == container(id) }) {
				t.Errorf("nothing of container %s among %+v", files.ShortID(id), f)
			}
		}
	}
	clean("after the repair")
	if now := found(t, e, "checked"); now.Status != monitor.Running || !monitor.Attended(e.dir, c.ID) {
		t.Errorf("%+v", now.State)
	}
	if err := e.Remove(ctx, "nameless", RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

// One with --rm is kept from one run to the next by who restarts it, with what it has written, and by nobody else: it goes at its own end, and when who was to restart it is killed.
func TestRestartAutoRemove(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	imported(t, e, nstest.RootFS(t), "base:1")
	cfg := Config{Image: "base:1", Command: []string{"sh", "-c", "echo >> /runs; exec sleep 1000"}, StopSignal: "KILL", AutoRemove: true}
	gone := func(c Container) {
		t.Helper()
		if _, err := e.Find(c.ID); !errors.As(err, new(ErrNoSuchContainer)) {
			t.Errorf("it is still there: %v", err)
		}
		if exists(e.data + "/ephemeral/" + c.ID) {
			t.Error("what it wrote is still there")
		}
	}
	runs := func(c Container) string {
		t.Helper()
		var out string
		nstest.Until(t, "a run", func() bool {
			out, _, _ = execs(e, c.ID, ExecConfig{Command: []string{"cat", "/runs"}}, "")
			return out != ""
		})
		return out
	}

	c := started(t, e, cfg)
	for n := 1; n < 3; n++ {
		nstest.Until(t, "what a run writes", func() bool { return len(runs(c)) == n })
		if err := e.Restart(ctx, c.ID, StopOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	nstest.Until(t, "a third run", func() bool { return runs(c) == "\n\n\n" })
	if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
		t.Error(err)
	}
	gone(c)

	t.Run("killed in between", func(t *testing.T) {
		c := started(t, e, cfg)
		done, err := monitor.MarkRestart(c.dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(e.Stop(ctx, c.ID, StopOptions{}), e.sweep()); err != nil {
			t.Error(err)
		}
		if now := found(t, e, c.ID); now.Status != monitor.Exited {
			t.Errorf("%+v", now.State)
		}
		if f, err := e.Check(ctx, true); err != nil || len(f) != 0 {
			t.Errorf("%v: %+v", err, f)
		}
		if removed, _, err := e.PruneContainers(ctx, nil); err != nil || len(removed) > 0 {
			t.Errorf("a prune has removed %v: %v", removed, err)
		}
		done()
		if err := e.sweep(); err != nil {
			t.Error(err)
		}
		gone(c)
	})
	t.Run("its monitor killed in between", func(t *testing.T) {
		c := started(t, e, cfg)
		runs(c)
		done, err := monitor.MarkRestart(c.dir)
		if err != nil {
			t.Fatal(err)
		}
		killMonitor(t, e, c)
		if err := errors.Join(e.Stop(ctx, c.ID, StopOptions{}), e.Start(ctx, c.ID, StartOptions{})); err != nil {
			t.Error(err)
		}
		done()
		nstest.Until(t, "a second run", func() bool { return runs(c) == "\n\n" })
		if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
			t.Error(err)
		}
		gone(c)
	})
	t.Run("with volumes of others that stay mounted", func(t *testing.T) {
		c := started(t, e, cfg)
		if err := os.WriteFile(e.attached(), nil, 0o600); err != nil { // in the place of the directory that says which there are
			t.Fatal(err)
		}
		if err := errors.Join(e.Restart(ctx, c.ID, StopOptions{}), os.Remove(e.attached())); err != nil {
			t.Error(err)
		}
		if now := found(t, e, c.ID); !now.Active() {
			t.Errorf("%+v", now.State)
		}
		if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("with who has run it", func(t *testing.T) {
		up := make(chan Container)
		ran := make(chan Result)
		go func() {
			res, _ := e.Run(ctx, cfg, Streams{Started: func(c Container) { up <- c }}, RunOptions{})
			ran <- res
		}()
		c := <-up
		runs(c)
		if err := e.Restart(ctx, c.ID, StopOptions{}); err != nil {
			t.Error(err)
		}
		if res := <-ran; res.Code != 137 {
			t.Errorf("%+v", res)
		}
		nstest.Until(t, "a second run", func() bool { return runs(c) == "\n\n" })
		if err := e.Remove(ctx, c.ID, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
		gone(c)
	})
	t.Run("that cannot be started", func(t *testing.T) {
		dir := nstest.Dir(t)
		missing := cfg
		missing.Mounts = []Mount{{Type: "bind", Source: dir + "/x", Dest: "/mnt", MustHave: true}}
		if err := os.Mkdir(dir+"/x", 0o755); err != nil {
			t.Fatal(err)
		}
		c := started(t, e, missing)
		if err := os.Rename(dir+"/x", dir+"/y"); err != nil {
			t.Fatal(err)
		}
		// Somebody looks at it all the time, as sweeps do.
		over, looked := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(looked)
			for {
				if lock, err := lockDir(c.dir, unix.LOCK_SH); err == nil {
					time.Sleep(5 * time.Millisecond)
					lock.Close()
				}
				select {
				case <-over:
					return
				case <-time.After(time.Millisecond):
				}
			}
		}()
		if err := e.Restart(ctx, c.ID, StopOptions{}); err == nil {
			t.Error("it was started")
		}
		close(over)
		<-looked
		gone(c)
	})
}

// TestRefusedStart: a start that fails has left the container when it says so: its lock is free, and there is no monitor.
func TestRefusedStart(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	imported(t, e, nstest.RootFS(t), "base:1")
	c, err := e.Create(ctx, Config{Image: "base:1", Command: []string{"/nosuch"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if err := e.Start(ctx, c.ID, StartOptions{}); err == nil {
			t.Fatal("it was started")
		}
		lock, err := lockDir(c.dir, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			t.Fatal(err)
		}
		lock.Close()
		if exists(monitor.Place(e.dir, c.ID)) {
			t.Fatal("its monitor is there still")
		}
	}
}

// Of two commands that restart a container the second waits for the first, whose mark is gone then.
func TestMarkRestart(t *testing.T) {
	dir := nstest.Dir(t)
	var first, second func()
	first, err := monitor.MarkRestart(dir)
	if err != nil {
		t.Fatal(err)
	}
	marked := make(chan bool)
	go func() {
		var err error
		if second, err = monitor.MarkRestart(dir); err != nil {
			t.Error(err)
		}
		marked <- monitor.Marked(dir)
	}()
	var st unix.Stat_t
	if err := unix.Stat(dir+"/restart", &st); err != nil {
		t.Fatal(err)
	}
	waits := fmt.Sprintf(`-> FLOCK .*:%d `, st.Ino)
	nstest.Until(t, "two of them", func() bool { return regexp.MustCompile(waits).MatchString(readFile("/proc/locks")) })
	first()
	if !<-marked {
		t.Error("the second has no mark")
	}
	second()
	if monitor.Marked(dir) || exists(dir+"/restart") {
		t.Error("a mark is left")
	}
}

// Two commands at one container at the same time: each works, or is told why not.
func TestTwoAtOnce(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	ctx := t.Context()
	seconds := 0
	verbs := map[string]func() error{
		"start":   func() error { return e.Start(ctx, "both", StartOptions{}) },
		"stop":    func() error { return e.Stop(ctx, "both", StopOptions{Timeout: &seconds}) },
		"restart": func() error { return e.Restart(ctx, "both", StopOptions{Timeout: &seconds}) },
		"kill":    func() error { return e.Kill(ctx, "both", "") },
		"rename":  func() error { return e.Rename(ctx, "both", "other") },
		"list":    func() error { _, err := e.List(ListOptions{All: true}); return err },
		"remove":  func() error { return e.Remove(ctx, "both", RemoveOptions{Force: true}) },
	}
	fine := func(err error) bool {
		return err == nil || errors.Is(err, errActive) || errors.As(err, new(ErrConflict)) || errors.As(err, new(ErrNotRunning)) || errors.As(err, new(ErrNoSuchContainer))
	}
	for a := range verbs {
		for b := range verbs {
			res, err := e.Run(ctx, Config{Name: "both", Rootfs: root, Command: []string{"sleep", "1000"}}, Streams{}, RunOptions{Detach: true})
			if err != nil {
				t.Fatalf("%s beside %s: %v", a, b, err)
			}
			done := make(chan error)
			go func() { done <- verbs[a]() }()
			errB := verbs[b]()
			if errA := <-done; !fine(errA) || !fine(errB) {
				t.Errorf("%s: %v; %s: %v", a, errA, b, errB)
			}
			if err := e.Remove(ctx, res.ID, RemoveOptions{Force: true}); !fine(err) {
				t.Errorf("%s beside %s: %v", a, b, err)
			}
			nstest.Until(t, "its removal", func() bool { _, err := e.Find(res.ID); return err != nil })
		}
	}
	empty(t, e)
}

// The command is killed at any moment: what was asked for is there as a whole, or is nothing.
func TestKilledRunIsWhole(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	e := openAt(t, "/run/kakuri")
	output(t, kakuri(t, "run", "--rootfs", root, "true"))
	nstest.NoLeaks(t, "/run/kakuri", "/var/lib/kakuri")
	for i := range 30 {
		name := "whole" + strconv.Itoa(i)
		c := kakuri(t, "run", "--name", name, "--rootfs", root, "sh", "-c", "sleep 1000")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		c.Process.Kill()
		c.Wait()
		nstest.Until(t, "the end of what it was at", func() bool {
			if err := e.sweep(); err != nil {
				t.Fatal(err)
			}
			return !exists(filepath.Join(e.creating())) || isEmpty(e.creating())
		})
		switch box, err := e.Find(name); {
		case errors.As(err, new(ErrNoSuchContainer)):
		case err != nil:
			t.Errorf("killed after %d ms: %v", i, err)
		default:
			if box.Status != monitor.Running || !box.Witness().Alive() {
				t.Errorf("killed after %d ms: %+v", i, box.State)
			}
			if err := e.Remove(t.Context(), name, RemoveOptions{Force: true}); err != nil {
				t.Errorf("killed after %d ms: %v", i, err)
			}
		}
	}
}

func isEmpty(dir string) bool {
	list, err := files.List(dir)
	return err == nil && len(list) == 0
}

// A monitor that has only to wait goes on as a fresh process: no line is lost over that, and it still knows how the container ends, whom to start again, and
// who is attached.
func TestMonitorRests(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	ctx := t.Context()
	rests := func(c Container) bool {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", monitorOf(t, e, c)))
		return bytes.Contains(data, []byte("monitor-rest"))
	}
	dir := nstest.Dir(t)
	cfg := sh(root, "trap 'exit 7' TERM; echo >>/x/ready; i=0; while :; do echo line $i.; echo err $i. >&2; i=$((i+1)); done")
	cfg.Name, cfg.AutoRemove, cfg.Restart, cfg.Mounts = "busy", false, Restart{Policy: "on-failure", Retries: 1}, []Mount{{Type: "bind", Source: dir, Dest: "/x"}}
	// Before it has its trap, the first process of a pid namespace does not hear SIGTERM.
	trapped := func(times int) bool { data, _ := os.ReadFile(dir + "/ready"); return len(data) == times }
	c := detached(t, e, cfg)
	before := monitorOf(t, e, c)
	nstest.Until(t, "its rest, and its trap", func() bool { return rests(c) && trapped(1) })
	if now := monitorOf(t, e, c); now != before {
		t.Errorf("process %d attends it, it was %d", now, before)
	}
	if now := found(t, e, "busy"); now.PID != c.PID || now.Status != monitor.Running {
		t.Errorf("%+v", now.State)
	}
	unix.Kill(c.PID, unix.SIGTERM)
	nstest.Until(t, "its second run", func() bool { now := found(t, e, "busy"); return now.PID != 0 && now.PID != c.PID && trapped(2) })
	if now := found(t, e, "busy"); now.Restarts != 1 {
		t.Errorf("%+v", now.State)
	}
	if err := e.Stop(ctx, "busy", StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if now := found(t, e, "busy"); now.ExitCode != 7 || now.Death == nil || len(now.Death.Log) == 0 {
		t.Errorf("%+v", now.State)
	}
	log := logOf(t, c)
	for _, stream := range []string{"line", "err"} {
		next := -1 // older lines may be in another file
		for line := range strings.Lines(log) {
			_, text, ok := strings.Cut(line, `{"log":"`+stream+" ")
			if !ok {
				continue
			}
			n, _, _ := strings.Cut(text, ".")
			got, err := strconv.Atoi(n)
			if err != nil || got != next && got != 0 && next >= 0 {
				t.Fatalf("%s %d follows on %d: %v", stream, got, next-1, err)
			}
			next = got + 1
		}
		if next < 0 {
			t.Errorf("no %s", stream)
		}
	}
	// One with a terminal, whose program waits at the start of a line.
	tty := detached(t, e, Config{Name: "quiet", Rootfs: root, TTY: true, Interactive: true, Command: []string{"sh", "-c", "while read x; do echo got $x; done; exit 3"}})
	nstest.Until(t, "its rest", func() bool { return rests(tty) })
	talk(t, e, "quiet", "hello")
	in := detached(t, e, Config{Name: "stdin", Rootfs: root, Interactive: true, Command: []string{"sh", "-c", "read x; exit $x"}})
	nstest.Until(t, "its rest", func() bool { return rests(in) })
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", monitorOf(t, e, in)))
	nstest.Until(t, "nothing left of what it was told", func() bool { // by its first lines
		return len(fds) > 0 && !slices.ContainsFunc(fds, func(fd string) bool { to, _ := os.Readlink(fd); return strings.Contains(to, "memfd:") })
	})
	res, err := e.Attach(ctx, "stdin", AttachOptions{}, Streams{In: strings.NewReader("5\n"), Out: io.Discard})
	if err != nil || res.Code != 5 {
		t.Errorf("%v: code %d", err, res.Code)
	}
}

// TestFrozenClient: clients that are attached and do not read hold up what the container writes, and not its end, be they ever so many.
func TestFrozenClient(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	c := detached(t, e, Config{Name: "frozen", Rootfs: root, Command: []string{"sh", "-c", "while :; do echo 0123456789012345678901234567890123456789; done"}})
	for range 20 { // each of them with as much time as the first one: more than this test has
		frozen, err := monitor.Dial(e.dir, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		defer frozen.Close()
		if err := frozen.Attach(monitor.Stdout | monitor.Stderr); err != nil {
			t.Fatal(err)
		}
	}
	var size int64
	nstest.Until(t, "nothing more is written", func() bool {
		before := size
		size = int64(len(logs(t, e, c.ID, LogOptions{})))
		return size > 0 && size == before
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := e.Stop(ctx, c.ID, StopOptions{Timeout: new(int)}); err != nil {
		t.Error(err)
	}
	if now := found(t, e, c.ID); now.Status != monitor.Exited || now.ExitCode != 137 {
		t.Errorf("it is %s, code %d", now.Status, now.ExitCode)
	}
}

// CVE-2025-64329, 2022-1708: clients that attach and go away leave nothing in the monitor, whether the container writes, reads or does neither: no descriptor, and no
// memory for each.
func TestCVE_2025_64329(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	c := detached(t, e, Config{Name: "quiet", Rootfs: root, Interactive: true, Command: []string{"sleep", "1000"}})
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", found(t, e, c.ID).PID))
	if err != nil {
		t.Fatal(err)
	}
	proc := "/proc/" + strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))[2]
	descriptors := func() int {
		list, err := os.ReadDir(proc + "/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	memory := func() (kB int) {
		status, err := os.ReadFile(proc + "/status")
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(string(status), "VmRSS:")
		if _, err := fmt.Sscan(line, &kB); err != nil {
			t.Fatal(err)
		}
		return kB
	}
	clients := func(n int) {
		for i := range n {
			m, err := monitor.Dial(e.dir, c.ID)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Attach([]monitor.Streams{monitor.Stdin | monitor.Stdout | monitor.Stderr, monitor.Stdout, monitor.Stdin}[i%3]); err != nil {
				t.Fatal(err)
			}
			m.Close()
		}
	}
	settled := func(before int) bool { return descriptors() <= before+8 } // a monitor that rests has others of its own
	before := descriptors()
	clients(300)
	nstest.Until(t, "the monitor has closed what was theirs", func() bool { return settled(before) })
	few := memory()
	clients(6000)
	nstest.Until(t, "the monitor has closed what was theirs, of many", func() bool { return settled(before) })
	if many := memory(); many > few+8<<10 {
		t.Errorf("the monitor has %d kB, and had %d", many, few)
	}
}

// delayed is a monitor that waits at the first step of a launch while there is a file hold in the directory $HOME: it says so by a file held, and goes on when somebody writes to the FIFO
// go. With a file running there, that names the container's directory, it waits as soon as its record says that it runs.
func delayed([]string) int {
	home := os.Getenv("HOME")
	monitor.BeforeStep = func(n int) {
		if dir, err := os.ReadFile(home + "/running"); err == nil {
			if s, err := monitor.ReadState(string(dir)); err != nil || s.Status != monitor.Running || exists(home+"/held") {
				return
			}
		} else if n > 0 {
			return
		}
		if _, err := os.Lstat(home + "/hold"); err != nil {
			return
		}
		_ = os.WriteFile(home+"/held", nil, 0o600)
		os.ReadFile(home + "/go")
	}
	return monitor.Main()
}

// A container that is just started again by its policy is removed, or killed: its monitor has no process yet that it could end, and is not to forget it.
func TestStopOfRestart(t *testing.T) {
	nstest.Root(t)
	e := openAt(t, "/run/kakuri")
	for what, end := range map[string]func(context.Context) error{
		"rm":   func(ctx context.Context) error { return e.Remove(ctx, "again", RemoveOptions{Force: true}) },
		"kill": func(ctx context.Context) error { return e.Kill(ctx, "again", "") },
	} {
		home := nstest.Dir(t)
		c := exec.Command(nstest.Binary(t, "kakuri"), "run", "-d", "--name", "again", "--network", "none", "--restart", "always", "--rootfs", nstest.RootFS(t), "sleep", "1000")
		c.Env = append(os.Environ(), "HOME="+home, "KAKURI_RUNTIME="+nstest.PartPath("delayed"))
		output(t, c)
		if err := errors.Join(os.WriteFile(home+"/hold", nil, 0o600), unix.Mkfifo(home+"/go", 0o600), unix.Kill(found(t, e, "again").PID, unix.SIGKILL)); err != nil {
			t.Fatal(err)
		}
		nstest.Until(t, "it is started again", func() bool { return exists(home + "/held") })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ended := make(chan error)
		go func() { ended <- end(ctx) }()
		nstest.Until(t, "it is to be stopped", func() bool { return found(t, e, "again").Stopped })
		if err := os.WriteFile(home+"/go", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		err := <-ended
		if what == "kill" && err == nil {
			_, err = e.Wait(ctx, "again", NotRunning)
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
			output(t, kakuri(t, "kill", "again"))
		}
		output(t, kakuri(t, "rm", "-f", "again"))
	}
}

// A container that has just begun to run is removed: its record says that it runs, and its monitor has not got to know its process yet.
func TestStopOfStart(t *testing.T) {
	nstest.Root(t)
	e, home := openAt(t, "/run/kakuri"), nstest.Dir(t)
	output(t, exec.Command(nstest.Binary(t, "kakuri"), "create", "--name", "first", "--network", "none", "--rootfs", nstest.RootFS(t), "sleep", "1000"))
	if err := errors.Join(os.WriteFile(home+"/hold", nil, 0o600), os.WriteFile(home+"/running", []byte(found(t, e, "first").dir), 0o600), unix.Mkfifo(home+"/go", 0o600)); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(nstest.Binary(t, "kakuri"), "start", "first")
	c.Env = append(os.Environ(), "HOME="+home, "KAKURI_RUNTIME="+nstest.PartPath("delayed"))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "it starts", func() bool { return exists(home + "/held") })
	defer c.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // where it is forgotten
	defer cancel()
	ended := make(chan error)
	go func() { ended <- e.Remove(ctx, "first", RemoveOptions{Force: true}) }()
	nstest.Until(t, "it is to be stopped", func() bool { return found(t, e, "first").Stopped })
	if err := os.WriteFile(home+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
		output(t, kakuri(t, "kill", "first"))
		output(t, kakuri(t, "rm", "-f", "first"))
	}
}

// A container that is paused when it is killed, or while it has its time to stop, ends all the same: with version 1 of control groups SIGKILL waits
// for the pause to end.
func TestEndsWhilePaused(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // where it does not end
	defer cancel()
	dir := nstest.Dir(t)
	c := Config{
		Name: "held", Image: "host", Network: "none", Command: []string{"sh", "-c", "trap 'echo >/x/heard' TERM; echo >>/x/ready; while :; do sleep 0.01; done"},
		Mounts: []Mount{{Type: "bind", Source: dir, Dest: "/x"}},
	}
	detached(t, e, c)
	begun := func(times int) bool { data, _ := os.ReadFile(dir + "/ready"); return len(data) >= times } // that the file is there says less
	nstest.Until(t, "it has begun", func() bool { return begun(1) })
	if err := errors.Join(e.Pause(ctx, "held"), e.Kill(ctx, "held", "KILL")); err != nil {
		t.Fatal(err)
	}
	if x, err := e.Wait(ctx, "held", ""); err != nil || x.Code != 137 {
		t.Fatalf("killed: %+v, %v", x, err)
	}
	if err := e.Start(ctx, "held", StartOptions{}); err != nil {
		t.Fatal(err)
	}
	// Its trap is there: what comes before, the first process of a pid namespace does not hear.
	nstest.Until(t, "it has begun twice", func() bool { return begun(2) })
	stopped, seconds := make(chan error), 3
	go func() { stopped <- e.Stop(ctx, "held", StopOptions{Timeout: &seconds}) }()
	nstest.Until(t, "its signal is there", func() bool { _, err := os.Stat(dir + "/heard"); return err == nil })
	if err := e.Pause(ctx, "held"); err != nil {
		t.Error(err)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if now := found(t, e, "held"); now.Status != monitor.Exited || now.ExitCode != 137 {
		t.Errorf("stopped: %s, %d", now.Status, now.ExitCode)
	}
}

// TestFrozenBelow: a container that may make control groups freezes a process in one of its own, as an engine in it does that pauses. It ends by SIGKILL all the same, which
// waits there with version 1 for as long as that is so.
func TestFrozenBelow(t *testing.T) {
	nstest.Root(t)
	needsFreezer(t)
	e, root, ctx := open(t), nstest.RootFS(t), t.Context()
	c := Config{
		Rootfs: root, Interactive: true, CapAdd: []string{"SYS_ADMIN"}, UserNS: "host", SecurityOpt: []string{"seccomp=unconfined"},
		Command: []string{"sh", "-c", "rm -f /ready; mount -t cgroup -o freezer f /srv && mkdir -p /srv/below && { sleep 1000 & } && echo $! > /srv/below/cgroup.procs && " +
			"echo FROZEN > /srv/below/freezer.state && touch /ready && exec cat"},
	}
	id := stopped(t, e, c)
	now := 0
	for name, end := range map[string]func() error{
		"stop": func() error { return e.Stop(ctx, id, StopOptions{Timeout: &now}) },
		"kill": func() error {
			return errors.Join(e.Kill(ctx, id, "KILL"), e.Stop(ctx, id, StopOptions{Timeout: new(int)}))
		},
	} {
		if err := e.Start(ctx, id, StartOptions{}); err != nil {
			t.Fatal(err)
		}
		nstest.Until(t, "it has frozen its process", func() bool { return exists(root + "/ready") })
		os.Remove(root + "/ready")
		done := make(chan error, 1)
		go func() { done <- end() }()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s waits", name)
		}
	}
}

// TestRemoveOfStart: a removal by force that comes while somebody starts the container ends it and removes it, whoever is first.
func TestRemoveOfStart(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), t.Context()
	for range 40 {
		c, err := e.Create(ctx, idle(root))
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan error, 1)
		go func() { started <- e.Start(ctx, c.ID, StartOptions{}) }()
		if err := e.Remove(ctx, c.ID, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
		<-started // which may have come too late
		if _, err := e.Find(c.ID); !errors.As(err, new(ErrNoSuchContainer)) {
			t.Errorf("it is there: %v", err)
			e.Remove(ctx, c.ID, RemoveOptions{Force: true})
		}
	}
}
