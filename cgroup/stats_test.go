package cgroup

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// TestStatsV2 pins the text that callers get, as runc 1.5's events --stats prints it for the same files.
func TestStatsV2(t *testing.T) {
	files := map[string]string{
		"cpu.stat":     "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 4\nnr_throttled 3\nthrottled_usec 70\nnr_bursts 0\nburst_usec 0\n",
		"cpu.pressure": "some avg10=1.50 avg60=0.25 avg300=0.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
		"memory.stat":  "anon 100\nfile 50\nslab -1\n", "memory.current": "200\n", "memory.max": "max\n", "memory.peak": "300\n",
		"memory.swap.current": "10\n", "memory.swap.max": "4096\n",
		"pids.current": "3\n", "pids.max": "max\n",
		"io.stat":         "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n7:0 \n",
		"hugetlb.2MB.max": "4096\n", "hugetlb.2MB.current": "0\n", "hugetlb.2MB.events": "max 2\n", "hugetlb.2MB.rsvd.current": "2097152\n", "hugetlb.2MB.rsvd.max": "max\n",
		"hugetlb.1GB.current": "5\n", "hugetlb.1GB.events": "max 0\n",
	}
	tree := map[string]string{}
	for name, text := range files {
		tree["sys/fs/cgroup/g/"+name] = text
	}
	h, _ := fake(t, unifiedMounts, unifiedOwn, tree)
	g, err := h.Group(Options{Path: "/g"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"cpu":{"usage":{"total":1500000,"kernel":500000,"user":1000000},"throttling":{"periods":4,"throttledPeriods":3,"throttledTime":70000},` +
		`"psi":{"some":{"avg10":1.5,"avg60":0.25,"avg300":0,"total":123},"full":{"avg10":0,"avg60":0,"avg300":0,"total":7}}},` +
		`"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},` +
		`"memory":{"cache":50,"usage":{"limit":18446744073709551615,"usage":200,"max":300,"failcnt":0},"swap":{"limit":4095,"usage":210,"failcnt":0},"raw":{"anon":100,"file":50,"slab":0}},` +
		`"pids":{"current":3},"blkio":{"ioServiceBytesRecursive":[{"major":8,"op":"Read","value":1},{"major":8,"op":"Write","value":2}],"ioServicedRecursive":[{"major":8,"op":"Read","value":3},{"major":8,"op":"Write","value":4}]},` +
		`"hugetlb":{"1GB":{"usage":5,"failcnt":0},"2MB":{"usage":2097152,"failcnt":2}},"intel_rdt":{},"network_interfaces":null}`
	if string(got) != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestStatsV1(t *testing.T) {
	tree := map[string]string{}
	for name, text := range map[string]string{
		"cpu,cpuacct/g/cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 99\n", "cpu,cpuacct/g/cpuacct.stat": "user 10\nsystem 20\n",
		"cpu,cpuacct/g/cpuacct.usage": "305000000\n", "cpu,cpuacct/g/cpuacct.usage_percpu": "300000000 5000000 \n",
		"cpu,cpuacct/g/cpuacct.usage_all": "cpu user system\n0 1 2\n1 3 4\n",
		"memory/g/memory.stat":            "cache 7\nrss 1\n", "memory/g/memory.usage_in_bytes": "11\n", "memory/g/memory.limit_in_bytes": "4096\n", "memory/g/memory.max_usage_in_bytes": "12\n", "memory/g/memory.failcnt": "1\n",
		"memory/g/memory.kmem.usage_in_bytes": "2\n", "memory/g/memory.kmem.max_usage_in_bytes": "3\n", "memory/g/memory.kmem.failcnt": "0\n",
		"cpuset/g/cpus": "0-2,5\n", "cpuset/g/mems": "0\n", "cpuset/g/sched_relax_domain_level": "-1\n", "cpuset/g/sched_load_balance": "1\n",
		"pids/g/pids.current": "1\n", "pids/g/pids.max": "20\n", "systemd/g/": "",
	} {
		tree["sys/fs/cgroup/"+name] = text
	}
	tree["my groups/devices/g/"] = ""
	h, _ := fake(t, v1Mounts, v1Own, tree)
	g, err := h.Group(Options{Path: "/g"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	want := Stats{
		CPU: CPU{
			Usage:      CPUUsage{Total: 305000000, PerCPU: []uint64{300000000, 5000000}, PerCPUUser: []uint64{1, 3}, PerCPUKernel: []uint64{2, 4}, User: 100000000, Kernel: 200000000},
			Throttling: Throttling{Periods: 5, ThrottledPeriods: 2, ThrottledTime: 99},
		},
		CPUSet: CPUSet{CPUs: []uint16{0, 1, 2, 5}, Mems: []uint16{0}, SchedLoadBalance: 1, SchedRelaxDomainLevel: -1},
		Memory: Memory{Cache: 7, Usage: MemoryEntry{Limit: 4096, Usage: 11, Max: 12, Failcnt: 1}, Kernel: MemoryEntry{Usage: 2, Max: 3}, Raw: map[string]uint64{"cache": 7, "rss": 1}},
		Pids:   Pids{Current: 1, Limit: 20}, Hugetlb: map[string]Hugetlb{},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("%+v\nwant\n%+v", s, want)
	}
}

// TestBlkioSets: what a kernel without a scheduler for it does not count is taken from its throttle.
func TestBlkioSets(t *testing.T) {
	const mounts = "40 39 0:31 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n"
	read := func(files map[string]string) BlockIO {
		tree := map[string]string{"sys/fs/cgroup/blkio/g/": ""}
		for name, text := range files {
			tree["sys/fs/cgroup/blkio/g/"+name] = text
		}
		h, _ := fake(t, mounts, "1:blkio:/\n", tree)
		g, err := h.Group(Options{Path: "/g"})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		s, err := g.Stats()
		if err != nil {
			t.Fatal(err)
		}
		return s.BlockIO
	}
	lines := "8:0 Read 1\n8:0 Total 1\nTotal 1\n"
	entries := []BlockIOEntry{{Major: 8, Op: "Read", Value: 1}, {Major: 8, Op: "Total", Value: 1}}
	if got := read(map[string]string{"blkio.throttle.io_serviced": lines, "blkio.throttle.io_service_bytes": lines}); !reflect.DeepEqual(got, BlockIO{Serviced: entries, ServiceBytes: entries}) {
		t.Errorf("throttle: %+v", got)
	}
	if got := read(map[string]string{
		"blkio.bfq.io_serviced_recursive": "Total 0\n", "blkio.bfq.io_service_bytes_recursive": "Total 0\n",
		"blkio.throttle.io_serviced_recursive": lines, "blkio.throttle.io_service_bytes_recursive": lines,
	}); !reflect.DeepEqual(got, BlockIO{Serviced: entries, ServiceBytes: entries}) {
		t.Errorf("bfq that is not in use: %+v", got)
	}
	if got := read(map[string]string{
		"blkio.bfq.sectors_recursive": "8:0 5\n", "blkio.bfq.io_service_time_recursive": lines,
		"blkio.throttle.io_serviced_recursive": lines,
	}); !reflect.DeepEqual(got, BlockIO{Sectors: []BlockIOEntry{{Major: 8, Value: 5}}, ServiceTime: entries}) {
		t.Errorf("bfq with its details: %+v", got)
	}
}

// TestStatsErrors: a file that makes no sense is named.
func TestStatsErrors(t *testing.T) {
	for name, text := range map[string]string{
		"memory.stat": "anon\n", "cpu.stat": "usage_usec x\n", "io.stat": "8 rbytes=1\n", "pids.current": "many\n", "cpu.pressure": "some avg10=x\n",
	} {
		h, _ := fake(t, unifiedMounts, unifiedOwn, map[string]string{"sys/fs/cgroup/g/" + name: text})
		g, err := h.Group(Options{Path: "/g"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Stats(); err == nil || !strings.Contains(err.Error(), "read "+name) {
			t.Errorf("%s: %v", name, err)
		}
		g.Close()
	}
}

// FuzzStats: no text of a file makes a parser panic, or a number out of nothing.
func FuzzStats(f *testing.F) {
	f.Add("anon 1\nfile 2\n")
	f.Add("8:0 rbytes=1 wbytes=2 rios=3 wios=4\n")
	f.Add("some avg10=1.50 avg60=0.25 avg300=0.00 total=123\n")
	f.Add("cpu user system\n0 1 2\n")
	f.Add("8:0 Read 1\nTotal 1\n")
	f.Add("0-3,7")
	f.Fuzz(func(t *testing.T, text string) {
		if m, err := parseTable(text); err == nil && len(m) > strings.Count(text, "\n")+1 {
			t.Fatalf("%d keys of %q", len(m), text)
		}
		bytes, ops, err := parseIO(text)
		if err != nil && bytes != nil {
			t.Fatal("an error, and entries")
		}
		if len(bytes)+len(ops) > strings.Count(text, "=") {
			t.Fatalf("%v %v of %q", bytes, ops, text)
		}
		parsePSI(text)
		if user, kernel, err := parseUsageAll(text); err == nil && len(user) != len(kernel) {
			t.Fatalf("%v %v of %q", user, kernel, text)
		}
		parseBlkio(text)
		parseList(text)
		keyed(text, "anon")
		number(text)
		parseMount(text)
	})
}

// TestStatsOfBoth: beside version 1 a controller that version 2 has is read there, as that of memory on kernels that have it there alone; others are not.
func TestStatsOfBoth(t *testing.T) {
	h, _ := fake(t, hybridMounts, "4:pids:/\n0::/\n", map[string]string{
		"sys/fs/cgroup/unified/cgroup.controllers": "memory\n",
		"sys/fs/cgroup/unified/g/memory.stat":      "anon 100\nfile 50\n", "sys/fs/cgroup/unified/g/memory.current": "200\n", "sys/fs/cgroup/unified/g/memory.max": "4096\n",
		"sys/fs/cgroup/unified/g/cgroup.procs": "1\n2\n3\n", "sys/fs/cgroup/unified/g/cpu.stat": "usage_usec 1500\n",
		"sys/fs/cgroup/pids/g/pids.current": "1\n", "sys/fs/cgroup/pids/g/pids.max": "77\n",
	})
	g, err := h.Group(Options{Path: "/g"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	s, err := g.Stats()
	if err != nil || s.Memory.Usage.Usage != 200 || s.Memory.Usage.Limit != 4096 || s.Pids.Current != 1 || s.Pids.Limit != 77 || s.CPU.Usage.Total != 0 {
		t.Errorf("%v: %+v", err, s)
	}
}
