package leanjson

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
)

// A decoder reads what is known to be JSON: what is left to find out is whether it fits. Its methods say no where it does not, or
// where encoding/json has to say what happens.
type decoder struct {
	data []byte
	at   int
}

// next is the first byte of the next token.
func (d *decoder) next() byte {
	for {
		switch c := d.data[d.at]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			d.at++
		default:
			return c
		}
	}
}

// raw takes the next value as it is.
func (d *decoder) raw() []byte {
	d.next()
	start := d.at
	for depth := 0; ; {
		switch d.data[d.at] {
		case '"':
			d.text()
		case '{', '[':
			depth++
			d.at++
		case '}', ']':
			depth--
			d.at++
		case ' ', '\t', '\r', '\n', ',', ':':
			d.at++
		default:
			for d.at < len(d.data) && !bytes.ContainsRune([]byte(" \t\r\n,:]}"), rune(d.data[d.at])) {
				d.at++
			}
		}
		if depth == 0 {
			return d.data[start:d.at]
		}
	}
}

// text takes a string, its quotes with it.
func (d *decoder) text() []byte {
	start := d.at
	for d.at++; d.data[d.at] != '"'; d.at++ {
		if d.data[d.at] == '\\' {
			d.at++
		}
	}
	d.at++
	return d.data[start:d.at]
}

// str takes a string.
func (d *decoder) str() (s string) {
	raw := d.text()
	if inner := string(raw[1 : len(raw)-1]); plain(inner) {
		return inner
	}
	json.Unmarshal(raw, &s)
	return s
}

func (d *decoder) value(v reflect.Value) bool {
	t := v.Type()
	c := d.next()
	if t.Name() != "" && own(reflect.PointerTo(t), true) || t.Kind() == reflect.Interface {
		return json.Unmarshal(d.raw(), v.Addr().Interface()) == nil
	}
	if c == 'n' {
		d.at += len("null")
		switch t.Kind() {
		case reflect.Pointer, reflect.Map, reflect.Slice:
			v.SetZero()
		}
		return true
	}
	switch t.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(t.Elem()))
		}
		return d.value(v.Elem())
	case reflect.Struct:
		return c == '{' && d.object(v)
	case reflect.Map:
		return c == '{' && d.dict(v)
	case reflect.Slice:
		if c == '"' && t.Elem() == reflect.TypeFor[byte]() {
			b, err := base64.StdEncoding.DecodeString(d.str())
			v.SetBytes(b)
			return err == nil
		}
		return c == '[' && d.list(v)
	case reflect.String:
		if c != '"' || t == reflect.TypeFor[json.Number]() {
			return false
		}
		v.SetString(d.str())
		return true
	case reflect.Bool:
		raw := d.raw()
		v.SetBool(c == 't')
		return len(raw) > 0 && (c == 't' || c == 'f')
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(string(d.raw()), 10, t.Bits())
		v.SetInt(n)
		return err == nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(string(d.raw()), 10, t.Bits())
		v.SetUint(n)
		return err == nil
	}
	return json.Unmarshal(d.raw(), v.Addr().Interface()) == nil
}

func (d *decoder) list(v reflect.Value) bool {
	t := v.Type()
	if v.Cap() > 0 { // what is there is decoded into
		return json.Unmarshal(d.raw(), v.Addr().Interface()) == nil
	}
	out := reflect.MakeSlice(t, 0, 4)
	for d.at++; d.next() != ']'; {
		out = reflect.Append(out, reflect.Zero(t.Elem()))
		if !d.value(out.Index(out.Len() - 1)) {
			return false
		}
	}
	d.at++
	v.Set(out)
	return true
}

func (d *decoder) dict(v reflect.Value) bool {
	t := v.Type()
	if t.Key().Kind() != reflect.String || own(reflect.PointerTo(t.Key()), true) {
		return json.Unmarshal(d.raw(), v.Addr().Interface()) == nil
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(t))
	}
	for d.at++; d.next() != '}'; {
		key := reflect.ValueOf(d.str()).Convert(t.Key())
		x := reflect.New(t.Elem()).Elem()
		if !d.value(x) {
			return false
		}
		v.SetMapIndex(key, x)
	}
	d.at++
	return true
}

func (d *decoder) object(v reflect.Value) bool {
	t := v.Type()
	n := t.NumField()
	names := make([]string, n) // empty: not there
	for i := range n {
		f, known := fieldOf(t.Field(i))
		if !known {
			return json.Unmarshal(d.raw(), v.Addr().Interface()) == nil
		}
		names[i] = f.name
	}
	for d.at++; d.next() != '}'; {
		key := d.str()
		i := find(names, key)
		if i < 0 {
			d.raw()
			continue
		}
		if !d.value(v.Field(i)) {
			return false
		}
	}
	d.at++
	return true
}

// find prefers a name that is equal to one that is so but for case, as encoding/json does.
func find(names []string, key string) int {
	for i, name := range names {
		if name == key && name != "" {
			return i
		}
	}
	for i, name := range names {
		if name != "" && strings.EqualFold(name, key) {
			return i
		}
	}
	return -1
}
