package docgen

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A Page is one file of docs/man.
type Page struct {
	Name string // "kakuri-run.1"
	Text []byte
}

// Manual makes the man pages of a tree of commands: one of the root and one of
// each command below it. Commands further below have a section in that page, but for
// those of explain: they take what the commands of their names take. Hidden commands
// and the help have none.
func Manual(root *cobra.Command) []Page {
	pages := []Page{{root.Name() + ".1", page(root, root)}}
	for _, c := range shown(root) {
		pages = append(pages, Page{title(c) + ".1", page(root, c)})
	}
	return pages
}

// shown lists the commands below c that people are meant to use.
func shown(c *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(c.Commands()), func(sub *cobra.Command) bool {
		return sub.Hidden || sub.Name() == "help"
	})
}

// title is the page's name: "kakuri-ns".
func title(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// A roff collects the source of one page, for the man macros: man(7).
type roff struct{ strings.Builder }

func page(root, c *cobra.Command) []byte {
	r := &roff{}
	r.line(".TH", strings.ToUpper(title(c)), "1", "", root.Name(), "User Commands")
	r.section("NAME")
	r.text(title(c) + " - " + lowerFirst(c.Short))
	r.section("SYNOPSIS")
	r.synopsis(c)
	r.section("DESCRIPTION")
	r.text(about(c))
	r.commands(root, c)
	r.options("OPTIONS", c.LocalFlags())
	if c.Example != "" {
		r.section("EXAMPLES")
		r.verbatim(c.Example)
	}
	for _, s := range sections(title(c)) {
		r.section(s.title)
		r.text(s.text)
	}
	r.section("SEE ALSO")
	r.text(seeAlso(root, c))
	return []byte(r.String())
}

// about is what a command does, at least in a line.
func about(c *cobra.Command) string {
	if c.Long == "" {
		return c.Short + "."
	}
	return c.Long
}

// commands lists the commands below c: by a line each where they have pages, else
// with all that is to know about them.
func (r *roff) commands(root, c *cobra.Command) {
	list := shown(c)
	if len(list) == 0 {
		return
	}
	r.section("COMMANDS")
	for _, sub := range list {
		if c == root || c.Name() == "explain" {
			r.item("\\fB"+escape(sub.Name())+"\\fR", sub.Short+"; see "+title(root)+"-"+sub.Name()+"(1)")
			continue
		}
		if twin := twinOf(root, sub); twin != nil {
			r.item("\\fB"+escape(sub.Name())+"\\fR", sub.Short+"; see "+title(twin)+"(1)")
			continue
		}
		r.line(".SS", sub.Name())
		r.synopsis(sub)
		r.WriteString(".PP\n")
		r.text(about(sub))
		r.flags(sub.LocalFlags())
		if sub.Example != "" {
			r.WriteString(".PP\n")
			r.verbatim(sub.Example)
		}
	}
}

// twinOf is the command at the top that does the same as one below a group: "kakuri ps" of
// "kakuri container ls".
func twinOf(root, c *cobra.Command) *cobra.Command {
	for _, top := range shown(root) {
		if top.Short == c.Short && !top.HasSubCommands() {
			return top
		}
	}
	return nil
}

func (r *roff) options(name string, flags *pflag.FlagSet) {
	if flags.HasAvailableFlags() {
		r.section(name)
		r.flags(flags)
	}
}

// flags lists flags in the order in which the command has them.
func (r *roff) flags(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		value = plain(value)
		head := "\\fB" + escape("--"+f.Name) + "\\fR"
		if f.Shorthand != "" {
			head = "\\fB" + escape("-"+f.Shorthand) + "\\fR, " + head
		}
		switch {
		case f.Value.Type() == "bool":
		case f.NoOptDefVal != "":
			head += "[=\\fI" + escape(value) + "\\fR]"
		default:
			head += " \\fI" + escape(value) + "\\fR"
		}
		if d := f.DefValue; f.Value.Type() != "bool" && d != "" && d != "[]" && d != "0" && d != "0s" && !strings.Contains(usage, "default") {
			usage += " (default: " + d + ")"
		}
		r.item(head, usage)
	})
}

// plain names the kind of a value as people say it.
func plain(kind string) string {
	switch kind {
	case "string", "stringArray":
		return "VALUE"
	case "strings":
		return "VALUE,..."
	}
	return kind
}

func (r *roff) synopsis(c *cobra.Command) {
	words, rest, _ := strings.Cut(c.Use, " ")
	path := words
	if p := c.Parent(); p != nil {
		path = p.CommandPath() + " " + words
	}
	fmt.Fprintf(r, "\\fB%s\\fR %s\n", escape(path), escape(rest))
}

func (r *roff) section(name string) { r.line(".SH", name) }

func (r *roff) item(head, text string) {
	fmt.Fprintf(r, ".TP\n%s\n", head)
	r.text(text)
}

// line writes a macro with its arguments.
func (r *roff) line(macro string, args ...string) {
	r.WriteString(macro)
	for _, a := range args {
		r.WriteString(` "` + strings.ReplaceAll(escape(a), `"`, `\(dq`) + `"`)
	}
	r.WriteString("\n")
}

// text writes paragraphs. One whose lines are indented or set in columns keeps them.
func (r *roff) text(s string) {
	for i, p := range strings.Split(strings.Trim(s, "\n"), "\n\n") {
		if i > 0 {
			r.WriteString(".PP\n")
		}
		if strings.HasPrefix(p, " ") || strings.Contains(p, "   ") {
			r.verbatim(p)
			continue
		}
		for line := range strings.Lines(p) {
			r.WriteString(escape(strings.TrimRight(line, "\n")) + "\n")
		}
	}
}

func (r *roff) verbatim(s string) {
	r.WriteString(".nf\n")
	for line := range strings.Lines(s) {
		r.WriteString(escape(strings.TrimRight(line, "\n")) + "\n")
	}
	r.WriteString(".fi\n")
}

// escape makes a line safe from roff: backslashes, a dot or quote at its begin, and hyphens,
// which would else be printed as dashes that nobody can paste into a shell.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
