package uplink

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kakuri/kakuri/internal/dbus"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/netip"
)

// systemd-resolved has servers for names by link, and a link may have domains: what is below one of those is asked of that link's servers and of no others, as the names that are
// behind a VPN. Its file of servers, resolv.conf, does not say so: its D-Bus interface does, org.freedesktop.resolve1(5). Asking its stub on 127.0.0.53 in place of its servers would have
// a container see the machine's /etc/hosts, and ask all neighbours by LLMNR.
const (
	resolvedName = "org.freedesktop.resolve1"
	resolvedPath = "/org/freedesktop/resolve1"

	// Where it writes its files. It makes them under another name first, so that the directory has changed whenever it has considered what is in them, be
	// there a difference in them or not: the domains of a link that are for routing alone are in none.
	resolvedDir = "/run/systemd/resolve"

	// Who sets links are root and the console's user. These bound what one question costs all the same.
	mostFiles   = 64 // of links that a start reads: to read more would cost more than a resolver
	mostLinks   = 32
	mostDomains = 1024

	resolvedPatience = time.Second            // of a question for a name, which is given up after five
	resolvedAgain    = 10 * time.Second       // until who did not answer is asked again
	resolvedTick     = 250 * time.Millisecond // between two questions while its directory changes, as with each device that comes or goes
	resolvedAge      = time.Minute            // of an answer: not with each version does a link that vanishes change a file
)

// NameRoutes say which servers are asked for which names.
type NameRoutes []NameLink

// A NameLink is what one link has of that, or all links together (systemd-resolved's Global).
type NameLink struct {
	Device  uint32 // 0 for all links
	Servers []NameServer
	Domains []string // what is below one of these is asked of it, without dots at their ends and in lower case; "" is above all names
	Others  bool     // and so is what is below no domain of any link
}

// Servers are those that are asked for a name, which is in lower case and has no dot at its end: of the links with the longest domain that the name is below. Where there is none,
// nobody is to be asked.
func (r NameRoutes) Servers(name string) (list []NameServer) {
	best := -1 // labels of the domain
	for _, l := range r {
		n := -1
		for _, d := range l.Domains {
			if below(name, d) {
				n = max(n, labels(d))
			}
		}
		switch {
		case len(l.Servers) == 0 || n < best || n < 0 && !l.Others:
			continue
		case n > best:
			best, list = n, nil
		}
		for _, s := range l.Servers {
			if !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	return list
}

// Several reports whether it depends on the name which servers are asked.
func (r NameRoutes) Several() bool {
	var first []NameServer
	for _, l := range r {
		switch {
		case len(l.Servers) == 0:
		case first == nil:
			first = l.Servers
		case !slices.Equal(first, l.Servers):
			return true
		}
	}
	return false
}

func below(name, domain string) bool {
	head, ok := strings.CutSuffix(name, domain)
	return ok && (head == "" || domain == "" || head[len(head)-1] == '.')
}

func labels(name string) int {
	if name == "" {
		return 0
	}
	return 1 + strings.Count(name, ".")
}

// ResolvedLinks are systemd-resolved's links, as it says that they are: it is asked when it is needed, and again when something has changed. It is for
// use by several goroutines at once.
type ResolvedLinks struct {
	mu     sync.Mutex
	seen   *files.Seen // its directory, as it was before it was asked last; nil where there was none, or nobody answered
	routes NameRoutes
	known  bool
	until  time.Time // when it is asked again in any case
	again  time.Time // when it may be asked again after it did not answer, or while it changes
}

// Routes are what it said last; it is not known where it has never answered.
func (l *ResolvedLinks) Routes() (routes NameRoutes, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.seen != nil && l.seen.Same() && now.Before(l.until) || now.Before(l.again) {
		return l.routes, l.known
	}
	l.forget()
	seen, err := files.See(resolvedDir)
	if err == nil {
		var answer NameRoutes
		if answer, err = ReadResolved(); err != nil {
			seen.Close()
		} else if l.routes, l.known, l.until = answer, true, now.Add(resolvedAge); seen.Settled() {
			l.seen = seen
		} else { // one more change would not be seen by its time
			seen.Close()
			l.again = now.Add(resolvedTick)
		}
	}
	if err != nil { // what it said last holds: else the names behind a VPN would be asked of everybody
		l.again = time.Now().Add(resolvedAgain)
	}
	return l.routes, l.known
}

// Close lets go of what it holds.
func (l *ResolvedLinks) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget()
}

func (l *ResolvedLinks) forget() {
	if l.seen != nil {
		l.seen.Close()
		l.seen = nil
	}
}

// SeveralResolved reports whether systemd-resolved may have servers in several places, for a start that cannot wait for its answer; listed are those of its resolv.conf, which leaves out links
// that are for some domains alone. It is read from what networkd and resolved itself write down about links (networkd's is sd-network's interface; the other one's is nobody's, and not an ordinary
// user's to read), so it may be wrong, and decides no more than who is asked first: the servers listed, or somebody who asks resolved for each name's.
func SeveralResolved(listed []netip.Addr) bool { return severalResolved("", listed) }

func severalResolved(root string, listed []netip.Addr) bool {
	links := map[string][]string{}
	for _, of := range []struct{ dir, key string }{{"/run/systemd/netif/links", "DNS="}, {resolvedDir + "/netif", "SERVERS="}} {
		names, err := os.ReadDir(root + of.dir)
		if errors.Is(err, os.ErrPermission) {
			return true
		}
		// networkd has a file for each link, those of containers too.
		if len(names) > mostFiles {
			return true
		}
		for _, name := range names {
			text, _ := files.Read(root + of.dir + "/" + name.Name())
			for line := range strings.Lines(string(text)) {
				if servers, ok := strings.CutPrefix(strings.TrimSpace(line), of.key); ok && servers != "" {
					links[name.Name()] = strings.Fields(servers)
				}
			}
		}
	}
	places := len(links)
	if slices.ContainsFunc(listed, func(a netip.Addr) bool {
		for _, servers := range links {
			if slices.ContainsFunc(servers, func(s string) bool { return sameServer(s, a.String()) }) {
				return false
			}
		}
		return true
	}) {
		places++ // of all links
	}
	return places > 1
}

// sameServer reports whether a server as it is written for a link, ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT, with %INTERFACE and #NAME, is at an address.
func sameServer(text, addr string) bool {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(text, "["), addr)
	return ok && (rest == "" || strings.ContainsRune("]%#", rune(rest[0])) || rest[0] == ':' && !strings.Contains(addr, ":"))
}

// ReadResolved asks systemd-resolved, which it does not have started.
func ReadResolved() (NameRoutes, error) {
	c, err := dbus.SystemService(resolvedName, resolvedPatience)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, errors.New("systemd-resolved is not there")
	}
	defer c.Close()
	r := resolved{c}
	servers, err := r.get(resolvedPath, "Manager", "DNSEx")
	if errors.As(err, new(*dbus.Error)) { // before systemd 246
		servers, err = r.get(resolvedPath, "Manager", "DNS")
	}
	if err != nil {
		return nil, err
	}
	domains, err := r.get(resolvedPath, "Manager", "Domains")
	if err != nil {
		return nil, err
	}
	routes, only := nameRoutes(rows(servers), rows(domains))
	for i := range routes {
		l := &routes[i]
		if l.Others = l.Device == 0; l.Others {
			continue
		}
		// A link that somebody has said nothing about is for other names where it has no domain for routing alone; before 240 that is all there was.
		v, err := r.get(resolvedPath+"/link/"+linkLabel(l.Device), "Link", "DefaultRoute")
		said, ok := v.(bool)
		switch {
		case err != nil && !errors.As(err, new(*dbus.Error)):
			return nil, err
		case err == nil && ok:
			l.Others = said
		default:
			l.Others = !only[l.Device]
		}
	}
	return routes, nil
}

// nameRoutes reads rows of an index, a family and an address, maybe with a port and more, and rows of an index, a domain, and whether that is for routing
// alone; only has the links that have one of those.
func nameRoutes(servers, domains [][]any) (routes NameRoutes, only map[uint32]bool) {
	only = map[uint32]bool{}
	of := func(index any) *NameLink {
		n, ok := index.(int32)
		if !ok || n < 0 {
			return nil
		}
		if i := slices.IndexFunc(routes, func(l NameLink) bool { return l.Device == uint32(n) }); i >= 0 {
			return &routes[i]
		}
		if len(routes) == mostLinks {
			return nil
		}
		routes = append(routes, NameLink{Device: uint32(n)})
		return &routes[len(routes)-1]
	}
	for _, row := range servers {
		if len(row) < 3 {
			continue
		}
		bytes, _ := row[2].([]any)
		var raw []byte
		for _, b := range bytes {
			b, _ := b.(byte)
			raw = append(raw, b)
		}
		a, ok := netip.AddrFromSlice(raw)
		if !ok {
			continue
		}
		s := NameServer{Addr: a.Unmap()}
		if len(row) > 3 {
			s.Port, _ = row[3].(uint16)
		}
		if l := of(row[0]); l != nil {
			if a.Is6() && a.IsLinkLocalUnicast() {
				s.Device = l.Device
			}
			l.Servers = append(l.Servers, s)
		}
	}
	routes = slices.Clip(routes)
	for i, row := range domains {
		if len(row) < 3 || i == mostDomains {
			continue
		}
		n, _ := row[0].(int32)
		name, _ := row[1].(string)
		alone, _ := row[2].(bool)
		at := slices.IndexFunc(routes, func(l NameLink) bool { return n >= 0 && l.Device == uint32(n) })
		if at < 0 {
			continue // nobody could be asked there
		}
		routes[at].Domains = append(routes[at].Domains, strings.ToLower(strings.Trim(name, ".")))
		only[uint32(n)] = only[uint32(n)] || alone
	}
	return routes, only
}

// rows are the structures of an array.
func rows(v any) (list [][]any) {
	all, _ := v.([]any)
	for _, row := range all {
		if row, ok := row.([]any); ok {
			list = append(list, row)
		}
	}
	return list
}

// linkLabel is the last part of a link's path: sd_bus_path_encode(3) of its number.
func linkLabel(device uint32) string {
	n := strconv.Itoa(int(device))
	return "_" + strconv.FormatUint(uint64(n[0]), 16) + n[1:]
}

type resolved struct{ *dbus.Conn }

// get is a property of one of its objects.
func (r resolved) get(path, of, name string) (any, error) {
	body, err := r.Call(&dbus.Message{Destination: resolvedName, Path: path, Interface: "org.freedesktop.DBus.Properties", Member: "Get", Body: []any{resolvedName + "." + of, name}})
	if err != nil {
		return nil, err
	}
	if len(body) == 0 {
		return nil, nil
	}
	v, _ := body[0].(dbus.Variant)
	return v.Value, nil
}
