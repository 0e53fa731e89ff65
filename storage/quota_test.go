package storage

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// TestQuota: what a container may write is bounded where the file system can, and elsewhere it is an error that says what
// to do, which leaves nothing.
func TestQuota(t *testing.T) {
	nstest.Root(t)
	s := open(t)
	v := view(t, s, put(t, s, tarsOf(t, [][]ent{busybox(t)})), "c")
	var none *NoQuotaError
	if _, err := v.NewUpper(Upper{ID: "c", Size: 1 << 20}); !errors.As(err, &none) {
		t.Errorf("on the tests' disk: %v", err)
	}
	if _, err := s.upperPath("c"); err == nil {
		t.Error("there is a directory without the limit that was asked for")
	}

	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 64<<20); err != nil {
		t.Fatal(err)
	}
	mount := "mkfs.ext4 -q -O project,quota -E quotatype=prjquota " + image + " && mount -o loop,prjquota " + image + " " + dir
	if out, err := exec.Command("sh", "-c", mount).CombinedOutput(); err != nil {
		t.Logf("not tried: this machine mounts no ext4 with project quotas: %s", out)
		return
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	s = openIn(t, dir)
	v = view(t, s, put(t, s, tarsOf(t, [][]ent{busybox(t)})), "c")
	b := box{view: v, upper: Upper{ID: "c", Size: 1 << 20}}
	if got := b.run(t, "cat /bin/busybox /bin/busybox >/big 2>/dev/null || echo full; rm /big; echo small >/small; cat /small"); got != "full\nsmall\n" {
		t.Errorf("%q", got)
	}
	if err := s.RemoveUpper("c"); err != nil {
		t.Error(err)
	}
}
