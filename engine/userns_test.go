package engine

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestUserNSModes(t *testing.T) {
	id := func(n uint32) *uint32 { return &n }
	for mode, want := range map[string]userNS{
		"": {}, "auto": {}, "private": {},
		"auto:size=1":                     {size: 1},
		"keep-id":                         {keep: true},
		"keep-id:uid=5,gid=6,size=100":    {keep: true, uid: id(5), gid: id(6), size: 100},
		"keep-id:size=65536,uid=0":        {keep: true, uid: id(0), size: 65536},
		"keep-id:uid=4294967294,gid=0004": {keep: true, uid: id(4294967294), gid: id(4)},
	} {
		got, err := parseUserNS(mode)
		same := func(a, b *uint32) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
		if err != nil || got.keep != want.keep || got.size != want.size || !same(got.uid, want.uid) || !same(got.gid, want.gid) {
			t.Errorf("%q: %+v, %v, want %+v", mode, got, err, want)
		}
	}
	for _, mode := range []string{
		"none", "shareable", "nomap", "keep", "auto:", "auto:size", "auto:size=", "auto:size=0", "auto:size=-1", "auto:size=4294967296", "auto:size=+1",
		"auto:uid=1", "keep-id:uid=4294967295", "keep-id:name=1", "keep-id:uid=1,,gid=1", "auto:size=1 ", "AUTO",
	} {
		if got, err := parseUserNS(mode); err == nil || !strings.HasPrefix(err.Error(), "--userns "+mode+": ") {
			t.Errorf("%q: %+v, %v", mode, got, err)
		}
		noSpec(t, Config{UserNS: mode}, "--userns "+mode)
	}
	noSpec(t, Config{UserNS: "keep-id"}, "root's own id")
	noSpec(t, Config{UserNS: "auto:size=65537"}, "a container's range has 65536 ids")
	e := &Engine{dir: t.TempDir(), host: rootFacts(), network: "none"}
	if _, err := e.Prepare(t.Context(), Config{Image: "host", UserNS: "auto:size=65532", Command: []string{"true"}}); err == nil || !strings.Contains(err.Error(), "needs 65533 ids") {
		t.Errorf("the image host for 65532 ids: %v", err)
	}
	got := spec(t, Config{UserNS: "auto:size=100"}).Linux
	if len(got.UIDMappings) != 1 || got.UIDMappings[0].Size != 100 || !slices.Equal(got.UIDMappings, got.GIDMappings) {
		t.Errorf("auto:size=100: %+v, %+v", got.UIDMappings, got.GIDMappings)
	}
}

func TestRootlessMaps(t *testing.T) {
	type m = specs.LinuxIDMapping
	line := func(inside, outside, size uint32) m { return m{ContainerID: inside, HostID: outside, Size: size} }
	const caller = 1000
	ranges := []plan.IDRange{{Start: 100000, Size: 10}, {Start: 200000, Size: 20}}
	for _, c := range []struct {
		what   string
		size   uint32
		inside uint32
		helper string
		ranges []plan.IDRange
		want   []m
		err    string
	}{
		{"as root", 0, 0, "h", ranges, []m{line(0, caller, 1), line(1, 100000, 10), line(11, 200000, 20)}, ""},
		{"no helper", 0, 0, "", ranges, []m{line(0, caller, 1)}, ""},
		{"no helper, keep", 0, caller, "", ranges, []m{line(caller, caller, 1)}, ""},
		{"no helper, one id", 1, 0, "", nil, []m{line(0, caller, 1)}, ""},
		{"no helper, more ids", 2, 0, "", nil, nil, "install uidmap"},
		{"in a range", 0, 4, "h", ranges, []m{line(0, 100003, 1), line(1, 100000, 3), line(4, caller, 1), line(5, 100004, 6), line(11, 200000, 20)}, ""},
		{"between ranges", 0, 10, "h", ranges, []m{line(0, 100009, 1), line(1, 100000, 9), line(10, caller, 1), line(11, 200000, 20)}, ""},
		{"first of a range", 0, 11, "h", ranges, []m{line(0, 200000, 1), line(1, 100000, 10), line(11, caller, 1), line(12, 200001, 19)}, ""},
		{"at the end", 0, 30, "h", ranges, []m{line(0, 200019, 1), line(1, 100000, 10), line(11, 200000, 19), line(30, caller, 1)}, ""},
		{"beyond", 0, 1000, "h", ranges, []m{line(0, 200019, 1), line(1, 100000, 10), line(11, 200000, 19), line(1000, caller, 1)}, ""},
		{"no ranges", 0, 1000, "h", nil, []m{line(1000, caller, 1)}, ""},
		{"bounded", 12, 0, "h", ranges, []m{line(0, caller, 1), line(1, 100000, 10), line(11, 200000, 1)}, ""},
		{"bounded in the first", 3, 1, "h", ranges, []m{line(0, 100000, 1), line(1, caller, 1), line(2, 100001, 1)}, ""},
		{"all of them", 31, 30, "h", ranges, []m{line(0, 200019, 1), line(1, 100000, 10), line(11, 200000, 19), line(30, caller, 1)}, ""},
		{"one more", 32, 30, "h", ranges, nil, "the caller has 31 ids"},
		{"no place", 5, 5, "h", ranges, nil, "leaves no place"},
		{"one id", 1, 0, "h", ranges, []m{line(0, caller, 1)}, ""},
	} {
		got, err := userNS{size: c.size}.rootlessMap(caller, c.inside, c.helper != "", c.ranges)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, %v, want an error with %q", c.what, got, err, c.err)
			}
		} else if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.what, got, err, c.want)
		}
	}
}

// terminals prints the options of the terminals that a container with a user namespace has.
func terminals(args []string) int {
	b := &builder{run: Config{UserNS: args[0]}, host: rootFacts(), shared: map[string]Container{}, opts: plan.Options{Causes: map[string]string{}}}
	if err := b.mounts(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	i := slices.IndexFunc(b.spec.Mounts, func(m specs.Mount) bool { return m.Type == "devpts" })
	fmt.Print(b.spec.Mounts[i].Options)
	if args[0] == "host" {
		fmt.Print(" groups to ", b.lastGID())
	}
	return 0
}

// The terminals of a container with --userns host have the group tty where the caller's user namespace has it: one of a single id, as
// unshare -r makes it, has not, and the kernel would refuse it there.
func TestTerminalsOfOneID(t *testing.T) {
	nstest.Root(t)
	one := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: 0, ContainerID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: 0, ContainerID: 0, Size: 1}},
	}
	for _, c := range []struct {
		mode  string
		attr  *syscall.SysProcAttr
		group bool
	}{{"host", nil, true}, {"host", one, false}, {"auto", one, true}} { // of a new one, the plan leaves it out
		cmd := exec.Command("/proc/self/exe", c.mode)
		cmd.Args[0], cmd.SysProcAttr = "terminals", c.attr
		out, err := cmd.CombinedOutput()
		if last := " groups to 0"; c.mode == "host" && strings.HasSuffix(string(out), last) == c.group {
			t.Errorf("one id %v: %s", c.attr != nil, out) // net.ipv4.ping_group_range takes only those that there are
		}
		if err != nil || strings.Contains(string(out), "gid=5") != c.group || !strings.Contains(string(out), "newinstance") {
			t.Errorf("--userns %s, one id %v: %s, %v", c.mode, c.attr != nil, out, err)
		}
	}
}

// TestRootWithoutAdmin: root without CAP_SYS_ADMIN, as in a container of another engine, has as many ids for a container as others, by its own maps: no helper is there.
func TestRootWithoutAdmin(t *testing.T) {
	nstest.Root(t)
	c := exec.Command("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", nstest.Binary(t, "kakuri"), "run", "--rm", "--network", "none", "-u", "5:6", "host", "/bin/sh", "-c",
		"while read inside outside size; do echo $inside $size; done </proc/self/uid_map; /usr/bin/id -u; /usr/bin/id -g")
	c.Env = append(os.Environ(), "PATH="+t.TempDir())
	if out, err := c.Output(); err != nil || !regexp.MustCompile(`^0 1\n1 [0-9]{4,}\n(.*\n)*5\n6\n$`).Match(out) {
		t.Errorf("%v: %s", err, out)
	}
}
