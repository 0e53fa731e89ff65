package dns

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"

	"github.com/kakuri/kakuri/netip"
	"golang.org/x/sys/unix"
)

// A Server is one that others' names are asked of.
type Server struct {
	Addr  netip.Addr
	Port  uint16 `json:",omitempty"` // 0 is 53
	Scope uint32 `json:",omitempty"` // number of the device that a link-local address is on
	// Host has it asked from the host's network namespace, as its own programs do: 127.0.0.53 is another one in the container's.
	Host bool `json:",omitempty"`
}

// How servers are asked. A client gives up after five seconds, as resolv.conf(5) has it.
const (
	maxServers = 3
	patience   = 4500 * time.Millisecond // with all of them
	turn       = time.Second             // of one that is silent, until the next one is asked as well
	preferred  = 30 * time.Second        // a server that answered when others were silent
	maxStrange = 64                      // packets that are no answer: who guesses is not listened to for long
)

// forward asks the servers, and returns what the client is told; nil when nobody has an answer. A question that came by TCP is asked by TCP: its
// answer is a long one, or the client trusts nothing else.
func (s *Resolver) forward(q *question, tcp bool) []byte {
	list, ask := s.names.Servers(q.name, q.kind == typeA || q.kind == typeAAAA)
	if !ask {
		return q.begin(noName, 0).end()
	}
	servers := s.order(list)
	if q.gate != nil {
		return s.inquireGuarded(q.gate, q, servers, tcp)
	}
	if msg := s.whole(q, servers, tcp); msg != nil {
		return q.give(msg)
	}
	return nil
}

// whole is an answer of the servers, as long as the client can take it; nil when nobody has one.
func (s *Resolver) whole(q *question, servers []Server, tcp bool) []byte {
	if tcp {
		if msg := s.inquire(q, servers, true); msg != nil {
			return msg
		}
		// There are servers that speak UDP only.
	}
	msg := s.inquire(q, servers, false)
	if msg == nil {
		return nil
	}
	if truncated(msg) && (tcp || q.edns && q.size > safeSize) { // the client takes more than was asked for
		select {
		case s.tcpForwards <- struct{}{}:
			if whole := s.inquire(q, servers, true); whole != nil {
				msg = whole
			}
			<-s.tcpForwards
		default:
		}
	}
	return msg
}

// order is the servers, the one first that answered of late when others did not.
func (s *Resolver) order(named []Server) (list []Server) {
	for _, u := range named {
		if u.Port == 0 {
			u.Port = 53
		}
		if u.Addr = u.Addr.Unmap(); !u.Addr.IsValid() || u.Addr == Address() && !u.Host { // which is this resolver itself
			continue
		}
		if list = append(list, u); len(list) == maxServers {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().After(s.goodFor) {
		return list
	}
	for i, u := range list {
		if u == s.good {
			copy(list[1:], list[:i])
			list[0] = u
		}
	}
	return list
}

// A result is what came of asking one server.
type result struct {
	msg []byte // nil for none
	err error
	of  int // which server
}

// good reports whether no other server is needed: the name is there, or surely not.
func (r *result) good() bool {
	return r.err == nil && (code(r.msg) == success || code(r.msg) == noName)
}

// inquire asks one server after the other, and goes on to hear those that were asked before. The first answer counts; one that says no
// more than that the server cannot answer does when no other comes.
func (s *Resolver) inquire(q *question, servers []Server, tcp bool) (poor []byte) {
	if len(servers) == 0 {
		return nil
	}
	turns := len(servers)
	if turns == 1 && !tcp {
		turns = 2 // packets are lost
	}
	a := asking{q: q, tcp: tcp, until: time.Now().Add(patience), results: make(chan result, turns)}
	defer a.close()
	late := time.NewTimer(patience)
	defer late.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	asked, failed := 0, 0
	for {
		select {
		case <-next.C:
			if asked == turns {
				continue
			}
			if a.ask(s, servers, asked%len(servers)) {
				next.Reset(turn)
			}
			asked++
		case r := <-a.results:
			if r.good() {
				if r.of > 0 && poor == nil && !tcp {
					s.prefer(servers[r.of])
				}
				return r.msg
			}
			if r.err == nil {
				poor = r.msg
			}
			if failed++; failed == turns {
				return poor
			}
			if failed == asked {
				next.Reset(0)
			}
		case <-late.C:
			return poor
		case <-s.closing:
			return nil
		}
	}
}

// asking is a question while servers have it.
type asking struct {
	q       *question
	tcp     bool
	until   time.Time
	results chan result // with room for one of each turn
	open    []*os.File
}

// ask sends the question to the server i, whose answer comes as a result, and reports whether that went.
func (a *asking) ask(s *Resolver, servers []Server, i int) bool {
	f, err := s.dial(servers[i], a.tcp, a.q.mark)
	if err != nil {
		a.results <- result{nil, err, i}
		return false
	}
	a.open = append(a.open, f)
	f.SetDeadline(a.until)
	go func() {
		msg, err := query(f, a.q, a.tcp)
		a.results <- result{msg, err, i}
	}()
	return true
}

// close ends the waiting for those that have not answered.
func (a *asking) close() {
	for _, f := range a.open {
		f.Close()
	}
}

func (s *Resolver) prefer(u Server) {
	s.mu.Lock()
	s.good, s.goodFor = u, time.Now().Add(preferred)
	s.mu.Unlock()
}

// dial makes a socket that is connected to a server: the kernel takes nothing from any other, and gives it a port of its own.
func (s *Resolver) dial(u Server, tcp bool, mark uint32) (*os.File, error) {
	kind := unix.SOCK_DGRAM
	if tcp {
		kind = unix.SOCK_STREAM
	}
	family, to := u.sockaddr()
	ns := s.sockets.Inner
	if u.Host {
		ns = s.outer
	}
	fd := -1
	err := within(ns, s.outer, func() (err error) {
		fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err == nil && mark != 0 && !u.Host {
			if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
				unix.Close(fd)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "server"), nil
}

func (u Server) sockaddr() (family int, to unix.Sockaddr) {
	if u.Addr.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(u.Port), Addr: u.Addr.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(u.Port), Addr: u.Addr.As16(), ZoneId: u.Scope}
}

// errStrange is what is no answer to the question.
var errStrange = errors.New("no answer")

// connected waits for the connection of a socket.
func connected(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	waited := raw.Write(func(fd uintptr) bool {
		if _, err = unix.Getpeername(int(fd)); err != unix.ENOTCONN {
			return true
		}
		var failed int
		if failed, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && failed != 0 {
			err = unix.Errno(failed)
		}
		return err != nil
	})
	return errors.Join(waited, err)
}

// query asks one server by a socket, and returns its answer. What is none to the question is passed over.
func query(f *os.File, q *question, tcp bool) ([]byte, error) {
	var random [2]byte
	if _, err := unix.Getrandom(random[:], 0); err != nil {
		return nil, err
	}
	id := binary.BigEndian.Uint16(random[:])
	msg := q.ask(make([]byte, 0, 2*plainSize), id)
	if tcp {
		if err := connected(f); err != nil {
			return nil, err
		}
		if _, err := f.Write(framed(msg)); err != nil {
			return nil, err
		}
		buf := make([]byte, safeSize)
		msg, err := readMessage(f, &buf, patience, maxSize)
		if err != nil {
			return nil, err
		}
		if msg, ok := q.fit(msg, id); ok {
			return msg, nil
		}
		return nil, errStrange
	}
	if _, err := f.Write(msg); err != nil {
		return nil, err
	}
	buf := make([]byte, safeSize)
	for range maxStrange {
		n, err := f.Read(buf)
		if err != nil && err != io.EOF { // which a packet of no bytes looks like
			return nil, err
		}
		if msg, ok := q.fit(buf[:n], id); ok {
			return msg, nil
		}
	}
	return nil, errStrange
}
