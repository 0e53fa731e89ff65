package engine

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// TestUnremovable: one container of which something cannot be taken away is no reason for commands about others to fail. They tell of it, and when it
// can be, the next one does it.
func TestUnremovable(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	var warned []string
	e.warn = func(s string) { warned = append(warned, s) }
	root := nstest.RootFS(t)
	c := made(t, e, Config{Name: "stuck", Rootfs: root, Command: []string{"true"}})
	other := made(t, e, Config{Name: "other", Rootfs: root, Command: []string{"sleep", "100"}})
	at := c.dir + "/hold"
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(root, at, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	if err := e.Remove(t.Context(), "stuck", RemoveOptions{}); err == nil {
		t.Error("it was removed")
	}
	list, err := e.List(ListOptions{All: true})
	if err != nil || len(list) != 1 || list[0].ID != other.ID {
		t.Errorf("%v: %+v", err, list)
	}
	if text := strings.Join(warned, "\n"); !strings.Contains(text, files.ShortID(c.ID)) {
		t.Errorf("warnings: %q", text)
	}
	if err := e.Remove(t.Context(), "stuck", RemoveOptions{}); err == nil || errors.As(err, new(ErrNoSuchContainer)) || !strings.Contains(err.Error(), files.ShortID(c.ID)) {
		t.Errorf("once more: %v", err)
	}
	if err := e.Start(t.Context(), "other", StartOptions{}); err != nil {
		t.Error(err)
	}
	if err := e.Kill(t.Context(), "other", "KILL"); err != nil {
		t.Error(err)
	}
	if _, err := e.Wait(t.Context(), "other", ""); err != nil {
		t.Error(err)
	}
	if err := unix.Unmount(at, 0); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), "other", RemoveOptions{}); err != nil {
		t.Error(err)
	}
	nstest.Until(t, "the end of its monitor", func() bool { return !exists(monitor.Place(e.dir, other.ID)) }) // Wait is told before
	empty(t, e)
}

// TestLinkedEtc: what is in the place of a container's own file in /etc goes at the next start, and nothing is written to what it leads to.
func TestLinkedEtc(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	c := made(t, e, Config{Name: "led", Rootfs: nstest.RootFS(t), Command: []string{"sleep", "100"}, ExtraHosts: []string{"db:192.0.2.1"}})
	name, other := c.dir+"/hosts", c.dir+"/another"
	if err := os.WriteFile(other, []byte("another's"), 0o640); err != nil {
		t.Fatal(err)
	}
	for what, put := range map[string]func() error{
		"a link":         func() error { return os.Symlink(other, name) },
		"a link nowhere": func() error { return os.Symlink(c.dir+"/none", name) },
		"another name":   func() error { return os.Link(other, name) },
		"a FIFO":         func() error { return unix.Mkfifo(name, 0o600) },
		"a directory":    func() error { return os.Mkdir(name, 0o700) },
	} {
		err := errors.Join(files.RemoveAll(name), put())
		if err == nil {
			err = e.Start(t.Context(), "led", StartOptions{})
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if err := e.Stop(t.Context(), "led", StopOptions{Timeout: new(int)}); err != nil {
			t.Fatal(err)
		}
		st, err := os.Lstat(name)
		if data, unread := os.ReadFile(name); err != nil || unread != nil || !st.Mode().IsRegular() || !strings.Contains(string(data), "192.0.2.1\tdb\n") {
			t.Errorf("%s: it is %v, %q, %v", what, st, data, errors.Join(err, unread))
		}
		st, err = os.Stat(other)
		if data, unread := os.ReadFile(other); err != nil || unread != nil || string(data) != "another's" || st.Mode() != 0o640 || st.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s: what is another's is %v, %q, %v", what, st, data, errors.Join(err, unread))
		}
		if exists(c.dir + "/none") {
			t.Errorf("%s was followed", what)
		}
	}
	if err := e.Remove(t.Context(), "led", RemoveOptions{}); err != nil {
		t.Error(err)
	}
	empty(t, e)
}

// TestUnchangeableFiles: a container that is root of the machine gives its files attributes by which nobody may change or remove them, and is started again
// and removed like any other.
func TestUnchangeableFiles(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	c := made(t, e, Config{Name: "fixed", Rootfs: nstest.RootFS(t), Command: []string{"sleep", "100"}, ExtraHosts: []string{"db:192.0.2.1"}})
	if err := e.Start(t.Context(), "fixed", StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(t.Context(), "fixed", StopOptions{Timeout: new(int)}); err != nil {
		t.Fatal(err)
	}
	// As CAP_LINUX_IMMUTABLE lets root do that has the machine's id.
	f, err := os.Open(c.dir + "/hosts")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, unix.STATX_ATTR_IMMUTABLE); err != nil {
		t.Skipf("no attributes here: %v", err)
	}
	if err := e.Start(t.Context(), "fixed", StartOptions{}); err != nil {
		t.Error(err)
	}
	if f, err = os.Open(c.dir + "/hosts"); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, unix.STATX_ATTR_IMMUTABLE); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), "fixed", RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if exists(monitor.Place(e.dir, c.ID)) {
		t.Error("the monitor's place is left")
	}
	empty(t, e)
}

// TestDamagedName: a container whose name is taken by something that is no link is found by check, and by its name again afterwards.
func TestDamagedName(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	c := made(t, e, Config{Name: "named", Rootfs: nstest.RootFS(t), Command: []string{"true"}})
	place := e.names() + "/named"
	for what, put := range map[string]func() error{
		"nothing":     func() error { return nil },
		"a file":      func() error { return os.WriteFile(place, nil, 0o600) },
		"a FIFO":      func() error { return unix.Mkfifo(place, 0o600) },
		"a directory": func() error { return os.MkdirAll(place+"/full", 0o700) },
	} {
		if err := errors.Join(os.Remove(place), put()); err != nil {
			t.Fatal(err)
		}
		found, err := e.Check(t.Context(), true)
		if err != nil || len(found) != 1 || found[0].Object != "container "+files.ShortID(c.ID) || !strings.HasPrefix(found[0].Text, "its name named is not reserved") || !found[0].Mended {
			t.Errorf("%s: %v, %+v", what, err, found)
		}
		if got, err := e.Find("named"); err != nil || got.ID != c.ID {
			t.Errorf("%s: %v, %v", what, got.ID, err)
		}
	}
	if err := errors.Join(files.RemoveAll(e.names()), unix.Mkfifo(e.names(), 0o600)); err != nil {
		t.Fatal(err)
	}
	found, err := e.Check(t.Context(), true)
	if err != nil || !slices.ContainsFunc(found, func(f Finding) bool { return strings.Contains(f.Error, e.names()) && !f.Mended }) {
		t.Errorf("a FIFO in the place of all names: %v, %+v", err, found)
	}
}

// TestByName: what rooms below say of a container has its name, and the path of a file is one that there is.
func TestByName(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	c := made(t, e, Config{Name: "named", Rootfs: nstest.RootFS(t), Command: []string{"true"}})
	text := "container " + c.ID + ": open " + c.dir + "/hosts: is a directory, container:" + c.ID
	if got, want := e.byName(text), "container named: open "+c.dir+"/hosts: is a directory, container:named"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestDamagedRecords: a container whose record cannot be read, however that came about, is named with the way out by whoever comes upon it, holds nobody up, and is
// removed by force with its process. Others are what they were.
func TestDamagedRecords(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	var warned []string
	e.warn = func(s string) { warned = append(warned, s) }
	root := nstest.RootFS(t)
	other := made(t, e, Config{Name: "other", Rootfs: root, Command: []string{"sleep", "100"}})
	write := func(text string) func(string) error {
		return func(name string) error { return os.WriteFile(name, []byte(text), 0o600) }
	}
	instead := func(put func(string) error) func(string) error {
		return func(name string) error { return errors.Join(os.Remove(name), put(name)) }
	}
	for _, d := range []struct {
		what, file string
		do         func(name string) error
		blind      bool // nobody can say which volumes it has
	}{
		{"nothing in it", "container.json", write(""), true},
		{"half of it", "container.json", write(`{"ID":"`), true},
		{"no fields", "container.json", write("{}"), false},
		{"another's", "container.json", func(name string) error {
			data, err := os.ReadFile(other.dir + "/container.json")
			return errors.Join(err, os.WriteFile(name, data, 0o600))
		}, false},
		{"a later version's", "container.json", write(`{"ID":{"sha512":"x"},"Config":[]}`), false},
		{"a FIFO", "container.json", instead(func(name string) error { return unix.Mkfifo(name, 0o600) }), true},
		{"a directory", "container.json", instead(func(name string) error { return os.Mkdir(name, 0o700) }), true},
		{"a link without an end", "container.json", instead(func(name string) error { return os.Symlink("/dev/zero", name) }), true},
		{"a link to itself", "container.json", instead(func(name string) error { return os.Symlink("container.json", name) }), true},
		{"too large", "container.json", func(name string) error { return os.Truncate(name, 1<<40) }, true},
		{"none", "container.json", os.Remove, false},
		{"a state of another kind, of one that runs", "state.json", write(`{"Status":7}`), false},
		{"a state of a word that there is not, of one that runs", "state.json", write(`{"Status":"frozen"}`), false},
		{"an empty state, of one that runs", "state.json", write(""), false},
		{"a state that is a FIFO", "state.json", instead(func(name string) error { return unix.Mkfifo(name, 0o600) }), false},
	} {
		t.Run(d.what, func(t *testing.T) {
			c := made(t, e, Config{Name: "hurt", Rootfs: root, Command: []string{"sleep", "100"}})
			if err := e.Start(t.Context(), "hurt", StartOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := d.do(c.dir + "/" + d.file); err != nil {
				t.Fatal(err)
			}
			warned = nil
			list, err := e.List(ListOptions{All: true})
			if err != nil || len(list) != 1 || list[0].ID != other.ID {
				t.Errorf("%v: %+v", err, list)
			}
			wayOut := "kakuri rm -f " + files.ShortID(c.ID)
			if text := strings.Join(warned, "\n"); d.what != "none" && !strings.Contains(text, wayOut) {
				t.Errorf("warnings: %q", text)
			}
			for verb, err := range map[string]error{
				"start": e.Start(t.Context(), "hurt", StartOptions{}), "stop": e.Stop(t.Context(), c.ID, StopOptions{}), "rm": e.Remove(t.Context(), "hurt", RemoveOptions{}),
			} {
				if !errors.As(err, new(ErrDamaged)) || !strings.Contains(err.Error(), wayOut) {
					t.Errorf("%s: %v", verb, err)
				}
			}
			found, err := e.Check(t.Context(), false)
			if err != nil || !slices.ContainsFunc(found, func(f Finding) bool { return f.Object == container(c.ID) }) {
				t.Errorf("check: %v: %+v", err, found)
			}
			if _, err := e.volumeUsers(); err != nil != d.blind {
				t.Errorf("users of volumes: %v", err)
			}
			if err := e.Remove(t.Context(), "hurt", RemoveOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			if found, err := e.Check(t.Context(), false); err != nil || len(found) != 0 {
				t.Errorf("after rm -f: %v: %+v", err, found)
			}
		})
	}
	if err := e.Remove(t.Context(), "other", RemoveOptions{}); err != nil {
		t.Error(err)
	}
	empty(t, e)
}

// TestRepairKeeps: a repair takes away no container that runs, and none that something was written in, since its record is damaged: it says how they go.
func TestRepairKeeps(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e, root := open(t), nstest.RootFS(t)
	imported(t, e, root, "base:1")
	for what, damage := range map[string]func(name string) error{
		"nothing in it": func(name string) error { return os.Truncate(name, 0) },
		"half of it":    func(name string) error { return os.Truncate(name, 20) },
		"none":          os.Remove,
	} {
		runs := made(t, e, Config{Name: "runs", Rootfs: root, Command: []string{"sleep", "1000"}})
		if err := e.Start(t.Context(), "runs", StartOptions{}); err != nil {
			t.Fatal(err)
		}
		ended, err := e.Run(t.Context(), Config{Name: "ended", Image: "base:1", Command: []string{"sh", "-c", "echo precious > /written"}}, Streams{}, RunOptions{})
		if err != nil || ended.Code != 0 {
			t.Fatalf("%+v, %v", ended, err)
		}
		dir := e.dirOf(ended.ID)
		if err := errors.Join(damage(runs.dir+"/container.json"), damage(dir+"/container.json")); err != nil {
			t.Fatal(err)
		}
		found, err := e.Check(t.Context(), true)
		if err != nil {
			t.Error(err)
		}
		for id, text := range map[string]string{runs.ID: "it runs: kakuri rm -f " + files.ShortID(runs.ID), ended.ID: dir + "/upper: copy it away, and kakuri rm -f " + files.ShortID(ended.ID)} {
			if !slices.ContainsFunc(found, func(f Finding) bool { return f.Object == container(id) && !f.Mended && strings.Contains(f.Error, text) }) {
				t.Errorf("%s: nothing that says %q among %+v", what, text, found)
			}
		}
		if !monitor.Attended(e.dir, runs.ID) {
			t.Errorf("%s: the one that ran was ended", what)
		}
		if data, err := os.ReadFile(dir + "/upper/written"); err != nil || string(data) != "precious\n" {
			t.Errorf("%s: of what was written there is %q, %v", what, data, err)
		}
		for _, id := range []string{runs.ID, ended.ID} {
			if err := e.removeDamaged(t.Context(), id); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if found, err := e.Check(t.Context(), false); err != nil || len(found) != 0 {
			t.Errorf("%s, afterwards: %v: %+v", what, err, found)
		}
	}
}

// TestRepairSweepsLayers: a layer that no image has, as an import leaves that ended before it was one, goes with a repair, though nothing else is wrong.
func TestRepairSweepsLayers(t *testing.T) {
	nstest.Root(t)
	e := openAt(t, "/run/kakuri")
	s, err := e.Storage()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), bytes.NewReader(make([]byte, 1024)), ""); err != nil { // an empty tar
		t.Fatal(err)
	}
	output(t, kakuri(t, "system", "check", "--repair"))
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestGoneDirectory: a container whose directory somebody removed runs on, with its ports taken. A check tells of it, and ends it.
func TestGoneDirectory(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	c := made(t, e, Config{Name: "gone", Rootfs: nstest.RootFS(t), Command: []string{"sleep", "100"}})
	if err := e.Start(t.Context(), "gone", StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(c.dir); err != nil {
		t.Fatal(err)
	}
	found, err := e.Check(t.Context(), true)
	if err != nil || !slices.ContainsFunc(found, func(f Finding) bool { return f.Object == container(c.ID) && f.Mended }) {
		t.Errorf("%v: %+v", err, found)
	}
	empty(t, e)
}

// TestCheckGoesOn: a network whose record is damaged is named by a check, which tells of everything else all the same.
func TestCheckGoesOn(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	n, err := e.NetworkCreate(t.Context(), NetworkConfig{Name: "hurt"})
	if err != nil {
		t.Fatal(err)
	}
	name := e.data + "/networks/" + n.ID + "/network.json"
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"{}", "", `{"ID":7}`} {
		if err := errors.Join(os.WriteFile(name, []byte(text), 0o600), os.Symlink(strings.Repeat("a", 64), e.names()+"/nobody")); err != nil {
			t.Fatal(err)
		}
		found, err := e.Check(t.Context(), true)
		if err != nil || !slices.ContainsFunc(found, func(f Finding) bool { return f.Object == "name nobody" && f.Mended }) ||
			!slices.ContainsFunc(found, func(f Finding) bool { return strings.Contains(f.Text, name) && !f.Mended }) {
			t.Errorf("%q: %v: %+v", text, err, found)
		}
	}
	if err := os.WriteFile(name, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.NetworkRemove(t.Context(), "hurt", false); err != nil {
		t.Error(err)
	}
}

// TestCheckGroup: a control group that a container has left is found and taken away, and one of a container that somebody is at is let alone, though no process is in
// it: a monitor makes the next run's at any moment.
func TestCheckGroup(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	e := open(t)
	c := made(t, e, Config{Name: "grouped", Rootfs: nstest.RootFS(t), Command: []string{"sleep", "100"}})
	if err := e.Start(t.Context(), "grouped", StartOptions{}); err != nil {
		t.Fatal(err)
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/kakuri/" + c.ID)
	if v2, err2 := filepath.Glob("/sys/fs/cgroup/kakuri/" + c.ID); len(groups) == 0 && err2 == nil {
		groups = v2
	}
	if err != nil || len(groups) == 0 {
		t.Fatalf("%v: it has no control groups", err)
	}
	if err := e.Kill(t.Context(), "grouped", "KILL"); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "its end", func() bool { return !exists(groups[0]) && !monitor.Attended(e.dir, c.ID) })
	if err := os.Mkdir(groups[0], 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(groups[0])
	for who, dir := range map[string]string{"a command": c.dir, "a monitor": monitor.Place(e.dir, c.ID)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		lock, err := lockDir(dir, unix.LOCK_EX)
		if err != nil {
			t.Fatal(err)
		}
		if found, err := e.Check(t.Context(), true); err != nil || len(found) != 0 {
			t.Errorf("while %s is at it: %v: %+v", who, err, found)
		}
		if dir != c.dir {
			err = os.RemoveAll(dir)
		}
		if lock.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, repair := range []bool{false, true} {
		found, err := e.Check(t.Context(), repair)
		if err != nil || len(found) != 1 || found[0].Object != "control group "+groups[0] || found[0].Mended != repair {
			t.Errorf("%v: %+v", err, found)
		}
	}
	if found, err := e.Check(t.Context(), false); err != nil || len(found) != 0 || exists(groups[0]) {
		t.Errorf("afterwards: %v: %+v", err, found)
	}
	if err := e.Remove(t.Context(), "grouped", RemoveOptions{}); err != nil {
		t.Error(err)
	}
	empty(t, e)
}
