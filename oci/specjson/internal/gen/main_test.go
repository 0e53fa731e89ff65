package main

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestStale fails when decode_gen.go is not what the types of the runtime-spec
// in go.mod give.
func TestStale(t *testing.T) {
	want, err := generate(reflect.TypeFor[specs.Spec](), dropped, usual)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../decode_gen.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("decode_gen.go is stale: run go generate in oci/specjson")
	}
}

func TestEveryTypeOnce(t *testing.T) {
	source, err := generate(reflect.TypeFor[specs.Spec](), dropped, usual)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Spec", "LinuxIDMapping", "LinuxThrottleDevice", "FreeBSDJailAllow"} {
		if n := bytes.Count(source, []byte("func decode"+name+"(")); n != 1 {
			t.Errorf("%d functions for %s", n, name)
		}
	}
	for _, name := range []string{"Windows", "Solaris", "VM", "ZOS"} {
		if bytes.Contains(source, []byte("func decode"+name)) {
			t.Errorf("%s is decoded", name)
		}
	}
}

// TestRefused checks that what specjson could only read wrongly is noticed.
func TestRefused(t *testing.T) {
	type pair struct {
		A string `json:"a"`
	}
	type inner struct {
		B string `json:"b"`
	}
	for _, test := range []struct {
		root any
		want string
	}{
		{struct {
			X float64 `json:"x"`
		}{}, "no reader for float64"},
		{struct {
			X any `json:"x"`
		}{}, "no reader for interface {}"},
		{struct {
			X [][]string `json:"x"`
		}{}, "no reader for []string"},
		{struct {
			X time.Time `json:"x"`
		}{}, "reads itself"},
		{struct {
			X map[int]string `json:"x"`
		}{}, "keys of type int"},
		{struct {
			X int `json:"x,string"`
		}{}, "option string"},
		{struct{ X int }{}, "without a plain name"},
		{struct {
			X int `json:"-"`
		}{}, "without a plain name"},
		{struct {
			*pair `json:"pair"`
		}{}, "without a plain name"},
		{struct {
			A string `json:"b"`
			inner
		}{}, "a second field called b"},
		{reflect.New(reflect.StructOf(manyFields(65))).Elem().Interface(), "65 fields"},
	} {
		source, err := generate(reflect.TypeOf(test.root), nil, nil)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%T: %v, want %q\n%s", test.root, err, test.want, source)
		}
	}
}

func manyFields(n int) []reflect.StructField {
	fields := make([]reflect.StructField, n)
	for i := range fields {
		name := "F" + strings.Repeat("x", i)
		fields[i] = reflect.StructField{Name: name, Type: reflect.TypeFor[bool](), Tag: reflect.StructTag(`json:"` + name + `"`)}
	}
	return fields
}

// TestRoom checks that no two values of a document can get the same room.
func TestRoom(t *testing.T) {
	for _, name := range []string{"Hook.Timeout", "LinuxSyscall.Args", "Mount.UIDMappings", "Spec.Windows", "Spec.Gone"} {
		_, err := generate(reflect.TypeFor[specs.Spec](), dropped, map[string]int{name: 1})
		if err == nil || !strings.Contains(err.Error(), "no room for "+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
