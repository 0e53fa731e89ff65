package specjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// oracle is what Decode should return, worked out the slow way with
// encoding/json: it reads the document into a tree, refuses what Decode is
// stricter about, removes what Decode leaves out, and decodes the rest.
func oracle(data []byte) (*specs.Spec, error) {
	spec := new(specs.Spec)
	switch {
	case len(data) > MaxSize:
		return nil, errors.New("too long")
	case !json.Valid(data):
		return nil, errors.New("not JSON")
	case !utf8.Valid(data):
		return nil, errors.New("not UTF-8")
	case loneSurrogate(string(data)):
		return nil, errors.New("half a surrogate pair")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	items := 0
	tree, err := readTree(dec, 0, &items)
	if err != nil {
		return nil, err
	}
	kept, err := prune(tree, reflect.TypeFor[specs.Spec]())
	if err != nil {
		return nil, err
	}
	pruned, err := json.Marshal(kept)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(pruned, spec); err != nil {
		return nil, err
	}
	return spec, nil
}

// loneSurrogate looks for an escape that is half of a pair, in a valid document.
func loneSurrogate(s string) bool {
	half := func(at int) (rune, bool) {
		if at+6 > len(s) || s[at:at+2] != `\u` {
			return 0, false
		}
		n, err := strconv.ParseUint(s[at+2:at+6], 16, 16)
		return rune(n), err == nil && n>>11 == 0xd800>>11
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		if hi, ok := half(i); ok {
			lo, ok := half(i + 6)
			if hi >= 0xdc00 || !ok || lo < 0xdc00 {
				return true
			}
			i += 10
		}
		i++
	}
	return false
}

// readTree reads a value into maps, slices and scalars, and refuses a name that
// comes twice, and what goes beyond the limits.
func readTree(dec *json.Decoder, depth int, items *int) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth == MaxDepth {
		return nil, errors.New("too deep")
	}
	list, dict := []any{}, map[string]any{}
	for dec.More() {
		if *items++; *items > MaxItems {
			return nil, errors.New("too many")
		}
		var key string
		if delim == '{' {
			name, err := dec.Token()
			if err != nil {
				return nil, err
			}
			key = name.(string)
			if _, met := dict[key]; met {
				return nil, fmt.Errorf("%q twice", key)
			}
		}
		value, err := readTree(dec, depth+1, items)
		if err != nil {
			return nil, err
		}
		list, dict[key] = append(list, value), value
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if delim == '{' {
		return dict, nil
	}
	return list, nil
}

// prune removes from a tree the members that t has no field for, gives the others the
// names of their fields, and refuses two that have the same.
func prune(tree any, t reflect.Type) (any, error) {
	if t.Kind() == reflect.Pointer {
		return prune(tree, t.Elem())
	}
	var err error
	switch tree := tree.(type) {
	case []any:
		if t.Kind() != reflect.Slice {
			break
		}
		for i := range tree {
			if tree[i], err = prune(tree[i], t.Elem()); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		kept := map[string]any{}
		for name, value := range tree {
			elem := t
			switch t.Kind() {
			case reflect.Map:
				elem = t.Elem()
			case reflect.Struct:
				f, ok := fieldOf(t, name)
				if !ok {
					continue
				}
				elem = f.Type
				name, _, _ = strings.Cut(f.Tag.Get("json"), ",")
			default:
				return tree, nil
			}
			if _, twice := kept[name]; twice {
				return nil, fmt.Errorf("%q twice", name)
			}
			if kept[name], err = prune(value, elem); err != nil {
				return nil, err
			}
		}
		return kept, nil
	}
	return tree, nil
}

// fieldOf returns the field that has this name in JSON but for its case, if Decode
// reads it.
func fieldOf(t reflect.Type, name string) (reflect.StructField, bool) {
	for _, f := range reflect.VisibleFields(t) {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if strings.EqualFold(tag, name) && tag != "" && !isDropped(f.Type) {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// isDropped tells whether t is one of the sections that Decode leaves nil.
func isDropped(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[specs.Solaris](), reflect.TypeFor[specs.Windows](),
		reflect.TypeFor[specs.VM](), reflect.TypeFor[specs.ZOS]():
		return true
	}
	return false
}
