package cgroup

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func ptr[T any](v T) *T { return &v }

// apply compiles and applies r to a cgroup that is there.
func apply(t testing.TB, g *Group, r *specs.LinuxResources) error {
	t.Helper()
	l, err := limits.Compile(r, g.host.Controllers())
	if err != nil {
		return err
	}
	_, err = g.Apply(l)
	return err
}

// TestApplyFake: values reach the files of their hierarchy.
func TestApplyFake(t *testing.T) {
	r := &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: ptr(int64(4096)), Swap: ptr(int64(8192))},
		CPU:     &specs.LinuxCPU{Shares: ptr(uint64(1024)), Quota: ptr(int64(5000)), Cpus: "0"},
		Pids:    &specs.LinuxPids{Limit: ptr(int64(7))},
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}, {Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(3)), Access: "rw"}},
	}
	const v1, v2 = "sys/fs/cgroup/", "sys/fs/cgroup/g/"
	for _, test := range []struct {
		name, mounts, own string
		want              map[string]string
	}{
		{"version 1", v1Mounts, v1Own, map[string]string{
			v1 + "memory/g/memory.limit_in_bytes": "4096", v1 + "memory/g/memory.memsw.limit_in_bytes": "8192", v1 + "cpu,cpuacct/g/cpu.shares": "1024",
			v1 + "cpu,cpuacct/g/cpu.cfs_quota_us": "5000", v1 + "cpuset/g/cpus": "0", v1 + "pids/g/pids.max": "7",
		}},
		{"version 2", unifiedMounts, unifiedOwn, map[string]string{
			v2 + "memory.max": "4096", v2 + "memory.swap.max": "4096", v2 + "cpu.weight": "100", v2 + "cpu.max": "5000 100000", v2 + "cpuset.cpus": "0", v2 + "pids.max": "7",
		}},
	} {
		files := map[string]string{"sys/fs/cgroup/cgroup.controllers": "cpu cpuset memory pids\n"}
		for name := range test.want {
			files[name] = "old value, longer than the new one"
		}
		if test.name == "version 1" {
			for _, dir := range []string{"systemd", "my groups"} {
				files[v1+dir+"/g/"] = ""
			}
			files["my groups/devices/g/devices.list"] = "c 1:3 rw\n"
		} else {
			r.Devices = nil // a program is not for a file system of files
		}
		h, top := fake(t, test.mounts, test.own, files)
		g, err := h.Group(Options{Path: "/g", ID: "id"})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		if err := apply(t, g, r); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		for name, want := range test.want {
			if got, err := os.ReadFile(filepath.Join(top, name)); err != nil || string(got) != want {
				t.Errorf("%s: %s is %q %v, want %q", test.name, name, got, err, want)
			}
		}
	}
}

// TestAgain: values that the kernel refuses because of another one are written once more, as long as that helps.
func TestAgain(t *testing.T) {
	h, top := fake(t, unifiedMounts, unifiedOwn, map[string]string{"sys/fs/cgroup/cgroup.controllers": "memory\n", "sys/fs/cgroup/g/b": "", "sys/fs/cgroup/g/memory.current": "5000"})
	g, err := h.Group(Options{Path: "/g"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	memory := func(file string) limits.Write {
		return limits.Write{Controller: "memory", Version: limits.V2, File: file, Value: "1", Field: "linux.resources.x"}
	}
	// A name with a slash gives EINVAL, as such a refusal does.
	refused := memory("a/b")
	refused.Again = true
	if _, err := g.Apply(limits.Limits{Writes: []limits.Write{refused, memory("b")}}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("refused for good: %v", err)
	}
	if got, _ := os.ReadFile(filepath.Join(top, "sys/fs/cgroup/g/b")); string(got) != "1" {
		t.Errorf("the write after the refused one: %q", got)
	}
	missing := memory("missing")
	other := memory("b")
	other.Value = "2"
	missing.Else = &other
	optional := memory("missing")
	optional.Optional = true
	if _, err := g.Apply(limits.Limits{Writes: []limits.Write{missing, optional}}); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(filepath.Join(top, "sys/fs/cgroup/g/b")); string(got) != "2" {
		t.Errorf("in the place of the missing file: %q", got)
	}
	_, err = g.Apply(limits.Limits{Writes: []limits.Write{memory("missing")}})
	var f *limits.FieldError
	if !errors.As(err, &f) || !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "cannot set memory limit: container could not join or create cgroup") {
		t.Errorf("a file that is missing: %v", err)
	}
	_, err = g.Apply(limits.Limits{Guards: []limits.Guard{{Controller: "memory", File: "memory.current", Limit: 5000, What: "memory limit"}}, Writes: []limits.Write{other}})
	if err == nil || !strings.Contains(err.Error(), "rejecting memory limit 5000 <= usage 5000") {
		t.Errorf("guarded: %v", err)
	}
	if _, err = g.Apply(limits.Limits{Guards: []limits.Guard{{Controller: "memory", File: "memory.current", Limit: 5001}}}); err != nil {
		t.Error(err)
	}
}

// TestNoWayOut: no link and no name leads out of a hierarchy.
func TestNoWayOut(t *testing.T) {
	h, top := fake(t, unifiedMounts, unifiedOwn, map[string]string{"sys/fs/cgroup/g/": "", "secret/memory.max": "host's"})
	for _, link := range []struct{ name, to string }{{"link", "/secret"}, {"relative", "../../../secret"}, {"g/memory.max", "/secret/memory.max"}} {
		if err := os.Symlink(link.to, filepath.Join(top, "sys/fs/cgroup", link.name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"/link", "/link/x", "/relative/x"} {
		g, err := h.Group(Options{Path: p})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Create(limits.Limits{}); !errors.Is(err, unix.ELOOP) {
			t.Errorf("%s: %v, want ELOOP", p, err)
		}
		g.Close()
	}
	g, err := h.Group(Options{Path: "/g"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	w := limits.Write{Controller: "", Version: limits.V2, File: "memory.max", Value: "1"}
	if _, err := g.Apply(limits.Limits{Writes: []limits.Write{w}}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a file that is a link: %v", err)
	}
	if err := g.Join(1, "../x"); err == nil || !strings.Contains(err.Error(), "bad sub cgroup path") {
		t.Errorf("join: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(top, "secret/memory.max")); err != nil || string(got) != "host's" {
		t.Errorf("%q %v", got, err)
	}
	if left, err := os.ReadDir(filepath.Join(top, "secret")); err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
}

// TestUnmake: when one hierarchy fails, nothing stays in the others.
func TestUnmake(t *testing.T) {
	own := "4:pids:/\n3:memory:/\n"
	h, top := fake(t, v1Mounts, own, map[string]string{"sys/fs/cgroup/memory/a": "a file where a directory should be"})
	g, err := h.Group(Options{Path: "/a/b"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Create(limits.Limits{}); err == nil || !strings.Contains(err.Error(), "unable to apply cgroup configuration") {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(top, "sys/fs/cgroup/pids/a")); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
}

// TestThreads: a cgroup of a threaded subtree has no limits that count by the process.
func TestThreads(t *testing.T) {
	for _, test := range []struct {
		kind, controller string
		fails            bool
		then             string
	}{
		{"domain", "memory", false, "domain"},
		{"domain invalid", "memory", true, "domain invalid"},
		{"domain invalid", "pids", false, "threaded"},
		{"threaded", "blkio", true, "threaded"},
		{"threaded", "cpu", false, "threaded"},
		{"domain threaded", "hugetlb", true, "domain threaded"},
	} {
		h, top := fake(t, unifiedMounts, unifiedOwn, map[string]string{"sys/fs/cgroup/g/cgroup.type": test.kind + "\n", "sys/fs/cgroup/g/cgroup.procs": "", "sys/fs/cgroup/g/cgroup.freeze": "0\n"})
		g, err := h.Group(Options{Path: "/g"})
		if err != nil {
			t.Fatal(err)
		}
		err = g.Create(limits.Limits{Writes: []limits.Write{{Controller: test.controller, Version: limits.V2}}})
		g.Close()
		if (err != nil) != test.fails || err != nil && !strings.Contains(err.Error(), "it is in "+test.kind+" mode") {
			t.Errorf("%+v: %v", test, err)
		}
		if got, _ := os.ReadFile(filepath.Join(top, "sys/fs/cgroup/g/cgroup.type")); strings.TrimSpace(string(got)) != test.then {
			t.Errorf("%+v: then %q", test, got)
		}
	}
}

// TestEnable: all controllers go down the tree, one by one where not all at once; a fake takes all. Beside version 1 it is those that a limit needs.
func TestEnable(t *testing.T) {
	const both = "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n38 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	pids := limits.Limits{Writes: []limits.Write{{Controller: "pids", Version: limits.V2}}}
	for _, test := range []struct {
		mounts, own, at string
		limits          limits.Limits
		want            string
	}{
		{unifiedMounts, unifiedOwn, "sys/fs/cgroup/", limits.Limits{}, "+cpu +pids"},
		{both, "2:memory:/\n0::/\n", "sys/fs/cgroup/unified/", limits.Limits{}, "memory\n"},
		{both, "2:memory:/\n0::/\n", "sys/fs/cgroup/unified/", pids, "+pids"},
	} {
		h, top := fake(t, test.mounts, test.own, map[string]string{
			test.at + "cgroup.controllers": "cpu memory pids\n", test.at + "cgroup.subtree_control": "memory\n",
			test.at + "g/cgroup.procs": "", test.at + "g/cgroup.freeze": "0\n",
		})
		g, err := h.Group(Options{Path: "/g"})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Create(test.limits); err != nil {
			t.Error(err)
		}
		g.Close()
		if got, _ := os.ReadFile(filepath.Join(top, test.at+"cgroup.subtree_control")); string(got) != test.want {
			t.Errorf("%s: %q, want %q", test.at, got, test.want)
		}
	}
}

// TestOccupied: a cgroup that has processes, or is frozen, is nobody's new one.
func TestOccupied(t *testing.T) {
	for _, test := range []struct{ procs, freeze, want string }{
		{"1\n2\n", "0\n", "container's cgroup is not empty: 2 process(es) found"},
		{"", "1\n", "container's cgroup unexpectedly frozen"},
	} {
		h, _ := fake(t, unifiedMounts, unifiedOwn, map[string]string{"sys/fs/cgroup/g/cgroup.procs": test.procs, "sys/fs/cgroup/g/cgroup.freeze": test.freeze})
		g, err := h.Group(Options{Path: "/g"})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Create(limits.Limits{}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %s", err, test.want)
		}
		g.Close()
	}
}

// TestOccupiedElsewhere: of version 1 a cgroup may be there in one hierarchy and not in that by which processes are listed. Its processes would get the limits.
func TestOccupiedElsewhere(t *testing.T) {
	const mounts = "32 31 0:29 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	h, top := fake(t, mounts, "2:memory:/\n1:freezer:/\n", map[string]string{
		"sys/fs/cgroup/memory/g/below/cgroup.procs": "1\n2\n", "sys/fs/cgroup/memory/g/cgroup.procs": "",
	})
	g, err := h.Group(Options{Path: "/g"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Create(limits.Limits{}); err == nil || !strings.Contains(err.Error(), "container's cgroup is not empty: 2 process(es) found") {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(top, "sys/fs/cgroup/*/g")); len(left) != 1 {
		t.Errorf("left: %q", left)
	}
}

// TestFreezeFails: what does not stop in time goes on.
func TestFreezeFails(t *testing.T) {
	h, top := fake(t, unifiedMounts, unifiedOwn, map[string]string{"sys/fs/cgroup/g/cgroup.freeze": "0", "sys/fs/cgroup/g/cgroup.events": "populated 1\nfrozen 0\n"})
	g, err := h.Group(Options{Path: "/g"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Freeze(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "unable to freeze") {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(top, "sys/fs/cgroup/g/cgroup.freeze")); err != nil || string(got) != "0" {
		t.Errorf("cgroup.freeze is %q, %v", got, err)
	}
}

// TestKillStandsStill: a signal comes to processes that stand still, so that none forks away from it. They go on then, but those that stood still before.
func TestKillStandsStill(t *testing.T) {
	nstest.Root(t)
	for _, test := range []struct{ before, after string }{{"not frozen", "0"}, {"1", "1"}} {
		m := &member{Cmd: nstest.Part("hold")}
		m.run(t)
		h, top := fake(t, unifiedMounts, unifiedOwn, map[string]string{
			"sys/fs/cgroup/g/cgroup.procs": strconv.Itoa(m.Process.Pid), "sys/fs/cgroup/g/cgroup.events": "frozen 1\n", "sys/fs/cgroup/g/cgroup.freeze": test.before,
		})
		g, err := h.Group(Options{Path: "/g"})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Kill(t.Context(), unix.SIGTERM); err != nil {
			t.Error(err)
		}
		g.Close()
		if sig := m.end(); sig != unix.SIGTERM {
			t.Errorf("ended by %v", sig)
		}
		if got, err := os.ReadFile(filepath.Join(top, "sys/fs/cgroup/g/cgroup.freeze")); err != nil || string(got) != test.after {
			t.Errorf("cgroup.freeze was %q and is %q, %v", test.before, got, err)
		}
	}
}

// TestSignalOfAnother: a number that was read, and has become a process's that is not in the cgroup, gets no signal.
func TestSignalOfAnother(t *testing.T) {
	nstest.Root(t)
	m := &member{Cmd: nstest.Part("hold")}
	m.run(t)
	h, _ := fake(t, unifiedMounts, unifiedOwn, map[string]string{"sys/fs/cgroup/g/cgroup.procs": strconv.Itoa(m.Process.Pid + 1)})
	g, err := h.Group(Options{Path: "/g"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.signal(m.Process.Pid, unix.SIGKILL, nil); err != nil {
		t.Error(err)
	}
	m.in.Close()
	if err := m.Wait(); err != nil {
		t.Error(err)
	}
}

// TestRootlessHybrid: who may divide a cgroup of version 1, and names it, needs none in the hierarchy of version 2 that stands beside it.
func TestRootlessHybrid(t *testing.T) {
	user := nstest.User(t)
	nstest.Inside(t, nstest.Place{User: user}, func(t *testing.T) {
		h, top := fake(t, "37 31 0:34 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n38 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "7:pids:/\n0::/\n",
			map[string]string{"sys/fs/cgroup/pids/mine/cgroup.procs": "", "sys/fs/cgroup/unified/cgroup.controllers": "hugetlb\n"})
		closed := filepath.Join(top, "sys/fs/cgroup/unified")
		if err := os.Chmod(closed, 0o555); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(closed, 0o755) })
		g, err := h.Group(Options{Path: "/mine/id", ID: "id", Rootless: true})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		at := g.Paths() // which a plan binds
		if err := g.Create(limits.Limits{}); err != nil || len(at) != 1 || at["pids"] != "/sys/fs/cgroup/pids/mine/id" {
			t.Errorf("%v: %v", at, err)
		}
	})
}

// TestRootlessUnified: on version 2 an ordinary user goes without a cgroup that is not to be had, and stays where the one that is is closed; not where something was asked for.
func TestRootlessUnified(t *testing.T) {
	user := nstest.User(t)
	nstest.Inside(t, nstest.Place{User: user}, func(t *testing.T) {
		h, top := fake(t, unifiedMounts, unifiedOwn, map[string]string{"sys/fs/cgroup/cgroup.controllers": "pids\n", "sys/fs/cgroup/there/cgroup.procs": "", "sys/fs/cgroup/there/below/cgroup.procs": "", "sys/fs/cgroup/mine/cgroup.procs": ""})
		for _, name := range []string{"there/cgroup.procs", "there/below/cgroup.procs", ""} {
			if err := os.Chmod(filepath.Join(top, "sys/fs/cgroup", name), 0o555); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { os.Chmod(filepath.Join(top, "sys/fs/cgroup"), 0o755) })
		if refuses, err := h.Refuses(Options{Path: "/named", Rootless: true}); err != nil || !refuses {
			t.Errorf("it is refused: %v %v", refuses, err)
		}
		if refuses, err := h.Refuses(Options{Path: "/mine", Rootless: true}); err != nil || refuses {
			t.Errorf("one that is there is refused: %v %v", refuses, err)
		}
		if refuses, err := h.Refuses(Options{Path: "/there", Rootless: true}); err != nil || !refuses {
			t.Errorf("one that is there, and another's, is refused: %v %v", refuses, err)
		}
		pids := limits.Limits{Writes: []limits.Write{{Controller: "pids", Version: limits.V2, File: "pids.max", Value: "5"}}}
		for _, test := range []struct {
			id     string
			path   string
			limits limits.Limits
			want   string
		}{
			{"id", "", limits.Limits{}, ""},
			{"id", "", pids, "rootless needs no limits"},
			{"id", "/named", limits.Limits{}, "unable to apply cgroup configuration"},
			// What has this name is another's: it is neither entered nor, in the end, removed.
			{"there", "", limits.Limits{}, ""},
			{"there", "", pids, "rootless needs no limits"},
		} {
			g, err := h.Group(Options{Path: test.path, ID: test.id, Rootless: true})
			if err != nil {
				t.Fatal(err)
			}
			err = g.Create(test.limits)
			if n := g.Notices(); test.want == "" && (err != nil || len(n) != 1) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%q with %v: %v, %q", test.path, test.limits.Writes, err, n)
			}
			if at := g.Paths(); test.want == "" && len(at) > 0 {
				t.Errorf("%s: it has %v", test.id, at)
			}
			g.Close()
		}
		g, err := h.Open(map[string]string{"": "/sys/fs/cgroup/there"}, Options{ID: "id", Rootless: true})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		if err := g.Join(7, ""); err != nil || len(g.Notices()) != 1 {
			t.Errorf("%v, %q", err, g.Notices())
		}
		if err := g.Join(7, "below"); !errors.Is(err, unix.EACCES) {
			t.Errorf("into one that was asked for: %v", err)
		}
	})
}

// TestDevicesUnasked: where nobody can be asked for the programs that are there, a policy that forbids something is not left out.
func TestDevicesUnasked(t *testing.T) {
	h, _ := fake(t, unifiedMounts, unifiedOwn, map[string]string{"sys/fs/cgroup/g/": ""})
	g, err := h.Group(Options{Path: "/g"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, allow := range []bool{false, true} {
		err := apply(t, g, &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: allow, Access: "rwm"}}})
		if (err == nil) != allow {
			t.Errorf("allowed %t: %v", allow, err)
		}
	}
}

// TestPathsOfBoth: a record names every controller, and opens to the same cgroup.
func TestPathsOfBoth(t *testing.T) {
	h, _ := fake(t, hybridMounts, hybridOwn, nil)
	g, err := h.Group(Options{Path: "/g"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"", "cpu", "cpuacct", "cpuset", "devices", "memory", "name=systemd", "pids"}
	if got := slices.Sorted(maps.Keys(g.Paths())); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	again, err := h.Open(g.Paths(), Options{})
	if err != nil || len(again.nodes) != len(g.nodes) {
		t.Errorf("%v %v", again, err)
	}
}

// TestJoinBelow: a process that joins goes below the container's cgroup in the hierarchies that are named, each once.
func TestJoinBelow(t *testing.T) {
	own := "4:pids:/\n3:memory:/\n2:cpu,cpuacct:/\n"
	const at = "sys/fs/cgroup/"
	h, top := fake(t, v1Mounts, own, map[string]string{
		at + "pids/c/cgroup.procs": "", at + "pids/c/d/e/cgroup.procs": "",
		at + "memory/c/cgroup.procs": "", at + "cpu,cpuacct/c/cgroup.procs": "", at + "cpu,cpuacct/c/f/cgroup.procs": "",
		at + "pids/c/d/e/tasks": "", at + "memory/c/tasks": "", at + "cpu,cpuacct/c/f/tasks": "",
	})
	for _, test := range []struct {
		subs map[string]string
		want string
	}{
		{map[string]string{"pids": "/d//e/", "cpu": "f", "cpuacct": "f"}, ""},
		{map[string]string{"rdma": "d"}, "unknown controller rdma"},
		{map[string]string{"": "d"}, "unknown controller"},
		{map[string]string{"pids": "d/.."}, "bad sub cgroup path: d/.."},
		{map[string]string{"cpu": "f", "cpuacct": "/"}, "a process is in one cgroup of it"},
		{map[string]string{"memory": "d"}, "adding pid to d: open: no such file or directory"},
	} {
		g, err := h.Group(Options{Path: "/c"})
		if err != nil {
			t.Fatal(err)
		}
		if err = g.Below(test.subs); err == nil {
			err = g.Join(7, "")
			fds := []int{-1, -1, -1}
			if tasks := g.Tasks("", fds); tasks != nil && test.want == "" {
				t.Errorf("%v: tasks: %v", test.subs, tasks)
			}
			for _, fd := range fds {
				if fd >= 0 {
					unix.Close(fd)
				}
			}
		}
		g.Close()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%v: %v, want %q", test.subs, err, test.want)
		}
		if test.want != "" {
			continue
		}
		for dir, want := range map[string]string{"pids/c": "", "pids/c/d/e": "7", "memory/c": "7", "cpu,cpuacct/c": "", "cpu,cpuacct/c/f": "7"} {
			if got, err := os.ReadFile(filepath.Join(top, at+dir+"/cgroup.procs")); err != nil || string(got) != want {
				t.Errorf("%s: %q %v, want %q", dir, got, err, want)
			}
		}
	}
}

// TestStandsStill: with version 2 it counts what a cgroup and those above it were told; that all have stopped comes late, where a process waits in the kernel.
func TestStandsStill(t *testing.T) {
	files := func(a, b string) map[string]string {
		events := "populated 1\nfrozen 0\n"
		return map[string]string{
			"sys/fs/cgroup/g/cgroup.freeze": a, "sys/fs/cgroup/g/b/cgroup.freeze": b, "sys/fs/cgroup/g/cgroup.events": events, "sys/fs/cgroup/g/b/cgroup.events": events,
		}
	}
	for _, c := range []struct {
		above, below string
		want         [2]bool
	}{{"0\n", "0\n", [2]bool{false, false}}, {"0\n", "1\n", [2]bool{false, true}}, {"1\n", "0\n", [2]bool{true, true}}} {
		h, _ := fake(t, unifiedMounts, unifiedOwn, files(c.above, c.below))
		g, err := h.Group(Options{Path: "/g"})
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{g.StandsStill(""), g.StandsStill("b")}; got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
		g.Close()
	}
}
