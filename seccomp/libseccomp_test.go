//go:build linux

package seccomp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kakuri/kakuri/abi"
)

// buildExporter builds testdata/export.c against this machine's libseccomp.
func buildExporter(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("libseccomp is of Linux")
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc to build a program that uses libseccomp")
	}
	bin := filepath.Join(t.TempDir(), "export")
	out, err := exec.Command(gcc, "-O1", "-o", bin, "testdata/export.c", "-lseccomp").CombinedOutput()
	if err != nil {
		if strings.Contains(string(out), "seccomp.h") || strings.Contains(string(out), "-lseccomp") {
			t.Skip("no libseccomp to compile against (Debian: libseccomp-dev)")
		}
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// script words a profile as runc hands it to libseccomp.
func script(p *specs.LinuxSeccomp, native abi.Arch, optimize int) string {
	var b strings.Builder
	fallback := referAnswer(p.DefaultAction, p.DefaultErrnoRet)
	fmt.Fprintf(&b, "default %#x\narch %s\n", fallback, native.Name())
	for _, a := range p.Architectures {
		arch, _ := abi.ParseArch(string(a))
		fmt.Fprintf(&b, "arch %s\n", arch.Name())
	}
	if optimize > 0 {
		fmt.Fprintf(&b, "optimize %d\n", optimize)
	}
	ops := []specs.LinuxSeccompOperator{"", specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual,
		specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual} // enum scmp_compare
	for _, s := range p.Syscalls {
		answer := referAnswer(s.Action, s.ErrnoRet)
		if answer == fallback {
			continue
		}
		for _, name := range s.Names {
			fmt.Fprintf(&b, "rule %#x %s %d", answer, name, len(s.Args))
			for _, a := range s.Args {
				fmt.Fprintf(&b, " %d %d %d %d", a.Index, slices.Index(ops, a.Op), a.Value, a.ValueTwo)
			}
			fmt.Fprintln(&b)
		}
	}
	return b.String()
}

// An export is what libseccomp makes of a profile.
type export struct {
	prog    []Instruction
	unknown []string         // names that it does not know
	numbers map[string]int64 // of "arch name"; negative where the architecture lacks it
}

// knows tells whether this machine's libseccomp has an architecture.
func knows(t *testing.T, exporter string, arch abi.Arch) bool {
	t.Helper()
	cmd := exec.Command(exporter)
	cmd.Stdin = strings.NewReader("default 0\narch " + arch.Name() + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "error arch "+arch.Name()+": unknown") {
		t.Fatalf("%v: %v\n%s", arch, err, out)
	}
	return err == nil
}

func libseccomp(t *testing.T, exporter string, p *specs.LinuxSeccomp, native abi.Arch, optimize int) export {
	t.Helper()
	cmd := exec.Command(exporter)
	cmd.Stdin = strings.NewReader(script(p, native, optimize))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", native, err, stderr.String())
	}
	var order binary.ByteOrder = binary.BigEndian
	if native.LittleEndian() {
		order = binary.LittleEndian
	}
	x := export{numbers: map[string]int64{}}
	for b := stdout.Bytes(); len(b) >= 8; b = b[8:] {
		x.prog = append(x.prog, Instruction{order.Uint16(b), b[2], b[3], order.Uint32(b[4:])})
	}
	for line := range strings.Lines(stderr.String()) {
		var arch, name string
		var nr int64
		if _, err := fmt.Sscanf(line, "unknown %s", &name); err == nil {
			x.unknown = append(x.unknown, name)
		} else if _, err := fmt.Sscanf(line, "number %s %s %d", &arch, &name, &nr); err == nil {
			x.numbers[arch+" "+name] = nr
		}
	}
	return x
}

// differs tells whether libseccomp gives a call another number than ours, or none. None
// is the mark of an older one, and of the calls that it takes for a part of socketcall.
func (x export) differs(t *testing.T, arch abi.Arch, name string) bool {
	theirs, ok := x.numbers[arch.Name()+" "+name]
	ours, has := arch.Syscall(name)
	if ok && has && theirs >= 0 && theirs != int64(ours) {
		t.Errorf("%v: %s is %d, libseccomp says %d", arch, name, ours, theirs)
	}
	const pseudo = -1000 // from here to -1 are the parts of socketcall and ipc
	return ok && has && theirs < pseudo
}

// without leaves names out of a profile, those which an older libseccomp does not know.
func without(p *specs.LinuxSeccomp, names []string) *specs.LinuxSeccomp {
	q := *p
	q.Syscalls = nil
	for _, s := range p.Syscalls {
		s.Names = slices.DeleteFunc(slices.Clone(s.Names), func(n string) bool { return slices.Contains(names, n) })
		q.Syscalls = append(q.Syscalls, s)
	}
	return &q
}

// compareLibseccomp asks both programs about every number up to 600 on each
// architecture, with many arguments where those matter. Above the largest number that
// the profile names runc answers before libseccomp's program does: there only ours is asked.
func compareLibseccomp(t *testing.T, exporter string, p *specs.LinuxSeccomp, native abi.Arch) (ours, theirs []Instruction) {
	t.Helper()
	x := libseccomp(t, exporter, p, native, 0)
	theirs = inOrder(x.prog, p)
	p = without(p, x.unknown)
	prog, err := Compile(p, native)
	if err != nil {
		t.Fatal(err)
	}
	ref := newReference(p, native)
	rng := rand.New(rand.NewPCG(5, 6))
	asked := 0
	ask := func(d Data) {
		t.Helper()
		got, _, err := Simulate(prog.Instructions, d)
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := Simulate(theirs, d)
		if err != nil {
			t.Fatal(err)
		}
		arch, ok := ref.arch(d)
		if top, _ := ref.largest(arch); ok && int64(d.NR) > top && top >= 0 {
			want = ref.decide(d)
		}
		asked++
		if got != want {
			name, _ := arch.SyscallName(d.NR)
			t.Fatalf("native %v, call %d (%v %s), args %#x: ours says %s, libseccomp %s\nprofile %s",
				native, d.NR, arch, name, d.Args, AnswerWords(got), AnswerWords(want), text(p))
		}
	}
	for _, arch := range abi.Archs() {
		for n := range uint32(601) {
			nr := arch.SyscallBase() + n
			d := Data{NR: nr, Arch: arch.AuditArch()}
			if n == 0 && (arch == abi.ArchS390 || arch == abi.ArchS390X) && listed(p, native, arch) {
				continue // runc's own answer, too
			}
			name := ref.name(arch, nr)
			if x.differs(t, arch, name) {
				continue
			}
			ask(d)
			if name == "" || !listed(p, native, arch) || !conditional(p, name) {
				continue
			}
			all := values(p, name, rng)
			for arg := range 6 {
				for _, v := range all {
					if !arch.Is64() {
						v &= low32
					}
					if name == "ipc" {
						v &= 0xffff // libseccomp forgets that the kernel ignores the rest
					}
					d.Args = [6]uint64{1, 2, 1, 2, 1, 2}
					d.Args[arg] = v
					ask(d)
				}
			}
		}
	}
	if asked < 10000 {
		t.Errorf("only %d calls asked for", asked)
	}
	return prog.Instructions, theirs
}

func TestDenylistAgainstLibseccomp(t *testing.T) {
	exporter := buildExporter(t)
	p := parse(t, `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"],"syscalls":[
		{"names":["mount","umount2","pivot_root","bpf","keyctl"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
		{"names":["ptrace"],"action":"SCMP_ACT_KILL_PROCESS"},
		{"names":["bind","accept","semop","shmget"],"action":"SCMP_ACT_TRAP"},
		{"names":["ioctl"],"action":"SCMP_ACT_LOG","args":[{"index":1,"value":21522,"op":"SCMP_CMP_EQ"}]},
		{"names":["personality"],"action":"SCMP_ACT_TRACE","args":[{"index":0,"value":262144,"valueTwo":262144,"op":"SCMP_CMP_MASKED_EQ"}]}]}`)
	compareLibseccomp(t, exporter, p, abi.ArchX86_64)
}

// TestExclusiveRulesAgainstLibseccomp: podman's profile has such rules for socket, with different actions, which
// have the same meaning in each order.
func TestExclusiveRulesAgainstLibseccomp(t *testing.T) {
	exporter := buildExporter(t)
	p := parse(t, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
		{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":22,"args":[{"index":0,"value":16,"op":"SCMP_CMP_EQ"},{"index":2,"value":9,"op":"SCMP_CMP_EQ"}]},
		{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":2,"value":9,"op":"SCMP_CMP_NE"}]},
		{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":16,"op":"SCMP_CMP_NE"}]}]}`)
	compareLibseccomp(t, exporter, p, abi.ArchX86_64)
}

// TestOrderAgainstLibseccomp: of two rules that both hold our program takes the first in the profile, and libseccomp's
// the one with the highest argument, as the package's text has it.
func TestOrderAgainstLibseccomp(t *testing.T) {
	exporter := buildExporter(t)
	rules := []string{
		`{"names":["ioctl"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}`,
		`{"names":["ioctl"],"action":"SCMP_ACT_LOG","args":[{"index":1,"value":2,"op":"SCMP_CMP_EQ"}]}`,
	}
	ioctl, _ := abi.ArchX86_64.Syscall("ioctl")
	both := Data{NR: ioctl, Arch: abi.ArchX86_64.AuditArch(), Args: [6]uint64{1, 2}}
	for i, first := range []uint32{abi.SeccompRetTrap, abi.SeccompRetLog} {
		p := parse(t, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[`+rules[i]+","+rules[1-i]+"]}")
		prog, err := Compile(p, abi.ArchX86_64)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := Simulate(prog.Instructions, both); err != nil || got != first {
			t.Errorf("ours: %s, %v, want %s", AnswerWords(got), err, AnswerWords(first))
		}
		theirs := libseccomp(t, exporter, p, abi.ArchX86_64, 0).prog
		if got, _, err := Simulate(theirs, both); err != nil || got != abi.SeccompRetLog {
			t.Errorf("libseccomp: %s, %v, want %s", AnswerWords(got), err, AnswerWords(abi.SeccompRetLog))
		}
	}
}

// Each rule has a name of its own: of several with conditions and different actions libseccomp has another order.
func TestConditionsAgainstLibseccomp(t *testing.T) {
	exporter := buildExporter(t)
	names := []string{"read", "write", "open", "close", "ioctl", "clone", "personality", "mmap", "prctl", "fcntl", "kill", "futex"}
	ops := []specs.LinuxSeccompOperator{specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual}
	for seed := range uint64(16) {
		rng := rand.New(rand.NewPCG(seed, 3))
		p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
		wide := seed%2 == 0
		native := abi.ArchS390X
		if !wide {
			native = abi.ArchX86_64
			p.Architectures = []specs.Arch{specs.ArchX86, specs.ArchX32}
		}
		value := func() uint64 {
			v := uint64(rng.Uint32N(4))
			if rng.IntN(3) == 0 {
				v = uint64(rng.Uint32())
			}
			if wide && rng.IntN(2) == 0 {
				v |= uint64(rng.Uint32N(4)) << 32
			}
			return v
		}
		for _, name := range names {
			s := specs.LinuxSyscall{Names: []string{name}, Action: specs.ActAllow}
			for _, arg := range rng.Perm(6)[:1+rng.IntN(3)] {
				s.Args = append(s.Args, specs.LinuxSeccompArg{Index: uint(arg), Value: value(), ValueTwo: value(), Op: ops[rng.IntN(len(ops))]})
			}
			p.Syscalls = append(p.Syscalls, s)
		}
		compareLibseccomp(t, exporter, p, native)
	}
}
