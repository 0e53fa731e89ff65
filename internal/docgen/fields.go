package docgen

import (
	"reflect"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// SpecFields lists the JSON paths of all fields of a configuration for Linux: "process.user.uid",
// "mounts[].source", "linux.sysctl". What is for other systems alone is left out.
func SpecFields() []string {
	var list []string
	walkFields(reflect.TypeFor[specs.Spec](), "", &list)
	slices.Sort(list)
	return slices.Compact(list)
}

func walkFields(t reflect.Type, path string, list *[]string) {
	switch t.Kind() {
	case reflect.Pointer:
		walkFields(t.Elem(), path, list)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			path += "[]"
		}
		walkFields(t.Elem(), path, list)
	case reflect.Map:
		if t.Elem().Kind() == reflect.Struct {
			path += ".NAME"
		}
		walkFields(t.Elem(), path, list)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous && name == "" {
				walkFields(f.Type, path, list)
				continue
			}
			if on := f.Tag.Get("platform"); name == "" || on != "" && !slices.Contains(strings.Split(on, ","), "linux") {
				continue // of another system
			}
			at := name
			if path != "" {
				at = path + "." + name
			}
			*list = append(*list, at)
			walkFields(f.Type, at, list)
		}
	}
}

// A FieldRow is a row of the table of docs/runtime-spec.md: fields, where each ends in ".*" when it
// stands for all below it, the files that handle them, and the tests that prove it.
type FieldRow struct{ Fields, Files, Tests []string }

// FieldRows reads the rows of the tables of a page that begin with a field.
func FieldRows(page string) []FieldRow {
	var rows []FieldRow
	for line := range strings.Lines(page) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		rows = append(rows, FieldRow{codes(cells[1]), codes(cells[3]), codes(cells[4])})
	}
	return rows
}

// codes lists what is set as code.
func codes(s string) []string {
	var list []string
	for i, part := range strings.Split(s, "`") {
		if i%2 == 1 {
			list = append(list, part)
		}
	}
	return list
}

// Covers reports whether a row is about a field.
func (r FieldRow) Covers(field string) bool {
	return slices.ContainsFunc(r.Fields, func(f string) bool {
		all, below := strings.CutSuffix(f, ".*")
		return f == field || below && (field == all || strings.HasPrefix(field, all+".") || strings.HasPrefix(field, all+"["))
	})
}
