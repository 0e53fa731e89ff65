package systemd

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/cgroup/limits"
)

// TestHello pins the bytes of a message that every bus takes.
func TestHello(t *testing.T) {
	m := &message{kind: kindCall, serial: 1, destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", iface: "org.freedesktop.DBus", member: "Hello"}
	got, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	want := "l\x01\x00\x01" + "\x00\x00\x00\x00" + "\x01\x00\x00\x00" + "\x6e\x00\x00\x00" +
		"\x01\x01o\x00\x15\x00\x00\x00/org/freedesktop/DBus\x00\x00\x00" +
		"\x02\x01s\x00\x14\x00\x00\x00org.freedesktop.DBus\x00\x00\x00\x00" +
		"\x03\x01s\x00\x05\x00\x00\x00Hello\x00\x00\x00" +
		"\x06\x01s\x00\x14\x00\x00\x00org.freedesktop.DBus\x00\x00\x00\x00"
	// The length of the fields leaves out what aligns the body.
	want = want[:12] + string(binary.LittleEndian.AppendUint32(nil, uint32(len(want)-16-3))) + want[16:]
	if string(got) != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	m := &message{
		kind: kindReturn, serial: 7, reply: 6, sender: ":1.2", path: "/a", iface: "b.c", member: "d", errorName: "e.f", destination: "g.h",
		body: []any{
			"text", byte(1), true, int16(-2), uint16(3), int32(-4), uint32(5), int64(-6), uint64(7), 1.5, objectPath("/x"), signature("a(sv)"),
			[]byte{1, 2}, []uint32{3, 4}, []string{"x", ""}, [][2]string{{"p", "q"}}, []bool{true, false}, []int64{-1}, []float64{0.5},
			properties{{"A", uint64(1)}, {"B", []string{"z"}}}, auxiliary{}, variant{[][2]string{}}, "end",
		},
	}
	data, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	want := *m
	want.body = []any{
		"text", byte(1), true, int16(-2), uint16(3), int32(-4), uint32(5), int64(-6), uint64(7), 1.5, objectPath("/x"), signature("a(sv)"),
		[]any{byte(1), byte(2)}, []any{uint32(3), uint32(4)}, []any{"x", ""}, []any{[]any{"p", "q"}}, []any{true, false}, []any{int64(-1)}, []any{0.5},
		[]any{[]any{"A", variant{uint64(1)}}, []any{"B", variant{[]any{"z"}}}}, []any{}, variant{[]any{}}, "end",
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v\nwant\n%+v", *got, want)
	}
	for n := range data {
		if _, err := decode(data[:n]); err == nil {
			t.Errorf("the first %d bytes of %d are taken for the whole", n, len(data))
		}
	}
	for _, bad := range []any{struct{}{}, "a\x00b", variant{struct{}{}}, uint(1)} {
		if _, err := (&message{body: []any{bad}}).encode(); err == nil {
			t.Errorf("%#v is encoded", bad)
		}
	}
}

func TestAnnotations(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       any // nil for an error
		as         string
	}{
		{"TimeoutStopUSec", "uint64 123456789", uint64(123456789), ""},
		{"TimeoutStopSec", "5", uint64(5000000), "TimeoutStopUSec"},
		{"TimeoutStopSec", "0.5", uint64(500000), "TimeoutStopUSec"},
		{"TimeoutStopSec", "'5'", nil, ""},
		{"CollectMode", "'inactive-or-failed'", "inactive-or-failed", ""},
		{"DefaultDependencies", "true", true, ""},
		{"Before", "['a.service', \"b.service\"]", []string{"a.service", "b.service"}, ""},
		{"After", "@as []", []string{}, ""},
		{"TasksMax", "@t 5", uint64(5), ""},
		{"SomeByte", "byte 0x7f", byte(127), ""},
		{"SomeNumber", "-3", int32(-3), ""},
		{"SomeFloat", "1e3", 1000.0, ""},
		{"SomeMask", "@ay [1, 0xff]", []byte{1, 255}, ""},
		{"SomeList", "[uint32 1, 2]", []uint32{1, 2}, ""},
		{"SomeText", `"a\n\u00e9\"'"`, "a\né\"'", ""},
		{"SomePath", "objectpath '/a'", objectPath("/a"), ""},
		{"", "true", nil, ""}, {"ab", "true", nil, ""}, {"A1B", "true", nil, ""}, {"äöü", "true", nil, ""},
		{"Abc", "", nil, ""}, {"Abc", "word", nil, ""}, {"Abc", "'open", nil, ""}, {"Abc", "[1, 'a']", nil, ""}, {"Abc", "[]", nil, ""}, {"Abc", "[1", nil, ""},
		{"Abc", "byte 256", nil, ""}, {"Abc", "1 2", nil, ""}, {"Abc", "(1, 2)", nil, ""}, {"Abc", "@", nil, ""}, {"Abc", "uint32 'a'", nil, ""}, {"Abc", "'\\", nil, ""}, {"Abc", "'\\u12'", nil, ""},
	} {
		list, err := Annotations(map[string]string{annotationPrefix + test.name: test.text, "other": "x"})
		if test.want == nil {
			if err == nil || !strings.Contains(err.Error(), "config.json annotations[") {
				t.Errorf("%s=%s: %v %v", test.name, test.text, list, err)
			}
			continue
		}
		as := test.as
		if as == "" {
			as = test.name
		}
		if err != nil || !reflect.DeepEqual(list, []limits.Property{{Name: as, Value: test.want}}) {
			t.Errorf("%s=%s: %#v %v, want %s %#v", test.name, test.text, list, err, as, test.want)
		}
	}
}

func TestSlicePath(t *testing.T) {
	for in, want := range map[string]string{
		"-.slice": "/", "test.slice": "/test.slice", "test-a-b.slice": "/test.slice/test-a.slice/test-a-b.slice",
		"": "", ".slice": "", "test": "", "test--a.slice": "", "-test.slice": "", "te/st.slice": "", "../x.slice": "",
	} {
		got, err := SlicePath(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
}

func TestVersion(t *testing.T) {
	for in, want := range map[string]int{"252.38-1~deb12u1": 252, "v245.4-1.fc32": 245, `"v245.4"`: 245, "241": 241, "": 0, "x": 0} {
		if got, err := parseVersion(in); got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d %v", in, got, err)
		}
	}
}

func TestUnixAddresses(t *testing.T) {
	got := unixAddresses("tcp:host=a;unix:path=/run/a%20b,guid=12;unix:abstract=/tmp/x;unix:tmpdir=/tmp")
	if want := []string{"/run/a b", "@/tmp/x"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestUnitNames(t *testing.T) {
	b := &Bus{}
	for _, test := range []struct{ in, name, path string }{
		{"", "kakuri-id.scope", "/system.slice/kakuri-id.scope"},
		{"machine.slice:libpod:abc", "libpod-abc.scope", "/machine.slice/libpod-abc.scope"},
		{"a-b.slice:p:n", "p-n.scope", "/a.slice/a-b.slice/p-n.scope"},
		{":docker:abc", "docker-abc.scope", "/system.slice/docker-abc.scope"},
		{"system.slice::pod-x.slice", "pod-x.slice", "/pod.slice/pod-x.slice"},
		{"system.slice:docker", "", ""}, {"/a/b", "", ""}, {"a:b:c:d", "", ""}, {"a:b:c", "", ""}, {"system.slice:a:", "", ""}, {"system.slice:a:b/c", "", ""},
	} {
		u, err := b.Unit(Options{Path: test.in, ID: "id"})
		if test.name == "" {
			if err == nil || !strings.Contains(err.Error(), "linux.cgroupsPath") {
				t.Errorf("%q: %v %v", test.in, u, err)
			}
			continue
		}
		if err != nil || u.Name() != test.name || u.Path() != test.path {
			t.Errorf("%q: %+v %v, want %s %s", test.in, u, err, test.name, test.path)
		}
	}
}

// FuzzDecode: what a socket sends is read to an end or refused.
func FuzzDecode(f *testing.F) {
	m := &message{kind: kindSignal, serial: 1, path: "/a", iface: "b.c", member: "D", body: []any{uint32(1), objectPath("/x"), "s", properties{{"A", uint64(1)}}}}
	data, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(bytes.Replace(data, []byte("uosa(sv)"), []byte("aaaaaaau"), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := length(data)
		if err == nil && n > most {
			t.Fatalf("length %d", n)
		}
		if m, err := decode(data); err == nil && m == nil {
			t.Fatal("neither a message nor an error")
		}
	})
}

func FuzzVariant(f *testing.F) {
	for _, s := range []string{"uint64 1", "['a', 'b']", "@au [1]", "'\\u00e9'", "-1.5e3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := parseVariant(text)
		if err != nil {
			return
		}
		if sigOf(v) == "" {
			t.Fatalf("%q gives a %T, which D-Bus has not", text, v)
		}
		e := encoder{}
		if e.value(variant{v}); e.err != nil && !strings.Contains(text, `\`) && !strings.Contains(text, "\x00") {
			t.Fatalf("%q: %v", text, e.err)
		}
	})
}
