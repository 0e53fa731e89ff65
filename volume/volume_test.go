package volume

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/internal/hostile"
	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m, nstest.Options{})) }

func store(t *testing.T) *Store {
	t.Helper()
	nstest.Root(t)
	return Open(nstest.Dir(t) + "/volumes")
}

func create(t *testing.T, s *Store, c Config) Volume {
	t.Helper()
	v, made, err := s.Create(c)
	if err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	return v
}

func nobody(Volume) ([]string, error) { return nil, nil }

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tree lists a directory: paths with permissions, owner, and content.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		text := ""
		if e.Type().IsRegular() {
			b, _ := os.ReadFile(p)
			text = string(b)
		}
		fmt.Fprintf(&b, "%s %o %d:%d %q\n", strings.TrimPrefix(p, dir), st.Mode, st.Uid, st.Gid, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestOrder: volumes are listed with numbers in their names as numbers.
func TestOrder(t *testing.T) {
	s := store(t)
	for _, name := range []string{"v10", "v9", "v1", "other"} {
		create(t, s, Config{Name: name})
	}
	list, _, err := s.List()
	var names []string
	for _, v := range list {
		names = append(names, v.Name)
	}
	if want := []string{"other", "v1", "v9", "v10"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v", names, err)
	}
}

func TestStore(t *testing.T) {
	s := store(t)
	if list, _, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("before there is anything: %v, %v", list, err)
	}
	v := create(t, s, Config{Name: "db", Labels: map[string]string{"a": "b"}})
	again, made, err := s.Create(Config{Name: "db"})
	if err != nil || made || again.Labels["a"] != "b" || again.Dir() != v.Dir() || !again.Created.Equal(v.Created) {
		t.Errorf("created twice: %+v, made %v, %v", again, made, err)
	}
	nameless := create(t, s, Config{})
	if !nameless.Anonymous || len(nameless.Name) != 64 {
		t.Errorf("without a name: %+v", nameless)
	}
	if list, _, err := s.List(); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	for _, bad := range []Config{{Name: "a"}, {Name: "../x"}, {Name: ".x"}, {Name: "a/b"}, {Name: "lock"}, {Name: strings.Repeat("n", 256)}, {Name: "ok", Driver: "nfs"},
		{Name: "ok", Options: map[string]string{"size": "1g"}}, {Name: "ok", Options: map[string]string{"foo": "1"}}, {Name: "ok", Options: map[string]string{"type": "tmpfs"}}} {
		if _, _, err := s.Create(bad); err == nil {
			t.Errorf("%+v was made", bad)
		}
	}
	var inUse *InUseError
	if err := s.Remove("db", false, func(Volume) ([]string, error) { return []string{"c1"}, nil }); !errors.As(err, &inUse) {
		t.Errorf("in use: %v", err)
	}
	if err := s.Remove("db", false, nobody); err != nil {
		t.Error(err)
	}
	var none *NoVolumeError
	if _, err := s.Get("db"); !errors.As(err, &none) {
		t.Errorf("removed: %v", err)
	}
	for _, name := range []string{"db", "..", "", "../db", "lock"} {
		if err := s.Remove(name, false, nobody); !errors.As(err, &none) {
			t.Errorf("remove %q: %v", name, err)
		}
	}
}

// TestTogether: many make the same volume at once; one of them made it.
func TestTogether(t *testing.T) {
	s := store(t)
	var wg sync.WaitGroup
	made := make([]bool, 20)
	for i := range made {
		wg.Go(func() {
			var err error
			if _, made[i], err = s.Create(Config{Name: "db"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	for _, m := range made {
		if m {
			n++
		}
	}
	if left, err := s.halves(); n != 1 || len(left) != 0 || err != nil {
		t.Errorf("%d made it; left %v, %v", n, left, err)
	}
}

// TestSweep: what killed processes left is not seen, and goes.
func TestSweep(t *testing.T) {
	s := store(t)
	create(t, s, Config{Name: "db"})
	write(t, s.dir+"/.new-x/_data/f", "x")
	write(t, s.dir+"/.rm-y/_data/f", "x")
	if list, _, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if gone, err := s.Sweep(); err != nil || len(gone) != 2 {
		t.Errorf("swept %v, %v", gone, err)
	}
	entries, _ := os.ReadDir(s.dir)
	if len(entries) != 2 { // db and lock
		t.Errorf("%v", entries)
	}
}

// imageOf makes a root with a few directories.
func imageOf(t *testing.T) *os.File {
	t.Helper()
	dir := nstest.Dir(t)
	write(t, dir+"/etc/passwd", "of the image")
	write(t, dir+"/var/lib/db/sub/file", "data")
	if err := os.Chown(dir+"/var/lib/db", 33, 34); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"/var/lib/db", 0o2750); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"abs": "/etc", "up": "../../../../etc", "nowhere": "/missing", "self": "/proc/self/root/etc"} {
		if err := os.Symlink(target, dir+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestPopulate: an empty volume gets what the image has, with the directory's own owner and permissions; one with files gets
// nothing (CVE-2020-1726).
func TestPopulate(t *testing.T) {
	s, image := store(t), imageOf(t)
	v := create(t, s, Config{Name: "db"})
	if err := v.Populate(context.Background(), Dir(image, "/var/lib/db"), archive.Options{}); err != nil {
		t.Fatal(err)
	}
	want := tree(t, image.Name()+"/var/lib/db")
	if got := tree(t, v.Dir()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	write(t, v.Dir()+"/sub/file", "changed")
	want = tree(t, v.Dir())
	for _, path := range []string{"/var/lib/db", "/etc"} {
		if err := v.Populate(context.Background(), Dir(image, path), archive.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := tree(t, v.Dir()); got != want {
		t.Errorf("the second time: %s, want %s", got, want)
	}
}

// TestPopulateOneMount: what is mounted in a root file system is not copied, only where it is.
func TestPopulateOneMount(t *testing.T) {
	s, image := store(t), imageOf(t)
	at := image.Name() + "/var/lib/db/sub"
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	write(t, at+"/mounted", "x")
	v := create(t, s, Config{Name: "db"})
	if err := v.Populate(context.Background(), Dir(image, "/var/lib/db"), archive.Options{}); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(v.Dir() + "/sub"); err != nil || len(list) > 0 {
		t.Errorf("it has %v, %v", list, err)
	}
}

// TestUmask: users of a container may look into its volume, whatever the caller's umask is.
func TestUmask(t *testing.T) {
	old := unix.Umask(0o077)
	v := create(t, store(t), Config{Name: "db"})
	unix.Umask(old)
	if st, err := os.Stat(v.Dir()); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// TestRemoveAlone: who uses a volume is asked while nobody can begin to.
func TestRemoveAlone(t *testing.T) {
	s := store(t)
	create(t, s, Config{Name: "db"})
	held := false
	err := s.Remove("db", false, func(Volume) ([]string, error) {
		f, err := os.Open(s.dir + "/" + lockFile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		held = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK
		return nil, nil
	})
	if err != nil || !held {
		t.Errorf("held %v, %v", held, err)
	}
}

// TestPopulateAlone: nobody else copies into a volume meanwhile.
func TestPopulateAlone(t *testing.T) {
	s, image := store(t), imageOf(t)
	v := create(t, s, Config{Name: "db"})
	held := false
	content := func(ctx context.Context, w io.Writer) error {
		f, err := os.Open(v.dir)
		if err != nil {
			return err
		}
		defer f.Close()
		held = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK
		return Dir(image, "/var/lib/db")(ctx, w)
	}
	if err := v.Populate(context.Background(), content, archive.Options{}); err != nil || !held {
		t.Errorf("held %v, %v", held, err)
	}
}

// TestPopulateHalf: a copy that a killed process has begun is made again.
func TestPopulateHalf(t *testing.T) {
	s, image := store(t), imageOf(t)
	v := create(t, s, Config{Name: "db"})
	write(t, v.copying(), "")
	write(t, v.Dir()+"/sub/file", "da")
	if err := v.Populate(context.Background(), Dir(image, "/var/lib/db"), archive.Options{}); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, v.Dir()), tree(t, image.Name()+"/var/lib/db"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if exists(v.copying()) {
		t.Error("it says that it goes on")
	}
}

// TestCVE_2022_23648: a volume at a path of the image that is a link gets what the link leads to inside, never the
// host's.
func TestCVE_2022_23648(t *testing.T) {
	s, image := store(t), imageOf(t)
	for name, want := range map[string]string{"abs": "of the image", "up": "of the image", "../../abs/../up": "of the image"} {
		v := create(t, s, Config{})
		if err := v.Populate(context.Background(), Dir(image, "/"+name), archive.Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(v.Dir() + "/passwd"); string(got) != want {
			t.Errorf("%s: the volume has %.40q", name, got)
		}
	}
	for _, name := range []string{"nowhere", "etc/passwd", "nothing", "self"} {
		v := create(t, s, Config{})
		if err := v.Populate(context.Background(), Dir(image, "/"+name), archive.Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if list, _ := os.ReadDir(v.Dir()); len(list) != 0 {
			t.Errorf("%s: the volume has %v", name, list)
		}
	}
}

// importInto puts the files of a tar into a volume, as an engine does.
func importInto(v Volume, r io.Reader) error {
	dir, err := v.Stage()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if _, err := Unpack(context.Background(), dir, r, archive.Options{}); err != nil {
		return err
	}
	return v.Take(context.Background(), dir)
}

// TestImportHostile: CVE-2025-11395 and its kin. What is refused leaves the volume as it was.
func TestImportHostile(t *testing.T) {
	s := store(t)
	canary := hostile.NewCanary(t)
	for _, a := range hostile.Archives(canary.Dir) {
		if a.Name == "million_files" {
			continue // archive has it
		}
		v := create(t, s, Config{})
		write(t, v.Dir()+"/mine", "as it was")
		before := tree(t, v.Dir())
		err := importInto(v, a.Open())
		if a.Plain == hostile.Taken && err != nil || a.Plain == hostile.Refused && err == nil {
			t.Errorf("%s has to be %s: %v", a.Name, a.Plain, err)
		}
		if after := tree(t, v.Dir()); err != nil && after != before {
			t.Errorf("%s: refused (%v), and the volume has now %s", a.Name, err, after)
		}
		canary.Check(t)
		if left, err := s.halves(); len(left) != 0 || err != nil {
			t.Errorf("%s left %v, %v", a.Name, left, err)
		}
	}
}

// TestExportImport: what one volume gives another takes, over what it has.
func TestExportImport(t *testing.T) {
	s, image := store(t), imageOf(t)
	one, two := create(t, s, Config{}), create(t, s, Config{})
	if err := one.Populate(context.Background(), Dir(image, "/var/lib/db"), archive.Options{}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := one.Export(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	write(t, two.Dir()+"/sub/file", "old")
	write(t, two.Dir()+"/kept", "kept")
	if err := importInto(two, bytes.NewReader(b.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(two.Dir() + "/kept"); err != nil {
		t.Errorf("a file that the archive has not: %v", err)
	}
	if got, want := tree(t, two.Dir()), tree(t, one.Dir()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if n, err := two.Size(context.Background()); err != nil || n != 4 {
		t.Errorf("size %d, %v", n, err)
	}
}

// TestImportLeavesRoot: what an archive does not say of the volume's own directory stays, also where that is a mount of its own.
func TestImportLeavesRoot(t *testing.T) {
	s := store(t)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644}), w.Close()); err != nil {
		t.Fatal(err)
	}
	for _, mounted := range []bool{false, true} {
		v := create(t, s, Config{})
		if mounted {
			if err := unix.Mount("tmpfs", v.Dir(), "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount(v.Dir(), unix.MNT_DETACH) })
		}
		if err := errors.Join(os.Chown(v.Dir(), 33, 34), os.Chmod(v.Dir(), 0o750)); err != nil {
			t.Fatal(err)
		}
		if err := importInto(v, bytes.NewReader(b.Bytes())); err != nil {
			t.Errorf("mounted %v: %v", mounted, err)
		}
		if got, want := tree(t, v.Dir()), " 40750 33:34 \"\"\n/file 100644 0:0 \"\"\n"; got != want {
			t.Errorf("mounted %v: %s, want %s", mounted, got, want)
		}
	}
}

// TestImportDamaged: an archive that is damaged behind its last file is refused, too, and nothing of it is taken.
func TestImportDamaged(t *testing.T) {
	v := create(t, store(t), Config{})
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644}), w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	b.Bytes()[b.Len()-8] ^= 1 // its checksum
	if err := importInto(v, &b); err == nil {
		t.Error("no error")
	}
	if list, err := os.ReadDir(v.Dir()); err != nil || len(list) > 0 {
		t.Errorf("it has %v, %v", list, err)
	}
}

// TestCVE_2023_0778: a container that swaps a directory with a link to the host's while the volume is exported gets nothing of
// the host into the archive.
func TestCVE_2023_0778(t *testing.T) {
	s := store(t)
	canary := hostile.NewCanary(t)
	v := create(t, s, Config{Name: "db"})
	write(t, v.Dir()+"/a/secret", "of the container")
	if err := os.Symlink(canary.Dir, v.Dir()+"/b"); err != nil {
		t.Fatal(err)
	}
	stop, swaps := make(chan struct{}), 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, v.Dir()+"/a", unix.AT_FDCWD, v.Dir()+"/b", unix.RENAME_EXCHANGE)
				swaps++
			}
		}
	})
	for range 300 {
		var b bytes.Buffer
		if err := v.Export(context.Background(), &b); err != nil {
			t.Error(err)
		}
		for r := tar.NewReader(&b); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if text, _ := io.ReadAll(r); bytes.Contains(text, []byte("canary")) {
				t.Fatalf("%s is the host's", h.Name)
			}
		}
		if _, err := v.Size(context.Background()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	canary.Check(t)
	if swaps < 300 {
		t.Errorf("only %d swaps", swaps)
	}
}

// TestLocalOptions: the driver's options mount what Docker's do.
func TestLocalOptions(t *testing.T) {
	s := store(t)
	host := nstest.Dir(t)
	bind := create(t, s, Config{Name: "bind", Options: map[string]string{"type": "none", "device": host, "o": "bind,ro,nosuid"}})
	src, err := bind.Source()
	if err != nil || src.Path != host || !slices.Equal(src.Options, []string{"ro", "nosuid"}) || bind.Mounts() {
		t.Errorf("%+v, %v", src, err)
	}
	v := create(t, s, Config{Name: "mem", Options: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=33,noexec"}})
	for range 2 { // the second container
		if err := v.Attach(); err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(v.Dir(), &st); err != nil || st.Type != unix.TMPFS_MAGIC || st.Blocks*uint64(st.Bsize) != 1<<20 || st.Flags&unix.ST_NOEXEC == 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := s.Remove("mem", false, nobody); err != nil {
		t.Error(err)
	}
	bad := create(t, s, Config{Name: "bad", Options: map[string]string{"type": "nosuchfs", "device": "x"}})
	if err := bad.Attach(); err == nil || !strings.Contains(err.Error(), "nosuchfs") {
		t.Errorf("%v", err)
	}
	if err := bad.detach(); err != nil {
		t.Error(err)
	}
}

// TestDamaged: a volume whose record cannot be read hides no other one, is not made anew or removed by the way, and goes with its files by force.
func TestDamaged(t *testing.T) {
	s := store(t)
	create(t, s, Config{Name: "other"})
	for what, do := range map[string]func(file string) error{
		"nothing in it":     func(file string) error { return os.WriteFile(file, nil, 0o600) },
		"half of it":        func(file string) error { return os.WriteFile(file, []byte(`{"Name":"`), 0o600) },
		"no fields":         func(file string) error { return os.WriteFile(file, []byte("{}"), 0o600) },
		"another's":         func(file string) error { return os.WriteFile(file, []byte(`{"Name":"other"}`), 0o600) },
		"a later version's": func(file string) error { return os.WriteFile(file, []byte(`{"Name":{"v":2}}`), 0o600) },
		"a FIFO":            func(file string) error { return errors.Join(os.Remove(file), unix.Mkfifo(file, 0o600)) },
		"a directory":       func(file string) error { return errors.Join(os.Remove(file), os.MkdirAll(file+"/full", 0o700)) },
		"none":              os.Remove,
		"none, nor files":   func(file string) error { return errors.Join(os.Remove(file), os.Remove(filepath.Dir(file)+"/_data")) },
	} {
		t.Run(what, func(t *testing.T) {
			v := create(t, s, Config{Name: "hurt"})
			if err := do(v.dir + "/volume.json"); err != nil {
				t.Fatal(err)
			}
			list, damaged, err := s.List()
			if err != nil || len(list) != 1 || list[0].Name != "other" || len(damaged) != 1 || damaged[0].Name != "hurt" {
				t.Errorf("%v: %+v, %+v", err, list, damaged)
			}
			_, made, err := s.Create(Config{Name: "hurt"})
			for verb, err := range map[string]error{"create": err, "rm": s.Remove("hurt", false, nobody)} {
				if made || !errors.As(err, new(*DamagedError)) || !strings.Contains(err.Error(), "kakuri volume rm -f hurt removes it") {
					t.Errorf("%s: %v", verb, err)
				}
			}
			if err := s.Remove("hurt", true, func(Volume) ([]string, error) { return []string{"c1"}, nil }); !errors.As(err, new(*InUseError)) {
				t.Errorf("in use: %v", err)
			}
			if err := s.Remove("hurt", true, nobody); err != nil {
				t.Fatal(err)
			}
			if exists(v.dir) {
				t.Error("it is still there")
			}
		})
	}
}

// TestSweepBesideRemove: a volume that somebody is removing is not left of anybody, and a sweep does not go to it as well.
func TestSweepBesideRemove(t *testing.T) {
	s := store(t)
	create(t, s, Config{Name: "db"})
	looked := false
	s.RemoveAll = func(path string) error {
		looked = true
		other := Open(s.dir)
		if left, err := other.Left(); err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
		if gone, err := other.Sweep(); err != nil || len(gone) != 0 || !exists(path) {
			t.Errorf("swept: %v, %v", gone, err)
		}
		return os.RemoveAll(path)
	}
	if err := s.Remove("db", false, func(Volume) ([]string, error) { return nil, nil }); err != nil || !looked {
		t.Error(err)
	}
}

// TestLeftBesideRemove: what is removed meanwhile is left of nobody, in whatever moment somebody looks.
func TestLeftBesideRemove(t *testing.T) {
	s := Open(t.TempDir())
	unused := func(Volume) ([]string, error) { return nil, nil }
	done := make(chan error)
	go func() {
		for range 1000 {
			_, _, err := s.Create(Config{Name: "brief"})
			if err = errors.Join(err, s.Remove("brief", false, unused)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		if left, err := s.Left(); err != nil || len(left) > 0 {
			t.Errorf("%v: %v", err, left)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}
