package limits

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// all is a host with every controller at version v.
func all(v Version) Controllers {
	c := Controllers{}
	for _, name := range []string{"cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "rdma", "devices", "freezer", "perf_event"} {
		c[name] = v
	}
	return c
}

// resources reads linux.resources from its JSON.
func resources(t testing.TB, text string) *specs.LinuxResources {
	t.Helper()
	var r specs.LinuxResources
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// text is a Limits in lines: guards, writes with their marks, warnings.
func text(l Limits) []string {
	var lines []string
	for _, g := range l.Guards {
		lines = append(lines, g.String())
	}
	for _, w := range l.Writes {
		line := w.File + " " + w.Value
		if w.Again {
			line += " again"
		}
		if w.Optional {
			line += " optional"
		}
		for e := w.Else; e != nil; e = e.Else {
			line += " else " + e.File + " " + e.Value
			if e.Optional {
				line += " optional"
			}
		}
		lines = append(lines, line)
	}
	for _, w := range l.Warnings {
		field, _, _ := strings.Cut(w, ":")
		lines = append(lines, "warning "+field)
	}
	return lines
}

func TestCompile(t *testing.T) {
	for _, test := range []struct {
		name, in string
		v1, v2   []string // one line "error TEXT" for an error
	}{
		{"nothing", `{}`, nil, nil},
		{"no values", `{"memory":{"limit":0,"swap":0},"cpu":{"shares":0,"quota":0,"period":0,"realtimeRuntime":0},"pids":{},"blockIO":{"weight":0},"network":{"classID":0}}`, nil, nil},
		{
			"memory", `{"memory":{"limit":67108864}}`,
			[]string{"memory.limit_in_bytes 67108864 again"},
			[]string{"memory.max 67108864"},
		},
		{
			"memory and swap", `{"memory":{"limit":67108864,"swap":100663296}}`,
			[]string{"memory.limit_in_bytes 67108864 again", "memory.memsw.limit_in_bytes 100663296 again"},
			[]string{"memory.swap.max 33554432", "memory.max 67108864"},
		},
		{
			"no swap", `{"memory":{"limit":67108864,"swap":67108864}}`,
			[]string{"memory.limit_in_bytes 67108864 again", "memory.memsw.limit_in_bytes 67108864 again"},
			[]string{"memory.swap.max 0 optional", "memory.max 67108864"},
		},
		{
			"endless swap", `{"memory":{"limit":67108864,"swap":-1}}`,
			[]string{"memory.limit_in_bytes 67108864 again", "memory.memsw.limit_in_bytes -1 again"},
			[]string{"memory.swap.max max optional", "memory.max 67108864"},
		},
		{
			"no limit", `{"memory":{"limit":-1}}`,
			[]string{"memory.limit_in_bytes -1 again", "memory.memsw.limit_in_bytes -1 again optional"},
			[]string{"memory.swap.max max optional", "memory.max max"},
		},
		{
			"no limit, and one of swap", `{"memory":{"limit":-1,"swap":1000000}}`,
			[]string{"memory.limit_in_bytes -1 again", "memory.memsw.limit_in_bytes 1000000 again"},
			[]string{"memory.swap.max 1000000", "memory.max max"},
		},
		{"swap alone", `{"memory":{"swap":1000000}}`, []string{"memory.memsw.limit_in_bytes 1000000 again"}, []string{"error unable to set swap limit without memory limit"}},
		{"swap below memory", `{"memory":{"limit":10,"swap":5}}`, []string{"memory.limit_in_bytes 10 again", "memory.memsw.limit_in_bytes 5 again"}, []string{"error memory+swap limit should be >= memory limit"}},
		{"negative memory", `{"memory":{"limit":-2}}`, []string{"error memory.limit: invalid memory value: -2"}, []string{"error invalid memory value"}},
		{
			"the rest of memory", `{"memory":{"reservation":4096,"swappiness":60,"disableOOMKiller":true,"kernel":5}}`,
			[]string{"memory.soft_limit_in_bytes 4096", "memory.oom_control 1", "memory.swappiness 60", "warning linux.resources.memory.kernel"},
			[]string{"memory.low 4096", "warning linux.resources.memory.kernel", "warning linux.resources.memory.swappiness", "warning linux.resources.memory.disableOOMKiller"},
		},
		{"swappiness left to the host", `{"memory":{"swappiness":18446744073709551615}}`, nil, nil},
		{"no end for want of memory alone", `{"memory":{"disableOOMKiller":true}}`, []string{"memory.oom_control 1"}, []string{"warning linux.resources.memory.disableOOMKiller"}},
		{"swappiness alone", `{"memory":{"swappiness":0}}`, []string{"memory.swappiness 0"}, []string{"warning linux.resources.memory.swappiness"}},
		{"reservation alone", `{"memory":{"reservation":4096}}`, []string{"memory.soft_limit_in_bytes 4096"}, []string{"memory.low 4096"}},
		{"too swappy", `{"memory":{"swappiness":101}}`, []string{"error invalid memory swappiness value: 101 (valid range is 0-100)"}, []string{"error valid range is 0-100"}},
		{
			"memory, if there is room", `{"memory":{"limit":4096,"swap":8192,"checkBeforeUpdate":true}}`,
			[]string{"memory.limit_in_bytes 4096 again", "memory.memsw.limit_in_bytes 8192 again"},
			[]string{"require memory.current < 8192", "require memory.current < 4096", "memory.swap.max 4096", "memory.max 4096"},
		},
		{
			"a limit of memory alone, if there is room", `{"memory":{"limit":4096,"checkBeforeUpdate":true}}`,
			[]string{"memory.limit_in_bytes 4096 again"}, []string{"require memory.current < 4096", "memory.max 4096"},
		},
		{"shares", `{"cpu":{"shares":512}}`, []string{"cpu.shares 512 again"}, []string{"cpu.weight 59"}},
		{"one share", `{"cpu":{"shares":1}}`, []string{"error the minimum allowed cpu-shares is 2"}, []string{"cpu.weight 1"}},
		{"all shares", `{"cpu":{"shares":300000}}`, []string{"error the maximum allowed cpu-shares is 262144"}, []string{"cpu.weight 10000"}},
		{
			"quota", `{"cpu":{"quota":50000,"period":200000,"burst":1000}}`,
			[]string{"cpu.cfs_period_us 200000 again", "cpu.cfs_burst_us 1000 again optional", "cpu.cfs_quota_us 50000 again"},
			[]string{"cpu.max.burst 1000 again", "cpu.max 50000 200000 again"},
		},
		{"quota alone", `{"cpu":{"quota":50000}}`, []string{"cpu.cfs_quota_us 50000 again"}, []string{"cpu.max 50000 100000 again"}},
		{"no quota", `{"cpu":{"quota":-1}}`, []string{"cpu.cfs_quota_us -1 again"}, []string{"cpu.max max 100000 again"}},
		{"period alone", `{"cpu":{"period":5000}}`, []string{"cpu.cfs_period_us 5000 again"}, []string{"cpu.max max 5000 again"}},
		{"burst of none", `{"cpu":{"burst":0}}`, []string{"cpu.cfs_burst_us 0 again optional"}, []string{"cpu.max.burst 0 again"}},
		{"idle", `{"cpu":{"idle":1,"shares":100}}`, []string{"cpu.shares 100 again", "cpu.idle 1"}, []string{"cpu.idle 1", "warning linux.resources.cpu.shares"}},
		{"not idle", `{"cpu":{"idle":0,"shares":100}}`, []string{"cpu.shares 100 again", "cpu.idle 0"}, []string{"cpu.idle 0", "cpu.weight 17"}},
		{"realtime", `{"cpu":{"realtimeRuntime":5000,"realtimePeriod":100000}}`, []string{"cpu.rt_period_us 100000 again", "cpu.rt_runtime_us 5000 again"}, []string{"warning linux.resources.cpu.realtimeRuntime"}},
		{"realtime runtime alone", `{"cpu":{"realtimeRuntime":5000}}`, []string{"cpu.rt_runtime_us 5000 again"}, []string{"warning linux.resources.cpu.realtimeRuntime"}},
		{"realtime period alone", `{"cpu":{"realtimePeriod":100000}}`, []string{"cpu.rt_period_us 100000 again"}, []string{"warning linux.resources.cpu.realtimeRuntime"}},
		{"cpuset", `{"cpu":{"cpus":"0-1","mems":"0"}}`, []string{"cpuset.cpus 0-1", "cpuset.mems 0"}, []string{"cpuset.cpus 0-1", "cpuset.mems 0"}},
		{"memory nodes alone", `{"cpu":{"mems":"0"}}`, []string{"cpuset.mems 0"}, []string{"cpuset.mems 0"}},
		{"cpuset of lines", `{"cpu":{"cpus":"0\n1"}}`, []string{"error is no list"}, []string{"error is no list"}},
		{"pids", `{"pids":{"limit":20}}`, []string{"pids.max 20"}, []string{"pids.max 20"}},
		{"no pids", `{"pids":{"limit":0}}`, []string{"pids.max 1"}, []string{"pids.max 1"}},
		{"all pids", `{"pids":{"limit":-1}}`, []string{"pids.max max"}, []string{"pids.max max"}},
		{
			"weights", `{"blockIO":{"weight":500,"leafWeight":300,"weightDevice":[{"major":8,"minor":0,"weight":100,"leafWeight":200}]}}`,
			[]string{
				"blkio.weight 500 else blkio.bfq.weight 500", "blkio.leaf_weight 300",
				"blkio.weight_device 8:0 100 else blkio.bfq.weight_device 8:0 100", "blkio.leaf_weight_device 8:0 200",
			},
			[]string{
				"io.bfq.weight 500 else io.weight 4950", "io.bfq.weight 8:0 100 else io.weight 8:0 910 optional",
				"warning linux.resources.blockIO.leafWeight", "warning linux.resources.blockIO.weightDevice[0].leafWeight",
			},
		},
		{"weight too small", `{"blockIO":{"weight":9}}`, []string{"error 9 is not within 10 to 1000"}, []string{"error 9 is not within 10 to 1000"}},
		{"device weight too large", `{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":1001}]}}`, []string{"error weightDevice[0].weight: 1001"}, []string{"error not within"}},
		{
			"throttles", `{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1000}],"throttleWriteBpsDevice":[{"major":8,"minor":16,"rate":0}],
				"throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":3}],"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":4}]}}`,
			[]string{
				"blkio.throttle.read_bps_device 8:0 1000", "blkio.throttle.write_bps_device 8:16 0",
				"blkio.throttle.read_iops_device 8:0 3", "blkio.throttle.write_iops_device 8:0 4",
			},
			[]string{"io.max 8:0 rbps=1000", "io.max 8:16 wbps=max", "io.max 8:0 riops=3", "io.max 8:0 wiops=4"},
		},
		{"no device", `{"blockIO":{"throttleReadBpsDevice":[{"major":-8,"minor":0,"rate":1}]}}`, []string{"error -8:0 is no device"}, []string{"error -8:0 is no device"}},
		{
			"huge pages", `{"hugepageLimits":[{"pageSize":"2MB","limit":9223372036854775807},{"pageSize":"1GB","limit":0}]}`,
			[]string{
				"hugetlb.2MB.limit_in_bytes 9223372036854775807", "hugetlb.2MB.rsvd.limit_in_bytes 9223372036854775807 optional",
				"hugetlb.1GB.limit_in_bytes 0", "hugetlb.1GB.rsvd.limit_in_bytes 0 optional",
			},
			[]string{
				"hugetlb.2MB.max 9223372036854775807", "hugetlb.2MB.rsvd.max 9223372036854775807 optional",
				"hugetlb.1GB.max 0", "hugetlb.1GB.rsvd.max 0 optional",
			},
		},
		{"a path for a page size", `{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}`, []string{"error is no page size"}, []string{"error is no page size"}},
		{"network", `{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":5}]}}`, []string{"net_cls.classid 1048577", "net_prio.ifpriomap eth0 5"}, []string{"warning linux.resources.network"}},
		{"no interface", `{"network":{"priorities":[{"name":"a b","priority":5}]}}`, []string{"error is no network interface"}, []string{"warning linux.resources.network"}},
		{"rdma", `{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10},"mlx4_0":{"hcaObjects":1000},"mlx4_1":{}}}`, []string{"rdma.max mlx4_0 hca_object=1000", "rdma.max mlx5_1 hca_handle=3 hca_object=10"}, []string{"rdma.max mlx4_0 hca_object=1000", "rdma.max mlx5_1 hca_handle=3 hca_object=10"}},
		{"unified", `{"memory":{"limit":4096},"unified":{"memory.high":"2048","io.max":"8:0 rbps=1\n\n8:16 rbps=2\n","cgroup.max.depth":"3"}}`, []string{"error cannot use unified on cgroup v1"}, []string{"memory.max 4096", "cgroup.max.depth 3", "io.max 8:0 rbps=1", "io.max 8:16 rbps=2", "memory.high 2048"}},
		{"unified path", `{"unified":{"../memory.max":"1"}}`, []string{"error must be a file name (no slashes)"}, []string{"error must be a file name (no slashes)"}},
		{"unified word", `{"unified":{"memory":"1"}}`, []string{"error must be in the form CONTROLLER.PARAMETER"}, []string{"error must be in the form CONTROLLER.PARAMETER"}},
		{"unified controller that is not there", `{"unified":{"misc.max":"1"}}`, []string{"error cannot use unified"}, []string{`error can't be set: controller "misc" not available`}},
		{"rdma of lines", `{"rdma":{"a\nb":{"hcaHandles":1}}}`, []string{"error is no name of a device"}, []string{"error is no name of a device"}},
		{"unified of lines", `{"unified":{"memory.max\n":"1"}}`, []string{"error must be in the form CONTROLLER.PARAMETER"}, []string{"error must be in the form CONTROLLER.PARAMETER"}},
		{"device below any", `{"devices":[{"type":"c","major":-2,"access":"r"}]}`, []string{"error devices[0].major: -2 is no device number"}, []string{"error devices[0].major: -2 is no device number"}},
		{"device too large", `{"devices":[{"type":"c","minor":4294967296,"access":"r"}]}`, []string{"error devices[0].minor: 4294967296 is no device number"}, []string{"error devices[0].minor"}},
		{"device without access", `{"devices":[{"allow":false,"type":"c"}]}`, []string{"error devices[0].access"}, []string{"error devices[0].access"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for v, want := range map[Version][]string{V1: test.v1, V2: test.v2} {
				l, err := Compile(resources(t, test.in), all(v))
				if len(want) == 1 && strings.HasPrefix(want[0], "error ") {
					var f *FieldError
					if err == nil || !strings.Contains(err.Error(), want[0][6:]) || !errors.As(err, &f) || !strings.HasPrefix(f.Field, "linux.resources.") {
						t.Errorf("v%d: %v, want %s", v, err, want[0])
					}
					continue
				}
				if err != nil || !slices.Equal(text(l), want) {
					t.Errorf("v%d: %v\n%s\nwant\n%s", v, err, strings.Join(text(l), "\n"), strings.Join(want, "\n"))
				}
				if l.Devices != nil {
					t.Errorf("v%d: without a rule for devices: %s", v, l.Devices)
				}
				for _, w := range l.Writes {
					if w.Version != v || !strings.HasPrefix(w.Field, "linux.resources.") || w.Value == "" {
						t.Errorf("v%d: %+v", v, w)
					}
				}
			}
		})
	}
}

func TestPageSize(t *testing.T) {
	for s, want := range map[string]bool{"64KB": true, "2MB": true, "1GB": true, "": false, "MB": false, "0MB": false, "02MB": false, "+2MB": false, "2": false, "2B": false, "2MMB": false, "2MB/..": false} {
		if pageSize(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

// TestHybrid: each controller is spoken to in the words of its own hierarchy.
func TestHybrid(t *testing.T) {
	c := Controllers{"memory": V1, "hugetlb": V2, "cpu": V1}
	l, err := Compile(resources(t, `{"memory":{"limit":4096},"hugepageLimits":[{"pageSize":"2MB","limit":0}]}`), c)
	if err != nil || l.Writes[0].File != "memory.limit_in_bytes" || l.Writes[1].File != "hugetlb.2MB.max" {
		t.Errorf("%v %v", l.Writes, err)
	}
	if got := l.Controllers(); !slices.Equal(got, []string{"memory", "hugetlb"}) {
		t.Errorf("controllers %q", got)
	}
	if _, err := Compile(resources(t, `{"pids":{"limit":1}}`), c); err == nil || !strings.Contains(err.Error(), "cannot set pids limit: container could not join or create cgroup") {
		t.Error(err)
	}
	if _, err := Compile(resources(t, `{"cpu":{"shares":512}}`), c); err != nil {
		t.Errorf("shares without a cpuset: %v", err)
	}
	if _, err := Compile(resources(t, `{"unified":{"memory.max":"1"}}`), c); !errors.Is(err, ErrNoUnified) {
		t.Error(err)
	}
	if _, err := Compile(resources(t, `{"unified":{"hugetlb.2MB.max":"1"}}`), c); err != nil {
		t.Error(err)
	}
}

// TestWeight: the ends, the default, and what other runtimes' tests have.
func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{
		0: 0, 1: 1, 2: 1, 3: 2, 10: 4, 100: 17, 200: 29, 512: 59, 1024: 100, 2048: 174, 4096: 303, 100000: 4340, 262143: 10000, 262144: 10000, 1 << 40: 10000,
	} {
		if got := weight(shares); got != want {
			t.Errorf("%d shares are weight %d, want %d", shares, got, want)
		}
	}
	for shares, want := range map[uint64]uint64{0: 0, 1: 1, 2: 1, 1024: 39, 262144: 10000, 1 << 60: 10000} {
		if got := linearWeight(shares); got != want {
			t.Errorf("%d shares are linear weight %d, want %d", shares, got, want)
		}
	}
	last := uint64(0)
	for shares := uint64(1); shares <= 262144; shares++ {
		if w := weight(shares); w < last || w < 1 || w > 10000 {
			t.Fatalf("weight %d for %d shares, after %d", w, shares, last)
		} else {
			last = w
		}
	}
}

func TestIOWeight(t *testing.T) {
	for weight, want := range map[uint16]uint64{0: 0, 10: 1, 100: 910, 500: 4950, 1000: 10000} {
		if got := ioWeight(weight); got != want {
			t.Errorf("weight %d is %d, want %d", weight, got, want)
		}
	}
}

func TestListMask(t *testing.T) {
	for in, want := range map[string][]byte{
		"0": {1}, "0-1": {3}, ",0,1,": {3}, "4-7": {0xf0}, "16": {0, 0, 1}, "0-3,32-33": {0x0f, 0, 0, 0, 3}, "1, 2, 1-2": {6},
		"": nil, "-": nil, "1-": nil, "-3": nil, "54-53": nil, "1 - 2": nil, "0-4294967295": nil,
	} {
		got, err := listMask(in)
		if (err != nil) != (want == nil) || !slices.Equal(got, want) {
			t.Errorf("%q: %v %v, want %v", in, got, err, want)
		}
	}
}

func TestProperties(t *testing.T) {
	for _, test := range []struct {
		in      string
		v       Version
		version int
		want    string
	}{
		{`{"memory":{"limit":4096,"swap":8192,"reservation":100},"pids":{"limit":0},"cpu":{"shares":1024,"quota":5000,"cpus":"0-1"}}`, V2, 252, "MemoryMax=4096 MemoryLow=100 MemorySwapMax=4096 CPUWeight=100 CPUQuotaPerSecUSec=50000 TasksMax=1 AllowedCPUs=[3]"},
		{`{"memory":{"limit":-1},"pids":{"limit":-1},"cpu":{"shares":1024,"quota":-1,"period":5000,"cpus":"0"},"blockIO":{"weight":100}}`, V1, 241, "MemoryLimit=infinity CPUShares=1024 CPUQuotaPerSecUSec=infinity BlockIOWeight=100 TasksMax=infinity"},
		{`{"cpu":{"quota":12345,"period":100000}}`, V2, 252, "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=130000"},
		{`{"cpu":{"shares":200,"idle":1}}`, V2, 252, "CPUWeight=0 !linux.resources.cpu: unable to apply both CPUWeight and CpuIdle to systemd, ignoring CPUWeight"},
		{`{"cpu":{"idle":1}}`, V2, 251, ""},
		{`{"memory":{"limit":4096,"swap":4096}}`, V2, 252, "MemoryMax=4096 MemorySwapMax=0"},
		{`{"unified":{"memory.high":"max","cpu.max":"5000 10000","cpu.weight":"8","cpu.idle":"0","pids.max":"0","cpuset.mems":"0","memory.oom.group":"1"}}`, V2, 253, "CPUQuotaPeriodUSec=10000 CPUQuotaPerSecUSec=500000 CPUWeight=8 AllowedMemoryNodes=[1] MemoryHigh=infinity TasksMax=1"},
		{`{"unified":{"cpu.weight":"8","cpu.idle":"1"}}`, V2, 253, "CPUWeight=0 !unable to apply both cpu.weight and cpu.idle to systemd, ignoring cpu.weight"},
		{`{"unified":{"memory.max":"much"}}`, V2, 253, "error memory.max"},
		{`{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"},{"allow":true,"type":"c","major":136,"access":"rwm"},{"allow":true,"type":"b","access":"m"},{"allow":true,"type":"b","minor":7,"access":"m"}]}`, V2, 252, "DeviceAllow=[] DevicePolicy=strict DeviceAllow=[[/dev/char/1:3 rw] [char-136 rwm] [block-* m]] !linux.resources.devices: systemd has no words for b *:7, and refuses it"},
		{`{"devices":[{"allow":true,"access":"rwm"}]}`, V2, 252, "DeviceAllow=[] DevicePolicy=auto"},
	} {
		list, warnings, err := Properties(resources(t, test.in), all(test.v), test.version)
		var got []string
		for _, p := range list {
			got = append(got, p.String())
		}
		for _, w := range warnings {
			got = append(got, "!"+w)
		}
		if err != nil {
			if want, ok := strings.CutPrefix(test.want, "error "); !ok || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", test.in, err, test.want)
			}
			continue
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%s:\n%s\nwant\n%s", test.in, s, test.want)
		}
	}
	if p := StartProperties(resources(t, `{"unified":{"memory.oom.group":"1"}}`), 253); !reflect.DeepEqual(p, []Property{{"OOMPolicy", "kill"}}) {
		t.Error(p)
	}
	if p := StartProperties(resources(t, `{"unified":{"memory.oom.group":"1"}}`), 252); p != nil {
		t.Error(p)
	}
}

// FuzzCompile: whatever config.json holds, every write is for one line of one file of
// the cgroup, and the same input gives the same writes.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		`{"memory":{"limit":-1},"cpu":{"shares":3,"cpus":"0"},"hugepageLimits":[{"pageSize":"2MB","limit":1}],"rdma":{"a":{"hcaHandles":1}}}`,
		`{"unified":{"memory.max":"1\n2"},"devices":[{"allow":true,"access":"r"}],"network":{"priorities":[{"name":"e","priority":1}]}}`,
		`{"blockIO":{"weightDevice":[{"major":1,"minor":2,"weight":10}],"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1}]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r specs.LinuxResources
		if json.Unmarshal(data, &r) != nil {
			return
		}
		for _, v := range []Version{V1, V2} {
			l, err := Compile(&r, all(v))
			again, err2 := Compile(&r, all(v))
			if (err == nil) != (err2 == nil) || !reflect.DeepEqual(l, again) {
				t.Fatalf("two answers: %+v %v, %+v %v", l, err, again, err2)
			}
			for _, w := range l.Writes {
				for e := &w; e != nil; e = e.Else {
					if e.File == "" || strings.Contains(e.File, "/") || strings.ContainsAny(e.Value, "\n") || e.Value == "" {
						t.Fatalf("%+v", e)
					}
				}
			}
			if _, _, err := Properties(&r, all(v), 255); err != nil && err.Error() == "" {
				t.Fatal("an error without a word")
			}
		}
	})
}

// With systemd a quota is of whole percents, in the file as in the unit.
func TestPercents(t *testing.T) {
	for _, test := range []struct {
		quota  int64
		period uint64
		want   int64
	}{
		{500000, 900000, 504000}, {50000, 0, 50000}, {12345, 100000, 13000}, {-1, 1000, -1}, {0, 900000, 0}, {3000, 1000, 3000},
	} {
		r := &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &test.quota, Period: &test.period}}
		before := test.quota
		if got := *Percents(r).CPU.Quota; got != test.want || test.quota != before {
			t.Errorf("%d of %d: %d, want %d; it was %d before", test.quota, test.period, got, test.want, before)
		}
	}
	if Percents(nil) != nil {
		t.Error("something of nothing")
	}
}

// TestBecause: an error names the flag in the place of a field of config.json, that of the field itself or those of the ones in it.
func TestBecause(t *testing.T) {
	limit, period := int64(20), uint64(5000)
	causes := map[string]string{"linux.resources.pids.limit": "--pids-limit 20", "linux.resources.cpu.period": "--cpu-period 5000", "linux.resources.cpu.quota": "--cpu-quota 20", "linux.resources": "default"}
	for want, r := range map[string]*specs.LinuxResources{
		"--pids-limit 20: ":                    {Pids: &specs.LinuxPids{Limit: &limit}},
		"--cpu-period 5000, --cpu-quota 20: ":  {CPU: &specs.LinuxCPU{Quota: &limit, Period: &period}},
		"config.json linux.resources.memory: ": {Memory: &specs.LinuxMemory{Limit: &limit}},
	} {
		_, err := Compile(r, Controllers{})
		if got := Because(err, causes); got == nil || !strings.HasPrefix(got.Error(), want+"cannot set ") || !errors.Is(got, ErrMissing) {
			t.Errorf("%v, want %q", got, want)
		}
	}
	if got := Because(fieldErr("linux.resources.cpu", "x"), map[string]string{"linux.resources.cpu.period": "--cpus 2", "linux.resources.cpu.quota": "--cpus 2"}); got.Error() != "--cpus 2: x" {
		t.Errorf("one flag for two fields: %v", got)
	}
	// A Raspberry Pi has its kernel start without it.
	if _, err := Compile(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}, Controllers{}); err == nil || !strings.Contains(err.Error(), "cgroup_enable=memory") {
		t.Errorf("no controller of memory: %v", err)
	}
	other := errors.New("other")
	if Because(other, causes) != other || Because(nil, causes) != nil {
		t.Error("another error is changed")
	}
}
