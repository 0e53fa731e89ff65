package log

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An address is where a server of logs listens. A host's name is looked up by the engine, see [Config.Server].
type address struct {
	network string // unix, unixgram, udp, tcp; empty is this machine's syslog
	path    string
	host    string
	port    int
}

// errTLS: the monitor would carry a TLS stack for each container.
var errTLS = errors.New("TLS is not among what a container's monitor can do: have a syslog server of this machine forward the lines, and name that with unix:// or tcp://127.0.0.1:PORT")

// parseAddress reads what --log-opt syslog-address takes: [tcp|udp|unix|unixgram]://…
func parseAddress(s string) (address, error) {
	if s == "" {
		return address{}, nil
	}
	network, rest, ok := strings.Cut(s, "://")
	if !ok {
		return address{}, errors.New("it has the form udp://HOST[:PORT], tcp://HOST[:PORT], unix://PATH or unixgram://PATH")
	}
	switch network {
	case "unix", "unixgram":
		if !strings.HasPrefix(rest, "/") {
			return address{}, fmt.Errorf("%s:// is followed by an absolute path", network)
		}
		return address{network: network, path: rest}, nil
	case "tcp+tls":
		return address{}, errTLS
	case "udp", "tcp":
	default:
		return address{}, fmt.Errorf("there is no transport %q: there are udp, tcp, unix and unixgram", network)
	}
	host, port := splitPort(rest)
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/[]") {
		return address{}, fmt.Errorf("%q is no HOST[:PORT]", rest)
	}
	return address{network: network, host: host, port: int(n)}, nil
}

// splitPort splits HOST[:PORT]; an IPv6 address with a port is in brackets.
func splitPort(s string) (host, port string) {
	if inside, after, ok := strings.Cut(s, "]"); ok && strings.HasPrefix(s, "[") {
		host, port = inside[1:], strings.TrimPrefix(after, ":")
		if port == after && after != "" {
			return "", ""
		}
	} else if host, port, ok = strings.Cut(s, ":"); !ok || strings.Contains(port, ":") {
		host, port = s, ""
	}
	if port == "" {
		port = "514"
	}
	return host, port
}

// Host is the name or the IP address of the server that options name, empty where none has to be looked up.
func Host(driver string, options map[string]string) string {
	if driver != "syslog" {
		return ""
	}
	a, _ := parseAddress(options["syslog-address"]) // whose form was checked
	return a.host
}

// patience bounds how long a server that does not take lines holds up the container; then they are lost, and for pause nothing is tried.
const (
	patience = 2 * time.Second
	pause    = time.Second
)

// A socket is a connection to a server of logs, made anew when it breaks.
type socket struct {
	kind   int
	sa     unix.Sockaddr
	fd     int // -1 without a connection
	failed time.Time
	why    error
}

// connect connects unless that did not work a moment ago.
func (s *socket) connect() error {
	if s.fd >= 0 {
		return nil
	}
	if s.why != nil && time.Since(s.failed) < pause {
		return s.why
	}
	family := unix.AF_UNIX
	switch s.sa.(type) {
	case *unix.SockaddrInet4:
		family = unix.AF_INET
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, s.kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return s.fail(os.NewSyscallError("socket", err))
	}
	limit := unix.NsecToTimeval(int64(patience)) // of connect(2), too: socket(7)
	if err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err == nil {
		for {
			if err = unix.Connect(fd, s.sa); err != unix.EINTR {
				break
			}
		}
	}
	if err != nil {
		unix.Close(fd)
		return s.fail(os.NewSyscallError("connect", err))
	}
	s.fd, s.why = fd, nil
	return nil
}

func (s *socket) fail(err error) error {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
	s.failed, s.why = time.Now(), err
	return err
}

// send sends one message. A connection that the other side has closed meanwhile is made again once.
func (s *socket) send(p []byte) error {
	for try := 0; ; try++ {
		if err := s.connect(); err != nil {
			return err
		}
		err := s.write(p)
		if err == nil {
			return nil
		}
		s.fail(os.NewSyscallError("send", err))
		if try > 0 || err == unix.EAGAIN || err == unix.EMSGSIZE {
			return s.why
		}
		s.why = nil
	}
}

func (s *socket) write(p []byte) error {
	for len(p) > 0 {
		n, err := unix.SendmsgN(s.fd, p, nil, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func (s *socket) close() error {
	if s.fd < 0 {
		return nil
	}
	return unix.Close(s.fd)
}
