package leanjson

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
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
			for d.at < len(d.data) && !ends(d.data[d.at]) {
				d.at++
			}
		}
		if depth == 0 {
			return d.data[start:d.at]
		}
	}
}

// ends reports whether a byte is none of a number or word.
func ends(c byte) bool {
	switch c {
	case ' ', '\t', '\r', '\n', ',', ':', ']', '}':
		return true
	}
	return false
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
func (d *decoder) str() string { return string(d.chars()) }

// chars takes a string. The result may lie in the data.
func (d *decoder) chars() []byte {
	raw := d.text()
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return inner
	}
	var s string
	json.Unmarshal(raw, &s)
	return []byte(s)
}

func (d *decoder) value(v reflect.Value, k *kind) bool {
	c := d.next()
	if k.own(true) != isPlain || k.kind == reflect.Interface {
		if k.typ == timeType {
			return v.Addr().Interface().(*time.Time).UnmarshalJSON(d.raw()) == nil
		}
		if c == '"' && k.own(true) == ofPointer {
			to := v.Addr().Interface()
			if _, whole := to.(json.Unmarshaler); !whole {
				return to.(encoding.TextUnmarshaler).UnmarshalText(d.chars()) == nil
			}
		}
		return d.other(v)
	}
	if c == 'n' {
		d.at += len("null")
		switch k.kind {
		case reflect.Pointer, reflect.Map, reflect.Slice:
			v.SetZero()
		}
		return true
	}
	switch k.kind {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(k.typ.Elem()))
		}
		return d.value(v.Elem(), k.elem())
	case reflect.Struct:
		return c == '{' && d.object(v, k)
	case reflect.Map:
		return c == '{' && d.dict(v, k)
	case reflect.Slice:
		if c == '"' && k.elem().typ == byteType {
			b, err := base64.StdEncoding.DecodeString(d.str())
			v.SetBytes(b)
			return err == nil
		}
		return c == '[' && d.list(v, k)
	case reflect.String:
		if c != '"' || k.typ == numberType {
			return false
		}
		v.SetString(d.str())
		return true
	case reflect.Bool:
		raw := d.raw()
		v.SetBool(c == 't')
		return len(raw) > 0 && (c == 't' || c == 'f')
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(string(d.raw()), 10, k.typ.Bits())
		v.SetInt(n)
		return err == nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(string(d.raw()), 10, k.typ.Bits())
		v.SetUint(n)
		return err == nil
	}
	return d.other(v)
}

// other leaves a value to encoding/json.
func (d *decoder) other(v reflect.Value) bool {
	return json.Unmarshal(d.raw(), v.Addr().Interface()) == nil
}

func (d *decoder) list(v reflect.Value, k *kind) bool {
	if v.Cap() > 0 { // what is there is decoded into
		return d.other(v)
	}
	out, zero := reflect.MakeSlice(k.typ, 0, 4), reflect.Zero(k.typ.Elem())
	for d.at++; d.next() != ']'; {
		out = reflect.Append(out, zero)
		if !d.value(out.Index(out.Len()-1), k.elem()) {
			return false
		}
	}
	d.at++
	v.Set(out)
	return true
}

func (d *decoder) dict(v reflect.Value, k *kind) bool {
	key := k.typ.Key()
	if key.Kind() != reflect.String || own(reflect.PointerTo(key), true) {
		return d.other(v)
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(k.typ))
	}
	for d.at++; d.next() != '}'; {
		name := reflect.ValueOf(d.str()).Convert(key)
		x := reflect.New(k.typ.Elem()).Elem()
		if !d.value(x, k.elem()) {
			return false
		}
		v.SetMapIndex(name, x)
	}
	d.at++
	return true
}

func (d *decoder) object(v reflect.Value, k *kind) bool {
	if !k.known {
		return d.other(v)
	}
	i := -1
	for d.at++; d.next() != '}'; {
		if i = k.find(d.chars(), i+1); i < 0 {
			d.raw()
			continue
		}
		if !d.value(k.fields[i].in(v), k.of(i)) {
			return false
		}
	}
	d.at++
	return true
}

// find prefers a name that is equal to one that is so but for case, as encoding/json does. It begins with a guess, since fields are written
// in their order.
func (k *kind) find(key []byte, guess int) int {
	for n := range k.fields {
		i := guess + n
		if i >= len(k.fields) {
			i -= len(k.fields)
		}
		if name := k.fields[i].name; name == string(key) {
			return i
		}
	}
	for i := range k.fields {
		if name := k.fields[i].name; strings.EqualFold(name, string(key)) {
			return i
		}
	}
	return -1
}
