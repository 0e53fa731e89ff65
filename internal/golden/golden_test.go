package golden

import (
	"fmt"
	"os"
	"testing"
)

func TestDiff(t *testing.T) {
	for _, x := range []struct{ a, b, want string }{
		{"a\nb\nc", "a\nx\nc\nd", "- b\n+ x\n+ d\n"},
		{"a\nb", "a\nb", ""},
		{"a\nb\na\nb", "a\nb", "- a\n- b\n"},
		{"", "a", "- \n+ a\n"},
	} {
		if got := Diff(x.a, x.b); got != x.want {
			t.Errorf("%q to %q: got %q, want %q", x.a, x.b, got, x.want)
		}
	}
}

// judge notes what Check says of a test.
type judge struct {
	testing.TB
	failed string
}

func (*judge) Helper() {}

func (j *judge) Errorf(format string, args ...any) { j.failed = fmt.Sprintf(format, args...) }

func TestCheck(t *testing.T) {
	defer func(was bool) { *Update = was }(*Update)
	file := t.TempDir() + "/new/text.txt"
	*Update = true
	Check(t, file, "a\nb\n")
	*Update = false
	Check(t, file, "a\nb\n")
	j := &judge{TB: t}
	if Check(j, file, "a\nc\n"); j.failed != file+" differs (read it, then -update):\n- b\n+ c\n" {
		t.Errorf("of another text it says %q", j.failed)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "a\nb\n" {
		t.Errorf("without -update the file is %q, %v", data, err)
	}
}
