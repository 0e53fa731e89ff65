package dbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// A Message is one of D-Bus: its specification, "Message Protocol". Bodies are values of Go by the
// types of their signature; those needed here are bool, byte, int16, uint16, int32, uint32, int64, uint64, float64,
// string, ObjectPath, []byte, []uint32, []string, [][2]string, Variant, []Property, and Rows.
type Message struct {
	Kind        byte
	Serial      uint32
	Reply       uint32 // the serial that this one answers
	Path        string
	Interface   string
	Member      string
	ErrorName   string
	Destination string
	Sender      string
	Body        []any
}

// Kinds of messages.
const (
	KindCall   = 1
	KindReturn = 2
	KindError  = 3
	KindSignal = 4
)

type (
	ObjectPath string
	Signature  string
	// A Variant is a value that carries its type.
	Variant struct{ Value any }
	// A Property is a name with a variant: (sv).
	Property struct {
		Name  string
		Value any
	}
	// Properties is a(sv).
	Properties []Property
	// Rows are structures, one at least, whose types are those of the first one's values: a(isb). Nobody here sends any, but
	// others do, and tests are those: they would else have a second encoder.
	Rows [][]any
	// Auxiliary is a(sa(sv)), the units that StartTransientUnit makes besides: always none.
	Auxiliary struct{}
)

// most is how long a message may be: the specification's 128 MiB are far more than anybody says here.
const most = 1 << 24

var errShort = errors.New("D-Bus: a message ends too early")

// SignatureOf gives the type of a value as D-Bus writes it, empty for one it does not have.
func SignatureOf(v any) string {
	switch v := v.(type) {
	case bool:
		return "b"
	case byte:
		return "y"
	case int16:
		return "n"
	case uint16:
		return "q"
	case int32:
		return "i"
	case uint32:
		return "u"
	case int64:
		return "x"
	case uint64:
		return "t"
	case float64:
		return "d"
	case string:
		return "s"
	case ObjectPath:
		return "o"
	case Signature:
		return "g"
	case Variant:
		return "v"
	case []byte:
		return "ay"
	case []bool:
		return "ab"
	case []int32:
		return "ai"
	case []uint32:
		return "au"
	case []int64:
		return "ax"
	case []uint64:
		return "at"
	case []float64:
		return "ad"
	case []string:
		return "as"
	case [][2]string:
		return "a(ss)"
	case Properties:
		return "a(sv)"
	case Auxiliary:
		return "a(sa(sv))"
	case Rows:
		if len(v) == 0 {
			return ""
		}
		row := ""
		for _, field := range v[0] {
			row += SignatureOf(field)
		}
		return "a(" + row + ")"
	}
	return ""
}

// An encoder writes little-endian values, each at a multiple of its size.
type encoder struct {
	b   []byte
	err error
}

func (e *encoder) align(n int) {
	for len(e.b)%n != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) uint32(v uint32) {
	e.align(4)
	e.b = binary.LittleEndian.AppendUint32(e.b, v)
}

func (e *encoder) uint64(v uint64) {
	e.align(8)
	e.b = binary.LittleEndian.AppendUint64(e.b, v)
}

func (e *encoder) string(s string) {
	if strings.Contains(s, "\x00") {
		e.err = fmt.Errorf("D-Bus: the string %q has a zero byte", s)
	}
	e.uint32(uint32(len(s)))
	e.b = append(append(e.b, s...), 0)
}

func (e *encoder) signature(s string) {
	e.b = append(append(append(e.b, byte(len(s))), s...), 0)
}

// array writes elements with their length in bytes before them, which begins where the first one is aligned.
func (e *encoder) array(align, n int, element func(i int)) {
	e.uint32(0)
	at := len(e.b)
	e.align(align)
	start := len(e.b)
	for i := range n {
		element(i)
	}
	binary.LittleEndian.PutUint32(e.b[at-4:], uint32(len(e.b)-start))
}

func (e *encoder) value(v any) {
	switch v := v.(type) {
	case bool:
		n := uint32(0)
		if v {
			n = 1
		}
		e.uint32(n)
	case byte:
		e.b = append(e.b, v)
	case int16:
		e.value(uint16(v))
	case uint16:
		e.align(2)
		e.b = binary.LittleEndian.AppendUint16(e.b, v)
	case int32:
		e.uint32(uint32(v))
	case uint32:
		e.uint32(v)
	case int64:
		e.uint64(uint64(v))
	case uint64:
		e.uint64(v)
	case float64:
		e.uint64(math.Float64bits(v))
	case string:
		e.string(v)
	case ObjectPath:
		e.string(string(v))
	case Signature:
		e.signature(string(v))
	case Variant:
		sig := SignatureOf(v.Value)
		if sig == "" || len(sig) > 255 {
			e.err = fmt.Errorf("D-Bus: a value of type %T has no type there", v.Value)
			return
		}
		e.signature(sig)
		e.value(v.Value)
	case []byte:
		e.array(1, len(v), func(i int) { e.b = append(e.b, v[i]) })
	case []bool:
		e.array(4, len(v), func(i int) { e.value(v[i]) })
	case []int32:
		e.array(4, len(v), func(i int) { e.value(v[i]) })
	case []uint32:
		e.array(4, len(v), func(i int) { e.uint32(v[i]) })
	case []int64:
		e.array(8, len(v), func(i int) { e.value(v[i]) })
	case []uint64:
		e.array(8, len(v), func(i int) { e.uint64(v[i]) })
	case []float64:
		e.array(8, len(v), func(i int) { e.value(v[i]) })
	case []string:
		e.array(4, len(v), func(i int) { e.string(v[i]) })
	case [][2]string:
		e.array(8, len(v), func(i int) { e.align(8); e.string(v[i][0]); e.string(v[i][1]) })
	case Properties:
		e.array(8, len(v), func(i int) { e.align(8); e.string(v[i].Name); e.value(Variant{v[i].Value}) })
	case Auxiliary:
		e.array(8, 0, nil)
	case Rows:
		e.array(8, len(v), func(i int) {
			e.align(8)
			for _, field := range v[i] {
				e.value(field)
			}
		})
	default:
		e.err = fmt.Errorf("D-Bus: a value of type %T has no type there", v)
	}
}

// Codes of header fields.
const (
	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldError       = 4
	fieldReply       = 5
	fieldDestination = 6
	fieldSender      = 7
	fieldSignature   = 8
)

// Encode gives the bytes of a message; the error names a value that D-Bus has no type for.
func (m *Message) Encode() ([]byte, error) {
	body, sig := encoder{}, ""
	for _, v := range m.Body {
		sig += SignatureOf(v)
		body.value(v)
	}
	e := encoder{b: []byte{'l', m.Kind, 0, 1}}
	e.uint32(uint32(len(body.b)))
	e.uint32(m.Serial)
	fields := []struct {
		code  byte
		value any
		given bool
	}{
		{fieldPath, ObjectPath(m.Path), m.Path != ""},
		{fieldInterface, m.Interface, m.Interface != ""},
		{fieldMember, m.Member, m.Member != ""},
		{fieldError, m.ErrorName, m.ErrorName != ""},
		{fieldReply, m.Reply, m.Reply != 0},
		{fieldDestination, m.Destination, m.Destination != ""},
		{fieldSender, m.Sender, m.Sender != ""},
		{fieldSignature, Signature(sig), sig != ""},
	}
	e.array(8, len(fields), func(i int) {
		if f := fields[i]; f.given {
			e.align(8)
			e.b = append(e.b, f.code)
			e.value(Variant{f.value})
		}
	})
	e.align(8)
	e.b = append(e.b, body.b...)
	if len(e.b) > most {
		return nil, fmt.Errorf("D-Bus: a message of %d bytes", len(e.b))
	}
	return e.b, errors.Join(body.err, e.err)
}

// Length is how long the message is that begins with b, 0 when more of it is needed.
func Length(b []byte) (int, error) {
	if len(b) < 16 {
		return 0, nil
	}
	order, err := byteOrder(b[0])
	if err != nil {
		return 0, err
	}
	fields, body := uint64(order.Uint32(b[12:])), uint64(order.Uint32(b[4:]))
	n := (16+fields+7)&^7 + body
	if n > most {
		return 0, fmt.Errorf("D-Bus: a message of %d bytes", n)
	}
	return int(n), nil
}

func byteOrder(b byte) (binary.ByteOrder, error) {
	switch b {
	case 'l':
		return binary.LittleEndian, nil
	case 'B':
		return binary.BigEndian, nil
	}
	return nil, fmt.Errorf("D-Bus: %q is no byte order", b)
}

// A decoder reads values, and remembers the first error.
type decoder struct {
	b     []byte
	at    int
	order binary.ByteOrder
	err   error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.at = len(d.b)
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b)-d.at {
		d.fail(errShort)
		return nil
	}
	d.at += n
	return d.b[d.at-n : d.at]
}

func (d *decoder) align(n int) { d.take((n - d.at%n) % n) }

func (d *decoder) uint32() uint32 {
	d.align(4)
	if b := d.take(4); b != nil {
		return d.order.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	d.align(8)
	if b := d.take(8); b != nil {
		return d.order.Uint64(b)
	}
	return 0
}

func (d *decoder) string() string {
	n := d.uint32()
	if n > most {
		d.fail(errShort)
		return ""
	}
	s := string(d.take(int(n)))
	d.take(1)
	return s
}

func (d *decoder) signature() string {
	n := d.take(1)
	if n == nil {
		return ""
	}
	s := string(d.take(int(n[0])))
	d.take(1)
	return s
}

// deepestType is the nesting that the specification allows for arrays and structures together.
const deepestType = 64

// value reads one complete type from the signature, and gives the rest of it. What is no basic type is given as []any.
func (d *decoder) value(sig string, depth int) (any, string) {
	if sig == "" || depth > deepestType {
		d.fail(errors.New("D-Bus: a type ends too early, or is too deep"))
		return nil, ""
	}
	rest := sig[1:]
	switch sig[0] {
	case 'y':
		if b := d.take(1); b != nil {
			return b[0], rest
		}
		return byte(0), rest
	case 'b':
		return d.uint32() != 0, rest
	case 'n', 'q':
		d.align(2)
		b := d.take(2)
		if b == nil {
			return uint16(0), rest
		}
		if sig[0] == 'n' {
			return int16(d.order.Uint16(b)), rest
		}
		return d.order.Uint16(b), rest
	case 'i':
		return int32(d.uint32()), rest
	case 'u', 'h':
		return d.uint32(), rest
	case 'x':
		return int64(d.uint64()), rest
	case 't':
		return d.uint64(), rest
	case 'd':
		return math.Float64frombits(d.uint64()), rest
	case 's':
		return d.string(), rest
	case 'o':
		return ObjectPath(d.string()), rest
	case 'g':
		return Signature(d.signature()), rest
	case 'v':
		v, left := d.value(d.signature(), depth+1)
		if left != "" {
			d.fail(errors.New("D-Bus: a variant of more than one type"))
		}
		return Variant{v}, rest
	case 'a':
		return d.array(rest, depth)
	case '(', '{':
		return d.structure(sig, depth)
	}
	d.fail(fmt.Errorf("D-Bus: %q is no type", sig[0]))
	return nil, ""
}

func (d *decoder) array(element string, depth int) (any, string) {
	n := d.uint32()
	d.align(alignment(element))
	if n > most || int(n) > len(d.b)-d.at {
		d.fail(errShort)
		return nil, ""
	}
	rest, err := skipType(element, depth+1)
	if err != nil {
		d.fail(err)
		return nil, ""
	}
	list := []any{}
	for end := d.at + int(n); d.err == nil && d.at < end; {
		before := d.at
		v, _ := d.value(element, depth+1)
		if list = append(list, v); d.at == before {
			d.fail(errors.New("D-Bus: an array of nothing"))
		}
	}
	return list, rest
}

func (d *decoder) structure(sig string, depth int) (any, string) {
	d.align(8)
	list := []any{}
	rest := sig[1:]
	for d.err == nil && rest != "" && rest[0] != ')' && rest[0] != '}' {
		var v any
		v, rest = d.value(rest, depth+1)
		list = append(list, v)
	}
	if rest == "" {
		d.fail(errors.New("D-Bus: a structure without an end"))
		return nil, ""
	}
	return list, rest[1:]
}

func alignment(sig string) int {
	if sig == "" {
		return 1
	}
	switch sig[0] {
	case 'n', 'q':
		return 2
	case 'b', 'i', 'u', 'h', 's', 'o', 'a':
		return 4
	case 'x', 't', 'd', '(', '{':
		return 8
	}
	return 1
}

// skipType gives what follows the first complete type.
func skipType(sig string, depth int) (string, error) {
	if sig == "" || depth > deepestType {
		return "", errors.New("D-Bus: a type ends too early, or is too deep")
	}
	switch sig[0] {
	case 'a':
		return skipType(sig[1:], depth+1)
	case '(', '{':
		rest := sig[1:]
		for rest != "" && rest[0] != ')' && rest[0] != '}' {
			var err error
			if rest, err = skipType(rest, depth+1); err != nil {
				return "", err
			}
		}
		if rest == "" {
			return "", errors.New("D-Bus: a structure without an end")
		}
		return rest[1:], nil
	}
	return sig[1:], nil
}

// Decode reads one whole message.
func Decode(b []byte) (*Message, error) {
	n, err := Length(b)
	if err != nil {
		return nil, err
	}
	if n == 0 || n > len(b) {
		return nil, errShort
	}
	order, _ := byteOrder(b[0])
	d := &decoder{b: b[:n], at: 8, order: order}
	m := &Message{Kind: b[1], Serial: d.uint32()}
	fields, _ := d.array("(yv)", 0)
	if d.err != nil {
		return nil, d.err
	}
	sig := ""
	list, _ := fields.([]any)
	for _, f := range list {
		pair, ok := f.([]any)
		if !ok || len(pair) != 2 {
			return nil, errShort
		}
		v, _ := pair[1].(Variant)
		switch text := fmt.Sprint(v.Value); pair[0] {
		case byte(fieldPath):
			m.Path = text
		case byte(fieldInterface):
			m.Interface = text
		case byte(fieldMember):
			m.Member = text
		case byte(fieldError):
			m.ErrorName = text
		case byte(fieldReply):
			m.Reply, _ = v.Value.(uint32)
		case byte(fieldDestination):
			m.Destination = text
		case byte(fieldSender):
			m.Sender = text
		case byte(fieldSignature):
			sig = text
		}
	}
	d.align(8)
	// Alignment in the body counts from its own start, which is a multiple of 8.
	for sig != "" && d.err == nil {
		var v any
		v, sig = d.value(sig, 0)
		m.Body = append(m.Body, v)
	}
	return m, d.err
}
