package files

import (
	"strings"
	"testing"
)

func TestIsName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "9z": true, "a_b.c-d": true, strings.Repeat("a", 20): true,
		"": false, "_a": false, ".a": false, "-a": false, "..": false, "../x": false, "a/b": false, "a b": false, "a\n": false, "ü1": false, "a\x00b": false,
		strings.Repeat("a", 21): false,
	} {
		if IsName(name, 20) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	for range 2000 {
		id := NewID()
		if !IsID(id) || strings.Trim(id[:12], "0123456789") == "" || seen[id] {
			t.Fatalf("%q", id)
		}
		seen[id] = true
	}
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	if list, err := List(dir); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	var want int
	for range 300 { // more than a buffer holds
		if err := Reserve("x", dir+"/"+NewID()); err != nil {
			t.Fatal(err)
		}
		want++
	}
	if list, err := List(dir); err != nil || len(list) != want {
		t.Errorf("%d names, %v", len(list), err)
	}
	for _, none := range []string{dir + "/none", "/proc/self/status"} {
		if list, err := List(none); err == nil || list != nil {
			t.Errorf("%s: %v, %v", none, list, err)
		}
	}
}
