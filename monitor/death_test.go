package monitor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestEnding: whatever the pieces, the last whole lines are kept, and no more than a few kilobytes.
func TestEnding(t *testing.T) {
	var all strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&all, "line %d\n", i)
	}
	for _, size := range []int{1, 7, 100, lastBytes - 1, lastBytes, lastBytes + 1, 16 << 10, all.Len()} {
		var e ending
		for p := all.String(); p != ""; {
			n := min(size, len(p))
			e.add([]byte(p[:n]))
			p = p[n:]
			if len(e.buf) > 2*lastBytes {
				t.Fatalf("%d bytes kept", len(e.buf))
			}
		}
		got := e.lines()
		var want []string
		for i := 3000 - lastLines; i < 3000; i++ {
			want = append(want, fmt.Sprintf("line %d", i))
		}
		if !slices.Equal(got, want) {
			t.Errorf("pieces of %d: %q", size, got)
		}
	}
	var e ending
	e.add([]byte("one\r\ntwo\xff"))
	if got := e.lines(); !slices.Equal(got, []string{"one", "two\ufffd"}) {
		t.Errorf("%q", got)
	}
	if got := e.lines(); got != nil {
		t.Errorf("a second time: %q", got)
	}
	e.add([]byte(strings.Repeat("x", 3*lastBytes)))
	if got := e.lines(); len(got) > 1 {
		t.Errorf("one long line: %d lines", len(got))
	}
}
