package verify

import (
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/wait"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
)

// names asks the container's server for names, inside, for what it answers by itself: whose the container's own
// addresses are. Nobody else hears of that.
func (r *reader) names(c *plan.NamesCheck) answer {
	s := -1
	_, err := r.inside(abi.NSNetwork, func() (_ string, err error) {
		if s, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return "", os.NewSyscallError("socket", err)
		}
		return "", os.NewSyscallError("connect", unix.Connect(s, &unix.SockaddrInet4{Addr: plan.ResolverAddr().As4(), Port: 53}))
	})
	if s >= 0 {
		defer unix.Close(s)
	}
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		return no("no way there: " + unix.ErrnoName(unix.ENETUNREACH))
	case err != nil:
		return cannot(err)
	}
	if len(c.Addrs) == 0 {
		// Of nothing it can be asked but how it is, which servers of today answer with "not implemented".
		if _, err := ask(s, []byte{0, 1, 2 << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			return no(err.Error())
		}
		return yes(c.Asked())
	}
	ok := true
	var found []string
	for i, a := range c.Addrs {
		name, err := nameOf(s, uint16(i+1), a)
		switch {
		case errors.Is(err, errNameless):
			name, ok = "without a name", false
		case err != nil:
			return no(err.Error())
		}
		found = append(found, a.String()+" "+name)
	}
	return answer{measured: "answers " + strings.Join(found, ", "), ok: ok}
}

// errNameless is the answer that an address has no name in the container's networks.
var errNameless = errors.New("no name")

// nameOf asks for the name of an address: RFC 1035, 3.5 and 4.1. Only what the server says of its own counts.
func nameOf(s int, id uint16, a netip.Addr) (string, error) {
	m := binary.BigEndian.AppendUint16(nil, id)
	m = append(m, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) // one question, not to be passed on
	for _, label := range strings.Split(reverse(a), ".") {
		m = append(append(m, byte(len(label))), label...)
	}
	m = append(m, 0, 0, 12, 0, 1) // PTR, IN
	b, err := ask(s, m)
	if err != nil {
		return "", err
	}
	const authority, records = 1 << 2, 7
	if b[2]&authority == 0 || b[3]&15 != 0 || b[records] == 0 {
		return "", errNameless
	}
	// The answer's name is a pointer to the question's; type, class, time and length are ten bytes.
	at := len(m) + 2 + 10
	var labels []string
	for at < len(b) && b[at] != 0 && b[at] < 64 && at+1+int(b[at]) <= len(b) {
		labels = append(labels, string(b[at+1:at+1+int(b[at])]))
		at += 1 + int(b[at])
	}
	if len(labels) == 0 {
		return "", errNameless
	}
	return strings.Join(labels, "."), nil
}

// reverse is the name under which an address has one.
func reverse(a netip.Addr) string {
	var labels []string
	zone := "in-addr.arpa"
	for _, v := range a.AsSlice() {
		if a.Is4() {
			labels = append([]string{strconv.Itoa(int(v))}, labels...)
			continue
		}
		const digits = "0123456789abcdef"
		labels, zone = append([]string{digits[v&15 : v&15+1], digits[v>>4 : v>>4+1]}, labels...), "ip6.arpa"
	}
	return strings.Join(labels, ".") + "." + zone
}

// ask sends a message until something answers: one that waits for its turn is given time, one that is dead is told at once.
func ask(s int, m []byte) ([]byte, error) {
	buf := make([]byte, 1500)
	for range 5 {
		if _, err := unix.Write(s, m); err != nil {
			return nil, silent(err)
		}
		for until := time.Now().Add(time.Second); ; {
			n, err := wait.Poll([]unix.PollFd{{Fd: int32(s), Events: unix.POLLIN}}, max(time.Until(until), 0))
			if n == 0 && err == nil {
				break
			}
			if err == nil {
				n, err = unix.Read(s, buf)
			}
			if err != nil {
				return nil, silent(err)
			}
			if n >= 12 && buf[0] == m[0] && buf[1] == m[1] && buf[2]&0x80 != 0 {
				return buf[:n], nil
			}
		}
	}
	return nil, errors.New("no answer")
}

// silent says what an error of such a socket means.
func silent(err error) error {
	switch err {
	case unix.ECONNREFUSED:
		return errors.New("nobody answers there")
	case unix.EPERM:
		return errors.New("a rule inside drops the question")
	}
	return err
}
