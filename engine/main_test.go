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
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/engine/content"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/storage"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	os.Exit(nstest.Main(m, nstest.Options{
		Build: []string{"./cmd/kakuri", "./cmd/kakuri-runtime", "./cmd/kakuri-uplink"},
		Parts: map[string]func([]string) int{"reserver": reserver, "sweeper": sweeper, "churner": churner, "thief": thief, "opener": opener, "hoarder": hoarder, "passer": passer, "forger": forger, "swapper": swapper, "onhost": onHost, "terminals": terminals, "execer": execer, "locker": locker, "uncover": uncover, "typist": typist, "victim": victim, "pauser": pauser, "delayed": delayed, "greeter": greeter, "greeted": greeted, "flooder": flooder, "raw": raw, "parting": parting, "threaded": threaded, worldName: func(args []string) int { return worldChild(args[0]) }, "kakuri-files": func([]string) int { _, code := content.Child(); return code }, "kakuri-storage": func([]string) int { _, code := storage.Child(); return code }, tlsName: func(args []string) int { return tlsChild(args[0]) }},
	}))
}

// open returns an engine with records of its own, whose containers have no network unless they ask for one.
func open(t testing.TB) *Engine {
	t.Helper()
	e := openAt(t, filepath.Join(nstest.Dir(t), "kakuri"))
	// What stays is made now, so that a test sees what is left of its containers.
	if err := e.mkdirs(); err != nil {
		t.Fatal(err)
	}
	lock, err := e.lockMaking(unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	if err := errors.Join(os.WriteFile(e.dir+"/events", nil, 0o600), os.WriteFile(e.dir+"/events.1", nil, 0o600), os.MkdirAll(e.data+"/volumes", 0o700), os.WriteFile(e.data+"/volumes/lock", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	e.sweepDue(time.Now().Add(-time.Hour))
	return e
}

func openAt(t testing.TB, dir string) *Engine {
	t.Helper()
	network := "none"
	if dir == "/run/kakuri" {
		dir, network = "", "" // those of the command, with the data of the command
	}
	e, err := Open(Options{Dir: dir, Network: network, Runtime: nstest.Binary(t, "kakuri-runtime")})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// inside runs a container, and returns what it wrote.
func inside(t testing.TB, e *Engine, r Config) (out string, code int, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	r.AutoRemove = true
	res, err := e.Run(context.Background(), r, Streams{Out: &stdout, Err: &stderr}, RunOptions{})
	var exit *ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Errorf("%v (%T) is no *ExitError", err, err)
	}
	if err != nil && strings.Contains(err.Error(), "cannot be id-mapped") {
		t.Skip("needs Linux 6.3 or newer: an id-mapped tmpfs")
	}
	if stderr.Len() > 0 {
		t.Logf("stderr: %s", stderr.String())
	}
	return stdout.String(), res.Code, err
}

// sh is a run of a line of shell in a root file system.
func sh(root, line string) Config {
	return Config{Rootfs: root, AutoRemove: true, Command: []string{"sh", "-c", line}}
}

// want runs a container that has to end well, and compares what it wrote.
func want(t testing.TB, e *Engine, r Config, out string) {
	t.Helper()
	got, code, err := inside(t, e, r)
	if err != nil || code != 0 || got != out {
		t.Errorf("%q: %v, code %d: %q, want %q", r.Command, err, code, got, out)
	}
}

// refused wants an error with Docker's code, that names what is at fault.
func refused(t testing.TB, e *Engine, r Config, code int, text string) {
	t.Helper()
	out, got, err := inside(t, e, r)
	var exit *ExitError
	if err == nil || !errors.As(err, &exit) {
		t.Errorf("works: code %d: %q", got, out)
		return
	}
	if exit.Code != code || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
		t.Errorf("code %d: %v; want code %d and %q in one line", exit.Code, err, code, text)
	}
}

// kakuri is the built command, with records of its own. What it runs is removed at its end.
func kakuri(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	if args[0] == "run" {
		args = append([]string{"run", "--rm"}, args[1:]...)
	}
	return exec.Command(nstest.Binary(t, "kakuri"), args...)
}

// output runs a command to its end, and fails the test unless it ends well.
func output(t testing.TB, c *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s%s", c.Args, err, out, stderr.String())
	}
	if stderr.Len() > 0 {
		t.Logf("stderr: %s", stderr.String())
	}
	return string(out)
}

// part starts a part of the test binary, and gives its first line.
func part(t testing.TB, name string, args ...string) (c *exec.Cmd, line string, stdin io.Closer) {
	t.Helper()
	c = nstest.Part(name, args...)
	line, stdin = nstest.Background(t, c)
	return c, line, stdin
}

// untilEOF returns a channel that is closed when the standard input ends.
func untilEOF() <-chan struct{} {
	done := make(chan struct{})
	go func() { io.Copy(io.Discard, os.Stdin); close(done) }()
	return done
}

// complain prints an error as the only line of a part.
func complain(err error) int {
	fmt.Println("error:", err)
	return 1
}
