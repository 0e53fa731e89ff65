package origlimit_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/kakuri/kakuri/internal/origlimit"
)

// TestNoFile runs itself with a limit set by a shell, which the Go runtime of
// that process raises before its tests run.
func TestNoFile(t *testing.T) {
	if os.Getenv("ORIGLIMIT_CHILD") != "" {
		if soft, hard := origlimit.NoFile(); soft != 321 || hard != 4321 {
			t.Errorf("limits %d %d, started with 321 4321", soft, hard)
		}
		return
	}
	cmd := exec.Command("sh", "-c", `ulimit -Sn 321; ulimit -Hn 4321; exec "$0" -test.run=TestNoFile`, os.Args[0])
	cmd.Env = append(os.Environ(), "ORIGLIMIT_CHILD=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
