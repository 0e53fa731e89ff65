package log

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// openSyslog opens the driver, and the copy that is kept beside it for who reads the log here: Docker's "dual logging".
func openSyslog(o options, c Config) (driver, error) {
	s, err := newSyslog(o, c)
	if err != nil || o.maxFile == 0 || c.File == "" {
		return s, err
	}
	f, err := openFile(c.File, o, localForm{})
	if err != nil {
		return nil, err
	}
	return &tee{{driver: f}, {driver: s}}, nil
}

// A syslog writes to a server of RFC 3164 or RFC 5424.
type syslog struct {
	sockets   []socket // the first that can be connected to
	format    string
	counted   bool // each message has its length before it: RFC 5425
	facility  int
	host, tag string
	buf       []byte
}

func newSyslog(o options, c Config) (*syslog, error) {
	s := &syslog{format: o.format, facility: o.facility, tag: c.Tag}
	s.host, _ = os.Hostname()
	if s.tag == "" {
		s.tag = c.Labels.shortID()
	}
	if o.address.network == "tcp+tls" {
		if len(c.Relay) < 2 {
			return s, errTLS
		}
		s.counted = o.format == "rfc5424" || o.format == "rfc5424micro"
		s.sockets = []socket{{relay: c.Relay, fd: -1}}
		return s, nil
	}
	return s, s.server(o.address, c.Server)
}

func (s *syslog) server(a address, ip []byte) error {
	local := func(kind int, path string) socket {
		return socket{kind: kind, sa: &unix.SockaddrUnix{Name: path}, fd: -1}
	}
	switch a.network {
	case "":
		for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
			s.sockets = append(s.sockets, local(unix.SOCK_DGRAM, path), local(unix.SOCK_STREAM, path))
		}
		return nil
	case "unix":
		s.sockets = []socket{local(unix.SOCK_STREAM, a.path), local(unix.SOCK_DGRAM, a.path)}
		return nil
	case "unixgram":
		s.sockets = []socket{local(unix.SOCK_DGRAM, a.path)}
		return nil
	}
	kind := unix.SOCK_STREAM
	if a.network == "udp" {
		kind = unix.SOCK_DGRAM
	}
	switch len(ip) {
	case 4:
		s.sockets = []socket{{kind: kind, sa: &unix.SockaddrInet4{Port: a.port, Addr: [4]byte(ip)}, fd: -1}}
	case 16:
		s.sockets = []socket{{kind: kind, sa: &unix.SockaddrInet6{Port: a.port, Addr: [16]byte(ip)}, fd: -1}}
	default:
		return fmt.Errorf("the address of %s is not known", a.host)
	}
	return nil
}

// parseFacility reads a facility by its name or its number: RFC 5424, section 6.2.1.
func parseFacility(s string) (int, error) {
	if s == "" {
		return 3, nil // daemon
	}
	names := [...]string{
		"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "", "",
		"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
	}
	if i := slices.Index(names[:], s); i >= 0 {
		return i, nil
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n < len(names) {
		return n, nil
	}
	return 0, errors.New("there is no such facility: there are kern, user, mail, daemon, auth, syslog, lpr, news, uucp, cron, authpriv, ftp, local0 to local7, and their numbers")
}

func (s *syslog) keep(list []entry) (int, error) {
	for i := range list {
		if len(list[i].line) == 0 {
			continue // as Docker's: it would be a message without any text
		}
		if err := s.send(&list[i]); err != nil {
			return i, err
		}
	}
	return len(list), nil
}

func (s *syslog) send(e *entry) error {
	t, err := s.connected()
	if err != nil {
		return err
	}
	return t.send(s.message(e))
}

// connected is the first socket that can be connected to.
func (s *syslog) connected() (*socket, error) {
	var first error
	for i := range s.sockets {
		t := &s.sockets[i]
		err := t.connect()
		if err == nil {
			return t, nil
		}
		if first == nil || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EPROTOTYPE) {
			first = err
		}
	}
	return nil, first
}

// message writes an entry as Docker's driver does: the process is named by the number of who writes.
func (s *syslog) message(e *entry) []byte {
	priority := s.facility<<3 | 6 // info
	if e.stream == Stderr {
		priority = s.facility<<3 | 3 // err
	}
	pid := os.Getpid()
	b := s.buf[:0]
	switch s.format {
	case "rfc5424", "rfc5424micro":
		layout := time.RFC3339
		if s.format == "rfc5424micro" {
			layout = "2006-01-02T15:04:05.000000Z07:00"
		}
		b = fmt.Appendf(b, "<%d>1 %s %s %s %d %s - ", priority, e.at.Format(layout), s.host, s.tag, pid, s.tag)
	case "rfc3164":
		b = fmt.Appendf(b, "<%d>%s %s %s[%d]: ", priority, e.at.Format(time.Stamp), s.host, s.tag, pid)
	default:
		b = fmt.Appendf(b, "<%d>%s %s[%d]: ", priority, e.at.Format(time.Stamp), s.tag, pid)
	}
	// A line's end closes a counted one, too, as with Docker: there are servers that read lines, whatever the length says.
	b = append(append(b, e.line...), '\n')
	if s.counted {
		b = append(append(strconv.AppendInt(nil, int64(len(b)), 10), ' '), b...)
	}
	s.buf = b
	return b
}

func (s *syslog) close() error {
	var errs []error
	for i := range s.sockets {
		errs = append(errs, s.sockets[i].close())
	}
	return errors.Join(errs...)
}
