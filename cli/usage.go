package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/kakuri/kakuri/ui"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	helpColumns = 80 // where help is no terminal's; prose is never wider, to be easy to read
	minColumns  = 40 // narrower terminals break the lines themselves
)

// setHelp gives root and the commands below it kakuri's own help and usage. That of
// pflag prints the values of flags which stand alone, and noFile among them.
func setHelp(root *cobra.Command) {
	root.SetUsageFunc(func(c *cobra.Command) error {
		w := c.OutOrStderr()
		_, err := io.WriteString(w, usage(c, columns(w)))
		return err
	})
	root.SetHelpFunc(func(c *cobra.Command, _ []string) {
		w := c.OutOrStdout()
		about := c.Long
		if about == "" {
			about = c.Short + "."
		}
		fmt.Fprintf(w, "%s\n\n%s", prose(about, columns(w)), usage(c, columns(w)))
	})
}

// columns is how wide help on w may be.
func columns(w io.Writer) int {
	if n := width(w); n > 0 {
		return max(n, minColumns)
	}
	return helpColumns
}

// prose breaks the lines of paragraphs anew. Those that are indented or set in columns stay.
func prose(s string, columns int) string {
	list := strings.Split(strings.Trim(s, "\n"), "\n\n")
	for i, p := range list {
		if !strings.HasPrefix(p, " ") && !strings.Contains(p, "   ") {
			list[i] = strings.Join(ui.Wrap(strings.ReplaceAll(p, "\n", " "), min(columns, helpColumns)), "\n")
		}
	}
	return strings.Join(list, "\n\n")
}

// usage is the part of the help that is made from the command's parts: how it is
// called, examples, the commands below it, its flags.
func usage(c *cobra.Command, columns int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n", useLine(c))
	if c.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", c.Example)
	}
	for _, g := range c.Groups() {
		table(&b, g.Title, commandRows(c, g.ID), columns)
	}
	table(&b, "Commands:", commandRows(c, ""), columns)
	table(&b, "Options:", flagRows(c.LocalFlags()), columns)
	table(&b, "Global options:", flagRows(c.InheritedFlags()), columns)
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n'%s COMMAND --help' tells more about a command.\n", c.CommandPath())
	}
	return b.String()
}

// useLine is how c is called. Its Use has [OPTIONS] itself, so cobra is not to add [flags].
func useLine(c *cobra.Command) string {
	c.DisableFlagsInUseLine = true
	return c.UseLine()
}

// A helpRow is a command or a flag, and what it does.
type helpRow struct{ head, text string }

// commandRows lists the commands of a group, but for the help, which the last line names.
// All groups have their texts in one column.
func commandRows(c *cobra.Command, group string) []helpRow {
	var rows []helpRow
	longest := 0
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			longest = max(longest, len(sub.Name()))
		}
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.GroupID == group && sub.Name() != "help" {
			rows = append(rows, helpRow{fmt.Sprintf("%-*s", longest, sub.Name()), sub.Short})
		}
	}
	return rows
}

func flagRows(s *pflag.FlagSet) []helpRow {
	var rows []helpRow
	s.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Deprecated == "" {
			rows = append(rows, helpRow{flagHead(f), flagText(f)})
		}
	})
	return rows
}

// flagHead is how a flag is written: -p, --pid[=FILE].
func flagHead(f *pflag.Flag) string {
	head := "    --" + f.Name
	if f.Shorthand != "" {
		head = "-" + f.Shorthand + ", --" + f.Name
	}
	value := "VALUE"
	if quoted := strings.SplitN(f.Usage, "`", 3); len(quoted) == 3 {
		value = quoted[1]
	}
	switch {
	case f.Value.Type() == "bool":
		return head
	case f.NoOptDefVal != "":
		return head + "[=" + value + "]"
	}
	return head + " " + value
}

// flagText is the flag's help, and its default where the help does not say it.
func flagText(f *pflag.Flag) string {
	if _, cobras := f.Annotations[cobra.FlagSetByCobraAnnotation]; cobras { // "help for run"
		return strings.Replace("print the "+f.Name, "the help", "this help", 1)
	}
	text := strings.ReplaceAll(f.Usage, "`", "")
	d := f.DefValue
	if f.Value.Type() == "bool" || d == "" || d == "[]" || d == "0" || d == "0s" || strings.Contains(text, "default") {
		return text
	}
	return text + " (default: " + d + ")"
}

// table prints rows under a title, their texts below each other: beside the heads, or
// under those that take more than two fifths of the line.
func table(b *strings.Builder, title string, rows []helpRow, columns int) {
	if len(rows) == 0 {
		return
	}
	left := 0
	for _, r := range rows {
		if n := 2 + len(r.head) + 2; n <= columns*2/5 {
			left = max(left, n)
		}
	}
	left = max(left, 8)
	fmt.Fprintf(b, "\n%s\n", title)
	for _, r := range rows {
		line := "  " + r.head
		if len(line)+2 > left {
			fmt.Fprintln(b, line)
			line = ""
		}
		for _, text := range ui.Wrap(r.text, columns-left) {
			fmt.Fprintf(b, "%-*s%s\n", left, line, text)
			line = ""
		}
	}
}
