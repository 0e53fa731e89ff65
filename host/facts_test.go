package host

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

const (
	hybridMounts = `sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime 0 0
tmpfs /sys/fs/cgroup tmpfs ro,nosuid,nodev,noexec,mode=755 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,nosuid,nodev,noexec,relatime,xattr,name=systemd 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,nodev,noexec,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,nosuid,nodev,noexec,noatime,nodiratime,seclabel,clone_children,release_agent=/sbin/x,memory 0 0
cgroup /mnt/elsewhere cgroup rw,pids 0 0
cgroup /sys/fs/cgroup/deep/er cgroup rw,freezer 0 0
`
	hybridOwn = `12:cpu,cpuacct:/user.slice
5:memory:/user.slice/a:b
1:name=systemd:/user.slice/session-1.scope
0::/user.slice/session-1.scope
`
)

func TestParseCgroups(t *testing.T) {
	v1 := func(dir string, options []string, path string) plan.CgroupV1 {
		return plan.CgroupV1{Dir: dir, Type: "cgroup", Options: options, Path: path}
	}
	for _, test := range []struct {
		name, mounts, own string
		want              []plan.CgroupV1
	}{
		{"nothing", "", "", nil},
		{"no cgroups", "proc /proc proc rw 0 0\n", "0::/\n", nil},
		{"hybrid", hybridMounts, hybridOwn, []plan.CgroupV1{
			{Dir: "unified", Type: "cgroup2", Path: "/user.slice/session-1.scope"},
			v1("systemd", []string{"none", "name=systemd"}, "/user.slice/session-1.scope"),
			v1("cpu,cpuacct", []string{"cpu", "cpuacct"}, "/user.slice"),
			v1("memory", []string{"memory"}, "/user.slice/a:b"),
		}},
		{"in another order", "cgroup /sys/fs/cgroup/cpuacct,cpu cgroup rw,cpuacct,cpu 0 0\n", "3:cpu,cpuacct:/x\n", []plan.CgroupV1{
			v1("cpuacct,cpu", []string{"cpuacct", "cpu"}, "/x"),
		}},
		{"a place that is not told", "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0", "4:memory:/x\n", []plan.CgroupV1{v1("pids", []string{"pids"}, "/")}},
		{"a controller is no prefix", "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0", "4:cpuset:/x\n5:cpu:/y\n", []plan.CgroupV1{v1("cpu", []string{"cpu"}, "/y")}},
		{"version 2 has no controllers", "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0", "4::/x\n0::/y\n", []plan.CgroupV1{{Dir: "unified", Type: "cgroup2", Path: "/y"}}},
		{"above the namespace's root", "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0", "4:pids:/../../etc\n", []plan.CgroupV1{v1("pids", []string{"pids"}, "/")}},
		{"a name with dots", "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0", "4:pids:/a..b/..c \n", []plan.CgroupV1{v1("pids", []string{"pids"}, "/a..b/..c ")}},
		{"short lines", "cgroup /sys/fs/cgroup/pids cgroup\n\ncgroup\n", "4\n:\n", nil},
	} {
		got := parseCgroups(test.mounts, test.own)
		if got.Unified || !reflect.DeepEqual(got.V1, test.want) {
			t.Errorf("%s: %+v\nwant %+v", test.name, got.V1, test.want)
		}
	}
}

func FuzzParseCgroups(f *testing.F) {
	f.Add(hybridMounts, hybridOwn)
	f.Add("cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0", "4:pids:/../x")
	f.Add("cgroup2 /sys/fs/cgroup/.. cgroup2 rw,name=,, 0 0", "0::")
	f.Fuzz(func(t *testing.T, mounts, own string) {
		for _, h := range parseCgroups(mounts, own).V1 {
			if h.Dir == "" || strings.Contains(h.Dir, "/") || (h.Type != "cgroup" && h.Type != "cgroup2") {
				t.Errorf("hierarchy %+v", h)
			}
			// What a plan makes of it stays below the place where they are mounted.
			if at := path.Join("/sys/fs/cgroup", h.Dir, h.Path); h.Dir != ".." && at != "/sys/fs/cgroup" && !strings.HasPrefix(at, "/sys/fs/cgroup/") {
				t.Errorf("%+v is at %s", h, at)
			}
		}
	})
}

func TestParseSubordinate(t *testing.T) {
	r := func(start, size uint32) plan.IDRange { return plan.IDRange{Start: start, Size: size} }
	for _, test := range []struct {
		name, data string
		want       []plan.IDRange
	}{
		{"nothing", "", nil},
		{"by name", "other:1:2\nme:100000:65536\n", []plan.IDRange{r(100000, 65536)}},
		{"by number", "1000:100000:65536", []plan.IDRange{r(100000, 65536)}},
		{"both, in order", "me:300000:10\n1000:200000:20\nme:1:1\n", []plan.IDRange{r(300000, 10), r(200000, 20), r(1, 1)}},
		{"no range", "me:5:0\n", nil},
		{"not numbers", "me:-1:5\nme:5:x\nme::\nme:0x10:1\nme: 5:1\n", nil},
		{"more than 32 bits", "me:4294967296:1\nme:1:4294967296\n", nil},
		{"past the last id", "me:4294967295:2\nme:4294967295:1\n", []plan.IDRange{r(4294967295, 1)}},
		{"too few and too many", "me:5\nme:5:6:7\nme\n:5:6\n", nil},
		{"space around", "  me:5:6\t\r\n", []plan.IDRange{r(5, 6)}},
		{"comment", "#me:5:6\n# me:5:6\n", nil},
		{"a longer name", "meme:5:6\nm:5:6\n10000:5:6\n", nil},
	} {
		if got := parseSubordinate(test.data, "me", "1000"); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	if got := parseSubordinate(":5:6\n1000:7:8\n", "", "1000"); !reflect.DeepEqual(got, []plan.IDRange{r(7, 8)}) {
		t.Errorf("a user without a name: %v", got)
	}
}

func FuzzParseSubordinate(f *testing.F) {
	f.Add("me:100000:65536\n1000:1:2\n", "me", "1000")
	f.Add("me:4294967295:4294967295\n:1:1", "", "")
	f.Fuzz(func(t *testing.T, data, name, uid string) {
		for _, r := range parseSubordinate(data, name, uid) {
			if r.Size == 0 || uint64(r.Start)+uint64(r.Size) > 1<<32 {
				t.Errorf("range %+v", r)
			}
		}
	})
}

func TestTooOld(t *testing.T) {
	for release, want := range map[string]bool{
		"5.14.0": false, "5.14.0-70.13.1.el9": false, "5.13.19": true, "4.18.0-513.el8": true, "2.6.32": true, "6.1.0-13-amd64": false,
		"6.18.0": false, "10.0-rc1": false, "5.15+": false, "5.4.0-150-generic": true, "": false, "five": false, "5": false,
	} {
		if got := tooOld(release); got != want {
			t.Errorf("%q is too old: %v", release, got)
		}
	}
}

// statusLine reads a hexadecimal line of /proc/self/status.
func statusLine(t *testing.T, key string) uint64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in /proc/self/status", key)
	return 0
}

// TestRead compares the facts with what /proc says.
func TestRead(t *testing.T) {
	f, err := Read(Needs{Cgroup: true})
	if err != nil {
		t.Fatal(err)
	}
	if f.Arch.GOARCH() != runtime.GOARCH || !f.Arch.Valid() {
		t.Errorf("architecture %v of %s", f.Arch, runtime.GOARCH)
	}
	if f.UID != uint32(os.Geteuid()) || f.GID != uint32(os.Getegid()) {
		t.Errorf("ids %d and %d", f.UID, f.GID)
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err != nil || f.Kernel != strings.TrimSpace(string(release)) {
		t.Errorf("kernel %q, in /proc %q, %v", f.Kernel, release, err)
	}
	if eff := statusLine(t, "CapEff"); uint64(f.Caps) != eff {
		t.Errorf("capabilities %#x, in /proc %#x", uint64(f.Caps), eff)
	}
	if last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err != nil || fmt.Sprint(uint8(f.LastCap)) != strings.TrimSpace(string(last)) {
		t.Errorf("last capability %d, in /proc %q, %v", f.LastCap, last, err)
	}
	for res, l := range f.Rlimits {
		var now unix.Rlimit
		if err := unix.Prlimit(0, res, nil, &now); err != nil || l.Soft > l.Hard || l.Hard != now.Max {
			t.Errorf("%v is %+v, prlimit says %+v, %v", abi.Rlimit(res), l, now, err)
		}
	}
	checkCgroups(t, f.Cgroup)
	if f.Privileged() && (f.NewUIDMap != "" || f.SubUIDs != nil) {
		t.Errorf("a privileged caller needs no helpers: %+v", f)
	}
	again, err := Read(Needs{Cgroup: true})
	if err != nil || !reflect.DeepEqual(again, f) {
		t.Errorf("the facts have changed:\n%+v\n%+v, %v", f, again, err)
	}
}

// TestMapped: of the ranges of ids that root of a user namespace is given, there are those that it has.
func TestMapped(t *testing.T) {
	r := func(start, size uint32) plan.IDRange { return plan.IDRange{Start: start, Size: size} }
	for _, test := range []struct {
		what, idMap  string
		ranges, want []plan.IDRange
	}{
		{"one id", "         0       1000          1\n", []plan.IDRange{r(100000, 65536)}, nil},
		{"all of it", "0 1000 1\n1 100000 65536\n", []plan.IDRange{r(1, 1000), r(65536, 1)}, []plan.IDRange{r(1, 1000), r(65536, 1)}},
		{"its beginning", "0 100000 65536\n", []plan.IDRange{r(65535, 10)}, []plan.IDRange{r(65535, 1)}},
		{"its end", "100 100000 10\n", []plan.IDRange{r(0, 101)}, []plan.IDRange{r(100, 1)}},
		{"its middle", "5 1 2\n", []plan.IDRange{r(1, 65535)}, []plan.IDRange{r(5, 2)}},
		{"two parts", "10 1 2\n20 50 5\n", []plan.IDRange{r(11, 10), r(24, 9)}, []plan.IDRange{r(11, 1), r(20, 1), r(24, 1)}},
		{"beside it", "10 1 2\n", []plan.IDRange{r(8, 2), r(12, 5)}, nil},
		{"the last ids", "0 0 4294967295\n", []plan.IDRange{r(4294967290, 6)}, []plan.IDRange{r(4294967290, 5)}},
		{"no map", "", []plan.IDRange{r(1, 2)}, nil},
		{"no ranges", "0 0 4294967295\n", nil, nil},
	} {
		if got := mapped(test.ranges, test.idMap); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, want %v", test.what, got, test.want)
		}
	}
}

func TestOthers(t *testing.T) {
	r := func(start, size uint32) plan.IDRange { return plan.IDRange{Start: start, Size: size} }
	for _, test := range []struct {
		what         string
		own          uint32
		ranges, want []plan.IDRange
	}{
		{"as it should be", 1000, []plan.IDRange{r(100000, 65536), r(200000, 10)}, []plan.IDRange{r(100000, 65536), r(200000, 10)}},
		{"root's own is the first", 0, []plan.IDRange{r(0, 65536)}, []plan.IDRange{r(1, 65535)}},
		{"in the middle", 1000, []plan.IDRange{r(999, 3)}, []plan.IDRange{r(999, 1), r(1001, 1)}},
		{"the last", 1000, []plan.IDRange{r(999, 2)}, []plan.IDRange{r(999, 1)}},
		{"alone", 1000, []plan.IDRange{r(1000, 1)}, nil},
		{"twice", 0, []plan.IDRange{r(5, 10), r(5, 10)}, []plan.IDRange{r(5, 10)}},
		{"around another", 0, []plan.IDRange{r(5, 10), r(1, 20)}, []plan.IDRange{r(5, 10), r(1, 4), r(15, 6)}},
		{"over two others", 0, []plan.IDRange{r(5, 5), r(20, 5), r(8, 15)}, []plan.IDRange{r(5, 5), r(20, 5), r(10, 10)}},
		{"the last ids", 0, []plan.IDRange{r(4294967290, 6), r(4294967295, 1)}, []plan.IDRange{r(4294967290, 6)}},
		{"none", 0, nil, nil},
	} {
		if got := others(test.own, test.ranges); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, want %v", test.what, got, test.want)
		}
	}
}

// TestReadUserNamespace: root of a user namespace with one id has all capabilities, and neither all ids nor setgroups(2), nor the ids that are root's in /etc/subuid: those
// may be the machine's. Of those that it has its own is not one of the others.
func TestReadUserNamespace(t *testing.T) {
	const inside = "KAKURI_TEST_INSIDE"
	if os.Getenv(inside) == "" {
		for _, ids := range []int{1, 1000} {
			if ids > 1 && os.Geteuid() != 0 {
				continue // an ordinary user maps no more than one
			}
			c := exec.Command("/proc/self/exe", "-test.run=^TestReadUserNamespace$", "-test.v")
			c.Env = append(os.Environ(), fmt.Sprintf("%s=%d", inside, ids))
			id := func(n int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: n, Size: ids}} }
			c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: id(os.Geteuid()), GidMappings: id(os.Getegid()), GidMappingsEnableSetgroups: ids > 1}
			if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestReadUserNamespace") {
				t.Errorf("%d ids: %v\n%s", ids, err, out)
			}
		}
		return
	}
	if err := unix.Mount("tmpfs", "/etc", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/etc/subuid", "/etc/subgid"} {
		if err := os.WriteFile(name, []byte("0:100000:65536\n0:0:1000\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Read(Needs{})
	if os.Getenv(inside) != "1" {
		want := []plan.IDRange{{Start: 1, Size: 999}}
		if err != nil || f.UID != 0 || f.AllIDs || f.NoSetgroups || !reflect.DeepEqual(f.SubUIDs, want) || !reflect.DeepEqual(f.SubGIDs, want) {
			t.Errorf("%+v %v", f, err)
		}
		return
	}
	if err != nil || f.UID != 0 || f.AllIDs || f.Privileged() || !f.MapsIDs() || !f.NoSetgroups || f.SubUIDs != nil || f.SubGIDs != nil {
		t.Errorf("%+v %v", f, err)
	}
}

// checkCgroups finds every hierarchy, and this process in it.
func checkCgroups(t *testing.T, c plan.CgroupFacts) {
	t.Helper()
	if c.Unified {
		if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil || len(c.V1) > 0 {
			t.Errorf("one hierarchy: %v, %+v", err, c.V1)
		}
		return
	}
	for _, h := range c.V1 {
		dir := path.Join("/sys/fs/cgroup", h.Dir, h.Path)
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("%+v: %v", h, err)
		}
		if (h.Type == "cgroup") != (len(h.Options) > 0) {
			t.Errorf("%+v: options select a hierarchy of version 1", h)
		}
	}
}

// TestReadWithoutNeeds leaves out what costs files.
func TestReadWithoutNeeds(t *testing.T) {
	f, err := Read(Needs{})
	if err != nil || f.Cgroup.Unified || f.Cgroup.V1 != nil {
		t.Errorf("%+v, %v", f.Cgroup, err)
	}
}

func TestUserName(t *testing.T) {
	if got := userName(0); got != "root" {
		t.Errorf("user 0 is %q", got)
	}
	if got := userName(4294967294); got != "" {
		t.Errorf("a user nobody has is %q", got)
	}
}

// TestInChroot: a chroot is told from the root directory of a mount namespace, also where it shows the same files.
func TestInChroot(t *testing.T) {
	inPlaces(t, map[string]string{
		`exec "$0" "$@"`: "false",
		`mount --rbind / /mnt && exec chroot /mnt "$0" "$@"`:                             "true",
		`mount --rbind / /mnt && cd /mnt && pivot_root . mnt && exec chroot . "$0" "$@"`: "false",
	}, func() (bool, error) {
		f, err := Read(Needs{Chroot: true})
		return f.Chroot, err
	})
}

// TestSysCovered: something over /proc/sys is told from none.
func TestSysCovered(t *testing.T) {
	inPlaces(t, map[string]string{
		`mount -t proc proc /proc && exec "$0" "$@"`:                                     "false",
		`mount -t proc proc /proc && mount --bind /proc/sys /proc/sys && exec "$0" "$@"`: "true",
	}, func() (bool, error) {
		f, err := Read(Needs{})
		return f.SysCovered, err
	})
}

// inPlaces runs the test once more in each place that a script makes, in a mount namespace, and looks for what is wanted there.
func inPlaces(t *testing.T, scripts map[string]string, look func() (bool, error)) {
	t.Helper()
	const inside = "KAKURI_TEST_PLACE"
	if want := os.Getenv(inside); want != "" {
		if got, err := look(); err != nil || fmt.Sprint(got) != want {
			t.Errorf("in its place: %v, want %s: %v", got, want, err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for script, want := range scripts {
		c := exec.Command("/bin/sh", "-c", script, exe, "-test.run=^"+t.Name()+"$", "-test.v")
		c.Env, c.SysProcAttr = append(os.Environ(), inside+"="+want), &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
}

// TestProcPIDNS: the option is said to be there where a procfs can be mounted by it, and asked for only where that matters.
func TestProcPIDNS(t *testing.T) {
	asked, err := Read(Needs{ProcPIDNS: true})
	if err != nil {
		t.Fatal(err)
	}
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Skipf("fsopen: %v: mounting takes CAP_SYS_ADMIN", err)
	}
	defer unix.Close(fs)
	works := false
	if unix.FsconfigSetString(fs, "pidns", fmt.Sprintf("/proc/%d/ns/pid", os.Getpid())) == nil && unix.FsconfigCreate(fs) == nil {
		mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0) // and attached nowhere
		if works = err == nil; works {
			unix.Close(mount)
		}
	}
	if asked.ProcPIDNS != works {
		t.Errorf("%v, and it works: %v", asked.ProcPIDNS, works)
	}
	if not, err := Read(Needs{}); err != nil || not.ProcPIDNS {
		t.Errorf("%v, %v", not.ProcPIDNS, err)
	}
}
