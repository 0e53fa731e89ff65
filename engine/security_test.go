package engine

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// What other engines were seen to get wrong, tried here as people would run it.
// The names are those of the advisories; launch has tests of single plans.

// canary is a directory of the host with a file in it; the test fails when anything
// of it changes.
func canary(t testing.TB) string {
	t.Helper()
	dir := nstest.Dir(t)
	if err := os.WriteFile(filepath.Join(dir, "mark"), []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"c", "d", "pts", "shm"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	nstest.Unchanged(t, dir)
	return dir
}

// userns are the two ways to run: with a user namespace, and without.
var userns = []string{"", "host"}

// A container makes the engine run the engine's own program, by /proc/self/exe as its
// command or as the interpreter of a script, while another process of it tries to write to that
// file.
func TestCVE_2019_5736(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	// Copies that could be written: those that were built lie on a read-only mount.
	dir := nstest.Dir(t)
	program, runtime := filepath.Join(dir, "kakuri"), filepath.Join(dir, "kakuri-runtime")
	var data []byte // of the one that becomes the container's process
	for _, p := range []string{program, runtime} {
		var err error
		if data, err = os.ReadFile(nstest.Binary(t, filepath.Base(p))); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(runtime, &st); err != nil {
		t.Fatal(err)
	}
	before := sha256.Sum256(data)
	root := nstest.RootFS(t)
	for name, text := range map[string]string{"script": "#!/proc/self/exe unshare\n", "script2": "#!/proc/self/fd/3\n"} {
		if err := os.WriteFile(filepath.Join(root, "bin", name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	rounds := 6
	if testing.Short() {
		rounds = 4
	}
	for _, mode := range userns {
		t.Run("userns "+mode, func(t *testing.T) {
			flags := []string{"--rootfs", root}
			if mode != "" {
				flags = append(flags, "--userns", mode)
			}
			c := exec.Command(program, append(append([]string{"run", "--rm", "-i", "--name", "thief", "-v", nstest.Exe + ":/thief"}, flags...), "/thief", fmt.Sprint(st.Dev), fmt.Sprint(st.Ino))...)
			stdin, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			c.Stderr = os.Stderr
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(stdout)
			if line, err := lines.ReadString('\n'); err != nil || line != "ready\n" {
				stdin.Close()
				c.Wait()
				t.Fatalf("%v: %q", err, line)
			}
			for range rounds {
				for _, command := range [][]string{{"/proc/self/exe", "unshare", "sleep", "0.05"}, {"script"}, {"script2"}, {"/proc/self/exe", "--version"}, {"/proc/1/exe", "-test.run=^$"}} {
					// The user namespace is joined with the pids.
					args := append(append([]string{"run", "--rm", "--pid", "container:thief"}, flags...), command...)
					exec.Command(program, args...).Run()
				}
				// With an init, a copy of the engine's process stays there.
				exec.Command(program, append(append([]string{"run", "--rm", "--init", "--pid", "container:thief"}, flags...), "sleep", "0.02")...).Run()
			}
			stdin.Close()
			rest, err := io.ReadAll(lines)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Wait(); err != nil {
				t.Error(err)
			}
			var looked, held, wrote int
			if n, err := fmt.Sscanf(string(rest), "looked at %d, held %d, wrote %d\n", &looked, &held, &wrote); n != 3 || looked < rounds {
				t.Errorf("%v: the thief says %q", err, rest)
			}
			if wrote != 0 {
				t.Errorf("a container wrote %d times to the engine's program", wrote)
			}
			if held != 0 {
				t.Logf("a container opened the engine's program for reading")
			}
			after, err := os.ReadFile(runtime)
			if err != nil || sha256.Sum256(after) != before {
				t.Errorf("%v: the engine's program is another", err)
			}
		})
	}
}

// /proc or /sys of the image is a link, or a volume lies there: what the kernel shows is
// masked and read-only all the same, or the run is refused.
func TestCVE_2019_19921_2023_27561(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	nstest.NoLeaks(t, e.dir)
	host := canary(t)
	look := "cat /proc/timer_list /proc/kcore /proc/keys 2>/dev/null | head -c1; for f in /proc/sys/vm/drop_caches /proc/sys/kernel/core_pattern /proc/sysrq-trigger /tmp/sys/vm/drop_caches; do " +
		"test -e $f && (echo 1 >$f) 2>/dev/null && echo written $f; done; for d in /sys /proc /proc/sys; do umount $d 2>/dev/null && echo unmounted $d; done; true"
	for _, mode := range userns {
		for _, link := range []struct{ at, to string }{{"proc", "/tmp"}, {"proc", host}, {"proc", "/sys"}, {"sys", "/proc"}, {"sys", host}, {"proc", "../../../../.." + host}} {
			root := nstest.RootFS(t)
			if err := os.Remove(filepath.Join(root, link.at)); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(link.to, filepath.Join(root, link.at)); err != nil {
				t.Fatal(err)
			}
			r := sh(root, look)
			r.UserNS = mode
			if out, _, err := inside(t, e, r); err == nil && out != "" {
				t.Errorf("%s is a link to %s, userns %q: %q", link.at, link.to, mode, out)
			}
		}
		volume := nstest.Dir(t)
		for _, dest := range []string{"/proc", "/sys", "/proc/sys", "/proc/self"} {
			r := sh(nstest.RootFS(t), look)
			r.UserNS, r.Mounts = mode, []Mount{{Type: "bind", Source: volume, Dest: dest, Options: []string{"rbind"}, Flag: "-v " + dest}}
			out, _, err := inside(t, e, r)
			if dest == "/sys" && err == nil && out == "" {
				continue // a volume like any other
			}
			if err == nil || !strings.Contains(err.Error(), "cannot be mounted because it is") {
				t.Errorf("a volume on %s, userns %q: %q, %v", dest, mode, out, err)
			}
		}
	}
}

// Two containers share a volume; one swaps a directory of it with a link to the host, while the
// other starts with mounts below it.
func TestCVE_2021_30465_and_2024_45310(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	host := canary(t)
	volume := nstest.Dir(t)
	if err := os.MkdirAll(filepath.Join(volume, "a/c"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(host, filepath.Join(volume, "evil")); err != nil {
		t.Fatal(err)
	}
	root := nstest.RootFS(t)
	shared := Mount{Type: "bind", Source: volume, Dest: "/vol", Options: []string{"rbind"}, Flag: "-v"}
	stop, _ := running(t, e, Config{
		Rootfs: root, Interactive: true, Command: []string{"/swapper", "/vol/a", "/vol/evil"},
		Mounts: []Mount{shared, {Type: "bind", Source: nstest.Exe, Dest: "/swapper", Options: []string{"rbind"}, Flag: "-v"}},
	})
	defer stop()
	rounds := 70
	if testing.Short() {
		rounds = 30
	}
	worked := 0
	for i := range rounds {
		r := sh(root, "cat /vol/a/mark /vol/evil/mark 2>/dev/null; true")
		r.UserNS = userns[i%2]
		r.Mounts = []Mount{
			shared, {Type: "tmpfs", Dest: "/vol/a/c", Flag: "--tmpfs"}, {Type: "tmpfs", Dest: "/vol/a/new/deep", Flag: "--tmpfs"},
			{Type: "bind", Source: "/etc/passwd", Dest: "/vol/a/file", Options: []string{"rbind", "ro"}, Flag: "-v"},
		}
		r.Mounts[3].Source = filepath.Join(root, "etc/passwd")
		out, _, err := inside(t, e, r)
		if err == nil {
			worked++
		}
		if out != "" {
			t.Fatalf("the host is to be seen: %q", out)
		}
	}
	if worked == 0 {
		t.Error("no run got through: the race was not tried to its end")
	}
}

// A working directory that leads through a descriptor of the engine.
func TestCVE_2024_21626(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	if err := os.Symlink("/proc/self/fd/7", filepath.Join(root, "fd7")); err != nil {
		t.Fatal(err)
	}
	for n := 3; n <= 31; n++ {
		for _, dir := range []string{fmt.Sprintf("/proc/self/fd/%d", n), fmt.Sprintf("/proc/1/fd/%d", n), "/fd7"} {
			r := sh(root, "pwd")
			r.Workdir, r.UserNS = dir, userns[n%2]
			if out, code, err := inside(t, e, r); err == nil {
				t.Errorf("-w %s works: code %d, %q", dir, code, out)
			}
		}
	}
}

// /dev of the image leads to the host, and its devices are links.
func TestCVE_2026_41579_and_2025_31133(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	nstest.NoLeaks(t, e.dir)
	host := canary(t)
	for _, mode := range userns {
		for _, target := range []string{host, strings.Repeat("../", 30) + host[1:], "/proc/self/cwd" + host, "/tmp"} {
			root := nstest.RootFS(t)
			if err := os.Remove(filepath.Join(root, "dev")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, filepath.Join(root, "dev")); err != nil {
				t.Fatal(err)
			}
			r := sh(root, "cat /dev/mark 2>/dev/null; stat -L -c '%F %t:%T' /dev/null; echo x 2>/dev/null >/proc/sysrq-trigger && echo written; true")
			r.UserNS = mode
			if out, _, err := inside(t, e, r); err == nil && out != "character special file 1:3\n" {
				t.Errorf("/dev is a link to %s, userns %q: %q", target, mode, out)
			}
		}
		root := nstest.RootFS(t)
		for name, to := range map[string]string{"null": "/proc/sysrq-trigger", "console": host + "/mark", "shm": host, "mqueue": host} {
			if err := os.Symlink(to, filepath.Join(root, "dev", name)); err != nil {
				t.Fatal(err)
			}
		}
		r := sh(root, "stat -c '%F %t:%T' /dev/null; cat /proc/keys")
		r.UserNS = mode
		want(t, e, r, "character special file 1:3\n")
	}
}

// Files of the image that a container's account data come from are read as data, and below
// its root: passwd is a way to the host, or does not end.
func TestCVE_2024_9676(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	root := nstest.RootFS(t)
	for name, change := range map[string]func(p string) error{
		"fifo":   func(p string) error { return unix.Mkfifo(p, 0o644) },
		"device": func(p string) error { return os.Symlink("/dev/zero", p) },
		"host":   func(p string) error { return os.Symlink("/proc/self/root/etc/passwd", p) },
	} {
		p := filepath.Join(root, "etc/passwd")
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
		if err := change(p); err != nil {
			t.Fatal(err)
		}
		r := sh(root, "grep Uid /proc/self/status | cut -f2")
		r.User = "daemon"
		refused(t, e, r, 125, "cannot be looked up")
		if name == "fifo" {
			continue // the shell of the image would wait for its writer
		}
		r.User = "7"
		if out, _, err := inside(t, e, r); err != nil || out != "7\n" {
			t.Errorf("%s: %v %q", name, err, out)
		}
	}
}

// Nodes of devices are no way to the devices: not when they are made inside, and not when
// a volume brings them.
func TestDeviceNodes(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	disk := rootDisk(t)
	r := sh(root, fmt.Sprintf("mknod /tmp/mem c 1 1 2>/dev/null && echo made; mknod /tmp/disk b %d %d 2>/dev/null && echo made; head -c1 /tmp/disk /tmp/mem 2>/dev/null | wc -c", disk[0], disk[1]))
	r.CapAdd = []string{"mknod"}
	want(t, e, r, "0\n")
	r = sh(root, "mknod /tmp/zero c 1 5 2>/dev/null && echo made; true")
	r.UserNS = "host"
	want(t, e, r, "")
	// Who may make them, as debootstrap wants to, has use of those that each container has.
	r = sh(root, fmt.Sprintf("mknod /tmp/zero c 1 5; mknod /tmp/mem c 1 1; mknod /tmp/disk b %d %d; head -c1 /tmp/zero | wc -c; head -c1 /tmp/disk /tmp/mem 2>/dev/null | wc -c", disk[0], disk[1]))
	r.UserNS, r.CapAdd = "host", []string{"mknod"}
	want(t, e, r, "1\n0\n")
	// A volume brings one.
	volume := nstest.Dir(t)
	if err := unix.Mknod(filepath.Join(volume, "zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	for _, mode := range userns {
		r = sh(root, "cat /v/zero 2>/dev/null | head -c1 | wc -c")
		r.Mounts, r.UserNS = []Mount{{Type: "bind", Source: volume, Dest: "/v", Options: []string{"rbind"}, Flag: "-v"}}, mode
		want(t, e, r, "0\n")
	}
}

// The image brings nodes of devices, which its root owns.
func TestDeviceNodesOfTheImage(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	disk := rootDisk(t)
	if err := unix.Mknod(filepath.Join(root, "etc/disk"), unix.S_IFBLK|0o666, int(unix.Mkdev(disk[0], disk[1]))); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(root, "etc/zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	for _, mode := range userns {
		r := sh(root, "cat /etc/disk /etc/zero 2>/dev/null | head -c1 | wc -c")
		r.UserNS = mode
		want(t, e, r, "0\n")
	}
}

// rootDisk is the number of the block device that "/" is on, or of some other one. It is
// only ever opened for reading.
func rootDisk(t testing.TB) [2]uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/usr", &st); err != nil {
		t.Fatal(err)
	}
	if unix.Major(st.Dev) == 0 {
		return [2]uint32{7, 0}
	}
	return [2]uint32{unix.Major(st.Dev), unix.Minor(st.Dev)}
}

// The default filter: which sockets, namespaces and calls there are. A filter that
// compares more bits than the kernel reads would let others through (CVE-2026-123876);
// AF_ALG and AF_VSOCK are those of CVE-2026-31431.
func TestCVE_2026_123876_and_31431(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, mode := range userns {
		r := Config{Rootfs: root, Command: []string{"/opener"}, UserNS: mode, Mounts: []Mount{{Type: "bind", Source: nstest.Exe, Dest: "/opener", Options: []string{"rbind"}, Flag: "-v"}}}
		out, code, err := inside(t, e, r)
		if err != nil || code != 0 {
			t.Fatalf("%v: code %d: %s", err, code, out)
		}
		sockets, calls, _ := strings.Cut(out, "\n")
		for s := range strings.FieldsSeq(strings.ReplaceAll(sockets, "netlink ", "netlink")) {
			family, _, _ := strings.Cut(strings.TrimSuffix(s, "+"), "/")
			switch family {
			case "1", "2", "10", "16", "netlink0":
			default:
				t.Errorf("userns %q: socket %s is open", mode, s)
			}
		}
		if !strings.Contains(" "+sockets+" ", " 2/1 ") || !strings.Contains(" "+sockets+" ", " netlink 0 ") {
			t.Errorf("userns %q: sockets %s", mode, sockets)
		}
		for line := range strings.Lines(calls) {
			if name, answer, _ := strings.Cut(strings.TrimSpace(line), ": "); answer != "operation not permitted" && answer != "function not implemented" {
				t.Errorf("userns %q: %s gives %q", mode, name, answer)
			}
		}
	}
}

// CVE-2026-43284, 43500 and 46300 write to the page cache by the kernel's IPsec and RxRPC, CVE-2026-31431 by its ciphers: these are out of reach of who was given
// capabilities over its own network, too. Packets, the firewall's rules and devices as WireGuard's are what they are for.
func TestCVE_2026_43284_43500_46300(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, mode := range userns {
		r := Config{Rootfs: root, Command: []string{"/opener"}, UserNS: mode, CapAdd: []string{"NET_ADMIN", "NET_RAW"},
			Mounts: []Mount{{Type: "bind", Source: nstest.Exe, Dest: "/opener", Options: []string{"rbind"}, Flag: "-v"}}}
		out, code, err := inside(t, e, r)
		if err != nil || code != 0 {
			t.Fatalf("%v: code %d: %s", err, code, out)
		}
		sockets, _, _ := strings.Cut(out, "\n")
		for s := range strings.FieldsSeq(strings.ReplaceAll(sockets, "netlink ", "netlink")) {
			switch family, _, _ := strings.Cut(strings.TrimSuffix(s, "+"), "/"); family {
			case "1", "2", "10", "16", "17", "raw", "netlink0", "netlink12", "netlink16":
			default:
				t.Errorf("userns %q: socket %s is open", mode, s)
			}
		}
		if !strings.Contains(" "+sockets+" ", " 17/2 ") {
			t.Errorf("userns %q: no packet sockets: %s", mode, sockets)
		}
	}
}

// Names that people of the machine gave, of files behind loop devices and of volumes, are not to be read: what asks for block devices finds those of the hardware.
func TestMaskedNamesOfBlockDevices(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, mode := range userns {
		// Of those that the machine has links are left, which lead to nothing. One without the module for loop devices has none.
		r := sh(root, "ls -A /sys/devices/virtual/block 2>/dev/null; ls /sys/block/ >/dev/null || echo no links; cat /sys/block/loop*/size /sys/class/block/loop*/size /sys/dev/block/7:*/size 2>/dev/null; true")
		r.UserNS = mode
		want(t, e, r, "")
	}
}

// What tells of the load and the power of the machine is not to be read (GHSA-7ww5-4wqc-m92c, GHSA-6fw5-f8r9-fgfm).
func TestGHSA_7ww5_4wqc_m92c_and_6fw5_f8r9_fgfm(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, mode := range userns {
		r := sh(root, "cat /proc/interrupts /proc/timer_list /proc/sched_debug /proc/latency_stats 2>/dev/null | head -c 1; "+
			"find /sys/devices/virtual/powercap /sys/devices/virtual/thermal /sys/devices/system/cpu/cpu*/thermal_throttle /sys/class/hwmon/*/ /sys/kernel/irq /proc/irq -type f 2>/dev/null | head -n 1; true")
		r.UserNS = mode
		want(t, e, r, "")
	}
	// A machine has them or not; the list is made for one that has.
	sys := nstest.Dir(t)
	for _, cpu := range []string{"cpu0", "cpu1", "cpufreq"} {
		if err := os.MkdirAll(filepath.Join(sys, "devices/system/cpu", cpu, "thermal_throttle"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got := fmt.Sprint(thermalThrottle(sys))
	if got != "[/sys/devices/system/cpu/cpu0/thermal_throttle /sys/devices/system/cpu/cpu1/thermal_throttle]" || thermalThrottle(nstest.Dir(t)) != nil {
		t.Error(got)
	}
	for _, at := range []string{"platform/coretemp.0/hwmon/hwmon1", "pci0000:00/0000:00:18.3/hwmon/hwmon2", "pci0000:00/0000:00:18.3/hwmon/hwmon3", "pci0000:00/0000:00:1d.0/nvme/nvme0/hwmon4"} {
		link := filepath.Join(sys, "class/hwmon", filepath.Base(at))
		if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink("../../devices/"+at, link)); err != nil {
			t.Fatal(err)
		}
	}
	got = fmt.Sprint(sensors(sys))
	if got != "[/sys/devices/pci0000:00/0000:00:18.3/hwmon /sys/devices/pci0000:00/0000:00:1d.0/nvme/nvme0/hwmon4 /sys/devices/platform/coretemp.0/hwmon]" || sensors(nstest.Dir(t)) != nil {
		t.Error(got)
	}
}

// TestMaskedByOtherNames: where the kernel lies, and its command line, are not told by another file than the one that is known for it.
func TestMaskedByOtherNames(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, mode := range userns {
		r := sh(root, "cat /proc/cmdline /proc/bootconfig /proc/kallsyms /sys/kernel/notes /sys/kernel/vmcoreinfo /sys/kernel/boot_params/* /sys/kernel/boot_params/setup_data/*/* 2>/dev/null | head -c 1; true")
		r.UserNS = mode
		want(t, e, r, "")
	}
}

// The source of a bind is looked up once: a link that is changed all the while gives what it led to
// then, whole, be that a file or a directory.
func TestSourceIsResolvedOnce(t *testing.T) {
	nstest.Root(t)
	e, dir := open(t), nstest.Dir(t)
	nstest.NoLeaks(t, e.dir)
	for name, text := range map[string]string{"a/x": "directory\n", "b": "file\n"} {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	source := filepath.Join(dir, "source")
	if err := errors.Join(os.Symlink("a", source), os.Symlink("b", source+"2")); err != nil {
		t.Fatal(err)
	}
	swap := nstest.Part("swapper", source, source+"2")
	hold, err := swap.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := swap.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { hold.Close(); swap.Wait() }()
	seen := map[string]int{}
	for i := range 60 {
		r := Config{Image: "host", UserNS: userns[i%2], Command: []string{"sh", "-c", "if [ -d /new ]; then cat /new/x; else cat /new; fi"}}
		r.Mounts = []Mount{{Type: "bind", Source: source, Dest: "/new", Options: []string{"rbind"}, Flag: "-v"}}
		out, code, err := inside(t, e, r)
		if err != nil || code != 0 || (out != "directory\n" && out != "file\n") {
			t.Fatalf("%v: code %d: %q", err, code, out)
		}
		seen[out]++
	}
	if len(seen) < 2 {
		t.Logf("only one of both was met: %v", seen)
	}
}

// Nothing inside types into a terminal, its own one included (CVE-2017-5226, CVE-2023-28100), with bits
// set that the kernel does not read either.
func TestCVE_2023_28100(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, mode := range userns {
		r := Config{Rootfs: root, TTY: true, Command: []string{"/typist"}, UserNS: mode, Mounts: []Mount{{Type: "bind", Source: nstest.Exe, Dest: "/typist", Options: []string{"rbind"}, Flag: "-v"}}}
		out, code, err := inside(t, e, r)
		if want := "5412 5\r\n541c 5\r\n100005412 5\r\n800000000000541c 5\r\nsize <nil>\r\n"; err != nil || code != 0 || out != want {
			t.Errorf("userns %q: %v: code %d: %q, want %q", mode, err, code, out, want)
		}
	}
}

// The control groups of the host cannot be mounted or written (CVE-2022-0492, CVE-2023-25809).
func TestCVE_2022_0492_and_2023_25809(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, mode := range userns {
		r := sh(root, `mkdir -p /tmp/cg; busybox unshare -Urm sh -c 'mount -t cgroup -o rdma x /tmp/cg && echo mounted' 2>/dev/null
			mount -t cgroup -o memory x /tmp/cg 2>/dev/null && echo mounted
			for f in $(find /sys/fs/cgroup -name release_agent -o -name cgroup.procs -o -name notify_on_release 2>/dev/null | head -50); do (echo 0 >$f) 2>/dev/null && echo written $f; done; true`)
		r.UserNS = mode
		want(t, e, r, "")
		r.Resources.Memory = 64 << 20 // with a limit it sees its own
		want(t, e, r, "")
		r.Network = "host" // and with the host's network no others than its own, although /sys may be the host's
		r.Resources.Memory = 0
		want(t, e, r, "")
		r.Command[2] = `find /sys/fs/cgroup -mindepth 2 -type d | head -3`
		want(t, e, r, "")
	}
}

// No socket of the engine can be reached by a name without a file (CVE-2020-15257).
func TestCVE_2020_15257(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	before, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	r := sh(root, "grep -c @ /proc/net/unix; true")
	r.Network = "host"
	want(t, e, r, fmt.Sprintln(strings.Count(string(before), "@")))
}

// Descriptors and terminals of the caller: a container gets neither (CVE-2017-5226).
func TestCVE_2017_5226(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	root := nstest.RootFS(t)
	master, slave := openPTY(t)
	leak, err := os.Open("/usr")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	for _, flags := range [][]string{{}, {"-i"}, {"-t", "-i"}} {
		c := kakuri(t, append(append([]string{"run", "--rootfs", root}, flags...), "sh", "-c",
			"for n in 0 1 2 3 4 5 6 7 8 9 10; do readlink /proc/self/fd/$n; done; (echo x >/dev/tty) 2>&1 | head -c 3; tty")...)
		c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
		c.ExtraFiles = []*os.File{leak, slave}
		c.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", slave.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		out := make(chan string)
		go func() {
			text := make([]byte, 4096)
			all := ""
			for !strings.Contains(all, "-end-") {
				n, err := master.Read(text)
				if err != nil {
					break
				}
				all += string(text[:n])
			}
			out <- all
		}()
		runErr := c.Run()
		fmt.Fprint(slave, "-end-")
		got := <-out
		if runErr != nil && !strings.Contains(got, "not a tty") {
			t.Errorf("%v: %v: %s", flags, runErr, got)
		}
		inTTY := len(flags) == 2
		for line := range strings.Lines(strings.ReplaceAll(got, "\r", "")) {
			line = strings.TrimSpace(line)
			if line == "/usr" || (line == name && !inTTY) {
				t.Errorf("%v: the container has the caller's %s", flags, line)
			}
		}
	}
}

// CVE-2024-25621, 2021-41091: what there is of containers, volumes and networks is root's alone, whoever finds its way to a setuid program in a volume otherwise.
func TestCVE_2024_25621(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	detached(t, e, Config{Name: "closed", Rootfs: root, Command: []string{"sleep", "1000"}, Mounts: []Mount{{Type: "volume", Source: "closed", Dest: "/v", Flag: "-v"}}})
	seen := 0
	for _, dir := range []string{e.dir, e.data} {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range list {
			info, err := entry.Info()
			if err != nil {
				t.Fatal(err)
			}
			if seen++; info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s/%s is open for others: %v", dir, entry.Name(), info.Mode())
			}
		}
	}
	if seen < 5 {
		t.Errorf("%d entries", seen)
	}
}

// CVE-2024-9341, 2022-4122, 2022-4123, 2024-1753: what is mounted without having been asked for, and what was asked for, lies where links of the image lead, and below its root.
func TestCVE_2024_9341(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	nstest.NoLeaks(t, e.dir)
	host := canary(t)
	source := nstest.Dir(t)
	for _, mode := range userns {
		for _, link := range []string{"etc", "etc/hosts", "etc/resolv.conf", "etc/hostname", "run", "run/secrets", "data"} {
			for _, target := range []string{host, host + "/mark", host + "/new", strings.Repeat("../", 30) + host[1:], "/proc/self/root" + host, "/proc/1/cwd" + host, "/proc/self/fd/5" + host} {
				root := nstest.RootFS(t)
				p := filepath.Join(root, link)
				if err := errors.Join(os.RemoveAll(p), os.MkdirAll(filepath.Dir(p), 0o755), os.Symlink(target, p)); err != nil {
					t.Fatal(err)
				}
				r := sh(root, "cat /etc/mark /run/mark /run/secrets/mark /data/mark /data 2>/dev/null; true")
				r.UserNS, r.ExtraHosts, r.DNS = mode, []string{"other:192.0.2.7"}, []string{"192.0.2.8"}
				r.Mounts = []Mount{{Type: "bind", Source: source, Dest: "/data", Options: []string{"rbind"}, Flag: "-v"}, {Type: "tmpfs", Dest: "/run/secrets", Flag: "--tmpfs"}}
				if out, _, err := inside(t, e, r); err == nil && out != "" {
					t.Errorf("userns %q: %s leads to %s: %q", mode, link, target, out)
				}
			}
		}
	}
}

// A capability that does nothing in a user namespace of the container's own is told of, with what does the same; once, and not where it works.
func TestUnheededCapability(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	var told []string
	e.warn = func(s string) { told = append(told, s) }
	for _, c := range []struct {
		r    Config
		want []string
	}{
		{Config{CapAdd: []string{"IPC_LOCK", "cap_sys_time", "NET_ADMIN", "SYS_ADMIN"}}, []string{"--cap-add IPC_LOCK: ", "--ulimit memlock=-1", "--cap-add SYS_TIME: ", "--userns host"}},
		{Config{CapAdd: []string{"all"}}, nil},
		{Config{CapAdd: []string{"IPC_LOCK"}, UserNS: "host"}, nil},
		{Config{SecurityOpt: []string{"level=docker"}}, nil},
	} {
		told = nil
		c.r.Rootfs, c.r.Command = root, []string{"true"}
		if out, code, err := inside(t, e, c.r); err != nil || code != 0 {
			t.Fatalf("%v, code %d: %s", err, code, out)
		}
		text := strings.Join(told, "\n")
		if len(told) != len(c.want)/2 || slices.ContainsFunc(c.want, func(s string) bool { return !strings.Contains(text, s) }) {
			t.Errorf("%q, --userns %q: told %q, want %q", c.r.CapAdd, c.r.UserNS, told, c.want)
		}
	}
}
