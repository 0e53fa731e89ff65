package image

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// credentials looks up what the user gave for the registry, once.
func (r *remote) credentials(ctx context.Context) (Credentials, error) {
	if r.given != nil {
		return *r.given, nil
	}
	if r.cred == nil {
		c, err := r.ring.get(ctx, r.host, r.repo)
		if err != nil {
			r.lacking = &finalError{err} // a helper that is not there, say: the registry has no part in it
		}
		r.cred = &c
	}
	return *r.cred, r.lacking
}

// authorization is the header that is known to work, if any: nothing is sent before the registry asked for it.
func (r *remote) authorization(ctx context.Context, q *request) (string, error) {
	r.auth.Lock()
	defer r.auth.Unlock()
	if t := r.tokens[strings.Join(r.scopes(q), " ")]; t != "" {
		return "Bearer " + t, nil
	}
	if r.basic {
		c, err := r.credentials(ctx)
		return basic(c), err
	}
	return "", nil
}

func basic(c Credentials) string {
	if c.Username == "" {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// challenged gets what a registry wants, and reports whether asking again makes sense: not with what was just refused.
func (r *remote) challenged(ctx context.Context, q *request, headers []string, refused string) (bool, error) {
	r.auth.Lock()
	defer r.auth.Unlock()
	scopes := r.scopes(q)
	key := strings.Join(scopes, " ")
	if t := r.tokens[key]; t != "" && "Bearer "+t != refused {
		return true, nil // another goroutine was here
	}
	cred, lacking := r.credentials(ctx)
	if lacking != nil && (refused != "" || strings.Contains(key, ",push")) {
		return false, lacking
	}
	for _, h := range headers {
		scheme, params := parseChallenge(h)
		if lacking != nil && scheme == "basic" {
			return false, lacking
		}
		switch scheme {
		case "bearer":
			t, err := cred.RegistryToken, error(nil)
			if t == "" {
				// What is public needs no credentials: a helper that fails, or is left in config.json of a program that is gone, keeps nobody from it.
				if t, _, err = r.token(ctx, params, scopes, cred, false); err != nil {
					return false, cmp.Or(lacking, err)
				}
			}
			if "Bearer "+t == refused {
				return false, nil
			}
			if r.tokens == nil {
				r.tokens = map[string]string{}
			}
			r.tokens[key] = t
			return true, nil
		case "basic":
			if cred.Username == "" || refused == basic(cred) {
				return false, nil
			}
			r.basic = true
			return true, nil
		}
	}
	return false, nil
}

// parseChallenge reads a WWW-Authenticate header, RFC 9110 section 11.6.1.
func parseChallenge(s string) (scheme string, params map[string]string) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
	params = map[string]string{}
	for rest = strings.TrimLeft(rest, " ,"); rest != ""; rest = strings.TrimLeft(rest, " ,") {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			break
		}
		value := ""
		if quoted, is := strings.CutPrefix(after, `"`); is {
			var b strings.Builder
			i := 0
			for ; i < len(quoted) && quoted[i] != '"'; i++ {
				if quoted[i] == '\\' && i+1 < len(quoted) {
					i++
				}
				b.WriteByte(quoted[i])
			}
			value, rest = b.String(), quoted[min(i+1, len(quoted)):]
		} else {
			value, rest, _ = strings.Cut(after, ",")
			value = strings.TrimSpace(value)
		}
		params[strings.ToLower(strings.TrimSpace(key))] = value
	}
	return strings.ToLower(scheme), params
}

// realm reads where tokens come from, and says whether the user's password may go there.
func (r *remote) realm(s string) (u *url.URL, trusted bool, err error) {
	u, err = url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil, false, final("registry %s: its token realm %q is no URL", r.host, printable(s))
	}
	same := strings.EqualFold(u.Hostname(), r.base.Hostname())
	if u.Scheme == "http" && !(same && r.base.Scheme == "http") {
		return nil, false, final("registry %s: its token realm %s is without TLS", r.host, printable(u.Host))
	}
	if same {
		return u, true, nil
	}
	rules, err := r.net.rules()
	if err != nil {
		return nil, false, err
	}
	if slices.Contains(rules.Registries[r.host].Realms, u.Host) {
		return u, true, nil
	}
	theirs, err1 := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(u.Hostname()))
	ours, err2 := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(r.base.Hostname()))
	return u, err1 == nil && err2 == nil && theirs == ours, nil // an address has none
}

// token asks the realm for a token. With offline it asks for an identity token, too, as a login does.
func (r *remote) token(ctx context.Context, params map[string]string, scopes []string, cred Credentials, offline bool) (token, identity string, err error) {
	realm, trusted, err := r.realm(params["realm"])
	if err != nil {
		return "", "", err
	}
	if !trusted && !cred.empty() {
		return "", "", final("registry %s: it asks for the password of %s at %s, which is another owner's: if that is right, add it to the registry's \"realms\" in /etc/kakuri/registries.json",
			r.host, r.host, printable(realm.Host))
	}
	form := url.Values{}
	if s := params["service"]; s != "" {
		form.Set("service", s)
	}
	for _, s := range scopes {
		form.Add("scope", s)
	}
	q := &request{method: http.MethodGet, ok: []int{200}, header: http.Header{}}
	var auth string
	switch {
	case cred.IdentityToken != "":
		form.Set("grant_type", "refresh_token")
		form.Set("refresh_token", cred.IdentityToken)
		form.Set("client_id", "kakuri")
		form.Set("scope", strings.Join(scopes, " "))
		body := form.Encode()
		q.method = http.MethodPost
		q.header.Set("Content-Type", "application/x-www-form-urlencoded")
		q.size = int64(len(body))
		q.body = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
	default:
		if auth = basic(cred); auth != "" {
			form.Set("account", cred.Username)
		}
		if offline {
			form.Set("offline_token", "true")
			form.Set("client_id", "kakuri")
		}
		query := realm.Query()
		for k, v := range form {
			query[k] = v
		}
		realm.RawQuery = query.Encode()
	}
	return r.askRealm(ctx, q, realm, auth)
}

// askRealm sends a request for a token. Redirects are not followed: a realm is where the challenge said. Its error is final: who needs the token asks no more
// often than this, or a realm that drips would be waited for six times six times.
func (r *remote) askRealm(ctx context.Context, q *request, realm *url.URL, auth string) (token, identity string, err error) {
	p := r.net.patience()
	for try := 1; ; try++ {
		token, identity, err = r.askRealmOnce(ctx, q, realm, auth)
		if err == nil || ctx.Err() != nil {
			return token, identity, err
		}
		if try >= p.tries || !retryable(err) || hopeless(try, err, true) {
			return "", "", &finalError{err}
		}
		if err := r.pause(ctx, try, err); err != nil {
			return "", "", &finalError{err}
		}
	}
}

func (r *remote) askRealmOnce(ctx context.Context, q *request, realm *url.URL, auth string) (token, identity string, err error) {
	own := strings.EqualFold(realm.Hostname(), r.base.Hostname())
	resp, err := r.roundTrip(ctx, q, realm, auth, own)
	if err != nil {
		return "", "", fmt.Errorf("registry %s: token from %s: %w", r.host, realm.Host, unwrapURL(err))
	}
	if resp.StatusCode != http.StatusOK {
		e := answerOf(r.host, q, realm, resp)
		return "", "", fmt.Errorf("token from %s: %w", realm.Host, e)
	}
	defer resp.Body.Close()
	raw, err := readLimited(resp.Body, maxToken, "token")
	if err != nil {
		return "", "", fmt.Errorf("registry %s: token from %s: %w", r.host, realm.Host, err)
	}
	// By hand: the decoder would take "Token", which other servers have (CVE-2026-33990).
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return "", "", final("registry %s: token from %s: it is no JSON", r.host, realm.Host)
	}
	text := func(key string) (s string) { _ = json.Unmarshal(fields[key], &s); return s }
	if token = text("token"); token == "" {
		token = text("access_token")
	}
	if token == "" || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", "", final("registry %s: token from %s: there is none in the answer", r.host, realm.Host)
	}
	return token, text("refresh_token"), nil
}

// A LoginError is a registry that does not take a name and password.
type LoginError struct {
	Host string
	Err  error
}

func (e *LoginError) Error() string {
	var answer *RegistryError
	if errors.As(e.Err, &answer) && answer.refused() { // without the hint to log in
		return fmt.Sprintf("login %s: unauthorized: %s", e.Host, answer.bare())
	}
	return fmt.Sprintf("login %s: %v", e.Host, e.Err)
}
func (e *LoginError) Unwrap() error { return e.Err }

// Login asks a registry whether it takes a name and password, and keeps them where Docker does: in a credential helper, or in
// config.json. where says which. Host is HOST[:PORT]; empty is docker.io.
func (s *Store) Login(ctx context.Context, host string, cred Credentials) (where string, err error) {
	r, err := s.loginRemote(host, cred)
	if err != nil {
		return "", err
	}
	if r.host == defaultDomain && cred.Username == "" && cred.IdentityToken == "" {
		return "", errors.New("login: a user name is needed")
	}
	identity, err := r.login(ctx, cred)
	if err != nil {
		return "", &LoginError{r.host, err}
	}
	if identity != "" {
		cred.Password, cred.IdentityToken = "", identity
	}
	return r.ring.put(ctx, r.host, cred)
}

// Known gives what is kept for a registry: who is logged in.
func (s *Store) Known(ctx context.Context, host string) (Credentials, error) {
	r, err := s.loginRemote(host, Credentials{})
	if err != nil {
		return Credentials{}, err
	}
	return r.ring.get(ctx, r.host, "")
}

// Logout forgets a registry's name and password.
func (s *Store) Logout(ctx context.Context, host string) error {
	r, err := s.loginRemote(host, Credentials{})
	if err != nil {
		return err
	}
	return r.ring.drop(ctx, r.host)
}

func (s *Store) loginRemote(host string, cred Credentials) (*remote, error) {
	if host == "" {
		host = defaultDomain
	}
	if host = ServerOf(host); !validDomain(host) {
		return nil, fmt.Errorf("login: %q is no HOST or HOST:PORT", host)
	}
	return s.remote(Reference{Domain: host}, &cred)
}

// login gets through the door once. The identity token is empty where the registry gives none.
func (r *remote) login(ctx context.Context, cred Credentials) (identity string, err error) {
	if err := r.scheme(ctx); err != nil {
		return "", err
	}
	u := r.base
	u.Path = "/v2/"
	q := &request{method: http.MethodGet, ok: []int{200}}
	resp, err := r.send(ctx, q, &u, "", true)
	if err != nil {
		return "", unwrapURL(err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return "", nil // nobody is asked here
	}
	if resp.StatusCode != http.StatusUnauthorized {
		return "", answerOf(r.host, q, &u, resp)
	}
	for _, h := range resp.Header.Values("WWW-Authenticate") {
		scheme, params := parseChallenge(h)
		auth := ""
		switch scheme {
		case "bearer":
			var token string
			token, identity, err = r.token(ctx, params, nil, cred, true)
			if err != nil {
				return "", err
			}
			auth = "Bearer " + token
		case "basic":
			auth = basic(cred)
		default:
			continue
		}
		resp, err := r.send(ctx, q, &u, auth, true)
		if err != nil {
			return "", unwrapURL(err)
		}
		if _, err = r.judge(q, &u, resp); err == nil {
			resp.Body.Close()
		}
		return identity, err
	}
	return "", errors.New("the registry does not say how to log in")
}
