package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestProcessorTime(t *testing.T) {
	read := func(text string) (processorTime, bool) {
		path := filepath.Join(t.TempDir(), "stat")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return readProcessorTime(path)
	}
	a, ok := read("cpu  10 0 10 100 5 0 0 0 0 0\ncpu0 1 1 1 1\n")
	if want := (processorTime{100, 125}); !ok || a != want {
		t.Fatalf("%v %v, want %v", a, ok, want)
	}
	for _, test := range []struct {
		line string
		want float64
	}{
		{"cpu 10 0 10 120 5 0 0 0 0 0", 1},
		{"cpu 11 0 11 118 5 0 0 0 0 0", 0.9},
		{"cpu 10 0 10 110 15 0 0 0 0 0", 0.5}, // a disk is waited for
		{"cpu 10 0 10 100 5 0 0 0 7 0", 0},    // a guest's time, and no tick since
	} {
		b, ok := read(test.line)
		if got := a.idleUntil(b); !ok || got != test.want {
			t.Errorf("%s: %v %v, want %v", test.line, got, ok, test.want)
		}
	}
	for _, bad := range []string{"", "intr 1 2 3 4 5 6 7 8 9", "cpu 1 2 3", "cpu 1 2 3 x 5 6 7 8 9 10"} {
		if _, ok := read(bad); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}
