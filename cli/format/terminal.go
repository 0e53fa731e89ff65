package format

import (
	"io"
	"strings"
	"unicode/utf8"

	"github.com/kakuri/kakuri/ui"
)

// Terminal is a writer to a terminal that what is written cannot act on: control
// characters other than newlines and tabs are written out. Half a letter at the end of a
// write waits for the next one.
func Terminal(w io.Writer) io.Writer { return &terminal{w: w} }

type terminal struct {
	w    io.Writer
	half []byte
}

func (t *terminal) Write(p []byte) (int, error) {
	text := append(t.half, p...)
	whole := len(text)
	for back := 1; back <= min(utf8.UTFMax-1, len(text)); back++ {
		if rest := text[len(text)-back:]; utf8.RuneStart(rest[0]) {
			if !utf8.FullRune(rest) {
				whole -= back
			}
			break
		}
	}
	t.half = append([]byte(nil), text[whole:]...)
	if _, err := io.WriteString(t.w, Lines(string(text[:whole]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Lines escapes what could act on a terminal, but keeps lines and tabs.
func Lines(s string) string {
	if ui.Escape(s) == s {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		i := strings.IndexAny(s, "\n\t")
		if i < 0 {
			b.WriteString(ui.Escape(s))
			break
		}
		b.WriteString(ui.Escape(s[:i]))
		b.WriteByte(s[i])
		s = s[i+1:]
	}
	return b.String()
}
