package reach

import (
	"bufio"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
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
	c := exec.Command("unshare", "-n", "sh", "-ec", `ip link set lo up; exec "$@"`, "sh", nstest.PartPath("listen"), at)
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
	t.Log(v.Text())
	if len(v.Findings) == 0 {
		t.Fatal("no finding")
	}
	return v.Findings[0].Reason
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
	if r := f.Host.Tables[i].Chains[0].Rules[0]; r.Packets == 0 || r.Text() != "ip daddr 10.9.0.0/24 meta l4proto tcp th dport 80 drop" {
		t.Errorf("rule %q has counted %d", r.Text(), r.Packets)
	}
}

func TestGatherFaults(t *testing.T) {
	nstest.Root(t)
	for _, c := range []struct {
		name, listen, spoil string
		want                Reason
	}{
		{"nobody listens", "0.0.0.0:81", "", NobodyListens},
		{"loopback", "127.0.0.1:80", "", LoopbackInside},
		{"bridge down", "0.0.0.0:80", "ip link set br0 down", BridgeMissing},
		{"bridge gone", "0.0.0.0:80", "ip link del br0", BridgeMissing},
		{"no bridge", "0.0.0.0:80", "ip link set h0 nomaster", WrongBridge},
	} {
		t.Run(c.name, func(t *testing.T) {
			pid := lab(t, c.listen)
			if c.spoil != "" {
				sh(t, c.spoil)
			}
			if got := reason(t, Gather(t.Context(), Question{Name: "web", Port: 80, Proto: "tcp"}, records(pid))); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
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
				all = append(all, c.Name+": "+r.Text())
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
		add rule ip x pre tcp dport 8080 dnat to 10.9.0.2:80; add rule ip x pre ip daddr 10.0.0.1 udp dport 53 dnat to 10.9.0.3'
		iptables-nft -t nat -A PREROUTING -p tcp --dport 8081 -j DNAT --to-destination 10.9.0.4:81`)
	list, err := Rules()
	if err != nil {
		t.Fatal(err)
	}
	any, one := netip.IPv4Unspecified(), addr("10.0.0.1")
	want := []Published{
		{HostAddr: any, HostPort: 8080, Addr: addr("10.9.0.2"), Port: 80, Proto: "tcp"}, {HostAddr: one, HostPort: 53, Addr: addr("10.9.0.3"), Port: 53, Proto: "udp"},
		{HostAddr: any, HostPort: 8081, Addr: addr("10.9.0.4"), Port: 81, Proto: "tcp"},
	}
	if got := Forwarded(list); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
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
