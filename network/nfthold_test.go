package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// publishAgain publishes and unpublishes a port of an owner many times, and leaves it published: DIR OWNER PORT TIMES.
func publishAgain(args []string) int {
	times, _ := strconv.Atoi(args[3])
	r := OpenRules(args[0])
	list := ports("tcp 0.0.0.0:"+args[2]+" 10.0.1.11:80", "tcp 127.0.0.1:"+args[2]+" 10.0.1.11:80", "udp [::]:"+args[2]+" [2001:db8:1::11]:80")
	for i := range times {
		err := r.AddBridge(bridgeA)
		if err == nil {
			err = r.Publish(args[1], list)
		}
		if err == nil && i < times-1 {
			err = r.Unpublish(args[1])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

// TestManyAtOnce: processes that publish, while somebody flushes the ruleset, and one that repairs.
func TestManyAtOnce(t *testing.T) {
	onStage(t, false, func(s *stage) {
		var all sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			all.Go(func() {
				out, err := nstest.Part("publish", s.dir, "owner"+strconv.Itoa(i), strconv.Itoa(8000+i), "25").CombinedOutput()
				if err != nil {
					errs[i] = fmt.Errorf("%w: %s", err, out)
				}
			})
		}
		for range 10 {
			exec.Command("nft", "flush", "ruleset").Run()
			if _, err := s.rules.Repair(); err != nil {
				t.Error(err)
			}
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		if _, err := s.rules.Repair(); err != nil {
			t.Fatal(err)
		}
		if faults, err := s.rules.Check(); err != nil || len(faults) > 0 {
			t.Errorf("%v, %v", faults, err)
		}
		state, err := ReadTable()
		if err != nil || len(state.Ports) != 3*len(errs) || !state.Intact {
			t.Errorf("%+v, %v", state, err)
		}
	})
}

// TestKilled: what a process that was killed had published is found and taken away.
func TestKilled(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		s.publish("alive", "tcp 0.0.0.0:9000 10.0.1.11:80")
		for i := range 25 {
			c := nstest.Part("publish", s.dir, "killed", "8000", "100000")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			ports := filepath.Join(s.dir, "ports")
			nstest.Until(t, "a first port", func() bool {
				list, _ := os.ReadDir(ports)
				return len(list) > 1
			})
			time.Sleep(rand.N(4 * time.Millisecond)) // anywhere in what it does
			c.Process.Kill()
			c.Wait()
			if _, err := s.rules.Sweep(func(owner string) bool { return owner == "alive" }); err != nil {
				t.Fatal(err)
			}
			state, err := ReadTable()
			if err != nil || !state.Intact || len(state.Ports) != 1 || state.Ports[0].Owner != "alive" || len(state.Bridges) != 1 {
				t.Fatalf("kill %d: %+v, %v", i, state, err)
			}
			if got := s.list(); strings.Contains(got, "killed") {
				t.Fatalf("kill %d left\n%s", i, got)
			}
			if list, err := os.ReadDir(ports); err != nil || len(list) != 1 { // no record cut off, either
				t.Fatalf("kill %d left %v, %v", i, list, err)
			}
		}
	})
}

// TestHoldPort: nobody gets a port that is held, and who has one is named.
func TestHoldPort(t *testing.T) {
	onStage(t, false, func(s *stage) {
		hold := func(text string) Held {
			t.Helper()
			h, err := s.rules.HoldPort(port(text))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Close(h.FD) })
			return h
		}
		taken := func(text, want string) {
			t.Helper()
			h, err := s.rules.HoldPort(port(text))
			if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, not %q", text, err, want)
			}
			if err == nil {
				unix.Close(h.FD)
			}
		}
		for _, proto := range []string{"tcp", "udp"} {
			first := hold(proto + " 0.0.0.0:8080 10.0.1.11:80")
			if first.Relay || first.Port != 8080 {
				t.Errorf("%+v", first)
			}
			six := hold(proto + " [::]:8080 [2001:db8:1::11]:80")
			if !six.Relay {
				t.Errorf("%+v", six)
			}
			// Before the rules are there nobody answers.
			if proto == "tcp" {
				s.want("", proto, "127.0.0.1:8080", "refused")
			} else {
				s.silent([3]string{"", proto, "127.0.0.1:8080"})
			}
			s.publish("first", proto+" 0.0.0.0:8080 10.0.1.11:80", proto+" [::]:8080 [2001:db8:1::11]:80")
			taken(proto+" 0.0.0.0:8080 10.0.1.12:80", "container first publishes it")
			taken(proto+" 127.0.0.1:8080 10.0.1.12:80", "container first publishes it")
			taken(proto+" [::]:8080 [2001:db8:1::12]:80", "container first publishes it")
			taken(proto+" [::1]:8080 [2001:db8:1::12]:80", "container first publishes it")
			var host func(address string) error
			if proto == "tcp" {
				host = func(address string) error {
					l, err := net.Listen("tcp", address)
					if err == nil {
						l.Close()
					}
					return err
				}
			} else {
				host = func(address string) error {
					l, err := net.ListenPacket("udp", address)
					if err == nil {
						l.Close()
					}
					return err
				}
			}
			for _, address := range []string{"0.0.0.0:8080", "127.0.0.1:8080", "[::]:8080", "192.0.2.1:8080", "[2001:db8:9::1]:8080"} {
				if err := host(address); !errors.Is(err, unix.EADDRINUSE) {
					t.Errorf("a program gets %s of %s: %v", address, proto, err)
				}
			}
			any := hold(proto + " 0.0.0.0:0 10.0.1.11:80")
			if any.Port == 0 {
				t.Errorf("no port for %s", proto)
			}
		}
		l, err := net.Listen("tcp", "127.0.0.1:8888")
		if err != nil {
			t.Fatal(err)
		}
		self := fmt.Sprintf("process %d (", os.Getpid())
		taken("tcp 0.0.0.0:8888 10.0.1.11:80", self)
		u, err := net.ListenPacket("udp", ":8888")
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		taken("udp 0.0.0.0:8888 10.0.1.11:80", self)
		// Connections of a program that ended are no hindrance, and then nobody else gets the port either.
		go func() {
			c, err := l.Accept()
			if err == nil {
				c.Close()
			}
		}()
		c, err := net.Dial("tcp", "127.0.0.1:8888")
		if err != nil {
			t.Fatal(err)
		}
		io.ReadAll(c)
		c.Close()
		l.Close()
		hold("tcp 0.0.0.0:8888 10.0.1.11:80")
		taken("tcp 0.0.0.0:8888 10.0.1.11:80", "")
		s.want("", "tcp", "127.0.0.1:8888", "refused")
		if l, err := net.Listen("tcp", "127.0.0.1:8888"); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("a program gets the port: %v", err)
			l.Close()
		}
		// Nor are those of a port that was passed on, by a socket that ended them itself.
		strict := port("tcp 0.0.0.0:8889 10.0.1.11:80")
		strict.Strict = true
		for range 2 {
			h, err := s.rules.HoldPort(strict)
			if err != nil {
				t.Fatal(err)
			}
			c, err := net.Dial("tcp", "127.0.0.1:8889")
			if err != nil {
				t.Fatal(err)
			}
			fd, _, err := unix.Accept(h.FD)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
			io.ReadAll(c)
			c.Close()
			if l, err := net.Listen("tcp", ":8889"); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("a program gets a port that is passed on: %v", err)
				l.Close()
			}
			unix.Close(h.FD)
		}
		if _, err := s.rules.HoldPort(port("tcp 192.0.2.77:80 10.0.1.11:80")); !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Errorf("an address that the host has not: %v", err)
		}
	})
}

// TestRelay: [::1], strict ports, and IPv6 to a container without it.
func TestRelay(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		s.serve("a1", "[::]:80")
		r, err := NewRelay(files.Most())
		if err != nil {
			t.Fatal(err)
		}
		var list []plan.Publish
		var fds []int
		for _, proto := range []string{"tcp", "udp"} {
			strict := port(proto + " 0.0.0.0:8082 10.0.1.11:80")
			strict.Strict = true
			list = append(list, strict, port(proto+" [::]:8080 [2001:db8:1::11]:80"), port(proto+" [::1]:8081 [2001:db8:1::11]:80"), port(proto+" [::]:8083 10.0.1.11:80"), port(proto+" 0.0.0.0:8084 10.0.1.13:80"))
			list[len(list)-1].Strict = true // to nobody
		}
		for _, p := range list {
			h, err := s.rules.HoldPort(p)
			if err != nil || !h.Relay {
				t.Fatalf("%s: %+v, %v", p, h, err)
			}
			fds = append(fds, h.FD)
			if err := r.Serve(h.FD, p.Proto, p.Addr, p.Port); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.rules.Publish("a1", list); err != nil {
			t.Fatal(err)
		}
		for _, proto := range []string{"tcp", "udp"} {
			s.want("", proto, "[::1]:8080", "a1 2001:db8:1::1")
			s.want("", proto, "[::1]:8081", "a1 2001:db8:1::1")
			s.want("away", proto, "[2001:db8:9::1]:8080", "a1 2001:db8:9::2") // by rules
			s.want("away", proto, "192.0.2.1:8082", "a1 10.0.1.1")
			s.want("away", proto, "10.0.1.1:8082", "a1 10.0.1.1")
			s.want("a2", proto, "192.0.2.1:8082", "a1 10.0.1.1")
			s.want("", proto, "127.0.0.1:8082", "a1 10.0.1.1")
			s.want("away", proto, "[2001:db8:9::1]:8083", "a1 10.0.1.1")
			s.want("", proto, "[::1]:8083", "a1 10.0.1.1")
		}
		s.want("away", "tcp", "[2001:db8:9::1]:8081", "refused")
		// The host's input rules have their say on a strict port, and on no other.
		s.shell("nft 'table inet others { chain c { type filter hook input priority 0; policy accept; iifname wire th dport { 8080, 8082 } drop; }; }'")
		s.silent([3]string{"away", "tcp", "192.0.2.1:8082"}, [3]string{"away", "udp", "192.0.2.1:8082"})
		s.want("away", "tcp", "[2001:db8:9::1]:8080", "a1 2001:db8:9::2")
		s.shell("nft delete table inet others")
		// Much, both ways at once, with a side that ends first.
		s.bulk(t, "[::1]:8090", port("tcp [::1]:8090 [2001:db8:1::11]:90"), r)
		r.Close()
		for _, fd := range fds {
			unix.Close(fd)
		}
		s.want("", "tcp", "[::1]:8080", "refused")
	})
}

// bulk sends megabytes through a relay to a server that sends them back as they come, by several connections.
func (s *stage) bulk(t *testing.T, address string, p plan.Publish, r *Relay) {
	h, err := s.rules.HoldPort(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(h.FD) })
	if err := r.Serve(h.FD, p.Proto, p.Addr, p.Port); err != nil {
		t.Fatal(err)
	}
	err = s.in("a1", func() error {
		l, err := net.Listen("tcp", ":90")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					b := make([]byte, 32<<10)
					for {
						n, err := c.Read(b)
						if n > 0 {
							if _, err := c.Write(b[:n]); err != nil {
								break
							}
						}
						if err != nil {
							break
						}
					}
					io.WriteString(c, "end")
					c.Close()
				}()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			c, err := net.DialTimeout("tcp", address, waits)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(60 * time.Second))
			data := bytes.Repeat([]byte{byte(i), 1, 2, 3, 4, 5, 6}, 1<<20)
			go func() {
				c.Write(data)
				c.(*net.TCPConn).CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, append(data, "end"...)) {
				t.Errorf("connection %d: %d bytes of %d, %v", i, len(got), len(data)+3, err)
			}
		})
	}
	all.Wait()
}

// TestRedirectNames: in a namespace, of this user or of a user namespace, 127.0.0.11:53 leads to sockets at other ports, and port 53 is free; by whatever
// the kernel allows there, and by the translation that every one allows.
func TestRedirectNames(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.shell("unshare --user --map-root-user --net sh -c 'ip link set lo up; touch " + s.dir + "/up; exec sleep 60' & echo $! >" + s.dir + "/pid; until test -e " + s.dir + "/up; do sleep 0.01; done; touch /run/netns/owned; mount --bind /proc/$(cat " + s.dir + "/pid)/ns/net /run/netns/owned; kill $(cat " + s.dir + "/pid)")
		translated := func(ns int, udp, tcp uint16) error { return redirectNames(ns, translatedNames(udp, tcp)) }
		for _, place := range []string{"a1", "owned"} {
			ns, err := unix.Open("/run/netns/"+place, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(ns)
			for _, number := range []string{"5353", "6353"} {
				s.serveAs(place, "127.0.0.11:"+number, "names at "+number+" for")
			}
			s.serve(place, "0.0.0.0:53")
			for i, redirect := range []func(int, uint16, uint16) error{RedirectNames, translated} {
				for _, number := range []uint16{5353, 6353} {
					if err := redirect(ns, number, number); err != nil {
						t.Fatal(err)
					}
					for _, proto := range []string{"udp", "tcp"} {
						s.want(place, proto, "127.0.0.11:53", fmt.Sprintf("names at %d for 127.0.0.1", number))
						s.want(place, proto, "127.0.0.1:53", place+" 127.0.0.1")
					}
				}
				// A container's own rules see one connection, there and back.
				nsenter := "nsenter --net=/run/netns/" + place + " "
				s.shell(nsenter + "nft 'table ip own { chain i { type filter hook input priority 0; policy drop; ct state established,related accept; meta l4proto { tcp, udp } ct original proto-dst 53 accept; }; chain o { type filter hook output priority 0; ct state invalid drop; }; }'")
				for _, proto := range []string{"udp", "tcp"} {
					s.want(place, proto, "127.0.0.11:53", "names at 6353 for 127.0.0.1")
				}
				if err := s.in(place, func() error { return refusedNames(ns, redirect) }); err != nil {
					t.Error(err)
				}
				s.shell(nsenter + "nft delete table ip own")
				if err := s.in(place, func() error { return refusedNames(ns, redirect) }); err != nil {
					t.Error(err)
				}
				if err := redirect(ns, 6353, 6353); err != nil {
					t.Fatal(err)
				}
				err := s.in(place, func() error {
					out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
					if err != nil {
						return err
					}
					lacks := func(chains []nftChain) error {
						for _, c := range chains {
							for _, r := range c.rules {
								if !strings.Contains(string(out), "\t\t"+r.String()+"\n") {
									return fmt.Errorf("nft has not %s: %s", r, out)
								}
							}
						}
						return nil
					}
					rewrites, translates := lacks(namesChains(6353, 6353)), lacks(translatedNames(6353, 6353))
					if (rewrites == nil) == (translates == nil) || i == 1 && translates != nil || place == "a1" && i == 0 && rewrites != nil {
						return fmt.Errorf("%v; %v", rewrites, translates)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// refusedNames: where nobody is at the server's port, who asks is told so.
func refusedNames(ns int, redirect func(ns int, udp, tcp uint16) error) error {
	if err := redirect(ns, 7353, 7353); err != nil {
		return err
	}
	for _, proto := range []string{"udp", "tcp"} {
		c, err := net.Dial(proto, "127.0.0.11:53")
		if err == nil {
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err = c.Write([]byte("?")); err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			c.Close()
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("%s: asked where nobody is: %v", proto, err)
		}
	}
	return nil
}

// TestSCTP: a kernel without sockets for SCTP passes it on all the same.
func TestSCTP(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		p := port("sctp 0.0.0.0:8080 10.0.1.11:80")
		h, err := s.rules.HoldPort(p)
		if err != nil {
			t.Fatal(err)
		}
		if h.FD >= 0 {
			defer unix.Close(h.FD)
		}
		if err := s.rules.Publish("a1", []plan.Publish{p}); err != nil {
			t.Fatal(err)
		}
		var inside net.PacketConn
		err = s.in("a1", func() (err error) {
			inside, err = net.ListenPacket("ip4:132", "0.0.0.0")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer inside.Close()
		// A packet with one INIT chunk: RFC 9260, 3.3.2.
		be := binary.BigEndian
		packet := be.AppendUint32(be.AppendUint16(be.AppendUint16(nil, 40000), 8080), 0)
		packet = append(packet, 0, 0, 0, 0)                             // checksum
		packet = append(packet, 1, 0, 0, 20)                            // INIT, 20 bytes
		packet = be.AppendUint32(be.AppendUint32(packet, 77), 1<<16)    // tag, window
		packet = be.AppendUint32(be.AppendUint32(packet, 10<<16|10), 1) // streams, first number
		binary.LittleEndian.PutUint32(packet[8:], crc32.Checksum(packet, crc32.MakeTable(crc32.Castagnoli)))
		b := make([]byte, 2000)
		got := "nothing"
		for range 20 {
			err = s.in("away", func() error {
				c, err := net.Dial("ip4:132", "192.0.2.1")
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.Write(packet)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			inside.SetDeadline(time.Now().Add(500 * time.Millisecond))
			if n, from, err := inside.ReadFrom(b); err == nil && n >= 4 {
				got = fmt.Sprint(from, " to port ", be.Uint16(b[2:]))
				break
			}
		}
		if got != "192.0.2.2 to port 80" {
			t.Errorf("of SCTP came %s", got)
		}
	})
}

// BenchmarkPublish is what a launch pays: a port published beside others, and a bridge that is there already.
func BenchmarkPublish(b *testing.B) {
	bridge := plan.Bridge{Device: "kba", ICC: true, Masquerade4: true}
	for _, others := range []int{0, 1000} {
		r := OpenRules(b.TempDir())
		publish := func(b *testing.B, n int) {
			p := port("tcp 0.0.0.0:1 10.0.1.11:80")
			p.HostPort, p.Bridge, p.Addr = uint16(1+n), "", netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
			if err := r.Publish("owner"+strconv.Itoa(n), []plan.Publish{p}); err != nil {
				b.Fatal(err)
			}
		}
		if err := r.AddBridge(bridge); err != nil {
			b.Fatal(err)
		}
		for n := range others {
			publish(b, n)
		}
		n := others
		b.Run(fmt.Sprint("port/beside=", others), func(b *testing.B) {
			for b.Loop() {
				publish(b, n)
				n++
			}
		})
		b.Run(fmt.Sprint("bridge/beside=", others), func(b *testing.B) {
			for b.Loop() {
				if err := r.AddBridge(bridge); err != nil {
					b.Fatal(err)
				}
			}
		})
		if _, err := r.Sweep(func(string) bool { return false }); err != nil {
			b.Error(err)
		}
		if err := r.RemoveBridge("kba", ""); err != nil {
			b.Fatal(err)
		}
	}
}
