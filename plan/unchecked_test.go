package plan

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// TestEveryOpIsCheckedOrSaysWhy walks the operations: each is read back somewhere by a check of
// a step in the cases of testdata, or has a reason for not being, which verify shows.
func TestEveryOpIsCheckedOrSaysWhy(t *testing.T) {
	checked := map[reflect.Type]bool{}
	eachCase(t, func(t *testing.T, c planCase, p Plan) {
		for _, s := range p.Steps {
			if s.Check != nil {
				checked[reflect.TypeOf(s.Op)] = true
			}
		}
	})
	for _, op := range Ops() {
		if !checked[reflect.TypeOf(op)] && unchecked(op) == "" {
			t.Errorf("%s: no case has a check for it, and there is no reason why", op.Name())
		}
	}
}

// TestUncheckedStepsOfContainers: every step of a container that has no check says why, and an operation
// whose effect is always read back is not excused.
func TestUncheckedStepsOfContainers(t *testing.T) {
	eachCase(t, func(t *testing.T, c planCase, p Plan) {
		if _, err := os.Stat(filepath.Join(c.dir, "config.json")); err != nil {
			return // of unshare or enter, which nothing verifies
		}
		for _, u := range p.Unchecked() {
			if u.Reason == "" {
				t.Errorf("step %d, %s: no check, and no reason why", u.N, u.Op)
			}
			if p.Steps[u.N-1].Op != u.Op {
				t.Errorf("step %d is not %s", u.N, u.Op)
			}
		}
	})
	for _, op := range []Op{&Hostname{}, &Rlimit{}, &Seccomp{}, &Mount{}, &Mask{}, &OOMScoreAdj{}, &Personality{}, &Scheduler{}, &Sysctl{}, &DelegateCgroup{}, &Setsid{}, &Symlink{}} {
		if why := unchecked(op); why != "" {
			t.Errorf("%s is excused: %s", op.Name(), why)
		}
	}
}

// TestChecksOfLimits: each value is a check of its own, with its own field of config.json, and a value that a
// later one replaces is none.
func TestChecksOfLimits(t *testing.T) {
	file := func(name, value, field string) CgroupFileCheck {
		return CgroupFileCheck{Path: "/c/" + name, Value: value, Field: field}
	}
	p := Plan{Steps: []Step{{Op: &Setsid{}}, {Cause: Cause{Field: "linux.resources"}, Check: &LimitsCheck{Files: []CgroupFileCheck{
		file("memory.max", "1", "a"), file("io.max", "8:0 rbps=1", "b"), file("io.max", "8:0 wbps=1", "c"), file("io.max", "8:16 rbps=1", "d"),
		file("io.max", "8:0 rbps=2", "e"), file("memory.max", "2", "f"), file("cpu.max", "max 100", "g"), file("cpu.max", "5 100", "h"),
		file("net_prio.ifpriomap", "lo 1", "i"), file("net_prio.ifpriomap", "eth0 1", "j"), file("pids.max", "1", ""),
	}}}}}
	var got []string
	for _, c := range p.Checks() {
		if c.N != 2 {
			t.Errorf("%s: step %d", c.Check.Property(), c.N)
		}
		got = append(got, c.Cause.Field)
	}
	if want := []string{"c", "d", "e", "f", "h", "i", "j", "linux.resources"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
