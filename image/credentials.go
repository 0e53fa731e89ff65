package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/files"
)

// Credentials are what a registry knows a user by. An identity token stands in for a password; a registry token is sent as
// it is.
type Credentials struct {
	Username, Password string
	IdentityToken      string
	RegistryToken      string
}

func (c Credentials) empty() bool { return c == Credentials{} }

// DockerHub is what Docker, and its config.json, calls docker.io.
const DockerHub = "https://index.docker.io/v1/"

// tokenUser is the user name by which a credential helper says that the secret is an identity token.
const tokenUser = "<token>"

// A keyring is Docker's config.json and the helpers that it names.
type keyring struct {
	env      string   // what is there of a config.json in the environment, before it
	path     string   // written to
	fallback []string // read after it
	run      string   // of these, the one below the directory of the session
}

// authEnv has the "auths" of a config.json, for who has no file: a job in CI.
const authEnv = "DOCKER_AUTH_CONFIG"

// newKeyring finds the files. dir is Docker's directory; empty is the usual one.
func newKeyring(dir string) keyring {
	home, _ := os.UserHomeDir()
	var k keyring
	if dir == "" {
		k.env, dir = os.Getenv(authEnv), os.Getenv("DOCKER_CONFIG")
		if run := os.Getenv("XDG_RUNTIME_DIR"); run != "" {
			k.run = filepath.Join(run, "containers/auth.json")
			k.fallback = append(k.fallback, k.run)
		}
		if home != "" {
			k.fallback = append(k.fallback, filepath.Join(home, ".config/containers/auth.json"))
		}
		if f := os.Getenv("REGISTRY_AUTH_FILE"); f != "" {
			k.fallback = append([]string{f}, k.fallback...)
		}
	}
	if dir == "" {
		dir = filepath.Join(home, ".docker")
	}
	k.path = filepath.Join(dir, "config.json")
	return k
}

// An authEntry is one of "auths".
type authEntry struct {
	Auth          string `json:"auth,omitempty"`
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

func (e authEntry) credentials() (Credentials, error) {
	c := Credentials{e.Username, e.Password, e.IdentityToken, e.RegistryToken}
	if e.Auth != "" {
		raw, err := base64.StdEncoding.DecodeString(e.Auth)
		if err != nil {
			return c, errors.New("auth is no base64")
		}
		user, password, ok := strings.Cut(string(raw), ":")
		if !ok || user == "" {
			return c, errors.New("auth is no USER:PASSWORD")
		}
		c.Username, c.Password = user, strings.Trim(password, "\x00")
	}
	return c, nil
}

// A configFile is Docker's config.json, of which all that is not ours is kept as it is.
type configFile struct {
	all     map[string]json.RawMessage
	auths   map[string]authEntry
	store   string
	helpers map[string]string
}

// newConfigFile makes one of what reading its path gave.
func newConfigFile(path string, raw []byte, err error) (*configFile, error) {
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(raw)) == 0 {
		return &configFile{all: map[string]json.RawMessage{}, auths: map[string]authEntry{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	return parseConfigFile(path, raw)
}

// parseConfigFile reads the text of one; path is for errors.
func parseConfigFile(path string, raw []byte) (*configFile, error) {
	c := &configFile{all: map[string]json.RawMessage{}, auths: map[string]authEntry{}}
	if err := json.Unmarshal(raw, &c.all); err != nil {
		return nil, fmt.Errorf("credentials: %s: %w", path, err)
	}
	for key, to := range map[string]any{"auths": &c.auths, "credsStore": &c.store, "credHelpers": &c.helpers} {
		if v, ok := c.all[key]; ok {
			if err := json.Unmarshal(v, to); err != nil {
				return nil, fmt.Errorf("credentials: %s: %s: %w", path, key, err)
			}
		}
	}
	if c.auths == nil {
		c.auths = map[string]authEntry{}
	}
	return c, nil
}

// helper is the name of the program that keeps a server's credentials; empty is the file itself.
func (c *configFile) helper(server string) string {
	for key, h := range c.helpers {
		if ServerOf(key) == ServerOf(server) {
			return h
		}
	}
	return c.store
}

// ServerOf is the HOST[:PORT] of a key of config.json, which may be a URL.
func ServerOf(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key, _, _ = strings.Cut(key, "/")
	if key == "index.docker.io" || key == dockerHub {
		return defaultDomain
	}
	return key
}

// keyOf is the key of config.json for a host.
func keyOf(host string) string {
	if ServerOf(host) == defaultDomain {
		return DockerHub
	}
	return ServerOf(host)
}

// namespaceOf is the part of a registry that a key of containers-auth.json(5) is for: quay.io/team. Of a URL the path says nothing, and
// nor does a version of the protocol.
func namespaceOf(key string) string {
	_, path, _ := strings.Cut(strings.TrimRight(key, "/"), "/")
	if strings.Contains(key, "://") || path == "v1" || path == "v2" {
		return ""
	}
	return path
}

// entry finds the key for a repository: the longest that it is below. In Docker's file any key of the host will do, since Docker reads no path.
func (c *configFile) entry(host, repo string, docker bool) (key string, ok bool) {
	keys := slices.Sorted(maps.Keys(c.auths))
	slices.SortStableFunc(keys, func(a, b string) int { return len(namespaceOf(b)) - len(namespaceOf(a)) })
	for _, any := range []bool{false, true} {
		for _, key := range keys {
			if ServerOf(key) != ServerOf(host) || c.auths[key] == (authEntry{}) {
				continue
			}
			if n := namespaceOf(key); n == "" || n == repo || strings.HasPrefix(repo, n+"/") || any && docker {
				return key, true
			}
		}
	}
	return "", false
}

// get looks up what is known for a repository of a host: exactly this host, port included. The repository is empty where it is about all.
func (k keyring) get(ctx context.Context, host, repo string) (Credentials, error) {
	if k.env != "" {
		c, err := parseConfigFile(authEnv, []byte(k.env))
		if err != nil {
			return Credentials{}, err
		}
		if found, ok, err := c.lookup(authEnv, host, repo, true); ok || err != nil {
			return found, err
		}
	}
	for _, path := range append([]string{k.path}, k.fallback...) {
		read := os.ReadFile
		if path == k.run { // where this is a directory of all, what others put into it would have programs run, and registries told names of their choice
			read = files.ReadOwn
		}
		raw, err := read(path)
		c, err := newConfigFile(path, raw, err)
		if err != nil {
			return Credentials{}, err
		}
		if h := c.helper(host); h != "" {
			if found, err := helperGet(ctx, h, keyOf(host)); err != nil || !found.empty() {
				return found, err
			}
		}
		if found, ok, err := c.lookup(path, host, repo, path == k.path); ok || err != nil {
			return found, err
		}
	}
	return Credentials{}, nil
}

// lookup is what the file itself has for a repository, if anything; path is for errors.
func (c *configFile) lookup(path, host, repo string, docker bool) (Credentials, bool, error) {
	key, ok := c.entry(host, repo, docker)
	if !ok {
		return Credentials{}, false, nil
	}
	found, err := c.auths[key].credentials()
	if err != nil {
		return Credentials{}, true, fmt.Errorf("credentials: %s: auths %q: %w", path, key, err)
	}
	return found, true, nil
}

// put keeps credentials where Docker would, and says where that is.
func (k keyring) put(ctx context.Context, host string, cred Credentials) (where string, err error) {
	c, err := k.read()
	if err != nil {
		return "", err
	}
	key := keyOf(host)
	e := authEntry{IdentityToken: cred.IdentityToken}
	e.Auth = base64.StdEncoding.EncodeToString([]byte(cred.Username + ":" + cred.Password))
	if h := c.helper(host); h != "" {
		secret := struct{ ServerURL, Username, Secret string }{key, cred.Username, cred.Password}
		if cred.IdentityToken != "" {
			secret.Username, secret.Secret = tokenUser, cred.IdentityToken
		}
		raw, _ := json.Marshal(secret)
		if _, err := runHelper(ctx, h, "store", raw); err != nil {
			return "", err
		}
		where, e = "docker-credential-"+h, authEntry{}
	} else {
		where = k.path
	}
	return where, k.change(func(c *configFile) bool {
		c.auths[key] = e
		return true
	})
}

// drop forgets a host. That nothing was known of it is no error.
func (k keyring) drop(ctx context.Context, host string) error {
	c, err := k.read()
	if err != nil {
		return err
	}
	if h := c.helper(host); h != "" {
		if _, err := runHelper(ctx, h, "erase", []byte(keyOf(host))); err != nil && !notFound(err) {
			return err
		}
	}
	return k.change(func(c *configFile) (changed bool) {
		for key := range c.auths {
			if ServerOf(key) == ServerOf(host) {
				delete(c.auths, key)
				changed = true
			}
		}
		return changed
	})
}

// read reads the file that is written to, as [keyring.change] would.
func (k keyring) read() (*configFile, error) {
	p, err := openFileAt(k.path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return newConfigFile(k.path, nil, nil)
	}
	if err != nil {
		return nil, k.failed(err)
	}
	defer p.close()
	return k.readAt(p)
}

func (k keyring) readAt(p fileAt) (*configFile, error) {
	raw, err := p.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, k.failed(err)
	}
	return newConfigFile(k.path, raw, nil)
}

func (k keyring) failed(err error) error {
	return fmt.Errorf("credentials: %s: %w", k.path, causeOf(err))
}

// change has the file changed by one process after the other, as a whole, for the user's eyes only, and takes away what a killed one was writing: it has secrets.
// What is written is the lock as well: the directory may be open to others, who could hold that one's for ever. Where the file is a link, what it leads to is replaced.
func (k keyring) change(how func(*configFile) (changed bool)) error {
	c, err := k.read()
	if err != nil {
		return err
	}
	changes := how(c)
	p, err := openFileAt(k.path, changes)
	if !changes && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return k.failed(err)
	}
	defer p.close()
	return k.changeAt(p, changes, how)
}

// changeAt is change in a place. Where nothing changes there may be something of a killed one.
func (k keyring) changeAt(p fileAt, changes bool, how func(*configFile) (changed bool)) error {
	if _, err := os.Lstat(p.path() + ".new"); err != nil && !changes {
		return nil
	}
	lock, err := files.LockFile(p.path() + ".new")
	if err != nil {
		return k.failed(err)
	}
	defer lock.Close()
	var raw []byte
	c, err := k.readAt(p)
	if err == nil && how(c) {
		raw, err = c.encode()
	}
	if raw == nil {
		return errors.Join(err, os.Remove(lock.Name()))
	}
	if err := files.ReplaceBy(lock, p.path(), raw); err != nil {
		return k.failed(err)
	}
	return nil
}

// encode gives the file's text, with what others have written into it.
func (c *configFile) encode() ([]byte, error) {
	auths, err := json.Marshal(c.auths)
	if err != nil {
		return nil, err
	}
	c.all["auths"] = auths
	return json.MarshalIndent(c.all, "", "\t")
}

// notFound reports whether a helper has said that it knows nothing of a server, in the words that its protocol has for that: a program that is not found is something else.
func notFound(err error) bool { return strings.Contains(err.Error(), "credentials not found") }

func helperGet(ctx context.Context, name, server string) (Credentials, error) {
	raw, err := runHelper(ctx, name, "get", []byte(server))
	if err != nil {
		if notFound(err) {
			return Credentials{}, nil
		}
		return Credentials{}, err
	}
	var out struct{ ServerURL, Username, Secret string }
	if err := json.Unmarshal(raw, &out); err != nil {
		return Credentials{}, fmt.Errorf("credentials: docker-credential-%s: its answer is no JSON", name)
	}
	if out.Username == tokenUser {
		return Credentials{IdentityToken: out.Secret}, nil
	}
	return Credentials{Username: out.Username, Password: out.Secret}, nil
}

// runHelper asks docker-credential-NAME of $PATH. What it prints may be a secret, so that only an error's text is ever told.
func runHelper(ctx context.Context, name, verb string, input []byte) ([]byte, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return nil, fmt.Errorf("credentials: %q is no name of a helper", name)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker-credential-"+name, verb)
	cmd.Stdin = bytes.NewReader(input)
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		say := strings.TrimSpace(out.String() + errs.String()) // helpers tell errors on either
		if say == "" {
			say = err.Error()
		}
		return nil, fmt.Errorf("credentials: docker-credential-%s %s: %s", name, verb, printable(say))
	}
	return out.Bytes(), nil
}
