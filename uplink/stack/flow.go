package stack

import (
	"container/list"
	stdip "net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	flowIdle = 90 * time.Second
	nameIdle = 15 * time.Second // of questions for names, which have one answer
)

// A flowKey is who speaks to whom. Of ICMP both ports are the echo's identifier.
type flowKey struct {
	proto tcpip.TransportProtocolNumber
	id    stack.TransportEndpointID
}

// A flow is a socket for what one inside sends to one outside.
type flow struct {
	key   flowKey
	fd    int
	route *stack.Route // back inside
	last  time.Time
	place *list.Element // among all
	mine  *list.Element // among those of who sends
}

// flows are all of them. One goroutine reads their sockets into one buffer.
type flows struct {
	s           *stack.Stack
	most        int
	epoll, wake int
	done        chan struct{}

	mu     sync.Mutex
	byKey  map[flowKey]*flow
	byFD   map[int]*flow
	order  *list.List                   // the one that was silent longest first
	of     map[tcpip.Address]*list.List // the same of each address inside
	closed bool
}

func newFlows(s *stack.Stack, most int) (*flows, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epoll)
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)}); err != nil {
		unix.Close(epoll)
		unix.Close(wake)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	f := &flows{s: s, most: most, epoll: epoll, wake: wake, done: make(chan struct{}), byKey: map[flowKey]*flow{}, byFD: map[int]*flow{}, order: list.New(), of: map[tcpip.Address]*list.List{}}
	go f.run()
	return f, nil
}

func (f *flows) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	unix.Write(f.wake, []byte{1, 0, 0, 0, 0, 0, 0, 1})
	<-f.done
}

// send passes on what came from the device, and gives false where there is no way.
func (f *flows) send(key flowKey, b []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.byKey[key]
	if w == nil {
		var err error
		if w, err = f.open(key); err != nil {
			return false
		}
	}
	f.touch(w)
	if _, err := unix.Write(w.fd, b); err == unix.ECONNREFUSED {
		unix.Write(w.fd, b) // what an earlier one brought about
	}
	return true // what cannot be sent is lost
}

// touch notes that something passed.
func (f *flows) touch(w *flow) {
	w.last = time.Now()
	f.order.MoveToBack(w.place)
	f.of[w.key.id.RemoteAddress].MoveToBack(w.mine)
}

// makeRoom has place for one more of an address. As with a [share] it may have as many as are free, and loses one where it has those.
func (f *flows) makeRoom(a tcpip.Address) {
	for {
		free := f.most - f.order.Len()
		if own := f.of[a]; free > 0 && (own == nil || own.Len() < free) {
			return
		}
		f.lose(a)
	}
}

// lose forgets the flow of an address that was silent longest, or of all where it has none.
func (f *flows) lose(a tcpip.Address) {
	list := f.order
	if own := f.of[a]; own != nil {
		list = own
	}
	if e := list.Front(); e != nil {
		f.forget(e.Value.(*flow))
	}
}

func (f *flows) open(key flowKey) (*flow, error) {
	if f.closed {
		return nil, os.ErrClosed
	}
	f.makeRoom(key.id.RemoteAddress)
	to := ofStack(key.id.LocalAddress)
	domain, protocol, network := unix.AF_INET, unix.IPPROTO_UDP, ipv4.ProtocolNumber
	if to.Is6() {
		domain, network = unix.AF_INET6, ipv6.ProtocolNumber
	}
	port := key.id.LocalPort
	switch key.proto {
	case icmp.ProtocolNumber4:
		protocol, port = unix.IPPROTO_ICMP, 0
	case icmp.ProtocolNumber6:
		protocol, port = unix.IPPROTO_ICMPV6, 0
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err == unix.EMFILE && f.order.Len() > 0 {
		f.lose(key.id.RemoteAddress)
		fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	}
	if err != nil {
		return nil, err
	}
	if err = unix.Connect(fd, sockaddr(to, port)); err == nil {
		err = unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	route, failed := f.s.FindRoute(nic, key.id.LocalAddress, key.id.RemoteAddress, network, false)
	if failed != nil {
		unix.Close(fd)
		return nil, os.ErrInvalid
	}
	w := &flow{key: key, fd: fd, route: route}
	f.add(w)
	return w, nil
}

func (f *flows) add(w *flow) {
	a := w.key.id.RemoteAddress
	if f.of[a] == nil {
		f.of[a] = list.New()
	}
	w.place, w.mine = f.order.PushBack(w), f.of[a].PushBack(w)
	f.byKey[w.key], f.byFD[w.fd] = w, w
}

func sockaddr(a stdip.Addr, port uint16) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: int(port)}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: int(port)}
}

func (f *flows) forget(w *flow) {
	delete(f.byKey, w.key)
	delete(f.byFD, w.fd)
	f.order.Remove(w.place)
	own := f.of[w.key.id.RemoteAddress]
	if own.Remove(w.mine); own.Len() == 0 {
		delete(f.of, w.key.id.RemoteAddress)
	}
	unix.Close(w.fd)
	if w.route != nil {
		w.route.Release()
	}
}

// sweep forgets those that were silent for long.
func (f *flows) sweep(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for e := f.order.Front(); e != nil; {
		w := e.Value.(*flow)
		e = e.Next()
		silent := now.Sub(w.last)
		if silent > flowIdle || silent > nameIdle && w.key.proto == udp.ProtocolNumber && w.key.id.LocalPort == 53 {
			f.forget(w)
		}
		if silent < nameIdle {
			break
		}
	}
}

func (f *flows) run() {
	defer close(f.done)
	defer func() {
		f.mu.Lock()
		for _, w := range f.byFD {
			f.forget(w)
		}
		f.mu.Unlock()
		unix.Close(f.epoll)
		unix.Close(f.wake)
	}()
	events, buf := make([]unix.EpollEvent, 64), make([]byte, 64<<10)
	swept := time.Now()
	for {
		wait := -1
		f.mu.Lock()
		if f.order.Len() > 0 {
			wait = int(nameIdle / time.Millisecond)
		}
		f.mu.Unlock()
		n, err := unix.EpollWait(f.epoll, events, wait)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == f.wake {
				f.mu.Lock()
				closed := f.closed
				f.mu.Unlock()
				if closed {
					return
				}
				continue
			}
			f.answers(int(e.Fd), buf)
		}
		if now := time.Now(); now.Sub(swept) > nameIdle {
			swept = now
			f.sweep(now)
		}
	}
}

// answers passes on what came to a socket, some at a time.
func (f *flows) answers(fd int, buf []byte) {
	for range 32 {
		f.mu.Lock()
		w := f.byFD[fd]
		if w == nil {
			f.mu.Unlock()
			return
		}
		n, err := unix.Read(fd, buf)
		if err == nil {
			f.touch(w)
		}
		w.route.Acquire() // it may be forgotten meanwhile
		f.mu.Unlock()
		more := true
		switch err {
		case nil:
			w.inject(buf[:n])
		case unix.EINTR:
		case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH:
			// As the kernel told this process, so is who asked told.
			w.refuse(err)
		default:
			more = false
		}
		w.route.Release()
		if !more {
			return
		}
	}
}

// inject sends an answer into the device.
func (w *flow) inject(b []byte) {
	if w.key.proto != udp.ProtocolNumber {
		w.injectEcho(b)
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.UDPMinimumSize + int(w.route.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(b),
	})
	defer pkt.DecRef()
	h := header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize))
	pkt.TransportProtocolNumber = udp.ProtocolNumber
	size := uint16(header.UDPMinimumSize + len(b))
	h.Encode(&header.UDPFields{SrcPort: w.key.id.LocalPort, DstPort: w.key.id.RemotePort, Length: size})
	sum := checksum.Combine(w.route.PseudoHeaderChecksum(udp.ProtocolNumber, size), checksum.Checksum(b, 0))
	if sum = ^h.CalculateChecksum(sum); sum == 0 {
		sum = 0xffff // 0 says that there is none: RFC 768
	}
	h.SetChecksum(sum)
	w.route.WritePacket(stack.NetworkHeaderParams{Protocol: udp.ProtocolNumber, TTL: w.route.DefaultTTL()}, pkt)
}

// injectEcho sends an answer to a ping, with the identifier that the question had.
func (w *flow) injectEcho(b []byte) {
	if len(b) < header.ICMPv4MinimumSize {
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.ICMPv4MinimumSize + int(w.route.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(b[header.ICMPv4MinimumSize:]),
	})
	defer pkt.DecRef()
	data := checksum.Checksum(b[header.ICMPv4MinimumSize:], 0)
	pkt.TransportProtocolNumber = w.key.proto
	if w.key.proto == icmp.ProtocolNumber4 {
		h := header.ICMPv4(pkt.TransportHeader().Push(header.ICMPv4MinimumSize))
		copy(h, b)
		h.SetType(header.ICMPv4EchoReply)
		h.SetIdent(w.key.id.LocalPort)
		h.SetChecksum(0)
		h.SetChecksum(header.ICMPv4Checksum(h, data))
	} else {
		h := header.ICMPv6(pkt.TransportHeader().Push(header.ICMPv6EchoMinimumSize))
		copy(h, b)
		h.SetType(header.ICMPv6EchoReply)
		h.SetIdent(w.key.id.LocalPort)
		h.SetChecksum(0)
		h.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
			Header: h, Src: w.key.id.LocalAddress, Dst: w.key.id.RemoteAddress, PayloadCsum: data, PayloadLen: len(b) - header.ICMPv6EchoMinimumSize,
		}))
	}
	w.route.WritePacket(stack.NetworkHeaderParams{Protocol: w.key.proto, TTL: w.route.DefaultTTL()}, pkt)
}

// datagram passes on a packet of UDP. The stack says that nobody is there when it gives false.
func (t *Stack) datagram(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	to := ofStack(id.LocalAddress)
	if to.IsMulticast() || to == stdip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return true // nobody is told of those
	}
	return t.reachable(to) && t.flows.send(flowKey{udp.ProtocolNumber, id}, pkt.Data().AsRange().ToSlice())
}

// echo4 passes on a ping. Other messages are the stack's own.
func (t *Stack) echo4(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	h := header.ICMPv4(pkt.TransportHeader().Slice())
	if len(h) < header.ICMPv4MinimumSize || h.Type() != header.ICMPv4Echo || t.own(id) {
		return false
	}
	t.ping(icmp.ProtocolNumber4, id, h.Ident(), append(h[:len(h):len(h)], pkt.Data().AsRange().ToSlice()...))
	return true
}

func (t *Stack) echo6(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	h := header.ICMPv6(pkt.TransportHeader().Slice())
	if len(h) < header.ICMPv6EchoMinimumSize || h.Type() != header.ICMPv6EchoRequest || t.own(id) {
		return false
	}
	t.ping(icmp.ProtocolNumber6, id, h.Ident(), append(h[:len(h):len(h)], pkt.Data().AsRange().ToSlice()...))
	return true
}

// own tells the gateways, which the stack answers for.
func (t *Stack) own(id stack.TransportEndpointID) bool {
	to := ofStack(id.LocalAddress)
	for _, g := range t.gateways {
		if to == g {
			return true
		}
	}
	return false
}

func (t *Stack) ping(proto tcpip.TransportProtocolNumber, id stack.TransportEndpointID, ident uint16, message []byte) {
	if t.reachable(ofStack(id.LocalAddress)) {
		id.LocalPort, id.RemotePort = ident, ident
		t.flows.send(flowKey{proto, id}, message) // the kernel puts an identifier of its own in
	}
}
