package tour

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/ui"
)

// Titles of panes, and what several of them say.
var common = struct{ HostSide, Inside, Nothing, SeenFromHere ui.Text }{
	HostSide:     ui.Text{EN: "host side", JA: "ホスト側"},
	Inside:       ui.Text{EN: "inside", JA: "内側"},
	Nothing:      ui.Text{EN: "(nothing)", JA: "(該当なし)"},
	SeenFromHere: ui.Text{EN: "the shell, seen from here:", JA: "同じシェルをここから見ると:"},
}

// A view is the lines of one pane in the making.
type view struct {
	l     ui.Lang
	lines []ui.Line
}

// two returns the panes of both sides, with their usual titles.
func two(l ui.Lang, host, inside *view) (ui.Pane, ui.Pane) {
	return ui.Pane{Title: l.Say(common.HostSide), Lines: host.lines},
		ui.Pane{Title: l.Say(common.Inside), Lines: inside.lines}
}

// ran adds a command and what it printed.
func (v *view) ran(command string, output ...string) *view {
	v.lines = append(v.lines, ui.Line{Text: "$ " + command, Role: ui.Dim})
	return v.value(output...)
}

// value adds lines that were measured.
func (v *view) value(output ...string) *view {
	for _, s := range output {
		v.lines = append(v.lines, ui.Line{Text: s, Role: ui.Accent})
	}
	return v
}

// say adds a line in words.
func (v *view) say(t ui.Text, args ...any) *view {
	v.lines = append(v.lines, ui.Line{Text: v.l.Say(t, args...)})
	return v
}

// numbers joins numbers with blanks; of a list too long for a pane the end is left out.
func numbers(list []int) string {
	const most = 8
	var out []string
	for i, n := range list {
		if i == most {
			out = append(out, "...")
			break
		}
		out = append(out, strconv.Itoa(n))
	}
	return strings.Join(out, " ")
}

// processes are the lines "1 sh".
func processes(list []Proc) []string {
	var out []string
	for _, p := range list {
		out = append(out, fmt.Sprintf("%d %s", p.PID, p.Command))
	}
	return out
}

// some is the list, or words for an empty one.
func some(l ui.Lang, list []string) []string {
	if len(list) == 0 {
		return []string{l.Say(common.Nothing)}
	}
	return list
}
