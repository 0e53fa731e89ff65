package log

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/wait"
)

// An address is where a server of logs listens. A host's name is looked up by the engine, see [Config.Server].
type address struct {
	network string // unix, unixgram, udp, tcp, tcp+tls; empty is this machine's syslog
	path    string
	host    string
	port    int
}

// errTLS: the monitor does not carry a TLS stack for each container, and here is no program that does.
var errTLS = errors.New("TLS is not among what a container's monitor can do itself, and no program was named that does it: have a syslog server of this machine forward the lines, and name that with unix:// or tcp://127.0.0.1:PORT")

// parseAddress reads what --log-opt syslog-address takes: [tcp|udp|unix|unixgram]://…
func parseAddress(s string) (address, error) {
	if s == "" {
		return address{}, nil
	}
	network, rest, ok := strings.Cut(s, "://")
	if !ok {
		return address{}, errors.New("it has the form udp://HOST[:PORT], tcp://HOST[:PORT], tcp+tls://HOST[:PORT], unix://PATH or unixgram://PATH")
	}
	switch network {
	case "unix", "unixgram":
		if !strings.HasPrefix(rest, "/") {
			return address{}, fmt.Errorf("%s:// is followed by an absolute path", network)
		}
		return address{network: network, path: rest}, nil
	case "udp", "tcp", "tcp+tls":
	default:
		return address{}, fmt.Errorf("there is no transport %q: there are udp, tcp, tcp+tls, unix and unixgram", network)
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

// Encrypted is HOST:PORT of the server that the options have lines sent to by TLS, empty for none. [Config.Relay] has to say how.
func Encrypted(driver string, options map[string]string) string {
	if a, _ := parseAddress(options["syslog-address"]); driver == "syslog" && a.network == "tcp+tls" {
		if strings.Contains(a.host, ":") {
			return "[" + a.host + "]:" + strconv.Itoa(a.port)
		}
		return a.host + ":" + strconv.Itoa(a.port)
	}
	return ""
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
	relay  []string    // a program with its arguments in the place of kind and sa: see [Config.Relay]
	child  *os.Process // that runs
	fd     int         // -1 without a connection
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
	if len(s.relay) > 0 {
		if err := s.start(); err != nil {
			return s.fail(err)
		}
		s.why = nil
		return nil
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
	if err := wait.Socket(fd, unix.SO_SNDTIMEO, patience, func() error { return unix.Connect(fd, s.sa) }); err != nil {
		unix.Close(fd)
		return s.fail(os.NewSyscallError("connect", err))
	}
	s.fd, s.why = fd, nil
	return nil
}

// start starts the relay, and waits until it is connected, which it says by a byte of zero; anything else is why it is not.
func (s *socket) start() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "relay")
	defer theirs.Close()
	s.fd = pair[0]
	if s.child, err = os.StartProcess(s.relay[0], s.relay[1:], &os.ProcAttr{Env: []string{}, Files: []*os.File{theirs, nil, nil}}); err != nil {
		return err
	}
	theirs.Close()
	var said [512]byte
	var n int
	err = wait.Socket(s.fd, unix.SO_RCVTIMEO, patience, func() (err error) {
		n, err = unix.Read(s.fd, said[:])
		return err
	})
	switch {
	case err == unix.EAGAIN:
		return errors.New("the server did not answer in time")
	case err != nil:
		return os.NewSyscallError("read", err)
	case n == 1 && said[0] == 0:
		return nil
	case n == 0:
		return errors.New("the relay ended")
	}
	return errors.New(string(said[:n]))
}

// end ends the relay, if one runs.
func (s *socket) end() {
	if s.child != nil {
		s.child.Kill()
		s.child.Wait()
		s.child = nil
	}
}

func (s *socket) fail(err error) error {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
	s.end()
	s.failed, s.why = time.Now(), err
	return err
}

// send sends one message. A connection that the other side has closed meanwhile is made again once; where that was so a moment ago, too, nobody takes what is sent: a port of
// UDP that is closed lets each connection be made, and refuses what comes by it.
func (s *socket) send(p []byte) error {
	for try := 0; ; try++ {
		if err := s.connect(); err != nil {
			return err
		}
		err := s.write(p)
		if err == nil {
			return nil
		}
		again := time.Since(s.failed) < pause
		s.fail(os.NewSyscallError("send", err))
		if try > 0 || again || err == unix.EAGAIN || err == unix.EMSGSIZE {
			return s.why
		}
		s.why = nil
	}
}

func (s *socket) write(p []byte) error {
	for len(p) > 0 {
		n := 0
		if err := wait.Socket(s.fd, unix.SO_SNDTIMEO, patience, func() (err error) {
			n, err = unix.SendmsgN(s.fd, p, nil, nil, unix.MSG_NOSIGNAL)
			return err
		}); err != nil {
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
	if s.child == nil {
		return unix.Close(s.fd)
	}
	// It has lines yet, and ends when it has sent them: for that it has as long as a server has.
	unix.Shutdown(s.fd, unix.SHUT_WR)
	wait.Socket(s.fd, unix.SO_RCVTIMEO, patience, func() error {
		_, err := unix.Read(s.fd, make([]byte, 1))
		return err
	})
	err := unix.Close(s.fd)
	s.end()
	return err
}
