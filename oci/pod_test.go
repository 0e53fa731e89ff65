package oci

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// inPod runs a container that does nothing, and gives the namespace entry of those that are made in its pid namespace.
func inPod(t *testing.T, p place) specs.LinuxNamespace {
	t.Helper()
	p.good("run", "--detach", "--bundle", bundle(t, withDev(base("exec sleep 1000"))), "pod")
	t.Cleanup(func() { p.do("delete", "--force", "pod") })
	return specs.LinuxNamespace{Type: specs.PIDNamespace, Path: fmt.Sprintf("/proc/%d/ns/pid", p.state("pod").Pid)}
}

// TestPod has the life of a container that is made in another's pid namespace: whoever asks for its process gets the one that is there, from its creation on.
func TestPod(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	pids := inPod(t, p)
	inside, err := os.Readlink(pids.Path)
	if err != nil {
		t.Fatal(err)
	}
	hook := specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >>$0"}}
	for name, change := range map[string]func(*specs.Spec, string){
		"plain": func(*specs.Spec, string) {},
		"hooks": func(s *specs.Spec, told string) {
			hook.Args = append(hook.Args[:3:3], told)
			s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{hook}, Poststart: []specs.Hook{hook}}
		},
		"started": func(s *specs.Spec, told string) {
			hook.Args = append(hook.Args[:3:3], told)
			s.Hooks = &specs.Hooks{Poststart: []specs.Hook{hook}}
		},
		"protected": func(s *specs.Spec, _ string) {
			s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = []string{"/proc/keys", "/proc/kcore"}, []string{"/proc/sys"}
			s.Process.NoNewPrivileges = true
		},
		"lxcfs": func(s *specs.Spec, _ string) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/proc/net/dev", Type: "bind", Source: "/etc/hostname", Options: []string{"bind", "ro"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := withDev(base(`test $(readlink /proc/self) != 1 && readlink /proc/self/ns/pid && tr '\0' ' ' </proc/1/cmdline; exec sleep 1000`))
			s.Linux.Namespaces[0] = pids
			told := filepath.Join(nstest.Dir(t), "told")
			change(s, told)
			dir, file := bundle(t, s), filepath.Join(nstest.Dir(t), "pid")
			out, err := os.Create(filepath.Join(nstest.Dir(t), "out"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			create := p.command("create", "--pid-file", file, "--bundle", dir, name)
			create.Stdout, create.Stderr = out, out
			if err := create.Run(); err != nil {
				t.Fatal(err, read(out.Name()))
			}
			defer p.do("delete", "--force", name)
			state := p.state(name)
			pid := strconv.Itoa(state.Pid)
			if got, err := os.Readlink("/proc/" + pid + "/ns/pid"); err != nil || got != inside || state.Status != specs.StateCreated {
				t.Errorf("%s: %s in %s, not %s, %v", pid, state.Status, got, inside, err)
			}
			if data, err := os.ReadFile(file); err != nil || string(data) != pid {
				t.Errorf("the pid file has %q, the state %s, %v", data, pid, err)
			}
			if fds, err := os.ReadDir("/proc/" + pid + "/fd"); err != nil || len(fds) != 5 {
				t.Errorf("it has %v, %v", fds, err)
			}
			p.good("start", name)
			nstest.Until(t, "its words", func() bool { data, _ := os.ReadFile(out.Name()); return strings.HasSuffix(string(data), "sleep 1000 ") })
			if data, _ := os.ReadFile(out.Name()); string(data) != inside+"\nsleep 1000 " {
				t.Errorf("%s", data)
			}
			if n := strings.Count(read(told), `"pid":`+pid); s.Hooks != nil && n != len(s.Hooks.CreateRuntime)+len(s.Hooks.Poststart) {
				t.Errorf("pid %s, and hooks were told %s", pid, read(told))
			}
			if p.state(name).Pid != state.Pid {
				t.Error("it is another process since its start")
			}
			p.good("kill", name, "KILL")
			nstest.Until(t, "its end", func() bool { return p.state(name).Status == specs.StateStopped })
		})
	}
}

func read(file string) string {
	data, _ := os.ReadFile(file)
	return string(data)
}

// TestPodCreated: one that waits for its start ends by a signal, and by a delete.
func TestPodCreated(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := withDev(base("true"))
	s.Linux.Namespaces[0] = inPod(t, p)
	dir := bundle(t, s)
	for _, end := range [][]string{{"kill", "x", "TERM"}, {"delete", "--force", "x"}} {
		p.good("create", "--bundle", dir, "x")
		first := p.state("x").Pid
		p.good(end...)
		nstest.Until(t, "its end", func() bool {
			return unix.Kill(first, 0) != nil || strings.Contains(read(fmt.Sprintf("/proc/%d/stat", first)), ") Z ")
		})
		p.do("delete", "--force", "x")
	}
}

// TestPodRuntimeKilled: whenever the runtime is killed, the container is waiting, or not there, and in the pid namespace nothing is left of it that a delete does not end. One
// that runs in the foreground ends with its runtime.
func TestPodRuntimeKilled(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	pids := inPod(t, p)
	s := withDev(base("exec sleep 1000"))
	s.Linux.Namespaces[0] = pids
	dir := bundle(t, s)
	others := func() (n int) {
		inside, err := os.Readlink(pids.Path)
		if err != nil {
			t.Fatal(err)
		}
		list, _ := os.ReadDir("/proc")
		for _, e := range list {
			if ns, err := os.Readlink("/proc/" + e.Name() + "/ns/pid"); err == nil && ns == inside {
				n++
			}
		}
		return n - 1
	}
	states := map[specs.ContainerState]int{}
	for i := range often(150) {
		c := p.command("create", "--bundle", dir, "x")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 200 * time.Microsecond)
		c.Process.Kill()
		c.Wait()
		if out, code := p.do("state", "x"); code == 0 {
			_, status, _ := strings.Cut(out, `"status": "`)
			status, _, _ = strings.Cut(status, `"`)
			states[specs.ContainerState(status)]++
		}
		p.do("delete", "--force", "x")
		nstest.Until(t, "the end of all", func() bool { return others() == 0 })
	}
	t.Logf("killed, it was: %v", states)
	c := p.command("run", "--bundle", dir, "x")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "it runs", func() bool { out, code := p.do("state", "x"); return code == 0 && strings.Contains(out, "running") })
	first := p.state("x").Pid
	c.Process.Kill()
	c.Wait()
	nstest.Until(t, "its end", func() bool { return others() == 0 })
	if exe, err := exec.Command("readlink", fmt.Sprintf("/proc/%d/exe", first)).Output(); err == nil {
		t.Errorf("there is %s", exe)
	}
	p.do("delete", "--force", "x")
}
