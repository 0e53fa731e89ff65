package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

func TestExitCodes(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	for _, init := range []bool{false, true} {
		for line, code := range map[string]int{"exit 0": 0, "exit 3": 3, "exit 255": 255, "kill -TERM $$": 143, "kill -KILL $$": 137} {
			r := sh(root, line)
			r.Init = init
			if !init && strings.HasPrefix(line, "kill") {
				r.Command[2] = "sh -c '" + line + "'; exit $?" // pid 1 is not to be killed from inside
			}
			if out, got, err := inside(t, e, r); err != nil || got != code {
				t.Errorf("%s, init %v: %v, code %d, want %d: %s", line, init, err, got, code, out)
			}
		}
		for command, c := range map[string]struct {
			code int
			text string
		}{
			"nosuch": {127, `exec: "nosuch": executable file not found in $PATH`}, "/no/such": {127, `exec: "/no/such": exec /no/such: no such file or directory`},
			"/etc/passwd/x": {127, "no such file or directory"}, "/etc": {126, "EACCES"}, "/tmp": {126, "EACCES"}, "": {127, ""},
		} {
			r := Config{Rootfs: root, Command: []string{command}, Init: init}
			refused(t, e, r, c.code, c.text)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "bin/text"), []byte("no program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/plain"), []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// A link that leads round is no program, and no directory of programs.
	if err := os.Symlink("loop", filepath.Join(root, "bin/loop")); err != nil {
		t.Fatal(err)
	}
	path := []string{"PATH=/bin/loop:/bin"}
	refused(t, e, Config{Rootfs: root, Env: path, Command: []string{"loop"}}, 127, `exec: "loop": executable file not found in $PATH`)
	want(t, e, Config{Rootfs: root, Env: path, Command: []string{"echo", "found"}}, "found\n")
	refused(t, e, Config{Rootfs: root, Command: []string{"text"}}, 126, "ENOEXEC: exec format error")
	refused(t, e, Config{Rootfs: root, Command: []string{"plain"}}, 126, "EACCES")
	refused(t, e, Config{Rootfs: root}, 125, "no command")
	// More than the kernel takes, and than a message from the monitor has room for.
	refused(t, e, Config{Rootfs: root, Command: slices.Repeat([]string{"/bin/true", strings.Repeat("x", 100000)}, 30)}, 126, "E2BIG")
	refused(t, e, Config{Rootfs: "/no/such", Command: []string{"true"}}, 125, "there is no /no/such")
	r := sh(root, "true")
	r.Workdir = "/etc/passwd"
	refused(t, e, r, 125, "ENOTDIR")
	r.Workdir = "/srv/made"
	want(t, e, Config{Rootfs: root, Command: []string{"pwd"}, Workdir: "/srv/made/here"}, "/srv/made/here\n")
}

// TestFailsTwice: a container whose command cannot be run was never started, however often that is tried.
func TestFailsTwice(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	c, err := e.Create(ctx, Config{Rootfs: nstest.RootFS(t), Command: []string{"/etc"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Remove(context.Background(), c.ID, RemoveOptions{}) })
	for range 2 {
		if err := e.Start(ctx, c.ID, StartOptions{}); err == nil || !strings.Contains(err.Error(), "EACCES") {
			t.Fatal(err)
		}
		if c = found(t, e, c.ID); c.Status != monitor.Created || c.ExitCode != 126 || !c.Started.IsZero() || !c.Finished.IsZero() {
			t.Errorf("%s, code %d, started %v, ended %v", c.Status, c.ExitCode, c.Started, c.Finished)
		}
	}
}

// TestFailsLater: a container that ran well and cannot be started any more stays one that has ended, with why: the code is that of the start where the program is
// what fails, and of the last run where something fails before. Nothing has begun, and so nothing is told of an end.
func TestFailsLater(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), t.Context()
	prog, source := filepath.Join(root, "prog"), filepath.Join(t.TempDir(), "source")
	for _, test := range []struct {
		name, gone string
		failed     int // of the command
		code       int // of the container
		text       string
	}{
		{"program", prog, 127, 127, `exec: "/prog": exec /prog: no such file or directory`},
		{"source of a mount", source, 125, 3, "there is no " + source + " on the host"},
	} {
		begin := time.Now()
		if err := errors.Join(os.WriteFile(prog, []byte("#!/bin/sh\nexit 3\n"), 0o755), os.MkdirAll(source, 0o755)); err != nil {
			t.Fatal(err)
		}
		c := started(t, e, Config{Rootfs: root, Command: []string{"/prog"}, Mounts: []Mount{{Type: "bind", Source: source, Dest: "/mnt", MustHave: true, Flag: "--mount"}}})
		before := ended(t, e, c.ID)
		if err := os.Remove(test.gone); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			var exit *ExitError
			if err := e.Start(ctx, c.ID, StartOptions{}); !errors.As(err, &exit) || exit.Code != test.failed || !strings.Contains(err.Error(), test.text) {
				t.Fatalf("%s: %v", test.name, err)
			}
			if c = found(t, e, c.ID); c.Status != monitor.Exited || c.ExitCode != test.code || !strings.Contains(c.Error, test.text) || c.Restarts != 0 || !c.Started.Equal(before.Started) || c.Finished.IsZero() {
				t.Errorf("%s: %+v", test.name, c.State)
			}
		}
		var told []string
		err := e.Events(ctx, EventOptions{Since: begin, Until: time.Now(), Filters: Filters{"container": {c.ID}}}, func(x Event) error {
			told = append(told, x.Action)
			return nil
		})
		if err != nil || strings.Join(told, " ") != "create start die" {
			t.Errorf("%s: events %q, %v", test.name, told, err)
		}
	}
}

// TestRestartFails: a start by the policy that fails is an end like any other, after which the policy tries again: what is missing may come back.
func TestRestartFails(t *testing.T) {
	nstest.Root(t)
	e, root, ctx := open(t), nstest.RootFS(t), t.Context()
	nstest.NoLeaks(t, e.dir)
	prog := filepath.Join(root, "prog")
	write := func() {
		if err := os.WriteFile(prog, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []Restart{{Policy: "always"}, {Policy: "on-failure", Retries: 2}} {
		write()
		c := started(t, e, Config{Rootfs: root, Command: []string{"/prog"}, Restart: p})
		if err := errors.Join(os.Remove(prog), unix.Kill(c.PID, unix.SIGKILL)); err != nil {
			t.Fatal(err)
		}
		nstest.Until(t, "the second attempt", func() bool { c = found(t, e, c.ID); return c.Restarts >= 2 && c.Status != monitor.Running })
		if c.ExitCode != 127 || !strings.Contains(c.Error, `exec: "/prog": exec /prog: no such file or directory`) || c.Death == nil || c.Death.Cause != "setup" {
			t.Errorf("%v: %+v", p, c.State)
		}
		if p.Retries > 0 {
			if c = ended(t, e, c.ID); c.Status != monitor.Exited || c.Restarts != p.Retries || c.ExitCode != 127 {
				t.Errorf("%v: %+v", p, c.State)
			}
			continue
		}
		write()
		nstest.Until(t, "a start that works", func() bool { c = found(t, e, c.ID); return c.Status == monitor.Running })
		if c.Error != "" || c.ExitCode != 0 || c.Death != nil {
			t.Errorf("%v: it runs, and its state is %+v", p, c.State)
		}
		if err := e.Stop(ctx, c.ID, StopOptions{Signal: "KILL"}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestartThatFailsKeeps: a container that cannot be started again stays, with what it has written, and starts when what was missing is there.
func TestRestartThatFailsKeeps(t *testing.T) {
	nstest.Root(t)
	e, ctx, dir := open(t), t.Context(), nstest.Dir(t)
	if err := os.Mkdir(dir+"/x", 0o755); err != nil {
		t.Fatal(err)
	}
	c := started(t, e, Config{Rootfs: nstest.RootFS(t), Command: []string{"sleep", "1000"}, StopSignal: "KILL", Mounts: []Mount{{Type: "bind", Source: dir + "/x", Dest: "/mnt", MustHave: true}}})
	if err := os.Rename(dir+"/x", dir+"/y"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // once while it runs
		if err := e.Restart(ctx, c.ID, StopOptions{}); err == nil {
			t.Error("it was started")
		}
		if c := found(t, e, c.ID); c.Status != monitor.Exited || c.Error == "" {
			t.Errorf("it is %+v", c.State)
		}
	}
	if err := os.Rename(dir+"/y", dir+"/x"); err != nil {
		t.Fatal(err)
	}
	if err := e.Restart(ctx, c.ID, StopOptions{}); err != nil {
		t.Error(err)
	}
}

// An image that is not there is not run.
func TestNoImage(t *testing.T) {
	nstest.Root(t)
	refused(t, open(t), Config{Image: "debian", Pull: "never", Command: []string{"true"}}, 125, "No such image: debian:latest")
}

// What a container is by default, read from inside.
func TestDefaultContainer(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	t.Setenv("KAKURI_SECRET", "of the caller")
	out, code, err := inside(t, e, sh(root, `
		for ns in cgroup ipc mnt net pid time user uts; do echo ns $ns $(readlink /proc/self/ns/$ns); done
		grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status
		cat /proc/self/uid_map /proc/self/gid_map
		umask; ulimit -c; ulimit -H -c; hostname; env; pwd; cat /proc/self/oom_score_adj; ls -l /proc/self/fd 2>/dev/null | sed 's/.* \([0-9]*\) -> /fd \1 /'
		ls /dev; cat /proc/net/dev; ps -o pid,comm
		for p in /proc/kcore /proc/keys /proc/timer_list /proc/kallsyms /proc/interrupts; do test -e $p && test -n "$(head -c1 $p 2>/dev/null | tr '\0' x)" && echo shown $p; done
		for p in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/mm; do test -w $p && touch -c $p 2>/dev/null && echo writable $p; done
		dmesg >/dev/null 2>&1 && echo dmesg; mount -t tmpfs x /mnt 2>/dev/null && echo mount; mknod /tmp/n c 1 3 2>/dev/null && echo mknod; chroot / true || echo no chroot
		true`))
	if err != nil || code != 0 {
		t.Fatalf("%v: code %d: %s", err, code, out)
	}
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		m := regexp.MustCompile(`ns ` + ns + ` (\S+)`).FindStringSubmatch(out)
		if mine, _ := os.Readlink("/proc/self/ns/" + ns); m == nil || m[1] == mine {
			t.Errorf("no %s namespace of its own", ns)
		}
	}
	for _, line := range []string{
		"CapInh:\t0000000000000000", "CapPrm:\t00000000800405fb", "CapEff:\t00000000800405fb", "CapBnd:\t00000000800405fb", "CapAmb:\t0000000000000000",
		"NoNewPrivs:\t0", "Seccomp:\t2", "0022", "PATH=" + defaultPath, "HOME=/root",
	} {
		if !strings.Contains("\n"+out, "\n"+line+"\n") {
			t.Errorf("%q is not there", line)
		}
	}
	if m := regexp.MustCompile(`(?m)^ +0 +(\d+) +65536$`).FindAllStringSubmatch(out, -1); len(m) != 2 || m[0][1] != m[1][1] || len(m[0][1]) != 10 {
		t.Errorf("id maps: %v", m)
	}
	if m := regexp.MustCompile(`(?m)^HOSTNAME=([0-9a-f]{12})$`).FindStringSubmatch(out); m == nil || !strings.Contains(out, "\n"+m[1]+"\n") {
		t.Error("the host name is not the id")
	}
	for _, bad := range []string{"KAKURI_SECRET", "shown ", "writable ", "\ndmesg\n", "\nmount\n", "\nmknod\n", "no chroot", "eth0", "fd 4 "} {
		if strings.Contains(out, bad) {
			t.Errorf("%q is there", bad)
		}
	}
	devices := strings.Fields("console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero")
	for _, d := range []string{"null", "zero", "full", "random", "urandom", "tty", "pts", "shm", "mqueue", "fd", "stdin", "ptmx"} {
		if !slices.Contains(devices, d) || !regexp.MustCompile(`(?m)^`+d+`$`).MatchString(out) {
			t.Errorf("/dev/%s is not there", d)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// The host's tree is gone: one mount at "/", and every other one below what the container
// was given.
func TestHostTreeIsGone(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	volume := nstest.Dir(t)
	for name, r := range map[string]Config{
		"rootfs": {Rootfs: root}, "rootfs, host's user namespace": {Rootfs: root, UserNS: "host"}, "host": {Image: "host"}, "host, read-only": {Image: "host", ReadOnly: true},
		"host, host's user namespace": {Image: "host", UserNS: "host"}, "volume": {Rootfs: root, Mounts: []Mount{{Type: "bind", Source: volume, Dest: "/data", Options: []string{"rbind"}, Flag: "-v"}}},
	} {
		r.Command = []string{"cat", "/proc/self/mountinfo"}
		out, code, err := inside(t, e, r)
		if err != nil || code != 0 {
			t.Errorf("%s: %v: code %d", name, err, code)
			continue
		}
		roots := 0
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			if f[4] == "/" {
				roots++
			}
			// Sources and points of the test's own mounts.
			if strings.Contains(line, "nstest") || strings.Contains(f[4], "/sys/fs/cgroup") && f[3] != "/" || (strings.Contains(line, volume) && f[4] != "/data") || (strings.Contains(line, root) && f[4] != "/") {
				t.Errorf("%s: a mount of the host: %s", name, line)
			}
			if strings.Contains(line, " shared:") {
				t.Errorf("%s: a mount has peers: %s", name, line)
			}
		}
		if roots != 1 {
			t.Errorf("%s: %d mounts at /:\n%s", name, roots, out)
		}
	}
}

func TestReadOnly(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	r := sh(root, "touch /x 2>/dev/null || echo ro; touch /etc/x 2>/dev/null || echo ro; touch /dev/shm/x && echo shm; touch /t/x && echo tmpfs")
	r.ReadOnly, r.Mounts = true, []Mount{{Type: "tmpfs", Dest: "/t", Flag: "--tmpfs /t"}}
	want(t, e, r, "ro\nro\nshm\ntmpfs\n")
}

// A privileged container mounts for the host, as with Docker, below a volume that both have shared. One with a user namespace of its own does not, nor
// does it unmount there, whatever capabilities it has.
func TestSharedVolume(t *testing.T) {
	nstest.Root(t)
	e, root, dir := open(t), nstest.RootFS(t), nstest.Dir(t)
	nstest.NoLeaks(t)
	if err := errors.Join(os.Mkdir(dir+"/below", 0o755), unix.Mount(dir, dir, "", unix.MS_BIND, ""), unix.Mount("", dir, "", unix.MS_SHARED, "")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	// Where the host's mount is not shared, nothing would go to and fro: that is told, and not left to be found out.
	for option, text := range map[string]string{"rshared": "is not a shared mount", "slave": "is not a shared or slave mount"} {
		r := Config{Rootfs: root, Command: []string{"true"}, Mounts: []Mount{{Type: "bind", Source: nstest.Dir(t), Dest: "/data", Options: []string{option, "rbind"}, Flag: "-v"}}}
		if _, err := e.Run(t.Context(), r, Streams{}, RunOptions{}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s of a private mount: %v", option, err)
		}
	}
	for _, c := range []struct {
		option, bind        string
		privileged, reaches bool
	}{
		{"rshared", "rbind", true, true}, {"rslave", "rbind", true, false}, {"rprivate", "rbind", true, false},
		{"rshared", "rbind", false, false}, {"shared", "bind", false, false}, {"slave", "bind", false, false},
	} {
		r := sh(root, "/bin/busybox mount -t tmpfs none /data/below && touch /data/below/mark && ls /data/below")
		r.Privileged, r.Mounts = c.privileged, []Mount{{Type: "bind", Source: dir, Dest: "/data", Options: []string{c.option, c.bind}, Flag: "-v"}}
		if !c.privileged {
			r.CapAdd = []string{"SYS_ADMIN"}
		}
		want(t, e, r, "mark\n")
		_, err := os.Stat(dir + "/below/mark")
		if got := err == nil; got != c.reaches {
			t.Errorf("%+v: a mount made inside reaches the host: %v", c, got)
		}
		if err == nil {
			if err := unix.Unmount(dir+"/below", unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A container may have more volumes than half of what a plan's registers can hold.
func TestManyVolumes(t *testing.T) {
	nstest.Root(t)
	e, root, dir := open(t), nstest.RootFS(t), nstest.Dir(t)
	nstest.NoLeaks(t)
	if err := os.WriteFile(dir+"/file", []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := sh(root, "cat /v0/file /v149/file; /bin/busybox grep -c ' /v[0-9]* ' /proc/self/mountinfo")
	for i := range 150 {
		r.Mounts = append(r.Mounts, Mount{Type: "bind", Source: dir, Dest: fmt.Sprintf("/v%d", i), Options: []string{"rbind"}, Flag: "-v"})
	}
	want(t, e, r, "texttext150\n")
}

// A bind mount of the host's root shows that, and not the container's own root, which is attached over it.
func TestWholeHost(t *testing.T) {
	nstest.Root(t)
	e, root, dir := open(t), nstest.RootFS(t), nstest.Dir(t)
	nstest.NoLeaks(t)
	put(t, dir+"/file", "of the host")
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	put(t, dir+"/file", "of a mount below it")
	for _, ns := range []string{"", "host"} {
		for _, options := range [][]string{{"rbind"}, {"rbind", "ro"}} {
			r := sh(root, "cat /all"+dir+"/file; test -e /all/all && echo the own root")
			r.Mounts, r.UserNS = []Mount{{Type: "bind", Source: "/", Dest: "/all", Options: options, Flag: "-v"}}, ns
			if out, _, err := inside(t, e, r); err != nil || out != "of a mount below it" {
				t.Errorf("--userns %q, %q: %q, %v", ns, options, out, err)
			}
		}
	}
}

// A source is shortened by its text before the kernel looks it up, as Docker's is: "link/.." is what the link is in.
func TestSourceIsShortened(t *testing.T) {
	nstest.Root(t)
	e, root, dir := open(t), nstest.RootFS(t), nstest.Dir(t)
	nstest.NoLeaks(t)
	put(t, dir+"/file", "text")
	put(t, dir+"/far/away/file", "of where the link leads")
	if err := os.Symlink("far/away", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	r := sh(root, "cat /dir/file /file")
	for dest, source := range map[string]string{"/dir": dir + "/link/..", "/file": dir + "/file/"} {
		r.Mounts = append(r.Mounts, Mount{Type: "bind", Source: source, Dest: dest, Options: []string{"rbind"}, Flag: "-v"})
	}
	want(t, e, r, "texttext")
}

// Files of a volume have the ids inside that they have on disk, and what is written gets
// those as well; a read-only one stays as it is.
func TestVolumes(t *testing.T) {
	nstest.Root(t)
	e, root, dir := open(t), nstest.RootFS(t), nstest.Dir(t)
	nstest.NoLeaks(t)
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "file"), 33, 44); err != nil {
		t.Fatal(err)
	}
	bind := func(source, dest string, options ...string) Mount {
		return Mount{Type: "bind", Source: source, Dest: dest, Options: append([]string{"rbind"}, options...), Flag: "-v"}
	}
	r := sh(root, "stat -c %u:%g /data/file; touch /data/new && chown 5:6 /data/new; cat /data/file")
	r.Mounts = []Mount{bind(dir, "/data")}
	want(t, e, r, "33:44\ntext")
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "new"), &st); err != nil || st.Uid != 5 || st.Gid != 6 {
		t.Errorf("%v: on disk %d:%d", err, st.Uid, st.Gid)
	}
	// As another user: file modes count.
	r = sh(root, "cat /data/file 2>/dev/null || echo closed; touch /data/x 2>/dev/null || echo closed")
	r.Mounts, r.User = []Mount{bind(dir, "/data")}, "1234"
	want(t, e, r, "closed\nclosed\n")
	r.User = "33"
	r.Command[2] = "cat /data/file"
	want(t, e, r, "text")
	r = sh(root, "touch /data/x 2>/dev/null || echo ro; echo x 2>/dev/null >/data/file || echo ro; rm /data/new 2>/dev/null || echo ro")
	r.Mounts = []Mount{bind(dir, "/data", "ro")}
	want(t, e, r, "ro\nro\nro\n")
	// A file, over one of the image.
	r = sh(root, "cat /etc/passwd; echo more >>/etc/passwd")
	r.Mounts = []Mount{bind(filepath.Join(dir, "file"), "/etc/passwd")}
	want(t, e, r, "text")
	if data, _ := os.ReadFile(filepath.Join(dir, "file")); string(data) != "textmore\n" {
		t.Errorf("%q", data)
	}
	// Missing places are made, in the image; missing sources on the host, by -v alone.
	r = sh(root, "ls -d /new/place; ls -A /new/place")
	missing := filepath.Join(dir, "sub/dir")
	r.Mounts = []Mount{bind(missing, "/new/place")}
	want(t, e, r, "/new/place\n")
	if st, err := os.Stat(missing); err != nil || !st.IsDir() {
		t.Errorf("%v: -v does not make its source", err)
	}
	r.Mounts = []Mount{{Type: "bind", Source: filepath.Join(dir, "none"), Dest: "/x", MustHave: true, Flag: "--mount type=bind"}}
	refused(t, e, r, 125, "there is no "+filepath.Join(dir, "none"))
	r.Mounts = []Mount{bind("/proc/1/no/such", "/x")}
	refused(t, e, r, 125, "")
	// A link in the image does not lead a volume out of it.
	if err := os.Symlink(dir, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	r = sh(root, "ls /link 2>/dev/null; ls -A "+dir)
	r.Mounts = []Mount{{Type: "tmpfs", Dest: "/link/below", Flag: "--tmpfs"}}
	if out, code, err := inside(t, e, r); err == nil && (code != 0 || strings.Contains(out, "file")) {
		t.Errorf("code %d: %q", code, out)
	}
	if exists(filepath.Join(dir, "below")) {
		t.Error("a mount point was made on the host")
	}
}

// Modes of namespaces: with the host, and with another container.
func TestSharedNamespaces(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	link := func(pid int, ns string) string {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		return to
	}
	for ns, r := range map[string]Config{"pid": {PID: "host"}, "ipc": {IPC: "host"}, "uts": {UTS: "host"}, "net": {Network: "host"}, "user": {UserNS: "host"}, "cgroup": {CgroupNS: "host"}} {
		r.Rootfs, r.Command = root, []string{"readlink", "/proc/self/ns/" + ns}
		want(t, e, r, link(os.Getpid(), ns)+"\n")
	}
	stop, c := running(t, e, Config{Name: "base", Rootfs: root, Hostname: "base", IPC: "shareable", Command: []string{"sleep", "100"}})
	defer stop()
	for ns, r := range map[string]Config{
		"pid": {PID: "container:base"}, "ipc": {IPC: "container:base"}, "uts": {UTS: "container:base"}, "net": {Network: "container:" + c.ID[:12]}, "user": {Network: "container:base"},
	} {
		r.Rootfs, r.Command = root, []string{"readlink", "/proc/self/ns/" + ns}
		want(t, e, r, link(c.PID, ns)+"\n")
	}
	r := sh(root, "ps -o comm | grep -c sleep; hostname; kill -0 1 && echo may signal")
	r.PID, r.UTS = "container:base", "container:base"
	want(t, e, r, "1\nbase\nmay signal\n")
}

// running starts a container and waits until it runs; stop ends it.
func running(t testing.TB, e *Engine, r Config) (stop func(), c Container) {
	t.Helper()
	r.AutoRemove = true
	ctx, cancel := context.WithCancel(context.Background())
	started := make(chan Container, 1)
	done := make(chan error, 1)
	var stderr bytes.Buffer
	go func() {
		_, err := e.Run(ctx, r, Streams{Err: &stderr, Started: func(c Container) { started <- c }}, RunOptions{})
		done <- err
	}()
	select {
	case c = <-started:
	case err := <-done:
		cancel()
		if err != nil && strings.Contains(err.Error(), "cannot be id-mapped") {
			t.Skip("needs Linux 6.3 or newer: an id-mapped tmpfs")
		}
		t.Fatalf("ended at once: %v %s", err, stderr.String())
	case <-time.After(2 * time.Minute):
		cancel()
		t.Fatal("does not start")
	}
	return func() { cancel(); <-done }, c
}

// The record of a running container, and the plan it was made by.
func TestRecordOfARun(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	for _, init := range []bool{false, true} {
		stop, c := running(t, e, Config{Name: "web", Rootfs: root, Init: init, Command: []string{"sleep", "100"}})
		list, err := e.List(ListOptions{})
		if err != nil || len(list) != 1 || list[0].Name != "web" || list[0].PID != c.PID || !list[0].UserNS || time.Since(list[0].Created) > time.Minute {
			t.Errorf("%v: %+v", err, list)
		}
		found, p, err := e.Plan("web")
		if err != nil || found.ID != c.ID || len(p.Steps) < 30 {
			t.Errorf("%v: %d steps", err, len(p.Steps))
		}
		var last plan.Op = &plan.Umask{}
		if len(p.Steps) > 0 {
			last = p.Steps[len(p.Steps)-1].Op
		}
		if x, ok := last.(*plan.Exec); !ok || !slices.Equal(x.Args, []string{"sleep", "100"}) {
			t.Errorf("the plan ends with %v", last)
		}
		nstest.Until(t, "the command", func() bool {
			comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", found.CommandPID()))
			return string(comm) == "sleep\n"
		})
		refused(t, e, Config{Name: "web", Rootfs: root, Command: []string{"true"}}, 125, `The container name "/web" is already in use`)
		stop()
		if list, err := e.List(ListOptions{}); err != nil || len(list) != 0 {
			t.Errorf("%v: %+v", err, list)
		}
	}
}

// What does not run has no namespaces to share.
func TestJoinStopped(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	c, err := e.Create(t.Context(), Config{Name: "web", Rootfs: root, IPC: "shareable", Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Remove(t.Context(), c.ID, RemoveOptions{})
	for what, c := range map[string]Config{"network": {Network: "container:web"}, "PID": {PID: "container:web"}, "IPC": {IPC: "container:web"}, "user namespace": {UserNS: "container:web"}} {
		c.Rootfs, c.Command = root, []string{"true"}
		refused(t, e, c, 125, "cannot join "+what+" of a non running container: web: start that one first")
	}
	if _, err := e.Create(t.Context(), Config{Name: "own", Rootfs: root, PID: "container:own", Command: []string{"true"}}); err == nil || err.Error() != "cannot join own PID" {
		t.Errorf("a container that is to join itself: %v", err)
	}
	if err := e.NetworkConnect(t.Context(), "web", "none", Attachment{}); err == nil || err.Error() != "network web not found (web is a container: network connect NETWORK CONTAINER)" {
		t.Errorf("connect of a container in the place of the network: %v", err)
	}
}

// A context that is cancelled ends the container.
func TestCancel(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	ctx, cancel := context.WithCancel(context.Background())
	res, err := e.Run(ctx, Config{Rootfs: root, AutoRemove: true, Command: []string{"sleep", "100"}}, Streams{Started: func(Container) { cancel() }}, RunOptions{})
	if err != nil || res.Code != 137 {
		t.Errorf("%v: code %d", err, res.Code)
	}
	if _, err := e.Run(ctx, Config{Rootfs: root, Command: []string{"true"}}, Streams{}, RunOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Containers beside each other have ranges of ids of their own.
func TestRangesOfIDs(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	var all, up sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	up.Add(8)
	for range 8 {
		all.Go(func() {
			stop, c := running(t, e, Config{Rootfs: root, Command: []string{"sleep", "100"}})
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", c.PID))
			mu.Lock()
			base := strings.Fields(string(data))
			if err != nil || len(base) != 3 || seen[base[1]] || base[1] != strconv.Itoa(int(slotBase(c.Slot))) {
				t.Errorf("%v: %q for range %d", err, data, c.Slot)
			} else {
				seen[base[1]] = true
			}
			mu.Unlock()
			up.Done()
			up.Wait() // a range is free again once its container has ended
			stop()
		})
	}
	all.Wait()
}

func TestTimings(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, memory := range []int64{0, 64 << 20} { // with a limit it has its control groups mounted, whose plan needs more facts
		r := Config{Rootfs: root, AutoRemove: true, Command: []string{"true"}, Resources: Resources{Memory: memory}}
		res, err := e.Run(context.Background(), r, Streams{}, RunOptions{Timings: true})
		if err != nil || len(res.Timings) != len(res.Plan.Steps) || len(res.Timings) == 0 {
			t.Errorf("%v: %d timings of %d steps", err, len(res.Timings), len(res.Plan.Steps))
		}
	}
}

// Clocks, limits, shared memory and devices as they were asked for.
func TestRunOptions(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	r := sh(root, "cut -d. -f1 /proc/uptime")
	r.Boottime = 1000 * time.Hour
	out, _, err := inside(t, e, r)
	if up, _ := strconv.Atoi(strings.TrimSpace(out)); err != nil || up < 3_600_000 {
		t.Errorf("%v: uptime %s", err, out)
	}
	r = sh(root, "ulimit -n; ulimit -H -n")
	r.Ulimits = []Ulimit{{"nofile", 77, 99}}
	want(t, e, r, "77\n99\n")
	r = sh(root, "df -k /dev/shm | tail -1 | awk '{print $2}'")
	r.ShmSize = 1 << 20
	want(t, e, r, "1024\n")
	r = sh(root, "stat -c '%F %t:%T %u' /dev/mine; head -c3 /dev/mine | tr '\\0' z")
	r.Devices = []Device{{Host: "/dev/zero", Inside: "/dev/mine", Access: "rwm", Flag: "/dev/zero:/dev/mine"}}
	want(t, e, r, "character special file 1:5 0\nzzz")
	r = sh(root, "hostname; cat /proc/sys/kernel/domainname")
	r.Hostname, r.Domainname = "h1", "d1"
	want(t, e, r, "h1\nd1\n")
	r = sh(root, "grep NoNewPrivs /proc/self/status")
	r.SecurityOpt = []string{"no-new-privileges"}
	want(t, e, r, "NoNewPrivs:\t1\n")
	r = sh(root, "grep -E 'CapEff|Seccomp:' /proc/self/status; mount -t tmpfs x /mnt 2>/dev/null || mount -t tmpfs x /tmp && echo mounts")
	r.CapDrop, r.CapAdd, r.SecurityOpt = []string{"all"}, []string{"sys_admin"}, []string{"seccomp=unconfined"}
	want(t, e, r, "CapEff:\t0000000000200000\nSeccomp:\t0\nmounts\n")
	r = sh(root, "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax")
	r.Sysctls = map[string]string{"net.ipv4.ip_default_ttl": "42", "kernel.msgmax": "9000"}
	want(t, e, r, "42\n9000\n")
	r = sh(root, "ps -o pid,comm | grep -v ps; echo")
	r.Init = true
	if out, code, err := inside(t, e, r); err != nil || code != 0 || !regexp.MustCompile(`(?m)^ +1 init$`).MatchString(out) {
		t.Errorf("%v %d %q", err, code, out)
	}
	r = sh(root, "id -u; grep CapEff /proc/self/status; head -c1 /proc/kcore >/dev/null 2>&1; test -e /dev/kmsg && echo kmsg")
	r.Privileged = true
	out, _, err = inside(t, e, r)
	if err != nil || !strings.Contains(out, "kmsg") || strings.Contains(out, "0000000000000000") {
		t.Errorf("%v %q", err, out)
	}
}

// Processes of other users, and ids of nobody, cannot be reached from a container.
func TestKillOutside(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	r := sh(root, fmt.Sprintf("kill -0 %d 2>/dev/null && echo reached; kill -0 1 2>/dev/null && echo reached; true", os.Getpid()))
	r.PID = "host"
	want(t, e, r, "")
	if err := syscall.Kill(os.Getpid(), 0); err != nil {
		t.Fatal(err)
	}
}

// A monitor that cannot be started is what a run and a start say, also though they go on while it begins, and nothing is left of them.
func TestRunWithoutMonitor(t *testing.T) {
	e := open(t)
	c, err := e.Create(t.Context(), Config{Image: "host", Command: []string{"true"}, Name: "made"})
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(nstest.Dir(t), "kakuri-runtime")
	if err := os.WriteFile(broken, []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	works := e.program
	for _, e.program = range []string{filepath.Dir(broken) + "/none", broken} {
		for _, o := range []RunOptions{{}, {Detach: true}} {
			_, err := e.Run(t.Context(), Config{Image: "host", Command: []string{"true"}, AutoRemove: true}, Streams{Out: io.Discard}, o)
			var exit *ExitError
			if !errors.As(err, &exit) || exit.Code != 125 || !strings.Contains(err.Error(), e.program) {
				t.Errorf("%s, %+v: %v", e.program, o, err)
			}
		}
		if err := e.Start(t.Context(), c.ID, StartOptions{}); err == nil || !strings.Contains(err.Error(), e.program) {
			t.Errorf("start by %s: %v", e.program, err)
		}
	}
	e.program = works
	if err := e.Remove(t.Context(), c.ID, RemoveOptions{}); err != nil {
		t.Error(err)
	}
	empty(t, e)
}

// TestEndInSteps: who waits for the end of a container that is to be removed is told of each step after which something more of it may go.
func TestEndInSteps(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	for remove, want := range map[bool]string{true: "ending empty exit", false: "exit"} {
		cfg := sh(root, "exec sleep 1000")
		cfg.AutoRemove = remove
		res, err := e.Run(t.Context(), cfg, Streams{}, RunOptions{Detach: true})
		if err != nil {
			t.Fatal(err)
		}
		m, err := monitor.Dial(e.dir, res.ID)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := m.Stop(unix.SIGKILL, 0); err != nil {
			t.Fatal(err)
		}
		var steps []string
		for {
			msg, err := m.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for step, is := range map[string]bool{"ending": msg.Ending, "empty": msg.Empty, "exit": msg.Exit != nil} {
				if is {
					steps = append(steps, step)
				}
			}
		}
		if got := strings.Join(steps, " "); got != want {
			t.Errorf("with --rm %v: %q, want %q", remove, got, want)
		}
		if !remove {
			if err := e.Remove(t.Context(), res.ID, RemoveOptions{}); err != nil {
				t.Error(err)
			}
		}
	}
}
