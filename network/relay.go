package network

import (
	"os"
	"sync"
	"time"

	"github.com/kakuri/kakuri/netip"
	"golang.org/x/sys/unix"
)

// A Relay passes on what comes to sockets of [Rules.HoldPort]: a stream by splice(2), so that no byte of it comes to this process, and
// packets of UDP one by one. The container sees this machine's address as the sender's, unless Dress makes it another. One goroutine
// does it all; with nothing to pass on it sleeps. A socket may have as many connections, and senders of UDP, as are free: so whoever takes all that one port
// has to give leaves as much to the next one. Of a port that has no more to give, who sends from an address that has fewer gets a place of the one that has
// most; further connections wait.
type Relay struct {
	// Dress, when set before the first Serve, is given each socket on the container's side before it connects, with who sent. Where it gives
	// false, or the socket then cannot connect, a new one is taken as it is.
	Dress func(fd int, from unix.Sockaddr) bool

	epoll, wake int
	done        chan struct{}
	asked       chan struct{} // by CloseIdle
	goesOn      chan struct{} // the answer, unless it is done

	mu        sync.Mutex // of what Serve adds, and others ask for
	listeners map[int]*listener
	stops     []stop
	closing   bool

	// The goroutine's own.
	streams  map[int]*stream  // by either descriptor
	sessions map[int]*session // by descriptor
	busy     []*stream        // those that were left with more to do
	came     []int            // listeners that have somebody
	paused   int              // how many sockets take no more connections until one ends
	waiting  int              // connections that were taken and have no place
	now      time.Time        // of this turn
	pipes    [][2]int         // empty ones, for streams that have something to move
	most     int              // streams at once
	senders  int              // of UDP at once
	buf, oob []byte
}

const (
	relayStreams  = 4096             // at once, as far as its descriptors reach
	relaySessions = 1024             // senders of UDP, as far as these reach; of one port's and the address that has most there, the one that was silent longest goes
	sessionIdle   = 90 * time.Second // of UDP, then a sender is forgotten
	spliceMax     = 1 << 20
	pipeSize      = 256 << 10
	pipesKept     = 16
	keepIdle      = 600 // seconds of silence, then a stream's ends are asked whether they are there
	keepInterval  = 30  // seconds
	keepCount     = 4
)

// A stop is a socket that is served no more; done is closed then.
type stop struct {
	fd   int
	done chan struct{}
}

type listener struct {
	fd       int
	udp      bool
	target   unix.Sockaddr
	family   int // of the target
	sessions map[string]*session
	streams  int
	of       map[sender]int // streams of each
	waiting  []caller
	paused   bool
}

// A sender is whom places are counted for: an address of IPv4, or what a customer has of IPv6, /64.
type sender [16]byte

func senderOf(from unix.Sockaddr) (s sender) {
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		s[10], s[11] = 0xff, 0xff
		copy(s[12:], from.Addr[:])
	case *unix.SockaddrInet6:
		s = from.Addr
		if !netip.AddrFrom16(from.Addr).Is4In6() {
			clear(s[8:])
		}
	}
	return s
}

// heaviest is who has most, and how many.
func heaviest(of map[sender]int) (who sender, most int) {
	for s, n := range of {
		if n > most {
			who, most = s, n
		}
	}
	return who, most
}

// NewRelay starts one, with nothing to pass on, which has so many descriptors at most, or a few: whoever sends to it must not take those that all else in this process needs.
func NewRelay(descriptors int) (*Relay, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)})
	}
	if err != nil {
		unix.Close(epoll)
		if wake > 0 {
			unix.Close(wake)
		}
		return nil, os.NewSyscallError("eventfd", err)
	}
	r := &Relay{epoll: epoll, wake: wake, done: make(chan struct{}), asked: make(chan struct{}, 1), goesOn: make(chan struct{}), listeners: map[int]*listener{}, streams: map[int]*stream{}, sessions: map[int]*session{}}
	r.senders = min(relaySessions, max(1, descriptors/4))
	r.most = min(relayStreams, max(1, (descriptors-r.senders-2*pipesKept)/6)) // one that moves takes six
	go r.run()
	return r, nil
}

// Serve passes on what comes to a port's socket to the container's port. The descriptor stays the caller's, and
// is open until after Close.
func (r *Relay) Serve(fd int, proto string, to netip.Addr, port uint16) error {
	return r.ServeOn(fd, proto, to, port, 0)
}

// ServeOn is Serve to an address on the device of that number, which one that is link-local needs; 0 is any.
func (r *Relay) ServeOn(fd int, proto string, to netip.Addr, port uint16, device uint32) error {
	target := sockaddr(to, port)
	if six, ok := target.(*unix.SockaddrInet6); ok {
		six.ZoneId = device
	}
	l := &listener{fd: fd, udp: proto == "udp", target: target, family: unix.AF_INET, sessions: map[string]*session{}, of: map[sender]int{}}
	if to.Is6() {
		l.family = unix.AF_INET6
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listeners[fd] = l
	err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	if err != nil {
		delete(r.listeners, fd)
	}
	return os.NewSyscallError("epoll_ctl", err)
}

// Stop ends what Serve began for a socket, and all that passes by it.
func (r *Relay) Stop(fd int) {
	done := make(chan struct{})
	r.mu.Lock()
	r.stops = append(r.stops, stop{fd, done})
	r.mu.Unlock()
	r.rouse()
	select {
	case <-done:
	case <-r.done:
	}
}

func (r *Relay) stop(fd int) {
	r.mu.Lock()
	l := r.listeners[fd]
	delete(r.listeners, fd)
	r.mu.Unlock()
	if l == nil {
		return
	}
	unix.EpollCtl(r.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	if l.paused {
		r.paused--
	}
	for _, c := range l.waiting {
		r.waiting--
		reset(c.fd)
	}
	l.waiting = nil
	for _, s := range l.sessions {
		r.forget(s)
	}
	for fd, s := range r.streams {
		if s.l == l && fd == s.fd[0] {
			r.abort(s)
		}
	}
}

// Close ends all connections, and the relay.
func (r *Relay) Close() {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	r.rouse()
	<-r.done
}

// CloseIdle is Close where nothing is passed on at this moment. Else it reports false, and the relay goes on.
func (r *Relay) CloseIdle() bool {
	r.asked <- struct{}{}
	r.rouse()
	select {
	case <-r.done:
		return true
	case <-r.goesOn:
		return false
	}
}

func (r *Relay) rouse() {
	unix.Write(r.wake, []byte{1, 0, 0, 0, 0, 0, 0, 1}) // not 0 in either order
}

// roused reports whether the relay goes on, as it does where it was asked for an end that would cut somebody off.
func (r *Relay) roused() bool {
	unix.Read(r.wake, make([]byte, 8))
	r.mu.Lock()
	stops, closing := r.stops, r.closing
	r.stops = nil
	r.mu.Unlock()
	for _, s := range stops {
		r.stop(s.fd)
		close(s.done)
	}
	select {
	case <-r.asked:
		if len(r.streams)+len(r.sessions)+r.waiting == 0 {
			return false
		}
		r.goesOn <- struct{}{}
	default:
	}
	return !closing
}

func (r *Relay) run() {
	defer close(r.done)
	defer r.closeAll()
	events := make([]unix.EpollEvent, 64)
	swept := time.Now()
	for {
		n, err := unix.EpollWait(r.epoll, events, r.patience())
		if err != nil && err != unix.EINTR {
			return
		}
		r.now = time.Now()
		r.pumpBusy()
		if n == 0 && r.paused > 0 {
			r.resume()
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) != r.wake {
				r.event(int(e.Fd), e.Events)
			} else if !r.roused() {
				return
			}
		}
		// Who is new comes last: a place that is made for it has the numbers of descriptors that were closed, of which these events may still tell.
		r.welcome()
		if r.waiting > 0 {
			r.seat()
		}
		if len(r.sessions) > 0 && r.now.Sub(swept) > sessionIdle/4 {
			swept = r.now
			r.forgetIdle()
		}
	}
}

// pumpBusy goes on with the streams that were left with more to do.
func (r *Relay) pumpBusy() {
	busy := r.busy
	r.busy = nil
	for _, s := range busy {
		if r.streams[s.fd[0]] == s {
			r.pump(s)
		}
	}
}

// event does what a descriptor is ready for. That of a listener has its turn in welcome.
func (r *Relay) event(fd int, events uint32) {
	if s := r.streams[fd]; s != nil {
		r.move(s, fd, events)
	} else if s := r.sessions[fd]; s != nil {
		r.answer(s)
	} else {
		r.came = append(r.came, fd)
	}
}

// patience is how long a turn waits for events, in milliseconds as epoll_wait(2) takes them, -1 without end.
func (r *Relay) patience() int {
	switch {
	case len(r.busy) > 0:
		return 0
	case r.paused > 0:
		return 100
	case len(r.sessions) > 0:
		return int(sessionIdle / 4 / time.Millisecond)
	}
	return -1
}

// welcome takes what came to listeners.
func (r *Relay) welcome() {
	for _, fd := range r.came {
		r.mu.Lock()
		l := r.listeners[fd]
		r.mu.Unlock()
		switch {
		case l == nil:
		case l.udp:
			r.packets(l)
		default:
			r.accept(l)
		}
	}
	r.came = r.came[:0]
}

// closeAll ends all that is open, when nothing runs any more.
func (r *Relay) closeAll() {
	for _, s := range r.streams {
		r.end(s)
	}
	for _, s := range r.sessions {
		unix.Close(s.fd)
	}
	for _, l := range r.listeners {
		for _, c := range l.waiting {
			reset(c.fd)
		}
	}
	for _, p := range r.pipes {
		closePipe(p)
	}
	unix.Close(r.epoll)
	unix.Close(r.wake)
}

// pause leaves further connections to the kernel's queue.
func (r *Relay) pause(l *listener) {
	l.paused = true
	r.paused++
	r.listen(l, 0)
}

// resume takes connections again, as far as each socket may have more.
func (r *Relay) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.listeners {
		if l.paused {
			l.paused = false
			r.listen(l, unix.EPOLLIN)
		}
	}
	r.paused = 0
}

func (r *Relay) listen(l *listener, events uint32) {
	unix.EpollCtl(r.epoll, unix.EPOLL_CTL_MOD, l.fd, &unix.EpollEvent{Events: events, Fd: int32(l.fd)})
}

// connect makes a socket on the container's side that is connected, or about to be.
func (r *Relay) connect(l *listener, from unix.Sockaddr) (int, error) {
	kind, proto := unix.SOCK_STREAM, unix.IPPROTO_TCP
	if l.udp {
		kind, proto = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	}
	for dressed := r.Dress != nil; ; dressed = false {
		fd, err := unix.Socket(l.family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
		if err != nil {
			return -1, err
		}
		if !dressed || r.Dress(fd, from) {
			if err = unix.Connect(fd, l.target); err == nil || err == unix.EINPROGRESS {
				return fd, nil
			}
		}
		unix.Close(fd)
		if !dressed {
			return -1, err
		}
	}
}
