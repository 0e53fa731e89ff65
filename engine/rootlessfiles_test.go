package engine

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

// TestRootlessFiles: an ordinary user's volumes and copies have the ids that the user was given, and they go again.
func TestRootlessFiles(t *testing.T) {
	u := nstest.User(t)
	root := nstest.RootFS(t)
	if err := filepath.Walk(root, func(p string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, u.UID, u.GID)
	}); err != nil {
		t.Fatal(err)
	}
	nstest.Inside(t, nstest.Place{User: u}, func(t *testing.T) {
		e, host, ctx := open(t), nstest.Dir(t), context.Background()
		put(t, host+"/f", "text")
		c := sh(root, "mkdir /data/d; echo x > /data/d/f; chown -R 33:44 /data/d; chmod 700 /data/d")
		c.Mounts = []Mount{vol("db", "/data")}
		want(t, e, c, "")
		made, err := e.Create(ctx, Config{Rootfs: root, Interactive: true, Command: []string{"cat"}, Mounts: c.Mounts})
		if err != nil {
			t.Fatal(err)
		}
		id := made.ID
		for _, runs := range []bool{false, true} {
			if runs {
				if err := e.Start(ctx, id, StartOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.CopyIn(ctx, id, host+"/f", "/data/d", CopyOptions{}); err != nil {
				t.Errorf("running %v: in: %v", runs, err)
			}
			if err := e.CopyOut(ctx, id, "/data/d", host+"/back", CopyOptions{}); err != nil {
				t.Errorf("running %v: out: %v", runs, err)
			}
			has(t, host+"/back/f", "text")
			var b bytes.Buffer
			if err := e.CopyFrom(ctx, id, "/data/d", &b, false); err != nil {
				t.Errorf("running %v: from: %v", runs, err)
			}
			if err := e.CopyTo(ctx, id, "/tmp", &b, CopyToOptions{Archive: true}); err != nil {
				t.Errorf("running %v: to: %v", runs, err)
			}
			if s, err := e.StatPath(ctx, id, "/tmp/d"); err != nil || !s.Mode.IsDir() {
				t.Errorf("running %v: stat %+v, %v", runs, s, err)
			}
			os.RemoveAll(host + "/back")
		}
		var b bytes.Buffer
		if err := e.VolumeExport(ctx, "db", &b); err != nil {
			t.Errorf("export: %v", err)
		}
		if _, err := e.VolumeCreate(ctx, VolumeConfig{Name: "two"}); err != nil {
			t.Fatal(err)
		}
		if _, err := e.VolumeImport(ctx, "two", &b); err != nil {
			t.Errorf("import: %v", err)
		}
		c = sh(root, "stat -c '%u:%g %a' /data/d; rm -rf /tmp/d")
		c.Mounts = []Mount{vol("two", "/data")}
		want(t, e, c, "33:44 700\n")
		if err := e.Remove(ctx, id, RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"db", "two"} {
			if err := e.VolumeRemove(ctx, name, false); err != nil {
				t.Errorf("remove: %v", err)
			}
		}
	})
}
