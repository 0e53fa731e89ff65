package image

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

// oracle is what Docker makes of a name: whole, and as people type it.
func oracle(name string) (whole, familiar, domain string, ok bool) {
	r, err := reference.ParseNormalizedNamed(name)
	if err != nil || reference.Domain(r) == "" { // h_x.y/a: a path without a registry, which no registry has
		return "", "", "", false
	}
	return r.String(), reference.FamiliarString(r), reference.Domain(r), true
}

var digest64 = strings.Repeat("0123456789abcdef", 4)

var names = []string{
	"busybox", "busybox:1.36", "library/busybox", "docker.io/busybox", "docker.io/library/busybox", "index.docker.io/a/b",
	"localhost/a", "localhost:5000/a", "localhost", "Localhost/a", "LOCALHOST/a", "foo/bar", "Foo/bar", "foo.example/bar", "foo:5000/bar:tag",
	"127.0.0.1:5000/a/b/c", "[::1]:5000/a", "[::1]/a:b", "[]/a", "[::1/a", "[fe80::1%eth0]/a", "a..b", "a.b", "a__b", "a___b", "a---b", "-a", "a-", "a_", ".a", "a/",
	"/a", "a//b", "a:b:c", "a:", ":a", "", "@", "a@", "a@sha256:" + digest64, "a:t@sha256:" + digest64, "a@sha256:" + strings.ToUpper(digest64),
	"a@sha256:" + digest64[1:], "a@sha256:../../x", "a@md5:" + digest64[:32], "a@sha512:" + digest64 + digest64, digest64, "sha256:" + digest64,
	"a:" + strings.Repeat("t", 128), "a:" + strings.Repeat("t", 129), strings.Repeat("a", 255), strings.Repeat("a", 256), "a:.t", "a:-t", "a:_t", "a:T", "a b", "a\nb",
	"ü", "A", "a/B", "x.y/A", "x.y/a:A", "host:port/a", "host:/a", "h-/a", "-h.x/a", "h..x/a", "h_x.y/a", "docker.io/", "docker.io", "a/b:c/d", "../x", "a/../b", "a\x00b",
	"sha256:abc", "http://a/b", "x:y@z", "docker.io/a@sha256:" + digest64, "a.b/c:1@sha384:" + digest64 + digest64[:32],
}

func compare(t *testing.T, name string) {
	t.Helper()
	whole, familiar, domain, ok := oracle(name)
	r, err := ParseReference(name)
	if (err == nil) != ok {
		t.Fatalf("%q: %v, and the oracle says %v", name, err, ok)
	}
	if ok && (r.String() != whole || r.Familiar() != familiar || r.Domain != domain) {
		t.Fatalf("%q: %q %q %q, want %q %q %q", name, r.String(), r.Familiar(), r.Domain, whole, familiar, domain)
	}
}

// TestReference: names are what Docker's own parser makes of them.
func TestReference(t *testing.T) {
	for _, name := range names {
		compare(t, name)
	}
}

func FuzzReference(f *testing.F) {
	for _, name := range names {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) { compare(t, name) })
}
