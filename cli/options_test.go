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

// Numbers of processors and of bytes are read as Docker reads them: one is a rational number, the other a decimal one with an exponent or without.
func TestNumbers(t *testing.T) {
	const none = -1
	for text, want := range map[string]int64{
		"1.5": 15e8, ".5": 5e8, "1.": 1e9, "2": 2e9, "+1": 1e9, "0": 0, "0.000000001": 1, "1e0": 1e9, "15e-1": 15e8, "1/2": 5e8, "0x1": 1e9,
		"": none, "1/3": none, "0.0000000001": none, "-1": none, "1/0": none, "1.-5": none, "inf": none, "NaN": none, "1e99999": none, "1e999999999": none,
	} {
		if n, err := parseCPUs(text); n != max(want, 0) || (err == nil) != (want != none) {
			t.Errorf("--cpus %s: %d, %v, want %d", text, n, err, want)
		}
	}
	for text, want := range map[string]int64{
		"64m": 64 << 20, "1.5g": 3 << 29, "8e3m": 8000 << 20, "8E3mib": 8000 << 20, "8e6": 8e6, "16e6b": 16e6, "5e-1k": 512, "16 m": 16 << 20, "9223372036854775807": 1<<63 - 1,
		"": none, "k": none, "-1": none, "-1k": none, "-1e3": none, "8e": none, "inf": none, "nan": none, "0x10": none, "1e400": none, "1e19": none, "8192p": none,
	} {
		if n, err := parseSize(text); n != max(want, 0) || (err == nil) != (want != none) {
			t.Errorf("-m %s: %d, %v, want %d", text, n, err, want)
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
