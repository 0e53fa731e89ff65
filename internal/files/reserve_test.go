package files

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestReserve(t *testing.T) {
	dir := t.TempDir()
	id := strings.Repeat("0123456789abcdef", 4)
	for name, id := range map[string]string{"id": id, "text": "bridge"} {
		if err := Reserve(id, dir+"/"+name); err != nil {
			t.Fatal(err)
		}
		if got, err := ReservedFor(dir + "/" + name); got != id || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if to, err := os.Readlink(dir + "/" + name); err != nil || len(to) >= 60 {
			t.Errorf("%s: the link has %d bytes: %v", name, len(to), err)
		}
		if err := Reserve("other", dir+"/"+name); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s is reserved twice: %v", name, err)
		}
	}
	if err := os.Symlink(id, dir+"/digits"); err != nil {
		t.Fatal(err)
	}
	if got, err := ReservedFor(dir + "/digits"); got != id || err != nil {
		t.Errorf("of an older version: %q, %v", got, err)
	}
	if _, err := ReservedFor(dir + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}
