package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kakuri/kakuri/netip"
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

// An OpenAddr is an address that a name has led to.
type OpenAddr struct {
	Addr netip.Addr
	Name string
	Left time.Duration // until it is closed
}

// Open lets addresses of a name be reached by an entry, for at least as long as least. Where there is no room, those that would be closed first are.
func (t *Egress) Open(entry int, name string, addrs []netip.Addr, least time.Duration) error {
	for _, f := range ipFamilies() {
		var wanted []setElement
		for _, a := range addrs {
			if f.has(a) {
				wanted = append(wanted, setElement{a.AsSlice(), least + egressSlack, name})
			}
		}
		if len(wanted) > 0 {
			if err := t.open(openSet(entry, f), wanted, least); err != nil {
				return fmt.Errorf("addresses of %s: %w", name, err)
			}
		}
	}
	return nil
}

// open has the wanted be in a set for at least as long as least.
func (t *Egress) open(set string, wanted []setElement, least time.Duration) (err error) {
	for range 10 { // one may be closed while it is looked at
		var short []setElement
		if wanted, short, err = t.lacking(set, wanted, least); err != nil || len(wanted) == 0 {
			return err
		}
		switch err = t.put(set, wanted, short); {
		case errors.Is(err, unix.ENFILE):
			if err := t.makeRoom(set, len(wanted)); err != nil {
				return err
			}
		case !errors.Is(err, unix.ENOENT):
			return err
		}
	}
	return unix.EAGAIN
}

// lacking gives those of the wanted that a set has not for as long as least, and of these again those that it has for a shorter time.
func (t *Egress) lacking(set string, wanted []setElement, least time.Duration) (lacking, short []setElement, err error) {
	requests := make([]nftMessage, len(wanted))
	for i := range wanted {
		requests[i] = egressElements(unix.NFT_MSG_GETSETELEM, set, wanted[i:i+1])
	}
	answers, err := t.s.ask(unix.NFNL_SUBSYS_NFTABLES, requests...)
	if err != nil {
		return nil, nil, err
	}
	for i, a := range answers {
		if a.err != nil && !errors.Is(a.err, unix.ENOENT) {
			return nil, nil, a.err
		}
		var have []setElement
		for _, body := range a.bodies {
			have = append(have, t.elements(body)...)
		}
		if slices.ContainsFunc(have, func(e setElement) bool { return e.timeout >= least }) {
			continue
		}
		lacking = append(lacking, wanted[i])
		if len(have) > 0 {
			short = append(short, wanted[i])
		}
	}
	return lacking, short, nil
}

// put adds elements to a set in the place of those that are there for too short a time: a kernel before 6.12 does not let an element live longer.
func (t *Egress) put(set string, elements, short []setElement) error {
	var messages []nftMessage
	if len(short) > 0 {
		t.deleted = true
		messages = append(messages, egressElements(unix.NFT_MSG_DELSETELEM, set, short))
	}
	return t.s.commit(0, append(messages, egressElements(unix.NFT_MSG_NEWSETELEM, set, elements)))
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
	for _, f := range ipFamilies() {
		size := f.addr.size
		m := nftMessage{kind: unix.NFT_MSG_GETSETELEM, family: unix.NFPROTO_INET}
		m.body.str(unix.NFTA_SET_ELEM_LIST_TABLE, egressTable)
		m.body.str(unix.NFTA_SET_ELEM_LIST_SET, refusedSet(f))
		bodies, err := t.s.dump(unix.NFNL_SUBSYS_NFTABLES, m)
		if err != nil {
			return nil, 0, fmt.Errorf("table inet %s: %w", egressTable, err)
		}
		for _, body := range bodies {
			each(body, func(b []byte) {
				key := attribute(b, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE)
				if len(key) != 4+size+4 {
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
		for _, f := range ipFamilies() {
			if r.Name == "" || !mayBe(&r, f) {
				continue
			}
			have, err := t.dump(openSet(i, f))
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
