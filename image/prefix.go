package image

import (
	"fmt"
	"strings"
)

// A prefix is a [[registry]] of containers-registries.conf(5): what is to be known of the images whose names begin with it. It is a host, a host and
// a path, or *. and the end of a host's name.
type prefix struct {
	Prefix   string `toml:"prefix"`
	Location string `toml:"location"` // stands in for the prefix
	Insecure bool   `toml:"insecure"`
	Blocked  bool   `toml:"blocked"`
	Mirrors  []struct {
		Location string `toml:"location"`
		Insecure bool   `toml:"insecure"`
		Only     string `toml:"pull-from-mirror"` // all, digest-only or tag-only
	} `toml:"mirror"`
	DigestOnly bool `toml:"mirror-by-digest-only"`
}

// check completes what may be left out, and refuses what means nothing.
func (p *prefix) check() error {
	p.Prefix, p.Location = strings.TrimRight(p.Prefix, "/"), strings.TrimRight(p.Location, "/")
	if p.Prefix == "" {
		p.Prefix = p.Location
	}
	host, _, _ := strings.Cut(p.Prefix, "/")
	if !validDomain(strings.TrimPrefix(host, "*.")) {
		return fmt.Errorf("registry: prefix %q: want HOST, HOST/PATH or *.HOST", p.Prefix)
	}
	for i, m := range p.Mirrors {
		if p.Mirrors[i].Location = strings.TrimRight(m.Location, "/"); m.Location == "" {
			return fmt.Errorf("registry %s: a mirror without a location", p.Prefix)
		}
		switch m.Only {
		case "", "all", "digest-only", "tag-only":
		default:
			return fmt.Errorf("registry %s: mirror %s: pull-from-mirror %q: want all, digest-only or tag-only", p.Prefix, m.Location, m.Only)
		}
	}
	return nil
}

// covers gives what of a name follows the prefix.
func (p *prefix) covers(r Reference) (rest string, ok bool) {
	name := r.String()
	if tail, wild := strings.CutPrefix(p.Prefix, "*"); wild {
		host, path, _ := strings.Cut(tail, "/")
		if !strings.HasSuffix(r.Domain, host) {
			return "", false
		}
		name = r.Domain[len(r.Domain)-len(host):] + strings.TrimPrefix(name, r.Domain)
		if tail = host; path != "" {
			tail += "/" + path
		}
		rest, ok = strings.CutPrefix(name, tail)
	} else {
		rest, ok = strings.CutPrefix(name, p.Prefix)
	}
	return rest, ok && (rest == "" || strings.ContainsRune("/:@", rune(rest[0])))
}

// prefix finds the longest one that a name begins with; nil where there is none.
func (s *Settings) prefix(r Reference) *prefix {
	var best *prefix
	for i := range s.prefixes {
		if _, ok := s.prefixes[i].covers(r); ok && (best == nil || len(s.prefixes[i].Prefix) > len(best.Prefix)) {
			best = &s.prefixes[i]
		}
	}
	return best
}

// A place is where an image may be had.
type place struct {
	to       Reference
	insecure bool
}

// places lists where an image is asked for: at mirrors, and then at the location, which the name's own registry is where there is none.
func (p *prefix) places(r Reference) ([]place, error) {
	rest, _ := p.covers(r)
	var list []place
	add := func(location string, insecure bool) error {
		to, err := ParseReference(location + rest)
		if err != nil {
			return fmt.Errorf("registry %s: location %s: %w", p.Prefix, location, err)
		}
		list = append(list, place{to, insecure})
		return nil
	}
	for _, m := range p.Mirrors {
		digestOnly := m.Only == "digest-only" || m.Only == "" && p.DigestOnly
		if digestOnly && r.Digest == "" || m.Only == "tag-only" && r.Digest != "" {
			continue
		}
		if err := add(m.Location, m.Insecure); err != nil {
			return nil, err
		}
	}
	if p.Location == "" {
		list = append(list, place{r, p.Insecure})
		return list, nil
	}
	return list, add(p.Location, p.Insecure)
}
