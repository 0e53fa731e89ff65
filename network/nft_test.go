package network

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/thread"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// A stage is a network of its own: this machine's namespace with bridges a and b, containers a1 and a2 on the one and b1 on
// the other, and another machine, away.
type stage struct {
	t     *testing.T
	rules *Rules
	dir   string
}

const stageScript = `
mkdir -p /run/netns; mount -t tmpfs none /run/netns
sysctl -qw net.bridge.bridge-nf-call-iptables=BRNF net.bridge.bridge-nf-call-ip6tables=BRNF
ip link set lo up
for n in away a1 a2 b1; do ip netns add $n; ip -n $n link set lo up; done
ip link add wire type veth peer name eth0 netns away
ip addr add 192.0.2.1/24 dev wire; ip addr add 2001:db8:9::1/64 dev wire nodad; ip link set wire up
ip -n away addr add 192.0.2.2/24 dev eth0; ip -n away addr add 2001:db8:9::2/64 dev eth0 nodad; ip -n away link set eth0 up
ip -n away route add 10.0.0.0/8 via 192.0.2.1; ip -n away -6 route add 2001:db8::/32 via 2001:db8:9::1
bridge() {
	ip link add kb$1 type bridge; ip addr add 10.0.$2.1/24 dev kb$1; ip addr add 2001:db8:$2::1/64 dev kb$1 nodad; ip link set kb$1 up
}
bridge a 1; bridge b 2
container() {
	ip link add v$1 type veth peer name eth0 netns $1; ip link set v$1 master $2 up
	ip link set v$1 type bridge_slave hairpin on
	ip -n $1 addr add 10.0.$3.$4/24 dev eth0; ip -n $1 addr add 2001:db8:$3::$4/64 dev eth0 nodad; ip -n $1 link set eth0 up
	ip -n $1 route add default via 10.0.$3.1; ip -n $1 -6 route add default via 2001:db8:$3::1
}
container a1 kba 1 11; container a2 kba 1 12; container b1 kbb 2 11
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
`

// onStage runs a test there, with br_netfilter's way of bridged packets through the tables, or without.
func onStage(t *testing.T, brNetfilter bool, body func(s *stage)) {
	t.Helper()
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}, func(t *testing.T) {
		s := &stage{t: t, dir: t.TempDir()}
		s.shell(strings.ReplaceAll(stageScript, "BRNF", map[bool]string{false: "0", true: "1"}[brNetfilter]))
		s.rules = OpenRules(s.dir)
		body(s)
	})
}

func (s *stage) shell(script string) string {
	s.t.Helper()
	c := exec.Command("sh", "-e")
	c.Stdin = strings.NewReader(script)
	out, err := c.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// in runs body in a place's namespace: empty is this machine.
func (s *stage) in(place string, body func() error) error {
	if place == "" {
		return body()
	}
	var err error
	<-thread.Aside(func() {
		var fd int
		if fd, err = unix.Open("/run/netns/"+place, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			err = body()
		}
	})
	return err
}

var (
	bridgeA = plan.Bridge{Device: "kba", ICC: true, Masquerade4: true, Masquerade6: true}
	bridgeB = plan.Bridge{Device: "kbb", ICC: true, Masquerade4: true, Masquerade6: true}
)

func (s *stage) bridges(list ...plan.Bridge) {
	s.t.Helper()
	for _, b := range list {
		if err := s.rules.AddBridge(b); err != nil {
			s.t.Fatal(err)
		}
	}
}

// port parses "tcp 0.0.0.0:8080 10.0.1.11:80".
func port(text string) plan.Publish {
	f := strings.Fields(text)
	p := plan.Publish{Proto: f[0], Bridge: "kba"}
	split := func(s string) (netip.Addr, uint16) {
		host, number, err := net.SplitHostPort(s)
		if err != nil {
			panic(err)
		}
		var n uint16
		fmt.Sscan(number, &n)
		return netip.MustParseAddr(host), n
	}
	p.HostAddr, p.HostPort = split(f[1])
	p.Addr, p.Port = split(f[2])
	return p
}

func ports(texts ...string) (list []plan.Publish) {
	for _, t := range texts {
		list = append(list, port(t))
	}
	return list
}

func (s *stage) publish(owner string, texts ...string) {
	s.t.Helper()
	if err := s.rules.Publish(owner, ports(texts...)); err != nil {
		s.t.Fatal(err)
	}
}

// serve answers in a place at a port, of TCP and UDP, with the place's name and the address that asks.
func (s *stage) serve(place, address string) {
	s.t.Helper()
	s.serveAs(place, address, place)
}

func (s *stage) serveAs(place, address, name string) {
	s.t.Helper()
	err := s.in(place, func() error {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		s.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				io.WriteString(c, name+" "+host)
				c.Close()
			}
		}()
		u, err := net.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		s.t.Cleanup(func() { u.Close() })
		go func() {
			b := make([]byte, 2000)
			for {
				_, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				host, _, _ := net.SplitHostPort(from.String())
				u.WriteTo([]byte(name+" "+host), from)
			}
		}()
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// ask gives what answers at an address, asked from a place: the server's place and the address it saw; "refused", or "nothing".
func (s *stage) ask(place, proto, address string) string {
	s.t.Helper()
	var got string
	err := s.in(place, func() error {
		got = answer(proto, address, waits)
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

// waits is how long an answer may take; refusals that are silence are asked for less long.
const waits = 10 * time.Second

func answer(proto, address string, wait time.Duration) string {
	c, err := net.DialTimeout(proto, address, wait)
	if errors.Is(err, unix.ECONNREFUSED) {
		return "refused"
	}
	if err != nil {
		return "nothing"
	}
	defer c.Close()
	b := make([]byte, 2000)
	// Of UDP a packet can be lost while neighbours are found out.
	for range max(1, min(5, int(wait/time.Second))) {
		if proto == "udp" {
			if _, err := c.Write([]byte("who")); errors.Is(err, unix.ECONNREFUSED) {
				return "refused"
			}
			wait = max(wait/5, 400*time.Millisecond)
		}
		c.SetDeadline(time.Now().Add(wait))
		n, err := c.Read(b)
		switch {
		case n > 0:
			return string(b[:n])
		case errors.Is(err, unix.ECONNREFUSED):
			return "refused"
		case proto != "udp":
			return "nothing"
		}
	}
	return "nothing"
}

func (s *stage) want(place, proto, address, want string) {
	s.t.Helper()
	if got := s.ask(place, proto, address); got != want {
		s.t.Errorf("%s to %s from %q: %q, not %q", proto, address, place, got, want)
	}
}

// silent asks several at once, that none of them is answered: what is dropped gives no sign.
func (s *stage) silent(asks ...[3]string) {
	s.t.Helper()
	got := make([]string, len(asks))
	var all sync.WaitGroup
	for i, a := range asks {
		all.Go(func() {
			err := s.in(a[0], func() error {
				got[i] = answer(a[1], a[2], 700*time.Millisecond)
				return nil
			})
			if err != nil {
				got[i] = err.Error()
			}
		})
	}
	all.Wait()
	for i, a := range asks {
		if got[i] != "nothing" {
			s.t.Errorf("%s to %s from %q: %q, not dropped", a[1], a[2], a[0], got[i])
		}
	}
}

// list is the ruleset in nft's words, without what counters have.
func (s *stage) list() string {
	s.t.Helper()
	return s.shell("nft -s list ruleset")
}

// TestLayout fails when rules or sets become others under the old number.
func TestLayout(t *testing.T) {
	h := fnv.New32a()
	for i, c := range nftChains() {
		fmt.Fprintln(h, c.name, c.kind, c.hook, c.priority)
		for _, r := range c.rules {
			fmt.Fprintln(h, r)
			for _, term := range r.terms {
				for _, e := range term.exprs {
					fmt.Fprintln(h, e.name, e.data)
				}
			}
		}
		if nftCounts[i].chain != c.name || int(nftCounts[i].rules) != len(c.rules) {
			t.Errorf("chain %s has %d rules, and counts as %+v", c.name, len(c.rules), nftCounts[i])
		}
	}
	for _, s := range nftSets {
		fmt.Fprintln(h, s)
	}
	const number, want = "layout 8", "4c578313"
	if got := fmt.Sprintf("%08x", h.Sum32()); got != want || !strings.HasSuffix(nftLayout, number) {
		t.Errorf("the table is %s under %q, not %s under %q: give nftLayout its next number, and this test both", got, nftLayout, want, number)
	}
}

// TestTableInNftsWords has nft(8) read what was written, and compares it with the words that explain shows.
func TestTableInNftsWords(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA, plan.Bridge{Device: "kbb", Internal: true})
		s.publish("c1", "tcp 0.0.0.0:8080 10.0.1.11:80", "udp [::]:53 [2001:db8:1::11]:5353", "sctp 127.0.0.1:9 10.0.1.11:9", "tcp [2001:db8:9::1]:443 [2001:db8:1::11]:443")
		have := s.list()
		for _, c := range nftChains() {
			for _, r := range c.rules {
				if !strings.Contains(have, "\t\t"+r.String()+"\n") {
					t.Errorf("nft does not have, of chain %s: %s", c.name, r)
				}
			}
		}
		for _, want := range []string{
			"type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service", `elements = { tcp . 8080 comment "c1" : 10.0.1.11 . 80 }`,
			`udp . 53 comment "c1" : 2001:db8:1::11 . 5353`, `sctp . 127.0.0.1 . 9 comment "c1" : 10.0.1.11 . 9`, `elements = { "kba" . "kba" }`, `10.0.1.11 . 10.0.1.11 comment "c1"`,
			"type filter hook prerouting priority raw; policy accept;", "type nat hook prerouting priority dstnat; policy accept;", "type filter hook forward priority filter; policy accept;",
		} {
			if !strings.Contains(have, want) {
				t.Errorf("nft does not have %s", want)
			}
		}
		if t.Failed() {
			t.Log(have)
		}
		// nft can make the same table of its words, for other tools to keep.
		s.shell("nft -s list ruleset >" + s.dir + "/saved; nft flush ruleset; nft -f " + s.dir + "/saved")
		if again := s.list(); again != have {
			t.Errorf("read back by nft:\n%s\nnot\n%s", again, have)
		}
		state, err := ReadTable()
		if err != nil || !state.Present || state.Intact || len(state.Bridges) != 2 || len(state.Ports) != 4 {
			t.Errorf("of a table that nft made: %+v, %v", state, err)
		}
		want := []string{"0.0.0.0:8080->80/tcp", "127.0.0.1:9->9/sctp", "[2001:db8:9::1]:443->443/tcp", "[::]:53->5353/udp"}
		for i, p := range state.Ports {
			if i < len(want) && (p.Publish.String() != want[i] || p.Owner != "c1") {
				t.Errorf("port %d is %v of %s, not %s", i, p, p.Owner, want[i])
			}
		}
	})
}

// TestPortsAreReached is every way to published ports, and from and to containers without.
func TestPortsAreReached(t *testing.T) {
	for _, brNetfilter := range []bool{false, true} {
		t.Run(fmt.Sprint("br_netfilter=", brNetfilter), func(t *testing.T) {
			onStage(t, brNetfilter, func(s *stage) {
				s.bridges(bridgeA, bridgeB)
				s.serve("a1", "[::]:80")
				s.serve("a2", "[::]:80")
				s.serve("b1", "[::]:80")
				s.serve("away", "[::]:80")
				both := func(text string) []string { return []string{"tcp " + text, "udp " + text} }
				s.publish("a1", slices.Concat(both("0.0.0.0:8080 10.0.1.11:80"), both("[::]:8080 [2001:db8:1::11]:80"))...)
				s.publish("a2", slices.Concat(both("127.0.0.1:8081 10.0.1.12:80"), both("192.0.2.1:8082 10.0.1.12:80"), both("[2001:db8:9::1]:8082 [2001:db8:1::12]:80"))...)
				for _, proto := range []string{"tcp", "udp"} {
					// From other machines, whose address is kept.
					s.want("away", proto, "192.0.2.1:8080", "a1 192.0.2.2")
					s.want("away", proto, "[2001:db8:9::1]:8080", "a1 2001:db8:9::2")
					s.want("away", proto, "10.0.1.1:8080", "a1 192.0.2.2")
					s.want("away", proto, "192.0.2.1:8082", "a2 192.0.2.2")
					s.want("away", proto, "[2001:db8:9::1]:8082", "a2 2001:db8:9::2")
					// From the host.
					s.want("", proto, "127.0.0.1:8080", "a1 10.0.1.1")
					s.want("", proto, "127.1.2.3:8080", "a1 10.0.1.1")
					s.want("", proto, "192.0.2.1:8080", "a1 192.0.2.1")
					s.want("", proto, "[2001:db8:9::1]:8080", "a1 2001:db8:9::1")
					s.want("", proto, "127.0.0.1:8081", "a2 10.0.1.1")
					s.want("", proto, "192.0.2.1:8082", "a2 192.0.2.1")
					s.want("", proto, "127.0.0.1:8082", "refused")
					s.want("", proto, "10.0.1.11:80", "a1 10.0.1.1")
					// From other containers of the same bridge, of another, and from itself, by the host's address.
					for _, host := range []string{"192.0.2.1", "10.0.1.1", "10.0.2.1"} {
						for _, from := range []string{"a1", "a2", "b1"} {
							if got := s.ask(from, proto, host+":8080"); !strings.HasPrefix(got, "a1 ") {
								t.Errorf("%s to %s:8080 from %s: %q", proto, host, from, got)
							}
						}
					}
					for _, from := range []string{"a1", "a2", "b1"} {
						if got := s.ask(from, proto, "[2001:db8:9::1]:8080"); !strings.HasPrefix(got, "a1 ") {
							t.Errorf("%s to [2001:db8:9::1]:8080 from %s: %q", proto, from, got)
						}
					}
					// Within a network, and out of it by the host's address.
					s.want("a2", proto, "10.0.1.11:80", "a1 10.0.1.12")
					s.want("a2", proto, "[2001:db8:1::11]:80", "a1 2001:db8:1::12")
					s.want("a2", proto, "192.0.2.2:80", "away 192.0.2.1")
					s.want("b1", proto, "[2001:db8:9::2]:80", "away 2001:db8:9::1")
				}
				// Not published, of the host's loopback, of another network.
				s.shell("ip -n away route add 127.0.0.1/32 via 192.0.2.1; ip netns exec away sysctl -qw net.ipv4.conf.all.route_localnet=1; sysctl -qw net.ipv4.conf.wire.route_localnet=1")
				s.shell("ip -n b1 route add 127.0.0.1/32 via 10.0.2.1 table 5; ip -n b1 rule add to 127.0.0.1 lookup 5 pref 0; ip -n b1 addr flush dev lo; ip netns exec b1 sysctl -qw net.ipv4.conf.all.route_localnet=1")
				s.shell("ip -n away rule add to 127.0.0.1 lookup 5 pref 0; ip -n away route add 127.0.0.1/32 via 192.0.2.1 table 5; ip -n away addr flush dev lo")
				var asks [][3]string
				for _, proto := range []string{"tcp", "udp"} {
					asks = append(asks, [][3]string{
						{"away", proto, "10.0.1.11:80"}, {"away", proto, "[2001:db8:1::11]:80"}, {"away", proto, "10.0.1.12:80"}, {"away", proto, "127.0.0.1:8081"},
						{"b1", proto, "10.0.1.11:80"}, {"b1", proto, "[2001:db8:1::11]:80"}, {"b1", proto, "127.0.0.1:8081"}, {"a1", proto, "10.0.2.11:80"},
					}...)
				}
				s.silent(asks...)
				s.want("away", "tcp", "192.0.2.1:8081", "refused")
				if err := s.rules.Unpublish("a1"); err != nil {
					t.Fatal(err)
				}
				s.want("away", "tcp", "192.0.2.1:8080", "refused")
				s.want("", "tcp", "127.0.0.1:8080", "refused")
				s.want("", "tcp", "127.0.0.1:8081", "a2 10.0.1.1")
			})
		})
	}
}

// TestLoopbackWithoutRules: where somebody has flushed all rules, and none are back, a container that may send what it likes still does not reach what listens on this machine's
// loopback alone; and what is published there works, also where br_netfilter knows connections before the bridge does.
func TestLoopbackWithoutRules(t *testing.T) {
	for _, brNetfilter := range []bool{false, true} {
		t.Run(fmt.Sprintf("br_netfilter=%v", brNetfilter), func(t *testing.T) {
			onStage(t, brNetfilter, func(s *stage) {
				s.bridges(bridgeA)
				s.serve("a1", "[::]:80")
				s.serve("", "127.0.0.1:7777")
				s.publish("a1", "tcp 0.0.0.0:8080 10.0.1.11:80", "udp 0.0.0.0:8080 10.0.1.11:80")
				// One that comes later.
				s.shell("ip netns add a3; ip -n a3 link set lo up; ip link add va3 type veth peer name eth0 netns a3; ip link set va3 master kba up; ip -n a3 addr add 10.0.1.13/24 dev eth0; ip -n a3 link set eth0 up")
				link, err := netlink.Open()
				if err != nil {
					t.Fatal(err)
				}
				defer link.Close()
				guardNew(link, "kba", "va3")
				var asks [][3]string
				for _, ns := range []string{"a1", "a3"} {
					s.shell("ip -n " + ns + " route add 127.0.0.1/32 via 10.0.1.1 table 5; ip -n " + ns + " rule add to 127.0.0.1 lookup 5 pref 0; ip -n " + ns + " addr flush dev lo; ip netns exec " + ns + " sysctl -qw net.ipv4.conf.all.route_localnet=1")
					asks = append(asks, [3]string{ns, "tcp", "127.0.0.1:7777"}, [3]string{ns, "udp", "127.0.0.1:7777"})
				}
				s.silent(asks...)
				for _, proto := range []string{"tcp", "udp"} {
					s.want("", proto, "127.0.0.1:8080", "a1 10.0.1.1")
				}
				s.shell("nft flush ruleset")
				s.silent(asks...)
				if _, err := s.rules.Repair(); err != nil {
					t.Fatal(err)
				}
				for _, proto := range []string{"tcp", "udp"} {
					s.want("", proto, "127.0.0.1:8080", "a1 10.0.1.1")
				}
			})
		})
	}
}

// TestLoopbackByFrames: nor do frames of a container's own making, with tags that name no VLAN, which the kernel takes away.
func TestLoopbackByFrames(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		s.publish("a1", "tcp 0.0.0.0:8080 10.0.1.11:80")
		s.shell("nft flush ruleset; sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.kba.rp_filter=0 net.ipv4.conf.kba.accept_local=1")
		heard, err := net.ListenPacket("udp4", "0.0.0.0:7778")
		if err != nil {
			t.Fatal(err)
		}
		defer heard.Close()
		bridge, err := net.InterfaceByName("kba")
		if err != nil {
			t.Fatal(err)
		}
		mac := bridge.HardwareAddr
		tag, outer, urgent := []byte{0x81, 0, 0, 0}, []byte{0x88, 0xa8, 0, 0}, []byte{0x81, 0, 0x20, 0}
		own, machine, loopback := [4]byte{10, 0, 1, 11}, [4]byte{10, 0, 1, 1}, [4]byte{127, 0, 0, 1}
		ways := map[string][]byte{"": nil, "tag": tag, "tags": slices.Concat(tag, tag), "outer": outer, "outer tags": slices.Concat(outer, tag), "many": slices.Concat(tag, tag, tag), "urgent tags": slices.Concat(urgent, urgent)}
		var frames [][]byte
		for name, tags := range ways {
			frames = append(frames, frame(mac, tags, own, loopback, "loopback "+name), frame(mac, tags, loopback, machine, "from loopback "+name))
		}
		s.frames("a1", append(frames, frame(mac, tag, own, machine, "tagged"), frame(mac, nil, own, machine, "last"))...)
		var got []string
		heard.SetDeadline(time.Now().Add(waits))
		for b := make([]byte, 100); len(got) == 0 || got[len(got)-1] != "last"; {
			n, _, err := heard.ReadFrom(b)
			if err != nil {
				t.Fatal(err, got)
			}
			got = append(got, string(b[:n]))
		}
		if want := []string{"tagged", "last"}; !slices.Equal(got, want) {
			t.Errorf("this machine gets %q, not %q", got, want)
		}
	})
}

// frame is one of a container's own making: UDP to port 7778.
func frame(mac net.HardwareAddr, tags []byte, from, to [4]byte, text string) []byte {
	return frameOf(mac, tags, unix.IPPROTO_UDP, from, to, append([]byte{9, 9, 7778 >> 8, 7778 & 0xff, 0, byte(8 + len(text)), 0, 0}, text...))
}

func frameOf(mac net.HardwareAddr, tags []byte, proto byte, from, to [4]byte, body []byte) []byte {
	head := slices.Concat([]byte{0x45, 0, 0, byte(20 + len(body)), 0, 1, 0, 0, 64, proto, 0, 0}, from[:], to[:])
	sum := onesSum(0, head)
	head[10], head[11] = byte(sum>>8), byte(sum)
	return slices.Concat(mac, []byte{2, 0, 0, 0, 0, 9}, tags, []byte{8, 0}, head, body)
}

// frame6 is one of IPv6.
func frame6(mac net.HardwareAddr, from, to netip.Addr, text string) []byte {
	size := byte(8 + len(text))
	udp := append([]byte{9, 9, 7778 >> 8, 7778 & 0xff, 0, size, 0, 0}, text...)
	sum := onesSum(uint32(size)+unix.IPPROTO_UDP, slices.Concat(from.AsSlice(), to.AsSlice(), udp))
	udp[6], udp[7] = byte(sum>>8), byte(sum)
	return frame6Of(mac, unix.IPPROTO_UDP, from, to, udp)
}

func frame6Of(mac net.HardwareAddr, proto byte, from, to netip.Addr, body []byte) []byte {
	return slices.Concat(mac, []byte{2, 0, 0, 0, 0, 9, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(body)), proto, 64}, from.AsSlice(), to.AsSlice(), body)
}

// onesSum is the checksum of IP, of what is added up already and of bytes.
func onesSum(sum uint32, b []byte) uint32 {
	for i, c := range b {
		sum += uint32(c) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^sum & 0xffff
}

// frames sends them by the device of a place.
func (s *stage) frames(place string, frames ...[]byte) {
	s.t.Helper()
	if err := s.in(place, func() error { return sendFrames(frames...) }); err != nil {
		s.t.Fatal(err)
	}
}

// sendFrames sends them by eth0 of the network namespace that the thread is in.
func sendFrames(frames ...[]byte) error {
	device, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, f := range frames {
		if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: device.Index, Halen: 6}); err != nil {
			return err
		}
	}
	return nil
}

// TestCVE_2025_54388: a port that is published at 127.0.0.1 is this machine's alone, also after its firewall was loaded anew and the rules are back. Whoever sits on the wire, or is root
// in another network's container, leads the loopback's addresses here, and the kernel would take them.
func TestCVE_2025_54388(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA, bridgeB)
		s.serve("a1", "[::]:80")
		s.publish("a1", "tcp 127.0.0.1:8081 10.0.1.11:80", "udp 127.0.0.1:8081 10.0.1.11:80")
		s.shell("sysctl -qw net.ipv4.conf.wire.route_localnet=1; sysctl -qw net.ipv4.conf.kbb.route_localnet=1")
		for ns, gateway := range map[string]string{"away": "192.0.2.1", "b1": "10.0.2.1"} {
			s.shell("ip -n " + ns + " route add 127.0.0.1/32 via " + gateway + " table 5; ip -n " + ns + " rule add to 127.0.0.1 lookup 5 pref 0; ip -n " + ns + " addr flush dev lo; ip netns exec " + ns + " sysctl -qw net.ipv4.conf.all.route_localnet=1")
		}
		for _, damage := range []string{"", "nft flush ruleset", "nft flush chain inet kakuri early"} {
			if damage != "" {
				s.shell(damage)
				if healed, err := s.rules.Heal(); err != nil || !healed {
					t.Errorf("after %s: healed %v, %v", damage, healed, err)
				}
			}
			var asks [][3]string
			for _, proto := range []string{"tcp", "udp"} {
				s.want("", proto, "127.0.0.1:8081", "a1 10.0.1.1")
				asks = append(asks, [3]string{"away", proto, "127.0.0.1:8081"}, [3]string{"b1", proto, "127.0.0.1:8081"}, [3]string{"away", proto, "10.0.1.11:80"})
			}
			s.silent(asks...)
		}
	})
}

// TestGatewayModes: what other machines that know a way there, and other networks, reach of containers without a port of the host.
func TestGatewayModes(t *testing.T) {
	onStage(t, false, func(s *stage) {
		for _, place := range []string{"a1", "a2", "b1", "away"} {
			s.serve(place, "[::]:80")
			s.serve(place, "[::]:81")
		}
		const direct4, direct6 = "tcp 0.0.0.0:0 10.0.1.11:80", "tcp [::]:0 [2001:db8:1::11]:80"
		routed := ports(direct4, direct6)
		for i := range routed {
			routed[i].Routed = true
		}
		s.bridges(plan.Bridge{Device: "kba", ICC: true, Routed4: true, Routed6: true}, bridgeB)
		if err := s.rules.Publish("a1", routed); err != nil {
			t.Fatal(err)
		}
		s.want("away", "tcp", "10.0.1.11:80", "a1 192.0.2.2")
		s.want("away", "tcp", "[2001:db8:1::11]:80", "a1 2001:db8:9::2")
		s.want("b1", "tcp", "10.0.1.11:80", "a1 10.0.1.1") // it comes by the default route, masqueraded
		s.want("a1", "tcp", "192.0.2.2:80", "away 10.0.1.11")
		s.shell("ip -n away route replace default via 192.0.2.1; ip netns exec away ping -qc1 -W5 10.0.1.12; ip netns exec away ping -qc1 -W5 2001:db8:1::12")
		s.silent([3]string{"away", "tcp", "10.0.1.11:81"}, [3]string{"away", "tcp", "10.0.1.12:80"}, [3]string{"away", "tcp", "[2001:db8:1::12]:80"}, [3]string{"away", "tcp", "10.0.2.11:80"}, [3]string{"b1", "tcp", "10.0.1.12:80"})
		if held, err := s.rules.HoldPort(routed[0]); err != nil || held.FD != -1 {
			t.Errorf("a port that the host has not is held: %+v, %v", held, err)
		}
		state, err := ReadTable()
		if err != nil || len(state.Ports) != 2 || state.Ports[0].String() != "10.0.1.11:80/tcp" || state.Ports[0].Owner != "a1" || !state.Bridges[0].Routed6 || state.Bridges[1].Routed4 {
			t.Errorf("%+v, %v", state, err)
		}
		s.shell("nft flush table inet kakuri")
		if done, err := s.rules.Repair(); !done || err != nil {
			t.Errorf("%v, %v", done, err)
		}
		s.want("away", "tcp", "10.0.1.11:80", "a1 192.0.2.2")
		if err := s.rules.Unpublish("a1"); err != nil {
			t.Error(err)
		}
		open := bridgeA
		open.Unprotected4 = true
		s.bridges(open)
		s.publish("a1", "tcp 0.0.0.0:8080 10.0.1.11:80")
		s.want("away", "tcp", "10.0.1.11:81", "a1 192.0.2.2")
		s.want("away", "tcp", "192.0.2.1:8080", "a1 192.0.2.2")
		s.want("a1", "tcp", "192.0.2.2:80", "away 192.0.2.1")
		s.silent([3]string{"b1", "tcp", "10.0.1.11:81"}, [3]string{"away", "tcp", "[2001:db8:1::11]:80"})
	})
}

// TestNetworksThatAreCut: internal ones reach nothing and nothing reaches them, and without ICC containers do not reach each other by the host.
func TestNetworksThatAreCut(t *testing.T) {
	onStage(t, true, func(s *stage) {
		s.bridges(plan.Bridge{Device: "kba", Masquerade4: true}, plan.Bridge{Device: "kbb", Internal: true, ICC: true, Masquerade4: true})
		for _, place := range []string{"a1", "a2", "b1", "away"} {
			s.serve(place, "[::]:80")
		}
		s.publish("a1", "tcp 0.0.0.0:8080 10.0.1.11:80")
		s.want("", "tcp", "10.0.2.11:80", "b1 10.0.2.1")
		s.want("a1", "tcp", "192.0.2.2:80", "away 192.0.2.1")
		s.want("away", "tcp", "192.0.2.1:8080", "a1 192.0.2.2")
		s.silent(
			[3]string{"b1", "tcp", "192.0.2.2:80"}, [3]string{"b1", "tcp", "[2001:db8:9::2]:80"}, [3]string{"b1", "tcp", "10.0.1.11:80"}, [3]string{"b1", "tcp", "192.0.2.1:8080"},
			[3]string{"away", "tcp", "10.0.2.11:80"}, [3]string{"a1", "tcp", "10.0.2.11:80"}, [3]string{"a1", "tcp", "10.0.1.12:80"}, [3]string{"a2", "tcp", "[2001:db8:1::11]:80"})
		// Changed, all of it is as the bridge says now.
		s.bridges(bridgeA, plan.Bridge{Device: "kbb", ICC: true, Masquerade4: true})
		s.want("a1", "tcp", "10.0.1.12:80", "a2 10.0.1.11")
		s.want("b1", "tcp", "192.0.2.2:80", "away 192.0.2.1")
	})
}

// TestInternalAndSockets: a port that a socket of this machine takes, since it is strict or of the other family, is no more for containers of internal networks than one that rules lead on;
// what else listens at that number is: here at other addresses, and beside them on their network, of which br_netfilter shows the packets.
func TestInternalAndSockets(t *testing.T) {
	onStage(t, true, func(s *stage) {
		inner := plan.Bridge{Device: "kba", Internal: true, ICC: true}
		s.bridges(inner, bridgeB)
		s.serve("", "[::]:8090")
		s.serve("", "[::]:8091")
		s.serve("a2", "[::]:8090")
		publish := func(owner string, p plan.Publish) {
			t.Helper()
			if err := s.rules.Publish(owner, []plan.Publish{p}); err != nil {
				t.Fatal(err)
			}
		}
		v4, far4 := [3]string{"a1", "tcp", "10.0.1.1:8090"}, [3]string{"a1", "tcp", "192.0.2.1:8090"}
		v6, far6 := [3]string{"a1", "tcp", "[2001:db8:1::1]:8090"}, [3]string{"a1", "tcp", "[2001:db8:9::1]:8090"}
		open := func(asks ...[3]string) {
			t.Helper()
			for _, a := range asks {
				s.want(a[0], a[1], a[2], " "+map[bool]string{true: "2001:db8:1::11", false: "10.0.1.11"}[strings.HasPrefix(a[2], "[")])
			}
			s.want("a1", "tcp", "10.0.1.12:8090", "a2 10.0.1.11")
			s.want("a1", "tcp", "[2001:db8:1::12]:8090", "a2 2001:db8:1::11")
		}
		open(v4, far4, v6, far6)
		strict := port("tcp 0.0.0.0:8090 10.0.2.11:80")
		strict.Strict = true
		publish("strict", strict)
		s.silent(v4, far4)
		open(v6, far6)
		publish("mixed", port("tcp [2001:db8:9::1]:8090 10.0.2.11:80"))
		publish("lo", port("tcp [::1]:8091 10.0.2.11:80"))
		s.silent(v4, far4, far6)
		open(v6)
		s.want("b1", "tcp", "10.0.2.1:8090", " 10.0.2.11")
		s.want("a1", "tcp", "10.0.1.1:8091", " 10.0.1.11")
		if faults, err := s.rules.Check(); err != nil || len(faults) != 0 {
			t.Errorf("Check finds %q, %v", faults, err)
		}
		if err := s.rules.Unpublish("strict"); err != nil {
			t.Fatal(err)
		}
		s.silent(far6)
		open(v4, far4, v6)
		strict.HostAddr = netip.MustParseAddr("192.0.2.1")
		publish("mixed", strict)
		s.silent(far4)
		open(v4, v6, far6)
		publish("mixed", port("tcp [::]:8090 10.0.2.11:80"))
		s.silent(v6, far6)
		open(v4, far4)
		if err := s.rules.Unpublish("mixed"); err != nil {
			t.Fatal(err)
		}
		open(v4, far4, v6, far6)
	})
}

// arrive sends a datagram from an address in a place, and tells whether it comes to another one, where a port is heard: of two on the same way the first one is not late.
func (s *stage) arrive(place, source, at, address string) (arrived bool) {
	s.t.Helper()
	err := s.in(at, func() error {
		u, err := net.ListenPacket("udp", "[::]:7")
		if err != nil {
			return err
		}
		defer u.Close()
		err = s.in(place, func() error {
			to, err := net.ResolveUDPAddr("udp", address)
			if err != nil {
				return err
			}
			for i, from := range []*net.UDPAddr{{IP: net.ParseIP(source)}, nil} {
				c, err := net.DialUDP("udp", from, to)
				if err != nil {
					return err
				}
				defer c.Close()
				if _, err := c.Write([]byte{"lie"[i]}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		u.SetDeadline(time.Now().Add(waits))
		for b := make([]byte, 10); ; {
			n, _, err := u.ReadFrom(b)
			if err != nil {
				return err
			}
			if arrived = arrived || string(b[:n]) == "l"; string(b[:n]) == "i" {
				return nil
			}
		}
	})
	if err != nil {
		s.t.Fatalf("from %s of %q to %s: %v", source, place, address, err)
	}
	return arrived
}

// TestSenders: nobody sends by a bridge with an address that is reached by another one, of a container's own or not: neither to other machines, nor to this one, nor to a
// published port. What a container is the way to is reached by its bridge, and so it may send.
func TestSenders(t *testing.T) {
	onStage(t, true, func(s *stage) {
		s.bridges(bridgeA, bridgeB)
		s.publish("b1", "udp 192.0.2.1:7 10.0.2.11:7")
		s.serve("away", "[::]:80")
		s.serve("a2", "[::]:80")
		for _, address := range []string{"192.0.2.2:80", "[2001:db8:9::2]:80", "10.0.1.12:80"} {
			s.ask("a1", "tcp", address) // neighbours know each other
		}
		s.shell("ip -n a1 addr add 10.0.2.11/32 dev lo; ip -n a1 addr add 2001:db8:2::11/128 dev lo nodad; ip -n a1 addr add 10.9.0.1/32 dev lo; ip -n a1 addr add 2001:db8:77::1/128 dev lo nodad; ip -n a1 addr add 169.254.7.7/32 dev lo")
		for _, c := range []struct {
			source, at, address string
			want                bool
		}{
			{"10.0.2.11", "away", "192.0.2.2:7", false}, {"2001:db8:2::11", "away", "[2001:db8:9::2]:7", false},
			{"10.0.2.11", "", "10.0.1.1:7", false}, {"2001:db8:2::11", "", "[2001:db8:1::1]:7", false},
			{"10.0.2.11", "b1", "192.0.2.1:7", false},
			{"10.9.0.1", "away", "192.0.2.2:7", false}, {"2001:db8:77::1", "away", "[2001:db8:9::2]:7", false},
			{"10.0.1.11", "away", "192.0.2.2:7", true}, {"10.0.1.11", "b1", "192.0.2.1:7", true},
			{"169.254.7.7", "a2", "10.0.1.12:7", true}, {"10.9.0.1", "a2", "10.0.1.12:7", true},
		} {
			if got := s.arrive("a1", c.source, c.at, c.address); got != c.want {
				t.Errorf("from %s to %s at %q: arrived is %v", c.source, c.address, c.at, got)
			}
		}
		s.shell("ip route add 10.9.0.0/24 via 10.0.1.11; ip -6 route add 2001:db8:77::/64 via 2001:db8:1::11")
		for source, address := range map[string]string{"10.9.0.1": "192.0.2.2:7", "2001:db8:77::1": "[2001:db8:9::2]:7"} {
			if !s.arrive("a1", source, "away", address) {
				t.Errorf("from %s, behind a container, to %s: it did not arrive", source, address)
			}
		}
	})
}

// TestForgedAnswers: before who was asked has answered, nobody does in his name by another network, be the question this machine's or another container's: who guesses ports
// would be believed. What is answered, a neighbour's question too, arrives.
func TestForgedAnswers(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA, plan.Bridge{Device: "kbb", Internal: true})
		// A cloud has its servers at an address of the link alone, and NAT64 those of IPv4 below 64:ff9b::/96.
		four, six := []string{"192.0.2.2", "169.254.169.254"}, []string{"2001:db8:9::2", "64:ff9b::c000:202"}
		for _, n := range []string{"a1", "b1", "away"} {
			for _, a := range slices.Concat(four, six) {
				s.shell("ip -n " + n + " addr replace " + a + " dev lo nodad")
			}
		}
		s.shell("ip route add " + four[1] + " via " + four[0] + "; ip -6 route add " + six[1] + " via " + six[0])
		for _, c := range []struct {
			asks, at, told, forger string
			servers                []string
		}{
			{"", "192.0.2.1", "192.0.2.1", "a1", four}, {"", "2001:db8:9::1", "2001:db8:9::1", "a1", six},
			{"", "192.0.2.1", "192.0.2.1", "b1", four}, {"", "2001:db8:9::1", "2001:db8:9::1", "b1", six},
			{"a2", "10.0.1.12", "192.0.2.1", "a1", four}, {"a2", "10.0.1.12", "192.0.2.1", "b1", four},
		} {
			for _, server := range c.servers {
				if got := s.firstAnswer(c.asks, c.at, "away", server, c.forger, c.told); got != "true" {
					t.Errorf("%s asks %s at %q, and %s answers first: %q", c.at, server, c.asks, c.forger, got)
				}
			}
		}
	})
}

// firstAnswer has a question go from an address in a place to one in another, and a third place answer in the latter's name at the address that the question seems to be from, before it answers
// itself. It returns what arrives first.
func (s *stage) firstAnswer(asks, at, answers, server, forger, told string) string {
	s.t.Helper()
	asker, answerer, liar := s.socket(asks, at, 3053), s.socket(answers, server, 53), s.socket(forger, server, 53)
	defer asker.Close()
	defer answerer.Close()
	defer liar.Close()
	s.say(asker, "question", server, 53)
	_, from := s.hear(answerer)
	s.say(liar, "forged", told, 3053)
	s.say(answerer, "true", from.IP.String(), from.Port)
	got, _ := s.hear(asker)
	return got
}

// socket is one of UDP in a place, as long as the stage.
func (s *stage) socket(place, address string, port int) (c *net.UDPConn) {
	s.t.Helper()
	err := s.in(place, func() (err error) {
		c, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(address), Port: port})
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

func (s *stage) say(c *net.UDPConn, text, address string, port int) {
	s.t.Helper()
	if _, err := c.WriteTo([]byte(text), &net.UDPAddr{IP: net.ParseIP(address), Port: port}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) hear(c *net.UDPConn) (text string, from *net.UDPAddr) {
	s.t.Helper()
	buf := make([]byte, 100)
	c.SetDeadline(time.Now().Add(waits))
	n, from, err := c.ReadFromUDP(buf)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(buf[:n]), from
}

// TestInternalSenders: what is on an internal network comes to this machine with an address of that network alone, and to nobody else by a connection of another container's, which was answered.
func TestInternalSenders(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA, plan.Bridge{Device: "kbb", Internal: true, ICC: true})
		s.shell("ip -n b1 addr add 10.0.1.11/32 dev lo; ip -n b1 addr add 2001:db8:1::11/128 dev lo nodad; ip -n b1 addr add 192.0.2.77/32 dev lo; ip -n b1 addr add 169.254.9.9/32 dev lo; ip -n b1 addr add 192.0.2.2/32 dev lo; ip -n b1 addr add 2001:db8:77::7/128 dev lo nodad")
		for _, c := range []struct {
			source, address string
			want            bool
		}{
			{"192.0.2.77", "192.0.2.1:7", false}, {"169.254.9.9", "192.0.2.1:7", false}, {"10.0.1.11", "10.0.2.1:7", false}, {"2001:db8:77::7", "[2001:db8:2::1]:7", false}, {"2001:db8:1::11", "[2001:db8:9::1]:7", false},
			{"10.0.2.11", "10.0.2.1:7", true}, {"2001:db8:2::11", "[2001:db8:2::1]:7", true},
		} {
			if got := s.arrive("b1", c.source, "", c.address); got != c.want {
				t.Errorf("from %s to %s: arrived is %v", c.source, c.address, got)
			}
		}
		// Nor by one of this machine's own, though both sides have gone on with it for longer than the kernel takes to be sure.
		here, server, b1 := s.socket("", "192.0.2.1", 3053), s.socket("away", "192.0.2.2", 53), s.socket("b1", "192.0.2.2", 53)
		for range 2 {
			s.say(here, "question", "192.0.2.2", 53)
			_, from := s.hear(server)
			s.say(server, "answer", from.IP.String(), from.Port)
			s.hear(here)
			time.Sleep(2100 * time.Millisecond)
		}
		s.say(b1, "forged", "192.0.2.1", 3053)
		s.say(server, "more", "192.0.2.1", 3053)
		if got, _ := s.hear(here); got != "more" {
			t.Errorf("this machine has got %q", got)
		}
		server.Close()
		for own, server := range map[string]string{"10.0.1.11": "192.0.2.2", "2001:db8:1::11": "2001:db8:9::2"} {
			a1, away, b1 := s.socket("a1", own, 3053), s.socket("away", server, 53), s.socket("b1", own, 3053)
			s.say(a1, "question", server, 53)
			_, from := s.hear(away)
			s.say(away, "answer", from.IP.String(), from.Port)
			s.hear(a1)
			s.say(b1, "leak", server, 53)
			s.say(a1, "more", server, 53)
			if got, _ := s.hear(away); got != "more" {
				t.Errorf("%s has got %q", server, got)
			}
		}
	})
}

// TestMappedSenders: nobody sends to this machine by a bridge, internal or not, with an address of IPv6 that has one of IPv4 in it, or is of no use any more. A socket of both families would be told that 127.0.0.1 has sent.
func TestMappedSenders(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA, plan.Bridge{Device: "kbb", Internal: true, ICC: true, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.2.1/24"), netip.MustParsePrefix("2001:db8:2::1/64")}})
		heard, err := net.ListenPacket("udp", "[::]:7778")
		if err != nil {
			t.Fatal(err)
		}
		defer heard.Close()
		to := netip.MustParseAddr("2001:db8:9::1")
		for place, bridge := range map[string]string{"a1": "kba", "b1": "kbb"} {
			own := netip.MustParseAddr(map[string]string{"a1": "2001:db8:1::11", "b1": "2001:db8:2::11"}[place])
			device, err := net.InterfaceByName(bridge)
			if err != nil {
				t.Fatal(err)
			}
			s.ask(place, "udp", "["+to.String()+"]:9") // they know each other
			var frames [][]byte
			for _, from := range []string{"::ffff:127.0.0.1", "::ffff:192.0.2.2", "::192.0.2.2", "::2", "64:ff9b::c000:202", "fec0::1"} {
				for _, to := range []netip.Addr{to, netip.MustParseAddr("ff02::1")} {
					frames = append(frames, frame6(device.HardwareAddr, netip.MustParseAddr(from), to, from+" to "+to.String()))
				}
			}
			frames = append(frames, frame6(device.HardwareAddr, netip.MustParseAddr("2001:db8:9::2"), netip.MustParseAddr("ff02::1"), "a stranger to all"))
			ours, broadcast := [4]byte{192, 0, 2, 2}, [4]byte{10, 0, bridge[2] - 'a' + 1, 255}
			frames = append(frames, frame(device.HardwareAddr, nil, ours, broadcast, "a stranger to all of IPv4"))
			s.frames(place, append(frames, frame6(device.HardwareAddr, own, to, "last"))...)
			heard.SetDeadline(time.Now().Add(waits))
			b := make([]byte, 100)
			n, from, err := heard.ReadFrom(b)
			if err != nil || string(b[:n]) != "last" {
				t.Errorf("from %s: %q of %v, %v", place, b[:n], from, err)
			}
		}
	})
}

// TestInternalGroups: what goes to groups comes to this machine from an internal network with senders of that network alone, whatever the kernel's rp_filter and the way to other machines are; from one
// where this machine has no address nothing comes. Its neighbours hear each other, where br_netfilter has rules see that, too.
func TestInternalGroups(t *testing.T) {
	gateway := []netip.Prefix{netip.MustParsePrefix("10.0.1.1/24"), netip.MustParsePrefix("2001:db8:1::1/64")}
	for name, c := range map[string]struct {
		addrs       []netip.Prefix
		brNetfilter bool
	}{"gateway": {gateway, false}, "gateway, seen": {gateway, true}, "gateless": {nil, false}, "gateless, seen": {nil, true}} {
		t.Run(name, func(t *testing.T) {
			onStage(t, c.brNetfilter, func(s *stage) {
				s.shell("sysctl -qw net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.kba.rp_filter=2; ip route add default via 192.0.2.2; ip -6 route add default via 2001:db8:9::2")
				if c.addrs == nil {
					s.shell("ip addr flush dev kba scope global")
				}
				s.bridges(plan.Bridge{Device: "kba", Internal: true, ICC: true, Addrs: c.addrs})
				s.shell("nft delete table inet kakuri") // the record knows what it is, too
				if repaired, err := s.rules.Repair(); err != nil || !repaired {
					t.Errorf("repaired %v, %v", repaired, err)
				}
				here, neighbour := s.ears(""), s.ears("a2")
				var frames [][]byte
				var own, nobodys []string
				all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
				for _, to := range [][4]byte{{255, 255, 255, 255}, {224, 0, 0, 251}, {239, 1, 1, 1}} {
					text := net.IP(to[:]).String()
					frames = append(frames, frame(all, nil, [4]byte{192, 0, 2, 2}, to, "stranger to "+text), frame(all, nil, [4]byte{}, to, "nobody to "+text), frame(all, nil, [4]byte{10, 0, 1, 11}, to, "own to "+text))
					own = append(own, "own to "+text)
					if to[0] != 239 { // the kernel itself lets nobody send farther than the link
						nobodys = append(nobodys, "nobody to "+text)
					}
				}
				frames = append(frames, frame(all, nil, [4]byte{192, 0, 2, 2}, [4]byte{192, 0, 2, 255}, "stranger to another network's"))
				for _, text := range []string{"ff02::1", "ff05::2"} {
					to := netip.MustParseAddr(text)
					frames = append(frames, frame6(all, netip.MustParseAddr("2001:db8:9::2"), to, "stranger to "+text), frame6(all, netip.MustParseAddr("2001:db8:1::11"), to, "own to "+text))
					own = append(own, "own to "+text)
				}
				s.frames("a1", append(frames, frame(all, nil, [4]byte{10, 0, 1, 11}, [4]byte{255, 255, 255, 255}, "last"))...)
				own = append(own, "last")
				if got := s.heard(neighbour, "last"); !slices.Equal(without(got, "stranger", "nobody"), own) {
					t.Errorf("a neighbour has heard %q, not %q", got, own)
				}
				s.say(s.socket("", "192.0.2.1", 7), "end", "192.0.2.1", 7778)
				want := []string{"end"}
				if c.addrs != nil {
					want = append(append(own, nobodys...), "end")
				}
				if got := s.heard(here, "end"); !slices.Equal(sorted(got), sorted(want)) {
					t.Errorf("this machine has heard %q, not %q", got, want)
				}
			})
		})
	}
}

// ears have a place hear what comes to a port of UDP, and to some groups.
func (s *stage) ears(place string) (c net.PacketConn) {
	s.t.Helper()
	err := s.in(place, func() (err error) {
		if c, err = net.ListenPacket("udp", "[::]:7778"); err != nil {
			return err
		}
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		links, err := net.Interfaces()
		for _, l := range links {
			if l.Name == "kba" || l.Name == "eth0" {
				err = errors.Join(err, raw.Control(func(fd uintptr) {
					unix.SetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: netip.MustParseAddr("ff05::2").As16(), Interface: uint32(l.Index)})
					for _, group := range [][4]byte{{224, 0, 0, 251}, {239, 1, 1, 1}} {
						unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group, Ifindex: int32(l.Index)})
					}
				}))
			}
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// heard is all that has come, up to a text.
func (s *stage) heard(c net.PacketConn, last string) (list []string) {
	s.t.Helper()
	c.SetDeadline(time.Now().Add(waits))
	for b := make([]byte, 100); !slices.Contains(list, last); {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			s.t.Fatalf("%q: %v", list, err)
		}
		list = append(list, string(b[:n]))
	}
	return list
}

// without leaves out what begins with some words.
func without(list []string, words ...string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(text string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(text, w) })
	})
}

// TestGatelessSenders: from an internal network whose bridge has no address nothing comes to this machine, whoever has the bridge's MAC. Neighbours' packets are seen here, by br_netfilter, and go on.
func TestGatelessSenders(t *testing.T) {
	onStage(t, true, func(s *stage) {
		s.bridges(plan.Bridge{Device: "kba", Internal: true, ICC: true})
		s.shell("ip addr flush dev kba scope global; mac=$(cat /sys/class/net/kba/address 2>/dev/null || ip -o link show kba | sed 's/.*ether \\([^ ]*\\) .*/\\1/'); ip -n a1 neigh add 10.0.1.1 lladdr $mac dev eth0; ip -n a1 neigh add 2001:db8:1::1 lladdr $mac dev eth0")
		for _, address := range []string{"10.0.1.12:80", "[2001:db8:1::12]:80"} {
			s.serve("a2", address)
			s.want("a1", "tcp", address, "a2 "+map[bool]string{true: "10.0.1.11", false: "2001:db8:1::11"}[address[0] == '1'])
		}
		for own, at := range map[string]string{"10.0.1.11": "192.0.2.1", "2001:db8:1::11": "2001:db8:9::1"} {
			here, other := s.socket("", at, 7), map[bool]string{true: "192.0.2.2", false: "2001:db8:9::2"}[at[0] == '1']
			s.say(s.socket("a1", own, 7), "isolated", at, 7)
			s.say(s.socket("away", other, 7), "other", at, 7)
			if got, _ := s.hear(here); got != "other" {
				t.Errorf("%s has got %q", at, got)
			}
		}
	})
}

// TestForeignDropStays: what another table drops stays dropped, before and after our rules in the order of the hook.
func TestForeignDropStays(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		s.serve("a1", "[::]:80")
		s.publish("a1", "tcp 0.0.0.0:8080 10.0.1.11:80")
		s.want("away", "tcp", "192.0.2.1:8080", "a1 192.0.2.2")
		for _, priority := range []string{"-10", "10"} {
			s.shell("nft 'table inet others { chain c { type filter hook forward priority " + priority + "; policy drop; }; }'")
			s.silent([3]string{"away", "tcp", "192.0.2.1:8080"}, [3]string{"a1", "tcp", "192.0.2.2:80"})
			s.shell("nft delete table inet others")
		}
		s.want("away", "tcp", "192.0.2.1:8080", "a1 192.0.2.2")
	})
}

// TestDockerUser: where a chain for others is, as dockerd makes it, our bridges get through dockerd's policy by it, after the administrator's rules.
func TestDockerUser(t *testing.T) {
	onStage(t, false, func(s *stage) {
		docker := func(last string) {
			s.shell("for i in iptables-nft ip6tables-nft; do $i -P FORWARD DROP; $i -N DOCKER-USER; $i -I FORWARD -j DOCKER-USER; $i -A DOCKER-USER -p tcp --dport 81 -j DROP; " + last + "; done")
		}
		docker("$i -A DOCKER-USER -j RETURN")
		s.bridges(bridgeA)
		s.serve("a1", "[::]:80")
		s.serve("a1", "[::]:81")
		s.publish("a1", "tcp 0.0.0.0:8080 10.0.1.11:80", "tcp 0.0.0.0:8081 10.0.1.11:81", "tcp [::]:8080 [2001:db8:1::11]:80")
		s.want("away", "tcp", "192.0.2.1:8080", "a1 192.0.2.2")
		s.want("away", "tcp", "[2001:db8:9::1]:8080", "a1 2001:db8:9::2")
		s.silent([3]string{"away", "tcp", "192.0.2.1:8081"}, [3]string{"away", "tcp", "10.0.1.11:80"})
		const want = "-N DOCKER-USER\n-A DOCKER-USER -p tcp -m tcp --dport 81 -j DROP\n-A DOCKER-USER -i kba -m comment --comment \"kakuri: kba\" -j ACCEPT\n" +
			"-A DOCKER-USER -o kba -m comment --comment \"kakuri: kba\" -j ACCEPT\n-A DOCKER-USER -j RETURN\n"
		rules := func() string { return s.shell("iptables-nft -S DOCKER-USER") }
		plain := strings.ReplaceAll(want, " -m comment --comment \"kakuri: kba\"", "")
		if got := rules(); got != want && got != plain {
			t.Errorf("iptables has\n%s", got)
		}
		s.bridges(bridgeA, bridgeB, bridgeA)
		if got := rules(); strings.Count(got, "kba") != strings.Count(want, "kba") && strings.Count(got, "kba") != 2 || strings.Count(got, "ACCEPT") != 4 {
			t.Errorf("with two bridges:\n%s", got)
		}
		for _, b := range []string{"kba", "kbb"} {
			if err := s.rules.RemoveBridge(b, ""); err != nil {
				t.Fatal(err)
			}
		}
		if got := rules(); strings.Contains(got, "ACCEPT") {
			t.Errorf("left:\n%s", got)
		}
		// A dockerd that starts later is found by the next one that starts something.
		s.shell("iptables-nft -P FORWARD ACCEPT; iptables-nft -F; iptables-nft -X DOCKER-USER; ip6tables-nft -F; ip6tables-nft -X DOCKER-USER")
		s.bridges(bridgeA)
		docker("true")
		s.bridges(bridgeA)
		s.want("away", "tcp", "192.0.2.1:8080", "a1 192.0.2.2")
		// So it is by whatever command looks after the rules, and so are rules that somebody flushed, whose chain a dockerd that was started anew jumps to again.
		for _, damage := range []string{"$i -F DOCKER-USER", "$i -D DOCKER-USER 2", "$i -F; $i -I FORWARD -j DOCKER-USER"} {
			s.shell("for i in iptables-nft ip6tables-nft; do " + damage + "; done")
			if faults, err := s.rules.Check(); err != nil || len(faults) != 1 || !strings.Contains(faults[0], "DOCKER-USER") {
				t.Errorf("after %s: %q, %v", damage, faults, err)
			}
			if healed, err := s.rules.Heal(); err != nil || !healed {
				t.Errorf("after %s: healed %v, %v", damage, healed, err)
			}
			s.want("away", "tcp", "192.0.2.1:8080", "a1 192.0.2.2")
			if healed, err := s.rules.Heal(); err != nil || healed || strings.Count(rules(), "kba") < 2 || strings.Count(rules(), "ACCEPT") != 2 {
				t.Errorf("after %s and a repair: healed %v, %v:\n%s", damage, healed, err, rules())
			}
		}
	})
}

// TestFlushed: whatever somebody flushes, the next one who starts something puts it back, and Repair does.
func TestFlushed(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.serve("a1", "[::]:80")
		s.serve("b1", "[::]:80")
		for _, damage := range []string{
			"flush ruleset", "delete table inet kakuri", "flush table inet kakuri", "flush chain inet kakuri forward", "flush map inet kakuri any4", "flush set inet kakuri bridges",
			"insert rule inet kakuri forward accept", "add rule inet kakuri output drop",
		} {
			s.bridges(bridgeA, bridgeB)
			s.publish("a1", "tcp 0.0.0.0:8080 10.0.1.11:80")
			whole := s.list()
			s.shell("nft " + damage)
			if faults, err := s.rules.Check(); err != nil || len(faults) == 0 {
				t.Errorf("after nft %s: %v, %v", damage, faults, err)
			}
			if repaired, err := s.rules.Repair(); err != nil || !repaired {
				t.Errorf("after nft %s: repaired %v, %v", damage, repaired, err)
			}
			if got := s.list(); got != whole {
				t.Errorf("nft %s, then a repair:\n%s", damage, got)
			}
			if faults, err := s.rules.Check(); err != nil || len(faults) != 0 {
				t.Errorf("after nft %s and a repair: %v, %v", damage, faults, err)
			}
			if repaired, err := s.rules.Repair(); err != nil || repaired {
				t.Errorf("after a repair: repaired %v, %v", repaired, err)
			}
			s.shell("nft " + damage)
			s.bridges(bridgeB)
			s.publish("b1", "tcp 0.0.0.0:8081 10.0.2.11:80")
			s.want("away", "tcp", "192.0.2.1:8081", "b1 192.0.2.2")
			if strings.Contains(damage, "set") || strings.Contains(damage, "map") {
				s.rules.Repair() // of single sets nobody reads all
			}
			s.want("away", "tcp", "192.0.2.1:8080", "a1 192.0.2.2")
			s.silent([3]string{"away", "tcp", "10.0.1.11:80"})
			for _, owner := range []string{"a1", "b1", "b1"} {
				if err := s.rules.Unpublish(owner); err != nil {
					t.Fatal(err)
				}
			}
		}
		// With the last user the table goes.
		for _, b := range []string{"kba", "kbb", "kbb"} {
			if err := s.rules.RemoveBridge(b, ""); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.list(); got != "" {
			t.Errorf("left:\n%s", got)
		}
		if state, err := ReadTable(); err != nil || state.Present {
			t.Errorf("%+v, %v", state, err)
		}
	})
}

// TestOwners: a port is its owner's; of an owner that went without a word the next one takes it, and then it is his.
func TestOwners(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		s.publish("old", "tcp 0.0.0.0:8080 10.0.1.11:80", "udp 0.0.0.0:8080 10.0.1.11:80", "sctp 0.0.0.0:8080 10.0.1.11:80")
		s.publish("new", "tcp 0.0.0.0:8080 10.0.1.12:80", "udp 0.0.0.0:8080 10.0.1.11:80")
		owners := func() string {
			state, err := ReadTable()
			if err != nil {
				t.Fatal(err)
			}
			var list []string
			for _, p := range state.Ports {
				list = append(list, p.Owner+" "+p.Proto+" "+p.Addr.String())
			}
			return strings.Join(list, ", ")
		}
		if got := owners(); got != "old sctp 10.0.1.11, new tcp 10.0.1.12, new udp 10.0.1.11" {
			t.Errorf("taken over: %s", got)
		}
		if err := s.rules.Publish("third", ports("sctp 0.0.0.0:8080 10.0.1.12:80")); !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "old") {
			t.Errorf("SCTP's port of another: %v", err)
		}
		if faults, err := s.rules.Check(); err != nil || len(faults) != 0 {
			t.Errorf("%v, %v", faults, err)
		}
		s.shell("nft flush ruleset")
		if _, err := s.rules.Repair(); err != nil {
			t.Error(err)
		}
		if got := owners(); got != "old sctp 10.0.1.11, new tcp 10.0.1.12, new udp 10.0.1.11" {
			t.Errorf("repaired: %s", got)
		}
		gone, err := s.rules.Sweep(func(owner string) bool { return owner == "new" })
		if err != nil || !slices.Equal(gone, []string{"old"}) {
			t.Errorf("swept %v, %v", gone, err)
		}
		if got := owners(); got != "new tcp 10.0.1.12, new udp 10.0.1.11" {
			t.Errorf("swept: %s", got)
		}
		s.publish("new", "tcp 0.0.0.0:8080 10.0.1.12:81", "tcp 127.0.0.1:99 10.0.1.12:80")
		if got := s.list(); strings.Contains(got, "udp . 8080") || !strings.Contains(got, "tcp . 8080 comment \"new\" : 10.0.1.12 . 81") || !strings.Contains(got, "tcp . 127.0.0.1 . 99 comment \"new\" : 10.0.1.12 . 80") {
			t.Errorf("published anew:\n%s", got)
		}
		// Cut off after the record was put aside.
		if err := os.Rename(filepath.Join(s.dir, "ports/new"), filepath.Join(s.dir, "ports/.new")); err != nil {
			t.Fatal(err)
		}
		if gone, err := s.rules.Sweep(func(string) bool { return true }); err != nil || !slices.Equal(gone, []string{"new"}) {
			t.Errorf("swept %v, %v", gone, err)
		}
		if got := owners(); got != "" {
			t.Errorf("left: %s", got)
		}
		for _, bad := range []string{"", ".x", "a/b", "../x"} {
			if err := s.rules.Publish(bad, ports("tcp 0.0.0.0:1 10.0.1.12:80")); !errors.Is(err, unix.EINVAL) {
				t.Errorf("owner %q: %v", bad, err)
			}
		}
	})
}

// TestTwoEngines: each repairs what it knows, and leaves what the other one made.
func TestTwoEngines(t *testing.T) {
	onStage(t, false, func(s *stage) {
		other := OpenRules(t.TempDir())
		s.bridges(bridgeA)
		s.publish("a1", "tcp 0.0.0.0:8080 10.0.1.11:80")
		if err := errors.Join(other.AddBridge(bridgeB), other.Publish("b1", ports("tcp 0.0.0.0:8081 10.0.2.11:80"))); err != nil {
			t.Fatal(err)
		}
		whole := s.list()
		s.shell("nft flush chain inet kakuri forward; nft flush map inet kakuri any4")
		for _, r := range []*Rules{s.rules, other} {
			if repaired, err := r.Repair(); err != nil || !repaired {
				t.Errorf("repaired %v, %v", repaired, err)
			}
		}
		// The order of a set's elements is the kernel's.
		sorted := func(text string) string {
			words := strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(" \t\n,{}", c) })
			slices.Sort(words)
			return strings.Join(words, " ")
		}
		if got := s.list(); sorted(got) != sorted(whole) {
			t.Errorf("repaired by both:\n%s\nnot\n%s", got, whole)
		}
		if err := errors.Join(s.rules.Unpublish("a1"), s.rules.RemoveBridge("kba", "")); err != nil {
			t.Fatal(err)
		}
		state, err := ReadTable()
		if err != nil || !state.Intact || len(state.Bridges) != 1 || len(state.Ports) != 1 || state.Ports[0].Owner != "b1" {
			t.Errorf("after one has gone: %+v, %v", state, err)
		}
		if err := errors.Join(other.RemoveBridge("kbb", ""), other.Unpublish("b1")); err != nil {
			t.Fatal(err)
		}
		if got := s.list(); got != "" {
			t.Errorf("left:\n%s", got)
		}
	})
}

// TestNewerTable: the table of a newer version of this program stays as it is for this one, which has its bridges and ports there; an older one's, and one of other words, is made anew.
func TestNewerTable(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		s.publish("a1", "tcp 0.0.0.0:8080 10.0.1.11:80")
		own := s.list()
		// nft(8) does not keep the hashes of rules, so all are others now.
		become := func(comment string) {
			s.shell("nft delete table inet kakuri; nft -f - <<'E'\n" + strings.Replace(own, nftLayout, comment, 1) + "\nE\nnft add chain inet kakuri protection")
		}
		become(nftWords + "10")
		s.bridges(bridgeB)
		s.publish("b1", "tcp 0.0.0.0:8081 10.0.2.11:80")
		s.publish("b1", "tcp 0.0.0.0:8082 10.0.2.11:80", "tcp 0.0.0.0:8083 10.0.2.11:80")
		if healed, err := s.rules.Heal(); err != nil || healed {
			t.Errorf("healed %v, %v", healed, err)
		}
		if faults, err := CheckTable([]plan.Bridge{bridgeA, bridgeB}, "b1", ports("tcp 0.0.0.0:8082 10.0.2.11:80")); err != nil || faults != nil {
			t.Errorf("%q, %v", faults, err)
		}
		s.shell("nft delete element inet kakuri bridges '{ kba }'")
		if repaired, err := s.rules.Repair(); err != nil || !repaired {
			t.Errorf("repaired %v, %v", repaired, err)
		}
		got := s.list()
		for _, want := range []string{"chain protection", nftWords + "10", "kbb", `elements = { "kba"`, "tcp . 8083", "tcp . 8080"} {
			if !strings.Contains(got, want) {
				t.Errorf("not %s:\n%s", want, got)
			}
		}
		for _, comment := range []string{nftWords + "6", "another's; layout 10", nftWords + "x"} {
			become(comment)
			s.bridges(bridgeA)
			if got := s.list(); strings.Contains(got, "protection") || !strings.Contains(got, nftLayout) {
				t.Errorf("%s stays:\n%s", comment, got)
			}
		}
	})
}

// TestManyPorts: a range of more ports than one message holds is one transaction, there and gone.
func TestManyPorts(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		var list []plan.Publish
		for i := range 5000 {
			p := port("tcp 0.0.0.0:1 10.0.1.11:1")
			p.HostPort, p.Port = uint16(10000+i), uint16(20000+i)
			list = append(list, p)
		}
		if err := s.rules.Publish("range", list); err != nil {
			t.Fatal(err)
		}
		state, err := ReadTable()
		if err != nil || len(state.Ports) != len(list) {
			t.Fatalf("%d ports, %v", len(state.Ports), err)
		}
		s.serve("a1", "[::]:24999")
		s.want("away", "tcp", "192.0.2.1:14999", "a1 192.0.2.2")
		if err := s.rules.Unpublish("range"); err != nil {
			t.Fatal(err)
		}
		if state, err = ReadTable(); err != nil || len(state.Ports) != 0 {
			t.Fatalf("%d ports left, %v", len(state.Ports), err)
		}
	})
}

// TestUDPFollows: who sent to the port before it was published, and goes on, comes to the container.
func TestUDPFollows(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		s.serve("a1", "[::]:80")
		s.serve("a2", "[::]:80")
		var c net.Conn
		err := s.in("away", func() (err error) {
			c, err = net.Dial("udp", "192.0.2.1:8080")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		hears := func() string {
			b := make([]byte, 100)
			for range 20 {
				c.Write([]byte("who"))
				c.SetDeadline(time.Now().Add(500 * time.Millisecond))
				if n, err := c.Read(b); err == nil {
					return string(b[:n])
				} else if errors.Is(err, unix.ECONNREFUSED) {
					return "refused"
				}
			}
			return "nothing"
		}
		if got := hears(); got != "refused" {
			t.Errorf("before: %s", got)
		}
		s.publish("a1", "udp 0.0.0.0:8080 10.0.1.11:80")
		if got := hears(); got != "a1 192.0.2.2" {
			t.Errorf("published: %s", got)
		}
		if err := s.rules.Unpublish("a1"); err != nil {
			t.Fatal(err)
		}
		s.publish("a2", "udp 0.0.0.0:8080 10.0.1.12:80")
		if got := hears(); got != "a2 192.0.2.2" {
			t.Errorf("published by another: %s", got)
		}
		// Nor does who goes on sending reach what is at the address afterwards.
		if err := s.rules.Unpublish("a2"); err != nil {
			t.Fatal(err)
		}
		if got := hears(); got != "refused" {
			t.Errorf("published no more: %s", got)
		}
		s.publish("a1", "udp 0.0.0.0:8080 10.0.1.11:80", "udp 0.0.0.0:8082 10.0.1.11:81", "udp 192.0.2.1:8083 10.0.1.11:81")
		if got := hears(); got != "a1 192.0.2.2" {
			t.Errorf("published again: %s", got)
		}
		// What the container goes on saying by a port that stays comes from there.
		server := s.socket("a1", "10.0.1.11", 81)
		for i, port := range []int{8082, 8083} {
			client := s.socket("away", "192.0.2.2", 3053+i)
			s.say(client, "question", "192.0.2.1", port)
			_, from := s.hear(server)
			if i == 0 {
				s.publish("a1", "udp 0.0.0.0:8082 10.0.1.11:81", "udp 192.0.2.1:8083 10.0.1.11:81")
				if got := hears(); got != "refused" {
					t.Errorf("another port in its place: %s", got)
				}
			} else {
				s.publish("a1", "udp 192.0.2.1:8083 10.0.1.11:81")
			}
			s.say(server, "news", from.IP.String(), from.Port)
			if _, from := s.hear(client); from.Port != port || from.IP.String() != "192.0.2.1" {
				t.Errorf("port %d answers as %v", port, from)
			}
		}
	})
}

// TestSweepOfHalfRecords: what a killed process was writing goes with the next sweep, of bridges and zones as of ports, and what is being written stays.
func TestSweepOfHalfRecords(t *testing.T) {
	r := OpenRules(t.TempDir())
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"bridges", "zones", "ports"} {
		dir := filepath.Join(r.dir, kind)
		killed, ours := fmt.Sprintf(".x.%d.new", ended.Process.Pid), fmt.Sprintf(".x.%d.new", os.Getpid())
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, killed), nil, 0o600), os.WriteFile(filepath.Join(dir, ours), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		if gone, err := r.Sweep(func(string) bool { return true }); err != nil || len(gone) > 0 {
			t.Errorf("%s: swept %v, %v", kind, gone, err)
		}
		if list, err := files.List(dir); err != nil || !slices.Equal(list, []string{ours}) {
			t.Errorf("%s: left %v, %v", kind, list, err)
		}
	}
}

// TestPortElements: by which sets of the table a port is published, as its address and its container's say.
func TestPortElements(t *testing.T) {
	strict, routed := port("tcp 0.0.0.0:80 10.0.0.2:80"), port("tcp 0.0.0.0:0 10.0.0.2:80")
	strict.Strict, routed.Routed = true, true
	for _, c := range []struct {
		ports []plan.Publish
		want  string
	}{
		{ports("tcp 0.0.0.0:80 10.0.0.2:80"), "any4 hairpin4"}, {ports("udp 192.0.2.1:80 10.0.0.2:80"), "publish4 hairpin4"}, {ports("tcp 127.0.0.1:80 10.0.0.2:80"), "publish4 loopback4 hairpin4"},
		{ports("tcp [::]:80 [fd00::2]:80"), "any6 hairpin6"}, {ports("sctp [2001:db8::1]:80 [fd00::2]:80"), "publish6 hairpin6"}, {ports("tcp [::1]:80 [fd00::2]:80"), ""},
		{ports("tcp [::]:80 10.0.0.2:80"), "relayedany6"}, {ports("tcp [2001:db8::1]:80 10.0.0.2:80"), "relayed6"}, {ports("tcp 127.0.0.1:80 [fd00::2]:80"), ""},
		{[]plan.Publish{strict}, "relayedany4"}, {[]plan.Publish{strict, strict}, "relayedany4"}, {[]plan.Publish{routed}, "direct4"}, {ports("icmp 0.0.0.0:80 10.0.0.2:80"), ""},
		{ports("tcp 0.0.0.0:80 10.0.0.2:80", "tcp 0.0.0.0:81 10.0.0.2:81", "tcp 0.0.0.0:82 10.0.0.3:80"), "any4 hairpin4 any4 any4 hairpin4"},
	} {
		var got []string
		for _, e := range portElements("c", c.ports) {
			if got = append(got, e.set); e.owner != "c" {
				t.Errorf("%v: %+v", c.ports, e)
			}
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%v: %q, want %q", c.ports, text, c.want)
		}
	}
}

// TestCheckBesideChange: what somebody has written down and is about to put into the table, or has taken out before its record, is not missing. Where that has no end, nobody says that all is well.
func TestCheckBesideChange(t *testing.T) {
	onStage(t, false, func(s *stage) {
		s.bridges(bridgeA)
		s.shell("nft flush ruleset")
		done := s.rules.busy()
		if faults, err := s.rules.checkWithin(20 * time.Millisecond); !errors.Is(err, errChanging) || len(faults) != 0 {
			t.Errorf("while somebody is at it: %v, %v", faults, err)
		}
		done()
		if faults, err := s.rules.Check(); err != nil || len(faults) == 0 {
			t.Errorf("when nobody is: %v, %v", faults, err)
		}
		s.bridges(bridgeA)
		end, ended := make(chan bool), make(chan error, 1)
		go func() {
			for {
				select {
				case <-end:
					ended <- nil
					return
				default:
				}
				if err := errors.Join(s.rules.Publish("a1", ports("tcp 0.0.0.0:8080 10.0.1.11:80")), s.rules.Unpublish("a1")); err != nil {
					ended <- err
					return
				}
			}
		}()
		for range 100 {
			if faults, err := s.rules.Check(); err != nil || len(faults) != 0 {
				t.Errorf("beside ports that come and go: %v, %v", faults, err)
				break
			}
		}
		close(end)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
