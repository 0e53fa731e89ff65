package ui

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"nginx: master", "nginx: master"},
		{"", ""},
		{"日本語　名前 é ✓", "日本語　名前 é ✓"},
		{`a\b`, `a\b`},
		{"a\nb\tc\rd", `a\nb\tc\rd`},
		{"\x1b[31mred\x07", `\x1b[31mred\x07`},
		{"\x7f\x80", `\x7f\x80`},
		{"\u009b31m", `\u009b31m`}, // CSI in one character
		{"a\u202egpj.exe", `a\u202egpj.exe`},
		{"\u2066x\u2069\u200f\u061c", `\u2066x\u2069\u200f\u061c`},
		{"zero\u200bwidth\ufeff", `zero\u200bwidth\ufeff`},
		{"line\u2028end\u2029", `line\u2028end\u2029`},
		{"no\u00a0break", `no\u00a0break`},
		{"tag\U000e0041", `tag\U000e0041`},
		{"bad\xff\xc3", `bad\xff\xc3`},
		{"real \ufffd", "real \ufffd"},
		{"e\u0301", "e\u0301"},
	} {
		if got := Escape(c.in); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestWidth(t *testing.T) {
	for _, c := range []struct {
		s    string
		want int
	}{
		{"", 0}, {"abc", 3}, {"日本語", 6}, {"ｱｲｳ", 3}, {"ＡＢ", 4}, {"é", 1}, {"e\u0301", 1}, {"가", 2}, {"\u1100\u1161", 2},
		{"…│├─", 4}, {"😀", 2}, {"、。", 4}, {"\u3000", 2}, {"\u303f", 1}, {"𠮷", 2}, {"‼", 1},
	} {
		if got := Width(c.s); got != c.want {
			t.Errorf("%q: %d, want %d", c.s, got, c.want)
		}
	}
	for i := 1; i < len(wide); i++ {
		if wide[i][0] <= wide[i-1][1] || wide[i][1] < wide[i][0] {
			t.Errorf("ranges %x and %x out of order", wide[i-1], wide[i])
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		s        string
		columns  int
		ellipsis string
		want     string
	}{
		{"abcdef", 6, "…", "abcdef"}, {"abcdef", 5, "…", "abcd…"}, {"abcdef", 5, "...", "ab..."}, {"abcdef", 2, "...", "ab"},
		{"abcdef", 0, "…", ""}, {"abcdef", -1, "…", ""}, {"日本語", 5, "…", "日本…"}, {"日本語", 4, "…", "日…"}, {"日本語", 1, "…", "…"},
		{"e\u0301e\u0301e\u0301", 2, "…", "e\u0301…"},
	} {
		if got := Cut(c.s, c.columns, c.ellipsis); got != c.want {
			t.Errorf("%q to %d: %q, want %q", c.s, c.columns, got, c.want)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		s       string
		columns int
		want    string
	}{
		{"", 10, ""}, {"one two three", 7, "one two|three"}, {"one two three", 8, "one two|three"}, {"abcdefgh", 3, "abc|def|gh"},
		{"a bcdefgh", 3, "a|bcd|efg|h"}, {"箱から見える。", 12, "箱から見え|る。"}, {"名前空間は別", 5, "名前|空間|は別"},
		{"pid は 7", 6, "pid は|7"}, {"a b=1,c=2,dd; x", 7, "a|b=1,|c=2,dd;|x"}, {"on|off|auto", 9, "on|off||auto"}, {"ab", 1, "ab"}, {"日本", 1, "日|本"}, {"x  y", 1, "x|y"},
		{"か\u3099abcdef", 5, "か\u3099abc|def"}, // a mark stays with its letter
	} {
		if got := strings.Join(Wrap(c.s, c.columns), "|"); got != c.want {
			t.Errorf("%q to %d: %q, want %q", c.s, c.columns, got, c.want)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"a\nb", "日本語 text。", "\xff\u202e", "e\u0301\u0301", "   ", "\u1100\u1161"} {
		f.Add(s, 5)
	}
	f.Fuzz(func(t *testing.T, raw string, columns int) {
		columns = 2 + (columns%80+80)%80
		s := Escape(raw)
		if !utf8.ValidString(s) || Escape(s) != s {
			t.Fatalf("%q: escaped %q, again %q", raw, s, Escape(s))
		}
		for _, r := range s {
			if !printable(r) {
				t.Fatalf("%q has %U", s, r)
			}
		}
		if cut := Cut(s, columns, "…"); Width(cut) > columns {
			t.Errorf("%q is wider than %d", cut, columns)
		}
		lines := Wrap(s, columns)
		for _, l := range lines {
			if Width(l) > columns {
				t.Errorf("line %q is wider than %d", l, columns)
			}
		}
		without := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		if without(strings.Join(lines, "")) != without(s) {
			t.Errorf("%q wrapped lost something: %q", s, lines)
		}
	})
}
