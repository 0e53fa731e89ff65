package plan

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func compile(t testing.TB, text string, host Facts, o Options) Plan {
	t.Helper()
	p, err := Compile(decode(t, text), host, o)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return p
}

// ops returns the operations of one type, in order.
func ops[T Op](p Plan) []T {
	var list []T
	for _, s := range p.Steps {
		if op, ok := s.Op.(T); ok {
			list = append(list, op)
		}
	}
	return list
}

// A container in no cgroup has no step of one, unless a limit has to be refused; in any other it has.
func TestCgroupNowhere(t *testing.T) {
	text := config(`"root":{"path":"/"}`, `"linux":{"namespaces":[{"type":"mount"},{"type":"cgroup"}]}`)
	for _, test := range []struct {
		group Cgroup
		steps bool
	}{
		{Cgroup{ByHand: true, Devices: "deny all"}, false},
		{Cgroup{ByHand: true, Devices: "deny all", Writes: []CgroupFileCheck{{Path: "pids.max", Value: "3"}}}, true},
		{Cgroup{ByHand: true, Path: "/c"}, true},
		{Cgroup{ByHand: true, Unit: true}, true},
	} {
		p := compile(t, text, rootFacts(), Options{Cgroup: &test.group})
		if got := len(ops[*MakeCgroup](p))+len(ops[*JoinCgroup](p)) == 2; got != test.steps || !got && strings.Contains(p.Text(), "devices:") {
			t.Errorf("%+v:\n%s", test.group, p.Text())
		}
	}
}

// TestNamespaces has each kind of namespace absent, new and joined.
func TestNamespaces(t *testing.T) {
	for _, ns := range abi.Namespaces() {
		// A mount namespace is in each, for there to be a root.
		entry := func(rest string) string {
			list := fmt.Sprintf(`{"type":%q%s}`, ns, rest)
			if ns != abi.NSMount {
				list += `,{"type":"mount"}`
			}
			return config(`"root":{"path":"/"}`, `"linux":{"namespaces":[`+list+`],"uidMappings":[{"containerID":0,"hostID":5,"size":9}],"gidMappings":[{"containerID":0,"hostID":5,"size":9}]}`)
		}
		host := rootFacts()

		p := compile(t, entry(""), host, Options{})
		inClone := slices.Contains(ops[*Clone](p)[0].New, ns)
		if ns == abi.NSTime {
			if inClone || len(ops[*EnterTime](p)) != 1 {
				t.Errorf("a new time namespace is not entered: %v", p.Text())
			}
		} else if !inClone || len(ops[*EnterTime](p)) != 0 {
			t.Errorf("a new %v namespace is not made by the clone:\n%s", ns, p.Text())
		}
		if len(ops[*Setns](p)) != 0 || len(ops[*OpenNamespace](p)) != 0 {
			t.Errorf("a new %v namespace is joined:\n%s", ns, p.Text())
		}
		if got := len(ops[*LoopbackUp](p)); (got == 1) != (ns == abi.NSNetwork) {
			t.Errorf("%d loopback steps with a new %v namespace", got, ns)
		}
		if got := len(ops[*WriteIDMap](p)); (got == 2) != (ns == abi.NSUser) {
			t.Errorf("%d id maps with a new %v namespace", got, ns)
		}

		p = compile(t, entry(`,"path":"/run/it"`), host, Options{})
		opened, joined := ops[*OpenNamespace](p), ops[*Setns](p)
		if slices.Contains(ops[*Clone](p)[0].New, ns) || len(opened) != 1 || len(joined) != 1 ||
			*opened[0] != (OpenNamespace{NS: ns, Path: "/run/it", Out: regFree}) || *joined[0] != (Setns{NS: ns, FD: regFree}) {
			t.Errorf("a %v namespace is not joined by its path:\n%s", ns, p.Text())
		}
		if exec := ops[*Exec](p)[0]; exec.Fork != (ns == abi.NSPID) || len(ops[*Fork](p)) != 0 {
			t.Errorf("a %v namespace was joined, and it forks: %v", ns, exec.Fork)
		}
		// What is new beside a joined user namespace has to belong to it.
		if late := ops[*Unshare](p); (len(late) == 1) != (ns == abi.NSUser) || len(ops[*LoopbackUp](p)) != 0 {
			t.Errorf("a joined %v namespace: unshare %v:\n%s", ns, late, p.Text())
		}

		absent := `"linux":{"namespaces":[{"type":"mount"}]}`
		if ns == abi.NSMount {
			absent = `"linux":{}`
		}
		p = compile(t, config(`"root":{"path":"/"}`, absent), host, Options{})
		if slices.Contains(ops[*Clone](p)[0].New, ns) || len(ops[*Setns](p))+len(ops[*EnterTime](p))+len(ops[*LoopbackUp](p)) != 0 {
			t.Errorf("a %v namespace nobody asked for:\n%s", ns, p.Text())
		}
	}
}

// TestJoinOrder: a caller who has no right to the others joins the user namespace first, which gives it; one who has it
// joins the others first, which may belong to another one.
func TestJoinOrder(t *testing.T) {
	var list []string
	for _, ns := range abi.Namespaces() {
		list = append(list, fmt.Sprintf(`{"type":%q,"path":"/%v"}`, ns, ns))
	}
	slices.Reverse(list)
	chroot := userFacts()
	chroot.Caps = chroot.Caps.With(abi.CapSysChroot)
	for _, c := range []struct {
		host      Facts
		user, pid int
	}{{rootFacts(), 7, 6}, {userFacts(), 0, 7}, {chroot, 0, 7}} {
		p := compile(t, config(`"root":{"path":"/"}`, `"linux":{"namespaces":[`+strings.Join(list, ",")+`]}`), c.host, Options{})
		joined := ops[*Setns](p)
		if len(joined) != 8 || joined[c.user].NS != abi.NSUser || joined[c.pid].NS != abi.NSPID {
			t.Errorf("order of joining: %v", joined)
		}
	}
}

func TestParseMountOptions(t *testing.T) {
	const (
		ro, nosuid, nodev, noexec = abi.MountAttrRdonly, abi.MountAttrNosuid, abi.MountAttrNodev, abi.MountAttrNoexec
		atime                     = abi.MountAttrAtime
	)
	for _, test := range []struct {
		options string
		want    mountOptions
	}{
		{"", mountOptions{}},
		{"defaults", mountOptions{}},
		{"bind", mountOptions{bind: true}},
		{"rbind", mountOptions{bind: true, recursive: true}},
		{"ro", mountOptions{attrs: Attrs{Set: ro}}},
		{"rw", mountOptions{attrs: Attrs{Clear: ro}}},
		{"ro,rw", mountOptions{attrs: Attrs{Clear: ro}}},
		{"rw,ro", mountOptions{attrs: Attrs{Set: ro}}},
		{"nosuid,nodev,noexec", mountOptions{attrs: Attrs{Set: nosuid | nodev | noexec}}},
		{"nosuid,suid,dev,exec", mountOptions{attrs: Attrs{Clear: nosuid | nodev | noexec}}},
		{"noatime", mountOptions{attrs: Attrs{Set: abi.MountAttrNoatime, Clear: atime}}},
		{"noatime,relatime", mountOptions{attrs: Attrs{Clear: atime}}},
		{"relatime,strictatime", mountOptions{attrs: Attrs{Set: abi.MountAttrStrictatime, Clear: atime}}},
		{"strictatime,noatime", mountOptions{attrs: Attrs{Set: abi.MountAttrNoatime, Clear: atime}}},
		{"nodiratime,nosymfollow", mountOptions{attrs: Attrs{Set: abi.MountAttrNodiratime | abi.MountAttrNosymfollow}}},
		{"norelatime,rnorelatime", mountOptions{}},
		{"noatime,norelatime", mountOptions{attrs: Attrs{Set: abi.MountAttrNoatime, Clear: atime}}},
		{"rro", mountOptions{attrs: Attrs{RecSet: ro}}},
		{"rrw", mountOptions{attrs: Attrs{RecClear: ro}}},
		{"rro,rnoatime,ratime", mountOptions{attrs: Attrs{RecSet: ro, RecClear: atime}}},
		{"ro,rnosuid,rw", mountOptions{attrs: Attrs{Clear: ro, RecSet: nosuid}}},
		{"rrelatime", mountOptions{attrs: Attrs{RecClear: atime}}},
		{"private,rshared", mountOptions{mode: "rshared"}},
		{"runbindable", mountOptions{mode: "runbindable"}},
		{"size=1m,mode=755", mountOptions{data: []string{"size=1m", "mode=755"}}},
		{"r,rsize=1", mountOptions{data: []string{"r", "rsize=1"}}},
		{"bind,nodiratime,noatime", mountOptions{bind: true, attrs: Attrs{Set: abi.MountAttrNodiratime | abi.MountAttrNoatime, Clear: atime | abi.MountAttrNodiratime}}},
		{"bind,noatime,strictatime", mountOptions{bind: true, attrs: Attrs{Set: abi.MountAttrStrictatime, Clear: atime | abi.MountAttrNodiratime}}},
		{"bind,strictatime", mountOptions{bind: true, attrs: Attrs{Set: abi.MountAttrStrictatime, Clear: atime | abi.MountAttrNodiratime}}},
		{"bind,remount,noatime", mountOptions{bind: true, remount: true, attrs: Attrs{Set: abi.MountAttrNoatime, Clear: atime}}},
		{"bind,noatime,atime,norelatime,diratime", mountOptions{bind: true}},
		{"bind,nodiratime,relatime,nodiratime,diratime", mountOptions{bind: true, attrs: Attrs{Clear: atime | abi.MountAttrNodiratime}}},
		{"bind,idmap", mountOptions{bind: true, idmap: true}},
		{"rbind,ridmap", mountOptions{bind: true, recursive: true, idmap: true, ridmap: true}},
	} {
		c := &compiler{userNS: true}
		got, err := c.parseMount(0, specs.Mount{Options: strings.Split(test.options, ",")})
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: %+v, %v; want %+v", test.options, got, err, test.want)
		}
	}
}

// TestEveryAttributeIsPaired: a word and its opposite act on the same bits.
func TestEveryAttributeIsPaired(t *testing.T) {
	for i, w := range attrWords {
		if i%2 == 1 {
			continue
		}
		on, off := w, attrWords[i+1]
		if strings.TrimPrefix(on.word, "no") != strings.TrimPrefix(off.word, "no") && on.word+off.word != "rorw" {
			t.Errorf("%s stands beside %s", on.word, off.word)
		}
		var set, clr uint64
		on.apply(&set, &clr)
		off.apply(&set, &clr)
		if off.word == "norelatime" { // which leaves things as they are
			off.set, off.clear = on.set, on.clear
		}
		if set != off.set || clr != off.clear {
			t.Errorf("%s after %s: set %#x clear %#x, want %#x %#x", off.word, on.word, set, clr, off.set, off.clear)
		}
	}
}

// TestAccessTimes: fsmount takes the access times of a new file system, and nothing
// sets them back afterwards.
func TestAccessTimes(t *testing.T) {
	attrs := Attrs{Set: abi.MountAttrNoatime, Clear: abi.MountAttrAtime}
	for _, op := range []Op{&Mount{Type: "tmpfs", Dest: "/a", Attrs: attrs}, &NewMount{Type: "tmpfs", Attrs: attrs, Out: regFree}} {
		for _, r := range Lower(op, abi.ArchX86_64) {
			if r.Call == abi.CallFsmount && r.Args[2].Val != abi.MountAttrNoatime {
				t.Errorf("%v: fsmount with %s", op, abi.MountAttrWords(r.Args[2].Val))
			}
			if r.Call == abi.CallMountSetattr {
				t.Errorf("%v: %s", op, rowText(r, abi.ArchX86_64))
			}
		}
	}
}

// TestDeepPaths: the number of registers does not depend on the depth of a path.
func TestDeepPaths(t *testing.T) {
	for _, depth := range []int{1, 2, 3, 4, 15, 16, 17, 100} {
		deep := strings.Repeat("/d", depth)
		for _, op := range []Op{
			&Mount{Type: "tmpfs", Source: "tmpfs", Dest: deep}, &Bind{Source: "/a", Dest: deep}, &Bind{Source: "/a", Dest: deep, Dir: true, Have: 3}, &Mask{Path: deep},
			&ReadonlyPath{Path: deep}, &Device{Path: deep, Type: "c"}, &Device{Path: deep, Type: "c", Bind: "/dev/null"}, &Symlink{Path: deep, Target: "x"},
			&Workdir{Path: deep}, &Overlay{Dest: deep, Path: "/a"}, &Remount{Dest: deep, Attrs: Attrs{Set: 1}}, &Chdir{Path: deep},
		} {
			rows := Lower(op, abi.ArchX86_64)
			checkRows(t, op, rows)
			var filled regSet
			filled[RegRoot], filled[RegScratch], filled[RegNull] = true, true, true
			if _, faults := flow(rows, filled); len(faults) > 0 {
				t.Errorf("%T %d deep: %v", op, depth, faults)
			}
		}
	}
	// The longest path there is.
	deepest := &Bind{Source: "/a", Dest: strings.Repeat("/d", 2047)}
	checkRows(t, deepest, Lower(deepest, abi.ArchX86_64))
}

// TestHave: what is known to be there has not been hidden since.
func TestHave(t *testing.T) {
	for _, test := range []struct {
		mounted []string
		path    string
		want    int
	}{
		{nil, "/dev/null", 0},
		{[]string{"/dev"}, "/dev/null", 1},
		{[]string{"/dev"}, "/dev", 0},
		{[]string{"/dev"}, "/device", 0},
		{[]string{"/dev", "/dev/pts"}, "/dev/pts/ptmx", 2},
		{[]string{"/dev", "/dev/pts"}, "/dev/shm/x", 1},
		{[]string{"/a/b", "/a"}, "/a/b/c", 1},
		{[]string{"/a/b", "/a", "/a/b"}, "/a/b/c", 2},
	} {
		c := &compiler{}
		for _, m := range test.mounted {
			c.mountedAt(m)
		}
		if got := c.have(test.path); got != test.want {
			t.Errorf("%v: %d components of %s are there, want %d", test.mounted, got, test.path, test.want)
		}
	}
	// A bind hides what was mounted below it, too.
	p := compile(t, config(`"mounts":[{"destination":"/a/b","type":"tmpfs"},{"destination":"/a","type":"bind","source":"/x"},{"destination":"/a/b/c","type":"tmpfs"}]`),
		rootFacts(), Options{})
	if m := ops[*Mount](p); m[1].Dest != "/a/b/c" || m[1].Have != 1 {
		t.Errorf("%d components of %s are taken for granted", m[1].Have, m[1].Dest)
	}
}

func TestCauses(t *testing.T) {
	c := &compiler{o: Options{Causes: map[string]string{
		"mounts": "all mounts", "mounts[1]": "-v", "linux": "some default", "linux.sysctl.net.ipv4.ip_forward": "--sysctl",
	}}}
	for field, want := range map[string]string{
		"mounts[0]":                        "all mounts",
		"mounts[1]":                        "-v",
		"mounts[1].options[2]":             "-v",
		"mounts[11]":                       "all mounts",
		"linux.sysctl.net.ipv4.ip_forward": "--sysctl",
		"linux.sysctl.net.ipv4":            "some default",
		"linuxes":                          "",
		"root.path":                        "",
		"process.args":                     "",
	} {
		if got := c.cause(field); got != (Cause{Field: field, Reason: want}) {
			t.Errorf("%s is there because of %+v, want %q", field, got, want)
		}
	}
	for want, c := range map[string]Cause{
		"default":               {},
		"config.json mounts[0]": {Field: "mounts[0]"},
		"-v":                    {Field: "mounts[0]", Reason: "-v"},
	} {
		if c.String() != want {
			t.Errorf("%+v prints %q, want %q", c, c.String(), want)
		}
	}
}

func TestSearchPath(t *testing.T) {
	const usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, test := range []struct{ arg, env, want string }{
		{"sh", "", usual},
		{"sh", "PATH=/a:/b", "/a:/b"},
		{"sh", "PATH=", ""},
		{"sh", "XPATH=/a", usual},
		{"./sh", "PATH=/a", "none"},
		{"/bin/sh", "", "none"},
		{"", "", "none"},
	} {
		got := searchPath(&specs.Process{Args: []string{test.arg}, Env: []string{"A=b", test.env}})
		if (got == nil) != (test.want == "none") || (got != nil && strings.Join(got, ":") != test.want) {
			t.Errorf("%q with %q is looked for in %q, want %q", test.arg, test.env, got, test.want)
		}
		if unshare := searchEnv(test.arg, []string{"A=b", test.env}); !slices.Equal(unshare, got) {
			t.Errorf("%q with %q: unshare looks in %q, a container in %q", test.arg, test.env, unshare, got)
		}
	}
}

// TestHugePath: what is wrong with a PATH of more directories than there is room for is said.
func TestHugePath(t *testing.T) {
	var dirs []string
	for i := range maxDirs + 1 {
		dirs = append(dirs, strconv.Itoa(i))
	}
	s := &specs.Spec{Process: &specs.Process{Args: []string{"sh"}, Env: []string{"PATH=" + strings.Join(dirs, ":")}}}
	_, err := Compile(s, Facts{}, Options{})
	if err == nil || !strings.Contains(err.Error(), "PATH has 60001 directories in which sh would be looked for") {
		t.Errorf("%v", err)
	}
	if once := searchPath(&specs.Process{Args: []string{"sh"}, Env: []string{"PATH=/a:/b:/a::/b:"}}); !slices.Equal(once, []string{"/a", "/b", ""}) {
		t.Errorf("directories that are named twice: %q", once)
	}
	s.Process.Args[0] = "/bin/sh"
	if _, err := Compile(s, Facts{}, Options{}); err != nil {
		t.Errorf("by its whole path: %v", err)
	}
}

// TestResourcesWarn: limits that are not applied are told of.
func TestResourcesWarn(t *testing.T) {
	for _, r := range []string{`"pids":{"limit":5}`, `"memory":{"limit":5000000}`, `"unified":{"memory.high":"1"}`} {
		p := compile(t, config(`"linux":{"namespaces":[{"type":"mount"}],"cgroupsPath":"/a","resources":{`+r+`}}`), rootFacts(), Options{})
		if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "linux.resources") {
			t.Errorf("%s: %q", r, p.Warnings)
		}
	}
}

func TestExecTriesEachDirectory(t *testing.T) {
	rows := Lower(&Exec{Args: []string{"sh", "-c"}, Env: []string{"A=b"}, Path: []string{"/a", "", "/b"}}, abi.ArchX86_64)
	var tried []string
	for _, r := range rows[:len(rows)-1] {
		if r.Kind != RowNote || r.Accept != [4]abi.Errno{abi.ENOENT, abi.ENOTDIR, abi.ELOOP, abi.EACCES} {
			t.Errorf("row %+v", r)
		}
		tried = append(tried, string(r.Args[0].Mem.Data))
	}
	if want := []string{"/a/sh\x00", "./sh\x00", "/b/sh\x00"}; !slices.Equal(tried, want) {
		t.Errorf("tried %q, want %q", tried, want)
	}
	if last := rows[len(rows)-1]; last.Kind != RowFail || last.Accept[0] != abi.ENOENT {
		t.Errorf("the last row is %+v", last)
	}
}

func TestSmallFormats(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{sysctlPath("net.ipv4.ip_forward"), "net/ipv4/ip_forward"},
		{sysctlPath("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding"},
		{sysctlPath("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding"},
		{sysctlPath("kernel"), "kernel"},
		{(&SysctlCheck{Key: "kernel.sem"}).Path(), "sys/kernel/sem"},

		{below("/"), "."}, {below(""), "."}, {below("/a/../b//c/"), "b/c"}, {below("../../etc"), "etc"}, {below("a"), "a"},
		{fmt.Sprint(components("/a/./b/..")), "[a]"},

		{clockOffset("boottime", 0), "boottime 0 0\n"},
		{clockOffset("boottime", 86400_500_000_000), "boottime 86400 500000000\n"},
		{clockOffset("monotonic", -1), "monotonic -1 999999999\n"},
		{clockOffset("monotonic", -1_500_000_000), "monotonic -2 500000000\n"},
		{clockOffset("monotonic", -2_000_000_000), "monotonic -2 0\n"},
		{offset(0), "+0s"}, {offset(-500_000_000), "-0.5s"}, {offset(3_600_000_000_000), "+3600s"},

		{escapeOverlay(`/a:b,c\d`), `/a\:b\,c\\d`},
		{limitText(abi.RlimitInfinity), "unlimited"}, {limitText(0), "0"},
		{capText(0), "none"}, {capText(abi.Caps(abi.CapKill, abi.CapChown)), "chown,kill"},
		{mapText([]IDMapping{{0, 1000, 1}, {1, 100000, 65536}}, ", "), "0 1000 1, 1 100000 65536"},
		{words("", "a", "", "b c"), "a b c"},
		{quote("plain-1.2_x=y/z"), "plain-1.2_x=y/z"}, {quote(""), `""`}, {quote("a b"), `"a b"`}, {quote("$x"), `"$x"`}, {quote("a\nb"), `"a\nb"`},
		{OneLine("a b→c"), "a b→c"}, {OneLine("a\tb\x00c"), `a\tb\x00c`}, {OneLine("\u202ex\U000e0001"), `\u202ex\U000e0001`}, {OneLine("\xffé\ufffd"), `\xffé�`},
		{Attrs{Set: abi.MountAttrRdonly, Clear: abi.MountAttrNosuid, RecSet: abi.MountAttrNodev | abi.MountAttrNoexec, RecClear: abi.MountAttrAtime}.String(),
			"rdonly,not-nosuid,r:nodev,r:noexec,r:not-atime"},
		{Attrs{}.String(), ""},
		{Runtime.String(), "runtime"}, {Container.String(), "container"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

// TestDeviceNumber: makedev(3) in the kernel's 32 bits.
func TestDeviceNumber(t *testing.T) {
	for _, test := range []struct {
		major, minor uint32
		want         uint64
	}{{1, 3, 0x103}, {10, 229, 0xae5}, {8, 256, 0x100800}, {4095, 1048575, 0xffffffff}, {0, 0, 0}} {
		if got := (&Device{Major: test.major, Minor: test.minor}).number(); got != test.want {
			t.Errorf("%d:%d is %#x, want %#x", test.major, test.minor, got, test.want)
		}
	}
}

func TestHostID(t *testing.T) {
	m := []IDMapping{{0, 1000, 1}, {1, 100000, 10}, {4294967290, 5, 5}}
	for id, want := range map[uint32]uint32{0: 1000, 1: 100000, 10: 100009, 11: 65534, 4294967290: 5, 4294967294: 9, 4294967295: 65534} {
		if got := hostID(m, id); got != want {
			t.Errorf("%d is %d outside, want %d", id, got, want)
		}
	}
}

func TestDropUnmappedGID(t *testing.T) {
	c := &compiler{fresh: []abi.Namespace{abi.NSUser}, gids: []IDMapping{{0, 1000, 1}, {5, 100, 2}}}
	for option, kept := range map[string]bool{"gid=0": true, "gid=1": false, "gid=5": true, "gid=6": true, "gid=7": false, "gid=x": true, "mode=620": true, "ptmxmode=1": true} {
		if got := c.dropUnmappedGID([]string{"newinstance", option}); slices.Contains(got, option) != kept || got[0] != "newinstance" {
			t.Errorf("%s: %v", option, got)
		}
	}
	c.fresh = nil
	if got := c.dropUnmappedGID([]string{"gid=1"}); len(got) != 1 {
		t.Errorf("without a user namespace: %v", got)
	}
}

// TestDropBounding drops each capability but those to keep, and ends, however high
// the last one is said to be.
func TestDropBounding(t *testing.T) {
	for last, want := range map[abi.Capability]int{0: 1, 1: 1, 40: 40, 63: 63, 64: 63, 255: 63} {
		op := &DropBounding{Keep: abi.Caps(abi.Capability(1)), Last: last}
		if rows := Lower(op, abi.ArchX86_64); len(rows) != want {
			t.Errorf("up to %d: %d capabilities dropped, want %d", last, len(rows), want)
		}
	}
}

// TestTerminalAfterSetsid: the container has a session before it has a terminal, and
// setsid(2) refuses to make a second one.
func TestTerminalAfterSetsid(t *testing.T) {
	rows := Lower(&Terminal{}, abi.ArchX86_64)
	if i := slices.IndexFunc(rows, func(r Row) bool { return r.Call == abi.CallSetsid }); i < 0 || rows[i].Accept[0] != abi.EPERM {
		t.Errorf("the terminal fails in a process that leads its session: %v", rows)
	}
}

func TestPrivileged(t *testing.T) {
	for _, less := range []abi.Capability{abi.CapSysAdmin, abi.CapSetuid, abi.CapSetgid} {
		if (Facts{AllIDs: true, Caps: abi.AllCaps.Without(less)}).Privileged() {
			t.Errorf("privileged without %v", less)
		}
	}
	if !(Facts{AllIDs: true, Caps: abi.AllCaps}).Privileged() || (Facts{Caps: abi.AllCaps}).Privileged() || (Facts{UID: 0}).Privileged() {
		t.Error("it is not the user that counts, but the capabilities")
	}
}

// TestRelativeDestination: config.md has a destination without a slash begin at the
// root, so "dev" is /dev: no node may be made in a /dev that is the host's.
func TestRelativeDestination(t *testing.T) {
	for _, dest := range []string{"/dev", "dev", "/dev/", "./dev", "/x/../dev"} {
		p := compile(t, config(`"mounts":[{"destination":"`+dest+`","type":"bind","source":"/dev"}]`), rootFacts(), Options{})
		if d := ops[*Device](p); len(d) > 0 {
			t.Errorf("%s is the host's, and gets %v", dest, d[0])
		}
	}
}

// TestOverriddenOffsets: options go before the spec's whole seconds.
func TestOverriddenOffsets(t *testing.T) {
	text := config(`"linux":{"namespaces":[{"type":"mount"},{"type":"time"}],"timeOffsets":{"boottime":{"secs":5},"monotonic":{"secs":6,"nanosecs":7}}}`)
	for want, o := range map[EnterTime]Options{
		{Boottime: 5e9, Monotonic: 6e9 + 7}: {},
		{Boottime: 1, Monotonic: 6e9 + 7}:   {Boottime: 1},
		{Boottime: 5e9, Monotonic: -2}:      {Monotonic: -2},
	} {
		if got := ops[*EnterTime](compile(t, text, rootFacts(), o)); *got[0] != want {
			t.Errorf("%+v gives %v, want %v", o, got[0], &want)
		}
	}
}

// TestCloseTemps closes what a failed step leaves, and nothing else.
func TestCloseTemps(t *testing.T) {
	regs := make([]int64, NumRegs)
	for i := range regs {
		regs[i] = -1
	}
	regs[RegRoot], regs[regTemp], regs[NumRegs-1] = 7, 8, 9
	var closed []int
	CloseTemps(regs, func(fd int) { closed = append(closed, fd) })
	if !slices.Equal(closed, []int{8, 9}) || regs[RegRoot] != 7 || regs[regTemp] != -1 || regs[NumRegs-1] != -1 {
		t.Errorf("closed %v, left %v", closed, regs)
	}
}

// TestMountOnDevice: what the spec mounts on a device's place stays there.
func TestMountOnDevice(t *testing.T) {
	p := compile(t, config(`"mounts":[{"destination":"/dev/null","type":"bind","source":"/dev/null"}]`,
		`"linux":{"namespaces":[{"type":"mount"}],"devices":[{"path":"/dev/../dev/null","type":"c","major":1,"minor":3}]}`), rootFacts(), Options{})
	for _, d := range ops[*Device](p) {
		if d.Path == "/dev/null" {
			t.Errorf("a mount is there already: %v", d)
		}
	}
	if len(ops[*Device](p)) != 5 {
		t.Errorf("the other devices: %v", ops[*Device](p))
	}
	const pts = `{"destination":"/dev/pts","type":"devpts","source":"devpts"}`
	for mounts, want := range map[string]int{"": 0, pts: 1, pts + `,{"destination":"/dev/ptmx","type":"bind","source":"/dev/pts/ptmx"}`: 0} {
		links := ops[*Symlink](compile(t, config(`"root":{"path":"/r"}`, `"mounts":[`+mounts+`]`), rootFacts(), Options{}))
		if n := len(slices.DeleteFunc(links, func(l *Symlink) bool { return l.Path != "/dev/ptmx" })); n != want {
			t.Errorf("%d links at /dev/ptmx beside %s", n, mounts)
		}
	}
}

// TestMadeDev: a /dev that is made on the runtime's side can be written to until its nodes are made.
func TestMadeDev(t *testing.T) {
	p := compile(t, config(`"mounts":[{"destination":"/dev","type":"tmpfs","source":"from","options":["ro","nosuid"]}]`,
		`"linux":{"namespaces":[{"type":"mount"},{"type":"user"}],"uidMappings":[{"hostID":1,"size":9}],"gidMappings":[{"hostID":1,"size":9}]}`), rootFacts(), Options{})
	if made := ops[*NewMount](p); len(made) != 1 || made[0].Attrs.Set != abi.MountAttrNosuid || made[0].Source != "from" {
		t.Errorf("%v", made)
	}
}

// TestRootPropagation: rootfsPropagation is the root's when that is attached, with what is below it by the words that begin with r, and only where it is shared a
// mount can be shared with the host, whose tree is opened before that propagation changes; none where the container has a user namespace.
func TestRootPropagation(t *testing.T) {
	for _, mode := range []string{"shared", "rshared", "unbindable", "runbindable", "private", "rprivate", "slave", "rslave"} {
		for _, of := range []string{"shared", "rshared", "slave"} {
			p := compile(t, config(`"root":{"path":"/r"}`, `"linux":{"namespaces":[{"type":"mount"}],"rootfsPropagation":"`+mode+`"}`,
				`"mounts":[{"destination":"/a","type":"bind","source":"/a","options":["rbind","`+of+`"]},{"destination":"/t","type":"tmpfs","source":"tmpfs","options":["`+of+`"]},`+
					`{"destination":"/i","type":"bind","source":"/r/i","options":["bind","`+of+`"]},{"destination":"/a","source":"/a","options":["bind","remount","`+of+`"]}]`),
				rootFacts(), Options{Subpaths: []Subpath{{Dest: "/a", Path: "sub"}}})
			list := slices.DeleteFunc(ops[*Propagation](p), func(op *Propagation) bool { return op.Path != "/" || op.Mode != strings.TrimPrefix(mode, "r") })
			later := strings.HasSuffix(mode, "shared") || strings.HasSuffix(mode, "unbindable")
			if later && (len(list) != 1 || list[0].Recursive != (mode[0] == 'r')) || !later && len(list) > 1 {
				t.Errorf("%s: %v", mode, list)
			}
			asked := strings.TrimPrefix(of, "r")
			if mode == "rshared" || mode == "runbindable" {
				asked = ""
			}
			for _, s := range p.Steps {
				if c, ok := s.Check.(*MountCheck); ok && c.Dest == "/a" && c.Propagation != asked {
					t.Errorf("a mount that is %s in a root that is %s is to be found %q", of, mode, c.Propagation)
				}
			}
			want := 0
			if strings.HasSuffix(mode, "shared") && of != "slave" {
				want = 1
			}
			if trees := ops[*OpenTree](p); len(trees) != want || want == 1 && (!trees[0].Recursive || trees[0].Below != "sub") {
				t.Errorf("a mount that is %s in a root that is %s: %v are opened before its propagation changes, want %d", of, mode, trees, want)
			}
		}
	}
	text := config(`"root":{"path":"/r"}`, `"mounts":[{"destination":"/a","type":"bind","source":"/a","options":["shared"]}]`,
		`"linux":{"namespaces":[{"type":"mount"},{"type":"user"}],"uidMappings":[{"hostID":1,"size":9}],"gidMappings":[{"hostID":1,"size":9}],"rootfsPropagation":"shared"}`)
	if trees := ops[*OpenTree](compile(t, text, rootFacts(), Options{})); len(trees) > 0 {
		t.Errorf("in a user namespace: %v", trees)
	}
}

// TestLedToProc: a mount below one that the plan makes itself, or on a file of /proc that may be covered, cannot be led into a /proc by what an image has there; below one
// that begins with an image's files, below one of another kind, and after a mount that may have been led there itself, it can.
func TestLedToProc(t *testing.T) {
	const dev, sys, elsewhere = `{"destination":"/dev","type":"tmpfs","source":"tmpfs"},`, `{"destination":"/sys","type":"sysfs","source":"sysfs"},`, `{"destination":"/srv","type":"tmpfs","source":"tmpfs"},`
	const copied, bound = `{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["tmpcopyup"]},`, `{"destination":"/srv","type":"bind","source":"/s"},`
	for _, c := range []struct {
		before, dest string
		want         bool
	}{
		{dev, "/dev/shm", false}, {copied, "/dev/shm", true}, {"", "/dev/shm", true}, {dev + elsewhere, "/dev/shm", true}, {dev + bound, "/dev/shm", true}, {sys, "/dev/shm", true},
		{sys, "/sys/fs/x", false}, {`{"destination":"/sys","type":"tmpfs","source":"tmpfs"},`, "/sys/fs/x", true}, {"", "/sys/fs/x", true}, {sys + elsewhere, "/sys/fs/x", true}, {sys + bound, "/sys/fs/x", true}, {dev, "/sys/fs/x", true},
		{`{"destination":"/dev","type":"ramfs","source":"ramfs"},`, "/dev/shm", true}, {`{"destination":"/srv","type":"sysfs","source":"sysfs"},`, "/sys/fs/x", true},
		{"", "/proc/meminfo", false}, {"", "/srv/x", true},
	} {
		text := config(`"root":{"path":"/r"}`, `"mounts":[`+c.before+`{"destination":"`+c.dest+`","type":"tmpfs","source":"last"}]`)
		for _, op := range ops[*Mount](compile(t, text, rootFacts(), Options{})) {
			if op.Source == "last" && op.NotProc != c.want {
				t.Errorf("after %s: %v, want %v", c.before, op, c.want)
			}
		}
	}
}

// TestBindOnKernels: what is bound on /proc has to be a procfs, and no link of an image leads it or what is bound on /sys and /dev elsewhere.
func TestBindOnKernels(t *testing.T) {
	for dest, want := range map[string]Bind{
		"/proc": {OfProc: true, Strict: true, Out: RegProcfs}, "/sys": {Strict: true, Out: RegSysfs}, "/dev": {Strict: true}, "/srv": {NotProc: true},
	} {
		text := config(`"root":{"path":"/r"}`, `"mounts":[{"destination":"`+dest+`","type":"bind","source":"/a"}]`)
		for _, op := range ops[*Bind](compile(t, text, rootFacts(), Options{})) {
			got := Bind{OfProc: op.OfProc, Strict: op.Strict, NotProc: op.NotProc, Out: op.Out}
			if op.Source == "/a" && !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, want %+v", dest, got, want)
			}
		}
	}
}

// TestRemountInProc: what is mounted there already can get other attributes.
func TestRemountInProc(t *testing.T) {
	for _, dest := range []string{"/proc", "/proc/sys"} {
		_, err := Compile(decode(t, config(`"root":{"path":"/r"}`, `"mounts":[{"destination":"/proc","type":"proc","source":"proc"},{"destination":"`+dest+`","source":"none","options":["remount","ro"]}]`)), rootFacts(), Options{})
		if err != nil {
			t.Errorf("%s: %v", dest, err)
		}
	}
}

// TestBindOptions: links are followed at neither end where both are asked for; and attributes that are asked for are the only ones, unless those of the source are kept.
func TestBindOptions(t *testing.T) {
	text := config(`"root":{"path":"/r"}`, `"mounts":[{"destination":"/a","type":"bind","source":"/b","options":["ro","src-nofollow","dest-nofollow"]}]`)
	for _, inherit := range []bool{false, true} {
		for _, op := range ops[*Bind](compile(t, text, rootFacts(), Options{InheritFlags: inherit})) {
			if op.Dest == "/a" && (!op.Link || !op.OnLink || op.Only == inherit) {
				t.Errorf("flags inherited %v: %+v", inherit, op)
			}
		}
	}
}

// TestCopiedLink: a source that is a link is copied, and one in the container's root is mounted as others of there are.
func TestCopiedLink(t *testing.T) {
	for source, want := range map[string]int{"/b": 1, "/r/b": 0} {
		text := config(`"root":{"path":"/r"}`, `"mounts":[{"destination":"/a","type":"bind","source":"`+source+`","options":["copy-symlink"]}]`)
		links := ops[*Symlink](compile(t, text, rootFacts(), Options{Links: map[int]string{0: "to"}}))
		if n := len(slices.DeleteFunc(links, func(l *Symlink) bool { return l.Path != "/a" })); n != want {
			t.Errorf("%s: %d links", source, n)
		}
	}
}

// TestCgroupMountOfUser: who owns the user namespace and not the one of cgroups gets the hierarchy of version 2 bound; who owns both mounts it.
func TestCgroupMountOfUser(t *testing.T) {
	for _, c := range []struct {
		more    string
		unified bool
		want    int
	}{{"", true, 1}, {`,{"type":"cgroup"}`, true, 0}, {"", false, 0}} {
		facts := rootFacts()
		facts.Cgroup.Unified = c.unified
		text := config(`"root":{"path":"/r"}`, `"mounts":[{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup"}]`,
			`"linux":{"namespaces":[{"type":"mount"},{"type":"user"}`+c.more+`],"uidMappings":[{"containerID":0,"hostID":1000,"size":1}],"gidMappings":[{"containerID":0,"hostID":1000,"size":1}]}`)
		got, p := 0, compile(t, text, facts, Options{})
		for _, op := range ops[*Bind](p) {
			if op.Source == "/sys/fs/cgroup" && op.Dest == "/sys/fs/cgroup" && op.NotProc {
				got++
			}
		}
		for _, op := range ops[*Mount](p) {
			if op.Dest == "/sys/fs/cgroup" && !op.NotProc {
				t.Errorf("%+v: %v may be led into a procfs", c, op)
			}
		}
		if got != c.want {
			t.Errorf("%+v: %d binds", c, got)
		}
	}
}

// TestMaskBelow: a masked path is looked up in the procfs or sysfs that the plan mounts, and where it mounts none in the root.
func TestMaskBelow(t *testing.T) {
	const masked = `"linux":{"namespaces":[{"type":"mount"}],"maskedPaths":["/proc/kcore","/sys/firmware","/proc","/sys","/srv/x"]}`
	mounts := `"mounts":[{"destination":"/proc","type":"proc","source":"proc"},{"destination":"/sys","type":"sysfs","source":"sysfs"}]`
	for _, c := range []struct {
		parts []string
		want  []Reg
	}{
		{[]string{masked, mounts}, []Reg{RegProcfs, RegSysfs, RegNone, RegNone, RegNone}}, {[]string{masked}, []Reg{RegNone, RegNone, RegNone, RegNone, RegNone}},
	} {
		var got []Reg
		for _, op := range ops[*Mask](compile(t, config(append(c.parts, `"root":{"path":"/r"}`)...), rootFacts(), Options{})) {
			got = append(got, op.Below)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.parts, got, c.want)
		}
	}
}

// TestUsualOfServedRoot: a root that a program shows has an mtab and a .dockerenv, too, where the layers have none.
func TestUsualOfServedRoot(t *testing.T) {
	for _, usual := range []bool{false, true} {
		l := &Layers{Lower: "/l", Names: []string{"a"}, Upper: "/u", Usual: usual, Server: &Server{Program: "/usr/bin/fuse-overlayfs"}}
		p := compile(t, config(`"root":{"path":"/r"}`), rootFacts(), Options{Root: &Root{Layers: l, Reason: "image"}})
		if n := len(ops[*Mtab](p)) + len(ops[*Dockerenv](p)); n == 2 != usual || len(ops[*ServeRoot](p)) != 1 {
			t.Errorf("%t:\n%s", usual, p.Text())
		}
	}
}

// TestLabelOfImageRoot: the files of an image have the label of the mount, and are not shown by who cannot give them one.
func TestLabelOfImageRoot(t *testing.T) {
	host, spec := rootFacts(), config(`"root":{"path":"/r"}`, `"linux":{"namespaces":[{"type":"mount"}],"mountLabel":"u:object_r:f_t:s0:c1,c2"}`)
	layers := func(s *Server) Options {
		return Options{Root: &Root{Layers: &Layers{Lower: "/l", Names: []string{"a"}, Upper: "/u", Server: s}, Reason: "image"}}
	}
	for enabled, want := range map[bool][]string{true: {"context=u:object_r:f_t:s0:c1,c2"}, false: nil} {
		host.SELinux = enabled
		p := compile(t, spec, host, layers(nil))
		roots := ops[*ImageRoot](p)
		if len(roots) != 1 || !slices.Equal(roots[0].Options, want) || enabled && !strings.Contains(p.Text(), want[0]) {
			t.Errorf("SELinux %t: want %q:\n%s", enabled, want, p.Text())
		}
		_, err := Compile(decode(t, spec), host, layers(&Server{Program: "/usr/bin/fuse-overlayfs"}))
		if enabled != (err != nil && strings.Contains(err.Error(), "linux.mountLabel: fuse-overlayfs shows")) {
			t.Errorf("SELinux %t: served: %v", enabled, err)
		}
	}
}

// TestKeptTime: of the namespaces that are kept only the one of time is kept by the side of the container, which makes it.
func TestKeptTime(t *testing.T) {
	keep := []KeepNamespace{{NS: abi.NSUTS, Path: "/k/uts"}, {NS: abi.NSTime, Path: "/k/time"}}
	p, err := CompileUnshare(UnshareOptions{New: []abi.Namespace{abi.NSUTS, abi.NSTime}, Keep: keep, Args: []string{"true"}}, rootFacts())
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, s := range p.Steps {
		switch op := s.Op.(type) {
		case *KeepNamespace:
			kept = append(kept, op.Path)
		case *EnterTime:
			kept = append(kept, "made")
		}
	}
	if !slices.Equal(kept, []string{"/k/uts", "made", "/k/time"}) {
		t.Errorf("%v:\n%s", kept, p.Text())
	}
}

// TestFold: lines end between words, else behind a slash or comma in their second half, else anywhere.
func TestFold(t *testing.T) {
	for text, want := range map[string][]string{
		"":                      {""},
		"one two three":         {"one two", "three"},
		"/usr/bin/program":      {"/usr/bin/", "program"},
		"a,bb,ccc,dd,eeee,f":    {"a,bb,ccc,", "dd,eeee,f"},
		"0123456789abcdef":      {"0123456789", "abcdef"},
		"a/b 0123456789":        {"a/b 012345", "6789"},
		"one   two/three":       {"one   two/", "three"},
		"ab cdef/ghijklmnopqrs": {"ab cdef/", "ghijklmnop", "qrs"},
	} {
		if got := fold(text, 10); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestOwnNull: who has been given the machine's null device for a stream gets the container's own, where that has one that is the machine's device and its node.
func TestOwnNull(t *testing.T) {
	const tmpfs = `"mounts":[{"destination":"/dev","type":"tmpfs","source":"tmpfs"}]`
	const of = `"linux":{"namespaces":[{"type":"mount"},{"type":"user"}],"uidMappings":[{"hostID":1,"size":9}],"gidMappings":[{"hostID":1,"size":9}]}`
	dev := func(of string) string {
		return `"linux":{"namespaces":[{"type":"mount"}],"devices":[{"path":"/dev/null",` + of + `}]}`
	}
	for _, c := range []struct {
		parts []string
		nulls []uint32
		want  int
	}{
		{nil, []uint32{0}, 1}, {nil, nil, 0}, {[]string{tmpfs}, []uint32{0, 2}, 1},
		{[]string{dev(`"type":"c","major":1,"minor":3`)}, []uint32{0}, 1}, {[]string{dev(`"type":"c","major":1,"minor":5`)}, []uint32{0}, 0},
		{[]string{dev(`"type":"c","major":7,"minor":3`)}, []uint32{0}, 0}, {[]string{dev(`"type":"b","major":1,"minor":3`)}, []uint32{0}, 0},
		{[]string{tmpfs, dev(`"type":"c","major":1,"minor":5`)}, []uint32{0}, 0},
		{[]string{dev(`"type":"c","major":1,"minor":5},{"path":"/dev/other","type":"c","major":1,"minor":3`)}, []uint32{0}, 0},
		{[]string{tmpfs, of}, []uint32{0}, 1},
		{[]string{`"mounts":[{"destination":"/dev/null","type":"bind","source":"/dev/null"}]`}, []uint32{0}, 0},
		{[]string{of}, []uint32{0}, 0},
	} {
		p := compile(t, config(append([]string{`"root":{"path":"/r"}`}, c.parts...)...), rootFacts(), Options{Nulls: c.nulls})
		if list := ops[*OwnNull](p); len(list) != c.want || c.want > 0 && !slices.Equal(list[0].FDs, c.nulls) {
			t.Errorf("%v, descriptors %v: %v", c.parts, c.nulls, list)
		}
	}
	on := config(`"root":{"path":"/r"}`, `"process":{"args":["/bin/true"],"cwd":"/","terminal":true}`, `"mounts":[{"destination":"/dev/pts","type":"devpts","source":"devpts"}]`)
	if list := ops[*OwnNull](compile(t, on, rootFacts(), Options{Nulls: []uint32{0}})); len(list) > 0 {
		t.Errorf("on a terminal: %v", list)
	}
}

// TestRootOfUserNamespace: what rootless podman is, which gives its containers no user namespace of their own, or one below its own.
func TestRootOfUserNamespace(t *testing.T) {
	host := rootFacts()
	host.AllIDs = false
	p := compile(t, config(`"root":{"path":"/r"}`, `"linux":{"namespaces":[{"type":"mount"}]}`), host, Options{})
	made := ops[*Device](p)
	if len(made) == 0 {
		t.Fatalf("no devices:\n%s", p.Text())
	}
	for _, d := range made {
		if d.Bind != d.Path {
			t.Errorf("%s is to be made by mknod(2), which is refused", d.Path)
		}
	}
	if len(ops[*Setgroups](p)) != 1 {
		t.Errorf("groups of the caller stay:\n%s", p.Text())
	}
	const nested = `"linux":{"namespaces":[{"type":"mount"},{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":1,"size":9}],"gidMappings":[{"containerID":0,"hostID":1,"size":9}]}`
	host.NewUIDMap, host.NewGIDMap = "/usr/bin/newuidmap", "/usr/bin/newgidmap"
	p = compile(t, config(`"root":{"path":"/r"}`, nested), host, Options{})
	if len(ops[*WriteIDMap](p)) != 2 || len(ops[*HelperIDMap](p)) != 0 {
		t.Errorf("the caller may write the maps:\n%s", p.Text())
	}
	host.NoSetgroups = true
	if p := compile(t, config(`"root":{"path":"/r"}`, `"linux":{"namespaces":[{"type":"mount"}]}`), host, Options{}); len(ops[*Setgroups](p)) != 0 {
		t.Errorf("setgroups(2) is denied:\n%s", p.Text())
	}
}

// TestContextType: podman says by an annotation of crun's how the label of a mount is meant.
func TestContextType(t *testing.T) {
	host := rootFacts()
	host.SELinux = true
	for _, c := range [][2]string{{"", "context=a:b"}, {"rootcontext", "rootcontext=a:b"}, {"exec,context", "context=a:b"}} {
		p := compile(t, config(`"annotations":{"run.oci.mount_context_type":"`+c[0]+`"}`, `"linux":{"namespaces":[{"type":"mount"}],"mountLabel":"a:b"}`,
			`"mounts":[{"destination":"/tmp","type":"tmpfs"}]`), host, Options{})
		if m := ops[*Mount](p); len(m) != 1 || !slices.Contains(m[0].Options, c[1]) {
			t.Errorf("%q: no option %s:\n%s", c[0], c[1], p.Text())
		}
	}
}

// TestKeptGroups: what an annotation leaves to the caller is not checked for, and not warned of.
func TestKeptGroups(t *testing.T) {
	for value, leaves := range map[string]bool{"1": true, "0": false} {
		p := compile(t, config(`"annotations":{"run.oci.keep_original_groups":"`+value+`"}`, `"process":{"args":["/bin/true"],"cwd":"/","user":{"uid":5,"gid":6,"additionalGids":[7]}}`), rootFacts(), Options{})
		if n := len(ops[*Setgroups](p)); (n == 0) != leaves || len(p.Warnings) > 0 {
			t.Errorf("with %s it calls setgroups(2) %d times, and warns: %q", value, n, p.Warnings)
		}
		if asks := strings.Contains(checksText(p), "groups of the caller"); asks != leaves {
			t.Errorf("with %s its checks are:\n%s", value, checksText(p))
		}
	}
}

// TestSourcesOfAnother: root of a user namespace opens the sources of a container whose root is another user, and one that is made in its own name opens
// them by itself.
func TestSourcesOfAnother(t *testing.T) {
	host := rootFacts()
	host.AllIDs = false
	for _, c := range []struct {
		linux string
		opens int
	}{
		{`"namespaces":[{"type":"mount"},{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":1,"size":9}],"gidMappings":[{"containerID":0,"hostID":1,"size":9}]`, 1},
		{`"namespaces":[{"type":"mount"},{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":0,"size":9}],"gidMappings":[{"containerID":0,"hostID":0,"size":9}]`, 0},
		{`"namespaces":[{"type":"mount"},{"type":"user","path":"/proc/7/ns/user"}]`, 1},
		{`"namespaces":[{"type":"mount"}]`, 0},
	} {
		p := compile(t, config(`"root":{"path":"/r"}`, `"linux":{`+c.linux+`}`, `"mounts":[{"destination":"/a","type":"bind","source":"/a","options":["bind"]}]`), host, Options{})
		n, own := 0, 0
		for _, s := range p.Steps {
			switch op := s.Op.(type) {
			case *OpenSource:
				n++
			case *OpenOwnSource:
				own++
				if s.Side == Runtime {
					t.Errorf("%s: %v, by the %s's side", c.linux, op, s.Side)
				}
			}
		}
		if n != c.opens || n+own != 1 {
			t.Errorf("%s: %d sources are opened by the runtime's side, want %d:\n%s", c.linux, n, c.opens, p.Text())
		}
	}
}

// TestTreesFirst: the trees of recursive binds of the root directory are opened before the root is attached, in registers that nothing else needs; the rest in its turn.
func TestTreesFirst(t *testing.T) {
	var mounts strings.Builder
	for i := range 300 {
		fmt.Fprintf(&mounts, `{"destination":"/v%d","type":"bind","source":"/h/%d","options":["rbind"]},`, i, i)
	}
	for _, m := range []string{`"type":"tmpfs","options":["tmpcopyup"]`, `"type":"bind","source":"/r/b","options":["rbind"]`, `"type":"bind","source":"/h","options":["bind"]`} {
		fmt.Fprintf(&mounts, `{"destination":"/last",%s},`, m)
	}
	host := rootFacts()
	spec := config(`"root":{"path":"/r"}`, `"linux":{"namespaces":[{"type":"mount"}]}`, `"mounts":[`+strings.TrimSuffix(mounts.String(), ",")+`]`)
	if n := len(ops[*OpenTree](compile(t, spec, host, Options{}))); n > 0 {
		t.Errorf("%d trees are opened first that do not lead to the root directory", n)
	}
	for i := range 300 {
		host.Roots = append(host.Roots, fmt.Sprintf("/h/%d", i))
	}
	p := compile(t, spec, host, Options{})
	attach := slices.IndexFunc(p.Steps, func(s Step) bool { _, ok := s.Op.(*AttachRoot); return ok })
	first := map[Reg]string{}
	for _, s := range p.Steps[:attach] {
		if op, ok := s.Op.(*OpenTree); ok {
			first[op.Out] = op.Path
		}
	}
	late := 0
	for i, op := range ops[*Bind](p) {
		switch {
		case i >= 300 && op.Tree != RegNone || i < 300 && first[op.Tree] != op.Source && op.Tree != RegNone:
			t.Errorf("%v: of the tree of %q", op, first[op.Tree])
		case i < 300 && op.Tree == RegNone:
			late++
		case i < 300 && late > 0:
			t.Errorf("%v is opened first, and one before it is not", op)
		}
	}
	if late != 300-OwnSources || len(first) != OwnSources {
		t.Errorf("%d are opened late and %d first, with %d registers", late, len(first), OwnSources)
	}
	// Of those that are opened late the container's root is attached by then: no link may lead up to that, and so into it.
	for i, s := range p.Steps[attach:] {
		if op, ok := s.Op.(*OpenOwnSource); ok {
			if next, ok := p.Steps[attach+i+1].Op.(*Bind); !op.Late || !ok || next.From != op.Out || next.Source != op.Path {
				t.Errorf("%v, and then %v", op, p.Steps[attach+i+1].Op)
			}
		}
	}
	for _, op := range ops[*Bind](p) {
		if op.Tree == RegNone && op.From == RegNone && !op.Inside {
			t.Errorf("%v: its source was not opened before", op)
		}
	}
	checkPlan(t, p, abi.ArchX86_64)
}

// TestTreesInTurn: a tree is opened first for a recursive bind of the root directory alone, of what only a process knows, or where hooks come to the root before it is
// one; not where its ids are mapped, where it is a link itself, or in the container's root. It is the tree of the mount's subpath, of a source that is open where the caller opens those.
func TestTreesInTurn(t *testing.T) {
	const mapped = `,"uidMappings":[{"hostID":1,"size":9}],"gidMappings":[{"hostID":1,"size":9}]`
	const userNS = `"linux":{"namespaces":[{"type":"mount"},{"type":"user"}]` + mapped + `}`
	const hooks = `"hooks":{"createRuntime":[{"path":"/hook"}]}`
	host := rootFacts()
	host.Roots = []string{"/h"}
	for _, c := range []struct {
		source, options, more, part string
		want                        int
	}{
		{"/h", `"rbind"`, "", "", 1}, {"/h", `"bind"`, "", "", 0}, {"/h", `"rbind","src-nofollow"`, "", "", 0}, {"/h", `"rbind"`, mapped, "", 0}, {"/r/h", `"rbind"`, "", "", 0}, {"/o", `"rbind"`, "", "", 0},
		{"/./proc/1/root", `"rbind"`, "", "", 1}, {"/../proc/1/root", `"rbind"`, "", "", 1}, {"/o", `"rbind"`, "", hooks, 1},
		{"/h", `"rbind"`, "", userNS, 1}, {"/h", `"rbind","src-nofollow"`, "", userNS, 0},
	} {
		text := config(append([]string{`"root":{"path":"/r"}`, `"mounts":[{"destination":"/a","source":"` + c.source + `","options":[` + c.options + `]` + c.more + `}]`}, c.part)[:2+min(1, len(c.part))]...)
		p := compile(t, text, host, Options{Subpaths: []Subpath{{Dest: "/a", Path: "sub"}}})
		n := 0
		for _, s := range p.Steps {
			if op, ok := s.Op.(*OpenTree); ok && s.Side == Container {
				n++
				if mount := ops[*Bind](p)[0]; op.Below != "sub" || op.From == RegNone || mount.Tree != op.Out || mount.From != RegNone {
					t.Errorf("%+v: %v, and %v", c, op, mount)
				}
			}
		}
		if n != c.want {
			t.Errorf("%+v: %d trees are opened first", c, n)
		}
		sources := ops[*OpenSource](p)
		for _, op := range ops[*OpenOwnSource](p) {
			sources = append(sources, &op.OpenSource)
		}
		for _, op := range sources {
			if op.Link != strings.Contains(c.options, "nofollow") {
				t.Errorf("%+v: %v", c, op)
			}
		}
	}
}

// TestToldCapabilities: a process beside the first one is silent on what that was made without, and not on more.
func TestToldCapabilities(t *testing.T) {
	host := rootFacts()
	host.Caps = host.Caps.Without(abi.CapSysResource).Without(abi.CapSysAdmin)
	spec := config(`"process":{"args":["/bin/true"],"cwd":"/","capabilities":{"bounding":["CAP_SYS_RESOURCE","CAP_SYS_ADMIN"]}}`)
	for _, c := range []struct {
		told  *specs.LinuxCapabilities
		warns int
	}{
		{nil, 1}, {&specs.LinuxCapabilities{Bounding: []string{"CAP_SYS_ADMIN"}}, 1},
		{&specs.LinuxCapabilities{Bounding: []string{"CAP_SYS_ADMIN"}, Permitted: []string{"CAP_SYS_RESOURCE"}}, 0},
	} {
		if p := compile(t, spec, host, Options{Joined: true, Told: c.told}); len(p.Warnings) != c.warns {
			t.Errorf("told of %v it warns %q", c.told, p.Warnings)
		}
	}
}

// TestJoinedGroups: a user namespace that a caller with one id joins is one of a single id, in which setgroups(2) is denied, and of a caller with more it is not.
func TestJoinedGroups(t *testing.T) {
	const joined = `"linux":{"namespaces":[{"type":"mount"},{"type":"user","path":"/proc/7/ns/user"}]}`
	host := rootFacts()
	host.AllIDs, host.Caps, host.NewUIDMap, host.NewGIDMap = false, 0, "/usr/bin/newuidmap", "/usr/bin/newgidmap"
	for _, ids := range [][]IDRange{nil, {{Start: 100000, Size: 65536}}} {
		host.SubUIDs, host.SubGIDs = ids, ids
		p := compile(t, config(`"root":{"path":"/r"}`, joined), host, Options{})
		if n := len(ops[*Setgroups](p)); n != min(1, len(ids)) {
			t.Errorf("with the ranges %v it calls setgroups(2) %d times", ids, n)
		}
	}
}

// TestWorldGroups: setgroups(2) is denied in a network world whose maker has one group, as who has no helpers does, and not in one whose maker has more: it is the maker who counts, and
// not root of the world, who may map ids by itself.
func TestWorldGroups(t *testing.T) {
	host := userFacts()
	host.SubUIDs, host.SubGIDs = []IDRange{{Start: 100000, Size: 65536}}, []IDRange{{Start: 100000, Size: 65536}}
	if !host.InWorld().NoSetgroups {
		t.Error("without helpers it is not denied")
	}
	host.NewUIDMap, host.NewGIDMap = "/usr/bin/newuidmap", "/usr/bin/newgidmap"
	if host.InWorld().NoSetgroups {
		t.Error("with helpers it is denied")
	}
	host.SubGIDs = nil
	if !host.InWorld().NoSetgroups {
		t.Error("with helpers and no range it is not denied")
	}
}

// TestMaskedTwice: a path that is named again has one cover.
func TestMaskedTwice(t *testing.T) {
	text := config(`"root":{"path":"/"}`, `"linux":{"namespaces":[{"type":"mount"}],"maskedPaths":["/proc/kcore","/sys/firmware","/proc/kcore"]}`)
	if list := ops[*Mask](compile(t, text, rootFacts(), Options{})); len(list) != 2 {
		t.Errorf("%v", list)
	}
}

// TestOwnID: anyone may map the id that is the caller's, and nothing beside it.
func TestOwnID(t *testing.T) {
	for _, c := range []struct {
		m    []IDMapping
		want bool
	}{
		{[]IDMapping{{Inside: 5, Outside: 1000, Size: 1}}, true}, {[]IDMapping{{Outside: 1000, Size: 2}}, false}, {[]IDMapping{{Outside: 999, Size: 1}}, false},
		{[]IDMapping{{Outside: 1000, Size: 1}, {Inside: 1, Outside: 1000, Size: 1}}, false}, {nil, false},
	} {
		if got := ownID(c.m, 1000); got != c.want {
			t.Errorf("%v: %v", c.m, got)
		}
	}
}

// TestMaskCovers: what covers a file is the machine's own node, of which nothing inside may change mode and times; what covers a directory takes no file.
// By the rows: tests' own /dev is read-only, with or without that.
func TestMaskCovers(t *testing.T) {
	attrs := func(calls ...abi.Call) (list []uint64) {
		for _, r := range new(Asm).Lower(&Mask{Path: "/proc/kcore"}) {
			if r.Kind != RowCall || !slices.Contains(calls, r.Call) {
				continue
			}
			if r.Call == abi.CallMountSetattr {
				list = append(list, binary.LittleEndian.Uint64(r.Args[3].Mem.Data)) // attr_set of struct mount_attr
			} else {
				list = append(list, r.Args[2].Val)
			}
		}
		return list
	}
	if got := attrs(abi.CallMountSetattr); !slices.Equal(got, []uint64{abi.MountAttrRdonly | abi.MountAttrNosuid | abi.MountAttrNoexec}) {
		t.Errorf("over a file: %#x", got)
	}
	if got := attrs(abi.CallFsmount); !slices.Equal(got, []uint64{abi.MountAttrRdonly | abi.MountAttrNosuid | abi.MountAttrNodev | abi.MountAttrNoexec}) {
		t.Errorf("over a directory: %#x", got)
	}
}

// TestKeyLabel: keyrings that are made for a program in a domain of SELinux are of that domain, before a fork as well. Where none is made, or SELinux
// is not enabled, there is nothing to label.
func TestKeyLabel(t *testing.T) {
	spec := config(`"root":{"path":"/r"}`, `"process":{"args":["/bin/true"],"cwd":"/","user":{"uid":0,"gid":0},"selinuxLabel":"u:r:t:s0"}`, `"linux":{"namespaces":[{"type":"mount"},{"type":"pid","path":"/proc/1/ns/pid"}]}`)
	for _, c := range []struct {
		what          string
		enabled, none bool
		labels        bool
	}{{"SELinux", true, false, true}, {"no new keyring", true, true, false}, {"no SELinux", false, false, false}} {
		host := rootFacts()
		host.SELinux = c.enabled
		p := compile(t, spec, host, Options{NoNewKeyring: c.none})
		label := slices.IndexFunc(p.Steps, func(s Step) bool {
			l, is := s.Op.(*KeyLabel)
			return is && l.Label == "u:r:t:s0"
		})
		later := func(s Step) bool { return s.Op.Name() == "fork" || s.Op.Name() == "keyring" }
		if label >= 0 != c.labels || c.labels && slices.IndexFunc(p.Steps, later) < label {
			t.Errorf("%s:\n%s", c.what, p.Text())
		}
	}
}

// TestMqueueLabel: message queues have no option for a label, as a namespace has them mounted from its beginning: the root of the mount is given it.
func TestMqueueLabel(t *testing.T) {
	for _, enabled := range []bool{true, false} {
		host := rootFacts()
		host.SELinux = enabled
		p := compile(t, config(`"linux":{"namespaces":[{"type":"mount"},{"type":"ipc"}],"mountLabel":"a:b"}`, `"mounts":[{"destination":"/dev/mqueue","type":"mqueue"}]`), host, Options{})
		m := ops[*Mount](p)
		if len(m) != 1 || len(m[0].Options) != 0 || (m[0].Label == "a:b") != enabled {
			t.Fatalf("SELinux %v:\n%s", enabled, p.Text())
		}
		var set []string
		for _, r := range Lower(m[0], abi.ArchX86_64) {
			if r.Call == abi.CallFsetxattr {
				set = append(set, fmt.Sprintf("%s %s %d", r.Args[1].Mem.Data, r.Args[2].Mem.Data, r.Args[3].Val))
			}
		}
		if want := []string{"security.selinux\x00 a:b 3"}; enabled && !slices.Equal(set, want) || !enabled && set != nil {
			t.Errorf("SELinux %v: %q", enabled, set)
		}
	}
}
