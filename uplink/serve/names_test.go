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
		for _, s := range passedServers([]byte(conf)) {
			got = append(got, s.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", conf, got, want)
		}
	}
}
