package plan

import (
	"slices"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestWhoForks: the stub forks into the pid namespace that is joined, unless the filter might not let it, or the user might have no process to spare.
func TestWhoForks(t *testing.T) {
	refusing := func(name string, args ...specs.LinuxSeccompArg) *specs.LinuxSeccomp {
		no := uint(1)
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64}, Syscalls: []specs.LinuxSyscall{{Names: []string{name}, Action: specs.ActErrno, ErrnoRet: &no, Args: args}}}
	}
	nproc := []specs.POSIXRlimit{{Type: "RLIMIT_NPROC", Soft: 1, Hard: 1}}
	for _, test := range []struct {
		what    string
		process specs.Process
		seccomp *specs.LinuxSeccomp
		stub    bool
	}{
		{"no filter", specs.Process{}, nil, true},
		{"a filter of other calls", specs.Process{}, refusing("mount"), true},
		{"clone", specs.Process{}, refusing("clone"), false},
		{"clone of namespaces alone", specs.Process{}, refusing("clone", specs.LinuxSeccompArg{Index: 0, Value: abi.CloneNewUser, ValueTwo: abi.CloneNewUser, Op: specs.OpMaskedEqual}), true},
		{"some descriptors", specs.Process{}, refusing("write", specs.LinuxSeccompArg{Index: 0, Value: 2, Op: specs.OpGreaterThan}), false},
		{"ioctl, without a terminal", specs.Process{}, refusing("ioctl"), true},
		{"ioctl", specs.Process{Terminal: true}, refusing("ioctl"), false},
		{"a limit of root's", specs.Process{Rlimits: nproc}, nil, true},
		{"a limit", specs.Process{Rlimits: nproc, User: specs.User{UID: 5}}, nil, false},
	} {
		test.process.Args, test.process.Cwd = []string{"/bin/true"}, "/"
		spec := &specs.Spec{Version: specs.Version, Process: &test.process, Linux: &specs.Linux{Seccomp: test.seccomp, Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace, Path: "/proc/7/ns/pid"}, {Type: specs.MountNamespace, Path: "/proc/7/ns/mnt"}}}}
		p, err := Compile(spec, Facts{Arch: abi.ArchX86_64}, Options{Joined: true})
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
			continue
		}
		early := slices.ContainsFunc(p.Steps, func(s Step) bool { _, ok := s.Op.(*Fork); return ok })
		exec := p.Steps[len(p.Steps)-1].Op.(*Exec)
		if exec.Fork != test.stub || early == test.stub {
			t.Errorf("%s: the stub forks: %v, this program: %v", test.what, exec.Fork, early)
		}
	}
}
