package image

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/testimage"
	"golang.org/x/sys/unix"
)

const secret = "s3cr3t-pass"

// login writes a config.json with a password for a host.
func login(t testing.TB, s *Store, host string) {
	t.Helper()
	if _, err := newKeyring(s.o.DockerConfig).put(t.Context(), host, Credentials{Username: "user", Password: secret}); err != nil {
		t.Fatal(err)
	}
}

// clean fails a test if a server saw anything that was not for it.
func (k *fake) clean(t testing.TB) {
	t.Helper()
	for _, r := range k.requests() {
		raw := r.URL.String()
		for key, values := range r.Header {
			raw += key + strings.Join(values, " ")
		}
		_ = r.ParseForm()
		raw += r.Form.Encode()
		if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" || strings.Contains(raw, secret) || strings.Contains(raw, "granted") || r.FormValue("account") != "" {
			t.Errorf("%s %s of somebody else saw %s", r.Method, r.Host, raw)
		}
	}
}

// guard makes a registry ask for a token of a realm, or for a password.
func (k *fake) guard(challenge string, accept func(auth string) bool, next func(w http.ResponseWriter, r *http.Request) bool) {
	k.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v2/") {
			return next != nil && next(w, r)
		}
		if !accept(r.Header.Get("Authorization")) {
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return next != nil && next(w, r)
	}
}

func isBasic(auth string) bool {
	return auth == "Basic "+base64.StdEncoding.EncodeToString([]byte("user:"+secret))
}

// realmOf answers as a token server.
func realmOf(t testing.TB) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/token" {
			return false
		}
		if s := r.FormValue("scope"); s != "" && s != "repository:a:pull" && s != "repository:a:pull,push" {
			t.Errorf("scope %q", s)
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"token": "granted"})
		return true
	}
}

func pullable() *fixture { return latest(layersOf(2)...) }

// TestAuth: a password by Basic, a token with and without a password, a token that ends in the middle.
func TestAuth(t *testing.T) {
	for _, kind := range []string{"basic", "token", "anonymous", "expiring"} {
		k := serve(t, pullable())
		issued, used := 0, 0
		challenge := fmt.Sprintf(`Bearer realm="%s/token",service="here",scope="repository:a:pull"`, k.url)
		good := func(auth string) bool { return auth == "Bearer granted" }
		switch kind {
		case "basic":
			challenge, good = `Basic realm="x"`, isBasic
		case "expiring":
			good = func(auth string) bool {
				k.mu.Lock()
				defer k.mu.Unlock()
				if auth != fmt.Sprint("Bearer granted", issued) {
					return false
				}
				used++
				return used < 3
			}
		}
		realm := realmOf(t)
		if kind == "expiring" {
			realm = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/token" {
					return false
				}
				k.mu.Lock()
				defer k.mu.Unlock()
				issued, used = issued+1, 0
				_ = json.NewEncoder(w).Encode(map[string]string{"access_token": fmt.Sprint("granted", issued)})
				return true
			}
		}
		k.guard(challenge, good, realm)
		s := newStore(t, nil)
		if kind != "anonymous" {
			login(t, s, k.host)
		}
		if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		for _, r := range k.requests() {
			if r.URL.Path == "/token" && kind != "anonymous" && !isBasic(r.Header.Get("Authorization")) {
				t.Errorf("%s: the realm saw %v", kind, r.Header)
			}
		}
	}
}

// TestAuthWrong: a password that is not taken is not sent for ever.
func TestAuthWrong(t *testing.T) {
	k := serve(t, pullable())
	k.guard(`Basic realm="x"`, func(string) bool { return false }, nil)
	s := newStore(t, nil)
	login(t, s, k.host)
	_, err := s.Pull(t.Context(), k.host+"/a", PullOptions{})
	var answer *RegistryError
	if !errors.As(err, &answer) || answer.Status != 401 || strings.Count(err.Error(), "kakuri login "+k.host) != 1 ||
		!strings.Contains(err.Error(), "pull access denied for "+k.host+"/a, repository does not exist or may require '") {
		t.Error(err)
	}
	if _, err := s.Login(t.Context(), k.host, Credentials{Username: "a", Password: "b"}); err == nil || strings.Contains(err.Error(), "kakuri login") || !strings.Contains(err.Error(), "unauthorized") {
		t.Errorf("login: %v", err)
	}
	if n := len(k.requests()); n > 8 {
		t.Errorf("%d requests", n)
	}
}

// twin is a second registry, under another address: what the first one sends us to must not see the first one's secrets.
func twin(t testing.TB, f *fixture) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &fake{fixture: f, t: t}
	k.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: k}}
	k.server.Start()
	k.listen()
	return k
}

// TestCredentialsStayHome: CVE-2020-15157, 2026-48978, 2026-33540, 2026-50151, 2026-49349, 2019-10214, 2021-41092: redirects, realms, foreign URLs, upload
// locations and mirrors of others see no password and no token.
func TestCredentialsStayHome(t *testing.T) {
	redirect := func(status int, path string, to *fake) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, path) {
				return false
			}
			http.Redirect(w, r, to.url+r.URL.Path, status)
			return true
		}
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, path := range []string{"/blobs/", "/manifests/"} {
			f := pullable()
			a, b := serve(t, f), twin(t, f)
			a.guard(`Basic realm="x"`, isBasic, redirect(status, path, b))
			s := newStore(t, nil)
			login(t, s, a.host)
			if _, err := s.Pull(t.Context(), a.host+"/a", PullOptions{}); err != nil {
				t.Errorf("%d %s: %v", status, path, err)
			}
			if len(b.requests()) == 0 {
				t.Errorf("%d %s: nobody was redirected", status, path)
			}
			b.clean(t)
		}
	}
	t.Run("bearer of the other", func(t *testing.T) { // the other one asks for a token, by its own challenge
		f := pullable()
		a, b := serve(t, f), twin(t, f)
		a.guard(`Basic realm="x"`, isBasic, redirect(307, "/blobs/", b))
		b.guard(fmt.Sprintf(`Bearer realm="%s/token"`, b.url), func(string) bool { return false }, nil)
		s := newStore(t, nil)
		login(t, s, a.host)
		if _, err := s.Pull(t.Context(), a.host+"/a", PullOptions{}); err == nil {
			t.Error("no error")
		}
		b.clean(t)
		empty(t, s)
	})
	t.Run("realm", func(t *testing.T) {
		a, b := serve(t, pullable()), twin(t, newFixture())
		a.guard(fmt.Sprintf(`Bearer realm="%s/token",service="a"`, b.url), func(auth string) bool { return auth == "Bearer granted" }, nil)
		b.before = realmOf(t)
		s := newStore(t, nil)
		login(t, s, a.host)
		_, err := s.Pull(t.Context(), a.host+"/a", PullOptions{})
		if err == nil {
			t.Error("no error")
		}
		b.clean(t)
		if len(b.requests()) > 0 {
			t.Error("the realm of another owner was asked")
		}
		empty(t, s)
	})
	t.Run("location", func(t *testing.T) {
		f := pullable()
		a, b := serve(t, newFixture()), twin(t, newFixture())
		a.guard(`Basic realm="x"`, isBasic, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				w.Header().Set("Location", b.url+"/upload")
				w.WriteHeader(http.StatusAccepted)
			} else {
				w.WriteHeader(http.StatusNotFound)
			}
			return true
		})
		b.before = func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		s := newStore(t, nil)
		login(t, s, a.host)
		src := serve(t, f)
		if _, err := s.Pull(t.Context(), src.host+"/a", PullOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Tag(t.Context(), src.host+"/a", a.host+"/b"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Push(t.Context(), a.host+"/b", PushOptions{}); err == nil {
			t.Error("no error")
		}
		if len(b.requests()) == 0 {
			t.Error("the location was not used")
		}
		b.clean(t)
	})
	t.Run("port", func(t *testing.T) { // the same host at another port is another registry
		a, b := serve(t, pullable()), serve(t, pullable())
		b.guard(`Basic realm="x"`, isBasic, nil)
		s := newStore(t, nil)
		login(t, s, a.host)
		if _, err := s.Pull(t.Context(), b.host+"/a", PullOptions{}); err == nil {
			t.Error("no error")
		}
		b.clean(t)
	})
	t.Run("mirror", func(t *testing.T) {
		f := pullable()
		a, b := serve(t, f), twin(t, f)
		a.guard(`Basic realm="x"`, isBasic, nil)
		b.guard(`Basic realm="x"`, isBasic, nil)
		s := newStore(t, &Settings{Registries: map[string]Registry{a.host: {Mirrors: []string{b.url}}}})
		login(t, s, a.host)
		if _, err := s.Pull(t.Context(), a.host+"/a", PullOptions{}); err != nil {
			t.Error(err)
		}
		b.clean(t)
	})
	t.Run("unasked", func(t *testing.T) { // nothing is sent to a registry that did not ask
		a := serve(t, pullable())
		s := newStore(t, nil)
		login(t, s, a.host)
		if _, err := s.Pull(t.Context(), a.host+"/a", PullOptions{}); err != nil {
			t.Error(err)
		}
		a.clean(t)
	})
}

// TestRealm: who may be given a password for a token.
func TestRealm(t *testing.T) {
	s := newStore(t, &Settings{Registries: map[string]Registry{"lscr.example": {Realms: []string{"ghcr.example.org"}}}})
	for _, test := range []struct {
		host, realm string
		trusted, ok bool
	}{
		{"docker.io", "https://auth.docker.io/token", true, true},
		{"ghcr.io", "https://ghcr.io/token", true, true},
		{"registry.gitlab.com", "https://gitlab.com/jwt/auth", true, true},
		{"registry.gitlab.com:5050", "https://gitlab.com/jwt/auth", true, true},
		{"registry.example:5000", "https://registry.example:5001/auth", true, true},
		{"lscr.example", "https://ghcr.example.org/token", true, true},
		{"lscr.example", "https://ghcr.example.org:444/token", false, true},
		{"a.github.io", "https://b.github.io/token", false, true}, // a public suffix
		{"a.co.uk", "https://b.co.uk/token", false, true},
		{"quay.io", "https://quay.io.evil.example/token", false, true},
		{"quay.io", "https://evilquay.io/token", false, true},
		{"10.0.0.1", "https://10.0.0.2/token", false, true},
		{"10.0.0.1", "https://11.1.0.1/token", false, true}, // the last two parts are no owner's
		{"10.0.0.1", "https://10.0.0.1:5001/token", true, true},
		{"quay.io", "http://quay.io/token", false, false},
		{"quay.io", "https://user:pw@quay.io/token", false, false},
		{"quay.io", "file:///etc/passwd", false, false},
		{"quay.io", "", false, false},
	} {
		r, err := s.remote(Reference{Domain: test.host, Path: "a"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, trusted, err := r.realm(test.realm)
		if trusted != test.trusted || (err == nil) != test.ok {
			t.Errorf("%s %s: %v %v", test.host, test.realm, trusted, err)
		}
	}
	r, err := s.remote(Reference{Domain: "quay.io", Path: "a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Credentials{{Username: "user", Password: secret}, {IdentityToken: secret}} {
		if _, _, err := r.token(t.Context(), map[string]string{"realm": "https://evil.example/token"}, nil, c, false); err == nil || !strings.Contains(err.Error(), "another owner's") {
			t.Errorf("%v", err)
		}
	}
}

// TestOwns: what is of a registry itself, and is told what only it is told.
func TestOwns(t *testing.T) {
	for _, test := range []struct {
		base, to string
		want     bool
	}{
		{"https://a.example", "https://A.example:443/v2/", true},
		{"http://a.example", "http://a.example:80", true},
		{"https://a.example", "https://a.example:5000", false},
		{"https://a.example:5000", "http://a.example:5000", false},
		{"http://a.example:5000", "https://a.example:5000", false},
		{"https://a.example", "https://b.a.example", false},
	} {
		base, err := url.Parse(test.base)
		to, err2 := url.Parse(test.to)
		if r := (&remote{base: *base}); err != nil || err2 != nil || r.owns(to) != test.want {
			t.Errorf("%s of %s: %v; %v %v", test.to, test.base, !test.want, err, err2)
		}
	}
}

// TestRealmNearness: the realm of a registry elsewhere is not asked where it is nearer to this machine than that (CVE-2026-33990).
func TestRealmNearness(t *testing.T) {
	k := serve(t, pullable())
	k.guard(`Bearer realm="https://169.254.169.254/token"`, func(string) bool { return false }, nil)
	s := newStore(t, nil)
	if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); err == nil || !strings.Contains(err.Error(), "169.254.169.254 is nearer to this machine") {
		t.Errorf("%v", err)
	}
}

// TestTokenField: only the field that is spelled so is a token (CVE-2026-33990: a cloud's metadata has "Token").
func TestTokenField(t *testing.T) {
	for _, body := range []string{`{"Token":"granted"}`, `{"TOKEN":"granted"}`, `{}`, `[]`, `granted`, `{"token":"a\nb"}`, `{"token":"granted and more"}`} {
		k := serve(t, pullable())
		k.guard(fmt.Sprintf(`Bearer realm="%s/token"`, k.url), func(auth string) bool { return strings.HasPrefix(auth, "Bearer granted") }, func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/token" {
				return false
			}
			_, _ = w.Write([]byte(body))
			return true
		})
		s := newStore(t, nil)
		if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); err == nil {
			t.Errorf("%s was taken", body)
		}
	}
}

// TestTokenTries: whoever waits for a token does not ask for it as often again as it is asked for.
func TestTokenTries(t *testing.T) {
	for what, test := range map[string]struct {
		body string
		most int64
	}{
		"cut":   {"", int64(new(network).patience().tries) + 1}, // net/http asks once more where a kept connection was closed
		"large": {`{"token":"` + strings.Repeat("x", maxToken) + `"}`, 1},
	} {
		var asked atomic.Int64
		k := serve(t, pullable())
		k.guard(fmt.Sprintf(`Bearer realm="%s/token"`, k.url), func(string) bool { return false }, func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/token" {
				return false
			}
			asked.Add(1)
			if test.body == "" {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, test.body)
			return true
		})
		s := newStore(t, nil)
		_, err := s.Pull(t.Context(), k.host+"/a", PullOptions{})
		if err == nil || !strings.Contains(err.Error(), "token from "+k.host) {
			t.Errorf("%s: %v", what, err)
		}
		if n := asked.Load(); n > test.most {
			t.Errorf("%s: asked %d times, want %d", what, n, test.most)
		}
	}
}

// secureFake is a registry with TLS, under a name.
func secureFake(t testing.TB, f *fixture) *fake {
	t.Helper()
	k := &fake{fixture: f, t: t}
	testimage.Loopback(t)
	k.server = httptest.NewTLSServer(k)
	k.listen()
	return k
}

// TestTLS: TLS is verified for whatever is not named insecure, and nobody falls back to HTTP (CVE-2014-5277). That a name leads to this
// machine changes nothing (CVE-2026-92543).
func TestTLS(t *testing.T) {
	k := secureFake(t, pullable())
	plain := serve(t, pullable())
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(k.host)
	for _, test := range []struct {
		name     string
		host     string
		to       string
		settings Settings
		ok       bool
	}{
		{"unknown certificate of a name that leads here", "registry.example:" + port, k.host, Settings{}, false},
		{"plain", "registry.example:80", plain.host, Settings{}, false},
		{"with its CA", "example.com:" + port, k.host, Settings{Registries: map[string]Registry{"example.com:" + port: {CA: ca}}}, true},
		{"with the CA of another", "example.com:" + port, k.host, Settings{Registries: map[string]Registry{"example.com": {CA: ca}}}, false},
		{"the CA, but another name", "registry.example:" + port, k.host, Settings{Registries: map[string]Registry{"registry.example:" + port: {CA: ca}}}, false},
		{"insecure, TLS", "registry.example:" + port, k.host, Settings{Registries: map[string]Registry{"registry.example:" + port: {Insecure: true}}}, true},
		{"insecure, plain", "registry.example:80", plain.host, Settings{Insecure: []string{"registry.example:80"}}, true},
		{"insecure network, and a name in it", "registry.example:80", plain.host, Settings{Insecure: []string{"127.0.0.0/8"}}, false},
		{"insecure network", "10.1.2.3:80", plain.host, Settings{Insecure: []string{"10.0.0.0/8"}}, true},
		{"another network", "10.1.2.3:80", plain.host, Settings{Insecure: []string{"10.2.0.0/16"}}, false},
		{"localhost", "localhost:" + port, k.host, Settings{}, true},
		{"localhost, plain", "localhost:80", plain.host, Settings{}, true},
		{"localhost's domain", "localhost.example:80", plain.host, Settings{}, false},
		{"loopback", plain.host, plain.host, Settings{}, true},
		{"IPv6 loopback", "[::1]:80", plain.host, Settings{}, true},
		{"blocked", plain.host, plain.host, Settings{Registries: map[string]Registry{plain.host: {Blocked: true}}}, false},
	} {
		s := newStore(t, &test.settings)
		s.net.dial = func(string) string { return test.to }
		before := len(plain.requests())
		_, err := s.Pull(t.Context(), test.host+"/a", PullOptions{})
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
		if !test.ok && test.name != "blocked" && len(plain.requests()) > before {
			t.Errorf("%s: asked without TLS", test.name)
		}
		if !test.ok {
			empty(t, s)
		}
		if test.name == "plain" && !errors.Is(err, http.ErrSchemeMismatch) {
			t.Errorf("plain: %v", err)
		}
		hint := map[string]string{"plain": `"insecure"`, "the CA, but another name": "certs.d"}[test.name]
		if hint != "" && !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: no hint: %v", test.name, err)
		}
	}
}

// TestRedirects: from TLS to none, to what is nearer than the registry, in a circle, to no URL.
func TestRedirects(t *testing.T) {
	f := pullable()
	k := secureFake(t, f)
	plain := serve(t, f)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		plain.url: "from https to http", "http://169.254.169.254": "from https to http", "https://169.254.169.254": "is nearer to this machine",
		"file:///etc/passwd": "a redirect to nowhere", "https:///": "a redirect to nowhere", "https://user:pw@example.com": "want a plain URL", "gopher://x": "want a plain URL",
		"": "more than 5 redirects", "/v2/a/blobs/again": "more than 5 redirects",
	} {
		k.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			location := to
			if strings.HasPrefix(to, "http") {
				location += r.URL.Path
			}
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}
		s := newStore(t, &Settings{Registries: map[string]Registry{"example.com": {CA: ca}}})
		s.net.dial = func(address string) string {
			if strings.HasPrefix(address, "example.com") {
				return k.host
			}
			return address
		}
		before, asked := len(plain.requests()), len(k.requests())
		if _, err := s.Pull(t.Context(), "example.com/a", PullOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", to, err, want)
		}
		if n := len(k.requests()) - asked; n > 1+1+5 { // the manifest, a blob, where that leads
			t.Errorf("%q: %d requests", to, n)
		}
		if len(plain.requests()) > before {
			t.Errorf("%q: asked without TLS", to)
		}
		empty(t, s)
	}
}

// TestRedirectsAreVerified: that a registry is named insecure says nothing of whom it sends us to.
func TestRedirectsAreVerified(t *testing.T) {
	k, plain := secureFake(t, pullable()), serve(t, pullable())
	plain.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		http.Redirect(w, r, "https://example.com"+r.URL.Path, http.StatusTemporaryRedirect)
		return true
	}
	s := newStore(t, nil)
	s.net.dial = func(address string) string {
		if strings.HasPrefix(address, "example.com") {
			return k.host
		}
		return address
	}
	if _, err := s.Pull(t.Context(), plain.host+"/a", PullOptions{}); !errors.As(err, new(*tls.CertificateVerificationError)) {
		t.Errorf("%v", err)
	}
	empty(t, s)
}

// TestNearness: which addresses a registry elsewhere may not send us to.
func TestNearness(t *testing.T) {
	near := map[string]nearness{
		"8.8.8.8": public, "10.1.2.3": private, "192.168.1.1": private, "172.31.0.1": private, "172.32.0.1": public, "100.64.0.1": private, "fd00::1": private,
		"127.0.0.1": loopback, "::1": loopback, "::ffff:127.0.0.1": loopback, "169.254.169.254": linkLocal, "fe80::1": linkLocal, "0.0.0.0": linkLocal, "::": linkLocal,
		"224.0.0.1": linkLocal, "2001:4860:4860::8888": public,
		// What a router of the network makes an address of IPv4 of is as near as that one.
		"64:ff9b::169.254.169.254": linkLocal, "64:ff9b::127.0.0.1": loopback, "64:ff9b::10.0.0.1": private, "64:ff9b::8.8.8.8": public, "64:ff9b:1::1": private,
		"2002:a9fe:a9fe::1": linkLocal, "2002:c0a8:101::1": private, "2002:808:808::1": public,
	}
	for text, want := range near {
		if got := nearnessOf(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
	s := newStore(t, nil)
	k := serve(t, newFixture())
	for limit, ok := range map[nearness]bool{public: false, private: false, loopback: true, anywhere: true} {
		tr, err := s.net.transport(k.host, limit, true)
		if err != nil {
			t.Fatal(err)
		}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, k.url+"/v2/", nil)
		resp, err := tr.RoundTrip(req)
		if (err == nil) != ok {
			t.Errorf("limit %d: %v", limit, err)
		}
		if err != nil && retryable(err) {
			t.Errorf("limit %d: it would be tried again: %v", limit, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
}

// TestConfigJSON: Docker's file is read as Docker reads it, and what is not ours in it stays.
func TestConfigJSON(t *testing.T) {
	dir := t.TempDir()
	k := newKeyring(dir)
	write := func(text string) {
		if err := os.WriteFile(k.path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	get := func(host string) Credentials {
		t.Helper()
		c, err := k.get(t.Context(), host, "a/b")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	auth := base64.StdEncoding.EncodeToString([]byte("user:pa:ss"))
	write(`{"HttpHeaders":{"X":"y"},"auths":{"https://index.docker.io/v1/":{"auth":"` + auth + `"},"https://one.example/v2/":{"auth":"` + auth + `"},"two.example:5000":{"identitytoken":"id","auth":"` + auth + `"}}}`)
	if c := get("docker.io"); c.Username != "user" || c.Password != "pa:ss" {
		t.Errorf("%+v", c)
	}
	if c := get("one.example"); c.Username != "user" {
		t.Errorf("%+v", c)
	}
	if c := get("two.example:5000"); c.IdentityToken != "id" {
		t.Errorf("%+v", c)
	}
	for _, none := range []string{"one.example:5000", "two.example", "x.one.example", "example", "docker.example"} {
		if c := get(none); !c.empty() {
			t.Errorf("%s: %+v", none, c)
		}
	}
	if where, err := k.put(t.Context(), "three.example", Credentials{Username: "u", Password: "p"}); err != nil || where != k.path {
		t.Fatal(where, err)
	}
	st, err := os.Stat(k.path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	raw, _ := os.ReadFile(k.path)
	if !strings.Contains(string(raw), `"X": "y"`) || get("three.example").Password != "p" || get("docker.io").Password != "pa:ss" {
		t.Errorf("%s", raw)
	}
	if err := k.drop(t.Context(), "three.example"); err != nil || !get("three.example").empty() || get("docker.io").empty() {
		t.Error(err)
	}
	for _, bad := range []string{`{`, `{"auths":[]}`, `{"auths":{"x.example":{"auth":"***"}}}`} {
		write(bad)
		if _, err := k.get(t.Context(), "x.example", "a/b"); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

// DOCKER_AUTH_CONFIG comes before the file, and the file is for the rest. With a directory of its own, a store does not look there.
func TestAuthOfEnvironment(t *testing.T) {
	dir, auth := t.TempDir(), base64.StdEncoding.EncodeToString([]byte("job:token"))
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("DOCKER_AUTH_CONFIG", `{"auths":{"one.example":{"auth":"`+auth+`"}}}`)
	file := `{"auths":{"one.example":{"username":"file"},"two.example":{"username":"file"}}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ dir, host, user string }{{"", "one.example", "job"}, {"", "two.example", "file"}, {dir, "one.example", "file"}} {
		if c, err := newKeyring(test.dir).get(t.Context(), test.host, ""); err != nil || c.Username != test.user {
			t.Errorf("%+v: %+v, %v", test, c, err)
		}
	}
	t.Setenv("DOCKER_AUTH_CONFIG", `{`)
	if _, err := newKeyring("").get(t.Context(), "one.example", ""); err == nil || !strings.Contains(err.Error(), "DOCKER_AUTH_CONFIG") {
		t.Error(err)
	}
}

// Headers of Docker's settings that are meant for registries reach the registry, and not whom it sends us to; those for a daemon reach nobody.
func TestMetaHeaders(t *testing.T) {
	f := pullable()
	a, b := serve(t, f), twin(t, f)
	a.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		http.Redirect(w, r, b.url+r.URL.Path, http.StatusTemporaryRedirect)
		return true
	}
	s := newStore(t, nil)
	if err := os.MkdirAll(s.o.DockerConfig, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.o.DockerConfig, "config.json"), []byte(`{"HttpHeaders":{"x-meta-team":"blue","X-Other":"daemon","Authorization":"no"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pull(t.Context(), a.host+"/a", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, r := range append(a.requests(), b.requests()...) {
		want := ""
		if r.Host == a.host && r.URL.Path != "/v2/" { // which finds out whether it speaks TLS
			want = "blue"
		}
		if got := r.Header.Get("X-Meta-Team"); got != want || r.Header.Get("X-Other")+r.Header.Get("Authorization") != "" {
			t.Errorf("%s%s: %v", r.Host, r.URL, r.Header)
		}
	}
	if len(b.requests()) == 0 {
		t.Error("nobody was redirected")
	}
}

// TestPullHelperMissing: credentials that cannot be had are told of at once.
func TestPullHelperMissing(t *testing.T) {
	k := serve(t, latest(layersOf(1)...))
	k.before = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	s := newStore(t, nil)
	if err := errors.Join(os.MkdirAll(s.o.DockerConfig, 0o700),
		os.WriteFile(filepath.Join(s.o.DockerConfig, "config.json"), []byte(`{"credHelpers":{"`+k.host+`":"nobody-has-this"}}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Pull(t.Context(), k.host+"/a", PullOptions{})
	if err == nil || !strings.Contains(err.Error(), "docker-credential-nobody-has-this") || len(k.requests()) != 2 { // whether it speaks TLS, and what it wants
		t.Errorf("%d requests, %v", len(k.requests()), err)
	}
}

// TestPublicHelperMissing: an image that everybody may have is pulled without the credentials that cannot be had, and one that not everybody may have is refused for want of them.
func TestPublicHelperMissing(t *testing.T) {
	k := serve(t, pullable())
	public := true
	k.guard(fmt.Sprintf(`Bearer realm="%s/token"`, k.url), func(auth string) bool { return public && auth == "Bearer anybody" }, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/token" {
			return false
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"token": "anybody"})
		return true
	})
	s := newStore(t, nil)
	if err := errors.Join(os.MkdirAll(s.o.DockerConfig, 0o700),
		os.WriteFile(filepath.Join(s.o.DockerConfig, "config.json"), []byte(`{"credsStore":"nobody-has-this"}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); err != nil {
		t.Error(err)
	}
	public = false
	if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); err == nil || !strings.Contains(err.Error(), "docker-credential-nobody-has-this get") {
		t.Errorf("a private one: %v", err)
	}
}

// TestHelpers: the protocol of docker-credential-helpers, with a helper that keeps a file.
func TestHelpers(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	script := `#!/bin/sh
case $1 in
store) cat > ` + dir + `/secret ;;
get) read -r server; if grep -q "\"$server\"" ` + dir + `/secret 2>/dev/null; then cat ` + dir + `/secret; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm ` + dir + `/secret 2>&- || { echo "credentials not found in native keychain"; exit 1; } ;;
*) echo broken >&2; exit 2 ;;
esac
`
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	k := newKeyring(dir)
	if err := os.WriteFile(k.path, []byte(`{"credHelpers":{"one.example":"test"},"auths":{"two.example":{"auth":"`+base64.StdEncoding.EncodeToString([]byte("a:b"))+`"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	where, err := k.put(t.Context(), "one.example", Credentials{Username: "user", Password: secret})
	if err != nil || where != "docker-credential-test" {
		t.Fatal(where, err)
	}
	if raw, _ := os.ReadFile(k.path); strings.Contains(string(raw), secret) || strings.Contains(string(raw), base64.StdEncoding.EncodeToString([]byte("user:"+secret))) {
		t.Errorf("the secret is in config.json: %s", raw)
	}
	if c, err := k.get(t.Context(), "one.example", "a/b"); err != nil || c.Password != secret {
		t.Errorf("%+v %v", c, err)
	}
	if c, err := k.get(t.Context(), "two.example", "a/b"); err != nil || c.Username != "a" {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := k.put(t.Context(), "one.example", Credentials{IdentityToken: "id"}); err != nil {
		t.Fatal(err)
	}
	if c, err := k.get(t.Context(), "one.example", "a/b"); err != nil || c.IdentityToken != "id" || c.Username != "" {
		t.Errorf("%+v %v", c, err)
	}
	if err := k.drop(t.Context(), "one.example"); err != nil {
		t.Fatal(err)
	}
	if c, err := k.get(t.Context(), "one.example", "a/b"); err != nil || !c.empty() {
		t.Errorf("%+v %v", c, err)
	}
	if err := k.drop(t.Context(), "one.example"); err != nil {
		t.Errorf("nothing was kept any more: %v", err)
	}
	if err := os.WriteFile(k.path, []byte(`{"credsStore":"nobody-has-this"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.drop(t.Context(), "one.example"); err == nil || !strings.Contains(err.Error(), "docker-credential-nobody-has-this erase") {
		t.Errorf("what a program keeps that is not there is not forgotten: %v", err)
	}
	for _, name := range []string{"../x", "/bin/sh", "", "nobody-has-this"} {
		if _, err := runHelper(t.Context(), name, "get", nil); err == nil {
			t.Errorf("%q ran", name)
		}
	}
}

// TestLogin: a password is kept when the registry takes it, an identity token instead where there is one, and the token is what is used.
func TestLogin(t *testing.T) {
	k := serve(t, pullable())
	k.guard(fmt.Sprintf(`Bearer realm="%s/token",service="here"`, k.url), func(auth string) bool { return auth == "Bearer granted" }, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/token" {
			return false
		}
		switch {
		case r.Method == http.MethodPost && r.FormValue("refresh_token") == "identity" && r.FormValue("grant_type") == "refresh_token":
			_ = json.NewEncoder(w).Encode(map[string]string{"access_token": "granted"})
		case isBasic(r.Header.Get("Authorization")):
			_ = json.NewEncoder(w).Encode(map[string]string{"token": "granted", "refresh_token": "identity"})
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
		return true
	})
	s := newStore(t, nil)
	if _, err := s.Login(t.Context(), k.host, Credentials{Username: "user", Password: "wrong"}); err == nil {
		t.Error("a wrong password was taken")
	}
	if c, err := s.Known(t.Context(), k.host); err != nil || !c.empty() {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := s.Login(t.Context(), k.host, Credentials{Username: "user", Password: secret}); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Known(t.Context(), k.host); err != nil || c.IdentityToken != "identity" || c.Password != "" {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := s.Pull(t.Context(), k.host+"/a", PullOptions{}); err != nil {
		t.Error(err)
	}
	if err := s.Logout(t.Context(), k.host); err != nil {
		t.Error(err)
	}
	if c, err := s.Known(t.Context(), k.host); err != nil || !c.empty() {
		t.Errorf("%+v %v", c, err)
	}
	var refused *LoginError
	if _, err := s.Login(t.Context(), "bad host", Credentials{}); err == nil || errors.As(err, &refused) {
		t.Error(err)
	}
}

func TestChallenge(t *testing.T) {
	for _, test := range []struct{ in, scheme, realm, scope string }{
		{`Bearer realm="https://x/t",service="s",scope="a:b:pull,push"`, "bearer", "https://x/t", "a:b:pull,push"},
		{`bearer  realm="https://x/t" , scope=a`, "bearer", "https://x/t", "a"},
		{`Basic realm="a \"b\""`, "basic", `a "b"`, ""},
		{`Basic`, "basic", "", ""},
		{`Bearer realm="open`, "bearer", "open", ""},
		{``, "", "", ""},
	} {
		scheme, params := parseChallenge(test.in)
		if scheme != test.scheme || params["realm"] != test.realm || params["scope"] != test.scope {
			t.Errorf("%s: %s %v", test.in, scheme, params)
		}
	}
}

// TestNamespaces: containers' auth.json may have a password for a part of a registry, and it goes nowhere else.
func TestNamespaces(t *testing.T) {
	pass := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s + ":x")) }
	raw := `{"auths":{"quay.io/team":{"auth":"` + pass("team") + `"},"quay.io/team/app":{"auth":"` + pass("app") + `"},"https://other.lan/v1/":{"auth":"` + pass("other") + `"}}}`
	file := filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(file, []byte(raw), 0o600); err != nil {
		t.Fatal(err)
	}
	k := keyring{path: filepath.Join(t.TempDir(), "config.json"), fallback: []string{file}}
	for at, want := range map[string]string{
		"quay.io/team/x": "team", "quay.io/team": "team", "quay.io/team/app": "app", "quay.io/team/app/y": "app", "quay.io/teams": "", "quay.io/": "", "other.lan/z": "other",
	} {
		host, repo, _ := strings.Cut(at, "/")
		if c, err := k.get(t.Context(), host, repo); err != nil || c.Username != want {
			t.Errorf("%s: %q, want %q: %v", at, c.Username, want, err)
		}
	}
	k = keyring{path: file} // Docker's own file: Docker reads no path
	if c, err := k.get(t.Context(), "quay.io", "else"); err != nil || c.Username != "app" {
		t.Errorf("%q: %v", c.Username, err)
	}
}

// TestLoginsAtOnce: of several at the same time none is lost, and what a killed one was writing is gone after the next login or logout, changed or not.
func TestLoginsAtOnce(t *testing.T) {
	k := keyring{path: filepath.Join(t.TempDir(), "docker", "config.json")}
	ctx := t.Context()
	if err := k.drop(ctx, "none.example"); err != nil { // without a directory
		t.Error(err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if _, err := k.put(ctx, fmt.Sprintf("r%d.example", i), Credentials{Username: "u", Password: "p"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if c, err := k.read(); err != nil || len(c.auths) != 20 {
		t.Errorf("%d are known, %v", len(c.auths), err)
	}
	for what, next := range map[string]func() error{
		"login": func() error {
			_, err := k.put(ctx, "r1.example", Credentials{Username: "u", Password: "p"})
			return err
		},
		"logout": func() error { return k.drop(ctx, "none.example") },
	} {
		if err := os.WriteFile(k.path+".new", []byte(`{"auths": {"secret`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := next(); err != nil {
			t.Error(what, err)
		}
		if list, err := os.ReadDir(filepath.Dir(k.path)); err != nil || len(list) != 1 {
			t.Errorf("%s: there are %v, %v", what, list, err)
		}
	}
	if c, err := k.read(); err != nil || len(c.auths) != 20 {
		t.Errorf("%d are known at the end, %v", len(c.auths), err)
	}
}

// TestForeignLink: a link that somebody else has put in the place of the credentials, or of their directory, does not have the caller make or change a file of his.
func TestForeignLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make another's link")
	}
	for what, plant := range map[string]func(home, target string) (name string, err error){
		"the file": func(home, target string) (string, error) {
			return home + "/.docker/config.json", os.Mkdir(home+"/.docker", 0o755)
		},
		"the directory": func(home, target string) (string, error) { return home + "/.docker", nil },
	} {
		home, target := t.TempDir(), t.TempDir()
		link, err := plant(home, target)
		to := target
		if what == "the file" {
			to = target + "/config.json"
		}
		err = errors.Join(err, os.Symlink(to, link), os.Lchown(link, 65534, 65534))
		if err != nil {
			t.Fatal(err)
		}
		k := keyring{path: home + "/.docker/config.json"}
		if _, err := k.put(t.Context(), "r.example", Credentials{Username: "u", Password: "p"}); err == nil || !strings.Contains(err.Error(), "65534") {
			t.Errorf("%s: %v", what, err)
		}
		if list, err := os.ReadDir(target); err != nil || len(list) > 0 {
			t.Errorf("%s: %v, %v", what, list, err)
		}
		// One of the caller's own is followed: who keeps his settings elsewhere has one.
		if err := os.Lchown(link, 0, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := k.put(t.Context(), "r.example", Credentials{Username: "u", Password: "p"}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(target + "/config.json"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestForeignLinkBeside: nor does one that comes in the place of what was looked at.
func TestForeignLinkBeside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make another's link")
	}
	for what, exchange := range map[string]func(dir, link string) error{
		"the file": func(dir, link string) error {
			file, other := dir+"/config.json", dir+"/good"
			return errors.Join(os.Rename(link, file), os.WriteFile(other, nil, 0o644), os.Rename(other, file))
		},
		"the directory": func(dir, link string) error {
			err := unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
			return errors.Join(err, unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE))
		},
	} {
		home, target := t.TempDir(), t.TempDir()
		dir, link := home+"/.docker", home+"/link"
		to := target
		if what == "the file" {
			to = target + "/config.json"
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		end, ended := make(chan struct{}), make(chan error)
		go func() {
			for {
				os.Remove(link)
				err := errors.Join(os.Symlink(to, link), os.Lchown(link, 65534, 65534), exchange(dir, link))
				select {
				case <-end:
					ended <- nil
					return
				default:
				}
				if err != nil {
					ended <- err
					return
				}
			}
		}()
		k := keyring{path: dir + "/config.json"}
		for begin := time.Now(); time.Since(begin) < time.Second; {
			k.put(t.Context(), "r.example", Credentials{Username: "u", Password: "p"})
		}
		close(end)
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if list, err := os.ReadDir(target); err != nil || len(list) > 0 {
			t.Errorf("%s: %v, %v", what, list, err)
		}
		if _, err := k.put(t.Context(), "r.example", Credentials{Username: "u", Password: "p"}); err != nil {
			t.Errorf("%s, at the end: %v", what, err)
		}
	}
}

// TestOwnLink: what the caller's own links lead to is written, by whatever way, and the links stay.
func TestOwnLink(t *testing.T) {
	for _, links := range [][][2]string{
		{{"../kept/docker.json", "config.json"}},
		{{"more.json", "config.json"}, {"../kept/docker.json", "more.json"}},
		{{"kept", ""}, {"docker.json", "config.json"}},
	} {
		home := t.TempDir()
		dir := home + "/docker"
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			link := filepath.Join(dir, l[1])
			if link == dir {
				if err := errors.Join(os.Remove(dir), os.Mkdir(home+"/kept", 0o700)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(l[0], link); err != nil {
				t.Fatal(err)
			}
		}
		k := keyring{path: dir + "/config.json"}
		if err := k.drop(t.Context(), "r.example"); err != nil {
			t.Error(err)
		}
		if _, err := k.put(t.Context(), "r.example", Credentials{Username: "u", Password: "p"}); err != nil {
			t.Error(err)
		}
		if c, err := k.read(); err != nil || len(c.auths) != 1 {
			t.Errorf("%v: %v, %v", links, c, err)
		}
		if st, err := os.Lstat(home + "/kept/docker.json"); err != nil || !st.Mode().IsRegular() || st.Mode().Perm() != 0o600 {
			t.Errorf("%v: %v, %v", links, st, err)
		}
		for _, l := range links {
			if to, err := os.Readlink(filepath.Join(dir, l[1])); err != nil {
				t.Errorf("%s: %q, %v", l[1], to, err)
			}
		}
	}
}

// TestForeignLock: where others may open the directory of the credentials they may hold its lock, which nobody waits for.
func TestForeignLock(t *testing.T) {
	k := keyring{path: filepath.Join(t.TempDir(), "docker", "config.json")}
	if err := os.Mkdir(filepath.Dir(k.path), 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := files.LockDir(filepath.Dir(k.path), unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(lock)
	other := filepath.Dir(filepath.Dir(k.path)) + "/other"
	// One that others may open, and a file that waits for a writer, hold nobody up either.
	plants := map[string]func(string) error{
		"nothing":  func(string) error { return nil },
		"readable": func(name string) error { return os.WriteFile(name, nil, 0o644) },
		"a FIFO":   func(name string) error { return unix.Mkfifo(name, 0o600) },
		"a link":   func(name string) error { return os.Symlink("elsewhere", name) },
		"another name of a file": func(name string) error {
			return errors.Join(os.WriteFile(other, []byte("mine"), 0o600), os.Link(other, name))
		},
		"a socket": func(name string) error {
			l, err := net.Listen("unix", name)
			if err == nil {
				l.(*net.UnixListener).SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		},
	}
	if os.Geteuid() == 0 {
		plants["another's"] = func(name string) error {
			return errors.Join(os.WriteFile(name, nil, 0o600), os.Chown(name, 65534, 65534))
		}
	}
	for what, plant := range plants {
		if err := plant(k.path + ".new"); err != nil {
			t.Fatal(err)
		}
		var held *os.File
		if what == "readable" || what == "another's" {
			if held, err = os.Open(k.path + ".new"); err != nil {
				t.Fatal(err)
			}
			if err := unix.Flock(int(held.Fd()), unix.LOCK_EX); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := k.put(t.Context(), "r.example", Credentials{Username: "u", Password: "p"}); err != nil {
			t.Errorf("%s: login: %v", what, err)
		}
		if st, err := os.Stat(k.path); err != nil || st.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", what, st.Mode(), err)
		}
		if err := k.drop(t.Context(), "r.example"); err != nil {
			t.Errorf("%s: logout: %v", what, err)
		}
		if c, err := k.read(); err != nil || len(c.auths) != 0 {
			t.Errorf("%s: %v are left, %v", what, c.auths, err)
		}
		if list, err := os.ReadDir(filepath.Dir(k.path)); err != nil || len(list) != 1 {
			t.Errorf("%s: there are %v, %v", what, list, err)
		}
		held.Close()
	}
	if text, err := os.ReadFile(other); err != nil || string(text) != "mine" {
		t.Errorf("a file of another name as well is %q, %v", text, err)
	}
}

// TestForeignRuntimeAuth: where XDG_RUNTIME_DIR is a directory of all, what others have put into it, or may have, has no say, and holds nobody up.
func TestForeignRuntimeAuth(t *testing.T) {
	nstest.Root(t)
	bin := t.TempDir()
	if err := os.WriteFile(bin+"/docker-credential-planted", []byte("#!/bin/sh\ntouch "+bin+"/ran\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	const planted = `{"auths":{"r.example":{"username":"planted"}}, "credHelpers":{"h.example":"planted"}}`
	for _, test := range []struct {
		name  string
		plant func(dir, file string) error
		read  bool
	}{
		{"one's own", func(dir, file string) error { return nil }, true},
		{"one's own, shown to others", func(dir, file string) error { return errors.Join(os.Chmod(dir, 0o755), os.Chmod(file, 0o644)) }, true},
		{"another's directory", func(dir, file string) error { return os.Chown(dir, 65534, 65534) }, false},
		{"another's file", func(dir, file string) error { return os.Chown(file, 65534, 65534) }, false},
		{"a group's directory", func(dir, file string) error { return os.Chmod(dir, 0o770) }, false},
		{"everybody's directory", func(dir, file string) error { return os.Chmod(dir, 0o777|os.ModeSticky) }, false},
		{"a group's file", func(dir, file string) error { return os.Chmod(file, 0o660) }, false},
		{"everybody's file", func(dir, file string) error { return os.Chmod(file, 0o602) }, false},
		{"a link to a directory", func(dir, file string) error { return errors.Join(os.Rename(dir, dir+"2"), os.Symlink(dir+"2", dir)) }, false},
		{"a file for a directory", func(dir, file string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) }, false},
		{"a link to another's file", func(dir, file string) error {
			return errors.Join(os.Rename(file, dir+"2"), os.Chown(dir+"2", 65534, 65534), os.Symlink(dir+"2", file))
		}, false},
		{"a FIFO", func(dir, file string) error { return errors.Join(os.Remove(file), unix.Mkfifo(file, 0o600)) }, false},
	} {
		run := t.TempDir()
		dir, file := run+"/containers", run+"/containers/auth.json"
		t.Setenv("XDG_RUNTIME_DIR", run)
		if err := errors.Join(os.Chmod(run, 0o777|os.ModeSticky), os.Mkdir(dir, 0o700), os.WriteFile(file, []byte(planted), 0o600), test.plant(dir, file)); err != nil {
			t.Fatal(err)
		}
		if c, err := newKeyring("").get(t.Context(), "r.example", ""); err != nil || (c.Username == "planted") != test.read {
			t.Errorf("%s: %+v, %v", test.name, c, err)
		}
		newKeyring("").get(t.Context(), "h.example", "")
		if err := os.Remove(bin + "/ran"); (err == nil) != test.read {
			t.Errorf("%s: the helper: %v", test.name, err)
		}
	}
}
