package storage

import (
	"errors"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

// TestQuota: where the file system has no project quotas, a limit is an error that says what to do, and leaves nothing. That the limit holds
// where it has them is tried on other kernels, on a disk for that: internal/vm/quota.sh.
func TestQuota(t *testing.T) {
	nstest.Root(t)
	s := open(t)
	v := view(t, s, put(t, s, tarsOf(t, [][]ent{busybox(t)})), "c")
	var none *NoQuotaError
	if _, err := v.NewUpper(Upper{ID: "c", Size: 1 << 20}); !errors.As(err, &none) {
		t.Errorf("on the tests' disk: %v", err)
	} else if !strings.Contains(err.Error(), "prjquota") {
		t.Errorf("it does not say what to do: %v", err)
	}
	if _, err := s.upperPath("c"); err == nil {
		t.Error("there is a directory without the limit that was asked for")
	}
}
