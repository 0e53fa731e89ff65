package plan

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/netip"
)

// An Egress is what a container may begin to speak to; all else is refused, in its own network namespace. Answers to who speaks to it, and
// what it says to itself, are not asked about.
type Egress struct {
	Allow []Reach // none: nothing
}

// A Reach is one entry of an [Egress]: an address or a name, and ports.
type Reach struct {
	// Name is one of DNS, in lower case: "db", "example.org", or "*.example.org" for all names below that. Empty is by address.
	Name string `json:",omitempty"`
	// To has the addresses: those of a name have to be in it. The zero value is any for an empty Name, and any public one for a name of others.
	To netip.Prefix `json:",omitzero"`
	// First and Last are ports, both in the range. 0 is all.
	First, Last uint16 `json:",omitempty"`
	// Proto is tcp, udp, sctp, or icmp, which is ping. Empty is tcp where there are ports, else tcp, udp and icmp.
	Proto string `json:",omitempty"`
}

// MaxReaches is how many entries there may be: each is a rule or more.
const MaxReaches = 256

// ParseEgress reads values of --egress, each with entries between commas.
//
//	none
//	NAME[@NET][:PORTS][/PROTO]      example.org:443, *.example.org:80-81, git.corp@10.0.0.0/8:22, db
//	NET[:PORTS][/PROTO]             192.0.2.1:53/udp, 10.0.0.0/8, [2001:db8::1]:443, [2001:db8::/32]
//	:PORTS[/PROTO]                  :443
//
// An entry that is there twice is one.
func ParseEgress(values []string) (*Egress, error) {
	e, none := &Egress{}, false
	for _, v := range values {
		for text := range strings.SplitSeq(v, ",") {
			if text == "none" {
				none = true
				continue
			}
			r, err := parseReach(text)
			if err != nil {
				return nil, fmt.Errorf("--egress %s: %w", OneLine(text), err)
			}
			if !e.has(r) {
				e.Allow = append(e.Allow, r)
			}
		}
	}
	if none && len(e.Allow) > 0 {
		return nil, errors.New("--egress none: nothing else can stand beside it")
	}
	return e, e.Check()
}

func (e *Egress) has(r Reach) bool {
	for _, o := range e.Allow {
		if o == r {
			return true
		}
	}
	return false
}

func parseReach(s string) (r Reach, err error) {
	rest := s
	if i := strings.LastIndexByte(s, '/'); i >= 0 && (i+1 == len(s) || !digits(s[i+1:i+2])) && !strings.Contains(s[i:], "]") {
		rest, r.Proto = s[:i], strings.ToLower(s[i+1:])
		if r.Proto == "" {
			return r, errors.New("no protocol after the slash: there are tcp, udp, sctp and icmp")
		}
	}
	where, ports, has := rest, "", false
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, ']') {
		where, ports, has = rest[:i], rest[i+1:], true
	}
	if has {
		if r.First, r.Last, err = parsePorts(ports); err != nil {
			return r, err
		}
	}
	if where == "" {
		if !has {
			return r, errors.New("neither an address nor a port: want NAME:PORT, ADDRESS:PORT, :PORT or none")
		}
		return r, r.check()
	}
	name, in, of := strings.Cut(where, "@")
	switch {
	case of:
		r.Name = name
		if r.To, err = parseNet(in); err != nil {
			return r, err
		}
		if name == "" {
			return r, errors.New("no name before the @")
		}
	case strings.ContainsAny(where, ":[]") || isNet(where):
		r.To, err = parseNet(where)
	default:
		r.Name = name
	}
	r.Name = strings.TrimSuffix(strings.ToLower(r.Name), ".")
	if err == nil {
		err = r.check()
	}
	return r, err
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// isNet tells what cannot be a name: its last part is a number.
func isNet(s string) bool {
	return strings.Contains(s, "/") || digits(s[strings.LastIndexByte(s, '.')+1:])
}

func parseNet(s string) (netip.Prefix, error) {
	if in, ok := strings.CutPrefix(s, "["); ok {
		if s, ok = strings.CutSuffix(in, "]"); !ok || !strings.Contains(s, ":") {
			return netip.Prefix{}, errors.New("brackets are for an IPv6 address, or CIDR, as in [2001:db8::1]:443")
		}
	} else if strings.Contains(s, ":") {
		return netip.Prefix{}, errors.New("an IPv6 address is in brackets, as in [2001:db8::1]:443")
	}
	var p netip.Prefix
	a, err := netip.ParseAddr(s)
	if err == nil {
		p = netip.PrefixFrom(a, a.BitLen())
	} else if p, err = netip.ParsePrefix(s); err != nil {
		return p, fmt.Errorf("%q is no address and no CIDR", s)
	}
	return p.Masked(), nil
}

func parsePorts(s string) (first, last uint16, err error) {
	from, to, has := strings.Cut(s, "-")
	if !has {
		to = from
	}
	a, err1 := strconv.ParseUint(from, 10, 16)
	b, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || !digits(from) || !digits(to) || a == 0 || b < a {
		return 0, 0, fmt.Errorf("%q is no port, from 1 to 65535, and no range of them", s)
	}
	return uint16(a), uint16(b), nil
}

// Check refuses what would be another thing than it seems.
func (e *Egress) Check() error {
	if len(e.Allow) > MaxReaches {
		return netErr("network.egress", "%d entries: there may be %d", len(e.Allow), MaxReaches)
	}
	for i := range e.Allow {
		if err := e.Allow[i].check(); err != nil {
			return netErr(fmt.Sprintf("network.egress[%d]", i), "%v", err)
		}
	}
	return nil
}

func (r *Reach) check() error {
	switch {
	case r.Proto != "" && r.Proto != "tcp" && r.Proto != "udp" && r.Proto != "sctp" && r.Proto != "icmp":
		return fmt.Errorf("protocol %q: there are tcp, udp, sctp and icmp", r.Proto)
	case r.Proto == "icmp" && r.First != 0:
		return errors.New("icmp has no ports")
	case r.Last < r.First || r.First == 0 && r.Last != 0:
		return fmt.Errorf("ports %d to %d are no range", r.First, r.Last)
	case r.Name == "" && !r.To.IsValid() && r.First == 0:
		return errors.New("any address with any port is no limit: leave --egress away")
	case r.To.IsValid() && (r.To != r.To.Masked() || r.To.Addr().Is4In6()):
		return fmt.Errorf("%v is no network of IPv4 or IPv6", r.To)
	case r.To.IsValid() && r.Name == "" && r.To.Bits() == 0 && r.First == 0:
		return fmt.Errorf("%v with any port is no limit: leave --egress away", r.To)
	case r.Name != "":
		return checkName(r.Name)
	}
	return nil
}

// checkName refuses what no name of DNS is, or one that is not to be taken for one.
func checkName(name string) error {
	if name == "*" {
		return errors.New("any name is written as any address: :PORT")
	}
	rest := strings.TrimPrefix(name, "*.")
	for label := range strings.SplitSeq(rest, ".") {
		if label == "" || len(label) > 63 {
			return fmt.Errorf("%q is no name: its parts between dots have 1 to 63 characters", name)
		}
		for i := range len(label) {
			switch c := label[i]; {
			case 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_':
			case c >= 0x80:
				return fmt.Errorf("%q: write the name as DNS has it, which for other letters than a to z begins with xn--", name)
			case c == '*':
				return fmt.Errorf("%q: a * stands at the begin only, as in *.example.org", name)
			default:
				return fmt.Errorf("%q is no name: %q stands in none", name, c)
			}
		}
	}
	if len(rest) > 253 {
		return fmt.Errorf("%q: a name has at most 253 characters", name)
	}
	if isNet(rest) {
		return fmt.Errorf("%q is neither a name nor an address", name)
	}
	return nil
}

// Any reports whether the entry is of all addresses.
func (r *Reach) Any() bool { return r.Name == "" && !r.To.IsValid() }

// Matches reports whether the entry is for a name, which is in lower case and without a dot at its end. One for any address is for any name.
func (r *Reach) Matches(name string) bool {
	if r.Any() {
		return true
	}
	below, wild := strings.CutPrefix(r.Name, "*")
	if wild {
		return len(name) > len(below) && strings.HasSuffix(name, below)
	}
	return r.Name != "" && r.Name == name
}

// Protocols lists those that the entry is for.
func (r *Reach) Protocols() []string {
	switch {
	case r.Proto != "":
		return []string{r.Proto}
	case r.First != 0:
		return []string{"tcp"}
	}
	return []string{"tcp", "udp", "icmp"}
}

// String is the entry as [ParseEgress] reads it.
func (r Reach) String() string {
	text := r.Name
	if r.To.IsValid() {
		in := r.To.String()
		if r.To.IsSingleIP() {
			in = r.To.Addr().String()
		}
		if r.To.Addr().Is6() {
			in = "[" + in + "]"
		}
		if text != "" {
			text += "@"
		}
		text += in
	}
	if r.First != 0 {
		text += ":" + strconv.Itoa(int(r.First))
		if r.Last != r.First {
			text += "-" + strconv.Itoa(int(r.Last))
		}
	}
	if r.Proto != "" {
		text += "/" + r.Proto
	}
	return text
}

// String is all entries, or none.
func (e *Egress) String() string {
	if len(e.Allow) == 0 {
		return "none"
	}
	texts := make([]string, len(e.Allow))
	for i, r := range e.Allow {
		texts[i] = r.String()
	}
	return strings.Join(texts, " ")
}

// LimitEgress puts rules into the container's network namespace that refuse what it may not begin to speak to: nftables(8),
// a table of its own.
type LimitEgress struct {
	hands
	Egress Egress
}

// Name implements [Op].
func (*LimitEgress) Name() string { return "limit egress" }

// String implements [Op].
func (l *LimitEgress) String() string {
	return "nft table inet kakuri-egress, refuse all but " + OneLine(l.Egress.String()) + ", inside"
}

// EgressCheck asks for the rules of [LimitEgress].
type EgressCheck struct{ Egress Egress }

// Kind implements [Check].
func (*EgressCheck) Kind() string { return "egress" }

// Property implements [Check].
func (*EgressCheck) Property() string { return "what may be reached" }

// Asked implements [Check].
func (c *EgressCheck) Asked() string { return OneLine(c.Egress.String()) }
