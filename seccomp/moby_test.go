//go:build linux

package seccomp

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kakuri/kakuri/abi"
)

// mobyArchs are all architectures that Docker's profile has an entry for or names in one.
func mobyArchs(t *testing.T) []abi.Arch {
	t.Helper()
	var list []abi.Arch
	for _, native := range abi.Archs() {
		for _, a := range mobyProfile(native).Architectures {
			arch, ok := abi.ParseArch(string(a))
			if !ok {
				t.Fatalf("Docker's profile names %s, which abi does not know", a)
			}
			if !slices.Contains(list, arch) {
				list = append(list, arch)
			}
		}
	}
	// Those that it has system calls or conditions for, without an entry of their own.
	for _, arch := range []abi.Arch{abi.ArchPPC64LE, abi.ArchPPC64, abi.ArchPPC, abi.ArchMIPS, abi.ArchMIPSEL} {
		if !slices.Contains(list, arch) {
			list = append(list, arch)
		}
	}
	return list
}

// inOrder mends what libseccomp 2.5 breaks when it makes a program for the other byte order: an answer that
// it repeats, because it is too far away for a jump, is in the wrong one.
func inOrder(prog []Instruction, p *specs.LinuxSeccomp) []Instruction {
	known := []uint32{referAnswer(p.DefaultAction, p.DefaultErrnoRet), abi.SeccompRetKillThread, abi.SeccompRetKillProcess}
	for _, s := range p.Syscalls {
		known = append(known, referAnswer(s.Action, s.ErrnoRet))
	}
	const ret = 0x06 // BPF_RET | BPF_K
	fixed := slices.Clone(prog)
	for i, in := range fixed {
		if turned := bits.ReverseBytes32(in.K); in.Code == ret && !slices.Contains(known, in.K) && slices.Contains(known, turned) {
			fixed[i].K = turned
		}
	}
	return fixed
}

// TestMobyAgainstLibseccomp: for Docker's whole default profile, on each architecture that it is for, our program and
// libseccomp's give the same verdict on every number and on sampled arguments, and the way to ours is shorter: for the
// mean call, for the mean allowed one, and for nine calls in ten; no call's is more than three instructions longer than
// in libseccomp's tree. An architecture that this machine's libseccomp is too old for is compared with the reference.
func TestMobyAgainstLibseccomp(t *testing.T) {
	exporter := buildExporter(t)
	archs := mobyArchs(t)
	if len(archs) < 16 {
		t.Errorf("only %d architectures: %v", len(archs), archs)
	}
	for _, native := range archs {
		for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_PERFMON", "CAP_BPF"}} {
			t.Run(fmt.Sprint(native.Name(), " ", len(caps)), func(t *testing.T) {
				p := mobyProfile(native, caps...)
				if !knows(t, exporter, native) {
					t.Log("libseccomp does not know this architecture")
					compareReference(t, p, native)
					return
				}
				ours, theirs := compareLibseccomp(t, exporter, p, native)
				small, err := Compile(without(p, libseccomp(t, exporter, p, native, 2).unknown), native)
				if err != nil {
					t.Fatal(err)
				}
				tree := inOrder(libseccomp(t, exporter, p, native, 2).prog, p)
				all, allowed := meanSteps(t, small.Instructions, native)
				listAll, listAllowed := meanSteps(t, theirs, native)
				treeAll, treeAllowed := meanSteps(t, tree, native)
				t.Logf("instructions: %d, libseccomp %d, its tree %d; mean steps %.1f (allowed %.1f), %.1f (%.1f), %.1f (%.1f)",
					len(ours), len(theirs), len(tree), all, allowed, listAll, listAllowed, treeAll, treeAllowed)
				if all >= min(listAll, treeAll) || allowed >= min(listAllowed, treeAllowed) || len(ours) >= min(len(theirs), len(tree)) {
					t.Errorf("no better than libseccomp")
				}
				longer, n := 0, 0
				for i := range abi.SyscallCount {
					nr, ok := native.SyscallAt(i)
					if !ok {
						continue
					}
					d := Data{NR: nr, Arch: native.AuditArch()}
					_, mine, err := Simulate(small.Instructions, d)
					if err != nil {
						t.Fatal(err)
					}
					_, list, _ := Simulate(theirs, d)
					_, treed, _ := Simulate(tree, d)
					if n++; mine > min(list, treed) {
						longer++
					}
					if mine > treed+3 {
						name, _ := native.SyscallName(nr)
						t.Errorf("%s (%d): %d instructions, libseccomp's tree has %d", name, nr, mine, treed)
					}
				}
				t.Logf("of %d calls, %d have a shorter way in one of libseccomp's programs", n, longer)
				if longer*10 > n {
					t.Errorf("%d of %d calls have a longer way than in libseccomp's", longer, n)
				}
			})
		}
	}
}

// compareReference asks our program and the reference about every number up to 600, with some arguments.
func compareReference(t *testing.T, p *specs.LinuxSeccomp, native abi.Arch) {
	t.Helper()
	prog, err := Compile(p, native)
	if err != nil {
		t.Fatal(err)
	}
	ref, rng := newReference(p, native), rand.New(rand.NewPCG(7, 8))
	for _, arch := range abi.Archs() {
		for n := range uint32(601) {
			d := Data{NR: arch.SyscallBase() + n, Arch: arch.AuditArch()}
			for range 8 {
				got, _, err := Simulate(prog.Instructions, d)
				if err != nil {
					t.Fatal(err)
				}
				if want := ref.decide(d); got != want {
					t.Fatalf("call %d of %v, args %#x: %s, want %s", d.NR, arch, d.Args, AnswerWords(got), AnswerWords(want))
				}
				all := values(p, ref.name(arch, d.NR), rng)
				for i := range d.Args {
					d.Args[i] = all[rng.IntN(len(all))]
				}
			}
		}
	}
}
