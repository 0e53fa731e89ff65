package cli

import (
	"maps"
	"slices"
	"testing"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/pflag"
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

// Of several limits of one resource the last one counts, however its name is written: config.json has each once.
func TestUlimitTwice(t *testing.T) {
	var f runFlags
	s := pflag.NewFlagSet("run", pflag.ContinueOnError)
	f.process(s)
	if err := s.Parse([]string{"--ulimit", "nproc=5", "--ulimit", "nofile=7", "--ulimit", "NPROC=100:200"}); err != nil {
		t.Fatal(err)
	}
	if want := []engine.Ulimit{{Name: "nofile", Soft: 7, Hard: 7}, {Name: "nproc", Soft: 100, Hard: 200}}; !slices.Equal(f.run.Ulimits, want) {
		t.Errorf("%v, want %v", f.run.Ulimits, want)
	}
}
