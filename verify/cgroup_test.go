package verify

import (
	"crypto/sha1"
	"crypto/sha256"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
)

func TestJudgeCgroupFile(t *testing.T) {
	of := func(file, value, text string) answer {
		return judgeCgroupFile(&plan.CgroupFileCheck{Path: "/c/" + file, Value: value}, text, 4096)
	}
	check(t, []verdictCase{
		{"equal", of("pids.max", "100", "100\n"), "ok: 100"},
		{"another", of("pids.max", "100", "101\n"), "differs: 101"},
		{"none asked", of("pids.max", "max", "max\n"), "ok: max"},
		{"none there", of("pids.max", "100", "max\n"), "differs: max"},
		{"empty", of("pids.max", "100", "\n"), "differs: nothing"},
		{"whole pages", of("memory.max", "100000001", "99999744\n"), "ok: 99999744, whole pages of 4096"},
		{"a page less", of("memory.max", "100000001", "99995648\n"), "differs: 99995648"},
		{"a page more", of("memory.max", "100000001", "100003840\n"), "differs: 100003840"},
		{"pages only where the kernel counts them", of("cpu.shares", "4097", "4096\n"), "differs: 4096"},
		{"with a unit", of("memory.high", "512M", "536870912\n"), "ok: 536870912"},
		{"no limit of version 1", of("memory.limit_in_bytes", "-1", "9223372036854771712\n"), "ok: 9223372036854771712, no limit"},
		{"no limit of quota", of("cpu.cfs_quota_us", "-1", "-1\n"), "ok: -1"},
		{"a limit where none was asked for", of("memory.limit_in_bytes", "-1", "4096\n"), "differs: 4096"},
		{"huge pages", of("hugetlb.2MB.max", "5000000", "4194304\n"), "ok: 4194304, whole pages of 2097152"},
		{"no limit of huge pages", of("hugetlb.2MB.limit_in_bytes", "9223372036854775807", "9223372036852678656\n"), "ok: 9223372036852678656, no limit"},
		{"quota and period", of("cpu.max", "50000 100000", "50000 100000\n"), "ok: 50000 100000"},
		{"another quota", of("cpu.max", "60000 100000", "50000 100000\n"), "differs: 50000 100000"},
		{"quota alone", of("cpu.max", "50000", "50000 100000\n"), "ok: 50000 100000"},
		{"another period", of("cpu.max", "50000 100000", "50000 200000\n"), "differs: 50000 200000"},
		{"processors", of("cpuset.cpus", "0,1,3", "0-1,3\n"), "ok: 0-1,3"},
		{"fewer processors", of("cpuset.cpus", "0-3", "0-2\n"), "differs: 0-2"},
		{"no processors", of("cpuset.cpus", "0-3", "\n"), "differs: "},
		{"a device", of("io.max", "8:0 rbps=100", "8:0 rbps=100 wbps=max riops=max wiops=max\n8:16 rbps=1 wbps=1 riops=1 wiops=1\n"), "ok: 8:0 rbps=100 wbps=max riops=max wiops=max"},
		{"another rate", of("io.max", "8:0 wbps=100", "8:0 rbps=100 wbps=max riops=max wiops=max\n"), "differs: 8:0 rbps=100 wbps=max riops=max wiops=max"},
		{"another device", of("io.max", "8:0 rbps=100", "8:16 rbps=100 wbps=max riops=max wiops=max\n"), "differs: nothing for 8:0"},
		{"no device", of("io.max", "8:0 rbps=100", ""), "differs: nothing for 8:0"},
		{"a device without a limit", of("io.max", "8:0 rbps=max", ""), "ok: nothing for 8:0, no limit"},
		{"a device of version 1", of("blkio.throttle.read_bps_device", "8:0 100", "8:16 100\n8:0 100\n"), "ok: 8:0 100"},
		{"one without a limit of version 1", of("blkio.throttle.read_bps_device", "8:0 0", "8:16 100\n"), "ok: nothing for 8:0, no limit"},
		{"a weight", of("io.weight", "200", "default 200\n"), "ok: default 200"},
		{"a weight beside devices", of("io.weight", "200", "default 100\n8:0 200\n"), "differs: default 100"},
		{"priorities", of("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 5\n"), "ok: eth0 5"},
		{"objects", of("rdma.max", "mlx hca_handle=2", "mlx hca_handle=2 hca_object=max\n"), "ok: mlx hca_handle=2 hca_object=max"},
		{"oom killer", of("memory.oom_control", "1", "oom_kill_disable 1\nunder_oom 0\noom_kill 0\n"), "ok: oom_kill_disable 1"},
		{"oom killer on", of("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"), "differs: oom_kill_disable 0"},
		{"controllers", of("cgroup.subtree_control", "+pids -io", "cpu pids\n"), "ok: cpu pids"},
		{"controller missing", of("cgroup.subtree_control", "+pids +io", "cpu pids\n"), "differs: cpu pids"},
	})
}

// A file that is not there, and what is no file of a cgroup's.
func TestCgroupFile(t *testing.T) {
	r, dir := &reader{}, t.TempDir()
	if err := os.WriteFile(dir+"/pids.max", []byte("100\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	of := func(c plan.CgroupFileCheck) answer { return r.cgroupFile(&c) }
	check(t, []verdictCase{
		{"no cgroup", of(plan.CgroupFileCheck{Path: dir + "/gone/pids.max", Value: "1"}), "differs: there is no such control group"},
		{"no file", of(plan.CgroupFileCheck{Path: dir + "/memory.max", Value: "1"}), "differs: there is no such file"},
		{"no file, and no fault", of(plan.CgroupFileCheck{Path: dir + "/memory.max", Value: "1", Optional: true}), "ok: this kernel has no such file, and needs none"},
		{"neither file", of(plan.CgroupFileCheck{Path: dir + "/io.bfq.weight", Value: "1", ElsePath: dir + "/io.weight"}), "differs: io.weight there is no such file"},
		{"another file system", of(plan.CgroupFileCheck{Path: dir + "/pids.max", Value: "100"}), "unknown: it is on no cgroup file system"},
		{"an order", of(plan.CgroupFileCheck{Path: dir + "/memory.reclaim", Value: "1"}), "unknown: what is written to this file is an order, and no value that stays"},
	})
}

func TestCgroupDirOf(t *testing.T) {
	its := []namespace.Cgroup{{Hierarchy: 3, Controllers: []string{"cpu", "cpuacct"}, Path: "/a/b"}, {Hierarchy: 2, Controllers: []string{"name=systemd"}, Path: "/"}, {Path: "/x/y"}, {Hierarchy: 4, Controllers: []string{"pids"}, Path: "/../other"}}
	mounts := []namespace.Mount{
		{Type: "cgroup", Super: "rw,cpu,cpuacct", Root: "/a/bc", Point: "/wrong"}, {Type: "cgroup", Super: "rw,cpu,cpuacct", Root: "/a", Point: "/cg/cpu"},
		{Type: "cgroup2", Root: "/", Point: "/cg/unified"}, {Type: "cgroup", Super: "rw,name=systemd", Root: "/", Point: "/cg/systemd"},
		{Type: "cgroup", Super: "rw,pids", Root: "/", Point: "/cg/pids"},
	}
	for controller, want := range map[string]string{
		"cpu": "/cg/cpu/b", "cpuacct": "/cg/cpu/b", "": "/cg/unified/x/y", "name=systemd": "/cg/systemd",
		"pids": "/../other is not below what is mounted here", "memory": "the process has no place in a hierarchy for controller memory",
	} {
		if dir, why := cgroupDirOf(controller, its, mounts); dir+why.unknown != want {
			t.Errorf("%q: %q %q, want %q", controller, dir, why.unknown, want)
		}
	}
	if _, why := cgroupDirOf("cpu", its, mounts[2:]); why.unknown != "no hierarchy is mounted here for controller cpu" {
		t.Errorf("not mounted: %q", why.unknown)
	}
}

func TestJudgeDevices(t *testing.T) {
	policy := func(s string) limits.Devices {
		d, err := limits.ParseDevices(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	few, most := policy("deny all but c 1:3 rwm, c 136:* rw"), policy("allow all but c 1:5 w")
	filter := func(id uint32, name string, tag []byte) cgroup.Filter {
		return cgroup.Filter{ID: id, Name: name, Tag: [8]byte(tag[:8])}
	}
	older, newer := sha1.Sum(few.Program().Bytes()), sha256.Sum256(few.Program().Bytes())
	other := sha256.Sum256(most.Program().Bytes())
	check(t, []verdictCase{
		{"list", judgeDeviceList(few, "c 1:3 rwm\nc 136:* rw\n"), "ok: deny all but c 1:3 rwm, c 136:* rw"},
		{"one more", judgeDeviceList(few, "c 1:3 rwm\nc 1:5 r\nc 136:* rw\n"), "differs: deny all but c 1:3 rwm, c 1:5 r, c 136:* rw"},
		{"all", judgeDeviceList(few, "a *:* rwm\n"), "differs: allow all"},
		{"exceptions that do not show", judgeDeviceList(most, "a *:* rwm\n"), "unknown: devices.list says that all is allowed; which exceptions there are, the kernel does not tell"},
		{"all asked", judgeDeviceList(policy("allow all"), "a *:* rwm\n"), "ok: allow all"},
	})
	for _, c := range []struct {
		name string
		list []cgroup.Filter
		want string
	}{
		{"ours", []cgroup.Filter{filter(7, "kakuri_devices", newer[:])}, "ok"},
		{"ours, on an older kernel", []cgroup.Filter{filter(7, "kakuri_devices", older[:])}, "ok"},
		{"beside systemd's", []cgroup.Filter{filter(6, "sd_devices", other[:]), filter(7, "kakuri_devices", newer[:])}, "ok"},
		{"another policy's", []cgroup.Filter{filter(7, "kakuri_devices", other[:])}, "differs"},
		{"systemd's alone", []cgroup.Filter{filter(6, "sd_devices", newer[:])}, "differs"},
		{"none", nil, "differs"},
		{"unreadable", []cgroup.Filter{{ID: 9, Unread: unix.EPERM}}, "unknown"},
	} {
		a := judgeFilters(few, c.list)
		r := Result{Measured: a.measured, OK: a.ok, Unknown: a.unknown}
		if r.Verdict() != c.want || a.measured+a.unknown == "" {
			t.Errorf("%s: %s %+v", c.name, r.Verdict(), a)
		}
	}
	check(t, []verdictCase{{"none asked, none there", judgeFilters(policy("allow all"), nil), "ok: no program of this runtime, and so nothing is denied by one"}})
}

func TestJudgeResctrl(t *testing.T) {
	check(t, []verdictCase{
		{"there", judgeResctrl(&plan.ResctrlCheck{Group: "c1"}, "res:c1\nmon:\n"), "ok: c1"},
		{"monitored", judgeResctrl(&plan.ResctrlCheck{Group: "c1", Monitor: "m"}, "res:c1\nmon:m\n"), "ok: c1, monitored by m"},
		{"not monitored", judgeResctrl(&plan.ResctrlCheck{Group: "c1", Monitor: "m"}, "res:c1\nmon:\n"), "differs: c1"},
		{"the default group", judgeResctrl(&plan.ResctrlCheck{Group: "/"}, "res:/\nmon:/\n"), "ok: /, monitored by /"},
		{"elsewhere", judgeResctrl(&plan.ResctrlCheck{Group: "c1"}, "res:/\nmon:/\n"), "differs: /, monitored by /"},
		{"not mounted", judgeResctrl(&plan.ResctrlCheck{Group: "c1"}, "res:\nmon:\n"), "unknown: resctrl is not mounted"},
	})
}

func TestJudgeScheduler(t *testing.T) {
	check(t, []verdictCase{
		{"nice", judgeScheduler(&plan.SchedulerCheck{Nice: 5}, &unix.SchedAttr{Nice: 5, Runtime: 3_000_000}), "ok: policy 0 nice 5"},
		{"another nice", judgeScheduler(&plan.SchedulerCheck{Nice: 5}, &unix.SchedAttr{Nice: 4}), "differs: policy 0 nice 4"},
		{"another policy", judgeScheduler(&plan.SchedulerCheck{Policy: abi.SchedBatch}, &unix.SchedAttr{}), "differs: policy 0 nice 0"},
		{"priority", judgeScheduler(&plan.SchedulerCheck{Policy: abi.SchedFIFO, Priority: 3}, &unix.SchedAttr{Policy: abi.SchedFIFO, Priority: 3}), "ok: policy 1 nice 0 priority 3"},
		{"flag lost", judgeScheduler(&plan.SchedulerCheck{Flags: abi.SchedFlagResetOnFork}, &unix.SchedAttr{}), "differs: policy 0 nice 0"},
		{"flag that the kernel does not keep", judgeScheduler(&plan.SchedulerCheck{Flags: abi.SchedFlagKeepPolicy}, &unix.SchedAttr{}), "ok: policy 0 nice 0"},
		{"policy left as it was", judgeScheduler(&plan.SchedulerCheck{Policy: abi.SchedFIFO, Nice: 3, Flags: abi.SchedFlagKeepPolicy | abi.SchedFlagResetOnFork}, &unix.SchedAttr{Nice: 3}), "ok: policy 0 nice 3"},
		{"policy left, another nice", judgeScheduler(&plan.SchedulerCheck{Policy: abi.SchedFIFO, Nice: 3, Flags: abi.SchedFlagKeepPolicy}, &unix.SchedAttr{}), "differs: policy 0 nice 0"},
		{"nice left as it was", judgeScheduler(&plan.SchedulerCheck{Nice: 5, Flags: abi.SchedFlagKeepParams}, &unix.SchedAttr{Nice: 1}), "ok: policy 0 nice 1"},
		{"nice left, another policy", judgeScheduler(&plan.SchedulerCheck{Policy: abi.SchedBatch, Flags: abi.SchedFlagKeepParams}, &unix.SchedAttr{}), "differs: policy 0 nice 0"},
		{"deadline", judgeScheduler(&plan.SchedulerCheck{Policy: abi.SchedDeadline, Runtime: 1, Deadline: 2}, &unix.SchedAttr{Policy: abi.SchedDeadline, Runtime: 1, Deadline: 2, Period: 2}), "ok: policy 6 nice 0 runtime 1 deadline 2 period 2"},
		{"slice", judgeScheduler(&plan.SchedulerCheck{Runtime: 1}, &unix.SchedAttr{Runtime: 100_000}), "ok: policy 0 nice 0 runtime 100000 deadline 0 period 0"},
	})
}

func TestJudgeMemoryPolicy(t *testing.T) {
	bind := &plan.MemoryPolicyCheck{Mode: abi.MpolBind, Nodes: []plan.Range{{First: 0, Last: 1}}}
	check(t, []verdictCase{
		{"there", judgeMemoryPolicy(bind, "559f68074000 bind:0-1 file=/bin/x mapped=2 N0=2\n"), "ok: bind:0-1"},
		{"of fewer nodes", judgeMemoryPolicy(bind, "559f68074000 bind:0 heap anon=2\n"), "ok: bind:0"},
		{"of another node", judgeMemoryPolicy(bind, "559f68074000 bind:2 anon=1\n"), "differs: bind:2"},
		{"none", judgeMemoryPolicy(bind, "559f68074000 default file=/bin/x\n559f68075000 default stack\n"), "differs: default"},
		{"beside a mapping's own", judgeMemoryPolicy(bind, "559f68074000 interleave:0 anon=1\n559f68075000 bind:0-1 stack\n"), "ok: bind:0-1"},
		{"default", judgeMemoryPolicy(&plan.MemoryPolicyCheck{}, "559f68074000 default anon=1\n"), "ok: default"},
		{"static", judgeMemoryPolicy(&plan.MemoryPolicyCheck{Mode: abi.MpolInterleave | abi.MpolFlagStaticNodes, Nodes: bind.Nodes}, "55 interleave=static:0-1 anon=1\n"), "ok: interleave=static:0-1"},
		{"balancing", judgeMemoryPolicy(&plan.MemoryPolicyCheck{Mode: abi.MpolBind | abi.MpolFlagNumaBalancing, Nodes: bind.Nodes}, "55 bind=balancing:0-1 anon=1\n"), "ok: bind=balancing:0-1"},
		{"preferred many", judgeMemoryPolicy(&plan.MemoryPolicyCheck{Mode: abi.MpolPreferredMany, Nodes: bind.Nodes}, "55 prefer (many):0-1 anon=1\n"), "ok: prefer (many):0-1"},
		{"preferred without nodes", judgeMemoryPolicy(&plan.MemoryPolicyCheck{Mode: abi.MpolPreferred}, "55 local anon=1\n"), "ok: local"},
		{"no memory", judgeMemoryPolicy(bind, ""), "unknown: the process has no memory of its own yet"},
	})
}

func TestJudgeAffinity(t *testing.T) {
	all, two := &plan.AffinityCheck{}, &plan.AffinityCheck{CPUs: []plan.Range{{First: 1, Last: 5}}}
	check(t, []verdictCase{
		{"all", judgeAffinity(all, []int{0, 1, 2}, []int{0, 1, 2}), "ok: 0-2"},
		{"fewer", judgeAffinity(all, []int{0, 2}, []int{0, 1, 2}), "differs: 0,2 of 0-2"},
		{"some", judgeAffinity(two, []int{1, 2}, []int{0, 1, 2}), "ok: 1-2 of 0-2"},
		{"others", judgeAffinity(two, []int{0}, []int{0, 1, 2}), "differs: 0 of 0-2"},
	})
}

func TestFindDevice(t *testing.T) {
	const dev = "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  eth3: 5 6\n ethx: 7\n"
	for name, want := range map[string]string{"lo": "lo", "eth%d": "eth3", "eth3": "eth3", "eth": "", "%d": "", "veth%d": ""} {
		if got, ok := findDevice(name, dev); got != want || ok != (want != "") {
			t.Errorf("%s: %q %v", name, got, ok)
		}
	}
}

func TestJudgePropagation(t *testing.T) {
	mounts := []namespace.Mount{{Point: "/", Unbindable: true}, {Point: "/", Shared: 3, Master: 2}, {Point: "/x"}}
	check(t, []verdictCase{
		{"shared", judgePropagation(&plan.PropagationCheck{Path: "/", Mode: "shared"}, mounts), "ok: slave,shared"},
		{"unbindable", judgePropagation(&plan.PropagationCheck{Path: "/", Mode: "unbindable"}, mounts), "differs: slave,shared"},
		{"private", judgePropagation(&plan.PropagationCheck{Path: "/x", Mode: "private"}, mounts), "ok: private"},
		{"none", judgePropagation(&plan.PropagationCheck{Path: "/y", Mode: "shared"}, mounts), "differs: not a mount"},
	})
}
