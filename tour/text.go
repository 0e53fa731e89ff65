package tour

import (
	"errors"
	"strings"
	"time"

	"github.com/kakuri/kakuri/ui"
)

// faults says what of r does not hold.
func (r Result) faults(l ui.Lang) []string {
	if r.Reading == nil {
		return []string{r.unread(l)}
	}
	var list []string
	for _, c := range r.Reading.claims() {
		if !c.holds {
			list = append(list, c.says(l))
		}
	}
	return list
}

// columns is how wide texts are: no wider, since they are read, and when nothing is known.
const columns = 80

// indent stands before everything but titles.
const indent = "    "

var words = struct {
	Opening                                                                            ui.Count
	NotRoot, NoCommand, TryIt, OK, Failed, Measured, Shows, NotRead, NoStart, AsBefore ui.Text
	Sum, SumFailed, Next, NextRun, NextExplain, NextTree, NextOne, E13                 ui.Text
}{
	Opening: ui.Count{
		One:  "kakuri starts a container on this machine and looks at it from two sides, the host's and its own: %d observation, shown side by side and checked. No image and no network is needed, and nothing is left behind.",
		Many: "kakuri starts a few containers on this machine and looks at each from two sides, the host's and its own: %d observations, shown side by side and checked. No image and no network is needed, and nothing is left behind.",
		JA:   "このマシンでコンテナを起動し、ホスト側と内側の両方から見ます。%d 個の観察を左右に並べ、一つずつ確かめます。イメージもネットワークも不要で、あとには何も残りません。",
	},
	NotRoot: ui.Text{
		EN: "You are not root (uid %d). All of it works all the same; where something differs from what root sees, it says so.",
		JA: "root ではなく uid %d で実行しています。それでもすべて試せます。root の場合と違うところは、そのつど説明します。",
	},
	NoCommand: ui.Text{
		EN: "The lines to try want kakuri in PATH, where it is not. In a checkout, make puts it into bin, and export PATH=\"$PWD/bin:$PATH\" has the shell find it.",
		JA: "「試すなら」の行を打つには kakuri にパスが通っている必要がありますが、まだ通っていません。リポジトリの中なら、make で bin に作り、export PATH=\"$PWD/bin:$PATH\" で通せます。",
	},
	TryIt:     ui.Text{EN: "try it: ", JA: "試すなら: "},
	OK:        ui.Text{EN: "ok", JA: "OK"},
	Failed:    ui.Text{EN: "FAILED", JA: "NG"},
	Measured:  ui.Text{EN: ": measured %s", JA: " (実測値: %s)"},
	Shows:     ui.Text{EN: "This shows: ", JA: "わかること: "},
	NotRead:   ui.Text{EN: "nothing could be observed", JA: "観察できませんでした"},
	NoStart:   ui.Text{EN: "its container does not start: %s", JA: "コンテナを起動できませんでした: %s"},
	AsBefore:  ui.Text{EN: "its container did not start, see %s", JA: "コンテナを起動できませんでした (%s を参照)"},
	Sum:       ui.Text{EN: "%d of %d observations hold (%.1f s)", JA: "観察 %[2]d 個のうち %[1]d 個を確認しました (%.1[3]f 秒)"},
	SumFailed: ui.Text{EN: "%s FAILED: %s", JA: "%s NG: %s"},
	E13: ui.Text{
		EN: "E13 is not among them, since it needs networks: two versions of an application side by side, by the script examples/two-networks.sh of the source.",
		JA: "E13 はネットワークを使うため、この中にはありません。同じアプリケーションの新旧二組を並べて動かすもので、ソースの examples/two-networks.sh です。",
	},
	Next:        ui.Text{EN: "What to try next:", JA: "次に試すなら:"},
	NextRun:     ui.Text{EN: "a shell in a container of your own", JA: "自分のコンテナでシェルを動かす"},
	NextExplain: ui.Text{EN: "every step behind such a line", JA: "その一行の裏にある計画を、一手順ずつ見る"},
	NextTree:    ui.Text{EN: "all pid namespaces of this machine", JA: "このマシンの pid 名前空間をすべて見る"},
	NextOne:     ui.Text{EN: "one of these observations again", JA: "観察を一つだけもう一度見る"},
}

// A StartError is a container that could not be started.
type StartError struct {
	First string // the experiment for which it was tried first
	Err   error
}

// Error implements error.
func (e *StartError) Error() string { return "the container does not start: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Err }

// fit bounds the width of a screen.
func fit(s ui.Screen) ui.Screen {
	if s.Columns == 0 || s.Columns > columns {
		s.Columns = columns
	}
	return s
}

// Opening says what n experiments are about to do.
func Opening(n int, p Place, s ui.Screen) string {
	s = fit(s)
	text := paragraph(s.Lang.Count(words.Opening, n), "", "", s)
	if !p.Privileged {
		text += paragraph(s.Lang.Say(words.NotRoot, p.UID), "", "", s)
	}
	if p.NoCommand {
		text += paragraph(s.Lang.Say(words.NoCommand), "", "", s)
	}
	return text + "\n"
}

// Text renders one result: what was done, what was read on both sides, what holds of it,
// and what it shows.
func (r Result) Text(s ui.Screen) string {
	s = fit(s)
	l, inner := s.Lang, s
	inner.Columns -= len(indent)
	var b strings.Builder
	for i, line := range ui.Wrap(r.Experiment.Title(l), inner.Columns) {
		head := indent
		if i == 0 {
			head = pad(r.Experiment.ID, len(indent))
		}
		b.WriteString(s.Paint(ui.Heading, head+line) + "\n")
	}
	b.WriteString(command(l.Say(words.TryIt), r.Experiment.Did(), s))
	if r.Reading == nil {
		b.WriteString(claim{text: plain, args: []any{r.unread(l)}}.line(s))
		return b.String() + "\n"
	}
	if left, right := r.Reading.panes(l); len(left.Lines)+len(right.Lines) > 0 {
		b.WriteString("\n" + shift(ui.Panes(left, right, inner)))
	}
	if x, ok := r.Reading.(interface{ block(ui.Screen) string }); ok {
		b.WriteString("\n" + shift(x.block(inner)))
	}
	b.WriteString("\n")
	for _, c := range r.Reading.claims() {
		b.WriteString(c.line(s))
	}
	if !r.Holds() {
		return b.String() + "\n"
	}
	shows := r.Experiment.shows
	if x, ok := r.Reading.(interface{ shows() ui.Text }); ok {
		shows = x.shows()
	}
	b.WriteString(paragraph(l.Say(words.Shows)+l.Say(shows), indent, indent, s))
	return b.String() + "\n"
}

// unread says why there is no reading.
func (r Result) unread(l ui.Lang) string {
	var start *StartError
	switch {
	case errors.As(r.Err, &start) && start.First != r.Experiment.ID:
		return l.Say(words.AsBefore, start.First)
	case start != nil:
		return l.Say(words.NoStart, ui.Escape(start.Err.Error()))
	case r.Err != nil:
		return l.Say(words.NotRead) + ": " + ui.Escape(r.Err.Error())
	}
	return l.Say(words.NotRead)
}

// plain is a message without words of its own.
var plain = ui.Text{EN: "%s", JA: "%s"}

// says is the claim in words, and what was measured where it does not hold.
func (c claim) says(l ui.Lang) string {
	text := l.Say(c.text, c.args...)
	if !c.holds && c.got != "" {
		text += l.Say(words.Measured, ui.Escape(c.got))
	}
	return text
}

// line is the verdict on a claim.
func (c claim) line(s ui.Screen) string {
	l := s.Lang
	verdict, role, text := l.Say(words.OK), ui.Good, c.says(l)
	if !c.holds {
		verdict, role = l.Say(words.Failed), ui.Bad
	}
	width := max(ui.Width(l.Say(words.OK)), ui.Width(l.Say(words.Failed)))
	return paragraph(text, indent+s.Paint(role, verdict)+strings.Repeat(" ", width-ui.Width(verdict)+2), indent+strings.Repeat(" ", width+2), s)
}

// Closing sums up, and says what to do next.
func Closing(list []Result, took time.Duration, s ui.Screen) string {
	s = fit(s)
	l := s.Lang
	held, role := Held(list), ui.Good
	if held < len(list) {
		role = ui.Bad
	}
	var b strings.Builder
	b.WriteString(s.Paint(role, l.Say(words.Sum, held, len(list), took.Seconds())) + "\n")
	for _, r := range list {
		for _, fault := range r.faults(l) {
			b.WriteString(paragraph(l.Say(words.SumFailed, r.Experiment.ID, fault), "", "  ", s))
		}
	}
	if held < len(list) {
		return b.String()
	}
	next := [...]struct {
		command string
		what    ui.Text
	}{
		{"kakuri run -it host bash", words.NextRun},
		{"kakuri explain run host ls", words.NextExplain},
		{"kakuri ns tree", words.NextTree},
		{"kakuri tour E7", words.NextOne},
	}
	if len(list) == len(Experiments()) { // whoever saw them all saw a number left out
		b.WriteString(paragraph(l.Say(words.E13), "", "", s))
	}
	b.WriteString("\n" + l.Say(words.Next) + "\n")
	for _, n := range next {
		b.WriteString("  " + pad(n.command, 28) + l.Say(n.what) + "\n")
	}
	return b.String()
}

func pad(s string, width int) string { return s + strings.Repeat(" ", max(width-ui.Width(s), 1)) }

// shift indents lines.
func shift(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString(indent)
		}
		b.WriteString(line)
	}
	return b.String()
}

// paragraph wraps a text, with head before its first line and rest before the others.
func paragraph(text, head, rest string, s ui.Screen) string {
	var b strings.Builder
	for i, line := range ui.Wrap(text, s.Columns-ui.Width(rest)) {
		if i == 0 {
			b.WriteString(head)
		} else {
			b.WriteString(rest)
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// command prints a command line after a label, continued as a shell reads it.
func command(label, line string, s ui.Screen) string {
	rest := strings.Repeat(" ", len(indent)+ui.Width(label)+4)
	room := s.Columns - len(rest) - 2 // for the backslash
	var b strings.Builder
	b.WriteString(indent + s.Paint(ui.Dim, label) + "$ ")
	used := 0
	for _, word := range shellWords(line) {
		if used > 0 && used+1+ui.Width(word) > room {
			b.WriteString(" \\\n" + rest)
			used = 0
		}
		if used > 0 {
			b.WriteString(" ")
			used++
		}
		b.WriteString(ui.Escape(word))
		used += ui.Width(word)
	}
	b.WriteString("\n")
	return b.String()
}

// shellWords splits a command line at blanks outside of single quotes.
func shellWords(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '\'' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
}
