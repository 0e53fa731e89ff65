package leanjson

import (
	"encoding/json"
	"reflect"
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
		k.fields = make([]field, t.NumField())
		k.known = true
		for i := range k.fields {
			var known bool
			k.fields[i], known = fieldOf(t.Field(i))
			k.known = k.known && known
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
		e = kindOf(k.typ.Field(i).Type)
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

// A field is what a struct's field is in JSON. One without a name is not there.
type field struct {
	name                string
	omitEmpty, omitZero bool
	kind                *atomic.Pointer[kind]
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
	out.name, out.kind = name, new(atomic.Pointer[kind])
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
