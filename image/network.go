package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A network is how a store reaches registries: settings, and connections to keep.
//
// What must not happen is kept out here, below all that speaks the protocol: a redirect is never followed by the
// transport, a connection that a registry sent us to goes to no address that is nearer to us than the registry is, TLS is
// verified but where the user said otherwise. HTTP/2 is not used: one stream a connection is what a download wants.
type network struct {
	o    *Options
	pace pace
	dial func(address string) string // tests have names of their own

	mu         sync.Mutex
	settings   *Settings
	meta       http.Header
	transports map[transportKey]*http.Transport
}

// pace is how patient a network is. Zero fields are the defaults; tests have less time.
type pace struct {
	stall   time.Duration // how long a body may bring less than minRate
	minRate int64         // bytes a second
	backoff time.Duration // before the first retry; each further one doubles it
	maxWait time.Duration // longest wait that a registry may ask for
	tries   int
}

func (n *network) patience() pace {
	p := n.pace
	if p.stall == 0 {
		p.stall = 30 * time.Second
	}
	if p.minRate == 0 {
		p.minRate = 1 << 10
	}
	if p.backoff == 0 {
		p.backoff = 500 * time.Millisecond
	}
	if p.maxWait == 0 {
		p.maxWait = 60 * time.Second
	}
	if p.tries == 0 {
		p.tries = 6
	}
	return p
}

// rules gives the settings, which are read at the first use: most commands ask no registry.
func (n *network) rules() (*Settings, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.settings == nil {
		n.settings = n.o.Settings
	}
	if n.settings == nil {
		s, err := ReadSettings()
		if err != nil {
			return nil, err
		}
		n.settings = s
		for _, left := range s.leftOut {
			if n.o.Warn != nil {
				n.o.Warn(fmt.Sprintf("settings are left out: %v", left))
			}
		}
	}
	return n.settings, nil
}

// metaHeaders gives those of Docker's settings, read once.
func (n *network) metaHeaders() (http.Header, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.meta == nil {
		s, err := ReadDockerSettings(n.o.DockerConfig)
		if err != nil {
			return nil, final("%w", err)
		}
		n.meta = s.meta()
	}
	return n.meta, nil
}

// A nearness says how much an address is ours: what listens there may trust its neighbours. A registry may send us as near as it is
// itself, and no nearer (CVE-2026-33990: a realm at the address of a cloud's metadata).
type nearness int

const (
	public nearness = iota
	private
	loopback
	linkLocal
	anywhere // no limit: the user named the host
)

func nearnessOf(a netip.Addr) nearness {
	a = carried(a)
	switch {
	case a.IsLinkLocalUnicast(), a.IsUnspecified(), a.IsMulticast(), a.IsInterfaceLocalMulticast():
		return linkLocal
	case a.IsLoopback():
		return loopback
	case a.IsPrivate(), netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10).Contains(a), localTranslated.Contains(a):
		return private
	}
	return public
}

// Addresses of IPv6 that a router makes one of IPv4 of.
var (
	translated      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052: the last four bytes are it
	localTranslated = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215: for a network's own use, in ways of its own
	tunnelled       = netip.MustParsePrefix("2002::/16")      // RFC 3056, 6to4: the next four bytes are it
)

// carried is the address of IPv4 that one of IPv6 leads to, or the address itself.
func carried(a netip.Addr) netip.Addr {
	a = a.Unmap()
	b := a.As16()
	switch {
	case translated.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:]))
	case tunnelled.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:]))
	}
	return a
}

// noNearer is a dialer's Control, asked for each address that a name has, by which no connection goes nearer than whoever sent us there is.
func noNearer(limit nearness, who string) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err == nil && nearnessOf(a.Addr()) > limit {
			err = final("%s is nearer to this machine than %s that sent us there", a.Addr(), who)
		}
		return err
	}
}

// maxRedirects are followed, and no more.
const maxRedirects = 5

// oneMore says whether a redirect is followed behind that many others.
func oneMore(before int) error {
	if before >= maxRedirects {
		return final("more than %d redirects", maxRedirects)
	}
	return nil
}

// keepsTLS says whether who speaks TLS may send us to a URL.
func keepsTLS(u *url.URL) error {
	if u.Scheme != "https" {
		return final("redirected from https to %s, to %s", u.Scheme, printable(u.Host))
	}
	return nil
}

// OpenURL opens what [Store.Import] is to read from a web server, which the caller closes. What the server compresses on the way is not inflated by it, as the
// bounds of archives are on what comes; whoever typed https is not led elsewhere, and nobody nearer to this machine than what he typed.
func OpenURL(ctx context.Context, name string) (io.ReadCloser, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, name, nil)
	if err != nil {
		return nil, err
	}
	r, err := sourceClient(http.ProxyFromEnvironment).Do(q)
	if err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK {
		r.Body.Close()
		return nil, fmt.Errorf("%s: %s", name, r.Status)
	}
	return r.Body, nil
}

// A lead is the way to what was typed, and to where that leads: directly or by a proxy of the caller's, which is apart, as it is reached wherever it is and says nothing of how near
// the servers are. Which of the two a request goes is asked for each, as [http.Transport] does.
type lead struct {
	proxy           func(*http.Request) (*url.URL, error)
	direct, proxied *http.Transport

	mu    sync.Mutex
	begun bool     // what comes now is where we were sent
	near  nearness // how near what was typed is; by a proxy nobody knows, and it is public
}

// RoundTrip is [http.RoundTripper]'s.
func (l *lead) RoundTrip(q *http.Request) (*http.Response, error) {
	u, err := l.proxy(q)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return l.direct.RoundTrip(q)
	}
	l.mu.Lock()
	l.begun = true
	l.mu.Unlock()
	return l.proxied.RoundTrip(q)
}

// dial connects to what was typed, which is the first that is asked for, wherever that is, and to others where they are no nearer. The same name later may be at another address.
func (l *lead) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	typed := !l.begun
	l.begun = true
	d := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	if !typed {
		d.Control = noNearer(l.near, "the server")
	}
	l.mu.Unlock()
	c, err := d.DialContext(ctx, network, address)
	if err != nil || !typed {
		return c, err
	}
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.near = nearnessOf(a.Addr())
	}
	return c, nil
}

func sourceClient(proxy func(*http.Request) (*url.URL, error)) *http.Client {
	l := &lead{proxy: proxy}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true
	t.ResponseHeaderTimeout = time.Minute
	t.MaxResponseHeaderBytes = 64 << 10
	l.proxied, l.direct = t, t.Clone()
	l.proxied.Proxy = proxy
	l.direct.Proxy, l.direct.DialContext = nil, l.dial
	return &http.Client{Transport: l, CheckRedirect: func(next *http.Request, before []*http.Request) error {
		if before[0].URL.Scheme == "https" {
			if err := keepsTLS(next.URL); err != nil {
				return err
			}
		}
		return oneMore(len(before) - 1) // which has the first request, too
	}}
}

type transportKey struct {
	host   string // as in a URL, and so are settings
	limit  nearness
	verify bool
}

// transport gives the connections to a host. limit bounds how near its address may be.
func (n *network) transport(host string, limit nearness, insecure bool) (*http.Transport, error) {
	rules, err := n.rules()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	key := transportKey{host, limit, !insecure}
	if t := n.transports[key]; t != nil {
		return t, nil
	}
	config, err := tlsConfig(rules.Registries[settingsHost(host)], insecure)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", host, err)
	}
	dialer := &net.Dialer{Timeout: 20 * time.Second, KeepAlive: 30 * time.Second}
	if limit != anywhere {
		dialer.Control = noNearer(limit, "the registry")
	}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if n.dial != nil {
				address = n.dial(address)
			}
			return dialer.DialContext(ctx, network, address)
		},
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    20 * time.Second,
		ResponseHeaderTimeout:  10 * n.patience().stall, // a registry may take its time to file what was sent
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true, // digests are of the bytes as they are
	}
	if n.transports == nil {
		n.transports = map[transportKey]*http.Transport{}
	}
	n.transports[key] = t
	return t, nil
}

// settingsHost is the host that settings have for a host of URLs.
func settingsHost(host string) string {
	if host == dockerHub {
		return defaultDomain
	}
	return host
}

func tlsConfig(r Registry, insecure bool) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	if r.CA != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		for _, file := range append(slices.Clone(r.moreCAs), r.CA) {
			raw, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("ca: %w", err)
			}
			if !pool.AppendCertsFromPEM(raw) {
				return nil, fmt.Errorf("ca %s: it has no certificate", file)
			}
		}
		c.RootCAs = pool
	}
	if r.Cert != "" && r.Key != "" {
		pair, err := tls.LoadX509KeyPair(r.Cert, r.Key)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// close ends connections that nobody uses: processes that import this package may live long.
func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.transports {
		t.CloseIdleConnections()
	}
}

// A stallError is a transfer that went on for too long with too little.
type stallError struct{ after time.Duration }

func (e *stallError) Error() string {
	return fmt.Sprintf("the transfer stalled: next to nothing came for %v", e.after)
}

// A watch cancels what is transferred through it when that stalls. Of a body that comes, the time counts that a read waits: what is done
// with it meanwhile may take as long as it likes. Of one that goes, the time counts between the reads.
type watch struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	pace   pace
	goes   bool

	timer *time.Timer
	last  time.Time // when the time began to count
	spent time.Duration
	bytes int64
}

func newWatch(ctx context.Context, cancel context.CancelCauseFunc, p pace, body io.ReadCloser, goes bool) *watch {
	w := &watch{ReadCloser: body, ctx: ctx, cancel: cancel, pace: p, goes: goes}
	w.timer = time.AfterFunc(p.stall, func() { cancel(&stallError{p.stall}) })
	w.timer.Stop()
	return w
}

func (w *watch) begin() {
	w.last = time.Now()
	w.timer.Reset(w.pace.stall)
}

func (w *watch) end() {
	w.timer.Stop()
	if !w.last.IsZero() {
		w.spent += time.Since(w.last)
	}
	if w.spent >= w.pace.stall {
		if w.bytes < w.pace.minRate*int64(w.spent/time.Second) {
			w.cancel(&stallError{w.spent.Round(time.Second)})
		}
		w.spent, w.bytes = 0, 0
	}
}

func (w *watch) Read(p []byte) (int, error) {
	if w.goes {
		w.end()
	} else {
		w.begin()
	}
	n, err := w.ReadCloser.Read(p)
	w.bytes += int64(n)
	switch {
	case !w.goes:
		w.end()
	case err == nil:
		w.begin()
	}
	if err != nil && err != io.EOF {
		if cause := context.Cause(w.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (w *watch) Close() error {
	w.timer.Stop()
	err := w.ReadCloser.Close()
	w.cancel(errors.New("closed"))
	return err
}
