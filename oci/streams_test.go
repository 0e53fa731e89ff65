package oci

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestOwnStreamsNull: the machine's null device is given to nobody, where a container has the machine's /dev, too.
func TestOwnStreamsNull(t *testing.T) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	saved, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(saved)
	if err := unix.Dup2(int(null.Fd()), 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Dup2(saved, 0)
	if list := ownStreams(nil, &specs.Process{User: specs.User{UID: 1234}}); slices.Contains(list, 0) {
		t.Errorf("%v are to be the user's", list)
	}
}

// The process's user opens the streams anew that he was given, pipes and files, and /dev/null stays as it was.
func TestOwnStreams(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	const again = "for n in 1 2; do echo $n >>/proc/self/fd/$n; done; cat /proc/self/fd/0"
	s := base(again)
	s.Process.User = specs.User{UID: 33, GID: 44}
	s.Process.Capabilities = &specs.LinuxCapabilities{}
	dir := bundle(t, s)
	owner := func(file string) uint32 {
		t.Helper()
		st, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return st.Sys().(*syscall.Stat_t).Uid
	}
	null := owner("/dev/null")
	stream := func(c *exec.Cmd) {
		t.Helper()
		errs, err := os.OpenFile(filepath.Join(nstest.Dir(t), "errors"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer errs.Close()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		c.Stdout, c.Stderr = w, errs
		err = c.Run()
		w.Close()
		out, e := io.ReadAll(r)
		written, e2 := os.ReadFile(errs.Name())
		if err != nil || e != nil || e2 != nil || string(out) != "1\n" || string(written) != "2\n" {
			t.Errorf("%v %v %v: %q %q", err, e, e2, out, written)
		}
		if uid := owner(errs.Name()); uid != 33 {
			t.Errorf("stderr is user %d's", uid)
		}
	}
	stream(p.command("run", "-b", dir, "c"))

	s.Process.Args, s.Process.User = []string{"sleep", "1000"}, specs.User{}
	write(t, dir, s)
	p.good("run", "-d", "-b", dir, "c")
	stream(p.command("exec", "-u", "33:44", "c", "sh", "-c", again))
	p.good("delete", "-f", "c")
	if now := owner("/dev/null"); now != null {
		t.Errorf("/dev/null is user %d's, and was user %d's", now, null)
	}

	// What is nobody's in the user namespace stays its owner's.
	s.Process.Args, s.Process.User = []string{"sh", "-c", "echo 2 >&2; echo 1"}, specs.User{UID: 33}
	ids := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Mounts = nil
	write(t, dir, s)
	if out := p.good("run", "-b", dir, "c"); out != "2\n1\n" {
		t.Errorf("%q", out)
	}
	p.empty()
}
