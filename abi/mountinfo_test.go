package abi_test

import (
	"testing"

	"github.com/kakuri/kakuri/abi"
)

func TestUnescapeMount(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "",
		"/plain":                  "/plain",
		`/a\040b\011c\012d\134e`:  "/a b\tc\nd\\e",
		`\040`:                    " ",
		`/\134040`:                `/\040`, // not undone twice
		`/\303\251`:               "/é",
		`/short\04`:               `/short\04`,
		`/no\9\04 \400 \+10 \-10`: `/no\9\04 \400 \+10 \-10`, // none of the kernel's
	} {
		if got := abi.UnescapeMount(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
