package launch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// pidOf gives the pid of a run's process by a step that needs hands, after the clone.
func pidOf(do func(pid int)) (launch.Hands, plan.Step) {
	return handsFunc(func(op plan.Op, pid int) error {
		if _, ok := op.(*plan.JoinCgroup); ok {
			do(pid)
		}
		return nil
	}), rt(&plan.JoinCgroup{Path: "none"})
}

// A container's process that is killed while it is made gives an error that says so, at
// whatever moment; and nothing is left.
func TestKilledAtAnyTime(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	root := nstest.RootFS(t)
	build := inRoot(root, manySteps(20)...)
	clean, built := 0, 0
	for i := range 150 {
		var killer sync.WaitGroup
		hands, afterClone := pidOf(func(pid int) {
			pidfd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Error(err)
				return
			}
			killer.Go(func() {
				defer unix.Close(pidfd)
				unix.Nanosleep(&unix.Timespec{Nsec: int64(i) * 20_000}, nil)
				unix.PidfdSendSignal(pidfd, syscall.SIGKILL, nil, 0)
			})
		})
		steps := slices.Concat(build[:1], []plan.Step{afterClone, rt(&plan.Sync{What: "one"})}, build[1:len(build)-1],
			[]plan.Step{in(&plan.Sync{From: plan.Container, What: "built"}), start(), sh("sleep 20")})
		_, err := launchSteps(t, launch.Options{Hands: hands}, steps...)
		killer.Wait()
		if err == nil {
			built++
			continue
		}
		clean++
		e := step(t, err)
		if e.Errno() != 0 || !strings.Contains(err.Error(), "ended by signal SIGKILL") {
			t.Errorf("killed after %d µs: %v", i*20, err)
		}
	}
	if clean == 0 {
		t.Errorf("%d of 150 were built before they were killed", built)
	}
}

// A step of the runtime's side that finds nobody to be done to tells that the process was killed, and by what, in the place of the file that is not there.
func TestKilledBeforeAStepOfTheRuntime(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	hands, kill := pidOf(func(pid int) { unix.Kill(pid, unix.SIGKILL) })
	const word = "find it"
	find := launch.Hands(handsFunc(func(op plan.Op, pid int) error {
		if j, ok := op.(*plan.JoinCgroup); !ok || j.Path != word {
			return hands.Do(t.Context(), op, pid)
		}
		for { // it is there until it has ended
			if _, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err != nil {
				return err
			}
		}
	}))
	_, err := launchSteps(t, launch.Options{Hands: find}, clone(), kill, rt(&plan.JoinCgroup{Path: word}), rt(&plan.Sync{What: "one"}), sh("sleep 20"))
	if e := step(t, err); e.N != 3 || e.Errno() != 0 || !strings.Contains(err.Error(), "ended by signal SIGKILL") {
		t.Error(err)
	}
}

// manySteps are steps that take a while.
func manySteps(n int) []plan.Step {
	var list []plan.Step
	for i := range n {
		list = append(list, in(&plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: fmt.Sprintf("/srv/%d", i)}))
	}
	return list
}

// A child that fails before it took a sync that is on its way says what failed: the kernel
// tells of the lost message first.
func TestErrorBesideAnUnreadSync(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	hands, pause := pidOf(func(int) { time.Sleep(time.Millisecond) })
	for range 30 {
		// Once it is sent before the child fails, and once after.
		for _, steps := range [][]plan.Step{
			{clone(), in(&plan.PlainChdir{Path: "/none"}), rt(&plan.Sync{What: "unread"}), probeHere()},
			{clone(), in(&plan.PlainChdir{Path: "/none"}), rt(&plan.Sync{What: "unread"}), rt(&plan.Sync{What: "unread"}), pause, rt(&plan.Sync{What: "unread"}), probeHere()},
		} {
			_, err := launchSteps(t, launch.Options{Hands: hands}, steps...)
			if err == nil {
				t.Fatal("a missing directory worked")
			}
			if e := step(t, err); e.N != 2 || e.Errno() != syscall.ENOENT {
				t.Fatal(err)
			}
		}
	}
}

// A process that is stopped while it is made ends with the context.
func TestContextEndsAStoppedChild(t *testing.T) {
	nstest.Root(t)
	for name, more := range map[string][]plan.Step{
		"runtime waits":   {in(&plan.Sync{From: plan.Container, What: "built"}), start()},
		"container waits": nil,
	} {
		t.Run(name, func(t *testing.T) {
			nstest.NoLeaks(t)
			ctx, cancel := context.WithCancel(context.Background())
			hands, afterClone := pidOf(func(pid int) {
				syscall.Kill(pid, syscall.SIGSTOP)
				nstest.Until(t, "the child to stop", func() bool { return strings.HasPrefix(statusOf(t, pid, "State"), "T") })
				time.AfterFunc(10*time.Millisecond, cancel)
			})
			steps := slices.Concat([]plan.Step{clone(), afterClone, rt(&plan.Sync{What: "one"}), in(&plan.Umask{})}, more, []plan.Step{probeHere()})
			_, err := launch.Run(ctx, plan.Plan{Steps: steps}, launch.Options{Hands: hands})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v is not context.Canceled", err)
			}
		})
	}
}

// A context that is done before, or while the hands work, ends the run too.
func TestContextDone(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := launch.Run(ctx, plan.Plan{Steps: []plan.Step{clone(), probeHere()}}, launch.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	undone := false
	hands := handsFunc(func(op plan.Op, pid int) error {
		if _, ok := op.(*plan.RemoveCgroup); ok {
			undone = true
			return nil
		}
		cancel()
		return nil
	})
	steps := []plan.Step{{Op: &plan.MakeCgroup{Path: "x"}, Undo: &plan.RemoveCgroup{Path: "x"}}, clone(), probeHere()}
	if _, err := launch.Run(ctx, plan.Plan{Steps: steps}, launch.Options{Hands: hands}); !errors.Is(err, context.Canceled) || !undone {
		t.Errorf("%v, undone %v", err, undone)
	}
}

// The context ends a running process as well, that of a fork included.
func TestContextEndsAProcess(t *testing.T) {
	nstest.Root(t)
	for name, steps := range map[string][]plan.Step{
		"cloned": {clone(), in(&plan.Exec{Args: []string{"/bin/sleep", "60"}})},
		"forked": slices.Concat(joinPID(hold(t, unix.CLONE_NEWPID))[:4], []plan.Step{in(&plan.Exec{Args: []string{"/bin/sleep", "60"}})}),
	} {
		t.Run(name, func(t *testing.T) {
			nstest.NoLeaks(t)
			ctx, cancel := context.WithCancel(context.Background())
			p, err := launch.Run(ctx, plan.Plan{Steps: steps}, launch.Options{})
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(5*time.Second, func() { p.Signal(syscall.SIGTERM) })
			cancel()
			if st, err := p.Wait(); err != nil || st.Signal() != syscall.SIGKILL {
				t.Errorf("%v: ended by %v", err, st.Signal())
			}
		})
	}
}

// Wait gives the same answer to all who ask, and Signal knows when it is over.
func TestWait(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	for range 30 {
		p, err := launch.Run(context.Background(), plan.Plan{Steps: []plan.Step{clone(), sh("exit 3")}}, launch.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if st, err := p.Wait(); err != nil || st.ExitStatus() != 3 {
					t.Errorf("%v: %d", err, st.ExitStatus())
				}
			})
		}
		all.Wait()
		if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("signal after the end: %v", err)
		}
	}
	p, err := launch.Run(context.Background(), plan.Plan{Steps: []plan.Step{clone(), in(&plan.Sigmask{}), in(&plan.Exec{Args: []string{"/bin/sleep", "60"}})}}, launch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGUSR1); err != nil {
		t.Error(err)
	}
	if st, err := p.Wait(); err != nil || st.Signal() != syscall.SIGUSR1 {
		t.Errorf("%v %v", err, st)
	}
}

// TestTracedByAnother: who traces a process may never wait for it, and the kernel shows its end to nobody else by wait(2) before that.
func TestTracedByAnother(t *testing.T) {
	nstest.Root(t)
	for _, e := range []struct {
		how  func(io.Closer, *launch.Process)
		want syscall.WaitStatus
	}{
		{func(stdin io.Closer, _ *launch.Process) { stdin.Close() }, 3 << 8},
		{func(_ io.Closer, p *launch.Process) { p.Signal(syscall.SIGKILL) }, syscall.WaitStatus(syscall.SIGKILL)},
	} {
		theirs, stdin, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p, err := launch.Run(context.Background(), plan.Plan{Steps: []plan.Step{clone(), sh("read x; exit 3")}}, launch.Options{Stdio: [3]*os.File{theirs}})
		theirs.Close()
		if err != nil {
			t.Fatal(err)
		}
		nstest.Trace(t, false, p.PID)
		e.how(stdin, p)
		ended := make(chan syscall.WaitStatus)
		go func() {
			st, _ := p.Wait()
			ended <- st
		}()
		select {
		case st := <-ended:
			if st != e.want || p.Signal(syscall.SIGTERM) != os.ErrProcessDone {
				t.Errorf("ended by %#x, not %#x", st, e.want)
			}
		case <-time.After(10 * time.Second):
			t.Error("its end is waited for for ever")
		}
		stdin.Close()
	}
}

// TestUnreaped: what others trace, and never wait for, costs no thread each, and is taken away when they let go of it.
func TestUnreaped(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	const many = 20
	t.Run("traced", func(t *testing.T) {
		var pids []int
		var list []*launch.Process
		for range many {
			p, err := launch.Run(context.Background(), plan.Plan{Steps: []plan.Step{clone(), in(&plan.Exec{Args: []string{"/bin/sleep", "60"}})}}, launch.Options{})
			if err != nil {
				t.Fatal(err)
			}
			list, pids = append(list, p), append(pids, p.PID)
		}
		nstest.Trace(t, false, pids...)
		before := threads(t)
		for _, p := range list {
			p.Signal(syscall.SIGKILL)
			if st, err := p.Wait(); err != nil || st.Signal() != syscall.SIGKILL {
				t.Errorf("%v: %v", st, err)
			}
		}
		time.Sleep(100 * time.Millisecond)
		if n := threads(t); n > before+many/2 {
			t.Errorf("%d threads, and %d for %d processes that others trace", before, n, many)
		}
		if !launch.Unreaped() {
			t.Error("nobody knows of them")
		}
	})
	for end := time.Now().Add(10 * time.Second); launch.Unreaped(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("they are still there")
		}
	}
}

func threads(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// Launches beside each other do not hold each other up: a child that had another's
// socket would keep that one from seeing its end.
func TestConcurrentLaunches(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	root := nstest.RootFS(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for k := range 3 {
				steps := slices.Concat(inRoot(root)[:5], []plan.Step{
					in(&plan.Sync{From: plan.Container, What: "built"}), rt(&plan.Sync{What: "go on"}), in(&plan.PivotRoot{}), start(),
				})
				if i%4 == 0 {
					// One that fails, at the very end.
					_, err := launchSteps(t, launch.Options{}, append(steps, in(&plan.Exec{Args: []string{"/none"}}))...)
					if err == nil {
						t.Error("a missing program worked")
					}
					continue
				}
				word := fmt.Sprintf("%d.%d", i, k)
				res, err := launchSteps(t, launch.Options{}, append(steps, sh("echo "+word))...)
				if err != nil || res.out != word+"\n" {
					t.Errorf("%v: %q", err, res.out)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("a launch hangs")
	}
}

// The garbage collector may run at any time before the clone: what the rows point
// at stays as it was.
func TestMemorySurvivesCollection(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	stop := make(chan struct{})
	var collector sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
				// Memory that was given back is used again at once.
				for range 50 {
					keepAlive = append([]byte(nil), strings.Repeat("\xaa", 1<<10)...)
				}
			}
		}
	})
	defer collector.Wait()
	defer close(stop)
	root := nstest.RootFS(t)
	for round := range 3 {
		var links []plan.Step
		for i := range 400 {
			links = append(links, in(&plan.Symlink{
				Target: fmt.Sprintf("target-%d-%d-%s", round, i, strings.Repeat("t", 40)), Path: fmt.Sprintf("/srv/link-%d-%d", round, i),
			}))
		}
		if res := must(t, append(inRoot(root, links...)[:len(links)+6], sh("true"))...); res.status != 0 {
			t.Fatalf("%#x: %s", int(res.status), res.out)
		}
		for _, l := range links {
			op := l.Op.(*plan.Symlink)
			if got, err := os.Readlink(filepath.Join(root, op.Path)); err != nil || got != op.Target {
				t.Errorf("%s: %v, %q, want %q", op.Path, err, got, op.Target)
			}
		}
	}
}

// The same for what a launch holds itself: each here begins on a stack that was large
// once, and that the collector makes smaller, and moves, on the way to the clone.
func TestLaunchOnMovingStacks(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	stop := make(chan struct{})
	var busy sync.WaitGroup
	held := make([][]byte, 2)
	for i := range held {
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					held[i] = make([]byte, 64<<10)
				}
			}
		})
	}
	defer busy.Wait()
	defer close(stop)
	for range 300 {
		done := make(chan error, 1)
		go func() {
			deep(300)
			p, err := launch.Run(context.Background(), plan.Plan{Steps: []plan.Step{clone(), in(&plan.Exec{Args: []string{"/bin/true"}})}}, launch.Options{})
			if err == nil {
				_, err = p.Wait()
			}
			done <- err
		}()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("no end: the process's descriptor is lost")
		}
	}
}

// deep uses a kilobyte of stack n times.
//
//go:noinline
func deep(n int) byte {
	var frame [1024]byte
	if n > 0 {
		frame[n%len(frame)] = deep(n - 1)
	}
	return frame[n%7]
}

// keepAlive holds what a test allocates.
var keepAlive []byte

// A process that has many descriptors open starts containers as well, and gives
// them none: not the ones without close-on-exec either.
func TestManyDescriptors(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	for _, count := range []int{3, 246, 250, 300, 506, 1020, 1500} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			nstest.NoLeaks(t)
			var open []int
			defer func() {
				for _, fd := range open {
					unix.Close(fd)
				}
			}()
			for range count {
				fd, err := unix.Open("/usr", unix.O_RDONLY, 0) // without O_CLOEXEC
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, fd)
			}
			v := see(t, rt(&plan.OpenFD{Path: "/etc", Flags: abi.OPath, Out: free}), clone(), rt(&plan.Sync{What: "go on"}), in(&plan.Fchdir{FD: free}), probeHere())
			onlyStreams(t, v)
			if v.Cwd != "/etc" {
				t.Errorf("in %s", v.Cwd)
			}
			stub := in(&plan.Exec{Args: []string{nstest.PartPath("probe")}, Stub: true})
			onlyStreams(t, see(t, rt(&plan.Stub{}), clone(), rt(&plan.Sync{What: "go on"}), stub))
			_, err := launchSteps(t, launch.Options{}, clone(), in(&plan.PlainChdir{Path: "/none"}), probeHere())
			if err == nil {
				t.Fatal("a missing directory worked")
			}
			if e := step(t, err); e.Errno() != syscall.ENOENT {
				t.Error(err)
			}
		})
	}
}

// The streams may be this process's own, in any order.
func TestStdio(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	stderrOf := func(f *os.File) string {
		to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	line := in(&plan.Exec{Args: []string{"/bin/sh", "-c", fmt.Sprintf(`for n in 0 1 2; do readlink /proc/$$/fd/$n; done >&%d`, 1)}})
	_ = line
	for name, stdio := range map[string][3]*os.File{
		"own":      {os.Stdin, os.Stdout, os.Stderr},
		"turned":   {os.Stderr, os.Stdin, os.Stdout},
		"one":      {os.Stdin, os.Stdin, os.Stdin},
		"none":     {},
		"the pipe": {w, w, w},
	} {
		want := [3]string{}
		for k, own := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
			f := stdio[k]
			if f == nil {
				f = own
			}
			want[k] = stderrOf(f)
		}
		var got [3]string
		// The process waits in a stopped state; its descriptors are read from outside.
		p, err := launch.Run(context.Background(), plan.Plan{Steps: []plan.Step{clone(), in(&plan.Sigmask{}), in(&plan.Exec{Args: []string{"/bin/sleep", "60"}})}}, launch.Options{Stdio: stdio})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for k := range got {
			got[k], _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", p.PID, k))
		}
		p.Signal(syscall.SIGKILL)
		p.Wait()
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// With Timings there is one duration a step, and they add up to less than the whole.
func TestTimings(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	root := nstest.RootFS(t)
	steps := inRoot(root, manySteps(3)...)
	steps = slices.Insert(steps, 1, rt(&plan.Sync{What: "one"}))
	steps[len(steps)-1] = in(&plan.Exec{Args: []string{"/bin/true"}})
	begin := time.Now()
	p, err := launch.Run(context.Background(), plan.Plan{Steps: steps}, launch.Options{Timings: true})
	if err != nil {
		t.Fatal(err)
	}
	whole := float64(time.Since(begin).Nanoseconds()) / 1e3
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(p.Timings) != len(steps) {
		t.Fatalf("%d timings of %d steps", len(p.Timings), len(steps))
	}
	inside := 0.0
	for i, us := range p.Timings {
		last := i == len(steps)-1
		switch {
		case us < 0 && !last:
			t.Errorf("step %d (%v) was not measured", i+1, steps[i].Op)
		case us > whole:
			t.Errorf("step %d (%v) took %.0f µs of %.0f", i+1, steps[i].Op, us, whole)
		case steps[i].Side == plan.Container && us > 0:
			inside += us
		}
	}
	if inside > whole || inside == 0 {
		t.Errorf("the container's steps took %.0f µs, the whole %.0f", inside, whole)
	}
	if p, err = launch.Run(context.Background(), plan.Plan{Steps: []plan.Step{clone(), sh("true")}}, launch.Options{}); err != nil || p.Timings != nil {
		t.Errorf("%v: timings that nobody asked for: %v", err, p.Timings)
	} else {
		p.Wait()
	}
	// A step that fails is told the same way.
	_, err = launchSteps(t, launch.Options{Timings: true}, clone(), in(&plan.Umask{}), in(&plan.PlainChdir{Path: "/none"}), probeHere())
	if err == nil {
		t.Fatal("a missing directory worked")
	}
	if e := step(t, err); e.N != 3 || e.Call != "chdir" {
		t.Error(err)
	}
}

// Start gets the process that goes on, and its error ends it.
func TestStartSeesTheProcess(t *testing.T) {
	nstest.Root(t)
	for name, steps := range map[string][]plan.Step{
		"cloned": {clone(), start(), probeHere()},
		"forked": slices.Insert(joinPID(hold(t, unix.CLONE_NEWPID)), 4, start()),
	} {
		t.Run(name, func(t *testing.T) {
			nstest.NoLeaks(t)
			started := 0
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			p, err := launch.Run(context.Background(), plan.Plan{Steps: steps}, launch.Options{
				Stdio: [3]*os.File{nil, w, w}, Start: func(pid int) error { started = pid; return nil },
			})
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, r)
			if _, err := p.Wait(); err != nil {
				t.Fatal(err)
			}
			if started != p.PID {
				t.Errorf("Start got %d, the process is %d", started, p.PID)
			}
		})
	}
}

// A child that runs in this process's memory cannot be looked into while it is
// made, whatever other launches do; and in the end this process is as it was.
func TestUndumpableBesideOthers(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dumpable := func() int {
		n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// os/exec leaves a process undumpable that has started another one for a user.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	one := []plan.Step{clone(), in(&plan.Undumpable{}), start(), in(&plan.Exec{Args: []string{"/bin/true"}})}
	held(t, func(pid int) {
		var st unix.Stat_t
		for range 3 {
			must(t, clone(), in(&plan.Undumpable{}), in(&plan.Setresuid{UID: 88}), in(&plan.Exec{Args: []string{"/bin/true"}}))
			if err := unix.Stat(fmt.Sprintf("/proc/%d/fd", pid), &st); err != nil || st.Uid != 0 {
				t.Errorf("%v: the files of a process that is made belong to %d", err, st.Uid)
			}
			if dumpable() == 1 && sharesMemory(pid) {
				t.Error("another launch made it dumpable again")
			}
		}
	}, one...)
	if dumpable() != 1 {
		t.Errorf("this process stays undumpable: %d", dumpable())
	}
	if _, err := launchSteps(t, launch.Options{}, clone(), in(&plan.Undumpable{}), in(&plan.PlainChdir{Path: "/none"}), probeHere()); err == nil {
		t.Error("a missing directory worked")
	}
	if dumpable() != 1 {
		t.Errorf("after a failure this process stays undumpable: %d", dumpable())
	}
}

// sharesMemory reports whether a process runs in the memory of this one: kcmp(2).
func sharesMemory(pid int) bool {
	const kcmpVM = 1
	r, _, errno := syscall.Syscall6(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(pid), kcmpVM, 0, 0, 0)
	return errno == 0 && r == 0
}

// A runtime that dies takes the container with it, when the plan says so.
func TestDieWithParent(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	pids := make(chan int, 1)
	ended := make(chan *launch.Process, 1)
	var run func()
	run = func() {
		// The thread that clones ends with the goroutine that locked it, but for the first
		// one of the process: that is kept busy here while another is found.
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			var other sync.WaitGroup
			other.Go(run)
			other.Wait()
			runtime.UnlockOSThread()
			return
		}
		p, err := launch.Run(context.Background(), plan.Plan{Steps: []plan.Step{clone(), in(&plan.DieWithParent{}), in(&plan.Exec{Args: []string{"/bin/sleep", "60"}})}}, launch.Options{})
		if err != nil {
			t.Error(err)
			pids <- 0
			return
		}
		pids <- p.PID
		ended <- p
	}
	go run()
	if <-pids == 0 {
		return
	}
	p := <-ended
	if st, err := p.Wait(); err != nil || st.Signal() != syscall.SIGKILL {
		t.Errorf("%v: ended by %v", err, st)
	}
}

// A process that has its parent's descriptors has not the other end of its own socket: when the parent is killed while it is
// made, it does not wait forever.
func TestOrphanEnds(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	c := nstest.Part("orphaner")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	c.Process.Kill()
	c.Process.Wait()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 20_000); n != 1 {
		t.Errorf("it goes on without its parent: %v", err)
		unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	}
	out.Close()
}

// A session keyring that somebody has made before, by whatever name, and that he lets others search, is nobody else's: its maker would read the keys of a
// container that gets it, and give it others.
func TestPlantedKeyring(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	for _, name := range []string{"_ses", "_ses.kakuri", "_ses.c"} {
		if err := unix.KeyctlSetperm(nstest.JoinKeyring(t, name), 0x3f3f3f3f); err != nil {
			t.Fatal(err)
		}
	}
	if v := see(t, clone(), in(&plan.Keyring{}), probeHere()); !strings.HasSuffix(v.Keyring, ";3f030000;_ses") {
		t.Errorf("the session keyring is %s", v.Keyring)
	}
}

// A process is never started with the caller's session keyring because there is no room for another: it is not started then, and is told why.
func TestKeyQuota(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	const uid = 54321
	nstest.UseUpKeys(t, uid)
	// Who comes to be that user later has one of the caller's quota.
	if v := see(t, clone(), in(&plan.Keyring{}), in(&plan.Setresuid{UID: uid}), probeHere()); !strings.HasSuffix(v.Keyring, ";_ses") {
		t.Errorf("the session keyring is %s", v.Keyring)
	}
	full := fault{"keyring", []plan.Step{clone(), in(&plan.Setresuid{UID: uid}), in(&plan.Keyring{}), probeHere()}, 0, "keyctl", syscall.EDQUOT, nil, "kernel.keys.maxkeys"}
	full.check(t)
}

// Nothing of the caller is in the container: environment, session, keyring, groups.
func TestNothingOfTheCaller(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	t.Setenv("KAKURI_SECRET", "x")
	if _, err := unix.KeyctlJoinSessionKeyring("_ses.caller"); err != nil {
		t.Logf("no keyring to hide: %v", err)
	}
	v := see(t, clone(), in(&plan.Setsid{}), in(&plan.Keyring{}), in(&plan.Setgroups{}), in(&plan.Umask{Mask: 0o22}), in(&plan.Sigmask{}), probeHere())
	if len(v.Env) != 0 || strings.Contains(v.Keyring, "_ses.caller") || v.SID != v.PID || len(v.Groups) != 0 || v.Umask != 0o22 {
		t.Errorf("%+v", v)
	}
	for _, key := range []string{"CapInh", "CapAmb"} {
		if v.Status[key] != "0000000000000000" {
			t.Errorf("%s %s", key, v.Status[key])
		}
	}
	// Handlers do not stay, what the Go runtime set for itself does not either, and what is
	// ignored here is not ignored there.
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	out := must(t, clone(), in(&plan.DefaultSignals{Signals: []abi.Signal{abi.SIGHUP, abi.SIGINT}}), in(&plan.Sigmask{}), in(&plan.Exec{Args: []string{"/bin/cat", "/proc/self/status"}})).out
	for _, key := range []string{"SigBlk", "SigIgn", "SigCgt"} {
		if !strings.Contains(out, key+":\t0000000000000000") {
			t.Errorf("%s of the caller stays:\n%s", key, out)
		}
	}
}
