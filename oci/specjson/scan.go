package specjson

import (
	"strconv"
	"unicode/utf8"
)

// peek steps over white space and returns the byte after it, without stepping
// over that. At the end of the document it returns 0.
func (d *decoder) peek() byte {
	src := d.src
	for i := d.pos; i < len(src); i++ {
		c := src[i]
		if c > ' ' || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			d.pos = i
			return c
		}
	}
	d.pos = len(src)
	return 0
}

// end checks that nothing follows the outermost value.
func (d *decoder) end() bool {
	if d.peek(); d.pos < len(d.src) {
		return d.fail(d.pos, "the end of the file after the outermost value")
	}
	return true
}

// literal steps over word, of which the first byte is known to stand here.
func (d *decoder) literal(word string) bool {
	end := d.pos + len(word)
	if end > len(d.src) || d.src[d.pos:end] != word {
		return d.fail(d.pos, "a value")
	}
	d.pos = end
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// number steps over a number as RFC 8259, section 6 has it, and returns its text.
func (d *decoder) number() (string, bool) {
	begin := d.pos
	if d.src[d.pos] == '-' {
		d.pos++
	}
	switch {
	case d.pos < len(d.src) && d.src[d.pos] == '0':
		d.pos++ // no digit may follow; what reads on after the number sees it
	case !d.digits():
		return "", d.fail(begin, "a number")
	}
	if d.pos < len(d.src) && d.src[d.pos] == '.' {
		d.pos++
		if !d.digits() {
			return "", d.fail(begin, "a number with digits after its point")
		}
	}
	if d.pos < len(d.src) && d.src[d.pos]|0x20 == 'e' {
		d.pos++
		if d.pos < len(d.src) && (d.src[d.pos] == '+' || d.src[d.pos] == '-') {
			d.pos++
		}
		if !d.digits() {
			return "", d.fail(begin, "a number with digits in its exponent")
		}
	}
	return d.src[begin:d.pos], true
}

// digits steps over digits, of which there has to be one at least.
func (d *decoder) digits() bool {
	begin := d.pos
	for d.pos < len(d.src) && isDigit(d.src[d.pos]) {
		d.pos++
	}
	return d.pos > begin
}

// integer reads a whole number from -least to most, and returns its sign apart. As
// encoding/json does, it takes neither 1e3 nor 1.0, nor -0 where no number is negative.
func (d *decoder) integer(least, most uint64) (n uint64, negative, ok bool) {
	c := d.peek()
	begin := d.pos
	if c == '-' || isDigit(c) {
		lit, ok := d.number()
		if !ok {
			return 0, false, false
		}
		limit := most
		if c == '-' {
			negative, limit, lit = true, least, lit[1:]
		}
		n, err := strconv.ParseUint(lit, 10, 64)
		if err == nil && n <= limit && !(negative && least == 0) {
			return n, negative, true
		}
	}
	from := "0"
	if least > 0 {
		from = "-" + strconv.FormatUint(least, 10)
	}
	return 0, false, d.fail(begin, "an integer from "+from+" to "+strconv.FormatUint(most, 10))
}

// quoted reads a string, whose first quotation mark stands here. The result is
// a part of the document itself unless the string has escapes.
func (d *decoder) quoted() (string, bool) {
	src := d.src
	begin := d.pos + 1
	for i := begin; i < len(src); i++ {
		c := src[i]
		if c == '"' {
			d.pos = i + 1
			return src[begin:i], true
		}
		if c == '\\' || c < ' ' || c >= utf8.RuneSelf {
			return d.quotedRest(begin, i)
		}
	}
	return "", d.fail(len(src), "'\"' at the end of a string")
}

// quotedRest reads a string that begins at begin and has nothing but plain ASCII before i.
func (d *decoder) quotedRest(begin, i int) (string, bool) {
	src := d.src
	var decoded []byte // the string up to copied, once it has had an escape
	copied := begin
	for i < len(src) {
		switch c := src[i]; {
		case c == '"':
			d.pos = i + 1
			if decoded == nil {
				return src[begin:i], true
			}
			return string(append(decoded, src[copied:i]...)), true
		case c < ' ':
			return "", d.failGot(i, `an escape such as \n for a control character`, "byte "+hexByte(c))
		case c == '\\':
			r, size, ok := d.escape(i)
			if !ok {
				return "", false
			}
			decoded = utf8.AppendRune(append(decoded, src[copied:i]...), r)
			i += size
			copied = i
		case c < utf8.RuneSelf:
			i++
		default:
			r, size := utf8.DecodeRuneInString(src[i:])
			if r == utf8.RuneError && size == 1 {
				return "", d.failGot(i, "UTF-8", "byte "+hexByte(c))
			}
			i += size
		}
	}
	return "", d.fail(len(src), "'\"' at the end of a string")
}

// escape reads the escape at offset i: the character it stands for, and its length.
func (d *decoder) escape(i int) (r rune, size int, ok bool) {
	if i+1 == len(d.src) {
		return 0, 0, d.fail(i+1, "the rest of an escape")
	}
	switch c := d.src[i+1]; c {
	case '"', '\\', '/':
		return rune(c), 2, true
	case 'b':
		return '\b', 2, true
	case 'f':
		return '\f', 2, true
	case 'n':
		return '\n', 2, true
	case 'r':
		return '\r', 2, true
	case 't':
		return '\t', 2, true
	case 'u':
		return d.unicodeEscape(i)
	}
	r, _ = utf8.DecodeRuneInString(d.src[i+1:])
	return 0, 0, d.failGot(i, `one of " \ / b f n r t u after a backslash`, strconv.QuoteRune(r))
}

// unicodeEscape reads \uXXXX, or two of them that make a surrogate pair.
func (d *decoder) unicodeEscape(i int) (r rune, size int, ok bool) {
	const highest, low, lowest = 0xd800, 0xdc00, 0xe000
	hi, ok := d.hex4(i)
	switch {
	case !ok:
		return 0, 0, d.failGot(i, `four hexadecimal digits after \u`, quote(clip(d.src[i+2:], 4)))
	case hi < highest || hi >= lowest:
		return hi, 6, true
	}
	lo, ok := d.hex4(i + 6)
	if hi >= low || !ok || lo < low || lo >= lowest {
		return 0, 0, d.failGot(i, "both halves of a surrogate pair", "only "+d.src[i:i+6])
	}
	return (hi-highest)<<10 + (lo - low) + 0x10000, 12, true
}

// hex4 reads \uXXXX at offset i.
func (d *decoder) hex4(i int) (r rune, ok bool) {
	if i+6 > len(d.src) || d.src[i] != '\\' || d.src[i+1] != 'u' {
		return 0, false
	}
	for _, c := range []byte(d.src[i+2 : i+6]) {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = (c | 0x20) - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func hexByte(c byte) string {
	const digits = "0123456789abcdef"
	return "0x" + string([]byte{digits[c>>4], digits[c&15]})
}
