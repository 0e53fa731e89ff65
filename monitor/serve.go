package monitor

import (
	"encoding/binary"
	"io"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/leanjson"
)

// clients are those who are connected.
type clients struct {
	mu   sync.Mutex
	list map[*client]bool
	shut bool
	// late is when the container's process has ended: who does not read has only so much time from then on.
	late bool
}

// patience is how long the end of a container waits for a client that does not read what it is sent, as one that was stopped.
const patience = 2 * time.Second

// A client is one connection, on the monitor's side.
type client struct {
	conn    *os.File
	streams Streams
	told    bool // of the exit: it has asked for something that ends with that
	input   chan []byte
}

// add begins to serve a connection.
func (m *monitor) add(fd int) {
	unix.SetNonblock(fd, true)
	m.serve(&client{conn: os.NewFile(uintptr(fd), "client")})
}

func (m *monitor) serve(c *client) {
	m.clients.mu.Lock()
	defer m.clients.mu.Unlock()
	if m.clients.shut {
		c.conn.Close()
		return
	}
	m.clients.list[c] = true
	go m.hear(c)
}

// drop forgets a connection that has ended. What it had typed is given up, and a standard input that was its own ends.
func (m *monitor) drop(c *client) {
	m.clients.mu.Lock()
	known := m.clients.list[c]
	delete(m.clients.list, c)
	m.clients.mu.Unlock()
	if !known {
		return
	}
	c.conn.Close()
	if m.alone() {
		time.AfterFunc(settled, m.settle)
	}
	if c.streams&Stdin != 0 && m.task.StdinOnce {
		m.closeStdin()
	}
}

// hear does what a client asks for, until it goes.
func (m *monitor) hear(c *client) {
	defer m.drop(c)
	defer func() {
		if c.input != nil {
			close(c.input)
		}
	}()
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return
	}
	buf, oob := make([]byte, 4<<10), make([]byte, unix.CmsgSpace(4))
	for {
		var n, oobn int
		if e := raw.Read(func(fd uintptr) bool {
			n, oobn, _, _, err = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
			return err != unix.EAGAIN && err != unix.EINTR
		}); e != nil || err != nil || n == 0 {
			return
		}
		if oobn > 0 {
			m.given(buf[0], oob[:oobn])
			continue
		}
		if n == len(buf) && len(buf) < maxMessage {
			buf = append(buf, make([]byte, maxMessage-len(buf))...) // what was cut off is lost: no client sends that much at first
		}
		m.obey(c, buf[0], buf[1:n])
	}
}

// given takes what came with descriptors: a terminal of another process in the container, whose output nobody reads any more. It is read until
// that process has gone: one that is full would hold it up, and one that is closed would end it.
func (m *monitor) given(kind byte, oob []byte) {
	fds, _ := rights(oob)
	for _, fd := range fds {
		if kind != mKeep || unix.SetNonblock(fd, true) != nil {
			unix.Close(fd)
			continue
		}
		f := os.NewFile(uintptr(fd), "/dev/ptmx")
		m.keeping.Add(1)
		go func() {
			defer m.keeping.Add(-1)
			defer f.Close()
			io.Copy(io.Discard, f)
		}()
	}
}

func (m *monitor) obey(c *client, kind byte, data []byte) {
	switch {
	case kind == mAttach && len(data) == 1:
		m.clients.mu.Lock()
		c.streams, c.told = Streams(data[0]), true
		m.clients.mu.Unlock()
		m.giveStdin(c)
	case kind == mInput:
		m.typed(c, data)
	case kind == mEOF:
		if m.task.StdinOnce && !m.task.TTY {
			m.closeStdin()
		}
	case kind == mSize && len(data) == 4:
		m.resize(binary.LittleEndian.Uint16(data), binary.LittleEndian.Uint16(data[2:]))
	case kind == mSignal && len(data) >= 4:
		m.signal(syscall.Signal(binary.LittleEndian.Uint32(data)), sender(c, string(data[4:])))
	case kind == mNote && len(data) >= 4:
		m.note(syscall.Signal(binary.LittleEndian.Uint32(data)), sender(c, string(data[4:])))
	case kind == mStop:
		var s stop
		if leanjson.Unmarshal(data, &s) == nil {
			m.clients.mu.Lock()
			c.told = true
			m.clients.mu.Unlock()
			go m.stop(s, sender(c, s.Command))
		}
	case kind == mNets:
		answer := []byte{mDone}
		if err := m.connected(); err != nil {
			answer = append(answer, err.Error()...)
		}
		m.write(c, answer)
	case kind == mStay:
		m.stay()
	}
}

// typed passes on what was typed. A program that does not read its terminal must not keep the client from being heard.
func (m *monitor) typed(c *client, data []byte) {
	if c.input == nil {
		c.input = make(chan []byte, 16)
		go func() {
			for p := range c.input {
				if master := m.terminal(); master != nil {
					master.Write(p)
				}
			}
		}()
	}
	select {
	case c.input <- append([]byte(nil), data...):
	default: // a terminal that is full drops what is typed, too
	}
}

// output gives a message of what the container wrote to those who are attached to that stream. One who does not read holds the container up, but
// not its end.
func (m *monitor) output(s Streams, message []byte) {
	for _, c := range m.listeners(func(c *client) bool { return c.streams&s != 0 }) {
		m.write(c, message)
	}
}

// write sends a message. A client who is gone, or not to be waited for, is dropped.
func (m *monitor) write(c *client, message []byte) {
	m.clients.mu.Lock()
	if m.clients.late {
		c.conn.SetWriteDeadline(time.Now().Add(patience))
	}
	m.clients.mu.Unlock()
	if _, err := c.conn.Write(message); err != nil {
		m.drop(c)
	}
}

// setLate says whether the container's process has ended.
func (m *monitor) setLate(late bool) {
	m.clients.mu.Lock()
	defer m.clients.mu.Unlock()
	m.clients.late = late
	var until time.Time
	if late {
		until = time.Now().Add(patience)
	}
	for c := range m.clients.list {
		c.conn.SetWriteDeadline(until)
	}
}

// tell sends the exit to all who wait for it.
func (m *monitor) tell(x Exit) {
	data, err := leanjson.Marshal(x)
	if err != nil {
		return
	}
	for _, c := range m.listeners(func(c *client) bool { return c.told }) {
		m.write(c, append([]byte{mExit}, data...))
	}
}

// alone reports whether nobody is connected.
func (m *monitor) alone() bool {
	m.clients.mu.Lock()
	defer m.clients.mu.Unlock()
	return len(m.clients.list) == 0
}

func (m *monitor) listeners(is func(*client) bool) (list []*client) {
	m.clients.mu.Lock()
	defer m.clients.mu.Unlock()
	for c := range m.clients.list {
		if is(c) {
			list = append(list, c)
		}
	}
	return list
}

// hangUp ends all connections, and takes no more: the monitor's work is done.
func (m *monitor) hangUp() {
	m.clients.mu.Lock()
	defer m.clients.mu.Unlock()
	m.clients.shut = true
	for c := range m.clients.list {
		c.conn.Close()
	}
	m.clients.list = nil
}

// listen makes the monitor's socket, and serves who connects.
func (m *monitor) listen() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	unix.Unlinkat(m.lock, "socket", 0)
	name := "/proc/self/fd/" + strconv.Itoa(m.lock) + "/socket"
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err == nil {
		if err = unix.Chmod(name, 0o600); err == nil {
			err = unix.Listen(fd, 16)
		}
	}
	if err != nil {
		unix.Close(fd)
		return &os.PathError{Op: "bind", Path: m.place + "/socket", Err: err}
	}
	return m.acceptFrom(fd)
}

// acceptFrom serves who connects to a listening socket.
func (m *monitor) acceptFrom(fd int) error {
	m.accept = os.NewFile(uintptr(fd), "socket")
	raw, err := m.accept.SyscallConn()
	if err != nil {
		return err
	}
	m.accepting = make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		for {
			conn := -1
			err := raw.Read(func(fd uintptr) bool {
				conn, _, err = unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
				return err != unix.EAGAIN && err != unix.EINTR && err != unix.ECONNABORTED
			})
			if err != nil || conn < 0 {
				return
			}
			// The directory is closed to others; who was let in by a mistake is not.
			if peer, err := unix.GetsockoptUcred(conn, unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil || peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
				unix.Close(conn)
				continue
			}
			m.add(conn)
		}
	}(m.accepting)
	return nil
}
