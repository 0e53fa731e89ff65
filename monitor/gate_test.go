package monitor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor/dns"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"

	"golang.org/x/sys/unix"
)

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	log := &refusals{dir: dir}
	at := time.Unix(1700000000, 5)
	log.add(Refusal{Kind: RefusedName, Name: "evil.example", Count: 1, First: at, Last: at})
	log.add(Refusal{Kind: RefusedName, Name: "evil.example", Count: 2, First: at.Add(time.Hour), Last: at.Add(time.Hour)})
	packet := Refusal{Kind: RefusedPacket, Addr: netip.MustParseAddr("2001:db8::1"), Proto: "tcp", Port: 443, Count: 7, First: at, Last: at}
	log.add(packet)
	packet.Name = "example.org"
	log.add(packet)
	log.add(Refusal{Kind: RefusedAnswer, Addr: netip.MustParseAddr("10.0.0.1"), Name: "example.org", Count: 1, First: at, Last: at})
	log.add(Refusal{Kind: RefusedName, Name: "", Count: 1, First: at, Last: at})
	log.add(Refusal{Kind: RefusedName, Name: "\x00\x1b[2J." + strings.Repeat("x", 300), Count: 1, First: at, Last: at})
	list, others, err := ReadRefusals(dir)
	if err != nil || others != 0 || len(list) != 5 {
		t.Fatalf("%+v, %d, %v", list, others, err)
	}
	find := func(kind, name string) (x Refusal) {
		for _, r := range list {
			if r.Kind == kind && strings.HasPrefix(r.Name, name) {
				x = r
			}
		}
		return x
	}
	if x := find(RefusedName, "evil.example"); x.Count != 3 || !x.First.Equal(at) || !x.Last.Equal(at.Add(time.Hour)) {
		t.Errorf("a name that was asked for several times: %+v", x)
	}
	if x := find(RefusedPacket, ""); x.Count != 14 || x.Name != "example.org" || x.Addr != packet.Addr || x.Port != 443 || x.Proto != "tcp" {
		t.Errorf("a packet: %+v", x)
	}
	if x := find(RefusedAnswer, "example.org"); x.Addr.String() != "10.0.0.1" {
		t.Errorf("an answer: %+v", x)
	}
	// Whatever is asked for, the file has an end, and each refusal is counted.
	for i := range 3 * refusalPlaces {
		log.add(Refusal{Kind: RefusedName, Name: fmt.Sprint(i, ".tunnel.example"), Count: 1, First: at, Last: at})
	}
	st, err := os.Stat(dir + "/" + refusalsFile)
	if err != nil || st.Size() > refusalHeader+refusalPlaces*refusalSize {
		t.Fatal(st, err)
	}
	if list, others, err = ReadRefusals(dir); err != nil || others == 0 {
		t.Fatal(others, err)
	}
	sum := others
	for _, x := range list {
		sum += x.Count
	}
	if want := uint64(3*refusalPlaces + 3 + 14 + 1 + 1 + 1); sum != want {
		t.Errorf("%d refusals are counted, of %d", sum, want)
	}
	// One that was cut off, or is no such file, is no harm.
	for _, data := range []string{"", "kakuri", refusalMagic + strings.Repeat("\xff", 5000)} {
		if err := os.WriteFile(dir+"/"+refusalsFile, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ReadRefusals(dir); err != nil {
			t.Error(err)
		}
		log.add(packet)
	}
}

func TestPublic(t *testing.T) {
	for text, want := range map[string]bool{
		"93.184.216.34": true, "192.0.2.1": true, "10.1.2.3": false, "172.16.0.1": false, "172.32.0.1": true, "192.168.0.1": false, "100.64.0.1": false, "100.128.0.1": true,
		"127.0.0.1": false, "169.254.169.254": false, "0.0.0.0": false, "198.19.0.1": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"2606:2800::1": true, "2001:db8::1": true, "::1": false, "::": false, "fe80::1": false, "fec0::1": false, "fd00::1": false, "ff02::1": false, "::ffff:10.0.0.1": false, "::10.0.0.1": false,
		"64:ff9b::10.0.0.1": false, "64:ff9b::5db8:d822": true, "64:ff9b:1::5db8:d822": false, "2002:a00:1::1": false, "2002:5db8:d822::1": true, "2001::1": false, "100::1": false, "fd00:ec2::254": false,
	} {
		if got := public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestGate opens what names lead to, in a network namespace, and nothing else.
func TestGate(t *testing.T) {
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNET}, testGate) // the addresses are the machine's
}

func testGate(t *testing.T) {
	nstest.Loopback(t)
	nstest.NoLeaks(t)
	data, run, db, nets := twoNetworks(t)
	dir := t.TempDir()
	store := join(t, db, nets[0], id("d"), "store")
	// The machine has a public address, and a server there is one of its own.
	d := &network.Doer{}
	defer d.Close()
	routes, err := netlink.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer routes.Close()
	for _, a := range []string{"203.0.113.77/32", "2001:db8:77::1/128"} {
		addr := netip.MustParsePrefix(a)
		if _, err := d.Do(t.Context(), &plan.AddAddress{Device: "lo", Addr: addr}, os.Getpid()); err != nil {
			t.Fatal(err)
		}
		// The kernel's route to an address of IPv6 comes a moment later.
		nstest.Until(t, "a route to "+a, func() bool {
			own, err := routes.Own(addr.Addr())
			return err == nil && own
		})
	}
	e, err := plan.ParseEgress([]string{"store:5432", "*.example.org:443", "home.example.net@203.0.113.0/24:443", "git.corp@10.0.0.0/8:22", "git.corp:443", "10.9.0.0/16:1"})
	if err != nil {
		t.Fatal(err)
	}
	at := member(nets[0])
	at.Subnets = append(at.Subnets, netip.MustParsePrefix("198.51.100.0/24")) // of all the world, and the neighbours'
	if err := WriteJSON(dir, "networks.json", Networks{Data: data, Networks: []Membership{at}, Egress: e, Resolver: true}); err != nil {
		t.Fatal(err)
	}
	n := newNames(dir, run)
	t.Cleanup(n.close)
	g := n.Gate()
	if g == nil {
		t.Fatal("no gate")
	}
	for name, want := range map[string][2]bool{
		"store": {true, false}, "store.a": {false, false}, "web": {false, false}, "www.example.org": {true, true}, "example.org": {false, false}, "git.corp": {true, true}, "evil.example": {false, false},
	} {
		if ask, far := g.Allows(name); ask != want[0] || far != want[1] {
			t.Errorf("%s: %v, of others %v", name, ask, far)
		}
	}
	do := inNamespace(t)
	do(func(pid int) {
		ns, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
			return
		}
		defer ns.Close()
		if err := network.LimitEgress(int(ns.Fd()), *e); err != nil {
			t.Error(err)
			return
		}
		for _, c := range []struct {
			name  string
			ours  bool
			addrs string
			want  string
		}{
			{"store", true, store.String(), store.String()},
			{"www.example.org", false, "192.0.2.1 10.0.0.1 127.0.0.1 169.254.169.254 2001:db8::1 fd00::1 ::1 ::ffff:192.0.2.1", "192.0.2.1 2001:db8::1"},
			{"www.example.org", false, store.String() + " 198.51.100.7", ""}, // neighbours' addresses, by somebody's word
			{"www.example.org", false, "203.0.113.77 203.0.113.78 2001:db8:77::1", "203.0.113.78"},
			// The same by the translator of this machine, if it is one.
			{"www.example.org", false, "64:ff9b::203.0.113.77 64:ff9b::198.51.100.7 2002:cb00:714d::1 64:ff9b::203.0.113.78", "64:ff9b::cb00:714e"},
			{"home.example.net", false, "203.0.113.77", "203.0.113.77"}, // as asked for
			{"git.corp", false, "10.1.1.1 192.0.2.9 127.0.0.1", "10.1.1.1 192.0.2.9"},
		} {
			var list []netip.Addr
			for _, a := range strings.Fields(c.addrs) {
				list = append(list, netip.MustParseAddr(a))
			}
			var got []netip.Addr
			var err error
			opened := make(chan struct{})
			go func() { // in the machine's namespace, where a monitor is
				defer close(opened)
				got, err = g.Open(int(ns.Fd()), c.name, list, c.ours, time.Hour)
			}()
			<-opened
			var texts []string
			for _, a := range got {
				texts = append(texts, a.String())
			}
			if err != nil || strings.Join(texts, " ") != c.want {
				t.Errorf("%s: %v, %v; want %s", c.name, texts, err, c.want)
			}
		}
		table, err := network.OpenEgress(int(ns.Fd()))
		if err != nil {
			t.Error(err)
			return
		}
		defer table.Close()
		list, err := table.Opened(*e)
		var texts []string
		for _, o := range list {
			texts = append(texts, o.Name+" "+o.Addr.String())
		}
		slices.Sort(texts)
		want := []string{"git.corp 10.1.1.1", "git.corp 192.0.2.9", "home.example.net 203.0.113.77", "store " + store.String(), "www.example.org 192.0.2.1", "www.example.org 2001:db8::1", "www.example.org 203.0.113.78", "www.example.org 64:ff9b::cb00:714e"}
		if err != nil || !slices.Equal(texts, want) {
			t.Errorf("open: %q, %v; want %q", texts, err, want)
		}
	})
	g.Refuse("evil.example")
	list, _, err := ReadRefusals(dir)
	if err != nil || len(list) != 15 {
		t.Errorf("refused: %+v, %v", list, err)
	}
	if err := os.Remove(dir + "/networks.json"); err != nil {
		t.Fatal(err)
	}
	if n.Gate() != nil || len(serversOf(n)) > 0 {
		t.Error("without its file, others are asked")
	}
}

// TestGateOfUnreadable: a file that cannot be read takes no limit away.
func TestGateOfUnreadable(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/networks.json"
	e, err := plan.ParseEgress([]string{"store:5432"})
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteJSON(dir, "networks.json", Networks{Egress: e, Servers: []dns.Server{{Addr: netip.MustParseAddr("192.0.2.53")}}}); err != nil {
		t.Fatal(err)
	}
	n := newNames(dir, t.TempDir())
	t.Cleanup(n.close)
	limited := func(what string) {
		t.Helper()
		if g := n.Gate(); g == nil || len(serversOf(n)) != 1 {
			t.Fatalf("%s: gate %v, servers %v", what, g, serversOf(n))
		}
		if ask, _ := n.Gate().Allows("evil.example"); ask {
			t.Errorf("%s: any name may be asked for", what)
		}
	}
	limited("a file")
	if err := errors.Join(os.Rename(file, dir+"/aside"), os.Mkdir(file, 0o700)); err != nil {
		t.Fatal(err)
	}
	limited("a directory in its place")
	if err := errors.Join(os.Remove(file), os.Rename(dir+"/aside", file)); err != nil {
		t.Fatal(err)
	}
	limited("the file again")
}

// TestAnyAddress: an entry for all addresses is for what a name leads to, too, but for what no route is for.
func TestAnyAddress(t *testing.T) {
	e, err := plan.ParseEgress([]string{":443"})
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{egress: *e}
	for a, want := range map[string]bool{
		"192.0.2.1": true, "10.0.0.1": true, "fd00::1": true, "2001:db8::1": true,
		"169.254.169.254": false, "fe80::1": false, "127.0.0.1": false, "::1": false, "0.0.0.0": false, "::": false, "224.0.0.1": false, "ff02::1": false, "::ffff:192.0.2.1": false,
	} {
		if got := g.mayLead(&e.Allow[0], netip.MustParseAddr(a), false, nil); got != want {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
	}
}

// TestMachine: what has the address is told, each is asked for once, and all by one socket.
func TestMachine(t *testing.T) {
	addr := netip.MustParseAddr
	m := &machine{run: t.TempDir()}
	defer m.close()
	for a, want := range map[string]bool{"127.0.0.1": true, "192.0.2.1": false, "2001:db8::1": false} {
		if got := m.has(addr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	s := m.socket
	s.Close()
	if !m.has(addr("127.0.0.1")) || m.has(addr("192.0.2.1")) || m.socket != s {
		t.Error("an address is asked for once more")
	}
	if !m.has(addr("192.0.2.2")) {
		t.Error("an address of which the machine cannot be asked is let through")
	}
	m.socket = nil
}

// BenchmarkMachine is an answer of 64 addresses, the most that there can be.
func BenchmarkMachine(b *testing.B) {
	run := b.TempDir()
	for b.Loop() {
		m := &machine{run: run}
		for i := range 64 {
			m.has(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
		}
		m.close()
	}
}
