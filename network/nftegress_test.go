package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

func egress(t testing.TB, entries ...string) plan.Egress {
	t.Helper()
	e, err := plan.ParseEgress(entries)
	if err != nil {
		t.Fatal(err)
	}
	return *e
}

// limit puts rules into the place a1, and gives their table.
func (s *stage) limit(e plan.Egress) *Egress {
	s.t.Helper()
	ns, err := os.Open("/run/netns/a1")
	if err != nil {
		s.t.Fatal(err)
	}
	defer ns.Close()
	if err := LimitEgress(int(ns.Fd()), e); err != nil {
		s.t.Fatal(err)
	}
	table, err := OpenEgress(int(ns.Fd()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(table.Close)
	return table
}

// send has a place send to an address, and tells how that ends, within a moment: "" for what is answered or on its way.
func (s *stage) send(place, proto, to string, port int, options ...func(fd int) error) string {
	s.t.Helper()
	a := netip.MustParseAddr(to)
	family, kind, number := unix.AF_INET, unix.SOCK_DGRAM, 0
	var address unix.Sockaddr
	if a.Is6() {
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: a.As16(), ZoneId: s.zone(place, a)}
	} else {
		address = &unix.SockaddrInet4{Port: port, Addr: a.As4()}
	}
	data := []byte("hello")
	switch proto {
	case "tcp":
		kind = unix.SOCK_STREAM
	case "icmp":
		number, data = unix.IPPROTO_ICMP, append([]byte{8, 0, 0, 0, 0, 0, 0, 1}, "hello"...)
		if a.Is6() {
			number, data[0] = unix.IPPROTO_ICMPV6, 128
		}
	case "raw":
		kind, number = unix.SOCK_RAW, unix.IPPROTO_UDP
		data = append([]byte{0, 99, byte(port >> 8), byte(port), 0, 13, 0, 0}, "hello"...)
		if a.Is6() {
			address.(*unix.SockaddrInet6).Port = 0
		}
	case "raw89":
		kind, number = unix.SOCK_RAW, 89
	}
	var failed error
	err := s.in(place, func() error {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, number)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, o := range options {
			if err := o(fd); err != nil {
				return err
			}
		}
		tv := unix.Timeval{Sec: 10}
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
		if kind == unix.SOCK_STREAM {
			for failed = unix.EINTR; failed == unix.EINTR; {
				failed = unix.Connect(fd, address)
			}
			return nil
		}
		failed = unix.Sendto(fd, data, 0, address)
		return nil
	})
	if err != nil {
		s.t.Fatalf("%s to %s: %v", proto, to, err)
	}
	var errno syscall.Errno
	if errors.As(failed, &errno) {
		return unix.ErrnoName(errno)
	}
	return ""
}

// zone is the device of a link-local address.
func (s *stage) zone(place string, a netip.Addr) (index uint32) {
	if !a.IsLinkLocalUnicast() && !a.IsMulticast() {
		return 0
	}
	var n int
	fmt.Sscan(s.shell("ip -n "+place+" -o link show eth0"), &n)
	return uint32(n)
}

// listen has a place take connections of TCP at a port of all addresses until the test ends.
func (s *stage) listen(place string, port int) {
	s.t.Helper()
	err := s.in(place, func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrInet6{Port: port})
		}
		if err == nil {
			err = unix.Listen(fd, 100)
		}
		s.t.Cleanup(func() { unix.Close(fd) })
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

const refusedUDP = "EPERM"

// TestEgress asks for each class of what is let through and refused, from inside.
func TestEgress(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA, bridgeB)
		s.listen("away", 80)
		s.listen("away", 443)
		s.listen("a2", 80)
		s.listen("a1", 8080)
		s.shell("for n in a1 a2 b1 away; do ip netns exec $n sysctl -qw net.ipv4.ping_group_range='0 2147483647'; done")
		e := egress(t, "example.org:443", "192.0.2.2:80", "[2001:db8:9::2]:80", "10.0.1.0/28:1000-2000/udp", "[2001:db8:1::12]", ":8443", "nobody.example")
		table := s.limit(e)
		for _, c := range []struct {
			proto, to string
			port      int
			want      string
		}{
			{"tcp", "192.0.2.2", 80, ""},
			{"tcp", "192.0.2.2", 443, "ECONNREFUSED"},
			{"tcp", "192.0.2.2", 8443, "ECONNREFUSED"}, // by the machine itself: nobody listens
			{"tcp", "2001:db8:9::2", 80, ""},
			{"tcp", "2001:db8:9::2", 443, "ECONNREFUSED"},
			{"udp", "192.0.2.2", 80, refusedUDP},
			{"udp", "2001:db8:9::2", 80, refusedUDP},
			{"icmp", "192.0.2.2", 0, refusedUDP},
			{"icmp", "2001:db8:9::2", 0, ""}, // that is not told
			{"icmp", "2001:db8:1::12", 0, ""},
			{"tcp", "2001:db8:1::12", 80, ""},
			{"udp", "2001:db8:1::12", 9999, ""},
			{"tcp", "10.0.1.12", 80, "ECONNREFUSED"}, // a neighbour
			{"udp", "10.0.1.12", 1000, ""},
			{"udp", "10.0.1.12", 2000, ""},
			{"udp", "10.0.1.12", 999, refusedUDP},
			{"udp", "10.0.1.12", 2001, refusedUDP},
			{"udp", "10.0.1.16", 1000, refusedUDP},
			{"tcp", "10.0.1.1", 80, "ECONNREFUSED"}, // this machine
			{"udp", "169.254.169.254", 8443, refusedUDP},
			{"tcp", "169.254.169.254", 8443, "ECONNREFUSED"},
			{"udp", "224.0.0.251", 5353, refusedUDP},
			{"udp", "255.255.255.255", 9, "EACCES"}, // the socket has not SO_BROADCAST
			{"udp", "ff02::fb", 5353, refusedUDP},
			{"udp", "ff02::1", 8443, refusedUDP},
			{"tcp", "fe80::1", 8443, "ECONNREFUSED"},
			{"udp", "fe80::1", 53, refusedUDP},
			{"udp", "192.0.2.2", 53, refusedUDP}, // another server for names
			{"raw", "192.0.2.2", 53, refusedUDP},
			{"raw", "2001:db8:9::2", 53, refusedUDP},
			{"raw89", "192.0.2.2", 0, refusedUDP},
			{"raw89", "2001:db8:9::2", 0, refusedUDP},
			{"udp", "127.0.0.1", 9, ""},
			{"udp", "::1", 9, ""},
		} {
			if got := s.send("a1", c.proto, c.to, c.port); got != c.want {
				t.Errorf("%s to %s port %d: %q, want %q", c.proto, c.to, c.port, got, c.want)
			}
		}
		// Who speaks to it is answered.
		if got := s.send("a2", "tcp", "10.0.1.11", 8080) + s.send("a2", "tcp", "2001:db8:1::11", 8080); got != "" {
			t.Errorf("a neighbour is not answered: %s", got)
		}
		if got := s.send("a2", "tcp", "10.0.1.11", 8081); got != "ECONNREFUSED" {
			t.Errorf("where nobody listens, a neighbour is told %q", got)
		}
		// What was refused is counted.
		list, all, err := table.Refused()
		if err != nil {
			t.Fatal(err)
		}
		count := map[string]uint64{}
		var sum uint64
		for _, r := range list {
			count[fmt.Sprintf("%s %s %d", r.Proto, r.Addr, r.Port)] = r.Count
			sum += r.Count
			if r.Age < 0 || r.Age > time.Minute {
				t.Errorf("%+v", r)
			}
		}
		for _, what := range []string{"tcp 192.0.2.2 443", "tcp 2001:db8:9::2 443", "icmp 192.0.2.2 0", "icmpv6 2001:db8:9::2 0", "udp 169.254.169.254 8443", "udp ff02::fb 5353", "89 192.0.2.2 0", "89 2001:db8:9::2 0"} {
			if count[what] == 0 {
				t.Errorf("%s is not counted: %v", what, count)
			}
		}
		if count["udp 192.0.2.2 53"] != 2 || count["tcp 192.0.2.2 80"] != 0 || sum != all {
			t.Errorf("counted %v: %d, and %d together", count, sum, all)
		}
		if fault, err := table.Check(e); fault != "" || err != nil {
			t.Errorf("%s, %v", fault, err)
		}
		if fault, _ := table.Check(egress(t, "example.org:443")); fault == "" {
			t.Error("others' rules are taken for these")
		}
		// nft(8) reads the table as it was meant.
		text := s.shell("ip netns exec a1 nft list table inet " + egressTable)
		for _, c := range egressChains(e) {
			for _, r := range c.rules {
				for _, term := range r.terms {
					if !strings.Contains(text, term.text) && !strings.Contains(term.text, ". 0 ") {
						t.Errorf("nft does not have %q", term.text)
					}
				}
			}
		}
		if strings.Count(text, "policy drop") != 2 || t.Failed() {
			t.Log(text)
		}
		if rest := s.shell("ip netns exec a1 nft flush ruleset; ip netns exec a1 nft list ruleset"); rest != "" {
			t.Errorf("left: %s", rest)
		}
		if fault, _ := table.Check(e); fault == "" {
			t.Error("rules that are gone are not missed")
		}
	})
}

// TestEgressInNftsWords: nft lists the rules in the words that they have here.
func TestEgressInNftsWords(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		e := egress(t, ":443", "192.0.2.0/24:80-90/udp", "[2001:db8::1]:53", "10.0.0.0/8/icmp", "example.org")
		s.limit(e)
		have := s.shell("ip netns exec a1 nft -s list table inet " + egressTable)
		for _, c := range egressChains(e) {
			for _, r := range c.rules {
				if !strings.Contains(have, "\t\t"+r.String()+"\n") {
					t.Errorf("nft does not have, of chain %s: %s", c.name, r)
				}
			}
		}
		for _, want := range []string{
			"type filter hook output priority filter; policy drop;", "type filter hook forward priority filter; policy drop;",
			"ip daddr != 169.254.0.0/16 ip daddr != 224.0.0.0/3", "ip6 daddr != fe80::/10 ip6 daddr != ff00::/8", "ip daddr 192.0.2.0/24 udp dport 80-90 accept",
			"ip6 daddr 2001:db8::1 tcp dport 53 accept", "ip daddr 10.0.0.0/8 icmp type echo-request accept", "icmpv6 type echo-request accept",
		} {
			if !strings.Contains(have, want) {
				t.Errorf("nft does not have %s", want)
			}
		}
		if t.Failed() {
			t.Log(have)
		}
	})
}

// TestEgressOptions has packets say in themselves where they go on to.
func TestEgressOptions(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		s.limit(egress(t, "192.0.2.2", "[2001:db8:9::2]"))
		if got := s.send("a1", "udp", "192.0.2.2", 9) + s.send("a1", "udp", "2001:db8:9::2", 9); got != "" {
			t.Fatalf("without options: %s", got)
		}
		loose := func(fd int) error { // a loose source route by 192.0.2.2
			return unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, string([]byte{1, 131, 7, 4, 192, 0, 2, 2}))
		}
		if got := s.send("a1", "udp", "10.0.2.11", 9, loose); got != refusedUDP {
			t.Errorf("a source route: %q", got)
		}
		routing := func(fd int) error { // RFC 8754, by 2001:db8:9::2
			h := append([]byte{0, 4, 4, 1, 1, 0, 0, 0}, make([]byte, 16)...)
			h = append(h, netip.MustParseAddr("2001:db8:9::2").AsSlice()...)
			return unix.SetsockoptString(fd, unix.IPPROTO_IPV6, unix.IPV6_RTHDR, string(h))
		}
		if got := s.send("a1", "udp", "2001:db8:2::11", 9, routing); got != refusedUDP {
			t.Errorf("a routing header: %q", got)
		}
	})
}

// TestEgressForgedSender: who sends to himself in the name of somebody he may not speak to, by an option of sockets that takes no capability, may not answer him either; nor somebody else in the name of one to whom he may speak.
func TestEgressForgedSender(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		s.limit(egress(t, "[2001:db8:1::12]"))
		const own, away, neighbour = "2001:db8:1::11", "2001:db8:9::2", "2001:db8:1::12"
		heard := s.socket("away", away, 9)
		for _, c := range [][2]string{{own, away}, {"::1", away}, {neighbour, away}} {
			as := func(address string, port int) (c *net.UDPConn) {
				err := s.in("a1", func() (err error) {
					free := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
						return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1) })
					}}
					l, err := free.ListenPacket(t.Context(), "udp6", net.JoinHostPort(address, strconv.Itoa(port)))
					if err == nil {
						c = l.(*net.UDPConn)
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			forger, answerer := as(c[1], 9), as(c[0], 5555)
			for _, f := range []struct {
				from     *net.UDPConn
				to, text string
				port     int
			}{{forger, c[0], "forged", 5555}, {answerer, c[1], "answer", 9}} {
				if _, err := f.from.WriteTo([]byte(f.text), &net.UDPAddr{IP: net.ParseIP(f.to), Port: f.port}); err == nil {
					t.Errorf("%s to %s is let pass", f.from.LocalAddr(), f.to)
				}
			}
			forger.Close()
			answerer.Close()
		}
		heard.SetDeadline(time.Now().Add(200 * time.Millisecond))
		b := make([]byte, 100)
		if n, from, err := heard.ReadFrom(b); err == nil {
			t.Errorf("%q from %s came", b[:n], from)
		}
		if got := s.send("a1", "udp", neighbour, 9999) + s.send("a1", "udp", own, 9999); got != "" {
			t.Errorf("what is let pass: %s", got)
		}
	})
}

// TestEgressNames opens what names lead to.
func TestEgressNames(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		s.listen("away", 443)
		e := egress(t, "example.org:443", "other.example@[2001:db8:9::/64]:443")
		table := s.limit(e)
		open := func(entry int, name string, least time.Duration, addrs ...string) {
			t.Helper()
			var list []netip.Addr
			for _, a := range addrs {
				list = append(list, netip.MustParseAddr(a))
			}
			if err := table.Open(entry, name, list, least); err != nil {
				t.Fatal(err)
			}
		}
		open(0, "example.org", time.Hour, "192.0.2.2", "192.0.2.3")
		open(1, "other.example", time.Hour, "2001:db8:9::2")
		open(0, "example.org", time.Hour, "192.0.2.2")
		if got := s.send("a1", "tcp", "192.0.2.2", 443) + s.send("a1", "tcp", "2001:db8:9::2", 443); got != "" {
			t.Errorf("what names lead to is refused: %s", got)
		}
		if got := s.send("a1", "tcp", "192.0.2.2", 80); got != "ECONNREFUSED" {
			t.Errorf("another port: %q", got)
		}
		// One that is asked for again is open for longer, also where it was for less.
		open(0, "example.org", 3*time.Hour, "192.0.2.2")
		open(0, "example.org", time.Minute, "192.0.2.2")
		list, err := table.Opened(e)
		if err != nil {
			t.Fatal(err)
		}
		left := map[string]time.Duration{}
		for _, o := range list {
			left[o.Name+" "+o.Addr.String()] = o.Left
		}
		if l := left["example.org 192.0.2.2"]; len(left) != 3 || l < 3*time.Hour || l > 4*time.Hour || left["other.example 2001:db8:9::2"] < time.Hour {
			t.Errorf("open: %v", left)
		}
		// Where there is no room, the oldest go.
		var many []netip.Addr
		a := netip.MustParseAddr("198.18.0.0")
		for range egressOpen + 100 {
			many, a = append(many, a), a.Next()
		}
		for i := 0; i < len(many); i += 64 {
			if err := table.Open(0, "many.example.org", many[i:min(i+64, len(many))], time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if list, err = table.Opened(e); err != nil || len(list) > egressOpen+1 || len(list) < egressOpen/2 {
			t.Errorf("%d are open, %v", len(list), err)
		}
		if err := table.Open(0, "example.org", many[len(many)-1:], time.Hour); err != nil {
			t.Error(err)
		}
	})
}

// TestEgressUnprivileged tries to take the rules away from a nested user namespace, as a program of the container can make one.
func TestEgressUnprivileged(t *testing.T) {
	onStage(t, false, func(s *stage) {
		table := s.limit(egress(t, "none"))
		out := s.shell(`ip netns exec a1 unshare -U -r sh -c '
			nft flush ruleset && echo flushed; nft delete table inet ` + egressTable + ` && echo deleted
			nft add rule inet ` + egressTable + ` output accept && echo added
			nft list ruleset | grep -q refused && echo read
			ip link add d0 type veth peer name d1 && echo device
			unshare -n nft add table inet ` + egressTable + ` && echo own' 2>/dev/null || true`)
		if strings.TrimSpace(out) != "own" {
			t.Errorf("a nested user namespace: %q", out)
		}
		if fault, err := table.Check(egress(t, "none")); fault != "" || err != nil {
			t.Errorf("%s, %v", fault, err)
		}
	})
}

func BenchmarkEgressOpen(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("must be root")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Fatal(err)
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		b.Fatal(err)
	}
	e := egress(b, "example.org:443")
	if err := LimitEgress(int(ns.Fd()), e); err != nil {
		b.Fatal(err)
	}
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")}
	for b.Loop() {
		t, err := OpenEgress(int(ns.Fd()))
		if err == nil {
			err = t.Open(0, "example.org", addrs, time.Hour)
		}
		if err != nil {
			b.Fatal(err)
		}
		t.Close()
	}
}

// TestEgressForgedServer: the container's server for names asks another by a socket in the container's namespace. A program there sees its port, and does not answer in the other's name.
func TestEgressForgedServer(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		s.limit(egress(t, "example.org:443"))
		const own, server = "2001:db8:1::11", "2001:db8:9::2"
		heard := s.socket("away", server, 53)
		inside := func(address string, port, level, option, value int) (c *net.UDPConn) {
			err := s.in("a1", func() error {
				with := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
					return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, value) }), err)
				}}
				l, err := with.ListenPacket(t.Context(), "udp6", net.JoinHostPort(address, strconv.Itoa(port)))
				if err == nil {
					c = l.(*net.UDPConn)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
		asks := inside(own, 5353, unix.SOL_SOCKET, unix.SO_MARK, EgressMark)
		forger := inside(server, 53, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
		s.say(asks, "question", server, 53)
		text, from := s.hear(heard)
		if text != "question" {
			t.Fatalf("the server heard %q", text)
		}
		if _, err := forger.WriteTo([]byte("forged"), &net.UDPAddr{IP: net.ParseIP(own), Port: 5353}); err == nil {
			t.Errorf("%s to %s is let pass", forger.LocalAddr(), asks.LocalAddr())
		}
		if _, err := heard.WriteTo([]byte("answer"), from); err != nil {
			t.Fatal(err)
		}
		if text, _ := s.hear(asks); text != "answer" {
			t.Errorf("who asked heard %q", text)
		}
	})
}

// TestEgressOwnServer: a server for names at an address of the container itself is a program of the container, which would say itself where the names of its list lead to.
func TestEgressOwnServer(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		s.limit(egress(t, "example.org:443"))
		s.listen("a1", 53)
		s.listen("away", 53)
		marked := func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, EgressMark) }
		for _, own := range []string{"127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.1.11", "::1", "::", "2001:db8:1::11"} {
			if got := s.send("a1", "udp", own, 53, marked) + " " + s.send("a1", "tcp", own, 53, marked); got != refusedUDP+" ECONNREFUSED" {
				t.Errorf("a question to %s: %s", own, got)
			}
			if got := s.send("a1", "tcp", own, 53); got != "" {
				t.Errorf("what a program says to %s: %s", own, got)
			}
		}
		for _, away := range []string{"192.0.2.2", "2001:db8:9::2"} {
			if got := s.send("a1", "udp", away, 53, marked) + s.send("a1", "tcp", away, 53, marked); got != "" {
				t.Errorf("a question to %s: %s", away, got)
			}
		}
	})
}
