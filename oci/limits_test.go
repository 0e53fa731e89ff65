package oci

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Each limit of config.json is met by work that would go beyond it. (Processes: [TestCgroup].) Where the machine's cgroups lack a
// controller there is nothing to see; a guest of internal/vm has them all.
func TestLimitsBite(t *testing.T) {
	nstest.Root(t)
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		controller string
		try        func(*testing.T)
	}{
		{"memory", memoryBites}, {"cpu", quotaBites}, {"cpuset", cpusetBites}, {"devices", devicesBite}, {"blkio", diskBites},
	} {
		if h.Controllers()[test.controller] == limits.Absent && test.controller != "devices" {
			continue
		}
		t.Run(test.controller, func(t *testing.T) {
			nstest.NoLeaks(t)
			test.try(t)
		})
	}
}

// working runs a container with limits to its end, and gives what it printed.
func working(t *testing.T, line string, r *specs.LinuxResources, devices ...specs.LinuxDevice) string {
	t.Helper()
	s := base(line)
	s.Linux.CgroupsPath = "/bite"
	s.Linux.Resources = r
	s.Linux.Devices = devices
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"})
	for _, set := range []*[]string{&s.Process.Capabilities.Bounding, &s.Process.Capabilities.Effective, &s.Process.Capabilities.Permitted} {
		*set = append(slices.Clone(*set), "CAP_SYSLOG") // to read kmsg, where cgroups would let it
	}
	p := newPlace(t)
	out, code := p.do("run", "--bundle", bundle(t, s), "x")
	if code != 0 {
		t.Fatalf("code %d: %s", code, out)
	}
	p.empty()
	return out
}

func at[T any](v T) *T { return &v }

// The kernel ends a process that takes more memory than there may be, and not the container.
func memoryBites(t *testing.T) {
	const limit = 32 << 20
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: at(int64(limit)), Swap: at(int64(limit))}}
	// It is one process that takes it: another one that wants memory while the kernel is still giving back that of the first has the kernel look for
	// a second one to end, which may be the shell.
	if out := working(t, "head -c 8m /dev/zero | tail -c 1 | wc -c; dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null; echo $?", r); !strings.Contains(out, "1\n") || !strings.HasSuffix(out, "137\n") {
		t.Errorf("%q", out)
	}
}

// In any time, a container uses a tenth of it where its quota is a tenth.
func quotaBites(t *testing.T) {
	r := &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: at(int64(5000)), Period: at(uint64(50000))}}
	// 0.3 seconds of processor time, in the hundredths of /proc/[pid]/stat.
	line := `used() { set -- $(cat /proc/1/stat); echo $((${14} + ${15})); }
		read a x </proc/uptime; u=$(used); n=0
		while [ $(($(used) - u)) -lt 30 ]; do while n=$((n + 1)); [ $((n % 200)) != 0 ]; do :; done; done
		u=$(($(used) - u)); read b x </proc/uptime; echo $a $b $u`
	f := strings.Fields(working(t, line, r))
	var n [3]float64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseFloat(f[i], 64); err != nil {
			t.Fatal(err)
		}
	}
	// A period may be used up at each end, and each processor may have a slice of 5 ms left over.
	if wall, used := n[1]-n[0], n[2]/100; used > 0.1*wall+0.1 || used < 0.3 {
		t.Errorf("%.2f s of processor time in %.2f s, of which a tenth was allowed", used, wall)
	}
}

// A process is on the processor that it may have, whatever it asks for.
func cpusetBites(t *testing.T) {
	var mine unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		t.Fatal(err)
	}
	last := 0
	for i := range 1024 {
		if mine.IsSet(i) {
			last = i
		}
	}
	// Field 39 is the processor on which it last ran.
	line := "grep Cpus_allowed_list /proc/self/status | cut -f2; for i in 1 2 3 4 5 6 7 8 9 10; do (set -- $(cat /proc/self/stat); echo ${39}); done | sort -u"
	one := strconv.Itoa(last)
	if out := working(t, line, &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: one}}); out != one+"\n"+one+"\n" {
		t.Errorf("on %q, want %s alone", out, one)
	}
}

// A node is there, and what it stands for is not to be had, but as the rules allow it.
func devicesBite(t *testing.T) {
	rules := func(access string) *specs.LinuxResources {
		return &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "c", Major: at(int64(1)), Minor: at(int64(11)), Access: access}}}
	}
	kmsg := specs.LinuxDevice{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 11, FileMode: at(os.FileMode(0o666))}
	line := "(: </dev/kmsg) 2>/dev/null && echo read; (: >/dev/kmsg) 2>/dev/null && echo write; echo x >/dev/null && echo null"
	for access, want := range map[string]string{"m": "null\n", "r": "read\nnull\n", "w": "write\nnull\n", "rw": "read\nwrite\nnull\n"} {
		if out := working(t, line, rules(access), kmsg); out != want {
			t.Errorf("%s: %q, want %q", access, out, want)
		}
	}
}

// TestDefaultDevices: whatever config.json denies, the devices of every container are to be had, and nodes are to be made; no more.
func TestDefaultDevices(t *testing.T) {
	rules, err := limits.DeviceRules(withDefaultDevices(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}}).Devices)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := limits.NewDevices(rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []struct {
		name         string
		kind         byte
		major, minor uint32
		use          bool
	}{
		{"null", 'c', 1, 3, true}, {"zero", 'c', 1, 5, true}, {"full", 'c', 1, 7, true}, {"random", 'c', 1, 8, true}, {"urandom", 'c', 1, 9, true},
		{"tty", 'c', 5, 0, true}, {"console", 'c', 5, 1, true}, {"ptmx", 'c', 5, 2, true}, {"pts/7", 'c', 136, 7, true}, {"net/tun", 'c', 10, 200, true},
		{"mem", 'c', 1, 1, false}, {"kmsg", 'c', 1, 11, false}, {"fuse", 'c', 10, 229, false}, {"sda", 'b', 8, 0, false}, {"ram3", 'b', 1, 3, false},
	} {
		read, write := policy.Allows(d.kind, d.major, d.minor, limits.ReadAccess), policy.Allows(d.kind, d.major, d.minor, limits.WriteAccess)
		if read != d.use || write != d.use {
			t.Errorf("%s: reading %t, writing %t", d.name, read, write)
		}
		if !policy.Allows(d.kind, d.major, d.minor, limits.MknodAccess) {
			t.Errorf("%s cannot be made", d.name)
		}
	}
}

// A disk gives and takes no more bytes in a second than allowed. This is tried on a disk that is nobody's, and which
// internal/vm has.
func diskBites(t *testing.T) {
	d := spareDisk(t)
	if d == nil {
		return
	}
	rate := []specs.LinuxThrottleDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: d.Major, Minor: d.Minor}, Rate: 1 << 20}}
	allowed := []specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "b", Major: &d.Major, Minor: &d.Minor, Access: "rw"}}
	const read, write = "dd if=/dev/disk of=/dev/null bs=256k count=12 iflag=direct 2>/dev/null", "dd if=/dev/zero of=/dev/disk bs=256k count=12 oflag=direct 2>/dev/null"
	for _, test := range []struct {
		name, line string
		r          specs.LinuxBlockIO
	}{
		{"reading", read, specs.LinuxBlockIO{ThrottleReadBpsDevice: rate}},
		{"writing", write, specs.LinuxBlockIO{ThrottleWriteBpsDevice: rate}},
	} {
		began := time.Now()
		working(t, test.line, &specs.LinuxResources{Devices: allowed, BlockIO: &test.r}, *d)
		// Three times what a second has: two seconds at the least, however fast the disk is. Not at the most.
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("%s: 3 MB in %v, at 1 MB a second", test.name, took)
		}
	}
}

// spareDisk finds the disk on which there is nothing to lose, by its serial number.
func spareDisk(t *testing.T) *specs.LinuxDevice {
	serials, err := filepath.Glob("/sys/block/*/serial")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range serials {
		if is, err := os.ReadFile(name); err != nil || strings.TrimSpace(string(is)) != "spare" {
			continue
		}
		number, err := os.ReadFile(filepath.Join(filepath.Dir(name), "dev"))
		if err != nil {
			t.Fatal(err)
		}
		major, minor, _ := strings.Cut(strings.TrimSpace(string(number)), ":")
		d := &specs.LinuxDevice{Path: "/dev/disk", Type: "b", FileMode: at(os.FileMode(0o600))}
		for text, to := range map[string]*int64{major: &d.Major, minor: &d.Minor} {
			if *to, err = strconv.ParseInt(text, 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	return nil
}

// A limit that is too low for its container ends that, and not the runtime, which says so and leaves nothing.
func TestStarved(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p := newPlace(t)
	for _, limit := range []int64{1000, 64 << 10, 200000} {
		s := base("true")
		s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
		dir := bundle(t, s)
		for _, verb := range []string{"run", "create"} {
			out, code := p.do(verb, "--bundle", dir, "starved")
			told := code == 1 && strings.Contains(out, "memory")
			// It may come as far as its program, and that is what ends then.
			if !told && (limit == 1000 || out != "") {
				t.Errorf("%s with %d bytes: code %d: %s", verb, limit, code, out)
			}
			if list, _ := p.do("list", "-q"); (list == "starved\n") != (verb == "create" && !told) {
				t.Errorf("%s with %d bytes, code %d: list: %q", verb, limit, code, list)
			}
			p.good("delete", "--force", "starved")
		}
	}
}
