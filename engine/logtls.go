package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Lines that go to a server by TLS go through this program, started once more by the container's monitor: a monitor has no TLS stack, which would be more memory
// than all else it has.

// tlsName is what the program is called as then.
const tlsName = "kakuri-tls"

// A tlsRelay is what the process has to know: the names of Docker's options, and HOST:PORT.
type tlsRelay struct {
	Server        string
	CA, Cert, Key string // files; empty are the machine's authorities, and no certificate of ours
	SkipVerify    bool
}

// relayOf is the relay for a container's log options.
func relayOf(server string, options map[string]string) (argv []string, err error) {
	_, skip := options["syslog-tls-skip-verify"] // whatever its value, as with Docker
	r := tlsRelay{Server: server, CA: options["syslog-tls-ca-cert"], Cert: options["syslog-tls-cert"], Key: options["syslog-tls-key"], SkipVerify: skip}
	if _, err := r.config(); err != nil {
		return nil, fmt.Errorf("--log-opt syslog-tls-…: %w", err)
	}
	if !childIsCalled {
		return nil, errors.New("--log-opt syslog-address=tcp+tls://…: this program cannot be started for that: its main function does not call engine.Child")
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(r)
	return []string{exe, tlsName, string(text)}, err
}

// config reads the files.
func (r *tlsRelay) config() (*tls.Config, error) {
	host, _, err := net.SplitHostPort(r.Server)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: r.SkipVerify}
	for _, f := range []string{r.CA, r.Cert, r.Key} {
		if f != "" && !filepath.IsAbs(f) {
			return nil, fmt.Errorf("%s: an absolute path is needed: the log outlives this command", f)
		}
	}
	if r.CA != "" {
		pem, err := os.ReadFile(r.CA)
		if err != nil {
			return nil, err
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: there is no certificate in it", r.CA)
		}
	}
	if r.Cert != "" || r.Key != "" {
		own, err := tls.LoadX509KeyPair(r.Cert, r.Key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{own}
	}
	return c, nil
}

// tlsChild is the process. Its stdin is a socket of the monitor's: see log.Config.
func tlsChild(text string) int {
	monitor := os.Stdin
	conn, err := dialTLS(text)
	if err != nil {
		fmt.Fprint(monitor, err)
		return 1
	}
	defer conn.Close()
	if _, err := monitor.Write([]byte{0}); err != nil {
		return 1
	}
	lost := make(chan struct{})
	go func() { // a server says nothing, so this is its end
		io.Copy(io.Discard, conn)
		close(lost)
	}()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, monitor)
		sent <- err
	}()
	select {
	case <-lost:
		return 1
	case err := <-sent:
		if err != nil || conn.CloseWrite() != nil {
			return 1
		}
	}
	return 0
}

func dialTLS(text string) (*tls.Conn, error) {
	var r tlsRelay
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, err
	}
	c, err := r.config()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the monitor is less patient
	defer cancel()
	conn, err := (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", r.Server)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}
