package docgen

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A Reference is which flags the commands of Docker's client have, by the command's path
// below docker ("container ls"): long names, with the short ones they have.
type Reference map[string]map[string]string

// ParseReference reads lines of "VERB: LONG[,SHORT] ...", # begins a comment.
func ParseReference(text string) (Reference, error) {
	r := Reference{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		verb, flags, ok := strings.Cut(line, ":")
		if !ok || r[verb] != nil {
			return nil, fmt.Errorf("no VERB: FLAGS, or a second one of the verb: %q", line)
		}
		r[verb] = map[string]string{}
		for _, f := range strings.Fields(flags) {
			long, short, _ := strings.Cut(f, ",")
			r[verb][long] = short
		}
	}
	return r, nil
}

// Notes say of flags what their help does not: how kakuri's differs, or why there is none.
// They are by verb, or "*" for all that have no note of their own, and by flag.
type Notes map[string]map[string]string

// ParseNotes reads lines of "VERB FLAG: NOTE"; # begins a comment.
func ParseNotes(text string) (Notes, error) {
	notes := Notes{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		where, note, ok := strings.Cut(strings.TrimSpace(line), ": ")
		i := strings.LastIndexByte(where, ' ')
		if !ok || i < 0 {
			return nil, fmt.Errorf("no VERB FLAG: NOTE: %q", line)
		}
		verb, flag := where[:i], where[i+1:]
		if notes[verb] == nil {
			notes[verb] = map[string]string{}
		}
		notes[verb][flag] = note
	}
	return notes, nil
}

func (n Notes) of(verb, flag string) string {
	if note, ok := n[verb][flag]; ok {
		return note
	}
	return n["*"][flag]
}

// FlagTable lists the flags of one verb: those of Docker's in which kakuri's command has
// them, by the same names, and then those that Docker lacks. A flag that the command
// lacks needs a note that says why, which begins with what it is: "later", "not on Linux",
// "not here". So does the note of one that it has only to refuse it: "not here".
func FlagTable(verb string, c *cobra.Command, docker Reference, notes Notes) (string, error) {
	ref, ok := docker[verb]
	if !ok {
		return "", fmt.Errorf("the reference has no %q", verb)
	}
	var b strings.Builder
	b.WriteString("| flag | here | what it does |\n|---|---|---|\n")
	own := map[string]*pflag.Flag{}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && !f.Hidden {
			own[f.Name] = f
		}
	})
	var names []string
	for name := range ref {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f, note := own[name], notes.of(verb, name)
		delete(own, name)
		state, text := "done", ""
		switch {
		case f == nil:
			if state, text, ok = strings.Cut(note, ": "); !ok {
				return "", fmt.Errorf("%s: there is no --%s, and no note says why", verb, name)
			}
		case f.Shorthand != ref[name]:
			return "", fmt.Errorf("%s: --%s has the short form %q, and Docker's is %q", verb, name, f.Shorthand, ref[name])
		default:
			if why, refused := strings.CutPrefix(note, "not here: "); refused {
				state, note = "not here", why
			}
			text = flagText(f, note)
		}
		row(&b, name, ref[name], state, text)
	}
	names = names[:0]
	for name := range own {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		row(&b, name, own[name].Shorthand, "kakuri's own", flagText(own[name], notes.of(verb, name)))
	}
	if len(ref)+len(names) == 0 {
		return "No flags, as Docker's.\n", nil
	}
	return b.String(), nil
}

// flagText is the flag's help, and its note.
func flagText(f *pflag.Flag, note string) string {
	text := strings.ReplaceAll(f.Usage, "`", "")
	text = strings.ToUpper(text[:1]) + text[1:]
	if note != "" {
		text += ". " + note
	}
	return text
}

func row(b *strings.Builder, name, short, state, text string) {
	flag := "`--" + name + "`"
	if short != "" {
		flag = "`-" + short + "`, " + flag
	}
	fmt.Fprintf(b, "| %s | %s | %s |\n", flag, state, strings.ReplaceAll(text, "|", `\|`))
}
