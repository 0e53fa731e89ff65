package reach

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

// TestRulesets: rules that ufw, firewalld and dockerd have made, and some by hand, are read from the kernel, and the rule that decides is named.
func TestRulesets(t *testing.T) {
	nstest.Root(t)
	t.Cleanup(func() { exec.Command("nft", "flush", "ruleset").Run() })
	strict := func(f *Facts) { f.Published[0].Relayed = true }
	routed := func(f *Facts) { f.Name, f.Port, f.Published[0].Routed, f.Published[0].HostPort = "web", 80, true, 0 }
	// six is the same by IPv6.
	six := func(f *Facts) {
		f.Published[0].HostAddr, f.Published[0].Addr, f.Container.Networks[0].Addrs = netip.IPv6Unspecified(), addr("fd00:20::2"), []netip.Addr{addr("fd00:20::2")}
		f.Container.Networks[0].Gateways = nil
		f.Inside.Links[1].Addrs = []netip.Prefix{netip.MustParsePrefix("fd00:20::2/64")}
		f.Host.Links[1].Addrs = []netip.Prefix{netip.MustParsePrefix("2001:db8::2/64")}
		f.Host.Routes = []Route{{To: netip.MustParsePrefix("::/0"), Via: addr("2001:db8::1"), Link: 2}, {To: netip.MustParsePrefix("fd00:20::/64"), Link: 3}}
		f.Tests = nil
	}
	// home is a machine that others reach by IPv6 on its own link alone.
	home := func(f *Facts) {
		six(f)
		f.Host.Routes = f.Host.Routes[1:]
	}
	docker0 := func(f *Facts) { f.Host.Links[2].Name, f.Container.Networks[0].Bridge = "docker0", "docker0" }
	for _, c := range []struct {
		name, file, more string // more is done to the ruleset by sh
		change           func(*Facts)
		want             Reason
		says, rule, way  string // parts of the finding
	}{
		{name: "ufw", file: "ufw.iptables", want: Dropped, says: "table ip filter, chain FORWARD (forward) drops what other machines send to port 80: its policy is drop", way: "ufw route allow proto tcp from any to 172.20.0.2 port 80"},
		{name: "ufw, allowed", file: "ufw.iptables", more: "iptables-nft -A ufw-user-forward -p tcp -d 172.20.0.2 --dport 80 -j ACCEPT", want: Reachable},
		{name: "ufw, denied", file: "ufw.iptables", more: "iptables-nft -A ufw-user-forward -p tcp -m multiport --dports 79:81,443 -j DROP", want: Dropped, says: "chain ufw-user-forward (forward) drops what other machines send to port 80: the rule of handle ", rule: "tcp dport { 79-81, 443 } counter drop"},
		{name: "ufw, strict and allowed", file: "ufw.iptables", change: strict, want: Reachable},
		{name: "ufw, strict", file: "ufw.iptables", more: "iptables-nft -D ufw-user-input -p tcp -m tcp --dport 8080 -j ACCEPT", change: strict, want: Dropped, says: "table ip filter, chain INPUT (input) drops what other machines send to port 8080: its policy is drop", way: "ufw allow 8080/tcp"},
		{name: "firewalld", file: "firewalld.nft", want: Reachable},
		{name: "firewalld, IPv6", file: "firewalld.nft", change: six, want: Reachable},
		{name: "firewalld, IPv6 that leads nowhere else", file: "firewalld.nft", change: home, want: Reachable},
		{name: "firewalld by iptables", file: "firewalld.iptables", want: Reachable},
		{name: "firewalld by iptables, IPv6", file: "firewalld.iptables", more: "ip6tables-nft -t mangle -A PREROUTING -m rpfilter --validmark --invert -j DROP", change: home, want: Reachable},
		{name: "firewalld by iptables, a route back", file: "firewalld.iptables", more: "ip6tables-nft -t mangle -A PREROUTING -m rpfilter -j DROP", change: home, want: Dropped, says: "table ip6 mangle, chain PREROUTING", rule: "fib saddr . iif oif exists counter drop"},
		{name: "firewalld by iptables, strict", file: "firewalld.iptables", change: strict, want: Dropped, says: "table ip filter, chain INPUT (input) drops what other machines send to port 8080: the rule of handle ", way: "firewall-cmd --add-port=8080/tcp"},
		{name: "firewalld by iptables, routed", file: "firewalld.iptables", change: routed, want: Dropped, says: "table ip filter, chain FORWARD (forward) drops what other machines send to port 80: the rule of handle ", way: "firewall-cmd --zone=trusted --add-interface=vkbr1"},
		{name: "firewalld with StrictForwardPorts, output", file: "firewalld.nft", more: "nft 'add chain inet firewalld o { type filter hook output priority 10; }; add rule inet firewalld o ct status dnat reject'",
			want: Dropped, says: "table inet firewalld, chain o (output) drops what this machine itself sends to port 80: the rule of handle ", way: "StrictForwardPorts=yes, open the port: firewall-cmd --add-forward-port"},
		{name: "firewalld with StrictForwardPorts", file: "firewalld.nft", more: `nft delete rule inet firewalld filter_FORWARD handle $(nft -a list chain inet firewalld filter_FORWARD | sed -n 's/.*ct status dnat.*handle //p')`,
			want: Dropped, says: "table inet firewalld, chain filter_FWD_public (forward) drops what other machines send to port 80: the rule of handle ", way: "firewall-cmd --zone=trusted --add-interface=vkbr1"},
		{name: "firewalld, strict", file: "firewalld.nft", change: strict, want: Dropped, says: "table inet firewalld, chain filter_IN_public (input) drops what other machines send to port 8080: the rule of handle ", rule: "reject", way: "firewall-cmd --add-port=8080/tcp"},
		{name: "firewalld, routed", file: "firewalld.nft", change: routed, want: Dropped, says: "table inet firewalld, chain filter_FWD_public (forward) drops what other machines send to port 80: the rule of handle "},
		{name: "dockerd", file: "docker.iptables", want: Dropped, says: "table ip filter, chain FORWARD (forward) drops what other machines send to port 80: its policy is drop", way: "iptables -I DOCKER-USER -d 172.20.0.2 -p tcp --dport 80 -j ACCEPT"},
		{name: "dockerd, flushed", file: "docker.iptables", more: "iptables-nft -F", want: Dropped, says: "chain FORWARD (forward) drops what other machines send to port 80: its policy is drop", way: "systemctl restart docker"},
		{name: "dockerd, told", file: "docker.iptables", more: "iptables-nft -I DOCKER-USER -o vkbr1 -j ACCEPT; iptables-nft -I DOCKER-USER -i vkbr1 -j ACCEPT", want: Reachable},
		{name: "dockerd, told half", file: "docker.iptables", more: "iptables-nft -I DOCKER-USER -o vkbr1 -j ACCEPT", want: Dropped,
			says: "table ip filter, chain FORWARD (forward) drops what port 80 answers other machines: its policy is drop", way: "iptables -I DOCKER-USER -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"},
		{name: "dockerd, told by its own way out", file: "docker.iptables", more: "iptables-nft -I DOCKER-USER -o vkbr1 -j ACCEPT; iptables-nft -I DOCKER-USER -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", want: Reachable},
		{name: "ports of iptables, answers", file: "docker.iptables", more: "iptables-nft -F; iptables-nft -P FORWARD ACCEPT; iptables-nft -A FORWARD -p tcp -m multiport --sports 80,81 -j DROP", want: Dropped,
			says: "table ip filter, chain FORWARD (forward) drops what port 80 answers other machines: the rule of handle ", rule: "tcp sport { 80, 81 } counter drop"},
		{name: "a port of iptables, answers", file: "docker.iptables", more: "iptables-nft -F; iptables-nft -P FORWARD ACCEPT; iptables-nft -A FORWARD -p tcp --sport 80 --dport 1024:65535 --tcp-flags SYN,ACK SYN,ACK -j DROP", want: Dropped, says: "drops what port 80 answers other machines"},
		{name: "a port of iptables, some askers'", file: "docker.iptables", more: "iptables-nft -F; iptables-nft -P FORWARD ACCEPT; iptables-nft -A FORWARD -p tcp --sport 80 --dport 49152:65535 -j DROP", want: MayBeDropped},
		{name: "other ports of iptables, answers", file: "docker.iptables", more: "iptables-nft -F; iptables-nft -P FORWARD ACCEPT; iptables-nft -A FORWARD -p tcp --dport 1024 -j DROP; iptables-nft -A FORWARD -p tcp -m multiport --ports 81,1024 -j DROP", want: Reachable},
		{name: "dockerd, DOCKER-USER drops", file: "docker.iptables", more: "iptables-nft -I DOCKER-USER -m conntrack --ctstate NEW -i eth0 ! -p udp -j DROP", want: Dropped, says: `chain DOCKER-USER (forward) drops what other machines send to port 80: the rule of handle `},
		{name: "dockerd, its own bridge", file: "docker.iptables", change: docker0, want: Dropped, says: `table ip filter, chain DOCKER (forward) drops what other machines send to port 80: the rule of handle `},
		{name: "dockerd by nftables", file: "docker.nft", want: Reachable},
		{name: "dockerd by nftables, its own bridge", file: "docker.nft", change: docker0, want: Dropped, says: "table ip docker-bridges, chain filter-forward-in__docker0 (forward) drops what other machines send to port 80: the rule of handle "},
		{name: "output", file: "output.nft", want: Dropped, says: "table inet filter, chain output (output) drops what this machine itself sends to port 80: the rule of handle ", rule: "tcp dport @__set0 reject", way: "nft -a list chain inet filter output shows it"},
		{name: "output, 127.0.0.1", file: "output.nft", change: func(f *Facts) { f.Published[0].HostAddr = addr("127.0.0.1") }, want: Dropped, says: "chain output (output) drops what this machine itself sends to port 80: the rule of handle "},
		{name: "output, a monitor", file: "output.nft", change: strict, want: Dropped, says: "chain output (output) drops what this machine itself sends to port 8080: the rule of handle "},
		{name: "output, other ports", file: "output.nft", change: func(f *Facts) {
			f.Published[0].HostPort, f.Published[0].Port, f.Inside.Listeners[0].Port, f.Tests = 81, 81, 81, nil
		}, want: Reachable},
		{name: "output, at the device", file: "output.nft", more: "nft flush chain inet filter output; nft add rule inet filter output oifname vkbr1 reject", want: Reachable},
		{name: "output, at the device, routed", file: "output.nft", more: "nft flush chain inet filter output; nft add rule inet filter output oifname vkbr1 reject", change: routed, want: Dropped, rule: `oifname "vkbr1" reject`},
		{name: "fib", file: "fib.nft", want: Dropped, says: "table inet filter, chain prerouting (prerouting) drops what other machines send to port 8080: the rule of handle ", rule: "fib daddr type local tcp dport 8080 drop"},
		{name: "fib, another kind", file: "fib.nft", change: func(f *Facts) { f.Published[0].HostAddr = addr("192.0.2.7") }, want: Reachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			file, err := os.Open("testdata/rules/" + c.file)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			sh(t, "nft flush ruleset")
			load := exec.Command("nft", "-f", "-")
			if strings.HasSuffix(c.file, ".iptables") {
				load = exec.Command("iptables-nft-restore")
			}
			load.Stdin = file
			if out, err := load.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			sh(t, "nft 'add table inet kakuri; add chain inet kakuri forward { type filter hook forward priority 0; }'; "+c.more)
			f := sound()
			if c.change != nil {
				c.change(&f)
			}
			if f.Host.Tables, err = tables(); err != nil {
				t.Fatal(err)
			}
			if got := reason(t, f); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if first := Judge(f).Findings[0]; !strings.Contains(first.Text, c.says) || c.rule != "" && !strings.HasSuffix(first.Text, ": "+c.rule) || !strings.Contains(first.Way, c.way) {
				t.Errorf("%q, way %q, which do not say %q, %q and %q", first.Text, first.Way, c.says, c.rule, c.way)
			}
		})
	}
}

// TestRuleText: questions to the routing tables, and what one family has where the other has a part of an address, are written as nft(8) has them.
func TestRuleText(t *testing.T) {
	nstest.Root(t)
	t.Cleanup(func() { exec.Command("nft", "flush", "ruleset").Run() })
	rules := []string{
		"fib daddr type local drop", "fib daddr . iif type != local drop", "fib saddr type multicast drop", "fib daddr . mark type unreachable drop",
		"fib saddr . iif oif missing drop", "fib saddr . mark . iif oif exists drop", `fib daddr oifname "eth0" drop`, "fib saddr oif missing drop",
		"meta nfproto ipv4 @nh,64,8 < 0x02 drop", "meta nfproto ipv4 ip saddr 10.0.0.0/8 udp dport 53 drop", "meta nfproto ipv6 ip6 nexthdr sctp meta mark 7 drop",
		`iifname "eth*" oifname "br0" drop`, "meta nfproto ipv4 ip daddr != 172.16.0.0/12 drop", "meta l4proto 47 drop",
	}
	sh(t, "nft 'add table inet x; add chain inet x y { type filter hook prerouting priority 0; }; add rule inet x y "+strings.Join(rules, "; add rule inet x y ")+"'")
	sh(t, "nft 'add table ip6 x; add chain ip6 x y { type filter hook prerouting priority 0; }; add rule ip6 x y ip6 saddr fd00::/8 tcp sport 443 drop'")
	list, err := tables()
	if err != nil {
		t.Fatal(err)
	}
	if got := list[1].Chains[0].Rules[0].Text("ip6"); got != "ip6 saddr fd00::/8 tcp sport 443 drop" {
		t.Errorf("%q", got)
	}
	for i, r := range list[0].Chains[0].Rules {
		if got := r.Text("ip"); got != rules[i] {
			t.Errorf("%q, want %q", got, rules[i])
		}
	}
}
