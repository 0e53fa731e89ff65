package ui

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape returns s with everything that could move a cursor, start a line, reverse the
// reading order or hide itself written out: "\n", "\x1b", "\u202e". Letters, marks,
// digits, punctuation and symbols of all scripts stay as they are, a backslash too.
//
// Names of processes, mounts and containers are chosen by whoever runs there, so the
// renderers of this package pass each of them through Escape, for a terminal and for a
// pipe alike: what is piped is read in a pager a moment later.
func Escape(s string) string {
	clean := true
	for _, r := range s {
		if clean = r != utf8.RuneError && printable(r); !clean {
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case printable(r):
			b.WriteString(s[i : i+n])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r > 0xFFFF:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += n
	}
	return b.String()
}

// printable takes the ideographic space as well: Japanese text is full of it, and it is
// two columns of nothing, as two spaces are.
func printable(r rune) bool { return strconv.IsPrint(r) || r == '\u3000' }

// Width returns the number of terminal columns that s takes: two for the wide and
// full-width characters of Unicode's East Asian Width (UAX #11), none for combining
// marks, one for the rest, ambiguous ones included. s is taken as escaped text.
func Width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me), r >= 0x1160 && r <= 0x11FF:
		return 0 // the second range: Hangul vowels, drawn into the letter before them
	case isWide(r):
		return 2
	}
	return 1
}

func isWide(r rune) bool {
	lo, hi := 0, len(wide)
	for lo < hi {
		mid := (lo + hi) / 2
		switch {
		case r < wide[mid][0]:
			hi = mid
		case r > wide[mid][1]:
			lo = mid + 1
		default:
			return true
		}
	}
	return false
}

// Cut returns s when it fits into columns, else its beginning with ellipsis behind it,
// together no wider than columns; never half of a wide character.
func Cut(s string, columns int, ellipsis string) string {
	if Width(s) <= columns {
		return s
	}
	room := columns - Width(ellipsis)
	if room < 0 {
		ellipsis, room = "", max(columns, 0)
	}
	head, _ := split(s, room)
	return head + ellipsis
}

// split divides s so that head takes at most columns, and marks stay with their letter.
func split(s string, columns int) (head, tail string) {
	used := 0
	for i, r := range s {
		w := runeWidth(r)
		if used+w > columns {
			return s[:i], s[i:]
		}
		used += w
	}
	return s, ""
}

// pad fills s with spaces to columns.
func pad(s string, columns int) string { return s + strings.Repeat(" ", max(columns-Width(s), 0)) }

// Wrap breaks s into lines of at most columns: at spaces, beside wide characters (there
// are no spaces in Japanese), and within a word only when it is wider than a line: behind a
// comma or a bar of it, where there is one.
func Wrap(s string, columns int) []string {
	columns = max(columns, 2) // one wide character always fits
	var lines []string
	for {
		s = strings.TrimLeft(s, " ")
		head, tail := split(s, columns)
		if tail == "" {
			return append(lines, head)
		}
		if tail[0] != ' ' {
			if cut := lastBreak(head, tail); cut > 0 {
				head, tail = s[:cut], s[cut:]
			} else if i := strings.LastIndexAny(head, ",|"); i > 0 { // a word longer than a line: a list, mostly
				head, tail = s[:i+1], s[i+1:]
			}
		}
		lines = append(lines, strings.TrimRight(head, " "))
		s = tail
	}
}

// lastBreak returns the largest index of head+tail, not beyond head, where a line may
// end; 0 when there is none.
func lastBreak(head, tail string) int {
	next, _ := utf8.DecodeRuneInString(tail)
	for end := len(head); end > 0; {
		r, n := utf8.DecodeLastRuneInString(head[:end])
		if r == ' ' || (runeWidth(r) == 2 || runeWidth(next) == 2) && !clings(next) {
			return end
		}
		next, end = r, end-n
	}
	return 0
}

// clings tells whether a line must not begin with r: Japanese closing punctuation, and
// marks, which belong to the letter before.
func clings(r rune) bool {
	return strings.ContainsRune("、。，．・：；？！）」』】〉》〕ー", r) || runeWidth(r) == 0
}

// wide holds the characters of East Asian Width W and F (Unicode 14), neighbours merged
// across unassigned code points.
var wide = [...][2]rune{
	{0x1100, 0x115F}, {0x231A, 0x231B}, {0x2329, 0x232A}, {0x23E9, 0x23EC}, {0x23F0, 0x23F0}, {0x23F3, 0x23F3},
	{0x25FD, 0x25FE}, {0x2614, 0x2615}, {0x2648, 0x2653}, {0x267F, 0x267F}, {0x2693, 0x2693}, {0x26A1, 0x26A1},
	{0x26AA, 0x26AB}, {0x26BD, 0x26BE}, {0x26C4, 0x26C5}, {0x26CE, 0x26CE}, {0x26D4, 0x26D4}, {0x26EA, 0x26EA},
	{0x26F2, 0x26F3}, {0x26F5, 0x26F5}, {0x26FA, 0x26FA}, {0x26FD, 0x26FD}, {0x2705, 0x2705}, {0x270A, 0x270B},
	{0x2728, 0x2728}, {0x274C, 0x274C}, {0x274E, 0x274E}, {0x2753, 0x2755}, {0x2757, 0x2757}, {0x2795, 0x2797},
	{0x27B0, 0x27B0}, {0x27BF, 0x27BF}, {0x2B1B, 0x2B1C}, {0x2B50, 0x2B50}, {0x2B55, 0x2B55}, {0x2E80, 0x303E},
	{0x3041, 0x3247}, {0x3250, 0x4DBF}, {0x4E00, 0xA4C6}, {0xA960, 0xA97C}, {0xAC00, 0xD7A3}, {0xF900, 0xFAFF},
	{0xFE10, 0xFE19}, {0xFE30, 0xFE6B}, {0xFF01, 0xFF60}, {0xFFE0, 0xFFE6}, {0x16FE0, 0x1B2FB}, {0x1F004, 0x1F004},
	{0x1F0CF, 0x1F0CF}, {0x1F18E, 0x1F18E}, {0x1F191, 0x1F19A}, {0x1F200, 0x1F320}, {0x1F32D, 0x1F335},
	{0x1F337, 0x1F37C}, {0x1F37E, 0x1F393}, {0x1F3A0, 0x1F3CA}, {0x1F3CF, 0x1F3D3}, {0x1F3E0, 0x1F3F0},
	{0x1F3F4, 0x1F3F4}, {0x1F3F8, 0x1F43E}, {0x1F440, 0x1F440}, {0x1F442, 0x1F4FC}, {0x1F4FF, 0x1F53D},
	{0x1F54B, 0x1F54E}, {0x1F550, 0x1F567}, {0x1F57A, 0x1F57A}, {0x1F595, 0x1F596}, {0x1F5A4, 0x1F5A4},
	{0x1F5FB, 0x1F64F}, {0x1F680, 0x1F6C5}, {0x1F6CC, 0x1F6CC}, {0x1F6D0, 0x1F6D2}, {0x1F6D5, 0x1F6DF},
	{0x1F6EB, 0x1F6EC}, {0x1F6F4, 0x1F6FC}, {0x1F7E0, 0x1F7F0}, {0x1F90C, 0x1F93A}, {0x1F93C, 0x1F945},
	{0x1F947, 0x1F9FF}, {0x1FA70, 0x1FAF6}, {0x20000, 0x3FFFD},
}
