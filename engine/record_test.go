package engine

import (
	"context"
	"os"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// TestRecordIsWrittenOnce: a start that finds nothing new of a container does not write its record again, which takes the disk as long as all else.
func TestRecordIsWrittenOnce(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	for name, change := range map[string]func(*Config){
		"default": func(*Config) {}, "privileged": func(c *Config) { c.Privileged = true }, "host's user namespace": func(c *Config) { c.UserNS = "host" },
	} {
		cfg := sh(root, "true")
		change(&cfg)
		c, lock, err := e.create(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		file := func() (f unix.Stat_t) {
			if err := unix.Stat(c.dir+"/container.json", &f); err != nil {
				t.Fatal(err)
			}
			return f
		}
		made := file()
		keep, err := os.Open(c.dir + "/container.json") // so that no other file gets its number
		if err != nil {
			t.Fatal(err)
		}
		b, err := e.prepare(context.Background(), &c)
		if err != nil {
			t.Fatal(err)
		}
		if file().Ino != made.Ino {
			t.Errorf("%s: the start has written what was there: user namespace %v", name, c.UserNS)
		}
		c.Config.Labels = map[string]string{"another": "one"}
		if err := c.writeRecord(); err != nil || file().Ino == made.Ino {
			t.Errorf("%s: what has changed is not written: %v", name, err)
		}
		keep.Close()
		if err := e.giveUpNetworks(b); err != nil {
			t.Error(err)
		}
		if err := e.discard(&c); err != nil {
			t.Error(err)
		}
		lock.Close()
	}
}
