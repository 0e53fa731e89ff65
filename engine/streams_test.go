package engine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// noise is n bytes of every value, the same at each call.
func noise(n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{1})
	src.Read(b)
	return b
}

// Ten megabytes there and back arrive as they were sent, on all three streams.
func TestStreamsAreExact(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	data := noise(10 << 20)
	for _, init := range []bool{false, true} {
		var stdout, stderr bytes.Buffer
		r := sh(root, "tee /dev/stderr")
		r.Interactive, r.Init = true, init
		res, err := e.Run(context.Background(), r, Streams{In: bytes.NewReader(data), Out: &stdout, Err: &stderr}, RunOptions{})
		if err != nil || res.Code != 0 {
			t.Fatalf("%v: code %d: %.200s", err, res.Code, stderr.String())
		}
		if !bytes.Equal(stdout.Bytes(), data) || !bytes.Equal(stderr.Bytes(), data) {
			t.Errorf("sent %d bytes, %d and %d came", len(data), stdout.Len(), stderr.Len())
		}
	}
	// By the command, through pipes of the shell.
	c := kakuri(t, "run", "-i", "--rootfs", root, "cat")
	c.Stdin = bytes.NewReader(data)
	out, err := c.Output()
	if err != nil || sha256.Sum256(out) != sha256.Sum256(data) {
		t.Errorf("%v: sent %d bytes, %d came", err, len(data), len(out))
	}
}

// Without -i there is nothing to read; with it, the end of the input is the end.
func TestStdin(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	run := func(r Config, in io.Reader) string {
		t.Helper()
		var out bytes.Buffer
		res, err := e.Run(context.Background(), r, Streams{In: in, Out: &out}, RunOptions{})
		if err != nil || res.Code != 0 {
			t.Errorf("%v: code %d", err, res.Code)
		}
		return out.String()
	}
	r := sh(root, "cat; echo end")
	if got := run(r, strings.NewReader("input")); got != "end\n" {
		t.Errorf("without -i: %q", got)
	}
	r.Interactive = true
	if got := run(r, strings.NewReader("input")); got != "inputend\n" {
		t.Errorf("with -i: %q", got)
	}
	if got := run(r, strings.NewReader("")); got != "end\n" {
		t.Errorf("empty: %q", got)
	}
	if got := run(r, nil); got != "end\n" {
		t.Errorf("none: %q", got)
	}
	// A program that reads but a part, or nothing.
	r = sh(root, "head -c3; echo; exit 0")
	r.Interactive = true
	if got := run(r, bytes.NewReader(noise(1<<20))); len(got) < 1 {
		t.Errorf("%q", got)
	}
	if got := run(Config{Rootfs: root, AutoRemove: true, Interactive: true, Command: []string{"true"}}, bytes.NewReader(noise(1<<20))); got != "" {
		t.Errorf("%q", got)
	}
}

// A container that closes its output goes on, and one whose output cannot be written any more ends.
func TestClosedOutput(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	var stderr bytes.Buffer
	res, err := e.Run(context.Background(), sh(root, "echo one; exec >&-; echo two >&2; exit 4"), Streams{Out: io.Discard, Err: &stderr}, RunOptions{})
	if err != nil || res.Code != 4 || stderr.String() != "two\n" {
		t.Errorf("%v: code %d: %q", err, res.Code, stderr.String())
	}
	begin := time.Now()
	res, err = e.Run(context.Background(), sh(root, "yes; exit 9"), Streams{Out: failing{}}, RunOptions{})
	if err == nil || err.Error() != "standard output: full" || res.Code != 137 || time.Since(begin) > 30*time.Second {
		t.Errorf("%v: code %d after %v", err, res.Code, time.Since(begin))
	}
	// None at all: what it writes is kept in its log.
	if res, err := e.Run(context.Background(), sh(root, "echo x; echo y >&2; test -p /proc/self/fd/1 && exit 6"), Streams{}, RunOptions{}); err != nil || res.Code != 6 {
		t.Errorf("%v: code %d", err, res.Code)
	}
}

// failing is an output that cannot be written.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

// In a pipeline the command ends as a program in its place would: when nobody reads any more,
// with the code of SIGPIPE, and with all that it has to clean up. Streams that are closed are
// as the null device. Output that is lost is an error.
func TestPipeline(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	output(t, kakuri(t, "run", "--rootfs", root, "true")) // makes the directory for records
	nstest.NoLeaks(t, "/run/kakuri")
	endless := "sh -c 'while :; do echo y; done'"
	for _, c := range []struct{ command, pipe, out, code string }{
		{"host yes", "head -n1", "y", "141"},
		{"host " + endless, "head -n1", "y", "141"},
		{"--init host yes", "head -n1", "y", "141"},
		{"--rootfs " + root + " yes", "head -n1", "y", "141"},
		{"--userns host --pid host --rootfs " + root + " yes", "head -n1", "y", "141"},
		{"-t host " + endless, "head -n1 | tr -d '\r'", "y", "141"},
		{"-i host " + endless + " </dev/zero", "head -n1", "y", "141"},
		{"host sh -c 'while :; do echo y >&2; done' 2>&1 >/dev/null", "head -n1", "y", "141"},
		{"host echo y", "cat", "y", "0"},
		{"host sh -c 'yes | head -n1; exit 7'", "cat", "y", "7"},
		{"-i host head -c2 </dev/zero", "wc -c", "2", "0"},
		{"-i host sh -c 'cat; echo y' <&-", "cat", "y", "0"},
		{"-i host sh -c 'cat; echo y' >&-", "cat", "", "0"},
		{"-i host sh -c 'cat; echo y; exit 7' <&- >&- 2>&-", "cat", "", "7"},
		{"host echo y >/dev/full", "cat", "", "125"},
		{"host sh -c 'echo y >&2' 2>/dev/full", "cat", "", "125"},
		{"host sh -c 'exit 7' >/dev/full", "cat", "", "7"},
	} {
		// The code goes into a file, not through the pipe.
		code := filepath.Join(root, "code")
		line := fmt.Sprintf("{ %s run --rm %s; echo $? >%s; } | %s", nstest.Binary(t, "kakuri"), c.command, code, c.pipe)
		var stderr bytes.Buffer
		sh := exec.Command("timeout", "60", "sh", "-c", line)
		sh.Stderr = &stderr
		out, err := sh.Output()
		if err != nil {
			t.Errorf("%s: %v", c.command, err)
		}
		got, err := os.ReadFile(code)
		if strings.TrimSpace(string(out)) != c.out || strings.TrimSpace(string(got)) != c.code || err != nil {
			t.Errorf("%s | %s: %q, code %q: %v: %s", c.command, c.pipe, out, got, err, stderr.String())
		}
	}
}

// Streams belong to the container's user, which may open them again by name.
func TestStreamsCanBeReopened(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, user := range []string{"", "web"} {
		for _, mode := range userns {
			r := sh(root, "echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin")
			r.User, r.UserNS = user, mode
			var stdout, stderr bytes.Buffer
			r.Interactive = true
			res, err := e.Run(context.Background(), r, Streams{In: strings.NewReader("in\n"), Out: &stdout, Err: &stderr}, RunOptions{})
			if err != nil || res.Code != 0 || stdout.String() != "out\nin\n" || stderr.String() != "err\n" {
				t.Errorf("user %q, userns %q: %v: code %d: %q %q", user, mode, err, res.Code, stdout.String(), stderr.String())
			}
		}
	}
}

// A terminal inside: both directions, the size, and the caller's terminal in its old
// mode afterwards.
func TestTTY(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	root := nstest.RootFS(t)
	master, slave := openPTY(t)
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 41, Col: 97}); err != nil {
		t.Fatal(err)
	}
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	c := kakuri(t, "run", "-it", "--rootfs", root, "sh", "-c", "trap 'echo resized' WINCH; tty; stty size; while :; do read -r line || continue; echo \"got <$line>\"; [ \"$line\" = end ] && break; done; stty size; exit 5")
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*time.Minute, func() { c.Process.Kill() })
	defer timer.Stop()
	lines := bufio.NewReader(master)
	expect := func(want string) {
		t.Helper()
		for { // or until it is killed
			got, err := lines.ReadString('\n')
			if got = strings.TrimSpace(got); got == want {
				return
			}
			if err != nil {
				t.Fatalf("waiting for %q: %v", want, err)
			}
		}
	}
	expect("/dev/pts/0")
	expect("41 97")
	fmt.Fprint(master, "hello\r")
	expect("got <hello>")
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 20, Col: 50}); err != nil {
		t.Fatal(err)
	}
	// The kernel tells the foreground of the caller's terminal, which is the command. A shell runs traps between lines: the signal
	// may come just before it reads one.
	heard, quiet := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(quiet)
		for {
			fmt.Fprint(master, "\r")
			select {
			case <-heard:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	expect("resized")
	close(heard)
	<-quiet
	fmt.Fprint(master, "end\r")
	expect("20 50")
	if err := c.Wait(); err == nil || c.ProcessState.ExitCode() != 5 {
		t.Errorf("%v: code %d", err, c.ProcessState.ExitCode())
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("%v: the caller's terminal is left in another mode: %+v, it was %+v", err, after, before)
	}
}

// The terminal has its size before the program can ask for it.
func TestTTYSize(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	var out bytes.Buffer
	r := Config{Rootfs: root, AutoRemove: true, TTY: true, Rows: 41, Columns: 97, Command: []string{"stty", "size"}}
	if res, err := e.Run(context.Background(), r, Streams{Out: &out}, RunOptions{}); err != nil || res.Code != 0 || out.String() != "41 97\r\n" {
		t.Errorf("%v: code %d: %q", err, res.Code, out.String())
	}
}

// Signals to the command reach the container's process; its handler decides.
func TestSignals(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	root := nstest.RootFS(t)
	for _, init := range []bool{false, true} {
		args := []string{"run", "--rootfs", root}
		if init {
			args = append(args, "--init")
		}
		args = append(args, "sh", "-c", "for s in HUP INT USR1 USR2 WINCH QUIT; do trap \"echo $s\" $s; done; trap 'echo TERM; exit 8' TERM; echo ready; while :; do sleep 0.02; done")
		c := kakuri(t, args...)
		stdout, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(2*time.Minute, func() { c.Process.Kill() })
		lines := bufio.NewReader(stdout)
		if got, err := lines.ReadString('\n'); err != nil || got != "ready\n" {
			t.Fatalf("%v %q", err, got)
		}
		// What comes in the first moments is the command's own. One that it would ignore shows when they are over.
		answers := make(chan string)
		go func() {
			defer close(answers)
			for {
				line, err := lines.ReadString('\n')
				if err != nil {
					return
				}
				answers <- strings.TrimSpace(line)
			}
		}()
		for answer := ""; answer == ""; {
			c.Process.Signal(unix.SIGUSR1)
			select {
			case answer = <-answers:
				if answer != "USR1" {
					t.Fatalf("init %v: USR1 arrives as %q", init, answer)
				}
			case <-time.After(20 * time.Millisecond):
			}
		}
		next := func() string {
			answer := "USR1"
			for answer == "USR1" {
				answer = <-answers
			}
			return answer
		}
		for name, sig := range map[string]syscall.Signal{"HUP": unix.SIGHUP, "INT": unix.SIGINT, "USR2": unix.SIGUSR2, "QUIT": unix.SIGQUIT} {
			c.Process.Signal(sig)
			if got := next(); got != name {
				t.Errorf("init %v: %s arrives as %q", init, name, got)
			}
		}
		c.Process.Signal(unix.SIGTERM)
		if got := next(); got != "TERM" {
			t.Errorf("init %v: TERM arrives as %q", init, got)
		}
		for range answers {
		}
		c.Wait()
		timer.Stop()
		if c.ProcessState.ExitCode() != 8 {
			t.Errorf("init %v: code %d", init, c.ProcessState.ExitCode())
		}
	}
}

// -t without a terminal is refused in words.
func TestTTYWithoutTerminal(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	c := kakuri(t, "run", "-it", "--rootfs", root, "true")
	out, err := c.CombinedOutput()
	if err == nil || c.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "terminal") {
		t.Errorf("%v: %s", err, out)
	}
	// -t alone gives the container one all the same.
	c = kakuri(t, "run", "-t", "--rootfs", root, "sh", "-c", "tty; test -t 1 && echo yes")
	if out := output(t, c); strings.ReplaceAll(out, "\r", "") != "/dev/pts/0\nyes\n" {
		t.Errorf("%q", out)
	}
}

// Who starts a container, or attaches to it, and wants nothing of its stdin leaves it open for who does.
func TestStdinIsLeftAlone(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	cfg := sh(nstest.RootFS(t), "echo ready; cat")
	cfg.Interactive, cfg.StdinOnce = true, true
	c, err := e.Create(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Remove(context.Background(), c.ID, RemoveOptions{Force: true}) })
	var first, second bytes.Buffer
	ready, done := make(chan struct{}), make(chan error, 1)
	tell := sync.OnceFunc(func() { close(ready) })
	go func() {
		_, err := e.Attach(t.Context(), c.ID, AttachOptions{Start: true, NoStdin: true}, Streams{Out: writerFunc(func(p []byte) (int, error) {
			tell()
			return first.Write(p)
		})})
		done <- err
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	if _, err := e.Attach(t.Context(), c.ID, AttachOptions{}, Streams{In: strings.NewReader("said\n"), Out: &second}); err != nil || second.String() != "said\n" {
		t.Errorf("who has its stdin: %q, %v", second.String(), err)
	}
	if err := <-done; err != nil || first.String() != "ready\nsaid\n" {
		t.Errorf("who leaves it alone: %q, %v", first.String(), err)
	}
}

// TestHeardNoEnd: who is attached, and hears nothing of the end, is told whether there was one.
func TestHeardNoEnd(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	c := detached(t, e, sh(nstest.RootFS(t), "sleep 1000"))
	if _, err := e.endOf(&c); err == nil || !strings.Contains(err.Error(), "goes on") {
		t.Errorf("it runs: %v", err)
	}
	if err := e.Remove(t.Context(), c.ID, RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.endOf(&c); err == nil || !strings.Contains(err.Error(), "has ended and is removed") {
		t.Errorf("it is gone: %v", err)
	}
}
