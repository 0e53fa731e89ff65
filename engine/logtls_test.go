package engine

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor/log"
)

// certificate makes one that is its own authority, for 127.0.0.1, as files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = t.TempDir()+"/cert", t.TempDir()+"/key"
	err = errors.Join(os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// TestSyslogTLS: lines reach a server that shows the right certificate, with ours where it asks for one, and no other server.
func TestSyslogTLS(t *testing.T) {
	nstest.Root(t)
	loopback(t)
	cert, key := certificate(t)
	other, _ := certificate(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	data, err := os.ReadFile(cert)
	if err != nil || !pool.AppendCertsFromPEM(data) {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lines := make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for s := bufio.NewScanner(c); s.Scan(); {
					lines <- s.Text()
				}
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	at := func(host string) string { return "tcp+tls://" + host + ":" + port }
	defer func(was bool) { childIsCalled = was }(childIsCalled)
	childIsCalled = true
	for _, test := range []struct {
		name    string
		options map[string]string
		fails   string // with the first line
	}{
		{"right", map[string]string{"syslog-address": at("127.0.0.1"), "syslog-tls-ca-cert": cert, "syslog-tls-cert": cert, "syslog-tls-key": key}, ""},
		{"unchecked", map[string]string{"syslog-address": at("127.0.0.1"), "syslog-tls-skip-verify": "true", "syslog-tls-cert": cert, "syslog-tls-key": key}, ""},
		{"unknown authority", map[string]string{"syslog-address": at("127.0.0.1"), "syslog-tls-ca-cert": other, "syslog-tls-cert": cert, "syslog-tls-key": key}, "certificate"},
		{"the machine's authorities", map[string]string{"syslog-address": at("127.0.0.1")}, "certificate"},
		{"another name", map[string]string{"syslog-address": at("localhost"), "syslog-tls-ca-cert": cert, "syslog-tls-cert": cert, "syslog-tls-key": key}, "localhost"},
	} {
		test.options["cache-disabled"] = "true"
		c := Container{dir: "/c", Record: Record{ID: strings.Repeat("0123456789abcdef", 4), Config: Config{Log: LogConfig{Driver: "syslog", Options: test.options}}}}
		config, err := c.logConfig(context.Background())
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		s, err := log.Open(config)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		s.Write(log.Stdout, []byte("line of "+test.name+"\n"), time.Now())
		err = s.Close()
		if test.fails != "" {
			if err == nil || !strings.Contains(err.Error(), test.fails) {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		select {
		case got := <-lines:
			if !strings.HasSuffix(got, "line of "+test.name) {
				t.Errorf("%s: %q", test.name, got)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s: no line", test.name)
		}
	}
	for _, bad := range []map[string]string{
		{"syslog-tls-ca-cert": "relative"}, {"syslog-tls-ca-cert": "/no/such"}, {"syslog-tls-ca-cert": key}, {"syslog-tls-cert": cert}, {"syslog-tls-cert": other, "syslog-tls-key": key},
	} {
		if _, err := relayOf("localhost:1", bad); err == nil || !strings.Contains(err.Error(), "syslog-tls") {
			t.Errorf("%v: %v", bad, err)
		}
	}
	childIsCalled = false
	if _, err := relayOf("localhost:1", nil); err == nil {
		t.Error("a program is started that does not know what for")
	}
}
