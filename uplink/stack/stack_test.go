package stack

import (
	stdip "net/netip"
	"testing"
)

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
