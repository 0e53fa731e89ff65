package stack

import (
	"bytes"
	"context"
	"net"
	stdip "net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/kakuri/kakuri/netip"
)

// Silence of this length has both ends of a connection asked whether they are there.
const (
	keepIdle     = 10 * time.Minute
	keepInterval = 30 * time.Second
	keepCount    = 4

	dialTimeout = 35 * time.Second // Linux has asked six times by then: tcp(7), tcp_syn_retries
)

// connection answers a request: by what the other end answers to one of this process.
func (t *Stack) connection(r *tcp.ForwarderRequest) {
	id := r.ID()
	to := stdip.AddrPortFrom(ofStack(id.LocalAddress), id.LocalPort)
	if !t.reachable(to.Addr()) {
		r.Complete(true)
		return
	}
	if !t.conns.take(id.RemoteAddress) {
		t.refuse(r)
		return
	}
	defer t.conns.give(id.RemoteAddress)
	if !t.opening.take(id.RemoteAddress) {
		t.refuse(r)
		return
	}
	c := t.open(r, to)
	t.opening.give(id.RemoteAddress)
	if c == nil {
		return
	}
	c.splice()
	c.host.Close()
	c.linger()
	c.ep.Close()
}

// refuse leaves a request unanswered: it comes again, as to a server whose queue is full.
func (t *Stack) refuse(r *tcp.ForwarderRequest) {
	from := r.ID().RemoteAddress
	r.Complete(false)
	if a, ok := netip.AddrFromSlice(from.AsSlice()); ok {
		t.refused(a)
	}
}

// open has both ends of a connection agree to it, and gives nil where one does not.
func (t *Stack) open(r *tcp.ForwarderRequest, to stdip.AddrPort) *conn {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount}}
	dialed, err := d.DialContext(ctx, "tcp", to.String())
	cancel()
	if err != nil {
		r.Complete(true)
		return nil
	}
	host := dialed.(*net.TCPConn)
	c := &conn{host: host}
	ep, failed := r.CreateEndpoint(&c.queue)
	r.Complete(failed != nil)
	if failed != nil {
		host.SetLinger(0)
		host.Close()
		return nil
	}
	c.ep = ep
	idle, interval := tcpip.KeepaliveIdleOption(keepIdle), tcpip.KeepaliveIntervalOption(keepInterval)
	ep.SetSockOpt(&idle)
	ep.SetSockOpt(&interval)
	ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepCount)
	ep.SocketOptions().SetKeepAlive(true)
	if t.conns.taken() >= largeConns {
		ep.SocketOptions().SetSendBufferSize(smallBuffer, true)
		ep.SocketOptions().SetReceiveBufferSize(smallBuffer, true)
		c.small = true
	}
	return c
}

// A conn is a connection of the stack with the one that it goes on by.
type conn struct {
	host  *net.TCPConn
	ep    tcpip.Endpoint
	queue waiter.Queue
	small bool
}

// splice passes bytes on until both ends have said that no more come, or one is gone.
func (c *conn) splice() {
	var out sync.WaitGroup
	out.Go(func() {
		if !c.out() {
			c.abort()
		}
	})
	if !c.in() {
		c.abort()
	}
	out.Wait()
}

// linger waits until the other end has acknowledged all that it was sent, or is gone. Until then the stack keeps that in memory, for as long as
// who does not read it likes: so it counts as a connection.
func (c *conn) linger() {
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) { // the stack tells nobody of this
		switch tcp.EndpointState(c.ep.State()) {
		case tcp.StateTimeWait, tcp.StateClose, tcp.StateError:
			return
		}
		time.Sleep(wait)
	}
}

// abort tells both ends that the connection failed.
func (c *conn) abort() {
	c.host.SetLinger(0)
	c.host.Close()
	c.ep.Abort()
}

// A writer writes to a socket without waiting, as the stack holds the connection meanwhile.
type writer struct {
	fd    int
	full  bool
	broke bool
}

func (w *writer) Write(b []byte) (n int, err error) {
	for n < len(b) {
		m, err := unix.Write(w.fd, b[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			w.full, w.broke = err == unix.EAGAIN, err != unix.EAGAIN
			return n, err
		}
		n += m
	}
	return n, nil
}

// out passes on what comes from the device. It gives false where that failed.
func (c *conn) out() bool {
	raw, err := c.host.SyscallConn()
	if err != nil {
		return false
	}
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	for {
		var failed tcpip.Error
		var w writer
		err := raw.Write(func(fd uintptr) bool {
			w = writer{fd: int(fd)}
			_, failed = c.ep.Read(&w, tcpip.ReadOptions{})
			return !w.full
		})
		if err != nil || w.broke {
			return false
		}
		switch failed.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-ready
		case *tcpip.ErrClosedForReceive:
			return c.host.CloseWrite() == nil
		default:
			return false
		}
	}
}

var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// in passes on what comes to the socket. It gives false where that failed.
func (c *conn) in() bool {
	raw, err := c.host.SyscallConn()
	if err != nil {
		return false
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	for {
		// Nothing is read that cannot be passed on: it waits in the kernel.
		for c.ep.Readiness(waiter.WritableEvents|waiter.EventHUp|waiter.EventErr) == 0 {
			<-ready
		}
		var buf *[64 << 10]byte
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			buf = buffers.Get().(*[64 << 10]byte)
			room := buf[:]
			if c.small {
				room = buf[:smallBuffer]
			}
			for {
				if n, failed = unix.Read(int(fd), room); failed != unix.EINTR {
					break
				}
			}
			if failed != nil || n == 0 {
				buffers.Put(buf)
				buf = nil
			}
			return failed != unix.EAGAIN
		})
		switch {
		case err != nil || failed != nil:
			return false
		case n == 0:
			return c.ep.Shutdown(tcpip.ShutdownWrite) == nil
		}
		ok := c.put(buf[:n], ready)
		buffers.Put(buf)
		if !ok {
			return false
		}
	}
}

// put writes all to the stack.
func (c *conn) put(b []byte, ready <-chan struct{}) bool {
	for r := bytes.NewReader(b); r.Len() > 0; {
		_, err := c.ep.Write(r, tcpip.WriteOptions{})
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-ready
		default:
			return false
		}
	}
	return true
}
