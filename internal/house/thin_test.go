package house

import (
	"strings"
	"testing"
)

// TestThinDependencies keeps out of the thin kakuri what it is thin without: each costs a twentieth of its start, or more.
func TestThinDependencies(t *testing.T) {
	heavy := []string{"net/http", "crypto/tls", "crypto/x509", "github.com/klauspost/compress/", "github.com/ulikunitz/", "github.com/BurntSushi/", "go.yaml.in/",
		"tags.cncf.io/container-device-interface/pkg/cdi", "github.com/fsnotify/", "compress/bzip2", module + "/tour", module + "/verify"}
	for _, p := range list(t, "amd64", "-tags", "thin", "-deps", "./cmd/kakuri") {
		for _, h := range heavy {
			if p.ImportPath == h || strings.HasSuffix(h, "/") && strings.HasPrefix(p.ImportPath, h) {
				t.Errorf("kakuri built with the tag thin imports %s: a file with //go:build !thin is the place for it, see engine/whole.go", p.ImportPath)
			}
		}
	}
}
