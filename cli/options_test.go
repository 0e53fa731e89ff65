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
