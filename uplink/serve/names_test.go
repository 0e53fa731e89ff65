package serve

import (
	"slices"
	"testing"

	"github.com/kakuri/kakuri/network/netip"
)

func TestLoopbackServers(t *testing.T) {
	got := loopbackServers("# nameserver 127.0.0.9\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch x\nnameserver ::1\nnameserver 127.0.0.53\nnameserver\n")
	if want := []netip.Addr{netip.MustParseAddr("127.0.0.53"), netip.MustParseAddr("::1")}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
