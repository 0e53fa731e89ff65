package oci

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// These attack kakuri-runtime as its callers start it: with root inside that is root of the machine, which
// nothing but the runtime keeps from the host. SECURITY.md has the table of classes.

// canary makes a file of the host that must stay as it is.
func canary(t *testing.T) (dir, file string) {
	t.Helper()
	dir = nstest.Dir(t)
	file = filepath.Join(dir, "canary")
	if err := os.WriteFile(file, []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		list, err := os.ReadDir(dir)
		if data, e := os.ReadFile(file); err != nil || e != nil || string(data) != "of the host" || len(list) != 1 {
			t.Errorf("the host's directory has %v, and the canary %q %v %v", list, data, err, e)
		}
	})
	return dir, file
}

func sum(t *testing.T, file string) [32]byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

// withDev gives a container a /dev of its own, and terminals.
func withDev(s *specs.Spec) *specs.Spec {
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"}, specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts"})
	return s
}

// CVE-2019-5736: a container has the runtime execute the runtime's own program, as its command and as the interpreter of
// a script, while others in it open every program they see for writing.
func TestCVE_2019_5736(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	program := nstest.Binary(t, "kakuri-runtime")
	before := sum(t, program)
	p := newPlace(t)
	dir := bundle(t, withDev(base("while :; do for f in /proc/[0-9]*/exe; do echo x >>$f; echo x >$f; done 2>/dev/null; done")))
	if err := os.WriteFile(filepath.Join(dir, "rootfs/bin/script"), []byte("#!/proc/self/exe\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.good("run", "--detach", "--bundle", dir, "victim")
	defer p.do("delete", "--force", "victim")
	for i := range 60 {
		line := []string{"/proc/self/exe", "/bin/script", "true"}[i%3]
		if out, code := p.do("exec", "victim", line); line == "true" && code != 0 {
			t.Fatalf("code %d: %s", code, out)
		}
	}
	for i, line := range []string{"/proc/self/exe", "/bin/script"} {
		s := base("")
		s.Process.Args = []string{line, "state", "victim"}
		if out, stderr, code := run(t, bundle(t, s)); code == 0 || strings.Contains(out, "ociVersion") {
			t.Errorf("%d: %s became the runtime: code %d: %s%s", i, line, code, out, stderr)
		}
	}
	if after := sum(t, program); before != after {
		t.Error("the runtime's program was changed from inside")
	}
}

// often is how many times a race is tried: in an emulator, which takes a hundred times as long for each, it is a fifth.
func often(times int) int {
	if testing.Short() {
		return times / 5
	}
	return times
}

// CVE-2016-9962: processes of a container may not look into one that enters it, before that is one of their own: not its
// environment, its descriptors, its memory (a Go program lies at 4 MiB, with the names of its functions), its program.
func TestCVE_2016_9962(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, withDev(base(`echo ready >/ready
while :; do for q in /proc/[0-9]*; do case $q in /proc/1|/proc/self) continue;; esac
grep -a HOSTSECRET $q/environ >>/seen; ls -l $q/fd | grep -a -e kakuri -e cgroup -e config.json >>/seen; readlink $q/exe | grep kakuri-runtime >>/seen
dd if=$q/mem bs=1048576 count=5 skip=4 | grep -a -q kakuri/oci && echo mem of $q >>/seen; ls $q/root/../../../etc/shadow-of-host >>/seen; done 2>/dev/null; done`)))
	p.good("run", "--detach", "--bundle", dir, "victim")
	defer p.do("delete", "--force", "victim")
	nstest.Until(t, "the peeper", func() bool { _, err := os.Stat(filepath.Join(dir, "rootfs/ready")); return err == nil })
	t.Setenv("HOSTSECRET", "of the caller")
	for range often(150) {
		p.good("exec", "victim", "true")
	}
	if seen, err := os.ReadFile(filepath.Join(dir, "rootfs/seen")); err == nil && len(seen) > 0 {
		t.Errorf("seen from inside:\n%.2000s", seen)
	}
}

// A container whose root may trace every process inside, and is root of the machine, looks into those that enter it: the kernel
// lets it. They have nothing by then that leads to the host.
func TestTracerInside(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host, _ := canary(t)
	p := newPlace(t)
	s := withDev(base(`echo ready >/ready
while :; do for q in /proc/[0-9]*; do case $q in /proc/1|/proc/self) continue;; esac
grep -a HOSTSECRET $q/environ >>/seen
for f in $q/fd/* $q/cwd; do [ -e $f/../../../../../../../../..` + host + `/canary ] && echo "the host by $(readlink $f)" >>/seen; done
ls -l $q/fd | grep -a -e /cgroup/ -e config.json >>/seen; done 2>/dev/null; done`))
	caps := append(slices.Clone(s.Process.Capabilities.Bounding), "CAP_SYS_PTRACE")
	s.Process.Capabilities.Bounding, s.Process.Capabilities.Effective, s.Process.Capabilities.Permitted = caps, caps, caps
	dir := bundle(t, s)
	p.good("run", "--detach", "--bundle", dir, "victim")
	defer p.do("delete", "--force", "victim")
	nstest.Until(t, "the tracer", func() bool { _, err := os.Stat(filepath.Join(dir, "rootfs/ready")); return err == nil })
	t.Setenv("HOSTSECRET", "of the caller")
	for range often(150) {
		p.good("exec", "victim", "true")
	}
	if seen, err := os.ReadFile(filepath.Join(dir, "rootfs/seen")); err == nil && len(seen) > 0 {
		t.Errorf("seen from inside:\n%.2000s", seen)
	}
}

// capsOf reads the last field of a line of /proc/PID/status; none is none.
func capsOf(line string) uint64 {
	_, hex, _ := strings.Cut(strings.TrimSpace(line), "\t")
	caps, _ := strconv.ParseUint(hex, 16, 64)
	return caps
}

// tracer has CAP_SYS_PTRACE, and notes what it sees of the others in its pid namespace: their programs and rights, in /seen of its root.
func tracer() *specs.Spec {
	s := withDev(base(`echo ready >/ready
while :; do for q in /proc/[0-9]*; do case $q in /proc/1|/proc/self) continue;; esac
echo "$(readlink $q/exe) $(grep CapPrm $q/status)" >>/seen; done 2>/dev/null; done`))
	caps := append(slices.Clone(s.Process.Capabilities.Bounding), "CAP_SYS_PTRACE")
	s.Process.Capabilities.Bounding, s.Process.Capabilities.Effective, s.Process.Capabilities.Permitted = caps, caps, caps
	return s
}

// sawNoMore wants a [tracer], whose root is inside, to have seen no program but the container's and the stub, and no rights beyond its own.
func sawNoMore(t *testing.T, inside string, own uint64) {
	t.Helper()
	seen, err := os.ReadFile(inside + "/seen")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(seen)) {
		exe, _, _ := strings.Cut(line, "CapPrm:")
		if exe = strings.TrimSpace(exe); exe != "" && !strings.Contains(exe, "busybox") && !strings.Contains(exe, "memfd:kakuri-exec") {
			t.Fatalf("its program is seen from inside: %s", line)
		}
		if has := capsOf(line); has&^own != 0 {
			t.Fatalf("it has more rights than the container's %#x, seen from inside: %s", own, line)
		}
	}
}

// TestTracerOfWhoEnters: with CAP_SYS_PTRACE, and without a user namespace, a container may take over a process of its pid namespace, and open its program, to write to that
// later (CVE-2019-5736). What enters it is seen there when it has no more rights than its program will have, and is no longer the runtime.
func TestTracerOfWhoEnters(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	refused := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mknodat"}, Action: specs.ActErrno}}}
	for name, change := range map[string]func(*specs.Spec){
		"as it is":          func(*specs.Spec) {},
		"a filter":          func(s *specs.Spec) { s.Linux.Seccomp = refused },
		"no new privileges": func(s *specs.Spec) { s.Linux.Seccomp, s.Process.NoNewPrivileges = refused, true },
		"a user":            func(s *specs.Spec) { s.Process.User.UID, s.Process.User.GID = 7, 7 },
	} {
		t.Run(name, func(t *testing.T) {
			s := tracer()
			change(s)
			dir := bundle(t, s)
			if err := os.Chmod(filepath.Join(dir, "rootfs"), 0o777); err != nil {
				t.Fatal(err)
			}
			id := strings.ReplaceAll(name, " ", "-")
			p.good("run", "--detach", "--bundle", dir, id)
			defer p.do("delete", "--force", id)
			inside := filepath.Join(dir, "rootfs")
			nstest.Until(t, "the tracer", func() bool { _, err := os.Stat(inside + "/ready"); return err == nil })
			own := capsOf(p.good("exec", id, "grep", "CapBnd", "/proc/self/status"))
			for range often(80) {
				p.good("exec", id, "true")
			}
			sawNoMore(t, inside, own)
		})
	}
}

// TestTracerOfWhoIsMade: the same of a container that is made in another's pid namespace, up to its start and beyond it: by create, and by run.
func TestTracerOfWhoIsMade(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := tracer()
	dir := bundle(t, s)
	p.good("run", "--detach", "--bundle", dir, "tracer")
	defer p.do("delete", "--force", "tracer")
	inside := filepath.Join(dir, "rootfs")
	nstest.Until(t, "the tracer", func() bool { _, err := os.Stat(inside + "/ready"); return err == nil })
	own := capsOf(p.good("exec", "tracer", "grep", "CapBnd", "/proc/self/status"))
	facts, err := host.Read(host.Needs{ProcPIDNS: true})
	if err != nil {
		t.Fatal(err)
	}
	pids := specs.LinuxNamespace{Type: specs.PIDNamespace, Path: fmt.Sprintf("/proc/%d/ns/pid", p.state("tracer").Pid)}
	refused := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mknodat"}, Action: specs.ActErrno}}}
	cases := map[string]func(*specs.Spec){
		"without proc":      func(s *specs.Spec) { s.Mounts = s.Mounts[1:] },
		"a filter":          func(s *specs.Spec) { s.Linux.Seccomp = refused },
		"no new privileges": func(s *specs.Spec) { s.Linux.Seccomp, s.Process.NoNewPrivileges = refused, true },
		"a user":            func(s *specs.Spec) { s.Process.User.UID, s.Process.User.GID = 7, 7 },
	}
	if facts.ProcPIDNS {
		cases["with proc"] = func(*specs.Spec) {}
		cases["a user namespace of its own"] = withUserNS
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			s := withDev(base("true"))
			s.Linux.Namespaces[0] = pids
			if !facts.ProcPIDNS { // a procfs is mounted from inside of its pid namespace there
				s.Mounts[0] = specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"bind"}}
			}
			change(s)
			made := bundle(t, s)
			if err := os.Remove(inside + "/seen"); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			id := strings.ReplaceAll(name, " ", "-")
			for range often(25) {
				p.good("create", "--bundle", made, id)
				p.good("start", id)
				p.good("delete", "--force", id)
				p.good("run", "--bundle", made, id)
			}
			sawNoMore(t, inside, own)
		})
	}
}

// TestHeldFIFO: who may trace a container's process has a copy of what that keeps open until its execve, and a start gets on all the same: the container is locked meanwhile.
func TestHeldFIFO(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	for _, end := range []string{"it runs", "it was killed"} {
		p.good("create", "--bundle", bundle(t, base("sleep 60")), "held")
		pid := p.state("held").Pid
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		var copies []int
		for n := 3; n < 256; n++ {
			if fd, err := unix.PidfdGetfd(pidfd, n, 0); err == nil {
				copies = append(copies, fd)
			}
		}
		if len(copies) == 0 {
			t.Error("it has nothing open")
		}
		if end == "it was killed" {
			nstest.Trace(t, true, pid) // until its start waits for it
		}
		started := make(chan struct{})
		go func() {
			p.good("start", "held")
			close(started)
		}()
		if end == "it was killed" {
			time.Sleep(500 * time.Millisecond)
			unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		}
		select {
		case <-started:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: the start waits", end)
		}
		if s := p.state("held"); end == "it runs" && s.Status != specs.StateRunning {
			t.Errorf("it is %s", s.Status)
		}
		for _, fd := range append(copies, pidfd) {
			unix.Close(fd)
		}
		<-started
		p.good("delete", "--force", "held")
	}
}

// TestDeleteOfHeldStart: who holds up a container's process before its execve holds up its start, and not who deletes it by force.
func TestDeleteOfHeldStart(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	p.good("create", "--bundle", bundle(t, base("sleep 60")), "held")
	pid := p.state("held").Pid
	nstest.Trace(t, true, pid)
	started, deleted := make(chan struct{}), make(chan struct{})
	go func() {
		p.do("start", "held")
		close(started)
	}()
	select {
	case <-started:
		t.Error("nobody holds it up")
	case <-time.After(time.Second):
	}
	go func() {
		p.good("delete", "--force", "held")
		close(deleted)
	}()
	select {
	case <-deleted:
	case <-time.After(30 * time.Second):
		t.Error("who deletes it waits")
		unix.Kill(pid, unix.SIGKILL)
		<-deleted
	}
	<-started
}

// CVE-2019-16884, 2019-19921, 2023-27561, 2023-28642, 2025-52881: /proc or /sys of the image is a link. It is refused, or what
// the kernel shows is masked, and parameters are those of the container alone.
func TestCVE_2019_16884_to_2025_52881(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host, _ := canary(t)
	pattern := sum(t, "/proc/sys/kernel/core_pattern")
	for name, links := range map[string]map[string]string{
		"proc in the image":      {"proc": "/tmp"},
		"proc on the host":       {"proc": "../../../../../.." + host},
		"proc on the host's":     {"proc": host},
		"sys is proc":            {"sys": "/proc"},
		"proc through the image": {"proc": "tmp/a", "tmp/a": "/etc"},
	} {
		t.Run(name, func(t *testing.T) {
			s := base("cat /proc/keys /proc/self/status >/dev/null; echo x >/proc/sys/kernel/core_pattern; echo keys $(cat /proc/keys | wc -c)")
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"ro"}})
			s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = []string{"/proc/keys", "/sys/firmware"}, []string{"/proc/sys"}
			s.Linux.Sysctl = map[string]string{"kernel.msgmax": "9001"}
			dir := bundle(t, s)
			for link, to := range links {
				if err := os.RemoveAll(filepath.Join(dir, "rootfs", link)); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(to, filepath.Join(dir, "rootfs", link)); err != nil {
					t.Fatal(err)
				}
			}
			out, stderr, code := run(t, dir)
			if code == 0 && !strings.Contains(out, "keys 0\n") {
				t.Errorf("code %d: %s%s", code, out, stderr)
			}
			if code != 0 && !strings.Contains(stderr, "link") && !strings.Contains(stderr, "ELOOP") {
				t.Errorf("it is refused without a word on links: %s", stderr)
			}
			if pattern != sum(t, "/proc/sys/kernel/core_pattern") {
				t.Error("a parameter of the host was written")
			}
		})
	}
}

// CVE-2021-30465, 2024-45310: another container that shares a volume swaps a directory of it with a link to the host, over and
// over, while this one's mounts and their places are made below it.
func TestCVE_2021_30465_and_2024_45310(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host, _ := canary(t)
	s := base("cat /vol/a/canary /vol/a/b/canary 2>/dev/null; true")
	shared := nstest.Dir(t)
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/vol", Type: "bind", Source: shared, Options: []string{"rbind"}},
		specs.Mount{Destination: "/vol/a/b/c", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/vol/a/made", Type: "bind", Source: "/etc/hostname", Options: []string{"bind"}})
	dir := bundle(t, s)
	if err := os.MkdirAll(filepath.Join(shared, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(host, filepath.Join(shared, "evil")); err != nil {
		t.Fatal(err)
	}
	stop, swaps := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				swaps <- n
				return
			default:
				if unix.Renameat2(unix.AT_FDCWD, shared+"/a", unix.AT_FDCWD, shared+"/evil", unix.RENAME_EXCHANGE) == nil {
					n++
				}
			}
		}
	}()
	ran := 0
	for range often(60) {
		out, stderr, code := run(t, dir)
		if code == 0 {
			ran++
		}
		if strings.Contains(out, "of the host") {
			t.Errorf("the host's file shows inside: %s%s", out, stderr)
		}
	}
	close(stop)
	if n := <-swaps; n < 100 {
		t.Errorf("%d swaps in %d runs", n, ran)
	}
}

// CVE-2024-21626: a working directory or a program that leads through a descriptor of the runtime, at a run and at an
// exec, by name and by a link of the image.
func TestCVE_2024_21626(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	for name, prepare := range map[string]func(s *specs.Spec, dir string){
		"root of the machine": func(*specs.Spec, string) {},
		"a user namespace": func(s *specs.Spec, dir string) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
			s.Linux.GIDMappings = s.Linux.UIDMappings
			filepath.Walk(dir, func(name string, _ os.FileInfo, err error) error { return os.Lchown(name, 100000, 100000) })
		},
	} {
		t.Run(name, func(t *testing.T) { testThroughDescriptors(t, prepare) })
	}
}

func testThroughDescriptors(t *testing.T, prepare func(s *specs.Spec, dir string)) {
	p := newPlace(t)
	s := base("exec sleep 1000")
	dir := bundle(t, s)
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	host := nstest.Dir(t)
	if err := os.WriteFile(host+"/busybox", program, 0o755); err != nil {
		t.Fatal(err)
	}
	for n := 3; n < 48; n++ {
		if err := os.Symlink(fmt.Sprintf("/proc/self/fd/%d", n), filepath.Join(dir, "rootfs", fmt.Sprint("link", n))); err != nil {
			t.Fatal(err)
		}
	}
	prepare(s, dir)
	write(t, dir, s)
	p.good("run", "--detach", "--bundle", dir, "victim")
	defer p.do("delete", "--force", "victim")
	for n := 3; n < 48; n++ {
		if testing.Short() && n > 12 && n%6 > 0 { // what the runtime has open has the lowest numbers
			continue
		}
		for _, cwd := range []string{fmt.Sprint("/proc/self/fd/", n), fmt.Sprint("/link", n)} {
			if out, code := p.do("exec", "--cwd", cwd, "victim", "sh", "-c", "readlink /proc/self/cwd; ls"); code == 0 {
				t.Fatalf("exec, %s: %s", cwd, out)
			}
		}
		through := fmt.Sprintf("/proc/self/fd/%d/../../../../../../../..%s/busybox", n, host)
		if out, code := p.do("exec", "victim", through, "echo", "host"); code == 0 {
			t.Fatalf("exec of %s: %s", through, out)
		}
		if n%3 > 0 {
			continue
		}
		s.Process.Cwd = fmt.Sprint("/proc/thread-self/fd/", n)
		write(t, dir, s)
		if out, stderr, code := run(t, dir); code == 0 || out != "" {
			t.Fatalf("%s: code %d: %s%s", s.Process.Cwd, code, out, stderr)
		}
		s.Process.Cwd = fmt.Sprint("/link", n)
		write(t, dir, s)
		if out, stderr, code := run(t, dir); code == 0 || out != "" {
			t.Fatalf("%s: code %d: %s%s", s.Process.Cwd, code, out, stderr)
		}
		s.Process.Cwd, s.Process.Args = "/", []string{through, "echo", "host"}
		write(t, dir, s)
		if out, stderr, code := run(t, dir); code == 0 || out != "" {
			t.Fatalf("%s: code %d: %s%s", through, code, out, stderr)
		}
		s.Process.Args = []string{"sh", "-c", "pwd"}
	}
}

// CVE-2026-55686: a working directory that is not there is made, behind a link of the image that leads out of it.
func TestCVE_2026_55686(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host, _ := canary(t)
	s := base("pwd; readlink /proc/self/cwd; ls /proc/self/cwd/..")
	dir := bundle(t, s)
	for i, to := range []string{host, strings.Repeat("../", 40) + host[1:], "/proc/self/root" + host, "/proc/1/root" + host, "/proc/thread-self/cwd/../../../../../.." + host, "/proc/self/fd/3" + host} {
		name := fmt.Sprint("/way", i)
		if err := os.Symlink(to, filepath.Join(dir, "rootfs", name)); err != nil {
			t.Fatal(err)
		}
		for _, cwd := range []string{name + "/new", name + "/new/er", name} {
			s.Process.Cwd = cwd
			write(t, dir, s)
			if out, stderr, code := run(t, dir); strings.Contains(out, "canary") {
				t.Errorf("%s by %s: code %d: %s%s", cwd, to, code, out, stderr)
			}
		}
	}
	// One that leads within the image works.
	if err := os.Symlink("/tmp", filepath.Join(dir, "rootfs/within")); err != nil {
		t.Fatal(err)
	}
	s.Process.Cwd = "/within/new"
	write(t, dir, s)
	if out, stderr, code := run(t, dir); code != 0 || !strings.HasPrefix(out, "/tmp/new\n") {
		t.Errorf("code %d: %s%s", code, out, stderr)
	}
}

// CVE-2026-115521: what is read-only is made so by descriptors of the runtime, and not by what the image has as /proc/self/fd, which would lead
// that to another mount.
func TestCVE_2026_115521(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	s := base("for d in / /bound /late /plain; do touch $d/new 2>/dev/null && echo written: $d; done; echo done")
	s.Root.Readonly = true
	bind := func(dest string, options ...string) specs.Mount {
		return specs.Mount{Destination: dest, Type: "bind", Source: nstest.Dir(t), Options: append(options, "bind")}
	}
	s.Mounts = []specs.Mount{bind("/bound", "ro"), bind("/late", "rbind", "rro"), bind("/plain"), {Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"}}
	s.Linux.ReadonlyPaths = []string{"/etc"}
	dir := bundle(t, s)
	root := filepath.Join(dir, "rootfs")
	if err := os.RemoveAll(root + "/proc"); err != nil {
		t.Fatal(err)
	}
	for _, self := range []string{"self", "thread-self", "1"} {
		fds := filepath.Join(root, "proc", self, "fd")
		if err := os.MkdirAll(fds, 0o755); err != nil {
			t.Fatal(err)
		}
		for n := range 100 {
			if err := os.Symlink("/tmp", fmt.Sprint(fds, "/", n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if out, stderr, code := run(t, dir); code != 0 || out != "written: /plain\ndone\n" {
		t.Errorf("code %d: %s%s", code, out, stderr)
	}
}

// CVE-2022-24769, 27649 to 27652, 29162: no capability is inheritable or ambient that config.json does not name as such, at a
// run or at an exec with more of them; and none is beyond the bounding set.
func TestCVE_2022_24769_29162(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	const show = "grep -e CapInh -e CapAmb /proc/self/status | tr '\\n\\t' '  '"
	const none = "CapInh: 0000000000000000 CapAmb: 0000000000000000 "
	want(t, base(show), none)
	p := newPlace(t)
	p.good("run", "--detach", "--bundle", bundle(t, withDev(base("exec sleep 1000"))), "c")
	defer p.do("delete", "--force", "c")
	for _, args := range [][]string{{}, {"--cap", "CAP_NET_ADMIN"}, {"--user", "5"}} {
		if out := p.good(append(append([]string{"exec"}, args...), "c", "sh", "-c", show)...); out != none {
			t.Errorf("%q: %s", args, out)
		}
	}
}

// TestExecutesByCapability: a user whose capabilities let the user execute what is root's alone does so, though none of them is ambient, at a
// create, a run and an exec; and the program has only what config.json gives it.
func TestExecutesByCapability(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	line := func(inh, eff string) string {
		return fmt.Sprintf("CapInh:%016s CapPrm:%016s CapEff:%016[2]s CapBnd:%016s CapAmb:%016[2]s", inh, eff, "23")
	}
	own := []string{"/own/grep", "^Cap", "/proc/self/status"}
	for name, c := range map[string]struct {
		inheritable, ambient []string
		want                 string
	}{
		"bounding":    {nil, nil, line("0", "0")},
		"inheritable": {[]string{"CAP_DAC_OVERRIDE", "CAP_KILL"}, nil, line("22", "0")},
		"ambient":     {[]string{"CAP_CHOWN", "CAP_KILL"}, []string{"CAP_KILL"}, line("21", "20")},
	} {
		for _, noNewPrivs := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", no_new_privs ", noNewPrivs), func(t *testing.T) {
				s := withDev(base(""))
				caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL"}
				s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: c.inheritable, Ambient: c.ambient}
				s.Process.User, s.Process.Args, s.Process.NoNewPrivileges = specs.User{UID: 1000, GID: 1000}, own, noNewPrivs
				s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mknod"}, Action: specs.ActErrno}}}
				dir := bundle(t, s)
				if err := os.Mkdir(filepath.Join(dir, "rootfs/own"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink("/bin/busybox", filepath.Join(dir, "rootfs/own/grep")); err != nil {
					t.Fatal(err)
				}
				check := func(how, out string) {
					t.Helper()
					if got := strings.ReplaceAll(strings.Join(strings.Split(strings.TrimSpace(out), "\n"), " "), "\t", ""); got != c.want {
						t.Errorf("%s: %s, want %s", how, got, c.want)
					}
				}
				p := newPlace(t)
				check("run", p.good("run", "--bundle", dir, "r"))
				s.Process.Args = []string{"sh", "-c", "exec sleep 1000"}
				write(t, dir, s)
				p.good("run", "--detach", "--bundle", dir, "c")
				defer p.do("delete", "--force", "c")
				s.Process.Args = own
				data, err := json.Marshal(s.Process)
				if err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(dir, "process.json")
				if err := os.WriteFile(file, data, 0o644); err != nil {
					t.Fatal(err)
				}
				check("exec", p.good("exec", "--process", file, "c"))
				out := filepath.Join(dir, "out")
				f, err := os.Create(out)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				s.Process.Args = own
				write(t, dir, s)
				create := p.command("create", "--bundle", dir, "w")
				create.Stdout, create.Stderr = f, f
				if err := create.Run(); err != nil {
					data, _ := os.ReadFile(out)
					t.Fatalf("%v: %s", err, data)
				}
				defer p.do("delete", "--force", "w")
				p.good("start", "w")
				p.untilStopped("w")
				if data, err = os.ReadFile(out); err != nil {
					t.Fatal(err)
				}
				check("create and start", string(data))
			})
		}
	}
}

// CVE-2022-36109, 2022-2995, 2022-2990: the supplementary groups are those of config.json, and none of the caller's.
func TestCVE_2022_36109(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	s := base("grep Groups: /proc/self/status | tr '\\t' ' '")
	for _, groups := range [][]uint32{nil, {55}, {55, 7}} {
		s.Process.User = specs.User{UID: 5, GID: 6, AdditionalGids: groups}
		c := exec.Command(nstest.Binary(t, "kakuri-runtime"), "--root", nstest.Dir(t), "run", "--bundle", bundle(t, s), "test")
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{4, 24, 27}}}
		out, err := c.CombinedOutput()
		got := strings.Fields(strings.TrimPrefix(string(out), "Groups:"))
		var want []string
		for _, g := range slices.Sorted(slices.Values(groups)) {
			want = append(want, fmt.Sprint(g))
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: %v %q", groups, err, out)
		}
	}
}

// TestKeepGroups: with the annotation of crun's that podman's keep-groups sets, and with it alone, the groups are the caller's, and none of config.json's.
func TestKeepGroups(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	const show = "grep Groups: /proc/self/status | tr '\\t' ' '"
	p := newPlace(t)
	called := func(args ...string) string {
		t.Helper()
		c := p.command(args...)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{4, 24, 27}}}
		out, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v", args, err)
		}
		return strings.TrimSpace(strings.TrimPrefix(string(out), "Groups:"))
	}
	for value, want := range map[string]string{"1": "4 24 27", "": "4 24 27", "0": "55"} {
		s := base(show)
		s.Process.User = specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{55}}
		s.Annotations = map[string]string{"run.oci.keep_original_groups": value}
		if got := called("run", "--bundle", bundle(t, s), "test"); got != want {
			t.Errorf("with %q: %q, want %q", value, got, want)
		}
		s.Process.Args[2] = "exec sleep 1000"
		p.good("run", "--detach", "--bundle", bundle(t, s), "c")
		if got := called("exec", "--user", "5:6", "c", "sh", "-c", show); got != want {
			t.Errorf("exec, with %q: %q, want %q", value, got, want)
		}
		p.good("delete", "--force", "c")
	}
}

// CVE-2022-0811 and its kin: a sysctl is one parameter of the container's own namespaces; neither its name nor its value leads
// to another.
func TestCVE_2022_0811(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	pattern, ttl := sum(t, "/proc/sys/kernel/core_pattern"), sum(t, "/proc/sys/net/ipv4/ip_default_ttl")
	for _, kv := range [][2]string{
		{"kernel.shm_rmid_forced", "1+kernel.core_pattern=|/bin/x"}, {"kernel.shm_rmid_forced", "1\nkernel.core_pattern=x"}, {"kernel.msgmax", "1\x00"},
		{"kernel.core_pattern", "x"}, {"kernel/core_pattern", "x"}, {"net.ipv4/../../kernel/core_pattern", "x"}, {"net/../kernel/core_pattern", "x"},
		{"net...kernel.core_pattern", "x"}, {"net.", "x"}, {"net", "x"}, {"", "x"}, {"/kernel/core_pattern", "x"}, {"fs.mqueue.../../kernel/core_pattern", "x"},
		{"vm.overcommit_memory", "1"}, {"kernel.hostname/../core_pattern", "x"},
	} {
		s := base("true")
		s.Linux.Sysctl = map[string]string{kv[0]: kv[1]}
		if out, stderr, code := run(t, bundle(t, s)); code != 1 || !strings.Contains(stderr, "sysctl") {
			t.Errorf("%q: code %d: %s%s", kv, code, out, stderr)
		}
	}
	// Without the namespace it would be the host's.
	s := base("true")
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	s.Linux.Sysctl = map[string]string{"net.ipv4.ip_default_ttl": "33"}
	if _, stderr, code := run(t, bundle(t, s)); code != 1 || !strings.Contains(stderr, "linux.sysctl") {
		t.Errorf("code %d: %s", code, stderr)
	}
	if pattern != sum(t, "/proc/sys/kernel/core_pattern") || ttl != sum(t, "/proc/sys/net/ipv4/ip_default_ttl") {
		t.Error("a parameter of the host was written")
	}
}

// CVE-2025-31133, 2025-52565: what the image calls /dev/null and /dev/console are links to what must not be written. A mask is the
// null device of the host's, and the console the terminal.
func TestCVE_2025_31133_and_52565(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	_, file := canary(t)
	s := base("stat -c '%F %t:%T' /proc/keys /proc/timer_list; echo x >/proc/keys; echo x >/dev/console 2>/dev/null; echo x >/dev/null")
	s.Linux.MaskedPaths = []string{"/proc/keys", "/proc/timer_list"}
	dir := bundle(t, s)
	for name, to := range map[string]string{"null": "/proc/sys/kernel/core_pattern", "console": "../../../../../.." + file} {
		if err := os.Symlink(to, filepath.Join(dir, "rootfs/dev", name)); err != nil {
			t.Fatal(err)
		}
	}
	pattern := sum(t, "/proc/sys/kernel/core_pattern")
	if out, stderr, code := run(t, dir); code != 0 || out != "character special file 1:3\ncharacter special file 1:3\n" {
		t.Errorf("code %d: %q %s", code, out, stderr)
	}
	// With a terminal, and a /dev/pts of the image whose first entries are links.
	s = base("stat -L -c %F /dev/console; readlink /dev/pts/0; tty")
	s.Process.Terminal = true
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts"})
	dir = bundle(t, s)
	link := func(name, to string) {
		place := filepath.Join(dir, "rootfs/dev", name)
		if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, place); err != nil {
			t.Fatal(err)
		}
	}
	link("pts/0", "/proc/sys/kernel/core_pattern")
	link("console", file)
	p, console := newPlace(t), listen(t)
	// What the link leads to is made in the image, not on the host.
	p.good("create", "--console-socket", console.path, "--bundle", dir, "x")
	syscall.Close(console.receive(t))
	p.good("delete", "--force", "x")
	if _, err := os.Lstat(filepath.Join(dir, "rootfs", file)); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "rootfs/dev/console")); err != nil {
		t.Fatal(err)
	}
	link("console", "/etc/passwd")
	console = listen(t)
	p.good("create", "--console-socket", console.path, "--bundle", dir, "x")
	defer p.do("delete", "--force", "x")
	master := os.NewFile(uintptr(console.receive(t)), "master")
	defer master.Close()
	p.good("start", "x")
	var text []byte
	for b := make([]byte, 1024); ; {
		n, err := master.Read(b)
		if text = append(text, b[:n]...); err != nil {
			break // EIO: the other side is closed
		}
	}
	if got := strings.ReplaceAll(string(text), "\r", ""); got != "character special file\n/dev/pts/0\n" {
		t.Errorf("%q", got)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "rootfs/etc/passwd")); err != nil || string(data) != nstest.Passwd {
		t.Errorf("%v: what the console was a link to has %q", err, data)
	}
	if pattern != sum(t, "/proc/sys/kernel/core_pattern") {
		t.Error("a parameter of the host was written")
	}
}

// CVE-2026-41579, 2026-47766: /dev of the image is a link to a directory of the host: no node and no link is made there.
func TestCVE_2026_41579_47766(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host, _ := canary(t)
	for _, to := range []string{host, "../../../../../.." + host, "/proc/1/root" + host} {
		for _, mounted := range []bool{false, true} {
			s := base("true")
			if mounted {
				withDev(s)
			}
			dir := bundle(t, s)
			if err := os.RemoveAll(filepath.Join(dir, "rootfs/dev")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(to, filepath.Join(dir, "rootfs/dev")); err != nil {
				t.Fatal(err)
			}
			run(t, dir) // it may work or not: the canary's directory is what counts
		}
	}
}

// CVE-2026-30892, 2016-3697, 2024-40635: no form of a user at exec becomes another user, and root least of all.
func TestCVE_2026_30892_2016_3697(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, withDev(base("exec sleep 1000")))
	if err := os.WriteFile(filepath.Join(dir, "rootfs/etc/passwd"), []byte("1000:x:0:0::/:/bin/sh\nroot:x:0:0::/:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.good("run", "--detach", "--bundle", dir, "c")
	defer p.do("delete", "--force", "c")
	for user, want := range map[string]string{"1": "1:0", "1:2": "1:2", "1000": "1000:0", "4294967294": "4294967294:0"} {
		if out := p.good("exec", "--user", user, "c", "sh", "-c", "echo $(id -u):$(id -g)"); out != want+"\n" {
			t.Errorf("%s: %q", user, out)
		}
	}
	for _, user := range []string{"", ":", "1:", ":1", "+1", "-1", "-0", "0x0", "1.0", "1e0", " 1", "1 ", "4294967295", "4294967296", "18446744073709551616", "1:4294967296", "1:-1", "1:2:3", "root", "1000x", "1:root", "１"} {
		if out, code := p.do("exec", "--user", user, "c", "id"); code == 0 && !(user == "" && strings.HasPrefix(out, "uid=0")) {
			t.Errorf("--user %q: code %d: %s", user, code, out)
		}
	}
}

// Descriptors of the caller end at the runtime, at a run, at a created container's start, and at an exec.
func TestLeakedDescriptors(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host, _ := canary(t)
	open, err := os.Open(host)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	const show = "ls -l /proc/self/fd | grep -c -e canary -e cgroup -e state -e config -e memfd -e socket; ls /proc/self/fd | wc -l"
	p := newPlace(t)
	p.good("run", "--detach", "--bundle", bundle(t, withDev(base("exec sleep 1000"))), "c")
	defer p.do("delete", "--force", "c")
	for name, c := range map[string]*exec.Cmd{
		"run":  p.command("run", "--bundle", bundle(t, withDev(base(show))), "r"),
		"exec": p.command("exec", "c", "sh", "-c", show),
	} {
		c.ExtraFiles = []*os.File{open, open, open}
		if out, err := c.Output(); string(out) != "0\n4\n" { // and that of ls itself
			t.Errorf("%s: %v %q", name, err, out)
		}
	}
	dir := bundle(t, withDev(base(show+"; true")))
	c := p.command("create", "--bundle", dir, "d")
	file, err := os.Create(filepath.Join(nstest.Dir(t), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c.ExtraFiles, c.Stdout = []*os.File{open, open, open}, file
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	defer p.do("delete", "--force", "d")
	p.good("start", "d")
	nstest.Until(t, "its output", func() bool { data, _ := os.ReadFile(file.Name()); return string(data) == "0\n4\n" })
}

// A stream that is the caller's /dev/null is the container's own inside: by the machine's, which its root owns, it could change that one's mode for all.
func TestNullOfTheMachine(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	const show = "exec 3>>/out; for f in /dev/null /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2; do (stat -Lc %d:%i $f >&3); done"
	ids := []specs.LinuxIDMapping{{Size: 65536}} // root of a user namespace that is root of the machine
	quiet := func(c *exec.Cmd) error {
		c.Stdin, c.Stdout, c.Stderr = nil, nil, nil // os/exec opens the machine's /dev/null for them
		return c.Run()
	}
	var st unix.Stat_t
	if err := unix.Stat("/dev/null", &st); err != nil {
		t.Fatal(err)
	}
	machine := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	for name, change := range map[string]func(s *specs.Spec){
		"a /dev of its own": func(s *specs.Spec) { withDev(s) },
		"the root's /dev":   func(s *specs.Spec) {},
		"a user namespace": func(s *specs.Spec) {
			withDev(s).Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
		},
		"a user namespace of one id": func(s *specs.Spec) {
			withDev(s).Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings, s.Linux.GIDMappings = []specs.LinuxIDMapping{{Size: 1}}, ids
		},
		"another user": func(s *specs.Spec) { withDev(s).Process.User = specs.User{UID: 33, GID: 33} },
		"a device of config.json": func(s *specs.Spec) {
			withDev(s).Linux.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			out := filepath.Join(nstest.Dir(t), "out")
			if err := errors.Join(os.WriteFile(out, nil, 0o666), os.Chmod(out, 0o666)); err != nil {
				t.Fatal(err)
			}
			s := base(show)
			change(s)
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/out", Type: "bind", Source: out, Options: []string{"bind"}})
			dir := bundle(t, s)
			if err := quiet(p.command("run", "--bundle", dir, "c")); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Fields(string(data)); len(n) != 4 || n[1] != n[0] || n[2] != n[0] || n[3] != n[0] {
				t.Errorf("/dev/null and the streams are %q", n)
			}
			// Who joins gets none that what runs inside could have put there.
			s.Process.Args = []string{"sleep", "1000"}
			write(t, dir, s)
			p.good("run", "--detach", "--bundle", dir, "c")
			defer p.do("delete", "--force", "c")
			if err := os.Truncate(out, 0); err != nil {
				t.Fatal(err)
			}
			if err := quiet(p.command("exec", "c", "sh", "-c", show)); err != nil {
				t.Fatal(err)
			}
			if data, err = os.ReadFile(out); err != nil {
				t.Fatal(err)
			}
			n := strings.Fields(string(data))
			if len(n) != 4 || n[1] == n[0] || n[1] == machine || n[2] != n[1] || n[3] != n[1] {
				t.Errorf("exec: /dev/null and the streams are %q, and the machine's is %s", n, machine)
			}
		})
	}
}

// Who has the id of a container's root and has used up its quota of keys, as another container may have, keeps nothing from being started there: its session
// keyring, without which it would have the caller's, is of the caller's quota.
func TestKeyQuota(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := base("exec sleep 1000")
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"})
	withUserNS(s)
	nstest.UseUpKeys(t, int(s.Linux.UIDMappings[0].HostID))
	p.good("run", "-d", "-b", bundle(t, s), "c")
	p.good("exec", "c", "true")
	p.good("delete", "-f", "c")
	p.empty()
}

// What the caller has in its environment is its own: no variable but those of config.json is inside, NOTIFY_SOCKET and its
// kin included, and no process of the container finds the caller's socket.
func TestEnvironmentAndNotifySocket(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host, _ := canary(t)
	for _, v := range []string{"LISTEN_FDS_OF", "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "HOSTSECRET"} {
		t.Setenv(v, host+"/secret")
	}
	p := newPlace(t)
	p.good("run", "--detach", "--bundle", bundle(t, withDev(base("exec sleep 1000"))), "c")
	defer p.do("delete", "--force", "c")
	t.Setenv("NOTIFY_SOCKET", host+"/secret") // the container gets one of its own
	out, stderr, code := run(t, bundle(t, base("env; cat /proc/1/environ | tr '\\0' '\\n'; ls "+host)))
	if code == 0 || strings.Contains(out+stderr, "secret") || strings.Contains(out, "canary") {
		t.Errorf("code %d: %s%s", code, out, stderr)
	}
	os.Unsetenv("NOTIFY_SOCKET")
	if out := p.good("exec", "c", "env"); strings.Contains(out, "secret") {
		t.Error(out)
	}
}

// CVE-2020-15257: no socket of the runtime's has a name that a container in the host's network namespace could connect to.
func TestCVE_2020_15257(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	before, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	s := base("grep '@' /proc/net/unix; true")
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	out, stderr, code := run(t, bundle(t, s))
	for line := range strings.Lines(out) {
		// The runtime's end of a pair has a name of the kernel's when it has sent something, by SO_PASSCRED, until the start is over: it is connected, and takes none else.
		if f := strings.Fields(line); !strings.Contains(string(before), f[len(f)-1]) && (f[4] != "0005" || f[5] != "03") {
			t.Errorf("an abstract socket: %s", line)
		}
	}
	if code != 0 {
		t.Errorf("code %d: %s", code, stderr)
	}
}

// A cgroup path with ".." is refused, and so is an exec's place outside of the container's group; no group of the host's takes
// a container's process in.
func TestCgroupPathEscapes(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	for _, path := range []string{"..", "../x", "/../x", "/a/../../x", "a/..", "/a/../..", "x\x00y"} {
		s := base("true")
		s.Linux.CgroupsPath = path
		if out, stderr, code := run(t, bundle(t, s)); code != 1 || !strings.Contains(stderr, "linux.cgroupsPath") {
			t.Errorf("%q: code %d: %s%s", path, code, out, stderr)
		}
	}
	p := newPlace(t)
	p.good("run", "--detach", "--bundle", bundle(t, withDev(base("exec sleep 1000"))), "c")
	defer p.do("delete", "--force", "c")
	for _, sub := range []string{"..", "../..", "a/../..", "/../x"} {
		if out, code := p.do("exec", "--cgroup", sub, "c", "true"); code == 0 || !strings.Contains(out, "cgroup") {
			t.Errorf("%q: code %d: %s", sub, code, out)
		}
	}
}

// In a user namespace a device is the host's of that path, bound: no other file of the host becomes one, be it a socket or somebody's secret.
func TestDeviceIsADevice(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host, file := canary(t)
	for _, path := range []string{file, host} {
		s := withDev(base("true"))
		ids := []specs.LinuxIDMapping{{Size: 65536}}
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
		s.Linux.Devices = []specs.LinuxDevice{{Path: path, Type: "c", Major: 1, Minor: 3}}
		p := newPlace(t)
		p.bad("what the host has at "+path+" is no such device", "run", "--bundle", bundle(t, s), "c")
	}
}

// GHSA-g54h-m393-cpwq: device rules begin with nothing, whether or not config.json has any: nodes that a container makes are no
// way to the devices.
func TestDeviceRulesDeny(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	try := "mknod /dev/m c 1 1 && head -c1 /dev/m >/dev/null && echo memory; mknod /dev/l b 7 0 && head -c1 /dev/l >/dev/null && echo disk; mknod /dev/k c 1 11 && (cat </dev/k) && echo kmsg; echo end"
	for name, rules := range map[string][]specs.LinuxDeviceCgroup{"none": nil, "an allowed one": {{Allow: true, Type: "c", Major: new(int64), Minor: new(int64), Access: "r"}}} {
		s := withDev(base(try))
		caps := append(s.Process.Capabilities.Bounding, "CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_SYS_RAWIO")
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
		s.Linux.Resources = &specs.LinuxResources{Devices: rules}
		if out, stderr, code := run(t, bundle(t, s)); code != 0 || out != "end\n" || !strings.Contains(stderr, "not permitted") {
			t.Errorf("%s: code %d: %s%s", name, code, out, stderr)
		}
	}
}

// A tunnel's node is a container's to make and open, as with runc and crun: programs of VPNs make it themselves. Where the kernel has no
// tunnels, it is another error than a refusal.
func TestTunnelNode(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	s := withDev(base("mknod /dev/tun c 10 200 && (: </dev/tun) 2>&1; echo end"))
	caps := append(s.Process.Capabilities.Bounding, "CAP_MKNOD")
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	if out, stderr, code := run(t, bundle(t, s)); code != 0 || stderr != "" || !strings.HasSuffix(out, "end\n") || strings.Contains(out, "not permitted") {
		t.Errorf("code %d: %s%s", code, out, stderr)
	}
}

// CVE-2022-0492, 2023-25809: the control groups that a container sees are its own, and read-only.
func TestCVE_2022_0492_and_2023_25809(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	s := base("cd /sys/fs/cgroup; for f in $(find . -name release_agent -o -name cgroup.procs -o -name devices.allow -o -name notify_on_release); do echo $$ >$f && echo written $f; done 2>/dev/null; mkdir x 2>/dev/null && echo made; find . -name release_agent; echo end")
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"ro"}},
		specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}})
	want(t, s, "end\n")
}

// A hook is a program of the host's, whatever the image has at its path: also one that runs in the container's namespaces.
func TestHooksAreOfTheHost(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	s := withDev(base("true"))
	hook := []specs.Hook{{Path: "/bin/true", Args: []string{"true"}}}
	s.Hooks = &specs.Hooks{CreateRuntime: hook, CreateContainer: hook}
	dir := bundle(t, s)
	fake := []byte("#!/bin/sh\necho ran >/ran-of-the-image\necho ran >/tmp/ran-of-the-image\n")
	if err := os.Remove(filepath.Join(dir, "rootfs/bin/true")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rootfs/bin/true"), fake, 0o755); err != nil {
		t.Fatal(err)
	}
	s.Process.Args = []string{"sh", "-c", "exit 0"}
	write(t, dir, s)
	if out, stderr, code := run(t, dir); code != 0 {
		t.Errorf("code %d: %s%s", code, out, stderr)
	}
	for _, file := range []string{"/ran-of-the-image", "/tmp/ran-of-the-image", dir + "/rootfs/ran-of-the-image", dir + "/rootfs/tmp/ran-of-the-image"} {
		if _, err := os.Lstat(file); err == nil {
			t.Errorf("the image's program ran: %s", file)
		}
	}
}

// CVE-2025-23266: variables of the image, which name a library to be loaded, are not those of a hook that is a program of the host, and
// in the container's root directory begins what looks for one there.
func TestCVE_2025_23266(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	s := withDev(base("true"))
	s.Process.Env = append(s.Process.Env, "LD_PRELOAD=./evil.so", "LD_LIBRARY_PATH=.", "BASH_ENV=evil", "EVIL=1")
	seen := nstest.Dir(t)
	hook := func(point string) []specs.Hook {
		line := "tr '\\0' '\\n' </proc/self/environ >" + seen + "/" + point
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", line}}, {Path: "/bin/sh", Args: []string{"sh", "-c", line + "2"}, Env: []string{"ITS=own"}}}
	}
	s.Hooks = &specs.Hooks{CreateRuntime: hook("createRuntime"), CreateContainer: hook("createContainer"), Poststart: hook("poststart"), Poststop: hook("poststop")}
	if out, stderr, code := run(t, bundle(t, s)); code != 0 {
		t.Fatalf("code %d: %s%s", code, out, stderr)
	}
	for _, point := range []string{"createRuntime", "createContainer", "poststart", "poststop"} {
		for _, own := range []string{"", "2"} {
			env, err := os.ReadFile(filepath.Join(seen, point+own))
			if err != nil || strings.Contains(string(env), "evil") || strings.Contains(string(env), "EVIL") || own != "" && strings.TrimSpace(string(env)) != "ITS=own" {
				t.Errorf("%s%s: %v: %s", point, own, err, env)
			}
		}
	}
}

// The state directory is the caller's alone: what is in it (the environment, for one) nobody else reads, nobody inside sees it, and an
// ID leads nowhere else.
func TestStateDirectory(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	s := withDev(base("ls " + p.dir + " 2>/dev/null; exec sleep 1000"))
	s.Process.Env = append(s.Process.Env, "PASSWORD=secret")
	p.good("create", "--bundle", bundle(t, s), "c")
	defer p.do("delete", "--force", "c")
	err := filepath.Walk(filepath.Join(p.dir, "c"), func(name string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm(); mode&0o066 != 0 || !info.IsDir() && mode&0o077 != 0 {
			t.Errorf("%s: %v: others may read or write it", name, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(p.dir, "..", "other")
	for _, id := range []string{"..", ".", "../other", "c/../../other", "a/b", "", "c\n", strings.Repeat("x", 5000), "~", "$(x)", "ü"} {
		for _, verb := range []string{"create", "state", "start", "delete", "kill"} {
			if out, code := p.do(verb, id); code == 0 {
				t.Errorf("%s %q: %s", verb, id, out)
			}
		}
	}
	if _, err := os.Lstat(other); err == nil {
		t.Errorf("%s was made", other)
	}
	// A link in the place of a state is none of the runtime's.
	if err := os.Symlink(nstest.Dir(t), filepath.Join(p.dir, "link")); err != nil {
		t.Fatal(err)
	}
	if out, code := p.do("delete", "--force", "link"); code == 0 {
		if _, err := os.Lstat(filepath.Join(p.dir, "link")); err == nil {
			t.Logf("left alone: %s", out)
		}
	}
	os.Remove(filepath.Join(p.dir, "link"))
}

// The state of an ordinary user's containers is not read from a directory that somebody else has made where it would be, nor written to one.
func TestForeignState(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	const nobody = 65534
	for _, c := range []struct {
		name string
		make func(dir string) error
		good bool
	}{
		{"none", func(string) error { return nil }, true},
		{"ours", func(dir string) error { return errors.Join(os.Mkdir(dir, 0o711), os.Chown(dir, nobody, nobody)) }, true},
		{"another's", func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)) }, false},
		{"everybody's", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777), os.Chown(dir, nobody, nobody))
		}, false},
		{"a link", func(dir string) error { return os.Symlink("/tmp", dir) }, false},
	} {
		run := nstest.Dir(t)
		if err := os.Chmod(run, 0o777); err != nil {
			t.Fatal(err)
		}
		t.Setenv("XDG_RUNTIME_DIR", run)
		root := filepath.Join(run, "kakuri-runtime")
		if err := c.make(root); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { // on a thread that ends with it
			defer close(done)
			runtime.LockOSThread()
			if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0)); e != 0 {
				t.Error(e)
				return
			}
			r := &Runtime{Root: DefaultRoot()}
			if r.Root != root {
				t.Errorf("the state is in %s", r.Root)
			}
			_, e1 := r.List()
			_, e2 := r.Open("c")
			x, e3 := r.reserve("c")
			if x != nil {
				e3 = errors.Join(e3, x.remove())
				x.unlock()
			}
			if (e1 == nil) != c.good || errors.Is(e2, ErrNotExist) != c.good || (e3 == nil) != c.good {
				t.Errorf("%s: list %v, open %v, create %v", c.name, e1, e2, e3)
			}
			if _, err := (&Runtime{Root: run}).List(); err != nil {
				t.Errorf("--root: %v", err)
			}
		}()
		<-done
	}
}

// CVE-2022-4318, 2024-9676: the image's account file, which HOME is looked up in, never ends, blocks, or is the host's.
func TestCVE_2024_9676(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := nstest.Dir(t)
	if err := os.WriteFile(host+"/passwd", []byte("x:x:5:5::/of-the-host:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(file string) error{
		"fifo":        func(file string) error { return unix.Mkfifo(file, 0o644) },
		"endless":     func(file string) error { return os.Symlink("/dev/zero", file) },
		"host's":      func(file string) error { return os.Symlink(host+"/passwd", file) },
		"host's, up":  func(file string) error { return os.Symlink("../../../../../.."+host+"/passwd", file) },
		"directory":   func(file string) error { return os.Mkdir(file, 0o755) },
		"large":       func(file string) error { return os.WriteFile(file, nil, 0o644) },
		"with a line": func(file string) error { return os.WriteFile(file, []byte("x:x:5:5::/a\x00b:/bin/sh\n"), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			s := base("echo $HOME")
			s.Process.User = specs.User{UID: 5, GID: 5}
			dir := bundle(t, s)
			file := filepath.Join(dir, "rootfs/etc/passwd")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := make(file); err != nil {
				t.Fatal(err)
			}
			if name == "large" {
				if err := os.Truncate(file, 1<<40); err != nil {
					t.Fatal(err)
				}
			}
			out, stderr, code := run(t, dir)
			if strings.Contains(out, "of-the-host") || code != 0 && stderr == "" || code < 0 || code > 1 {
				t.Errorf("code %d: %q %s", code, out, stderr)
			}
		})
	}
}

// CVE-2017-5226, 2023-28100: a container's terminal is its own: the caller's is not its controlling one, and what it types into it by
// TIOCSTI is not read by the caller.
func TestCVE_2017_5226(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	// The session is another, and it has no terminal; /dev/tty of a shell that has one would open.
	want(t, withDev(base("cut -d' ' -f6,7 /proc/self/stat; (cat </dev/tty) 2>/dev/null && echo terminal; true")), "1 0\n")
}

// A filter that refuses everything, and so its process its end, too, leaves none that goes round for ever with the container's lock held.
func TestFilterOfNothing(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	for name, c := range map[string]struct {
		nnp     bool
		allowed []specs.LinuxSyscall
		signal  unix.Signal
	}{
		// Of our own process, which cannot execute the stub, of the stub before the program's execve, and behind the filter that it has loaded itself.
		"process": {false, []specs.LinuxSyscall{{Names: []string{"execveat", "fcntl", "rt_sigprocmask"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 4, Value: 1, Op: specs.OpEqualTo}}}}, unix.SIGSEGV},
		"stub":    {false, []specs.LinuxSyscall{{Names: []string{"capset", "prctl", "execveat", "fcntl", "rt_sigprocmask"}, Action: specs.ActAllow}}, unix.SIGTRAP},
		"program": {true, nil, unix.SIGTRAP},
	} {
		s := base("true")
		s.Process.NoNewPrivileges = c.nnp
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: c.allowed}
		if out, code := p.do("run", "-b", bundle(t, s), "c"); code != 128+int(c.signal) {
			t.Errorf("%s: code %d: %s", name, code, out)
		}
	}
	p.empty()
}

// A device that is named for the file of the pid stays one.
func TestPIDFileIsADevice(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	device := filepath.Join(nstest.Dir(t), "null")
	if err := unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	p.good("run", "-b", bundle(t, base("true")), "--pid-file", device, "c")
	if st, err := os.Lstat(device); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("%v %v", st, err)
	}
	p.empty()
}

// Who makes a container from a chroot leaves it no way to what is above: not to who joins its mount namespace, as exec does, nor to
// who has CAP_SYS_CHROOT in it, since its root directory is that of its namespace.
func TestMadeInChroot(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	dir := bundle(t, base("exec sleep 1000"))
	owner := base("exec sleep 1000")
	owner.Linux.Namespaces = append(owner.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	owner.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 0, Size: 1000}}
	owner.Linux.GIDMappings = owner.Linux.UIDMappings
	for name, options := range map[string]uintptr{"of mounts": unix.MS_PRIVATE, "of shared mounts": unix.MS_SHARED} {
		t.Run(name, func(t *testing.T) {
			nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNS}, func(t *testing.T) {
				top := nstest.Dir(t)
				if err := unix.Mount("/", top, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
					t.Fatal(err)
				}
				defer unix.Unmount(top, unix.MNT_DETACH)
				if err := unix.Mount("", "/", "", unix.MS_REC|options, ""); err != nil {
					t.Fatal(err)
				}
				in := p
				in.t, in.chroot = t, top
				before, _ := os.ReadFile("/proc/self/mountinfo")
				in.good("run", "--detach", "--bundle", dir, "made")
				defer in.do("delete", "--force", "made")
				for _, p := range []place{in, {t: t, dir: p.dir}} {
					if out := p.good("exec", "made", "sh", "-c", "cut -d' ' -f5 /proc/self/mountinfo | head -n 1; ls -d /srv/web"); out != "/\n/srv/web\n" {
						t.Errorf("exec finds %s", out)
					}
				}
				out := place{t: t, dir: p.dir} // in a chroot there is no new user namespace
				out.good("run", "--detach", "--bundle", bundle(t, owner), "owner")
				defer out.do("delete", "--force", "owner")
				// What is bound is opened before the user namespace is joined, and after the chroot is left.
				guest := base("exec sleep 1000")
				guest.Linux.Namespaces = append(guest.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: fmt.Sprintf("/proc/%d/ns/user", in.state("owner").Pid)})
				guest.Mounts = append(guest.Mounts, specs.Mount{Destination: "/bound", Type: "bind", Source: nstest.RootFS(t), Options: []string{"rbind", "ro"}})
				in.good("run", "--detach", "--bundle", bundle(t, guest), "guest")
				defer in.do("delete", "--force", "guest")
				if out := in.good("exec", "guest", "sh", "-c", "ls -d /srv/web /bound/srv/web"); out != "/bound/srv/web\n/srv/web\n" {
					t.Errorf("exec finds %s", out)
				}
				if after, _ := os.ReadFile("/proc/self/mountinfo"); string(after) != string(before) {
					t.Errorf("the mounts were\n%sand are\n%s", before, after)
				}
			})
		})
	}
}

// TestSourceByParent: where a link of the host, or a path of config.json, goes up to the root directory by "..", it goes on in the host's, and not in the container's root,
// which is attached over that by then: there the image has a link to what nobody has given it.
func TestSourceByParent(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	_, secret := canary(t)
	dir := nstest.Dir(t)
	up := strings.Repeat("../", strings.Count(dir, "/")+1)
	for _, err := range []error{
		os.Mkdir(dir+"/given", 0o755), os.Mkdir(dir+"/empty", 0o755), os.WriteFile(dir+"/given/file", []byte("given\n"), 0o644), os.Chmod(dir, 0o755),
		os.Symlink(up+dir[1:]+"/given/file", dir+"/link"), os.Symlink(up+dir[1:]+"/given", dir+"/links"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	bind := func(source string, options ...string) specs.Mount {
		return specs.Mount{Destination: "/m", Type: "bind", Source: source, Options: options}
	}
	file, tree := "cat /m", "cat /m/file"
	for name, test := range map[string]struct {
		line   string
		mount  specs.Mount
		change func(*specs.Spec)
	}{
		"a link":                     {file, bind(dir+"/link", "bind"), nil},
		"a link, with what is below": {file, bind(dir+"/link", "rbind"), nil},
		"a link on the way":          {file, bind(dir+"/links/file", "bind", "ro"), nil},
		"a path":                     {tree, bind("/tmp/../"+dir+"/given", "rbind"), nil},
		"a path of proc":             {tree, bind("/proc/self/root/tmp/../"+dir+"/given", "bind"), nil},
		"an overlay":                 {tree, specs.Mount{Destination: "/m", Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + dir + "/links:" + dir + "/empty"}}, nil},
		"in a user namespace":        {file, bind(dir+"/link", "bind"), withUserNS},
		"with hooks":                 {file, bind(dir+"/link", "bind"), func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/true"}}} }},
		"many": {fmt.Sprintf("cat /m%d/file", plan.OwnSources+9), bind(dir+"/links", "bind"), func(s *specs.Spec) {
			for i := range plan.OwnSources + 10 {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: fmt.Sprintf("/m%d", i), Type: "bind", Source: dir + "/given", Options: []string{"bind"}})
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := base(test.line)
			s.Mounts = append(s.Mounts, test.mount)
			if test.change != nil {
				test.change(s)
			}
			made := bundle(t, s)
			hostile := filepath.Join(made, "rootfs", dir)
			for _, err := range []error{
				os.MkdirAll(hostile+"/given", 0o755), os.Symlink(secret, hostile+"/given/file"), os.MkdirAll(filepath.Join(made, "rootfs/dev"), 0o755),
				exec.Command("cp", "-a", hostile+"/given", hostile+"/links").Run(), exec.Command("chown", "-R", "100000:100000", filepath.Join(made, "rootfs")).Run(),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			if out, stderr, code := run(t, made); code != 0 || out != "given\n" {
				t.Errorf("code %d: %q %s", code, out, stderr)
			}
		})
	}
	// Of too many sources the last are looked up with the root attached: no link is followed.
	s := base("true")
	for i := range plan.OwnSources + 10 {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: fmt.Sprintf("/m%d", i), Type: "bind", Source: dir + "/links", Options: []string{"bind"}})
	}
	if out, stderr, code := run(t, bundle(t, s)); code != 1 || !strings.Contains(stderr, dir+"/links") || !strings.Contains(stderr, "ELOOP") {
		t.Errorf("code %d: %q %s", code, out, stderr)
	}
}
