package dbus

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/wait"
)

// A Conn is a connection to a program that speaks D-Bus, or to a bus daemon. It is not for use by several goroutines at once.
type Conn struct {
	Broker bool // a bus daemon is between

	fd      int
	until   time.Time // when all that is asked has to be answered; zero is patience for each
	serial  uint32
	buf     []byte     // read, and not yet a message
	signals []*Message // that came while an answer was waited for
	peer    string     // who gave the last answer: its unique name, which the bus writes; none without a bus
}

// Everybody on a bus may send everybody signals. These are enough for those that are waited for, and cost nobody much memory.
const (
	mostSignal  = 4 << 10 // bytes
	mostSignals = 256     // of which the oldest go first
)

// patience is how long somebody may take for an answer, and for a signal.
const patience = 30 * time.Second

// System connects to the system bus.
func System() (*Conn, error) { return dialSystem(time.Time{}) }

// SystemWithin connects to the system bus, and has everybody on it answer within a time, whatever number of questions there are.
func SystemWithin(waits time.Duration) (*Conn, error) { return dialSystem(time.Now().Add(waits)) }

// SystemService is [SystemWithin] where somebody has a name on the bus; nil where nobody has, or there is no bus. A call alone might have the service started,
// which is not to be had by the way.
func SystemService(name string, waits time.Duration) (*Conn, error) {
	c, err := SystemWithin(waits)
	if errors.Is(err, ErrNoBus) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	const daemon = "org.freedesktop.DBus"
	body, err := c.Call(&Message{Destination: daemon, Path: "/org/freedesktop/DBus", Interface: daemon, Member: "NameHasOwner", Body: []any{name}})
	has := false
	if err == nil && len(body) > 0 {
		has, _ = body[0].(bool)
	}
	if !has {
		c.Close()
		return nil, err
	}
	return c, nil
}

func dialSystem(until time.Time) (*Conn, error) {
	return dialBus(os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), "/run/dbus/system_bus_socket", until)
}

// DialBus connects to a bus daemon, by the first address of a list that somebody answers at, or by the usual path where there is no list: sd_bus_default(3).
func DialBus(addresses, usual string) (*Conn, error) {
	return dialBus(addresses, usual, time.Time{})
}

// ErrNoBus is the error where nobody is at any address.
var ErrNoBus = errors.New("no bus")

// dialBus is [DialBus]. Who names a bus means no other one.
func dialBus(addresses, usual string, until time.Time) (*Conn, error) {
	names := []string{usual}
	if addresses != "" {
		if names = unixAddresses(addresses); len(names) == 0 {
			return nil, fmt.Errorf("bus address %q: none of a unix socket, by path= or abstract=", addresses)
		}
	}
	var errs []error
	absent := true
	for _, name := range names {
		b, err := dial(name, until)
		if err == nil {
			b.Broker = true
			err = b.hello()
		}
		if err == nil {
			return b, nil
		}
		absent = absent && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED))
		errs = append(errs, err)
	}
	err := errs[0]
	for _, e := range errs[1:] {
		err = Both(err, e)
	}
	if absent {
		err = fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	return nil, err
}

// Both joins two errors in one line, as a log wants them.
func Both(a, b error) error { return fmt.Errorf("%w; %w", a, b) }

// unixAddresses takes the paths out of a list of server addresses ("unix:path=/run/x,guid=1;tcp:..."). An abstract one begins with "@".
func unixAddresses(list string) []string {
	var paths []string
	for address := range strings.SplitSeq(list, ";") {
		options, ok := strings.CutPrefix(address, "unix:")
		if !ok {
			continue
		}
		for option := range strings.SplitSeq(options, ",") {
			key, value, _ := strings.Cut(option, "=")
			value = unescapeAddress(value)
			switch key {
			case "path":
				paths = append(paths, value)
			case "abstract":
				paths = append(paths, "@"+value)
			}
		}
	}
	return paths
}

// unescapeAddress turns %20 and its like back.
func unescapeAddress(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				b.WriteByte(c[0])
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Dial connects to a socket, and has the kernel say who this is.
func Dial(name string) (*Conn, error) { return dial(name, time.Time{}) }

func dial(name string, until time.Time) (*Conn, error) {
	// What blocks waits in connect(2) for room in the other side's queue, for ever when that one is stopped.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	b := &Conn{fd: fd, until: until}
	deadline := b.deadline()
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: name})
		// The other side's queue is full.
		if err != unix.EAGAIN && err != unix.EINTR || wait > time.Until(deadline) {
			break
		}
		time.Sleep(wait)
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("connect to %s: %w", name, err)
	}
	if err := b.authenticate(); err != nil {
		b.Close()
		return nil, fmt.Errorf("authenticate at %s: %w", name, err)
	}
	return b, nil
}

// deadline is that of what is asked or waited for now.
func (b *Conn) deadline() time.Time {
	if b.until.IsZero() {
		return time.Now().Add(patience)
	}
	return b.until
}

// Peer is the process that listens: 0 of one that this one's pid namespace does not have. unix(7), "SO_PEERCRED".
func (b *Conn) Peer() (pid int, err error) {
	u, err := unix.GetsockoptUcred(b.fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, fmt.Errorf("SO_PEERCRED: %w", err)
	}
	return int(u.Pid), nil
}

// Close ends the connection.
func (b *Conn) Close() error { return unix.Close(b.fd) }

// authenticate is the conversation before messages: the specification, "Authentication Protocol". EXTERNAL has the kernel tell the
// other side who this is, and no identity here leaves it at that: in a user namespace, the caller's own number would be another one than the
// kernel's. BEGIN goes ahead of the answer, since systemd does not look at a message that comes together with it.
func (b *Conn) authenticate() error {
	deadline := b.deadline()
	if err := b.write([]byte("\x00AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"), deadline); err != nil {
		return err
	}
	for {
		line, rest, ok := bytes.Cut(b.buf, []byte("\r\n"))
		switch {
		case !ok && len(b.buf) > 4096:
			return errors.New("no D-Bus server")
		case !ok:
			if err := b.read(deadline); err != nil {
				return err
			}
			continue
		case string(line) != "DATA" && !bytes.HasPrefix(line, []byte("OK ")):
			return fmt.Errorf("refused: %q", line)
		}
		b.buf = rest
		if string(line) != "DATA" {
			return nil
		}
	}
}

// hello asks a bus daemon for a name, without which it passes nothing on.
func (b *Conn) hello() error {
	const daemon = "org.freedesktop.DBus"
	_, err := b.Call(&Message{Destination: daemon, Path: "/org/freedesktop/DBus", Interface: daemon, Member: "Hello"})
	if err != nil {
		b.Close()
		return fmt.Errorf("no name on the bus: %w", err)
	}
	return nil
}

func (b *Conn) wait(events int16, deadline time.Time) error {
	n, left := 0, time.Until(deadline)
	var err error
	if left > 0 { // else there may be something for ever: everybody may send
		n, err = wait.Poll([]unix.PollFd{{Fd: int32(b.fd), Events: events}}, left)
	}
	if err == nil && n == 0 {
		err = errors.New("no answer in time")
	}
	return err
}

func (b *Conn) write(data []byte, deadline time.Time) error {
	for len(data) > 0 {
		n, err := unix.SendmsgN(b.fd, data, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if err == unix.EAGAIN || err == unix.EINTR {
			if err := b.wait(unix.POLLOUT, deadline); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		data = data[n:]
	}
	return nil
}

// read reads some more into buf.
func (b *Conn) read(deadline time.Time) error {
	if err := b.wait(unix.POLLIN, deadline); err != nil {
		return err
	}
	chunk := make([]byte, 4096)
	n, err := unix.Read(b.fd, chunk)
	switch {
	case err == unix.EINTR || err == unix.EAGAIN:
		return nil
	case err != nil:
		return fmt.Errorf("receive: %w", err)
	case n == 0:
		return errors.New("the other side closed the connection")
	}
	b.buf = append(b.buf, chunk[:n]...)
	return nil
}

// next reads a message.
func (b *Conn) next(deadline time.Time) (*Message, error) {
	for {
		n, err := Length(b.buf)
		if err != nil {
			return nil, err
		}
		if n > 0 && n <= len(b.buf) {
			data := b.buf[:n]
			b.buf = b.buf[n:]
			if data[1] == KindSignal && n > mostSignal {
				continue
			}
			return Decode(data)
		}
		if err := b.read(deadline); err != nil {
			return nil, err
		}
	}
}

// An Error is an answer that somebody gives.
type Error struct {
	Name string // "org.freedesktop.systemd1.NoSuchUnit"
	Text string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Name
	}
	return e.Text + " (" + e.Name + ")"
}

// Call calls a method, and waits for its answer.
func (b *Conn) Call(m *Message) ([]any, error) {
	b.serial++
	m.Kind, m.Serial = KindCall, b.serial
	data, err := m.Encode()
	if err != nil {
		return nil, err
	}
	deadline := b.deadline()
	if err := b.write(data, deadline); err != nil {
		return nil, err
	}
	for {
		a, err := b.next(deadline)
		switch {
		case err != nil:
			return nil, err
		case a.Kind == KindSignal:
			b.remember(a)
		case a.Reply != m.Serial:
		case a.Kind == KindError:
			text := ""
			if len(a.Body) > 0 {
				text, _ = a.Body[0].(string)
			}
			return nil, &Error{Name: a.ErrorName, Text: text}
		case a.Kind == KindReturn:
			b.peer = a.Sender
			return a.Body, nil
		}
	}
}

func (b *Conn) remember(signal *Message) {
	b.signals = append(b.signals, signal)
	b.signals = b.signals[max(0, len(b.signals)-mostSignals):]
}

// Signal waits for a signal that want takes, of who gave the last answer.
func (b *Conn) Signal(ctx context.Context, want func(*Message) bool) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = b.deadline()
	}
	for {
		for len(b.signals) > 0 {
			m := b.signals[0]
			b.signals = b.signals[1:]
			if m.Sender == b.peer && want(m) {
				return nil
			}
		}
		m, err := b.next(deadline)
		if err != nil {
			return err
		}
		if m.Kind == KindSignal {
			b.remember(m)
		}
	}
}
