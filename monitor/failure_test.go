package monitor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/oci"
)

// TestExecPaused: of a container that is paused while a process is on its way into it is told as of one that was before, and not in the words of another program's flags.
func TestExecPaused(t *testing.T) {
	f := ExecFailure(fmt.Errorf("exec: %w", oci.ErrPaused))
	if f.Code != 1 || strings.Contains(f.Text, "--ignore-paused") || !strings.Contains(f.Text, "unpause it before exec") {
		t.Errorf("%+v", f)
	}
}
