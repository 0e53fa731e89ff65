package ui

import (
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/golden"
)

// env is a getenv of the given pairs.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestNewScreen(t *testing.T) {
	for _, c := range []struct {
		name     string
		terminal bool
		env      []string
		want     Screen
	}{
		{"pipe", false, []string{"TERM", "xterm"}, Screen{}},
		{"terminal", true, []string{"TERM", "xterm"}, Screen{Columns: 100, Color: true}},
		{"dumb", true, []string{"TERM", "dumb"}, Screen{Columns: 100}},
		{"no TERM", true, nil, Screen{Columns: 100}},
		{"NO_COLOR", true, []string{"TERM", "xterm", "NO_COLOR", "1"}, Screen{Columns: 100}},
		{"C", true, []string{"TERM", "xterm", "LANG", "C"}, Screen{Columns: 100, Color: true, ASCII: true}},
		{"UTF-8", false, []string{"LANG", "ja_JP.UTF-8"}, Screen{}},
		{"utf8", false, []string{"LC_CTYPE", "C.utf8", "LANG", "C"}, Screen{}},
		{"LC_ALL wins", false, []string{"LC_ALL", "POSIX", "LANG", "ja_JP.UTF-8"}, Screen{ASCII: true}},
	} {
		if got := NewScreen(c.terminal, 100, env(c.env...)); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	if got := NewScreen(true, -5, env()); got.Columns != 0 {
		t.Errorf("width %d", got.Columns)
	}
}

func TestPaint(t *testing.T) {
	if got := (Screen{Color: true}).Paint(Good, "shared"); got != "\x1b[32mshared\x1b[0m" {
		t.Errorf("%q", got)
	}
	for _, c := range []struct {
		s    Screen
		r    Role
		text string
	}{{Screen{}, Good, "x"}, {Screen{Color: true}, Plain, "x"}, {Screen{Color: true}, Bad, ""}, {Screen{Color: true}, 99, "x"}} {
		if got := c.s.Paint(c.r, c.text); got != c.text {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestLangOf(t *testing.T) {
	for _, c := range []struct {
		flag string
		env  []string
		want Lang
	}{
		{"", nil, EN}, {"", []string{"LANG", "ja_JP.UTF-8"}, JA}, {"", []string{"LANG", "ja"}, JA}, {"", []string{"LANG", "jam_JM.UTF-8"}, EN},
		{"en", []string{"LANG", "ja_JP.UTF-8"}, EN}, {"ja", nil, JA}, {"", []string{"LC_ALL", "de_DE.UTF-8", "LANG", "ja_JP.UTF-8"}, EN},
		{"", []string{"LC_MESSAGES", "ja_JP.eucJP", "LANG", "C"}, JA}, {"", []string{"LC_CTYPE", "ja_JP.UTF-8"}, EN},
	} {
		if got, err := LangOf(c.flag, env(c.env...)); err != nil || got != c.want {
			t.Errorf("--lang %q, %v: %v, %v; want %v", c.flag, c.env, got, err, c.want)
		}
	}
	if _, err := LangOf("fr", env()); err == nil || err.Error() != `language "fr": not one of en, ja` {
		t.Errorf("fr: %v", err)
	}
}

func TestWords(t *testing.T) {
	for _, fault := range Untranslated(words) {
		t.Error(fault)
	}
}

func TestUntranslated(t *testing.T) {
	table := struct {
		Good, Missing, Uneven, Order Text
		N                            Count
		Deep                         struct{ Gone Count }
		Wrong                        int
	}{
		Good: Text{"%s is %d", "%[2]d は %[1]s"}, Missing: Text{EN: "x"}, Uneven: Text{"%d", "%s"}, Order: Text{"%s %d", "%d %s"},
		N: Count{"%d thing", "%d things of %s", "%d 個"},
	}
	got := strings.Join(Untranslated(table), "\n")
	want := `Missing: no JA
Uneven: EN takes "d", JA takes "s"
Order: EN takes "s d", JA takes "d s"
N: One takes "d", Many takes "d s"
Deep.Gone: no One
Deep.Gone: no Many
Deep.Gone: no JA
Wrong: not a message`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTable(t *testing.T) {
	table := Table{
		Columns: []Column{{Title: "NAME", Least: 6}, {Title: "N", Right: true}, {Title: "COMMAND", Least: 8}},
		Rows: [][]string{
			{"web", "7", "nginx: master process /usr/sbin/nginx"}, {"日本語の名前", "341502", "sh\n-c"}, {"short"}, {"", "", "", "ignored"},
		},
		Paint: func(row, column int) Role {
			if row == 0 && column == 1 {
				return Accent
			}
			return Plain
		},
	}
	var b strings.Builder
	for _, s := range []Screen{{}, {Columns: 40}, {Columns: 40, ASCII: true}, {Columns: 10}, {Color: true}} {
		text := table.Text(s)
		b.WriteString(strings.ReplaceAll(text, "\x1b", "ESC") + "--\n")
		for line := range strings.Lines(text) {
			if line = strings.TrimSuffix(line, "\n"); strings.TrimRight(line, " ") != line || s.Columns == 40 && Width(line) > 40 {
				t.Errorf("%+v: line %q", s, line)
			}
		}
	}
	b.WriteString(Table{Columns: []Column{{Title: "EMPTY"}}}.Text(Screen{}))
	golden.Check(t, "testdata/table.txt", b.String())
}

// TestTreeColumn: notes are in one column behind texts of different lengths, on a screen as well, where those of all but the very long ones have room.
func TestTreeColumn(t *testing.T) {
	tree := Tree{Text: "root", Role: Heading, Children: []Tree{
		{Text: "one", Note: "pid 1 here, 10 there"}, {Text: "/usr/local/bin/kakuri-runtime monitor", Note: "pid 2"}, {Text: strings.Repeat("long ", 9), Note: "pid 3"},
	}}
	for _, columns := range []int{0, 100, 60, 50} {
		at := map[int]bool{}
		for _, line := range strings.Split(tree.Draw(Screen{Columns: columns}), "\n")[1:4] {
			before, _, _ := strings.Cut(line, "pid ")
			at[Width(before)] = true
		}
		if len(at) != 1 {
			t.Errorf("%d columns: pids stand at %v", columns, at)
		}
	}
}

func TestTree(t *testing.T) {
	tree := Tree{Text: "root", Note: "all of it", Role: Heading, Children: []Tree{
		{Text: "one", Note: "1"}, {Text: "日本語", Note: "2"},
		{Text: "a text that is too long to push the notes of its neighbours away", Note: "3"},
		{Text: "inner", Note: "a longer note that has to be cut", Role: Heading, Children: []Tree{{Text: "x\x1b[0m", Note: "y"}, {Text: "last"}}},
		{Text: "end"},
	}}
	golden.Check(t, "testdata/tree.txt", tree.Draw(Screen{})+tree.Draw(Screen{ASCII: true, Columns: 24})+strings.ReplaceAll(tree.Draw(Screen{Color: true}), "\x1b", "ESC"))
}

func TestPanes(t *testing.T) {
	left := Pane{"host side", []Line{{Text: "$ readlink /proc/341499/ns/pid"}, {"pid:[4026532501]", Accent}}}
	right := Pane{"inside", []Line{{Text: "$ echo $$"}, {Text: "1"}, {Text: "名前空間の中では、このシェルがプロセスID 1 です。"}, {Text: "\x1b[2J"}}}
	var b strings.Builder
	for _, s := range []Screen{{}, {Columns: 60}, {Columns: 40}, {Columns: 61, ASCII: true, Color: true}} {
		text := Panes(left, right, s)
		b.WriteString(strings.ReplaceAll(text, "\x1b", "ESC") + "--\n")
		for line := range strings.Lines(text) {
			if w := Width(strings.TrimSuffix(line, "\n")); !s.Color && s.Columns > 0 && w > s.Columns {
				t.Errorf("%+v: line %q has %d columns", s, line, w)
			}
		}
	}
	golden.Check(t, "testdata/panes.txt", b.String())
}
