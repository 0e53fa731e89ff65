package reach

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Text is the rule about as nft(8) would write it for packets of a family, ip or ip6; what it has no words for is named in
// brackets.
func (r Rule) Text(family string) string {
	var words []string
	what := map[int]string{} // what registers hold
	for i := range r.Exprs {
		w := r.Exprs[i].text(family, what)
		if w == "" {
			continue
		}
		// A port asks for its protocol before: that is one question.
		if n := len(words) - 1; n >= 0 {
			proto, of := strings.CutPrefix(words[n], "meta l4proto ")
			rest, port := strings.CutPrefix(w, "th ")
			switch {
			case of && port && (proto == "tcp" || proto == "udp" || proto == "sctp"):
				words[n] = proto + " " + rest
				continue
			case of && proto == "tcp" && strings.HasPrefix(w, "tcp "):
				words[n] = w
				continue
			}
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

// keyName is what nft(8) calls what meta and ct load, empty for what is rare.
func (e *Expr) keyName() string {
	if e.Name == "ct" {
		switch e.Key {
		case ctState:
			return "ct state"
		case ctDirection:
			return "ct direction"
		case ctStatus:
			return "ct status"
		case ctMark:
			return "ct mark"
		}
		return ""
	}
	switch e.Key {
	case metaProtocol:
		return "meta protocol"
	case metaMark:
		return "meta mark"
	case metaIIF:
		return "iif"
	case metaOIF:
		return "oif"
	case metaIIFName:
		return "iifname"
	case metaOIFName:
		return "oifname"
	case metaNFProto:
		return "meta nfproto"
	case metaL4Proto:
		return "meta l4proto"
	}
	return ""
}

// payloadName names the usual fields of headers.
func payloadName(family string, e *Expr) string {
	type place struct{ base, offset, len uint32 }
	names := map[place]string{
		{1, 9, 1}: "ip protocol", {1, 12, 4}: "ip saddr", {1, 16, 4}: "ip daddr", {1, 6, 1}: "ip6 nexthdr", {1, 8, 16}: "ip6 saddr", {1, 24, 16}: "ip6 daddr",
		{2, 0, 2}: "th sport", {2, 2, 2}: "th dport", {2, 13, 1}: "tcp flags", {2, 0, 4}: "th sport . dport",
	}
	if n := names[place{e.Base, e.Offset, e.Len}]; n != "" {
		return n
	}
	// Part of an address: that of a network with a prefix of whole bytes.
	for p, n := range names {
		if strings.HasPrefix(n, family+" ") && p.base == e.Base && p.offset == e.Offset && e.Len < p.len {
			return n
		}
	}
	return fmt.Sprintf("@%s,%d,%d", [...]string{"ll", "nh", "th", "ih"}[min(e.Base, 3)], e.Offset*8, e.Len*8)
}

// text is what nft(8) writes for an expression, nothing for one that only fills a register. what says what the registers hold.
func (e *Expr) text(family string, what map[int]string) string {
	switch e.Name {
	case "meta", "ct", "payload", "fib":
		what[e.Dest] = e.loaded(family)
		return ""
	case "bitwise":
		what[e.Dest] = e.masked(what[e.Source])
		return ""
	case "immediate":
		if e.Verdict == "" {
			what[e.Dest] = valueText("", e.Data)
		}
		return strings.TrimSpace(e.Verdict + " " + e.Chain)
	case "cmp":
		return e.compared(what[e.Source])
	case "range":
		return what[e.Source] + " " + e.operator() + valueText(what[e.Source], e.Data) + "-" + valueText(what[e.Source], e.Data2)
	case "lookup":
		op := " "
		switch {
		case e.Dest == 0 && e.Map:
			op = " vmap "
		case e.Invert:
			op = " != "
		}
		return what[e.Source] + op + "@" + e.Set
	case "nat":
		way := "snat"
		if e.Key == natDNAT {
			way = "dnat"
		}
		return way + " to " + strings.TrimSpace(what[e.Source])
	case "xt info":
		return ""
	case "xt match":
		asked, ok := e.asks(&Packet{})
		if !ok {
			return "[match " + e.Text + "]"
		}
		words := make([]string, len(asked))
		for i, q := range asked {
			words[i] = q.text
		}
		return strings.Join(words, " ")
	case "xt target":
		return "[target " + e.Text + "]"
	}
	return e.Name
}

// loaded is what nft(8) calls what an expression has put into its register.
func (e *Expr) loaded(family string) string {
	switch e.Name {
	case "payload":
		return payloadName(family, e)
	case "fib":
		return fibText(e.Op, e.Key)
	}
	return cmp.Or(e.keyName(), fmt.Sprintf("%s[%d]", e.Name, e.Key))
}

// masked is what a register holds of name after a bitwise expression. That of a state is written with what it is compared to.
func (e *Expr) masked(name string) string {
	if strings.Contains(name, "state") {
		return name
	}
	if n, ok := prefixLen(e.Data); ok && strings.HasSuffix(name, "addr") {
		return name + "/" + strconv.Itoa(n)
	}
	return name + " & " + hex(e.Data)
}

// compared is a comparison of what a register holds: a name, and of an address the length of its prefix.
func (e *Expr) compared(what string) string {
	name, prefix, _ := strings.Cut(what, "/")
	zero := len(bytes.Trim(e.Data, "\x00")) == 0
	switch {
	case strings.HasPrefix(name, "ct st") && e.Op == cmpNeq && zero:
		return name + " [mask]"
	case strings.HasPrefix(name, "fib ") && !strings.HasSuffix(name, "type") && len(e.Data) <= 4:
		// A device's index, or whether there is one.
		return name + map[bool]string{true: " missing", false: " exists"}[zero == (e.Op == cmpEq)]
	}
	value := valueText(name, e.Data)
	switch {
	case prefix != "":
		value += "/" + prefix
	case strings.HasSuffix(name, "addr") && len(e.Data) != 4 && len(e.Data) != 16:
		value += "/" + strconv.Itoa(8*len(e.Data))
	}
	return name + " " + e.operator() + value
}

// operator is that of a comparison, nothing for equality.
func (e *Expr) operator() string {
	return [...]string{"", "!= ", "< ", "<= ", "> ", ">= "}[min(e.Op, 5)]
}

// addrTypes are the kinds of addresses, by their numbers (RTN_UNICAST and its like).
var addrTypes = [...]string{"unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit"}

// fibText is what nft(8) writes for a question to the routing tables.
func fibText(flags, result uint32) string {
	var with []string
	for _, f := range []struct {
		flag uint32
		name string
	}{{fibSaddr, "saddr"}, {fibDaddr, "daddr"}, {fibMark, "mark"}, {fibIIF, "iif"}, {fibOIF, "oif"}} {
		if flags&f.flag != 0 {
			with = append(with, f.name)
		}
	}
	return "fib " + strings.Join(with, " . ") + " " + map[uint32]string{fibOIFIndex: "oif", fibOIFName: "oifname", fibAddrType: "type"}[result]
}

func prefixLen(mask []byte) (int, bool) {
	n, done := 0, false
	for _, b := range mask {
		for bit := 7; bit >= 0; bit-- {
			on := b>>bit&1 == 1
			if on && done {
				return 0, false
			}
			if on {
				n++
			} else {
				done = true
			}
		}
	}
	return n, true
}

func hex(b []byte) string { return fmt.Sprintf("0x%x", b) }

// valueText writes a value as its name's kind is written.
func valueText(name string, b []byte) string {
	switch {
	case strings.HasSuffix(name, "name"):
		s := strings.TrimRight(string(b), "\x00")
		if len(b) < 16 && !bytes.Contains(b, []byte{0}) {
			s += "*"
		}
		return strconv.Quote(s)
	case strings.HasSuffix(name, "addr"):
		full := 4
		if strings.HasPrefix(name, "ip6") {
			full = 16
		}
		if a, ok := netip.AddrFromSlice(append(bytes.Clone(b), make([]byte, max(0, full-len(b)))...)); ok {
			return a.String()
		}
	case name == "meta l4proto" || name == "ip protocol" || name == "ip6 nexthdr":
		if len(b) != 1 {
			break
		}
		for _, n := range []string{"tcp", "udp", "sctp"} {
			if b[0] == protocol(n) {
				return n
			}
		}
		return strconv.Itoa(int(b[0]))
	case name == "meta nfproto" && len(b) == 1:
		switch b[0] {
		case 2:
			return "ipv4"
		case 10:
			return "ipv6"
		}
	case len(b) == 2 && name != "meta protocol":
		return strconv.Itoa(int(binary.BigEndian.Uint16(b)))
	case len(b) == 4 && (name == "iif" || name == "oif" || name == "meta mark" || name == "ct mark"):
		return strconv.FormatUint(uint64(binary.NativeEndian.Uint32(b)), 10)
	case len(b) == 4 && strings.HasPrefix(name, "fib ") && strings.HasSuffix(name, " type"):
		if n := binary.NativeEndian.Uint32(b); int(n) < len(addrTypes) {
			return addrTypes[n]
		}
	}
	return hex(b)
}
