package cli

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

// netConfig is what a line of flags makes of a Config.
func netConfig(line ...string) (engine.Config, error) {
	var f runFlags
	c := &cobra.Command{}
	f.register(c.Flags())
	if err := c.ParseFlags(line); err != nil {
		return f.run, err
	}
	return f.run, f.finish(c, IO{}, []string{"image"})
}

func TestPublish(t *testing.T) {
	for _, c := range []struct {
		text string
		want engine.PortSpec
		err  string
	}{
		{text: "80", want: engine.PortSpec{Port: 80, Proto: "tcp"}},
		{text: "80/UDP", want: engine.PortSpec{Port: 80, Proto: "udp"}},
		{text: "80/", want: engine.PortSpec{Port: 80, Proto: "tcp"}},
		{text: "132/sctp", want: engine.PortSpec{Port: 132, Proto: "sctp"}},
		{text: "8080:80", want: engine.PortSpec{HostPort: 8080, Port: 80, Proto: "tcp"}},
		{text: ":80", want: engine.PortSpec{Port: 80, Proto: "tcp"}},
		{text: "::80", want: engine.PortSpec{Port: 80, Proto: "tcp"}},
		{text: "0:80", want: engine.PortSpec{AnyPort: true, Port: 80, Proto: "tcp"}},
		{text: "127.0.0.1:0:80", want: engine.PortSpec{HostIP: "127.0.0.1", AnyPort: true, Port: 80, Proto: "tcp"}},
		{text: "127.0.0.1::80", want: engine.PortSpec{HostIP: "127.0.0.1", Port: 80, Proto: "tcp"}},
		{text: "127.0.0.1:8080:80", want: engine.PortSpec{HostIP: "127.0.0.1", HostPort: 8080, Port: 80, Proto: "tcp"}},
		{text: "[::1]:8080:80", want: engine.PortSpec{HostIP: "::1", HostPort: 8080, Port: 80, Proto: "tcp"}},
		{text: "::1:8080:80", want: engine.PortSpec{HostIP: "::1", HostPort: 8080, Port: 80, Proto: "tcp"}},
		{text: "[2001:DB8::1]::80/udp", want: engine.PortSpec{HostIP: "2001:db8::1", Port: 80, Proto: "udp"}},
		{text: "8000-8002:80-82", want: engine.PortSpec{HostPort: 8000, HostPortEnd: 8002, Port: 80, PortEnd: 82, Proto: "tcp"}},
		{text: "8000-8002:80", want: engine.PortSpec{HostPort: 8000, HostPortEnd: 8002, Port: 80, Proto: "tcp"}},
		{text: "80-82", want: engine.PortSpec{Port: 80, PortEnd: 82, Proto: "tcp"}},
		{text: "1-65535", want: engine.PortSpec{Port: 1, PortEnd: 65535, Proto: "tcp"}},
		{text: "published=8080,target=80", want: engine.PortSpec{HostPort: 8080, Port: 80, Proto: "tcp"}},
		{text: "target=53,protocol=udp,host_ip=::1", want: engine.PortSpec{HostIP: "::1", Port: 53, Proto: "udp"}},
		{text: "published=8080,target=80,mode=strict", want: engine.PortSpec{HostPort: 8080, Port: 80, Proto: "tcp", Strict: true}},

		{text: "", err: "no port specified"},
		{text: "8080:", err: "no port specified"},
		{text: "0", err: "invalid containerPort: 0"},
		{text: "65536", err: "invalid containerPort"},
		{text: "-1", err: "invalid containerPort"},
		{text: "82-80", err: "invalid containerPort"},
		{text: "x:80", err: "invalid hostPort: x"},
		{text: "8000-8001:80-82", err: "invalid ranges"},
		{text: "8000:80-82", err: "invalid ranges"},
		{text: "80/icmp", err: "invalid proto: icmp"},
		{text: "localhost:80:80", err: "invalid IP address: localhost"},
		{text: "[::1:80:80", err: "bracket"},
		{text: "fe80::1%eth0:80:80", err: "invalid IP address"},
		{text: "published=80", err: "no port specified"},
		{text: "target=80,colour=red", err: "unknown field colour"},
		{text: "target=80,mode=x", err: "mode=x"},
		{text: "target=80,x", err: "should be name=value"},
	} {
		got, err := parsePublish(c.text)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %+v, %v; want an error with %q", c.text, got, err, c.err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q: %+v, %v; want %+v", c.text, got, err, c.want)
		}
	}
}

func FuzzPublish(f *testing.F) {
	f.Add("127.0.0.1:8000-8002:80-82/tcp")
	f.Add("[::1]::1/udp")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePublish(s)
		if err == nil && (p.Port == 0 || p.PortEnd != 0 && p.PortEnd <= p.Port || p.HostPortEnd != 0 && p.HostPortEnd <= p.HostPort) {
			t.Errorf("%q: %+v", s, p)
		}
	})
}

func TestNetworkFlags(t *testing.T) {
	first := func(a engine.Attachment) engine.Config {
		return engine.Config{Network: a.Network, Networks: []engine.Attachment{a}, MACAddress: a.MAC, Links: a.Links}
	}
	for _, c := range []struct {
		line string
		want engine.Config
		err  string
	}{
		{line: "--network host", want: engine.Config{Network: "host"}},
		{line: "--net none", want: engine.Config{Network: "none"}},
		{line: "--network container:web", want: engine.Config{Network: "container:web"}},
		{line: "--network ns:/run/netns/a=b", want: engine.Config{Network: "ns:/run/netns/a=b"}},
		{line: "--network front", want: first(engine.Attachment{Network: "front"})},
		{
			line: "--network front --net-alias a --network-alias b --ip 10.0.0.7 --ip6 FD00::7 --link-local-ip 169.254.1.2 --mac-address 02-42-AC-11-00-02 --link db --link x:y",
			want: first(engine.Attachment{
				Network: "front", Aliases: []string{"a", "b"}, IPv4: "10.0.0.7", IPv6: "fd00::7", LinkLocal: []string{"169.254.1.2"}, MAC: "02:42:ac:11:00:02", Links: []string{"db:db", "x:y"},
			}),
		},
		{
			line: "--network name=front,alias=a,alias=b,ip=10.0.0.7,driver-opt=k=v,gw-priority=3 --network back",
			want: engine.Config{Network: "front", Networks: []engine.Attachment{
				{Network: "front", Aliases: []string{"a", "b"}, IPv4: "10.0.0.7", Options: map[string]string{"k": "v"}, GatewayPriority: 3}, {Network: "back"},
			}},
		},
		{line: `--network name=front,"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0"`, want: first(engine.Attachment{
			Network: "front", Options: map[string]string{"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0"},
		})},
		{line: "-P -p 80 --publish 8080:81/udp --expose 90-92 --expose 53/udp", want: engine.Config{
			PublishAll: true, Publish: []engine.PortSpec{{Port: 80, Proto: "tcp"}, {HostPort: 8080, Port: 81, Proto: "udp"}}, Expose: []string{"90-92/tcp", "53/udp"},
		}},
		{line: "--add-host a:10.0.0.1 --add-host b=[::1] --add-host c:::2 --add-host h:host-gateway --dns 1.1.1.1 --dns 2606:4700::1 --dns-opt ndots:1 --dns-option x --dns-search example.com --dns-search .", want: engine.Config{
			ExtraHosts: []string{"a:10.0.0.1", "b:::1", "c:::2", "h:host-gateway"}, DNS: []string{"1.1.1.1", "2606:4700::1"}, DNSOptions: []string{"ndots:1", "x"}, DNSSearch: []string{"example.com", "."},
		}},
		{line: "--ip 10.0.0.7", want: engine.Config{Networks: []engine.Attachment{{Network: "default", IPv4: "10.0.0.7"}}}},

		{line: "--network name=a,ip=10.0.0.1 --ip 10.0.0.2", err: "cannot specify both --ip and per-network IPv4 address"},
		{line: "--network name=a,alias=x --network-alias y", err: "cannot specify both --network-alias and per-network alias"},
		{line: "--network name=a,mac-address=02:42:ac:11:00:02 --mac-address 02:42:ac:11:00:03", err: "cannot specify both --mac-address"},
		{line: "--network a --network a", err: `network "a" is specified multiple times`},
		{line: "--network a --network host", err: "--network host is not a network"},
		{line: "--network alias=x", err: "network name/id is not specified"},
		{line: "--network name=a,colour=red", err: "invalid field key colour"},
		{line: "--network name=a,gw-priority=x", err: "value must be an integer"},
		{line: "--network name=a,driver-opt=x", err: "invalid key value pair"},
		{line: "--network name=a,ip=::1", err: "invalid IP address"},
		{line: "--ip ::1", err: "invalid IP address"},
		{line: "--ip6 1.2.3.4", err: "invalid IP address"},
		{line: "--mac-address 1", err: "not a valid mac address"},
		{line: "--expose 80:80", err: "invalid port format for --expose"},
		{line: "--expose 82-80", err: "invalid range format for --expose"},
		{line: "--add-host a", err: `bad format for add-host: "a"`},
		{line: "--add-host a:b", err: `invalid IP address in add-host: "b"`},
		{line: "--dns x", err: "IP address is not correctly formatted: x"},
		{line: "--dns-search a..b", err: "a..b is not a valid domain"},
		{line: "--dns-search -", err: "- is not a valid domain"},
		{line: "--link a:b:c", err: "bad format for links: a:b:c"},
		{line: "--link :b", err: "bad format for links: :b"},
		{line: "--link-local-ip 1.2.3.4", err: "invalid link local IP address: 1.2.3.4"},
		{line: "--network name=a,link-local-ip=fd00::1", err: "invalid link local IP address: fd00::1"},
		{line: "--use-api-socket", err: "there is no daemon"},
	} {
		got, err := netConfig(strings.Fields(c.line)...)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v; want an error with %q", c.line, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		has := engine.Config{
			Network: got.Network, Networks: got.Networks, Publish: got.Publish, PublishAll: got.PublishAll, Expose: got.Expose, ExtraHosts: got.ExtraHosts, DNS: got.DNS, DNSOptions: got.DNSOptions,
			DNSSearch: got.DNSSearch, Links: got.Links, MACAddress: got.MACAddress,
		}
		if !reflect.DeepEqual(has, c.want) {
			t.Errorf("%s:\n%+v, want\n%+v", c.line, has, c.want)
		}
	}
}

// What Docker's daemon finds wrong with a network ends with 1, and a line that cannot be understood with 125.
func TestNetworkCreateRefused(t *testing.T) {
	for line, want := range map[string]int{"--subnet bad n": 1, "--subnet 10.1.0.0/16 --subnet 10.1.2.0/24 n": 1, "--gateway 10.1.0.1 n": 1, "--label = n": 125, "--nosuch n": 125} {
		var errs bytes.Buffer
		if code := Main(t.Context(), append([]string{"network", "create"}, strings.Fields(line)...), IO{Out: &errs, Err: &errs}); code != want {
			t.Errorf("network create %s ends with %d, want %d: %s", line, code, want, &errs)
		}
	}
}
