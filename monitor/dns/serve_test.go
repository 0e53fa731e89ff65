package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/thread"
	"github.com/kakuri/kakuri/netip"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m, nstest.Options{})) }

// A place is the network namespace of a container, as far as its resolver is concerned.
type place struct {
	t     testing.TB
	inner int
	names *testNames
	r     *Resolver
}

// testNames are one network's, with the servers that a test wants.
type testNames struct {
	mu      sync.Mutex
	names   map[string][]netip.Addr
	servers []Server
	routes  map[string][]Server // of names that have others
	gate    Gate
}

func (n *testNames) Lookup(name string) ([]netip.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.names[name]
	return slices.Clone(a), ok
}

func (n *testNames) Reverse(p netip.Prefix) (string, bool) {
	subnet := netip.MustParsePrefix("172.30.0.0/16")
	if p.Bits() < subnet.Bits() || !subnet.Contains(p.Addr()) {
		return "", false
	}
	if p.IsSingleIP() && p.Addr() == netip.MustParseAddr("172.30.0.2") {
		return "web.my-net", true
	}
	if p.IsSingleIP() && p.Addr() == netip.MustParseAddr("172.30.0.77") {
		return "hidden.my-net", true
	}
	return "", true
}

func (n *testNames) Servers(name string, address bool) ([]Server, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s, ok := n.routes[name]; ok {
		return s, true
	}
	return n.servers, name != "single" || !address
}

func (n *testNames) Gate() Gate { n.mu.Lock(); defer n.mu.Unlock(); return n.gate }

func (n *testNames) ask(list ...Server) { n.mu.Lock(); defer n.mu.Unlock(); n.servers = list }

// newPlace makes a namespace with a resolver in it.
func newPlace(t testing.TB) *place {
	nstest.Root(t)
	nstest.NoLeaks(t)
	nstest.Loopback(t)
	p := &place{t: t, inner: -1, names: &testNames{names: map[string][]netip.Addr{
		"web":        {netip.MustParseAddr("172.30.0.2"), netip.MustParseAddr("fd00::2")},
		"web.my-net": {netip.MustParseAddr("172.30.0.2")},
		"svc":        {netip.MustParseAddr("172.30.0.3"), netip.MustParseAddr("172.30.0.4"), netip.MustParseAddr("172.30.0.5")},
	}}}
	var err error
	<-thread.Aside(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			p.inner, err = open(hostNamespace)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p.inner) })
	s, err := Listen(fmt.Sprintf("/proc/self/fd/%d", p.inner), 0)
	if err != nil {
		t.Fatal(err)
	}
	if p.r, err = Serve(s, p.names); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.r.Close() })
	// A launch makes the sockets beside the container's side, which has the loopback device work at some time.
	if err := within(p.inner, p.r.outer, func() error { nstest.Loopback(t); return nil }); err != nil {
		t.Fatal(err)
	}
	return p
}

// dial connects to the resolver from within the namespace.
func (p *place) dial(network string) net.Conn {
	p.t.Helper()
	outer, err := open(hostNamespace)
	if err != nil {
		p.t.Fatal(err)
	}
	defer unix.Close(outer)
	var c net.Conn
	if err := within(p.inner, outer, func() (err error) {
		c, err = (&net.Dialer{}).Dial(network, fmt.Sprintf("127.0.0.11:%d", p.r.sockets.Port))
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// exchange asks one question.
func (p *place) exchange(network string, msg []byte) dnsmessage.Message {
	p.t.Helper()
	c := p.dial(network)
	defer c.Close()
	if network == "tcp" {
		if _, err := c.Write(framed(msg)); err != nil {
			p.t.Fatal(err)
		}
		return unpack(p.t, frame(p.t, c))
	}
	if _, err := c.Write(msg); err != nil {
		p.t.Fatal(err)
	}
	buf := make([]byte, 65536)
	n, err := c.Read(buf)
	if err != nil {
		p.t.Fatal(err)
	}
	return unpack(p.t, buf[:n])
}

func frame(t testing.TB, r io.Reader) []byte {
	t.Helper()
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		t.Fatal(err)
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(r, msg); err != nil {
		t.Fatal(err)
	}
	return msg
}

// A fake is a server of others' names.
type fake struct {
	Server
	asked atomic.Int32 // by UDP
	tcp   atomic.Int32
	last  atomic.Pointer[dnsmessage.Message]
	mark  atomic.Uint32 // of the last packet
	from  sync.Map      // ports that it was asked from
	ids   sync.Map
}

// newFake starts one in the test's namespace, or inside p. reply makes the packets that answer a message.
func newFake(t testing.TB, p *place, inside bool, reply func(q dnsmessage.Message, tcp bool) [][]byte) *fake {
	t.Helper()
	var udp net.PacketConn
	var tcp net.Listener
	outer, err := open(hostNamespace)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(outer)
	in := outer
	if inside {
		in = p.inner
	}
	if err := within(in, outer, func() (err error) {
		if udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return err
		}
		tcp, err = net.Listen("tcp", udp.LocalAddr().String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	raw, err := udp.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	const rcvMark = 75 // SO_RCVMARK, since Linux 5.19
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, rcvMark, 1) })
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{Server: Server{Addr: netip.MustParseAddr("127.0.0.1"), Port: uint16(udp.LocalAddr().(*net.UDPAddr).Port), Host: !inside}}
	var all sync.WaitGroup
	t.Cleanup(func() { udp.Close(); tcp.Close(); all.Wait() })
	all.Go(func() {
		buf, beside := make([]byte, 65536), make([]byte, 64)
		for {
			n, nb, _, from, err := udp.(*net.UDPConn).ReadMsgUDP(buf, beside)
			if err != nil {
				return
			}
			f.mark.Store(markOf(beside[:nb]))
			var m dnsmessage.Message
			if err := m.Unpack(buf[:n]); err != nil {
				t.Errorf("a server got no message: %v", err)
				continue
			}
			f.asked.Add(1)
			f.last.Store(&m)
			f.from.Store(from.Port, true)
			f.ids.Store(m.ID, true)
			for _, r := range reply(m, false) {
				udp.WriteTo(r, from)
			}
		}
	})
	all.Go(func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(time.Minute))
				var size [2]byte
				if _, err := io.ReadFull(c, size[:]); err != nil {
					return
				}
				msg := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(c, msg); err != nil {
					return
				}
				var m dnsmessage.Message
				if err := m.Unpack(msg); err != nil {
					t.Errorf("a server got no message: %v", err)
				}
				f.tcp.Add(1)
				f.last.Store(&m)
				for _, r := range reply(m, true) {
					c.Write(framed(r))
				}
			})
		}
	})
	return f
}

// markOf reads a packet's mark from what came beside it.
func markOf(beside []byte) uint32 {
	list, _ := unix.ParseSocketControlMessage(beside)
	for _, m := range list {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_MARK {
			return binary.NativeEndian.Uint32(m.Data)
		}
	}
	return 0
}

// says makes an answer with so many addresses, of which the last byte is given.
func says(q dnsmessage.Message, count int, last byte, change ...func(*dnsmessage.Message)) []byte {
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionDesired: q.RecursionDesired, RecursionAvailable: true}, Questions: q.Questions}
	for i := range count {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.AResource{A: [4]byte{192, 0, byte(i), last}},
		})
	}
	for _, f := range change {
		f(&m)
	}
	msg, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return msg
}

func code2(r dnsmessage.RCode) func(*dnsmessage.Message) {
	return func(m *dnsmessage.Message) { m.RCode = r }
}

// one answers each question with an address.
func one(last byte) func(dnsmessage.Message, bool) [][]byte {
	return func(q dnsmessage.Message, _ bool) [][]byte { return [][]byte{says(q, 1, last)} }
}

func TestOwnNames(t *testing.T) {
	p := newPlace(t)
	f := newFake(t, p, false, one(1))
	p.names.ask(f.Server)
	for _, network := range []string{"udp", "tcp"} {
		for _, c := range []struct {
			name    string
			kind    dnsmessage.Type
			code    dnsmessage.RCode
			answers int
		}{
			{"web.", dnsmessage.TypeA, 0, 1},
			{"WEB.", dnsmessage.TypeA, 0, 1},
			{"web.", dnsmessage.TypeAAAA, 0, 1},
			{"web.", dnsmessage.TypeALL, 0, 2},
			{"web.", dnsmessage.TypeMX, 0, 0},
			{"web.", dnsmessage.TypeTXT, 0, 0},
			{"web.", 65, 0, 0}, // HTTPS
			{"web.my-net.", dnsmessage.TypeA, 0, 1},
			{"web.my-net.", dnsmessage.TypeAAAA, 0, 0},
			{"svc.", dnsmessage.TypeA, 0, 3},
			{"2.0.30.172.in-addr.arpa.", dnsmessage.TypePTR, 0, 1},
			{"2.0.30.172.in-addr.arpa.", dnsmessage.TypeALL, 0, 1},
			{"2.0.30.172.in-addr.arpa.", dnsmessage.TypeA, 0, 0},
			{"3.0.30.172.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeNameError, 0},
			{"x.2.0.30.172.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeNameError, 0},
			{"lb._dns-sd._udp.0.0.30.172.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeNameError, 0},
			{"30.172.in-addr.arpa.", dnsmessage.TypeSOA, 0, 0},
		} {
			m := p.exchange(network, asked(t, c.name, c.kind, 1232))
			if m.RCode != c.code || len(m.Answers) != c.answers || m.ID != 0x1234 || !m.Response || !m.RecursionAvailable || !m.RecursionDesired || len(m.Additionals) != 1 || m.Questions[0].Name.String() != c.name {
				t.Errorf("%s %s %v: %v", network, c.name, c.kind, m.GoString())
			}
			for _, a := range m.Answers {
				if a.Header.TTL != 0 || a.Header.Name.String() != c.name {
					t.Errorf("%s %s: %v", network, c.name, a.Header.GoString())
				}
				if ptr, ok := a.Body.(*dnsmessage.PTRResource); ok && ptr.PTR.String() != "web.my-net." {
					t.Errorf("the name is %s", ptr.PTR)
				}
			}
		}
	}
	if n := f.asked.Load() + f.tcp.Load(); n != 0 {
		t.Errorf("%d of the networks' own questions went to others", n)
	}
	// Each member comes first once in a while.
	first := map[string]bool{}
	for range 200 {
		first[p.exchange("udp", asked(t, "svc.", dnsmessage.TypeA, 0)).Answers[0].Body.GoString()] = true
	}
	if len(first) != 3 {
		t.Errorf("the first of three is always one of %v", first)
	}
}

func TestForward(t *testing.T) {
	p := newPlace(t)
	host, inside := newFake(t, p, false, one(1)), newFake(t, p, true, one(2))
	for _, f := range []*fake{host, inside} {
		p.names.ask(f.Server)
		for _, network := range []string{"udp", "tcp"} {
			want := byte(1)
			if f == inside {
				want = 2
			}
			m := p.exchange(network, asked(t, "Example.org.", dnsmessage.TypeA, 4096))
			if len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.AResource).A[3] != want || m.ID != 0x1234 || m.Questions[0].Name.String() != "Example.org." {
				t.Errorf("%s: %s", network, m.GoString())
			}
			got := f.last.Load()
			if got.Questions[0].Name.String() != "Example.org." || len(got.Additionals) != 1 || got.Additionals[0].Header.Class != safeSize || !got.Additionals[0].Header.DNSSECAllowed() {
				t.Errorf("%s: asked as %s", network, got.GoString())
			}
			if o := got.Additionals[0].Body.(*dnsmessage.OPTResource); len(o.Options) != 0 {
				t.Errorf("%s: options of the client's went on: %v", network, o.Options)
			}
		}
	}
	if n := host.asked.Load() + inside.asked.Load(); n != 2 {
		t.Errorf("%d questions by UDP, of 2", n)
	}
	// Nobody to ask; the resolver itself is nobody.
	for _, list := range [][]Server{nil, {{Addr: Address()}}, {{}}} {
		p.names.ask(list...)
		if m := p.exchange("udp", asked(t, "example.org.", dnsmessage.TypeA, 0)); m.RCode != dnsmessage.RCodeServerFailure {
			t.Errorf("with %v: %s", list, m.GoString())
		}
	}
}

// TestServersOfNames: which servers are asked depends on the name, with a gate as well, and what is asked of nobody is told to be no name.
func TestServersOfNames(t *testing.T) {
	p := newPlace(t)
	lan, vpn := newFake(t, p, false, one(1)), newFake(t, p, false, one(2))
	p.names.ask(lan.Server)
	p.names.mu.Lock()
	p.names.routes = map[string][]Server{"git.corp.example.org": {vpn.Server}}
	p.names.mu.Unlock()
	for _, gate := range []Gate{nil, &testGate{}} {
		p.names.mu.Lock()
		p.names.gate = gate
		p.names.mu.Unlock()
		for name, want := range map[string]byte{"Git.Corp.example.org.": 2, "www.example.org.": 1} {
			for _, network := range []string{"udp", "tcp"} {
				if m := p.exchange(network, asked(t, name, dnsmessage.TypeA, 0)); len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.AResource).A[3] != want {
					t.Errorf("%s, gate %v: %s", name, gate, m.GoString())
				}
			}
		}
	}
	p.names.mu.Lock()
	p.names.gate = nil
	p.names.mu.Unlock()
	before := lan.asked.Load()
	if m := p.exchange("udp", asked(t, "single.", dnsmessage.TypeA, 0)); m.RCode != dnsmessage.RCodeNameError || lan.asked.Load() != before {
		t.Errorf("asked of nobody: %s", m.GoString())
	}
	if m := p.exchange("udp", asked(t, "single.", dnsmessage.TypeNS, 0)); m.RCode != 0 || lan.asked.Load() != before+1 {
		t.Errorf("of another kind: %s", m.GoString())
	}
}

// TestNotItself: a server at the resolver's own address is one of the host's, or the resolver itself.
func TestNotItself(t *testing.T) {
	r := &Resolver{names: &testNames{servers: []Server{{Addr: Address()}, {Addr: Address(), Host: true}, {Addr: netip.MustParseAddr("::ffff:127.0.0.11")}}}}
	if list := r.order(r.names.(*testNames).servers); len(list) != 1 || !list[0].Host || list[0].Port != 53 {
		t.Errorf("%+v", list)
	}
}

// TestGuessing has a server's answers come with others before them that are not to the question.
func TestGuessing(t *testing.T) {
	p := newPlace(t)
	f := newFake(t, p, false, func(q dnsmessage.Message, _ bool) [][]byte {
		if q.Questions[0].Name.String() == "flood.org." {
			return append(slices.Repeat([][]byte{[]byte("no message at all")}, maxStrange), says(q, 1, 1))
		}
		other := q
		other.Questions = []dnsmessage.Question{{Name: dnsmessage.MustNewName("other.org."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}
		return [][]byte{
			{}, []byte("no message at all"), says(other, 1, 66),
			says(q, 1, 66, func(m *dnsmessage.Message) { m.ID++ }),
			says(q, 1, 66, func(m *dnsmessage.Message) { m.Response = false }),
			says(q, 1, 1),
		}
	})
	p.names.ask(f.Server)
	for range 50 {
		m := p.exchange("udp", asked(t, "example.org.", dnsmessage.TypeA, 0))
		if len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.AResource).A[3] != 1 {
			t.Fatalf("got %s", m.GoString())
		}
	}
	if m := p.exchange("udp", asked(t, "flood.org.", dnsmessage.TypeA, 0)); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("who guesses on and on: %s", m.GoString())
	}
	// From ports, and under ids, that nobody can know: of 50, hardly two are the same.
	for what, m := range map[string]*sync.Map{"ports": &f.from, "ids": &f.ids} {
		n := 0
		m.Range(func(any, any) bool { n++; return true })
		if n < 40 {
			t.Errorf("%d different %s of 50 questions", n, what)
		}
	}
}

// TestNoQuestion: what is no question has no answer, not even an empty one, and a name that no container can have is others', whatever the networks have.
func TestNoQuestion(t *testing.T) {
	p := newPlace(t)
	f := newFake(t, p, false, one(1))
	p.names.ask(f.Server)
	c := p.dial("udp")
	defer c.Close()
	for _, msg := range [][]byte{[]byte("no"), asked(t, "web.", dnsmessage.TypeA, 0)} {
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 512)
	if n, err := c.Read(buf); err != nil || n == 0 {
		t.Errorf("the first answer has %d bytes, %v", n, err)
	}
	p.names.mu.Lock()
	p.names.names["a/b"] = p.names.names["web"]
	p.names.mu.Unlock()
	p.exchange("udp", asked(t, "a/b.", dnsmessage.TypeA, 0))
	if n := f.asked.Load(); n != 1 {
		t.Errorf("others were asked %d times", n)
	}
}

// TestOrder: three servers at most are asked, this resolver is none of them, and the one that answered of late is the first, in front of all the others.
func TestOrder(t *testing.T) {
	at := func(last byte) Server { return Server{Addr: netip.AddrFrom4([4]byte{192, 0, 2, last}), Port: 53} }
	itself, hosts := Server{Addr: Address(), Port: 53}, Server{Addr: Address(), Port: 53, Host: true}
	six := at(1)
	six.Addr = netip.MustParseAddr("::ffff:192.0.2.1")
	six.Port = 0
	for _, c := range []struct {
		list []Server
		good Server
		past bool
		want []Server
	}{
		{list: []Server{at(1), at(2), at(3), at(4)}, want: []Server{at(1), at(2), at(3)}},
		{list: []Server{{}, itself, six, hosts}, want: []Server{at(1), hosts}},
		{list: []Server{at(1), at(2), at(3)}, good: at(3), want: []Server{at(3), at(1), at(2)}},
		{list: []Server{at(1), at(2), at(3)}, good: at(2), want: []Server{at(2), at(1), at(3)}},
		{list: []Server{at(1), at(2)}, good: at(9), want: []Server{at(1), at(2)}},
		{list: []Server{at(1), at(2)}, good: at(2), past: true, want: []Server{at(1), at(2)}},
	} {
		r := &Resolver{names: &testNames{servers: c.list}, good: c.good, goodFor: time.Now().Add(time.Hour)}
		if c.past {
			r.goodFor = time.Now().Add(-time.Hour)
		}
		if got := r.order(r.names.(*testNames).servers); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestSeveralServers(t *testing.T) {
	p := newPlace(t)
	silent := newFake(t, p, false, func(dnsmessage.Message, bool) [][]byte { return nil })
	broken := newFake(t, p, false, func(q dnsmessage.Message, _ bool) [][]byte {
		return [][]byte{says(q, 0, 0, code2(dnsmessage.RCodeServerFailure))}
	})
	good := newFake(t, p, false, one(1))
	nobody := Server{Addr: netip.MustParseAddr("127.0.0.1"), Port: 1, Host: true}
	forget := func() { p.r.mu.Lock(); p.r.goodFor = time.Time{}; p.r.mu.Unlock() }
	for i, list := range [][]Server{{nobody, good.Server}, {broken.Server, good.Server}, {silent.Server, good.Server}} {
		forget()
		p.names.ask(list...)
		if m := p.exchange("udp", asked(t, "example.org.", dnsmessage.TypeA, 0)); len(m.Answers) != 1 {
			t.Errorf("%d: %s", i, m.GoString())
		}
	}
	// Who was silent is not asked first again.
	n := silent.asked.Load()
	if n != 1 {
		t.Errorf("the silent server was asked %d times", n)
	}
	p.exchange("udp", asked(t, "example.org.", dnsmessage.TypeA, 0))
	if silent.asked.Load() != n {
		t.Error("a server that is silent holds each question up")
	}
	p.names.ask(broken.Server, nobody)
	if m := p.exchange("udp", asked(t, "example.org.", dnsmessage.TypeA, 0)); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("all broken: %s", m.GoString())
	}
	none := newFake(t, p, false, func(q dnsmessage.Message, _ bool) [][]byte {
		return [][]byte{says(q, 0, 0, code2(dnsmessage.RCodeNameError))}
	})
	forget()
	p.names.ask(none.Server, good.Server)
	if m := p.exchange("udp", asked(t, "example.org.", dnsmessage.TypeA, 0)); m.RCode != dnsmessage.RCodeNameError {
		t.Errorf("no such name: %s", m.GoString())
	}
}

// TestLongAnswers has a server with more to say than a packet has room for.
func TestLongAnswers(t *testing.T) {
	p := newPlace(t)
	f := newFake(t, p, false, func(q dnsmessage.Message, tcp bool) [][]byte {
		if tcp {
			return [][]byte{says(q, 200, 1)} // 3.2 kB
		}
		return [][]byte{says(q, 3, 1, func(m *dnsmessage.Message) { m.Truncated = true })}
	})
	p.names.ask(f.Server)
	for _, c := range []struct {
		network       string
		edns, answers int
		truncated     bool
	}{
		{"udp", 0, 3, true}, {"udp", 1232, 3, true}, // it asks again by TCP; who cannot has some
		{"udp", 2000, 0, true}, {"udp", 4096, 200, false},
		{"tcp", 0, 200, false}, {"tcp", 1232, 200, false},
	} {
		m := p.exchange(c.network, asked(t, "example.org.", dnsmessage.TypeA, c.edns))
		if len(m.Answers) != c.answers || m.Truncated != c.truncated {
			t.Errorf("%s, EDNS %d: %d answers, truncated %v", c.network, c.edns, len(m.Answers), m.Truncated)
		}
	}
	// Go's own resolver goes the whole way.
	r := &net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (net.Conn, error) { return p.dial(network[:3]), nil }}
	list, err := r.LookupNetIP(context.Background(), "ip4", "example.org.")
	if err != nil || len(list) != 200 {
		t.Errorf("Go's resolver: %d addresses, %v", len(list), err)
	}
	if names, err := r.LookupAddr(context.Background(), "172.30.0.2"); err != nil || len(names) != 1 || names[0] != "web.my-net." {
		t.Errorf("Go's resolver: %v, %v", names, err)
	}
	if _, err := r.LookupAddr(context.Background(), "172.30.0.9"); err == nil {
		t.Error("Go's resolver: an address that nobody has has a name")
	}
	// A server that knows no TCP.
	udp := newFake(t, p, false, one(1))
	p.names.ask(Server{Addr: udp.Addr, Port: udp.Port, Host: true})
	if m := p.exchange("tcp", asked(t, "example.org.", dnsmessage.TypeA, 0)); len(m.Answers) != 1 {
		t.Errorf("by TCP: %s", m.GoString())
	}
}

// TestPipeline asks several questions at once by one connection: what is slow does not hold up the rest.
func TestPipeline(t *testing.T) {
	p := newPlace(t)
	go1 := make(chan struct{})
	f := newFake(t, p, false, func(q dnsmessage.Message, _ bool) [][]byte { <-go1; return [][]byte{says(q, 1, 1)} })
	p.names.ask(f.Server)
	c := p.dial("tcp")
	defer c.Close()
	var all []byte
	all = append(all, framed(asked(t, "slow.org.", dnsmessage.TypeA, 0, func(m *dnsmessage.Message) { m.ID = 1 }))...)
	all = append(all, framed(asked(t, "web.", dnsmessage.TypeA, 0, func(m *dnsmessage.Message) { m.ID = 2 }))...)
	for _, b := range all { // byte by byte
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if m := unpack(t, frame(t, c)); m.ID != 2 {
		t.Errorf("first came %d", m.ID)
	}
	close(go1)
	if m := unpack(t, frame(t, c)); m.ID != 1 || len(m.Answers) != 1 {
		t.Errorf("then came %s", m.GoString())
	}
	// Half closed, it still gets what it asked for.
	c.Write(framed(asked(t, "example.org.", dnsmessage.TypeA, 0)))
	c.(*net.TCPConn).CloseWrite()
	if m := unpack(t, frame(t, c)); len(m.Answers) != 1 {
		t.Errorf("half closed: %s", m.GoString())
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("then %d, %v", n, err)
	}
	// What is too long, or no question, ends the connection.
	for what, msg := range map[string][]byte{"too long": {0xff, 0xff, 1}, "an answer": framed(header(nil, 1, flagResponse, 0, 0, 0))} {
		c := p.dial("tcp")
		c.Write(msg)
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %d, %v", what, n, err)
		}
		c.Close()
	}
}

// TestFlood asks more than is done at once.
func TestFlood(t *testing.T) {
	p := newPlace(t)
	silent := newFake(t, p, false, func(dnsmessage.Message, bool) [][]byte { return nil })
	p.names.ask(silent.Server)
	c := p.dial("udp")
	defer c.Close()
	for i := range maxForwards + 20 {
		if _, err := c.Write(asked(t, "example.org.", dnsmessage.TypeA, 0, func(m *dnsmessage.Message) { m.ID = uint16(i) })); err != nil {
			t.Fatal(err)
		}
	}
	// What goes beyond is told so at once, names of the network are answered meanwhile.
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if m := unpack(t, buf[:n]); m.RCode != dnsmessage.RCodeServerFailure || int(m.ID) < maxForwards {
		t.Errorf("%s", m.GoString())
	}
	if m := p.exchange("udp", asked(t, "web.", dnsmessage.TypeA, 0)); len(m.Answers) != 1 {
		t.Errorf("%s", m.GoString())
	}
	// More connections than there can be: the last ones are served.
	var conns []net.Conn
	for range maxConns + 10 {
		conns = append(conns, p.dial("tcp"))
	}
	last := conns[len(conns)-1]
	last.Write(framed(asked(t, "web.", dnsmessage.TypeA, 0)))
	if m := unpack(t, frame(t, last)); len(m.Answers) != 1 {
		t.Errorf("%s", m.GoString())
	}
	p.r.mu.Lock()
	if n := len(p.r.conns); n > maxConns {
		t.Errorf("%d connections at once", n)
	}
	p.r.mu.Unlock()
	for i, c := range conns { // the oldest had to go, and no other
		if i < 10 {
			if n, err := c.Read(buf); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("connection %d: %d, %v", i, n, err)
			}
		} else {
			c.Write(framed(asked(t, "web.", dnsmessage.TypeA, 0)))
			if m := unpack(t, frame(t, c)); len(m.Answers) != 1 {
				t.Errorf("connection %d: %s", i, m.GoString())
			}
		}
		c.Close()
	}
}

// TestPause leaves the sockets to another resolver.
func TestPause(t *testing.T) {
	p := newPlace(t)
	tcp := p.dial("tcp")
	tcp.Write(framed(asked(t, "web.", dnsmessage.TypeA, 0)))
	frame(t, tcp)
	if p.r.Pause() {
		t.Error("with a connection it could be left")
	}
	p.r.Resume()
	tcp.Close()
	nstest.Until(t, "no connection", func() bool { return p.r.busy.Load() == 0 })
	if !p.r.Pause() {
		t.Fatal("it cannot be left")
	}
	c := p.dial("udp")
	defer c.Close()
	if _, err := c.Write(asked(t, "web.", dnsmessage.TypeA, 0)); err != nil {
		t.Fatal(err)
	}
	var left Sockets
	for i, fd := range p.r.Sockets().FDs() {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		*[]*int{&left.Inner, &left.UDP, &left.TCP}[i] = n
	}
	left.Port = p.r.Sockets().Port
	p.r.Close()
	var err error
	if p.r, err = Serve(left, p.names); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 512)
	if n, err := c.Read(buf); err != nil || len(unpack(t, buf[:n]).Answers) != 1 {
		t.Errorf("what was asked meanwhile: %v", err)
	}
}

// TestClose ends a resolver while others are asked.
func TestClose(t *testing.T) {
	p := newPlace(t)
	silent := newFake(t, p, true, func(dnsmessage.Message, bool) [][]byte { return nil })
	p.names.ask(silent.Server)
	c, d := p.dial("udp"), p.dial("tcp")
	defer c.Close()
	defer d.Close()
	c.Write(asked(t, "example.org.", dnsmessage.TypeA, 0))
	d.Write(framed(asked(t, "example.org.", dnsmessage.TypeA, 0)))
	nstest.Until(t, "both are on their way", func() bool { return silent.asked.Load() > 0 && silent.tcp.Load() > 0 })
	p.r.Close()
	s, err := Listen(fmt.Sprintf("/proc/self/fd/%d", p.inner), 0)
	if err != nil {
		t.Fatal(err)
	}
	if p.r, err = Serve(s, p.names); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkOwnName(b *testing.B) {
	p := newPlace(b)
	c := p.dial("udp")
	defer c.Close()
	msg, buf := asked(b, "web.", dnsmessage.TypeA, 1232), make([]byte, 512)
	for b.Loop() {
		c.Write(msg)
		if _, err := c.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
