package dns

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kakuri/kakuri/netip"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// A testGate lets web, nobody and *.example.org be asked for; of others' servers the latter. Addresses of 10.0.0.0/8 it does not open.
type testGate struct {
	mu      sync.Mutex
	opened  []string
	least   time.Duration
	refused []string
}

func (*testGate) Allows(name string) (ask, far bool) {
	far = strings.HasSuffix(name, ".example.org")
	return far || name == "web" || name == "nobody", far
}

func (g *testGate) Open(ns int, name string, addrs []netip.Addr, ours bool, least time.Duration) ([]netip.Addr, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return netip.MustParsePrefix("10.0.0.0/8").Contains(a) })
	for _, a := range addrs {
		g.opened = append(g.opened, name+" "+a.String())
	}
	if g.least = least; name == "broken.example.org" {
		return nil, unix.EIO
	}
	return addrs, nil
}

func (g *testGate) Refuse(name string) {
	g.mu.Lock()
	g.refused = append(g.refused, name)
	g.mu.Unlock()
}
func (*testGate) Mark() uint32 { return 7 }

func TestGate(t *testing.T) {
	p := newPlace(t)
	g := &testGate{}
	p.names.mu.Lock()
	p.names.gate = g
	p.names.mu.Unlock()
	answers := func(q dnsmessage.Message, tcp bool) [][]byte {
		name := q.Questions[0].Name
		record := func(owner string, ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Resource {
			return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(owner), Class: dnsmessage.ClassINET, TTL: ttl}, Body: body}
		}
		a := func(b ...byte) *dnsmessage.AResource { return &dnsmessage.AResource{A: [4]byte(b)} }
		var list []dnsmessage.Resource
		switch name.String() {
		case "cname.example.org.":
			list = []dnsmessage.Resource{
				record("Other.Example.net.", 50, a(192, 0, 2, 7)), record("cname.example.org.", 3, &dnsmessage.NSResource{NS: dnsmessage.MustNewName("unrelated.example.net.")}), record("cname.example.org.", 40, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("other.example.NET.")}),
				record("unrelated.example.net.", 3, a(192, 0, 2, 8)), record("other.example.net.", 3, a(192, 0, 2, 8)),
			}
			list[4].Header.Class = dnsmessage.ClassCHAOS
		case "loop.example.org.":
			list = []dnsmessage.Resource{record("loop.example.org.", 40, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("loop.example.org.")})}
		case "rebind.example.org.":
			list = []dnsmessage.Resource{record("rebind.example.org.", 0, a(10, 0, 0, 1)), record("rebind.example.org.", 0, a(192, 0, 2, 9))}
		case "private.example.org.":
			list = []dnsmessage.Resource{record("private.example.org.", 0, a(10, 0, 0, 1))}
		case "many.example.org.":
			if !tcp {
				return [][]byte{says(q, 0, 0, func(m *dnsmessage.Message) { m.Truncated = true })}
			}
			for i := range 3000 {
				list = append(list, record("many.example.org.", 1<<31, a(192, 1, byte(i>>8), byte(i))))
			}
		case "absent.example.org.":
			return [][]byte{says(q, 0, 0, code2(dnsmessage.RCodeNameError))}
		case "mail.example.org.":
			list = []dnsmessage.Resource{record("mail.example.org.", 9, &dnsmessage.MXResource{MX: dnsmessage.MustNewName("mx.example.org.")})}
		default:
			list = []dnsmessage.Resource{record(name.String(), 100000, a(192, 0, 2, 1))}
		}
		return [][]byte{says(q, 0, 0, func(m *dnsmessage.Message) {
			m.Answers = list
			m.Additionals = []dnsmessage.Resource{record("gift.example.net.", 5, a(6, 6, 6, 6))}
		})}
	}
	f := newFake(t, p, false, answers)
	inside := newFake(t, p, true, answers)
	p.names.ask(f.Server)
	for _, c := range []struct {
		name  string
		kind  dnsmessage.Type
		code  dnsmessage.RCode
		want  string // addresses
		ttl   uint32
		asked int32 // others
	}{
		{"web.", dnsmessage.TypeA, 0, "172.30.0.2", 0, 0},
		{"web.", dnsmessage.TypeTXT, 0, "", 0, 0},
		{"svc.", dnsmessage.TypeA, dnsmessage.RCodeNameError, "", 0, 0},
		{"nobody.", dnsmessage.TypeA, dnsmessage.RCodeNameError, "", 0, 0}, // of the networks, or of none
		{"evil.net.", dnsmessage.TypeA, dnsmessage.RCodeNameError, "", 0, 0},
		{"evil.net.", dnsmessage.TypeTXT, dnsmessage.RCodeNameError, "", 0, 0},
		{"1.2.0.192.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeNameError, "", 0, 0},
		{"2.0.30.172.in-addr.arpa.", dnsmessage.TypePTR, 0, "web.my-net.", 0, 0},
		{"77.0.30.172.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeNameError, "", 0, 0}, // whose name may not be asked for
		{".", dnsmessage.TypeNS, dnsmessage.RCodeNameError, "", 0, 0},
		{"a/b.example.org.", dnsmessage.TypeA, dnsmessage.RCodeNameError, "", 0, 0}, // a byte that no name of a host has
		{"a.example.org.", dnsmessage.TypeA, 0, "192.0.2.1", 86400, 1},
		{"a.example.org.", 65, 0, "", 0, 0},
		{"a.example.org.", dnsmessage.TypeALL, 0, "", 0, 0},
		{"a.example.org.", 4711, 0, "", 0, 0},
		{"cname.example.org.", dnsmessage.TypeA, 0, "192.0.2.7", 40, 1},
		{"loop.example.org.", dnsmessage.TypeA, 0, "", 0, 1},
		{"rebind.example.org.", dnsmessage.TypeA, 0, "192.0.2.9", 0, 1},
		{"private.example.org.", dnsmessage.TypeA, 0, "", 0, 1},
		{"absent.example.org.", dnsmessage.TypeA, dnsmessage.RCodeNameError, "", 0, 1},
		{"mail.example.org.", dnsmessage.TypeMX, 0, "mx.example.org.", 9, 1},
		{"broken.example.org.", dnsmessage.TypeA, dnsmessage.RCodeServerFailure, "", 0, 1},
	} {
		before := f.asked.Load()
		m := p.exchange("udp", asked(t, c.name, c.kind, 1232))
		var got []string
		ttl := uint32(0)
		for _, a := range m.Answers {
			ttl = a.Header.TTL
			switch b := a.Body.(type) {
			case *dnsmessage.AResource:
				got = append(got, netip.AddrFrom4(b.A).String())
			case *dnsmessage.PTRResource:
				got = append(got, b.PTR.String())
			case *dnsmessage.MXResource:
				got = append(got, b.MX.String())
			}
			if a.Header.Name.String() != c.name {
				t.Errorf("%s: an answer about %s", c.name, a.Header.Name)
			}
		}
		if m.RCode != c.code || strings.Join(got, " ") != c.want || ttl != c.ttl || f.asked.Load()-before != c.asked {
			t.Errorf("%s %v: code %v, %v for %d s, others were asked %d times; want %+v", c.name, c.kind, m.RCode, got, ttl, f.asked.Load()-before, c)
		}
		if len(m.Authorities) > 0 || len(m.Additionals) > 1 || len(m.Additionals) == 1 && m.Additionals[0].Header.Type != dnsmessage.TypeOPT {
			t.Errorf("%s: more than was asked for: %s", c.name, m.GoString())
		}
	}
	if m := p.exchange("tcp", asked(t, "many.example.org.", dnsmessage.TypeA, 1232)); len(m.Answers) != maxOpened || g.least != longest {
		t.Errorf("%d of 3000 addresses, open for %v", len(m.Answers), g.least)
	}
	if p.exchange("udp", asked(t, "rebind.example.org.", dnsmessage.TypeA, 1232)); g.least != shortest {
		t.Errorf("an address that may be kept for no time is open for %v", g.least)
	}
	p.names.mu.Lock()
	p.names.names["pool.example.org"] = []netip.Addr{netip.MustParseAddr("192.0.2.20"), netip.MustParseAddr("192.0.2.21")}
	p.names.mu.Unlock()
	pool := asked(t, "pool.example.org.", dnsmessage.TypeA, 1232)
	if a, b := p.exchange("udp", pool), p.exchange("udp", pool); len(a.Answers) != 2 || len(b.Answers) != 2 || a.Answers[0].Body.GoString() != b.Answers[1].Body.GoString() {
		t.Errorf("two addresses do not take turns: %s, %s", a.GoString(), b.GoString())
	}
	// What goes out has nothing in it that the client could choose but the name's letters.
	p.exchange("udp", asked(t, "MiXeD.eXaMpLe.OrG.", dnsmessage.TypeA, 4000, func(m *dnsmessage.Message) {
		m.AuthenticData, m.CheckingDisabled, m.RecursionDesired, m.Questions[0].Class = true, true, false, dnsmessage.ClassANY
	}))
	out := f.last.Load()
	if out.Questions[0].Name.String() != "mixed.example.org." || out.Questions[0].Class != dnsmessage.ClassINET || out.AuthenticData || out.CheckingDisabled || !out.RecursionDesired || len(out.Additionals) != 1 || out.Additionals[0].Header.DNSSECAllowed() {
		t.Errorf("asked as %s", out.GoString())
	}
	for _, name := range []string{"svc", "evil.net", "1.2.0.192.in-addr.arpa", ""} {
		if !slices.Contains(g.refused, name) {
			t.Errorf("nobody is told that %q was refused: %q", name, g.refused)
		}
	}
	for _, o := range g.opened {
		if strings.Contains(o, "6.6.6.6") || strings.Contains(o, "192.0.2.8") || strings.Contains(o, " 10.") {
			t.Errorf("opened: %s", o)
		}
	}
	if !slices.Contains(g.opened, "cname.example.org 192.0.2.7") || !slices.Contains(g.opened, "web 172.30.0.2") {
		t.Errorf("opened: %v", g.opened)
	}
	if mark := f.mark.Load(); mark != 0 {
		t.Errorf("packets in the host's namespace, whose rules are others', have the mark %d", mark)
	}
	// A server that is asked from within the container, whose rules let nothing else through that has not the mark.
	p.names.ask(inside.Server)
	if m := p.exchange("udp", asked(t, "b.example.org.", dnsmessage.TypeA, 0)); len(m.Answers) != 1 || inside.mark.Load() != g.Mark() {
		t.Errorf("a server inside, by the mark %d: %s", inside.mark.Load(), m.GoString())
	}
	p.names.ask(Server{Addr: netip.MustParseAddr("127.0.0.1"), Port: 1, Host: true})
	if m := p.exchange("udp", asked(t, "c.example.org.", dnsmessage.TypeA, 0)); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("nobody answers: %s", m.GoString())
	}
}

// TestNameAt: a label with a dot in it is not two labels.
func TestNameAt(t *testing.T) {
	label := strings.Repeat("a", maxLabel)
	for wire, want := range map[string]string{"\x03WeB\x03org\x00": "web.org", "?" + label + "\x00": label, "\x00": "", "\x07web.org\x00": "none", "\x03we": "none", "\xc0": "none", "\x03web\xc0\x0c": "none"} {
		msg := append(make([]byte, headerSize), wire...)
		got, ok := nameAt(msg, headerSize)
		if !ok {
			got += "none"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", wire, got, want)
		}
	}
}

// FuzzAddresses reads addresses from whatever a server says.
func FuzzAddresses(f *testing.F) {
	q, _, _ := parse(asked(f, "example.org.", dnsmessage.TypeA, 1232), false)
	msg := append(header(nil, 7, flagResponse, 1, 2, 0), q.raw...)
	msg = append(msg, 0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, 'a', 0xc0, 12, 1, 'a', 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4)
	f.Add(msg)
	// An address of the other family's length is none.
	f.Add(append(append(append(header(nil, 7, flagResponse, 1, 1, 0), q.raw...), 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 16), make([]byte, 16)...))
	f.Fuzz(func(t *testing.T, msg []byte) {
		got, ok := q.fit(msg, 7)
		if !ok || len(got) < headerSize+len(q.raw) {
			return
		}
		cut := withoutExtra(slices.Clone(got), len(q.raw))
		if _, ok := q.walk(cut); !ok {
			t.Fatal("what is left is no message")
		}
		addrs, _ := q.addresses(got)
		for _, a := range addrs {
			if !a.Is4() {
				t.Fatalf("%v", a)
			}
		}
	})
}
