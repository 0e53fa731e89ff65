package network

import (
	"os"
	"sync"
	"time"

	"github.com/kakuri/kakuri/network/netip"
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
	paused   int              // how many sockets take no more connections until one ends
	waiting  int              // connections that were taken and have no place
	now      time.Time        // of this turn
	pipes    [][2]int         // empty ones, for streams that have something to move
	most     int              // streams at once
	buf, oob []byte
}

const (
	relayStreams  = 4096             // at once, as far as descriptors reach
	relaySessions = 1024             // senders of UDP; of one port's and the address that has most there, the one that was silent longest goes
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

// A caller is a connection that was taken and has no place yet.
type caller struct {
	fd   int
	from unix.Sockaddr
}

// A stream is one connection with the one that it is passed on by.
type stream struct {
	l         *listener
	from      sender
	last      time.Time // that something moved, or might have
	fd        [2]int    // who asks, the container
	way       [2]oneWay
	connected bool
}

// oneWay is a stream's bytes from fd[i] to fd[1-i].
type oneWay struct {
	pipe       [2]int // -1: none, nothing is on its way
	in         int    // bytes in the pipe
	ended, cut bool   // nothing more to read; the other side was told
}

// A session is one sender of UDP.
type session struct {
	fd   int
	l    *listener
	from unix.Sockaddr
	key  string
	oob  []byte // has the answers come from the address that was asked
	last time.Time
}

// NewRelay starts one, with nothing to pass on.
func NewRelay() (*Relay, error) {
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
	r := &Relay{epoll: epoll, wake: wake, done: make(chan struct{}), asked: make(chan struct{}, 1), goesOn: make(chan struct{}), most: mostStreams(), listeners: map[int]*listener{}, streams: map[int]*stream{}, sessions: map[int]*session{}}
	go r.run()
	return r, nil
}

// mostStreams leaves descriptors for all else: a stream that moves takes six.
func mostStreams() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil || l.Cur > 8*relayStreams {
		return relayStreams
	}
	return max(1, (int(l.Cur)-64)/6)
}

// Serve passes on what comes to a port's socket to the container's port. The descriptor stays the caller's, and
// is open until after Close.
func (r *Relay) Serve(fd int, proto string, to netip.Addr, port uint16) error {
	l := &listener{fd: fd, udp: proto == "udp", target: sockaddr(to, port), family: unix.AF_INET, sessions: map[string]*session{}, of: map[sender]int{}}
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
	var came []int // listeners
	swept := time.Now()
	for {
		n, err := unix.EpollWait(r.epoll, events, r.patience())
		if err != nil && err != unix.EINTR {
			return
		}
		r.now = time.Now()
		busy := r.busy
		r.busy = nil
		for _, s := range busy {
			if r.streams[s.fd[0]] == s {
				r.pump(s)
			}
		}
		if n == 0 && r.paused > 0 {
			r.resume()
		}
		for _, e := range events[:max(n, 0)] {
			fd := int(e.Fd)
			if fd == r.wake {
				if r.roused() {
					continue
				}
				return
			}
			if s := r.streams[fd]; s != nil {
				r.move(s, fd, e.Events)
			} else if s := r.sessions[fd]; s != nil {
				r.answer(s)
			} else {
				came = append(came, fd)
			}
		}
		// Who is new comes last: a place that is made for it has the numbers of descriptors that were closed, of which these events may still tell.
		r.welcome(came)
		came = came[:0]
		if r.waiting > 0 {
			r.seat()
		}
		if len(r.sessions) > 0 && r.now.Sub(swept) > sessionIdle/4 {
			swept = r.now
			r.forgetIdle()
		}
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
func (r *Relay) welcome(came []int) {
	for _, fd := range came {
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
}

// forgetIdle gives up the senders of UDP that were silent for too long.
func (r *Relay) forgetIdle() {
	for _, s := range r.sessions {
		if r.now.Sub(s.last) > sessionIdle {
			r.forget(s)
		}
	}
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

// watch has epoll tell of changes at a stream's descriptor, once each.
func (r *Relay) watch(fd int) error {
	return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: int32(fd)})
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

func (r *Relay) accept(l *listener) {
	fd, from, err := unix.Accept4(l.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	switch err {
	case nil:
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		r.pause(l)
		return
	default:
		return
	}
	switch c := (caller{fd, from}); {
	case r.hasRoom(l) || r.makeRoom(l, senderOf(from)):
		r.begin(l, c)
	case len(l.waiting) < max(2, r.most/16)-r.waiting: // shared as places are
		l.waiting = append(l.waiting, c)
		r.waiting++
	default:
		reset(fd)
	}
}

// hasRoom reports whether a socket may have one more connection.
func (r *Relay) hasRoom(l *listener) bool { return l.streams < r.most-len(r.streams)/2 }

// makeRoom ends a connection of the sender that has most of a socket's, for another one that has fewer also with what it asks for: the one that was silent longest.
// Who sent can be seen of connections only that were taken, so none is left to the kernel's queue, where those of one would be before those of all others.
func (r *Relay) makeRoom(l *listener, from sender) bool {
	who, most := heaviest(l.of)
	if l.of[from]+1 >= most {
		return false
	}
	var oldest *stream
	for _, s := range r.streams {
		if s.l == l && s.from == who && (oldest == nil || s.last.Before(oldest.last)) {
			oldest = s
		}
	}
	r.abort(oldest)
	return true
}

// seat gives places that became free to those who wait.
func (r *Relay) seat() {
	r.mu.Lock()
	var list []*listener
	for _, l := range r.listeners {
		if len(l.waiting) > 0 {
			list = append(list, l)
		}
	}
	r.mu.Unlock()
	for _, l := range list {
		for len(l.waiting) > 0 && r.hasRoom(l) {
			c := l.waiting[0]
			l.waiting = l.waiting[1:]
			r.waiting--
			r.begin(l, c)
		}
	}
}

// begin passes a connection on.
func (r *Relay) begin(l *listener, c caller) {
	s := &stream{l: l, from: senderOf(c.from), last: r.now, fd: [2]int{c.fd, -1}, way: [2]oneWay{{pipe: [2]int{-1, -1}}, {pipe: [2]int{-1, -1}}}}
	var err error
	s.fd[1], err = r.connect(l, c.from)
	for i := range s.fd {
		if err == nil {
			keepAlive(s.fd[i])
			err = r.watch(s.fd[i])
		}
	}
	r.streams[s.fd[0]] = s
	l.streams++
	l.of[s.from]++
	if s.fd[1] >= 0 {
		r.streams[s.fd[1]] = s
	}
	if err != nil {
		r.abort(s)
	}
}

// reset closes a connection as one that failed.
func reset(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(fd)
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

// keepAlive has the kernel find out that the other end has vanished: tcp(7).
func keepAlive(fd int) {
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	for option, v := range map[int]int{unix.TCP_NODELAY: 1, unix.TCP_KEEPIDLE: keepIdle, unix.TCP_KEEPINTVL: keepInterval, unix.TCP_KEEPCNT: keepCount} {
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, option, v)
	}
}

// move goes on with a stream of which epoll told.
func (r *Relay) move(s *stream, fd int, events uint32) {
	if !s.connected {
		if fd != s.fd[1] {
			return // its bytes wait in the kernel
		}
		if errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
			r.abort(s)
			return
		}
		if events&(unix.EPOLLOUT|unix.EPOLLIN) == 0 || events&unix.EPOLLHUP != 0 && events&unix.EPOLLIN == 0 {
			return
		}
		s.connected = true
	}
	if events&unix.EPOLLERR != 0 {
		r.abort(s) // a reset: no read tells of it as long as its bytes find no room on the other side
		return
	}
	r.pump(s)
}

// pump moves what can be moved, of one stream not all that there is: others have their turn.
func (r *Relay) pump(s *stream) {
	s.last = r.now
	for range 16 {
		moved := false
		for i := range s.way {
			some, ok := r.carry(s, i)
			if !ok {
				r.abort(s)
				return
			}
			moved = moved || some
		}
		if s.way[0].cut && s.way[1].cut {
			r.end(s)
			return
		}
		if !moved {
			for i := range s.way {
				r.giveBack(&s.way[i])
			}
			return
		}
	}
	r.busy = append(r.busy, s)
}

// carry moves a piece one way, from a stream's socket i to the pipe and from there to the other socket, and tells that one of
// the end. It is not ok where a socket has failed, or there is no pipe.
func (r *Relay) carry(s *stream, i int) (moved, ok bool) {
	const flags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
	w := &s.way[i]
	if !w.ended {
		if !r.lend(w) {
			return moved, false
		}
		n, err := unix.Splice(s.fd[i], nil, w.pipe[1], nil, spliceMax, flags)
		switch {
		case err == nil && n > 0:
			w.in += int(n)
			moved = true
		case err == nil:
			w.ended, moved = true, true
		case err != unix.EAGAIN && err != unix.EINTR:
			return moved, false
		}
	}
	if w.in > 0 {
		n, err := unix.Splice(w.pipe[0], nil, s.fd[1-i], nil, w.in, flags)
		switch {
		case err == nil:
			w.in -= int(n)
			moved = moved || n > 0
		case err != unix.EAGAIN && err != unix.EINTR:
			return moved, false
		}
	}
	if w.ended && !w.cut && w.in == 0 {
		w.cut = true
		unix.Shutdown(s.fd[1-i], unix.SHUT_WR)
	}
	return moved, true
}

// lend gives one way of a stream a pipe, if it has none: a stream that is silent has none, so that thousands of them take nothing of what the
// kernel lets a user have of pipes.
func (r *Relay) lend(w *oneWay) bool {
	if w.pipe[0] >= 0 {
		return true
	}
	if n := len(r.pipes); n > 0 {
		w.pipe, r.pipes = r.pipes[n-1], r.pipes[:n-1]
		return true
	}
	var p [2]int
	if unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return false
	}
	unix.FcntlInt(uintptr(p[0]), unix.F_SETPIPE_SZ, pipeSize) // smaller where it may not be
	w.pipe = p
	return true
}

func (r *Relay) giveBack(w *oneWay) {
	if w.pipe[0] < 0 || w.in > 0 {
		return
	}
	if len(r.pipes) < pipesKept {
		r.pipes = append(r.pipes, w.pipe)
	} else {
		closePipe(w.pipe)
	}
	w.pipe = [2]int{-1, -1}
}

func closePipe(p [2]int) {
	unix.Close(p[0])
	unix.Close(p[1])
}

// abort ends a stream as one that failed: who asked gets a reset.
func (r *Relay) abort(s *stream) {
	for _, fd := range s.fd {
		if fd >= 0 {
			unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		}
	}
	r.end(s)
}

func (r *Relay) end(s *stream) {
	s.l.streams--
	if s.l.of[s.from]--; s.l.of[s.from] == 0 {
		delete(s.l.of, s.from)
	}
	for i, fd := range s.fd {
		if fd >= 0 {
			delete(r.streams, fd)
			unix.Close(fd)
		}
		s.fd[i] = -1
		if w := &s.way[i]; w.pipe[0] >= 0 {
			if w.in == 0 {
				r.giveBack(w)
			} else {
				closePipe(w.pipe)
			}
			w.pipe = [2]int{-1, -1}
		}
	}
	if r.paused > 0 {
		r.resume()
	}
}

// packets passes on what came to a socket of UDP, some at a time.
func (r *Relay) packets(l *listener) {
	if r.buf == nil {
		r.buf, r.oob = make([]byte, 64<<10), make([]byte, 256)
	}
	for range 64 {
		n, oobn, _, from, err := unix.Recvmsg(l.fd, r.buf, r.oob, 0)
		if err != nil {
			return
		}
		key := senderKey(from)
		s := l.sessions[key]
		if s == nil {
			if s = r.session(l, from, key, r.oob[:oobn]); s == nil {
				continue
			}
		}
		s.last = r.now
		unix.Write(s.fd, r.buf[:n]) // of UDP what cannot be sent is lost
	}
}

func senderKey(from unix.Sockaddr) string {
	var b []byte
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		b = append(from.Addr[:], byte(from.Port>>8), byte(from.Port))
	case *unix.SockaddrInet6:
		b = append(from.Addr[:], byte(from.Port>>8), byte(from.Port), byte(from.ZoneId), byte(from.ZoneId>>8))
	}
	return string(b)
}

// session makes a socket for a sender, of whom the container hears by it.
func (r *Relay) session(l *listener, from unix.Sockaddr, key string, oob []byte) *session {
	if len(l.sessions) >= relaySessions-len(r.sessions) {
		r.forget(r.oldest(l))
	}
	fd, err := r.connect(l, from)
	if err != nil {
		return nil
	}
	err = unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	if err != nil {
		unix.Close(fd)
		return nil
	}
	s := &session{fd: fd, l: l, from: from, key: key, oob: answerFrom(oob)}
	r.sessions[fd], l.sessions[key] = s, s
	return s
}

// oldest is who was silent longest, of those that send to a socket from the address that has most of them, or of all where it has none.
func (r *Relay) oldest(l *listener) (oldest *session) {
	older := func(s *session) {
		if oldest == nil || s.last.Before(oldest.last) {
			oldest = s
		}
	}
	of := map[sender]int{}
	for _, s := range l.sessions {
		of[senderOf(s.from)]++
	}
	_, most := heaviest(of)
	for _, s := range l.sessions {
		if of[senderOf(s.from)] == most {
			older(s)
		}
	}
	if oldest != nil {
		return oldest
	}
	for _, s := range r.sessions {
		older(s)
	}
	return oldest
}

// answerFrom makes of what says where a packet came to, what says where its answer comes from: ip(7), ipv6(7).
func answerFrom(oob []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[4:8])})
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: [16]byte(m.Data[:16])})
		}
	}
	return nil
}

// answer passes on what the container sent to a sender.
func (r *Relay) answer(s *session) {
	for range 64 {
		n, err := unix.Read(s.fd, r.buf)
		switch err {
		case nil:
			s.last = r.now
			unix.SendmsgN(s.l.fd, r.buf[:n], s.oob, s.from, unix.MSG_DONTWAIT)
		case unix.EAGAIN, unix.EINTR:
			return
		default:
			r.forget(s) // nobody is there, as the container's kernel says
			return
		}
	}
}

func (r *Relay) forget(s *session) {
	delete(r.sessions, s.fd)
	delete(s.l.sessions, s.key)
	unix.Close(s.fd)
}
