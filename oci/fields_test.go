package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The scheduling of a process, and what one beside it has of its own.
func TestScheduling(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	s := base(`cut -d' ' -f19,41 /proc/self/stat; grep -c 'bind:0' /proc/self/numa_maps >/dev/null && echo bound; ionice -p $$`)
	s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 9}
	s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 5}
	s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0"}
	want(t, s, "9 3\nbound\nbest-effort: prio 5\n")

	p := newPlace(t)
	s = base("sleep 100")
	s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0-1", Final: lastCPU(t)}
	s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0"}
	p.good("run", "-d", "-b", bundle(t, s), "c")
	defer p.good("delete", "-f", "c")
	if out := p.good("exec", "c", "grep", "Cpus_allowed_list", "/proc/self/status"); out != "Cpus_allowed_list:\t"+lastCPU(t)+"\n" {
		t.Errorf("%q", out)
	}
	p.good("exec", "c", "grep", "-q", "bind:0", "/proc/self/numa_maps")
	// A runtime that is bound to one processor does not bind its containers.
	var one unix.CPUSet
	one.Set(0)
	out := "Cpus_allowed_list:\t" + allCPUs(t) + "\n"
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	got := p.good("run", "-b", bundle(t, base("grep Cpus_allowed_list /proc/self/status")), "bound")
	if err := unix.SchedSetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	if got != out {
		t.Errorf("%q, want %q", got, out)
	}
	first, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.state("c").Pid))
	if all := strings.Contains(string(first), "Cpus_allowed_list:\t"+lastCPU(t)+"\n"); err != nil || all != (runtime.NumCPU() == 1) {
		t.Errorf("%v: the first process has what is for others", err)
	}
}

// allCPUs lists the processors that this process may run on, as the kernel does.
func allCPUs(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), "Cpus_allowed_list:\t")
	list, _, _ := strings.Cut(after, "\n")
	return list
}

// lastCPU is the highest processor that this process may run on.
func lastCPU(t testing.TB) string {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	last := 0
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			last = i
		}
	}
	return fmt.Sprint(last)
}

// The environment has a name once, with its last value, and a HOME.
func TestEnvironment(t *testing.T) {
	home := func() string { return "/h" }
	for _, c := range []struct{ have, want []string }{
		{nil, []string{"HOME=/h"}},
		{[]string{"A=1", "B=2", "A=3"}, []string{"B=2", "A=3", "HOME=/h"}},
		{[]string{"HOME=/x", "A="}, []string{"HOME=/x", "A="}},
		{[]string{"HOME=", "A=1"}, []string{"A=1", "HOME=/h"}},
		{[]string{"HOME=/x", "HOME="}, []string{"HOME=/h"}},
	} {
		if got := environment(c.have, home); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.have, got, c.want)
		}
	}
}

// HOME comes from the container's users, and from no file outside.
func TestHome(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("echo $HOME")
	dir := bundle(t, s)
	passwd := filepath.Join(dir, "rootfs/etc/passwd")
	users := "root:x:0:0::/root:/bin/sh\nbad\nu:x:33:33::/srv/u:/bin/sh\nbig:x:99999999999:0::/big:\n"
	if err := os.WriteFile(passwd, []byte(users), 0o644); err != nil {
		t.Fatal(err)
	}
	for uid, home := range map[uint32]string{0: "/root", 33: "/srv/u", 7: "/"} {
		s.Process.User.UID = uid
		write(t, dir, s)
		if out := p.good("run", "-b", dir, "c"); out != home+"\n" {
			t.Errorf("uid %d: %q, want %q", uid, out, home)
		}
	}
	s.Process.Args[2] = "sleep 100"
	write(t, dir, s)
	p.good("run", "-d", "-b", dir, "c")
	if out := p.good("exec", "-u", "33:33", "c", "sh", "-c", "echo $HOME"); out != "/srv/u\n" {
		t.Errorf("exec: %q", out)
	}
	p.good("delete", "-f", "c")
	// A file that is mounted there is what the process finds.
	other := filepath.Join(nstest.Dir(t), "users")
	if err := os.WriteFile(other, []byte("v:x:7:7::/mounted:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s = base("echo $HOME")
	s.Process.User.UID = 7
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/passwd", Type: "bind", Source: other, Options: []string{"bind"}})
	write(t, dir, s)
	if out := p.good("run", "-b", dir, "c"); out != "/mounted\n" {
		t.Errorf("%q", out)
	}
	// What is in its place may be anything.
	s = base("echo $HOME")
	write(t, dir, s)
	for _, place := range []func() error{
		func() error { return os.Symlink("/proc/self/root"+other, passwd) },
		func() error { return os.Symlink("../../../../../../.."+other, passwd) },
		func() error { return unix.Mkfifo(passwd, 0o644) },
		func() error { return os.Mkdir(passwd, 0o755) },
	} {
		os.Remove(passwd)
		if err := place(); err != nil {
			t.Fatal(err)
		}
		if out := p.good("run", "-b", dir, "c"); out != "/\n" {
			t.Errorf("%q", out)
		}
	}
}

// Descriptors that are kept are those of the caller, with their numbers, and no other is there.
func TestPreserveFDs(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("cat <&4; echo x >&3; ls /proc/self/fd; env | grep LISTEN"))
	write := func(name, text string) *os.File {
		f, err := os.Create(filepath.Join(nstest.Dir(t), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		f.WriteString(text)
		f.Seek(0, 0)
		return f
	}
	three, four, five := write("three", ""), write("four", "of four\n"), write("five", "")
	runWith := func(env []string, args ...string) (string, error) {
		c := p.command(args...)
		c.ExtraFiles = []*os.File{three, four, five}
		c.Env = append(os.Environ(), env...)
		four.Seek(0, 0)
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		err := c.Run()
		return out.String(), err
	}
	out, err := runWith(nil, "run", "--preserve-fds", "2", "-b", dir, "c")
	if out != "of four\n0\n1\n2\n3\n4\n5\n" { // 5 is ls's own; grep finds nothing
		t.Errorf("%v: %q", err, out)
	}
	if text, err := os.ReadFile(three.Name()); err != nil || string(text) != "x\n" {
		t.Errorf("%v %q", err, text)
	}
	// Of what the caller has not, nothing is passed on, nor what kakuri-runtime has in its place: 6 is ls's own.
	if out, err := runWith(nil, "run", "--preserve-fds", "1000000000", "-b", dir, "c"); !strings.HasPrefix(out, "of four\n") {
		t.Errorf("%v: %q", err, out)
	}
	if out, err := runWith(nil, "run", "--preserve-fds", "4", "-b", dir, "c"); out != "of four\n0\n1\n2\n3\n4\n5\n6\n" {
		t.Errorf("%v: %q", err, out)
	}
	holes := bundle(t, base("cat <&5; ls /proc/self/fd"))
	for _, how := range []string{"run", "exec", "start"} {
		// A descriptor that is visible through the program's name would be that of the runtime.
		sh := `exec 5<"$1" 3<&- 4<&- 6<&- 7<&- 8<&- 9<&-; shift; exec "$@"`
		args := []string{"run", "--preserve-fds", "3", "-b", holes, "c"}
		switch how {
		case "exec":
			p.good("run", "-d", "-b", bundle(t, base("sleep 100")), "c")
			args = []string{"exec", "--preserve-fds", "3", "c", "/bin/sh", "-c", "cat <&5; ls /proc/self/fd"}
		case "start":
			args = []string{"run", "-d", "--preserve-fds", "3", "-b", holes, "c"}
		}
		c := exec.Command("bash", append([]string{"-c", sh, "sh", four.Name(), nstest.Binary(t, "kakuri-runtime"), "--root", p.dir}, args...)...)
		text, err := c.CombinedOutput() // which ends with the container's output
		if string(text) != "of four\n0\n1\n2\n3\n5\n" {
			t.Errorf("%s: %v: %q", how, err, text)
		}
		p.command("delete", "--force", "c").Run()
	}
	// LISTEN_PID has to be the command's own pid, which a shell can say.
	c := exec.Command("sh", "-c", `LISTEN_FDS=2 LISTEN_FDNAMES=a:b LISTEN_PID=$$ exec "$@"`, "sh", nstest.Binary(t, "kakuri-runtime"), "--root", p.dir, "run", "-b", dir, "c")
	c.ExtraFiles = []*os.File{three, four}
	four.Seek(0, 0)
	text, err := c.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(text), "of four\n0\n1\n2\n3\n4\n5\n") {
		t.Errorf("%v: %s", err, text)
	}
	for _, e := range []string{"LISTEN_FDS=2\n", "LISTEN_PID=1\n", "LISTEN_FDNAMES=a:b\n"} {
		if !strings.Contains(string(text), e) {
			t.Errorf("no %q in %s", e, text)
		}
	}
	if out, err := runWith([]string{"LISTEN_FDS=2", "LISTEN_PID=1"}, "run", "-b", dir, "c"); err == nil || strings.Contains(out, "of four") {
		t.Errorf("another's sockets are passed on: %v: %s", err, out)
	}
	p.empty()
}

// A mount with mappings of its own shows other owners than its files have.
func TestMappedMounts(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	source := nstest.Dir(t)
	below := filepath.Join(source, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNS}, func(t *testing.T) {
		// Of the same file system, since the one of /tmp can be mapped in a guest of the oldest kernel, and tmpfs cannot.
		if err := unix.Mount(nstest.Dir(t), below, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(below, unix.MNT_DETACH)
		for _, name := range []string{source + "/f", below + "/f"} {
			if err := os.WriteFile(name, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(name, 5, 6); err != nil {
				t.Fatal(err)
			}
		}
		s := base("cd /; stat -c %u:%g a/f b/f b/below/f c/f c/below/f d/f")
		uids, gids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}}, []specs.LinuxIDMapping{{ContainerID: 0, HostID: 2000, Size: 10}}
		for _, m := range []struct{ dest, options string }{{"a", "bind idmap"}, {"b", "rbind idmap"}, {"c", "rbind ridmap"}, {"d", "bind"}} {
			mount := specs.Mount{Destination: "/" + m.dest, Type: "bind", Source: source, Options: strings.Fields(m.options), UIDMappings: uids, GIDMappings: gids}
			s.Mounts = append(s.Mounts, mount)
		}
		out, stderr, code := run(t, bundle(t, s))
		if want := "1005:2006\n1005:2006\n5:6\n1005:2006\n1005:2006\n1005:2006\n"; out != want || code != 0 {
			t.Errorf("code %d: %q, want %q: %s", code, out, want, stderr)
		}
		s.Mounts = s.Mounts[:1]
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/proc", Options: []string{"bind", "idmap"}, UIDMappings: uids, GIDMappings: gids})
		refused(t, bundle(t, s), "config.json mounts[1]", "cannot be id-mapped")
	})
}

// A /dev that is to be read-only has its devices, and many mapped mounts need no more open
// files than the process may have.
func TestReadonlyDev(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	source := nstest.Dir(t)
	for _, userNS := range []bool{false, true} {
		s := base("touch /dev/x 2>/dev/null || echo ro; echo >/dev/null && ls /dev/pts /m19; ulimit -n")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"ro"}},
			specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666"}})
		s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 20, Hard: 20}}
		for i := range 20 {
			s.Mounts = append(s.Mounts, specs.Mount{
				Destination: fmt.Sprintf("/m%d", i), Type: "bind", Source: source, Options: []string{"bind", "idmap"},
				UIDMappings: []specs.LinuxIDMapping{{Size: 10}}, GIDMappings: []specs.LinuxIDMapping{{Size: 10}},
			})
		}
		dir := bundle(t, s)
		if userNS {
			withUserNS(s)
			for _, name := range []string{dir, filepath.Join(dir, "rootfs")} {
				if err := os.Chown(name, 100000, 100000); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(name, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			write(t, dir, s)
		}
		if out, stderr, code := run(t, dir); out != "ro\n/dev/pts:\nptmx\n\n/m19:\n20\n" || code != 0 {
			t.Errorf("user namespace %v: code %d: %q: %s", userNS, code, out, stderr)
		}
	}
}

// withUserNS gives a container a user namespace whose ids are those from 100000 on.
func withUserNS(s *specs.Spec) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 1000}}
	s.Linux.GIDMappings = s.Linux.UIDMappings
}

// A tmpfs with tmpcopyup begins with what it covers, and what is written stays in it.
func TestTmpCopyUp(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	for _, userNS := range []bool{false, true} {
		s := base("cd /data; ls -R . | tr '\n' ' '; echo; cat a d/b; readlink l; stat -c '%a %u:%g %h' a d . d/b p; echo new >a && cat hard; cat a; touch /data/x && rm d/b && df -T /data | grep -c tmpfs")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "size=1m", "nosuid"}})
		base := 0
		if userNS {
			base = 100000
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"})
			withUserNS(s)
		}
		dir := bundle(t, s)
		data := filepath.Join(dir, "rootfs/data")
		for _, err := range []error{
			os.MkdirAll(data+"/d", 0o755), os.WriteFile(data+"/a", []byte("text\n"), 0o640), os.Link(data+"/a", data+"/hard"),
			os.WriteFile(data+"/d/b", bytes.Repeat([]byte("b"), 10), 0o604), os.Symlink("/etc/passwd", data+"/l"), unix.Mkfifo(data+"/p", 0o600),
			os.Chown(data, base, base), os.Chown(data+"/a", base+3, base+4), os.Chown(data+"/d", base, base), os.Chown(data+"/d/b", base+7, base), os.Chown(data+"/p", base, base),
			os.Chmod(data, 0o771|os.ModeSetgid), os.Chmod(data+"/a", 0o640),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if userNS {
			for _, name := range []string{dir, filepath.Join(dir, "rootfs")} {
				if err := os.Chmod(name, 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
		out, stderr, code := run(t, dir)
		want := ".: a d hard l p  ./d: b \ntext\nbbbbbbbbbb/etc/passwd\n640 3:4 2\n755 0:0 2\n2771 0:0 3\n604 7:0 1\n600 0:0 1\nnew\nnew\n1\n"
		if out != want || code != 0 {
			t.Errorf("user namespace %v: code %d:\n%q, want\n%q: %s", userNS, code, out, want, stderr)
		}
		if text, err := os.ReadFile(data + "/a"); err != nil || string(text) != "text\n" {
			t.Errorf("%v: the image's file is %q", err, text)
		}
	}
	// Its root has the owner that the mount has, and not that of what it covers.
	for options, want := range map[string]string{"": "0:0 750\n", "uid=7,gid=8": "7:8 750\n", "uid=7,mode=711": "7:0 711\n"} {
		s := base("stat -c '%u:%g %a' /data")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "tmpfs", Source: "tmpfs", Options: append([]string{"tmpcopyup"}, strings.Split(options, ",")...)})
		dir := bundle(t, s)
		data := filepath.Join(dir, "rootfs/data")
		if err := errors.Join(os.Mkdir(data, 0o750), os.Chown(data, 33, 44)); err != nil {
			t.Fatal(err)
		}
		if out, stderr, code := run(t, dir); out != want || code != 0 {
			t.Errorf("%q: code %d: %q, want %q: %s", options, code, out, want, stderr)
		}
	}
	// A place that is made for it has the mode of a tmpfs that nobody gave one.
	fresh := base("stat -c %a /fresh")
	fresh.Mounts = append(fresh.Mounts, specs.Mount{Destination: "/fresh", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}})
	if out, stderr, code := run(t, bundle(t, fresh)); out != "1777\n" || code != 0 {
		t.Errorf("code %d: %q: %s", code, out, stderr)
	}
	// What does not fit is an error, and read-only is read-only at the end.
	s := base("touch /data/x || echo ro; ls /data")
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "ro", "size=64k"}})
	dir := bundle(t, s)
	if err := os.MkdirAll(filepath.Join(dir, "rootfs/data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rootfs/data/f"), make([]byte, 10<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, stderr, code := run(t, dir); out != "ro\nf\n" || code != 0 {
		t.Errorf("code %d: %q: %s", code, out, stderr)
	}
	if err := os.WriteFile(filepath.Join(dir, "rootfs/data/f"), make([]byte, 200<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, "config.json mounts[1]", "tmpcopyup", "no space left")
}

// A bind mount with copy-symlink of a link makes the same link inside, whatever it leads to, and once more where it
// is there already; other sources are mounted.
func TestCopySymlink(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := nstest.Dir(t)
	if err := errors.Join(os.Symlink("to/nowhere", host+"/link"), os.WriteFile(host+"/file", []byte("text\n"), 0o644), os.Chmod(host, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, userNS := range []bool{false, true} {
		s := base("readlink /a/link; cat /a/file; readlink /old")
		for _, m := range [][2]string{{"/a/link", "link"}, {"/a/file", "file"}, {"/old", "link"}} {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: m[0], Type: "bind", Source: filepath.Join(host, m[1]), Options: []string{"rbind", "copy-symlink"}})
		}
		if userNS {
			withUserNS(s)
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"})
		}
		dir := bundle(t, s)
		root := filepath.Join(dir, "rootfs")
		if err := errors.Join(os.Symlink("/etc/passwd", root+"/old"), os.Chmod(dir, 0o755), os.Chmod(root, 0o755)); err != nil {
			t.Fatal(err)
		}
		if userNS {
			if err := errors.Join(os.Chown(root, 100000, 100000), os.Lchown(root+"/old", 100000, 100000)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if out, stderr, code := run(t, dir); out != "to/nowhere\ntext\nto/nowhere\n" || code != 0 {
				t.Errorf("user namespace %v: code %d: %q: %s", userNS, code, out, stderr)
			}
		}
		if err := errors.Join(os.Remove(root+"/old"), os.WriteFile(root+"/old", []byte("kept"), 0o644)); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, "symlink /old to to/nowhere", "something else than a symbolic link")
		if text, err := os.ReadFile(root + "/old"); string(text) != "kept" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// src-nofollow mounts a link itself, and dest-nofollow covers a link, which is not followed; where there is none, both are as without.
func TestBindOfLinks(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := nstest.Dir(t)
	if err := errors.Join(os.Symlink(host+"/file", host+"/link"), os.WriteFile(host+"/file", []byte("text\n"), 0o644), os.Chmod(host, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, userNS := range []bool{false, true} {
		s := base("readlink /old; cat /older; cat /new; grep -c root /etc/passwd")
		for _, m := range [][]string{{"/old", "link", "bind", "src-nofollow", "dest-nofollow"}, {"/older", "link", "rbind", "dest-nofollow"}, {"/new", "file", "bind", "src-nofollow", "dest-nofollow"}} {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: m[0], Type: "bind", Source: filepath.Join(host, m[1]), Options: m[2:]})
		}
		if userNS {
			withUserNS(s)
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"})
		}
		dir := bundle(t, s)
		root := filepath.Join(dir, "rootfs")
		if err := errors.Join(os.Symlink("/etc/passwd", root+"/old"), os.Symlink("/etc/passwd", root+"/older"), os.Chmod(dir, 0o755), os.Chmod(root, 0o755), os.Chown(root, 100000, 100000)); err != nil {
			t.Fatal(err)
		}
		if out, stderr, code := run(t, dir); out != host+"/file\ntext\ntext\n1\n" || code != 0 {
			t.Errorf("user namespace %v: code %d: %q: %s", userNS, code, out, stderr)
		}
	}
}

// An agent gets the descriptor on which a filter asks, with the state of who is asked for.
func TestListener(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	for _, nnp := range []bool{false, true} {
		p := newPlace(t)
		path := filepath.Join(nstest.Dir(t), "agent.sock")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		s := base("mkdir /made 2>&1; sleep 100")
		s.Process.NoNewPrivileges = nnp
		s.Annotations = map[string]string{"k": "v"}
		s.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, ListenerPath: path, ListenerMetadata: "what the agent wants",
			Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActNotify}},
		}
		dir := bundle(t, s)
		p.good("create", "-b", dir, "c")
		fd, got := agentGets(t, l)
		pid := p.state("c").Pid
		want := specs.ContainerProcessState{
			Version: specs.Version, Fds: []string{"seccompFd"}, Pid: pid, Metadata: "what the agent wants",
			State: specs.State{Version: specs.Version, ID: "c", Status: specs.StateCreating, Pid: pid, Bundle: dir, Annotations: s.Annotations},
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%+v, want %+v", got, want)
		}
		p.good("start", "c")
		if name, _ := abi.Native(runtime.GOARCH).SyscallName(uint32(asked(t, fd))); name != "mkdir" && name != "mkdirat" {
			t.Errorf("asked about %s", name)
		}
		// Another process has a filter and a listener of its own.
		p.good("exec", "-d", "c", "sh", "-c", "mkdir /other; sleep 100")
		other, got := agentGets(t, l)
		if got.State.Status != specs.StateRunning || got.State.Pid != pid || got.Pid == pid || got.Pid == 0 {
			t.Errorf("%+v", got)
		}
		asked(t, other)
		p.good("delete", "-f", "c")
		unix.Close(fd)
		unix.Close(other)
		l.Close()
		p.bad("linux.seccomp.listenerPath", "create", "-b", dir, "c")
		p.empty()
	}
}

func agentGets(t *testing.T, l *net.UnixListener) (int, specs.ContainerProcessState) {
	t.Helper()
	l.SetDeadline(time.Now().Add(2 * time.Minute))
	c, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	text, oob := make([]byte, 8192), make([]byte, 100)
	n, oobn, _, _, err := c.ReadMsgUnix(text, oob)
	if err != nil {
		t.Fatal(err)
	}
	list, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(list) != 1 {
		t.Fatal(err, len(list))
	}
	fds, err := unix.ParseUnixRights(&list[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(err, fds)
	}
	var s specs.ContainerProcessState
	if err := json.Unmarshal(text[:n], &s); err != nil {
		t.Fatalf("%v: %s", err, text[:n])
	}
	return fds[0], s
}

// asked waits for a question, and leaves it without an answer.
func asked(t *testing.T, fd int) int {
	t.Helper()
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 20_000); n != 1 || poll[0].Revents&unix.POLLIN == 0 {
		t.Fatalf("%v: nobody asks: %+v", err, poll)
	}
	return question(t, fd)
}

// Without resctrl the field is an error; with it, the rules of runtime-spec hold.
func TestIntelRdt(t *testing.T) {
	nstest.Root(t)
	s := base("true")
	s.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "gold"}
	if _, err := resctrlDir(); err != nil {
		refused(t, bundle(t, s), "linux.intelRdt", "no resctrl file system is mounted")
	}
	// Files in the place of the kernel's: what is written where, and what is made and removed.
	dir := t.TempDir()
	file := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is := func(name, want string) {
		t.Helper()
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != want {
			t.Errorf("%s: %v: %q, want %q", name, err, data, want)
		}
	}
	file("gold/tasks", "")
	file("gold/schemata", "    L3:0=00f;1=0ff\n    MB:0= 20\n")
	if err := joinResctrlAt(dir, &plan.JoinResctrl{Group: "gold", Make: true, Schemata: []string{"L3:0=f;1=ff", "MB:0=20"}}, 7); err != nil {
		t.Error(err)
	}
	is("gold/tasks", "7")
	if err := joinResctrlAt(dir, &plan.JoinResctrl{Group: "gold", Make: true, Schemata: []string{"L3:0=1"}}, 7); err == nil || !strings.Contains(err.Error(), "have no line L3:0=1") {
		t.Error(err)
	}
	if err := joinResctrlAt(dir, &plan.JoinResctrl{Group: "none"}, 7); err == nil || !strings.Contains(err.Error(), "there is no group none") {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("it was made")
	}
	file("tasks", "")
	if err := joinResctrlAt(dir, &plan.JoinResctrl{Group: "/"}, 8); err != nil {
		t.Error(err)
	}
	is("tasks", "8")
	for _, d := range []string{"one", "gold/mon_groups/one"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeResctrlAt(dir, &plan.RemoveResctrl{Group: "one"}); err != nil {
		t.Error(err)
	}
	if err := removeResctrlAt(dir, &plan.RemoveResctrl{Of: "gold", Monitor: "one"}); err != nil {
		t.Error(err)
	}
	for _, d := range []string{"one", "gold/mon_groups/one"} {
		if _, err := os.Stat(filepath.Join(dir, d)); err == nil {
			t.Errorf("%s is left", d)
		}
	}
	is("gold/tasks", "7")
}

// Devices of the host go into the container with their addresses, up, under the name asked for.
func TestNetDevices(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}, func(t *testing.T) {
		ip := func(line string) {
			t.Helper()
			if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
				t.Fatalf("ip %s: %v: %s", line, err, out)
			}
		}
		for _, name := range []string{"one", "two", "three"} {
			ip("link add " + name + " type veth peer name peer" + name)
			ip("link set peer" + name + " up")
		}
		ip("addr add 10.9.8.7/24 dev one")
		ip("addr add fd00::7/64 dev one nodad")
		ip("addr add 169.254.1.1/16 scope link dev one")
		ip("link set one mtu 1400 address 02:00:00:00:00:05 up")
		s := base("ip -o addr show dev inside; cat /sys/class/net/inside/mtu /sys/class/net/inside/address; ls /sys/class/net; cat /proc/sys/net/ipv4/conf/inside/forwarding; cat /sys/class/net/*/flags")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"ro"}})
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"one": {Name: "inside"}, "two": {}, "three": {Name: "p%d"}}
		s.Linux.Sysctl = map[string]string{"net.ipv4.conf.inside.forwarding": "1"}
		dir := bundle(t, s)
		out, stderr, code := run(t, dir)
		for _, part := range []string{"10.9.8.7/24", "fd00::7/64", "\n1400\n02:00:00:00:00:05\ninside\nlo\np0\ntwo\n1\n0x1003\n0x9\n0x1003\n0x1003\n"} {
			if !strings.Contains(out, part) {
				t.Errorf("code %d: no %q in %q: %s", code, part, out, stderr)
			}
		}
		if strings.Contains(out, "169.254") {
			t.Errorf("an address of the link went along: %s", out)
		}
		// With the container's namespace virtual devices are gone.
		refused(t, dir, "linux.netDevices.one", "the host has no device of that name")
		ip("link add one type veth peer name peerone2")
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"one": {Name: "lo"}}
		s.Linux.Sysctl = nil
		write(t, dir, s)
		refused(t, dir, "linux.netDevices.one", "has a device lo")
		ip("link del one") // where it was
	})
}

// What the program tells of itself is what it does.
func TestFeatures(t *testing.T) {
	p := newPlace(t)
	out := p.good("features")
	var have map[string]any
	if err := json.Unmarshal([]byte(out), &have); err != nil {
		t.Fatal(err)
	}
	if have["ociVersionMin"] != "1.0.0" || have["ociVersionMax"] != specs.Version || have["annotations"].(map[string]any)[AnnotationVersion] == "" {
		t.Errorf("%s", out)
	}
	f := Features("x")
	var told func(name string, v reflect.Value)
	told = func(name string, v reflect.Value) {
		if v = reflect.Indirect(v); !v.IsValid() || v.IsZero() {
			t.Errorf("it does not tell of %s", name)
		} else if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				told(name+"."+v.Type().Field(i).Name, v.Field(i))
			}
		}
	}
	told("features", reflect.ValueOf(f))
	// Each option that is listed can be given; each hook has its place; each namespace is one of the spec's.
	for _, word := range f.MountOptions {
		m := specs.Mount{Destination: "/a", Type: "tmpfs", Source: "tmpfs", Options: []string{word}}
		if strings.Contains(word, "bind") && word != "unbindable" && word != "runbindable" || strings.HasSuffix(word, "idmap") || strings.Contains(word, "symlink") || strings.Contains(word, "-nofollow") {
			m = specs.Mount{Destination: "/a", Type: "bind", Source: "/a", Options: []string{word}}
		}
		if strings.HasSuffix(word, "idmap") {
			m.UIDMappings = []specs.LinuxIDMapping{{Size: 1}}
			m.GIDMappings = m.UIDMappings
		}
		s := base("true")
		s.Mounts = []specs.Mount{m}
		if _, err := plan.Compile(s, facts(t), plan.Options{Bundle: "/b"}); err != nil {
			t.Errorf("%s: %v", word, err)
		}
	}
	for _, point := range f.Hooks {
		s := base("true")
		setHooks(s, point, specs.Hook{Path: "/x"})
		if len(plan.Hooks(s, point)) != 1 {
			t.Errorf("no hook %s", point)
		}
	}
	if len(f.Hooks) != 6 || len(f.Linux.Namespaces) != 8 || len(f.Linux.Capabilities) != 41 {
		t.Errorf("%d hooks, %d namespaces, %d capabilities", len(f.Hooks), len(f.Linux.Namespaces), len(f.Linux.Capabilities))
	}
}

// The configuration to begin with is one that runs, for root and for others, and no file is
// written over.
func TestSpec(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("true"))
	p.bad("file config.json exists. Remove it first", "spec", "--bundle", dir)
	config := filepath.Join(dir, "config.json")
	for _, args := range [][]string{{"spec", "-b", dir}, {"spec", "--rootless", "--bundle", dir}} {
		os.Remove(config)
		p.good(args...)
		b, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if rootless := len(args) > 3; (b.Spec.Linux.Resources == nil) != rootless || (len(b.Spec.Linux.UIDMappings) == 1) != rootless || !b.Spec.Process.Terminal {
			t.Errorf("%v: %+v", args, b.Spec.Linux)
		}
		b.Spec.Process.Terminal = false
		b.Spec.Process.Args = []string{"sh", "-c", "id -u; hostname; touch /x || echo ro"}
		write(t, dir, b.Spec)
		if out := p.good("run", "-b", dir, "c"); !strings.HasSuffix(out, "0\nkakuri\ntouch: /x: Read-only file system\nro\n") {
			t.Errorf("%v: %q", args, out)
		}
	}
	p.bad("it takes no arguments", "spec", "x")
	p.bad("no such file", "spec", "-b", filepath.Join(dir, "none"))
}
