package netdb

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/netip"
)

// crowdEnv has the test program be one of many that take addresses.
const crowdEnv = "KAKURI_TEST_NETDB"

func TestMain(m *testing.M) {
	if args := os.Getenv(crowdEnv); args != "" {
		os.Exit(crowdMember(strings.Fields(args)))
	}
	os.Exit(nstest.Main(m, nstest.Options{}))
}

func open(t testing.TB, busy ...string) *DB {
	dir := t.TempDir()
	db := Open(dir+"/data", dir+"/run")
	t.Cleanup(db.Forget)
	db.Busy = func() (out []netip.Prefix, err error) {
		for _, s := range busy {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out, nil
	}
	return db
}

func container(n int) string { return fmt.Sprintf("%064x", n) }

func create(t testing.TB, db *DB, n Network) Network {
	t.Helper()
	if n.Driver == "" {
		n.Driver = "bridge"
	}
	got, err := db.Create(n, nil)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func small(name, subnet string) Network {
	p := netip.MustParsePrefix(subnet)
	return Network{Name: name, IPv4: p.Addr().Is4(), IPv6: p.Addr().Is6(), Pools: []Pool{{Subnet: p}}}
}

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func TestCreate(t *testing.T) {
	db := open(t, "172.18.0.0/24", "10.0.0.0/8", "192.168.0.0/16")
	if list, err := db.List(); err != nil || len(list) != 0 {
		t.Fatalf("a database that is not there: %v, %v", list, err)
	}
	def, err := db.Default()
	if err != nil {
		t.Fatal(err)
	}
	again, err := db.Default()
	if err != nil || again.ID != def.ID || def.Device != defaultDevice || def.Name != "bridge" {
		t.Errorf("the default network: %+v, again %+v, %v", def, again, err)
	}
	web := create(t, db, Network{Name: "web", IPv4: true, IPv6: true})
	var got []string
	for _, n := range []Network{def, web} {
		p, _ := n.Pool(netip.IPv4)
		got = append(got, p.Subnet.String()+" "+p.Gateway.String())
	}
	if want := []string{"172.17.0.0/16 172.17.0.1", "172.19.0.0/16 172.19.0.1"}; !slices.Equal(got, want) {
		t.Errorf("pools are %q, want %q: 172.18 is the machine's", got, want)
	}
	v6, ok := web.Pool(netip.IPv6)
	if !ok || v6.Subnet.Bits() != 64 || !netip.MustParsePrefix("fd00::/8").Contains(v6.Subnet.Addr()) || v6.Gateway != v6.Subnet.Addr().Next() {
		t.Errorf("of IPv6: %+v", v6)
	}
	for _, ref := range []string{"web", web.ID, web.ID[:12]} {
		if n, err := db.Lookup(ref); err != nil || n.ID != web.ID || len(n.Pools) != 2 {
			t.Errorf("Lookup(%q) = %+v, %v", ref, n, err)
		}
	}
	other := create(t, db, Network{Name: web.ID, IPv4: true})
	if n, err := db.Lookup(web.ID); err != nil || n.Name != "web" {
		t.Errorf("an id that is another network's name leads to %+v, %v", n, err)
	}
	if err := db.Remove(other.ID, false, nil); err != nil {
		t.Error(err)
	}
	for _, ref := range []string{"", "none of that name", "..", "names", "0/../" + web.ID, strings.Repeat("0", 63)} {
		if n, err := db.Lookup(ref); !errors.As(err, new(*NoNetworkError)) {
			t.Errorf("Lookup(%q) = %+v, %v", ref, n, err)
		}
	}
	if _, err := db.Create(Network{Name: "web", Driver: "bridge"}, nil); !errors.As(err, new(*NameError)) {
		t.Errorf("the same name again: %v", err)
	}
	if err := db.Remove(web.ID, false, func(Network) error { return errors.New("no") }); err == nil || err.Error() != "no" {
		t.Errorf("Remove with a reason against it: %v", err)
	}
	if err := db.Remove(web.ID, false, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Lookup("web"); !errors.As(err, new(*NoNetworkError)) {
		t.Errorf("it is there after its removal: %v", err)
	}
	if _, err := db.Lease(web, container(1), netip.Addr{}, netip.IPv4); !errors.As(err, new(*NoNetworkError)) {
		t.Errorf("an address of a network that was removed: %v", err)
	}
	if err := db.Leave(web.ID, container(1)); err != nil {
		t.Errorf("leaving a network that was removed: %v", err)
	}
	create(t, db, Network{Name: "web", IPv4: true})
}

// All networks of the default pools are apart from each other and from the machine's, until there are none.
func TestPoolsRunOut(t *testing.T) {
	db := open(t, "172.20.7.0/24", "192.168.100.0/24")
	var all []netip.Prefix
	for i := 0; ; i++ {
		n, err := db.Create(Network{Name: fmt.Sprint("n", i), Driver: "bridge", IPv4: true}, nil)
		if err != nil {
			if !strings.Contains(err.Error(), "non-overlapping IPv4 address pool") {
				t.Error(err)
			}
			break
		}
		p, _ := n.Pool(netip.IPv4)
		if busy, _ := db.Busy(); overlaps(append(all, busy...), p.Subnet) {
			t.Fatalf("%s overlaps with one of %v, or the machine's", p.Subnet, all)
		}
		all = append(all, p.Subnet)
	}
	if want := 15 - 1 + 16 - 1; len(all) != want { // 172.17 to 172.31, and 192.168.0.0/20 to 192.168.240.0/20
		t.Errorf("there are %d networks, want %d", len(all), want)
	}
	list, err := db.List()
	if err != nil || len(list) != len(all) || list[0].Name != "n0" {
		t.Errorf("List has %d, %v", len(list), err)
	}
}

func TestCreateRefuses(t *testing.T) {
	db := open(t)
	create(t, db, small("there", "10.1.0.0/16"))
	pool := func(subnet, in, gateway string, aux ...string) Network {
		p := Pool{Gateway: addr(gateway), Aux: map[string]netip.Addr{}}
		if subnet != "" {
			p.Subnet = netip.MustParsePrefix(subnet)
		}
		if in != "" {
			p.Range = netip.MustParsePrefix(in)
		}
		for i, a := range aux {
			p.Aux[fmt.Sprint("host", i)] = addr(a)
		}
		return Network{Name: "x", Driver: "bridge", IPv4: true, Pools: []Pool{p}}
	}
	for want, n := range map[string]Network{
		"has no subnet":                    pool("", "", ""),
		"it should be 10.2.0.0/16":         pool("10.2.0.1/16", "", ""),
		"Pool overlaps with other one":     pool("10.1.4.0/24", "", ""),
		"overlaps with other":              pool("10.0.0.0/8", "", ""),
		"no matching subnet for range":     pool("10.2.0.0/16", "10.3.0.0/24", ""),
		"it should be 10.2.3.0/24":         pool("10.2.0.0/16", "10.2.3.4/24", ""),
		"for range \"10.0.0.0/8\"":         pool("10.2.0.0/16", "10.0.0.0/8", ""),
		"no matching subnet for gateway":   pool("10.2.0.0/16", "", "10.3.0.1"),
		"gateway 10.2.0.0: Address":        pool("10.2.0.0/16", "", "10.2.0.0"),
		"gateway 10.2.255.255: Address al": pool("10.2.0.0/16", "", "10.2.255.255"),
		"gateway fd02::: Address":          pool("fd02::/64", "", "fd02::"),
		"no matching subnet for aux":       pool("10.2.0.0/16", "", "", "10.3.0.1"),
		"it is the gateway's":              pool("10.2.0.0/16", "", "10.2.0.9", "10.2.0.9"),
		"none is left for the gateway":     pool("10.2.0.0/30", "", "", "10.2.0.1", "10.2.0.2"),
		"no machine can have":              pool("224.0.0.0/8", "", ""),
		"127.0.0.0/8: no machine":          pool("127.0.0.0/8", "", ""),
		"0.0.0.0/8: no machine":            pool("0.0.0.0/8", "", ""),
		"address, of 127.0.0.0/8, for":     pool("126.0.0.0/7", "", ""),
		"address, of 224.0.0.0/4, for":     pool("128.0.0.0/1", "", ""),
		"address, of fe80::/10, for":       pool("fe80::/64", "", ""),
		"fe80::/9: no machine":             pool("fe80::/9", "", ""),
		"address, of ::/127, for":          pool("::/3", "", ""),
		"neither of IPv4 nor of IPv6":      pool("::ffff:10.0.0.0/104", "", ""),
		"for range \"10.2.0.0/15\"":        pool("10.2.0.0/16", "10.2.0.0/15", ""),
		"invalid characters":               {Name: "a/b", Driver: "bridge", IPv4: true},
		"a network has one subnet of each": {Name: "two", Driver: "bridge", IPv4: true, Pools: []Pool{{Subnet: netip.MustParsePrefix("10.8.0.0/16")}, {Subnet: netip.MustParsePrefix("10.9.0.0/16")}}},
	} {
		if _, err := db.Create(n, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	list, _ := db.List()
	if names, _ := readNames(db.names()); len(list) != 1 || len(names) != 1 {
		t.Errorf("there are %d networks and the names %q after refusals", len(list), names)
	}
	if _, err := db.Create(Network{Name: "lan", Driver: "macvlan", IPv4: true, Pools: []Pool{{Subnet: netip.MustParsePrefix("10.1.0.0/16")}}}, nil); err != nil {
		t.Errorf("a macvlan of a subnet that is there: %v", err)
	}
}

// TestLeaseSizes takes all addresses of small subnets: what is left out, and what the first and last ones are.
func TestLeaseSizes(t *testing.T) {
	for _, c := range []struct {
		subnet, in, gateway string
		aux                 []string
		want                string // all in order
	}{
		{subnet: "10.0.0.0/29", want: "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6"},
		{subnet: "10.0.0.0/30", want: "10.0.0.2"},
		{subnet: "10.0.0.0/31", want: "10.0.0.1"},
		{subnet: "10.0.0.4/32", want: "10.0.0.4"},
		{subnet: "10.0.0.0/29", gateway: "10.0.0.6", want: "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5"},
		{subnet: "10.0.0.0/29", aux: []string{"10.0.0.1", "10.0.0.4"}, want: "10.0.0.3 10.0.0.5 10.0.0.6"},
		{subnet: "10.0.0.0/16", in: "10.0.3.0/30", want: "10.0.3.0 10.0.3.1 10.0.3.2 10.0.3.3"},
		{subnet: "10.0.0.0/16", in: "10.0.3.4/32", want: "10.0.3.4"},
		{subnet: "10.0.0.0/30", in: "10.0.0.0/30", want: "10.0.0.2"},
		{subnet: "10.0.0.0/24", in: "10.0.0.252/30", want: "10.0.0.252 10.0.0.253 10.0.0.254"},
		{subnet: "255.255.255.248/29", want: "255.255.255.250 255.255.255.251 255.255.255.252 255.255.255.253 255.255.255.254"},
		{subnet: "fd00::/126", want: "fd00::2 fd00::3"},
		{subnet: "fd00::/127", want: "fd00::1"},
		{subnet: "fd00::5/128", want: "fd00::5"},
		{subnet: "fdff::fffc/126", want: "fdff::fffe fdff::ffff"},
	} {
		db := open(t)
		n := small("n", c.subnet)
		n.Pools[0].Gateway = addr(c.gateway)
		if c.in != "" {
			n.Pools[0].Range = netip.MustParsePrefix(c.in)
		}
		for i, a := range c.aux {
			if n.Pools[0].Aux == nil {
				n.Pools[0].Aux = map[string]netip.Addr{}
			}
			n.Pools[0].Aux[fmt.Sprint(i)] = addr(a)
		}
		n = create(t, db, n)
		var got []string
		for i := range 100 {
			free, errFree := db.Free(n, netip.Addr{}, netip.Family(n.IPv6))
			a, err := db.Lease(n, container(i), netip.Addr{}, netip.Family(n.IPv6))
			if (errFree == nil) != (err == nil) || err == nil && free != a {
				t.Errorf("%+v: Free gives %s, %v, and Lease %s, %v", c, free, errFree, a, err)
			}
			if err != nil {
				if !errors.As(err, new(*ExhaustedError)) {
					t.Errorf("%+v: %v", c, err)
				}
				break
			}
			got = append(got, a.String())
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c, text, c.want)
		}
	}
}

func TestLeaseChosen(t *testing.T) {
	db := open(t)
	n := small("n", "10.0.0.0/24")
	n.Pools[0].Aux = map[string]netip.Addr{"printer": addr("10.0.0.9")}
	n.Pools[0].Range = netip.MustParsePrefix("10.0.0.128/25")
	n = create(t, db, n)
	take := func(owner int, want string) error {
		_, err := db.Lease(n, container(owner), addr(want), netip.IPv4)
		return err
	}
	if err := take(1, "10.0.0.7"); err != nil {
		t.Error(err) // out of the range, and in the subnet
	}
	if err := take(1, "10.0.0.7"); err != nil {
		t.Errorf("the same container again: %v", err)
	}
	if to, err := os.Readlink(db.leases(n.ID) + "/10.0.0.7"); err != nil || len(to) >= 60 { // which would take a block of the disk, and its release a question to it
		t.Errorf("the lease is a link of %d bytes: %v", len(to), err)
	}
	for want, text := range map[string]string{
		"10.0.0.7": "that of container " + container(2)[:12], "10.0.0.1": "already in use", "10.0.0.9": "already in use", "10.0.0.0": "the first or the last",
		"10.0.0.255": "the first or the last", "10.0.1.7": "no configured subnet or ip-range contain the IP address", "fd00::1": "no configured subnet",
	} {
		if err := take(2, want); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := db.Lease(n, container(1), netip.Addr{}, netip.IPv6); err == nil {
		t.Error("an address of IPv6 of a network that has none")
	}
	if err := db.Release(n.ID, container(1)); err != nil {
		t.Fatal(err)
	}
	if err := take(2, "10.0.0.7"); err != nil {
		t.Errorf("after its release: %v", err)
	}
}

// TestLeaveTwice: who leaves a second time, as after a kill, takes nothing from who has the address by then.
func TestLeaveTwice(t *testing.T) {
	db := open(t)
	n := create(t, db, small("n", "10.0.0.0/24"))
	join := func(c int) (a netip.Addr) {
		a, err := db.Lease(n, container(c), addr("10.0.0.7"), netip.IPv4)
		if err == nil {
			err = db.Join(n.ID, Member{Container: container(c), Name: fmt.Sprintf("c%d", c), Addrs: []netip.Addr{a}})
		}
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := join(1)
	record := db.runDir(n.ID) + "/members/" + container(1)
	data, err := os.ReadFile(record)
	if err == nil {
		err = db.Leave(n.ID, container(1))
	}
	join(2)
	if err := errors.Join(err, os.WriteFile(record, data, 0o600), db.Leave(n.ID, container(1))); err != nil {
		t.Fatal(err)
	}
	leases, err := db.Leases(n.ID)
	if name, known := db.Reverse(n.ID, a); err != nil || leases[a] != container(2) || name != "c2" || !known {
		t.Errorf("%s is of %q, and called %q: %v", a, leases[a], name, err)
	}
}

// An address that was given back is not the next one that is given.
func TestLeaseNotAtOnce(t *testing.T) {
	db := open(t)
	n := create(t, db, small("n", "10.0.0.0/29"))
	var got []string
	for i := range 7 {
		a, err := db.Lease(n, container(i), netip.Addr{}, netip.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, a.String()[len("10.0.0."):])
		if err := db.Release(n.ID, container(i)); err != nil {
			t.Fatal(err)
		}
	}
	if text := strings.Join(got, " "); text != "2 3 4 5 6 2 3" {
		t.Errorf("one after the other: %s", text)
	}
}

// TestLeaseHint: what is written down as the last address is a hint; whatever stands there, an address is one that a container can have, and free.
func TestLeaseHint(t *testing.T) {
	for _, hint := range []string{"", "x", "9.255.255.255", "10.0.0.0", "10.0.0.2", "10.0.0.3", "255.255.255.255", "fd00::2"} {
		db := open(t)
		n := create(t, db, small("n", "10.0.0.0/30"))
		db.remember(n.ID, db.hint(n.ID, false), addr("10.0.0.2"))
		if err := os.WriteFile(db.hint(n.ID, false), []byte(hint), 0o600); err != nil {
			t.Fatal(err)
		}
		if a, err := db.Lease(n, container(1), netip.Addr{}, netip.IPv4); err != nil || a != addr("10.0.0.2") {
			t.Errorf("%q: %s, %v", hint, a, err)
		}
		if a, err := db.Lease(n, container(1), netip.Addr{}, netip.IPv4); !errors.As(err, new(*ExhaustedError)) {
			t.Errorf("%q: a second one for the same container: %s, %v", hint, a, err)
		}
	}
}

// TestStrangeRecord: neither the record nor the name of another network is taken for a network's own, nor goes with it.
func TestStrangeRecord(t *testing.T) {
	db := open(t)
	a, b := create(t, db, small("a", "10.0.0.0/24")), create(t, db, small("b", "10.0.1.0/24"))
	data, err := os.ReadFile(db.dir(a.ID) + "/network.json")
	if err := errors.Join(err, os.WriteFile(db.dir(b.ID)+"/network.json", data, 0o600)); err != nil {
		t.Fatal(err)
	}
	if n, err := db.Lookup("b"); !errors.As(err, new(*DamagedError)) {
		t.Errorf("a's record in b's place: %+v, %v", n, err)
	}
	if err := db.Remove(b.ID, true, nil); err != nil {
		t.Error(err)
	}
	c := create(t, db, small("c", "10.0.2.0/24"))
	if err := errors.Join(os.Remove(db.names()+"/c"), os.Symlink(a.ID, db.names()+"/c"), db.Remove(c.ID, false, nil)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "c"} {
		if n, err := db.Lookup(name); err != nil || n.ID != a.ID {
			t.Errorf("%s leads to %+v, %v", name, n, err)
		}
	}
}

func TestNames(t *testing.T) {
	db := open(t)
	n, other := create(t, db, small("n", "10.0.0.0/24")), create(t, db, small("other", "10.0.1.0/24"))
	join := func(c int, name string, at string, aliases ...string) {
		t.Helper()
		if err := db.Join(n.ID, Member{Container: container(c), Name: name, Aliases: aliases, Addrs: []netip.Addr{addr(at), addr("fd00::" + at[len(at)-1:])}}); err != nil {
			t.Fatal(err)
		}
	}
	join(1, "Web_1", "10.0.0.2", "web", "www.example.org")
	join(2, "web_2", "10.0.0.3", "web")
	resolve := func(id, name string) string {
		addrs, known := db.Resolve(id, name)
		if !known {
			return "unknown"
		}
		addrs = slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
		var out []string
		for _, a := range addrs {
			out = append(out, a.String())
		}
		return strings.Join(out, " ")
	}
	for name, want := range map[string]string{
		"web": "10.0.0.2 10.0.0.3 fd00::2 fd00::3", "WEB": "10.0.0.2 10.0.0.3 fd00::2 fd00::3", "web_1": "10.0.0.2 fd00::2", "Web_2": "10.0.0.3 fd00::3", "WWW.example.org": "10.0.0.2 fd00::2",
		"nobody": "unknown", "": "unknown", ".": "unknown", "..": "unknown", "../names/web": "unknown", "web/../web": "unknown", "a\x00b": "unknown", strings.Repeat("a", 256): "unknown",
	} {
		if got := resolve(n.ID, name); got != want {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
	if got := resolve(other.ID, "web"); got != "unknown" {
		t.Errorf("another network knows it: %s", got)
	}
	if name, ok := db.Reverse(n.ID, addr("fd00::3")); !ok || name != "web_2" {
		t.Errorf("fd00::3 is %q, %v", name, ok)
	}
	join(1, "renamed", "10.0.0.2", "web") // again, with another name
	if got := resolve(n.ID, "renamed"); got != "10.0.0.2 fd00::2" {
		t.Error(got)
	}
	for _, name := range []string{"a/b", "", ".", "..", "a\x00b", strings.Repeat("a", 256)} {
		if err := db.Join(n.ID, Member{Container: container(3), Name: "c", Aliases: []string{name}, Addrs: []netip.Addr{addr("10.0.0.4")}}); err == nil || !strings.Contains(err.Error(), "cannot be a name") {
			t.Errorf("%q as a name: %v", name, err)
		}
	}
	for _, c := range []int{1, 1, 2, 3} {
		if err := db.Leave(n.ID, container(c)); err != nil {
			t.Error(err)
		}
	}
	if list, err := db.Members(n.ID); err != nil || len(list) != 0 {
		t.Errorf("members are %v, %v", list, err)
	}
	for _, sub := range []string{"names", "addrs", "members"} {
		if left, _ := readNames(db.runDir(n.ID) + "/" + sub); len(left) != 0 {
			t.Errorf("%s has %q left", sub, left)
		}
	}
}

// TestResolveRemembers: what was read stays as long as its directory, and no longer, however soon one change comes after another.
func TestResolveRemembers(t *testing.T) {
	db := open(t)
	n := create(t, db, small("n", "10.0.0.0/16"))
	join := func(c int, name, at string) {
		t.Helper()
		if err := db.Join(n.ID, Member{Container: container(c), Name: name, Addrs: []netip.Addr{addr(at)}}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(name string, want ...string) {
		t.Helper()
		var got []string
		addrs, known := db.Resolve(n.ID, name)
		for _, a := range addrs {
			got = append(got, a.String())
		}
		if slices.Sort(got); !slices.Equal(got, want) || known != (len(want) > 0) {
			t.Fatalf("%s is %q, %v, want %q", name, got, known, want)
		}
	}
	join(1, "web", "10.0.0.2")
	for until := time.Now().Add(30 * time.Second); len(db.named) == 0; want("web", "10.0.0.2") {
		if time.Now().After(until) {
			t.Fatal("nothing is remembered")
		}
	}
	want("web", "10.0.0.2")
	for i := range 300 {
		at := fmt.Sprintf("10.0.1.%d", i%250+1)
		join(2, "web", at)
		want("web", "10.0.0.2", at)
		if err := db.Leave(n.ID, container(2)); err != nil {
			t.Fatal(err)
		}
		want("web", "10.0.0.2")
	}
	if err := db.Leave(n.ID, container(1)); err != nil {
		t.Fatal(err)
	}
	want("web")
	for i := range maxNamed + 10 {
		join(10+i, fmt.Sprint("n", i), fmt.Sprintf("10.0.2.%d", i+1))
	}
	for i, until := 0, time.Now().Add(30*time.Second); i < maxNamed+10; {
		name := fmt.Sprint("n", i)
		want(name, fmt.Sprintf("10.0.2.%d", i+1))
		if _, ok := db.named[nameOf{n.ID, name}]; ok {
			i++
		} else if time.Now().After(until) {
			t.Fatal("nothing is remembered")
		}
		if len(db.named) > maxNamed {
			t.Fatalf("%d names are remembered", len(db.named))
		}
	}
}

func TestSweep(t *testing.T) {
	db := open(t)
	n := create(t, db, small("n", "10.0.0.0/24"))
	for c := range 4 {
		a, err := db.Lease(n, container(c), netip.Addr{}, netip.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		if c == 3 {
			continue // it was killed here
		}
		if err := db.Join(n.ID, Member{Container: container(c), Name: fmt.Sprint("c", c), Addrs: []netip.Addr{a}}); err != nil {
			t.Fatal(err)
		}
	}
	// Halves of networks, and of a file.
	half := db.dir(container(77))
	if err := mkdirs(half+"/leases", db.runDir(n.ID)+"/members"); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Symlink(container(78), db.names()+"/gone"),
		os.WriteFile(db.runDir(n.ID)+"/members/"+container(3)+".new", nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	alive := func(c string) bool { return c == container(1) }
	left, err := db.Left(alive)
	if err != nil || len(left) != 8 {
		t.Errorf("%d are left, want 3 leases, 2 members, a half file, a half network and a name: %v %v", len(left), left, err)
	}
	if err := db.Sweep(alive); err != nil {
		t.Fatal(err)
	}
	if left, err := db.Left(alive); err != nil || len(left) != 0 {
		t.Errorf("after Sweep %v, %v", left, err)
	}
	leases, _ := db.Leases(n.ID)
	members, _ := db.Members(n.ID)
	if len(leases) != 1 || len(members) != 1 || leases[members[0].Addrs[0]] != container(1) {
		t.Errorf("leases %v, members %v", leases, members)
	}
	if _, known := db.Resolve(n.ID, "c2"); known {
		t.Error("the name of a dead container is there")
	}
	if _, err := os.Lstat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half of a network is there: %v", err)
	}
	// Who is at it is not disturbed.
	unlock, err := db.shared(n.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := db.Sweep(func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if leases, _ := db.Leases(n.ID); len(leases) != 1 {
		t.Errorf("Sweep took leases while somebody worked on the network: %v", leases)
	}
}

// A network that is half removed is found by its directory, which goes last: what is in the directory of the boot goes before.
func TestHalfRemoved(t *testing.T) {
	nstest.Root(t)
	db := open(t)
	n := create(t, db, small("n", "10.0.0.0/24"))
	if _, err := db.Lease(n, container(1), netip.Addr{}, netip.IPv4); err != nil {
		t.Fatal(err)
	}
	// A mount, which cannot be removed, stands for the moment of the kill.
	busy := db.runDir(n.ID) + "/addrs"
	if err := mkdirs(busy); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("t", busy, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	err := db.Remove(n.ID, false, nil)
	if e := syscall.Unmount(busy, 0); e != nil || err == nil {
		t.Fatal(e, err)
	}
	if err := db.Sweep(func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(db.runDir(n.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Sweep it is there: %v", err)
	}
}

// A network that containers are on is not taken for half of one when its record is gone: it is a damaged one, until they have gone, or it is removed by force.
func TestGoneRecord(t *testing.T) {
	for _, by := range []string{"their end", "force"} {
		db := open(t)
		n := create(t, db, small("n", "10.0.0.0/24"))
		a, err := db.Lease(n, container(1), netip.Addr{}, netip.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Join(n.ID, Member{Container: container(1), Name: "c", Addrs: []netip.Addr{a}}); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(db.dir(n.ID) + "/network.json"); err != nil {
			t.Fatal(err)
		}
		alive := func(string) bool { return true }
		if err := db.Sweep(alive); err != nil {
			t.Fatal(err)
		}
		if left, err := db.Left(alive); err != nil || len(left) != 0 {
			t.Errorf("%v, %v", left, err)
		}
		want := "network n: its record cannot be read: it is gone, and containers are on the network: kakuri network rm -f n removes it"
		if damaged, err := db.Damaged(); err != nil || len(damaged) != 1 || damaged[0].Error() != want {
			t.Errorf("%v, %v", damaged, err)
		}
		_, err = db.Lookup("n")
		if _, err2 := db.Create(small("n", "10.0.0.0/24"), nil); fmt.Sprint(err) != want || fmt.Sprint(err2) != want {
			t.Errorf("%v, %v", err, err2)
		}
		if addrs, known := db.Resolve(n.ID, "c"); !known || len(addrs) != 1 {
			t.Errorf("its name is %v, %v", addrs, known)
		}
		if by == "force" {
			err = db.Remove(n.ID, true, nil)
		} else {
			err = errors.Join(db.Leave(n.ID, container(1)), db.Release(n.ID, container(1)), db.Sweep(alive))
		}
		if err != nil {
			t.Errorf("%s: %v", by, err)
		}
		if ids, err := db.ids(); err != nil || len(ids) != 0 {
			t.Errorf("%s: %v, %v", by, ids, err)
		}
		create(t, db, small("n", "10.0.0.0/24"))
	}
}

// TestUnreservedName: a network whose name is not reserved for it is found by it all the same, and the next sweep reserves it.
func TestUnreservedName(t *testing.T) {
	for what, put := range map[string]func(name string) error{
		"none":        func(string) error { return nil },
		"a file":      func(name string) error { return os.WriteFile(name, nil, 0o600) },
		"a FIFO":      func(name string) error { return syscall.Mkfifo(name, 0o600) },
		"a directory": func(name string) error { return os.MkdirAll(name+"/in", 0o700) },
		"nobody's":    func(name string) error { return os.Symlink("nobody", name) },
	} {
		db := open(t)
		n, other := create(t, db, small("n", "10.0.0.0/24")), create(t, db, small("other", "10.0.1.0/24"))
		first, err := db.Default()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"n", first.Name} {
			if err := errors.Join(os.Remove(db.names()+"/"+name), put(db.names()+"/"+name)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := db.Lookup("n"); err != nil || got.ID != n.ID {
			t.Errorf("%s: %v, %v", what, got, err)
		}
		if got, err := db.Default(); err != nil || got.ID != first.ID {
			t.Errorf("%s: %v, %v", what, got, err)
		}
		if err := db.Sweep(func(string) bool { return true }); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if left, err := db.Left(func(string) bool { return true }); err != nil || len(left) != 0 {
			t.Errorf("%s: %v, %v", what, left, err)
		}
		for _, n := range []Network{n, other, first} {
			if to, err := os.Readlink(db.names() + "/" + n.Name); err != nil || to != n.ID {
				t.Errorf("%s: %s is %s, %v", what, n.Name, to, err)
			}
		}
	}
}

// Where all members are alive, an address that none of them has is found as well: one of a command that was killed, or that a member has no more.
func TestSweepAmongTheLiving(t *testing.T) {
	db := open(t)
	n := create(t, db, small("n", "10.0.0.0/24"))
	lease := func(c int) netip.Addr {
		t.Helper()
		a, err := db.Lease(n, container(c), netip.Addr{}, netip.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	join := func(c int, addrs ...netip.Addr) {
		t.Helper()
		if err := db.Join(n.ID, Member{Container: container(c), Name: fmt.Sprint("c", c), Addrs: addrs}); err != nil {
			t.Fatal(err)
		}
	}
	first, killed, second := lease(1), lease(2), lease(1)
	join(1, first)
	join(1, second)
	if name, known := db.Reverse(n.ID, first); known {
		t.Errorf("%s has an address that it gave back", name)
	}
	third := lease(3)
	join(3, third)
	alive := func(c string) bool { return c != container(2) }
	if err := db.Sweep(alive); err != nil {
		t.Fatal(err)
	}
	leases, err := db.Leases(n.ID)
	if err != nil || len(leases) != 2 || leases[second] != container(1) || leases[third] != container(3) {
		t.Errorf("%v are taken, %v: want %v and %v, and not %v and %v", leases, err, second, third, first, killed)
	}
}

// crowdMember takes and gives back addresses for ever, or as often as it is told, and says which it has at the end.
func crowdMember(args []string) int {
	db := Open(args[0], args[1])
	n, err := db.Lookup("n")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for round := 0; args[3] == "ever" || round < 20; round++ {
		owner := fmt.Sprintf("%s%0*x", args[2], 64-len(args[2]), round)
		a, err := db.Lease(n, owner, netip.Addr{}, netip.IPv4)
		if errors.As(err, new(*ExhaustedError)) {
			continue
		}
		if err == nil {
			err = db.Join(n.ID, Member{Container: owner, Name: "same", Addrs: []netip.Addr{a}})
		}
		if err == nil && round%4 != 0 {
			err = db.Leave(n.ID, owner)
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
		if round%4 == 0 {
			fmt.Println("has", a, owner)
		}
	}
	return 0
}

func member(t *testing.T, db *DB, id, mode string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), crowdEnv+"="+strings.Join([]string{filepath.Dir(db.data), filepath.Dir(db.run), id, mode}, " "))
	return cmd
}

// Many processes at once get no address twice, and none is lost.
func TestCrowd(t *testing.T) {
	db := open(t)
	n := create(t, db, small("n", "10.0.0.0/26"))
	outs := make([]string, 8)
	var wg sync.WaitGroup
	for i := range outs {
		wg.Go(func() {
			out, err := member(t, db, fmt.Sprintf("%x", i+1), "20").CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			outs[i] = string(out)
		})
	}
	wg.Wait()
	has := map[string]string{}
	for line := range strings.Lines(strings.Join(outs, "")) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "has" {
			t.Fatalf("a process says %q", line)
		}
		if other, ok := has[f[1]]; ok {
			t.Errorf("%s is of %s and of %s", f[1], other, f[2])
		}
		has[f[1]] = f[2]
	}
	leases, err := db.Leases(n.ID)
	if err != nil || len(leases) != len(has) || len(has) != 8*5 {
		t.Errorf("there are %d leases, and the processes have %d: %v", len(leases), len(has), err)
	}
	for a, owner := range leases {
		if has[a.String()] != owner {
			t.Errorf("%s is of %s, who has it by what it says is %q", a, owner, has[a.String()])
		}
	}
	if addrs, _ := db.Resolve(n.ID, "same"); len(addrs) != len(has) {
		t.Errorf("the name they share has %d addresses, want %d", len(addrs), len(has))
	}
}

// Processes that are killed anywhere leave nothing that a sweep does not take away, and nothing that cannot be read.
func TestKilled(t *testing.T) {
	db := open(t)
	n := create(t, db, small("n", "10.0.0.0/28"))
	for i := range 20 {
		cmd := member(t, db, fmt.Sprintf("%x", i+1), "ever")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out.Read(make([]byte, 1)) // it is under way
		for range rand.IntN(2000) {
			syscall.Getppid()
		}
		cmd.Process.Kill()
		cmd.Wait()
		if _, err := db.Members(n.ID); err != nil {
			t.Fatal(err)
		}
		if err := db.Sweep(func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
		left, _ := db.Left(func(string) bool { return false })
		leases, _ := db.Leases(n.ID)
		_, known := db.Resolve(n.ID, "same")
		if len(left) != 0 || len(leases) != 0 {
			t.Fatalf("left %v, leases %v", left, leases)
		}
		if known {
			t.Fatalf("a name is there whose members are not: %v", known)
		}
	}
}

func TestBusy(t *testing.T) {
	list, err := Busy()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if !meant(p) || p != p.Masked() {
			t.Errorf("%s is busy", p)
		}
	}
}

func TestMeant(t *testing.T) {
	for text, want := range map[string]bool{
		"0.0.0.0/0": false, "0.0.0.0/1": false, "128.0.0.0/1": false, "10.0.0.0/8": true, "10.1.2.3/32": true, "224.0.0.0/4": false, "169.254.0.0/16": false, "127.0.0.0/8": false,
		"fe80::/64": false, "ff00::/8": false, "fd00:1::/64": true, "::1/128": false, "::/0": false,
	} {
		if got := meant(netip.MustParsePrefix(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// Whatever pools are asked for, what is given out is in the range, and nobody's else.
func TestLeaseProperty(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 0))
		bits := 24 + r.IntN(9)
		s := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(256))}), bits).Masked()
		p := Pool{Subnet: s, Range: netip.PrefixFrom(at(s, r), bits+r.IntN(33-bits)).Masked()}
		if r.IntN(2) == 0 {
			p.Gateway = at(s, r)
		}
		p.Aux = map[string]netip.Addr{}
		for i := range r.IntN(3) {
			p.Aux[fmt.Sprint(i)] = at(s, r)
		}
		db := open(t)
		n, err := db.Create(Network{Name: "n", Driver: "bridge", IPv4: true, Pools: []Pool{p}}, nil)
		if err != nil {
			continue // the gateway is an aux address
		}
		p = n.Pools[0]
		seen := map[netip.Addr]bool{}
		for i := 0; ; i++ {
			a, err := db.Lease(n, container(i), netip.Addr{}, netip.IPv4)
			if errors.As(err, new(*ExhaustedError)) {
				break
			}
			if err != nil || !p.Range.Contains(a) || seen[a] || p.reserved(a) {
				t.Fatalf("seed %d, pool %+v: %s, %v", seed, p, a, err)
			}
			seen[a] = true
			if r.IntN(4) == 0 {
				db.Release(n.ID, container(i))
				delete(seen, a)
				if i > 2000 {
					t.Fatalf("seed %d: no end", seed)
				}
			}
		}
		want := 0
		low, high := p.bounds(s)
		for a := p.Range.Addr(); p.Range.Contains(a); a = a.Next() {
			if !a.Less(low) && !high.Less(a) && !p.reserved(a) {
				want++
			}
		}
		if len(seen) != want {
			t.Errorf("seed %d, pool %+v: %d addresses, want %d", seed, p, len(seen), want)
		}
	}
}

// at is an address of a subnet.
func at(s netip.Prefix, r *rand.Rand) netip.Addr {
	a := s.Addr()
	for range r.IntN(1 << (32 - s.Bits())) {
		a = a.Next()
	}
	return a
}

// TestGateless: a subnet of two addresses has both for containers where there is no gateway that could have one; one that was asked for is nobody's for all that.
func TestGateless(t *testing.T) {
	db := open(t)
	for _, c := range []struct {
		subnet, gateway string
		want            int
	}{{"10.1.0.0/31", "", 2}, {"10.1.0.2/31", "10.1.0.2", 1}, {"fd01::/127", "", 2}} {
		v6 := strings.Contains(c.subnet, ":")
		n := create(t, db, Network{Name: "net" + c.subnet[:2] + c.gateway, Driver: "bridge", IPv4: !v6, IPv6: v6, Gateless4: true, Gateless6: true, Pools: []Pool{{Subnet: netip.MustParsePrefix(c.subnet), Gateway: addr(c.gateway)}}})
		if n.Pools[0].Gateway != addr(c.gateway) {
			t.Errorf("%s has the gateway %v, not %q", c.subnet, n.Pools[0].Gateway, c.gateway)
		}
		got := 0
		for ; got < 3; got++ {
			if _, err := db.Lease(n, container(got), netip.Addr{}, netip.Family(v6)); err != nil {
				break
			}
		}
		if got != c.want {
			t.Errorf("%s with the gateway %q has %d addresses for containers, not %d", c.subnet, c.gateway, got, c.want)
		}
	}
	n := create(t, db, Network{Name: "chosen", Driver: "bridge", IPv4: true, IPv6: true, Gateless4: true, Gateless6: true})
	if len(n.Pools) != 2 || n.Pools[0].Gateway.IsValid() || n.Pools[1].Gateway.IsValid() {
		t.Errorf("subnets that were chosen are %+v", n.Pools)
	}
	for _, v6 := range []bool{false, true} { // of one family only
		half := Network{Name: fmt.Sprint("half", v6), IPv4: true, IPv6: true, Gateless4: !v6, Gateless6: v6}
		half.Pools = []Pool{{Subnet: netip.MustParsePrefix(map[bool]string{false: "10.4.0.0/24", true: "10.6.0.0/24"}[v6])}, {Subnet: netip.MustParsePrefix(map[bool]string{false: "fd04::/64", true: "fd06::/64"}[v6])}}
		if n := create(t, db, half); n.Pools[0].Gateway.IsValid() != v6 || n.Pools[1].Gateway.IsValid() == v6 {
			t.Errorf("gateless in one family, IPv6 %v: %+v", v6, n.Pools)
		}
	}
}

// TestNameIsKnownUntilItIsGone: a name that a member loses is in its record for as long as it is found by it, so that nothing stays of a rename that was killed.
func TestNameIsKnownUntilItIsGone(t *testing.T) {
	db := open(t)
	n := create(t, db, Network{Name: "net", Driver: "bridge", IPv4: true})
	m := Member{Container: container(1), Name: "old", Addrs: []netip.Addr{netip.MustParseAddr("172.18.0.2")}}
	if err := db.Join(n.ID, m); err != nil {
		t.Fatal(err)
	}
	// The rename comes as far as the old name, which cannot be removed.
	old := db.runDir(n.ID) + "/names/old/" + m.Container
	if err := errors.Join(os.Remove(old), os.MkdirAll(old+"/x", 0o700)); err != nil {
		t.Fatal(err)
	}
	m.Name = "new"
	if err := db.Join(n.ID, m); err == nil {
		t.Error("a name that stays is no error")
	}
	if is, err := db.Member(n.ID, m.Container); err != nil || !slices.Equal(is.names(), []string{"new", "old"}) {
		t.Errorf("%+v, %v", is, err)
	}
	if err := errors.Join(os.Remove(old+"/x"), db.Join(n.ID, m)); err != nil {
		t.Fatal(err)
	}
	if is, err := db.Member(n.ID, m.Container); err != nil || !slices.Equal(is.names(), []string{"new"}) {
		t.Errorf("%+v, %v", is, err)
	}
	if err := db.Leave(n.ID, m.Container); err != nil {
		t.Error(err)
	}
	if list, err := os.ReadDir(db.runDir(n.ID) + "/names"); err != nil || len(list) > 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}

// TestSweepBesideCreate: a network that is made while a sweep looks at others keeps its name, and one that is removed then is no half of one.
func TestSweepBesideCreate(t *testing.T) {
	db := open(t)
	n, goes := create(t, db, small("n", "10.0.0.0/24")), create(t, db, small("goes", "10.0.1.0/24"))
	if _, err := db.Lease(n, container(1), netip.Addr{}, netip.IPv4); err != nil {
		t.Fatal(err)
	}
	var meanwhile Network
	left, err := db.Left(func(string) bool {
		if meanwhile.ID == "" {
			meanwhile = create(t, db, small("meanwhile", "10.0.2.0/24"))
			if err := errors.Join(os.Remove(db.dir(goes.ID)+"/network.json"), os.Remove(db.dir(goes.ID)+"/leases"), os.Remove(db.dir(goes.ID)), os.Remove(db.names()+"/goes")); err != nil {
				t.Error(err)
			}
		}
		return true
	})
	if err != nil || len(left) != 0 || meanwhile.ID == "" {
		t.Errorf("%v: %+v", err, left)
	}
}

// TestJoinBesideRemove: a network that nobody is on can be removed while a container joins it, and then one of the two is refused.
func TestJoinBesideRemove(t *testing.T) {
	db := open(t)
	m := Member{Container: files.NewID(), Name: "joins"}
	unused := func(n Network) error {
		if members, err := db.Members(n.ID); err != nil || len(members) > 0 {
			return errors.Join(err, errUsed)
		}
		return nil
	}
	for range 1000 {
		n := create(t, db, Network{Name: "brief"})
		joined := make(chan error, 1)
		go func() { joined <- db.Join(n.ID, m) }()
		removed := db.Remove(n.ID, false, unused)
		if err := <-joined; err == nil {
			if !errors.Is(removed, errUsed) {
				t.Fatalf("it was joined, and removed: %v", removed)
			}
			if err := db.Leave(n.ID, m.Container); err != nil {
				t.Fatal(err)
			}
			removed = db.Remove(n.ID, false, unused)
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if removed != nil {
			t.Fatal(removed)
		}
		if left, err := os.ReadDir(db.run); err != nil || len(left) > 0 {
			t.Fatalf("left: %v, %v", left, err)
		}
	}
}

var errUsed = errors.New("used")
