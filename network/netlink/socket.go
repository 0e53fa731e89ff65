package netlink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/kakuri/kakuri/internal/thread"
	"golang.org/x/sys/unix"
)

var ne = binary.NativeEndian

// A Socket is one for netlink(7), in the network namespace that it was made in. It is
// for one goroutine at a time.
type Socket struct {
	fd   int
	seq  uint32
	buf  []byte
	most int // bytes of a list, 0 for any number
	left bool
}

// ErrMore says that a list is longer than its bound, and was not read to its end.
var ErrMore = errors.New("there are more")

// Bound has lists end after so many bytes, with what came until then and [ErrMore]: whoever has CAP_NET_ADMIN over a network namespace, as
// a container's root may, makes as many devices, addresses and routes as the kernel has memory for. The rest
// stays in the kernel, and the socket is of no more use.
func (s *Socket) Bound(bytes int) { s.most = bytes }

// Open makes a socket for rtnetlink(7) in the network namespace of the calling thread.
func Open() (*Socket, error) { return OpenFor(unix.NETLINK_ROUTE) }

// OpenFor makes one for another family of netlink's, as unix.NETLINK_NETFILTER.
func OpenFor(family int) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// Since Linux 4.12, 4.3 and 4.20: what is wrong as a sentence, answers without the question, dumps of one device.
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK, unix.NETLINK_GET_STRICT_CHK} {
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, 1)
	}
	// The kernel answers before the question's send returns; whatever happens to an answer, nobody waits for ever.
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	return &Socket{fd: fd}, nil
}

// OpenIn makes a socket in the network namespace of a file, such as /proc/PID/ns/net.
func OpenIn(path string) (*Socket, error) {
	ns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(ns)
	var s *Socket
	<-thread.Aside(func() {
		if err = unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			err = os.NewSyscallError("setns", err)
			return
		}
		s, err = Open()
	})
	return s, err
}

// Close closes it.
func (s *Socket) Close() error { return unix.Close(s.fd) }

// An Error is the kernel's answer to a message.
type Error struct {
	Errno syscall.Errno
	Text  string // its own sentence, where it has one
}

// Error gives the kernel's sentence, and the error.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Errno.Error()
	}
	return e.Errno.Error() + " (" + e.Text + ")"
}

// Unwrap gives the number, for errors.Is.
func (e *Error) Unwrap() error { return e.Errno }

// A Message is a request, in the making.
type Message []byte

// NewMessage begins a message of a kind such as RTM_NEWLINK, with the structure that
// messages of that kind begin with.
func NewMessage(kind, flags uint16, head []byte) Message {
	m := make(Message, unix.SizeofNlMsghdr, 256)
	ne.PutUint16(m[4:], kind)
	ne.PutUint16(m[6:], flags|unix.NLM_F_REQUEST)
	return append(m, head...)
}

// Add adds an attribute.
func (m Message) Add(kind uint16, value []byte) Message {
	m = ne.AppendUint16(m, uint16(unix.SizeofRtAttr+len(value)))
	m = ne.AppendUint16(m, kind)
	m = append(m, value...)
	return append(m, make([]byte, (4-len(value)%4)%4)...)
}

// AddString adds one that ends in a zero byte.
func (m Message) AddString(kind uint16, s string) Message { return m.Add(kind, append([]byte(s), 0)) }

// AddUint32 adds a number in the machine's order.
func (m Message) AddUint32(kind uint16, v uint32) Message {
	return m.Add(kind, ne.AppendUint32(nil, v))
}

// Nest adds an attribute that holds what inner adds.
func (m Message) Nest(kind uint16, inner func(m Message) Message) Message {
	at := len(m)
	m = append(m, 0, 0, 0, 0)
	m = inner(m)
	ne.PutUint16(m[at:], uint16(len(m)-at))
	ne.PutUint16(m[at+2:], kind)
	return m
}

// IfInfo is struct ifinfomsg. Flags are set where change says so.
func IfInfo(index int32, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	ne.PutUint32(b[4:], uint32(index))
	ne.PutUint32(b[8:], flags)
	ne.PutUint32(b[12:], change)
	return b
}

// Exchange sends messages at once, numbered one after the other, and calls each with what comes to them, until it says
// that this was the last: i is the message's place, from 0, kind that of the answer, flags its NLM_F_*.
func (s *Socket) Exchange(list []Message, each func(i int, kind, flags uint16, body []byte) (last bool)) error {
	if s.left {
		return fmt.Errorf("netlink: a list was left: %w", ErrMore)
	}
	first := s.seq + 1
	n := 0
	for _, m := range list {
		n += (len(m) + 3) &^ 3
	}
	all := make([]byte, 0, n)
	for _, m := range list {
		s.finish(m)
		all = append(all, m...)
		for len(all)%4 != 0 {
			all = append(all, 0)
		}
	}
	if err := s.send(all); err != nil {
		return err
	}
	for done := false; !done; {
		err := s.receive(func(kind uint16, seq uint32, flags uint16, body []byte) error {
			if i := seq - first; !done && i < uint32(len(list)) {
				done = each(int(i), kind, flags, body)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Do sends messages at once, and gives the kernel's answer to each: nil, or an [*Error]. They are done in order, those
// behind one that failed as well.
func (s *Socket) Do(list ...Message) ([]error, error) {
	for _, m := range list {
		m.flag(unix.NLM_F_ACK)
	}
	answers := make([]error, len(list))
	n := 0
	err := s.Exchange(list, func(i int, kind, flags uint16, body []byte) bool {
		if kind == unix.NLMSG_ERROR {
			answers[i] = Answer(flags, body)
			n++
		}
		return n == len(list)
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// One sends messages at once, and gives the first error.
func (s *Socket) One(list ...Message) error {
	answers, err := s.Do(list...)
	for _, a := range answers {
		if err == nil {
			err = a
		}
	}
	return err
}

// Ask sends a question, and gives the body of the one answer of that kind; [*Error] where the kernel refuses it.
func (s *Socket) Ask(m Message, kind uint16) (body []byte, err error) {
	m.flag(unix.NLM_F_ACK) // it comes after the answer
	failed := s.Exchange([]Message{m}, func(_ int, got, flags uint16, b []byte) bool {
		switch got {
		case unix.NLMSG_ERROR:
			err = Answer(flags, b)
			return true
		case kind:
			body = bytes.Clone(b)
		}
		return false
	})
	if failed != nil {
		return nil, failed
	}
	if err == nil && body == nil {
		err = errShort
	}
	return body, err
}

// Dump asks for a list, and gives the bodies of all answers, anew when the list changed meanwhile. With [Socket.Bound] it may be a part of them, and [ErrMore].
func (s *Socket) Dump(m Message) (bodies [][]byte, err error) {
	m.flag(unix.NLM_F_DUMP)
	all := 0 // bytes
	for i := 0; i < dumps && (s.most == 0 || all <= 4*s.most); i++ {
		bodies, err = nil, nil
		whole, size := true, 0
		failed := s.Exchange([]Message{m}, func(_ int, kind, flags uint16, b []byte) bool {
			whole = whole && flags&unix.NLM_F_DUMP_INTR == 0
			switch kind {
			case unix.NLMSG_ERROR:
				err = Answer(flags, b)
				return true
			case unix.NLMSG_DONE:
				if len(b) >= 4 && int32(ne.Uint32(b)) < 0 {
					err = Answer(flags, b)
				}
				return true
			}
			if size += unix.SizeofNlMsghdr + len(b); s.most > 0 && size > s.most {
				s.left, err = true, fmt.Errorf("%d were read: %w", len(bodies), ErrMore)
				return true
			}
			bodies = append(bodies, bytes.Clone(b))
			return false
		})
		if failed != nil {
			return nil, failed
		}
		if s.left || whole && !errors.Is(err, unix.EINTR) {
			return bodies, err
		}
		all += size
	}
	return nil, fmt.Errorf("the kernel's list changes all the time: %w", unix.EINTR)
}

// dumps are of a list that changes while it is read.
const dumps = 1000

// flag adds to a message's flags.
func (m Message) flag(flag uint16) { ne.PutUint16(m[6:], ne.Uint16(m[6:])|flag) }

// finish writes the length and the number of a message.
func (s *Socket) finish(m Message) {
	s.seq++
	ne.PutUint32(m, uint32(len(m)))
	ne.PutUint32(m[8:], s.seq)
}

func (s *Socket) send(b []byte) error {
	if len(b) > 100<<10 { // net.core.wmem_default is about twice that
		unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(b))
	}
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err != unix.EINTR {
			return os.NewSyscallError("sendto of a netlink socket", err)
		}
	}
}

// receive reads one piece of the kernel's answer, and calls each with every message in it.
func (s *Socket) receive(each func(kind uint16, seq uint32, flags uint16, body []byte) error) error {
	if s.buf == nil {
		s.buf = make([]byte, 32<<10) // more than the kernel puts into one piece
	}
	n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
	if err == unix.EINTR {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("recvfrom of a netlink socket", err)
	}
	for b := s.buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
		size := int(ne.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return errShort
		}
		if err := each(ne.Uint16(b[4:]), ne.Uint32(b[8:]), ne.Uint16(b[6:]), b[unix.SizeofNlMsghdr:size]); err != nil {
			return err
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}

var errShort = errors.New("a netlink message is shorter than it says")

// Answer is the error of an NLMSG_ERROR, nil or an [*Error]: struct nlmsgerr, and with NLM_F_ACK_TLVS the kernel's sentence.
func Answer(flags uint16, body []byte) error {
	if len(body) < 4 {
		return errShort
	}
	errno := -int32(ne.Uint32(body))
	if errno == 0 {
		return nil
	}
	e := &Error{Errno: syscall.Errno(errno)}
	const tlvs = 4 + unix.SizeofNlMsghdr // the question is but its head: NETLINK_CAP_ACK
	if flags&unix.NLM_F_ACK_TLVS != 0 && flags&unix.NLM_F_CAPPED != 0 && len(body) > tlvs {
		Attributes(body[tlvs:], func(kind uint16, value []byte) {
			if kind == 1 { // NLMSGERR_ATTR_MSG
				e.Text = unix.ByteSliceToString(value)
			}
		})
	}
	return e
}

// Attributes calls each with the attributes of b, of any netlink family: rtnetlink(3). What does not hold together ends them.
func Attributes(b []byte, each func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(ne.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return
		}
		each(ne.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:size])
		b = b[min((size+3)&^3, len(b)):]
	}
}
