package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor/dns"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

func TestNetworkVerbs(t *testing.T) {
	e := open(t)
	ctx := context.Background()
	n, err := e.NetworkCreate(ctx, NetworkConfig{
		Name: "web", Internal: true, Labels: map[string]string{"a": "b"}, Options: map[string]string{optMTU: "1400", optName: "web0"},
		IPAM: IPAM{Config: []IPAMPool{{Subnet: "fd09::/64"}, {Subnet: "10.9.0.0/16", IPRange: "10.9.8.0/24", Gateway: "10.9.0.9", AuxAddress: map[string]string{"x": "10.9.8.1"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.NetworkInspect(n.ID[:12])
	if err != nil {
		t.Fatal(err)
	}
	got.ID, got.Created = "", time.Time{}
	text, _ := json.Marshal(got)
	const want = `{"Name":"web","Id":"","Created":"0001-01-01T00:00:00Z","Scope":"local","Driver":"bridge","EnableIPv4":true,"EnableIPv6":true,` +
		`"IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"10.9.0.0/16","IPRange":"10.9.8.0/24","Gateway":"10.9.0.9","AuxiliaryAddresses":{"x":"10.9.8.1"}},{"Subnet":"fd09::/64","Gateway":"fd09::1"}]},` +
		`"Internal":true,"Attachable":false,"Ingress":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,"Containers":{},` +
		`"Options":{"com.docker.network.bridge.name":"web0","com.docker.network.driver.mtu":"1400"},"Labels":{"a":"b"}}`
	if string(text) != want {
		t.Errorf("inspect:\n got %s\nwant %s", text, want)
	}
	for filter, names := range map[string]string{
		"": "bridge host none web", "name=we": "web", "driver=bridge": "bridge web", "type=builtin": "bridge host none", "type=custom": "web", "dangling=true": "web", "dangling=false": "", "label=a=b": "web",
		"label=a=c": "", "label!=a": "bridge host none", "scope=swarm": "", "id=" + n.ID[:8]: "web",
	} {
		f := Filters{}
		if key, value, ok := strings.Cut(filter, "="); ok {
			if key == "label!" || strings.HasSuffix(key, "!") {
				key = "label!"
			}
			f[key] = []string{value}
		}
		list, err := e.NetworkList(ctx, f)
		var got []string
		for _, n := range list {
			got = append(got, n.Name)
		}
		if text := strings.Join(got, " "); err != nil || text != names {
			t.Errorf("%s: %q, %v, want %q", filter, text, err, names)
		}
	}
	first, err := e.NetworkInspect("bridge")
	for _, ref := range []string{"none", "host", modeNetworks()[0].ID[:12], modeNetworks()[1].ID[:12]} {
		if n, also := e.NetworkInspect(ref); errors.Join(err, also) != nil || !n.Created.Equal(first.Created) || n.Created.IsZero() || n.IPAM.Config != nil || len(n.Containers) > 0 {
			t.Errorf("network %s is %+v, and bridge was made %s: %v, %v", ref, n, first.Created, err, also)
		}
	}
	if _, err := e.NetworkInspect("6"); !errors.As(err, new(*netdb.AmbiguousError)) {
		t.Errorf("the beginning of both ids: %v", err)
	}
	if mtu := first.Options[optMTU]; mtu != "1500" {
		t.Errorf("the default network's MTU is said to be %q", mtu)
	}
	for _, ref := range []string{"bridge", "none", "host"} {
		if err := e.NetworkRemove(ctx, ref, false); !errors.As(err, new(ErrConflict)) {
			t.Errorf("removal of %s: %v", ref, err)
		}
	}
	removed, err := e.NetworkPrune(ctx, nil)
	if err != nil || !slices.Equal(removed, []string{"web"}) {
		t.Errorf("prune removes %q, %v", removed, err)
	}
	if err := e.NetworkRemove(ctx, "web", false); !errors.As(err, new(*netdb.NoNetworkError)) {
		t.Errorf("removal of none: %v", err)
	}
}

// TestPassthru: a macvlan of mode passthru has its device for itself.
func TestPassthru(t *testing.T) {
	of := func(name, driver, device, mode string) netdb.Network {
		return netdb.Network{Name: name, Driver: driver, Device: device, Options: map[string]string{"macvlan_mode": mode}}
	}
	there := []netdb.Network{of("plain", "macvlan", "lan0", ""), of("alone", "macvlan", "lan1", "passthru"), of("other", "ipvlan", "lan2", "")}
	for _, c := range []struct {
		device, mode, refused string
	}{{"lan0", "bridge", ""}, {"lan0", "passthru", "plain"}, {"lan1", "", "alone"}, {"lan2", "passthru", ""}, {"lan3", "passthru", ""}} {
		n := of("new", "macvlan", c.device, c.mode)
		err := clashes(&n, there)
		if (err != nil) != (c.refused != "") || err != nil && !strings.Contains(err.Error(), "network "+c.refused+" is already using") {
			t.Errorf("on %s with mode %q: %v", c.device, c.mode, err)
		}
	}
}

func TestNetworkCreateRefuses(t *testing.T) {
	no := false
	for want, c := range map[string]NetworkConfig{
		"operation is not permitted on predefined":                   {Name: "bridge"},
		"invalid network name":                                       {Name: "a b"},
		"only one instance of \"null\" network":                      {Name: "x", Driver: "none"},
		"could not find plugin overlay":                              {Name: "x", Driver: "overlay"},
		"unknown ipvlan mode":                                        {Name: "x", Driver: "ipvlan", Options: map[string]string{"parent": "eth0", "ipvlan_mode": "l7"}},
		"invalid CIDR block notation":                                {Name: "x", IPAM: IPAM{Config: []IPAMPool{{Subnet: "10.0.0.0"}}}},
		"invalid subnet 10.1.2.3/24: it should be 10.1.2.0/24":       {Name: "x", IPAM: IPAM{Config: []IPAMPool{{Subnet: "10.1.2.3/24"}}}},
		"invalid ip-range 10.1.2.129/25: it should be 10.1.2.128/25": {Name: "x", IPAM: IPAM{Config: []IPAMPool{{Subnet: "10.1.2.0/24", IPRange: "10.1.2.129/25"}}}},
		"IPv4 or IPv6 must be enabled":                               {Name: "x", EnableIPv4: &no, EnableIPv6: &no},
		"of a --subnet":                                              {Name: "x", IPAM: IPAM{Config: []IPAMPool{{Gateway: "10.0.0.1"}}}},
		"for an internal network":                                    {Name: "x", Options: map[string]string{optMode4: modeIsolated}},
		"nat, nat-unprotected, routed":                               {Name: "x", Options: map[string]string{optMode6: "bridged"}},
		"no slash, colon":                                            {Name: "x", Options: map[string]string{optName: "a/b"}},
		"no slash, colon, percent sign, quote, blank or control":     {Name: "x", Options: map[string]string{optName: "a\x1b[2J"}},
		`"all" stands for all devices`:                               {Name: "x", Options: map[string]string{optName: "all"}},
		`"default" stands for all devices`:                           {Name: "x", Driver: "macvlan", Options: map[string]string{"parent": "default"}},
		"loopback interface is not a valid ipvlan parent":            {Name: "x", Driver: "ipvlan", Options: map[string]string{"parent": "lo"}},
		"host_ipv4=10.0.0.9: kakuri has no such option":              {Name: "x", Options: map[string]string{optHost4: "10.0.0.9"}},
		"trusted_host_interfaces=eth0: kakuri has no such":           {Name: "x", Options: map[string]string{optTrusted: "eth0"}},
		"inhibit_ipv4=x: strconv":                                    {Name: "x", Options: map[string]string{optInhibit4: "x"}},
		"68 to 65535":                                                {Name: "x", Options: map[string]string{optMTU: "1"}},
	} {
		if _, err := networkOf(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func TestPublish(t *testing.T) {
	r := backend{v4: way{addr: netip.MustParseAddr("172.17.0.2"), bridge: "kakuri0"}, v6: way{addr: netip.MustParseAddr("fd00::2"), bridge: "kakuri0"}, host6: true}
	only4, only6, passed := backend{v4: r.v4}, backend{v6: r.v6, host6: true}, backend{v4: r.v4, host6: true}
	routed, routed6, routed4 := r, r, passed
	routed.v4.routed, routed.v6.routed, routed6.v6.routed, routed4.v4.routed = true, true, true, true
	bound, bound6 := passed, passed
	bound.v4.binding, bound6.v4.binding = netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
	free := func(ports []plan.Publish) error {
		if ports[0].HostPort%2 == 0 {
			return unix.EADDRINUSE
		}
		return nil
	}
	for _, c := range []struct {
		by    backend
		specs []PortSpec
		want  string // or the error
	}{
		{r, []PortSpec{{HostPort: 80, Port: 8080}}, "0.0.0.0:80->8080/tcp [::]:80->8080/tcp"},
		{only4, []PortSpec{{HostPort: 80, Port: 80, Proto: "udp"}}, "0.0.0.0:80->80/udp"},
		{bound, []PortSpec{{HostPort: 80, Port: 80}}, "127.0.0.1:80->80/tcp"},
		{r, []PortSpec{{HostIP: "127.0.0.1", HostPort: 80, Port: 80}}, "127.0.0.1:80->80/tcp"},
		{r, []PortSpec{{HostIP: "::1", HostPort: 80, Port: 80}}, "[::1]:80->80/tcp"},
		{passed, []PortSpec{{HostPort: 80, Port: 80}}, "0.0.0.0:80->80/tcp [::]:80->80/tcp"},
		{passed, []PortSpec{{HostPort: 80, Port: 80, Proto: "sctp"}}, "0.0.0.0:80->80/sctp"},
		{passed, []PortSpec{{HostIP: "::1", HostPort: 80, Port: 80}}, "[::1]:80->80/tcp"},
		{passed, []PortSpec{{HostIP: "::1", HostPort: 80, Port: 80, Proto: "sctp"}}, "has no address of that family"},
		{only6, []PortSpec{{HostPort: 80, Port: 80}}, "[::]:80->80/tcp"},
		{only6, []PortSpec{{HostIP: "127.0.0.1", HostPort: 80, Port: 80}}, "127.0.0.1:80->80/tcp"},
		{bound6, []PortSpec{{HostPort: 80, Port: 80}}, "[::1]:80->80/tcp"},
		{routed4, []PortSpec{{HostPort: 80, Port: 80}}, "172.17.0.2:80/tcp"},
		{routed4, []PortSpec{{HostIP: "::1", HostPort: 80, Port: 80}}, "has no address of that family"},
		{only4, []PortSpec{{HostPort: 80, HostPortEnd: 82, Port: 90, PortEnd: 92}}, "0.0.0.0:80->90/tcp 0.0.0.0:81->91/tcp 0.0.0.0:82->92/tcp"},
		{only4, []PortSpec{{HostPort: 80, HostPortEnd: 83, Port: 90}}, "0.0.0.0:81->90/tcp"},
		{only4, []PortSpec{{HostPort: 80, HostPortEnd: 83, Port: 90}, {HostPort: 80, HostPortEnd: 83, Port: 91}}, "0.0.0.0:81->90/tcp 0.0.0.0:83->91/tcp"},
		{only4, []PortSpec{{HostPort: 80, HostPortEnd: 80, Port: 90, PortEnd: 92}}, "invalid publish"},
		{only4, []PortSpec{{HostPort: 80, Port: 90}, {HostPort: 80, Port: 91}}, "already allocated"},
		{only4, []PortSpec{{HostPort: 80, Port: 90}, {HostPort: 80, Port: 90, Proto: "udp"}}, "0.0.0.0:80->90/tcp 0.0.0.0:80->90/udp"},
		{only4, []PortSpec{{HostIP: "127.0.0.1", HostPort: 80, Port: 90}, {HostPort: 80, Port: 91}}, "already allocated"},
		{only4, []PortSpec{{HostIP: "127.0.0.1", HostPort: 80, Port: 90}, {HostIP: "127.0.0.2", HostPort: 80, Port: 91}}, "127.0.0.1:80->90/tcp 127.0.0.2:80->91/tcp"},
		{only4, []PortSpec{{HostPort: 65535, Port: 65534, HostPortEnd: 65535, PortEnd: 65534}}, "0.0.0.0:65535->65534/tcp"},
		{only4, []PortSpec{{HostIP: "127.0.0.1", HostPort: 80, Port: 90}, {HostIP: "127.0.0.1", HostPort: 80, Port: 91}}, "Bind for 127.0.0.1:80 failed: port is already allocated"},
		{r, []PortSpec{{HostIP: "::ffff:127.0.0.1", HostPort: 80, Port: 80}}, "127.0.0.1:80->80/tcp"},
		{r, []PortSpec{{HostIP: "127.1", HostPort: 80, Port: 80}}, "invalid IP address: 127.1"},
		{only4, []PortSpec{{HostPort: 80, Port: 80, Strict: true}}, "0.0.0.0:80->80/tcp"},
		{backend{}, []PortSpec{{HostPort: 80, Port: 80}}, "on no network"},
		{routed, []PortSpec{{HostPort: 80, Port: 8080}}, "172.17.0.2:8080/tcp [fd00::2]:8080/tcp"},
		{routed6, []PortSpec{{HostPort: 80, Port: 8080, PortEnd: 8080}}, "0.0.0.0:80->8080/tcp [fd00::2]:8080/tcp"},
		{routed, []PortSpec{{Port: 80, PortEnd: 81}}, "172.17.0.2:80/tcp [fd00::2]:80/tcp 172.17.0.2:81/tcp [fd00::2]:81/tcp"},
		{routed, []PortSpec{{Port: 80, Strict: true}}, "mode strict is of a socket of the host"},
	} {
		list, err := publish(&Config{Publish: c.specs}, c.by, free)
		var texts []string
		for _, p := range list {
			texts = append(texts, p.String())
		}
		got := strings.Join(texts, " ")
		if err != nil {
			got = err.Error()
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%+v: %s, want %s", c.specs, got, c.want)
		}
		if len(list) > 0 && list[0].Strict != c.specs[0].Strict {
			t.Errorf("%+v: strict %v", c.specs, list[0].Strict)
		}
	}
	list, err := publish(&Config{PublishAll: true, Expose: []string{"80", "90-91/udp"}, Publish: []PortSpec{{HostPort: 7, Port: 80}}}, only4, free)
	if err != nil || len(list) != 3 || list[0].HostPort != 7 || list[1].HostPort%2 == 0 || list[1].HostPort == list[2].HostPort && list[1].Proto == list[2].Proto {
		t.Errorf("all: %v, %v", list, err)
	}
}

// TestChosenPorts: each choice keeps what it had, where several ports of the host lead to one of the container.
func TestChosenPorts(t *testing.T) {
	anywhere, here := netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("127.0.0.1")
	c := Config{PublishAll: true, Expose: []string{"81-82", "90/udp"}, Publish: []PortSpec{
		{HostPort: 8100, HostPortEnd: 8102, Port: 80, PortEnd: 82}, {HostPort: 8300, HostPortEnd: 8310, Port: 81}, {Port: 81}, {Port: 81}, {HostIP: "127.0.0.1", Port: 81},
	}}
	has := []plan.Publish{
		{HostAddr: anywhere, HostPort: 8100, Port: 80, Proto: "tcp"}, {HostAddr: anywhere, HostPort: 8101, Port: 81, Proto: "tcp"}, {HostAddr: anywhere, HostPort: 8102, Port: 82, Proto: "tcp"},
		{HostAddr: anywhere, HostPort: 8299, Port: 81, Proto: "tcp"}, {HostAddr: anywhere, HostPort: 8311, Port: 81, Proto: "tcp"}, {HostAddr: anywhere, HostPort: 8305, Port: 81, Proto: "tcp"},
		{HostAddr: here, HostPort: 40003, Port: 81, Proto: "tcp"}, {HostAddr: anywhere, HostPort: 40004, Port: 90, Proto: "udp"},
	}
	want := []PortSpec{c.Publish[0], {HostPort: 8305, Port: 81}, {HostPort: 8299, Port: 81}, {HostPort: 8311, Port: 81}, {HostIP: "127.0.0.1", HostPort: 40003, Port: 81}, {HostPort: 40004, Port: 90, Proto: "udp"}}
	if got := c.chosenPorts(has).Publish; !slices.Equal(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// Each port is looked for where the one before it was found, and what is wrong with all ports is not tried on each.
func TestPublishMany(t *testing.T) {
	var c Config
	from, to := ephemeral()
	c.PublishAll, c.Expose = true, []string{fmt.Sprintf("1-%d", int(to)-int(from)+1)}
	only4 := backend{v4: way{addr: netip.MustParseAddr("10.0.0.2")}}
	tries := 0
	list, err := publish(&c, only4, func([]plan.Publish) error { tries++; return nil })
	if err != nil || len(list) != tries || tries != int(to)-int(from)+1 {
		t.Errorf("%d ports by %d tries, %v", len(list), tries, err)
	}
	for _, c := range []Config{c, {Publish: []PortSpec{{HostPort: 1000, HostPortEnd: 2000, Port: 80}}}} {
		tries = 0
		if _, err = publish(&c, only4, func([]plan.Publish) error { tries++; return unix.EMFILE }); !errors.Is(err, unix.EMFILE) || tries != 1 || strings.Contains(err.Error(), "are taken") {
			t.Errorf("%v after %d tries", err, tries)
		}
	}
}

// TestNoServers: a machine that names no server asks one of its own, as resolv.conf(5) has it, and that is asked for containers, too.
func TestNoServers(t *testing.T) {
	nstest.Root(t)
	nstest.ResolvConf(t, "search example.org # a remark\n")
	b := builder{engine: &Engine{}, run: Config{Network: netdb.DefaultName}, opts: plan.Options{Network: &plan.Network{}}, wires: []*wire{{network: netdb.Network{Name: netdb.DefaultName}}}}
	if err := b.resolveNames(); err != nil {
		t.Fatal(err)
	}
	// The network has no names, so those without a dot are of the search domain first, as on the machine.
	if got, want := string(b.names.conf), "nameserver 127.0.0.11\nsearch example.org\n"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
	if s := b.names.servers; len(s) != 1 || s[0].Addr.String() != "127.0.0.1" || !s[0].Host {
		t.Errorf("asked are %v", s)
	}
}

// TestResolvedLinks: behind the stub of systemd-resolved the servers that are asked depend on the name, of which the monitor has to know. A container that is on the default
// network alone asks the machine's only ones itself.
func TestResolvedLinks(t *testing.T) {
	nstest.Root(t)
	nstest.ResolvConf(t, "nameserver 127.0.0.53\noptions edns0 trust-ad\n")
	const resolved = "/run/systemd/resolve"
	write := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(resolved+name), 0o755), os.WriteFile(resolved+name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.RemoveAll("/run/systemd") })
	write("/resolv.conf", "nameserver 192.0.2.1\nsearch home.example\n")
	e := open(t)
	of := func(network string, ask ...string) naming {
		t.Helper()
		b := builder{engine: e, run: Config{Network: network, DNS: ask}, opts: plan.Options{Network: &plan.Network{}}, wires: []*wire{{network: netdb.Network{Name: network}}}}
		if err := b.resolveNames(); err != nil {
			t.Fatal(err)
		}
		return b.names
	}
	own := "nameserver 127.0.0.11\nsearch home.example\n"
	for _, vpn := range []bool{false, true} {
		if vpn {
			write("/netif/2", "SERVERS=192.0.2.1\n")
			write("/netif/3", "SERVERS=10.9.0.53\nDOMAINS=~corp.example\n")
		}
		n, want := of(netdb.DefaultName), "nameserver 192.0.2.1\nsearch home.example\n"
		if vpn {
			want = own
		}
		if string(n.conf) != want || n.resolver != vpn || n.links != vpn {
			t.Errorf("VPN %v: %q, by us %v, by links %v; want %q", vpn, n.conf, n.resolver, n.links, want)
		}
		if n := of("front"); string(n.conf) != own+"options ndots:0\n" || !n.links {
			t.Errorf("VPN %v, on a network: %q, by links %v", vpn, n.conf, n.links)
		}
		if n := of("front", "192.0.2.7"); n.links || len(n.servers) != 1 {
			t.Errorf("VPN %v, with --dns: by links %v, of %v", vpn, n.links, n.servers)
		}
	}
}

// TestServerOfDevice: a server that the machine knows by one of its devices is asked there by root's monitor, which is on the machine, and by an ordinary user's, which is in the
// network world, where the uplink passes that on.
func TestServerOfDevice(t *testing.T) {
	nstest.Root(t)
	nstest.ResolvConf(t, "nameserver fe80::1%lo\n")
	inside, _ := uplink.NameServer{Addr: netip.MustParseAddr("fe80::1"), Device: 1}.Inside()
	for want, e := range map[dns.Server]*Engine{
		{Addr: netip.MustParseAddr("fe80::1"), Scope: 1, Host: true}: open(t),
		{Addr: inside, Host: true}:                                   {},
	} {
		b := builder{engine: e, run: Config{Network: netdb.DefaultName}, opts: plan.Options{Network: &plan.Network{}}, wires: []*wire{{network: netdb.Network{Name: netdb.DefaultName}}}}
		if err := b.resolveNames(); err != nil {
			t.Fatal(err)
		}
		if !b.names.resolver || len(b.names.servers) != 1 || b.names.servers[0] != want {
			t.Errorf("asked are %+v, by us %v; want %+v", b.names.servers, b.names.resolver, want)
		}
	}
}

// TestEtcUmask: whatever the caller's umask is, users inside who are not root read what is in a container's /etc, and what root inside has made of it stays.
func TestEtcUmask(t *testing.T) {
	name := filepath.Join(t.TempDir(), "hosts")
	defer unix.Umask(unix.Umask(0o077))
	for _, mode := range []os.FileMode{0o644, 0o600} {
		if err := writeEtc(name, []byte("127.0.0.1\tlocalhost\n")); err != nil {
			t.Fatal(err)
		}
		st, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode() != mode {
			t.Errorf("%v, want %v", st.Mode(), mode)
		}
		if err := os.Chmod(name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMACOf(t *testing.T) {
	for want, args := range map[string][2]string{
		"02:42:0a:00:00:07": {"", "10.0.0.7/24"}, "02:42:00:00:00:07": {"", "fd00::7/64"}, "06:00:00:00:00:01": {"06:00:00:00:00:01", "10.0.0.7/24"},
	} {
		m, err := macOf(args[0], []netip.Prefix{netip.MustParsePrefix(args[1])})
		if err != nil || m.String() != want {
			t.Errorf("%v: %s, %v, want %s", args, m, err, want)
		}
	}
	if _, err := macOf("01:00:00:00:00:01", nil); err == nil {
		t.Error("the address of a group is taken")
	}
}

// TestGatewayModes: what a network's modes make of its bridge.
func TestGatewayModes(t *testing.T) {
	for _, c := range []struct {
		mode4, mode6 string
		internal     bool
		want         string
	}{
		{"", "", false, "Masquerade4 Masquerade6 10.1.0.1/24 fd00::1/64"},
		{modeNAT, modeRouted, false, "Masquerade4 Routed6 10.1.0.1/24 fd00::1/64"},
		{modeRouted, modeOpen, false, "Masquerade6 Routed4 Unprotected6 10.1.0.1/24 fd00::1/64"},
		{modeOpen, modeNAT, false, "Masquerade4 Masquerade6 Unprotected4 10.1.0.1/24 fd00::1/64"},
		{modeIsolated, "", true, "fd00::1/64"},
		{modeRouted, modeIsolated, true, "10.1.0.1/24"},
	} {
		n, err := networkOf(NetworkConfig{Name: "x", Internal: c.internal, Options: map[string]string{optMode4: cmp.Or(c.mode4, modeNAT), optMode6: cmp.Or(c.mode6, modeNAT)},
			IPAM: IPAM{Config: []IPAMPool{{Subnet: "10.1.0.0/24", Gateway: "10.1.0.1"}, {Subnet: "fd00::/64", Gateway: "fd00::1"}}}})
		if err != nil {
			t.Fatal(err)
		}
		b := bridgeOf(&n)
		var got []string
		for _, is := range []struct {
			is   bool
			name string
		}{{b.Masquerade4, "Masquerade4"}, {b.Masquerade6, "Masquerade6"}, {b.Routed4, "Routed4"}, {b.Routed6, "Routed6"}, {b.Unprotected4, "Unprotected4"}, {b.Unprotected6, "Unprotected6"}} {
			if is.is {
				got = append(got, is.name)
			}
		}
		for _, a := range b.Addrs {
			got = append(got, a.String())
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s, %s, internal %v: %s, want %s", c.mode4, c.mode6, c.internal, text, c.want)
		}
		if n.Gateless4 != (c.mode4 == modeIsolated) || n.Gateless6 != (c.mode6 == modeIsolated) {
			t.Errorf("%s, %s: without gateways %v, %v", c.mode4, c.mode6, n.Gateless4, n.Gateless6)
		}
	}
}

// TestBridgeOptions: what the other options of a network make of its bridge.
func TestBridgeOptions(t *testing.T) {
	for _, c := range []struct {
		option, value string
		internal      bool
		want          plan.Bridge // without addresses
		addrs         int
	}{
		{"", "", false, plan.Bridge{ICC: true, Masquerade4: true}, 1}, {"", "", true, plan.Bridge{ICC: true, Internal: true}, 1},
		{optICC, "true", false, plan.Bridge{ICC: true, Masquerade4: true}, 1}, {optICC, "false", false, plan.Bridge{Masquerade4: true}, 1},
		{optMasq, "false", false, plan.Bridge{ICC: true}, 1}, {optMTU, "1400", false, plan.Bridge{ICC: true, Masquerade4: true, MTU: 1400}, 1},
		{optMTU, "68", false, plan.Bridge{ICC: true, Masquerade4: true, MTU: 68}, 1}, {optMTU, "65535", false, plan.Bridge{ICC: true, Masquerade4: true, MTU: 65535}, 1},
		{optInhibit4, "true", false, plan.Bridge{ICC: true, Masquerade4: true}, 0}, {optInhibit4, "true", true, plan.Bridge{ICC: true, Internal: true}, 0},
	} {
		config := NetworkConfig{Name: "x", Internal: c.internal, Options: map[string]string{}, IPAM: IPAM{Config: []IPAMPool{{Subnet: "10.1.0.0/24", Gateway: "10.1.0.1"}}}}
		if c.option != "" {
			config.Options[c.option] = c.value
		}
		n, err := networkOf(config)
		if err != nil {
			t.Fatal(err)
		}
		got := bridgeOf(&n)
		addrs := len(got.Addrs)
		c.want.Network, c.want.Alias, c.want.Device, got.Addrs = "x", got.Alias, n.Device, nil
		if !reflect.DeepEqual(got, c.want) || addrs != c.addrs {
			t.Errorf("%s=%s: %+v with %d addresses, want %+v with %d", c.option, c.value, got, addrs, c.want, c.addrs)
		}
	}
}

// TestNetworkPoolsGone: where all default pools are taken, and the network bridge was never made, the others are listed and removed.
func TestNetworkPoolsGone(t *testing.T) {
	e := open(t)
	ctx := context.Background()
	var names []string
	defer func() {
		for _, name := range names {
			if err := e.NetworkRemove(ctx, name, false); err != nil {
				t.Error(err)
			}
		}
	}()
	for err := error(nil); err == nil; {
		name := fmt.Sprint("n", len(names))
		if _, err = e.NetworkCreate(ctx, NetworkConfig{Name: name}); err == nil {
			names = append(names, name)
		} else if !errors.Is(err, netdb.ErrNoPool) {
			t.Fatal(err)
		}
	}
	list, err := e.NetworkList(ctx, nil)
	if err != nil || len(list) != len(names)+2 {
		t.Errorf("%d networks of %d, host and none: %v", len(list), len(names), err)
	}
	var sorted []string
	for _, n := range list {
		if slices.Contains(names, n.Name) {
			sorted = append(sorted, n.Name)
		}
	}
	if !slices.Equal(sorted, names) {
		t.Errorf("listed as %q, made as %q", sorted, names)
	}
	if err := e.NetworkRemove(ctx, "bridge", false); !errors.As(err, new(ErrConflict)) {
		t.Errorf("removal of bridge: %v", err)
	}
}

// TestParentOf: what macvlans are on is the machine's own device, a VLAN by its name, or one that leads nowhere.
func TestParentOf(t *testing.T) {
	for parent, want := range map[string]string{
		"": "dm-1 ", "lan0": "", "lan0.50": "lan0.50 lan0 50", "lan0.0": "", "lan0.4095": "", "lan0.x": "", ".5": "", "a.b.5": "",
	} {
		n := netdb.Network{Name: "x", ID: "1", Driver: "macvlan", Device: cmp.Or(parent, "dm-1"), Options: map[string]string{"parent": parent}}
		got := ""
		if p, ours := parentOf(&n); ours {
			got = p.Device + " " + p.Link
			if p.VLAN != 0 {
				got += fmt.Sprint(" ", p.VLAN)
			}
			steps, err := plan.ConnectSteps(plan.Network{Parents: []plan.Parent{p}}, "id")
			if err != nil || len(steps) != 1 || steps[0].Op.Name() != "make parent" {
				t.Errorf("%q: steps %v, %v", parent, steps, err)
			}
		}
		if got != want {
			t.Errorf("of %q it is %q, want %q", parent, got, want)
		}
	}
}

// With inhibit_ipv4 the bridge is given no address of IPv4: that is somebody else's business.
func TestBridgeInhibited(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	n := &netdb.Network{Driver: "bridge", IPv4: true, IPv6: true, Options: map[string]string{optInhibit4: "true"},
		Pools: []netdb.Pool{{Subnet: prefix("10.1.0.0/24"), Gateway: addr("10.1.0.1")}, {Subnet: prefix("fd01::/64"), Gateway: addr("fd01::1")}}}
	if b := bridgeOf(n); len(b.Addrs) != 1 || b.Addrs[0] != prefix("fd01::1/64") {
		t.Errorf("%v", b.Addrs)
	}
	for _, internal := range []bool{false, true} {
		if n, err := networkOf(NetworkConfig{Name: "x", Internal: internal, Options: n.Options}); err != nil || n.Gateless4 != internal || n.Gateless6 {
			t.Errorf("internal %v: %+v, %v", internal, n, err)
		}
	}
}

// TestNoRouter: a container of two networks passes nothing on between them, unless it is said, or may do as it likes with its network.
func TestNoRouter(t *testing.T) {
	e := open(t)
	networks(t, e, NetworkConfig{Name: "front"}, NetworkConfig{Name: "back", Internal: true})
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"default": {Config{CapAdd: []string{"NET_RAW"}}, "0"}, "privileged": {Config{Privileged: true}, ""},
		"less":      {Config{CapAdd: []string{"ALL"}, CapDrop: []string{"net_admin"}, Sysctls: map[string]string{"net.ipv4.conf.eth0.forwarding": "0"}}, "0"},
		"net admin": {Config{CapAdd: []string{"CAP_NET_ADMIN"}}, ""}, "all": {Config{CapAdd: []string{"all"}}, ""},
		"sysctl": {Config{Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}}, ""},
		"device": {Config{Networks: []Attachment{{Network: "front", Options: map[string]string{optSysctls: "net.ipv4.conf.IFNAME.forwarding=1"}}, {Network: "back", Options: map[string]string{optSysctls: "net.ipv4.conf.IFNAME.forwarding=1"}}}}, "1"},
	} {
		c.cfg.Image, c.cfg.Command, c.cfg.Name, c.cfg.Network = "host", []string{"true"}, "cc", "front"
		if c.cfg.Networks == nil {
			c.cfg.Networks = []Attachment{{Network: "front"}, {Network: "back"}}
		}
		_, b := lookedAt(t, e, c.cfg)
		if n := len(b.opts.Network.Endpoints); n != 2 {
			t.Errorf("%s: %d devices", name, n)
		}
		for _, x := range b.opts.Network.Endpoints {
			if got := x.Sysctls["net.ipv4.conf.IFNAME.forwarding"]; got != c.want {
				t.Errorf("%s: %s forwards %q, not %q", name, x.Device, got, c.want)
			}
		}
	}
}

// TestNoRedirects: no device of a container heeds redirects, which a neighbour sends in the gateway's name, nor one that it is connected by later. Where nothing is forwarded the kernel
// heeds them if one of "all" and the device says so.
func TestNoRedirects(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	networks(t, e, NetworkConfig{Name: "front"}, NetworkConfig{Name: "back", Internal: true})
	c := started(t, e, Config{Rootfs: nstest.RootFS(t), Command: []string{"sleep", "1000"}, StopSignal: "KILL", Network: "front"})
	if err := e.NetworkConnect(t.Context(), "back", c.ID, Attachment{}); err != nil {
		t.Fatal(err)
	}
	for _, device := range []string{"eth0", "eth1"} {
		for _, key := range []string{"forwarding", "accept_redirects"} {
			if out, code, err := execs(e, c.ID, ExecConfig{Command: []string{"cat", "/proc/sys/net/ipv4/conf/" + device + "/" + key}}, ""); out != "0\n" {
				t.Errorf("%s of %s is %q: %v, %v", key, device, out, code, err)
			}
		}
	}
}

// TestInternalHeedsNoRouter: on an internal network of a wire, or of a device that leads nowhere, a container takes no route or address by a router's advertisement, whosever that is, unless it is asked for; on others
// of a wire the routers there are to be heeded.
func TestInternalHeedsNoRouter(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	output(t, exec.Command("ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire0x"))
	t.Cleanup(func() { exec.Command("ip", "link", "del", "wire0").Run() })
	for i, c := range []struct {
		driver     string
		internal   bool
		asks, want string
	}{{"macvlan", true, "", "0"}, {"macvlan", true, "2", "2"}, {"macvlan", false, "", ""}, {"ipvlan", true, "", "0"}, {"bridge", true, "", ""}} {
		name, six := fmt.Sprintf("net%d", i), true
		config := NetworkConfig{Name: name, Driver: c.driver, Internal: c.internal, EnableIPv6: &six, IPAM: IPAM{Config: []IPAMPool{{Subnet: fmt.Sprintf("10.4%d.0.0/24", i)}, {Subnet: fmt.Sprintf("fd00:4%d::/64", i)}}}}
		if c.driver != "bridge" {
			config.Options = map[string]string{"parent": "wire0"}
		}
		networks(t, e, config)
		a := Attachment{Network: name}
		if c.asks != "" {
			a.Options = map[string]string{optSysctls: "net.ipv6.conf.IFNAME.accept_ra=" + c.asks}
		}
		_, b := lookedAt(t, e, Config{Image: "host", Command: []string{"true"}, Name: name, Networks: []Attachment{a}})
		if got := b.opts.Network.Endpoints[0].Sysctls["net.ipv6.conf.IFNAME.accept_ra"]; got != c.want {
			t.Errorf("%+v: accept_ra is to be %q", c, got)
		}
	}
	out, code, err := inside(t, e, Config{Image: "host", Network: "net0", Command: []string{"cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"}})
	if _, loaded := os.Stat("/sys/module/macvlan"); (err != nil || code != 0 || out != "0\n") && (loaded == nil || err == nil || !strings.Contains(err.Error(), "the kernel knows no macvlan")) {
		t.Errorf("%q, %d, %v", out, code, err)
	}
}

// What a container asks for becomes a plan, which takes nothing while it is only looked at.
func TestNetworkPlan(t *testing.T) {
	e := open(t)
	ctx := context.Background()
	for i, name := range []string{"a", "b"} {
		networks(t, e, NetworkConfig{Name: name, Options: map[string]string{optICC: fmt.Sprint(i == 0)}, IPAM: IPAM{Config: []IPAMPool{{Subnet: fmt.Sprintf("10.%d.0.0/24", i+1)}}}})
	}
	cfg := Config{Image: "host", Command: []string{"true"}, Name: "cc", Hostname: "h", Network: "a", ExtraHosts: []string{"gw:host-gateway", "six:[fd00::1]"},
		Networks: []Attachment{{Network: "a", IPv4: "10.1.0.77"}, {Network: "b", GatewayPriority: 1, LinkLocal: []string{"169.254.7.7"}}}, Publish: []PortSpec{{HostPort: 80, Port: 80}}}
	rec, b := lookedAt(t, e, cfg)
	n := b.opts.Network
	if len(n.Endpoints) != 2 || len(n.Bridges) != 2 || n.Gateway4.String() != "10.2.0.1" || !n.Forward4 || n.Resolver == nil {
		t.Fatalf("the plan's network is %+v", n)
	}
	if x := n.Endpoints[0]; x.Device != "eth0" || x.Addrs[0].String() != "10.1.0.77/24" || x.MAC.String() != "02:42:0a:01:00:4d" || x.Isolated || x.HostDevice != plan.HostDevice(rec.ID, 0) {
		t.Errorf("the first endpoint is %+v", x)
	}
	if x := n.Endpoints[1]; x.Device != "eth1" || x.Addrs[0].String() != "10.2.0.2/24" || x.Addrs[1].String() != "169.254.7.7/16" || !x.Isolated {
		t.Errorf("the second endpoint is %+v", x)
	}
	if len(n.Publish) == 0 || slices.ContainsFunc(n.Publish, func(p plan.Publish) bool { return p.Addr.String() != "10.2.0.2" || p.Bridge != n.Bridges[1].Device }) {
		t.Errorf("published is %v: not by the network that has the default route", n.Publish)
	}
	hosts := string(b.etc["hosts"])
	for _, line := range []string{"10.1.0.1\tgw\n", "fd00::1\tsix\n", "10.1.0.77\th\n", "10.2.0.2\th\n"} {
		if !strings.Contains(hosts, line) {
			t.Errorf("/etc/hosts has no %q:\n%s", line, hosts)
		}
	}
	if conf := string(b.etc["resolv.conf"]); !strings.HasPrefix(conf, "nameserver 127.0.0.11\n") {
		t.Errorf("/etc/resolv.conf is %q", conf)
	}
	list, _ := e.netdb().List()
	for _, n := range list {
		if leases, err := e.netdb().Leases(n.ID); err != nil || len(leases) != 0 {
			t.Errorf("network %s has leases %v, %v", n.Name, leases, err)
		}
	}
	for want, change := range map[string]func(*Config){
		"network nosuch not found":            func(c *Config) { c.Network, c.Networks = "nosuch", nil },
		"specified multiple times":            func(c *Config) { c.Networks = append(c.Networks, Attachment{Network: "b"}) },
		"cannot be had beside other networks": func(c *Config) { c.Networks = append(c.Networks, Attachment{Network: "host"}) },
		"no configured subnet or ip-range":    func(c *Config) { c.Networks[1].IPv4 = "10.9.9.9" },
		"bad format for add-host":             func(c *Config) { c.ExtraHosts = []string{"nonsense"} },
		`format for add-host: "\x1b`:          func(c *Config) { c.ExtraHosts = []string{"\x1b[2J:192.0.2.1"} },
		"no option of resolv.conf":            func(c *Config) { c.DNSOptions = []string{"ndots:1\rnameserver"} },
		`--network-alias "a\nb"`:              func(c *Config) { c.Networks[0].Aliases = []string{"x", "a\nb"} },
		`--link "a\n192.0.2.1 example.org"`:   func(c *Config) { c.Networks[0].Links = []string{"other:a\n192.0.2.1 example.org"} },
		"user specified IP address": func(c *Config) {
			c.Networks = []Attachment{{Network: "bridge", IPv4: "10.0.0.9"}}
			c.Network = "bridge"
		},
		"for user-defined networks": func(c *Config) {
			c.Networks = []Attachment{{Network: "bridge", Aliases: []string{"x"}}}
			c.Network = "bridge"
		},
		"invalid range format for --expose":     func(c *Config) { c.Expose = []string{"0"} },
		"IP address is not correctly formatted": func(c *Config) { c.DNS = []string{"nonsense"} },
	} {
		bad := rec
		bad.Config.Networks = slices.Clone(rec.Config.Networks)
		change(&bad.Config)
		if _, err := e.build(ctx, bad, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// lookedAt is what a container would be, of which only the plan is asked for, and its record before that.
func lookedAt(t *testing.T, e *Engine, cfg Config) (Record, *builder) {
	t.Helper()
	rec, release, err := e.record(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	rec.Slot = 1
	b, err := e.build(t.Context(), rec, true)
	if err != nil {
		t.Fatal(err)
	}
	return rec, b
}

// TestServersOfInternal: on an internal network the machine's servers for names are not asked, and one that --dns names is, from inside: it may be on that network.
func TestServersOfInternal(t *testing.T) {
	e := open(t)
	networks(t, e, NetworkConfig{Name: "inner", Internal: true})
	for want, servers := range map[string][]string{"[]": nil, "[10.1.0.9 false]": {"10.1.0.9"}} {
		_, b := lookedAt(t, e, Config{Image: "host", Command: []string{"true"}, Network: "inner", DNS: servers})
		got := []string{}
		for _, s := range b.names.servers {
			got = append(got, fmt.Sprint(s.Addr, " ", s.Host))
		}
		if text := fmt.Sprint(got); text != want || !b.names.resolver {
			t.Errorf("with --dns %v servers are %s, by us %v; want %s", servers, text, b.names.resolver, want)
		}
	}
}

// A container that does not run is shown with the address of its device that was asked for.
func TestEndpointAsked(t *testing.T) {
	a := &Attachment{Network: "a", MAC: "02:42:0a:50:00:3c"}
	if got := endpointOf(a, &Connection{}).MacAddress; got != a.MAC {
		t.Errorf("%q", got)
	}
	if got := endpointOf(a, &Connection{MAC: plan.MAC{2, 0, 0, 0, 0, 1}}).MacAddress; got != "02:00:00:00:00:01" {
		t.Errorf("%q", got)
	}
	one := netip.AddrFrom4([4]byte{192, 0, 2, 1})
	for internal, want := range map[bool]string{false: "192.0.2.1", true: ""} {
		if got := endpointOf(a, &Connection{Addrs: []netip.Prefix{netip.PrefixFrom(one.Next(), 24)}, Gateway4: one, Internal: internal}).Gateway; got != want {
			t.Errorf("internal %v: gateway %q, want %q", internal, got, want)
		}
	}
	c := &Container{}
	c.Config.MACAddress = a.MAC
	if got := c.inspectConfig().MacAddress; got != a.MAC {
		t.Errorf("Config.MacAddress is %q", got)
	}
}

// TestOwnNames: a container is known by its whole name and by its first part, whichever flag the domain came with.
func TestOwnNames(t *testing.T) {
	c := &Connection{Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, 2}), 24)}}
	for _, n := range []struct{ name, domain, want string }{
		{"box", "", "box"}, {"box", "example.org", "box.example.org box"}, {"box.example.org", "", "box.example.org box"}, {"box.a", "b", "box.a.b box"},
	} {
		if got := ownNames(c, n.name, n.domain); got != "192.0.2.2\t"+n.want+"\n" {
			t.Errorf("%q, %q: %q", n.name, n.domain, got)
		}
	}
}

// TestLinkVariables: the environment says of a link what Docker's says.
func TestLinkVariables(t *testing.T) {
	addr := netip.MustParseAddr("172.17.0.2")
	got := variablesOf("/box/my-db", addr, []exposed{{53, "udp"}, {81, "tcp"}, {80, "tcp"}, {90, "tcp"}}, []string{"PATH=/bin", "HOME=/", "A=b=c", "none"})
	want := []string{
		"MY_DB_PORT=tcp://172.17.0.2:80",
		"MY_DB_PORT_80_TCP=tcp://172.17.0.2:80", "MY_DB_PORT_80_TCP_ADDR=172.17.0.2", "MY_DB_PORT_80_TCP_PORT=80", "MY_DB_PORT_80_TCP_PROTO=tcp",
		"MY_DB_PORT_81_TCP=tcp://172.17.0.2:81", "MY_DB_PORT_81_TCP_ADDR=172.17.0.2", "MY_DB_PORT_81_TCP_PORT=81", "MY_DB_PORT_81_TCP_PROTO=tcp",
		"MY_DB_PORT_90_TCP=tcp://172.17.0.2:90", "MY_DB_PORT_90_TCP_ADDR=172.17.0.2", "MY_DB_PORT_90_TCP_PORT=90", "MY_DB_PORT_90_TCP_PROTO=tcp",
		"MY_DB_PORT_53_UDP=udp://172.17.0.2:53", "MY_DB_PORT_53_UDP_ADDR=172.17.0.2", "MY_DB_PORT_53_UDP_PORT=53", "MY_DB_PORT_53_UDP_PROTO=udp",
		"MY_DB_PORT_80_TCP_START=tcp://172.17.0.2:80", "MY_DB_PORT_80_TCP_PORT_START=80", "MY_DB_PORT_80_TCP_END=tcp://172.17.0.2:81", "MY_DB_PORT_80_TCP_PORT_END=81",
		"MY_DB_NAME=/box/my-db", "MY_DB_ENV_A=b=c",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q,\nwant %q", got, want)
	}
	if got, want := variablesOf("/box/db", netip.MustParseAddr("fd00::2"), []exposed{{80, "tcp"}}, nil)[0], "DB_PORT=tcp://[fd00::2]:80"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLinkPaths(t *testing.T) {
	c := Config{Network: netdb.DefaultName, Links: []string{"db:store", "web"}}
	if got := c.linkPaths("box"); !slices.Equal(got, []string{"/db:/box/store", "/web:/box/web"}) {
		t.Error(got)
	}
	c.Network = "back"
	if got := c.linkPaths("box"); got != nil {
		t.Errorf("on a network of its own: %q", got)
	}
}

// TestBeginningOfSeveralIDs: what begins the ids of a network that is a mode and of another one is neither's.
func TestBeginningOfSeveralIDs(t *testing.T) {
	e := open(t)
	begins := modeNetworks()[0].ID[:1]
	for found := false; !found; {
		n, err := e.NetworkCreate(t.Context(), NetworkConfig{Name: "other"})
		if err != nil {
			t.Fatal(err)
		}
		if found = strings.HasPrefix(n.ID, begins); found {
			if n, err := e.NetworkInspect(begins); !errors.As(err, new(*netdb.AmbiguousError)) {
				t.Errorf("%s is %s, %v", begins, n.Name, err)
			}
		}
		if err := e.NetworkRemove(t.Context(), "other", false); err != nil {
			t.Fatal(err)
		}
	}
}
