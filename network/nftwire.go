package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/network/rtnetlink"
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
		rtnetlink.Attributes(b, func(kind uint16, value []byte) {
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

// appendMessage adds a message with its headers: nlmsghdr, netlink(7), and nfgenmsg, linux/netfilter/nfnetlink.h.
func appendMessage(b []byte, kind, flags uint16, seq uint32, family byte, resource uint16, body []byte) []byte {
	ne := binary.NativeEndian
	b = ne.AppendUint32(b, uint32(unix.SizeofNlMsghdr+4+len(body)))
	b = ne.AppendUint16(b, kind)
	b = ne.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = ne.AppendUint32(b, seq)
	b = ne.AppendUint32(b, 0)
	b = append(b, family, unix.NFNETLINK_V0)
	b = binary.BigEndian.AppendUint16(b, resource)
	return append(b, body...) // attributes end on four bytes
}

// An nfSocket speaks to the kernel's netfilter in the network namespace that it was opened in.
type nfSocket struct {
	fd  int
	buf []byte
}

func openNetfilter() (*nfSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, os.NewSyscallError("socket NETLINK_NETFILTER", err)
	}
	return &nfSocket{fd: fd, buf: make([]byte, 64<<10)}, nil
}

// close is put off: when anybody deleted something a moment ago, the kernel, whose worker frees that, has a close of such a
// socket wait for all processors, 10 ms and more, with all transactions behind it. Nobody needs the close.
func (s *nfSocket) close() {
	time.AfterFunc(50*time.Millisecond, func() { unix.Close(s.fd) })
}

func (s *nfSocket) send(b []byte) error {
	if len(b) > 100<<10 { // net.core.wmem_default is about twice that
		unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(b))
	}
	return os.NewSyscallError("sendto", unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
}

// receive calls each with every message of one datagram, as long as it gives true.
func (s *nfSocket) receive(each func(h unix.NlMsghdr, body []byte) bool) error {
	n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
	for err == unix.EINTR {
		n, _, err = unix.Recvfrom(s.fd, s.buf, 0)
	}
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	ne := binary.NativeEndian
	for b := s.buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
		h := unix.NlMsghdr{Len: ne.Uint32(b), Type: ne.Uint16(b[4:]), Flags: ne.Uint16(b[6:]), Seq: ne.Uint32(b[8:])}
		end := min(len(b), int(h.Len)) // an error's message may bring more of the request than there is room
		if end < unix.SizeofNlMsghdr {
			return errors.New("netfilter answers with a message cut short")
		}
		if !each(h, b[unix.SizeofNlMsghdr:end]) {
			return nil
		}
		b = b[min(len(b), (end+3)&^3):]
	}
	return nil
}

func errnoOf(body []byte) syscall.Errno {
	if len(body) < 4 {
		return unix.EPROTO
	}
	return syscall.Errno(-int32(binary.NativeEndian.Uint32(body)))
}

// errAgain says that the ruleset is another one than the generation which a transaction was made for.
var errAgain = error(unix.ERESTART)

// commit does all of the messages in one transaction, or none. With a generation but 0 it does nothing, and gives
// errAgain, when that has passed. The error names the message that the kernel refused.
func (s *nfSocket) commit(generation uint32, messages []nftMessage) error {
	if len(messages) == 0 {
		return nil
	}
	const begin = 1
	var id wire
	if generation != 0 {
		id.u32(unix.NFNL_BATCH_GENID, generation)
	}
	n := 64
	for _, m := range messages {
		n += 20 + len(m.body)
	}
	b := appendMessage(make([]byte, 0, n), unix.NFNL_MSG_BATCH_BEGIN, 0, begin, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, id)
	seq := uint32(begin)
	for i, m := range messages {
		seq++
		flags := m.flags
		if i == len(messages)-1 {
			flags |= unix.NLM_F_ACK
		}
		b = appendMessage(b, unix.NFNL_SUBSYS_NFTABLES<<8|m.kind, flags, seq, m.family, 0, m.body)
	}
	b = appendMessage(b, unix.NFNL_MSG_BATCH_END, 0, seq+1, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	if err := s.send(b); err != nil {
		return err
	}
	var failed error
	for done := false; !done; {
		err := s.receive(func(h unix.NlMsghdr, body []byte) bool {
			if h.Type != unix.NLMSG_ERROR {
				return true
			}
			errno := errnoOf(body)
			switch {
			case h.Seq == begin && errno == unix.ERESTART:
				failed, done = errAgain, true
			case h.Seq == begin && errno != 0:
				failed, done = fmt.Errorf("nftables: commit: %w", errno), true
			case errno != 0 && failed == nil && h.Seq > begin && int(h.Seq)-begin <= len(messages):
				failed = &nftError{messages[h.Seq-begin-1].text(), errno}
			}
			done = done || h.Seq == seq
			return !done
		})
		if err != nil {
			return err
		}
	}
	return failed
}

// An nftError is a message of a transaction that the kernel refused, and with it the transaction.
type nftError struct {
	message string
	errno   syscall.Errno
}

func (e *nftError) Error() string {
	text := "nft " + e.message + ": " + e.errno.Error()
	if e.errno == unix.ENOENT && (strings.HasPrefix(e.message, "add rule") || strings.HasPrefix(e.message, "add chain")) {
		text += ": the kernel has not all that the rule takes: modules nft_chain_nat, nft_fib_inet, nft_ct, nft_nat, nft_masq"
	}
	return text
}
func (e *nftError) Unwrap() error { return e.errno }

// An nfAnswer is what came for one request: the bodies of messages, after nfgenmsg, or an error.
type nfAnswer struct {
	bodies [][]byte
	err    error // as the kernel gives it
}

// ask sends requests together, and gives the answer of each. They are no transaction. A dump that the ruleset changed
// under gives EINTR.
func (s *nfSocket) ask(subsystem uint16, requests ...nftMessage) ([]nfAnswer, error) {
	var b []byte
	for i, m := range requests {
		b = appendMessage(b, subsystem<<8|m.kind, m.flags|unix.NLM_F_ACK, uint32(i+1), m.family, 0, m.body)
	}
	if err := s.send(b); err != nil {
		return nil, err
	}
	answers := make([]nfAnswer, len(requests))
	for left := len(requests); left > 0; {
		err := s.receive(func(h unix.NlMsghdr, body []byte) bool {
			if h.Seq == 0 || int(h.Seq) > len(answers) {
				return true
			}
			a := &answers[h.Seq-1]
			if h.Flags&unix.NLM_F_DUMP_INTR != 0 {
				a.err = unix.EINTR
			}
			switch {
			case h.Type == unix.NLMSG_ERROR:
				if errno := errnoOf(body); errno != 0 {
					a.err = errno
				}
				left--
			case h.Type == unix.NLMSG_DONE:
				left--
			case len(body) >= 4:
				a.bodies = append(a.bodies, append([]byte(nil), body[4:]...))
			}
			return left > 0
		})
		if err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// dump asks for one list, again when it changed meanwhile. What the list is in need not be there.
func (s *nfSocket) dump(subsystem uint16, request nftMessage) ([][]byte, error) {
	request.flags |= unix.NLM_F_DUMP
	for {
		answers, err := s.ask(subsystem, request)
		switch {
		case err != nil:
			return nil, err
		case answers[0].err == unix.EINTR:
		case answers[0].err != nil:
			return nil, answers[0].err
		default:
			return answers[0].bodies, nil
		}
	}
}

// generation is the number of the ruleset that is in force, of all tables.
func (s *nfSocket) generation() (uint32, error) {
	answers, err := s.ask(unix.NFNL_SUBSYS_NFTABLES, nftMessage{kind: unix.NFT_MSG_GETGEN})
	if err != nil {
		return 0, err
	}
	if err := answers[0].err; err != nil {
		if err == unix.EINVAL || err == unix.EOPNOTSUPP {
			err = fmt.Errorf("%w: the kernel has no nf_tables: its module is nf_tables, its option CONFIG_NF_TABLES", err)
		}
		return 0, fmt.Errorf("nftables: %w", err)
	}
	if len(answers[0].bodies) != 1 {
		return 0, errors.New("nftables: the kernel does not tell the generation of its rules")
	}
	return bigEndian32(attribute(answers[0].bodies[0], unix.NFTA_GEN_ID)), nil
}
