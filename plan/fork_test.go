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

// TestWhoForksIntoPod: likewise with a container that is made in another's pid namespace, where all that it takes can be done by a process that is not in there. Its procfs takes the option
// pidns=, and it is started by the runtime when that knows the process that the stub has made.
func TestWhoForksIntoPod(t *testing.T) {
	mount := func(kind, dest string, options ...string) specs.Mount {
		return specs.Mount{Type: kind, Source: "/src", Destination: dest, Options: options}
	}
	proc := mount("proc", "/proc")
	newUser := func(s *specs.Spec, _ *Facts, _ *Options) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 1000}}
		s.Linux.GIDMappings = s.Linux.UIDMappings
	}
	for _, test := range []struct {
		what   string
		change func(s *specs.Spec, f *Facts, o *Options)
		stub   bool
	}{
		{"no procfs", func(*specs.Spec, *Facts, *Options) {}, true},
		{"a procfs that is bound", func(s *specs.Spec, _ *Facts, _ *Options) { s.Mounts = []specs.Mount{mount("bind", "/proc", "rbind")} }, true},
		{"a procfs", func(s *specs.Spec, f *Facts, _ *Options) { s.Mounts, f.ProcPIDNS = []specs.Mount{proc}, true }, true},
		{"a procfs of an older kernel", func(s *specs.Spec, _ *Facts, _ *Options) { s.Mounts = []specs.Mount{proc} }, false},
		{"a second one there", func(s *specs.Spec, _ *Facts, _ *Options) { s.Mounts = []specs.Mount{mount("proc", "/p")} }, false},
		{"a mount on a file of its own", func(s *specs.Spec, f *Facts, _ *Options) {
			s.Mounts = []specs.Mount{mount("bind", "/proc/net/dev", "bind")}
		}, false},
		{"a mount on a file of all", func(s *specs.Spec, f *Facts, _ *Options) {
			s.Mounts = []specs.Mount{mount("bind", "/proc/meminfo", "bind")}
		}, true},
		{"a mount from a file of its own", func(s *specs.Spec, f *Facts, _ *Options) {
			s.Mounts = []specs.Mount{{Type: "bind", Source: "/root/proc/self/maps", Destination: "/a", Options: []string{"bind"}}}
		}, false},
		{"a working directory of its own", func(s *specs.Spec, _ *Facts, _ *Options) { s.Process.Cwd = "/proc/self/task" }, false},
		{"a hook that is told", func(s *specs.Spec, _ *Facts, _ *Options) {
			s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/h"}}}
		}, false},
		{"a hook after the start", func(s *specs.Spec, _ *Facts, _ *Options) {
			s.Hooks = &specs.Hooks{Poststart: []specs.Hook{{Path: "/h"}}}
		}, true},
		{"an init", func(_ *specs.Spec, _ *Facts, o *Options) { o.Init = true }, true},
		{"an init that waits", func(_ *specs.Spec, _ *Facts, o *Options) { o.Init, o.Wait = true, "/w" }, false},
		{"it waits", func(_ *specs.Spec, _ *Facts, o *Options) { o.Wait = "/w" }, true},
		{"in the foreground", func(_ *specs.Spec, _ *Facts, o *Options) { o.Foreground = true }, true},
		{"a user namespace", func(s *specs.Spec, _ *Facts, _ *Options) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/u"})
		}, false},
		{"a new user namespace", newUser, true},
		{"a new user namespace, and a procfs of an older kernel", func(s *specs.Spec, f *Facts, o *Options) {
			newUser(s, f, o)
			s.Mounts = []specs.Mount{proc}
		}, false},
	} {
		spec := &specs.Spec{
			Version: specs.Version, Root: &specs.Root{Path: "/root"}, Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"},
			Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace, Path: "/proc/7/ns/pid"}, {Type: specs.MountNamespace}}},
		}
		facts, options := rootFacts(), Options{}
		test.change(spec, &facts, &options)
		p, err := Compile(spec, facts, options)
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
			continue
		}
		early, exec, n := false, p.Steps[len(p.Steps)-1].Op.(*Exec), len(p.Steps)
		for _, s := range p.Steps {
			switch op := s.Op.(type) {
			case *Fork:
				early = true
			case *Mount:
				if (op.PIDNS != RegNone) != (test.stub && op.Type == "proc") {
					t.Errorf("%s: %v", test.what, op)
				}
			}
		}
		if start, ok := p.Steps[n-2].Op.(*Sync); exec.Fork != test.stub || early == test.stub || (ok && start.Fork) != test.stub {
			t.Errorf("%s: the stub forks: %v, this program: %v\n%s", test.what, exec.Fork, early, p.Text())
		}
		if exec.Pdeathsig != options.Foreground {
			t.Errorf("%s: it dies with the runtime: %v", test.what, exec.Pdeathsig)
		}
	}
}
