package image

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// dockerHub is where docker.io answers.
const dockerHub = "registry-1.docker.io"

// A remote is one repository at one place: the registry of its name, or a mirror of it.
type remote struct {
	net    *network
	ring   keyring
	host   string // as it was typed: settings and credentials are bound to it
	base   url.URL
	repo   string
	mirror bool
	given  *Credentials // instead of the keyring's
	tls    bool         // verified
	tell   func(Event)  // of pauses before what is tried again; may be nil

	mu     sync.Mutex // of what connections tell
	near   nearness
	probed bool
	met    bool // it has answered

	auth    sync.Mutex // held while a token is fetched: who needs one as well waits for it
	cred    *Credentials
	lacking error // why there are none, if somebody keeps them
	basic   bool
	tokens  map[string]string // by scope
}

// A RegistryError is a registry's answer that is no success.
type RegistryError struct {
	Host    string
	Method  string
	Path    string
	Status  int
	Code    string // of the distribution spec: MANIFEST_UNKNOWN
	Message string
	wait    time.Duration // Retry-After
	refusal string        // of a refusal: see refusalOf
}

func (e *RegistryError) Error() string {
	s := e.bare()
	switch {
	case e.refused():
		s += ": the repository may not exist, or need `kakuri login " + e.Host + "`"
	case e.Status == http.StatusTooManyRequests && e.wait > 0:
		s += fmt.Sprintf(": it asks to wait for %v", e.wait)
	}
	return s
}

// bare is the answer without what can be done. The code is spelled as Docker has it, which scripts look for: toomanyrequests, manifest unknown.
func (e *RegistryError) bare() string {
	s := fmt.Sprintf("registry %s: %s %s: %d %s", e.Host, e.Method, e.Path, e.Status, http.StatusText(e.Status))
	if e.refusal != "" {
		s += ": " + e.refusal
	}
	if e.Code != "" {
		s += ": " + strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// refused reports whether the registry wants somebody else, or more of him.
func (e *RegistryError) refused() bool {
	return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
}

// printable makes what somebody else wrote fit for a line on a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return ' '
		}
		return r
	}, s)
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "") + "…"
	}
	return s
}

// sources lists where a repository can be read: mirrors first.
func (s *Store) sources(r Reference, given *Credentials) ([]*remote, error) {
	rules, err := s.net.rules()
	if err != nil {
		return nil, err
	}
	own, err := s.remote(r, given)
	if err != nil {
		return nil, err
	}
	var list []*remote
	for _, m := range rules.Registries[r.Domain].Mirrors {
		u, err := mirrorURL(m)
		if err != nil {
			return nil, err
		}
		rem := &remote{net: s.net, ring: newKeyring(s.o.DockerConfig), host: u.Host, base: *u, mirror: true, probed: u.Scheme == "http"}
		rem.repo = strings.Trim(u.Path, "/")
		if rem.repo != "" {
			rem.repo += "/"
		}
		rem.repo += r.Path
		rem.base.Path = ""
		rem.tls = !rules.insecure(u.Host)
		list = append(list, rem)
	}
	p := rules.prefix(r)
	if p == nil || len(list) > 0 { // kakuri's own settings and Docker's go before
		return append(list, own), nil
	}
	places, err := p.places(r)
	for _, at := range places {
		if at.to.Name() == r.Name() {
			own.tls = own.tls && !at.insecure
			list = append(list, own)
			continue
		}
		rem, err := s.remote(at.to, nil)
		if err != nil {
			return nil, err
		}
		rem.mirror, rem.tls = true, rem.tls && !at.insecure
		list = append(list, rem)
	}
	return list, err
}

// remote is the registry that a name has, and no other: what a push goes to.
func (s *Store) remote(r Reference, given *Credentials) (*remote, error) {
	rules, err := s.net.rules()
	if err != nil {
		return nil, err
	}
	if rules.Registries[r.Domain].Blocked {
		return nil, fmt.Errorf("registry %s: the settings block it", r.Domain)
	}
	if p := rules.prefix(r); p != nil && p.Blocked {
		return nil, fmt.Errorf("registry %s: the settings block %s", r.Domain, p.Prefix)
	}
	host := r.Domain
	if host == defaultDomain {
		host = dockerHub
	}
	return &remote{
		net: s.net, ring: newKeyring(s.o.DockerConfig), host: r.Domain, repo: r.Path, given: given,
		base: url.URL{Scheme: "https", Host: host}, tls: !rules.insecure(r.Domain),
	}, nil
}

// A request is one question to a registry. What can be asked again has a body that can be opened again.
type request struct {
	method string
	path   string   // below /v2/
	query  string   // without "?"
	url    *url.URL // instead of path, where the registry sent us
	header http.Header
	body   func() (io.ReadCloser, error)
	size   int64
	scope  string // actions on the repository: pull, or pull,push
	also   string // one more scope, of a mount's source
	ok     []int
	once   bool // no retry: the caller knows better
}

// scopes are what a token has to be for.
func (r *remote) scopes(q *request) []string {
	if r.repo == "" || q.scope == "" {
		return nil
	}
	list := []string{"repository:" + r.repo + ":" + q.scope}
	if q.also != "" {
		list = append(list, q.also)
	}
	return list
}

// do asks, and asks again where that makes sense: after a broken connection, on 429 and on 5xx, with a pause that doubles,
// or that the registry names.
func (r *remote) do(ctx context.Context, q *request) (*http.Response, error) {
	p := r.net.patience()
	for try := 1; ; try++ {
		resp, err := r.ask(ctx, q)
		if err == nil {
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if try >= p.tries || q.once || !retryable(err) || r.hopeless(try, err) {
			return nil, err
		}
		if err := r.pause(ctx, try, err); err != nil {
			return nil, err
		}
	}
}

// hopeless reports whether there is nobody to ask: a name server for longer than a moment, or whoever was asked, where one that has answered before may be
// starting anew. A resolver that had no answer in its time has asked each server more than once.
func hopeless(try int, err error, met bool) bool {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return try >= 3 || dns.IsTimeout
	}
	return (try >= 3 || !met) && errors.Is(err, syscall.ECONNREFUSED)
}

func (r *remote) hopeless(try int, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return hopeless(try, err, r.met)
}

// pause waits before the next try, and tells of it. It gives cause back where the registry asks for more time than there is.
func (r *remote) pause(ctx context.Context, try int, cause error) error {
	p := r.net.patience()
	wait := min(p.backoff<<min(try-1, 10), p.maxWait)
	wait += rand.N(wait/2 + 1) // those who were cut off together do not come back together
	var answer *RegistryError
	if errors.As(cause, &answer) && answer.wait > 0 {
		if wait = answer.wait; wait > p.maxWait {
			return cause
		}
	}
	if r.tell != nil {
		r.tell(Event{ID: r.host, Status: fmt.Sprintf("Retrying in %v: %v", wait.Round(100*time.Millisecond), cause)})
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// retryable reports whether the same question may get another answer.
func retryable(err error) bool {
	var answer *RegistryError
	if errors.As(err, &answer) {
		switch answer.Status {
		case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusRequestTimeout:
			return true
		}
		return false
	}
	var cert *tls.CertificateVerificationError
	var dns *net.DNSError
	var final *finalError
	switch {
	case errors.As(err, &cert), errors.As(err, &final), errors.As(err, new(tls.RecordHeaderError)):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	}
	return true
}

// A finalError is one that a retry does not cure.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

func final(format string, args ...any) error { return &finalError{fmt.Errorf(format, args...)} }

// scheme finds out, once, whether an insecure registry speaks TLS. A registry that is to be verified is never asked without.
func (r *remote) scheme(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tls || r.probed {
		return nil
	}
	t, err := r.net.transport(r.base.Host, anywhere, true)
	if err != nil {
		return err
	}
	var first error
	for _, scheme := range []string{"https", "http"} {
		u := r.base
		u.Scheme, u.Path = scheme, "/v2/"
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			cancel()
			return err
		}
		req.Header.Set("User-Agent", r.net.userAgent())
		resp, err := t.RoundTrip(req)
		cancel()
		if err == nil {
			resp.Body.Close()
			r.base.Scheme, r.probed = scheme, true
			return nil
		}
		if first == nil || errors.As(first, new(tls.RecordHeaderError)) { // it speaks HTTP: that error counts
			first = err
		}
	}
	return fmt.Errorf("registry %s: %w", r.host, first)
}

// ask asks once: with the credentials that are known, with better ones if the registry wants some, and where it sends us.
func (r *remote) ask(ctx context.Context, q *request) (*http.Response, error) {
	if err := r.scheme(ctx); err != nil {
		return nil, err
	}
	u := r.base
	u.Path, u.RawQuery = "/v2/"+q.path, q.query
	if q.url != nil {
		u = *q.url
	}
	own := r.owns(&u)
	for round := 0; ; round++ {
		auth := ""
		if own {
			var err error
			if auth, err = r.authorization(ctx, q); err != nil {
				return nil, err
			}
		}
		resp, err := r.send(ctx, q, &u, auth, own)
		if err != nil {
			return nil, r.hinted(err)
		}
		r.mu.Lock()
		r.met = true
		r.mu.Unlock()
		if resp.StatusCode != http.StatusUnauthorized || !own || round == 2 {
			return r.judge(q, &u, resp)
		}
		challenges := resp.Header.Values("WWW-Authenticate")
		answer := answerOf(r.host, q, &u, resp)
		again, err := r.challenged(ctx, q, challenges, auth)
		if err != nil {
			return nil, err
		}
		if !again {
			return nil, answer
		}
	}
}

// hinted says what a user can do about an error of a connection, where we know.
func (r *remote) hinted(err error) error {
	err = fmt.Errorf("registry %s: %w", r.host, unwrapURL(err))
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &header):
		if string(header.RecordHeader[:]) == "HTTP/" { // in the words of net/http's client, and so Docker's
			err = fmt.Errorf("registry %s: %w (%w)", r.host, http.ErrSchemeMismatch, header)
		}
		return fmt.Errorf("%w: it has no TLS: if that is meant, name it under \"insecure\" in /etc/kakuri/registries.json", err)
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return fmt.Errorf("%w: if it has a CA of its own, put that into /etc/docker/certs.d/%s/ca.crt", err, r.host)
	}
	return err
}

// owns reports whether a URL is of the very registry: the same scheme, host and port. Credentials go nowhere else.
func (r *remote) owns(u *url.URL) bool {
	return u.Scheme == r.base.Scheme && strings.EqualFold(canonicalHost(u), canonicalHost(&r.base))
}

func canonicalHost(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// unwrapURL takes the method and the URL off an error: they are told already, and a URL may have a secret in its query.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// send sends to one URL, and follows redirects of what can be asked again, without anything that is for the registry only.
func (r *remote) send(ctx context.Context, q *request, u *url.URL, auth string, own bool) (*http.Response, error) {
	for hop := 0; ; hop++ {
		resp, err := r.roundTrip(ctx, q, u, auth, own)
		if err != nil {
			return nil, err
		}
		if q.method != http.MethodGet && q.method != http.MethodHead {
			return resp, nil
		}
		switch resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return resp, nil
		}
		resp.Body.Close()
		next, err := u.Parse(resp.Header.Get("Location"))
		if err != nil || next.Host == "" {
			return nil, final("a redirect to nowhere: %q", printable(resp.Header.Get("Location")))
		}
		if err := oneMore(hop); err != nil {
			return nil, err
		}
		if err := r.allowed(next); err != nil {
			return nil, err
		}
		u, auth, own = next, "", r.owns(next)
	}
}

// allowed says whether a registry may send us to a URL.
func (r *remote) allowed(u *url.URL) error {
	if u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return final("redirected to %s: want a plain URL", printable(u.Redacted()))
	}
	if r.base.Scheme == "https" && r.tls {
		return keepsTLS(u)
	}
	return nil
}

func (r *remote) roundTrip(ctx context.Context, q *request, u *url.URL, auth string, own bool) (*http.Response, error) {
	limit := anywhere
	insecure := !r.tls
	if !own {
		r.mu.Lock()
		limit = r.near
		r.mu.Unlock()
		rules, err := r.net.rules()
		if err != nil {
			return nil, err
		}
		insecure = rules.insecure(u.Host)
	}
	t, err := r.net.transport(u.Host, limit, insecure)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := r.request(ctx, cancel, q, u, auth, own)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	waits := func() bool { return true }
	if q.body == nil {
		p := r.net.patience()
		waits = time.AfterFunc(2*p.stall, func() { cancel(&stallError{2 * p.stall}) }).Stop
	}
	resp, err := t.RoundTrip(req)
	waits()
	if err != nil {
		var stalled *stallError
		if cause := context.Cause(ctx); errors.As(cause, &stalled) {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols { // its body is the connection, which nothing cancels
		resp.Body.Close()
		cancel(nil)
		return nil, final("%s answered %s, which it was not asked to", printable(u.Host), printable(resp.Status))
	}
	resp.Body = newWatch(ctx, cancel, r.net.patience(), resp.Body, false)
	return resp, nil
}

// request is q for a URL, with what is sent to the registry's own places alone; a body that stands still cancels it.
func (r *remote) request(ctx context.Context, cancel context.CancelCauseFunc, q *request, u *url.URL, auth string, own bool) (*http.Request, error) {
	var body io.Reader
	if q.body != nil {
		b, err := q.body()
		if err != nil {
			return nil, err
		}
		body = newWatch(ctx, func(cause error) {
			var stalled *stallError
			if errors.As(cause, &stalled) {
				cancel(cause)
			}
		}, r.net.patience(), b, true)
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, r.trace(own)), q.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if q.body != nil {
		req.ContentLength = q.size
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	if own {
		meta, err := r.net.metaHeaders()
		if err != nil {
			return nil, err
		}
		maps.Copy(req.Header, meta)
	}
	req.Header.Set("User-Agent", r.net.userAgent())
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	return req, nil
}

func (n *network) userAgent() string {
	if n.o.UserAgent != "" {
		return n.o.UserAgent
	}
	return "kakuri"
}

// trace notes how near the registry itself is.
func (r *remote) trace(own bool) *httptrace.ClientTrace {
	if !own {
		return &httptrace.ClientTrace{}
	}
	return &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if a, err := netip.ParseAddrPort(info.Conn.RemoteAddr().String()); err == nil {
			r.mu.Lock()
			r.near = max(r.near, nearnessOf(a.Addr()))
			r.mu.Unlock()
		}
	}}
}

// judge gives answers that were expected, and makes errors of others.
func (r *remote) judge(q *request, u *url.URL, resp *http.Response) (*http.Response, error) {
	for _, ok := range q.ok {
		if resp.StatusCode == ok {
			return resp, nil
		}
	}
	return nil, answerOf(r.host, q, u, resp)
}

// answerOf reads an answer that is no success, and closes it.
func answerOf(host string, q *request, u *url.URL, resp *http.Response) *RegistryError {
	defer resp.Body.Close()
	e := &RegistryError{Host: host, Method: q.method, Path: u.Path, Status: resp.StatusCode, wait: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	var body struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
		Details string `json:"details"`
	}
	if json.Unmarshal(raw, &body) == nil {
		e.Message = printable(body.Details)
		if len(body.Errors) > 0 {
			e.Code, e.Message = printable(body.Errors[0].Code), printable(body.Errors[0].Message)
		}
	}
	if e.refused() {
		e.refusal = refusalOf(resp, e.Message == "")
	}
	return e
}

// refusalOf tells why one is refused, in the words of Docker that scripts look for: one who gave no name; and if the answer is mute, as each of a HEAD is, one
// who may not do this, and one whose name or password are not taken.
func refusalOf(resp *http.Response, mute bool) string {
	scheme, _ := parseChallenge(resp.Header.Get("WWW-Authenticate"))
	switch {
	case scheme == "basic" && resp.Request.Header.Get("Authorization") == "":
		return "authorization failed: no basic auth credentials"
	case !mute:
		return ""
	case resp.StatusCode == http.StatusForbidden || scheme == "bearer":
		return "denied: requested access to the resource is denied"
	}
	return "unauthorized: authentication required"
}

// retryAfter reads the header: seconds or a date.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}
