package specjson

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func golist(t *testing.T, format, pkg string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "-f", format, pkg).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// TestImports keeps the package light: what it brings into a program beyond the
// types of runtime-spec is on this list, or it was not thought about.
func TestImports(t *testing.T) {
	const own = "github.com/kakuri/kakuri/oci/specjson"
	specs := golist(t, "{{.ImportPath}}", "github.com/opencontainers/runtime-spec/specs-go")
	for _, dep := range golist(t, "{{.ImportPath}}", own) {
		if !slices.Contains(specs, dep) && !slices.Contains([]string{
			own,
			"github.com/kakuri/kakuri/abi",
			"strings",
		}, dep) {
			t.Errorf("imports %s", dep)
		}
	}
	direct := golist(t, `{{if eq .ImportPath "`+own+`"}}{{join .Imports " "}}{{end}}`, own)
	for _, heavy := range []string{"reflect", "fmt", "os", "encoding/json", "unsafe"} {
		if slices.Contains(direct, heavy) {
			t.Errorf("imports %s itself", heavy)
		}
	}
}
