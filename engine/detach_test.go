package engine

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseDetachKeys(t *testing.T) {
	for in, want := range map[string]string{
		"": "\x10\x11", "ctrl-p,ctrl-q": "\x10\x11", "a": "a", "ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_": "\x00\x1b\x1c\x1d\x1e\x1f", "ctrl-a,b": "\x01b", "DEL,a": "\x7fa",
	} {
		if got, err := ParseDetachKeys(in); string(got) != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"ctrl-", "ctrl-A", "ab", "ctrl-1", ",", "é", "ctrl-p,"} {
		if got, err := ParseDetachKeys(in); err == nil || !strings.Contains(err.Error(), "invalid detach keys") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// TestDetacher: what was typed arrives, but for the keys, which end it, however it comes in pieces.
func TestDetacher(t *testing.T) {
	for _, test := range []struct {
		keys, in, want string
		detached       bool
	}{
		{"\x10\x11", "abc", "abc", false},
		{"\x10\x11", "ab\x10\x11cd", "ab", true},
		{"\x10\x11", "\x10\x10\x11x", "\x10", true},
		{"\x10\x11", "\x10a\x11\x10", "\x10a\x11\x10", false},
		{"aab", "aaab", "a", true},
		{"abab", "ababab", "", true},
		{"abac", "ababac", "ab", true},
		{"q", "q", "", true},
	} {
		for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader} {
			var out bytes.Buffer
			_, err := io.CopyBuffer(struct{ io.Writer }{&out}, newDetacher(wrap(strings.NewReader(test.in)), []byte(test.keys)), make([]byte, 3))
			if out.String() != test.want || errors.Is(err, ErrDetached) != test.detached {
				t.Errorf("keys %q, typed %q: %q, %v; want %q, detached: %v", test.keys, test.in, out.String(), err, test.want, test.detached)
			}
		}
	}
}
