package monitor

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/dbus"
	"github.com/kakuri/kakuri/internal/dbus/fakebus"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/thread"
	"github.com/kakuri/kakuri/monitor/dns"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m, nstest.Options{})) }

// id is one of a container, as the records have them.
func id(c string) string { return strings.Repeat(c, 64) }

// twoNetworks makes networks a and b, each with a member web.
func twoNetworks(t *testing.T) (data, run string, db *netdb.DB, nets []netdb.Network) {
	t.Helper()
	data, run = t.TempDir(), t.TempDir()
	db = netdb.Open(data, run)
	for i, name := range []string{"a", "b"} {
		n, err := db.Create(netdb.Network{Name: name, Driver: "bridge", IPv4: true, Pools: []netdb.Pool{{Subnet: netip.MustParsePrefix("10.1" + strconv.Itoa(i) + ".0.0/16")}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		nets = append(nets, n)
		join(t, db, n, id("c")[:63]+strconv.Itoa(i), "web")
	}
	return data, run, db, nets
}

func join(t *testing.T, db *netdb.DB, n netdb.Network, container, name string, aliases ...string) netip.Addr {
	t.Helper()
	a, err := db.Lease(n, container, netip.Addr{}, false)
	if err == nil {
		err = db.Join(n.ID, netdb.Member{Container: container, Name: name, Aliases: aliases, Addrs: []netip.Addr{a}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// serversOf are those that a name of others is asked of.
func serversOf(n *names) []dns.Server {
	list, _ := n.Servers("example.org", true)
	return list
}

func member(n netdb.Network) Membership {
	return Membership{ID: n.ID, Name: n.Name, Subnets: []netip.Prefix{n.Pools[0].Subnet}}
}

// TestNames: a container is answered from the networks that it is in, as they are at that moment.
func TestNames(t *testing.T) {
	data, run, db, nets := twoNetworks(t)
	db1 := join(t, db, nets[0], id("d"), "db", "store")
	db2 := join(t, db, nets[0], id("e"), "db.replica", "store")
	secret := join(t, db, nets[1], id("f"), "secret")
	dir := t.TempDir()
	write := func(n Networks) {
		t.Helper()
		n.Data = data
		if err := WriteJSON(dir, "networks.json", n); err != nil {
			t.Fatal(err)
		}
	}
	n := newNames(dir, run)
	t.Cleanup(n.close)
	asked := func() { // for each question
		t.Helper()
		if n.Gate() != nil {
			t.Error("a gate of a container without one")
		}
	}
	if _, known := n.Lookup("web"); known {
		t.Error("a name is known in no network")
	}
	a := member(nets[0])
	a.Links = map[string]string{"Database": "db"}
	write(Networks{Networks: []Membership{a}, Servers: []dns.Server{{Addr: netip.MustParseAddr("192.0.2.1")}}})
	asked()
	for name, want := range map[string][]netip.Addr{
		"db": {db1}, "db.a": {db1}, "db.replica": {db2}, "db.replica.a": {db2}, "store": {db1, db2}, "database": {db1}, "database.a": {db1},
		"dbxa": nil, "secret": nil, "secret.b": nil, "db.b": nil, "a": nil, ".a": nil, "..": nil, "../names/db": nil, "": nil,
	} {
		got, known := n.Lookup(name)
		slices.SortFunc(got, netip.Addr.Compare)
		if known != (want != nil) || !slices.Equal(got, want) {
			t.Errorf("%q: %v, known %v", name, got, known)
		}
	}
	if name, ours := n.Reverse(netip.PrefixFrom(db2, 32)); name != "db.replica.a" || !ours {
		t.Errorf("%s is %q, ours %v", db2, name, ours)
	}
	if name, ours := n.Reverse(netip.PrefixFrom(secret, 32)); name != "" || ours {
		t.Errorf("%s, of another network, is %q, ours %v", secret, name, ours)
	}
	if name, ours := n.Reverse(netip.MustParsePrefix("10.10.9.9/32")); name != "" || !ours {
		t.Errorf("nobody's address is %q, ours %v", name, ours)
	}
	if _, ours := n.Reverse(netip.MustParsePrefix("10.0.0.0/8")); ours {
		t.Error("a zone that is others' as well is ours")
	}
	if list := serversOf(n); len(list) != 1 {
		t.Errorf("servers %v", list)
	}
	// Connected to another one, it sees that.
	write(Networks{Networks: []Membership{a, member(nets[1])}})
	if got, known := n.Lookup("secret"); known {
		t.Errorf("for the question before: %v", got) // which its gate has not seen
	}
	asked()
	if got, known := n.Lookup("secret"); !known || !slices.Equal(got, []netip.Addr{secret}) {
		t.Errorf("after connecting: %v, %v", got, known)
	}
	if err := db.Leave(nets[1].ID, id("f")); err != nil {
		t.Fatal(err)
	}
	if got, known := n.Lookup("secret"); known {
		t.Errorf("who has left is at %v", got)
	}
	if err := os.Remove(dir + "/networks.json"); err != nil {
		t.Fatal(err)
	}
	asked()
	if _, known := n.Lookup("web"); known {
		t.Error("a container that is in no network any more is answered")
	}
}

// TestAskedInWorld: what systemd-resolved has on the machine's loopback, or knows by a link, an ordinary user's monitor asks where the uplink passes it on.
func TestAskedInWorld(t *testing.T) {
	list := []uplink.NameServer{{Addr: netip.MustParseAddr("192.0.2.1"), Port: 5300}, {Addr: netip.MustParseAddr("fe80::1"), Device: 3}, {Addr: netip.MustParseAddr("127.0.0.9")}}
	inside, _ := uplink.NameServer{Addr: list[1].Addr, Device: 3}.Inside()
	for world, want := range map[bool][]dns.Server{
		false: {{Addr: list[0].Addr, Port: 5300, Host: true}, {Addr: list[1].Addr, Scope: 3, Host: true}, {Addr: list[2].Addr, Host: true}},
		true:  {{Addr: list[0].Addr, Port: 5300, Host: true}, {Addr: inside, Host: true}, {Addr: list[2].Addr, Host: true}},
	} {
		if got := asked(list, world); !slices.Equal(got, want) {
			t.Errorf("world %v: %+v, want %+v", world, got, want)
		}
	}
}

// TestServeNames: names are answered in a namespace, by the sockets of whoever is the monitor, until the end.
func TestServeNames(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	data, run, db, nets := twoNetworks(t)
	self := id("9")
	join(t, db, nets[0], self, "me")
	m := &monitor{order: Order{Dir: t.TempDir(), Run: run}, task: Task{ID: self}}
	if err := WriteJSON(m.order.Dir, "networks.json", Networks{Data: data, Networks: []Membership{member(nets[0])}, Resolver: true}); err != nil {
		t.Fatal(err)
	}
	do := inNamespace(t)
	do(func(pid int) {
		if err := m.keep(&plan.ServeNames{}, pid); err != nil {
			t.Error(err)
		}
	})
	do(func(int) {
		// A server of the container's own has port 53 of all addresses.
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 53}); err != nil {
			t.Error(err)
		}
		if got := lookup(t, "me"); got != 1 {
			t.Errorf("%d answers", got)
		}
		if got := lookup(t, "nobody"); got != -1 {
			t.Errorf("of nobody %d answers", got)
		}
	})
	// As its next program.
	m.restNets(func() {
		if s := m.nets.resolver.Sockets(); len(s.FDs()) != 3 {
			t.Errorf("%+v", s)
		}
	})
	do(func(int) {
		if got := lookup(t, "me"); got != 1 {
			t.Errorf("after a rest that was none: %d answers", got)
		}
	})
	// As the next monitor, after a kill.
	m.silence()
	do(func(pid int) {
		m.state.PID = pid
		if err := m.resumeNames(); err != nil {
			t.Error(err)
		}
		if got := lookup(t, "me"); got != 1 {
			t.Errorf("after a kill: %d answers", got)
		}
	})
	m.silence()
	if err := m.leaveNetworks(); err != nil {
		t.Fatal(err)
	}
	if _, known := db.Resolve(nets[0].ID, "me"); known {
		t.Error("it is still known")
	}
	if list, err := db.Leases(nets[0].ID); err != nil || len(list) != 1 {
		t.Errorf("leases %v, %v", list, err)
	}
	if left, err := filepath.Glob(run + "/networks/*/*/*" + self); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := m.leaveNetworks(); err != nil { // once more, as after a kill in between
		t.Error(err)
	}
}

// TestPorts: the host's ports are the container's, over a restart and a rest, until the end.
func TestPorts(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	inNamespace(t)(func(int) {
		port := plan.Publish{Proto: "tcp", HostAddr: netip.MustParseAddr("127.0.0.1"), HostPort: 8080, Addr: netip.MustParseAddr("127.0.0.1"), Port: 80, Strict: true}
		m := &monitor{order: Order{Dir: t.TempDir(), Run: t.TempDir()}, task: Task{ID: id("9")}}
		hold := &plan.HoldPorts{Ports: []plan.Publish{port}}
		for range 2 {
			if err := m.keep(hold, 0); err != nil {
				t.Error(err)
			}
		}
		other := &monitor{order: Order{Dir: t.TempDir(), Run: m.order.Run}, task: Task{ID: id("8")}}
		if err := other.keep(hold, 0); err == nil {
			t.Error("two have one port")
		}
		left := false
		m.restNets(func() { left = m.nets.relay != nil })
		if !left || len(m.nets.ports) != 1 {
			t.Errorf("a rest: %v, %d ports", left, len(m.nets.ports))
		}
		if err := m.leaveNetworks(); err != nil {
			t.Error(err)
		}
		if err := other.keep(hold, 0); err != nil {
			t.Errorf("after the end: %v", err)
		}
		if err := other.leaveNetworks(); err != nil {
			t.Error(err)
		}
	})
}

// inNamespace gives a thread in a network namespace of its own, by whose id the namespace is found.
func inNamespace(t *testing.T) func(func(pid int)) {
	t.Helper()
	work, done := make(chan func(int)), make(chan bool)
	thread.Aside(func() {
		defer close(done)
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		for f := range work {
			func() {
				defer func() { done <- true }()
				f(unix.Gettid())
			}()
		}
	})
	t.Cleanup(func() { close(work); <-done })
	do := func(f func(int)) { t.Helper(); work <- f; <-done }
	do(func(int) { nstest.Loopback(t) })
	return do
}

// lookup asks for a name where the thread is, and counts the answers; -1 for a failure.
func lookup(t *testing.T, name string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer unix.Close(fd)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60})
	msg := append([]byte{1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, byte(len(name))}, name...)
	msg = append(msg, 0, 0, 1, 0, 1)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 11}, Port: 53}); err != nil {
		t.Error(err)
		return 0
	}
	if _, err := unix.Write(fd, msg); err != nil {
		t.Error(err)
		return 0
	}
	buf := make([]byte, 512)
	n, err := unix.Read(fd, buf)
	if err != nil || n < 12 || buf[0] != 1 || buf[1] != 2 {
		t.Errorf("%d bytes, %v", n, err)
		return 0
	}
	if buf[3]&15 != 0 {
		return -1
	}
	return int(buf[7])
}

// TestServersByLinks: behind systemd-resolved a name below a link's domain is asked of that link's servers alone, and one of one label of nobody, where it answers; else the servers of its
// file are asked for all. Who may ask nobody does not ask the links' either (CVE-2024-29018).
func TestServersByLinks(t *testing.T) {
	nstest.Root(t) // who has a /run of his own
	const resolved = "/run/systemd/resolve"
	if err := os.MkdirAll(resolved, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll("/run/systemd") })
	both := dbus.Rows{{int32(2), int32(2), []byte{10, 0, 0, 53}, uint16(0), ""}, {int32(3), int32(2), []byte{10, 9, 0, 53}, uint16(5300), ""}}
	bus := fakebus.ServeResolved(t, map[string]any{
		" DNSEx":                 both,
		" Domains":               dbus.Rows{{int32(3), "corp.example", true}},
		"/link/_32 DefaultRoute": true,
		"/link/_33 DefaultRoute": false,
	})
	at := netip.MustParseAddr
	lan, vpn := dns.Server{Addr: at("10.0.0.53"), Host: true}, dns.Server{Addr: at("10.9.0.53"), Port: 5300, Host: true}
	listed := []dns.Server{{Addr: at("192.0.2.1"), Host: true}}
	for when, test := range map[string]struct {
		said   Networks
		away   bool
		links  dbus.Rows
		vpn    []dns.Server // asked for what is below the VPN's domain
		others []dns.Server
		label  bool // one label is asked of others'
	}{
		"links":             {Networks{Servers: listed, Links: true}, false, both, []dns.Server{vpn}, []dns.Server{lan}, false},
		"one link":          {Networks{Servers: listed, Links: true}, false, both[:1], []dns.Server{lan}, []dns.Server{lan}, true},
		"no links":          {Networks{Servers: listed}, false, both, listed, listed, true},
		"nobody on the bus": {Networks{Servers: listed, Links: true}, true, both, listed, listed, true},
		"no way out":        {Networks{Links: true}, false, both, nil, nil, true},
	} {
		bus.Lock()
		bus.Away, bus.Props[" DNSEx"] = test.away, test.links
		bus.Unlock()
		dir := t.TempDir()
		if err := WriteJSON(dir, "networks.json", test.said); err != nil {
			t.Fatal(err)
		}
		n := newNames(dir, t.TempDir())
		t.Cleanup(n.close)
		for _, ask := range []struct {
			name    string
			address bool
			want    []dns.Server
			told    bool
		}{
			{"git.corp.example", true, test.vpn, true}, {"corp.example", true, test.vpn, true}, {"www.example.org", true, test.others, true},
			{"nas", true, map[bool][]dns.Server{true: test.others}[test.label], test.label}, {"nas", false, test.others, true}, {"", true, test.others, true},
		} {
			if got, told := n.Servers(ask.name, ask.address); !slices.Equal(got, ask.want) || told != ask.told {
				t.Errorf("%s: %s, of its address %v: asked of %v, %v; want %v, %v", when, ask.name, ask.address, got, told, ask.want, ask.told)
			}
		}
	}
}
