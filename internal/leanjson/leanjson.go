package leanjson

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Marshal is json.Marshal. A value that leads back to itself has no end here.
func Marshal(v any) ([]byte, error) {
	return appendValue(make([]byte, 0, 4096), reflect.ValueOf(v))
}

// Unmarshal is json.Unmarshal.
func Unmarshal(data []byte, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() || own(p.Type(), true) || !json.Valid(data) {
		return json.Unmarshal(data, v)
	}
	d := decoder{data: data}
	if !d.value(p.Elem()) {
		return json.Unmarshal(data, v) // it does not fit: how, encoding/json says
	}
	return nil
}

var (
	marshaler       = reflect.TypeFor[json.Marshaler]()
	textMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
	unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// own reports whether a type is written, or with read is read, by a method of its own.
func own(t reflect.Type, read bool) bool {
	if t.Name() == "" && t.Kind() != reflect.Struct && t.Kind() != reflect.Pointer {
		return false
	}
	if read {
		return t.NumMethod() > 0 && (t.Implements(unmarshaler) || t.Implements(textUnmarshaler))
	}
	return t.NumMethod() > 0 && (t.Implements(marshaler) || t.Implements(textMarshaler))
}

// A field is what a struct's field is in JSON. The zero value is a field that is not there.
type field struct {
	name                string
	omitEmpty, omitZero bool
}

// fieldOf reads a field's tag; known is false where encoding/json has to take the struct.
func fieldOf(f reflect.StructField) (out field, known bool) {
	if f.Anonymous {
		return out, false
	}
	tag := f.Tag.Get("json")
	if !f.IsExported() || tag == "-" {
		return out, true
	}
	name, options, _ := strings.Cut(tag, ",")
	if name == "" {
		name = f.Name
	}
	out.name = name
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "omitempty":
			out.omitEmpty = true
		case "omitzero":
			out.omitZero = true
		case "string":
			return out, false
		}
	}
	return out, plain(name)
}

// plain reports whether a string is written as it is.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

func appendOther(b []byte, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	return append(b, data...), err
}

func appendString(b []byte, s string) ([]byte, error) {
	if !plain(s) {
		return appendOther(b, s)
	}
	return append(append(append(b, '"'), s...), '"'), nil
}

func appendValue(b []byte, v reflect.Value) ([]byte, error) {
	if !v.IsValid() {
		return append(b, "null"...), nil
	}
	t := v.Type()
	if own(t, false) {
		return appendOther(b, v.Interface())
	}
	if t.Name() != "" && v.CanAddr() && t.Kind() != reflect.Pointer && own(reflect.PointerTo(t), false) {
		return appendOther(b, v.Addr().Interface())
	}
	switch t.Kind() {
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case reflect.String:
		if t == reflect.TypeFor[json.Number]() {
			return appendOther(b, v.Interface())
		}
		return appendString(b, v.String())
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		return appendValue(b, v.Elem())
	case reflect.Struct:
		return appendStruct(b, v)
	case reflect.Map:
		return appendMap(b, v)
	case reflect.Slice:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		if t.Elem().Kind() == reflect.Uint8 {
			if t.Elem() != reflect.TypeFor[byte]() {
				return appendOther(b, v.Interface())
			}
			return append(base64.StdEncoding.AppendEncode(append(b, '"'), v.Bytes()), '"'), nil
		}
		return appendList(b, v)
	case reflect.Array:
		return appendList(b, v)
	}
	return appendOther(b, v.Interface())
}

func appendList(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendValue(b, v.Index(i)); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendMap(b []byte, v reflect.Value) (_ []byte, err error) {
	switch kt := v.Type().Key(); {
	case v.IsNil():
		return append(b, "null"...), nil
	case kt.Kind() != reflect.String || own(kt, false):
		return appendOther(b, v.Interface())
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendString(b, k.String()); err != nil {
			return nil, err
		}
		if b, err = appendValue(append(b, ':'), v.MapIndex(k)); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendStruct(b []byte, v reflect.Value) (_ []byte, err error) {
	t := v.Type()
	start := len(b)
	b = append(b, '{')
	for i := range t.NumField() {
		f, known := fieldOf(t.Field(i))
		if !known {
			if v.CanAddr() {
				return appendOther(b[:start], v.Addr().Interface())
			}
			return appendOther(b[:start], v.Interface())
		}
		x := v.Field(i)
		if f.name == "" || f.omitEmpty && empty(x) || f.omitZero && zero(x) {
			continue
		}
		if len(b) > start+1 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), f.name...), '"', ':')
		if b, err = appendValue(b, x); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// empty is what omitempty leaves out.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// zero is what omitzero leaves out.
func zero(v reflect.Value) bool {
	type isZeroer interface{ IsZero() bool }
	if v.Kind() == reflect.Struct && v.NumField() > 0 && v.Type().NumMethod() > 0 {
		if z, ok := v.Interface().(isZeroer); ok {
			return z.IsZero()
		}
	}
	if v.Kind() != reflect.Pointer && v.Kind() != reflect.Interface && v.Type().Name() != "" {
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		if z, ok := p.Interface().(isZeroer); ok {
			return z.IsZero()
		}
	}
	return v.IsZero()
}
