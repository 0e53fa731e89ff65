package stack

import (
	"container/list"
	stdip "net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// TestShares: an address gets as many as are free, and all that is given back can be had again.
func TestShares(t *testing.T) {
	s := newShare(100)
	addr := func(n byte) tcpip.Address { return tcpip.AddrFrom4([4]byte{10, 0, 0, n}) }
	take := func(n byte) (took int) {
		for s.take(addr(n)) {
			took++
		}
		return took
	}
	if a, b, c := take(1), take(2), take(3); a != 50 || b != 25 || c != 13 || s.taken() != 88 {
		t.Errorf("%d, %d and %d of 100 are taken", a, b, c)
	}
	for n, took := range map[byte]int{1: 50, 2: 25, 3: 13} {
		for range took {
			s.give(addr(n))
		}
	}
	if s.taken() != 0 || len(s.of) != 0 || take(4) != 50 {
		t.Errorf("what was given back: %+v", s)
	}
	if one := newShare(1); !one.take(addr(1)) || one.take(addr(2)) {
		t.Error("a share of one")
	}
}

// TestFlows: who sends to many ports loses flows of its own.
func TestFlows(t *testing.T) {
	f := &flows{most: maxFlows, order: list.New(), of: map[tcpip.Address]*list.List{}, byKey: map[flowKey]*flow{}, byFD: map[int]*flow{}}
	addr := func(n byte) tcpip.Address { return tcpip.AddrFrom4([4]byte{10, 0, 0, n}) }
	send := func(n byte, port int) {
		f.makeRoom(addr(n))
		f.add(&flow{key: flowKey{udp.ProtocolNumber, stack.TransportEndpointID{RemoteAddress: addr(n), LocalPort: uint16(port)}}, fd: -1})
	}
	has := func(n byte) int {
		if f.of[addr(n)] == nil {
			return 0
		}
		return f.of[addr(n)].Len()
	}
	send(1, 53)
	for port := range 2 * maxFlows {
		send(2, port)
	}
	if has(1) != 1 || has(2) != maxFlows/2 || f.order.Len() != 1+has(2) {
		t.Errorf("%d and %d flows, %d in all", has(1), has(2), f.order.Len())
	}
	for n := 3; n < 100; n++ { // more than there is for each
		for port := range 500 {
			send(byte(n), port)
		}
	}
	if f.order.Len() > maxFlows || has(99) == 0 {
		t.Errorf("%d flows in all, %d of the last address", f.order.Len(), has(99))
	}
	for f.order.Len() > 0 {
		f.lose(addr(2))
	}
	if len(f.of) != 0 || len(f.byKey) != 0 {
		t.Errorf("left are %v", f.of)
	}
}

// TestReachable: the machine's loopback is refused by whatever address it is meant.
func TestReachable(t *testing.T) {
	s := &Stack{gateways: []stdip.Addr{stdip.MustParseAddr("198.19.255.253")}}
	for text, want := range map[string]bool{
		"192.0.2.1": true, "10.0.0.1": true, "169.254.169.254": true, "2001:db8::1": true, "fd00::1": true, "64:ff9b::192.0.2.1": true, "240.0.0.1": true,
		"127.0.0.1": false, "127.255.255.254": false, "0.0.0.0": false, "0.1.2.3": false, "255.255.255.255": false, "224.0.0.1": false, "198.19.255.253": false,
		"::1": false, "::": false, "::127.0.0.1": false, "::ffff:127.0.0.1": false, "::ffff:192.0.2.1": false, "ff02::1": false, "fe80::1": false,
	} {
		if got := s.reachable(stdip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if s.reachable(stdip.Addr{}) {
		t.Error("no address is one")
	}
}
