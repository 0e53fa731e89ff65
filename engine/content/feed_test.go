package content

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestFeed: a child that reads what this process reads for it learns the end, an error, and that of the context, and takes no stream that was cut for a whole one.
func TestFeed(t *testing.T) {
	long := strings.Repeat("0123456789", 20000)
	broken := errors.New("broken")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx  context.Context
		in   io.Reader
		want string
		why  error
	}{
		{t.Context(), strings.NewReader(""), "", nil},
		{t.Context(), strings.NewReader(long), long, nil},
		{t.Context(), iotest.DataErrReader(iotest.OneByteReader(strings.NewReader("abc"))), "abc", nil},
		{t.Context(), iotest.ErrReader(broken), "", broken},
		{t.Context(), io.MultiReader(strings.NewReader(long), iotest.ErrReader(broken)), long, broken},
		{over, iotest.OneByteReader(strings.NewReader("abc")), "a", context.Canceled},
	} {
		var b bytes.Buffer
		if err := feed(test.ctx, &b, test.in); err != test.why {
			t.Errorf("%v, want %v", err, test.why)
		}
		all := b.Bytes()
		got, err := io.ReadAll(&fed{from: bytes.NewReader(all)})
		if string(got) != test.want || (err == nil) != (test.why == nil) || err != nil && err.Error() != test.why.Error() {
			t.Errorf("%d bytes and %v, want %d and %v", len(got), err, len(test.want), test.why)
		}
		for _, cut := range []int{0, 3, len(all) / 2, len(all) - 1} {
			if cut > 0 && len(all) <= 8 || test.why != nil { // within the words of an error
				continue
			}
			if _, err := io.ReadAll(&fed{from: bytes.NewReader(all[:cut])}); err != io.ErrUnexpectedEOF {
				t.Errorf("%d of %d bytes: %v", cut, len(all), err)
			}
		}
	}
}
