//go:build linux

package seccomp

import (
	"testing"

	"github.com/kakuri/kakuri/abi"
)

// meanSteps is the mean number of instructions over the calls of an architecture,
// and over those that are allowed, with zeros as arguments.
func meanSteps(t testing.TB, prog []Instruction, arch abi.Arch) (all, allowed float64) {
	t.Helper()
	var n, steps, nAllowed, stepsAllowed int
	for i := range abi.SyscallCount {
		nr, ok := arch.SyscallAt(i)
		if !ok {
			continue
		}
		answer, s, err := Simulate(prog, Data{NR: nr, Arch: arch.AuditArch()})
		if err != nil {
			t.Fatal(err)
		}
		n, steps = n+1, steps+s
		if answer == abi.SeccompRetAllow {
			nAllowed, stepsAllowed = nAllowed+1, stepsAllowed+s
		}
	}
	return float64(steps) / float64(n), float64(stepsAllowed) / float64(nAllowed)
}

// The size and the length of the ways are what a container's start and each of its
// calls pay; a change that makes them much worse shall be seen.
func TestMobyProfileStaysSmall(t *testing.T) {
	for _, native := range mobyNatives {
		p, err := Compile(mobyProfile(native), native)
		if err != nil {
			t.Fatal(err)
		}
		all, allowed := meanSteps(t, p.Instructions, native)
		t.Logf("%-11s %4d instructions, %.1f steps a call, %.1f an allowed one", native.Name(), len(p.Instructions), all, allowed)
		if all > 11 || allowed > 11 || len(p.Instructions) > 600 {
			t.Errorf("%s: %d instructions, %.1f and %.1f steps", native.Name(), len(p.Instructions), all, allowed)
		}
	}
}

func TestCompileAllocatesLittle(t *testing.T) {
	p := mobyProfile(abi.ArchX86_64)
	n := testing.AllocsPerRun(20, func() {
		if _, err := Compile(p, abi.ArchX86_64); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%v allocations", n)
	if n > 200 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, native := range []abi.Arch{abi.ArchX86_64, abi.ArchAARCH64} {
		b.Run(native.Name(), func(b *testing.B) {
			p := mobyProfile(native)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Compile(p, native); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBytes(b *testing.B) {
	p, err := Compile(mobyProfile(abi.ArchX86_64), abi.ArchX86_64)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Bytes()
	}
}

func BenchmarkSimulate(b *testing.B) {
	p, err := Compile(mobyProfile(abi.ArchX86_64), abi.ArchX86_64)
	if err != nil {
		b.Fatal(err)
	}
	d := Data{NR: 1, Arch: abi.ArchX86_64.AuditArch()}
	for b.Loop() {
		if _, _, err := Simulate(p.Instructions, d); err != nil {
			b.Fatal(err)
		}
	}
}
