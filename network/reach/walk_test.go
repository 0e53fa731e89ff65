package reach

import (
	"net/netip"
	"testing"
)

// TestSetsAndRanges: a rule that names sets, ranges, or what is not in them, stops the packets that it is about, and the text says which.
func TestSetsAndRanges(t *testing.T) {
	p := Packet{Hook: "forward", Proto: "tcp", Src: netip.MustParseAddr("198.51.100.7"), Dst: netip.MustParseAddr("172.20.0.2"), Port: 8080}
	port := func(n int) []byte { return []byte{byte(n >> 8), byte(n)} }
	load := Expr{Name: "payload", Base: baseTransport, Offset: 2, Len: 2, Dest: 4}
	ports := func(list ...int) (s Set) {
		for _, n := range list {
			s.Elements = append(s.Elements, Element{Key: port(n)})
		}
		return s
	}
	lookup := func(invert bool) []Expr { return []Expr{load, {Name: "lookup", Source: 4, Set: "s", Invert: invert}} }
	between := func(op uint32, from, to int) []Expr {
		return []Expr{load, {Name: "range", Op: op, Source: 4, Data: port(from), Data2: port(to)}}
	}
	// ip daddr . tcp dport, whose fields are padded to four bytes.
	pair := []Expr{{Name: "payload", Base: baseNetwork, Offset: 16, Len: 4, Dest: 4}, {Name: "payload", Base: baseTransport, Offset: 2, Len: 2, Dest: 5}, {Name: "lookup", Source: 4, Set: "s"}}
	place := func(last byte, from, to int) Set {
		key := func(last byte, n int) []byte { return append([]byte{172, 20, 0, last}, byte(n>>8), byte(n), 0, 0) }
		return Set{Elements: []Element{{Key: key(0, from), KeyEnd: key(last, to)}}}
	}
	interval := ports(8000, 9000)
	interval.Interval, interval.Elements[1].End = true, true
	for _, c := range []struct {
		name  string
		set   Set
		exprs []Expr
		drops bool
		text  string
	}{
		{"in a set", ports(443, 8080), lookup(false), true, "th dport @s drop"},
		{"not in a set", ports(80, 443), lookup(false), false, "th dport @s drop"},
		{"in one that is excepted", ports(443, 8080), lookup(true), false, "th dport != @s drop"},
		{"not in one that is excepted", ports(80, 443), lookup(true), true, "th dport != @s drop"},
		{"in an interval", interval, lookup(false), true, "th dport @s drop"},
		{"in an excepted interval", interval, lookup(true), false, "th dport != @s drop"},
		{"in a range", Set{}, between(cmpEq, 8000, 9000), true, "th dport 8000-9000 drop"},
		{"not in a range", Set{}, between(cmpEq, 1, 1000), false, "th dport 1-1000 drop"},
		{"in one that is excepted", Set{}, between(cmpNeq, 8000, 9000), false, "th dport != 8000-9000 drop"},
		{"not in one that is excepted", Set{}, between(cmpNeq, 1, 1000), true, "th dport != 1-1000 drop"},
		{"in ranges of two fields", place(9, 8000, 9000), pair, true, ""},
		{"in the first field's alone", place(9, 1, 1000), pair, false, ""},
		{"in the second field's alone", place(1, 8000, 9000), pair, false, ""},
	} {
		c.set.Name = "s"
		r := Rule{Handle: 1, Exprs: append(c.exprs, verdictDrop)}
		drops := Walk([]Table{{Family: "ip", Name: "t", Sets: []Set{c.set}, Chains: []Chain{{Name: "c", Hook: "forward", Rules: []Rule{r}}}}}, p)
		if got := len(drops) == 1 && drops[0].Sure; got != c.drops || len(drops) > 1 {
			t.Errorf("%s: %+v", c.name, drops)
		}
		if got := r.Text("ip"); c.text != "" && got != c.text {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}
