package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/kakuri/kakuri/network/netip"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// egressTable is the name of the table inside a container, of family inet, that refuses what it may not begin to speak to.
const egressTable = "kakuri-egress"

// EgressMark is on packets of the container's server for names, which its own programs cannot set: SO_MARK takes CAP_NET_ADMIN or CAP_NET_RAW.
const EgressMark = 0x6b6b4e53

// Bounds of the table's sets.
const (
	egressOpen    = 4096               // addresses of a name, of a family
	egressRefused = 2048               // different refusals that are counted, of a family
	egressMemory  = 7 * 24 * time.Hour // how long one is remembered after it was the last time
	egressSlack   = 10 * time.Minute   // by which an address is open longer than asked for, so that it is not written at each question
)

// LimitEgress puts the table into a container's network namespace, of which ns is a descriptor, in the place of one that may be there.
func LimitEgress(ns int, e plan.Egress) error {
	t, err := OpenEgress(ns)
	if err != nil {
		return err
	}
	defer t.Close()
	// A namespace that was just made has none, and taking one away costs a wait for all processors.
	messages := egressMessages(e)
	messages[0].flags |= unix.NLM_F_EXCL
	if err = t.s.commit(0, messages); errors.Is(err, unix.EEXIST) {
		t.deleted = true
		err = t.s.commit(0, append([]nftMessage{newTable(egressTable), deleteTable(egressTable)}, egressMessages(e)...))
	}
	return err
}

// limitEgress is LimitEgress at a launch.
func (d *Doer) limitEgress(op *plan.LimitEgress, pid int) error {
	in, err := d.enter(pid)
	if err != nil {
		return err
	}
	return LimitEgress(in.ns, op.Egress)
}

// An Egress is that table of one network namespace, which its socket holds.
type Egress struct {
	s       *nfSocket
	deleted bool // something of it, see [nfSocket.close]
}

// OpenEgress opens it, by a descriptor of the namespace.
func OpenEgress(ns int) (*Egress, error) {
	s, err := openNetfilterIn(ns)
	if err != nil {
		return nil, fmt.Errorf("table inet %s: %w", egressTable, err)
	}
	return &Egress{s: s}, nil
}

// Close lets the namespace go, nearly at once.
func (t *Egress) Close() {
	if t.deleted {
		go t.s.Socket.Close()
		return
	}
	t.s.Socket.Close()
}

// openSet has the addresses that the name of an entry has.
func openSet(entry int, v6 bool) string {
	if v6 {
		return "open6." + strconv.Itoa(entry)
	}
	return "open4." + strconv.Itoa(entry)
}

// The sets besides: protocols that have ports, and refusals.
const portsSet = "ports"

func refusedSet(v6 bool) string {
	if v6 {
		return "refused6"
	}
	return "refused4"
}

func ofVersion(v6 bool) (family byte, ip string, offset, size uint32, kind datatype) {
	if v6 {
		return unix.NFPROTO_IPV6, "ip6", ip6Dest, 16, nftIPv6
	}
	return unix.NFPROTO_IPV4, "ip", ip4Dest, 4, nftIPv4
}

// egressSets are the messages that make the sets.
func egressSets(e plan.Egress) (list []nftMessage) {
	number := uint32(0)
	set := func(name string, key []datatype, flags uint32, timeout time.Duration, most uint32) {
		number++
		m := nftMessage{kind: unix.NFT_MSG_NEWSET, flags: unix.NLM_F_CREATE, family: unix.NFPROTO_INET}
		m.text = func() string {
			return "add set inet " + egressTable + " " + name + " { type " + nftTypeName(key) + "; }"
		}
		w := &m.body
		w.str(unix.NFTA_SET_TABLE, egressTable)
		w.str(unix.NFTA_SET_NAME, name)
		w.u32(unix.NFTA_SET_FLAGS, flags)
		w.u32(unix.NFTA_SET_KEY_TYPE, nftTypeID(key))
		size := nftSize(key)
		if len(key) == 1 {
			size = key[0].size // one that stands alone is not rounded up
		}
		w.u32(unix.NFTA_SET_KEY_LEN, uint32(size))
		w.u32(unix.NFTA_SET_ID, number)
		if timeout > 0 {
			w.bytes(unix.NFTA_SET_TIMEOUT, milliseconds(timeout))
		}
		if most > 0 {
			w.nest(unix.NFTA_SET_DESC, func() { w.u32(unix.NFTA_SET_DESC_SIZE, most) })
		}
		list = append(list, m)
	}
	set(portsSet, []datatype{nftProto}, 0, 0, 0)
	for _, v6 := range []bool{false, true} {
		_, _, _, _, kind := ofVersion(v6)
		set(refusedSet(v6), []datatype{nftProto, kind, nftService}, unix.NFT_SET_TIMEOUT|unix.NFT_SET_EVAL, egressMemory, egressRefused)
		for i, r := range e.Allow {
			if r.Name != "" && mayBe(&r, v6) {
				set(openSet(i, v6), []datatype{kind}, unix.NFT_SET_TIMEOUT, 0, egressOpen)
			}
		}
	}
	var protos []setElement
	for _, p := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP, unix.IPPROTO_UDPLITE} {
		protos = append(protos, setElement{key: []byte{p}})
	}
	return append(list, egressElements(unix.NFT_MSG_NEWSETELEM, portsSet, protos))
}

// mayBe tells whether an entry can be of addresses of a family.
func mayBe(r *plan.Reach, v6 bool) bool { return !r.To.IsValid() || r.To.Addr().Is6() == v6 }

// A setElement is one of a set of the table.
type setElement struct {
	key     []byte
	timeout time.Duration // zero: for ever
	comment string
}

func milliseconds(d time.Duration) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(d.Milliseconds()))
}

func egressElements(kind uint16, set string, elements []setElement) nftMessage {
	m := nftMessage{kind: kind, family: unix.NFPROTO_INET}
	verb := map[uint16]string{unix.NFT_MSG_NEWSETELEM: "add", unix.NFT_MSG_DELSETELEM: "delete", unix.NFT_MSG_GETSETELEM: "get"}[kind]
	m.text = func() string { return verb + " element inet " + egressTable + " " + set }
	if kind == unix.NFT_MSG_NEWSETELEM {
		m.flags = unix.NLM_F_CREATE
	}
	w := &m.body
	w.str(unix.NFTA_SET_ELEM_LIST_TABLE, egressTable)
	w.str(unix.NFTA_SET_ELEM_LIST_SET, set)
	w.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
		for _, e := range elements {
			w.nest(unix.NFTA_LIST_ELEM, func() {
				w.nest(unix.NFTA_SET_ELEM_KEY, func() { w.bytes(unix.NFTA_DATA_VALUE, e.key) })
				if kind != unix.NFT_MSG_NEWSETELEM {
					return
				}
				if e.timeout > 0 {
					w.bytes(unix.NFTA_SET_ELEM_TIMEOUT, milliseconds(e.timeout))
				}
				if e.comment != "" {
					w.bytes(unix.NFTA_SET_ELEM_USERDATA, nftComment(e.comment))
				}
			})
		}
	})
	return m
}

// egressChains are the table's chains with their rules: output and forward, which are at hooks and drop, and refused, which the former
// ends in.
func egressChains(e plan.Egress) []nftChain {
	accept, drop, refuse := verdict("accept", nfAccept), verdict("drop", nfDrop), gotoChain("refused")
	output := []nftRule{
		rule("", byLoopback(), accept),
		rule("the server for names asks others", marked(), accept),
		// They say in the packet where it goes on to.
		rule("source routes", nftTerm{"ip hdrlength > 5", append(isFamily(unix.NFPROTO_IPV4, "").exprs,
			payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 0, 1, 0), masked([]byte{0x0f}), compare(unix.NFT_CMP_GT, []byte{5}))}, refuse),
		rule("", nftTerm{"exthdr rt exists", append(isFamily(unix.NFPROTO_IPV6, "").exprs, routingHeader(), compare(unix.NFT_CMP_EQ, []byte{1}))}, refuse),
		rule("answers to others", inState("established", ctStateEstablished), accept),
		rule("errors of connections", inState("related", ctStateRelated), ofProtocol(unix.IPPROTO_ICMP, "icmp"), accept),
		rule("", inState("related", ctStateRelated), ofProtocol(unix.IPPROTO_ICMPV6, "ipv6-icmp"), accept),
		rule("neighbours' addresses", icmpType(true, 135, "nd-neighbor-solicit"), accept),
		rule("", icmpType(true, 136, "nd-neighbor-advert"), accept),
		rule("", icmpType(true, 133, "nd-router-solicit"), accept),
		rule("groups: nobody asked for it", ofProtocol(unix.IPPROTO_IGMP, "igmp"), drop),
		rule("", icmpType(true, 143, "mld2-listener-report"), drop),
	}
	for i := range e.Allow {
		output = append(output, reachRules(i, &e.Allow[i])...)
	}
	output = append(output, rule("", refuse))
	return []nftChain{
		{"output", "filter", unix.NF_INET_LOCAL_OUT, "output", priorityFilter, output},
		{"forward", "filter", unix.NF_INET_FORWARD, "forward", priorityFilter, nil},
		{name: "refused", rules: []nftRule{
			rule("", havingPorts(false), noteRefused(false, true)),
			rule("", havingPorts(false), noteRefused(true, true)),
			rule("", havingPorts(true), noteRefused(false, false)),
			rule("", havingPorts(true), noteRefused(true, false)),
			rule("all", counted()),
			rule("", ofProtocol(unix.IPPROTO_TCP, "tcp"), reject("reject with tcp reset", unix.NFT_REJECT_TCP_RST, 0)),
			rule("", reject("reject with icmpx admin-prohibited", unix.NFT_REJECT_ICMPX_UNREACH, unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED)),
		}},
	}
}

// reachRules are those of one entry.
func reachRules(i int, r *plan.Reach) (list []nftRule) {
	comment := r.String()
	comment = comment[:min(len(comment), 120)]
	for _, v6 := range []bool{false, true} {
		if !mayBe(r, v6) {
			continue
		}
		for _, proto := range r.Protocols() {
			list = append(list, rule(comment, destinedTo(i, r, v6), toPorts(r, proto, v6), verdict("accept", nfAccept)))
		}
	}
	return list
}

// destinedTo are the addresses of an entry. Any address is none that is of the link alone, as 169.254.169.254, and no group.
func destinedTo(i int, r *plan.Reach, v6 bool) nftTerm {
	family, ip, offset, size, _ := ofVersion(v6)
	address := payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, size, 0)
	exprs := isFamily(family, "").exprs
	within := func(op uint32, p netip.Prefix) {
		exprs = append(exprs, address)
		if !p.IsSingleIP() {
			exprs = append(exprs, masked(netmask(p)))
		}
		exprs = append(exprs, compare(op, p.Addr().AsSlice()))
	}
	switch {
	case r.Name != "":
		set := openSet(i, v6)
		return nftTerm{ip + " daddr @" + set, append(exprs, address, find(set, false))}
	case r.To.IsValid():
		if r.To.Bits() == 0 {
			return nftTerm{isFamily(family, "meta nfproto "+map[bool]string{false: "ipv4", true: "ipv6"}[v6]).text, exprs}
		}
		within(unix.NFT_CMP_EQ, r.To)
		if r.To.IsSingleIP() {
			return nftTerm{ip + " daddr " + r.To.Addr().String(), exprs}
		}
		return nftTerm{ip + " daddr " + r.To.String(), exprs}
	}
	text := ""
	for _, p := range linkAlone(v6) {
		within(unix.NFT_CMP_NEQ, p)
		text += ip + " daddr != " + p.String() + " "
	}
	return nftTerm{text[:len(text)-1], exprs}
}

// linkAlone are addresses that no router passes on, or not alone.
func linkAlone(v6 bool) []netip.Prefix {
	if v6 {
		return []netip.Prefix{netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8")}
	}
	return []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3")}
}

func netmask(p netip.Prefix) []byte {
	mask := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		mask[i/8] |= 1 << (7 - i%8)
	}
	return mask
}

// toPorts are protocol and ports of an entry; of icmp it is the question of ping.
func toPorts(r *plan.Reach, proto string, v6 bool) nftTerm {
	if proto == "icmp" {
		if v6 {
			return icmpType(true, 128, "echo-request")
		}
		return icmpType(false, 8, "echo-request")
	}
	number, _ := protoNumber(proto)
	t := ofProtocol(number, proto)
	if r.First == 0 {
		return t
	}
	t.exprs = append(t.exprs, payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 0))
	if r.First == r.Last {
		return nftTerm{proto + " dport " + strconv.Itoa(int(r.First)), append(t.exprs, compare(unix.NFT_CMP_EQ, nftPort(r.First)))}
	}
	return nftTerm{proto + " dport " + strconv.Itoa(int(r.First)) + "-" + strconv.Itoa(int(r.Last)),
		append(t.exprs, compare(unix.NFT_CMP_GTE, nftPort(r.First)), compare(unix.NFT_CMP_LTE, nftPort(r.Last)))}
}

// Terms of rules.

func byLoopback() nftTerm {
	return nftTerm{`oif "lo"`, []nftExpr{meta(unix.NFT_META_OIF, 0), compare(unix.NFT_CMP_EQ, binary.NativeEndian.AppendUint32(nil, 1))}} // it is the first of each namespace
}

func marked() nftTerm {
	return nftTerm{fmt.Sprintf("meta mark %#x", EgressMark), []nftExpr{meta(unix.NFT_META_MARK, 0), compare(unix.NFT_CMP_EQ, binary.NativeEndian.AppendUint32(nil, EgressMark))}}
}

func inState(name string, bit uint32) nftTerm {
	return nftTerm{"ct state " + name, append([]nftExpr{conntrack(unix.NFT_CT_STATE)}, anyBit(bit)...)}
}

func ofProtocol(number byte, name string) nftTerm {
	return nftTerm{"meta l4proto " + name, []nftExpr{meta(unix.NFT_META_L4PROTO, 0), compare(unix.NFT_CMP_EQ, []byte{number})}}
}

func icmpType(v6 bool, number byte, name string) nftTerm {
	proto, text := byte(unix.IPPROTO_ICMP), "icmp"
	if v6 {
		proto, text = unix.IPPROTO_ICMPV6, "icmpv6"
	}
	return nftTerm{text + " type " + name, append(ofProtocol(proto, "").exprs, payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, 0), compare(unix.NFT_CMP_EQ, []byte{number}))}
}

// masked is of register 0.
func masked(mask []byte) nftExpr {
	return expr("bitwise", func(w *wire) {
		w.u32(unix.NFTA_BITWISE_SREG, register(0))
		w.u32(unix.NFTA_BITWISE_DREG, register(0))
		w.u32(unix.NFTA_BITWISE_LEN, uint32(len(mask)))
		w.value(unix.NFTA_BITWISE_MASK, mask)
		w.value(unix.NFTA_BITWISE_XOR, make([]byte, len(mask)))
	})
}

func routingHeader() nftExpr {
	return expr("exthdr", func(w *wire) {
		w.u32(unix.NFTA_EXTHDR_DREG, register(0))
		w.bytes(unix.NFTA_EXTHDR_TYPE, []byte{unix.IPPROTO_ROUTING})
		w.u32(unix.NFTA_EXTHDR_OFFSET, 0)
		w.u32(unix.NFTA_EXTHDR_LEN, 1)
		w.u32(unix.NFTA_EXTHDR_FLAGS, unix.NFT_EXTHDR_F_PRESENT)
	})
}

// havingPorts are packets of protocols that have ports, or not.
func havingPorts(not bool) nftTerm {
	t := nftTerm{"meta l4proto @" + portsSet, []nftExpr{meta(unix.NFT_META_L4PROTO, 0)}}
	invert := uint32(0)
	if not {
		t.text, invert = "meta l4proto != @"+portsSet, unix.NFT_LOOKUP_F_INV
	}
	t.exprs = append(t.exprs, expr("lookup", func(w *wire) {
		w.str(unix.NFTA_LOOKUP_SET, portsSet)
		w.u32(unix.NFTA_LOOKUP_SREG, register(0))
		w.u32(unix.NFTA_LOOKUP_FLAGS, invert)
	}))
	return t
}

// noteRefused counts a packet by its protocol, address and port, which is 0 where there is none. What is remembered of it is so for as long again. Where
// the set is full, new ones are not told apart.
func noteRefused(v6, ports bool) nftTerm {
	family, ip, offset, size, _ := ofVersion(v6)
	text, exprs := portOf(family)
	if !ports {
		text = "meta l4proto . " + ip + " daddr . 0"
		exprs = append(isFamily(family, "").exprs, meta(unix.NFT_META_L4PROTO, 0), payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, size, 1),
			immediate(1+size/4, nftPort(0)))
	}
	return nftTerm{"update @" + refusedSet(v6) + " { " + text + " counter }", append(exprs, expr("dynset", func(w *wire) {
		w.str(unix.NFTA_DYNSET_SET_NAME, refusedSet(v6))
		w.u32(unix.NFTA_DYNSET_OP, unix.NFT_DYNSET_OP_UPDATE)
		w.u32(unix.NFTA_DYNSET_SREG_KEY, register(0))
		w.nest(unix.NFTA_DYNSET_EXPR, func() {
			w.str(unix.NFTA_EXPR_NAME, "counter")
			w.nest(unix.NFTA_EXPR_DATA, func() {})
		})
	}))}
}

func reject(text string, kind uint32, code byte) nftTerm {
	return nftTerm{text, []nftExpr{expr("reject", func(w *wire) {
		w.u32(unix.NFTA_REJECT_TYPE, kind)
		w.bytes(unix.NFTA_REJECT_ICMP_CODE, []byte{code})
	})}}
}

func gotoChain(name string) nftTerm {
	return nftTerm{"goto " + name, []nftExpr{expr("immediate", func(w *wire) {
		w.u32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		w.nest(unix.NFTA_IMMEDIATE_DATA, func() {
			w.nest(unix.NFTA_DATA_VERDICT, func() {
				code := int32(unix.NFT_GOTO)
				w.u32(unix.NFTA_VERDICT_CODE, uint32(code))
				w.str(unix.NFTA_VERDICT_CHAIN, name)
			})
		})
	})}}
}

// egressMessages make the whole table.
func egressMessages(e plan.Egress) []nftMessage {
	list := append([]nftMessage{newTable(egressTable)}, egressSets(e)...)
	chains := egressChains(e)
	for _, c := range chains {
		if c.kind == "" {
			list = append(list, newPlainChain(egressTable, c.name))
			continue
		}
		list = append(list, newChain(egressTable, c, nfDrop))
	}
	for _, c := range chains {
		for _, r := range c.rules {
			list = append(list, newRule(unix.NFPROTO_INET, egressTable, c.name, r))
		}
	}
	return list
}

// newPlainChain makes a chain that is at no hook.
func newPlainChain(table, name string) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_NEWCHAIN, flags: unix.NLM_F_CREATE, family: unix.NFPROTO_INET, text: func() string { return "add chain inet " + table + " " + name }}
	m.body.str(unix.NFTA_CHAIN_TABLE, table)
	m.body.str(unix.NFTA_CHAIN_NAME, name)
	return m
}

// An OpenAddr is an address that a name has led to.
type OpenAddr struct {
	Addr netip.Addr
	Name string
	Left time.Duration // until it is closed
}

// Open lets addresses of a name be reached by an entry, for at least as long as least. Where there is no room, those that would be closed first are.
func (t *Egress) Open(entry int, name string, addrs []netip.Addr, least time.Duration) error {
	for _, v6 := range []bool{false, true} {
		var wanted []setElement
		for _, a := range addrs {
			if a.Is6() == v6 {
				wanted = append(wanted, setElement{a.AsSlice(), least + egressSlack, name})
			}
		}
		if len(wanted) > 0 {
			if err := t.open(openSet(entry, v6), wanted, least); err != nil {
				return fmt.Errorf("addresses of %s: %w", name, err)
			}
		}
	}
	return nil
}

func (t *Egress) open(set string, wanted []setElement, least time.Duration) (err error) {
	for range 10 { // one may be closed while it is looked at
		requests := make([]nftMessage, len(wanted))
		for i := range wanted {
			requests[i] = egressElements(unix.NFT_MSG_GETSETELEM, set, wanted[i:i+1])
		}
		answers, err := t.s.ask(unix.NFNL_SUBSYS_NFTABLES, requests...)
		if err != nil {
			return err
		}
		// A kernel before 6.12 does not let an element live longer: it is another one.
		var gone, more []setElement
		for i, a := range answers {
			if a.err != nil && !errors.Is(a.err, unix.ENOENT) {
				return a.err
			}
			for _, body := range a.bodies {
				for _, have := range t.elements(body) {
					if have.timeout >= least {
						wanted[i].key = nil
					} else {
						gone = append(gone, wanted[i])
					}
				}
			}
			if wanted[i].key != nil {
				more = append(more, wanted[i])
			}
		}
		if len(more) == 0 {
			return nil
		}
		wanted = more
		var messages []nftMessage
		if len(gone) > 0 {
			t.deleted = true
			messages = append(messages, egressElements(unix.NFT_MSG_DELSETELEM, set, gone))
		}
		err = t.s.commit(0, append(messages, egressElements(unix.NFT_MSG_NEWSETELEM, set, more)))
		switch {
		case errors.Is(err, unix.ENFILE):
			if err := t.makeRoom(set, len(more)); err != nil {
				return err
			}
		case !errors.Is(err, unix.ENOENT):
			return err
		}
	}
	return unix.EAGAIN
}

// makeRoom closes those that would be the next ones.
func (t *Egress) makeRoom(set string, n int) error {
	list, err := t.dump(set)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b setElement) int { return int(a.timeout - b.timeout) })
	t.deleted = true
	err = t.s.commit(0, []nftMessage{egressElements(unix.NFT_MSG_DELSETELEM, set, list[:min(len(list), n+egressOpen/16)])})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// dump reads a set; the timeouts are what is left of them.
func (t *Egress) dump(set string) (list []setElement, err error) {
	m := nftMessage{kind: unix.NFT_MSG_GETSETELEM, family: unix.NFPROTO_INET}
	m.body.str(unix.NFTA_SET_ELEM_LIST_TABLE, egressTable)
	m.body.str(unix.NFTA_SET_ELEM_LIST_SET, set)
	bodies, err := t.s.dump(unix.NFNL_SUBSYS_NFTABLES, m)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	for _, b := range bodies {
		list = append(list, t.elements(b)...)
	}
	return list, err
}

func (t *Egress) elements(body []byte) (list []setElement) {
	each(body, func(b []byte) {
		e := setElement{key: attribute(b, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE), timeout: duration(attribute(b, unix.NFTA_SET_ELEM_EXPIRATION))}
		e.comment, _ = readComment(attribute(b, unix.NFTA_SET_ELEM_USERDATA))
		list = append(list, e)
	})
	return list
}

// each calls f with every element of a message.
func each(body []byte, f func(b []byte)) {
	netlink.Attributes(attribute(body, unix.NFTA_SET_ELEM_LIST_ELEMENTS), func(_ uint16, b []byte) { f(b) })
}

// duration reads milliseconds.
func duration(b []byte) time.Duration {
	if len(b) != 8 {
		return 0
	}
	return time.Duration(min(binary.BigEndian.Uint64(b), 1<<40)) * time.Millisecond
}

// A RefusedPacket is what was refused, as often as Count says.
type RefusedPacket struct {
	Proto string
	Addr  netip.Addr
	Port  uint16 // 0 of protocols without ports
	Count uint64
	Age   time.Duration // since the last one
}

// Refused reads what was refused, of which at most so many are told apart, and how many packets that were, all in all.
func (t *Egress) Refused() (list []RefusedPacket, all uint64, err error) {
	for _, v6 := range []bool{false, true} {
		_, _, _, size, _ := ofVersion(v6)
		m := nftMessage{kind: unix.NFT_MSG_GETSETELEM, family: unix.NFPROTO_INET}
		m.body.str(unix.NFTA_SET_ELEM_LIST_TABLE, egressTable)
		m.body.str(unix.NFTA_SET_ELEM_LIST_SET, refusedSet(v6))
		bodies, err := t.s.dump(unix.NFNL_SUBSYS_NFTABLES, m)
		if err != nil {
			return nil, 0, fmt.Errorf("table inet %s: %w", egressTable, err)
		}
		for _, body := range bodies {
			each(body, func(b []byte) {
				key := attribute(b, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE)
				if len(key) != int(4+size+4) {
					return
				}
				r := RefusedPacket{Proto: protoName(key[0]), Port: binary.BigEndian.Uint16(key[4+size:])}
				r.Addr, _ = netip.AddrFromSlice(key[4 : 4+size])
				r.Count = packets(attribute(b, unix.NFTA_SET_ELEM_EXPR))
				r.Age = max(0, egressMemory-duration(attribute(b, unix.NFTA_SET_ELEM_EXPIRATION)))
				list = append(list, r)
			})
		}
	}
	rules, err := t.s.dump(unix.NFNL_SUBSYS_NFTABLES, rulesOfTable(unix.NFPROTO_INET, egressTable, "refused"))
	for _, r := range rules {
		netlink.Attributes(attribute(r, unix.NFTA_RULE_EXPRESSIONS), func(_ uint16, e []byte) { all += packets(e) })
	}
	return list, all, err
}

// packets is what a counter says; of another expression, nothing.
func packets(e []byte) uint64 {
	b := attribute(e, unix.NFTA_EXPR_DATA, unix.NFTA_COUNTER_PACKETS)
	if unix.ByteSliceToString(attribute(e, unix.NFTA_EXPR_NAME)) != "counter" || len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// Opened lists the addresses that the names of e have led to.
func (t *Egress) Opened(e plan.Egress) (list []OpenAddr, err error) {
	for i, r := range e.Allow {
		for _, v6 := range []bool{false, true} {
			if r.Name == "" || !mayBe(&r, v6) {
				continue
			}
			have, err := t.dump(openSet(i, v6))
			if err != nil {
				return nil, err
			}
			for _, h := range have {
				if a, ok := netip.AddrFromSlice(h.key); ok {
					list = append(list, OpenAddr{a, h.comment, h.timeout})
				}
			}
		}
	}
	return list, nil
}

// Check says what the namespace has in the place of the rules for e; nothing when it has these.
func (t *Egress) Check(e plan.Egress) (fault string, err error) {
	chains := egressChains(e)
	for _, c := range chains {
		answers, err := t.s.ask(unix.NFNL_SUBSYS_NFTABLES, chainRequest(unix.NFPROTO_INET, egressTable, c.name))
		if err != nil {
			return "", err
		}
		if errors.Is(answers[0].err, unix.ENOENT) {
			return "no table inet " + egressTable, nil
		}
		if answers[0].err != nil || len(answers[0].bodies) != 1 {
			return "", answers[0].err
		}
		b := answers[0].bodies[0]
		if c.kind == "" {
			continue
		}
		hook, policy := attribute(b, unix.NFTA_CHAIN_HOOK, unix.NFTA_HOOK_HOOKNUM), attribute(b, unix.NFTA_CHAIN_POLICY)
		if len(hook) != 4 || bigEndian32(hook) != c.hook || len(policy) != 4 || bigEndian32(policy) != nfDrop {
			return "chain " + c.name + " does not drop", nil
		}
	}
	rules, err := t.s.dump(unix.NFNL_SUBSYS_NFTABLES, rulesOfTable(unix.NFPROTO_INET, egressTable, ""))
	if err != nil {
		return "", err
	}
	if !sameRules(rules, chains) {
		return "other rules", nil
	}
	return "", nil
}
