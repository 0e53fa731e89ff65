package specjson

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// seccomp checks the words; what they mean together is for who compiles the filter.
func (c *checker) seccomp(s *specs.LinuxSeccomp) {
	c.seccompAction(at("seccomp.defaultAction"), s.DefaultAction)
	c.errnoRet(at("seccomp.defaultErrnoRet"), s.DefaultAction, s.DefaultErrnoRet)
	notify := false
	for i, arch := range s.Architectures {
		c.word(place{"seccomp.architectures", i, ""}, string(arch), isSeccompArch(arch), "an architecture such as SCMP_ARCH_X86_64", "correct or remove it")
	}
	for i, flag := range s.Flags {
		switch flag {
		case specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow, specs.LinuxSeccompFlagWaitKillableRecv, "SECCOMP_FILTER_FLAG_TSYNC":
		default:
			c.refuse(place{"seccomp.flags", i, ""}.String(), "a flag of seccomp(2), such as SECCOMP_FILTER_FLAG_LOG", quote(string(flag)), "correct or remove it")
		}
	}
	for i := range s.Syscalls {
		c.seccompRule(i, &s.Syscalls[i])
		notify = notify || s.Syscalls[i].Action == specs.ActNotify
	}
	switch {
	case s.DefaultAction == specs.ActNotify:
		c.refuse("seccomp.defaultAction", "an action that lets the container start", "SCMP_ACT_NOTIFY", "notify of single system calls")
	case notify && s.ListenerPath == "":
		c.refuse("seccomp.listenerPath", "the socket of an agent for SCMP_ACT_NOTIFY", `""`, "name it, or use another action")
	case s.ListenerMetadata != "" && s.ListenerPath == "":
		c.refuse("seccomp.listenerMetadata", "listenerPath beside it", "none", "add listenerPath, or remove it")
	}
	c.plain(at("seccomp.listenerPath"), s.ListenerPath)
}

func (c *checker) seccompRule(i int, rule *specs.LinuxSyscall) {
	const base = "seccomp.syscalls"
	if len(rule.Names) == 0 {
		c.warn(place{base, i, "names"}.String(), "a system call at least", "none", "the rule is for none")
	}
	for j, name := range rule.Names {
		if name == "" {
			c.refuse(place{place{base, i, "names"}.String(), j, ""}.String(), "the name of a system call", `""`, "remove it")
		}
	}
	c.seccompAction(place{base, i, "action"}, rule.Action)
	c.errnoRet(place{base, i, "errnoRet"}, rule.Action, rule.ErrnoRet)
	for j := range rule.Args {
		arg := &rule.Args[j]
		if arg.Index > 5 {
			c.refuse(place{place{base, i, "args"}.String(), j, "index"}.String(), "an integer from 0 to 5", natural(arg.Index), "system calls have six arguments")
		}
		switch arg.Op {
		case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual:
		default:
			c.refuse(place{place{base, i, "args"}.String(), j, "op"}.String(), "a comparison such as SCMP_CMP_EQ", quote(string(arg.Op)), "correct it")
		}
	}
}

func (c *checker) seccompAction(p place, action specs.LinuxSeccompAction) {
	switch action {
	case specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap, specs.ActErrno,
		specs.ActTrace, specs.ActAllow, specs.ActLog, specs.ActNotify:
	default:
		c.refuse(p.String(), "an action such as SCMP_ACT_ERRNO", quote(string(action)), "correct it; without linux.seccomp there is no filter")
	}
}

// errnoRet wants a number only where the action has a use for it. The kernel gives the
// caller no errno above 4095, and the tracer no more than 16 bits.
func (c *checker) errnoRet(p place, action specs.LinuxSeccompAction, number *uint) {
	if number == nil {
		return
	}
	most := uint(4095)
	switch action {
	case specs.ActErrno:
	case specs.ActTrace:
		most = 1<<16 - 1
	default:
		c.refuse(p.String(), "SCMP_ACT_ERRNO or SCMP_ACT_TRACE as the action", quote(string(action)), "change the action, or remove it")
		return
	}
	if *number > most {
		c.refuse(p.String(), "an integer from 0 to "+natural(most), natural(*number), "see errno(3)")
	}
}

func isSeccompArch(arch specs.Arch) bool {
	switch arch {
	case specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64, specs.ArchMIPS, specs.ArchMIPS64,
		specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE,
		specs.ArchS390, specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64, specs.ArchRISCV64, specs.ArchLOONGARCH64, specs.ArchM68K,
		specs.ArchSH, specs.ArchSHEB:
		return true
	}
	return false
}
