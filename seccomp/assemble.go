package seccomp

import "slices"

// A label is a place in the program. From 0 on it counts instructions from the
// program's end; below, it is an action's answer that no instruction need give yet.
type label int16

// A span is a range of values, up to the next one's first, that all lead to one place.
type span struct {
	first  uint32
	weight int32 // how many calls it is expected to serve
	to     label
}

// An assembler writes a program backwards. BPF only jumps forward, so whatever an
// instruction leads to is there when it is written, and its distance known.
//
// Its buffers lie inside, since a compilation runs once in a process: then most of
// its time goes into the first touch of each page of memory, and few are best.
type assembler struct {
	code    []Instruction // reversed
	actions []uint32
	conds   []condition // of the rules

	answers  []label // the last return of each action, -1 for none
	sums     []int32
	parts    []part
	outer    []span
	inner    []span
	answered [12]label
	sumSpace [200]int32
	partRoom [64]part
	outRoom  [48]span
	inRoom   [48]span
}

func (a *assembler) init() {
	a.code = make([]Instruction, 0, 448)
	a.answers, a.sums, a.parts = a.answered[:0], a.sumSpace[:0], a.partRoom[:0]
	a.outer, a.inner = a.outRoom[:0], a.inRoom[:0]
}

// ret is the place where the program answers with an action.
func (a *assembler) ret(action actionID) label { return -1 - label(action) }

// push writes an instruction. A program that is already too long grows no more: it is
// of no use, and a label must hold its places.
func (a *assembler) push(in Instruction) label {
	if len(a.code) > MaxInstructions {
		return 0
	}
	a.code = append(a.code, in)
	return label(len(a.code) - 1)
}

// near returns a place equal to l that a conditional jump can reach, even if ahead
// more instructions come before it. Returns are repeated where needed; to other
// code a long jump is put down, just in front of the conditional one.
func (a *assembler) near(l label, ahead int) label {
	const reach = 255
	within := func(l label) bool { return len(a.code)+ahead-1-int(l) <= reach }
	if l < 0 {
		action := int(-1 - l)
		for len(a.answers) <= action {
			a.answers = append(a.answers, -1)
		}
		if at := a.answers[action]; at >= 0 && within(at) {
			return at
		}
		a.answers[action] = a.push(Instruction{Code: opRet, K: a.actions[action]})
		return a.answers[action]
	}
	if within(l) {
		return l
	}
	return a.push(Instruction{Code: opJump, K: uint32(len(a.code) - 1 - int(l))})
}

// branch writes a test of A against k.
func (a *assembler) branch(op uint16, k uint32, yes, no label) label {
	if yes == no {
		return yes
	}
	no = a.near(no, 1)
	yes = a.near(yes, 0)
	next := label(len(a.code) - 1)
	return a.push(Instruction{Code: op, JT: uint8(next - yes), JF: uint8(next - no), K: k})
}

// front makes l the next instruction to be carried out.
func (a *assembler) front(l label) {
	switch last := len(a.code) - 1; {
	case l < 0:
		a.push(Instruction{Code: opRet, K: a.actions[-1-l]})
	case int(l) != last:
		a.push(Instruction{Code: opJump, K: uint32(last - int(l))})
	}
}

// load writes a load of A from offset in the call's data, then l. An answer needs no load.
func (a *assembler) load(offset uint32, l label) label {
	if l < 0 {
		return l
	}
	a.front(l)
	return a.push(Instruction{Code: opLoad, K: offset})
}

// tree writes the search for A among spans, which begin with the value 0.
func (a *assembler) tree(spans []span) label {
	spans = merge(spans)
	sum := int32(0)
	a.sums = a.sums[:0]
	for _, s := range spans {
		a.sums = append(a.sums, sum)
		sum += s.weight
	}
	a.sums = append(a.sums, sum)
	return a.search(spans, a.sums)
}

// merge joins neighbours that lead to the same place, in spans' own memory.
func merge(spans []span) []span {
	kept := spans[:1]
	for _, s := range spans[1:] {
		if last := &kept[len(kept)-1]; last.to == s.to {
			last.weight += s.weight
		} else {
			kept = append(kept, s)
		}
	}
	return kept
}

// search writes the search among spans; sums has the weight in front of each, and at
// its end that of all. It halves them by weight, until few values are left that differ
// from their surroundings.
func (a *assembler) search(spans []span, sums []int32) label {
	if len(spans) == 1 {
		return spans[0].to
	}
	if ground, ok := singles(spans); ok {
		return a.pick(spans, ground)
	}
	i := middle(sums)
	high := a.search(spans[i:], sums[i:])
	low := a.search(spans[:i], sums[:i+1])
	return a.branch(opAtOver, spans[i].first, high, low)
}

// middle returns the index of the span at which the weights of both sides differ least.
func middle(sums []int32) int {
	first, last := sums[0], sums[len(sums)-1]
	best, bestGap := 1, last-first
	for i := 1; i < len(sums)-1; i++ {
		gap := sums[i] - first - (last - sums[i])
		gap = max(gap, -gap)
		if gap <= bestGap {
			best, bestGap = i, gap
		}
	}
	return best
}

// singles looks whether all of spans lead to one place, except at most two that
// hold a single value: then two tests for equality are as good as a search, and shorter.
func singles(spans []span) (ground label, ok bool) {
	const most = 2
	if len(spans) > 2*most+1 {
		return 0, false
	}
candidates:
	for i := range min(len(spans), most+1) {
		others := 0
		for j, s := range spans {
			if s.to == spans[i].to {
				continue
			}
			alone := j+1 < len(spans) && spans[j+1].first == s.first+1
			if others++; others > most || !alone {
				continue candidates
			}
		}
		return spans[i].to, true
	}
	return 0, false
}

// pick writes a test for each of spans that does not lead to ground.
func (a *assembler) pick(spans []span, ground label) label {
	next := ground
	for _, s := range slices.Backward(spans) {
		if s.to != ground {
			next = a.branch(opEqual, s.first, s.to, next)
		}
	}
	return next
}
