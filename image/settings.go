package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/kakuri/kakuri/internal/files"
)

// Settings say how registries are reached. They are read of files, see [ReadSettings], in JSON:
//
//	{
//	  "registries": {
//	    "docker.io": {"mirrors": ["https://mirror.example"]},
//	    "registry.lan:5000": {"ca": "/etc/ssl/registry.lan.pem"},
//	    "old.lan": {"insecure": true},
//	    "images.example": {"realms": ["login.example.org"]},
//	    "tracker.example": {"blocked": true}
//	  },
//	  "insecure": ["10.0.0.0/8"],
//	  "downloads": 4,
//	  "maxLayer": 68719476736,
//	  "maxRatio": 200,
//	  "keepBlobs": false
//	}
type Settings struct {
	// Registries by HOST or HOST:PORT, as the name is typed.
	Registries map[string]Registry `json:"registries"`
	// Insecure are networks and hosts whose registries may lack TLS or have a certificate that nobody signed. A network is compared
	// with an address that was typed, never with what a name resolves to.
	Insecure []string `json:"insecure"`
	// Downloads and Uploads bound how many layers are moved at once; 0 is 4.
	Downloads int `json:"downloads"`
	Uploads   int `json:"uploads"`
	// MaxLayer bounds a layer's tar, in bytes; 0 is 64 GiB.
	MaxLayer int64 `json:"maxLayer"`
	// MaxRatio bounds how much larger a layer's tar is than its blob, once it is past 256 MiB; 0 is 200.
	MaxRatio int64 `json:"maxRatio"`
	// KeepBlobs keeps layers in the compressed form in which they came as well: they are pushed and saved byte for byte wherever
	// they are from, and other programs read the store as an OCI layout. It takes some four tenths more of the disk. What was pulled
	// before is there after its next pull.
	KeepBlobs bool `json:"keepBlobs"`

	prefixes []prefix // of containers' registries.conf
	leftOut  []error  // files of these that are there, and are nobody's to trust
}

// A Registry is what settings say of one host.
type Registry struct {
	Mirrors  []string `json:"mirrors"`  // URLs or hosts that are asked first, with a path perhaps
	Insecure bool     `json:"insecure"` // TLS is not verified, and plain HTTP will do
	CA       string   `json:"ca"`       // a file of certificates, PEM
	Cert     string   `json:"cert"`     // the client's, PEM
	Key      string   `json:"key"`
	Realms   []string `json:"realms"` // hosts of other owners that may be given the password, for a token
	Blocked  bool     `json:"blocked"`

	moreCAs []string // files beside CA, of certs.d
}

const (
	defaultParallel = 4
	mostParallel    = 16
	defaultMaxLayer = 64 << 30
	defaultMaxRatio = 200
)

// A source is a file of settings, and how it is read into them.
type source struct {
	path string
	read func(s *Settings, path string, raw []byte) error
	own  bool // of a person, and not of the machine
}

// ReadSettings reads, where they are there: Docker's /etc/docker/daemon.json and certs.d, containers' registries.conf, and kakuri's
// own /etc/kakuri/registries.json and $XDG_CONFIG_HOME/kakuri/registries.json (else ~/.config). What a later one says of a
// host goes before what an earlier one said. Those that are not in /etc count where they are the caller's or root's: under sudo HOME may be another's, and the directory
// in the environment one of all, who would have root's images come from where they like.
func ReadSettings() (*Settings, error) {
	home, _ := os.UserHomeDir()
	config := os.Getenv("XDG_CONFIG_HOME")
	if config == "" && home != "" {
		config = filepath.Join(home, ".config")
	}
	return readSettings("/etc", home, config)
}

func readSettings(etc, home, config string) (*Settings, error) {
	sources := []source{
		{filepath.Join(etc, "docker/daemon.json"), (*Settings).daemonJSON, false},
		{filepath.Join(etc, "containers/registries.conf"), (*Settings).registriesConf, false},
	}
	drop, _ := filepath.Glob(filepath.Join(etc, "containers/registries.conf.d/*.conf"))
	for _, path := range drop {
		sources = append(sources, source{path, (*Settings).registriesConf, false})
	}
	if home != "" && os.Geteuid() != 0 {
		sources = append(sources, source{filepath.Join(config, "containers/registries.conf"), (*Settings).registriesConf, true})
	}
	sources = append(sources, source{filepath.Join(etc, "kakuri/registries.json"), (*Settings).own, false})
	if config != "" {
		sources = append(sources, source{filepath.Join(config, "kakuri/registries.json"), (*Settings).own, true})
	}
	s := &Settings{}
	certs := []string{filepath.Join(etc, "containers/certs.d"), filepath.Join(etc, "docker/certs.d")}
	for _, name := range []string{"containers/certs.d", "docker/certs.d"} {
		if own := filepath.Join(config, name); config != "" && os.Geteuid() != 0 {
			if err := files.Trusted(own); err == nil {
				certs = append(certs, own)
			} else {
				s.leaveOut(err)
			}
		}
	}
	for _, dir := range certs {
		s.certsDir(dir)
	}
	for _, src := range sources {
		read := os.ReadFile
		if src.own {
			read = files.ReadTrusted
		}
		raw, err := read(src.path)
		s.leaveOut(err)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && !strings.Contains(src.path, "kakuri") {
			continue
		}
		if err == nil {
			err = src.read(s, src.path, raw)
		}
		if err != nil {
			return nil, fmt.Errorf("settings %s: %w", src.path, err)
		}
	}
	return s, nil
}

// leaveOut keeps why a file that is there does not count.
func (s *Settings) leaveOut(err error) {
	if errors.As(err, new(*files.UntrustedError)) {
		s.leftOut = append(s.leftOut, err)
	}
}

// edit changes what is said of a host.
func (s *Settings) edit(host string, change func(*Registry)) {
	if s.Registries == nil {
		s.Registries = map[string]Registry{}
	}
	r := s.Registries[host]
	change(&r)
	s.Registries[host] = r
}

func (s *Settings) own(_ string, raw []byte) error {
	var o Settings
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return err
	}
	for host, r := range o.Registries {
		if !validDomain(host) {
			return fmt.Errorf("registries: %q is no HOST or HOST:PORT", host)
		}
		for _, m := range r.Mirrors {
			if _, err := mirrorURL(m); err != nil {
				return err
			}
		}
		s.edit(host, func(old *Registry) {
			if r.CA == "" {
				r.CA, r.moreCAs, r.Cert, r.Key = old.CA, old.moreCAs, old.Cert, old.Key
			}
			*old = r
		})
	}
	if err := s.addInsecure("insecure", o.Insecure); err != nil {
		return err
	}
	for _, n := range []struct {
		to   *int64
		from int64
	}{{&s.MaxLayer, o.MaxLayer}, {&s.MaxRatio, o.MaxRatio}} {
		if n.from < 0 {
			return errors.New("maxLayer and maxRatio are not negative")
		} else if n.from > 0 {
			*n.to = n.from
		}
	}
	if o.KeepBlobs {
		s.KeepBlobs = true
	}
	if o.Downloads != 0 {
		s.Downloads = o.Downloads
	}
	if o.Uploads != 0 {
		s.Uploads = o.Uploads
	}
	return nil
}

// daemonJSON takes of Docker's file what is about registries.
func (s *Settings) daemonJSON(_ string, raw []byte) error {
	var d struct {
		Mirrors   []string `json:"registry-mirrors"`
		Insecure  []string `json:"insecure-registries"`
		Downloads int      `json:"max-concurrent-downloads"`
		Uploads   int      `json:"max-concurrent-uploads"`
	}
	// As dockerd, which takes a file that is empty, and a byte order mark of UTF-8.
	raw = bytes.TrimSpace(bytes.TrimPrefix(raw, []byte("\ufeff")))
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return err
	}
	if err := s.addInsecure("insecure-registries", d.Insecure); err != nil {
		return err
	}
	s.Downloads, s.Uploads = d.Downloads, d.Uploads
	if len(d.Mirrors) > 0 {
		s.edit(defaultDomain, func(r *Registry) { r.Mirrors = d.Mirrors })
	}
	return nil
}

// registriesConf takes the registries of containers-registries.conf(5), version 2. What a later file says of a prefix replaces
// what an earlier one said.
func (s *Settings) registriesConf(_ string, raw []byte) error {
	var conf struct {
		Registry []prefix `toml:"registry"`
	}
	if _, err := toml.Decode(string(raw), &conf); err != nil {
		return err
	}
	for _, p := range conf.Registry {
		if err := p.check(); err != nil {
			return err
		}
		s.prefixes = append(slices.DeleteFunc(s.prefixes, func(old prefix) bool { return old.Prefix == p.Prefix }), p)
		if validDomain(p.Prefix) { // what is not about an image, a login or a search, knows the host alone
			s.edit(p.Prefix, func(reg *Registry) {
				reg.Blocked, reg.Insecure = p.Blocked, p.Insecure && (p.Location == "" || p.Location == p.Prefix)
			})
		}
	}
	return nil
}

// certsDir takes the certificates of HOST/*.crt, *.cert and *.key, as Docker's certs.d has them.
func (s *Settings) certsDir(dir string) {
	hosts, _ := os.ReadDir(dir)
	for _, h := range hosts {
		if !validDomain(h.Name()) {
			continue
		}
		list, _ := os.ReadDir(filepath.Join(dir, h.Name()))
		for _, f := range list {
			path := filepath.Join(dir, h.Name(), f.Name())
			s.edit(h.Name(), func(r *Registry) {
				switch filepath.Ext(path) {
				case ".crt":
					if r.CA != "" {
						r.moreCAs = append(r.moreCAs, r.CA)
					}
					r.CA = path
				case ".cert":
					r.Cert = path
				case ".key":
					r.Key = path
				}
			})
		}
	}
}

// bareHost is an entry of Insecure without what makes a URL of a host, as Docker leaves it out.
func bareHost(entry string) string {
	if scheme, rest, ok := strings.Cut(entry, "://"); ok && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")) {
		return strings.TrimSuffix(rest, "/")
	}
	return entry
}

// addInsecure takes hosts and networks.
func (s *Settings) addInsecure(field string, list []string) error {
	for _, host := range list {
		host = bareHost(host)
		if _, err := netip.ParsePrefix(host); err != nil && !validDomain(host) {
			return fmt.Errorf("%s: %q is no HOST, HOST:PORT or network", field, host)
		}
		s.Insecure = append(s.Insecure, host)
	}
	return nil
}

// insecure reports whether a host, as it was typed, may do without verified TLS: settings say so, or it is the machine itself.
func (s *Settings) insecure(host string) bool {
	if s.Registries[host].Insecure {
		return true
	}
	bare := hostname(host)
	addr, err := netip.ParseAddr(bare)
	if bare == "localhost" || err == nil && addr.Unmap().IsLoopback() {
		return true
	}
	return slices.ContainsFunc(s.Insecure, func(entry string) bool {
		entry = bareHost(entry)
		if network, e := netip.ParsePrefix(entry); e == nil {
			return err == nil && network.Contains(addr.Unmap())
		}
		return strings.EqualFold(entry, host)
	})
}

// hostname is a host without its port and brackets.
func hostname(host string) string {
	u := url.URL{Host: host}
	return u.Hostname()
}

// mirrorURL reads a mirror: a URL, or HOST[:PORT][/PATH].
func mirrorURL(m string) (*url.URL, error) {
	if !strings.Contains(m, "://") {
		m = "https://" + m
	}
	u, err := url.Parse(m)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("mirror %q: want a URL without user and query", m)
	}
	return u, nil
}

func (s *Settings) downloads() int  { return parallel(s.Downloads) }
func (s *Settings) uploads() int    { return parallel(s.Uploads) }
func (s *Settings) maxLayer() int64 { return or(s.MaxLayer, defaultMaxLayer) }

// maxBlob bounds a layer as it comes. What cannot be compressed is a little larger so; but behind the end of a compressed stream there may be anything, which no
// bound of the tar counts.
func (s *Settings) maxBlob() int64 {
	most := s.maxLayer()
	return most + min(most/1000+(64<<10), math.MaxInt64-most)
}

func (s *Settings) maxRatio() int64 { return or(s.MaxRatio, defaultMaxRatio) }

func or(n, other int64) int64 {
	if n > 0 {
		return n
	}
	return other
}

// parallel is how many blobs are moved at once.
func parallel(n int) int {
	if n <= 0 {
		n = defaultParallel
	}
	return min(n, mostParallel)
}
