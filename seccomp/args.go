package seccomp

import (
	"cmp"
	"slices"
)

// A wiring is how an architecture passes arguments.
type wiring struct {
	little bool // the lower half of a 64-bit argument comes first in memory
	wide   bool // arguments have 64 bits
}

// low and high return the offset of the halves of an argument.
func (w wiring) low(arg uint8) uint32  { return w.half(arg, w.little) }
func (w wiring) high(arg uint8) uint32 { return w.half(arg, !w.little) }

func (w wiring) half(arg uint8, first bool) uint32 {
	at := offArgs + 8*uint32(arg)
	if !first {
		at += 4
	}
	return at
}

// A test is a condition as one architecture can decide it: A, after the bits outside
// of mask are cleared, is in one of the ranges of yes.
type test struct {
	arg  uint8
	kind testKind
	mask uint64
	yes  [2]interval
	n    int // how many of yes are used
}

// An interval is the values from first to last.
type interval struct{ first, last uint64 }

// A testKind says which halves of an argument a test looks at.
type testKind uint8

const (
	lowHalf  testKind = iota // only the lower, with a mask
	whole                    // both, as one number
	bothBits                 // some bits of both: yes is one value
)

const (
	low32 = 1<<32 - 1
	all64 = 1<<64 - 1
)

// sameValue tells whether two tests look at the same bits of the same argument.
func (t *test) sameValue(u *test) bool {
	return t.arg == u.arg && t.kind == u.kind && t.mask == u.mask && t.kind != bothBits
}

// lower turns a condition into a test for w.
func lower(c condition, w wiring) test {
	t := test{arg: c.arg, kind: whole, mask: all64}
	if c.op == opMasked {
		return lowerMasked(c, w)
	}
	value, limit, above := c.value, uint64(all64), false
	if !w.wide {
		t.kind, t.mask, limit = lowHalf, low32, low32
		if negative32(value) {
			value &= low32
		}
		above = value > limit
	}
	yes := func(first, last uint64) { t.yes[t.n] = interval{first, last}; t.n++ }
	switch c.op {
	case opEQ:
		if !above {
			yes(value, value)
		}
	case opNE:
		if above {
			yes(0, limit)
			break
		}
		if value > 0 {
			yes(0, value-1)
		}
		if value < limit {
			yes(value+1, limit)
		}
	case opLT, opLE:
		last := value
		if c.op == opLT {
			last--
		}
		if value > 0 || c.op == opLE {
			yes(0, min(last, limit))
		}
	case opGT, opGE:
		first := value
		if c.op == opGT {
			first++
		}
		if !above && (value < limit || c.op == opGE) {
			yes(first, limit)
		}
	}
	return t
}

// negative32 tells whether v is a negative number of 32 bits, written with 64.
func negative32(v uint64) bool { return v>>31 == 1<<33-1 }

func lowerMasked(c condition, w wiring) test {
	t := test{arg: c.arg, kind: lowHalf, mask: c.mask, n: 1}
	t.yes[0] = interval{c.value, c.value}
	switch {
	case c.mask <= low32:
	case w.wide:
		t.kind = bothBits
	case c.value>>32 == 0 || c.value>>32 == c.mask>>32 && c.value&(1<<31) != 0:
		t.mask &= low32
		t.yes[0] = interval{c.value & low32, c.value & low32}
	default:
		t.mask, t.n = low32, 0 // asks for bits that such an argument does not have
	}
	return t
}

// rules writes the code for rules with conditions in their order, then no.
func (a *assembler) rules(list []rule, w wiring, no label) label {
	for len(list) > 0 {
		list, no = a.lastRules(list, w, no)
	}
	return no
}

// lastRules writes the last of the rules; several, if each has one condition and all
// look at the same value, which is then searched for once. It returns those in front.
func (a *assembler) lastRules(list []rule, w wiring, no label) ([]rule, label) {
	n := len(list) - 1
	r := list[n]
	conds := a.conds[r.from:r.to]
	if len(conds) != 1 {
		yes := a.ret(r.action)
		for _, c := range slices.Backward(conds) {
			t := lower(c, w)
			yes = a.decide(&t, w, yes, no)
		}
		return list[:n], yes
	}
	last := lower(conds[0], w)
	if last.kind == bothBits {
		return list[:n], a.decide(&last, w, a.ret(r.action), no)
	}
	p := a.ground(no)
	p.paint(&last, a.ret(r.action))
	for ; n > 0 && list[n-1].single(); n-- {
		t := lower(a.conds[list[n-1].from], w)
		if !t.sameValue(&last) {
			break
		}
		p.paint(&t, a.ret(list[n-1].action))
	}
	return list[:n], a.find(&last, w, p)
}

// decide writes one test.
func (a *assembler) decide(t *test, w wiring, yes, no label) label {
	if t.kind != bothBits {
		p := a.ground(no)
		p.paint(t, yes)
		return a.find(t, w, p)
	}
	value := t.yes[0].first
	yes = a.bits(w.low(t.arg), uint32(t.mask), uint32(value), yes, no)
	return a.bits(w.high(t.arg), uint32(t.mask>>32), uint32(value>>32), yes, no)
}

// bits writes a comparison of some bits of one half of an argument.
func (a *assembler) bits(offset, mask, value uint32, yes, no label) label {
	switch {
	case mask == 0:
		return yes
	case mask == low32:
		return a.load(offset, a.branch(opEqual, value, yes, no))
	case value == 0:
		return a.load(offset, a.branch(opAnySet, mask, no, yes))
	}
	return a.load(offset, a.masked(mask, a.branch(opEqual, value, yes, no)))
}

// masked writes the clearing of all bits of A but those of mask, then l.
func (a *assembler) masked(mask uint32, l label) label {
	if l < 0 || mask == low32 {
		return l
	}
	a.front(l)
	return a.push(Instruction{Code: opAnd, K: mask})
}

// find writes the search for an argument's value in a painting.
func (a *assembler) find(t *test, w wiring, p painting) label {
	a.parts = p.parts
	if t.kind == whole {
		return a.load(w.high(t.arg), a.tree(a.highSpans(w.low(t.arg))))
	}
	spans := merge(a.below(t.mask))
	if t.mask != low32 && len(spans) == 2 && spans[1].first == 1 {
		// Whether any bit is set needs no clearing of the others.
		return a.load(w.low(t.arg), a.branch(opAnySet, uint32(t.mask), spans[1].to, spans[0].to))
	}
	return a.load(w.low(t.arg), a.masked(uint32(t.mask), a.tree(spans)))
}

// A painting is where each 64-bit value leads to. What is painted later covers what
// was before, so that the first of a list of rules is painted last.
type painting struct{ parts []part }

// A part is the values from first to the next part's.
type part struct {
	first uint64
	to    label
}

// ground returns a painting of one colour. It lies in a's buffer: one at a time.
func (a *assembler) ground(to label) painting {
	return painting{append(a.parts[:0], part{0, to})}
}

func (p *painting) paint(t *test, to label) {
	for _, v := range t.yes[:t.n] {
		p.cover(v, to)
	}
}

// cover lets the values of v lead to l.
func (p *painting) cover(v interval, to label) {
	i := p.cut(v.first)
	j := len(p.parts)
	if v.last != all64 {
		j = p.cut(v.last + 1)
	}
	p.parts[i].to = to
	p.parts = slices.Delete(p.parts, i+1, j)
}

// cut lets a part begin at value and returns its index.
func (p *painting) cut(value uint64) int {
	i, found := slices.BinarySearchFunc(p.parts, value, func(x part, v uint64) int {
		return cmp.Compare(x.first, v)
	})
	if !found {
		p.parts = slices.Insert(p.parts, i, part{value, p.parts[i-1].to})
	}
	return i
}

// below returns the painting's parts that begin at a value up to limit, as spans.
func (a *assembler) below(limit uint64) []span {
	a.outer = a.outer[:0]
	for _, x := range a.parts {
		if x.first <= limit {
			a.outer = append(a.outer, span{uint32(x.first), 1, x.to})
		}
	}
	return a.outer
}

// highSpans returns where each upper half of the painted values leads to: where a
// whole range of lower halves has one end, there, else to a search of the lower half
// at offset low.
func (a *assembler) highSpans(low uint32) []span {
	a.outer = a.outer[:0]
	for i, j := 0, 0; i < len(a.parts); i = j {
		high := a.parts[i].first >> 32
		for j = i + 1; j < len(a.parts) && a.parts[j].first>>32 == high; {
			j++
		}
		if j == i+1 && uint32(a.parts[i].first) == 0 {
			a.outer = append(a.outer, span{uint32(high), 1, a.parts[i].to})
			continue
		}
		a.outer = append(a.outer, span{uint32(high), 1, a.load(low, a.tree(a.lowSpans(i, j)))})
		if high < low32 && (j == len(a.parts) || a.parts[j].first>>32 > high+1) {
			a.outer = append(a.outer, span{uint32(high + 1), 1, a.parts[j-1].to})
		}
	}
	return a.outer
}

// lowSpans returns where each lower half leads to within the one upper half that
// the painting's parts i to j begin in.
func (a *assembler) lowSpans(i, j int) []span {
	a.inner = a.inner[:0]
	if uint32(a.parts[i].first) != 0 {
		a.inner = append(a.inner, span{0, 1, a.parts[i-1].to})
	}
	for _, x := range a.parts[i:j] {
		a.inner = append(a.inner, span{uint32(x.first), 1, x.to})
	}
	return a.inner
}
