package hostile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A Canary is a directory that nothing may touch.
type Canary struct {
	Dir    string
	before string
}

// NewCanary makes a canary in a directory of the host that ends with the test.
func NewCanary(t testing.TB) *Canary {
	t.Helper()
	dir, err := os.MkdirTemp("", "canary")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range []string{"secret", "sub/deep", "victim"} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte("canary: "+name+"\n"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	c := &Canary{Dir: dir}
	c.before = c.read()
	return c
}

// Check fails the test when anything in the directory is not as it was: names, contents,
// types, permissions, owners, numbers of links, times.
func (c *Canary) Check(t testing.TB) {
	t.Helper()
	if now := c.read(); now != c.before {
		t.Errorf("the canary's directory was touched: it was\n%sand is\n%s", c.before, now)
		c.before = now
	}
}

func (c *Canary) read() string {
	var b strings.Builder
	filepath.WalkDir(c.Dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintln(&b, p, err)
			return nil
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(p, &st); err != nil {
			fmt.Fprintln(&b, p, err)
			return nil
		}
		content := ""
		if e.Type().IsRegular() {
			text, _ := os.ReadFile(p)
			content = string(text)
		}
		fmt.Fprintf(&b, "%s mode %o owner %d:%d links %d time %d.%09d %q\n", p, st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim.Sec, st.Mtim.Nsec, content)
		return nil
	})
	return b.String()
}
