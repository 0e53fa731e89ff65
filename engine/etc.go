package engine

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/monitor/dns"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netdb"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// etcFiles mounts on an image's container, and on all that are connected to a network, what depends on where it runs: its name, those of hosts, and who answers for
// names. The files lie in the container's directory, written at each start; with --network container:NAME they are that container's.
func (b *builder) etcFiles() error {
	if err := b.resolveNames(); err != nil {
		return err
	}
	joined, joins := b.shared[b.run.networkMode()]
	// plain has the files that its root has, but for what was asked for.
	plain := !b.run.fromImage() && len(b.wires) == 0
	asked := map[string]bool{"hosts": len(b.run.ExtraHosts) > 0, "resolv.conf": len(b.run.DNS)+len(b.run.DNSSearch)+len(b.run.DNSOptions) > 0}
	if plain && !joins && !asked["hosts"] && !asked["resolv.conf"] {
		return nil
	}
	name := b.spec.Hostname
	if name == "" {
		name = strings.TrimSpace(string(hostFile("/proc/sys/kernel/hostname")))
	}
	hosts, err := b.hosts(name)
	if err != nil {
		return err
	}
	if err := b.hostsReached(hosts); err != nil {
		return err
	}
	b.etc = map[string][]byte{"hostname": []byte(name + "\n"), "hosts": hosts, "resolv.conf": b.names.conf}
	dir := b.engine.home(b.rec)
	for _, file := range []string{"hostname", "hosts", "resolv.conf"} {
		from, dest := dir, "/etc/"+file
		if slices.ContainsFunc(b.run.Mounts, func(m Mount) bool { return path.Clean(m.Dest) == dest }) {
			delete(b.etc, file)
			continue
		}
		switch {
		case joins && file != "hostname" && exists(joined.dir+"/"+file):
			delete(b.etc, file)
			from = joined.dir
		case plain && !asked[file]:
			delete(b.etc, file)
			continue
		}
		options := []string{"rbind", "rprivate", "nodev"}
		if b.run.ReadOnly {
			options = append(options, "ro")
		}
		b.mount(specs.Mount{Destination: dest, Type: "bind", Source: from + "/" + file, Options: options}, fmt.Sprintf("default: the container's own %s", strings.TrimSuffix(file, ".conf")))
	}
	return nil
}

// hosts is /etc/hosts of a container: the host's where it has the host's network.
func (b *builder) hosts(name string) ([]byte, error) {
	var out bytes.Buffer
	if b.run.ownNetwork() {
		out.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	} else if out.Write(hostFile("/etc/hosts")); out.Len() > 0 && !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
		out.WriteByte('\n')
	}
	for _, h := range b.run.ExtraHosts {
		lines, err := b.extraHost(h)
		if err != nil {
			return nil, err
		}
		out.WriteString(lines)
	}
	for _, w := range b.wires {
		if w.network.Name == netdb.DefaultName {
			lines, err := b.linked(w)
			if err != nil {
				return nil, err
			}
			out.WriteString(lines)
		}
	}
	for _, w := range b.wires {
		out.WriteString(ownNames(&w.has, name, b.spec.Domainname))
	}
	return out.Bytes(), nil
}

// ownNames are the lines of a container's own addresses on a network.
func ownNames(c *Connection, name, domain string) string {
	if domain != "" {
		name += "." + domain
	}
	if short, _, long := strings.Cut(name, "."); long && short != "" {
		name += " " + short // a whole name in --hostname has its short one beside it, too
	}
	text := ""
	for _, p := range c.Addrs {
		text += p.Addr().String() + "\t" + name + "\n"
	}
	return text
}

// hostGateway stands for the addresses that the host has for a container.
const hostGateway = "host-gateway"

// wantsGateway reports whether a --add-host asks for them.
func wantsGateway(host string) bool { return strings.HasSuffix(host, hostGateway) }

// extraHost is the line of an --add-host.
func (b *builder) extraHost(text string) (string, error) {
	name, value, ok := strings.Cut(text, ":")
	if at := strings.IndexAny(text, ":="); at >= 0 {
		name, value, ok = text[:at], text[at+1:], true
	}
	value = strings.TrimSuffix(strings.TrimPrefix(value, "["), "]")
	if !ok || name == "" || oneWord("--add-host", name) != nil {
		return "", fmt.Errorf("bad format for add-host: %q", text)
	}
	if value != hostGateway {
		if _, err := netip.ParseAddr(value); err != nil {
			return "", fmt.Errorf("invalid IP address in add-host: %q", value)
		}
		return value + "\t" + name + "\n", nil
	}
	list, err := b.hostGateways()
	if err != nil {
		return "", fmt.Errorf("add-host %s: %w", text, err)
	}
	if len(list) == 0 && b.engine.rootless() && len(b.wires) > 0 {
		return "", fmt.Errorf("add-host %s: host-gateway is the machine's address, which a container on internal networks alone does not reach, or the machine has no address but those of its loopback", text)
	}
	if len(list) == 0 {
		return "", fmt.Errorf("add-host %s: host-gateway is an address of the host on a network of the container, which has none", text)
	}
	lines := ""
	for _, a := range list {
		lines += a.String() + "\t" + name + "\n"
	}
	return lines, nil
}

// hostGateways are the addresses that the host has for the container.
func (b *builder) hostGateways() (list []netip.Addr, err error) {
	if b.run.networkMode() == "host" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	if b.engine.rootless() {
		return b.machineAddrs()
	}
	for _, w := range b.wires {
		if w.network.Driver != plan.DriverBridge {
			continue
		}
		for _, p := range bridgeOf(&w.network).Addrs {
			list = append(list, p.Addr())
		}
		if len(list) > 0 {
			break
		}
	}
	return list, nil
}

// machineAddrs are hostGateways in a network world: its bridges are not the machine's, and what leaves them reaches the machine by an address of its own, as another
// machine would. Its loopback stays out of reach.
func (b *builder) machineAddrs() (list []netip.Addr, err error) {
	for _, f := range []netip.Family{netip.IPv4, netip.IPv6} {
		if !slices.ContainsFunc(b.wires, func(w *wire) bool { return !w.network.Internal && w.has.addr(f).IsValid() }) {
			continue
		}
		a, err := network.Outward(f)
		if err != nil {
			return nil, err
		}
		if a.IsValid() {
			list = append(list, a)
		}
	}
	return list, nil
}

// resolveNames decides who answers for names: on the default network, as with Docker, the servers that the host asks; on others kakuri's own
// resolver, which asks them.
func (b *builder) resolveNames() error {
	conf := hostResolv()
	own := b.run.ownNetwork()
	asked := len(b.run.DNS) > 0
	if (!own || len(b.wires) == 0) && !asked && len(b.run.DNSSearch)+len(b.run.DNSOptions) == 0 {
		if !own {
			b.names.conf = hostFile("/etc/resolv.conf")
		}
		return nil
	}
	if err := b.changeResolv(&conf); err != nil {
		return err
	}
	if len(b.wires) > 0 && b.needsResolver(&conf) {
		for _, s := range conf.servers {
			if s.Host = !asked; s.Host && b.engine.rootless() {
				s = monitor.InWorld(s)
			}
			// What was asked for is asked from inside, where nothing leads out: there it may be at home.
			if asked || !b.isolated() {
				b.names.servers = append(b.names.servers, s)
			}
		}
		b.names.links = conf.links && len(b.names.servers) > 0
		b.names.resolver, b.opts.Network.Resolver = true, &plan.Resolver{}
		conf.servers = []server{{Addr: plan.ResolverAddr()}}
		if b.named() && !slices.ContainsFunc(conf.options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
			conf.options = append(slices.Clone(conf.options), "ndots:0")
		}
	}
	b.names.conf = conf.text()
	return nil
}

// hostResolv is whom the host asks: behind the stub of systemd-resolved its servers.
func hostResolv() resolv {
	host, links := uplink.ParseResolv(hostFile(uplink.ResolvConf)).Behind(hostFile)
	conf := resolv{search: host.Search, options: host.Options, links: links}
	for _, s := range host.Asked() {
		conf.servers = append(conf.servers, server{Addr: s.Addr, Scope: s.Device})
	}
	return conf
}

// changeResolv puts what was asked for in the place of what the host has.
func (b *builder) changeResolv(conf *resolv) error {
	if len(b.run.DNS) > 0 {
		conf.servers, conf.links = nil, false
		for _, text := range b.run.DNS {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return fmt.Errorf("IP address is not correctly formatted: %s", text)
			}
			conf.servers = append(conf.servers, server{Addr: a})
		}
	}
	if len(b.run.DNSSearch) > 0 {
		conf.search = slices.DeleteFunc(slices.Clone(b.run.DNSSearch), func(s string) bool { return s == "." })
	}
	if len(b.run.DNSOptions) > 0 {
		conf.options = b.run.DNSOptions
	}
	for _, s := range append(slices.Clone(conf.search), conf.options...) {
		if s == "" || strings.Contains(s, ";") || oneWord("", s) != nil {
			return fmt.Errorf("%q is no domain and no option of resolv.conf", s)
		}
	}
	return nil
}

// needsResolver reports whether 127.0.0.11 is to answer: for the names of a network, for servers that are reached from the host only, where it depends on the name which one is asked, or
// because of what may be reached.
func (b *builder) needsResolver(conf *resolv) bool {
	return b.named() ||
		slices.ContainsFunc(conf.servers, func(s server) bool { return s.Addr.IsLoopback() || s.Scope != 0 }) || conf.links && severalLinks(conf.servers)
}

func severalLinks(servers []server) bool {
	var list []netip.Addr
	for _, s := range servers {
		list = append(list, s.Addr)
	}
	return uplink.SeveralResolved(list)
}

// named reports whether there are names that no other server has, or limits to what is asked for. Then those without a dot are asked for as they are; else search
// domains come first, as on the machine.
func (b *builder) named() bool {
	return len(b.run.Egress) > 0 || slices.ContainsFunc(b.wires, func(w *wire) bool { return w.network.Name != netdb.DefaultName })
}

// isolated reports whether all networks of the container are internal: what is outside is not to be asked either.
func (b *builder) isolated() bool {
	return !slices.ContainsFunc(b.wires, func(w *wire) bool { return !w.network.Internal })
}

type server = dns.Server

// A resolv becomes a container's resolv.conf(5).
type resolv struct {
	servers []server
	links   bool // systemd-resolved knows which of them is asked for a name
	search  []string
	options []string
}

// text is it as a file.
func (r *resolv) text() []byte {
	var out bytes.Buffer
	for _, s := range r.servers {
		fmt.Fprintf(&out, "nameserver %s\n", s.Addr)
	}
	if len(r.search) > 0 {
		fmt.Fprintf(&out, "search %s\n", strings.Join(r.search, " "))
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&out, "options %s\n", strings.Join(r.options, " "))
	}
	return out.Bytes()
}

// hostFile is a file of the host, empty where it is not there.
func hostFile(name string) []byte {
	data, _ := files.Read(name)
	return data
}
