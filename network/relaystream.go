package network

import (
	"time"

	"golang.org/x/sys/unix"
)

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

// watch has epoll tell of changes at a stream's descriptor, once each.
func (r *Relay) watch(fd int) error {
	return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: int32(fd)})
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
	endsByReset(fd)
	unix.Close(fd)
}

// endsByReset has the other end of a connection get a reset when it is closed.
func endsByReset(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
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
			endsByReset(fd)
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
