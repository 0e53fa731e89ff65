package cli

import (
	"encoding/csv"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/plan"
	"github.com/spf13/pflag"
)

// netFlags are the flags of run and create that are about networks, as far as they are
// not in the Config: --ip and the like belong to the first network.
type netFlags struct {
	networks []engine.Attachment // of --network, in their order
	first    engine.Attachment   // of the flags beside it
}

func (f *runFlags) networks(s *pflag.FlagSet) {
	r, n := &f.run, &f.net
	s.Func("network", "connect to `NETWORK`: a name, bridge (default), none, host, container:NAME; or name=..,alias=..,ip=..,ip6=..,mac-address=..,driver-opt=K=V,gw-priority=N; several times for several", func(v string) error {
		a, err := parseNetwork(v)
		n.networks = append(n.networks, a)
		return err
	})
	s.StringArrayVar(&n.first.Aliases, "network-alias", nil, "further `NAME` of the container in its first network")
	s.Func("ip", "IPv4 `ADDRESS` in the first network", addressInto(&n.first.IPv4, netip.Addr.Is4))
	s.Func("ip6", "IPv6 `ADDRESS` in the first network", addressInto(&n.first.IPv6, netip.Addr.Is6))
	s.Func("link-local-ip", "further link-local `ADDRESS` in the first network", linkLocalInto(&n.first.LinkLocal))
	s.Func("mac-address", "hardware `ADDRESS`, as in 02:42:ac:11:00:02", macInto(&n.first.MAC))
	s.Func("link", "have another container's name, address and ports known inside: `NAME[:ALIAS]`", func(v string) error {
		l, err := parseLink(v)
		n.first.Links = append(n.first.Links, l)
		return err
	})
	s.FuncP("publish", "p", "make a port reachable from outside: `[[ADDRESS:][HOSTPORT]:]PORT[/PROTO]`, with ranges; or published=..,target=..,protocol=..,host_ip=..,mode=strict", func(v string) error {
		p, err := parsePublish(v)
		r.Publish = append(r.Publish, p)
		return err
	})
	s.BoolVarP(&r.PublishAll, "publish-all", "P", false, "publish all ports that are exposed, at free ports of the machine")
	s.Func("egress", "let the container reach nothing but `none|NAME:PORT`, or ADDRESS, CIDR, *.DOMAIN, :PORT, several by commas; kakuri-run(1) has all of it", func(v string) error {
		r.Egress = append(r.Egress, v)
		_, err := plan.ParseEgress(r.Egress)
		return err
	})
	s.Func("expose", "say that the container has a `PORT[-LAST][/PROTO]`", func(v string) error {
		e, err := parseExpose(v)
		r.Expose = append(r.Expose, e)
		return err
	})
	s.Func("add-host", "add a line to /etc/hosts: `NAME=ADDRESS`; the address may be host-gateway", func(v string) error {
		h, err := parseExtraHost(v)
		r.ExtraHosts = append(r.ExtraHosts, h)
		return err
	})
	s.Func("dns", "ask the name server at `ADDRESS` in place of the machine's", func(v string) error {
		a, err := netip.ParseAddr(v)
		if err != nil {
			return fmt.Errorf("IP address is not correctly formatted: %s", v)
		}
		r.DNS = append(r.DNS, a.String())
		return nil
	})
	s.StringArrayVar(&r.DNSOptions, "dns-option", nil, "`OPTION` of resolv.conf(5), as in ndots:1")
	s.Func("dns-search", "`DOMAIN` that is put behind names without a dot; . is none", func(v string) error {
		d, err := parseSearch(v)
		r.DNSSearch = append(r.DNSSearch, d)
		return err
	})
}

// otherNames are the names that Docker takes for flags beside those that it shows.
func otherNames(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "net":
		name = "network"
	case "net-alias":
		name = "network-alias"
	case "dns-opt":
		name = "dns-option"
	}
	return pflag.NormalizedName(name)
}

// isMode reports whether --network names no network but whose namespace is taken: an own
// one without a connection, or somebody else's.
func isMode(network string) bool {
	return network == "none" || network == "host" || strings.HasPrefix(network, "container:") || strings.HasPrefix(network, "ns:")
}

// connect puts what the flags say of networks together.
func (f *runFlags) connect() error {
	r, n := &f.run, &f.net
	list := n.networks
	if len(list) > 0 {
		r.Network = list[0].Network
	}
	seen := map[string]bool{}
	for _, a := range list {
		if seen[a.Network] {
			return fmt.Errorf("network %q is specified multiple times", a.Network)
		}
		seen[a.Network] = true
		if len(list) > 1 && isMode(a.Network) {
			return fmt.Errorf("conflicting options: --network %s is not a network that a container can have beside others", a.Network)
		}
	}
	r.MACAddress, r.Links = n.first.MAC, n.first.Links
	if len(list) == 0 {
		if !bare(n.first) {
			n.first.Network = "default"
			r.Networks = []engine.Attachment{n.first}
		}
		return nil
	}
	own := list[0]
	if err := join(&list[0], n.first); err != nil {
		return err
	}
	if isMode(r.Network) {
		// These have fields of their own, and are no options of a network's.
		list[0].Links, list[0].MAC = own.Links, own.MAC
		if bare(list[0]) {
			return nil
		}
	}
	r.Networks = list // which the engine refuses of such a mode
	return nil
}

// bare reports whether an attachment says nothing but which network.
func bare(a engine.Attachment) bool {
	return len(a.Aliases)+len(a.Links)+len(a.LinkLocal)+len(a.Options) == 0 && a.IPv4+a.IPv6+a.MAC+a.Device == "" && a.GatewayPriority == 0
}

// join adds to the first network what stands in flags of its own.
func join(a *engine.Attachment, flags engine.Attachment) error {
	for _, l := range []struct {
		name, what string
		to         *[]string
		from       []string
	}{
		{"--network-alias", "per-network alias", &a.Aliases, flags.Aliases},
		{"--link", "per-network links", &a.Links, flags.Links},
		{"--link-local-ip", "per-network link-local IP addresses", &a.LinkLocal, flags.LinkLocal},
	} {
		if len(*l.to) > 0 && len(l.from) > 0 {
			return fmt.Errorf("conflicting options: cannot specify both %s and %s", l.name, l.what)
		}
		*l.to = append(*l.to, l.from...)
	}
	for _, s := range []struct {
		name, what string
		to         *string
		from       string
	}{
		{"--ip", "per-network IPv4 address", &a.IPv4, flags.IPv4},
		{"--ip6", "per-network IPv6 address", &a.IPv6, flags.IPv6},
		{"--mac-address", "per-network MAC address", &a.MAC, flags.MAC},
	} {
		if *s.to != "" && s.from != "" {
			return fmt.Errorf("conflicting options: cannot specify both %s and %s", s.name, s.what)
		}
		if s.from != "" {
			*s.to = s.from
		}
	}
	return nil
}

// parseNetwork parses a network's name or, where there is KEY=VALUE, fields of CSV.
func parseNetwork(s string) (a engine.Attachment, err error) {
	if key, _, ok := strings.Cut(s, "="); !ok || strings.HasPrefix(key, "ns:") {
		if s == "" {
			return a, fmt.Errorf("the name is empty")
		}
		return engine.Attachment{Network: s}, nil
	}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return a, err
	}
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
		if !ok || key == "" {
			return a, fmt.Errorf("invalid field %s", field)
		}
		if err := networkField(&a, key, value); err != nil {
			return a, err
		}
	}
	if a.Network == "" {
		return a, fmt.Errorf("network name/id is not specified")
	}
	return a, nil
}

func networkField(a *engine.Attachment, key, value string) (err error) {
	switch key {
	case "name":
		a.Network = value
	case "alias":
		a.Aliases = append(a.Aliases, value)
	case "ip":
		err = addressInto(&a.IPv4, netip.Addr.Is4)(value)
	case "ip6":
		err = addressInto(&a.IPv6, netip.Addr.Is6)(value)
	case "mac-address":
		err = macInto(&a.MAC)(value)
	case "link-local-ip":
		err = linkLocalInto(&a.LinkLocal)(value)
	case "driver-opt":
		name, v, ok := strings.Cut(value, "=")
		if !ok || name == "" {
			return fmt.Errorf("invalid key value pair format in driver options")
		}
		put(&a.Options, strings.TrimSpace(name), strings.TrimSpace(v))
	case "gw-priority":
		if a.GatewayPriority, err = strconv.Atoi(value); err != nil {
			return fmt.Errorf("invalid gw-priority (%s): value must be an integer", value)
		}
	default:
		return fmt.Errorf("invalid field key %s", key)
	}
	if err != nil {
		return fmt.Errorf("%s=%s: %w", key, value, err)
	}
	return nil
}

// addressInto takes an address of a family.
func addressInto(to *string, family func(netip.Addr) bool) func(string) error {
	return func(v string) error {
		a, err := netip.ParseAddr(v)
		if err != nil || a.Zone() != "" || !family(a) {
			return fmt.Errorf("invalid IP address")
		}
		*to = a.String()
		return nil
	}
}

// linkLocalInto takes addresses that are link-local: one of another kind would be a second address that no network has given.
func linkLocalInto(to *[]string) func(string) error {
	return func(v string) error {
		var a string
		if err := addressInto(&a, netip.Addr.IsLinkLocalUnicast)(v); err != nil {
			return fmt.Errorf("invalid link local IP address: %s", v)
		}
		*to = append(*to, a)
		return nil
	}
}

// macInto takes a hardware address of Ethernet.
func macInto(to *string) func(string) error {
	return func(v string) error {
		m, err := net.ParseMAC(v)
		if err != nil || len(m) != 6 {
			return fmt.Errorf("%s is not a valid mac address", v)
		}
		*to = m.String()
		return nil
	}
}

// parseLink parses NAME[:ALIAS], and /NAME:/OTHER/ALIAS of old Docker records.
func parseLink(s string) (string, error) {
	name, alias, has := strings.Cut(s, ":")
	if strings.HasPrefix(name, "/") {
		name, alias = strings.TrimPrefix(name, "/"), alias[strings.LastIndexByte(alias, '/')+1:]
	}
	if !has {
		alias = name
	}
	if s == "" {
		return "", fmt.Errorf("empty string specified for links")
	}
	if name == "" || alias == "" || strings.Contains(alias, ":") {
		return "", fmt.Errorf("bad format for links: %s", s)
	}
	return name + ":" + alias, nil
}

// parseExtraHost parses NAME=ADDRESS or NAME:ADDRESS into the latter, as Docker's records
// have it. An address may be in brackets.
func parseExtraHost(s string) (string, error) {
	name, address, ok := strings.Cut(s, "=")
	if !ok {
		name, address, ok = strings.Cut(s, ":")
	}
	if !ok || name == "" || strings.ContainsAny(name, ": \t\n") {
		return "", fmt.Errorf("bad format for add-host: %q", s)
	}
	if address == "host-gateway" {
		return name + ":" + address, nil
	}
	if in, ok := strings.CutPrefix(address, "["); ok && strings.HasSuffix(in, "]") {
		address = strings.TrimSuffix(in, "]")
	}
	if _, err := netip.ParseAddr(address); err != nil {
		return "", fmt.Errorf("invalid IP address in add-host: %q", address)
	}
	return name + ":" + address, nil
}

// parseSearch checks a domain to search; "." stands for none.
func parseSearch(s string) (string, error) {
	d := strings.Trim(s, " ")
	if d == "." {
		return d, nil
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(d, "."), ".") {
		bad := func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
		}
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") || strings.ContainsFunc(label, bad) {
			return "", fmt.Errorf("%s is not a valid domain", s)
		}
	}
	if len(d) > 255 {
		return "", fmt.Errorf("%s is not a valid domain", s)
	}
	return d, nil
}

// parsePublish parses what is published: [[ADDRESS:][HOSTPORT]:]PORT[/PROTO] or, where
// there is KEY=VALUE, those. Ports may be ranges of the same length; a range of the host
// for one port inside leaves the choice to the engine.
func parsePublish(s string) (p engine.PortSpec, err error) {
	if strings.Contains(s, "=") {
		if s, p.Strict, err = publishFields(s); err != nil {
			return p, err
		}
	}
	part := strings.Split(s, ":")
	inside, host := part[len(part)-1], ""
	if len(part) > 1 {
		host = part[len(part)-2]
		p.HostIP = strings.Join(part[:len(part)-2], ":")
	}
	ports, proto, err := protocolOf(inside)
	if err != nil {
		return p, err
	}
	p.Proto = proto
	if in, ok := strings.CutPrefix(p.HostIP, "["); ok {
		if p.HostIP, ok = strings.CutSuffix(in, "]"); !ok {
			return p, fmt.Errorf("invalid IP address [%s: the bracket is not closed", in)
		}
	}
	if p.HostIP != "" {
		a, err := netip.ParseAddr(p.HostIP)
		if err != nil || a.Zone() != "" {
			return p, fmt.Errorf("invalid IP address: %s", p.HostIP)
		}
		p.HostIP = a.String()
	}
	if ports == "" {
		return p, fmt.Errorf("no port specified: %s<empty>", s)
	}
	if p.Port, p.PortEnd, err = portRange(ports); err != nil || p.Port == 0 {
		return p, fmt.Errorf("invalid containerPort: %s", ports)
	}
	if host == "" {
		return p, nil
	}
	if p.HostPort, p.HostPortEnd, err = portRange(host); err != nil {
		return p, fmt.Errorf("invalid hostPort: %s", host)
	}
	p.AnyPort = p.HostPort == 0
	if rangeOf(p.HostPort, p.HostPortEnd) != rangeOf(p.Port, p.PortEnd) && p.PortEnd != 0 {
		return p, fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", ports, host)
	}
	return p, nil
}

// rangeOf is how many ports after the first a range has, of which last is 0 for one port.
func rangeOf(first, last uint16) uint16 { return max(last, first) - first }

// publishFields makes the short form of the long one.
func publishFields(s string) (short string, strict bool, err error) {
	fields := map[string]string{"protocol": "tcp"}
	for param := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(param, "=")
		if !ok || key == "" {
			return "", false, fmt.Errorf("invalid publish opts format (should be name=value but got '%s')", param)
		}
		switch key {
		case "published", "target", "protocol", "host_ip":
			fields[key] = value
		case "mode":
			if value != "host" && value != "ingress" && value != "strict" {
				return "", false, fmt.Errorf("mode=%s: there are host and strict", value)
			}
			strict = value == "strict"
		case "name", "app_protocol": // that say nothing of how
		default:
			return "", false, fmt.Errorf("unknown field %s: there are published, target, protocol, host_ip and mode", key)
		}
	}
	short = fields["published"] + ":" + fields["target"] + "/" + fields["protocol"]
	if ip := fields["host_ip"]; ip != "" {
		short = ip + ":" + short
	}
	return short, strict, nil
}

// protocolOf parts PORTS[/PROTO].
func protocolOf(s string) (ports, proto string, err error) {
	ports, proto, has := strings.Cut(s, "/")
	if !has || proto == "" {
		proto = "tcp"
	}
	proto = strings.ToLower(proto)
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, proto) {
		return "", "", fmt.Errorf("invalid proto: %s", proto)
	}
	return ports, proto, nil
}

// portRange parses FIRST[-LAST]; last is 0 where it is one port.
func portRange(s string) (first, last uint16, err error) {
	from, to, has := strings.Cut(s, "-")
	if !has {
		to = from
	}
	a, err1 := strconv.ParseUint(from, 10, 16)
	b, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || b < a {
		return 0, 0, fmt.Errorf("invalid range %s", s)
	}
	if a == b {
		b = 0
	}
	return uint16(a), uint16(b), nil
}

// parseExpose checks FIRST[-LAST][/PROTO], and names the protocol.
func parseExpose(s string) (string, error) {
	if strings.Contains(s, ":") {
		return "", fmt.Errorf("invalid port format for --expose: %s", s)
	}
	ports, proto, err := protocolOf(s)
	if err != nil {
		return "", err
	}
	if first, _, err := portRange(ports); err != nil || first == 0 {
		return "", fmt.Errorf("invalid range format for --expose: %s", ports)
	}
	return ports + "/" + proto, nil
}
