package seccomp

import (
	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Notifying makes of a profile one that asks an agent where p answers a known call with an error. The agent at
// listenerPath, which has p, can answer as p would ([Program.Decide]) and say so. Calls that p allows are not slower;
// what it kills for, or leaves to a tracer, stays. sendmsg has to be allowed: the listener is sent by it. The profile has the names of one architecture, arch,
// and the others' calls end as they do with p.
func Notifying(p *specs.LinuxSeccomp, arch abi.Arch, listenerPath string) *specs.LinuxSeccomp {
	out := *p
	out.ListenerPath, out.Syscalls = listenerPath, nil
	settled := map[string]bool{} // by a rule without conditions
	some := map[string]bool{}    // by rules with
	for _, s := range p.Syscalls {
		if s.Action == specs.ActErrno {
			s.Action, s.ErrnoRet = specs.ActNotify, nil
		}
		for _, name := range s.Names {
			if len(s.Args) == 0 {
				settled[name] = true
			} else {
				some[name] = true
			}
		}
		out.Syscalls = append(out.Syscalls, s)
	}
	if p.DefaultAction != specs.ActErrno {
		return &out
	}
	var never, others []string
	for i := range abi.SyscallCount {
		name := abi.SyscallNameAt(i)
		if _, ok := arch.SyscallAt(i); !ok || settled[name] {
			continue
		}
		if some[name] {
			others = append(others, name)
		} else {
			never = append(never, name)
		}
	}
	if len(never) > 0 {
		out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: never, Action: specs.ActNotify})
	}
	if len(others) > 0 {
		// A rule without conditions would hold before the others: this one always holds.
		always := specs.LinuxSeccompArg{Index: 0, Value: 0, Op: specs.OpGreaterEqual}
		out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: others, Action: specs.ActNotify, Args: []specs.LinuxSeccompArg{always}})
	}
	return &out
}
