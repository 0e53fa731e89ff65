package limits

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	old := `{"devices":[{"allow":true,"access":"rwm"}],"memory":{"limit":100,"swap":200,"reservation":50},"cpu":{"shares":1024,"quota":5000,"period":10000,"cpus":"0"},"pids":{"limit":5},
		"blockIO":{"weight":100,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":16,"rate":2}]}}`
	pids, memory := []string{"pids.max 5"}, []string{"memory.swap.max 100", "memory.max 100", "memory.low 50"}
	io := []string{"io.bfq.weight 100 else io.weight 910", "io.max 8:0 rbps=1", "io.max 8:16 rbps=2"}
	cpu := []string{"cpu.weight 100", "cpu.max 5000 10000 again", "cpuset.cpus 0"}
	for _, test := range []struct {
		changes string
		want    []string // what version 2 then writes
	}{
		{`{}`, slices.Concat(pids, memory, io, cpu)},
		{`{"memory":{"swap":300}}`, slices.Concat(pids, []string{"memory.swap.max 200", "memory.max 100", "memory.low 50"}, io, cpu)},
		{`{"memory":{"limit":-1}}`, slices.Concat(pids, []string{"memory.swap.max max optional", "memory.max max", "memory.low 50"}, io, cpu)},
		{`{"cpu":{"quota":7000}}`, slices.Concat(pids, memory, io, []string{"cpu.weight 100", "cpu.max 7000 10000 again", "cpuset.cpus 0"})},
		{`{"cpu":{"period":20000}}`, slices.Concat(pids, memory, io, []string{"cpu.weight 100", "cpu.max 5000 20000 again", "cpuset.cpus 0"})},
		{`{"cpu":{"idle":1}}`, slices.Concat(pids, memory, io, []string{"cpu.idle 1", "cpu.max 5000 10000 again", "cpuset.cpus 0"})},
		{`{"pids":{"limit":9},"cpu":{"cpus":"1","shares":512},"unified":{"memory.high":"7"}}`, slices.Concat([]string{"pids.max 9"}, memory, io, []string{"cpu.weight 59", "cpu.max 5000 10000 again", "cpuset.cpus 1", "memory.high 7"})},
		{`{"blockIO":{"weight":500,"throttleReadBpsDevice":[{"major":8,"minor":16,"rate":9},{"major":9,"minor":0,"rate":3}]}}`, slices.Concat(pids, memory, []string{"io.bfq.weight 500 else io.weight 4950", "io.max 8:0 rbps=1", "io.max 8:16 rbps=9", "io.max 9:0 rbps=3"}, cpu)},
	} {
		before, changes := resources(t, old), resources(t, test.changes)
		l, err := Compile(Merge(before, changes), all(V2))
		if got := text(l); err != nil || !slices.Equal(got, test.want) || l.Devices == nil {
			t.Errorf("%s: %v\n%s\nwant\n%s", test.changes, err, strings.Join(got, "\n"), strings.Join(test.want, "\n"))
		}
		for arg, want := range map[any]string{before: old, changes: test.changes} {
			a, err1 := json.Marshal(arg)
			b, err2 := json.Marshal(resources(t, want))
			if err1 != nil || err2 != nil || string(a) != string(b) {
				t.Errorf("%s: an argument has changed: %s", test.changes, a)
			}
		}
	}
	// A weight makes an idle cgroup one that is not.
	idle := Merge(Merge(nil, resources(t, `{"cpu":{"idle":1}}`)), resources(t, `{"cpu":{"shares":1024}}`))
	if l, err := Compile(idle, all(V2)); err != nil || !slices.Equal(text(l), []string{"cpu.idle 0", "cpu.weight 100"}) {
		t.Errorf("%q %v", text(l), err)
	}
	idle = Merge(resources(t, `{"cpu":{"idle":1}}`), resources(t, `{"cpu":{"quota":5000}}`))
	if l, err := Compile(idle, all(V2)); err != nil || !slices.Equal(text(l), []string{"cpu.idle 1", "cpu.max 5000 100000 again"}) {
		t.Errorf("a quota for an idle cgroup: %q %v", text(l), err)
	}
	if b := Merge(nil, resources(t, `{"blockIO":{"leafWeight":300}}`)).BlockIO; value(b.LeafWeight) != 300 {
		t.Errorf("a weight of leaves: %+v", b)
	}
	if n := Merge(nil, resources(t, `{"network":{"classID":7}}`)).Network; n == nil || value(n.ClassID) != 7 {
		t.Errorf("a class of packets: %+v", n)
	}
	if m := Merge(resources(t, `{"memory":{"limit":10,"checkBeforeUpdate":true}}`), resources(t, `{"memory":{"limit":20}}`)).Memory; value(m.CheckBeforeUpdate) {
		t.Error("an update is checked since the one before was")
	}
	if l, err := Compile(Merge(nil, nil), all(V2)); err != nil || len(l.Writes) != 0 {
		t.Errorf("%+v %v", l, err)
	}
}

// A device that a configuration has twice is changed as a whole.
func TestMergeTwice(t *testing.T) {
	old := resources(t, `{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":16,"rate":2},{"major":8,"minor":0,"rate":3}]}}`)
	l, err := Compile(Merge(old, resources(t, `{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":7}]}}`)), all(V2))
	if got, want := text(l), []string{"io.max 8:0 rbps=7", "io.max 8:16 rbps=2"}; err != nil || !slices.Equal(got, want) || len(old.BlockIO.ThrottleReadBpsDevice) != 3 {
		t.Errorf("%v: %q, want %q", err, got, want)
	}
}

// TestMergeAll: every field that an update may have takes the place of the one before, and every one that it leaves out stays.
func TestMergeAll(t *testing.T) {
	all := func(n int) string {
		device := fmt.Sprintf(`[{"major":8,"minor":0,"rate":%d}]`, n)
		return fmt.Sprintf(`{"memory":{"limit":%[1]d,"reservation":%[1]d,"swap":%[1]d,"swappiness":%[1]d,"disableOOMKiller":%[2]t},
			"cpu":{"shares":%[1]d,"quota":%[1]d,"burst":%[1]d,"period":%[1]d,"realtimeRuntime":%[1]d,"realtimePeriod":%[1]d,"cpus":"%[1]d","mems":"%[1]d","idle":0},
			"blockIO":{"weight":%[1]d,"leafWeight":%[1]d,"weightDevice":[{"major":8,"minor":0,"weight":%[1]d}],"throttleReadBpsDevice":%[3]s,"throttleWriteBpsDevice":%[3]s,"throttleReadIOPSDevice":%[3]s,"throttleWriteIOPSDevice":%[3]s},
			"pids":{"limit":%[1]d},"hugepageLimits":[{"pageSize":"2MB","limit":%[1]d}],"network":{"classID":%[1]d},"rdma":{"mlx":{"hcaHandles":%[1]d}},"unified":{"memory.high":"%[1]d"}}`, n, n%2 == 0, device)
	}
	for _, c := range []struct{ old, changes, want string }{
		{`{}`, all(20), all(20)}, {all(20), `{}`, all(20)}, {all(20), all(31), all(31)}, {all(31), all(20), all(20)},
		{all(20), `{"memory":{},"cpu":{},"blockIO":{},"pids":{}}`, all(20)},
	} {
		got, err1 := json.Marshal(Merge(resources(t, c.old), resources(t, c.changes)))
		want, err2 := json.Marshal(resources(t, c.want))
		if err1 != nil || err2 != nil || string(got) != string(want) {
			t.Errorf("%s and then %s:\n%s, want\n%s", c.old, c.changes, got, want)
		}
	}
}
