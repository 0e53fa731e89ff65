package systemd

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/internal/dbus"
)

// annotationPrefix is before the name of a property, in the key of an annotation.
const annotationPrefix = "org.systemd.property."

// Annotations gives the properties that annotations set: "org.systemd.property.TimeoutStopUSec": "uint64 5000000", in the text
// format of GVariant. A name that ends in Sec, as unit files have it, is taken for seconds.
func Annotations(annotations map[string]string) ([]limits.Property, error) {
	var keys []string
	for key := range annotations {
		if strings.HasPrefix(key, annotationPrefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	var list []limits.Property
	for _, key := range keys {
		p, err := annotation(strings.TrimPrefix(key, annotationPrefix), annotations[key])
		if err != nil {
			return nil, fmt.Errorf("config.json annotations[%q]: %w", key, err)
		}
		list = append(list, p)
	}
	return list, nil
}

func annotation(name, text string) (limits.Property, error) {
	letter := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
	if len(name) < 3 || strings.TrimFunc(name, func(c rune) bool { return c < 128 && letter(byte(c)) }) != "" {
		return limits.Property{}, fmt.Errorf("%q is no name of a property: it has letters only, three at least", name)
	}
	v, err := parseVariant(text)
	if err != nil {
		return limits.Property{}, err
	}
	stem, ok := strings.CutSuffix(name, "Sec")
	if ok && stem != "" && stem[len(stem)-1] >= 'a' && stem[len(stem)-1] <= 'z' {
		name = stem + "USec"
		if v, err = microseconds(v); err != nil {
			return limits.Property{}, err
		}
	}
	return limits.Property{Name: name, Value: v}, nil
}

// microseconds turns a number of seconds into what systemd takes.
func microseconds(v any) (uint64, error) {
	const million = 1000000
	var n float64
	switch v := v.(type) {
	case byte:
		return uint64(v) * million, nil
	case uint16:
		return uint64(v) * million, nil
	case uint32:
		return uint64(v) * million, nil
	case uint64:
		if v <= math.MaxUint64/million {
			return v * million, nil
		}
		n = float64(v)
	case int16:
		n = float64(v)
	case int32:
		n = float64(v)
	case int64:
		n = float64(v)
	case float64:
		n = v
	default:
		return 0, errors.New("seconds are a number")
	}
	if !(n >= 0 && n*million < math.MaxUint64) {
		return 0, fmt.Errorf("%v seconds: out of range", v)
	}
	return uint64(n * million), nil
}

// parseVariant reads a value in GVariant's text format, as far as properties of units have such values: the basic
// types, and arrays of one of them.
func parseVariant(text string) (any, error) {
	p := &parser{rest: text}
	v, err := p.value("")
	if err == nil && p.skip() != "" {
		err = fmt.Errorf("%q is left over", p.rest)
	}
	if err != nil {
		return nil, fmt.Errorf("value %q: %w", text, err)
	}
	return v, nil
}

// A parser goes through a text.
type parser struct {
	rest  string
	depth int // of values within values
}

// skip passes over blanks.
func (p *parser) skip() string {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
	return p.rest
}

// word takes letters, digits and what numbers have.
func (p *parser) word() string {
	s := p.skip()
	end := strings.IndexFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '+')
	})
	if end < 0 {
		end = len(s)
	}
	p.rest = s[end:]
	return s[:end]
}

// typeWord gives the type that a word before a value stands for.
func typeWord(w string) string {
	switch w {
	case "boolean":
		return "b"
	case "byte":
		return "y"
	case "int16":
		return "n"
	case "uint16":
		return "q"
	case "int32":
		return "i"
	case "uint32":
		return "u"
	case "int64":
		return "x"
	case "uint64":
		return "t"
	case "double":
		return "d"
	case "string":
		return "s"
	case "objectpath":
		return "o"
	case "signature":
		return "g"
	}
	return ""
}

// value reads a value, of the type given when there is one.
func (p *parser) value(typ string) (any, error) {
	const deepest = 8 // an array of values with their types needs four
	if p.depth++; p.depth > deepest {
		return nil, errors.New("types or arrays within others: no property is that")
	}
	defer func() { p.depth-- }()
	s := p.skip()
	if s == "" {
		return nil, errors.New("it has no value")
	}
	switch s[0] {
	case '@':
		p.rest = s[1:]
		end := strings.IndexAny(p.rest, " \t")
		if end < 0 {
			return nil, errors.New("a type without a value")
		}
		typ, p.rest = p.rest[:end], p.rest[end:]
		return p.value(typ)
	case '\'', '"':
		text, err := p.quoted(s[0])
		if err != nil {
			return nil, err
		}
		switch typ {
		case "", "s":
			return text, nil
		case "o":
			return dbus.ObjectPath(text), nil
		case "g":
			return dbus.Signature(text), nil
		}
		return nil, fmt.Errorf("%q is of no type %s", text, typ)
	case '[':
		return p.array(typ)
	case '(', '{', '<':
		return nil, errors.New("a structure, dictionary or variant cannot be given here")
	}
	w := p.word()
	if t := typeWord(w); t != "" {
		return p.value(t)
	}
	return scalar(w, typ)
}

// scalar reads a truth value or a number, int32 where no type is given.
func scalar(w, typ string) (any, error) {
	if typ == "" {
		switch {
		case w == "true" || w == "false":
			typ = "b"
		case strings.ContainsAny(w, ".") || strings.ContainsAny(w, "eE") && !strings.HasPrefix(strings.TrimLeft(w, "+-"), "0x") || strings.Trim(w, "+-") == "inf" || w == "nan":
			typ = "d"
		default:
			typ = "i"
		}
	}
	bits := map[string]int{"y": 8, "n": 16, "q": 16, "i": 32, "u": 32, "x": 64, "t": 64}[typ]
	switch typ {
	case "b":
		if w == "true" || w == "false" {
			return w == "true", nil
		}
	case "d":
		f, err := strconv.ParseFloat(w, 64)
		if err == nil || math.IsInf(f, 0) && errors.Is(err, strconv.ErrRange) {
			return f, nil
		}
	case "n", "i", "x":
		n, err := strconv.ParseInt(w, 0, bits)
		if err == nil {
			return map[string]any{"n": int16(n), "i": int32(n), "x": n}[typ], nil
		}
	case "y", "q", "u", "t":
		n, err := strconv.ParseUint(w, 0, bits)
		if err == nil {
			return map[string]any{"y": byte(n), "q": uint16(n), "u": uint32(n), "t": n}[typ], nil
		}
	}
	return nil, fmt.Errorf("%q is no value of type %s; text stands in quotes", w, typ)
}

// quoted reads a string in quotes of one kind.
func (p *parser) quoted(quote byte) (string, error) {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case quote:
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case '\\':
			if i++; i == len(p.rest) {
				return "", errors.New("a string without an end")
			}
			switch c := p.rest[i]; c {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case 'r':
				b.WriteByte('\r')
			case 'u', 'U':
				digits := 4
				if c == 'U' {
					digits = 8
				}
				if i+digits >= len(p.rest) {
					return "", errors.New("a string without an end")
				}
				n, err := strconv.ParseUint(p.rest[i+1:i+1+digits], 16, 32)
				if err != nil || n > 0x10ffff || n == 0 {
					return "", fmt.Errorf("%q is no character", p.rest[i-1:i+1+digits])
				}
				b.WriteRune(rune(n))
				i += digits
			default:
				b.WriteByte(c)
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New("a string without an end")
}

// array reads an array, whose elements are of one type.
func (p *parser) array(typ string) (any, error) {
	element := ""
	if typ != "" {
		var ok bool
		if element, ok = strings.CutPrefix(typ, "a"); !ok {
			return nil, fmt.Errorf("an array is of no type %s", typ)
		}
	}
	p.rest = p.rest[1:]
	var list []any
	for {
		if s := p.skip(); s != "" && s[0] == ']' {
			p.rest = s[1:]
			break
		}
		if len(list) > 0 {
			s := p.skip()
			if s == "" || s[0] != ',' {
				return nil, errors.New("an array without an end")
			}
			p.rest = s[1:]
		}
		v, err := p.value(element)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if element == "" {
			element = dbus.SignatureOf(v)
		}
	}
	return typed(list, element)
}

func typed(list []any, element string) (any, error) {
	switch element {
	case "b":
		return of[bool](list)
	case "y":
		return of[byte](list)
	case "i":
		return of[int32](list)
	case "u":
		return of[uint32](list)
	case "x":
		return of[int64](list)
	case "t":
		return of[uint64](list)
	case "d":
		return of[float64](list)
	case "s":
		return of[string](list)
	}
	return nil, errors.New("an empty array needs its type before it, and structures cannot be given here")
}

func of[T any](list []any) (any, error) {
	out := make([]T, len(list))
	for i, v := range list {
		t, ok := v.(T)
		if !ok {
			return nil, errors.New("an array of several types")
		}
		out[i] = t
	}
	return out, nil
}
