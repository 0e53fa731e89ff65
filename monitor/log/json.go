package log

import (
	"slices"
	"unicode/utf8"
)

// A form is how entries stand in a file.
type form interface {
	// append adds an entry to buf.
	append(buf []byte, e *entry) []byte
	// torn returns how many bytes at the end of a file are no whole entry: what a killed process or a full disk left.
	torn(tail []byte, size int64) int64
}

// jsonForm is that of Docker's json-file: an object a line, and "<", ">", "&" escaped, as its own are.
type jsonForm struct {
	attrs []byte // `,"attrs":{…}`, or nothing

	second int64  // of stamp
	stamp  []byte // `,"time":"2006-01-02T15:04:05`, of the last entry
}

func (f *jsonForm) append(buf []byte, e *entry) []byte {
	// Each line has a stamp of its own, most of them in the second of the one before.
	if second := e.at.Unix(); f.stamp == nil || f.second != second {
		f.second = second
		f.stamp = append(f.stamp[:0], `,"time":"`...)
		f.stamp = e.at.UTC().AppendFormat(f.stamp, "2006-01-02T15:04:05")
	}
	buf = append(buf, `{"log":"`...)
	buf = appendEscaped(buf, e.line)
	if !e.more {
		buf = append(buf, `\n`...)
	}
	if e.stream == Stderr {
		buf = append(buf, `","stream":"stderr"`...)
	} else {
		buf = append(buf, `","stream":"stdout"`...)
	}
	buf = append(buf, f.attrs...)
	buf = append(buf, f.stamp...)
	buf = appendFraction(buf, e.at.Nanosecond())
	return append(buf, "Z\"}\n"...)
}

// appendFraction adds what a time in RFC 3339 has behind its seconds: as time.RFC3339Nano does, without zeros at the end.
func appendFraction(buf []byte, nano int) []byte {
	if nano == 0 {
		return buf
	}
	digits := [10]byte{'.'}
	for i := 9; i > 0; i-- {
		digits[i] = byte('0' + nano%10)
		nano /= 10
	}
	n := len(digits)
	for digits[n-1] == '0' {
		n--
	}
	return append(buf, digits[:n]...)
}

// torn: an entry ends with its line.
func (f *jsonForm) torn(tail []byte, size int64) int64 {
	i := len(tail)
	for i > 0 && tail[i-1] != '\n' {
		i--
	}
	return int64(len(tail) - i)
}

const hex = "0123456789abcdef"

// plain has the bytes that stand for themselves in JSON as Docker writes it.
var plain = [utf8.RuneSelf]bool{
	' ': true, '!': true, '#': true, '$': true, '%': true, '\'': true, '(': true, ')': true, '*': true, '+': true, ',': true, '-': true, '.': true, '/': true,
	'0': true, '1': true, '2': true, '3': true, '4': true, '5': true, '6': true, '7': true, '8': true, '9': true, ':': true, ';': true, '=': true, '?': true, '@': true,
	'A': true, 'B': true, 'C': true, 'D': true, 'E': true, 'F': true, 'G': true, 'H': true, 'I': true, 'J': true, 'K': true, 'L': true, 'M': true,
	'N': true, 'O': true, 'P': true, 'Q': true, 'R': true, 'S': true, 'T': true, 'U': true, 'V': true, 'W': true, 'X': true, 'Y': true, 'Z': true,
	'[': true, ']': true, '^': true, '_': true, '`': true,
	'a': true, 'b': true, 'c': true, 'd': true, 'e': true, 'f': true, 'g': true, 'h': true, 'i': true, 'j': true, 'k': true, 'l': true, 'm': true,
	'n': true, 'o': true, 'p': true, 'q': true, 'r': true, 's': true, 't': true, 'u': true, 'v': true, 'w': true, 'x': true, 'y': true, 'z': true,
	'{': true, '|': true, '}': true, '~': true, 0x7f: true,
}

// appendEscaped adds s as the inside of a JSON string. What is no UTF-8 becomes U+FFFD, byte for byte.
func appendEscaped(buf, s []byte) []byte {
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf {
			if plain[b] {
				i++
				continue
			}
			buf = append(buf, s[start:i]...)
			switch b {
			case '"', '\\':
				buf = append(buf, '\\', b)
			case '\n':
				buf = append(buf, '\\', 'n')
			case '\r':
				buf = append(buf, '\\', 'r')
			default:
				buf = append(buf, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			buf = append(append(buf, s[start:i]...), `\ufffd`...)
			start = i + size
		case r == '\u2028' || r == '\u2029': // which end a line in JavaScript
			buf = append(append(buf, s[start:i]...), `\u202`...)
			buf = append(buf, hex[r&15])
			start = i + size
		}
		i += size
	}
	return append(buf, s[start:]...)
}

// appendAttrs adds what each line has beside its text, in the order of the names.
func appendAttrs(buf []byte, attrs map[string]string) []byte {
	if len(attrs) == 0 {
		return buf
	}
	keys := make([]string, 0, len(attrs))
	for k := range attrs {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	sign := `,"attrs":{"`
	for _, k := range keys {
		buf = append(buf, sign...)
		buf = appendEscaped(buf, []byte(k))
		buf = append(buf, `":"`...)
		buf = appendEscaped(buf, []byte(attrs[k]))
		buf = append(buf, '"')
		sign = `,"`
	}
	return append(buf, '}')
}
