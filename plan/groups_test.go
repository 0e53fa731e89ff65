package plan

import (
	"strings"
	"testing"
)

// A step, and so an error about it, does not list the 65,536 groups that a process can have.
func TestLongGroups(t *testing.T) {
	op := &Setgroups{Groups: make([]uint32, 70000)}
	if got := op.String(); !strings.HasPrefix(got, "setgroups 0 0 0") || !strings.HasSuffix(got, " 0 and 69968 more") || len(got) > 100 {
		t.Errorf("%d bytes: %.200s", len(got), got)
	}
	if got, want := (&Setgroups{Groups: []uint32{7, 9}}).String(), "setgroups 7 9"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
