package specjson

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// An Error is one fault of a document, of its text ([Decode]) or of what it says
// ([Validate]):
//
//	config.json: process.user.uid: want an integer from 0 to 4294967295, got -1 (line 12)
//	config.json: process.cwd: want an absolute path, got "src": begin it with /
type Error struct {
	File   string // "config.json", "process.json" or "resources.json"
	Path   string // the value at fault: `mounts[0].options[2]`, `linux.sysctl["kernel.sem"]`; empty for the whole
	Offset int    // in bytes from the beginning; like the next two only from Decode
	Line   int    // from 1; 0 when it is not known
	Col    int    // in bytes, from 1
	Want   string // what should stand there: "an integer from 0 to 4294967295"
	Got    string // what does, shortened: `-1`, `"root"`, "an object"
	Hint   string // what the author of the document can do; may be empty
}

// Error returns one line without control characters, whatever the document holds.
// The column is in it where the line alone says little, for all stands in the first.
func (e *Error) Error() string {
	s := e.File + ": " + e.text()
	switch {
	case e.Line == 1:
		s += " (line 1, column " + strconv.Itoa(e.Col) + ")"
	case e.Line > 1:
		s += " (line " + strconv.Itoa(e.Line) + ")"
	}
	if e.Hint != "" {
		s += ": " + e.Hint
	}
	return s
}

func (e *Error) text() string {
	s := "want " + e.Want + ", got " + e.Got
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	return s
}

// locate sets line and column from the offset.
func (e *Error) locate(src string) {
	before := src[:e.Offset]
	e.Line = 1 + strings.Count(before, "\n")
	e.Col = e.Offset - strings.LastIndexByte(before, '\n')
}

// describe says in a few words what stands at the offset.
func (d *decoder) describe(offset int) string {
	rest := d.src[offset:]
	if rest == "" {
		return "the end of the file"
	}
	switch c := rest[0]; {
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '"':
		s, ok := (&decoder{src: d.src, pos: offset}).quoted()
		if !ok {
			return "a broken string"
		}
		return quote(s)
	case c == '-' || isWordByte(c):
		end := 1
		for end < len(rest) && (isWordByte(rest[end]) || strings.IndexByte("+-.", rest[end]) >= 0) {
			end++
		}
		return clip(rest[:end], maxShown)
	case strings.HasPrefix(rest, "\ufeff"):
		return "a byte order mark, which JSON does not have"
	}
	r, size := utf8.DecodeRuneInString(rest)
	if r == utf8.RuneError && size == 1 {
		return "byte " + hexByte(rest[0])
	}
	return strconv.QuoteRune(r)
}

// maxShown is how many characters of a value or of a name in a path a message repeats.
const maxShown = 64

// quote returns s as a Go string literal, shortened.
func quote(s string) string { return strconv.Quote(clip(s, maxShown)) }

// clip returns the first n characters of s, and an ellipsis when there are more.
func clip(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i] + "…"
		}
		n--
	}
	return s
}

func isWordByte(c byte) bool {
	return isDigit(c) || c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// member returns a name as it stands in a path: plain, or `["in brackets"]`
// when it is not one word.
func member(name string) string {
	if name == "" || len(name) > maxShown {
		return "[" + quote(name) + "]"
	}
	for i := range len(name) {
		if !isWordByte(name[i]) {
			return "[" + quote(name) + "]"
		}
	}
	return name
}

// element returns an index as it stands in a path: "[3]".
func element(i int) string { return "[" + strconv.Itoa(i) + "]" }

// join puts two parts of a path together.
func join(head, tail string) string {
	if head == "" || tail == "" || tail[0] == '[' {
		return head + tail
	}
	return head + "." + tail
}
