package nstest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A Place is where [Inside] runs a test.
type Place struct {
	// Flags are CLONE_NEW* bits. With CLONE_NEWNS and CLONE_NEWPID together the
	// process is below an init with its own /proc, /tmp and /run, as the package's
	// tests are; CLONE_NEWNS alone gives a private copy of the mounts.
	Flags uintptr
	// MapRoot maps root of a new user namespace (CLONE_NEWUSER) to the caller.
	MapRoot bool
	// User, when not nil, is who runs it.
	User *Account
}

// Inside runs body in a process of its own at a place: the test function, or the
// subtest, is started once more there, and calls body when it reaches Inside. So
// what comes before Inside runs in both, and a test calls it once.
func Inside(t *testing.T, p Place, body func(t *testing.T)) {
	t.Helper()
	if filepath.Base(os.Args[0]) == againName {
		body(t)
		return
	}
	c := again(t, p)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	runtime.LockOSThread()
	err := c.Run()
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatalf("in a process of its own: %v\n%s", err, out.String())
	}
	if reason, ok := skipped(out.String()); ok {
		t.Skip(reason)
	}
	if !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		t.Fatalf("the process of its own ran nothing:\n%s", out.String())
	}
}

// again is the command that runs test t once more.
func again(t *testing.T, p Place) *exec.Cmd {
	var parts []string
	for part := range strings.SplitSeq(t.Name(), "/") {
		parts = append(parts, "^"+regexp.QuoteMeta(part)+"$")
	}
	args := []string{againName, "-test.run=" + strings.Join(parts, "/"), "-test.v", "-test.timeout=120s", fmt.Sprintf("-test.short=%t", testing.Short())}
	attr := &syscall.SysProcAttr{Cloneflags: p.Flags, Pdeathsig: syscall.SIGKILL}
	if p.Flags&unix.CLONE_NEWNS != 0 && p.Flags&unix.CLONE_NEWPID != 0 {
		args = append([]string{initName, Exe, filepath.Join(home, "bin")}, args...)
	}
	if p.MapRoot {
		id := syscall.SysProcIDMap{HostID: os.Geteuid(), Size: 1}
		if p.User != nil {
			id.HostID = p.User.UID
		}
		attr.UidMappings = []syscall.SysProcIDMap{id}
		id.HostID = os.Getegid()
		if p.User != nil {
			id.HostID = p.User.GID
		}
		attr.GidMappings = []syscall.SysProcIDMap{id}
	}
	c := &exec.Cmd{Path: "/proc/self/exe", Args: args, Env: os.Environ(), SysProcAttr: attr}
	if p.User != nil {
		p.User.dress(c)
	}
	return c
}

// skipped finds a skip's reason in the output of go test -v.
func skipped(out string) (string, bool) {
	before, _, ok := strings.Cut(out, "--- SKIP: ")
	if !ok {
		return "", false
	}
	lines := strings.Split(strings.TrimSpace(before), "\n")
	_, reason, _ := strings.Cut(lines[len(lines)-1], ".go:")
	if _, text, ok := strings.Cut(reason, ": "); ok {
		reason = text
	}
	return reason, true
}
