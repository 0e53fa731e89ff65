package dns

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/netip"
	"golang.org/x/net/dns/dnsmessage"
)

// asked is a client's message, made by another library.
func asked(t testing.TB, name string, kind dnsmessage.Type, edns int, change ...func(*dnsmessage.Message)) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 0x1234, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	if edns > 0 {
		h := dnsmessage.ResourceHeader{}
		if err := h.SetEDNS0(edns, 0, true); err != nil {
			t.Fatal(err)
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 65001, Data: []byte("what is this")}}}}}
	}
	for _, f := range change {
		f(&m)
	}
	msg, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// unpack reads an answer by another library.
func unpack(t testing.TB, msg []byte) dnsmessage.Message {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(msg); err != nil {
		t.Fatalf("an answer that is no message: %v: %x", err, msg)
	}
	return m
}

func TestParse(t *testing.T) {
	q, code, err := parse(asked(t, "Web.My-Net.", dnsmessage.TypeA, 4096), false)
	if err != nil || code != success || q.name != "web.my-net" || !q.plain || !q.edns || !q.do || q.size != 4096 || q.kind != typeA || q.id != 0x1234 {
		t.Errorf("%+v, code %d, %v", q, code, err)
	}
	q, code, err = parse(asked(t, "web.", dnsmessage.TypeA, 4096), true)
	if err != nil || code != success || q.size != maxSize {
		t.Errorf("by TCP: %+v, code %d, %v", q, code, err)
	}
	q, _, _ = parse(asked(t, ".", dnsmessage.TypeNS, 0), false)
	if q.name != "" || q.size != plainSize || q.edns {
		t.Errorf("the root: %+v", q)
	}
	good := asked(t, "web.", dnsmessage.TypeA, 1232)
	edit := func(at int, b ...byte) []byte {
		m := bytes.Clone(good)
		copy(m[at:], b)
		return m
	}
	label := strings.Repeat("a", 63)
	long := binary.BigEndian.AppendUint16(header(nil, 1, 0, 1, 0, 0)[:headerSize], 0)[:headerSize]
	for range 4 { // 256 bytes and the end
		long = append(append(long, 63), label...)
	}
	long = append(long, 0, 0, 1, 0, 1)
	// web, with an OPT record of such data.
	opt := func(data ...byte) []byte {
		m := append(header(nil, 1, 0, 1, 0, 1), 3, 'w', 'e', 'b', 0, 0, 1, 0, 1)
		m = append(m, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, byte(len(data)))
		return append(m, data...)
	}
	three := label + "." + label + "." + label + "."
	for _, c := range []struct {
		what string
		msg  []byte
		code int // -1 is silence
	}{
		{"nothing", nil, -1},
		{"part of a header", good[:11], -1},
		{"an answer", edit(2, 0x80), -1},
		{"an update", edit(2, 5<<3), notDone},
		{"no question", edit(4, 0, 0), formatError},
		{"two questions", edit(4, 0, 2), formatError},
		{"65535 questions", edit(4, 0xff, 0xff), formatError},
		{"an answer record", edit(6, 0, 1), formatError},
		{"an authority record", edit(8, 0, 1), formatError},
		{"more records than there are", edit(10, 0xff, 0xff), formatError},
		{"a pointer to itself", edit(12, 0xc0, 12), formatError},
		{"a pointer to the header", edit(12, 0xc0, 0), formatError},
		{"a label of 64", edit(12, 64), formatError},
		{"a label past the end", edit(12, 63), formatError},
		{"cut off in the name", good[:14], formatError},
		{"cut off in the class", good[:20], formatError},
		{"cut off in the options", good[:len(good)-1], formatError},
		{"a name of 257 bytes", long, formatError},
		{"another class", asked(t, "version.bind.", dnsmessage.TypeTXT, 0, func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }), refused},
		{"a transfer", asked(t, "web.", 252, 0), refused},
		{"what is before TKEY", asked(t, "web.", typeTKEY-1, 0), success},
		{"TKEY", asked(t, "web.", typeTKEY, 0), refused},
		{"the last kind of transfer", asked(t, "web.", typeTXFR, 0), refused},
		{"what is after it", asked(t, "web.", typeTXFR+1, 0), success},
		{"a label of 63", asked(t, label+".", dnsmessage.TypeA, 0), success},
		{"a name of 255 bytes", asked(t, three+label[:61]+".", dnsmessage.TypeA, 0), success},
		{"a name of 256 bytes", append(append(append(append(bytes.Clone(long[:headerSize+3*64]), 62), label[:62]...), 0), 0, 1, 0, 1), formatError},
		{"cut off in the head of a record", opt()[:len(opt())-1], formatError},
		{"no options", opt(), success},
		{"an option of nothing", opt(0, 10, 0, 0), success},
		{"half the head of an option", opt(0, 10, 0), formatError},
		{"an option that is longer than its record", opt(0, 10, 0, 1), formatError},
		{"a record of another kind", asked(t, "web.", dnsmessage.TypeA, 0, func(m *dnsmessage.Message) {
			m.Additionals = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("a."), Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{}}}
		}), success},
		{"two OPT records", asked(t, "web.", dnsmessage.TypeA, 1232, func(m *dnsmessage.Message) { m.Additionals = append(m.Additionals, m.Additionals[0]) }), formatError},
		{"an OPT record with a name", asked(t, "web.", dnsmessage.TypeA, 1232, func(m *dnsmessage.Message) { m.Additionals[0].Header.Name = dnsmessage.MustNewName("a.") }), formatError},
		{"EDNS of a later version", asked(t, "web.", dnsmessage.TypeA, 1232, func(m *dnsmessage.Message) { m.Additionals[0].Header.TTL |= 1 << 16 }), badVersion},
	} {
		q, code, err := parse(c.msg, false)
		if err != nil {
			code = -1
		}
		if code != c.code {
			t.Errorf("%s: code %d, want %d", c.what, code, c.code)
		}
		if code > 0 {
			m := unpack(t, q.begin(code, 0).end())
			if got := int(m.RCode); got != code&maskCode || !m.Response {
				t.Errorf("%s: the answer says %d", c.what, got)
			}
		}
	}
}

func TestNamesOfContainersOnly(t *testing.T) {
	for _, name := range []string{"a/b.", "a\\b.", "a b.", "\x00.", "\x7f."} {
		q, code, err := parse(asked(t, name, dnsmessage.TypeA, 0), false)
		if err != nil || code != success || q.plain {
			t.Errorf("%q: plain %v, code %d, %v", name, q.plain, code, err)
		}
	}
	// A dot within a label is not one between two of them.
	msg := append(header(nil, 1, 0, 1, 0, 0), 2, '.', '.', 0, 0, 1, 0, 1)
	if q, code, err := parse(msg, false); err != nil || code != success || q.plain {
		t.Errorf("a label of dots: plain %v, code %d, %v", q.plain, code, err)
	}
}

func TestZone(t *testing.T) {
	for _, c := range []struct {
		name string
		want string
		more bool
	}{
		{"4.3.2.1.in-addr.arpa", "1.2.3.4/32", false},
		{"2.1.in-addr.arpa", "1.2.0.0/16", false},
		{"x.4.3.2.1.in-addr.arpa", "1.2.3.4/32", true},
		{"b._dns-sd._udp.0.2.1.in-addr.arpa", "1.2.0.0/24", true},
		{"0-127.3.2.1.in-addr.arpa", "1.2.3.0/24", true},
		{"04.3.2.1.in-addr.arpa", "1.2.3.0/24", true},
		{"256.1.in-addr.arpa", "1.0.0.0/8", true},
		{strings.Repeat("0.", 30) + "d.f.ip6.arpa", "fd00::/128", false},
		{"1.d.f.ip6.arpa", "fd10::/12", false},
		{"10.d.f.ip6.arpa", "fd00::/8", true},
		{"in-addr.arpa", "", false},
		{"x.in-addr.arpa", "", false},
		{"web", "", false},
	} {
		p, more, ok := zone(c.name)
		got := ""
		if ok {
			got = p.String()
		}
		if got != c.want || ok && more != c.more {
			t.Errorf("%s: %s, more %v", c.name, got, more)
		}
	}
}

// TestManyMembers asks for more addresses than an answer can have.
func TestManyMembers(t *testing.T) {
	var addrs []netip.Addr
	for i := range 200 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	for _, c := range []struct{ edns, most int }{{0, 512}, {1232, 1232}, {300, 512}, {65535, 65535}} {
		q, _, _ := parse(asked(t, "many.", dnsmessage.TypeA, c.edns), false)
		r := (&Resolver{names: fixed{"many": addrs}}).known(&q)
		msg := r.end()
		m := unpack(t, msg)
		if len(msg) > c.most || m.Truncated != (len(m.Answers) < 200) || len(msg) < c.most-16 && m.Truncated || len(m.Additionals) != min(c.edns, 1) {
			t.Errorf("EDNS %d: %d bytes, %d answers, truncated %v, %d additional", c.edns, len(msg), len(m.Answers), m.Truncated, len(m.Additionals))
		}
	}
}

// fixed is Names that do not change, and no others.
type fixed map[string][]netip.Addr

func (f fixed) Lookup(name string) ([]netip.Addr, bool)       { a, ok := f[name]; return a, ok }
func (f fixed) Reverse(netip.Prefix) (name string, ours bool) { return "", false }
func (f fixed) Servers(string, bool) ([]Server, bool)         { return nil, true }
func (f fixed) Gate() Gate                                    { return nil }

// TestFit gives answers of a server, good and bad ones.
func TestFit(t *testing.T) {
	q, _, _ := parse(asked(t, "Example.ORG.", dnsmessage.TypeA, 1232), false)
	answer := func(change ...func(*dnsmessage.Message)) []byte {
		m := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: 77, Response: true},
			Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("example.org."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
			Answers: []dnsmessage.Resource{
				{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("example.org."), Class: dnsmessage.ClassINET, TTL: 60}, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("www.example.org.")}},
				{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("www.example.org."), Class: dnsmessage.ClassINET, TTL: 60}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}},
			},
		}
		for _, f := range change {
			f(&m)
		}
		msg, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	got, ok := q.fit(append(answer(), "behind the end"...), 77)
	if !ok || !bytes.Equal(got, answer()) {
		t.Fatalf("a good answer: %v %x", ok, got)
	}
	m := unpack(t, q.give(got))
	if m.ID != 0x1234 || m.Questions[0].Name.String() != "Example.ORG." || len(m.Answers) != 2 {
		t.Errorf("given on: %+v", m)
	}
	first := headerSize + len(q.raw) // of the records: a pointer, which is two bytes
	edit := func(at int, b ...byte) []byte {
		m := answer()
		copy(m[at:], b)
		return m
	}
	for what, msg := range map[string][]byte{
		"nothing":                     nil,
		"another id":                  edit(0, 1, 1),
		"a question":                  edit(2, 0),
		"another opcode":              edit(2, 0x80|4<<3),
		"another name":                edit(14, 'z'),
		"another type":                edit(first-3, 2),
		"another class":               edit(first-1, 3),
		"no question":                 edit(4, 0, 0),
		"more answers than there are": edit(6, 0, 3),
		"many answers":                edit(6, 0xff, 0xff),
		"a pointer to itself":         edit(first, 0xc0, byte(first)),
		"a pointer forward":           edit(first, 0xc0, byte(first+2)),
		"a pointer to the header":     edit(first, 0xc0, 2),
		"a label of another kind":     edit(first, 0x80),
		"data past the end":           edit(first+10, 0xff, 0xff),
		"cut off":                     answer()[:len(answer())-1],
		"two OPT records": answer(func(m *dnsmessage.Message) {
			o := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("."), Class: 1232}, Body: &dnsmessage.OPTResource{}}
			m.Additionals = []dnsmessage.Resource{o, o}
		}),
	} {
		if _, ok := q.fit(msg, 77); ok {
			t.Errorf("%s is taken for an answer", what)
		}
	}
	// One that was cut off somewhere says so, and no more.
	cut := edit(2, 0x82)
	if got, ok := q.fit(cut[:len(cut)-3], 77); !ok || len(unpack(t, got).Answers) != 0 || !truncated(got) {
		t.Errorf("a truncated answer: %v", ok)
	}
	// An old server's that knows no EDNS.
	if got, ok := q.fit(header(nil, 77, flagResponse|formatError, 0, 0, 0), 77); !ok || unpack(t, got).RCode != dnsmessage.RCodeFormatError {
		t.Errorf("a header that says format error: %v", ok)
	}
	// One that is longer than what the client takes.
	long, ok := q.fit(answer(func(m *dnsmessage.Message) {
		for range 200 {
			m.Answers = append(m.Answers, m.Answers[1])
		}
	}), 77)
	if !ok {
		t.Fatal("a long answer is none")
	}
	if m := unpack(t, q.give(long)); !m.Truncated || len(m.Answers) != 0 || m.ID != 0x1234 {
		t.Errorf("a long answer: %+v", m.Header)
	}
}

// TestLoops has names go back and back again: each of them ends.
func TestLoops(t *testing.T) {
	msg := header(nil, 1, flagResponse, 0, 0, 0)
	for range 8000 { // each points to the one before it
		to := len(msg) - 2
		if to < headerSize {
			msg = append(msg, 0, 0)
			continue
		}
		msg = append(msg, 0xc0|byte(to>>8), byte(to))
	}
	if _, ok := skipName(msg, len(msg)-2); !ok {
		t.Error("a chain of pointers that ends is refused")
	}
	msg = append(header(nil, 1, 0, 0, 0, 0), 1, 'a', 0xc0, headerSize)
	if _, ok := skipName(msg, headerSize); ok {
		t.Error("a name that contains itself is one")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(asked(f, "web.my-net.", dnsmessage.TypeA, 1232), false)
	f.Add(asked(f, "4.3.2.1.in-addr.arpa.", dnsmessage.TypePTR, 0), true)
	addr := netip.AddrFrom4([4]byte{10, 0, 0, 1})
	s := &Resolver{names: fixed{"web": {addr}, "web.my-net": {addr, addr}}}
	f.Fuzz(func(t *testing.T, msg []byte, tcp bool) {
		before := bytes.Clone(msg)
		q, answer, far := s.local(msg, nil, tcp)
		if !bytes.Equal(before, msg) {
			t.Fatal("the message was changed")
		}
		if far {
			answer = q.ask(nil, 7)
		}
		if answer == nil {
			return
		}
		if len(answer) > q.size {
			t.Fatalf("%d bytes for one who takes %d", len(answer), q.size)
		}
		if q.plain || len(q.raw) == 0 { // what the other library reads of others differs
			m := unpack(t, answer)
			if m.Response == far || !far && m.ID != q.id {
				t.Fatalf("%+v", m.Header)
			}
		}
	})
}

func FuzzAnswer(f *testing.F) {
	q, _, _ := parse(asked(f, "example.org.", dnsmessage.TypeA, 1232), false)
	f.Add(append(header(nil, 7, flagResponse, 1, 1, 0), slices.Concat(q.raw, []byte{0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4})...))
	f.Fuzz(func(t *testing.T, msg []byte) {
		got, ok := q.fit(msg, 7)
		if !ok {
			return
		}
		given := q.give(got)
		if len(given) > q.size || binary.BigEndian.Uint16(given) != q.id {
			t.Fatalf("%d bytes, id %x", len(given), given[:2])
		}
		var p dnsmessage.Parser
		if _, err := p.Start(given); err != nil {
			t.Fatal(err)
		}
		if list, err := p.AllQuestions(); err != nil || len(list) != 1 || list[0].Name.String() != "example.org." {
			t.Fatalf("%v %v", list, err)
		}
		for range 3 {
			for {
				if err := p.SkipAnswer(); err != nil {
					break
				}
			}
		}
	})
}
