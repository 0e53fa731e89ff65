package network

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/network/netlink"
	"golang.org/x/sys/unix"
)

func rulesOfTable(family byte, table, chain string) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_GETRULE, family: family}
	m.body.str(unix.NFTA_RULE_TABLE, table)
	if chain != "" {
		m.body.str(unix.NFTA_RULE_CHAIN, chain)
	}
	return m
}

func elementRequest(e nftElement) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_GETSETELEM, family: unix.NFPROTO_INET}
	w := &m.body
	w.str(unix.NFTA_SET_ELEM_LIST_TABLE, NftTable)
	w.str(unix.NFTA_SET_ELEM_LIST_SET, e.set)
	w.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
		w.nest(unix.NFTA_LIST_ELEM, func() {
			w.nest(unix.NFTA_SET_ELEM_KEY, func() { w.bytes(unix.NFTA_DATA_VALUE, []byte(e.key)) })
		})
	})
	return m
}

func tableIsThere(s *nfSocket) (bool, error) {
	answers, err := s.ask(unix.NFNL_SUBSYS_NFTABLES, tableRequest(NftTable))
	if err != nil {
		return false, err
	}
	if answers[0].err != nil && !errors.Is(answers[0].err, unix.ENOENT) {
		return false, fmt.Errorf("nftables: table inet %s: %w", NftTable, answers[0].err)
	}
	return answers[0].err == nil, nil
}

// readElements reads all sets of the table; none when it is not there.
func readElements(s *nfSocket) (list []nftElement, err error) {
	for _, set := range nftSets {
		m := nftMessage{kind: unix.NFT_MSG_GETSETELEM, family: unix.NFPROTO_INET}
		m.body.str(unix.NFTA_SET_ELEM_LIST_TABLE, NftTable)
		m.body.str(unix.NFTA_SET_ELEM_LIST_SET, set.name)
		bodies, err := s.dump(unix.NFNL_SUBSYS_NFTABLES, m)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("nftables: set %s: %w", set.name, err)
		}
		for _, b := range bodies {
			list = append(list, elementsOf(b)...)
		}
	}
	return list, nil
}

// elementsOf reads a message of elements.
func elementsOf(body []byte) (list []nftElement) {
	name := unix.ByteSliceToString(attribute(body, unix.NFTA_SET_ELEM_LIST_SET))
	set := nftSetNamed(name)
	if set == nil {
		return nil
	}
	netlink.Attributes(attribute(body, unix.NFTA_SET_ELEM_LIST_ELEMENTS), func(_ uint16, b []byte) {
		e := nftElement{set: name, key: string(attribute(b, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE))}
		if len(set.data) > 0 {
			e.data = string(attribute(b, unix.NFTA_SET_ELEM_DATA, unix.NFTA_DATA_VALUE))
		}
		e.owner, _ = readComment(attribute(b, unix.NFTA_SET_ELEM_USERDATA))
		if len(e.key) == nftSize(set.key) && len(e.data) == nftSize(set.data) {
			list = append(list, e)
		}
	})
	return list
}

// seemsRequests ask what seemsIntact wants to know.
func seemsRequests() []nftMessage {
	list := []nftMessage{tableRequest(NftTable)}
	for _, c := range nftCounts {
		list = append(list, chainRequest(unix.NFPROTO_INET, NftTable, c.chain))
	}
	return list
}

// seemsIntact tells that the table is this version's, and that its chains have as many rules as they should: what somebody flushed
// is found so, in a quarter of the time that reading all rules takes. [Rules.Check] reads them.
func seemsIntact(answers []nfAnswer) bool {
	for i, a := range answers {
		if a.err != nil || len(a.bodies) != 1 {
			return false
		}
		if i == 0 {
			if newer(a) {
				return true
			}
			if comment, _ := readComment(attribute(a.bodies[0], nftaTableUserdata)); comment != nftLayout {
				return false
			}
		} else if bigEndian32(attribute(a.bodies[0], unix.NFTA_CHAIN_USE)) != nftCounts[i-1].rules {
			return false
		}
	}
	return true
}

// newer tells that a newer version of this program made the table, which is not for an older one to judge: a monitor that runs since before an upgrade would take protection away.
func newer(table nfAnswer) bool {
	if table.err != nil || len(table.bodies) != 1 {
		return false
	}
	comment, _ := readComment(attribute(table.bodies[0], nftaTableUserdata))
	number, ours := strings.CutPrefix(comment, nftWords)
	theirs, err := strconv.Atoi(number)
	own, _ := strconv.Atoi(strings.TrimPrefix(nftLayout, nftWords))
	return ours && err == nil && theirs > own
}

func newerTable(s *nfSocket) (bool, error) {
	answers, err := s.ask(unix.NFNL_SUBSYS_NFTABLES, tableRequest(NftTable))
	return err == nil && newer(answers[0]), err
}

// rulesAreThere tells that the table has rules, and those that it should.
func rulesAreThere(s *nfSocket) (some, all bool, err error) {
	theirs, err := newerTable(s)
	if err != nil || theirs {
		return theirs, theirs, err
	}
	rules, err := s.dump(unix.NFNL_SUBSYS_NFTABLES, rulesOfTable(unix.NFPROTO_INET, NftTable, ""))
	return len(rules) > 0, intact(rules), err
}

// intact tells that rules are those of [nftChains], in their order.
func intact(rules [][]byte) bool { return sameRules(rules, nftChains()) }

func sameRules(rules [][]byte, chains []nftChain) bool {
	i := 0
	for _, c := range chains {
		for _, r := range c.rules {
			if i == len(rules) || unix.ByteSliceToString(attribute(rules[i], unix.NFTA_RULE_CHAIN)) != c.name {
				return false
			}
			if _, hash := readComment(attribute(rules[i], unix.NFTA_RULE_USERDATA)); string(hash) != string(r.hash(c.name)) {
				return false
			}
			i++
		}
	}
	return i == len(rules)
}
