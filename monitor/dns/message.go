package dns

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/kakuri/kakuri/netip"
)

// Messages are of RFC 1035, section 4; EDNS is of RFC 6891.

// Sizes, in bytes.
const (
	headerSize = 12
	maxName    = 255  // of a name in a message, its last empty label included
	maxLabel   = 63   // of a part of it
	optSize    = 11   // of an OPT record without options
	plainSize  = 512  // what a UDP answer may have without EDNS
	safeSize   = 1232 // what is asked for with it: no packet of it is cut into pieces anywhere (dnsflagday.net/2020)
	maxSize    = 65535
)

// Bits of the second field of a header.
const (
	flagResponse  = 1 << 15
	flagOpcode    = 15 << 11
	flagAuthority = 1 << 10
	flagTruncated = 1 << 9
	flagRecursion = 1 << 8 // is wanted
	flagAvailable = 1 << 7 // recursion is
	flagAuthentic = 1 << 5 // DNSSEC: the data is
	flagUnchecked = 1 << 4 // DNSSEC: may be
	maskCode      = 15
)

// What an answer says of itself. Those above 15 need EDNS.
const (
	success     = 0
	formatError = 1
	failure     = 2
	noName      = 3
	notDone     = 4
	refused     = 5
	badVersion  = 16
)

// Types of records, and the classes.
const (
	typeA    = 1
	typePTR  = 12
	typeAAAA = 28
	typeOPT  = 41
	typeTKEY = 249 // from here to 254 are questions that no record answers: transfers and signatures
	typeTXFR = 254
	typeANY  = 255

	classIN  = 1
	classANY = 255
)

// A question is what a client asks.
type question struct {
	id    uint16
	flags uint16 // those that are passed on
	raw   []byte // name, type and class as they came
	name  string // in lower case, without a dot at its end
	plain bool   // no label of it has a byte that names of containers cannot have
	kind  uint16
	edns  bool
	do    bool   // DNSSEC's records are wanted
	size  int    // of the longest answer that the client takes
	mark  uint32 // of packets to servers; 0 for none
	gate  Gate   // who is asked for what is done; nil for nobody
	out   []byte // where an answer is made; nil is anywhere
}

// errSilence is of messages that get no answer, so that two servers never talk to each other for ever.
var errSilence = errors.New("no question")

// parse reads a client's message. The code is what to answer where it is not success. The question refers to the message.
func parse(msg []byte, tcp bool) (q question, code int, err error) {
	if len(msg) < headerSize {
		return q, 0, errSilence
	}
	field := func(i int) uint16 { return binary.BigEndian.Uint16(msg[2*i:]) }
	q.id, q.flags, q.size = field(0), field(1), plainSize
	if q.flags&flagResponse != 0 {
		return q, 0, errSilence
	}
	opcode := q.flags & flagOpcode
	q.flags &= flagRecursion | flagAuthentic | flagUnchecked
	if tcp {
		q.size = maxSize
	}
	if opcode != 0 {
		q.flags |= opcode // which the answer has as well
		return q, notDone, nil
	}
	// One question, and beside it nothing but what is about the message itself.
	if field(2) != 1 || field(3) != 0 || field(4) != 0 {
		return q, formatError, nil
	}
	at, ok := q.readName(msg)
	if !ok || at+4 > len(msg) {
		return q, formatError, nil
	}
	q.raw = msg[headerSize : at+4]
	q.kind = binary.BigEndian.Uint16(msg[at:])
	class := binary.BigEndian.Uint16(msg[at+2:])
	version, ok := q.readExtra(msg, at+4, int(field(5)), tcp)
	switch {
	case !ok:
		return q, formatError, nil
	case version != 0:
		return q, badVersion, nil
	case class != classIN && class != classANY, q.kind == typeOPT, q.kind >= typeTKEY && q.kind <= typeTXFR:
		return q, refused, nil
	}
	return q, success, nil
}

// readName reads the name of the question, which stands first: there is nothing that a pointer in it could point to.
func (q *question) readName(msg []byte) (end int, ok bool) {
	var text [maxName]byte
	n, at := 0, headerSize
	q.plain = true
	for at < len(msg) {
		size := int(msg[at])
		at++
		if size == 0 {
			q.name = string(text[:max(n-1, 0)])
			return at, true
		}
		if size > maxLabel || at+size > len(msg) || at+size-headerSize >= maxName {
			return 0, false
		}
		for _, b := range msg[at : at+size] {
			if 'A' <= b && b <= 'Z' {
				b += 'a' - 'A'
			}
			q.plain = q.plain && nameByte(b)
			text[n] = b
			n++
		}
		text[n] = '.'
		n++
		at += size
	}
	return 0, false
}

// nameByte reports whether a name of a container, network or alias can have a byte in one of its parts.
func nameByte(b byte) bool {
	return b > ' ' && b != '/' && b != '.' && b != '\\' && b != 0x7f
}

// readExtra reads the records after the question, of which only OPT means something here. What options it has nobody need know.
func (q *question) readExtra(msg []byte, at, count int, tcp bool) (version byte, ok bool) {
	for range count {
		root := at < len(msg) && msg[at] == 0
		r, next, ok := readRecord(msg, at)
		if !ok {
			return 0, false
		}
		at = next
		if r.kind != typeOPT {
			continue
		}
		if q.edns || !root || !options(r.data) {
			return 0, false
		}
		q.edns = true
		if !tcp {
			q.size = max(int(r.class), plainSize)
		}
		version = byte(r.ttl >> 16)
		q.do = r.ttl&(1<<15) != 0
	}
	return version, true
}

// options reports whether the data of an OPT record is a list of options.
func options(data []byte) bool {
	for len(data) > 0 {
		if len(data) < 4 {
			return false
		}
		size := 4 + int(binary.BigEndian.Uint16(data[2:]))
		if size > len(data) {
			return false
		}
		data = data[size:]
	}
	return true
}

// A record is one of a message, without its name.
type record struct {
	kind, class uint16
	ttl         uint32
	data        []byte
	at          int // of its type in the message
}

func readRecord(msg []byte, at int) (r record, next int, ok bool) {
	at, ok = skipName(msg, at)
	if !ok || at+10 > len(msg) {
		return r, 0, false
	}
	r.kind, r.class, r.at = binary.BigEndian.Uint16(msg[at:]), binary.BigEndian.Uint16(msg[at+2:]), at
	r.ttl = binary.BigEndian.Uint32(msg[at+4:])
	next = at + 10 + int(binary.BigEndian.Uint16(msg[at+8:]))
	if next > len(msg) {
		return r, 0, false
	}
	r.data = msg[at+10 : next]
	return r, next, true
}

// skipName finds the end of a name that may be compressed, and reports whether it is one: pointers lead backwards only, so they end.
func skipName(msg []byte, at int) (end int, ok bool) {
	size, first := 0, at // where the part began that a pointer has to lead before
	for at < len(msg) {
		switch b := int(msg[at]); {
		case b == 0:
			return max(end, at+1), true
		case b <= maxLabel:
			if size += 1 + b; size >= maxName {
				return 0, false
			}
			at += 1 + b
		case b >= 0xc0 && at+1 < len(msg):
			to := b&0x3f<<8 | int(msg[at+1])
			if to >= first || to < headerSize {
				return 0, false
			}
			if end == 0 {
				end = at + 2
			}
			at, first = to, to
		default:
			return 0, false
		}
	}
	return 0, false
}

// ask appends the question as it is passed on, under another id: nothing of the client's message goes on but what is
// known to be meant for others.
func (q *question) ask(buf []byte, id uint16) []byte {
	extra := uint16(0)
	if q.edns {
		extra = 1
	}
	buf = header(buf, id, q.flags, 1, 0, extra)
	buf = append(buf, q.raw...)
	if q.edns {
		buf = q.opt(buf, success)
	}
	return buf
}

// fit reports whether msg is the answer to the question under an id, and a message from its begin to its end: what stands behind that is
// cut off. Its OPT record becomes one of this server's.
func (q *question) fit(msg []byte, id uint16) ([]byte, bool) {
	if len(msg) < headerSize || binary.BigEndian.Uint16(msg) != id || binary.BigEndian.Uint16(msg[2:])&(flagResponse|flagOpcode) != flagResponse {
		return nil, false
	}
	if len(msg) == headerSize && code(msg) != success && code(msg) != noName {
		return q.begin(int(code(msg)), 0).end(), true // old servers do not repeat what they do not understand
	}
	if len(msg) < headerSize+len(q.raw) || binary.BigEndian.Uint16(msg[4:]) != 1 || !sameQuestion(msg[headerSize:], q.raw) {
		return nil, false
	}
	if end, ok := q.walk(msg); ok {
		return msg[:end], true
	}
	if truncated(msg) { // somewhere within a record, as it seems
		msg = msg[:headerSize+len(q.raw)]
		clear(msg[6:headerSize])
		return msg, true
	}
	return nil, false
}

// walk reads the records of an answer.
func (q *question) walk(msg []byte) (end int, ok bool) {
	at, seen := headerSize+len(q.raw), false
	for i := range 3 {
		for range binary.BigEndian.Uint16(msg[6+2*i:]) {
			r, next, ok := readRecord(msg, at)
			if !ok {
				return 0, false
			}
			at = next
			if r.kind != typeOPT {
				continue
			}
			if i != 2 || seen || !options(r.data) {
				return 0, false
			}
			seen = true
			binary.BigEndian.PutUint16(msg[r.at+2:], safeSize)
		}
	}
	return at, true
}

// sameQuestion compares names without regard to case, and type and class.
func sameQuestion(a, b []byte) bool {
	n := len(b) - 4
	for i := range n {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return string(a[n:len(b)]) == string(b[n:])
}

// lower is a letter in lower case. A label's length is less than any of them.
func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

// give makes another server's answer this one's: under the client's id, with the name as the client wrote it, and no longer than the client
// can take.
func (q *question) give(msg []byte) []byte {
	if len(msg) > q.size {
		r := q.begin(int(code(msg)), 0)
		r.flags |= flagTruncated
		return r.end()
	}
	binary.BigEndian.PutUint16(msg, q.id)
	copy(msg[headerSize:], q.raw)
	return msg
}

// code is what a message says of itself.
func code(msg []byte) uint16 { return binary.BigEndian.Uint16(msg[2:]) & maskCode }

// truncated reports whether a message is part of a longer one.
func truncated(msg []byte) bool { return binary.BigEndian.Uint16(msg[2:])&flagTruncated != 0 }

// header appends a message's.
func header(buf []byte, id, flags, questions, answers, extra uint16) []byte {
	for _, v := range [6]uint16{id, flags, questions, answers, 0, extra} {
		buf = binary.BigEndian.AppendUint16(buf, v)
	}
	return buf
}

// opt appends this side's OPT record.
func (q *question) opt(buf []byte, code int) []byte {
	buf = append(buf, 0, 0, typeOPT, safeSize>>8, safeSize&0xff, byte(code>>4), 0, 0, 0, 0, 0)
	if q.do {
		buf[len(buf)-4] = 1 << 7
	}
	return buf
}

// A reply is an answer that this server makes.
type reply struct {
	q     *question
	code  int
	flags uint16
	buf   []byte
	count uint16
	ttl   uint32 // of its records, in seconds
}

// begin begins an answer.
func (q *question) begin(code int, flags uint16) *reply {
	buf := q.out
	if buf == nil {
		buf = make([]byte, 0, headerSize+maxName+128)
	}
	return &reply{q: q, code: code, flags: flags, buf: append(buf[:headerSize], q.raw...)}
}

// add adds a record about the name of the question; false says that there is no room for it.
func (r *reply) add(kind uint16, data []byte) bool {
	room := r.q.size - len(r.buf)
	if r.q.edns {
		room -= optSize
	}
	if 12+len(data) > room {
		r.flags |= flagTruncated
		return false
	}
	// The name stands at the question. Nobody is to keep it where it can be another one's at any time.
	r.buf = append(r.buf, 0xc0, headerSize, byte(kind>>8), byte(kind), 0, classIN)
	r.buf = binary.BigEndian.AppendUint32(r.buf, r.ttl)
	r.buf = append(r.buf, byte(len(data)>>8), byte(len(data)))
	r.buf = append(r.buf, data...)
	r.count++
	return true
}

// address adds an address.
func (r *reply) address(a netip.Addr) bool {
	if a.Is4() {
		b := a.As4()
		return r.add(typeA, b[:])
	}
	b := a.As16()
	return r.add(typeAAAA, b[:])
}

// end gives the whole.
func (r *reply) end() []byte {
	q := r.q
	var questions, extra uint16
	if len(q.raw) > 0 {
		questions = 1
	}
	if q.edns {
		extra = 1
		r.buf = q.opt(r.buf, r.code)
	}
	header(r.buf[:0], q.id, flagResponse|flagAvailable|q.flags&^flagAuthentic|r.flags|uint16(r.code&maskCode), questions, r.count, extra)
	return r.buf
}

// wire is a name as messages have it.
func wire(name string) ([]byte, bool) {
	buf := make([]byte, 0, len(name)+2)
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel {
			return nil, false
		}
		buf = append(append(buf, byte(len(label))), label...)
	}
	return append(buf, 0), len(buf) < maxName // and its end
}

// zone reads the name of an address, or of what has addresses, in in-addr.arpa or ip6.arpa: the longest prefix that it is within, and whether there is
// more of the name than that.
func zone(name string) (p netip.Prefix, more, ok bool) {
	if rest, found := strings.CutSuffix(name, ".in-addr.arpa"); found {
		return zone4(rest)
	}
	if rest, found := strings.CutSuffix(name, ".ip6.arpa"); found {
		return zone6(rest)
	}
	return p, false, false
}

// lastLabel cuts off what stands behind the last dot.
func lastLabel(name string) (before, last string) {
	i := strings.LastIndexByte(name, '.')
	return name[:max(i, 0)], name[i+1:]
}

func zone4(name string) (p netip.Prefix, more, ok bool) {
	var b [4]byte
	n := 0
	for n < 4 && name != "" {
		before, label := lastLabel(name)
		v, good := decimal(label)
		if !good {
			break
		}
		b[n] = v
		n++
		name = before
	}
	return netip.PrefixFrom(netip.AddrFrom4(b), 8*n), name != "", n > 0
}

// decimal is a byte's value, written as addresses have it.
func decimal(s string) (byte, bool) {
	n := 0
	if s == "" || len(s) > 3 || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return byte(n), n < 256
}

func zone6(name string) (p netip.Prefix, more, ok bool) {
	var b [16]byte
	n := 0
	for n < 32 && name != "" {
		before, label := lastLabel(name)
		v := -1
		if len(label) == 1 {
			v = strings.IndexByte("0123456789abcdef", label[0])
		}
		if v < 0 {
			break
		}
		b[n/2] |= byte(v) << (4 * (1 - n%2))
		n++
		name = before
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), 4*n), name != "", n > 0
}
