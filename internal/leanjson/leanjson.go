package leanjson

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Marshal is json.Marshal. A value that leads back to itself has no end here.
func Marshal(v any) ([]byte, error) {
	x := reflect.ValueOf(v)
	if !x.IsValid() {
		return []byte("null"), nil
	}
	return appendValue(make([]byte, 0, 4096), x, kindOf(x.Type()))
}

// Unmarshal is json.Unmarshal.
func Unmarshal(data []byte, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() || own(p.Type(), true) || !valid(data) {
		return json.Unmarshal(data, v)
	}
	d := decoder{data: data}
	if e := p.Elem(); !d.value(e, kindOf(e.Type())) {
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

// appendOwn writes a value by its own method. encoding/json would make tables of the type for that.
func appendOwn(b []byte, v any, k *kind) ([]byte, error) {
	if _, whole := v.(json.Marshaler); !whole && k.kind != reflect.Pointer {
		if text, err := v.(encoding.TextMarshaler).MarshalText(); err == nil {
			return appendString(b, string(text))
		}
	}
	return appendOther(b, v)
}

func appendValue(b []byte, v reflect.Value, k *kind) ([]byte, error) {
	switch own := k.own(false); {
	case k.typ == timeType:
		text, err := v.Interface().(time.Time).MarshalJSON()
		if err != nil {
			return appendOther(b, v.Interface())
		}
		return append(b, text...), nil
	case own == ofValue:
		return appendOwn(b, v.Interface(), k)
	case own == ofPointer && v.CanAddr():
		return appendOther(b, v.Addr().Interface())
	}
	switch k.kind {
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case reflect.String:
		if k.typ == numberType {
			return appendOther(b, v.Interface())
		}
		return appendString(b, v.String())
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		return appendValue(b, v.Elem(), k.elem())
	case reflect.Struct:
		return appendStruct(b, v, k)
	case reflect.Map:
		return appendMap(b, v, k)
	case reflect.Slice:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		if k.elem().kind == reflect.Uint8 {
			if k.elem().typ != byteType {
				return appendOther(b, v.Interface())
			}
			return append(base64.StdEncoding.AppendEncode(append(b, '"'), v.Bytes()), '"'), nil
		}
		return appendList(b, v, k.elem())
	case reflect.Array:
		return appendList(b, v, k.elem())
	}
	return appendOther(b, v.Interface())
}

func appendList(b []byte, v reflect.Value, elem *kind) (_ []byte, err error) {
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendValue(b, v.Index(i), elem); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendMap(b []byte, v reflect.Value, k *kind) (_ []byte, err error) {
	switch kt := k.typ.Key(); {
	case v.IsNil():
		return append(b, "null"...), nil
	case kt.Kind() != reflect.String || own(kt, false):
		return appendOther(b, v.Interface())
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	b = append(b, '{')
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendString(b, key.String()); err != nil {
			return nil, err
		}
		if b, err = appendValue(append(b, ':'), v.MapIndex(key), k.elem()); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendStruct(b []byte, v reflect.Value, k *kind) (_ []byte, err error) {
	switch {
	case k.known:
	case v.CanAddr():
		return appendOther(b, v.Addr().Interface())
	default:
		return appendOther(b, v.Interface())
	}
	start := len(b)
	b = append(b, '{')
	for i := range k.fields {
		f := &k.fields[i]
		x := f.in(v)
		if f.omitEmpty && empty(x) || f.omitZero && zero(x) {
			continue
		}
		if len(b) > start+1 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), f.name...), '"', ':')
		if b, err = appendValue(b, x, k.of(i)); err != nil {
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
