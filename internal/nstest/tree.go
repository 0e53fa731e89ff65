package nstest

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Unchanged fails the test when a directory is another at its end.
func Unchanged(t testing.TB, dir string) {
	t.Helper()
	before := Tree(t, dir)
	t.Cleanup(func() {
		if after := Tree(t, dir); after != before {
			t.Errorf("the host's %s changed:\n%safter it was\n%s", dir, after, before)
		}
	})
}

// Tree lists what is in a directory, a line for each: path, permissions, owner, links, time and content, or a hash of it.
func Tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		text := ""
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if text = string(data); len(data) > 200 {
				text = fmt.Sprintf("%x", sha256.Sum256(data))
			}
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %v %d:%d %d %d %q\n", p, info.Mode(), st.Uid, st.Gid, st.Nlink, info.ModTime().UnixNano(), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
