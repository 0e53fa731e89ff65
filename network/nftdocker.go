package network

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/network/netlink"
	"golang.org/x/sys/unix"
)

// dockerd sets the policy of chain FORWARD of its table ip filter to drop, which ends packets of our bridges as well. Its documents
// name chain DOCKER-USER for rules of others: there, and nowhere else, our bridges' packets are accepted as far as that table is concerned, after the rules that the
// administrator has in the chain. What may pass between our bridges is decided by our own table all the same.
const (
	dockerTable = "filter"
	dockerChain = "DOCKER-USER"
	dockerWord  = "kakuri: " // begins our rules' comments, which a device's name ends
)

func chainRequest(family byte, table, chain string) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_GETCHAIN, family: family}
	m.body.str(unix.NFTA_CHAIN_TABLE, table)
	m.body.str(unix.NFTA_CHAIN_NAME, chain)
	return m
}

// dockerRules let pass what comes from a bridge and what goes to it, in the form that iptables-nft has for such rules.
func dockerRules(device string) []nftRule {
	name := append([]byte(device), 0)
	way := func(text string, key uint32) nftRule {
		t := nftTerm{text + " " + `"` + device + `"`, []nftExpr{meta(key, 0), compare(unix.NFT_CMP_EQ, name)}}
		return rule(dockerWord+device, t, counted(), verdict("accept", nfAccept))
	}
	return []nftRule{way("iifname", unix.NFT_META_IIFNAME), way("oifname", unix.NFT_META_OIFNAME)}
}

// A dockerUserChain is what dockerd's chain of one family has.
type dockerUserChain struct {
	family  byte
	devices []string            // of which it has both rules
	ours    map[string][][]byte // handles of all our rules, by device
	last    []byte              // the handle of a rule that ends the chain for all, nil for none
}

// dockerUserChains reads the chains that there are.
func dockerUserChains(s *nfSocket) (list []dockerUserChain, err error) {
	for _, family := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		answers, err := s.ask(unix.NFNL_SUBSYS_NFTABLES, chainRequest(family, dockerTable, dockerChain))
		if err != nil {
			return nil, err
		}
		if errors.Is(answers[0].err, unix.ENOENT) {
			continue
		}
		if answers[0].err != nil {
			return nil, fmt.Errorf("nftables: chain %s: %w", dockerChain, answers[0].err)
		}
		rules, err := s.dump(unix.NFNL_SUBSYS_NFTABLES, rulesOfTable(family, dockerTable, dockerChain))
		if err != nil {
			return nil, err
		}
		c := dockerUserChain{family: family, ours: map[string][][]byte{}}
		for i, r := range rules {
			comment, _ := readComment(attribute(r, unix.NFTA_RULE_USERDATA))
			if device, ok := strings.CutPrefix(comment, dockerWord); ok {
				if c.ours[device] = append(c.ours[device], attribute(r, unix.NFTA_RULE_HANDLE)); len(c.ours[device]) == 2 {
					c.devices = append(c.devices, device)
				}
			} else if i == len(rules)-1 && unconditional(r) {
				c.last = attribute(r, unix.NFTA_RULE_HANDLE)
			}
		}
		list = append(list, c)
	}
	return list, nil
}

// dockerUser gives what has the chains, where they are there, have the rules of the devices that change makes of those they have.
func dockerUser(s *nfSocket, change func(devices []string) []string) (messages []nftMessage, err error) {
	chains, err := dockerUserChains(s)
	for _, c := range chains {
		messages = append(messages, c.only(change(slices.Clone(c.devices)))...)
	}
	return messages, err
}

// only gives what has the chain have the rules of these devices and no other rules of ours.
func (c *dockerUserChain) only(wanted []string) (messages []nftMessage) {
	for device, handles := range c.ours {
		if slices.Contains(wanted, device) && len(handles) == 2 {
			continue
		}
		for _, h := range handles {
			m := nftMessage{kind: unix.NFT_MSG_DELRULE, family: c.family, text: func() string {
				return "delete rule " + familyName(c.family) + " " + dockerTable + " " + dockerChain + " of " + device
			}}
			m.body.str(unix.NFTA_RULE_TABLE, dockerTable)
			m.body.str(unix.NFTA_RULE_CHAIN, dockerChain)
			m.body.bytes(unix.NFTA_RULE_HANDLE, h)
			messages = append(messages, m)
		}
	}
	slices.Sort(wanted)
	for _, device := range slices.Compact(wanted) {
		if slices.Contains(c.devices, device) {
			continue
		}
		for _, r := range dockerRules(device) {
			m := newRule(c.family, dockerTable, dockerChain, r)
			if c.last != nil {
				m.flags &^= unix.NLM_F_APPEND
				m.body.bytes(unix.NFTA_RULE_POSITION, c.last)
			}
			messages = append(messages, m)
		}
	}
	return messages
}

// notInDocker are those of devices that a chain, where it is there, has not all rules of: somebody flushed it, or a dockerd came when they were there already.
func notInDocker(s *nfSocket, devices []string) (missing []string, err error) {
	chains, err := dockerUserChains(s)
	for _, c := range chains {
		for _, d := range devices {
			if !slices.Contains(c.devices, d) && !slices.Contains(missing, d) {
				missing = append(missing, d)
			}
		}
	}
	return missing, err
}

// unconditional tells a rule without a condition: it counts and gives a verdict, as -j RETURN of older dockerds.
func unconditional(r []byte) bool {
	plain := true
	netlink.Attributes(attribute(r, unix.NFTA_RULE_EXPRESSIONS), func(_ uint16, e []byte) {
		name := unix.ByteSliceToString(attribute(e, unix.NFTA_EXPR_NAME))
		plain = plain && (name == "counter" || name == "immediate")
	})
	return plain
}
