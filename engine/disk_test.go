package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// smallDisk mounts a tmpfs of so many KiB and files for an engine's records.
func smallDisk(t testing.TB, kib, files int) *Engine {
	t.Helper()
	dir := nstest.Dir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dk,nr_inodes=%d,mode=700", kib, files)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	e := openAt(t, dir)
	if err := e.mkdirs(); err != nil {
		t.Fatal(err)
	}
	return e
}

// fill writes a file until the disk is full, but for some bytes.
func fill(t testing.TB, dir string, free int64) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, "full")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := bytes.Repeat([]byte{1}, 4096)
	n := int64(0)
	for {
		wrote, err := f.Write(block)
		if n += int64(wrote); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(max(0, n-free)); err != nil {
		t.Fatal(err)
	}
	return func() { os.Remove(name) }
}

// A full disk refuses a run in words, and leaves nothing of it; those that run already go on,
// and are listed.
func TestFullDisk(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	e := smallDisk(t, 256, 100)
	stop, c := running(t, e, Config{Name: "before", Rootfs: root, Command: []string{"sleep", "1000"}})
	defer stop()
	empty := fill(t, e.dir, 0)
	before := nstest.Take(e.dir)
	refused(t, e, sh(root, "true"), 125, "no space left on device")
	nothingSince(t, before, "full disk")
	if list, err := e.List(ListOptions{}); err != nil || len(list) != 1 || list[0].ID != c.ID {
		t.Errorf("%v: %+v", err, list)
	}
	if _, p, err := e.Plan("before"); err != nil || len(p.Steps) == 0 {
		t.Errorf("%v: %d steps", err, len(p.Steps))
	}
	// No room for another engine's answer of the kernel, which it asks for again.
	openAt(t, e.dir)
	openAt(t, filepath.Join(e.dir, "other"))
	empty()
	want(t, e, sh(root, "echo works"), "works\n")
}

// No more files can be made.
func TestNoMoreFiles(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	e := smallDisk(t, 4096, 12) // the directories, the lock, one for the kernel's answer
	for range 5 {
		if f, err := os.CreateTemp(e.dir, ""); err == nil {
			f.Close()
		}
	}
	before := nstest.Take(e.dir)
	refused(t, e, sh(root, "true"), 125, "no space left on device")
	nothingSince(t, before, "no files")
}

// Output of a container that cannot be written is an error, and no less so in the middle.
func TestFullDiskForOutput(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	nstest.NoLeaks(t, e.dir)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for line, s := range map[string]Streams{"echo one": {Out: full}, "yes": {Out: full}, "echo two >&2": {Err: full}} {
		_, err := e.Run(context.Background(), sh(root, line), s, RunOptions{})
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != 125 || !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(err.Error(), "standard ") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// Many commands find what killed ones left at the same time: each works, and nothing is done twice.
func TestSweepTogether(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	output(t, kakuri(t, "run", "--rootfs", root, "true"))
	before := recordsNow(t)
	for range 3 {
		for range 4 {
			c, _ := runningFor(t, "--pid", "host", "--rootfs", root)
			c.Process.Kill()
			c.Wait()
		}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				args := []string{"ps", "-q"}
				if i%2 == 0 {
					args = []string{"run", "--rootfs", root, "true"}
				}
				if out, err := kakuri(t, args...).CombinedOutput(); err != nil || (i%2 == 0 && len(out) > 0) {
					t.Errorf("%v: %v: %s", args, err, out)
				}
			})
		}
		all.Wait()
		nothingLeft(t, before, "together")
	}
}

// Several commands want the same name: one runs, and the others are told.
func TestSameNameTogether(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	output(t, kakuri(t, "run", "--rootfs", root, "true"))
	before := recordsNow(t)
	hold, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	won, told := 0, 0
	for range 6 {
		all.Go(func() {
			c := exec.Command("timeout", "60", nstest.Binary(t, "kakuri"), "run", "--rm", "-i", "--name", "same", "--rootfs", root, "cat")
			c.Stdin = hold
			out, err := c.CombinedOutput()
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && len(out) == 0:
				won++
			case c.ProcessState.ExitCode() == 125 && strings.Contains(string(out), `The container name "/same" is already in use by container`):
				told++
			default:
				t.Errorf("%v: %s", err, out)
			}
			if told == 5 {
				release.Close() // only the one that runs is left
			}
		})
	}
	all.Wait()
	hold.Close()
	if won != 1 || told != 5 {
		t.Errorf("%d ran, %d were told", won, told)
	}
	nothingLeft(t, before, "same name")
}

// How a container ended is known on a full disk, of bytes or of files, too, and with its last lines where these have room.
func TestFullDiskKeepsTheEnd(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	for _, test := range []struct {
		name  string
		files int
		lines int // that the command writes before its end
		fill  func(*Engine)
	}{
		{"bytes", 200, 0, func(e *Engine) { fill(t, e.data, 0) }},
		{"bytes, and lines for which there is no room", 200, 20, func(e *Engine) { fill(t, e.data, 0) }},
		{"files", 60, 0, func(e *Engine) {
			for i := range 60 {
				if f, err := os.Create(fmt.Sprintf("%s/full%d", e.data, i)); err == nil {
					f.Close()
				}
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := smallDisk(t, 1024, test.files)
			e.dir = filepath.Join(nstest.Dir(t), "kakuri") // which has room, and what ends there makes none
			if err := e.mkdirs(); err != nil {
				t.Fatal(err)
			}
			line := fmt.Sprintf("trap 'exit 7' TERM; i=0; while [ $i -lt %d ]; do printf '%%0400d\\n' $i; i=$((i+1)); done; echo ready; while :; do sleep 0.01; done", test.lines)
			cfg := sh(root, line)
			cfg.AutoRemove = false
			c := detached(t, e, cfg)
			nstest.Until(t, "the lines", func() bool { return strings.Contains(logOf(t, c), "ready") })
			test.fill(e)
			if err := e.Stop(t.Context(), c.ID, StopOptions{}); err != nil {
				t.Error(err)
			}
			s, err := e.Inspect(c.ID)
			if err != nil {
				t.Fatal(err)
			}
			if s.State.Status != "exited" || s.State.ExitCode != 7 || s.State.Error != "" {
				t.Errorf("%+v", s.State)
			}
			if x, err := e.Wait(t.Context(), c.ID, ""); err != nil || x.Code != 7 {
				t.Errorf("wait: %+v, %v", x, err)
			}
			if err := e.Remove(t.Context(), c.ID, RemoveOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}
