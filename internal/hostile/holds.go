package hostile

import (
	"os"
	"path/filepath"
	"testing"
)

// Holds compares what is in a directory with a tree as an [Archive] has it.
func Holds(t testing.TB, dir string, tree map[string]string) {
	t.Helper()
	for name, want := range tree {
		p := filepath.Join(dir, name)
		got := ""
		if fi, err := os.Lstat(p); err == nil {
			got = letter(fi.Mode().Type())
		}
		switch got {
		case "-":
			data, err := os.ReadFile(p)
			if err != nil {
				t.Error(err)
			}
			got += ":" + string(data)
		case "l":
			target, _ := os.Readlink(p)
			got += "> " + target
		}
		if got != want {
			t.Errorf("%.80q is %.80q, want %.80q", name, got, want)
		}
	}
}

// letter is that of ls(1) for a type of files.
func letter(m os.FileMode) string {
	switch m {
	case 0:
		return "-"
	case os.ModeDir:
		return "d"
	case os.ModeSymlink:
		return "l"
	case os.ModeNamedPipe:
		return "p"
	case os.ModeDevice:
		return "b"
	case os.ModeDevice | os.ModeCharDevice:
		return "c"
	}
	return "?"
}
