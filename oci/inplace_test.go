package oci

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mountsAt lists the mount points at and below a directory, as a process sees them.
func mountsAt(t testing.TB, pid, dir string) (list []string) {
	t.Helper()
	data, err := os.ReadFile("/proc/" + pid + "/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if at := strings.Fields(line)[4]; at == dir || strings.HasPrefix(at, dir+"/") {
			list = append(list, strings.TrimPrefix(at, dir))
		}
	}
	slices.Sort(list)
	return list
}

// elsewhere is a process in a new mount namespace; what is mounted here reaches it.
func elsewhere(t testing.TB) (pid string) {
	t.Helper()
	c := exec.Command("unshare", "--mount", "--propagation", "slave", "sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	pid = fmt.Sprint(c.Process.Pid)
	ours := namespaceOf(t, "self")
	nstest.Until(t, "unshare is in its namespace", func() bool {
		comm, _ := os.ReadFile("/proc/" + pid + "/comm")
		return namespaceOf(t, pid) != ours && string(comm) == "sleep\n"
	})
	return pid
}

func namespaceOf(t testing.TB, pid string) string {
	t.Helper()
	ns, err := os.Readlink("/proc/" + pid + "/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// withoutMounts takes the mount namespace out of a configuration, or has one joined.
func withoutMounts(s *specs.Spec, file string) *specs.Spec {
	list := slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.MountNamespace })
	if file != "" {
		list = append(list, specs.LinuxNamespace{Type: specs.MountNamespace, Path: file})
	}
	s.Linux.Namespaces = list
	return s
}

// A container without a mount namespace of its own is built where its root lies: its mounts are in that namespace, reach no
// other one, and end with the container; exec finds its root.
func TestInPlace(t *testing.T) {
	nstest.Root(t)
	for _, joined := range []bool{false, true} {
		t.Run(fmt.Sprintf("joined=%t", joined), func(t *testing.T) {
			nstest.NoLeaks(t)
			p := newPlace(t)
			s := base("echo ran >/ran; while :; do sleep 0.02; done")
			dir := bundle(t, s)
			rootfs := filepath.Join(dir, "rootfs")
			// The root is a shared mount already, and stays one.
			if err := unix.Mount(rootfs, rootfs, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			defer unix.Unmount(rootfs, unix.MNT_DETACH)
			if err := unix.Mount("", rootfs, "", unix.MS_SHARED, ""); err != nil {
				t.Fatal(err)
			}
			other := elsewhere(t)
			own, file := "self", ""
			if joined {
				own, other = other, "self"
				file = "/proc/" + own + "/ns/mnt"
			}
			before := mountsAt(t, own, rootfs)
			s = withoutMounts(s, file)
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid"}})
			if joined { // in the caller's own it is refused
				s.Linux.MaskedPaths = []string{"/proc/cpuinfo"}
			}
			setHooks(s, "createRuntime", shell("ls "+rootfs+"/proc | wc -l >"+dir+"/hook"))
			write(t, dir, s)
			p.good("create", "-b", dir, "c")
			pid := fmt.Sprint(p.state("c").Pid)
			if got, want := namespaceOf(t, pid), namespaceOf(t, own); got != want {
				t.Errorf("mount namespace %s, want %s", got, want)
			}
			if got := mountsAt(t, own, rootfs); !slices.Contains(got, "/proc") || !slices.Contains(got, "/dev") {
				t.Errorf("mounts %q", got)
			}
			if got := mountsAt(t, other, rootfs); slices.Contains(got, "/proc") || slices.Contains(got, "/dev") {
				t.Errorf("mounts of the other namespace %q", got)
			}
			p.good("start", "c")
			nstest.Until(t, "the process is in its root", func() bool {
				data, _ := os.ReadFile(rootfs + "/ran")
				return string(data) == "ran\n"
			})
			if got := p.good("exec", "--cwd", "/bin", "c", "sh", "-c", "pwd; cat /ran; test -c /dev/null && test ! -e "+dir+" && echo inside; grep -c . /proc/cpuinfo; true"); !strings.HasPrefix(got, "/bin\nran\ninside\n") || strings.HasSuffix(got, "\n0\n") != joined {
				t.Errorf("exec: %q", got)
			}
			p.good("delete", "-f", "c")
			if got := mountsAt(t, own, rootfs); !slices.Equal(got, before) {
				t.Errorf("mounts %q after the end, %q before", got, before)
			}

			// Nothing is left of one that cannot be made, and nothing is unmounted twice.
			s.Process.Args = []string{"/no/program"}
			write(t, dir, s)
			p.bad("no such file", "create", "-b", dir, "c")
			if got := mountsAt(t, own, rootfs); !slices.Equal(got, before) {
				t.Errorf("mounts %q after a failure, %q before", got, before)
			}
			s.Process.Args = []string{"true"}
			write(t, dir, s)
			p.good("create", "-b", dir, "c")
			p.good("start", "c")
			p.untilStopped("c")
			if out, err := exec.Command("nsenter", "--mount=/proc/"+own+"/ns/mnt", "umount", "-R", "--lazy", rootfs).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			p.good("delete", "c")
			if got := mountsAt(t, own, rootfs); !slices.Equal(got, before) {
				t.Errorf("mounts %q after umount and delete, %q before", got, before)
			}
			p.empty()
		})
	}
}

// Of two containers that are built over one root in one mount namespace, the second is refused, and the first keeps its mounts.
func TestInPlaceTwice(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := withoutMounts(base("while :; do sleep 0.02; done"), "")
	dir := bundle(t, s)
	rootfs := filepath.Join(dir, "rootfs")
	before := mountsAt(t, "self", rootfs)
	p.good("run", "-d", "-b", dir, "first")
	defer p.do("delete", "-f", "first")
	during := mountsAt(t, "self", rootfs)
	p.bad("container first is built over "+rootfs, "run", "-d", "-b", dir, "second")
	if got := mountsAt(t, "self", rootfs); !slices.Equal(got, during) {
		t.Errorf("mounts %q after the second, %q before", got, during)
	}
	if got := p.good("exec", "first", "cat", "/proc/1/comm"); got == "" {
		t.Error("the first has lost its /proc")
	}
	p.good("delete", "-f", "first")
	if got := mountsAt(t, "self", rootfs); !slices.Equal(got, before) {
		t.Errorf("mounts %q after the end, %q before", got, before)
	}
	p.empty()
}

// A link to a root that another container is built over is no other root, and one that leads elsewhere later takes no
// container's mounts out of reach.
func TestInPlaceLinks(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := withoutMounts(base("while :; do sleep 0.02; done"), "")
	dir := bundle(t, s)
	rootfs, link := filepath.Join(dir, "rootfs"), filepath.Join(dir, "link")
	before := mountsAt(t, "self", rootfs)
	defer p.do("delete", "-f", "linked")
	defer p.do("delete", "-f", "plain")
	p.good("run", "-d", "-b", dir, "plain")
	if err := os.Symlink("rootfs", link); err != nil {
		t.Fatal(err)
	}
	s.Root.Path = "link"
	write(t, dir, s)
	p.bad("container plain is built over "+rootfs, "run", "-d", "-b", dir, "linked")
	p.good("delete", "-f", "plain")

	p.good("run", "-d", "-b", dir, "linked")
	if err := errors.Join(os.Remove(link), os.Symlink("/tmp", link)); err != nil {
		t.Fatal(err)
	}
	p.good("delete", "-f", "linked")
	if got := mountsAt(t, "self", rootfs); !slices.Equal(got, before) {
		t.Errorf("mounts %q after the end, %q before", got, before)
		unix.Unmount(rootfs, unix.MNT_DETACH)
	}
	p.empty()
}

// TestInPlaceOtherNamespace: what the file of a mount namespace leads to may be another one since, where nothing is the container's.
func TestInPlaceOtherNamespace(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	if err := unix.Mount("others", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	c := &Container{state: record{Covers: &covered{File: "/proc/thread-self/ns/mnt", Namespace: 1, Root: dir}}}
	if err := c.uncover(); err != nil {
		t.Error(err)
	}
	if got := mountsAt(t, "self", dir); !slices.Equal(got, []string{""}) {
		t.Errorf("what others have mounted is gone: %q", got)
	}
}

// Who is in the mount namespace leads the path of the root to a mount that hides something from it: deleting the container
// takes nothing but the container's own mounts away.
func TestInPlaceMoved(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	pid := elsewhere(t)
	file := "/proc/" + pid + "/ns/mnt"
	there := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("nsenter", append([]string{"--mount=" + file}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	dir := bundle(t, withoutMounts(base("while :; do sleep 0.02; done"), file))
	mask := nstest.Dir(t)
	there("mount", "-t", "tmpfs", "mask", mask)
	p.good("run", "-d", "-b", dir, "c")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	defer os.Rename(dir+".away", dir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Symlink(mask, filepath.Join(dir, "rootfs")); err != nil {
		t.Fatal(err)
	}
	p.good("delete", "-f", "c")
	if got := mountsAt(t, pid, mask); !slices.Equal(got, []string{""}) {
		t.Errorf("what another mount hid is seen: %q", got)
	}
	p.empty()
}

// A joined mount namespace may be gone, with its mounts, when the container is deleted.
func TestInPlaceEnded(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	var pid string
	t.Run("", func(t *testing.T) {
		pid = elsewhere(t)
		dir := bundle(t, base("true"))
		write(t, dir, withoutMounts(base("true"), "/proc/"+pid+"/ns/mnt"))
		p.good("create", "-b", dir, "c")
		p.good("start", "c")
		p.untilStopped("c")
	})
	p.good("delete", "c")
	p.empty()
}

// In a new user namespace nothing can be mounted where others are.
func TestInPlaceUserNamespace(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	s := withoutMounts(base("true"), "")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 1000}}
	s.Linux.GIDMappings = s.Linux.UIDMappings
	p := newPlace(t)
	p.bad("root.path: a root of its own in a new user namespace needs a new mount namespace", "create", "-b", bundle(t, s), "c")
	p.empty()
}

// A FIFO that is given for a mount namespace keeps nobody waiting for who writes to it.
func TestInPlaceFIFO(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	fifo := filepath.Join(nstest.Dir(t), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	p.bad("setns "+fifo+": invalid argument", "create", "-b", bundle(t, withoutMounts(base("true"), fifo)), "c")
	p.empty()
}
