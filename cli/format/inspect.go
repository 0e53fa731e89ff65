package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/template"
)

// Objects prints whole objects: without a format as one indented array, with "json" as one in
// a line, else by a template for each. A template may name fields as Go has them or as JSON
// has them; other than those of rows they are taken as they are, so that "\n" in one of its
// strings is what it is in Go, and \t between actions two characters. An object that a
// template does not fit is left out, and told of in the error; where nothing is left there
// is an empty line, which is what Docker's callers get.
func Objects(w io.Writer, format string, list []any) error {
	if format == "" || format == "json" {
		if list == nil {
			list = []any{}
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if format == "" {
			e.SetIndent("", "    ")
		}
		if err := e.Encode(list); err != nil {
			return err
		}
		_, err := b.WriteTo(w)
		return err
	}
	t, err := parse(format)
	if err != nil {
		return err
	}
	var all bytes.Buffer
	var errs []error
	for _, o := range list {
		if err := execute(&all, t, o); err != nil {
			errs = append(errs, err)
		}
	}
	if all.Len() == 0 {
		all.WriteByte('\n')
	}
	_, err = all.WriteTo(w)
	return errors.Join(append(errs, err)...)
}

// Object prints one object: with "json" as a line, else by a template, as Objects does.
func Object(w io.Writer, format string, o any) error {
	if format == "json" {
		format = "{{json .}}"
	}
	t, err := parse(format)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := execute(&b, t, o); err != nil {
		return err
	}
	_, err = b.WriteTo(w)
	return err
}

// execute adds a line of an object, or nothing when the template does not fit it.
func execute(to *bytes.Buffer, t *template.Template, o any) error {
	var b bytes.Buffer
	if t.Execute(&b, o) != nil {
		raw, err := rawOf(o)
		if err != nil {
			return err
		}
		if t, err = t.Clone(); err != nil {
			return err
		}
		b.Reset()
		if err := t.Option("missingkey=error").Execute(&b, raw); err != nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(to)
	return err
}

// rawOf is an object as its JSON has it, numbers as they are written.
func rawOf(o any) (raw any, err error) {
	data, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err = d.Decode(&raw)
	return raw, err
}
