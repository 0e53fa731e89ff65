package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// setHooks sets the hooks of one point.
func setHooks(s *specs.Spec, point string, list ...specs.Hook) {
	if s.Hooks == nil {
		s.Hooks = &specs.Hooks{}
	}
	switch h := s.Hooks; point {
	case "prestart":
		//lint:ignore SA1019 deprecated, and still what dockerd writes
		h.Prestart = list
	case "createRuntime":
		h.CreateRuntime = list
	case "createContainer":
		h.CreateContainer = list
	case "startContainer":
		h.StartContainer = list
	case "poststart":
		h.Poststart = list
	case "poststop":
		h.Poststop = list
	}
}

// shell is a hook of a line of shell; it gets the environment given, and no more.
func shell(line string, env ...string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", line}, Env: append([]string{"PATH=/bin:/usr/bin"}, env...)}
}

// Every hook runs in its turn, in the right namespaces, with the state on its standard
// input and with its own environment.
func TestHooks(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("echo process >>/log/order; while :; do sleep 0.02; done"))
	log := nstest.Dir(t)
	order := filepath.Join(log, "order")
	s := base("echo process >>/log/order; while :; do sleep 0.02; done")
	s.Annotations = map[string]string{"a": "b"}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/log", Type: "bind", Source: log, Options: []string{"bind", "rw"}})
	for _, point := range plan.HookPoints() {
		at := log
		if point == "startContainer" {
			at = "/log"
		}
		see := fmt.Sprintf("cat >%[1]s/%[2]s.state; readlink /proc/self/ns/mnt >%[1]s/%[2]s.mnt; readlink /proc/self/ns/uts >%[1]s/%[2]s.uts; env >%[1]s/%[2]s.env; echo %[2]s >>%[1]s/order", at, point)
		setHooks(s, point, shell(see, "MINE="+point), shell("echo "+point+"2 >>"+at+"/order"))
	}
	write(t, dir, s)
	have := func(want ...string) {
		t.Helper()
		data, _ := os.ReadFile(order)
		if got := strings.Fields(string(data)); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%v, want %v", got, want)
		}
	}
	var created []string
	for _, point := range plan.HookPoints()[:3] {
		created = append(created, point, point+"2")
	}
	p.good("create", "-b", dir, "c")
	have(created...)
	pid := p.state("c").Pid
	p.good("start", "c")
	nstest.Until(t, "the process writes", func() bool {
		data, _ := os.ReadFile(order)
		return strings.Contains(string(data), "process")
	})
	inside, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/uts", pid))
	if err != nil {
		t.Fatal(err)
	}
	insideMounts, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	p.good("delete", "-f", "c")
	data, _ := os.ReadFile(order)
	lines := strings.Fields(string(data))
	// The process and the hooks after its start are at the same time.
	var rest []string
	for _, l := range lines[len(created):] {
		if l != "process" {
			rest = append(rest, l)
		}
	}
	if strings.Join(rest, " ") != "startContainer startContainer2 poststart poststart2 poststop poststop2" || lines[len(created)] != "startContainer" || lines[len(created)+1] != "startContainer2" {
		t.Errorf("%v", lines)
	}
	for _, point := range plan.HookPoints() {
		read := func(what string) string {
			data, err := os.ReadFile(filepath.Join(log, point+"."+what))
			if err != nil {
				t.Error(err)
			}
			return strings.TrimSpace(string(data))
		}
		var state specs.State
		if err := json.Unmarshal([]byte(read("state")), &state); err != nil {
			t.Errorf("%s: %v: %q", point, err, read("state"))
		}
		want := specs.State{Version: specs.Version, ID: "c", Status: specs.StateCreated, Pid: pid, Bundle: dir, Annotations: s.Annotations}
		in := false
		switch point {
		case "createContainer", "startContainer":
			in, want.Pid = true, 1
		case "poststart":
			want.Status = specs.StateRunning
		case "poststop":
			want.Status, want.Pid = specs.StateStopped, 0
		}
		if fmt.Sprint(state) != fmt.Sprint(want) {
			t.Errorf("%s: %+v, want %+v", point, state, want)
		}
		if got := read("uts") == inside; got != in {
			t.Errorf("%s: uts namespace %s, the container's is %s", point, read("uts"), inside)
		}
		if got := read("mnt") == insideMounts; got != in {
			t.Errorf("%s: mount namespace %s, the container's is %s", point, read("mnt"), insideMounts)
		}
		env := " " + strings.Join(strings.Fields(read("env")), " ") + " "
		for _, own := range []string{"PWD=", "SHLVL=", "_=", "OLDPWD="} { // the shell's
			if i := strings.Index(env, " "+own); i >= 0 {
				env = env[:i] + env[i+1+strings.IndexByte(env[i+1:], ' '):]
			}
		}
		if env != " PATH=/bin:/usr/bin MINE="+point+" " && env != " MINE="+point+" PATH=/bin:/usr/bin " {
			t.Errorf("%s: environment %q", point, env)
		}
	}
	p.empty()
}

// A hook that fails ends the container before its process runs, but for one after its end.
func TestHookFails(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("true"))
	for _, point := range plan.HookPoints() {
		log := nstest.Dir(t)
		s := base("echo process >/log/process; sleep 50")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/log", Type: "bind", Source: log, Options: []string{"bind"}})
		stops := shell("echo stopped >" + log + "/stop")
		setHooks(s, "poststop", stops)
		setHooks(s, point, shell("true"), shell("echo out; echo err >&2; exit 7"), stops)
		write(t, dir, s)
		want := "error running " + point + " hook #1: exit status 7, stdout: out"
		ran := func() bool { _, err := os.Stat(log + "/process"); return err == nil }
		switch point {
		case "poststop":
			p.good("create", "-b", dir, "c")
			if out := p.good("delete", "-f", "c"); !strings.Contains(out, want) || !strings.Contains(out, "level=warning") {
				t.Errorf("%s: %s", point, out)
			}
		case "startContainer", "poststart":
			p.good("create", "-b", dir, "c")
			p.bad(want, "start", "c")
			p.bad("container does not exist", "state", "c")
			if err := os.Remove(log + "/stop"); err != nil {
				t.Errorf("%s: the hooks after the end did not run at the start's: %v", point, err)
			}
			p.bad(want, "run", "-d", "-b", dir, "c")
			p.bad(want, "run", "-b", dir, "c")
		default:
			p.bad(want, "create", "-b", dir, "c")
			p.bad(want, "run", "-b", dir, "c")
		}
		if ran() && point != "poststart" {
			t.Errorf("%s: the process ran", point)
		}
		if _, err := os.Stat(log + "/stop"); err != nil {
			t.Errorf("%s: the hooks after the end did not run", point)
		}
		p.empty()
	}
}

// A hook has its time, and no more; what it leaves behind keeps nobody waiting.
func TestHookTimeout(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("true"))
	second := 1
	for _, point := range []string{"createRuntime", "createContainer", "startContainer"} {
		s := base("true")
		slow := shell("exec sleep 100")
		slow.Timeout = &second
		setHooks(s, point, slow)
		write(t, dir, s)
		p.bad("error running "+point+" hook #0: hook ran past specified timeout of 1.0s", "run", "-b", dir, "c")
	}
	s := base("true")
	pid := filepath.Join(nstest.Dir(t), "pid")
	setHooks(s, "createRuntime", shell("sleep 100 & echo $! >"+pid))
	setHooks(s, "poststop", shell("kill $(cat "+pid+")"))
	write(t, dir, s)
	p.good("run", "-b", dir, "c")
	p.empty()
}

// One that is not there is named by its own path, wherever it runs.
func TestHookMissing(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	for _, point := range []string{"createRuntime", "createContainer", "startContainer"} {
		s := base("true")
		setHooks(s, point, specs.Hook{Path: "/not/there"})
		p.bad("error running "+point+" hook #0: fork/exec /not/there: no such file or directory", "run", "-b", bundle(t, s), "c")
	}
	p.empty()
}

// A time that is longer than this program's clock goes is no time in the past.
func TestHookLongTimeout(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("true")
	hook := shell("true")
	hook.Timeout = new(int)
	*hook.Timeout = math.MaxInt
	setHooks(s, "createRuntime", hook)
	setHooks(s, "startContainer", hook)
	p.good("run", "-b", bundle(t, s), "c")
	p.empty()
}

// What a hook in the container's namespaces sends to its own group of processes does not reach the runtime and who called it: there the
// runtime is pid 0, as $PPID, and kill(2) takes that for the group.
func TestHookSignalsItsGroup(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	for _, point := range []string{"createContainer", "startContainer"} {
		s := base("true")
		setHooks(s, point, shell("kill -9 0"))
		p.bad("error running "+point+" hook #0: signal: killed", "run", "-b", bundle(t, s), "c")
	}
	p.empty()
}

// A hook after a creation that failed asks for the container, and has the answer that it is not there: nobody waits for the creation then.
func TestHookAsksAfterFailure(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	log := filepath.Join(nstest.Dir(t), "log")
	s := base("true")
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/not/there", Options: []string{"bind"}})
	ask := p.command("state", "c")
	hook := shell("timeout 60 " + strings.Join(ask.Args, " ") + " >" + log + " 2>&1")
	hook.Env = append(os.Environ(), ask.Env...)
	setHooks(s, "poststop", hook)
	p.bad("/not/there", "create", "-b", bundle(t, s), "c")
	if data, err := os.ReadFile(log); err != nil || !strings.Contains(string(data), "container does not exist") {
		t.Errorf("%v: the hook was told %q", err, data)
	}
	p.empty()
}

// A hook that changes the container it runs for would wait for who waits for it. It is told so in a second; what changes no state it may do.
func TestHookOfItsOwnContainer(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	log := filepath.Join(nstest.Dir(t), "log")
	for _, point := range []string{"createRuntime", "poststart"} {
		for _, args := range [][]string{{"delete", "c"}, {"delete", "-f", "c"}, {"start", "c"}, {"pause", "c"}, {"resume", "c"}, {"update", "--pids-limit", "9", "c"}} {
			s := base("exec sleep 100")
			ask := p.command(args...)
			hook := shell("timeout 20 " + strings.Join(ask.Args, " ") + " >" + log + " 2>&1; test $? = 1")
			hook.Env = append(os.Environ(), ask.Env...)
			setHooks(s, point, hook)
			p.good("run", "-d", "-b", bundle(t, s), "c")
			if data, err := os.ReadFile(log); err != nil || !strings.Contains(string(data), "a hook can ask for the state") {
				t.Errorf("%s, %v: %v: the hook was told %q", point, args, err, data)
			}
			if got := p.good("state", "c"); !strings.Contains(got, `"running"`) {
				t.Errorf("%s, %v: %s", point, args, got)
			}
			p.good("delete", "-f", "c")
		}
	}
	p.empty()
}

// A command that a hook leaves in the background waits for the hook's end, and that of who runs it, and does then what it is to.
func TestHookLeavesCommand(t *testing.T) {
	nstest.Root(t)
	p := newPlace(t)
	log := filepath.Join(nstest.Dir(t), "log")
	s := limited("exec sleep 100", 100)
	s.Linux.CgroupsPath = "" // its own name
	ask := p.command("update", "--pids-limit", "9", "c")
	hook := shell(strings.Join(ask.Args, " ") + " >" + log + " 2>&1 </dev/null & sleep 0.3; exit 0")
	hook.Env = append(os.Environ(), ask.Env...)
	setHooks(s, "poststart", hook)
	p.good("run", "-d", "-b", bundle(t, s), "c")
	for end := time.Now().Add(10 * time.Second); !strings.Contains(p.good("events", "--stats", "c"), `"limit":9}`); time.Sleep(50 * time.Millisecond) {
		if said, _ := os.ReadFile(log); len(said) > 0 || time.Now().After(end) {
			t.Errorf("it did nothing: %s", said)
			break
		}
	}
	p.good("delete", "-f", "c")
	p.empty()
}

// A hook without an argument gets its path; one at the start without an environment gets the
// process's, with a HOME.
func TestHookDefaults(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("true"))
	script := func(name, text string) {
		if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script(filepath.Join(dir, "rootfs/check"), `test "$A" = 1 && test -n "$HOME" && test "$0" = /check && pwd >/seen`)
	out := filepath.Join(nstest.Dir(t), "out")
	hook := filepath.Join(nstest.Dir(t), "hook")
	script(hook, `test "$0" = `+hook+` && test -z "$A" && pwd >`+out)
	s := base("true")
	setHooks(s, "createRuntime", specs.Hook{Path: hook})
	setHooks(s, "startContainer", specs.Hook{Path: "/check"})
	write(t, dir, s)
	p.good("run", "-b", dir, "c")
	if data, err := os.ReadFile(out); err != nil || string(data) != dir+"\n" {
		t.Errorf("%v: %q", err, data)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "rootfs/seen")); err != nil || string(data) != "/\n" {
		t.Errorf("%v: %q", err, data)
	}
	s.Hooks.CreateRuntime[0].Path = "/no/such"
	write(t, dir, s)
	p.bad("error running createRuntime hook #0: fork/exec /no/such: no such file", "run", "-b", dir, "c")
	p.empty()
}

// A hook outside without an environment has the runtime's; one with an empty one has none.
func TestHookInherits(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	t.Setenv("KAKURI_SEEN", "outside")
	p := newPlace(t)
	s := base("true")
	dir := bundle(t, s)
	out := filepath.Join(nstest.Dir(t), "out")
	seen := specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "echo ${KAKURI_SEEN-none} >>" + out}}
	for _, point := range plan.HookPoints() {
		if point != "startContainer" { // which has the process's
			setHooks(s, point, seen)
		}
	}
	write(t, dir, s)
	p.good("run", "-b", dir, "c")
	if data, err := os.ReadFile(out); err != nil || string(data) != "outside\noutside\nnone\noutside\noutside\n" {
		t.Errorf("%v: %q", err, data)
	}
	s.Hooks = nil
	setHooks(s, "createRuntime", specs.Hook{Path: seen.Path, Args: seen.Args, Env: []string{"EMPTY"}})
	write(t, dir, s)
	config := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(config)
	if err == nil {
		err = errors.Join(os.Remove(out), os.WriteFile(config, bytes.ReplaceAll(data, []byte(`"EMPTY"`), nil), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	p.good("run", "-b", dir, "c")
	if data, err := os.ReadFile(out); err != nil || string(data) != "none\n" {
		t.Errorf("empty: %v: %q", err, data)
	}
	p.empty()
}

// Hooks of the creation that enter the container's mount namespace find the root in it where the bundle has it, and what they
// mount there is the container's alone. One that is run inside begins in the root.
func TestHooksMount(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("cat /from/prestart /from/createRuntime /from/createContainer")
	dir := bundle(t, s)
	from := filepath.Join(dir, "rootfs/from")
	if err := os.Mkdir(from, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, point := range []string{"prestart", "createRuntime", "createContainer"} {
		at, enter := from, `nsenter -m -t $(tr , '\n' | sed -n 's/"pid"://p') -- `
		if point == "createContainer" {
			at, enter = "./from", ""
		}
		source := filepath.Join(nstest.Dir(t), point)
		for file, text := range map[string]string{source: point + "\n", filepath.Join(from, point): "covered"} {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		setHooks(s, point, shell(enter+"mount --bind "+source+" "+at+"/"+point))
	}
	write(t, dir, s)
	if out := p.good("run", "-b", dir, "c"); out != "prestart\ncreateRuntime\ncreateContainer\n" {
		t.Errorf("%q", out)
	}
	if data, err := os.ReadFile(from + "/prestart"); err != nil || string(data) != "covered" {
		t.Errorf("%v: on the host it is %q", err, data)
	}
}

// A user whose container has neither a control group nor a pid namespace of its own is told that not all of it can be ended.
func TestStraysOfAUser(t *testing.T) {
	u := nstest.User(t)
	s := base("true")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Process.Capabilities = nil
	dir := bundle(t, s)
	if out, err := exec.Command("chown", "-R", fmt.Sprintf("%d:%d", u.UID, u.GID), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // those above it are root's
		t.Fatal(err)
	}
	nstest.Inside(t, nstest.Place{User: u}, func(t *testing.T) {
		nstest.NoLeaks(t)
		p := place{t: t, dir: filepath.Join(t.TempDir(), "state")}
		for _, own := range []bool{true, false} {
			if !own {
				s.Linux.Namespaces, s.Mounts = s.Linux.Namespaces[1:], nil
				write(t, dir, s)
			}
			if out := p.good("run", "-b", dir, "c"); strings.Contains(out, "Such configuration is strongly discouraged") == own {
				t.Errorf("a pid namespace of its own is %v: %q", own, out)
			}
		}
		p.empty()
	})
}

// Hooks work for a container that a user without privileges makes.
func TestHooksOfAUser(t *testing.T) {
	u := nstest.User(t)
	dir := bundle(t, base("true"))
	log := nstest.Dir(t)
	s := base("echo process >>/log/order")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: uint32(u.UID), Size: 1}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: uint32(u.GID), Size: 1}}
	s.Process.Capabilities = nil
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/log", Type: "bind", Source: log, Options: []string{"rbind"}})
	for _, point := range plan.HookPoints() {
		at := log
		if point == "startContainer" {
			at = "/log"
		}
		setHooks(s, point, shell("echo "+point+" >>"+at+"/order; readlink /proc/self/ns/user >"+at+"/"+point))
	}
	write(t, dir, s)
	if out, err := exec.Command("chown", "-R", fmt.Sprintf("%d:%d", u.UID, u.GID), dir, log).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The directories above are root's, and closed.
	for _, d := range []string{dir, log} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	nstest.Inside(t, nstest.Place{User: u}, func(t *testing.T) {
		nstest.NoLeaks(t)
		p := place{t: t, dir: filepath.Join(t.TempDir(), "state")}
		// That the user has no cgroup is not said among what the container writes: nobody asked for one.
		if out := p.good("run", "-b", dir, "c"); out != "" {
			t.Errorf("%q", out)
		}
		data, err := os.ReadFile(log + "/order")
		if got := strings.Fields(string(data)); err != nil || len(got) != 7 || got[0] != "prestart" || got[2] != "createContainer" || got[6] != "poststop" {
			t.Errorf("%v: %v", err, got)
		}
		ours, err := os.Readlink("/proc/self/ns/user")
		if err != nil {
			t.Fatal(err)
		}
		for _, point := range plan.HookPoints() {
			data, err := os.ReadFile(filepath.Join(log, point))
			inside := point == "createContainer" || point == "startContainer"
			if in := strings.TrimSpace(string(data)) != ours; err != nil || in != inside {
				t.Errorf("%s: %v: in %s, the user's is %s", point, err, data, ours)
			}
		}
		p.empty()
	})
}
