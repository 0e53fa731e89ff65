package leanjson_test

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/opencontainers/runtime-spec/specs-go"
)

type word string

func (w word) MarshalText() ([]byte, error) { return []byte("<" + string(w) + ">"), nil }

func (w *word) UnmarshalText(b []byte) error { *w = word(bytes.Trim(b, "<>")); return nil }

type pointed struct{ N int }

func (p *pointed) MarshalJSON() ([]byte, error) { return json.Marshal([]int{p.N}) }

func (p *pointed) UnmarshalJSON(b []byte) error {
	var list []int
	if err := json.Unmarshal(b, &list); err != nil || len(list) != 1 {
		return err
	}
	p.N = list[0]
	return nil
}

type never struct{ X int }

func (never) IsZero() bool { return true }

type seldom struct{ X int }

func (s *seldom) IsZero() bool { return s.X == 1 }

type Inner struct {
	A int
	B string `json:"b"`
}

type outer struct {
	Inner
	B     string `json:"B2"`
	Outer *outer `json:",omitempty"`
}

type deeper struct {
	Inner
	Mid int `json:",omitempty"`
}

// Deeper has embedded structs two deep.
type Deeper struct {
	First string
	Below
	Last string `json:",omitempty"`
}

type Below struct {
	Inner
	Mid *Inner `json:",omitempty"`
}

// Hides has a field that hides an embedded one.
type Hides struct {
	Inner
	A string
}

// Both has two embedded fields of one name, which hide each other.
type Both struct {
	Inner
	Other
}

type Other struct{ A, C int }

// all has a field of each kind.
type all struct {
	Bool     bool
	I        int
	I8       int8 `json:"i8,omitempty"`
	U        uint64
	U16      uint16 `json:",omitempty"`
	F        float64
	F32      *float32 `json:",omitempty"`
	S        string   `json:"s"`
	Word     word
	Words    map[word]int   `json:",omitempty"`
	ByInt    map[int]string `json:",omitempty"`
	Bytes    []byte
	Array    [2]string
	List     []string          `json:",omitempty"`
	Nil      []int             `json:"nil"`
	Map      map[string]*Inner `json:",omitempty"`
	Any      any
	Ptr      **int
	Time     time.Time `json:",omitzero"`
	Took     time.Duration
	Pointed  pointed
	PointedP *pointed
	Ps       []pointed
	Raw      json.RawMessage `json:",omitempty"`
	Number   json.Number     `json:",omitempty"`
	Never    never           `json:",omitzero"`
	Seldom   seldom          `json:",omitzero"`
	Zero     Inner           `json:",omitzero"`
	Outer    outer
	Embedded deeper
	Deeper   Deeper
	Hides    Hides
	Both     Both
	Hidden   int `json:"-"`
	//lint:ignore SA5008 the one name that json has to be told so
	Dash   int `json:"-,"`
	AsText struct {
		N int `json:",string"`
	}
	private int
}

func values() []any {
	seven := 7
	p := &seven
	f := float32(1.5)
	full := all{
		Bool: true, I: -1, I8: math.MinInt8, U: math.MaxUint64, U16: 3, F: 1e30, F32: &f, S: "a<b>&\"\\\n\x00\x7f\u2028 é \xff", Word: "w", Words: map[word]int{"b": 1, "a": 2},
		ByInt: map[int]string{10: "x", 9: "y"}, Bytes: []byte{0, 255}, Array: [2]string{"x", ""}, List: []string{"l", ""}, Map: map[string]*Inner{"z": {A: 1}, "a": nil, "<": {B: "b"}},
		Any: map[string]any{"k": []any{1.0, nil, "s", true}}, Ptr: &p, Time: time.Unix(1e9, 5).UTC(), Took: time.Second, Pointed: pointed{4}, PointedP: &pointed{5}, Ps: []pointed{{6}},
		Raw: json.RawMessage(`{ "a" : [1, 2] }`), Number: "12", Never: never{1}, Seldom: seldom{2}, Zero: Inner{A: 1}, Outer: outer{Inner: Inner{1, "x"}, B: "y", Outer: &outer{}}, Embedded: deeper{Inner{2, "e"}, 3},
		Deeper: Deeper{"f", Below{Inner{4, "g"}, &Inner{5, "h"}}, "l"}, Hides: Hides{Inner{6, "i"}, "j"}, Both: Both{Inner{7, "k"}, Other{8, 9}}, Hidden: 1, Dash: 2, private: 3,
	}
	return []any{nil, all{}, &all{}, full, &full, (*all)(nil), []all{full}, map[string]all{"a": full}, 1, "x", []any{1, "a", &full}, map[word]string{"a": "b"}, word("x"), pointed{1}, &pointed{1}, [3]pointed{}, struct{}{}, seldom{1}, &struct {
		S seldom `json:",omitzero"`
	}{seldom{1}}}
}

// TestMarshal: the bytes are those of encoding/json.
func TestMarshal(t *testing.T) {
	for _, v := range values() {
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := leanjson.Marshal(v); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%T, %v:\n%s\nwant\n%s", v, err, got, want)
		}
	}
	for _, v := range []any{func() {}, []any{make(chan int)}, math.Inf(1), struct{ F any }{func() {}}} {
		_, want := json.Marshal(v)
		if _, err := leanjson.Marshal(v); err == nil || err.Error() != want.Error() {
			t.Errorf("%T: %v, want %v", v, err, want)
		}
	}
}

// check decodes by both, into a value that is not empty too.
func check[T any](t *testing.T, data []byte, start func() T) {
	t.Helper()
	want, got := start(), start()
	wantErr, gotErr := json.Unmarshal(data, &want), leanjson.Unmarshal(data, &got)
	if (wantErr == nil) != (gotErr == nil) || wantErr != nil && wantErr.Error() != gotErr.Error() {
		t.Errorf("%q: error %v, want %v", data, gotErr, wantErr)
	}
	if wantErr == nil && !reflect.DeepEqual(got, want) {
		t.Errorf("%q:\n%+v\nwant\n%+v", data, got, want)
	}
}

func checkAll(t *testing.T, data []byte) {
	t.Helper()
	check(t, data, func() all { return all{} })
	check(t, data, func() all {
		return all{S: "old", Map: map[string]*Inner{"old": {A: 1, B: "old"}}, List: []string{"o", "l", "d"}, Outer: outer{Outer: &outer{B: "old"}}, PointedP: &pointed{9}, Any: 1, Bool: true}
	})
	check(t, data, func() map[string]Inner { return nil })
	check(t, data, func() []*Inner { return []*Inner{{A: 1}} })
	check(t, data, func() *string { return nil })
	check(t, data, func() specs.Spec { return specs.Spec{} })
}

func seeds(tb testing.TB) [][]byte {
	list := [][]byte{
		[]byte(`null`), []byte(` { } `), []byte(`{"i":1,"I":2,"LIST":["a"],"s":null,"S":"x"}`), []byte(`{"Bool":"x"}`), []byte(`{"I":1.0}`), []byte(`{"I":1e2}`), []byte(`{"i8":128}`), []byte(`{"U":-1}`),
		[]byte(`{"List":null,"Map":null,"Ptr":null,"Any":null,"Time":null,"Word":null,"PointedP":null}`), []byte(`{"Array":["1","2","3"]}`), []byte(`{"Array":[]}`), []byte(`{"Bytes":"!"}`), []byte(`{"Bytes":[1,2]}`),
		[]byte(`{"x":{"y":[{"z":"]}\""}]},"I":5}`), []byte(`{`), []byte(``), []byte(`{"I":1}x`), []byte(`[{"A":1},null,{"b":"\u0041\ud800"}]`), []byte(`"s"`), []byte(`{"a":{"A":1},"a":{"b":"x"}}`),
		[]byte("{\"\xff\":1,\"s\":\"\xff\"}"), []byte(`{"-":3,"Hidden":4,"private":5}`), []byte(`{"":{"":1}}`), []byte(`{"AsText":{"N":"5"}}`), []byte(`{"Map":{"old":{"A":2}},"List":["x"]}`),
		[]byte(`{"Outer":{"Outer":{"A":1}}}`), []byte(`{"Number":5}`), []byte(`{"Deeper":{"A":1,"b":"x","B":"y","mid":{"A":2},"Last":"z","first":"f"},"Hides":{"A":"s","b":"t"},"Both":{"A":1,"C":2,"b":"u"},"Embedded":{"Mid":1,"a":2}}`), []byte(`{"Number":"x"}`), []byte(`{"Took":1,"F":1}`), []byte(`{"ſ":"fold"}`), []byte(`{"I":1,"Bool":tru}`), []byte(`{"Words":{"<a>":1}}`),
	}
	for _, v := range values() {
		data, err := json.Marshal(v)
		if err != nil {
			tb.Fatal(err)
		}
		list = append(list, data)
	}
	files, err := filepath.Glob("../../oci/specjson/testdata/*.json")
	if err != nil || len(files) == 0 {
		tb.Fatal("no specs to try: ", err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		list = append(list, data)
	}
	return list
}

// TestUnmarshal: values and errors are those of encoding/json.
func TestUnmarshal(t *testing.T) {
	for _, data := range seeds(t) {
		checkAll(t, data)
	}
}

// TestSpec: a spec is written as by encoding/json.
func TestSpec(t *testing.T) {
	for _, data := range seeds(t) {
		var s specs.Spec
		if json.Unmarshal(data, &s) != nil {
			continue
		}
		want, err := json.Marshal(&s)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := leanjson.Marshal(&s); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v:\n%s\nwant\n%s", err, got, want)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, data := range seeds(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkAll(t, data) })
}
