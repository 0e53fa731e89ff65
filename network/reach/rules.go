package reach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/network/netlink"
	"golang.org/x/sys/unix"
)

// familyOf names a family of nftables, the empty string for one that there is not.
func familyOf(n byte) string {
	return [...]string{1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}[min(n, 10)]
}

var hooks = [...]string{"prerouting", "input", "forward", "output", "postrouting"}

// tables reads the rules of all tables of the caller's network namespace, those that
// iptables-nft has made among them, by nfnetlink alone: nft(8) need not be there.
func tables() (list []Table, err error) {
	r := ruleReader{at: map[string]int{}}
	err = onSocket(unix.NETLINK_NETFILTER, func(s *netlink.Socket) error {
		r.s = s
		for _, part := range []struct {
			get  uint16
			each func(table int, m []byte)
		}{
			{unix.NFT_MSG_GETTABLE, func(int, []byte) {}}, {unix.NFT_MSG_GETCHAIN, r.chain}, {unix.NFT_MSG_GETRULE, r.rule}, {unix.NFT_MSG_GETSET, r.set},
		} {
			bodies, err := r.dump(part.get, make([]byte, 4))
			if err != nil {
				return fmt.Errorf("nf_tables: %w", err)
			}
			for _, m := range bodies {
				name := ""
				netlink.Attributes(m[4:], func(kind uint16, v []byte) {
					if kind == 1 { // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE
						name = text(v)
					}
				})
				if familyOf(m[0]) != "" {
					part.each(r.table(m[0], name), m[4:])
				}
			}
		}
		return r.elements()
	})
	return r.list, err
}

// dump asks for a list of nf_tables, and gives answers with struct nfgenmsg before the attributes.
func (r *ruleReader) dump(get uint16, request netlink.Message) ([][]byte, error) {
	bodies, err := r.s.Dump(netlink.NewMessage(unix.NFNL_SUBSYS_NFTABLES<<8|get, 0, request))
	return slices.DeleteFunc(bodies, func(m []byte) bool { return len(m) < 4 }), err
}

type ruleReader struct {
	s        *netlink.Socket
	list     []Table
	families []byte
	at       map[string]int
}

func (r *ruleReader) table(fam byte, name string) int {
	key := familyOf(fam) + " " + name
	i, ok := r.at[key]
	if !ok {
		i = len(r.list)
		r.at[key] = i
		r.list = append(r.list, Table{Family: familyOf(fam), Name: name})
		r.families = append(r.families, fam)
	}
	return i
}

func text(v []byte) string { return strings.TrimRight(string(v), "\x00") }

func big(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

func (r *ruleReader) chain(t int, m []byte) {
	var c Chain
	netlink.Attributes(m, func(kind uint16, v []byte) {
		switch kind {
		case unix.NFTA_CHAIN_NAME:
			c.Name = text(v)
		case unix.NFTA_CHAIN_TYPE:
			c.Type = text(v)
		case unix.NFTA_CHAIN_POLICY:
			c.Drop = big(v) == 0
		case unix.NFTA_CHAIN_HOOK:
			netlink.Attributes(v, func(kind uint16, v []byte) {
				switch kind {
				case unix.NFTA_HOOK_HOOKNUM:
					if n := big(v); int(n) < len(hooks) {
						c.Hook = hooks[n]
					}
				case unix.NFTA_HOOK_PRIORITY:
					c.Priority = int(int32(big(v)))
				}
			})
		}
	})
	r.list[t].Chains = append(r.list[t].Chains, c)
}

func (r *ruleReader) rule(t int, m []byte) {
	var rule Rule
	chain := ""
	netlink.Attributes(m, func(kind uint16, v []byte) {
		switch kind {
		case unix.NFTA_RULE_CHAIN:
			chain = text(v)
		case unix.NFTA_RULE_HANDLE:
			rule.Handle = binary.BigEndian.Uint64(v)
		case unix.NFTA_RULE_EXPRESSIONS:
			netlink.Attributes(v, func(_ uint16, v []byte) { // NFTA_LIST_ELEM
				e, packets := expression(v)
				rule.Exprs = append(rule.Exprs, e)
				rule.Packets += packets
			})
		}
	})
	for i := range r.list[t].Chains {
		if c := &r.list[t].Chains[i]; c.Name == chain {
			c.Rules = append(c.Rules, rule)
		}
	}
}

// expression parses one of a rule, and what it has counted where it is a counter.
func expression(v []byte) (e Expr, packets uint64) {
	var data []byte
	netlink.Attributes(v, func(kind uint16, v []byte) {
		switch kind {
		case unix.NFTA_EXPR_NAME:
			e.Name = text(v)
		case unix.NFTA_EXPR_DATA:
			data = v
		}
	})
	netlink.Attributes(data, func(kind uint16, v []byte) {
		if e.Name == "counter" {
			if kind == unix.NFTA_COUNTER_PACKETS && len(v) == 8 {
				packets = binary.BigEndian.Uint64(v)
			}
			return
		}
		e.attribute(kind, v)
	})
	if e.Name == "match" || e.Name == "target" {
		e.Name = "xt " + e.Name
	}
	return e, packets
}

// register is its number in units of four bytes: NFT_REG_1 to 4 are of sixteen.
func register(v []byte) int {
	n := int(big(v))
	if n >= unix.NFT_REG32_00 {
		return n - unix.NFT_REG32_00 + 4
	}
	return n * 4
}

func (e *Expr) attribute(kind uint16, v []byte) {
	type field struct {
		name string
		kind uint16
	}
	switch (field{e.Name, kind}) {
	case field{"meta", unix.NFTA_META_DREG}, field{"ct", unix.NFTA_CT_DREG}, field{"payload", unix.NFTA_PAYLOAD_DREG}, field{"fib", 1},
		field{"bitwise", unix.NFTA_BITWISE_DREG}, field{"lookup", unix.NFTA_LOOKUP_DREG}, field{"immediate", unix.NFTA_IMMEDIATE_DREG}:
		e.Dest = register(v)
		e.Map = e.Name == "lookup"
	case field{"meta", unix.NFTA_META_KEY}, field{"ct", unix.NFTA_CT_KEY}, field{"fib", 2}:
		e.Key = big(v)
	case field{"fib", 3}, field{"cmp", unix.NFTA_CMP_OP}, field{"range", unix.NFTA_RANGE_OP}:
		e.Op = big(v)
	case field{"payload", unix.NFTA_PAYLOAD_BASE}:
		e.Base = big(v)
	case field{"payload", unix.NFTA_PAYLOAD_OFFSET}:
		e.Offset = big(v)
	case field{"payload", unix.NFTA_PAYLOAD_LEN}, field{"bitwise", unix.NFTA_BITWISE_LEN}:
		e.Len = big(v)
	case field{"bitwise", unix.NFTA_BITWISE_SREG}, field{"cmp", unix.NFTA_CMP_SREG}, field{"range", unix.NFTA_RANGE_SREG}, field{"lookup", unix.NFTA_LOOKUP_SREG},
		field{"nat", unix.NFTA_NAT_REG_ADDR_MIN}:
		e.Source = register(v)
	case field{"nat", unix.NFTA_NAT_REG_PROTO_MIN}:
		e.Dest = register(v)
	case field{"nat", unix.NFTA_NAT_TYPE}:
		e.Key = big(v)
	case field{"bitwise", unix.NFTA_BITWISE_MASK}, field{"cmp", unix.NFTA_CMP_DATA}, field{"range", unix.NFTA_RANGE_FROM_DATA}, field{"immediate", unix.NFTA_IMMEDIATE_DATA}:
		e.Data, e.Verdict, e.Chain = datum(v)
	case field{"bitwise", unix.NFTA_BITWISE_XOR}, field{"range", unix.NFTA_RANGE_TO_DATA}:
		e.Data2, _, _ = datum(v)
	case field{"lookup", unix.NFTA_LOOKUP_SET}:
		e.Set = text(v)
	case field{"lookup", unix.NFTA_LOOKUP_FLAGS}:
		e.Invert = big(v)&1 != 0
	case field{"match", unix.NFTA_MATCH_NAME}, field{"target", unix.NFTA_TARGET_NAME}:
		e.Text = text(v)
	case field{"match", unix.NFTA_MATCH_REV}:
		e.Key = big(v)
	case field{"target", unix.NFTA_TARGET_INFO}, field{"match", unix.NFTA_MATCH_INFO}:
		e.Data = v
	}
}

// datum is NFTA_DATA_VALUE, or a verdict.
func datum(v []byte) (data []byte, verdict, chain string) {
	netlink.Attributes(v, func(kind uint16, v []byte) {
		if kind == unix.NFTA_DATA_VALUE {
			data = v
			return
		}
		netlink.Attributes(v, func(kind uint16, v []byte) { // NFTA_DATA_VERDICT
			switch kind {
			case unix.NFTA_VERDICT_CODE:
				verdict = map[int32]string{0: "drop", 1: "accept", 3: "queue", -3: "jump", -4: "goto", -5: "return"}[int32(big(v))]
			case unix.NFTA_VERDICT_CHAIN:
				chain = text(v)
			}
		})
	})
	return data, verdict, chain
}

func (r *ruleReader) set(t int, m []byte) {
	var s Set
	netlink.Attributes(m, func(kind uint16, v []byte) {
		switch kind {
		case unix.NFTA_SET_NAME:
			s.Name = text(v)
		case unix.NFTA_SET_FLAGS:
			s.Interval = big(v)&unix.NFT_SET_INTERVAL != 0
		}
	})
	r.list[t].Sets = append(r.list[t].Sets, s)
}

// elements reads those of all sets. One that is gone meanwhile is left empty.
func (r *ruleReader) elements() error {
	for t := range r.list {
		for i := range r.list[t].Sets {
			s := &r.list[t].Sets[i]
			request := netlink.Message{r.families[t], 0, 0, 0}.AddString(unix.NFTA_SET_ELEM_LIST_TABLE, r.list[t].Name).AddString(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
			bodies, err := r.dump(unix.NFT_MSG_GETSETELEM, request)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("nf_tables: set %s: %w", s.Name, err)
			}
			for _, m := range bodies {
				netlink.Attributes(m[4:], func(kind uint16, v []byte) {
					if kind == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
						netlink.Attributes(v, func(_ uint16, v []byte) { s.Elements = append(s.Elements, element(v)) })
					}
				})
			}
		}
	}
	return nil
}

func element(v []byte) (e Element) {
	netlink.Attributes(v, func(kind uint16, v []byte) {
		switch kind {
		case unix.NFTA_SET_ELEM_KEY:
			e.Key, _, _ = datum(v)
		case 10: // NFTA_SET_ELEM_KEY_END
			e.KeyEnd, _, _ = datum(v)
		case unix.NFTA_SET_ELEM_DATA:
			_, e.Verdict, e.Chain = datum(v)
		case unix.NFTA_SET_ELEM_FLAGS:
			e.End, e.All = big(v)&1 != 0, big(v)&2 != 0
		}
	})
	return e
}
