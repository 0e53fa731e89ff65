package reach

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/ui"
)

func sh(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// lab is a bridge with one namespace behind it, in which a program listens at an address:
// what an engine makes, made by ip(8).
func lab(t *testing.T, at string) (pid int) {
	t.Helper()
	return labOf(t, "listen", at)
}

// labOf is lab with another program: a part of this test, and its arguments.
func labOf(t *testing.T, part string, args ...string) (pid int) {
	t.Helper()
	c := exec.Command("unshare", append([]string{"-n", "sh", "-ec", `ip link set lo up; exec "$@"`, "sh", nstest.PartPath(part)}, args...)...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		exec.Command("nft", "flush", "ruleset").Run()
		exec.Command("ip", "link", "del", "h0").Run()
		exec.Command("ip", "link", "del", "br0").Run()
		exec.Command("ip", "link", "del", "br1").Run()
		exec.Command("ip", "link", "del", "out0").Run()
	})
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		t.Fatalf("the program says %q", line)
	}
	pid = c.Process.Pid
	p := strconv.Itoa(pid)
	sh(t, `ip link set lo up
		ip link add br0 type bridge; ip addr add 10.9.0.1/24 dev br0; ip link set br0 up
		ip link add h0 type veth peer name eth0 netns `+p+`; ip link set h0 master br0 up
		nsenter -t `+p+` -n sh -ec 'ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.9.0.1'
		nft 'add table inet kakuri; add chain inet kakuri forward { type filter hook forward priority 0; }'`)
	return pid
}

func records(pid int) Records {
	return Records{
		Container: &Container{ID: "f00", Name: "web", Status: "running", PID: pid, Mode: "front", Networks: []Network{{
			Name: "front", Driver: "bridge", Bridge: "br0", Device: "eth0", HostEnd: "h0", Addrs: []netip.Addr{addr("10.9.0.2")}, Gateways: []netip.Addr{addr("10.9.0.1")},
		}}},
	}
}

func reason(t *testing.T, f Facts) Reason {
	t.Helper()
	v := Judge(f)
	t.Log(v.Text(ui.EN))
	if len(v.Findings) == 0 {
		t.Fatal("no finding")
	}
	return v.Findings[0].Reason
}

// TestGatherMany: root of a container that may change its network namespace makes readers neither slow nor wrong.
func TestGatherMany(t *testing.T) {
	nstest.Root(t)
	pid := lab(t, "0.0.0.0:80")
	sh(t, fmt.Sprintf(`seq 45000 | awk '{ printf "route add blackhole 11.%%d.%%d.%%d/32\n", $1/65536, $1/256%%256, $1%%256 }' | nsenter -t %d -n ip -batch -`, pid))
	f := Gather(t.Context(), Question{Name: "web", Port: 80, Proto: "tcp"}, records(pid))
	if !f.Inside.More || len(f.Unread) != 1 || !strings.HasPrefix(f.Unread[0], "the container's namespace: routes: ") || !strings.HasSuffix(f.Unread[0], "there are more") {
		t.Errorf("not read: %q", f.Unread)
	}
	if n := len(f.Inside.Routes); n == 0 || n >= 45000 {
		t.Errorf("%d routes are read", n)
	}
	f.Inside.Routes = nil // as if the default one were among those that are not read
	if got := reason(t, f); got != NotPublished {
		t.Errorf("%s, want %s", got, NotPublished)
	}
}

func TestGather(t *testing.T) {
	nstest.Root(t)
	pid := lab(t, "0.0.0.0:80")
	q := Question{Name: "web", Port: 80, Proto: "tcp"}
	f := Gather(t.Context(), q, records(pid))
	if len(f.Unread) > 0 {
		t.Errorf("not read: %s", f.Unread)
	}
	if got := reason(t, f); got != NotPublished {
		t.Errorf("%s, want %s", got, NotPublished)
	}
	l := at(f.Inside.Listeners, "tcp", 80)
	if len(l) != 1 || l[0].PID != pid || l[0].Addr != addr("0.0.0.0") || l[0].Program == "" {
		t.Errorf("who listens: %+v, want process %d", l, pid)
	}
	for _, c := range f.Tests {
		if c.Result != Connected {
			t.Errorf("from %s to %s: %s", c.From, c.To, c.Result)
		}
	}
	if len(f.Tests) != 3 {
		t.Errorf("tests: %+v", f.Tests)
	}
	// Both ends of the cable name each other.
	out, in := f.Host.named("h0"), f.Inside.named("eth0")
	if out == nil || in == nil || out.Peer != in.Index || in.Peer != out.Index || out.NSID < 0 || in.NSID < 0 || out.Kind != "veth" {
		t.Errorf("the cable: %+v and %+v", out, in)
	}

	// The host's own traffic to it dropped: no answer, and the rule has counted it.
	sh(t, `nft 'add table ip other; add chain ip other out { type filter hook output priority 0; }; add rule ip other out ip daddr 10.9.0.0/24 tcp dport 80 counter drop'`)
	f = Gather(t.Context(), q, records(pid))
	if i := slices.IndexFunc(f.Tests, func(c Test) bool { return c.From == "host" }); i < 0 || f.Tests[i].Result != NoAnswer {
		t.Errorf("dropped, and the tests say %+v", f.Tests)
	}
	i := slices.IndexFunc(f.Host.Tables, func(t Table) bool { return t.Name == "other" })
	if i < 0 {
		t.Fatal("a table of another is not read")
	}
	if r := f.Host.Tables[i].Chains[0].Rules[0]; r.Packets == 0 || r.Text("ip") != "ip daddr 10.9.0.0/24 tcp dport 80 counter drop" {
		t.Errorf("rule %q has counted %d", r.Text("ip"), r.Packets)
	}
}

// TestGatherFaults: what stands in the way, made by hand, is found and named.
func TestGatherFaults(t *testing.T) {
	nstest.Root(t)
	const out = "ip link add out0 type veth peer name out1; ip link set out1 up; ip addr add 192.0.2.2/24 dev out0; ip link set out0 up; ip route add default via 192.0.2.1; "
	for _, c := range []struct {
		name, listen, spoil string
		published           bool
		change              func(*Records)
		want                Reason
		says                string // a part of it
	}{
		{name: "nobody listens", listen: "0.0.0.0:81", want: NobodyListens},
		{name: "loopback", listen: "127.0.0.1:80", want: LoopbackInside, says: "listens at 127.0.0.1 only"},
		{name: "not published", listen: "0.0.0.0:80", want: NotPublished},
		{name: "bridge down", listen: "0.0.0.0:80", spoil: "ip link set br0 down", want: BridgeMissing},
		{name: "bridge gone", listen: "0.0.0.0:80", spoil: "ip link del br0", want: BridgeMissing},
		{name: "at no bridge", listen: "0.0.0.0:80", spoil: "ip link set h0 nomaster", want: WrongBridge, says: "it belongs at br0"},
		{name: "at a wrong bridge", listen: "0.0.0.0:80", spoil: "ip link add br1 type bridge; ip link set br1 up; ip link set h0 master br1", want: WrongBridge, says: "is at bridge br1; it belongs at br0"},
		{name: "another route", listen: "0.0.0.0:80", spoil: out + "ip route add 10.9.0.2/32 dev out0", want: WrongBridge, says: "leads to out0, and not to bridge br0"},
		{name: "no route there", listen: "0.0.0.0:80", spoil: "ip route del 10.9.0.0/24", want: RouteMissing, says: "the host has no route to 10.9.0.2"},
		{name: "no route back", listen: "0.0.0.0:80", spoil: "nsenter -n -t PID ip route del default", want: RouteMissing, says: "web has no default route for IPv4"},
		{name: "no address", listen: "0.0.0.0:80", spoil: "nsenter -n -t PID ip addr flush dev eth0", want: RouteMissing, says: "has not the address 10.9.0.2"},
		{name: "device down", listen: "0.0.0.0:80", spoil: "nsenter -n -t PID ip link set eth0 down", want: DeviceDown},
		{name: "internal", listen: "0.0.0.0:80", change: func(r *Records) { r.Container.Networks[0].Internal = true }, want: InternalNetwork},
		{name: "internal, and published", listen: "0.0.0.0:80", published: true, change: func(r *Records) { r.Container.Networks[0].Internal = true }, want: InternalNetwork},
		{name: "the host has the port", listen: "0.0.0.0:80", published: true, spoil: "host", want: OtherProgram, says: "has port 8080/tcp of the host at 0.0.0.0, too"},
		{name: "no table", listen: "0.0.0.0:80", published: true, spoil: "nft flush ruleset", want: TableMissing},
		{name: "another table", listen: "0.0.0.0:80", published: true, want: Dropped, says: "table ip other, chain f (forward) drops what other machines send to port 80: the rule of handle 2: tcp dport 80 drop",
			spoil: "nft 'add table ip other; add chain ip other f { type filter hook forward priority 10; }; add rule ip other f tcp dport 80 drop'"},
		{name: "what the machine sends", listen: "0.0.0.0:80", published: true, want: Dropped, says: "table inet filter, chain output (output) drops what this machine itself sends to port 80: the rule of handle ",
			spoil: "nft 'add table inet filter; add chain inet filter output { type filter hook output priority 0; }; add rule inet filter output tcp dport 80 reject'"},
		{name: "iptables", listen: "0.0.0.0:80", published: true, want: Dropped, says: "table ip filter, chain FORWARD (forward) drops what other machines send to port 80: its policy is drop", spoil: "iptables-nft -P FORWARD DROP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pid := lab(t, c.listen)
			says := c.says
			switch {
			case c.spoil == "host":
				l, err := net.Listen("tcp4", "0.0.0.0:8080")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				says = fmt.Sprintf("(pid %d) %s", os.Getpid(), says)
			case c.spoil != "":
				sh(t, strings.ReplaceAll(c.spoil, "PID", strconv.Itoa(pid)))
			}
			sh(t, "sysctl -qw net.ipv4.ip_forward=1")
			r, q := records(pid), Question{Name: "web", Port: 80, Proto: "tcp"}
			if c.published {
				r.Published = []Published{{Container: "web", HostAddr: netip.IPv4Unspecified(), HostPort: 8080, Addr: addr("10.9.0.2"), Port: 80, Proto: "tcp"}}
			}
			if c.change != nil {
				c.change(&r)
			}
			f := Gather(t.Context(), q, r)
			if got := reason(t, f); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if got := Judge(f).Findings[0].Text; !strings.Contains(got, says) {
				t.Errorf("%q, which does not say %q", got, says)
			}
		})
	}
}

// TestGivenUp: a connection that is taken and reset is not one, and one that is kept is. Whose the port is, is said of either.
func TestGivenUp(t *testing.T) {
	nstest.Root(t)
	sh(t, "ip link set lo up")
	for _, reset := range []bool{true, false} {
		l, err := net.Listen("tcp4", "127.0.0.2:0")
		if err != nil {
			t.Fatal(err)
		}
		var kept []net.Conn
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				if reset {
					c.(*net.TCPConn).SetLinger(0)
					c.Close()
					continue
				}
				kept = append(kept, c)
			}
		}()
		port := netip.MustParseAddrPort(l.Addr().String()).Port()
		f := Gather(t.Context(), Question{Port: port, Proto: "tcp"}, Records{})
		l.Close()
		<-done
		for _, c := range kept {
			c.Close()
		}
		want := map[bool]Result{true: Reset, false: Connected}[reset]
		if len(f.Tests) != 1 || f.Tests[0].To != netip.AddrPortFrom(addr("127.0.0.2"), port) || f.Tests[0].Result != want {
			t.Errorf("tests: %+v, want %s", f.Tests, want)
		}
		if got := reason(t, f); got != OtherProgram || Judge(f).OK() == reset {
			t.Errorf("%s, reset %t: %s", got, reset, Judge(f).Text(ui.EN))
		}
	}
}

// TestGatherUDP: an answer tells, an ICMP message that nobody is there, and a counter that somebody has read what was sent.
func TestGatherUDP(t *testing.T) {
	nstest.Root(t)
	q := Question{Name: "web", Port: 53, Proto: "udp"}
	for _, c := range []struct {
		name, spoil  string
		args         []string
		inside, host Result
	}{
		{"answers", "", []string{"0.0.0.0:53"}, Answered, Answered},
		{"reads", "", []string{"0.0.0.0:53", "silent"}, Arrived, Arrived},
		{"loopback", "", []string{"127.0.0.1:53"}, Refused, Refused},
		{"dropped", `nft 'add table ip other; add chain ip other o { type filter hook output priority 0; }; add rule ip other o udp dport 53 ip daddr 10.9.0.2 counter drop'`, []string{"0.0.0.0:53"}, Answered, NotAllowed},
		{"lost", `nft 'add table ip other; add chain ip other p { type filter hook postrouting priority 0; }; add rule ip other p udp dport 53 ip daddr 10.9.0.2 counter drop'`, []string{"0.0.0.0:53"}, Answered, NotAllowed},
	} {
		t.Run(c.name, func(t *testing.T) {
			pid := labOf(t, "hear", c.args...)
			if c.spoil != "" {
				sh(t, c.spoil)
			}
			f := Gather(t.Context(), q, records(pid))
			reason(t, f)
			for _, test := range f.Tests {
				want := c.host
				switch {
				case test.From == "inside" && test.To.Addr().IsLoopback():
					want = Answered
					if len(c.args) > 1 {
						want = Arrived
					}
				case test.From == "inside":
					want = c.inside
				}
				if test.Result != want {
					t.Errorf("from %s to %s: %s, want %s", test.From, test.To, test.Result, want)
				}
			}
			if len(f.Tests) != 3 {
				t.Errorf("tests: %+v", f.Tests)
			}
		})
	}
}

// What a walk says of a packet, over rules that nft(8) has made.
func TestWalk(t *testing.T) {
	nstest.Root(t)
	t.Cleanup(func() { exec.Command("nft", "flush", "ruleset").Run() })
	link := &Link{Index: 7, Name: "eth0"}
	bridge := &Link{Index: 8, Name: "kakuri0"}
	p := Packet{Hook: "forward", In: link, Out: bridge, Dst: addr("10.9.0.2"), Proto: "tcp", Port: 80, DNAT: true}
	six := p
	six.Dst = addr("fd00::2")
	for _, c := range []struct {
		rules  string // of chain f
		p      Packet
		policy string
		want   string // drop, may or nothing
	}{
		{"", p, "drop", "drop"},
		{"", p, "accept", ""},
		{"tcp dport 80 accept", p, "drop", ""},
		{"tcp dport { 22, 80-90 } accept", p, "drop", ""},
		{"tcp dport { 22, 81-90 } accept", p, "drop", "drop"},
		{"udp dport 80 drop", p, "accept", ""},
		{"iifname \"eth*\" drop", p, "accept", "drop"},
		{"iifname \"wlan*\" drop", p, "accept", ""},
		{"oifname kakuri0 reject", p, "accept", "drop"},
		{"iifname != eth0 accept", p, "drop", "drop"},
		{"ip daddr 10.9.0.0/16 drop", p, "accept", "drop"},
		{"ip daddr 10.8.0.0/16 drop", p, "accept", ""},
		{"ip saddr 192.0.2.0/24 drop", p, "accept", "may"},
		{"ip saddr != 192.0.2.0/24 accept", p, "drop", "may"},
		{"ct state established,related accept", p, "drop", "drop"},
		{"ct state new drop", p, "accept", "drop"},
		{"ct status dnat accept", p, "drop", ""},
		{"jump g", p, "accept", "drop"},
		{"goto g", p, "accept", "drop"},
		{"ip protocol vmap { tcp : jump g, udp : accept }", p, "accept", "drop"},
		{"limit rate 1/second accept", p, "drop", "may"},
		{"tcp flags syn / syn,ack drop", p, "accept", "drop"},
		{"meta nfproto ipv6 drop", p, "accept", ""},
		{"meta nfproto ipv6 drop", six, "accept", "drop"},
		{"ip6 daddr fd00::/8 drop", six, "accept", "drop"},
		{"ip6 daddr fd01::/16 drop", six, "accept", ""},
		{"meta mark 7 accept", p, "drop", "drop"},
		{"fib daddr type local drop", p, "accept", ""},
		{"ip daddr . tcp dport { 10.9.0.2 . 80 } drop", p, "accept", "drop"},
		{"ip daddr . tcp dport { 10.9.0.2 . 81 } drop", p, "accept", ""},
	} {
		c.rules = strings.TrimSpace(c.rules)
		rule := ""
		if c.rules != "" {
			rule = "add rule inet x f " + c.rules
		}
		in := exec.Command("nft", "-f", "-")
		in.Stdin = strings.NewReader("flush ruleset\nadd table inet x\nadd chain inet x g\nadd rule inet x g tcp dport 80 drop\nadd chain inet x f { type filter hook forward priority 0; policy " + c.policy + "; }\n" + rule + "\n")
		if out, err := in.CombinedOutput(); err != nil {
			t.Fatalf("%s: %s", c.rules, out)
		}
		list, err := tables()
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, d := range Walk(list, c.p) {
			got = map[bool]string{true: "drop", false: "may"}[d.Sure]
		}
		if got != c.want {
			t.Errorf("%s, policy %s: %q, want %q: %s", c.rules, c.policy, got, c.want, texts(list))
		}
	}
}

func texts(list []Table) (all []string) {
	for _, t := range list {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				all = append(all, c.Name+": "+r.Text("ip"))
			}
		}
		for _, s := range t.Sets {
			all = append(all, fmt.Sprintf("set %s: %+v", s.Name, s))
		}
	}
	return all
}

// Ports that rules lead on are read of both ways to write them, and both ends of a cable
// know each other's namespace.
func TestForwarded(t *testing.T) {
	nstest.Root(t)
	pid := lab(t, "0.0.0.0:80")
	sh(t, `nft 'add table ip x; add chain ip x pre { type nat hook prerouting priority -100; }
		add rule ip x pre tcp dport 8080 dnat to 10.9.0.2:80; add rule ip x pre ip daddr 10.0.0.1 udp dport 53 dnat to 10.9.0.3
		add rule ip x pre ip daddr 172.16.0.0/12 tcp dport 54 dnat to 10.9.0.5; add rule ip x pre tcp dport & 0xfff0 == 8080 dnat to 10.9.0.6
		add rule ip x pre ip protocol udp th dport 55 dnat to 10.9.0.7; add rule ip x pre tcp dport 56 redirect to 57
		add chain ip x post { type nat hook postrouting priority 100; }; add rule ip x post ip daddr 10.9.0.9 snat to 10.9.0.1
		add rule ip x post tcp dport 58 snat to 10.9.0.1
		add table ip6 x; add chain ip6 x pre { type nat hook prerouting priority -100; }; add rule ip6 x pre ip6 daddr fd00::1 tcp dport 59 dnat to [fd00::2]:60'
		ip6tables-nft -t nat -A PREROUTING -p tcp --dport 61 -j DNAT --to-destination fd00::3
		iptables-nft -t nat -A PREROUTING -p tcp --dport 8081 -j DNAT --to-destination 10.9.0.4:81`)
	list, err := Rules()
	if err != nil {
		t.Fatal(err)
	}
	any, one := netip.IPv4Unspecified(), addr("10.0.0.1")
	want := []Published{
		{HostAddr: any, HostPort: 8080, Addr: addr("10.9.0.2"), Port: 80, Proto: "tcp"}, {HostAddr: one, HostPort: 53, Addr: addr("10.9.0.3"), Port: 53, Proto: "udp"},
		{HostAddr: any, HostPort: 54, Addr: addr("10.9.0.5"), Port: 54, Proto: "tcp"}, // of which addresses is more than a port has room for
		{HostAddr: any, HostPort: 55, Addr: addr("10.9.0.7"), Port: 55, Proto: "udp"},
		{HostAddr: addr("fd00::1"), HostPort: 59, Addr: addr("fd00::2"), Port: 60, Proto: "tcp"},
		{HostAddr: netip.IPv6Unspecified(), HostPort: 61, Addr: addr("fd00::3"), Port: 61, Proto: "tcp"},
		{HostAddr: any, HostPort: 8081, Addr: addr("10.9.0.4"), Port: 81, Proto: "tcp"},
	}
	if got := Forwarded(list); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, want := range []string{"pre: tcp dport 8080 dnat to ", "post: ip daddr 10.9.0.9 snat to "} {
		if got := texts(list); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	out, err := ReadLinks(0)
	if err != nil {
		t.Fatal(err)
	}
	in, err := ReadLinks(pid)
	if err != nil {
		t.Fatal(err)
	}
	if id := NSID(0, pid); id < 0 || id != out.named("h0").NSID {
		t.Errorf("the host calls the namespace %d, and the cable %d", id, out.named("h0").NSID)
	}
	if id := NSID(pid, 0); id < 0 || id != in.named("eth0").NSID {
		t.Errorf("the namespace calls the host %d, and the cable %d", id, in.named("eth0").NSID)
	}
}

// TestForwardedByOldIptables: before 1.8.8 it wrote a port as a match of its own, which has the first and the last.
func TestForwardedByOldIptables(t *testing.T) {
	for _, c := range []struct {
		last byte
		want int
	}{{80, 1}, {90, 0}} {
		ports, to := []byte{0, 0, 255, 255, 80, 0, c.last, 0, 0, 0}, make([]byte, 40)
		copy(to[4:], []byte{10, 9, 0, 2})
		rule := Rule{Exprs: []Expr{{Name: "xt match", Text: "udp", Data: ports}, {Name: "xt target", Text: "DNAT", Data: to}}}
		got := Forwarded([]Table{{Family: "ip", Chains: []Chain{{Rules: []Rule{rule}}}}})
		if len(got) != c.want || c.want == 1 && got[0] != (Published{HostAddr: netip.IPv4Unspecified(), HostPort: 80, Addr: addr("10.9.0.2"), Port: 80, Proto: "udp"}) {
			t.Errorf("80 to %d: %+v", c.last, got)
		}
	}
}

// TestListeners: a socket of IPv6 alone is told from one of both families, and UDP's and TCP's by their states.
func TestListeners(t *testing.T) {
	nstest.Root(t)
	nstest.Loopback(t)
	at := map[string]uint16{}
	for _, network := range []string{"tcp4", "tcp6", "tcp"} {
		l, err := net.Listen(network, ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		at[network] = l.Addr().(*net.TCPAddr).AddrPort().Port()
	}
	u, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	at["udp"] = u.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	s, err := readSide(0)
	if err != nil {
		t.Fatal(err)
	}
	for network, want := range map[string]Listener{
		"tcp4": {Proto: "tcp", Addr: addr("0.0.0.0")}, "tcp6": {Proto: "tcp", Addr: addr("::"), Only6: true}, "tcp": {Proto: "tcp", Addr: addr("::")}, "udp": {Proto: "udp", Addr: addr("127.0.0.1")},
	} {
		want.Port, want.PID, want.Program = at[network], os.Getpid(), program(os.Getpid(), new(namespace.ArgsReader))
		if !slices.Contains(s.Listeners, want) {
			t.Errorf("no %+v in %+v", want, s.Listeners)
		}
	}
}
