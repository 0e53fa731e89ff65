package dns

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/kakuri/kakuri/netip"
)

// A Gate has a resolver answer for some names only, and what it answers be reachable before the one who asked is told. Its methods are called by several
// goroutines at once.
type Gate interface {
	// Allows reports whether a name, in lower case and without a dot at its end, may be asked for, and whether that may be of others' servers.
	// Who asks for another one is told that there is none.
	Allows(name string) (ask, far bool)
	// Open has addresses of such a name be reachable for at least as long as least, by the container of whose network namespace ns is a descriptor, and returns
	// those that are. They are ours where they are of a container of its networks, and not what others' servers said.
	Open(ns int, name string, addrs []netip.Addr, ours bool, least time.Duration) ([]netip.Addr, error)
	// Refuse is told of a name that was asked for and may not be.
	Refuse(name string)
	// Mark is put on the packets of questions to servers.
	Mark() uint32
}

// Bounds of what a gate is given.
const (
	maxOpened = 64                   // addresses of one answer
	maxChain  = 16                   // names of one answer that lead to each other
	longest   = 24 * time.Hour       // that an answer may be kept
	shortest  = time.Hour            // that its addresses are reachable: programs keep them for longer than they should
	maxTTL    = uint32(24 * 60 * 60) // longest, in seconds
)

// Types of records that a gate lets others' servers be asked for, beside addresses. Each type but these is one more bit that a question could carry.
const (
	typeCNAME = 5
	typeMX    = 15
	typeTXT   = 16
	typeSRV   = 33
)

// guarded answers a question where there is a gate; far says that others have to be asked.
func (s *Resolver) guarded(g Gate, q *question) (answer []byte, far bool) {
	if p, more, ok := zone(q.name); ok && q.plain {
		// What others have for an address would be asked of whom it belongs to.
		name, ours := s.names.Reverse(p)
		if ours {
			if !allowsPart(g, name) {
				name = ""
			}
			return q.pointer(p, more, name).end(), false
		}
		g.Refuse(q.name)
		return q.begin(noName, 0).end(), false
	}
	ask, outside := false, false
	if q.plain && q.name != "" {
		ask, outside = g.Allows(q.name)
	}
	if !ask {
		g.Refuse(q.name)
		return q.begin(noName, 0).end(), false
	}
	if addrs, known := s.names.Lookup(q.name); known {
		return s.admit(g, q, addrs, true, 0).end(), false
	}
	if !outside {
		g.Refuse(q.name)
		return q.begin(noName, 0).end(), false
	}
	switch q.kind {
	case typeA, typeAAAA, typeCNAME, typeMX, typeTXT, typeSRV:
		return nil, true
	}
	return q.begin(success, 0).end(), false // it has none of that kind
}

// allowsPart reports whether a name may be asked for, with or without the network's behind it.
func allowsPart(g Gate, name string) bool {
	for name != "" {
		if ask, _ := g.Allows(name); ask {
			return true
		}
		name, _ = lastLabel(name)
	}
	return false
}

// admit answers with those of the addresses that are reachable.
func (s *Resolver) admit(g Gate, q *question, addrs []netip.Addr, ours bool, ttl uint32) *reply {
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !q.wants(a) })
	if ours && len(addrs) > 1 { // each is the first one as often
		first := int(s.turn.Add(1)&0xffff) % len(addrs)
		addrs = append(addrs[first:], addrs[:first]...)
	}
	if len(addrs) > maxOpened {
		addrs = addrs[:maxOpened]
	}
	if len(addrs) > 0 {
		var err error
		if addrs, err = g.Open(s.sockets.Inner, q.name, addrs, ours, max(time.Duration(ttl)*time.Second, shortest)); err != nil {
			return q.begin(failure, 0)
		}
	}
	r := q.begin(success, 0)
	if r.ttl = ttl; ours {
		r.flags = flagAuthority
	}
	for _, a := range addrs {
		if !r.address(a) {
			break
		}
	}
	return r
}

// inquireGuarded asks others, by a question that has nothing of the client's in it but the name, in lower case, and the type.
func (s *Resolver) inquireGuarded(g Gate, q *question, servers []Server, tcp bool) []byte {
	clean := *q
	clean.raw = slices.Clone(q.raw)
	for i := range clean.raw[:len(clean.raw)-4] {
		clean.raw[i] = lower(clean.raw[i])
	}
	binary.BigEndian.PutUint16(clean.raw[len(clean.raw)-2:], classIN)
	clean.flags, clean.edns, clean.do, clean.size = flagRecursion, true, false, maxSize
	clean.mark = g.Mark()
	msg := s.whole(&clean, servers, tcp)
	if msg == nil {
		return nil
	}
	if c := code(msg); c != success || q.kind != typeA && q.kind != typeAAAA {
		return q.give(withoutExtra(msg, len(q.raw)))
	}
	addrs, ttl := clean.addresses(msg)
	return s.admit(g, q, addrs, false, min(ttl, maxTTL)).end()
}

// withoutExtra cuts an answer's records off that nobody asked for: those of authority and the additional ones.
func withoutExtra(msg []byte, question int) []byte {
	at := headerSize + question
	for range binary.BigEndian.Uint16(msg[6:]) {
		_, next, ok := readRecord(msg, at)
		if !ok {
			break
		}
		at = next
	}
	clear(msg[8:headerSize])
	return msg[:at]
}

// addresses follows the answer to the question from name to name, and returns the addresses that it comes to, with the shortest time that a record on the
// way may be kept, in seconds. The owner of a name says where it leads to: no other name of the answer need be allowed.
func (q *question) addresses(msg []byte) (addrs []netip.Addr, ttl uint32) {
	name, ttl := q.name, math.MaxUint32
	for range maxChain {
		next := ""
		at := headerSize + len(q.raw)
		for range binary.BigEndian.Uint16(msg[6:]) {
			owner, ok := nameAt(msg, at)
			r, end, ok2 := readRecord(msg, at)
			if !ok2 {
				break
			}
			at = end
			if !ok || owner != name || r.class != classIN {
				continue
			}
			switch {
			case r.kind == q.kind && (r.kind == typeA && len(r.data) == 4 || r.kind == typeAAAA && len(r.data) == 16):
				a, _ := netip.AddrFromSlice(r.data)
				addrs, ttl = append(addrs, a), min(ttl, r.ttl)
			case r.kind == typeCNAME && next == "":
				next, _ = nameAt(msg, end-len(r.data))
				ttl = min(ttl, r.ttl)
			}
		}
		if len(addrs) > 0 || next == "" {
			return addrs, ttl
		}
		name = next
	}
	return nil, 0
}

// nameAt reads a name that may be compressed, in lower case, without a dot at its end. It is none where a label has a dot.
func nameAt(msg []byte, at int) (string, bool) {
	if _, ok := skipName(msg, at); !ok { // which ends, and stays within the message
		return "", false
	}
	var text []byte
	for {
		switch b := int(msg[at]); {
		case b == 0:
			return string(text[:max(len(text)-1, 0)]), true
		case b <= maxLabel:
			for _, c := range msg[at+1 : at+1+b] {
				if c == '.' {
					return "", false
				}
				text = append(text, lower(c))
			}
			text = append(text, '.')
			at += 1 + b
		default:
			at = b&0x3f<<8 | int(msg[at+1])
		}
	}
}
