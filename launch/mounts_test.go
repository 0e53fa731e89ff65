package launch_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// identity is what tells that a path shows an inode: "DEVICE:INODE".
func identity(t testing.TB, p string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(p, &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// linked makes a root with symbolic links, name to target.
func linked(t testing.TB, links map[string]string) string {
	t.Helper()
	root := nstest.RootFS(t)
	for name, target := range links {
		at := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, at); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// What a link of the image leads to need not be there: it is made, inside the root, wherever
// the link points to.
func TestMountBehindDanglingLinks(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := canary(t)
	sources := map[string]string{"directory": filepath.Join(host, "c"), "file": filepath.Join(host, "mark")}
	chain := map[string]string{}
	// The kernel follows 40, and counts those of a lookup that it begins again twice.
	for i := range 20 {
		chain[fmt.Sprintf("chain/%d", i)] = fmt.Sprintf("%d", i+1)
	}
	for _, test := range []struct {
		name  string
		links map[string]string
		dest  string
		at    string // where the mount is to be seen
	}{
		{"trailing", map[string]string{"etc/hosts": "/tmp/hosts"}, "/etc/hosts", "/tmp/hosts"},
		{"relative", map[string]string{"etc/hosts": "../tmp/new/hosts"}, "/etc/hosts", "/tmp/new/hosts"},
		{"component", map[string]string{"jump": "/tmp/foo/bar", "etc/hosts": "/jump/baz/hosts"}, "/etc/hosts", "/tmp/foo/bar/baz/hosts"},
		{"component of the destination", map[string]string{"conf": "real/conf"}, "/conf/a/b", "/real/conf/a/b"},
		{"slashes and dots", map[string]string{"conf": ".//real/./conf//"}, "/conf/a", "/real/conf/a"},
		{"above the root", map[string]string{"up": "../../../../../../tmp/x"}, "/up", "/tmp/x"},
		{"up out of what is missing", map[string]string{"home/up": "new/../../var/other/../x"}, "/home/up/y", "/var/x/y"},
		{"up out of a link", map[string]string{"l": "/var/tmp", "m": "l/../lost"}, "/m", "/var/lost"},
		{"up from a link at the root", map[string]string{"m": "/../../lost"}, "/m", "/lost"},
		{"a link in what was made", map[string]string{"a": "b/c", "b": "/d"}, "/a", "/d/c"},
		{"out to the host", map[string]string{"out": host + "/d/x"}, "/out", host + "/d/x"},
		{"up to the host", map[string]string{"out": strings.Repeat("../", 30) + host[1:] + "/new"}, "/out", host + "/new"},
		{"many links", chain, "/chain/0", "/chain/20"},
	} {
		for kind, source := range sources {
			root := linked(t, test.links)
			steps := inRoot(root, in(&plan.Umask{}), in(&plan.Bind{Source: source, Dest: test.dest}))
			steps[len(steps)-1] = sh("stat -c %d:%i " + test.at + "; grep -c ' " + test.at + " ' /proc/self/mountinfo")
			if res, err := launchSteps(t, launch.Options{}, steps...); err != nil || res.out != identity(t, source)+"\n1\n" {
				t.Errorf("%s, a %s: %v %q, want %s on %s", test.name, kind, err, res.out, identity(t, source), test.at)
			}
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(root, test.at), &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK || st.Mode&0o7777 != map[string]uint32{"directory": 0o755, "file": 0o644}[kind] {
				t.Errorf("%s, a %s: the place is of mode %o: %v", test.name, kind, st.Mode, err)
			}
		}
	}
}

// Some links lead nowhere, and some are not to be followed at all.
func TestMountBehindBadLinks(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	long := map[string]string{}
	deep := strings.Repeat("d/", 2000) // a target as long as a target may be, four times over
	for i := range 4 {
		long[fmt.Sprintf("long%d", i)] = fmt.Sprintf("long%d/%s", i+1, deep)
	}
	chain := map[string]string{}
	for i := range 45 {
		chain[fmt.Sprintf("chain/%d", i)] = fmt.Sprintf("../gone%d/../chain/%d", i, i+1)
	}
	for _, test := range []struct {
		name   string
		links  map[string]string
		dest   string
		strict bool
		want   []syscall.Errno
	}{
		{"a loop behind what is missing", map[string]string{"a": "/gone/../b", "b": "/lost/../a"}, "/a", false, []syscall.Errno{unix.ELOOP}},
		{"too many links", chain, "/chain/0", false, []syscall.Errno{unix.ELOOP}},
		{"too long", long, "/long0", false, []syscall.Errno{unix.ENAMETOOLONG}},
		{"below a file", map[string]string{"a": "/etc/passwd/x"}, "/a", false, []syscall.Errno{unix.ENOTDIR}},
		{"strict", map[string]string{"a": "/gone"}, "/a", true, []syscall.Errno{unix.ELOOP}},
		{"a part that is strict", map[string]string{"a": "/gone"}, "/a/b", true, []syscall.Errno{unix.ELOOP}},
	} {
		root := linked(t, test.links)
		steps := inRoot(root, in(&plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: test.dest, Strict: test.strict}))
		_, err := launchSteps(t, launch.Options{}, steps...)
		if e := step(t, err); !slices.Contains(test.want, e.Errno()) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	// A root that is read-only lacks a place for good.
	root := linked(t, map[string]string{"a": "/gone/x"})
	_, err := launchSteps(t, launch.Options{}, inRoot(root, in(&plan.Remount{Dest: "/", Attrs: plan.Attrs{Set: abi.MountAttrRdonly}}), in(&plan.Bind{Source: "/usr", Dest: "/a"}))...)
	if !errors.Is(err, unix.EROFS) || step(t, err).Call != "mkdirat" {
		t.Errorf("a read-only root: %v", err)
	}
}

// CVE-2019-16884 and its kind: a volume's place is a link into /proc. What the kernel shows
// there is not covered, neither by a bind nor by a file system; its root may be.
func TestCVE_2019_16884(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	file := filepath.Join(nstest.Dir(t), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, to string
		op       plan.Op
		refused  bool
	}{
		{"a directory", "/proc/sys", &plan.Bind{Source: "/usr", Dest: "/a", NotProc: true}, true},
		{"a process", "/proc/self", &plan.Bind{Source: "/usr", Dest: "/a", NotProc: true}, true},
		{"a process's directory", "/proc/1/attr", &plan.Bind{Source: "/usr", Dest: "/a", Dir: true, NotProc: true}, true},
		{"a file", "/proc/sys/kernel/hostname", &plan.Bind{Source: file, Dest: "/a", NotProc: true}, true},
		{"a file system", "/proc/sys", &plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: "/a", NotProc: true}, true},
		{"below the link", "/proc", &plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: "/a/sys", NotProc: true}, true},
		{"the root of it", "/proc", &plan.Bind{Source: "/usr", Dest: "/a", NotProc: true}, false},
		{"elsewhere", "/etc", &plan.Bind{Source: "/usr", Dest: "/a", NotProc: true}, false},
		{"elsewhere, a file system", "/etc", &plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: "/a", NotProc: true}, false},
		{"not asked", "/proc/sys", &plan.Bind{Source: "/usr", Dest: "/a"}, false},
		{"no procfs in its place", "/etc", &plan.Bind{Source: "/usr", Dest: "/etc", OfProc: true}, true},
		{"a procfs in its place", "/etc", &plan.Bind{Source: "/proc", Dest: "/etc", OfProc: true}, false},
	} {
		root := linked(t, map[string]string{"a": test.to})
		steps := inRoot(root, in(test.op))
		_, err := launchSteps(t, launch.Options{}, steps...)
		if !test.refused {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if e := step(t, err); e.Call != "fstatfs" || !strings.Contains(err.Error(), "cannot be mounted because it is") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// Another container that shares the root changes what links lead to while their targets are made.
func TestDanglingLinksAreRaced(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := canary(t)
	rounds := 100
	if testing.Short() {
		rounds = 30
	}
	links := map[string]string{"evil": host, "away": strings.Repeat("../", 20) + host[1:]}
	for i := range rounds {
		links[fmt.Sprintf("l/%d", i)] = fmt.Sprintf("/a/gone%d/../made%d/x", i, i)
	}
	root := linked(t, links)
	if err := os.MkdirAll(filepath.Join(root, "a/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	background(t, nstest.Part("swapper", filepath.Join(root, "a"), filepath.Join(root, "evil")))
	background(t, nstest.Part("swapper", filepath.Join(root, "evil"), filepath.Join(root, "away")))
	worked := 0
	for i := range rounds {
		dest := fmt.Sprintf("/l/%d", i)
		op := plan.Op(&plan.Bind{Source: "/etc/passwd", Dest: dest})
		if i%2 == 0 {
			op = &plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: dest + "/deep"}
		}
		if _, err := launchSteps(t, launch.Options{}, inRoot(root, in(&plan.Umask{}), in(op))...); err == nil {
			worked++
		}
	}
	if worked == 0 {
		t.Error("no launch got through: the race was not tried to its end")
	}
	t.Logf("%d of %d launches got through", worked, rounds)
}

// A lookup with ".." is to be made once more when anything is renamed or mounted meanwhile,
// wherever on the machine: openat2(2), EAGAIN.
func TestDotDotWhileOthersRename(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	root := linked(t, map[string]string{"var/up": "../srv/../srv", "var/gone": "../lost/../made"})
	busy := nstest.Dir(t)
	if err := os.WriteFile(filepath.Join(busy, "a"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		var err error
		for err == nil {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			err = errors.Join(os.Rename(filepath.Join(busy, "a"), filepath.Join(busy, "b")), os.Rename(filepath.Join(busy, "b"), filepath.Join(busy, "a")))
		}
		done <- err
	}()
	var failed error
	for range 25 {
		steps := inRoot(root, in(&plan.Umask{}))
		for range 20 {
			steps = slices.Insert(steps, len(steps)-2, in(&plan.Workdir{Path: "/var/up"}), in(&plan.Workdir{Path: "/var/gone/x"}), in(&plan.ReadonlyPath{Path: "/var/up"}))
		}
		if _, err := launchSteps(t, launch.Options{}, steps...); err != nil {
			failed = err
			break
		}
		if err := os.RemoveAll(filepath.Join(root, "made")); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := errors.Join(failed, <-done); err != nil {
		t.Error(err)
	}
}

// A tmpfs without a mode of its own has that of the directory it covers, through links as
// well; of one that is made for it, it has not.
func TestTmpfsInheritsMode(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	fresh := func() string {
		root := linked(t, map[string]string{"link": "/srv"})
		for name, mode := range map[string]uint32{"srv": 0o710, "home": 0o7777, "run": 0, "var/tmp": 0o1500} {
			if err := unix.Chmod(filepath.Join(root, name), mode); err != nil {
				t.Fatal(err)
			}
		}
		return root
	}
	tmpfs := func(dest string) plan.Step {
		return in(&plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: dest, Inherit: true})
	}
	for _, test := range []struct{ dest, mode, option string }{
		{"/srv", "710", "mode=710"}, {"/link", "710", "mode=710"}, {"/home", "7777", "mode=7777"}, {"/run", "0", "mode=000"}, {"/var/tmp", "1500", "mode=1500"},
		{"/new/place", "1777", ""}, {"/link/new", "1777", ""},
	} {
		root := fresh()
		v := see(t, inRoot(root, tmpfs(test.dest))...)
		point := strings.Replace(test.dest, "/link", "/srv", 1)
		_, _, fs := mountOf(v.Mounts, point)
		if has := strings.Contains(fs, "mode="); !strings.Contains(fs, test.option) || has != (test.option != "") {
			t.Errorf("%s: %q, want %s", test.dest, fs, test.option)
		}
		if info, err := os.Stat(filepath.Join(root, "new/place")); test.dest == "/new/place" && (err != nil || info.Mode().Perm() != 0o755) {
			t.Errorf("the place that was made: %v %v", info, err)
		}
		steps := inRoot(fresh(), tmpfs(test.dest))
		steps[len(steps)-1] = sh("stat -L -c %a " + test.dest)
		if res := must(t, steps...); res.out != test.mode+"\n" {
			t.Errorf("%s has mode %s, want %s", test.dest, res.out, test.mode)
		}
	}
}

// Masked directories are covered by one file system, masked files by the null device.
func TestMasksShareTheirCover(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	root := nstest.RootFS(t)
	steps := inRoot(root, in(&plan.OpenNull{}),
		in(&plan.Mask{Path: "/none"}), in(&plan.Mask{Path: "/etc/passwd"}), in(&plan.Mask{Path: "/srv"}), in(&plan.Mask{Path: "/home"}),
		in(&plan.Mask{Path: "/etc/group"}), in(&plan.Mask{Path: "/var"}))
	steps[len(steps)-1] = sh("stat -c %d /srv /home /var | uniq | wc -l; cat /etc/passwd /etc/group; ls -A /srv /home /var | grep -v :; touch /home/x /var/x 2>&1 | grep -c Read-only")
	if res := must(t, steps...); strings.Fields(res.out)[0] != "1" || !strings.HasSuffix(res.out, "\n2\n") || len(strings.Fields(res.out)) != 2 {
		t.Errorf("%q", res.out)
	}
}

// flagged makes a mount of its own with flags of mount(2).
func flagged(t *testing.T, flags uintptr) string {
	t.Helper()
	dir := nstest.Dir(t)
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil { // a tmpfs could not be id-mapped before Linux 6.3
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

// flags are those of the mount at /srv, without relatime, which all mounts have by default.
func flags(v view) string {
	got, _, _ := mountOf(v.Mounts, "/srv")
	return strings.Replace(got, ",relatime", "", 1)
}

// A bind with flags has those only. In a user namespace the kernel keeps those that it
// has locked: they stay, unless their absence was asked for.
func TestBindHasItsFlagsOnly(t *testing.T) {
	nstest.Root(t)
	const all = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY | unix.MS_NOSYMFOLLOW
	locked := "ro,nosuid,nodev,noexec"
	for _, test := range []struct {
		host       uintptr
		attrs      plan.Attrs
		only       bool
		want       string // in the container
		wantLocked string // with a user namespace of its own; empty: refused
	}{
		{all, plan.Attrs{}, false, locked + ",nosymfollow", locked + ",nosymfollow"},
		{all, plan.Attrs{Set: abi.MountAttrNodev}, false, locked + ",nosymfollow", locked + ",nosymfollow"},
		{all, plan.Attrs{Set: abi.MountAttrNodev}, true, "rw,nodev", locked},
		{all, plan.Attrs{Clear: abi.MountAttrNosymfollow}, true, "rw", locked},
		{all, plan.Attrs{Clear: abi.MountAttrRdonly}, true, "rw", ""},
		{unix.MS_NODEV, plan.Attrs{Set: abi.MountAttrRdonly}, true, "ro", "ro,nodev"},
		{0, plan.Attrs{Set: abi.MountAttrRdonly | abi.MountAttrNoexec}, true, "ro,noexec", "ro,noexec"},
		{unix.MS_RDONLY, plan.Attrs{Clear: abi.MountAttrNodev}, true, "rw", "ro"},
		{unix.MS_NODEV, plan.Attrs{Clear: abi.MountAttrNodev, Set: abi.MountAttrRdonly}, true, "ro", ""},
		{unix.MS_NOATIME, plan.Attrs{Set: abi.MountAttrRdonly}, true, "ro,noatime", "ro,noatime"},
		{unix.MS_NOATIME, plan.Attrs{Clear: abi.MountAttrAtime | abi.MountAttrNodiratime}, true, "rw", ""},
		{unix.MS_NODIRATIME, plan.Attrs{Set: abi.MountAttrNoatime, Clear: abi.MountAttrAtime | abi.MountAttrNodiratime}, true, "rw,noatime", ""},
	} {
		src := flagged(t, test.host)
		bind := in(&plan.Bind{Source: src, Dest: "/srv", Attrs: test.attrs, Only: test.only})
		plain := see(t, inRoot(nstest.RootFS(t), bind)...)
		if got := flags(plain); got != test.want {
			t.Errorf("%#x %+v only %v: %s, want %s", test.host, test.attrs, test.only, got, test.want)
		}
		ids := []plan.IDMapping{{Inside: 0, Outside: 100000, Size: 1000}}
		root := nstest.RootFS(t)
		if err := os.WriteFile(filepath.Join(root, "probe"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		steps := slices.Concat([]plan.Step{
			clone(abi.NSUser, abi.NSMount, abi.NSPID), rt(&plan.WriteIDMap{Map: ids}), rt(&plan.WriteIDMap{Group: true, Map: ids}),
			rt(&plan.Sync{From: plan.Runtime, What: "id maps written"}), in(&plan.Setresgid{}), in(&plan.Setresuid{}),
		}, inRoot(root, bind)[1:])
		res, err := launchSteps(t, launch.Options{}, steps...)
		if test.wantLocked == "" {
			if !errors.Is(err, unix.EPERM) || step(t, err).Call != "mount_setattr" {
				t.Errorf("%#x %+v in a user namespace: %v %q", test.host, test.attrs, err, res.out)
			}
			continue
		}
		if err != nil {
			t.Errorf("%#x %+v in a user namespace: %v", test.host, test.attrs, err)
			continue
		}
		if got := flags(parseView(t, res)); got != test.wantLocked {
			t.Errorf("%#x %+v only %v in a user namespace: %s, want %s", test.host, test.attrs, test.only, got, test.wantLocked)
		}
	}
}

// A source that is id-mapped for a user namespace keeps the flags that are locked for it: root inside, who
// is root of the files as well, makes nothing of the host writable that is mounted read-only there.
func TestMappedSourceStaysLocked(t *testing.T) {
	nstest.Root(t)
	src := flagged(t, unix.MS_RDONLY|unix.MS_NOSUID)
	ids := []plan.IDMapping{{Inside: 0, Outside: 100000, Size: 1000}}
	steps := []plan.Step{
		clone(abi.NSUser, abi.NSMount), rt(&plan.WriteIDMap{Map: ids}), rt(&plan.WriteIDMap{Group: true, Map: ids}),
		rt(&plan.OpenHost{Child: true}), rt(&plan.OpenSource{Path: src, Out: free}),
		rt(&plan.Sync{From: plan.Runtime, What: "id maps written", FDs: []plan.Reg{free}}),
		in(&plan.OpenTree{From: free, Path: src, Recursive: true, Out: free2}),
		in(&plan.Sync{From: plan.Container, What: "trees opened", FDs: []plan.Reg{free2}}),
		rt(&plan.IDMapTree{Tree: free2}), rt(&plan.Sync{From: plan.Runtime, What: "id-mapped"}),
		in(&plan.Setresgid{}), in(&plan.Setresuid{}), in(&plan.AttachRoot{Path: nstest.RootFS(t)}),
		in(&plan.Bind{Tree: free2, Source: src, Dest: "/srv"}), in(&plan.PivotRoot{}),
		sh("exec 2>&-; stat -c %u /srv; mount -o remount,bind,rw,nosuid /srv || echo ro; mount -o remount,bind,ro,suid /srv || echo nosuid; touch /srv/x || echo refused"),
	}
	if res := must(t, steps...); res.out != "0\nro\nnosuid\nrefused\n" {
		t.Errorf("%q", res.out)
	}
}
