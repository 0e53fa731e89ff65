package image

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A Reference names an image in a registry, whole: DOMAIN/PATH, and a tag or a digest or
// both. The grammar and the short forms are those of github.com/distribution/reference, which
// this package's tests compare it with; that package compiles its regular expressions before main, a
// millisecond of each start.
type Reference struct {
	Domain string // docker.io, localhost:5000
	Path   string // library/busybox
	Tag    string
	Digest digest.Digest
}

const (
	defaultDomain = "docker.io"
	defaultTag    = "latest"
	officialRepo  = "library/"
	maxName       = 255 // bytes of a path, as Docker has it
	maxTag        = 128
)

// A ReferenceError says why a name is none.
type ReferenceError struct{ Name, Why string }

func (e *ReferenceError) Error() string {
	return fmt.Sprintf("invalid reference format: %q: %s", e.Name, e.Why)
}

// ParseReference reads a name as people type it: busybox is docker.io/library/busybox. It gives no tag that is not
// there, see [Reference.Tagged]. Whether the first part is a host is decided by how it is written alone (a dot, a colon, a
// capital letter, or localhost), and never by what an address resolves to.
func ParseReference(name string) (Reference, error) {
	bad := func(why string) (Reference, error) { return Reference{}, &ReferenceError{Name: name, Why: why} }
	if isHex64(name) {
		return bad("64 hexadecimal digits are an image's id, and no name")
	}
	var r Reference
	rest := name
	if before, d, ok := strings.Cut(rest, "@"); ok {
		rest = before
		r.Digest = digest.Digest(d)
		if err := validDigest(r.Digest); err != nil {
			return bad(err.Error())
		}
	}
	r.Domain, rest = splitDomain(rest)
	if slash := strings.LastIndexByte(rest, '/'); strings.Contains(rest[slash+1:], ":") {
		colon := slash + 1 + strings.IndexByte(rest[slash+1:], ':')
		rest, r.Tag = rest[:colon], rest[colon+1:]
		if !validTag(r.Tag) {
			return bad("a tag has letters, digits, '_', '.' and '-', 128 at most, and begins with no '.' or '-'")
		}
	}
	r.Path = rest
	switch {
	case r.Path == "":
		return bad("the name is empty")
	case strings.ToLower(r.Path) != r.Path:
		return bad("repository name (" + r.Path + ") must be lowercase")
	case !validPath(r.Path):
		return bad("a repository's name has lowercase letters and digits, in parts with '.', '_', '__' or '-' between them, and '/' between the parts")
	case !validDomain(r.Domain):
		return bad("a registry is HOST or HOST:PORT")
	case len(r.Path) > maxName:
		return bad(fmt.Sprintf("a repository's name has %d bytes at most", maxName))
	}
	return r, nil
}

// splitDomain separates the registry, as Docker does.
func splitDomain(name string) (domain, rest string) {
	domain, rest, ok := strings.Cut(name, "/")
	if !ok || !strings.ContainsAny(domain, ".:") && domain != "localhost" && strings.ToLower(domain) == domain {
		domain, rest = defaultDomain, name
	}
	if domain == "index.docker.io" {
		domain = defaultDomain
	}
	if domain == defaultDomain && !strings.Contains(rest, "/") && rest != "" {
		rest = officialRepo + rest
	}
	return domain, rest
}

func isHex64(s string) bool { return len(s) == 64 && isHex(s) }

func isHex(s string) bool {
	for i := range len(s) {
		if !(s[i] >= '0' && s[i] <= '9' || s[i] >= 'a' && s[i] <= 'f') {
			return false
		}
	}
	return true
}

// validDigest is asked of every digest that comes from outside, before it is a part of a path or of a URL.
func validDigest(d digest.Digest) error {
	alg, hex, _ := strings.Cut(string(d), ":")
	want := map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}[alg]
	if want == 0 {
		return fmt.Errorf("digest %.200q: an algorithm that is not known, want sha256", string(d))
	}
	if len(hex) != want || !isHex(hex) {
		return fmt.Errorf("digest %.200q: want %d lowercase hexadecimal digits", string(d), want)
	}
	return nil
}

func isAlnum(c byte) bool { return isLower(c) || c >= 'A' && c <= 'Z' }
func isLower(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func validTag(s string) bool {
	for i := range len(s) {
		if !(isAlnum(s[i]) || s[i] == '_' || i > 0 && (s[i] == '.' || s[i] == '-')) {
			return false
		}
	}
	return s != "" && len(s) <= maxTag
}

// validPath: parts of [a-z0-9]+ with separators ".", "_", "__" or any number of "-".
func validPath(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || !isLower(part[0]) || !isLower(part[len(part)-1]) {
			return false
		}
		for i := 0; i < len(part); {
			from := i
			for i < len(part) && !isLower(part[i]) {
				i++
			}
			switch sep := part[from:i]; {
			case sep == "" || sep == "." || sep == "_" || sep == "__" || strings.Trim(sep, "-") == "":
				i++
			default:
				return false
			}
		}
	}
	return true
}

// validDomain: a host's name, or an IPv6 address in brackets, and perhaps a port.
func validDomain(s string) bool {
	if end := strings.LastIndexByte(s, ']'); strings.HasPrefix(s, "[") && end > 1 {
		return strings.Trim(s[1:end], "0123456789abcdefABCDEF:") == "" && validPort(s[end+1:])
	}
	host, _, _ := strings.Cut(s, ":")
	return validHost(host) && validPort(s[len(host):])
}

// validPort: nothing, or a colon and digits.
func validPort(s string) bool {
	port, ok := strings.CutPrefix(s, ":")
	return s == "" || ok && port != "" && strings.Trim(port, "0123456789") == ""
}

// validHost: parts of letters, digits and "-", which is at neither end, with dots between them.
func validHost(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || !isAlnum(part[0]) || !isAlnum(part[len(part)-1]) {
			return false
		}
		for i := range len(part) {
			if !isAlnum(part[i]) && part[i] != '-' {
				return false
			}
		}
	}
	return true
}

// Name is the repository, whole: docker.io/library/busybox.
func (r Reference) Name() string { return r.Domain + "/" + r.Path }

// String is the reference, whole.
func (r Reference) String() string { return r.Name() + r.suffix() }

func (r Reference) suffix() string {
	s := ""
	if r.Tag != "" {
		s = ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + string(r.Digest)
	}
	return s
}

// FamiliarName is the repository as people type it: busybox.
func (r Reference) FamiliarName() string {
	if r.Domain != defaultDomain {
		return r.Name()
	}
	if rest, ok := strings.CutPrefix(r.Path, officialRepo); ok && !strings.Contains(rest, "/") {
		return rest
	}
	return r.Path
}

// Familiar is the reference as people type it: busybox:latest.
func (r Reference) Familiar() string { return r.FamiliarName() + r.suffix() }

// Tagged is the reference with the tag that is meant when there is neither tag nor digest: latest.
func (r Reference) Tagged() Reference {
	if r.Tag == "" && r.Digest == "" {
		r.Tag = defaultTag
	}
	return r
}

// identifier is what a registry is asked for: the digest before the tag.
func (r Reference) identifier() string {
	if r.Digest != "" {
		return string(r.Digest)
	}
	return r.Tag
}
