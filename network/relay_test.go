package network

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// TestRelayShares: who keeps all connections that it gets of one port, or has senders of UDP beyond number there, takes none of another port's.
func TestRelayShares(t *testing.T) {
	onStage(t, false, func(s *stage) {
		r, err := NewRelay(files.Most())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		const most = 20
		r.most = most
		// The program behind the ports: it says nothing to who connects to it by the first one, as that does not to it.
		served := make(chan net.Conn, 10*most)
		program, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer program.Close()
		go func() {
			for {
				c, err := program.Accept()
				if err != nil {
					return
				}
				served <- c
			}
		}()
		echo, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer echo.Close()
		go func() {
			for {
				_, from, err := echo.ReadFrom(make([]byte, 10))
				if err != nil {
					return
				}
				echo.WriteTo([]byte(from.String()), from) // by which socket of the relay it came
			}
		}()
		serve := func(proto string, hostPort, to int) {
			p := port(fmt.Sprintf("%s 127.0.0.1:%d 127.0.0.1:%d", proto, hostPort, to))
			p.Strict = true
			h, err := s.rules.HoldPort(p)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Close(h.FD) })
			if err := r.Serve(h.FD, proto, p.Addr, p.Port); err != nil {
				t.Fatal(err)
			}
		}
		tcp, udp := program.Addr().(*net.TCPAddr).Port, echo.LocalAddr().(*net.UDPAddr).Port
		serve("tcp", 8101, tcp)
		serve("tcp", 8102, tcp)
		serve("udp", 8101, udp)
		serve("udp", 8102, udp)
		var conns []net.Conn
		defer func() {
			for _, c := range conns {
				c.Close()
			}
		}()
		from := func(address string) net.Dialer {
			return net.Dialer{Timeout: waits, LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		}
		one, two := from("127.0.0.1"), from("127.0.0.2")
		dial := func(d net.Dialer, address string) net.Conn {
			c, err := d.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			return c
		}
		for range 2 * most {
			c, err := one.Dial("tcp", "127.0.0.1:8101")
			if err == nil {
				conns = append(conns, c)
			} else if !errors.Is(err, unix.ECONNRESET) { // what finds no place at all
				t.Fatal(err)
			}
		}
		first := <-served
		conns = append(conns, first)
		for range most/2 - 1 {
			conns = append(conns, <-served)
		}
		passes := func(what string, ends ...net.Conn) {
			t.Helper()
			for i, c := range ends {
				c.SetDeadline(time.Now().Add(waits))
				buf := make([]byte, 1)
				ends[1-i].Write([]byte("x"))
				if _, err := c.Read(buf); err != nil || buf[0] != 'x' {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
		speaks := func(what string, c net.Conn) {
			t.Helper()
			select {
			case behind := <-served:
				conns = append(conns, behind)
				passes(what, c, behind)
			case <-time.After(waits):
				t.Errorf("%s takes no connection", what)
			}
		}
		speaks("the other port", dial(one, "127.0.0.1:8102"))
		// Another sender has places of the one that has them all, as long as that has more, and the one that spoke last keeps its own.
		passes("the first one", conns[0], first)
		for range most / 4 {
			speaks("the first port, from another address,", dial(two, "127.0.0.1:8101"))
		}
		beyond, err := two.Dial("tcp", "127.0.0.1:8101")
		if err == nil {
			beyond.SetDeadline(time.Now().Add(waits))
			_, err = beyond.Read(make([]byte, 1))
			beyond.Close()
		}
		if !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("one more than the other sender has: %v", err)
		}
		passes("the first one, after others were ended for another sender", conns[0], first)
		// As soon as one has ended, the next one is taken.
		conns[0].(*net.TCPConn).SetLinger(0)
		conns[0].Close()
		select {
		case behind := <-served:
			conns = append(conns, behind)
		case <-time.After(waits):
			t.Error("the first port takes no connection any more")
		}
		// One sender goes on, whoever comes by the other port.
		quiet, err := net.Dial("udp", "127.0.0.1:8102")
		if err != nil {
			t.Fatal(err)
		}
		defer quiet.Close()
		ask := func(c net.Conn) string {
			c.SetDeadline(time.Now().Add(waits))
			buf := make([]byte, 100)
			_, err := c.Write([]byte("?"))
			n := 0
			if err == nil {
				n, err = c.Read(buf)
			}
			if err != nil {
				t.Fatal(err)
			}
			return string(buf[:n])
		}
		slow, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: two.LocalAddr.(*net.TCPAddr).IP}}).Dial("udp", "127.0.0.1:8101")
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		before, slowly := ask(quiet), ask(slow)
		for range relaySessions + 100 {
			c, err := net.Dial("udp", "127.0.0.1:8101")
			if err != nil {
				t.Fatal(err)
			}
			ask(c)
			c.Close()
		}
		if now := ask(quiet); now != before {
			t.Errorf("the other port's sender was forgotten: it comes from %s, and came from %s", now, before)
		}
		if now := ask(slow); now != slowly {
			t.Errorf("a sender was forgotten for those of another address: it comes from %s, and came from %s", now, slowly)
		}
	})
}

// TestRelayNumbers: a connection that gets the place of one which was just reset is not taken for that.
func TestRelayNumbers(t *testing.T) {
	onStage(t, false, func(s *stage) {
		for range 12 { // in which order the kernel tells what happened at once is chance
			relayNumbers(t, s)
		}
	})
}

func relayNumbers(t *testing.T, s *stage) {
	r, err := NewRelay(files.Most())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const most = 8
	r.most = most
	program, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	p := port(fmt.Sprintf("tcp 127.0.0.1:8101 127.0.0.1:%d", program.Addr().(*net.TCPAddr).Port))
	p.Strict = true
	h, err := s.rules.HoldPort(p)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(h.FD)
	if err := r.Serve(h.FD, "tcp", p.Addr, p.Port); err != nil {
		t.Fatal(err)
	}
	var all []net.Conn
	defer func() {
		for _, c := range all {
			c.Close()
		}
	}()
	dial := func(address string) net.Conn {
		d := net.Dialer{Timeout: waits, LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		c, err := d.Dial("tcp", "127.0.0.1:8101")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		return c
	}
	behind := func() net.Conn {
		program.(*net.TCPListener).SetDeadline(time.Now().Add(waits))
		c, err := program.Accept()
		if err != nil {
			t.Fatal("a new connection is not passed on: ", err)
		}
		all = append(all, c)
		return c
	}
	var conns []net.Conn
	for range most / 2 {
		conns = append(conns, dial("127.0.0.1"))
		behind()
	}
	// The relay stands still at the first of two new senders, so that it is told at once of the second, and of the end of what makes room for that.
	r.mu.Lock()
	fresh := []net.Conn{dial("127.0.0.2"), dial("127.0.0.3")}
	for _, c := range conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	r.mu.Unlock()
	for range fresh {
		behind().Write([]byte("x"))
	}
	for i, c := range fresh {
		c.SetDeadline(time.Now().Add(waits))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("new connection %d: %v", i, err)
		}
	}
}
