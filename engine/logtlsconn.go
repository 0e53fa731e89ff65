//go:build !thin

package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"
)

// check finds out whether the files are there.
func (r *tlsRelay) check() error {
	_, err := r.config()
	return err
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
