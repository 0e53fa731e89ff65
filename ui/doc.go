// Package ui turns values into text for people: tables, trees, panes side by side,
// colour, sizes and times, pictures, in English and in Japanese.
//
// It is pure. It takes values and gives strings, knows no terminal, no environment and no
// kernel, and what a container is least of all; GOOS=js GOARCH=wasm builds it. What it
// shows of namespaces comes in as the plain structs NSList, NSForest, NSView and
// NSComparison, which have JSON forms with stable names as well ([JSON]).
//
// The main types are [Screen], what a text is made for, and [Table] and [Tree]:
//
//	s := ui.NewScreen(isTerminal, columns, os.Getenv)
//	t := ui.Table{
//		Columns: []ui.Column{{Title: "PID", Right: true}, {Title: "COMMAND", Least: 8}},
//		Rows:    [][]string{{"341499", "nginx: master process"}},
//	}
//	fmt.Print(t.Text(s))
//
// Three rules hold everywhere. Names are untrusted: what could act on a terminal is
// written out ([Escape]), and only JSON has it raw, in JSON's own escapes. Meaning is in
// words: colour repeats it, and is absent where nobody asked for it. Nothing is cut unless
// the screen has a width, so Columns 0 is --no-trunc.
//
// The languages are one typed table of messages for each room that speaks, see [Text].
package ui
