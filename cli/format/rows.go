package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/template"
	"unicode"

	"github.com/kakuri/kakuri/ui"
)

// A Spec is how the rows of one command are printed.
type Spec struct {
	Table string            // template of a table's lines, with tabs between the cells
	Quiet string            // template for -q; empty is {{.ID}}
	Raw   string            // template of --format raw; empty if there is none
	Heads map[string]string // headings by field
}

// Options are what a caller asked for.
type Options struct {
	Format   string // empty and "table": the table; "json"; "raw"; "table TEMPLATE"; a template
	Quiet    bool   // in place of the table, and of raw
	Terminal bool   // the text is read on a terminal: nothing in it may act on that
}

// Rows prints rows, which are structs. In tables and on terminals their control
// characters are escaped. Its errors are those of the template, and of w.
func Rows[R any](w io.Writer, s Spec, o Options, rows []R) error {
	text, table := s.template(o)
	t, err := parse(text)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		if err := fits[R](t); err != nil {
			return err
		}
	}
	var out bytes.Buffer
	for _, r := range rows {
		var row any = r
		if table || o.Terminal {
			row = cleanRow(r)
		}
		if err := t.Execute(&out, row); err != nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
		out.WriteByte('\n')
	}
	if !table {
		_, err = out.WriteTo(w)
		return err
	}
	var head bytes.Buffer
	if err := t.Funcs(headFuncs()).Execute(&head, heads(s.Heads)); err != nil {
		return fmt.Errorf("template parsing error: %w", err)
	}
	_, err = io.WriteString(w, columns(head.String()+"\n"+out.String(), 10))
	return err
}

// fits says which field of a template rows of this kind do not have: a misspelled one is an error of an
// empty list, too, or a script meets it only when there is something. What fails for the values of an
// empty row alone is no error.
func fits[R any](t *template.Template) error {
	var none R
	if err := t.Execute(io.Discard, none); err != nil && strings.Contains(err.Error(), "can't evaluate field") {
		return fmt.Errorf("template parsing error: %w", err)
	}
	return nil
}

// template is the text that one row is printed by, and whether it is a table's.
func (s Spec) template(o Options) (text string, table bool) {
	quiet := s.Quiet
	if quiet == "" {
		quiet = "{{.ID}}"
	}
	switch f := o.Format; {
	case (f == "" || f == "table") && o.Quiet:
		return quiet, false
	case f == "" || f == "table":
		return s.Table, true
	case f == "json":
		return "{{json .}}", false
	case f == "raw" && s.Raw != "" && o.Quiet:
		return quiet, false
	case f == "raw" && s.Raw != "":
		return s.Raw, false
	default:
		rest, table := strings.CutPrefix(f, "table")
		return Unescape(rest), table
	}
}

// Unescape makes tabs and newlines of what a shell's user writes for them in a template of rows.
func Unescape(s string) string {
	return strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(strings.Trim(s, " "))
}

func parse(text string) (*template.Template, error) {
	t, err := template.New("").Funcs(funcs()).Parse(text)
	if err != nil {
		return nil, &ParseError{err}
	}
	return t, nil
}

// A ParseError is a template that is none. One that cannot be carried out is another error.
type ParseError struct{ Err error }

func (e *ParseError) Error() string { return "template parsing error: " + e.Err.Error() }

func (e *ParseError) Unwrap() error { return e.Err }

// Uses reports whether a template of rows names a field, or prints rows whole. It may say so of one that does
// not: what it is for is to find what need not be gathered.
func Uses(format, field string) bool {
	if format == "json" || strings.Contains(format, "."+field) {
		return true
	}
	t, err := parse(Unescape(format))
	if err != nil {
		return false
	}
	for _, n := range t.Root.Nodes {
		text := n.String()
		if !strings.HasPrefix(text, "{{") {
			continue // what stands between two actions
		}
		words := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("{}() |,", r) })
		if slices.Contains(words, ".") || slices.Contains(words, "$") {
			return true
		}
	}
	return false
}

// funcs are the functions of Docker's templates beside those that Go's have.
func funcs() template.FuncMap {
	return template.FuncMap{
		"json":     jsonText,
		"split":    strings.Split,
		"join":     join,
		"title":    title,
		"lower":    strings.ToLower,
		"upper":    strings.ToUpper,
		"pad":      pad,
		"truncate": truncate,
	}
}

// headFuncs make a heading of the template's values: a truncated heading is whole.
func headFuncs() template.FuncMap {
	same := func(s string) string { return s }
	return template.FuncMap{
		"json": same, "title": same, "lower": same, "upper": same,
		"join":     func(s, _ string) string { return s },
		"split":    func(s, _ string) string { return s },
		"truncate": func(s string, _ int) string { return s },
	}
}

// heads are the headings, as a template's value.
type heads map[string]string

// Label is the heading of a column that shows one label: its last part.
func (heads) Label(name string) string {
	return strings.NewReplacer("-", " ", "_", " ").Replace(name[strings.LastIndexByte(name, '.')+1:])
}

func jsonText(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// join takes the lists of JSON, too, whose items are of any type.
func join(list any, between string) (string, error) {
	v := reflect.ValueOf(list)
	if list == nil {
		return "", nil
	}
	if v.Kind() != reflect.Slice {
		return "", fmt.Errorf("join: %T is no list", list)
	}
	texts := make([]string, v.Len())
	for i := range texts {
		texts[i] = fmt.Sprint(v.Index(i).Interface())
	}
	return strings.Join(texts, between), nil
}

// title makes the first letter of each word a capital.
func title(s string) string {
	inside := false
	return strings.Map(func(r rune) rune {
		was := inside
		inside = unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' || r == '\''
		if was {
			return r
		}
		return unicode.ToTitle(r)
	}, s)
}

// pad puts spaces around what is not empty.
func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
}

// truncate cuts after n bytes, and not within a letter.
func truncate(s string, n int) string {
	if n < 0 || len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// Labels are labels of a row, for its method Label: a field of this type is escaped as
// the row's strings are. It should not be in the JSON.
type Labels map[string]string

// cleanRow is r without control characters in its strings.
func cleanRow(r any) any {
	from := reflect.Indirect(reflect.ValueOf(r))
	if from.Kind() != reflect.Struct {
		return r
	}
	to := reflect.New(from.Type()).Elem()
	to.Set(from)
	for i := range to.NumField() {
		f := to.Field(i)
		switch {
		case !f.CanSet():
		case f.Kind() == reflect.String:
			f.SetString(ui.Escape(f.String()))
		case f.Type() == reflect.TypeFor[Labels]():
			clean := Labels{}
			for k, v := range f.Interface().(Labels) {
				clean[k] = ui.Escape(v)
			}
			f.Set(reflect.ValueOf(clean))
		}
	}
	return to.Interface()
}

// columns sets cells below each other: lines end in newlines, cells but the last of a
// line in tabs. A column has so many places at least, and three between it and the next: ten
// in Docker's lists, twenty in its top.
func columns(text string, least int) string {
	const between = 3
	var widths []int
	var lines [][]string
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		lines = append(lines, cells)
		for i, c := range cells[:len(cells)-1] {
			if i == len(widths) {
				widths = append(widths, least)
			}
			widths[i] = max(widths[i], ui.Width(c)+between)
		}
	}
	var b strings.Builder
	for _, cells := range lines {
		for i, c := range cells {
			b.WriteString(c)
			if i < len(cells)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-ui.Width(c)))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Table prints lines of cells below each other, without a template. What could act on a
// terminal is escaped. A column has so many places at least.
func Table(w io.Writer, lines [][]string, least int) error {
	var b strings.Builder
	for _, cells := range lines {
		for i, c := range cells {
			if i > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(ui.Escape(c))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, columns(b.String(), least))
	return err
}
