package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

func TestResources(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	for _, c := range []struct {
		r    Resources
		swap bool
		want string
	}{
		{Resources{}, true, `{"pids":{"limit":2048}}`},
		{Resources{PidsLimit: n(0)}, true, `{"pids":{"limit":-1}}`},
		{Resources{PidsLimit: n(-1)}, true, `{"pids":{"limit":-1}}`},
		{Resources{PidsLimit: n(7)}, true, `{"pids":{"limit":7}}`},
		{Resources{Memory: 64 << 20}, true, `{"memory":{"limit":67108864,"swap":134217728},"pids":{"limit":2048}}`},
		{Resources{Memory: 64 << 20}, false, `{"memory":{"limit":67108864},"pids":{"limit":2048}}`},
		{Resources{Memory: 64 << 20, MemorySwap: 64 << 20}, false, `{"memory":{"limit":67108864,"swap":67108864},"pids":{"limit":2048}}`},
		{Resources{Memory: 64 << 20, MemorySwap: -1}, true, `{"memory":{"limit":67108864,"swap":-1},"pids":{"limit":2048}}`},
		{Resources{MemoryReservation: 6 << 20, MemorySwappiness: n(0), OOMKillDisable: true}, true, `{"memory":{"reservation":6291456,"swappiness":0,"disableOOMKiller":true},"pids":{"limit":2048}}`},
		{Resources{MemorySwappiness: n(-1)}, true, `{"pids":{"limit":2048}}`},
		{Resources{NanoCPUs: 5e8}, true, `{"cpu":{"quota":50000,"period":100000},"pids":{"limit":2048}}`},
		{Resources{CPUShares: 512, CPUQuota: -1, CPUPeriod: 50000, CpusetCpus: "0", CpusetMems: "0"}, true,
			`{"cpu":{"shares":512,"quota":-1,"period":50000,"cpus":"0","mems":"0"},"pids":{"limit":2048}}`},
		{Resources{CPURealtimePeriod: 1000, CPURealtimeRuntime: 500}, true, `{"cpu":{"realtimeRuntime":500,"realtimePeriod":1000},"pids":{"limit":2048}}`},
		{Resources{BlkioWeight: 10}, true, `{"pids":{"limit":2048},"blockIO":{"weight":10}}`},
		{Resources{DeviceRules: []string{"c 42:* rwm", "a *:7 m"}}, true,
			`{"devices":[{"allow":true,"type":"c","major":42,"minor":-1,"access":"rwm"},{"allow":true,"type":"a","major":-1,"minor":7,"access":"m"}],"pids":{"limit":2048}}`},
	} {
		got, causes, err := c.r.spec(c.swap)
		if err != nil {
			t.Errorf("%+v: %v", c.r, err)
			continue
		}
		text, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if string(text) != c.want {
			t.Errorf("%+v: %s, want %s", c.r, text, c.want)
		}
		said := map[string]bool{}
		for _, x := range causes {
			said[strings.TrimPrefix(x.field, "linux.resources.")] = true
			if !strings.HasPrefix(x.flag, "--") && !strings.HasPrefix(x.flag, "default: ") {
				t.Errorf("%+v: the cause of %s: %q", c.r, x.field, x.flag)
			}
		}
		var parts map[string]any
		if err := json.Unmarshal(text, &parts); err != nil {
			t.Fatal(err)
		}
		for part, fields := range parts {
			list, _ := fields.([]any)
			for i := range list {
				if !said[fmt.Sprintf("%s[%d]", part, i)] {
					t.Errorf("%+v: nothing causes %s[%d]", c.r, part, i)
				}
			}
			one, _ := fields.(map[string]any)
			for field := range one {
				if !said[part+"."+field] {
					t.Errorf("%+v: nothing causes %s.%s", c.r, part, field)
				}
			}
		}
	}
}

func TestResourcesRefused(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		r    Resources
		text string
	}{
		{Resources{Memory: 6<<20 - 1}, "Minimum memory limit"},
		{Resources{Memory: -1}, "invalid memory limit"},
		{Resources{Memory: 64 << 20, MemorySwap: 1 << 20}, "Minimum memoryswap"},
		{Resources{MemorySwap: 64 << 20}, "always set the Memory limit"},
		{Resources{MemorySwappiness: n(101)}, "swappiness range"},
		{Resources{MemorySwappiness: n(-2)}, "swappiness range"},
		{Resources{MemoryReservation: 1}, "memory reservation allowed"},
		{Resources{Memory: 8 << 20, MemoryReservation: 9 << 20}, "can not be less than memory reservation"},
		{Resources{NanoCPUs: 1e9, CPUPeriod: 1000}, "CPU Period cannot"},
		{Resources{NanoCPUs: 1e9, CPUQuota: 1000}, "CPU Quota cannot"},
		{Resources{NanoCPUs: int64(runtime.NumCPU())*1e9 + 1}, "range of CPUs"},
		{Resources{NanoCPUs: 1}, "range of CPUs"},
		{Resources{NanoCPUs: -1}, "range of CPUs"},
		{Resources{CPUShares: -1}, "invalid CPU shares (-1)"},
		{Resources{CPUPeriod: 999}, "cfs period"},
		{Resources{CPUPeriod: 1000001}, "cfs period"},
		{Resources{CPUQuota: 999}, "cfs quota"},
		{Resources{CPURealtimePeriod: 1, CPURealtimeRuntime: 2}, "real-time"},
		{Resources{BlkioWeight: 9}, "blkio weight"},
		{Resources{BlkioWeightDevice: []DeviceWeight{{"/dev/null", 1001}}}, "/dev/null: range"},
		{Resources{BlkioWeightDevice: []DeviceWeight{{"/dev/null", 100}}}, "--blkio-weight-device /dev/null: it is no block device"},
		{Resources{DeviceReadBps: []DeviceRate{{file, 1}}}, "--device-read-bps " + file + ": it is no block device"},
		{Resources{DeviceWriteIOps: []DeviceRate{{file + "/x", 1}}}, "--device-write-iops " + file + "/x: "},
		{Resources{CpusetCpus: "1-0"}, "invalid value 1-0 for cpuset cpus"},
		{Resources{CpusetCpus: "0,65534"}, "Requested CPUs are not available - requested 0,65534, available: 0"},
		{Resources{CpusetCpus: "0, 0"}, "for cpuset cpus"},
		{Resources{CpusetCpus: "0,"}, "for cpuset cpus"},
		{Resources{CpusetMems: "0,"}, "for cpuset mems"},
		{Resources{CpusetMems: "99999"}, "for cpuset mems"},
		{Resources{DeviceRules: []string{"c 1:3"}}, "invalid device cgroup rule"},
		{Resources{DeviceRules: []string{"c 1:3 rwmr"}}, "invalid device cgroup rule"},
		{Resources{DeviceRules: []string{"p 1:3 r"}}, "invalid device cgroup rule"},
		{Resources{DeviceRules: []string{"c 1:-3 r"}}, "invalid device cgroup rule"},
		{Resources{DeviceRules: []string{"c 1 r"}}, "invalid device cgroup rule"},
		{Resources{DeviceRules: []string{" 1:1 r"}}, "invalid device cgroup rule"},
	} {
		if got, _, err := c.r.spec(true); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %+v, %v, want %q", c.r, got, err, c.text)
		}
	}
}

// Who has limits reads them at /sys/fs/cgroup, where runtimes of languages look for their heap and their threads.
func TestLimitsAreSeen(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, mode := range userns {
		r := sh(root, `cd /sys/fs/cgroup; cat memory.max pids.max memory/memory.limit_in_bytes pids/pids.max 2>/dev/null; (echo 5 >pids.max || echo 5 >pids/pids.max) 2>/dev/null && echo written; true`)
		r.Resources.Memory, r.Resources.PidsLimit, r.UserNS = 64<<20, new(int64(77)), mode
		want(t, e, r, "67108864\n77\n")
	}
	r := sh(root, "ls /sys/fs/cgroup")
	r.CgroupNS, r.Resources.Memory = "host", 64<<20 // the host's are not
	want(t, e, r, "")
	for _, mode := range []string{"", "host"} { // an engine inside makes its own
		r = sh(root, "cd /sys/fs/cgroup; test -d pids && cd pids; mkdir inner && rmdir inner && echo made")
		r.Privileged, r.CgroupNS = true, mode
		want(t, e, r, "made\n")
	}
}

// A kernel's file system cannot be id-mapped; a container with a user namespace gets it all the same, as nobody's.
func TestKernelFilesBound(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, source := range []string{"/sys/kernel", "/sys/fs/cgroup", "/proc"} {
		r := sh(root, "stat -c %u /k/. && (echo 0 >/k/uevent_helper || echo 0 >/k/sys/vm/swappiness || echo 0 >/k/cgroup.procs || echo 0 >/k/pids/cgroup.procs) 2>/dev/null && echo written; true")
		r.Mounts = []Mount{{Type: "bind", Source: source, Dest: "/k", Options: []string{"rbind"}, Flag: "-v"}}
		want(t, e, r, "65534\n")
	}
}

// TestResourcesCheck: each bound of a limit is itself still within it.
func TestResourcesCheck(t *testing.T) {
	swappy := func(n int64) *int64 { return &n }
	for _, r := range []Resources{
		{Memory: leastMemory}, {Memory: leastMemory, MemorySwap: leastMemory}, {Memory: leastMemory, MemorySwap: -1}, {MemoryReservation: leastMemory}, {Memory: leastMemory, MemoryReservation: leastMemory},
		{MemorySwappiness: swappy(-1)}, {MemorySwappiness: swappy(100)}, {NanoCPUs: 1e7}, {CPUPeriod: leastPeriod, CPUQuota: leastPeriod}, {CPUPeriod: mostPeriod, CPUQuota: -1},
		{CPURealtimePeriod: 5, CPURealtimeRuntime: 5}, {CPURealtimeRuntime: 5}, {BlkioWeight: 10}, {BlkioWeight: 1000}, {CpusetCpus: "0"},
	} {
		if err := r.Check(); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
	for _, r := range []Resources{
		{Memory: leastMemory - 1}, {Memory: -1}, {Memory: leastMemory + 1, MemorySwap: leastMemory}, {MemorySwap: leastMemory}, {MemoryReservation: leastMemory - 1}, {Memory: leastMemory, MemoryReservation: leastMemory + 1},
		{MemorySwappiness: swappy(-2)}, {MemorySwappiness: swappy(101)}, {NanoCPUs: 1e7 - 1}, {NanoCPUs: -1}, {NanoCPUs: 1 << 62}, {NanoCPUs: 1e9, CPUPeriod: leastPeriod}, {NanoCPUs: 1e9, CPUQuota: leastPeriod},
		{CPUShares: -1}, {CPUPeriod: leastPeriod - 1}, {CPUPeriod: mostPeriod + 1}, {CPUQuota: leastPeriod - 1}, {CPURealtimePeriod: 5, CPURealtimeRuntime: 6},
		{BlkioWeight: 9}, {BlkioWeight: 1001}, {CpusetCpus: "0,"}, {CpusetMems: "x"}, {CpusetCpus: "4000"},
	} {
		if err := r.Check(); err == nil {
			t.Errorf("%+v is nothing wrong with", r)
		}
	}
}

// TestNoPidsController: where nothing can count processes, as in a version 2 of which a machine's owner gave a part, a container has no limit that nobody asked for, and starts.
func TestNoPidsController(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	if err := unix.Mount("none", "/sys/fs/cgroup", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH)
	limit := func(asked *int64) int64 {
		t.Helper()
		_, b := lookedAt(t, e, Config{Image: "host", Command: []string{"true"}, Network: "none", Resources: Resources{PidsLimit: asked}})
		if r := b.spec.Linux.Resources; r != nil && r.Pids != nil {
			return *r.Pids.Limit
		}
		return 0
	}
	none, ten := int64(-1), int64(10)
	if a, b, c := limit(nil), limit(&none), limit(&ten); a != 0 || b != 0 || c != 10 {
		t.Errorf("limits are %d, %d and %d", a, b, c)
	}
	if err := errors.Join(os.Mkdir("/sys/fs/cgroup/pids", 0o755), os.WriteFile("/sys/fs/cgroup/pids/cgroup.procs", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if a, b := limit(nil), limit(&none); a != defaultPids || b != -1 {
		t.Errorf("with a controller limits are %d and %d", a, b)
	}
}

// TestLimitWithoutController: who asks for a limit that nothing here can enforce is told so by the option; an update that is refused for that leaves nothing to be done.
func TestLimitWithoutController(t *testing.T) {
	nstest.Root(t)
	const place = "/sys/fs/cgroup/pids"
	tree, err := unix.OpenTree(unix.AT_FDCWD, place, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil || unix.Unmount(place, unix.MNT_DETACH) != nil {
		t.Skip("needs version 1 of control groups, with a controller of processes")
	}
	defer func() {
		if err := unix.MoveMount(tree, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			t.Error(err)
		}
		unix.Close(tree)
	}()
	e, root := open(t), nstest.RootFS(t)
	limit := int64(20)
	some := Resources{PidsLimit: &limit}
	refused(t, e, Config{Rootfs: root, Command: []string{"true"}, Resources: some}, 125, "--pids-limit 20: cannot set pids limit")
	c := started(t, e, asleep(root))
	some.CPUShares = 100
	_, err = e.Update(t.Context(), c.ID, UpdateConfig{Resources: some})
	if err == nil || !strings.Contains(err.Error(), ": --pids-limit 20: cannot set pids limit") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	e.warn = func(text string) { t.Errorf("it is told: %s", text) }
	e.tidy()
	now := found(t, e, c.ID)
	if r := now.Config.Resources; r.PidsLimit != nil || r.CPUShares != 0 {
		t.Errorf("it has limits: %+v", r)
	}
}
