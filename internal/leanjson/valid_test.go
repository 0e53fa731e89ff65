package leanjson

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzValid: what is JSON is what encoding/json says.
func FuzzValid(f *testing.F) {
	for _, s := range []string{
		``, ` `, `{}`, `[]`, `[1,]`, `{"a":1,}`, `{"a"}`, `{"a":}`, `{a:1}`, `[1 2]`, "\t[ 1 ,\r\n2 ] ", `1`, `-`, `-0`, `01`, `1.`, `.5`, `1.5e`, `1e+`, `1E-05`, `+1`, `1x`, `--1`, `true`, `tru`, `truex`, `nulll`,
		`"`, `"\"`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\ud800"`, "\"\x00\"", "\"\x7f\xff\"", `"a" "b"`, `]`, `[}`, `{]`, `[[[]]`, `[{"a":[null,false,{"b":"c"}]}]`, "\uFEFF1", `"\`, `"\u`,
		strings.Repeat("[", 499) + strings.Repeat("]", 499), strings.Repeat("[", 600) + strings.Repeat("]", 600), strings.Repeat("[", 600), strings.Repeat("[", 10001) + strings.Repeat("]", 10001),
		strings.Repeat(`{"a":`, 600) + "1" + strings.Repeat("}", 600), `[` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `,x]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, want := valid(data), json.Valid(data); got != want {
			t.Errorf("%q: %v, want %v", data, got, want)
		}
	})
}
