package dirs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// TestForeignRuntimeDir: where XDG_RUNTIME_DIR is a directory that others may write to, as /tmp, one that somebody else has made there, or may write to, is not
// taken for the user's own: its records say which programs are run.
func TestForeignRuntimeDir(t *testing.T) {
	nstest.Root(t)
	ours := plan.Facts{UID: uint32(os.Geteuid())}
	for _, c := range []struct {
		name string
		make func(dir string) error
		good bool
	}{
		{"none", func(string) error { return nil }, true},
		{"ours", func(dir string) error { return os.Mkdir(dir, 0o755) }, true},
		{"another's", func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chown(dir, 65534, 65534)
		}, false},
		{"everybody's", func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chmod(dir, 0o777)
		}, false},
		{"a link", func(dir string) error { return os.Symlink(t.TempDir(), dir) }, false},
		{"a file", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, false},
	} {
		run, data := t.TempDir(), t.TempDir()
		t.Setenv("XDG_RUNTIME_DIR", run)
		want := filepath.Join(run, "kakuri")
		if err := c.make(want); err != nil {
			t.Fatal(err)
		}
		for _, look := range []bool{true, false} {
			got, err := Run(ours, data, look)
			if (err == nil) != c.good || c.good && got != want {
				t.Errorf("%s, look %v: %q, %v", c.name, look, got, err)
			}
		}
		if st, err := os.Stat(want); c.name == "none" && (err != nil || st.Mode().Perm() != 0o700) {
			t.Errorf("%v: %v", st.Mode(), err)
		}
	}
}

// TestForeignDataDir: records that another user made, or may have, are not taken for the caller's.
func TestForeignDataDir(t *testing.T) {
	nstest.Root(t)
	for _, c := range []struct {
		name  string
		as    uint32
		owner int
		mode  os.FileMode
		in    int // whose file is in it; negative for none
		want  string
		left  os.FileMode
	}{
		{"none", 1000, -1, 0, -1, "", 0},
		{"one's own", 1000, 1000, 0o700, -1, "", 0o700},
		{"one's own, shown to others", 1000, 1000, 0o775, -1, "", 0o775},
		{"root's", 1000, 0, 0o755, -1, "", 0o755},
		{"another's", 1000, 1001, 0o777, -1, "is of the user 1001", 0o777},
		{"another's, with the rights to it", 1000, 1001, 0o700, -1, "is of the user 1001", 0o700},
		{"an ordinary user's, for root", 0, 1000, 0o700, -1, "is of the user 1000", 0o700},
		{"root's, and everybody's", 1000, 0, 0o777 | os.ModeSticky, 1000, "everybody may write", 0o777},
		{"a new tmpfs", 0, 0, 0o777 | os.ModeSticky, -1, "", 0o755},
		{"one's own, and everybody's", 1000, 1000, 0o777, 1000, "", 0o755},
		{"one's own, and everybody's, with something of another", 1000, 1000, 0o777, 1001, "containers in it is of the user 1001", 0o777},
		{"one's own, and everybody's, with something of root's", 1000, 1000, 0o777, 0, "containers in it is of the user 0", 0o777},
	} {
		dir, link := t.TempDir()+"/kakuri", t.TempDir()+"/link"
		err := os.Symlink(dir, link)
		if c.owner >= 0 {
			err = errors.Join(err, os.Mkdir(dir, 0o700), os.Chmod(dir, c.mode), os.Chown(dir, c.owner, c.owner))
		}
		if c.in >= 0 {
			err = errors.Join(err, os.Mkdir(dir+"/containers", 0o700), os.Chown(dir+"/containers", c.in, c.in))
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, look := range []bool{true, false} {
			err := trusted(plan.Facts{UID: c.as}, link, look)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.name, err, c.want)
			}
			want := c.left
			if look {
				want = c.mode.Perm()
			}
			if st, err := os.Stat(dir); c.owner >= 0 && (err != nil || st.Mode().Perm() != want) {
				t.Errorf("%s, look %v: %v, %v, want %v", c.name, look, st.Mode(), err, want)
			}
		}
	}
}

// TestForeignWay: a data directory of one's own is not trusted where somebody else may put another one in its place, by a directory or a link on the way to it.
func TestForeignWay(t *testing.T) {
	nstest.Root(t)
	const us, other = 1000, 1001
	dir := func(path string, owner int, mode os.FileMode) func(home string) error {
		return func(home string) error {
			return errors.Join(os.Mkdir(home+path, 0o700), os.Chmod(home+path, mode), os.Chown(home+path, owner, owner))
		}
	}
	link := func(path, to string, owner int) func(home string) error {
		return func(home string) error {
			return errors.Join(os.Symlink(to, home+path), os.Lchown(home+path, owner, owner))
		}
	}
	const shared = 0o777 | os.ModeSticky
	for _, c := range []struct {
		name string
		make []func(home string) error
		want string // of the error; empty for none
	}{
		{"all one's own", []func(string) error{dir("/h", us, 0o700), dir("/h/.local", us, 0o755), dir("/h/.local/kakuri", us, 0o700)}, ""},
		{"root's", []func(string) error{dir("/h", 0, 0o755), dir("/h/.local", us, 0o755), dir("/h/.local/kakuri", us, 0o700)}, ""},
		{"nothing there yet", nil, ""},
		{"as /tmp", []func(string) error{dir("/h", 0, shared), dir("/h/.local", us, 0o755), dir("/h/.local/kakuri", us, 0o700)}, ""},
		{"as /tmp, with nothing in it", []func(string) error{dir("/h", 0, shared)}, ""},
		{"as /tmp, with another's in it", []func(string) error{dir("/h", 0, shared), dir("/h/.local", other, 0o777), dir("/h/.local/kakuri", us, 0o700)}, "/h/.local is of the user 1001"},
		{"as /tmp, with another's in it, and nothing in that", []func(string) error{dir("/h", 0, shared), dir("/h/.local", other, 0o777)}, "/h/.local is of the user 1001"},
		{"everybody's", []func(string) error{dir("/h", us, 0o777), dir("/h/.local", us, 0o700), dir("/h/.local/kakuri", us, 0o700)}, "/h: chmod o-w"},
		{"everybody's, and nothing in it yet", []func(string) error{dir("/h", us, 0o777)}, "/h: chmod o-w"},
		{"another's", []func(string) error{dir("/h", other, 0o755), dir("/h/.local", us, 0o700), dir("/h/.local/kakuri", us, 0o700)}, "/h is of the user 1001"},
		{"one's own link", []func(string) error{dir("/h", us, 0o755), dir("/d", us, 0o755), dir("/d/kakuri", us, 0o700), link("/h/.local", "../d", us)}, ""},
		{"another's link", []func(string) error{dir("/h", 0, shared), dir("/d", us, 0o755), dir("/d/kakuri", us, 0o700), link("/h/.local", "../d", other)}, "/h/.local is of the user 1001"},
		{"a link by way of another's", []func(string) error{dir("/h", us, 0o755), dir("/o", other, 0o755), dir("/d", us, 0o755), link("/o/d", "../d", us), link("/h/.local", "../o/d", us)}, "/o is of the user 1001"},
		{"a link by way of everybody's", []func(string) error{dir("/h", us, 0o755), dir("/e", us, 0o777), dir("/d", us, 0o755), link("/e/d", "../d", us), link("/h/.local", "../e/d", us)}, "/e: chmod o-w"},
		{"a link to itself", []func(string) error{dir("/h", us, 0o755), link("/h/.local", ".local", us)}, ""},
	} {
		home := t.TempDir()
		for _, make := range c.make {
			if err := make(home); err != nil {
				t.Fatal(c.name, err)
			}
		}
		for _, look := range []bool{true, false} {
			err := trusted(plan.Facts{UID: us}, home+"/h/.local/kakuri", look)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.name, err, c.want)
			}
		}
	}
}

// TestSharedGroup: directories that are made in one of a shared group are of the user's own group, and what is made in them, too.
func TestSharedGroup(t *testing.T) {
	nstest.Root(t)
	ours := plan.Facts{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	shared := t.TempDir()
	if err := errors.Join(os.Chown(shared, -1, 65534), os.Chmod(shared, 0o770|os.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", shared)
	run, err := Run(ours, shared+"/data/kakuri", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{run, shared + "/data/kakuri"} {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil || st.Gid != ours.GID || st.Mode != unix.S_IFDIR|0o700 {
			t.Errorf("%s: group %d, mode %o, %v", dir, st.Gid, st.Mode, err)
		}
	}
}

// TestMakeOwnSwapped: while a directory is made, somebody who may write beside it puts a link in its place: what that leads to keeps its mode and its group.
func TestMakeOwnSwapped(t *testing.T) {
	nstest.Root(t)
	victim, dir := t.TempDir(), t.TempDir()+"/kakuri"
	if err := errors.Join(os.Chmod(victim, 0o755), os.Chown(victim, -1, 65534)); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				os.Symlink(victim, dir)
				os.Remove(dir)
			}
		}
	}()
	for range 2_000 {
		makeOwn(plan.Facts{UID: 0, GID: 0}, dir)
	}
	close(stop)
	<-stopped
	var st unix.Stat_t
	if err := unix.Stat(victim, &st); err != nil || st.Mode != unix.S_IFDIR|0o755 || st.Gid != 65534 {
		t.Errorf("group %d, mode %o, %v", st.Gid, st.Mode, err)
	}
}

// TestRuntimeDirOfData: an ordinary user's data directories have a runtime directory each, and one has the same for a boot, by whatever name.
func TestRuntimeDirOfData(t *testing.T) {
	ours := plan.Facts{UID: uint32(os.Geteuid())}
	run, data := t.TempDir(), t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", run)
	at := func(data string, look bool) string {
		t.Helper()
		dir, err := Run(ours, data, look)
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, name := range []string{"second", "first"} { // who only looks takes nothing
		if got := at(data+"/"+name, true); got != run+"/kakuri" {
			t.Errorf("who looks at %s before all finds %s", name, got)
		}
	}
	if got := at(data+"/first", false); got != run+"/kakuri" {
		t.Errorf("the first is at %s", got)
	}
	second := at(data+"/second", true)
	if second == run+"/kakuri" || filepath.Dir(second) != run {
		t.Errorf("the second is at %s", second)
	}
	if _, err := os.Lstat(second); err == nil {
		t.Errorf("who looked has made %s", second)
	}
	if err := os.Symlink(data, data+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, look := range []bool{false, true} {
		for name, want := range map[string]string{"first": run + "/kakuri", "link/first": run + "/kakuri", "second": second, "link/second": second} {
			if got := at(data+"/"+name, look); got != want {
				t.Errorf("%s is at %s, not %s", name, got, want)
			}
		}
	}
	if st, err := os.Stat(second); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v: %v", st, err)
	}
}

// TestForeignDataLock: where others may open the data directory they may hold its lock, which nobody waits for; what is locked is nobody else's, and is gone afterwards.
func TestForeignDataLock(t *testing.T) {
	ours := plan.Facts{UID: uint32(os.Geteuid())}
	data := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	lock, err := files.LockDir(data, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(lock)
	for what, plant := range map[string]func(string) error{
		"nothing":     func(string) error { return nil },
		"of a killed": func(name string) error { return os.WriteFile(name, nil, 0o600) },
		"a FIFO":      func(name string) error { return unix.Mkfifo(name, 0o666) },
		"readable": func(name string) error {
			err := os.WriteFile(name, nil, 0o644)
			if held, e := os.Open(name); e == nil {
				t.Cleanup(func() { held.Close() })
				err = unix.Flock(int(held.Fd()), unix.LOCK_EX)
			}
			return err
		},
		"a directory": func(name string) error { return os.Mkdir(name, 0o700) }, // none of this engine's doing: what can be done without a lock is done
	} {
		if err := plant(data + runOfDataLock); err != nil {
			t.Fatal(err)
		}
		dir, err := Run(ours, data, false)
		if of, e := os.Readlink(data + runOfData); err != nil || e != nil || of != dir {
			t.Errorf("%s: %s, %v; the link leads to %s, %v", what, dir, err, of, e)
		}
		if _, err := os.Lstat(data + runOfDataLock); what != "a directory" && err == nil {
			t.Errorf("%s: the lock is left", what)
		}
		if err := errors.Join(os.Remove(data+runOfData), os.RemoveAll(data+runOfDataLock)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRuntimeDirOfSessions: a data directory has the runtime directory that it had, whatever the session of who asks says, until that is gone or another's.
func TestRuntimeDirOfSessions(t *testing.T) {
	ours := plan.Facts{UID: uint32(os.Geteuid())}
	session, cron, data := t.TempDir(), t.TempDir(), t.TempDir()
	at := func(run string, look bool, want string) {
		t.Helper()
		t.Setenv("XDG_RUNTIME_DIR", run)
		if dir, err := Run(ours, data, look); err != nil || dir != want {
			t.Errorf("%v: %s, want %s", err, dir, want)
		}
	}
	at(cron, true, cron+"/kakuri")
	at(session, false, session+"/kakuri")
	for _, look := range []bool{true, false} {
		at(cron, look, session+"/kakuri")
	}
	// What the link leads to is believed where it says the same of itself, and is the user's own.
	for what, hurt := range map[string]func(string) error{
		"gone":     os.RemoveAll,
		"writable": func(dir string) error { return os.Chmod(dir, 0o777) },
		"another's": func(dir string) error {
			return errors.Join(os.Remove(dir+dataOfRun), os.Symlink("/other", dir+dataOfRun))
		},
		"a link": func(dir string) error { return errors.Join(os.Rename(dir, dir+"2"), os.Symlink(dir+"2", dir)) },
	} {
		t.Run(what, func(t *testing.T) {
			data, session := t.TempDir(), t.TempDir()
			t.Setenv("XDG_RUNTIME_DIR", session)
			dir, err := Run(ours, data, false)
			if err := errors.Join(err, hurt(dir)); err != nil {
				t.Fatal(err)
			}
			t.Setenv("XDG_RUNTIME_DIR", cron)
			for _, look := range []bool{true, false, true} {
				if dir, err := Run(ours, data, look); err != nil || filepath.Dir(dir) != cron {
					t.Errorf("%v: %s", err, dir)
				}
			}
		})
	}
}

// TestRuntimeDirOfRoot: XDG_RUNTIME_DIR that came by su or sudo is another user's, and who cannot use it is told what to do.
func TestRuntimeDirOfRoot(t *testing.T) {
	u := nstest.User(t)
	nstest.Inside(t, nstest.Place{User: u}, func(t *testing.T) {
		t.Setenv("XDG_RUNTIME_DIR", "/root")
		f := plan.Facts{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
		if _, err := Run(f, filepath.Join(t.TempDir(), "data"), false); err == nil || !strings.Contains(err.Error(), "unset it") {
			t.Errorf("%v: it does not say what to do", err)
		}
	})
}

// TestHomeOfAnother: who cannot make a data directory is told what to set, and who can has his own error.
func TestHomeOfAnother(t *testing.T) {
	user := nstest.User(t)
	nstest.Inside(t, nstest.Place{User: user}, func(t *testing.T) {
		closed := t.TempDir()
		if err := os.Chmod(closed, 0o500); err != nil {
			t.Fatal(err)
		}
		for home, want := range map[string]string{"/nonexistent": "XDG_DATA_HOME", "/proc": "XDG_DATA_HOME", closed: "made in " + closed, t.TempDir(): "mkdir x: "} {
			err := NotMade(home+"/.local/share/kakuri", &os.PathError{Op: "mkdir", Path: "x", Err: unix.EACCES})
			if !errors.Is(err, unix.EACCES) || !strings.Contains(err.Error(), want) {
				t.Errorf("HOME=%s: %v, want %q", home, err, want)
			}
		}
		if err := NotMade("/nonexistent", nil); err != nil {
			t.Error(err)
		}
		there := closed + "/kakuri"
		defer os.Chmod(closed, 0o700)
		if err := errors.Join(os.Chmod(closed, 0o700), os.Mkdir(there, 0o700), os.Chmod(closed, 0o500)); err != nil {
			t.Fatal(err)
		}
		if err := NotMade(there, &os.PathError{Op: "mkdir", Path: "/run/x", Err: unix.EACCES}); err == nil || err.Error() != "mkdir /run/x: permission denied" {
			t.Errorf("a data directory that is there: %v", err)
		}
	})
}
