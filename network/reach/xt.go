package reach

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// A match of iptables is bytes that its module knows: the structs of linux/netfilter/xt_*.h. What is here are those that decide in the
// rulesets of dockerd, ufw and their like; of the others it is not known whether they match.

// A question is one part of a match: what it asks, as nft(8) would write it, and whether the packet is so.
type question struct {
	text string
	is   answer
}

// asks takes a match apart. ok is false for one that is not known.
func (e *Expr) asks(p *Packet) (list []question, ok bool) {
	d := e.Data
	switch {
	case e.Text == "comment":
	case e.Text == "conntrack" && (e.Key == 2 || e.Key == 3) && len(d) >= 154:
		return conntrackMatch(d, p)
	case e.Text == "addrtype" && e.Key == 1 && len(d) >= 8:
		return addrtypeMatch(d, p)
	case (e.Text == "tcp" || e.Text == "udp") && e.Key == 0 && len(d) >= 9:
		return portMatch(e.Text, d, p)
	case e.Text == "multiport" && e.Key == 1 && len(d) >= 48:
		return multiportMatch(d, p)
	case e.Text == "rpfilter" && e.Key == 0 && len(d) >= 1 && !p.NoIn:
		// struct xt_rpfilter_info. That a route leads back to the sender is said of fib, too.
		list = append(list, question{"fib saddr . iif oif " + map[bool]string{false: "exists", true: "missing"}[d[0]&xtRPFilterInvert != 0], answerOf(d[0]&xtRPFilterInvert == 0)})
		return list, true
	default:
		return nil, false
	}
	return nil, true
}

const xtRPFilterInvert = 1 << 3

func half(d []byte, at int) uint16 { return binary.NativeEndian.Uint16(d[at:]) }

// inverted writes a value, and turns the answer round, where a flag says so.
func inverted(name, value string, is answer, invert bool) question {
	if invert {
		return question{name + " != " + value, is.not()}
	}
	return question{name + " " + value, is}
}

// Bits of struct xt_conntrack_mtinfo3, and of the one before it.
const (
	xtStateFlag, xtStatusFlag        = 1 << 0, 1 << 6
	xtStateDNAT                      = 1 << 7
	xtMatchFlags, xtInvert, xtStates = 146, 148, 150
	xtStatuses                       = 152
)

var xtStateNames = []string{"invalid", "established", "related", "new", "", "", "snat", "dnat", "untracked"}

func conntrackMatch(d []byte, p *Packet) (list []question, ok bool) {
	flags, invert := half(d, xtMatchFlags), half(d, xtInvert)
	if flags&xtStateFlag != 0 {
		states := half(d, xtStates)
		var names []string
		for i, n := range xtStateNames {
			if n != "" && states>>i&1 != 0 {
				names = append(names, n)
			}
		}
		// Translated by whom is part of the state here.
		is := answerOf(uint32(states)&p.state() != 0 || states&xtStateDNAT != 0 && p.DNAT)
		list = append(list, inverted("ct state", strings.Join(names, ","), is, invert&xtStateFlag != 0))
	}
	if flags&xtStatusFlag != 0 {
		is := maybe
		if status := half(d, xtStatuses); status == statusDNAT {
			is = answerOf(p.DNAT)
		}
		list = append(list, inverted("ct status", hex(d[xtStatuses:xtStatuses+2]), is, invert&xtStatusFlag != 0))
	}
	if flags&^(xtStateFlag|xtStatusFlag) != 0 {
		list = append(list, question{"[match conntrack]", maybe})
	}
	return list, true
}

// addrtypeMatch is struct xt_addrtype_info_v1: a bit for each kind of address.
func addrtypeMatch(d []byte, p *Packet) (list []question, ok bool) {
	flags := binary.NativeEndian.Uint32(d[4:])
	limit := uint32(0)
	if flags&4 != 0 {
		limit = fibIIF
	}
	if flags&8 != 0 {
		limit |= fibOIF
	}
	for i, from := range []uint32{fibSaddr, fibDaddr} {
		kinds := half(d, 2*i)
		if kinds == 0 {
			continue
		}
		var names []string
		for n, name := range addrTypes {
			if kinds>>n&1 != 0 {
				names = append(names, name)
			}
		}
		is := maybe
		if kind, known := p.addrType(from | limit); known {
			is = answerOf(kinds>>kind&1 != 0)
		}
		list = append(list, inverted(fibText(from|limit, fibAddrType), strings.Join(names, ","), is, flags>>i&1 != 0))
	}
	return list, true
}

// ports writes a range, and asks whether a port of a packet is in it.
func ports(from, to, port uint16) (string, answer) {
	text := strconv.Itoa(int(from))
	if to != from {
		text += "-" + strconv.Itoa(int(to))
	}
	switch first, last := ephemeral(port); {
	case last < from || to < first:
		return text, no
	case from <= first && last <= to:
		return text, yes
	}
	return text, maybe
}

// portMatch is struct xt_tcp, or the shorter xt_udp.
func portMatch(proto string, d []byte, p *Packet) (list []question, ok bool) {
	invert := d[8]
	if proto == "tcp" {
		if len(d) < 12 {
			return nil, false
		}
		invert = d[11]
	}
	if from, to := half(d, 0), half(d, 2); from != 0 || to != 0xffff {
		text, is := ports(from, to, p.From)
		list = append(list, inverted(proto+" sport", text, is, invert&1 != 0))
	}
	if from, to := half(d, 4), half(d, 6); from != 0 || to != 0xffff {
		text, is := ports(from, to, p.Port)
		list = append(list, inverted(proto+" dport", text, is, invert&2 != 0))
	}
	if proto == "tcp" && d[9] != 0 {
		list = append(list, inverted("tcp flags", fmt.Sprintf("%#x / %#x", d[10], d[9]), answerOf(d[9]&p.flags() == d[10]), invert&4 != 0))
	}
	if proto == "tcp" && d[8] != 0 {
		list = append(list, question{"[match tcp option]", maybe})
	}
	return list, true
}

// multiportMatch is struct xt_multiport_v1: of 15 ports some begin a range that the next one ends.
func multiportMatch(d []byte, p *Packet) (list []question, ok bool) {
	const (
		portsAt, rangesAt, invertAt = 2, 32, 47
		source, either              = 0, 2
	)
	var names []string
	name, port := "th dport", p.Port
	switch d[0] {
	case source:
		name, port = "th sport", p.From
	case either:
		name = "th port"
	}
	in := no
	for i := 0; i < int(min(d[1], 15)); i++ {
		from := half(d, portsAt+2*i)
		to := from
		if d[rangesAt+i] != 0 && i < 14 {
			i++
			to = half(d, portsAt+2*i)
		}
		text, is := ports(from, to, port)
		if d[0] == either {
			_, other := ports(from, to, p.From)
			is = max(is, other)
		}
		names, in = append(names, text), max(in, is)
	}
	return []question{inverted(name, "{ "+strings.Join(names, ", ")+" }", in, d[invertAt] != 0)}, true
}
