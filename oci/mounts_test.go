package oci

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mapped gives a container a user namespace of its own, and the root of a bundle to it.
func mapped(t testing.TB, dir string, s *specs.Spec) {
	t.Helper()
	withUserNS(s)
	root := filepath.Join(dir, "rootfs")
	err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(name, 100000, 100000))
	})
	if err := errors.Join(err, os.Chmod(dir, 0o755), os.Chmod(root, 0o755)); err != nil {
		t.Fatal(err)
	}
}

func bindMount(source, dest string, options ...string) specs.Mount {
	return specs.Mount{Destination: dest, Type: "bind", Source: source, Options: append(options, "rbind")}
}

// writeFiles makes files with their directories: path to text.
func writeFiles(t testing.TB, list map[string]string) {
	t.Helper()
	for name, text := range list {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A source in the root is what the mounts before have put there, and no link in it leads
// out; a destination may be given by its path on the host.
func TestSourcesInRoot(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := nstest.Dir(t)
	writeFiles(t, map[string]string{host + "/a/x/file": "of a\n", host + "/b/file": "of b\n", host + "/mark": "of the host\n"})
	ids := []specs.LinuxIDMapping{{HostID: 100000, Size: 1000}}
	for _, userNS := range []bool{false, true} {
		for _, idmap := range []bool{false, true} {
			name := fmt.Sprintf("user namespace %v, idmap %v", userNS, idmap)
			again := func(source, dest string) specs.Mount {
				m := bindMount(source, dest)
				if idmap {
					m.Options, m.UIDMappings, m.GIDMappings = append(m.Options, "idmap"), ids, ids
				}
				return m
			}
			s := base("cat /mnt/file /final/x/file /seen; ls /final")
			dir := bundle(t, s)
			root := filepath.Join(dir, "rootfs")
			writeFiles(t, map[string]string{root + "/mnt/below": "", root + "/inside/mark": "of the image\n"})
			for link, target := range map[string]string{"link": "/mnt", "out": host, "up": strings.Repeat("../", 20) + host[1:], "one": "/inside/mark"} {
				if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
					t.Fatal(err)
				}
			}
			s.Mounts = append(s.Mounts, bindMount(host+"/a", "/mnt"), bindMount(host+"/b", root+"/mnt/x"), again(root+"/link", root+"/final"), bindMount(host+"/b", "/mnt"))
			s.Mounts = append(s.Mounts, again(root+"/one", "/seen"))
			if userNS {
				mapped(t, dir, s)
			}
			write(t, dir, s)
			if out, stderr, code := run(t, dir); out != "of b\nof b\nof the image\nx\n" || code != 0 {
				t.Errorf("%s: code %d: %q: %s", name, code, out, stderr)
			}
			for _, source := range []string{"/out", "/out/mark", "/up/mark"} {
				s.Mounts = append(s.Mounts[:1:1], again(root+source, "/seen"))
				write(t, dir, s)
				refused(t, dir, "config.json mounts[1]", "ENOENT")
			}
		}
	}
}

// A recursive bind mount of the host's root shows that, by whatever name, and not the container's own root, which is attached over it.
func TestWholeHost(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p, links := newPlace(t), nstest.Dir(t)
	for name, target := range map[string]string{"link": "/", "second": "link", "up": strings.Repeat("../", 20), "usr": "/usr/bin"} {
		if err := os.Symlink(target, filepath.Join(links, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, source := range []string{
		"/", "/../.", "/proc/self/root", "/proc/self/task/../root/", "/proc/thread-self/root/.", "/proc/self/cwd/" + strings.Repeat("../", 20), strings.Repeat("../", 20),
		links + "/link", links + "/second", links + "/up", links + "/second" + links + "/up/",
	} {
		for _, userNS := range []bool{false, true} {
			s := base("cat /all/proc/self/mountinfo >/dev/null; ls -d /all$0/config.json; test -e /all/all && echo the own root; true")
			dir := bundle(t, s)
			if userNS {
				mapped(t, dir, s)
			}
			s.Process.Args = append(s.Process.Args, dir)
			s.Mounts = append(s.Mounts, bindMount(source, "/all", "ro"))
			write(t, dir, s)
			if out := p.good("run", "--bundle", dir, "x"); out != "/all"+dir+"/config.json\n" {
				t.Errorf("%s, user namespace %v: %q", source, userNS, out)
			}
		}
	}
	p.empty()
}

// A recursive bind mount of a directory that the container's root is in shows nothing of what the container has mounted: neither where hooks
// want the root at its own place, nor where that is in the caller's mount namespace.
func TestBindAroundRoot(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	for name, change := range map[string]func(*specs.Spec){
		"alone": func(*specs.Spec) {},
		"hooks": func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/true"}}} },
	} {
		s := base("ls /around/rootfs/proc; test -d /around/rootfs/bin && echo the directory")
		change(s)
		dir := bundle(t, s)
		s.Mounts = append(s.Mounts, bindMount(dir, "/around"))
		write(t, dir, s)
		if out, stderr, code := run(t, dir); out != "the directory\n" || code != 0 {
			t.Errorf("%s: code %d: %q: %s", name, code, out, stderr)
		}
	}
}

// Nothing is mounted on the root itself, where a link leads there: it would be seen by nobody but those who enter the container, and instead of the root.
func TestMountOnRoot(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := nstest.Dir(t)
	dir := bundle(t, base("true"))
	links := map[string]string{"abs": "/", "up": "..", "round": "etc/..", "dangling": "none/x/../..", "second": "abs", "proc2": "/proc/.."}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dir, "rootfs", name)); err != nil {
			t.Fatal(err)
		}
	}
	for name := range links {
		for _, m := range []specs.Mount{bindMount(host, "/"+name), {Destination: "/" + name, Type: "tmpfs", Source: "tmpfs"}, {Destination: "/" + name, Type: "cgroup", Source: "cgroup"}} {
			s := base("true")
			s.Mounts = append(s.Mounts, m)
			write(t, dir, s)
			refused(t, dir, "config.json mounts[1]", "leads to the root by a link")
		}
	}
	// A place that is a mount's root, but another's, is one.
	s := base("grep -c ' /mnt ' /proc/self/mountinfo")
	s.Mounts = append(s.Mounts, bindMount(host, "/mnt"), bindMount(host, "/mnt"), bindMount(host, "/abs/mnt"))
	write(t, dir, s)
	if out, stderr, code := run(t, dir); out != "3\n" || code != 0 {
		t.Errorf("code %d: %q: %s", code, out, stderr)
	}
}

// A mount's root that the container's root may not search, as a directory of the machine's root is for one of a user namespace, is a place for a mount, too: it is not the root itself.
func TestMountOnUnsearchable(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := nstest.Dir(t)
	shut, shown := host+"/shut", host+"/shown"
	if err := errors.Join(os.Chmod(host, 0o755), os.Mkdir(shut, 0o700), os.Mkdir(shown, 0o755)); err != nil {
		t.Fatal(err)
	}
	s := base("grep -c ' /mnt ' /proc/self/mountinfo")
	dir := bundle(t, s)
	mapped(t, dir, s)
	s.Mounts = append(s.Mounts, bindMount(shut, "/mnt"), bindMount(shown, "/mnt"))
	write(t, dir, s)
	if out, stderr, code := run(t, dir); out != "2\n" || code != 0 {
		t.Errorf("code %d: %q: %s", code, out, stderr)
	}
}

// A link of a volume that is mounted in /dev or /sys leads no other mount into /proc.
func TestVolumeInDevLeadsToProc(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := nstest.Dir(t)
	if err := errors.Join(os.Symlink("/proc/sys", host+"/link"), os.Chmod(host, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, userNS := range []bool{false, true} {
		for _, at := range []string{"/dev", "/sys"} {
			s := base("true")
			dir := bundle(t, s)
			if userNS {
				mapped(t, dir, s)
			}
			kind := map[string]string{"/dev": "tmpfs", "/sys": "sysfs"}[at]
			s.Mounts = append(s.Mounts, specs.Mount{Destination: at, Type: kind, Source: kind})
			place := at + "/volume"
			if at == "/sys" {
				place = "/sys/kernel/debug"
			}
			s.Mounts = append(s.Mounts, bindMount(host, place), bindMount(host, place+"/link"))
			write(t, dir, s)
			refused(t, dir, "config.json mounts[3]", "is inside /proc")
		}
	}
}

// The mounts are made in the order of config.json, with /dev at its place: as mountinfo lists them.
func TestMountOrder(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	source := nstest.Dir(t)
	for _, userNS := range []bool{false, true} {
		s := base("cut -d' ' -f5 /proc/self/mountinfo | tr '\n' ' '; echo >/dev/null && stat -c '%t:%T %u' /dev/zero; stat -c %a /dev")
		tmpfs := func(dest string) specs.Mount { return specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs"} }
		dev := tmpfs("/dev")
		dev.Options = []string{"mode=755", "ro"}
		s.Mounts = append(s.Mounts, tmpfs("/run"), dev, bindMount(source, "/dev/mqueue"), tmpfs("/dev/shm"), bindMount(source, "/mnt"), tmpfs("/tmp"))
		laid := ""
		if !userNS { // of its parts the place is looked up before there is a root
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/tmp/laid", Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + source + ":" + nstest.Dir(t)}})
			laid = "/tmp/laid "
		}
		dir := bundle(t, s)
		if userNS {
			mapped(t, dir, s)
			write(t, dir, s)
		}
		if out, stderr, code := run(t, dir); out != "/ /proc /run /dev /dev/mqueue /dev/shm /mnt /tmp "+laid+"1:5 0\n755\n" || code != 0 {
			t.Errorf("user namespace %v: code %d: %q: %s", userNS, code, out, stderr)
		}
	}
}

// TestSourceOfAutomount: a source where a file system is mounted when somebody comes there, by autofs, is that file system, and is asked for once. What is mounted there
// comes to the container's namespace where the machine shares its mounts.
func TestSourceOfAutomount(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	for _, userNS := range []bool{false, true} {
		for _, options := range [][]string{{"bind"}, {"rbind", "rprivate"}} {
			around := nstest.Dir(t)
			for _, err := range []error{unix.Mount("test", around, "tmpfs", 0, ""), unix.Mount("", around, "", unix.MS_SHARED, ""), os.Mkdir(around+"/auto", 0o755)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			t.Cleanup(func() { unix.Unmount(around, unix.MNT_DETACH) })
			place := around + "/auto"
			asked := automount(t, place)
			s := base("cat /m/file")
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: place, Options: options})
			dir := bundle(t, s)
			if userNS {
				mapped(t, dir, s)
				write(t, dir, s)
			}
			c := exec.Command(nstest.Binary(t, "kakuri-runtime"), "--root", nstest.Dir(t), "run", "--bundle", dir, "test")
			c.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // that of who mounts sees what is below
			c.WaitDelay = time.Minute
			out, err := c.CombinedOutput()
			if err != nil || string(out) != "given\n" || asked.Load() != 1 {
				t.Errorf("user namespace %v, %q: %v, asked %d times: %s", userNS, options, err, asked.Load(), out)
			}
		}
	}
}

// automount has a tmpfs with a file mounted at a place when somebody comes there, and counts who does: Linux, Documentation/filesystems/autofs.rst.
func automount(t *testing.T, place string) *atomic.Int32 {
	t.Helper()
	const (
		missing = 5      // autofs_ptype_missing_direct
		size    = 300    // of struct autofs_v5_packet, with what is between its parts
		ready   = 0x9360 // AUTOFS_IOC_READY
	)
	if unix.Getpgrp() == 0 { // one of outside of this pid namespace
		if err := unix.Setpgid(0, 0); err != nil {
			t.Fatal(err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("fd=%d,pgrp=%d,minproto=5,maxproto=5,direct", w.Fd(), unix.Getpgrp())
	if err := unix.Mount("test", place, "autofs", 0, options); err != nil {
		r.Close()
		w.Close()
		if errors.Is(err, unix.ENODEV) {
			t.Skip("this kernel has no autofs")
		}
		t.Fatal(err)
	}
	w.Close()
	io, err := os.Open(place)
	if err != nil {
		t.Fatal(err)
	}
	asked, done := new(atomic.Int32), make(chan struct{})
	go func() {
		defer close(done)
		for packet := make([]byte, size+4); ; {
			if n, err := r.Read(packet); err != nil || n < 12 {
				return
			}
			if binary.NativeEndian.Uint32(packet[4:]) != missing {
				continue
			}
			if asked.Add(1) == 1 {
				if err := errors.Join(unix.Mount("test", place, "tmpfs", 0, ""), os.WriteFile(place+"/file", []byte("given\n"), 0o644)); err != nil {
					t.Error(err)
				}
			}
			unix.IoctlSetInt(int(io.Fd()), ready, int(binary.NativeEndian.Uint32(packet[8:])))
		}
	}()
	t.Cleanup(func() {
		io.Close()
		for unix.Unmount(place, unix.MNT_DETACH) == nil {
		}
		<-done
		r.Close()
	})
	return asked
}

// The working directory is one that root of the container may enter, or else its user: root is closed out where the user namespace lacks a directory's group.
func TestClosedWorkdir(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	source := nstest.Dir(t)
	for name, uid := range map[string]int{"root": 100000, "user": 100005, "other": 100006} {
		dir := filepath.Join(source, name)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, uid, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"root": "/d/root\n", "user": "/d/user\n", "other": ""} {
		s := base("echo $PWD")
		s.Process.Cwd = "/d/" + name
		s.Process.User = specs.User{UID: 5, GID: 5}
		s.Process.Capabilities = nil
		s.Mounts = append(s.Mounts, bindMount(source, "/d"))
		dir := bundle(t, s)
		mapped(t, dir, s)
		write(t, dir, s)
		out, stderr, code := run(t, dir)
		if out != want || (code == 0) != (want != "") || want == "" && !strings.Contains(stderr, "chdir /d/other") {
			t.Errorf("%s: code %d: %q, want %q: %s", name, code, out, want, stderr)
		}
	}
}

// What only the host's root comes to can be mounted in a user namespace, new or joined.
func TestClosedSources(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := nstest.Dir(t)
	writeFiles(t, map[string]string{host + "/closed/dir/file": "within\n", host + "/theirs/one": "one\n"})
	if err := errors.Join(os.Chmod(host+"/closed", 0o700), os.Chown(host+"/theirs", 7, 8), os.Chmod(host+"/theirs", 0o700), os.Symlink("/"+host[1:]+"/closed/dir", host+"/link")); err != nil {
		t.Fatal(err)
	}
	s := base("sleep 100")
	dir := bundle(t, s)
	mapped(t, dir, s)
	s.Mounts = append(s.Mounts, bindMount(host+"/closed/dir", "/a"), bindMount(host+"/theirs/one", "/b", "ro"), bindMount(host+"/link", "/c"), bindMount("/proc/version", "/d"))
	write(t, dir, s)
	p := newPlace(t)
	p.good("run", "-d", "-b", dir, "c")
	defer p.good("delete", "-f", "c")
	const seen = "cat /a/file /b /c/file; echo x 2>/dev/null >/b || echo ro; grep -c Linux /d"
	if out := p.good("exec", "c", "sh", "-c", seen); out != "within\none\nwithin\nro\n1\n" {
		t.Errorf("%q", out)
	}
	// The same in a second container, which joins the first one's.
	s.Process.Args[2] = seen
	s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
	ns := s.Linux.Namespaces
	ns[len(ns)-1].Path = fmt.Sprintf("/proc/%d/ns/user", p.state("c").Pid)
	write(t, dir, s)
	if out := p.good("run", "-b", dir, "d"); out != "within\none\nwithin\nro\n1\n" {
		t.Errorf("joined: %q", out)
	}
	s.Mounts = append(s.Mounts, bindMount(host+"/none", "/e"))
	write(t, dir, s)
	refused(t, dir, "config.json mounts[5]", "there is no "+host+"/none on the host")
}

// What the host has mounted read-only stays so for root of a user namespace, also where its ids are mapped, and with or without what is mounted below it.
func TestMappedStaysReadOnly(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := nstest.Dir(t)
	writeFiles(t, map[string]string{host + "/at/mark": ""})
	at := host + "/at"
	if err := errors.Join(unix.Mount(at, at, "", unix.MS_BIND, ""), unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	for _, recursive := range []string{"bind", "rbind"} {
		s := base("exec 2>&1; /bin/busybox mount -o remount,bind,rw /srv >/dev/null && echo writable; grep -c ' /srv ro,.*idmapped' /proc/self/mountinfo")
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_SYS_ADMIN"}, Effective: []string{"CAP_SYS_ADMIN"}, Permitted: []string{"CAP_SYS_ADMIN"}}
		dir := bundle(t, s)
		mapped(t, dir, s)
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/srv", Type: "bind", Source: at, Options: []string{recursive, "idmap"}})
		write(t, dir, s)
		if out, stderr, code := run(t, dir); !strings.HasSuffix(out, "\n1\n") || strings.Contains(out, "writable") || code != 0 {
			t.Errorf("%s: code %d: %q: %s", recursive, code, out, stderr)
		}
	}
}

// What a container mounts below a bind mount that is shared with the host, as its root is to be, is mounted on the host, too; below
// any other mount it is not, nor where one of the two does not ask for it.
func TestSharedMountReachesHost(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := nstest.Dir(t)
	writeFiles(t, map[string]string{host + "/given/mark": "of the container\n", host + "/at/below/none": ""})
	if err := errors.Join(unix.Mount(host+"/at", host+"/at", "", unix.MS_BIND, ""), unix.Mount("", host+"/at", "", unix.MS_SHARED, "")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(host+"/at", unix.MNT_DETACH)
	for _, c := range []struct {
		root, option string
		reaches      bool
	}{
		{"rshared", "rshared", true}, {"shared", "shared", true}, {"rshared", "rslave", false}, {"rshared", "rprivate", false}, {"rslave", "rshared", false}, {"", "rshared", false},
	} {
		s := base("/bin/busybox mount --bind /given /seen/below && cat /seen/below/mark")
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_SYS_ADMIN"}, Effective: []string{"CAP_SYS_ADMIN"}, Permitted: []string{"CAP_SYS_ADMIN"}}
		s.Linux.RootfsPropagation = c.root
		s.Mounts = append(s.Mounts, bindMount(host+"/given", "/given"), bindMount(host+"/at", "/seen", c.option))
		if out, stderr, code := run(t, bundle(t, s)); out != "of the container\n" || code != 0 {
			t.Errorf("%v: code %d: %q: %s", c, code, out, stderr)
		}
		_, err := os.Stat(host + "/at/below/mark")
		if got := err == nil; got != c.reaches {
			t.Errorf("root %q, mount %q: a mount made inside reaches the host: %v, want %v", c.root, c.option, got, c.reaches)
		}
		if err == nil {
			if err := unix.Unmount(host+"/at/below", unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestCopiedLinks: what podman's no-dereference asks for. A link that leads nowhere is copied as well, and the container may be made again.
func TestCopiedLinks(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := nstest.Dir(t)
	for link, target := range map[string]string{"here": "/etc/passwd", "gone": "../no/where"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := base("for l in /l/here /l/gone /tmp/gone; do readlink $l; done; cat /l/file; grep -c /here /proc/self/mountinfo")
	bind := func(name, dest string) specs.Mount {
		return specs.Mount{Type: "bind", Source: filepath.Join(dir, name), Destination: dest, Options: []string{"copy-symlink", "rbind"}}
	}
	s.Mounts = append(s.Mounts, bind("here", "/l/here"), bind("gone", "/l/gone"), bind("file", "/l/file"), specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"}, bind("gone", "/tmp/gone"))
	b := bundle(t, s)
	p := newPlace(t)
	for range 2 {
		if out, _ := p.do("run", "--bundle", b, "x"); out != "/etc/passwd\n../no/where\n../no/where\ntext0\n" {
			t.Errorf("%q", out)
		}
	}
}

// TestNestedUserNamespace: root of a user namespace, as rootless podman is, makes a container whose own root is another user (podman's --userns auto and
// nomap). What is bound is the caller's, and nobody else may come to it.
func TestNestedUserNamespace(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	const caller = 300000
	s := base("id -u; cat /secret/of")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 1, Size: 1000}}
	s.Linux.GIDMappings = s.Linux.UIDMappings
	closed := nstest.Dir(t)
	writeFiles(t, map[string]string{filepath.Join(closed, "in/of"): "the caller's"})
	s.Mounts = append(s.Mounts, bindMount(filepath.Join(closed, "in"), "/secret"))
	dir := bundle(t, s)
	p := newPlace(t)
	own := func(id int, list ...string) {
		for _, d := range list {
			err := filepath.WalkDir(d, func(name string, _ fs.DirEntry, err error) error { return errors.Join(err, os.Lchown(name, id, id)) })
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	own(caller, filepath.Dir(p.dir), closed, dir)
	own(caller+1, filepath.Join(dir, "rootfs"))
	if err := errors.Join(os.Chmod(closed, 0o700), os.Chmod(dir, 0o711)); err != nil {
		t.Fatal(err)
	}
	ids := []syscall.SysProcIDMap{{HostID: caller, Size: 2000}}
	c := p.command("run", "--bundle", dir, "x")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{}}
	if out, err := c.CombinedOutput(); err != nil || string(out) != "0\nthe caller's" {
		t.Errorf("%v: %q", err, out)
	}
}

// Links in the path of the root and of the bundle lead where they lead, as with crun; runc refuses them, and its callers find out by
// themselves what they lead to. That is done once: a container's root is the same one whatever becomes of the link.
func TestRootLinks(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	hooked, mapped := base("cat /mark"), base("cat /mark")
	withUserNS(mapped)
	mapped.Mounts = append(mapped.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"})
	setHooks(hooked, "createContainer", shell("test -e mark"))
	for name, s := range map[string]*specs.Spec{"new namespaces": base("cat /mark"), "user namespace": mapped, "hooks": hooked, "in place": withoutMounts(base("cat /mark"), "")} {
		dir := bundle(t, s)
		writeFiles(t, map[string]string{dir + "/rootfs/mark": "the root\n"})
		if err := errors.Join(os.Symlink("rootfs", dir+"/link"), os.Symlink(dir+"/link", dir+"/chain"), os.Symlink(".", dir+"/here"), os.Chmod(dir, 0o755), os.Chmod(dir+"/rootfs", 0o755)); err != nil {
			t.Fatal(err)
		}
		for _, root := range []string{"link", "chain", dir + "/chain", "here/here/rootfs"} {
			s.Root.Path = root
			write(t, dir, s)
			for _, at := range []string{dir, dir + "/here"} {
				if out, stderr, code := run(t, at); out != "the root\n" || code != 0 {
					t.Errorf("%s, root %s of bundle %s: code %d: %q: %s", name, root, at, code, out, stderr)
				}
			}
		}
	}

	s := base("true")
	s.Root.Path = "link"
	dir := bundle(t, s)
	writeFiles(t, map[string]string{dir + "/rootfs/mark": "the root\n"})
	if err := os.Symlink("rootfs", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	p.good("create", "-b", dir, "c")
	defer p.do("delete", "-f", "c")
	if err := errors.Join(os.Remove(dir+"/link"), os.Symlink("/", dir+"/link")); err != nil {
		t.Fatal(err)
	}
	if got := p.good("exec", "c", "cat", "/mark"); got != "the root\n" {
		t.Errorf("exec finds %q", got)
	}
	p.good("delete", "-f", "c")
}
