package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/cgroup/limits"
)

// Mount tables and memberships as machines have them.
const (
	unifiedMounts = `23 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw
24 23 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw
30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
`
	unifiedOwn = "0::/user.slice/user-1000.slice/session-3.scope\n"

	v1Mounts = `31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/systemd/systemd-cgroups-agent,name=systemd
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 31 0:32 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset,noprefix
36 31 0:33 / /my\040groups/devices rw - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
`
	v1Own = `12:memory:/system.slice/docker.service
11:cpu,cpuacct:/system.slice
9:cpuset:/
8:devices:/system.slice/a:b
7:pids:/
6:hugetlb:/
1:name=systemd:/system.slice/docker.service
`
	hybridMounts = v1Mounts + "38 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	hybridOwn    = v1Own + "0::/system.slice/docker.service\n"

	// A container that sees its own cgroup mounted, but has the host's paths in /proc/self/cgroup.
	nestedMounts = `40 39 0:31 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 39 0:31 / /host/memory rw - cgroup cgroup rw,memory
42 39 0:31 /other /sys/fs/cgroup/other rw - cgroup cgroup rw,memory
`
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		name, mounts, own, want string
	}{
		{"version 2", unifiedMounts, unifiedOwn, "2 [] /sys/fs/cgroup / /user.slice/user-1000.slice/session-3.scope"},
		{"version 1", v1Mounts, v1Own, `1 [memory] /sys/fs/cgroup/memory / /system.slice/docker.service
1 [cpu cpuacct] /sys/fs/cgroup/cpu,cpuacct / /system.slice
1 [cpuset] /sys/fs/cgroup/cpuset / / noprefix
1 [devices] /my groups/devices / /system.slice/a:b
1 [pids] /sys/fs/cgroup/pids / /
1 [name=systemd] /sys/fs/cgroup/systemd / /system.slice/docker.service`},
		{"both", hybridMounts, "4:pids:/x\n0::/y\n", "1 [pids] /sys/fs/cgroup/pids / /x\n2 [] /sys/fs/cgroup/unified / /y"},
		{"the widest view of the caller", nestedMounts, "5:memory:/docker/abc/inner\n", "1 [memory] /host/memory / /docker/abc/inner"},
		{"a view of its own", strings.Join(strings.SplitAfter(nestedMounts, "\n")[:1], ""), "5:memory:/docker/abc/inner\n", "1 [memory] /sys/fs/cgroup/memory /docker/abc /inner"},
		{"a view of its own root", strings.Join(strings.SplitAfter(nestedMounts, "\n")[:1], ""), "5:memory:/docker/abc\n", "1 [memory] /sys/fs/cgroup/memory /docker/abc /"},
		{"a like name", strings.Join(strings.SplitAfter(nestedMounts, "\n")[:1], ""), "5:memory:/docker/abcd\n", "1 [memory] /sys/fs/cgroup/memory /docker/abc "},
		{"outside of the namespace", unifiedMounts, "0::/../x\n", "2 [] /sys/fs/cgroup / "},
		{"a mount from outside of the namespace", "40 39 0:31 /.. /sys/fs/cgroup rw - cgroup2 c rw\n", "0::/\n", "2 [] /sys/fs/cgroup /.. "},
		{"nothing mounted", "23 1 254:0 / / rw - ext4 /dev/vda1 rw\n", hybridOwn, ""},
		{"odd lines", "\n - cgroup2\n1 2 3 - cgroup2 c rw\n", "0::/\n", ""},
	} {
		list, err := parse(test.mounts, test.own, every)
		var got []string
		for _, h := range list {
			line := fmt.Sprintf("%d %v %s %s %s", h.Version, h.Controllers, h.Mount, h.Root, h.Own)
			if h.NoPrefix {
				line += " noprefix"
			}
			got = append(got, line)
		}
		if s := strings.Join(got, "\n"); err != nil || s != test.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", test.name, err, s, test.want)
		}
	}
	if _, err := parse(unifiedMounts, "0:/\n", every); err == nil {
		t.Error("two fields are taken for three")
	}
}

// every mount is reached.
func every(*Hierarchy) bool { return true }

// TestDetectBehindCovered: of a hierarchy that is mounted twice, the mount that is covered does not stand in the way of the other one.
func TestDetectBehindCovered(t *testing.T) {
	mounts := hybridMounts + "60 24 0:26 / /again rw - cgroup2 cgroup2 rw\n"
	list, err := parse(mounts, "0::/y\n", func(h *Hierarchy) bool { return h.Mount != "/sys/fs/cgroup/unified" })
	if err != nil || len(list) != 1 || list[0].Mount != "/again" || list[0].Own != "/y" {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := parse(mounts, "0::/y\n", func(*Hierarchy) bool { return false }); err != nil || len(list) > 0 {
		t.Errorf("none is reached: %+v, %v", list, err)
	}
}

// fake makes a tree of files, "DIR/FILE": text or, with a name that ends in a slash, a directory; and finds
// the hierarchies in it.
func fake(t *testing.T, mounts, own string, files map[string]string) (*Host, string) {
	t.Helper()
	top := t.TempDir()
	write := func(name, text string) {
		p := filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/self/mountinfo", mounts)
	write("proc/self/cgroup", own)
	list, err := parse(mounts, own, every)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range list {
		if err := os.MkdirAll(filepath.Join(top, h.Mount), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(filepath.Join(top, name), 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		write(name, text)
	}
	root, err := unix.Open(top, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(root) })
	h, err := detect(tree{root: root})
	if err != nil {
		t.Fatal(err)
	}
	return h, top
}

func TestDetectFake(t *testing.T) {
	v2, _ := fake(t, unifiedMounts, unifiedOwn, map[string]string{"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n"})
	if !v2.Unified() || hybrid(v2) {
		t.Errorf("%+v", v2)
	}
	if c := v2.Controllers(); !reflect.DeepEqual(c, limits.Controllers{"cpuset": 2, "cpu": 2, "blkio": 2, "memory": 2, "pids": 2, "devices": 2}) {
		t.Errorf("version 2: %v", c)
	}
	v1, _ := fake(t, v1Mounts, v1Own, nil)
	if c := v1.Controllers(); v1.Unified() || hybrid(v1) || !reflect.DeepEqual(c, limits.Controllers{"cpuset": 1, "cpu": 1, "cpuacct": 1, "memory": 1, "pids": 1, "devices": 1}) {
		t.Errorf("version 1: %v", c)
	}
	both, _ := fake(t, hybridMounts, hybridOwn, map[string]string{"sys/fs/cgroup/unified/cgroup.controllers": "hugetlb misc\n"})
	if c := both.Controllers(); both.Unified() || !hybrid(both) || c["hugetlb"] != 2 || c["memory"] != 1 || c["devices"] != 1 {
		t.Errorf("both: %v", c)
	}
}

func TestPlace(t *testing.T) {
	v1, _ := fake(t, v1Mounts, v1Own, nil)
	v2, _ := fake(t, unifiedMounts, unifiedOwn, nil)
	for _, test := range []struct {
		o      Options
		v1, v2 string // of memory, or "error TEXT"
	}{
		{Options{Path: "/a/b", ID: "id"}, "/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/a/b"},
		{Options{Path: "//a/./b/", ID: "id"}, "/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/a/b"},
		{Options{Path: "a/b", ID: "id"}, "/sys/fs/cgroup/memory/system.slice/docker.service/a/b", "/sys/fs/cgroup/user.slice/user-1000.slice/a/b"},
		{Options{ID: "id"}, "/sys/fs/cgroup/memory/system.slice/docker.service/id", "/sys/fs/cgroup/user.slice/user-1000.slice/id"},
		{Options{Path: "/a/../b"}, `error has no ".."`, `error has no ".."`},
		{Options{Path: "../b"}, `error has no ".."`, `error has no ".."`},
		{Options{Path: "a..b/...", ID: "id"}, "/sys/fs/cgroup/memory/system.slice/docker.service/a..b/...", "/sys/fs/cgroup/user.slice/user-1000.slice/a..b/..."},
		{Options{}, "error neither a path nor an ID", "error neither"},
	} {
		for _, c := range []struct {
			h         *Host
			key, want string
		}{{v1, "memory", test.v1}, {v2, "", test.v2}} {
			g, err := c.h.Group(test.o)
			if want, ok := strings.CutPrefix(c.want, "error "); ok {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%+v: %v, want %s", test.o, err, want)
				}
				continue
			}
			if err != nil || g.Paths()[c.key] != c.want {
				t.Errorf("%+v: %v %v, want %s", test.o, g, err, c.want)
				continue
			}
			again, err := c.h.Open(g.Paths(), Options{})
			if err != nil || !reflect.DeepEqual(again.Paths(), g.Paths()) {
				t.Errorf("%+v: opened again %v %v", test.o, again, err)
			}
		}
	}
	for _, p := range []string{"/tmp/x", "/sys/fs/cgroup/../x"} {
		if _, err := v2.Open(map[string]string{"": p}, Options{}); err == nil {
			t.Errorf("%s is taken for a cgroup", p)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(unifiedMounts, unifiedOwn)
	f.Add(hybridMounts, hybridOwn)
	f.Add(nestedMounts, "5:memory:/docker/abc\n")
	f.Fuzz(func(t *testing.T, mounts, own string) {
		list, err := parse(mounts, own, every)
		if err != nil {
			return
		}
		for _, h := range list {
			if h.Own != "" && (h.Own[0] != '/' || strings.Contains("/"+h.Own+"/", "/../")) {
				t.Fatalf("own cgroup %q", h.Own)
			}
			if h.Version == limits.V1 && len(h.Controllers) == 0 {
				t.Fatalf("%+v", h)
			}
		}
	})
}

// hybrid reports whether both versions are mounted.
func hybrid(h *Host) bool {
	return len(h.Hierarchies) > 1 && slices.ContainsFunc(h.Hierarchies, func(h Hierarchy) bool { return h.Version == limits.V2 })
}
