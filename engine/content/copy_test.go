package content

import (
	"io/fs"
	"strings"
	"testing"
)

// TestDestination: where a copy goes, by the table of docker cp.
func TestDestination(t *testing.T) {
	stat := func(p string) (fs.FileMode, error) {
		switch strings.TrimSuffix(strings.TrimSuffix(p, "/."), "/") {
		case "", "/dir", ".":
			return fs.ModeDir, nil
		case "/file":
			return 0, nil
		}
		return 0, fs.ErrNotExist
	}
	for _, test := range []struct {
		src  string
		dir  bool
		dst  string
		want string // DIR|NAME, or ! and a word of the error
	}{
		{"/a/f", false, "/dir", "/dir|f"},
		{"/a/f", false, "/dir/", "/dir/|f"},
		{"/a/f", false, "/file", "/|file"},
		{"/a/f", false, "/dir/new", "/dir|new"},
		{"/a/f", false, "/dir/new/", "!no such directory"},
		{"/a/f", false, "/file/", "!not a directory"},
		{"/a/f", false, "/no/new", "!no such directory"},
		{"/a/d", true, "/dir", "/dir|d"},
		{"/a/d/", true, "/dir", "/dir|d"},
		{"/a/d/.", true, "/dir", "/dir|."},
		{".", true, "/dir", "/dir|."},
		{"/a/d", true, "/dir/new", "/dir|new"},
		{"/a/d/.", true, "/dir/new/", "/dir|new"},
		{"/a/d", true, "/file", "!cannot copy a directory"},
		{"/", true, "/dir", "/dir|."},
	} {
		to, err := destination(test.src, test.dir, test.dst, stat)
		got := to.dir + "|" + to.name
		if err != nil {
			got = "!" + err.Error()
		}
		if got != test.want && !(err != nil && strings.HasPrefix(test.want, "!") && strings.Contains(got, test.want[1:])) {
			t.Errorf("%s (dir %v) to %s: %s, want %s", test.src, test.dir, test.dst, got, test.want)
		}
	}
}
