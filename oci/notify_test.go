package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// notify is a container's process that tells of itself as sd_notify(3) does, and stays until its standard input ends.
func notify([]string) int {
	s, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		println(err.Error())
		return 1
	}
	for _, text := range []string{"STATUS=begun\n", "MAINPID=1\n", "STATUS=done\nREADY=1\n"} {
		s.Write([]byte(text))
	}
	io.Copy(io.Discard, os.Stdin)
	return 6
}

// A manager is who wants to hear: systemd elsewhere.
type manager struct {
	*net.UnixConn
	path string
}

func newManager(t *testing.T) manager {
	t.Helper()
	path := filepath.Join(nstest.Dir(t), "manager")
	s, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.SetDeadline(time.Now().Add(2 * time.Minute))
	return manager{s, path}
}

// next gives what comes next, and closes a descriptor with it.
func (m manager) next(t *testing.T) string {
	t.Helper()
	text, oob := make([]byte, 1000), make([]byte, 100)
	n, k, _, _, err := m.ReadMsgUnix(text, oob)
	if err != nil {
		t.Fatal(err)
	}
	if k > 0 {
		messages, err := unix.ParseSocketControlMessage(oob[:k])
		if err != nil || len(messages) != 1 {
			t.Fatal(err, len(messages))
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			t.Fatal(err, fds)
		}
		unix.Close(fds[0])
		return string(text[:n]) + " with a descriptor"
	}
	return string(text[:n])
}

// The process's word that it is ready reaches who started this program, with the pid to watch; other words of it do not, nor is the
// manager's own socket inside.
func TestNotify(t *testing.T) {
	nstest.Root(t)
	s := base("")
	s.Process.Args = []string{"/notify"}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/notify", Type: "bind", Source: nstest.Exe, Options: []string{"bind", "ro"}})
	for _, lib := range []string{"/lib", "/lib64"} { // of a test binary that was linked with C
		if _, err := os.Stat(lib); err == nil {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: lib, Type: "bind", Source: lib, Options: []string{"bind", "ro"}})
		}
	}
	own := *s
	linux := *s.Linux
	ids := []specs.LinuxIDMapping{{HostID: 100000, Size: 1000}}
	linux.Namespaces = append([]specs.LinuxNamespace{{Type: specs.UserNamespace}}, linux.Namespaces...)
	linux.UIDMappings, linux.GIDMappings = ids, ids
	own.Linux = &linux
	for name, test := range map[string]struct {
		spec  *specs.Spec
		lines [][]string
	}{
		"detached":            {s, [][]string{{"run", "-d"}}},
		"created and started": {s, [][]string{{"create"}, {"start"}}},
		"own user namespace":  {&own, [][]string{{"run", "-d"}}},
		"in the foreground":   {s, [][]string{{"run"}}},
		"in the foreground of a path longer than an address": {s, [][]string{{"run"}}},
	} {
		t.Run(name, func(t *testing.T) {
			nstest.NoLeaks(t)
			p, m := newPlace(t), newManager(t)
			if strings.Contains(name, "longer") {
				p.dir = filepath.Join(p.dir, strings.Repeat("long", 30))
			}
			dir := bundle(t, test.spec)
			if test.spec == &own {
				err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
					return errors.Join(err, os.Lchown(name, 100000, 100000))
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			in, feed, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer feed.Close()
			defer in.Close()
			t.Setenv("NOTIFY_SOCKET", m.path)
			var out bytes.Buffer
			begin := func(verb []string) (end func() int) {
				args := append([]string{}, verb...)
				if verb[0] != "start" {
					args = append(args, "--bundle", dir)
				}
				c := p.command(append(args, "x")...)
				c.Stdin = in
				errs, err := os.CreateTemp(nstest.Dir(t), "out")
				if err != nil {
					t.Fatal(err)
				}
				defer errs.Close()
				c.Stdout, c.Stderr = errs, errs
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if t.Failed() {
						c.Process.Kill()
						c.Wait()
						text, _ := os.ReadFile(errs.Name())
						t.Logf("%v: %v: %s", verb, c.ProcessState, text)
					}
				})
				pid := c.Process.Pid
				if verb[0] == "run" && len(verb) == 1 {
					out.WriteString(strconv.Itoa(pid))
				}
				return func() int {
					c.Wait()
					if text, _ := os.ReadFile(errs.Name()); len(text) > 0 {
						t.Errorf("%v: %s", verb, text)
					}
					return c.ProcessState.ExitCode()
				}
			}
			last := len(test.lines) - 1
			for _, l := range test.lines[:last] {
				if code := begin(l)(); code != 0 {
					t.Fatalf("%v: code %d", l, code)
				}
			}
			end := begin(test.lines[last])
			if got := m.next(t); got != "READY=1\n" {
				t.Errorf("first %q", got)
			}
			pid := out.String()
			if pid == "" {
				pid = strconv.Itoa(p.state("x").Pid)
			}
			if got := m.next(t); got != "MAINPID="+pid+"\n" {
				t.Errorf("second %q, want the pid %s", got, pid)
			}
			if got := m.next(t); got != "BARRIER=1 with a descriptor" {
				t.Errorf("third %q", got)
			}
			if out.Len() > 0 {
				in.Close()
				feed.Close()
				if code := end(); code != 6 {
					t.Errorf("code %d", code)
				}
			} else {
				if code := end(); code != 0 {
					t.Errorf("code %d", code)
				}
				p.good("delete", "--force", "x")
			}
			p.empty()
		})
	}
}

// A process that ends without a word of being ready ends the wait.
func TestNotifyNever(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p, m := newPlace(t), newManager(t)
	t.Setenv("NOTIFY_SOCKET", m.path)
	p.good("run", "-d", "--bundle", bundle(t, base("test -S $NOTIFY_SOCKET && touch /seen")), "x")
	p.good("delete", "--force", "x")
	dir := bundle(t, base("test -S $NOTIFY_SOCKET && echo $NOTIFY_SOCKET"))
	if out := p.good("run", "--bundle", dir, "x"); out != "/run/notify/notify.sock\n" {
		t.Errorf("%q", out)
	}
	p.empty()
}

// A start that was killed when it had made the socket is no hindrance to the next; one that waits keeps its own.
func TestNotifyStartKilled(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p, m := newPlace(t), newManager(t)
	t.Setenv("NOTIFY_SOCKET", m.path)
	p.good("create", "--bundle", bundle(t, base("true")), "x")
	defer p.do("delete", "--force", "x")
	dir, err := unix.Open(filepath.Join(p.dir, "x", noticeDir), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	left, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(left, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, noticeName)}); err != nil {
		t.Fatal(err)
	}
	p.bad("address already in use", "start", "x")
	unix.Close(left)
	p.good("start", "x")
}
