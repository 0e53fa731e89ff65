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
	intervals := func(list ...int) Set {
		s := ports(list...)
		s.Interval = true
		for i := 1; i < len(list); i += 2 {
			s.Elements[i].End = true
		}
		return s
	}
	other := ports(8080)
	other.Name = "other"
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
		{"in one of several", intervals(1, 1000, 8080, 8081, 9000, 9001), lookup(false), true, ""},
		{"between several", intervals(1, 1000, 8000, 8080, 8081, 9001), lookup(false), false, ""},
		{"at the ends of a range", Set{}, between(cmpEq, 8080, 8080), true, ""},
		{"below a range", Set{}, between(cmpEq, 8081, 9000), false, ""},
		{"above a range", Set{}, between(cmpEq, 1, 8079), false, ""},
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
		drops := Walk([]Table{{Family: "ip", Name: "t", Sets: []Set{other, c.set}, Chains: []Chain{{Name: "c", Hook: "forward", Rules: []Rule{r}}}}}, p)
		if got := len(drops) == 1 && drops[0].Sure; got != c.drops || len(drops) > 1 {
			t.Errorf("%s: %+v", c.name, drops)
		}
		if got := r.Text("ip"); c.text != "" && got != c.text {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// TestFields: of a packet is known what its question says, and what is made of that by a mask; a rule about anything else may be about it.
func TestFields(t *testing.T) {
	four := Packet{Hook: "forward", Proto: "tcp", Src: addr("198.51.100.7"), Dst: addr("172.20.0.2"), Port: 8080}
	six := Packet{Hook: "forward", Proto: "udp", Src: addr("2001:db8::7"), Dst: addr("fd00::2"), Port: 8080, Reply: true}
	load := func(base, offset, n uint32) Expr {
		return Expr{Name: "payload", Base: base, Offset: offset, Len: n, Dest: 4}
	}
	port, ttl := load(baseTransport, 2, 2), load(baseNetwork, 8, 1)
	for _, c := range []struct {
		name   string
		packet Packet
		loads  []Expr
		op     uint32
		data   []byte
		want   answer
	}{
		{"less", four, []Expr{port}, cmpLT, []byte{31, 145}, yes}, {"not less", four, []Expr{port}, cmpLT, []byte{31, 144}, no},
		{"at most", four, []Expr{port}, cmpLTE, []byte{31, 144}, yes}, {"more than at most", four, []Expr{port}, cmpLTE, []byte{31, 143}, no},
		{"greater", four, []Expr{port}, cmpGT, []byte{31, 143}, yes}, {"not greater", four, []Expr{port}, cmpGT, []byte{31, 144}, no},
		{"at least", four, []Expr{port}, cmpGTE, []byte{31, 144}, yes}, {"less than at least", four, []Expr{port}, cmpGTE, []byte{31, 145}, no},
		{"IPv4 from", four, []Expr{load(baseNetwork, 12, 4)}, cmpEq, four.Src.AsSlice(), yes}, {"IPv4 to", four, []Expr{load(baseNetwork, 16, 4)}, cmpEq, four.Dst.AsSlice(), yes},
		{"IPv6 from", six, []Expr{load(baseNetwork, 8, 16)}, cmpEq, six.Src.AsSlice(), yes}, {"IPv6 to", six, []Expr{load(baseNetwork, 24, 16)}, cmpNeq, six.Dst.AsSlice(), no},
		{"IPv4's protocol", four, []Expr{load(baseNetwork, 9, 1)}, cmpEq, []byte{6}, yes}, {"IPv6's", six, []Expr{load(baseNetwork, 6, 1)}, cmpEq, []byte{17}, yes},
		{"another family's place of it", six, []Expr{load(baseNetwork, 5, 1)}, cmpEq, []byte{17}, maybe},
		{"time to live", four, []Expr{ttl}, cmpLT, []byte{2}, maybe},
		{"a mask of what is not known", four, []Expr{ttl, {Name: "bitwise", Source: 4, Dest: 4, Len: 1, Data: []byte{0}}}, cmpEq, []byte{0}, yes},
		{"a mask", four, []Expr{port, {Name: "bitwise", Source: 4, Dest: 4, Len: 2, Data: []byte{255, 240}, Data2: []byte{1, 0}}}, cmpEq, []byte{30, 144}, yes},
		{"a shift", four, []Expr{port, {Name: "bitwise", Source: 4, Dest: 4, Len: 2}}, cmpEq, []byte{0, 0}, maybe},
		{"what comes first", four, []Expr{{Name: "ct", Key: ctDirection, Dest: 4}}, cmpEq, []byte{0}, yes},
		{"what answers", six, []Expr{{Name: "ct", Key: ctDirection, Dest: 4}}, cmpEq, []byte{1}, yes},
		{"a limit", four, []Expr{port, {Name: "limit"}}, cmpEq, []byte{31, 144}, maybe},
	} {
		r := Rule{Exprs: append(c.loads, Expr{Name: "cmp", Op: c.op, Source: 4, Data: c.data}, verdictDrop)}
		drops := Walk([]Table{{Family: "inet", Chains: []Chain{{Hook: "forward", Rules: []Rule{r}}}}}, c.packet)
		got := no
		if len(drops) > 0 {
			got = maybe
			if drops[0].Sure {
				got = yes
			}
		}
		if got != c.want {
			t.Errorf("%s: %d, want %d: %+v", c.name, got, c.want, drops)
		}
	}
}
