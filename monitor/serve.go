package monitor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"golang.org/x/sys/unix"
)

// clients are those who are connected.
type clients struct {
	mu   sync.Mutex
	list map[*client]bool
	shut bool
	// late is when the container's process has ended: who does not read has only so much time from then on. Zero is that it runs.
	late time.Time
}

// patience is how long the end of a container waits for a client that does not read what it is sent, as one that was stopped. It has passed for all
// clients together; one that reads, and had to wait for the others meanwhile, has a moment in any case.
const (
	patience = 2 * time.Second
	moment   = 20 * time.Millisecond
)

// A client is one connection, on the monitor's side.
type client struct {
	conn    *os.File
	streams Streams
	told    bool      // of the exit: it has asked for something that ends with that
	took    time.Time // when it last took a message, of those that were sent late
	input   chan []byte
}

// serve begins to serve a connection.
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
	m.interval.drop(c)
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
	buf := make([]byte, 4<<10)
	for {
		n, fds, err := seqpacket.Receive(c.conn, buf, 1)
		if err != nil {
			return
		}
		if len(fds) > 0 {
			m.given(c, buf[0], buf[1:n], fds)
			continue
		}
		if n == len(buf) && len(buf) < maxMessage {
			buf = append(buf, make([]byte, maxMessage-len(buf))...) // what was cut off is lost: no client sends that much at first
		}
		m.obey(c, buf[0], buf[1:n])
	}
}

// given takes what came with descriptors.
func (m *monitor) given(c *client, kind byte, data []byte, fds []int) {
	for _, fd := range fds {
		switch kind {
		case mKeep:
			if _, err := unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil { // no terminal's master side: it might never end
				unix.Close(fd)
				continue
			}
			m.keepTerminal(os.NewFile(uintptr(fd), "/dev/ptmx"))
		case mExec:
			m.exec(c, data, os.NewFile(uintptr(fd), "process"))
		default:
			unix.Close(fd)
		}
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
			by := sender(c, s.Command)
			m.stops.Add(1)
			go func() {
				defer m.stops.Add(-1)
				m.stop(s, by)
			}()
		}
	case kind == mNets:
		m.done(c, m.connected())
	case kind == mPostpone && len(data) > 0:
		m.interval.hold(c)
		m.done(c, nil)
	case kind == mPostpone:
		m.done(c, m.interval.postpone(c))
	case kind == mStay:
		m.stay()
	}
}

// done tells a client that what it asked for is done, or why not.
func (m *monitor) done(c *client, err error) {
	answer := []byte{mDone}
	if err != nil {
		answer = append(answer, err.Error()...)
	}
	m.write(c, answer)
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
	late := !m.clients.late.IsZero()
	if late {
		until, least := m.clients.late, time.Now().Add(moment)
		if c.took.After(until) {
			until = c.took
		}
		if until = until.Add(patience); until.Before(least) {
			until = least
		}
		c.conn.SetWriteDeadline(until)
	}
	m.clients.mu.Unlock()
	if _, err := c.conn.Write(message); err != nil {
		m.drop(c)
		return
	}
	if late {
		m.clients.mu.Lock()
		c.took = time.Now()
		m.clients.mu.Unlock()
	}
}

// setLate says whether the container's process has ended.
func (m *monitor) setLate(late bool) {
	m.clients.mu.Lock()
	defer m.clients.mu.Unlock()
	var until time.Time
	m.clients.late = time.Time{}
	if late {
		m.clients.late = time.Now()
		until = m.clients.late.Add(patience)
	}
	for c := range m.clients.list {
		c.conn.SetWriteDeadline(until)
	}
}

// tell sends the exit to all who wait for it.
func (m *monitor) tell(x Exit) {
	data, err := leanjson.Marshal(x)
	if err == nil {
		m.announce(append([]byte{mExit}, data...))
	}
}

// announce sends a message to all who want to know of the exit.
func (m *monitor) announce(message []byte) {
	for _, c := range m.listeners(func(c *client) bool { return c.told }) {
		m.write(c, message)
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
	listener, err := seqpacket.Listen(m.lock, socketName)
	if errors.Is(err, unix.EISDIR) { // somebody's mistake
		if err = files.RemoveAll(m.place + "/" + socketName); err == nil {
			listener, err = seqpacket.Listen(m.lock, socketName)
		}
	}
	if err != nil {
		return fmt.Errorf("%s/%s: %w", m.place, socketName, err)
	}
	m.acceptFrom(listener)
	return nil
}

// acceptFrom serves who connects to a listening socket.
func (m *monitor) acceptFrom(listener *os.File) {
	m.accept, m.accepting = listener, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		for {
			conn, err := seqpacket.Accept(listener)
			if err != nil {
				return
			}
			m.serve(&client{conn: conn})
		}
	}(m.accepting)
}
