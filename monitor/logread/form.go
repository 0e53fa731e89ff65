package logread

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/kakuri/kakuri/monitor/log"
)

// A form is how entries stand in a file. Each method may be given any bytes.
type form interface {
	// decode reads the first entry of b and returns its length, 0 where there is no whole one. After an error, which is
	// errDamaged, that length is of what has to be left out.
	decode(b []byte) (Line, int, error)
	// before returns the begin of the entry that ends at the end of b, where b is the end of what precedes; -1 when it begins before b, and
	// errDamaged where no entry ends.
	before(b []byte) (int, error)
}

var errDamaged = errors.New("a damaged entry")

// maxEntry bounds an entry: 16 KiB of a line, each byte escaped by six, and the attributes.
const maxEntry = 1 << 20

// jsonForm has an object a line.
type jsonForm struct{}

func (jsonForm) decode(b []byte) (Line, int, error) {
	i := bytes.IndexByte(b, '\n')
	switch {
	case i < 0 && len(b) > maxEntry:
		return Line{}, len(b), errDamaged
	case i < 0:
		return Line{}, 0, nil
	}
	l, err := parseJSON(b[:i])
	return l, i + 1, err
}

func (jsonForm) before(b []byte) (int, error) {
	if len(b) == 0 {
		return -1, nil
	}
	i := bytes.LastIndexByte(b[:len(b)-1], '\n')
	switch {
	case i >= 0:
		return i + 1, nil
	case len(b) > maxEntry:
		return 0, errDamaged
	}
	return -1, nil
}

// lineForm has lines of another kind, with what tells their time.
type lineForm func([]byte) (time.Time, error)

func (f lineForm) decode(b []byte) (Line, int, error) {
	i := bytes.IndexByte(b, '\n')
	switch {
	case i < 0 && len(b) > maxEntry:
		return Line{}, len(b), errDamaged
	case i < 0:
		return Line{}, 0, nil
	}
	at, err := f(b[:i])
	if err != nil {
		return Line{}, i + 1, errDamaged
	}
	return Line{Time: at, Text: b[:i]}, i + 1, nil
}

func (f lineForm) before(b []byte) (int, error) { return jsonForm{}.before(b) }

func parseJSON(b []byte) (Line, error) {
	if l, ok := parsePlain(b); ok {
		return l, nil
	}
	var x struct {
		Log    string            `json:"log"`
		Stream string            `json:"stream"`
		Attrs  map[string]string `json:"attrs"`
		Time   time.Time         `json:"time"`
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return Line{}, errDamaged
	}
	l := Line{Stream: log.Stdout, Time: x.Time, Text: []byte(x.Log), Attrs: x.Attrs}
	if x.Stream == "stderr" {
		l.Stream = log.Stderr
	}
	return l, nil
}

// parsePlain reads an object as package log and Docker write it, and gives up on any other: encoding/json needs ten times as long.
func parsePlain(b []byte) (l Line, ok bool) {
	if b, ok = bytes.CutPrefix(b, []byte(`{"log":"`)); !ok {
		return l, false
	}
	if l.Text, b, ok = unescape(b); !ok {
		return l, false
	}
	for _, s := range []struct {
		text   string
		stream log.Stream
	}{{`,"stream":"stdout","time":"`, log.Stdout}, {`,"stream":"stderr","time":"`, log.Stderr}} {
		rest, found := bytes.CutPrefix(b, []byte(s.text))
		if !found {
			continue
		}
		stamp, found := bytes.CutSuffix(rest, []byte(`"}`))
		if !found || bytes.IndexByte(stamp, '"') >= 0 {
			return l, false
		}
		l.Stream = s.stream
		err := l.Time.UnmarshalText(stamp) // the rule of encoding/json
		return l, err == nil
	}
	return l, false
}

// unescape reads the inside of a JSON string, and what comes after its end.
func unescape(b []byte) (text, rest []byte, ok bool) {
	end := 0
	for end < len(b) && b[end] != '"' {
		if b[end] < ' ' {
			return nil, nil, false
		}
		if b[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(b) || !utf8.Valid(b[:end]) {
		return nil, nil, false
	}
	in, rest := b[:end], b[end+1:]
	out := make([]byte, 0, len(in))
	for {
		i := bytes.IndexByte(in, '\\')
		if i < 0 {
			return append(out, in...), rest, true
		}
		out = append(out, in[:i]...)
		c := in[i+1] // which is there: the end is no escaped quote
		in = in[i+2:]
		switch c {
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case '"', '\\', '/':
			out = append(out, c)
		case 'u':
			r, ok := hex4(in)
			if !ok || r >= 0xd800 && r < 0xe000 { // halves of a pair: not of ours
				return nil, nil, false
			}
			out = utf8.AppendRune(out, r)
			in = in[4:]
		default:
			return nil, nil, false
		}
	}
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// entryHead begins an entry: field 1, a string of 6 bytes.
const entryHead = "\x0a\x06std"

// localForm has messages of protocol buffers between two copies of their length: see package log.
type localForm struct{}

func (localForm) decode(b []byte) (Line, int, error) {
	if len(b) < 4 {
		return Line{}, 0, nil
	}
	n := int(binary.BigEndian.Uint32(b))
	// Its first field tells an entry from a number that only looks like the length of one.
	if head := b[4:min(len(b), 4+len(entryHead))]; n > maxEntry || n < len(entryHead) || string(head) != entryHead[:len(head)] {
		return Line{}, 1, errDamaged
	}
	if len(b) < n+8 {
		return Line{}, 0, nil
	}
	if int(binary.BigEndian.Uint32(b[4+n:])) != n {
		return Line{}, 1, errDamaged
	}
	l, ok := parseEntry(b[4 : 4+n])
	if !ok {
		return Line{}, 8 + n, errDamaged
	}
	return l, 8 + n, nil
}

func (localForm) before(b []byte) (int, error) {
	if len(b) < 4 {
		return -1, nil
	}
	n := int(binary.BigEndian.Uint32(b[len(b)-4:]))
	begin := len(b) - 8 - n
	switch {
	case n > maxEntry || n < len(entryHead):
		return 0, errDamaged
	case begin < 0:
		return -1, nil
	case int(binary.BigEndian.Uint32(b[begin:])) != n:
		return 0, errDamaged
	}
	return begin, nil
}

// parseEntry reads Docker's LogEntry, by the wire format of protocol buffers; fields that it does not know are left out.
func parseEntry(b []byte) (l Line, ok bool) {
	l.Stream = log.Stdout
	partial := false
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return l, false
		}
		b = b[n:]
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return l, false
		}
		b = b[n:]
		var field []byte
		switch key & 7 {
		case 0:
		case 2:
			if v > uint64(len(b)) {
				return l, false
			}
			field, b = b[:v], b[v:]
		default:
			return l, false
		}
		switch key {
		case 1<<3 | 2:
			if string(field) == "stderr" {
				l.Stream = log.Stderr
			}
		case 2 << 3:
			l.Time = time.Unix(0, int64(v)).UTC()
		case 3<<3 | 2:
			l.Text = field
		case 4 << 3:
			partial = v != 0
		}
	}
	if !partial {
		l.Text = append(bytes.Clone(l.Text), '\n')
	}
	return l, true
}
