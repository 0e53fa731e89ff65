package verify

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
)

// A verdictCase is one comparison: want begins with the verdict, what was measured or why
// it is unknown follows.
type verdictCase struct {
	name string
	got  answer
	want string
}

func check(t *testing.T, cases []verdictCase) {
	t.Helper()
	for _, c := range cases {
		r := Result{Measured: c.got.measured, OK: c.got.ok, Unknown: c.got.unknown}
		if got := r.Verdict() + ": " + c.got.measured + c.got.unknown; got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// idMap makes a map of its columns, line after line.
func idMap(columns ...uint32) namespace.IDMap {
	var m namespace.IDMap
	for ; len(columns) > 0; columns = columns[3:] {
		m = append(m, namespace.IDRange{Inside: columns[0], Outside: columns[1], Count: columns[2]})
	}
	return m
}

func TestJudgeNew(t *testing.T) {
	asked := []abi.Namespace{abi.NSPID, abi.NSNetwork, abi.NSUTS}
	inodes := func(pid, net, uts uint64) (n [8]uint64) {
		n[abi.NSPID], n[abi.NSNetwork], n[abi.NSUTS] = pid, net, uts
		return n
	}
	ours, first := inodes(1, 2, 3), inodes(1, 20, 30)
	check(t, []verdictCase{
		{"all new", judgeNew(asked, inodes(100, 200, 300), ours, first), "ok: its own: pid network uts"},
		{"the reader's", judgeNew(asked, inodes(100, 2, 3), ours, first), "differs: the reader's: network uts"},
		{"pid 1's", judgeNew(asked, inodes(100, 20, 300), ours, first), "differs: the host's: network"},
		{"both", judgeNew(asked, inodes(1, 2, 300), ours, first), "differs: the host's: pid, the reader's: network"},
		{"pid 1 hidden", judgeNew(asked, inodes(100, 20, 300), ours, [8]uint64{}), "ok: its own: pid network uts"},
		{"the machine's first, by its number", judgeNew(asked, inodes(0xEFFFFFFC, 200, 300), ours, [8]uint64{}), "differs: the host's: pid"},
		{"unreadable", judgeNew(asked, inodes(100, 0, 300), ours, first), "unknown: only its user and root may read it"},
		{"what is shared and not asked for", judgeNew(asked[:1], inodes(100, 2, 3), ours, first), "ok: its own: pid"},
	})
}

func TestJudgeIDMap(t *testing.T) {
	want := &plan.IDMapCheck{Map: []plan.IDMapping{{Inside: 0, Outside: 1000, Size: 1}, {Inside: 1, Outside: 100000, Size: 65536}}}
	check(t, []verdictCase{
		{"equal", judgeIDMap(want, idMap(0, 1000, 1, 1, 100000, 65536)), "ok: 0 1000 1, 1 100000 65536"},
		{"another order", judgeIDMap(want, idMap(1, 100000, 65536, 0, 1000, 1)), "ok: 1 100000 65536, 0 1000 1"},
		{"another id outside", judgeIDMap(want, idMap(0, 0, 1, 1, 100000, 65536)), "differs: 0 0 1, 1 100000 65536"},
		{"one line more", judgeIDMap(want, idMap(0, 1000, 1, 1, 100000, 65536, 70000, 0, 1)), "differs: 0 1000 1, 1 100000 65536, 70000 0 1"},
		{"a longer range", judgeIDMap(want, idMap(0, 1000, 1, 1, 100000, 65537)), "differs: 0 1000 1, 1 100000 65537"},
		{"none", judgeIDMap(want, nil), "differs: none"},
	})
}

func TestJudgeClocks(t *testing.T) {
	want := &plan.TimeCheck{Boottime: 86400e9, Monotonic: -5e8}
	same := namespace.TimeOffsets{Boottime: 86400e9, Monotonic: -5e8}
	check(t, []verdictCase{
		{"equal", judgeClocks(want, same, true), "ok: boottime +86400s monotonic -0.5s"},
		{"no namespace of its own", judgeClocks(want, same, false), "differs: boottime +86400s monotonic -0.5s, the reader's own"},
		{"one clock", judgeClocks(want, namespace.TimeOffsets{Boottime: 86400e9}, true), "differs: boottime +86400s monotonic +0s"},
	})
}

func parseMounts(t *testing.T, text string) []namespace.Mount {
	t.Helper()
	m, err := namespace.ParseMounts([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestJudgeRoot(t *testing.T) {
	host := parseMounts(t, "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n23 22 0:5 / /dev rw - devtmpfs udev rw\n")
	root := func(lines ...string) []namespace.Mount { return parseMounts(t, strings.Join(lines, "\n")+"\n") }
	const (
		overlay   = "300 299 0:70 / / rw,relatime - overlay overlay rw,lowerdir=x"
		readonly  = "300 299 0:70 / / ro,relatime - overlay overlay rw,lowerdir=x"
		frozen    = "300 299 7:1 / / rw,relatime - squashfs /dev/loop0 ro"
		directory = "300 299 8:1 /srv/web / rw,relatime - ext4 /dev/sda1 rw"
		hosts     = "301 300 8:1 / / rw,relatime - ext4 /dev/sda1 rw"
		proc      = "302 300 0:71 / /proc rw - proc proc rw"
	)
	check(t, []verdictCase{
		{"its own", judgeRoot(root(overlay, proc), host), "ok: its own, writable"},
		{"a directory of the host's disk", judgeRoot(root(directory), host), "ok: its own, writable"},
		{"read-only, unasked", judgeRoot(root(readonly), host), "ok: its own, read-only"},
		{"read-only", judgeRoot(root(readonly, proc), host), "ok: its own, read-only"},
		{"a read-only file system", judgeRoot(root(frozen), host), "ok: its own, read-only"},
		{"the host's tree left over it", judgeRoot(root(overlay, proc, hosts), host), "differs: 2 mounts at /, one over another: overlay ext4"},
		{"a scratch left below it", judgeRoot(root("299 1 0:69 / / rw - tmpfs tmpfs rw", overlay), host), "differs: 2 mounts at /, one over another: tmpfs overlay"},
		{"the host's", judgeRoot(root(hosts, proc), host), "differs: the host's: ext4 8:1 /"},
		{"the host's, as asked", judgeRoot(root(hosts, proc), nil), "ok: its own, writable"},
		{"another root directory", judgeRoot(root(proc), host), "differs: no mount at /: the process has changed its root directory"},
	})
}

func TestJudgeMount(t *testing.T) {
	mounts := parseMounts(t, strings.Join([]string{
		"40 39 0:70 / /tmp rw,nosuid,nodev,relatime - tmpfs tmpfs rw",
		"41 40 8:1 /data /tmp ro,noexec,noatime - ext4 /dev/sda1 rw",
		"42 39 0:71 / /sys ro,nosuid,nodev,noexec - sysfs sysfs rw",
		"43 39 0:72 / /cd rw,nodiratime,nosymfollow - iso9660 /dev/sr0 ro",
		"44 39 0:73 / /remote rw,idmapped,relatime - fuse.sshfs host: rw",
		"45 39 0:74 / /t rw,relatime - tmpfs tmpfs rw,size=1024k,mode=700",
		"46 39 0:75 / /t rw,relatime - tmpfs tmpfs rw,size=0k",
		"47 39 0:76 / /dev rw,relatime - tmpfs tmpfs rw",
		"48 47 0:77 / /dev/pts rw,nosuid,relatime - devpts devpts rw",
		"49 39 0:78 / /dev rw,relatime - devtmpfs udev rw",
		"50 49 0:79 / /dev/pts rw,relatime - devpts devpts rw",
		"51 49 0:80 / /dev/shm rw,relatime - tmpfs tmpfs rw",
	}, "\n")+"\n")
	at := func(id int) place { return place{mount: id, top: true, mode: unix.S_IFDIR | 0o755} }
	const ro, nosuid, nodev, noexec = abi.MountAttrRdonly, abi.MountAttrNosuid, abi.MountAttrNodev, abi.MountAttrNoexec
	check(t, []verdictCase{
		{"equal", judgeMount(&plan.MountCheck{Dest: "/sys", Type: "sysfs", Set: ro | nosuid | nodev | noexec}, at(42), mounts), "ok: sysfs rdonly,nosuid,nodev,noexec"},
		{"more flags than asked", judgeMount(&plan.MountCheck{Dest: "/sys", Type: "sysfs", Set: nosuid}, at(42), mounts), "ok: sysfs rdonly,nosuid,nodev,noexec"},
		{"a flag that must not be", judgeMount(&plan.MountCheck{Dest: "/sys", Type: "sysfs", Clear: noexec | abi.MountAttrNosymfollow}, at(42), mounts), "differs: sysfs rdonly,nosuid,nodev,noexec,not-nosymfollow"},
		{"a flag less", judgeMount(&plan.MountCheck{Dest: "/tmp", Type: "tmpfs", Set: nosuid | noexec}, at(40), mounts), "differs: tmpfs nosuid,nodev"},
		{"another type", judgeMount(&plan.MountCheck{Dest: "/tmp", Type: "tmpfs"}, at(41), mounts), "differs: ext4 rdonly,noexec"},
		{"a bind has any type", judgeMount(&plan.MountCheck{Dest: "/tmp", Set: ro}, at(41), mounts), "ok: ext4 rdonly,noexec"},
		{"access times", judgeMount(&plan.MountCheck{Dest: "/tmp", Set: abi.MountAttrNoatime}, at(41), mounts), "ok: ext4 rdonly,noexec,noatime"},
		{"other access times", judgeMount(&plan.MountCheck{Dest: "/tmp", Set: abi.MountAttrNoatime}, at(40), mounts), "differs: tmpfs nosuid,nodev"},
		{"strict access times", judgeMount(&plan.MountCheck{Dest: "/sys", Set: abi.MountAttrStrictatime}, at(42), mounts), "ok: sysfs rdonly,nosuid,nodev,noexec,strictatime"},
		{"a read-only file system", judgeMount(&plan.MountCheck{Dest: "/cd", Set: ro | abi.MountAttrNodiratime | abi.MountAttrNosymfollow}, at(43), mounts), "ok: iso9660 rdonly,nodiratime,nosymfollow"},
		{"private", judgeMount(&plan.MountCheck{Dest: "/tmp", Propagation: "private"}, at(41), mounts), "ok: ext4 rdonly,noexec private"},
		{"a slave without a master", judgeMount(&plan.MountCheck{Dest: "/tmp", Propagation: "slave"}, at(41), mounts), "ok: ext4 rdonly,noexec private"},
		{"not shared", judgeMount(&plan.MountCheck{Dest: "/tmp", Propagation: "shared"}, at(41), mounts), "differs: ext4 rdonly,noexec private"},
		{"not id-mapped", judgeMount(&plan.MountCheck{Dest: "/tmp", Set: abi.MountAttrIdmap}, at(41), mounts), "differs: ext4 rdonly,noexec"},
		{"fuse", judgeMount(&plan.MountCheck{Dest: "/remote", Type: "fuse", Set: abi.MountAttrIdmap}, at(44), mounts), "ok: fuse.sshfs idmap"},
		{"missing", judgeMount(&plan.MountCheck{Dest: "/x"}, place{missing: true}, mounts), "differs: missing"},
		{"a plain directory", judgeMount(&plan.MountCheck{Dest: "/x"}, place{mount: 40}, mounts), "differs: not a mount"},
		{"closed", judgeMount(&plan.MountCheck{Dest: "/x"}, place{closed: true}, mounts), "unknown: a directory above it is closed to the caller"},
		{"newer than the list", judgeMount(&plan.MountCheck{Dest: "/x"}, at(99), mounts), "unknown: it was mounted just now"},

		{"the upper of two", judgeStack(&plan.MountCheck{Dest: "/tmp/", Type: "ext4"}, mounts, 0, nil), "ok: ext4 rdonly,noexec"},
		{"the lower of two", judgeStack(&plan.MountCheck{Dest: "/tmp", Type: "tmpfs", Set: nosuid}, mounts, 1, nil), "ok: tmpfs nosuid,nodev"},
		{"below both", judgeStack(&plan.MountCheck{Dest: "/tmp"}, mounts, 2, nil), "differs: not a mount"},

		{"a size", judgeMount(&plan.MountCheck{Dest: "/t", Type: "tmpfs", Size: 1 << 20}, at(45), mounts), "ok: tmpfs size=1024k"},
		{"a size between two pages", judgeMount(&plan.MountCheck{Dest: "/t", Type: "tmpfs", Size: 1<<20 - 1}, at(45), mounts), "ok: tmpfs size=1024k"},
		{"another size", judgeMount(&plan.MountCheck{Dest: "/t", Type: "tmpfs", Size: 1 << 30}, at(45), mounts), "differs: tmpfs size=1024k"},
		{"a size that is not asked for", judgeMount(&plan.MountCheck{Dest: "/t", Type: "tmpfs"}, at(45), mounts), "ok: tmpfs"},
		{"no size left", judgeMount(&plan.MountCheck{Dest: "/t", Type: "tmpfs", Size: 1 << 20}, at(46), mounts), "differs: tmpfs"},

		{"below a tree that is bound over its directory", judgeStack(&plan.MountCheck{Dest: "/dev/pts", Type: "devpts", Set: nosuid}, mounts, 0, map[string]int{"/dev": 1}), "ok: devpts nosuid"},
		{"gone from there", judgeStack(&plan.MountCheck{Dest: "/dev/shm", Type: "tmpfs"}, mounts, 0, map[string]int{"/dev": 1}), "differs: not a mount"},
	})
}

// TestStack: which mount is upon which is told by their parents, whatever their ids: a tree that was cloned before all others may be attached as the last one.
func TestStack(t *testing.T) {
	mounts := []namespace.Mount{
		{ID: 89, Parent: 109, Point: "/dev", Type: "devtmpfs"}, {ID: 92, Parent: 89, Point: "/dev/pts", Type: "devpts", Options: "rw"}, {ID: 103, Parent: 1, Point: "/", Type: "overlay"},
		{ID: 109, Parent: 103, Point: "/dev", Type: "tmpfs"}, {ID: 110, Parent: 109, Point: "/dev/pts", Type: "devpts", Options: "rw,nosuid"}, {ID: 7, Parent: 8, Point: "/x"}, {ID: 8, Parent: 7, Point: "/y"},
	}
	stack(mounts)
	at := map[int]int{}
	for i, m := range mounts {
		at[m.ID] = i
	}
	if len(at) != 7 || at[103] > at[109] || at[109] > at[89] || at[89] > at[92] || at[109] > at[110] {
		t.Errorf("%+v", mounts)
	}
	check(t, []verdictCase{
		{"what was there first", judgeStack(&plan.MountCheck{Dest: "/dev", Type: "tmpfs"}, mounts, 1, nil), "ok: tmpfs"},
		{"what covers it", judgeStack(&plan.MountCheck{Dest: "/dev", Type: "devtmpfs"}, mounts, 0, nil), "ok: devtmpfs"},
		{"below what is covered", judgeStack(&plan.MountCheck{Dest: "/dev/pts", Set: abi.MountAttrNosuid}, mounts, 0, map[string]int{"/dev": 1}), "ok: devpts nosuid"},
	})
}

func TestCovers(t *testing.T) {
	steps := []plan.Step{
		{Op: &plan.Mount{}, Check: &plan.MountCheck{Dest: "/tmp"}},
		{Op: &plan.Mount{}, Check: &plan.MountCheck{Dest: "/tmp/a"}},
		{Op: &plan.Bind{}, Check: &plan.MountCheck{Dest: "/tmp/"}},
		{Op: &plan.Mount{}, Check: &plan.MountCheck{Dest: "/dev/null"}},
		{Op: &plan.Device{Bind: "/dev/null"}, Check: &plan.DeviceCheck{Path: "/dev/null"}},
		{Op: &plan.Mount{}, Check: &plan.MountCheck{Dest: "/dev/zero"}},
		{Op: &plan.Device{}, Check: &plan.DeviceCheck{Path: "/dev/zero"}}, // a node is no mount
		{Op: &plan.Mount{}, Check: &plan.MountCheck{Dest: "/sys/fs/cgroup"}},
		{Op: &plan.Remount{}, Check: &plan.ReadonlyCheck{Path: "/sys/fs/cgroup"}}, // the same mount
		{Op: &plan.Mount{}, Check: &plan.MountCheck{Dest: "/proc/sys"}},
		{Op: &plan.ReadonlyPath{}, Check: &plan.ReadonlyCheck{Path: "/proc/sys"}},
		{Op: &plan.Mask{}, Check: &plan.MaskCheck{Path: "/proc/sys"}},
		{Op: &plan.Umask{}, Check: &plan.UmaskCheck{}},
	}
	p := plan.Plan{Steps: steps}
	for i, want := range map[int]string{0: "1 map[]", 1: "0 map[/tmp:1]", 2: "0 map[]", 3: "1 map[]", 5: "0 map[]", 7: "0 map[]", 9: "2 map[]"} {
		above, hidden := covers(p, p.Checks(), i)
		if got := fmt.Sprint(above, hidden); got != want {
			t.Errorf("%s: %s, want %s", steps[i].Check.Property(), got, want)
		}
	}
}

func TestJudgePlaces(t *testing.T) {
	null := place{mode: unix.S_IFCHR | 0o666, major: 1, minor: 3, top: true, fs: "devtmpfs"}
	zero := place{mode: unix.S_IFCHR | 0o666, major: 1, minor: 5, fs: "devtmpfs"}
	cover := place{mode: unix.S_IFDIR | 0o555, top: true, fs: "tmpfs", readonly: true, empty: true}
	with := func(p place, change func(*place)) place { change(&p); return p }
	file := place{mode: unix.S_IFREG | 0o644, fs: "proc"}
	check(t, []verdictCase{
		{"missing", judgeMask(place{missing: true}), "ok: missing"},
		{"closed", judgeMask(place{closed: true}), "ok: closed to the container"},
		{"null", judgeMask(null), "ok: the null device"},
		{"cover", judgeMask(cover), "ok: an empty directory"},
		{"another device", judgeMask(zero), "differs: the character device 1:5 on devtmpfs"},
		{"a block device of that number", judgeMask(with(null, func(p *place) { p.mode = unix.S_IFBLK })), "differs: the block device 1:3 on devtmpfs"},
		{"a file", judgeMask(file), "differs: a file on proc"},
		{"writable", judgeMask(with(cover, func(p *place) { p.readonly = false })), "differs: a directory on tmpfs"},
		{"not empty", judgeMask(with(cover, func(p *place) { p.empty = false })), "differs: a directory on tmpfs, read-only"},
		{"no mount of its own", judgeMask(with(cover, func(p *place) { p.top = false })), "differs: a directory on tmpfs, read-only"},
		{"a link", judgeMask(place{mode: unix.S_IFLNK}), "differs: a symbolic link"},
		{"a fifo", judgeMask(place{mode: unix.S_IFIFO}), "differs: a fifo"},
		{"a socket", judgeMask(place{mode: unix.S_IFSOCK}), "differs: a socket"},

		{"read-only", judgeReadonly(with(file, func(p *place) { p.readonly = true })), "ok: read-only"},
		{"read-only, missing", judgeReadonly(place{missing: true}), "ok: missing"},
		{"read-only, masked", judgeReadonly(null), "ok: the null device"},
		{"read-only, not", judgeReadonly(file), "differs: a file on proc, writable"},
	})
	dev := &plan.DeviceCheck{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}
	fifo := &plan.DeviceCheck{Path: "/dev/initctl", Type: "p", Major: 7, Minor: 7}
	check(t, []verdictCase{
		{"device", judgeDevice(dev, null), "ok: c 1:3"},
		{"other numbers", judgeDevice(dev, zero), "differs: c 1:5"},
		{"other type", judgeDevice(dev, with(null, func(p *place) { p.mode = unix.S_IFBLK })), "differs: b 1:3"},
		{"no device", judgeDevice(dev, file), "differs: a file on proc"},
		{"no node", judgeDevice(dev, place{missing: true}), "differs: missing"},
		{"out of reach", judgeDevice(dev, place{closed: true}), "unknown: a directory above it is closed to the caller"},
		{"fifo", judgeDevice(fifo, place{mode: unix.S_IFIFO}), "ok: p 0:0"},
		{"fifo for a device", judgeDevice(dev, place{mode: unix.S_IFIFO}), "differs: p 0:0"},
	})
}

func TestJudgeSysctl(t *testing.T) {
	for _, c := range []struct{ asked, got, want string }{
		{"0", "0", "ok: 0"},
		{"0 65535", "0\t65535", "ok: 0 65535"},
		{"0x10", "16", "ok: 16"},
		{"1", "0", "differs: 0"},
		{"250", "250\t32000\t32\t128", "ok: 250 32000 32 128"},
		{"251", "250\t32000\t32\t128", "differs: 250 32000 32 128"},
		{"1 2", "1", "differs: 1"},
		{"cubic", "cubic", "ok: cubic"},
		{"cubic", "cubic reno", "differs: cubic reno"},
		{"bbr", "cubic", "differs: cubic"},
		{"", "", "ok: "},
		{"", "x", "differs: x"},
	} {
		check(t, []verdictCase{{c.asked + " and " + c.got, judgeSysctl(&plan.SysctlCheck{Value: c.asked}, c.got), c.want}})
	}
}

func TestSysctlNamespace(t *testing.T) {
	for path, want := range map[string]string{
		"sys/net/ipv4/ip_forward": "network", "sys/kernel/hostname": "uts", "sys/kernel/shmmax": "ipc", "sys/fs/mqueue/msg_max": "ipc",
		"sys/user/max_net_namespaces": "user", "sys/kernel/pid_max": "pid", "sys/vm/swappiness": "", "sys/fs/file-max": "", "sys/network/x": "",
	} {
		got := ""
		if ns, ok := sysctlNamespace(path); ok {
			got = ns.String()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if got := insideIDs("100000\t100099", idMap(0, 100000, 100)); got != "0 99" {
		t.Errorf("ids: %q", got)
	}
	if got := insideIDs("0 5", idMap(0, 100000, 100)); got != "unmapped unmapped" {
		t.Errorf("ids: %q", got)
	}
}

func TestJudgeIDs(t *testing.T) {
	uids, gids := idMap(0, 100000, 65536), idMap(0, 200000, 65536)
	same := func(id uint32) namespace.IDs { return namespace.IDs{Real: id, Effective: id, Saved: id, FS: id} }
	p := func(uid, gid namespace.IDs, groups ...uint32) *namespace.Process {
		return &namespace.Process{UIDs: uid, GIDs: gid, Groups: groups}
	}
	want := &plan.IDCheck{UID: 33, GID: 34, Groups: []uint32{5, 4}}
	good := p(same(100033), same(200034), 200004, 200005)
	check(t, []verdictCase{
		{"equal", judgeIDs(want, good, uids, gids, false), "ok: uid 33 gid 34 groups 4 5"},
		{"another uid", judgeIDs(want, p(same(100000), same(200034), 200004, 200005), uids, gids, false), "differs: uid 0 gid 34 groups 4 5"},
		{"the host's uid", judgeIDs(want, p(same(33), same(200034), 200004, 200005), uids, gids, false), "differs: uid unmapped gid 34 groups 4 5"},
		{"another saved uid", judgeIDs(want, p(namespace.IDs{Real: 100033, Effective: 100033, Saved: 100000, FS: 100033}, same(200034), 200004, 200005), uids, gids, false), "differs: uid real 33 effective 33 saved 0 fs 33 gid 34 groups 4 5"},
		{"another gid", judgeIDs(want, p(same(100033), same(200000), 200004, 200005), uids, gids, false), "differs: uid 33 gid 0 groups 4 5"},
		{"a group less", judgeIDs(want, p(same(100033), same(200034), 200004), uids, gids, false), "differs: uid 33 gid 34 groups 4"},
		{"a group more", judgeIDs(want, p(same(100033), same(200034), 200004, 200005, 200006), uids, gids, false), "differs: uid 33 gid 34 groups 4 5 6"},
		{"the caller's group", judgeIDs(want, p(same(100033), same(200034), 27, 200004, 200005), uids, gids, false), "differs: uid 33 gid 34 groups unmapped 4 5"},
		{"the caller's group, which cannot be given up", judgeIDs(want, p(same(100033), same(200034), 27, 200004, 200005), uids, gids, true), "ok: uid 33 gid 34 groups 4 5 the caller's"},
		{"the caller's groups, as asked", judgeIDs(&plan.IDCheck{UID: 33, GID: 34, Callers: true}, p(same(100033), same(200034), 27, 200004), uids, gids, false), "ok: uid 33 gid 34 groups unmapped 4"},
		{"the caller's groups, of another user", judgeIDs(&plan.IDCheck{UID: 33, GID: 34, Callers: true}, p(same(100000), same(200034), 27), uids, gids, false), "differs: uid 0 gid 34 groups unmapped"},
		{"no groups", judgeIDs(&plan.IDCheck{}, p(same(100000), same(200000)), uids, gids, true), "ok: uid 0 gid 0"},
	})
}

func TestJudgeCaps(t *testing.T) {
	bounding := abi.Caps(abi.CapChown, abi.CapKill, abi.CapNetRaw)
	permitted := abi.Caps(abi.CapChown, abi.CapKill)
	want := &plan.CapsCheck{Bounding: bounding, Permitted: permitted, Effective: permitted}
	good := namespace.Caps{Bounding: bounding, Permitted: permitted, Effective: permitted}
	with := func(change func(*namespace.Caps)) namespace.Caps { c := good; change(&c); return c }
	root := with(func(c *namespace.Caps) { c.Permitted, c.Effective = bounding, bounding })
	check(t, []verdictCase{
		{"equal", judgeCaps(want, good, false, false), "ok: effective chown,kill"},
		{"fewer effective", judgeCaps(want, with(func(c *namespace.Caps) { c.Effective = 0 }), false, false), "ok: effective none, permitted chown,kill"},
		{"none left", judgeCaps(want, with(func(c *namespace.Caps) { c.Effective, c.Permitted = 0, 0 }), false, false), "ok: effective none"},
		{"root has the bounding set after execve", judgeCaps(want, root, true, false), "ok: effective chown,kill,net_raw"},
		{"not with no_new_privs", judgeCaps(want, root, true, true), "differs: permitted has net_raw too, effective has net_raw too"},
		{"not for another user", judgeCaps(want, root, false, false), "differs: permitted has net_raw too, effective has net_raw too"},
		{"root, beyond the bounding set", judgeCaps(want, with(func(c *namespace.Caps) { c.Permitted = c.Permitted.With(abi.CapSysAdmin) }), true, false), "differs: permitted has sys_admin too"},
		{"bounding too large", judgeCaps(want, with(func(c *namespace.Caps) { c.Bounding = c.Bounding.With(abi.CapSysAdmin) }), false, false), "differs: bounding has sys_admin too"},
		{"bounding too small", judgeCaps(want, with(func(c *namespace.Caps) { c.Bounding = c.Bounding.Without(abi.CapNetRaw) }), false, false), "differs: bounding lacks net_raw"},
		{"inheritable", judgeCaps(want, with(func(c *namespace.Caps) { c.Inheritable = abi.Caps(abi.CapChown) }), false, false), "differs: inheritable has chown too"},
		{"ambient", judgeCaps(&plan.CapsCheck{Bounding: bounding, Permitted: permitted, Ambient: permitted}, good, false, false), "differs: ambient lacks chown,kill"},
	})
}

func TestJudgeLimit(t *testing.T) {
	limits := []namespace.Limit{{Resource: abi.RlimitCore, Soft: 0, Hard: abi.RlimitInfinity}, {Resource: abi.RlimitNofile, Soft: 1024, Hard: 4096}}
	limit := func(r abi.Rlimit, soft, hard uint64) *plan.RlimitCheck {
		return &plan.RlimitCheck{Resource: r, Soft: soft, Hard: hard}
	}
	check(t, []verdictCase{
		{"equal", judgeLimit(limit(abi.RlimitNofile, 1024, 4096), limits), "ok: 1024 4096"},
		{"unlimited", judgeLimit(limit(abi.RlimitCore, 0, abi.RlimitInfinity), limits), "ok: 0 unlimited"},
		{"soft", judgeLimit(limit(abi.RlimitNofile, 1023, 4096), limits), "differs: 1024 4096"},
		{"hard", judgeLimit(limit(abi.RlimitNofile, 1024, 4097), limits), "differs: 1024 4096"},
		{"none", judgeLimit(limit(abi.RlimitCPU, 1, 1), limits), "unknown: the kernel has no such limit"},
	})
}

func TestProcessOf(t *testing.T) {
	for path, want := range map[string]string{
		"/proc/4711/ns/net": "4711 true", "/proc/self/ns/net": "0 false", "/run/netns/web": "0 false", "/proc/4711/fd/3": "4711 false",
	} {
		pid, ok := processOf(path)
		if got := fmt.Sprint(pid, ok); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestResultJSON(t *testing.T) {
	check(t, []verdictCase{
		{"permission", cannot(fmt.Errorf("x: %w", fs.ErrPermission)), "unknown: only its user and root may read it"},
		{"other error", cannot(unix.EIO), "unknown: input/output error"},
	})
	r := Result{N: 3, Cause: plan.Cause{Field: "mounts[0]", Reason: "--tmpfs /x"}, Kind: "mount", Property: "mount /x", Asked: "tmpfs", Measured: "missing"}
	data, err := json.Marshal(r)
	want := `{"n":3,"kind":"mount","property":"mount /x","verdict":"differs","asked":"tmpfs","measured":"missing","because":"--tmpfs /x","field":"mounts[0]","reason":"--tmpfs /x"}`
	if err != nil || string(data) != want {
		t.Errorf("%s, %v", data, err)
	}
	ok, differ, unread := Count([]Result{{OK: true}, {}, {Unknown: "x"}, {OK: true, Unknown: "x"}})
	if ok != 1 || differ != 1 || unread != 2 {
		t.Errorf("count: %d %d %d", ok, differ, unread)
	}
}

// TestUnderLabel: a profile of AppArmor holds in each mode, stacked on others, and for the children that it has; no other one is taken for it.
func TestUnderLabel(t *testing.T) {
	for got, want := range map[string]bool{
		"one": true, "one (enforce)": true, "one (complain)": true, "one//null-/bin/busybox (complain)": true, "one//child (enforce)": true, "one//&unconfined (enforce)": true,
		"other//&one (enforce)": true, "unconfined": false, "": false, "one-more (enforce)": false, "other//one (enforce)": false, "onemore//child (enforce)": false,
	} {
		if underLabel(got, "one") != want {
			t.Errorf("%q: %v", got, !want)
		}
	}
	if label := "system_u:system_r:container_t:s0:c1"; !underLabel(label, label) || underLabel(label+",c2", label) {
		t.Error("a label of SELinux is whole, or is another one")
	}
}
