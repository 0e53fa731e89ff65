package serve

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/kakuri/kakuri/internal/dbus"
	"github.com/kakuri/kakuri/internal/dbus/fakebus"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/uplink"
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
		list, _ := passedServers([]byte(conf), func(string) []byte { return nil })
		for _, s := range list {
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
		list, behind := passedServers([]byte(conf), read)
		if behind != (conf == "nameserver 127.0.0.53\n") {
			t.Errorf("%q: behind the stub %v", conf, behind)
		}
		for _, s := range list {
			got = append(got, s.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", conf, got, want)
		}
	}
}

// TestLinkServers: of the servers of systemd-resolved's links those on a loopback or at a link's own address are passed on, at the port that is passed on.
func TestLinkServers(t *testing.T) {
	at := netip.MustParseAddr
	got := linkServers(uplink.NameRoutes{
		{Servers: []uplink.NameServer{{Addr: at("192.0.2.1")}, {Addr: at("127.0.0.9"), Port: 53}, {Addr: at("127.0.0.8"), Port: 5300}}},
		{Device: 3, Servers: []uplink.NameServer{{Addr: at("fe80::1"), Device: 3}, {Addr: at("fe80::1"), Device: 3}}},
	})
	if want := []uplink.NameServer{{Addr: at("127.0.0.9")}, {Addr: at("fe80::1"), Device: 3}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestPassedByLinks: behind systemd-resolved what only its links have is passed on as well, by who is not waited for.
func TestPassedByLinks(t *testing.T) {
	nstest.Root(t) // who has a /run of his own
	nstest.ResolvConf(t, "nameserver 127.0.0.53\n")
	const resolved = "/run/systemd/resolve"
	t.Cleanup(func() { os.RemoveAll("/run/systemd") })
	if err := errors.Join(os.MkdirAll(resolved, 0o755), os.WriteFile(resolved+"/resolv.conf", []byte("nameserver 192.0.2.1\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	fakebus.ServeResolved(t, map[string]any{
		" DNSEx":                 dbus.Rows{{int32(3), int32(2), []byte{127, 0, 0, 9}, uint16(0), ""}},
		" Domains":               dbus.Rows{{int32(3), "corp.example", true}},
		"/link/_33 DefaultRoute": false,
	})
	log, err1 := os.Create(t.TempDir() + "/log")
	gone, err2 := os.Create(t.TempDir() + "/gone") // in the place of the process inside, which cannot be asked: what was tried is seen by that
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	gone.Close()
	s := server{passed: map[string]string{}, log: log, in: &side{conn: gone}}
	s.mu.Lock()
	s.passNames()
	s.mu.Unlock()
	nstest.Until(t, "a link's server is passed on", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, udp := s.passed["127.0.0.9 udp"]
		_, tcp := s.passed["127.0.0.9 tcp"]
		return udp && tcp
	})
	s.links.Close()
	s.names.Close()
}
