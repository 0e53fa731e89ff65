package network

import (
	"time"

	"golang.org/x/sys/unix"
)

// A session is one sender of UDP.
type session struct {
	fd   int
	l    *listener
	from unix.Sockaddr
	key  string
	oob  []byte // has the answers come from the address that was asked
	last time.Time
}

// forgetIdle gives up the senders of UDP that were silent for too long.
func (r *Relay) forgetIdle() {
	for _, s := range r.sessions {
		if r.now.Sub(s.last) > sessionIdle {
			r.forget(s)
		}
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
	if len(l.sessions) >= r.senders-len(r.sessions) {
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
