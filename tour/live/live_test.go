package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/tour"
	"github.com/kakuri/kakuri/ui"

	"golang.org/x/sys/unix"
)

// open returns an engine whose records are the test's alone.
func open(t *testing.T) *engine.Engine {
	t.Helper()
	dir, err := os.MkdirTemp("", "tour")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e, err := engine.Open(engine.Options{Dir: dir, Runtime: nstest.Binary(t, "kakuri-runtime")})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// all runs all experiments, in the place where the test is.
func all(t *testing.T) {
	nstest.NoLeaks(t)
	o := Options{Engine: open(t), Exe: nstest.Binary(t, "kakuri"), Experiments: tour.Experiments()}
	seen := 0
	o.Each = func(r tour.Result) error {
		seen++
		if err := r.Fault(); err != nil {
			t.Errorf("%s: %v", r.Experiment.ID, err)
		}
		return nil
	}
	list, err := Run(context.Background(), o)
	if err != nil || len(list) != 14 || seen != 14 {
		t.Fatalf("%d results, %d of them reported: %v", len(list), seen, err)
	}
	if running, err := o.Engine.List(engine.ListOptions{}); err != nil || len(running) > 0 {
		t.Errorf("still running: %v, %v", running, err)
	}
	if t.Failed() {
		for _, r := range list {
			t.Log(r.Text(ui.Screen{}))
		}
	}
}

func TestRun(t *testing.T) {
	nstest.Root(t)
	nstest.Loopback(t)
	all(t)
}

// Everything holds for an ordinary user as well.
func TestRunUser(t *testing.T) {
	user := nstest.User(t)
	if os.Geteuid() == 0 {
		nstest.Loopback(t)
	}
	nstest.Inside(t, nstest.Place{User: user}, func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Fatal("still root")
		}
		all(t)
	})
}

// What one experiment starts does not depend on the ones before it.
func TestSingle(t *testing.T) {
	nstest.Root(t)
	nstest.Loopback(t)
	nstest.NoLeaks(t)
	for _, e := range tour.Experiments() {
		o := Options{Engine: open(t), Exe: nstest.Binary(t, "kakuri"), Experiments: []tour.Experiment{e}}
		list, err := Run(context.Background(), o)
		if err != nil || tour.Held(list) != 1 {
			t.Errorf("%s alone: %v, %v", e.ID, list, err)
		}
	}
}

// The rows that a container without isolation would give are what the checks refuse: the
// same readings, taken of containers that share the host's namespaces.
func TestShared(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	ctx := context.Background()
	c, err := start(ctx, open(t), engine.Config{PID: "host", UserNS: "host", UTS: "host", IPC: "host"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.end()
	l := &lab{ctx: ctx, shell: shared{cell: c}}
	l.Engine = open(t)
	if _, err := c.ask(ctx, shellScript); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"E2", "E3", "E4", "E5", "E8"} {
		r := tour.Result{Experiment: experiment(t, id)}
		r.Reading, r.Err = l.measure(id)
		if r.Err != nil {
			t.Errorf("%s cannot be read without isolation: %v", id, r.Err)
		} else if r.Holds() {
			t.Errorf("%s holds without isolation:\n%s", id, r.Text(ui.Screen{}))
		}
	}
	// The shell is no pid 1, so its child would outlive it.
	if _, err := c.ask(ctx, "kill $!; wait $! || true"); err != nil {
		t.Error(err)
	}
}

func experiment(t *testing.T, id string) tour.Experiment {
	t.Helper()
	list, err := tour.Find([]string{id})
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// Whenever the run is stopped, nothing of it is left.
func TestCancel(t *testing.T) {
	nstest.Root(t)
	nstest.Loopback(t)
	for _, at := range []string{"E2", "E7", "E10"} {
		t.Run(at, func(t *testing.T) {
			nstest.NoLeaks(t)
			ctx, cancel := context.WithCancelCause(context.Background())
			why := errors.New("enough")
			o := Options{Engine: open(t), Exe: nstest.Binary(t, "kakuri"), Experiments: tour.Experiments()}
			o.Each = func(r tour.Result) error {
				if r.Experiment.ID == at {
					cancel(why)
				}
				return nil
			}
			list, err := Run(ctx, o)
			if err == nil || len(list) == 0 || list[len(list)-1].Experiment.ID != at {
				t.Errorf("%d results, %v", len(list), err)
			}
			if running, err := o.Engine.List(engine.ListOptions{}); err != nil || len(running) > 0 {
				t.Errorf("still running: %v, %v", running, err)
			}
		})
	}
}

func TestEach(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	full := errors.New("no more")
	o := Options{Engine: open(t), Experiments: tour.Experiments(), Each: func(r tour.Result) error {
		if r.Experiment.ID == "E3" {
			return full
		}
		return nil
	}}
	if list, err := Run(context.Background(), o); err != full || len(list) != 3 {
		t.Errorf("%d results, %v", len(list), err)
	}
}

// A container that does not start is said once, and named by those that would have used it.
func TestNoStart(t *testing.T) {
	nstest.Root(t)
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := engine.Open(engine.Options{Dir: dir, Runtime: nstest.Binary(t, "kakuri-runtime")})
	if err != nil {
		t.Fatal(err)
	}
	list, err := Run(context.Background(), Options{Engine: e, Experiments: tour.Experiments()})
	if err != nil || len(list) != 14 {
		t.Fatalf("%d results, %v", len(list), err)
	}
	for _, r := range list {
		var start *tour.StartError
		switch r.Experiment.ID {
		case "E1":
			if !r.Holds() {
				t.Errorf("E1: %v", r.Fault())
			}
		case "E2", "E3", "E12":
			if !errors.As(r.Err, &start) || start.First != "E2" {
				t.Errorf("%s: %v", r.Experiment.ID, r.Err)
			}
		default:
			if r.Err == nil || r.Reading != nil {
				t.Errorf("%s: %v, %v", r.Experiment.ID, r.Reading, r.Err)
			}
		}
	}
}

func TestAsk(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	ctx := context.Background()
	c, err := start(ctx, open(t), engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.end()
	for _, q := range []struct{ script, want string }{
		{"true", "[]"}, {"echo a; echo 'b c'", "[a b c]"}, {"cat < /dev/null", "[]"}, {"echo '--'", "[--]"},
	} {
		if lines, err := c.ask(ctx, q.script); err != nil || fmt.Sprint(lines) != q.want {
			t.Errorf("%q: %q, %v", q.script, lines, err)
		}
	}
	if n, err := c.number(ctx, "echo 42"); n != 42 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	// What is written to stderr may come after the answer.
	nstest.Until(t, "the message of a script", func() bool {
		_, err := c.ask(ctx, "echo x; echo out of order >&2; false")
		return err != nil && strings.Contains(err.Error(), "ended with code 1: out of order")
	})
	for script, want := range map[string]string{"true": "printed 0 lines, not one", "echo; echo": "printed 2 lines"} {
		if _, err := c.line(ctx, script); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", script, err)
		}
	}
	if _, err := c.number(ctx, "echo many"); err == nil || !strings.Contains(err.Error(), `"many", not a number`) {
		t.Errorf("%v", err)
	}
	if _, err := c.ask(ctx, "echo last words >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("a shell that ends: %v", err)
	}
	<-c.done
	if err := c.ending(); !strings.Contains(err.Error(), "ended with code 3: ") || !strings.Contains(err.Error(), "last words") {
		t.Errorf("ending: %v", err)
	}
	if _, err := c.ask(ctx, "true"); err == nil {
		t.Error("a shell that ended answers")
	}
}

// A container that hangs does not hang the tour.
func TestAskTimeout(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	c, err := start(context.Background(), open(t), engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.end()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.ask(ctx, "read forever < /dev/zero; mkfifo /tmp/x; cat < /tmp/x"); err == nil {
		t.Fatal("answered")
	}
	select {
	case <-c.done:
	case <-time.After(patience):
		t.Fatal("the container goes on")
	}
}

func TestServe(t *testing.T) {
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNET}, testServe) // nobody had its port a minute ago
}

func testServe(t *testing.T) {
	nstest.Loopback(t)
	nstest.NoLeaks(t)
	port, err := freePort(8080)
	if err != nil || port != 8080 {
		t.Fatalf("%d, %v", port, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string), make(chan error)
	go func() { done <- Serve(ctx, port, chanWriter(ready)) }()
	if said := <-ready; said != "listening on 127.0.0.1:8080\n" {
		t.Errorf("said %q", said)
	}
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if answer, err := Ask(port); err != nil || answer != name {
			t.Errorf("%q, %v", answer, err)
		}
	}
	if other, err := freePort(port); err != nil || other == port || other == 0 {
		t.Errorf("a taken port: %d, %v", other, err)
	}
	if err := Serve(ctx, port, nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a taken port: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := Ask(port); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
}

type chanWriter chan string

func (c chanWriter) Write(p []byte) (int, error) {
	c <- string(p)
	return len(p), nil
}

func TestSegment(t *testing.T) {
	nstest.Root(t)
	lines := func() []string {
		data, err := os.ReadFile("/proc/sysvipc/shm")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(string(data), "\n")
	}
	id, drop, err := newSegment()
	if err != nil {
		t.Fatal(err)
	}
	if !hasSegment(lines(), id) {
		t.Error("it is not there")
	}
	if hasSegment(lines(), id+1) {
		t.Error("another one is")
	}
	drop()
	if hasSegment(lines(), id) {
		t.Error("it is still there")
	}
}

// kakuri returns the command.
func kakuri(t *testing.T, args ...string) *exec.Cmd {
	c := exec.Command(nstest.Binary(t, "kakuri"), args...)
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	return c
}

func TestCommand(t *testing.T) {
	nstest.Root(t)
	nstest.Loopback(t)
	nstest.NoLeaks(t)
	var out, errs bytes.Buffer
	c := kakuri(t, "tour")
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Errorf("%v: %s", err, errs.String())
	}
	for _, want := range []string{"\nE1  Every process", "\nE15 ", "14 of 14 observations hold (", "kakuri explain run host ls"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.ContainsRune(out.String(), '\x1b') || errs.Len() > 0 {
		t.Errorf("colour into a pipe, or something on stderr: %s", errs.String())
	}

	out.Reset()
	c = kakuri(t, "tour", "7", "--format", "json") // flags may follow
	c.Env = append(c.Env, "LC_ALL=ja_JP.UTF-8")
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Errorf("%v: %s", err, errs.String())
	}
	var records []tour.Record
	if err := json.Unmarshal(out.Bytes(), &records); err != nil || len(records) != 1 {
		t.Fatalf("%v:\n%s", err, out.String())
	}
	if r := records[0]; r.ID != "E7" || !r.Holds || r.Error != "" || r.Title != experiment(t, "E7").Title(ui.JA) {
		t.Errorf("%+v", r)
	}
	if svg := filepath.Join(t.TempDir(), "tree.svg"); true {
		if text, err := kakuri(t, "tour", "--svg", svg, "E15").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
		if data, err := os.ReadFile(svg); err != nil || !bytes.Contains(data, []byte("</svg>")) {
			t.Errorf("the picture: %v", err)
		}
	}
}

// A tour that cannot observe says so with its exit code.
func TestCommandFails(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	var out, errs bytes.Buffer
	c := nstest.User(t).Command(nstest.Binary(t, "kakuri"), "tour", "E1", "E2")
	c.Env = append(c.Env, "XDG_RUNTIME_DIR=/proc/version") // where no records can be kept
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if c.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), "1 of 2 observations hold") ||
		!strings.Contains(out.String(), "E2 FAILED: its container does not start: ") {
		t.Errorf("%v\n%s", err, out.String())
	}
	if errs.String() != "kakuri: 1 of 2 observations do not hold\n" {
		t.Errorf("stderr %q", errs.String())
	}
}

// waiting starts a tour that waits for Enter with its containers running.
func waiting(t *testing.T, out *os.File) (c *exec.Cmd, enter func()) {
	c = kakuri(t, "tour", "--pause")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout = out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	enter = func() {
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Error(err)
		}
	}
	for range 6 {
		enter()
	}
	return c, enter
}

func running(t *testing.T) int {
	out, err := kakuri(t, "ps", "-q").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(out), "\n")
}

func TestInterrupt(t *testing.T) {
	nstest.Root(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			nstest.NoLeaks(t, "/run/kakuri/containers")
			c, _ := waiting(t, nil)
			nstest.Until(t, "two containers", func() bool { return running(t) == 2 })
			c.Process.Signal(sig)
			c.Wait()
			if code := c.ProcessState.ExitCode(); code != 130 {
				t.Errorf("exit code %d", code)
			}
			if n := running(t); n != 0 {
				t.Errorf("%d containers are left", n)
			}
		})
	}
}

// A reader that goes away, as head(1) does, ends the tour and its containers.
func TestBrokenPipe(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t, "/run/kakuri/containers")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c, enter := waiting(t, w)
	w.Close()
	nstest.Until(t, "two containers", func() bool { return running(t) == 2 })
	r.Close()
	enter()
	c.Wait()
	if code := c.ProcessState.ExitCode(); code != 128+int(syscall.SIGPIPE) {
		t.Errorf("exit code %d", code)
	}
	if n := running(t); n != 0 {
		t.Errorf("%d containers are left", n)
	}
}

func Example() {
	e, err := engine.Open(engine.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	list, err := tour.Find([]string{"E1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	results, err := Run(context.Background(), Options{Engine: e, Experiments: list})
	fmt.Println(tour.Held(results), err)
	// Output: 1 <nil>
}
