package sandbox

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNoSignals: who may not raise the limit of signals that wait is told of it, and does not wait for what never comes.
func TestNoSignals(t *testing.T) {
	const child = "KAKURI_TEST_NO_SIGNALS"
	if os.Getenv(child) != "" {
		if err := unix.Setrlimit(unix.RLIMIT_SIGPENDING, &unix.Rlimit{}); err != nil {
			t.Fatal(err)
		}
		t.Fatal(keepCaps(^uint64(0)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // a world that was stopped has no time limit of its own
	defer cancel()
	c := exec.CommandContext(ctx, "/proc/self/exe", "-test.run=^TestNoSignals$")
	c.Env = append(os.Environ(), child+"=1")
	out, _ := c.CombinedOutput()
	var raised unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_SIGPENDING, &raised); err != nil {
		t.Fatal(err)
	}
	if unix.Setrlimit(unix.RLIMIT_SIGPENDING, &unix.Rlimit{Cur: raised.Cur, Max: raised.Max + 1}) == nil {
		return // CAP_SYS_RESOURCE raises it
	}
	if !strings.Contains(string(out), "RLIMIT_SIGPENDING") || !strings.Contains(string(out), "ulimit -i") {
		t.Errorf("%s", out)
	}
}
