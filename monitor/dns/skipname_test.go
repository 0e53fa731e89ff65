package dns

import (
	"strings"
	"testing"
)

// TestSkipName: a pointer of a name leads back, behind the header, and no name is longer than RFC 1035 has it (2.3.4).
func TestSkipName(t *testing.T) {
	head := strings.Repeat("\x00", headerSize)
	label := func(n int) string { return string(rune(n)) + strings.Repeat("a", n) }
	long := label(63) + label(63) + label(63)
	for _, c := range []struct {
		what, before, name string
		end                int // from the name's begin; 0 for one that is refused
	}{
		{"the root", "", "\x00", 1},
		{"a label", "", "\x01a\x00", 3},
		{"a pointer back", "\x01a\x00", "\xc0\x0c", 2},
		{"a label and a pointer back", "\x01a\x00", "\x01b\xc0\x0c", 4},
		{"a pointer to itself", "", "\xc0\x0c", 0},
		{"a pointer to its own label", "", "\x01a\xc0\x0c", 0},
		{"a pointer forward", "", "\xc0\x0e\x00", 0},
		{"a pointer into the header", "", "\xc0\x0b", 0},
		{"two pointers at each other", "\xc0\x0e", "\xc0\x0c", 0},
		{"half a pointer", "", "\xc0", 0},
		{"a label of no known kind", "\x01a\x00", "\x40\x0c\x00", 0},
		{"another one", "\x01a\x00", "\x80\x0c\x00", 0},
		{"a label that is cut off", "", "\x05a", 0},
		{"no end", "", "\x01a", 0},
		{"the longest name", "", long + label(61) + "\x00", 255},
		{"one that is longer", "", long + label(62) + "\x00", 0},
		{"one that is longer by its pointer", long + "\x00", label(62) + "\xc0\x0c", 0},
	} {
		msg := []byte(head + c.before + c.name)
		at := len(head) + len(c.before)
		if end, ok := skipName(msg, at); ok != (c.end > 0) || ok && end != at+c.end {
			t.Errorf("%s: %d, %v", c.what, end-at, ok)
		}
	}
}
