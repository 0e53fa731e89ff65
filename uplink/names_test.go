package uplink_test

import (
	"fmt"
	"testing"

	"github.com/kakuri/kakuri/uplink"
)

func TestParseResolv(t *testing.T) {
	r := uplink.ParseResolv([]byte("# a comment\nnameserver 127.0.0.53\nnameserver fe80::1%lo ; more\nsearch a.example b.example # and no more\noptions edns0\noptions trust-ad\nnameserver nonsense\n"))
	if got, want := fmt.Sprint(r), "{[127.0.0.53 fe80::1%1] [a.example b.example] [edns0 trust-ad]}"; got != want {
		t.Errorf("it is %s, want %s", got, want)
	}
	for conf, want := range map[string]string{
		"": "[127.0.0.1] false", "nameserver 0.0.0.0\nnameserver ::\n": "[127.0.0.1 ::1] false",
		"nameserver 127.0.0.53\n": "[127.0.0.53] true", "nameserver 127.0.0.53\nnameserver 192.0.2.1\n": "[127.0.0.53 192.0.2.1] false",
	} {
		r := uplink.ParseResolv([]byte(conf))
		if got := fmt.Sprint(r.Asked(), " ", r.Stub()); got != want {
			t.Errorf("%q: %s, want %s", conf, got, want)
		}
	}
}
