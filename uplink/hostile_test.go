package uplink_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

// withSum puts the checksum of IPv4 into a header, or of ICMP into a message: RFC 1071.
func withSum(b []byte, at int) []byte {
	b[at], b[at+1] = 0, 0
	sum := 0
	for i := 0; i+1 < len(b); i += 2 {
		sum += int(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[at:], ^uint16(sum))
	return b
}

// packet4 is one of IPv4, with options, from the container to the outside.
func packet4(proto byte, options, payload []byte) []byte {
	from, to := netip.MustParseAddr(containerAddr4), netip.MustParseAddr(outsideAddr4)
	size := 20 + len(options)
	b := append([]byte{0x40 | byte(size/4), 0, 0, byte(size + len(payload)), 0, 1, 0, 0, 64, proto, 0, 0}, from.AsSlice()...)
	b = append(append(b, to.AsSlice()...), options...)
	return append(withSum(b, 10), payload...)
}

// packet6 is one of IPv6, whose payload begins with a header of a kind.
func packet6(kind byte, payload []byte) []byte {
	from, to := netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00:1::2")
	b := append([]byte{0x60, 0, 0, 0, 0, byte(len(payload)), kind, 255}, from.AsSlice()...)
	return append(append(b, to.AsSlice()...), payload...)
}

// TestEndOfBusy: an uplink ends while packets come that each are the first to somebody.
func TestEndOfBusy(t *testing.T) {
	p := newPlace(t)
	p.start(uplink.Builtin)
	var c net.PacketConn
	p.container.do(func() { c, _ = net.ListenPacket("udp4", ":0") })
	if c == nil {
		t.Fatal("no socket")
	}
	var senders sync.WaitGroup
	for i := range 2 {
		senders.Go(func() {
			var err error
			for port := i; !errors.Is(err, net.ErrClosed); port += 2 {
				_, err = c.WriteTo([]byte("?"), &net.UDPAddr{IP: net.ParseIP(outsideAddr4), Port: 20000 + port%40000})
			}
		})
	}
	nstest.Until(t, "packets", func() bool { return p.descriptors() > 100 })
	p.must(request{Op: "end"})
	c.Close()
	senders.Wait()
}

// TestHostilePackets: packets of containers that are malformed in all ways neither end the uplink nor stay in its memory.
func TestHostilePackets(t *testing.T) {
	p := newPlace(t)
	s := p.start(uplink.Builtin)
	p.outside.listen(t, ":7", echo)
	udp := []byte{0x90, 0, 0, 7, 0, 12, 0, 0, 1, 2, 3, 4}
	tcp := []byte{0x91, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0xa0, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}
	echo4, echo6 := []byte{8, 0, 0, 0, 0, 1, 0, 1, 9, 9, 9, 9}, []byte{128, 0, 0, 0, 0, 1, 0, 1}
	tooBig := append(withSum([]byte{3, 4, 0, 0, 0, 0, 0, 68}, 2), packet4(17, nil, udp)...)
	seeds := [][]byte{
		packet4(17, nil, udp), packet4(6, nil, tcp), packet4(1, nil, withSum(echo4, 2)), packet4(1, nil, tooBig), packet4(2, nil, echo4),
		packet4(17, []byte{7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0}, udp), packet4(17, []byte{68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0}, udp), packet4(17, []byte{148, 4, 0, 0}, udp),
		packet6(17, udp), packet6(6, tcp), packet6(58, echo6), packet6(58, append([]byte{2, 0, 0, 0, 0, 0, 5, 0}, packet6(17, udp)...)), packet6(58, []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}),
		packet6(0, append([]byte{17, 0, 5, 2, 0, 0, 1, 0}, udp...)), packet6(44, append([]byte{17, 0, 0, 1, 0, 0, 0, 1}, udp...)), packet6(43, append([]byte{60, 0, 0, 1, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0}, udp...)),
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(1, seed))
	most := 0
	p.world.do(func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		device, _ := unix.NewIfreq("uplink")
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, device); err != nil {
			t.Error(err)
			return
		}
		to := &unix.SockaddrLinklayer{Ifindex: int(device.Uint32())}
		for end, i := time.Now().Add(2*time.Second), 0; time.Now().Before(end); i++ {
			b := slices.Clone(seeds[r.IntN(len(seeds))])
			to.Protocol = 0x0008 // in the network's order
			if b[0]>>4 == 6 {
				to.Protocol = 0xdd86
			}
			for range r.IntN(4) {
				b[r.IntN(len(b))] = byte(r.Uint32())
			}
			if to.Protocol == 0x0008 && r.IntN(4) > 0 { // else nobody looks further
				withSum(b[:min(max(20, int(b[0]&15)*4), len(b))], 10)
			}
			if r.IntN(8) == 0 {
				b = b[:1+r.IntN(len(b)-1)]
			}
			unix.Sendto(fd, b, 0, to)
			if i%5000 == 0 {
				most = max(most, p.memory(s.PID))
			}
		}
	})
	transfer(t, p.container.dial(t, "tcp", outsideAddr4+":7"), 1000)
	if now := p.must(request{Op: "status"}).Status; now.PID != s.PID {
		t.Errorf("the uplink is the process %d, and was %d", now.PID, s.PID)
	}
	if most > 100<<10 {
		t.Errorf("it had %d KiB of memory", most)
	}
}
