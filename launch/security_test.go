package launch_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
)

// What other runtimes were seen to get wrong, tried here on single plans. The names
// are those of the advisories; engine has tests for what people type.

// canary is a directory of the host with a file in it; the test fails when
// either is changed.
func canary(t testing.TB) string {
	t.Helper()
	dir := nstest.Dir(t)
	if err := os.WriteFile(filepath.Join(dir, "mark"), []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"c", "d"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	nstest.Unchanged(t, dir)
	return dir
}

// A process of another container that shares the root swaps a directory with a link to
// the host, over and over, while containers mount and make files below it:
// nothing of that lands on the host, and nothing of the host is to be seen inside.
func TestCVE_2021_30465_and_2024_45310(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := canary(t)
	root := nstest.RootFS(t)
	if err := os.MkdirAll(filepath.Join(root, "a/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Up and out by name, and straight by an absolute one.
	for i, target := range []string{host, strings.Repeat("../", 20) + host[1:]} {
		evil := filepath.Join(root, fmt.Sprintf("evil%d", i))
		if err := os.Symlink(target, evil); err != nil {
			t.Fatal(err)
		}
	}
	background(t, nstest.Part("swapper", filepath.Join(root, "a"), filepath.Join(root, "evil0")))
	background(t, nstest.Part("swapper", filepath.Join(root, "evil0"), filepath.Join(root, "evil1")))
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	worked, seen := 0, ""
	for range rounds {
		steps := inRoot(root,
			in(&plan.Umask{}),
			in(&plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: "/a/c"}),
			in(&plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: "/a/new/deep"}),
			in(&plan.Bind{Source: "/usr/share", Dest: "/a/d"}),
			in(&plan.Bind{Source: "/etc/passwd", Dest: "/a/file"}),
			in(&plan.Symlink{Target: "x", Path: "/a/link"}),
			in(&plan.Device{Path: "/a/null", Type: "c", Major: 1, Minor: 3, Mode: 0o666}),
			in(&plan.Workdir{Path: "/a/work"}),
			in(&plan.Bind{Source: "/a", Inside: true, Dest: "/var/tmp"}),
			in(&plan.OpenNull{}), in(&plan.Mask{Path: "/a/mark"}), in(&plan.ReadonlyPath{Path: "/a/c"}),
		)
		steps[len(steps)-1] = sh("cat /a/mark /var/tmp/mark /evil0/mark /evil1/mark /../a/mark 2>/dev/null; true")
		res, err := launchSteps(t, launch.Options{}, steps...)
		if err == nil {
			worked++
			seen += res.out
		}
	}
	if seen != "" {
		t.Errorf("inside there is to be seen: %q", seen)
	}
	if worked == 0 {
		t.Error("no launch got through: the race was not tried to its end")
	}
	t.Logf("%d of %d launches got through", worked, rounds)
}

// The working directory cannot be a descriptor of the runtime that leads outside.
func TestCVE_2024_21626(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	root := nstest.RootFS(t)
	out, err := os.Open("/usr")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for n := 3; n <= 31; n++ {
		for _, dir := range []string{"/proc/self/fd/%d", "/proc/thread-self/fd/%d", "/proc/1/fd/%d", "/fd%d"} {
			dir = fmt.Sprintf(dir, n)
			if strings.HasPrefix(dir, "/fd") {
				if err := os.Symlink(fmt.Sprintf("/proc/self/fd/%d", n), filepath.Join(root, dir)); err != nil {
					t.Fatal(err)
				}
			}
			steps := inRoot(root)
			at := len(steps) - 1
			for _, op := range []plan.Op{&plan.Chdir{Path: dir}, &plan.TryChdir{Path: dir, Dir: 40}, &plan.LateChdir{Path: dir, Dir: 40}, &plan.Workdir{Path: dir}} {
				broken := slices.Insert(slices.Clone(steps), at, in(op))
				if _, ok := op.(*plan.Workdir); ok {
					broken = slices.Insert(slices.Clone(steps), at-1, in(op))
				}
				if res, err := launchSteps(t, launch.Options{}, broken...); err == nil {
					t.Fatalf("%s %s: works: %s", op.Name(), dir, res.out)
				}
			}
		}
	}
}

// Devices and the console of the image may be links: they are not followed to the host,
// and a mask is the null device whatever the image calls so.
func TestCVE_2025_31133_and_52565(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := canary(t)
	char := "character special file "
	seen := char + "1:3\n" + char + "1:5\n" + char + "1:3\n" + char + "88:0\n" + nstest.Group
	for console, want := range map[string]string{
		"/srv/web/console": seen, "../../../../srv/web/console": seen, // of the image: the terminal is bound there
		host + "/mark": seen, "../../../../../.." + host + "/new": seen, // not there inside: made there
		"/proc/self/cwd" + host + "/mark": "", // through a magic link: refused
	} {
		root := nstest.RootFS(t)
		for name, target := range map[string]string{
			"null": "/proc/sys/kernel/hostname", "console": console, "tty": "../../../../../.." + host + "/mark", "zero": "/etc/group",
		} {
			if err := os.Symlink(target, filepath.Join(root, "dev", name)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := linkedDevices(t, root); got != want || (err == nil) != (want != "") {
			t.Errorf("console is a link to %s: %v: %q", console, err, got)
		}
	}
}

// linkedDevices starts a container without a /dev of its own, on a terminal, and
// gives what its devices are.
func linkedDevices(t *testing.T, root string) (string, error) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(root, "dev/pts"), 0o755); err != nil {
		t.Fatal(err)
	}
	steps := []plan.Step{
		clone(abi.NSMount, abi.NSUTS),
		in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}), in(&plan.OpenNull{}), in(&plan.AttachRoot{Path: root}),
		in(&plan.Mount{Type: "proc", Source: "proc", Dest: "/proc"}), in(&plan.Umask{}), in(&plan.Setsid{}),
		in(&plan.Device{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, Mode: 0o666, Replace: true}),
		in(&plan.Device{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5, Mode: 0o666, Replace: true}),
		in(&plan.Mount{Type: "devpts", Source: "devpts", Dest: "/dev/pts", Options: []string{"newinstance", "ptmxmode=0666"}, Out: plan.RegPts}),
		in(&plan.Terminal{}), in(&plan.Console{}),
		in(&plan.Sync{From: plan.Container, What: "terminal made", FDs: []plan.Reg{plan.RegMaster}}),
		in(&plan.Mask{Path: "/etc/passwd"}), in(&plan.PivotRoot{}), in(&plan.Sigmask{}),
		sh("stat -L -c '%F %t:%T' /dev/null /dev/zero /etc/passwd /dev/console; cat /etc/group"),
	}
	p, err := launch.Run(context.Background(), plan.Plan{Steps: steps}, launch.Options{})
	if err != nil {
		return "", err
	}
	defer p.Master.Close()
	out, _ := io.ReadAll(p.Master) // to the EIO at the end
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(out), "\r\n", "\n"), nil
}

// A /dev of the image that leads to the host gets nothing made there.
func TestCVE_2026_41579(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := canary(t)
	for _, target := range []string{host, strings.Repeat("../", 30) + host[1:], "/proc/self/cwd" + host} {
		root := nstest.RootFS(t)
		if err := os.Remove(filepath.Join(root, "dev")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(root, "dev")); err != nil {
			t.Fatal(err)
		}
		steps := inRoot(root, in(&plan.Umask{}),
			in(&plan.Symlink{Target: "/proc/self/fd", Path: "/dev/fd"}), in(&plan.Symlink{Target: "pts/ptmx", Path: "/dev/ptmx"}),
			in(&plan.Device{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, Mode: 0o666}),
			in(&plan.Bind{Source: "/dev/zero", Dest: "/dev/zero"}),
			in(&plan.Mount{Type: "tmpfs", Source: "tmpfs", Dest: "/dev/shm"}))
		steps[len(steps)-1] = sh("test -L /dev/fd && test -c /dev/null && echo inside; cat /dev/mark 2>/dev/null")
		res, err := launchSteps(t, launch.Options{}, steps...)
		if err == nil && res.out != "inside\n" {
			t.Errorf("%s: %q", target, res.out)
		}
	}
}

// The image's /proc is a link, to a directory or to the host: procfs is mounted where
// it leads inside, masks lie over what is seen at /proc, and sysctls are written
// past all of it.
func TestCVE_2019_19921(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	host := canary(t)
	for _, target := range []string{"/tmp", host, "/proc"} {
		root := nstest.RootFS(t)
		at := "proc"
		if target == "/proc" {
			at = "sys"
		}
		if err := os.Remove(filepath.Join(root, at)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(root, at)); err != nil {
			t.Fatal(err)
		}
		steps := []plan.Step{
			clone(abi.NSMount, abi.NSNetwork, abi.NSPID), in(&plan.OpenProc{}), in(&plan.OpenNull{}),
			in(&plan.Sysctl{Key: "net.ipv4.ip_unprivileged_port_start", Value: "77"}),
			in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}), in(&plan.AttachRoot{Path: root}),
			in(&plan.Mount{Type: "proc", Source: "proc", Dest: "/proc"}), in(&plan.Mount{Type: "sysfs", Source: "sysfs", Dest: "/sys"}),
			in(&plan.ReadonlyPath{Path: "/proc/sys"}), in(&plan.Mask{Path: "/proc/timer_list"}), in(&plan.Mask{Path: "/proc/kcore"}),
			in(&plan.PivotRoot{}), in(&plan.DropBounding{Keep: defaultCaps, Last: lastCap()}), in(&plan.Capset{Effective: defaultCaps, Permitted: defaultCaps}),
			sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start 2>/dev/null || echo 77; cat /proc/timer_list /proc/kcore 2>/dev/null | head -c1; " +
				"echo 1 2>/dev/null >/proc/sys/vm/drop_caches && echo written; umount /sys /proc 2>/dev/null && echo unmounted; true"),
		}
		res, err := launchSteps(t, launch.Options{}, steps...)
		if err == nil && res.out != "77\n" {
			t.Errorf("%s is a link to %s: %q", at, target, res.out)
		}
	}
}

// A process that enters a container is out of its reach until it is one of the container's
// own: no ptrace, no descriptor, no program, no environment.
func TestCVE_2016_9962(t *testing.T) {
	nstest.Root(t)
	t.Setenv("KAKURI_SECRET", "of the caller")
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	// Something that is open, and worth having.
	out, err := os.Open("/usr")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	ids := []plan.IDMapping{{Inside: 0, Outside: 100000, Size: 1000}}
	spying := []plan.Step{
		in(&plan.Bind{Source: nstest.Exe, Dest: "/spy"}), in(&plan.Mount{Type: "proc", Source: "proc", Dest: "/proc"}), in(&plan.PivotRoot{}),
	}
	for name, c := range map[string]struct {
		spy  []plan.Step
		join []abi.Namespace
	}{
		// Root of its own user namespace, with every capability in it.
		"own user namespace": {slices.Concat([]plan.Step{
			clone(abi.NSUser, abi.NSMount, abi.NSPID), rt(&plan.WriteIDMap{Map: ids}), rt(&plan.WriteIDMap{Group: true, Map: ids}), rt(&plan.Sync{What: "go on"}),
			in(&plan.Setresgid{}), in(&plan.Setresuid{}), in(&plan.AttachRoot{Path: worldRoot(t)}),
		}, spying), []abi.Namespace{abi.NSUser, abi.NSMount, abi.NSPID}},
		// Root of the host, with the default capabilities.
		"the host's user namespace": {slices.Concat([]plan.Step{
			clone(abi.NSMount, abi.NSPID), in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}), in(&plan.AttachRoot{Path: nstest.RootFS(t)}),
		}, spying, []plan.Step{in(&plan.DropBounding{Keep: defaultCaps, Last: lastCap()}), in(&plan.Capset{Effective: defaultCaps, Permitted: defaultCaps})}),
			[]abi.Namespace{abi.NSMount, abi.NSPID}},
	} {
		t.Run(name, func(t *testing.T) {
			nstest.NoLeaks(t)
			stdin, feed, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			p, err := launch.Run(context.Background(), plan.Plan{Steps: append(slices.Clone(c.spy), in(&plan.CloseFDs{First: 3}), in(&plan.Sigmask{}), in(&plan.Exec{Args: []string{"/spy"}}))},
				launch.Options{Stdio: [3]*os.File{stdin, w, w}})
			stdin.Close()
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(r)
			if got, err := lines.ReadString('\n'); err != nil || got != "ready\n" {
				t.Fatalf("%v: %q", err, got)
			}
			for range rounds {
				if _, err := launchSteps(t, launch.Options{}, entering(p.PID, c.join)...); err != nil {
					t.Error(err)
				}
			}
			feed.Close()
			rest, err := io.ReadAll(lines)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Wait(); err != nil {
				t.Fatal(err)
			}
			// Its last line says how many processes it looked at.
			found, looked, _ := strings.Cut("\n"+string(rest), "\nlooked ")
			if found != "" || looked == "" || looked == "0\n" {
				t.Errorf("seen from inside:%s\n%s", found, looked)
			}
		})
	}
}

// worldRoot is a root file system that everyone can write.
func worldRoot(t testing.TB) string {
	root := nstest.RootFS(t)
	for _, d := range []string{"", "proc", "dev"} {
		if err := os.Chmod(filepath.Join(root, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// entering is the plan of a process that joins a container, as plan.CompileEnter makes it,
// and ends at once.
func entering(pid int, join []abi.Namespace) []plan.Step {
	var opens, joins []plan.Step
	for i, ns := range join {
		reg := free + plan.Reg(i)
		opens = append(opens, rt(&plan.OpenNamespace{NS: ns, Path: fmt.Sprintf("/proc/%d/ns/%s", pid, ns.ProcName()), Out: reg}))
		joins = append(joins, in(&plan.Setns{NS: ns, FD: reg}))
	}
	return slices.Concat(opens, []plan.Step{clone(), in(&plan.Undumpable{})}, joins, []plan.Step{
		in(&plan.Fork{}), in(&plan.CloseFDs{First: 3}), in(&plan.Sigmask{}), in(&plan.Exec{Args: []string{"/bin/true"}}),
	})
}

// Characters that a container types into its terminal are its own to read.
func TestCVE_2017_5226(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p, out := onTerminal(t, in(&plan.Exec{Args: []string{"/probe", "tiocsti"}}))
	if got := line(t, out); got != "typed" && !strings.HasPrefix(got, "refused") {
		t.Errorf("%q", got)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	// The program's terminal is none of the caller's: neither is that the controlling one
	// inside, nor is one of its descriptors.
	v := see(t, clone(), in(&plan.Setsid{}), in(&plan.CloseFDs{First: 3}), probeHere())
	if !strings.Contains(v.TTY, "no such device") {
		t.Errorf("without a terminal /dev/tty says %q", v.TTY)
	}
}
