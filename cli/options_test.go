package cli

import (
	"maps"
	"testing"
)

// An option of a driver may have no value, as with Docker; a name it has.
func TestDriverOptions(t *testing.T) {
	var got map[string]string
	for _, v := range []string{"a=b", "foo", "c=d=e"} {
		if err := options(&got)(v); err != nil {
			t.Error(err)
		}
	}
	if want := map[string]string{"a": "b", "foo": "", "c": "d=e"}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, v := range []string{"", "=b"} {
		if err := options(&got)(v); err == nil {
			t.Errorf("%q is taken", v)
		}
	}
}

// A limit that there is not is found with the flags, whatever the image is.
func TestUlimitNames(t *testing.T) {
	for text, want := range map[string]bool{"nofile=1:2": true, "NPROC=-1": true, "nosuch=1": false, "=1": false, "RLIMIT_CORE=1": false} {
		if _, err := parseUlimit(text); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}
