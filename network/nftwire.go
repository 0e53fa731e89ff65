package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kakuri/kakuri/network/netlink"
	"golang.org/x/sys/unix"
)

// An nftMessage is one message to the kernel's nf_tables, and what nft(8) would have been told for it:
// linux/netfilter/nf_tables.h.
type nftMessage struct {
	kind   uint16 // NFT_MSG_NEWRULE …
	flags  uint16 // NLM_F_CREATE …
	family byte
	body   wire
	text   func() string // in nft's words; asked when it is shown, or fails
}

func (m nftMessage) String() string { return m.text() }

// wire is a message's attributes as the kernel takes them: each begins on four bytes, numbers are big-endian, as
// nf_tables has them.
type wire []byte

func (w *wire) header(kind uint16, n int) {
	*w = binary.NativeEndian.AppendUint16(*w, uint16(unix.SizeofNlAttr+n))
	*w = binary.NativeEndian.AppendUint16(*w, kind)
}

func (w *wire) bytes(kind uint16, value []byte) {
	w.header(kind, len(value))
	*w = append(*w, value...)
	w.pad()
}

func (w *wire) str(kind uint16, value string) {
	w.header(kind, len(value)+1)
	*w = append(*w, value...)
	*w = append(*w, 0)
	w.pad()
}

func (w *wire) u32(kind uint16, value uint32) {
	w.header(kind, 4)
	*w = binary.BigEndian.AppendUint32(*w, value)
}

// nest puts what body writes into an attribute.
func (w *wire) nest(kind uint16, body func()) {
	at := len(*w)
	w.header(kind|unix.NLA_F_NESTED, 0)
	body()
	binary.NativeEndian.PutUint16((*w)[at:], uint16(len(*w)-at))
}

func (w *wire) pad() {
	for len(*w)%4 != 0 {
		*w = append(*w, 0)
	}
}

// attribute finds the value of one, by the kinds that lead to it; nil: it is not there.
func attribute(b []byte, path ...uint16) []byte {
	for _, want := range path {
		var found []byte
		netlink.Attributes(b, func(kind uint16, value []byte) {
			if kind == want && found == nil {
				found = value
			}
		})
		b = found
	}
	return b
}

func bigEndian32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// message is m for the kernel: nlmsghdr, netlink(7), and nfgenmsg, linux/netfilter/nfnetlink.h, with the resource, before the attributes.
func (m nftMessage) message(subsystem, flags, resource uint16) netlink.Message {
	head := make([]byte, 0, 4+len(m.body))
	head = append(head, m.family, unix.NFNETLINK_V0)
	head = binary.BigEndian.AppendUint16(head, resource)
	return netlink.NewMessage(subsystem<<8|m.kind, m.flags|flags, append(head, m.body...))
}

// An nfSocket speaks to the kernel's netfilter in the network namespace that it was opened in.
type nfSocket struct{ *netlink.Socket }

func openNetfilter() (*nfSocket, error) {
	s, err := netlink.OpenFor(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("netfilter: %w", err)
	}
	return &nfSocket{s}, nil
}

// close is put off: when anybody deleted something a moment ago, the kernel, whose worker frees that, has a close of such a
// socket wait for all processors, 10 ms and more, with all transactions behind it. Nobody needs the close.
func (s *nfSocket) close() {
	time.AfterFunc(50*time.Millisecond, func() { s.Socket.Close() })
}

// errAgain says that the ruleset is another one than the generation which a transaction was made for.
var errAgain = error(unix.ERESTART)

// commit does all of the messages in one transaction, or none. With a generation but 0 it does nothing, and gives
// errAgain, when that has passed. The error names the message that the kernel refused.
func (s *nfSocket) commit(generation uint32, messages []nftMessage) error {
	if len(messages) == 0 {
		return nil
	}
	begin, end := nftMessage{kind: unix.NFNL_MSG_BATCH_BEGIN}, nftMessage{kind: unix.NFNL_MSG_BATCH_END}
	if generation != 0 {
		begin.body.u32(unix.NFNL_BATCH_GENID, generation)
	}
	list := make([]netlink.Message, 0, len(messages)+2)
	list = append(list, begin.message(0, 0, unix.NFNL_SUBSYS_NFTABLES))
	for i, m := range messages {
		flags := uint16(0)
		if i == len(messages)-1 {
			flags = unix.NLM_F_ACK
		}
		list = append(list, m.message(unix.NFNL_SUBSYS_NFTABLES, flags, 0))
	}
	list = append(list, end.message(0, 0, unix.NFNL_SUBSYS_NFTABLES))
	var failed error
	err := s.Exchange(list, func(i int, kind, flags uint16, body []byte) bool {
		if kind != unix.NLMSG_ERROR {
			return false
		}
		err := netlink.Answer(flags, body)
		switch {
		case i == 0 && errors.Is(err, unix.ERESTART):
			failed = errAgain
			return true
		case i == 0 && err != nil:
			failed = fmt.Errorf("nftables: commit: %w", err)
			return true
		case err != nil && failed == nil && i > 0 && i <= len(messages):
			failed = &nftError{messages[i-1].text(), err}
		}
		return i == len(messages)
	})
	if err != nil {
		return err
	}
	return failed
}

// An nftError is a message of a transaction that the kernel refused, and with it the transaction.
type nftError struct {
	message string
	cause   error
}

func (e *nftError) Error() string {
	text := "nft " + e.message + ": " + e.cause.Error()
	if errors.Is(e.cause, unix.ENOENT) && (strings.HasPrefix(e.message, "add rule") || strings.HasPrefix(e.message, "add chain")) {
		text += ": the kernel has not all that the rule takes: modules nft_chain_nat, nft_fib_inet, nft_ct, nft_nat, nft_masq, nft_reject_inet"
	}
	return text
}
func (e *nftError) Unwrap() error { return e.cause }

// An nfAnswer is what came for one request: the bodies of messages, after nfgenmsg, or an error.
type nfAnswer struct {
	bodies [][]byte
	err    error // as the kernel gives it
}

// ask sends requests together, none of them for a list, and gives the answer of each. They are no transaction.
func (s *nfSocket) ask(subsystem uint16, requests ...nftMessage) ([]nfAnswer, error) {
	list := make([]netlink.Message, len(requests))
	for i, m := range requests {
		list[i] = m.message(subsystem, unix.NLM_F_ACK, 0)
	}
	answers := make([]nfAnswer, len(requests))
	left := len(requests)
	err := s.Exchange(list, func(i int, kind, flags uint16, body []byte) bool {
		switch {
		case kind == unix.NLMSG_ERROR:
			answers[i].err = netlink.Answer(flags, body)
			left--
		case len(body) >= 4:
			answers[i].bodies = append(answers[i].bodies, append([]byte(nil), body[4:]...))
		}
		return left == 0
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// dump asks for one list. What the list is in need not be there.
func (s *nfSocket) dump(subsystem uint16, request nftMessage) ([][]byte, error) {
	bodies, err := s.Dump(request.message(subsystem, 0, 0))
	for i, b := range bodies {
		bodies[i] = b[min(4, len(b)):]
	}
	return bodies, err
}

// errNoTables is of a kernel that has no rules, since it can have none.
var errNoTables = errors.New("the kernel has no nf_tables: its module is nf_tables, its option CONFIG_NF_TABLES")

// noTables tells that of an error of the first thing that is asked of nf_tables, if it is so.
func noTables(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: %w", err, errNoTables)
	}
	return err
}

// generation is the number of the ruleset that is in force, of all tables.
func (s *nfSocket) generation() (uint32, error) {
	answers, err := s.ask(unix.NFNL_SUBSYS_NFTABLES, nftMessage{kind: unix.NFT_MSG_GETGEN})
	if err != nil {
		return 0, err
	}
	if err := answers[0].err; err != nil {
		return 0, fmt.Errorf("nftables: %w", noTables(err))
	}
	if len(answers[0].bodies) != 1 {
		return 0, errors.New("nftables: the kernel does not tell the generation of its rules")
	}
	return bigEndian32(attribute(answers[0].bodies[0], unix.NFTA_GEN_ID)), nil
}
