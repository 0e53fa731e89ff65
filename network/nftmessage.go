package network

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"
)

func newTable(name string) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_NEWTABLE, flags: unix.NLM_F_CREATE, family: unix.NFPROTO_INET, text: func() string { return "add table inet " + name }}
	m.body.str(unix.NFTA_TABLE_NAME, name)
	return m
}

func deleteTable(name string) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_DELTABLE, family: unix.NFPROTO_INET, text: func() string { return "delete table inet " + name }}
	m.body.str(unix.NFTA_TABLE_NAME, name)
	return m
}

func familyName(family byte) string {
	switch family {
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	}
	return "inet"
}

func newSet(n int, s nftSet) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_NEWSET, flags: unix.NLM_F_CREATE, family: unix.NFPROTO_INET}
	m.text = func() string {
		if len(s.data) > 0 {
			return "add map inet " + NftTable + " " + s.name + " { type " + nftTypeName(s.key) + " : " + nftTypeName(s.data) + "; }"
		}
		return "add set inet " + NftTable + " " + s.name + " { type " + nftTypeName(s.key) + "; }"
	}
	w := &m.body
	w.str(unix.NFTA_SET_TABLE, NftTable)
	w.str(unix.NFTA_SET_NAME, s.name)
	flags := uint32(0)
	if len(s.data) > 0 {
		flags = unix.NFT_SET_MAP
	}
	w.u32(unix.NFTA_SET_FLAGS, flags)
	w.u32(unix.NFTA_SET_KEY_TYPE, nftTypeID(s.key))
	w.u32(unix.NFTA_SET_KEY_LEN, uint32(nftSize(s.key)))
	if len(s.data) > 0 {
		w.u32(unix.NFTA_SET_DATA_TYPE, nftTypeID(s.data))
		w.u32(unix.NFTA_SET_DATA_LEN, uint32(nftSize(s.data)))
	}
	w.u32(unix.NFTA_SET_ID, uint32(n+1))
	if len(s.key) == 1 && s.key[0].name == nftDevice.name {
		w.bytes(unix.NFTA_SET_USERDATA, append([]byte{udataKeyByteOrder, 4}, binary.NativeEndian.AppendUint32(nil, byteOrderHost)...))
	}
	return m
}

func newChain(table string, c nftChain, policy uint32) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_NEWCHAIN, flags: unix.NLM_F_CREATE, family: unix.NFPROTO_INET}
	m.text = func() string {
		return "add chain inet " + table + " " + c.name + " { type " + c.kind + " hook " + c.hookName + " priority " + strconv.Itoa(int(c.priority)) + "; policy " + map[uint32]string{nfDrop: "drop", nfAccept: "accept"}[policy] + "; }"
	}
	w := &m.body
	w.str(unix.NFTA_CHAIN_TABLE, table)
	w.str(unix.NFTA_CHAIN_NAME, c.name)
	w.nest(unix.NFTA_CHAIN_HOOK, func() {
		w.u32(unix.NFTA_HOOK_HOOKNUM, c.hook)
		w.u32(unix.NFTA_HOOK_PRIORITY, uint32(c.priority))
	})
	w.u32(unix.NFTA_CHAIN_POLICY, policy)
	w.str(unix.NFTA_CHAIN_TYPE, c.kind)
	return m
}

func newRule(family byte, table, chain string, r nftRule) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_NEWRULE, flags: unix.NLM_F_CREATE | unix.NLM_F_APPEND, family: family}
	m.text = func() string { return "add rule " + familyName(family) + " " + table + " " + chain + " " + r.String() }
	w := &m.body
	w.str(unix.NFTA_RULE_TABLE, table)
	w.str(unix.NFTA_RULE_CHAIN, chain)
	w.nest(unix.NFTA_RULE_EXPRESSIONS, func() {
		for _, t := range r.terms {
			for _, e := range t.exprs {
				w.nest(unix.NFTA_LIST_ELEM, func() {
					w.str(unix.NFTA_EXPR_NAME, e.name)
					w.nest(unix.NFTA_EXPR_DATA, func() { *w = append(*w, e.data...) })
				})
			}
		}
	})
	var user []byte
	if r.comment != "" {
		user = append(user, udataComment, byte(len(r.comment)+1))
		user = append(append(user, r.comment...), 0)
	}
	w.bytes(unix.NFTA_RULE_USERDATA, append(append(user, udHash, 4), r.hash(chain)...))
	return m
}

// elementMessages adds or deletes elements of the host's table, by as few messages as hold them.
func elementMessages(kind uint16, elements []nftElement) []nftMessage {
	var list []nftMessage
	for len(elements) > 0 {
		n := 0
		m := nftMessage{kind: kind, family: unix.NFPROTO_INET}
		if kind == unix.NFT_MSG_NEWSETELEM {
			m.flags = unix.NLM_F_CREATE
		}
		w := &m.body
		set := elements[0].set
		w.str(unix.NFTA_SET_ELEM_LIST_TABLE, NftTable)
		w.str(unix.NFTA_SET_ELEM_LIST_SET, set)
		w.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
			for ; n < len(elements) && elements[n].set == set && len(*w) < 48<<10; n++ { // an attribute has 64 KiB
				e := &elements[n]
				w.nest(unix.NFTA_LIST_ELEM, func() {
					w.nest(unix.NFTA_SET_ELEM_KEY, func() { w.bytes(unix.NFTA_DATA_VALUE, []byte(e.key)) })
					if kind != unix.NFT_MSG_NEWSETELEM {
						return
					}
					if e.data != "" {
						w.nest(unix.NFTA_SET_ELEM_DATA, func() { w.bytes(unix.NFTA_DATA_VALUE, []byte(e.data)) })
					}
					if e.owner != "" {
						w.bytes(unix.NFTA_SET_ELEM_USERDATA, nftComment(e.owner))
					}
				})
			}
		})
		these := elements[:n]
		m.text = func() string {
			verb := "add element inet "
			if kind == unix.NFT_MSG_DELSETELEM {
				verb = "delete element inet "
			}
			text := verb + NftTable + " " + these[0].String()
			if len(these) > 1 {
				text += " and " + strconv.Itoa(len(these)-1) + " more"
			}
			return text
		}
		list = append(list, m)
		elements = elements[n:]
	}
	return list
}

// nftComment is user data with a comment: a kind, a length, and the text.
func nftComment(text string) []byte {
	text = text[:min(len(text), 250)]
	return append(append([]byte{udataComment, byte(len(text) + 1)}, text...), 0)
}

// readComment finds it.
func readComment(b []byte) (text string, hash []byte) {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		v := b[2 : 2+int(b[1])]
		switch b[0] {
		case udataComment:
			text = unix.ByteSliceToString(v)
		case udHash:
			hash = v
		}
		b = b[2+len(v):]
	}
	return text, hash
}

// tableMessages make the host's whole table, in the place of one that may be there.
func tableMessages(elements []nftElement) []nftMessage {
	list := []nftMessage{newTable(NftTable), deleteTable(NftTable), newTable(NftTable)}
	list[2].body.bytes(nftaTableUserdata, nftComment(nftLayout))
	for i, s := range nftSets {
		list = append(list, newSet(i, s))
	}
	for _, c := range nftChains() {
		list = append(list, newChain(NftTable, c, nfAccept))
		for _, r := range c.rules {
			list = append(list, newRule(unix.NFPROTO_INET, NftTable, c.name, r))
		}
	}
	return append(list, elementMessages(unix.NFT_MSG_NEWSETELEM, sortedBySet(elements))...)
}

// sortedBySet has elements of one set side by side.
func sortedBySet(elements []nftElement) []nftElement {
	sorted := make([]nftElement, 0, len(elements))
	for _, s := range nftSets {
		for _, e := range elements {
			if e.set == s.name {
				sorted = append(sorted, e)
			}
		}
	}
	return sorted
}
