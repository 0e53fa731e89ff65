package house

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/golden"
)

// TestRuntimeDependencies compares what kakuri-runtime is made of with the list in
// testdata, so that each new import is a line in a review: it is paid for at every
// start of a container. Internal packages of the standard library, which change
// with Go's version, are left out.
func TestRuntimeDependencies(t *testing.T) {
	const file = "testdata/kakuri-runtime.deps"
	var deps []string
	for _, p := range list(t, "amd64", "-deps", "./cmd/kakuri-runtime") {
		first, _, _ := strings.Cut(p.ImportPath, "/")
		hidden := first == "internal" || first == "vendor" || first == "runtime" || strings.Contains(p.ImportPath, "/internal/")
		if !p.Standard || !hidden {
			deps = append(deps, p.ImportPath)
		}
	}
	slices.Sort(deps)
	got := strings.Join(deps, "\n") + "\n"
	if *golden.Update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(string(data))
	for _, d := range deps {
		if !slices.Contains(want, d) {
			t.Errorf("kakuri-runtime imports %s now: is it worth what it costs at every start? If so, -update", d)
		}
	}
	for _, d := range want {
		if !slices.Contains(deps, d) {
			t.Errorf("kakuri-runtime does not import %s any more: -update", d)
		}
	}
	// What no list may have: each costs a tenth of a start, or more.
	for _, heavy := range []string{"net", "net/http", "crypto/tls", "text/template", "regexp", "log/slog", "github.com/spf13/cobra", "github.com/spf13/pflag"} {
		if slices.Contains(deps, heavy) {
			t.Errorf("kakuri-runtime imports %s, which is too heavy for it", heavy)
		}
	}
}
