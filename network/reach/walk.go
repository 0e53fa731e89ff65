package reach

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
)

// A Packet is the first one of a connection, or the first answer to it, imagined, at one
// hook. What is not set is not known, and rules that ask for it may match or not; one of both addresses is set.
type Packet struct {
	Hook     string
	In, Out  *Link // nil: none is known, or has it
	NoIn     bool  // it is the host's own, and has come in by no device
	NoOut    bool  // it goes out by none
	Src, Dst netip.Addr
	Proto    string
	From     uint16 // port that it comes from; 0 of From or Port is the asker's own, an ephemeral one
	Port     uint16 // where it goes to
	Local    bool   // Dst is an address of the host
	DNAT     bool   // Dst is what DNAT has made of it, or of an answer: what it answers was led here by DNAT
	Reply    bool   // it answers one that has come this way
	// NotIn are networks in which the address that is not set is not.
	NotIn []netip.Prefix
}

// A Drop is a rule or a policy that stops a packet.
type Drop struct {
	Family, Table, Chain string
	Handle               uint64 // 0: the chain's policy
	Text                 string // the rule, as nft(8) would write it
	Hook                 string
	Sure                 bool   // nothing it asks is unknown; else it may drop
	Packets              uint64 // counted while tests were made
}

// Numbers of nf_tables.h, and of the protocols.
const (
	metaProtocol, metaMark, metaIIF, metaOIF, metaIIFName, metaOIFName, metaNFProto, metaL4Proto = 1, 3, 4, 5, 6, 7, 15, 16

	ctState, ctDirection, ctStatus, ctMark = 0, 1, 2, 3

	baseNetwork, baseTransport = 1, 2

	cmpEq, cmpNeq, cmpLT, cmpLTE, cmpGT, cmpGTE = 0, 1, 2, 3, 4, 5

	fibOIFIndex, fibOIFName, fibAddrType = 1, 2, 3 // what is asked for
	// What it is asked with, and that the answer is but whether there is one.
	fibSaddr, fibDaddr, fibMark, fibIIF, fibOIF, fibPresent = 1, 2, 4, 8, 16, 32

	addrUnicast, addrLocal = 1, 2

	natDNAT = 1 // 0 is SNAT

	stateEstablished, stateNew = 2, 8
	statusAssured, statusDNAT  = 4, 0x20
)

// answer is what a question about a packet has: it may be open.
type answer int

const (
	no answer = iota
	maybe
	yes
)

func (a answer) not() answer { return yes - a }

func answerOf(b bool) answer {
	if b {
		return yes
	}
	return no
}

// outcome is what a chain does to a packet.
type outcome int

const (
	undecided outcome = iota
	accepted
	dropped
)

// Walk sends a packet through the chains of its hook, in the kernel's order, and returns
// what stops it: the last one is sure, or none is.
func Walk(tables []Table, p Packet) []Drop {
	type base struct {
		t *Table
		c *Chain
	}
	var list []base
	for i := range tables {
		t := &tables[i]
		if t.Family != "inet" && t.Family != p.family() {
			continue
		}
		for j := range t.Chains {
			if c := &t.Chains[j]; c.Hook == p.Hook && !(p.Reply && c.Type == "nat") { // those see the first packet alone
				list = append(list, base{t, &t.Chains[j]})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b base) int { return a.c.Priority - b.c.Priority })
	w := walker{packet: p}
	for _, b := range list {
		w.table, w.unsure = b.t, false
		out := w.chain(b.c, true, 0)
		if out == undecided && b.c.Drop {
			w.drop(Drop{Chain: b.c.Name, Sure: !w.unsure})
			if w.unsure {
				continue
			}
			out = dropped
		}
		if out == dropped {
			break
		}
	}
	return w.drops
}

func (p *Packet) family() string {
	a := p.Dst
	if !a.IsValid() {
		a = p.Src
	}
	if a.Is4() || a.Is4In6() {
		return "ip"
	}
	return "ip6"
}

type walker struct {
	packet Packet
	table  *Table
	unsure bool // something before may have decided about the packet
	drops  []Drop
}

func (w *walker) drop(d Drop) {
	d.Family, d.Table, d.Hook = w.table.Family, w.table.Name, w.packet.Hook
	w.drops = append(w.drops, d)
}

func (w *walker) find(name string) *Chain {
	i := slices.IndexFunc(w.table.Chains, func(c Chain) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &w.table.Chains[i]
}

// chain walks the rules of one; sure says that the packet gets here.
func (w *walker) chain(c *Chain, sure bool, depth int) outcome {
	if c == nil || depth > 16 { // the kernel's limit
		return undecided
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		m, v := w.rule(r)
		if m == no || v.Verdict == "" {
			continue
		}
		out, ends := w.obey(c, r, v, sure && m == yes, depth)
		switch {
		case !ends:
		case m == yes:
			return out
		case out != dropped || v.Verdict == "goto": // what may drop is told, and the packet that it does not drop goes on
			w.unsure = true
		}
	}
	return undecided
}

// obey does with a packet what a rule of c says: what becomes of it, and whether it leaves c with that. sure says that the rule is for it.
func (w *walker) obey(c *Chain, r *Rule, v Expr, sure bool, depth int) (out outcome, ends bool) {
	switch v.Verdict {
	case "drop", "reject":
		w.drop(Drop{Chain: c.Name, Handle: r.Handle, Text: r.Text(w.packet.family()), Sure: sure && !w.unsure, Packets: r.Packets})
		if w.unsure {
			return accepted, true // then other tables are asked, too
		}
		return dropped, true
	case "accept":
		return accepted, true
	case "return":
		return undecided, true
	case "queue": // a program decides
		w.unsure = true
		return accepted, true
	case "jump", "goto":
		out = w.chain(w.find(v.Chain), sure, depth+1)
		return out, out != undecided || v.Verdict == "goto"
	}
	return undecided, false
}

// registers are the machine's, byte by byte, with the bits of each that are known.
type registers struct{ value, known [96]byte }

func (g *registers) set(reg int, value, known []byte) {
	if at := reg * 4; at >= 0 && at+len(value) <= len(g.value) {
		copy(g.value[at:], value)
		copy(g.known[at:], known)
	}
}

func (g *registers) get(reg, n int) (value, known []byte) {
	at := reg * 4
	if at < 0 || at+n > len(g.value) {
		return make([]byte, n), make([]byte, n)
	}
	return g.value[at : at+n], g.known[at : at+n]
}

// bitwise keeps the bits of a mask and turns some of them. What has no mask is a shift, or takes another register's bits: that is not followed.
func (g *registers) bitwise(e *Expr) {
	if len(e.Data) == 0 {
		g.forget(e.Dest)
		return
	}
	v, k := g.get(e.Source, int(e.Len))
	v, k = slices.Clone(v), slices.Clone(k)
	for i := range v {
		mask, xor := byteAt(e.Data, i), byteAt(e.Data2, i)
		v[i], k[i] = v[i]&mask^xor, k[i]|^mask
	}
	g.set(e.Dest, v, k)
}

// isNot reports whether a comparison is of the packet's address that is not set, which has just been loaded, with one that it is not.
func (p *Packet) isNot(load, with *Expr) bool {
	a, ok := netip.AddrFromSlice(with.Data)
	if !ok || load.Name != "payload" || load.Base != baseNetwork || load.Dest != with.Source || with.Op != cmpEq && with.Op != cmpNeq {
		return false
	}
	source, dest := uint32(12), uint32(16)
	if a.Is6() {
		source, dest = 8, 24
	}
	if !(load.Offset == source && !p.Src.IsValid() || load.Offset == dest && !p.Dst.IsValid()) {
		return false
	}
	return slices.ContainsFunc(p.NotIn, func(n netip.Prefix) bool { return n.Contains(a) })
}

// rule runs the expressions: whether the packet matches, and what becomes of it then.
func (w *walker) rule(r *Rule) (m answer, verdict Expr) {
	var g registers
	m = yes
	for i := range r.Exprs {
		e := &r.Exprs[i]
		if v, ends := e.ends(); ends {
			return m, v
		}
		a, led := w.step(&g, e, &r.Exprs[max(0, i-1)])
		if led.Verdict != "" {
			verdict = led
		}
		if m = min(m, a); m == no {
			return no, Expr{}
		}
	}
	return m, verdict
}

// ends reports whether nothing after an expression counts, and what becomes of a packet that gets there.
func (e *Expr) ends() (verdict Expr, ends bool) {
	switch e.Name {
	case "immediate":
		return *e, e.Verdict != ""
	case "reject":
		return Expr{Verdict: "reject"}, true
	case "nat", "masq", "redir", "tproxy":
		return Expr{Verdict: "accept"}, true
	case "queue":
		return Expr{Verdict: "queue"}, true
	case "xt target":
		return xtVerdict(e.Text), true
	}
	return Expr{}, false
}

// step runs an expression that others come after: whether the packet passes it, and what a map of verdicts says of it. last is the one before.
func (w *walker) step(g *registers, e, last *Expr) (a answer, led Expr) {
	switch e.Name {
	case "meta":
		g.load(e.Dest, w.meta(e.Key))
	case "ct":
		g.load(e.Dest, w.ct(e.Key))
	case "payload":
		g.load(e.Dest, w.payload(e))
	case "fib":
		g.load(e.Dest, w.fib(e))
	case "immediate":
		g.load(e.Dest, known(e.Data))
	case "bitwise":
		g.bitwise(e)
	case "cmp":
		if w.packet.isNot(last, e) {
			return answerOf(e.Op == cmpNeq), led
		}
		v, k := g.get(e.Source, len(e.Data))
		return compare(e.Op, v, k, e.Data), led
	case "range":
		v, k := g.get(e.Source, len(e.Data))
		a = min(compare(cmpGTE, v, k, e.Data), compare(cmpLTE, v, k, e.Data2))
		if e.Op == cmpNeq {
			a = a.not()
		}
		return a, led
	case "lookup":
		return w.lookup(e, g)
	case "xt match":
		asked, ok := e.asks(&w.packet)
		if !ok {
			return maybe, led
		}
		a = yes
		for _, q := range asked {
			a = min(a, q.is)
		}
		return a, led
	case "counter", "log", "notrack", "xt info":
	case "last", "objref":
		g.forget(e.Dest)
	default: // such as limit, quota, numgen, dynset: what they answer is not the packet's alone
		g.forget(e.Dest)
		return maybe, led
	}
	return yes, led
}

// xtVerdict is what a target of iptables does, where it decides at all.
func xtVerdict(target string) Expr {
	switch target {
	case "DROP":
		return Expr{Verdict: "drop"}
	case "REJECT":
		return Expr{Verdict: "reject"}
	case "ACCEPT", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "TPROXY":
		return Expr{Verdict: "accept"}
	case "NFQUEUE":
		return Expr{Verdict: "queue"}
	}
	return Expr{}
}

func byteAt(b []byte, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return 0
}

// A field is bytes of a packet, and which of their bits are known.
type field struct{ value, known []byte }

func known(b []byte) field { return field{b, bytes.Repeat([]byte{0xff}, len(b))} }

func unknown(n int) field { return field{make([]byte, n), make([]byte, n)} }

func number(n uint32) field { return known(binary.NativeEndian.AppendUint32(nil, n)) }

// load puts a field into a register; what is left of its last four bytes is zero.
func (g *registers) load(reg int, f field) {
	for len(f.value)%4 != 0 {
		f.value, f.known = append(slices.Clip(f.value), 0), append(slices.Clip(f.known), 0xff)
	}
	g.set(reg, f.value, f.known)
}

func (g *registers) forget(reg int) { g.load(reg, unknown(16)) }

// compare compares as memcmp(3) does: the least and the greatest that the value can be say the same, or it is not known.
func compare(op uint32, v, k, with []byte) answer {
	least, most := make([]byte, len(v)), make([]byte, len(v))
	differ := false
	for i := range v {
		least[i], most[i] = v[i]&k[i], v[i]|^k[i]
		differ = differ || (v[i]^with[i])&k[i] != 0
	}
	if differ && (op == cmpEq || op == cmpNeq) {
		return answerOf(op == cmpNeq)
	}
	so := func(b []byte) answer {
		switch c := bytes.Compare(b, with); op {
		case cmpEq:
			return answerOf(c == 0)
		case cmpNeq:
			return answerOf(c != 0)
		case cmpLT:
			return answerOf(c < 0)
		case cmpLTE:
			return answerOf(c <= 0)
		case cmpGT:
			return answerOf(c > 0)
		default:
			return answerOf(c >= 0)
		}
	}
	first, last := so(least), so(most)
	switch {
	case (op == cmpEq || op == cmpNeq) && !bytes.Equal(least, most):
		return maybe
	case first == last:
		return first
	}
	return maybe
}

func (w *walker) meta(key uint32) field {
	p := &w.packet
	switch key {
	case metaNFProto:
		if p.family() == "ip" {
			return known([]byte{2})
		}
		return known([]byte{10})
	case metaProtocol:
		if p.family() == "ip" {
			return known([]byte{8, 0})
		}
		return known([]byte{0x86, 0xdd})
	case metaL4Proto:
		return known([]byte{protocol(p.Proto)})
	case metaMark:
		return number(0)
	case metaIIF:
		return index(p.In, p.NoIn)
	case metaOIF:
		return index(p.Out, p.NoOut)
	case metaIIFName:
		return name(p.In, p.NoIn)
	case metaOIFName:
		return name(p.Out, p.NoOut)
	}
	return unknown(16)
}

// protocol is its number in IP headers.
func protocol(name string) byte {
	switch name {
	case "tcp":
		return 6
	case "udp":
		return 17
	}
	return 132
}

func index(l *Link, none bool) field {
	switch {
	case none:
		return number(0)
	case l == nil:
		return unknown(4)
	}
	return number(uint32(l.Index))
}

func name(l *Link, none bool) field {
	b := make([]byte, 16)
	switch {
	case none:
		return known(b)
	case l == nil:
		return unknown(16)
	}
	copy(b, l.Name)
	return known(b)
}

func (w *walker) ct(key uint32) field {
	switch key {
	case ctState:
		return number(w.packet.state())
	case ctDirection:
		if w.packet.Reply {
			return known([]byte{1})
		}
		return known([]byte{0})
	case ctMark:
		return number(0)
	case ctStatus: // of a connection that is assured there were more packets than these
		f := unknown(4)
		binary.NativeEndian.PutUint32(f.known, statusAssured|statusDNAT)
		if w.packet.DNAT {
			binary.NativeEndian.PutUint32(f.value, statusDNAT)
		}
		return f
	}
	return unknown(16)
}

// state is what the kernel's memory of connections says of the packet, as a bit.
func (p *Packet) state() uint32 {
	if p.Reply {
		return stateEstablished
	}
	return stateNew
}

// flags are TCP's.
func (p *Packet) flags() byte {
	const syn, ack = 2, 16
	if p.Reply {
		return syn | ack
	}
	return syn
}

// ephemeral are the ports that one may be: 0 is one that a kernel has given to who asks. Linux gives those from 32768 on, others those from 49152.
func ephemeral(port uint16) (first, last uint16) {
	if port == 0 {
		return 1 << 15, 1<<16 - 1
	}
	return port, port
}

// payload reads the packet's headers, of which protocol, addresses and ports are known as far as they are set.
func (w *walker) payload(e *Expr) field {
	p := &w.packet
	v, k := make([]byte, 64), make([]byte, 64)
	put := func(at int, b []byte) {
		copy(v[at:], b)
		for i := range b {
			k[at+i] = 0xff
		}
	}
	switch e.Base {
	case baseNetwork:
		if p.family() == "ip" {
			put(0, []byte{0x45})
			put(9, []byte{protocol(p.Proto)})
			if p.Src.IsValid() {
				put(12, p.Src.Unmap().AsSlice())
			}
			if p.Dst.IsValid() {
				put(16, p.Dst.Unmap().AsSlice())
			}
		} else {
			put(6, []byte{protocol(p.Proto)})
			if p.Src.IsValid() {
				put(8, p.Src.AsSlice())
			}
			if p.Dst.IsValid() {
				put(24, p.Dst.AsSlice())
			}
		}
	case baseTransport:
		for i, port := range []uint16{p.From, p.Port} {
			first, last := ephemeral(port)
			binary.BigEndian.PutUint16(v[2*i:], first)
			binary.BigEndian.PutUint16(k[2*i:], ^(first ^ last))
		}
		if p.Proto == "tcp" {
			put(13, []byte{p.flags()})
		}
	}
	if e.Offset+e.Len > uint32(len(v)) || e.Len > 16 {
		return unknown(int(min(e.Len, 16)))
	}
	return field{v[e.Offset : e.Offset+e.Len], k[e.Offset : e.Offset+e.Len]}
}

// fib answers what kind an address is of, and by which device a route leads to it. That back to the sender leads by the device that the packet has come
// in by, also where that is not known: senders that lie about their address are not what is asked about.
func (w *walker) fib(e *Expr) field {
	p := &w.packet
	size := map[uint32]int{fibOIFIndex: 4, fibOIFName: 16, fibAddrType: 4}[e.Key]
	back := e.Op&fibSaddr != 0 && !p.NoIn && p.In != nil
	there := e.Op&fibDaddr != 0 && !p.Local && !p.NoOut && p.Out != nil
	switch {
	case e.Key == fibAddrType:
		if kind, known := p.addrType(e.Op); known {
			return number(kind)
		}
	case e.Op&fibPresent != 0 && (there || e.Op&fibSaddr != 0 && !p.NoIn):
		return known([]byte{1})
	case !back && !there || e.Op&fibPresent != 0:
	case e.Key == fibOIFIndex && back:
		return number(uint32(p.In.Index))
	case e.Key == fibOIFIndex:
		return number(uint32(p.Out.Index))
	case e.Key == fibOIFName && back:
		return name(p.In, false)
	case e.Key == fibOIFName:
		return name(p.Out, false)
	}
	return unknown(max(size, 4))
}

// addrType is the kind of the source's or the destination's address; with a device, an address of this machine is local at the device that has it.
func (p *Packet) addrType(flags uint32) (kind uint32, known bool) {
	local, device := p.Local, p.In
	if flags&fibSaddr != 0 {
		local = p.NoIn
	}
	if flags&fibOIF != 0 {
		device = p.Out
	}
	switch {
	case !local:
		return addrUnicast, true
	case flags&(fibIIF|fibOIF) == 0:
		return addrLocal, true
	case flags&fibSaddr != 0 || device == nil || !p.Dst.IsValid() || p.Dst.IsLoopback():
		return 0, false
	case slices.ContainsFunc(device.Addrs, func(a netip.Prefix) bool { return a.Addr() == p.Dst }):
		return addrLocal, true
	}
	return addrUnicast, true
}

// lookup asks a set, or a map of verdicts.
func (w *walker) lookup(e *Expr, g *registers) (answer, Expr) {
	i := slices.IndexFunc(w.table.Sets, func(s Set) bool { return s.Name == e.Set })
	if i < 0 {
		g.forget(e.Dest)
		return maybe, Expr{}
	}
	s := &w.table.Sets[i]
	a, found := s.has(e.Source, g)
	if e.Invert {
		a = a.not()
	}
	if found == nil {
		return a, Expr{}
	}
	if e.Map {
		g.forget(e.Dest)
	}
	return a, Expr{Verdict: found.Verdict, Chain: found.Chain}
}

// has finds the element for what a register holds.
func (s *Set) has(reg int, g *registers) (answer, *Element) {
	var possible, rest *Element
	for i := range s.Elements {
		e := &s.Elements[i]
		if e.End {
			continue
		}
		if e.All {
			rest = e
			continue
		}
		v, k := g.get(reg, len(e.Key))
		a := compare(cmpEq, v, k, e.Key)
		switch {
		case e.KeyEnd != nil:
			a = within(v, k, e.Key, e.KeyEnd)
		case s.Interval:
			a = compare(cmpGTE, v, k, e.Key)
			if end := s.after(e.Key); end != nil {
				a = min(a, compare(cmpLT, v, k, end))
			}
		}
		if a == yes {
			return yes, e
		}
		if a == maybe {
			possible = e
		}
	}
	switch {
	case possible != nil:
		return maybe, possible
	case rest != nil:
		return yes, rest
	}
	return no, nil
}

// after is the end of the interval that begins at key, nil when there is none.
func (s *Set) after(key []byte) (end []byte) {
	for i := range s.Elements {
		if e := &s.Elements[i]; bytes.Compare(e.Key, key) > 0 && (end == nil || bytes.Compare(e.Key, end) < 0) {
			end = e.Key
		}
	}
	return end
}

// within compares concatenated ranges, each field by itself: fields are padded to four
// bytes, and which are longer the set's type says, which is not read: four bytes at a
// time is right for all but ranges of IPv6 addresses in concatenations.
func within(v, k, from, to []byte) answer {
	a := yes
	for i := 0; i < len(from) && i < len(to); i += 4 {
		n := min(i+4, len(from), len(to))
		a = min(a, compare(cmpGTE, v[i:n], k[i:n], from[i:n]), compare(cmpLTE, v[i:n], k[i:n], to[i:n]))
	}
	return a
}
