package namespace

import (
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/abi"
)

func TestParseMounts(t *testing.T) {
	for _, c := range []struct {
		line string
		want Mount
	}{
		{
			`36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`,
			Mount{ID: 36, Parent: 35, Major: 98, Root: "/mnt1", Point: "/mnt2", Options: "rw,noatime", Type: "ext3", Source: "/dev/root", Super: "rw,errors=continue", Master: 1},
		},
		{
			`1 0 0:7 / /a\040b\011c\012d\134e\043 rw shared:2 master:3 propagate_from:4 unbindable new:5 - fuse.x a\040b rw,x=y z`,
			Mount{ID: 1, Minor: 7, Root: "/", Point: "/a b\tc\nd\\e#", Options: "rw", Type: "fuse.x", Source: "a b", Super: "rw,x=y z", Shared: 2, Master: 3, PropagateFrom: 4, Unbindable: true},
		},
		{
			`5 1 0:4 net:[4026532008] /run/netns/x rw - nsfs  rw`, // an empty source
			Mount{ID: 5, Parent: 1, Minor: 4, Root: "net:[4026532008]", Point: "/run/netns/x", Options: "rw", Type: "nsfs", Super: "rw"},
		},
		{
			`5 1 0:4 / /a\9\04 rw - t s rw`, // no escapes of the kernel's: left alone
			Mount{ID: 5, Parent: 1, Minor: 4, Root: "/", Point: `/a\9\04`, Options: "rw", Type: "t", Source: "s", Super: "rw"},
		},
	} {
		got, err := ParseMounts([]byte(c.line + "\n"))
		if err != nil || len(got) != 1 || got[0] != c.want {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", c.line, got, err, c.want)
		}
	}
	for _, bad := range []string{
		"x", "1 2 0:3 / / rw", "1 2 0:3 / / rw - ext4", "1 2 0:3 / rw - a b c", "1 2 03 / / rw - a b c", "1 2 0:x / / rw - a b c",
		"-1 2 0:3 / / rw - a b c", "1 2 0:3 / / rw shared:z - a b c", "2147483648 2 0:3 / / rw - a b c",
	} {
		if got, err := ParseMounts([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, got)
		} else if !strings.HasPrefix(err.Error(), "mount "+fmt.Sprintf("%q", bad)) {
			t.Errorf("%q: error %q does not show the line", bad, err)
		}
	}
}

func TestMountWords(t *testing.T) {
	for _, c := range []struct {
		m    Mount
		want string
	}{
		{Mount{}, "private"}, {Mount{Shared: 1}, "shared"}, {Mount{Master: 1}, "slave"},
		{Mount{Master: 1, Shared: 2}, "slave,shared"}, {Mount{Unbindable: true}, "unbindable"},
	} {
		if got := c.m.Propagation(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.m, got, c.want)
		}
	}
	m := Mount{Options: "ro,nosuid"}
	if !m.Has("ro") || !m.Has("nosuid") || m.Has("nodev") || m.Has("r") || m.Has("") {
		t.Error("Has takes parts of options, or misses whole ones")
	}
}

func TestParseIDMap(t *testing.T) {
	got, err := ParseIDMap([]byte("         0     100000      65536\n     65536       1000          1\n"))
	if want := (IDMap{{0, 100000, 65536}, {65536, 1000, 1}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if got, err := ParseIDMap(nil); err != nil || got == nil || len(got) != 0 {
		t.Errorf("empty: %#v, %v", got, err)
	}
	for _, bad := range []string{"0 0", "0 0 0", "0 0 1 1", "a 0 1", "0 0 4294967296", "1 0 4294967295", "-1 0 1"} {
		if got, err := ParseIDMap([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestIDMapEdges(t *testing.T) {
	host := IDMap{{0, 0, math.MaxUint32}}
	beyond := IDMap{{0, math.MaxUint32, 10}}    // no ids where the reader stands
	edge := IDMap{{10, math.MaxUint32 - 2, 10}} // of which the reader has two
	for _, c := range []struct {
		name string
		got  uint32
		ok   bool
		want uint32
		has  bool
	}{
		pair(host.Outside(0))("first", 0, true),
		pair(host.Outside(noID-1))("last", noID-1, true),
		pair(host.Outside(noID))("no id", 0, false),
		pair(host.Inside(noID))("no id inside", 0, false),
		pair(beyond.Outside(0))("beyond", 0, false),
		pair(beyond.Inside(noID))("beyond inside", 0, false),
		pair(edge.Outside(11))("edge", noID-1, true),
		pair(edge.Outside(12))("over the edge", 0, false),
		pair(edge.Inside(noID-1))("edge inside", 11, true),
		pair(edge.Outside(9))("before", 0, false),
		pair(IDMap{}.Outside(0))("empty", 0, false),
	} {
		if c.got != c.want || c.ok != c.has {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, c.got, c.ok, c.want, c.has)
		}
	}
}

type idCase = struct {
	name string
	got  uint32
	ok   bool
	want uint32
	has  bool
}

func pair(got uint32, ok bool) func(string, uint32, bool) idCase {
	return func(name string, want uint32, has bool) idCase { return idCase{name, got, ok, want, has} }
}

func TestParseCgroups(t *testing.T) {
	got, err := ParseCgroups([]byte("4:memory:/a:b\n2:cpu,cpuacct:/\n1:name=systemd:/../x (deleted)\n0::/user.slice\n"))
	want := []Cgroup{
		{4, []string{"memory"}, "/a:b"}, {2, []string{"cpu", "cpuacct"}, "/"},
		{1, []string{"name=systemd"}, "/../x (deleted)"}, {0, nil, "/user.slice"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"0:/", "x::/", "0::relative", ":"} {
		if got, err := ParseCgroups([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestParseTimeOffsets(t *testing.T) {
	got, err := ParseTimeOffsets([]byte("monotonic         -5         250000000\nboottime        86400                 0\n"))
	if want := (TimeOffsets{-4750 * time.Millisecond, 24 * time.Hour}); err != nil || got != want {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"monotonic 1", "monotonic x 0", "boottime 0 1000000000", "boottime 0 -1", "boottime 9223372037 0"} {
		if got, err := ParseTimeOffsets([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

const limitsText = `Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max file size             18446744073709551614 unlimited            bytes     
Max nice priority         0                    0                    
`

func TestParseLimits(t *testing.T) {
	got, err := ParseLimits([]byte(limitsText))
	want := []Limit{
		{abi.RlimitCPU, abi.RlimitInfinity, abi.RlimitInfinity},
		{abi.RlimitFsize, math.MaxUint64 - 1, abi.RlimitInfinity}, {abi.RlimitData, 0, 0},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"", "x", "Limit  \nMax cpu time", "Limit  \n" + strings.Repeat("a", 80), "Limit  \n" + strings.Repeat(strings.Split(limitsText, "\n")[1]+"\n", 17)} {
		if got, err := ParseLimits([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestParseStat(t *testing.T) {
	const tail = " S 1 2 2 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 90020 1 1"
	for _, c := range []struct{ text, comm string }{
		{"2 (sh)" + tail, "sh"}, {"2 ())" + tail, ")"}, {"2 (a) S 1 (b)" + tail, "a) S 1 (b"}, {"2 (a\nb)" + tail, "a\nb"}, {"2 ()" + tail, ""},
	} {
		var p Process
		if err := p.parseStat([]byte(c.text)); err != nil || p.Comm != c.comm || p.State != 'S' || p.ticks != 90020 || p.Kernel {
			t.Errorf("%q: %+v, %v", c.text, p, err)
		}
	}
	for _, bad := range []string{"", "2 sh" + tail, ")(" + tail, "2 (sh) S 1", "2 (sh) SS" + tail[2:], "2 (sh)" + strings.Replace(tail, "4194560", "x", 1)} {
		if err := new(Process).parseStat([]byte(bad)); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

func TestParseStatus(t *testing.T) {
	const uid = "Uid:\t1\t2\t3\t4\n"
	p := Process{PID: 9, PIDs: []int{9}, Umask: -1}
	err := p.parseStatus([]byte("Name:\ta\\nUid:\t9\n" + uid + "Gid:\t5\t6\t7\t8\nGroups:\t1 2 \nNSpid:\t9\t3\t1\nPPid:\t4\nThreads:\t2\n" +
		"CapInh:\t1\nCapPrm:\t2\nCapEff:\t4\nCapBnd:\t8\nCapAmb:\t10\nUmask:\t0027\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\nNewInLinux9:\t?\n"))
	want := Process{
		PID: 9, PIDs: []int{9, 3, 1}, Parent: 4, Threads: 2, Umask: 0o27, NoNewPrivs: true, Seccomp: SeccompFilter, Filters: 3,
		UIDs: IDs{1, 2, 3, 4}, GIDs: IDs{5, 6, 7, 8}, Groups: []uint32{1, 2}, Caps: Caps{1, 2, 4, 8, 16},
	}
	if err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, p, want)
	}
	for _, bad := range []string{"", "Name:\tx\n", "x\n" + uid, "Uid:\t1\t2\t3\n", "Uid:\t1\t2\t3\t-1\n", uid + "NSpid:\tx\n", uid + "CapEff:\tg\n", uid + "Groups:\t4294967296\n", uid + "Umask:\t9\n", uid + "Seccomp:\n"} {
		if err := new(Process).parseStatus([]byte(bad)); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

func TestParseLink(t *testing.T) {
	for _, c := range []struct {
		link, name string
		inode      uint64
		ok         bool
	}{
		{"pid:[4026531836]", "pid", 4026531836, true},
		{"pid_for_children:[1]", "pid_for_children", 1, true},
		{"pid:[0]", "pid", 0, false}, {"pid:[1", "pid", 1, false}, {"pid:[1]x", "pid", 1, false},
		{"/dev/null", "/dev/null", 0, false}, {"pid:[-1]", "pid", 0, false}, {"", "", 0, false},
	} {
		if name, inode, ok := parseLink(c.link); ok != c.ok || ok && (name != c.name || inode != c.inode) {
			t.Errorf("%q: %q, %d, %v", c.link, name, inode, ok)
		}
	}
}

func TestSeccompMode(t *testing.T) {
	for m, want := range map[SeccompMode]string{SeccompOff: "off", SeccompStrict: "strict", SeccompFilter: "filter", 9: "mode 9"} {
		if m.String() != want {
			t.Errorf("%d: %s, want %s", m, m, want)
		}
	}
}

// fuzzFile fuzzes a parser with the reader's own file of that name and seeds as beginnings.
func fuzzFile(f *testing.F, name string, seeds []string, try func(t *testing.T, data []byte)) {
	if data, err := os.ReadFile("/proc/self/" + name); err == nil {
		f.Add(data)
	}
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(try)
}

func FuzzParseMounts(f *testing.F) {
	fuzzFile(f, "mountinfo", []string{`1 2 0:3 / /a\040 rw shared:1 - nsfs  rw`, "1 2 0:3 / / rw - a b c\n\n-"}, func(t *testing.T, data []byte) {
		mounts, err := ParseMounts(data)
		if err != nil && mounts != nil {
			t.Error("mounts beside an error")
		}
		for _, m := range mounts {
			if m.ID < 0 || m.Parent < 0 || m.Propagation() == "" {
				t.Errorf("%+v", m)
			}
		}
	})
}

func FuzzParseIDMap(f *testing.F) {
	fuzzFile(f, "uid_map", []string{"0 100000 65536\n65536 1000 1", "0 4294967295 3", "4294967294 4294967294 1"}, func(t *testing.T, data []byte) {
		m, err := ParseIDMap(data)
		if err != nil && m != nil {
			t.Error("a map beside an error")
		}
		for _, r := range m {
			for _, id := range [...]uint32{r.Inside, r.Inside + r.Count - 1} {
				if out, ok := m.Outside(id); ok && out == noID {
					t.Errorf("%v: %d has the id that is none", m, id)
				}
			}
		}
		if len(m) == 1 {
			id := m[0].Inside + m[0].Count/2
			if out, ok := m.Outside(id); ok {
				if back, ok := m.Inside(out); !ok || back != id {
					t.Errorf("%v: %d is %d outside, which is %d, %v inside", m, id, out, back, ok)
				}
			}
		}
	})
}

func FuzzParseCgroups(f *testing.F) {
	fuzzFile(f, "cgroup", []string{"0::/", "1:name=x:/a:b\n2:cpu,cpuacct:/"}, func(t *testing.T, data []byte) {
		list, err := ParseCgroups(data)
		for _, c := range list {
			if err != nil || !strings.HasPrefix(c.Path, "/") {
				t.Errorf("%+v, %v", c, err)
			}
		}
	})
}

func FuzzParseTimeOffsets(f *testing.F) {
	fuzzFile(f, "timens_offsets", []string{"monotonic -9223372035 999999999", "7 1 0"}, func(t *testing.T, data []byte) {
		if o, err := ParseTimeOffsets(data); err != nil && o != (TimeOffsets{}) {
			t.Errorf("%v beside %v", o, err)
		}
	})
}

func FuzzParseLimits(f *testing.F) {
	fuzzFile(f, "limits", []string{limitsText}, func(t *testing.T, data []byte) {
		list, err := ParseLimits(data)
		if err != nil && list != nil || len(list) > len(abi.Rlimits()) {
			t.Errorf("%v, %v", list, err)
		}
	})
}

func FuzzParseStat(f *testing.F) {
	fuzzFile(f, "stat", []string{"2 (a) S 1 (b)) S 1 2 2 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 90020 1 1"}, func(t *testing.T, data []byte) {
		var p Process
		if p.parseStat(data) == nil && p.State == 0 {
			t.Error("a process in no state")
		}
	})
}

func FuzzParseStatus(f *testing.F) {
	fuzzFile(f, "status", []string{"Uid:\t1\t2\t3\t4\nNSpid:\t1\t2\nGroups:\t\n"}, func(t *testing.T, data []byte) {
		p := Process{PID: 1, PIDs: []int{1}}
		if p.parseStatus(data) == nil && len(p.PIDs) == 0 {
			t.Error("a process without a pid")
		}
	})
}

func FuzzParseLink(f *testing.F) {
	f.Add("pid:[4026531836]")
	f.Fuzz(func(t *testing.T, link string) {
		if name, inode, ok := parseLink(link); ok && inode == 0 || ok && !strings.HasPrefix(link, name+":[") {
			t.Errorf("%q: %q %d", link, name, inode)
		}
	})
}

// Who sent a signal has the host's number, also where the monitor is root of a user's world.
func TestOnHost(t *testing.T) {
	for _, c := range []struct {
		uid  uint32
		uids string
		want uint32
	}{
		{0, "         0       1000          1\n         1     100000      65536\n", 1000}, {33, "         0       1000          1\n         1     100000      65536\n", 100032},
		{0, "         0          0 4294967295\n", 0}, {1000, "         0          0 4294967295\n", 1000}, {65534, "         0       1000          1\n", 65534}, {7, "", 7},
	} {
		if got := OnHost(c.uid, []byte(c.uids)); got != c.want {
			t.Errorf("uid %d in %q: %d, want %d", c.uid, c.uids, got, c.want)
		}
	}
}
