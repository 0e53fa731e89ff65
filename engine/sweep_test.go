package engine

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

func TestSweepDue(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	now := time.Now().Truncate(time.Second) // as a file system may keep it
	for _, c := range []struct {
		at   time.Duration
		want bool
	}{{0, true}, {0, false}, {sweepPause - time.Millisecond, false}, {sweepPause, true}, {sweepPause + time.Millisecond, false}, {-time.Hour, true}, {-time.Hour, false}} {
		if got := e.sweepDue(now.Add(c.at)); got != c.want {
			t.Errorf("at %v: %v, want %v", c.at, got, c.want)
		}
	}
}

// TestDetachedStartSweeps has a start that nobody stays for find a container that has lost its monitor.
func TestDetachedStartSweeps(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	var ids []string
	start := func() string {
		t.Helper()
		res, err := e.Run(context.Background(), sh(root, "sleep 1000"), Streams{}, RunOptions{Detach: true})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, res.ID)
		return res.ID
	}
	defer func() {
		for _, id := range ids {
			if err := e.Remove(context.Background(), id, RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		}
	}()
	first := start()
	killMonitor(t, e, found(t, e, first))
	long := time.Now().Add(-2 * sweepPause)
	if err := os.Chtimes(e.data+"/lock", long, long); err != nil {
		t.Fatal(err)
	}
	start()
	nstest.Until(t, "another monitor", func() bool { return monitor.Attended(e.dir, first) })
	var now unix.Stat_t
	if err := unix.Stat(e.data+"/lock", &now); err != nil || time.Unix(now.Mtim.Unix()).Equal(long) {
		t.Errorf("the start has not noted that it looked: %v", err)
	}
}
