package image

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
)

// DockerSettings are what Docker's config.json says of a command line, and not of credentials. The names are its own.
type DockerSettings struct {
	PsFormat, ImagesFormat, NetworksFormat, VolumesFormat, StatsFormat string

	DetachKeys   string
	PruneFilters []string               // KEY=VALUE
	Proxies      map[string]ProxyConfig // by the address of a daemon; "default" is for all
	HTTPHeaders  map[string]string      `json:"HttpHeaders"`
}

// ProxyConfig is who containers are to ask in place of a server.
type ProxyConfig struct {
	HTTPProxy, HTTPSProxy, NoProxy, FTPProxy, AllProxy string
}

// Env are the variables that programs know it by, NAME=VALUE.
func (p ProxyConfig) Env() (list []string) {
	for _, v := range [][2]string{{"HTTP_PROXY", p.HTTPProxy}, {"HTTPS_PROXY", p.HTTPSProxy}, {"NO_PROXY", p.NoProxy}, {"FTP_PROXY", p.FTPProxy}, {"ALL_PROXY", p.AllProxy}} {
		if v[1] != "" {
			list = append(list, v[0]+"="+v[1], strings.ToLower(v[0])+"="+v[1])
		}
	}
	return list
}

// maxDockerSettings is more than Docker's settings have, in bytes.
const maxDockerSettings = 16 << 20

// ReadDockerSettings reads them in Docker's directory; empty is $DOCKER_CONFIG, else ~/.docker. No file is no settings.
func ReadDockerSettings(dir string) (s DockerSettings, err error) {
	path := newKeyring(dir).path
	raw, err := files.Head(path, maxDockerSettings) // by plain calls: package os would have the Go runtime open files first, and die where it cannot
	if err == nil && len(raw) == maxDockerSettings {
		err = errors.New("it is too long")
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(strings.TrimSpace(string(raw))) == 0 {
		return s, nil
	}
	if err == nil {
		err = leanjson.Unmarshal(raw, &s)
	}
	if err != nil {
		return DockerSettings{}, fmt.Errorf("settings of Docker: %s: %w", path, err)
	}
	return s, nil
}

// metaPrefix begins the names of headers that a daemon of Docker's passes on to registries. All others of HttpHeaders are for the daemon.
const metaPrefix = "X-Meta-"

// meta are the headers that registries get, and nobody whom they send us to.
func (s DockerSettings) meta() http.Header {
	h := http.Header{}
	for k, v := range s.HTTPHeaders {
		if k = http.CanonicalHeaderKey(k); strings.HasPrefix(k, metaPrefix) {
			h.Set(k, v)
		}
	}
	return h
}
