package plan

import (
	"slices"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A thread is what the kernel knows of the container's process: capabilities(7),
// credentials(7). TestCredentials runs the steps of a plan on it, to see that none
// asks for what an earlier one gave away.
type thread struct {
	uid, gid                         uint32
	permitted, effective             abi.CapSet
	inheritable, bounding, ambient   abi.CapSet
	keepCaps, noNewPrivs, setgroups  bool
	dieWithParent, filtered, started bool
	outlives                         bool // its runtime is not to end it
}

// need fails the test when a capability is not effective.
func (k *thread) need(t *testing.T, i int, op Op, c abi.Capability) {
	t.Helper()
	if !k.effective.Has(c) {
		t.Errorf("step %d, %v, needs %v; effective are %v", i+1, op, c, k.effective)
	}
}

// owner makes the thread the owner of a user namespace.
func (k *thread) owner() {
	k.permitted, k.effective, k.bounding = abi.AllCaps, abi.AllCaps, abi.AllCaps
}

// become is setresuid(2).
func (k *thread) become(t *testing.T, i int, op *Setresuid) {
	t.Helper()
	if op.UID != k.uid {
		k.need(t, i, op, abi.CapSetuid)
	}
	switch {
	case k.uid == 0 && op.UID != 0:
		k.effective, k.ambient = 0, 0
		if !k.keepCaps {
			k.permitted = 0
		}
		k.dieWithParent = false
	case k.uid != 0 && op.UID == 0:
		k.effective = k.permitted
	}
	k.uid = op.UID
}

func (k *thread) capset(t *testing.T, i int, op *Capset) {
	t.Helper()
	if op.Permitted&^k.permitted != 0 || op.Effective&^op.Permitted != 0 {
		t.Errorf("step %d, %v: permitted are %v", i+1, op, k.permitted)
	}
	if op.Inheritable&^(k.inheritable|k.bounding) != 0 {
		t.Errorf("step %d, %v: bounding are %v", i+1, op, k.bounding)
	}
	k.permitted, k.effective, k.inheritable = op.Permitted, op.Effective, op.Inheritable
	k.ambient &= k.permitted & k.inheritable
}

func (k *thread) run(t *testing.T, i int, op Op) {
	t.Helper()
	switch op := op.(type) {
	case *Setns:
		if op.NS == abi.NSUser {
			k.owner() // as whoever made it is
		}
		k.need(t, i, op, abi.CapSysAdmin)
	case *Unshare:
		if slices.Contains(op.New, abi.NSUser) {
			k.owner() // before the others are made
		}
		k.need(t, i, op, abi.CapSysAdmin)
	case *EnterTime, *Propagation, *AttachRoot, *Mount, *PivotRoot, *Remount:
		k.need(t, i, op, abi.CapSysAdmin)
	case *Setgroups:
		k.need(t, i, op, abi.CapSetgid)
		if !k.setgroups {
			t.Errorf("step %d, %v: setgroups was denied", i+1, op)
		}
	case *Setresgid:
		if op.GID != k.gid {
			k.need(t, i, op, abi.CapSetgid)
		}
		k.gid = op.GID
	case *Setresuid:
		k.become(t, i, op)
	case *KeepCaps:
		k.keepCaps = op.On
	case *DropBounding:
		k.need(t, i, op, abi.CapSetpcap)
		k.bounding &= op.Keep
	case *Capset:
		k.capset(t, i, op)
	case *Ambient:
		k.ambient = op.Caps
		if op.Caps&^(k.permitted&k.inheritable) != 0 {
			t.Errorf("step %d, %v: permitted are %v, inheritable %v", i+1, op, k.permitted, k.inheritable)
		}
	case *NoNewPrivs:
		k.noNewPrivs = true
	case *Seccomp:
		if !k.noNewPrivs {
			k.need(t, i, op, abi.CapSysAdmin)
		}
		k.filtered = true
	case *DieWithParent:
		k.dieWithParent = true
	case *Sync:
		if op.What == StartWord {
			if k.started = true; !k.dieWithParent && !k.outlives {
				t.Errorf("step %d, %v: the container may outlive its runtime", i+1, op)
			}
		}
	}
}

// TestCredentials runs the container's side of each case on a thread, and looks at
// what is left of it before execve.
func TestCredentials(t *testing.T) {
	eachCase(t, func(t *testing.T, c planCase, p Plan) {
		f := c.facts
		k := &thread{uid: f.UID, gid: f.GID, permitted: f.Caps, effective: f.Caps, bounding: abi.AllCaps, setgroups: true, outlives: !c.options.Foreground}
		for i, s := range p.Steps {
			switch op := s.Op.(type) {
			case *Clone:
				for _, ns := range op.New {
					if ns == abi.NSUser {
						k.owner()
					}
				}
				continue
			case *DenySetgroups:
				k.setgroups = false
				continue
			}
			if _, sync := s.Op.(*Sync); sync || s.Side == Container {
				k.run(t, i, s.Op)
			}
			checkThread(t, k, s.Check)
		}
		if k.uid != 0 && !k.noNewPrivs && k.filtered && k.permitted.Has(abi.CapSysAdmin) {
			t.Errorf("CAP_SYS_ADMIN is left over from the filter: %v", k.permitted)
		}
	})
}

// TestCapSets: what is effective is permitted, and ambient what is inheritable as well, whatever config.json says.
func TestCapSets(t *testing.T) {
	c := &compiler{host: Facts{Caps: abi.AllCaps, LastCap: abi.CapCheckpointRestore}, spec: &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{
		Bounding: []string{"CAP_KILL", "CAP_CHOWN"}, Permitted: []string{"CAP_KILL", "CAP_CHOWN"}, Effective: []string{"CAP_KILL", "CAP_SYS_ADMIN"},
		Inheritable: []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}, Ambient: []string{"CAP_KILL", "CAP_CHOWN", "CAP_SYS_ADMIN"},
	}}}}
	if s := c.capSets(); s.Effective != abi.Caps(abi.CapKill) || s.Ambient != abi.Caps(abi.CapChown) || s.Permitted != abi.Caps(abi.CapKill, abi.CapChown) {
		t.Errorf("%+v", s)
	}
}

// TestCarried: whatever the sets are, the stub's own execve leaves it what it needs to set what the container is to have, and
// nothing is left that is not of that. What is outside the bounding set is lost, as what is not inheritable can't be kept.
func TestCarried(t *testing.T) {
	three := []abi.Capability{abi.CapDACOverride, abi.CapKill, abi.CapNetRaw}
	pick := func(bits int) (set abi.CapSet) {
		for i, c := range three {
			if bits>>i&1 != 0 {
				set = set.With(c)
			}
		}
		return set
	}
	for n := range 1 << 15 {
		s := CapsCheck{Bounding: pick(n), Permitted: pick(n >> 3)}
		s.Effective, s.Inheritable = pick(n>>6)&s.Permitted, pick(n>>9)&s.Bounding
		s.Ambient = pick(n>>12) & s.Permitted & s.Inheritable
		c := &compiler{stub: &Stub{}, spec: &specs.Spec{Process: &specs.Process{User: specs.User{UID: 1}}}}
		c.carry(s)
		k := &thread{uid: 1, permitted: s.Permitted, effective: s.Effective, inheritable: s.Inheritable, ambient: s.Ambient, bounding: s.Bounding}
		for i, step := range c.plan.Steps {
			k.run(t, i, step.Op)
		}
		k.permitted, k.effective = k.ambient, k.ambient
		for i, op := range c.stub.Caps {
			k.capset(t, i, &op)
		}
		can := s.Permitted & (s.Bounding | s.Ambient)
		effective := s.Effective & can
		if can == s.Ambient {
			effective = can // nothing is lost, and the stub has nothing to set
		}
		if k.permitted != can || k.effective != effective || k.inheritable != s.Inheritable || k.ambient != s.Ambient {
			t.Fatalf("of %+v the program's execve finds %+v", s, *k)
		}
	}
}

// TestCarriedNeedsCapset: where a filter may answer the stub's capset itself, by a success that is none at the worst, the stub has nothing to set back.
func TestCarriedNeedsCapset(t *testing.T) {
	for name, carried := range map[string]int{"user-created": 1, "user-created-no-new-privs": 2, "user-created-filtered": 0} {
		p := planCase{dir: "testdata/" + name}
		var h hostFile
		readJSON(t, p.dir+"/host.json", &h)
		p.facts, p.options = h.facts(t), h.Options
		var ambient abi.CapSet
		for _, s := range p.compile(t).Steps {
			switch op := s.Op.(type) {
			case *Stub:
				if len(op.Caps) != carried {
					t.Errorf("%s: %v", name, op)
				}
			case *Ambient:
				ambient = op.Caps
			}
		}
		if (ambient != 0) != (carried > 0) {
			t.Errorf("%s: ambient at the stub's execve are %v", name, ambient)
		}
	}
}

// checkThread compares a check of the plan with the thread.
func checkThread(t *testing.T, k *thread, check Check) {
	t.Helper()
	switch c := check.(type) {
	case *CapsCheck:
		if k.permitted != c.Permitted || k.effective != c.Effective || k.inheritable != c.Inheritable || k.bounding != c.Bounding {
			t.Errorf("the check asks for %+v of %+v", *c, *k)
		}
	case *NoNewPrivsCheck:
		if !k.noNewPrivs {
			t.Error("no_new_privs is asked for and not set")
		}
	case *SeccompCheck:
		if !k.filtered {
			t.Error("a filter is asked for and not loaded")
		}
	case *IDCheck:
		if k.uid != c.UID || k.gid != c.GID {
			t.Errorf("user %d and group %d are asked for, the process has %d and %d", c.UID, c.GID, k.uid, k.gid)
		}
	}
}
