package plan

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/network/netip"
)

func TestMAC(t *testing.T) {
	for text, want := range map[string]string{
		"02:42:ac:11:00:02": "02:42:ac:11:00:02", "02-42-AC-11-00-fe": "02:42:ac:11:00:fe",
		"01:00:5e:00:00:01": "", "ff:ff:ff:ff:ff:ff": "", "00:00:00:00:00:00": "", "02:42:ac:11:00": "", "02:42:ac:11:00:0g": "", "02:42:ac:11:00:022": "",
		"02:42:ac:11:00+02": "", "": "", "+2:42:ac:11:00:02": "",
	} {
		m, err := ParseMAC(text)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is taken for %v", text, m)
		case want == "" && !strings.Contains(err.Error(), "is no MAC address"):
			t.Errorf("%q: %v", text, err)
		case want != "" && (err != nil || m.String() != want):
			t.Errorf("%q: %v, %v", text, m, err)
		}
	}
}

func TestHostDevice(t *testing.T) {
	seen := map[string]bool{}
	for n := range 2000 {
		name := HostDevice("0123456789abcdef0123456789abcdef", n)
		if seen[name] || len(name) > 15 || !strings.HasPrefix(name, "vk01234567") {
			t.Fatalf("device %d is %q", n, name)
		}
		seen[name] = true
	}
	if got := HostDevice("ab", 0); got != "vkaba" {
		t.Errorf("of a short ID: %q", got)
	}
}

// TestNetworkJSON: the engine keeps the value in a file.
func TestNetworkJSON(t *testing.T) {
	n := Network{
		Forward4: true, Gateway4: netip.MustParseAddr("172.17.0.1"),
		Bridges:   []Bridge{{Device: "kakuri0", Network: "bridge", Addrs: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")}, ICC: true, Masquerade4: true}},
		Endpoints: []Endpoint{{Driver: DriverBridge, MAC: MAC{2, 66, 172, 17, 0, 2}, Addrs: []netip.Prefix{netip.MustParsePrefix("fd00::2/64")}, Routes: []Route{{To: netip.MustParsePrefix("10.0.0.0/8")}}}},
		Publish:   []Publish{{Proto: "tcp", HostAddr: netip.IPv6Unspecified(), HostPort: 8080, Addr: netip.MustParseAddr("fd00::2"), Port: 80}},
		Resolver:  &Resolver{},
	}
	data, err := json.Marshal(n)
	var back Network
	if err != nil || json.Unmarshal(data, &back) != nil || !reflect.DeepEqual(back, n) {
		t.Errorf("%s, %v: back %+v", data, err, back)
	}
	if got := n.Publish[0].String(); got != "[::]:8080->80/tcp" {
		t.Errorf("published: %s", got)
	}
}
