package network

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// TestLeavesMasqueraded: what leaves a network whose containers have the machine's address outside has that, or does not leave: be it of no connection, or of one that the kernel knows from the packet's
// way by the bridge, to a neighbour, which br_netfilter shows to it.
func TestLeavesMasqueraded(t *testing.T) {
	onStage(t, true, func(s *stage) {
		s.bridges(bridgeA, bridgeB)
		s.serve("away", "[::]:80")
		s.want("a1", "tcp", "192.0.2.2:80", "away 192.0.2.1")
		s.want("a1", "udp", "[2001:db8:9::2]:80", "away 2001:db8:9::1")
		gateway, neighbour := s.mac("", "kba"), s.mac("a2", "eth0")
		from, to := [4]byte{10, 0, 1, 11}, [4]byte{192, 0, 2, 2}
		from6, to6 := netip.MustParseAddr("2001:db8:1::11"), netip.MustParseAddr("2001:db8:9::2")
		four := func(mac net.HardwareAddr, from, to [4]byte, text string) []byte {
			return frame(mac, nil, from, to, text)
		}
		echo := func(kind byte, text string) []byte { // an answer that nobody waits for
			b := append([]byte{kind, 0, 0, 0, 0, 1, 0, 1}, text...)
			sum := onesSum(0, b)
			b[2], b[3] = byte(sum>>8), byte(sum)
			return b
		}
		away := s.tap("away")
		s.frames("a1", frameOf(gateway, nil, unix.IPPROTO_ICMP, from, to, echo(0, "of no connection")),
			frameOf(gateway, nil, unix.IPPROTO_TCP, from, to, append([]byte{9, 9, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x04, 1, 1, 0, 0, 0, 0}, "a reset"...)),
			frame6Of(gateway, unix.IPPROTO_ICMPV6, from6, to6, echo(129, "of no connection of IPv6")),
			frame6Of(gateway, unix.IPPROTO_ICMPV6, from6, to6, echo(136, "about a neighbour")))
		// The same to a neighbour before, and with an answer that somebody on the bridge gives.
		s.frames("a1", four(neighbour, from, to, "past"), frame6(neighbour, from6, to6, "past"))
		s.frames("a1", four(gateway, from, to, "known"), frame6(gateway, from6, to6, "known of IPv6"))
		back := func(f []byte, ports int) []byte { // by the ports that it came from
			f[ports], f[ports+1], f[ports+2], f[ports+3] = f[ports+2], f[ports+3], f[ports], f[ports+1]
			return f
		}
		s.frames("a2", back(four(s.mac("a1", "eth0"), to, from, "answer"), 34), back(frame6(s.mac("a1", "eth0"), to6, from6, "answer"), 54))
		s.frames("a1", four(gateway, from, to, "answered"), frame6(gateway, from6, to6, "answered of IPv6"))
		// Or of one that began with a packet in the name of who is away, to a neighbour by this machine.
		other := [4]byte{10, 0, 1, 12}
		s.frames("a1", four(gateway, to, other, "strange"), frame6(gateway, to6, netip.MustParseAddr("2001:db8:1::12"), "strange"))
		s.frames("a1", back(four(gateway, other, to, "backwards"), 34), back(frame6(gateway, netip.MustParseAddr("2001:db8:1::12"), to6, "backwards"), 54))
		// Others do leave.
		from[3], from6 = 77, netip.MustParseAddr("2001:db8:1::77")
		s.frames("a1", four(gateway, from, to, "begun"), four(gateway, from, to, "once more"), frame6(gateway, from6, to6, "begun of IPv6"), frame6(gateway, from6, to6, "last"))
		want := []string{"begun from 192.0.2.1", "once more from 192.0.2.1", "begun of IPv6 from 2001:db8:9::1", "last from 2001:db8:9::1"}
		if got := away("last"); !slices.Equal(got, want) {
			t.Errorf("%q arrived, not %q", got, want)
		}
	})
}

// TestAnswersByAnother: a container of two networks answers who came to it by the one, where all is let through, by the other, through which its default route leads.
func TestAnswersByAnother(t *testing.T) {
	for name, b := range map[string]plan.Bridge{
		"routed":          {Device: "kbb", ICC: true, Routed4: true, Routed6: true},
		"nat-unprotected": {Device: "kbb", ICC: true, Masquerade4: true, Masquerade6: true, Unprotected4: true, Unprotected6: true},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, false, func(s *stage) {
				s.bridges(bridgeA, b)
				s.shell(`ip link add vb1a type veth peer name eth1 netns b1; ip link set vb1a master kba up
					ip -n b1 addr add 10.0.1.21/24 dev eth1; ip -n b1 addr add 2001:db8:1::21/64 dev eth1 nodad; ip -n b1 link set eth1 up
					ip -n b1 route replace default via 10.0.1.1; ip -n b1 -6 route replace default via 2001:db8:1::1
					ip netns exec b1 sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0`)
				if b.Routed4 {
					list := []plan.Publish{port("tcp 0.0.0.0:0 10.0.2.11:80"), port("tcp [::]:0 [2001:db8:2::11]:80")}
					for i := range list {
						list[i].Bridge, list[i].Routed = b.Device, true
					}
					if err := s.rules.Publish("b1", list); err != nil {
						t.Fatal(err)
					}
				}
				s.serve("b1", "[::]:80")
				s.want("away", "tcp", "10.0.2.11:80", "b1 192.0.2.2")
				s.want("away", "tcp", "[2001:db8:2::11]:80", "b1 2001:db8:9::2")
			})
		})
	}
}

// TestOwnGroups: what this machine sends to a group or a broadcast of a network's is heard by its own programs, as a server for names on the link (mDNS) is asked.
func TestOwnGroups(t *testing.T) {
	onStage(t, false, func(s *stage) {
		addrs := []netip.Prefix{netip.MustParsePrefix("10.0.2.1/24"), netip.MustParsePrefix("2001:db8:2::1/64")}
		s.bridges(bridgeA, plan.Bridge{Device: "kbb", ICC: true, Internal: true, Addrs: addrs})
		for device, subnet := range map[string]string{"kba": "10.0.1", "kbb": "10.0.2"} {
			link, err := net.InterfaceByName(device)
			if err != nil {
				t.Fatal(err)
			}
			all := s.socket("", "0.0.0.0", 5354)
			four, err := net.ListenMulticastUDP("udp4", link, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
			if err != nil {
				t.Fatal(err)
			}
			six, err := net.ListenMulticastUDP("udp6", link, &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: 5353, Zone: device})
			if err != nil {
				t.Fatal(err)
			}
			sender := s.socket("", subnet+".1", 0)
			s.say(sender, "broadcast", subnet+".255", 5354)
			s.say(sender, "group", "224.0.0.251", 5353)
			link6, err := net.Dial("udp6", "[ff02::fb%"+device+"]:5353")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := link6.Write([]byte("group of IPv6")); err != nil {
				t.Fatal(err)
			}
			for want, c := range map[string]*net.UDPConn{"broadcast": all, "group": four, "group of IPv6": six} {
				got := make([]byte, 100)
				c.SetDeadline(time.Now().Add(waits / 10))
				if n, err := c.Read(got); string(got[:n]) != want {
					t.Errorf("%s: %q, %v, not %q", device, got[:n], err, want)
				}
				c.Close()
			}
			link6.Close()
		}
	})
}

// TestForgedConnections: a container that sends to itself in the name of one of another network, by the machine or a neighbour's MAC, so that the kernel takes what it sends there for answers, reaches
// nothing by that; nor does it a port of this machine that a firewall closes, nor somebody on the wire a container by a packet in its name.
func TestForgedConnections(t *testing.T) {
	for _, network := range []struct {
		name        string
		brNetfilter bool
		plan.Bridge
	}{
		{"nat", false, bridgeB}, {"without masquerading", false, plan.Bridge{Device: "kbb", ICC: true}}, {"internal", false, plan.Bridge{Device: "kbb", ICC: true, Internal: true}},
		{"nat, br_netfilter", true, bridgeB}, {"without masquerading, br_netfilter", true, plan.Bridge{Device: "kbb", ICC: true}}, {"internal, br_netfilter", true, plan.Bridge{Device: "kbb", ICC: true, Internal: true}},
	} {
		t.Run(network.name, func(t *testing.T) {
			onStage(t, network.brNetfilter, func(s *stage) { forgedConnections(s, network.Bridge) })
		})
	}
}

func forgedConnections(s *stage, b plan.Bridge) {
	s.bridges(bridgeA, b)
	s.shell(`nft 'add table inet firewall; add chain inet firewall input { type filter hook input priority 0; }; add rule inet firewall input ct state established accept; add rule inet firewall input udp dport 2313 drop'
		sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.wire.rp_filter=0`)
	gateway, neighbour, wire := s.mac("", "kba"), s.mac("a2", "eth0"), s.mac("", "wire")
	for _, c := range []struct {
		who, at       string
		by            net.HardwareAddr
		place, victim string
	}{
		{"a1", "10.0.1.11", gateway, "b1", "10.0.2.11"}, {"a1", "2001:db8:1::11", gateway, "b1", "2001:db8:2::11"},
		{"a1", "10.0.1.11", neighbour, "b1", "10.0.2.11"}, {"a1", "2001:db8:1::11", neighbour, "b1", "2001:db8:2::11"},
		{"a1", "10.0.1.11", neighbour, "", "10.0.1.1"}, {"a1", "2001:db8:1::11", neighbour, "", "2001:db8:1::1"},
		{"a1", "10.0.1.11", neighbour, "", "192.0.2.1"},
		{"away", "192.0.2.2", wire, "a1", "10.0.1.11"}, {"away", "2001:db8:9::2", wire, "a1", "2001:db8:1::11"},
	} {
		me, victim := netip.MustParseAddr(c.at), netip.MustParseAddr(c.victim)
		heard, attacker := s.socket(c.place, c.victim, 2313), s.socket(c.who, c.at, 7778)
		if me.Is4() {
			s.frames(c.who, frame(c.by, nil, [4]byte(victim.AsSlice()), [4]byte(me.AsSlice()), "forged"))
		} else {
			s.frames(c.who, frame6(c.by, victim, me, "forged"))
		}
		s.say(attacker, "answer", c.victim, 2313)
		time.Sleep(20 * time.Millisecond) // while a neighbour is found out, one packet waits
		s.say(attacker, "answer", c.victim, 2313)
		heard.SetDeadline(time.Now().Add(100 * time.Millisecond))
		buf := make([]byte, 100)
		if n, _, err := heard.ReadFrom(buf); err == nil {
			s.t.Errorf("from %s by %s, %s at %q hears %q", c.at, c.by, c.victim, c.place, buf[:n])
		}
		heard.Close()
		attacker.Close()
	}
}

// mac is the address of a device of a place.
func (s *stage) mac(place, device string) (m net.HardwareAddr) {
	s.t.Helper()
	err := s.in(place, func() error {
		d, err := net.InterfaceByName(device)
		if err == nil {
			m = d.HardwareAddr
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// tap hears the packets of a few protocols that come to a place: what it returns gives what they carry and their senders, up to a text.
func (s *stage) tap(place string) func(last string) []string {
	s.t.Helper()
	fd := -1
	err := s.in(place, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.ETH_P_ALL<<8)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { unix.Close(fd) })
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(waits / time.Second)})
	return func(last string) (list []string) {
		for b := make([]byte, 1500); ; {
			n, from, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				s.t.Fatalf("%q: %v", list, err)
			}
			if l, ok := from.(*unix.SockaddrLinklayer); !ok || l.Pkttype != unix.PACKET_HOST {
				continue
			}
			text, sender := carried(b[:n])
			if text == "" {
				continue
			}
			list = append(list, fmt.Sprintf("%s from %s", text, sender))
			if text == last {
				return list
			}
		}
	}
}

// carried is what a packet has behind its headers.
func carried(b []byte) (text string, sender netip.Addr) {
	proto, at := b[6], 40
	if b[0]>>4 == 4 {
		proto, at = b[9], 20
		sender, _ = netip.AddrFromSlice(b[12:16])
	} else {
		sender, _ = netip.AddrFromSlice(b[8:24])
	}
	switch proto {
	case unix.IPPROTO_TCP:
		at += 20
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		if at += 8; len(b) == at || b[at] < 'a' { // what this machine and its neighbours say of themselves
			return "", sender
		}
	default:
		at += 8
	}
	return string(b[min(at, len(b)):]), sender
}
