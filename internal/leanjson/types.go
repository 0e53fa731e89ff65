package leanjson

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A kind is what is known of a type, once it was met: a list of a hundred records meets each a hundred times.
type kind struct {
	typ    reflect.Type
	kind   reflect.Kind
	fields []field // of a struct,
	known  bool    // unless encoding/json has to take it
	custom [2]atomic.Int32
	below  atomic.Pointer[kind] // what a pointer, list, array or map has
}

// The values of kind.custom.
const (
	_       = iota // not asked yet
	isPlain        // neither
	ofValue        // the type is written, or read, by a method of its own
	ofPointer
)

var kinds sync.Map // reflect.Type to *kind

func kindOf(t reflect.Type) *kind {
	if k, ok := kinds.Load(t); ok {
		return k.(*kind)
	}
	k := &kind{typ: t, kind: t.Kind()}
	if k.kind == reflect.Struct {
		k.fields, k.known = fieldsOf(t, nil, nil)
		if k.known {
			k.fields, k.known = dominant(k.fields)
		}
	}
	was, _ := kinds.LoadOrStore(t, k)
	return was.(*kind)
}

// elem is what a pointer leads to, and what a list or map has.
func (k *kind) elem() *kind {
	e := k.below.Load()
	if e == nil {
		e = kindOf(k.typ.Elem())
		k.below.Store(e)
	}
	return e
}

// of is the kind of the i-th field.
func (k *kind) of(i int) *kind {
	f := &k.fields[i]
	e := f.kind.Load()
	if e == nil {
		e = kindOf(k.typ.FieldByIndex(f.at).Type)
		f.kind.Store(e)
	}
	return e
}

// own reports whether the type, or a pointer to it, is written, or with read is read, by a method of its own.
func (k *kind) own(read bool) int32 {
	c := &k.custom[0]
	if read {
		c = &k.custom[1]
	}
	if x := c.Load(); x != 0 {
		return x
	}
	x := int32(isPlain)
	if read && k.kind == reflect.Pointer {
		// What it leads to is asked.
	} else if own(k.typ, read) {
		x = ofValue
	} else if k.kind != reflect.Pointer && k.typ.Name() != "" && own(reflect.PointerTo(k.typ), read) {
		x = ofPointer
	}
	c.Store(x)
	return x
}

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

var (
	numberType = reflect.TypeFor[json.Number]()
	byteType   = reflect.TypeFor[byte]()
	timeType   = reflect.TypeFor[time.Time]()
)

// A field is what a struct's field is in JSON.
type field struct {
	name                string
	omitEmpty, omitZero bool
	at                  []int // in the struct, for [reflect.Value.FieldByIndex]
	kind                *atomic.Pointer[kind]
}

// in is the field of a struct.
func (f *field) in(v reflect.Value) reflect.Value {
	for _, i := range f.at {
		v = v.Field(i)
	}
	return v
}

// fieldsOf lists the fields of a struct, those of structs embedded in it, too.
func fieldsOf(t reflect.Type, at []int, list []field) (_ []field, known bool) {
	n := t.NumField()
	if list == nil {
		list = make([]field, 0, n)
	}
	places, kinds := make([]int, 0, n*(len(at)+1)), make([]atomic.Pointer[kind], n)
	for i := range n {
		places = append(append(places, at...), i)
		f, here := t.Field(i), slices.Clip(places[len(places)-len(at)-1:])
		if f.Anonymous {
			if f.Type.Kind() != reflect.Struct || !f.IsExported() || f.Tag.Get("json") != "" {
				return list, false
			}
			if list, known = fieldsOf(f.Type, here, list); !known {
				return list, false
			}
			continue
		}
		x, known := fieldOf(f)
		if !known {
			return list, false
		}
		if x.name != "" {
			x.at, x.kind = here, &kinds[i]
			list = append(list, x)
		}
	}
	return list, true
}

// dominant leaves of fields with one name the one that is embedded the least deep, as encoding/json does: an image's config has such. It
// reports whether that is one alone; for others encoding/json has rules.
func dominant(list []field) ([]field, bool) {
	if !slices.ContainsFunc(list, func(f field) bool { return len(f.at) > 1 }) {
		return list, true
	}
	out := make([]field, 0, len(list))
	for _, f := range list {
		least, alone := len(f.at), 0
		for _, other := range list {
			if other.name != f.name {
				continue
			}
			if len(other.at) < least {
				least, alone = len(other.at), 0
			}
			if len(other.at) == least {
				alone++
			}
		}
		switch {
		case least < len(f.at): // hidden
		case alone > 1:
			return list, false
		default:
			out = append(out, f)
		}
	}
	return out, true
}

// fieldOf reads a field's tag. One without a name is not there. known is false where encoding/json has to take the struct.
func fieldOf(f reflect.StructField) (out field, known bool) {
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
