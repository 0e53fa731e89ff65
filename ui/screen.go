package ui

import "strings"

// A Screen is what a text is rendered for. Its zero value is a pipe: no colour, nothing
// cut, Unicode, English.
type Screen struct {
	Columns int  // width of the terminal; 0: no limit, nothing is cut (--no-trunc)
	Color   bool // whether words may be coloured
	ASCII   bool // branches and ellipses from ASCII alone
	Lang    Lang
}

// NewScreen returns the screen that an output asks for. terminal and columns are what
// the caller found out about stdout; getenv is os.Getenv. Colour needs a terminal, no
// NO_COLOR (no-color.org) and a TERM other than "dumb"; a locale which is set and names
// another character set than UTF-8 gets ASCII. Lang is left to [LangOf].
func NewScreen(terminal bool, columns int, getenv func(string) string) Screen {
	var s Screen
	if terminal {
		term := getenv("TERM")
		s.Columns = max(columns, 0)
		s.Color = getenv("NO_COLOR") == "" && term != "" && term != "dumb"
	}
	if locale := firstSet(getenv, "LC_ALL", "LC_CTYPE", "LANG"); locale != "" {
		charset := strings.ToLower(locale)
		s.ASCII = !strings.Contains(charset, "utf-8") && !strings.Contains(charset, "utf8")
	}
	return s
}

func firstSet(getenv func(string) string, names ...string) string {
	for _, name := range names {
		if v := getenv(name); v != "" {
			return v
		}
	}
	return ""
}

// A Role is what a piece of text is, which decides its colour. No meaning is in the
// colour alone: the words say the same.
type Role uint8

// The roles.
const (
	Plain   Role = iota
	Heading      // titles
	Good         // a check that holds, a thing that is shared or running
	Bad          // a check that fails
	Notice       // what the eye should find: a difference, a warning
	Accent       // a number that is another one elsewhere
	Dim          // what may be skipped
)

// sgr holds the terminal attributes of each role (ECMA-48, SGR), from the sixteen
// colours that a person's own palette defines.
var sgr = [...]string{Plain: "", Heading: "1", Good: "32", Bad: "31", Notice: "33", Accent: "36", Dim: "2"}

// Paint returns text in the colour of its role, or text itself where the screen has none.
func (s Screen) Paint(r Role, text string) string {
	if !s.Color || text == "" || int(r) >= len(sgr) || sgr[r] == "" {
		return text
	}
	return "\x1b[" + sgr[r] + "m" + text + "\x1b[0m"
}

// ellipsis stands for what was cut.
func (s Screen) ellipsis() string {
	if s.ASCII {
		return "..."
	}
	return "…"
}

// pick returns the Unicode or the ASCII form of a drawing.
func (s Screen) pick(unicode, ascii string) string {
	if s.ASCII {
		return ascii
	}
	return unicode
}
