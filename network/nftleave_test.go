package network

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/network/netip"
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
		// Others do leave.
		from[3], from6 = 77, netip.MustParseAddr("2001:db8:1::77")
		s.frames("a1", four(gateway, from, to, "begun"), four(gateway, from, to, "once more"), frame6(gateway, from6, to6, "begun of IPv6"), frame6(gateway, from6, to6, "last"))
		want := []string{"begun from 192.0.2.1", "once more from 192.0.2.1", "begun of IPv6 from 2001:db8:9::1", "last from 2001:db8:9::1"}
		if got := away("last"); !slices.Equal(got, want) {
			t.Errorf("%q arrived, not %q", got, want)
		}
	})
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

// tap hears the packets that end in a word and come to a place: what it returns gives their words and senders, up to those with a text.
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
			text := string(b[bytes.LastIndexFunc(b[:n], func(r rune) bool { return r != ' ' && !('0' <= r && r <= 'z') })+1 : n])
			if len(text) < 4 {
				continue
			}
			sender, _ := netip.AddrFromSlice(b[8:24])
			if b[0]>>4 == 4 {
				sender, _ = netip.AddrFromSlice(b[12:16])
			}
			list = append(list, fmt.Sprintf("%s from %s", text, sender))
			if strings.HasSuffix(text, last) {
				return list
			}
		}
	}
}
