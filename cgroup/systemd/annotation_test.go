package systemd

import (
	"reflect"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/internal/dbus"
)

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
		{"SomePath", "objectpath '/a'", dbus.ObjectPath("/a"), ""},
		{"", "true", nil, ""}, {"ab", "true", nil, ""}, {"A1B", "true", nil, ""}, {"äöü", "true", nil, ""}, {"ššš", "true", nil, ""}, {"TimeoutStopSec", "-1", nil, ""},
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
		got, err := slicePath(in)
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
	if err := (&Unit{}).Attach(1, "a/../../b"); err == nil || !strings.Contains(err.Error(), "bad sub cgroup path") {
		t.Error(err)
	}
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
		if dbus.SignatureOf(v) == "" {
			t.Fatalf("%q gives a %T, which D-Bus has not", text, v)
		}
		_, err = (&dbus.Message{Body: []any{dbus.Variant{Value: v}}}).Encode()
		if err != nil && !strings.Contains(text, `\`) && !strings.Contains(text, "\x00") {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
