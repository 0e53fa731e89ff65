package seccomp

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Whatever arguments a call has, the answer is among those that are reached; and of a filter without
// conditions it is the only one.
func TestReach(t *testing.T) {
	p, err := Compile(&specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "write"}, Action: specs.ActAllow},
			{Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 0xffffffff, ValueTwo: 2, Op: specs.OpMaskedEqual}}},
			{Names: []string{"socket"}, Action: specs.ActKillProcess, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 40, Op: specs.OpGreaterEqual}, {Index: 1, Value: 7, Op: specs.OpNotEqual}}},
		},
	}, abi.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	eperm := abi.SeccompRetErrno | uint32(abi.EPERM)
	number := func(name string) uint32 { nr, _ := abi.ArchX86_64.Syscall(name); return nr }
	for call, want := range map[string][]uint32{
		"read": {abi.SeccompRetAllow}, "getpid": {eperm}, "socket": {abi.SeccompRetKillProcess, eperm, abi.SeccompRetAllow},
	} {
		got := Reach(p.Instructions, abi.ArchX86_64, number(call))
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %x, want %x", call, got, want)
		}
	}
	dice := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		nr := uint32(dice.IntN(480))
		args := []uint64{dice.Uint64N(64), dice.Uint64N(16), dice.Uint64()}
		if got := p.Decide(abi.ArchX86_64, nr, args...); !slices.Contains(Reach(p.Instructions, abi.ArchX86_64, nr), got) {
			t.Fatalf("call %d %x: %#x is not reached", nr, args, got)
		}
	}
}

// Registers, memory and arithmetic: what does not depend on arguments is known.
func TestReachFollows(t *testing.T) {
	load := func(off uint32) Instruction { return Instruction{Code: opLoad, K: off} }
	for name, c := range map[string]struct {
		prog []Instruction
		want []uint32
	}{
		"stored":   {[]Instruction{load(offNR), {Code: opStore, K: 3}, load(offArgs), {Code: opLoadMem, K: 3}, {Code: opEqual, K: 5, JF: 1}, {Code: opRet, K: 1}, {Code: opRet, K: 2}}, []uint32{1}},
		"argument": {[]Instruction{load(offArgs), {Code: opTAX}, load(offNR), {Code: opAddX}, {Code: opEqual, K: 5, JF: 1}, {Code: opRet, K: 1}, {Code: opRet, K: 2}}, []uint32{1, 2}},
		"added":    {[]Instruction{load(offNR), {Code: opAdd, K: 2}, {Code: opRetA}}, []uint32{7}},
		"jump":     {[]Instruction{load(offArgs), {Code: opEqual, K: 5, JT: 1, JF: 2}, {Code: opRet, K: 1}, {Code: opRet, K: 2}, {Code: opRet, K: 3}}, []uint32{2, 3}},
		"moved":    {[]Instruction{load(offArgs), {Code: opAdd, K: 2}, {Code: opEqual, K: 5, JF: 1}, {Code: opRet, K: 1}, {Code: opRet, K: 2}}, []uint32{1, 2}},
		"doubled":  {[]Instruction{load(offNR), {Code: opTAX}, {Code: opAddX}, {Code: opRetA}}, []uint32{10}},
		"itself":   {[]Instruction{load(offNR), {Code: opTAX}, {Code: opEqualX, JF: 1}, {Code: opRet, K: 1}, {Code: opRet, K: 2}}, []uint32{1}},
		"of both":  {[]Instruction{load(offArgs), {Code: opTAX}, load(offNR), {Code: opEqualX, JF: 1}, {Code: opRet, K: 1}, {Code: opRet, K: 2}}, []uint32{1, 2}},
		"fetched":  {[]Instruction{load(offNR), {Code: opStore, K: 3}, {Code: opLoadMemX, K: 3}, {Code: opEqualX, JF: 1}, {Code: opRet, K: 1}, {Code: opRet, K: 2}}, []uint32{1}},
		"divided":  {[]Instruction{load(offNR), {Code: opLoadImmX, K: 0}, {Code: opDivX}, {Code: opRet, K: 1}}, nil},
	} {
		if got := Reach(c.prog, abi.ArchX86_64, 5); !slices.Equal(got, c.want) {
			t.Errorf("%s: %x, want %x", name, got, c.want)
		}
	}
}
