package docgen

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Each field of runtime-spec's types has one row in docs/runtime-spec.md, each row has a field,
// and what it says of files and tests is there.
func TestRuntimeSpecPage(t *testing.T) {
	root := moduleRoot(t)
	page, err := os.ReadFile(filepath.Join(root, "docs/runtime-spec.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows, fields := FieldRows(string(page)), SpecFields()
	if len(fields) < 200 {
		t.Errorf("%d fields only", len(fields))
	}
	for _, f := range fields {
		var about []FieldRow
		for _, r := range rows {
			if r.Covers(f) {
				about = append(about, r)
			}
		}
		if len(about) != 1 {
			t.Errorf("%s has %d rows: %v", f, len(about), about)
		}
	}
	tests := map[string]string{}
	for _, r := range rows {
		for _, f := range r.Fields {
			if !slices.ContainsFunc(fields, FieldRow{Fields: []string{f}}.Covers) {
				t.Errorf("there is no field %s", f)
			}
		}
		if len(r.Files) == 0 || len(r.Tests) == 0 {
			t.Errorf("%v: handled by %v, proved by %v", r.Fields, r.Files, r.Tests)
		}
		for _, file := range r.Files {
			if _, err := os.Stat(filepath.Join(root, file)); err != nil {
				t.Errorf("%v: %v", r.Fields, err)
			}
		}
		for _, test := range r.Tests {
			if strings.Contains(test, "/") { // a folder of golden files
				if _, err := os.Stat(filepath.Join(root, test)); err != nil {
					t.Errorf("%v: %v", r.Fields, err)
				}
				continue
			}
			dir, name, _ := strings.Cut(test, ".")
			if !strings.Contains(testSources(t, tests, root, dir), "func "+name+"(t *testing.T)") {
				t.Errorf("%v: there is no test %s", r.Fields, test)
			}
		}
	}
}

// testSources is the text of all tests of a room.
func testSources(t *testing.T, have map[string]string, root, dir string) string {
	t.Helper()
	if text, ok := have[dir]; ok {
		return text
	}
	at := map[string]string{"specjson": "oci/specjson", "limits": "cgroup/limits"}[dir]
	if at == "" {
		at = dir
	}
	files, err := filepath.Glob(filepath.Join(root, at, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Errorf("no tests in %s: %v", at, err)
	}
	var text strings.Builder
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(data)
	}
	have[dir] = text.String()
	return have[dir]
}

func TestSpecFields(t *testing.T) {
	fields := SpecFields()
	for _, want := range []string{"process.user.uid", "mounts[].uidMappings[].size", "linux.netDevices.NAME.name", "linux.resources.blockIO.weightDevice[].major"} {
		if !slices.Contains(fields, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, f := range fields {
		if strings.HasPrefix(f, "windows") || strings.Contains(f, "username") || strings.Contains(f, "commandLine") {
			t.Errorf("%s is of another system", f)
		}
	}
	row := FieldRow{Fields: []string{"a.b.*", "c"}}
	for field, want := range map[string]bool{"a.b": true, "a.b.c": true, "a.b[].c": true, "a.bc": false, "a": false, "c": true, "c.d": false} {
		if row.Covers(field) != want {
			t.Errorf("%s: %v", field, !want)
		}
	}
}
