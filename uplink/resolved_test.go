package uplink

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/dbus"
	"github.com/kakuri/kakuri/internal/dbus/fakebus"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/netip"
)

func servers(list ...string) (out []NameServer) {
	for _, a := range list {
		out = append(out, NameServer{Addr: netip.MustParseAddr(a)})
	}
	return out
}

// TestNameRoutes: a name is asked of the links with the longest domain above it, and of nobody else; without one, of those that are for other names.
func TestNameRoutes(t *testing.T) {
	lan := NameLink{Device: 2, Servers: servers("10.0.0.53", "10.0.0.54"), Domains: []string{"home.example"}, Others: true}
	wlan := NameLink{Device: 3, Servers: servers("10.1.0.53", "10.0.0.54"), Others: true}
	vpn := NameLink{Device: 4, Servers: servers("10.9.0.53"), Domains: []string{"corp.example", "10.in-addr.arpa"}}
	all := NameLink{Device: 5, Servers: servers("10.8.0.53"), Domains: []string{""}}
	deep := NameLink{Device: 6, Servers: servers("10.7.0.53"), Domains: []string{"lab.corp.example"}}
	dumb := NameLink{Device: 7, Domains: []string{"www.example.org"}, Others: true} // nobody to ask
	for _, test := range []struct {
		routes NameRoutes
		name   string
		want   string
	}{
		{NameRoutes{lan, vpn}, "git.corp.example", "10.9.0.53"},
		{NameRoutes{lan, vpn}, "corp.example", "10.9.0.53"},
		{NameRoutes{lan, vpn}, "xcorp.example", "10.0.0.53 10.0.0.54"},
		{NameRoutes{lan, vpn}, "corp.example.org", "10.0.0.53 10.0.0.54"},
		{NameRoutes{lan, vpn}, "example", "10.0.0.53 10.0.0.54"},
		{NameRoutes{lan, vpn}, "", "10.0.0.53 10.0.0.54"},
		{NameRoutes{lan, vpn}, "1.2.3.10.in-addr.arpa", "10.9.0.53"},
		{NameRoutes{lan, vpn, deep}, "x.lab.corp.example", "10.7.0.53"},
		{NameRoutes{deep, vpn, lan}, "x.lab.corp.example", "10.7.0.53"},
		{NameRoutes{deep, vpn, lan}, "lab.corp.example", "10.7.0.53"},
		{NameRoutes{deep, vpn, lan}, "www.corp.example", "10.9.0.53"},
		{NameRoutes{lan, wlan, vpn}, "www.example.org", "10.0.0.53 10.0.0.54 10.1.0.53"},
		{NameRoutes{lan, all, vpn}, "www.example.org", "10.8.0.53"}, // "~." is a domain: others' own is none
		{NameRoutes{lan, all, vpn}, "nas.home.example", "10.0.0.53 10.0.0.54"},
		{NameRoutes{lan, all, vpn}, "git.corp.example", "10.9.0.53"},
		{NameRoutes{lan, dumb}, "www.example.org", "10.0.0.53 10.0.0.54"},
		{NameRoutes{vpn}, "www.example.org", ""},
		{nil, "www.example.org", ""},
	} {
		var got []string
		for _, s := range test.routes.Servers(test.name) {
			got = append(got, s.Addr.String())
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%+v: %q is asked of %q, want %q", test.routes, test.name, got, test.want)
		}
	}
}

// split is a machine with a LAN and a VPN that is for some names.
func split(t *testing.T) *fakebus.Resolved {
	return fakebus.ServeResolved(t, map[string]any{
		" DNSEx": dbus.Rows{
			{int32(0), int32(2), []byte{127, 0, 0, 1}, uint16(5300), "dns.example"},
			{int32(2), int32(10), append([]byte{0xfe, 0x80, 13: 0}, 0, 1), uint16(0), ""},
			{int32(12), int32(2), []byte{10, 9, 0, 53}, uint16(0), ""},
			{int32(13), int32(2), []byte{10, 8, 0, 53}, uint16(0), ""},
			{int32(-1), int32(2), []byte{10, 6, 0, 53}, uint16(0), ""},
			{int32(14), int32(2), []byte{10, 7}, uint16(0), ""},
		},
		" Domains":                dbus.Rows{{int32(0), "Home.Example.", false}, {int32(12), "corp.example", true}, {int32(13), "lab.example", true}, {int32(13), ".", true}, {int32(99), "x", false}},
		"/link/_32 DefaultRoute":  true,
		"/link/_312 DefaultRoute": false,
	})
}

// TestReadResolved: servers with their ports and devices, domains, and which links are for other names: said, or as it was before systemd could say so.
func TestReadResolved(t *testing.T) {
	f := split(t)
	want := NameRoutes{
		{Device: 0, Servers: []NameServer{{Addr: netip.MustParseAddr("127.0.0.1"), Port: 5300}}, Domains: []string{"home.example"}, Others: true},
		{Device: 2, Servers: []NameServer{{Addr: netip.MustParseAddr("fe80::1"), Device: 2}}, Others: true},
		{Device: 12, Servers: servers("10.9.0.53"), Domains: []string{"corp.example"}},
		{Device: 13, Servers: servers("10.8.0.53"), Domains: []string{"lab.example", ""}},
	}
	if got, err := ReadResolved(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
	// systemd 245 knows no ports.
	var old dbus.Rows
	for _, row := range f.Props[" DNSEx"].(dbus.Rows) {
		old = append(old, row[:3])
	}
	delete(f.Props, " DNSEx")
	f.Props[" DNS"] = old
	want[0].Servers[0].Port = 0
	if got, err := ReadResolved(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("of an old one %+v, %v\nwant %+v", got, err, want)
	}
	f.Away = true
	if got, err := ReadResolved(); err == nil || got != nil || f.Autoload != nil {
		t.Errorf("of nobody: %+v, %v; called %v", got, err, f.Autoload)
	}
}

// TestResolvedLinks: it is asked once, and again when its directory has changed; what it said holds while it is silent, and nothing is known before it has said anything.
func TestResolvedLinks(t *testing.T) {
	nstest.Root(t) // who has a /run of his own
	f := split(t)
	var l ResolvedLinks
	defer l.Close()
	if routes, known := l.Routes(); known || routes != nil {
		t.Errorf("without its directory: %v, %v", routes, known)
	}
	l.again = time.Time{}
	if err := os.MkdirAll(resolvedDir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(resolvedDir)) })
	settle := func() { // as it is a while after a change
		t.Helper()
		for l.seen == nil {
			if routes, known := l.Routes(); !known || len(routes) != 4 {
				t.Fatalf("routes %v, known %v", routes, known)
			}
		}
	}
	settle()
	asked := f.Asked
	if l.Routes(); f.Asked != asked {
		t.Error("asked again, and nothing has changed")
	}
	f.Lock()
	f.Props[" Domains"] = dbus.Rows{{int32(12), "other.example", true}}
	f.Unlock()
	change := func() {
		t.Helper()
		name := filepath.Join(resolvedDir, ".#resolv.conf")
		if err := errors.Join(os.WriteFile(name, nil, 0o644), os.Remove(name)); err != nil {
			t.Fatal(err)
		}
	}
	change()
	routes, known := l.Routes()
	if got := routes.Servers("git.other.example"); !known || !slices.Equal(got, servers("10.9.0.53")) {
		t.Errorf("after a change: %v, %v", got, known)
	}
	settle()
	f.Lock()
	f.Silent = true
	f.Unlock()
	change()
	asked = f.Asked
	for range 3 {
		if routes, known := l.Routes(); !known || len(routes) != 4 {
			t.Errorf("while it is silent: %v, %v", routes, known)
		}
	}
	if f.Asked != asked+1 {
		t.Errorf("asked %d times while it is silent", f.Asked-asked)
	}
}

// TestSeveralResolved: what two links have, or a link and all of them, is for somebody to choose from, and so may be what cannot be read.
func TestSeveralResolved(t *testing.T) {
	const networkd, own = "/run/systemd/netif/links/", "/run/systemd/resolve/netif/"
	many := map[string]string{}
	for i := range mostFiles + 1 {
		many[networkd+strconv.Itoa(i)] = "ADMIN_STATE=unmanaged\n"
	}
	for name, test := range map[string]struct {
		files  map[string]string
		listed string
		want   bool
	}{
		"no links":                          {nil, "192.0.2.1 192.0.2.2", false},
		"one link":                          {map[string]string{networkd + "2": "ADMIN_STATE=configured\nDNS=192.0.2.1 fe80::1\nDOMAINS=home\n"}, "192.0.2.1 fe80::1", false},
		"one link, said twice":              {map[string]string{networkd + "2": "DNS=192.0.2.1\n", own + "2": "LLMNR=yes\nSERVERS=192.0.2.7:5300#name\n"}, "192.0.2.7", false},
		"two links":                         {map[string]string{networkd + "2": "DNS=192.0.2.1\n", own + "3": "SERVERS=10.9.0.53\nDOMAINS=~corp.example\n"}, "192.0.2.1", true},
		"a link without servers":            {map[string]string{networkd + "2": "DNS=192.0.2.1\n", networkd + "3": "DNS=\n", own + "4": "LLMNR=no\n"}, "192.0.2.1", false},
		"a link and all":                    {map[string]string{own + "2": "SERVERS=192.0.2.1\n"}, "192.0.2.1 9.9.9.9", true},
		"an address that begins as another": {map[string]string{own + "2": "SERVERS=192.0.2.10\n"}, "192.0.2.1 192.0.2.10", true},
		"many links":                        {many, "192.0.2.1", true},
		"brackets":                          {map[string]string{own + "2": "SERVERS=[2001:db8::1]:53\n"}, "2001:db8::1", false},
	} {
		root := t.TempDir()
		for file, text := range test.files {
			if err := errors.Join(os.MkdirAll(filepath.Dir(root+file), 0o755), os.WriteFile(root+file, []byte(text), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		var listed []netip.Addr
		for a := range strings.FieldsSeq(test.listed) {
			listed = append(listed, netip.MustParseAddr(a))
		}
		if got := severalResolved(root, listed); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
