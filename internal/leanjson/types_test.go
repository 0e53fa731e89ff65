package leanjson

import (
	"reflect"
	"strings"
	"testing"
)

type Inner struct {
	A int
	B string `json:"b"`
}

type Other struct{ A, C int }

// TestDominant: a field that hides an embedded one, as in an image's config, is no reason to leave the struct to encoding/json.
func TestDominant(t *testing.T) {
	type hides struct {
		Inner
		A string
	}
	type both struct {
		Inner
		Other
	}
	type top struct {
		Inner
		Other
		A int
	}
	for _, test := range []struct {
		of    any
		names string
		known bool
	}{{Inner{}, "A b", true}, {hides{}, "b A", true}, {both{}, "", false}, {top{}, "b C A", true}} {
		k := kindOf(reflect.TypeOf(test.of))
		var names []string
		for _, f := range k.fields {
			names = append(names, f.name)
		}
		if got := strings.Join(names, " "); k.known != test.known || k.known && got != test.names {
			t.Errorf("%T: %v %q, want %v %q", test.of, k.known, got, test.known, test.names)
		}
	}
}
