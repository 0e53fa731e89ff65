package network_test

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor/dns"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/verify"
)

// These are in a package of their own, since verify imports this one.

// own is who a resolver tells that the container is: two addresses have names, until somebody forgets.
type own struct{ forgotten bool }

func (*own) Lookup(string) ([]netip.Addr, bool)        { return nil, false }
func (*own) Servers(string, bool) ([]dns.Server, bool) { return nil, true }
func (*own) Gate() dns.Gate                            { return nil }
func (o *own) Reverse(p netip.Prefix) (string, bool) {
	if o.forgotten || !p.IsSingleIP() {
		return "", true
	}
	return "web.front", true
}

// A connected container is a process with a network namespace, with all that a plan has of networks.
type connected struct {
	t     *testing.T
	pid   int
	rules *network.Rules
	doer  *network.Doer
	n     plan.Network
	steps []plan.Step
	names *own
	dns   *dns.Resolver
}

func (c *connected) sh(pid int, script string) {
	c.t.Helper()
	args := []string{"sh", "-ec", script}
	if pid != 0 {
		args = append([]string{"nsenter", "-n", "-t", strconv.Itoa(pid)}, args...)
	}
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		c.t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// differ lists what is not as asked for.
func (c *connected) differ() string {
	c.t.Helper()
	results, err := verify.Container(plan.Plan{Steps: c.steps}, c.pid)
	if err != nil {
		c.t.Fatal(err)
	}
	var list []string
	for _, r := range results {
		if !r.OK {
			list = append(list, r.Property+": "+r.Asked+", "+r.Measured+r.Unknown+"\x00")
		}
	}
	return strings.Join(list, "")
}

// connect does what a start does, as far as it is not there.
func (c *connected) connect() {
	c.t.Helper()
	n := c.n
	n.Publish, n.Resolver = nil, nil // who holds ports and answers is this test
	if err := c.doer.Connect(c.t.Context(), c.pid, "a", n); err != nil {
		c.t.Fatal(err)
	}
	if err := c.rules.Publish("a", c.n.Publish); err != nil {
		c.t.Fatal(err)
	}
	if c.dns == nil {
		s, err := dns.Listen("/proc/"+strconv.Itoa(c.pid)+"/ns/net", 0)
		if err == nil {
			err = network.RedirectNames(s.Inner, s.Port, s.Port)
		}
		if err == nil {
			c.dns, err = dns.Serve(s, c.names)
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// inNamespace starts a process in a network namespace of its own, which ends with the calling thread at the latest.
func inNamespace(t *testing.T) *exec.Cmd {
	t.Helper()
	runtime.LockOSThread() // it ends with the thread that starts it, and threads that were in a namespace are ended
	c := exec.Command("sleep", "infinity")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestVerify: each check of a connection is read back, and each harm is seen by name.
func TestVerify(t *testing.T) {
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}, func(t *testing.T) {
		inside := inNamespace(t)
		defer func() { inside.Process.Kill(); inside.Wait() }()
		prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
		rules := network.OpenRules(t.TempDir())
		c := &connected{t: t, pid: inside.Process.Pid, rules: rules, doer: &network.Doer{Rules: rules}, names: &own{}}
		defer c.doer.Close()
		bridge := plan.Bridge{Device: "kakuri0", Network: "front", Addrs: []netip.Prefix{prefix("172.17.0.1/16"), prefix("fd00:17::1/64")}, MTU: 1400, ICC: true, Masquerade4: true}
		c.n = plan.Network{
			Forward4: true, Bridges: []plan.Bridge{bridge}, Gateway4: bridge.Addrs[0].Addr(), Gateway6: bridge.Addrs[1].Addr(), Resolver: &plan.Resolver{},
			Endpoints: []plan.Endpoint{{
				Network: "front", Driver: plan.DriverBridge, Bridge: "kakuri0", HostDevice: "vk01234567a", Device: "eth0", MAC: plan.MAC{2, 66, 172, 17, 0, 2}, MTU: 1400, Isolated: true,
				Addrs: []netip.Prefix{prefix("172.17.0.2/16"), prefix("fd00:17::2/64")}, Routes: []plan.Route{{To: prefix("10.0.0.0/8"), Via: addr("172.17.0.9")}},
			}},
			Publish: []plan.Publish{
				{Proto: "tcp", HostAddr: netip.IPv4Unspecified(), HostPort: 8080, Addr: addr("172.17.0.2"), Port: 80, Bridge: "kakuri0"},
				{Proto: "udp", HostAddr: addr("::1"), HostPort: 53, Addr: addr("fd00:17::2"), Port: 53, Bridge: "kakuri0"},
			},
		}
		var err error
		if c.steps, err = plan.ConnectSteps(c.n, "a"); err != nil {
			t.Fatal(err)
		}
		c.sh(0, "ip link set lo up")
		c.sh(c.pid, "ip link set lo up")
		held, err := rules.HoldPort(c.n.Publish[1])
		if err != nil {
			t.Fatal(err)
		}
		c.connect()
		if got := c.differ(); got != "" {
			t.Errorf("%q", got)
		}
		const table, names = "host's rules: nft table inet kakuri, kakuri0 172.17.0.0/16 masquerade", "server for names 127.0.0.11: answers 172.17.0.2 fd00:17::2, "
		const ports = "published ports: nft dnat 0.0.0.0:8080->172.17.0.2:80/tcp [::1]:53->[fd00:17::2]:53/udp, "
		for _, test := range []struct {
			pid        int
			harm, want string
		}{
			{c.pid, "ip route del default", "route to 0.0.0.0/0: via 172.17.0.1, none"},
			{c.pid, "ip route replace default via 172.17.0.9", "route to 0.0.0.0/0: via 172.17.0.1, via 172.17.0.9"},
			{c.pid, "ip route del 10.0.0.0/8", "route to 10.0.0.0/8: via 172.17.0.9 dev eth0, none"},
			{c.pid, "ip addr del fd00:17::2/64 dev eth0", "address of eth0: fd00:17::2/64, 172.17.0.2/16"},
			{c.pid, "ip link set eth0 address 02:00:00:00:00:01", "veth 02:42:ac:11:00:02 mtu 1400, other end vk01234567a, port of kakuri0 isolated, veth 02:00:00:00:00:01"},
			{c.pid, "ip link set eth0 down", "network device eth0: up, down"},
			{c.pid, "ip link set eth0 mtu 1280", "mtu 1280"},
			{c.pid, "ip link delete eth0", "network interface eth0: "},
			{0, "ip link set vk01234567a nomaster", "other end vk01234567a"},
			{0, "ip link set vk01234567a name vkother", "other end #"},
			{0, "ip link set vk01234567a type bridge_slave isolated off", "port of kakuri0\x00"},
			{0, "ip link set kakuri0 down", "host's bridge kakuri0: up 172.17.0.1/16 fd00:17::1/64, down"},
			{0, "ip addr del 172.17.0.1/16 dev kakuri0", "host's bridge kakuri0: up 172.17.0.1/16 fd00:17::1/64, up fd00:17::1/64"},
			{0, "nft flush ruleset", ports + "table inet kakuri has no rules"},
			{0, "nft flush table inet kakuri", table + " fd00:17::/64, table inet kakuri has no rules"},
			{0, "nft flush chain inet kakuri forward", "table inet kakuri has other rules than it should"},
			{0, "nft insert rule inet kakuri forward accept", "table inet kakuri has other rules than it should"},
			{0, "nft 'delete element inet kakuri any4 { tcp . 8080 }'", ports + `table inet kakuri has not any4 { tcp . 8080 comment "a" : 172.17.0.2 . 80 }` + "\x00"},
			{0, "nft 'delete element inet kakuri together { kakuri0 . kakuri0 }'", `table inet kakuri has not together { "kakuri0" . "kakuri0" }` + "\x00"},
			{0, "nft 'add element inet kakuri internal { kakuri0 }'", `table inet kakuri has internal { "kakuri0" }` + "\x00"},
			{c.pid, "nft flush ruleset", names + "nobody answers there\x00"},
			{c.pid, "nft 'add table ip x; add chain ip x y { type filter hook output priority 0; }; add rule ip x y udp dport 53 drop'", ""},
			{c.pid, "nft 'add table ip x; add chain ip x y { type filter hook output priority -200; }; add rule ip x y ip daddr 127.0.0.11 drop'", names + "a rule inside drops the question\x00"},
		} {
			c.sh(test.pid, test.harm)
			got := c.differ()
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("after %s: %q, want %q", test.harm, got, test.want)
			}
			c.sh(0, "ip link delete vkother || ip link delete vk01234567a || true")
			if strings.HasPrefix(test.harm, "nft") && test.pid == 0 {
				if _, err := rules.Repair(); err != nil {
					t.Fatal(err)
				}
				if err := rules.AddBridge(bridge); err != nil {
					t.Fatal(err)
				}
			}
			if test.pid == c.pid {
				c.sh(c.pid, "nft delete table ip x || true")
				if strings.HasPrefix(test.harm, "nft flush") {
					c.dns.Close()
					c.dns = nil
				}
			}
			c.connect()
		}
		if got := c.differ(); got != "" {
			t.Errorf("when all is mended: %q", got)
		}
		unix.Close(held.FD)
		if got := c.differ(); got != ports+"no socket of [::1]:53->53/udp\x00" {
			t.Errorf("without the socket of a port that a process passes on: %q", got)
		}
		if held, err = rules.HoldPort(c.n.Publish[1]); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(held.FD)
		c.names.forgotten = true
		if got := c.differ(); got != names+"answers 172.17.0.2 without a name, fd00:17::2 without a name\x00" {
			t.Errorf("when the container's names are gone: %q", got)
		}
		c.dns.Close()
		if got := c.differ(); got != names+"nobody answers there\x00" {
			t.Errorf("with a dead resolver: %q", got)
		}
		// A plan of a network without addresses can but ask whether anybody answers.
		c.steps = []plan.Step{{Op: &plan.ServeNames{}, Check: &plan.NamesCheck{}}}
		if got := c.differ(); got != "server for names 127.0.0.11: answers questions, nobody answers there\x00" {
			t.Errorf("with a dead resolver: %q", got)
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
		c.steps = []plan.Step{{Op: &plan.SetForwarding{}, Check: &plan.ForwardingCheck{V4: true}}}
		if got := c.differ(); got != "the host forwards: IPv4, nothing\x00" {
			t.Errorf("%q", got)
		}
	})
}

// TestVerifyMany: routes that a container's root made by the thousand are not read to their end, and nothing is said to be missing for that.
func TestVerifyMany(t *testing.T) {
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}, func(t *testing.T) {
		inside := inNamespace(t)
		defer func() { inside.Process.Kill(); inside.Wait() }()
		c := &connected{t: t, pid: inside.Process.Pid}
		c.sh(c.pid, `ip link set lo up; seq 45000 | awk '{ printf "route add blackhole 11.%d.%d.%d/32\n", $1/65536, $1/256%256, $1%256 }' | ip -batch -`)
		c.steps = []plan.Step{
			{Check: &plan.AddressCheck{Device: "lo", Addr: netip.MustParsePrefix("127.0.0.1/8")}},
			{Check: &plan.RouteCheck{To: netip.MustParsePrefix("12.0.0.0/8"), Device: "lo"}},
		}
		if got := c.differ(); strings.Count(got, "\x00") != 1 || !strings.HasSuffix(got, "were read: there are more\x00") || !strings.Contains(got, "12.0.0.0/8") {
			t.Errorf("%q", got)
		}
	})
}

// TestVerifyEgress: rules of what may be reached are read back, and each harm is seen.
func TestVerifyEgress(t *testing.T) {
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}, func(t *testing.T) {
		inside := inNamespace(t)
		defer func() { inside.Process.Kill(); inside.Wait() }()
		c := &connected{t: t, pid: inside.Process.Pid, rules: network.OpenRules(t.TempDir()), doer: &network.Doer{}, dns: &dns.Resolver{}}
		defer c.doer.Close()
		c.n.Egress = &plan.Egress{Allow: []plan.Reach{{Name: "example.org", First: 443, Last: 443}}}
		var err error
		if c.steps, err = plan.ConnectSteps(c.n, "a"); err != nil {
			t.Fatal(err)
		}
		for harm, want := range map[string]string{
			"true":                                "",
			"nft delete table inet kakuri-egress": "no table inet kakuri-egress",
			"nft insert rule inet kakuri-egress output accept":                   "other rules",
			"nft flush chain inet kakuri-egress output":                          "other rules",
			"nft 'chain inet kakuri-egress output { policy accept; }'":           "chain output does not drop",
			"nft 'add table inet x; add chain inet x y; add rule inet x y drop'": "",
		} {
			if err := c.doer.Connect(t.Context(), c.pid, "a", c.n); err != nil {
				t.Fatal(err)
			}
			c.sh(c.pid, harm)
			if want != "" {
				want = "what may be reached: example.org:443, " + want + "\x00"
			}
			if got := c.differ(); got != want {
				t.Errorf("after %s: %q, want %q", harm, got, want)
			}
		}
	})
}
