package specjson

import (
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

//go:generate go run ./internal/gen -o decode_gen.go

// What a document may be at most. They bound the memory that foreign input can
// take: an array element of two bytes in the file becomes up to 120 in the Spec.
const (
	MaxSize  = 100_000_000 // bytes of the document
	MaxDepth = 64          // arrays and objects around a value
	MaxItems = 1 << 20     // array elements and object members, all together
)

// Decode reads a whole config.json. It reads at most [MaxSize] bytes: take
// MaxSize+1 from a file of unknown size, so that a longer one is noticed.
//
// As encoding/json, and so runc, has it, a name that differs from one of config.md's in
// case alone is taken for that one. What config.md does not name is ignored, once it is
// known to be JSON. So are the sections solaris, vm, windows and zos: they
// are checked as JSON and left nil. Null leaves a field as it is, as encoding/json
// has it; a whole document of null gives an empty Spec, which [Validate] refuses.
//
// Refused, where encoding/json is lenient: a name twice in one object, bytes that
// are not UTF-8, and escapes that are half of a surrogate pair.
//
// The strings of the Spec share one copy of data. An error is an *[Error].
func Decode(data []byte) (*specs.Spec, error) {
	d := new(decoder)
	return decode(d, "config.json", data, &d.Spec, decodeSpec)
}

// DecodeProcess reads a document that is the process object alone, as runc's
// exec --process takes it; errors call it process.json. Otherwise it is as [Decode].
func DecodeProcess(data []byte) (*specs.Process, error) {
	d := new(decoder)
	return decode(d, "process.json", data, &d.Process, decodeProcess)
}

// DecodeResources reads a document that is the object linux.resources alone, as
// runc's update --resources takes it; errors call it resources.json. Otherwise it
// is as [Decode].
func DecodeResources(data []byte) (*specs.LinuxResources, error) {
	d := new(decoder)
	return decode(d, "resources.json", data, &d.LinuxResources, decodeLinuxResources)
}

func decode[T any](d *decoder, file string, data []byte, v *T, read func(*decoder, *T) bool) (*T, error) {
	if len(data) > MaxSize {
		return nil, &Error{
			File: file,
			Want: "at most " + strconv.Itoa(MaxSize) + " bytes",
			Got:  strconv.Itoa(len(data)) + " bytes",
		}
	}
	d.src = string(data)
	d.texts = d.roomForTexts[:0]
	if read(d, v) && d.end() {
		return v, nil
	}
	d.err.File = file
	d.err.locate(d.src)
	return nil, d.err
}

// A decoder reads one document. Its functions tell whether they succeeded; the
// first one that does not leaves the reason in err, and each one above adds its
// part of the path on the way out, so that paths cost nothing before.
//
// The readers of values (text, unsigned, decodeMount …) all have the form
// func(*decoder, *T) bool. They leave the value as it is when they meet null.
//
// In a process that has just begun, memory costs more than reading: each new size of
// object makes the allocator open a page or two, for which the kernel takes 0.3 to
// 15 microseconds. So what a usual document needs is one object, the decoder itself.
type decoder struct {
	src   string   // the document
	pos   int      // of the next byte
	depth int      // arrays and objects open here
	items int      // elements and members met so far
	texts []string // elements of all arrays of strings, until it is full; never shrinks
	err   *Error

	store
	roomForTexts [208]string // a little less than makes the decoder 8192 bytes, the size of an allocation
}

// fail notes that something else than want stands at the offset, and returns false.
func (d *decoder) fail(offset int, want string) bool {
	return d.failGot(offset, want, d.describe(offset))
}

func (d *decoder) failGot(offset int, want, got string) bool {
	d.err = &Error{Offset: offset, Want: want, Got: got}
	return false
}

// enter begins an array or object, whose bracket is the next byte.
func (d *decoder) enter() bool {
	if d.depth == MaxDepth {
		return d.failGot(d.pos, "at most "+strconv.Itoa(MaxDepth)+" arrays and objects in each other", "one more")
	}
	d.depth++
	d.pos++
	return true
}

// leave ends an array or object, whose bracket is the next byte.
func (d *decoder) leave() {
	d.depth--
	d.pos++
}

// count takes note of one more element or member, which begins at the offset.
func (d *decoder) count(offset int) bool {
	if d.items++; d.items > MaxItems {
		return d.failGot(offset, "at most "+strconv.Itoa(MaxItems)+" array elements and object members", "one more")
	}
	return true
}

// An object is how far the reading of one object got:
//
//	o := d.object()
//	for d.next(&o) {
//		o.ok = … // read the value of o.key, or fail
//	}
//	return o.ok
type object struct {
	key    string   // the name of the member to read
	offset int      // where it stands
	seen   uint64   // a bit for each known name met so far
	others []string // unknown names met so far, while they are few,
	many   nameSet  // and when they are not
	open   bool     // the closing brace was not met
	begun  bool     // a member was met
	ok     bool     // all went well so far
}

// object begins an object. It is over at once when there is null instead.
func (d *decoder) object() object {
	switch d.peek() {
	case '{':
		ok := d.enter()
		return object{open: ok, ok: ok}
	case 'n':
		return object{ok: d.literal("null")}
	}
	return object{ok: d.fail(d.pos, "an object")}
}

// next goes on to the next member and reads its name. It returns false at the
// end, and after a failure, with o.ok telling which.
func (d *decoder) next(o *object) bool {
	if !o.open {
		return false
	}
	if !o.ok {
		o.open = false
		d.err.Path = join(member(o.key), d.err.Path)
		return false
	}
	c := d.peek()
	if c == '}' {
		d.leave()
		o.open = false
		return false
	}
	o.open = (!o.begun || d.comma(c, "',' or '}' after a member")) && d.name(o)
	o.ok = o.open
	o.begun = true
	return o.open
}

// comma steps over the comma before a further element or member.
func (d *decoder) comma(c byte, want string) bool {
	if c != ',' {
		return d.fail(d.pos, want)
	}
	d.pos++
	d.peek()
	return true
}

// name reads the name of a member and the colon after it.
func (d *decoder) name(o *object) bool {
	o.offset = d.pos
	if d.peek() != '"' {
		return d.fail(d.pos, "a member's name in double quotes")
	}
	key, ok := d.quoted()
	if !ok {
		return false
	}
	if d.peek() != ':' {
		return d.fail(d.pos, "':' after the member's name "+quote(key))
	}
	d.pos++
	o.key = key
	return d.count(o.offset)
}

// first refuses the member when another one had its name, to which the bit belongs.
func (d *decoder) first(o *object, bit uint) bool {
	if o.seen>>bit&1 == 1 {
		return d.twice(o)
	}
	o.seen |= 1 << bit
	return true
}

func (d *decoder) twice(o *object) bool {
	return d.failGot(o.offset, "each name once in an object", "a second "+quote(o.key))
}

// nameSet holds the names of an object with more unknown ones than maxOthers.
type nameSet map[string]struct{}

// maxOthers is up to how many names comparing with each beats hashing.
const maxOthers = 16

// folds reports whether the name is one of names, which have blanks between, but for
// its case, and makes it that one. "noNewPrivileges" ignored for a capital letter would be
// a container less closed than its author thinks.
func (o *object) folds(names string) bool {
	for name := range strings.SplitSeq(names, " ") {
		if strings.EqualFold(name, o.key) {
			o.key = name
			return true
		}
	}
	return false
}

// unknown steps over a member that has no place in the Spec.
func (d *decoder) unknown(o *object) bool {
	for _, key := range o.others {
		if key == o.key {
			return d.twice(o)
		}
	}
	if _, met := o.many[o.key]; met {
		return d.twice(o)
	}
	if len(o.others) < maxOthers {
		o.others = append(o.others, o.key)
		return d.skip()
	}
	if o.many == nil {
		o.many = make(nameSet)
	}
	o.many[o.key] = struct{}{}
	return d.skip()
}

// skip steps over any value.
func (d *decoder) skip() bool {
	switch c := d.peek(); c {
	case '{':
		o := d.object()
		for d.next(&o) {
			o.ok = d.unknown(&o)
		}
		return o.ok
	case '[':
		return d.elements((*decoder).skip)
	case '"':
		_, ok := d.quoted()
		return ok
	case 't':
		return d.literal("true")
	case 'f':
		return d.literal("false")
	case 'n':
		return d.literal("null")
	default:
		if c != '-' && !isDigit(c) {
			return d.fail(d.pos, "a value")
		}
		_, ok := d.number()
		return ok
	}
}

// elements reads an array, whose bracket is the next byte, by calling read
// for each element.
func (d *decoder) elements(read func(*decoder) bool) bool {
	if !d.enter() {
		return false
	}
	for i := 0; ; i++ {
		c := d.peek()
		if c == ']' {
			d.leave()
			return true
		}
		if i > 0 && !d.comma(c, "',' or ']' after an element") {
			return false
		}
		if !d.count(d.pos) || !read(d) {
			d.err.Path = join(element(i), d.err.Path)
			return false
		}
	}
}

// array tells whether an array comes next; done is set when the caller has nothing
// more to do, for there was null, or something wrong.
func (d *decoder) array() (done, ok bool) {
	switch d.peek() {
	case '[':
		return false, true
	case 'n':
		return true, d.literal("null")
	}
	return true, d.fail(d.pos, "an array")
}

// list reads an array whose elements read reads. The room is where the elements go
// as long as they fit; it is not nil only where a document has the array once.
func list[T any](d *decoder, v *[]T, room []T, read func(*decoder, *T) bool) bool {
	if done, ok := d.array(); done {
		return ok
	}
	all := room
	ok := d.elements(func(d *decoder) bool {
		if cap(all) == 0 {
			all = make([]T, 0, 4)
		}
		var zero T
		all = append(all, zero)
		return read(d, &all[len(all)-1])
	})
	if all == nil {
		all = []T{} // an empty array is not null
	}
	*v = all
	return ok
}

// texts reads an array of strings.
func texts(d *decoder, v *[]string) bool {
	if done, ok := d.array(); done {
		return ok
	}
	begin := len(d.texts)
	ok := d.elements(func(d *decoder) bool {
		if len(d.texts) == cap(d.texts) {
			begun := d.texts[begin:]
			d.texts = append(make([]string, 0, 256+2*len(begun)), begun...)
			begin = 0
		}
		d.texts = append(d.texts, "")
		return text(d, &d.texts[len(d.texts)-1])
	})
	if *v = d.texts[begin:len(d.texts):len(d.texts)]; *v == nil {
		*v = []string{} // an empty list is not none
	}
	return ok
}

// dict reads an object whose names are data, and whose values read reads.
func dict[T any](d *decoder, v *map[string]T, read func(*decoder, *T) bool) bool {
	o := d.object()
	if o.open {
		*v = make(map[string]T)
	}
	for d.next(&o) {
		if _, met := (*v)[o.key]; met {
			o.ok = d.twice(&o)
			continue
		}
		value := new(T)
		o.ok = read(d, value)
		(*v)[o.key] = *value
	}
	return o.ok
}

// textDict is dict for strings, without a place in memory for each.
func textDict(d *decoder, v *map[string]string) bool {
	o := d.object()
	if o.open {
		*v = make(map[string]string)
	}
	for d.next(&o) {
		if _, met := (*v)[o.key]; met {
			o.ok = d.twice(&o)
			continue
		}
		var value string
		o.ok = text(d, &value)
		(*v)[o.key] = value
	}
	return o.ok
}

// optional reads a value that may be absent; null is as good as absence. The room is
// where it goes, or nil; it is not nil only where a document has the value once.
func optional[T any](d *decoder, v **T, room *T, read func(*decoder, *T) bool) bool {
	if d.peek() == 'n' {
		return d.literal("null")
	}
	if room == nil {
		room = new(T)
	}
	*v = room
	return read(d, room)
}

func text[S ~string](d *decoder, v *S) bool {
	switch d.peek() {
	case '"':
		s, ok := d.quoted()
		*v = S(s)
		return ok
	case 'n':
		return d.literal("null")
	}
	return d.fail(d.pos, "a string")
}

func boolean[B ~bool](d *decoder, v *B) bool {
	switch d.peek() {
	case 't':
		*v = true
		return d.literal("true")
	case 'f':
		*v = false
		return d.literal("false")
	case 'n':
		return d.literal("null")
	}
	return d.fail(d.pos, "true or false")
}

func unsigned[U ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64](d *decoder, v *U) bool {
	if d.peek() == 'n' {
		return d.literal("null")
	}
	n, _, ok := d.integer(0, uint64(^U(0)))
	*v = U(n)
	return ok
}

func signed[I ~int | ~int32 | ~int64](d *decoder, v *I) bool {
	if d.peek() == 'n' {
		return d.literal("null")
	}
	least := uint64(1) << 63
	if I(1)<<31 < 0 {
		least = 1 << 31
	}
	n, negative, ok := d.integer(least, least-1)
	*v = I(n)
	if negative {
		*v = I(-n)
	}
	return ok
}
