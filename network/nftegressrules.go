package network

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// openSet has the addresses that the name of an entry has.
func openSet(entry int, f ipFamily) string { return "open" + f.digit + "." + strconv.Itoa(entry) }

// The sets besides: protocols that have ports, and refusals.
const portsSet = "ports"

func refusedSet(f ipFamily) string { return "refused" + f.digit }

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
	for _, f := range ipFamilies() {
		set(refusedSet(f), []datatype{nftProto, f.addr, nftService}, unix.NFT_SET_TIMEOUT|unix.NFT_SET_EVAL, egressMemory, egressRefused)
		for i, r := range e.Allow {
			if r.Name != "" && mayBe(&r, f) {
				set(openSet(i, f), []datatype{f.addr}, unix.NFT_SET_TIMEOUT, 0, egressOpen)
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
func mayBe(r *plan.Reach, f ipFamily) bool { return !r.To.IsValid() || f.has(r.To.Addr()) }

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
	four, six := ipv4(), ipv6()
	accept, drop, refuse := verdict("accept", nfAccept), verdict("drop", nfDrop), gotoChain("refused")
	output := []nftRule{
		// Who says something to himself in the name of somebody would be let answer. With IPv4 that takes a capability which nobody has here.
		rule("senders that are others", six.packets(), inState("new", ctStateNew), notFromThisMachine(), refuse),
		// To a question of the server for names it would be an answer, which says where a name leads to. The kernel's own resets are of another state.
		rule("", six.packets(), inState("established", ctStateEstablished), byLoopback(), notFromThisMachine(), refuse),
		rule("the server for names asks others, and not the container", marked(), byLoopback(), refuse),
		rule("", byLoopback(), accept),
		rule("", marked(), accept),
		// They say in the packet where it goes on to.
		rule("source routes", four.that("ip hdrlength > 5", four.at(0, 1, 0), masked([]byte{0x0f}), compare(unix.NFT_CMP_GT, []byte{5})), refuse),
		rule("", six.that("exthdr rt exists", routingHeader(), compare(unix.NFT_CMP_EQ, []byte{1})), refuse),
		rule("answers to others", inState("established", ctStateEstablished), accept),
		rule("errors of connections", inState("related", ctStateRelated), ofProtocol(unix.IPPROTO_ICMP, "icmp"), accept),
		rule("", inState("related", ctStateRelated), ofProtocol(unix.IPPROTO_ICMPV6, "ipv6-icmp"), accept),
		rule("neighbours' addresses", six.icmpType(135, "nd-neighbor-solicit"), accept),
		rule("", six.icmpType(136, "nd-neighbor-advert"), accept),
		rule("", six.icmpType(133, "nd-router-solicit"), accept),
		rule("groups: nobody asked for it", ofProtocol(unix.IPPROTO_IGMP, "igmp"), drop),
		rule("", six.icmpType(143, "mld2-listener-report"), drop),
	}
	for i := range e.Allow {
		output = append(output, reachRules(i, &e.Allow[i])...)
	}
	output = append(output, rule("", refuse))
	return []nftChain{
		{"output", "filter", unix.NF_INET_LOCAL_OUT, "output", priorityFilter, output},
		{"forward", "filter", unix.NF_INET_FORWARD, "forward", priorityFilter, nil},
		{name: "refused", rules: []nftRule{
			rule("", havingPorts(), noteRefused(four, four.port())),
			rule("", havingPorts(), noteRefused(six, six.port())),
			rule("", portless(), noteRefused(four, noPort(four))),
			rule("", portless(), noteRefused(six, noPort(six))),
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
	for _, f := range ipFamilies() {
		if !mayBe(r, f) {
			continue
		}
		for _, proto := range r.Protocols() {
			list = append(list, rule(comment, destinedTo(i, r, f), toPorts(r, proto, f), verdict("accept", nfAccept)))
		}
	}
	return list
}

// destinedTo are the addresses of an entry. Any address is none that is of the link alone, as 169.254.169.254, and no group.
func destinedTo(i int, r *plan.Reach, f ipFamily) nftTerm {
	field := f.name + " daddr "
	address := f.at(f.dest, f.addr.size, 0)
	within := func(op uint32, p netip.Prefix) []nftExpr {
		if p.IsSingleIP() {
			return []nftExpr{address, compare(op, p.Addr().AsSlice())}
		}
		return []nftExpr{address, masked(netmask(p)), compare(op, p.Addr().AsSlice())}
	}
	switch {
	case r.Name != "":
		set := openSet(i, f)
		return f.that(field+"@"+set, address, find(set))
	case r.To.IsValid() && r.To.Bits() == 0:
		return f.packets()
	case r.To.IsSingleIP():
		return f.that(field+r.To.Addr().String(), within(unix.NFT_CMP_EQ, r.To)...)
	case r.To.IsValid():
		return f.that(field+r.To.String(), within(unix.NFT_CMP_EQ, r.To)...)
	}
	var texts []string
	var exprs []nftExpr
	for _, p := range f.linkAlone {
		texts, exprs = append(texts, field+"!= "+p.String()), append(exprs, within(unix.NFT_CMP_NEQ, p)...)
	}
	return f.that(strings.Join(texts, " "), exprs...)
}

func netmask(p netip.Prefix) []byte {
	mask := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		mask[i/8] |= 1 << (7 - i%8)
	}
	return mask
}

// toPorts are protocol and ports of an entry; of icmp it is the question of ping.
func toPorts(r *plan.Reach, proto string, f ipFamily) nftTerm {
	if proto == "icmp" {
		return f.icmpType(f.echo, "echo-request")
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

// havingPorts are packets of protocols that have ports.
func havingPorts() nftTerm {
	return nftTerm{"meta l4proto @" + portsSet, []nftExpr{meta(unix.NFT_META_L4PROTO, 0), find(portsSet)}}
}

func portless() nftTerm {
	return nftTerm{"meta l4proto != @" + portsSet, []nftExpr{meta(unix.NFT_META_L4PROTO, 0), findNot(portsSet)}}
}

// noPort is what [ipFamily.port] is, of protocols that have none.
func noPort(f ipFamily) nftTerm {
	return f.that("meta l4proto . "+f.name+" daddr . 0", meta(unix.NFT_META_L4PROTO, 0), f.at(f.dest, f.addr.size, 1), immediate(1+f.registers(), nftPort(0)))
}

// noteRefused counts a packet by its key: protocol, address and port. What is remembered of it is so for as long again. Where
// the set is full, new ones are not told apart.
func noteRefused(f ipFamily, key nftTerm) nftTerm {
	return nftTerm{"update @" + refusedSet(f) + " { " + key.text + " counter }", append(key.exprs, expr("dynset", func(w *wire) {
		w.str(unix.NFTA_DYNSET_SET_NAME, refusedSet(f))
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
