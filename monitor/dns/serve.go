package dns

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/netip"
	"golang.org/x/sys/unix"
)

// What is done at once, at most.
const (
	maxForwards    = 128 // questions on their way to others, two or three sockets each
	maxTCPForwards = 32  // of them by TCP, of which an answer can have 64 kB
	maxConns       = 32  // connections of clients
	maxPipelined   = 16  // of a connection's questions on their way
	maxQuestion    = 4096
)

// How long is waited.
const (
	idle   = 10 * time.Second // for a connection's next question
	moment = 5 * time.Second  // for the rest of one, and for a client to take an answer
)

// After many questions memory is given back, when it has been quiet.
const (
	many  = 100
	quiet = 5 * time.Second
)

// A Resolver answers at its sockets, until it is closed.
type Resolver struct {
	names   Names
	sockets Sockets
	outer   int // the host's network namespace
	udp     *os.File
	tcp     *os.File

	forwards    chan struct{} // has an element for each that is on its way
	tcpForwards chan struct{}
	busy        atomic.Int32   // questions on their way, and connections
	since       atomic.Int32   // questions since memory was given back
	turn        atomic.Uint32  // of members of a service, to be the first one
	loops       sync.WaitGroup // who reads
	work        sync.WaitGroup // all others
	closing     chan struct{}

	mu      sync.Mutex
	conns   map[*os.File]time.Time // of clients, and when each asked last
	good    Server                 // who answered when those before it did not,
	goodFor time.Time              // and until when it is asked first
}

// serve begins to read.
func (s *Resolver) serve() {
	s.loops.Go(s.serveUDP)
	s.loops.Go(s.serveTCP)
}

// serveUDP answers at once what can be, and has the rest fetched. A flood waits in the socket, whose size is the kernel's.
func (s *Resolver) serveUDP() {
	raw, err := s.udp.SyscallConn()
	if err != nil {
		return
	}
	buf, out := make([]byte, maxQuestion), make([]byte, 0, maxQuestion)
	// The kernel has a socket that was bound before its namespace had any route send from any address: so each answer says which.
	source := unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: Address().As4()})
	send := func(fd uintptr, msg []byte, to syscall.Sockaddr) {
		if msg != nil {
			syscall.Sendmsg(int(fd), msg, source, to, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) // lost as a packet is
		}
	}
	one := func(fd uintptr) (done bool) {
		n, from, err := syscall.Recvfrom(int(fd), buf, 0) // package unix would ask the kernel for the socket's protocol each time
		if err == unix.EAGAIN || err == unix.EINTR {
			return false
		}
		if err != nil {
			return true // an answer did not reach a client; there is nothing else that a bound socket tells
		}
		q, msg, far := s.local(buf[:n], out, false)
		if !far {
			send(fd, msg, from)
			return true
		}
		s.fetch(q.keep(), false, func(msg []byte) {
			raw.Control(func(fd uintptr) { send(fd, msg, from) })
		})
		return true
	}
	for raw.Read(one) == nil {
	}
}

// keep is the question, without the buffers that it came in and that its answer was to be made in.
func (q question) keep() question {
	q.raw, q.out = append([]byte(nil), q.raw...), nil
	return q
}

// local answers a message, in the buffer out if that is large enough; nil is silence. It is far where others have to be asked.
func (s *Resolver) local(msg, out []byte, tcp bool) (q question, answer []byte, far bool) {
	if s.since.Add(1) == many {
		time.AfterFunc(quiet, s.tidy)
	}
	q, code, err := parse(msg, tcp)
	q.out = out
	switch {
	case err != nil:
		return q, nil, false
	case code != success:
		return q, q.begin(code, 0).end(), false
	}
	if g := s.names.Gate(); g != nil {
		q.gate = g
		answer, far = s.guarded(g, &q)
		return q, answer, far
	}
	if r := s.known(&q); r != nil {
		return q, r.end(), false
	}
	return q, nil, true
}

// known answers what is the networks' own; nil where it is not.
func (s *Resolver) known(q *question) *reply {
	if !q.plain {
		return nil
	}
	if p, more, ok := zone(q.name); ok {
		name, ours := s.names.Reverse(p)
		if !ours {
			return nil
		}
		return q.pointer(p, more, name)
	}
	if q.name == "" {
		return nil
	}
	addrs, known := s.names.Lookup(q.name)
	if !known {
		return nil
	}
	// Of several members each is the first one as often. Where a name is there, and no address of that kind, so says the answer: "no such
	// name" would hold for all kinds.
	r := q.begin(success, flagAuthority)
	first := int(s.turn.Add(1) & 0xffff)
	for i := range addrs {
		a := addrs[(first+i)%len(addrs)]
		if q.wants(a) && !r.address(a) {
			break
		}
	}
	return r
}

// wants reports whether an address is an answer.
func (q *question) wants(a netip.Addr) bool {
	return q.kind == typeANY || q.kind == typeA && a.Is4() || q.kind == typeAAAA && a.Is6()
}

// pointer answers with the name of an address, or of a zone of them.
func (q *question) pointer(p netip.Prefix, more bool, name string) *reply {
	whole := p.IsSingleIP()
	switch {
	case more, whole && name == "":
		return q.begin(noName, flagAuthority)
	case whole && (q.kind == typePTR || q.kind == typeANY):
		r := q.begin(success, flagAuthority)
		if data, ok := wire(name); ok {
			r.add(typePTR, data)
		}
		return r
	}
	return q.begin(success, flagAuthority)
}

// fetch has others asked, and gives their answer to done; nil when the resolver is closed meanwhile. That too many are on their way
// is told at once: whoever asks in a circle comes to its end.
func (s *Resolver) fetch(q question, tcp bool, done func([]byte)) {
	limits := []chan struct{}{s.forwards}
	if tcp {
		limits = append(limits, s.tcpForwards)
	}
	for i, l := range limits {
		select {
		case l <- struct{}{}:
		default:
			for _, l := range limits[:i] {
				<-l
			}
			done(q.begin(failure, 0).end())
			return
		}
	}
	s.busy.Add(1)
	s.work.Go(func() {
		defer func() {
			s.busy.Add(-1)
			for _, l := range limits {
				<-l
			}
		}()
		msg := s.forward(&q, tcp)
		if msg == nil {
			msg = q.begin(failure, 0).end()
		}
		select {
		case <-s.closing:
			msg = nil
		default:
		}
		done(msg)
	})
}

// serveTCP takes connections.
func (s *Resolver) serveTCP() {
	raw, err := s.tcp.SyscallConn()
	if err != nil {
		return
	}
	for {
		fd := -1
		waited := raw.Read(func(l uintptr) bool {
			fd, _, err = unix.Accept4(int(l), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return err != unix.EAGAIN && err != unix.EINTR && err != unix.ECONNABORTED
		})
		if waited != nil {
			return
		}
		if err != nil { // no descriptors, or no memory: the next one may find some
			select {
			case <-s.closing:
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		s.addConn(os.NewFile(uintptr(fd), "client"))
	}
}

// addConn serves a connection. Where there are too many, the one goes that has asked nothing for the longest time.
func (s *Resolver) addConn(f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		f.Close()
		return
	}
	if len(s.conns) >= maxConns {
		var oldest *os.File
		for c, at := range s.conns {
			if oldest == nil || at.Before(s.conns[oldest]) {
				oldest = c
			}
		}
		delete(s.conns, oldest)
		oldest.Close()
	}
	s.conns[f] = time.Now()
	s.busy.Add(1)
	s.work.Go(func() { s.converse(f) })
}

// converse answers the questions of a connection, each as soon as its answer is there.
func (s *Resolver) converse(f *os.File) {
	pending := make(chan struct{}, maxPipelined)
	defer func() {
		for range maxPipelined {
			pending <- struct{}{} // who asked and then closed its side waits for answers
		}
		s.mu.Lock()
		if s.conns != nil {
			delete(s.conns, f)
		}
		s.mu.Unlock()
		f.Close()
		s.busy.Add(-1)
	}()
	var writing sync.Mutex
	send := func(msg []byte) {
		if msg == nil {
			return
		}
		writing.Lock()
		defer writing.Unlock()
		f.SetWriteDeadline(time.Now().Add(moment))
		if _, err := f.Write(framed(msg)); err != nil {
			f.Close() // it cannot be told where the next one begins
		}
	}
	buf := make([]byte, plainSize)
	for {
		msg, err := readMessage(f, &buf, idle, maxQuestion)
		if err != nil {
			return
		}
		s.mu.Lock()
		if _, there := s.conns[f]; there {
			s.conns[f] = time.Now()
		}
		s.mu.Unlock()
		q, answer, far := s.local(msg, nil, true)
		switch {
		case far:
			pending <- struct{}{}
			s.fetch(q.keep(), true, func(msg []byte) { send(msg); <-pending })
		case answer != nil:
			send(answer)
		default:
			return // no client says such a thing
		}
	}
}

// framed is a message with its length before it.
func framed(msg []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(msg)), uint16(len(msg))), msg...)
}

// errTooLong is a message that nobody needs to read.
var errTooLong = errors.New("a message is too long")

// readMessage reads one that its length stands before, into a buffer that grows. Its beginning is waited for for as long as patience is, and
// the rest of it for a moment.
func readMessage(f *os.File, buf *[]byte, patience time.Duration, most int) ([]byte, error) {
	var size [2]byte
	f.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(f, size[:1]); err != nil {
		return nil, err
	}
	f.SetReadDeadline(time.Now().Add(min(patience, moment)))
	if _, err := io.ReadFull(f, size[1:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > most {
		return nil, errTooLong
	}
	if n > len(*buf) {
		*buf = make([]byte, n)
	}
	_, err := io.ReadFull(f, (*buf)[:n])
	return (*buf)[:n], err
}
