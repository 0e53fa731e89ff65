package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// An outcome is what a command did, as a shell would see it.
type outcome struct {
	out, errs string
	code      int
}

// oracle runs one command line with util-linux's program in it, and with kakuri's
// command in its place: {tool} stands for both.
type oracle struct {
	tool, verb string // unshare, unshare; nsenter, enter
	user       bool
	dir        string // working directory
	env        []string
}

// both runs the line with each of them.
func (o oracle) both(t *testing.T, args ...string) (theirs, ours outcome) {
	t.Helper()
	return o.run(t, append([]string{o.tool}, args...)...), o.run(t, append([]string{"kakuri", o.verb}, args...)...)
}

func (o oracle) run(t *testing.T, args ...string) outcome {
	t.Helper()
	c := o.command(t, args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{out.String(), errs.String(), shellCode(c.ProcessState)}
}

// shellCode is a process's end as $? has it.
func shellCode(s *os.ProcessState) int {
	if st, ok := s.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return 128 + int(st.Signal())
	}
	return s.ExitCode()
}

func (o oracle) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if o.user {
		args = append([]string{"as-user"}, args...)
	}
	c := exec.Command(args[0], args[1:]...)
	c.Dir = o.dir
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	c.ExtraFiles = []*os.File{null} // a descriptor of the caller's
	var boot, mono unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono)
	c.Env = append(os.Environ(), o.env...)
	c.Env = append(c.Env, "XDG_RUNTIME_DIR="+userRuntimeDir(t), "LC_ALL=C", "SHELL=/bin/sh",
		callerEnv+"="+strings.Join(links(), " ")+fmt.Sprint(" pgrp=", unix.Getpgrp()), fmt.Sprint("PROBE_CLOCKS=", boot.Sec, " ", mono.Sec))
	return c
}

// userRuntimeDir is where the ordinary user's records are, for tests that are no scripts.
func userRuntimeDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("/run", "user-of-tests")
	uid, gid, err := account("kakuri-test")
	if err == nil {
		if err = os.Mkdir(dir, 0o700); errors.Is(err, os.ErrExist) {
			return dir
		}
	}
	if err := errors.Join(err, os.Chown(dir, uid, gid)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// same fails the test unless both did the same.
func same(t *testing.T, theirs, ours outcome) {
	t.Helper()
	if theirs.code != ours.code {
		t.Errorf("exit code %d, want %d\n%s%s", ours.code, theirs.code, ours.errs, theirs.errs)
	}
	if (theirs.errs == "") != (ours.errs == "") {
		t.Errorf("stderr %q, want %q", ours.errs, theirs.errs)
	}
	want, got := strings.Split(theirs.out, "\n"), strings.Split(ours.out, "\n")
	if theirs.out != ours.out && len(want) != len(got) {
		t.Errorf("it printed\n%s\nwant\n%s", ours.out, theirs.out)
		return
	}
	for i := range want {
		if want[i] != got[i] {
			t.Errorf("%s\nwant %s", got[i], want[i])
		}
	}
}
