package systemd

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Bus is a connection to a systemd manager. It is not for use by several goroutines at once.
type Bus struct {
	fd      int
	serial  uint32
	buf     []byte     // read, and not yet a message
	signals []*message // that came while an answer was waited for
	broker  bool       // a bus daemon is between
	user    bool
	version int
}

// patience is how long a manager may take for an answer, and for a job.
const patience = 30 * time.Second

// System connects to the machine's manager: by its own socket, which needs root and no bus daemon; else by the system bus.
func System() (*Bus, error) {
	b, err := dial("/run/systemd/private")
	if err == nil {
		return b, nil
	}
	b, err2 := dialBus(os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), "/run/dbus/system_bus_socket")
	if err2 != nil {
		return nil, fmt.Errorf("systemd: %w: is the machine run by systemd? The other cgroup driver needs none", both(err, err2))
	}
	return b, nil
}

// User connects to the manager of the calling user, who may be in a user namespace: by the session bus, else by the manager's own
// socket.
func User() (*Bus, error) {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	address := os.Getenv("DBUS_SESSION_BUS_ADDRESS")
	if dir == "" && address == "" {
		return nil, errors.New("systemd: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set: log in anew, by machinectl shell for one")
	}
	b, err := dialBus(address, path.Join(dir, "bus"))
	if err != nil && dir != "" {
		var err2 error
		if b, err2 = dial(path.Join(dir, "systemd/private")); err2 == nil {
			err = nil
		} else {
			err = both(err, err2)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("systemd of the user: %w: is dbus-user-session installed?", err)
	}
	b.user = true
	return b, nil
}

// dialBus connects to a bus daemon, by the first unix address of a list, or by the path.
func dialBus(addresses, otherwise string) (*Bus, error) {
	var errs []error
	for _, name := range append(unixAddresses(addresses), otherwise) {
		b, err := dial(name)
		if err == nil {
			b.broker = true
			err = b.hello()
		}
		if err == nil {
			return b, nil
		}
		errs = append(errs, err)
	}
	err := errs[0]
	for _, e := range errs[1:] {
		err = both(err, e)
	}
	return nil, err
}

// both joins two errors in one line, as a log wants them.
func both(a, b error) error { return fmt.Errorf("%w; %w", a, b) }

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

// dial connects to a socket, and has the kernel say who this is.
func dial(name string) (*Bus, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	b := &Bus{fd: fd}
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: name})
		// The manager's queue is full.
		if err != unix.EAGAIN && err != unix.EINTR || wait > patience/4 {
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

// Close ends the connection.
func (b *Bus) Close() error { return unix.Close(b.fd) }

// authenticate is the conversation before messages: the specification, "Authentication Protocol". EXTERNAL has the kernel tell the
// other side who this is, and no identity here leaves it at that: in a user namespace, the caller's own number would be another one than the
// kernel's. BEGIN goes ahead of the answer, since systemd does not look at a message that comes together with it.
func (b *Bus) authenticate() error {
	deadline := time.Now().Add(patience)
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

// hello asks a bus daemon for a name, without which it passes nothing on, and for the manager's signals.
func (b *Bus) hello() error {
	const daemon = "org.freedesktop.DBus"
	_, err := b.call(&message{destination: daemon, path: "/org/freedesktop/DBus", iface: daemon, member: "Hello"})
	if err != nil {
		b.Close()
		return fmt.Errorf("no name on the bus: %w", err)
	}
	return nil
}

// subscribe has a bus daemon pass on the end of jobs. A manager's own socket does so anyway.
func (b *Bus) subscribe() error {
	if !b.broker {
		return nil
	}
	const daemon = "org.freedesktop.DBus"
	rule := "type='signal',sender='" + manager + "',interface='" + managerInterface + "',member='JobRemoved'"
	_, err := b.call(&message{destination: daemon, path: "/org/freedesktop/DBus", iface: daemon, member: "AddMatch", body: []any{rule}})
	if err == nil {
		_, err = b.manager("Subscribe")
	}
	var e *Error
	if errors.As(err, &e) && e.Name == "org.freedesktop.systemd1.AlreadySubscribed" {
		return nil
	}
	return err
}

func (b *Bus) wait(events int16, deadline time.Time) error {
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return errors.New("no answer in time")
		}
		fds := []unix.PollFd{{Fd: int32(b.fd), Events: events}}
		n, err := unix.Poll(fds, int(left/time.Millisecond)+1)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n > 0 {
			return nil
		}
	}
}

func (b *Bus) write(data []byte, deadline time.Time) error {
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
func (b *Bus) read(deadline time.Time) error {
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
func (b *Bus) next(deadline time.Time) (*message, error) {
	for {
		n, err := length(b.buf)
		if err != nil {
			return nil, err
		}
		if n > 0 && n <= len(b.buf) {
			m, err := decode(b.buf[:n])
			b.buf = b.buf[n:]
			return m, err
		}
		if err := b.read(deadline); err != nil {
			return nil, err
		}
	}
}

// An Error is an answer of the manager's.
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

// call calls a method, and waits for its answer.
func (b *Bus) call(m *message) ([]any, error) {
	b.serial++
	m.kind, m.serial = kindCall, b.serial
	data, err := m.encode()
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(patience)
	if err := b.write(data, deadline); err != nil {
		return nil, err
	}
	for {
		a, err := b.next(deadline)
		switch {
		case err != nil:
			return nil, err
		case a.kind == kindSignal:
			b.signals = append(b.signals, a)
		case a.reply != m.serial:
		case a.kind == kindError:
			text := ""
			if len(a.body) > 0 {
				text, _ = a.body[0].(string)
			}
			return nil, &Error{Name: a.errorName, Text: text}
		case a.kind == kindReturn:
			return a.body, nil
		}
	}
}

// signal waits for a signal that want takes.
func (b *Bus) signal(ctx context.Context, want func(*message) bool) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(patience)
	}
	for {
		for len(b.signals) > 0 {
			m := b.signals[0]
			b.signals = b.signals[1:]
			if want(m) {
				return nil
			}
		}
		m, err := b.next(deadline)
		if err != nil {
			return err
		}
		if m.kind == kindSignal {
			b.signals = append(b.signals, m)
		}
	}
}

// The manager: org.freedesktop.systemd1(5).
const (
	manager          = "org.freedesktop.systemd1"
	managerPath      = "/org/freedesktop/systemd1"
	managerInterface = "org.freedesktop.systemd1.Manager"
)

func (b *Bus) manager(method string, args ...any) ([]any, error) {
	body, err := b.call(&message{destination: manager, path: managerPath, iface: managerInterface, member: method, body: args})
	if err != nil {
		return nil, fmt.Errorf("systemd: %s: %w", method, err)
	}
	return body, nil
}

// property reads a property of the manager.
func (b *Bus) property(name string) (any, error) {
	body, err := b.call(&message{
		destination: manager, path: managerPath, iface: "org.freedesktop.DBus.Properties", member: "Get", body: []any{managerInterface, name},
	})
	if err != nil {
		return nil, fmt.Errorf("systemd: property %s: %w", name, err)
	}
	if len(body) == 1 {
		if v, ok := body[0].(variant); ok {
			return v.value, nil
		}
	}
	return nil, fmt.Errorf("systemd: property %s: no value", name)
}

// Version is the manager's version: 252.
func (b *Bus) Version() (int, error) {
	if b.version > 0 {
		return b.version, nil
	}
	v, err := b.property("Version")
	if err != nil {
		return 0, err
	}
	b.version, err = parseVersion(fmt.Sprint(v))
	return b.version, err
}

// parseVersion takes the number out of "252.38-1~deb12u1", "v245.4" and the like.
func parseVersion(s string) (int, error) {
	digits := strings.TrimLeft(s, `"v`)
	end := strings.IndexFunc(digits, func(c rune) bool { return c < '0' || c > '9' })
	if end >= 0 {
		digits = digits[:end]
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("systemd: version %q has no number", s)
	}
	return n, nil
}
