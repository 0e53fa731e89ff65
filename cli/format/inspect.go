package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// Objects prints whole objects: without a format as one indented array, with "json" a
// line for each, else by a template for each. A template may name fields as Go has them or
// as JSON has them.
func Objects(w io.Writer, format string, list []any) error {
	if format == "" {
		if list == nil {
			list = []any{}
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "    ")
		if err := e.Encode(list); err != nil {
			return err
		}
		_, err := b.WriteTo(w)
		return err
	}
	if format == "json" {
		format = "{{json .}}"
	}
	t, err := parse(unescape(format))
	if err != nil {
		return err
	}
	var all bytes.Buffer
	for _, o := range list {
		var b bytes.Buffer
		if err := t.Execute(&b, o); err != nil {
			raw, fail := rawOf(o)
			if fail != nil {
				return fail
			}
			b.Reset()
			if t.Option("missingkey=error").Execute(&b, raw) != nil {
				all.WriteTo(w)
				return fmt.Errorf("template parsing error: %w", err)
			}
		}
		all.Write(b.Bytes())
		all.WriteByte('\n')
	}
	_, err = all.WriteTo(w)
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
