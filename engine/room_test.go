package engine

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
)

// TestFewFiles: who may open few files is told so before anything is done. Where they ran out halfway there was a trace of Go's, a container that a commit
// had paused stayed so, and one that runs was taken for one that has ended.
func TestFewFiles(t *testing.T) {
	nstest.Root(t)
	e := openAt(t, "/run/kakuri")
	output(t, kakuri(t, "run", "-d", "--name", "few", "--network", "none", "--rootfs", nstest.RootFS(t), "sleep", "1000"))
	defer e.Remove(t.Context(), "few", RemoveOptions{Force: true})
	for n := 5; n < room; n += 4 { // with less the shell's programs do not run
		for _, line := range []string{"commit few", "container prune -f", "rm few", "restart -t 0 few", "kill few", "network create few", "import /etc/passwd", "load -i /etc/passwd"} {
			out, err := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d; exec timeout 20 "$0" %s`, n, line), nstest.Binary(t, "kakuri")).CombinedOutput()
			if text := string(out); err == nil || !strings.Contains(text, "ulimit -n") || strings.Count(text, "\n") != 1 {
				t.Errorf("%d files, %s: %v: %s", n, line, err, out)
			}
		}
		if c := found(t, e, "few"); c.Status != monitor.Running || e.paused(c.ID) {
			t.Fatalf("%d files: it is %s, paused: %t", n, c.Status, e.paused(c.ID))
		}
	}
}

// TestStartAfterHalfAStart: what a start could not take away again, as where no file could be opened any more, does not stand in the way of the next one.
func TestStartAfterHalfAStart(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	c, err := e.Create(ctx, Config{Rootfs: nstest.RootFS(t), Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Remove(ctx, c.ID, RemoveOptions{Force: true})
	if err := os.MkdirAll(e.runtime().Root+"/"+c.ID, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(ctx, c.ID, StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if x, err := e.Wait(ctx, c.ID, NotRunning); err != nil || x.Code != 0 {
		t.Errorf("%+v, %v", x, err)
	}
}
