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

// TestNoSignals: who may raise the limit of signals that wait has it raised, and who may not is told of it, and does not wait for what never comes.
func TestNoSignals(t *testing.T) {
	const child = "KAKURI_TEST_NO_SIGNALS"
	if os.Getenv(child) == "" {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // a world that was stopped has no time limit of its own
		defer cancel()
		c := exec.CommandContext(ctx, "/proc/self/exe", "-test.run=^TestNoSignals$")
		c.Env = append(os.Environ(), child+"=1")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	none := unix.Rlimit{}
	if err := unix.Setrlimit(unix.RLIMIT_SIGPENDING, &none); err != nil {
		t.Fatal(err)
	}
	mayRaise := unix.Setrlimit(unix.RLIMIT_SIGPENDING, &unix.Rlimit{Max: 1}) == nil // CAP_SYS_RESOURCE
	if err := unix.Setrlimit(unix.RLIMIT_SIGPENDING, &none); err != nil {
		t.Fatal(err)
	}
	err := keepCaps(^uint64(0))
	if mayRaise {
		var now unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_SIGPENDING, &now); err != nil || now.Cur < mostThreads {
			t.Errorf("the limit is %+v: %v", now, err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "RLIMIT_SIGPENDING") || !strings.Contains(err.Error(), "ulimit -i") {
		t.Error(err)
	}
}
