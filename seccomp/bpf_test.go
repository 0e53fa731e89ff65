package seccomp

import (
	"slices"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	ret := Instruction{Code: opRet}
	for _, tt := range []struct {
		name string
		prog []Instruction
		want string // part of the error, empty for none
	}{
		{"a return", []Instruction{ret}, ""},
		{"nothing", nil, "program of 0 instructions"},
		{"too much", slices.Repeat([]Instruction{ret}, 4097), "program of 4097 instructions"},
		{"the most", slices.Repeat([]Instruction{ret}, 4096), ""},
		{"no return", []Instruction{{Code: opLoad}}, "does not return"},
		{"return A", []Instruction{{Code: opRetA}}, ""},
		{"jump past the end", []Instruction{{Code: opJump, K: 1}, ret}, "jump over 1 of 1"},
		{"jump to the end", []Instruction{{Code: opJump, K: 0}, ret}, ""},
		{"jump that wraps", []Instruction{{Code: opJump, K: 1<<32 - 1}, ret}, "jump over 4294967295"},
		{"test past the end", []Instruction{{Code: opEqual, JT: 1}, ret}, "jump over 1 or 0 of 1"},
		{"test past the end, else", []Instruction{{Code: opAnySetX, JF: 1}, ret}, "jump over 0 or 1 of 1"},
		{"load beyond the data", []Instruction{{Code: opLoad, K: 64}, ret}, "load from offset 64"},
		{"load askew", []Instruction{{Code: opLoad, K: 2}, ret}, "load from offset 2"},
		{"last word", []Instruction{{Code: opLoad, K: 60}, ret}, ""},
		{"division", []Instruction{{Code: opDiv}, ret}, "division by zero"},
		{"shift", []Instruction{{Code: opLsh, K: 32}, ret}, "shift by 32"},
		{"half-word load", []Instruction{{Code: 0x28}, ret}, "operation 0x28"},
		{"modulo", []Instruction{{Code: 0x94, K: 3}, ret}, "operation 0x94"},
		{"memory beyond", []Instruction{{Code: opStore, K: 16}, ret}, "memory word 16"},
		{"memory unwritten", []Instruction{{Code: opLoadMem, K: 3}, ret}, "memory word 3 was not written"},
		{"memory written", []Instruction{{Code: opStore, K: 3}, {Code: opLoadMemX, K: 3}, ret}, ""},
		{"memory written on one way only", []Instruction{{Code: opEqual, JT: 1}, {Code: opStore}, {Code: opLoadMem}, ret}, "memory word 0 was not written"},
		{"memory written on both ways", []Instruction{{Code: opEqual, JT: 2}, {Code: opStoreX}, {Code: opJump, K: 1}, {Code: opStore}, {Code: opLoadMem}, ret}, ""},
	} {
		err := Validate(tt.prog)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestSimulateArithmetic(t *testing.T) {
	// Each program starts with A = 12, X = 5.
	start := []Instruction{{Code: opLoadImm, K: 5}, {Code: opTAX}, {Code: opLoadImm, K: 12}}
	for _, tt := range []struct {
		name string
		code []Instruction
		want uint32
	}{
		{"add", []Instruction{{Code: opAdd, K: 3}}, 15},
		{"add X", []Instruction{{Code: opAddX}}, 17},
		{"sub", []Instruction{{Code: opSub, K: 13}}, 1<<32 - 1},
		{"sub X", []Instruction{{Code: opSubX}}, 7},
		{"mul", []Instruction{{Code: opMul, K: 3}}, 36},
		{"mul X", []Instruction{{Code: opMulX}}, 60},
		{"div", []Instruction{{Code: opDiv, K: 5}}, 2},
		{"div X", []Instruction{{Code: opDivX}}, 2},
		{"and", []Instruction{{Code: opAnd, K: 6}}, 4},
		{"and X", []Instruction{{Code: opAndX}}, 4},
		{"or", []Instruction{{Code: opOr, K: 1}}, 13},
		{"or X", []Instruction{{Code: opOrX}}, 13},
		{"xor", []Instruction{{Code: opXor, K: 15}}, 3},
		{"xor X", []Instruction{{Code: opXorX}}, 9},
		{"lsh", []Instruction{{Code: opLsh, K: 2}}, 48},
		{"lsh X", []Instruction{{Code: opLshX}}, 384},
		{"rsh", []Instruction{{Code: opRsh, K: 2}}, 3},
		{"rsh X", []Instruction{{Code: opRshX}}, 0},
		{"neg", []Instruction{{Code: opNeg}}, 1<<32 - 12},
		{"length", []Instruction{{Code: opLoadLen}}, 64},
		{"length in X", []Instruction{{Code: opLoadLenX}, {Code: opTXA}}, 64},
		{"constant in X", []Instruction{{Code: opLoadImmX, K: 9}, {Code: opTXA}}, 9},
		{"memory", []Instruction{{Code: opStore, K: 15}, {Code: opLoadImm, K: 1}, {Code: opLoadMem, K: 15}}, 12},
		{"memory of X", []Instruction{{Code: opStoreX, K: 0}, {Code: opLoadMemX, K: 0}, {Code: opTXA}}, 5},
		{"== X", []Instruction{{Code: opEqualX, JF: 1}, {Code: opLoadImm}}, 12},
		{"> X", []Instruction{{Code: opGreatX, JT: 1}, {Code: opLoadImm}}, 12},
		{">= X", []Instruction{{Code: opAtOverX, JT: 1}, {Code: opLoadImm}}, 12},
		{"& X", []Instruction{{Code: opAnySetX, JT: 1}, {Code: opLoadImm}}, 12},
	} {
		prog := slices.Concat(start, tt.code, []Instruction{{Code: opRetA}})
		if err := Validate(prog); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got, steps, err := Simulate(prog, Data{}); err != nil || got != tt.want || steps < 5 {
			t.Errorf("%s: %d in %d steps, %v, want %d", tt.name, got, steps, err, tt.want)
		}
	}
	zero := []Instruction{{Code: opLoadImm, K: 9}, {Code: opDivX}, {Code: opRet, K: 7}}
	if got, _, err := Simulate(zero, Data{}); err != nil || got != 0 {
		t.Errorf("division by an empty X answers %d, %v", got, err)
	}
}

func TestSimulateRefusesWhatItCannotRun(t *testing.T) {
	for _, prog := range [][]Instruction{
		nil, {{Code: opLoad}}, {{Code: opJump, K: 1 << 30}, {Code: opRet}}, {{Code: 0x28}, {Code: opRet}}, {{Code: opLoad, K: 99}, {Code: opRet}},
	} {
		if _, _, err := Simulate(prog, Data{}); err == nil {
			t.Errorf("%v ran", prog)
		}
		if got := (&Program{Instructions: prog}).Decide(2, 0); got != 0 {
			t.Errorf("%v decides %#x", prog, got)
		}
	}
}

func TestDataWords(t *testing.T) {
	d := Data{NR: 1, Arch: 0xc000003e, IP: 0x1111111122222222, Args: [6]uint64{0x3333333344444444, 0, 0, 0, 0, 0x5555555566666666}}
	for offset, want := range map[uint32]uint32{0: 1, 4: 0xc000003e, 8: 0x22222222, 12: 0x11111111, 16: 0x44444444, 20: 0x33333333, 56: 0x66666666, 60: 0x55555555} {
		if got := d.word(offset); got != want {
			t.Errorf("little endian, offset %d: %#x, want %#x", offset, got, want)
		}
	}
	d.Arch = 0x80000016
	for offset, want := range map[uint32]uint32{8: 0x11111111, 12: 0x22222222, 16: 0x33333333, 20: 0x44444444, 60: 0x66666666} {
		if got := d.word(offset); got != want {
			t.Errorf("big endian, offset %d: %#x, want %#x", offset, got, want)
		}
	}
}
