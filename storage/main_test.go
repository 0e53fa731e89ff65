package storage

import (
	"os"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

func TestMain(m *testing.M) {
	if done, code := Child(); done {
		os.Exit(code)
	}
	if len(os.Args) == 2 && os.Args[0] == overwriterName {
		os.Exit(overwriter(os.Args[1]))
	}
	if len(os.Args) == 2 && os.Args[0] == wordlessName {
		os.Exit(wordless(os.Args[1]))
	}
	os.Exit(nstest.Main(m, nstest.Options{Disk: true, Parts: map[string]func([]string) int{"life": life, "shut in": shutIn}}))
}

// open opens a store in a directory of the test.
func open(t *testing.T) *Store {
	t.Helper()
	return openIn(t, t.TempDir())
}

func openIn(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(Options{Data: dir + "/data", Run: dir + "/run"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
