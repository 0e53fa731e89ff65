//go:build linux

package seccomp

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kakuri/kakuri/abi"
)

func parse(t testing.TB, js string) *specs.LinuxSeccomp {
	t.Helper()
	var p specs.LinuxSeccomp
	if err := json.Unmarshal([]byte(js), &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

// A decision is what a program shall answer to one call.
type decision struct {
	arch abi.Arch
	call string // a name, or a number
	args []uint64
	want string // as AnswerWords says it
}

func (d decision) nr(t *testing.T) uint32 {
	t.Helper()
	if nr, ok := d.arch.Syscall(d.call); ok {
		return nr
	}
	var nr uint32
	if _, err := fmt.Sscan(d.call, &nr); err != nil {
		t.Fatalf("%v has no call %q", d.arch, d.call)
	}
	return nr
}

func TestDecisions(t *testing.T) {
	const x64, x86, x32 = abi.ArchX86_64, abi.ArchX86, abi.ArchX32
	tests := []struct {
		name, profile string
		native        abi.Arch
		want          []decision
	}{
		{"allowlist", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","write","mseal","no_such_call"],"action":"SCMP_ACT_ALLOW"}]}`, x64, []decision{
			{x64, "read", nil, "allow"}, {x64, "open", nil, "errno EPERM"}, {x64, "mseal", nil, "allow"},
			{x64, "463", nil, "errno ENOSYS"}, {x64, "1000", nil, "errno ENOSYS"}, {x64, "1073741823", nil, "errno ENOSYS"},
			{x32, "read", nil, "kill thread"}, {x64, "2147483648", nil, "kill thread"}, {x64, "4294967295", nil, "errno ENOSYS"},
			{x86, "read", nil, "kill thread"}, {abi.ArchAARCH64, "read", nil, "kill thread"},
		}},
		{"denylist keeps new calls", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}`, x64, []decision{
			{x64, "mount", nil, "errno EACCES"}, {x64, "read", nil, "allow"}, {x64, "1000", nil, "allow"}, {x32, "mount", nil, "kill thread"},
		}},
		{"log and trace keep new calls", `{"defaultAction":"SCMP_ACT_TRACE","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG"}]}`, x64, []decision{
			{x64, "read", nil, "log and allow"}, {x64, "1000", nil, "trace 1"},
		}},
		{"killing refuses new calls", `{"defaultAction":"SCMP_ACT_KILL_PROCESS","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ALLOW"}]}`, x64, []decision{
			{x64, "read", nil, "kill process"}, {x64, "1000", nil, "errno ENOSYS"}, {x64, "84", nil, "errno ENOSYS"},
		}},
		{"no rules", `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":2}`, x64, []decision{
			{x64, "read", nil, "errno ENOENT"}, {x64, "1000", nil, "errno ENOENT"}, {x86, "read", nil, "kill thread"},
		}},
		{"every action", `{"defaultAction":"SCMP_ACT_KILL","syscalls":[
			{"names":["a0","read"],"action":"SCMP_ACT_ALLOW"},{"names":["write"],"action":"SCMP_ACT_TRAP"},
			{"names":["open"],"action":"SCMP_ACT_ERRNO","errnoRet":0},{"names":["close"],"action":"SCMP_ACT_TRACE","errnoRet":65535},
			{"names":["stat"],"action":"SCMP_ACT_LOG"},{"names":["fstat"],"action":"SCMP_ACT_KILL_PROCESS"},
			{"names":["poll"],"action":"SCMP_ACT_NOTIFY"},{"names":["lseek"],"action":"SCMP_ACT_KILL_THREAD"}],"listenerPath":"/run/agent"}`, x64, []decision{
			{x64, "read", nil, "allow"}, {x64, "write", nil, "trap"}, {x64, "open", nil, "errno 0"}, {x64, "close", nil, "trace 65535"},
			{x64, "stat", nil, "log and allow"}, {x64, "fstat", nil, "kill process"}, {x64, "poll", nil, "notify"},
			{x64, "lseek", nil, "kill thread"}, {x64, "lstat", nil, "kill thread"},
		}},
		{"conditions of one rule must all hold", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ALLOW",
			"args":[{"index":0,"value":2,"op":"SCMP_CMP_EQ"},{"index":1,"value":1,"op":"SCMP_CMP_EQ"}]}]}`, x64, []decision{
			{x64, "socket", []uint64{2, 1}, "allow"}, {x64, "socket", []uint64{2, 2}, "errno EPERM"},
			{x64, "socket", []uint64{1, 1}, "errno EPERM"}, {x64, "socket", []uint64{2 | 1<<32, 1}, "errno EPERM"},
		}},
		{"conditions on one argument stand alone", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ALLOW",
			"args":[{"index":0,"value":2,"op":"SCMP_CMP_EQ"},{"index":0,"value":10,"op":"SCMP_CMP_EQ"},{"index":1,"value":7,"op":"SCMP_CMP_EQ"}]}]}`, x64, []decision{
			{x64, "socket", []uint64{2, 1}, "allow"}, {x64, "socket", []uint64{10, 2}, "allow"},
			{x64, "socket", []uint64{1, 7}, "allow"}, {x64, "socket", []uint64{1, 1}, "errno EPERM"},
		}},
		{"a rule without conditions wins from behind", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
			{"names":["read"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
			{"names":["read"],"action":"SCMP_ACT_ALLOW"},{"names":["read"],"action":"SCMP_ACT_LOG"}]}`, x64, []decision{
			{x64, "read", []uint64{2}, "allow"}, {x64, "read", []uint64{3}, "allow"},
		}},
		{"a mask of nothing is no condition", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
			{"names":["read"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
			{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":0,"valueTwo":5,"op":"SCMP_CMP_MASKED_EQ"}]}]}`, x64, []decision{
			{x64, "read", []uint64{2}, "allow"},
		}},
		{"the default action again says nothing", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
			{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":1},{"names":["read"],"action":"SCMP_ACT_ALLOW"},{"names":["mseal"],"action":"SCMP_ACT_ERRNO"}]}`, x64, []decision{
			{x64, "read", nil, "allow"}, {x64, "461", nil, "errno EPERM"}, {x64, "463", nil, "errno ENOSYS"},
		}},
		{"rules with conditions keep their order", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
			{"names":["read"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":5,"op":"SCMP_CMP_LT"}]},
			{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":9,"op":"SCMP_CMP_LT"}]},
			{"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":1,"value":1,"op":"SCMP_CMP_EQ"}]}]}`, x64, []decision{
			{x64, "read", []uint64{4}, "trap"}, {x64, "read", []uint64{5}, "allow"}, {x64, "read", []uint64{8, 1}, "allow"},
			{x64, "read", []uint64{9, 1}, "log and allow"}, {x64, "read", []uint64{9}, "errno EPERM"},
		}},
		{"x32 by its bit", `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X32"],"syscalls":[{"names":["execve","read"],"action":"SCMP_ACT_ALLOW"}]}`, x64, []decision{
			{x64, "execve", nil, "allow"}, {x32, "execve", nil, "allow"}, {x64, "520", nil, "errno ENOSYS"},
			{x64, "1073741883", nil, "errno EPERM"}, {x64, "1073742345", nil, "errno ENOSYS"}, {x64, "4294967295", nil, "errno ENOSYS"},
		}},
		{"x32 arguments have 32 bits", `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X32"],"syscalls":[{"names":["socket"],"action":"SCMP_ACT_ALLOW",
			"args":[{"index":0,"value":40,"op":"SCMP_CMP_NE"}]}]}`, x64, []decision{
			{x32, "socket", []uint64{40 | 1<<32}, "errno EPERM"}, {x64, "socket", []uint64{40 | 1<<32}, "allow"}, {x64, "socket", []uint64{40}, "errno EPERM"},
		}},
		{"negative numbers on 32 bits", `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[
			{"names":["openat"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":18446744073709551516,"op":"SCMP_CMP_EQ"}]},
			{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967298,"op":"SCMP_CMP_EQ"}]},
			{"names":["write"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967298,"op":"SCMP_CMP_LT"}]}]}`, x64, []decision{
			{x86, "openat", []uint64{0xffffff9c}, "allow"}, {x64, "openat", []uint64{0xffffff9c}, "errno EPERM"}, {x64, "openat", []uint64{1<<64 - 100}, "allow"},
			{x86, "read", []uint64{2}, "errno EPERM"}, {x64, "read", []uint64{4294967298}, "allow"}, {x86, "write", []uint64{1<<32 - 1}, "allow"},
		}},
		{"masks over both halves", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
			{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":12884901891,"valueTwo":4294967297,"op":"SCMP_CMP_MASKED_EQ"}]},
			{"names":["write"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":12884901888,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}`, x64, []decision{
			{x64, "read", []uint64{1<<32 | 1}, "allow"}, {x64, "read", []uint64{5<<32 | 9}, "allow"}, {x64, "read", []uint64{1<<32 | 2}, "errno EPERM"},
			{x64, "read", []uint64{1}, "errno EPERM"}, {x64, "write", []uint64{1}, "allow"}, {x64, "write", []uint64{1 << 32}, "errno EPERM"}, {x64, "write", []uint64{4 << 32}, "allow"},
		}},
		{"masks beyond 32 bits never match there", `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[
			{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967297,"valueTwo":4294967297,"op":"SCMP_CMP_MASKED_EQ"}]},
			{"names":["write"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967297,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}]},
			{"names":["open"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":18446744073709551615,"valueTwo":18446744073709551614,"op":"SCMP_CMP_MASKED_EQ"}]},
			{"names":["close"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967296,"valueTwo":4294967296,"op":"SCMP_CMP_MASKED_EQ"},{"index":1,"value":1,"op":"SCMP_CMP_EQ"}]}]}`, x64, []decision{
			{x86, "read", []uint64{1}, "errno EPERM"}, {x64, "read", []uint64{1<<32 | 1}, "allow"}, {x86, "write", []uint64{3}, "allow"},
			{x86, "open", []uint64{0xfffffffe}, "allow"}, {x64, "open", []uint64{0xfffffffe}, "errno EPERM"},
			{x86, "close", []uint64{0, 1}, "errno EPERM"}, {x64, "close", []uint64{1 << 32, 1}, "allow"},
		}},
		{"big-endian halves", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":2,"value":4294967296,"op":"SCMP_CMP_GT"}]}]}`, abi.ArchS390X, []decision{
			{abi.ArchS390X, "read", []uint64{0, 0, 1<<32 + 1}, "allow"}, {abi.ArchS390X, "read", []uint64{0, 0, 1 << 32}, "errno EPERM"},
			{abi.ArchS390X, "read", []uint64{0, 0, 2}, "errno EPERM"}, {abi.ArchS390X, "0", nil, "errno ENOSYS"},
		}},
		{"socketcall carries what needs no arguments", `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[
			{"names":["bind"],"action":"SCMP_ACT_ALLOW"},
			{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
			{"names":["connect"],"action":"SCMP_ACT_KILL","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
			{"names":["shmat"],"action":"SCMP_ACT_ALLOW"}]}`, x64, []decision{
			{x86, "socketcall", []uint64{2}, "allow"}, {x86, "socketcall", []uint64{1}, "errno EPERM"}, {x86, "socketcall", []uint64{3}, "kill thread"},
			{x86, "socketcall", []uint64{4}, "errno EPERM"}, {x86, "ipc", []uint64{21}, "allow"}, {x86, "ipc", []uint64{1<<16 | 21}, "allow"},
			{x86, "ipc", []uint64{22}, "errno EPERM"}, {x86, "bind", nil, "allow"}, {x64, "bind", nil, "allow"},
		}},
		{"socketcall by its own rule", `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[{"names":["socketcall","bind"],"action":"SCMP_ACT_LOG"},{"names":["socket"],"action":"SCMP_ACT_ALLOW"}]}`, x64, []decision{
			{x86, "socketcall", []uint64{1}, "log and allow"}, {x86, "socketcall", []uint64{99}, "log and allow"},
		}},
		{"ARM's private calls", `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_ARM"],"syscalls":[{"names":["read","set_tls","cacheflush"],"action":"SCMP_ACT_ALLOW"}]}`, abi.ArchAARCH64, []decision{
			{abi.ArchARM, "set_tls", nil, "allow"}, {abi.ArchARM, "cacheflush", nil, "allow"}, {abi.ArchARM, "breakpoint", nil, "errno EPERM"},
			{abi.ArchARM, "get_tls", nil, "errno ENOSYS"}, {abi.ArchARM, "400", nil, "errno ENOSYS"}, {abi.ArchARM, "983040", nil, "errno EPERM"},
			{abi.ArchAARCH64, "read", nil, "allow"},
		}},
		{"MIPS counts ENOSYS its own way", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["write"],"action":"SCMP_ACT_ALLOW"}]}`, abi.ArchMIPS64, []decision{
			{abi.ArchMIPS64, "write", nil, "allow"}, {abi.ArchMIPS64, "5002", nil, "errno EDESTADDRREQ"}, {abi.ArchMIPS64, "4", nil, "errno EPERM"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Compile(parse(t, tt.profile), tt.native)
			if err != nil {
				t.Fatal(err)
			}
			if err := Validate(p.Instructions); err != nil {
				t.Fatal(err)
			}
			for _, d := range tt.want {
				if got := AnswerWords(p.Decide(d.arch, d.nr(t), d.args...)); got != d.want {
					t.Errorf("%v %s %#x: %s, want %s", d.arch, d.call, d.args, got, d.want)
				}
			}
		})
	}
}

// TestComparisonsAtTheirEdges asks each operator about numbers where a half of an argument, or all of it, begins and ends.
func TestComparisonsAtTheirEdges(t *testing.T) {
	holds := map[specs.LinuxSeccompOperator]func(a, v uint64) bool{
		specs.OpEqualTo: func(a, v uint64) bool { return a == v }, specs.OpNotEqual: func(a, v uint64) bool { return a != v },
		specs.OpLessThan: func(a, v uint64) bool { return a < v }, specs.OpLessEqual: func(a, v uint64) bool { return a <= v },
		specs.OpGreaterThan: func(a, v uint64) bool { return a > v }, specs.OpGreaterEqual: func(a, v uint64) bool { return a >= v },
	}
	edges := []uint64{0, 1, 2, 1<<31 - 1, 1 << 31, 1<<32 - 2, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1<<33 - 1, 1 << 33, 1 << 63, 1<<64 - 1<<31 - 1, 1<<64 - 1<<31, 1<<64 - 2, 1<<64 - 1}
	x64, _ := abi.ArchX86_64.Syscall("read")
	x86, _ := abi.ArchX86.Syscall("read")
	for op, hold := range holds {
		for _, v := range edges {
			p, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86}, Syscalls: []specs.LinuxSyscall{
				{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Value: v, Op: op}}}}}, abi.ArchX86_64)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range edges {
				if got := p.Decide(abi.ArchX86_64, x64, a) == abi.SeccompRetAllow; got != hold(a, v) {
					t.Errorf("%s %#x of %#x: %v", op, v, a, got)
				}
				small := v
				if int64(v) < 0 && int64(v) >= -1<<31 {
					small = uint64(uint32(v)) // a negative number is one of 32 bits there
				}
				if got := p.Decide(abi.ArchX86, x86, a) == abi.SeccompRetAllow; a < 1<<32 && got != hold(a, small) {
					t.Errorf("%s %#x of %#x, with 32 bits: %v", op, v, a, got)
				}
			}
		}
	}
}

func TestNoProfileNoProgram(t *testing.T) {
	for _, p := range []*specs.LinuxSeccomp{nil, {}, {Architectures: []specs.Arch{"SCMP_ARCH_X86"}}} {
		if prog, err := Compile(p, abi.ArchX86_64); prog != nil || err != nil {
			t.Errorf("%+v gives %v, %v", p, prog, err)
		}
	}
}

func TestErrorsNameTheField(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat(`{"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":12345678901,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"},{"index":1,"value":1,"op":"SCMP_CMP_EQ"}]},`, 1000), ",")
	for _, tt := range []struct{ profile, want string }{
		{`{"defaultAction":"ALLOW"}`, `linux.seccomp.defaultAction: "ALLOW" is not an action`},
		{`{"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`, `linux.seccomp.defaultAction: "" is not an action`},
		{`{"defaultAction":"SCMP_ACT_NOTIFY"}`, `linux.seccomp.defaultAction: "SCMP_ACT_NOTIFY" would hold up`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}`, `linux.seccomp.defaultErrnoRet: 1: SCMP_ACT_ALLOW takes no errno`},
		{`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096}`, `linux.seccomp.defaultErrnoRet: 4096: the largest that SCMP_ACT_ERRNO can give is 4095`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","SCMP_ARCH_VAX"]}`, `linux.seccomp.architectures[1]: "SCMP_ARCH_VAX" is not an architecture`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["x86"]}`, `linux.seccomp.architectures[0]: "x86" is not an architecture`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG","LOG"]}`, `linux.seccomp.flags[1]: "LOG" is not a flag`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}`, `linux.seccomp.flags[0]: "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" without a rule of SCMP_ACT_NOTIFY`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"x"}`, `linux.seccomp.listenerMetadata: "x" without listenerPath`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}`, `linux.seccomp.listenerPath: empty`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x","syscalls":[{"names":["mkdir","write"],"action":"SCMP_ACT_NOTIFY"}]}`, `linux.seccomp.syscalls[0].names[1]: "write": SCMP_ACT_NOTIFY cannot be used for the write syscall`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"},{"names":[""],"action":"SCMP_ACT_ERRNO"}]}`, `linux.seccomp.syscalls[1].names[0]: a system call needs a name`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NO"}]}`, `linux.seccomp.syscalls[0].action: "SCMP_ACT_NO" is not an action`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_KILL","errnoRet":5}]}`, `linux.seccomp.syscalls[0].errnoRet: 5: SCMP_ACT_KILL takes no errno`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_TRACE","errnoRet":65536}]}`, `linux.seccomp.syscalls[0].errnoRet: 65536: the largest`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_LOG"},{"names":["mkdir"],"action":"SCMP_ACT_LOG","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}`, `linux.seccomp.syscalls[1].args[0].index: 6: a system call has the arguments 0 to 5`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":0,"op":"SCMP_CMP_EQ"},{"index":0,"value":0,"op":"EQ"}]}]}`, `linux.seccomp.syscalls[0].args[1].op: "EQ" is not an operator`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[` + many + `]}`, `linux.seccomp: the profile needs a program of `},
	} {
		p, err := Compile(parse(t, tt.profile), abi.ArchX86_64)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%.200s\n gives %v\nwant  %s", tt.profile, err, tt.want)
		}
		if p != nil {
			t.Errorf("%.200s gives a program with its error", tt.profile)
		}
	}
	for _, p := range []*specs.LinuxSeccomp{manyAnswers(), manyConditions(), manyNames()} {
		if prog, err := Compile(p, abi.ArchX86_64); err == nil || !strings.Contains(err.Error(), "more than a program has room for") {
			t.Errorf("a profile without measure gives %v, %v", prog, err)
		}
	}
	if _, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, abi.ArchNone); err == nil {
		t.Error("compiled for no architecture")
	}
}

func manyAnswers() *specs.LinuxSeccomp {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	for i := range uint(5000) {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActTrace, ErrnoRet: &i})
	}
	return p
}

func manyConditions() *specs.LinuxSeccomp {
	s := specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno}
	s.Args = slices.Repeat([]specs.LinuxSeccompArg{{Op: specs.OpEqualTo}}, 70000)
	return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{s}}
}

func manyNames() *specs.LinuxSeccomp {
	s := specs.LinuxSyscall{Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: specs.OpEqualTo}}}
	s.Names = slices.Repeat([]string{"read"}, 70000)
	return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{s}}
}

func TestFlags(t *testing.T) {
	notify := `,"listenerPath":"/x","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}`
	for _, tt := range []struct {
		profile, want string
		notify        bool
	}{
		{`{"defaultAction":"SCMP_ACT_ALLOW"}`, "spec_allow", false},
		{`{"defaultAction":"SCMP_ACT_ALLOW","flags":[]}`, "", false},
		{`{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_TSYNC"]}`, "", false},
		{`{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}`, "log,spec_allow", false},
		{`{"defaultAction":"SCMP_ACT_ALLOW"` + notify, "spec_allow,new_listener", true},
		{`{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]` + notify, "new_listener,wait_killable_recv", true},
	} {
		p, err := Compile(parse(t, tt.profile), abi.ArchX86_64)
		if err != nil {
			t.Errorf("%s: %v", tt.profile, err)
			continue
		}
		if got := abi.SeccompFlagWords(uint64(p.Flags)); got != tt.want || p.Notify != tt.notify {
			t.Errorf("%s: flags %q, notify %v", tt.profile, got, p.Notify)
		}
	}
}

func TestUnknownNamesAreReported(t *testing.T) {
	p, err := Compile(parse(t, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["raed","read","set_tls"],"action":"SCMP_ACT_ALLOW"},{"names":["rite"],"action":"SCMP_ACT_ALLOW"}]}`), abi.ArchX86_64)
	if err != nil || !slices.Equal(p.Unknown, []string{"raed", "rite"}) {
		t.Errorf("unknown %q, %v", p.Unknown, err)
	}
}

func TestCompileIsRepeatable(t *testing.T) {
	p := mobyProfile(abi.ArchX86_64)
	before := text(p)
	a, err := Compile(p, abi.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := Compile(p, abi.ArchX86_64)
	if !slices.Equal(a.Instructions, b.Instructions) || a.Flags != b.Flags {
		t.Error("two programs of one profile differ")
	}
	if text(p) != before {
		t.Error("Compile changed its profile")
	}
	p.Syscalls[0].Names[0] = "changed"
	if c, _ := Compile(p, abi.ArchX86_64); slices.Equal(c.Instructions, a.Instructions) {
		t.Error("another profile gives the same program")
	}
}

// A program of a profile with all architectures needs jumps longer than 255.
func TestLongJumps(t *testing.T) {
	p := mobyProfile(abi.ArchX86_64)
	p.Architectures = nil
	for _, a := range abi.Archs() {
		if a != abi.ArchPPC64 && a != abi.ArchPPC { // leaves room below the kernel's limit
			p.Architectures = append(p.Architectures, specs.Arch(a.String()))
		}
	}
	prog, err := Compile(p, abi.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	if err := Validate(prog.Instructions); err != nil {
		t.Fatal(err)
	}
	long := 0
	for _, in := range prog.Instructions {
		if in.Code == opJump {
			long++
			if in.K == 0 {
				t.Error("a jump over nothing")
			}
		}
	}
	if long == 0 || len(prog.Instructions) < 1000 {
		t.Errorf("%d instructions, %d long jumps: too small a profile for this test", len(prog.Instructions), long)
	}
	for _, a := range abi.Archs() {
		nr, ok := a.Syscall("execve")
		want := "allow"
		if a == abi.ArchPPC64 || a == abi.ArchPPC {
			want = "kill thread"
		}
		if got := AnswerWords(prog.Decide(a, nr)); !ok || got != want {
			t.Errorf("%v: execve gets %s", a, got)
		}
	}
}

// The mapper's array of verdicts has room for every architecture's numbers, ARM's
// private ones excepted.
func TestNumbersFitTheArray(t *testing.T) {
	for _, a := range abi.Archs() {
		for i := range abi.SyscallCount {
			nr, ok := a.SyscallAt(i)
			if private := a == abi.ArchARM && nr >= armPrivate; ok && !private && nr-a.SyscallBase() >= slotCount {
				t.Errorf("%v: %s is %d", a, abi.SyscallNameAt(i), nr)
			}
		}
	}
}

func TestBytes(t *testing.T) {
	in := []Instruction{{Code: 0x1234, JT: 5, JF: 6, K: 0x789abcde}}
	le := (&Program{Instructions: in, Arch: abi.ArchX86_64}).Bytes()
	be := (&Program{Instructions: in, Arch: abi.ArchS390X}).Bytes()
	if !slices.Equal(le, []byte{0x34, 0x12, 5, 6, 0xde, 0xbc, 0x9a, 0x78}) {
		t.Errorf("little endian %x", le)
	}
	if !slices.Equal(be, []byte{0x12, 0x34, 5, 6, 0x78, 0x9a, 0xbc, 0xde}) || binary.BigEndian.Uint32(be[4:]) != in[0].K {
		t.Errorf("big endian %x", be)
	}
}

func TestDisassemble(t *testing.T) {
	p, err := Compile(parse(t, `{"defaultAction":"SCMP_ACT_ERRNO","flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[
		{"names":["read"],"action":"SCMP_ACT_ALLOW"},
		{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
		{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":768,"valueTwo":256,"op":"SCMP_CMP_MASKED_EQ"}]}]}`), abi.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	const want = `21 instructions, flags log
   0  load [4]                           ; architecture
   1  if A == 0xc000003e then 2 else 10  ; x86_64
   2  load [0]                           ; system call
   3  if A >= 41 then 5 else 4           ; socket
   4  if A == 0 then 19 else 20          ; read
   5  if A >= 56 then 7 else 6           ; clone
   6  if A == 41 then 12 else 20         ; socket
   7  if A >= 57 then 8 else 16          ; fork
   8  if A >= 4294967295 then 11 else 9
   9  if A >= 1073741824 then 10 else 11 ; read of x32
  10  return 0x0                         ; kill thread
  11  return 0x50026                     ; errno ENOSYS
  12  load [20]                          ; argument 0, upper half
  13  if A == 0x0 then 14 else 20
  14  load [16]                          ; argument 0, lower half
  15  if A == 0x1 then 19 else 20
  16  load [16]                          ; argument 0, lower half
  17  A &= 0x300
  18  if A == 0x100 then 19 else 20
  19  return 0x7fff0000                  ; allow
  20  return 0x50001                     ; errno EPERM
`
	if got := p.String(); got != want {
		t.Errorf("text:\n%s\nwant:\n%s", got, want)
	}
	odd := Disassemble([]Instruction{{Code: opNeg}, {Code: opJump, K: 7}, {Code: 0xffff, K: 3}, {Code: opLoad, K: 8}})
	for _, part := range []string{"operation 0x84", "go to 9", "operation 0xffff, 0, 0, 0x3", "instruction pointer"} {
		if !strings.Contains(odd, part) {
			t.Errorf("%q is missing in\n%s", part, odd)
		}
	}
}

func TestAnswerWords(t *testing.T) {
	for answer, want := range map[uint32]string{
		0: "kill thread", 0x80000000: "kill process", 0x00030000: "trap", 0x00050026: "errno ENOSYS", 0x00050029: "errno 41",
		0x7ff00007: "trace 7", 0x7ffc0000: "log and allow", 0x7fff0000: "allow", 0x7fc00000: "notify", 0x12340000: "0x12340000",
	} {
		if got := AnswerWords(answer); got != want {
			t.Errorf("%#x is %q, want %q", answer, got, want)
		}
	}
}
