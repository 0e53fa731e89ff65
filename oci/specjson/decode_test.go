package specjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// configs returns every document of testdata, and those that runtime-spec itself
// has as examples, by name: "minimal.json" and "runtime-spec/minimal.json".
func configs(t testing.TB) map[string][]byte {
	t.Helper()
	own, err := filepath.Glob("testdata/*.json")
	if err != nil || len(own) < 20 {
		t.Fatalf("testdata has %d documents: %v", len(own), err)
	}
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/opencontainers/runtime-spec").Output()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "schema/test/config/good/*.json"))
	if err != nil || len(theirs) == 0 {
		t.Fatalf("runtime-spec has %d examples: %v", len(theirs), err)
	}
	all := map[string][]byte{}
	for prefix, names := range map[string][]string{"": own, "runtime-spec/": theirs} {
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all[prefix+filepath.Base(name)] = data
		}
	}
	return all
}

// exactly compares Decode with encoding/json itself; the document has nothing that
// Decode refuses.
func exactly(t *testing.T, data []byte) {
	t.Helper()
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	want := new(specs.Spec)
	if err := json.Unmarshal(data, want); err != nil {
		t.Fatal(err)
	}
	want.Solaris, want.Windows, want.VM, want.ZOS = nil, nil, nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("differs from encoding/json for %s\ngot  %s\nwant %s", data, asJSON(got), asJSON(want))
	}
}

func asJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		return []byte(err.Error())
	}
	return data
}

// agrees compares Decode with the oracle.
func agrees(t *testing.T, data []byte) {
	t.Helper()
	got, err := Decode(data)
	want, wantErr := oracle(data)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q\nDecode: %v\noracle: %v", data, err, wantErr)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q\nDecode: %s\noracle: %s", data, asJSON(got), asJSON(want))
	}
	var fault *Error
	switch {
	case err == nil:
	case !errors.As(err, &fault):
		t.Fatalf("%q: the error is a %T", data, err)
	case fault.Offset < 0 || fault.Offset > len(data) || fault.Line < 1 || fault.Col < 1 || fault.Want == "" || fault.Got == "":
		t.Fatalf("%q: %#v", data, fault)
	case strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }):
		t.Fatalf("%q: the message has a control character: %q", data, err)
	}
}

func TestConfigs(t *testing.T) {
	for name, data := range configs(t) {
		t.Run(name, func(t *testing.T) {
			agrees(t, data)
			exactly(t, data)
			var compact bytes.Buffer
			if err := json.Compact(&compact, data); err != nil {
				t.Fatal(err)
			}
			agrees(t, compact.Bytes())
		})
	}
}

// TestNamesFold: as for encoding/json, the case of a name does not matter; two names that
// are the same then come twice.
func TestNamesFold(t *testing.T) {
	for _, doc := range []string{
		`{"OciVersion":"1.0.0","PROCESS":{"Args":["sh"],"noNewprivileges":true},"root":{"Path":"b","READONLY":true},"hostnames":"x"}`,
		`{"linux":{"Namespaces":[{"TYPE":"pid"}],"masKedPaths":["/x"],"\u017feccomp":{"defaultAction":"SCMP_ACT_ALLOW"}}}`, // U+017F, and a Kelvin sign for the k
	} {
		agrees(t, []byte(doc))
		exactly(t, []byte(doc))
	}
	spec, err := Decode([]byte(`{"Process":{"NONEWPRIVILEGES":true}}`))
	if err != nil || !spec.Process.NoNewPrivileges {
		t.Errorf("%v: %s", err, asJSON(spec))
	}
	for doc, want := range map[string]string{
		`{"Process":{"cwd":1}}`:            `config.json: process.cwd: want a string, got 1 (line 1, column 19)`,
		`{"root":{"path":"a","Path":"b"}}`: `config.json: root.path: want each name once in an object, got a second "path" (line 1, column 21)`,
	} {
		if _, err := Decode([]byte(doc)); err == nil || err.Error() != want {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

// TestEveryField sets one field of the Spec at a time, so that none is forgotten
// or goes into another.
func TestEveryField(t *testing.T) {
	n := 0
	eachField(reflect.TypeFor[specs.Spec](), func(spec reflect.Value) {
		n++
		data := asJSON(spec.Addr().Interface())
		if len(data) < len(`{"ociVersion":""}`) {
			t.Fatalf("nothing of it in %s", data)
		}
		exactly(t, data)
	})
	if n < 200 {
		t.Errorf("only %d fields", n)
	}
}

// eachField calls f with values of t in which one scalar somewhere is not zero.
func eachField(t reflect.Type, f func(reflect.Value)) {
	v := reflect.New(t).Elem()
	switch t.Kind() {
	case reflect.Pointer:
		eachField(t.Elem(), func(elem reflect.Value) {
			v.Set(elem.Addr())
			f(v)
		})
	case reflect.Slice:
		eachField(t.Elem(), func(elem reflect.Value) {
			v.Set(reflect.Append(reflect.Zero(t), elem, reflect.Zero(t.Elem()), elem))
			f(v)
		})
	case reflect.Map:
		eachField(t.Elem(), func(elem reflect.Value) {
			v.Set(reflect.MakeMap(t))
			v.SetMapIndex(reflect.ValueOf("a.b/c"), elem)
			f(v)
		})
	case reflect.Struct:
		for i := range t.NumField() {
			if isDropped(t.Field(i).Type) {
				continue
			}
			eachField(t.Field(i).Type, func(field reflect.Value) {
				v.SetZero()
				v.Field(i).Set(field)
				f(v)
			})
		}
	case reflect.String:
		v.SetString("text")
		f(v)
	case reflect.Bool:
		v.SetBool(true)
		f(v)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(-1 << (t.Bits() - 1))
		f(v)
		v.SetInt(1<<(t.Bits()-1) - 1)
		f(v)
	default:
		v.SetUint(math.MaxUint64 >> (64 - t.Bits()))
		f(v)
	}
}

// TestRandom writes random values with encoding/json, and reads them with both.
func TestRandom(t *testing.T) {
	for seed := range int64(400) {
		r := rand.New(rand.NewSource(seed))
		spec := new(specs.Spec)
		fill(r, reflect.ValueOf(spec).Elem(), 0)
		data := asJSON(spec)
		exactly(t, data)

		var indented bytes.Buffer
		if err := json.Indent(&indented, data, "\r\n", " \t"); err != nil {
			t.Fatal(err)
		}
		exactly(t, indented.Bytes())
		agrees(t, disturb(r, data))
	}
}

// fill sets v to something random.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		if isDropped(v.Type()) || r.Intn(4) == 0 {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(r, v.Elem(), depth+1)
	case reflect.Slice:
		if r.Intn(4) == 0 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), r.Intn(7-min(depth, 4)), 7))
		for i := range v.Len() {
			fill(r, v.Index(i), depth+1)
		}
	case reflect.Map:
		if r.Intn(4) == 0 {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for range r.Intn(5) {
			elem := reflect.New(v.Type().Elem()).Elem()
			fill(r, elem, depth+1)
			v.SetMapIndex(reflect.ValueOf(randomText(r)), elem)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i), depth+1)
		}
	case reflect.String:
		v.SetString(randomText(r))
	case reflect.Bool:
		v.SetBool(r.Intn(2) == 0)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint64()) >> r.Intn(64) >> (64 - v.Type().Bits()))
	default:
		v.SetUint(r.Uint64() >> r.Intn(64) >> (64 - v.Type().Bits()))
	}
}

func randomText(r *rand.Rand) string {
	alphabets := []string{"abc/._-0", "\"\\/\b\f\n\r\t\x00\x1f\x7f<>&", "é日本\u2028\ufffd😀\U0010ffff", "a\"é"}
	letters := []rune(alphabets[r.Intn(len(alphabets))])
	text := make([]rune, r.Intn(12))
	for i := range text {
		text[i] = letters[r.Intn(len(letters))]
	}
	return string(text)
}

// disturb changes a few bytes of a document: it takes some out, doubles some, or
// puts in bytes that mean something in JSON.
func disturb(r *rand.Rand, data []byte) []byte {
	pieces := []string{`{`, `}`, `[`, `]`, `,`, `:`, `"`, `\`, `\u`, `d800`, `null`, `true`, `-`, `0`, `.5`, `e1`, "\n", "\x00", "\xff", "é", `"a":{"b":[]},`, `{"x":1,"x":2}`}
	data = bytes.Clone(data)
	for range 1 + r.Intn(2) {
		at := r.Intn(len(data))
		end := min(at+1+r.Intn(8), len(data))
		switch piece := []byte(pieces[r.Intn(len(pieces))]); r.Intn(4) {
		case 0:
			data = append(data[:at], data[end:]...)
		case 1:
			data = append(data[:end:end], data[at:]...)
		case 2:
			data = append(data[:at:at], append(piece, data[at:]...)...)
		case 3:
			data = append(data[:at:at], append(piece, data[end:]...)...)
		}
		if len(data) == 0 {
			return []byte(" ")
		}
	}
	return data
}

// TestDisturbed damages the documents of testdata in many ways.
func TestDisturbed(t *testing.T) {
	for name, data := range configs(t) {
		var compact bytes.Buffer
		if err := json.Compact(&compact, data); err != nil {
			t.Fatal(name, err)
		}
		r := rand.New(rand.NewSource(int64(len(data))))
		for range 150 {
			agrees(t, disturb(r, compact.Bytes()))
		}
	}
}

// TestCut reads every beginning of a document; none but the whole is one.
func TestCut(t *testing.T) {
	data := bytes.TrimSpace(configs(t)["escapes.json"])
	for i := range data {
		if spec, err := Decode(data[:i]); err == nil || spec != nil {
			t.Fatalf("%q: %v", data[:i], err)
		}
	}
}

func TestErrors(t *testing.T) {
	deep := strings.Repeat("[", 63)
	for _, test := range []struct{ doc, want string }{
		{"{\n\"process\":{\n\"user\":{\"gid\":0,\n\"uid\":-1}}}", `process.user.uid: want an integer from 0 to 4294967295, got -1 (line 4)`},
		{`{"process":{"user":{"uid":4294967296}}}`, `process.user.uid: want an integer from 0 to 4294967295, got 4294967296 (line 1, column 27)`},
		{`{"process":{"user":{"uid":1e3}}}`, `process.user.uid: want an integer from 0 to 4294967295, got 1e3 (`},
		{`{"process":{"user":{"uid":1.0}}}`, `got 1.0 (`},
		{`{"process":{"user":{"uid":-0}}}`, `got -0 (`},
		{`{"process":{"user":{"uid":"root"}}}`, `process.user.uid: want an integer from 0 to 4294967295, got "root" (`},
		{`{"process":{"user":{"uid":{}}}}`, `process.user.uid: want an integer from 0 to 4294967295, got an object (`},
		{`{"process":{"oomScoreAdj":9223372036854775808}}`, `process.oomScoreAdj: want an integer from -9223372036854775808 to 9223372036854775807, got 9223372036854775808 (`},
		{`{"process":{"scheduler":{"nice":-2147483649}}}`, `process.scheduler.nice: want an integer from -2147483648 to 2147483647, got -2147483649 (`},
		{`{"linux":{"resources":{"blockIO":{"weightDevice":[{"weight":65536}]}}}}`, `linux.resources.blockIO.weightDevice[0].weight: want an integer from 0 to 65535, got 65536 (`},
		{`{"mounts":[{"options":["ro","rw",3]}]}`, `mounts[0].options[2]: want a string, got 3 (`},
		{`{"mounts":{}}`, `mounts: want an array, got an object (`},
		{`{"linux":{"sysctl":{"net.core.somaxconn":1024}}}`, `linux.sysctl["net.core.somaxconn"]: want a string, got 1024 (`},
		{`{"annotations":{"a":"1","b":"2","a":"3"}}`, `annotations.a: want each name once in an object, got a second "a" (line 1, column 33)`},
		{`{"linux":{"netDevices":{"a":{},"b":{},"a":{}}}}`, `linux.netDevices.a: want each name once in an object, got a second "a" (`},
		{`{"process":{"cwd":"/","cwd":"/"}}`, `process.cwd: want each name once in an object, got a second "cwd" (`},
		{`{"process":{"cwd":"/","\u0063wd":"/"}}`, `process.cwd: want each name once in an object, got a second "cwd" (`},
		{`{"process":null,"process":{}}`, `process: want each name once in an object, got a second "process" (`},
		{`{"x":{"y":[{"z":1,"z":1}]}}`, `x.y[0].z: want each name once in an object, got a second "z" (`},
		{`{"windows":{"a":1,"a":1}}`, `windows.a: want each name once in an object, got a second "a" (`},
		{`{"windows":1,"windows":1}`, `windows: want each name once in an object, got a second "windows" (`},
		{`{"` + strings.Repeat("k", 200) + `":nope}`, `["` + strings.Repeat("k", 64) + `…"]: want a value, got nope (`},
		{`{"":tru}`, `[""]: want a value, got tru (`},
		{`{"root":{"readonly":1}}`, `root.readonly: want true or false, got 1 (`},
		{`{"root":{"readonly":"` + strings.Repeat("é", 80) + `"}}`, `root.readonly: want true or false, got "` + strings.Repeat("é", 64) + `…" (`},
		{`{"root":{"readonly":truth}}`, `root.readonly: want a value, got truth (`},
		{`{"root":[1]}`, `root: want an object, got an array (`},
		{`{"root":{"path":"a"} "hostname":"b"}`, `config.json: want ',' or '}' after a member, got "hostname" (line 1, column 22)`},
		{`{"root":{"path":"a"},}`, `config.json: want a member's name in double quotes, got '}' (`},
		{`{"root":{"path" "a"}}`, `root: want ':' after the member's name "path", got "a" (`},
		{`{"mounts":[{} {}]}`, `mounts: want ',' or ']' after an element, got an object (`},
		{`{"process":{"args":["a",]}}`, `process.args[1]: want a string, got ']' (`},
		{`{'root':1}`, `config.json: want a member's name in double quotes, got '\'' (`},
		{`{"hostname":"a` + "\n" + `b"}`, `hostname: want an escape such as \n for a control character, got byte 0x0a (`},
		{`{"hostname":"a` + "\xff" + `b"}`, `hostname: want UTF-8, got byte 0xff (line 1, column 15)`},
		{`{"a` + "\xc3" + `":1}`, `config.json: want UTF-8, got byte 0xc3 (`},
		{`{"hostname":"\x41"}`, `hostname: want one of " \ / b f n r t u after a backslash, got 'x' (`},
		{`{"hostname":"\u12g4"}`, `hostname: want four hexadecimal digits after \u, got "12g4…" (`},
		{`{"hostname":"\ud83d"}`, `hostname: want both halves of a surrogate pair, got only \ud83d (`},
		{`{"hostname":"\ud83d\u0041"}`, `hostname: want both halves of a surrogate pair, got only \ud83d (`},
		{`{"hostname":"\ude00\ud83d"}`, `hostname: want both halves of a surrogate pair, got only \ude00 (`},
		{`{"hostname":"web`, `hostname: want '"' at the end of a string, got the end of the file (`},
		{`{"hostname":"\`, `hostname: want the rest of an escape, got the end of the file (`},
		{`{"a":01}`, `config.json: want ',' or '}' after a member, got 1 (`},
		{`{"a":-}`, `a: want a number, got - (`},
		{`{"a":1.}`, `a: want a number with digits after its point, got 1. (`},
		{`{"a":1e+}`, `a: want a number with digits in its exponent, got 1e+ (`},
		{`{"a":+1}`, `a: want a value, got '+' (`},
		{`{} {}`, `config.json: want the end of the file after the outermost value, got an object (line 1, column 4)`},
		{"{}\n\n]", `config.json: want the end of the file after the outermost value, got ']' (line 3)`},
		{"{}\x00", `config.json: want the end of the file after the outermost value, got '\x00' (`},
		{``, `config.json: want an object, got the end of the file (line 1, column 1)`},
		{"\ufeff{}", `config.json: want an object, got a byte order mark, which JSON does not have (`},
		{"\xff", `config.json: want an object, got byte 0xff (`},
		{`"spec"`, `config.json: want an object, got "spec" (`},
		{`nil`, `config.json: want a value, got nil (`},
		{`{"a":` + deep + `[` + strings.Repeat("]", 64) + `}`, `: want at most 64 arrays and objects in each other, got one more (`},
	} {
		spec, err := Decode([]byte(test.doc))
		if err == nil || spec != nil {
			t.Errorf("%s: accepted", test.doc)
			continue
		}
		want := strings.TrimPrefix(test.want, "config.json: ")
		if got := err.Error(); !strings.HasPrefix(got, "config.json: ") || !strings.Contains(got, want) {
			t.Errorf("%s\ngot  %s\nwant %s", test.doc, got, test.want)
		}
		agrees(t, []byte(test.doc))
	}
}

func TestErrorFields(t *testing.T) {
	_, err := Decode([]byte("{\n  \"mounts\": [\n    {\"options\": [\"ro\", true]}\n  ]\n}"))
	var got *Error
	if !errors.As(err, &got) {
		t.Fatal(err)
	}
	want := &Error{File: "config.json", Path: "mounts[0].options[1]", Offset: 39, Line: 3, Col: 24, Want: "a string", Got: "true"}
	if *got != *want {
		t.Errorf("got %#v, want %#v", got, want)
	}
}

func TestLimits(t *testing.T) {
	deep := func(n int) []byte {
		return []byte(`{"x":` + strings.Repeat(`[`, n-1) + strings.Repeat(`]`, n-1) + `}`)
	}
	if _, err := Decode(deep(MaxDepth)); err != nil {
		t.Error(err)
	}
	if _, err := Decode(deep(MaxDepth + 1)); err == nil {
		t.Errorf("%d levels were accepted", MaxDepth+1)
	}

	items := func(n int) []byte {
		return []byte(`{"linux":{"maskedPaths":[null` + strings.Repeat(`,null`, n-3) + `]}}`)
	}
	spec, err := Decode(items(MaxItems))
	if err != nil || len(spec.Linux.MaskedPaths) != MaxItems-2 {
		t.Error(err)
	}
	_, err = Decode(items(MaxItems + 1))
	if err == nil || !strings.Contains(err.Error(), "linux.maskedPaths[1048574]: want at most 1048576 array elements and object members, got one more") {
		t.Error(err)
	}

	long := make([]byte, MaxSize+1) // zeros, which no system has to keep in memory
	copy(long, "{}")
	if _, err := Decode(long[:MaxSize]); err == nil || !strings.Contains(err.Error(), `got '\x00' (line 1, column 3)`) {
		t.Error(err)
	}
	if _, err := Decode(long); err == nil || err.Error() != "config.json: want at most 100000000 bytes, got 100000001 bytes" {
		t.Error(err)
	}
}

// TestManyUnknown checks that objects full of unknown names neither take
// time that grows with the square of their number nor hide a repeated name.
func TestManyUnknown(t *testing.T) {
	var doc strings.Builder
	doc.WriteString(`{"x":{`)
	const n = 200_000
	for i := range n {
		fmt.Fprintf(&doc, `"%d":0,`, i)
	}
	good := doc.String() + `"end":0}}`
	if _, err := Decode([]byte(good)); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"0", "15", "16", "17", "199999"} {
		_, err := Decode([]byte(doc.String() + `"` + name + `":0}}`))
		if err == nil || !strings.Contains(err.Error(), `got a second "`+name+`"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeDoesNotKeepData(t *testing.T) {
	data := []byte(`{"hostname":"web","process":{"args":["sh"]}}`)
	spec, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	if spec.Hostname != "web" || spec.Process.Args[0] != "sh" {
		t.Errorf("changed with its data: %q %q", spec.Hostname, spec.Process.Args)
	}
}

// TestAppend checks that arrays which lie side by side in memory do not grow into
// each other.
func TestAppend(t *testing.T) {
	data := configs(t)["docker-default.json"]
	spec, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	p := spec.Process
	for _, list := range [][]string{p.Args, p.Env, p.Capabilities.Bounding, spec.Mounts[0].Options, spec.Mounts[1].Options, spec.Linux.MaskedPaths} {
		_ = append(list, "more")
	}
	_ = append(spec.Mounts, specs.Mount{Source: "more"})
	_ = append(spec.Linux.Namespaces, specs.LinuxNamespace{Path: "more"})
	again, err := Decode(data)
	if err != nil || !reflect.DeepEqual(spec, again) {
		t.Errorf("append changed a neighbour: %s", asJSON(spec))
	}
}

func TestDecodeProcess(t *testing.T) {
	p, err := DecodeProcess([]byte(`{"args":["id"],"cwd":"/","user":{"uid":5}}`))
	want := &specs.Process{Args: []string{"id"}, Cwd: "/", User: specs.User{UID: 5}}
	if err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("got %s, %v", asJSON(p), err)
	}
	_, err = DecodeProcess([]byte(`{"cwd":7}`))
	if err == nil || err.Error() != "process.json: cwd: want a string, got 7 (line 1, column 8)" {
		t.Error(err)
	}
}

func TestDecodeResources(t *testing.T) {
	r, err := DecodeResources([]byte(`{"pids":{"limit":-1}}`))
	limit := int64(-1)
	want := &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &limit}}
	if err != nil || !reflect.DeepEqual(r, want) {
		t.Errorf("got %s, %v", asJSON(r), err)
	}
	_, err = DecodeResources([]byte(`{"pids":[]}`))
	if err == nil || err.Error() != "resources.json: pids: want an object, got an array (line 1, column 9)" {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, data := range configs(f) {
		f.Add(data)
	}
	for _, doc := range []string{
		``, `null`, `{}`, `{"a":1,"a":2}`, `{"A":{"a":[{}]}}`, `{"process":{"user":{"uid":-0}}}`,
		`{"hostname":"\ud83d\ude00\u0000\\u"}`, "{\"hostname\":\"\xff\"}", `{"Process":{"cwd":1}}`,
		`{"linux":{"resources":{"blockIO":{"throttleReadBpsDevice":[{"major":1,"minor":2,"rate":3}]}}}}`,
		sound,
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		agrees(t, data)
		if spec, err := Decode(data); err == nil {
			_, err = Validate(spec)
			checkErrors(t, err)
		}
	})
}
