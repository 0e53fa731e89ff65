package uplink_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

const (
	patience = 3 * time.Minute // what TestMany sends takes an emulator on a busy machine more than half of one
	again    = 600 * time.Millisecond
)

// listen makes a socket in a namespace, and has serve called with each connection, and who it is from.
func (n netns) listen(t testing.TB, addr string, serve func(c *net.TCPConn)) {
	t.Helper()
	n.do(func() {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Errorf("listen %s: %v", addr, err)
			return
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.SetDeadline(time.Now().Add(patience))
				c.(*net.TCPConn).SetReadBuffer(64 << 10)
				c.(*net.TCPConn).SetWriteBuffer(64 << 10)
				go func() {
					defer c.Close()
					serve(c.(*net.TCPConn))
				}()
			}
		}()
	})
}

func (n netns) dial(t testing.TB, network, addr string) net.Conn {
	t.Helper()
	var c net.Conn
	var err error
	n.do(func() { c, err = net.DialTimeout(network, addr, patience) })
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c
}

// refused has a connection refused, and soon.
func (n netns) refused(t *testing.T, addr string) {
	t.Helper()
	var c net.Conn
	var err error
	family := "tcp4" // one: the library tries more, on other threads, for [::]
	if strings.HasPrefix(addr, "[") {
		family = "tcp6"
	}
	n.do(func() { c, err = net.DialTimeout(family, addr, patience) })
	if err == nil {
		c.Close()
		t.Errorf("dial %s: it is connected", addr)
	} else if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("dial %s: %v; want it refused", addr, err)
	}
}

// echo sends back all that comes, and ends when the other side has ended. It reads whether it can write or not: Linux 6.18 drops what comes behind a full window with the
// acknowledgement in it, and two sides that wait for each other to read stand still for minutes then.
func echo(c *net.TCPConn) {
	come := make(chan []byte, 1<<14)
	go func() {
		defer close(come)
		for {
			b := make([]byte, 32<<10)
			n, err := c.Read(b)
			come <- b[:n]
			if err != nil {
				return
			}
		}
	}()
	for b := range come {
		if _, err := c.Write(b); err != nil {
			c.Close() // and what has come is of no use
		}
	}
	c.CloseWrite()
}

// packets answers packets with who sent them, and what.
func (n netns) packets(t *testing.T, addr string) {
	t.Helper()
	n.do(func() {
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			t.Errorf("listen %s: %v", addr, err)
			return
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			buf := make([]byte, 64<<10)
			for {
				m, from, err := c.ReadFrom(buf)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					host, _, _ := net.SplitHostPort(from.String())
					c.WriteTo([]byte(fmt.Sprintf("%s %x", host, sha256.Sum256(buf[:m]))), from)
				}
			}
		}()
	})
}

// exchange sends a packet of a size until there is an answer, and gives who it is said to be from.
func exchange(t *testing.T, c net.Conn, size int) string {
	t.Helper()
	out := bytes.Repeat([]byte("packet"), size/6+1)[:size]
	buf := make([]byte, 1<<10)
	for range patience / again {
		if _, err := c.Write(out); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(again))
		m, err := c.Read(buf)
		if err != nil {
			continue
		}
		host, sum, _ := strings.Cut(string(buf[:m]), " ")
		if sum != fmt.Sprintf("%x", sha256.Sum256(out)) {
			t.Fatalf("a packet of %d bytes arrives as another one", size)
		}
		return host
	}
	t.Fatalf("%v: no answer to a packet of %d bytes", c.RemoteAddr(), size)
	return ""
}

// transfer sends bytes, ends its side, and has to get the same back.
func transfer(t *testing.T, c net.Conn, size int) {
	t.Helper()
	sent := make(chan []byte, 1)
	go func() {
		h := sha256.New()
		r := io.TeeReader(io.LimitReader(&pattern{}, int64(size)), h)
		if _, err := io.Copy(c, r); err != nil {
			t.Errorf("send: %v", err)
		}
		c.(*net.TCPConn).CloseWrite()
		sent <- h.Sum(nil)
	}()
	h := sha256.New()
	n, err := io.Copy(h, c)
	if err != nil {
		t.Errorf("receive: %v", err)
	}
	if want := <-sent; int(n) != size || !bytes.Equal(h.Sum(nil), want) {
		t.Errorf("%d bytes came back of %d, or others", n, size)
	}
}

// A pattern is bytes without end.
type pattern struct{ n uint32 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		p.n = p.n*1664525 + 1013904223
		b[i] = byte(p.n >> 24)
	}
	return len(b), nil
}

// TestOut: what the container reaches, and what not.
func TestOut(t *testing.T) {
	p := newPlace(t)
	s := p.start("")
	if s.Mode != uplink.Builtin || s.Why == "" || s.Device == "" || s.MTU == 0 || !s.Addr4.IsValid() || !s.Addr6.IsValid() {
		t.Errorf("status %+v", s)
	}
	for _, to := range []string{outsideAddr4, outsideAddr6} {
		at := func(port string) string { return net.JoinHostPort(to, port) }
		p.outside.listen(t, at("7"), echo)
		p.outside.packets(t, at("7"))
		for name, from := range map[string]netns{"container": p.container, "world": p.world} {
			transfer(t, from.dial(t, "tcp", at("7")), 4<<20)
			c := from.dial(t, "udp", at("7"))
			for _, size := range []int{1, 1400, 60000} {
				exchange(t, c, size)
			}
			from.refused(t, at("9"))
			from.dial(t, "udp", at("9")).Write([]byte("x"))
			if out := from.run(t, "ping", "-n", "-c", "1", "-W", "20", to); !strings.Contains(out, "1 received") {
				t.Errorf("ping %s from the %s: %s", to, name, out)
			}
		}
		// Nobody is there, and who asks is told.
		c := p.world.dial(t, "udp", at("9"))
		c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a packet to a closed port of %s: %v", to, err)
		}
	}
	for of, want := range map[string]bool{hostAddr4: true, hostAddr6: true, outsideAddr4: false, outsideAddr6: false, "203.0.113.1": false} {
		if got := p.must(request{Op: "own", Owner: of}).Own; got != want {
			t.Errorf("%s is the machine's: %v, want %v", of, got, want)
		}
	}
	// No way, as the machine sees it.
	p.host.ip(t, "-6 route del default")
	p.container.refused(t, "[2001:db8:1::1]:80")
	// The machine's own addresses can be reached, as those of others; its loopback cannot.
	p.host.listen(t, hostAddr4+":80", echo)
	transfer(t, p.container.dial(t, "tcp", hostAddr4+":80"), 1000)
	p.host.listen(t, "127.0.0.1:81", echo)
	p.host.listen(t, "[::1]:81", echo)
	for _, to := range []string{hostLocal4, hostLocal6, "0.0.0.0", "::", s.Gateway4.String(), s.Gateway6.String(), worldDevice4, hostAddr4, hostAddr6, gateAddr4} {
		p.world.refused(t, net.JoinHostPort(to, "81"))
		p.container.refused(t, net.JoinHostPort(to, "81"))
	}
	// What the stack itself refuses, were a packet to come to it.
	p.world.ip(t, `
		route add local 0.0.0.0/8 dev lo table 77
		route del local 127.0.0.0/8 dev lo table local
		route del local 127.0.0.1 dev lo table local
		sysctl net.ipv4.conf.uplink.route_localnet=1
		route add 127.0.0.0/8 via `+s.Gateway4.String()+` src `+worldDevice4+`
	`)
	p.world.do(func() {
		if c, err := net.DialTimeout("tcp4", hostLocal4+":81", 300*time.Millisecond); err == nil {
			c.Close()
			t.Error("the machine's loopback is reached")
		}
	})
}

// TestPasta: pasta does the same. Of large transfers with an end of one side's only it is not asked: Debian 12's sends some bytes twice.
func TestPasta(t *testing.T) {
	p := newPlace(t)
	s := p.start(uplink.Auto)
	if s.Mode != uplink.Pasta || !strings.HasSuffix(s.Program, "/pasta") || !strings.Contains(s.Why, "installed") {
		t.Fatalf("status %+v", s)
	}
	for _, to := range []string{outsideAddr4, outsideAddr6} {
		at := net.JoinHostPort(to, "7")
		p.outside.listen(t, at, who)
		p.outside.packets(t, at)
		// First what may be lost. The device is up before pasta reads from it, and the kernel asks for three seconds only who has an
		// address; and that of Debian 12 spins for ever where the same SYN is waiting twice.
		exchange(t, p.container.dial(t, "udp", at), 1000)
		c := p.container.dial(t, "tcp", at)
		askWho(t, c)
		buf := make([]byte, 1000)
		for range 20 {
			if _, err := c.Write(buf); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, buf); err != nil {
				t.Fatal(err)
			}
		}
		if out := p.container.run(t, "ping", "-n", "-c", "1", "-W", "20", to); !strings.Contains(out, "1 received") {
			t.Errorf("ping %s: %s", to, out)
		}
	}
	p.host.listen(t, "127.0.0.1:81", echo)
	p.host.listen(t, "[::1]:81", echo)
	for _, to := range []string{hostLocal4, hostLocal6, s.Gateway4.String(), s.Gateway6.String(), hostAddr4} {
		var c net.Conn
		var err error
		p.container.do(func() { c, err = net.DialTimeout("tcp", net.JoinHostPort(to, "81"), 500*time.Millisecond) })
		if err == nil {
			c.Close()
			t.Errorf("%s: the machine's loopback is reached", to)
		}
	}
	// It comes back when somebody ends it.
	pids := p.children("pasta")
	if len(pids) == 0 {
		t.Fatal("pasta is nowhere to be seen")
	}
	nstest.Kill(t, pids...)
	nstest.Until(t, "another pasta", func() bool {
		again := p.children("pasta")
		return len(again) > 0 && again[0] != pids[0]
	})
	exchange(t, p.container.dial(t, "udp", outsideAddr4+":7"), 1000)
}

// TestNoPasta: what becomes of it where there is no pasta, or another program of that name.
func TestNoPasta(t *testing.T) {
	p := newPlace(t)
	p.pasta = "/bin/true"
	if a := p.do(request{Op: "start", Mode: uplink.Pasta, Pasta: p.pasta, Program: nstest.BinaryPath(uplink.Program)}); !strings.Contains(a.Err, "/bin/true: it tells nothing of") {
		t.Errorf("/bin/true for pasta: %q", a.Err)
	}
	s := p.start(uplink.Auto)
	if s.Mode != uplink.Builtin || !strings.Contains(s.Why, "/bin/true") {
		t.Errorf("status %+v", s)
	}
	p.outside.packets(t, outsideAddr4+":7")
	exchange(t, p.container.dial(t, "udp", outsideAddr4+":7"), 1000)
}

func publish(proto, host string, hostPort uint16, port uint16) plan.Publish {
	h := netip.MustParseAddr(host)
	to := containerAddr4
	if h.Is6() {
		to = containerAddr6
	}
	return plan.Publish{Proto: proto, HostAddr: h, HostPort: hostPort, Addr: netip.MustParseAddr(to), Port: port, Bridge: "kakuri0"}
}

// who answers a connection with who it is from, and then with what comes.
func who(c *net.TCPConn) {
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	fmt.Fprintf(c, "%-40s", host)
	echo(c)
}

func askWho(t *testing.T, c net.Conn) string {
	t.Helper()
	buf := make([]byte, 40)
	if _, err := io.ReadFull(c, buf); err != nil {
		t.Fatalf("%v: %v", c.RemoteAddr(), err)
	}
	return strings.TrimSpace(string(buf))
}

// TestPublished: who asks a published port is seen as himself.
func TestPublished(t *testing.T) {
	p := newPlace(t)
	p.start(uplink.Builtin)
	p.container.listen(t, ":80", who)
	p.container.packets(t, containerAddr4+":53")
	p.container.packets(t, "["+containerAddr6+"]:53")
	ports := p.must(request{Op: "publish", Owner: "c1", Ports: []plan.Publish{
		publish("tcp", "0.0.0.0", 8080, 80), publish("tcp", "::", 8080, 80), publish("udp", "0.0.0.0", 5353, 53), publish("udp", "::", 5353, 53), publish("tcp", hostLocal4, 0, 80),
	}}).Ports
	if len(ports) != 5 || ports[4].HostPort == 0 {
		t.Fatalf("ports %v", ports)
	}
	for _, test := range []struct {
		from      netns
		to, claim string
	}{
		{p.outside, hostAddr4, outsideAddr4},
		{p.outside, hostAddr6, outsideAddr6},
		{p.host, hostAddr4, hostAddr4},
		{p.host, hostLocal4, gateAddr4}, // nobody's address in there: as Docker has it
		{p.host, hostLocal6, gateAddr6},
		{p.container, hostAddr4, hostAddr4}, // the container itself, by the way out
	} {
		c := test.from.dial(t, "tcp", net.JoinHostPort(test.to, "8080"))
		if got := askWho(t, c); got != test.claim {
			t.Errorf("a connection to %s is from %s, want %s", test.to, got, test.claim)
		}
		transfer(t, c, 3<<20)
		if got := exchange(t, test.from.dial(t, "udp", net.JoinHostPort(test.to, "5353")), 1000); got != test.claim {
			t.Errorf("a packet to %s is from %s, want %s", test.to, got, test.claim)
		}
	}
	// Others have the ports that another one has, and none of root's.
	again := p.do(request{Op: "publish", Owner: "c2", Ports: []plan.Publish{publish("tcp", "0.0.0.0", 9000, 80), publish("tcp", hostAddr4, 8080, 80)}})
	if again.Errno != unix.EADDRINUSE || !strings.Contains(again.Err, "container c1") {
		t.Errorf("a port that is had: %q, errno %v", again.Err, again.Errno)
	}
	p.outside.refused(t, hostAddr4+":9000") // all or none
	p.host.listen(t, hostAddr4+":9001", echo)
	if a := p.do(request{Op: "publish", Owner: "c2", Ports: []plan.Publish{publish("tcp", "0.0.0.0", 9001, 80)}}); a.Errno != unix.EADDRINUSE {
		t.Errorf("a port of another program: %q, errno %v", a.Err, a.Errno)
	}
	if a := p.do(request{Op: "publish", Owner: "c2", Ports: []plan.Publish{publish("tcp", "0.0.0.0", 80, 80)}}); a.Errno != unix.EACCES || !strings.Contains(a.Err, "net.ipv4.ip_unprivileged_port_start=80") {
		t.Errorf("a port of root's: %q, errno %v", a.Err, a.Errno)
	}
	open := p.outside.dial(t, "tcp", hostAddr4+":8080")
	askWho(t, open)
	p.must(request{Op: "unpublish", Owner: "c1"})
	if n, err := open.Read(make([]byte, 1)); err == nil || errors.Is(err, unix.ETIMEDOUT) {
		t.Errorf("a connection by a port that is given back: %d, %v", n, err)
	}
	p.outside.refused(t, hostAddr4+":8080")
	p.must(request{Op: "publish", Owner: "c2", Ports: []plan.Publish{publish("tcp", hostAddr4, 8080, 80)}})
	if got := askWho(t, p.outside.dial(t, "tcp", hostAddr4+":8080")); got != outsideAddr4 {
		t.Errorf("of another owner the port gives %s", got)
	}
}

// TestNames: a server for names that the machine has on its loopback is asked at the same address inside, and nothing else of that loopback is there.
func TestNames(t *testing.T) {
	nstest.Root(t)
	nstest.ResolvConf(t, "nameserver 127.0.0.1\nnameserver ::1\nnameserver 192.0.2.53\nsearch example.org\n")
	p := newPlace(t)
	for _, a := range []string{hostLocal4, hostLocal6} {
		p.host.listen(t, net.JoinHostPort(a, "53"), echo)
		p.host.packets(t, net.JoinHostPort(a, "53"))
		p.host.listen(t, net.JoinHostPort(a, "81"), echo)
	}
	p.start("")
	for _, a := range []string{hostLocal4, hostLocal6} {
		at := net.JoinHostPort(a, "53")
		transfer(t, p.world.dial(t, "tcp", at), 1000)
		if from := exchange(t, p.world.dial(t, "udp", at), 500); from != a {
			t.Errorf("a question to %s is from %s", at, from)
		}
		p.world.refused(t, net.JoinHostPort(a, "81"))
		p.container.refused(t, at)
	}
	for _, gate := range []string{gateAddr4, gateAddr6} {
		p.container.refused(t, net.JoinHostPort(gate, "53"))
	}
}

// TestNamesOfDevice: a server that the machine knows by a device of its own, as a router at fe80::1 of a network of IPv6 alone, is asked at an address of the
// loopback inside.
func TestNamesOfDevice(t *testing.T) {
	nstest.Root(t)
	nstest.ResolvConf(t, "nameserver fe80::1%out0\n")
	p := newPlace(t)
	p.outside.ip(t, "addr add fe80::1/64 dev eth0 nodad")
	p.outside.listen(t, "[fe80::1%eth0]:53", echo)
	p.outside.packets(t, "[fe80::1%eth0]:53")
	var s uplink.NameServer
	p.host.do(func() { s = must(uplink.ParseNameServer("fe80::1%out0")) })
	inside, passed := s.Inside()
	if !passed || !inside.IsLoopback() {
		t.Fatalf("it is %+v, and inside %v", s, inside)
	}
	p.start("")
	at := net.JoinHostPort(inside.String(), "53")
	transfer(t, p.world.dial(t, "tcp", at), 1000)
	exchange(t, p.world.dial(t, "udp", at), 500)
	p.container.refused(t, at)
}

// TestNamesLater: a server on the machine's loopback that it has only since the uplink began is asked as well, by who starts then.
func TestNamesLater(t *testing.T) {
	nstest.Root(t)
	write := nstest.ResolvConf(t, "nameserver 192.0.2.53\n")
	p := newPlace(t)
	at := net.JoinHostPort(hostLocal4, "53")
	p.host.listen(t, at, echo)
	p.start("")
	p.world.refused(t, at)
	write("nameserver " + hostLocal4 + "\n")
	for range 2 { // each start asks
		p.must(request{Op: "status"})
		transfer(t, p.world.dial(t, "tcp", at), 1000)
	}
}

// stop stops a process by a signal, and waits until it stands still.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "that it stands still", func() bool {
		p := process.Open(pid)
		if p == nil {
			return false
		}
		defer p.Close()
		return p.Stopped()
	})
}

// TestStopped: a process of an uplink that was stopped by a signal holds up nobody who asks for something: it goes on, and its number is told.
func TestStopped(t *testing.T) {
	p := newPlace(t)
	s := p.start(uplink.Pasta)
	port := func(n uint16) []plan.Publish { return []plan.Publish{publish("tcp", "0.0.0.0", n, 80)} }
	p.must(request{Op: "publish", Owner: "c1", Ports: port(8080)})
	inside := func() int {
		for _, pid := range p.children(uplink.Program) {
			if pid != s.PID {
				return pid
			}
		}
		t.Fatal("no process in the namespaces")
		return 0
	}
	told := func(what string, a response, pid int) {
		t.Helper()
		if a.Err != "" || len(a.Told) != 1 || !strings.Contains(a.Told[0], fmt.Sprintf("process %d (", pid)) || !strings.Contains(a.Told[0], "it goes on now") {
			t.Errorf("%s: error %q, told %q", what, a.Err, a.Told)
		}
	}
	for _, r := range []request{
		{Op: "status"}, {Op: "namespaces"}, {Op: "own", Owner: hostAddr4}, {Op: "publish", Owner: "c2", Ports: port(8081)}, {Op: "unpublish", Owner: "c2"},
	} {
		stop(t, s.PID)
		told(r.Op+" of one that stands still", p.do(r), s.PID)
	}
	for _, r := range []request{{Op: "publish", Owner: "c2", Ports: port(8081)}, {Op: "unpublish", Owner: "c2"}} {
		pid := inside()
		stop(t, pid)
		told(r.Op+", the process in the namespaces stands still", p.do(r), pid)
		if now := inside(); now != pid {
			t.Errorf("process %d is in the namespaces, and was %d", now, pid)
		}
	}
	carries := p.children(uplink.Pasta)
	if len(carries) != 1 {
		t.Fatalf("pasta is %v", carries)
	}
	stop(t, carries[0])
	told("a look at pasta that stands still", p.must(request{Op: "wake"}), carries[0])
	p.outside.packets(t, outsideAddr4+":7")
	exchange(t, p.container.dial(t, "udp", outsideAddr4+":7"), 100)
	// All of them, and the end.
	pid := inside()
	for _, of := range []int{s.PID, pid, carries[0]} {
		stop(t, of)
	}
	// The first one to be woken may be the one that ends the others, before they are looked at.
	if a := p.do(request{Op: "end"}); a.Err != "" || len(a.Told) == 0 || len(a.Told) > 3 {
		t.Errorf("end: error %q, told %q", a.Err, a.Told)
	}
	if left := append(p.children(uplink.Program), p.children(uplink.Pasta)...); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	// The process in the namespaces that a killed one left, and which keeps its device.
	s = p.start(uplink.Builtin)
	pid = inside()
	stop(t, pid)
	ended := nstest.Ends(t, pid)
	nstest.Kill(t, s.PID)
	a := p.must(request{Op: "start", Program: nstest.BinaryPath(uplink.Program)})
	ended()
	told("a start", a, pid)
}

// TestKilled: an uplink that was killed is made again, with the ports that were published, and leaves nothing when it ends.
func TestKilled(t *testing.T) {
	p := newPlace(t)
	s := p.start(uplink.Builtin)
	p.container.listen(t, ":80", who)
	p.must(request{Op: "publish", Owner: "c1", Ports: []plan.Publish{publish("tcp", "0.0.0.0", 8080, 80)}})
	p.outside.packets(t, outsideAddr4+":7")
	works := func(when string) {
		t.Helper()
		if got := askWho(t, p.outside.dial(t, "tcp", hostAddr4+":8080")); got != outsideAddr4 {
			t.Errorf("%s the port gives %s", when, got)
		}
		exchange(t, p.container.dial(t, "udp", outsideAddr4+":7"), 100)
	}
	works("before")
	if a := p.do(request{Op: "start", Program: nstest.BinaryPath(uplink.Program)}); !strings.Contains(a.Err, "already") {
		t.Errorf("a second one: %q", a.Err)
	}
	p.must(request{Op: "namespaces"})
	// The process in the namespaces alone.
	var inside []int
	nstest.Until(t, "two processes", func() bool { inside = p.children(uplink.Program); return len(inside) == 2 })
	for _, pid := range inside {
		if pid != s.PID {
			nstest.Kill(t, pid)
		}
	}
	nstest.Until(t, "another process in the namespaces", func() bool {
		again := p.children(uplink.Program)
		return len(again) == 2 && again[0]+again[1] != inside[0]+inside[1] && strings.Contains(string(must(os.ReadFile(filepath.Join(p.run, "log")))), "made anew")
	})
	p.must(request{Op: "status"})
	works("after the process inside was killed")
	// And the uplink.
	ended := nstest.Ends(t, p.children(uplink.Program)...)
	nstest.Kill(t, s.PID)
	ended()
	if a := p.do(request{Op: "status"}); !a.Gone {
		t.Errorf("of one that was killed: %+v", a)
	}
	p.must(request{Op: "start", Program: nstest.BinaryPath(uplink.Program)})
	works("after it was killed")
	p.must(request{Op: "unpublish", Owner: "c1"})
	p.outside.refused(t, hostAddr4+":8080")
	p.must(request{Op: "end"})
	if left := p.children(uplink.Program); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	if out := p.world.run(t, "ip", "-o", "link"); strings.Contains(out, "uplink") {
		t.Errorf("the device is left: %s", out)
	}
}

// TestMany: many connections at once, by either way; those that nobody reads from, and those whose ends vanish.
func TestMany(t *testing.T) {
	p := newPlace(t)
	s := p.start(uplink.Builtin)
	p.outside.listen(t, ":7", echo)
	p.container.listen(t, ":7", echo)
	p.must(request{Op: "publish", Owner: "c1", Ports: []plan.Publish{publish("tcp", "0.0.0.0", 8007, 7)}})
	for _, way := range []struct {
		from netns
		to   string
	}{{p.container, outsideAddr4 + ":7"}, {p.outside, hostAddr4 + ":8007"}} {
		before := p.descriptors()
		const n = 300
		var all sync.WaitGroup
		conns := make([]net.Conn, n)
		for i := range conns {
			conns[i] = way.from.dial(t, "tcp", way.to)
		}
		for _, c := range conns {
			all.Go(func() { transfer(t, c, 100<<10) })
		}
		all.Wait()
		for _, c := range conns {
			c.Close()
		}
		// Nobody reads: what is on its way waits in buffers of some size.
		var full []net.Conn
		for range 40 {
			c := way.from.dial(t, "tcp", way.to)
			c.SetDeadline(time.Time{})
			full = append(full, c)
			all.Go(func() { io.Copy(plain{c}, zeros{}) })
		}
		// Others go on meanwhile.
		for range 3 {
			c := way.from.dial(t, "tcp", way.to)
			transfer(t, c, 1<<20)
			c.Close()
		}
		if kb := p.memory(s.PID); kb > 400<<10 {
			t.Errorf("the uplink has %d KiB of memory", kb)
		}
		for _, c := range full {
			c.(*net.TCPConn).SetLinger(0) // a reset
			c.Close()
		}
		all.Wait()
		nstest.Until(t, "the end of all connections: "+way.to, func() bool { return p.descriptors() <= before+40 }) // a relay keeps some pipes
	}
	// A flow each: the oldest go.
	p.outside.packets(t, outsideAddr4+":9")
	for range 3 {
		exchange(t, p.container.dial(t, "udp", outsideAddr4+":9"), 10)
	}
}

// ask begins connections from an address, and does not wait for them.
func (n netns) ask(t *testing.T, from, to string, port, count int) (fds []int) {
	t.Helper()
	n.do(func() {
		for range count {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = unix.Bind(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr(from).As4()})
			}
			if err == nil {
				err = unix.Connect(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr(to).As4(), Port: port})
			}
			if err != unix.EINPROGRESS {
				t.Errorf("connect: %v", err)
				return
			}
			fds = append(fds, fd)
		}
	})
	return fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		unix.Close(fd)
	}
}

// TestShare: one container cannot take all of the uplink's connections, whether they are whole or nobody answers them, nor the flows of UDP; what it is refused is counted and said.
func TestShare(t *testing.T) {
	p := newPlace(t)
	// The uplink keeps within the descriptors it may have: half of them are for connections, and of those a quarter for ones that begin.
	const most = 100
	p.must(request{Op: "limit", Files: 2 * most})
	p.start(uplink.Builtin)
	const other = "172.17.0.3"
	p.world.ip(t, "nft flush table inet test") // addresses are seen as they are
	p.container.ip(t, "addr add "+other+"/16 dev eth0")
	p.outside.ip(t, `
		nft add table inet test
		nft add chain inet test in { type filter hook input priority 0 ; }
		nft add rule inet test in tcp dport 99 drop
	`)
	p.outside.listen(t, ":7", echo)
	p.outside.packets(t, outsideAddr4+":9")
	refused := uint64(0)
	for _, port := range []int{7, 99} {
		fds := p.container.ask(t, containerAddr4, outsideAddr4, port, most+10)
		defer func() { closeAll(fds) }()
		var s uplink.Status
		nstest.Until(t, "a refusal", func() bool { s = p.must(request{Op: "status"}).Status; return s.Refused > refused })
		if s.RefusedLast.String() != containerAddr4 {
			t.Errorf("refused is %v, want %s", s.RefusedLast, containerAddr4)
		}
		refused = s.Refused
		var c net.Conn
		var err error
		p.container.do(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(other)}, Timeout: patience}
			c, err = d.Dial("tcp", outsideAddr4+":7")
		})
		if err != nil {
			t.Fatalf("another container, when one has all that it gets of port %d: %v", port, err)
		}
		c.SetDeadline(time.Now().Add(patience))
		transfer(t, c, 1000)
		c.Close()
		closeAll(fds)
		fds = nil
	}
	if log, err := os.ReadFile(filepath.Join(p.run, "log")); err != nil || !strings.Contains(string(log), "the last one from "+containerAddr4) {
		t.Errorf("%v: the log says %q", err, log)
	}
}

// TestUnread: what a container does not read of connections that both ends have shut is in the uplink's memory, and counts as a connection of the container's.
func TestUnread(t *testing.T) {
	p := newPlace(t)
	const most = 100
	p.must(request{Op: "limit", Files: 2 * most})
	p.start(uplink.Builtin)
	p.outside.listen(t, ":7", echo)
	p.outside.listen(t, ":19", func(c *net.TCPConn) { c.Write(make([]byte, 200<<10)) })
	refused := func() bool { return p.must(request{Op: "status"}).Status.Refused > 0 }
	var unread []net.Conn
	p.container.do(func() {
		d := net.Dialer{Timeout: time.Second}
		for tries := 0; tries < 3*most && len(unread) < most && !refused(); tries++ {
			if c, err := d.Dial("tcp", outsideAddr4+":19"); err == nil {
				c.(*net.TCPConn).SetReadBuffer(1)
				c.(*net.TCPConn).CloseWrite()
				unread = append(unread, c)
			}
		}
	})
	if !refused() {
		t.Errorf("%d connections that wait to be read, and none is refused", len(unread))
	}
	for _, c := range unread {
		c.Close()
	}
	for range most { // they count no more
		c := p.container.dial(t, "tcp", outsideAddr4+":7")
		transfer(t, c, 10)
		c.Close()
	}
}

// TestFlood: packets that come faster than they can be passed on are lost, and are not kept in memory.
func TestFlood(t *testing.T) {
	p := newPlace(t)
	s := p.start(uplink.Builtin)
	p.outside.packets(t, outsideAddr4+":9")
	var senders sync.WaitGroup
	end := time.Now().Add(3 * time.Second)
	for range 4 {
		c := p.container.dial(t, "udp", outsideAddr4+":9")
		senders.Go(func() {
			for b := make([]byte, 60_000); time.Now().Before(end); {
				c.Write(b)
			}
		})
	}
	most := 0
	for time.Now().Before(end) {
		most = max(most, p.memory(s.PID))
		time.Sleep(again / 10)
	}
	senders.Wait()
	if most > 100<<10 {
		t.Errorf("the uplink had %d KiB of memory", most)
	}
	exchange(t, p.container.dial(t, "udp", outsideAddr4+":9"), 10)
}

// TestPortAgain: a container that connects from a port which it has had a moment ago need not wait for long, as one that connects thousands of times to one server.
func TestPortAgain(t *testing.T) {
	p := newPlace(t)
	p.start(uplink.Builtin)
	p.outside.listen(t, ":19", func(c *net.TCPConn) { c.Write(make([]byte, 10)) })
	const times = 4
	began := time.Now()
	p.container.do(func() {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{Port: 40000}}
		for range times {
			c, err := d.Dial("tcp", outsideAddr4+":19")
			for errors.Is(err, unix.EADDRINUSE) { // the one before is about to end
				time.Sleep(again / 100)
				c, err = d.Dial("tcp", outsideAddr4+":19")
			}
			if err != nil {
				t.Error(err)
				return
			}
			io.ReadAll(c)
			c.Close()
		}
	})
	if took := time.Since(began); took > times*2*time.Second { // the kernel asks a second time after one
		t.Errorf("%d connections took %v", times, took)
	}
}

// TestFewDescriptors: a container that sends to as many ports as there are leaves the uplink the descriptors by which it is told to do something.
func TestFewDescriptors(t *testing.T) {
	p := newPlace(t)
	const most = 200
	p.must(request{Op: "limit", Files: most})
	p.start(uplink.Builtin)
	p.outside.packets(t, outsideAddr4+":9")
	p.container.do(func() {
		c, err := net.ListenPacket("udp4", ":0")
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for port := range 2 * most {
			c.WriteTo([]byte("?"), &net.UDPAddr{IP: net.ParseIP(outsideAddr4), Port: 20000 + port})
		}
	})
	exchange(t, p.container.dial(t, "udp", outsideAddr4+":9"), 1) // all that was sent before has come to it
	p.must(request{Op: "status"})
	if n := p.descriptors(); n < most/4 {
		t.Errorf("%d descriptors: nothing was tried", n)
	}
}

// TestInherited: what the caller of the command that starts it has open is not in an uplink, which goes on for as long as containers are on networks: who
// reads from a pipe, or waits for a lock, would wait for that.
func TestInherited(t *testing.T) {
	p := newPlace(t)
	p.must(request{Op: "open"})
	pipe, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", p.cmd.Process.Pid, inheritedFD))
	if err != nil {
		t.Fatal(err)
	}
	p.start(uplink.Builtin)
	for _, pid := range p.children(uplink.Program) {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		list, err := os.ReadDir(dir)
		if err != nil || len(list) < 3 {
			t.Fatalf("%v of process %d: %v", list, pid, err)
		}
		for _, fd := range list {
			if what, _ := os.Readlink(dir + "/" + fd.Name()); what == pipe {
				t.Errorf("descriptor %s of process %d is %s of the caller's", fd.Name(), pid, what)
			}
		}
	}
}

// TestGoneDirectory: an uplink whose directory went, as that of a session does, ends with its last user, and leaves alone what has come in the place of the directory.
func TestGoneDirectory(t *testing.T) {
	p := newPlace(t)
	account := nstest.User(t)
	used := filepath.Join(p.run, "used")
	if err := errors.Join(os.MkdirAll(p.run, 0o700), os.Chown(p.run, account.UID, account.GID), os.WriteFile(used, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	user, err := os.Open(used)
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	if err := unix.Flock(int(user.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	a := p.must(request{Op: "start", Mode: uplink.Builtin, Program: nstest.BinaryPath(uplink.Program), Used: used})
	pidfd, err := unix.PidfdOpen(a.Status.PID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	control := filepath.Join(p.run, uplink.ControlName)
	if err := errors.Join(os.Rename(p.run, p.run+".gone"), os.RemoveAll(p.run+".gone"), os.Mkdir(p.run, 0o700), os.WriteFile(used, nil, 0o644), os.WriteFile(control, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	user.Close()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
			t.Errorf("it goes on: %d, %v", n, err)
		}
		break
	}
	if _, err := os.Lstat(control); err != nil {
		t.Error(err)
	}
}

// TestFIFOs: what is in the place of an uplink's files holds up nobody: a lock is one whatever it is of, and without a log it says so and ends.
func TestFIFOs(t *testing.T) {
	p := newPlace(t)
	account := nstest.User(t)
	log := filepath.Join(p.run, "log")
	if err := errors.Join(os.MkdirAll(p.run, 0o700), os.Chown(p.run, account.UID, account.GID)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{log, filepath.Join(p.run, uplink.LockName)} {
		if err := errors.Join(unix.Mkfifo(name, 0o600), os.Chown(name, account.UID, account.GID)); err != nil {
			t.Fatal(err)
		}
	}
	a := p.do(request{Op: "start", Mode: uplink.Builtin, Program: nstest.BinaryPath(uplink.Program)})
	if !strings.Contains(a.Err, log) || len(p.children(uplink.Program)) > 0 {
		t.Errorf("%q, and there are %v", a.Err, p.children(uplink.Program))
	}
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	p.start(uplink.Builtin)
}

// A mode that there is not is refused by who would start the program, with those there are.
func TestModes(t *testing.T) {
	t.Setenv(uplink.ModeVariable, "nonsense")
	if err := uplink.Possible(); err == nil || err.Error() != "KAKURI_UPLINK=nonsense: there are the modes builtin, pasta and auto" {
		t.Errorf("Possible: %v", err)
	}
	for _, mode := range []string{uplink.Builtin, uplink.Pasta, uplink.Auto} {
		if err := uplink.CheckMode(mode); err != nil {
			t.Error(err)
		}
	}
}
