//go:build linux

package seccomp

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kakuri/kakuri/abi"
)

// mobyNatives are the architectures that Docker's default profile is for, and one (ppc64le)
// that it forgets in its list, so that only the native one is there.
var mobyNatives = [...]abi.Arch{
	abi.ArchX86_64, abi.ArchAARCH64, abi.ArchS390X, abi.ArchRISCV64, abi.ArchLOONGARCH64,
	abi.ArchMIPS64, abi.ArchMIPS64N32, abi.ArchMIPSEL64, abi.ArchMIPSEL64N32, abi.ArchPPC64LE,
}

// numbers are the system calls worth asking an architecture for: all that a table
// has, some around each end, and numbers that nobody has.
func numbers(arch abi.Arch) []uint32 {
	base := arch.SyscallBase()
	list := []uint32{0, 1, 2, 3999, 1 << 16, 0x0effff, 0x0f0000, 0x3fffffff, 0x40000000,
		0x40000200, 0x40001000, 0x7fffffff, 0x80000000, 0xc0000000, 1<<32 - 2, 1<<32 - 1}
	for n := range uint32(620) {
		list = append(list, base+n)
	}
	for n := range uint32(10) {
		list = append(list, 0x0f0000+n)
	}
	return list
}

// values are arguments that a profile's conditions tell apart, and some others.
func values(p *specs.LinuxSeccomp, name string, rng *rand.Rand) []uint64 {
	list := []uint64{0, 1, 2, 21, 40, 1<<16 | 1, 1<<16 | 23, 1 << 31, 1<<32 - 1, 1 << 32, 1<<64 - 1, rng.Uint64(), uint64(rng.Uint32())}
	for _, s := range p.Syscalls {
		if !slices.Contains(s.Names, name) {
			continue
		}
		for _, a := range s.Args {
			for _, v := range []uint64{a.Value, a.ValueTwo, a.Value & a.ValueTwo, a.Value | a.ValueTwo} {
				list = append(list, v, v-1, v+1, v|1<<32, v|1<<63, v<<32, v>>32, v^1<<31, v&0xffffffff, v|0xffffffff00000000, ^v)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// compare asks a program and the profile's plain reading about many calls.
func compare(t *testing.T, p *specs.LinuxSeccomp, native abi.Arch, rng *rand.Rand) {
	t.Helper()
	prog, err := Compile(p, native)
	if err != nil {
		t.Fatalf("%v: %v", native, err)
	}
	if err := Validate(prog.Instructions); err != nil {
		t.Fatalf("%v: %v", native, err)
	}
	asked := 0
	ref := newReference(p, native)
	ask := func(d Data) {
		asked++
		got, _, err := Simulate(prog.Instructions, d)
		if want := ref.decide(d); err != nil || got != want {
			arch, _ := ref.arch(d)
			name, _ := arch.SyscallName(d.NR)
			t.Fatalf("native %v, call %d (%v %s), args %#x: program says %s (%v), profile %s\nprofile %s",
				native, d.NR, arch, name, d.Args, AnswerWords(got), err, AnswerWords(want), text(p))
		}
	}
	for _, arch := range abi.Archs() {
		if !listed(p, native, arch) {
			ask(Data{NR: 1, Arch: arch.AuditArch()})
			continue
		}
		for _, nr := range numbers(arch) {
			d := Data{NR: nr, Arch: arch.AuditArch(), IP: rng.Uint64()}
			ask(d)
			name := ref.name(arch, nr)
			if name == "" || !conditional(p, name) {
				continue
			}
			all := values(p, name, rng)
			for arg := range 6 {
				for _, v := range all {
					for i := range d.Args {
						d.Args[i] = all[rng.IntN(len(all))]
					}
					d.Args[arg] = v
					ask(d)
				}
			}
		}
	}
	if asked < 600 {
		t.Fatalf("only %d calls asked for", asked)
	}
}

func listed(p *specs.LinuxSeccomp, native, arch abi.Arch) bool {
	return arch == native || slices.Contains(p.Architectures, specs.Arch(arch.String()))
}

// conditional tells whether arguments can matter to a call.
func conditional(p *specs.LinuxSeccomp, name string) bool {
	if name == "socketcall" || name == "ipc" {
		return true
	}
	return slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool {
		return len(s.Args) > 0 && slices.Contains(s.Names, name)
	})
}

func text(p *specs.LinuxSeccomp) string {
	if len(p.Syscalls) > 20 {
		return fmt.Sprintf("of %d rules", len(p.Syscalls))
	}
	b, _ := json.Marshal(p)
	return string(b)
}

func TestMobyProfileSaysWhatItSays(t *testing.T) {
	for _, native := range mobyNatives {
		for _, caps := range [][]string{
			nil,
			{"CAP_SYS_ADMIN"},
			{"CAP_SYS_PTRACE", "CAP_SYS_NICE", "CAP_DAC_READ_SEARCH", "CAP_SYSLOG", "CAP_BPF", "CAP_SYS_TIME"},
		} {
			t.Run(fmt.Sprintf("%s %v", native.Name(), caps), func(t *testing.T) {
				compare(t, mobyProfile(native, caps...), native, rand.New(rand.NewPCG(1, 2)))
			})
		}
	}
}

// Docker's allowlist turned round: what it allows is refused, what it refuses is not.
func TestDenylistSaysWhatItSays(t *testing.T) {
	for _, native := range []abi.Arch{abi.ArchX86_64, abi.ArchAARCH64, abi.ArchS390X} {
		p := mobyProfile(native)
		p.DefaultAction, p.DefaultErrnoRet = specs.ActAllow, nil
		for i := range p.Syscalls {
			p.Syscalls[i].Action, p.Syscalls[i].ErrnoRet = specs.ActErrno, nil
		}
		compare(t, p, native, rand.New(rand.NewPCG(3, 4)))
	}
}

// randomProfile makes up a small profile from few names, so that rules meet.
func randomProfile(rng *rand.Rand) (*specs.LinuxSeccomp, abi.Arch) {
	pick := func(list []string) string { return list[rng.IntN(len(list))] }
	natives := []abi.Arch{abi.ArchX86_64, abi.ArchX86, abi.ArchAARCH64, abi.ArchARM, abi.ArchS390X, abi.ArchMIPS64N32, abi.ArchPPC64LE, abi.ArchX32}
	names := []string{"read", "socket", "socketcall", "shmget", "ipc", "clone", "personality", "set_tls", "mseal", "open_by_handle_at", "nowhere"}
	actions := []string{"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_TRACE", "SCMP_ACT_LOG"}
	operators := []string{"SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"}
	value := func() uint64 {
		v := rng.Uint64N(5)
		switch rng.IntN(6) {
		case 0:
			return -v
		case 1:
			return v << 32
		case 2:
			return v<<32 | rng.Uint64N(5)
		case 3:
			return 1<<32 - 1 - v
		case 4:
			return rng.Uint64()
		}
		return v
	}
	p := &specs.LinuxSeccomp{DefaultAction: specs.LinuxSeccompAction(pick(actions))}
	for range rng.IntN(3) {
		p.Architectures = append(p.Architectures, specs.Arch(abi.Archs()[rng.IntN(len(abi.Archs()))].String()))
	}
	for range rng.IntN(7) {
		s := specs.LinuxSyscall{Action: specs.LinuxSeccompAction(pick(actions))}
		if errno := uint(rng.IntN(100)); s.Action == specs.ActErrno && rng.IntN(2) == 0 {
			s.ErrnoRet = &errno
		}
		for range 1 + rng.IntN(3) {
			s.Names = append(s.Names, pick(names))
		}
		for range rng.IntN(4) {
			s.Args = append(s.Args, specs.LinuxSeccompArg{
				Index: uint(rng.IntN(3)), Value: value(), ValueTwo: value(), Op: specs.LinuxSeccompOperator(pick(operators))})
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	return p, natives[rng.IntN(len(natives))]
}

func TestRandomProfilesSayWhatTheySay(t *testing.T) {
	n := 200
	if testing.Short() {
		n = 50
	}
	for seed := range n {
		rng := rand.New(rand.NewPCG(uint64(seed), 7))
		p, native := randomProfile(rng)
		compare(t, p, native, rng)
	}
}

// FuzzCompile feeds any JSON: Compile must not panic, and what it makes must be a
// program that the kernel takes and that says what the profile says.
func FuzzCompile(f *testing.F) {
	for _, native := range mobyNatives {
		b, err := json.Marshal(mobyProfile(native))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint8(native), uint32(41), uint64(40))
	}
	for seed := range uint64(20) {
		p, native := randomProfile(rand.New(rand.NewPCG(seed, 9)))
		b, _ := json.Marshal(p)
		f.Add(b, uint8(native), uint32(0), seed)
	}
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_NOTIFY"}`), uint8(2), uint32(0), uint64(0))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}],"listenerPath":"/x"}`), uint8(2), uint32(83), uint64(0))
	f.Fuzz(func(t *testing.T, js []byte, native uint8, nr uint32, arg uint64) {
		var p specs.LinuxSeccomp
		if json.Unmarshal(js, &p) != nil {
			return
		}
		prog, err := Compile(&p, abi.Arch(native))
		if err != nil || prog == nil {
			return
		}
		if err := Validate(prog.Instructions); err != nil {
			t.Fatalf("%v\n%s", err, prog)
		}
		if len(prog.Bytes()) != 8*len(prog.Instructions) {
			t.Fatalf("%d bytes", len(prog.Bytes()))
		}
		ref := newReference(&p, abi.Arch(native))
		for _, arch := range abi.Archs() {
			d := Data{NR: nr, Arch: arch.AuditArch(), Args: [6]uint64{arg, ^arg, arg << 32, arg >> 32, arg + 1, 0}}
			got, _, err := Simulate(prog.Instructions, d)
			if want := ref.decide(d); err != nil || got != want {
				t.Fatalf("call %+v: program says %s (%v), profile %s\n%s", d, AnswerWords(got), err, AnswerWords(want), prog)
			}
		}
	})
}
