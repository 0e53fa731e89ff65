package engine

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrDetached is the end of an attachment by the detach keys: the container goes on. Its words are Docker's.
var ErrDetached = errors.New("read escape sequence")

// DefaultDetachKeys leave a container without ending it.
const DefaultDetachKeys = "ctrl-p,ctrl-q"

// ParseDetachKeys reads a sequence such as "ctrl-p,ctrl-q" or "a": each key a character, DEL, or ctrl- and one of a-z, @, [, \, ], ^, _. An empty
// one is the default.
func ParseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		s = DefaultDetachKeys
	}
	var keys []byte
	for _, key := range strings.Split(s, ",") {
		name, ctrl := strings.CutPrefix(key, "ctrl-")
		c := byte(0)
		if len(name) == 1 {
			c = name[0]
		}
		switch {
		case key == "DEL":
			c = 0x7f
		case len(name) != 1 || c >= 0x80:
			return nil, fmt.Errorf("invalid detach keys (%s): %q is no character, not DEL, and no ctrl- with one of a-z, @, [, \\, ], ^, _", s, key)
		case !ctrl:
		case c >= 'a' && c <= 'z':
			c -= 'a' - 1
		case c >= '[' && c <= '_':
			c -= '@'
		case c == '@':
			c = 0
		default:
			return nil, fmt.Errorf("invalid detach keys (%s): there is no control character of %q", s, name)
		}
		keys = append(keys, c)
	}
	return keys, nil
}

// A detacher reads what is typed, and ends with ErrDetached at the detach keys, which it keeps to itself. A beginning of them that goes on otherwise is passed
// on then.
type detacher struct {
	r    io.Reader
	keys []byte
	seen int    // of the keys
	buf  []byte // to be passed on before more is read
	err  error
}

func newDetacher(r io.Reader, keys []byte) *detacher { return &detacher{r: r, keys: keys} }

func (d *detacher) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(d.buf) == 0 && d.err == nil {
		in := make([]byte, len(p))
		n, err := d.r.Read(in)
		d.err = err
		d.take(in[:n])
		if err != nil && d.err != ErrDetached {
			d.buf = append(d.buf, d.keys[:d.seen]...)
			d.seen = 0
		}
	}
	n := copy(p, d.buf)
	d.buf = d.buf[n:]
	if len(d.buf) > 0 {
		return n, nil
	}
	return n, d.err
}

func (d *detacher) take(in []byte) {
	for _, c := range in {
		held := append(append([]byte(nil), d.keys[:d.seen]...), c)
		// The longest end of what was held back that the keys begin with is held back further.
		n := min(len(held), len(d.keys))
		for n > 0 && string(held[len(held)-n:]) != string(d.keys[:n]) {
			n--
		}
		d.buf = append(d.buf, held[:len(held)-n]...)
		if d.seen = n; n == len(d.keys) {
			d.seen, d.err = 0, ErrDetached
			return
		}
	}
}
