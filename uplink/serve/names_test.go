package serve

import (
	"slices"
	"testing"
)

func TestPassedServers(t *testing.T) {
	for conf, want := range map[string][]string{
		"# nameserver 127.0.0.9\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch x\nnameserver ::1\nnameserver 127.0.0.53\nnameserver\n": {"127.0.0.53", "::1"},
		"nameserver 192.0.2.1\n": nil,
		"nameserver 127.0.0.53# a remark\nnameserver 127.0.0.54;another\n":                             {"127.0.0.53", "127.0.0.54"},
		"nameserver fe80::1%lo\nnameserver fe80::1%1\nnameserver fe80::1%none\nnameserver fe80::2%7\n": {"fe80::1%1", "fe80::2%7"},
		"nameserver 192.0.2.1%lo\n":                  nil,
		"nameserver 0.0.0.0\nnameserver ::\n":        {"127.0.0.1", "::1"},
		"# none, so one of this machine\nsearch x\n": {"127.0.0.1"},
		"": {"127.0.0.1"},
	} {
		var got []string
		for _, s := range passedServers([]byte(conf), func(string) []byte { return nil }) {
			got = append(got, s.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", conf, got, want)
		}
	}
}

// TestPassedResolved: whom systemd-resolved asks is asked in its place, so what of that is on a loopback or a link is passed on as well.
func TestPassedResolved(t *testing.T) {
	read := func(name string) []byte {
		return []byte("nameserver 192.0.2.1\nnameserver fe80::5%1\nnameserver 127.0.0.8\n")
	}
	for conf, want := range map[string][]string{
		"nameserver 127.0.0.53\n":                       {"127.0.0.53", "fe80::5%1", "127.0.0.8"},
		"nameserver 127.0.0.53\nnameserver 192.0.2.9\n": {"127.0.0.53"},
		"nameserver 192.0.2.9\n":                        nil,
	} {
		var got []string
		for _, s := range passedServers([]byte(conf), read) {
			got = append(got, s.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", conf, got, want)
		}
	}
}
