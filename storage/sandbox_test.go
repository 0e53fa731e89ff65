package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/sandbox"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// shutIn is the process that unpacks, taken over by whoever wrote the archive: it tries, and tells what it can.
func shutIn(args []string) int {
	dir, canary := args[0], args[1]
	if err := sandbox.Shut(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	can := map[string]bool{}
	try := func(what string, err error) { can[what] = err == nil }
	try("write in the directory", os.WriteFile(dir+"/written", []byte("x"), 0o644))
	try("give a file away", os.Chown(dir+"/written", 1, 1))
	_, err := os.ReadFile(canary)
	try("read a file beside it", err)
	try("write a file beside it", os.WriteFile(filepath.Dir(dir)+"/escaped", nil, 0o644))
	try("write in its root", os.WriteFile("/escaped", nil, 0o644))
	_, err = os.ReadFile("/proc/1/status")
	try("read /proc", err)
	_, err = net.Dial("udp", "127.0.0.1:53")
	try("make a socket", err)
	try("run a program", exec.Command("/proc/self/exe").Run())
	_, err = unix.Setsid()
	try("leave its session", err)
	try("mount", unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	try("make a namespace", unix.Unshare(unix.CLONE_NEWUSER))
	try("change its root", unix.Chroot(dir))
	try("signal its parent", unix.Kill(os.Getppid(), 0))
	_, _, e := unix.Syscall(unix.SYS_KEYCTL, 0, 0, 0)
	try("ask for a key", e)
	can["ask for a key"] = e != unix.EPERM && e != unix.ENOSYS
	try("trace", syscall.PtraceAttach(os.Getppid()))
	list, err := os.ReadDir("/")
	try("list its root", err)
	for _, e := range list {
		can["see /"+e.Name()] = true
	}
	json.NewEncoder(os.Stdout).Encode(can)
	return 0
}

// TestSandbox: what unpacks a layer can do that, and nothing else, as root and as an ordinary user.
func TestSandbox(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	if err := errors.Join(os.Mkdir(dir+"/in", 0o755), os.WriteFile(dir+"/canary", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	canary, err := os.Open(dir + "/canary")
	if err != nil {
		t.Fatal(err)
	}
	defer canary.Close()
	for _, user := range []bool{false, true} {
		attr := &syscall.SysProcAttr{}
		for _, ns := range sandbox.Namespaces() {
			attr.Cloneflags |= uintptr(ns.CloneFlag())
		}
		if user {
			attr.Cloneflags |= unix.CLONE_NEWUSER
			attr.UidMappings = []syscall.SysProcIDMap{{HostID: 0, Size: 65536}}
			attr.GidMappings = attr.UidMappings
		}
		c := nstest.Part("shut in", dir+"/in", dir+"/canary")
		c.SysProcAttr = attr
		var said strings.Builder
		c.Stderr = &said
		out, err := c.Output()
		var can map[string]bool
		if err := errors.Join(err, json.Unmarshal(out, &can)); err != nil {
			t.Fatalf("%v: %s %s", err, out, said.String())
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(dir, "/"), "/")
		for what, got := range can {
			if want := slices.Contains([]string{"write in the directory", "give a file away", "list its root", "see /proc", "see /" + first}, what); got != want {
				t.Errorf("user namespace %v: %s: %v, want %v", user, what, got, want)
			}
		}
		if len(can) != 18 {
			t.Errorf("%d: %v", len(can), can)
		}
	}
}

// TestUnpackIsShut: a store unpacks a layer in a sandbox, where the program knows of that: in a process whose namespaces are its own.
func TestUnpackIsShut(t *testing.T) {
	nstest.Root(t)
	if !childIsCalled {
		t.Error("TestMain calls Child")
	}
	s, err := Open(Options{Data: nstest.Dir(t), Run: t.TempDir(), Driver: "dirs"})
	if err != nil {
		t.Fatal(err)
	}
	dir := nstest.Dir(t)
	var out strings.Builder
	// An archive is waited for, so the process can be looked at: it is the only child.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	done := make(chan error, 1)
	go func() { done <- s.do(context.Background(), job{Op: jobUnpack, Path: dir}, r, &out) }()
	var facts string
	nstest.Until(t, "a process that unpacks, shut in", func() bool {
		list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range list {
			if line, _ := os.ReadFile(name); strings.HasPrefix(string(line), childName+"\x00") {
				status, _ := os.ReadFile(filepath.Dir(name) + "/status")
				own, _ := os.Readlink(filepath.Dir(name) + "/ns/net")
				mine, _ := os.Readlink("/proc/self/ns/net")
				if facts = string(status); strings.Contains(facts, "Seccomp:\t2") && own != mine {
					return true
				}
			}
		}
		return false
	})
	if !strings.Contains(facts, "NoNewPrivs:\t1") || !strings.Contains(facts, "CapEff:\t000000008800001f") {
		t.Errorf("%s", facts)
	}
	w.Close()
	if err := <-done; err != nil || !strings.HasPrefix(out.String(), "{") { // an empty archive is one
		t.Errorf("%v: %s", err, out.String())
	}
}

// TestUnpackWithoutSignals: an unpack comes to its end where the caller's limit of signals that wait is 0, by which the Go runtime would never hear of its threads.
func TestUnpackWithoutSignals(t *testing.T) {
	nstest.Root(t)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_SIGPENDING, &was); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Data: nstest.Dir(t), Run: t.TempDir(), Driver: "dirs"})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_SIGPENDING, &unix.Rlimit{Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_SIGPENDING, &was) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	nothing, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer nothing.Close()
	var out strings.Builder
	if err := s.do(ctx, job{Op: jobUnpack, Path: nstest.Dir(t)}, nothing, &out); err != nil {
		t.Error(err)
	}
}

// TestStoredLayerIsShut: a layer's stored tar, which a process that unpacks it reads, is nothing that it could write to. It is compared with its digest when it is
// stored, and not again.
func TestStoredLayerIsShut(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	stored := dir + "/layer.tar"
	if err := errors.Join(os.Mkdir(dir+"/in", 0o755), os.WriteFile(stored, []byte("as it was stored"), 0o600)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(stored)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, user := range []bool{false, true} {
		var ids IDs
		if user {
			facts, err := host.Read(host.Needs{})
			if err != nil {
				t.Fatal(err)
			}
			ids = IDs{UIDs: []plan.IDMapping{{Size: 65536}}, GIDs: []plan.IDMapping{{Size: 65536}}, Facts: facts}
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		helper := Helper{Name: overwriterName, Arg: dir + "/in", IDs: ids, Others: sandbox.Namespaces(), In: f, Out: &out}
		if err := helper.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		if now, err := os.ReadFile(stored); out.String() != "read: as it was stored\n" || string(now) != "as it was stored" || err != nil {
			t.Errorf("user namespace %v: it says %q, and what is stored is %q, %v", user, out.String(), now, err)
		}
	}
}

const overwriterName = "overwriter"

// overwriter is the process that unpacks, taken over: it reads what it is given, and opens that once more to write.
func overwriter(dir string) int {
	if err := sandbox.Shut(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Printf("read: %s\n", text)
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, e := range list {
		name := "/proc/self/fd/" + e.Name()
		if to, _ := os.Readlink(name); !strings.Contains(to, "layer.tar") {
			continue
		}
		fmt.Println("it has", name)
		if f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0); err == nil {
			f.WriteString("overwritten")
		}
	}
	return 0
}

// BenchmarkUnpack is what a sandbox costs a layer of one file.
func BenchmarkUnpack(b *testing.B) {
	nstest.Root(b)
	for _, shut := range []bool{false, true} {
		b.Run(fmt.Sprintf("shut=%v", shut), func(b *testing.B) {
			defer func(was bool) { childIsCalled = was }(childIsCalled)
			childIsCalled = shut
			s, err := Open(Options{Data: b.TempDir(), Run: b.TempDir(), Driver: "dirs"})
			if err != nil {
				b.Fatal(err)
			}
			dir := b.TempDir()
			name := b.TempDir() + "/tar"
			if err := os.WriteFile(name, layer(b, "f x text"), 0o600); err != nil {
				b.Fatal(err)
			}
			tar, err := os.Open(name)
			if err != nil {
				b.Fatal(err)
			}
			defer tar.Close()
			for b.Loop() {
				if _, err := tar.Seek(0, io.SeekStart); err != nil {
					b.Fatal(err)
				}
				if err := s.do(context.Background(), job{Op: jobUnpack, Path: dir}, tar, io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
