package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityTable: each test that SECURITY.md names for a class of attacks is there, and each test that is named after a
// CVE is in that table, so that none is lost by a new name.
func TestSecurityTable(t *testing.T) {
	page, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`(\\w+)` (Test\\w+)").FindAllStringSubmatch(string(page), -1) {
		named[m[1]+" "+m[2]] = false
	}
	if len(named) < 30 {
		t.Errorf("the table names %d tests only", len(named))
	}
	files, err := filepath.Glob("../../*/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	test := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		room := filepath.Base(filepath.Dir(file))
		for _, m := range test.FindAllStringSubmatch(string(data), -1) {
			key := room + " " + m[1]
			_, known := named[key]
			if known {
				named[key] = true
			} else if strings.HasPrefix(m[1], "TestCVE_") {
				t.Errorf("%s is not in the table of SECURITY.md", key)
			}
		}
	}
	for key, found := range named {
		if !found {
			t.Errorf("SECURITY.md names %s, which is not there", key)
		}
	}
}
