package network

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/kakuri/kakuri/network/netlink"
	"golang.org/x/sys/unix"
)

// answersTable is the name of the table that [LeadAnswersHere] makes.
const answersTable = "kakuri-uplink"

// LeadAnswersHere has what is answered to sockets with a mark (SO_MARK) come to them, whatever their address is: ip(7), IP_TRANSPARENT.
// It is for the network namespace of the calling thread, and may be called again. The next number is the answers' mark, and that of a table of
// routes: by that table all addresses are here, which is not to be so for what the sockets send.
func LeadAnswersHere(mark uint32) error {
	s, err := openNetfilter()
	if err == nil {
		defer s.close()
		err = s.commit(0, answersMessages(mark))
	}
	if err != nil {
		return fmt.Errorf("table inet %s: %w%s", answersTable, err, tablesHint(err))
	}
	r, err := netlink.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	lo, err := r.Link("lo")
	if err != nil {
		return fmt.Errorf("device lo: %w", err)
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		// struct rtmsg, and struct fib_rule_hdr: rtnetlink(7), linux/fib_rules.h.
		route := make([]byte, unix.SizeofRtMsg)
		route[0], route[4], route[5], route[6], route[7] = family, unix.RT_TABLE_UNSPEC, unix.RTPROT_BOOT, unix.RT_SCOPE_HOST, unix.RTN_LOCAL
		rule := make([]byte, 12)
		rule[0], rule[4], rule[7] = family, unix.RT_TABLE_UNSPEC, unix.FR_ACT_TO_TBL
		answers, err := r.Do(
			netlink.NewMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, route).AddUint32(unix.RTA_TABLE, mark+1).AddUint32(unix.RTA_OIF, uint32(lo.Index)),
			netlink.NewMessage(unix.RTM_NEWRULE, makeNew, rule).AddUint32(unix.FRA_TABLE, mark+1).AddUint32(unix.FRA_FWMARK, mark+1).AddUint32(unix.FRA_PRIORITY, 100),
		)
		for i, what := range []string{"route", "rule for routes"} {
			switch {
			case err != nil:
				return err
			case answers[i] == nil || errors.Is(answers[i], unix.EEXIST):
			case family == unix.AF_INET6 && (errors.Is(answers[i], unix.EAFNOSUPPORT) || errors.Is(answers[i], unix.EOPNOTSUPP)):
				// a kernel without IPv6
			default:
				return fmt.Errorf("%s of marked answers: %w", what, answers[i])
			}
		}
	}
	return nil
}

func answersMessages(mark uint32) []nftMessage {
	const priorityMangle = -150
	list := []nftMessage{newTable(answersTable), deleteTable(answersTable), newTable(answersTable)}
	value := binary.NativeEndian.AppendUint32(nil, mark)
	number := fmt.Sprintf("0x%x", mark)
	ctMark := expr("ct", func(w *wire) { w.u32(unix.NFTA_CT_KEY, unix.NFT_CT_MARK); w.u32(unix.NFTA_CT_DREG, register(0)) })
	for _, c := range []struct {
		nftChain
		terms []nftTerm
	}{
		{nftChain{name: "output", kind: "filter", hook: unix.NF_INET_LOCAL_OUT, hookName: "output", priority: priorityMangle}, []nftTerm{
			{"meta mark " + number, []nftExpr{meta(unix.NFT_META_MARK, 0), compare(unix.NFT_CMP_EQ, value)}},
			{"ct mark set meta mark", []nftExpr{expr("ct", func(w *wire) { w.u32(unix.NFTA_CT_KEY, unix.NFT_CT_MARK); w.u32(unix.NFTA_CT_SREG, register(0)) })}},
		}},
		{nftChain{name: "prerouting", kind: "filter", hook: unix.NF_INET_PRE_ROUTING, hookName: "prerouting", priority: priorityMangle}, []nftTerm{
			{"ct mark " + number, []nftExpr{ctMark, compare(unix.NFT_CMP_EQ, value)}},
			{fmt.Sprintf("meta mark set 0x%x", mark+1), []nftExpr{immediate(0, binary.NativeEndian.AppendUint32(nil, mark+1)), expr("meta", func(w *wire) {
				w.u32(unix.NFTA_META_KEY, unix.NFT_META_MARK)
				w.u32(unix.NFTA_META_SREG, register(0))
			})}},
		}},
	} {
		list = append(list, newChain(answersTable, c.nftChain, nfAccept), newRule(unix.NFPROTO_INET, answersTable, c.name, rule("answers to the uplink's sockets", c.terms...)))
	}
	return list
}
