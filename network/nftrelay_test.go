package network

import (
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRelayShares: who keeps all connections that it gets of one port, or has senders of UDP beyond number there, takes none of another port's.
func TestRelayShares(t *testing.T) {
	onStage(t, false, func(s *stage) {
		r, err := NewRelay()
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
		dial := func(address string) net.Conn {
			c, err := net.DialTimeout("tcp", address, waits)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			return c
		}
		for range 2 * most { // the kernel takes them all
			dial("127.0.0.1:8101")
		}
		for range most / 2 {
			conns = append(conns, <-served)
		}
		c := dial("127.0.0.1:8102")
		c.SetDeadline(time.Now().Add(waits))
		select {
		case behind := <-served:
			conns = append(conns, behind)
			behind.SetDeadline(time.Now().Add(waits))
			for _, way := range [][2]net.Conn{{c, behind}, {behind, c}} {
				buf := make([]byte, 1)
				way[0].Write([]byte("x"))
				if _, err := way[1].Read(buf); err != nil || buf[0] != 'x' {
					t.Errorf("the other port: %v", err)
				}
			}
		case <-time.After(waits):
			t.Error("the other port takes no connection")
		}
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
		before := ask(quiet)
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
	})
}
