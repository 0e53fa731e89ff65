package network

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A nftTerm is part of a rule: nft's words, and the expressions that they stand for.
type nftTerm struct {
	text  string
	exprs []nftExpr
}

type nftExpr struct {
	name string
	data wire
}

// A nftRule is one of a chain.
type nftRule struct {
	terms   []nftTerm
	comment string
}

func (r nftRule) String() string {
	parts := make([]string, 0, len(r.terms)+1)
	for _, t := range r.terms {
		parts = append(parts, t.text)
	}
	if r.comment != "" {
		parts = append(parts, "comment "+strconv.Quote(r.comment))
	}
	return strings.Join(parts, " ")
}

func register(n uint32) uint32 { return unix.NFT_REG32_00 + n }

func expr(name string, body func(w *wire)) nftExpr {
	e := nftExpr{name: name}
	body(&e.data)
	return e
}

func (w *wire) value(kind uint16, b []byte) {
	w.nest(kind, func() { w.bytes(unix.NFTA_DATA_VALUE, b) })
}

func meta(key, to uint32) nftExpr {
	return expr("meta", func(w *wire) { w.u32(unix.NFTA_META_KEY, key); w.u32(unix.NFTA_META_DREG, register(to)) })
}

func payload(base, offset, size, to uint32) nftExpr {
	return expr("payload", func(w *wire) {
		w.u32(unix.NFTA_PAYLOAD_DREG, register(to))
		w.u32(unix.NFTA_PAYLOAD_BASE, base)
		w.u32(unix.NFTA_PAYLOAD_OFFSET, offset)
		w.u32(unix.NFTA_PAYLOAD_LEN, size)
	})
}

// compare is of register 0.
func compare(op uint32, value []byte) nftExpr {
	return expr("cmp", func(w *wire) {
		w.u32(unix.NFTA_CMP_SREG, register(0))
		w.u32(unix.NFTA_CMP_OP, op)
		w.value(unix.NFTA_CMP_DATA, value)
	})
}

// find looks up what the registers from 0 have.
func find(set string) nftExpr { return lookup(set, func(*wire) {}) }

// findValue puts what a map has for it there, too.
func findValue(set string) nftExpr {
	return lookup(set, func(w *wire) { w.u32(unix.NFTA_LOOKUP_DREG, register(0)) })
}

// findNot is for what is not in the set.
func findNot(set string) nftExpr {
	return lookup(set, func(w *wire) { w.u32(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV) })
}

func lookup(set string, more func(w *wire)) nftExpr {
	return expr("lookup", func(w *wire) {
		w.str(unix.NFTA_LOOKUP_SET, set)
		w.u32(unix.NFTA_LOOKUP_SREG, register(0))
		more(w)
	})
}

// conntrack puts what the kernel knows of the connection into register 0.
func conntrack(key uint32) nftExpr {
	return expr("ct", func(w *wire) { w.u32(unix.NFTA_CT_KEY, key); w.u32(unix.NFTA_CT_DREG, register(0)) })
}

// anyBit is of register 0: one of the bits at least is set.
func anyBit(bits uint32) []nftExpr { return compareBits(unix.NFT_CMP_NEQ, bits) }

// compareBits is of register 0, some bits of which are compared with none.
func compareBits(op, bits uint32) []nftExpr {
	mask, zero := binary.NativeEndian.AppendUint32(nil, bits), make([]byte, 4)
	return []nftExpr{
		expr("bitwise", func(w *wire) {
			w.u32(unix.NFTA_BITWISE_SREG, register(0))
			w.u32(unix.NFTA_BITWISE_DREG, register(0))
			w.u32(unix.NFTA_BITWISE_LEN, 4)
			w.value(unix.NFTA_BITWISE_MASK, mask)
			w.value(unix.NFTA_BITWISE_XOR, zero)
		}),
		compare(op, zero),
	}
}

func verdict(text string, code int32) nftTerm {
	return nftTerm{text, []nftExpr{expr("immediate", func(w *wire) {
		w.u32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		w.nest(unix.NFTA_IMMEDIATE_DATA, func() {
			w.nest(unix.NFTA_DATA_VERDICT, func() { w.u32(unix.NFTA_VERDICT_CODE, uint32(code)) })
		})
	})}}
}

// Numbers of linux/netfilter.h and linux/netfilter/nf_tables.h that the unix package has not.
const (
	nfDrop, nfAccept     = 0, 1
	fibResultOIF         = 1
	fibResultAddrtype    = 3
	rtnLocal             = 2
	rtnBroadcast         = 3
	nfNatRangeMapIPs     = 1
	nfNatRangeSpecified  = 2
	ctStateInvalid       = 1 << 0
	ctStateEstablished   = 1 << 1
	ctStateRelated       = 1 << 2
	ctStateNew           = 1 << 3
	ctStateUntracked     = 1 << 6
	ctStatusAssured      = 1 << 2
	ctStatusConfirmed    = 1 << 3
	ctStatusSNAT         = 1 << 4
	ctStatusDNAT         = 1 << 5
	priorityRaw          = -300
	priorityMangle       = -150
	priorityDstnat       = -100
	priorityFilter       = 0
	prioritySrcnat       = 100
	udataComment, udHash = 0, 0x80 // of rules; nft(8) passes over kinds that it does not know
	udataKeyByteOrder    = 0       // of sets: how nft(8) reads a key that is one value
	byteOrderHost        = 1
	nftaTableUserdata    = 6
)

func bothDevicesIn(set string) nftTerm {
	return nftTerm{"iifname . oifname @" + set, []nftExpr{meta(unix.NFT_META_IIFNAME, 0), meta(unix.NFT_META_OIFNAME, 4), find(set)}}
}

func fromDeviceIn(set string) nftTerm {
	return nftTerm{"iifname @" + set, []nftExpr{meta(unix.NFT_META_IIFNAME, 0), find(set)}}
}

func notFromDeviceIn(set string) nftTerm {
	return nftTerm{"iifname != @" + set, []nftExpr{meta(unix.NFT_META_IIFNAME, 0), findNot(set)}}
}

func toDeviceIn(set string) nftTerm {
	return nftTerm{"oifname @" + set, []nftExpr{meta(unix.NFT_META_OIFNAME, 0), find(set)}}
}

func toDeviceNotIn(set string) nftTerm {
	return nftTerm{"oifname != @" + set, []nftExpr{meta(unix.NFT_META_OIFNAME, 0), findNot(set)}}
}

func notByLoopback() nftTerm {
	return nftTerm{`iifname != "lo"`, []nftExpr{meta(unix.NFT_META_IIFNAME, 0), compare(unix.NFT_CMP_NEQ, nftDeviceKey("lo"))}}
}

// loopbackAt is an address of 127.0.0.0/8 at an offset of the IPv4 header.
func loopbackAt(offset uint32, text string) nftTerm {
	four := ipv4()
	return four.that(text+" 127.0.0.0/8", four.at(offset, 1, 0), compare(unix.NFT_CMP_EQ, []byte{127}))
}

// notLoopback is a packet of IPv4 with neither address of 127.0.0.0/8.
func notLoopback() nftTerm {
	four := ipv4()
	t := four.that("ip daddr != 127.0.0.0/8 ip saddr != 127.0.0.0/8")
	for _, offset := range []uint32{four.dest, four.source} {
		t.exprs = append(t.exprs, four.at(offset, 1, 0), compare(unix.NFT_CMP_NEQ, []byte{127}))
	}
	return t
}

func toThisMachine() nftTerm { return destined("local", unix.NFT_CMP_EQ, rtnLocal) }

func fromThisMachine() nftTerm {
	return kindOf("saddr", unix.NFTA_FIB_F_SADDR, "local", unix.NFT_CMP_EQ, rtnLocal)
}

func notFromThisMachine() nftTerm {
	return kindOf("saddr", unix.NFTA_FIB_F_SADDR, "!= local", unix.NFT_CMP_NEQ, rtnLocal)
}

// destined compares the kind of a packet's destination, as this machine's routes have it.
func destined(kind string, op, number uint32) nftTerm {
	return kindOf("daddr", unix.NFTA_FIB_F_DADDR, kind, op, number)
}

func kindOf(what string, flag uint32, kind string, op, number uint32) nftTerm {
	return nftTerm{"fib " + what + " type " + kind, []nftExpr{
		expr("fib", func(w *wire) {
			w.u32(unix.NFTA_FIB_DREG, register(0))
			w.u32(unix.NFTA_FIB_RESULT, fibResultAddrtype)
			w.u32(unix.NFTA_FIB_FLAGS, flag)
		}),
		compare(op, binary.NativeEndian.AppendUint32(nil, number)),
	}}
}

// noWay says that no route leads to the packet's sender, or destination, by the device that it has come in by.
func noWay(flag uint32, what string) nftTerm {
	return nftTerm{"fib " + what + " . iif oif missing", []nftExpr{
		expr("fib", func(w *wire) {
			w.u32(unix.NFTA_FIB_DREG, register(0))
			w.u32(unix.NFTA_FIB_RESULT, fibResultOIF)
			w.u32(unix.NFTA_FIB_FLAGS, flag|unix.NFTA_FIB_F_IIF|unix.NFTA_FIB_F_PRESENT)
		}),
		compare(unix.NFT_CMP_EQ, make([]byte, 4)),
	}}
}

// assured is a connection that both sides have gone on with: of TCP after its third packet, of UDP after some seconds, of ping never.
func assured() nftTerm {
	return nftTerm{"ct status assured", append([]nftExpr{conntrack(unix.NFT_CT_STATUS)}, anyBit(ctStatusAssured)...)}
}

// begun is a packet that goes the way of its connection's first one.
func begun() nftTerm {
	return nftTerm{"ct direction original", []nftExpr{conntrack(unix.NFT_CT_DIRECTION), compare(unix.NFT_CMP_EQ, []byte{0})}}
}

// answering is a packet that goes the other way than its connection's first one.
func answering() nftTerm {
	return nftTerm{"ct direction reply", []nftExpr{conntrack(unix.NFT_CT_DIRECTION), compare(unix.NFT_CMP_EQ, []byte{1})}}
}

// guarded are packets of protocols in which an answer has something of the question that nobody guesses. UDP has but the ports, as has UDP-Lite, which hardly anybody speaks.
func guarded() nftTerm {
	return nftTerm{"meta l4proto != udp", []nftExpr{meta(unix.NFT_META_L4PROTO, 0), compare(unix.NFT_CMP_NEQ, []byte{unix.IPPROTO_UDP})}}
}

// translated is a connection whose destination was changed by a rule, of whoever.
func translated() nftTerm {
	return nftTerm{"ct status dnat", append([]nftExpr{conntrack(unix.NFT_CT_STATUS)}, anyBit(ctStatusDNAT)...)}
}

// changed is a connection with an address that a rule has changed, of whoever.
func changed() nftTerm {
	return nftTerm{"ct status snat,dnat", append([]nftExpr{conntrack(unix.NFT_CT_STATUS)}, anyBit(ctStatusSNAT|ctStatusDNAT)...)}
}

// unchanged is one with the addresses that it began with. While its first packet is on the way the kernel has not confirmed it.
func unchanged() nftTerm {
	t := nftTerm{"ct status confirmed ct status ! snat,dnat", append([]nftExpr{conntrack(unix.NFT_CT_STATUS)}, anyBit(ctStatusConfirmed)...)}
	t.exprs = append(t.exprs, conntrack(unix.NFT_CT_STATUS))
	t.exprs = append(t.exprs, compareBits(unix.NFT_CMP_EQ, ctStatusSNAT|ctStatusDNAT)...)
	return t
}

// strangeMark is that of connections whose first packet came by a bridge which does not lead back to its sender.
const strangeMark = 0x6b6b4e54

func markStrange() nftTerm {
	return nftTerm{fmt.Sprintf("ct mark set %#x", strangeMark), []nftExpr{immediate(0, binary.NativeEndian.AppendUint32(nil, strangeMark)), expr("ct", func(w *wire) {
		w.u32(unix.NFTA_CT_KEY, unix.NFT_CT_MARK)
		w.u32(unix.NFTA_CT_SREG, register(0))
	})}}
}

func notStrange() nftTerm {
	return nftTerm{fmt.Sprintf("ct mark != %#x", strangeMark), []nftExpr{conntrack(unix.NFT_CT_MARK), compare(unix.NFT_CMP_NEQ, binary.NativeEndian.AppendUint32(nil, strangeMark))}}
}

func known() nftTerm {
	return nftTerm{"ct state established,related", append([]nftExpr{conntrack(unix.NFT_CT_STATE)}, anyBit(ctStateEstablished|ctStateRelated)...)}
}

func counted() nftTerm {
	return nftTerm{"counter", []nftExpr{{name: "counter"}}}
}

func masquerade() nftTerm { return nftTerm{"masquerade", []nftExpr{{name: "masq"}}} }

// rule joins terms with a comment.
func rule(comment string, terms ...nftTerm) nftRule { return nftRule{terms, comment} }
